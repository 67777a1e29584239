/* infer.c: parts that every wire form shares: adding tensors, raw data in and out. */
#include "daemon/api/infer.h"

#include <string.h>
#include "daemon/api/text.h"

/** Arrays of tensors double in the arena, so that a request with one input stays small. */
static void *add(struct wn_arena *arena, void **at, unsigned *n, size_t size, const char *what, struct winnow_err *err)
{
    if (*n == WN_INFER_MAX_TENSORS) {
        wn_fail(err, WINNOW_E_MALFORMED, "more than %d %s", WN_INFER_MAX_TENSORS, what);
        return NULL;
    }
    if ((*n & (*n - 1)) == 0) { /* 0, 1, 2, 4, …: full */
        void *more = wn_arena_calloc(arena, *n ? *n * 2u : 1u, size);
        if (!more) {
            wn_fail(err, WINNOW_E_NOMEM, "request");
            return NULL;
        }
        if (*n)
            memcpy(more, *at, *n * size);
        *at = more;
    }
    return (char *)*at + size * (*n)++;
}

struct wn_infer_in *wn_infer_add_in(struct wn_infer *req, struct winnow_err *err)
{
    void *at = req->in;
    struct wn_infer_in *in = add(req->arena, &at, &req->n_in, sizeof *in, "inputs", err);
    req->in = at;
    return in;
}

struct wn_infer_want *wn_infer_add_want(struct wn_infer *req, struct winnow_err *err)
{
    void *at = req->want;
    struct wn_infer_want *want = add(req->arena, &at, &req->n_want, sizeof *want, "outputs", err);
    req->want = at;
    if (want)
        want->binary = -1;
    return want;
}

/** Name of a tensor for a message. */
#define NAME(in) (int)WN_MIN((in)->name.n, (size_t)80), (in)->name.p

static uint32_t le32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static enum winnow_status split_bytes(struct wn_infer *req, struct wn_infer_in *in, const unsigned char *p, size_t n,
                                      size_t count, struct winnow_err *err)
{
    if (count > n / 4)
        return wn_fail(err, WINNOW_E_MALFORMED, "input '%.*s': %zu bytes are too few for %zu BYTES elements", NAME(in),
                       n, count);
    struct winnow_str *s = wn_arena_calloc(req->arena, count, sizeof *s);
    if (!s)
        return wn_fail(err, WINNOW_E_NOMEM, "input '%.*s'", NAME(in));
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        if (n - at < 4 || le32(p + at) > n - at - 4)
            return wn_fail(err, WINNOW_E_MALFORMED, "input '%.*s': element %zu of %zu ends behind the data", NAME(in),
                           i, count);
        s[i] = (struct winnow_str){ (const char *)p + at + 4, le32(p + at) };
        at += 4 + s[i].n;
    }
    if (at != n)
        return wn_fail(err, WINNOW_E_MALFORMED, "input '%.*s': %zu bytes behind the last of %zu elements", NAME(in),
                       n - at, count);
    in->data = s;
    in->bytes = count * sizeof *s;
    return WINNOW_OK;
}

enum winnow_status wn_infer_take_raw(struct wn_infer *req, struct wn_infer_in *in, const void *data, size_t n,
                                     struct winnow_err *err)
{
    size_t count, bytes, size = winnow_dtype_size(in->dtype);
    if (!wn_shape_bytes(in->shape, in->rank, 1, &count) || !wn_mul_size(count, size, &bytes))
        return wn_fail(err, WINNOW_E_MALFORMED,
                       "input '%.*s': a shape that causes total element count to exceed maximum size of %zu", NAME(in),
                       SIZE_MAX / 2);
    if (in->dtype == WINNOW_STRING)
        return split_bytes(req, in, data, n, count, err);
    if (bytes != n)
        return wn_fail(err, WINNOW_E_MALFORMED, "input '%.*s': %zu bytes, but shape and datatype %s make %zu", NAME(in),
                       n, wn_oip_name(in->dtype), bytes);
    in->data = data;
    in->bytes = n;
    return WINNOW_OK;
}

size_t wn_infer_raw_size(const struct winnow_tensor *t)
{
    if (t->dtype != WINNOW_STRING)
        return t->bytes;
    const struct winnow_str *s = t->data;
    size_t n = 0, count = t->bytes / sizeof *s;
    for (size_t i = 0; i < count; i++)
        n += 4 + s[i].n;
    return n;
}

void wn_infer_write_raw(const struct winnow_tensor *t, struct wn_buf *to)
{
    if (t->dtype != WINNOW_STRING) {
        wn_buf_add(to, t->data, t->bytes);
        return;
    }
    const struct winnow_str *s = t->data;
    for (size_t i = 0; i < t->bytes / sizeof *s; i++) {
        size_t n = s[i].n;
        wn_buf_add(to,
                   (unsigned char[]){ (unsigned char)n, (unsigned char)(n >> 8), (unsigned char)(n >> 16),
                                      (unsigned char)(n >> 24) },
                   4);
        wn_buf_add(to, s[i].p, n);
    }
}
