/* external.c: see external.h.
 *
 * DESIGN  Files are read, not mapped: tensors are copied into the model's memory anyway, and a file that is cut short
 *         while it is mapped would end the process. openat2() would say in one call what is said here name by name, but
 *         a seccomp filter or an old kernel may not know it, and there would be two ways. */
#include "engine/graph/external.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_PARTS 16 /* folders in a location */

void wn_external_init(struct wn_external *x, const char *folder, size_t max_bytes, struct wn_graph *g)
{
    *x = (struct wn_external){ .folder = folder, .dir = -1, .file = -1, .left = max_bytes, .g = g };
}

void wn_external_done(struct wn_external *x)
{
    if (x->dir >= 0)
        close(x->dir);
    if (x->file >= 0)
        close(x->file);
    x->dir = x->file = -1;
}

/* What external_data says, as text; NULL for what it does not. */
struct place {
    const char *location, *offset, *length;
};

static void read_place(const Onnx__TensorProto *proto, struct place *ret)
{
    *ret = (struct place){ 0 };
    for (size_t i = 0; i < proto->n_external_data; i++) {
        const char *key = proto->external_data[i]->key, *value = proto->external_data[i]->value;
        if (!key || !value)
            continue;
        if (strcmp(key, "location") == 0)
            ret->location = value;
        else if (strcmp(key, "offset") == 0)
            ret->offset = value;
        else if (strcmp(key, "length") == 0)
            ret->length = value;
    }
}

/* A number of digits only. */
static bool number(const char *s, uint64_t *ret)
{
    char *end;
    if (!*s || strspn(s, "0123456789") != strlen(s))
        return false;
    errno = 0;
    *ret = strtoull(s, &end, 10);
    return errno == 0;
}

static enum winnow_status outside(const char *location, struct winnow_err *err)
{
    return wn_fail(err, WINNOW_E_MALFORMED, "location '%.*s' does not lie below the model's folder", WN_CLIP(location));
}

/* The folder in which the last name of `location` lies, opened without following links; *ret_name is that name. */
static enum winnow_status open_folders(struct wn_external *x, const char *location, int *ret_dir, const char **ret_name,
                                       struct winnow_err *err)
{
    if (x->dir < 0 && (x->dir = open(x->folder, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
        return wn_fail_errno(err, errno, "folder '%s'", x->folder);
    *ret_dir = x->dir;
    if (*location == '/' || !*location)
        return outside(location, err);
    unsigned parts = 0;
    for (const char *slash; (slash = strchr(location, '/')) != NULL; location = slash + 1) {
        char part[256];
        size_t n = (size_t)(slash - location);
        if (n == 0 || (n == 1 && *location == '.'))
            continue;
        if (n >= sizeof part || ++parts > MAX_PARTS || (n == 2 && location[0] == '.' && location[1] == '.'))
            return outside(location, err);
        memcpy(part, location, n);
        part[n] = '\0';
        int next = openat(*ret_dir, part, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), code = errno;
        if (*ret_dir != x->dir)
            close(*ret_dir);
        *ret_dir = next;
        if (next < 0)
            return wn_fail_errno(err, code, "folder '%s' of its data", part);
    }
    *ret_name = location;
    return !*location || strcmp(location, ".") == 0 || strcmp(location, "..") == 0 ? outside(location, err) : WINNOW_OK;
}

static enum winnow_status open_regular(int dir, const char *name, int *ret, uint64_t *ret_size, struct winnow_err *err)
{
    struct stat st;
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return errno == ELOOP ? wn_fail(err, WINNOW_E_MALFORMED, "its data file '%.*s' is a link", WN_CLIP(name))
                              : wn_fail_errno(err, errno, "its data file '%.*s'", WN_CLIP(name));
    bool ok = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1;
    if (!ok) {
        close(fd);
        return wn_fail(err, WINNOW_E_MALFORMED, "its data file '%.*s' is not a regular file with one name",
                       WN_CLIP(name));
    }
    *ret = fd;
    *ret_size = (uint64_t)st.st_size;
    return WINNOW_OK;
}

static enum winnow_status note_file(struct wn_external *x, const char *location, struct winnow_err *err)
{
    for (size_t i = 0; i < x->g->external.n; i++)
        if (strcmp(x->g->external.at[i], location) == 0) {
            x->name = x->g->external.at[i];
            return WINNOW_OK;
        }
    x->name = wn_arena_strndup(x->g->arena, location, strlen(location));
    return x->name && wn_vec_push(&x->g->external, x->name) ? WINNOW_OK : wn_fail(err, WINNOW_E_NOMEM, "a file's name");
}

enum winnow_status wn_external_open(struct wn_external *x, const char *location, struct winnow_err *err)
{
    if (x->file >= 0)
        close(x->file);
    x->file = -1;
    if (strlen(location) >= PATH_MAX)
        return wn_fail(err, WINNOW_E_MALFORMED, "a file's name of %zu bytes", strlen(location));
    int dir = -1;
    const char *name = "";
    enum winnow_status status = open_folders(x, location, &dir, &name, err);
    if (status == WINNOW_OK)
        status = open_regular(dir, name, &x->file, &x->size, err);
    if (dir >= 0 && dir != x->dir)
        close(dir);
    return status;
}

static enum winnow_status open_file(struct wn_external *x, const char *location, struct winnow_err *err)
{
    if (x->file >= 0 && strcmp(x->name, location) == 0)
        return WINNOW_OK;
    if (x->g->external.n >= WN_EXTERNAL_FILES)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "data in more than %d files", WN_EXTERNAL_FILES);
    WN_TRY(wn_external_open(x, location, err));
    return note_file(x, location, err);
}

enum winnow_status wn_external_fill(struct wn_external *x, uint64_t at, void *data, size_t n, struct winnow_err *err)
{
    const char *name = x->name;
    char *to = data;
    while (n) {
        ssize_t got = pread(x->file, to, n, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return wn_fail_errno(err, errno, "its data file '%.*s'", WN_CLIP(name));
        if (got == 0)
            return wn_fail(err, WINNOW_E_IO, "its data file '%.*s' became shorter", WN_CLIP(name));
        to += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return WINNOW_OK;
}

enum winnow_status wn_external_find(struct wn_external *x, const Onnx__TensorProto *proto, size_t n,
                                    uint64_t *ret_offset, struct winnow_err *err)
{
    struct place p;
    uint64_t offset = 0, length = n;
    read_place(proto, &p);
    if (!p.location)
        return wn_fail(err, WINNOW_E_MALFORMED, "external data without a location");
    if (!x->folder)
        return wn_fail(err, WINNOW_E_UNSUPPORTED, "its data lies in another file, '%.*s' (external data)",
                       WN_CLIP(p.location));
    if ((p.offset && !number(p.offset, &offset)) || (p.length && !number(p.length, &length)))
        return wn_fail(err, WINNOW_E_MALFORMED, "offset '%.*s' and length '%.*s' must be numbers",
                       WN_CLIP(p.offset ? p.offset : "0"), WN_CLIP(p.length ? p.length : ""));
    if (length != n)
        return wn_fail(err, WINNOW_E_MALFORMED, "%llu bytes of data where its shape demands %zu",
                       (unsigned long long)length, n);
    if (n > x->left)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "its data takes %zu bytes, %zu of what is allowed are left", n,
                       x->left);
    WN_TRY(open_file(x, p.location, err));
    if (offset > x->size || n > x->size - offset)
        return wn_fail(err, WINNOW_E_MALFORMED, "bytes %llu to %llu of '%.*s', which has %llu",
                       (unsigned long long)offset, (unsigned long long)(offset + n), WN_CLIP(p.location),
                       (unsigned long long)x->size);
    x->left -= n;
    *ret_offset = offset;
    return WINNOW_OK;
}
