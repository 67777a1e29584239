/* spec.h: a pipeline as pipeline.yaml and the model's shapes settle it, and what a task must bring.
 *
 * A task is one file (task_image.c, task_text.c) with a `struct wn_task_kind`: the keys it knows, how they are settled
 * against the model, how items become tensors. spec.c has the one table of tasks and what all of them share. */
#ifndef WN_PIPELINE_SPEC_H
#define WN_PIPELINE_SPEC_H

#include "base/arena.h"
#include "base/yaml.h"
#include "pipeline/pipeline.h"

struct wn_tokenizer;
struct wn_spec;

struct wn_task_kind {
    const char *name;
    enum wn_pipe_task task;
    const char *const *keys; /* beside those of every task; NULL-terminated */
    /** Settle keys and model: fills raw names, n_fill, fill, and the task's own part of spec->p. */
    enum winnow_status (*settle)(struct wn_spec *spec);
    /** wn_pipeline_encode_rows(). */
    enum winnow_status (*encode)(const struct wn_pipeline *p, const struct wn_pipe_items *items,
                                 const struct wn_pipe_opts *opts, struct wn_arena *arena, struct wn_pipe_batch *ret,
                                 struct winnow_err *err);
    /** Release what does not lie in the pipeline's arena. May be NULL. */
    void (*done)(struct wn_pipeline *p);
};
extern const struct wn_task_kind wn_task_image, wn_task_text, wn_task_embeddings;

struct wn_image_task {
    struct wn_pipe_io row; /* shape without the batch axis, all extents known */
    size_t row_bytes;
    uint32_t w, h, channels;
    bool nhwc, bgr;
    bool crop;          /* else squash */
    uint32_t resize_to; /* crop: pixels of the shorter side before the middle is cut out */
    float table[3][256];
    struct wn_image_limits limits;
};

enum wn_text_role { WN_TEXT_IDS, WN_TEXT_MASK, WN_TEXT_TYPES, WN_TEXT_ROLES };

struct wn_text_task {
    struct wn_tokenizer *tokenizer;
    size_t max_length, max_bytes;
    size_t fixed;    /* every row has this many tokens; 0: as many as the longest */
    size_t multiple; /* rounded up to this; 0: as task_text.c finds best */
    enum wn_text_role role[WN_PIPE_MAX_FILL];
    enum winnow_dtype dtype[WN_PIPE_MAX_FILL];
    enum wn_pooling { WN_POOL_MEAN, WN_POOL_CLS, WN_POOL_NONE } pooling;
    bool normalize;
    const char *output;
};

struct wn_pipeline {
    struct wn_arena arena; /* every string below */
    const struct wn_task_kind *kind;
    const char *raw[WN_PIPE_MAX_RAW];
    unsigned n_raw;
    unsigned fill[WN_PIPE_MAX_FILL]; /* model inputs that encoding fills */
    unsigned n_fill;
    unsigned model_output;
    bool softmax;
    const char **label;
    unsigned n_labels;
    struct wn_image_task image;
    struct wn_text_task text;
};

/* ---- for the tasks' settle() ---- */

/** pipeline.yaml being settled. */
struct wn_spec {
    struct wn_yaml *doc;
    struct winnow_err *err;
    struct wn_pipeline *p;
    const char *dir;
    const struct wn_pipe_io *in, *out;
    unsigned n_in, n_out;
};

/** Fail with FILE:LINE of the node. */
#define WN_SPEC_BAD(spec, node, ...) wn_yaml_fail((spec)->doc, (node), (spec)->err, WINNOW_E_MALFORMED, __VA_ARGS__)

/** The value of a key, or NULL. */
const struct wn_yaml_node *wn_spec_key(const struct wn_spec *s, const char *key);
/** These leave `ret` alone where the key is not there (v NULL). Strings lie in the pipeline's arena. */
WINNOW_MUST_USE enum winnow_status wn_spec_string(const struct wn_spec *s, const char *key, const char **ret);
/** A string out of `choices` (NULL-terminated); its index. */
WINNOW_MUST_USE enum winnow_status wn_spec_choice(const struct wn_spec *s, const char *key, const char *const *choices,
                                                  unsigned *ret);
WINNOW_MUST_USE enum winnow_status wn_spec_bool(const struct wn_spec *s, const char *key, bool *ret);
WINNOW_MUST_USE enum winnow_status wn_spec_int(const struct wn_spec *s, const char *key, int64_t min, int64_t max,
                                               int64_t *ret);
/** The same from a node (an item of a list): it must be there. */
WINNOW_MUST_USE enum winnow_status wn_spec_want_int(const struct wn_spec *s, const char *key,
                                                    const struct wn_yaml_node *v, int64_t min, int64_t max,
                                                    int64_t *ret);
/** A finite number, or a fraction written "1/255". */
WINNOW_MUST_USE enum winnow_status wn_spec_want_number(const struct wn_spec *s, const char *key,
                                                       const struct wn_yaml_node *v, double *ret);
/** Index of the tensor that `key` names, or of the only candidate that fits. */
WINNOW_MUST_USE enum winnow_status wn_spec_choose_io(const struct wn_spec *s, const char *key,
                                                     const struct wn_pipe_io *io, unsigned n,
                                                     bool (*fits)(const struct wn_pipe_io *), const char *what,
                                                     unsigned *ret);
/** model_output, labels and softmax: what every classification has. */
WINNOW_MUST_USE enum winnow_status wn_spec_scores(struct wn_spec *s);

#endif
