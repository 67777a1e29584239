/* neon.c: 6 keys or features by 16 queries. */
#define NAME wn_attn_f32_6x16__neon
#define NV   2
#include "engine/kernels/attn_f32/kernel.inc"
