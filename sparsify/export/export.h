/* export.h: from a trainer to the graph that is served.
 *
 * Source of the form: ONNX QuantizeLinear/DequantizeLinear. */
#ifndef WN_EXPORT_H
#define WN_EXPORT_H

#include "sparsify/train/train.h"

/** Put quantization into an exported f32 graph: a QuantizeLinear/DequantizeLinear pair (u8, per tensor) behind every
 *  quantization point, s8 weights with per-channel scales behind DequantizeLinear, biases as i32 at x_scale * w_scale.
 *  Pruned weights are exactly zero. The graph is raised to opset 13 where it is older.
 *  @param g  from wn_trainer_export_graph(); changed in place
 *  @return E_UNSUPPORTED (an old operator that opset 13 spells another way, named), E_INTERNAL (a pruned weight that
 *          would not become zero), E_NOMEM */
WINNOW_MUST_USE enum winnow_status wn_export_quantize(struct wn_trainer *tr, struct wn_graph *g,
                                                      struct winnow_err *err);

/** The serving model, to be written by wn_onnx_write(): quantized when quantization is enabled, else f32 with batch
 * norm folded. `recipe_digest` ("sha256:…") and the sparsity go into metadata_props. (The master, f32 with batch norm
 * as it stands, is what wn_trainer_export_graph() gives.)
 *  @param arena  holds the graph and its weights
 *  @param ret    release with wn_graph_done() on success only */
WINNOW_MUST_USE enum winnow_status wn_export_model(struct wn_trainer *tr, const char *recipe_digest,
                                                   struct wn_arena *arena, struct wn_graph *ret,
                                                   struct winnow_err *err);

#endif
