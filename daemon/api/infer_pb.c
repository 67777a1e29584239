/* infer_pb.c: ModelInferRequest by a bounded scanner, ModelInferResponse by hand.
 *
 * DESIGN  protobuf-c would copy every raw tensor, allocate per element of a hostile message, cut names at a NUL and
 * fail on a field of an unexpected wire type. This scanner leaves raw_input_contents where they are, counts before it
 *         allocates, and skips what it does not know, as Google's runtime does.
 * Source: the Protocol Buffers encoding; field numbers: inference.proto. */
#include <string.h>
#include "daemon/api/infer.h"
#include "daemon/api/pb.h"
#include "daemon/api/text.h"
#include "base/utf8.h"

#define NAME(s) (int)WN_MIN((s).n, (size_t)80), (s).p

/** An InferParameter, whichever it holds. */
struct param {
    enum { ABSENT, BOOLEAN, INTEGER, TEXT, REAL } kind;
    uint64_t u;
    struct winnow_str s;
};

static enum winnow_status broken(struct winnow_err *err)
{
    return wn_fail(err, WINNOW_E_MALFORMED, "the message is not a ModelInferRequest: broken protobuf encoding");
}

static enum winnow_status text_field(const struct wn_pb_field *f, const char *what, struct winnow_str *ret,
                                     struct winnow_err *err)
{
    if (f->n && !wn_utf8_valid((const char *)f->p, f->n))
        return wn_fail(err, WINNOW_E_MALFORMED, "%s is not UTF-8", what);
    *ret = (struct winnow_str){ (const char *)f->p, f->n };
    return WINNOW_OK;
}

static bool read_param(struct wn_pb pb, struct param *ret)
{
    struct wn_pb_field f;
    while (wn_pb_next(&pb, &f)) {
        if (f.number == 1 && f.wire == WN_PB_VARINT)
            *ret = (struct param){ .kind = BOOLEAN, .u = f.u != 0 };
        else if ((f.number == 2 || f.number == 5) && f.wire == WN_PB_VARINT)
            *ret = (struct param){ .kind = INTEGER, .u = f.u };
        else if (f.number == 3 && f.wire == WN_PB_BYTES)
            *ret = (struct param){ .kind = TEXT, .s = { (const char *)f.p, f.n } };
        else if (f.number == 4 && f.wire == WN_PB_FIXED64)
            *ret = (struct param){ .kind = REAL, .u = f.u };
    }
    return !pb.broken;
}

/** One entry of a map<string, InferParameter>. */
static bool read_entry(const struct wn_pb_field *entry, struct winnow_str *key, struct param *value)
{
    struct wn_pb pb = wn_pb_sub(entry);
    struct wn_pb_field f;
    *key = (struct winnow_str){ "", 0 };
    *value = (struct param){ 0 };
    while (wn_pb_next(&pb, &f)) {
        if (f.number == 1 && f.wire == WN_PB_BYTES)
            *key = (struct winnow_str){ (const char *)f.p, f.n };
        else if (f.number == 2 && f.wire == WN_PB_BYTES && !read_param(wn_pb_sub(&f), value))
            return false;
    }
    return !pb.broken;
}

static bool is(struct winnow_str s, const char *text)
{
    return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

static enum winnow_status count(unsigned *n, struct winnow_err *err)
{
    return ++*n <= WN_INFER_MAX_PARAMS
               ? WINNOW_OK
               : wn_fail(err, WINNOW_E_MALFORMED, "more than %d parameters", WN_INFER_MAX_PARAMS);
}

static enum winnow_status req_param(struct wn_infer *req, const struct wn_pb_field *f, struct winnow_err *err)
{
    struct winnow_str key;
    struct param v;
    if (!read_entry(f, &key, &v))
        return broken(err);
    if (is(key, "timeout") && v.kind == INTEGER && v.u <= INT64_MAX)
        req->timeout_us = v.u;
    else if (is(key, "top_k") && v.kind == INTEGER && v.u >= 1 && v.u <= INT32_MAX)
        req->top_k = (int64_t)v.u;
    return WINNOW_OK;
}

static enum winnow_status no_shared_memory(struct winnow_str key, struct winnow_err *err)
{
    if (key.n >= 14 && memcmp(key.p, "shared_memory_", 14) == 0)
        return wn_fail(err, WINNOW_E_UNSUPPORTED, "shared memory is not offered");
    return WINNOW_OK;
}

/* ---- typed contents ---- */
/** Field of InferTensorContents that holds a dtype; 0: none does. */
static uint32_t contents_field(enum winnow_dtype dtype)
{
    switch (dtype) {
    case WINNOW_BOOL:
        return 1;
    case WINNOW_I8:
    case WINNOW_I16:
    case WINNOW_I32:
        return 2;
    case WINNOW_I64:
        return 3;
    case WINNOW_U8:
    case WINNOW_U16:
    case WINNOW_U32:
        return 4;
    case WINNOW_U64:
        return 5;
    case WINNOW_F32:
        return 6;
    case WINNOW_F64:
        return 7;
    case WINNOW_STRING:
        return 8;
    default:
        return 0;
    }
}

/** One element into `to`; false: out of the dtype's range. */
static bool put(enum winnow_dtype dtype, uint64_t u, char *to)
{
    int64_t i = (int32_t)u; /* int32 is sent sign-extended to 64 bits, or (older writers) not */
    switch (dtype) {
    case WINNOW_BOOL:
        *(uint8_t *)to = u != 0;
        return true;
    case WINNOW_I8:
        *(int8_t *)to = (int8_t)i;
        return i == (int8_t)i;
    case WINNOW_I16:
        memcpy(to, &(int16_t){ (int16_t)i }, 2);
        return i == (int16_t)i;
    case WINNOW_I32:
        memcpy(to, &(int32_t){ (int32_t)i }, 4);
        return true;
    case WINNOW_U8:
        *(uint8_t *)to = (uint8_t)u;
        return u <= UINT8_MAX;
    case WINNOW_U16:
        memcpy(to, &(uint16_t){ (uint16_t)u }, 2);
        return u <= UINT16_MAX;
    case WINNOW_U32:
    case WINNOW_F32:
        memcpy(to, &(uint32_t){ (uint32_t)u }, 4);
        return u <= UINT32_MAX;
    default: /* 64 bits */
        memcpy(to, &u, 8);
        return true;
    }
}

struct contents {
    struct wn_infer_in *in;
    size_t count, done, size;
    char *to;
};

static enum winnow_status too_many(const struct contents *c, struct winnow_err *err)
{
    return wn_fail(err, WINNOW_E_MALFORMED, "input '%.*s': more than the %zu elements that its shape says",
                   NAME(c->in->name), c->count);
}

static enum winnow_status put_one(struct contents *c, uint64_t u, struct winnow_err *err)
{
    if (c->done == c->count)
        return too_many(c, err);
    if (!put(c->in->dtype, u, c->to + c->done++ * c->size))
        return wn_fail(err, WINNOW_E_MALFORMED, "input '%.*s': element %zu is out of %s's range", NAME(c->in->name),
                       c->done - 1, wn_oip_name(c->in->dtype));
    return WINNOW_OK;
}

static enum winnow_status put_packed(struct contents *c, const struct wn_pb_field *f, struct winnow_err *err)
{
    size_t width = c->in->dtype == WINNOW_F32 ? 4 : c->in->dtype == WINNOW_F64 ? 8 : 0;
    if (width) { /* little endian on the wire and here: one copy */
        if (f->n % width)
            return broken(err);
        if (f->n / width > c->count - c->done)
            return too_many(c, err);
        if (f->n)
            memcpy(c->to + c->done * width, f->p, f->n);
        c->done += f->n / width;
        return WINNOW_OK;
    }
    struct wn_pb pb = wn_pb_sub(f);
    uint64_t u;
    while (pb.p < pb.end) {
        if (!wn_pb_varint(&pb, &u))
            return broken(err);
        WN_TRY(put_one(c, u, err));
    }
    return WINNOW_OK;
}

static enum winnow_status put_field(struct contents *c, const struct wn_pb_field *f, struct winnow_err *err)
{
    if (c->in->dtype == WINNOW_STRING) {
        if (f->wire != WN_PB_BYTES)
            return WINNOW_OK;
        if (c->done == c->count)
            return too_many(c, err);
        ((struct winnow_str *)(void *)c->to)[c->done++] = (struct winnow_str){ (const char *)f->p, f->n };
        return WINNOW_OK;
    }
    if (f->wire == WN_PB_BYTES)
        return put_packed(c, f, err);
    unsigned want = c->in->dtype == WINNOW_F32   ? WN_PB_FIXED32
                    : c->in->dtype == WINNOW_F64 ? WN_PB_FIXED64
                                                 : WN_PB_VARINT;
    return f->wire == want ? put_one(c, f->u, err) : WINNOW_OK;
}

static enum winnow_status typed(struct wn_infer *req, struct wn_infer_in *in, const struct wn_pb_field *contents,
                                unsigned n_contents, struct winnow_err *err)
{
    struct contents c = { .in = in, .size = winnow_dtype_size(in->dtype) };
    size_t bytes, room = 0;
    uint32_t want = contents_field(in->dtype);
    if (!want)
        return wn_fail(err, WINNOW_E_MALFORMED, "input '%.*s': %s goes into raw_input_contents", NAME(in->name),
                       wn_oip_name(in->dtype));
    for (unsigned i = 0; i < n_contents; i++)
        room += contents[i].n;
    if (!wn_shape_bytes(in->shape, in->rank, 1, &c.count) || !wn_mul_size(c.count, c.size, &bytes) || c.count > room)
        return wn_fail(err, WINNOW_E_MALFORMED, "input '%.*s': its shape says more elements than its contents hold",
                       NAME(in->name));
    c.to = wn_arena_alloc(req->arena, bytes);
    if (!c.to)
        return wn_fail(err, WINNOW_E_NOMEM, "input '%.*s'", NAME(in->name));
    for (unsigned i = 0; i < n_contents; i++) {
        struct wn_pb pb = wn_pb_sub(&contents[i]);
        struct wn_pb_field f;
        while (wn_pb_next(&pb, &f)) {
            if (f.number == want)
                WN_TRY(put_field(&c, &f, err));
            else if (f.number >= 1 && f.number <= 8 && (f.wire != WN_PB_BYTES || f.n))
                return wn_fail(err, WINNOW_E_MALFORMED, "input '%.*s': its contents are not those of %s",
                               NAME(in->name), wn_oip_name(in->dtype));
        }
        if (pb.broken)
            return broken(err);
    }
    if (c.done != c.count)
        return wn_fail(err, WINNOW_E_MALFORMED, "input '%.*s': %zu elements, but its shape says %zu", NAME(in->name),
                       c.done, c.count);
    in->data = c.to;
    in->bytes = bytes;
    return WINNOW_OK;
}

/* ---- inputs and outputs ---- */
static enum winnow_status add_dim(struct wn_infer_in *in, uint64_t u, struct winnow_err *err)
{
    if (in->rank == WINNOW_MAX_RANK)
        return wn_fail(err, WINNOW_E_MALFORMED, "input '%.*s': more than %d dimensions", NAME(in->name),
                       WINNOW_MAX_RANK);
    if (u > INT64_MAX)
        return wn_fail(err, WINNOW_E_MALFORMED, "input '%.*s': a negative dimension", NAME(in->name));
    in->shape[in->rank++] = (int64_t)u;
    return WINNOW_OK;
}

static enum winnow_status shape_field(struct wn_infer_in *in, const struct wn_pb_field *f, struct winnow_err *err)
{
    if (f->wire == WN_PB_VARINT)
        return add_dim(in, f->u, err);
    if (f->wire != WN_PB_BYTES)
        return WINNOW_OK;
    struct wn_pb pb = wn_pb_sub(f);
    uint64_t u;
    while (pb.p < pb.end) {
        if (!wn_pb_varint(&pb, &u))
            return broken(err);
        WN_TRY(add_dim(in, u, err));
    }
    return WINNOW_OK;
}

static enum winnow_status input(struct wn_infer *req, const struct wn_pb_field *field, bool raw, unsigned *n_params,
                                struct winnow_err *err)
{
    enum { MAX_CONTENTS = 8 }; /* a message split into parts is merged; nobody sends more than one */
    struct wn_infer_in *in = wn_infer_add_in(req, err);
    struct wn_pb_field f, contents[MAX_CONTENTS];
    struct wn_pb pb = wn_pb_sub(field);
    struct winnow_str type = { "", 0 }, key;
    struct param v;
    unsigned n_contents = 0;
    if (!in)
        return err->status;
    in->name = (struct winnow_str){ "", 0 };
    while (wn_pb_next(&pb, &f)) {
        if (f.number == 3) {
            WN_TRY(shape_field(in, &f, err));
        } else if (f.wire != WN_PB_BYTES) {
            continue;
        } else if (f.number == 1) {
            WN_TRY(text_field(&f, "an input's name", &in->name, err));
        } else if (f.number == 2) {
            type = (struct winnow_str){ (const char *)f.p, f.n };
        } else if (f.number == 4) {
            WN_TRY(count(n_params, err));
            if (!read_entry(&f, &key, &v))
                return broken(err);
            WN_TRY(no_shared_memory(key, err));
            if (is(key, "content_type") && v.kind == TEXT)
                in->base64 = is(v.s, "base64");
        } else if (f.number == 5) {
            if (n_contents == MAX_CONTENTS)
                return broken(err);
            contents[n_contents++] = f;
        }
    }
    if (pb.broken)
        return broken(err);
    in->dtype = wn_oip_dtype(type.p, type.n);
    if (!in->dtype)
        return wn_fail(err, WINNOW_E_MALFORMED, "input '%.*s': unknown datatype '%.*s'", NAME(in->name),
                       (int)WN_MIN(type.n, (size_t)40), wn_utf8_valid(type.p, type.n) ? type.p : "");
    if (!raw)
        return typed(req, in, contents, n_contents, err);
    for (unsigned i = 0; i < n_contents; i++)
        if (contents[i].n)
            return wn_fail(err, WINNOW_E_MALFORMED, "input '%.*s' has contents although raw_input_contents are there",
                           NAME(in->name));
    return WINNOW_OK;
}

static enum winnow_status output(struct wn_infer *req, const struct wn_pb_field *field, unsigned *n_params,
                                 struct winnow_err *err)
{
    struct wn_infer_want *want = wn_infer_add_want(req, err);
    struct wn_pb pb = wn_pb_sub(field);
    struct wn_pb_field f;
    struct winnow_str key;
    struct param v;
    if (!want)
        return err->status;
    want->name = (struct winnow_str){ "", 0 };
    while (wn_pb_next(&pb, &f)) {
        if (f.wire != WN_PB_BYTES)
            continue;
        if (f.number == 1) {
            WN_TRY(text_field(&f, "an output's name", &want->name, err));
        } else if (f.number == 2) {
            WN_TRY(count(n_params, err));
            if (!read_entry(&f, &key, &v))
                return broken(err);
            WN_TRY(no_shared_memory(key, err));
            if (is(key, "classification")) {
                if (v.kind != INTEGER || v.u < 1 || v.u > INT32_MAX)
                    return wn_fail(err, WINNOW_E_MALFORMED, "output '%.*s': classification is not a number from 1",
                                   NAME(want->name));
                want->classes = (int64_t)v.u;
            }
        }
    }
    return pb.broken ? broken(err) : WINNOW_OK;
}

/** First walk: everything but raw contents, which are counted. */
static enum winnow_status count_raws(struct wn_pb pb, size_t *ret, struct winnow_err *err)
{
    struct wn_pb_field f;
    *ret = 0;
    while (wn_pb_next(&pb, &f))
        *ret += f.number == 7 && f.wire == WN_PB_BYTES;
    return pb.broken ? broken(err) : WINNOW_OK;
}

static enum winnow_status take_raws(struct wn_pb pb, struct wn_infer *req, size_t n_raw, struct winnow_err *err)
{
    struct wn_pb_field f;
    unsigned i = 0;
    if (n_raw != req->n_in)
        return wn_fail(err, WINNOW_E_MALFORMED, "%u inputs, but %zu raw_input_contents", req->n_in, n_raw);
    while (wn_pb_next(&pb, &f))
        if (f.number == 7 && f.wire == WN_PB_BYTES) {
            WN_TRY(wn_infer_take_raw(req, &req->in[i], f.p, f.n, err));
            i++;
        }
    return WINNOW_OK;
}

enum winnow_status wn_infer_read_pb(const void *message, size_t n, struct wn_infer *ret, struct winnow_err *err)
{
    struct winnow_err own = { 0 };
    struct wn_pb pb = wn_pb_init(message, n), all = pb;
    struct wn_pb_field f;
    size_t n_raw;
    unsigned n_params = 0;
    err = err ? err : &own;
    ret->binary_output = 1;
    WN_TRY(count_raws(all, &n_raw, err));
    while (wn_pb_next(&pb, &f)) {
        if (f.wire != WN_PB_BYTES)
            continue;
        switch (f.number) {
        case 1:
            WN_TRY(text_field(&f, "model_name", &ret->model, err));
            break;
        case 2:
            WN_TRY(text_field(&f, "model_version", &ret->version, err));
            break;
        case 3:
            WN_TRY(text_field(&f, "id", &ret->id, err));
            break;
        case 4:
            WN_TRY(count(&n_params, err));
            WN_TRY(req_param(ret, &f, err));
            break;
        case 5:
            WN_TRY(input(ret, &f, n_raw > 0, &n_params, err));
            break;
        case 6:
            WN_TRY(output(ret, &f, &n_params, err));
            break;
        default:
            break;
        }
    }
    return n_raw ? take_raws(all, ret, n_raw, err) : WINNOW_OK;
}

/* ---- writing ---- */
static size_t shape_size(const struct winnow_tensor *t)
{
    size_t n = 0;
    for (unsigned i = 0; i < t->rank; i++)
        n += wn_pb_varint_size((uint64_t)t->shape[i]);
    return n;
}

static size_t tensor_size(const struct wn_infer_out *out)
{
    size_t shape = shape_size(&out->t);
    return wn_pb_bytes_size(1, strlen(out->name)) + wn_pb_bytes_size(2, strlen(wn_oip_name(out->t.dtype))) +
           (shape ? wn_pb_bytes_size(3, shape) : 0);
}

static void put_tensor(const struct wn_infer_out *out, struct wn_buf *to)
{
    const char *type = wn_oip_name(out->t.dtype);
    size_t shape = shape_size(&out->t);
    wn_pb_put_head(to, 5, tensor_size(out));
    wn_pb_put_bytes(to, 1, out->name, strlen(out->name));
    wn_pb_put_bytes(to, 2, type, strlen(type));
    if (shape)
        wn_pb_put_head(to, 3, shape);
    for (unsigned i = 0; i < out->t.rank; i++)
        wn_pb_put_varint(to, (uint64_t)out->t.shape[i]);
}

void wn_infer_write_pb(const struct wn_infer *req, const struct wn_gen *gen, const struct wn_infer_out *out,
                       unsigned n_out, struct wn_buf *to)
{
    const char *model = wn_gen_model_name(gen);
    char version[24];
    size_t n = wn_pb_print_i64(version, wn_gen_version(gen));
    wn_pb_put_bytes(to, 1, model, strlen(model));
    wn_pb_put_bytes(to, 2, version, n);
    if (req->id.n)
        wn_pb_put_bytes(to, 3, req->id.p, req->id.n);
    for (unsigned i = 0; i < n_out; i++)
        put_tensor(&out[i], to);
    for (unsigned i = 0; i < n_out; i++) {
        wn_pb_put_head(to, 6, wn_infer_raw_size(&out[i].t));
        wn_infer_write_raw(&out[i].t, to);
    }
}
