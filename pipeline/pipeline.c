/* pipeline.c: what one picture becomes: channels, geometry, normalisation; and what scores mean.
 *
 * DESIGN  Normalisation is a table of 256 floats per channel, made once in double arithmetic: encoding is a look-up,
 * and serving and training cannot round differently. pipeline.yaml is read in spec.c. */
#include "pipeline/pipeline.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "pipeline/decode.h"
#include "pipeline/spec.h"

void wn_pipeline_free(struct wn_pipeline *p)
{
    if (!p)
        return;
    wn_arena_done(&p->arena);
    free(p);
}

const char *wn_pipeline_task(const struct wn_pipeline *p)
{
    return p->task;
}

const char *wn_pipeline_input_name(const struct wn_pipeline *p)
{
    return p->input_name;
}

unsigned wn_pipeline_model_input(const struct wn_pipeline *p)
{
    return p->model_input;
}

unsigned wn_pipeline_model_output(const struct wn_pipeline *p)
{
    return p->model_output;
}

const struct wn_pipe_io *wn_pipeline_row(const struct wn_pipeline *p, size_t *ret_bytes)
{
    if (ret_bytes)
        *ret_bytes = p->row_bytes;
    return &p->row;
}

/* ---- geometry ---- */
enum winnow_status wn_pipeline_fit(const struct wn_pipeline *p, const struct wn_image *image, uint8_t *px,
                                   struct winnow_err *err)
{
    double part_w = 1, part_h = 1;
    if (p->crop) { /* of the picture with its shorter side at resize_to, the middle W x H */
        double shorter = WN_MIN(image->w, image->h);
        part_w = fmin(1.0, p->w * shorter / ((double)p->resize_to * image->w));
        part_h = fmin(1.0, p->h * shorter / ((double)p->resize_to * image->h));
    }
    if (image->channels == p->channels)
        return wn_image_resize(image, part_w, part_h, p->w, p->h, px, err);
    struct wn_image converted;
    WN_TRY(wn_image_convert(image, p->channels, &converted, err));
    enum winnow_status status = wn_image_resize(&converted, part_w, part_h, p->w, p->h, px, err);
    wn_image_done(&converted);
    return status;
}

/* ---- values ---- */
static void normalise_f32(const struct wn_pipeline *p, const uint8_t *px, float *row)
{
    size_t n = (size_t)p->w * p->h, c = p->channels;
    for (size_t k = 0; k < c; k++) {
        const uint8_t *from = px + (p->bgr ? c - 1 - k : k);
        const float *table = p->table[k];
        float *to = row + (p->nhwc ? k : k * n);
        size_t step = p->nhwc ? c : 1;
        for (size_t i = 0; i < n; i++)
            to[i * step] = table[from[i * c]];
    }
}

static void order_u8(const struct wn_pipeline *p, const uint8_t *px, uint8_t *row)
{
    size_t n = (size_t)p->w * p->h, c = p->channels;
    for (size_t k = 0; k < c; k++) {
        const uint8_t *from = px + (p->bgr ? c - 1 - k : k);
        uint8_t *to = row + (p->nhwc ? k : k * n);
        size_t step = p->nhwc ? c : 1;
        for (size_t i = 0; i < n; i++)
            to[i * step] = from[i * c];
    }
}

void wn_pipeline_normalise(const struct wn_pipeline *p, const uint8_t *px, void *row)
{
    if (p->row.dtype == WN_PIPE_F32)
        normalise_f32(p, px, row);
    else
        order_u8(p, px, row);
}

enum winnow_status wn_pipeline_encode_image(const struct wn_pipeline *p, const struct wn_image *image, void *row,
                                            struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) uint8_t *px = malloc((size_t)p->w * p->h * p->channels);
    if (!px)
        return wn_fail(err, WINNOW_E_NOMEM, "picture of %u x %u pixels", p->w, p->h);
    WN_TRY(wn_pipeline_fit(p, image, px, err));
    wn_pipeline_normalise(p, px, row);
    return WINNOW_OK;
}

enum winnow_status wn_pipeline_encode(const struct wn_pipeline *p, const void *bytes, size_t n, void *row,
                                      struct winnow_err *err)
{
    struct wn_image image;
    WN_TRY(wn_image_decode(bytes, n, &p->limits, &image, err));
    enum winnow_status status = wn_pipeline_encode_image(p, &image, row, err);
    wn_image_done(&image);
    return status;
}

/* ---- scores ---- */
unsigned wn_pipeline_n_labels(const struct wn_pipeline *p)
{
    return p->n_labels;
}

const char *wn_pipeline_label(const struct wn_pipeline *p, unsigned i)
{
    return i < p->n_labels ? p->label[i] : NULL;
}

/* a before b: the higher score, then the lower index; NaN behind everything. */
static bool before(const float *scores, unsigned a, unsigned b)
{
    float x = scores[a], y = scores[b];
    if (isnan(x) || isnan(y))
        return isnan(x) == isnan(y) ? a < b : !isnan(x);
    return x > y || (x == y && a < b);
}

/* exp(x - max) / sum, in double; what is not a number stays none. */
static void to_probabilities(const float *scores, unsigned n, unsigned k, struct wn_class *ret)
{
    double top = -HUGE_VAL, sum = 0;
    for (unsigned i = 0; i < n; i++)
        if (scores[i] > top)
            top = scores[i];
    for (unsigned i = 0; i < n; i++)
        sum += scores[i] == top ? 1 : exp((double)scores[i] - top); /* inf - inf is no number */
    for (unsigned i = 0; i < k; i++)
        ret[i].score = (float)((ret[i].score == top ? 1 : exp((double)ret[i].score - top)) / sum);
}

unsigned wn_pipeline_top_k(const struct wn_pipeline *p, const float *scores, unsigned n, unsigned k,
                           struct wn_class *ret)
{
    unsigned found = 0;
    k = WN_MIN(k, n);
    for (unsigned i = 0; i < n && k; i++) { /* insertion into a sorted list of at most k */
        if (found == k && !before(scores, i, ret[k - 1].index))
            continue;
        unsigned at = found < k ? found++ : k - 1;
        for (; at > 0 && before(scores, i, ret[at - 1].index); at--)
            ret[at] = ret[at - 1];
        ret[at] = (struct wn_class){ .index = i, .score = scores[i] };
    }
    if (p->softmax)
        to_probabilities(scores, n, found, ret);
    for (unsigned i = 0; i < found; i++)
        ret[i].label = ret[i].index < p->n_labels ? p->label[ret[i].index] : "";
    return found;
}
