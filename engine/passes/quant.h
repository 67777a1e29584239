/* quant.h: what the quantization passes share. Internal to engine/passes. */
#ifndef WN_QUANT_H
#define WN_QUANT_H

#include "engine/passes/impl.h"

/** One scale and zero point of an activation, in u8 terms (i8 zero points + 128). */
struct wn_qparam {
    float scale;
    int32_t zp;
};

/** Read per-tensor scale and zero point (constant inputs i_scale and i_zp of node; an omitted zero point is u8 0).
 *  ret_dtype: U8 or I8. False when they are not constant, not scalar, or of another type. */
bool wn_qparam_of(const struct wn_graph *g, const struct wn_node *node, unsigned i_scale, unsigned i_zp,
                  struct wn_qparam *ret, enum winnow_dtype *ret_dtype);
/** `v` as u8: itself, or through a new Flip when it is i8. WN_NONE: out of memory. */
wn_vid wn_as_u8(struct wn_graph *g, wn_vid v);
/** A value of v's shape for the u8 result of an operator whose output is `v`: v itself when it is u8; for i8 a new
 * value with a Flip from it to v. WN_NONE: out of memory. */
wn_vid wn_u8_result(struct wn_graph *g, wn_vid v);
/** A new value with v's shape and another type. */
wn_vid wn_like(struct wn_graph *g, wn_vid v, enum winnow_dtype dtype);

/** A constant with one number, or one for each of N output channels, as [1] or [N]; behind its N stand as many axes as
 *  behind the channels of the layer's output (`spatial`). *ret: the same data in that shape. False: it is not one. */
bool wn_per_channel(const struct wn_graph *g, wn_vid v, enum winnow_dtype dtype, int64_t N, int spatial,
                    struct wn_tensor *ret);

/** Integer weights brought to the one form: s8 (O, …) with per-channel scale and the rest of the zero point. */
struct wn_qweight {
    wn_vid w; /* s8 constant, (O, I/g, kh, kw) or (N, K) */
    int64_t O;
    float *scale; /* [O] */
    int32_t *zp;  /* [O] or NULL when all are zero */
};
/** From constants: w u8/i8; scale f32 scalar or [O]; zp scalar, [O] or NULL. `transpose`: w is (K, N), wanted (N, K).
 *  False (nothing made) when types or lengths do not fit. */
bool wn_qweight_make(struct wn_graph *g, const char *name, const struct wn_tensor *w, const struct wn_tensor *scale,
                     const struct wn_tensor *zp, bool transpose, struct wn_qweight *ret);

/** Parameters of a QConv or QLinear with f32 output; the arrays live in g's arena. NULL: out of memory. */
struct wn_fused_q8 *wn_q8_params(struct wn_graph *g, const struct wn_conv_geom *geom, struct wn_qparam x,
                                 const struct wn_qweight *w);
/** Turn them, made for this x and w, into u8 output: mul (rounded once) and the clamp go into the output's scale. */
void wn_q8_to_u8(struct wn_fused_q8 *f, struct wn_qparam x, const struct wn_qweight *w, struct wn_qparam y);

#endif
