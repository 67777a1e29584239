/* fused.h: the operators that passes make (domain "wn") and plans have kernels for.
 *
 * After wn_passes_run() every convolution and every matrix product with constant weights is one of these, with
 * everything fused that fits its epilogue; quantization in any spelling has become one int8 form:
 *
 *   Activations are u8 with one scale and zero point per tensor (s8 ones are shifted by 128 into u8).
 *   Weights are s8; w_zp[o] is what remains of a zero point that is not "zero means zero": the real weight is
 *   w_scale[o] * (w[o][k] - w_zp[o]).  u8 weights are shifted by 128 into s8 first, so |w_zp| <= 255 fits.
 *   acc[o]  = bias[o] + sum over k of (w[o][k] - w_zp[o]) * (x[k] - x_zp)                        exact, 32 bits
 *   f       = (float)acc[o] * mul[o]                                                             f32, no contraction
 *   y u8    = clamp(rne(f) + y_zp, q_lo, q_hi)      with mul[o] = x_scale * w_scale[o] / y_scale (rounded once from
 *             double); q_lo/q_hi carry the activation (Relu: q_lo = y_zp).
 *             With a residual R the layer's own result is rounded first, as the tensor s that it was in the file:
 *             f = rne(clamp(f, s_lo, s_hi)) * s_mul + (float)(r - r_zp) * r_mul, mul[o] in units of s_scale,
 *             s_mul = s_scale / y_scale, r_mul = r_scale / y_scale, s_lo and s_hi less s's zero point.
 *   y f32   = clamp(f, lo, hi)                      with mul[o] = x_scale * w_scale[o], r f32 added where given.
 *  rne: round half to even, as ONNX QuantizeLinear. */
#ifndef WN_FUSED_H
#define WN_FUSED_H

#include "engine/graph/graph.h"
#include "engine/ops/recurrent.h"

/** Geometry of a 2-D convolution (1-D is 1 x n). Sources: ONNX Conv. */
struct wn_conv_geom {
    int64_t kh, kw, stride_h, stride_w, dil_h, dil_w;
    int64_t pad_t, pad_l, pad_b, pad_r; /* auto_pad resolved where it does not depend on the input's extent */
    int64_t groups;
    int auto_pad; /* 0 none, 1 SAME_UPPER, 2 SAME_LOWER: pads follow from the concrete input */
};

/** Activations that a layer's epilogue computes besides the clamp; ONNX operators of the same names. */
enum wn_act {
    WN_ACT_NONE,
    WN_ACT_GELU,
    WN_ACT_GELU_TANH,
    WN_ACT_TANH,
    WN_ACT_SIGMOID,
    WN_ACT_SWISH, /* alpha 1 */
    WN_ACT_HARD_SWISH,
    WN_ACT_LEAKY_RELU,
    WN_ACT_COUNT
};

/** node->fused of "wn.Conv" (f32) : in = X, W (O, I/g, kh, kw) f32 const, B (O) f32 const or omitted, R or omitted;
 *  "wn.Linear" (f32): in = X (..., K), W (N, K) f32 const (already transposed), B (N) or omitted, R or omitted;
 *  y = clamp(act(conv(x) + b + r), lo, hi). R has exactly the output's shape. */
struct wn_fused_f32 {
    struct wn_conv_geom geom; /* Linear: unused */
    enum wn_act act;
    float alpha;      /* LEAKY_RELU */
    float lo, hi;     /* -INFINITY / INFINITY when there is no activation */
    const char *note; /* why a quantized layer stayed f32, for `winnow analyze`; or NULL */
};

/** node->fused of "wn.Attention": in = Q (B, Sq, h, d), K (B, Sk, h, d), V (B, Sk, h, dv) f32, M f32 or omitted, which
 *  broadcasts to (B, h, Sq, Sk); y (B, Sq, h, dv), for each sequence and head
 *  s = scale * Q K^T (+ M, or M where it is not 0);  y = softmax over the keys (s) V.
 *  B may be 1 in any input (all sequences share it). Keys that all stand at -infinity give NaN, or 0. */
struct wn_fused_attn {
    float scale;
    bool replace; /* M takes the score's place where it is not 0: Where(mask, M, s) */
    bool guarded; /* NaN weights count as 0: such a query's y is 0 */
};

/** node->fused of "wn.QAttention": in = Q (B, Sq, h, d), K (B, Sk, h, d), V (B, Sk, h, dv) u8, M as Attention's; for
 * each sequence and head, the sums exact: s = (float)(sum of (q - q_zp) * (k - k_zp)) * mul;  where s_mul is not 0, s =
 * (float)clamp(rne(s), -s_zp, 255 - s_zp)
 *  * s_mul: the file quantizes the product;  (+ M, or M where it is not 0)
 *  p = clamp(rne(softmax over the keys (s) / p_scale) + p_zp, 0, 255), NaN counts as 0
 *  f = (float)(sum of (p - p_zp) * (v - v_zp)) * y_mul;  y u8 (B, Sq, h, dv) = clamp(rne(f) + y_zp, 0, 255), or f32 f
 */
struct wn_fused_qattn {
    float mul, s_mul, p_scale, y_mul;
    int32_t q_zp, k_zp, v_zp, s_zp, p_zp, y_zp;
    bool y_f32, replace;
};

/** node->fused of "wn.Recurrent": struct wn_recurrent (ops/recurrent.h). in = G f32, what the layers' products with X
 * are, and their biases: (steps, batch, dirs * gates * units), or (batch, steps, …) where batch_first; R (dirs, gates *
 * units, units) f32 const, its biases (dirs, gates * units) f32 const or omitted, sequence_lens, initial_h, initial_c
 * or omitted; out = Y, Y_h, Y_c as RNN, GRU and LSTM have them, gates in ONNX's order. */

/** node->fused of "wn.QConv": in = X u8, W s8 const (O, I/g, kh, kw), B i32 const (O) or omitted, R or omitted;
 *  "wn.QLinear": in = X u8 (..., K), W s8 const (N, K), B, R likewise; R is u8, of the output's shape. */
struct wn_fused_q8 {
    struct wn_conv_geom geom; /* QLinear: unused */
    const float *mul;         /* [O] */
    const int32_t *w_zp;      /* [O], or NULL when all are zero */
    int32_t x_zp, y_zp, q_lo, q_hi;
    bool y_f32;   /* the output is f32 */
    float lo, hi; /* f32 output: activation */
    float r_mul;  /* R is u8 when y is u8; f32 when y is f32 (the rest is unused then) */
    float s_mul, s_lo, s_hi;
    int32_t r_zp;
    /* u8 output and an activation other than NONE (then no R): y = clamp(rne(act((float)acc * mul) / y_scale) + y_zp,
     * 0, 255), NaN counts as 0; mul[o] = x_scale * w_scale[o] */
    enum wn_act act;
    float alpha; /* LEAKY_RELU */
    float y_scale;
    const uint8_t *table; /* [256] QLinear with u8 output: the byte that is written is table[y]; or NULL */
};

/** node->fused of "wn.DLinear", a linear layer whose activations were quantized at run time: in = X u8 (..., K), W s8
 *  const (N, K), x_scale f32 with one element or omitted (1), x_zp u8 with one element or omitted (0), B f32 const (N)
 * or omitted. In the order of the nodes it stands for, each step rounded to f32, none contracted: y f32 =
 * clamp((float)sum((w[o][k] - w_zp[o]) * (x[k] - x_zp)) * (x_scale * w_scale[o]) + b[o], lo, hi) */
struct wn_fused_dyn {
    const float *w_scale; /* [N] */
    const int32_t *w_zp;  /* [N], or NULL when all are zero */
    float lo, hi;
};

/** node->fused of "wn.Interleave": in = sh * sw pictures f32 (N, C, H, W) or (N, C, W), by rows; y[i * sh + a][k * sw +
 * b] = in[a * sw + b][i + skip_h[a]][k + skip_w[b]], of sh * (H of in[0]) + add_h rows and sw * W + add_w columns. */
#define WN_INTERLEAVE_MAX 16 /* sh * sw */
struct wn_fused_interleave {
    int32_t sh, sw;
    int32_t skip_h[WN_INTERLEAVE_MAX], skip_w[WN_INTERLEAVE_MAX];
    int64_t add_h, add_w;
};

/** "wn.Im2col" (fused: struct wn_conv_geom, one group): in = X u8 (N, C, H, W) or (N, C, W), x_zp u8 with one element
 * or omitted (0); y u8 (N, OH, OW, K) or (N, OW, K): what stands under each window, K = C * kh * kw as weights are
 * ordered, x_zp where that is padding. */

/** node->fused of "wn.QAdd": in = A u8, B u8; y = clamp(rne((a - a_zp) * a_mul + (b - b_zp) * b_mul) + y_zp, q_lo,
 * q_hi), a_mul = a_scale / y_scale. Shapes equal. "wn.QGlobalAveragePool", "wn.QAveragePool": in = A u8; y =
 * clamp(rne((sum(a) - n * a_zp) * (a_mul / n)) + y_zp, …); a MaxPool, Relu6-free Reshape, Flatten, Transpose on u8
 * stays the plain operator. "wn.Quantize": in = X f32; y u8 = clamp(rne(x / a_mul) + y_zp, q_lo, q_hi)          (a_mul
 * = the scale) "wn.Dequantize": in = X u8; y f32 = (x - a_zp) * a_mul "wn.Requantize": in = A u8; y u8 = table[a]:
 * another scale or zero point, or any elementwise function between a dequantization and a quantization, computed for
 * all 256 values by the reference operators "wn.Flip": in = A u8 or i8; y = a ^ 0x80, of the other type: how s8
 * activations become u8 (zero point + 128) */
struct wn_fused_qelt {
    struct wn_conv_geom geom; /* QAveragePool only */
    float a_mul, b_mul;
    int32_t a_zp, b_zp, y_zp, q_lo, q_hi;
    bool count_include_pad; /* QAveragePool */
    const uint8_t *table;   /* [256] Requantize */
};

/** node->fused of "wn.QLayerNorm", over the last axis: in = X u8 (..., k), gamma f32 const (k), beta f32 const (k),
 * both over y's scale; with the exact integers S = sum of x and Q = sum of x^2 over a token's features, and each step
 * rounded to f32:  mean = S / k;  inv = k / sqrt(k Q - S^2 + eps) in double, 0 where the root is not above 0; y u8 =
 * clamp(rne((x - mean) * inv * gamma + beta) + y_zp, 0, 255) */
struct wn_fused_qnorm {
    double eps; /* the operator's times (k / x_scale)^2 */
    int32_t y_zp;
};

/** Append a node of domain "wn" with its operator entry set; `fused` must live in g's arena. NULL: out of memory. */
struct wn_node *wn_fused_add(struct wn_graph *g, const char *op_type, const char *name, const wn_vid *in, unsigned n_in,
                             wn_vid out, const void *fused);
/** The same with any number of outputs. */
struct wn_node *wn_fused_add_many(struct wn_graph *g, const char *op_type, const char *name, const wn_vid *in,
                                  unsigned n_in, const wn_vid *out, unsigned n_out, const void *fused);
/** The operator of domain "wn" with this op_type; NULL: there is none. */
const struct wn_op *wn_fused_op(const char *op_type);
/** True for a live node of domain "wn" with this op_type. */
bool wn_fused_is(const struct wn_node *node, const char *op_type);

/** Geometry of a Conv, ConvInteger, QLinearConv, MaxPool or AveragePool node with a 2-D (or 1-D, taken as 1 x n)
 * kernel; kernel extents from `kernel` (kh, kw) where the node has no kernel_shape. E_UNSUPPORTED for more dimensions.
 */
enum winnow_status wn_conv_geom_of(const struct wn_node *node, unsigned spatial, const int64_t *kernel,
                                   struct wn_conv_geom *ret, struct winnow_err *err);
/** Resolve auto_pad for an input of h x w, and compute the output's extent (floor). */
void wn_conv_geom_resolve(struct wn_conv_geom *geom, int64_t h, int64_t w, int64_t *ret_oh, int64_t *ret_ow);

#endif
