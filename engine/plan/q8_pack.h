/* q8_pack.h: packed int8 weights of convolutions and linear layers, dense or sparse. Part of lowering. */
#ifndef WN_Q8_PACK_H
#define WN_Q8_PACK_H

#include "engine/kernels/q8_conv/q8_conv.h"
#include "engine/kernels/q8_dw/q8_dw.h"
#include "engine/kernels/q8_gemm/q8_gemm.h"
#include "engine/kernels/q8_gemv/q8_gemv.h"
#include "engine/kernels/q8_spmm/q8_spmm.h"
#include "engine/kernels/q8_spmm_b4/q8_spmm_b4.h"
#include "engine/kernels/q8_stem/q8_stem.h"
#include "engine/plan/codec.h"
#include "engine/plan/pack_class.h"
#include "engine/plan/q8.h"
#include "engine/plan/share.h"

struct wn_q8_pack_arg {
    enum wn_q8_kind kind;
    unsigned block;                      /* SPMM: rows of a block */
    size_t groups, rows, channels, taps; /* rows, channels: of one group; linear layers: 1 group, 1 tap */
    const int32_t *w_zp;                 /* depthwise: subtracted when packing */
};

/** One packed matrix per group; the one that `kind` names. */
struct wn_q8_pack {
    struct wn_arena arena;
    struct wn_codec_blocks blocks; /* what the arrays lie in: the arena's, or those of an image */
    struct wn_q8_pack_arg arg;     /* w_zp: NULL */
    enum wn_q8_kind kind;
    size_t groups;
    struct wn_q8_gemm *gemm;
    struct wn_q8_conv *conv;
    struct wn_q8_spmm_b4 *b4;
    struct wn_q8_spmm *spmm;
    struct wn_q8_dw dw;
    struct wn_q8_stem stem;
    struct wn_q8_gemv gemv;
};

extern const struct wn_pack_class wn_q8_pack_class;

/** The pack of w (groups * rows, channels, taps) s8, shared by content (packs.h); it lives as long as the model. */
enum winnow_status wn_q8_pack_get(struct wn_lower *lo, const struct wn_tensor *w, const struct wn_q8_pack_arg *arg,
                                  const struct wn_q8_pack **ret_pack, size_t *ret_bytes);
/** Offsets of group g in the plan's arena, linked from koff: one per quad (GEMM, B4), per channel and tap (SPMM, STEM),
 *  or per tap (DW). Not for GEMV and CONV. */
enum winnow_status wn_q8_pack_link(struct wn_lower *lo, const struct wn_q8_pack *pack, size_t g, const int32_t *koff,
                                   const int32_t **ret_off);
/** The matrix (groups * rows, channels, taps) that `pack` was made of (unpack.c); of the kinds that this is true for.
 */
enum winnow_status wn_q8_unpack(const void *pack, void *ret_w, struct winnow_err *err);
bool wn_q8_can_unpack(enum wn_q8_kind kind);
/** How the kernels of a kind (SPMM: in blocks of so many rows) on planes or columns may be cut. CONV: wn_direct_tiling(). */
struct wn_tiling wn_q8_tiling(enum wn_q8_kind kind, unsigned block, size_t cols, size_t rows);
/** "q8_gemm__avx2", "q8_spmm_4x1__avx512vnni" and the like, in the plan's arena; NULL: out of memory. */
const char *wn_q8_kernel_name(struct wn_lower *lo, const struct wn_q8_pack *pack);

#endif
