/* rows.c: batch-axis rules that several families share. A rule may say MIXED whenever it cannot tell. */
#include "engine/ops/impl.h"

bool wn_rows_trivial(struct wn_rows *r)
{
    r->out_axis = WN_ROWS_NONE;
    bool batched = false;
    for (unsigned i = 0; i < r->n_in; i++) {
        if (r->in_axis[i] == WN_ROWS_MIXED)
            r->out_axis = WN_ROWS_MIXED;
        batched |= r->in_axis[i] >= 0;
    }
    if (r->out_axis == WN_ROWS_MIXED || !batched)
        return true;
    r->out_axis = WN_ROWS_MIXED; /* until the rule finds better */
    return false;
}

bool wn_rows_only(const struct wn_rows *r, unsigned i)
{
    for (unsigned k = 0; k < r->n_in; k++)
        if ((k == i) != (r->in_axis[k] >= 0))
            return false;
    return true;
}

/* Nothing is known: one row may depend on all. */
void wn_rows_mixed(struct wn_rows *r)
{
    wn_rows_trivial(r);
}

/* Element by element, all inputs broadcast to the output's shape. */
void wn_rows_eltwise(struct wn_rows *r)
{
    if (wn_rows_trivial(r))
        return;
    int out_rank = 0, axis = -1;
    for (unsigned i = 0; i < r->n_in; i++) {
        if (!r->infer->given[i])
            continue;
        if (r->infer->in[i].rank < 0)
            return;
        out_rank = WN_MAX(out_rank, r->infer->in[i].rank);
    }
    for (unsigned i = 0; i < r->n_in; i++) {
        if (r->in_axis[i] < 0)
            continue;
        int a = r->in_axis[i] + out_rank - r->infer->in[i].rank;
        if (axis >= 0 && axis != a)
            return;
        axis = a;
    }
    for (unsigned i = 0; i < r->n_in; i++) { /* an input without batch must be the same for every row */
        int a = axis - (out_rank - r->infer->in[i].rank);
        if (r->infer->given[i] && r->in_axis[i] < 0 && a >= 0 && r->infer->in[i].dim[a] != 1)
            return;
    }
    r->out_axis = axis;
}

/* The output has input 0's axes and each element depends on the row it stands in: the axis stays. */
void wn_rows_same(struct wn_rows *r)
{
    if (!wn_rows_trivial(r) && wn_rows_only(r, 0))
        r->out_axis = r->in_axis[0];
}

/* Like same, but only axis 0 is a batch: convolution, pooling, normalization over channels and space. */
void wn_rows_axis0(struct wn_rows *r)
{
    if (!wn_rows_trivial(r) && wn_rows_only(r, 0) && r->in_axis[0] == 0)
        r->out_axis = 0;
}

/* Like same, unless the batch is the axis (attribute "axis") that the operator works along. */
static void along(struct wn_rows *r, int64_t def)
{
    if (wn_rows_trivial(r) || !wn_rows_only(r, 0) || r->infer->in[0].rank < 0)
        return;
    int rank = r->infer->in[0].rank, axis;
    if (wn_axis(wn_node_int(r->node, "axis", def), rank, "axis", &axis, NULL) == WINNOW_OK && axis != r->in_axis[0])
        r->out_axis = r->in_axis[0];
}

void wn_rows_along_axis0(struct wn_rows *r) /* axis defaults to 0 */
{
    along(r, 0);
}

void wn_rows_along_last(struct wn_rows *r) /* axis defaults to the last */
{
    along(r, -1);
}

/* Works on all axes from "axis" (default -1) to the last: LayerNormalization. */
void wn_rows_before_axis(struct wn_rows *r)
{
    if (wn_rows_trivial(r) || !wn_rows_only(r, 0) || r->infer->in[0].rank < 0)
        return;
    int axis;
    if (wn_axis(wn_node_int(r->node, "axis", -1), r->infer->in[0].rank, "axis", &axis, NULL) == WINNOW_OK &&
        r->in_axis[0] < axis)
        r->out_axis = r->in_axis[0];
}

/* Input 1 lends only its dtype. */
void wn_rows_cast_like(struct wn_rows *r)
{
    r->out_axis = r->in_axis[0];
}
