/* checkkern.h: checks and times kernels: seeded random shapes, fenced buffers, a guard that survives crashes.
 *
 * A family's file tests/checkkern/<family>.c lists its kernels and registers them; nothing else is to be edited:
 *
 *     static void check(struct ck *ck, const struct ck_kernel *k)     one random shape; called --iters times
 *     {
 *         wn_f32_gemm_fn *fn = (wn_f32_gemm_fn *)k->fn;
 *         size_t rows = 1 + ck_rand(ck, 33) ...;
 *         ck_shape(ck, "rows=%zu k=%zu", rows, depth);                printed if this one fails
 *         float *x = ck_buf(ck, x_bytes);  ck_fill_f32(ck, x, n);  ck_freeze(ck, x);
 *         float *want = ck_buf(ck, y_bytes), *got = ck_buf(ck, y_bytes);
 *         reference(…want…);
 *         CK_CALL(ck, fn(…got…));
 *         ck_near(ck, want, got, n, size);                            values; guards are verified by the runner
 *     }
 *     static void bench(struct ck *ck, const struct ck_kernel *k)     the same few shapes for every kernel, or NULL
 *     {
 *         ck_shape(ck, "768x768x128");
 *         CK_BENCH(ck, 768.0 * 768 * 128, fn(…));                     multiply-accumulates of one call
 *     }
 *     static const struct ck_kernel kernels[] = {
 *     #define KERNEL(isa, MR, NR) CK_KERNEL(wn_f32_gemm_##MR##x##NR##__##isa, isa, check, bench)
 *     #include "engine/kernels/f32_gemm/f32_gemm.def"
 *     #undef KERNEL
 *     };
 *     CK_FAMILY(kernels)
 *
 * Replay: `make check-kernels SEED=77 K='q8_spmm_b4_*__avx2'`; iteration i uses seed SEED + i, and a failure prints it.
 */
#ifndef CHECKKERN_H
#define CHECKKERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/arena.h"
#include "engine/kernels/kernels.h"

struct ck; /* the check in progress; one thread */
typedef void ck_any(void);

struct ck_kernel {
    const char *name;
    enum wn_isa isa;
    ck_any *fn; /* cast back to the family's type */
    void (*check)(struct ck *ck, const struct ck_kernel *k);
    void (*bench)(struct ck *ck, const struct ck_kernel *k);
};
#define CK_KERNEL(fn_, isa_, check_, bench_) { #fn_, WN_ISA_##isa_, (ck_any *)(fn_), check_, bench_ },
#define CK_FAMILY(kernels_)                                                                                            \
    __attribute__((constructor)) static void ck_register_family(void)                                                  \
    {                                                                                                                  \
        ck_register(kernels_, sizeof(kernels_) / sizeof((kernels_)[0]));                                               \
    }
/** Add `n` kernels (kept by reference). Families run in the order of their first kernel's name. */
void ck_register(const struct ck_kernel *kernels, size_t n);

/* ---- random shapes and data ---- */
/** 0 .. n-1, n >= 1. */
size_t ck_rand(struct ck *ck, size_t n);
uint64_t ck_rand64(struct ck *ck);
/** One of n doubles. */
double ck_pick(struct ck *ck, const double *from, size_t n);
/** Uniform in [-1, 1). */
float ck_float(struct ck *ck);
/** True in one of four iterations: fill with extremes (255, +-127, runs of equal sign) instead of random bytes. */
bool ck_extremes(struct ck *ck);
/** Random floats in [-1, 1). */
void ck_fill_f32(struct ck *ck, float *p, size_t n);
/** Random bytes, or 0/255 only when `extremes`. */
void ck_fill_u8(struct ck *ck, uint8_t *p, size_t n, bool extremes);
/** Random s8 of which `density` are not 0; all of +-127 and -128, mostly of one sign per run, when `extremes`. */
void ck_fill_s8(struct ck *ck, int8_t *p, size_t n, double density, bool extremes);
/** n column masks: ~0u, of which about one in eight is 0. */
uint32_t *ck_mask(struct ck *ck, size_t n);

/* ---- memory of one iteration; all of it is released by the runner, also after a crash ---- */
/** `bytes` at a 64-byte boundary, preset to 0xa5, with guard bytes before and behind and an unreadable page at most
 *  WN_OVERREAD + 63 bytes behind the end. The runner fails the kernel when a guard changed. Aborts when out of memory.
 */
void *ck_buf(struct ck *ck, size_t bytes);
/** Writing to this ck_buf from now on is a crash (inputs of a kernel). */
void ck_freeze(struct ck *ck, void *buf);
/** For packers; emptied after every iteration. */
struct wn_arena *ck_arena(struct ck *ck);

/* ---- verdicts ---- */
/** Describe the shape, for failure messages and bench lines. */
__attribute__((format(printf, 2, 3))) void ck_shape(struct ck *ck, const char *fmt, ...);
__attribute__((format(printf, 2, 3))) void ck_fail(struct ck *ck, const char *fmt, ...);
/** Equal bytes, else fails with the first difference. */
void ck_same(struct ck *ck, const void *want, const void *got, size_t bytes);
void ck_same_i32(struct ck *ck, const int32_t *want, const int32_t *got, size_t n);
/** |want - got| <= 1e-5 * (1 + size[i]), where size[i] >= sum of magnitudes (NULL: |want|); NaN equals NaN and an
 *  infinity only itself. */
void ck_near(struct ck *ck, const float *want, const float *got, const float *size, size_t n);
/** A call that may crash: the kernel fails, and the run goes on with the next kernel. */
#define CK_CALL(ck, ...)                                                                                               \
    do {                                                                                                               \
        ck_arm(ck, true);                                                                                              \
        __VA_ARGS__;                                                                                                   \
        ck_arm(ck, false);                                                                                             \
    } while (0)
void ck_arm(struct ck *ck, bool on);

/* ---- timing: best of as many calls as fit a fixed time; scalar's line of the same shape gives the ratio ---- */
#define CK_BENCH(ck, macs, ...)                                                                                        \
    do {                                                                                                               \
        while (ck_bench_more(ck)) {                                                                                    \
            __VA_ARGS__;                                                                                               \
        }                                                                                                              \
        ck_bench_end(ck, macs);                                                                                        \
    } while (0)
bool ck_bench_more(struct ck *ck);
void ck_bench_end(struct ck *ck, double macs);

/** The command line; returns the exit status. */
int ck_main(int argc, char **argv);

#endif
