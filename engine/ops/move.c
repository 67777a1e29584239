/* move.c: operators that move elements without looking at them: Transpose, Concat, Split, Slice, Tile, Pad,
 * DepthToSpace, SpaceToDepth, Trilu.  Source: ONNX Operators.md. All are strided copies, for every dtype. */
#include "engine/ops/impl.h"

#include <string.h>

static size_t elem_of(const struct wn_tensor *t)
{
    return winnow_dtype_size(t->dtype);
}

/* ---- Transpose ---- */
static enum winnow_status perm_of(const struct wn_node *node, int rank, int *perm, struct winnow_err *err)
{
    size_t n;
    const int64_t *v = wn_node_ints(node, "perm", &n);
    unsigned seen = 0;
    if (v && n != (size_t)rank)
        return wn_bad(err, "attribute perm has %zu elements for rank %d", n, rank);
    for (int i = 0; i < rank; i++) {
        int64_t p = v ? v[i] : rank - 1 - i;
        if (p < 0 || p >= rank || (seen >> p & 1))
            return wn_bad(err, "attribute perm is no permutation: %lld at %d", (long long)p, i);
        seen |= 1u << p;
        perm[i] = (int)p;
    }
    return WINNOW_OK;
}

enum winnow_status wn_infer_transpose(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_type *x = &in->in[0];
    int perm[WINNOW_MAX_RANK];
    WN_TRY(wn_want(in, 0, WN_ALL, err));
    in->out[0].dtype = x->dtype;
    if (x->rank < 0)
        return WINNOW_OK;
    WN_TRY(perm_of(in->node, x->rank, perm, err));
    in->out[0].rank = x->rank;
    for (int i = 0; i < x->rank; i++)
        in->out[0].dim[i] = x->dim[perm[i]];
    return WINNOW_OK;
}

enum winnow_status wn_run_transpose(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0];
    struct wn_tensor *y = &run->out[0];
    int perm[WINNOW_MAX_RANK];
    int64_t own[WINNOW_MAX_RANK], from[WINNOW_MAX_RANK], to[WINNOW_MAX_RANK];
    WN_TRY(perm_of(run->node, (int)x->rank, perm, err));
    wn_strides(x->rank, x->dim, own);
    wn_strides(y->rank, y->dim, to);
    for (unsigned i = 0; i < x->rank; i++)
        from[i] = own[perm[i]];
    wn_copy_nd(y->rank, y->dim, y->data, to, x->data, from, elem_of(x));
    return WINNOW_OK;
}

void wn_rows_transpose(struct wn_rows *r)
{
    int perm[WINNOW_MAX_RANK], rank = r->infer->in[0].rank;
    if (wn_rows_trivial(r) || rank < 0 || perm_of(r->node, rank, perm, NULL) != WINNOW_OK)
        return;
    for (int i = 0; i < rank; i++)
        if (perm[i] == r->in_axis[0])
            r->out_axis = i;
}

/* ---- Concat ---- */
enum winnow_status wn_infer_concat(struct wn_infer *in, struct winnow_err *err)
{
    struct wn_type *y = &in->out[0];
    *y = in->in[0];
    if (!wn_node_attr(in->node, "axis"))
        return wn_bad(err, "attribute axis is missing");
    for (unsigned i = 0; i < in->n_in; i++) {
        if (!in->given[i])
            return wn_bad(err, "input %u may not be omitted", i);
        WN_TRY(wn_want(in, i, WN_ALL, err));
        WN_TRY(wn_want_same(in, 0, i, err));
        if (!y->dtype)
            y->dtype = in->in[i].dtype;
    }
    for (unsigned i = 0; i < in->n_in; i++) {
        if (in->in[i].rank < 0) {
            y->rank = -1;
            return WINNOW_OK;
        }
        if (in->in[i].rank != in->in[0].rank)
            return wn_bad(err, "inputs 0 and %u have ranks %d and %d", i, in->in[0].rank, in->in[i].rank);
    }
    int axis;
    WN_TRY(wn_axis(wn_node_int(in->node, "axis", 0), y->rank, "axis", &axis, err));
    for (unsigned i = 1; i < in->n_in; i++)
        for (int a = 0; a < y->rank; a++) {
            if (a == axis)
                WN_TRY(wn_dim_add(y->dim[a], in->in[i].dim[a], &y->dim[a], err));
            else
                WN_TRY(wn_dim_same(y->dim[a], in->in[i].dim[a], "extents of the inputs", &y->dim[a], err));
        }
    return WINNOW_OK;
}

/* Copy between a tensor and the part of a larger one that starts `at` along `axis`. */
static void copy_part(void *dst, int64_t dst_axis, const void *src, int64_t src_axis, int64_t outer, int64_t rows,
                      size_t inner_bytes)
{
    for (int64_t o = 0; o < outer && rows; o++)
        memcpy((char *)dst + (size_t)(o * dst_axis) * inner_bytes,
               (const char *)src + (size_t)(o * src_axis) * inner_bytes, (size_t)rows * inner_bytes);
}

static void outer_inner(const struct wn_tensor *t, int axis, int64_t *ret_outer, size_t *ret_inner_bytes)
{
    *ret_outer = 1;
    *ret_inner_bytes = elem_of(t);
    for (int i = 0; i < axis; i++)
        *ret_outer *= t->dim[i];
    for (unsigned i = (unsigned)axis + 1; i < t->rank; i++)
        *ret_inner_bytes *= (size_t)t->dim[i];
}

enum winnow_status wn_run_concat(struct wn_run *run, struct winnow_err *err)
{
    struct wn_tensor *y = &run->out[0];
    int axis;
    int64_t outer, at = 0;
    size_t inner;
    WN_TRY(wn_axis(wn_node_int(run->node, "axis", 0), (int)y->rank, "axis", &axis, err));
    outer_inner(y, axis, &outer, &inner);
    for (unsigned i = 0; i < run->n_in; i++) {
        int64_t rows = run->in[i]->dim[axis];
        copy_part((char *)y->data + (size_t)at * inner, y->dim[axis], run->in[i]->data, rows, outer, rows, inner);
        at += rows;
    }
    return WINNOW_OK;
}

void wn_rows_concat(struct wn_rows *r)
{
    int axis, batch = r->in_axis[0];
    if (wn_rows_trivial(r) || r->infer->in[0].rank < 0 ||
        wn_axis(wn_node_int(r->node, "axis", 0), r->infer->in[0].rank, "axis", &axis, NULL) != WINNOW_OK)
        return;
    for (unsigned i = 0; i < r->n_in; i++)
        if (r->in_axis[i] < 0 || r->in_axis[i] != batch)
            return;
    if (batch != axis)
        r->out_axis = batch;
}

/* ---- Split: sizes are an attribute up to opset 12, an input after; num_outputs since 18 ---- */
static enum winnow_status split_sizes(const struct wn_node *node, const struct wn_tensor *sizes, int64_t extent,
                                      unsigned n_out, int64_t *ret, struct winnow_err *err)
{
    const struct wn_attr *attr = node->opset < 13 ? wn_node_attr(node, "split") : NULL;
    int64_t sum = 0, n = sizes ? wn_tensor_count(sizes) : attr ? (int64_t)attr->n : 0;
    if (sizes && sizes->dtype != WINNOW_I64)
        return wn_bad(err, "split has dtype %s, must be i64", winnow_dtype_name(sizes->dtype));
    if (attr && n && !attr->ints)
        return wn_bad(err, "attribute split is not a list of integers");
    if ((sizes || attr) && n != n_out)
        return wn_bad(err, "split has %lld elements for %u outputs", (long long)n, n_out);
    if (sizes || attr) {
        for (unsigned i = 0; i < n_out; i++) {
            ret[i] = sizes ? ((const int64_t *)sizes->data)[i] : attr->ints[i];
            if (ret[i] < 0 || __builtin_add_overflow(sum, ret[i], &sum))
                return wn_bad(err, "split: size %lld of output %u", (long long)ret[i], i);
        }
        if (extent >= 0 && sum != extent)
            return wn_bad(err, "split sizes sum to %lld, the extent is %lld", (long long)sum, (long long)extent);
        return WINNOW_OK;
    }
    int64_t parts = wn_node_int(node, "num_outputs", n_out);
    if (parts != n_out)
        return wn_bad(err, "attribute num_outputs is %lld for %u outputs", (long long)parts, n_out);
    if (extent >= 0 && node->opset < 18 && extent % n_out)
        return wn_bad(err, "extent %lld does not split into %u equal parts", (long long)extent, n_out);
    int64_t chunk = extent < 0 ? -1 : extent / n_out + (extent % n_out != 0);
    for (unsigned i = 0; i < n_out; i++)
        ret[i] = extent < 0 ? -1 : WN_MAX(WN_MIN(chunk, extent - chunk * i), 0);
    return WINNOW_OK;
}

enum winnow_status wn_infer_split(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_type *x = &in->in[0];
    int64_t sizes[WN_OP_MAX_IN];
    int axis = 0;
    WN_TRY(wn_want(in, 0, WN_ALL, err));
    if (in->n_out > WN_OP_MAX_IN)
        return wn_lack(err, "%u outputs, at most %d are supported", in->n_out, WN_OP_MAX_IN);
    if (x->rank >= 0)
        WN_TRY(wn_axis(wn_node_int(in->node, "axis", 0), x->rank, "axis", &axis, err));
    bool dynamic = in->n_in > 1 && in->given[1] && !in->value[1];
    if (x->rank >= 0 && !dynamic)
        WN_TRY(split_sizes(in->node, in->n_in > 1 ? in->value[1] : NULL, x->dim[axis], in->n_out, sizes, err));
    for (unsigned i = 0; i < in->n_out; i++) {
        in->out[i] = *x;
        if (x->rank >= 0)
            in->out[i].dim[axis] = dynamic ? -1 : sizes[i];
    }
    return WINNOW_OK;
}

enum winnow_status wn_run_split(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0];
    int axis;
    int64_t outer, at = 0, sizes[WN_OP_MAX_IN];
    size_t inner;
    WN_TRY(wn_axis(wn_node_int(run->node, "axis", 0), (int)x->rank, "axis", &axis, err));
    WN_TRY(split_sizes(run->node, run->n_in > 1 ? run->in[1] : NULL, x->dim[axis], run->n_out, sizes, err));
    outer_inner(x, axis, &outer, &inner);
    for (unsigned i = 0; i < run->n_out; i++) {
        if (run->out[i].data)
            copy_part(run->out[i].data, sizes[i], (const char *)x->data + (size_t)at * inner, x->dim[axis], outer,
                      sizes[i], inner);
        at += sizes[i];
    }
    return WINNOW_OK;
}

/* ---- Slice: attributes up to opset 9, inputs after ---- */
struct slice {
    int64_t from[WINNOW_MAX_RANK], step[WINNOW_MAX_RANK], count[WINNOW_MAX_RANK]; /* count -1 = unknown */
};

static void slice_axis(int64_t extent, int64_t start, int64_t end, int64_t step, int64_t *from, int64_t *count)
{
    if (start < 0)
        start = start < -extent ? (step < 0 ? -1 : 0) : start + extent;
    if (end < 0)
        end = end < -extent ? -1 : end + extent; /* -1: before the first */
    if (step > 0) {
        start = WN_MIN(WN_MAX(start, 0), extent);
        end = WN_MIN(WN_MAX(end, 0), extent);
        *count = end > start ? (end - start - 1) / step + 1 : 0;
    } else {
        start = WN_MIN(start, extent - 1);
        end = WN_MIN(end, extent - 1);
        uint64_t back = 0 - (uint64_t)step; /* also right for INT64_MIN */
        *count = start > end ? (int64_t)((uint64_t)(start - end - 1) / back) + 1 : 0;
    }
    *from = *count ? start : 0;
}

/* `param` [4]: starts, ends, axes, steps; NULL where omitted. */
static enum winnow_status slice_init(struct slice *s, const struct wn_node *node, const struct wn_type *x,
                                     const struct wn_tensor *const *param, unsigned *ret_mask, struct winnow_err *err)
{
    static const char *const names[] = { "starts", "ends", "axes", "steps" };
    int64_t v[4][WINNOW_MAX_RANK];
    size_t n[4];
    for (int i = 0; i < 4; i++)
        WN_TRY(wn_ints_or_attr(node, names[i], param[i], v[i], WINNOW_MAX_RANK, &n[i], err));
    if (n[0] == SIZE_MAX || n[1] == SIZE_MAX)
        return wn_bad(err, "starts or ends are missing");
    if (n[1] != n[0] || (n[2] != SIZE_MAX && n[2] != n[0]) || (n[3] != SIZE_MAX && n[3] != n[0]))
        return wn_bad(err, "starts, ends, axes and steps differ in length");
    if (n[0] > (size_t)x->rank)
        return wn_bad(err, "%zu starts for rank %d", n[0], x->rank);
    *ret_mask = 0;
    for (int a = 0; a < x->rank; a++) {
        s->from[a] = 0;
        s->step[a] = 1;
        s->count[a] = x->dim[a];
    }
    for (size_t i = 0; i < n[0]; i++) {
        int a;
        WN_TRY(wn_axis(n[2] == SIZE_MAX ? (int64_t)i : v[2][i], x->rank, "axis", &a, err));
        if (*ret_mask >> a & 1)
            return wn_bad(err, "axis %d is given twice", a);
        s->step[a] = n[3] == SIZE_MAX ? 1 : v[3][i];
        if (s->step[a] == 0)
            return wn_bad(err, "step 0 on axis %d", a);
        bool whole = v[0][i] == 0 && v[1][i] == INT64_MAX && s->step[a] == 1;
        *ret_mask |= whole ? 0 : 1u << a;
        if (x->dim[a] >= 0)
            slice_axis(x->dim[a], v[0][i], v[1][i], s->step[a], &s->from[a], &s->count[a]);
        else if (!whole)
            s->count[a] = -1;
    }
    return WINNOW_OK;
}

static bool slice_params(const struct wn_infer *in, const struct wn_tensor **param)
{
    bool known = true;
    for (unsigned i = 0; i < 4; i++) {
        bool given = i + 1 < in->n_in && in->given[i + 1];
        param[i] = given ? in->value[i + 1] : NULL;
        known &= !given || param[i];
    }
    return known;
}

/* Bounds that are not known change only the axes they are for. */
static void keep_other_axes(const struct wn_type *x, const struct wn_tensor *axes, struct wn_type *y)
{
    bool cut[WINNOW_MAX_RANK] = { false };
    for (int64_t i = 0; i < wn_tensor_count(axes); i++) {
        int64_t a = wn_scalar_int(axes, i);
        a = a < 0 ? a + x->rank : a;
        if (a >= 0 && a < x->rank)
            cut[a] = true;
    }
    for (int a = 0; a < x->rank; a++)
        if (!cut[a])
            y->dim[a] = x->dim[a];
}

enum winnow_status wn_infer_slice(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_type *x = &in->in[0];
    const struct wn_tensor *param[4];
    struct slice s;
    unsigned mask;
    WN_TRY(wn_want(in, 0, WN_ALL, err));
    in->out[0].dtype = x->dtype;
    if (x->rank < 0)
        return WINNOW_OK;
    wn_type_set_rank(&in->out[0], x->rank);
    if (!slice_params(in, param)) {
        if (param[2])
            keep_other_axes(x, param[2], &in->out[0]);
        return WINNOW_OK;
    }
    WN_TRY(slice_init(&s, in->node, x, param, &mask, err));
    memcpy(in->out[0].dim, s.count, (size_t)x->rank * sizeof s.count[0]);
    return WINNOW_OK;
}

bool wn_slice_of(const struct wn_node *node, const struct wn_type *x, const struct wn_tensor *const *param, int64_t *from,
                 int64_t *step)
{
    struct slice s;
    struct winnow_err err;
    unsigned mask;
    if (slice_init(&s, node, x, param, &mask, &err) != WINNOW_OK)
        return false;
    memcpy(from, s.from, (size_t)x->rank * sizeof *from);
    memcpy(step, s.step, (size_t)x->rank * sizeof *step);
    return true;
}

enum winnow_status wn_run_slice(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0], *param[4];
    struct wn_tensor *y = &run->out[0];
    struct wn_type xt = wn_type_of(x);
    struct slice s;
    unsigned mask;
    int64_t own[WINNOW_MAX_RANK], from[WINNOW_MAX_RANK], to[WINNOW_MAX_RANK], at = 0;
    for (unsigned i = 0; i < 4; i++)
        param[i] = i + 1 < run->n_in ? run->in[i + 1] : NULL;
    WN_TRY(slice_init(&s, run->node, &xt, param, &mask, err));
    wn_strides(x->rank, x->dim, own);
    wn_strides(y->rank, y->dim, to);
    for (unsigned i = 0; i < x->rank; i++) {
        at += s.from[i] * own[i];
        from[i] = s.count[i] > 1 ? s.step[i] * own[i] : 0; /* a step past the extent is never taken */
    }
    if (wn_tensor_count(y))
        wn_copy_nd(y->rank, y->dim, y->data, to, (const char *)x->data + (size_t)at * elem_of(x), from, elem_of(x));
    return WINNOW_OK;
}

void wn_rows_slice(struct wn_rows *r)
{
    const struct wn_tensor *param[4];
    struct slice s;
    unsigned mask;
    if (!wn_rows_trivial(r) && wn_rows_only(r, 0) && r->infer->in[0].rank >= 0 && slice_params(r->infer, param) &&
        slice_init(&s, r->node, &r->infer->in[0], param, &mask, NULL) == WINNOW_OK && !(mask >> r->in_axis[0] & 1))
        r->out_axis = r->in_axis[0];
}

/* ---- Tile ---- */
enum winnow_status wn_infer_tile(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_type *x = &in->in[0];
    int64_t rep[WINNOW_MAX_RANK];
    size_t n;
    WN_TRY(wn_want(in, 0, WN_ALL, err));
    in->out[0].dtype = x->dtype;
    if (x->rank < 0)
        return WINNOW_OK;
    wn_type_set_rank(&in->out[0], x->rank);
    if (!in->value[1])
        return WINNOW_OK;
    WN_TRY(wn_ints(in->value[1], "repeats", rep, WINNOW_MAX_RANK, &n, err));
    if (n != (size_t)x->rank)
        return wn_bad(err, "repeats has %zu elements for rank %d", n, x->rank);
    for (size_t i = 0; i < n; i++) {
        if (rep[i] < 0)
            return wn_bad(err, "repeats: %lld", (long long)rep[i]);
        WN_TRY(wn_dim_mul(x->dim[i], rep[i], &in->out[0].dim[i], err));
    }
    return WINNOW_OK;
}

enum winnow_status wn_run_tile(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0];
    struct wn_tensor *y = &run->out[0];
    int64_t own[WINNOW_MAX_RANK], idx[WINNOW_MAX_RANK] = { 0 }, n = wn_tensor_count(y);
    size_t elem = elem_of(x);
    wn_strides(x->rank, x->dim, own);
    for (int64_t i = 0; i < n; i++, wn_next_index(y->rank, y->dim, idx)) {
        int64_t at = 0;
        for (unsigned a = 0; a < x->rank; a++)
            at += idx[a] % x->dim[a] * own[a];
        memcpy((char *)y->data + (size_t)i * elem, (const char *)x->data + (size_t)at * elem, elem);
    }
    return WINNOW_OK;
}

void wn_rows_tile(struct wn_rows *r)
{
    const struct wn_tensor *rep = r->infer->value[1];
    if (!wn_rows_trivial(r) && wn_rows_only(r, 0) && rep && r->in_axis[0] < wn_tensor_count(rep) &&
        wn_scalar_int(rep, r->in_axis[0]) == 1)
        r->out_axis = r->in_axis[0];
}

/* ---- Pad: pads and value are attributes up to opset 10, inputs after; axes since 18; negative pads crop ---- */
struct pads {
    int64_t lo[WINNOW_MAX_RANK], hi[WINNOW_MAX_RANK];
};

static enum winnow_status pads_init(struct pads *p, const struct wn_node *node, int rank, const struct wn_tensor *pads,
                                    const struct wn_tensor *axes, struct winnow_err *err)
{
    int64_t v[2 * WINNOW_MAX_RANK], ax[WINNOW_MAX_RANK];
    size_t n, n_ax = SIZE_MAX;
    WN_TRY(wn_ints_or_attr(node, "pads", pads, v, 2 * WINNOW_MAX_RANK, &n, err));
    if (axes)
        WN_TRY(wn_ints(axes, "axes", ax, WINNOW_MAX_RANK, &n_ax, err));
    size_t want = n_ax == SIZE_MAX ? (size_t)rank : n_ax;
    if (n != 2 * want)
        return wn_bad(err, "pads has %zu elements, must have %zu", n == SIZE_MAX ? 0 : n, 2 * want);
    memset(p, 0, sizeof *p);
    for (size_t i = 0; i < want; i++) {
        int a = (int)i;
        if (n_ax != SIZE_MAX)
            WN_TRY(wn_axis(ax[i], rank, "axis", &a, err));
        p->lo[a] = v[i];
        p->hi[a] = v[i + want];
        if (p->lo[a] < -INT32_MAX || p->lo[a] > INT32_MAX || p->hi[a] < -INT32_MAX || p->hi[a] > INT32_MAX)
            return wn_bad(err, "pads %lld, %lld of axis %d are out of range", (long long)p->lo[a], (long long)p->hi[a],
                          a);
    }
    return WINNOW_OK;
}

enum pad_mode { PAD_CONSTANT, PAD_REFLECT, PAD_EDGE, PAD_WRAP };

static enum winnow_status pad_mode_of(const struct wn_node *node, enum pad_mode *ret, struct winnow_err *err)
{
    static const char *const names[] = { "constant", "reflect", "edge", "wrap" };
    *ret = PAD_CONSTANT;
    for (int i = 0; i < 4; i++)
        if (wn_node_str_is(node, "mode", "constant", names[i])) {
            *ret = (enum pad_mode)i;
            return WINNOW_OK;
        }
    return wn_bad(err, "attribute mode is none of constant, reflect, edge, wrap");
}

enum winnow_status wn_infer_pad(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_type *x = &in->in[0];
    struct wn_type *y = &in->out[0];
    enum pad_mode mode;
    struct pads p;
    WN_TRY(wn_want(in, 0, WN_ALL, err));
    WN_TRY(wn_want_same(in, 0, 2, err));
    WN_TRY(pad_mode_of(in->node, &mode, err));
    y->dtype = x->dtype;
    if (x->rank < 0)
        return WINNOW_OK;
    wn_type_set_rank(y, x->rank);
    if ((in->n_in > 1 && in->given[1] && !in->value[1]) || (in->n_in > 3 && in->given[3] && !in->value[3]))
        return WINNOW_OK;
    WN_TRY(
        pads_init(&p, in->node, x->rank, in->n_in > 1 ? in->value[1] : NULL, in->n_in > 3 ? in->value[3] : NULL, err));
    for (int a = 0; a < x->rank; a++) {
        int64_t d = x->dim[a];
        if (d < 0) {
            y->dim[a] = p.lo[a] == 0 && p.hi[a] == 0 ? d : -1;
            continue;
        }
        if (mode == PAD_REFLECT && (p.lo[a] > 0 || p.hi[a] > 0) && WN_MAX(p.lo[a], p.hi[a]) >= d)
            return wn_bad(err, "pads %lld, %lld reflect past an extent of %lld", (long long)p.lo[a], (long long)p.hi[a],
                          (long long)d);
        if ((mode == PAD_EDGE || mode == PAD_WRAP) && d == 0 && p.lo[a] + p.hi[a] > 0)
            return wn_bad(err, "nothing to repeat along axis %d", a);
        if (__builtin_add_overflow(d, p.lo[a] + p.hi[a], &y->dim[a]) || y->dim[a] < 0)
            return wn_bad(err, "pads %lld, %lld leave nothing of an extent of %lld", (long long)p.lo[a],
                          (long long)p.hi[a], (long long)d);
    }
    return WINNOW_OK;
}

/* Source position of padded position i, or -1 in constant padding. */
static int64_t pad_source(int64_t i, int64_t n, enum pad_mode mode)
{
    if (i >= 0 && i < n)
        return i;
    switch (mode) {
    case PAD_REFLECT:
        return i < 0 ? -i : 2 * (n - 1) - i;
    case PAD_EDGE:
        return i < 0 ? 0 : n - 1;
    case PAD_WRAP:
        return (i % n + n) % n;
    default:
        return -1;
    }
}

enum winnow_status wn_run_pad(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0], *value = run->n_in > 2 ? run->in[2] : NULL;
    struct wn_tensor *y = &run->out[0];
    enum pad_mode mode;
    struct pads p;
    WN_TRY(pad_mode_of(run->node, &mode, err));
    WN_TRY(pads_init(&p, run->node, (int)x->rank, run->n_in > 1 ? run->in[1] : NULL, run->n_in > 3 ? run->in[3] : NULL,
                     err));
    size_t elem = elem_of(x);
    union {
        uint64_t u[2];
        struct winnow_str s;
    } fill = { { 0, 0 } };
    if (value && wn_tensor_count(value) > 0)
        memcpy(&fill, value->data, elem);
    else if (!value && wn_cls_of(x->dtype) == WN_CLS_F32) {
        float f = wn_node_float(run->node, "value", 0);
        wn_store(x->dtype, &fill, 0, 1, WN_CLS_F32, &f);
    } else if (!value && x->dtype == WINNOW_F64) {
        double d = wn_node_float(run->node, "value", 0);
        memcpy(&fill, &d, sizeof d);
    }
    int64_t own[WINNOW_MAX_RANK], idx[WINNOW_MAX_RANK] = { 0 }, n = wn_tensor_count(y);
    wn_strides(x->rank, x->dim, own);
    for (int64_t i = 0; i < n; i++, wn_next_index(y->rank, y->dim, idx)) {
        int64_t at = 0;
        for (unsigned a = 0; a < x->rank && at >= 0; a++) {
            int64_t from = pad_source(idx[a] - p.lo[a], x->dim[a], mode);
            at = from < 0 ? -1 : at + from * own[a];
        }
        memcpy((char *)y->data + (size_t)i * elem,
               at < 0 ? (const char *)&fill : (const char *)x->data + (size_t)at * elem, elem);
    }
    return WINNOW_OK;
}

void wn_rows_pad(struct wn_rows *r)
{
    const struct wn_infer *in = r->infer;
    struct pads p;
    if (wn_rows_trivial(r) || !wn_rows_only(r, 0) || in->in[0].rank < 0 ||
        (in->n_in > 1 && in->given[1] && !in->value[1]) || (in->n_in > 3 && in->given[3] && !in->value[3]))
        return;
    if (pads_init(&p, r->node, in->in[0].rank, in->n_in > 1 ? in->value[1] : NULL, in->n_in > 3 ? in->value[3] : NULL,
                  NULL) == WINNOW_OK &&
        p.lo[r->in_axis[0]] == 0 && p.hi[r->in_axis[0]] == 0)
        r->out_axis = r->in_axis[0];
}

/* ---- DepthToSpace, SpaceToDepth: a reshape to six axes and a transposition ---- */
static enum winnow_status infer_blocks(struct wn_infer *in, bool to_space, struct winnow_err *err)
{
    int64_t b = wn_node_int(in->node, "blocksize", 0), square;
    struct wn_type *y = &in->out[0];
    WN_TRY(wn_want(in, 0, WN_ALL, err));
    WN_TRY(wn_want_rank(in, 0, 4, 4, err));
    if (b < 1 || b > 65535)
        return wn_bad(err, "attribute blocksize: %lld is out of range", (long long)b);
    *y = in->in[0];
    if (y->rank < 0)
        return WINNOW_OK;
    square = b * b;
    if (to_space && !wn_node_str_is(in->node, "mode", "DCR", "DCR") && !wn_node_str_is(in->node, "mode", "DCR", "CRD"))
        return wn_bad(err, "attribute mode is neither DCR nor CRD");
    if (to_space && y->dim[1] >= 0 && y->dim[1] % square)
        return wn_bad(err, "%lld channels do not divide into blocks of %lld", (long long)y->dim[1], (long long)square);
    for (int a = 2; !to_space && a < 4; a++)
        if (y->dim[a] >= 0 && y->dim[a] % b)
            return wn_bad(err, "extent %lld does not divide into blocks of %lld", (long long)y->dim[a], (long long)b);
    for (int a = 2; a < 4; a++) {
        if (to_space)
            WN_TRY(wn_dim_mul(y->dim[a], b, &y->dim[a], err));
        else
            y->dim[a] = y->dim[a] < 0 ? -1 : y->dim[a] / b;
    }
    if (!to_space)
        return wn_dim_mul(y->dim[1], square, &y->dim[1], err);
    y->dim[1] = y->dim[1] < 0 ? -1 : y->dim[1] / square;
    return WINNOW_OK;
}

enum winnow_status wn_infer_depth_to_space(struct wn_infer *in, struct winnow_err *err)
{
    return infer_blocks(in, true, err);
}

enum winnow_status wn_infer_space_to_depth(struct wn_infer *in, struct winnow_err *err)
{
    return infer_blocks(in, false, err);
}

/* Read x as `shape` (6 axes), write its axes in the order `perm`. */
static void permute6(const struct wn_tensor *x, struct wn_tensor *y, const int64_t *shape, const int *perm)
{
    int64_t own[6], from[6], to[6], dim[6];
    wn_strides(6, shape, own);
    for (int i = 0; i < 6; i++) {
        from[i] = own[perm[i]];
        dim[i] = shape[perm[i]];
    }
    wn_strides(6, dim, to);
    wn_copy_nd(6, dim, y->data, to, x->data, from, elem_of(x));
}

enum winnow_status wn_run_depth_to_space(struct wn_run *run, struct winnow_err *err)
{
    static const int dcr[] = { 0, 3, 4, 1, 5, 2 }, crd[] = { 0, 1, 4, 2, 5, 3 };
    const struct wn_tensor *x = run->in[0];
    int64_t b = wn_node_int(run->node, "blocksize", 1), c = x->dim[1] / (b * b);
    int64_t as_dcr[] = { x->dim[0], b, b, c, x->dim[2], x->dim[3] };
    int64_t as_crd[] = { x->dim[0], c, b, b, x->dim[2], x->dim[3] };
    bool is_crd = wn_node_str_is(run->node, "mode", "DCR", "CRD");
    permute6(x, &run->out[0], is_crd ? as_crd : as_dcr, is_crd ? crd : dcr);
    return WINNOW_OK;
}

enum winnow_status wn_run_space_to_depth(struct wn_run *run, struct winnow_err *err)
{
    static const int dcr[] = { 0, 3, 5, 1, 2, 4 }, crd[] = { 0, 1, 3, 5, 2, 4 };
    const struct wn_tensor *x = run->in[0];
    int64_t b = wn_node_int(run->node, "blocksize", 1);
    int64_t shape[] = { x->dim[0], x->dim[1], x->dim[2] / b, b, x->dim[3] / b, b };
    permute6(x, &run->out[0], shape, wn_node_str_is(run->node, "mode", "DCR", "CRD") ? crd : dcr);
    return WINNOW_OK;
}

/* ---- Trilu: upper or lower triangle of the last two axes ---- */
enum winnow_status wn_infer_trilu(struct wn_infer *in, struct winnow_err *err)
{
    WN_TRY(wn_want(in, 0, WN_NUMBERS | WN_D(BOOL), err));
    WN_TRY(wn_want(in, 1, WN_D(I64), err));
    WN_TRY(wn_want_rank(in, 0, 2, WINNOW_MAX_RANK, err));
    if (in->n_in > 1 && in->value[1] && wn_tensor_count(in->value[1]) != 1)
        return wn_bad(err, "k is no scalar");
    in->out[0] = in->in[0];
    return WINNOW_OK;
}

enum winnow_status wn_run_trilu(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0];
    struct wn_tensor *y = &run->out[0];
    bool upper = wn_node_int(run->node, "upper", 1) != 0;
    int64_t k = run->n_in > 1 && run->in[1] ? wn_scalar_int(run->in[1], 0) : 0;
    int64_t cols = x->dim[x->rank - 1], rows = x->dim[x->rank - 2];
    size_t elem = elem_of(x);
    k = WN_MAX(WN_MIN(k, cols), -rows); /* beyond these nothing changes */
    memset(y->data, 0, y->bytes);
    for (int64_t i = 0, n = wn_tensor_count(x); i < n; i++) {
        int64_t r = i / cols % rows, c = i % cols;
        if (upper ? c >= r + k : c <= r + k)
            memcpy((char *)y->data + (size_t)i * elem, (const char *)x->data + (size_t)i * elem, elem);
    }
    return WINNOW_OK;
}

void wn_rows_trilu(struct wn_rows *r)
{
    if (!wn_rows_trivial(r) && wn_rows_only(r, 0) && r->in_axis[0] < r->infer->in[0].rank - 2)
        r->out_axis = r->in_axis[0];
}
