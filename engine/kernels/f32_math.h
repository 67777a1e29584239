/* f32_math.h: functions of a vector of floats that several families need; f32_vec.h decides the vector's width. */
#ifndef WN_F32_MATH_H
#define WN_F32_MATH_H

#include "engine/kernels/f32_vec.h"

WN_INLINE vf vf_neg(vf x)
{
    return vf_sub(vf_zero(), x);
}

/** x[0..n-1] become e^x, for x in [-87.3, 88.3]; n <= 4 is a constant. Cody-Waite reduction and a polynomial (Cephes expf),
 * error below 2 ulp. */
WN_INLINE void vf_exps_within(const int n, vf *x)
{
    static const float coef[5] = { 1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f,
                                   5.0000001201e-1f };
    vf by[4], p[4];
    WN_UNROLL
    for (int i = 0; i < n; i++)
        by[i] = vf_round(vf_mul(x[i], vf_set1(1.44269504f)));
    vf_settle(n, by);
    WN_UNROLL
    for (int i = 0; i < n; i++)
        x[i] = vf_fma(by[i], vf_set1(-0.693359375f), x[i]);
    vf_settle(n, x);
    WN_UNROLL
    for (int i = 0; i < n; i++) {
        x[i] = vf_fma(by[i], vf_set1(2.12194440e-4f), x[i]);
        p[i] = vf_set1(1.9875691500e-4f);
    }
    WN_UNROLL
    for (int k = 0; k < 5; k++) {
        vf_settle(n, k ? p : x);
        WN_UNROLL
        for (int i = 0; i < n; i++)
            p[i] = vf_fma(p[i], x[i], vf_set1(coef[k]));
    }
    vf_settle(n, p);
    WN_UNROLL
    for (int i = 0; i < n; i++) {
        p[i] = vf_fma(vf_mul(x[i], x[i]), p[i], vf_add(x[i], vf_set1(1.0f)));
        x[i] = vf_scale2(p[i], by[i]);
    }
}

WN_INLINE vf vf_exp_within(vf x)
{
    vf_exps_within(1, &x);
    return x;
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

/** The same of x[0..n-1], side by side; n <= 4 is a constant. */
WN_INLINE void vf_exps_below(const int n, vf *x)
{
    WN_UNROLL
    for (int i = 0; i < n; i++)
        x[i] = vf_max(x[i], vf_set1(-87.33654f));
    vf_exps_within(n, x);
}

/** e^x for x <= 0, as softmax needs it: 0 below -87.3 (also for -infinity). NaN stays. */
WN_INLINE vf vf_exp_softmax(vf x)
{
    return vf_select_gt(vf_set1(-87.33654f), x, vf_zero(), vf_exp_clamped(x));
}

/** erf(x): a rational minimax approximation on [-4, 4] (Eigen's), where erf has reached 1 for floats; error below 4e-7.
 * One division is half the work of two polynomials and an exponential. NaN stays. */
WN_INLINE vf vf_erf(vf x)
{
    x = vf_clamp(x, vf_set1(-4.0f), vf_set1(4.0f));
    const vf s = vf_mul(x, x);
    vf p = vf_fma(vf_set1(-2.72614225801306e-10f), s, vf_set1(2.77068142495902e-08f));
    p = vf_fma(p, s, vf_set1(-2.10102402082508e-06f));
    p = vf_fma(p, s, vf_set1(-5.69250639462346e-05f));
    p = vf_fma(p, s, vf_set1(-7.34990630326855e-04f));
    p = vf_fma(p, s, vf_set1(-2.95459980854025e-03f));
    p = vf_fma(p, s, vf_set1(-1.60960333262415e-02f));
    vf q = vf_fma(vf_set1(-1.45660718464996e-05f), s, vf_set1(-2.13374055278905e-04f));
    q = vf_fma(q, s, vf_set1(-1.68282697438203e-03f));
    q = vf_fma(q, s, vf_set1(-7.37332916720468e-03f));
    q = vf_fma(q, s, vf_set1(-1.42647390514189e-02f));
    return vf_div(vf_mul(x, p), q);
}

/** x / 2 * (1 + erf(x / sqrt 2)). x itself from 5.66 on, 0 (or -0) from -5.66 down; -infinity gives NaN. */
WN_INLINE vf vf_gelu(vf x)
{
    const vf half = vf_set1(0.5f);
    return vf_mul(x, vf_fma(half, vf_erf(vf_mul(x, vf_set1(0.70710678f))), half));
}

/** x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) */
WN_INLINE vf vf_gelu_tanh(vf x)
{
    const vf inner = vf_mul(x, vf_fma(vf_set1(0.044715f), vf_mul(x, x), vf_set1(1.0f)));
    const vf e = vf_exp_clamped(vf_mul(vf_set1(-2.0f * 0.79788456f), inner)); /* (1 + tanh(u)) / 2 = 1 / (1 + e^-2u) */
    return vf_div(x, vf_add(vf_set1(1.0f), e));
}

/** x / (1 + e^(-alpha x)) */
WN_INLINE vf vf_silu(vf x, vf alpha)
{
    return vf_div(x, vf_add(vf_set1(1.0f), vf_exp_clamped(vf_neg(vf_mul(alpha, x)))));
}

#endif
