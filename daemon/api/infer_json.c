/* infer_json.c: the JSON form of inference, with the blobs of the binary tensor extension behind it.
 *
 * Source: kserve/open-inference-protocol inference_rest.md; Triton's binary_tensor_data extension. Keys may come in any
 * order, so "data" is passed over first and read when the tensor's datatype and shape are known. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "daemon/api/infer.h"
#include "daemon/api/json.h"
#include "daemon/api/text.h"

/** An input while it is read. */
struct draft {
    struct wn_infer_in *in;
    bool has_name, has_type, has_shape;
    const char *data;    /* where "data" starts; NULL: none */
    int64_t binary_size; /* -1: none */
};

struct reader {
    struct wn_json j;
    struct wn_infer *req;
    const char *blob; /* next blob */
    size_t blob_left;
    unsigned n_params;
};

static bool is(struct winnow_str s, const char *text)
{
    return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

/** Walk an object's keys; `field` reads the value of one. `once`, NULL at its end: the keys that mean something, of
 * which a second one is refused: who reads the first and who reads the last would see two different requests. */
static bool object(struct reader *r, const char *const *once,
                   bool (*field)(struct reader *r, struct winnow_str key, void *arg), void *arg)
{
    struct winnow_str key;
    unsigned seen = 0;
    bool ok, first = true;
    if (!wn_json_take(&r->j, '{'))
        return wn_json_fail(&r->j, "an object was expected");
    for (; wn_json_next_key(&r->j, first, r->req->arena, &key, &ok); first = false) {
        unsigned k = 0;
        while (once[k] && !is(key, once[k]))
            k++;
        if (once[k] && seen & 1u << k)
            return wn_json_fail(&r->j, "\"%s\" twice", once[k]);
        seen |= 1u << k;
        if (!field(r, key, arg))
            return false;
    }
    return ok;
}

static bool array(struct reader *r, bool (*item)(struct reader *r))
{
    bool ok, first = true;
    if (!wn_json_take(&r->j, '['))
        return wn_json_fail(&r->j, "an array was expected");
    for (; wn_json_next_item(&r->j, first, &ok); first = false)
        if (!item(r))
            return false;
    return ok;
}

/** Parameters are bounded; those we do not know are checked to be JSON and passed over. */
static bool count_param(struct reader *r)
{
    return ++r->n_params <= WN_INFER_MAX_PARAMS || wn_json_fail(&r->j, "more than %d parameters", WN_INFER_MAX_PARAMS);
}

static bool text(struct reader *r, struct winnow_str *ret)
{
    return wn_json_string(&r->j, r->req->arena, ret);
}

/* ---- inputs ---- */
static const char *const in_param_keys[] = { "binary_data_size", "content_type", NULL };

static bool in_param(struct reader *r, struct winnow_str key, void *arg)
{
    struct draft *d = arg;
    struct winnow_str s;
    if (!count_param(r))
        return false;
    if (is(key, "binary_data_size"))
        return wn_json_i64(&r->j, 0, INT64_MAX, &d->binary_size);
    if (is(key, "content_type") && wn_json_peek(&r->j) == '"') {
        if (!text(r, &s))
            return false;
        d->in->base64 = is(s, "base64");
        return true;
    }
    if (key.n >= 14 && memcmp(key.p, "shared_memory_", 14) == 0)
        return wn_json_fail(&r->j, "shared memory is not offered");
    return wn_json_skip(&r->j);
}

static bool in_shape(struct reader *r, struct wn_infer_in *in)
{
    bool ok, first = true;
    if (!wn_json_take(&r->j, '['))
        return wn_json_fail(&r->j, "\"shape\" is not an array");
    in->rank = 0;
    for (; wn_json_next_item(&r->j, first, &ok); first = false) {
        if (in->rank == WINNOW_MAX_RANK)
            return wn_json_fail(&r->j, "a shape of more than %d dimensions", WINNOW_MAX_RANK);
        if (!wn_json_i64(&r->j, 0, INT64_MAX, &in->shape[in->rank++]))
            return false;
    }
    return ok;
}

static const char *const in_keys[] = { "name", "datatype", "shape", "parameters", "data", NULL };

static bool in_field(struct reader *r, struct winnow_str key, void *arg)
{
    struct draft *d = arg;
    struct winnow_str s;
    if (is(key, "name")) {
        d->has_name = true;
        return text(r, &d->in->name);
    }
    if (is(key, "datatype")) {
        if (!text(r, &s))
            return false;
        d->in->dtype = wn_oip_dtype(s.p, s.n);
        d->has_type = true;
        return d->in->dtype || wn_json_fail(&r->j, "unknown datatype '%.*s'", (int)WN_MIN(s.n, (size_t)40), s.p);
    }
    if (is(key, "shape")) {
        d->has_shape = true;
        return in_shape(r, d->in);
    }
    if (is(key, "parameters"))
        return wn_json_null(&r->j) || object(r, in_param_keys, in_param, d);
    if (is(key, "data")) {
        wn_json_peek(&r->j);
        d->data = wn_json_null(&r->j) ? NULL : r->j.p;
        return !d->data || wn_json_skip(&r->j);
    }
    return wn_json_skip(&r->j);
}

/** The elements of "data", which lies in [from, to) of the text. */
static bool in_data(struct reader *r, struct draft *d, const char *from, const char *to)
{
    struct wn_infer_in *in = d->in;
    size_t count, bytes;
    struct wn_json data = { r->j.start, from, to, r->j.max_depth, r->j.err };
    if (!wn_shape_bytes(in->shape, in->rank, 1, &count) ||
        !wn_mul_size(count, WN_MAX(winnow_dtype_size(in->dtype), (size_t)1), &bytes))
        return wn_json_fail(&r->j, "a shape that causes total element count to exceed maximum size of %zu",
                            SIZE_MAX / 2);
    if (count >
        (size_t)(to - from) / 2 + 1) /* each element takes a character and a comma: nothing is allocated for a lie */
        return wn_json_fail(&r->j, "the shape of '%.*s' says %zu elements, \"data\" has fewer",
                            (int)WN_MIN(in->name.n, (size_t)80), in->name.p, count);
    if (in->dtype == WINNOW_F16 || in->dtype == WINNOW_BF16)
        return wn_json_fail(&r->j, "%s has no JSON form, send '%.*s' as binary data", wn_oip_name(in->dtype),
                            (int)WN_MIN(in->name.n, (size_t)80), in->name.p);
    void *at = wn_arena_alloc(r->req->arena, bytes);
    if (!at) {
        wn_fail(r->j.err, WINNOW_E_NOMEM, "input '%.*s'", (int)WN_MIN(in->name.n, (size_t)80), in->name.p);
        return false;
    }
    if (!wn_json_tensor(&data, in->dtype, in->rank, in->shape, count, at, r->req->arena)) {
        wn_fail_at(r->j.err, WINNOW_E_MALFORMED, "input '%.*s'", (int)WN_MIN(in->name.n, (size_t)60), in->name.p);
        return false;
    }
    in->data = at;
    in->bytes = bytes;
    return true;
}

static bool input(struct reader *r)
{
    struct draft d = { .in = wn_infer_add_in(r->req, r->j.err), .binary_size = -1 };
    if (!d.in || !object(r, in_keys, in_field, &d))
        return false;
    if (!d.has_name || !d.has_type || !d.has_shape)
        return wn_json_fail(&r->j, "an input without \"%s\"",
                            !d.has_name   ? "name"
                            : !d.has_type ? "datatype"
                                          : "shape");
    if (d.data && d.binary_size > 0)
        return wn_json_fail(&r->j, "an input with both \"data\" and \"binary_data_size\"");
    if (d.data)
        return in_data(r, &d, d.data, r->j.p);
    if (d.binary_size < 0)
        return wn_json_fail(&r->j, "an input with neither \"data\" nor \"binary_data_size\"");
    if ((uint64_t)d.binary_size > r->blob_left)
        return wn_json_fail(&r->j, "input '%.*s': binary_data_size is %lld, but only %zu bytes follow the JSON",
                            (int)WN_MIN(d.in->name.n, (size_t)60), d.in->name.p, (long long)d.binary_size,
                            r->blob_left);
    const char *blob = r->blob;
    r->blob += d.binary_size;
    r->blob_left -= (size_t)d.binary_size;
    return wn_infer_take_raw(r->req, d.in, blob, (size_t)d.binary_size, r->j.err) == WINNOW_OK;
}

/* ---- outputs, parameters ---- */
static const char *const out_param_keys[] = { "binary_data", "classification", NULL };

static bool out_param(struct reader *r, struct winnow_str key, void *arg)
{
    struct wn_infer_want *want = arg;
    bool b;
    if (!count_param(r))
        return false;
    if (is(key, "binary_data")) {
        if (!wn_json_bool(&r->j, &b))
            return false;
        want->binary = b;
        return true;
    }
    if (is(key, "classification"))
        return wn_json_i64(&r->j, 1, INT32_MAX, &want->classes);
    if (key.n >= 14 && memcmp(key.p, "shared_memory_", 14) == 0)
        return wn_json_fail(&r->j, "shared memory is not offered");
    return wn_json_skip(&r->j);
}

static const char *const out_keys[] = { "name", "parameters", NULL };

static bool out_field(struct reader *r, struct winnow_str key, void *arg)
{
    struct wn_infer_want *want = arg;
    if (is(key, "name"))
        return text(r, &want->name);
    if (is(key, "parameters"))
        return wn_json_null(&r->j) || object(r, out_param_keys, out_param, want);
    return wn_json_skip(&r->j);
}

static bool output(struct reader *r)
{
    struct wn_infer_want *want = wn_infer_add_want(r->req, r->j.err);
    return want && object(r, out_keys, out_field, want) &&
           (want->name.p || wn_json_fail(&r->j, "an output without \"name\""));
}

static const char *const req_param_keys[] = { "binary_data_output", "timeout", "top_k", NULL };

static bool req_param(struct reader *r, struct winnow_str key, void *arg)
{
    bool b;
    if (!count_param(r))
        return false;
    if (is(key, "binary_data_output")) {
        if (!wn_json_bool(&r->j, &b))
            return false;
        r->req->binary_output = b;
        return true;
    }
    if (is(key, "timeout"))
        return wn_json_u64(&r->j, INT64_MAX, &r->req->timeout_us);
    if (is(key, "top_k"))
        return wn_json_i64(&r->j, 1, INT32_MAX, &r->req->top_k);
    return wn_json_skip(&r->j);
}

static const char *const req_keys[] = { "id", "parameters", "inputs", "outputs", NULL };

static bool req_field(struct reader *r, struct winnow_str key, void *arg)
{
    bool *inputs = arg;
    if (is(key, "id"))
        return wn_json_null(&r->j) || text(r, &r->req->id);
    if (is(key, "parameters"))
        return wn_json_null(&r->j) || object(r, req_param_keys, req_param, NULL);
    if (is(key, "inputs")) {
        *inputs = true;
        return array(r, input);
    }
    if (is(key, "outputs"))
        return wn_json_null(&r->j) || array(r, output);
    return wn_json_skip(&r->j);
}

enum winnow_status wn_infer_read_json(const void *body, size_t n, size_t json_n, struct wn_infer *ret,
                                      struct winnow_err *err)
{
    struct winnow_err own = { 0 };
    struct reader r = { .req = ret, .blob = (const char *)body + json_n, .blob_left = n - json_n };
    bool inputs = false;
    ret->binary_output = -1;
    wn_json_init(&r.j, body, json_n, WN_INFER_MAX_DEPTH, &own);
    bool ok = object(&r, req_keys, req_field, &inputs) && wn_json_end(&r.j);
    if (ok && !inputs)
        ok = wn_json_fail(&r.j, "the request has no \"inputs\"");
    if (ok && r.blob_left)
        ok = wn_json_fail(&r.j, "unexpected additional input data: %zu bytes behind the last tensor", r.blob_left);
    if (!ok && err)
        *err = own;
    return ok ? WINNOW_OK : own.status;
}

/* ---- writing ---- */
static void value(struct wn_buf *to, enum winnow_dtype dtype, const char *p)
{
    char *at = wn_buf_room(to, 40);
    if (!at)
        return;
#define INT(T, fmt)                                                                                                    \
    do {                                                                                                               \
        T v_;                                                                                                          \
        memcpy(&v_, p, sizeof v_);                                                                                     \
        to->n += (size_t)snprintf(at, 40, fmt, v_);                                                                    \
    } while (0)
    switch (dtype) {
    case WINNOW_F32: {
        float v;
        memcpy(&v, p, sizeof v);
        to->n += wn_json_print_f32(at, v);
        break;
    }
    case WINNOW_F64: {
        double v;
        memcpy(&v, p, sizeof v);
        to->n += wn_json_print_f64(at, v);
        break;
    }
    case WINNOW_BOOL:
        wn_buf_text(to, *p ? "true" : "false");
        break;
    case WINNOW_U8:
        INT(uint8_t, "%" PRIu8);
        break;
    case WINNOW_I8:
        INT(int8_t, "%" PRId8);
        break;
    case WINNOW_U16:
        INT(uint16_t, "%" PRIu16);
        break;
    case WINNOW_I16:
        INT(int16_t, "%" PRId16);
        break;
    case WINNOW_U32:
        INT(uint32_t, "%" PRIu32);
        break;
    case WINNOW_I32:
        INT(int32_t, "%" PRId32);
        break;
    case WINNOW_U64:
        INT(uint64_t, "%" PRIu64);
        break;
    case WINNOW_I64:
        INT(int64_t, "%" PRId64);
        break;
    case WINNOW_STRING: {
        struct winnow_str s;
        memcpy(&s, p, sizeof s);
        wn_buf_json_string(to, s.p, s.n);
        break;
    }
    default:
        break;
    }
#undef INT
}

static void tensor(struct wn_buf *to, const struct wn_infer_out *out)
{
    wn_buf_text(to, "{\"name\":");
    wn_buf_json_string(to, out->name, strlen(out->name));
    wn_buf_printf(to, ",\"datatype\":\"%s\",\"shape\":[", wn_oip_name(out->t.dtype));
    for (unsigned i = 0; i < out->t.rank; i++)
        wn_buf_printf(to, i ? ",%lld" : "%lld", (long long)out->t.shape[i]);
    if (out->binary) {
        wn_buf_printf(to, "],\"parameters\":{\"binary_data_size\":%zu}}", wn_infer_raw_size(&out->t));
        return;
    }
    wn_buf_text(to, "],\"data\":[");
    size_t size = winnow_dtype_size(out->t.dtype);
    const char *p = out->t.data;
    for (size_t at = 0; at < out->t.bytes; at += size) {
        if (at)
            wn_buf_char(to, ',');
        value(to, out->t.dtype, p + at);
    }
    wn_buf_text(to, "]}");
}

void wn_infer_write_json(const struct wn_infer *req, const struct wn_gen *gen, const struct wn_infer_out *out,
                         unsigned n_out, struct wn_buf *to, size_t *ret_json_n)
{
    wn_buf_char(to, '{');
    if (req->id.n) {
        wn_buf_text(to, "\"id\":");
        wn_buf_json_string(to, req->id.p, req->id.n);
        wn_buf_char(to, ',');
    }
    wn_buf_text(to, "\"model_name\":");
    wn_buf_json_string(to, wn_gen_model_name(gen), strlen(wn_gen_model_name(gen)));
    wn_buf_printf(to, ",\"model_version\":\"%lld\",\"outputs\":[", (long long)wn_gen_version(gen));
    for (unsigned i = 0; i < n_out; i++) {
        if (i)
            wn_buf_char(to, ',');
        tensor(to, &out[i]);
    }
    wn_buf_text(to, "]}");
    *ret_json_n = to->n;
    for (unsigned i = 0; i < n_out; i++)
        if (out[i].binary)
            wn_infer_write_raw(&out[i].t, to);
}
