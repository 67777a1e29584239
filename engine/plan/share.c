/* share.c: a layer's rows and columns among threads. */
#include "engine/plan/share.h"

/* A point on the line of all tiles: so many whole tiles, then so many rows of the next. */
struct point {
    size_t tile, row;
};

static struct point cut(const struct wn_tiling *t, unsigned part, unsigned n_parts)
{
    const size_t units = (t->rows + t->unit - 1) / t->unit, whole = t->cols / t->tile;
    const size_t last = wn_round_up(t->cols % t->tile, t->step);
    const size_t at = (whole * t->tile + last) * units * part / n_parts, tile = WN_MIN(at / (t->tile * units), whole);
    const size_t rest = at - tile * t->tile * units, cost = tile < whole ? t->tile : last;
    return (struct point){ tile, cost ? rest / cost * t->unit : 0 };
}

/* Rows [r0, r1) of the tiles [t0, t1). */
static unsigned add(const struct wn_tiling *t, struct wn_block *block, unsigned n, size_t t0, size_t t1, size_t r0,
                    size_t r1)
{
    const size_t c0 = t0 * t->tile, c1 = WN_MIN(t1 * t->tile, t->cols);
    r1 = WN_MIN(r1, t->rows);
    if (c0 >= c1 || r0 >= r1)
        return n;
    block[n] = (struct wn_block){ c0, c1, r0, r1 };
    return n + 1;
}

unsigned wn_share_tiles(const struct wn_tiling *t, unsigned part, unsigned n_parts, struct wn_block ret[3])
{
    if (!t->rows || !t->cols)
        return 0;
    struct point from = cut(t, part, n_parts), to = cut(t, part + 1, n_parts);
    if (from.tile == to.tile)
        return add(t, ret, 0, from.tile, from.tile + 1, from.row, to.row);
    unsigned n = 0;
    if (from.row) {
        n = add(t, ret, n, from.tile, from.tile + 1, from.row, t->rows);
        from.tile++;
    }
    n = add(t, ret, n, from.tile, to.tile, 0, t->rows);
    return add(t, ret, n, to.tile, to.tile + 1, 0, to.row);
}
