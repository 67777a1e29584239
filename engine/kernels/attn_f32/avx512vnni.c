/* avx512vnni.c: 6 keys or features by 64 queries. */
#define WN_F32_VEC512
#define NAME wn_attn_f32_6x64__avx512vnni
#define NV   4
#include "engine/kernels/attn_f32/kernel.inc"
