/* quant.c: scales, zero points and integer weights, whatever their spelling. */
#include "engine/passes/quant.h"

#include <math.h>
#include <string.h>

static bool zp_value(const struct wn_tensor *t, int64_t i, int32_t *ret)
{
    switch (t->dtype) {
    case WINNOW_U8:
        *ret = ((const uint8_t *)t->data)[i];
        return true;
    case WINNOW_I8:
        *ret = ((const int8_t *)t->data)[i];
        return true;
    default:
        return false;
    }
}

bool wn_qparam_of(const struct wn_graph *g, const struct wn_node *node, unsigned i_scale, unsigned i_zp,
                  struct wn_qparam *ret, enum winnow_dtype *ret_dtype)
{
    const struct wn_tensor *zp = wn_const_in(g, node, i_zp);
    if (!wn_scalar_f32(wn_const_in(g, node, i_scale), &ret->scale) || !(ret->scale > 0) || !isfinite(ret->scale))
        return false;
    ret->zp = 0;
    *ret_dtype = WINNOW_U8;
    if (!zp)
        return wn_in(node, i_zp) == WN_NONE;
    if (wn_tensor_count(zp) != 1 || !zp_value(zp, 0, &ret->zp))
        return false;
    *ret_dtype = zp->dtype;
    if (zp->dtype == WINNOW_I8)
        ret->zp += 128;
    return true;
}

wn_vid wn_like(struct wn_graph *g, wn_vid v, enum winnow_dtype dtype)
{
    struct wn_type t = g->values.at[v].type;
    return wn_graph_add_value(g, NULL, dtype, t.rank, t.dim);
}

bool wn_per_channel(const struct wn_graph *g, wn_vid v, enum winnow_dtype dtype, int64_t N, int spatial,
                    struct wn_tensor *ret)
{
    const struct wn_tensor *t = wn_const_of(g, v);
    const int64_t n = t ? wn_tensor_count(t) : 0;
    if (!t || t->dtype != dtype ||
        (n != 1 && (n != N || (int)t->rank <= spatial || t->dim[(int)t->rank - 1 - spatial] != N)))
        return false;
    *ret = *t;
    ret->rank = 1;
    ret->dim[0] = n;
    return true;
}

static bool add_flip(struct wn_graph *g, wn_vid from, wn_vid to)
{
    return wn_fused_add(g, "Flip", g->values.at[to].name, &from, 1, to, NULL) != NULL;
}

wn_vid wn_as_u8(struct wn_graph *g, wn_vid v)
{
    if (g->values.at[v].type.dtype != WINNOW_I8)
        return v;
    wn_vid u = wn_like(g, v, WINNOW_U8);
    return u != WN_NONE && add_flip(g, v, u) ? u : WN_NONE;
}

wn_vid wn_u8_result(struct wn_graph *g, wn_vid v)
{
    if (g->values.at[v].type.dtype != WINNOW_I8)
        return v;
    wn_vid u = wn_like(g, v, WINNOW_U8);
    return u != WN_NONE && add_flip(g, u, v) ? u : WN_NONE;
}

static bool is_per(const struct wn_tensor *t, int64_t O)
{
    return wn_tensor_count(t) == 1 || (t->rank == 1 && t->dim[0] == O);
}

/* w as (O, per) s8; u8 weights are shifted by 128. */
static void to_s8(const struct wn_tensor *w, bool transpose, size_t O, size_t per, uint8_t *to)
{
    if (transpose)
        wn_transpose(w->data, per, O, 1, to);
    else if (w->bytes)
        memcpy(to, w->data, w->bytes);
    for (size_t i = 0; w->dtype == WINNOW_U8 && i < w->bytes; i++)
        to[i] ^= 0x80;
}

bool wn_qweight_make(struct wn_graph *g, const char *name, const struct wn_tensor *w, const struct wn_tensor *scale,
                     const struct wn_tensor *zp, bool transpose, struct wn_qweight *ret)
{
    if ((w->dtype != WINNOW_U8 && w->dtype != WINNOW_I8) || w->rank < 2 || scale->dtype != WINNOW_F32 ||
        (transpose && w->rank != 2))
        return false;
    int64_t O = w->dim[transpose ? 1 : 0], count = wn_tensor_count(w), per = O ? count / O : 0;
    if (!is_per(scale, O) || (zp && (zp->dtype != w->dtype || !is_per(zp, O))))
        return false;
    int64_t dim[WINNOW_MAX_RANK];
    memcpy(dim, w->dim, sizeof dim);
    if (transpose) {
        dim[0] = O;
        dim[1] = per;
    }
    *ret = (struct wn_qweight){ .O = O,
                                .w = wn_graph_add_const(g, name, WINNOW_I8, w->rank, dim, NULL),
                                .scale = wn_arena_calloc(g->arena, (size_t)O + 1, sizeof(float)) };
    int32_t *rest = wn_arena_calloc(g->arena, (size_t)O + 1, sizeof(int32_t));
    if (ret->w == WN_NONE || !ret->scale || !rest)
        return false;
    to_s8(w, transpose, (size_t)O, (size_t)per, g->values.at[ret->w].constant->data);
    bool any = false;
    for (int64_t o = 0; o < O; o++) {
        ret->scale[o] = ((const float *)scale->data)[wn_tensor_count(scale) == 1 ? 0 : o];
        if (zp)
            zp_value(zp, wn_tensor_count(zp) == 1 ? 0 : o, &rest[o]);
        if (w->dtype == WINNOW_U8)
            rest[o] -= 128;
        any = any || rest[o];
    }
    ret->zp = any ? rest : NULL;
    return true;
}

struct wn_fused_q8 *wn_q8_params(struct wn_graph *g, const struct wn_conv_geom *geom, struct wn_qparam x,
                                 const struct wn_qweight *w)
{
    struct wn_fused_q8 f = { .x_zp = x.zp, .w_zp = w->zp, .y_f32 = true, .lo = -INFINITY, .hi = INFINITY };
    float *mul = wn_arena_calloc(g->arena, (size_t)w->O + 1, sizeof *mul);
    if (!mul)
        return NULL;
    for (int64_t o = 0; o < w->O; o++)
        mul[o] = (float)((double)x.scale * w->scale[o]);
    if (geom)
        f.geom = *geom;
    f.mul = mul;
    return wn_fused_dup(g, &f, sizeof f);
}

/* QuantizeLinear of a bound; infinities saturate. */
static int32_t quantized(float v, struct wn_qparam y, int32_t def)
{
    if (isinf(v))
        return def;
    float q = rintf(v / y.scale);
    q = q < -1e6f ? -1e6f : q > 1e6f ? 1e6f : q;
    int32_t i = (int32_t)q + y.zp;
    return i < 0 ? 0 : i > 255 ? 255 : i;
}

void wn_q8_to_u8(struct wn_fused_q8 *f, struct wn_qparam x, const struct wn_qweight *w, struct wn_qparam y)
{
    float *mul = (float *)(uintptr_t)f->mul; /* made by wn_q8_params() for this node alone */
    for (int64_t o = 0; o < w->O; o++)
        mul[o] = (float)((double)x.scale * w->scale[o] / y.scale);
    f->y_f32 = false;
    f->y_zp = y.zp;
    f->q_lo = quantized(f->lo, y, 0);
    f->q_hi = quantized(f->hi, y, 255);
}
