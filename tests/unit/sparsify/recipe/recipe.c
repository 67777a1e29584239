/* recipes: both dialects, stages, variables, and what a wrong recipe says. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "sparsify/recipe/curve.h"
#include "sparsify/recipe/eval.h"
#include "sparsify/recipe/recipe.h"

static struct wn_recipe *parse(const char *text)
{
    struct wn_recipe *r = NULL;
    struct winnow_err err;
    enum winnow_status status = wn_recipe_parse(text, strlen(text), "r.yaml", &r, &err);
    cr_assert(status == WINNOW_OK, "%s", err.msg);
    return r;
}

Test(recipe, tagged_dialect)
{
    struct wn_recipe *r =
        parse("num_epochs: 10\n"
              "prune_end: eval(num_epochs * 0.5)\n"
              "training_modifiers:\n"
              "  - !EpochRangeModifier {start_epoch: 0.0, end_epoch: eval(num_epochs)}\n"
              "  - !LearningRateFunctionModifier\n"
              "    start_epoch: 0\n"
              "    end_epoch: 10\n"
              "    lr_func: linear\n"
              "    init_lr: 0.1\n"
              "    final_lr: 0.0\n"
              "pruning_modifiers:\n"
              "  - !GMPruningModifier {start_epoch: 1, end_epoch: eval(prune_end), init_sparsity: 0.05,\n"
              "      final_sparsity: 0.9, params: __ALL_PRUNABLE__, inter_func: cubic}\n"
              "quantization_modifiers:\n"
              "  - !QuantizationModifier {start_epoch: 8, disable_quantization_observer_epoch: 9}\n");
    cr_assert_float_eq(wn_recipe_epochs(r), 10, 1e-12);
    cr_assert(wn_recipe_quantizes(r));
    cr_assert_float_eq(wn_recipe_lr_at(r, 2.5), 0.075, 1e-9);
    cr_assert_float_eq(wn_recipe_sparsity_at(r, 0.5), 0, 1e-12);
    cr_assert_float_eq(wn_recipe_sparsity_at(r, 1), 0.05, 1e-12);
    cr_assert_float_eq(wn_recipe_sparsity_at(r, 3), 0.05 + 0.85 * 0.875, 1e-9); /* half-way: 1 - 0.5^3 */
    cr_assert_float_eq(wn_recipe_sparsity_at(r, 7), 0.9, 1e-12);
    wn_recipe_free(r);
}

Test(recipe, grouped_dialect_and_stages)
{
    struct wn_recipe *r = parse("version: 1.1.0\n"
                                "dense_stage:\n"
                                "  run_type: train\n"
                                "  training_modifiers:\n"
                                "    EpochRangeModifier: {start: 0, end: 2}\n"
                                "    SetLearningRateModifier: {start: 0, learning_rate: 0.1}\n"
                                "sparse_stage:\n"
                                "  run_type: train\n"
                                "  training_modifiers:\n"
                                "    EpochRangeModifier: {start: 0, end: 4}\n"
                                "  pruning_modifiers:\n"
                                "    MagnitudePruningModifier: {start: 1, end: 3, init_sparsity: 0.0,\n"
                                "      final_sparsity: 0.8, targets: [__ALL_PRUNABLE__], update_scheduler: linear}\n");
    cr_assert_float_eq(wn_recipe_epochs(r), 6, 1e-12, "the second stage starts where the first ends");
    cr_assert_float_eq(wn_recipe_sparsity_at(r, 4), 0.4, 1e-9);
    cr_assert_not(wn_recipe_quantizes(r));
    wn_recipe_free(r);
}

Test(recipe, markdown_front_matter)
{
    struct wn_recipe *r =
        parse("---\nmodifiers:\n  - !EpochRangeModifier {start_epoch: 0, end_epoch: 3}\n---\n# A title: not YAML\n");
    cr_assert_float_eq(wn_recipe_epochs(r), 3, 1e-12);
    wn_recipe_free(r);
}

Test(recipe, every_level_parses)
{
    for (int level = 0; level <= 20; level++)
        for (int sparse = 0; sparse < 4; sparse++) {
            const struct wn_recipe_fit fit = { .rows = 2700,
                                               .batch = 64,
                                               .base_sparse = sparse & 1,
                                               .adamw_lr = sparse & 2 ? wn_recipe_adamw_lr(10000000) : 0,
                                               .teach = sparse & 1 };
            char *text = wn_recipe_for_level(level / 20.0, &fit);
            struct wn_recipe *r = parse(text);
            cr_assert(wn_recipe_epochs(r) >= 5);
            cr_assert(wn_recipe_quantizes(r) == (level > 0));
            wn_recipe_free(r);
            free(text);
        }
}

Test(recipe, level_takes_as_long_as_it_is_told)
{
    static const double epochs[] = { 1, 2, 3.5, 5, 8, 250 };
    for (size_t i = 0; i < WN_COUNT(epochs); i++)
        for (int level = 0; level <= 5; level++) {
            const struct wn_recipe_fit fit = {
                .rows = 2700, .batch = 64, .epochs = epochs[i], .adamw_lr = level > 2 ? 5e-4 : 0
            };
            char *text = wn_recipe_for_level(level % 3 / 2.0, &fit);
            struct wn_recipe *r = parse(text);
            cr_assert_float_eq(wn_recipe_epochs(r), epochs[i], 1e-6, "%g", epochs[i]);
            wn_recipe_free(r);
            free(text);
        }
}

static const struct {
    const char *text, *message;
} bad[] = {
    { "modifiers:\n  - !EpochRangModifier {end_epoch: 3}\n",
      "r.yaml:2: no modifier 'EpochRangModifier', did you mean EpochRangeModifier?" },
    { "modifiers:\n  - !EpochRangeModifier {start_epoch: 0, end_epoch: 3}\n  - !SetLearningRateModifier {learning_rat: "
      "1}\n",
      "r.yaml:3: SetLearningRateModifier has no 'learning_rat', did you mean 'learning_rate'?" },
    { "modifiers:\n  - !EpochRangeModifier {start_epoch: 0, end_epoch: 3}\n  - !GMPruningModifier {start_epoch: 0, "
      "params: x, final_sparsity: 0.9}\n",
      "r.yaml:3: a pruning modifier needs an end_epoch" },
    { "modifiers:\n  - !EpochRangeModifier {start_epoch: 0, end_epoch: 3}\n  - !GMPruningModifier {start_epoch: 0, "
      "end_epoch: 2, params: x, final_sparsity: 1.5}\n",
      "r.yaml:3: a sparsity lies in 0 … 1 (1 excluded), not 1.5" },
    { "modifiers:\n  - !EpochRangeModifier {start_epoch: 4, end_epoch: 3}\n",
      "r.yaml:2: EpochRangeModifier ends (3) before it starts (4)" },
    { "modifiers:\n  - {end_epoch: 3}\n", "r.yaml:2: every modifier of a list has a tag: `- !EpochRangeModifier`" },
    { "x: 1\n", "r.yaml:1: the recipe has no modifiers" },
    { "- 1\n", "r.yaml:1: a recipe is keys and values, not a list" },
    { "modifiers:\n  - !EpochRangeModifier {start_epoch: 0, end_epoch: eval(__import__('os').system('true'))}\n",
      "r.yaml:2: " },
    { "modifiers:\n  - !EpochRangeModifier {start_epoch: 0, end_epoch: eval(1/0)}\n",
      "r.yaml:2: '1/0' has no finite value" },
    { "modifiers:\n  - !EpochRangeModifier {start_epoch: 0, end_epoch: 3}\n  - !QuantizationModifier {start_epoch: 1, "
      "weight_bits: 4}\n",
      "r.yaml:3: 8 bits for weights and activations, not 4 and 8" },
    { "modifiers:\n  - !EpochRangeModifier {start_epoch: 0, end_epoch: 3}\n  - !GMPruningModifier {start_epoch: 0, "
      "end_epoch: 2, params: x, final_sparsity: 0.9, mask_type: [2, 2]}\n",
      "r.yaml:3: masks are unstructured, block4 or [1, 4] (input channels), [4, 1] or [2, 1] (output channels)" },
};

Test(recipe, complaints_name_file_and_line)
{
    for (size_t i = 0; i < WN_COUNT(bad); i++) {
        struct wn_recipe *r = NULL;
        struct winnow_err err = { 0 };
        enum winnow_status status = wn_recipe_parse(bad[i].text, strlen(bad[i].text), "r.yaml", &r, &err);
        cr_assert(status != WINNOW_OK, "case %zu was accepted", i);
        cr_expect(strncmp(err.msg, bad[i].message, strlen(bad[i].message)) == 0, "case %zu says: %s", i, err.msg);
    }
}

Test(eval, arithmetic_only)
{
    double v;
    struct winnow_err err;
    const struct wn_eval_var vars[] = { { "n", 3 } };
    cr_assert(wn_eval("2 * (n + 1) ^ 2", vars, 1, &v, &err) == WINNOW_OK && v == 32);
    cr_assert(wn_eval("n >= 3", vars, 1, &v, &err) == WINNOW_OK && v == 1);
    cr_assert(wn_eval("n = 4", vars, 1, &v, &err) != WINNOW_OK);
    cr_assert(wn_eval("m + 1", vars, 1, &v, &err) != WINNOW_OK);
    cr_assert(wn_eval("\"a\"", vars, 1, &v, &err) != WINNOW_OK);
    cr_assert(wn_eval("1/0", vars, 1, &v, &err) != WINNOW_OK);
    cr_assert(wn_eval("", vars, 1, &v, &err) != WINNOW_OK);
    char deep[600];
    memset(deep, '(', 500);
    strcpy(deep + 500, "1");
    cr_assert(wn_eval(deep, vars, 1, &v, &err) != WINNOW_OK);
}

Test(curve, ends_and_middles)
{
    cr_assert_float_eq(wn_curve_at(WN_CURVE_CUBIC, 0, 1, 0.5, 3), 0.875, 1e-12);
    cr_assert_float_eq(wn_curve_at(WN_CURVE_INVERSE_CUBIC, 0, 1, 0.875, 3), 0.5, 1e-12);
    cr_assert_float_eq(wn_curve_at(WN_CURVE_COSINE, 1, 0, 0.5, 1), 0.5, 1e-12);
    cr_assert_float_eq(wn_curve_at(WN_CURVE_POLYNOMIAL, 0, 1, 0.5, 2), 0.75, 1e-12);
    for (enum wn_curve c = WN_CURVE_LINEAR; c <= WN_CURVE_CYCLIC_LINEAR; c++) {
        cr_assert_float_eq(wn_curve_at(c, 2, 5, -1, 2), 2, 1e-12);
        cr_assert_float_eq(wn_curve_at(c, 2, 5, 9, 2), 5, 1e-12);
    }
}
