/* q8_dw.h: int8 depthwise convolution: one filter per channel, four channels side by side.
 *
 * USE   1. pack once per model, into the model's arena (immutable afterwards, shared by all threads):
 *            wn_q8_dw_pack(wn_q8_dw_stream_of(wn_cpu_isa()), w, channels, taps, arena, &mat, err)
 *          w is s16 and has the zero point already subtracted, so w_zp and colsum of the args are not used.
 *       2. link once per concrete shape, into the plan's memory (mat.noffs int32):
 *            wn_q8_dw_link(&mat, koff, off)     koff[t] = byte offset of tap t = y * kw + x from args.x within the
 * planes of a quad of channels: 4 * (dy * pitch + dx), or 4 * the tap's place among the phases of a strided input
 *       3. run, any number of threads at once, each on its own block:
 *            wn_q8_dw_run(&mat, off, x_stride, &args, c0, c1)     x_stride = bytes from one quad of channels to the
 * next Columns: args.x, y, r and mask point at the block's first column, args.n is its extent. Channels: args.x, y, r,
 *          bias and mul start at channel 0, whatever c0 is.
 * IN    quad form. OUT quad (the fast one), plane or f32, each with residual and mask. In quad form the lanes past the
 *       last channel get y_zp.
 * EXACT the same bits from every stream and ISA, for weights of -255..255 and any activations. */
#ifndef WN_Q8_DW_H
#define WN_Q8_DW_H

#include "base/arena.h"
#include "engine/kernels/kernels.h"

/** Forms of packed weights.
 *    plain  (channels, taps) s16                                                          scalar reference
 *    pair   per quad of channels and pair of slots: 4 channels x 2 s16                    AVX2
 *    quad   per quad of channels and four slots: 4 channels x 4 s8                        AVX-512 VNNI, NEON
 *  A slot is a tap; where weights pass the range of s8, quad has two or three slots for every tap, which add up. */
enum wn_q8_dw_stream { WN_Q8_DW_PLAIN, WN_Q8_DW_PAIR, WN_Q8_DW_QUAD, WN_Q8_DW_STREAMS };
#define WN_Q8_DW_MAX_TAPS 4096u

/** Packed filters; the arrays belong to the arena they were packed into. */
struct wn_q8_dw {
    enum wn_q8_dw_stream stream;
    size_t channels, taps;
    size_t noffs;        /* slots, rounded up to what a step takes: int32 offsets that linking fills */
    const uint32_t *tap; /* [noffs] tap of every slot; slots of the padding weigh 0 */
    const int16_t *w16;  /* plain, pair */
    const int8_t *w8;    /* quad */
};

/** The stream that kernels of `isa` read. */
enum wn_q8_dw_stream wn_q8_dw_stream_of(enum wn_isa isa);

/** Pack w (channels, taps), every weight in -255..255, into `arena`.
 *  @param ret_mat  set on success only
 *  @return WINNOW_OK, WINNOW_E_NOMEM, WINNOW_E_TOO_LARGE (no taps or more than WN_Q8_DW_MAX_TAPS),
 *          WINNOW_E_MALFORMED (a weight out of range) */
enum winnow_status wn_q8_dw_pack(enum wn_q8_dw_stream stream, const int16_t *w, size_t channels, size_t taps,
                                 struct wn_arena *arena, struct wn_q8_dw *ret_mat, struct winnow_err *err);

/** off[i] = koff[tap[i]] for all noffs offsets. koff [taps], bytes, may be negative. */
void wn_q8_dw_link(const struct wn_q8_dw *mat, const int32_t *koff, int32_t *off);

/** Channels c0..c1-1, all args->n columns. c0 is a multiple of 4, c1 too or = channels; n a multiple of WN_COLS. */
typedef void wn_q8_dw_fn(const struct wn_q8_dw *mat, const int32_t *off, size_t x_stride, const struct wn_q8_args *args,
                         size_t c0, size_t c1);

/** Run with the kernel of mat's stream. */
wn_q8_dw_fn wn_q8_dw_run;

#define KERNEL(isa, stream, MR, NR) wn_q8_dw_fn wn_q8_dw_##MR##x##NR##__##isa;
#include "engine/kernels/q8_dw/q8_dw.def"
#undef KERNEL

#endif
