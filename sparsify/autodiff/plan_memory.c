/* plan_memory.c: one arena for all activations and gradients of a step.
 *
 * DESIGN  Buffers that live at the same time must not overlap; the rest may. Largest first, each at the lowest offset
 *         that fits. Buffers with a halo of zeros share memory only with buffers of the same geometry, so that the
 * zeros, written once when the arena is made, stay. */
#include "sparsify/autodiff/plan_impl.h"

static int by_size(const void *pa, const void *pb)
{
    const struct wn_net_buf *a = *(struct wn_net_buf *const *)pa, *b = *(struct wn_net_buf *const *)pb;
    if (a->zeroed != b->zeroed)
        return a->zeroed < b->zeroed ? -1 : 1;
    if (a->floats != b->floats)
        return a->floats > b->floats ? -1 : 1;
    if (a->first != b->first)
        return a->first < b->first ? -1 : 1;
    return a < b ? -1 : 1;
}

static bool alive_together(const struct wn_net_buf *a, const struct wn_net_buf *b)
{
    return a->first <= b->last && b->first <= a->last;
}

/** Lowest offset for b at or above `base` beside the placed ones of its class. */
static size_t lowest(const struct wn_net_buf *b, struct wn_net_buf *const *placed, size_t n, size_t base)
{
    size_t at = base;
    for (bool moved = true; moved;) {
        moved = false;
        for (size_t i = 0; i < n; i++) {
            const struct wn_net_buf *p = placed[i];
            if (alive_together(p, b) && p->offset < at + b->floats && at < p->offset + p->floats) {
                at = p->offset + p->floats;
                moved = true;
            }
        }
    }
    return at;
}

bool wn_plan_offsets(struct wn_net *net)
{
    size_t n = net->buf.n, base = 0, end = 0;
    struct wn_net_buf **order = calloc(n + 1, sizeof *order);
    if (!order)
        return false;
    for (size_t i = 0; i < n; i++)
        order[i] = &net->buf.at[i];
    qsort(order, n, sizeof *order, by_size);
    for (size_t i = 0, start = 0; i < n; i++) {
        if (i > 0 && order[i]->zeroed != order[i - 1]->zeroed) { /* a new class: behind everything so far */
            base = end;
            start = i;
        }
        order[i]->floats = wn_round_up(order[i]->floats, 16);
        order[i]->offset = lowest(order[i], order + start, i - start, base);
        end = WN_MAX(end, order[i]->offset + order[i]->floats);
    }
    net->memory_floats = end;
    free(order);
    return true;
}
