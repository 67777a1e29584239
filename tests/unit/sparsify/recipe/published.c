/* recipes for encoders that were published for SparseML, in their shapes and with their numbers: they load as they are,
 * or are refused at the line of what is not known here. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>
#include "sparsify/recipe/recipe.h"

static enum winnow_status parse(const char *text, struct wn_recipe **r, struct winnow_err *err)
{
    return wn_recipe_parse(text, strlen(text), "text.yaml", r, err);
}

static struct wn_recipe *loads(const char *text)
{
    struct wn_recipe *r = NULL;
    struct winnow_err err;
    cr_assert(parse(text, &r, &err) == WINNOW_OK, "%s", err.msg);
    return r;
}

static void refused(const char *text, const char *where, const char *what)
{
    struct wn_recipe *r = NULL;
    struct winnow_err err = { 0 };
    enum winnow_status status = parse(text, &r, &err);
    cr_assert(status == WINNOW_E_UNSUPPORTED || status == WINNOW_E_MALFORMED);
    cr_assert(strstr(err.msg, where) && strstr(err.msg, what), "%s", err.msg);
}

/* Sparse transfer of a 90 % pruned BERT to two classes: 13 epochs, masks kept, QAT from 8 on, all from the teacher. */
Test(published, sparse_transfer_with_quantization)
{
    struct wn_recipe *r = loads("version: 1.1.0\n"
                                "num_epochs: 13\n"
                                "init_lr: 1.5e-4\n"
                                "final_lr: 0\n"
                                "weight_decay: 0.01\n"
                                "qat_start_epoch: 8.0\n"
                                "observer_epoch: 12.0\n"
                                "quantize_embeddings: 1\n"
                                "distill_hardness: 1.0\n"
                                "distill_temperature: 2.0\n"
                                "modifiers:\n"
                                "  - !EpochRangeModifier\n"
                                "      end_epoch: eval(num_epochs)\n"
                                "      start_epoch: 0.0\n"
                                "  - !LearningRateFunctionModifier\n"
                                "      start_epoch: 0\n"
                                "      end_epoch: eval(num_epochs)\n"
                                "      lr_func: linear\n"
                                "      init_lr: eval(init_lr)\n"
                                "      final_lr: eval(final_lr)\n"
                                "quantization_modifiers:\n"
                                "  - !QuantizationModifier\n"
                                "      start_epoch: eval(qat_start_epoch)\n"
                                "      disable_quantization_observer_epoch: eval(observer_epoch)\n"
                                "      freeze_bn_stats_epoch: eval(observer_epoch)\n"
                                "      quantize_embeddings: eval(quantize_embeddings)\n"
                                "      quantize_linear_activations: 0\n"
                                "      exclude_module_types: ['LayerNorm', 'Tanh']\n"
                                "      submodules:\n"
                                "        - bert.embeddings\n"
                                "        - bert.encoder\n"
                                "        - bert.pooler\n"
                                "        - classifier\n"
                                "distillation_modifiers:\n"
                                "  - !DistillationModifier\n"
                                "      hardness: eval(distill_hardness)\n"
                                "      temperature: eval(distill_temperature)\n"
                                "      distill_output_keys: [logits]\n"
                                "constant_modifiers:\n"
                                "  - !ConstantPruningModifier\n"
                                "      start_epoch: 0.0\n"
                                "      params: __ALL_PRUNABLE__\n"
                                "regularization_modifiers:\n"
                                "  - !SetWeightDecayModifier\n"
                                "      start_epoch: 0.0\n"
                                "      weight_decay: eval(weight_decay)\n");
    cr_assert_float_eq(wn_recipe_epochs(r), 13, 1e-12);
    cr_assert(wn_recipe_quantizes(r) && wn_recipe_distils(r));
    cr_assert_float_eq(wn_recipe_lr_at(r, 6.5), 7.5e-5, 1e-9);
    wn_recipe_free(r);
}

/* Gradual pruning to 80 % in blocks of four beside a rate that starts again with every update of the masks. */
Test(published, gradual_pruning_with_restarts)
{
    struct wn_recipe *r =
        loads("modifiers:\n"
              "  - !EpochRangeModifier {end_epoch: 30, start_epoch: 0.0}\n"
              "training_modifiers:\n"
              "  - !LearningRateFunctionModifier {start_epoch: 0, end_epoch: 2, lr_func: linear, init_lr: 1e-4,\n"
              "      final_lr: 1e-6}\n"
              "  - !LearningRateFunctionModifier {start_epoch: 2, end_epoch: 26, lr_func: cyclic_linear,\n"
              "      cycle_epochs: 4.0, init_lr: 8e-5, final_lr: 8e-6}\n"
              "  - !LearningRateFunctionModifier {start_epoch: 26, end_epoch: 30, lr_func: linear, init_lr: 8e-5,\n"
              "      final_lr: 8e-6}\n"
              "pruning_modifiers:\n"
              "  - !GMPruningModifier\n"
              "      params:\n"
              "        - re:bert.encoder.layer.*.attention.self.query.weight\n"
              "        - re:bert.encoder.layer.*.attention.self.key.weight\n"
              "        - re:bert.encoder.layer.*.attention.self.value.weight\n"
              "        - re:bert.encoder.layer.*.attention.output.dense.weight\n"
              "        - re:bert.encoder.layer.*.intermediate.dense.weight\n"
              "        - re:bert.encoder.layer.*.output.dense.weight\n"
              "      init_sparsity: 0.7\n"
              "      final_sparsity: 0.8\n"
              "      start_epoch: 2\n"
              "      end_epoch: 26\n"
              "      update_frequency: 4.0\n"
              "      inter_func: cubic\n"
              "      global_sparsity: True\n"
              "      mask_type: [1, 4]\n"
              "      leave_enabled: True\n"
              "  - !TrainableParamsModifier {start_epoch: 0, end_epoch: -1, trainable: False,\n"
              "      params: ['re:bert.embeddings.*'], params_strict: False}\n"
              "distillation_modifiers:\n"
              "  - !DistillationModifier {hardness: 1.0, temperature: 5.5, distill_output_keys: [logits]}\n");
    cr_assert_float_eq(wn_recipe_epochs(r), 30, 1e-12);
    cr_assert_float_eq(wn_recipe_lr_at(r, 2), 8e-5, 1e-10);
    cr_assert_float_eq(wn_recipe_lr_at(r, 4), 4.4e-5, 1e-10, "half a cycle down");
    cr_assert_float_eq(wn_recipe_lr_at(r, 6), 8e-5, 1e-10, "and up again");
    cr_assert_float_eq(wn_recipe_sparsity_at(r, 2), 0.7, 1e-12);
    cr_assert_float_eq(wn_recipe_sparsity_at(r, 27), 0.8, 1e-12);
    wn_recipe_free(r);
}

/* The older quantized BERT: attention's products quantized, through their own module type. */
Test(published, quantized_products)
{
    struct wn_recipe *r =
        loads("modifiers:\n"
              "  - !EpochRangeModifier {end_epoch: 2, start_epoch: 0.0}\n"
              "  - !SetLearningRateModifier {start_epoch: 0, learning_rate: 2e-5}\n"
              "  - !QuantizationModifier {start_epoch: 0.0, disable_quantization_observer_epoch: 1.0,\n"
              "      quantize_embeddings: false, quantize_embedding_activations: false,\n"
              "      custom_quantizable_module_types: ['QATMatMul'], reduce_range: 0,\n"
              "      exclude_module_types: [LayerNorm], submodules: [bert.encoder]}\n");
    cr_assert(wn_recipe_quantizes(r) && !wn_recipe_distils(r));
    wn_recipe_free(r);
}

/* What is not known here is refused where it stands. */
Test(published, refused_by_line)
{
    refused("modifiers:\n"
            "  - !EpochRangeModifier {end_epoch: 3, start_epoch: 0.0}\n"
            "  - !QuantizationModifier\n"
            "      start_epoch: 1\n"
            "      custom_quantizable_module_types: [QATMatMul, GELU, Add, LayerNorm, Softmax]\n",
            "text.yaml:3:", "Softmax");
    refused("modifiers:\n"
            "  - !EpochRangeModifier {end_epoch: 30, start_epoch: 0.0}\n"
            "  - !OBSPruningModifier\n"
            "      params: ['re:bert.encoder.layer.*.output.dense.weight']\n"
            "      num_grads: 1024\n"
            "      damp: 1e-7\n"
            "      fisher_block_size: 50\n",
            "text.yaml:3:", "OBSPruning");
    refused("modifiers:\n"
            "  - !EpochRangeModifier {end_epoch: 30, start_epoch: 0.0}\n"
            "  - !MovementPruningModifier {start_epoch: 0, end_epoch: 10}\n",
            "text.yaml:3:", "MovementPruning");
    refused("modifiers:\n"
            "  - !LayerPruningModifier {layers: ['bert.encoder.layer.1']}\n",
            "text.yaml:2:", "LayerPruning");
    refused("modifiers:\n"
            "  - !EpochRangeModifier {end_epoch: 8, start_epoch: 0.0}\n"
            "  - !DistillationModifier\n"
            "      hardness: 1.0\n"
            "      temperature: 5.5\n"
            "      distill_output_keys: [start_logits, end_logits]\n",
            "text.yaml:6:", "distill_output_keys");
    refused("modifiers:\n"
            "  - !EpochRangeModifier {end_epoch: 8, start_epoch: 0.0}\n"
            "  - !DistillationModifier {hardness: 1.5}\n",
            "text.yaml:3:", "hardness");
    refused("modifiers:\n"
            "  - !EpochRangeModifier {end_epoch: 8, start_epoch: 0.0}\n"
            "  - !QuantizationModifier\n"
            "      start_epoch: 0\n"
            "      scheme_overrides:\n"
            "        Embedding: {weights: {num_bits: 4}}\n",
            "text.yaml:6:", "scheme_overrides");
    refused("modifiers:\n"
            "  - !EpochRangeModifier {end_epoch: 8, start_epoch: 0.0}\n"
            "  - !QuantizationModifier {start_epoch: 0, custom_quantizable_module_types: [QATLinear]}\n",
            "text.yaml:3:", "QATLinear");
}
