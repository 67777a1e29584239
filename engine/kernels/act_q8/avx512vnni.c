/* avx512vnni.c: an activation and quantization, one or four channels by 64 columns.
 *
 * pieces.c: |t - q| <= near, where q is the quotient that decides the byte and t costs a quarter of it. So t's integer
 * is q's, unless t lies within `near` of a tie; then (about 1 step of 64 columns in 50) q is computed for all 64. Four
 * tables of 32 coefficients are eight registers, and a coefficient is one permutation.
 *
 * NaN becomes `top` and 0, thus the zero point, as the exact way has it. Infinity is far from every integer. What the
 * exact function has below -top is below pieces.c's bound: GELU's, 0; of those that clamp an exponential, -|x| / 2^127,
 * so beyond HUGE_X the exact way is taken. */
#define WN_F32_VEC512
#include "engine/kernels/act_q8/act_q8.h"
#include "engine/kernels/f32_math.h"
#include "engine/kernels/q8_columns_avx512.h"

#define HUGE_X 1e30f

struct job {
    const struct wn_act_q8 *act;
    v512f piece[WN_ACT_Q8_COEFS][2];
    v512f inverse, top, pieces, far;
};

WN_Q8_INLINE v512f function(enum wn_elt_f32_unary op, v512f x)
{
    return op == WN_ELT_GELU ? vf_gelu(x) : op == WN_ELT_GELU_TANH ? vf_gelu_tanh(x) : vf_silu(x, v512f_set1(1));
}

/* As move_q8 has it, by the division. NaN counts as 0. */
WN_Q8_INLINE v512i exactly(const struct wn_q8_columns *cols, const struct job *j, enum wn_elt_f32_unary op, v512f x)
{
    const v512f f = v512f_div(function(op, x), v512f_set1(j->act->scale));
    return wn_q8_v512_rne(&cols->e, v512i_as_f(v512i_andnot(v512f_nan(f), v512f_as_i(f))));
}

/* rne(act(x) / scale) of nv vectors (the others become 0); op and nv are constants after inlining. */
WN_Q8_INLINE void quotients(const struct wn_q8_columns *cols, const struct job *j, enum wn_elt_f32_unary op,
                            const float *x, unsigned nv, v512i *i)
{
    v512f far = v512f_zero(); /* the greatest distance from an integer */
    WN_UNROLL
    for (unsigned v = 0; v < nv; v++) {
        const v512f f = v512f_load(x + 16 * v), a = v512f_min_abs(f, j->top);
        const v512i at = v512f_as_i(v512f_fma(a, j->pieces, v512f_set1(0x1.8p23f))); /* rounded, in the low bits */
        v512f t = v512f_lookup32(j->piece[3], at);
        t = v512f_fma(t, a, v512f_lookup32(j->piece[2], at));
        t = v512f_fma(t, a, v512f_lookup32(j->piece[1], at));
        t = v512f_fma(t, a, v512f_lookup32(j->piece[0], at));
        t = v512f_fma(v512f_max(f, v512f_zero()), j->inverse, t);
        i[v] = v512f_to_i32(t);
        far = v512f_max_abs(far, v512f_sub(t, v512i_to_f32(i[v])));
        if (op != WN_ELT_GELU)
            far = v512f_max_abs(far, v512f_mul(f, v512f_set1(1 / HUGE_X)));
    }
    if (WN_UNLIKELY(v512i_any_gt_i32(v512f_as_i(far), v512f_as_i(j->far)))) {
        WN_UNROLL
        for (unsigned v = 0; v < nv; v++)
            i[v] = exactly(cols, j, op, v512f_load(x + 16 * v));
    }
    WN_UNROLL
    for (unsigned v = nv; v < 4; v++)
        i[v] = v512i_zero();
}

#define FUNCTION(name, op)                                                                                             \
    WN_Q8_INLINE void name##_integers(const struct wn_q8_columns *cols, const void *job, const float *x, unsigned nv,  \
                                      v512i *i)                                                                        \
    {                                                                                                                  \
        quotients(cols, job, op, x, nv, i);                                                                            \
    }                                                                                                                  \
    static __attribute__((noinline)) void name(const struct wn_q8_columns *cols, const struct job *j, size_t c0,       \
                                               size_t c1)                                                              \
    {                                                                                                                  \
        const struct job job = *j; /* tables in registers */                                                           \
        wn_q8_columns_run(cols, name##_integers, &job, c0, c1);                                                        \
    }
FUNCTION(all_gelu, WN_ELT_GELU)
FUNCTION(all_gelu_tanh, WN_ELT_GELU_TANH)
FUNCTION(all_silu, WN_ELT_SILU)

void wn_act_q8_64__avx512vnni(const struct wn_act_q8 *act, const struct wn_move_q8 *quant, float *x, size_t c0,
                              size_t c1)
{
    if (!(act->near > 0) || quant->n % 16) {
        wn_act_q8_1__scalar(act, quant, x, c0, c1);
        return;
    }
    struct job j = { .act = act,
                     .inverse = v512f_set1(1 / act->scale),
                     .top = v512f_set1(act->top),
                     .pieces = v512f_set1(act->pieces),
                     .far = v512f_set1(0.5f - act->near) };
    struct wn_q8_columns cols;
    wn_q8_columns_init(&cols, quant, x);
    for (unsigned i = 0; i < WN_ACT_Q8_COEFS; i++)
        for (unsigned half = 0; half < 2; half++)
            j.piece[i][half] = v512f_load(act->piece[i] + 16 * half);
    (act->op == WN_ELT_GELU ? all_gelu : act->op == WN_ELT_GELU_TANH ? all_gelu_tanh : all_silu)(&cols, &j, c0, c1);
}
