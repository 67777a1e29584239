/* pack.c: blocks of four outputs, 16 weights of each in turn; zeros behind the last, so that kernels need no tail. */
#include "engine/kernels/f32_gemv/f32_gemv.h"

#include <string.h>

enum winnow_status wn_f32_gemv_pack(struct wn_arena *arena, const float *w, size_t rows, size_t k,
                                    struct wn_f32_gemv *ret_mat, struct winnow_err *err)
{
    const size_t MR = WN_F32_GEMV_MR, KR = WN_F32_GEMV_KR;
    const size_t blocks = rows / MR + (rows % MR != 0), pieces = k / KR + (k % KR != 0);
    size_t floats;
    float *to = wn_mul_size(pieces, MR * KR, &floats) && wn_mul_size(floats, blocks, &floats)
                    ? wn_arena_calloc(arena, floats, sizeof *to)
                    : NULL;
    if (!to)
        return wn_fail(err, WINNOW_E_NOMEM, "dense weights (%zu, %zu)", rows, k);
    *ret_mat = (struct wn_f32_gemv){ .rows = rows, .k = k, .stride = pieces * MR * KR, .w = to };
    for (size_t o = 0; o < rows; o++) {
        float *at = to + o / MR * ret_mat->stride + o % MR * KR;
        for (size_t i = 0; i < k; i += KR, at += MR * KR)
            memcpy(at, w + o * k + i, WN_MIN(k - i, KR) * sizeof *w);
    }
    return WINNOW_OK;
}
