/* q8_epilogue_avx512.h: q8_epilogue.h, one vector of 16 columns at a time. Include from avx512vnni.c files only.
 *
 *     struct wn_q8_v512 e = wn_q8_v512_begin(args);          (a local: the constants then live in registers)
 *     quad:  i[k] = wn_q8_v512_round(&e, o + k, c, acc_k) for four rows; wn_q8_v512_put_quad(&e, o, nrows, c, i0..i3)
 *     plane: wn_q8_v512_put_plane(&e, o, c, wn_q8_v512_round(&e, o, c, acc))
 *     f32:   wn_q8_v512_put_f32(&e, o, c, acc) */
#ifndef WN_Q8_EPILOGUE_AVX512_H
#define WN_Q8_EPILOGUE_AVX512_H

#include "engine/kernels/q8_epilogue.h"
#include "engine/kernels/simd512.h"

struct wn_q8_v512 {
    const struct wn_q8_args *a;
    const int32_t *w_zp;
    const uint8_t *r;
    const uint32_t *mask;
    uint8_t *y;
    size_t y_stride;
    enum wn_q8_out out;
    bool clamps;  /* q_lo .. q_hi is less than a byte */
    float tame;   /* a row whose |mul| is below this makes no NaN and stays within int32 whatever its sums and residual;
                   * with a residual 0 unless s_lo <= 0 <= s_hi */
    bool r_whole; /* residual bytes are used as they come: no zero point, and 2^23 r_mul is a float */
    v512f r_off, r_mul, r_add, s_mul, s_lo, s_hi, cut, lo, hi;
    v512i y_zp /* words */, q_lo, q_hi, pad /* bytes */, transpose, pick;
};

/** The bits of the float 2^23, whose low byte counts ones: WN_Q8_V512_ONES | r is 2^23 + r. */
#define WN_Q8_V512_ONES 0x4b000000

WN_Q8_INLINE struct wn_q8_v512 wn_q8_v512_begin(const struct wn_q8_args *a)
{
    static const int8_t pick[16] = {
        0, -128, -128, -128, 4, -128, -128, -128, 8, -128, -128, -128, 12, -128, -128, -128
    };
    static const int8_t transpose[16] = { 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15 };
    const bool calm = fabsf(a->r_mul) < 4e6f && fabsf(a->s_mul) < 4e6f; /* 255 * 8e6 < 2^31 */
    const bool r_whole = a->r_zp == 0 && fabsf(a->r_mul) < 1e30f;
    return (struct wn_q8_v512){ .a = a,
                                .w_zp = a->w_zp,
                                .r = a->r,
                                .mask = a->mask,
                                .y = a->y,
                                .y_stride = a->y_stride,
                                .out = a->out,
                                .clamps = a->q_lo > 0 || a->q_hi < 255,
                                .tame = !a->r                                  ? 0.99f
                                        : calm && a->s_lo <= 0 && a->s_hi >= 0 ? INFINITY
                                                                               : 0,
                                .r_whole = r_whole,
                                .r_off = v512f_set1(8388608.0f + (float)a->r_zp),
                                .r_mul = v512f_set1(a->r_mul),
                                .r_add = v512f_set1(r_whole ? -8388608.0f * a->r_mul : -0.0f),
                                .s_mul = v512f_set1(a->s_mul),
                                .s_lo = v512f_set1(a->s_lo),
                                .s_hi = v512f_set1(a->s_hi),
                                .cut = v512f_set1(WN_Q8_CUT),
                                .lo = v512f_set1(a->lo),
                                .hi = v512f_set1(a->hi),
                                .y_zp = v512i_set1_i16((int16_t)a->y_zp),
                                .q_lo = v512i_set1_i8((int8_t)a->q_lo),
                                .q_hi = v512i_set1_i8((int8_t)a->q_hi),
                                .pad = v512i_set1_i8((int8_t)a->y_zp),
                                .transpose = v512i_lanes16(transpose),
                                .pick = v512i_lanes16(pick) };
}

/** rne as wn_q8_rne(): below -2^31 the conversion itself gives the lowest integer, which packs then saturates. */
WN_Q8_INLINE v512i wn_q8_v512_rne(const struct wn_q8_v512 *e, v512f f)
{
    return v512f_to_i32(v512f_min(f, e->cut));
}

/** (float)(acc - w_zp * colsum) * mul of row o, columns c..c+15. */
WN_Q8_INLINE v512f wn_q8_v512_scale(const struct wn_q8_v512 *e, size_t o, size_t c, v512i acc)
{
    if (e->w_zp)
        acc = v512i_sub_i32(acc, v512i_mullo_i32(v512i_set1_i32(e->w_zp[o]), v512i_load(e->a->colsum + c)));
    return v512f_mul(v512i_to_f32(acc), v512f_set1(e->a->mul[o]));
}

/** Does row o make no NaN and stay within int32, so that its floats need no cut? */
WN_Q8_INLINE bool wn_q8_v512_tame(const struct wn_q8_v512 *e, size_t o)
{
    return WN_LIKELY(fabsf(e->a->mul[o]) < e->tame);
}

/** Has one of the rows row0..row1-1 a zero point, or is it not tame? */
WN_Q8_INLINE bool wn_q8_v512_wild(const struct wn_q8_v512 *e, size_t row0, size_t row1)
{
    const v512f tame = v512f_set1(e->tame);
    const v512i yes = v512i_set1_i32(-1);
    v512i all = yes;
    for (size_t o = row0; o < row1; o += 16) {
        v512f mul = v512f_load_part(e->a->mul + o, (unsigned)WN_MIN(row1 - o, 16u));
        all = v512i_and(all, v512f_gt(tame, v512f_max(v512f_sub(v512f_zero(), mul), mul))); /* a NaN is not tame */
    }
    return e->w_zp || v512i_any_gt_i32(all, yes);
}

/** `f` rounded as the layer's own tensor, in its units. */
WN_Q8_INLINE v512f wn_q8_v512_own(const struct wn_q8_v512 *e, v512f f)
{
    return v512f_round(v512f_max(v512f_min(f, e->s_hi), e->s_lo)); /* in this order a NaN becomes s_hi */
}

/** The same for tame rows by integers, which more pipes take: as a signed number a float above s_hi >= 0 is the greater
 *  one, and as an unsigned number one below s_lo <= -0. */
WN_Q8_INLINE v512f wn_q8_v512_own_tame(const struct wn_q8_v512 *e, v512f f)
{
    const v512i hi = v512f_as_i(e->s_hi), lo = v512i_or(v512f_as_i(e->s_lo), v512i_set1_i32(INT32_MIN));
    return v512f_round(v512i_as_f(WN_V512(min_epu32)(v512i_min_i32(v512f_as_i(f), hi), lo)));
}

/** (float)(r - r_zp) * r_mul of a residual that comes as 2^23 + r. One rounding: taking 2^23 + r_zp away is exact, and
 *  where r_zp is 0 one fma multiplies and takes 2^23 * r_mul, which is a float, away. */
WN_Q8_INLINE v512f wn_q8_v512_other(const struct wn_q8_v512 *e, v512f r)
{
    return v512f_fma(e->r_whole ? r : v512f_sub(r, e->r_off), e->r_mul, e->r_add);
}

/** Layer and residual (as 2^23 + r) in units of y's scale. */
WN_Q8_INLINE v512f wn_q8_v512_sum(const struct wn_q8_v512 *e, bool tame, v512f f, v512f r)
{
    f = tame ? wn_q8_v512_own_tame(e, f) : wn_q8_v512_own(e, f);
    return v512f_add(v512f_mul(f, e->s_mul), wn_q8_v512_other(e, r));
}

/** The same of four vectors at once: what they need is asked for once. */
WN_Q8_INLINE void wn_q8_v512_sums(const struct wn_q8_v512 *e, bool tame, v512f f[4], v512f r[4])
{
    if (!e->r_whole) {
        WN_UNROLL
        for (unsigned i = 0; i < 4; i++)
            r[i] = v512f_sub(r[i], e->r_off);
    }
    if (tame) {
        WN_UNROLL
        for (unsigned i = 0; i < 4; i++)
            f[i] = wn_q8_v512_own_tame(e, f[i]);
    } else {
        WN_UNROLL
        for (unsigned i = 0; i < 4; i++)
            f[i] = wn_q8_v512_own(e, f[i]);
    }
    WN_UNROLL
    for (unsigned i = 0; i < 4; i++)
        f[i] = v512f_add(v512f_mul(f[i], e->s_mul), v512f_fma(r[i], e->r_mul, e->r_add));
}

/** The same of 64 columns: f lie as unpacking bytes, then words leaves them; r are the residual's bytes in order. */
WN_Q8_INLINE void wn_q8_v512_sum_bytes(const struct wn_q8_v512 *e, bool tame, v512f f[4], v512i r)
{
    const v512i zero = v512i_zero(), ones = v512i_set1_i16(WN_Q8_V512_ONES >> 16);
    v512i lo = v512i_unpacklo_i8(r, zero), hi = v512i_unpackhi_i8(r, zero);
    v512f x[4] = { v512i_as_f(v512i_unpacklo_i16(lo, ones)), v512i_as_f(v512i_unpackhi_i16(lo, ones)),
                   v512i_as_f(v512i_unpacklo_i16(hi, ones)), v512i_as_f(v512i_unpackhi_i16(hi, ones)) };
    wn_q8_v512_sums(e, tame, f, x);
}

/** The residual of row o, columns c..c+15, as 2^23 + r: quad form picks byte o % 4 of each dword. */
WN_Q8_INLINE v512f wn_q8_v512_residual(const struct wn_q8_v512 *e, size_t o, size_t c)
{
    v512i r;
    if (e->out == WN_OUT_QUAD) {
        v512i idx = v512i_add_i32(e->pick, v512i_set1_i32((int32_t)(o & 3)));
        r = v512i_shuffle_i8(v512i_load(e->r + o / 4 * e->y_stride + 4 * c), idx);
    } else {
        r = v512i_load_u8_i32(e->r + o * e->y_stride + c);
    }
    return v512i_as_f(v512i_or(r, v512i_set1_i32(WN_Q8_V512_ONES)));
}

/** Row o, columns c..c+15: rounded to dwords, zero point not yet added. */
WN_Q8_INLINE v512i wn_q8_v512_round(const struct wn_q8_v512 *e, size_t o, size_t c, v512i acc)
{
    v512f f = wn_q8_v512_scale(e, o, c, acc);
    if (e->r)
        f = wn_q8_v512_sum(e, false, f, wn_q8_v512_residual(e, o, c));
    return wn_q8_v512_rne(e, f);
}

WN_Q8_INLINE v512i wn_q8_v512_clamp(const struct wn_q8_v512 *e, v512i bytes)
{
    return v512i_min_u8(v512i_max_u8(bytes, e->q_lo), e->q_hi);
}

/** Four vectors of rounded numbers, with the zero point and clamped, as bytes: lane L of the result holds lane L of the
 *  four in turn. */
WN_Q8_INLINE v512i wn_q8_v512_pack(const struct wn_q8_v512 *e, const v512i i[4])
{
    v512i lo = v512i_packs_i32(i[0], i[1]), hi = v512i_packs_i32(i[2], i[3]);
    if (e->a->y_zp) {
        lo = v512i_adds_i16(lo, e->y_zp);
        hi = v512i_adds_i16(hi, e->y_zp);
    }
    v512i y = v512i_packus_i16(lo, hi);
    return e->clamps ? wn_q8_v512_clamp(e, y) : y;
}

/** Four vectors of floats, scaled and with the residual, rounded and packed. What these rows do not need is left out.
 */
WN_Q8_INLINE v512i wn_q8_v512_bytes(const struct wn_q8_v512 *e, bool tame, const v512f f[4])
{
    v512i i[4];
    if (tame) {
        WN_UNROLL
        for (unsigned v = 0; v < 4; v++)
            i[v] = v512f_to_i32(f[v]);
    } else {
        WN_UNROLL
        for (unsigned v = 0; v < 4; v++)
            i[v] = wn_q8_v512_rne(e, f[v]);
    }
    return wn_q8_v512_pack(e, i);
}

/** Sixteen finished quads of columns c..c+15. Rows from `nrows` (1..4) of the group on are padding. */
WN_Q8_INLINE void wn_q8_v512_store_quads(const struct wn_q8_v512 *e, size_t o, size_t nrows, size_t c, v512i q)
{
    if (nrows < 4 || e->mask) {
        v512i live = v512i_set1_i32((int32_t)(0xffffffffu >> (32 - 8 * nrows)));
        if (e->mask)
            live = v512i_and(live, v512i_load(e->mask + c));
        q = v512i_select(live, q, e->pad);
    }
    v512i_store(e->y + o / 4 * e->y_stride + 4 * c, q);
}

/** Rows o..o+3 (o a multiple of 4), columns c..c+15 of the quad form, from wn_q8_v512_round(). */
WN_Q8_INLINE void wn_q8_v512_put_quad(const struct wn_q8_v512 *e, size_t o, size_t nrows, size_t c, v512i i0, v512i i1,
                                      v512i i2, v512i i3)
{
    const v512i i[4] = { i0, i1, i2, i3 };
    wn_q8_v512_store_quads(e, o, nrows, c, v512i_shuffle_i8(wn_q8_v512_pack(e, i), e->transpose));
}

/** Row o, columns c..c+16*nv-1 (nv of 1..4, a constant) as bytes: lane L of the result holds columns 4 L .. 4 L + 3 of
 *  every vector of sums in turn. wn_q8_v512_put_rows() takes four of them. */
WN_Q8_INLINE v512i wn_q8_v512_row_bytes(const struct wn_q8_v512 *e, size_t o, size_t c, const v512i *acc, unsigned nv)
{
    const bool tame = wn_q8_v512_tame(e, o);
    v512f f[4], r[4];
    WN_UNROLL
    for (unsigned v = 0; v < 4; v++)
        f[v] = v < nv ? wn_q8_v512_scale(e, o, c + 16 * v, acc[v]) : v512f_zero();
    if (e->r) {
        WN_UNROLL
        for (unsigned v = 0; v < 4; v++)
            r[v] = v < nv ? wn_q8_v512_residual(e, o, c + 16 * v) : v512f_zero();
        wn_q8_v512_sums(e, tame, f, r);
    }
    return wn_q8_v512_bytes(e, tame, f);
}

/** Rows o..o+3 (o a multiple of 4) of the quad form, columns c..c+16*nv-1, from wn_q8_v512_row_bytes(). */
WN_Q8_INLINE void wn_q8_v512_put_rows(const struct wn_q8_v512 *e, size_t o, size_t nrows, size_t c, const v512i b[4],
                                      unsigned nv)
{
    v512i lo01 = v512i_unpacklo_i8(b[0], b[1]), lo23 = v512i_unpacklo_i8(b[2], b[3]);
    wn_q8_v512_store_quads(e, o, nrows, c, v512i_unpacklo_i16(lo01, lo23));
    if (nv > 1)
        wn_q8_v512_store_quads(e, o, nrows, c + 16, v512i_unpackhi_i16(lo01, lo23));
    v512i hi01 = v512i_unpackhi_i8(b[0], b[1]), hi23 = v512i_unpackhi_i8(b[2], b[3]);
    if (nv > 2)
        wn_q8_v512_store_quads(e, o, nrows, c + 32, v512i_unpacklo_i16(hi01, hi23));
    if (nv > 3)
        wn_q8_v512_store_quads(e, o, nrows, c + 48, v512i_unpackhi_i16(hi01, hi23));
}

/** Row o, columns c..c+15 of the plane form, from wn_q8_v512_round(). */
WN_Q8_INLINE void wn_q8_v512_put_plane(const struct wn_q8_v512 *e, size_t o, size_t c, v512i i)
{
    i = v512i_add_i32(i, v512i_set1_i32(e->a->y_zp));
    i = v512i_min_i32(v512i_max_i32(i, v512i_set1_i32(e->a->q_lo)), v512i_set1_i32(e->a->q_hi));
    if (e->mask)
        i = v512i_select(v512i_load(e->mask + c), i, v512i_set1_i32(e->a->y_zp));
    v512i_store_i32_u8(e->y + o * e->y_stride + c, i);
}

/** Row o, columns c..c+15 of the f32 form. */
WN_Q8_INLINE void wn_q8_v512_put_f32(const struct wn_q8_v512 *e, size_t o, size_t c, v512i acc)
{
    size_t at = o * e->y_stride + 4 * c;
    v512f f = wn_q8_v512_scale(e, o, c, acc);
    if (e->r)
        f = v512f_add(f, v512f_load(e->r + at));
    f = v512f_min(e->hi, v512f_max(e->lo, f)); /* in this order a NaN stays */
    if (e->mask)
        f = v512f_keep(v512i_load(e->mask + c), f);
    v512f_store(e->y + at, f);
}

/** The sums of rows o..o+3 (o a multiple of 4; nrows of them exist), columns c..c+15, in whichever form. */
WN_Q8_INLINE void wn_q8_v512_put_four(const struct wn_q8_v512 *e, size_t o, size_t nrows, size_t c, v512i acc0,
                                      v512i acc1, v512i acc2, v512i acc3)
{
    const v512i acc[4] = { acc0, acc1, acc2, acc3 };
    if (e->out == WN_OUT_F32) {
        WN_UNROLL
        for (size_t r = 0; r < 4; r++)
            if (r < nrows)
                wn_q8_v512_put_f32(e, o + r, c, acc[r]);
        return;
    }
    v512i i[4];
    WN_UNROLL
    for (size_t r = 0; r < 4; r++)
        i[r] = r < nrows ? wn_q8_v512_round(e, o + r, c, acc[r]) : v512i_zero();
    if (e->out == WN_OUT_QUAD) {
        wn_q8_v512_put_quad(e, o, nrows, c, i[0], i[1], i[2], i[3]);
        return;
    }
    WN_UNROLL
    for (size_t r = 0; r < 4; r++)
        if (r < nrows)
            wn_q8_v512_put_plane(e, o + r, c, i[r]);
}

#endif
