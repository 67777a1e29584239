/* simd512_ops.h: the operations of simd512.h that are checked one by one. Each takes up to three 64-byte operands and
 * gives 64 bytes; floats and integers are the same bytes. */
#ifndef CHECKKERN_SIMD512_OPS_H
#define CHECKKERN_SIMD512_OPS_H

/*  name            with a, b, c: v512i (F(a) as floats) */
#define SIMD512_OPS(OP)                                                                                                \
    OP(set1_i16, v512i_set1_i16(((const int16_t *)pa)[0]))                                                             \
    OP(bcast32, v512i_bcast32(pa))                                                                                     \
    OP(add_i32, v512i_add_i32(a, b))                                                                                   \
    OP(sub_i32, v512i_sub_i32(a, b))                                                                                   \
    OP(mullo_i32, v512i_mullo_i32(a, b))                                                                               \
    OP(add_i16, v512i_add_i16(a, b))                                                                                   \
    OP(adds_i16, v512i_adds_i16(a, b))                                                                                 \
    OP(adds_u8, v512i_adds_u8(a, b))                                                                                   \
    OP(min_i32, v512i_min_i32(a, b))                                                                                   \
    OP(max_i16, v512i_max_i16(a, b))                                                                                   \
    OP(min_u8, v512i_min_u8(a, b))                                                                                     \
    OP(max_u8, v512i_max_u8(a, b))                                                                                     \
    OP(andnot, v512i_andnot(a, b))                                                                                     \
    OP(select, v512i_select(a, b, c))                                                                                  \
    OP(madd_i16, v512i_madd_i16(a, b))                                                                                 \
    OP(maddubs, v512i_maddubs(a, b))                                                                                   \
    OP(dpbusd, v512i_dpbusd(a, b, c))                                                                                  \
    OP(srai_i32, v512i_srai_i32(a, 5))                                                                                 \
    OP(srai_i16, v512i_srai_i16(a, 3))                                                                                 \
    OP(unpacklo_i8, v512i_unpacklo_i8(a, b))                                                                           \
    OP(unpackhi_i16, v512i_unpackhi_i16(a, b))                                                                         \
    OP(unpackhi_i32, v512i_unpackhi_i32(a, b))                                                                         \
    OP(unpacklo_i64, v512i_unpacklo_i64(a, b))                                                                         \
    OP(packs_i32, v512i_packs_i32(a, b))                                                                               \
    OP(packs_i16, v512i_packs_i16(a, b))                                                                               \
    OP(packus_i16, v512i_packus_i16(a, b))                                                                             \
    OP(shuffle_i8, v512i_shuffle_i8(a, b))                                                                             \
    OP(permute_i32, v512i_permute_i32(a, b))                                                                           \
    OP(any_gt, v512i_set1_i32(v512i_any_gt_i32(v512i_srai_i32(a, 28), v512i_set1_i32(6))))                             \
    OP(load_u8_i32, v512i_load_u8_i32(pa))                                                                             \
    OP(load_part, v512i_load_part(pa, n))                                                                              \
    OP(loadf_part, I(v512f_load_part(pa, n / 4)))                                                                      \
    OP(to_f32, I(v512i_to_f32(a)))                                                                                     \
    OP(to_i32, v512f_to_i32(F(a)))                                                                                     \
    OP(minf, I(v512f_min(F(a), F(b))))                                                                                 \
    OP(maxf, I(v512f_max(F(a), F(b))))                                                                                 \
    OP(gt, v512f_gt(F(a), F(b)))                                                                                       \
    OP(min_abs, I(v512f_min_abs(F(a), F(b))))                                                                          \
    OP(max_abs, I(v512f_max_abs(F(a), F(b))))                                                                          \
    OP(lookup32, I(v512f_lookup32((const v512f[2]){ F(a), F(b) }, c)))                                                 \
    OP(nan, v512f_nan(F(a)))                                                                                           \
    OP(mulf, I(v512f_mul(F(a), F(b))))                                                                                 \
    OP(fma, I(v512f_fma(F(a), F(b), F(c))))                                                                            \
    OP(roundf, I(v512f_round(F(a))))                                                                                   \
    OP(scale2, I(v512f_scale2(F(a), v512i_to_f32(v512i_srai_i32(b, 25)))))

enum simd512_op {
#define OP(name, expr) SIMD512_##name,
    SIMD512_OPS(OP)
#undef OP
        SIMD512_COUNT
};

/** out = op of pa, pb, pc (64 bytes each; n in 0 .. 64). */
void ck_simd512(enum simd512_op op, const void *pa, const void *pb, const void *pc, unsigned n, void *out);

#endif
