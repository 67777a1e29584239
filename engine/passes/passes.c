/* passes.c: the order of the passes, and the small helpers they share. */
#include "engine/passes/passes.h"

#include <math.h>
#include <string.h>
#include "engine/passes/impl.h"

const struct wn_tensor *wn_const_of(const struct wn_graph *g, wn_vid v)
{
    return v == WN_NONE ? NULL : g->values.at[v].constant;
}

wn_vid wn_in(const struct wn_node *node, unsigned i)
{
    return i < node->n_in ? node->in[i] : WN_NONE;
}

const struct wn_tensor *wn_const_in(const struct wn_graph *g, const struct wn_node *node, unsigned i)
{
    return wn_const_of(g, wn_in(node, i));
}

bool wn_scalar_f32(const struct wn_tensor *t, float *ret)
{
    if (!t || t->dtype != WINNOW_F32 || wn_tensor_count(t) != 1)
        return false;
    memcpy(ret, t->data, sizeof *ret);
    return true;
}

void *wn_fused_dup(struct wn_graph *g, const void *fused, size_t bytes)
{
    return wn_arena_memdup(g->arena, fused, bytes);
}

#define TILE ((size_t)32) /* square, so that both sides stay in cache */

#define TRANSPOSE(type)                                                                                                \
    static void transpose_##type(const type *from, size_t k, size_t n, type *to)                                       \
    {                                                                                                                  \
        for (size_t k0 = 0; k0 < k; k0 += TILE)                                                                        \
            for (size_t n0 = 0; n0 < n; n0 += TILE)                                                                    \
                for (size_t i = n0; i < WN_MIN(n, n0 + TILE); i++)                                                     \
                    for (size_t j = k0; j < WN_MIN(k, k0 + TILE); j++)                                                 \
                        to[i * k + j] = from[j * n + i];                                                               \
    }
TRANSPOSE(uint8_t)
TRANSPOSE(uint32_t)

void wn_transpose(const void *from, size_t k, size_t n, size_t elem, void *to)
{
    if (elem == 1)
        transpose_uint8_t(from, k, n, to);
    else
        transpose_uint32_t(from, k, n, to);
}

void wn_give_back_inputs(struct wn_graph *g, const struct wn_node *node)
{
    for (unsigned i = 0; i < node->n_in; i++)
        wn_graph_give_back(g, node->in[i]);
}

/* Clip's bound: an attribute before opset 11, then an input. */
static bool clip_bound(const struct wn_graph *g, const struct wn_node *node, unsigned i, const char *attr, float *ret)
{
    if (node->opset < 11) {
        *ret = wn_node_float(node, attr, *ret);
        return true;
    }
    return wn_in(node, i) == WN_NONE || wn_scalar_f32(wn_const_in(g, node, i), ret);
}

bool wn_clamp_of(const struct wn_graph *g, const struct wn_node *node, float *ret_lo, float *ret_hi)
{
    *ret_lo = -INFINITY;
    *ret_hi = INFINITY;
    if (wn_node_is(node, "Relu")) {
        *ret_lo = 0;
        return true;
    }
    return wn_node_is(node, "Clip") && clip_bound(g, node, 1, "min", ret_lo) && clip_bound(g, node, 2, "max", ret_hi) &&
           *ret_lo <= *ret_hi;
}

enum wn_act wn_act_of(const struct wn_node *node, float *ret_alpha)
{
    static const struct {
        const char *op_type;
        enum wn_act act;
    } acts[] = { { "Tanh", WN_ACT_TANH },
                 { "Sigmoid", WN_ACT_SIGMOID },
                 { "HardSwish", WN_ACT_HARD_SWISH },
                 { "LeakyRelu", WN_ACT_LEAKY_RELU } };
    *ret_alpha = wn_node_is(node, "LeakyRelu") ? wn_node_float(node, "alpha", 0.01f) : 0;
    if (wn_node_is(node, "Gelu"))
        return wn_node_str_is(node, "approximate", "none", "tanh") ? WN_ACT_GELU_TANH : WN_ACT_GELU;
    if (wn_node_is(node, "Swish"))
        return wn_node_float(node, "alpha", 1) == 1 ? WN_ACT_SWISH : WN_ACT_NONE;
    for (size_t i = 0; i < WN_COUNT(acts); i++)
        if (wn_node_is(node, acts[i].op_type))
            return acts[i].act;
    return WN_ACT_NONE;
}

enum winnow_status wn_passes_run(struct wn_graph *g, struct winnow_err *err)
{
    static enum winnow_status (*const passes[])(struct wn_graph *, struct winnow_err *) = {
        wn_pass_clean,         wn_pass_fold,          wn_pass_widen,          wn_pass_fold,
        wn_pass_cse,           wn_pass_einsum,        wn_pass_layer_norm,     wn_pass_gelu,
        wn_pass_swish,         wn_pass_global_pool,   wn_pass_fold_batchnorm, wn_pass_conv_transpose,
        wn_pass_quant_integer, wn_pass_quant_dynamic, wn_pass_quant_forms,    wn_pass_quant_move,
        wn_pass_quant_layers,  wn_pass_quant_eltwise, wn_pass_quant_move,     wn_pass_quant_residual,
        wn_pass_fold_weights,  wn_pass_quant_norm,    wn_pass_recurrent,      wn_pass_fuse_layers,
        wn_pass_attention,
    };
    for (size_t i = 0; i < WN_COUNT(passes); i++) {
        wn_graph_index(g);
        WN_TRY(passes[i](g, err));
        WN_TRY(wn_graph_sort(g, err)); /* drops the index */
    }
    WN_TRY(wn_ops_resolve(g, err));
    return wn_ops_infer_graph(g, err);
}
