/* pack.c: rows of weights at a multiple of 64 bytes, so that kernels need no tail. */
#include "engine/kernels/q8_gemv/q8_gemv.h"

enum winnow_status wn_q8_gemv_pack(const int8_t *w, size_t rows, size_t k, struct wn_arena *arena,
                                   struct wn_q8_gemv *ret_mat, struct winnow_err *err)
{
    size_t stride = wn_round_up(k, 64), bytes;
    if (k == 0 || k > WN_Q8_MAX_K || rows == 0 || !wn_mul_size(rows, stride, &bytes) || bytes > SIZE_MAX / 2)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "int8 matrix of %zu rows by %zu weights", rows, k);
    int8_t *dst = wn_arena_alloc(arena, bytes);
    if (!dst)
        return wn_fail(err, WINNOW_E_NOMEM, "packing an int8 matrix of %zu rows by %zu weights", rows, k);
    for (size_t o = 0; o < rows; o++)
        memcpy(dst + o * stride, w + o * k, k);
    *ret_mat = (struct wn_q8_gemv){ .rows = rows, .k = k, .stride = stride, .bytes = bytes, .w = dst };
    return WINNOW_OK;
}
