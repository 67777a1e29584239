/* repository.c: what lies in the repositories and in STATE/models, kept as a catalogue in memory.
 *
 * DESIGN  A look at a model reads folder entries and file times only. What was found is a signature over the names and
 *         ids of a version's files; a version is settled when its signature has not changed for models.settle, when its
 *         newest file is older than that, or when it came by rename. Contents are read by the loader.
 *         A version that disappears is forgotten only after models.settle too, so that replacing a folder by two
 *         renames does not stop a model; and not at all while its root cannot be read (a mount that is away).
 *         The same number in two roots: STATE/models wins, then the order of models.repositories.
 *
 * LOCKS   folders are read without a lock, what was found is merged under cat. One model may be looked at by two
 *         threads at a time: both bring what is there. */
#include "daemon/serve/internal.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"
#include "base/log.h"

#define MAX_FILES   1024               /* looked at per version folder */
#define MAX_LINEAGE ((size_t)16 << 20) /* bytes of lineage.json */

/* ---- ids ---- */

static uint64_t mix(uint64_t h, uint64_t x)
{
    h = (h ^ x) * UINT64_C(0x9e3779b97f4a7c15);
    return h ^ h >> 29;
}

static uint64_t file_sig(const char *name, const struct wn_file_id *id)
{
    uint64_t h = 17;
    for (const char *p = name; *p; p++)
        h = mix(h, (unsigned char)*p);
    h = mix(mix(mix(h, id->dev), id->ino), id->size);
    return mix(mix(h, (uint64_t)id->mtime_ns), (uint64_t)id->ctime_ns);
}

/* ---- looking ---- */

struct found {
    int64_t number;
    char *dir;
    unsigned root;
    bool made_here;
    uint64_t sig;
    int64_t ctime_ns;
    struct wn_file_id id;
};
struct findings {
    WN_VEC(struct found) v;
    bool unreadable[WN_MAX_ROOTS]; /* roots about which nothing can be said */
};

static void findings_done(struct findings *f)
{
    for (size_t i = 0; i < f->v.n; i++)
        free(f->v.at[i].dir);
    wn_vec_done(&f->v);
}

static void close_dir(DIR **d)
{
    if (*d)
        closedir(*d);
}

/* Signature of the files in a version's folder; false when there is no model.onnx. Order does not matter. */
static bool look_at_version(struct found *f)
{
    struct stat st;
    bool model = false;
    unsigned files = 0;
    WN_CLEANUP(close_dir) DIR *d = opendir(f->dir);
    if (!d || fstat(dirfd(d), &st) != 0)
        return false;
    f->ctime_ns = wn_file_id_of_stat(&st).ctime_ns;
    for (struct dirent *e; (e = readdir(d)) != NULL && files < MAX_FILES;) {
        if (e->d_name[0] == '.' || fstatat(dirfd(d), e->d_name, &st, 0) != 0 || !S_ISREG(st.st_mode))
            continue;
        struct wn_file_id id = wn_file_id_of_stat(&st);
        files++;
        f->sig += file_sig(e->d_name, &id);
        f->ctime_ns = WN_MAX(f->ctime_ns, id.ctime_ns);
        if (strcmp(e->d_name, "model.onnx") == 0) {
            model = true;
            f->id = id;
        } else if (strcmp(e->d_name, "lineage.json") == 0) {
            f->made_here = f->root == 0;
        }
    }
    f->sig |= 1; /* never 0 */
    return model;
}

/* Files beside the version folders that a version may use. */
static uint64_t shared_sig(int dirfd_)
{
    static const char *const name[] = { "pipeline.yaml", "labels.txt", "config.pbtxt" };
    struct stat st;
    uint64_t sig = 0;
    for (size_t i = 0; i < WN_COUNT(name); i++)
        if (fstatat(dirfd_, name[i], &st, 0) == 0 && S_ISREG(st.st_mode)) {
            struct wn_file_id id = wn_file_id_of_stat(&st);
            sig += file_sig(name[i], &id);
        }
    return sig;
}

static bool have_number(const struct findings *f, int64_t number)
{
    for (size_t i = 0; i < f->v.n; i++)
        if (f->v.at[i].number == number)
            return true;
    return false;
}

static enum winnow_status look_in_root(const struct wn_serve *serve, unsigned root, const char *name,
                                       struct findings *f, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *folder = wn_asprintf("%s/%s", serve->repo.root[root], name);
    if (!folder)
        return wn_fail(err, WINNOW_E_NOMEM, "looking for model '%s'", name);
    WN_CLEANUP(close_dir) DIR *d = opendir(folder);
    if (!d) {
        f->unreadable[root] = errno != ENOENT && errno != ENOTDIR;
        if (!f->unreadable[root] && root != 0)
            f->unreadable[root] = access(serve->repo.root[root], R_OK | X_OK) != 0;
        return WINNOW_OK;
    }
    uint64_t shared = shared_sig(dirfd(d));
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        struct found v = { .number = wn_version_parse(e->d_name), .root = root };
        if (!v.number || f->v.n >= WN_MAX_VERSIONS || have_number(f, v.number))
            continue;
        v.dir = wn_asprintf("%s/%s", folder, e->d_name);
        if (!v.dir)
            return wn_fail(err, WINNOW_E_NOMEM, "looking at '%s'", folder);
        v.sig = shared;
        if (!look_at_version(&v)) {
            free(v.dir);
        } else if (!wn_vec_push(&f->v, v)) {
            free(v.dir);
            return wn_fail(err, WINNOW_E_NOMEM, "looking at '%s'", folder);
        }
    }
    return WINNOW_OK;
}

/* ---- merging; under cat ---- */

struct wn_version *wn_repo_version(struct wn_served *m, int64_t number)
{
    for (size_t i = 0; i < m->versions.n; i++)
        if (m->versions.at[i]->number == number)
            return m->versions.at[i];
    return NULL;
}

static struct wn_version *add_version(struct wn_served *m, int64_t number)
{
    struct wn_version *v = calloc(1, sizeof *v);
    if (!v || !wn_vec_push(&m->versions, v)) {
        free(v);
        return NULL;
    }
    v->number = number;
    size_t i = m->versions.n - 1;
    for (; i > 0 && m->versions.at[i - 1]->number > number; i--)
        m->versions.at[i] = m->versions.at[i - 1];
    m->versions.at[i] = v;
    return v;
}

static void remove_version(struct wn_served *m, size_t i)
{
    free(m->versions.at[i]->dir);
    free(m->versions.at[i]);
    memmove(&m->versions.at[i], &m->versions.at[i + 1], (m->versions.n - i - 1) * sizeof m->versions.at[0]);
    m->versions.n--;
}

static void merge_one(const struct wn_serve *serve, struct wn_version *v, struct found *f, bool fresh)
{
    uint64_t now = wn_now_ns(), settle = serve->repo.settle_us * 1000;
    bool moved = !v->dir || strcmp(v->dir, f->dir) != 0;
    v->seen = true;
    v->missing_ns = 0;
    v->root = f->root;
    v->made_here = f->made_here;
    v->ctime_ns = f->ctime_ns;
    if (moved) {
        free(v->dir);
        v->dir = WN_TAKE(f->dir);
        v->job_read = false;
    }
    if (moved || v->sig != f->sig) {
        v->sig = f->sig;
        v->since_ns = now;
        int64_t age = wn_wall_ns() - f->ctime_ns;
        v->settled = fresh || v->made_here || settle == 0 || (age > 0 && (uint64_t)age >= settle);
        if (v->failed_sig != v->sig)
            v->reason[0] = '\0';
    } else if (!v->settled && now - v->since_ns >= settle) {
        v->settled = true;
    }
    if (!wn_file_id_equal(&v->id, &f->id)) {
        v->id = f->id;
        v->has_digest = false;
    }
}

static bool merge(struct wn_serve *serve, struct wn_served *m, struct findings *f, bool fresh)
{
    uint64_t now = wn_now_ns(), settle = serve->repo.settle_us * 1000;
    for (size_t i = 0; i < m->versions.n; i++)
        m->versions.at[i]->seen = false;
    for (size_t i = 0; i < f->v.n; i++) {
        struct wn_version *v = wn_repo_version(m, f->v.at[i].number);
        if (!v && !(v = add_version(m, f->v.at[i].number)))
            return false;
        merge_one(serve, v, &f->v.at[i], fresh);
    }
    for (size_t i = m->versions.n; i-- > 0;) {
        struct wn_version *v = m->versions.at[i];
        if (v->seen || v->loading || f->unreadable[v->root])
            continue;
        if (!v->missing_ns)
            v->missing_ns = now;
        if (now - v->missing_ns >= settle)
            remove_version(m, i);
    }
    return true;
}

static void read_live(struct wn_serve *serve, struct wn_served *m)
{
    struct wn_live live;
    struct winnow_err err;
    pthread_mutex_lock(&serve->cat);
    bool need = !m->live_read;
    pthread_mutex_unlock(&serve->cat);
    if (!need)
        return;
    if (wn_live_read(serve->repo.root[0], m->name, &live, &err) != WINNOW_OK)
        wn_error("live_file_bad", "model=%s error=%s", m->name, err.msg);
    pthread_mutex_lock(&serve->cat);
    if (!m->live_read)
        m->live = live;
    m->live_read = true;
    pthread_mutex_unlock(&serve->cat);
}

/* Which job made them: lineage.json, read once per version. */
static void read_lineage(struct wn_serve *serve, struct wn_served *m)
{
    for (;;) {
        WN_CLEANUP(wn_freep) char *path = NULL;
        int64_t number = 0;
        pthread_mutex_lock(&serve->cat);
        for (size_t i = 0; !path && i < m->versions.n; i++) {
            struct wn_version *v = m->versions.at[i];
            if (!v->made_here || v->job_read)
                continue;
            v->job_read = true;
            number = v->number;
            path = wn_asprintf("%s/lineage.json", v->dir);
        }
        pthread_mutex_unlock(&serve->cat);
        if (!path)
            return;
        WN_CLEANUP(wn_freep) void *text = NULL;
        size_t n;
        if (wn_file_read(path, MAX_LINEAGE, &text, &n, NULL) != WINNOW_OK)
            continue;
        json_t *lineage = json_loadb(text, n, 0, NULL);
        const char *job = json_string_value(json_object_get(lineage, "job"));
        pthread_mutex_lock(&serve->cat);
        struct wn_version *v = wn_repo_version(m, number);
        if (v && job)
            snprintf(v->job, sizeof v->job, "%s", job);
        pthread_mutex_unlock(&serve->cat);
        json_decref(lineage);
    }
}

enum winnow_status wn_repo_scan_model(struct wn_serve *serve, const char *name, bool fresh, struct wn_served **ret_m,
                                      struct winnow_err *err)
{
    struct findings f = { 0 };
    struct wn_served *m = NULL;
    enum winnow_status status = WINNOW_OK;
    if (ret_m)
        *ret_m = NULL;
    if (!wn_model_name_valid(name))
        return WINNOW_OK;
    for (unsigned r = 0; r < serve->repo.n_roots && status == WINNOW_OK; r++)
        status = look_in_root(serve, r, name, &f, err);
    if (status == WINNOW_OK) {
        m = wn_reg_find(serve, name);
        pthread_mutex_lock(&serve->cat);
        if (!m && f.v.n)
            m = wn_reg_add_locked(serve, name);
        if ((f.v.n && !m) || (m && !merge(serve, m, &f, fresh)))
            status = wn_fail(err, WINNOW_E_NOMEM, "catalogue of model '%s'", name);
        pthread_mutex_unlock(&serve->cat);
    }
    findings_done(&f);
    if (status == WINNOW_OK && m) {
        read_live(serve, m);
        read_lineage(serve, m);
        if (ret_m)
            *ret_m = m;
    }
    return status;
}

void wn_repo_moved_in(struct wn_serve *serve, const char *name, int64_t version)
{
    struct wn_served *m = wn_reg_find(serve, name);
    if (!m)
        return;
    pthread_mutex_lock(&serve->cat);
    for (size_t i = 0; i < m->versions.n; i++)
        if (!version || m->versions.at[i]->number == version)
            m->versions.at[i]->settled = true;
    pthread_mutex_unlock(&serve->cat);
}

bool wn_repo_unsettled(struct wn_serve *serve)
{
    bool any = false;
    pthread_mutex_lock(&serve->cat);
    for (size_t i = 0; !any && serve->table && i < serve->table->n; i++) {
        const struct wn_served *m = serve->table->at[i];
        for (size_t k = 0; k < m->versions.n; k++)
            any |= !m->versions.at[k]->settled || m->versions.at[k]->missing_ns;
    }
    pthread_mutex_unlock(&serve->cat);
    return any;
}

/* ---- all names ---- */

void wn_repo_names_free(char **names, size_t n)
{
    for (size_t i = 0; names && i < n; i++)
        free(names[i]);
    free(names);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

enum winnow_status wn_repo_list(struct wn_serve *serve, char ***ret_names, size_t *ret_n, struct winnow_err *err)
{
    WN_VEC(char *) names = { 0 };
    bool ok = true;
    for (unsigned r = 0; r < serve->repo.n_roots && ok; r++) {
        WN_CLEANUP(close_dir) DIR *d = opendir(serve->repo.root[r]);
        for (struct dirent *e; ok && d && (e = readdir(d)) != NULL && names.n < WN_MAX_MODELS;) {
            if (!wn_model_name_valid(e->d_name) || e->d_type == DT_REG)
                continue;
            char *name = wn_strdup(e->d_name);
            ok = name && wn_vec_push(&names, name);
            if (!ok)
                free(name);
        }
    }
    pthread_mutex_lock(&serve->cat);
    for (size_t i = 0; ok && serve->table && i < serve->table->n; i++) {
        char *name = wn_strdup(serve->table->at[i]->name);
        ok = name && wn_vec_push(&names, name);
        if (!ok)
            free(name);
    }
    pthread_mutex_unlock(&serve->cat);
    if (!ok) {
        wn_repo_names_free(names.at, names.n);
        return wn_fail(err, WINNOW_E_NOMEM, "list of models");
    }
    size_t n = 0;
    if (names.n)
        qsort(names.at, names.n, sizeof names.at[0], by_name);
    for (size_t i = 0; i < names.n; i++) {
        if (n && strcmp(names.at[n - 1], names.at[i]) == 0)
            free(names.at[i]);
        else
            names.at[n++] = names.at[i];
    }
    *ret_names = names.at;
    *ret_n = n;
    return WINNOW_OK;
}
