/* conv_transpose.c: ConvTranspose with constant f32 weights becomes convolutions, one for each of its stride's phases,
 * and an Interleave of their results.
 *
 * Along one axis, output o = i * s + k - p for input i and tap k. The outputs of phase a (o mod s = a) meet the taps
 * k = r, r + s, ..., r = (a + p) mod s: a convolution of T = ceil((K - r) / s) taps, turned round, whose output j is o
 * = a + j * s and reads the inputs q + j - (T - 1) ... q + j, q = (a + p - r) / s. So no product is with a zero that
 * was put between, and the phases are layers as all others: bias, batch normalization and activation go into them. */
#include <math.h>
#include <string.h>
#include "engine/passes/match.h"
#include "engine/passes/quant.h"

#define FAR ((int64_t)1 << 20) /* an extent: paddings do not depend on it */

struct axis {
    int64_t K, s, p, end; /* taps, stride, padding before; by how much more the last output's tap reaches */
    struct phase {
        int64_t r, T, before, after, skip;
    } phase[WN_INTERLEAVE_MAX];
};

struct layer {
    struct wn_node node; /* a copy */
    const struct wn_tensor *w;
    wn_vid bias, y;
    struct wn_node *end[2]; /* nodes behind it that go into it */
    unsigned n_end;
    int spatial;
    int64_t groups, C, O; /* O: of all groups */
    struct axis h, w_axis;
};

/* False where some phase has no tap: its outputs are the bias alone. */
static bool axis_init(struct axis *x, int64_t K, int64_t s, int64_t p, int64_t p_end, int64_t more)
{
    *x = (struct axis){ .K = K, .s = s, .p = p };
    if (K < 1 || s < 1 || s > WN_INTERLEAVE_MAX || p < 0 || p_end < 0 || more < 0 || p >= FAR / 2 || p_end >= FAR / 2 ||
        K >= FAR / 2 || more >= s)
        return false;
    x->end = K - s - p - p_end + more;
    const int64_t out = FAR * s + x->end;
    for (int64_t a = 0; a < s; a++) {
        struct phase *f = &x->phase[a];
        f->r = (a + p) % s;
        f->T = (K - f->r + s - 1) / s;
        const int64_t q = (a + p - f->r) / s, n = (out - a + s - 1) / s;
        if (f->T < 1)
            return false;
        f->before = WN_MAX(f->T - 1 - q, 0);
        f->skip = WN_MAX(q - (f->T - 1), 0);
        f->after = WN_MAX(q + n - FAR, f->T - 1 - f->before); /* an output even where the input is one element */
    }
    return true;
}

static int64_t attr_at(const struct wn_node *node, const char *name, size_t i, size_t n, int64_t def)
{
    size_t have;
    const int64_t *v = wn_node_ints(node, name, &have);
    return v && have == n ? v[i] : def;
}

static bool plain(const struct wn_node *node, size_t spatial)
{
    for (size_t i = 0; i < spatial; i++)
        if (attr_at(node, "dilations", i, spatial, 1) != 1)
            return false;
    return !wn_node_attr(node, "output_shape") && wn_node_str_is(node, "auto_pad", "NOTSET", "NOTSET");
}

static bool read_axis(const struct layer *l, size_t i, struct axis *ret)
{
    const size_t n = (size_t)l->spatial;
    const struct wn_node *node = &l->node;
    return axis_init(ret, l->w->dim[2 + i], attr_at(node, "strides", i, n, 1), attr_at(node, "pads", i, 2 * n, 0),
                     attr_at(node, "pads", n + i, 2 * n, 0), attr_at(node, "output_padding", i, n, 0));
}

static bool match(struct wn_graph *g, struct layer *l)
{
    l->w = wn_const_in(g, &l->node, 1);
    const struct wn_tensor *b = wn_const_in(g, &l->node, 2);
    if (!l->w || l->w->dtype != WINNOW_F32 || l->w->rank < 3 || l->w->rank > 4 || wn_tensor_count(l->w) == 0 ||
        (wn_in(&l->node, 2) != WN_NONE && (!b || b->dtype != WINNOW_F32)))
        return false;
    l->spatial = (int)l->w->rank - 2;
    l->groups = wn_node_int(&l->node, "group", 1);
    l->C = l->w->dim[0];
    l->O = l->w->dim[1] * l->groups;
    l->bias = wn_in(&l->node, 2);
    l->y = l->node.out[0];
    if (l->groups < 1 || l->C % l->groups || !plain(&l->node, (size_t)l->spatial) ||
        (b && (b->rank != 1 || b->dim[0] != l->O)))
        return false;
    if (l->spatial == 1)
        return axis_init(&l->h, 1, 1, 0, 0, 0) && read_axis(l, 0, &l->w_axis);
    return read_axis(l, 0, &l->h) && read_axis(l, 1, &l->w_axis) && l->h.s * l->w_axis.s <= WN_INTERLEAVE_MAX;
}

/* A bias that is added, and an activation, while nobody else looks at the value between. */
static bool take_end(struct wn_graph *g, struct layer *l)
{
    struct wn_node *next = wn_graph_only_user(g, l->y);
    struct wn_tensor b;
    float lo, hi;
    if (next && l->bias == WN_NONE && wn_node_is(next, "Add") &&
        wn_per_channel(g, wn_other_in(next, l->y), WINNOW_F32, l->O, l->spatial, &b) && b.dim[0] == l->O) {
        l->bias = wn_graph_add_const(g, NULL, WINNOW_F32, 1, b.dim, b.data);
        if (l->bias == WN_NONE)
            return false;
        l->end[l->n_end++] = next;
        l->y = next->out[0];
        next = wn_graph_only_user(g, l->y);
    }
    if (next && (wn_clamp_of(g, next, &lo, &hi) || wn_act_of(next, &lo) != WN_ACT_NONE)) {
        l->end[l->n_end++] = next;
        l->y = next->out[0];
    }
    return true;
}

/* (O, C / groups, T of both axes) */
static wn_vid phase_weights(struct wn_graph *g, const struct layer *l, const struct phase *h, const struct phase *w)
{
    const int64_t per_in = l->C / l->groups, per_out = l->O / l->groups, KH = l->h.K, KW = l->w_axis.K;
    int64_t dim[4] = { l->O, per_in, h->T, w->T };
    if (l->spatial == 1)
        dim[2] = w->T;
    wn_vid v = wn_graph_add_const(g, NULL, WINNOW_F32, l->w->rank, dim, NULL);
    float *to = v == WN_NONE ? NULL : g->values.at[v].constant->data;
    const float *from = l->w->data;
    for (int64_t o = 0; to && o < l->O; o++)
        for (int64_t c = 0; c < per_in; c++)
            for (int64_t y = 0; y < h->T; y++)
                for (int64_t x = 0; x < w->T; x++) {
                    const int64_t ky = h->r + l->h.s * (h->T - 1 - y), kx = w->r + l->w_axis.s * (w->T - 1 - x);
                    const int64_t in = o / per_out * per_in + c;
                    *to++ = from[((in * per_out + o % per_out) * KH + ky) * KW + kx];
                }
    return v;
}

/* A copy of the activation `act` (NULL: none) of v. */
static wn_vid activated(struct wn_graph *g, const struct wn_node *act, wn_vid v)
{
    wn_vid in[WN_OP_MAX_IN];
    if (!act || v == WN_NONE)
        return v;
    memcpy(in, act->in, act->n_in * sizeof *in);
    in[0] = v;
    wn_vid y = wn_graph_add_value(g, NULL, WINNOW_F32, -1, NULL);
    struct wn_node *made = y == WN_NONE ? NULL : wn_std_add(g, act->op_type, act->opset, act->name, in, act->n_in, y);
    if (!made)
        return WN_NONE;
    made->attr = act->attr;
    made->n_attr = act->n_attr;
    return y;
}

static wn_vid add_phase(struct wn_graph *g, const struct layer *l, const struct wn_node *act, const struct phase *h,
                        const struct phase *w)
{
    const wn_vid in[] = { l->node.in[0], phase_weights(g, l, h, w), l->bias };
    const int64_t pads2[] = { h->before, w->before, h->after, w->after }, pads1[] = { w->before, w->after };
    const wn_vid y = wn_graph_add_value(g, NULL, WINNOW_F32, -1, NULL);
    struct wn_node *conv = in[1] == WN_NONE || y == WN_NONE
                               ? NULL
                               : wn_std_add(g, "Conv", 11, l->node.name, in, l->bias == WN_NONE ? 2 : 3, y);
    if (!conv || !wn_node_set_int(g, conv, "group", l->groups) ||
        !wn_node_set_ints(g, conv, "pads", l->spatial == 2 ? pads2 : pads1, 2 * (size_t)l->spatial))
        return WN_NONE;
    return activated(g, act, y);
}

static enum winnow_status put(struct wn_graph *g, struct layer *l, struct winnow_err *err)
{
    struct wn_fused_interleave f = { .sh = (int32_t)l->h.s, .sw = (int32_t)l->w_axis.s };
    const struct wn_node last = l->n_end ? *l->end[l->n_end - 1] : l->node;
    const struct wn_node *act = l->n_end && !wn_node_is(&last, "Add") ? &last : NULL;
    wn_vid in[WN_INTERLEAVE_MAX];
    for (unsigned i = 0; i < l->n_end; i++)
        wn_graph_kill(g, l->end[i]);
    wn_graph_kill(g, wn_graph_producer(g, l->node.out[0]));
    for (int32_t a = 0; a < f.sh; a++)
        for (int32_t b = 0; b < f.sw; b++) {
            in[a * f.sw + b] = add_phase(g, l, act, &l->h.phase[a], &l->w_axis.phase[b]);
            if (in[a * f.sw + b] == WN_NONE)
                return WN_OOM(err, &l->node);
        }
    for (int32_t a = 0; a < f.sh; a++)
        f.skip_h[a] = (int32_t)l->h.phase[a].skip;
    for (int32_t b = 0; b < f.sw; b++)
        f.skip_w[b] = (int32_t)l->w_axis.phase[b].skip;
    /* the first phase's extent is the input's and its paddings less its taps but one */
    const struct phase *h = &l->h.phase[0], *w = &l->w_axis.phase[0];
    f.add_h = l->h.s * (h->T - 1 - h->before - h->after) + l->h.end;
    f.add_w = l->w_axis.s * (w->T - 1 - w->before - w->after) + l->w_axis.end;
    const void *fused = wn_fused_dup(g, &f, sizeof f);
    return fused && wn_fused_add(g, "Interleave", l->node.name, in, (unsigned)(f.sh * f.sw), l->y, fused)
               ? WINNOW_OK
               : WN_OOM(err, &l->node);
}

enum winnow_status wn_pass_conv_transpose(struct wn_graph *g, struct winnow_err *err)
{
    for (size_t i = 0, n = g->nodes.n; i < n; i++) {
        struct layer l = { .node = g->nodes.at[i] };
        if (!wn_node_is(&l.node, "ConvTranspose") || !match(g, &l))
            continue;
        if (!take_end(g, &l))
            return WN_OOM(err, &l.node);
        WN_TRY(put(g, &l, err));
        wn_give_back_inputs(g, &l.node);
    }
    return WINNOW_OK;
}
