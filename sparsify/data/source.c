/* source.c: walks archives with libarchive, folders by openat.
 *
 * DESIGN  libarchive gets zip and tar and the gzip filter, nothing else: every further format is further code for
 * hostile bytes, and some filters start programs. Names are text to us; nothing is ever unpacked to the disk, so links
 *         have nothing to point at. */
#include "sparsify/data/source.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/utf8.h"
#include "base/vec.h"

struct walk {
    struct wn_source_limits lim;
    const struct wn_source_sink *sink;
    struct winnow_err *err;
    const char *what; /* for messages */
    uint64_t packed;  /* bytes of the whole archive; 0 for folders */
    size_t entries;
    uint64_t bytes;      /* unpacked so far */
    WN_VEC(uint8_t) buf; /* the present file */
};

static struct wn_source_limits defaults(const struct wn_source_limits *l)
{
    struct wn_source_limits r = l ? *l : (struct wn_source_limits){ 0 };
    r.max_entries = r.max_entries ? r.max_entries : 100000;
    r.max_file_bytes = r.max_file_bytes ? r.max_file_bytes : (size_t)1 << 30;
    r.max_bytes = r.max_bytes ? r.max_bytes : (size_t)4 << 30;
    r.max_ratio = r.max_ratio ? r.max_ratio : 100;
    r.ratio_floor = r.ratio_floor ? r.ratio_floor : (size_t)32 << 20;
    r.max_depth = r.max_depth ? r.max_depth : 16;
    return r;
}

/* ---- names ---- */

static const char *name_fault(const char *name)
{
    if (!*name)
        return "an empty name";
    if (*name == '/')
        return "an absolute name";
    size_t n = strlen(name);
    if (n > WN_SOURCE_MAX_NAME)
        return "a name of over 1024 bytes";
    if (!wn_utf8_valid(name, n))
        return "a name that is not UTF-8";
    for (const unsigned char *s = (const unsigned char *)name; *s; s++) {
        if (*s < 0x20 || *s == 0x7f)
            return "a name with control characters";
        if (*s == '\\')
            return "a name with a backslash";
    }
    return NULL;
}

enum winnow_status wn_source_name(const char *name, char ret[WN_SOURCE_MAX_NAME + 1], struct winnow_err *err)
{
    const char *fault = name_fault(name);
    if (fault)
        return wn_fail(err, WINNOW_E_MALFORMED, "entry '%.80s': %s", *fault && strstr(fault, "UTF-8") ? "" : name,
                       fault);
    size_t used = 0;
    for (const char *s = name; *s;) {
        size_t n = strcspn(s, "/");
        if (n == 2 && s[0] == '.' && s[1] == '.')
            return wn_fail(err, WINNOW_E_MALFORMED, "entry '%.80s' points outside the archive", name);
        if (n && !(n == 1 && s[0] == '.')) {
            if (used)
                ret[used++] = '/';
            memcpy(ret + used, s, n);
            used += n;
        }
        s += n;
        s += *s == '/';
    }
    ret[used] = '\0';
    return WINNOW_OK;
}

/* ---- counting ---- */

static enum winnow_status count_entry(struct walk *w)
{
    return ++w->entries > w->lim.max_entries
               ? wn_fail(w->err, WINNOW_E_TOO_LARGE, "%s: more than %zu entries", w->what, w->lim.max_entries)
               : WINNOW_OK;
}

static enum winnow_status count_bytes(struct walk *w, size_t n)
{
    w->bytes += n;
    if (w->bytes > w->lim.max_bytes)
        return wn_fail(w->err, WINNOW_E_TOO_LARGE, "%s: unpacks to more than %zu bytes", w->what, w->lim.max_bytes);
    if (w->packed && w->bytes > w->lim.ratio_floor && w->bytes / w->lim.max_ratio > w->packed)
        return wn_fail(w->err, WINNOW_E_TOO_LARGE, "%s: unpacks to more than %u times its size", w->what,
                       w->lim.max_ratio);
    return WINNOW_OK;
}

static enum winnow_status append(struct walk *w, const void *p, size_t n)
{
    WN_TRY(count_bytes(w, n));
    if (n > w->lim.max_file_bytes - w->buf.n)
        return wn_fail(w->err, WINNOW_E_TOO_LARGE, "%s: a file of more than %zu bytes", w->what, w->lim.max_file_bytes);
    if (!wn_vec_reserve(&w->buf, w->buf.n + n))
        return wn_fail(w->err, WINNOW_E_NOMEM, "%s", w->what);
    if (n)
        memcpy(w->buf.at + w->buf.n, p, n);
    w->buf.n += n;
    return WINNOW_OK;
}

/* A buffer grown by one huge file is given back. */
static enum winnow_status hand_out(struct walk *w, const char *name)
{
    enum winnow_status status =
        w->sink->file(w->sink->arg, name, w->buf.at ? (const void *)w->buf.at : "", w->buf.n, w->err);
    if (w->buf.cap > (size_t)64 << 20)
        wn_vec_done(&w->buf);
    w->buf.n = 0;
    return status;
}

static bool wanted(const struct walk *w, const char *name)
{
    return *name && (!w->sink->wants || w->sink->wants(w->sink->arg, name));
}

/* ---- archives ---- */

static void archive_freep(struct archive **a)
{
    archive_read_free(*a);
}

static enum winnow_status archive_fault(struct walk *w, struct archive *a)
{
    const char *text = archive_error_string(a);
    if (archive_format(a) == 0 && archive_errno(a) == EILSEQ) /* "Unrecognized archive format" */
        text = "neither a zip nor a tar: pictures come as LABEL/picture in one";
    return wn_fail(w->err, archive_errno(a) == ENOMEM ? WINNOW_E_NOMEM : WINNOW_E_MALFORMED, "%s: %s", w->what,
                   text ? text : "broken archive");
}

static const char *entry_fault(struct archive_entry *e)
{
    if (archive_entry_hardlink(e))
        return "a hard link";
    switch (archive_entry_filetype(e)) {
    case AE_IFREG:
        break;
    case AE_IFLNK:
        return "a symbolic link";
    case AE_IFIFO:
        return "a FIFO";
    case AE_IFCHR:
    case AE_IFBLK:
        return "a device";
    default:
        return "not a regular file";
    }
    if (archive_entry_is_encrypted(e) == 1)
        return "encrypted";
    return archive_entry_sparse_count(e) > 0 ? "a sparse file" : NULL;
}

static enum winnow_status read_entry(struct walk *w, struct archive *a, const char *name)
{
    const void *p;
    size_t n;
    la_int64_t at;
    int rc;
    w->buf.n = 0;
    while ((rc = archive_read_data_block(a, &p, &n, &at)) == ARCHIVE_OK || rc == ARCHIVE_WARN) {
        if (at < 0 || (uint64_t)at != w->buf.n)
            return wn_fail(w->err, WINNOW_E_MALFORMED, "%s: '%.80s' has holes", w->what, name);
        WN_TRY(append(w, p, n));
    }
    if (rc != ARCHIVE_EOF)
        return archive_fault(w, a);
    return hand_out(w, name);
}

static enum winnow_status one_entry(struct walk *w, struct archive *a, struct archive_entry *e)
{
    char name[WN_SOURCE_MAX_NAME + 1];
    const char *raw = archive_entry_pathname(e);
    WN_TRY(count_entry(w));
    if (!raw)
        return wn_fail(w->err, WINNOW_E_MALFORMED, "%s: entry %zu has no readable name", w->what, w->entries);
    enum winnow_status status = wn_source_name(raw, name, w->err);
    if (status != WINNOW_OK)
        return wn_fail_at(w->err, status, "%s", w->what);
    if (archive_entry_filetype(e) == AE_IFDIR && !archive_entry_hardlink(e))
        return WINNOW_OK;
    const char *fault = entry_fault(e);
    if (fault)
        return w->sink->refused(w->sink->arg, name, fault, w->err);
    return wanted(w, name) ? read_entry(w, a, name) : WINNOW_OK;
}

static struct archive *new_archive(void)
{
    struct archive *a = archive_read_new();
    if (a && (archive_read_support_filter_gzip(a) != ARCHIVE_OK || archive_read_support_format_zip(a) != ARCHIVE_OK ||
              archive_read_support_format_tar(a) != ARCHIVE_OK)) {
        archive_read_free(a);
        a = NULL;
    }
    return a;
}

static enum winnow_status walk_archive(struct walk *w, struct archive *a)
{
    for (;;) {
        struct archive_entry *e;
        int rc = archive_read_next_header(a, &e);
        if (rc == ARCHIVE_EOF)
            break;
        if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN)
            return archive_fault(w, a);
        WN_TRY(one_entry(w, a, e));
    }
    if (!w->entries)
        return wn_fail(w->err, WINNOW_E_MALFORMED, "%s: an empty archive", w->what);
    return WINNOW_OK;
}

static enum winnow_status walk_file(struct walk *w, int fd)
{
    WN_CLEANUP(archive_freep) struct archive *a = new_archive();
    if (!a)
        return wn_fail(w->err, WINNOW_E_NOMEM, "%s", w->what);
    if (archive_read_open_fd(a, fd, 64u << 10) != ARCHIVE_OK)
        return archive_fault(w, a);
    return walk_archive(w, a);
}

/* ---- folders ---- */

static enum winnow_status walk_folder(struct walk *w, int fd, const char *prefix, unsigned depth);

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

struct names {
    WN_VEC(char *) v;
};

static void names_done(struct names *n)
{
    for (size_t i = 0; i < n->v.n; i++)
        free(n->v.at[i]);
    wn_vec_done(&n->v);
}

static enum winnow_status list_folder(struct walk *w, int fd, struct names *names)
{
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = copy >= 0 ? fdopendir(copy) : NULL;
    if (!d) {
        int errnum = errno;
        wn_closep(&copy);
        return wn_fail_errno(w->err, errnum, "%s", w->what);
    }
    enum winnow_status status = WINNOW_OK;
    for (struct dirent *e; status == WINNOW_OK && (errno = 0, e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        char *s = wn_strdup(e->d_name);
        status = count_entry(w);
        if (status == WINNOW_OK && (!s || !wn_vec_push(&names->v, s)))
            status = wn_fail(w->err, WINNOW_E_NOMEM, "%s", w->what);
        if (status != WINNOW_OK)
            free(s);
    }
    if (status == WINNOW_OK && errno)
        status = wn_fail_errno(w->err, errno, "%s", w->what);
    closedir(d);
    if (names->v.n)
        qsort(names->v.at, names->v.n, sizeof *names->v.at, by_name);
    return status;
}

static enum winnow_status read_plain(struct walk *w, int fd, const char *name)
{
    uint8_t piece[16384];
    w->buf.n = 0;
    for (ssize_t n; (n = read(fd, piece, sizeof piece)) != 0;) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return wn_fail_errno(w->err, errno, "%s: '%.80s'", w->what, name);
        WN_TRY(append(w, piece, (size_t)n));
    }
    return hand_out(w, name);
}

static enum winnow_status walk_one(struct walk *w, int dir, const char *leaf, const char *prefix, unsigned depth)
{
    char name[WN_SOURCE_MAX_NAME + 1];
    struct stat st;
    WN_CLEANUP(wn_freep) char *full = wn_asprintf("%s%s%s", prefix, *prefix ? "/" : "", leaf);
    if (!full)
        return wn_fail(w->err, WINNOW_E_NOMEM, "%s", w->what);
    WN_TRY(wn_source_name(full, name, w->err));
    WN_CLEANUP(wn_closep) int fd = openat(dir, leaf, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return w->sink->refused(w->sink->arg, name, errno == ELOOP ? "a symbolic link" : strerror(errno), w->err);
    if (fstat(fd, &st) != 0)
        return wn_fail_errno(w->err, errno, "%s: '%.80s'", w->what, name);
    if (S_ISDIR(st.st_mode))
        return walk_folder(w, fd, name, depth + 1);
    if (!S_ISREG(st.st_mode))
        return w->sink->refused(w->sink->arg, name, "not a regular file", w->err);
    return wanted(w, name) ? read_plain(w, fd, name) : WINNOW_OK;
}

static enum winnow_status walk_folder(struct walk *w, int fd, const char *prefix, unsigned depth)
{
    if (depth > w->lim.max_depth)
        return wn_fail(w->err, WINNOW_E_TOO_LARGE, "%s: folders more than %u deep", w->what, w->lim.max_depth);
    WN_CLEANUP(names_done) struct names names = { 0 };
    WN_TRY(list_folder(w, fd, &names));
    for (size_t i = 0; i < names.v.n; i++)
        WN_TRY(walk_one(w, fd, names.v.at[i], prefix, depth));
    return WINNOW_OK;
}

/* ---- entry ---- */

enum winnow_status wn_source_walk(const char *path, const struct wn_source_limits *limits,
                                  const struct wn_source_sink *sink, struct winnow_err *err)
{
    struct stat st;
    WN_CLEANUP(wn_closep) int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0)
        return wn_fail_errno(err, errno, "the data '%s'", path);
    const char *slash = strrchr(path, '/');
    struct winnow_err local;
    struct walk w = {
        .lim = defaults(limits), .sink = sink, .err = err ? err : &local, .what = slash && slash[1] ? slash + 1 : path
    };
    enum winnow_status status;
    if (S_ISDIR(st.st_mode)) {
        status = walk_folder(&w, fd, "", 0);
    } else if (S_ISREG(st.st_mode)) {
        w.packed = (uint64_t)st.st_size + 1;
        status = walk_file(&w, fd);
    } else {
        status = wn_fail(err, WINNOW_E_MALFORMED, "the data '%s' is neither a file nor a folder", path);
    }
    wn_vec_done(&w.buf);
    return status;
}

enum winnow_status wn_source_walk_memory(const void *bytes, size_t n, const struct wn_source_limits *limits,
                                         const struct wn_source_sink *sink, struct winnow_err *err)
{
    struct winnow_err local;
    struct walk w = {
        .lim = defaults(limits), .sink = sink, .err = err ? err : &local, .what = "archive", .packed = n + 1
    };
    WN_CLEANUP(archive_freep) struct archive *a = new_archive();
    if (!a)
        return wn_fail(err, WINNOW_E_NOMEM, "archive");
    enum winnow_status status =
        archive_read_open_memory(a, bytes, n) == ARCHIVE_OK ? walk_archive(&w, a) : archive_fault(&w, a);
    wn_vec_done(&w.buf);
    return status;
}
