/* binary.c: element by element over two or more inputs that broadcast to one shape.  Source: ONNX Operators.md,
 * Broadcasting.md.
 *
 * One walk serves all: trailing axes along which every input steps evenly are merged, the rest is an index walk, and
 * inner runs go through the operator in chunks. Operators with more than two inputs (Sum, Max, ...) fold them from left
 * to right. Integer division by zero gives 0, and INT_MIN / -1 wraps. */
#include "engine/ops/impl.h"

#include <math.h>
#include <string.h>
#include <tgmath.h>

struct fns {
    void (*f32)(const float *, const float *, float *, size_t);
    void (*f64)(const double *, const double *, double *, size_t);
    void (*i64)(const int64_t *, const int64_t *, int64_t *, size_t);
    void (*u64)(const uint64_t *, const uint64_t *, uint64_t *, size_t);
};

/* ---- the walk ---- */
struct walk {
    unsigned rank;
    int64_t dim[WINNOW_MAX_RANK];
    int64_t stride[WN_OP_MAX_IN][WINNOW_MAX_RANK];
};

static bool mergeable(const struct walk *w, unsigned n_in, unsigned axis)
{
    for (unsigned i = 0; i < n_in; i++)
        if (w->stride[i][axis] != w->stride[i][axis + 1] * w->dim[axis + 1])
            return false;
    return true;
}

static void walk_init(struct walk *w, const struct wn_run *run)
{
    const struct wn_tensor *y = &run->out[0];
    w->rank = y->rank;
    memcpy(w->dim, y->dim, sizeof w->dim);
    for (unsigned i = 0; i < run->n_in; i++)
        wn_bcast_strides(run->in[i], y->rank, y->dim, w->stride[i]);
    while (w->rank > 1 && mergeable(w, run->n_in, w->rank - 2)) {
        unsigned last = w->rank - 1;
        w->dim[last - 1] *= w->dim[last];
        for (unsigned i = 0; i < run->n_in; i++)
            w->stride[i][last - 1] = w->stride[i][last];
        w->rank--;
    }
    if (w->rank == 0) { /* scalars: one run of one */
        w->rank = 1;
        w->dim[0] = 1;
        for (unsigned i = 0; i < run->n_in; i++)
            w->stride[i][0] = 0;
    }
}

static void call(const struct fns *f, enum wn_cls cls, const void *a, const void *b, union wn_chunk *y, size_t n)
{
    if (cls == WN_CLS_F32)
        f->f32(a, b, y->f32, n);
    else if (cls == WN_CLS_F64)
        f->f64(a, b, y->f64, n);
    else if (cls == WN_CLS_I64)
        f->i64(a, b, y->i64, n);
    else
        f->u64(a, b, y->u64, n);
}

/* n elements of the output, from element `at`; input i starts at from[i] and steps by step[i]. */
static void run_chunk(struct wn_run *run, const struct fns *f, enum wn_cls cls, int64_t at, const int64_t *from,
                      const int64_t *step, size_t n, double scale)
{
    union wn_chunk a, b, acc;
    const struct wn_tensor *const *in = run->in;
    const void *x = wn_load(in[0]->dtype, in[0]->data, from[0], step[0], n, cls, &a);
    for (unsigned i = 1; i < run->n_in; i++) {
        call(f, cls, x, wn_load(in[i]->dtype, in[i]->data, from[i], step[i], n, cls, &b), &acc, n);
        x = &acc;
    }
    if (scale != 1) {
        for (size_t i = 0; cls == WN_CLS_F32 && i < n; i++)
            acc.f32[i] *= (float)scale;
        for (size_t i = 0; cls == WN_CLS_F64 && i < n; i++)
            acc.f64[i] *= scale;
    }
    wn_store(run->out[0].dtype, run->out[0].data, at, n, cls, x);
}

static enum winnow_status run_as(struct wn_run *run, const struct fns *f, enum wn_cls cls, double scale)
{
    struct walk w;
    walk_init(&w, run);
    if (wn_tensor_count(&run->out[0]) == 0)
        return WINNOW_OK;
    int64_t idx[WINNOW_MAX_RANK] = { 0 }, at = 0, from[WN_OP_MAX_IN], step[WN_OP_MAX_IN];
    unsigned last = w.rank - 1;
    for (unsigned i = 0; i < run->n_in; i++)
        step[i] = w.stride[i][last];
    do {
        for (int64_t k = 0; k < w.dim[last]; k += WN_CHUNK) {
            size_t n = (size_t)WN_MIN(w.dim[last] - k, WN_CHUNK);
            for (unsigned i = 0; i < run->n_in; i++) {
                from[i] = k * step[i];
                for (unsigned a = 0; a < last; a++)
                    from[i] += idx[a] * w.stride[i][a];
            }
            run_chunk(run, f, cls, at, from, step, n, scale);
            at += (int64_t)n;
        }
    } while (wn_next_index(last, w.dim, idx));
    return WINNOW_OK;
}

static enum winnow_status run_fold(struct wn_run *run, const struct fns *f)
{
    return run_as(run, f, wn_cls_of(run->in[0]->dtype), 1);
}

/* ---- functions ---- */
#define LOOP(NAME, T, EXPR)                                                                                            \
    static void NAME(const T *as, const T *bs, T *ys, size_t n)                                                        \
    {                                                                                                                  \
        for (size_t i = 0; i < n; i++) {                                                                               \
            const T a = as[i], b = bs[i];                                                                              \
            (void)b;                                                                                                   \
            ys[i] = EXPR;                                                                                              \
        }                                                                                                              \
    }
#define FNS(NAME, EXPR, I_EXPR, U_EXPR)                                                                                \
    LOOP(NAME##_f32, float, EXPR)                                                                                      \
    LOOP(NAME##_f64, double, EXPR)                                                                                     \
    LOOP(NAME##_i64, int64_t, I_EXPR)                                                                                  \
    LOOP(NAME##_u64, uint64_t, U_EXPR)                                                                                 \
    static const struct fns fns_##NAME = { NAME##_f32, NAME##_f64, NAME##_i64, NAME##_u64 };
#define BINARY(NAME, EXPR, I_EXPR, U_EXPR)                                                                             \
    FNS(NAME, EXPR, I_EXPR, U_EXPR)                                                                                    \
    enum winnow_status wn_run_##NAME(struct wn_run *run, struct winnow_err *err)                                       \
    {                                                                                                                  \
        return run_fold(run, &fns_##NAME);                                                                             \
    }
#define SAME(NAME, EXPR) BINARY(NAME, EXPR, EXPR, EXPR)
#define WRAP(op)         (int64_t)((uint64_t)a op(uint64_t) b)

static int64_t div_i64_of(int64_t a, int64_t b)
{
    return b == 0 ? 0 : b == -1 ? (int64_t)(0 - (uint64_t)a) : a / b;
}

static int64_t mod_trunc_i64(int64_t a, int64_t b)
{
    return b == 0 || b == -1 ? 0 : a % b;
}

static int64_t mod_floor_i64(int64_t a, int64_t b)
{
    int64_t r = mod_trunc_i64(a, b);
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

/* The result has the divisor's sign, as Python's %. */
static double mod_floor(double a, double b)
{
    double r = fmod(a, b);
    if (r != 0 && (r < 0) != (b < 0))
        return r + b;
    return r == 0 ? copysign(0, b) : r;
}

static uint64_t pow_u64_of(uint64_t a, uint64_t b)
{
    uint64_t y = 1;
    for (; b; b >>= 1, a *= a)
        if (b & 1)
            y *= a;
    return y;
}

static int64_t pow_i64_of(int64_t a, int64_t b)
{
    if (b >= 0)
        return (int64_t)pow_u64_of((uint64_t)a, (uint64_t)b);
    return a == 1 ? 1 : a == -1 ? (b & 1 ? -1 : 1) : 0;
}

BINARY(add, a + b, WRAP(+), a + b)
BINARY(sub, a - b, WRAP(-), a - b)
BINARY(mul, a *b, WRAP(*), a *b)
BINARY(div, a / b, div_i64_of(a, b), b ? a / b : 0)
SAME(min, a < b || a != a ? a : b)
SAME(max, a > b || a != a ? a : b)
BINARY(prelu, a < 0 ? a * b : a, a < 0 ? WRAP(*) : a, a)
FNS(equal, a == b, a == b, a == b)
SAME(greater, a > b)
SAME(greater_equal, a >= b)
SAME(less, a < b)
SAME(less_equal, a <= b)
SAME(and, a &&b)
SAME(or, a || b)
SAME(xor, !a != !b)
BINARY(bitwise_and, a, a &b, a &b)
BINARY(bitwise_or, a, a | b, a | b)
BINARY(bitwise_xor, a, a ^ b, a ^ b)
FNS(pow, pow(a, b), pow_i64_of(a, b), pow_u64_of(a, b))
FNS(mod, mod_floor(a, b), mod_floor_i64(a, b), b ? a % b : 0)
FNS(fmod, fmod(a, b), mod_trunc_i64(a, b), b ? a % b : 0)
/* Past the width nothing but the sign is left; a negative shift is a very large one. */
FNS(shift_left, a, (uint64_t)b < 64 ? (int64_t)((uint64_t)a << (b & 63)) : 0, b < 64 ? a << b : 0)
FNS(shift_right, a, a >> ((uint64_t)b < 64 ? b : 63), b < 64 ? a >> b : 0)

static void run_equal_strings(struct wn_run *run)
{
    const struct winnow_str *a = run->in[0]->data, *b = run->in[1]->data;
    struct walk w;
    walk_init(&w, run);
    int64_t idx[WINNOW_MAX_RANK] = { 0 };
    for (int64_t i = 0, n = wn_tensor_count(&run->out[0]); i < n; i++, wn_next_index(w.rank, w.dim, idx)) {
        int64_t at[2] = { 0 };
        for (unsigned k = 0; k < w.rank; k++) {
            at[0] += idx[k] * w.stride[0][k];
            at[1] += idx[k] * w.stride[1][k];
        }
        const struct winnow_str *p = &a[at[0]], *q = &b[at[1]];
        ((uint8_t *)run->out[0].data)[i] = p->n == q->n && (!p->n || memcmp(p->p, q->p, p->n) == 0);
    }
}

enum winnow_status wn_run_equal(struct wn_run *run, struct winnow_err *err)
{
    if (run->in[0]->dtype != WINNOW_STRING)
        return run_fold(run, &fns_equal);
    run_equal_strings(run);
    return WINNOW_OK;
}

enum winnow_status wn_run_mean(struct wn_run *run, struct winnow_err *err)
{
    return run_as(run, &fns_add, wn_cls_of(run->in[0]->dtype), run->n_in == 1 ? 1 : 1.0 / run->n_in);
}

enum winnow_status wn_run_mod(struct wn_run *run, struct winnow_err *err)
{
    return run_fold(run, wn_node_int(run->node, "fmod", 0) ? &fns_fmod : &fns_mod);
}

enum winnow_status wn_run_bit_shift(struct wn_run *run, struct winnow_err *err)
{
    return run_fold(run, wn_node_str_is(run->node, "direction", "", "LEFT") ? &fns_shift_left : &fns_shift_right);
}

/* The exponent may have another dtype; an integer base with a float exponent is computed in f64 and truncated. */
enum winnow_status wn_run_pow(struct wn_run *run, struct winnow_err *err)
{
    enum wn_cls cls = wn_cls_of(run->in[0]->dtype);
    if (cls >= WN_CLS_I64 && wn_dtype_is_float(run->in[1]->dtype))
        cls = WN_CLS_F64;
    else if (cls == WN_CLS_U64 && wn_cls_of(run->in[1]->dtype) == WN_CLS_I64)
        cls = WN_CLS_I64; /* so that a negative exponent stays one */
    return run_as(run, &fns_pow, cls, 1);
}

/* PRelu's slope broadcasts one way only; infer checked that. */

enum winnow_status wn_run_where(struct wn_run *run, struct winnow_err *err)
{
    struct wn_tensor *y = &run->out[0];
    struct walk w;
    walk_init(&w, run);
    size_t elem = winnow_dtype_size(y->dtype);
    int64_t idx[WINNOW_MAX_RANK] = { 0 }, n = wn_tensor_count(y);
    const uint8_t *cond = run->in[0]->data;
    for (int64_t at = 0; at < n; at++, wn_next_index(w.rank, w.dim, idx)) {
        int64_t from[3] = { 0, 0, 0 };
        for (unsigned i = 0; i < 3; i++)
            for (unsigned a = 0; a < w.rank; a++)
                from[i] += idx[a] * w.stride[i][a];
        unsigned pick = cond[from[0]] ? 1 : 2;
        memcpy((char *)y->data + (size_t)at * elem, (const char *)run->in[pick]->data + from[pick] * (int64_t)elem,
               elem);
    }
    return WINNOW_OK;
}

/* ---- shape rules ---- */
static enum winnow_status infer_bcast(struct wn_infer *in, uint32_t mask, struct winnow_err *err)
{
    struct wn_type y = in->in[0];
    for (unsigned i = 0; i < in->n_in; i++) {
        if (!in->given[i])
            return wn_bad(err, "input %u may not be omitted", i);
        WN_TRY(wn_want(in, i, mask, err));
        WN_TRY(wn_want_same(in, 0, i, err));
        if (!y.dtype)
            y.dtype = in->in[i].dtype;
        if (i)
            WN_TRY(wn_type_broadcast(&y, &in->in[i], err));
    }
    in->out[0] = y;
    return WINNOW_OK;
}

enum winnow_status wn_infer_binary(struct wn_infer *in, struct winnow_err *err)
{
    return infer_bcast(in, WN_NUMBERS, err);
}

enum winnow_status wn_infer_binary_float(struct wn_infer *in, struct winnow_err *err)
{
    return infer_bcast(in, WN_FLOATS, err);
}

enum winnow_status wn_infer_binary_int(struct wn_infer *in, struct winnow_err *err)
{
    return infer_bcast(in, WN_INTS, err);
}

enum winnow_status wn_infer_bit_shift(struct wn_infer *in, struct winnow_err *err)
{
    if (!wn_node_str_is(in->node, "direction", "", "LEFT") && !wn_node_str_is(in->node, "direction", "", "RIGHT"))
        return wn_bad(err, "attribute direction must be LEFT or RIGHT");
    return infer_bcast(in, WN_INTS, err);
}

enum winnow_status wn_infer_mod(struct wn_infer *in, struct winnow_err *err)
{
    if (in->node->opset < 28 && wn_dtype_is_float(in->in[0].dtype) && !wn_node_int(in->node, "fmod", 0))
        return wn_bad(err, "attribute fmod must be 1 for %s before opset 28", winnow_dtype_name(in->in[0].dtype));
    return infer_bcast(in, WN_NUMBERS, err);
}

enum winnow_status wn_infer_pow(struct wn_infer *in, struct winnow_err *err)
{
    WN_TRY(wn_want(in, 0, WN_NUMBERS, err));
    WN_TRY(wn_want(in, 1, WN_NUMBERS, err));
    in->out[0] = in->in[0];
    return wn_type_broadcast(&in->out[0], &in->in[1], err);
}

static enum winnow_status to_bool(struct wn_infer *in, uint32_t mask, struct winnow_err *err)
{
    WN_TRY(infer_bcast(in, mask, err));
    in->out[0].dtype = WINNOW_BOOL;
    return WINNOW_OK;
}

enum winnow_status wn_infer_compare(struct wn_infer *in, struct winnow_err *err)
{
    return to_bool(in, WN_NUMBERS, err);
}

enum winnow_status wn_infer_equal(struct wn_infer *in, struct winnow_err *err)
{
    return to_bool(in, WN_ALL, err);
}

enum winnow_status wn_infer_logical(struct wn_infer *in, struct winnow_err *err)
{
    return to_bool(in, WN_D(BOOL), err);
}

enum winnow_status wn_infer_prelu(struct wn_infer *in, struct winnow_err *err)
{
    WN_TRY(infer_bcast(in, WN_NUMBERS, err));
    const struct wn_type *x = &in->in[0];
    bool wider = x->rank >= 0 && in->out[0].rank > x->rank;
    for (int i = 0; x->rank >= 0 && !wider && i < x->rank; i++)
        wider |= x->dim[i] >= 0 && in->out[0].dim[i] >= 0 && x->dim[i] != in->out[0].dim[i];
    if (wider)
        return wn_bad(err, "slope is wider than X");
    if (x->rank >= 0)
        in->out[0] = *x;
    return WINNOW_OK;
}

enum winnow_status wn_infer_where(struct wn_infer *in, struct winnow_err *err)
{
    WN_TRY(wn_want(in, 0, WN_D(BOOL), err));
    WN_TRY(wn_want(in, 1, WN_ALL, err));
    WN_TRY(wn_want_same(in, 1, 2, err));
    struct wn_type y = in->in[1];
    if (!y.dtype)
        y.dtype = in->in[2].dtype;
    WN_TRY(wn_type_broadcast(&y, &in->in[2], err));
    WN_TRY(wn_type_broadcast(&y, &in->in[0], err));
    in->out[0] = y;
    return WINNOW_OK;
}
