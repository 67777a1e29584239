/* avx512vnni.c: 64 bytes per step.
 *
 * ADD     A byte widened with 0x4b00 above it is the float 2^23 + byte, so that one subtraction gives (float)(a -
 * a_zp), exactly. What is kept of a run of columns is the same for all channels: it is made once for BLOCK bytes, and
 *         the channels pass inside.
 * LOOKUP  with AVX512-VBMI two permutations answer the halves of the table, and the byte's top bit chooses; else as
 * avx2.c.
 */
#include "engine/kernels/eltwise_q8/eltwise_q8.h"

#include "engine/kernels/q8_bytes.h"
#include "engine/kernels/q8_epilogue_avx512.h"

#define BLOCK 1024u /* bytes of a run */
#define STEP  64u

/* One block of all channels: which of its bytes are to be kept. */
struct keep {
    bool all;
    uint8_t byte[BLOCK];
};

static void keep_block(struct keep *k, const struct wn_elt_q8 *args, size_t from, size_t n)
{
    k->all = !args->mask;
    for (size_t i = 0; !k->all && i < n; i++)
        k->byte[i] = args->mask[wn_q8_plane_of(args->form, from + i)] ? 0xff : 0;
}

/* y with the pad value where byte i.. of channel c.. is none. */
WN_Q8_INLINE v512i padded(const struct wn_q8_v512 *e, const struct keep *k, size_t i, size_t rows, v512i y)
{
    if (!k->all)
        y = v512i_select(v512i_load(k->byte + i), y, e->pad);
    if (rows < 4)
        y = v512i_select(v512i_set1_i32((int32_t)(0xffffffffu >> (32 - 8 * rows))), y, e->pad);
    return y;
}

/* Real rows of the quad of channel c; 4 for a plane, which has no lanes to pad. */
static size_t rows_of(const struct wn_elt_q8 *args, size_t c)
{
    return args->form == WN_OUT_QUAD ? WN_MIN(args->channels - c, (size_t)4) : 4;
}

/* ---- add ---- */
struct operand {
    v512f mul, base; /* base: 2^23 + zero point */
};

static struct operand operand(float mul, int32_t zp)
{
    return (struct operand){ v512f_set1(mul), v512f_set1(8388608.0f + (float)zp) };
}

WN_Q8_INLINE void scaled(const struct operand *o, v512i bytes, v512f *f)
{
    const v512i zero = v512i_zero(), high = v512i_set1_i16(0x4b00);
    v512i lo = v512i_unpacklo_i8(bytes, zero), hi = v512i_unpackhi_i8(bytes, zero);
    const v512i d[4] = { v512i_unpacklo_i16(lo, high), v512i_unpackhi_i16(lo, high), v512i_unpacklo_i16(hi, high),
                         v512i_unpackhi_i16(hi, high) };
    WN_UNROLL
    for (unsigned i = 0; i < 4; i++)
        f[i] = v512f_mul(v512f_sub(v512i_as_f(d[i]), o->base), o->mul);
}

WN_Q8_INLINE v512i sum(const struct wn_q8_v512 *e, bool tame, const struct operand *oa, const struct operand *ob,
                       v512i a, v512i b)
{
    v512f fa[4], fb[4];
    scaled(oa, a, fa);
    scaled(ob, b, fb);
    WN_UNROLL
    for (unsigned k = 0; k < 4; k++)
        fa[k] = v512f_add(fa[k], fb[k]);
    return wn_q8_v512_bytes(e, tame, fa);
}

void wn_elt_q8_add_64__avx512vnni(const struct wn_elt_q8 *args, size_t c0, size_t c1)
{
    size_t lanes = wn_q8_lanes(args->form), bytes = args->n * lanes;
    const struct wn_q8_args q = { .y_zp = args->y_zp, .q_lo = args->q_lo, .q_hi = args->q_hi };
    const struct wn_q8_v512 e = wn_q8_v512_begin(&q);
    const bool tame = fabsf(args->a_mul) < 4e6f && fabsf(args->b_mul) < 4e6f; /* 255 * 8e6 < 2^31 */
    const struct operand oa = operand(args->a_mul, args->a_zp), ob = operand(args->b_mul, args->b_zp);
    struct keep keep;
    for (size_t from = 0; from < bytes; from += BLOCK) {
        size_t n = WN_MIN(bytes - from, (size_t)BLOCK);
        keep_block(&keep, args, from, n);
        for (size_t c = c0; c < c1; c += lanes) {
            const uint8_t *a = args->a + wn_q8_plane_of(args->form, c) * args->a_stride + from;
            const uint8_t *b = args->b + wn_q8_plane_of(args->form, c) * args->b_stride + from;
            uint8_t *y = args->y + wn_q8_plane_of(args->form, c) * args->y_stride + from;
            size_t rows = rows_of(args, c), i = 0;
            for (; i + STEP <= n; i += STEP) {
                v512i v = sum(&e, tame, &oa, &ob, v512i_load(a + i), v512i_load(b + i));
                v512i_store(y + i, padded(&e, &keep, i, rows, v));
            }
            if (i < n) {
                unsigned left = (unsigned)(n - i);
                v512i v = sum(&e, tame, &oa, &ob, v512i_load_part(a + i, left), v512i_load_part(b + i, left));
                v512i_store_part(y + i, padded(&e, &keep, i, rows, v), left);
            }
        }
    }
}

/* ---- lookup ---- */
struct table {
    v512i part[16]; /* each sixteenth in all lanes; or, for VBMI, four quarters */
};

static struct table load_table(const uint8_t *t)
{
    struct table r;
    for (unsigned i = 0; i < 16; i++)
        r.part[i] = v512i_lanes16((const int8_t *)t + 16 * i);
    return r;
}

/* The low four bits choose in all sixteen parts, the high ones, bit by bit, between them: 16 shuffles, half of them over the
 * others, and 7 blends. */
WN_Q8_INLINE v512i lookup(const struct table *t, v512i v)
{
    const v512i at = v512i_and(v, v512i_set1_i8(15));
    __mmask64 bit[4]; /* 4 .. 7 */
    for (unsigned i = 0; i < 4; i++, v = v512i_add_i16(v, v))
        bit[3 - i] = WN_V512(movepi8_mask)(v);
    v512i y[8];
    WN_UNROLL
    for (unsigned i = 0; i < 8; i++)
        y[i] = WN_V512(mask_shuffle_epi8)(v512i_shuffle_i8(t->part[2 * i], at), bit[0], t->part[2 * i + 1], at);
    WN_UNROLL
    for (unsigned n = 4, level = 1; n; n /= 2, level++) {
        WN_UNROLL
        for (unsigned i = 0; i < n; i++)
            y[i] = WN_V512(mask_blend_epi8)(bit[level], y[2 * i], y[2 * i + 1]);
    }
    return y[0];
}

typedef v512i lookup_fn(const struct table *t, v512i v);

WN_Q8_INLINE void look_up(const struct wn_elt_q8 *args, size_t c0, size_t c1, const struct table *t, lookup_fn *of)
{
    size_t lanes = wn_q8_lanes(args->form), bytes = args->n * lanes;
    const struct wn_q8_args q = { .y_zp = args->y_zp };
    const struct wn_q8_v512 e = wn_q8_v512_begin(&q);
    struct keep keep;
    for (size_t from = 0; from < bytes; from += BLOCK) {
        size_t n = WN_MIN(bytes - from, (size_t)BLOCK);
        keep_block(&keep, args, from, n);
        for (size_t c = c0; c < c1; c += lanes) {
            const uint8_t *a = args->a + wn_q8_plane_of(args->form, c) * args->a_stride + from;
            uint8_t *y = args->y + wn_q8_plane_of(args->form, c) * args->y_stride + from;
            size_t rows = rows_of(args, c), i = 0;
            for (; i + STEP <= n; i += STEP)
                v512i_store(y + i, padded(&e, &keep, i, rows, of(t, v512i_load(a + i))));
            if (i < n) {
                unsigned left = (unsigned)(n - i);
                v512i v = of(t, v512i_load_part(a + i, left));
                v512i_store_part(y + i, padded(&e, &keep, i, rows, v), left);
            }
        }
    }
}

#ifndef WN_SIMDE
#define WN_VBMI __attribute__((target("avx512vbmi")))

WN_VBMI WN_Q8_INLINE v512i lookup_vbmi(const struct table *t, v512i v)
{
    const v512i low = _mm512_permutex2var_epi8(t->part[0], v, t->part[1]);
    const v512i high = _mm512_permutex2var_epi8(t->part[2], v, t->part[3]);
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(v), low, high);
}

WN_VBMI static void look_up_vbmi(const struct wn_elt_q8 *args, size_t c0, size_t c1)
{
    struct table t;
    for (unsigned i = 0; i < 4; i++)
        t.part[i] = v512i_load(args->table + 64 * i);
    look_up(args, c0, c1, &t, lookup_vbmi);
}
#else
static void look_up_vbmi(const struct wn_elt_q8 *args, size_t c0, size_t c1)
{
    wn_elt_q8_lookup_1__scalar(args, c0, c1);
}
#endif

void wn_elt_q8_lookup_64__avx512vnni(const struct wn_elt_q8 *args, size_t c0, size_t c1)
{
    if (wn_cpu_has_vbmi()) {
        look_up_vbmi(args, c0, c1);
        return;
    }
    const struct table t = load_table(args->table);
    look_up(args, c0, c1, &t, lookup);
}
