/* f32.h (pool): f32 max and average pooling from plane to plane, and the mean of a plane.
 *
 * Reads real elements only, whatever surrounds them, and any stride without phase planes (strides 1 and 2 are
 * vectorized). The windows follow from the geometry; ceil_mode needs nothing but the larger output plane. Any number of
 * threads, each on its own channels. Sources: ONNX MaxPool, AveragePool, GlobalAveragePool. */
#ifndef WN_POOL_F32_H
#define WN_POOL_F32_H

#include "engine/kernels/kernels.h"

enum wn_pool_kind { WN_POOL_MAX, WN_POOL_AVERAGE };

struct wn_pool_f32 {
    enum wn_pool_kind kind; /* max: NaN wins; average: of a window without elements 0 */
    int32_t kh, kw, stride_h, stride_w, dil_h, dil_w, pad_t, pad_l, pad_b, pad_r;
    bool count_include_pad; /* average: elements of the padding count (as 0), those past it (ceil_mode) never */
};

/** Pool `channels` planes. x, y: column 0 of the first; planes are in->stride and out->stride floats apart. Writes
 *  out->cols columns of each, 0 where they are no pixels. Reads up to WN_OVERREAD bytes past the last element. */
typedef void wn_pool_f32_fn(const struct wn_pool_f32 *pool, const struct wn_plane *in, const float *x,
                            const struct wn_plane *out, float *y, size_t channels);
/** y[c * y_stride] = mean of channel c's plane; nothing else is written. */
typedef void wn_pool_f32_mean_fn(const struct wn_plane *in, const float *x, float *y, size_t y_stride, size_t channels);
/** The fastest kernels this CPU has (WINNOW_CPU permitting). Any thread. */
wn_pool_f32_fn wn_pool_f32_run;
wn_pool_f32_mean_fn wn_pool_f32_mean_run;
/** Choose again, after wn_cpu_force(). Not while others run. */
void wn_pool_f32_init(void);

#define KERNEL(isa, NR)                                                                                                \
    wn_pool_f32_fn wn_pool_f32_##NR##__##isa;                                                                          \
    wn_pool_f32_mean_fn wn_pool_f32_mean_##NR##__##isa;
#include "engine/kernels/pool/f32.def"
#undef KERNEL

/* ---- shared by the kernels: windows along one axis ---- */
/** Taps of output position `at` that lie inside an input of `extent`: *first .. *end - 1 of n. */
static inline void wn_pool_taps(int32_t at, int32_t n, int32_t stride, int32_t dil, int32_t pad, int32_t extent,
                                int32_t *first, int32_t *end)
{
    const int32_t start = at * stride - pad;
    *first = start < 0 ? (-start + dil - 1) / dil : 0;
    const int32_t stop = start < extent ? (extent - start + dil - 1) / dil : 0;
    *end = stop < n ? stop : n;
    if (*first > *end)
        *first = *end;
}

#endif
