/* dtype.c: sizes and names of element types. */
#include "winnow/winnow.h"

static const struct {
    unsigned char size;
    const char *name;
} types[] = {
    [WINNOW_UNDEFINED] = { 0, "undefined" },
    [WINNOW_F32] = { 4, "f32" },
    [WINNOW_U8] = { 1, "u8" },
    [WINNOW_I8] = { 1, "i8" },
    [WINNOW_U16] = { 2, "u16" },
    [WINNOW_I16] = { 2, "i16" },
    [WINNOW_I32] = { 4, "i32" },
    [WINNOW_I64] = { 8, "i64" },
    [WINNOW_STRING] = { sizeof(struct winnow_str), "string" },
    [WINNOW_BOOL] = { 1, "bool" },
    [WINNOW_F16] = { 2, "f16" },
    [WINNOW_F64] = { 8, "f64" },
    [WINNOW_U32] = { 4, "u32" },
    [WINNOW_U64] = { 8, "u64" },
    [WINNOW_BF16] = { 2, "bf16" },
    [WINNOW_F8E4M3FN] = { 1, "f8e4m3fn" },
    [WINNOW_F8E4M3FNUZ] = { 1, "f8e4m3fnuz" },
    [WINNOW_F8E5M2] = { 1, "f8e5m2" },
    [WINNOW_F8E5M2FNUZ] = { 1, "f8e5m2fnuz" },
    [WINNOW_U4] = { 1, "u4" },
    [WINNOW_I4] = { 1, "i4" },
    [WINNOW_F4E2M1] = { 1, "f4e2m1" },
    [WINNOW_F8E8M0] = { 1, "f8e8m0" },
    [WINNOW_U2] = { 1, "u2" },
    [WINNOW_I2] = { 1, "i2" },
};

size_t winnow_dtype_size(enum winnow_dtype dtype)
{
    return (unsigned)dtype < sizeof types / sizeof types[0] ? types[dtype].size : 0;
}

const char *winnow_dtype_name(enum winnow_dtype dtype)
{
    const char *name = (unsigned)dtype < sizeof types / sizeof types[0] ? types[dtype].name : 0;
    return name ? name : "unknown";
}
