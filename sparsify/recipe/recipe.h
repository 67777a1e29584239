/* recipe.h: SparseML recipes: YAML (or Markdown with YAML in front) -> modifiers of a trainer.
 *
 * Two dialects, told apart by their shape, meaning the same:
 *   tagged   keys that contain "modifiers" hold lists of `!GMPruningModifier {…}`; times are epochs. Keys that end in
 *            `_stage` hold such keys, and each stage starts where the one before ended
 *   grouped  `NAME_stage: { run_type: train, GROUP_modifiers: { MagnitudePruningModifier: {…} } }`
 * Top-level scalars are variables; `eval(expression)` and `calc(expression)` compute with them. The evaluator knows
 * arithmetic and the functions of muParser, nothing else: a recipe is data, not code.
 * Source: SparseML 1.x recipes; formulas in curve.h. Bounds: base/yaml.h. */
#ifndef WN_RECIPE_H
#define WN_RECIPE_H

#include <jansson.h>
#include "base/yaml.h"
#include "sparsify/train/train.h"

struct wn_recipe;

/** Parse; names of modifiers and their keys are checked, values too where that needs no model.
 *  @return E_MALFORMED or E_UNSUPPORTED (a modifier or option we lack): "FILE:LINE: …", near names for slips */
WINNOW_MUST_USE enum winnow_status wn_recipe_parse(const void *bytes, size_t n, const char *file,
                                                   struct wn_recipe **ret, struct winnow_err *err);
WINNOW_MUST_USE enum winnow_status wn_recipe_read(const char *path, struct wn_recipe **ret, struct winnow_err *err);
void wn_recipe_free(struct wn_recipe *recipe); /* NULL is fine */

/** What a level's recipe is fitted to. */
struct wn_recipe_fit {
    size_t rows;
    unsigned batch;
    double epochs;    /* how long it trains; 0: as many as make sense for the rows */
    bool base_sparse; /* masks are kept (sparse transfer) when the level asks for no more than they give */
    double adamw_lr;  /* above 0: an encoder, trained by AdamW from this rate down; else pictures, by SGD */
    bool teach;       /* encoders: the base scores the same labels, and teaches */
};
/** The recipe that stands for a level 0 … 1: malloc'ed YAML text; NULL when out of memory. */
char *wn_recipe_for_level(double level, const struct wn_recipe_fit *fit);
/** The rate for an encoder with so many weights in its linear layers: larger ones want smaller steps. */
double wn_recipe_adamw_lr(size_t n_weights);

/** Where training ends, in epochs. */
double wn_recipe_epochs(const struct wn_recipe *recipe);
/** True when some modifier turns quantization on. */
bool wn_recipe_quantizes(const struct wn_recipe *recipe);
/** Whether a modifier sets a learning rate; without one it is 0 and no weight moves. */
bool wn_recipe_sets_lr(const struct wn_recipe *recipe);
/** What to say then. */
#define WN_RECIPE_NO_LR "the recipe sets no learning rate, so no weight is trained: add a SetLearningRateModifier"
/** True when some modifier asks a teacher (wn_trainer_set_teacher()). */
bool wn_recipe_distils(const struct wn_recipe *recipe);
/** Learning rate and target sparsity at time t (before the trainer is asked): for curves. Sparsity is that of the first
 *  pruning modifier that is active. */
double wn_recipe_lr_at(const struct wn_recipe *recipe, double t);
double wn_recipe_sparsity_at(const struct wn_recipe *recipe, double t);

/** Add the modifiers to a trainer; selectors are resolved now: one that matches nothing is an error that lists near
 *  names. The recipe may be freed afterwards. */
WINNOW_MUST_USE enum winnow_status wn_recipe_apply(const struct wn_recipe *recipe, struct wn_trainer *tr,
                                                   struct winnow_err *err);

#endif
