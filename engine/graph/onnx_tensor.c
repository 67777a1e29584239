/* onnx_tensor.c: tensor data out of the file's bytes, in any of ONNX's encodings.
 * Source: onnx/onnx docs/IR.md, comments of TensorProto: which data type is carried by which field. */
#include "engine/graph/onnx_scan.h"

#include <string.h>
#include "base/small.h"
#include "engine/graph/external.h"

enum {
    FLOAT_DATA = 4,
    INT32_DATA = 5,
    STRING_DATA = 6,
    INT64_DATA = 7,
    RAW_DATA = 9,
    DOUBLE_DATA = 10,
    UINT64_DATA = 11,
};

static unsigned field_of(enum winnow_dtype dtype)
{
    switch (dtype) {
    case WINNOW_F32:
        return FLOAT_DATA;
    case WINNOW_F64:
        return DOUBLE_DATA;
    case WINNOW_I64:
        return INT64_DATA;
    case WINNOW_U32:
    case WINNOW_U64:
        return UINT64_DATA;
    case WINNOW_STRING:
        return STRING_DATA;
    default: /* everything of at most 32 bits, floats as their bits */
        return INT32_DATA;
    }
}

/* Bytes of an element on the wire; 0 = varint. */
static unsigned wire_size(unsigned field)
{
    return field == FLOAT_DATA ? 4 : field == DOUBLE_DATA ? 8 : 0;
}

/* Store one element read from a typed field; false when it does not fit its type. */
static bool store(enum winnow_dtype dtype, uint64_t v, unsigned char *to)
{
    int32_t i = (int32_t)(uint32_t)v;
    switch (dtype) {
    case WINNOW_F32:
    case WINNOW_I32: {
        uint32_t u = (uint32_t)v;
        memcpy(to, &u, sizeof u);
        return true;
    }
    case WINNOW_U32: {
        uint32_t u = (uint32_t)v;
        memcpy(to, &u, sizeof u);
        return v <= UINT32_MAX;
    }
    case WINNOW_I64:
    case WINNOW_U64:
    case WINNOW_F64:
        memcpy(to, &v, sizeof v);
        return true;
    case WINNOW_U8:
        *to = (uint8_t)i;
        return i >= 0 && i <= UINT8_MAX;
    case WINNOW_I8:
        *to = (uint8_t)i;
        return i >= INT8_MIN && i <= INT8_MAX;
    case WINNOW_BOOL:
        *to = i != 0;
        return true;
    case WINNOW_U16:
    case WINNOW_I16:
    case WINNOW_F16:
    case WINNOW_BF16: {
        uint16_t u = (uint16_t)i;
        memcpy(to, &u, sizeof u);
        return dtype == WINNOW_U16 ? i >= 0 && i <= UINT16_MAX : i >= INT16_MIN && i <= UINT16_MAX;
    }
    default: /* small.h */
        *to = (uint8_t)i;
        return wn_small_is(dtype) && i >= INT8_MIN && i <= UINT8_MAX;
    }
}

/* What a TensorProto's bytes hold. */
struct content {
    bool has_raw;
    const uint8_t *raw;
    size_t raw_len;
    size_t n_typed; /* elements in the field that the data type uses */
};

/* Count elements of a packed list. The pre-scan left tensor data alone, so it may be broken. */
static bool count_packed(const struct wn_wire *w, unsigned size, size_t *n)
{
    if (size) {
        *n += w->len / size;
        return w->len % size == 0;
    }
    for (size_t i = 0; i < w->len; i++)
        *n += !(w->data[i] & 0x80); /* a varint ends with a byte below 0x80 */
    return w->len == 0 || !(w->data[w->len - 1] & 0x80);
}

static enum winnow_status look(const uint8_t *p, const uint8_t *end, enum winnow_dtype dtype, struct content *ret,
                               struct winnow_err *err)
{
    unsigned field = field_of(dtype), size = wire_size(field);
    *ret = (struct content){ 0 };
    while (p < end) {
        struct wn_wire w;
        if (!wn_wire_next(&p, end, &w))
            return wn_fail(err, WINNOW_E_MALFORMED, "broken data");
        if (w.field == RAW_DATA && w.type == 2) {
            ret->has_raw = true;
            ret->raw = w.data;
            ret->raw_len = w.len;
        }
        if (w.field != field)
            continue;
        if (w.type == 2 && field != STRING_DATA) {
            if (!count_packed(&w, size, &ret->n_typed))
                return wn_fail(err, WINNOW_E_MALFORMED, "broken packed data");
        } else {
            ret->n_typed++;
        }
    }
    return WINNOW_OK;
}

/* Copy n_typed elements (or strings) into t->data. */
static enum winnow_status copy_typed(const uint8_t *p, const uint8_t *end, struct wn_tensor *t, struct wn_arena *arena,
                                     struct winnow_err *err)
{
    unsigned field = field_of(t->dtype), size = wire_size(field);
    size_t step = winnow_dtype_size(t->dtype);
    unsigned char *to = t->data;
    struct wn_wire w;
    while (p < end && wn_wire_next(&p, end, &w)) {
        if (w.field != field)
            continue;
        if (field == STRING_DATA) {
            struct winnow_str s = { wn_arena_strndup(arena, (const char *)w.data, w.len), w.len };
            if (!s.p)
                return wn_fail(err, WINNOW_E_NOMEM, "string of %zu bytes", w.len);
            memcpy(to, &s, sizeof s);
            to += sizeof s;
            continue;
        }
        if (w.type != 2) {
            if (!store(t->dtype, w.v, to))
                return wn_fail(err, WINNOW_E_MALFORMED, "value out of the range of %s", winnow_dtype_name(t->dtype));
            to += step;
            continue;
        }
        for (const uint8_t *q = w.data, *q_end = q + w.len; q < q_end; to += step) {
            uint64_t v = 0;
            if (size) {
                for (unsigned i = 0; i < size; i++)
                    v |= (uint64_t)q[i] << (8 * i);
                q += size;
            } else if (!wn_wire_varint(&q, q_end, &v)) {
                return wn_fail(err, WINNOW_E_MALFORMED, "broken packed data");
            }
            if (!store(t->dtype, v, to))
                return wn_fail(err, WINNOW_E_MALFORMED, "value out of the range of %s", winnow_dtype_name(t->dtype));
        }
    }
    return WINNOW_OK;
}

#define SLICE ((size_t)1 << 20) /* copied before it is given back */

static void copy_bytes(void *to, const uint8_t *raw, size_t n, bool consume)
{
    for (size_t at = 0; at < n; at += SLICE) {
        memcpy((char *)to + at, raw + at, WN_MIN(SLICE, n - at));
        if (consume)
            wn_give_back((void *)(uintptr_t)(raw + at), WN_MIN(SLICE, n - at));
    }
}

/* Raw data is little-endian. */
static void copy_raw(struct wn_tensor *t, const uint8_t *raw, bool consume)
{
    if (t->data != raw)
        copy_bytes(t->data, raw, t->bytes, consume);
    unsigned char *p = t->data;
    if (t->dtype == WINNOW_BOOL)
        for (size_t i = 0; i < t->bytes; i++)
            p[i] = p[i] != 0;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    size_t size = winnow_dtype_size(t->dtype);
    for (size_t at = 0; at < t->bytes; at += size)
        for (size_t i = 0; i < size / 2; i++) {
            unsigned char swap = p[at + i];
            p[at + i] = p[at + size - 1 - i];
            p[at + size - 1 - i] = swap;
        }
#endif
}

/* Elements that share bytes, the first in the lowest bits, to a byte each. */
static void spread(struct wn_tensor *t, const uint8_t *packed)
{
    unsigned bits = wn_small_bits(t->dtype), per = 8 / bits;
    unsigned char *to = t->data;
    for (size_t i = 0; i < t->bytes; i++)
        to[i] = (unsigned char)(packed[i / per] >> (i % per * bits) & ((1u << bits) - 1));
}

/* Bytes that a file has for the elements. */
static size_t packed_bytes(const struct wn_tensor *t)
{
    unsigned per = wn_small_is(t->dtype) ? 8 / wn_small_bits(t->dtype) : 1;
    return t->bytes / per + (t->bytes % per != 0);
}

/* Dtype, rank and extents from the wire into *t. */
static enum winnow_status take_shape(int32_t data_type, size_t n_dims, const int64_t *dims, struct wn_tensor *t,
                                     struct winnow_err *err)
{
    size_t elem = data_type >= 0 ? winnow_dtype_size((enum winnow_dtype)data_type) : 0;
    if (data_type <= 0)
        return wn_fail(err, WINNOW_E_MALFORMED, "no valid data type (%d)", data_type);
    if (!elem)
        return wn_fail(err, data_type < 64 ? WINNOW_E_UNSUPPORTED : WINNOW_E_MALFORMED, "data type %d is not supported",
                       data_type);
    if (n_dims > WINNOW_MAX_RANK)
        return wn_fail(err, WINNOW_E_UNSUPPORTED, "rank %zu, the most supported is %d", n_dims, WINNOW_MAX_RANK);
    t->dtype = (enum winnow_dtype)data_type;
    t->rank = (unsigned)n_dims;
    for (size_t i = 0; i < n_dims; i++) {
        if (dims[i] < 0)
            return wn_fail(err, WINNOW_E_MALFORMED, "negative extent %lld", (long long)dims[i]);
        t->dim[i] = dims[i];
    }
    if (!wn_shape_bytes(t->dim, t->rank, elem, &t->bytes))
        return wn_fail(err, WINNOW_E_MALFORMED, "its extents overflow");
    return WINNOW_OK;
}

/* Data of a type of which several share a byte. */
static enum winnow_status copy_packed(const uint8_t *begin, const uint8_t *end, struct wn_tensor *t,
                                      const struct content *c, struct wn_arena *arena,
                                      const struct wn_tensor **ret_tensor, struct winnow_err *err)
{
    struct wn_tensor bytes = { .dtype = t->dtype, .bytes = packed_bytes(t) };
    if (!c->has_raw) {
        if (!(bytes.data = wn_arena_alloc(arena, bytes.bytes)))
            return wn_fail(err, WINNOW_E_NOMEM, "%zu bytes", bytes.bytes);
        WN_TRY(copy_typed(begin, end, &bytes, arena, err));
    }
    spread(t, c->has_raw ? c->raw : bytes.data);
    *ret_tensor = t;
    return WINNOW_OK;
}

/* Memory that a file may ask for is bounded by its size; what lies in another file adds to that. */
#define TIMES 24 /* as winnow_model_load_memory() reckons */

static enum winnow_status read_external(const struct wn_onnx_source *from, const Onnx__TensorProto *proto,
                                        const struct wn_tensor *shape, struct wn_arena *arena,
                                        const struct wn_tensor **ret_tensor, struct winnow_err *err)
{
    if (shape->dtype == WINNOW_STRING)
        return wn_fail(err, WINNOW_E_MALFORMED, "strings as external data");
    size_t need = packed_bytes(shape), extra;
    uint64_t offset;
    WN_TRY(wn_external_find(from->external, proto, need, &offset, err));
    if (arena->limit && wn_mul_size(need, TIMES, &extra) && !wn_add_size(arena->limit, extra, &arena->limit))
        arena->limit = 0;
    struct wn_tensor *t = wn_arena_memdup(arena, shape, sizeof *shape);
    unsigned char *raw = wn_arena_alloc(arena, need);
    if (!t || !raw)
        return wn_fail(err, WINNOW_E_NOMEM, "%zu bytes", need);
    WN_TRY(wn_external_fill(from->external, offset, raw, need, err));
    if (need == t->bytes) {
        t->data = raw;
        copy_raw(t, raw, false);
    } else {
        if (!(t->data = wn_arena_alloc(arena, t->bytes)))
            return wn_fail(err, WINNOW_E_NOMEM, "%zu bytes", t->bytes);
        spread(t, raw);
    }
    *ret_tensor = t;
    return WINNOW_OK;
}

static enum winnow_status read_tensor(const struct wn_onnx_source *from, const Onnx__TensorProto *proto,
                                      struct wn_arena *arena, const struct wn_tensor **ret_tensor,
                                      struct winnow_err *err)
{
    struct wn_tensor shape = { 0 };
    WN_TRY(take_shape(proto->data_type, proto->n_dims, proto->dims, &shape, err));
    if (proto->n_external_data || proto->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL)
        return read_external(from, proto, &shape, arena, ret_tensor, err);
    if (proto->segment)
        return wn_fail(err, WINNOW_E_UNSUPPORTED, "it is stored in segments");
    struct wn_onnx_span span;
    if (proto->raw_data.len != sizeof span)
        return wn_fail(err, WINNOW_E_INTERNAL, "tensor without its place in the file");
    memcpy(&span, proto->raw_data.data, sizeof span);
    const uint8_t *begin = from->bytes + span.off, *end = begin + span.len;
    struct content c;
    WN_TRY(look(begin, end, shape.dtype, &c, err));
    if (c.has_raw && (c.n_typed || shape.dtype == WINNOW_STRING))
        return wn_fail(err, WINNOW_E_MALFORMED, "raw data and typed data at once");
    size_t elem = winnow_dtype_size(shape.dtype);
    size_t have = c.has_raw ? c.raw_len : c.n_typed * elem, need = packed_bytes(&shape);
    if (have != need)
        return wn_fail(err, WINNOW_E_MALFORMED, "%zu bytes of data where its shape demands %zu", have, need);
    struct wn_tensor *t = wn_arena_memdup(arena, &shape, sizeof shape);
    if (!t || !(t->data = wn_arena_alloc(arena, t->bytes)))
        return wn_fail(err, WINNOW_E_NOMEM, "%zu bytes", shape.bytes);
    if (need != shape.bytes)
        return copy_packed(begin, end, t, &c, arena, ret_tensor, err);
    if (c.has_raw)
        copy_raw(t, c.raw, from->consume);
    else
        WN_TRY(copy_typed(begin, end, t, arena, err));
    if (from->consume && !c.has_raw)
        wn_give_back((void *)(uintptr_t)begin, span.len);
    *ret_tensor = t;
    return WINNOW_OK;
}

enum winnow_status wn_onnx_tensor(const struct wn_onnx_source *from, const Onnx__TensorProto *proto, const char *what,
                                  struct wn_arena *arena, const struct wn_tensor **ret_tensor, struct winnow_err *err)
{
    enum winnow_status status = read_tensor(from, proto, arena, ret_tensor, err);
    if (status != WINNOW_OK && proto->name && *proto->name)
        return wn_fail_at(err, status, "%s '%.*s'", what, WN_CLIP(proto->name));
    return status == WINNOW_OK ? status : wn_fail_at(err, status, "%s", what);
}

/* ---- sparse tensors ---- */

/* Offset (in elements) of the k-th value: its index is linear, or one number per axis. */
static bool sparse_at(const struct wn_tensor *dense, const struct wn_tensor *index, int64_t k, int64_t count,
                      int64_t *ret)
{
    const int64_t *at = index->data;
    if (index->rank == 1) {
        *ret = at[k];
        return at[k] >= 0 && at[k] < count;
    }
    int64_t off = 0;
    for (unsigned a = 0; a < dense->rank; a++) {
        int64_t i = at[k * dense->rank + a];
        if (i < 0 || i >= dense->dim[a])
            return false;
        off = off * dense->dim[a] + i;
    }
    *ret = off;
    return true;
}

static enum winnow_status read_sparse(const struct wn_onnx_source *from, const Onnx__SparseTensorProto *proto,
                                      size_t *budget, struct wn_arena *arena, const struct wn_tensor **ret_tensor,
                                      struct winnow_err *err)
{
    const struct wn_tensor *values, *index;
    if (!proto->values || !proto->indices)
        return wn_fail(err, WINNOW_E_MALFORMED, "values or indices are missing");
    WN_TRY(wn_onnx_tensor(from, proto->values, "values", arena, &values, err));
    WN_TRY(wn_onnx_tensor(from, proto->indices, "indices", arena, &index, err));
    if (values->dtype == WINNOW_STRING)
        return wn_fail(err, WINNOW_E_UNSUPPORTED, "strings in a sparse tensor");
    struct wn_tensor shape = { 0 };
    WN_TRY(take_shape((int32_t)values->dtype, proto->n_dims, proto->dims, &shape, err));
    if (values->rank != 1 || index->dtype != WINNOW_I64 || index->rank < 1 || index->rank > 2 ||
        index->dim[0] != values->dim[0] || (index->rank == 2 && index->dim[1] != (int64_t)shape.rank))
        return wn_fail(err, WINNOW_E_MALFORMED, "values and indices do not fit together");
    if (shape.bytes > *budget)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "its dense form has %zu bytes, %zu are left for such", shape.bytes,
                       *budget);
    *budget -= shape.bytes;
    struct wn_tensor *t = wn_arena_memdup(arena, &shape, sizeof shape);
    if (!t || !(t->data = wn_arena_alloc(arena, t->bytes)))
        return wn_fail(err, WINNOW_E_NOMEM, "%zu bytes", shape.bytes);
    size_t elem = winnow_dtype_size(t->dtype);
    int64_t count = wn_tensor_count(t), at;
    for (int64_t k = 0; k < values->dim[0]; k++) {
        if (!sparse_at(t, index, k, count, &at))
            return wn_fail(err, WINNOW_E_MALFORMED, "index %lld is out of range", (long long)k);
        memcpy((char *)t->data + (size_t)at * elem, (const char *)values->data + (size_t)k * elem, elem);
    }
    *ret_tensor = t;
    return WINNOW_OK;
}

enum winnow_status wn_onnx_sparse_tensor(const struct wn_onnx_source *from, const Onnx__SparseTensorProto *proto,
                                         const char *what, size_t *budget, struct wn_arena *arena,
                                         const struct wn_tensor **ret_tensor, struct winnow_err *err)
{
    enum winnow_status status = read_sparse(from, proto, budget, arena, ret_tensor, err);
    return status == WINNOW_OK ? status : wn_fail_at(err, status, "sparse %s", what);
}
