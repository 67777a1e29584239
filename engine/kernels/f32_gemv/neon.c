/* neon.c: six outputs x 4 inputs.
 *
 * DESIGN  A panel is one stream of six weights per k. Up to four rows of x: three vectors of weights are two ks whole,
 *         and meet the first x, both by halves, and the second; sums of one output lie six apart and are added up at the
 *         end. More rows: eight of them are put side by side, and each weight, read once, meets all eight. Two ks, or two
 *         pairs of them, have sums of their own where registers allow: that hides the latency.
 *         Not timed (CONTRIBUTING.md, check-neon). */
#include <arm_neon.h>
#include <string.h>
#include "engine/kernels/f32_gemv/f32_gemv.h"
#include "engine/kernels/f32_scalar.h"
#include "engine/kernels/f32_vec.h"

enum { MR = WN_F32_GEMM_MR, FLAT = 12, FEW = 4, ROWS = 8, KC = 1024 };

/* ---- up to four rows ---- */

/* Two ks of one row: products in the order in which the weights come. */
WN_INLINE void add_pair(float32x4_t acc[3], const float *w, const float *x)
{
    const float32x2_t both = vld1_f32(x);
    const float32x4_t first = vdupq_lane_f32(both, 0), second = vdupq_lane_f32(both, 1);
    acc[0] = vfmaq_f32(acc[0], vld1q_f32(w), first);
    acc[1] = vfmaq_f32(acc[1], vld1q_f32(w + 4), vcombine_f32(vget_low_f32(first), vget_low_f32(second)));
    acc[2] = vfmaq_f32(acc[2], vld1q_f32(w + 8), second);
}

/* flat [rows][FLAT] = the products of `pairs` pairs of ks, and of one more k where `odd`. */
WN_INLINE void sums(const int rows, const float *w, const float *x, size_t x_stride, size_t pairs, bool odd, float *flat)
{
    float32x4_t acc[FEW][3], more[FEW][3];
    WN_UNROLL
    for (int r = 0; r < rows; r++) {
        WN_UNROLL
        for (int v = 0; v < 3; v++)
            acc[r][v] = more[r][v] = vdupq_n_f32(0);
    }
    size_t p = 0;
    for (; p + 2 <= pairs; p += 2, w += 2 * FLAT, x += 4) {
        WN_UNROLL
        for (int r = 0; r < rows; r++) {
            add_pair(acc[r], w, x + (size_t)r * x_stride);
            add_pair(more[r], w + FLAT, x + (size_t)r * x_stride + 2);
        }
    }
    if (p < pairs) {
        WN_UNROLL
        for (int r = 0; r < rows; r++)
            add_pair(acc[r], w, x + (size_t)r * x_stride);
        w += FLAT;
        x += 2;
    }
    if (odd) {
        float last[FLAT] = { 0 };
        memcpy(last, w, MR * sizeof *w);
        WN_UNROLL
        for (int r = 0; r < rows; r++) {
            const float xs[2] = { x[(size_t)r * x_stride], 0 };
            add_pair(more[r], last, xs);
        }
    }
    WN_UNROLL
    for (int r = 0; r < rows; r++) {
        WN_UNROLL
        for (int v = 0; v < 3; v++)
            vst1q_f32(flat + r * FLAT + 4 * v, vaddq_f32(acc[r][v], more[r][v]));
    }
}

typedef void sums_fn(const float *w, const float *x, size_t x_stride, size_t pairs, bool odd, float *flat);
#define SUMS(rows)                                                                                                     \
    static __attribute__((noinline)) void sums_##rows(const float *w, const float *x, size_t x_stride, size_t pairs,   \
                                                      bool odd, float *flat)                                           \
    {                                                                                                                  \
        sums(rows, w, x, x_stride, pairs, odd, flat);                                                                  \
    }
SUMS(1)
SUMS(2)
SUMS(3)
SUMS(4)

static void put(const struct wn_f32_gemv_args *a, size_t m, size_t o, float sum)
{
    const size_t at = m * a->y_stride + o;
    sum += (a->bias ? a->bias[o] : 0.0f) + (a->r ? a->r[at] : 0.0f);
    a->y[at] = wn_f32_clamp(sum, a->lo, a->hi);
}

/* `rows` rows from m, at most FEW. */
static void run_few(const struct wn_f32_gemm *mat, const struct wn_f32_gemv_args *a, size_t m, size_t rows, size_t row0,
                    size_t row1)
{
    static sums_fn *const by_rows[] = { NULL, sums_1, sums_2, sums_3, sums_4 };
    float flat[FEW * FLAT];
    for (size_t o = row0; o < row1; o += MR) {
        by_rows[rows](mat->panels + o * mat->k, a->x + m * a->x_stride, a->x_stride, mat->k / 2, mat->k % 2, flat);
        for (size_t r = 0; r < rows; r++)
            for (size_t i = 0; i < WN_MIN(row1 - o, (size_t)MR); i++)
                put(a, m + r, o + i, flat[r * FLAT + i] + flat[r * FLAT + MR + i]);
    }
}

/* ---- up to eight rows ---- */

/* A chunk of k on some rows of x. */
struct chunk {
    const struct wn_f32_gemv_args *a;
    const float *cols; /* [k][ROWS] */
    size_t m, rows, k;
    bool first, last;
};

/* cols[k][r] = x[r][k]; zeros where there is no row. */
static void turn(const struct wn_f32_gemv_args *a, size_t m, size_t rows, size_t k0, size_t k, float *cols)
{
    for (size_t r = 0; r < ROWS; r++) {
        const float *x = r < rows ? a->x + (m + r) * a->x_stride + k0 : NULL;
        for (size_t i = 0; i < k; i++)
            cols[i * ROWS + r] = x ? x[i] : 0;
    }
}

/* One k: six weights, eight rows. */
WN_INLINE void add_k(float32x4_t acc[MR][2], const float *w, const float *x)
{
    const float32x4_t x0 = vld1q_f32(x), x1 = vld1q_f32(x + 4);
    WN_UNROLL
    for (int i = 0; i < (int)MR; i++) {
        const float32x4_t all = vld1q_dup_f32(w + i);
        acc[i][0] = vfmaq_f32(acc[i][0], all, x0);
        acc[i][1] = vfmaq_f32(acc[i][1], all, x1);
    }
}

static void put_rows(const struct chunk *ch, size_t o, size_t n, const float sum[MR][ROWS])
{
    const struct wn_f32_gemv_args *a = ch->a;
    for (size_t r = 0; r < ch->rows; r++) {
        const size_t at = (ch->m + r) * a->y_stride + o;
        for (size_t i = 0; i < n; i++) {
            float y = sum[i][r];
            y += ch->first ? (a->bias ? a->bias[o + i] : 0.0f) + (a->r ? a->r[at + i] : 0.0f) : a->y[at + i];
            a->y[at + i] = ch->last ? wn_f32_clamp(y, a->lo, a->hi) : y;
        }
    }
}

/* The panel of outputs o .. o + n - 1. */
static void panel(const struct chunk *ch, const float *w, size_t o, size_t n)
{
    float32x4_t acc[MR][2], odd[MR][2];
    float sum[MR][ROWS];
    WN_UNROLL
    for (int i = 0; i < (int)MR; i++)
        acc[i][0] = acc[i][1] = odd[i][0] = odd[i][1] = vdupq_n_f32(0);
    const float *x = ch->cols;
    for (size_t k = 0; k < ch->k / 2; k++, w += 2 * MR, x += 2 * ROWS) {
        add_k(acc, w, x);
        add_k(odd, w + MR, x + ROWS);
    }
    if (ch->k % 2)
        add_k(acc, w, x);
    WN_UNROLL
    for (int i = 0; i < (int)MR; i++) {
        vst1q_f32(sum[i], vaddq_f32(acc[i][0], odd[i][0]));
        vst1q_f32(sum[i] + 4, vaddq_f32(acc[i][1], odd[i][1]));
    }
    put_rows(ch, o, n, sum);
}

static void run_rows(const struct wn_f32_gemm *mat, const struct wn_f32_gemv_args *a, size_t m, size_t rows,
                     size_t row0, size_t row1)
{
    float cols[KC * ROWS];
    size_t k0 = 0;
    do { /* once even when k is 0 */
        const size_t kc = WN_MIN(mat->k - k0, (size_t)KC);
        const struct chunk ch = {
            .a = a, .cols = cols, .m = m, .rows = rows, .k = kc, .first = k0 == 0, .last = k0 + kc == mat->k
        };
        turn(a, m, rows, k0, kc, cols);
        for (size_t o = row0; o < row1; o += MR)
            panel(&ch, mat->panels + o * mat->k + k0 * MR, o, WN_MIN(row1 - o, (size_t)MR));
        k0 += kc;
    } while (k0 < mat->k);
}

void wn_f32_gemv_6x4__neon(const struct wn_f32_gemm *mat, const struct wn_f32_gemv_args *a, size_t row0, size_t row1)
{
    size_t parts = (a->m + ROWS - 1) / ROWS;
    for (size_t m = 0, rows; m < a->m && row0 < row1; m += rows, parts--) {
        rows = (a->m - m + parts - 1) / parts;
        if (rows <= FEW)
            run_few(mat, a, m, rows, row0, row1);
        else
            run_rows(mat, a, m, rows, row0, row1);
    }
}
