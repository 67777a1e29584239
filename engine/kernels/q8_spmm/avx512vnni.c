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

/* One column tile of one call. */
struct job {
    struct wn_q8_v512 e;
    const struct wn_q8_spmm *mat;
    const int32_t *off;
    const uint8_t *x;        /* column 0 of the tile */
    v512i colsum[TILE / 16]; /* step order; with w_zp */
    v512i keep[TILE / WIDE]; /* byte masks */
};

/* Rows o..end-1 of a tile. */
struct rows {
    size_t o, end;
    uint8_t *y;       /* bytes of row o, TILE or WIDE of each row */
    const uint8_t *r; /* residual bytes of row o, or NULL */
    size_t stride;    /* of y and r */
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
    WN_UNROLL
    for (unsigned i = 0; i < 4; i++)
        v[i] = 16 * i < n ? v512i_load((const char *)p + 64 * i) : v512i_zero();
}

/* ---- sums ---- */
WN_Q8_INLINE void step(v512i *acc, const uint8_t *x, const uint32_t *w, const int32_t *off, unsigned nv)
{
    v512i quad = v512i_bcast32(w);
    WN_UNROLL
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

WN_Q8_INLINE void row_sums(const struct job *j, size_t o, unsigned nv, v512i *acc)
{
    const struct wn_q8_spmm_row *row = &j->mat->row[o];
    const uint32_t *w = j->mat->w + row->at;
    const int32_t *off = j->off + 4 * (size_t)row->at;
    const uint8_t *x = j->x;
    WN_UNROLL
    for (unsigned i = 0; i < 4 * nv; i++)
        acc[i] = v512i_set1_i32(j->e.a->bias[o]);
    for (unsigned i = row->steps[0]; i; i--, w++, off += 4)
        step(acc, x, w, off, nv);
}

/* ---- finishing ---- */
WN_Q8_INLINE v512f residual(const struct wn_q8_v512 *e, v512f f, v512i r)
{
    return v512f_add(f, v512f_mul(v512i_to_f32(v512i_sub_i32(r, e->r_zp)), e->r_mul));
}

/* The bytes of 64 columns of row o, v the number of the 64 in the tile. */
WN_Q8_INLINE v512i finish(const struct job *j, size_t o, const uint8_t *res, const v512i *acc, unsigned v)
{
    const struct wn_q8_v512 *e = &j->e;
    const v512f mul = v512f_set1(e->a->mul[o]);
    v512f f[4];
    WN_UNROLL
    for (unsigned i = 0; i < 4; i++) {
        v512i a = acc[i];
        if (e->w_zp)
            a = v512i_sub_i32(a, v512i_mullo_i32(v512i_set1_i32(e->w_zp[o]), j->colsum[4 * v + i]));
        f[i] = v512f_mul(v512i_to_f32(a), mul);
    }
    if (res) {
        const v512i zero = v512i_zero();
        v512i r = v512i_load(res + WIDE * v);
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

/* ---- rows of nv * 64 columns as bytes, a row's sums in column order ---- */
WN_Q8_INLINE void rows_u8(const struct job *j, const struct rows *rows, unsigned nv)
{
    uint8_t *y = rows->y;
    const uint8_t *r = rows->r;
    for (size_t o = rows->o; o < rows->end; o++, y += rows->stride) {
        v512i acc[8];
        row_sums(j, o, nv, acc);
        WN_UNROLL
        for (unsigned v = 0; v < nv; v++)
            v512i_store(y + WIDE * v, finish(j, o, r, acc + 4 * v, v));
        r = r ? r + rows->stride : NULL;
    }
}

__attribute__((noinline)) static void rows128_u8(const struct job *j, const struct rows *rows)
{
    rows_u8(j, rows, 2);
}

__attribute__((noinline)) static void rows64_u8(const struct job *j, const struct rows *rows)
{
    rows_u8(j, rows, 1);
}

__attribute__((noinline)) static void row128_i32(const struct job *j, size_t o, v512i *sums)
{
    row_sums(j, o, 2, sums);
    transpose_lanes(sums);
    transpose_lanes(sums + 4);
}

__attribute__((noinline)) static void row64_i32(const struct job *j, size_t o, v512i *sums)
{
    row_sums(j, o, 1, sums);
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
    WN_UNROLL
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

/* ---- tiles: columns c.., of whose nv * 64 n are stored ---- */
/* Rows o.. (at most four). */
WN_Q8_INLINE void four_rows_quad(const struct job *j, size_t o, size_t end, size_t c, unsigned nv, size_t n)
{
    const struct wn_q8_args *a = j->e.a;
    uint8_t y[4][TILE] __attribute__((aligned(64))), r[4][TILE] __attribute__((aligned(64)));
    size_t at = o / 4 * a->y_stride + 4 * c, nrows = WN_MIN(end - o, (size_t)4);
    for (size_t i = 0; a->r && i < n; i += WIDE)
        quads_to_bytes(&j->e, (const uint8_t *)a->r + at + 4 * i, &r[0][i], n - i);
    if (nrows < 4)
        memset(y[nrows], a->y_zp, (4 - nrows) * TILE);
    struct rows rows = { .o = o, .end = o + nrows, .y = y[0], .r = a->r ? r[0] : NULL, .stride = TILE };
    (nv == 2 ? rows128_u8 : rows64_u8)(j, &rows);
    for (size_t i = 0; i < n; i += WIDE)
        bytes_to_quads(&y[0][i], (uint8_t *)a->y + at + 4 * i, n - i);
}

WN_Q8_INLINE void rows_plane(const struct job *j, size_t o, size_t end, size_t c, unsigned nv, size_t n)
{
    const struct wn_q8_args *a = j->e.a;
    size_t at = o * a->y_stride + c;
    uint8_t *y = (uint8_t *)a->y + at;
    struct rows rows = {
        .o = o, .end = end, .y = y, .r = a->r ? (const uint8_t *)a->r + at : NULL, .stride = a->y_stride
    };
    if (n == WIDE * nv) {
        (nv == 2 ? rows128_u8 : rows64_u8)(j, &rows);
        return;
    }
    for (; rows.o < end; rows.o++, y += a->y_stride) { /* the tile is wider than what may be written */
        uint8_t part[TILE];
        struct rows row = rows;
        row.end = rows.o + 1;
        row.y = part;
        (nv == 2 ? rows128_u8 : rows64_u8)(j, &row);
        memcpy(y, part, n);
        rows.r = rows.r ? rows.r + a->y_stride : NULL;
    }
}

WN_Q8_INLINE void row_f32(const struct job *j, size_t o, size_t c, unsigned nv, size_t n)
{
    v512i sums[TILE / 16];
    (nv == 2 ? row128_i32 : row64_i32)(j, o, sums);
    for (size_t i = 0; i < n; i += 16)
        wn_q8_v512_put_f32(&j->e, o, c + i, sums[i / 16]);
}

static void tile(struct job *j, size_t row0, size_t row1, size_t c, size_t n)
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
    if (a->out == WN_OUT_PLANE)
        rows_plane(j, row0, row1, c, nv, n);
    else if (a->out == WN_OUT_F32)
        for (size_t o = row0; o < row1; o++)
            row_f32(j, o, c, nv, n);
    else
        for (size_t o = row0; o < row1; o += 4)
            four_rows_quad(j, o, row1, c, nv, n);
}

void wn_q8_spmm_1x128__avx512vnni(const struct wn_q8_spmm *mat, const int32_t *off, const struct wn_q8_args *args,
                                  size_t row0, size_t row1)
{
    assert(mat->stream == WN_Q8_SPMM_QUAD && row0 % 4 == 0 && args->n % WN_COLS == 0);
    struct job j = { .e = wn_q8_v512_begin(args), .mat = mat, .off = off };
    for (size_t c = 0; c < args->n; c += TILE)
        tile(&j, row0, row1, c, WN_MIN(args->n - c, (size_t)TILE));
}
