/* pool_q8.h: max, average and global average pooling of u8 activations, in quad or plane form.
 *
 * USE   fill the struct and run blocks of channels c0..c1-1 on any number of threads (c0 a multiple of 4, c1 too or
 *       = channels); x and y point at element (0,0) of channel 0. Nothing is packed or linked: windows follow from the
 *       geometry, only real elements count, whatever surrounds them, and any stride works without phase planes.
 *       Lanes of the last quad past `channels` and columns that are no pixels get y_zp. Reads up to WN_OVERREAD bytes
 *       past the last element of x.
 * EXACT the same bits on every ISA. Sources: ONNX MaxPool; wn.QAveragePool, wn.QGlobalAveragePool of fused.h. */
#ifndef WN_POOL_Q8_H
#define WN_POOL_Q8_H

#include "engine/kernels/kernels.h"

enum wn_pool_q8_kind { WN_POOL_Q8_MAX, WN_POOL_Q8_AVERAGE };

struct wn_pool_q8 {
    enum wn_pool_q8_kind kind;
    enum wn_q8_out form; /* WN_OUT_QUAD or WN_OUT_PLANE, of x and y */
    const uint8_t *x;
    uint8_t *y;
    size_t x_stride, y_stride; /* bytes from one plane, or quad, to the next */
    size_t channels;
    struct wn_plane in, out; /* h, w, pitch; of out cols too: all of them are written. ceil_mode is a larger out */
    int32_t kh, kw, stride_h, stride_w, dil_h, dil_w, pad_t, pad_l, pad_b, pad_r;
    bool count_include_pad; /* average: elements of the padding count (as zero), those past it (ceil_mode) never */
    float mul;              /* average: x_scale / y_scale */
    int32_t x_zp, y_zp;     /* max: y_zp = x_zp */
    int32_t q_lo, q_hi;     /* average */
};
/** max      y = the largest element of the window
 *  average  y = clamp(rne((sum(x) - real * x_zp) * (mul / counted)) + y_zp, q_lo, q_hi)
 *  A window without elements gives y_zp. At most 4096 x 4096 taps. */
typedef void wn_pool_q8_fn(const struct wn_pool_q8 *pool, size_t c0, size_t c1);
wn_pool_q8_fn wn_pool_q8_run;

struct wn_pool_q8_global {
    enum wn_q8_out form;
    const uint8_t *x;
    uint8_t *y;
    size_t x_stride, y_stride;
    size_t channels;
    struct wn_plane in; /* h, w, pitch; h * w <= 2^22 */
    size_t y_cols;      /* columns of y: the first is the mean, the others get y_zp */
    float mul;          /* x_scale / y_scale / (h * w), that is a_mul / n */
    int32_t x_zp, y_zp, q_lo, q_hi;
};
/** y = clamp(rne((sum(x) - h * w * x_zp) * mul) + y_zp, q_lo, q_hi) */
typedef void wn_pool_q8_global_fn(const struct wn_pool_q8_global *pool, size_t c0, size_t c1);
wn_pool_q8_global_fn wn_pool_q8_global_run;

#define KERNEL(isa, NR)                                                                                                \
    wn_pool_q8_fn wn_pool_q8_##NR##__##isa;                                                                            \
    wn_pool_q8_global_fn wn_pool_q8_global_##NR##__##isa;
#include "engine/kernels/pool_q8/pool_q8.def"
#undef KERNEL

/* ---- shared by the kernels: windows along one axis ---- */
struct wn_pool_q8_axis {
    int32_t first, end; /* taps that lie inside the input */
    int32_t counted;    /* taps inside the input and, when they count, its padding */
};

/** Window of output position `at`: n taps. */
static inline struct wn_pool_q8_axis wn_pool_q8_axis_at(int32_t at, int32_t n, int32_t stride, int32_t dil,
                                                        int32_t pad_begin, int32_t pad_end, int32_t extent,
                                                        bool include_pad)
{
    struct wn_pool_q8_axis a = { 0, 0, 0 };
    int64_t start = (int64_t)at * stride - pad_begin;
    for (int32_t k = 0; k < n; k++) {
        int64_t pos = start + (int64_t)k * dil;
        if (pos < 0)
            a.first = k + 1;
        if (pos < extent)
            a.end = k + 1;
        if (pos < (int64_t)extent + pad_end)
            a.counted = k + 1;
    }
    a.first = WN_MIN(a.first, a.end);
    a.counted = include_pad ? a.counted : a.end - a.first;
    return a;
}

#endif
