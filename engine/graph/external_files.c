/* external_files.c: which files beside a model its tensors lie in, and copying them, without reading the model.
 *
 * DESIGN  A model is carried about (into a job's folder, to a result's place) more often than it is read, and by
 * programs that have no room for it: a master is four times what serves. So the file is walked where it lies, through a
 *         window: fields that are no messages are stepped over unseen, and of messages only the entries that say where
 * a tensor's data is are looked at. What the reader would refuse may pass here; what it would accept passes, and every
 * name that it would open is told (tests/fuzz/fuzz_onnx.c compares the two). Considered: the reader's own pre-scan,
 * which wants the whole file in memory. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"
#include "base/strmap.h"
#include "base/tree.h"
#include "engine/graph/external.h"
#include "winnow/winnow.h"

#define WINDOW      (64u << 10)
#define DEPTH       256u /* as onnx_scan.c's cap */
#define TENSOR_DATA 13   /* TensorProto.external_data */
#define ENTRY_KEY   1
#define ENTRY_VALUE 2
#define MAX_BYTES   ((uint64_t)16 << 30)

/* ---- the file, through a window ---- */

struct window {
    int fd;
    uint64_t at;    /* the next byte */
    uint64_t first; /* of the window, in the file */
    size_t n;       /* bytes in it */
    int error;      /* of reading */
    uint8_t buf[WINDOW];
};

static bool next_byte(struct window *w, uint8_t *ret)
{
    if (w->at - w->first >= w->n || w->at < w->first) {
        ssize_t got;
        do
            got = pread(w->fd, w->buf, sizeof w->buf, (off_t)w->at);
        while (got < 0 && errno == EINTR);
        if (got < 0)
            w->error = errno;
        if (got <= 0)
            return false;
        w->first = w->at;
        w->n = (size_t)got;
    }
    *ret = w->buf[w->at++ - w->first];
    return true;
}

static bool next_varint(struct window *w, uint64_t *ret)
{
    uint8_t part[10];
    const uint8_t *p = part;
    for (size_t n = 0; n < sizeof part && next_byte(w, &part[n]); n++)
        if (!(part[n] & 0x80))
            return wn_wire_varint(&p, part + n + 1, ret);
    return false;
}

/* ---- walking ---- */

struct frame {
    const ProtobufCMessageDescriptor *desc;
    uint32_t field; /* of the message around it */
    uint64_t end;
};

struct walk {
    struct window w;
    unsigned depth;
    struct frame frame[DEPTH];
    bool is_location; /* the entry being read has the key "location" */
    enum { NO_VALUE, TOO_LONG, VALUE } has;
    char value[PATH_MAX];    /* of that entry */
    char location[PATH_MAX]; /* of the tensor being read; "": not said */
    struct wn_strmap seen;
    struct wn_names *names;
};

static enum winnow_status broken(const struct walk *k, struct winnow_err *err)
{
    if (k->w.error)
        return wn_fail_errno(err, k->w.error, "reading it");
    return wn_fail(err, WINNOW_E_MALFORMED, "not an ONNX file, or cut short: broken %s at byte %llu",
                   k->frame[k->depth - 1].desc->short_name, (unsigned long long)k->w.at);
}

static bool is_entry(const struct walk *k)
{
    return k->depth > 1 && k->frame[k->depth - 1].field == TENSOR_DATA &&
           k->frame[k->depth - 2].desc == &onnx__tensor_proto__descriptor;
}

/* The n bytes that come next, with a NUL behind them. */
static enum winnow_status read_text(struct walk *k, size_t n, char *to, struct winnow_err *err)
{
    for (size_t i = 0; i < n; i++) {
        uint8_t c;
        if (!next_byte(&k->w, &c))
            return broken(k, err);
        to[i] = (char)c;
    }
    to[n] = '\0';
    return WINNOW_OK;
}

/* A field of an entry, whose key may come behind its value. */
static enum winnow_status read_entry(struct walk *k, uint32_t field, uint64_t n, struct winnow_err *err)
{
    static const char location[] = "location";
    char key[sizeof location];
    if (field == ENTRY_VALUE && n < sizeof k->value) {
        k->has = VALUE;
        return read_text(k, (size_t)n, k->value, err);
    }
    if (field == ENTRY_KEY && n == sizeof location - 1) {
        WN_TRY(read_text(k, (size_t)n, key, err));
        k->is_location = strcmp(key, location) == 0;
        return WINNOW_OK;
    }
    k->is_location &= field != ENTRY_KEY;
    if (field == ENTRY_VALUE)
        k->has = TOO_LONG;
    k->w.at += n;
    return WINNOW_OK;
}

static enum winnow_status note(struct walk *k, struct winnow_err *err)
{
    size_t n = strlen(k->location);
    if (wn_strmap_get(&k->seen, k->location, n))
        return WINNOW_OK;
    if (k->names->list.n >= WN_EXTERNAL_FILES)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "data in more than %d files", WN_EXTERNAL_FILES);
    const char *name = wn_arena_strndup(&k->names->arena, k->location, n);
    if (!name || !wn_vec_push(&k->names->list, name) || !wn_strmap_set(&k->seen, name, n, k))
        return wn_fail(err, WINNOW_E_NOMEM, "names of files");
    return WINNOW_OK;
}

static enum winnow_status leave(struct walk *k, struct winnow_err *err)
{
    if (is_entry(k) && k->is_location && k->has == TOO_LONG)
        return wn_fail(err, WINNOW_E_MALFORMED, "a file's name of more than %zu bytes", sizeof k->value - 1);
    if (is_entry(k) && k->is_location && k->has == VALUE)
        memcpy(k->location, k->value, sizeof k->value);
    bool tensor = k->frame[k->depth - 1].desc == &onnx__tensor_proto__descriptor;
    k->depth--;
    if (tensor && *k->location)
        WN_TRY(note(k, err));
    return WINNOW_OK;
}

static enum winnow_status enter(struct walk *k, const ProtobufCFieldDescriptor *fd, uint64_t n, struct winnow_err *err)
{
    const ProtobufCMessageDescriptor *desc = fd->descriptor;
    if (k->depth == DEPTH)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "messages nested deeper than %u", DEPTH);
    k->frame[k->depth++] = (struct frame){ desc, fd->id, k->w.at + n };
    if (desc == &onnx__tensor_proto__descriptor)
        k->location[0] = '\0';
    k->is_location = false;
    k->has = NO_VALUE;
    return WINNOW_OK;
}

/* A field with a length: what of it is looked at, and where the walk goes on. */
static enum winnow_status take(struct walk *k, uint32_t field, uint64_t n, struct winnow_err *err)
{
    const struct frame *f = &k->frame[k->depth - 1];
    if (n > f->end - k->w.at)
        return broken(k, err);
    if (is_entry(k))
        return read_entry(k, field, n, err);
    const ProtobufCFieldDescriptor *fd = protobuf_c_message_descriptor_get_field(f->desc, field);
    if (fd && fd->type == PROTOBUF_C_TYPE_MESSAGE)
        return enter(k, fd, n, err);
    k->w.at += n;
    return WINNOW_OK;
}

static enum winnow_status step(struct walk *k, struct winnow_err *err)
{
    uint64_t tag, v, end = k->frame[k->depth - 1].end;
    if (!next_varint(&k->w, &tag) || tag > UINT32_MAX || tag >> 3 == 0)
        return broken(k, err);
    switch (tag & 7) {
    case 0:
    case 2:
        if (!next_varint(&k->w, &v) || k->w.at > end)
            return broken(k, err);
        return (tag & 7) == 2 ? take(k, (uint32_t)(tag >> 3), v, err) : WINNOW_OK;
    case 1:
    case 5:
        k->w.at += (tag & 7) == 1 ? 8 : 4;
        return k->w.at > end ? broken(k, err) : WINNOW_OK;
    default:
        return broken(k, err);
    }
}

static void walk_freep(struct walk **k)
{
    if (*k)
        wn_strmap_done(&(*k)->seen);
    free(*k);
}

void wn_names_done(struct wn_names *names)
{
    wn_vec_done(&names->list);
    wn_arena_done(&names->arena);
}

enum winnow_status wn_external_names(int fd, struct wn_names *names, struct winnow_err *err)
{
    struct stat st;
    WN_CLEANUP(walk_freep) struct walk *k = calloc(1, sizeof *k);
    if (!k)
        return wn_fail(err, WINNOW_E_NOMEM, "names of files");
    if (fstat(fd, &st) != 0)
        return wn_fail_errno(err, errno, "looking at it");
    if (!S_ISREG(st.st_mode))
        return wn_fail(err, WINNOW_E_MALFORMED, "not a regular file");
    k->w.fd = fd;
    k->names = names;
    k->depth = 1;
    k->frame[0] = (struct frame){ &onnx__model_proto__descriptor, 0, (uint64_t)st.st_size };
    while (k->depth)
        if (k->w.at == k->frame[k->depth - 1].end)
            WN_TRY(leave(k, err));
        else
            WN_TRY(step(k, err));
    return WINNOW_OK;
}

/* ---- the API ---- */

static void external_done(struct wn_external *x)
{
    wn_external_done(x);
}

/* The names in the file `path`, and the bytes of all those files; *x is to open them below *ret_folder, which the
 * caller frees. */
static enum winnow_status names_of(const char *path, struct wn_names *names, struct wn_external *x, char **ret_folder,
                                   uint64_t *ret_bytes, struct winnow_err *err)
{
    WN_CLEANUP(wn_closep) int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return wn_fail_errno(err, errno, "opening '%s'", path);
    *ret_folder = wn_file_folder(path);
    if (!*ret_folder)
        return wn_fail(err, WINNOW_E_NOMEM, "'%s'", path);
    wn_external_init(x, *ret_folder, 0, NULL);
    wn_arena_init(&names->arena, 0);
    enum winnow_status status = wn_external_names(fd, names, err);
    *ret_bytes = 0;
    for (size_t i = 0; i < names->list.n && status == WINNOW_OK; i++) {
        status = wn_external_open(x, names->list.at[i], err);
        *ret_bytes += status == WINNOW_OK ? x->size : 0;
    }
    return status == WINNOW_OK ? status : wn_fail_at(err, status, "'%.*s'", WN_CLIP(path));
}

enum winnow_status winnow_external_list(const char *path, char ***ret_names, uint64_t *ret_bytes,
                                        struct winnow_err *err)
{
    uint64_t bytes;
    WN_CLEANUP(wn_freep) char *folder = NULL;
    WN_CLEANUP(external_done) struct wn_external x = { .dir = -1, .file = -1 };
    WN_CLEANUP(wn_names_done) struct wn_names names = { 0 };
    WN_TRY(names_of(path, &names, &x, &folder, &bytes, err));
    size_t head = (names.list.n + 1) * sizeof(char *), total = head;
    for (size_t i = 0; i < names.list.n; i++)
        total += strlen(names.list.at[i]) + 1;
    char **all = malloc(total), *to = (char *)all + head;
    if (!all)
        return wn_fail(err, WINNOW_E_NOMEM, "'%s'", path);
    for (size_t i = 0; i < names.list.n; i++) {
        size_t n = strlen(names.list.at[i]) + 1;
        all[i] = memcpy(to, names.list.at[i], n);
        to += n;
    }
    all[names.list.n] = NULL;
    *ret_names = all;
    if (ret_bytes)
        *ret_bytes = bytes;
    return WINNOW_OK;
}

/* Whether two files have the same content; both are read from where they stand to their ends. */
static bool same_content(int a, int b)
{
    WN_CLEANUP(wn_freep) char *buf = malloc(2 * WINDOW);
    for (;;) {
        ssize_t n = buf ? read(a, buf, WINDOW) : -1, m = 0;
        for (ssize_t got = 1; n > 0 && m < n && got > 0; m += WN_MAX(got, 0))
            got = read(b, buf + WINDOW + m, (size_t)(n - m));
        if (n < 0 || m != n || memcmp(buf, buf + WINDOW, (size_t)n) != 0)
            return false;
        if (n == 0)
            return read(b, buf, 1) == 0;
    }
}

/* The file that x has open, as `to`/`name`. */
static enum winnow_status copy_open(const struct wn_external *x, const char *name, const char *to, uint64_t max_bytes,
                                    struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *from = wn_asprintf("%s/%s", x->folder, name);
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/%s", to, name);
    WN_CLEANUP(wn_freep) char *folder = path ? wn_file_folder(path) : NULL;
    if (!from || !folder)
        return wn_fail(err, WINNOW_E_NOMEM, "copying '%.*s'", WN_CLIP(name));
    WN_CLEANUP(wn_closep) int there = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (there >= 0)
        return same_content(x->file, there)
                   ? WINNOW_OK
                   : wn_fail(err, WINNOW_E_CONFLICT, "its data file '%.*s' would replace another", WN_CLIP(name));
    WN_TRY(wn_tree_make(folder, err));
    WN_TRY(wn_tree_copy_fd(x->file, from, path, max_bytes, err));
    return wn_dir_sync(folder, err);
}

enum winnow_status winnow_external_copy(const char *path, const char *to, uint64_t max_bytes, struct winnow_err *err)
{
    uint64_t bytes, max = max_bytes ? max_bytes : MAX_BYTES;
    WN_CLEANUP(wn_freep) char *folder = NULL;
    WN_CLEANUP(external_done) struct wn_external x = { .dir = -1, .file = -1 };
    WN_CLEANUP(wn_names_done) struct wn_names names = { 0 };
    WN_TRY(names_of(path, &names, &x, &folder, &bytes, err));
    if (bytes > max)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "'%.*s': its data files have %llu bytes, the limit is %llu",
                       WN_CLIP(path), (unsigned long long)bytes, (unsigned long long)max);
    for (size_t i = 0; i < names.list.n; i++) {
        enum winnow_status status = wn_external_open(&x, names.list.at[i], err);
        if (status == WINNOW_OK)
            status = copy_open(&x, names.list.at[i], to, max, err);
        if (status != WINNOW_OK)
            return wn_fail_at(err, status, "'%.*s'", WN_CLIP(path));
    }
    return WINNOW_OK;
}
