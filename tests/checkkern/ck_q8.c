/* ck_q8.c: see ck_q8.h. */
#include "tests/checkkern/ck_q8.h"

#include <math.h>
#include "engine/kernels/q8_quads.h"

struct ckq_out ckq_out(struct ck *ck, size_t rows, size_t n)
{
    struct ckq_out o = { .form = (enum wn_q8_out)ck_rand(ck, 3) };
    size_t plane = wn_round_up(n + 8 * ck_rand(ck, 4), 16);
    o.stride = o.form == WN_OUT_PLANE ? plane : 4 * plane;
    o.bytes = (o.form == WN_OUT_QUAD ? (rows + 3) / 4 : rows) * o.stride;
    return o;
}

struct wn_q8_args ckq_args(struct ck *ck, size_t rows, size_t n, struct ckq_out out)
{
    struct wn_q8_args a = { .n = n, .y_stride = out.stride, .out = out.form, .r_mul = 0.05f + fabsf(ck_float(ck)) };
    int32_t *bias = ck_buf(ck, rows * sizeof *bias), *w_zp = ck_buf(ck, rows * sizeof *w_zp);
    int32_t *colsum = ck_buf(ck, n * sizeof *colsum);
    float *mul = ck_buf(ck, rows * sizeof *mul);
    for (size_t i = 0; i < rows; i++) {
        bias[i] = (int32_t)(ck_float(ck) * 20000);
        w_zp[i] = (int32_t)ck_rand(ck, 511) - 255;
        mul[i] = ck_rand(ck, 20) ? 0.003f * (0.1f + fabsf(ck_float(ck))) : 1e9f * ck_float(ck);
        if (ck_rand(ck, 200) == 0)
            mul[i] = NAN;
    }
    for (size_t i = 0; i < n; i++)
        colsum[i] = (int32_t)ck_rand(ck, 5000);
    a.bias = bias;
    a.mul = mul;
    if (ck_rand(ck, 3) == 0) {
        a.w_zp = w_zp;
        a.colsum = colsum;
    }
    if (ck_rand(ck, 2)) {
        uint8_t *r = ck_buf(ck, out.bytes);
        if (out.form == WN_OUT_F32)
            ck_fill_f32(ck, (float *)(void *)r, out.bytes / 4);
        else
            ck_fill_u8(ck, r, out.bytes, false);
        ck_freeze(ck, r);
        a.r = r;
    }
    if (ck_rand(ck, 2))
        a.mask = ck_mask(ck, n);
    a.s_mul = 0.05f + fabsf(ck_float(ck));
    a.s_lo = -(float)ck_rand(ck, 256);
    a.s_hi = a.s_lo + (float)ck_rand(ck, 256);
    if (ck_rand(ck, 16) == 0)
        *(ck_rand(ck, 2) ? &a.r_mul : &a.s_mul) = 1e8f * ck_float(ck); /* past int32 */
    a.r_zp = ck_rand(ck, 2) ? (int32_t)ck_rand(ck, 256) : 0;
    a.y_zp = (int32_t)ck_rand(ck, 256);
    a.q_lo = ck_rand(ck, 2) ? 0 : a.y_zp;
    a.q_hi = ck_rand(ck, 2) ? 255 : WN_MAX(a.q_lo, 200);
    a.lo = ck_rand(ck, 2) ? -INFINITY : 0.0f;
    a.hi = ck_rand(ck, 2) ? INFINITY : 6.0f;
    return a;
}

static float magnitude(struct ck *ck, bool normal)
{
    float u = 1.0f - fabsf(ck_float(ck)) * 0.999999f, laplace = -logf(u);
    return normal ? sqrtf(2 * laplace) * fabsf(cosf(3.14159265f * ck_float(ck))) : laplace;
}

void ckq_weights(struct ck *ck, int8_t *w, size_t rows, size_t channels, size_t taps, size_t block, double density,
                 bool normal)
{
    size_t k = channels * taps;
    float *v = wn_arena_calloc(ck_arena(ck), k, sizeof *v);
    for (size_t o = 0; v && o < rows; o++) {
        float top = 0;
        for (size_t i = 0; i < k; i++)
            v[i] = magnitude(ck, normal);
        for (size_t i = 0; i < channels; i += block)
            for (size_t t = 0; t < taps; t++) {
                bool keep = fabsf(ck_float(ck)) < density;
                for (size_t j = i; j < WN_MIN(i + block, channels); j++) {
                    v[j * taps + t] = keep ? v[j * taps + t] : 0;
                    top = fmaxf(top, v[j * taps + t]);
                }
            }
        for (size_t i = 0; i < k; i++) {
            int q = top > 0 ? (int)lrintf(v[i] / top * 127) : 0;
            w[o * k + i] = (int8_t)(ck_rand(ck, 2) ? q : -q);
        }
    }
}

const struct ckq_layer ckq_layers[] = { { 768, 768, 1, 0 },   { 3072, 768, 1, 0 }, { 768, 3072, 1, 0 },
                                        { 384, 384, 1, 0 },   { 256, 64, 1, 56 },  { 128, 512, 1, 28 },
                                        { 256, 1024, 1, 14 }, { 2048, 512, 1, 7 }, { 64, 64, 9, 56 },
                                        { 128, 128, 9, 28 },  { 256, 256, 9, 14 }, { 512, 512, 9, 7 } };
const size_t ckq_nlayers = WN_COUNT(ckq_layers);

/* Benchmarks need more memory blocks than checks, and no fences. */
static void *take(struct ck *ck, size_t bytes)
{
    void *p = wn_arena_alloc(ck_arena(ck), bytes + WN_OVERREAD);
    if (!p)
        wn_die(__FILE__, __LINE__, "out of memory");
    return p;
}

int8_t *ckq_layer_weights(struct ck *ck, const struct ckq_layer *l, size_t block, double density, bool normal)
{
    int8_t *w = take(ck, l->rows * l->channels * l->taps);
    ckq_weights(ck, w, l->rows, l->channels, l->taps, block, density, normal);
    return w;
}

int32_t *ckq_layer_off(struct ck *ck, size_t noffs)
{
    return take(ck, noffs * sizeof(int32_t));
}

struct wn_q8_args ckq_layer_args(struct ck *ck, const struct ckq_layer *l, int32_t **ret_koff)
{
    size_t pitch = l->edge ? l->edge + 1 : 0, n = l->edge ? wn_round_up(l->edge * pitch, WN_COLS) : 128;
    size_t margin = l->edge ? 64 : 0, plane = wn_round_up(n + 2 * margin, 16);
    plane += plane / 16 % 2 ? 0 : 16; /* an odd number of lines: channels do not fall into the same sets */
    size_t in = (l->channels + 3) / 4 * plane * 4, out = (l->rows + 3) / 4 * plane * 4;
    uint8_t *x = take(ck, in), *y = take(ck, out);
    ck_fill_u8(ck, x, in, false);
    int32_t *koff = take(ck, wn_q8_quads(l->channels, l->taps) * sizeof *koff), tap_off[9] = { 0 };
    int32_t *bias = take(ck, l->rows * sizeof *bias);
    float *mul = take(ck, l->rows * sizeof *mul);
    for (int i = 0; i < 9 && l->taps == 9; i++)
        tap_off[i] = 4 * ((i / 3 - 1) * (int32_t)pitch + i % 3 - 1);
    wn_q8_quads_koff(l->channels, l->taps, (int32_t)(4 * plane), tap_off, koff);
    for (size_t i = 0; i < l->rows; i++) {
        bias[i] = 0;
        mul[i] = 1e-3f;
    }
    *ret_koff = koff;
    return (struct wn_q8_args){ .x = x + 4 * margin,
                                .n = n,
                                .y = y,
                                .y_stride = 4 * plane,
                                .out = WN_OUT_QUAD,
                                .bias = bias,
                                .mul = mul,
                                .y_zp = 128,
                                .q_hi = 255,
                                .lo = -INFINITY,
                                .hi = INFINITY };
}

int32_t *ckq_koff(struct ck *ck, size_t channels, size_t taps, size_t plane)
{
    size_t quads = wn_q8_quads(channels, taps);
    int32_t *koff = ck_buf(ck, quads * sizeof *koff), tap_off[9];
    for (size_t t = 0; t < taps; t++)
        tap_off[t] = 4 * ((int32_t)ck_rand(ck, 9) - 4);
    wn_q8_quads_koff(channels, taps, (int32_t)(4 * plane), tap_off, koff);
    ck_freeze(ck, koff);
    return koff;
}

struct ckq_product ckq_product(struct ck *ck, const double *densities, size_t n_densities)
{
    size_t rows = 1 + ck_rand(ck, 30), n = WN_COLS * (1 + ck_rand(ck, 11));
    size_t channels = 1 + ck_rand(ck, 70), taps = ck_rand(ck, 2) ? 1 : 1 + ck_rand(ck, 9);
    size_t k = channels * taps, plane = wn_round_up(n + 8, 16);
    double density = ck_pick(ck, densities, n_densities);
    bool extremes = ck_extremes(ck), trained = ck_rand(ck, 2), seven = ck_rand(ck, 4) == 0;
    struct ckq_product p = { .rows = rows, .channels = channels, .taps = taps, .x_max = seven ? 127 : 255 };
    p.out = ckq_out(ck, rows, n);
    size_t span = 4 * (1 + ck_rand(ck, 8));
    p.row0 = 4 * ck_rand(ck, (rows + 3) / 4);
    p.row1 = WN_MIN(rows, p.row0 + span);
    ck_shape(ck, "rows=%zu (%zu..%zu) n=%zu channels=%zu taps=%zu density=%g extremes=%d trained=%d seven=%d out=%d",
             rows, p.row0, p.row1, n, channels, taps, density, extremes, trained, seven, (int)p.out.form);
    p.w = ck_buf(ck, rows * k);
    if (trained && !extremes)
        ckq_weights(ck, p.w, rows, channels, taps, 4, density, ck_rand(ck, 2));
    else
        ck_fill_s8(ck, p.w, rows * k, density, extremes);
    ck_freeze(ck, p.w);
    size_t x_bytes = 64 + 4 * ((channels + 3) / 4 * plane);
    uint8_t *x = ck_buf(ck, x_bytes);
    ck_fill_u8(ck, x, x_bytes, extremes);
    for (size_t i = 0; seven && i < x_bytes; i++)
        x[i] /= 2;
    ck_freeze(ck, x);
    p.koff = ckq_koff(ck, channels, taps, plane);
    p.a = ckq_args(ck, rows, n, p.out);
    p.a.x = x + 64;
    return p;
}
