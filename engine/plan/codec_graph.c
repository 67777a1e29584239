/* codec_graph.c: graphs in an image (codec.h). */
#include <string.h>
#include "engine/ops/ops.h"
#include "engine/passes/fused.h"
#include "engine/plan/codec.h"

#define MAX_NODES ((size_t)1 << 24)
#define MAX_DEPTH 64 /* of sub-graphs */

struct walk {
    wn_codec_data_fn *data_of;
    void *arg;
    unsigned depth;
};

/* Room for n elements of a vector that is read. */
#define ROOM(im, vec)                                                                                                  \
    do {                                                                                                               \
        if ((im)->reading && (vec)->n) {                                                                               \
            size_t n_ = (vec)->n;                                                                                      \
            (vec)->n = 0;                                                                                              \
            if (!wn_vec_reserve((vec), n_))                                                                            \
                (im)->bad = true;                                                                                      \
            else                                                                                                       \
                memset((vec)->at, 0, n_ * sizeof *(vec)->at), (vec)->n = n_;                                           \
        }                                                                                                              \
    } while (0)

#define VEC(im, vec)                                                                                                   \
    do {                                                                                                               \
        wn_codec_count((im), &(vec)->n, MAX_NODES);                                                                    \
        ROOM(im, vec);                                                                                                 \
    } while (0)

/* ---- parameters of fused operators ---- */

enum params { NONE, F32, Q8, DYN, GEOM, LACE, ELT, ATTN, QATTN, RECURRENT, NORM };

static const struct {
    const char *type;
    enum params params;
    size_t size;
} fused_types[] = {
    { "Conv", F32, sizeof(struct wn_fused_f32) },
    { "Linear", F32, sizeof(struct wn_fused_f32) },
    { "QConv", Q8, sizeof(struct wn_fused_q8) },
    { "QLinear", Q8, sizeof(struct wn_fused_q8) },
    { "DLinear", DYN, sizeof(struct wn_fused_dyn) },
    { "Im2col", GEOM, sizeof(struct wn_conv_geom) },
    { "Interleave", LACE, sizeof(struct wn_fused_interleave) },
    { "QAdd", ELT, sizeof(struct wn_fused_qelt) },
    { "QGlobalAveragePool", ELT, sizeof(struct wn_fused_qelt) },
    { "QAveragePool", ELT, sizeof(struct wn_fused_qelt) },
    { "Quantize", ELT, sizeof(struct wn_fused_qelt) },
    { "Dequantize", ELT, sizeof(struct wn_fused_qelt) },
    { "Requantize", ELT, sizeof(struct wn_fused_qelt) },
    { "QLayerNorm", NORM, sizeof(struct wn_fused_qnorm) },
    { "Attention", ATTN, sizeof(struct wn_fused_attn) },
    { "QAttention", QATTN, sizeof(struct wn_fused_qattn) },
    { "Recurrent", RECURRENT, sizeof(struct wn_recurrent) },
};

/* Outputs of a layer: rows of its constant weights. */
static size_t outputs_of(struct wn_codec *im, const struct wn_graph *g, const struct wn_node *node)
{
    const struct wn_tensor *w = node->n_in > 1 && node->in[1] < g->values.n ? g->values.at[node->in[1]].constant : NULL;
    if (w && w->rank > 0)
        return (size_t)w->dim[0];
    im->bad = true;
    return 0;
}

/* What the copied parameters point at. */
static void pointers(struct wn_codec *im, const struct wn_graph *g, const struct wn_node *node, enum params params,
                     void *fused)
{
    struct wn_fused_f32 *f = fused;
    struct wn_fused_q8 *q = fused;
    struct wn_fused_dyn *d = fused;
    struct wn_fused_qelt *e = fused;
    switch (params) {
    case F32:
        wn_codec_text(im, &f->note);
        return;
    case Q8: {
        const size_t n = outputs_of(im, g, node) * sizeof(float);
        wn_codec_blob(im, (const void **)&q->mul, n);
        wn_codec_blob(im, (const void **)&q->w_zp, n);
        wn_codec_blob(im, (const void **)&q->table, q->table ? 256 : 0);
        return;
    }
    case DYN: {
        const size_t n = outputs_of(im, g, node) * sizeof(float);
        wn_codec_blob(im, (const void **)&d->w_scale, n);
        wn_codec_blob(im, (const void **)&d->w_zp, n);
        return;
    }
    case ELT:
        wn_codec_blob(im, (const void **)&e->table, e->table ? 256 : 0);
        return;
    default:
        return;
    }
}

static void fused_image(struct wn_codec *im, const struct wn_graph *g, struct wn_node *node)
{
    union {
        struct wn_fused_f32 f;
        struct wn_fused_q8 q;
        struct wn_fused_dyn d;
        struct wn_conv_geom geom;
        struct wn_fused_interleave lace;
        struct wn_fused_qelt e;
        struct wn_fused_attn attn;
        struct wn_fused_qattn qattn;
        struct wn_recurrent recurrent;
        struct wn_fused_qnorm norm;
    } u;
    bool there = node->fused != NULL;
    wn_codec_bool(im, &there);
    if (im->reading)
        node->fused = NULL;
    if (!there || im->bad)
        return;
    size_t i = 0;
    while (i < WN_COUNT(fused_types) && strcmp(node->op_type, fused_types[i].type) != 0)
        i++;
    if (i == WN_COUNT(fused_types) || strcmp(node->domain, "wn") != 0) {
        im->bad = true;
        return;
    }
    if (!im->reading)
        memcpy(&u, node->fused, fused_types[i].size);
    wn_codec_bytes(im, &u, fused_types[i].size);
    if (im->bad)
        return;
    pointers(im, g, node, fused_types[i].params, &u);
    if (im->reading && !(node->fused = wn_arena_memdup(im->arena, &u, fused_types[i].size)))
        im->bad = true;
}

/* ---- nodes ---- */

static void graph_image(struct wn_codec *im, struct wn_graph *g, const struct wn_graph *outer, struct walk *w);

static void vids(struct wn_codec *im, const struct wn_graph *g, wn_vid **ids, size_t n)
{
    wn_codec_copied(im, (const void **)ids, n * sizeof **ids);
    if (im->reading && !*ids && !(*ids = wn_arena_alloc(im->arena, 1)))
        im->bad = true;
    for (size_t i = 0; i < n && !im->bad; i++)
        im->bad = (*ids)[i] != WN_NONE && (*ids)[i] >= g->values.n;
}

static void string_image(struct wn_codec *im, struct winnow_str *s)
{
    wn_codec_count(im, &s->n, (size_t)1 << 24);
    wn_codec_copied(im, (const void **)&s->p, s->n);
    if (im->reading && !s->p)
        s->p = "";
}

static void attr_image(struct wn_codec *im, const struct wn_graph *g, struct wn_attr *a, struct walk *w)
{
    wn_codec_text(im, &a->name);
    WN_CODEC(im, a->kind);
    WN_CODEC(im, a->i);
    WN_CODEC(im, a->f);
    wn_codec_count(im, &a->n, (size_t)1 << 24);
    if (a->kind == WN_ATTR_STRING)
        string_image(im, &a->s);
    if (a->kind == WN_ATTR_TENSOR)
        wn_codec_tensor(im, &a->t, im->reading ? NULL : a->t->data);
    if (a->kind == WN_ATTR_INTS)
        wn_codec_copied(im, (const void **)&a->ints, a->n * sizeof *a->ints);
    if (a->kind == WN_ATTR_FLOATS)
        wn_codec_copied(im, (const void **)&a->floats, a->n * sizeof *a->floats);
    if (a->kind == WN_ATTR_STRINGS) {
        struct winnow_str *strs = (struct winnow_str *)(uintptr_t)a->strs;
        if (im->reading && !(strs = wn_arena_calloc(im->arena, a->n + 1, sizeof *strs)))
            im->bad = true;
        for (size_t i = 0; i < a->n && !im->bad; i++)
            string_image(im, &strs[i]);
        if (im->reading)
            a->strs = strs;
    }
    if (a->kind == WN_ATTR_GRAPH && !im->bad) {
        struct wn_graph *sub = im->reading ? wn_arena_calloc(im->arena, 1, sizeof *sub) : a->g;
        if (!sub || w->depth >= MAX_DEPTH) {
            im->bad = true;
            return;
        }
        w->depth++;
        graph_image(im, sub, g, w);
        w->depth--;
        if (im->reading)
            a->g = sub;
    }
    if (im->bad || !a->name || (a->kind == WN_ATTR_TENSOR && !a->t) || a->kind > WN_ATTR_GRAPH ||
        (a->n && a->kind == WN_ATTR_INTS && !a->ints) || (a->n && a->kind == WN_ATTR_FLOATS && !a->floats))
        im->bad = true;
}

static void node_image(struct wn_codec *im, struct wn_graph *g, struct wn_node *node, struct walk *w)
{
    wn_codec_text(im, &node->name);
    wn_codec_text(im, &node->domain);
    wn_codec_text(im, &node->op_type);
    WN_CODEC(im, node->opset);
    wn_codec_bool(im, &node->dead);
    WN_CODEC(im, node->n_in);
    WN_CODEC(im, node->n_out);
    vids(im, g, &node->in, node->n_in);
    vids(im, g, &node->out, node->n_out);
    size_t n_attr = node->n_attr;
    wn_codec_count(im, &n_attr, 256);
    if (im->reading) {
        node->n_attr = 0; /* counts the finished ones, for wn_graph_done() */
        if (!(node->attr = wn_arena_calloc(im->arena, n_attr + 1, sizeof *node->attr)))
            im->bad = true;
    }
    for (size_t i = 0; i < n_attr && !im->bad; i++) {
        attr_image(im, g, &node->attr[i], w);
        if (im->reading)
            node->n_attr += node->attr[i].name && (node->attr[i].kind != WN_ATTR_GRAPH || node->attr[i].g);
    }
    if (im->bad || !node->name || !node->domain || !node->op_type) {
        im->bad = true;
        return;
    }
    fused_image(im, g, node);
    if (im->reading && !im->bad && !node->dead) {
        node->op = strcmp(node->domain, "wn") == 0 ? wn_fused_op(node->op_type)
                                                   : wn_ops_find(node->domain, node->op_type, node->opset);
        im->bad |= !node->op || node->n_in > WN_OP_MAX_IN || node->n_in < node->op->min_in;
    }
}

static void value_image(struct wn_codec *im, const struct wn_graph *g, struct wn_value *v, const struct walk *w)
{
    wn_codec_text(im, &v->name);
    WN_CODEC(im, v->type);
    WN_CODEC(im, v->producer);
    wn_codec_bool(im, &v->outer);
    for (unsigned d = 0; d < WINNOW_MAX_RANK; d++)
        wn_codec_text(im, &v->dim_name[d]);
    const void *data = im->reading || !v->constant ? NULL
                       : g->outer                  ? v->constant->data
                                                   : w->data_of(w->arg, v->constant);
    wn_codec_tensor(im, &v->constant, data);
    im->bad |= !v->name || v->type.rank > WINNOW_MAX_RANK;
}

/* ---- graphs ---- */

static void graph_image(struct wn_codec *im, struct wn_graph *g, const struct wn_graph *outer, struct walk *w)
{
    if (im->reading) {
        wn_graph_init(g, im->arena);
        g->outer = outer;
    }
    wn_codec_text(im, &g->name);
    wn_codec_text(im, &g->producer);
    WN_CODEC(im, g->ir_version);
    VEC(im, &g->opsets);
    for (size_t i = 0; i < g->opsets.n; i++) {
        wn_codec_text(im, &g->opsets.at[i].domain);
        WN_CODEC(im, g->opsets.at[i].version);
    }
    VEC(im, &g->meta);
    for (size_t i = 0; i < g->meta.n; i++) {
        wn_codec_text(im, &g->meta.at[i].key);
        wn_codec_text(im, &g->meta.at[i].value);
    }
    VEC(im, &g->external);
    for (size_t i = 0; i < g->external.n; i++)
        wn_codec_text(im, &g->external.at[i]);
    VEC(im, &g->values);
    for (size_t i = 0; i < g->values.n && !im->bad; i++)
        value_image(im, g, &g->values.at[i], w);
    VEC(im, &g->inputs);
    VEC(im, &g->outputs);
    if (g->inputs.n)
        wn_codec_bytes(im, g->inputs.at, g->inputs.n * sizeof *g->inputs.at);
    if (g->outputs.n)
        wn_codec_bytes(im, g->outputs.at, g->outputs.n * sizeof *g->outputs.at);
    for (size_t i = 0; i < g->inputs.n && !im->bad; i++)
        im->bad = g->inputs.at[i] >= g->values.n;
    for (size_t i = 0; i < g->outputs.n && !im->bad; i++)
        im->bad = g->outputs.at[i] >= g->values.n;
    VEC(im, &g->nodes);
    for (size_t i = 0; i < g->nodes.n && !im->bad; i++)
        node_image(im, g, &g->nodes.at[i], w);
    for (size_t i = 0; i < g->values.n && !im->bad; i++)
        im->bad = g->values.at[i].producer != WN_NONE && g->values.at[i].producer >= g->nodes.n;
    im->bad |= !g->name || !g->producer;
}

void wn_codec_graph(struct wn_codec *im, struct wn_graph *g, wn_codec_data_fn *data_of, void *arg)
{
    struct walk w = { data_of, arg, 0 };
    graph_image(im, g, NULL, &w);
}
