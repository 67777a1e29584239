/* memplan.c: places for buffers. Large ones first, each at the lowest offset not taken by a buffer alive at the same
 * time (greedy by size, as in XNNPACK's memory planner); within a few percent of optimal on the nets we serve. A sum
 * that is written over its own addend (wn_lower_over()) is one buffer with it. */
#include "engine/plan/plan.h"

#include <stdlib.h>
#include <string.h>

#define ALIGN 64u
/* Two buffers one after the other a multiple of 4 KiB apart fight for the same cache sets; a line between them helps.
 */
#define SPACE 64u
/* Above this many buffers the quadratic way takes too long. */
#define MANY 4096u

static int by_size(const void *a, const void *b)
{
    const struct wn_buf *x = *(struct wn_buf *const *)a, *y = *(struct wn_buf *const *)b;
    return x->bytes != y->bytes ? (x->bytes < y->bytes ? 1 : -1) : (x > y) - (x < y);
}

static int by_offset(const void *a, const void *b)
{
    const struct wn_buf *x = *(struct wn_buf *const *)a, *y = *(struct wn_buf *const *)b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

static int by_first(const void *a, const void *b)
{
    const struct wn_buf *x = *(struct wn_buf *const *)a, *y = *(struct wn_buf *const *)b;
    return x->first != y->first ? (x->first > y->first) - (x->first < y->first) : (x > y) - (x < y);
}

static enum winnow_status finish(struct wn_plan *plan, size_t total, size_t limit, struct winnow_err *err)
{
    if (limit && total > limit)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "one run needs %zu bytes of activations, the limit is %zu", total,
                       limit);
    plan->act_bytes = total;
    return WINNOW_OK;
}

/* The way for very many buffers: in order of time, each at the lowest gap among those alive (kept by offset). */
static size_t place_in_time(struct wn_buf **order, size_t n, struct wn_buf **alive, struct wn_buf **unused)
{
    (void)unused;
    size_t n_alive = 0, total = 0;
    for (size_t k = 0; k < n; k++) {
        struct wn_buf *buf = order[k];
        size_t bytes = wn_round_up(buf->bytes, ALIGN) + SPACE, at = 0, keep = 0, slot = SIZE_MAX;
        for (size_t i = 0; i < n_alive; i++) {
            struct wn_buf *other = alive[i];
            if (other->last < buf->first)
                continue;
            if (slot == SIZE_MAX && other->offset >= at + bytes)
                slot = keep;
            if (slot == SIZE_MAX)
                at = other->offset + wn_round_up(other->bytes, ALIGN) + SPACE;
            alive[keep++] = other;
        }
        n_alive = keep;
        slot = WN_MIN(slot, n_alive);
        memmove(alive + slot + 1, alive + slot, (n_alive - slot) * sizeof *alive);
        alive[slot] = buf;
        n_alive++;
        buf->offset = at;
        total = WN_MAX(total, at + bytes);
    }
    return total;
}

/* In order of size, each at the lowest gap among those alive at some time with it. */
static size_t place_by_size(struct wn_buf **order, size_t n, struct wn_buf **placed, struct wn_buf **alive)
{
    size_t total = 0;
    for (size_t k = 0; k < n; k++) {
        struct wn_buf *buf = order[k];
        size_t bytes = wn_round_up(buf->bytes, ALIGN) + SPACE, n_alive = 0, at = 0;
        for (size_t i = 0; i < k; i++)
            if (placed[i]->first <= buf->last && buf->first <= placed[i]->last)
                alive[n_alive++] = placed[i];
        qsort(alive, n_alive, sizeof *alive, by_offset);
        for (size_t i = 0; i < n_alive; i++) {
            if (alive[i]->offset >= at + bytes)
                break;
            at = WN_MAX(at, alive[i]->offset + wn_round_up(alive[i]->bytes, ALIGN) + SPACE);
        }
        buf->offset = at;
        placed[k] = buf;
        total = WN_MAX(total, at + bytes);
    }
    return total;
}

/* The first of the chain of buffers that b lies over. */
static uint32_t root_of(const struct wn_buf *bufs, uint32_t b)
{
    while (bufs[b].over)
        b = bufs[b].over - 1;
    return b;
}

/* Keep `over` where it holds, and let the first of each chain live as long as the chain. The rest follow by
 * place_over(). */
static void join(struct wn_buf *bufs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct wn_buf *r = bufs[i].over ? &bufs[bufs[i].over - 1] : NULL;
        if (r && (r->last != bufs[i].first || r->first >= bufs[i].first || r->bytes < bufs[i].bytes))
            bufs[i].over = 0;
    }
    for (size_t i = 0; i < n; i++) {
        struct wn_buf *root = &bufs[root_of(bufs, (uint32_t)i)];
        root->last = WN_MAX(root->last, bufs[i].last);
    }
}

static void place_over(struct wn_buf *bufs, size_t n)
{
    for (size_t i = 0; i < n; i++)
        bufs[i].offset = bufs[root_of(bufs, (uint32_t)i)].offset;
}

enum winnow_status wn_plan_memory(struct wn_plan *plan, size_t limit, struct winnow_err *err)
{
    size_t n = plan->bufs.n;
    WN_CLEANUP(wn_freep) struct wn_buf **order = calloc(n + 1, sizeof *order);
    WN_CLEANUP(wn_freep) struct wn_buf **placed = calloc(n + 1, sizeof *placed);
    WN_CLEANUP(wn_freep) struct wn_buf **alive = calloc(n + 1, sizeof *alive);
    if (!order || !placed || !alive)
        return wn_fail(err, WINNOW_E_NOMEM, "memory plan");
    join(plan->bufs.at, n);
    size_t n_roots = 0;
    for (size_t i = 0; i < n; i++)
        if (!plan->bufs.at[i].over)
            order[n_roots++] = &plan->bufs.at[i];
    qsort(order, n_roots, sizeof *order, n_roots > MANY ? by_first : by_size);
    size_t total = (n_roots > MANY ? place_in_time : place_by_size)(order, n_roots, placed, alive);
    place_over(plan->bufs.at, n);
    return finish(plan, total, limit, err);
}
