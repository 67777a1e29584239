/* export.h: from a trainer to files: what is served, and what can be trained again.
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

/** The serving model as bytes (malloc'ed): quantized when quantization is enabled, else f32 with batch norm folded.
 *  `recipe_digest` ("sha256:…") and the sparsity go into metadata_props. */
WINNOW_MUST_USE enum winnow_status wn_export_model(struct wn_trainer *tr, const char *recipe_digest, void **ret_bytes,
                                                   size_t *ret_n, struct winnow_err *err);
/** The trainable master as bytes (malloc'ed): f32, batch norm as it stands. */
WINNOW_MUST_USE enum winnow_status wn_export_master(struct wn_trainer *tr, void **ret_bytes, size_t *ret_n,
                                                    struct winnow_err *err);

#endif
