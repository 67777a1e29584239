/* teach.c: distillation against its formula, and encoders quantized while they train: what is exported is computed
 * alike by the engine. */
#include <unistd.h>
#include "engine/graph/onnx.h"
#include "sparsify/export/export.h"
#include "sparsify/recipe/recipe.h"
#include "tests/grad/encoder.h"
#include "winnow/winnow.h"

/* ---- distillation ---- */

enum { MOST = 64 };

/** Looks at the loss and its gradient before and after the modifiers between two of these. */
struct look {
    struct wn_modifier mod;
    float loss, logits[MOST], d[MOST], taught[MOST];
    bool teach;
};

static enum winnow_status look(struct wn_modifier *m, struct wn_trainer *tr, const float *logits, float *dlogits,
                               const uint32_t *sample, float *loss, struct winnow_err *err)
{
    (void)sample;
    struct look *k = (struct look *)m;
    const float *taught;
    k->loss = *loss;
    memcpy(k->logits, logits, B * CLASSES * sizeof *logits);
    memcpy(k->d, dlogits, B * CLASSES * sizeof *logits);
    if (k->teach) {
        WN_TRY(wn_trainer_teach(tr, &taught, err));
        memcpy(k->taught, taught, B * CLASSES * sizeof *taught);
    }
    return WINNOW_OK;
}
static const struct wn_modifier_ops look_ops = { .name = "look", .after_loss = look };

static double kl(const double *s, const float *t, double T)
{
    double sum = 0;
    for (int r = 0; r < B; r++) {
        double zs = 0, zt = 0;
        for (int c = 0; c < CLASSES; c++) {
            zs += exp(s[r * CLASSES + c] / T);
            zt += exp((double)t[r * CLASSES + c] / T);
        }
        for (int c = 0; c < CLASSES; c++) {
            double lt = (double)t[r * CLASSES + c] / T - log(zt), ls = s[r * CLASSES + c] / T - log(zs);
            sum += exp(lt) * (lt - ls) / B;
        }
    }
    return sum;
}

static struct wn_recipe *recipe(const char *text)
{
    struct winnow_err err;
    struct wn_recipe *r = NULL;
    must(wn_recipe_parse(text, strlen(text), "recipe.yaml", &r, &err), &err);
    return r;
}

static void shake(struct wn_trainer *tr)
{
    for (unsigned i = 0; i < wn_trainer_n_params(tr); i++)
        for (size_t k = 0; k < wn_trainer_param(tr, i)->n; k++)
            wn_trainer_param(tr, i)->w[k] += 0.2f * rnd();
}

static bool first_and_last(void *arg, struct wn_trainer *tr, const struct wn_train_progress *p)
{
    (void)tr;
    float *loss = arg;
    loss[p->time.step > 0] = p->loss;
    return true;
}

static void distillation(void)
{
    struct net n;
    struct winnow_err err;
    struct tokens s;
    build_encoder(&n);
    tokens_init(&s, 2 * B, 3, L);
    struct wn_train_opts o = { .batch = B };
    struct wn_trainer *tr = trainer(&n.b, &o);
    shake(tr);
    must(wn_trainer_set_teacher(tr, &n.b.g, &err), &err);
    struct wn_recipe *r =
        recipe("modifiers:\n"
               "  - !EpochRangeModifier {start_epoch: 0, end_epoch: 1}\n"
               "  - !DistillationModifier {hardness: 0.7, temperature: 2.5, distill_output_keys: [logits]}\n");
    struct look before = { .mod.ops = &look_ops, .teach = true }, after = { .mod.ops = &look_ops };
    must(wn_trainer_add_modifier(tr, &before.mod, &err), &err);
    must(wn_recipe_apply(r, tr, &err), &err);
    must(wn_trainer_add_modifier(tr, &after.mod, &err), &err);
    struct wn_fit_opts fit = { .epochs = 0.5 };
    must(wn_trainer_fit(tr, &s.d, &fit, &err), &err);
    double z[MOST], T = 2.5, h = 0.7, worst = 0, size = 0;
    for (int i = 0; i < B * CLASSES; i++)
        z[i] = (double)before.logits[i];
    check("distillation: the loss",
          fabs((double)after.loss - ((1 - h) * (double)before.loss + h * T * T * kl(z, before.taught, T))), 1e-5);
    for (int i = 0; i < B * CLASSES; i++) {
        const double step = 1e-4;
        z[i] += step;
        double hi = kl(z, before.taught, T);
        z[i] -= 2 * step;
        double lo = kl(z, before.taught, T);
        z[i] += step;
        double want = (1 - h) * (double)before.d[i] + h * T * T * (hi - lo) / (2 * step);
        worst = fmax(worst, fabs((double)after.d[i] - want));
        size = fmax(size, fabs(want));
    }
    check("distillation: its gradient", worst / size, 1e-4);
    wn_recipe_free(r);
    wn_trainer_free(tr);
    /* a student that learns from its teacher alone comes to agree with it */
    tr = trainer(&n.b, &o);
    shake(tr);
    shake(tr);
    must(wn_trainer_set_teacher(tr, &n.b.g, &err), &err);
    r = recipe("modifiers:\n"
               "  - !EpochRangeModifier {start_epoch: 0, end_epoch: 60}\n"
               "  - !SetLearningRateModifier {start_epoch: 0, learning_rate: 0.05}\n"
               "  - !DistillationModifier {hardness: 1.0, temperature: 2.0}\n");
    must(wn_recipe_apply(r, tr, &err), &err);
    float loss[2] = { 0, 0 }; /* of the first step and the last: T^2 KL alone */
    fit = (struct wn_fit_opts){ .epochs = 60, .on_step = first_and_last, .arg = loss };
    must(wn_trainer_fit(tr, &s.d, &fit, &err), &err); /* labels are random: they are not what is learned */
    check("distillation: hardness 1 comes close to the teacher, not to the labels", (double)(loss[1] / loss[0]), 0.2);
    fit.on_step = NULL;
    wn_trainer_free(tr);
    /* no teacher, or one with other classes */
    tr = trainer(&n.b, &o);
    must(wn_recipe_apply(r, tr, &err), &err);
    check_true("distillation: without a teacher it says so",
               wn_trainer_fit(tr, &s.d, &fit, &err) == WINNOW_E_MALFORMED && strstr(err.msg, "teacher"));
    wn_trainer_free(tr);
    tr = trainer(&n.b, &o);
    must(wn_trainer_replace_head(tr, 7, &err), &err);
    must(wn_trainer_set_teacher(tr, &n.b.g, &err), &err);
    must(wn_recipe_apply(r, tr, &err), &err);
    check_true("distillation: a teacher with other classes is refused, both numbers said",
               wn_trainer_fit(tr, &s.d, &fit, &err) == WINNOW_E_MALFORMED && strstr(err.msg, "3 classes") &&
                   strstr(err.msg, "7"));
    wn_recipe_free(r);
    wn_trainer_free(tr);
    tokens_done(&s);
    build_done(&n.b);
}

/* ---- quantization ---- */

/** Mean cross entropy of the exported model in the serving engine; rows alone, so nothing is padded. */
static double engine_loss(const void *bytes, size_t n_bytes, const struct tokens *s, const uint32_t *want,
                          size_t *ret_same)
{
    struct winnow_err err;
    winnow_model *m;
    winnow_scratch *scratch;
    double loss = 0;
    must(winnow_model_load_memory(bytes, n_bytes, "exported", NULL, &m, &err), &err);
    must(winnow_scratch_new(m, NULL, &scratch, &err), &err);
    *ret_same = 0;
    for (size_t i = 0; i < s->d.n; i++) {
        int64_t len = (int64_t)(s->start[i + 1] - s->start[i]);
        struct winnow_tensor x[2] = { 0 }, y[1] = { 0 };
        for (int k = 0; k < 2; k++)
            x[k] = (struct winnow_tensor){ .dtype = WINNOW_I64,
                                           .rank = 2,
                                           .shape = { 1, len },
                                           .data = s->id[k] + s->start[i],
                                           .bytes = (size_t)len * sizeof(int64_t) };
        must(winnow_run(m, scratch, x, 2, y, 1, &err), &err);
        const float *z = y[0].data;
        double sum = 0;
        uint32_t best = 0;
        for (uint32_t c = 0; c < CLASSES; c++) {
            sum += exp((double)z[c]);
            best = z[c] > z[best] ? c : best;
        }
        loss += (log(sum) - (double)z[s->label[i]]) / (double)s->d.n;
        *ret_same += best == want[i];
    }
    winnow_scratch_free(scratch);
    winnow_model_unref(m);
    return loss;
}

/* The serving model as a file's bytes. */
static void *export_bytes(struct wn_trainer *tr, size_t *ret_n)
{
    struct winnow_err err;
    struct wn_arena arena;
    struct wn_graph g;
    void *bytes;
    wn_arena_init(&arena, 0);
    must(wn_export_model(tr, "digest", &arena, &g, &err), &err);
    must(wn_onnx_write(&g, &bytes, ret_n, &err), &err);
    wn_graph_done(&g);
    wn_arena_done(&arena);
    return bytes;
}

static unsigned nodes_of(const void *bytes, size_t n, const char *type)
{
    struct winnow_err err;
    struct wn_arena arena = { 0 };
    struct wn_graph g;
    unsigned count = 0;
    must(wn_onnx_read(bytes, n, NULL, &arena, &g, &err), &err);
    for (size_t i = 0; i < g.nodes.n; i++)
        count += wn_node_is(&g.nodes.at[i], type);
    wn_graph_done(&g);
    wn_arena_done(&arena);
    return count;
}

/* types: custom_quantizable_module_types; what: their name in messages; pairs: of QuantizeLinear in the exported graph */
static void quantized(const char *types, const char *what, bool tables, unsigned pairs)
{
    struct net n;
    struct winnow_err err;
    struct tokens s;
    char line[96], text[600];
    build_encoder(&n);
    tokens_init(&s, 64, 2, L);
    struct wn_train_opts o = { .batch = 16, .optimizer = WN_OPT_ADAMW };
    struct wn_trainer *tr = trainer(&n.b, &o);
    snprintf(text, sizeof text,
             "modifiers:\n"
             "  - !EpochRangeModifier {start_epoch: 0, end_epoch: 6}\n"
             "  - !SetLearningRateModifier {start_epoch: 0, learning_rate: 0.003}\n"
             "  - !GMPruningModifier {start_epoch: 0, end_epoch: 2, update_frequency: 0.5, init_sparsity: 0.2,\n"
             "      final_sparsity: 0.5, params: [__ALL_PRUNABLE__]}\n"
             "  - !QuantizationModifier {start_epoch: 3, disable_quantization_observer_epoch: 5,\n"
             "      quantize_embeddings: %d, custom_quantizable_module_types: [%s]}\n",
             tables, types);
    struct wn_recipe *r = recipe(text);
    must(wn_recipe_apply(r, tr, &err), &err);
    wn_recipe_free(r);
    struct wn_fit_opts fit = { .epochs = 6 };
    must(wn_trainer_fit(tr, &s.d, &fit, &err), &err);
    struct wn_train_score score, plain;
    uint32_t best[64];
    must(wn_trainer_evaluate(tr, &s.d, &score, best, &err), &err);
    size_t size, same;
    void *bytes = export_bytes(tr, &size);
    double loss = engine_loss(bytes, size, &s, best, &same);
    snprintf(line, sizeof line, "QAT of an encoder, %s: loss in the engine", what);
    check(line, fabs(loss - score.loss), 2e-3);
    snprintf(line, sizeof line, "QAT of an encoder, %s: the same classes, %zu of 64", what, same);
    check_true(line, same >= 63);
    snprintf(line, sizeof line, "QAT of an encoder, %s: %u quantized values", what,
             nodes_of(bytes, size, "QuantizeLinear"));
    check_true(line, nodes_of(bytes, size, "QuantizeLinear") == pairs);
    wn_trainer_quant_simulate(tr, false);
    must(wn_trainer_evaluate(tr, &s.d, &plain, NULL, &err), &err);
    snprintf(line, sizeof line, "QAT of an encoder, %s: rounding shows", what);
    check_true(line, fabs(plain.loss - score.loss) > 1e-6);
    free(bytes);
    wn_trainer_free(tr);
    tokens_done(&s);
    build_done(&n.b);
}

/** A new label set on the encoder's last layer. */
static void new_head(void)
{
    struct net n;
    struct winnow_err err;
    struct tokens s;
    build_encoder(&n);
    tokens_init(&s, 32, 2, L);
    for (size_t i = 0; i < 32; i++)
        s.label[i] = (uint32_t)(s.id[0][s.start[i]] % 7);
    struct wn_train_opts o = { .batch = 16, .optimizer = WN_OPT_ADAMW };
    struct wn_trainer *tr = trainer(&n.b, &o);
    check_true("encoder's head: labels past the old ones are refused",
               wn_trainer_bind_data(tr, &s.d, &err) == WINNOW_E_MALFORMED);
    must(wn_trainer_replace_head(tr, 7, &err), &err);
    must(wn_trainer_bind_data(tr, &s.d, &err), &err);
    wn_trainer_set_lr(tr, 0.02f);
    struct wn_fit_opts fit = { .epochs = 60 };
    must(wn_trainer_fit(tr, &s.d, &fit, &err), &err);
    struct wn_train_score score;
    must(wn_trainer_evaluate(tr, &s.d, &score, NULL, &err), &err);
    check_true("encoder's head: seven new classes are learned", wn_trainer_n_classes(tr) == 7 && score.accuracy > 0.9);
    size_t size;
    void *bytes = export_bytes(tr, &size);
    check_true("encoder's head: the exported graph is a plain f32 one",
               nodes_of(bytes, size, "QuantizeLinear") == 0 && nodes_of(bytes, size, "Softmax") == 1);
    free(bytes);
    wn_trainer_free(tr);
    tokens_done(&s);
    build_done(&n.b);
}

/* ---- stop and go on ---- */

static bool stop_at(void *arg, struct wn_trainer *tr, const struct wn_train_progress *p)
{
    (void)tr;
    return p->time.step + 1 != *(const uint64_t *)arg;
}

static struct wn_trainer *prepared(const struct net *n, const struct tokens *s)
{
    struct winnow_err err;
    struct wn_train_opts o = { .batch = 8, .threads = 2, .optimizer = WN_OPT_ADAMW, .clip_norm = 0.5f };
    struct wn_trainer *tr = trainer(&n->b, &o);
    must(wn_trainer_set_teacher(tr, &n->b.g, &err), &err);
    struct wn_recipe *r =
        recipe("modifiers:\n"
               "  - !EpochRangeModifier {start_epoch: 0, end_epoch: 6}\n"
               "  - !LearningRateFunctionModifier {start_epoch: 0, end_epoch: 6, lr_func: cyclic_linear,\n"
               "      cycle_epochs: 2, init_lr: 0.01, final_lr: 0.001}\n"
               "  - !SetWeightDecayModifier {start_epoch: 0, weight_decay: 0.05}\n"
               "  - !DistillationModifier {hardness: 0.4, temperature: 2}\n"
               "  - !GMPruningModifier {start_epoch: 0, end_epoch: 3, update_frequency: 0.3, init_sparsity: 0.2,\n"
               "      final_sparsity: 0.9, params: [__ALL_PRUNABLE__]}\n"
               "  - !QuantizationModifier {start_epoch: 4, disable_quantization_observer_epoch: 5}\n");
    must(wn_recipe_apply(r, tr, &err), &err);
    wn_recipe_free(r);
    must(wn_trainer_bind_data(tr, &s->d, &err), &err);
    return tr;
}

/** Lengths that change, masks, a teacher, moments and observers: a stopped run goes on as if it had not been. */
static void stopped(uint64_t at)
{
    struct net n;
    struct winnow_err err;
    struct tokens s;
    char path[] = "/tmp/wn-encoder-XXXXXX", line[96];
    const struct wn_train_ids ids = { .recipe = { 1 }, .model = { 2 }, .data = { 3 } };
    int fd = mkstemp(path);
    build_encoder(&n);
    tokens_init(&s, 44, 1, 40);
    struct wn_trainer *whole = prepared(&n, &s), *first = prepared(&n, &s), *second = prepared(&n, &s);
    struct wn_fit_opts fit = { .epochs = 6 }, part = { .epochs = 6, .on_step = stop_at, .arg = &at };
    must(wn_trainer_fit(whole, &s.d, &fit, &err), &err);
    bool cancelled = wn_trainer_fit(first, &s.d, &part, &err) == WINNOW_E_CANCELLED;
    must(wn_trainer_checkpoint(first, path, &ids, &err), &err);
    must(wn_trainer_restore(second, path, &ids, &err), &err);
    must(wn_trainer_fit(second, &s.d, &fit, &err), &err);
    bool same = cancelled && wn_trainer_n_params(whole) == wn_trainer_n_params(second);
    for (unsigned i = 0; i < wn_trainer_n_params(whole) && same; i++) {
        const struct wn_param *p = wn_trainer_param(whole, i), *q = wn_trainer_find_param(second, p->name);
        same = q && memcmp(p->w, q->w, p->n * sizeof *p->w) == 0 && memcmp(p->v2, q->v2, p->n * sizeof *p->v2) == 0;
    }
    snprintf(line, sizeof line, "encoder: stopped after step %u, resumed: the same bits", (unsigned)at);
    check_true(line, same);
    if (fd >= 0)
        close(fd);
    unlink(path);
    wn_trainer_free(whole);
    wn_trainer_free(first);
    wn_trainer_free(second);
    tokens_done(&s);
    build_done(&n.b);
}

void test_teach(void)
{
    distillation();
    quantized("", "linear layers", false, 5); /* query, key and value read one; out, up, down, classifier */
    quantized("", "with embeddings", true, 5);
    quantized("QATMatMul", "with attention's products", true, 9);
    quantized("GELU, Add, LayerNorm], exclude_module_types: [GELU, LayerNorm", "types of which two are excluded", true, 7);
    quantized("QATMatMul, GELU, Add, LayerNorm", "all types", true, 14); /* GELU, two sums, what layers give to them */
    new_head();
    stopped(7);
    stopped(23);
}
