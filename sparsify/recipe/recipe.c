/* recipe.c: a document -> a list of modifiers. */
#include "sparsify/recipe/recipe.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "sparsify/modifiers/modifiers.h"

struct item {
    const struct wn_mod_kind *kind;
    const void *params;
};

struct wn_recipe {
    struct wn_yaml doc;
    struct wn_arena arena;
    WN_VEC(struct item) items;
    WN_VEC(struct wn_eval_var) vars;
    double epochs; /* the largest end of an EpochRange; else of anything */
    bool avx2_safe;
};

struct parse {
    struct wn_recipe *r;
    double offset, stage_end;
    struct winnow_err *err;
};

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

/* ---- variables ---- */

static enum winnow_status read_vars(struct parse *p, const struct wn_yaml_node *map)
{
    struct wn_recipe *r = p->r;
    struct wn_mod_read read = { &r->doc, &r->arena, NULL, 0, 0, p->err };
    for (size_t i = 0; i < map->n; i++) {
        const struct wn_yaml_node *v = map->item[i];
        double x;
        bool expression = v->kind == WN_YAML_STRING && (!strncmp(v->text, "eval(", 5) || !strncmp(v->text, "calc(", 5));
        if (v->kind == WN_YAML_BOOL && strcmp(map->key[i]->text, "avx2_safe") == 0)
            r->avx2_safe = v->as.b;
        if (!wn_yaml_number(v, &x) && !expression)
            continue;
        read.vars = r->vars.at; /* earlier ones may be used */
        read.n_vars = r->vars.n;
        WN_TRY(wn_mod_number(&read, v, &x));
        if (!wn_vec_push(&r->vars, (struct wn_eval_var){ map->key[i]->text, x }))
            return wn_fail(p->err, WINNOW_E_NOMEM, "recipe");
    }
    return WINNOW_OK;
}

/* ---- modifiers ---- */

static enum winnow_status add_item(struct parse *p, const char *name, const struct wn_yaml_node *at,
                                   const struct wn_yaml_node *map)
{
    struct wn_recipe *r = p->r;
    const struct wn_mod_kind *kind = wn_mod_find(name);
    if (!kind) {
        size_t n;
        const char *const *names = wn_mod_names(&n);
        size_t len = strlen(name) - (ends_with(name, "Modifier") ? strlen("Modifier") : 0);
        const char *bare = wn_arena_strndup(&r->arena, name, len), *near = bare ? wn_near_name(bare, names, n) : NULL;
        return wn_yaml_fail(&r->doc, at, p->err, WINNOW_E_UNSUPPORTED, "no modifier '%.60s'%s%s%s", name,
                            near ? ", did you mean " : "", near ? near : "", near ? "Modifier?" : "");
    }
    static const struct wn_yaml_node empty = { .kind = WN_YAML_MAP, .text = "" };
    if (map->kind == WN_YAML_NULL)
        map = &empty;
    if (map->kind != WN_YAML_MAP)
        return wn_yaml_fail(&r->doc, at, p->err, WINNOW_E_MALFORMED, "%sModifier wants keys and values", kind->name);
    void *params = wn_arena_alloc(&r->arena, kind->bytes);
    if (!params)
        return wn_fail(p->err, WINNOW_E_NOMEM, "recipe");
    struct wn_mod_read read = { &r->doc, &r->arena, r->vars.at, r->vars.n, p->offset, p->err };
    WN_TRY(wn_mod_read(&read, kind, at, map, params));
    const struct wn_mod_common *common = params;
    if (common->has_end)
        p->stage_end = fmax(p->stage_end, common->end);
    if (kind == &wn_mod_EpochRange)
        r->epochs = fmax(r->epochs, common->end);
    return wn_vec_push(&r->items, (struct item){ kind, params }) ? WINNOW_OK
                                                                 : wn_fail(p->err, WINNOW_E_NOMEM, "recipe");
}

/* A list of tagged items, or a map from names to their keys. */
static enum winnow_status read_modifiers(struct parse *p, const struct wn_yaml_node *list)
{
    struct wn_recipe *r = p->r;
    if (list->kind == WN_YAML_MAP) {
        for (size_t i = 0; i < list->n; i++)
            WN_TRY(add_item(p, list->key[i]->text, list->key[i], list->item[i]));
        return WINNOW_OK;
    }
    if (list->kind != WN_YAML_SEQ)
        return list->kind == WN_YAML_NULL
                   ? WINNOW_OK
                   : wn_yaml_fail(&r->doc, list, p->err, WINNOW_E_MALFORMED, "a list of modifiers is wanted");
    for (size_t i = 0; i < list->n; i++) {
        const struct wn_yaml_node *item = list->item[i];
        if (!item->tag || item->tag[0] != '!')
            return wn_yaml_fail(&r->doc, item, p->err, WINNOW_E_MALFORMED,
                                "every modifier of a list has a tag: `- !EpochRangeModifier`");
        WN_TRY(add_item(p, item->tag + 1, item, item));
    }
    return WINNOW_OK;
}

static enum winnow_status read_keys(struct parse *p, const struct wn_yaml_node *map);

/* A stage begins where the one before it ended; its variables are its own but visible to what follows. */
static enum winnow_status read_stage(struct parse *p, const struct wn_yaml_node *stage)
{
    struct wn_recipe *r = p->r;
    if (stage->kind != WN_YAML_MAP)
        return wn_yaml_fail(&r->doc, stage, p->err, WINNOW_E_MALFORMED, "a stage wants keys and values");
    const struct wn_yaml_node *type = wn_yaml_get(stage, "run_type");
    if (type && strcmp(type->text, "train"))
        return wn_yaml_fail(&r->doc, type, p->err, WINNOW_E_UNSUPPORTED, "run_type is train, not '%.40s'", type->text);
    p->stage_end = p->offset;
    WN_TRY(read_vars(p, stage));
    WN_TRY(read_keys(p, stage));
    p->offset = p->stage_end;
    return WINNOW_OK;
}

static enum winnow_status read_keys(struct parse *p, const struct wn_yaml_node *map)
{
    for (size_t i = 0; i < map->n; i++) {
        const char *key = map->key[i]->text;
        if (strstr(key, "modifiers"))
            WN_TRY(read_modifiers(p, map->item[i]));
        else if (ends_with(key, "_stage"))
            WN_TRY(read_stage(p, map->item[i]));
    }
    return WINNOW_OK;
}

static enum winnow_status read_document(struct parse *p)
{
    struct wn_recipe *r = p->r;
    const struct wn_yaml_node *root = r->doc.root;
    if (root->kind != WN_YAML_MAP)
        return wn_yaml_fail(&r->doc, root, p->err, WINNOW_E_MALFORMED, "a recipe is keys and values, not %s",
                            wn_yaml_kind_name(root->kind));
    WN_TRY(read_vars(p, root));
    WN_TRY(read_keys(p, root));
    if (!r->items.n)
        return wn_yaml_fail(&r->doc, root, p->err, WINNOW_E_MALFORMED, "the recipe has no modifiers");
    if (r->epochs <= 0)
        r->epochs = p->stage_end;
    if (r->epochs <= 0)
        return wn_yaml_fail(&r->doc, root, p->err, WINNOW_E_MALFORMED,
                            "nothing says when training ends: an EpochRangeModifier is missing");
    if (r->epochs > 100000)
        return wn_yaml_fail(&r->doc, root, p->err, WINNOW_E_TOO_LARGE, "%g epochs", r->epochs);
    return WINNOW_OK;
}

/* Markdown with YAML in front: the lines between the first two `---`. */
static const char *front_matter(const char *bytes, size_t *n, unsigned *first_line)
{
    *first_line = 1;
    if (*n < 4 || strncmp(bytes, "---\n", 4))
        return bytes;
    for (size_t i = 4; i + 4 <= *n; i++)
        if (strncmp(bytes + i - 1, "\n---", 4) == 0 && (i + 3 == *n || bytes[i + 3] == '\n' || bytes[i + 3] == '\r')) {
            *n = i - 4;
            *first_line = 2;
            return bytes + 4;
        }
    return bytes;
}

static void freep(struct wn_recipe **r)
{
    wn_recipe_free(*r);
}

enum winnow_status wn_recipe_parse(const void *bytes, size_t n, const char *file, struct wn_recipe **ret,
                                   struct winnow_err *err)
{
    WN_CLEANUP(freep) struct wn_recipe *r = calloc(1, sizeof *r);
    if (!r)
        return wn_fail(err, WINNOW_E_NOMEM, "recipe");
    wn_arena_init(&r->arena, 64u << 20);
    unsigned first_line;
    const char *text = front_matter(bytes, &n, &first_line);
    WN_TRY(wn_yaml_parse(text, n, file, first_line, WN_YAML_TAGS | WN_YAML_ALIASES, &r->doc, err));
    struct parse p = { .r = r, .err = err };
    WN_TRY(read_document(&p));
    *ret = WN_TAKE(r);
    return WINNOW_OK;
}

enum winnow_status wn_recipe_read(const char *path, struct wn_recipe **ret, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) void *bytes = NULL;
    size_t n;
    WN_TRY(wn_file_read(path, WN_YAML_MAX_BYTES, &bytes, &n, err));
    return wn_recipe_parse(bytes, n, path, ret, err);
}

void wn_recipe_free(struct wn_recipe *recipe)
{
    if (!recipe)
        return;
    wn_vec_done(&recipe->items);
    wn_vec_done(&recipe->vars);
    wn_yaml_done(&recipe->doc);
    wn_arena_done(&recipe->arena);
    free(recipe);
}

/* ---- what it will do ---- */

double wn_recipe_epochs(const struct wn_recipe *recipe)
{
    return recipe->epochs;
}

static bool has(const struct wn_recipe *recipe, const struct wn_mod_kind *kind)
{
    for (size_t i = 0; i < recipe->items.n; i++)
        if (recipe->items.at[i].kind == kind)
            return true;
    return false;
}

bool wn_recipe_quantizes(const struct wn_recipe *recipe)
{
    return has(recipe, &wn_mod_Quantization);
}

bool wn_recipe_sets_lr(const struct wn_recipe *recipe)
{
    for (size_t i = 0; i < recipe->items.n; i++)
        if (recipe->items.at[i].kind->lr_at)
            return true;
    return false;
}

bool wn_recipe_distils(const struct wn_recipe *recipe)
{
    return has(recipe, &wn_mod_Distillation);
}

double wn_recipe_lr_at(const struct wn_recipe *recipe, double t)
{
    double lr = 0;
    for (size_t i = 0; i < recipe->items.n; i++) {
        const struct item *it = &recipe->items.at[i];
        double v = it->kind->lr_at ? it->kind->lr_at(it->params, t) : NAN;
        if (!isnan(v))
            lr = v; /* the later modifier wins, as in the step loop */
    }
    return lr;
}

double wn_recipe_sparsity_at(const struct wn_recipe *recipe, double t)
{
    double s = 0;
    for (size_t i = 0; i < recipe->items.n; i++) {
        const struct item *it = &recipe->items.at[i];
        double v = it->kind->sparsity_at ? it->kind->sparsity_at(it->params, t) : NAN;
        if (!isnan(v))
            s = fmax(s, v);
    }
    return s;
}

enum winnow_status wn_recipe_apply(const struct wn_recipe *recipe, struct wn_trainer *tr, struct winnow_err *err)
{
    for (size_t i = 0; i < recipe->items.n; i++)
        if (recipe->items.at[i].kind->add)
            WN_TRY(recipe->items.at[i].kind->add(recipe->items.at[i].params, tr, err));
    return WINNOW_OK;
}

/* ---- the one dial ---- */

/* Sparsity that a level stands for: half the weights go early, the last few percent late. */
static double level_sparsity(double level)
{
    static const double at[][2] = { { 0, 0 }, { 0.3, 0.7 }, { 0.5, 0.8 }, { 0.7, 0.9 }, { 0.85, 0.95 }, { 1, 0.975 } };
    for (size_t i = 1; i < WN_COUNT(at); i++)
        if (level <= at[i][0])
            return at[i - 1][1] + (at[i][1] - at[i - 1][1]) * (level - at[i - 1][0]) / (at[i][0] - at[i - 1][0]);
    return at[WN_COUNT(at) - 1][1];
}

/* About as many steps, whatever the number of rows. */
static double level_epochs(size_t rows, unsigned batch)
{
    double steps = (double)WN_MAX(rows / WN_MAX(batch, 1u), (size_t)1);
    return fmin(fmax(ceil(1200 / steps), 5), 40);
}

/* Published rates: 1.5e-4 … 8e-5 for BERT-base (85 M), 5e-4 for encoders of a few hundred thousand weights. */
double wn_recipe_adamw_lr(size_t n_weights)
{
    return fmin(5e-4, fmax(5e-5, 5e-4 * pow(2e6 / fmax((double)n_weights, 1), 0.7)));
}

/* Linear rates with a warm-up, masks in the first half, INT8 last, the base as teacher. */
static char *encoder_level(double level, const struct wn_recipe_fit *fit, double epochs)
{
    double lr = fit->adamw_lr, warm = fmin(0.5, epochs / 10), s = level_sparsity(level);
    double quant = level <= 0 ? epochs : epochs - fmin(fmax(1, round(epochs * 0.15)), epochs / 3);
    const char *teach = fit->teach ? "  - !DistillationModifier {hardness: 0.5, temperature: 2}\n" : "";
    WN_CLEANUP(wn_freep)
    char *rates = wn_asprintf("modifiers:\n"
                              "  - !EpochRangeModifier {start_epoch: 0, end_epoch: %g}\n"
                              "  - !LearningRateFunctionModifier {start_epoch: 0, end_epoch: %g, lr_func: linear, "
                              "init_lr: %g, final_lr: %g}\n"
                              "  - !LearningRateFunctionModifier {start_epoch: %g, end_epoch: %g, lr_func: linear, "
                              "init_lr: %g, final_lr: %g}\n"
                              "  - !SetWeightDecayModifier {start_epoch: 0, weight_decay: 0.01}\n"
                              "%s",
                              epochs, warm, lr / 10, lr, warm, quant, lr, lr / 50, teach);
    if (!rates)
        return NULL;
    if (level <= 0)
        return wn_asprintf(
            "# optim_level 0: fine-tune only\n%s%s", rates,
            fit->base_sparse ? "  - !ConstantPruningModifier {start_epoch: 0, params: [__ALL_PRUNABLE__]}\n" : "");
    return wn_asprintf("# optim_level %g: %g %% of the weights of linear layers pruned, INT8\n%s"
                       "  - !LearningRateFunctionModifier {start_epoch: %g, end_epoch: %g, lr_func: linear, "
                       "init_lr: %g, final_lr: %g}\n"
                       "  - !GMPruningModifier {start_epoch: 0, end_epoch: %g, update_frequency: %g, "
                       "init_sparsity: %g, final_sparsity: %g, params: [__ALL_PRUNABLE__], global_sparsity: true}\n"
                       "  - !QuantizationModifier {start_epoch: %g}\n",
                       level, 100 * s, rates, quant, epochs, lr / 10, lr / 100, quant * 0.5, fmin(0.25, quant / 8),
                       fmin(0.3, s), s, quant);
}

char *wn_recipe_for_level(double level, const struct wn_recipe_fit *fit)
{
    double epochs = fit->epochs > 0 ? fit->epochs : level_epochs(fit->rows, fit->batch);
    if (fit->adamw_lr > 0)
        return encoder_level(level, fit, epochs);
    double quant = epochs - fmin(fmax(1, round(epochs * 0.15)), epochs / 3); /* of a short one, a third is quantized */
    double prune_end = quant * 0.5, s = level_sparsity(level);
    if (level <= 0)
        return wn_asprintf(
            "# optim_level 0: fine-tune only\n"
            "modifiers:\n"
            "  - !EpochRangeModifier {start_epoch: 0, end_epoch: %g}\n"
            "  - !LearningRateFunctionModifier {start_epoch: 0, end_epoch: %g, lr_func: cosine, "
            "init_lr: 0.05, final_lr: 0.0005}\n"
            "  - !SetWeightDecayModifier {start_epoch: 0, weight_decay: 0.0005}\n"
            "%s",
            epochs, epochs,
            fit->base_sparse ? "  - !ConstantPruningModifier {start_epoch: 0, params: [__ALL_PRUNABLE__]}\n" : "");
    return wn_asprintf("# optim_level %g: %g %% of the weights pruned, INT8\n"
                       "modifiers:\n"
                       "  - !EpochRangeModifier {start_epoch: 0, end_epoch: %g}\n"
                       "  - !LearningRateFunctionModifier {start_epoch: 0, end_epoch: %g, lr_func: cosine, "
                       "init_lr: 0.08, final_lr: 0.001}\n"
                       "  - !LearningRateFunctionModifier {start_epoch: %g, end_epoch: %g, lr_func: cosine, "
                       "init_lr: 0.005, final_lr: 0.0001}\n"
                       "  - !SetWeightDecayModifier {start_epoch: 0, weight_decay: 0.0005}\n"
                       "  - !SetWeightDecayModifier {start_epoch: %g, weight_decay: 0.00001}\n"
                       "  - !GMPruningModifier {start_epoch: 0, end_epoch: %g, update_frequency: %g, "
                       "init_sparsity: %g, final_sparsity: %g, params: [__ALL_PRUNABLE__], global_sparsity: true}\n"
                       "  - !QuantizationModifier {start_epoch: %g}\n",
                       level, 100 * s, epochs, quant, quant, epochs, quant, prune_end, fmin(0.25, prune_end / 4),
                       fmin(0.5, s), s, quant);
}
