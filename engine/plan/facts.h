/* facts.h: what is known about a model's weights, found out once however many shapes it is planned for: how many of
 * them are zero and in which pattern, the hash of their content, the sums of their rows. And where they are: in the
 * graph, or, once they are packed, in the pack alone, from which they come back when a new shape wants another form. */
#ifndef WN_FACTS_H
#define WN_FACTS_H

#include "engine/graph/graph.h"
#include "engine/plan/cost.h"
#include "engine/plan/pack_class.h"

/** A hash of 128 bits. */
struct wn_hash {
    uint64_t low, high;
};

struct wn_codec; /* codec.h */

/** Facts of the constants of one graph; any thread may ask. */
struct wn_facts;

/** Of the constants that `g` has now: they must neither move nor change from here on. NULL: no memory. */
struct wn_facts *wn_facts_new(const struct wn_graph *g);
void wn_facts_free(struct wn_facts *facts); /* NULL is fine */

/** wn_sparsity_of() of the matrices w (O, I, taps), f32 or s8. A tensor that is not the graph's own (made for one plan)
 *  is counted anew each time. */
struct wn_sparsity wn_facts_sparsity(struct wn_facts *facts, const struct wn_tensor *w, size_t O, size_t I,
                                     size_t taps);

/** XXH3 of element type, shape and bytes. */
struct wn_hash wn_facts_hash(struct wn_facts *facts, const struct wn_tensor *w);

/** [O] sums of the rows of w (O, …) s8, in `arena`, as 64 bits. NULL: no memory. */
const int64_t *wn_facts_row_sums(struct wn_facts *facts, const struct wn_tensor *w, size_t O, struct wn_arena *arena);

/* ---- where weights are ---- */

/** `pack`, which lives as long as the model, holds all of w: where one layer alone reads w, its memory is given up once
 *  nobody has borrowed it. */
void wn_facts_origin(struct wn_facts *facts, const struct wn_tensor *w, const void *pack, wn_unpack_fn *unpack);

/** True when weights come back from this pack. */
bool wn_facts_rely_on(struct wn_facts *facts, const void *pack);

/** Bytes of weights for a while. */
struct wn_borrow {
    const struct wn_tensor *w;
    const void *data;
    void *made; /* the same, unpacked for the borrower; or NULL */
    bool counted;
};

/** The bytes of w until wn_facts_return(); made again where they were given up. */
enum winnow_status wn_facts_borrow(struct wn_facts *facts, const struct wn_tensor *w, struct wn_borrow *ret,
                                   struct winnow_err *err);
void wn_facts_return(struct wn_facts *facts, struct wn_borrow *b);
/** The bytes of w, for a step that reads them in every run: they stay as long as the model. */
enum winnow_status wn_facts_pin(struct wn_facts *facts, const struct wn_tensor *w, const void **ret_data,
                                struct winnow_err *err);

/* ---- in an image ---- */

/** Between hold and drop nothing is given up, and it stands which data goes into an image. One image at a time. */
void wn_facts_hold(struct wn_facts *facts);
void wn_facts_drop(struct wn_facts *facts);
/** The data of `t` that an image needs; NULL where a pack has it. A wn_codec_data_fn over struct wn_facts. */
const void *wn_facts_stored(void *facts, const struct wn_tensor *t);
/** All that is known; after the packs, which are the objects of the image, and the graph. A reader makes *facts. */
void wn_facts_codec(struct wn_codec *im, struct wn_facts **facts);

/** Bytes of weights that are in the graph or were made again and stay. */
size_t wn_facts_bytes(struct wn_facts *facts);

#endif
