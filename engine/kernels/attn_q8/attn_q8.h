/* attn_q8.h: softmax attention of one head in exact integers (wn.QAttention of fused.h), over columns of tokens:
 *
 *     s[i][j] = (float)(sum over f of (q[f][i] - q_zp) * (k[f][j] - k_zp)) * mul
 *               s_mul != 0: s = (float)clamp(rne(s), -s_zp, 255 - s_zp) * s_mul
 *               (+ mask, or mask where it is not 0)
 *     e[i][j] = e^(s - the largest s of the query)             (wn_exp_below() of f32_scalar.h)
 *     p[i][j] = min(rne(e * (1 / (sum over j of e, in order, * p_scale))) + p_zp, 255)
 *     acc     = sum over j of (p[i][j] - p_zp) * (v[f][j] - v_zp)
 *     y f32   = (float)acc * y_mul           y u8 = clamp(rne((float)acc * y_mul) + y_zp, 0, 255)
 *
 * Lanes run over queries, as in attn_f32. A query whose keys are all at -infinity has p = p_zp, so y = 0 (or y_zp).
 * Up to some 1000 keys every score is computed once; past that they are computed again for each use, so any number of
 * keys fits the same 160 KiB of stack.
 * EXACT  the same bits on every ISA, for any zero points, whatever is beside a query. Scores and masks may be
 * -infinity, not NaN. Any number of threads, each on its own heads or queries. */
#ifndef WN_ATTN_Q8_H
#define WN_ATTN_Q8_H

#include "engine/kernels/kernels.h"

/** Features of a query and key, at most: a query's are copied to the stack. */
#define WN_ATTN_Q8_MAX_D ((size_t)512)
/** Keys, at most: sums of products of two bytes fit 31 bits. */
#define WN_ATTN_Q8_MAX_KEYS ((size_t)32768)
/** Queries per step of the widest kernel: shares of threads are multiples of it. */
#define WN_ATTN_Q8_QUERIES ((size_t)64)

struct wn_attn_q8 {
    size_t n_q, n_k;  /* queries, keys: 1 .. WN_ATTN_Q8_MAX_KEYS */
    size_t d, dv;     /* features of a query and key, a multiple of 4 up to WN_ATTN_Q8_MAX_D; of a value, any */
    const uint8_t *q; /* quads (d / 4, q_stride): first query of this call */
    const uint8_t *k; /* quads (d / 4, k_stride) */
    const uint8_t *v; /* planes (dv, v_stride) */
    void *y;          /* f32 or u8 planes (dv, y_stride), or quads (ceil(dv / 4), y_stride): lanes past dv get y_zp */
    size_t q_stride, k_stride, v_stride, y_stride; /* bytes */
    int32_t q_zp, k_zp, v_zp, s_zp, p_zp, y_zp;    /* 0 .. 255 */
    float mul, s_mul, p_scale, y_mul;
    const float *mask; /* [n_k], or with mask_stride != 0 (n_k, mask_stride): [key][query], first query as q; NULL */
    size_t mask_stride;
    bool replace;       /* a mask element that is not 0 takes the score's place; else it is added */
    enum wn_q8_out out; /* of y */
};

/** Writes exactly the n_q columns of y. Up to WN_OVERREAD bytes past the end of any row are read. */
typedef void wn_attn_q8_fn(const struct wn_attn_q8 *args);
/** The fastest kernel this CPU has (WINNOW_CPU permitting). Any thread. */
wn_attn_q8_fn wn_attn_q8_run;

#define KERNEL(isa, KR, NR) wn_attn_q8_fn wn_attn_q8_##KR##x##NR##__##isa;
#include "engine/kernels/attn_q8/attn_q8.def"
#undef KERNEL

#endif
