/* json_num.c: decimal numbers in JSON to typed values, and floats to the shortest text that reads back the same.
 *
 * DESIGN  Reading: digits go into 64 bits; where they and the power of ten are exact in double (or in x87's 64 bits),
 *         one multiplication or division rounds once, and rounding that to the target a second time is right unless the
 *         first result lies exactly between two neighbours (Clinger's fast path; the tie is seen in the bits). The rest
 *         goes to strtof/strtod. strtod alone costs several times as much, and a batch of pictures has 10^7 numbers.
 *         Printing f32: 6 to 9 digits, the first that reads back. Any 6-digit decimal survives f32, so what is shorter
 *         shows as trailing zeros; 64-bit significands err by less than 2^-61, checked against the midpoints between
 *         neighbours with room to spare. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/half.h"
#include "daemon/api/json.h"

#define MAX_TEXT   1024u
#define LONG_IS_64 (LDBL_MANT_DIG >= 64)

struct number {
    const char *from;
    size_t n;
    uint64_t digits;
    int exp; /* value = digits * 10^exp, if exact */
    bool negative, exact;
    enum { FINITE, NOT_A_NUMBER, INFINITE } kind;
};

static const double exact_d[] = { 1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                  1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22 };
#if LONG_IS_64
static const long double exact_l[] = { 1e0L,  1e1L,  1e2L,  1e3L,  1e4L,  1e5L,  1e6L,  1e7L,  1e8L,  1e9L,
                                       1e10L, 1e11L, 1e12L, 1e13L, 1e14L, 1e15L, 1e16L, 1e17L, 1e18L, 1e19L,
                                       1e20L, 1e21L, 1e22L, 1e23L, 1e24L, 1e25L, 1e26L, 1e27L };
#endif

/* ---- scanning ---- */
static bool digit(const struct wn_json *j)
{
    return j->p < j->end && *j->p >= '0' && *j->p <= '9';
}

/** Digits at the cursor into `v`; those past 64 bits are dropped and counted. Returns how many there were. */
static size_t digits(struct wn_json *j, struct number *v, int *dropped)
{
    const char *from = j->p;
    for (; digit(j); j->p++) {
        uint64_t next, d = (uint64_t)(*j->p - '0');
        if (!*dropped && !__builtin_mul_overflow(v->digits, 10u, &next) && !__builtin_add_overflow(next, d, &next)) {
            v->digits = next;
        } else {
            ++*dropped; /* the text is shorter than INT_MAX: the body's limit is 2 GiB */
            v->exact = v->exact && d == 0;
        }
    }
    return (size_t)(j->p - from);
}

static bool exponent(struct wn_json *j, int *ret)
{
    bool minus = false;
    int e = 0;
    j->p++;
    if (j->p < j->end && (*j->p == '+' || *j->p == '-'))
        minus = *j->p++ == '-';
    if (!digit(j))
        return wn_json_fail(j, "digits were expected in an exponent");
    for (; digit(j); j->p++)
        e = WN_MIN(e * 10 + (*j->p - '0'), 100000);
    *ret = minus ? -e : e;
    return true;
}

static bool named(struct wn_json *j, const char *name)
{
    size_t n = strlen(name);
    if ((size_t)(j->end - j->p) < n || memcmp(j->p, name, n) != 0)
        return false;
    j->p += n;
    return true;
}

static bool scan(struct wn_json *j, struct number *v)
{
    *v = (struct number){ .exact = true };
    wn_json_peek(j);
    v->from = j->p;
    if (j->p < j->end && *j->p == '-') {
        v->negative = true;
        j->p++;
    }
    if (!digit(j)) {
        if (named(j, "Infinity"))
            v->kind = INFINITE;
        else if (!v->negative && named(j, "NaN"))
            v->kind = NOT_A_NUMBER;
        else
            return wn_json_fail(j, "a number was expected");
        return true;
    }
    int dropped = 0, exp = 0;
    bool zero = *j->p == '0';
    size_t n = digits(j, v, &dropped);
    if (zero && n > 1)
        return wn_json_fail(j, "a number may not start with 0");
    v->exp = dropped;
    if (j->p < j->end && *j->p == '.') {
        j->p++;
        int before = dropped;
        n = digits(j, v, &dropped);
        if (!n)
            return wn_json_fail(j, "digits were expected behind the decimal point");
        v->exp = before - (int)(n - (size_t)(dropped - before));
    }
    if (j->p < j->end && (*j->p == 'e' || *j->p == 'E')) {
        if (!exponent(j, &exp))
            return false;
        v->exp += exp;
    }
    v->n = (size_t)(j->p - v->from);
    return true;
}

bool wn_json_skip_number(struct wn_json *j)
{
    struct number v;
    return scan(j, &v);
}

/* ---- reading ---- */
static bool is_integer(struct number *v)
{
    if (v->kind != FINITE || !v->exact)
        return false;
    if (!v->digits)
        return true;
    for (; v->exp < 0 && v->digits % 10 == 0; v->exp++)
        v->digits /= 10;
    for (; v->exp > 0 && !__builtin_mul_overflow(v->digits, 10u, &v->digits); v->exp--)
        continue;
    return v->exp == 0;
}

bool wn_json_i64(struct wn_json *j, int64_t lo, int64_t hi, int64_t *ret)
{
    struct number v;
    if (!scan(j, &v))
        return false;
    if (!is_integer(&v))
        return wn_json_fail(j, "an integer from %lld to %lld was expected", (long long)lo, (long long)hi);
    bool fits = v.digits <= (uint64_t)INT64_MAX + v.negative;
    int64_t i = (int64_t)(v.negative ? 0 - v.digits : v.digits);
    if (!fits || i < lo || i > hi)
        return wn_json_fail(j, "the integer is not within %lld and %lld", (long long)lo, (long long)hi);
    *ret = i;
    return true;
}

bool wn_json_u64(struct wn_json *j, uint64_t hi, uint64_t *ret)
{
    struct number v;
    if (!scan(j, &v))
        return false;
    if (!is_integer(&v) || (v.negative && v.digits) || v.digits > hi)
        return wn_json_fail(j, "an integer from 0 to %llu was expected", (unsigned long long)hi);
    *ret = v.digits;
    return true;
}

/** The text NUL-terminated, for strtod. */
static bool copy_text(struct wn_json *j, const struct number *v, char text[MAX_TEXT + 1])
{
    if (v->n > MAX_TEXT)
        return wn_json_fail(j, "a number of more than %u characters", MAX_TEXT);
    memcpy(text, v->from, v->n);
    text[v->n] = '\0';
    return true;
}

/** digits * 10^exp in double, rounded once; false where that is not exact enough. */
static bool quick_double(const struct number *v, double *ret)
{
    if (!v->exact || v->digits > (uint64_t)1 << 53 || v->exp < -22 || v->exp > 22)
        return false;
    double d = (double)v->digits;
    *ret = v->exp < 0 ? d / exact_d[-v->exp] : d * exact_d[v->exp];
    return true;
}

#if LONG_IS_64
static bool quick_long(const struct number *v, long double *ret)
{
    if (!v->exact || v->exp < -27 || v->exp > 27)
        return false;
    long double d = (long double)v->digits;
    *ret = v->exp < 0 ? d / exact_l[-v->exp] : d * exact_l[v->exp];
    return true;
}
#endif

/** Rounding `wide` to f32 again is right: it does not lie exactly between two of them. */
static bool round_double(double wide, float *ret)
{
    uint64_t bits;
    memcpy(&bits, &wide, sizeof bits);
    *ret = (float)wide;
    return (bits & 0x1fffffff) != 0x10000000;
}

#if LONG_IS_64
/** As above from long double: the midpoint itself, exact in long double, is never met. */
static bool round_long_f32(long double wide, float *ret)
{
    float f = (float)wide;
    long double r = wide - (long double)f;
    *ret = f;
    if (r == 0 || isinf(f))
        return true;
    float other = wn_f32_from_bits(wn_f32_bits(f) + (r > 0 ? 1u : UINT32_MAX)); /* f > 0: its neighbour towards wide */
    return (long double)other - wide != r;
}

static bool round_long_f64(long double wide, double *ret)
{
    double d = (double)wide;
    long double r = wide - (long double)d;
    *ret = d;
    if (r == 0)
        return true;
    double other = nextafter(d, r > 0 ? HUGE_VAL : 0);
    return (long double)other - wide != r;
}
#endif

static bool named_value(const struct number *v, double *ret)
{
    if (v->kind == FINITE)
        return false;
    *ret = v->kind == NOT_A_NUMBER ? (double)NAN : v->negative ? -HUGE_VAL : HUGE_VAL;
    return true;
}

bool wn_json_f32(struct wn_json *j, float *ret)
{
    struct number v;
    double d;
    float f = 0;
    if (!scan(j, &v))
        return false;
    if (named_value(&v, &d)) {
        *ret = (float)d;
        return true;
    }
    bool done = v.digits == 0 || (quick_double(&v, &d) && round_double(d, &f));
#if LONG_IS_64
    long double l;
    if (!done)
        done = quick_long(&v, &l) && round_long_f32(l, &f);
#endif
    if (!done) {
        char text[MAX_TEXT + 1];
        if (!copy_text(j, &v, text))
            return false;
        f = fabsf(strtof(text, NULL));
    }
    if (isinf(f))
        return wn_json_fail(j, "the number is out of FP32's range");
    *ret = v.negative ? -f : f;
    return true;
}

bool wn_json_f64(struct wn_json *j, double *ret)
{
    struct number v;
    double d = 0;
    if (!scan(j, &v))
        return false;
    if (named_value(&v, ret))
        return true;
    bool done = v.digits == 0 || quick_double(&v, &d);
#if LONG_IS_64
    long double l;
    if (!done)
        done = quick_long(&v, &l) && round_long_f64(l, &d);
#endif
    if (!done) {
        char text[MAX_TEXT + 1];
        if (!copy_text(j, &v, text))
            return false;
        d = fabs(strtod(text, NULL));
    }
    if (isinf(d))
        return wn_json_fail(j, "the number is out of FP64's range");
    *ret = v.negative ? -d : d;
    return true;
}

/* ---- printing ---- */
static char *put(char *p, const char *s, int n)
{
    for (int i = 0; i < n; i++)
        *p++ = s[i];
    return p;
}

/** Decimal digits (first not '0' unless alone) with the first standing for 10^e, as JSON: 0.001, 12.5, 3.0, 1e-07. */
static size_t layout(char *to, bool negative, const char *d, int n, int e)
{
    char *p = to;
    while (n > 1 && d[n - 1] == '0')
        n--;
    if (negative)
        *p++ = '-';
    if (e >= -5 && e < 0) {
        p = put(p, "0.0000", 1 - e);
        p = put(p, d, n);
    } else if (e >= 0 && e < 16) {
        for (int i = 0; i <= e || i < n; i++) {
            if (i == e + 1)
                *p++ = '.';
            *p++ = i < n ? d[i] : '0';
        }
        if (n <= e + 1)
            p = put(p, ".0", 2);
    } else {
        *p++ = d[0];
        if (n > 1)
            *p++ = '.';
        p = put(p, d + 1, n - 1);
        p += sprintf(p, "e%+03d", e);
    }
    return (size_t)(p - to);
}

static size_t print_named(char *to, double v)
{
    const char *text = isnan(v) ? "NaN" : v < 0 ? "-Infinity" : "Infinity";
    size_t n = strlen(text);
    memcpy(to, text, n);
    return n;
}

/** By the C library: the first precision of [from, to] that reads back. `f32`: as float. */
static size_t print_by_trial(char *out, double v, int from, int to, bool f32)
{
    char text[40], d[20];
    for (int p = from;; p++) {
        snprintf(text, sizeof text, "%.*e", p - 1, fabs(v));
        if (p == to || (f32 ? strtof(text, NULL) == fabsf((float)v) : strtod(text, NULL) == fabs(v)))
            break;
    }
    int n = 0;
    char *p = text;
    for (; *p && *p != 'e'; p++)
        if (*p != '.')
            d[n++] = *p;
    return layout(out, signbit(v), d, n, (int)strtol(p + 1, NULL, 10));
}

#if LONG_IS_64
/** v * 10^k within 2^-62; -60 <= k <= 54 at most. */
static long double scale(long double v, int k)
{
    for (; k > 27; k -= 27)
        v *= exact_l[27];
    for (; k < -27; k += 27)
        v /= exact_l[27];
    return k < 0 ? v / exact_l[-k] : v * exact_l[k];
}

static size_t print_digits(char *to, bool negative, uint64_t n, int k)
{
    char d[20];
    int at = (int)sizeof d;
    do
        d[--at] = (char)('0' + n % 10);
    while (n /= 10);
    int len = (int)sizeof d - at;
    return layout(to, negative, d + at, len, len - 1 - k);
}

size_t wn_json_print_f32(char *to, float v)
{
    if (isnan(v) || isinf(v))
        return print_named(to, v);
    uint32_t bits = wn_f32_bits(v) & 0x7fffffff;
    if (!bits)
        return print_digits(to, signbit(v), 0, 0);
    float a = wn_f32_from_bits(bits), below = wn_f32_from_bits(bits - 1);
    long double up = bits == 0x7f7fffff ? (long double)a - below : (long double)wn_f32_from_bits(bits + 1) - a;
    long double lo = ((long double)a + below) / 2 * (1 + 1e-17L), hi = ((long double)a + up / 2) * (1 - 1e-17L);
    int e2, e;
    frexpf(a, &e2);
    e = (int)floor((e2 - 1) * 0.30102999566398120); /* of the first digit; may be one too small */
    if (a >= scale(1, e + 1))
        e++;
    for (int p = bits < 0x800000 ? 1 : 6;; p++) { /* numbers near zero have fewer digits */
        int k = p - 1 - e;
        uint64_t n = (uint64_t)(scale(a, k) + 0.5L);
        long double back = scale((long double)n, -k);
        if (p == 9 || (back > lo && back < hi))
            return print_digits(to, signbit(v), n, k);
        /* A power of two has a narrow side and a wide one: the next number up may be within the wide one. */
        back = scale((long double)n + 1, -k);
        if (!(bits & 0x7fffff) && back > lo && back < hi)
            return print_digits(to, signbit(v), n + 1, k);
    }
}
#else
size_t wn_json_print_f32(char *to, float v)
{
    return isnan(v) || isinf(v) ? print_named(to, v) : print_by_trial(to, v, 6, 9, true);
}
#endif

size_t wn_json_print_f64(char *to, double v)
{
    return isnan(v) || isinf(v) ? print_named(to, v) : print_by_trial(to, v, 15, 17, false);
}
