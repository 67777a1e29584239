/* tune.c: winnow_scratch_tune(): measuring instead of predicting.
 *
 * DESIGN  A layer's kernel is timed in its place in the net, with its neighbours' caches and forms: the whole model is
 *         planned once with every family forced on all layers that it can run, and each layer's time is noted. The
 *         fastest of each layer then make a plan, which is kept only where it is faster as a whole than the table's,
 * for kernels that want other forms of an activation bring conversions that no layer's own time shows. Packs that only
 * lost are dropped. Rejected: timing layers alone, out of the cache: it prefers kernels that lose in place. */
#include <stdlib.h>
#include <string.h>
#include "engine/kernels/f32_gemm/f32_gemm.h"
#include "engine/kernels/q8_gemm/q8_gemm.h"
#include "engine/plan/choice.h"
#include "engine/plan/packs.h"
#include "engine/plan/scratch.h"

#define RUNS   5 /* of each plan: the least time counts */
#define DUELS  7 /* turns of the table's plan and the measured one */
#define MARGIN 0.995

struct tuning {
    winnow_scratch *s;
    const struct winnow_tensor *in;
    unsigned n_in;
    struct winnow_tensor *out;
    struct winnow_err *err;
};

/* Plan anew for the shapes of the inputs, choosing in this way. */
static enum winnow_status replan(struct tuning *t, enum wn_choosing how, enum wn_family family)
{
    winnow_scratch *s = t->s;
    wn_choosing_set(s->model->tuned, how, family);
    wn_plans_clear(s->model->plans);
    wn_plan_unref(s->plan);
    s->plan = NULL;
    return winnow_scratch_reserve(s, t->in, t->n_in, t->err);
}

/* One run; *ret_ns in all. Times per step are in s->ns. */
static enum winnow_status run_once(struct tuning *t, uint64_t *ret_ns)
{
    winnow_scratch *s = t->s;
    const unsigned n_out = s->model->n_outputs;
    memset(t->out, 0, n_out * sizeof *t->out);
    if (s->ns)
        memset(s->ns, 0, s->plan->steps.n * sizeof *s->ns);
    const uint64_t begin = wn_now_ns();
    enum winnow_status status = winnow_run(s->model, s, t->in, t->n_in, t->out, n_out, t->err);
    *ret_ns = wn_now_ns() - begin;
    return status;
}

/* Time every layer of the present plan. */
static enum winnow_status note_layers(struct tuning *t)
{
    winnow_scratch *s = t->s;
    uint64_t ns;
    WN_TRY(run_once(t, &ns));
    for (int run = 0; run < RUNS; run++) {
        WN_TRY(run_once(t, &ns));
        for (size_t i = 0; s->ns && i < s->plan->steps.n; i++) {
            const struct wn_choice *choice = s->plan->steps.at[i].choice;
            if (choice && !wn_tuned_note(s->model->tuned, choice, choice->family, (double)s->ns[i] / 1e3))
                return wn_fail(t->err, WINNOW_E_NOMEM, "tuning");
        }
    }
    return WINNOW_OK;
}

/* Which families are candidates of some layer. */
static void collect(const struct wn_plan *plan, bool wanted[WN_FAMILY_COUNT])
{
    for (size_t i = 0; i < plan->steps.n; i++) {
        const struct wn_choice *choice = plan->steps.at[i].choice;
        for (unsigned c = 0; choice && c < choice->n; c++)
            wanted[choice->c[c].family] |= choice->c[c].cycles < 1e300;
    }
}

static void settle(struct tuning *t, const struct wn_plan *table, bool fastest)
{
    for (size_t i = 0; i < table->steps.n; i++)
        if (table->steps.at[i].choice)
            wn_tuned_settle(t->s->model->tuned, table->steps.at[i].choice, fastest);
}

/* The table's plan and the measured one in turns; *ret_faster: the measured one wins. */
static enum winnow_status duel(struct tuning *t, bool *ret_faster)
{
    uint64_t best[2] = { UINT64_MAX, UINT64_MAX }, ns;
    for (int turn = 0; turn < 2 * DUELS; turn++) {
        WN_TRY(replan(t, turn % 2 ? WN_CHOOSE_TUNED : WN_CHOOSE_TABLE, 0));
        WN_TRY(run_once(t, &ns));
        for (int run = 0; run < 3; run++) {
            WN_TRY(run_once(t, &ns));
            best[turn % 2] = WN_MIN(best[turn % 2], ns);
        }
    }
    *ret_faster = (double)best[1] < MARGIN * (double)best[0];
    return WINNOW_OK;
}

static enum winnow_status tune(struct tuning *t)
{
    struct winnow_model *m = t->s->model;
    bool wanted[WN_FAMILY_COUNT] = { false }, faster = false;
    WN_TRY(replan(t, WN_CHOOSE_TABLE, 0));
    struct wn_plan *table = wn_plan_ref(t->s->plan);
    collect(table, wanted);
    enum winnow_status status = note_layers(t);
    for (int f = 0; f < WN_FAMILY_COUNT && status == WINNOW_OK; f++) {
        if (!wanted[f])
            continue;
        status = replan(t, WN_CHOOSE_FORCED, (enum wn_family)f);
        if (status == WINNOW_OK)
            status = note_layers(t);
    }
    settle(t, table, true);
    if (status == WINNOW_OK)
        status = duel(t, &faster);
    if (status != WINNOW_OK || !faster)
        settle(t, table, false);
    wn_plan_unref(table);
    const size_t mark = wn_packs_mark(m->packs);
    WN_TRY(status);
    WN_TRY(replan(t, WN_CHOOSE_TUNED, 0));
    wn_packs_trim(m->packs, m->facts, mark);
    return WINNOW_OK;
}

enum winnow_status winnow_scratch_tune(winnow_scratch *scratch, const struct winnow_tensor *inputs, unsigned n_inputs,
                                       struct winnow_err *err)
{
    WN_CHECK_MAGIC(scratch, WN_SCRATCH_MAGIC);
    int64_t rows;
    const bool was = scratch->profile;
    WN_TRY(wn_scratch_check(scratch, inputs, n_inputs, true, &rows, err));
    struct tuning t = { scratch, inputs, n_inputs, calloc(scratch->model->n_outputs + 1u, sizeof *t.out), err };
    if (!t.out)
        return wn_fail(err, WINNOW_E_NOMEM, "tuning");
    winnow_scratch_profile(scratch, true);
    enum winnow_status status = tune(&t);
    wn_choosing_set(scratch->model->tuned, WN_CHOOSE_TUNED, 0);
    winnow_scratch_profile(scratch, was);
    free(t.out);
    return status;
}

/* ---- what this CPU can do ---- */

enum { PEAK_ROWS = 48, PEAK_K = 256, PEAK_COLS = 128, PEAK_TURNS = 12 };

/* GMAC/s of the best of some turns of `run`. */
static double best_rate(void (*run)(void *arg), void *arg)
{
    uint64_t best = UINT64_MAX;
    for (int turn = 0; turn < PEAK_TURNS; turn++) {
        const uint64_t begin = wn_now_ns();
        for (int i = 0; i < 20; i++)
            run(arg);
        best = WN_MIN(best, wn_now_ns() - begin);
    }
    return 20.0 * PEAK_ROWS * PEAK_K * PEAK_COLS / (double)WN_MAX(best, (uint64_t)1);
}

struct peak {
    struct wn_arena arena;
    struct wn_f32_gemm f32;
    struct wn_q8_gemm q8;
    struct wn_f32_args f32_args;
    struct wn_q8_args q8_args;
    int32_t *off;
};

static void run_f32(void *arg)
{
    struct peak *p = arg;
    wn_f32_gemm_run(&p->f32, p->off, &p->f32_args, 0, PEAK_ROWS);
}

static void run_q8(void *arg)
{
    struct peak *p = arg;
    wn_q8_gemm_run(&p->q8, p->off, &p->q8_args, 0, PEAK_ROWS);
}

static double f32_peak(struct peak *p)
{
    float *w = wn_arena_calloc(&p->arena, PEAK_ROWS * PEAK_K, sizeof *w);
    float *x = wn_arena_calloc(&p->arena, PEAK_K * PEAK_COLS + 64, sizeof *x);
    float *y = wn_arena_calloc(&p->arena, PEAK_ROWS * PEAK_COLS, sizeof *y);
    p->off = wn_arena_calloc(&p->arena, PEAK_K + 16, sizeof *p->off);
    if (!w || !x || !y || !p->off || wn_f32_gemm_pack(&p->arena, w, PEAK_ROWS, PEAK_K, &p->f32, NULL) != WINNOW_OK)
        return 0;
    for (int k = 0; k < PEAK_K; k++)
        p->off[k] = k * PEAK_COLS * (int32_t)sizeof *x;
    p->f32_args = (struct wn_f32_args){ .x = x, .n = PEAK_COLS, .y = y, .y_stride = PEAK_COLS, .lo = -1, .hi = 1 };
    return best_rate(run_f32, p);
}

static double q8_peak(struct peak *p)
{
    int8_t *w = wn_arena_calloc(&p->arena, PEAK_ROWS * PEAK_K, 1);
    uint8_t *x = wn_arena_calloc(&p->arena, PEAK_K * PEAK_COLS + 2 * WN_OVERREAD, 1);
    uint8_t *y = wn_arena_calloc(&p->arena, PEAK_ROWS * PEAK_COLS + 2 * WN_OVERREAD, 1);
    float *mul = wn_arena_calloc(&p->arena, PEAK_ROWS + 16, sizeof *mul);
    int32_t *bias = wn_arena_calloc(&p->arena, PEAK_ROWS + 16, sizeof *bias);
    int32_t *koff = wn_arena_calloc(&p->arena, PEAK_K / 4 + 16, sizeof *koff);
    if (!w || !x || !y || !mul || !bias || !koff)
        return 0;
    memset(w, 1, PEAK_ROWS * PEAK_K);
    if (wn_q8_gemm_pack(wn_q8_gemm_stream_of(wn_cpu_isa()), w, PEAK_ROWS, PEAK_K, 1, 255, &p->arena, &p->q8, NULL) !=
            WINNOW_OK ||
        !(p->off = wn_arena_calloc(&p->arena, p->q8.noffs + 16, sizeof *p->off)))
        return 0;
    for (int k = 0; k < PEAK_K / 4; k++)
        koff[k] = k * PEAK_COLS * 4;
    wn_q8_gemm_link(&p->q8, koff, p->off);
    p->q8_args = (struct wn_q8_args){ .x = x,
                                      .n = PEAK_COLS,
                                      .y = y,
                                      .y_stride = PEAK_COLS * 4,
                                      .out = WN_OUT_QUAD,
                                      .bias = bias,
                                      .mul = mul,
                                      .q_hi = 255 };
    return best_rate(run_q8, p);
}

double winnow_cpu_peak(bool int8)
{
    struct peak p = { 0 };
    wn_arena_init(&p.arena, 0);
    const double rate = int8 ? q8_peak(&p) : f32_peak(&p);
    wn_arena_done(&p.arena);
    return rate;
}
