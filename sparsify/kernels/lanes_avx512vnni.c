/* lanes_avx512vnni.c: lanes_body.h, a whole pixel of 16 samples per vector. Checked natively where the CPU has it, and
 * through simd512.h's second backend elsewhere. */
#include "sparsify/kernels/lanes.h"

#include "engine/kernels/simd512.h"

typedef v512f vf;
#define VL             16
#define NV             1
#define TILE           7
#define V_LOAD(p)      v512f_load(p)
#define V_LOADU(p)     v512f_load(p)
#define V_STORE(p, v)  v512f_store(p, v)
#define V_STOREU(p, v) v512f_store(p, v)
#define V_SET(x)       v512f_set1(x)
#define V_ADD(a, b)    v512f_add(a, b)
#define V_SUB(a, b)    v512f_sub(a, b)
#define V_MUL(a, b)    v512f_mul(a, b)
#define V_FMA(a, b, c) v512f_fma(a, b, c)
#define V_MAX(a, b)    v512f_max(a, b)
#define V_MIN(a, b)    v512f_min(a, b)
#define V_RNE(a)       WN_V512(roundscale_ps)(a, 0x08)  /* to nearest even, no exceptions */
#define V_GT(a, b)     WN_V512(cmp_ps_mask)(a, b, 0x1e) /* ordered, quiet */
#define V_LE(a, b)     WN_V512(cmp_ps_mask)(a, b, 0x12)
#define V_MAND(a, b)   ((uint16_t)((a) & (b)))
#define V_AND(m, x)    WN_V512(maskz_mov_ps)(m, x)
#define S_FMA(a, b, c) __builtin_fmaf(a, b, c)

/** In an order of our own: the compilers' reductions differ. */
static inline float v_sum(v512f x)
{
    typedef float v4 __attribute__((vector_size(16)));
    v4 t[4];
    v512f_store((float *)t, x);
    v4 s = (t[0] + t[2]) + (t[1] + t[3]);
    return (s[0] + s[2]) + (s[1] + s[3]);
}
#define V_SUM(x) v_sum(x)
#define KERNELS  wn_lanes_kernels__avx512vnni
#include "sparsify/kernels/lanes_body.h"
