/* run.c: scratches and runs.
 *
 * DESIGN  A model with independent rows is planned for one row, whatever the batch: the rows of a batch run one after
 *         the other (or dealt out over the threads), so activations stay in cache (running layer by
 *         layer over a batch of 16 halves the speed of early layers) and an answer cannot depend on its neighbours.
 *         Where rows are vectors (wn_row_block()) weights are what fills caches: there plans take blocks of rows, powers
 *         of two, so that few plans serve every batch. Every row is computed as it would be alone, to the bit.
 *         Other models are planned for the shapes as they come. Plans belong to the model (plans.h); a scratch holds
 *         the one it used last, and activations as large as the largest plan it has met. */
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include "engine/plan/facts.h"
#include "engine/plan/late.h"
#include "engine/plan/scratch.h"

/* ---- plans ---- */

enum winnow_status wn_plan_new(struct winnow_model *model, const struct wn_type *inputs, struct wn_plan **ret_plan,
                               struct winnow_err *err)
{
    struct wn_plan *plan = calloc(1, sizeof *plan);
    if (!plan)
        return wn_fail(err, WINNOW_E_NOMEM, "plan");
    size_t limit; /* linked offsets of weights, and shape computations */
    if (!wn_mul_size(model->room, 4, &limit) || !wn_add_size(limit, model->opts.max_memory_bytes, &limit) ||
        !wn_add_size(limit, WN_SKELETON_BYTES, &limit))
        limit = 0;
    atomic_init(&plan->refs, 1);
    wn_arena_init(&plan->arena, limit);
    wn_graph_init(&plan->g, &plan->arena);
    enum winnow_status status = wn_plan_specialize(plan, &model->g, inputs, err);
    if (status == WINNOW_OK && plan->late && model->rows_independent)
        status = wn_fail(err, WINNOW_E_UNSUPPORTED,
                         "node '%s' (%s): its shape depends on data, in a model whose rows are "
                         "run one by one",
                         plan->late->nodes[0].name, plan->late->nodes[0].op_type);
    if (status == WINNOW_OK)
        status = wn_plan_lower(plan, model, err);
    if (status == WINNOW_OK)
        status = wn_plan_memory(plan, model->opts.max_memory_bytes, err);
    unsigned n_in = (unsigned)plan->g.inputs.n, n_out = (unsigned)plan->g.outputs.n;
    plan->rows = model->rows_independent ? inputs[0].dim[0] : 1;
    if (status == WINNOW_OK) {
        plan->in_row_bytes = wn_arena_calloc(&plan->arena, n_in + 1u, sizeof(size_t));
        plan->out_row_bytes = wn_arena_calloc(&plan->arena, n_out + 1u, sizeof(size_t));
        plan->out_type = wn_arena_calloc(&plan->arena, n_out + 1u, sizeof(struct wn_type));
        plan->in_type = wn_arena_calloc(&plan->arena, n_in + 1u, sizeof(struct wn_type));
        if (!plan->in_row_bytes || !plan->out_row_bytes || !plan->out_type || !plan->in_type)
            status = wn_fail(err, WINNOW_E_NOMEM, "plan");
    }
    if (status != WINNOW_OK) {
        wn_plan_unref(plan);
        return status;
    }
    for (unsigned i = 0; i < n_in; i++) {
        const struct wn_type *t = &plan->g.values.at[plan->g.inputs.at[i]].type;
        plan->in_type[i] = *t;
        wn_shape_bytes(t->dim, (unsigned)t->rank, winnow_dtype_size(t->dtype), &plan->in_row_bytes[i]);
        plan->in_row_bytes[i] /= (size_t)plan->rows;
    }
    for (unsigned i = 0; i < n_out; i++) {
        const struct wn_type *t = &plan->g.values.at[plan->g.outputs.at[i]].type;
        plan->out_type[i] = *t;
        if (!wn_late_makes(plan, i))
            wn_shape_bytes(t->dim, (unsigned)t->rank, winnow_dtype_size(t->dtype), &plan->out_row_bytes[i]);
        plan->out_row_bytes[i] /= (size_t)plan->rows;
    }
    *ret_plan = plan;
    return WINNOW_OK;
}

size_t wn_plan_bytes(const struct wn_plan *plan)
{
    return sizeof *plan + plan->arena.total + plan->steps.n * sizeof plan->steps.at[0] +
           plan->bufs.n * sizeof plan->bufs.at[0] + plan->g.values.n * sizeof plan->g.values.at[0] +
           plan->g.nodes.n * sizeof plan->g.nodes.at[0];
}

struct wn_plan *wn_plan_ref(struct wn_plan *plan)
{
    atomic_fetch_add_explicit(&plan->refs, 1, memory_order_relaxed);
    return plan;
}

void wn_plan_unref(struct wn_plan *plan)
{
    if (!plan || atomic_fetch_sub_explicit(&plan->refs, 1, memory_order_acq_rel) != 1)
        return;
    wn_vec_done(&plan->steps);
    wn_vec_done(&plan->bufs);
    wn_graph_done(&plan->g);
    wn_arena_done(&plan->arena);
    free(plan);
}

struct team_run {
    struct wn_exec *exec;
    winnow_pool *pool;
    uint64_t *ns; /* NULL: not profiled */
};

/* A step over every image of a plan with more than one; `image` is this thread's own. */
static void run_images(const struct wn_step *step, const struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    struct wn_exec mine = *exec;
    for (mine.image = 0; mine.image < step->images; mine.image++)
        step->run(step, &mine, part, n_parts);
}

static void run_part(void *arg, unsigned part, unsigned n_parts)
{
    const struct team_run *t = arg;
    const struct wn_plan *plan = t->exec->plan;
    for (size_t i = 0; i < plan->steps.n; i++) {
        const struct wn_step *step = &plan->steps.at[i];
        uint64_t start = t->ns && part == 0 ? wn_now_ns() : 0;
        if (step->images > 1)
            run_images(step, t->exec, part, n_parts);
        else if (!step->serial)
            step->run(step, t->exec, part, n_parts);
        else if (part == 0)
            step->run(step, t->exec, 0, 1);
        if (n_parts > 1)
            wn_pool_barrier(t->pool);
        if (t->ns && part == 0)
            t->ns[i] += wn_now_ns() - start;
    }
}

void wn_exec_run(struct wn_exec *exec, winnow_pool *pool, uint64_t *ns)
{
    struct team_run t = { exec, pool, ns };
    wn_pool_run(pool, run_part, &t);
}

/* ---- scratch ---- */

static void exec_done(struct wn_exec *exec)
{
    free(exec->act);
    free(exec->in);
    free(exec->out);
    free(exec->late);
    wn_arena_done(&exec->tmp);
    wn_arena_done(&exec->late_mem);
    *exec = (struct wn_exec){ 0 };
}

static enum winnow_status exec_init(struct wn_exec *exec, const winnow_scratch *s, struct winnow_err *err)
{
    exec->act = wn_alloc_huge(s->act_bytes);
    exec->in = calloc(s->model->n_inputs + 1, sizeof *exec->in);
    exec->out = calloc(s->model->n_outputs + 1, sizeof *exec->out);
    exec->late = calloc(s->model->n_outputs + 1, sizeof *exec->late);
    if (!exec->act || !exec->in || !exec->out || !exec->late) {
        exec_done(exec);
        return wn_fail(err, WINNOW_E_NOMEM, "%zu bytes of activations", s->act_bytes);
    }
    memset(exec->act, 0, s->act_bytes);
    return WINNOW_OK;
}

enum winnow_status winnow_scratch_new(winnow_model *model, winnow_pool *pool, winnow_scratch **ret_scratch,
                                      struct winnow_err *err)
{
    WN_CHECK_MAGIC(model, WN_MODEL_MAGIC);
    winnow_scratch *s = calloc(1, sizeof *s);
    if (!s)
        return wn_fail(err, WINNOW_E_NOMEM, "scratch");
    s->magic = WN_SCRATCH_MAGIC;
    s->model = winnow_model_ref(model);
    s->pool = pool;
    s->in_type = calloc(model->n_inputs + 1, sizeof *s->in_type);
    s->exec = calloc(winnow_pool_threads(pool), sizeof *s->exec);
    s->out_mem = calloc(model->n_outputs + 1, sizeof *s->out_mem);
    s->out_cap = calloc(model->n_outputs + 1, sizeof *s->out_cap);
    if (!s->in_type || !s->exec || !s->out_mem || !s->out_cap) {
        winnow_scratch_free(s);
        return wn_fail(err, WINNOW_E_NOMEM, "scratch");
    }
    *ret_scratch = s;
    return WINNOW_OK;
}

static void drop_execs(winnow_scratch *s)
{
    for (unsigned i = 0; i < s->n_exec; i++)
        exec_done(&s->exec[i]);
    s->n_exec = 0;
}

void winnow_scratch_limit(winnow_scratch *scratch, uint64_t loops_ns, uint64_t until_ns)
{
    WN_CHECK_MAGIC(scratch, WN_SCRATCH_MAGIC);
    scratch->limited = true;
    wn_allowance_init(&scratch->loops, loops_ns, until_ns);
}

void winnow_scratch_free(winnow_scratch *scratch)
{
    if (!scratch)
        return;
    WN_CHECK_MAGIC(scratch, WN_SCRATCH_MAGIC);
    drop_execs(scratch);
    wn_plan_unref(scratch->plan);
    free(scratch->ns);
    for (unsigned i = 0; scratch->out_mem && i < scratch->model->n_outputs; i++)
        free(scratch->out_mem[i]);
    free(scratch->out_mem);
    free(scratch->out_cap);
    free(scratch->exec);
    free(scratch->in_type);
    winnow_model_unref(scratch->model);
    scratch->magic = 0;
    free(scratch);
}

size_t winnow_scratch_bytes(const winnow_scratch *scratch)
{
    size_t total = scratch->n_exec * scratch->act_bytes;
    for (unsigned i = 0; i < scratch->n_exec; i++)
        total += scratch->exec[i].late_mem.total;
    for (unsigned i = 0; i < scratch->model->n_outputs; i++)
        total += scratch->out_cap[i];
    return total;
}

/* ---- checking what the caller brings ---- */

static void print_shape(char *s, size_t size, const int64_t *dim, unsigned rank)
{
    size_t used = (size_t)snprintf(s, size, "[");
    for (unsigned i = 0; i < rank && used < size; i++)
        used += (size_t)snprintf(s + used, size - used, "%s%lld", i ? "," : "", (long long)dim[i]);
    if (used < size)
        snprintf(s + used, size - used, "]");
}

static enum winnow_status check_input(const struct winnow_io *io, const struct winnow_tensor *t, bool with_data,
                                      struct winnow_err *err)
{
    char got[96], want[96];
    if (t->dtype != io->dtype)
        return wn_fail(err, WINNOW_E_MALFORMED, "input '%s' is %s, the model wants %s", io->name,
                       winnow_dtype_name(t->dtype), winnow_dtype_name(io->dtype));
    bool fits = t->rank == io->rank;
    for (unsigned d = 0; d < io->rank && fits; d++)
        fits = t->shape[d] >= 0 && (io->shape[d] < 0 || io->shape[d] == t->shape[d]);
    if (!fits) {
        print_shape(got, sizeof got, t->shape, WN_MIN(t->rank, (unsigned)WINNOW_MAX_RANK));
        print_shape(want, sizeof want, io->shape, io->rank);
        return wn_fail(err, WINNOW_E_MALFORMED, "input '%s' has shape %s, the model wants %s", io->name, got, want);
    }
    size_t bytes;
    if (!wn_shape_bytes(t->shape, t->rank, winnow_dtype_size(t->dtype), &bytes))
        return wn_fail(err, WINNOW_E_TOO_LARGE, "input '%s' is too large", io->name);
    if (with_data && t->bytes != bytes)
        return wn_fail(err, WINNOW_E_MALFORMED, "input '%s' holds %zu bytes, its shape needs %zu", io->name, t->bytes,
                       bytes);
    return WINNOW_OK;
}

/* Rows of the request (1 for models without independent rows) and the types to plan for. */
enum winnow_status wn_scratch_check(const winnow_scratch *s, const struct winnow_tensor *inputs, unsigned n,
                                    bool with_data, int64_t *ret_rows, struct winnow_err *err)
{
    const winnow_model *m = s->model;
    if (n != m->n_inputs)
        return wn_fail(err, WINNOW_E_MALFORMED, "%u inputs given, the model has %u", n, m->n_inputs);
    for (unsigned i = 0; i < n; i++)
        WN_TRY(check_input(&m->inputs[i], &inputs[i], with_data, err));
    *ret_rows = 1;
    if (!m->rows_independent)
        return WINNOW_OK;
    *ret_rows = inputs[0].shape[0];
    for (unsigned i = 1; i < n; i++)
        if (inputs[i].shape[0] != *ret_rows)
            return wn_fail(err, WINNOW_E_MALFORMED, "input '%s' has %lld rows, input '%s' has %lld", m->inputs[i].name,
                           (long long)inputs[i].shape[0], m->inputs[0].name, (long long)*ret_rows);
    return WINNOW_OK;
}

/* How many of `rows` rows the next plan takes. They are dealt out where each thread gets one. */
static int64_t block_of(const winnow_scratch *s, int64_t rows)
{
    const int64_t threads = winnow_pool_threads(s->pool), most = rows >= threads ? rows / threads : rows;
    int64_t block = 1;
    while (2 * block <= WN_MIN(most, s->model->row_block))
        block *= 2;
    return block;
}

static bool planned_for(const winnow_scratch *s, const struct winnow_tensor *inputs, int64_t block)
{
    if (!s->plan || s->plan->rows != block)
        return false;
    unsigned first = s->model->rows_independent ? 1 : 0;
    for (unsigned i = 0; i < s->model->n_inputs; i++)
        for (unsigned d = first; d < inputs[i].rank; d++)
            if (s->in_type[i].dim[d] != inputs[i].shape[d])
                return false;
    return true;
}

/* Time per step, from zero. */
static enum winnow_status clear_profile(winnow_scratch *s, struct winnow_err *err)
{
    free(s->ns);
    s->ns = NULL;
    if (!s->profile || !s->plan)
        return WINNOW_OK;
    s->ns = calloc(s->plan->steps.n + 1, sizeof *s->ns);
    return s->ns ? WINNOW_OK : wn_fail(err, WINNOW_E_NOMEM, "profile");
}

/* The execs are made anew when their activations are too few. */
static void make_room(winnow_scratch *s, const struct wn_plan *plan)
{
    const size_t need = wn_round_up(plan->act_bytes + WN_OVERREAD, 4096);
    if (need <= s->act_bytes)
        return;
    drop_execs(s);
    s->act_bytes = need;
}

static enum winnow_status make_execs(winnow_scratch *s, unsigned n, struct winnow_err *err)
{
    for (; s->n_exec < n; s->n_exec++) {
        WN_TRY(exec_init(&s->exec[s->n_exec], s, err));
        s->exec[s->n_exec].plan = s->plan;
        s->exec[s->n_exec].loops = &s->loops;
    }
    return WINNOW_OK;
}

enum winnow_status wn_scratch_fit(winnow_scratch *s, const struct wn_plan *plan, struct winnow_err *err)
{
    const unsigned n = s->n_exec;
    make_room(s, plan);
    return make_execs(s, n, err);
}

/* From here on runs are of these shapes. */
static enum winnow_status take_plan(winnow_scratch *s, const struct winnow_tensor *inputs, int64_t block,
                                    struct winnow_err *err)
{
    wn_plan_unref(s->plan);
    s->plan = NULL;
    for (unsigned i = 0; i < s->model->n_inputs; i++) {
        s->in_type[i] = (struct wn_type){ .dtype = inputs[i].dtype, .rank = (int)inputs[i].rank };
        memcpy(s->in_type[i].dim, inputs[i].shape, sizeof s->in_type[i].dim);
        if (s->model->rows_independent)
            s->in_type[i].dim[0] = block;
    }
    WN_TRY(wn_plans_get(s->model->plans, s->model, s->in_type, &s->plan, err));
    make_room(s, s->plan);
    for (unsigned i = 0; i < s->n_exec; i++)
        s->exec[i].plan = s->plan;
    return clear_profile(s, err);
}

enum winnow_status wn_scratch_ready(winnow_scratch *s, const struct winnow_tensor *inputs, int64_t rows,
                                    struct winnow_err *err)
{
    const int64_t block = block_of(s, rows);
    if (!planned_for(s, inputs, block))
        WN_TRY(take_plan(s, inputs, block, err));
    unsigned want = rows >= winnow_pool_threads(s->pool) ? winnow_pool_threads(s->pool) : 1;
    WN_TRY(make_execs(s, want, err));
    for (unsigned i = 0; i < s->model->n_outputs; i++) {
        size_t need;
        if (!wn_mul_size(s->plan->out_row_bytes[i], (size_t)rows, &need))
            return wn_fail(err, WINNOW_E_TOO_LARGE, "output '%s'", s->model->outputs[i].name);
        if (need > s->model->opts.max_memory_bytes)
            return wn_fail(err, WINNOW_E_TOO_LARGE, "output '%s' needs %zu bytes, the limit is %zu",
                           s->model->outputs[i].name, need, s->model->opts.max_memory_bytes);
        need += 1;
        if (need <= s->out_cap[i])
            continue;
        void *p = aligned_alloc(64, wn_round_up(need, 64));
        if (!p)
            return wn_fail(err, WINNOW_E_NOMEM, "output '%s'", s->model->outputs[i].name);
        free(s->out_mem[i]);
        s->out_mem[i] = p;
        s->out_cap[i] = need;
    }
    return WINNOW_OK;
}

enum winnow_status winnow_scratch_reserve(winnow_scratch *scratch, const struct winnow_tensor *inputs,
                                          unsigned n_inputs, struct winnow_err *err)
{
    WN_CHECK_MAGIC(scratch, WN_SCRATCH_MAGIC);
    int64_t rows;
    WN_TRY(wn_scratch_check(scratch, inputs, n_inputs, false, &rows, err));
    return wn_scratch_ready(scratch, inputs, WN_MAX(rows, 1), err);
}

/* ---- running ---- */

enum winnow_status wn_scratch_outputs(const winnow_scratch *s, int64_t rows, struct winnow_tensor *outputs, unsigned n,
                                      struct winnow_err *err)
{
    if (n != s->model->n_outputs)
        return wn_fail(err, WINNOW_E_MALFORMED, "%u outputs asked for, the model has %u", n, s->model->n_outputs);
    for (unsigned i = 0; i < n; i++) {
        const struct wn_type *t = &s->plan->out_type[i];
        struct winnow_tensor *o = &outputs[i];
        if (wn_late_makes(s->plan, i))
            continue;
        size_t need = s->plan->out_row_bytes[i] * (size_t)rows;
        if (!o->data)
            o->data = s->out_mem[i];
        else if (o->bytes < need)
            return wn_fail(err, WINNOW_E_MALFORMED, "output '%s' needs %zu bytes, %zu are given",
                           s->model->outputs[i].name, need, o->bytes);
        o->bytes = need;
        o->dtype = t->dtype;
        o->rank = (unsigned)t->rank;
        memcpy(o->shape, t->dim, sizeof o->shape);
        if (s->model->rows_independent)
            o->shape[0] = rows;
    }
    return WINNOW_OK;
}

/* Outputs whose shapes are known now. Such a model runs one row at a time, on the first exec. */
static enum winnow_status set_late_outputs(const winnow_scratch *s, struct winnow_tensor *outputs,
                                           struct winnow_err *err)
{
    for (unsigned i = 0; s->plan->late && i < s->model->n_outputs; i++) {
        const struct wn_tensor *t = &s->exec[0].late[i];
        struct winnow_tensor *o = &outputs[i];
        if (!wn_late_makes(s->plan, i))
            continue;
        if (o->data && o->bytes < t->bytes)
            return wn_fail(err, WINNOW_E_MALFORMED, "output '%s' needs %zu bytes, %zu are given",
                           s->model->outputs[i].name, t->bytes, o->bytes);
        if (!o->data)
            o->data = t->data;
        else if (t->bytes)
            memcpy(o->data, t->data, t->bytes);
        o->bytes = t->bytes;
        o->dtype = t->dtype;
        o->rank = t->rank;
        memcpy(o->shape, t->dim, sizeof o->shape);
    }
    return WINNOW_OK;
}

static void aim(const winnow_scratch *s, struct wn_exec *exec, const struct winnow_tensor *inputs,
                const struct winnow_tensor *outputs, int64_t row)
{
    exec->status = WINNOW_OK;
    for (unsigned i = 0; i < s->model->n_inputs; i++)
        exec->in[i] = (const char *)inputs[i].data + s->plan->in_row_bytes[i] * (size_t)row;
    for (unsigned i = 0; i < s->model->n_outputs; i++)
        exec->out[i] = (char *)outputs[i].data + s->plan->out_row_bytes[i] * (size_t)row;
}

/* `runs` runs of the plan, on the rows from `row` on. */
struct row_run {
    winnow_scratch *s;
    const struct winnow_tensor *inputs;
    const struct winnow_tensor *outputs;
    int64_t row, runs;
};

/* Runs dealt out in contiguous shares; each thread has its own activations. */
static void run_rows(void *arg, unsigned part, unsigned n_parts)
{
    struct row_run *r = arg;
    struct wn_exec *exec = &r->s->exec[part];
    int64_t from = r->runs * part / n_parts, to = r->runs * (part + 1) / n_parts;
    exec->status = WINNOW_OK;
    for (int64_t run = from; run < to; run++) {
        aim(r->s, exec, r->inputs, r->outputs, r->row + run * exec->plan->rows);
        wn_exec_run(exec, NULL, part == 0 ? r->s->ns : NULL);
        if (exec->status != WINNOW_OK)
            return;
    }
}

enum winnow_status wn_scratch_outcome(winnow_scratch *s, unsigned n, struct winnow_err *err)
{
    enum winnow_status status = WINNOW_OK;
    for (unsigned i = 0; i < n; i++) {
        if (status == WINNOW_OK && s->exec[i].status != WINNOW_OK) {
            status = s->exec[i].status;
            if (err)
                *err = s->exec[i].err;
        }
        s->exec[i].status = WINNOW_OK;
    }
    return status;
}

/* Part of the rows from `row` on: all that runs of s->plan take. Where there are fewer runs than threads, all threads
 * work on each. */
static enum winnow_status run_some(winnow_scratch *s, const struct winnow_tensor *inputs,
                                   const struct winnow_tensor *outputs, int64_t row, int64_t runs,
                                   struct winnow_err *err)
{
    const unsigned threads = winnow_pool_threads(s->pool);
    struct row_run r = { s, inputs, outputs, row, runs };
    if (threads > 1 && runs >= threads) {
        wn_pool_run(s->pool, run_rows, &r);
        return wn_scratch_outcome(s, threads, err);
    }
    struct wn_exec *exec = &s->exec[0];
    for (int64_t i = 0; i < runs && exec->status == WINNOW_OK; i++) {
        aim(s, exec, inputs, outputs, row + i * s->plan->rows);
        wn_exec_run(exec, s->pool, s->ns);
    }
    return wn_scratch_outcome(s, 1, err);
}

void wn_scratch_begin(winnow_scratch *s)
{
    if (!s->limited)
        wn_allowance_init(&s->loops, 0, 0);
}

enum winnow_status winnow_run(const winnow_model *model, winnow_scratch *scratch, const struct winnow_tensor *inputs,
                              unsigned n_inputs, struct winnow_tensor *outputs, unsigned n_outputs,
                              struct winnow_err *err)
{
    WN_CHECK_MAGIC(scratch, WN_SCRATCH_MAGIC);
    if (scratch->model != model)
        return wn_fail(err, WINNOW_E_MALFORMED, "the scratch belongs to another model");
    int64_t rows;
    WN_TRY(wn_scratch_check(scratch, inputs, n_inputs, true, &rows, err));
    WN_TRY(wn_scratch_ready(scratch, inputs, rows, err));
    WN_TRY(wn_scratch_outputs(scratch, rows, outputs, n_outputs, err));
    wn_scratch_begin(scratch);
    for (int64_t row = 0; row < rows;) {
        const int64_t runs = (rows - row) / scratch->plan->rows;
        WN_TRY(run_some(scratch, inputs, outputs, row, runs, err));
        row += runs * scratch->plan->rows;
        if (row < rows)
            WN_TRY(wn_scratch_ready(scratch, inputs, rows - row, err));
    }
    return set_late_outputs(scratch, outputs, err);
}

/* ---- looking inside ---- */

unsigned winnow_scratch_n_steps(const winnow_scratch *scratch)
{
    return scratch->plan ? (unsigned)scratch->plan->steps.n : 0;
}

void winnow_scratch_step(const winnow_scratch *scratch, unsigned i, struct winnow_step *ret_step)
{
    const struct wn_step *step = &scratch->plan->steps.at[i];
    *ret_step = (struct winnow_step){ .name = step->name,
                                      .op = step->op,
                                      .kernel = step->kernel,
                                      .why = step->why,
                                      .pattern = step->pattern,
                                      .sparsity = step->sparsity,
                                      .macs = step->macs,
                                      .weight_bytes = step->weight_bytes,
                                      .ns = scratch->ns ? scratch->ns[i] : 0 };
    if (step->out != WN_NONE) {
        const struct wn_type *t = &scratch->plan->g.values.at[step->out].type;
        ret_step->rank = (unsigned)t->rank;
        memcpy(ret_step->shape, t->dim, sizeof ret_step->shape);
    }
}

void winnow_scratch_profile(winnow_scratch *scratch, bool on)
{
    scratch->profile = on;
    clear_profile(scratch, NULL); /* without memory steps show no time */
}
