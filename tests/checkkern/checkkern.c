/* checkkern.c: the runner behind checkkern.h.
 *
 * DESIGN  One sigsetjmp per kernel: CK_CALL only says that a crash from here on is the kernel's. Everything an
 * iteration allocates hangs off struct ck, so that jumping out of it leaks nothing. Buffers are whole pages with an
 *         unreadable page on either side; what lies between data and pages is filled and verified. */
#include "tests/checkkern/checkkern.h"

#include <fnmatch.h>
#include <getopt.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE            4096u
#define GUARD           0xa5
#define MAX_BUFS        256
#define MAX_KERNELS     1024
#define MAX_TIMES       2048
#define BENCH_NS        60000000ull
#define BENCH_MIN_CALLS 3

struct buf {
    uint8_t *pages; /* first readable page */
    size_t total;   /* readable bytes */
    uint8_t *data;
    size_t bytes;
};

struct bench_time {
    char what[256]; /* family and shape */
    double ns;
};

struct ck {
    const struct ck_kernel *kernel;
    uint64_t seed, rng;
    bool failed, armed;
    char shape[160];
    struct buf bufs[MAX_BUFS];
    size_t n_bufs;
    struct wn_arena arena;
    /* one CK_BENCH in progress */
    uint64_t bench_start, call_start, call_cpu, best_ns;
    unsigned calls;
    struct bench_time scalar[MAX_TIMES];
    size_t n_scalar;
    double ghz;
};

static const struct ck_kernel *kernels[MAX_KERNELS];
static size_t n_kernels;
static struct ck the_ck;
static sigjmp_buf crash_jump;

void ck_register(const struct ck_kernel *list, size_t n)
{
    if (!n)
        return;
    if (n_kernels + n > MAX_KERNELS)
        wn_die(__FILE__, __LINE__, "too many kernels");
    /* keep families sorted by their first kernel: constructors run in link order */
    size_t at = 0;
    while (at < n_kernels && strcmp(kernels[at]->name, list[0].name) < 0)
        at++;
    memmove(&kernels[at + n], &kernels[at], (n_kernels - at) * sizeof kernels[0]);
    for (size_t i = 0; i < n; i++)
        kernels[at + i] = &list[i];
    n_kernels += n;
}

/* ---- random numbers ---- */
uint64_t ck_rand64(struct ck *ck)
{
    uint64_t z = (ck->rng += 0x9e3779b97f4a7c15ull); /* splitmix64 */
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

size_t ck_rand(struct ck *ck, size_t n)
{
    return (size_t)(ck_rand64(ck) % n);
}

double ck_pick(struct ck *ck, const double *from, size_t n)
{
    return from[ck_rand(ck, n)];
}

float ck_float(struct ck *ck)
{
    return (float)(int64_t)(ck_rand64(ck) >> 40) * (2.0f / 16777216.0f) - 1.0f;
}

bool ck_extremes(struct ck *ck)
{
    return ck_rand(ck, 4) == 0;
}

void ck_fill_f32(struct ck *ck, float *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = ck_float(ck);
}

void ck_fill_u8(struct ck *ck, uint8_t *p, size_t n, bool extremes)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t r = ck_rand64(ck);
        p[i] = extremes ? (r % 8 ? 255 : 0) : (uint8_t)(r >> 32);
    }
}

void ck_fill_s8(struct ck *ck, int8_t *p, size_t n, double density, bool extremes)
{
    static const int8_t edge[] = { 127, 127, 127, -127, -128, -128, 126, 1 };
    bool negative = false;
    for (size_t i = 0; i < n; i++) {
        uint64_t r = ck_rand64(ck);
        if (r % 32 == 0)
            negative = !negative;
        if ((double)(r >> 11) * 0x1p-53 >= density)
            p[i] = 0;
        else if (extremes)
            p[i] = r % 7 ? (negative ? -128 : 127) : edge[(r >> 3) % WN_COUNT(edge)];
        else
            p[i] = (int8_t)((int)(ck_rand64(ck) % 127 + 1) * (ck_rand64(ck) & 1 ? 1 : -1));
    }
}

uint32_t *ck_mask(struct ck *ck, size_t n)
{
    uint32_t *m = ck_buf(ck, n * sizeof *m);
    for (size_t i = 0; i < n; i++)
        m[i] = ck_rand(ck, 8) ? ~0u : 0u;
    ck_freeze(ck, m);
    return m;
}

/* ---- memory ---- */
void *ck_buf(struct ck *ck, size_t bytes)
{
    if (ck->n_bufs == MAX_BUFS)
        wn_die(__FILE__, __LINE__, "too many buffers in one check");
    size_t total = wn_round_up(64 + wn_round_up(bytes, 64) + WN_OVERREAD, PAGE);
    uint8_t *map = mmap(NULL, total + 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED || mprotect(map, PAGE, PROT_NONE) || mprotect(map + PAGE + total, PAGE, PROT_NONE))
        wn_die(__FILE__, __LINE__, "out of memory");
    struct buf *b = &ck->bufs[ck->n_bufs++];
    *b = (struct buf){ .pages = map + PAGE, .total = total, .bytes = bytes };
    b->data = b->pages + total - WN_OVERREAD - wn_round_up(bytes, 64);
    memset(b->pages, GUARD, total);
    return b->data;
}

void ck_freeze(struct ck *ck, void *data)
{
    for (size_t i = 0; i < ck->n_bufs; i++)
        if (ck->bufs[i].data == data) {
            if (mprotect(ck->bufs[i].pages, ck->bufs[i].total, PROT_READ))
                wn_die(__FILE__, __LINE__, "mprotect");
            return;
        }
    wn_die(__FILE__, __LINE__, "ck_freeze: not a ck_buf");
}

struct wn_arena *ck_arena(struct ck *ck)
{
    return &ck->arena;
}

static void check_guards(struct ck *ck)
{
    for (size_t i = 0; i < ck->n_bufs; i++) {
        const struct buf *b = &ck->bufs[i];
        for (const uint8_t *p = b->pages; p < b->pages + b->total; p++) {
            if (p == b->data)
                p += b->bytes;
            if (p < b->pages + b->total && *p != GUARD) {
                ck_fail(ck, "wrote outside buffer %zu (%zu bytes): at offset %td", i, b->bytes, p - b->data);
                return;
            }
        }
    }
}

static void release(struct ck *ck)
{
    for (size_t i = 0; i < ck->n_bufs; i++)
        munmap(ck->bufs[i].pages - PAGE, ck->bufs[i].total + 2 * PAGE);
    ck->n_bufs = 0;
    wn_arena_done(&ck->arena);
}

/* ---- verdicts ---- */
void ck_shape(struct ck *ck, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(ck->shape, sizeof ck->shape, fmt, ap);
    va_end(ap);
}

void ck_fail(struct ck *ck, const char *fmt, ...)
{
    if (ck->failed)
        return;
    ck->failed = true;
    printf("FAIL  %s seed=%llu %s: ", ck->kernel->name, (unsigned long long)ck->seed, ck->shape);
    va_list ap;
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
}

void ck_same(struct ck *ck, const void *want, const void *got, size_t bytes)
{
    const uint8_t *a = want, *b = got;
    for (size_t i = 0; i < bytes; i++)
        if (a[i] != b[i]) {
            ck_fail(ck, "byte %zu of %zu: want %u, got %u", i, bytes, a[i], b[i]);
            return;
        }
}

void ck_same_i32(struct ck *ck, const int32_t *want, const int32_t *got, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (want[i] != got[i]) {
            ck_fail(ck, "element %zu of %zu: want %d, got %d", i, n, want[i], got[i]);
            return;
        }
}

void ck_near(struct ck *ck, const float *want, const float *got, const float *size, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float a = want[i], b = got[i];
        if ((isnan(a) && isnan(b)) || a == b)
            continue;
        float tol = 1e-5f * (1.0f + (size ? size[i] : fabsf(a)));
        if (isnan(a) || isnan(b) || isinf(a) || isinf(b) || fabsf(a - b) > tol) {
            ck_fail(ck, "element %zu of %zu: want %.9g, got %.9g (tolerance %.3g)", i, n, (double)a, (double)b,
                    (double)tol);
            return;
        }
    }
}

void ck_arm(struct ck *ck, bool on)
{
    ck->armed = on;
    __asm__ volatile("" ::: "memory");
}

static void on_crash(int sig)
{
    if (!the_ck.armed) { /* the harness's own bug */
        signal(sig, SIG_DFL);
        raise(sig);
        return;
    }
    siglongjmp(crash_jump, sig);
}

/* ---- timing ---- */
#ifdef __aarch64__
#define ADD "add %0, %0, #1\n\t"
#else
#define ADD "add $1, %0\n\t"
#endif
/* Clock estimate: a chain of dependent 1-cycle adds. */
static double measure_ghz(void)
{
    double best = 0;
    for (unsigned round = 0; round < 5; round++) {
        uint64_t t = wn_now_ns(), x = round;
        for (unsigned i = 0; i < 200000; i++)
            __asm__ volatile(ADD ADD ADD ADD ADD ADD ADD ADD : "+r"(x));
        double ns = (double)(wn_now_ns() - t), ghz = 8 * 200000 / ns;
        best = ghz > best ? ghz : best;
    }
    return best;
}

/* A call's time is the lesser of wall and CPU time: the first is exact for short calls, the second is not disturbed by
 * neighbours on a busy machine. */
bool ck_bench_more(struct ck *ck)
{
    uint64_t now = wn_now_ns();
    uint64_t cpu = wn_thread_cpu_ns();
    if (!ck->calls) {
        ck->bench_start = now;
        ck->best_ns = UINT64_MAX;
    } else {
        ck->best_ns = WN_MIN(ck->best_ns, WN_MIN(now - ck->call_start, cpu - ck->call_cpu));
        if (ck->calls >= BENCH_MIN_CALLS && now - ck->bench_start > BENCH_NS) {
            ck->calls = 0;
            return false;
        }
    }
    ck->calls++;
    ck->call_cpu = wn_thread_cpu_ns();
    ck->call_start = wn_now_ns();
    return true;
}

/* MACs per cycle at which the FMA (or int8 multiply) pipes are full: two of them on all CPUs of interest. */
static double peak_per_cycle(const struct ck_kernel *k)
{
    bool q8 = strncmp(k->name, "wn_q8", 5) == 0;
#ifdef __aarch64__
    return k->isa == WN_ISA_scalar ? 0 : q8 ? 32 : 8;
#else
    switch (k->isa) {
    case WN_ISA_avx2:
        return q8 ? 32 : 16;
    case WN_ISA_avx2vnni:
        return q8 ? 64 : 16;
    case WN_ISA_avx512vnni:
        return q8 ? 128 : 32;
    default:
        return 0;
    }
#endif
}

void ck_bench_end(struct ck *ck, double macs)
{
    double ns = (double)ck->best_ns, peak = peak_per_cycle(ck->kernel), per_cycle = macs / ns / ck->ghz;
    struct bench_time t = { .ns = ns };
    const char *name = ck->kernel->name;
    const char *tail = strstr(name, "__");
    size_t family = tail ? (size_t)(tail - name) : strlen(name);
    while (family && strchr("0123456789x", name[family - 1]))
        family--; /* without the tile */
    snprintf(t.what, sizeof t.what, "%.*s %s", (int)WN_MIN(family, 90u), name, ck->shape);
    printf("%-44s %-34s %10.1f us %8.2f GMAC/s %6.2f MAC/cycle", name, ck->shape, ns / 1e3, macs / ns, per_cycle);
    if (peak > 0)
        printf(" %5.1f%% of peak", 100 * per_cycle / peak);
    if (ck->kernel->isa == WN_ISA_scalar) {
        if (ck->n_scalar < MAX_TIMES)
            ck->scalar[ck->n_scalar++] = t;
    } else {
        for (size_t i = 0; i < ck->n_scalar; i++)
            if (strcmp(ck->scalar[i].what, t.what) == 0) {
                printf(" %6.1fx scalar", ck->scalar[i].ns / ns);
                break;
            }
    }
    putchar('\n');
    fflush(stdout);
}

/* ---- the run ---- */
static void run_kernel(struct ck *ck, const struct ck_kernel *k, uint64_t seed, unsigned iters)
{
    ck->kernel = k;
    ck->failed = false;
    ck->shape[0] = '\0';
    int sig = sigsetjmp(crash_jump, 1);
    if (sig) {
        ck->armed = false;
        ck_fail(ck, "%s", strsignal(sig));
        release(ck);
        return;
    }
    for (unsigned i = 0; i < iters && !ck->failed; i++) {
        ck->seed = ck->rng = seed + i;
        k->check(ck, k);
        check_guards(ck);
        release(ck);
    }
}

static bool wanted(const struct ck_kernel *k, const char *glob)
{
    return !glob || !*glob || fnmatch(glob, k->name, 0) == 0 || fnmatch(glob, k->name + 3, 0) == 0;
}

static void bench_all(struct ck *ck, const char *glob)
{
    ck->ghz = measure_ghz();
    printf("clock %.2f GHz\n", ck->ghz);
    for (size_t i = 0; i < n_kernels; i++)
        if (wanted(kernels[i], glob) && kernels[i]->bench && wn_cpu_has(kernels[i]->isa)) {
            ck->kernel = kernels[i];
            ck->seed = ck->rng = 1;
            kernels[i]->bench(ck, kernels[i]);
            release(ck);
        }
}

static int check_all(struct ck *ck, const char *glob, uint64_t seed, unsigned iters, const char *expect)
{
    unsigned passed = 0, failed = 0, skipped = 0;
    if (expect && strcmp(expect, wn_isa_name(wn_cpu_isa())) != 0) {
        printf("FAIL  dispatch: uses %s, not %s\n", wn_isa_name(wn_cpu_isa()), expect);
        failed++;
    }
    for (size_t i = 0; i < n_kernels; i++) {
        const struct ck_kernel *k = kernels[i];
        if (!wanted(k, glob))
            continue;
        if (!wn_cpu_has(k->isa)) {
            printf("skip  %s: this CPU lacks %s\n", k->name, wn_isa_name(k->isa));
            skipped++;
            continue;
        }
        run_kernel(ck, k, seed, iters);
        if (!ck->failed)
            printf("ok    %s\n", k->name);
        *(ck->failed ? &failed : &passed) += 1;
        fflush(stdout);
    }
    printf("checkkern: %u kernels passed, %u failed, %u skipped\n", passed, failed, skipped);
    return failed || passed + skipped == 0;
}

int ck_main(int argc, char **argv)
{
    static const struct option longs[] = { { "seed", required_argument, NULL, 's' },
                                           { "iters", required_argument, NULL, 'i' },
                                           { "filter", required_argument, NULL, 'f' },
                                           { "bench", no_argument, NULL, 'b' },
                                           { "list", no_argument, NULL, 'l' },
                                           { "expect", required_argument, NULL, 'e' },
                                           { NULL, 0, NULL, 0 } };
    const char *glob = getenv("K"), *env_seed = getenv("SEED"), *expect = NULL;
    uint64_t seed = env_seed && *env_seed ? strtoull(env_seed, NULL, 0) : 1;
    unsigned iters = 60;
    bool bench = false;
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;)
        switch (c) {
        case 's':
            seed = strtoull(optarg, NULL, 0);
            break;
        case 'i':
            iters = (unsigned)strtoul(optarg, NULL, 0);
            break;
        case 'f':
            glob = optarg;
            break;
        case 'b':
            bench = true;
            break;
        case 'e':
            expect = optarg;
            break;
        case 'l':
            for (size_t i = 0; i < n_kernels; i++)
                puts(kernels[i]->name);
            return 0;
        default:
            fprintf(stderr, "usage: %s [--seed N] [--iters N] [--filter GLOB] [--bench] [--list] [--expect ISA]\n",
                    argv[0]);
            return 2;
        }
    struct sigaction sa = { .sa_handler = on_crash };
    static const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE };
    for (size_t i = 0; i < WN_COUNT(signals); i++)
        sigaction(signals[i], &sa, NULL);
    if (bench) {
        bench_all(&the_ck, glob);
        return 0;
    }
    return check_all(&the_ck, glob, seed, iters, expect);
}
