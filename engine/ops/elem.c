/* elem.c: elements between their dtype and a working type, and walks over strided views. */
#include "engine/ops/impl.h"

#include <math.h>
#include <string.h>
#include "base/half.h"
#include "base/small.h"

int64_t wn_i64_of_f64(double d)
{
    if (isnan(d))
        return 0;
    if (d >= 0x1p63)
        return INT64_MAX;
    if (d <= -0x1p63)
        return INT64_MIN;
    return (int64_t)d;
}

uint64_t wn_u64_of_f64(double d)
{
    if (!(d > -1))
        return 0;
    return d >= 0x1p64 ? UINT64_MAX : d < 0 ? 0 : (uint64_t)d;
}

/* ---- loading ---- */

/* One case per dtype: `get` turns element e of type T into the working type. */
#define LOAD_INTS(CONV)                                                                                                \
    LOAD(BOOL, uint8_t, CONV(e != 0))                                                                                  \
    LOAD(U8, uint8_t, CONV(e))                                                                                         \
    LOAD(I8, int8_t, CONV(e))                                                                                          \
    LOAD(U16, uint16_t, CONV(e))                                                                                       \
    LOAD(I16, int16_t, CONV(e))                                                                                        \
    LOAD(U32, uint32_t, CONV(e))                                                                                       \
    LOAD(I32, int32_t, CONV(e))                                                                                        \
    LOAD(U64, uint64_t, CONV(e))                                                                                       \
    LOAD(I64, int64_t, CONV(e))
#define LOAD_FLOATS(CONV)                                                                                              \
    LOAD(F32, float, CONV(e))                                                                                          \
    LOAD(F64, double, CONV(e))                                                                                         \
    LOAD(F16, uint16_t, CONV(wn_f16_to_f32(e)))                                                                        \
    LOAD(BF16, uint16_t, CONV(wn_bf16_to_f32(e)))
#define LOAD(DT, T, EXPR)                                                                                              \
    case WINNOW_##DT: {                                                                                                \
        const T *s = (const T *)src + at;                                                                              \
        for (size_t i = 0; i < n; i++) {                                                                               \
            T e = s[(int64_t)i * stride];                                                                              \
            y[i] = EXPR;                                                                                               \
        }                                                                                                              \
        break;                                                                                                         \
    }
#define AS_F32(v) (float)(v)
#define AS_F64(v) (double)(v)
#define AS_I64(v) (int64_t)(v)
#define AS_U64(v) (uint64_t)(v)
#define DEFINE_LOAD(NAME, T, INT_CONV, FLOAT_CONV)                                                                     \
    static void NAME(enum winnow_dtype dtype, const void *src, int64_t at, int64_t stride, size_t n, T *y)             \
    {                                                                                                                  \
        switch (dtype) {                                                                                               \
            LOAD_INTS(INT_CONV)                                                                                        \
            LOAD_FLOATS(FLOAT_CONV)                                                                                    \
        default:                                                                                                       \
            for (size_t i = 0; wn_small_is(dtype) && i < n; i++)                                                       \
                y[i] = FLOAT_CONV(wn_small_to_f32(dtype, ((const uint8_t *)src)[at + (int64_t)i * stride]));           \
            break;                                                                                                     \
        }                                                                                                              \
    }
DEFINE_LOAD(load_f32, float, AS_F32, AS_F32)
DEFINE_LOAD(load_f64, double, AS_F64, AS_F64)
DEFINE_LOAD(load_i64, int64_t, AS_I64, wn_i64_of_f64)
DEFINE_LOAD(load_u64, uint64_t, AS_U64, wn_u64_of_f64)

static bool is_native(enum winnow_dtype dtype, enum wn_cls cls)
{
    return (dtype == WINNOW_F32 && cls == WN_CLS_F32) || (dtype == WINNOW_F64 && cls == WN_CLS_F64) ||
           (dtype == WINNOW_I64 && cls == WN_CLS_I64) || (dtype == WINNOW_U64 && cls == WN_CLS_U64);
}

const void *wn_load(enum winnow_dtype dtype, const void *src, int64_t at, int64_t stride, size_t n, enum wn_cls cls,
                    union wn_chunk *buf)
{
    if (is_native(dtype, cls) && stride == 1)
        return (const char *)src + at * (cls == WN_CLS_F32 ? 4 : 8);
    switch (cls) {
    case WN_CLS_F32:
        load_f32(dtype, src, at, stride, n, buf->f32);
        break;
    case WN_CLS_F64:
        load_f64(dtype, src, at, stride, n, buf->f64);
        break;
    case WN_CLS_I64:
        load_i64(dtype, src, at, stride, n, buf->i64);
        break;
    case WN_CLS_U64:
        load_u64(dtype, src, at, stride, n, buf->u64);
        break;
    case WN_CLS_NONE:
        break;
    }
    return buf;
}

/* ---- storing ---- */

static int64_t clamp_i64(double d, int64_t lo, int64_t hi)
{
    int64_t v = wn_i64_of_f64(d);
    return v < lo ? lo : v > hi ? hi : v;
}

#define STORE(DT, T, EXPR)                                                                                             \
    case WINNOW_##DT: {                                                                                                \
        T *d = (T *)dst + at;                                                                                          \
        for (size_t i = 0; i < n; i++)                                                                                 \
            d[i] = (T)(EXPR);                                                                                          \
        break;                                                                                                         \
    }
#define DEFINE_STORE_FLOAT(NAME, T)                                                                                    \
    static void NAME(enum winnow_dtype dtype, void *dst, int64_t at, size_t n, const T *x)                             \
    {                                                                                                                  \
        switch (dtype) {                                                                                               \
            STORE(F32, float, x[i])                                                                                    \
            STORE(F64, double, x[i])                                                                                   \
            STORE(F16, uint16_t, wn_f32_to_f16((float)x[i]))                                                           \
            STORE(BF16, uint16_t, wn_f32_to_bf16((float)x[i]))                                                         \
            STORE(BOOL, uint8_t, x[i] != 0)                                                                            \
            STORE(U8, uint8_t, clamp_i64((double)x[i], 0, UINT8_MAX))                                                  \
            STORE(I8, int8_t, clamp_i64((double)x[i], INT8_MIN, INT8_MAX))                                             \
            STORE(U16, uint16_t, clamp_i64((double)x[i], 0, UINT16_MAX))                                               \
            STORE(I16, int16_t, clamp_i64((double)x[i], INT16_MIN, INT16_MAX))                                         \
            STORE(U32, uint32_t, clamp_i64((double)x[i], 0, UINT32_MAX))                                               \
            STORE(I32, int32_t, clamp_i64((double)x[i], INT32_MIN, INT32_MAX))                                         \
            STORE(U64, uint64_t, wn_u64_of_f64((double)x[i]))                                                          \
            STORE(I64, int64_t, wn_i64_of_f64((double)x[i]))                                                           \
        default:                                                                                                       \
            for (size_t i = 0; wn_small_is(dtype) && i < n; i++)                                                       \
                ((uint8_t *)dst)[at + (int64_t)i] = wn_small_from_f32(dtype, (float)x[i], true, WN_SMALL_UP);          \
            break;                                                                                                     \
        }                                                                                                              \
    }
#define DEFINE_STORE_INT(NAME, T)                                                                                      \
    static void NAME(enum winnow_dtype dtype, void *dst, int64_t at, size_t n, const T *x)                             \
    {                                                                                                                  \
        switch (dtype) {                                                                                               \
            STORE(F32, float, x[i])                                                                                    \
            STORE(F64, double, x[i])                                                                                   \
            STORE(F16, uint16_t, wn_f32_to_f16((float)x[i]))                                                           \
            STORE(BF16, uint16_t, wn_f32_to_bf16((float)x[i]))                                                         \
            STORE(BOOL, uint8_t, x[i] != 0)                                                                            \
            STORE(U8, uint8_t, x[i])                                                                                   \
            STORE(I8, int8_t, x[i])                                                                                    \
            STORE(U16, uint16_t, x[i])                                                                                 \
            STORE(I16, int16_t, x[i])                                                                                  \
            STORE(U32, uint32_t, x[i])                                                                                 \
            STORE(I32, int32_t, x[i])                                                                                  \
            STORE(U64, uint64_t, x[i])                                                                                 \
            STORE(I64, int64_t, x[i])                                                                                  \
        default:                                                                                                       \
            for (size_t i = 0; wn_small_is(dtype) && i < n; i++)                                                       \
                ((uint8_t *)dst)[at + (int64_t)i] = wn_small_from_i64(dtype, (int64_t)x[i]);                           \
            break;                                                                                                     \
        }                                                                                                              \
    }
DEFINE_STORE_FLOAT(store_f32, float)
DEFINE_STORE_FLOAT(store_f64, double)
DEFINE_STORE_INT(store_i64, int64_t)
DEFINE_STORE_INT(store_u64, uint64_t)

void wn_store(enum winnow_dtype dtype, void *dst, int64_t at, size_t n, enum wn_cls cls, const void *src)
{
    switch (cls) {
    case WN_CLS_F32:
        store_f32(dtype, dst, at, n, src);
        break;
    case WN_CLS_F64:
        store_f64(dtype, dst, at, n, src);
        break;
    case WN_CLS_I64:
        store_i64(dtype, dst, at, n, src);
        break;
    case WN_CLS_U64:
        store_u64(dtype, dst, at, n, src);
        break;
    case WN_CLS_NONE:
        break;
    }
}

/* ---- whole tensors ---- */

static const void *as_cls(const struct wn_tensor *t, enum wn_cls cls, size_t size, struct wn_arena *arena)
{
    if (is_native(t->dtype, cls))
        return t->data;
    int64_t n = wn_tensor_count(t);
    char *y = wn_arena_calloc(arena, (size_t)n, size);
    for (int64_t i = 0; y && i < n; i += WN_CHUNK) {
        union wn_chunk buf;
        size_t m = (size_t)WN_MIN(n - i, WN_CHUNK);
        memcpy(y + (size_t)i * size, wn_load(t->dtype, t->data, i, 1, m, cls, &buf), m * size);
    }
    return y;
}

const float *wn_as_f32(const struct wn_tensor *t, struct wn_arena *arena)
{
    return as_cls(t, WN_CLS_F32, sizeof(float), arena);
}

const double *wn_as_f64(const struct wn_tensor *t, struct wn_arena *arena)
{
    return as_cls(t, WN_CLS_F64, sizeof(double), arena);
}

const int64_t *wn_as_i64(const struct wn_tensor *t, struct wn_arena *arena)
{
    return as_cls(t, WN_CLS_I64, sizeof(int64_t), arena);
}

float *wn_out_f32(struct wn_run *run, unsigned i)
{
    struct wn_tensor *y = &run->out[i];
    return y->dtype == WINNOW_F32 ? y->data : wn_arena_calloc(run->tmp, (size_t)wn_tensor_count(y), sizeof(float));
}

void wn_put_f32(struct wn_run *run, unsigned i, const float *y)
{
    struct wn_tensor *t = &run->out[i];
    int64_t n = wn_tensor_count(t);
    for (int64_t at = 0; t->dtype != WINNOW_F32 && at < n; at += WN_CHUNK)
        wn_store(t->dtype, t->data, at, (size_t)WN_MIN(n - at, WN_CHUNK), WN_CLS_F32, y + at);
}

/* ---- walking ---- */

void wn_strides(unsigned rank, const int64_t *dim, int64_t *stride)
{
    int64_t s = 1;
    for (unsigned i = rank; i-- > 0;) {
        stride[i] = s;
        s *= dim[i] > 0 ? dim[i] : 1;
    }
}

void wn_bcast_strides(const struct wn_tensor *t, unsigned out_rank, const int64_t *out_dim, int64_t *stride)
{
    int64_t own[WINNOW_MAX_RANK];
    wn_strides(t->rank, t->dim, own);
    unsigned lead = out_rank - t->rank;
    for (unsigned i = 0; i < out_rank; i++)
        stride[i] = i < lead || t->dim[i - lead] == 1 ? 0 : own[i - lead];
}

static void copy_row(char *dst, int64_t ds, const char *src, int64_t ss, int64_t n, size_t elem)
{
    if (ds == 1 && ss == 1) {
        memcpy(dst, src, (size_t)n * elem);
        return;
    }
    switch (elem) {
#define ROW(T)                                                                                                         \
    for (int64_t i = 0; i < n; i++)                                                                                    \
    ((T *)(void *)dst)[i * ds] = ((const T *)(const void *)src)[i * ss]
    case 1:
        ROW(uint8_t);
        break;
    case 2:
        ROW(uint16_t);
        break;
    case 4:
        ROW(uint32_t);
        break;
    case 8:
        ROW(uint64_t);
        break;
#undef ROW
    default:
        for (int64_t i = 0; i < n; i++)
            memcpy(dst + i * ds * (int64_t)elem, src + i * ss * (int64_t)elem, elem);
    }
}

/* ---- copies of any strides ---- */
#define TILE ((int64_t)16) /* elements a side, where reading goes along one axis and writing along another */

/* Axes of a copy: the last one is what is written next to each other; `across` is what is read so, or the last too. */
struct copy {
    unsigned rank, across;
    int64_t dim[WINNOW_MAX_RANK], dst[WINNOW_MAX_RANK], src[WINNOW_MAX_RANK];
    size_t elem;
};

/* Axes of extent 1 go, neighbours that step as one become one. */
static void copy_init(struct copy *c, unsigned rank, const int64_t *dim, const int64_t *dst, const int64_t *src)
{
    for (unsigned i = 0; i < rank; i++) {
        const unsigned last = c->rank - 1; /* of those there are */
        if (dim[i] == 1)
            continue;
        if (c->rank && c->dst[last] == dst[i] * dim[i] && c->src[last] == src[i] * dim[i]) {
            c->dim[last] *= dim[i];
            c->dst[last] = dst[i];
            c->src[last] = src[i];
            continue;
        }
        c->dim[c->rank] = dim[i];
        c->dst[c->rank] = dst[i];
        c->src[c->rank++] = src[i];
    }
    if (!c->rank)
        c->dim[c->rank++] = 1; /* its steps are 0 */
    c->across = c->rank - 1;
    for (unsigned i = 0; i + 1 < c->rank && c->src[c->rank - 1] >= TILE; i++) /* else lines are used up as they come */
        if (c->src[i] == 1)
            c->across = i;
}

/* The last two axes, or the one that is read along and the last, in tiles that stay in the cache. */
static void copy_inner(const struct copy *c, char *dst, const char *src)
{
    const unsigned q = c->across, last = c->rank - 1;
    const int64_t elem = (int64_t)c->elem, n = c->dim[last];
    if (q == last) {
        copy_row(dst, c->dst[last], src, c->src[last], n, c->elem);
        return;
    }
    for (int64_t i0 = 0; i0 < c->dim[q]; i0 += TILE)
        for (int64_t k = 0; k < n; k += TILE)
            for (int64_t i = i0; i < WN_MIN(i0 + TILE, c->dim[q]); i++)
                copy_row(dst + (i * c->dst[q] + k * c->dst[last]) * elem, c->dst[last],
                         src + (i * c->src[q] + k * c->src[last]) * elem, c->src[last], WN_MIN(n - k, TILE), c->elem);
}

void wn_copy_nd(unsigned rank, const int64_t *dim, void *dst, const int64_t *dst_stride, const void *src,
                const int64_t *src_stride, size_t elem)
{
    struct copy c = { .elem = elem };
    int64_t outer[WINNOW_MAX_RANK], idx[WINNOW_MAX_RANK] = { 0 };
    for (unsigned i = 0; i < rank; i++)
        if (dim[i] == 0)
            return;
    copy_init(&c, rank, dim, dst_stride, src_stride);
    memcpy(outer, c.dim, sizeof outer);
    outer[c.across] = 1;
    do {
        int64_t d = 0, s = 0;
        for (unsigned i = 0; i + 1 < c.rank; i++) {
            d += idx[i] * c.dst[i];
            s += idx[i] * c.src[i];
        }
        copy_inner(&c, (char *)dst + d * (int64_t)elem, (const char *)src + s * (int64_t)elem);
    } while (wn_next_index(c.rank - 1, outer, idx));
}
