/* ragged.c: rows of a batch that are padded on the right, each computed at its own length.
 *
 * DESIGN  A model with independent rows runs row by row anyway, so nothing forces one length on all: each row gets the
 *         plan of its length and reads the first of its elements where they lie; nothing is copied. Rows differ in
 * cost, so threads take them one by one, longest first, instead of in shares. */
#include <stdlib.h>
#include <string.h>
#include "engine/plan/scratch.h"

struct ragged {
    winnow_scratch *s;
    const struct winnow_tensor *inputs;
    const struct winnow_tensor *outputs;
    struct wn_plan **plan;  /* [rows] references */
    const uint32_t *length; /* [rows] */
    uint32_t *order;        /* [rows] longest first */
    uint32_t rows;
    atomic_uint next;
};

/* Whether every input is (rows, extent, …) with one extent that is the model's to choose. */
static bool inputs_fit(const winnow_model *m, const struct winnow_tensor *inputs)
{
    for (unsigned i = 0; i < m->n_inputs; i++)
        if (inputs[i].rank < 2 || m->inputs[i].shape[1] >= 0 || inputs[i].shape[1] != inputs[0].shape[1])
            return false;
    return m->n_inputs > 0;
}

/* Whether rows of `shorter`'s outputs are beginnings of the rows of `full`'s. */
static bool outputs_fit(const struct wn_plan *full, const struct wn_plan *shorter)
{
    for (size_t i = 0; i < full->g.outputs.n; i++) {
        const struct wn_type *a = &full->out_type[i], *b = &shorter->out_type[i];
        if (a->rank != b->rank || a->dtype == WINNOW_STRING)
            return false;
        for (int d = 2; d < a->rank; d++)
            if (a->dim[d] != b->dim[d])
                return false;
        if (a->rank > 1 && b->dim[1] > a->dim[1])
            return false;
    }
    return true;
}

/* A reference to the plan for rows of `length` elements. */
static enum winnow_status plan_of(winnow_scratch *s, struct wn_type *types, uint32_t length, struct wn_plan **ret,
                                  struct winnow_err *err)
{
    for (unsigned i = 0; i < s->model->n_inputs; i++) {
        types[i] = s->in_type[i];
        types[i].dim[1] = length;
    }
    return wn_plans_get(s->model->plans, s->model, types, ret, err);
}

static int longest_first(const void *a, const void *b, void *arg)
{
    const uint32_t *length = arg, x = length[*(const uint32_t *)a], y = length[*(const uint32_t *)b];
    return (x < y) - (x > y);
}

/* Plans of all rows; *fits is false where outputs do not allow it. */
static enum winnow_status make_plans(struct ragged *r, bool *fits, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) struct wn_type *types = calloc(r->s->model->n_inputs + 1, sizeof *types);
    if (!types)
        return wn_fail(err, WINNOW_E_NOMEM, "lengths of rows");
    for (uint32_t i = 0; i < r->rows; i++)
        r->order[i] = i;
    qsort_r(r->order, r->rows, sizeof *r->order, longest_first, (void *)(uintptr_t)r->length);
    for (uint32_t i = 0; i < r->rows && *fits; i++) {
        const uint32_t row = r->order[i];
        if (i && r->length[row] == r->length[r->order[i - 1]]) {
            r->plan[row] = wn_plan_ref(r->plan[r->order[i - 1]]);
            continue;
        }
        WN_TRY(plan_of(r->s, types, r->length[row], &r->plan[row], err));
        *fits = outputs_fit(r->s->plan, r->plan[row]);
        WN_TRY(wn_scratch_fit(r->s, r->plan[row], err));
    }
    return WINNOW_OK;
}

/* Point `exec` at one row; what its outputs do not reach is zero. */
static void aim(const struct ragged *r, struct wn_exec *exec, uint32_t row)
{
    const struct wn_plan *full = r->s->plan, *plan = r->plan[row];
    exec->plan = plan;
    exec->status = WINNOW_OK;
    for (unsigned i = 0; i < r->s->model->n_inputs; i++)
        exec->in[i] = (const char *)r->inputs[i].data + full->in_row_bytes[i] * row;
    for (unsigned i = 0; i < r->s->model->n_outputs; i++) {
        exec->out[i] = (char *)r->outputs[i].data + full->out_row_bytes[i] * row;
        memset(exec->out[i] + plan->out_row_bytes[i], 0, full->out_row_bytes[i] - plan->out_row_bytes[i]);
    }
}

static void run_rows(void *arg, unsigned part, unsigned n_parts)
{
    struct ragged *r = arg;
    struct wn_exec *exec = &r->s->exec[part];
    for (;;) {
        const uint32_t at = atomic_fetch_add_explicit(&r->next, 1, memory_order_relaxed);
        if (at >= r->rows)
            return;
        aim(r, exec, r->order[at]);
        wn_exec_run(exec, NULL, NULL);
        if (exec->status != WINNOW_OK)
            return;
    }
}

static enum winnow_status run_all(struct ragged *r, struct winnow_err *err)
{
    winnow_scratch *s = r->s;
    const unsigned threads = winnow_pool_threads(s->pool);
    if (threads > 1 && r->rows >= threads) {
        wn_pool_run(s->pool, run_rows, r);
        return wn_scratch_outcome(s, threads, err);
    }
    for (uint32_t i = 0; i < r->rows && s->exec[0].status == WINNOW_OK; i++) {
        aim(r, &s->exec[0], r->order[i]);
        wn_exec_run(&s->exec[0], s->pool, NULL);
    }
    return wn_scratch_outcome(s, 1, err);
}

static void ragged_done(struct ragged *r)
{
    for (uint32_t i = 0; r->plan && i < r->rows; i++)
        wn_plan_unref(r->plan[i]);
    for (unsigned i = 0; i < r->s->n_exec; i++)
        r->s->exec[i].plan = r->s->plan;
    free(r->plan);
    free(r->order);
}

enum winnow_status winnow_run_ragged(const winnow_model *model, winnow_scratch *scratch,
                                     const struct winnow_tensor *inputs, unsigned n_inputs, const uint32_t *length,
                                     struct winnow_tensor *outputs, unsigned n_outputs, struct winnow_err *err)
{
    int64_t rows;
    WN_CHECK_MAGIC(scratch, WN_SCRATCH_MAGIC);
    WN_TRY(wn_scratch_check(scratch, inputs, n_inputs, true, &rows, err));
    if (scratch->model != model || !model->rows_independent || !inputs_fit(model, inputs) || rows < 1 ||
        rows > INT32_MAX)
        return winnow_run(model, scratch, inputs, n_inputs, outputs, n_outputs, err);
    bool even = true;
    for (int64_t i = 0; i < rows; i++) {
        if (length[i] < 1 || length[i] > inputs[0].shape[1])
            return wn_fail(err, WINNOW_E_MALFORMED, "row %lld has length %u, of %lld", (long long)i, length[i],
                           (long long)inputs[0].shape[1]);
        even = even && length[i] == inputs[0].shape[1];
    }
    if (even)
        return winnow_run(model, scratch, inputs, n_inputs, outputs, n_outputs, err);
    WN_TRY(wn_scratch_ready(scratch, inputs, rows, err));
    WN_CLEANUP(ragged_done) struct ragged r = { scratch, inputs, outputs, .length = length, .rows = (uint32_t)rows };
    r.plan = calloc((size_t)rows, sizeof *r.plan);
    r.order = calloc((size_t)rows, sizeof *r.order);
    if (!r.plan || !r.order)
        return wn_fail(err, WINNOW_E_NOMEM, "lengths of %lld rows", (long long)rows);
    bool fits = true;
    WN_TRY(make_plans(&r, &fits, err));
    if (!fits)
        return winnow_run(model, scratch, inputs, n_inputs, outputs, n_outputs, err);
    WN_TRY(wn_scratch_outputs(scratch, rows, outputs, n_outputs, err));
    wn_scratch_begin(scratch);
    return run_all(&r, err);
}
