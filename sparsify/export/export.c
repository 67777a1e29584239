/* export.c: a trainer's state as the graph that is served. */
#include "sparsify/export/export.h"

#include <stdio.h>
#include <string.h>
#include "engine/ops/ops.h"
#include "engine/passes/passes.h"

static bool add_meta(struct wn_graph *g, const char *key, const char *value)
{
    struct wn_meta meta = { wn_arena_strndup(g->arena, key, strlen(key)),
                            wn_arena_strndup(g->arena, value, strlen(value)) };
    return meta.key && meta.value && wn_vec_push(&g->meta, meta);
}

/* Share of zeros over all weights that may be pruned. */
static double sparsity(struct wn_trainer *tr)
{
    double n = 0, kept = 0;
    for (unsigned i = 0; i < wn_trainer_n_params(tr); i++) {
        const struct wn_param *p = wn_trainer_param(tr, i);
        if (p->prunable) {
            n += (double)p->n;
            kept += (double)p->kept;
        }
    }
    return n > 0 ? 1 - kept / n : 0;
}

static enum winnow_status describe(struct wn_trainer *tr, struct wn_graph *g, const char *recipe_digest,
                                   struct winnow_err *err)
{
    char s[32];
    snprintf(s, sizeof s, "%.4f", sparsity(tr));
    g->producer = "winnow";
    if (!add_meta(g, "winnow.recipe", recipe_digest) || !add_meta(g, "winnow.sparsity", s))
        return wn_fail(err, WINNOW_E_NOMEM, "export");
    return WINNOW_OK;
}

/* Batch norm into the convolutions, by the engine's own pass. */
static enum winnow_status fold_bn(struct wn_graph *g, struct winnow_err *err)
{
    WN_TRY(wn_ops_resolve(g, err));
    WN_TRY(wn_pass_fold_batchnorm(g, err));
    return wn_graph_sort(g, err);
}

enum winnow_status wn_export_model(struct wn_trainer *tr, const char *recipe_digest, struct wn_arena *arena,
                                   struct wn_graph *ret, struct winnow_err *err)
{
    WN_TRY(wn_trainer_export_graph(tr, arena, ret, err));
    enum winnow_status status = wn_trainer_quant_enabled(tr) ? wn_export_quantize(tr, ret, err) : fold_bn(ret, err);
    if (status == WINNOW_OK)
        status = describe(tr, ret, recipe_digest, err);
    if (status != WINNOW_OK)
        wn_graph_done(ret);
    return status;
}
