/* registry.c: the table of models, generations and who holds them.
 *
 * DESIGN  Requests read thousands of times per deploy. A reader holds reg only to find the name in a sorted table and
 *         to take a reference; publishing swaps one pointer, and the old generation dies with its last request. Its
 *         memory (packed weights, scratches: up to gigabytes) is given back by a thread of its own, since the last
 *         request may end on a loop thread. Models are never taken out of the table: their names, counters and reasons
 *         outlive their generations, and an entry costs less than the bookkeeping of removing it.
 *         Considered: RCU. Not worth it while this lock is held for a binary search.
 *
 * LOCKS   reg is a leaf: nothing is locked, allocated or logged while it is held. A new table is made under cat. The
 *         reaper's lock is a leaf too. */
#include "daemon/serve/internal.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#define TRIM_FROM ((size_t)1 << 20) /* bytes of the model's file */

/* ---- reaper ---- */

struct wn_reaper {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    struct wn_gen *list;
    bool stop;
    atomic_uint refs; /* the registry, and every generation */
    pthread_t thread;
};

static void reaper_unref(struct wn_reaper *r)
{
    if (atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) != 1)
        return;
    pthread_cond_destroy(&r->cond);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

static void *reap(void *arg)
{
    struct wn_reaper *r = arg;
    pthread_mutex_lock(&r->lock);
    for (;;) {
        while (!r->list && !r->stop)
            pthread_cond_wait(&r->cond, &r->lock);
        struct wn_gen *gen = r->list;
        if (!gen)
            break;
        r->list = gen->next;
        pthread_mutex_unlock(&r->lock);
        bool big = gen->file_bytes >= TRIM_FROM;
        wn_gen_free(gen);
        if (big)
            malloc_trim(0); /* freed pages lie all over the arenas of past loads */
        pthread_mutex_lock(&r->lock);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

struct wn_reaper *wn_reaper_new(void)
{
    struct wn_reaper *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->cond, NULL);
    atomic_init(&r->refs, 1);
    if (wn_thread_start(&r->thread, "reaper", reap, r) != 0) {
        reaper_unref(r);
        return NULL;
    }
    return r;
}

struct wn_reaper *wn_reaper_ref(struct wn_reaper *r)
{
    atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
    return r;
}

void wn_reaper_stop(struct wn_reaper *r)
{
    if (!r)
        return;
    pthread_mutex_lock(&r->lock);
    r->stop = true;
    pthread_cond_signal(&r->cond);
    pthread_mutex_unlock(&r->lock);
    pthread_join(r->thread, NULL);
    reaper_unref(r);
}

/* ---- generations ---- */

struct wn_gen *wn_gen_ref(struct wn_gen *gen)
{
    WN_CHECK_MAGIC(gen, WN_GEN_MAGIC);
    atomic_fetch_add_explicit(&gen->refs, 1, memory_order_relaxed);
    return gen;
}

struct wn_gen *wn_gen_unref(struct wn_gen *gen)
{
    if (!gen)
        return NULL;
    WN_CHECK_MAGIC(gen, WN_GEN_MAGIC);
    if (atomic_fetch_sub_explicit(&gen->refs, 1, memory_order_acq_rel) != 1)
        return NULL;
    struct wn_reaper *r = gen->reaper;
    pthread_mutex_lock(&r->lock);
    bool later = !r->stop;
    if (later) {
        gen->next = r->list;
        r->list = gen;
        pthread_cond_signal(&r->cond);
    }
    pthread_mutex_unlock(&r->lock);
    if (!later)
        wn_gen_free(gen);
    return NULL;
}

void wn_gen_free(struct wn_gen *gen)
{
    if (!gen)
        return;
    WN_CHECK_MAGIC(gen, WN_GEN_MAGIC);
    for (unsigned s = 0; gen->scratch && s < gen->n_streams; s++)
        winnow_scratch_free(gen->scratch[s]);
    free(gen->scratch);
    while (gen->queues) { /* all are empty: jobs hold references */
        struct wn_queue *q = gen->queues;
        gen->queues = q->sibling;
        if (q != &gen->queue)
            free(q);
    }
    wn_pipeline_free(gen->pipeline);
    for (unsigned i = 0; i < WN_CONFIG_LABELS; i++)
        wn_labels_done(&gen->labels[i]);
    winnow_model_unref(gen->model);
    free(gen->dir);
    struct wn_reaper *r = gen->reaper;
    gen->magic = 0;
    free(gen);
    if (r)
        reaper_unref(r);
}

const char *wn_gen_model_name(const struct wn_gen *gen)
{
    return gen->name;
}
int64_t wn_gen_version(const struct wn_gen *gen)
{
    return gen->version;
}
uint64_t wn_gen_number(const struct wn_gen *gen)
{
    return gen->number;
}
enum winnow_status wn_gen_digest_of(const struct wn_gen *gen, const char *path, struct wn_sha256 *ret,
                                    struct winnow_err *err)
{
    unsigned n = 0;
    while (winnow_model_external(gen->model, n))
        n++;
    WN_CLEANUP(wn_freep) const char **names = calloc(n + 1, sizeof *names);
    if (!names)
        return wn_fail(err, WINNOW_E_NOMEM, "hashing '%s'", path);
    for (unsigned i = 0; i < n; i++)
        names[i] = winnow_model_external(gen->model, i);
    return wn_sha256_with(path, names, ret, err);
}

const char *wn_gen_digest(const struct wn_gen *gen)
{
    return gen->digest;
}
winnow_model *wn_gen_model(const struct wn_gen *gen)
{
    return gen->model;
}
const struct wn_pipeline *wn_gen_pipeline(const struct wn_gen *gen)
{
    return gen->pipeline;
}
const char *wn_gen_dir(const struct wn_gen *gen)
{
    return gen->dir;
}

/* Place of an output's labels in gen->labels; WN_CONFIG_LABELS: it has none. */
static unsigned labels_of(const struct wn_gen *gen, unsigned output)
{
    for (unsigned i = 0; i < gen->conf.n_labels && output < gen->n_out; i++)
        if (strcmp(gen->conf.label[i].output, winnow_model_output(gen->model, output)->name) == 0)
            return i;
    return WN_CONFIG_LABELS;
}

const char *wn_gen_label_file(const struct wn_gen *gen, unsigned output)
{
    unsigned i = labels_of(gen, output);
    return i < WN_CONFIG_LABELS ? gen->conf.label[i].file : NULL;
}

const char *wn_gen_label(const struct wn_gen *gen, unsigned output, size_t i)
{
    unsigned k = labels_of(gen, output);
    return k < WN_CONFIG_LABELS && i < gen->labels[k].n ? gen->labels[k].line[i] : NULL;
}

int64_t wn_gen_max_rows(const struct wn_gen *gen)
{
    if (!gen->merge) {
        const struct winnow_io *io = gen->n_in ? winnow_model_input(gen->model, 0) : NULL;
        if (!io || io->rank == 0 || io->shape[0] >= 0)
            return 1;
    }
    return gen->conf.max_batch > 0 ? WN_MIN(gen->conf.max_batch, WN_BATCH_CAP)
                                   : atomic_load_explicit(gen->max_batch, memory_order_relaxed);
}

/* ---- the table ---- */

/* Index of `name`, or where it belongs; under reg or cat. */
static size_t table_place(const struct wn_table *t, const char *name, bool *ret_found)
{
    size_t lo = 0, hi = t ? t->n : 0;
    *ret_found = false;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = strcmp(t->at[mid]->name, name);
        if (c == 0) {
            *ret_found = true;
            return mid;
        }
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct wn_served *wn_reg_find(struct wn_serve *serve, const char *name)
{
    bool found;
    pthread_mutex_lock(&serve->reg);
    size_t i = table_place(serve->table, name, &found);
    struct wn_served *m = found ? serve->table->at[i] : NULL;
    pthread_mutex_unlock(&serve->reg);
    return m;
}

/* cat is held, so nobody else replaces the table: it may be read without reg. */
struct wn_served *wn_reg_add_locked(struct wn_serve *serve, const char *name)
{
    bool found;
    struct wn_table *old = serve->table;
    size_t n = old ? old->n : 0, i = table_place(old, name, &found);
    if (found)
        return old->at[i];
    if (n >= WN_MAX_MODELS)
        return NULL;
    struct wn_served *m = calloc(1, sizeof *m);
    struct wn_table *t = malloc(sizeof *t + (n + 1) * sizeof t->at[0]);
    if (!m || !t) {
        free(m);
        free(t);
        return NULL;
    }
    memcpy(m->name, name, strlen(name) + 1);
    t->n = n + 1;
    if (n) {
        memcpy(t->at, old->at, i * sizeof t->at[0]);
        memcpy(t->at + i + 1, old->at + i, (n - i) * sizeof t->at[0]);
    }
    t->at[i] = m;
    pthread_mutex_lock(&serve->reg);
    serve->table = t;
    pthread_mutex_unlock(&serve->reg);
    free(old); /* readers use it under reg only */
    return m;
}

struct wn_gen *wn_reg_publish(struct wn_serve *serve, struct wn_served *m, struct wn_gen *gen)
{
    pthread_mutex_lock(&serve->reg);
    struct wn_gen *old = m->gen;
    m->gen = gen;
    pthread_mutex_unlock(&serve->reg);
    return old;
}

struct wn_gen *wn_reg_live(struct wn_serve *serve, struct wn_served *m)
{
    pthread_mutex_lock(&serve->reg);
    struct wn_gen *gen = m->gen ? wn_gen_ref(m->gen) : NULL;
    pthread_mutex_unlock(&serve->reg);
    return gen;
}

void wn_reg_done(struct wn_serve *serve)
{
    for (size_t i = 0; serve->table && i < serve->table->n; i++) {
        struct wn_served *m = serve->table->at[i];
        wn_gen_unref(wn_reg_publish(serve, m, NULL));
        for (size_t k = 0; k < m->versions.n; k++) {
            free(m->versions.at[k]->dir);
            free(m->versions.at[k]);
        }
        wn_vec_done(&m->versions);
    }
}

/* ---- acquiring ---- */

/* Why nothing could be given: off the hot path. `live` is what is live instead, or NULL. */
static enum winnow_status explain(struct wn_serve *serve, const char *name, int64_t version, const struct wn_gen *live,
                                  struct winnow_err *err)
{
    struct wn_served *m = wn_reg_find(serve, name);
    enum winnow_status status = WINNOW_E_NOT_FOUND;
    char reason[240] = "";
    bool known = false, any = false;
    if (m) {
        pthread_mutex_lock(&serve->cat);
        any = m->versions.n > 0;
        for (size_t i = m->versions.n; i-- > 0;) {
            const struct wn_version *v = m->versions.at[i];
            if (version && v->number != version)
                continue;
            known = true;
            if (v->loading)
                snprintf(reason, sizeof reason, "version %" PRId64 " is loading", v->number);
            else if (v->reason[0])
                snprintf(reason, sizeof reason, "%s", v->reason);
            else
                continue;
            break;
        }
        int64_t first;
        if (known && !reason[0] && wn_live_order(m, &first, 1) == 0)
            snprintf(reason, sizeof reason, "none of its versions was made live yet");
        if (known && !(m->unloaded && !version))
            status = WINNOW_E_UNAVAILABLE;
        else if (known)
            known = false;
        pthread_mutex_unlock(&serve->cat);
    }
    if (version && !known && any)
        return wn_fail(err, status, "model '%s' has no version %" PRId64, name, version);
    if (version && known && live)
        return wn_fail(err, WINNOW_E_PRECONDITION,
                       "version %" PRId64 " of model '%s' is not live: version %" PRId64 " is%s%s", version, name,
                       live->version, reason[0] ? "; " : "", reason);
    if (known)
        return wn_fail(err, status, "model '%s' is not ready: %s", name, reason[0] ? reason : "waiting to be loaded");
    if (m)
        return wn_fail(err, status, "Request for unknown model: '%s' has no available versions", name);
    return wn_fail(err, status, "Request for unknown model: '%.128s' is not found", name);
}

enum winnow_status wn_serve_acquire(struct wn_serve *serve, const char *model, const struct wn_pin *pin,
                                    struct wn_gen **ret_gen, struct winnow_err *err)
{
    WN_CHECK_MAGIC(serve, WN_SERVE_MAGIC);
    bool found;
    struct wn_gen *gen = NULL;
    pthread_mutex_lock(&serve->reg);
    size_t i = table_place(serve->table, model, &found);
    if (found && serve->table->at[i]->gen)
        gen = wn_gen_ref(serve->table->at[i]->gen);
    pthread_mutex_unlock(&serve->reg);
    if (!gen)
        return explain(serve, model, pin ? pin->version : 0, NULL, err);
    if (!pin) {
        *ret_gen = gen;
        return WINNOW_OK;
    }
    enum winnow_status status = WINNOW_OK;
    struct wn_sha256 want;
    if (pin->version && pin->version != gen->version)
        status = explain(serve, model, pin->version, gen, err);
    else if (pin->generation && pin->generation != gen->number)
        status = wn_fail(err, WINNOW_E_PRECONDITION,
                         "pinned generation %" PRIu64 " of model '%s' is not live: generation %" PRIu64 " is",
                         pin->generation, model, gen->number);
    else if (pin->digest && (!wn_digest_parse(pin->digest, &want) || !wn_digest_equal(&want, &gen->sha)))
        status = wn_fail(err, WINNOW_E_PRECONDITION, "pinned digest '%.80s' of model '%s' is not live: %s is",
                         pin->digest, model, gen->digest);
    if (status != WINNOW_OK)
        wn_gen_unref(gen);
    else
        *ret_gen = gen;
    return status;
}

/* ---- the index ---- */

const char *wn_model_state_name(enum wn_model_state state)
{
    static const char *const name[] = { "UNKNOWN", "READY", "UNAVAILABLE", "LOADING", "UNLOADING" };
    return (unsigned)state < WN_COUNT(name) ? name[state] : "UNKNOWN";
}

void wn_index_free(struct wn_index_entry *entries, size_t n)
{
    for (size_t i = 0; entries && i < n; i++) {
        free(entries[i].name);
        free(entries[i].reason);
        free(entries[i].digest);
        free(entries[i].live_by);
        free(entries[i].made_by);
    }
    free(entries);
}

const char *wn_standing_name(enum wn_standing standing)
{
    static const char *const name[] = { "",        "live",     "loading",  "failed", "settling",
                                        "waiting", "previous", "unloaded", "kept" };
    return (unsigned)standing < WN_COUNT(name) ? name[standing] : "";
}

/* How a version stands that is not live; under cat. */
static enum wn_standing standing_of(const struct wn_served *m, const struct wn_version *v)
{
    if (v->loading)
        return WN_STANDING_LOADING;
    if (v->reason[0])
        return WN_STANDING_FAILED;
    if (m->unloaded)
        return WN_STANDING_UNLOADED;
    if (!v->settled)
        return WN_STANDING_SETTLING;
    for (size_t i = 0; m->live.exists && i < WN_MAX_PREV; i++)
        if (m->live.prev[i].version == v->number)
            return WN_STANDING_PREVIOUS;
    return v->made_here && v->number > m->live.newest ? WN_STANDING_WAITING : WN_STANDING_KEPT;
}

/* Why a version does not serve; under cat. */
static void explain_standing(const struct wn_version *v, enum wn_standing standing, const struct wn_gen *gen,
                             char *text, size_t room)
{
    char live[48] = "no version is live";
    if (gen)
        snprintf(live, sizeof live, "version %" PRId64 " is live", gen->version);
    if (v->reason[0])
        snprintf(text, room, "%s", v->reason);
    else if (standing == WN_STANDING_UNLOADED)
        snprintf(text, room, "unloaded");
    else if (standing == WN_STANDING_SETTLING)
        snprintf(text, room, "its files are still changing");
    else if (standing == WN_STANDING_WAITING)
        snprintf(text, room, "waits to be promoted: %s", live);
    else if (standing != WN_STANDING_LOADING)
        snprintf(text, room, "%s", gen ? live : "not loaded");
}

/* One version (NULL: the model has none) as the index shows it; under cat. False: out of memory. */
static bool index_entry(const struct wn_served *m, const struct wn_version *v, const struct wn_gen *gen,
                        struct wn_index_entry *ret)
{
    char digest[WN_DIGEST_TEXT] = "", reason[300] = "";
    *ret = (struct wn_index_entry){ .version = v ? v->number : 0, .made_here = v && v->made_here };
    bool live = v && gen && gen->version == v->number;
    if (live) {
        memcpy(digest, gen->digest, sizeof digest);
        ret->live = true;
        ret->standing = WN_STANDING_LIVE;
        ret->state = WN_MODEL_READY;
        ret->generation = gen->number;
        ret->loaded_at_ms = gen->loaded_at_ms;
        ret->weight_bytes = gen->weight_bytes;
        if (v->reason[0])
            snprintf(reason, sizeof reason, "%s", v->reason);
    } else if (v) {
        if (v->has_digest)
            wn_digest_text(&v->digest, digest);
        ret->state = v->loading ? WN_MODEL_LOADING : WN_MODEL_UNAVAILABLE;
        ret->standing = standing_of(m, v);
        explain_standing(v, ret->standing, gen, reason, sizeof reason);
    } else {
        ret->state = WN_MODEL_UNAVAILABLE;
        snprintf(reason, sizeof reason, "no version");
    }
    bool named = v && m->live.exists && m->live.version == v->number;
    ret->name = wn_strdup(m->name);
    ret->reason = wn_strdup(reason);
    ret->digest = wn_strdup(digest);
    ret->live_by = wn_strdup(named ? m->live.by : "");
    ret->made_by = !v              ? wn_strdup("")
                   : !v->made_here ? wn_strdup("repository")
                   : v->job[0]     ? wn_asprintf("job %s", v->job)
                                   : wn_strdup("a job");
    return ret->name && ret->reason && ret->digest && ret->live_by && ret->made_by;
}

static bool index_model(const struct wn_served *m, const struct wn_gen *gen, struct wn_index_entry **at, size_t *n,
                        size_t *cap)
{
    size_t count = m->versions.n ? m->versions.n : 1;
    for (size_t i = 0; i < count; i++) {
        if (*n == *cap && !wn_vec_grow((void *)at, cap, *n + 1, sizeof **at))
            return false;
        if (!index_entry(m, m->versions.n ? m->versions.at[i] : NULL, gen, &(*at)[(*n)++]))
            return false;
    }
    return true;
}

enum winnow_status wn_serve_index(struct wn_serve *serve, const char *model, struct wn_index_entry **ret, size_t *ret_n,
                                  struct winnow_err *err)
{
    WN_CHECK_MAGIC(serve, WN_SERVE_MAGIC);
    struct wn_index_entry *at = NULL;
    size_t n = 0, cap = 0;
    bool ok = true, any = false;
    pthread_mutex_lock(&serve->cat);
    for (size_t i = 0; ok && serve->table && i < serve->table->n; i++) {
        struct wn_served *m = serve->table->at[i];
        if (model && strcmp(model, m->name) != 0)
            continue;
        any = true;
        struct wn_gen *gen = wn_reg_live(serve, m);
        if (m->versions.n || gen || model)
            ok = index_model(m, gen, &at, &n, &cap);
        wn_gen_unref(gen);
    }
    pthread_mutex_unlock(&serve->cat);
    if (ok && model && !any)
        return wn_fail(err, WINNOW_E_NOT_FOUND, "model '%.128s' is not found", model);
    if (!ok) {
        wn_index_free(at, n);
        return wn_fail(err, WINNOW_E_NOMEM, "index of models");
    }
    *ret = at;
    *ret_n = n;
    return WINNOW_OK;
}
