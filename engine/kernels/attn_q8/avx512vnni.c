/* avx512vnni.c: 6 keys (or 4 features) by 64 queries. vpdpbusd wants one operand unsigned: that is the key's or value's
 * byte; what is kept of queries and weights is shifted by 128 into signed bytes, and sums make up for it at the end. */
#define WN_F32_VEC512
#include "engine/kernels/f32_math.h"

#define NAME    wn_attn_q8_6x64__avx512vnni
#define NV      4
#define KR      6
#define CENTRED 0
#define OFFSET  128
#define CELL    4

typedef v512i vi;
#define vi_load  v512i_load
#define vi_store v512i_store
#define vi_set1  v512i_set1_i32
#define vi_zero  v512i_zero
#define vi_add   v512i_add_i32
#define vi_sub   v512i_sub_i32
#define vi_mul   v512i_mullo_i32
#define vi_min   v512i_min_i32
#define vi_max   v512i_max_i32
#define vi_or    v512i_or
#define vi_shl   v512i_slli_i32
#define vi_to_f  v512i_to_f32
#define vf_to_i  v512f_to_i32
#define vi_as_f  v512i_as_f
#define vi_sum   v512i_sum_i32

struct quad {
    vi x;
};

/* Four bytes of a key or value for all lanes. */
WN_INLINE struct quad spread(const void *p)
{
    return (struct quad){ v512i_bcast32(p) };
}

WN_INLINE struct quad quad_load(const uint8_t *p)
{
    return (struct quad){ v512i_load(p) };
}

WN_INLINE vi dot(vi acc, struct quad x, struct quad w)
{
    return v512i_dpbusd(acc, w.x, x.x);
}

/* Quads of queries, less 128. */
WN_INLINE void keep_queries(uint8_t *to, const uint8_t *q)
{
    v512i_store(to, v512i_xor(v512i_load(q), v512i_set1_i8(-128)));
}

/* i + zp, cut to bytes: lane L holds four queries of i[0], then of i[1], ... */
WN_INLINE vi bytes(const vi i[4], int32_t zp)
{
    const vi z = v512i_set1_i16((int16_t)zp);
    return v512i_packus_i16(v512i_adds_i16(v512i_packs_i32(i[0], i[1]), z),
                            v512i_adds_i16(v512i_packs_i32(i[2], i[3]), z));
}

/* The same as quads. */
WN_INLINE vi quads(const vi i[4], int32_t zp)
{
    static const int8_t transpose[16] = { 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15 };
    return v512i_shuffle_i8(bytes(i, zp), v512i_lanes16(transpose));
}

/* Weights of four keys, rounded, to be 0 .. 255 with the zero point; less 128. */
WN_INLINE void keep_weights(uint8_t *to, const vi i[4], int32_t zp)
{
    v512i_store(to, v512i_xor(quads(i, zp), v512i_set1_i8(-128)));
}

/* Four features of `width` queries. */
WN_INLINE void put_quads(void *y, const vi i[4], int32_t zp, unsigned width)
{
    if (width == VL)
        v512i_store(y, quads(i, zp));
    else
        v512f_store_part(y, v512i_as_f(quads(i, zp)), width);
}

/* n features. */
WN_INLINE void put_planes(uint8_t *y, size_t stride, size_t n, const vi i[4], int32_t zp, unsigned width)
{
    static const int32_t order[16] = { 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15 };
    uint8_t rows[4][16];
    v512i_store(rows, v512i_permute_i32(bytes(i, zp), v512i_load(order)));
    for (size_t f = 0; f < n; f++, y += stride) {
        if (width == VL)
            memcpy(y, rows[f], 16);
        else
            memcpy(y, rows[f], width);
    }
}

#include "engine/kernels/attn_q8/kernel.inc"
