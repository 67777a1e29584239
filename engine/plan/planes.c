/* planes.c: conversions between plain tensors and planes, and stride phases, as steps of the plan. */
#include "engine/plan/planes.h"

#include <string.h>
#include "engine/kernels/move/planes.h"

static const struct wn_node move_node = { .name = "", .op_type = "Layout" };

static struct wn_planes planes_at(struct wn_lower *lo, wn_vid v, enum wn_form form)
{
    int64_t d[4];
    wn_nchw(wn_lower_type(lo, v), d);
    struct wn_planes p = { .elem = wn_form_elem(form), .layout = wn_geometry_of(lo, v, wn_form_elem(form)) };
    p.loc = lo->plan->place[v].form[form];
    p.base = p.layout.plane.origin * p.elem;
    p.plane_bytes = p.layout.plane.stride * p.elem;
    p.n_planes = (size_t)(form == WN_FORM_QUAD ? (d[1] + 3) / 4 : d[1]);
    return p;
}

/* Planes for every image of v, and room for what precedes the first. */
static enum winnow_status planes_buf(struct wn_lower *lo, wn_vid v, struct wn_planes *p)
{
    size_t bytes, image, images = (size_t)wn_lower_type(lo, v)->dim[0], limit = lo->model->opts.max_memory_bytes;
    if (!wn_mul_size(p->n_planes, p->plane_bytes, &image) || !wn_add_size(image, p->base, &image) ||
        !wn_mul_size(image, images, &bytes) || bytes > limit)
        return wn_fail(lo->err, WINNOW_E_TOO_LARGE, "value '%s' needs more memory than the limit of %zu bytes",
                       lo->plan->g.values.at[v].name, limit);
    p->loc = wn_lower_buf(lo, bytes + WN_COLS * p->elem + WN_OVERREAD); /* columns that are no pixels read on */
    p->loc.image = image;
    return p->loc.kind == WN_LOC_NONE ? WINNOW_E_NOMEM : WINNOW_OK;
}

enum winnow_status wn_planes_new(struct wn_lower *lo, wn_vid v, enum wn_form form, struct wn_planes *ret)
{
    struct wn_planes p = planes_at(lo, v, form);
    WN_TRY(planes_buf(lo, v, &p));
    lo->plan->place[v].form[form] = p.loc;
    *ret = p;
    return WINNOW_OK;
}

static void fill(char *p, uint32_t pad, size_t elems, size_t elem)
{
    if (elem == 1) {
        memset(p, (int)(pad & 255), elems);
        return;
    }
    uint32_t *w = (uint32_t *)(void *)p;
    for (size_t i = 0; i < elems; i++)
        w[i] = pad;
}

void wn_planes_fill_beside(const struct wn_planes *planes, char *base, uint32_t pad, size_t p0, size_t p1, size_t c0,
                           size_t c1)
{
    const struct wn_layout *l = &planes->layout;
    for (size_t i = p0; i < p1; i++) {
        char *plane = base + i * planes->plane_bytes;
        if (c0 == 0 && i == 0)
            fill(plane + (l->plane.origin - l->before) * planes->elem, pad, l->before, planes->elem);
        if (c1 == l->plane.cols)
            fill(plane + (l->plane.origin + l->plane.cols) * planes->elem, pad, l->after, planes->elem);
    }
}

void wn_planes_fill_pad(const struct wn_planes *planes, char *base, uint32_t pad, size_t p0, size_t p1)
{
    wn_planes_fill_beside(planes, base, pad, p0, p1, 0, planes->layout.plane.cols);
}

void wn_planes_fill_gaps(const struct wn_planes *planes, char *base, uint32_t pad, size_t p0, size_t p1)
{
    const struct wn_plane *l = &planes->layout.plane;
    size_t pitch = (size_t)l->pitch, w = (size_t)l->w;
    for (size_t i = p0; i < p1; i++)
        for (size_t row = 0; row < (size_t)l->h * pitch; row += pitch) {
            size_t end = row + pitch < (size_t)l->h * pitch ? row + pitch : l->cols;
            char *from = base + i * planes->plane_bytes + (l->origin + row + w) * planes->elem;
            fill(from, pad, end - row - w, planes->elem);
        }
    wn_planes_fill_pad(planes, base, pad, p0, p1);
}

/* ---- conversions ---- */

struct move_arg {
    struct wn_planes planes, to; /* to: plane form to plane form */
    struct wn_loc plain;
    size_t channels, channel_bytes; /* of the plain tensor */
    uint32_t pad;
    bool fill;
};

static void run_to_planes_f32(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct move_arg *a = step->arg;
    size_t c0, c1;
    wn_share(a->channels, 1, part, n_parts, &c0, &c1);
    char *y = wn_at(exec, a->planes.loc);
    wn_move_nchw_to_plane_f32((const float *)((char *)wn_at(exec, a->plain) + c0 * a->channel_bytes), c1 - c0,
                              &a->planes.layout.plane, (float *)(y + a->planes.base + c0 * a->planes.plane_bytes));
    if (a->fill)
        wn_planes_fill_pad(&a->planes, y, 0, c0, c1);
}

static void run_to_plain_f32(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct move_arg *a = step->arg;
    size_t c0, c1;
    wn_share(a->channels, 1, part, n_parts, &c0, &c1);
    wn_move_plane_to_nchw_f32(
        (const float *)((char *)wn_at(exec, a->planes.loc) + a->planes.base + c0 * a->planes.plane_bytes), c1 - c0,
        &a->planes.layout.plane, (float *)((char *)wn_at(exec, a->plain) + c0 * a->channel_bytes));
}

static struct move_arg *move_arg(struct wn_lower *lo, wn_vid v)
{
    struct move_arg *a = wn_arena_calloc(&lo->plan->arena, 1, sizeof *a);
    int64_t d[4];
    wn_nchw(wn_lower_type(lo, v), d);
    if (!a) {
        wn_fail(lo->err, WINNOW_E_NOMEM, "plan");
        return NULL;
    }
    a->channels = (size_t)d[1];
    a->channel_bytes = (size_t)(d[2] * d[3]) * winnow_dtype_size(wn_lower_type(lo, v)->dtype);
    return a;
}

static enum winnow_status add_move(struct wn_lower *lo, wn_vid v, const char *kernel,
                                   void (*run)(const struct wn_step *, struct wn_exec *, unsigned, unsigned),
                                   const struct move_arg *a)
{
    struct wn_step *step = wn_lower_step(lo, &move_node, kernel, run, a);
    if (!step)
        return WINNOW_E_NOMEM;
    step->name = lo->plan->g.values.at[v].name;
    step->out = v;
    wn_lower_images(lo, v);
    wn_lower_touch(lo, a->planes.loc);
    wn_lower_touch(lo, a->to.loc);
    wn_lower_touch(lo, a->plain);
    return WINNOW_OK;
}

static enum winnow_status plain_to_f32(struct wn_lower *lo, wn_vid v)
{
    struct move_arg *a = move_arg(lo, v);
    if (!a)
        return WINNOW_E_NOMEM;
    WN_TRY(wn_lower_plain(lo, v, &a->plain));
    a->plain.image = a->channels * a->channel_bytes;
    WN_TRY(wn_planes_new(lo, v, WN_FORM_F32, &a->planes));
    a->fill = wn_geometry_padded(lo, v);
    return add_move(lo, v, "nchw_to_planes", run_to_planes_f32, a);
}

enum winnow_status wn_planes_to_plain(struct wn_lower *lo, wn_vid v)
{
    struct move_arg *a = move_arg(lo, v);
    if (!a)
        return WINNOW_E_NOMEM;
    if (wn_lower_type(lo, v)->dtype != WINNOW_F32)
        return wn_planes_q8_to_plain(lo, v);
    a->planes = planes_at(lo, v, WN_FORM_F32);
    WN_TRY(wn_lower_new_plain(lo, v, &a->plain));
    a->plain.image = a->channels * a->channel_bytes;
    return add_move(lo, v, "planes_to_nchw", run_to_plain_f32, a);
}

enum winnow_status wn_planes_get(struct wn_lower *lo, wn_vid v, enum wn_form form, struct wn_planes *ret)
{
    if (lo->plan->place[v].form[form].kind == WN_LOC_NONE) {
        if (form == WN_FORM_F32)
            WN_TRY(plain_to_f32(lo, v));
        else
            WN_TRY(wn_planes_q8_make(lo, v, form));
    }
    *ret = planes_at(lo, v, form);
    return WINNOW_OK;
}

/* ---- stride phases ---- */

struct phase_arg {
    struct wn_planes x, y; /* y: one plane per channel and phase, n_planes = channels * phases */
    struct wn_plane dst;   /* a phase plane; stride from channel to channel */
    size_t phase;
    int32_t sh, sw;
    int8_t slot[64];
    size_t n_phases;
    uint32_t pad;
};

static void run_phases(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct phase_arg *a = step->arg;
    size_t c0, c1, phases = a->n_phases;
    wn_share(a->x.n_planes, 1, part, n_parts, &c0, &c1);
    if (c0 == c1)
        return;
    const char *x = (char *)wn_at(exec, a->x.loc) + a->x.base + c0 * a->x.plane_bytes;
    char *y = (char *)wn_at(exec, a->y.loc), *to = y + a->y.base + c0 * phases * a->y.plane_bytes;
    if (a->x.elem == 4)
        wn_move_phases_4(x, &a->x.layout.plane, c1 - c0, to, &a->dst, a->phase, a->slot, a->sh, a->sw, a->pad);
    else
        wn_move_phases_1(x, &a->x.layout.plane, c1 - c0, to, &a->dst, a->phase, a->slot, a->sh, a->sw, (uint8_t)a->pad);
    wn_planes_fill_pad(&a->y, y, a->pad, c0 * phases, c1 * phases);
}

static enum winnow_status phases_of(struct wn_lower *lo, const struct wn_node *node, const struct wn_window *win,
                                    enum wn_form form, uint32_t pad, struct wn_planes *ret)
{
    struct phase_arg *a = wn_arena_calloc(&lo->plan->arena, 1, sizeof *a);
    if (!a)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "plan");
    WN_TRY(wn_planes_get(lo, node->in[0], form, &a->x));
    a->y.elem = wn_form_elem(form);
    a->y.layout = wn_geometry_in_class(lo, node->out[0], win->ph, win->pw, a->y.elem);
    a->y.base = a->y.layout.plane.origin * a->y.elem;
    a->y.plane_bytes = a->y.layout.plane.stride * a->y.elem;
    a->y.n_planes = a->x.n_planes * win->n_phases;
    WN_TRY(planes_buf(lo, node->in[0], &a->y));
    a->dst = a->y.layout.plane;
    a->phase = a->dst.stride;
    a->dst.stride *= win->n_phases;
    memcpy(a->slot, win->slot, sizeof a->slot);
    a->n_phases = win->n_phases;
    a->sh = (int32_t)win->geom.stride_h;
    a->sw = (int32_t)win->geom.stride_w;
    a->pad = pad;
    struct wn_step *step = wn_lower_step(lo, &move_node, "phases", run_phases, a);
    if (!step)
        return WINNOW_E_NOMEM;
    step->name = node->name;
    step->out = node->in[0];
    wn_lower_images(lo, node->in[0]);
    wn_lower_touch(lo, a->x.loc);
    wn_lower_touch(lo, a->y.loc);
    *ret = a->y;
    return WINNOW_OK;
}

enum winnow_status wn_planes_check(struct wn_lower *lo, const struct wn_node *node, const struct wn_planes *p)
{
    if (p->n_planes * p->plane_bytes > INT32_MAX)
        return wn_fail(lo->err, WINNOW_E_TOO_LARGE, "node '%s': input of more than 2 GiB", node->name);
    return WINNOW_OK;
}

enum winnow_status wn_planes_source(struct wn_lower *lo, const struct wn_node *node, const struct wn_window *win,
                                    enum wn_form form, uint8_t pad, struct wn_source *ret)
{
    uint32_t pad4 = form == WN_FORM_F32 ? 0 : form == WN_FORM_QUAD ? pad * 0x01010101u : pad;
    bool around = win->top || win->bottom || win->left || win->right;
    bool other_pad = around && form != WN_FORM_F32 && wn_geometry_pad(lo, node->in[0]) != pad;
    if (!win->strided && !other_pad)
        WN_TRY(wn_planes_get(lo, node->in[0], form, &ret->planes));
    else
        WN_TRY(phases_of(lo, node, win, form, pad4, &ret->planes));
    const struct wn_planes *p = &ret->planes;
    ret->channel_bytes = p->plane_bytes * win->n_phases;
    ret->tap_off = wn_arena_calloc(&lo->plan->arena, win->n_taps + 1u, sizeof *ret->tap_off);
    if (!ret->tap_off)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "plan");
    for (uint32_t t = 0; t < win->n_taps; t++) {
        const struct wn_tap *tap = &win->tap[t];
        int64_t off = (int64_t)(tap->phase * p->plane_bytes) +
                      (tap->dy * (int64_t)p->layout.plane.pitch + tap->dx) * (int64_t)p->elem;
        ret->tap_off[t] = (int32_t)off;
    }
    return wn_planes_check(lo, node, p);
}
