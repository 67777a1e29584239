/* quant.c: quantization-aware training from a given epoch on.  Source: SparseML's
 * QuantizationModifier. */
#include <stdlib.h>
#include <string.h>
#include "sparsify/modifiers/modifiers.h"

struct quant {
    struct wn_mod_common common;
    double observers_off, freeze_bn, calibration, activation_bits, weight_bits;
    struct wn_names submodules, ignore, exclude, custom;
    bool reduce_range, avx2_safe, tables, products, gelu, sums, norms;
    const struct wn_yaml_node *scheme, *overrides;
};

struct quant_state { /* in checkpoints */
    int enabled, observers_off;
};

struct mod {
    struct wn_modifier mod;
    struct quant p;
    char **ignore; /* layers that stay f32 */
    unsigned n_ignore;
    struct quant_state state;
};

static void defaults(void *params)
{
    *(struct quant *)params = (struct quant){
        .observers_off = -1, .freeze_bn = -1, .calibration = 8, .activation_bits = 8, .weight_bits = 8, .tables = true
    };
}

/* The flag that a type of custom_quantizable_module_types sets, or NULL. */
static bool *of_type(struct quant *p, const char *type)
{
    const struct {
        const char *name;
        bool *flag;
    } types[] = { { "QATMatMul", &p->products },
                  { "GELU", &p->gelu },
                  { "GELUActivation", &p->gelu }, /* its class in encoders that are published */
                  { "Add", &p->sums },
                  { "LayerNorm", &p->norms } };
    for (size_t i = 0; i < WN_COUNT(types); i++)
        if (strcmp(type, types[i].name) == 0)
            return types[i].flag;
    return NULL;
}

static enum winnow_status check(struct wn_mod_read *read, const struct wn_yaml_node *node, void *params)
{
    struct quant *p = params;
    if (p->activation_bits != 8 || p->weight_bits != 8)
        return wn_yaml_fail(read->doc, node, read->err, WINNOW_E_UNSUPPORTED,
                            "8 bits for weights and activations, not %g and %g", p->weight_bits, p->activation_bits);
    if (!(p->calibration >= 1 && p->calibration <= 100000))
        return wn_yaml_fail(read->doc, node, read->err, WINNOW_E_MALFORMED, "num_calibration_steps is 1 or more");
    if (p->scheme && p->scheme->kind != WN_YAML_STRING && p->scheme->kind != WN_YAML_NULL)
        return wn_yaml_fail(read->doc, p->scheme, read->err, WINNOW_E_UNSUPPORTED,
                            "schemes are default, deepsparse or tensorrt");
    for (size_t i = 0; i < p->custom.n; i++) {
        bool *wanted = of_type(p, p->custom.at[i]);
        if (!wanted)
            return wn_yaml_fail(read->doc, node, read->err, WINNOW_E_UNSUPPORTED,
                                "custom_quantizable_module_types: QATMatMul (attention's products), GELU, Add (sums with "
                                "residuals), LayerNorm; not '%.40s'",
                                p->custom.at[i]);
        *wanted = true;
    }
    for (size_t i = 0; i < p->exclude.n; i++) {
        bool *excluded = of_type(p, p->exclude.at[i]);
        if (excluded)
            *excluded = false;
    }
    if (p->overrides && p->overrides->n)
        return wn_yaml_fail(read->doc, p->overrides, read->err, WINNOW_E_UNSUPPORTED,
                            "scheme_overrides: one scheme for all layers, and `ignore`");
    if (p->common.has_end)
        return wn_yaml_fail(read->doc, node, read->err, WINNOW_E_UNSUPPORTED,
                            "quantization is never undone: no end_epoch");
    if (p->observers_off >= 0)
        p->observers_off += read->offset;
    return WINNOW_OK;
}

static enum winnow_status enable(struct mod *m, struct wn_trainer *tr, struct winnow_err *err)
{
    bool narrow = m->p.reduce_range || m->p.avx2_safe;
    struct wn_quant_opts opts = { .weight_max = narrow ? 64 : 127,
                                  .observer_average = 0.01f,
                                  .ignore = (const char *const *)m->ignore,
                                  .n_ignore = m->n_ignore,
                                  .tables = m->p.tables,
                                  .products = m->p.products,
                                  .gelu = m->p.gelu,
                                  .sums = m->p.sums,
                                  .norms = m->p.norms };
    WN_TRY(wn_trainer_quant_enable(tr, &opts, err));
    WN_TRY(wn_trainer_quant_calibrate(tr, (unsigned)m->p.calibration, err));
    m->state.enabled = 1;
    return WINNOW_OK;
}

/* Observers stop at the given epoch, or half-way through what is left of training. */
static double observers_off_at(const struct mod *m, const struct wn_train_time *now)
{
    return m->p.observers_off >= 0 ? m->p.observers_off : (m->p.common.start + now->epochs) / 2;
}

static enum winnow_status before_step(struct wn_modifier *mod, struct wn_trainer *tr, const struct wn_train_time *now,
                                      struct winnow_err *err)
{
    struct mod *m = (struct mod *)mod;
    if (now->t < m->p.common.start - 1e-9)
        return WINNOW_OK;
    if (!m->state.enabled)
        WN_TRY(enable(m, tr, err));
    if (!m->state.observers_off && now->t >= observers_off_at(m, now)) {
        wn_trainer_quant_observe(tr, false);
        m->state.observers_off = 1;
    }
    return WINNOW_OK;
}

/* A start at the very end of training: post-training quantization. */
static enum winnow_status on_end(struct wn_modifier *mod, struct wn_trainer *tr, const struct wn_train_time *now,
                                 struct winnow_err *err)
{
    struct mod *m = (struct mod *)mod;
    return m->state.enabled ? WINNOW_OK : enable(m, tr, err);
}

static void mod_free(struct wn_modifier *mod)
{
    struct mod *m = (struct mod *)mod;
    for (unsigned i = 0; i < m->n_ignore; i++)
        free(m->ignore[i]);
    free(m->ignore);
    free(m);
}

static const struct wn_modifier_ops ops = {
    .name = "QuantizationModifier", .before_step = before_step, .on_end = on_end, .free = mod_free
};

static bool add_ignore(struct mod *m, const char *layer)
{
    for (unsigned i = 0; i < m->n_ignore; i++)
        if (strcmp(m->ignore[i], layer) == 0)
            return true;
    m->ignore[m->n_ignore] = wn_strdup(layer);
    return m->ignore[m->n_ignore] && ++m->n_ignore;
}

static bool is_layer(const struct wn_param *p)
{
    return p->kind == WN_PARAM_WEIGHT &&
           (p->cls == WN_LAYER_CONV || p->cls == WN_LAYER_LINEAR || p->cls == WN_LAYER_EMBEDDING);
}

/* True for "name" itself and everything below it ("layer1" holds "layer1.0.conv1"). */
static bool inside(const char *layer, const char *name)
{
    size_t n = strlen(name);
    return strncmp(layer, name, n) == 0 && (layer[n] == '\0' || layer[n] == '.');
}

/* A class of PyTorch's that recipes exclude. Those that never are quantized here (LayerNorm, Tanh, GELU, …) match none.
 */
static bool of_class(const struct wn_param *p, const char *name)
{
    return (p->cls == WN_LAYER_LINEAR && strcmp(name, "Linear") == 0) ||
           (p->cls == WN_LAYER_CONV && strcmp(name, "Conv2d") == 0) ||
           (p->cls == WN_LAYER_EMBEDDING && strcmp(name, "Embedding") == 0);
}

/* Layers named by `ignore` or whose class is excluded, and those outside every one of `submodules`. */
static enum winnow_status find_ignored(struct mod *m, const struct quant *p, struct wn_trainer *tr,
                                       struct winnow_err *err)
{
    unsigned n = wn_trainer_n_params(tr);
    m->ignore = calloc(n + 1u, sizeof *m->ignore);
    if (!m->ignore)
        return wn_fail(err, WINNOW_E_NOMEM, "modifier");
    if (p->ignore.n) {
        WN_CLEANUP(wn_freep) struct wn_param **hit = NULL;
        size_t n_hit;
        WN_TRY(wn_select(tr, &p->ignore, "Quantization", &hit, &n_hit, err));
        for (size_t i = 0; i < n_hit; i++)
            if (is_layer(hit[i]) && !add_ignore(m, hit[i]->layer))
                return wn_fail(err, WINNOW_E_NOMEM, "modifier");
    }
    for (unsigned i = 0; i < n; i++)
        for (size_t k = 0; k < p->exclude.n; k++) {
            const struct wn_param *q = wn_trainer_param(tr, i);
            if (is_layer(q) && of_class(q, p->exclude.at[k]) && !add_ignore(m, q->layer))
                return wn_fail(err, WINNOW_E_NOMEM, "modifier");
        }
    for (size_t k = 0; k < p->submodules.n; k++) {
        bool any = false;
        for (unsigned i = 0; i < n; i++)
            any = any || inside(wn_trainer_param(tr, i)->layer, p->submodules.at[k]);
        if (!any)
            return wn_fail(err, WINNOW_E_NOT_FOUND, "QuantizationModifier: no layer '%.80s'", p->submodules.at[k]);
    }
    for (unsigned i = 0; i < n && p->submodules.n; i++) {
        const struct wn_param *q = wn_trainer_param(tr, i);
        bool in = false;
        for (size_t k = 0; k < p->submodules.n; k++)
            in = in || inside(q->layer, p->submodules.at[k]);
        if (!in && is_layer(q) && !add_ignore(m, q->layer))
            return wn_fail(err, WINNOW_E_NOMEM, "modifier");
    }
    return WINNOW_OK;
}

static enum winnow_status add(const void *params, struct wn_trainer *tr, struct winnow_err *err)
{
    struct mod *m = calloc(1, sizeof *m);
    if (!m)
        return wn_fail(err, WINNOW_E_NOMEM, "modifier");
    m->mod = (struct wn_modifier){ &ops, &m->state, sizeof m->state };
    m->p = *(const struct quant *)params;
    enum winnow_status status = find_ignored(m, params, tr, err);
    if (status != WINNOW_OK) {
        mod_free(&m->mod);
        return status;
    }
    return wn_trainer_add_modifier(tr, &m->mod, err);
}

static const struct wn_field fields[] = {
    WN_MOD_TIME_FIELDS(struct quant),
    { "submodules", WN_FIELD_NAMES, offsetof(struct quant, submodules) },
    { "ignore", WN_FIELD_NAMES, offsetof(struct quant, ignore) },
    { "disable_quantization_observer_epoch", WN_FIELD_NUM, offsetof(struct quant, observers_off) },
    { "freeze_bn_stats_epoch", WN_FIELD_NUM, offsetof(struct quant, freeze_bn) },
    { "num_calibration_steps", WN_FIELD_NUM, offsetof(struct quant, calibration) },
    { "reduce_range", WN_FIELD_BOOL, offsetof(struct quant, reduce_range) },
    { "avx2_safe", WN_FIELD_BOOL, offsetof(struct quant, avx2_safe) },
    { "activation_bits", WN_FIELD_NUM, offsetof(struct quant, activation_bits) },
    { "weight_bits", WN_FIELD_NUM, offsetof(struct quant, weight_bits) },
    { "scheme", WN_FIELD_NODE, offsetof(struct quant, scheme) },
    { "scheme_overrides", WN_FIELD_NODE, offsetof(struct quant, overrides) },
    { "exclude_module_types", WN_FIELD_NAMES, offsetof(struct quant, exclude) },
    { "custom_quantizable_module_types", WN_FIELD_NAMES, offsetof(struct quant, custom) },
    { "quantize_embeddings", WN_FIELD_BOOL, offsetof(struct quant, tables) },
    { "quantize_embedding_activations", WN_FIELD_NONE, 0 },
    { "tensorrt", WN_FIELD_NONE, 0 },
    { "model_fuse_fn_name", WN_FIELD_NONE, 0 },
    { "model_fuse_fn_kwargs", WN_FIELD_NONE, 0 },
    { "quantize_linear_activations", WN_FIELD_NONE, 0 },
    { "quantize_conv_activations", WN_FIELD_NONE, 0 },
    { "exclude_batchnorm", WN_FIELD_NONE, 0 },
    { "strict", WN_FIELD_NONE, 0 },
};
const struct wn_mod_kind wn_mod_Quantization = { .name = "Quantization",
                                                 .bytes = sizeof(struct quant),
                                                 .fields = fields,
                                                 .n_fields = WN_COUNT(fields),
                                                 .defaults = defaults,
                                                 .check = check,
                                                 .add = add };
