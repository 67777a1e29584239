/* strided.h: boxes of elements of 4 bytes copied from where strides say to where other strides do: Transpose, Slice and
 * Concat. Part of lowering. */
#ifndef WN_STRIDED_H
#define WN_STRIDED_H

#include "engine/kernels/eltwise/f32.h"
#include "engine/plan/plan.h"

/** Set: rank, extents, and strides in elements on either side; perhaps a function. */
struct wn_strided {
    unsigned rank;
    int64_t dim[WINNOW_MAX_RANK], x[WINNOW_MAX_RANK], y[WINNOW_MAX_RANK];
    bool unary; /* y holds a function of what was copied (f32; elements of the last axis lie together in y) */
    enum wn_elt_f32_unary op;
    struct wn_elt_f32 args; /* without pointers */
    /* by wn_strided_make() */
    int turn;     /* the axis whose elements lie together in x and not in y: turned by blocks with the last; -1: none */
    size_t outer; /* runs or blocks of turns: products of the axes but the last and `turn` */
    size_t piece; /* elements of a run, or of `turn` in a block */
};

/** Axes of one element go, axes that lie alike on both sides become one; how the copy is to run. */
void wn_strided_make(struct wn_strided *s);
/** Share `part` of `n_parts`; x, y: element 0 on either side. */
void wn_strided_run(const struct wn_strided *s, const uint32_t *x, uint32_t *y, unsigned part, unsigned n_parts);

#endif
