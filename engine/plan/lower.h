/* lower.h: nodes -> steps. Shared by the lower_*.c files. */
#ifndef WN_LOWER_H
#define WN_LOWER_H

#include "engine/ops/ops.h"
#include "engine/passes/fused.h"
#include "engine/plan/choice.h"
#include "engine/plan/facts.h"
#include "engine/plan/model.h"
#include "engine/plan/plan.h"

struct wn_q8_choice; /* q8.h */

struct wn_lower {
    struct wn_plan *plan;
    struct winnow_model *model;
    struct winnow_err *err;
    bool reference;               /* only reference operators */
    struct wn_geometry *geo;      /* geometry.h */
    uint32_t *user_at, *user;     /* [values + 1], into user: the nodes that read a value, once per input */
    uint32_t *output;             /* [values] 1 + the number of the output that a value is, or 0 */
    struct wn_q8_choice **choice; /* [nodes] made so far; q8.h */
    int8_t *form_wish;            /* [values] > 0: the convolutions behind it want byte planes; < 0: quads */
};

/** Append a step for `node`; later calls of wn_lower_touch() mark the buffers it uses. NULL when out of memory. */
struct wn_step *wn_lower_step(struct wn_lower *lo, const struct wn_node *node, const char *kernel,
                              void (*run)(const struct wn_step *, struct wn_exec *, unsigned, unsigned),
                              const void *arg);
/** The newest step runs once for each image of v (rank 3 or 4): the places it uses know the bytes between images. */
void wn_lower_images(struct wn_lower *lo, wn_vid v);
/** The newest step uses this place (and what is behind it stays alive until then). */
void wn_lower_touch(struct wn_lower *lo, struct wn_loc loc);
/** A new buffer. kind NONE when out of memory. */
struct wn_loc wn_lower_buf(struct wn_lower *lo, size_t bytes);
/** The step that writes y reads r at the very place where it writes, and before it does, and no other of its inputs is
 * r
 *  (`x`: the one to make sure of): y may lie in r's memory. Only whole buffers of the same images. */
void wn_lower_over(struct wn_lower *lo, struct wn_loc y, struct wn_loc r, struct wn_loc x);
/** Where `v` is as a plain tensor; converts it (adding steps) if it is only in another form. */
enum winnow_status wn_lower_plain(struct wn_lower *lo, wn_vid v, struct wn_loc *ret);
/** A place to write `v` as a plain tensor: the caller's output memory if `v` is an output, else a new buffer. */
enum winnow_status wn_lower_new_plain(struct wn_lower *lo, wn_vid v, struct wn_loc *ret);

/** Lower one node if a kernel family fits; *done says whether it did. Tried in the order of the table in lower.c. */
typedef enum winnow_status wn_lower_fn(struct wn_lower *lo, const struct wn_node *node, bool *done);
wn_lower_fn wn_lower_view; /* what wn_node_is_view() says: no work, another shape */
wn_lower_fn wn_lower_conv_f32, wn_lower_conv_q8, wn_lower_linear_f32, wn_lower_linear_q8, wn_lower_pool,
    wn_lower_pool_q8, wn_lower_dynamic_q8, wn_lower_cols_q8, wn_lower_eltwise_flat, wn_lower_eltwise,
    wn_lower_eltwise_q8, wn_lower_concat, wn_lower_norm_sum, wn_lower_layer_norm, wn_lower_softmax, wn_lower_split,
    wn_lower_token, wn_lower_attn, wn_lower_attn_q8, wn_lower_resize, wn_lower_recurrent, wn_lower_interleave,
    wn_lower_by_channel, wn_lower_transpose, wn_lower_slice, wn_lower_concat_plain, wn_lower_norm_q8;

/** wn_choose() for a layer with weights w, and the plan's arena. */
static inline const struct wn_choice *wn_lower_choose(struct wn_lower *lo, const struct wn_tensor *w, double cols,
                                                      const struct wn_candidate *c, size_t n)
{
    return wn_choose(lo->model->tuned, lo->model->facts, &lo->plan->arena, w, cols, c, n);
}

/** The reference operator as a step (any node). */
enum winnow_status wn_lower_reference(struct wn_lower *lo, const struct wn_node *node);

static inline const struct wn_type *wn_lower_type(const struct wn_lower *lo, wn_vid v)
{
    return &lo->plan->g.values.at[v].type;
}
/** Bytes of value v as a plain tensor (known not to overflow). */
size_t wn_lower_bytes(const struct wn_lower *lo, wn_vid v);

#endif
