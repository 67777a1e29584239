/* fuzz_recipe.c: any bytes as a recipe: parsed, and its curves asked for. */
#include <stddef.h>
#include <stdint.h>
#include "sparsify/recipe/recipe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wn_recipe *r;
    struct winnow_err err;
    if (wn_recipe_parse(data, size, "recipe.yaml", &r, &err) != WINNOW_OK)
        return 0;
    double sum = 0;
    for (int i = 0; i <= 20; i++) {
        double t = wn_recipe_epochs(r) * i / 20;
        sum += wn_recipe_lr_at(r, t) + wn_recipe_sparsity_at(r, t);
    }
    (void)sum;
    wn_recipe_free(r);
    return 0;
}
