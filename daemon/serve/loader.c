/* loader.c: loads, swaps and unloads, one at a time per model.
 *
 * DESIGN  Every change of a model is a task; the loader threads take tasks in order, but never two of one model at the
 *         same time, so two admins, a job and the folder watcher are serialised per model, and a long load of one does
 *         not hold up the others. A sync task brings a model in line with its folders: wanted() finds the version to
 *         load, best first; one that fails is remembered by the state of its files and not tried again until they
 *         change. Swap: load beside the old one, write the live file, publish one pointer. Writing first means that a
 *         crash in between comes back with the version whose promotion was asked for.
 *
 * LOCKS   tasks is a leaf. cat is taken for looks into the catalogue; loads, files, callbacks and logs are outside. */
#include "daemon/serve/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"

enum task_kind { TASK_SYNC, TASK_LOAD, TASK_UNLOAD, TASK_PROMOTE, TASK_ROLLBACK };

struct wn_task {
    struct wn_task *next;
    enum task_kind kind;
    char name[WN_NAME_MAX + 1];
    char by[WN_NAME_MAX + 1];
    int64_t version;
    bool same_io, initial, has_conf;
    struct wn_model_config conf;
    wn_serve_done_fn *done;
    void *arg;
};

/* ---- what is wanted ---- */

struct want {
    int64_t version; /* 0: nothing to do */
    char *dir;
    unsigned root;
    bool made_here;
    uint64_t sig;
    bool reload;                      /* it is live; its files have changed */
    bool gone;                        /* the model has no version any more */
    char live_digest[WN_DIGEST_TEXT]; /* what the live file says of it, or "" */
};

static void want_done(struct want *w)
{
    free(w->dir);
    w->dir = NULL;
}

static bool want_version(const struct wn_served *m, const struct wn_version *v, struct want *ret)
{
    *ret = (struct want){ .version = v->number, .root = v->root, .made_here = v->made_here, .sig = v->sig };
    if (m->live.exists && m->live.version == v->number)
        memcpy(ret->live_digest, m->live.digest, sizeof ret->live_digest);
    for (size_t i = 0; m->live.exists && i < WN_MAX_PREV; i++)
        if (m->live.prev[i].version == v->number)
            memcpy(ret->live_digest, m->live.prev[i].digest, sizeof ret->live_digest);
    ret->dir = wn_strdup(v->dir);
    return ret->dir != NULL;
}

/* The version that ought to be loaded now, given that `gen` (or NULL) is live. */
static void wanted(struct wn_serve *serve, struct wn_served *m, const struct wn_gen *gen, struct want *ret)
{
    int64_t order[64];
    *ret = (struct want){ 0 };
    pthread_mutex_lock(&serve->cat);
    unsigned n = m->unloaded ? 0 : wn_live_order(m, order, WN_COUNT(order));
    for (unsigned i = 0; i < n; i++) {
        const struct wn_version *v = wn_repo_version(m, order[i]);
        bool is_live = gen && gen->version == order[i];
        if (!v)
            continue;
        if (is_live && (v->missing_ns || !v->settled || v->failed_sig == v->sig ||
                        (v->loaded_sig == v->sig && gen->conf_number == m->conf_number)))
            break; /* it serves on */
        if (v->missing_ns || !v->settled || v->failed_sig == v->sig)
            continue;
        if (want_version(m, v, ret))
            ret->reload = is_live;
        break;
    }
    ret->gone = gen && m->versions.n == 0 && !m->unloaded;
    pthread_mutex_unlock(&serve->cat);
}

bool wn_loader_wanted(struct wn_serve *serve, struct wn_served *m)
{
    struct want w;
    struct wn_gen *gen = wn_reg_live(serve, m);
    wanted(serve, m, gen, &w);
    wn_gen_unref(gen);
    bool any = w.version || w.gone;
    want_done(&w);
    return any;
}

/* ---- loading one version ---- */

static void mark_loading(struct wn_serve *serve, struct wn_served *m, int64_t version, bool loading)
{
    pthread_mutex_lock(&serve->cat);
    struct wn_version *v = wn_repo_version(m, version);
    if (v)
        v->loading = loading;
    pthread_mutex_unlock(&serve->cat);
}

static void note_failure(struct wn_serve *serve, struct wn_served *m, const struct want *w, enum winnow_status status,
                         const struct winnow_err *err)
{
    struct winnow_err shown = *err; /* clients get it */
    wn_serve_hide_folders(serve, shown.msg);
    pthread_mutex_lock(&serve->cat);
    struct wn_version *v = wn_repo_version(m, w->version);
    if (v) {
        if (status == WINNOW_E_UNAVAILABLE || status == WINNOW_E_NOT_FOUND) { /* its files moved under us: look again */
            v->settled = false;
            v->since_ns = wn_now_ns();
        } else {
            v->failed_sig = w->sig;
        }
        snprintf(v->reason, sizeof v->reason, "%s", shown.msg);
    }
    pthread_mutex_unlock(&serve->cat);
    wn_error("model_load_failed", "model=%s version=%" PRId64 " error=%s", m->name, w->version, err->msg);
    wn_serve_emit(serve, "load_failed", m->name, w->version, 0, err->msg);
}

static void note_loaded(struct wn_serve *serve, struct wn_served *m, const struct want *w, const struct wn_sha256 *sha,
                        const struct wn_file_id *id)
{
    pthread_mutex_lock(&serve->cat);
    struct wn_version *v = wn_repo_version(m, w->version);
    if (v) {
        v->loaded_sig = w->sig;
        v->failed_sig = 0;
        v->reason[0] = '\0';
        if (wn_file_id_equal(&v->id, id)) {
            v->digest = *sha;
            v->has_digest = true;
        }
    }
    pthread_mutex_unlock(&serve->cat);
}

/* Load what is wanted; failures are noted, logged and told. */
static enum winnow_status load_wanted(struct wn_serve *serve, struct wn_served *m, const struct want *w,
                                      struct wn_gen **ret_gen, struct winnow_err *err)
{
    struct wn_file_id id;
    struct winnow_err why = { 0 };
    mark_loading(serve, m, w->version, true);
    enum winnow_status status = wn_gen_load(serve, m, w->version, w->dir, w->made_here, ret_gen, &id, &why);
    if (status == WINNOW_OK && w->made_here && w->live_digest[0] && strcmp(w->live_digest, (*ret_gen)->digest) != 0) {
        status = wn_fail(&why, WINNOW_E_MALFORMED, "'%s/model.onnx' is %s, the live file says %s", w->dir,
                         (*ret_gen)->digest, w->live_digest);
        *ret_gen = wn_gen_unref(*ret_gen);
    }
    mark_loading(serve, m, w->version, false);
    if (status != WINNOW_OK) {
        note_failure(serve, m, w, status, &why);
        if (err)
            *err = why;
        return status;
    }
    note_loaded(serve, m, w, &(*ret_gen)->sha, &id);
    wn_serve_emit(serve, "load", m->name, w->version, (*ret_gen)->number, (*ret_gen)->digest);
    return WINNOW_OK;
}

/* Files of the live version were touched: is what they hold still what is loaded? */
static bool unchanged(struct wn_serve *serve, struct wn_served *m, const struct want *w, const struct wn_gen *gen)
{
    struct wn_sha256 sha, aux;
    bool ok = false, known;
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/model.onnx", w->dir);
    if (!path || strcmp(gen->dir, w->dir) != 0 || winnow_model_external(gen->model, 0))
        return false;
    pthread_mutex_lock(&serve->cat);
    const struct wn_version *v = wn_repo_version(m, w->version);
    known = v && v->has_digest;
    if (known)
        sha = v->digest;
    bool same_conf = gen->conf_number == m->conf_number;
    pthread_mutex_unlock(&serve->cat);
    if (!same_conf)
        return false;
    struct wn_file_id id = wn_file_id_of(path, &ok);
    if (!ok || (!known && wn_sha256_file(path, &sha, NULL, NULL) != WINNOW_OK) || !wn_digest_equal(&sha, &gen->sha) ||
        wn_gen_aux(w->dir, &aux, NULL) != WINNOW_OK || !wn_digest_equal(&aux, &gen->aux))
        return false;
    note_loaded(serve, m, w, &sha, &id);
    return true;
}

/* ---- making it live ---- */

/* What has just become live: it serves while its compiled form is written. */
static void keep_compiled(struct wn_serve *serve, struct wn_served *m, uint64_t number)
{
    struct wn_gen *gen = wn_reg_live(serve, m);
    pthread_mutex_lock(&serve->cat);
    const size_t max_bytes = serve->repo.max_cache;
    pthread_mutex_unlock(&serve->cat);
    if (gen && gen->number == number)
        wn_gen_keep(gen, max_bytes);
    wn_gen_unref(gen);
}

static void publish(struct wn_serve *serve, struct wn_served *m, struct wn_gen *gen, const char *event, const char *by)
{
    int64_t version = gen->version;
    uint64_t number = gen->number;
    char digest[WN_DIGEST_TEXT];
    memcpy(digest, gen->digest, sizeof digest);
    struct wn_gen *old = wn_reg_publish(serve, m, gen);
    wn_notice("model_live", "model=%s version=%" PRId64 " generation=%" PRIu64 " digest=%s was=%" PRId64 " by=%s",
              m->name, version, number, digest, old ? old->version : 0, by);
    if (old) { /* a person's version may differ; what changed is said */
        struct winnow_err diff;
        struct wn_gen *now = wn_reg_live(serve, m);
        if (now && wn_gen_same_io(old, now, &diff) != WINNOW_OK)
            wn_warning("model_interface_changed", "model=%s version=%" PRId64 " what=%s", m->name, version, diff.msg);
        wn_gen_unref(now);
    }
    wn_gen_unref(old);
    wn_serve_emit(serve, event, m->name, version, number, by);
    keep_compiled(serve, m, number);
}

/* The live file for `gen` in place of `old` (NULL: nothing was live); `back`: by a rollback. */
static enum winnow_status write_live(struct wn_serve *serve, struct wn_served *m, const struct wn_gen *gen,
                                     const struct wn_gen *old, const char *by, bool back, struct winnow_err *err)
{
    struct wn_live live = { .version = gen->version };
    pthread_mutex_lock(&serve->cat);
    live.highest = WN_MAX(wn_live_highest(m), m->live.exists ? m->live.highest : 0);
    wn_live_remember(&live, &m->live, old, back);
    pthread_mutex_unlock(&serve->cat);
    memcpy(live.digest, gen->digest, sizeof live.digest);
    snprintf(live.by, sizeof live.by, "%s", by);
    WN_TRY(wn_live_write(serve->repo.root[0], m->name, &live, err));
    pthread_mutex_lock(&serve->cat);
    m->live = live;
    m->live_read = true;
    pthread_mutex_unlock(&serve->cat);
    return WINNOW_OK;
}

/* A change that nobody asked for by a call: a person's folder. The live file follows, so that a rollback finds the way
 * back; a state folder that cannot be written does not stop the change. */
static void follow_person(struct wn_serve *serve, struct wn_served *m, const struct wn_gen *gen,
                          const struct wn_gen *old)
{
    pthread_mutex_lock(&serve->cat);
    bool named = m->live.exists ? m->live.version == gen->version && strcmp(m->live.digest, gen->digest) == 0
                                : old && old->version == gen->version;
    pthread_mutex_unlock(&serve->cat);
    if (named || !old)
        return;
    struct winnow_err err;
    if (old->version != gen->version)
        wn_notice("model_taken_over", "model=%s version=%" PRId64 " was=%" PRId64 " folder=%s", m->name, gen->version,
                  old->version, gen->dir);
    if (write_live(serve, m, gen, old, "repository", false, &err) != WINNOW_OK)
        wn_warning("live_file_not_written", "model=%s error=%s", m->name, err.msg);
}

static void drop_live(struct wn_serve *serve, struct wn_served *m, const char *why)
{
    struct wn_gen *old = wn_reg_publish(serve, m, NULL);
    if (!old)
        return;
    wn_notice("model_unloaded", "model=%s version=%" PRId64 " generation=%" PRIu64 " why=%s", m->name, old->version,
              old->number, why);
    wn_serve_emit(serve, "unload", m->name, old->version, old->number, why);
    wn_gen_unref(old);
}

/* ---- tasks ---- */

/* In line with the folders. Fails with the first failure on the way, whatever serves afterwards. */
static enum winnow_status do_sync(struct wn_serve *serve, struct wn_served *m, struct winnow_err *err)
{
    enum winnow_status first = WINNOW_OK;
    for (unsigned tries = 0; tries < 8; tries++) {
        struct want w;
        struct winnow_err why;
        struct wn_gen *gen = NULL, *old = wn_reg_live(serve, m);
        wanted(serve, m, old, &w);
        bool more = false;
        if (w.gone)
            drop_live(serve, m, "its versions were removed");
        if (w.version && !(w.reload && unchanged(serve, m, &w, old))) {
            enum winnow_status status = load_wanted(serve, m, &w, &gen, &why);
            if (status == WINNOW_OK) {
                follow_person(serve, m, gen, old);
                publish(serve, m, gen, "live", "repository");
            } else if (first == WINNOW_OK) {
                first = status;
                if (err)
                    *err = why;
            }
            more = status != WINNOW_OK;
        }
        wn_gen_unref(old);
        want_done(&w);
        if (!more)
            break;
    }
    return first;
}

static enum winnow_status find_model(struct wn_serve *serve, const char *name, struct wn_served **ret_m,
                                     struct winnow_err *err)
{
    WN_TRY(wn_repo_scan_model(serve, name, false, ret_m, err));
    if (!*ret_m)
        return wn_fail(err, WINNOW_E_NOT_FOUND, "no repository has a model '%s'", name);
    return WINNOW_OK;
}

static enum winnow_status do_load(struct wn_serve *serve, const struct wn_task *t, struct winnow_err *err)
{
    struct wn_served *m;
    WN_TRY(find_model(serve, t->name, &m, err));
    pthread_mutex_lock(&serve->cat);
    m->unloaded = false;
    if (t->has_conf) {
        m->conf = t->conf;
        m->has_conf = true;
        m->conf_number++;
    }
    size_t n = m->versions.n;
    for (size_t i = 0; i < n; i++) { /* somebody asks for it: as it stands, and again */
        m->versions.at[i]->settled = true;
        m->versions.at[i]->failed_sig = 0;
    }
    pthread_mutex_unlock(&serve->cat);
    if (!n)
        return wn_fail(err, WINNOW_E_NOT_FOUND, "no repository has a version of model '%s'", t->name);
    WN_TRY(do_sync(serve, m, err));
    struct wn_gen *gen = wn_reg_live(serve, m);
    if (!gen)
        return wn_fail(err, WINNOW_E_CONFLICT, "model '%s' has no version that was made live", t->name);
    wn_gen_unref(gen);
    return WINNOW_OK;
}

static enum winnow_status do_unload(struct wn_serve *serve, const struct wn_task *t)
{
    struct wn_served *m = wn_reg_find(serve, t->name);
    if (!m)
        return WINNOW_OK;
    pthread_mutex_lock(&serve->cat);
    m->unloaded = true;
    if (m->has_conf) {
        m->has_conf = false;
        m->conf_number++;
    }
    pthread_mutex_unlock(&serve->cat);
    drop_live(serve, m, "asked for");
    return WINNOW_OK;
}

/* Load `version` if it is not what is live already, write the live file, publish.
 *  @param digest  what it must be, or NULL */
static enum winnow_status make_live(struct wn_serve *serve, struct wn_served *m, int64_t version, const char *digest,
                                    const struct wn_task *t, const char *event, struct wn_gen *old,
                                    struct winnow_err *err)
{
    struct want w = { 0 };
    struct wn_gen *gen = NULL;
    pthread_mutex_lock(&serve->cat);
    const struct wn_version *v = wn_repo_version(m, version);
    bool found = v && !v->missing_ns, ok = found && want_version(m, v, &w);
    bool same = found && old && old->version == version && v->loaded_sig == v->sig;
    pthread_mutex_unlock(&serve->cat);
    enum winnow_status status = WINNOW_OK;
    if (!found)
        return wn_fail(err, WINNOW_E_NOT_FOUND, "model '%s' has no version %" PRId64, m->name, version);
    if (!ok)
        return wn_fail(err, WINNOW_E_NOMEM, "model '%s'", m->name);
    if (same || (old && old->version == version && unchanged(serve, m, &w, old)))
        gen = wn_gen_ref(old);
    else
        status = load_wanted(serve, m, &w, &gen, err);
    want_done(&w);
    WN_TRY(status);
    if (digest && strcmp(digest, gen->digest) != 0)
        status =
            wn_fail(err, WINNOW_E_CONFLICT, "version %" PRId64 " of model '%s' is %s now, it was %s when it was live",
                    version, m->name, gen->digest, digest);
    if (status == WINNOW_OK && t->same_io && old)
        status = wn_gen_same_io(old, gen, err);
    if (status == WINNOW_OK)
        status = write_live(serve, m, gen, old, t->by, t->kind == TASK_ROLLBACK, err);
    if (status != WINNOW_OK) {
        wn_gen_unref(gen);
        return status;
    }
    pthread_mutex_lock(&serve->cat);
    m->unloaded = false;
    pthread_mutex_unlock(&serve->cat);
    if (gen == old)
        wn_gen_unref(gen);
    else
        publish(serve, m, gen, event, t->by);
    return WINNOW_OK;
}

static enum winnow_status do_promote(struct wn_serve *serve, const struct wn_task *t, struct winnow_err *err)
{
    struct wn_served *m;
    WN_TRY(find_model(serve, t->name, &m, err));
    struct wn_gen *old = wn_reg_live(serve, m);
    enum winnow_status status = make_live(serve, m, t->version, NULL, t, "live", old, err);
    wn_gen_unref(old);
    if (status == WINNOW_OK)
        wn_version_retain(serve, m, 0);
    return status;
}

/* The latest on the way back that is still kept; ret->version 0: none. */
static void way_back(struct wn_serve *serve, struct wn_served *m, struct wn_prev *ret)
{
    *ret = (struct wn_prev){ 0 };
    pthread_mutex_lock(&serve->cat);
    for (size_t i = 0; m->live.exists && !ret->version && i < WN_MAX_PREV && m->live.prev[i].version; i++) {
        const struct wn_version *v = wn_repo_version(m, m->live.prev[i].version);
        if (v && !v->missing_ns)
            *ret = m->live.prev[i];
    }
    pthread_mutex_unlock(&serve->cat);
}

static enum winnow_status do_rollback(struct wn_serve *serve, const struct wn_task *t, struct winnow_err *err)
{
    struct wn_served *m;
    struct wn_prev to;
    WN_TRY(find_model(serve, t->name, &m, err));
    way_back(serve, m, &to);
    if (!to.version)
        return wn_fail(err, WINNOW_E_CONFLICT, "model '%s' has nothing to go back to", t->name);
    struct wn_gen *old = wn_reg_live(serve, m);
    enum winnow_status status = make_live(serve, m, to.version, to.digest, t, "rollback", old, err);
    wn_gen_unref(old);
    return status;
}

static void run_task(struct wn_serve *serve, struct wn_task *t)
{
    struct winnow_err err = { 0 };
    enum winnow_status status = WINNOW_OK;
    struct wn_served *m;
    switch (t->kind) {
    case TASK_SYNC:
        m = wn_reg_find(serve, t->name);
        if (m)
            status = do_sync(serve, m, &err);
        if (t->initial)
            atomic_fetch_sub(&serve->initial_left, 1);
        break;
    case TASK_LOAD:
        status = do_load(serve, t, &err);
        break;
    case TASK_UNLOAD:
        status = do_unload(serve, t);
        break;
    case TASK_PROMOTE:
        status = do_promote(serve, t, &err);
        break;
    case TASK_ROLLBACK:
        status = do_rollback(serve, t, &err);
        break;
    }
    if (t->done)
        t->done(t->arg, status, &err);
}

/* ---- the queue ---- */

static bool is_running(const struct wn_serve *serve, const char *name)
{
    for (const struct wn_task *t = serve->task_running; t; t = t->next)
        if (strcmp(t->name, name) == 0)
            return true;
    return false;
}

/* The first task whose model is not being worked on, moved to the running ones. A later task of the same model cannot
 * overtake an earlier one: both are held up. */
static struct wn_task *take_task(struct wn_serve *serve)
{
    for (struct wn_task **p = &serve->task_head; *p; p = &(*p)->next) {
        struct wn_task *t = *p;
        if (is_running(serve, t->name))
            continue;
        *p = t->next;
        t->next = serve->task_running;
        serve->task_running = t;
        return t;
    }
    return NULL;
}

static void *loader(void *arg)
{
    struct wn_serve *serve = arg;
    pthread_mutex_lock(&serve->tasks);
    for (;;) {
        struct wn_task *t = NULL;
        while (!serve->tasks_stop && !(t = take_task(serve)))
            pthread_cond_wait(&serve->tasks_cond, &serve->tasks);
        if (!t)
            break;
        pthread_mutex_unlock(&serve->tasks);
        run_task(serve, t);
        pthread_mutex_lock(&serve->tasks);
        for (struct wn_task **p = &serve->task_running; *p; p = &(*p)->next)
            if (*p == t) {
                *p = t->next;
                break;
            }
        free(t);
        pthread_cond_broadcast(&serve->tasks_cond); /* tasks of this model may go on */
    }
    pthread_mutex_unlock(&serve->tasks);
    return NULL;
}

/* Takes over `t`. */
static void add_task(struct wn_serve *serve, struct wn_task *t)
{
    pthread_mutex_lock(&serve->tasks);
    bool refused = serve->tasks_stop, twice = false;
    struct wn_task **p = &serve->task_head;
    for (; *p; p = &(*p)->next)
        twice |= t->kind == TASK_SYNC && (*p)->kind == TASK_SYNC && strcmp((*p)->name, t->name) == 0;
    if (!refused && !twice) {
        *p = t;
        pthread_cond_signal(&serve->tasks_cond);
    }
    pthread_mutex_unlock(&serve->tasks);
    if (refused && t->done) {
        struct winnow_err err;
        enum winnow_status status = wn_fail(&err, WINNOW_E_UNAVAILABLE, "the server is stopping");
        t->done(t->arg, status, &err);
    }
    if (refused || twice)
        free(t);
}

static void admin(struct wn_serve *serve, enum task_kind kind, const char *model, int64_t version, const char *by,
                  bool same_io, const struct wn_model_config *conf, wn_serve_done_fn *done, void *arg)
{
    WN_CHECK_MAGIC(serve, WN_SERVE_MAGIC);
    struct winnow_err err;
    enum winnow_status status = WINNOW_OK;
    struct wn_task *t = calloc(1, sizeof *t);
    if (!t)
        status = wn_fail(&err, WINNOW_E_NOMEM, "task for model '%.128s'", model);
    else if (!wn_model_name_valid(model))
        status = kind == TASK_UNLOAD ? WINNOW_OK : wn_fail(&err, WINNOW_E_NOT_FOUND, "no model '%.128s'", model);
    if (!t || !wn_model_name_valid(model)) {
        free(t);
        if (done)
            done(arg, status, &err);
        return;
    }
    t->kind = kind;
    snprintf(t->name, sizeof t->name, "%s", model);
    snprintf(t->by, sizeof t->by, "%s", by ? by : "");
    t->version = version;
    t->same_io = same_io;
    t->has_conf = conf != NULL;
    if (conf)
        t->conf = *conf;
    t->done = done;
    t->arg = arg;
    add_task(serve, t);
}

void wn_serve_load(struct wn_serve *serve, const char *model, wn_serve_done_fn *done, void *arg)
{
    admin(serve, TASK_LOAD, model, 0, NULL, false, NULL, done, arg);
}

void wn_serve_load_with(struct wn_serve *serve, const char *model, const struct wn_model_config *conf,
                        wn_serve_done_fn *done, void *arg)
{
    admin(serve, TASK_LOAD, model, 0, NULL, false, conf, done, arg);
}

void wn_serve_unload(struct wn_serve *serve, const char *model, wn_serve_done_fn *done, void *arg)
{
    admin(serve, TASK_UNLOAD, model, 0, NULL, false, NULL, done, arg);
}

void wn_serve_promote(struct wn_serve *serve, const char *model, int64_t version, const char *by, bool require_same_io,
                      wn_serve_done_fn *done, void *arg)
{
    admin(serve, TASK_PROMOTE, model, version, by, require_same_io, NULL, done, arg);
}

void wn_serve_rollback(struct wn_serve *serve, const char *model, const char *by, wn_serve_done_fn *done, void *arg)
{
    admin(serve, TASK_ROLLBACK, model, 0, by, false, NULL, done, arg);
}

void wn_loader_sync(struct wn_serve *serve, const char *name, bool initial)
{
    struct wn_task *t = calloc(1, sizeof *t);
    if (!t) { /* the next look at the folders asks again */
        if (initial)
            atomic_fetch_sub(&serve->initial_left, 1);
        return;
    }
    t->kind = TASK_SYNC;
    t->initial = initial;
    snprintf(t->name, sizeof t->name, "%s", name);
    add_task(serve, t);
}

enum winnow_status wn_loader_start(struct wn_serve *serve, unsigned threads, struct winnow_err *err)
{
    serve->loader = calloc(threads, sizeof *serve->loader);
    if (!serve->loader)
        return wn_fail(err, WINNOW_E_NOMEM, "loader threads");
    for (; serve->n_loaders < threads; serve->n_loaders++) {
        int rc = wn_thread_start(&serve->loader[serve->n_loaders], "loader", loader, serve);
        if (rc)
            return wn_fail_errno(err, rc, "starting a loader thread");
    }
    return WINNOW_OK;
}

void wn_loader_stop(struct wn_serve *serve)
{
    pthread_mutex_lock(&serve->tasks);
    serve->tasks_stop = true;
    struct wn_task *left = WN_TAKE(serve->task_head);
    pthread_cond_broadcast(&serve->tasks_cond);
    pthread_mutex_unlock(&serve->tasks);
    for (unsigned i = 0; i < serve->n_loaders; i++)
        pthread_join(serve->loader[i], NULL);
    free(WN_TAKE(serve->loader));
    serve->n_loaders = 0;
    while (left) {
        struct wn_task *t = left;
        left = t->next;
        struct winnow_err err;
        enum winnow_status status = wn_fail(&err, WINNOW_E_UNAVAILABLE, "the server is stopping");
        if (t->done)
            t->done(t->arg, status, &err);
        free(t);
    }
}
