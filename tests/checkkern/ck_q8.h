/* ck_q8.h: what the checks of the int8 families that read quads share: outputs, epilogues, weights, geometries. */
#ifndef CK_Q8_H
#define CK_Q8_H

#include "engine/kernels/q8_epilogue.h"
#include "tests/checkkern/checkkern.h"

/** Where y lies: planes (or quads of planes, or float rows) of `n` columns at odd distances. */
struct ckq_out {
    enum wn_q8_out form;
    size_t stride, bytes;
};
struct ckq_out ckq_out(struct ck *ck, size_t rows, size_t n);

/** Random epilogue: bias, scales, weight zero points, residual, mask, clamps; x and y are left to the caller. */
struct wn_q8_args ckq_args(struct ck *ck, size_t rows, size_t n, struct ckq_out out);

/** Column offsets of the quads of (channels, taps) at odd places around column 0 of planes of `plane` columns; x has 64
 *  bytes in front of it. Frozen. */
int32_t *ckq_koff(struct ck *ck, size_t channels, size_t taps, size_t plane);

/** A product to check: weights (rows, channels * taps), input, epilogue; any tails. */
struct ckq_product {
    size_t rows, channels, taps, row0, row1; /* rows [row0, row1) are computed */
    unsigned x_max;                          /* the largest byte of the input */
    int8_t *w;
    const int32_t *koff;
    struct ckq_out out;
    struct wn_q8_args a; /* all but y */
};
/** One at random, told to ck_shape(); a density out of `densities`. */
struct ckq_product ckq_product(struct ck *ck, const double *densities, size_t n_densities);

/** Run `call` twice on equal outputs, reference then kernel: RUN(args) is an expression using `args`. */
#define CKQ_COMPARE(ck, args_, out_, REFERENCE, KERNEL_CALL)                                                           \
    do {                                                                                                               \
        uint8_t *want_ = ck_buf(ck, (out_).bytes), *got_ = ck_buf(ck, (out_).bytes);                                   \
        bool in_place_ = (args_).r && ck_rand(ck, 2);                                                                  \
        if (in_place_) {                                                                                               \
            memcpy(want_, (args_).r, (out_).bytes);                                                                    \
            memcpy(got_, (args_).r, (out_).bytes);                                                                     \
        }                                                                                                              \
        (args_).y = want_;                                                                                             \
        (args_).r = in_place_ ? want_ : (args_).r;                                                                     \
        REFERENCE;                                                                                                     \
        (args_).y = got_;                                                                                              \
        (args_).r = in_place_ ? got_ : (args_).r;                                                                      \
        CK_CALL(ck, KERNEL_CALL);                                                                                      \
        ck_same(ck, want_, got_, (out_).bytes);                                                                        \
    } while (0)

/** Trained-looking weights (rows, k): Laplace or normal, the largest of a row at +-127; a share `density` of the runs
 * of `block` inputs at one tap keeps its weights, the others are 0. k counts channels * taps, channel-major. */
void ckq_weights(struct ck *ck, int8_t *w, size_t rows, size_t channels, size_t taps, size_t block, double density,
                 bool normal);

/** A layer to time: an `edge` x `edge` image (edge 0: 128 tokens), taps 1 or 9. */
struct ckq_layer {
    size_t rows, channels, taps, edge;
};
extern const struct ckq_layer ckq_layers[];
extern const size_t ckq_nlayers;
/** Memory of the arena: weights as ckq_weights() makes them, and room for offsets. */
int8_t *ckq_layer_weights(struct ck *ck, const struct ckq_layer *l, size_t block, double density, bool normal);
int32_t *ckq_layer_off(struct ck *ck, size_t noffs);
/** Quad-form input, output and constants of a layer, with koff [quads]; no residual, no mask. */
struct wn_q8_args ckq_layer_args(struct ck *ck, const struct ckq_layer *l, int32_t **ret_koff);

#endif
