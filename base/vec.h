/* vec.h: growing arrays of any element type.
 *
 *     WN_VEC(struct point) pts = { 0 };
 *     if (!wn_vec_push(&pts, (struct point){ 1, 2 })) -> out of memory
 *     for (size_t i = 0; i < pts.n; i++) use(pts.at[i]);
 *     wn_vec_done(&pts);                                                                                             */
#ifndef WN_VEC_H
#define WN_VEC_H

#include <stdlib.h>
#include "base/base.h"

#define WN_VEC(type)                                                                                                   \
    struct {                                                                                                           \
        type *at;                                                                                                      \
        size_t n, cap;                                                                                                 \
    }

/** Make room for `want` elements of `size` bytes; false when out of memory (the vector is unchanged). */
bool wn_vec_grow(void *at_pp, size_t *cap, size_t want, size_t size);

#define wn_vec_reserve(vec, want)                                                                                      \
    ((want) <= (vec)->cap || wn_vec_grow((void *)&(vec)->at, &(vec)->cap, (want), sizeof *(vec)->at))
/** Append; false when out of memory. */
#define wn_vec_push(vec, ...)                                                                                          \
    (wn_vec_reserve((vec), (vec)->n + 1) ? ((vec)->at[(vec)->n++] = (__VA_ARGS__), true) : false)
#define wn_vec_done(vec) (free((vec)->at), (vec)->at = NULL, (vec)->n = (vec)->cap = 0)

#endif
