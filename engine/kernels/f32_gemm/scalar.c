/* scalar.c: the reference: plain C, no tricks. */
#include "engine/kernels/f32_gemm/f32_gemm.h"

#include "engine/kernels/f32_scalar.h"

void wn_f32_gemm_1x1__scalar(const struct wn_f32_gemm *mat, const int32_t *koff, const struct wn_f32_args *a,
                             size_t row0, size_t row1)
{
    const size_t MR = WN_F32_GEMM_MR;
    for (size_t o = row0; o < row1; o++) {
        const float *w = mat->panels + o / MR * MR * mat->k + o % MR;
        float *y = a->y + o * a->y_stride;
        const float *r = a->r ? a->r + o * a->y_stride : NULL;
        for (size_t c = 0; c < a->n; c++) {
            float acc = (a->bias ? a->bias[o] : 0.0f) + (r ? r[c] : 0.0f);
            for (size_t k = 0; k < mat->k; k++) {
                const float *x = (const float *)(const void *)((const char *)a->x + koff[k]);
                acc += w[k * MR] * x[c];
            }
            y[c] = a->mask && !a->mask[c] ? 0.0f : wn_f32_clamp(acc, a->lo, a->hi);
        }
    }
}
