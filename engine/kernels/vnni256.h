/* vnni256.h: AVX-VNNI's multiply, for avx2vnni.c files. The test build, -DWN_SIMDE, runs them on any machine with AVX2.
 */
#ifndef WN_VNNI256_H
#define WN_VNNI256_H

#include <immintrin.h>
#ifdef WN_SIMDE
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wall"
#pragma GCC diagnostic ignored "-Wextra"
#include <simde/x86/avx512/dpbusd.h>
#pragma GCC diagnostic pop
#endif

/** acc + four u8 * s8 products per dword; exact. */
static inline __attribute__((always_inline)) __m256i wn_vnni256_dpbusd(__m256i acc, __m256i u8, __m256i s8)
{
#ifdef WN_SIMDE
    return simde_mm256_dpbusd_epi32(acc, u8, s8);
#else
    return _mm256_dpbusd_avx_epi32(acc, u8, s8);
#endif
}

#endif
