/* choice.h: which kernel family runs a layer: the cheapest by the cost table, or the fastest that was measured
 * (winnow_scratch_tune()). Internal to engine/plan. */
#ifndef WN_CHOICE_H
#define WN_CHOICE_H

#include "engine/plan/cost.h"
#include "engine/plan/facts.h"
#include "engine/plan/plan.h"

#define WN_CHOICE_MAX 6 /* candidates of a layer */

/** What was chosen for a layer, and from what; in the plan's arena. */
struct wn_choice {
    struct wn_hash weights;
    uint32_t cols; /* columns, or rows of tokens rounded up to whole columns */
    enum wn_family family;
    unsigned n;
    struct wn_candidate c[WN_CHOICE_MAX];
    const char *why; /* predicted costs, and measured ones where there are any */
};

/** What was measured, by weights and columns. Any thread may ask. */
struct wn_tuned;
struct wn_tuned *wn_tuned_new(void);    /* NULL: no memory */
void wn_tuned_free(struct wn_tuned *t); /* NULL is fine */

/** Choose among n candidates, of which one at least is possible. NULL: no memory.
 *  @param w     constant weights of the model, as in its facts */
const struct wn_choice *wn_choose(struct wn_tuned *t, struct wn_facts *facts, struct wn_arena *arena,
                                  const struct wn_tensor *w, double cols, const struct wn_candidate *c, size_t n);

/** Modes of choosing. */
enum wn_choosing {
    WN_CHOOSE_TUNED, /* by what was measured, where it was; else by the table */
    WN_CHOOSE_TABLE,
    WN_CHOOSE_FORCED, /* `family` wherever it is possible */
};
/** For plans from here on; of a model that nobody else plans for meanwhile. */
void wn_choosing_set(struct wn_tuned *t, enum wn_choosing how, enum wn_family family);

/** A layer took so many microseconds with this family; the least counts. False: no memory. */
bool wn_tuned_note(struct wn_tuned *t, const struct wn_choice *choice, enum wn_family family, double us);
/** From here on the fastest that was measured, where `fastest`; else `choice->family`. */
void wn_tuned_settle(struct wn_tuned *t, const struct wn_choice *choice, bool fastest);
/** All of it, in an image. */
struct wn_codec;
void wn_tuned_codec(struct wn_codec *im, struct wn_tuned *t);

#endif
