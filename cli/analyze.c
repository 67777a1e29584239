/* analyze.c: `winnow analyze MODEL`: every step of the plan, measured: kernel, why, sparsity, share of the time. */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"

#define RUNS 20

struct args {
    struct wn_model_args common;
    bool why;
};

static const struct argp_option options[] = {
    { "why", 'w', NULL, 0, "print the predicted cost of every candidate kernel, and with --tune the measured one", 0 },
    { 0 }
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->common;
        return 0;
    case 'w':
        a->why = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static enum winnow_status profile(struct wn_cli_model *m, const struct wn_cli_inputs *in, struct winnow_err *err)
{
    struct winnow_tensor *y = calloc(winnow_model_n_outputs(m->model) + 1, sizeof *y);
    if (!y)
        return wn_fail(err, WINNOW_E_NOMEM, "outputs");
    enum winnow_status status = wn_cli_run_once(m, in, y, err);
    winnow_scratch_profile(m->scratch, true);
    for (int i = 0; i < RUNS && status == WINNOW_OK; i++)
        status = wn_cli_run_once(m, in, y, err);
    free(y);
    return status;
}

static double step_us(const struct winnow_step *s)
{
    return (double)s->ns / 1e3 / RUNS;
}

/* Share of what the dense kernel reaches out of the cache, of the products with weights that are not zero, one thread.
 */
static double peak_share(const struct winnow_step *s, const double peak[2])
{
    const double us = step_us(s), rate = peak[strncmp(s->kernel, "q8", 2) == 0];
    return us > 0 && rate > 0 ? (1 - s->sparsity) * (double)s->macs / us / 1e3 / rate : 0;
}

static void print_step(const struct args *a, const struct winnow_step *s, double total, const double peak[2])
{
    char shape[96];
    double us = step_us(s), gmacs = us > 0 ? (double)s->macs / us / 1e3 : 0;
    printf("%-34.34s %-28.28s %-18s", s->name, s->kernel, wn_cli_shape(s->shape, s->rank, shape, sizeof shape));
    if (*s->pattern)
        printf(" %5.1f%% %-12s", 100 * s->sparsity, s->pattern);
    else
        printf(" %6s %-12s", "", "");
    printf(" %9.1f us %5.1f%%", us, total > 0 ? 100 * us / total : 0);
    if (s->macs)
        printf(" %7.1f GMAC/s %5.1f%% of peak %9zu bytes", gmacs, 100 * peak_share(s, peak), s->weight_bytes);
    printf("\n");
    if (a->why && *s->why)
        printf("    %s\n", s->why);
}

static json_t *step_json(const struct winnow_step *s, const double peak[2])
{
    json_t *shape = json_array();
    for (unsigned i = 0; i < s->rank; i++)
        json_array_append_new(shape, json_integer(s->shape[i]));
    return json_pack("{s:s,s:s,s:s,s:s,s:s,s:o,s:f,s:I,s:I,s:f,s:f}", "name", s->name, "op", s->op, "kernel", s->kernel,
                     "why", s->why, "pattern", s->pattern, "shape", shape, "sparsity", s->sparsity, "macs",
                     (json_int_t)s->macs, "weight_bytes", (json_int_t)s->weight_bytes, "us", step_us(s), "peak_share",
                     peak_share(s, peak));
}

static enum winnow_status report(const struct args *a, const struct wn_cli_model *m, struct winnow_err *err)
{
    unsigned n = winnow_scratch_n_steps(m->scratch);
    struct winnow_step s;
    double total = 0;
    const char *why = "";
    for (unsigned i = 0; i < n; i++) {
        winnow_scratch_step(m->scratch, i, &s);
        total += step_us(&s);
    }
    const double peak[2] = { winnow_cpu_peak(false), winnow_cpu_peak(true) };
    bool rows = winnow_model_rows_independent(m->model, &why);
    if (!a->common.json || strcmp(a->common.json, "-")) {
        printf("peak %.0f GMAC/s f32, %.0f int8 (the dense kernels out of the cache, one thread); GMAC/s count zeros, "
               "shares do "
               "not\n",
               peak[0], peak[1]);
        printf("%s on %s, kernels %s, %u thread%s\n", a->common.model[0], winnow_cpu_name(), winnow_cpu_isa(),
               winnow_pool_threads(m->pool), winnow_pool_threads(m->pool) == 1 ? "" : "s");
        for (unsigned i = 0; i < n; i++) {
            winnow_scratch_step(m->scratch, i, &s);
            print_step(a, &s, total, peak);
        }
        printf("total %.1f us; file %zu bytes, packed weights %zu, activations %zu; batches: %s%s\n", total,
               m->file_bytes, winnow_model_weight_bytes(m->model), winnow_scratch_bytes(m->scratch),
               rows ? "rows are independent, requests are merged" : "requests run one by one: ", rows ? "" : why);
    }
    if (!a->common.json)
        return WINNOW_OK;
    json_t *steps = json_array();
    for (unsigned i = 0; i < n; i++) {
        winnow_scratch_step(m->scratch, i, &s);
        json_array_append_new(steps, step_json(&s, peak));
    }
    return wn_cli_write_json(a->common.json,
                             json_pack("{s:s,s:s,s:s,s:[f,f],s:b,s:s,s:f,s:I,s:o}", "model", a->common.model[0], "cpu",
                                       winnow_cpu_name(), "isa", winnow_cpu_isa(), "peak_gmacs", peak[0], peak[1],
                                       "rows_independent", rows, "rows_why", why, "total_us", total, "weight_bytes",
                                       (json_int_t)winnow_model_weight_bytes(m->model), "steps", steps),
                             err);
}

static const char doc[] = "Show what runs for every layer of a model, and why.\v" WN_CLI_EXAMPLES(
    "  winnow analyze mine.onnx --why\n"
    "  winnow analyze bert.onnx -S input_ids=1,64 -S attention_mask=1,64\n");

int wn_cli_analyze(int argc, char **argv)
{
    static const struct argp_child common[] = { { &wn_model_argp, 0, NULL, 0 }, { 0 } };
    static const struct argp argp = { options, parse, "MODEL", doc, common, NULL, NULL };
    struct args a = { .common = { .max_models = 1, .threads = 1 } };
    struct winnow_err err;
    struct wn_cli_model m = { 0 };
    struct wn_cli_inputs in = { 0 };
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    const struct winnow_load_opts opts = { .cache = a.common.cache };
    enum winnow_status status = wn_cli_open(a.common.model[0], a.common.threads, &opts, &m, &err);
    if (status == WINNOW_OK)
        status = wn_cli_inputs_random(m.model, 1, a.common.shape, a.common.n_shapes, 1, &in, &err);
    if (status == WINNOW_OK)
        status = wn_cli_tune(&m, &in, a.common.tune, &err);
    if (status == WINNOW_OK)
        status = profile(&m, &in, &err);
    if (status == WINNOW_OK)
        status = report(&a, &m, &err);
    wn_cli_inputs_done(&in);
    wn_cli_close(&m);
    return status == WINNOW_OK ? WN_EXIT_OK : wn_cli_fail(argv[0], &err);
}
