/* scalar.c: the reference, and what CPUs without a kernel run: the activation, then the quantization, each by its own
 * fastest kernel. */
#include "engine/kernels/act_q8/act_q8.h"

void wn_act_q8_1__scalar(const struct wn_act_q8 *act, const struct wn_move_q8 *quant, float *x, size_t c0, size_t c1)
{
    struct wn_move_q8 q = *quant;
    for (size_t o = c0; o < c1; o++) {
        struct wn_elt_f32 e = act->elt;
        e.y = (float *)(void *)((char *)x + o * q.x_stride);
        e.x = e.y;
        e.n = q.n;
        wn_elt_f32_unary_run(act->op, &e);
    }
    q.x = x;
    wn_move_q8_quantize_run(&q, c0, c1);
}
