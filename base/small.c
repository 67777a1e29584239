/* small.c: see small.h. */
#include "base/small.h"

#include <math.h>

struct format {
    int mantissa, bias;
    uint8_t nan, inf, max; /* inf 0: none; nan 0: none */
    bool unsigned_zero;    /* "UZ": no minus zero, whose code is NaN */
    uint8_t sign;
};

static const struct format formats[] = {
    [WINNOW_F8E4M3FN] = { 3, 7, 0x7f, 0, 0x7e, false, 0x80 },
    [WINNOW_F8E4M3FNUZ] = { 3, 8, 0x80, 0, 0x7f, true, 0x80 },
    [WINNOW_F8E5M2] = { 2, 15, 0x7e, 0x7c, 0x7b, false, 0x80 },
    [WINNOW_F8E5M2FNUZ] = { 2, 16, 0x80, 0, 0x7f, true, 0x80 },
    [WINNOW_F4E2M1] = { 1, 1, 0, 0, 0x07, false, 0x08 },
};

bool wn_small_is(enum winnow_dtype dtype)
{
    return dtype >= WINNOW_F8E4M3FN && dtype <= WINNOW_I2;
}

bool wn_small_is_float(enum winnow_dtype dtype)
{
    return wn_small_is(dtype) && dtype != WINNOW_U4 && dtype != WINNOW_I4 && dtype != WINNOW_U2 && dtype != WINNOW_I2;
}

unsigned wn_small_bits(enum winnow_dtype dtype)
{
    switch (dtype) {
    case WINNOW_U4:
    case WINNOW_I4:
    case WINNOW_F4E2M1:
        return 4;
    case WINNOW_U2:
    case WINNOW_I2:
        return 2;
    default:
        return 8;
    }
}

/* Magnitude of a finite code. */
static float magnitude(const struct format *f, uint8_t code)
{
    int exponent = code >> f->mantissa, fraction = code & ((1 << f->mantissa) - 1);
    if (!exponent)
        return ldexpf((float)fraction, 1 - f->bias - f->mantissa);
    return ldexpf((float)(fraction + (1 << f->mantissa)), exponent - f->bias - f->mantissa);
}

float wn_small_to_f32(enum winnow_dtype dtype, uint8_t b)
{
    switch (dtype) {
    case WINNOW_U4:
        return (float)(b & 15);
    case WINNOW_I4:
        return (float)((b & 15) - ((b & 8) << 1));
    case WINNOW_U2:
        return (float)(b & 3);
    case WINNOW_I2:
        return (float)((b & 3) - ((b & 2) << 1));
    case WINNOW_F8E8M0:
        return b == 0xff ? NAN : ldexpf(1, b - 127);
    default:
        break;
    }
    const struct format *f = &formats[dtype];
    uint8_t code = b & (uint8_t)(f->sign - 1);
    if (f->unsigned_zero ? b == f->nan : f->nan && (f->inf ? code > f->inf : code == f->nan))
        return NAN;
    float m = f->inf && code == f->inf ? INFINITY : magnitude(f, code);
    return b & f->sign ? -m : m;
}

/* The code of the nearest magnitude, which may be one past the largest. */
static unsigned nearest_code(const struct format *f, float m)
{
    int e = ilogbf(m);
    if (m == 0)
        return 0;
    if (e < 1 - f->bias)
        e = 1 - f->bias;
    long q = lrintf(ldexpf(m, f->mantissa - e)); /* in units of the last place; up to twice 2^mantissa */
    unsigned base = (unsigned)(e + f->bias - 1) << f->mantissa;
    return base + (unsigned)q; /* carries into the exponent by itself */
}

static uint8_t exponent_only(float x, bool saturate, enum wn_small_round round)
{
    float m = fabsf(x);
    if (isnan(x) || (isinf(x) && !saturate))
        return 0xff;
    if (m == 0)
        return 0;
    if (isinf(x))
        return 0xfe;
    int e;
    float fraction = frexpf(m, &e); /* [0.5, 1) */
    int code = e - 1 + 127;
    if ((round == WN_SMALL_UP && fraction > 0.5f) || (round == WN_SMALL_NEAREST && fraction >= 0.75f))
        code++;
    return code < 0 ? 0 : code > 0xfe ? (saturate ? 0xfe : 0xff) : (uint8_t)code;
}

uint8_t wn_small_from_f32(enum winnow_dtype dtype, float x, bool saturate, enum wn_small_round round)
{
    if (!wn_small_is_float(dtype))
        return wn_small_from_i64(dtype, isnan(x) ? 0 : (int64_t)fmaxf(-0x1p62f, fminf(x, 0x1p62f)));
    if (dtype == WINNOW_F8E8M0)
        return exponent_only(x, saturate, round);
    const struct format *f = &formats[dtype];
    uint8_t sign = signbit(x) ? f->sign : 0;
    if (isnan(x))
        return !f->nan            ? f->sign /* as ml_dtypes: minus zero */
               : f->unsigned_zero ? f->nan
                                  : (uint8_t)(f->nan | sign);
    unsigned code = isinf(x) ? f->max + 1u : nearest_code(f, fminf(fabsf(x), 0x1p20f));
    if (code > f->max && !saturate && f->nan)
        return f->unsigned_zero ? f->nan : (uint8_t)((f->inf ? f->inf : f->nan) | sign);
    if (code > f->max)
        code = f->max;
    return code == 0 && f->unsigned_zero ? 0 : (uint8_t)(code | sign);
}

uint8_t wn_small_from_i64(enum winnow_dtype dtype, int64_t v)
{
    if (wn_small_is_float(dtype))
        return wn_small_from_f32(dtype, (float)v, true, WN_SMALL_UP);
    return (uint8_t)((uint64_t)v & ((1u << wn_small_bits(dtype)) - 1));
}
