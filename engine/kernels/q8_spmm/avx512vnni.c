/* avx512vnni.c: quad stream: four arbitrary non-zeros per vpdpbusd, which adds to 32 bits and never saturates.
 *
 * The R rows of a block (1, 2 or 4) share the loads and the interleaving: with four rows these are a third of the work,
 * with one they are two thirds. Sixteen sums fill half of the registers: 128 columns of one or two rows, 64 of four.
 * 64 columns of four planes are interleaved by bytes, then by words, so that a dword holds one column of all four. That
 * leaves the sums of 64 columns in "step order": a[i] has columns 16 L + 4 i .. + 3 in its 128-bit lane L. packs and
 * packus bring the bytes of a row back into column order within lanes; four rows of bytes become quads.
 * What comes by columns (colsum, mask) is brought into step order once per tile, by a transposition of lanes. */
#include "engine/kernels/q8_spmm/q8_spmm.h"

#include <assert.h>
#include "engine/kernels/q8_epilogue_avx512.h"

#define TILE     128u
#define WIDE     64u /* columns of one step */
#define HALF     32u /* columns of half a vector, where a tile ends with that many or fewer */
#define MAX_SUMS 16u /* vectors of sums: R * nv * 4 */
#define AHEAD    8u  /* rows ahead of the one at work, whose lines are fetched */
#define FETCH    12u /* offsets ahead of a step, whose planes are: three steps; at most WN_Q8_SPMM_AHEAD - 4 */

struct kernel;

/* One column tile of one call. */
struct job {
    struct wn_q8_v512 e;
    const struct wn_q8_spmm *mat;
    const struct kernel *kernel;
    const int32_t *off;
    unsigned what;           /* WILD_ROWS, RESIDUAL */
    const uint8_t *x;        /* column 0 of the tile */
    v512i colsum[TILE / 16]; /* step order; with w_zp */
    v512i keep[TILE / WIDE]; /* byte masks */
};

/* Rows o..end-1 of a tile. */
struct rows {
    size_t o, end;
    uint8_t *y;       /* bytes of row o, TILE or WIDE of each row */
    const uint8_t *r; /* residual bytes of row o, or NULL */
    size_t y_stride, r_stride;
    size_t n; /* columns to store, the last 64 of them in part */
};

/* 64 dwords in column order from p, of which n (a multiple of 16, at least 1) may be read. */
WN_Q8_INLINE void load_columns(const void *p, size_t n, v512i *v)
{
    WN_UNROLL
    for (unsigned i = 0; i < 4; i++)
        v[i] = 16 * i < n ? v512i_load((const char *)p + 64 * i) : v512i_zero();
}

/* ---- sums ---- */
/* Four planes as quads in step order. */
WN_Q8_INLINE void quads_of(const uint8_t *x, const int32_t *off, v512i q[4])
{
    v512i p0 = v512i_load_once(x + off[0]), p1 = v512i_load_once(x + off[1]);
    v512i p2 = v512i_load_once(x + off[2]), p3 = v512i_load_once(x + off[3]);
    v512i lo01 = v512i_unpacklo_i8(p0, p1), hi01 = v512i_unpackhi_i8(p0, p1);
    v512i lo23 = v512i_unpacklo_i8(p2, p3), hi23 = v512i_unpackhi_i8(p2, p3);
    q[0] = v512i_unpacklo_i16(lo01, lo23);
    q[1] = v512i_unpackhi_i16(lo01, lo23);
    q[2] = v512i_unpacklo_i16(hi01, hi23);
    q[3] = v512i_unpackhi_i16(hi01, hi23);
}

/* Of the first 32 columns. */
WN_Q8_INLINE void low_quads_of(const uint8_t *x, const int32_t *off, v512i q[4])
{
    v512i p0 = v512i_low_load_once(x + off[0]), p1 = v512i_low_load_once(x + off[1]);
    v512i p2 = v512i_low_load_once(x + off[2]), p3 = v512i_low_load_once(x + off[3]);
    v512i lo01 = v512i_low_unpacklo_i8(p0, p1), hi01 = v512i_low_unpackhi_i8(p0, p1);
    v512i lo23 = v512i_low_unpacklo_i8(p2, p3), hi23 = v512i_low_unpackhi_i8(p2, p3);
    q[0] = v512i_low_unpacklo_i16(lo01, lo23);
    q[1] = v512i_low_unpackhi_i16(lo01, lo23);
    q[2] = v512i_low_unpacklo_i16(hi01, hi23);
    q[3] = v512i_low_unpackhi_i16(hi01, hi23);
}

/* acc[R][vectors][4] += four stored positions of a block; R and halves are constants after inlining. */
WN_Q8_INLINE void step(v512i *acc, const uint8_t *x, const uint32_t *w, const int32_t *off, unsigned R, unsigned halves)
{
    const unsigned nv = (halves + 1) / 2;
    WN_UNROLL
    for (unsigned v = 0; v < nv; v++) {
        const bool low = 2 * v + 1 == halves;
        v512i q[4];
        if (low)
            low_quads_of(x + WIDE * v, off, q);
        else
            quads_of(x + WIDE * v, off, q);
        WN_UNROLL
        for (unsigned r = 0; r < R; r++) {
            v512i *a = acc + (r * nv + v) * 4, quad = v512i_bcast32(w + r);
            WN_UNROLL
            for (unsigned i = 0; i < 4; i++)
                a[i] = low ? v512i_low_dpbusd(a[i], q[i], quad) : v512i_dpbusd(a[i], q[i], quad);
        }
    }
}

/* The planes of a later step: the tile of all channels mostly leaves L1. (Single rows gain nothing by it.) */
WN_Q8_INLINE void fetch(const uint8_t *x, const int32_t *off, unsigned nv)
{
    WN_UNROLL
    for (unsigned k = 0; k < 4; k++) {
        WN_UNROLL
        for (unsigned v = 0; v < nv; v++)
            __builtin_prefetch(x + WIDE * v + off[k]);
    }
}

/* Sums of the block that begins with row o. Rows past the last have no bias, and weights of 0. */
WN_Q8_INLINE void block_sums(const struct job *j, size_t o, unsigned R, unsigned halves, v512i *acc)
{
    const unsigned nv = (halves + 1) / 2;
    const struct wn_q8_spmm_row *row = &j->mat->row[o / R];
    const uint32_t *w = j->mat->w + (size_t)row->at * R;
    const int32_t *off = j->off + 4 * (size_t)row->at;
    const uint8_t *x = j->x;
    WN_UNROLL
    for (unsigned r = 0; r < R; r++) {
        v512i bias = R == 1 || o + r < j->mat->rows ? v512i_set1_i32(j->e.a->bias[o + r]) : v512i_zero();
        WN_UNROLL
        for (unsigned i = 0; i < 4 * nv; i++)
            acc[4 * nv * r + i] = bias;
    }
    for (unsigned i = row->steps[0]; i; i--, w += R, off += 4) {
        if (R > 1)
            fetch(x, off + FETCH, nv);
        step(acc, x, w, off, R, halves);
    }
}

/* ---- finishing ---- */
/* What rows need besides scaling and rounding; constants after inlining. */
enum {
    RESIDUAL = 1,
    WILD_ROWS = 2, /* some row has a zero point of its own or may leave int32 */
    WHATS = 4
};

/* The bytes of 64 columns of row o, v the number of the 64 in the tile. */
WN_Q8_INLINE v512i finish(const struct job *j, const struct wn_q8_v512 *e, size_t o, v512f mul, const uint8_t *res,
                          const v512i *acc, unsigned v, unsigned what)
{
    v512f f[4];
    WN_UNROLL
    for (unsigned i = 0; i < 4; i++) {
        v512i a = acc[i];
        if (what & WILD_ROWS && e->w_zp)
            a = v512i_sub_i32(a, v512i_mullo_i32(v512i_set1_i32(e->w_zp[o]), j->colsum[4 * v + i]));
        f[i] = v512f_mul(v512i_to_f32(a), mul);
    }
    if (what & RESIDUAL)
        wn_q8_v512_sum_bytes(e, !(what & WILD_ROWS), f, v512i_load_once(res + WIDE * v));
    v512i y = wn_q8_v512_bytes(e, !(what & WILD_ROWS) || wn_q8_v512_tame(e, o), f);
    return WN_UNLIKELY(e->mask != NULL) ? v512i_select(j->keep[v], y, e->pad) : y;
}

/* The first n (a multiple of 16) of 64 bytes. */
WN_Q8_INLINE void store_columns(uint8_t *y, v512i bytes, size_t n)
{
    if (WN_LIKELY(n >= WIDE))
        v512i_store(y, bytes);
    else
        v512i_store_part(y, bytes, (unsigned)n);
}

/* ---- rows of halves * 32 columns as bytes, a block's sums in column order ---- */
WN_Q8_INLINE void rows_u8(const struct job *j, const struct rows *rows, unsigned R, unsigned halves, unsigned what)
{
    const unsigned nv = (halves + 1) / 2;
    const struct wn_q8_v512 e = j->e; /* a copy: storing bytes cannot change it */
    const size_t n = rows->n, end = rows->end, y_stride = rows->y_stride, r_stride = rows->r_stride;
    const float *mul = e.a->mul;
    uint8_t *y = rows->y;
    const uint8_t *r = rows->r;
    for (size_t o = rows->o; o < end; o += R) {
        v512i acc[MAX_SUMS];
        WN_UNROLL
        for (unsigned i = 0; i < R; i++) {
            WN_UNROLL
            for (unsigned v = 0; v < nv; v++) {
                __builtin_prefetch(y + (AHEAD + i) * y_stride + WIDE * v, 1);
                if (what & RESIDUAL)
                    __builtin_prefetch(r + (AHEAD + i) * r_stride + WIDE * v);
            }
        }
        block_sums(j, o, R, halves, acc);
        WN_UNROLL
        for (unsigned i = 0; i < R; i++) {
            if (R > 1 && o + i >= end)
                break;
            const v512f m = v512f_set1(mul[o + i]);
            WN_UNROLL
            for (unsigned v = 0; v < nv; v++)
                store_columns(y + WIDE * v, finish(j, &e, o + i, m, r, acc + (i * nv + v) * 4, v, what), n - WIDE * v);
            y += y_stride;
            if (what & RESIDUAL)
                r += r_stride;
        }
    }
}

/* Rows o.. of a block, at most up to `end`, columns c..c+n-1 as floats. */
WN_Q8_INLINE void block_f32(const struct job *j, size_t o, size_t end, size_t c, size_t n, unsigned R, unsigned nv)
{
    const struct wn_q8_v512 e = j->e; /* a copy: storing floats cannot change it */
    v512i acc[MAX_SUMS];
    block_sums(j, o, R, 2 * nv, acc);
    WN_UNROLL
    for (unsigned r = 0; r < R; r++) {
        if (o + r >= end)
            break;
        WN_UNROLL
        for (unsigned v = 0; v < nv; v++) {
            v512i *sums = acc + (r * nv + v) * 4;
            v512i_transpose_lanes(sums);
            WN_UNROLL
            for (unsigned i = 0; i < 4; i++)
                if (64 * v + 16 * i < n)
                    wn_q8_v512_put_f32(&e, o + r, c + 64 * v + 16 * i, sums[i]);
        }
    }
}

/* Each of these needs all the registers there are, so it is a function of its own. H: halves. */
#define ROWS(R, H, WHAT)                                                                                               \
    __attribute__((noinline)) static void rows_u8_##R##_##H##_##WHAT(const struct job *j, const struct rows *rows)     \
    {                                                                                                                  \
        rows_u8(j, rows, R, H, WHAT);                                                                                  \
    }
#define TAME(R, H) ROWS(R, H, 0) ROWS(R, H, 1)
#define WILD(R, H) ROWS(R, H, 2) ROWS(R, H, 3)
#define F32(R, NV)                                                                                                     \
    __attribute__((noinline)) static void block_f32_##R##_##NV(const struct job *j, size_t o, size_t end, size_t c,    \
                                                               size_t n)                                               \
    {                                                                                                                  \
        block_f32(j, o, end, c, n, R, NV);                                                                             \
    }
TAME(1, 1)
TAME(1, 2)
TAME(1, 3)
TAME(1, 4)
WILD(1, 2)
WILD(1, 4)
F32(1, 1)
F32(1, 2)
TAME(2, 1)
TAME(2, 2)
TAME(2, 3)
TAME(2, 4)
WILD(2, 2)
WILD(2, 4)
F32(2, 1)
F32(2, 2)
TAME(4, 1)
TAME(4, 2)
WILD(4, 2)
F32(4, 1)

/* What a block of R rows is computed by. */
struct kernel {
    void (*rows_u8[2 * TILE / WIDE][WHATS])(const struct job *j, const struct rows *rows); /* [0]: 32 columns */
    void (*block_f32[TILE / WIDE])(const struct job *j, size_t o, size_t end, size_t c, size_t n);
};
/* H halves, which whole vectors do for wild rows */
#define U8(R, H, WHOLE)                                                                                                \
    {                                                                                                                  \
        rows_u8_##R##_##H##_0, rows_u8_##R##_##H##_1, rows_u8_##R##_##WHOLE##_2, rows_u8_##R##_##WHOLE##_3             \
    }
static const struct kernel kernels[] = {
    [1] = { { U8(1, 1, 2), U8(1, 2, 2), U8(1, 3, 4), U8(1, 4, 4) }, { block_f32_1_1, block_f32_1_2 } },
    [2] = { { U8(2, 1, 2), U8(2, 2, 2), U8(2, 3, 4), U8(2, 4, 4) }, { block_f32_2_1, block_f32_2_2 } },
    [4] = { { U8(4, 1, 2), U8(4, 2, 2) }, { block_f32_4_1 } },
};

/* ---- four rows of bytes <-> 64 columns of quads, of which n are touched ---- */
WN_Q8_INLINE void bytes_to_quads(const uint8_t *b, uint8_t *y, size_t n)
{
    v512i r0 = v512i_load(b), r1 = v512i_load(b + TILE), r2 = v512i_load(b + 2 * TILE), r3 = v512i_load(b + 3 * TILE);
    v512i lo01 = v512i_unpacklo_i8(r0, r1), hi01 = v512i_unpackhi_i8(r0, r1);
    v512i lo23 = v512i_unpacklo_i8(r2, r3), hi23 = v512i_unpackhi_i8(r2, r3);
    v512i q[4] = { v512i_unpacklo_i16(lo01, lo23), v512i_unpackhi_i16(lo01, lo23), v512i_unpacklo_i16(hi01, hi23),
                   v512i_unpackhi_i16(hi01, hi23) };
    v512i_transpose_lanes(q);
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
    v512i_transpose_lanes(c); /* lane L of c[i]: columns 16 L + 4 i .. + 3, one dword for each row */
    v512i lo01 = v512i_unpacklo_i32(c[0], c[1]), hi01 = v512i_unpackhi_i32(c[0], c[1]);
    v512i lo23 = v512i_unpacklo_i32(c[2], c[3]), hi23 = v512i_unpackhi_i32(c[2], c[3]);
    v512i_store(b, v512i_unpacklo_i64(lo01, lo23));
    v512i_store(b + TILE, v512i_unpackhi_i64(lo01, lo23));
    v512i_store(b + 2 * TILE, v512i_unpacklo_i64(hi01, hi23));
    v512i_store(b + 3 * TILE, v512i_unpackhi_i64(hi01, hi23));
}

/* ---- tiles: columns c.., n of them ---- */
/* Rows o.. (at most four). */
WN_Q8_INLINE void four_rows_quad(const struct job *j, size_t o, size_t end, size_t c, size_t n)
{
    const struct wn_q8_args *a = j->e.a;
    uint8_t y[4][TILE] __attribute__((aligned(64))), r[4][TILE] __attribute__((aligned(64)));
    size_t at = o / 4 * a->y_stride + 4 * c, nrows = WN_MIN(end - o, (size_t)4);
    for (size_t i = 0; a->r && i < n; i += WIDE)
        quads_to_bytes(&j->e, (const uint8_t *)a->r + at + 4 * i, &r[0][i], n - i);
    if (nrows < 4)
        memset(y[nrows], a->y_zp, (4 - nrows) * TILE);
    struct rows rows = {
        .o = o, .end = o + nrows, .y = y[0], .r = a->r ? r[0] : NULL, .y_stride = TILE, .r_stride = TILE, .n = TILE
    };
    j->kernel->rows_u8[(n - 1) / HALF][j->what](j, &rows);
    for (size_t i = 0; i < n; i += WIDE)
        bytes_to_quads(&y[0][i], (uint8_t *)a->y + at + 4 * i, n - i);
}

WN_Q8_INLINE void rows_plane(const struct job *j, size_t o, size_t end, size_t c, size_t n)
{
    const struct wn_q8_args *a = j->e.a;
    const size_t at = o * a->y_stride + c;
    const struct rows rows = { .o = o,
                               .end = end,
                               .y = (uint8_t *)a->y + at,
                               .r = a->r ? (const uint8_t *)a->r + at : NULL,
                               .y_stride = a->y_stride,
                               .r_stride = a->y_stride,
                               .n = n };
    j->kernel->rows_u8[(n - 1) / HALF][j->what](j, &rows);
}

static void tile(struct job *j, size_t row0, size_t row1, size_t c, size_t n)
{
    const struct wn_q8_args *a = j->e.a;
    unsigned nv = n > WIDE ? 2 : 1;
    j->x = a->x + c;
    for (unsigned v = 0; v < nv; v++) {
        if (a->w_zp) {
            load_columns(a->colsum + c + WIDE * v, n - WIDE * v, j->colsum + 4 * v);
            v512i_transpose_lanes(j->colsum + 4 * v);
        }
        if (a->mask) {
            v512i m[4];
            load_columns(a->mask + c + WIDE * v, n - WIDE * v, m);
            v512i_transpose_lanes(m);
            j->keep[v] = v512i_packs_i16(v512i_packs_i32(m[0], m[1]), v512i_packs_i32(m[2], m[3]));
        }
    }
    if (a->out == WN_OUT_PLANE)
        rows_plane(j, row0, row1, c, n);
    else if (a->out == WN_OUT_F32)
        for (size_t o = row0; o < row1; o += j->mat->block)
            j->kernel->block_f32[nv - 1](j, o, row1, c, n);
    else
        for (size_t o = row0; o < row1; o += 4)
            four_rows_quad(j, o, row1, c, n);
}

WN_Q8_INLINE void run(const struct wn_q8_spmm *mat, const int32_t *off, const struct wn_q8_args *args, size_t row0,
                      size_t row1, unsigned R, size_t width)
{
    assert(mat->stream == WN_Q8_SPMM_QUAD && mat->block == R && row0 % 4 == 0 && args->n % WN_COLS == 0);
    struct job j = { .e = wn_q8_v512_begin(args), .mat = mat, .off = off, .kernel = &kernels[R] };
    j.what = (wn_q8_v512_wild(&j.e, row0, row1) ? WILD_ROWS : 0) | (j.e.r ? RESIDUAL : 0);
    for (size_t c = 0; c < args->n; c += width)
        tile(&j, row0, row1, c, WN_MIN(args->n - c, width));
}

void wn_q8_spmm_1x128__avx512vnni(const struct wn_q8_spmm *mat, const int32_t *off, const struct wn_q8_args *args,
                                  size_t row0, size_t row1)
{
    run(mat, off, args, row0, row1, 1, TILE);
}

void wn_q8_spmm_2x128__avx512vnni(const struct wn_q8_spmm *mat, const int32_t *off, const struct wn_q8_args *args,
                                  size_t row0, size_t row1)
{
    run(mat, off, args, row0, row1, 2, TILE);
}

void wn_q8_spmm_4x64__avx512vnni(const struct wn_q8_spmm *mat, const int32_t *off, const struct wn_q8_args *args,
                                 size_t row0, size_t row1)
{
    run(mat, off, args, row0, row1, 4, WIDE);
}
