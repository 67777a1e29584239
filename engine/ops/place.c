/* place.c: elements put elsewhere, or found again: Unique, CenterCropPad, Col2Im, MaxUnpool. */
#include <stdlib.h>
#include <string.h>
#include "engine/ops/impl.h"

/* ---- Unique: equal entries along an axis (or of the flattened input) once ---- */

enum winnow_status wn_infer_unique(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_type *x = &in->in[0];
    int axis;
    WN_TRY(wn_want(in, 0, WN_ALL, err));
    for (unsigned i = 1; i < in->n_out; i++) {
        in->out[i].dtype = WINNOW_I64;
        wn_type_set_rank(&in->out[i], 1);
    }
    in->out[0].dtype = x->dtype;
    if (!wn_node_attr(in->node, "axis")) {
        wn_type_set_rank(&in->out[0], 1);
        return WINNOW_OK;
    }
    if (x->rank < 0)
        return WINNOW_OK;
    WN_TRY(wn_axis(wn_node_int(in->node, "axis", 0), x->rank, "axis", &axis, err));
    in->out[0] = *x;
    in->out[0].dim[axis] = -1;
    return WINNOW_OK;
}

/* The input as entries: n of them, each outer pieces of inner elements, n * inner elements apart. */
struct entries {
    const struct wn_tensor *x;
    int64_t n, outer, inner;
};

static int compare_elements(const struct wn_tensor *x, int64_t a, int64_t b)
{
    if (x->dtype == WINNOW_STRING) {
        const struct winnow_str *s = (const struct winnow_str *)x->data + a,
                                *t = (const struct winnow_str *)x->data + b;
        int c = memcmp(s->p ? s->p : "", t->p ? t->p : "", WN_MIN(s->n, t->n));
        return c ? c : (s->n > t->n) - (s->n < t->n);
    }
    if (wn_dtype_is_float(x->dtype)) {
        double p = wn_scalar(x, a), q = wn_scalar(x, b);
        if (p != p || q != q) /* NaN is equal to itself here, and comes last */
            return (p != p) - (q != q);
        return (p > q) - (p < q);
    }
    int64_t p = wn_scalar_int(x, a), q = wn_scalar_int(x, b);
    if (x->dtype == WINNOW_U64)
        return ((uint64_t)p > (uint64_t)q) - ((uint64_t)p < (uint64_t)q);
    return (p > q) - (p < q);
}

static int compare_entries(const struct entries *e, int64_t a, int64_t b)
{
    int c = 0;
    for (int64_t o = 0; o < e->outer && !c; o++)
        for (int64_t i = 0; i < e->inner && !c; i++)
            c = compare_elements(e->x, (o * e->n + a) * e->inner + i, (o * e->n + b) * e->inner + i);
    return c;
}

struct ranked {
    const struct entries *e;
    int64_t at;
};

static int by_content(const void *pa, const void *pb)
{
    const struct ranked *a = pa, *b = pb;
    int c = compare_entries(a->e, a->at, b->at);
    return c ? c : (a->at > b->at) - (a->at < b->at);
}

struct group {
    int64_t first, n; /* first entry of this content, and how many there are */
    int64_t id;       /* in the order of contents */
};

static int by_first(const void *pa, const void *pb)
{
    const struct group *a = pa, *b = pb;
    return (a->first > b->first) - (a->first < b->first);
}

static enum winnow_status put_entries(struct wn_run *run, const struct entries *e, const struct group *g, int64_t n,
                                      int axis, struct winnow_err *err)
{
    int64_t dim[WINNOW_MAX_RANK];
    bool flat = axis < 0;
    size_t block = (size_t)e->inner * winnow_dtype_size(e->x->dtype);
    memcpy(dim, e->x->dim, sizeof dim);
    dim[flat ? 0 : axis] = n;
    WN_TRY(wn_run_alloc(run, 0, e->x->dtype, flat ? 1 : e->x->rank, dim, err));
    for (int64_t o = 0; o < e->outer; o++)
        for (int64_t k = 0; k < n; k++)
            memcpy((char *)run->out[0].data + (size_t)(o * n + k) * block,
                   (const char *)e->x->data + (size_t)(o * e->n + g[k].first) * block, block);
    return WINNOW_OK;
}

static enum winnow_status put_counts(struct wn_run *run, unsigned i, const struct group *g, int64_t n, bool first,
                                     struct winnow_err *err)
{
    if (run->n_out <= i)
        return WINNOW_OK;
    WN_TRY(wn_run_alloc(run, i, WINNOW_I64, 1, &n, err));
    for (int64_t k = 0; k < n; k++)
        ((int64_t *)run->out[i].data)[k] = first ? g[k].first : g[k].n;
    return WINNOW_OK;
}

enum winnow_status wn_run_unique(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0];
    struct entries e = { .x = x, .n = wn_tensor_count(x), .outer = 1, .inner = 1 };
    int axis = -1;
    if (wn_node_attr(run->node, "axis")) {
        WN_TRY(wn_axis(wn_node_int(run->node, "axis", 0), (int)x->rank, "axis", &axis, err));
        e.n = x->dim[axis];
        for (int a = 0; a < (int)x->rank; a++) {
            e.outer *= a < axis ? x->dim[a] : 1;
            e.inner *= a > axis ? x->dim[a] : 1;
        }
    }
    struct ranked *r = wn_arena_calloc(run->tmp, (size_t)e.n, sizeof *r);
    struct group *g = wn_arena_calloc(run->tmp, (size_t)e.n, sizeof *g);
    int64_t *of = wn_arena_calloc(run->tmp, (size_t)e.n, sizeof *of), *place, n = 0; /* of: the group of an entry */
    if (!r || !g || !of)
        return wn_nomem(err);
    for (int64_t i = 0; i < e.n; i++)
        r[i] = (struct ranked){ &e, i };
    qsort(r, (size_t)e.n, sizeof *r, by_content);
    for (int64_t i = 0; i < e.n; i++) {
        if (!i || compare_entries(&e, r[i - 1].at, r[i].at)) {
            g[n] = (struct group){ .first = r[i].at, .id = n };
            n++;
        }
        g[n - 1].n++;
        of[r[i].at] = n - 1;
    }
    if (!wn_node_int(run->node, "sorted", 1))
        qsort(g, (size_t)n, sizeof *g, by_first);
    if (!(place = wn_arena_calloc(run->tmp, (size_t)n, sizeof *place)))
        return wn_nomem(err);
    for (int64_t k = 0; k < n; k++)
        place[g[k].id] = k;
    WN_TRY(put_entries(run, &e, g, n, axis, err));
    WN_TRY(put_counts(run, 1, g, n, true, err));
    WN_TRY(put_counts(run, 3, g, n, false, err));
    if (run->n_out <= 2)
        return WINNOW_OK;
    WN_TRY(wn_run_alloc(run, 2, WINNOW_I64, 1, &e.n, err));
    for (int64_t i = 0; i < e.n; i++)
        ((int64_t *)run->out[2].data)[i] = place[of[i]];
    return WINNOW_OK;
}

/* ---- CenterCropPad ---- */

static enum winnow_status crop_dims(const struct wn_node *node, const struct wn_type *x, const struct wn_tensor *shape,
                                    int64_t *dim, struct winnow_err *err)
{
    int64_t want[WINNOW_MAX_RANK];
    size_t n, n_axes;
    const int64_t *axes = wn_node_ints(node, "axes", &n_axes);
    WN_TRY(wn_ints(shape, "shape", want, WN_COUNT(want), &n, err));
    if (n != (axes ? n_axes : (size_t)x->rank))
        return wn_bad(err, "shape has %zu elements for %zu axes", n, axes ? n_axes : (size_t)x->rank);
    memcpy(dim, x->dim, (size_t)x->rank * sizeof *dim);
    for (size_t i = 0; i < n; i++) {
        int axis;
        WN_TRY(wn_axis(axes ? axes[i] : (int64_t)i, x->rank, "axis", &axis, err));
        if (want[i] < 0)
            return wn_bad(err, "shape has the extent %lld", (long long)want[i]);
        dim[axis] = want[i];
    }
    return WINNOW_OK;
}

enum winnow_status wn_infer_center_crop_pad(struct wn_infer *in, struct winnow_err *err)
{
    WN_TRY(wn_want(in, 0, WN_ALL & ~WN_D(STRING), err));
    WN_TRY(wn_want(in, 1, WN_INDEX, err));
    in->out[0].dtype = in->in[0].dtype;
    if (in->in[0].rank < 0)
        return WINNOW_OK;
    wn_type_set_rank(&in->out[0], in->in[0].rank);
    return in->value[1] ? crop_dims(in->node, &in->in[0], in->value[1], in->out[0].dim, err) : WINNOW_OK;
}

enum winnow_status wn_run_center_crop_pad(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0];
    struct wn_tensor *y = &run->out[0];
    int64_t part[WINNOW_MAX_RANK], from[WINNOW_MAX_RANK], to[WINNOW_MAX_RANK], at_x = 0, at_y = 0, count = 1;
    size_t elem = winnow_dtype_size(x->dtype);
    wn_strides(x->rank, x->dim, from);
    wn_strides(y->rank, y->dim, to);
    for (unsigned a = 0; a < x->rank; a++) {
        part[a] = WN_MIN(x->dim[a], y->dim[a]);
        at_x += (x->dim[a] - part[a]) / 2 * from[a];
        at_y += (y->dim[a] - part[a]) / 2 * to[a];
        count *= part[a];
    }
    memset(y->data, 0, y->bytes);
    if (count)
        wn_copy_nd(x->rank, part, (char *)y->data + (size_t)at_y * elem, to,
                   (const char *)x->data + (size_t)at_x * elem, from, elem);
    return WINNOW_OK;
}

/* ---- Col2Im: columns [N, C * block, L] added up where they came from ---- */

struct fold {
    size_t nd;
    int64_t image[WN_MAX_SPATIAL], block[WN_MAX_SPATIAL], dil[WN_MAX_SPATIAL], stride[WN_MAX_SPATIAL],
        pad[WN_MAX_SPATIAL], steps[WN_MAX_SPATIAL];
    int64_t n_block, n_steps; /* elements of a block, places of it */
};

static enum winnow_status one_list(const struct wn_node *node, const char *name, size_t n, int64_t def, int64_t lo,
                                   int64_t *ret, struct winnow_err *err)
{
    size_t given;
    const int64_t *v = wn_node_ints(node, name, &given);
    if (v && given != n)
        return wn_bad(err, "attribute %s has %zu elements, must have %zu", name, given, n);
    for (size_t i = 0; i < n; i++) {
        ret[i] = v ? v[i] : def;
        if (ret[i] < lo || ret[i] > INT32_MAX)
            return wn_bad(err, "attribute %s: %lld", name, (long long)ret[i]);
    }
    return WINNOW_OK;
}

static enum winnow_status read_fold(const struct wn_node *node, const struct wn_tensor *image,
                                    const struct wn_tensor *block, struct fold *f, struct winnow_err *err)
{
    size_t n;
    int64_t pads[2 * WN_MAX_SPATIAL];
    *f = (struct fold){ .n_block = 1, .n_steps = 1 };
    WN_TRY(wn_ints(image, "image_shape", f->image, WN_MAX_SPATIAL, &f->nd, err));
    WN_TRY(wn_ints(block, "block_shape", f->block, WN_MAX_SPATIAL, &n, err));
    if (n != f->nd || !n)
        return wn_bad(err, "image_shape has %zu elements, block_shape %zu", f->nd, n);
    WN_TRY(one_list(node, "dilations", n, 1, 1, f->dil, err));
    WN_TRY(one_list(node, "strides", n, 1, 1, f->stride, err));
    WN_TRY(one_list(node, "pads", 2 * n, 0, 0, pads, err));
    for (size_t a = 0; a < n; a++) {
        if (f->image[a] < 1 || f->block[a] < 1 || f->image[a] > INT32_MAX || f->block[a] > INT32_MAX)
            return wn_bad(err, "image extent %lld, block extent %lld", (long long)f->image[a], (long long)f->block[a]);
        f->pad[a] = pads[a];
        int64_t room = f->image[a] + pads[a] + pads[n + a] - f->dil[a] * (f->block[a] - 1) - 1;
        if (room < 0)
            return wn_bad(err, "a block of %lld does not fit into %lld", (long long)f->block[a],
                          (long long)f->image[a]);
        f->steps[a] = room / f->stride[a] + 1;
        WN_TRY(wn_dim_mul(f->n_block, f->block[a], &f->n_block, err));
        WN_TRY(wn_dim_mul(f->n_steps, f->steps[a], &f->n_steps, err));
    }
    return WINNOW_OK;
}

enum winnow_status wn_infer_col2im(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_type *x = &in->in[0];
    struct fold f;
    int64_t same;
    WN_TRY(wn_want(in, 0, WN_NUMBERS, err));
    WN_TRY(wn_want(in, 1, WN_D(I64), err));
    WN_TRY(wn_want(in, 2, WN_D(I64), err));
    WN_TRY(wn_want_rank(in, 0, 3, 3, err));
    in->out[0].dtype = x->dtype;
    if (!in->value[1] || !in->value[2])
        return WINNOW_OK;
    WN_TRY(read_fold(in->node, in->value[1], in->value[2], &f, err));
    wn_type_set_rank(&in->out[0], (int)f.nd + 2);
    if (x->rank == 3) {
        WN_TRY(wn_dim_same(x->dim[2], f.n_steps, "columns", &same, err));
        if (x->dim[1] >= 0 && x->dim[1] % f.n_block)
            return wn_bad(err, "%lld rows for blocks of %lld", (long long)x->dim[1], (long long)f.n_block);
        in->out[0].dim[0] = x->dim[0];
        in->out[0].dim[1] = x->dim[1] < 0 ? -1 : x->dim[1] / f.n_block;
    }
    for (size_t a = 0; a < f.nd; a++)
        in->out[0].dim[a + 2] = f.image[a];
    return WINNOW_OK;
}

/* Offset of element k of a block put at step s; -1 in the padding. */
static int64_t fold_at(const struct fold *f, int64_t k, int64_t s)
{
    int64_t at = 0, scale = 1;
    for (size_t a = f->nd; a-- > 0;) {
        int64_t i = s % f->steps[a] * f->stride[a] + k % f->block[a] * f->dil[a] - f->pad[a];
        if (i < 0 || i >= f->image[a])
            return -1;
        at += i * scale;
        scale *= f->image[a];
        s /= f->steps[a];
        k /= f->block[a];
    }
    return at;
}

enum winnow_status wn_run_col2im(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0];
    struct wn_tensor *y = &run->out[0];
    struct fold f;
    WN_TRY(read_fold(run->node, run->in[1], run->in[2], &f, err));
    int64_t planes = y->dim[0] * y->dim[1], size = 1;
    for (size_t a = 0; a < f.nd; a++)
        size *= f.image[a];
    double *sum = wn_arena_calloc(run->tmp, (size_t)size, sizeof *sum);
    if (!sum)
        return wn_nomem(err);
    for (int64_t p = 0; p < planes; p++) {
        memset(sum, 0, (size_t)size * sizeof *sum);
        for (int64_t k = 0; k < f.n_block; k++)
            for (int64_t s = 0; s < f.n_steps; s++) {
                int64_t at = fold_at(&f, k, s);
                if (at >= 0)
                    sum[at] += wn_scalar(x, (p * f.n_block + k) * f.n_steps + s);
            }
        for (int64_t i = 0; i < size; i += WN_CHUNK)
            wn_store(y->dtype, y->data, p * size + i, (size_t)WN_MIN(size - i, WN_CHUNK), WN_CLS_F64, sum + i);
    }
    return WINNOW_OK;
}

/* ---- MaxUnpool: each value at the index that MaxPool gave it, zero elsewhere ---- */

enum winnow_status wn_infer_max_unpool(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_type *x = &in->in[0];
    int64_t kernel[WN_MAX_SPATIAL], stride[WN_MAX_SPATIAL], pad[2 * WN_MAX_SPATIAL], same;
    size_t n = 0;
    WN_TRY(wn_want(in, 0, WN_FLOATS, err));
    WN_TRY(wn_want(in, 1, WN_D(I64), err));
    WN_TRY(wn_want(in, 2, WN_D(I64), err));
    WN_TRY(wn_want_rank(in, 0, 3, WINNOW_MAX_RANK, err));
    in->out[0].dtype = x->dtype;
    if (!wn_node_ints(in->node, "kernel_shape", &n) || n > WN_MAX_SPATIAL)
        return wn_bad(err, "attribute kernel_shape");
    if (x->rank < 0)
        return WINNOW_OK;
    if (n != (size_t)x->rank - 2)
        return wn_bad(err, "kernel_shape has %zu elements, must have %d", n, x->rank - 2);
    for (int a = 0; in->in[1].rank == x->rank && a < x->rank; a++)
        WN_TRY(wn_dim_same(x->dim[a], in->in[1].dim[a], "values and indices", &same, err));
    WN_TRY(one_list(in->node, "kernel_shape", n, 1, 1, kernel, err));
    WN_TRY(one_list(in->node, "strides", n, 1, 1, stride, err));
    WN_TRY(one_list(in->node, "pads", 2 * n, 0, 0, pad, err));
    wn_type_set_rank(&in->out[0], x->rank);
    if (in->n_in > 2 && in->given[2]) {
        size_t given;
        if (!in->value[2])
            return WINNOW_OK;
        WN_TRY(wn_ints(in->value[2], "output_shape", in->out[0].dim, WINNOW_MAX_RANK, &given, err));
        return given == (size_t)x->rank ? WINNOW_OK : wn_bad(err, "output_shape has %zu elements", given);
    }
    in->out[0].dim[0] = x->dim[0];
    in->out[0].dim[1] = x->dim[1];
    for (size_t a = 0; a < n; a++) {
        if (x->dim[a + 2] < 0)
            continue;
        int64_t extent;
        WN_TRY(wn_dim_mul(WN_MAX(x->dim[a + 2] - 1, 0), stride[a], &extent, err));
        WN_TRY(wn_dim_add(extent, kernel[a], &extent, err));
        in->out[0].dim[a + 2] = WN_MAX(extent - pad[a] - pad[n + a], 0);
    }
    return WINNOW_OK;
}

enum winnow_status wn_run_max_unpool(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0], *at = run->in[1];
    struct wn_tensor *y = &run->out[0];
    size_t elem = winnow_dtype_size(x->dtype), n = 0;
    const int64_t *kernel = wn_node_ints(run->node, "kernel_shape", &n);
    size_t n_stride = 0;
    const int64_t *stride = wn_node_ints(run->node, "strides", &n_stride);
    int64_t natural[WINNOW_MAX_RANK], own[WINNOW_MAX_RANK], total = wn_tensor_count(x);
    memset(y->data, 0, y->bytes);
    /* indices count in the shape that MaxPool read, which output_shape may exceed */
    size_t n_pad = 0;
    const int64_t *pad = wn_node_ints(run->node, "pads", &n_pad);
    for (unsigned a = 0; a < x->rank; a++) {
        unsigned s = a - 2;
        natural[a] = a < 2 ? x->dim[a]
                           : (x->dim[a] - 1) * (stride ? stride[s] : 1) + kernel[s] - (pad ? pad[s] + pad[n + s] : 0);
        if (natural[a] < 1 && total)
            return wn_bad(err, "the pooled extent %lld of axis %u", (long long)natural[a], a);
    }
    wn_strides(y->rank, y->dim, own);
    for (int64_t i = 0; i < total; i++) {
        int64_t index = wn_scalar_int(at, i), to = 0;
        for (unsigned a = x->rank; a-- > 0;) {
            int64_t k = index % natural[a];
            index /= natural[a];
            if (k < 0 || k >= y->dim[a] || index < 0)
                return wn_bad(err, "index %lld does not lie in the output", (long long)wn_scalar_int(at, i));
            to += k * own[a];
        }
        if (index)
            return wn_bad(err, "index %lld does not lie in the output", (long long)wn_scalar_int(at, i));
        memcpy((char *)y->data + (size_t)to * elem, (const char *)x->data + (size_t)i * elem, elem);
    }
    return WINNOW_OK;
}
