/* avx512vnni.c: 64 columns of four taps are gathered at once. For planes without a residual or zero points of weights,
 * which a stem hardly has, a loop of its own; for the rest q8_gemm's VNNI kernel. */
#include "engine/kernels/q8_stem/q8_stem.h"

#include "engine/kernels/q8_epilogue_avx512.h"

#define TILE WN_Q8_STEM_TILE

/* 64 columns of quad kq as vectors in "step order": q[i] has columns 16 L + 4 i .. + 3 in its 128-bit lane L. */
WN_Q8_INLINE void gather_quad(const struct wn_q8_stem *mat, const int32_t *tap_off, const uint8_t *x, size_t kq,
                              v512i q[4])
{
    v512i p[4];
    WN_UNROLL
    for (size_t i = 0; i < 4; i++)
        p[i] = 4 * kq + i < mat->k ? v512i_load(x + tap_off[4 * kq + i]) : v512i_zero();
    v512i lo01 = v512i_unpacklo_i8(p[0], p[1]), hi01 = v512i_unpackhi_i8(p[0], p[1]);
    v512i lo23 = v512i_unpacklo_i8(p[2], p[3]), hi23 = v512i_unpackhi_i8(p[2], p[3]);
    q[0] = v512i_unpacklo_i16(lo01, lo23);
    q[1] = v512i_unpackhi_i16(lo01, lo23);
    q[2] = v512i_unpacklo_i16(hi01, hi23);
    q[3] = v512i_unpackhi_i16(hi01, hi23);
}

static void gather(const struct wn_q8_stem *mat, const int32_t *tap_off, const uint8_t *x, size_t n, uint8_t *quads)
{
    for (size_t kq = 0; kq < mat->gemm.quads; kq++, quads += 4 * TILE) {
        v512i q[4];
        gather_quad(mat, tap_off, x, kq, q);
        v512i_transpose_lanes(q);
        WN_UNROLL
        for (size_t i = 0; i < 4; i++)
            v512i_store(quads + 64 * i, q[i]);
    }
}

/* ---- planes: columns stay in step order, which packing to bytes undoes ---- */
/* Rows o..o+3, of which nrows are stored, of the tile's n columns; y: row o. */
WN_Q8_INLINE void four_rows(const struct wn_q8_gemm *mat, const struct wn_q8_v512 *e, const uint8_t *quads, size_t o,
                            size_t nrows, uint8_t *y, size_t n, v512i keep)
{
    const int32_t *w = mat->w + o * mat->quads;
    v512i s[4][4];
    WN_UNROLL
    for (size_t r = 0; r < 4; r++) {
        v512i bias = v512i_set1_i32(r < nrows ? e->a->bias[o + r] : 0);
        WN_UNROLL
        for (size_t i = 0; i < 4; i++)
            s[r][i] = bias;
    }
    for (size_t kq = 0; kq < mat->quads; kq++, w += 4, quads += 4 * TILE) {
        v512i q[4];
        WN_UNROLL
        for (size_t i = 0; i < 4; i++)
            q[i] = v512i_load_once(quads + 64 * i);
        WN_UNROLL
        for (size_t r = 0; r < 4; r++) {
            v512i b = v512i_bcast32(w + r);
            WN_UNROLL
            for (size_t i = 0; i < 4; i++)
                s[r][i] = v512i_dpbusd(s[r][i], q[i], b);
        }
    }
    WN_UNROLL
    for (size_t r = 0; r < 4; r++) {
        if (r >= nrows)
            break;
        v512f f[4], mul = v512f_set1(e->a->mul[o + r]);
        WN_UNROLL
        for (size_t i = 0; i < 4; i++)
            f[i] = v512f_mul(v512i_to_f32(s[r][i]), mul);
        v512i bytes = wn_q8_v512_bytes(e, wn_q8_v512_tame(e, o + r), f);
        if (e->mask)
            bytes = v512i_select(keep, bytes, e->pad);
        v512i_store_part(y + r * e->y_stride, bytes, (unsigned)n);
    }
}

/* The tile's mask (its first n columns) as bytes. */
static v512i keep_of(const uint32_t *mask, size_t n)
{
    v512i m[4];
    WN_UNROLL
    for (size_t i = 0; i < 4; i++)
        m[i] = 16 * i < n ? v512i_load(mask + 16 * i) : v512i_zero();
    v512i_transpose_lanes(m);
    return v512i_packs_i16(v512i_packs_i32(m[0], m[1]), v512i_packs_i32(m[2], m[3]));
}

static void planes(const struct wn_q8_stem *mat, const int32_t *off, const struct wn_q8_args *args, size_t row0,
                   size_t row1)
{
    _Alignas(64) uint8_t quads[WN_Q8_STEM_MAX_K * TILE];
    const struct wn_q8_v512 e = wn_q8_v512_begin(args);
    for (size_t c = 0; c < args->n; c += TILE) {
        const size_t n = WN_MIN(args->n - c, TILE);
        const v512i keep = args->mask ? keep_of(args->mask + c, n) : v512i_zero();
        for (size_t kq = 0; kq < mat->gemm.quads; kq++) {
            v512i q[4];
            gather_quad(mat, off, args->x + c, kq, q);
            WN_UNROLL
            for (size_t i = 0; i < 4; i++)
                v512i_store(quads + 4 * TILE * kq + 64 * i, q[i]);
        }
        for (size_t o = row0; o < row1; o += 4)
            four_rows(&mat->gemm, &e, quads, o, WN_MIN(row1 - o, (size_t)4), e.y + o * e.y_stride + c, n, keep);
    }
}

void wn_q8_stem_8x48__avx512vnni(const struct wn_q8_stem *mat, const int32_t *off, const struct wn_q8_args *args,
                                 size_t row0, size_t row1)
{
    if (args->out == WN_OUT_PLANE && !args->w_zp && !args->r)
        planes(mat, off, args, row0, row1);
    else
        wn_q8_stem_tiles(mat, off, args, row0, row1, gather, wn_q8_gemm_8x48__avx512vnni, wn_q8_colsum__avx512vnni);
}
