/* share.h: dividing a step among the threads of a run.
 *
 * DESIGN  A thread works best on the columns that it wrote in the step before: what another one wrote lies in that
 * one's cache. So layers are divided by columns, and only at tiles of their kernels, because a cut elsewhere costs a
 *         tile more and makes both threads write the cache line it goes through. What is left when the tiles do not
 *         divide is divided by rows: the tiles one after another, each with all its rows, are one line that is cut into
 *         equal parts. One tile is divided by rows alone, as many as there are threads hardly at all. */
#ifndef WN_SHARE_H
#define WN_SHARE_H

#include "base/base.h"

/** Share `part` of `n_parts` of [0, n) in multiples of `unit`. */
static inline void wn_share(size_t n, size_t unit, unsigned part, unsigned n_parts, size_t *ret_from, size_t *ret_to)
{
    size_t units = (n + unit - 1) / unit;
    *ret_from = WN_MIN(units * part / n_parts * unit, n);
    *ret_to = WN_MIN(units * (part + 1) / n_parts * unit, n);
}

/** How a layer may be cut: `cols` columns in tiles of `tile`, `rows` rows in multiples of `unit`. `step`: the columns
 * of the last tile cost as the next multiple of it; divides `tile`. */
struct wn_tiling {
    size_t cols, tile, step, rows, unit;
};

/** Columns [c0, c1) of rows [r0, r1), neither empty. */
struct wn_block {
    size_t c0, c1, r0, r1;
};

/** Share `part` of `n_parts`: whole tiles, and some rows of the tiles at its ends. The shares cost about the same and
 *  cover everything once. Returns the number of blocks, at most 3. */
unsigned wn_share_tiles(const struct wn_tiling *t, unsigned part, unsigned n_parts, struct wn_block ret[3]);

#endif
