/* lower_interleave.c: Interleave on planes: the rows of an output are those of its phases in turn, and their columns
 * too. */
#include <string.h>
#include "engine/plan/planes.h"

struct interleave_arg {
    const struct wn_fused_interleave *f;
    struct wn_planes x[WN_INTERLEAVE_MAX], y;
};

/* One row of outputs from the rows of its sw phases. */
static void weave(const float *const *from, size_t sw, size_t w, float *y)
{
    if (sw == 1) {
        memcpy(y, from[0], w * sizeof *y);
        return;
    }
    if (sw == 2) {
        const float *x0 = from[0], *x1 = from[1];
        for (size_t k = 0; k < w / 2; k++) {
            y[2 * k] = x0[k];
            y[2 * k + 1] = x1[k];
        }
        if (w % 2)
            y[w - 1] = x0[w / 2];
        return;
    }
    for (size_t b = 0; b < sw; b++)
        for (size_t k = b, i = 0; k < w; k += sw, i++)
            y[k] = from[b][i];
}

static void run_interleave(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts)
{
    const struct interleave_arg *a = step->arg;
    const struct wn_fused_interleave *f = a->f;
    const struct wn_plane *out = &a->y.layout.plane;
    char *base = wn_at(exec, a->y.loc);
    const char *x[WN_INTERLEAVE_MAX];
    size_t c0, c1;
    wn_share(a->y.n_planes, 1, part, n_parts, &c0, &c1);
    for (int32_t i = 0; i < f->sh * f->sw; i++)
        x[i] = (char *)wn_at(exec, a->x[i].loc) + a->x[i].base;
    for (size_t c = c0; c < c1; c++)
        for (int32_t r = 0; r < out->h; r++) {
            const float *from[WN_INTERLEAVE_MAX];
            const int32_t row = r % f->sh;
            for (int32_t b = 0; b < f->sw; b++) {
                const struct wn_planes *p = &a->x[row * f->sw + b];
                const size_t at = (size_t)(r / f->sh + f->skip_h[row]) * (size_t)p->layout.plane.pitch;
                from[b] = (const float *)(const void *)(x[row * f->sw + b] + c * p->plane_bytes) + at + f->skip_w[b];
            }
            weave(from, (size_t)f->sw, (size_t)out->w,
                  (float *)(void *)(base + a->y.base + c * a->y.plane_bytes) + (size_t)r * (size_t)out->pitch);
        }
    wn_planes_fill_gaps(&a->y, base, 0, c0, c1);
}

/* Every phase has what the output takes from it. */
static bool phases_fit(const struct wn_lower *lo, const struct wn_node *node, const struct wn_fused_interleave *f)
{
    int64_t y[4], x[4];
    wn_nchw(wn_lower_type(lo, node->out[0]), y);
    for (int32_t i = 0; i < f->sh * f->sw; i++) {
        const int32_t a = i / f->sw, b = i % f->sw;
        wn_nchw(wn_lower_type(lo, node->in[i]), x);
        if (x[0] != y[0] || x[1] != y[1] || (y[2] - a + f->sh - 1) / f->sh + f->skip_h[a] > x[2] ||
            (y[3] - b + f->sw - 1) / f->sw + f->skip_w[b] > x[3])
            return false;
    }
    return true;
}

enum winnow_status wn_lower_interleave(struct wn_lower *lo, const struct wn_node *node, bool *done)
{
    *done = false;
    const struct wn_fused_interleave *f = node->fused;
    if (lo->reference || !wn_fused_is(node, "Interleave") || !wn_lower_bytes(lo, node->out[0]) ||
        !phases_fit(lo, node, f))
        return WINNOW_OK;
    struct interleave_arg *a = wn_arena_calloc(&lo->plan->arena, 1, sizeof *a);
    if (!a)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "node '%s'", node->name);
    a->f = f;
    for (int32_t i = 0; i < f->sh * f->sw; i++)
        WN_TRY(wn_planes_get(lo, node->in[i], WN_FORM_F32, &a->x[i]));
    WN_TRY(wn_planes_new(lo, node->out[0], WN_FORM_F32, &a->y));
    if (!wn_lower_step(lo, node, "interleave", run_interleave, a))
        return WINNOW_E_NOMEM;
    wn_lower_images(lo, node->in[0]);
    for (int32_t i = 0; i < f->sh * f->sw; i++)
        wn_lower_touch(lo, a->x[i].loc);
    wn_lower_touch(lo, a->y.loc);
    *done = true;
    return WINNOW_OK;
}
