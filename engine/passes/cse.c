/* cse.c: what is computed twice is computed once: nodes with the same operator, inputs and attributes, and small
 * constants of the same content (exporters write one for every use). An attention mask that every layer of a
 * transformer derives anew from the mask input is derived once. */
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>
#include "engine/passes/impl.h"

#define SMALL 256 /* bytes of a constant that is worth comparing */

struct cse {
    struct wn_graph *g;
    wn_vid *alias;   /* [values] */
    bool *is_output; /* [values] */
    uint32_t *table; /* open addressing: 1 + node id, or n_nodes + 1 + value id */
    size_t mask, n_nodes;
};

static void cse_done(struct cse *c)
{
    free(c->alias);
    free(c->is_output);
    free(c->table);
}

static bool has_subgraphs(const struct wn_graph *g)
{
    for (size_t i = 0; i < g->nodes.n; i++)
        for (unsigned a = 0; a < g->nodes.at[i].n_attr; a++)
            if (g->nodes.at[i].attr[a].kind == WN_ATTR_GRAPH)
                return true;
    return false;
}

/* Quantization stays doubled: its passes want a DequantizeLinear of each layer's own. */
static bool wanted(const struct cse *c, const struct wn_node *node)
{
    if (node->dead || *node->domain || !node->n_out || !node->n_in || wn_node_is(node, "QuantizeLinear") ||
        wn_node_is(node, "DequantizeLinear"))
        return false;
    for (unsigned i = 0; i < node->n_out; i++)
        if (node->out[i] != WN_NONE && c->is_output[node->out[i]])
            return false;
    return true;
}

static uint64_t hash_node(const struct wn_node *node)
{
    uint64_t h = XXH3_64bits(node->op_type, strlen(node->op_type));
    return XXH3_64bits_withSeed(node->in, node->n_in * sizeof *node->in, h + node->n_out);
}

static bool same_str(struct winnow_str a, struct winnow_str b)
{
    return a.n == b.n && (!a.n || memcmp(a.p, b.p, a.n) == 0);
}

static bool same_tensor(const struct wn_tensor *a, const struct wn_tensor *b)
{
    return a == b ||
           (a && b && a->dtype == b->dtype && a->dtype != WINNOW_STRING && a->rank == b->rank && a->bytes == b->bytes &&
            memcmp(a->dim, b->dim, a->rank * sizeof a->dim[0]) == 0 && memcmp(a->data, b->data, a->bytes) == 0);
}

static bool same_attr(const struct wn_attr *a, const struct wn_attr *b)
{
    if (!b || a->kind != b->kind || a->n != b->n)
        return false;
    switch (a->kind) {
    case WN_ATTR_INT:
        return a->i == b->i;
    case WN_ATTR_FLOAT:
        return memcmp(&a->f, &b->f, sizeof a->f) == 0;
    case WN_ATTR_STRING:
        return same_str(a->s, b->s);
    case WN_ATTR_TENSOR:
        return same_tensor(a->t, b->t);
    case WN_ATTR_INTS:
        return !a->n || memcmp(a->ints, b->ints, a->n * sizeof *a->ints) == 0;
    case WN_ATTR_FLOATS:
        return !a->n || memcmp(a->floats, b->floats, a->n * sizeof *a->floats) == 0;
    case WN_ATTR_STRINGS:
        for (size_t i = 0; i < a->n; i++)
            if (!same_str(a->strs[i], b->strs[i]))
                return false;
        return true;
    default:
        return false;
    }
}

static bool same_node(const struct wn_node *a, const struct wn_node *b)
{
    if (a->n_in != b->n_in || a->n_out != b->n_out || a->n_attr != b->n_attr || a->opset != b->opset ||
        strcmp(a->op_type, b->op_type) != 0 || memcmp(a->in, b->in, a->n_in * sizeof *a->in) != 0)
        return false;
    for (unsigned i = 0; i < a->n_out; i++)
        if ((a->out[i] == WN_NONE) != (b->out[i] == WN_NONE))
            return false;
    for (unsigned i = 0; i < a->n_attr; i++)
        if (!same_attr(&a->attr[i], wn_node_attr(b, a->attr[i].name)))
            return false;
    return true;
}

/* Slot of an equal entry, or the free one for it. `id` is a node's, or a value's above the nodes'. */
static uint32_t *find(const struct cse *c, uint64_t hash, size_t id)
{
    for (size_t at = hash & c->mask;; at = (at + 1) & c->mask) {
        uint32_t there = c->table[at];
        if (!there)
            return &c->table[at];
        bool value = there > c->n_nodes;
        if (value != (id >= c->n_nodes))
            continue;
        if (value ? same_tensor(c->g->values.at[there - 1 - c->n_nodes].constant,
                                c->g->values.at[id - c->n_nodes].constant)
                  : same_node(&c->g->nodes.at[there - 1], &c->g->nodes.at[id]))
            return &c->table[at];
    }
}

static void merge_constants(struct cse *c)
{
    for (wn_vid v = 0; v < c->g->values.n; v++) {
        const struct wn_tensor *t = c->g->values.at[v].constant;
        if (!t || t->bytes > SMALL || t->dtype == WINNOW_STRING || c->is_output[v])
            continue;
        uint32_t *slot = find(c, XXH3_64bits_withSeed(t->data, t->bytes, t->dtype), c->n_nodes + v);
        if (*slot)
            c->alias[v] = *slot - 1 - (uint32_t)c->n_nodes;
        else
            *slot = (uint32_t)(c->n_nodes + v) + 1;
    }
}

static void merge_nodes(struct cse *c)
{
    for (size_t i = 0; i < c->n_nodes; i++) {
        struct wn_node *node = &c->g->nodes.at[i];
        for (unsigned k = 0; !node->dead && k < node->n_in; k++)
            if (node->in[k] != WN_NONE)
                node->in[k] = c->alias[node->in[k]];
        if (!wanted(c, node))
            continue;
        uint32_t *slot = find(c, hash_node(node), i);
        if (!*slot) {
            *slot = (uint32_t)i + 1;
            continue;
        }
        const struct wn_node *first = &c->g->nodes.at[*slot - 1];
        for (unsigned k = 0; k < node->n_out; k++)
            if (node->out[k] != WN_NONE) {
                c->alias[node->out[k]] = first->out[k];
                c->g->values.at[node->out[k]].producer = WN_NONE;
            }
        node->dead = true; /* inputs were changed behind the use counts, which the next sort drops */
    }
}

enum winnow_status wn_pass_cse(struct wn_graph *g, struct winnow_err *err)
{
    if (has_subgraphs(g) || g->nodes.n + g->values.n > UINT32_MAX / 4)
        return WINNOW_OK;
    WN_CLEANUP(cse_done) struct cse c = { .g = g, .mask = 1, .n_nodes = g->nodes.n };
    while (c.mask < 2 * (g->nodes.n + g->values.n) + 2)
        c.mask *= 2;
    c.alias = malloc((g->values.n + 1) * sizeof *c.alias);
    c.is_output = calloc(g->values.n + 1, sizeof *c.is_output);
    c.table = calloc(c.mask, sizeof *c.table);
    c.mask--;
    if (!c.alias || !c.is_output || !c.table)
        return wn_fail(err, WINNOW_E_NOMEM, "a graph of %zu nodes", g->nodes.n);
    for (wn_vid v = 0; v < g->values.n; v++)
        c.alias[v] = v;
    for (size_t i = 0; i < g->outputs.n; i++)
        c.is_output[g->outputs.at[i]] = true;
    merge_constants(&c);
    merge_nodes(&c);
    return WINNOW_OK;
}
