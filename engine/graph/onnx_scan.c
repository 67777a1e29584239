/* onnx_scan.c: the pre-scan of an ONNX file.
 *
 * DESIGN  protobuf-c's unpack recurses without limit and turns 2 bytes of file into 150 bytes of heap, and it copies
 *         every byte of weights. So nothing reaches it unchecked: one pass over the wire format, driven by protobuf-c's
 *         own descriptors and with a stack of its own, counts messages and their nesting, checks strings, drops unknown
 *         fields and doc strings, and writes a skeleton without tensor data. Only that is unpacked, on a heap with a
 *         budget. In the skeleton, raw_data of a TensorProto holds the place of the whole TensorProto in the file;
 *         onnx_tensor.c walks it again when the tensor is wanted, so that no list of chunks has to be kept.
 *         A message's new length is not known when it begins: it gets five bytes of padded varint, filled in at its
 * end. */
#include "engine/graph/onnx_scan.h"

#include <stdlib.h>
#include <string.h>

#define DEPTH_CAP 256u /* protobuf-c needs about 1 KiB of stack per level */
#define LEN_BYTES 5u   /* of a padded length: 35 bits */

enum {
    TENSOR_FLOAT_DATA = 4,
    TENSOR_INT32_DATA = 5,
    TENSOR_STRING_DATA = 6,
    TENSOR_INT64_DATA = 7,
    TENSOR_RAW_DATA = 9,
    TENSOR_DOUBLE_DATA = 10,
    TENSOR_UINT64_DATA = 11,
};

struct wn_onnx_limits wn_onnx_limits_or_default(const struct wn_onnx_limits *limits)
{
    struct wn_onnx_limits lim = limits ? *limits : (struct wn_onnx_limits){ 0 };
    if (!lim.max_file_bytes)
        lim.max_file_bytes = (size_t)2 << 30;
    if (!lim.max_skeleton)
        lim.max_skeleton = (size_t)256 << 20;
    if (!lim.max_depth)
        lim.max_depth = 64;
    if (lim.max_depth > DEPTH_CAP)
        lim.max_depth = DEPTH_CAP;
    if (!lim.max_messages)
        lim.max_messages = 1000000;
    if (!lim.max_external)
        lim.max_external = (size_t)16 << 30;
    return lim;
}

int wn_onnx_clip(const char *s)
{
    size_t n = strnlen(s, 81);
    if (n <= 80)
        return (int)n;
    for (n = 80; n > 0 && ((unsigned char)s[n] & 0xc0) == 0x80;)
        n--;
    return (int)n;
}

/* ---- the wire ---- */

bool wn_wire_varint(const uint8_t **p, const uint8_t *end, uint64_t *ret)
{
    uint64_t v = 0;
    const uint8_t *q = *p;
    for (unsigned shift = 0; shift < 70 && q < end; shift += 7) {
        uint8_t b = *q++;
        if (shift == 63 && b > 1)
            return false;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80)) {
            *p = q;
            *ret = v;
            return true;
        }
    }
    return false;
}

static uint64_t read_le(const uint8_t *p, unsigned n)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < n; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

bool wn_wire_next(const uint8_t **p, const uint8_t *end, struct wn_wire *ret)
{
    uint64_t tag, len;
    const uint8_t *q = *p;
    if (!wn_wire_varint(&q, end, &tag) || tag > UINT32_MAX || tag >> 3 == 0)
        return false;
    *ret = (struct wn_wire){ .field = (uint32_t)(tag >> 3), .type = tag & 7 };
    switch (ret->type) {
    case 0:
        if (!wn_wire_varint(&q, end, &ret->v))
            return false;
        break;
    case 1:
    case 5: {
        unsigned n = ret->type == 1 ? 8 : 4;
        if ((size_t)(end - q) < n)
            return false;
        ret->v = read_le(q, n);
        q += n;
        break;
    }
    case 2:
        if (!wn_wire_varint(&q, end, &len) || len > (uint64_t)(end - q))
            return false;
        ret->data = q;
        ret->len = (size_t)len;
        q += len;
        break;
    default: /* groups are not part of ONNX */
        return false;
    }
    *p = q;
    return true;
}

/* Valid UTF-8 (shortest form, no surrogates) without NUL. */
static bool good_string(const uint8_t *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        uint8_t c = s[i];
        if (c < 0x80) {
            if (c == 0)
                return false;
            i++;
            continue;
        }
        unsigned more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
        static const uint32_t least[] = { 0, 0x80, 0x800, 0x10000 };
        if (c < 0xc2 || c > 0xf4 || n - i <= more)
            return false;
        uint32_t cp = c & (0x3fu >> more);
        for (unsigned k = 1; k <= more; k++) {
            if ((s[i + k] & 0xc0) != 0x80)
                return false;
            cp = cp << 6 | (s[i + k] & 0x3f);
        }
        if (cp < least[more] || cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff))
            return false;
        i += more + 1;
    }
    return true;
}

/* ---- a heap with a budget, for protobuf-c ---- */

/* Small pieces are cut from blocks and live until the end; large ones (protobuf-c's own scan tables) are given back. */
#define SMALL 1024u
#define BLOCK (256u << 10)

struct big {
    struct big *prev, *next;
    size_t size;
    size_t tag; /* directly before the piece: its size, or 0 for a small one */
};

struct wn_onnx_heap {
    size_t left; /* budget in bytes */
    struct big bigs;
    struct block {
        struct block *next;
        size_t used;
        _Alignas(16) unsigned char data[BLOCK];
    } * blocks;
};

static void *heap_big(struct wn_onnx_heap *heap, size_t size)
{
    size_t need;
    if (!wn_add_size(size, sizeof(struct big), &need) || need > heap->left)
        return NULL;
    struct big *b = malloc(need);
    if (!b)
        return NULL;
    heap->left -= need;
    b->size = b->tag = need;
    b->prev = &heap->bigs;
    b->next = heap->bigs.next;
    if (b->next)
        b->next->prev = b;
    heap->bigs.next = b;
    return b + 1;
}

static void *heap_alloc(void *arg, size_t size)
{
    struct wn_onnx_heap *heap = arg;
    if (size > SMALL)
        return heap_big(heap, size);
    size_t need = wn_round_up(size, 16) + 16;
    if (!heap->blocks || BLOCK - heap->blocks->used < need) {
        if (heap->left < sizeof(struct block))
            return NULL;
        struct block *block = malloc(sizeof *block);
        if (!block)
            return NULL;
        heap->left -= sizeof *block;
        block->next = heap->blocks;
        block->used = 0;
        heap->blocks = block;
    }
    unsigned char *p = heap->blocks->data + heap->blocks->used;
    heap->blocks->used += need;
    memset(p, 0, 16);
    return p + 16;
}

static void heap_free(void *arg, void *p)
{
    struct wn_onnx_heap *heap = arg;
    size_t tag;
    if (!p)
        return;
    memcpy(&tag, (unsigned char *)p - sizeof tag, sizeof tag);
    if (!tag)
        return;
    struct big *b = (struct big *)p - 1;
    b->prev->next = b->next;
    if (b->next)
        b->next->prev = b->prev;
    heap->left += b->size;
    free(b);
}

static void heap_done(struct wn_onnx_heap *heap)
{
    if (!heap)
        return;
    while (heap->bigs.next)
        heap_free(heap, heap->bigs.next + 1);
    for (struct block *b = heap->blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(heap);
}

void wn_onnx_skeleton_done(struct wn_onnx_skeleton *skeleton)
{
    heap_done(skeleton->heap);
    *skeleton = (struct wn_onnx_skeleton){ 0 };
}

/* ---- the scan ---- */

struct frame {
    const ProtobufCMessageDescriptor *desc;
    const uint8_t *begin, *end; /* the message in the file */
    size_t len_at;              /* where its length stands in the skeleton */
    uint64_t seen;              /* singular messages met, by index of the field */
};

struct scan {
    const struct wn_onnx_limits *lim;
    const uint8_t *bytes;
    WN_VEC(uint8_t) out;
    unsigned n_messages, depth;
    struct frame frame[DEPTH_CAP];
};

static enum winnow_status put(struct scan *s, const void *p, size_t n, struct winnow_err *err)
{
    if (n > s->lim->max_skeleton || s->out.n > s->lim->max_skeleton - n)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "more than %zu bytes beside tensor data", s->lim->max_skeleton);
    if (!wn_vec_reserve(&s->out, s->out.n + n))
        return wn_fail(err, WINNOW_E_NOMEM, "skeleton of %zu bytes", s->out.n + n);
    if (n)
        memcpy(s->out.at + s->out.n, p, n);
    s->out.n += n;
    return WINNOW_OK;
}

static unsigned put_varint(uint8_t *to, uint64_t v)
{
    unsigned n = 0;
    for (; v >= 0x80; v >>= 7)
        to[n++] = (uint8_t)(v | 0x80);
    to[n++] = (uint8_t)v;
    return n;
}

static bool is_tensor_data(const struct frame *f, uint32_t field)
{
    if (f->desc != &onnx__tensor_proto__descriptor)
        return false;
    switch (field) {
    case TENSOR_FLOAT_DATA:
    case TENSOR_INT32_DATA:
    case TENSOR_STRING_DATA:
    case TENSOR_INT64_DATA:
    case TENSOR_RAW_DATA:
    case TENSOR_DOUBLE_DATA:
    case TENSOR_UINT64_DATA:
        return true;
    default:
        return false;
    }
}

/* The wire type that a field of this descriptor has when it is not packed. */
static unsigned wire_type_of(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return 5;
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 1;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return 2;
    default:
        return 0;
    }
}

static bool packed_ok(const struct wn_wire *w, unsigned want)
{
    const uint8_t *p = w->data, *end = p + w->len;
    uint64_t v;
    if (want)
        return w->len % (want == 5 ? 4 : 8) == 0;
    while (p < end)
        if (!wn_wire_varint(&p, end, &v))
            return false;
    return true;
}

static enum winnow_status enter(struct scan *s, const ProtobufCFieldDescriptor *fd, const struct wn_wire *w,
                                struct winnow_err *err)
{
    struct frame *f = &s->frame[s->depth - 1];
    if (fd->label != PROTOBUF_C_LABEL_REPEATED) {
        uint64_t bit = (uint64_t)1 << (fd - f->desc->fields);
        if (f->seen & bit)
            return wn_fail(err, WINNOW_E_MALFORMED, "%s.%s occurs twice", f->desc->short_name, fd->name);
        f->seen |= bit;
    }
    if (s->depth == s->lim->max_depth)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "messages nested deeper than %u", s->lim->max_depth);
    if (++s->n_messages > s->lim->max_messages)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "more than %u messages", s->lim->max_messages);
    uint8_t head[5 + LEN_BYTES] = { 0 };
    unsigned n = put_varint(head, (uint64_t)fd->id << 3 | 2);
    WN_TRY(put(s, head, n + LEN_BYTES, err));
    s->frame[s->depth++] = (struct frame){
        .desc = fd->descriptor, .begin = w->data, .end = w->data + w->len, .len_at = s->out.n - LEN_BYTES
    };
    return WINNOW_OK;
}

static enum winnow_status leave(struct scan *s, struct winnow_err *err)
{
    struct frame *f = &s->frame[s->depth - 1];
    if (f->desc == &onnx__tensor_proto__descriptor) {
        struct wn_onnx_span span = { (uint64_t)(f->begin - s->bytes), (uint64_t)(f->end - f->begin) };
        uint8_t head[2] = { TENSOR_RAW_DATA << 3 | 2, sizeof span };
        WN_TRY(put(s, head, sizeof head, err));
        WN_TRY(put(s, &span, sizeof span, err));
    }
    if (--s->depth == 0)
        return WINNOW_OK;
    size_t len = s->out.n - f->len_at - LEN_BYTES;
    if (len > INT32_MAX)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "%s of %zu bytes beside tensor data", f->desc->short_name, len);
    for (unsigned i = 0; i < LEN_BYTES; i++)
        s->out.at[f->len_at + i] = (uint8_t)((len >> (7 * i) & 0x7f) | (i < LEN_BYTES - 1 ? 0x80 : 0));
    return WINNOW_OK;
}

/* One field of the current message: enter it, copy it, or leave it out. */
static enum winnow_status scan_field(struct scan *s, const uint8_t *at, const struct wn_wire *w, struct winnow_err *err)
{
    struct frame *f = &s->frame[s->depth - 1];
    const ProtobufCFieldDescriptor *fd = protobuf_c_message_descriptor_get_field(f->desc, w->field);
    if (!fd)
        return WINNOW_OK; /* from a newer ONNX: not for us */
    unsigned want = wire_type_of(fd->type);
    bool packed = w->type == 2 && want != 2 && fd->label == PROTOBUF_C_LABEL_REPEATED;
    if (!packed && w->type != want)
        return wn_fail(err, WINNOW_E_MALFORMED, "%s.%s has wire type %u", f->desc->short_name, fd->name, w->type);
    if (is_tensor_data(f, w->field))
        return WINNOW_OK;
    if (packed && !packed_ok(w, want))
        return wn_fail(err, WINNOW_E_MALFORMED, "%s.%s: broken packed list", f->desc->short_name, fd->name);
    if (fd->type == PROTOBUF_C_TYPE_MESSAGE)
        return enter(s, fd, w, err);
    if (fd->type == PROTOBUF_C_TYPE_STRING) {
        if (strcmp(fd->name, "doc_string") == 0)
            return WINNOW_OK;
        if (!good_string(w->data, w->len))
            return wn_fail(err, WINNOW_E_MALFORMED, "%s.%s is not UTF-8 text", f->desc->short_name, fd->name);
    }
    uint8_t head[16];
    unsigned n = put_varint(head, (uint64_t)w->field << 3 | w->type);
    if (w->type == 2) {
        n += put_varint(head + n, w->len);
        WN_TRY(put(s, head, n, err));
        return put(s, w->data, w->len, err);
    }
    if (w->type == 0) {
        n += put_varint(head + n, w->v);
        return put(s, head, n, err);
    }
    WN_TRY(put(s, head, n, err));
    return put(s, at - (w->type == 1 ? 8 : 4), w->type == 1 ? 8 : 4, err);
}

static enum winnow_status scan(struct scan *s, const uint8_t *bytes, size_t n, struct winnow_err *err)
{
    s->bytes = bytes;
    s->depth = 1;
    s->n_messages = 1;
    s->frame[0] = (struct frame){ .desc = &onnx__model_proto__descriptor, .begin = bytes, .end = bytes + n };
    const uint8_t *p = bytes;
    while (s->depth) {
        struct frame *f = &s->frame[s->depth - 1];
        if (p == f->end) {
            WN_TRY(leave(s, err));
            continue;
        }
        struct wn_wire w;
        const uint8_t *at = p;
        if (!wn_wire_next(&p, f->end, &w))
            return wn_fail(err, WINNOW_E_MALFORMED, "not an ONNX file, or cut short: broken %s at byte %zu",
                           f->desc->short_name, (size_t)(at - bytes));
        unsigned depth = s->depth;
        WN_TRY(scan_field(s, p, &w, err));
        if (s->depth > depth)
            p = w.data;
    }
    return WINNOW_OK;
}

static void scan_freep(struct scan **s)
{
    if (*s)
        wn_vec_done(&(*s)->out);
    free(*s);
}

enum winnow_status wn_onnx_unpack(const uint8_t *bytes, size_t n, const struct wn_onnx_limits *limits,
                                  struct wn_onnx_skeleton *ret_skeleton, struct winnow_err *err)
{
    if (n > limits->max_file_bytes)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "%zu bytes, the limit is %zu", n, limits->max_file_bytes);
    if (n == 0)
        return wn_fail(err, WINNOW_E_MALFORMED, "the file is empty");
    WN_CLEANUP(scan_freep) struct scan *s = calloc(1, sizeof *s);
    if (!s)
        return wn_fail(err, WINNOW_E_NOMEM, "pre-scan");
    s->lim = limits;
    WN_TRY(scan(s, bytes, n, err));
    struct wn_onnx_heap *heap = calloc(1, sizeof *heap);
    if (!heap)
        return wn_fail(err, WINNOW_E_NOMEM, "pre-scan");
    heap->left = limits->max_skeleton;
    ProtobufCAllocator alloc = { .alloc = heap_alloc, .free = heap_free, .allocator_data = heap };
    Onnx__ModelProto *model = onnx__model_proto__unpack(&alloc, s->out.n, s->out.at);
    if (!model) {
        /* The scan found the wire format sound, so what is left is the budget. */
        heap_done(heap);
        return wn_fail(err, WINNOW_E_TOO_LARGE, "messages need more than %zu bytes of memory", limits->max_skeleton);
    }
    *ret_skeleton = (struct wn_onnx_skeleton){ .model = model, .heap = heap };
    return WINNOW_OK;
}
