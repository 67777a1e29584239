/* packs.h: packed weights, shared by content: by all shapes and scratches of a model, and by all models of this process
 * that hold the same weights (generations that differ in a few layers share the rest). */
#ifndef WN_PACKS_H
#define WN_PACKS_H

#include "engine/graph/graph.h"
#include "engine/plan/codec.h"
#include "engine/plan/facts.h"
#include "engine/plan/pack_class.h"

/** The packs one model holds references to. */
struct wn_packs;

/** What makes a pack: packs `w` (with `arg`) into one malloc'ed object and says how large it is.
 *  `kind` names the form, the ISA and every parameter that changes the result; with the bytes of `w` it is the key. */
struct wn_pack_maker {
    const char *kind;
    enum winnow_status (*make)(const struct wn_tensor *w, const void *arg, void **ret_obj, size_t *ret_bytes,
                               struct winnow_err *err);
    const struct wn_pack_class *class;
    const void *arg;
};

/** `facts`: of the model, which must outlive the packs. NULL: no memory. */
struct wn_packs *wn_packs_new(struct wn_facts *facts);
/** The facts, where they come after the packs (cache.c). */
void wn_packs_set_facts(struct wn_packs *packs, struct wn_facts *facts);
/** Find or make the pack of `w`; it lives as long as `packs`. Thread-safe; two threads may pack the same weights at
 *  once, one result is kept. `ret_bytes` may be NULL. */
enum winnow_status wn_packs_get(struct wn_packs *packs, const struct wn_tensor *w, const struct wn_pack_maker *maker,
                                const void **ret_obj, size_t *ret_bytes, struct winnow_err *err);
/** All packs held, in an image, each an object of it; classes[n]: all there are. A reader's are found by others from
 *  here on. */
void wn_packs_codec(struct wn_codec *im, struct wn_packs *packs, const struct wn_pack_class *const *classes, size_t n);
/** A point in time; and drop the packs that were not asked for since, but for those that weights come back from
 *  (wn_facts_origin()). No plan that uses the others may be left. */
size_t wn_packs_mark(struct wn_packs *packs);
void wn_packs_trim(struct wn_packs *packs, struct wn_facts *facts, size_t mark);
/** Bytes of all packs held. */
size_t wn_packs_bytes(struct wn_packs *packs);
void wn_packs_free(struct wn_packs *packs); /* NULL is fine */

#endif
