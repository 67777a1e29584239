/* params.c: parameters by name, between the graph's constants and the operators that use them.
 *
 * NAMES  An initializer's own name when it looks like a parameter's ("layer1.0.conv1.weight"), else the node's path
 *        without its last part: "/encoder/layer.0/query/MatMul" -> "encoder.layer.0.query" + ".weight". Exporters
 * repeat the outer part ("/layer1/layer1.0/conv1/Conv"): a part that begins with the one before it replaces it. */
#include <stdlib.h>
#include <string.h>
#include "sparsify/kernels/team.h"
#include "sparsify/train/train_impl.h"

#define FIRST_LENGTH 64 /* of tokens, until data says what is needed */

/* ---- names ---- */

static bool looks_like_parameter(const char *s)
{
    static const char *const ends[] = { ".weight", ".bias", ".running_mean", ".running_var", ".gamma", ".beta" };
    size_t n = strlen(s);
    if (strchr(s, '/') || strchr(s, ':'))
        return false;
    for (size_t i = 0; i < WN_COUNT(ends); i++) {
        size_t m = strlen(ends[i]);
        if (n > m && strcmp(s + n - m, ends[i]) == 0)
            return true;
    }
    return false;
}

static const char *layer_of_name(struct wn_arena *arena, const char *name)
{
    const char *dot = strrchr(name, '.');
    return wn_arena_strndup(arena, name, dot ? (size_t)(dot - name) : strlen(name));
}

/** "/layer1/layer1.0/conv1/Conv" -> "layer1.0.conv1"; a name without '/' is the layer. */
static const char *layer_of_node(struct wn_arena *arena, const char *node)
{
    const char *last = strrchr(node, '/');
    if (!last)
        return wn_arena_strndup(arena, node, strlen(node));
    char *out = wn_arena_alloc(arena, strlen(node) + 1);
    if (!out)
        return NULL;
    size_t n = 0, prev = 0; /* out[prev, n): the part before */
    for (const char *p = node; p < last;) {
        p += *p == '/';
        size_t len = strcspn(p, "/");
        if (p >= last || len == 0)
            break;
        bool repeats = n > prev && len > n - prev && strncmp(p, out + prev, n - prev) == 0 && p[n - prev] == '.';
        if (repeats)
            n = prev;
        else if (n)
            out[n++] = '.';
        prev = n;
        memcpy(out + n, p, len);
        n += len;
        p += len;
    }
    if (n == 0)
        return wn_arena_strndup(arena, last + 1, strlen(last + 1));
    out[n] = '\0';
    return out;
}

static const char *suffix(enum wn_param_kind kind)
{
    switch (kind) {
    case WN_PARAM_MEAN:
        return "running_mean";
    case WN_PARAM_VAR:
        return "running_var";
    case WN_PARAM_BIAS:
    case WN_PARAM_SHIFT:
        return "bias";
    default:
        return "weight";
    }
}

static struct wn_tparam *find(const struct wn_trainer *tr, const char *name)
{
    for (size_t i = 0; i < tr->param.n; i++)
        if (strcmp(tr->param.at[i]->pub.name, name) == 0)
            return tr->param.at[i];
    return NULL;
}

/** Exporters transpose a layer's matrix and lose its name, but keep that of its bias: both get it. */
static bool name_by_bias(struct wn_trainer *tr, const struct wn_tparam *bias, const char *initializer,
                         const char **layer)
{
    struct wn_arena *a = &tr->param_arena;
    for (size_t i = 0; i < tr->param.n; i++) {
        struct wn_tparam *w = tr->param.at[i];
        if (strcmp(w->pub.node, bias->pub.node) != 0 || w->pub.kind != WN_PARAM_WEIGHT ||
            looks_like_parameter(tr->graph.values.at[w->vid].name))
            continue;
        const char *own = layer_of_name(a, initializer), *name = own ? wn_arena_printf(a, "%s.weight", own) : NULL;
        if (!name)
            return false;
        if (!find(tr, name)) {
            w->pub.name = name;
            w->pub.layer = *layer = own;
        }
    }
    return true;
}

static bool name_it(struct wn_trainer *tr, struct wn_tparam *p, const char *initializer)
{
    struct wn_arena *a = &tr->param_arena;
    const char *layer = NULL;
    for (size_t i = 0; i < tr->param.n && !layer; i++) /* the weight of the same node was first */
        if (strcmp(tr->param.at[i]->pub.node, p->pub.node) == 0)
            layer = tr->param.at[i]->pub.layer;
    bool own = looks_like_parameter(initializer);
    if (own && layer && p->pub.kind == WN_PARAM_BIAS && !name_by_bias(tr, p, initializer, &layer))
        return false;
    if (!layer)
        layer = own ? layer_of_name(a, initializer) : layer_of_node(a, p->pub.node);
    p->pub.layer = layer;
    p->pub.name = own ? wn_arena_strndup(a, initializer, strlen(initializer))
                      : wn_arena_printf(a, "%s.%s", layer ? layer : "", suffix(p->pub.kind));
    for (unsigned k = 2; p->pub.name && find(tr, p->pub.name); k++)
        p->pub.name = wn_arena_printf(a, "%s_%u.%s", layer, k, suffix(p->pub.kind));
    return p->pub.layer && p->pub.name;
}

/* ---- making parameters ---- */

static void load(struct wn_tparam *p, const float *from)
{
    size_t rows = (size_t)p->pub.dim[0], cols = p->pub.n / rows;
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            p->pub.w[r * cols + c] = p->rows_last ? from[c * rows + r] : from[r * cols + c];
}

void wn_tparam_store(const struct wn_tparam *p, float *to)
{
    size_t rows = (size_t)p->pub.dim[0], cols = p->pub.n / rows;
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            to[p->rows_last ? c * rows + r : r * cols + c] = p->pub.w[r * cols + c];
}

static struct wn_param *make(void *arg, wn_vid vid, const struct wn_node *node, const struct wn_node *bias_node,
                             enum wn_layer_class cls, enum wn_param_kind kind, unsigned rank, const int64_t *dim,
                             bool rows_last)
{
    (void)bias_node;
    struct wn_trainer *tr = arg;
    struct wn_arena *a = &tr->param_arena;
    struct wn_tparam *p = wn_arena_alloc(a, sizeof *p);
    if (!p)
        return NULL;
    struct wn_param *q = &p->pub;
    p->vid = vid;
    p->rows_last = rows_last;
    q->node = wn_arena_strndup(a, node->name, strlen(node->name));
    q->cls = cls;
    q->kind = kind;
    q->rank = rank;
    memcpy(q->dim, dim, rank * sizeof *dim);
    q->n = 1;
    for (unsigned i = 0; i < rank; i++)
        q->n *= (size_t)dim[i];
    q->kept = q->n;
    bool statistic = kind == WN_PARAM_MEAN || kind == WN_PARAM_VAR, table = cls == WN_LAYER_EMBEDDING;
    bool still = statistic || tr->opts.forward_only, adam = tr->opts.optimizer == WN_OPT_ADAMW;
    q->can_prune = kind == WN_PARAM_WEIGHT && !table;
    q->trainable = !still;
    q->decay = kind == WN_PARAM_WEIGHT;
    q->lr_scale = 1.0f;
    q->w = wn_arena_calloc(a, q->n, sizeof(float));
    if (!still) {
        q->g = wn_arena_calloc(a, q->n, sizeof(float));
        q->v = wn_arena_calloc(a, q->n, sizeof(float));
        q->v2 = adam ? wn_arena_calloc(a, q->n, sizeof(float)) : NULL;
        q->row = table ? wn_arena_calloc(a, (size_t)dim[0], sizeof *q->row) : NULL;
    }
    bool all = still || (q->g && q->v && (q->v2 || !adam) && (q->row || !table));
    if (!q->node || !q->w || !all || !name_it(tr, p, tr->graph.values.at[vid].name))
        return NULL;
    load(p, tr->graph.values.at[vid].constant->data);
    return wn_vec_push(&tr->param, p) ? q : NULL;
}

/** Order and what may be pruned by default: not the first convolution, not the classifier, not depthwise ones. */
static void classify(struct wn_trainer *tr)
{
    const struct wn_net_list *l = &tr->net.logical;
    struct wn_param *first = NULL, *last = NULL;
    unsigned order = 0;
    for (size_t i = 0; i < l->op.n; i++) {
        const struct wn_net_op *op = &l->op.at[i];
        if (!op->param[0])
            continue;
        for (unsigned k = 0; k < WN_OP_MAX_PARAMS; k++)
            if (op->param[k])
                op->param[k]->order = order;
        order++;
        struct wn_param *w = op->param[0];
        if (w->kind != WN_PARAM_WEIGHT || w->cls == WN_LAYER_EMBEDDING)
            continue;
        w->prunable = !(w->cls == WN_LAYER_CONV && op->u.conv.groups > 1 && w->dim[1] == 1);
        first = first ? first : w;
        last = w;
    }
    if (first && first->cls == WN_LAYER_CONV)
        first->prunable = false;
    if (last)
        last->prunable = false;
}

static void carry_over(struct wn_trainer *tr, struct wn_tparam *const *old, size_t n_old)
{
    for (size_t i = 0; i < tr->param.n; i++) {
        struct wn_tparam *p = tr->param.at[i];
        for (size_t k = 0; k < n_old; k++) {
            const struct wn_tparam *o = old[k];
            if (strcmp(o->pub.name, p->pub.name) != 0 || o->pub.n != p->pub.n || o->pub.kind != p->pub.kind)
                continue;
            if (p->pub.v)
                memcpy(p->pub.v, o->pub.v, p->pub.n * sizeof(float));
            if (p->pub.v2 && o->pub.v2)
                memcpy(p->pub.v2, o->pub.v2, p->pub.n * sizeof(float));
            p->pub.moves = o->pub.moves;
            if (o->pub.mask) {
                p->pub.mask = wn_arena_memdup(&tr->param_arena, o->pub.mask, p->pub.n);
                p->pub.kept = o->pub.kept;
            }
            p->pub.trainable = o->pub.trainable;
            p->pub.decay = o->pub.decay;
            p->pub.lr_scale = o->pub.lr_scale;
            p->stats_frozen = o->stats_frozen;
        }
    }
}

/* A layer's output and what it is added to. */
static bool is_residual_sum(const struct wn_net *net, const struct wn_net_op *op)
{
    const struct wn_net_list *l = &net->logical;
    for (unsigned k = 0; k < op->n_in && op->rule == &wn_rule_add; k++) {
        const int maker = l->val.at[op->in[k]].maker;
        if (maker >= 0 && l->op.at[maker].rule == &wn_rule_linear)
            return true;
    }
    return false;
}

/* Norms of embeddings stay f32: what a table holds is spread wider than what layers make. */
static bool is_norm_of_sum(const struct wn_net *net, const struct wn_net_op *op)
{
    const struct wn_net_list *l = &net->logical;
    const int maker = op->rule == &wn_rule_norm ? l->val.at[op->in[0]].maker : -1;
    return maker >= 0 && is_residual_sum(net, &l->op.at[maker]);
}

/* GELU, sums and norms were asked for: those stay f32 that share an input with one that reads f32, for the exported graph
 * has one pair for all that read a value, or one for layers alone. */
static void mark_between(const struct wn_trainer *tr, struct wn_net *net)
{
    const struct wn_quant_opts *q = &tr->quant_opts;
    bool changed = true;
    for (size_t i = 0; i < net->logical.op.n; i++) {
        struct wn_net_op *op = &net->logical.op.at[i];
        op->quant |= (op->rule == &wn_rule_gelu && q->gelu) || (q->norms && is_norm_of_sum(net, op)) ||
                     (q->sums && is_residual_sum(net, op));
    }
    while (changed) {
        changed = false;
        for (size_t i = 0; i < net->logical.op.n; i++) {
            struct wn_net_op *op = &net->logical.op.at[i];
            const bool between = op->rule == &wn_rule_gelu || op->rule == &wn_rule_norm || op->rule == &wn_rule_add;
            for (unsigned k = 0; k < op->n_in && between && op->quant; k++)
                if (!wn_net_all_read_quantized(net, op->in[k])) {
                    op->quant = false;
                    changed = true;
                }
        }
    }
}

static void mark_quantized(const struct wn_trainer *tr, struct wn_net *net)
{
    for (size_t i = 0; i < net->logical.op.n; i++) {
        struct wn_net_op *op = &net->logical.op.at[i];
        bool weighted = op->rule == &wn_rule_conv || op->rule == &wn_rule_linear;
        bool table = op->rule == &wn_rule_embed && tr->quant_opts.tables;
        op->quant = tr->quant && (weighted || table) && !wn_trainer_ignores(tr, op->param[0]->layer);
        if (op->rule == &wn_rule_bmm)
            op->quant = tr->quant && tr->quant_opts.products;
    }
    if (tr->quant && !net->pictures)
        mark_between(tr, net);
}

/** Put fake-quantizers into the logical operators; observers seen before keep their ranges. */
static enum winnow_status quantize(struct wn_trainer *tr, const struct wn_observer *old, size_t n_old,
                                   struct winnow_err *err)
{
    struct wn_net *net = &tr->net;
    mark_quantized(tr, net);
    size_t n_vals = net->logical.val.n;
    tr->observer = wn_arena_calloc(&tr->param_arena, n_vals + 1, sizeof *tr->observer);
    bool *want = calloc(n_vals + 1, sizeof *want);
    if (!tr->observer || !want) {
        free(want);
        return wn_fail(err, WINNOW_E_NOMEM, "quantization");
    }
    for (size_t v = 0; v < n_vals; v++)
        want[v] =
            ((int)v == net->logical.input || net->logical.val.at[v].maker >= 0) && wn_net_wants_observer(net, (int)v);
    tr->n_observers = 0;
    enum winnow_status s = WINNOW_OK;
    for (size_t v = 0; v < n_vals && s == WINNOW_OK; v++) {
        if (!want[v])
            continue;
        struct wn_observer *ob = &tr->observer[tr->n_observers++];
        ob->vid = net->logical.val.at[v].vid;
        ob->value = tr->graph.values.at[ob->vid].name;
        for (size_t k = 0; k < n_old; k++)
            if (old[k].vid == ob->vid) {
                ob->lo = old[k].lo;
                ob->hi = old[k].hi;
                ob->seen = old[k].seen;
            }
        s = wn_net_insert_fq(net, (int)v, ob, err);
    }
    free(want);
    return s;
}

enum winnow_status wn_trainer_rebuild(struct wn_trainer *tr, struct winnow_err *err)
{
    struct wn_arena old_arena = tr->param_arena;
    struct wn_tparam **old = tr->param.at;
    size_t n_old = tr->param.n;
    struct wn_observer *old_ob = tr->observer;
    size_t n_ob = tr->n_observers;
    memset(&tr->param_arena, 0, sizeof tr->param_arena);
    memset(&tr->param, 0, sizeof tr->param);
    tr->observer = NULL;
    tr->n_observers = 0;
    wn_trainer_drop_parked(tr, false);
    int64_t length = tr->net.length ? tr->net.length : FIRST_LENGTH;
    wn_net_done(&tr->net);
    struct wn_net_maker maker = { tr, make };
    enum winnow_status s = wn_net_import(&tr->net, &tr->graph, tr->opts.batch, length, &maker, err);
    if (s == WINNOW_OK) {
        classify(tr);
        carry_over(tr, old, n_old);
        if (tr->quant)
            s = quantize(tr, old_ob, n_ob, err);
    }
    for (size_t i = 0; i < tr->param.n && s == WINNOW_OK; i++)
        if (tr->param.at[i]->stats_frozen)
            wn_trainer_freeze_bn_stats(tr, tr->param.at[i]->pub.layer, true);
    free(old);
    wn_arena_done(&old_arena);
    tr->plan_dirty = true;
    return s;
}

/* ---- the graph read again for another length ---- */

static struct wn_param *there(void *arg, wn_vid vid, const struct wn_node *node, const struct wn_node *bias_node,
                              enum wn_layer_class cls, enum wn_param_kind kind, unsigned rank, const int64_t *dim,
                              bool rows_last)
{
    const struct wn_trainer *tr = arg;
    (void)node, (void)bias_node, (void)cls, (void)rank, (void)dim, (void)rows_last;
    for (size_t i = 0; i < tr->param.n; i++)
        if (tr->param.at[i]->vid == vid && tr->param.at[i]->pub.kind == kind)
            return &tr->param.at[i]->pub;
    return NULL;
}

enum winnow_status wn_trainer_import_again(struct wn_trainer *tr, struct wn_net *net, int64_t length,
                                           struct winnow_err *err)
{
    const struct wn_net *like = &tr->net;
    struct wn_net_maker maker = { tr, there };
    *net = (struct wn_net){ .dense = like->dense,
                            .kern = like->kern,
                            .rows = like->rows,
                            .threads = like->threads,
                            .max_floats = like->max_floats,
                            .no_sparse = like->no_sparse,
                            .all_sparse = like->all_sparse,
                            .no_fuse = like->no_fuse,
                            .seed = like->seed,
                            .pool = like->pool };
    WN_TRY(wn_net_import(net, &tr->graph, tr->opts.batch, length, &maker, err));
    mark_quantized(tr, net);
    for (size_t i = 0; tr->quant && i < tr->n_observers; i++) /* each value had one of its own before */
        for (size_t v = 0; v < net->logical.val.n; v++)
            if (net->logical.val.at[v].vid == tr->observer[i].vid) {
                WN_TRY(wn_net_insert_fq(net, (int)v, &tr->observer[i], err));
                break;
            }
    return WINNOW_OK;
}

void wn_trainer_sync(struct wn_trainer *tr)
{
    for (size_t i = 0; i < tr->param.n; i++) {
        const struct wn_tparam *p = tr->param.at[i];
        wn_tparam_store(p, tr->graph.values.at[p->vid].constant->data); /* copied by us: writable */
    }
}

enum winnow_status wn_trainer_ready(struct wn_trainer *tr, struct winnow_err *err)
{
    if (!tr->plan_dirty && tr->net.planned)
        return WINNOW_OK;
    if (tr->plan_dirty)
        wn_trainer_drop_parked(tr, true);
    wn_team_size(tr->opts.threads);
    WN_TRY(wn_net_plan(&tr->net, err));
    tr->plan_dirty = false;
    return WINNOW_OK;
}

/* ---- what the interface offers ---- */

unsigned wn_trainer_n_params(const struct wn_trainer *tr)
{
    return (unsigned)tr->param.n;
}

struct wn_param *wn_trainer_param(struct wn_trainer *tr, unsigned i)
{
    return &tr->param.at[i]->pub;
}

struct wn_param *wn_trainer_find_param(struct wn_trainer *tr, const char *name)
{
    struct wn_tparam *p = find(tr, name);
    return p ? &p->pub : NULL;
}

static void apply_mask(struct wn_param *p)
{
    for (size_t k = 0; p->mask && k < p->n; k++)
        if (!p->mask[k])
            p->w[k] = p->g[k] = p->v[k] = 0.0f;
    for (size_t k = 0; p->mask && p->v2 && k < p->n; k++)
        if (!p->mask[k])
            p->v2[k] = 0.0f;
}

void wn_trainer_param_changed(struct wn_trainer *tr, struct wn_param *p)
{
    WN_CHECK_MAGIC(tr, WN_TRAINER_MAGIC);
    apply_mask(p);
}

enum winnow_status wn_trainer_set_mask(struct wn_trainer *tr, struct wn_param *p, const uint8_t *mask,
                                       struct winnow_err *err)
{
    WN_CHECK_MAGIC(tr, WN_TRAINER_MAGIC);
    if (!p->can_prune)
        return wn_fail(err, WINNOW_E_UNSUPPORTED, "parameter '%s' cannot be masked", p->name);
    if (mask && !p->mask && !(p->mask = wn_arena_alloc(&tr->param_arena, p->n)))
        return wn_fail(err, WINNOW_E_NOMEM, "mask of '%s'", p->name);
    tr->plan_dirty = true;
    if (!mask) {
        p->mask = NULL; /* its memory goes with the parameters */
        p->kept = p->n;
        return WINNOW_OK;
    }
    p->kept = 0;
    for (size_t k = 0; k < p->n; k++)
        p->kept += p->mask[k] = mask[k] != 0;
    apply_mask(p);
    return WINNOW_OK;
}

void wn_trainer_set_trainable(struct wn_trainer *tr, struct wn_param *p, bool trainable)
{
    if (p->kind == WN_PARAM_MEAN || p->kind == WN_PARAM_VAR || p->trainable == trainable)
        return;
    p->trainable = trainable;
    tr->plan_dirty = true;
}

void wn_trainer_freeze_bn_stats(struct wn_trainer *tr, const char *layer, bool frozen)
{
    struct wn_net_list *lists[] = { &tr->net.logical, &tr->net.plan };
    for (unsigned k = 0; k < WN_COUNT(lists); k++)
        for (size_t i = 0; i < lists[k]->op.n; i++) {
            struct wn_net_op *op = &lists[k]->op.at[i];
            if (op->rule != &wn_rule_bn || (layer && strcmp(op->param[0]->layer, layer) != 0))
                continue;
            op->u.bn.frozen = frozen;
            wn_tparam(op->param[2])->stats_frozen = frozen;
        }
}

bool wn_trainer_ignores(const struct wn_trainer *tr, const char *layer)
{
    for (unsigned i = 0; i < tr->quant_opts.n_ignore; i++)
        if (strcmp(tr->quant_opts.ignore[i], layer) == 0)
            return true;
    return false;
}
