/* q8_bytes.h: activations as runs of bytes, whatever their form: n columns of a plane are n bytes, of a quad 4 n. What
 * the families eltwise_q8, move_q8 and pool_q8 share. */
#ifndef WN_Q8_BYTES_H
#define WN_Q8_BYTES_H

#include "engine/kernels/q8_epilogue.h"

/** Channels that lie side by side in one run. */
WN_Q8_INLINE size_t wn_q8_lanes(enum wn_q8_out form)
{
    return form == WN_OUT_QUAD ? 4 : 1;
}

/** The plane of a channel. (A division by wn_q8_lanes() takes up to 90 cycles.) */
WN_Q8_INLINE size_t wn_q8_plane_of(enum wn_q8_out form, size_t channel)
{
    return form == WN_OUT_QUAD ? channel / 4 : channel;
}

/** Byte i of the run of channel c..: is it a real channel of a column that the mask keeps? */
WN_Q8_INLINE bool wn_q8_live(enum wn_q8_out form, size_t c, size_t channels, const uint32_t *mask, size_t i)
{
    size_t lanes = wn_q8_lanes(form);
    return c + i % lanes < channels && (!mask || mask[wn_q8_plane_of(form, i)]);
}

#endif
