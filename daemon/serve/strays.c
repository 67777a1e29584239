/* strays.c: what lies in a repository, looks like a model and is passed over: where it is, and the rule that it breaks.
 *
 * DESIGN  A walk of its own, so that the scan (repository.c) stays a list of what is right; it only opens folders and
 *         asks for names. Something is told when it was there for models.settle: a folder that is being filled breaks
 *         every rule for a moment. STATE/models is winnowd's own and is not looked at.
 *
 * LOCKS   folders are read without a lock; the list of what was found is under cat. */
#include "daemon/serve/internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/log.h"

#define MAX_ENTRIES 1024 /* looked at per folder below a model's */
#define MAX_DEPTH   3

void wn_strays_free(struct wn_stray *list, size_t n)
{
    for (size_t i = 0; list && i < n; i++) {
        free(list[i].model);
        free(list[i].path);
    }
    free(list);
}

/* ---- looking ---- */

struct look {
    const char *root;
    WN_VEC(struct wn_stray) v;
    bool no_memory;
};

__attribute__((format(printf, 4, 5))) static void note(struct look *l, const char *model, const char *path,
                                                       const char *fmt, ...)
{
    struct wn_stray s = { .model = wn_strdup(model), .path = wn_asprintf("%s/%s", l->root, path) };
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(s.why, sizeof s.why, fmt, ap);
    va_end(ap);
    if (l->v.n < WN_MAX_STRAYS && s.model && s.path && wn_vec_push(&l->v, s))
        return;
    l->no_memory |= !s.model || !s.path || l->v.n < WN_MAX_STRAYS;
    free(s.model);
    free(s.path);
}

static bool is_kind(int dir, const char *name, mode_t kind)
{
    struct stat st;
    return fstatat(dir, name, &st, 0) == 0 && (st.st_mode & S_IFMT) == kind;
}

static bool ends_onnx(const char *name)
{
    size_t n = strlen(name);
    return n > 5 && strcmp(name + n - 5, ".onnx") == 0;
}

static DIR *open_dir(int at, const char *name)
{
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d && fd >= 0)
        close(fd);
    return d;
}

/* The first .onnx file in the folder `name` in `at`, at most `depth` folders down; its path from there. */
static bool find_onnx(int at, const char *name, unsigned depth, char *ret, size_t room)
{
    bool found = false;
    unsigned seen = 0;
    DIR *d = open_dir(at, name);
    for (struct dirent *e; d && !found && (e = readdir(d)) != NULL && seen++ < MAX_ENTRIES;) {
        char below[256];
        if (e->d_name[0] == '.')
            continue;
        if (ends_onnx(e->d_name) && is_kind(dirfd(d), e->d_name, S_IFREG)) {
            snprintf(ret, room, "%s", e->d_name);
            found = true;
        } else if (depth && is_kind(dirfd(d), e->d_name, S_IFDIR) &&
                   find_onnx(dirfd(d), e->d_name, depth - 1, below, sizeof below)) {
            snprintf(ret, room, "%s/%.180s", e->d_name, below);
            found = true;
        }
    }
    if (d)
        closedir(d);
    return found;
}

static void look_at_version(struct look *l, int model_dir, const char *model, const char *name, const char *path)
{
    char there[300], inside[300];
    snprintf(inside, sizeof inside, "%s/model.onnx", name);
    if (is_kind(model_dir, inside, S_IFREG))
        return;
    if (!find_onnx(model_dir, name, MAX_DEPTH, there, sizeof there))
        note(l, model, path, "a version's folder without model.onnx");
    else if (strchr(there, '/'))
        note(l, model, path, "'%.80s' lies too deep: MODEL/VERSION/model.onnx is served", there);
    else
        note(l, model, path, "'%.80s' is not served: a version's file must be called model.onnx", there);
}

static void look_at_model(struct look *l, int root, const char *model)
{
    DIR *d = open_dir(root, model);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        char path[600], there[300];
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", model, e->d_name);
        if (ends_onnx(e->d_name) && is_kind(dirfd(d), e->d_name, S_IFREG))
            note(l, model, path, "it lies beside the version folders: %.80s/1/model.onnx would be served", model);
        else if (!is_kind(dirfd(d), e->d_name, S_IFDIR))
            continue;
        else if (wn_version_parse(e->d_name))
            look_at_version(l, dirfd(d), model, e->d_name, path);
        else if (find_onnx(dirfd(d), e->d_name, MAX_DEPTH, there, sizeof there))
            note(l, model, path,
                 strchr(there, '/') ? "it lies too deep: MODEL/VERSION/model.onnx is served, without folders between"
                                    : "its name is no version: a whole number from 1 on, without leading zeros");
    }
    if (d)
        closedir(d);
}

static void look_at_root(struct look *l)
{
    DIR *d = opendir(l->root);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        char there[300];
        if (e->d_name[0] == '.')
            continue;
        if (ends_onnx(e->d_name) && is_kind(dirfd(d), e->d_name, S_IFREG))
            note(l, e->d_name, e->d_name, "it lies in the repository itself: MODEL/VERSION/model.onnx is served");
        else if (!is_kind(dirfd(d), e->d_name, S_IFDIR))
            continue;
        else if (wn_model_name_valid(e->d_name))
            look_at_model(l, dirfd(d), e->d_name);
        else if (find_onnx(dirfd(d), e->d_name, MAX_DEPTH, there, sizeof there))
            note(l, e->d_name, e->d_name, "its name is no model's: letters, digits, '.', '_' and '-', %d at most",
                 WN_NAME_MAX);
    }
    if (d)
        closedir(d);
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct wn_stray *)a)->path, ((const struct wn_stray *)b)->path);
}

enum winnow_status wn_strays_look(const char *const *roots, size_t n_roots, struct wn_stray **ret, size_t *ret_n,
                                  struct winnow_err *err)
{
    struct look l = { 0 };
    for (size_t i = 0; i < n_roots; i++) {
        l.root = roots[i];
        look_at_root(&l);
    }
    if (l.no_memory) {
        wn_strays_free(l.v.at, l.v.n);
        return wn_fail(err, WINNOW_E_NOMEM, "looking for misplaced models");
    }
    if (l.v.n)
        qsort(l.v.at, l.v.n, sizeof l.v.at[0], by_path);
    *ret = l.v.at;
    *ret_n = l.v.n;
    return WINNOW_OK;
}

/* ---- of a registry ---- */

static struct wn_stray *find(struct wn_stray *list, size_t n, const struct wn_stray *like)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i].path, like->path) == 0 && strcmp(list[i].why, like->why) == 0)
            return &list[i];
    return NULL;
}

void wn_strays_refresh(struct wn_serve *serve, bool fresh)
{
    struct wn_stray *now, *was;
    size_t n, n_was;
    if (wn_strays_look((const char *const *)serve->repo.root + 1, serve->repo.n_roots - 1, &now, &n, NULL) != WINNOW_OK)
        return; /* the next look tries again */
    uint64_t ns = wn_now_ns();
    pthread_mutex_lock(&serve->cat);
    uint64_t settle = fresh ? 0 : serve->repo.settle_us * 1000;
    was = serve->strays;
    n_was = serve->n_strays;
    for (size_t i = 0; i < n; i++) {
        const struct wn_stray *before = find(was, n_was, &now[i]);
        now[i].since_ns = before ? before->since_ns : ns;
        now[i].told = before && before->told;
    }
    pthread_mutex_unlock(&serve->cat);
    for (size_t i = 0; i < n; i++)
        if (!now[i].told && ns - now[i].since_ns >= settle) {
            now[i].told = true;
            wn_warning("model_misplaced", "path=%s why=%s", now[i].path, now[i].why);
        }
    pthread_mutex_lock(&serve->cat);
    serve->strays = now;
    serve->n_strays = n;
    pthread_mutex_unlock(&serve->cat);
    wn_strays_free(was, n_was); /* the watcher's thread alone replaces them */
}

enum winnow_status wn_serve_strays(struct wn_serve *serve, struct wn_stray **ret, size_t *ret_n, struct winnow_err *err)
{
    WN_CHECK_MAGIC(serve, WN_SERVE_MAGIC);
    bool ok = true;
    size_t n = 0;
    pthread_mutex_lock(&serve->cat);
    struct wn_stray *list = calloc(serve->n_strays + 1, sizeof *list);
    for (size_t i = 0; list && ok && i < serve->n_strays; i++) {
        const struct wn_stray *s = &serve->strays[i];
        if (!s->told)
            continue;
        list[n] = *s;
        list[n].model = wn_strdup(s->model);
        list[n].path = wn_strdup(s->path);
        ok = list[n].model && list[n].path;
        n++;
    }
    pthread_mutex_unlock(&serve->cat);
    if (!list || !ok) {
        wn_strays_free(list, n);
        return wn_fail(err, WINNOW_E_NOMEM, "misplaced models");
    }
    for (size_t i = 0; i < n; i++)
        wn_serve_hide_folders(serve, list[i].path); /* clients get it */
    *ret = list;
    *ret_n = n;
    return WINNOW_OK;
}
