/* recipe_command.c: `recipe FILE`: what a recipe will do, before a second is spent on it. */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "engine/graph/onnx.h"
#include "sparsify/recipe/recipe.h"
#include "sparsify/worker/fault.h"
#include "sparsify/worker/worker.h"

#define COLUMNS 60
#define BATCH   64

struct points {
    double t[COLUMNS + 1], lr[COLUMNS + 1], sparsity[COLUMNS + 1];
    double epochs, top_lr;
};

static double or_zero(double x)
{
    return isfinite(x) ? x : 0;
}

static void sample(const struct wn_recipe *recipe, struct points *p)
{
    *p = (struct points){ .epochs = wn_recipe_epochs(recipe) };
    for (unsigned i = 0; i <= COLUMNS; i++) {
        /* the last column is just before the end: at the end no modifier is active any more */
        p->t[i] = p->epochs * (i < COLUMNS ? (double)i / COLUMNS : 1 - 1e-6);
        p->lr[i] = or_zero(wn_recipe_lr_at(recipe, p->t[i]));
        p->sparsity[i] = or_zero(wn_recipe_sparsity_at(recipe, p->t[i]));
        if (i) /* between two modifiers the masks stay */
            p->sparsity[i] = fmax(p->sparsity[i], p->sparsity[i - 1]);
        p->top_lr = fmax(p->top_lr, p->lr[i]);
    }
}

static void spark(const char *name, const double *y, double top, const char *unit)
{
    static const char *const bars[] = { " ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" };
    printf("%-14s ", name);
    for (unsigned i = 0; i <= COLUMNS; i++) {
        double part = top > 0 ? y[i] / top : 0;
        fputs(bars[part <= 0 ? 0 : (unsigned)fmin(8, 1 + floor(part * 7.999))], stdout);
    }
    printf("  %s\n", unit);
}

static void print_curves(const char *file, const struct wn_recipe *recipe, const struct points *p)
{
    char unit[48];
    printf("%s: %g epochs%s\n\n", file, p->epochs, wn_recipe_quantizes(recipe) ? ", ends quantized (INT8)" : "");
    if (!wn_recipe_sets_lr(recipe))
        printf("warning: %s\n\n", WN_RECIPE_NO_LR);
    snprintf(unit, sizeof unit, "0 … %g", p->top_lr);
    spark("learning rate", p->lr, p->top_lr, unit);
    spark("sparsity", p->sparsity, 1, "0 … 1");
    printf("\n%10s %14s %10s\n", "epoch", "learning rate", "sparsity");
    for (unsigned i = 0; i <= COLUMNS; i += COLUMNS / 10)
        printf("%10.2f %14.6g %10.4f\n", p->t[i], p->lr[i], p->sparsity[i]);
}

/* ---- with a model ---- */

struct estimate {
    struct wn_train_cost cost;
    double cpu_s;
    size_t memory_bytes, rows;
};

static void trainer_freep(struct wn_trainer **tr)
{
    wn_trainer_free(*tr);
}

static enum winnow_status estimate(const struct wn_recipe *recipe, const char *file, const char *text,
                                   const char *model, size_t rows, struct estimate *ret, struct winnow_err *err)
{
    struct wn_arena arena;
    struct wn_graph g;
    WN_CLEANUP(trainer_freep) struct wn_trainer *tr = NULL;
    const struct wn_train_opts opts = { .batch = BATCH, .threads = 1, .seed = 1 };
    wn_arena_init(&arena, 0);
    enum winnow_status status = wn_onnx_read_file(model, NULL, &arena, &g, err);
    if (status == WINNOW_OK) {
        status = wn_trainer_new(&g, &opts, &tr, err);
        wn_graph_done(&g);
    }
    wn_arena_done(&arena);
    if (status != WINNOW_OK)
        return wn_fail_at(err, status, "%s", model);
    status = wn_recipe_apply(recipe, tr, err);
    if (status != WINNOW_OK) {
        wn_recipe_fault(file, text, err);
        return status;
    }
    WN_TRY(wn_trainer_cost(tr, &ret->cost, err));
    ret->rows = rows ? rows : 1000;
    double steps = wn_recipe_epochs(recipe) * floor((double)ret->rows / BATCH);
    ret->cpu_s = steps * ret->cost.step_ms / 1000;
    size_t pixels = ret->rows * wn_trainer_row_elements(tr); /* 8 bit each */
    ret->memory_bytes = ret->cost.plan_bytes + ret->cost.param_bytes + pixels;
    return WINNOW_OK;
}

static void print_estimate(const struct estimate *e)
{
    printf("\n%zu rows in batches of %d, one thread: at most %.0f s of CPU time (%.1f ms per dense step; pruned steps "
           "cost less), %.0f MiB of memory\n",
           e->rows, BATCH, ceil(e->cpu_s), e->cost.step_ms, ceil((double)e->memory_bytes / 1048576));
}

/* ---- JSON ---- */

static enum winnow_status write_json(const char *path, const struct wn_recipe *recipe, const struct points *p,
                                     const struct estimate *e, struct winnow_err *err)
{
    json_t *list = json_array();
    for (unsigned i = 0; i <= COLUMNS; i++)
        json_array_append_new(
            list, json_pack("{s:f, s:f, s:f}", "epoch", p->t[i], "lr", p->lr[i], "sparsity", p->sparsity[i]));
    json_t *o =
        json_pack("{s:f, s:b, s:o}", "epochs", p->epochs, "quantizes", wn_recipe_quantizes(recipe), "points", list);
    if (o && e)
        json_object_set_new(o, "estimate",
                            json_pack("{s:I, s:i, s:f, s:f, s:I, s:f}", "rows", (json_int_t)e->rows, "batch", BATCH,
                                      "step_ms", e->cost.step_ms, "cpu_s", e->cpu_s, "memory_bytes",
                                      (json_int_t)e->memory_bytes, "macs", e->cost.macs_dense));
    FILE *f = strcmp(path, "-") == 0 ? stdout : fopen(path, "we");
    enum winnow_status status = WINNOW_OK;
    if (!o)
        status = wn_fail(err, WINNOW_E_NOMEM, "JSON");
    else if (!f || json_dumpf(o, f, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) != 0 || fputc('\n', f) == EOF ||
             fflush(f) != 0)
        status = wn_fail_errno(err, errno, "%s", path);
    if (f && f != stdout && fclose(f) != 0 && status == WINNOW_OK)
        status = wn_fail_errno(err, errno, "%s", path);
    json_decref(o);
    return status;
}

static void recipe_freep(struct wn_recipe **r)
{
    wn_recipe_free(*r);
}

static enum winnow_status command(const char *file, const char *model, size_t rows, const char *json,
                                  struct winnow_err *err)
{
    WN_CLEANUP(recipe_freep) struct wn_recipe *recipe = NULL;
    WN_CLEANUP(wn_freep) void *text = NULL;
    size_t n = 0;
    struct points p;
    struct estimate e;
    WN_TRY(wn_file_read(file, (size_t)1 << 20, &text, &n, err));
    WN_TRY(wn_recipe_parse(text, n, file, &recipe, err));
    sample(recipe, &p);
    if (!(p.epochs > 0))
        return wn_fail(err, WINNOW_E_MALFORMED, "%s:1: no modifier says when training ends", file);
    if (model)
        WN_TRY(estimate(recipe, file, text, model, rows, &e, err));
    if (!json || strcmp(json, "-") != 0) {
        print_curves(file, recipe, &p);
        if (model)
            print_estimate(&e);
    }
    return json ? write_json(json, recipe, &p, model ? &e : NULL, err) : WINNOW_OK;
}

int wn_recipe_command(const char *file, const char *model, size_t rows, const char *json)
{
    struct winnow_err err = { 0 };
    if (command(file, model, rows, json, &err) == WINNOW_OK)
        return WN_EXIT_OK;
    fprintf(stderr, "%s\n", err.msg);
    return WN_EXIT_INVALID;
}
