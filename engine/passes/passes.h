/* passes.h: graph -> graph, run once when a model is loaded. Every pass keeps the model's answers: f32 up to rounding,
 * integers exactly. */
#ifndef WN_PASSES_H
#define WN_PASSES_H

#include "engine/graph/graph.h"

/** All passes in order: resolve and infer, f16 -> f32 widening of constants and arithmetic, constant folding, clean-up
 *  (Identity, Dropout, no-op Cast/Reshape/Pad), Conv+BatchNormalization, quantization -> one int8 form,
 * Conv/Gemm/MatMul with constant weights -> fused operators with activation and residual, dead code. */
WINNOW_MUST_USE enum winnow_status wn_passes_run(struct wn_graph *g, struct winnow_err *err);

/** Write operators that stand for a handful of others (most of com.microsoft; Attention, RotaryEmbedding and other
 *  functions of ONNX) as standard operators, whose opset may be newer than the file's. Runs on a graph as it was read,
 *  before wn_ops_resolve(); leaves it sorted.
 *  @return E_UNSUPPORTED for a form of such an operator that we lack, E_MALFORMED, E_NOMEM, naming the node */
WINNOW_MUST_USE enum winnow_status wn_pass_expand(struct wn_graph *g, struct winnow_err *err);
/** Fold every node whose inputs are constant (single passes are public for tests and for the trainer). */
WINNOW_MUST_USE enum winnow_status wn_pass_fold(struct wn_graph *g, struct winnow_err *err);
/** Attention over merged batch and heads becomes the fused operator; all shapes are concrete, the graph is sorted and
 *  inferred, and is so again. */
WINNOW_MUST_USE enum winnow_status wn_pass_heads(struct wn_graph *g, struct winnow_err *err);
/** Fold BatchNormalization into the convolution before it. */
WINNOW_MUST_USE enum winnow_status wn_pass_fold_batchnorm(struct wn_graph *g, struct winnow_err *err);

/** Replace shapes that Reshape takes from Shape nodes by constants with 0 and -1, where that is surely the same. Before
 *  the proof below. The graph is sorted and inferred. */
WINNOW_MUST_USE enum winnow_status wn_pass_shapes(struct wn_graph *g, struct winnow_err *err);

/** Prove that each output row depends on its own input row only: every input and output must carry the
 *  batch as a dynamic axis 0. `why` is set to an arena string when false. */
bool wn_rows_independent(struct wn_graph *g, const char **why);

/** Rows that one plan may take of a graph whose rows are independent, where each is a vector that only linear layers and
 *  elementwise operators see, so that weights are read once for all of them: at most WN_ROW_BLOCK, fewer with a layer in
 *  f32 (f32_gemv's columns); else 1. After the passes. */
#define WN_ROW_BLOCK     64
#define WN_ROW_BLOCK_F32 16
int64_t wn_row_block(const struct wn_graph *g);

/** Rows of the smallest table (Gather) that the integers of `input` are looked up in, where its shape is known; 0: none
 *  is known. The graph is sorted; inferred, where tables are computed (dequantized, say). */
int64_t wn_table_rows(const struct wn_graph *g, wn_vid input);

#endif
