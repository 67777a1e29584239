/* scalar.c: the reference: plain C, no tricks. */
#include "engine/kernels/f32_gemv/f32_gemv.h"

#include "engine/kernels/f32_scalar.h"

void wn_f32_gemv_1x1__scalar(const struct wn_f32_gemm *mat, const struct wn_f32_gemv_args *a, size_t row0, size_t row1)
{
    for (size_t m = 0; m < a->m; m++)
        for (size_t o = row0; o < row1; o++) {
            const size_t at = m * a->y_stride + o;
            float acc = (a->bias ? a->bias[o] : 0.0f) + (a->r ? a->r[at] : 0.0f);
            for (size_t k = 0; k < mat->k; k++)
                acc += wn_f32_gemv_at(mat, o, k) * a->x[m * a->x_stride + k];
            a->y[at] = wn_f32_clamp(acc, a->lo, a->hi);
        }
}

void wn_f32_gemv_cols_1x1__scalar(const struct wn_f32_gemm *mat, const int32_t *koff, const struct wn_f32_args *a,
                                  size_t row0, size_t row1)
{
    for (size_t o = row0; o < row1; o++)
        for (size_t c = 0; c < a->n; c++) {
            const size_t at = o * a->y_stride + c;
            float acc = (a->bias ? a->bias[o] : 0.0f) + (a->r ? a->r[at] : 0.0f);
            for (size_t k = 0; k < mat->k; k++) {
                const float *x = (const float *)(const void *)((const char *)a->x + koff[k]);
                acc += wn_f32_gemv_at(mat, o, k) * x[c];
            }
            a->y[at] = wn_f32_clamp(acc, a->lo, a->hi);
        }
}
