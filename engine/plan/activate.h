/* activate.h: activations that a layer computes on what its kernel wrote, while that is in the cache. Part of lowering.
 */
#ifndef WN_ACTIVATE_H
#define WN_ACTIVATE_H

#include "engine/kernels/act_q8/act_q8.h"
#include "engine/passes/fused.h"

/** y = clamp(act(y), lo, hi). act NONE: nothing is done, the kernel has clamped. */
struct wn_activation {
    enum wn_act act;
    float alpha, lo, hi;
};

/** Of n floats, in place. mask [n]: ~0u keeps, 0 writes 0; or NULL. act is not NONE. */
void wn_activate(const struct wn_activation *a, const uint32_t *mask, float *y, size_t n);

/** What wn_activate_bytes() needs for outputs of this scale. act is not NONE. */
void wn_activate_bytes_init(const struct wn_activation *a, float scale, struct wn_act_q8 *ret);
/** The activation and then the quantization of rows [from, to) of a layer, n results each: x holds them without gaps
 *  (row `from` first) and is overwritten. quant: the output, y that of row 0, its mask [n] or NULL; `from` is a
 * multiple of 4 where bytes are in quads, and so is `to` unless it is quant->channels. */
void wn_activate_bytes(const struct wn_act_q8 *a, const struct wn_move_q8 *quant, float *x, size_t n, size_t from,
                       size_t to);

#endif
