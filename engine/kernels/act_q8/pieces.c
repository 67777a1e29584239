/* pieces.c: the approximation that act_q8's kernels begin with, and how far off it may be.
 *
 * Both GELUs and SiLU are f(x) = max(x, 0) - h(|x|), where h(a) = a - f(a) is smooth, small, and vanishes. In steps of
 * the scale, h is 32 cubics, piece i for a in (i -+ 1/2) top / 31, each through its four Chebyshev points; larger a
 * take the value at `top`. What an approximation t, computed as kernels do (three fma, then max(x, 0) times 1 / scale
 * plus that), and the exact quotient q = f(x) / scale, computed in floats as it always was, may differ by, where |q| <=
 * 256 (beyond, both saturate, whatever the zero point): CUBIC  of h: sup |d| (top / 31)^4 / (24 * 128) with d the
 * fourth derivative. GELU: d = (4 - 7 a^2 + a^4) phi(a) is at most 1.6, at 0; that of the GELU with tanh 1.61, at 0;
 * SiLU's 0.5, at 0. Then what h has left beyond `top`: 2e-7, 2e-8 and 8e-7. Together the `off` of the table below, over
 * the scale. TERMS  with B the sum of |c_i| a^i, at most: each c_i rounded once, three fma: 4 * 2^-24 B. EXACT  f
 * computed in floats is off by 1.5e-7 max(1, |f|) (eltwise/f32.h): 1.5e-7 times 1 / scale or |q|. ROUND  1 / scale, the
 * last fma, and the quotient: 3 * 2^-24 |q|. tests/unit/engine/kernels/act_q8 walks the floats. */
#include <math.h>
#include <string.h>
#include "engine/kernels/act_q8/act_q8.h"

#define EXACT 1.5e-7
#define REACH 256.0
#define ULP   0x1p-24
#define LIMIT 0.05 /* farther off, too many x are beside a boundary */

/* a - f(a); a little below 0 too, where the first piece begins. */
static double gelu(double a)
{
    return 0.5 * a * erfc(a * M_SQRT1_2);
}

static double gelu_tanh(double a)
{
    return a / (1 + exp(2 * sqrt(2 / M_PI) * (a + 0.044715 * a * a * a)));
}

static double silu(double a)
{
    return a / (1 + exp(a));
}

static const struct function {
    double (*rest)(double a);
    float top;
    double off;
} functions[WN_ELT_UNARY_COUNT] = { [WN_ELT_GELU] = { gelu, 5.4f, 7e-7 },
                                    [WN_ELT_GELU_TANH] = { gelu_tanh, 5.4f, 7e-7 },
                                    [WN_ELT_SILU] = { silu, 17, 1.6e-5 } };

/* Coefficients of the cubic through four points. */
static void through(const double x[4], const double y[4], double c[4])
{
    double d[4];
    memcpy(d, y, sizeof d);
    for (int j = 1; j < 4; j++) /* divided differences */
        for (int i = 3; i >= j; i--)
            d[i] = (d[i] - d[i - 1]) / (x[i] - x[i - j]);
    memset(c, 0, 4 * sizeof *c);
    for (int i = 3; i >= 0; i--) { /* c = c * (a - x[i]) + d[i] */
        for (int j = 3; j > 0; j--)
            c[j] = c[j - 1] - c[j] * x[i];
        c[0] = d[i] - c[0] * x[i];
    }
}

void wn_act_q8_init(struct wn_act_q8 *act, enum wn_elt_f32_unary op, const struct wn_elt_f32 *elt, float scale)
{
    const struct function *f = &functions[op];
    *act = (struct wn_act_q8){ .op = op, .elt = *elt, .scale = scale };
    if (!f->rest || !(scale > 0 && scale < 1e30f) || elt->alpha != 1 || elt->lo > -INFINITY || elt->hi < INFINITY)
        return;
    act->top = f->top;
    act->pieces = (WN_ACT_Q8_PIECES - 1) / f->top;
    const double width = 1 / (double)act->pieces, step = (double)scale;
    double most = 0;
    for (unsigned p = 0; p < WN_ACT_Q8_PIECES; p++) {
        double x[4], y[4], c[4], size = 0;
        for (int i = 0; i < 4; i++) {
            x[i] = width * (p + 0.5 * cos((2 * i + 1) * M_PI / 8));
            y[i] = -f->rest(x[i]) / step;
        }
        through(x, y, c);
        for (int i = 3; i >= 0; i--) {
            act->piece[i][p] = (float)c[i];
            size = size * width * (p + 0.5) + fabs(c[i]);
        }
        most = fmax(most, size);
    }
    const double near = f->off / step + 4 * ULP * most + EXACT * fmax(1 / step, REACH) + 3 * ULP * REACH;
    act->near = near < LIMIT ? (float)near : 0;
}
