/* dtype.h: types of a tensor's elements, the same ones for the engine and the pipelines. Installed with libwinnow. */
#ifndef WINNOW_DTYPE_H
#define WINNOW_DTYPE_H

/** Element types; the values are ONNX's TensorProto.DataType (onnx.proto3). */
enum winnow_dtype {
    WINNOW_UNDEFINED = 0,
    WINNOW_F32 = 1,
    WINNOW_U8 = 2,
    WINNOW_I8 = 3,
    WINNOW_U16 = 4,
    WINNOW_I16 = 5,
    WINNOW_I32 = 6,
    WINNOW_I64 = 7,
    WINNOW_STRING = 8,
    WINNOW_BOOL = 9,
    WINNOW_F16 = 10,
    WINNOW_F64 = 11,
    WINNOW_U32 = 12,
    WINNOW_U64 = 13,
    WINNOW_BF16 = 16,
    /* Of a byte each in memory, also where a file packs them. Only conversions take these. */
    WINNOW_F8E4M3FN = 17,
    WINNOW_F8E4M3FNUZ = 18,
    WINNOW_F8E5M2 = 19,
    WINNOW_F8E5M2FNUZ = 20,
    WINNOW_U4 = 21,
    WINNOW_I4 = 22,
    WINNOW_F4E2M1 = 23,
    WINNOW_F8E8M0 = 24,
    WINNOW_U2 = 25,
    WINNOW_I2 = 26,
};

#endif
