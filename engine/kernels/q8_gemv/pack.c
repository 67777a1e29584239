/* pack.c: blocks of four rows, 64 bytes of each in turn; zeros behind the last, so that kernels need no tail. */
#include "engine/kernels/q8_gemv/q8_gemv.h"

enum winnow_status wn_q8_gemv_pack(const int8_t *w, size_t rows, size_t k, struct wn_arena *arena,
                                   struct wn_q8_gemv *ret_mat, struct winnow_err *err)
{
    size_t stride = wn_round_up(k, WN_Q8_GEMV_KR) * WN_Q8_GEMV_MR, bytes;
    if (k == 0 || k > WN_Q8_MAX_K || rows == 0 || rows > SIZE_MAX - WN_Q8_GEMV_MR ||
        !wn_mul_size(wn_round_up(rows, WN_Q8_GEMV_MR) / WN_Q8_GEMV_MR, stride, &bytes) || bytes > SIZE_MAX / 2)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "int8 matrix of %zu rows by %zu weights", rows, k);
    int8_t *dst = wn_arena_calloc(arena, bytes, 1);
    if (!dst)
        return wn_fail(err, WINNOW_E_NOMEM, "packing an int8 matrix of %zu rows by %zu weights", rows, k);
    for (size_t o = 0; o < rows; o++) {
        int8_t *row = dst + o / WN_Q8_GEMV_MR * stride + o % WN_Q8_GEMV_MR * WN_Q8_GEMV_KR;
        for (size_t i = 0; i < k; i += WN_Q8_GEMV_KR, row += WN_Q8_GEMV_MR * WN_Q8_GEMV_KR)
            memcpy(row, w + o * k + i, WN_MIN(k - i, (size_t)WN_Q8_GEMV_KR));
    }
    *ret_mat = (struct wn_q8_gemv){ .rows = rows, .k = k, .stride = stride, .bytes = bytes, .w = dst };
    return WINNOW_OK;
}
