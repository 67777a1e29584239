/* softmax.c: Softmax, LogSoftmax, Hardmax.  Source: ONNX Operators.md.
 *
 * Since opset 13 they work along one axis (default the last). Before, the input is coerced to a matrix whose columns
 * are all axes from `axis` (default 1) on. */
#include "engine/ops/impl.h"

#include <math.h>

enum mode { SOFT, LOG, HARD };

static enum winnow_status axis_of(const struct wn_node *node, int rank, int *ret, struct winnow_err *err)
{
    bool old = node->opset < 13;
    int64_t axis = wn_node_int(node, "axis", old ? 1 : -1);
    if (rank == 0 || (old && rank == 1 && axis == 1)) { /* nothing to coerce: one row */
        *ret = 0;
        return WINNOW_OK;
    }
    return wn_axis(axis, rank, "axis", ret, err);
}

enum winnow_status wn_infer_softmax(struct wn_infer *in, struct winnow_err *err)
{
    int axis;
    WN_TRY(wn_want(in, 0, WN_FLOATS, err));
    in->out[0] = in->in[0];
    return in->in[0].rank < 0 ? WINNOW_OK : axis_of(in->node, in->in[0].rank, &axis, err);
}

/* One row of n elements, `step` apart. */
#define DEFINE_ROW(NAME, T, EXP, LOG)                                                                                  \
    static void NAME(enum mode mode, const T *x, T *y, int64_t n, int64_t step)                                        \
    {                                                                                                                  \
        T max = -(T)INFINITY, sum = 0;                                                                                 \
        int64_t at = 0;                                                                                                \
        for (int64_t i = 0; i < n; i++)                                                                                \
            if (x[i * step] > max) {                                                                                   \
                max = x[i * step];                                                                                     \
                at = i;                                                                                                \
            }                                                                                                          \
        for (int64_t i = 0; mode == HARD && i < n; i++)                                                                \
            y[i * step] = i == at;                                                                                     \
        if (mode == HARD)                                                                                              \
            return;                                                                                                    \
        for (int64_t i = 0; i < n; i++) {                                                                              \
            T e = EXP(x[i * step] - max);                                                                              \
            sum += e;                                                                                                  \
            if (mode == SOFT)                                                                                          \
                y[i * step] = e;                                                                                       \
        }                                                                                                              \
        T log_sum = LOG(sum);                                                                                          \
        for (int64_t i = 0; i < n; i++)                                                                                \
            y[i * step] = mode == SOFT ? y[i * step] / sum : x[i * step] - max - log_sum;                              \
    }
DEFINE_ROW(row_f32, float, expf, logf)
DEFINE_ROW(row_f64, double, exp, log)

static enum winnow_status run_rows(struct wn_run *run, enum mode mode, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0];
    int axis;
    WN_TRY(axis_of(run->node, (int)x->rank, &axis, err));
    bool old = run->node->opset < 13;
    int64_t total = wn_tensor_count(x), n = 1, step = 1;
    for (unsigned i = (unsigned)axis; i < x->rank; i++) {
        if (old || i == (unsigned)axis)
            n *= x->dim[i];
        else
            step *= x->dim[i];
    }
    if (total == 0)
        return WINNOW_OK;
    bool f64 = x->dtype == WINNOW_F64;
    const float *xf = f64 ? NULL : wn_as_f32(x, run->tmp);
    float *yf = f64 ? NULL : wn_out_f32(run, 0);
    if (!f64 && (!xf || !yf))
        return wn_nomem(err);
    for (int64_t r = 0; r < total / n; r++) {
        int64_t at = r / step * n * step + r % step;
        if (f64)
            row_f64(mode, (const double *)x->data + at, (double *)run->out[0].data + at, n, step);
        else
            row_f32(mode, xf + at, yf + at, n, step);
    }
    if (!f64)
        wn_put_f32(run, 0, yf);
    return WINNOW_OK;
}

enum winnow_status wn_run_softmax(struct wn_run *run, struct winnow_err *err)
{
    return run_rows(run, SOFT, err);
}

enum winnow_status wn_run_log_softmax(struct wn_run *run, struct winnow_err *err)
{
    return run_rows(run, LOG, err);
}

enum winnow_status wn_run_hardmax(struct wn_run *run, struct winnow_err *err)
{
    return run_rows(run, HARD, err);
}

void wn_rows_softmax(struct wn_rows *r)
{
    if (wn_rows_trivial(r) || !wn_rows_only(r, 0) || r->infer->in[0].rank < 1)
        return;
    int axis;
    if (axis_of(r->node, r->infer->in[0].rank, &axis, NULL) != WINNOW_OK)
        return;
    bool old = r->node->opset < 13;
    if (old ? r->in_axis[0] < axis : r->in_axis[0] != axis)
        r->out_axis = r->in_axis[0];
}
