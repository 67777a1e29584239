/* geometry.c: classes of pictures by union-find, and the layout that follows from a class. */
#include "engine/plan/geometry.h"

#include <string.h>

#define MAX_TAPS 4096
#define MAX_PAD  65536              /* around a picture */
#define MAX_AREA ((int64_t)1 << 28) /* of a plane with its padding: offsets in it fit 31 bits of bytes */

struct shape_class {
    int64_t pitch; /* enough for every member and reader */
    int64_t h;     /* tallest member */
    int64_t top, bottom, left, right;
    struct mask *masks;
};

struct mask {
    struct mask *next;
    int64_t h, w;
    const uint32_t *bits;
};

struct wn_geometry {
    uint32_t *parent; /* [values]; a class's number is its root value */
    struct shape_class *cls;
    bool *padded; /* [values] */
    int16_t *pad; /* [values] zero point around u8 values; -1: nobody says */
};

void wn_nchw(const struct wn_type *t, int64_t ret[4])
{
    ret[0] = t->dim[0];
    ret[1] = t->dim[1];
    ret[2] = t->rank == 4 ? t->dim[2] : 1;
    ret[3] = t->dim[t->rank - 1];
}

/* ---- windows ---- */

static int64_t floor_div(int64_t a, int64_t b)
{
    return a >= 0 ? a / b : -((-a + b - 1) / b);
}

static void set_tap(struct wn_window *win, int64_t ky, int64_t kx)
{
    const struct wn_conv_geom *g = &win->geom;
    int64_t y = ky * g->dil_h - g->pad_t, x = kx * g->dil_w - g->pad_l;
    int64_t dy = floor_div(y, g->stride_h), dx = floor_div(x, g->stride_w);
    struct wn_tap *tap = &win->tap[ky * g->kw + kx];
    int8_t *slot = &win->slot[(y - dy * g->stride_h) * g->stride_w + x - dx * g->stride_w];
    if (*slot < 0)
        *slot = (int8_t)win->n_phases++;
    *tap = (struct wn_tap){ (uint32_t)*slot, (int32_t)dy, (int32_t)dx };
    win->top = WN_MAX(win->top, -dy);
    win->left = WN_MAX(win->left, -dx);
    win->bottom = WN_MAX(win->bottom, dy + win->oh - win->ph);
    win->right = WN_MAX(win->right, dx + win->ow - win->pw);
}

bool wn_window_make(struct wn_lower *lo, const struct wn_conv_geom *geom, wn_vid x, struct wn_window *ret)
{
    int64_t d[4];
    wn_nchw(wn_lower_type(lo, x), d);
    struct wn_window win = { .geom = *geom, .h = d[2], .w = d[3] };
    const struct wn_conv_geom *g = &win.geom;
    if (g->kh < 1 || g->kw < 1 || g->kh > MAX_TAPS || g->kw > MAX_TAPS || g->kh * g->kw > MAX_TAPS || g->stride_h < 1 ||
        g->stride_w < 1 || g->stride_h > 8 || g->stride_w > 8 || d[2] < 1 || d[3] < 1)
        return false;
    wn_conv_geom_resolve(&win.geom, d[2], d[3], &win.oh, &win.ow);
    win.n_taps = (uint32_t)(g->kh * g->kw);
    win.ph = (d[2] + g->stride_h - 1) / g->stride_h;
    win.pw = (d[3] + g->stride_w - 1) / g->stride_w;
    win.tap = wn_arena_calloc(&lo->plan->arena, win.n_taps, sizeof *win.tap);
    win.strided = g->stride_h * g->stride_w > 1;
    memset(win.slot, -1, sizeof win.slot);
    if (!win.tap || win.oh < 1 || win.ow < 1)
        return false;
    for (int64_t ky = 0; ky < g->kh; ky++)
        for (int64_t kx = 0; kx < g->kw; kx++)
            set_tap(&win, ky, kx);
    if (WN_MAX(WN_MAX(win.top, win.bottom), WN_MAX(win.left, win.right)) > MAX_PAD)
        return false;
    *ret = win;
    return true;
}

/* ---- what nodes are ---- */

static bool picture(const struct wn_lower *lo, wn_vid v)
{
    const struct wn_type *t = wn_lower_type(lo, v);
    return (t->rank == 3 || t->rank == 4) && t->dim[0] >= 1 && t->dim[1] >= 1 && t->dim[t->rank - 2] >= 1 &&
           t->dim[t->rank - 1] >= 1 && (t->dtype == WINNOW_F32 || t->dtype == WINNOW_U8);
}

static bool same_picture(const struct wn_lower *lo, wn_vid a, wn_vid b)
{
    const struct wn_type *x = wn_lower_type(lo, a), *y = wn_lower_type(lo, b);
    return picture(lo, a) && x->rank == y->rank && memcmp(x->dim, y->dim, (size_t)x->rank * sizeof x->dim[0]) == 0;
}

static bool is_constant(const struct wn_lower *lo, wn_vid v)
{
    return lo->plan->g.values.at[v].constant != NULL;
}

static enum wn_spatial window_of(const struct wn_node *node, const struct wn_conv_geom *geom, struct wn_conv_geom *ret)
{
    *ret = *geom;
    return WN_SPATIAL_WINDOW;
}

/* Pools read any layout and know ceil_mode. The picture is concrete: so is auto_pad. */
static enum wn_spatial plain_pool(const struct wn_lower *lo, const struct wn_node *node, struct wn_conv_geom *ret)
{
    const struct wn_type *t = wn_lower_type(lo, node->in[0]);
    if ((node->n_out > 1 && node->out[1] != WN_NONE) ||
        wn_conv_geom_of(node, (unsigned)t->rank - 2, NULL, ret, NULL) != WINNOW_OK)
        return WN_SPATIAL_NONE;
    if (t->dtype != WINNOW_F32 && !wn_node_is(node, "MaxPool"))
        return WN_SPATIAL_NONE;
    int64_t d[4], oh, ow;
    wn_nchw(t, d);
    if (ret->auto_pad)
        wn_conv_geom_resolve(ret, d[2], d[3], &oh, &ow);
    ret->auto_pad = 0;
    return WN_SPATIAL_FREE;
}

static bool in_list(const struct wn_node *node, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(node->op_type, list[i]) == 0)
            return true;
    return false;
}

static bool channels_concat(const struct wn_lower *lo, const struct wn_node *node)
{
    int64_t axis = wn_node_int(node, "axis", 0);
    int rank = wn_lower_type(lo, node->out[0])->rank;
    if (!wn_node_is(node, "Concat") || (axis < 0 ? axis + rank : axis) != 1)
        return false;
    for (unsigned i = 0; i < node->n_in; i++)
        if (!picture(lo, node->in[i]) || is_constant(lo, node->in[i]))
            return false;
    return true;
}

/* v has an element for each channel of pictures like y, of all images or of each. */
static bool is_by_channel(const struct wn_lower *lo, wn_vid v, const struct wn_type *y)
{
    const struct wn_type *t = wn_lower_type(lo, v);
    const int spatial = y->rank - 2, c = t->rank - 1 - spatial;
    if (c < 0 || t->rank > y->rank || t->dtype != WINNOW_F32 || t->dim[c] != y->dim[1])
        return false;
    for (int i = 0; i < spatial; i++)
        if (t->dim[c + 1 + i] != 1)
            return false;
    return t->rank < y->rank || t->dim[0] == y->dim[0] || t->dim[0] == 1;
}

int wn_geometry_by_channel(const struct wn_lower *lo, const struct wn_node *node)
{
    static const char *const types[] = { "Add", "Sub", "Mul", "Div" };
    if (node->n_out != 1)
        return -1;
    const struct wn_type *y = wn_lower_type(lo, node->out[0]);
    if (*node->domain || node->n_in != 2 || !in_list(node, types, WN_COUNT(types)) || !picture(lo, node->out[0]) ||
        y->dtype != WINNOW_F32)
        return -1;
    for (int i = 0; i < 2; i++)
        if (same_picture(lo, node->in[i], node->out[0]) && !is_constant(lo, node->in[i]) &&
            !same_picture(lo, node->in[!i], node->out[0]) && is_by_channel(lo, node->in[!i], y))
            return i;
    return -1;
}

enum wn_spatial wn_spatial_of(const struct wn_lower *lo, const struct wn_node *node, struct wn_conv_geom *ret_geom)
{
    static const char *const wn_same[] = { "QAdd", "Quantize", "Dequantize", "Requantize" };
    static const char *const unary[] = { "Relu",      "Clip",  "Sigmoid", "HardSigmoid",
                                         "HardSwish", "Swish", "Tanh",    "LeakyRelu" };
    if (!lo->reference && wn_geometry_by_channel(lo, node) >= 0)
        return WN_SPATIAL_SAME;
    if (lo->reference || !node->n_in || node->in[0] == WN_NONE || is_constant(lo, node->in[0]) ||
        !picture(lo, node->in[0]) || !picture(lo, node->out[0]))
        return WN_SPATIAL_NONE;
    if (strcmp(node->domain, "wn") == 0) {
        if (wn_fused_is(node, "Conv"))
            return window_of(node, &((const struct wn_fused_f32 *)node->fused)->geom, ret_geom);
        if (wn_fused_is(node, "QConv"))
            return window_of(node, &((const struct wn_fused_q8 *)node->fused)->geom, ret_geom);
        if (wn_fused_is(node, "QAveragePool")) {
            *ret_geom = ((const struct wn_fused_qelt *)node->fused)->geom;
            return ret_geom->auto_pad ? WN_SPATIAL_NONE : WN_SPATIAL_FREE;
        }
        if (wn_fused_is(node, "QGlobalAveragePool"))
            return WN_SPATIAL_GLOBAL;
        return in_list(node, wn_same, WN_COUNT(wn_same)) ? WN_SPATIAL_SAME : WN_SPATIAL_NONE;
    }
    if (*node->domain)
        return WN_SPATIAL_NONE;
    if (wn_node_is(node, "MaxPool") || wn_node_is(node, "AveragePool"))
        return plain_pool(lo, node, ret_geom);
    if (wn_node_is(node, "GlobalAveragePool") || wn_node_is(node, "GlobalMaxPool"))
        return WN_SPATIAL_GLOBAL;
    if (channels_concat(lo, node))
        return WN_SPATIAL_SAME;
    if (wn_lower_type(lo, node->in[0])->dtype != WINNOW_F32)
        return WN_SPATIAL_NONE;
    if (in_list(node, unary, WN_COUNT(unary)))
        return WN_SPATIAL_SAME;
    if ((wn_node_is(node, "Add") || wn_node_is(node, "Mul")) && same_picture(lo, node->in[0], node->in[1]) &&
        !is_constant(lo, node->in[1]))
        return WN_SPATIAL_SAME;
    return WN_SPATIAL_NONE;
}

/* ---- classes ---- */

static uint32_t root(struct wn_geometry *geo, uint32_t v)
{
    while (geo->parent[v] != v)
        v = geo->parent[v] = geo->parent[geo->parent[v]];
    return v;
}

static void join(struct wn_geometry *geo, uint32_t a, uint32_t b)
{
    a = root(geo, a);
    b = root(geo, b);
    if (a == b)
        return;
    struct shape_class *x = &geo->cls[a], *y = &geo->cls[b];
    geo->parent[b] = a;
    x->pitch = WN_MAX(x->pitch, y->pitch);
    x->h = WN_MAX(x->h, y->h);
    x->top = WN_MAX(x->top, y->top);
    x->bottom = WN_MAX(x->bottom, y->bottom);
    x->left = WN_MAX(x->left, y->left);
    x->right = WN_MAX(x->right, y->right);
}

/* A reader needs a h x w picture of v's class with this padding. */
static void demand(struct wn_geometry *geo, wn_vid v, int64_t h, int64_t w, const struct wn_window *win)
{
    struct shape_class *c = &geo->cls[root(geo, v)];
    c->h = WN_MAX(c->h, h);
    c->pitch = WN_MAX(c->pitch, w);
    if (!win)
        return;
    c->pitch = WN_MAX(c->pitch, w + WN_MAX(win->left, win->right));
    c->top = WN_MAX(c->top, win->top);
    c->bottom = WN_MAX(c->bottom, win->bottom);
    c->left = WN_MAX(c->left, win->left);
    c->right = WN_MAX(c->right, win->right);
}

static bool unit_stride(const struct wn_window *win)
{
    return win->geom.stride_h == 1 && win->geom.stride_w == 1;
}

bool wn_geometry_strided_dw(const struct wn_lower *lo, const struct wn_node *node, const struct wn_conv_geom *geom)
{
    enum { MOST = 64 }; /* more padding than that is for the phases, which have half of it */
    const struct wn_tensor *w = wn_fused_is(node, "Conv") ? lo->plan->g.values.at[node->in[1]].constant : NULL;
    return w && geom->stride_w == 2 && geom->groups > 1 && w->rank >= 3 && w->dim[1] == 1 && geom->pad_t <= MOST &&
           geom->pad_l <= MOST && geom->pad_b <= MOST && geom->pad_r <= MOST;
}

/* The padding around x itself that all taps together reach. */
static void demand_around(struct wn_geometry *geo, wn_vid x, const struct wn_window *win)
{
    const struct wn_conv_geom *g = &win->geom;
    const int64_t below = (win->oh - 1) * g->stride_h - g->pad_t + (g->kh - 1) * g->dil_h - (win->h - 1);
    const int64_t right = (win->ow - 1) * g->stride_w - g->pad_l + (g->kw - 1) * g->dil_w - (win->w - 1);
    const struct wn_window around = {
        .top = g->pad_t, .left = g->pad_l, .bottom = WN_MAX(below, 0), .right = WN_MAX(right, 0)
    };
    demand(geo, x, win->h, win->w, &around);
    geo->padded[x] |= around.top || around.left || around.bottom || around.right;
}

static void visit(struct wn_lower *lo, const struct wn_node *node)
{
    struct wn_geometry *geo = lo->geo;
    struct wn_conv_geom geom;
    struct wn_window win;
    enum wn_spatial kind = wn_spatial_of(lo, node, &geom);
    if (kind != WN_SPATIAL_WINDOW && kind != WN_SPATIAL_SAME)
        return;
    wn_vid x = node->in[0], y = node->out[0];
    if (kind == WN_SPATIAL_WINDOW) {
        if (!wn_window_make(lo, &geom, x, &win))
            return;
        if (wn_geometry_strided_dw(lo, node, &win.geom))
            demand_around(geo, x, &win);
        else
            demand(geo, y, win.ph, win.pw, &win);
        if (unit_stride(&win)) {
            join(geo, x, y);
            if (win.top || win.bottom || win.left || win.right)
                geo->padded[x] = true;
        }
        if (node->n_in == 4 && node->in[3] != WN_NONE && picture(lo, node->in[3]))
            join(geo, node->in[3], y);
        return;
    }
    for (unsigned i = 0; i < node->n_in; i++)
        if (node->in[i] != WN_NONE && picture(lo, node->in[i]) && !is_constant(lo, node->in[i]) &&
            (wn_geometry_by_channel(lo, node) < 0 || same_picture(lo, node->in[i], y)))
            join(geo, node->in[i], y);
}

/* The zero point that stands around a u8 value: what its maker writes, else what its first reader wants. */
static void find_pads(struct wn_lower *lo)
{
    int16_t *pad = lo->geo->pad;
    for (size_t v = 0; v < lo->plan->g.values.n; v++)
        pad[v] = -1;
    for (size_t i = 0; i < lo->plan->g.nodes.n; i++) {
        const struct wn_node *node = &lo->plan->g.nodes.at[i];
        if (node->dead || strcmp(node->domain, "wn") != 0 || !node->fused)
            continue;
        bool layer = wn_fused_is(node, "QConv") || wn_fused_is(node, "QLinear");
        if (layer && pad[node->in[0]] < 0)
            pad[node->in[0]] = (int16_t)((const struct wn_fused_q8 *)node->fused)->x_zp;
        if (wn_lower_type(lo, node->out[0])->dtype == WINNOW_U8)
            pad[node->out[0]] = (int16_t)(layer ? ((const struct wn_fused_q8 *)node->fused)->y_zp
                                                : ((const struct wn_fused_qelt *)node->fused)->y_zp);
    }
}

static enum winnow_status check_areas(struct wn_lower *lo)
{
    for (uint32_t v = 0; v < lo->plan->g.values.n; v++) {
        const struct shape_class *c = &lo->geo->cls[v];
        int64_t rows, area;
        if (lo->geo->parent[v] == v && (__builtin_add_overflow(c->h, c->top + c->bottom + 2, &rows) ||
                                        __builtin_mul_overflow(rows, c->pitch, &area) || area > MAX_AREA))
            return wn_fail(lo->err, WINNOW_E_TOO_LARGE, "value '%s': a picture of %lld x %lld is too large",
                           lo->plan->g.values.at[v].name, (long long)c->h, (long long)c->pitch);
    }
    return WINNOW_OK;
}

enum winnow_status wn_geometry_make(struct wn_lower *lo)
{
    struct wn_arena *arena = &lo->plan->arena;
    size_t n = lo->plan->g.values.n + 1;
    struct wn_geometry *geo = wn_arena_calloc(arena, 1, sizeof *geo);
    if (geo) {
        geo->parent = wn_arena_calloc(arena, n, sizeof *geo->parent);
        geo->cls = wn_arena_calloc(arena, n, sizeof *geo->cls);
        geo->padded = wn_arena_calloc(arena, n, sizeof *geo->padded);
        geo->pad = wn_arena_calloc(arena, n, sizeof *geo->pad);
    }
    if (!geo || !geo->parent || !geo->cls || !geo->padded || !geo->pad)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "plan");
    lo->geo = geo;
    find_pads(lo);
    for (uint32_t v = 0; v + 1 < n; v++) {
        geo->parent[v] = v;
        if (picture(lo, v)) {
            int64_t d[4];
            wn_nchw(wn_lower_type(lo, v), d);
            demand(geo, v, d[2], d[3], NULL);
        }
    }
    for (size_t i = 0; i < lo->plan->g.nodes.n; i++)
        if (!lo->plan->g.nodes.at[i].dead)
            visit(lo, &lo->plan->g.nodes.at[i]);
    return check_areas(lo);
}

/* ---- layouts ---- */

/* An odd multiple of 64 bytes: planes do not fight for the same cache sets. Margins are shared: what follows a plane is
 * what precedes the next, and columns that are no pixels are part of it, so that 7x7 bytes with a margin of 1 take one
 * line. */
static size_t plane_stride(size_t elems, size_t elem)
{
    size_t lines = (elems * elem + 63) / 64;
    return (lines | 1) * 64 / elem;
}

struct wn_layout wn_geometry_in_class(const struct wn_lower *lo, wn_vid v, int64_t h, int64_t w, size_t elem)
{
    const struct shape_class *c = &lo->geo->cls[root(lo->geo, v)];
    size_t pitch = (size_t)c->pitch, before = (size_t)c->top * pitch + (size_t)c->left;
    size_t after = (size_t)c->bottom * pitch + (size_t)c->right, apart = WN_MAX(before, after);
    size_t pixels = (size_t)(h - 1) * pitch + (size_t)w, cols = wn_round_up(pixels, WN_COLS);
    struct wn_layout l = { .before = before };
    l.plane = (struct wn_plane){ .h = (int32_t)h, .w = (int32_t)w, .pitch = (int32_t)pitch, .cols = cols };
    l.plane.origin = wn_round_up(before, 64 / elem);
    l.plane.stride = plane_stride(WN_MAX(cols, pixels + apart), elem);
    l.after = apart ? l.plane.stride - cols : 0;
    return l;
}

bool wn_geometry_joined(const struct wn_lower *lo, wn_vid a, wn_vid b)
{
    return same_picture(lo, a, b) && root(lo->geo, a) == root(lo->geo, b);
}

struct wn_layout wn_geometry_of(const struct wn_lower *lo, wn_vid v, size_t elem)
{
    int64_t d[4];
    wn_nchw(wn_lower_type(lo, v), d);
    return wn_geometry_in_class(lo, v, d[2], d[3], elem);
}

bool wn_geometry_padded(const struct wn_lower *lo, wn_vid v)
{
    return lo->geo->padded[v];
}

uint8_t wn_geometry_pad(const struct wn_lower *lo, wn_vid v)
{
    return lo->geo->pad[v] < 0 ? 0 : (uint8_t)lo->geo->pad[v];
}

enum winnow_status wn_geometry_mask(struct wn_lower *lo, wn_vid v, const uint32_t **ret)
{
    struct wn_geometry *geo = lo->geo;
    struct wn_layout l = wn_geometry_of(lo, v, 4);
    struct shape_class *cls = &geo->cls[root(geo, v)];
    *ret = NULL;
    if (!geo->padded[v])
        return WINNOW_OK;
    for (struct mask *m = cls->masks; m; m = m->next)
        if (m->h == l.plane.h && m->w == l.plane.w) {
            *ret = m->bits;
            return WINNOW_OK;
        }
    struct mask *m = wn_arena_calloc(&lo->plan->arena, 1, sizeof *m);
    uint32_t *bits = wn_arena_calloc(&lo->plan->arena, l.plane.cols + WN_OVERREAD / 4, sizeof *bits);
    if (!m || !bits)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "plan");
    for (int32_t y = 0; y < l.plane.h; y++)
        memset(bits + (size_t)y * (size_t)l.plane.pitch, 0xff, (size_t)l.plane.w * sizeof *bits);
    *m = (struct mask){ cls->masks, l.plane.h, l.plane.w, bits };
    cls->masks = m;
    *ret = bits;
    return WINNOW_OK;
}
