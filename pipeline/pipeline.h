/* pipeline.h: from what people send (an encoded picture, a text) to a model's tensors, and from a model's outputs to
 * labels and embeddings.
 *
 * One implementation for training, gate and serving: the same bytes always become the same tensor. A model's
 * pipeline.yaml says what to do; every key and its default stands in pipeline.yaml(5) (docs/man). */
#ifndef WN_PIPELINE_H
#define WN_PIPELINE_H

#include "base/arena.h"
#include "base/base.h"
#include "winnow/dtype.h"

/** A pipeline: immutable, any number of threads may use it. */
struct wn_pipeline;

/** A model's input or output as the caller (who knows the model) describes it: without the batch axis. */
struct wn_pipe_io {
    const char *name;
    enum winnow_dtype dtype;
    unsigned rank;      /* without the batch axis: (C, H, W) for pictures, (classes) for scores */
    int64_t shape[8];   /* -1 = dynamic */
    int64_t table_rows; /* an input of token ids: rows of the model's table of them; 0: not known */
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
/** Names of the files beside a model that a pipeline may read, NULL-terminated: what must travel with model.onnx. */
extern const char *const wn_pipeline_files[];
/** NULL is fine. */
void wn_pipeline_free(struct wn_pipeline *p);

enum wn_pipe_task { WN_PIPE_IMAGES, WN_PIPE_TEXTS, WN_PIPE_EMBEDDINGS };
enum wn_pipe_task wn_pipeline_task(const struct wn_pipeline *p);
/** "image_classification", "text_classification", "embeddings": as pipeline.yaml has it. */
const char *wn_pipeline_task_name(const struct wn_pipeline *p);

/* ---- in: items to rows of the model's inputs ---- */

#define WN_PIPE_MAX_RAW  2 /* BYTES inputs of a pipeline */
#define WN_PIPE_MAX_FILL 3 /* model inputs that it fills */

/** Name of BYTES input `i` that clients may send instead of tensors; NULL past the end. The first is always needed, a
 *  second ("text_pair") may be left out. */
const char *wn_pipeline_raw(const struct wn_pipeline *p, unsigned i);
/** Whether encoding fills this input of the model. */
bool wn_pipeline_fills(const struct wn_pipeline *p, unsigned model_input);

/** A view of an item's bytes. */
struct wn_pipe_item {
    const void *at;
    size_t n;
};
/** `n` rows of raw items. */
struct wn_pipe_items {
    const struct wn_pipe_item *at[WN_PIPE_MAX_RAW]; /* [n] each, in the order of wn_pipeline_raw(); NULL: not given */
    size_t n;
};
struct wn_pipe_opts {
    uint64_t max_pixels; /* of a picture, where pipeline.yaml says nothing; 0: 64 Mi */
};
/** A tensor as the engine takes it, batch axis included. */
struct wn_pipe_tensor {
    unsigned model_input;
    enum winnow_dtype dtype;
    unsigned rank;
    int64_t shape[9];
    void *data;
    size_t bytes;
};
/** What rows became: tensors in the arena that was given. */
struct wn_pipe_batch {
    unsigned n_t;
    struct wn_pipe_tensor t[WN_PIPE_MAX_FILL];
    uint32_t *used;   /* [rows] tokens of each text without padding; NULL for pictures */
    uint32_t *length; /* [rows] how much of each row the model has to see, its own padding included: what its text would
                         have alone (winnow_run_ragged()); NULL: all */
    size_t bad_row;   /* on failure: the row at fault, SIZE_MAX: none */
};
/** Rows of raw items -> tensors for the model inputs that the pipeline fills. A row's numbers do not depend on the rows
 *  beside it, but for padding, which the model's mask hides. Any thread.
 *  @param opts  NULL: defaults
 *  @return E_MALFORMED, E_UNSUPPORTED, E_TOO_LARGE (an item; ret->bad_row is set and err does not repeat it), E_NOMEM
 */
WINNOW_MUST_USE enum winnow_status wn_pipeline_encode_rows(const struct wn_pipeline *p,
                                                           const struct wn_pipe_items *items,
                                                           const struct wn_pipe_opts *opts, struct wn_arena *arena,
                                                           struct wn_pipe_batch *ret, struct winnow_err *err);

/* ---- texts ---- */

struct wn_tokens; /* pipeline/tokenizer.h */

/** A text as ids: special tokens included. A view; owns nothing. */
struct wn_pipe_ids {
    const int32_t *id;
    const uint8_t *type; /* segment of each; NULL: all 0 */
    size_t n;
};
/** Most tokens of one text, special ones counted. */
size_t wn_pipeline_max_tokens(const struct wn_pipeline *p);
/** How rows of ids are padded, for who makes tensors of them without wn_pipeline_pack(): every row to a multiple of
 * this many tokens. */
unsigned wn_pipeline_pad_to(const struct wn_pipeline *p);
/** Number of model inputs that a text fills; the index of the k-th, and what one row has there: `ret` [row->n]. */
unsigned wn_pipeline_n_fill(const struct wn_pipeline *p);
unsigned wn_pipeline_fill(const struct wn_pipeline *p, unsigned k);
void wn_pipeline_values(const struct wn_pipeline *p, unsigned k, const struct wn_pipe_ids *row, int64_t *ret);
/** What stands behind the text in the k-th of them. */
int64_t wn_pipeline_pad(const struct wn_pipeline *p, unsigned k);
/** One text (or a pair) -> ids, cut to max_length. Text tasks only. Any thread, each with its own `ret`.
 *  @return E_TOO_LARGE (max_bytes), E_MALFORMED (not UTF-8: err has the byte; a text without tokens), E_NOMEM */
WINNOW_MUST_USE enum winnow_status wn_pipeline_tokenize(const struct wn_pipeline *p, struct wn_pipe_item text,
                                                        const struct wn_pipe_item *pair, struct wn_tokens *ret,
                                                        struct winnow_err *err);
/** Rows of ids -> tensors (rows, L): padded to the longest of these rows, as pipeline.yaml says. What
 *  wn_pipeline_encode_rows() does after tokenizing; text tasks only.
 *  @return E_MALFORMED (no tokens, an id outside the vocabulary), E_TOO_LARGE (more than max_length); ret->bad_row */
WINNOW_MUST_USE enum winnow_status wn_pipeline_pack(const struct wn_pipeline *p, const struct wn_pipe_ids *row,
                                                    size_t n, struct wn_arena *arena, struct wn_pipe_batch *ret,
                                                    struct winnow_err *err);

/* ---- pictures ---- */

/** Shape and dtype of one encoded row of the model's picture input (dynamic extents resolved), and its bytes. NULL for
 *  other tasks. */
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

/* ---- out: scores, embeddings ---- */

/** Whether the model's output is scores of classes (then labels and top-k apply), not an embedding. */
bool wn_pipeline_scores(const struct wn_pipeline *p);
/** Index of the model output that holds the scores, or what becomes the embedding. */
unsigned wn_pipeline_model_output(const struct wn_pipeline *p);

/** Task "embeddings": name of the output that clients ask for. */
const char *wn_pipeline_embed_name(const struct wn_pipeline *p);
/** Dimensions of an embedding made of a model output of this shape (batch axis included); 0: not the shape of one. */
size_t wn_pipeline_embed_dim(const struct wn_pipeline *p, unsigned rank, const int64_t *shape);
/** Embeddings (rows, dim) of a model output (rows, tokens, dim), or (rows, dim) with pooling none: pooled over each
 *  row's own tokens (`used` [rows]; NULL: all), made unit vectors where pipeline.yaml says so. In double arithmetic. */
void wn_pipeline_embed(const struct wn_pipeline *p, const float *output, const int64_t *shape, const uint32_t *used,
                       float *ret);

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
