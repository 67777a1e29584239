/* impl.h: what the operator families share: dtype classes, checks of types and attributes, broadcasting, strided
 * copies.
 *
 * CLASSES  A reference computes in one of four working types: f32 (for f32, f16, bf16), f64, i64 (bool and all integers
 *          but u64) and u64. Elements are loaded and stored in chunks, so every family is written once per class, not
 *          once per dtype. Integer arithmetic wraps (through u64, truncated on store); floats convert to integers by
 *          truncation with saturation, NaN becomes 0.
 * INFER    -1 stands for an unknown extent or rank. Helpers below return E_MALFORMED with values; the caller of infer
 *          puts the node's name in front. */
#ifndef WN_OPS_IMPL_H
#define WN_OPS_IMPL_H

#include "engine/ops/ops.h"

/* Every operator of the table is three functions; ops.def is the one list. */
#define OP(domain, type, since, min_in, max_in, min_out, max_out, infer, run, rows)                                    \
    enum winnow_status wn_infer_##infer(struct wn_infer *, struct winnow_err *);                                       \
    enum winnow_status wn_run_##run(struct wn_run *, struct winnow_err *);                                             \
    void wn_rows_##rows(struct wn_rows *);
#include "engine/ops/ops.def"
#undef OP

/* ---- dtypes ---- */
enum wn_cls { WN_CLS_NONE, WN_CLS_F32, WN_CLS_F64, WN_CLS_I64, WN_CLS_U64 };
/** Working type of a dtype; NONE for strings and unknown ones. */
enum wn_cls wn_cls_of(enum winnow_dtype dtype);
bool wn_dtype_is_float(enum winnow_dtype dtype);

#define WN_D(t)    (1u << WINNOW_##t)
#define WN_FLOATS  (WN_D(F32) | WN_D(F16) | WN_D(F64) | WN_D(BF16))
#define WN_INTS    (WN_D(U8) | WN_D(I8) | WN_D(U16) | WN_D(I16) | WN_D(I32) | WN_D(I64) | WN_D(U32) | WN_D(U64))
#define WN_NUMBERS (WN_FLOATS | WN_INTS)
#define WN_ALL     (WN_NUMBERS | WN_D(BOOL) | WN_D(STRING))
#define WN_SMALL   (0x3ffu << WINNOW_F8E4M3FN) /* base/small.h */
#define WN_INDEX   (WN_D(I32) | WN_D(I64))
#define WN_U8_I8   (WN_D(U8) | WN_D(I8))

/* ---- checks in infer ---- */
#define wn_bad(err, ...)  wn_fail((err), WINNOW_E_MALFORMED, __VA_ARGS__)
#define wn_lack(err, ...) wn_fail((err), WINNOW_E_UNSUPPORTED, __VA_ARGS__)
/** Input i's dtype must be unknown or in `mask` of WN_D(); E_UNSUPPORTED otherwise. */
enum winnow_status wn_want(const struct wn_infer *in, unsigned i, uint32_t mask, struct winnow_err *err);
/** Inputs i and j must have the same dtype where both are known. */
enum winnow_status wn_want_same(const struct wn_infer *in, unsigned i, unsigned j, struct winnow_err *err);
/** Inputs of the list may not be omitted. */
enum winnow_status wn_want_given(const struct wn_infer *in, const unsigned *list, size_t n, struct winnow_err *err);
/** Input i must have a rank from lo to hi, or an unknown one. */
enum winnow_status wn_want_rank(const struct wn_infer *in, unsigned i, int lo, int hi, struct winnow_err *err);
/** axis in [-rank, rank - 1] -> [0, rank - 1]. */
enum winnow_status wn_axis(int64_t axis, int rank, const char *what, int *ret_axis, struct winnow_err *err);
/** Integers of the constant input `t` (i32 or i64, at most `cap` of them). */
enum winnow_status wn_ints(const struct wn_tensor *t, const char *what, int64_t *ret, size_t cap, size_t *ret_n,
                           struct winnow_err *err);
/** A bounded list of integers that is an attribute in older opsets and an input in newer ones. `t` (may be NULL) wins.
 *  *ret_n is SIZE_MAX when neither is there. */
enum winnow_status wn_ints_or_attr(const struct wn_node *node, const char *name, const struct wn_tensor *t,
                                   int64_t *ret, size_t cap, size_t *ret_n, struct winnow_err *err);
/** Element i of a tensor of any numeric dtype; 0 past its end (an empty tensor where a scalar is due). */
double wn_scalar(const struct wn_tensor *t, int64_t i);
int64_t wn_scalar_int(const struct wn_tensor *t, int64_t i);

/* ---- types ---- */
struct wn_type wn_type_of(const struct wn_tensor *t);
/** a * b and a + b of extents, -1 (unknown) is contagious; E_MALFORMED on overflow. */
enum winnow_status wn_dim_mul(int64_t a, int64_t b, int64_t *ret, struct winnow_err *err);
enum winnow_status wn_dim_add(int64_t a, int64_t b, int64_t *ret, struct winnow_err *err);
/** Product of dim[from..to), -1 when one is unknown (and none is 0). */
enum winnow_status wn_dim_prod(const int64_t *dim, int from, int to, int64_t *ret, struct winnow_err *err);
/** Equal where both are known; E_MALFORMED naming `what`. *ret gets the known one. */
enum winnow_status wn_dim_same(int64_t a, int64_t b, const char *what, int64_t *ret, struct winnow_err *err);
/** Multidirectional broadcast of b into *a (shapes only). */
enum winnow_status wn_type_broadcast(struct wn_type *a, const struct wn_type *b, struct winnow_err *err);
/** Unknown extents of the given rank. */
void wn_type_set_rank(struct wn_type *t, int rank);

/* ---- elements ---- */
#define WN_CHUNK 256
union wn_chunk {
    float f32[WN_CHUNK];
    double f64[WN_CHUNK];
    int64_t i64[WN_CHUNK];
    uint64_t u64[WN_CHUNK];
};
/** n <= WN_CHUNK elements of `src` from element `at`, `stride` elements apart (0: one element repeated), as `cls`.
 *  Returns `buf` or a pointer into src. */
const void *wn_load(enum winnow_dtype dtype, const void *src, int64_t at, int64_t stride, size_t n, enum wn_cls cls,
                    union wn_chunk *buf);
/** n <= WN_CHUNK contiguous elements to `dst` from element `at`. */
void wn_store(enum winnow_dtype dtype, void *dst, int64_t at, size_t n, enum wn_cls cls, const void *src);
/** A whole tensor as f32, f64 or i64: its own data where it has that dtype, else a copy in `arena`; NULL when out of
 *  memory. */
const float *wn_as_f32(const struct wn_tensor *t, struct wn_arena *arena);
const double *wn_as_f64(const struct wn_tensor *t, struct wn_arena *arena);
const int64_t *wn_as_i64(const struct wn_tensor *t, struct wn_arena *arena);
/** f32 result memory for an output of dtype f32 (its own data) or another float; wn_put_f32() converts and stores. */
float *wn_out_f32(struct wn_run *run, unsigned i);
void wn_put_f32(struct wn_run *run, unsigned i, const float *y);
#define wn_nomem(err) wn_fail((err), WINNOW_E_NOMEM, "out of memory")

static inline float wn_rne_clamp(float f, float lo, float hi)
{
    float r = __builtin_rintf(f);
    return r > lo ? (r < hi ? r : hi) : lo; /* NaN gives lo */
}
/** Saturating conversions; NaN gives 0. */
int64_t wn_i64_of_f64(double d);
uint64_t wn_u64_of_f64(double d);

/* ---- walking ---- */
/** Row-major strides in elements. */
void wn_strides(unsigned rank, const int64_t *dim, int64_t *stride);
/** Strides with which input `t` is read to make an output of this shape: 0 on broadcast axes. */
void wn_bcast_strides(const struct wn_tensor *t, unsigned out_rank, const int64_t *out_dim, int64_t *stride);
/** Copy elements between two strided views of the same shape (strides in elements, may be 0 or negative for src). */
void wn_copy_nd(unsigned rank, const int64_t *dim, void *dst, const int64_t *dst_stride, const void *src,
                const int64_t *src_stride, size_t elem);
/** Next index of a row-major walk; false after the last. */
static inline bool wn_next_index(unsigned rank, const int64_t *dim, int64_t *idx)
{
    for (unsigned i = rank; i-- > 0;) {
        if (++idx[i] < dim[i])
            return true;
        idx[i] = 0;
    }
    return false;
}

/* ---- windows: convolution and pooling (window.c) ---- */
#define WN_MAX_SPATIAL (WINNOW_MAX_RANK - 2)
struct wn_window {
    int nd; /* spatial axes */
    int64_t in[WN_MAX_SPATIAL], out[WN_MAX_SPATIAL], kernel[WN_MAX_SPATIAL], stride[WN_MAX_SPATIAL],
        dil[WN_MAX_SPATIAL], pad[WN_MAX_SPATIAL], pad_end[WN_MAX_SPATIAL]; /* -1 = unknown */
};
/** Attributes and extents of a node that slides a window over x's axes 2... `kernel` (may be NULL: the attribute
 *  kernel_shape) gives the extents. Checks every attribute, resolves auto_pad, computes out. */
enum winnow_status wn_window_init(struct wn_window *w, const struct wn_node *node, const struct wn_type *x,
                                  const int64_t *kernel, bool ceil_mode, struct winnow_err *err);

/* ---- batch-axis rules (rows.c) ---- */
/** True when no input carries the batch (sets NONE) or one is MIXED (sets MIXED): nothing more to decide. */
bool wn_rows_trivial(struct wn_rows *r);
/** True when only input i carries the batch. */
bool wn_rows_only(const struct wn_rows *r, unsigned i);
/** The batch axis stays when it is before attribute axis (default -1); input 0 alone may carry it or not. */
void wn_rows_before_axis(struct wn_rows *r);

#endif
