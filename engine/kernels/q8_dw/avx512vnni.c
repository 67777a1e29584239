/* avx512vnni.c: quad stream: four taps per vpdpbusd.
 *
 * 16 columns (64 bytes) of four taps are interleaved by bytes, then by words, so that a dword holds one channel of one
 * column at four taps: acc[i] has columns c + 4 L + i in lane L, a dword for every channel. packs and packus put the
 * columns in order within lanes. */
#include "engine/kernels/q8_dw/q8_dw.h"

#include <assert.h>
#include "engine/kernels/q8_epilogue_avx512.h"

/* Four channels: their constants once in every lane. */
struct group {
    size_t o, nrows; /* first channel, real ones */
    const uint8_t *x;
    const int8_t *w;
    v512i bias;
    v512f mul;
};

/* 16 bytes from p in every lane. */
WN_Q8_INLINE v512i lanes(const void *p)
{
    v512i v = v512i_load_part(p, 16);
    return WN_V512(shuffle_i32x4)(v, v, 0);
}

static struct group group_of(const struct wn_q8_dw *mat, size_t x_stride, const struct wn_q8_args *args, size_t o,
                             size_t c1)
{
    struct group g = {
        .o = o, .nrows = WN_MIN(c1 - o, (size_t)4), .x = args->x + o / 4 * x_stride, .w = mat->w8 + o * mat->noffs
    };
    int32_t bias[4] = { 0 };
    float mul[4] = { 0 };
    memcpy(bias, args->bias + o, g.nrows * sizeof *bias);
    memcpy(mul, args->mul + o, g.nrows * sizeof *mul);
    g.bias = lanes(bias);
    g.mul = v512i_as_f(lanes(mul));
    return g;
}

WN_Q8_INLINE void sums(const struct group *g, const int32_t *off, size_t noffs, size_t c, v512i *acc)
{
    acc[0] = acc[1] = acc[2] = acc[3] = g->bias;
    const uint8_t *x = g->x + 4 * c;
    for (size_t s = 0; s < noffs; s += 4) {
        v512i p0 = v512i_load(x + off[s]), p1 = v512i_load(x + off[s + 1]);
        v512i p2 = v512i_load(x + off[s + 2]), p3 = v512i_load(x + off[s + 3]);
        v512i lo01 = v512i_unpacklo_i8(p0, p1), hi01 = v512i_unpackhi_i8(p0, p1);
        v512i lo23 = v512i_unpacklo_i8(p2, p3), hi23 = v512i_unpackhi_i8(p2, p3);
        v512i w = lanes(g->w + 4 * s);
        acc[0] = v512i_dpbusd(acc[0], v512i_unpacklo_i16(lo01, lo23), w);
        acc[1] = v512i_dpbusd(acc[1], v512i_unpackhi_i16(lo01, lo23), w);
        acc[2] = v512i_dpbusd(acc[2], v512i_unpacklo_i16(hi01, hi23), w);
        acc[3] = v512i_dpbusd(acc[3], v512i_unpackhi_i16(hi01, hi23), w);
    }
}

WN_Q8_INLINE void put_quads(const struct wn_q8_v512 *e, const struct group *g, size_t c, const v512i *acc)
{
    v512f f[4];
    WN_UNROLL
    for (unsigned i = 0; i < 4; i++)
        f[i] = v512f_mul(v512i_to_f32(acc[i]), g->mul);
    if (e->r)
        wn_q8_v512_sum_bytes(e, false, f, v512i_load_once(e->r + g->o / 4 * e->y_stride + 4 * c));
    v512i lo = v512i_packs_i32(wn_q8_v512_rne(e, f[0]), wn_q8_v512_rne(e, f[1]));
    v512i hi = v512i_packs_i32(wn_q8_v512_rne(e, f[2]), wn_q8_v512_rne(e, f[3]));
    v512i q = v512i_packus_i16(v512i_adds_i16(lo, e->y_zp), v512i_adds_i16(hi, e->y_zp));
    wn_q8_v512_store_quads(e, g->o, g->nrows, c, wn_q8_v512_clamp(e, q));
}

/* Plane and f32 form: the sums by rows, then the common epilogue. */
WN_Q8_INLINE void put_rows(const struct wn_q8_v512 *e, const struct group *g, size_t c, const v512i *acc)
{
    v512i lo01 = v512i_unpacklo_i32(acc[0], acc[1]), hi01 = v512i_unpackhi_i32(acc[0], acc[1]);
    v512i lo23 = v512i_unpacklo_i32(acc[2], acc[3]), hi23 = v512i_unpackhi_i32(acc[2], acc[3]);
    v512i row[4] = { v512i_unpacklo_i64(lo01, lo23), v512i_unpackhi_i64(lo01, lo23), v512i_unpacklo_i64(hi01, hi23),
                     v512i_unpackhi_i64(hi01, hi23) };
    for (size_t i = 0; i < g->nrows; i++)
        if (e->out == WN_OUT_F32)
            wn_q8_v512_put_f32(e, g->o + i, c, row[i]);
        else
            wn_q8_v512_put_plane(e, g->o + i, c, wn_q8_v512_round(e, g->o + i, c, row[i]));
}

void wn_q8_dw_4x16__avx512vnni(const struct wn_q8_dw *mat, const int32_t *off, size_t x_stride,
                               const struct wn_q8_args *args, size_t c0, size_t c1)
{
    assert(mat->stream == WN_Q8_DW_QUAD && c0 % 4 == 0 && args->n % WN_COLS == 0 && !args->w_zp);
    struct wn_q8_v512 e = wn_q8_v512_begin(args);
    for (size_t o = c0; o < c1; o += 4) {
        struct group g = group_of(mat, x_stride, args, o, c1);
        for (size_t c = 0; c < args->n; c += WN_COLS) {
            v512i acc[4];
            sums(&g, off, mat->noffs, c, acc);
            if (args->out == WN_OUT_QUAD)
                put_quads(&e, &g, c, acc);
            else
                put_rows(&e, &g, c, acc);
        }
    }
}
