/* simd512_ops_avx512vnni.c: every wrapper of simd512.h behind one function that only CPUs with AVX-512 may call. */
#include "engine/kernels/simd512.h"
#include "tests/checkkern/simd512_ops.h"

#define F(x) v512i_as_f(x)
#define I(x) v512f_as_i(x)

void ck_simd512(enum simd512_op op, const void *pa, const void *pb, const void *pc, unsigned n, void *out)
{
    const v512i a = v512i_load(pa), b = v512i_load(pb), c = v512i_load(pc);
    switch (op) {
#define OP(name, expr)                                                                                                 \
    case SIMD512_##name:                                                                                               \
        v512i_store(out, expr);                                                                                        \
        break;
        SIMD512_OPS(OP)
#undef OP
    default:
        break;
    }
}
