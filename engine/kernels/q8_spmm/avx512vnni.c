/* avx512vnni.c: quad stream: four arbitrary non-zeros per vpdpbusd, which adds to 32 bits and never saturates.
 *
 * 64 columns of four planes are interleaved by bytes, then by words, so that a dword holds one column of all four. That
 * leaves the sums of 64 columns in "step order": a[i] has columns 16 L + 4 i .. + 3 in its 128-bit lane L. packs and
 * packus bring the bytes of a row back into column order within lanes; four rows of bytes become quads.
 * What comes by columns (colsum, mask) is brought into step order once per tile, by a transposition of lanes. */
#include "engine/kernels/q8_spmm/q8_spmm.h"

#include <assert.h>
#include "engine/kernels/q8_epilogue_avx512.h"

#define TILE 128u
#define WIDE 64u /* columns of one step */

/* What finishing needs besides the sums; for one column tile of one call. */
struct job {
    struct wn_q8_v512 e;
    const uint8_t *x;        /* column 0 of the tile */
    v512i colsum[TILE / 16]; /* step order; with w_zp */
    v512i keep[TILE / WIDE]; /* byte masks */
};

/* What one row needs. */
struct task {
    const struct wn_q8_spmm_row *row;
    const uint32_t *w;
    const int32_t *off;
    const uint8_t *r; /* residual bytes of the tile, or NULL */
    int32_t bias, w_zp;
    float mul;
};

/* Lane i of v[j] <-> lane j of v[i]: step order <-> column order. */
WN_Q8_INLINE void transpose_lanes(v512i *v)
{
    v512i a = WN_V512(shuffle_i32x4)(v[0], v[1], 0x44), b = WN_V512(shuffle_i32x4)(v[0], v[1], 0xee);
    v512i c = WN_V512(shuffle_i32x4)(v[2], v[3], 0x44), d = WN_V512(shuffle_i32x4)(v[2], v[3], 0xee);
    v[0] = WN_V512(shuffle_i32x4)(a, c, 0x88);
    v[1] = WN_V512(shuffle_i32x4)(a, c, 0xdd);
    v[2] = WN_V512(shuffle_i32x4)(b, d, 0x88);
    v[3] = WN_V512(shuffle_i32x4)(b, d, 0xdd);
}

/* 64 dwords in column order from p, of which n (a multiple of 16, at least 1) may be read. */
WN_Q8_INLINE void load_columns(const void *p, size_t n, v512i *v)
{
#pragma GCC unroll 4
    for (unsigned i = 0; i < 4; i++)
        v[i] = 16 * i < n ? v512i_load((const char *)p + 64 * i) : v512i_zero();
}

/* ---- sums ---- */
WN_Q8_INLINE void step(v512i *acc, const uint8_t *x, const uint32_t *w, const int32_t *off, unsigned nv)
{
    v512i quad = v512i_bcast32(w);
#pragma GCC unroll 2
    for (unsigned v = 0; v < nv; v++) {
        v512i *a = acc + 4 * v;
        v512i p0 = v512i_load(x + WIDE * v + off[0]), p1 = v512i_load(x + WIDE * v + off[1]);
        v512i p2 = v512i_load(x + WIDE * v + off[2]), p3 = v512i_load(x + WIDE * v + off[3]);
        v512i lo01 = v512i_unpacklo_i8(p0, p1), hi01 = v512i_unpackhi_i8(p0, p1);
        v512i lo23 = v512i_unpacklo_i8(p2, p3), hi23 = v512i_unpackhi_i8(p2, p3);
        a[0] = v512i_dpbusd(a[0], v512i_unpacklo_i16(lo01, lo23), quad);
        a[1] = v512i_dpbusd(a[1], v512i_unpackhi_i16(lo01, lo23), quad);
        a[2] = v512i_dpbusd(a[2], v512i_unpacklo_i16(hi01, hi23), quad);
        a[3] = v512i_dpbusd(a[3], v512i_unpackhi_i16(hi01, hi23), quad);
    }
}

WN_Q8_INLINE void row_sums(const struct task *t, const uint8_t *x, unsigned nv, v512i *acc)
{
    const uint32_t *w = t->w;
    const int32_t *off = t->off;
#pragma GCC unroll 8
    for (unsigned i = 0; i < 4 * nv; i++)
        acc[i] = v512i_set1_i32(t->bias);
    for (unsigned i = t->row->steps[0]; i; i--, w++, off += 4)
        step(acc, x, w, off, nv);
}

/* ---- finishing ---- */
WN_Q8_INLINE v512f residual(const struct wn_q8_v512 *e, v512f f, v512i r)
{
    return v512f_add(f, v512f_mul(v512i_to_f32(v512i_sub_i32(r, e->r_zp)), e->r_mul));
}

/* The bytes of 64 columns, v the number of the 64 in the tile. */
WN_Q8_INLINE v512i finish(const struct job *j, const struct task *t, const v512i *acc, unsigned v)
{
    const struct wn_q8_v512 *e = &j->e;
    const v512f mul = v512f_set1(t->mul);
    v512f f[4];
#pragma GCC unroll 4
    for (unsigned i = 0; i < 4; i++) {
        v512i a = acc[i];
        if (e->w_zp)
            a = v512i_sub_i32(a, v512i_mullo_i32(v512i_set1_i32(t->w_zp), j->colsum[4 * v + i]));
        f[i] = v512f_mul(v512i_to_f32(a), mul);
    }
    if (t->r) {
        const v512i zero = v512i_zero();
        v512i r = v512i_load(t->r + WIDE * v);
        v512i lo = v512i_unpacklo_i8(r, zero), hi = v512i_unpackhi_i8(r, zero);
        f[0] = residual(e, f[0], v512i_unpacklo_i16(lo, zero));
        f[1] = residual(e, f[1], v512i_unpackhi_i16(lo, zero));
        f[2] = residual(e, f[2], v512i_unpacklo_i16(hi, zero));
        f[3] = residual(e, f[3], v512i_unpackhi_i16(hi, zero));
    }
    v512i lo = v512i_packs_i32(wn_q8_v512_rne(e, f[0]), wn_q8_v512_rne(e, f[1]));
    v512i hi = v512i_packs_i32(wn_q8_v512_rne(e, f[2]), wn_q8_v512_rne(e, f[3]));
    v512i y = v512i_packus_i16(v512i_adds_i16(lo, e->y_zp), v512i_adds_i16(hi, e->y_zp));
    y = wn_q8_v512_clamp(e, y);
    return e->mask ? v512i_select(j->keep[v], y, e->pad) : y;
}

/* ---- a row: u8 to y (TILE or WIDE bytes), sums in column order to sums ---- */
__attribute__((noinline)) static void row128_u8(const struct job *j, const struct task *t, uint8_t *y)
{
    v512i acc[8];
    row_sums(t, j->x, 2, acc);
    v512i_store(y, finish(j, t, acc, 0));
    v512i_store(y + WIDE, finish(j, t, acc + 4, 1));
}

__attribute__((noinline)) static void row64_u8(const struct job *j, const struct task *t, uint8_t *y)
{
    v512i acc[4];
    row_sums(t, j->x, 1, acc);
    v512i_store(y, finish(j, t, acc, 0));
}

__attribute__((noinline)) static void row128_i32(const struct job *j, const struct task *t, v512i *sums)
{
    row_sums(t, j->x, 2, sums);
    transpose_lanes(sums);
    transpose_lanes(sums + 4);
}

__attribute__((noinline)) static void row64_i32(const struct job *j, const struct task *t, v512i *sums)
{
    row_sums(t, j->x, 1, sums);
    transpose_lanes(sums);
}

/* ---- four rows of bytes <-> 64 columns of quads, of which n are touched ---- */
WN_Q8_INLINE void bytes_to_quads(const uint8_t *b, uint8_t *y, size_t n)
{
    v512i r0 = v512i_load(b), r1 = v512i_load(b + TILE), r2 = v512i_load(b + 2 * TILE), r3 = v512i_load(b + 3 * TILE);
    v512i lo01 = v512i_unpacklo_i8(r0, r1), hi01 = v512i_unpackhi_i8(r0, r1);
    v512i lo23 = v512i_unpacklo_i8(r2, r3), hi23 = v512i_unpackhi_i8(r2, r3);
    v512i q[4] = { v512i_unpacklo_i16(lo01, lo23), v512i_unpackhi_i16(lo01, lo23), v512i_unpacklo_i16(hi01, hi23),
                   v512i_unpackhi_i16(hi01, hi23) };
    transpose_lanes(q);
    for (unsigned i = 0; i < 4 && 16 * i < n; i++)
        v512i_store(y + 64 * i, q[i]);
}

WN_Q8_INLINE void quads_to_bytes(const struct wn_q8_v512 *e, const uint8_t *q, uint8_t *b, size_t n)
{
    v512i c[4];
    load_columns(q, n, c);
#pragma GCC unroll 4
    for (unsigned i = 0; i < 4; i++)
        c[i] = v512i_shuffle_i8(c[i], e->transpose);
    transpose_lanes(c); /* lane L of c[i]: columns 16 L + 4 i .. + 3, one dword for each row */
    v512i lo01 = v512i_unpacklo_i32(c[0], c[1]), hi01 = v512i_unpackhi_i32(c[0], c[1]);
    v512i lo23 = v512i_unpacklo_i32(c[2], c[3]), hi23 = v512i_unpackhi_i32(c[2], c[3]);
    v512i_store(b, v512i_unpacklo_i64(lo01, lo23));
    v512i_store(b + TILE, v512i_unpackhi_i64(lo01, lo23));
    v512i_store(b + 2 * TILE, v512i_unpacklo_i64(hi01, hi23));
    v512i_store(b + 3 * TILE, v512i_unpackhi_i64(hi01, hi23));
}

/* ---- tiles ---- */
struct block {
    const struct wn_q8_spmm *mat;
    const int32_t *off;
    size_t row0, row1;
};

WN_Q8_INLINE struct task task_of(const struct block *k, const struct wn_q8_args *a, size_t o)
{
    const struct wn_q8_spmm_row *row = &k->mat->row[o];
    return (struct task){ .row = row,
                          .w = k->mat->w + row->at,
                          .off = k->off + 4 * (size_t)row->at,
                          .bias = a->bias[o],
                          .w_zp = a->w_zp ? a->w_zp[o] : 0,
                          .mul = a->mul[o] };
}

/* Rows o.. (at most four) of columns c.. as quads; n of the tile's columns are stored. */
WN_Q8_INLINE void four_rows_quad(const struct block *k, const struct job *j, size_t o, size_t c, unsigned nv, size_t n)
{
    const struct wn_q8_args *a = j->e.a;
    uint8_t y[4][TILE] __attribute__((aligned(64))), r[4][TILE] __attribute__((aligned(64)));
    size_t at = o / 4 * a->y_stride + 4 * c;
    for (size_t i = 0; a->r && i < n; i += WIDE)
        quads_to_bytes(&j->e, (const uint8_t *)a->r + at + 4 * i, &r[0][i], n - i);
    for (size_t i = 0; i < 4; i++) {
        if (o + i >= k->row1) {
            memset(y[i], a->y_zp, TILE);
            continue;
        }
        struct task t = task_of(k, a, o + i);
        t.r = a->r ? r[i] : NULL;
        (nv == 2 ? row128_u8 : row64_u8)(j, &t, y[i]);
    }
    for (size_t i = 0; i < n; i += WIDE)
        bytes_to_quads(&y[0][i], (uint8_t *)a->y + at + 4 * i, n - i);
}

WN_Q8_INLINE void row_plane(const struct block *k, const struct job *j, size_t o, size_t c, unsigned nv, size_t n)
{
    const struct wn_q8_args *a = j->e.a;
    size_t at = o * a->y_stride + c;
    struct task t = task_of(k, a, o);
    t.r = a->r ? (const uint8_t *)a->r + at : NULL;
    if (n == WIDE * nv) {
        (nv == 2 ? row128_u8 : row64_u8)(j, &t, (uint8_t *)a->y + at);
        return;
    }
    uint8_t y[TILE];
    (nv == 2 ? row128_u8 : row64_u8)(j, &t, y);
    memcpy((uint8_t *)a->y + at, y, n);
}

WN_Q8_INLINE void row_f32(const struct block *k, const struct job *j, size_t o, size_t c, unsigned nv, size_t n)
{
    struct task t = task_of(k, j->e.a, o);
    v512i sums[TILE / 16];
    (nv == 2 ? row128_i32 : row64_i32)(j, &t, sums);
    for (size_t i = 0; i < n; i += 16)
        wn_q8_v512_put_f32(&j->e, o, c + i, sums[i / 16]);
}

static void tile(const struct block *k, struct job *j, size_t c, size_t n)
{
    const struct wn_q8_args *a = j->e.a;
    unsigned nv = n > WIDE ? 2 : 1;
    j->x = a->x + c;
    for (unsigned v = 0; v < nv; v++) {
        if (a->w_zp) {
            load_columns(a->colsum + c + WIDE * v, n - WIDE * v, j->colsum + 4 * v);
            transpose_lanes(j->colsum + 4 * v);
        }
        if (a->mask) {
            v512i m[4];
            load_columns(a->mask + c + WIDE * v, n - WIDE * v, m);
            transpose_lanes(m);
            j->keep[v] = v512i_packs_i16(v512i_packs_i32(m[0], m[1]), v512i_packs_i32(m[2], m[3]));
        }
    }
    for (size_t o = k->row0; o < k->row1; o += 4) {
        if (a->out == WN_OUT_QUAD) {
            four_rows_quad(k, j, o, c, nv, n);
            continue;
        }
        for (size_t i = o; i < WN_MIN(o + 4, k->row1); i++)
            if (a->out == WN_OUT_PLANE)
                row_plane(k, j, i, c, nv, n);
            else
                row_f32(k, j, i, c, nv, n);
    }
}

void wn_q8_spmm_1x128__avx512vnni(const struct wn_q8_spmm *mat, const int32_t *off, const struct wn_q8_args *args,
                                  size_t row0, size_t row1)
{
    assert(mat->stream == WN_Q8_SPMM_QUAD && row0 % 4 == 0 && args->n % WN_COLS == 0);
    struct block k = { .mat = mat, .off = off, .row0 = row0, .row1 = row1 };
    struct job j = { .e = wn_q8_v512_begin(args) };
    for (size_t c = 0; c < args->n; c += TILE)
        tile(&k, &j, c, WN_MIN(args->n - c, (size_t)TILE));
}
