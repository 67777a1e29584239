/* lanes_avx512vnni.c: lanes_body.h, a whole pixel of 16 samples per vector. */
#include "sparsify/kernels/lanes.h"

#include <immintrin.h>

typedef __m512 vf;
#define VL             16
#define NV             1
#define TILE           7
#define V_LOAD(p)      _mm512_load_ps(p)
#define V_LOADU(p)     _mm512_loadu_ps(p)
#define V_STORE(p, v)  _mm512_store_ps(p, v)
#define V_STOREU(p, v) _mm512_storeu_ps(p, v)
#define V_SET(x)       _mm512_set1_ps(x)
#define V_ADD(a, b)    _mm512_add_ps(a, b)
#define V_SUB(a, b)    _mm512_sub_ps(a, b)
#define V_MUL(a, b)    _mm512_mul_ps(a, b)
#define V_FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define V_MAX(a, b)    _mm512_max_ps(a, b)
#define V_MIN(a, b)    _mm512_min_ps(a, b)
#define V_RNE(a)       _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define V_GT(a, b)     _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ)
#define V_LE(a, b)     _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ)
#define V_MAND(a, b)   ((__mmask16)((a) & (b)))
#define V_AND(m, x)    _mm512_maskz_mov_ps(m, x)
#define V_SUM(x)       _mm512_reduce_add_ps(x)
#define S_FMA(a, b, c) __builtin_fmaf(a, b, c)
#define KERNELS        wn_lanes_kernels__avx512vnni
#include "sparsify/kernels/lanes_body.h"
