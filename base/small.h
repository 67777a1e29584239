/* small.h: numbers of 8 bits and fewer: the 8-bit floats, the 4-bit float, and integers of 4 and 2 bits. Each takes a
 * byte in memory, the narrow ones its low bits. Source: onnx/onnx docs/docsgen/source/technical/float8.md, int4.md,
 * float4.md; OCP Microscaling Formats 1.0. */
#ifndef WN_SMALL_H
#define WN_SMALL_H

#include <stdbool.h>
#include <stdint.h>
#include "winnow/dtype.h"

/** True for the types of this file. */
bool wn_small_is(enum winnow_dtype dtype);
/** True for its floats; false for its integers and all other types. */
bool wn_small_is_float(enum winnow_dtype dtype);
/** Bits of an element in a file: 8, 4 or 2. */
unsigned wn_small_bits(enum winnow_dtype dtype);
/** The number that a byte stands for. */
float wn_small_to_f32(enum winnow_dtype dtype, uint8_t b);
/** To the nearest, ties to even. What is too large becomes the largest number where `saturate`, else infinity or NaN,
 *  whichever the type has; the exponent-only type rounds as `round` says. Integers are cut to their bits. */
enum wn_small_round { WN_SMALL_UP, WN_SMALL_DOWN, WN_SMALL_NEAREST };
uint8_t wn_small_from_f32(enum winnow_dtype dtype, float f, bool saturate, enum wn_small_round round);
/** An integer: cut to its bits for integers, rounded as a float else. */
uint8_t wn_small_from_i64(enum winnow_dtype dtype, int64_t v);

#endif
