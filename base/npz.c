/* npz.c: .npz through libarchive's zip reader and writer.
 *
 * DESIGN  A member's unpacked size as the zip states it is a hint only: bytes are counted as they come, and reading
 * stops at the limit, so a bomb costs no more than the limit. Considered: seeking to one member only. Not worth it:
 * every caller wants all arrays, and streaming needs no trust in the central directory. */
#include "base/npz.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"
#include "base/vec.h"

#define DEFAULT_ARRAYS 4096
#define DEFAULT_BYTES  ((size_t)2 << 30)
#define READ_PIECE     (64u << 10)
#define FIRST_ROOM     (16u << 20) /* the most we allocate on a zip's word */

/* ---- reading ---- */
struct reader {
    struct archive *zip;
    const char *file;
    struct winnow_err *err;
    size_t left_bytes, max_bytes;
    size_t max_arrays;
};

static void read_freep(struct archive **a)
{
    if (*a)
        archive_read_free(*a);
}

static enum winnow_status zip_error(const struct reader *r, const char *what)
{
    const char *text = archive_error_string(r->zip);
    return wn_fail(r->err, WINNOW_E_MALFORMED, "%s: %s: %s", r->file, what, text ? text : "broken zip");
}

/* Name of the array, without ".npy", malloc'ed. */
static enum winnow_status member_name(const struct reader *r, struct archive_entry *entry, char **ret_name)
{
    const char *name = archive_entry_pathname(entry);
    if (!name) /* not ASCII, and the locale cannot say it */
        name = archive_entry_pathname_utf8(entry);
    size_t n = name ? strlen(name) : 0;
    if (n < 5 || strcmp(name + n - 4, ".npy") != 0)
        return wn_fail(r->err, WINNOW_E_MALFORMED, "%s: member '%.80s' is not an .npy array", r->file,
                       name ? name : "?");
    if (n - 4 > WN_NPZ_MAX_NAME)
        return wn_fail(r->err, WINNOW_E_TOO_LARGE, "%s: a name of %zu bytes", r->file, n - 4);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f)
            return wn_fail(r->err, WINNOW_E_MALFORMED, "%s: a name with control characters", r->file);
    if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry) || archive_entry_symlink(entry))
        return wn_fail(r->err, WINNOW_E_MALFORMED, "%s: member '%.80s' is not a file", r->file, name);
    if (archive_entry_is_encrypted(entry))
        return wn_fail(r->err, WINNOW_E_UNSUPPORTED, "%s: member '%.80s' is encrypted", r->file, name);
    *ret_name = wn_strdup(name);
    if (!*ret_name)
        return wn_fail(r->err, WINNOW_E_NOMEM, "%s", r->file);
    (*ret_name)[n - 4] = '\0';
    return WINNOW_OK;
}

/* Bytes of the present member from its start; stops past the limit. */
static enum winnow_status member_bytes(struct reader *r, struct archive_entry *entry, const char *name,
                                       unsigned char **ret_bytes, size_t *ret_n)
{
    size_t room = FIRST_ROOM, n = 0;
    if (archive_entry_size_is_set(entry) && archive_entry_size(entry) < (int64_t)FIRST_ROOM)
        room = (size_t)WN_MAX(archive_entry_size(entry), (int64_t)0);
    room = WN_MIN(room, r->left_bytes) + 1; /* the 1 finds the end without growing */
    WN_CLEANUP(wn_freep) unsigned char *buf = malloc(room);
    if (!buf)
        return wn_fail(r->err, WINNOW_E_NOMEM, "%s: array '%s'", r->file, name);
    for (;;) {
        la_ssize_t got = archive_read_data(r->zip, buf + n, room - n);
        if (got < 0)
            return zip_error(r, name);
        if (got == 0)
            break;
        n += (size_t)got;
        if (n > r->left_bytes)
            return wn_fail(r->err, WINNOW_E_TOO_LARGE, "%s: arrays need more than %zu bytes", r->file, r->max_bytes);
        if (n == room) {
            size_t more = WN_MIN(WN_MAX(room, (size_t)READ_PIECE), r->left_bytes + 1 - n);
            unsigned char *bigger = realloc(buf, room + more);
            if (!bigger)
                return wn_fail(r->err, WINNOW_E_NOMEM, "%s: array '%s'", r->file, name);
            buf = bigger;
            room += more;
        }
    }
    r->left_bytes -= n;
    *ret_bytes = WN_TAKE(buf);
    *ret_n = n;
    return WINNOW_OK;
}

static enum winnow_status member_array(struct reader *r, struct archive_entry *entry, const char *name,
                                       struct wn_npy *ret)
{
    WN_CLEANUP(wn_freep) unsigned char *bytes = NULL;
    size_t n = 0, header = 0;
    struct wn_npy a;
    WN_TRY(member_bytes(r, entry, name, &bytes, &n));
    enum winnow_status status = wn_npy_parse_header(bytes, n, name, &a, &header, r->err);
    if (status != WINNOW_OK)
        return wn_fail_at(r->err, status, "%s", r->file);
    if (n - header != a.bytes)
        return wn_fail(r->err, WINNOW_E_MALFORMED, "%s: npy '%s': %zu bytes of data where the shape needs %zu", r->file,
                       name, n - header, a.bytes);
    memmove(bytes, bytes + header, a.bytes); /* to where malloc aligned it */
    unsigned char *fit = realloc(bytes, WN_MAX(a.bytes, (size_t)1));
    bytes = fit ? fit : bytes;
    a.data = bytes;
    if (!wn_npy_bools_valid(&a))
        return wn_fail(r->err, WINNOW_E_MALFORMED, "%s: npy '%s': a boolean that is neither 0 nor 1", r->file, name);
    (void)WN_TAKE(bytes);
    *ret = a;
    return WINNOW_OK;
}

static enum winnow_status read_member(struct reader *r, struct archive_entry *entry, struct wn_npz *npz)
{
    if (npz->n == r->max_arrays)
        return wn_fail(r->err, WINNOW_E_TOO_LARGE, "%s: more than %zu arrays", r->file, r->max_arrays);
    WN_CLEANUP(wn_freep) char *name = NULL;
    WN_TRY(member_name(r, entry, &name));
    if (wn_npz_find(npz, name))
        return wn_fail(r->err, WINNOW_E_MALFORMED, "%s: two arrays are called '%s'", r->file, name);
    struct wn_npy a;
    enum winnow_status status = member_array(r, entry, name, &a);
    if (status != WINNOW_OK)
        return status;
    if ((npz->n == npz->cap && !wn_vec_grow(&npz->array, &npz->cap, npz->n + 1, sizeof *npz->array))) {
        wn_npy_done(&a);
        return wn_fail(r->err, WINNOW_E_NOMEM, "%s", r->file);
    }
    npz->array[npz->n++] = (struct wn_npz_array){ WN_TAKE(name), a };
    return WINNOW_OK;
}

static enum winnow_status read_all(struct reader *r, struct wn_npz *npz)
{
    for (;;) {
        struct archive_entry *entry;
        int rc = archive_read_next_header(r->zip, &entry);
        if (rc == ARCHIVE_EOF)
            return WINNOW_OK;
        if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN)
            return zip_error(r, "reading the zip");
        WN_TRY(read_member(r, entry, npz));
    }
}

static enum winnow_status run_reader(struct reader *r, const struct wn_npz_limits *limits, struct wn_npz *ret)
{
    r->max_arrays = limits && limits->max_arrays ? limits->max_arrays : DEFAULT_ARRAYS;
    r->max_bytes = limits && limits->max_bytes ? WN_MIN(limits->max_bytes, SIZE_MAX / 4) : DEFAULT_BYTES;
    r->left_bytes = r->max_bytes;
    struct wn_npz npz = { 0 };
    enum winnow_status status = read_all(r, &npz);
    if (status == WINNOW_OK)
        *ret = npz;
    else
        wn_npz_done(&npz);
    return status;
}

enum winnow_status wn_npz_parse(const void *bytes, size_t n, const char *name, const struct wn_npz_limits *limits,
                                struct wn_npz *ret, struct winnow_err *err)
{
    WN_CLEANUP(read_freep) struct archive *zip = archive_read_new();
    struct reader r = { .zip = zip, .file = name, .err = err };
    if (!zip)
        return wn_fail(err, WINNOW_E_NOMEM, "%s", name);
    if (archive_read_support_format_zip(zip) != ARCHIVE_OK || archive_read_open_memory(zip, bytes, n) != ARCHIVE_OK)
        return zip_error(&r, "opening the zip");
    return run_reader(&r, limits, ret);
}

enum winnow_status wn_npz_read(const char *path, const struct wn_npz_limits *limits, struct wn_npz *ret,
                               struct winnow_err *err)
{
    if (access(path, R_OK) < 0)
        return wn_fail_errno(err, errno, "opening '%s'", path);
    WN_CLEANUP(read_freep) struct archive *zip = archive_read_new();
    struct reader r = { .zip = zip, .file = path, .err = err };
    if (!zip)
        return wn_fail(err, WINNOW_E_NOMEM, "%s", path);
    if (archive_read_support_format_zip(zip) != ARCHIVE_OK ||
        archive_read_open_filename(zip, path, READ_PIECE) != ARCHIVE_OK)
        return zip_error(&r, "opening the zip");
    return run_reader(&r, limits, ret);
}

struct wn_npy *wn_npz_find(const struct wn_npz *npz, const char *name)
{
    for (size_t i = 0; i < npz->n; i++)
        if (strcmp(npz->array[i].name, name) == 0)
            return &npz->array[i].npy;
    return NULL;
}

void wn_npz_done(struct wn_npz *npz)
{
    for (size_t i = 0; i < npz->n; i++) {
        free(npz->array[i].name);
        wn_npy_done(&npz->array[i].npy);
    }
    free(npz->array);
    *npz = (struct wn_npz){ 0 };
}

/* ---- writing ---- */
struct wn_npz_writer {
    struct archive *zip;
    struct archive_entry *entry;
    char *path, *temp;
    size_t left; /* bytes of the present array still to come */
    bool direct; /* into a device or a pipe: temp is the path itself */
    bool finished;
};

static void writer_freep(struct wn_npz_writer **w)
{
    wn_npz_writer_free(*w);
}

static enum winnow_status write_error(const struct wn_npz_writer *w, struct winnow_err *err)
{
    int errnum = archive_errno(w->zip);
    if (errnum > 0)
        return wn_fail_errno(err, errnum, "writing '%s'", w->temp);
    const char *text = archive_error_string(w->zip);
    return wn_fail(err, WINNOW_E_IO, "writing '%s': %s", w->temp, text ? text : "zip writer failed");
}

/* Something that a rename must not take the place of: /dev/null, a pipe. */
static bool is_special(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode);
}

enum winnow_status wn_npz_writer_new(const char *path, struct wn_npz_writer **ret, struct winnow_err *err)
{
    WN_CLEANUP(writer_freep) struct wn_npz_writer *w = calloc(1, sizeof *w);
    if (!w)
        return wn_fail(err, WINNOW_E_NOMEM, "writing '%s'", path);
    w->path = wn_strdup(path);
    w->entry = archive_entry_new();
    w->zip = archive_write_new();
    w->direct = is_special(path);
    char *temp = w->direct ? wn_strdup(path) : wn_asprintf("%s.tmp-%ld", path, (long)getpid());
    if (!w->path || !w->entry || !w->zip || !temp) {
        free(temp);
        return wn_fail(err, WINNOW_E_NOMEM, "writing '%s'", path);
    }
    w->temp = temp;
    if (archive_write_set_format_zip(w->zip) != ARCHIVE_OK || archive_write_zip_set_compression_store(w->zip) ||
        archive_write_set_bytes_in_last_block(w->zip, 1) != ARCHIVE_OK || /* a pipe is not filled up with zeros */
        archive_write_open_filename(w->zip, w->temp) != ARCHIVE_OK)
        return write_error(w, err);
    *ret = WN_TAKE(w);
    return WINNOW_OK;
}

enum winnow_status wn_npz_writer_begin(struct wn_npz_writer *w, const char *name, const struct wn_npy *a,
                                       struct winnow_err *err)
{
    char header[WN_NPY_HEADER_ROOM], member[WN_NPZ_MAX_NAME + 5];
    size_t n = wn_npy_format_header(a, header);
    if (w->left)
        return wn_fail(err, WINNOW_E_INTERNAL, "'%s': an array lacks %zu bytes", w->path, w->left);
    if (!*name || strlen(name) > WN_NPZ_MAX_NAME)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "'%s': array name of %zu bytes", w->path, strlen(name));
    snprintf(member, sizeof member, "%s.npy", name);
    archive_entry_clear(w->entry);
    archive_entry_set_pathname(w->entry, member);
    archive_entry_set_filetype(w->entry, AE_IFREG);
    archive_entry_set_perm(w->entry, 0644);
    archive_entry_set_size(w->entry, (int64_t)(n + a->bytes));
    if (archive_write_header(w->zip, w->entry) < ARCHIVE_WARN || archive_write_data(w->zip, header, n) != (la_ssize_t)n)
        return write_error(w, err);
    w->left = a->bytes;
    return WINNOW_OK;
}

enum winnow_status wn_npz_writer_data(struct wn_npz_writer *w, const void *bytes, size_t n, struct winnow_err *err)
{
    if (n > w->left)
        return wn_fail(err, WINNOW_E_INTERNAL, "'%s': %zu bytes too many for an array", w->path, n - w->left);
    const char *p = bytes;
    while (n) {
        la_ssize_t put = archive_write_data(w->zip, p, WN_MIN(n, (size_t)1 << 30));
        if (put <= 0)
            return write_error(w, err);
        p += put;
        n -= (size_t)put;
        w->left -= (size_t)put;
    }
    return WINNOW_OK;
}

enum winnow_status wn_npz_writer_add(struct wn_npz_writer *w, const char *name, const struct wn_npy *a,
                                     struct winnow_err *err)
{
    WN_TRY(wn_npz_writer_begin(w, name, a, err));
    return wn_npz_writer_data(w, a->data, a->bytes, err);
}

/* fsync the temporary file, rename it, fsync the folder. */
static enum winnow_status publish(const char *temp, const char *path, struct winnow_err *err)
{
    WN_CLEANUP(wn_closep) int fd = open(temp, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return wn_fail_errno(err, errno, "syncing '%s'", temp);
    if (rename(temp, path) < 0)
        return wn_fail_errno(err, errno, "renaming '%s' to '%s'", temp, path);
    return wn_dir_sync_parent(path, err);
}

enum winnow_status wn_npz_writer_finish(struct wn_npz_writer *w, struct winnow_err *err)
{
    if (w->left)
        return wn_fail(err, WINNOW_E_INTERNAL, "'%s': an array lacks %zu bytes", w->path, w->left);
    if (archive_write_close(w->zip) != ARCHIVE_OK)
        return write_error(w, err);
    if (!w->direct)
        WN_TRY(publish(w->temp, w->path, err));
    w->finished = true;
    return WINNOW_OK;
}

void wn_npz_writer_free(struct wn_npz_writer *w)
{
    if (!w)
        return;
    if (w->zip)
        archive_write_free(w->zip);
    if (w->entry)
        archive_entry_free(w->entry);
    if (w->temp && !w->finished && !w->direct)
        unlink(w->temp);
    free(w->temp);
    free(w->path);
    free(w);
}

enum winnow_status wn_npz_write(const char *path, const struct wn_npz *npz, struct winnow_err *err)
{
    WN_CLEANUP(writer_freep) struct wn_npz_writer *w = NULL;
    WN_TRY(wn_npz_writer_new(path, &w, err));
    for (size_t i = 0; i < npz->n; i++)
        WN_TRY(wn_npz_writer_add(w, npz->array[i].name, &npz->array[i].npy, err));
    return wn_npz_writer_finish(w, err);
}
