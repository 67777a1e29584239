/* lower_resize.c: Resize to the nearest neighbour on planes, f32 or u8: rows and columns are repeated or left out. */
#include <string.h>
#include "engine/plan/planes.h"
#include "engine/plan/q8.h"

struct resize_arg {
    struct wn_planes x, y;
    const int32_t *row, *col; /* [h], [w] of the output: which of the input */
    int64_t h, w;
    bool twice; /* every column stands twice */
    uint32_t pad;
};

#define REPEAT(type)                                                                                                   \
    static void repeat_##type(const type *x, const struct resize_arg *a, type *y)                                      \
    {                                                                                                                  \
        for (int64_t i = 0; a->twice && i < a->w / 2; i++)                                                             \
            y[2 * i] = y[2 * i + 1] = x[i];                                                                            \
        for (int64_t i = a->twice ? a->w / 2 * 2 : 0; i < a->w; i++)                                                   \
            y[i] = x[a->col[i]];                                                                                       \
    }
REPEAT(uint8_t)
REPEAT(uint32_t)

static void resize_plane(const struct resize_arg *a, const char *x, char *y)
{
    const size_t x_pitch = (size_t)a->x.layout.plane.pitch * a->x.elem,
                 y_pitch = (size_t)a->y.layout.plane.pitch * a->y.elem;
    for (int64_t i = 0; i < a->h; i++, y += y_pitch) {
        const char *row = x + (size_t)a->row[i] * x_pitch;
        if (i && a->row[i] == a->row[i - 1])
            memcpy(y, y - y_pitch, (size_t)a->w * a->y.elem);
        else if (a->y.elem == 1)
            repeat_uint8_t((const uint8_t *)row, a, (uint8_t *)y);
        else
            repeat_uint32_t((const uint32_t *)(const void *)row, a, (uint32_t *)(void *)y);
    }
}

static void run_resize(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct resize_arg *a = step->arg;
    const char *x = (char *)wn_at(exec, a->x.loc) + a->x.base;
    char *y = (char *)wn_at(exec, a->y.loc);
    size_t p0, p1;
    wn_share(a->x.n_planes, 1, part, n_parts, &p0, &p1);
    for (size_t p = p0; p < p1; p++)
        resize_plane(a, x + p * a->x.plane_bytes, y + a->y.base + p * a->y.plane_bytes);
    wn_planes_fill_gaps(&a->y, y, a->pad, p0, p1);
}

/* Which input positions the output's are, along both axes of the picture; false: other axes change too, or the node
 * does not take nearest neighbours. */
static bool set_maps(struct wn_lower *lo, const struct wn_node *node, struct resize_arg *a)
{
    const struct wn_type *x = wn_lower_type(lo, node->in[0]), *y = wn_lower_type(lo, node->out[0]);
    const struct wn_tensor *in[WN_OP_MAX_IN] = { NULL };
    int32_t *map[2] = { wn_arena_calloc(&lo->plan->arena, (size_t)y->dim[2] + 1, sizeof(int32_t)),
                        wn_arena_calloc(&lo->plan->arena, (size_t)y->dim[3] + 1, sizeof(int32_t)) };
    for (unsigned i = 1; i < node->n_in; i++) {
        in[i] = node->in[i] == WN_NONE ? NULL : lo->plan->g.values.at[node->in[i]].constant;
        if (node->in[i] != WN_NONE && !in[i])
            return false;
    }
    for (int axis = 2; axis < 4; axis++)
        if (!map[axis - 2] || !wn_resize_map(node, x, in, node->n_in, axis, y->dim[axis], map[axis - 2]))
            return false;
    a->row = map[0];
    a->col = map[1];
    a->h = y->dim[2];
    a->w = y->dim[3];
    a->twice = true;
    for (int64_t i = 0; i < a->w; i++)
        a->twice = a->twice && a->col[i] == i / 2;
    return true;
}

static enum wn_form form_of(const struct wn_lower *lo, wn_vid v)
{
    if (wn_lower_type(lo, v)->dtype == WINNOW_F32)
        return WN_FORM_F32;
    return wn_planes_only(lo, v) ? WN_FORM_PLANE8 : WN_FORM_QUAD;
}

enum winnow_status wn_lower_resize(struct wn_lower *lo, const struct wn_node *node, bool *done)
{
    *done = false;
    if (lo->reference || (!wn_node_is(node, "Resize") && !wn_node_is(node, "Upsample")))
        return WINNOW_OK;
    const struct wn_type *x = wn_lower_type(lo, node->in[0]), *y = wn_lower_type(lo, node->out[0]);
    if (x->rank != 4 || (x->dtype != WINNOW_F32 && x->dtype != WINNOW_U8) || x->dim[0] != y->dim[0] ||
        x->dim[1] != y->dim[1] || !wn_lower_bytes(lo, node->out[0]) || !wn_planes_any(lo, node->in[0]))
        return WINNOW_OK;
    struct resize_arg *a = wn_arena_calloc(&lo->plan->arena, 1, sizeof *a);
    if (!a)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    if (!set_maps(lo, node, a))
        return WINNOW_OK;
    const enum wn_form form = form_of(lo, node->in[0]);
    WN_TRY(wn_planes_get(lo, node->in[0], form, &a->x));
    WN_TRY(wn_planes_new(lo, node->out[0], form, &a->y));
    a->pad = form == WN_FORM_F32 ? 0 : wn_geometry_pad(lo, node->out[0]) * 0x01010101u;
    if (!wn_lower_step(lo, node, "resize", run_resize, a))
        return WINNOW_E_NOMEM;
    wn_lower_images(lo, node->in[0]);
    wn_lower_touch(lo, a->x.loc);
    wn_lower_touch(lo, a->y.loc);
    *done = true;
    return WINNOW_OK;
}
