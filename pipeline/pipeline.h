/* pipeline.h: from what people send (an encoded picture) to a model's tensors, and from scores to labels.
 *
 * One implementation for training, gate and serving: the same bytes always become the same tensor. A model's
 * pipeline.yaml says what to do; every key and its default stands in pipeline.yaml(5) (docs/man). */
#ifndef WN_PIPELINE_H
#define WN_PIPELINE_H

#include "base/base.h"

/** A pipeline: immutable, any number of threads may use it. */
struct wn_pipeline;

enum wn_pipe_dtype { WN_PIPE_F32, WN_PIPE_U8 };

/** A model's input or output as the caller (who knows the model) describes it: without the batch axis. */
struct wn_pipe_io {
    const char *name;
    enum wn_pipe_dtype dtype;
    unsigned rank;    /* without the batch axis: (C, H, W) for pictures, (classes) for scores */
    int64_t shape[8]; /* -1 = dynamic */
};

/** A decoded picture: 8-bit, `channels` 1 (grey) or 3 (RGB), rows of w * channels bytes without gaps. */
struct wn_image {
    uint32_t w, h, channels;
    uint8_t *px; /* malloc'ed */
};

/** Bounds on a hostile picture. Zero fields take the defaults. */
struct wn_image_limits {
    uint32_t max_side;   /* 8192 */
    uint64_t max_pixels; /* 64 M */
    size_t max_bytes;    /* encoded; 32 MiB */
};

/** Decode a PNG or JPEG (told by its first bytes). Alpha is blended over black, 16 bit is reduced to 8, palettes are
 *  expanded; EXIF orientation is applied. The header is checked against the limits before anything is allocated.
 *  @return E_MALFORMED (not a picture, or a broken one), E_UNSUPPORTED (another format, named), E_TOO_LARGE, E_NOMEM */
WINNOW_MUST_USE enum winnow_status wn_image_decode(const void *bytes, size_t n, const struct wn_image_limits *limits,
                                                   struct wn_image *ret_image, struct winnow_err *err);
/** Encode as PNG (lossless, deterministic). `ret_bytes` is malloc'ed. */
WINNOW_MUST_USE enum winnow_status wn_image_encode_png(const struct wn_image *image, void **ret_bytes, size_t *ret_n,
                                                       struct winnow_err *err);
void wn_image_done(struct wn_image *image);

/** Read `dir`/pipeline.yaml (and the labels file it names) for a model with these inputs and outputs.
 *  @return E_NOT_FOUND when there is no such file; E_MALFORMED with file:line for a bad key or value */
WINNOW_MUST_USE enum winnow_status wn_pipeline_open(const char *dir, const struct wn_pipe_io *inputs, unsigned n_inputs,
                                                    const struct wn_pipe_io *outputs, unsigned n_outputs,
                                                    struct wn_pipeline **ret_pipeline, struct winnow_err *err);
/** NULL is fine. */
void wn_pipeline_free(struct wn_pipeline *p);

/** "image_classification". */
const char *wn_pipeline_task(const struct wn_pipeline *p);
/** Name of the BYTES input that clients may send instead of tensors, and index of the model input it becomes. */
const char *wn_pipeline_input_name(const struct wn_pipeline *p);
unsigned wn_pipeline_model_input(const struct wn_pipeline *p);
/** Index of the model output that holds the scores. */
unsigned wn_pipeline_model_output(const struct wn_pipeline *p);
/** Shape and dtype of one encoded row (dynamic extents resolved), and its bytes. */
const struct wn_pipe_io *wn_pipeline_row(const struct wn_pipeline *p, size_t *ret_bytes);

/** One raw item (an encoded picture) -> one row of the model's input: decode, channels, resize, scale, normalise.
 *  `row` holds wn_pipeline_row() bytes. Any thread. */
WINNOW_MUST_USE enum winnow_status wn_pipeline_encode(const struct wn_pipeline *p, const void *bytes, size_t n,
                                                      void *row, struct winnow_err *err);
/** The same from a decoded picture. */
WINNOW_MUST_USE enum winnow_status wn_pipeline_encode_image(const struct wn_pipeline *p, const struct wn_image *image,
                                                            void *row, struct winnow_err *err);
/** Only the geometry: channels and resize to the model's (H, W), 8 bit, HWC; what the trainer keeps per sample and
 *  augments. wn_pipeline_normalise() makes the row from it; together they equal wn_pipeline_encode_image(). */
WINNOW_MUST_USE enum winnow_status wn_pipeline_fit(const struct wn_pipeline *p, const struct wn_image *image,
                                                   uint8_t *px /* H*W*C */, struct winnow_err *err);
void wn_pipeline_normalise(const struct wn_pipeline *p, const uint8_t *px /* H*W*C */, void *row);

unsigned wn_pipeline_n_labels(const struct wn_pipeline *p);
/** NULL past the end. */
const char *wn_pipeline_label(const struct wn_pipeline *p, unsigned i);

struct wn_class {
    unsigned index;
    const char *label; /* "" without a label file */
    float score;       /* probability where the pipeline says softmax: true */
};
/** Best `k` classes of one row of `n` scores, best first, ties to the lower index. Returns how many (at most n). */
unsigned wn_pipeline_top_k(const struct wn_pipeline *p, const float *scores, unsigned n, unsigned k,
                           struct wn_class *ret);

#endif
