/* control.c: If, Loop and Scan. Their sub-graphs are functions of their inputs (graph_capture.c): what they take from
 * the graphs around stands behind the node's own inputs, WN_CAPTURED_ATTR of them. Bodies run by eager.c, within the
 * run's budget of nodes and time. */
#include <stdlib.h>
#include <string.h>
#include "engine/ops/eager.h"
#include "engine/ops/impl.h"

#define MAX_BODY      128 /* inputs or outputs of a body */
#define SETTLE_ROUNDS 4u  /* after which a loop's types are taken as unknown */
#define SETTLED_LOOPS 2u  /* loops in each other whose types are found out */

static const struct wn_graph *graph_of(const struct wn_node *node, const char *name)
{
    const struct wn_attr *a = wn_node_attr(node, name);
    return a && a->kind == WN_ATTR_GRAPH ? a->g : NULL;
}

static unsigned captured(const struct wn_node *node)
{
    int64_t n = wn_node_int(node, WN_CAPTURED_ATTR, 0);
    return n < 0 || n > node->n_in ? node->n_in : (unsigned)n;
}

static enum winnow_status want_graph(const struct wn_node *node, const char *name, size_t n_in, size_t n_out,
                                     const struct wn_graph **ret, struct winnow_err *err)
{
    const struct wn_graph *g = *ret = graph_of(node, name);
    if (!g)
        return wn_bad(err, "attribute %s must be a graph", name);
    if (g->inputs.n != n_in || n_in > MAX_BODY)
        return wn_bad(err, "its graph '%s' has %zu inputs, must have %zu", g->name,
                      g->inputs.n - WN_MIN(g->inputs.n, captured(node)), n_in - captured(node));
    if (g->outputs.n != n_out || n_out > MAX_BODY)
        return wn_bad(err, "its graph '%s' has %zu outputs, must have %zu", g->name, g->outputs.n, n_out);
    return WINNOW_OK;
}

/* What both say; E_MALFORMED for two dtypes. */
static enum winnow_status join(struct wn_type *a, const struct wn_type *b, struct winnow_err *err)
{
    if (a->dtype && b->dtype && a->dtype != b->dtype)
        return wn_bad(err, "dtypes %s and %s of one value", winnow_dtype_name(a->dtype), winnow_dtype_name(b->dtype));
    if (!b->dtype)
        a->dtype = WINNOW_UNDEFINED;
    if (a->rank != b->rank)
        a->rank = -1;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i])
            a->dim[i] = -1;
    return WINNOW_OK;
}

static bool same_type(const struct wn_type *a, const struct wn_type *b)
{
    bool same = a->dtype == b->dtype && a->rank == b->rank;
    for (int i = 0; same && i < a->rank; i++)
        same = a->dim[i] == b->dim[i];
    return same;
}

/* ---- If ---- */

enum winnow_status wn_infer_if(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_graph *g[2];
    unsigned n = captured(in->node);
    WN_TRY(wn_want(in, 0, WN_D(BOOL), err));
    if (in->n_in != n + 1)
        return wn_bad(err, "it takes 1 input, not %u", in->n_in - n);
    WN_TRY(want_graph(in->node, "then_branch", n, in->n_out, &g[0], err));
    WN_TRY(want_graph(in->node, "else_branch", n, in->n_out, &g[1], err));
    bool decided = in->value[0] && wn_tensor_count(in->value[0]) == 1;
    for (unsigned b = 0; b < 2; b++) {
        struct wn_type out[MAX_BODY];
        if (decided && (wn_scalar_int(in->value[0], 0) != 0) != (b == 0))
            continue;
        WN_TRY(wn_sub_infer(g[b], in->in + 1, in->value + 1, n, in->loops, out, err));
        for (unsigned i = 0; i < in->n_out; i++)
            if (b == 0 || decided)
                in->out[i] = out[i];
            else
                WN_TRY(join(&in->out[i], &out[i], err));
    }
    return WINNOW_OK;
}

/* Give output i of a node this tensor. */
static enum winnow_status put_out(struct wn_run *run, unsigned i, const struct wn_tensor *t, struct winnow_err *err)
{
    struct wn_tensor *y = &run->out[i];
    if (!y->data)
        WN_TRY(wn_run_alloc(run, i, t->dtype, t->rank, t->dim, err));
    if (y->bytes != t->bytes)
        return wn_fail(err, WINNOW_E_INTERNAL, "output %u has %zu bytes, %zu were planned", i, t->bytes, y->bytes);
    memcpy(y->data, t->data, t->bytes);
    return WINNOW_OK;
}

static void body_name(struct winnow_err *err, enum winnow_status status, const char *name)
{
    if (err && strlen(err->msg) < sizeof err->msg / 2)
        wn_fail_at(err, status, "%s", name);
}

enum winnow_status wn_run_if(struct wn_run *run, struct winnow_err *err)
{
    unsigned n = captured(run->node);
    if (wn_tensor_count(run->in[0]) != 1)
        return wn_bad(err, "the condition has %lld elements, must have 1", (long long)wn_tensor_count(run->in[0]));
    const char *name = wn_scalar_int(run->in[0], 0) ? "then_branch" : "else_branch";
    struct wn_tensor out[MAX_BODY];
    enum winnow_status status = wn_sub_run(graph_of(run->node, name), run->in + 1, n, out, run->tmp, run->budget, err);
    if (status != WINNOW_OK) {
        body_name(err, status, name);
        return status;
    }
    for (unsigned i = 0; i < run->n_out; i++)
        WN_TRY(put_out(run, i, &out[i], err));
    return WINNOW_OK;
}

/* ---- growing results ---- */

/* Tensors of one shape put one after the other. */
struct stack {
    char *at;
    size_t used, room;
    int64_t n;
    struct wn_tensor like;
};

static void stacks_done(struct stack *s, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        free(s[i].at);
}

static enum winnow_status push(struct stack *s, const struct wn_tensor *t, size_t limit, struct winnow_err *err)
{
    if (!s->n)
        s->like = *t;
    if (t->dtype == WINNOW_STRING)
        return wn_lack(err, "strings as scan outputs");
    bool same = t->dtype == s->like.dtype && t->rank == s->like.rank &&
                memcmp(t->dim, s->like.dim, t->rank * sizeof t->dim[0]) == 0;
    if (!same || t->rank >= WINNOW_MAX_RANK)
        return wn_bad(err, "a scan output changes its shape from one iteration to the next");
    if (limit && t->bytes > limit - WN_MIN(s->used, limit))
        return wn_fail(err, WINNOW_E_TOO_LARGE, "a scan output of more than %zu bytes", limit);
    if (s->room - s->used < t->bytes) {
        size_t room = WN_MAX(2 * s->room, s->used + t->bytes);
        char *grown = realloc(s->at, room);
        if (!grown)
            return wn_nomem(err);
        s->at = grown;
        s->room = room;
    }
    if (t->bytes)
        memcpy(s->at + s->used, t->data, t->bytes);
    s->used += t->bytes;
    s->n++;
    return WINNOW_OK;
}

/* The stack as one tensor, its steps along `axis`, the last first where `backward`. */
static enum winnow_status put_stack(struct wn_run *run, unsigned i, const struct stack *s, int64_t axis, bool backward,
                                    struct winnow_err *err)
{
    int64_t dim[WINNOW_MAX_RANK], from_stride[WINNOW_MAX_RANK], to_stride[WINNOW_MAX_RANK];
    unsigned rank = s->like.rank + 1;
    int at;
    WN_TRY(wn_axis(axis, (int)rank, "axis of a scan output", &at, err));
    for (unsigned a = 0, b = 0; a < rank; a++)
        dim[a] = a == (unsigned)at ? s->n : s->like.dim[b++];
    if (!run->out[i].data)
        WN_TRY(wn_run_alloc(run, i, s->like.dtype, rank, dim, err));
    if (run->out[i].bytes != s->used)
        return wn_fail(err, WINNOW_E_INTERNAL, "output %u has %zu bytes, %zu were planned", i, s->used,
                       run->out[i].bytes);
    int64_t inner[WINNOW_MAX_RANK], block = wn_tensor_count(&s->like);
    wn_strides(s->like.rank, s->like.dim, inner);
    wn_strides(rank, dim, to_stride);
    for (unsigned a = 0, b = 0; a < rank; a++)
        from_stride[a] = a == (unsigned)at ? (backward ? -block : block) : inner[b++];
    size_t elem = winnow_dtype_size(s->like.dtype);
    const char *first = s->at + (backward && s->n ? (size_t)((s->n - 1) * block) * elem : 0);
    if (s->used)
        wn_copy_nd(rank, dim, run->out[i].data, to_stride, first, from_stride, elem);
    return WINNOW_OK;
}

/* ---- the state that goes from one iteration to the next ---- */

struct carried {
    struct wn_arena arena[2]; /* by turns: what an iteration reads stays until the next has read its own */
    unsigned turn, n;
    struct wn_tensor t[MAX_BODY];
};

static void carried_done(struct carried *c)
{
    wn_arena_done(&c->arena[0]);
    wn_arena_done(&c->arena[1]);
}

static enum winnow_status carry(struct carried *c, const struct wn_tensor *from, struct winnow_err *err)
{
    struct wn_tensor next[MAX_BODY];
    struct wn_arena *arena = &c->arena[c->turn ^= 1];
    wn_arena_reset(arena);
    for (unsigned i = 0; i < c->n; i++)
        WN_TRY(wn_tensor_dup(&next[i], &from[i], arena, err));
    memcpy(c->t, next, c->n * sizeof next[0]);
    return WINNOW_OK;
}

static enum winnow_status start_carried(struct carried *c, struct wn_run *run, unsigned from, unsigned n,
                                        struct winnow_err *err)
{
    *c = (struct carried){ .n = n };
    wn_arena_init(&c->arena[0], run->tmp->limit);
    wn_arena_init(&c->arena[1], run->tmp->limit);
    struct wn_tensor first[MAX_BODY];
    for (unsigned i = 0; i < n; i++) {
        if (!run->in[from + i])
            return wn_bad(err, "input %u may not be omitted", from + i);
        first[i] = *run->in[from + i];
    }
    return carry(c, first, err);
}

/* ---- Loop ----
 * Inputs: trip count, condition, n carried, captured. Body: iteration, condition, n carried, captured -> condition,
 * n carried, k scanned. */

static unsigned loop_carried(const struct wn_node *node)
{
    return node->n_in - captured(node) - 2;
}

/* Inputs `t` of the body to types that hold in every iteration, and its outputs by them. Each round infers the loops in
 * the body too, round by round: those deep inside are not asked, or twenty loops in each other would take hours. */
static enum winnow_status settle_types(const struct wn_infer *in, const struct wn_graph *body, struct wn_type *t,
                                       const struct wn_tensor *const *value, struct wn_type *out,
                                       struct winnow_err *err)
{
    const unsigned n = loop_carried(in->node);
    unsigned round = in->loops < SETTLED_LOOPS ? 0 : SETTLE_ROUNDS;
    for (unsigned i = 0; round && i < n; i++)
        t[2 + i].rank = -1;
    for (;; round++) {
        bool changed = false;
        WN_TRY(wn_sub_infer(body, t, value, in->n_in, in->loops + 1, out, err));
        for (unsigned i = 0; i < n && round < SETTLE_ROUNDS; i++) {
            struct wn_type before = t[2 + i];
            WN_TRY(join(&t[2 + i], &out[1 + i], err));
            changed |= !same_type(&before, &t[2 + i]);
        }
        if (!changed)
            return WINNOW_OK;
        for (unsigned i = 0; i < n && round == SETTLE_ROUNDS - 1; i++)
            t[2 + i] = (struct wn_type){ .rank = -1 };
    }
}

enum winnow_status wn_infer_loop(struct wn_infer *in, struct winnow_err *err)
{
    unsigned extra = captured(in->node);
    const struct wn_graph *g;
    WN_TRY(wn_want(in, 0, WN_D(I64), err));
    WN_TRY(wn_want(in, 1, WN_D(BOOL), err));
    if (in->n_in < extra + 2 || in->n_out < loop_carried(in->node))
        return wn_bad(err, "%u inputs and %u outputs", in->n_in - extra, in->n_out);
    unsigned n = loop_carried(in->node);
    WN_TRY(want_graph(in->node, "body", in->n_in, in->n_out + 1, &g, err));
    struct wn_type t[MAX_BODY], out[MAX_BODY];
    const struct wn_tensor *value[MAX_BODY] = { 0 };
    t[0] = (struct wn_type){ .dtype = WINNOW_I64 };
    t[1] = (struct wn_type){ .dtype = WINNOW_BOOL };
    for (unsigned i = 2; i < in->n_in; i++) {
        t[i] = in->in[i];
        value[i] = i >= 2 + n ? in->value[i] : NULL;
    }
    WN_TRY(settle_types(in, g, t, value, out, err));
    for (unsigned i = 0; i < n; i++)
        in->out[i] = t[2 + i];
    for (unsigned i = n; i < in->n_out; i++) {
        const struct wn_type *o = &out[1 + i];
        in->out[i].dtype = o->dtype;
        if (o->rank < 0)
            continue;
        if (o->rank >= WINNOW_MAX_RANK)
            return wn_lack(err, "scan output %u of rank %d", i - n, o->rank + 1);
        wn_type_set_rank(&in->out[i], o->rank + 1);
        for (int a = 0; a < o->rank; a++)
            in->out[i].dim[a + 1] = o->dim[a];
    }
    return WINNOW_OK;
}

static enum winnow_status cond_of(const struct wn_tensor *t, bool *ret, struct winnow_err *err)
{
    if (t && (t->dtype != WINNOW_BOOL || wn_tensor_count(t) != 1))
        return wn_bad(err, "the condition must be one bool");
    *ret = !t || wn_scalar_int(t, 0) != 0;
    return WINNOW_OK;
}

/* One iteration: carried values and scanned results of the body. */
static enum winnow_status iterate(struct wn_run *run, const struct wn_graph *body, struct carried *c, int64_t k,
                                  bool *cond, struct stack *stacks, struct winnow_err *err)
{
    unsigned extra = captured(run->node), n_in = run->n_in;
    uint8_t going = *cond;
    struct wn_tensor iteration = { .dtype = WINNOW_I64, .bytes = sizeof k, .data = &k };
    struct wn_tensor condition = { .dtype = WINNOW_BOOL, .bytes = 1, .data = &going };
    const struct wn_tensor *in[MAX_BODY] = { &iteration, &condition };
    struct wn_tensor out[MAX_BODY];
    for (unsigned i = 0; i < c->n; i++)
        in[2 + i] = &c->t[i];
    for (unsigned i = 0; i < extra; i++)
        in[2 + c->n + i] = run->in[n_in - extra + i];
    struct wn_arena arena;
    wn_arena_init(&arena, run->tmp->limit);
    enum winnow_status status = wn_sub_run(body, in, n_in, out, &arena, run->budget, err);
    if (status == WINNOW_OK)
        status = cond_of(&out[0], cond, err);
    for (unsigned i = c->n + 1; status == WINNOW_OK && i < body->outputs.n; i++)
        status = push(&stacks[i - c->n - 1], &out[i], run->tmp->limit, err);
    if (status == WINNOW_OK)
        status = carry(c, out + 1, err);
    wn_arena_done(&arena);
    if (status != WINNOW_OK)
        wn_fail_at(err, status, "iteration %lld", (long long)k);
    return status;
}

/* A loop that never ran still has scan outputs, of no rows. */
static void empty_stack(struct stack *s, const struct wn_tensor *out)
{
    s->like = *out;
    if (out->rank) {
        s->like.rank = out->rank - 1;
        memmove(s->like.dim, out->dim + 1, s->like.rank * sizeof s->like.dim[0]);
    }
}

static enum winnow_status run_loop(struct wn_run *run, struct carried *c, struct stack *stacks, struct winnow_err *err)
{
    const struct wn_graph *body = graph_of(run->node, "body");
    int64_t trips = run->in[0] ? wn_scalar_int(run->in[0], 0) : INT64_MAX;
    bool cond;
    if (run->in[0] && wn_tensor_count(run->in[0]) != 1)
        return wn_bad(err, "the trip count has %lld elements, must have 1", (long long)wn_tensor_count(run->in[0]));
    WN_TRY(cond_of(run->in[1], &cond, err));
    WN_TRY(start_carried(c, run, 2, loop_carried(run->node), err));
    for (int64_t k = 0; k < trips && cond; k++) {
        enum winnow_status status = wn_budget_node(run->budget, err);
        if (status != WINNOW_OK)
            return wn_fail_at(err, status, "iteration %lld", (long long)k);
        WN_TRY(iterate(run, body, c, k, &cond, stacks, err));
    }
    for (unsigned i = 0; i < c->n; i++) {
        struct wn_tensor kept; /* the carried values' memory goes with the loop */
        WN_TRY(wn_tensor_dup(&kept, &c->t[i], run->tmp, err));
        WN_TRY(put_out(run, i, &kept, err));
    }
    for (unsigned i = c->n; i < run->n_out; i++) {
        struct stack *s = &stacks[i - c->n];
        if (!s->n && run->out[i].dtype == WINNOW_UNDEFINED)
            return wn_lack(err, "scan output %u of a loop that never ran has no known type", i - c->n);
        if (!s->n)
            empty_stack(s, &run->out[i]);
        WN_TRY(put_stack(run, i, s, 0, false, err));
    }
    return WINNOW_OK;
}

enum winnow_status wn_run_loop(struct wn_run *run, struct winnow_err *err)
{
    struct stack stacks[MAX_BODY] = { 0 };
    WN_CLEANUP(carried_done) struct carried c = { 0 };
    const bool outermost = wn_budget_enter(run->budget);
    enum winnow_status status = run_loop(run, &c, stacks, err);
    if (outermost)
        wn_budget_leave(run->budget);
    stacks_done(stacks, MAX_BODY);
    return status;
}

/* ---- Scan ----
 * Inputs: n states, m sequences, captured. Body: n states, one step of each sequence, captured -> n states, k results.
 * Opset 8 has a batch axis, and the lengths of sequences as input 0. */

struct scan {
    const struct wn_graph *body;
    unsigned n, m, k;
    int64_t in_axis[MAX_BODY], out_axis[MAX_BODY];
    bool in_back[MAX_BODY], out_back[MAX_BODY];
};

static enum winnow_status read_list(const struct wn_node *node, const char *name, unsigned n, int64_t *axis, bool *back,
                                    struct winnow_err *err)
{
    size_t given;
    const int64_t *v = wn_node_ints(node, name, &given);
    if (v && given && given != n)
        return wn_bad(err, "attribute %s has %zu elements, must have %u", name, given, n);
    for (unsigned i = 0; i < n; i++) {
        int64_t x = v && given ? v[i] : 0;
        if (back && x != 0 && x != 1)
            return wn_bad(err, "attribute %s: %lld", name, (long long)x);
        if (back)
            back[i] = x == 1;
        else
            axis[i] = x;
    }
    return WINNOW_OK;
}

static enum winnow_status read_scan(const struct wn_node *node, unsigned n_in, unsigned n_out, struct scan *s,
                                    struct winnow_err *err)
{
    int64_t m = wn_node_int(node, "num_scan_inputs", -1);
    unsigned own = n_in - captured(node);
    if (m < 1 || m > own)
        return wn_bad(err, "num_scan_inputs is %lld of %u inputs", (long long)m, own);
    *s = (struct scan){ .m = (unsigned)m, .n = own - (unsigned)m };
    if (n_out < s->n)
        return wn_bad(err, "%u states and %u outputs", s->n, n_out);
    s->k = n_out - s->n;
    WN_TRY(want_graph(node, "body", n_in, n_out, &s->body, err));
    WN_TRY(read_list(node, "scan_input_axes", s->m, s->in_axis, NULL, err));
    WN_TRY(read_list(node, "scan_output_axes", s->k, s->out_axis, NULL, err));
    WN_TRY(read_list(node, "scan_input_directions", s->m, NULL, s->in_back, err));
    return read_list(node, "scan_output_directions", s->k, NULL, s->out_back, err);
}

static void drop_axis(struct wn_type *t, int axis)
{
    for (int a = axis; a + 1 < t->rank; a++)
        t->dim[a] = t->dim[a + 1];
    t->rank--;
}

enum winnow_status wn_infer_scan(struct wn_infer *in, struct winnow_err *err)
{
    struct scan s;
    struct wn_type t[MAX_BODY], out[MAX_BODY];
    int64_t steps = -1;
    WN_TRY(read_scan(in->node, in->n_in, in->n_out, &s, err));
    for (unsigned i = 0; i < in->n_in; i++) {
        t[i] = in->in[i];
        int axis;
        if (i < s.n || i >= s.n + s.m || t[i].rank < 0)
            continue;
        WN_TRY(wn_axis(s.in_axis[i - s.n], t[i].rank, "axis of a scan input", &axis, err));
        WN_TRY(wn_dim_same(steps, t[i].dim[axis], "lengths of scan inputs", &steps, err));
        drop_axis(&t[i], axis);
    }
    WN_TRY(wn_sub_infer(s.body, t, NULL, in->n_in, in->loops, out, err));
    for (unsigned i = 0; i < s.n; i++) {
        in->out[i] = in->in[i];
        WN_TRY(join(&in->out[i], &out[i], err));
        if (in->out[i].rank < 0 && in->in[i].rank >= 0 && out[i].rank >= 0)
            return wn_bad(err, "state %u has rank %d and then %d", i, in->in[i].rank, out[i].rank);
    }
    for (unsigned i = 0; i < s.k; i++) {
        struct wn_type *y = &in->out[s.n + i];
        const struct wn_type *o = &out[s.n + i];
        int axis;
        y->dtype = o->dtype;
        if (o->rank < 0)
            continue;
        if (o->rank >= WINNOW_MAX_RANK)
            return wn_lack(err, "scan output %u of rank %d", i, o->rank + 1);
        WN_TRY(wn_axis(s.out_axis[i], o->rank + 1, "axis of a scan output", &axis, err));
        y->rank = o->rank + 1;
        for (int a = 0, b = 0; a < y->rank; a++)
            y->dim[a] = a == axis ? steps : o->dim[b++];
    }
    return WINNOW_OK;
}

/* Step `at` of a sequence along `axis`, in `arena`. */
static enum winnow_status slice_step(const struct wn_tensor *x, int axis, int64_t at, struct wn_arena *arena,
                                     struct wn_tensor *ret, struct winnow_err *err)
{
    struct wn_type t = wn_type_of(x);
    int64_t from[WINNOW_MAX_RANK], own[WINNOW_MAX_RANK], to[WINNOW_MAX_RANK];
    size_t elem = winnow_dtype_size(x->dtype);
    wn_strides(x->rank, x->dim, own);
    for (int a = 0, b = 0; a < (int)x->rank; a++)
        if (a != axis)
            from[b++] = own[a];
    drop_axis(&t, axis);
    *ret = (struct wn_tensor){ .dtype = x->dtype, .rank = (unsigned)t.rank };
    memcpy(ret->dim, t.dim, sizeof ret->dim);
    ret->bytes = (size_t)wn_tensor_count(ret) * elem;
    ret->data = wn_arena_alloc(arena, ret->bytes);
    if (!ret->data)
        return wn_nomem(err);
    wn_strides(ret->rank, ret->dim, to);
    if (ret->bytes)
        wn_copy_nd(ret->rank, ret->dim, ret->data, to, (const char *)x->data + (size_t)(at * own[axis]) * elem, from,
                   elem);
    return WINNOW_OK;
}

static enum winnow_status scan_step(struct wn_run *run, const struct scan *s, struct carried *c, struct stack *stacks,
                                    int64_t step, int64_t steps, struct wn_arena *arena, struct winnow_err *err)
{
    const struct wn_tensor *in[MAX_BODY];
    struct wn_tensor part[MAX_BODY], out[MAX_BODY];
    int axis;
    for (unsigned i = 0; i < s->n; i++)
        in[i] = &c->t[i];
    for (unsigned i = 0; i < s->m; i++) {
        const struct wn_tensor *x = run->in[s->n + i];
        WN_TRY(wn_axis(s->in_axis[i], (int)x->rank, "axis of a scan input", &axis, err));
        WN_TRY(slice_step(x, axis, s->in_back[i] ? steps - 1 - step : step, arena, &part[i], err));
        in[s->n + i] = &part[i];
    }
    for (unsigned i = s->n + s->m; i < run->n_in; i++)
        in[i] = run->in[i];
    WN_TRY(wn_sub_run(s->body, in, run->n_in, out, arena, run->budget, err));
    for (unsigned i = 0; i < s->k; i++)
        WN_TRY(push(&stacks[i], &out[s->n + i], run->tmp->limit, err));
    return carry(c, out, err);
}

static enum winnow_status run_scan(struct wn_run *run, const struct scan *s, struct carried *c, struct stack *stacks,
                                   struct winnow_err *err)
{
    int axis;
    int64_t steps = -1;
    for (unsigned i = 0; i < s->m; i++) {
        const struct wn_tensor *x = run->in[s->n + i];
        if (!x || !x->rank)
            return wn_bad(err, "scan input %u has no axis to go along", i);
        WN_TRY(wn_axis(s->in_axis[i], (int)x->rank, "axis of a scan input", &axis, err));
        WN_TRY(wn_dim_same(steps, x->dim[axis], "lengths of scan inputs", &steps, err));
    }
    WN_TRY(start_carried(c, run, 0, s->n, err));
    for (int64_t k = 0; k < steps; k++) {
        struct wn_arena arena;
        wn_arena_init(&arena, run->tmp->limit);
        enum winnow_status status = wn_budget_node(run->budget, err);
        if (status == WINNOW_OK)
            status = scan_step(run, s, c, stacks, k, steps, &arena, err);
        wn_arena_done(&arena);
        if (status != WINNOW_OK)
            return wn_fail_at(err, status, "step %lld", (long long)k);
    }
    for (unsigned i = 0; i < s->n; i++) {
        struct wn_tensor kept;
        WN_TRY(wn_tensor_dup(&kept, &c->t[i], run->tmp, err));
        WN_TRY(put_out(run, i, &kept, err));
    }
    for (unsigned i = 0; i < s->k; i++) {
        if (!steps && !run->out[s->n + i].data)
            return wn_lack(err, "scan output %u of a scan over nothing has no known shape", i);
        if (steps)
            WN_TRY(put_stack(run, s->n + i, &stacks[i], s->out_axis[i], s->out_back[i], err));
    }
    return WINNOW_OK;
}

enum winnow_status wn_run_scan(struct wn_run *run, struct winnow_err *err)
{
    struct scan s;
    struct stack stacks[MAX_BODY] = { 0 };
    WN_CLEANUP(carried_done) struct carried c = { 0 };
    WN_TRY(read_scan(run->node, run->n_in, run->n_out, &s, err));
    const bool outermost = wn_budget_enter(run->budget);
    enum winnow_status status = run_scan(run, &s, &c, stacks, err);
    if (outermost)
        wn_budget_leave(run->budget);
    stacks_done(stacks, MAX_BODY);
    return status;
}
