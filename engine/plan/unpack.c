/* unpack.c: weights back from their packed form, so that one form of them is enough in memory.
 *
 * DESIGN  Dense f32 panels are read as they lie. Else: a matrix times the identity is the matrix, whatever stream its
 * pack is: the family's own kernel multiplies it by 64 columns of the identity at a time. Exact: every sum has one term
 * that is not zero. It costs about as much as a run of as many columns as the layer has inputs, and happens when a new
 * shape wants another form. Rejected: an inverse of each stream of each instruction set. f32 weights have to be finite:
 * 0 * infinity is no zero. A -0 comes back as 0, which no product but a zero's sign can tell. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "engine/plan/f32_pack.h"
#include "engine/plan/q8_pack.h"

#define COLS ((size_t)64) /* of the identity at a time */

/* Room that kernels may over-read. */
static void *room(size_t bytes)
{
    void *p = aligned_alloc(64, wn_round_up(bytes + 2 * WN_OVERREAD, 64));
    if (p)
        memset(p, 0, wn_round_up(bytes + 2 * WN_OVERREAD, 64));
    return p;
}

/* ---- f32 ---- */

static void spmm_group(const struct wn_f32_pack *p, size_t g, const int32_t *koff, int32_t *off, float *x, float *y,
                       float *w)
{
    wn_f32_spmm_link(&p->spmm[g], koff, off);
    const struct wn_f32_args args = { .x = x, .n = COLS, .y = y, .y_stride = COLS, .lo = -INFINITY, .hi = INFINITY };
    for (size_t k0 = 0; k0 < p->k; k0 += COLS) {
        const size_t n = WN_MIN(COLS, p->k - k0);
        for (size_t c = 0; c < n; c++)
            x[(k0 + c) * COLS + c] = 1;
        wn_f32_pack_run(p, g, off, &args, 0, p->rows);
        for (size_t o = 0; o < p->rows; o++)
            memcpy(w + o * p->k + k0, y + o * COLS, n * sizeof *w);
        for (size_t c = 0; c < n; c++)
            x[(k0 + c) * COLS + c] = 0;
    }
}

static float conv_weight(const struct wn_f32_conv *mat, size_t o, size_t k)
{
    return wn_f32_conv_at(mat, o, k / mat->taps, k % mat->taps);
}

enum winnow_status wn_f32_unpack(const void *pack, void *ret_w, struct winnow_err *err)
{
    const struct wn_f32_pack *p = pack;
    size_t stored = 0;
    if (p->family == WN_FAMILY_f32_gemm) {
        for (size_t o = 0; o < p->groups * p->rows; o++)
            for (size_t i = 0; i < p->k; i++)
                ((float *)ret_w)[o * p->k + i] = wn_f32_gemv_at(&p->gemm[o / p->rows], o % p->rows, i);
        return WINNOW_OK;
    }
    if (p->family == WN_FAMILY_f32_conv) {
        for (size_t o = 0; o < p->groups * p->rows; o++)
            for (size_t i = 0; i < p->k; i++)
                ((float *)ret_w)[o * p->k + i] = conv_weight(&p->conv[o / p->rows], o % p->rows, i);
        return WINNOW_OK;
    }
    for (size_t g = 0; g < p->groups; g++)
        stored = WN_MAX(stored, p->spmm[g].stored);
    WN_CLEANUP(wn_freep) float *x = room(p->k * COLS * sizeof *x);
    WN_CLEANUP(wn_freep) float *y = room(p->rows * COLS * sizeof *y);
    WN_CLEANUP(wn_freep) int32_t *koff = room(p->k * sizeof *koff);
    WN_CLEANUP(wn_freep) int32_t *off = room((stored + WN_F32_SPMM_AHEAD) * sizeof *off);
    if (!x || !y || !koff || !off)
        return wn_fail(err, WINNOW_E_NOMEM, "unpacking weights");
    for (size_t k = 0; k < p->k; k++)
        koff[k] = (int32_t)(k * COLS * sizeof *x);
    for (size_t g = 0; g < p->groups; g++)
        spmm_group(p, g, koff, off, x, y, (float *)ret_w + g * p->rows * p->k);
    return WINNOW_OK;
}

/* ---- int8 ---- */

bool wn_q8_can_unpack(enum wn_q8_kind kind)
{
    return kind == WN_Q8_GEMM || kind == WN_Q8_CONV || kind == WN_Q8_B4 || kind == WN_Q8_SPMM;
}

/* How the identity lies: quads (channel / 4, tap, column, channel % 4) or planes (channel, tap, column) of bytes. */
static size_t at(const struct wn_q8_pack *p, size_t k, size_t c)
{
    const size_t taps = p->arg.taps, i = k / taps, t = k % taps;
    if (p->kind == WN_Q8_SPMM)
        return k * COLS + c;
    return ((i / 4 * taps + t) * COLS + c) * 4 + i % 4;
}

struct q8_work {
    uint8_t *x;
    float *y, *mul;
    int32_t *bias, *off;
};

static void q8_group(const struct wn_q8_pack *p, size_t g, const struct q8_work *m, int8_t *w)
{
    const size_t rows = p->arg.rows, K = p->arg.channels * p->arg.taps;
    const struct wn_q8_args args = { .x = m->x,
                                     .n = COLS,
                                     .y = m->y,
                                     .y_stride = COLS * sizeof(float),
                                     .out = WN_OUT_F32,
                                     .bias = m->bias,
                                     .mul = m->mul,
                                     .lo = -INFINITY,
                                     .hi = INFINITY };
    for (size_t k0 = 0; k0 < K; k0 += COLS) {
        const size_t n = WN_MIN(COLS, K - k0);
        for (size_t c = 0; c < n; c++)
            m->x[at(p, k0 + c, c)] = 1;
        if (p->kind == WN_Q8_GEMM)
            wn_q8_gemm_run(&p->gemm[g], m->off, &args, 0, rows);
        else if (p->kind == WN_Q8_B4)
            wn_q8_spmm_b4_run(&p->b4[g], m->off, &args, 0, rows);
        else
            wn_q8_spmm_run(&p->spmm[g], m->off, &args, 0, rows);
        for (size_t o = 0; o < rows; o++)
            for (size_t c = 0; c < n; c++)
                w[o * K + k0 + c] = (int8_t)m->y[o * COLS + c];
        for (size_t c = 0; c < n; c++)
            m->x[at(p, k0 + c, c)] = 0;
    }
}

static size_t offsets(const struct wn_q8_pack *p)
{
    size_t n = 0;
    for (size_t g = 0; g < p->groups; g++)
        n = WN_MAX(n, p->kind == WN_Q8_GEMM ? p->gemm[g].noffs
                      : p->kind == WN_Q8_B4 ? p->b4[g].noffs
                                            : p->spmm[g].noffs);
    return n;
}

static void link_group(const struct wn_q8_pack *p, size_t g, const int32_t *koff, int32_t *off)
{
    if (p->kind == WN_Q8_GEMM)
        wn_q8_gemm_link(&p->gemm[g], koff, off);
    else if (p->kind == WN_Q8_B4)
        wn_q8_spmm_b4_link(&p->b4[g], koff, off);
    else
        wn_q8_spmm_link(&p->spmm[g], koff, off);
}

/* A dense pack's weights are read one by one. */
static void unpack_conv(const struct wn_q8_pack *p, int8_t *w)
{
    for (size_t g = 0; g < p->groups; g++)
        for (size_t o = 0; o < p->arg.rows; o++)
            for (size_t k = 0; k < p->arg.channels * p->arg.taps; k++)
                *w++ = wn_q8_conv_at(&p->conv[g], o, k / p->arg.taps, k % p->arg.taps);
}

enum winnow_status wn_q8_unpack(const void *pack, void *ret_w, struct winnow_err *err)
{
    const struct wn_q8_pack *p = pack;
    if (p->kind == WN_Q8_CONV) {
        unpack_conv(p, ret_w);
        return WINNOW_OK;
    }
    const size_t rows = p->arg.rows, K = p->arg.channels * p->arg.taps;
    const size_t quads = wn_q8_quads(p->arg.channels, p->arg.taps);
    WN_CLEANUP(wn_freep) uint8_t *x = room((4 * quads + K) * COLS);
    WN_CLEANUP(wn_freep) float *y = room(wn_round_up(rows, 4) * COLS * sizeof *y);
    WN_CLEANUP(wn_freep) float *mul = room((rows + 16) * sizeof *mul);
    WN_CLEANUP(wn_freep) int32_t *bias = room((rows + 16) * sizeof *bias);
    WN_CLEANUP(wn_freep) int32_t *koff = room((quads + K + 16) * sizeof *koff);
    WN_CLEANUP(wn_freep) int32_t *off = room((offsets(p) + 16) * sizeof *off);
    if (!x || !y || !mul || !bias || !koff || !off)
        return wn_fail(err, WINNOW_E_NOMEM, "unpacking weights");
    for (size_t o = 0; o < rows; o++)
        mul[o] = 1;
    for (size_t k = 0; k < (p->kind == WN_Q8_SPMM ? K : quads); k++) /* quads are numbered as at() lays them out */
        koff[k] = (int32_t)(k * COLS * (p->kind == WN_Q8_SPMM ? 1 : 4));
    const struct q8_work m = { x, y, mul, bias, off };
    for (size_t g = 0; g < p->groups; g++) {
        link_group(p, g, koff, off);
        q8_group(p, g, &m, (int8_t *)ret_w + g * rows * K);
    }
    return WINNOW_OK;
}
