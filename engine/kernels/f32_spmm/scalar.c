/* scalar.c: the reference: plain C, reading the packed stream of single rows. */
#include "engine/kernels/f32_spmm/f32_spmm.h"

#include "engine/kernels/f32_scalar.h"

void wn_f32_spmm_1x1__scalar(const struct wn_f32_spmm *mat, const int32_t *off, const struct wn_f32_args *a,
                             size_t row0, size_t row1)
{
    for (size_t o = row0; o < row1; o++) {
        float *y = a->y + o * a->y_stride;
        const float *r = a->r ? a->r + o * a->y_stride : NULL;
        for (size_t c = 0; c < a->n; c++) {
            float acc = (a->bias ? a->bias[o] : 0.0f) + (r ? r[c] : 0.0f);
            for (size_t ch = 0; ch < mat->chunks; ch++) {
                const uint32_t *at = mat->at + ch * (mat->rows + 1) + o;
                for (uint32_t i = at[0]; i < at[1]; i++)
                    acc += mat->val[i] * ((const float *)(const void *)((const char *)a->x + off[i]))[c];
            }
            y[c] = a->mask && !a->mask[c] ? 0.0f : wn_f32_clamp(acc, a->lo, a->hi);
        }
    }
}
