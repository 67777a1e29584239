/* spec.h: a pipeline as pipeline.yaml and the model's shapes settle it. */
#ifndef WN_PIPELINE_SPEC_H
#define WN_PIPELINE_SPEC_H

#include "base/arena.h"
#include "pipeline/pipeline.h"

struct wn_pipeline {
    struct wn_arena arena; /* every string below */
    const char *task, *input_name;
    unsigned model_input, model_output;
    struct wn_pipe_io row; /* shape without the batch axis, all extents known */
    size_t row_bytes;
    uint32_t w, h, channels;
    bool nhwc, bgr, softmax;
    bool crop;          /* else squash */
    uint32_t resize_to; /* crop: pixels of the shorter side before the middle is cut out */
    float table[3][256];
    struct wn_image_limits limits;
    const char **label;
    unsigned n_labels;
};

#endif
