/* avx2.c: 32 bytes per step. A table of 256 is sixteen shuffles by the low nibble, among which the bits of the
 * high one choose. */
#include "engine/kernels/eltwise_q8/eltwise_q8.h"

#include "engine/kernels/q8_bytes_avx2.h"

WN_Q8_INLINE struct wn_q8_avx2 begin(const struct wn_elt_q8 *args)
{
    struct wn_q8_args q = { .y_zp = args->y_zp, .q_lo = args->q_lo, .q_hi = args->q_hi };
    return wn_q8_avx2_begin(&q);
}

void wn_elt_q8_add_32__avx2(const struct wn_elt_q8 *args, size_t c0, size_t c1)
{
    size_t lanes = wn_q8_lanes(args->form), bytes = args->n * lanes;
    const struct wn_q8_avx2 e = begin(args);
    const __m256i a_zp = _mm256_set1_epi32(args->a_zp), b_zp = _mm256_set1_epi32(args->b_zp);
    const __m256 a_mul = _mm256_set1_ps(args->a_mul), b_mul = _mm256_set1_ps(args->b_mul);
    for (size_t c = c0; c < c1; c += lanes) {
        const uint8_t *a = args->a + wn_q8_plane_of(args->form, c) * args->a_stride, *b = args->b + wn_q8_plane_of(args->form, c) * args->b_stride;
        uint8_t *y = args->y + wn_q8_plane_of(args->form, c) * args->y_stride;
        for (size_t i = 0; i < bytes; i += 32) {
            __m256i va[4], vb[4];
            __m256 f[4];
            wn_q8_widen(wn_q8_load32(a + i, bytes - i), va);
            wn_q8_widen(wn_q8_load32(b + i, bytes - i), vb);
            for (unsigned k = 0; k < 4; k++) {
                __m256 fa = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(va[k], a_zp)), a_mul);
                __m256 fb = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(vb[k], b_zp)), b_mul);
                f[k] = _mm256_add_ps(fa, fb);
            }
            __m256i keep = wn_q8_keep32(args->form, c, args->channels, args->mask, i, bytes);
            wn_q8_store32(y + i, wn_q8_padded(&e, wn_q8_narrow(&e, f), keep), bytes - i);
        }
    }
}

struct table {
    __m256i part[16];
};

static struct table load_table(const uint8_t *t)
{
    struct table r;
    for (unsigned i = 0; i < 16; i++)
        r.part[i] = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(t + 16 * i)));
    return r;
}

/* Of two, four or eight sixteenths from `part` on, each of which answers the low nibble, the one that bits 4 and up choose;
 * bit[i] has bit 4 + i at the top of every byte. */
WN_Q8_INLINE __m256i one_of_2(const __m256i *part, __m256i low, const __m256i *bit)
{
    return _mm256_blendv_epi8(_mm256_shuffle_epi8(part[0], low), _mm256_shuffle_epi8(part[1], low), bit[0]);
}

WN_Q8_INLINE __m256i one_of_4(const __m256i *part, __m256i low, const __m256i *bit)
{
    return _mm256_blendv_epi8(one_of_2(part, low, bit), one_of_2(part + 2, low, bit), bit[1]);
}

WN_Q8_INLINE __m256i one_of_8(const __m256i *part, __m256i low, const __m256i *bit)
{
    return _mm256_blendv_epi8(one_of_4(part, low, bit), one_of_4(part + 4, low, bit), bit[2]);
}

WN_Q8_INLINE __m256i lookup(const struct table *t, __m256i v)
{
    const __m256i low = _mm256_and_si256(v, _mm256_set1_epi8(0x0f));
    const __m256i bit[3] = { _mm256_slli_epi16(v, 3), _mm256_slli_epi16(v, 2), _mm256_slli_epi16(v, 1) };
    return _mm256_blendv_epi8(one_of_8(t->part, low, bit), one_of_8(t->part + 8, low, bit), v);
}

void wn_elt_q8_lookup_32__avx2(const struct wn_elt_q8 *args, size_t c0, size_t c1)
{
    size_t lanes = wn_q8_lanes(args->form), bytes = args->n * lanes;
    const struct wn_q8_avx2 e = begin(args);
    const struct table t = load_table(args->table);
    for (size_t c = c0; c < c1; c += lanes) {
        const uint8_t *a = args->a + wn_q8_plane_of(args->form, c) * args->a_stride;
        uint8_t *y = args->y + wn_q8_plane_of(args->form, c) * args->y_stride;
        for (size_t i = 0; i < bytes; i += 32) {
            __m256i keep = wn_q8_keep32(args->form, c, args->channels, args->mask, i, bytes);
            __m256i v = lookup(&t, wn_q8_load32(a + i, bytes - i));
            wn_q8_store32(y + i, wn_q8_padded(&e, v, keep), bytes - i);
        }
    }
}
