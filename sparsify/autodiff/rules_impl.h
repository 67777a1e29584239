/* rules_impl.h: what the rules share. */
#ifndef WN_RULES_IMPL_H
#define WN_RULES_IMPL_H

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "sparsify/autodiff/net.h"
#include "sparsify/kernels/rng.h"
#include "sparsify/kernels/team.h"

/* Cost constants, ns on one Zen 3 core (AVX2), forward + backward (see rules_conv.c for the others). */
#define WN_COST_FLAT    0.5 /* per element of an elementwise operator, either side */
#define WN_COST_CONVERT 1.2 /* per element of a layout change and its reverse */

struct wn_flat {
    struct wn_net *net;
    const struct wn_net_op *op;
    const float *a, *b;
    float *y;
};
/** Run fn on pieces of [0, floats) that are multiples of 16, over the team. */
void wn_net_flat(struct wn_net *net, size_t floats, void (*fn)(const struct wn_flat *f, size_t from, size_t n),
                 const struct wn_flat *f);

static inline double wn_cost_flat(const struct wn_net *net, const struct wn_net_op *op, enum wn_side side)
{
    (void)side;
    return WN_COST_FLAT * (double)wn_val_count(&net->logical.val.at[op->out]);
}
static inline unsigned wn_saves_x(const struct wn_net_op *op)
{
    (void)op;
    return WN_SAVES_X;
}
static inline unsigned wn_saves_y(const struct wn_net_op *op)
{
    (void)op;
    return WN_SAVES_Y;
}
static inline unsigned wn_saves_none(const struct wn_net_op *op)
{
    (void)op;
    return 0;
}

#endif
