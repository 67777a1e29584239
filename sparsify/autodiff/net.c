/* net.c: lists of values and operators. */
#include "sparsify/autodiff/net.h"

#include <stdlib.h>
#include <string.h>

int wn_net_add_val(struct wn_net *net, struct wn_net_list *list, const char *name, wn_vid vid, unsigned rank,
                   const int64_t *dim)
{
    (void)net;
    struct wn_net_val v = { .name = name, .vid = vid, .rank = rank, .maker = -1, .logical = -1, .buf = -1 };
    memcpy(v.dim, dim, rank * sizeof *dim);
    return wn_vec_push(&list->val, v) ? (int)list->val.n - 1 : -1;
}

struct wn_net_op *wn_net_add_op(struct wn_arena *arena, struct wn_net_list *list, const struct wn_rule *rule,
                                const char *name, const int *in, unsigned n_in, int out)
{
    struct wn_net_op op = { .rule = rule, .name = name, .n_in = n_in, .out = out, .dy_buf = -1 };
    op.id = (unsigned)list->op.n;
    op.in = wn_arena_memdup(arena, in, n_in * sizeof *in);
    op.dx = wn_arena_calloc(arena, n_in + 1, sizeof *op.dx);
    op.add = wn_arena_calloc(arena, n_in + 1, sizeof *op.add);
    op.dx_buf = wn_arena_calloc(arena, n_in + 1, sizeof *op.dx_buf);
    op.add_buf = wn_arena_calloc(arena, n_in + 1, sizeof *op.add_buf);
    if (!op.in || !op.dx || !op.add || !op.dx_buf || !op.add_buf)
        return NULL;
    for (unsigned i = 0; i < n_in; i++)
        op.dx_buf[i] = op.add_buf[i] = -1;
    if (!wn_vec_push(&list->op, op))
        return NULL;
    list->val.at[out].maker = (int)list->op.n - 1;
    return &list->op.at[list->op.n - 1];
}

void wn_net_done(struct wn_net *net)
{
    wn_net_unplan(net);
    wn_vec_done(&net->logical.op);
    wn_vec_done(&net->logical.val);
    wn_vec_done(&net->feed);
    wn_vec_done(&net->pre);
    wn_arena_done(&net->step_arena);
    wn_arena_done(&net->step_tmp);
    wn_arena_done(&net->arena);
}
