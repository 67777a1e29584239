/* lower.c: the frame of lowering: steps, buffers and their lives, plain tensors, reference operators. */
#include "engine/ops/eager.h"
#include "engine/plan/late.h"
#include "engine/plan/lower.h"

#include <string.h>
#include "engine/plan/cols.h"
#include "engine/plan/cols_q8.h"
#include "engine/plan/home.h"
#include "engine/plan/planes.h"
#include "engine/plan/q8.h"

/* ---- steps and buffers ---- */

struct wn_step *wn_lower_step(struct wn_lower *lo, const struct wn_node *node, const char *kernel,
                              void (*run)(const struct wn_step *, struct wn_exec *, unsigned, unsigned),
                              const void *arg)
{
    struct wn_step step = { .name = node->name,
                            .op = node->op_type,
                            .kernel = kernel,
                            .why = "",
                            .pattern = "",
                            .out = node->n_out ? node->out[0] : WN_NONE,
                            .run = run,
                            .arg = arg };
    if (!wn_vec_push(&lo->plan->steps, step)) {
        wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
        return NULL;
    }
    return &lo->plan->steps.at[lo->plan->steps.n - 1];
}

void wn_lower_images(struct wn_lower *lo, wn_vid v)
{
    lo->plan->steps.at[lo->plan->steps.n - 1].images = (size_t)wn_lower_type(lo, v)->dim[0];
}

void wn_lower_touch(struct wn_lower *lo, struct wn_loc loc)
{
    if (loc.kind != WN_LOC_BUF)
        return;
    struct wn_buf *buf = &lo->plan->bufs.at[loc.index];
    uint32_t now = (uint32_t)lo->plan->steps.n - 1;
    if (buf->first == UINT32_MAX)
        buf->first = now;
    buf->last = now;
}

struct wn_loc wn_lower_buf(struct wn_lower *lo, size_t bytes)
{
    if (!wn_vec_push(&lo->plan->bufs, (struct wn_buf){ .bytes = bytes, .first = UINT32_MAX })) {
        wn_fail(lo->err, WINNOW_E_NOMEM, "plan");
        return (struct wn_loc){ 0 };
    }
    return (struct wn_loc){ .kind = WN_LOC_BUF, .index = (uint32_t)lo->plan->bufs.n - 1 };
}

void wn_lower_over(struct wn_lower *lo, struct wn_loc y, struct wn_loc r, struct wn_loc x)
{
    if (y.kind != WN_LOC_BUF || r.kind != WN_LOC_BUF || (x.kind == WN_LOC_BUF && x.index == r.index) ||
        y.index == r.index || y.offset || r.offset || y.image != r.image)
        return;
    lo->plan->bufs.at[y.index].over = r.index + 1;
}

size_t wn_lower_bytes(const struct wn_lower *lo, wn_vid v)
{
    const struct wn_type *t = wn_lower_type(lo, v);
    size_t bytes = 0;
    wn_shape_bytes(t->dim, (unsigned)t->rank, winnow_dtype_size(t->dtype), &bytes);
    return bytes;
}

/* ---- plain tensors ---- */

enum winnow_status wn_lower_plain(struct wn_lower *lo, wn_vid v, struct wn_loc *ret)
{
    struct wn_place *place = &lo->plan->place[v];
    bool made = place->view_of;
    for (int f = 0; f < WN_FORM_COUNT; f++)
        made = made || place->form[f].kind != WN_LOC_NONE;
    if (!made)
        return wn_fail(lo->err, WINNOW_E_INTERNAL, "value '%s' is used before it is made",
                       lo->plan->g.values.at[v].name);
    if (place->form[WN_FORM_PLAIN].kind == WN_LOC_NONE && place->view_of)
        WN_TRY(wn_lower_plain(lo, place->view_of - 1, &place->form[WN_FORM_PLAIN]));
    else if (place->form[WN_FORM_PLAIN].kind == WN_LOC_NONE)
        WN_TRY(place->form[WN_FORM_COLS].kind != WN_LOC_NONE ? wn_cols_to_plain(lo, v)
               : wn_cols8_is(lo, v)                          ? wn_cols8_to_plain(lo, v)
                                                             : wn_planes_to_plain(lo, v));
    *ret = place->form[WN_FORM_PLAIN];
    return WINNOW_OK;
}

enum winnow_status wn_lower_new_plain(struct wn_lower *lo, wn_vid v, struct wn_loc *ret)
{
    struct wn_loc *loc = &lo->plan->place[v].form[WN_FORM_PLAIN];
    if (lo->output[v]) {
        *loc = *ret = (struct wn_loc){ .kind = WN_LOC_OUTPUT, .index = lo->output[v] - 1 };
        return WINNOW_OK;
    }
    bool elsewhere;
    WN_TRY(wn_home_find(lo, v, &elsewhere, ret));
    if (elsewhere) {
        *loc = *ret;
        return WINNOW_OK;
    }
    size_t bytes = wn_lower_bytes(lo, v), limit = lo->model->opts.max_memory_bytes;
    if (bytes > limit)
        return wn_fail(lo->err, WINNOW_E_TOO_LARGE, "value '%s' needs %zu bytes, the limit is %zu",
                       lo->plan->g.values.at[v].name, bytes, limit);
    *loc = *ret = wn_lower_buf(lo, bytes);
    return ret->kind == WN_LOC_NONE ? WINNOW_E_NOMEM : WINNOW_OK;
}

/* ---- views ---- */

enum winnow_status wn_lower_view(struct wn_lower *lo, const struct wn_node *node, bool *done)
{
    *done = wn_node_is_view(node);
    if (*done && wn_home_view_waits(lo, node)) {
        lo->plan->place[node->out[0]].view_of = node->in[0] + 1;
        return WINNOW_OK;
    }
    if (!*done || wn_cols_view(lo, node->in[0], node->out[0]) || wn_cols8_view(lo, node->in[0], node->out[0]))
        return WINNOW_OK;
    return wn_lower_plain(lo, node->in[0], &lo->plan->place[node->out[0]].form[WN_FORM_PLAIN]);
}

/* ---- reference operators ---- */

struct ref_arg {
    const struct wn_node *node;
    struct wn_tensor *in, *out; /* types; data is set per run */
    struct wn_loc *in_loc, *out_loc;
};

static void run_reference(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct ref_arg *a = step->arg;
    const struct wn_node *node = a->node;
    if (exec->status != WINNOW_OK)
        return;
    struct wn_tensor in[WN_OP_MAX_IN], out[WN_OP_MAX_IN];
    const struct wn_tensor *in_p[WN_OP_MAX_IN];
    for (unsigned i = 0; i < node->n_in; i++) {
        in[i] = a->in[i];
        if (node->in[i] != WN_NONE && !in[i].data)
            in[i].data = wn_at(exec, a->in_loc[i]);
        in_p[i] = node->in[i] == WN_NONE ? NULL : &in[i];
    }
    for (unsigned i = 0; i < node->n_out; i++) {
        out[i] = a->out[i];
        out[i].data = wn_at(exec, a->out_loc[i]);
    }
    struct wn_budget budget;
    wn_budget_init(&budget, exec->loops);
    struct wn_run run = { .node = node,
                          .n_in = node->n_in,
                          .n_out = node->n_out,
                          .in = in_p,
                          .out = out,
                          .tmp = &exec->tmp,
                          .budget = &budget };
    exec->status = node->op->run(&run, &exec->err);
    if (exec->status != WINNOW_OK)
        wn_fail_at(&exec->err, exec->status, "node '%s' (%s)", node->name, node->op_type);
    wn_arena_reset(&exec->tmp);
}

static struct wn_tensor typed(const struct wn_lower *lo, wn_vid v)
{
    const struct wn_type *t = wn_lower_type(lo, v);
    struct wn_tensor tensor = { .dtype = t->dtype, .rank = (unsigned)t->rank, .bytes = wn_lower_bytes(lo, v) };
    memcpy(tensor.dim, t->dim, sizeof tensor.dim);
    return tensor;
}

/* Omitted outputs are computed too, so that run functions need not ask which ones are wanted: a type and a place for
 * each whose shape is known. */
static enum winnow_status place_omitted(struct wn_lower *lo, const struct wn_node *node, struct wn_tensor *out,
                                        struct wn_loc *loc)
{
    bool any = false;
    for (unsigned i = 0; i < node->n_out; i++)
        any |= node->out[i] == WN_NONE;
    if (!any)
        return WINNOW_OK;
    struct wn_infer infer;
    struct wn_type *type = wn_arena_calloc(&lo->plan->arena, node->n_out, sizeof *type);
    if (!type)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    wn_ops_infer_prepare(&lo->plan->g, node, &infer, type);
    WN_TRY(wn_ops_infer_node(&infer, lo->err));
    for (unsigned i = 0; i < node->n_out; i++) {
        struct wn_tensor *t = &out[i];
        if (node->out[i] != WN_NONE || !type[i].dtype || type[i].rank < 0)
            continue;
        *t = (struct wn_tensor){ .dtype = type[i].dtype, .rank = (unsigned)type[i].rank };
        memcpy(t->dim, type[i].dim, sizeof t->dim);
        if (!wn_shape_bytes(t->dim, t->rank, winnow_dtype_size(t->dtype), &t->bytes) ||
            t->bytes > lo->model->opts.max_memory_bytes)
            return wn_fail(lo->err, WINNOW_E_TOO_LARGE, "node '%s' (%s): output %u is too large", node->name,
                           node->op_type, i);
        loc[i] = wn_lower_buf(lo, t->bytes);
        if (loc[i].kind == WN_LOC_NONE)
            return WINNOW_E_NOMEM;
    }
    return WINNOW_OK;
}

enum winnow_status wn_lower_reference(struct wn_lower *lo, const struct wn_node *node)
{
    struct wn_arena *arena = &lo->plan->arena;
    struct ref_arg *a = wn_arena_calloc(arena, 1, sizeof *a);
    const char *kernel = wn_arena_printf(arena, "ref:%s", node->op_type);
    if (!a || !kernel)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    a->node = node;
    a->in = wn_arena_calloc(arena, node->n_in + 1u, sizeof *a->in);
    a->out = wn_arena_calloc(arena, node->n_out + 1u, sizeof *a->out);
    a->in_loc = wn_arena_calloc(arena, node->n_in + 1u, sizeof *a->in_loc);
    a->out_loc = wn_arena_calloc(arena, node->n_out + 1u, sizeof *a->out_loc);
    if (!a->in || !a->out || !a->in_loc || !a->out_loc)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    for (unsigned i = 0; i < node->n_in; i++) {
        if (node->in[i] == WN_NONE)
            continue;
        const struct wn_tensor *c = lo->plan->g.values.at[node->in[i]].constant;
        if (c) {
            const void *data;
            WN_TRY(wn_facts_pin(lo->model->facts, c, &data, lo->err));
            a->in[i] = *c;
            a->in[i].data = (void *)(uintptr_t)data;
            continue;
        }
        a->in[i] = typed(lo, node->in[i]);
        WN_TRY(wn_lower_plain(lo, node->in[i], &a->in_loc[i]));
    }
    for (unsigned i = 0; i < node->n_out; i++) {
        if (node->out[i] == WN_NONE)
            continue;
        a->out[i] = typed(lo, node->out[i]);
        WN_TRY(wn_lower_new_plain(lo, node->out[i], &a->out_loc[i]));
    }
    WN_TRY(place_omitted(lo, node, a->out, a->out_loc));
    struct wn_step *step = wn_lower_step(lo, node, kernel, run_reference, a);
    if (!step)
        return WINNOW_E_NOMEM;
    step->serial = true;
    for (unsigned i = 0; i < node->n_in; i++)
        wn_lower_touch(lo, a->in_loc[i]);
    for (unsigned i = 0; i < node->n_out; i++)
        wn_lower_touch(lo, a->out_loc[i]);
    return WINNOW_OK;
}

/* ---- the whole graph ---- */

struct copy_arg {
    struct wn_loc from, to;
    size_t bytes;
};

static void run_copy(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct copy_arg *a = step->arg;
    memmove(wn_at(exec, a->to), wn_at(exec, a->from), a->bytes);
}

/* Outputs that are views, inputs or constants are copied to where the caller wants them. */
static enum winnow_status copy_outputs(struct wn_lower *lo)
{
    static const struct wn_node copy = { .name = "output", .op_type = "Copy" };
    for (size_t i = 0; i < lo->plan->g.outputs.n; i++) {
        struct copy_arg *a = wn_arena_calloc(&lo->plan->arena, 1, sizeof *a);
        if (!a)
            return wn_fail(lo->err, WINNOW_E_NOMEM, "plan");
        wn_vid v = lo->plan->g.outputs.at[i];
        if (wn_late_makes(lo->plan, (unsigned)i))
            continue;
        WN_TRY(wn_lower_plain(lo, v, &a->from));
        if (a->from.kind == WN_LOC_OUTPUT && a->from.index == i)
            continue;
        a->to = (struct wn_loc){ .kind = WN_LOC_OUTPUT, .index = (uint32_t)i };
        a->bytes = wn_lower_bytes(lo, v);
        struct wn_step *step = wn_lower_step(lo, &copy, "copy", run_copy, a);
        if (!step)
            return WINNOW_E_NOMEM;
        step->out = v;
        step->serial = true;
        wn_lower_touch(lo, a->from);
    }
    return WINNOW_OK;
}

static void place_known(struct wn_lower *lo)
{
    struct wn_graph *g = &lo->plan->g;
    for (size_t i = 0; i < g->values.n; i++)
        if (g->values.at[i].constant)
            lo->plan->place[i].form[WN_FORM_PLAIN] =
                (struct wn_loc){ .kind = WN_LOC_CONST, .ptr = g->values.at[i].constant->data };
    for (size_t i = 0; i < g->inputs.n; i++)
        lo->plan->place[g->inputs.at[i]].form[WN_FORM_PLAIN] =
            (struct wn_loc){ .kind = WN_LOC_INPUT, .index = (uint32_t)i };
}

/* Who reads each value, and which are outputs. */
static enum winnow_status index_graph(struct wn_lower *lo)
{
    const struct wn_graph *g = &lo->plan->g;
    struct wn_arena *arena = &lo->plan->arena;
    size_t n = g->values.n, reads = 0;
    lo->user_at = wn_arena_calloc(arena, n + 2, sizeof *lo->user_at);
    lo->output = wn_arena_calloc(arena, n + 1, sizeof *lo->output);
    lo->choice = wn_arena_calloc(arena, g->nodes.n + 1, sizeof *lo->choice);
    lo->form_wish = wn_arena_calloc(arena, n + 1, sizeof *lo->form_wish);
    if (!lo->user_at || !lo->output || !lo->choice || !lo->form_wish)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "plan");
    for (size_t i = g->outputs.n; i-- > 0;)
        lo->output[g->outputs.at[i]] = (uint32_t)i + 1;
    for (size_t i = 0; i < g->nodes.n; i++) /* user_at[v + 2] counts, then sums, then moves to user_at[v + 1] */
        for (unsigned k = 0; !g->nodes.at[i].dead && k < g->nodes.at[i].n_in; k++)
            if (g->nodes.at[i].in[k] != WN_NONE) {
                lo->user_at[g->nodes.at[i].in[k] + 2]++;
                reads++;
            }
    for (size_t v = 2; v < n + 2; v++)
        lo->user_at[v] += lo->user_at[v - 1];
    lo->user = wn_arena_calloc(arena, reads + 1, sizeof *lo->user);
    if (!lo->user)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "plan");
    for (size_t i = 0; i < g->nodes.n; i++)
        for (unsigned k = 0; !g->nodes.at[i].dead && k < g->nodes.at[i].n_in; k++)
            if (g->nodes.at[i].in[k] != WN_NONE)
                lo->user[lo->user_at[g->nodes.at[i].in[k] + 1]++] = (uint32_t)i;
    return WINNOW_OK;
}

enum winnow_status wn_plan_lower(struct wn_plan *plan, struct winnow_model *model, struct winnow_err *err)
{
    static wn_lower_fn *const table[] = {
        wn_lower_late,       wn_lower_view,    wn_lower_conv_f32,     wn_lower_conv_q8,      wn_lower_pool,
        wn_lower_pool_q8,    wn_lower_concat,  wn_lower_norm_sum,     wn_lower_eltwise_flat, wn_lower_eltwise,
        wn_lower_dynamic_q8, wn_lower_cols_q8, wn_lower_eltwise_q8,   wn_lower_linear_f32,   wn_lower_linear_q8,
        wn_lower_attn,       wn_lower_attn_q8, wn_lower_layer_norm,   wn_lower_softmax,      wn_lower_split,
        wn_lower_token,      wn_lower_resize,  wn_lower_recurrent,    wn_lower_interleave,   wn_lower_by_channel,
        wn_lower_transpose,  wn_lower_slice,   wn_lower_concat_plain, wn_lower_norm_q8,
    };
    struct wn_lower lo = { .plan = plan, .model = model, .err = err, .reference = model->opts.reference };
    plan->place = wn_arena_calloc(&plan->arena, plan->g.values.n + 1, sizeof *plan->place);
    if (!plan->place)
        return wn_fail(err, WINNOW_E_NOMEM, "plan");
    place_known(&lo);
    WN_TRY(index_graph(&lo));
    WN_TRY(wn_geometry_make(&lo));
    WN_TRY(wn_q8_wishes(&lo));
    for (size_t i = 0; i < plan->g.nodes.n; i++) {
        const struct wn_node *node = &plan->g.nodes.at[i];
        bool done = node->dead;
        for (size_t k = 0; k < WN_COUNT(table) && !done; k++)
            WN_TRY(table[k](&lo, node, &done));
        if (!done)
            WN_TRY(wn_lower_reference(&lo, node));
    }
    return copy_outputs(&lo);
}
