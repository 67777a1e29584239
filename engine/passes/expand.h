/* expand.h: how an operator is written as nodes of standard operators. Internal to engine/passes.
 *
 *     wn_ex_start(ex, "Softmax", 13, WN_EX_IN(x), WN_NONE);      a node; its output is a new value, or the one given
 *     wn_ex_int(ex, "axis", -1);                                 its attributes
 *     wn_vid y = wn_ex_done(ex);                                 types are inferred; the output
 *
 * Out of memory is remembered in ex->failed: a rewrite may go on and the frame reports it. */
#ifndef WN_EXPAND_H
#define WN_EXPAND_H

#include "engine/passes/impl.h"

struct wn_ex {
    struct wn_graph *g;
    struct wn_node node; /* a copy of the node that is being rewritten; it is dead in the graph */
    struct winnow_err *err;
    wn_nid cur;
    bool failed; /* out of memory */
};

/** Writes ex->node as other nodes. Anything it cannot write is E_UNSUPPORTED, naming the node. */
typedef enum winnow_status wn_expand_fn(struct wn_ex *ex);

#define WN_EX_IN(...) (const wn_vid[]){ __VA_ARGS__ }, sizeof((const wn_vid[]){ __VA_ARGS__ }) / sizeof(wn_vid)
#define wn_ex_lack(ex, ...)                                                                                            \
    wn_fail_at((ex)->err, wn_fail((ex)->err, WINNOW_E_UNSUPPORTED, __VA_ARGS__), "node '%s' (%s)", (ex)->node.name,    \
               (ex)->node.op_type)

/** Begin a node of the default domain. `out` WN_NONE: a new value. */
void wn_ex_start(struct wn_ex *ex, const char *op, int opset, const wn_vid *in, size_t n_in, wn_vid out);
/** One more output of the node that was begun: `out`, or a new value for WN_NONE. */
wn_vid wn_ex_also(struct wn_ex *ex, wn_vid out);
void wn_ex_int(struct wn_ex *ex, const char *name, int64_t v);
void wn_ex_float(struct wn_ex *ex, const char *name, float v);
void wn_ex_str(struct wn_ex *ex, const char *name, const char *v);
void wn_ex_ints(struct wn_ex *ex, const char *name, const int64_t *v, size_t n);
/** End it. */
wn_vid wn_ex_done(struct wn_ex *ex);
/** start and done of a node without attributes. */
wn_vid wn_ex_op(struct wn_ex *ex, const char *op, int opset, const wn_vid *in, size_t n_in, wn_vid out);

/** Constants. */
wn_vid wn_ex_f32(struct wn_ex *ex, float v);
/** A number of the float type that `like` has. */
wn_vid wn_ex_number(struct wn_ex *ex, float v, wn_vid like);
wn_vid wn_ex_i64(struct wn_ex *ex, int64_t v); /* a scalar */
wn_vid wn_ex_i64s(struct wn_ex *ex, const int64_t *v, int64_t n);
#define WN_EX_I64S(ex, ...)                                                                                            \
    wn_ex_i64s((ex), (const int64_t[]){ __VA_ARGS__ }, sizeof((const int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t))

/** Input and output i of ex->node, or WN_NONE. */
static inline wn_vid wn_ex_in(const struct wn_ex *ex, unsigned i)
{
    return wn_in(&ex->node, i);
}
static inline wn_vid wn_ex_out(const struct wn_ex *ex, unsigned i)
{
    return i < ex->node.n_out ? ex->node.out[i] : WN_NONE;
}
/** Type of a value; unknown for WN_NONE. Valid until the next value is made. */
const struct wn_type *wn_ex_type(const struct wn_ex *ex, wn_vid v);
/** Shapes of common steps. */
wn_vid wn_ex_reshape(struct wn_ex *ex, wn_vid x, const int64_t *shape, int64_t n, wn_vid out);
wn_vid wn_ex_transpose(struct wn_ex *ex, wn_vid x, const int64_t *perm, size_t n, wn_vid out);
wn_vid wn_ex_unsqueeze(struct wn_ex *ex, wn_vid x, const int64_t *axes, int64_t n);
wn_vid wn_ex_cast(struct wn_ex *ex, wn_vid x, enum winnow_dtype to, wn_vid out);
/** Extent `axis` of x, as i64 [1]. */
wn_vid wn_ex_extent(struct wn_ex *ex, wn_vid x, int64_t axis);
/** 0, 1, … below the number in `n` (i64 [1]). */
wn_vid wn_ex_range(struct wn_ex *ex, wn_vid n);
/** Columns [from, from + n) of the last axis; a constant where x is one. x with one element is returned as it is. */
wn_vid wn_ex_columns(struct wn_ex *ex, wn_vid x, int64_t from, int64_t n);

/** MatMulInteger, Cast, the two scales, and the bias (or WN_NONE), in the order that ONNX Runtime writes them. */
wn_vid wn_ex_int_product(struct wn_ex *ex, wn_vid a, wn_vid a_scale, wn_vid a_zp, wn_vid b, wn_vid b_scale, wn_vid b_zp,
                         wn_vid bias, wn_vid out);

/* expand_attention.c */
wn_expand_fn wn_expand_attention, wn_expand_qattention, wn_expand_multi_head_attention, wn_expand_onnx_attention,
    wn_expand_rotary;

#endif
