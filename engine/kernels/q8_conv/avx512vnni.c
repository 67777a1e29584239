/* avx512vnni.c: 14 pixels x 32 output channels: 28 sums, two vectors of weights, one quad of input.
 *
 * DESIGN  The loop is conv_tiles.inc's. Sums of four pixels become a vector of bytes whose lane l holds channels
 *         4 l .. 4 l + 3 of the four: a piece of quad plane l. So quads leave by one transposition of lanes per 16
 *         pixels, and a residual comes by the same one. Other forms take their sums from memory: of their layers this
 *         is a small part. */
#define WN_F32_VEC512
#define NP 14
#include "engine/kernels/q8_conv/q8_conv.h"
#include "engine/kernels/f32_vec.h"
#include "engine/kernels/q8_epilogue_avx512.h"

typedef v512i vec;
struct conv_args {
    const struct wn_q8_args *q8;
    struct wn_q8_v512 e;
    const int32_t *outside; /* [taps][lanes], or NULL */
    size_t lanes;
};
#include "engine/kernels/conv_job.inc"

#define vec_load            v512i_load
#define vec_store           v512i_store
#define vec_spread          v512i_bcast32
#define vec_madd(w, b, acc) v512i_dpbusd(acc, b, w)

WN_INLINE const char *input_of(const struct conv_args *a)
{
    return (const char *)a->q8->x;
}

/* Rows of vector v: 0 .. 16. */
WN_INLINE size_t rows_of(const struct job *j, int v)
{
    return WN_MIN(j->rows - WN_MIN(j->rows, (size_t)v * L), (size_t)L);
}

/* ---- sums before the first chunk ---- */

/* Adds to sums [np][NV * L] what taps outside the picture would have added. */
static __attribute__((noinline)) void add_outside(const int np, const int nv, const struct job *j,
                                                  const struct place *at, int32_t *sums)
{
    const struct wn_conv_window *win = j->win;
    for (int32_t ky = 0; ky < win->shape.kh; ky++)
        for (int32_t kx = 0; kx < win->shape.kw; kx++) {
            const bool row = ky >= at->ky0 && ky < at->ky1;
            const int32_t lo = row ? win->lo[kx] - at->ox : np, hi = row ? win->hi[kx] - at->ox : np;
            const int32_t *add = j->a->outside + (size_t)(ky * win->shape.kw + kx) * j->a->lanes + j->row;
            for (int32_t i = 0; i < np; i++)
                for (int32_t v = 0; v < nv && (i < lo || i >= hi); v++) {
                    int32_t *s = sums + (i * NV + v) * (int32_t)L;
                    v512i_store(s, v512i_add_i32(v512i_load(s), v512i_load(add + v * (int32_t)L)));
                }
        }
}

/* The bias; at the picture's edges with what is left out there. */
SIZED void begin(const int np, const int nv, const struct job *j, const struct place *at, vec acc[NP][NV])
{
    WN_UNROLL
    for (int v = 0; v < nv; v++) {
        const vec b = v512f_as_i(v512f_load_part(j->a->q8->bias + j->row + (size_t)v * L, (unsigned)rows_of(j, v)));
        WN_UNROLL
        for (int i = 0; i < np; i++)
            acc[i][v] = b;
    }
    const struct wn_conv_window *win = j->win;
    const bool whole = at->ky0 == 0 && at->ky1 == win->shape.kh && at->ox >= win->left && at->ox + np <= win->right;
    if (whole || !j->a->outside)
        return;
    int32_t sums[NP * NV * L] __attribute__((aligned(64)));
    WN_UNROLL
    for (int i = 0; i < np; i++) {
        WN_UNROLL
        for (int v = 0; v < nv; v++)
            v512i_store(sums + (i * NV + v) * (int)L, acc[i][v]);
    }
    add_outside(np, nv, j, at, sums);
    WN_UNROLL
    for (int i = 0; i < np; i++) {
        WN_UNROLL
        for (int v = 0; v < nv; v++)
            acc[i][v] = v512i_load(sums + (i * NV + v) * (int)L);
    }
}

/* ---- bytes ---- */

/* Does a row of these factors need the careful epilogue? */
WN_INLINE bool is_tame(const struct wn_q8_v512 *e, v512f mul)
{
    const v512i bits = v512i_and(v512f_as_i(mul), v512i_set1_i32(INT32_MAX));
    int32_t most;
    memcpy(&most, &e->tame, sizeof most);
    return !v512i_any_gt_i32(bits, v512i_set1_i32(most - 1));
}

/* The factors of vector v's rows. */
WN_INLINE v512f factors(const struct job *j, int v)
{
    return v512f_load_part(j->a->e.a->mul + j->row + (size_t)v * L, (unsigned)rows_of(j, v));
}

/* Four vectors of sums as bytes: of each a quarter of every lane, in turn. r: the residual, likewise. */
WN_INLINE v512i bytes_of(const struct wn_q8_v512 *e, bool tame, v512f f[4], v512i r)
{
    if (e->r)
        wn_q8_v512_sum_bytes(e, tame, f, r);
    return wn_q8_v512_bytes(e, tame, f);
}

/* Pixels i .. i + 3 of vector v, as far as there are so many: lane l holds four bytes of each pixel. */
WN_INLINE v512i four(const int np, const int v, const int i, const struct wn_q8_v512 *e, bool tame, v512f mul, v512i r,
                     vec acc[NP][NV])
{
    v512f f[4];
    WN_UNROLL
    for (int p = 0; p < 4; p++)
        f[p] = i + p < np ? v512f_mul(v512i_to_f32(acc[i + p < np ? i + p : 0][v]), mul) : v512f_zero();
    return bytes_of(e, tame, f, r);
}

/* The last one or two pixels, from i on, of both vectors at once: in each lane, those of the first, then the second. */
WN_INLINE v512i two_of_both(const int np, const int i, const struct wn_q8_v512 *e, bool tame, const v512f mul[NV],
                            const v512i r[NV][4], vec acc[NP][NV])
{
    v512f f[4];
    WN_UNROLL
    for (int p = 0; p < 4; p++)
        f[p] = i + p % 2 < np ? v512f_mul(v512i_to_f32(acc[i + p % 2 < np ? i + p % 2 : 0][p / 2]), mul[p / 2])
                              : v512f_zero();
    return bytes_of(e, tame, f, v512i_unpacklo_i64(r[0][i / 4], r[1][i / 4]));
}

/* Sixteen pixels of vector v from where pixel 0 lies in `y`, of which np are there, and the column behind where wide.
 */
WN_INLINE void put_quads(const int np, const bool wide, const struct wn_q8_v512 *e, uint8_t *y, size_t n, v512i q[4])
{
    v512i_transpose_lanes(q);
    WN_UNROLL
    for (size_t l = 0; l < 4; l++) {
        if (4 * l >= n)
            break;
        if (n - 4 * l < 4) /* no rows: padding */
            q[l] = v512i_select(v512i_set1_i32((int32_t)(0xffffffffu >> (32 - 8 * (n - 4 * l)))), q[l], e->pad);
        if (wide) /* no pixel */
            q[l] = v512f_as_i(v512f_merge_first(v512i_as_f(q[l]), v512i_as_f(e->pad), (unsigned)np));
        v512f_store_part(y + l * e->y_stride, v512i_as_f(q[l]), (unsigned)np + wide);
    }
}

WN_INLINE size_t quads_at(const struct job *j, const struct place *at)
{
    return j->row / 4 * j->a->e.y_stride + 4 * ((size_t)at->oy * j->win->shape.y_pitch + (size_t)at->ox);
}

/* Quads only. */
SIZED void fetch(const int np, const struct job *j, const struct place *at)
{
    const struct wn_q8_v512 *e = &j->a->e;
    if (e->out != WN_OUT_QUAD)
        return;
    const size_t from = quads_at(j, at) + 4 * ((size_t)np - 1), planes = (j->rows + 3) / 4;
    fetch_planes(e->y + from, e->y_stride, planes);
    if (e->r)
        fetch_planes(e->r + from, e->y_stride, planes);
}

SIZED void finish_quads(const int np, const int nv, const bool wide, const struct job *j, const struct place *at,
                        vec acc[NP][NV])
{
    const struct wn_q8_v512 *e = &j->a->e;
    const size_t from = quads_at(j, at);
    const size_t step = L / 4 * e->y_stride; /* from vector to vector */
    const int whole = np / 4 * 4;
    const bool both = nv == 2 && (np - whole == 1 || np - whole == 2);
    v512f mul[NV];
    v512i r[NV][4], q[NV][4];
    bool tame[NV];
    WN_UNROLL
    for (int v = 0; v < nv; v++) {
        mul[v] = factors(j, v);
        tame[v] = is_tame(e, mul[v]);
        WN_UNROLL
        for (size_t l = 0; l < 4; l++)
            r[v][l] = e->r && 4 * l < rows_of(j, v)
                          ? v512f_as_i(v512f_load_part(e->r + from + (size_t)v * step + l * e->y_stride, (unsigned)np))
                          : v512i_zero();
        if (e->r)
            v512i_transpose_lanes(r[v]);
        WN_UNROLL
        for (int i = 0; i < 16; i += 4)
            q[v][i / 4] =
                i < whole || (i < np && !both) ? four(np, v, i, e, tame[v], mul[v], r[v][i / 4], acc) : e->pad;
    }
    if (both) {
        q[0][whole / 4] = two_of_both(np, whole, e, tame[0] && tame[1], mul, (const v512i(*)[4])r, acc);
        q[1][whole / 4] = v512i_unpackhi_i64(q[0][whole / 4], q[0][whole / 4]);
    }
    WN_UNROLL
    for (int v = 0; v < nv; v++)
        put_quads(np, wide, e, e->y + from + (size_t)v * step, rows_of(j, v), q[v]);
}

/* ---- planes and floats, from memory ---- */

/* Four vectors: dword i of lane l of v[j] becomes dword j of lane l of v[i]. */
WN_INLINE void transpose_dwords(v512i v[4])
{
    const v512i a = v512i_unpacklo_i32(v[0], v[1]), b = v512i_unpackhi_i32(v[0], v[1]);
    const v512i c = v512i_unpacklo_i32(v[2], v[3]), d = v512i_unpackhi_i32(v[2], v[3]);
    v[0] = v512i_unpacklo_i64(a, c);
    v[1] = v512i_unpackhi_i64(a, c);
    v[2] = v512i_unpacklo_i64(b, d);
    v[3] = v512i_unpackhi_i64(b, d);
}

/* Vector v of np pixels to its rows of byte planes. */
static void finish_planes(const int np, const int v, const bool wide, const struct job *j, const struct place *at,
                          vec acc[NP][NV])
{
    const struct wn_q8_v512 *e = &j->a->e;
    const size_t n = rows_of(j, v), row = j->row + (size_t)v * L;
    const size_t from = row * e->y_stride + (size_t)at->oy * j->win->shape.y_pitch + (size_t)at->ox;
    const v512f mul = factors(j, v);
    uint8_t side[4][4][16]; /* byte i of [o % 4][o / 4]: row o of pixel i */
    v512i r[4] = { v512i_zero(), v512i_zero(), v512i_zero(), v512i_zero() }, q[4];
    if (e->r) {
        memset(side, 0, sizeof side);
        for (size_t o = 0; o < n; o++)
            memcpy(side[o % 4][o / 4], e->r + from + o * e->y_stride, (size_t)np);
        for (int g = 0; g < 4; g++)
            r[g] = v512i_load(side[g]);
        transpose_dwords(r);
    }
    for (int g = 0; g < 4; g++)
        q[g] = 4 * g < np ? four(np, v, 4 * g, e, false, mul, v512i_shuffle_i8(r[g], e->transpose), acc) : e->pad;
    for (int g = 0; g < 4; g++)
        q[g] = v512i_shuffle_i8(q[g], e->transpose);
    transpose_dwords(q);
    for (int g = 0; g < 4; g++)
        v512i_store(side[g], q[g]);
    for (size_t o = 0; o < n; o++) {
        side[o % 4][o / 4][np] = (uint8_t)e->a->y_zp;
        memcpy(e->y + from + o * e->y_stride, side[o % 4][o / 4], (size_t)np + wide);
    }
}

/* The same of floats. The column that is no pixel gets a clamped 0. */
static void finish_floats(const int np, const int v, const bool wide, const struct job *j, const struct place *at,
                          vec acc[NP][NV])
{
    const struct wn_q8_v512 *e = &j->a->e;
    const size_t n = rows_of(j, v), row = j->row + (size_t)v * L;
    const size_t from = row * e->y_stride + 4 * ((size_t)at->oy * j->win->shape.y_pitch + (size_t)at->ox);
    const v512f mul = factors(j, v);
    vf t[VL];
    WN_UNROLL
    for (int i = 0; i < VL; i++)
        t[i] = i < np ? vf_mul(v512i_to_f32(acc[i < np ? i : 0][v]), mul) : vf_zero();
    vf_transpose(t);
    for (size_t o = 0; o < n; o++) {
        if (e->r)
            t[o] =
                vf_add(t[o], vf_load_part((const float *)(const void *)(e->r + from + o * e->y_stride), (unsigned)np));
        vf_store_part((float *)(void *)(e->y + from + o * e->y_stride), vf_clamp(t[o], e->lo, e->hi),
                      (unsigned)np + wide);
    }
}

/* Floats of vector v where the window says: runs of rows that lie together are stores of as many lanes. */
static void finish_beside(const int np, const int v, const struct job *j, const struct place *at, vec acc[NP][NV])
{
    const struct wn_conv_shape *s = &j->win->shape;
    const struct wn_q8_v512 *e = &j->a->e;
    const size_t n = rows_of(j, v);
    const int32_t *to = s->y_at + j->row + (size_t)v * L;
    float *y = (float *)(void *)e->y + (size_t)at->oy * s->y_pitch + (size_t)at->ox * s->y_px;
    const v512f mul = factors(j, v);
    v512f f[NP];
    for (int i = 0; i < np; i++)
        f[i] = vf_clamp(v512f_mul(v512i_to_f32(acc[i][v]), mul), e->lo, e->hi);
    for (size_t o = 0, end; o < n; o = end) {
        for (end = o + 1; end < n && to[end] == to[end - 1] + 1; end++)
            ;
        for (int i = 0; i < np; i++)
            v512f_store_lanes(y + (size_t)i * s->y_px + to[o], f[i], (unsigned)o, (unsigned)end);
    }
}

static __attribute__((noinline)) void finish_other(const int np, const int nv, const bool wide, const struct job *j,
                                                   const struct place *at, vec acc[NP][NV])
{
    for (int v = 0; v < nv; v++)
        if (j->win->shape.y_at)
            finish_beside(np, v, j, at, acc);
        else if (j->a->e.out == WN_OUT_PLANE)
            finish_planes(np, v, wide, j, at, acc);
        else
            finish_floats(np, v, wide, j, at, acc);
}

SIZED void finish(const int np, const int nv, const bool wide, const struct job *j, const struct place *at,
                  vec acc[NP][NV])
{
    if (j->a->e.out == WN_OUT_QUAD) {
        finish_quads(np, nv, wide, j, at, acc);
        return;
    }
    vec sums[NP][NV];
    WN_UNROLL
    for (int i = 0; i < np; i++) {
        WN_UNROLL
        for (int v = 0; v < nv; v++)
            sums[i][v] = acc[i][v];
    }
    finish_other(np, nv, wide, j, at, sums);
}

static void gaps(const struct job *j, int32_t oy)
{
    wn_q8_conv_gap(&j->win->shape, j->a->q8, oy, j->row, j->row + j->rows);
}

#include "engine/kernels/conv_tiles.inc"

void wn_q8_conv_14x32__avx512vnni(const struct wn_q8_conv *mat, const struct wn_conv_window *win,
                                  const int32_t *outside, const struct wn_q8_args *args, int32_t oy0, int32_t oy1,
                                  size_t row0, size_t row1)
{
    const struct conv_args a = { args, wn_q8_v512_begin(args), outside, mat->lanes };
    const bool wide = args->out != WN_OUT_F32 || (args->lo <= 0 && args->hi >= 0);
    run_tiles(mat->panels, mat->taps * mat->quads, win, &a, args->mask, wide, oy0, oy1, row0, row1);
}
