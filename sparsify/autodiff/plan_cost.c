/* plan_cost.c: which side each operator runs on.
 *
 * DESIGN  Every operator has an estimated cost per side (from its shape and mask: never measured at run time, so that a
 *         resumed run plans the same), and every value that is wanted in another layout than it is made in costs a
 *         conversion. The best assignment is a minimum cut; a descent that flips runs of neighbouring operators, from
 *         "all dense" and from "all lanes", finds it or comes close, and is 60 lines. */
#include "sparsify/autodiff/plan_impl.h"

#define MAX_RUN  16
#define MAX_WORK 100000000 /* operators looked at: a second or so; a net that large keeps what was found by then */

static bool plain_only(const struct wn_net *net, const struct wn_net_op *op)
{
    return op->rule->any_layout && !op->rule->any_layout(net, op);
}

static bool lanes_fit(const struct wn_net *net, const struct wn_net_val *v)
{
    return net->pictures ? (v->rank == 2 || v->rank == 4) && v->dim[0] % WN_LANES == 0
                         : v->rank >= 2 && wn_val_rows(v) % WN_LANES == 0;
}

static bool lanes_possible(const struct wn_net *net, const struct wn_net_op *op)
{
    if (net->no_sparse || plain_only(net, op) || !lanes_fit(net, &net->logical.val.at[op->out]))
        return false;
    for (unsigned i = 0; i < op->n_in; i++)
        if (!lanes_fit(net, &net->logical.val.at[op->in[i]]))
            return false;
    return true;
}

enum wn_layout wn_layout_wanted(const struct wn_net *net, const struct wn_net_op *op, unsigned i, enum wn_side side)
{
    if (side == WN_SIDE_LANES)
        return WN_LAYOUT_LANES;
    if (op->rule->dense_in)
        return op->rule->dense_in(net, op, i);
    return plain_only(net, op) ? WN_LAYOUT_PLAIN : wn_layout_usual(net, net->logical.val.at[op->in[i]].rank, side);
}

enum wn_layout wn_layout_made(const struct wn_net *net, const struct wn_net_op *op, enum wn_side side)
{
    if (side == WN_SIDE_DENSE && plain_only(net, op))
        return WN_LAYOUT_PLAIN;
    return wn_layout_usual(net, net->logical.val.at[op->out].rank, side);
}

static double total(const struct wn_net *net, const enum wn_side *side, const double (*cost)[2], uint8_t *have)
{
    const struct wn_net_list *l = &net->logical;
    for (size_t i = 0; i < l->val.n; i++)
        have[i] = l->val.at[i].maker < 0 ? 1u << WN_LAYOUT_PLAIN : 0;
    double sum = 0;
    for (size_t i = 0; i < l->op.n; i++) {
        const struct wn_net_op *op = &l->op.at[i];
        sum += cost[i][side[i]];
        for (unsigned k = 0; k < op->n_in; k++) {
            unsigned want = 1u << wn_layout_wanted(net, op, k, side[i]);
            if (!(have[op->in[k]] & want))
                sum += WN_COST_CONVERT * (double)wn_val_count(&l->val.at[op->in[k]]);
            have[op->in[k]] |= (uint8_t)want;
        }
        have[op->out] = (uint8_t)(1u << wn_layout_made(net, op, side[i]));
    }
    if (!(have[l->output] & 1u << WN_LAYOUT_PLAIN))
        sum += WN_COST_CONVERT * (double)wn_val_count(&l->val.at[l->output]);
    return sum;
}

static void flip(enum wn_side *side, size_t from, size_t to, const bool *possible)
{
    for (size_t i = from; i < to; i++)
        if (possible[i])
            side[i] = side[i] == WN_SIDE_DENSE ? WN_SIDE_LANES : WN_SIDE_DENSE;
}

static double descend(const struct wn_net *net, enum wn_side *side, const double (*cost)[2], const bool *possible,
                      uint8_t *have)
{
    size_t n = net->logical.op.n;
    double best = total(net, side, cost, have);
    size_t work = 0;
    for (bool better = true; better;) {
        better = false;
        for (size_t i = 0; i < n; i++)
            for (size_t run = 1; run <= MAX_RUN && i + run <= n && (work += n) < MAX_WORK; run++) {
                flip(side, i, i + run, possible);
                double now = total(net, side, cost, have);
                if (now < best * (1 - 1e-9)) {
                    best = now;
                    better = true;
                } else {
                    flip(side, i, i + run, possible);
                }
            }
    }
    return best;
}

void wn_plan_choose(struct wn_net *net, enum wn_side *side)
{
    size_t n = net->logical.op.n;
    double(*cost)[2] = calloc(n + 1, sizeof *cost);
    bool *possible = calloc(n + 1, sizeof *possible);
    uint8_t *have = calloc(net->logical.val.n + 1, 1);
    enum wn_side *other = calloc(n + 1, sizeof *other);
    for (size_t i = 0; i < n; i++)
        side[i] = WN_SIDE_DENSE;
    if (cost && possible && have && other) {
        for (size_t i = 0; i < n; i++) {
            const struct wn_net_op *op = &net->logical.op.at[i];
            possible[i] = lanes_possible(net, op);
            other[i] = possible[i] ? WN_SIDE_LANES : WN_SIDE_DENSE;
            cost[i][WN_SIDE_DENSE] = op->rule->cost(net, op, WN_SIDE_DENSE);
            cost[i][WN_SIDE_LANES] = op->rule->cost(net, op, WN_SIDE_LANES);
        }
        net->predicted_ns = descend(net, side, (const double(*)[2])cost, possible, have);
        if (net->all_sparse)
            memcpy(side, other, n * sizeof *side);
        double lanes = descend(net, other, (const double(*)[2])cost, possible, have);
        if (!net->all_sparse && lanes < net->predicted_ns) {
            net->predicted_ns = lanes;
            memcpy(side, other, n * sizeof *side);
        }
    }
    free(cost);
    free(possible);
    free(have);
    free(other);
}
