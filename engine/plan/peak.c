/* peak.c: winnow_cpu_peak(): what this CPU multiplies and adds, by the dense kernels on data that its first cache
 * holds. */
#include <string.h>
#include "engine/kernels/f32_gemm/f32_gemm.h"
#include "engine/kernels/q8_gemm/q8_gemm.h"
#include "engine/plan/scratch.h"

enum { ROWS = 48, K = 256, COLS = 128, TURNS = 12 };

/* GMAC/s of the best of some turns of `run`. */
static double best_rate(void (*run)(void *arg), void *arg)
{
    uint64_t best = UINT64_MAX;
    for (int turn = 0; turn < TURNS; turn++) {
        const uint64_t begin = wn_now_ns();
        for (int i = 0; i < 20; i++)
            run(arg);
        best = WN_MIN(best, wn_now_ns() - begin);
    }
    return 20.0 * ROWS * K * COLS / (double)WN_MAX(best, (uint64_t)1);
}

struct peak {
    struct wn_arena arena;
    struct wn_f32_gemm f32;
    struct wn_q8_gemm q8;
    struct wn_f32_args f32_args;
    struct wn_q8_args q8_args;
    int32_t *off;
};

static void run_f32(void *arg)
{
    struct peak *p = arg;
    wn_f32_gemm_run(&p->f32, p->off, &p->f32_args, 0, ROWS);
}

static void run_q8(void *arg)
{
    struct peak *p = arg;
    wn_q8_gemm_run(&p->q8, p->off, &p->q8_args, 0, ROWS);
}

static double f32_peak(struct peak *p)
{
    float *w = wn_arena_calloc(&p->arena, ROWS * K, sizeof *w);
    float *x = wn_arena_calloc(&p->arena, K * COLS + 64, sizeof *x);
    float *y = wn_arena_calloc(&p->arena, ROWS * COLS, sizeof *y);
    p->off = wn_arena_calloc(&p->arena, K + 16, sizeof *p->off);
    if (!w || !x || !y || !p->off || wn_f32_gemm_pack(&p->arena, w, ROWS, K, &p->f32, NULL) != WINNOW_OK)
        return 0;
    for (int k = 0; k < K; k++)
        p->off[k] = k * COLS * (int32_t)sizeof *x;
    p->f32_args = (struct wn_f32_args){ .x = x, .n = COLS, .y = y, .y_stride = COLS, .lo = -1, .hi = 1 };
    return best_rate(run_f32, p);
}

static double q8_peak(struct peak *p)
{
    int8_t *w = wn_arena_calloc(&p->arena, ROWS * K, 1);
    uint8_t *x = wn_arena_calloc(&p->arena, K * COLS + 2 * WN_OVERREAD, 1);
    uint8_t *y = wn_arena_calloc(&p->arena, ROWS * COLS + 2 * WN_OVERREAD, 1);
    float *mul = wn_arena_calloc(&p->arena, ROWS + 16, sizeof *mul);
    int32_t *bias = wn_arena_calloc(&p->arena, ROWS + 16, sizeof *bias);
    int32_t *koff = wn_arena_calloc(&p->arena, K / 4 + 16, sizeof *koff);
    if (!w || !x || !y || !mul || !bias || !koff)
        return 0;
    memset(w, 1, ROWS * K);
    if (wn_q8_gemm_pack(wn_q8_gemm_stream_of(wn_cpu_isa()), w, ROWS, K, 1, 255, &p->arena, &p->q8, NULL) != WINNOW_OK ||
        !(p->off = wn_arena_calloc(&p->arena, p->q8.noffs + 16, sizeof *p->off)))
        return 0;
    for (int k = 0; k < K / 4; k++)
        koff[k] = k * COLS * 4;
    wn_q8_gemm_link(&p->q8, koff, p->off);
    p->q8_args = (struct wn_q8_args){
        .x = x, .n = COLS, .y = y, .y_stride = COLS * 4, .out = WN_OUT_QUAD, .bias = bias, .mul = mul, .q_hi = 255
    };
    return best_rate(run_q8, p);
}

double winnow_cpu_peak(bool int8)
{
    struct peak p = { 0 };
    wn_arena_init(&p.arena, 0);
    const double rate = int8 ? q8_peak(&p) : f32_peak(&p);
    wn_arena_done(&p.arena);
    return rate;
}
