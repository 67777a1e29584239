/* cpu.c: which instruction set the kernels use: chosen once from CPUID (aarch64: from the kernel's auxiliary vector),
 * lowered by WINNOW_CPU, which takes the names below. */
#include "engine/kernels/kernels.h"

#ifdef __aarch64__
#include <sys/auxv.h>
#else
#include <cpuid.h>
#endif
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "winnow/winnow.h"

static enum wn_isa chosen;
static unsigned has; /* bits of those that this CPU runs */
static pthread_once_t chosen_once = PTHREAD_ONCE_INIT;

#ifdef __aarch64__
static const char *const names[WN_ISA_COUNT] = { "scalar", "neon", "neoni8mm" };
#else
static const char *const names[WN_ISA_COUNT] = { "scalar", "avx2", "avx2vnni", "avx512vnni" };
#endif

const char *wn_isa_name(enum wn_isa isa)
{
    return isa < WN_ISA_COUNT ? names[isa] : "?";
}

#ifdef __aarch64__
static bool probe(enum wn_isa isa)
{
    bool dot = getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
    switch (isa) {
    case WN_ISA_scalar:
        return true;
    case WN_ISA_neon:
        return dot;
    case WN_ISA_neoni8mm:
        return dot && getauxval(AT_HWCAP2) & HWCAP2_I8MM;
    default:
        return false;
    }
}
#else
static bool probe(enum wn_isa isa)
{
#ifdef WN_SIMDE
    return isa < WN_ISA_COUNT; /* the test build runs every ISA through SIMDe */
#else
    __builtin_cpu_init();
    unsigned a, b, c = 0, d;
    bool f16c = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C); /* clang 14's __builtin_cpu_supports lacks it */
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && f16c;
    switch (isa) {
    case WN_ISA_scalar:
        return true;
    case WN_ISA_avx2:
        return avx2;
    case WN_ISA_avx2vnni:
        return avx2 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 4); /* AVX-VNNI */
    case WN_ISA_avx512vnni:
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vnni");
    default:
        return false;
    }
#endif
}
#endif

static void choose(void)
{
    for (unsigned i = 0; i < WN_ISA_COUNT; i++)
        if (probe((enum wn_isa)i)) {
            has |= 1u << i;
            chosen = (enum wn_isa)i;
        }
    const char *want = getenv("WINNOW_CPU");
    if (!want || !*want)
        return;
    for (unsigned i = 0; i < WN_ISA_COUNT; i++)
        if (strcmp(want, names[i]) == 0) {
            chosen = (enum wn_isa)i;
            while (!(has >> chosen & 1))
                chosen--;
            if (chosen != i)
                fprintf(stderr, "winnow: WINNOW_CPU=%s is not supported by this CPU, using %s\n", want, names[chosen]);
            return;
        }
    fprintf(stderr, "winnow: WINNOW_CPU=%s is not one of", want);
    for (unsigned i = 0; i < WN_ISA_COUNT; i++)
        fprintf(stderr, "%s %s", i ? "," : "", names[i]);
    fputs("; ignored\n", stderr);
}

bool wn_cpu_has(enum wn_isa isa)
{
    pthread_once(&chosen_once, choose);
    return isa < WN_ISA_COUNT && (has >> isa & 1);
}

#if defined(__aarch64__) || defined(WN_SIMDE)
bool wn_cpu_has_vbmi(void)
{
    return false;
}
#else
bool wn_cpu_has_vbmi(void)
{
    return __builtin_cpu_supports("avx512vbmi");
}
#endif

enum wn_isa wn_cpu_isa(void)
{
    pthread_once(&chosen_once, choose);
    return chosen;
}

void wn_cpu_force(enum wn_isa isa)
{
    pthread_once(&chosen_once, choose);
    chosen = isa;
}

const char *winnow_cpu_isa(void)
{
    return wn_isa_name(wn_cpu_isa());
}

static char cpu_line[160];
static pthread_once_t cpu_line_once = PTHREAD_ONCE_INIT;

#ifdef __aarch64__
static void read_cpu_line(void)
{
    unsigned long hwcap = getauxval(AT_HWCAP), hwcap2 = getauxval(AT_HWCAP2);
    snprintf(cpu_line, sizeof cpu_line, "aarch64 CPU (asimd%s%s%s)", hwcap & HWCAP_ASIMDDP ? " dotprod" : "",
             hwcap2 & HWCAP2_I8MM ? " i8mm" : "", wn_cpu_isa() == WN_ISA_scalar ? "; using scalar" : "");
}
#else
static void read_cpu_line(void)
{
    unsigned r[12] = { 0 }, max = 0, b, c, d;
    if (__get_cpuid(0x80000000u, &max, &b, &c, &d) && max >= 0x80000004u)
        for (unsigned i = 0; i < 3; i++)
            __get_cpuid(0x80000002u + i, &r[4 * i], &r[4 * i + 1], &r[4 * i + 2], &r[4 * i + 3]);
    char brand[49];
    memcpy(brand, r, 48);
    brand[48] = '\0';
    char *name = brand + strspn(brand, " ");
    for (size_t n = strlen(name); n && name[n - 1] == ' '; n--)
        name[n - 1] = '\0';
    unsigned a = 0;
    __get_cpuid(1, &a, &b, &c, &d);
    unsigned family = ((a >> 8) & 15) + ((a >> 20) & 255), model = ((a >> 4) & 15) | ((a >> 12) & 0xf0);
    snprintf(cpu_line, sizeof cpu_line, "%s (family %u model %u;%s%s%s%s%s%s)", *name ? name : "unknown CPU", family,
             model, wn_cpu_has(WN_ISA_avx2) ? " avx2 fma f16c" : "", wn_cpu_has(WN_ISA_avx2vnni) ? " avxvnni" : "",
             __builtin_cpu_supports("avx512f") ? " avx512f" : "", __builtin_cpu_supports("avx512bw") ? " avx512bw" : "",
             __builtin_cpu_supports("avx512vnni") ? " avx512vnni" : "",
             wn_cpu_isa() == WN_ISA_scalar ? " using scalar" : "");
}
#endif

const char *winnow_cpu_name(void)
{
    pthread_once(&cpu_line_once, read_cpu_line);
    return cpu_line;
}
