/* f32_math.h: functions of a vector of floats that several families need; f32_vec.h decides the vector's width. */
#ifndef WN_F32_MATH_H
#define WN_F32_MATH_H

#include "engine/kernels/f32_vec.h"

WN_INLINE vf vf_neg(vf x)
{
    return vf_sub(vf_zero(), x);
}

/** e^x for x in [-87.3, 88.3]. Cody-Waite reduction and a polynomial (Cephes expf), error below 2 ulp. */
WN_INLINE vf vf_exp_within(vf x)
{
    const vf n = vf_round(vf_mul(x, vf_set1(1.44269504f)));
    vf r = vf_fma(n, vf_set1(-0.693359375f), x);
    r = vf_fma(n, vf_set1(2.12194440e-4f), r);
    vf p = vf_set1(1.9875691500e-4f);
    p = vf_fma(p, r, vf_set1(1.3981999507e-3f));
    p = vf_fma(p, r, vf_set1(8.3334519073e-3f));
    p = vf_fma(p, r, vf_set1(4.1665795894e-2f));
    p = vf_fma(p, r, vf_set1(1.6666665459e-1f));
    p = vf_fma(p, r, vf_set1(5.0000001201e-1f));
    p = vf_fma(vf_mul(r, r), p, vf_add(r, vf_set1(1.0f)));
    return vf_scale2(p, n);
}

/** e^x; x outside of [-87.3, 88.3] gives the nearest end's value. NaN stays. */
WN_INLINE vf vf_exp_clamped(vf x)
{
    return vf_exp_within(vf_clamp(x, vf_set1(-87.33654f), vf_set1(88.37626f)));
}

/** e^x for x <= 0, at least e^-87.3 (NaN too). The same bits on every ISA: wn_exp_below() of f32_scalar.h. */
WN_INLINE vf vf_exp_below(vf x)
{
    return vf_exp_within(vf_max(x, vf_set1(-87.33654f)));
}

/** e^x for x <= 0, as softmax needs it: 0 below -87.3 (also for -infinity). NaN stays. */
WN_INLINE vf vf_exp_softmax(vf x)
{
    return vf_select_gt(vf_set1(-87.33654f), x, vf_zero(), vf_exp_clamped(x));
}

/** erf(x): two minimax polynomials, below and above 0.9277 (after N. Juffa); with the exponential above, error below
 *  2 ulp. NaN stays. */
WN_INLINE vf vf_erf(vf x)
{
    const vf one = vf_set1(1.0f), t = vf_copysign(x, one), s = vf_mul(x, x);
    vf big = vf_fma(vf_set1(-1.72853470e-5f), t, vf_set1(3.83197126e-4f));
    big = vf_fma(big, s, vf_fma(vf_set1(-3.88396438e-3f), t, vf_set1(2.42546219e-2f)));
    big = vf_fma(big, t, vf_set1(-1.06777877e-1f));
    big = vf_fma(big, t, vf_set1(-6.34846687e-1f));
    big = vf_fma(big, t, vf_set1(-1.28717512e-1f));
    big = vf_sub(one, vf_exp_clamped(vf_sub(vf_mul(big, t), t)));
    vf small = vf_set1(-5.96761703e-4f);
    small = vf_fma(small, s, vf_set1(4.99119423e-3f));
    small = vf_fma(small, s, vf_set1(-2.67681349e-2f));
    small = vf_fma(small, s, vf_set1(1.12819925e-1f));
    small = vf_fma(small, s, vf_set1(-3.76125336e-1f));
    small = vf_fma(small, s, vf_set1(1.28379166e-1f));
    small = vf_fma(small, t, t);
    return vf_copysign(vf_select_gt(t, vf_set1(0.927734375f), big, small), x);
}

#endif
