/* simd512.c: the wrappers of simd512.h against plain C, natively where the CPU can, and through SIMDe. */
#include <math.h>
#include <string.h>
#include "tests/checkkern/checkkern.h"
#include "tests/checkkern/simd512_ops.h"

union v {
    uint8_t u8[64];
    int8_t i8[64];
    int16_t i16[32];
    uint16_t u16[32];
    int32_t i32[16];
    uint32_t u32[16];
    uint64_t u64[8];
    float f32[16];
};

static int32_t sat(int64_t x, int64_t lo, int64_t hi)
{
    return (int32_t)(x < lo ? lo : x > hi ? hi : x);
}

static bool model_bytes(enum simd512_op op, const union v *a, const union v *b, unsigned n, union v *r)
{
    for (unsigned i = 0; i < 64; i++) {
        const unsigned lane = i / 16 * 16, j = i % 16;
        switch (op) {
        case SIMD512_adds_u8:
            r->u8[i] = (uint8_t)WN_MIN(a->u8[i] + b->u8[i], 255);
            break;
        case SIMD512_min_u8:
            r->u8[i] = WN_MIN(a->u8[i], b->u8[i]);
            break;
        case SIMD512_max_u8:
            r->u8[i] = WN_MAX(a->u8[i], b->u8[i]);
            break;
        case SIMD512_unpacklo_i8:
            r->u8[i] = (j % 2 ? b : a)->u8[lane + j / 2];
            break;
        case SIMD512_packs_i16:
        case SIMD512_packus_i16: {
            const int16_t x = (j < 8 ? a : b)->i16[lane / 2 + j % 8];
            r->u8[i] = (uint8_t)(op == SIMD512_packs_i16 ? sat(x, -128, 127) : sat(x, 0, 255));
            break;
        }
        case SIMD512_shuffle_i8:
            r->u8[i] = b->i8[i] < 0 ? 0 : a->u8[lane + (b->u8[i] & 15)];
            break;
        case SIMD512_load_part:
            r->u8[i] = i < n ? a->u8[i] : 0;
            break;
        default:
            return false;
        }
    }
    return true;
}

static bool model_words(enum simd512_op op, const union v *a, const union v *b, union v *r)
{
    for (unsigned i = 0; i < 32; i++) {
        const unsigned lane = i / 8 * 8, j = i % 8;
        switch (op) {
        case SIMD512_set1_i16:
            r->i16[i] = a->i16[0];
            break;
        case SIMD512_add_i16:
            r->u16[i] = (uint16_t)(a->u16[i] + b->u16[i]);
            break;
        case SIMD512_adds_i16:
            r->i16[i] = (int16_t)sat(a->i16[i] + b->i16[i], INT16_MIN, INT16_MAX);
            break;
        case SIMD512_max_i16:
            r->i16[i] = WN_MAX(a->i16[i], b->i16[i]);
            break;
        case SIMD512_maddubs:
            r->i16[i] =
                (int16_t)sat(a->u8[2 * i] * b->i8[2 * i] + a->u8[2 * i + 1] * b->i8[2 * i + 1], INT16_MIN, INT16_MAX);
            break;
        case SIMD512_srai_i16:
            r->i16[i] = (int16_t)(a->i16[i] >> 3);
            break;
        case SIMD512_unpackhi_i16:
            r->i16[i] = (j % 2 ? b : a)->i16[lane + 4 + j / 2];
            break;
        case SIMD512_packs_i32:
            r->i16[i] = (int16_t)sat((j < 4 ? a : b)->i32[lane / 2 + j % 4], INT16_MIN, INT16_MAX);
            break;
        default:
            return false;
        }
    }
    return true;
}

static uint32_t dot4(const union v *acc, const union v *u, const union v *s, unsigned i)
{
    int32_t sum = 0;
    for (unsigned k = 4 * i; k < 4 * i + 4; k++)
        sum += u->u8[k] * s->i8[k];
    return acc->u32[i] + (uint32_t)sum;
}

static bool model_dwords(enum simd512_op op, const union v *a, const union v *b, const union v *c, union v *r)
{
    for (unsigned i = 0; i < 16; i++) {
        const unsigned lane = i / 4 * 4, j = i % 4;
        switch (op) {
        case SIMD512_bcast32:
            r->u32[i] = a->u32[0];
            break;
        case SIMD512_add_i32:
            r->u32[i] = a->u32[i] + b->u32[i];
            break;
        case SIMD512_sub_i32:
            r->u32[i] = a->u32[i] - b->u32[i];
            break;
        case SIMD512_mullo_i32:
            r->u32[i] = a->u32[i] * b->u32[i];
            break;
        case SIMD512_min_i32:
            r->i32[i] = WN_MIN(a->i32[i], b->i32[i]);
            break;
        case SIMD512_any_gt: /* a's upper four bits: more than 6 in one dword of 16 */
            r->i32[i] = 0;
            for (unsigned k = 0; k < 16; k++)
                r->i32[i] |= a->u32[k] >> 28 == 7;
            break;
        case SIMD512_andnot:
            r->u32[i] = ~a->u32[i] & b->u32[i];
            break;
        case SIMD512_select:
            r->u32[i] = (a->u32[i] & b->u32[i]) | (~a->u32[i] & c->u32[i]);
            break;
        case SIMD512_madd_i16:
            r->u32[i] = (uint32_t)(a->i16[2 * i] * b->i16[2 * i]) + (uint32_t)(a->i16[2 * i + 1] * b->i16[2 * i + 1]);
            break;
        case SIMD512_dpbusd:
            r->u32[i] = dot4(a, b, c, i);
            break;
        case SIMD512_srai_i32:
            r->i32[i] = a->i32[i] >> 5;
            break;
        case SIMD512_unpackhi_i32:
            r->u32[i] = (j % 2 ? b : a)->u32[lane + 2 + j / 2];
            break;
        case SIMD512_unpacklo_i64:
            r->u64[i / 2] = (i / 2 % 2 ? b : a)->u64[lane / 2];
            break;
        case SIMD512_permute_i32:
            r->u32[i] = a->u32[b->u32[i] & 15];
            break;
        case SIMD512_load_u8_i32:
            r->u32[i] = a->u8[i];
            break;
        default:
            return false;
        }
    }
    return true;
}

static void model_floats(enum simd512_op op, const union v *a, const union v *b, const union v *c, unsigned n,
                         union v *r)
{
    for (unsigned i = 0; i < 16; i++) {
        const float x = a->f32[i], y = b->f32[i];
        switch (op) {
        case SIMD512_loadf_part:
            r->u32[i] = i < n / 4 ? a->u32[i] : 0;
            break;
        case SIMD512_to_f32:
            r->f32[i] = (float)a->i32[i];
            break;
        case SIMD512_to_i32:
            r->i32[i] = x >= -2147483648.0f && x < 2147483648.0f ? (int32_t)lrintf(x) : INT32_MIN;
            break;
        case SIMD512_minf:
            r->f32[i] = x < y ? x : y;
            break;
        case SIMD512_maxf:
            r->f32[i] = x > y ? x : y;
            break;
        case SIMD512_gt:
            r->u32[i] = x > y ? ~0u : 0u;
            break;
        case SIMD512_nan:
            r->u32[i] = isnan(x) ? ~0u : 0u;
            break;
        case SIMD512_min_abs:
            r->f32[i] = fminf(fabsf(x), fabsf(y));
            break;
        case SIMD512_max_abs:
            r->f32[i] = fmaxf(fabsf(x), fabsf(y));
            break;
        case SIMD512_lookup32:
            r->f32[i] = (c->u32[i] & 16 ? b : a)->f32[c->u32[i] & 15];
            break;
        case SIMD512_mulf:
            r->f32[i] = x * y;
            break;
        case SIMD512_roundf:
            r->f32[i] = rintf(x);
            break;
        case SIMD512_scale2:
            r->f32[i] = ldexpf(x, b->i32[i] >> 25);
            break;
        default:
            r->f32[i] = fmaf(x, y, c->f32[i]);
        }
    }
}

/* Random bytes, or floats of every magnitude with NaN and ties among them. */
static void operand(struct ck *ck, union v *x, bool floats)
{
    static const float special[] = { 0.5f,           1.5f,          2.5f,     -0.5f, 2147483648.0f,
                                     -2147483648.0f, 2147483520.0f, INFINITY, 0.0f };
    ck_fill_u8(ck, x->u8, 64, !floats && ck_extremes(ck));
    for (unsigned i = 0; floats && i < 16; i++)
        x->f32[i] =
            ck_rand(ck, 4) ? ldexpf(ck_float(ck), (int)ck_rand(ck, 40) - 5) : special[ck_rand(ck, WN_COUNT(special))];
}

static void check(struct ck *ck, const struct ck_kernel *k)
{
    static const char *const names[] = {
#define OP(name, expr) #name,
        SIMD512_OPS(OP)
#undef OP
    };
    for (unsigned op = 0; op < SIMD512_COUNT; op++) {
        const bool floats = op >= SIMD512_to_i32; /* takes floats as floats */
        const unsigned n = (unsigned)ck_rand(ck, 65);
        union v a, b, c, want;
        uint8_t *got = ck_buf(ck, 64);
        ck_shape(ck, "%s n=%u", names[op], n);
        operand(ck, &a, floats);
        operand(ck, &b, floats);
        operand(ck, &c, floats);
        if (floats && op <= SIMD512_nan && ck_rand(ck, 2))
            a.f32[ck_rand(ck, 16)] = NAN;
        if (!model_bytes(op, &a, &b, n, &want) && !model_words(op, &a, &b, &want) &&
            !model_dwords(op, &a, &b, &c, &want))
            model_floats(op, &a, &b, &c, n, &want);
        CK_CALL(ck, ck_simd512(op, &a, &b, &c, n, got));
        if (op == SIMD512_mulf || op == SIMD512_fma) /* inf - inf: any NaN will do */
            ck_near(ck, want.f32, (const float *)(const void *)got, NULL, 16);
        else
            ck_same(ck, &want, got, 64);
    }
}

static const struct ck_kernel kernels[] = { CK_KERNEL(ck_simd512, avx512vnni, check, NULL) };
CK_FAMILY(kernels)
