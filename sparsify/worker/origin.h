/* origin.h: what a job starts from: base/, its graph and its pipeline. */
#ifndef WN_ORIGIN_H
#define WN_ORIGIN_H

#include "engine/graph/graph.h"
#include "pipeline/pipeline.h"

struct wn_origin {
    struct wn_arena arena;
    struct wn_graph graph; /* f32, what is trained */
    const char *file;      /* "master.onnx" or "model.onnx" */
    bool has_conv, has_bn;
    struct wn_pipeline *pipeline;
    unsigned classes; /* of the model's scores; 0: not known */
    unsigned side;    /* larger side of the model's input; 0 for texts */
    unsigned h, w, c; /* of a row of pixels; 0 for texts */
};

/** Read `dir`/master.onnx, else `dir`/model.onnx, and `dir`/pipeline.yaml.
 *  @return E_NOT_FOUND (no model, no pipeline.yaml), E_UNSUPPORTED (a quantized model without a master, u8 input),
 *          E_MALFORMED, … ; release with wn_origin_done() on success only */
WINNOW_MUST_USE enum winnow_status wn_origin_open(const char *dir, struct wn_origin *ret, struct winnow_err *err);
void wn_origin_done(struct wn_origin *o);

/** Open the pipeline in `dir` for a model with the inputs and outputs of `g`. */
WINNOW_MUST_USE enum winnow_status wn_origin_pipeline(const char *dir, const struct wn_graph *g,
                                                      struct wn_pipeline **ret, struct winnow_err *err);

#endif
