/* detect.c: what object detectors end with: NonMaxSuppression, and RoiAlign in the middle of some
 * (onnx/defs/object_detection/defs.cc). */
#include <math.h>
#include <stdlib.h>
#include "engine/ops/budget.h"
#include "engine/ops/impl.h"

/* ---- NonMaxSuppression ---- */

enum winnow_status wn_infer_nms(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_type *boxes = &in->in[0], *scores = &in->in[1];
    int64_t same, center = wn_node_int(in->node, "center_point_box", 0);
    WN_TRY(wn_want(in, 0, WN_D(F32), err));
    WN_TRY(wn_want(in, 1, WN_D(F32), err));
    WN_TRY(wn_want(in, 2, WN_D(I64), err));
    WN_TRY(wn_want(in, 3, WN_D(F32), err));
    WN_TRY(wn_want(in, 4, WN_D(F32), err));
    WN_TRY(wn_want_rank(in, 0, 3, 3, err));
    WN_TRY(wn_want_rank(in, 1, 3, 3, err));
    if (center != 0 && center != 1)
        return wn_bad(err, "attribute center_point_box: %lld", (long long)center);
    if (boxes->rank == 3)
        WN_TRY(wn_dim_same(boxes->dim[2], 4, "numbers of a box", &same, err));
    if (boxes->rank == 3 && scores->rank == 3) {
        WN_TRY(wn_dim_same(boxes->dim[0], scores->dim[0], "batches of boxes and scores", &same, err));
        WN_TRY(wn_dim_same(boxes->dim[1], scores->dim[2], "boxes and scores", &same, err));
    }
    wn_type_set_rank(&in->out[0], 2);
    in->out[0].dtype = WINNOW_I64;
    in->out[0].dim[1] = 3;
    return WINNOW_OK;
}

struct box {
    float y1, x1, y2, x2;
};

static struct box box_of(const float *p, bool center)
{
    if (center) /* x, y, width, height */
        return (struct box){ p[1] - p[3] / 2, p[0] - p[2] / 2, p[1] + p[3] / 2, p[0] + p[2] / 2 };
    return (struct box){ fminf(p[0], p[2]), fminf(p[1], p[3]), fmaxf(p[0], p[2]), fmaxf(p[1], p[3]) };
}

static float overlap(const struct box *a, const struct box *b)
{
    float h = fminf(a->y2, b->y2) - fmaxf(a->y1, b->y1), w = fminf(a->x2, b->x2) - fmaxf(a->x1, b->x1);
    float area_a = (a->y2 - a->y1) * (a->x2 - a->x1), area_b = (b->y2 - b->y1) * (b->x2 - b->x1);
    if (!(h > 0 && w > 0) || !(area_a > 0 && area_b > 0))
        return 0;
    return h * w / (area_a + area_b - h * w);
}

struct candidate {
    float score;
    int64_t at;
};

static int by_score(const void *pa, const void *pb)
{
    const struct candidate *a = pa, *b = pb;
    if (a->score != b->score)
        return a->score > b->score ? -1 : 1;
    return a->at < b->at ? -1 : a->at > b->at;
}

struct nms {
    const float *boxes, *scores; /* [batch][n][4], [batch][classes][n] */
    int64_t batch, classes, n, most;
    float iou, least;
    bool by_score, center;
    struct candidate *c; /* [n] */
    struct box *kept;    /* [n] */
    int64_t (*out)[3];   /* NULL: only count */
    struct wn_budget *budget;
};

/* Boxes kept of one class of one picture, written from out[*at], which goes on by their number. */
static enum winnow_status keep(struct nms *m, int64_t b, int64_t cls, int64_t *at, struct winnow_err *err)
{
    const float *score = m->scores + (b * m->classes + cls) * m->n;
    int64_t n = 0, kept = 0;
    for (int64_t i = 0; i < m->n; i++)
        if ((!m->by_score && !isnan(score[i])) || score[i] > m->least)
            m->c[n++] = (struct candidate){ score[i], i };
    qsort(m->c, (size_t)n, sizeof m->c[0], by_score);
    for (int64_t i = 0; i < n && kept < m->most; i++) {
        WN_TRY(wn_budget_work(m->budget, (uint64_t)kept, err));
        struct box box = box_of(m->boxes + (b * m->n + m->c[i].at) * 4, m->center);
        bool free_place = true;
        for (int64_t k = 0; k < kept && free_place; k++)
            free_place = !(overlap(&box, &m->kept[k]) > m->iou);
        if (!free_place)
            continue;
        if (m->out) {
            m->out[*at + kept][0] = b;
            m->out[*at + kept][1] = cls;
            m->out[*at + kept][2] = m->c[i].at;
        }
        m->kept[kept++] = box;
    }
    *at += kept;
    return WINNOW_OK;
}

static enum winnow_status keep_all(struct nms *m, int64_t *ret_total, struct winnow_err *err)
{
    *ret_total = 0;
    for (int64_t b = 0; b < m->batch; b++)
        for (int64_t cls = 0; cls < m->classes; cls++)
            WN_TRY(keep(m, b, cls, ret_total, err));
    return WINNOW_OK;
}

static const struct wn_tensor *given(const struct wn_run *run, unsigned i)
{
    return i < run->n_in ? run->in[i] : NULL;
}

enum winnow_status wn_run_nms(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *boxes = run->in[0], *scores = run->in[1];
    struct nms m = { .boxes = boxes->data,
                     .scores = scores->data,
                     .batch = scores->dim[0],
                     .classes = scores->dim[1],
                     .n = boxes->dim[1],
                     .most = given(run, 2) ? WN_MAX(wn_scalar_int(run->in[2], 0), 0) : 0,
                     .iou = given(run, 3) ? (float)wn_scalar(run->in[3], 0) : 0,
                     .by_score = given(run, 4) != NULL,
                     .least = given(run, 4) ? (float)wn_scalar(run->in[4], 0) : 0,
                     .center = wn_node_int(run->node, "center_point_box", 0) == 1,
                     .budget = run->budget };
    if (!(m.iou >= 0 && m.iou <= 1))
        return wn_bad(err, "iou_threshold is %g, must be 0 to 1", (double)m.iou);
    m.c = wn_arena_calloc(run->tmp, (size_t)m.n, sizeof *m.c);
    m.kept = wn_arena_calloc(run->tmp, (size_t)m.n, sizeof *m.kept);
    if (!m.c || !m.kept)
        return wn_nomem(err);
    int64_t dim[2] = { 0, 3 };
    WN_TRY(keep_all(&m, &dim[0], err));
    WN_TRY(wn_run_alloc(run, 0, WINNOW_I64, 2, dim, err));
    m.out = run->out[0].data;
    return keep_all(&m, &dim[0], err);
}

/* ---- RoiAlign: X [N, C, H, W], rois [R, 4] as x1 y1 x2 y2, the picture of each ---- */

#define MAX_POOL    (1 << 14) /* of output_height, output_width */
#define MAX_SAMPLES (1 << 12) /* along one side of a bin */

enum winnow_status wn_infer_roi_align(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_type *x = &in->in[0], *rois = &in->in[1], *pictures = &in->in[2];
    int64_t h = wn_node_int(in->node, "output_height", 1), w = wn_node_int(in->node, "output_width", 1), n = -1, same;
    WN_TRY(wn_want(in, 0, WN_FLOATS, err));
    WN_TRY(wn_want_same(in, 0, 1, err));
    WN_TRY(wn_want(in, 2, WN_D(I64), err));
    WN_TRY(wn_want_rank(in, 0, 4, 4, err));
    WN_TRY(wn_want_rank(in, 1, 2, 2, err));
    WN_TRY(wn_want_rank(in, 2, 1, 1, err));
    if (h < 1 || w < 1 || h > MAX_POOL || w > MAX_POOL)
        return wn_bad(err, "output_height %lld, output_width %lld", (long long)h, (long long)w);
    int64_t ratio = wn_node_int(in->node, "sampling_ratio", 0);
    if (ratio < 0 || ratio > MAX_SAMPLES)
        return wn_bad(err, "attribute sampling_ratio: %lld", (long long)ratio);
    if (!wn_node_str_is(in->node, "mode", "avg", "avg") && !wn_node_str_is(in->node, "mode", "avg", "max"))
        return wn_bad(err, "attribute mode");
    if (rois->rank == 2) {
        WN_TRY(wn_dim_same(rois->dim[1], 4, "numbers of a region", &same, err));
        n = rois->dim[0];
    }
    if (pictures->rank == 1)
        WN_TRY(wn_dim_same(n, pictures->dim[0], "regions and pictures", &n, err));
    in->out[0] = (struct wn_type){ .dtype = x->dtype, .rank = 4, .dim = { n, x->rank == 4 ? x->dim[1] : -1, h, w } };
    return WINNOW_OK;
}

/* Where a bin's samples lie along one axis: start + (i + 0.5) * step, n of them. */
struct side {
    float start, step;
    int64_t n, extent;
};

static struct side side_of(float from, float to, int64_t bin, int64_t bins, int64_t ratio, int64_t extent, bool half)
{
    float length = to - from;
    if (!half)
        length = fmaxf(length, 1);
    float size = length / (float)bins;
    int64_t n = ratio > 0 ? ratio : (int64_t)fminf(fmaxf(ceilf(size), 0), MAX_SAMPLES);
    return (struct side){ from + (float)bin * size, n ? size / (float)n : 0, n, extent };
}

/* The two lines around sample i and the weight of the second; false outside. */
static bool around(const struct side *s, int64_t i, int64_t *lo, int64_t *hi, float *weight)
{
    float p = s->start + ((float)i + 0.5f) * s->step;
    if (s->extent < 1 || !(p >= -1 && p <= (float)s->extent))
        return false;
    p = fmaxf(p, 0);
    *lo = (int64_t)p;
    if (*lo >= s->extent - 1) {
        *lo = *hi = s->extent - 1;
        *weight = 0;
    } else {
        *hi = *lo + 1;
        *weight = p - (float)*lo;
    }
    return true;
}

static float pool_bin(const float *x, int64_t width, const struct side *v, const struct side *h, bool max)
{
    float sum = 0;
    bool any = false;
    for (int64_t i = 0; i < v->n; i++)
        for (int64_t k = 0; k < h->n; k++) {
            int64_t y0, y1, x0, x1;
            float wy, wx, part[4] = { 0 };
            if (around(v, i, &y0, &y1, &wy) && around(h, k, &x0, &x1, &wx)) {
                part[0] = (1 - wy) * (1 - wx) * x[y0 * width + x0];
                part[1] = (1 - wy) * wx * x[y0 * width + x1];
                part[2] = wy * (1 - wx) * x[y1 * width + x0];
                part[3] = wy * wx * x[y1 * width + x1];
            }
            if (max) {
                float m = fmaxf(fmaxf(part[0], part[1]), fmaxf(part[2], part[3]));
                sum = any ? fmaxf(sum, m) : m;
            } else {
                sum += part[0] + part[1] + part[2] + part[3];
            }
            any = true;
        }
    return max ? sum : sum / (float)WN_MAX(v->n * h->n, 1);
}

enum winnow_status wn_run_roi_align(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0];
    const struct wn_node *node = run->node;
    int64_t N = x->dim[0], C = x->dim[1], H = x->dim[2], W = x->dim[3], R = run->out[0].dim[0];
    int64_t oh = run->out[0].dim[2], ow = run->out[0].dim[3], ratio = wn_node_int(node, "sampling_ratio", 0);
    float scale = wn_node_float(node, "spatial_scale", 1);
    bool half =
        node->opset >= 16 && !wn_node_str_is(node, "coordinate_transformation_mode", "half_pixel", "output_half_pixel");
    bool max = wn_node_str_is(node, "mode", "avg", "max");
    const float *xs = wn_as_f32(x, run->tmp), *rois = wn_as_f32(run->in[1], run->tmp);
    float *y = wn_out_f32(run, 0), shift = half ? 0.5f : 0;
    if (!xs || !rois || !y)
        return wn_nomem(err);
    for (int64_t r = 0; r < R; r++) {
        int64_t b = wn_scalar_int(run->in[2], r);
        if (b < 0 || b >= N)
            return wn_bad(err, "region %lld is of picture %lld of %lld", (long long)r, (long long)b, (long long)N);
        const float *p = rois + 4 * r;
        for (int64_t i = 0; i < oh; i++)
            for (int64_t k = 0; k < ow; k++) {
                struct side v = side_of(p[1] * scale - shift, p[3] * scale - shift, i, oh, ratio, H, half);
                struct side h = side_of(p[0] * scale - shift, p[2] * scale - shift, k, ow, ratio, W, half);
                for (int64_t c = 0; c < C; c++)
                    y[((r * C + c) * oh + i) * ow + k] = pool_bin(xs + (b * C + c) * H * W, W, &v, &h, max);
            }
    }
    wn_put_f32(run, 0, y);
    return WINNOW_OK;
}
