/* file.c: whole files in, whole files out durably. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIRST_ROOM 4096u

static int open_retry(const char *path, int flags, mode_t mode)
{
    int fd;
    do
        fd = open(path, flags | O_CLOEXEC, mode);
    while (fd < 0 && errno == EINTR);
    return fd;
}

/* Read fd to its end into *buf (cap bytes, one kept for the NUL), growing it: the size from fstat is a hint only, as
 * the file may grow meanwhile, and files under /proc say 0. */
static enum winnow_status read_all(int fd, const char *path, size_t max_bytes, char **buf, size_t cap, size_t *ret_n,
                                   struct winnow_err *err)
{
    size_t n = 0;
    for (;;) {
        if (n == cap - 1) {
            size_t want;
            char *p = wn_mul_size(cap, 2, &want) ? realloc(*buf, want) : NULL;
            if (!p)
                return wn_fail(err, WINNOW_E_NOMEM, "file '%s': %zu bytes", path, n);
            *buf = p;
            cap = want;
        }
        ssize_t got = read(fd, *buf + n, cap - 1 - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return wn_fail_errno(err, errno, "reading '%s'", path);
        if (got == 0)
            break;
        n += (size_t)got;
        if (max_bytes && n > max_bytes)
            return wn_fail(err, WINNOW_E_TOO_LARGE, "file '%s' is longer than %zu bytes", path, max_bytes);
    }
    (*buf)[n] = '\0';
    *ret_n = n;
    return WINNOW_OK;
}

enum winnow_status wn_file_read(const char *path, size_t max_bytes, void **ret_bytes, size_t *ret_n,
                                struct winnow_err *err)
{
    WN_CLEANUP(wn_closep) int fd = open_retry(path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    if (fd < 0)
        return wn_fail_errno(err, errno, "opening '%s'", path);
    struct stat st;
    if (fstat(fd, &st) < 0)
        return wn_fail_errno(err, errno, "looking at '%s'", path);
    if (!S_ISREG(st.st_mode))
        return wn_fail(err, WINNOW_E_IO, "'%s' is not a regular file", path);
    if (max_bytes && (uint64_t)st.st_size > max_bytes)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "file '%s' has %lld bytes, the limit is %zu", path,
                       (long long)st.st_size, max_bytes);
    if ((uint64_t)st.st_size > SIZE_MAX - 2)
        return wn_fail(err, WINNOW_E_NOMEM, "file '%s': %lld bytes", path, (long long)st.st_size);
    /* Two bytes over: the NUL, and room in which read() reports the end without growing first. */
    size_t cap = st.st_size ? (size_t)st.st_size + 2 : FIRST_ROOM;
    WN_CLEANUP(wn_freep) char *buf = malloc(cap);
    if (!buf)
        return wn_fail(err, WINNOW_E_NOMEM, "file '%s': %zu bytes", path, cap);
    size_t n = 0;
    WN_TRY(read_all(fd, path, max_bytes, &buf, cap, &n, err));
    *ret_bytes = WN_TAKE(buf);
    *ret_n = n;
    return WINNOW_OK;
}

struct wn_file_id wn_file_id_of_stat(const struct stat *st)
{
    return (struct wn_file_id){ .dev = st->st_dev,
                                .ino = st->st_ino,
                                .size = (uint64_t)st->st_size,
                                .mtime_ns = st->st_mtim.tv_sec * INT64_C(1000000000) + st->st_mtim.tv_nsec,
                                .ctime_ns = st->st_ctim.tv_sec * INT64_C(1000000000) + st->st_ctim.tv_nsec };
}

struct wn_file_id wn_file_id_of(const char *path, bool *ret_ok)
{
    struct stat st;
    *ret_ok = stat(path, &st) == 0 && S_ISREG(st.st_mode);
    return *ret_ok ? wn_file_id_of_stat(&st) : (struct wn_file_id){ 0 };
}

bool wn_file_id_equal(const struct wn_file_id *a, const struct wn_file_id *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->size == b->size && a->mtime_ns == b->mtime_ns &&
           a->ctime_ns == b->ctime_ns;
}

static enum winnow_status write_all(int fd, const char *path, const void *bytes, size_t n, struct winnow_err *err)
{
    const char *p = bytes;
    while (n) {
        ssize_t put = write(fd, p, n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return wn_fail_errno(err, errno, "writing '%s'", path);
        p += put;
        n -= (size_t)put;
    }
    return WINNOW_OK;
}

/* A new file beside `path`; its name goes to *ret_tmp (malloc'ed). */
static enum winnow_status open_temp(const char *path, char **ret_tmp, int *ret_fd, struct winnow_err *err)
{
    static atomic_uint counter;
    for (int tries = 0; tries < 100; tries++) {
        WN_CLEANUP(wn_freep)
        char *tmp = wn_asprintf("%s.%ld.%u.tmp", path, (long)getpid(), atomic_fetch_add(&counter, 1));
        if (!tmp)
            return wn_fail(err, WINNOW_E_NOMEM, "writing '%s'", path);
        int fd = open_retry(tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0666);
        if (fd >= 0) {
            *ret_tmp = WN_TAKE(tmp);
            *ret_fd = fd;
            return WINNOW_OK;
        }
        if (errno != EEXIST)
            return wn_fail_errno(err, errno, "creating '%s'", tmp);
    }
    return wn_fail(err, WINNOW_E_IO, "no free temporary name beside '%s'", path);
}

enum winnow_status wn_file_write_durable(const char *path, const void *bytes, size_t n, struct winnow_err *err)
{
    const struct wn_piece piece = { bytes, n };
    return wn_file_write_pieces(path, &piece, 1, err);
}

enum winnow_status wn_file_write_pieces(const char *path, const struct wn_piece *piece, size_t n,
                                        struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *tmp = NULL;
    WN_CLEANUP(wn_closep) int fd = -1;
    WN_TRY(open_temp(path, &tmp, &fd, err));
    enum winnow_status status = WINNOW_OK;
    for (size_t i = 0; i < n && status == WINNOW_OK; i++)
        status = write_all(fd, path, piece[i].p, piece[i].n, err);
    if (status == WINNOW_OK && fsync(fd) < 0)
        status = wn_fail_errno(err, errno, "making '%s' durable", path);
    if (status == WINNOW_OK && rename(tmp, path) < 0)
        status = wn_fail_errno(err, errno, "renaming to '%s'", path);
    if (status != WINNOW_OK) {
        unlink(tmp);
        return status;
    }
    return wn_dir_sync_parent(path, err);
}

enum winnow_status wn_dir_sync(const char *path, struct winnow_err *err)
{
    if (!*path)
        path = ".";
    WN_CLEANUP(wn_closep) int fd = open_retry(path, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return wn_fail_errno(err, errno, "opening folder '%s'", path);
    /* EINVAL: a file system that keeps no order of names to make durable. */
    if (fsync(fd) < 0 && errno != EINVAL)
        return wn_fail_errno(err, errno, "making folder '%s' durable", path);
    return WINNOW_OK;
}

enum winnow_status wn_dir_sync_parent(const char *path, struct winnow_err *err)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return wn_dir_sync(".", err);
    if (slash == path)
        return wn_dir_sync("/", err);
    WN_CLEANUP(wn_freep) char *dir = strndup(path, (size_t)(slash - path));
    if (!dir)
        return wn_fail(err, WINNOW_E_NOMEM, "folder of '%s'", path);
    return wn_dir_sync(dir, err);
}

char *wn_file_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == path ? wn_strdup("/") : slash ? wn_asprintf("%.*s", (int)(slash - path), path) : wn_strdup(".");
}
