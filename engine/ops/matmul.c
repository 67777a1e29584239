/* matmul.c: MatMul, Gemm, and their integer forms.  Source: ONNX Operators.md (numpy.matmul semantics).
 *
 * Products are summed in f64 for floats and exactly in 64 bits for 8-bit integers; 32-bit and wider integers wrap. */
#include "engine/ops/budget.h"
#include "engine/ops/impl.h"

#include <math.h>

#include <string.h>

/* ---- the shape of a matrix product ---- */

/* numpy.matmul: vectors are promoted, leading axes broadcast. */
static enum winnow_status infer_product(const struct wn_type *a, const struct wn_type *b, struct wn_type *y,
                                        struct winnow_err *err)
{
    if (a->rank < 0 || b->rank < 0)
        return WINNOW_OK;
    if (a->rank == 0 || b->rank == 0)
        return wn_bad(err, "a scalar has no matrix product");
    int64_t k;
    int ra = WN_MAX(a->rank, 2), rb = WN_MAX(b->rank, 2);
    struct wn_type lead_a = { .rank = ra - 2 }, lead_b = { .rank = rb - 2 };
    memcpy(lead_a.dim, a->dim, (size_t)lead_a.rank * sizeof a->dim[0]);
    memcpy(lead_b.dim, b->dim, (size_t)lead_b.rank * sizeof b->dim[0]);
    WN_TRY(wn_dim_same(a->dim[a->rank - 1], b->dim[b->rank == 1 ? 0 : b->rank - 2], "inner extents", &k, err));
    WN_TRY(wn_type_broadcast(&lead_a, &lead_b, err));
    y->rank = lead_a.rank;
    memcpy(y->dim, lead_a.dim, sizeof y->dim);
    if (a->rank > 1)
        y->dim[y->rank++] = a->dim[a->rank - 2];
    if (b->rank > 1)
        y->dim[y->rank++] = b->dim[b->rank - 1];
    return WINNOW_OK;
}

enum winnow_status wn_infer_matmul(struct wn_infer *in, struct winnow_err *err)
{
    WN_TRY(wn_want(in, 0, WN_NUMBERS, err));
    WN_TRY(wn_want_same(in, 0, 1, err));
    in->out[0].dtype = in->in[0].dtype ? in->in[0].dtype : in->in[1].dtype;
    return infer_product(&in->in[0], &in->in[1], &in->out[0], err);
}

/* A zero point or scale of the product's side: a scalar, or along the last axes as the side has rows or columns. */
static enum winnow_status want_quant_param(const struct wn_infer *in, unsigned i, int64_t extent, const char *what,
                                           struct winnow_err *err)
{
    if (i >= in->n_in || !in->given[i] || in->in[i].rank <= 0)
        return WINNOW_OK;
    if (in->in[i].rank != 1)
        return wn_lack(err, "%s with rank %d (only per tensor and per row or column)", what, in->in[i].rank);
    int64_t n = in->in[i].dim[0];
    if (n >= 0 && n != 1 && extent >= 0 && n != extent)
        return wn_bad(err, "%s has %lld elements, must have 1 or %lld", what, (long long)n, (long long)extent);
    return WINNOW_OK;
}

static int64_t rows_of(const struct wn_type *t)
{
    return t->rank >= 2 ? t->dim[t->rank - 2] : t->rank == 1 ? 1 : -1;
}

static int64_t cols_of(const struct wn_type *t)
{
    return t->rank >= 2 ? t->dim[t->rank - 1] : t->rank == 1 ? 1 : -1;
}

enum winnow_status wn_infer_matmul_integer(struct wn_infer *in, struct winnow_err *err)
{
    WN_TRY(wn_want(in, 0, WN_U8_I8, err));
    WN_TRY(wn_want(in, 1, WN_U8_I8, err));
    WN_TRY(wn_want_same(in, 0, 2, err));
    WN_TRY(wn_want_same(in, 1, 3, err));
    WN_TRY(want_quant_param(in, 2, rows_of(&in->in[0]), "a_zero_point", err));
    WN_TRY(want_quant_param(in, 3, cols_of(&in->in[1]), "b_zero_point", err));
    in->out[0].dtype = WINNOW_I32;
    return infer_product(&in->in[0], &in->in[1], &in->out[0], err);
}

enum winnow_status wn_infer_qlinear_matmul(struct wn_infer *in, struct winnow_err *err)
{
    WN_TRY(wn_want(in, 0, WN_U8_I8, err));
    WN_TRY(wn_want(in, 3, WN_U8_I8, err));
    WN_TRY(wn_want(in, 7, WN_U8_I8, err));
    WN_TRY(wn_want_same(in, 0, 2, err));
    WN_TRY(wn_want_same(in, 3, 5, err));
    WN_TRY(want_quant_param(in, 1, rows_of(&in->in[0]), "a_scale", err));
    WN_TRY(want_quant_param(in, 2, rows_of(&in->in[0]), "a_zero_point", err));
    WN_TRY(want_quant_param(in, 4, cols_of(&in->in[3]), "b_scale", err));
    WN_TRY(want_quant_param(in, 5, cols_of(&in->in[3]), "b_zero_point", err));
    WN_TRY(want_quant_param(in, 6, 1, "y_scale", err));
    WN_TRY(want_quant_param(in, 7, 1, "y_zero_point", err));
    in->out[0].dtype = in->in[7].dtype;
    return infer_product(&in->in[0], &in->in[3], &in->out[0], err);
}

/* ---- the product ---- */

/* y (m, n) = a (m, k; strides am, ak) * b (k, n; strides bk, bn) */
struct mm {
    int64_t m, n, k, am, ak, bk, bn;
};
#define DEFINE_MM(NAME, T, ACC)                                                                                        \
    static enum winnow_status NAME(const struct mm *s, const T *a, const T *b, ACC *y, struct wn_budget *budget,       \
                                   struct winnow_err *err)                                                             \
    {                                                                                                                  \
        for (int64_t i = 0; i < s->m; i++) {                                                                           \
            WN_TRY(wn_budget_work(budget, (uint64_t)(s->k * s->n), err));                                              \
            ACC *row = y + i * s->n;                                                                                   \
            memset(row, 0, (size_t)s->n * sizeof *row);                                                                \
            for (int64_t k = 0; k < s->k; k++) {                                                                       \
                const ACC v = (ACC)a[i * s->am + k * s->ak];                                                           \
                const T *br = b + k * s->bk;                                                                           \
                for (int64_t j = 0; j < s->n; j++)                                                                     \
                    row[j] += v * (ACC)br[j * s->bn];                                                                  \
            }                                                                                                          \
        }                                                                                                              \
        return WINNOW_OK;                                                                                              \
    }
DEFINE_MM(mm_f64, double, double)
DEFINE_MM(mm_u64, uint64_t, uint64_t) /* also for signed: two's complement products agree modulo 2^64 */

/* A batched product: offsets of the operands for every matrix of the output. */
struct batch {
    struct mm mm;
    unsigned rank; /* leading axes */
    int64_t dim[WINNOW_MAX_RANK], sa[WINNOW_MAX_RANK], sb[WINNOW_MAX_RANK];
};

static void batch_init(struct batch *bt, const struct wn_tensor *a, const struct wn_tensor *b)
{
    unsigned la = a->rank > 2 ? a->rank - 2 : 0, lb = b->rank > 2 ? b->rank - 2 : 0;
    int64_t own_a[WINNOW_MAX_RANK], own_b[WINNOW_MAX_RANK];
    wn_strides(a->rank, a->dim, own_a);
    wn_strides(b->rank, b->dim, own_b);
    bt->rank = WN_MAX(la, lb);
    for (unsigned i = 0; i < bt->rank; i++) {
        unsigned ia = i + la - bt->rank, ib = i + lb - bt->rank; /* wraps where the operand has no such axis */
        int64_t da = ia < la ? a->dim[ia] : 1, db = ib < lb ? b->dim[ib] : 1;
        bt->dim[i] = da == 1 ? db : da;
        bt->sa[i] = da == 1 ? 0 : own_a[ia];
        bt->sb[i] = db == 1 ? 0 : own_b[ib];
    }
    struct mm *s = &bt->mm;
    s->m = a->rank > 1 ? a->dim[a->rank - 2] : 1;
    s->k = a->dim[a->rank - 1];
    s->n = b->rank > 1 ? b->dim[b->rank - 1] : 1;
    s->am = s->k;
    s->ak = s->bn = 1;
    s->bk = s->n;
}

#define DEFINE_BATCH(NAME, MM, T)                                                                                      \
    static enum winnow_status NAME(const struct batch *bt, const T *a, const T *b, T *y, struct wn_budget *budget,     \
                                   struct winnow_err *err)                                                             \
    {                                                                                                                  \
        for (unsigned i = 0; i < bt->rank; i++)                                                                        \
            if (bt->dim[i] == 0)                                                                                       \
                return WINNOW_OK;                                                                                      \
        int64_t idx[WINNOW_MAX_RANK] = { 0 };                                                                          \
        do {                                                                                                           \
            int64_t oa = 0, ob = 0;                                                                                    \
            for (unsigned i = 0; i < bt->rank; i++) {                                                                  \
                oa += idx[i] * bt->sa[i];                                                                              \
                ob += idx[i] * bt->sb[i];                                                                              \
            }                                                                                                          \
            WN_TRY(MM(&bt->mm, a + oa, b + ob, y, budget, err));                                                       \
            y += bt->mm.m * bt->mm.n;                                                                                  \
        } while (wn_next_index(bt->rank, bt->dim, idx));                                                               \
        return WINNOW_OK;                                                                                              \
    }
DEFINE_BATCH(batch_f64, mm_f64, double)
DEFINE_BATCH(batch_u64, mm_u64, uint64_t)

static void store_all(struct wn_tensor *y, enum wn_cls cls, const void *v)
{
    for (int64_t i = 0, n = wn_tensor_count(y); i < n; i += WN_CHUNK)
        wn_store(y->dtype, y->data, i, (size_t)WN_MIN(n - i, WN_CHUNK), cls, (const char *)v + i * 8);
}

enum winnow_status wn_run_matmul(struct wn_run *run, struct winnow_err *err)
{
    struct batch bt;
    struct wn_tensor *y = &run->out[0];
    batch_init(&bt, run->in[0], run->in[1]);
    void *acc = wn_arena_calloc(run->tmp, (size_t)wn_tensor_count(y), 8);
    bool is_float = wn_dtype_is_float(y->dtype);
    const void *a = is_float ? (const void *)wn_as_f64(run->in[0], run->tmp) : wn_as_i64(run->in[0], run->tmp);
    const void *b = is_float ? (const void *)wn_as_f64(run->in[1], run->tmp) : wn_as_i64(run->in[1], run->tmp);
    if (!acc || !a || !b)
        return wn_nomem(err);
    if (is_float)
        WN_TRY(batch_f64(&bt, a, b, acc, run->budget, err));
    else
        WN_TRY(batch_u64(&bt, a, b, acc, run->budget, err));
    store_all(y, is_float ? WN_CLS_F64 : WN_CLS_U64, acc);
    return WINNOW_OK;
}

/* ---- 8-bit products ---- */

/* t - zp in 64 bits; zp has one element, or one per row (by_row) or column. */
static const uint64_t *centred(const struct wn_tensor *t, const struct wn_tensor *zp, bool by_row, struct wn_arena *tmp)
{
    int64_t n = wn_tensor_count(t), cols = t->rank ? t->dim[t->rank - 1] : 1;
    int64_t rows = t->rank > 1 ? t->dim[t->rank - 2] : 1;
    bool many = zp && wn_tensor_count(zp) > 1;
    uint64_t *y = wn_arena_calloc(tmp, (size_t)n, sizeof *y);
    int64_t z = zp && n ? wn_scalar_int(zp, 0) : 0;
    for (int64_t i = 0; y && i < n; i++) {
        int64_t v = t->dtype == WINNOW_U8 ? ((const uint8_t *)t->data)[i] : ((const int8_t *)t->data)[i];
        if (many)
            z = wn_scalar_int(zp, by_row ? i / cols % rows : i % (t->rank > 1 ? cols : 1));
        y[i] = (uint64_t)(v - z);
    }
    return y;
}

static enum winnow_status product_u64(struct wn_run *run, unsigned ai, unsigned azp, unsigned bi, unsigned bzp,
                                      const uint64_t **ret, struct winnow_err *err)
{
    struct batch bt;
    batch_init(&bt, run->in[ai], run->in[bi]);
    uint64_t *acc = wn_arena_calloc(run->tmp, (size_t)wn_tensor_count(&run->out[0]), sizeof *acc);
    const uint64_t *a = centred(run->in[ai], azp < run->n_in ? run->in[azp] : NULL, true, run->tmp);
    const uint64_t *b = centred(run->in[bi], bzp < run->n_in ? run->in[bzp] : NULL, false, run->tmp);
    if (!acc || !a || !b)
        return wn_nomem(err);
    WN_TRY(batch_u64(&bt, a, b, acc, run->budget, err));
    *ret = acc;
    return WINNOW_OK;
}

enum winnow_status wn_run_matmul_integer(struct wn_run *run, struct winnow_err *err)
{
    const uint64_t *acc;
    WN_TRY(product_u64(run, 0, 2, 1, 3, &acc, err));
    store_all(&run->out[0], WN_CLS_U64, acc);
    return WINNOW_OK;
}

/* y = saturate(rne(acc * mul) + zp) into 8 bits. */
static void requantize(struct wn_tensor *y, int64_t i, int32_t acc, float mul, float zp)
{
    float lo = y->dtype == WINNOW_U8 ? 0 : -128, hi = y->dtype == WINNOW_U8 ? 255 : 127;
    float f = wn_rne_clamp((float)acc * mul, lo - zp, hi - zp) + zp;
    if (y->dtype == WINNOW_U8)
        ((uint8_t *)y->data)[i] = (uint8_t)f;
    else
        ((int8_t *)y->data)[i] = (int8_t)f;
}

static double param_at(const struct wn_tensor *t, int64_t i)
{
    return wn_scalar(t, wn_tensor_count(t) > 1 ? i : 0);
}

enum winnow_status wn_run_qlinear_matmul(struct wn_run *run, struct winnow_err *err)
{
    const uint64_t *acc;
    WN_TRY(product_u64(run, 0, 2, 3, 5, &acc, err));
    struct wn_tensor *y = &run->out[0];
    int64_t cols = run->in[3]->rank > 1 ? run->in[3]->dim[run->in[3]->rank - 1] : 1;
    int64_t rows = run->in[0]->rank > 1 ? run->in[0]->dim[run->in[0]->rank - 2] : 1;
    double y_scale = wn_scalar(run->in[6], 0);
    float zp = (float)wn_scalar_int(run->in[7], 0);
    for (int64_t i = 0, n = wn_tensor_count(y); i < n; i++) {
        double mul = param_at(run->in[1], i / cols % rows) * param_at(run->in[4], i % cols) / y_scale;
        requantize(y, i, (int32_t)acc[i], (float)mul, zp);
    }
    return WINNOW_OK;
}

/* ---- Gemm: alpha * A' B' + beta * C ---- */
static enum winnow_status infer_gemm(struct wn_infer *in, unsigned bi, unsigned ci, struct winnow_err *err)
{
    const struct wn_type *a = &in->in[0], *b = &in->in[bi];
    struct wn_type *y = &in->out[0];
    int64_t k;
    WN_TRY(wn_want_rank(in, 0, 2, 2, err));
    WN_TRY(wn_want_rank(in, bi, 2, 2, err));
    bool ta = wn_node_int(in->node, "transA", 0) != 0, tb = wn_node_int(in->node, "transB", 0) != 0;
    wn_type_set_rank(y, 2);
    if (a->rank == 2)
        y->dim[0] = a->dim[ta ? 1 : 0];
    if (b->rank == 2)
        y->dim[1] = b->dim[tb ? 0 : 1];
    if (a->rank == 2 && b->rank == 2)
        WN_TRY(wn_dim_same(a->dim[ta ? 0 : 1], b->dim[tb ? 1 : 0], "inner extents", &k, err));
    if (ci >= in->n_in || !in->given[ci] || in->in[ci].rank < 0)
        return WINNOW_OK;
    struct wn_type with_c = *y;
    WN_TRY(wn_type_broadcast(&with_c, &in->in[ci], err));
    for (int i = 0; i < 2; i++)
        if (with_c.rank != 2 || (y->dim[i] >= 0 && with_c.dim[i] >= 0 && with_c.dim[i] != y->dim[i]))
            return wn_bad(err, "C does not broadcast to the product's shape");
    return WINNOW_OK;
}

enum winnow_status wn_infer_gemm(struct wn_infer *in, struct winnow_err *err)
{
    WN_TRY(wn_want(in, 0, WN_NUMBERS, err));
    WN_TRY(wn_want_same(in, 0, 1, err));
    WN_TRY(wn_want_same(in, 0, 2, err));
    in->out[0].dtype = in->in[0].dtype;
    return infer_gemm(in, 1, 2, err);
}

static void gemm_init(struct mm *s, const struct wn_node *node, const struct wn_tensor *a, const struct wn_tensor *b)
{
    bool ta = wn_node_int(node, "transA", 0) != 0, tb = wn_node_int(node, "transB", 0) != 0;
    *s = (struct mm){ .m = a->dim[ta ? 1 : 0],
                      .k = a->dim[ta ? 0 : 1],
                      .n = b->dim[tb ? 0 : 1],
                      .am = ta ? 1 : a->dim[1],
                      .ak = ta ? a->dim[1] : 1,
                      .bk = tb ? 1 : b->dim[1],
                      .bn = tb ? b->dim[1] : 1 };
}

enum winnow_status wn_run_gemm(struct wn_run *run, struct winnow_err *err)
{
    struct mm s;
    struct wn_tensor *y = &run->out[0];
    const struct wn_tensor *ct = run->n_in > 2 ? run->in[2] : NULL;
    gemm_init(&s, run->node, run->in[0], run->in[1]);
    double alpha = wn_node_float(run->node, "alpha", 1), beta = wn_node_float(run->node, "beta", 1);
    const double *a = wn_as_f64(run->in[0], run->tmp), *b = wn_as_f64(run->in[1], run->tmp);
    const double *c = ct ? wn_as_f64(ct, run->tmp) : NULL;
    double *acc = wn_arena_calloc(run->tmp, (size_t)wn_tensor_count(y), sizeof *acc);
    if (!a || !b || !acc || (ct && !c))
        return wn_nomem(err);
    WN_TRY(mm_f64(&s, a, b, acc, run->budget, err));
    int64_t sc[2] = { 0, 0 };
    if (ct)
        wn_bcast_strides(ct, 2, y->dim, sc);
    for (int64_t i = 0, n = wn_tensor_count(y); i < n; i++)
        acc[i] = alpha * acc[i] + (c ? beta * c[i / s.n * sc[0] + i % s.n * sc[1]] : 0);
    store_all(y, WN_CLS_F64, acc);
    return WINNOW_OK;
}

/* com.microsoft QGemm: A, a_scale, a_zp, B, b_scale, b_zp, C (i32), y_scale, y_zp. Without y_scale the result is f32.
 */
enum winnow_status wn_infer_qgemm(struct wn_infer *in, struct winnow_err *err)
{
    WN_TRY(wn_want(in, 0, WN_U8_I8, err));
    WN_TRY(wn_want(in, 3, WN_U8_I8, err));
    WN_TRY(wn_want(in, 6, WN_D(I32), err));
    static const unsigned needed[] = { 0, 1, 3, 4 };
    WN_TRY(wn_want_given(in, needed, WN_COUNT(needed), err));
    bool tb = wn_node_int(in->node, "transB", 0) != 0;
    int64_t n = in->in[3].rank == 2 ? in->in[3].dim[tb ? 0 : 1] : -1;
    WN_TRY(want_quant_param(in, 1, 1, "a_scale", err));
    WN_TRY(want_quant_param(in, 2, 1, "a_zero_point", err));
    WN_TRY(want_quant_param(in, 4, n, "b_scale", err));
    WN_TRY(want_quant_param(in, 5, n, "b_zero_point", err));
    WN_TRY(want_quant_param(in, 7, 1, "y_scale", err));
    WN_TRY(want_quant_param(in, 8, 1, "y_zero_point", err));
    bool quantized = in->n_in > 7 && in->given[7];
    if (quantized && (in->n_in < 9 || !in->given[8]))
        return wn_bad(err, "y_scale without y_zero_point");
    in->out[0].dtype = quantized ? in->in[8].dtype : WINNOW_F32;
    return infer_gemm(in, 3, 6, err);
}

enum winnow_status wn_run_qgemm(struct wn_run *run, struct winnow_err *err)
{
    struct mm s;
    struct wn_tensor *y = &run->out[0];
    const struct wn_tensor *const *in = run->in, *ct = run->n_in > 6 ? in[6] : NULL;
    gemm_init(&s, run->node, in[0], in[3]);
    bool tb = wn_node_int(run->node, "transB", 0) != 0;
    uint64_t *acc = wn_arena_calloc(run->tmp, (size_t)wn_tensor_count(y), sizeof *acc);
    const uint64_t *a = centred(in[0], in[2], false, run->tmp), *b = centred(in[3], in[5], tb, run->tmp);
    if (!acc || !a || !b)
        return wn_nomem(err);
    WN_TRY(mm_u64(&s, a, b, acc, run->budget, err));
    bool quantized = run->n_in > 7 && in[7];
    int64_t sc[2] = { 0, 0 };
    if (ct)
        wn_bcast_strides(ct, 2, y->dim, sc);
    double scale = (double)wn_node_float(run->node, "alpha", 1) * wn_scalar(in[1], 0);
    double y_scale = quantized ? wn_scalar(in[7], 0) : 1;
    float zp = quantized ? (float)wn_scalar_int(in[8], 0) : 0;
    for (int64_t i = 0, n = wn_tensor_count(y); i < n; i++) {
        uint64_t sum = acc[i] + (ct ? (uint64_t)wn_scalar_int(ct, i / s.n * sc[0] + i % s.n * sc[1]) : 0);
        double mul = scale * param_at(in[4], i % s.n);
        if (quantized)
            requantize(y, i, (int32_t)sum, (float)(mul / y_scale), zp);
        else
            ((float *)y->data)[i] = (float)(int32_t)sum * (float)mul;
    }
    return WINNOW_OK;
}

/* ---- batch axis: rows of the left operand, or a leading axis of both ---- */
static void rows_product(struct wn_rows *r, unsigned ai, unsigned bi)
{
    if (wn_rows_trivial(r))
        return;
    int a = r->in_axis[ai], b = r->in_axis[bi], ra = r->infer->in[ai].rank, rb = r->infer->in[bi].rank;
    for (unsigned i = 0; i < r->n_in; i++)
        if (i != ai && i != bi && r->in_axis[i] >= 0)
            return;
    if (ra < 2 || rb < 2)
        return;
    int rank = WN_MAX(ra, rb), ya = a >= 0 ? a + rank - ra : -1, yb = b >= 0 ? b + rank - rb : -1;
    if (a >= 0 && b < 0 && a != ra - 1) {
        int in_b = ya - (rank - rb); /* a leading axis must not meet different matrices of b */
        if (a == ra - 2 || in_b < 0 || r->infer->in[bi].dim[in_b] == 1)
            r->out_axis = ya;
    } else if (b >= 0 && a < 0 && b < rb - 2) {
        int in_a = yb - (rank - ra);
        if (in_a < 0 || r->infer->in[ai].dim[in_a] == 1)
            r->out_axis = yb;
    } else if (a >= 0 && b >= 0 && ya == yb && ya < rank - 2) {
        r->out_axis = ya;
    }
}

void wn_rows_matmul(struct wn_rows *r)
{
    rows_product(r, 0, 1);
}

/* The left operand's scale or zero point per row would be another one for a row that moves. */
void wn_rows_matmul_integer(struct wn_rows *r)
{
    rows_product(r, 0, 1);
    if (r->out_axis >= 0 && r->n_in > 2 && r->infer->given[2] && r->infer->in[2].rank != 0 &&
        r->infer->in[2].dim[0] != 1)
        r->out_axis = WN_ROWS_MIXED;
}

void wn_rows_qlinear_matmul(struct wn_rows *r)
{
    rows_product(r, 0, 3);
    for (unsigned i = 1; i <= 2; i++)
        if (r->out_axis >= 0 && r->infer->in[i].rank != 0 && r->infer->in[i].dim[0] != 1)
            r->out_axis = WN_ROWS_MIXED;
}

static void rows_gemm(struct wn_rows *r, unsigned ci)
{
    if (wn_rows_trivial(r) || !wn_rows_only(r, 0) || wn_node_int(r->node, "transA", 0) || r->in_axis[0] != 0)
        return;
    const struct wn_type *c = &r->infer->in[ci];
    if (ci >= r->n_in || !r->infer->given[ci] || (c->rank >= 0 && (c->rank < 2 || c->dim[0] == 1)))
        r->out_axis = 0;
}

void wn_rows_gemm(struct wn_rows *r)
{
    rows_gemm(r, 2);
}

void wn_rows_qgemm(struct wn_rows *r)
{
    rows_gemm(r, 6);
}

/* ---- Det: determinants of the last two axes, by elimination with row exchanges, in f64 ---- */
enum winnow_status wn_infer_det(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_type *x = &in->in[0];
    int64_t same;
    WN_TRY(wn_want(in, 0, WN_FLOATS, err));
    WN_TRY(wn_want_rank(in, 0, 2, WINNOW_MAX_RANK, err));
    in->out[0] = *x;
    if (x->rank < 0)
        return WINNOW_OK;
    in->out[0].rank -= 2;
    return wn_dim_same(x->dim[x->rank - 1], x->dim[x->rank - 2], "rows and columns", &same, err);
}

static double determinant(double *a, int64_t n)
{
    double det = 1;
    for (int64_t k = 0; k < n; k++) {
        int64_t best = k;
        for (int64_t i = k + 1; i < n; i++)
            if (fabs(a[i * n + k]) > fabs(a[best * n + k]))
                best = i;
        if (a[best * n + k] == 0)
            return 0;
        for (int64_t j = 0; j < n && best != k; j++) {
            double t = a[k * n + j];
            a[k * n + j] = a[best * n + j];
            a[best * n + j] = t;
        }
        det *= best == k ? a[k * n + k] : -a[k * n + k];
        for (int64_t i = k + 1; i < n; i++)
            for (int64_t j = n; j-- > k;)
                a[i * n + j] -= a[i * n + k] / a[k * n + k] * a[k * n + j];
    }
    return det;
}

enum winnow_status wn_run_det(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0];
    struct wn_tensor *y = &run->out[0];
    int64_t n = x->dim[x->rank - 1];
    double *a = wn_arena_calloc(run->tmp, (size_t)(n * n), sizeof *a);
    if (!a)
        return wn_nomem(err);
    for (int64_t i = 0, count = wn_tensor_count(y); i < count; i++) {
        for (int64_t k = 0; k < n * n; k++)
            a[k] = wn_scalar(x, i * n * n + k);
        double det = determinant(a, n);
        wn_store(y->dtype, y->data, i, 1, WN_CLS_F64, &det);
    }
    return WINNOW_OK;
}
