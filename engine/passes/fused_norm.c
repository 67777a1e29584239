/* fused_norm.c: shape rule and plain-C run of QLayerNorm. */
#include <math.h>
#include "engine/ops/ops.h"
#include "engine/passes/fused_table.h"

enum winnow_status wn_infer_qlayer_norm(struct wn_infer *in, struct winnow_err *err)
{
    in->out[0] = in->in[0];
    in->out[0].dtype = WINNOW_U8;
    return WINNOW_OK;
}

enum winnow_status wn_run_qlayer_norm(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_fused_qnorm *f = run->node->fused;
    const float *gamma = run->in[1]->data, *beta = run->in[2]->data;
    const int64_t k = wn_tensor_count(run->in[1]), n = k ? wn_tensor_count(run->in[0]) / k : 0;
    for (int64_t t = 0; t < n; t++) {
        const uint8_t *x = (const uint8_t *)run->in[0]->data + t * k;
        uint8_t *y = (uint8_t *)run->out[0].data + t * k;
        int64_t sum = 0, squares = 0;
        for (int64_t i = 0; i < k; i++) {
            sum += x[i];
            squares += x[i] * x[i];
        }
        const double left = (double)(k * squares - sum * sum) + f->eps;
        const float mean = (float)((double)sum / (double)k);
        const float inv = left > 0 ? (float)((double)k / sqrt(left)) : 0.0f;
        for (int64_t i = 0; i < k; i++) {
            float v = ((float)x[i] - mean) * inv;
            v = rintf(v * gamma[i] + beta[i]) + (float)f->y_zp;
            y[i] = (uint8_t)(v > 0 ? (v < 255 ? v : 255) : 0);
        }
    }
    return WINNOW_OK;
}
