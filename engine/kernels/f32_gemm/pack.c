/* pack.c: row-major weights -> panels of MR rows, k by k, so that a kernel reads them in one forward stream. */
#include "engine/kernels/f32_gemm/f32_gemm.h"

#include "winnow/winnow.h"

enum winnow_status wn_f32_gemm_pack(struct wn_arena *arena, const float *w, size_t rows, size_t k,
                                    struct wn_f32_gemm *ret_mat, struct winnow_err *err)
{
    const size_t MR = WN_F32_GEMM_MR, n_panels = (rows + MR - 1) / MR;
    size_t floats;
    float *to = wn_mul_size(n_panels, MR, &floats) && wn_mul_size(floats, k, &floats)
                    ? wn_arena_calloc(arena, floats, sizeof *to)
                    : NULL;
    if (!to)
        return wn_fail(err, WINNOW_E_NOMEM, "dense weights (%zu, %zu)", rows, k);
    *ret_mat = (struct wn_f32_gemm){ .rows = rows, .k = k, .panels = to };
    for (size_t p = 0; p < n_panels; p++, to += MR * k)
        for (size_t i = 0; i < MR && p * MR + i < rows; i++)
            for (size_t j = 0; j < k; j++)
                to[j * MR + i] = w[(p * MR + i) * k + j];
    return WINNOW_OK;
}
