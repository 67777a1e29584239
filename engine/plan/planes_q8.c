/* planes_q8.c: u8 values between plain tensors, quads and byte planes, as steps of the plan. */
#include "engine/kernels/move_q8/move_q8.h"
#include "engine/plan/planes.h"

struct image_arg {
    struct wn_planes planes;
    struct wn_loc plain;
    struct wn_move_q8_image image; /* without pointers */
    enum wn_form form;
    bool pad;
    uint32_t pad_value;
};

static const struct wn_node move_node = { .name = "", .op_type = "Layout" };

static void share_channels(size_t channels, unsigned part, unsigned n_parts, size_t *c0, size_t *c1)
{
    wn_share(channels, 4, part, n_parts, c0, c1);
}

static void fill_pad(const struct image_arg *a, char *base, size_t c0, size_t c1)
{
    bool quad = a->form == WN_FORM_QUAD;
    if (a->pad)
        wn_planes_fill_pad(&a->planes, base, a->pad_value, quad ? c0 / 4 : c0, quad ? (c1 + 3) / 4 : c1);
}

static void run_import(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct image_arg *a = step->arg;
    struct wn_move_q8_image image = a->image;
    size_t c0, c1;
    share_channels(image.channels, part, n_parts, &c0, &c1);
    char *base = wn_at(exec, a->planes.loc);
    image.x = wn_at(exec, a->plain);
    image.y = (uint8_t *)base + a->planes.base;
    if (c0 < c1)
        wn_move_q8_import_run(&image, c0, c1);
    fill_pad(a, base, c0, c1);
}

static void run_export(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct image_arg *a = step->arg;
    struct wn_move_q8_image image = a->image;
    size_t c0, c1;
    share_channels(image.channels, part, n_parts, &c0, &c1);
    image.x = (uint8_t *)wn_at(exec, a->planes.loc) + a->planes.base;
    image.y = wn_at(exec, a->plain);
    if (c0 < c1)
        wn_move_q8_export_run(&image, c0, c1);
}

struct form_arg {
    struct wn_planes x, y;
    struct wn_move_q8 move; /* without pointers */
    enum wn_form to;
    bool pad;
    uint32_t pad_value;
};

static void run_form(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct form_arg *a = step->arg;
    struct wn_move_q8 move = a->move;
    size_t c0, c1;
    share_channels(move.channels, part, n_parts, &c0, &c1);
    char *y = wn_at(exec, a->y.loc);
    move.x = (char *)wn_at(exec, a->x.loc) + a->x.base;
    move.y = y + a->y.base;
    if (c0 < c1 && a->to == WN_FORM_QUAD)
        wn_move_q8_to_quads_run(&move, c0, c1);
    else if (c0 < c1)
        wn_move_q8_to_planes_run(&move, c0, c1);
    bool quad = a->to == WN_FORM_QUAD;
    if (a->pad)
        wn_planes_fill_pad(&a->y, y, a->pad_value, quad ? c0 / 4 : c0, quad ? (c1 + 3) / 4 : c1);
}

static enum winnow_status add_step(struct wn_lower *lo, wn_vid v, const char *kernel,
                                   void (*run)(const struct wn_step *, struct wn_exec *, unsigned, unsigned),
                                   const void *arg, struct wn_loc a, struct wn_loc b)
{
    struct wn_step *step = wn_lower_step(lo, &move_node, kernel, run, arg);
    if (!step)
        return WINNOW_E_NOMEM;
    step->name = lo->plan->g.values.at[v].name;
    step->out = v;
    wn_lower_images(lo, v);
    wn_lower_touch(lo, a);
    wn_lower_touch(lo, b);
    return WINNOW_OK;
}

static void set_image(const struct wn_lower *lo, wn_vid v, enum wn_form form, struct image_arg *a)
{
    int64_t d[4];
    wn_nchw(wn_lower_type(lo, v), d);
    a->form = form;
    a->plain.image = (size_t)(d[1] * d[2] * d[3]);
    a->image = (struct wn_move_q8_image){
        .stride = a->planes.plane_bytes,
        .channels = (size_t)d[1],
        .h = (int32_t)d[2],
        .w = (int32_t)d[3],
        .pitch = a->planes.layout.plane.pitch,
        .cols = a->planes.layout.plane.cols,
        .form = form == WN_FORM_QUAD ? WN_OUT_QUAD : WN_OUT_PLANE,
        .zp = wn_geometry_pad(lo, v),
    };
    a->pad = wn_geometry_padded(lo, v);
    a->pad_value = wn_geometry_pad(lo, v) * 0x01010101u;
}

static enum winnow_status from_plain(struct wn_lower *lo, wn_vid v, enum wn_form form)
{
    struct image_arg *a = wn_arena_calloc(&lo->plan->arena, 1, sizeof *a);
    if (!a)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "plan");
    WN_TRY(wn_lower_plain(lo, v, &a->plain));
    WN_TRY(wn_planes_new(lo, v, form, &a->planes));
    set_image(lo, v, form, a);
    return add_step(lo, v, "move_q8_import", run_import, a, a->plain, a->planes.loc);
}

static enum winnow_status from_form(struct wn_lower *lo, wn_vid v, enum wn_form from, enum wn_form to)
{
    struct form_arg *a = wn_arena_calloc(&lo->plan->arena, 1, sizeof *a);
    int64_t d[4];
    wn_nchw(wn_lower_type(lo, v), d);
    if (!a)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "plan");
    WN_TRY(wn_planes_get(lo, v, from, &a->x));
    WN_TRY(wn_planes_new(lo, v, to, &a->y));
    a->to = to;
    a->pad = wn_geometry_padded(lo, v);
    a->pad_value = wn_geometry_pad(lo, v) * 0x01010101u;
    a->move = (struct wn_move_q8){ .x_stride = a->x.plane_bytes,
                                   .y_stride = a->y.plane_bytes,
                                   .channels = (size_t)d[1],
                                   .n = a->y.layout.plane.cols,
                                   .zp = wn_geometry_pad(lo, v) };
    WN_TRY(wn_geometry_mask(lo, v, &a->move.mask));
    return add_step(lo, v, to == WN_FORM_QUAD ? "move_q8_to_quads" : "move_q8_to_planes", run_form, a, a->x.loc,
                    a->y.loc);
}

static bool has(const struct wn_lower *lo, wn_vid v, enum wn_form form)
{
    return lo->plan->place[v].form[form].kind != WN_LOC_NONE;
}

enum winnow_status wn_planes_q8_make(struct wn_lower *lo, wn_vid v, enum wn_form form)
{
    enum wn_form other = form == WN_FORM_QUAD ? WN_FORM_PLANE8 : WN_FORM_QUAD;
    return has(lo, v, other) ? from_form(lo, v, other, form) : from_plain(lo, v, form);
}

enum winnow_status wn_planes_q8_to_plain(struct wn_lower *lo, wn_vid v)
{
    struct image_arg *a = wn_arena_calloc(&lo->plan->arena, 1, sizeof *a);
    enum wn_form form = has(lo, v, WN_FORM_PLANE8) ? WN_FORM_PLANE8 : WN_FORM_QUAD;
    if (!a)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "plan");
    WN_TRY(wn_planes_get(lo, v, form, &a->planes));
    WN_TRY(wn_lower_new_plain(lo, v, &a->plain));
    set_image(lo, v, form, a);
    return add_step(lo, v, "move_q8_export", run_export, a, a->planes.loc, a->plain);
}
