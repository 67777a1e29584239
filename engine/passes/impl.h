/* impl.h: what the passes share. Internal to engine/passes. */
#ifndef WN_PASSES_IMPL_H
#define WN_PASSES_IMPL_H

#include "engine/ops/ops.h"
#include "engine/passes/fused.h"
#include "engine/passes/passes.h"

/** Constant behind value v, or NULL (also for WN_NONE). */
const struct wn_tensor *wn_const_of(const struct wn_graph *g, wn_vid v);
/** Constant behind input i of node, or NULL when omitted or not constant. */
const struct wn_tensor *wn_const_in(const struct wn_graph *g, const struct wn_node *node, unsigned i);
/** Input i, or WN_NONE when omitted. */
wn_vid wn_in(const struct wn_node *node, unsigned i);
/** First element of a f32 constant with one element; false otherwise. */
bool wn_scalar_f32(const struct wn_tensor *t, float *ret);
/** Copy of a fused parameter block in g's arena; NULL when out of memory. */
void *wn_fused_dup(struct wn_graph *g, const void *fused, size_t bytes);
/** to (n, k) = from (k, n) transposed; elements of 1 or 4 bytes. */
void wn_transpose(const void *from, size_t k, size_t n, size_t elem, void *to);
/** wn_graph_give_back() of all inputs of a node that was perhaps replaced; `node` is a copy from before. */
void wn_give_back_inputs(struct wn_graph *g, const struct wn_node *node);
/** Bounds of Relu, or of Clip with constant bounds; false for anything else. */
bool wn_clamp_of(const struct wn_graph *g, const struct wn_node *node, float *ret_lo, float *ret_hi);

/** The activation that a node computes, with its parameter; WN_ACT_NONE for anything else. */
enum wn_act wn_act_of(const struct wn_node *node, float *ret_alpha);

/** String attribute of a layer between dequantizations that stayed f32: why. */
#define WN_NOTE_ATTR "wn_note"

#define WN_OOM(err, node) wn_fail((err), WINNOW_E_NOMEM, "node '%s'", (node)->name)

/** The batch axis of node's outputs, given those of all values (rows.c). */
int wn_rows_node_axis(struct wn_graph *g, const struct wn_node *node, const int *axis);

/* The passes in the order of passes.c. Each may leave dead nodes and unsorted new ones behind; passes.c sorts. */
enum winnow_status wn_pass_clean(struct wn_graph *g, struct winnow_err *err);
enum winnow_status wn_pass_cse(struct wn_graph *g, struct winnow_err *err);
enum winnow_status wn_pass_einsum(struct wn_graph *g, struct winnow_err *err);
enum winnow_status wn_pass_layer_norm(struct wn_graph *g, struct winnow_err *err);
enum winnow_status wn_pass_gelu(struct wn_graph *g, struct winnow_err *err);
enum winnow_status wn_pass_swish(struct wn_graph *g, struct winnow_err *err);
enum winnow_status wn_pass_attention(struct wn_graph *g, struct winnow_err *err);
enum winnow_status wn_pass_widen(struct wn_graph *g, struct winnow_err *err);
enum winnow_status wn_pass_global_pool(struct wn_graph *g, struct winnow_err *err);
enum winnow_status wn_pass_conv_transpose(struct wn_graph *g, struct winnow_err *err);
enum winnow_status wn_pass_quant_integer(struct wn_graph *g, struct winnow_err *err);
enum winnow_status wn_pass_quant_dynamic(struct wn_graph *g, struct winnow_err *err);
enum winnow_status wn_pass_quant_forms(struct wn_graph *g, struct winnow_err *err);
enum winnow_status wn_pass_quant_move(struct wn_graph *g, struct winnow_err *err);
enum winnow_status wn_pass_quant_layers(struct wn_graph *g, struct winnow_err *err);
enum winnow_status wn_pass_quant_eltwise(struct wn_graph *g, struct winnow_err *err);
enum winnow_status wn_pass_quant_residual(struct wn_graph *g, struct winnow_err *err);
/** Fold what no quantized layer took, dequantized weights too. */
enum winnow_status wn_pass_fold_weights(struct wn_graph *g, struct winnow_err *err);
enum winnow_status wn_pass_quant_norm(struct wn_graph *g, struct winnow_err *err);
enum winnow_status wn_pass_recurrent(struct wn_graph *g, struct winnow_err *err);
enum winnow_status wn_pass_fuse_layers(struct wn_graph *g, struct winnow_err *err);

#endif
