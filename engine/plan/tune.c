/* tune.c: winnow_scratch_tune(): measuring instead of predicting.
 *
 * DESIGN  A layer's kernel is timed in its place in the net, with its neighbours' caches and forms: the whole model is
 *         planned once with every family forced on all layers that it can run, and each layer's time is noted. The
 *         fastest of each layer then make a plan, which is kept only where it is faster as a whole than the table's,
 * for kernels that want other forms of an activation bring conversions that no layer's own time shows. Packs that only
 * lost are dropped. Rejected: timing layers alone, out of the cache: it prefers kernels that lose in place. */
#include <stdlib.h>
#include <string.h>
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
