/* version.c: versions that winnow makes: taking one over, and keeping not too many.
 *
 * DESIGN  A candidate is copied file by file into a hidden folder of STATE/models/NAME, fsynced, and renamed to its
 *         number, so a crash leaves the whole version or none. Only plain files on the first level are taken: the
 *         candidate's folder was written by a sandboxed program that reads strangers' data, so links are not followed
 *         and folders not entered. Numbers go on from the highest in any root; the rename decides a race.
 *         The first version made for a model that has no live file yet writes one for what is live, so that the
 *         candidate's higher number decides nothing.
 * LOCKS   add, around the whole of it: versions are made rarely. cat for looks into the catalogue. */
#include "daemon/serve/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"
#include "base/log.h"

#define MAX_FILES 64
#define COPY_ROOM ((size_t)256 << 10)
#define INCOMING  ".incoming"
#define OUTGOING  ".outgoing-" /* followed by the version */

static void close_dir(DIR **d)
{
    if (*d)
        closedir(*d);
}

/* ---- folders ---- */

/* Remove a folder and the plain files in it, and folders below to a small depth. */
static void remove_folder(int parent, const char *name, unsigned depth)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    WN_CLEANUP(close_dir) DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d) {
        if (fd >= 0)
            close(fd);
        return;
    }
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (unlinkat(dirfd(d), e->d_name, 0) != 0 && errno == EISDIR && depth < 8)
            remove_folder(dirfd(d), e->d_name, depth + 1);
    }
    unlinkat(parent, name, AT_REMOVEDIR);
}

static enum winnow_status copy_bytes(int from, int to, uint64_t max, const char *name, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *buf = malloc(COPY_ROOM);
    uint64_t total = 0;
    if (!buf)
        return wn_fail(err, WINNOW_E_NOMEM, "copying '%s'", name);
    for (;;) {
        ssize_t n = read(from, buf, COPY_ROOM);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return wn_fail_errno(err, errno, "reading '%s'", name);
        if (n == 0)
            break;
        total += (uint64_t)n;
        if (total > max)
            return wn_fail(err, WINNOW_E_TOO_LARGE, "'%s' is larger than %" PRIu64 " bytes", name, max);
        for (ssize_t at = 0; at < n;) {
            ssize_t put = write(to, buf + at, (size_t)(n - at));
            if (put < 0 && errno == EINTR)
                continue;
            if (put < 0)
                return wn_fail_errno(err, errno, "writing '%s'", name);
            at += put;
        }
    }
    return fsync(to) == 0 ? WINNOW_OK : wn_fail_errno(err, errno, "writing '%s'", name);
}

/* Copy one plain file; *ret_taken is false for anything else. */
static enum winnow_status copy_file(int from_dir, int to_dir, const char *name, uint64_t max, bool *ret_taken,
                                    struct winnow_err *err)
{
    struct stat st;
    *ret_taken = false;
    WN_CLEANUP(wn_closep) int from = openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (from < 0)
        return errno == ELOOP || errno == ENXIO ? WINNOW_OK : wn_fail_errno(err, errno, "opening '%s'", name);
    if (fstat(from, &st) != 0)
        return wn_fail_errno(err, errno, "looking at '%s'", name);
    if (!S_ISREG(st.st_mode))
        return WINNOW_OK;
    WN_CLEANUP(wn_closep) int to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (to < 0)
        return wn_fail_errno(err, errno, "making '%s'", name);
    *ret_taken = true;
    return copy_bytes(from, to, max, name, err);
}

static enum winnow_status copy_folder(const char *from, int to, uint64_t max, struct winnow_err *err)
{
    WN_CLEANUP(close_dir) DIR *d = opendir(from);
    if (!d)
        return wn_fail_errno(err, errno, "opening folder '%s'", from);
    bool model = false;
    unsigned n = 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        bool taken;
        if (e->d_name[0] == '.' || strcmp(e->d_name, "lineage.json") == 0)
            continue;
        if (++n > MAX_FILES)
            return wn_fail(err, WINNOW_E_TOO_LARGE, "folder '%s' holds more than %d files", from, MAX_FILES);
        WN_TRY(copy_file(dirfd(d), to, e->d_name, max, &taken, err));
        model |= taken && strcmp(e->d_name, "model.onnx") == 0;
    }
    return model ? WINNOW_OK : wn_fail(err, WINNOW_E_NOT_FOUND, "folder '%s' holds no model.onnx", from);
}

static enum winnow_status write_lineage(int to, const char *text, struct winnow_err *err)
{
    if (!text)
        text = "{}\n";
    WN_CLEANUP(wn_closep) int fd = openat(to, "lineage.json", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    size_t n = strlen(text);
    if (fd < 0 || write(fd, text, n) != (ssize_t)n || fsync(fd) != 0)
        return wn_fail_errno(err, fd < 0 || errno ? errno : ENOSPC, "writing lineage.json");
    return WINNOW_OK;
}

/* What a crash left behind. */
static void remove_leftovers(int home)
{
    int fd = openat(home, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    WN_CLEANUP(close_dir) DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d)
        wn_closep(&fd);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;)
        if (strcmp(e->d_name, INCOMING) == 0 || strncmp(e->d_name, OUTGOING, strlen(OUTGOING)) == 0)
            remove_folder(home, e->d_name, 0);
}

/* ---- taking one over ---- */

static int64_t next_number(struct wn_serve *serve, const char *name)
{
    int64_t next = 1;
    for (unsigned r = 0; r < serve->repo.n_roots; r++) {
        WN_CLEANUP(wn_freep) char *folder = wn_asprintf("%s/%s", serve->repo.root[r], name);
        WN_CLEANUP(close_dir) DIR *d = folder ? opendir(folder) : NULL;
        for (struct dirent *e; d && (e = readdir(d)) != NULL;)
            next = WN_MAX(next, wn_version_parse(e->d_name) + 1);
    }
    struct wn_served *m = wn_reg_find(serve, name);
    if (m) { /* numbers that a live file names are not given again, even when their folders are gone */
        pthread_mutex_lock(&serve->cat);
        next = WN_MAX(next, m->live.version + 1);
        next = WN_MAX(next, WN_MAX(m->live.newest, m->live.highest) + 1);
        pthread_mutex_unlock(&serve->cat);
    }
    return next;
}

/* Without a live file the highest number that a person put there is live: say which that is, before a candidate comes.
 */
static enum winnow_status pin_live(struct wn_serve *serve, const char *name, struct winnow_err *err)
{
    struct wn_served *m = wn_reg_find(serve, name);
    struct wn_gen *gen = m ? wn_reg_live(serve, m) : NULL;
    if (!gen)
        return WINNOW_OK;
    pthread_mutex_lock(&serve->cat);
    bool need = !m->live.exists;
    struct wn_live live = { .version = gen->version, .newest = gen->version, .highest = wn_live_highest(m) };
    pthread_mutex_unlock(&serve->cat);
    enum winnow_status status = WINNOW_OK;
    if (need) {
        memcpy(live.digest, gen->digest, sizeof live.digest);
        snprintf(live.by, sizeof live.by, "repository");
        status = wn_live_write(serve->repo.root[0], name, &live, err);
        pthread_mutex_lock(&serve->cat);
        if (status == WINNOW_OK && !m->live.exists)
            m->live = live;
        pthread_mutex_unlock(&serve->cat);
    }
    wn_gen_unref(gen);
    return status;
}

static enum winnow_status fill(int tmp, const char *folder, const char *lineage_json, uint64_t max,
                               struct winnow_err *err)
{
    WN_TRY(copy_folder(folder, tmp, max, err));
    WN_TRY(write_lineage(tmp, lineage_json, err));
    return fsync(tmp) == 0 ? WINNOW_OK : wn_fail_errno(err, errno, "writing a version's folder");
}

static enum winnow_status publish_folder(struct wn_serve *serve, const char *model, int dir, const char *tmp,
                                         int64_t *ret_version, struct winnow_err *err)
{
    for (unsigned tries = 0; tries < 16; tries++) {
        char name[24];
        int64_t number = next_number(serve, model);
        snprintf(name, sizeof name, "%" PRId64, number);
        if (renameat(dir, tmp, dir, name) == 0) {
            *ret_version = number;
            return fsync(dir) == 0 ? WINNOW_OK : wn_fail_errno(err, errno, "making version %s durable", name);
        }
        if (errno != EEXIST && errno != ENOTEMPTY && errno != ENOTDIR)
            return wn_fail_errno(err, errno, "making version %s of model '%s'", name, model);
    }
    return wn_fail(err, WINNOW_E_CONFLICT, "no version number of model '%s' is free", model);
}

static enum winnow_status add_locked(struct wn_serve *serve, const char *model, const char *folder,
                                     const char *lineage_json, int64_t *ret_version, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *home = wn_asprintf("%s/%s", serve->repo.root[0], model);
    if (!home)
        return wn_fail(err, WINNOW_E_NOMEM, "model '%s'", model);
    if (mkdir(home, 0777) != 0 && errno != EEXIST)
        return wn_fail_errno(err, errno, "making folder '%s'", home);
    WN_TRY(wn_dir_sync(serve->repo.root[0], err));
    WN_TRY(pin_live(serve, model, err));
    WN_CLEANUP(wn_closep) int dir = open(home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return wn_fail_errno(err, errno, "opening folder '%s'", home);
    static const char tmp[] = INCOMING; /* one at a time: add is held */
    remove_leftovers(dir);
    if (mkdirat(dir, tmp, 0777) != 0)
        return wn_fail_errno(err, errno, "making folder '%s/%s'", home, tmp);
    WN_CLEANUP(wn_closep) int fd = openat(dir, tmp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    pthread_mutex_lock(&serve->cat);
    uint64_t max = serve->repo.max_file;
    pthread_mutex_unlock(&serve->cat);
    enum winnow_status status = fd < 0 ? wn_fail_errno(err, errno, "opening folder '%s/%s'", home, tmp)
                                       : fill(fd, folder, lineage_json, max, err);
    if (status == WINNOW_OK)
        status = publish_folder(serve, model, dir, tmp, ret_version, err);
    if (status != WINNOW_OK)
        remove_folder(dir, tmp, 0);
    return status;
}

enum winnow_status wn_serve_add_version(struct wn_serve *serve, const char *model, const char *folder,
                                        const char *lineage_json, int64_t *ret_version, struct winnow_err *err)
{
    WN_CHECK_MAGIC(serve, WN_SERVE_MAGIC);
    if (!wn_model_name_valid(model))
        return wn_fail(err, WINNOW_E_MALFORMED, "'%.128s' is no name for a model", model);
    int64_t version = 0;
    struct wn_served *m;
    pthread_mutex_lock(&serve->add);
    enum winnow_status status = add_locked(serve, model, folder, lineage_json, &version, err);
    pthread_mutex_unlock(&serve->add);
    WN_TRY(status);
    WN_TRY(wn_repo_scan_model(serve, model, false, &m, err));
    wn_info("version_added", "model=%s version=%" PRId64 " from=%s", model, version, folder);
    if (m)
        wn_version_retain(serve, m, version);
    *ret_version = version;
    return WINNOW_OK;
}

/* ---- retention ---- */

/* The oldest version made here that is one too many, or 0; its folder. Under cat. */
static char *one_too_many(const struct wn_serve *serve, const struct wn_served *m, int64_t live, int64_t spare)
{
    int64_t kept = 0;
    const struct wn_version *oldest = NULL;
    for (size_t i = m->versions.n; i-- > 0;) {
        const struct wn_version *v = m->versions.at[i];
        if (!v->made_here || v->missing_ns)
            continue;
        kept++;
        if (v->number == live || v->number == spare || v->loading ||
            (m->live.exists && (v->number == m->live.version || v->number == m->live.prev[0].version)))
            continue;
        oldest = v;
    }
    return oldest && kept > serve->repo.keep_versions ? wn_strdup(oldest->dir) : NULL;
}

void wn_version_retain(struct wn_serve *serve, struct wn_served *m, int64_t spare)
{
    for (unsigned i = 0; i < WN_MAX_VERSIONS; i++) {
        struct wn_gen *gen = wn_reg_live(serve, m);
        int64_t live = gen ? gen->version : 0;
        wn_gen_unref(gen);
        pthread_mutex_lock(&serve->cat);
        WN_CLEANUP(wn_freep) char *dir = one_too_many(serve, m, live, spare);
        for (size_t k = 0; dir && k < m->versions.n; k++)
            if (strcmp(m->versions.at[k]->dir, dir) == 0)
                m->versions.at[k]->missing_ns = wn_now_ns();
        pthread_mutex_unlock(&serve->cat);
        if (!dir)
            break;
        /* First out of sight, then away: a crash in between leaves a hidden folder, not half a version. */
        WN_CLEANUP(wn_freep) char *home = wn_asprintf("%s/%s", serve->repo.root[0], m->name);
        WN_CLEANUP(wn_closep) int fd = home ? open(home, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
        const char *name = strrchr(dir, '/') + 1;
        char hidden[40];
        snprintf(hidden, sizeof hidden, OUTGOING "%s", name);
        if (fd < 0 || renameat(fd, name, fd, hidden) != 0) {
            wn_warning("version_not_removed", "model=%s folder=%s", m->name, dir);
            break;
        }
        remove_folder(fd, hidden, 0);
        wn_info("version_removed", "model=%s version=%s why=%s", m->name, name, "models.keep_versions");
    }
}
