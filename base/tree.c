/* tree.c: folders: make, copy one file into, take away. */
#include "base/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE     (256u << 10)
#define MAX_DEPTH 64

enum winnow_status wn_tree_make(const char *path, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *p = wn_strdup(path);
    if (!p)
        return wn_fail(err, WINNOW_E_NOMEM, "folder '%s'", path);
    for (char *s = p + 1; *p; s++) {
        if (*s && *s != '/')
            continue;
        char was = *s;
        *s = '\0';
        if (mkdir(p, 0777) < 0 && errno != EEXIST)
            return wn_fail_errno(err, errno, "making folder '%s'", p);
        if (!was)
            break;
        *s = was;
    }
    struct stat st;
    if (stat(path, &st) < 0)
        return wn_fail_errno(err, errno, "folder '%s'", path);
    if (!S_ISDIR(st.st_mode))
        return wn_fail(err, WINNOW_E_IO, "'%s' is not a folder", path);
    return WINNOW_OK;
}

static enum winnow_status copy_bytes(int in, int out, const char *from, const char *to, uint64_t max_bytes,
                                     struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *buf = malloc(PIECE);
    if (!buf)
        return wn_fail(err, WINNOW_E_NOMEM, "copying '%s'", from);
    for (uint64_t total = 0;;) {
        ssize_t got = read(in, buf, PIECE);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return wn_fail_errno(err, errno, "reading '%s'", from);
        if (got == 0)
            break;
        total += (uint64_t)got;
        if (max_bytes && total > max_bytes)
            return wn_fail(err, WINNOW_E_TOO_LARGE, "file '%s' is longer than %llu bytes", from,
                           (unsigned long long)max_bytes);
        for (ssize_t at = 0; at < got;) {
            ssize_t put = write(out, buf + at, (size_t)(got - at));
            if (put < 0 && errno == EINTR)
                continue;
            if (put < 0)
                return wn_fail_errno(err, errno, "writing '%s'", to);
            at += put;
        }
    }
    if (fsync(out) < 0)
        return wn_fail_errno(err, errno, "making '%s' durable", to);
    return WINNOW_OK;
}

enum winnow_status wn_tree_copy_fd(int in, const char *from, const char *to, uint64_t max_bytes, struct winnow_err *err)
{
    WN_CLEANUP(wn_closep) int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (out < 0)
        return wn_fail_errno(err, errno, "creating '%s'", to);
    enum winnow_status status = copy_bytes(in, out, from, to, max_bytes, err);
    if (status != WINNOW_OK)
        unlink(to);
    return status;
}

enum winnow_status wn_tree_copy_file(const char *from, const char *to, uint64_t max_bytes, struct winnow_err *err)
{
    struct stat st;
    WN_CLEANUP(wn_closep) int in = open(from, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC);
    if (in < 0 || fstat(in, &st) < 0)
        return wn_fail_errno(err, errno, "opening '%s'", from);
    if (!S_ISREG(st.st_mode))
        return wn_fail(err, WINNOW_E_IO, "'%s' is not a regular file", from);
    return wn_tree_copy_fd(in, from, to, max_bytes, err);
}

static int remove_below(int parent, const char *name, int depth)
{
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return errno;
    if (depth == MAX_DEPTH)
        return ELOOP;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        int e = errno;
        if (fd >= 0)
            close(fd);
        return e;
    }
    int failed = 0;
    for (struct dirent *e; !failed && (e = readdir(d)) != NULL;)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            failed = remove_below(dirfd(d), e->d_name, depth + 1);
    closedir(d);
    if (!failed && unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        failed = errno;
    return failed;
}

enum winnow_status wn_tree_remove(const char *path, struct winnow_err *err)
{
    int e = remove_below(AT_FDCWD, path, 0);
    return e ? wn_fail_errno(err, e, "removing '%s'", path) : WINNOW_OK;
}
