/* task_image.c: pictures into tensors, scores into labels.
 *
 * DESIGN  Normalisation is a table of 256 floats per channel, made once in double arithmetic: encoding is a look-up,
 * and serving and training cannot round differently. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "pipeline/decode.h"
#include "pipeline/spec.h"

#define MAX_SIZE 4096 /* H and W of the model's input */

/* ---- settling ---- */
static bool is_picture(const struct wn_pipe_io *io)
{
    return io->rank == 3 && (io->shape[0] == 1 || io->shape[0] == 3 || io->shape[2] == 1 || io->shape[2] == 3 ||
                             io->shape[0] < 0 || io->shape[2] < 0);
}

static bool is_channels(int64_t extent)
{
    return extent == 1 || extent == 3;
}

/* Which axis holds the channels. */
static enum winnow_status settle_layout(struct wn_spec *s, const struct wn_pipe_io *in)
{
    static const char *const layouts[] = { "nchw", "nhwc", NULL };
    bool first = is_channels(in->shape[0]), last = is_channels(in->shape[2]);
    unsigned i = 0;
    if (wn_spec_key(s, "layout")) {
        WN_TRY(wn_spec_choice(s, "layout", layouts, &i));
        int64_t c = in->shape[i ? 2 : 0];
        if (c >= 0 && !is_channels(c))
            return WN_SPEC_BAD(s, wn_spec_key(s, "layout"),
                               "layout: with %s the model's '%s' would have %lld channels; 1 or 3 are supported",
                               layouts[i], in->name, (long long)c);
    } else if (first == last) {
        return WN_SPEC_BAD(s, s->doc->root, "key 'layout' is missing: the shape of '%s' fits nchw and nhwc", in->name);
    }
    s->p->image.nhwc = wn_spec_key(s, "layout") ? i == 1 : last;
    return WINNOW_OK;
}

static enum winnow_status settle_color(struct wn_spec *s, const struct wn_pipe_io *in)
{
    static const char *const colors[] = { "rgb", "bgr", "grey", NULL };
    int64_t c = in->shape[s->p->image.nhwc ? 2 : 0];
    unsigned i = c == 1 ? 2 : 0;
    WN_TRY(wn_spec_choice(s, "color", colors, &i));
    unsigned channels = i == 2 ? 1 : 3;
    if (c >= 0 && c != channels)
        return WN_SPEC_BAD(s, wn_spec_key(s, "color"), "color: '%s' has %u channels, the model's '%s' has %lld",
                           colors[i], channels, in->name, (long long)c);
    s->p->image.channels = channels;
    s->p->image.bgr = i == 1;
    return WINNOW_OK;
}

/* size: N, or [H, W]. */
static enum winnow_status read_size(const struct wn_spec *s, int64_t hw[2])
{
    const struct wn_yaml_node *v = wn_spec_key(s, "size");
    if (v->kind == WN_YAML_INT) {
        WN_TRY(wn_spec_want_int(s, "size", v, 1, MAX_SIZE, &hw[0]));
        hw[1] = hw[0];
        return WINNOW_OK;
    }
    if (v->kind != WN_YAML_SEQ || v->n != 2)
        return WN_SPEC_BAD(s, v, "size: expected an integer, or [height, width]");
    WN_TRY(wn_spec_want_int(s, "size", v->item[0], 1, MAX_SIZE, &hw[0]));
    return wn_spec_want_int(s, "size", v->item[1], 1, MAX_SIZE, &hw[1]);
}

static enum winnow_status settle_size(struct wn_spec *s, const struct wn_pipe_io *in)
{
    int64_t model[2] = { in->shape[s->p->image.nhwc ? 0 : 1], in->shape[s->p->image.nhwc ? 1 : 2] }, hw[2] = { -1, -1 };
    if (wn_spec_key(s, "size"))
        WN_TRY(read_size(s, hw));
    for (unsigned i = 0; i < 2; i++) {
        const char *side = i ? "width" : "height";
        if (hw[i] >= 0 && model[i] >= 0 && hw[i] != model[i])
            return WN_SPEC_BAD(s, wn_spec_key(s, "size"), "size: %s %lld, but the model's '%s' has %lld", side,
                               (long long)hw[i], in->name, (long long)model[i]);
        hw[i] = hw[i] >= 0 ? hw[i] : model[i];
        if (hw[i] < 0)
            return WN_SPEC_BAD(s, s->doc->root, "key 'size' is missing: the %s of the model's '%s' is dynamic", side,
                               in->name);
        if (hw[i] < 1 || hw[i] > MAX_SIZE)
            return WN_SPEC_BAD(s, s->doc->root, "%s %lld of the model's '%s' is not between 1 and %d", side,
                               (long long)hw[i], in->name, MAX_SIZE);
    }
    s->p->image.h = (uint32_t)hw[0];
    s->p->image.w = (uint32_t)hw[1];
    return WINNOW_OK;
}

static enum winnow_status settle_crop(struct wn_spec *s)
{
    int64_t least = WN_MAX(s->p->image.w, s->p->image.h), to = least;
    if (wn_spec_key(s, "resize_to") && !s->p->image.crop)
        return WN_SPEC_BAD(s, wn_spec_key(s, "resize_to"), "resize_to: only with 'resize: crop'");
    if (wn_spec_key(s, "resize_to"))
        WN_TRY(wn_spec_want_int(s, "resize_to", wn_spec_key(s, "resize_to"), least, 2 * MAX_SIZE, &to));
    s->p->image.resize_to = (uint32_t)to;
    return WINNOW_OK;
}

/* One number for all channels, or a list with one per channel in the model's channel order. */
static enum winnow_status per_channel(const struct wn_spec *s, const char *key, double def, double ret[3])
{
    const struct wn_yaml_node *v = wn_spec_key(s, key);
    for (unsigned k = 0; k < 3; k++)
        ret[k] = def;
    if (!v)
        return WINNOW_OK;
    if (v->kind == WN_YAML_SEQ && v->n != s->p->image.channels)
        return WN_SPEC_BAD(s, v, "%s: %zu numbers for %u channels", key, v->n, s->p->image.channels);
    for (unsigned k = 0; k < s->p->image.channels; k++)
        WN_TRY(wn_spec_want_number(s, key, v->kind == WN_YAML_SEQ ? v->item[k] : v, &ret[k]));
    return WINNOW_OK;
}

static enum winnow_status settle_values(struct wn_spec *s, const struct wn_pipe_io *in)
{
    double scale[3], mean[3], std[3];
    const struct wn_yaml_node *any = wn_spec_key(s, "scale")  ? wn_spec_key(s, "scale")
                                     : wn_spec_key(s, "mean") ? wn_spec_key(s, "mean")
                                                              : wn_spec_key(s, "std");
    if (in->dtype == WINNOW_U8 && any)
        return WN_SPEC_BAD(s, any, "scale, mean and std are for models with float input; '%s' takes bytes as they are",
                           in->name);
    WN_TRY(per_channel(s, "scale", 1, scale));
    WN_TRY(per_channel(s, "mean", 0, mean));
    WN_TRY(per_channel(s, "std", 1, std));
    for (unsigned k = 0; k < s->p->image.channels; k++) {
        if (!(fabs(std[k]) > 1e-30))
            return WN_SPEC_BAD(s, wn_spec_key(s, "std"), "std: must not be 0");
        for (unsigned v = 0; v < 256; v++)
            s->p->image.table[k][v] = (float)((v * scale[k] - mean[k]) / std[k]);
    }
    return WINNOW_OK;
}

static enum winnow_status settle_row(struct wn_spec *s, const struct wn_pipe_io *in)
{
    struct wn_image_task *im = &s->p->image;
    im->row = *in;
    im->row.name = wn_arena_strndup(&s->p->arena, in->name, strlen(in->name));
    if (!im->row.name)
        return wn_fail(s->err, WINNOW_E_NOMEM, "pipeline.yaml");
    im->row.shape[im->nhwc ? 2 : 0] = im->channels;
    im->row.shape[im->nhwc ? 0 : 1] = im->h;
    im->row.shape[im->nhwc ? 1 : 2] = im->w;
    im->row_bytes = (size_t)im->w * im->h * im->channels * (in->dtype == WINNOW_F32 ? sizeof(float) : 1);
    return WINNOW_OK;
}

static enum winnow_status settle_limits(struct wn_spec *s)
{
    int64_t side = 0, pixels = 0, bytes = 0;
    WN_TRY(wn_spec_int(s, "max_side", 1, 65535, &side));
    WN_TRY(wn_spec_int(s, "max_pixels", 1, INT64_C(1) << 29, &pixels));
    WN_TRY(wn_spec_int(s, "max_bytes", 1, INT64_C(1) << 30, &bytes));
    s->p->image.limits = (struct wn_image_limits){ (uint32_t)side, (uint64_t)pixels, (size_t)bytes };
    return WINNOW_OK;
}

static enum winnow_status settle(struct wn_spec *s)
{
    static const char *const ways[] = { "squash", "crop", NULL };
    struct wn_pipeline *p = s->p;
    unsigned way = 0;
    p->raw[0] = p->raw[0] ? p->raw[0] : "image";
    p->n_raw = p->n_fill = 1;
    WN_TRY(wn_spec_choice(s, "resize", ways, &way));
    p->image.crop = way == 1;
    WN_TRY(settle_limits(s));
    WN_TRY(wn_spec_choose_io(s, "model_input", s->in, s->n_in, is_picture, "a picture", &p->fill[0]));
    const struct wn_pipe_io *in = &s->in[p->fill[0]];
    if (in->dtype != WINNOW_F32 && in->dtype != WINNOW_U8)
        return WN_SPEC_BAD(s, s->doc->root, "the model's '%s' takes neither f32 nor u8", in->name);
    WN_TRY(settle_layout(s, in));
    WN_TRY(settle_color(s, in));
    WN_TRY(settle_size(s, in));
    WN_TRY(settle_crop(s));
    WN_TRY(settle_values(s, in));
    WN_TRY(settle_row(s, in));
    return wn_spec_scores(s);
}

/* ---- geometry ---- */
enum winnow_status wn_pipeline_fit(const struct wn_pipeline *p, const struct wn_image *image, uint8_t *px,
                                   struct winnow_err *err)
{
    double part_w = 1, part_h = 1;
    if (p->image.crop) { /* of the picture with its shorter side at resize_to, the middle W x H */
        double shorter = WN_MIN(image->w, image->h);
        part_w = fmin(1.0, p->image.w * shorter / ((double)p->image.resize_to * image->w));
        part_h = fmin(1.0, p->image.h * shorter / ((double)p->image.resize_to * image->h));
    }
    if (image->channels == p->image.channels)
        return wn_image_resize(image, part_w, part_h, p->image.w, p->image.h, px, err);
    struct wn_image converted;
    WN_TRY(wn_image_convert(image, p->image.channels, &converted, err));
    enum winnow_status status = wn_image_resize(&converted, part_w, part_h, p->image.w, p->image.h, px, err);
    wn_image_done(&converted);
    return status;
}

/* ---- values ---- */
static void normalise_f32(const struct wn_pipeline *p, const uint8_t *px, float *row)
{
    size_t n = (size_t)p->image.w * p->image.h, c = p->image.channels;
    for (size_t k = 0; k < c; k++) {
        const uint8_t *from = px + (p->image.bgr ? c - 1 - k : k);
        const float *table = p->image.table[k];
        float *to = row + (p->image.nhwc ? k : k * n);
        size_t step = p->image.nhwc ? c : 1;
        for (size_t i = 0; i < n; i++)
            to[i * step] = table[from[i * c]];
    }
}

static void order_u8(const struct wn_pipeline *p, const uint8_t *px, uint8_t *row)
{
    size_t n = (size_t)p->image.w * p->image.h, c = p->image.channels;
    for (size_t k = 0; k < c; k++) {
        const uint8_t *from = px + (p->image.bgr ? c - 1 - k : k);
        uint8_t *to = row + (p->image.nhwc ? k : k * n);
        size_t step = p->image.nhwc ? c : 1;
        for (size_t i = 0; i < n; i++)
            to[i * step] = from[i * c];
    }
}

void wn_pipeline_normalise(const struct wn_pipeline *p, const uint8_t *px, void *row)
{
    if (p->image.row.dtype == WINNOW_F32)
        normalise_f32(p, px, row);
    else
        order_u8(p, px, row);
}

enum winnow_status wn_pipeline_encode_image(const struct wn_pipeline *p, const struct wn_image *image, void *row,
                                            struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) uint8_t *px = malloc((size_t)p->image.w * p->image.h * p->image.channels);
    if (!px)
        return wn_fail(err, WINNOW_E_NOMEM, "picture of %u x %u pixels", p->image.w, p->image.h);
    WN_TRY(wn_pipeline_fit(p, image, px, err));
    wn_pipeline_normalise(p, px, row);
    return WINNOW_OK;
}

enum winnow_status wn_pipeline_encode(const struct wn_pipeline *p, const void *bytes, size_t n, void *row,
                                      struct winnow_err *err)
{
    struct wn_image image;
    WN_TRY(wn_image_decode(bytes, n, &p->image.limits, &image, err));
    enum winnow_status status = wn_pipeline_encode_image(p, &image, row, err);
    wn_image_done(&image);
    return status;
}

static enum winnow_status encode(const struct wn_pipeline *p, const struct wn_pipe_items *items,
                                 const struct wn_pipe_opts *opts, struct wn_arena *arena, struct wn_pipe_batch *ret,
                                 struct winnow_err *err)
{
    struct wn_pipe_tensor *t = &ret->t[0];
    const struct wn_pipe_io *row = &p->image.row;
    struct wn_image_limits limits = p->image.limits;
    if (!limits.max_pixels)
        limits.max_pixels = opts->max_pixels;
    *t = (struct wn_pipe_tensor){ .model_input = p->fill[0], .dtype = row->dtype, .rank = row->rank + 1 };
    t->shape[0] = (int64_t)items->n;
    memcpy(t->shape + 1, row->shape, row->rank * sizeof t->shape[0]);
    t->data = wn_mul_size(items->n, p->image.row_bytes, &t->bytes) ? wn_arena_alloc(arena, t->bytes) : NULL;
    if (!t->data)
        return wn_fail(err, WINNOW_E_NOMEM, "%zu pictures", items->n);
    for (size_t i = 0; i < items->n; i++) {
        struct wn_image image;
        ret->bad_row = i;
        WN_TRY(wn_image_decode(items->at[0][i].at, items->at[0][i].n, &limits, &image, err));
        enum winnow_status status = wn_pipeline_encode_image(p, &image, (char *)t->data + i * p->image.row_bytes, err);
        wn_image_done(&image);
        WN_TRY(status);
    }
    ret->n_t = 1;
    return WINNOW_OK;
}

static const char *const keys[] = { "model_input", "layout", "size",   "color",   "resize",   "resize_to",  "scale",
                                    "mean",        "std",    "labels", "softmax", "max_side", "max_pixels", NULL };

const struct wn_task_kind wn_task_image = {
    .name = "image_classification", .task = WN_PIPE_IMAGES, .keys = keys, .settle = settle, .encode = encode
};
