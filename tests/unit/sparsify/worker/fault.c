/* fault.c: a late complaint finds its line. */
#include "sparsify/worker/fault.h"

#include <criterion/criterion.h>
#include <stdio.h>

static const char text[] = "modifiers:\n  - !EpochRangeModifier {end_epoch: 1}\n"
                           "  - !ConstantPruningModifier {params: [conv9.weight]}\n";

static void expect(const char *msg, const char *want)
{
    struct winnow_err err = { .status = WINNOW_E_NOT_FOUND };
    snprintf(err.msg, sizeof err.msg, "%s", msg);
    wn_recipe_fault("recipe.yaml", text, &err);
    cr_assert_str_eq(err.msg, want);
}

Test(fault, lines)
{
    expect("ConstantPruningModifier: 'conv9.weight' matches nothing",
           "recipe.yaml:3: ConstantPruningModifier: 'conv9.weight' matches nothing");
    expect("EpochRangeModifier: what", "recipe.yaml:2: EpochRangeModifier: what");
    expect("out of memory", "recipe.yaml:1: out of memory");
    expect("recipe.yaml:7: bad", "recipe.yaml:7: bad");
}
