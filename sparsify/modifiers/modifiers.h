/* modifiers.h: the kinds of modifiers a recipe may hold. A kind is a struct wn_mod_kind in one of this folder's files,
 * its name in the `extern` line at the end of this header, and a line per spelling in the table of
 * sparsify/modifiers/params.c; its keys are a table too, so that unknown ones, wrong types and missing ones are found
 * in one place. */
#ifndef WN_MODIFIERS_H
#define WN_MODIFIERS_H

#include "base/yaml.h"
#include "sparsify/recipe/eval.h"
#include "sparsify/train/train.h"

/** A list of selectors: exact names, "re:…", "__ALL__", "__ALL_PRUNABLE__". */
struct wn_names {
    const char **at;
    size_t n;
};

enum wn_field_kind { WN_FIELD_NUM, WN_FIELD_BOOL, WN_FIELD_STR, WN_FIELD_NAMES, WN_FIELD_NODE, WN_FIELD_NONE };

/** One key of a modifier. Several keys may write one member (the dialects spell some differently). */
struct wn_field {
    const char *key;
    enum wn_field_kind kind; /* NONE: accepted, means nothing here (a logger's setting, say) */
    size_t offset;           /* of a double, bool, const char *, struct wn_names or const struct wn_yaml_node * */
};

/** What reading a modifier needs. */
struct wn_mod_read {
    const struct wn_yaml *doc;
    struct wn_arena *arena; /* of the recipe */
    const struct wn_eval_var *vars;
    size_t n_vars;
    double offset; /* added to start_epoch and end_epoch: where the stage begins */
    struct winnow_err *err;
};

struct wn_mod_kind {
    const char *name; /* without "Modifier" */
    size_t bytes;     /* of its parameters */
    const struct wn_field *fields;
    size_t n_fields;
    void (*defaults)(void *params);
    /** Values that need no model. May be NULL. */
    enum winnow_status (*check)(struct wn_mod_read *read, const struct wn_yaml_node *node, void *params);
    /** Make the modifier and add it. May be NULL (EpochRange only says when training ends). */
    enum winnow_status (*add)(const void *params, struct wn_trainer *tr, struct winnow_err *err);
    double (*lr_at)(const void *params, double t);       /* NAN: not active; NULL: never */
    double (*sparsity_at)(const void *params, double t); /* NAN: not active; NULL: never */
};

/** Kind called `name` (with or without "Modifier", "PyTorch" prefix taken off), or NULL. */
const struct wn_mod_kind *wn_mod_find(const char *name);
/** Names of all kinds; n of them. */
const char *const *wn_mod_names(size_t *n);

/** Read the keys of `map` into `params` (preset by kind->defaults); start_epoch and end_epoch are shifted. */
enum winnow_status wn_mod_read(struct wn_mod_read *read, const struct wn_mod_kind *kind,
                               const struct wn_yaml_node *node, const struct wn_yaml_node *map, void *params);
/** A number, or `eval(…)`/`calc(…)`. */
enum winnow_status wn_mod_number(struct wn_mod_read *read, const struct wn_yaml_node *node, double *ret);

/** Every modifier's parameters start with this. */
struct wn_mod_common {
    double start, end; /* epochs; end -1 = never */
    bool has_end;
};
#define WN_MOD_TIME_FIELDS(type)                                                                                       \
    { "start_epoch", WN_FIELD_NUM, offsetof(type, common.start) },                                                     \
        { "start", WN_FIELD_NUM, offsetof(type, common.start) },                                                       \
        { "end_epoch", WN_FIELD_NUM, offsetof(type, common.end) },                                                     \
    {                                                                                                                  \
        "end", WN_FIELD_NUM, offsetof(type, common.end)                                                                \
    }

/** Parameters that selectors mean, in graph order, each once.
 *  @param ret  malloc'ed array of names (owned by the caller; the strings are the trainer's)
 *  @return E_NOT_FOUND: a selector that matches nothing, with near names */
enum winnow_status wn_select(struct wn_trainer *tr, const struct wn_names *names, const char *modifier,
                             struct wn_param ***ret, size_t *ret_n, struct winnow_err *err);

/** How weights are grouped when they are pruned: output channels x input channels at one tap. */
enum wn_mask_type { WN_MASK_UNSTRUCTURED, WN_MASK_1X4, WN_MASK_2X1, WN_MASK_4X1 };
/** false: no such type. */
bool wn_mask_type_of(const char *name, enum wn_mask_type *ret);
bool wn_mask_type_of_shape(int64_t rows, int64_t inputs, enum wn_mask_type *ret);

/** Choose masks: exactly round(sparsity * groups) groups of lowest mean |w| are pruned, ties by position, pruned ones
 *  stay pruned, every output channel keeps a weight. `together`: one ranking over all tensors, else one each.
 *  masks [n]: [param->n] bytes each, written. */
enum winnow_status wn_mask_choose(struct wn_param *const *params, size_t n, double sparsity, bool together,
                                  enum wn_mask_type type, uint8_t *const *masks, struct winnow_err *err);

extern const struct wn_mod_kind wn_mod_EpochRange, wn_mod_SetLearningRate, wn_mod_LearningRateFunction,
    wn_mod_SetWeightDecay, wn_mod_GMPruning, wn_mod_ConstantPruning, wn_mod_Quantization, wn_mod_TrainableParams,
    wn_mod_Distillation;

#endif
