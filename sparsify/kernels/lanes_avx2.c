/* lanes_avx2.c: lanes_body.h, 8 floats a vector: 14 sums, one weight. */
#include "sparsify/kernels/lanes.h"

#include <immintrin.h>

typedef __m256 vf;
#define VL             8
#define NV             2
#define TILE           7
#define V_LOAD(p)      _mm256_load_ps(p)
#define V_LOADU(p)     _mm256_loadu_ps(p)
#define V_STORE(p, v)  _mm256_store_ps(p, v)
#define V_STOREU(p, v) _mm256_storeu_ps(p, v)
#define V_SET(x)       _mm256_set1_ps(x)
#define V_ADD(a, b)    _mm256_add_ps(a, b)
#define V_SUB(a, b)    _mm256_sub_ps(a, b)
#define V_MUL(a, b)    _mm256_mul_ps(a, b)
#define V_FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define V_MAX(a, b)    _mm256_max_ps(a, b)
#define V_MIN(a, b)    _mm256_min_ps(a, b)
#define V_RNE(a)       _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define V_GT(a, b)     _mm256_cmp_ps(a, b, _CMP_GT_OQ)
#define V_LE(a, b)     _mm256_cmp_ps(a, b, _CMP_LE_OQ)
#define V_MAND(a, b)   _mm256_and_ps(a, b)
#define V_AND(m, x)    _mm256_and_ps(m, x)
#define S_FMA(a, b, c) __builtin_fmaf(a, b, c)

static inline float v_sum(__m256 x)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
#define V_SUM(x) v_sum(x)
#define KERNELS  wn_lanes_kernels__avx2
#include "sparsify/kernels/lanes_body.h"
