/* strided.c: see strided.h. */
#include "engine/plan/strided.h"

#include <string.h>
#include "engine/kernels/move/planes.h"
#include "engine/plan/share.h"

#define BLOCK ((size_t)2048) /* elements that are turned at once: they lie in L1 when the function follows */

static void drop_axis(struct wn_strided *s, unsigned axis)
{
    s->rank--;
    for (unsigned a = axis; a < s->rank; a++) {
        s->dim[a] = s->dim[a + 1];
        s->x[a] = s->x[a + 1];
        s->y[a] = s->y[a + 1];
    }
}

static void merge(struct wn_strided *s)
{
    for (unsigned a = s->rank; a-- > 0;)
        if (s->dim[a] == 1)
            drop_axis(s, a);
    for (unsigned a = s->rank; a-- > 1;)
        if (s->x[a - 1] == s->dim[a] * s->x[a] && s->y[a - 1] == s->dim[a] * s->y[a]) {
            s->dim[a - 1] *= s->dim[a];
            s->x[a - 1] = s->x[a];
            s->y[a - 1] = s->y[a];
            drop_axis(s, a);
        }
    if (s->rank == 0) {
        s->rank = 1;
        s->dim[0] = s->x[0] = s->y[0] = 1;
    }
}

void wn_strided_make(struct wn_strided *s)
{
    merge(s);
    const unsigned last = s->rank - 1;
    s->turn = -1;
    for (unsigned a = 0; a < last && s->x[last] != 1 && s->y[last] == 1; a++)
        if (s->x[a] == 1)
            s->turn = (int)a;
    s->outer = 1;
    for (unsigned a = 0; a < last; a++)
        s->outer *= (int)a == s->turn ? 1 : (size_t)s->dim[a];
    s->piece = s->turn < 0 ? BLOCK : WN_MAX(BLOCK / (size_t)s->dim[last] / 16 * 16, (size_t)16);
}

/* ---- the walk over the outer axes ---- */

struct walk {
    int64_t at[WINNOW_MAX_RANK];
    const uint32_t *x;
    uint32_t *y;
};

static struct walk walk_from(const struct wn_strided *s, const uint32_t *x, uint32_t *y, size_t outer)
{
    struct walk w = { .x = x, .y = y };
    for (unsigned a = s->rank - 1; a-- > 0;)
        if ((int)a != s->turn) {
            w.at[a] = (int64_t)(outer % (size_t)s->dim[a]);
            outer /= (size_t)s->dim[a];
            w.x += w.at[a] * s->x[a];
            w.y += w.at[a] * s->y[a];
        }
    return w;
}

static void walk_on(const struct wn_strided *s, struct walk *w)
{
    for (unsigned a = s->rank - 1; a-- > 0;) {
        if ((int)a == s->turn)
            continue;
        w->x += s->x[a];
        w->y += s->y[a];
        if (++w->at[a] < s->dim[a])
            return;
        w->at[a] = 0;
        w->x -= s->dim[a] * s->x[a];
        w->y -= s->dim[a] * s->y[a];
    }
}

/* ---- pieces ---- */

static void function(const struct wn_strided *s, uint32_t *y, size_t n)
{
    struct wn_elt_f32 args = s->args;
    args.x = args.y = (float *)y;
    args.n = n;
    wn_elt_f32_unary_run(s->op, &args);
}

static void run_of(const struct wn_strided *s, const uint32_t *x, uint32_t *y, size_t n)
{
    const int64_t sx = s->x[s->rank - 1], sy = s->y[s->rank - 1];
    if (sx == 1 && sy == 1 && n > 8)
        memcpy(y, x, n * sizeof *y);
    else
        for (int64_t i = 0; i < (int64_t)n; i++)
            y[i * sy] = x[i * sx];
    if (s->unary)
        function(s, y, n);
}

/* n elements of `turn`, all of the last axis. */
static void block_of(const struct wn_strided *s, const uint32_t *x, uint32_t *y, size_t n)
{
    const size_t k = (size_t)s->dim[s->rank - 1];
    const int64_t row = s->y[s->turn];
    wn_move_columns_to_rows_f32((const float *)x, (size_t)s->x[s->rank - 1], n, k, (float *)y, (size_t)row);
    if (s->unary && row == (int64_t)k)
        function(s, y, n * k);
    for (size_t i = 0; s->unary && row != (int64_t)k && i < n; i++)
        function(s, y + (int64_t)i * row, k);
}

void wn_strided_run(const struct wn_strided *s, const uint32_t *x, uint32_t *y, unsigned part, unsigned n_parts)
{
    const unsigned axis = s->turn < 0 ? s->rank - 1 : (unsigned)s->turn;
    const size_t n = (size_t)s->dim[axis], pieces = (n + s->piece - 1) / s->piece;
    size_t from, to;
    wn_share(s->outer * pieces, 1, part, n_parts, &from, &to);
    if (from == to)
        return;
    struct walk w = walk_from(s, x, y, from / pieces);
    for (size_t i = from, piece = from % pieces; i < to; i++) {
        const int64_t at = (int64_t)(piece * s->piece);
        const size_t len = WN_MIN(s->piece, n - (size_t)at);
        if (s->turn < 0)
            run_of(s, w.x + at * s->x[axis], w.y + at * s->y[axis], len);
        else
            block_of(s, w.x + at, w.y + at * s->y[axis], len);
        if (++piece == pieces) {
            piece = 0;
            walk_on(s, &w);
        }
    }
}
