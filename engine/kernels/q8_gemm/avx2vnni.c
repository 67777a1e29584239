/* avx2vnni.c: dense int8 with VNNI on 256 bits: 4 rows x 16 columns in eight accumulators, weights broadcast. */
#include "engine/kernels/q8_gemm/q8_gemm.h"

#include "engine/kernels/q8_epilogue_avx2.h"
#include "engine/kernels/vnni256.h"

/* Rows o..o+3, columns c..c+15: multiply and finish. */
static void block(const struct wn_q8_gemm *mat, const int32_t *off, const struct wn_q8_avx2 *e, size_t o, size_t c)
{
    const int32_t *w = mat->w + o * mat->quads;
    const uint8_t *x = e->a->x + 4 * c;
    size_t nrows = WN_MIN(mat->rows - o, 4u);
    __m256i s[4][2];
    WN_UNROLL
    for (size_t r = 0; r < 4; r++)
        s[r][0] = s[r][1] = _mm256_set1_epi32(r < nrows ? e->a->bias[o + r] : 0);
    for (size_t kq = 0; kq < mat->quads; kq++, w += 4) {
        const __m256i *p = (const __m256i *)(x + off[kq]);
        __m256i a0 = _mm256_loadu_si256(p), a1 = _mm256_loadu_si256(p + 1);
        WN_UNROLL
        for (size_t r = 0; r < 4; r++) {
            __m256i b = _mm256_set1_epi32(w[r]);
            s[r][0] = wn_vnni256_dpbusd(s[r][0], a0, b);
            s[r][1] = wn_vnni256_dpbusd(s[r][1], a1, b);
        }
    }
    wn_q8_avx2_put_rows(e, o, nrows, c, (const __m256i(*)[2])s);
}

void wn_q8_gemm_4x16__avx2vnni(const struct wn_q8_gemm *mat, const int32_t *off, const struct wn_q8_args *args,
                               size_t row0, size_t row1)
{
    struct wn_q8_avx2 e = wn_q8_avx2_begin(args);
    for (size_t c = 0; c < args->n; c += 16)
        for (size_t o = row0; o < row1; o += 4)
            block(mat, off, &e, o, c);
}
