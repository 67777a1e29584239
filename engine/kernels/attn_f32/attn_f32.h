/* attn_f32.h: softmax attention of one head over columns of tokens (plan/cols.h):
 *
 *     s[i][j] = scale * sum over f of q[f][i] * k[f][j]   (+ mask, or mask where it is not 0)
 *     y[f][i] = sum over j of softmax over j (s[i][j]) * v[f][j]
 *
 * Lanes run over queries: scores lie as [key][query], so that maximum and sum over the keys, and both products, need no
 * horizontal step and no transposition. Keys are taken in blocks with a running maximum and sum (as in FlashAttention),
 * so any number of keys fits the same 33 KiB of stack. A score 87 below the maximum counts as 0; a query whose keys are
 * all at -infinity gets NaN, as ONNX Softmax gives. A query's result does not depend on the queries beside it.
 * Any number of threads, each on its own heads or queries. */
#ifndef WN_ATTN_F32_H
#define WN_ATTN_F32_H

#include "engine/kernels/kernels.h"

struct wn_attn_f32 {
    size_t n_q, n_k; /* queries and keys, any; n_k >= 1 */
    size_t d, dv;    /* features of a query and key, of a value; any */
    const float *q;  /* (d, q_stride): first query of this call */
    const float *k;  /* (d, k_stride) */
    const float *v;  /* (dv, v_stride) */
    float *y;        /* (dv, y_stride): overlaps none of the inputs */
    size_t q_stride, k_stride, v_stride, y_stride;
    float scale;
    const float *mask; /* [n_k], or with mask_stride != 0 (n_k, mask_stride): [key][query], first query as q; NULL */
    size_t mask_stride;
    bool guarded; /* a query whose weights are NaN gets 0 */
    bool replace; /* a mask element that is not 0 takes the score's place; else it is added */
};

/** Writes exactly the n_q columns of y. Up to 15 floats past column n_q - 1 of q's rows (and the mask's) are read. */
typedef void wn_attn_f32_fn(const struct wn_attn_f32 *args);
/** The fastest kernel this CPU has (WINNOW_CPU permitting). Any thread. */
wn_attn_f32_fn wn_attn_f32_run;
/** Choose again, after wn_cpu_force(). Not while others run. */
void wn_attn_f32_init(void);
/** Queries per step of the kernel in use: shares of threads are multiples of it. */
#define WN_ATTN_F32_QUERIES ((size_t)64)

#define KERNEL(isa, MR, NR) wn_attn_f32_fn wn_attn_f32_##MR##x##NR##__##isa;
#include "engine/kernels/attn_f32/attn_f32.def"
#undef KERNEL

#endif
