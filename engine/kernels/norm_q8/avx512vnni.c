/* avx512vnni.c: 64 bytes per step. A byte widened with 0x4b00 above it is the float 2^23 + byte. */
#include "engine/kernels/norm_q8/norm_q8.h"

#include "engine/kernels/q8_epilogue_avx512.h"

#define STEP       64
#define SHIFT      128 /* one operand of vpdpbusd is signed */
#define NAME(kind) wn_##kind##_64__avx512vnni

typedef v512i bytes;
typedef v512i ints;
typedef v512f floats;

typedef struct wn_q8_v512 out_t;
#define out_begin wn_q8_v512_begin

WN_Q8_INLINE bytes load(const uint8_t *p, size_t n)
{
    return WN_LIKELY(n == STEP) ? v512i_load(p) : v512i_load_part(p, (unsigned)n);
}

WN_Q8_INLINE void store(uint8_t *p, bytes v, size_t n)
{
    if (WN_LIKELY(n == STEP))
        v512i_store(p, v);
    else
        v512i_store_part(p, v, (unsigned)n);
}

WN_Q8_INLINE bytes zeros(void)
{
    return v512i_zero();
}

WN_Q8_INLINE ints zero_ints(void)
{
    return v512i_zero();
}

WN_Q8_INLINE bytes live(bytes x, size_t n)
{
    return v512i_and(x, v512i_set1_i32((int32_t)(0xffffffffu >> (32 - 8 * n))));
}

WN_Q8_INLINE void add_quads(bytes x, ints *sum, ints *squares)
{
    *sum = v512i_dpbusd(*sum, x, v512i_set1_i8(1));
    *squares = v512i_dpbusd(*squares, x, v512i_xor(x, v512i_set1_i8(-128)));
}

WN_Q8_INLINE void interleave(const bytes x[4], bytes y[4])
{
    const v512i lo01 = v512i_unpacklo_i8(x[0], x[1]), hi01 = v512i_unpackhi_i8(x[0], x[1]);
    const v512i lo23 = v512i_unpacklo_i8(x[2], x[3]), hi23 = v512i_unpackhi_i8(x[2], x[3]);
    y[0] = v512i_unpacklo_i16(lo01, lo23);
    y[1] = v512i_unpackhi_i16(lo01, lo23);
    y[2] = v512i_unpacklo_i16(hi01, hi23);
    y[3] = v512i_unpackhi_i16(hi01, hi23);
}

WN_Q8_INLINE void put_ints(int32_t *p, ints v)
{
    v512i_store(p, v);
}

WN_Q8_INLINE floats get_floats(const float *p)
{
    return v512f_load(p);
}

WN_Q8_INLINE floats splat(float x)
{
    return v512f_set1(x);
}

WN_Q8_INLINE floats pattern(const float *p)
{
    int8_t four[16];
    memcpy(four, p, sizeof four);
    return v512i_as_f(v512i_lanes16(four));
}

WN_Q8_INLINE bytes finish(const out_t *o, bytes x, const floats *mean, const floats *inv, const floats *g,
                          const floats *b)
{
    const v512i zero = v512i_zero(), high = v512i_set1_i16(0x4b00);
    const v512i lo = v512i_unpacklo_i8(x, zero), hi = v512i_unpackhi_i8(x, zero);
    const v512i d[4] = { v512i_unpacklo_i16(lo, high), v512i_unpackhi_i16(lo, high), v512i_unpacklo_i16(hi, high),
                         v512i_unpackhi_i16(hi, high) };
    v512f f[4];
    WN_UNROLL
    for (size_t v = 0; v < 4; v++) {
        f[v] = v512f_sub(v512f_sub(v512i_as_f(d[v]), v512f_set1(8388608.0f)), mean[v]);
        f[v] = v512f_add(v512f_mul(v512f_mul(f[v], inv[v]), g[v]), b[v]);
    }
    return wn_q8_v512_bytes(o, false, f);
}
#define normed(o, x, mean, inv, g, b) finish(o, x, (mean)->v, (inv)->v, (g)->v, (b)->v)

#include "engine/kernels/norm_q8/kernel.inc"
