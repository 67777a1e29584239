/* avx2.h: what the kernels of avx2.c and avx2vnni.c work on. Include from them only. */
#ifndef WN_Q8_SPMM_AVX2_H
#define WN_Q8_SPMM_AVX2_H

#include "engine/kernels/q8_epilogue_avx2.h"
#include "engine/kernels/q8_spmm/q8_spmm.h"

#define TILE 64u

/* One column tile of one call. */
struct job {
    struct wn_q8_avx2 e;
    const struct wn_q8_spmm *mat;
    const int32_t *off;
    const uint8_t *x;        /* column 0 of the tile */
    const int32_t *colsum;   /* of the tile, or NULL */
    __m256i keep[TILE / 32]; /* byte masks */
};

#endif
