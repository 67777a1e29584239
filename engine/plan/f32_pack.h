/* f32_pack.h: packed f32 weights of convolutions and linear layers, dense or sparse. Part of lowering. */
#ifndef WN_F32_PACK_H
#define WN_F32_PACK_H

#include "engine/kernels/f32_conv/f32_conv.h"
#include "engine/kernels/f32_gemm/f32_gemm.h"
#include "engine/kernels/f32_gemv/f32_gemv.h"
#include "engine/kernels/f32_spmm/f32_spmm.h"
#include "engine/plan/codec.h"
#include "engine/plan/cost.h"
#include "engine/plan/lower.h"
#include "engine/plan/pack_class.h"
#include "engine/plan/share.h"

/** Rows are shared out in multiples of this: whole panels of f32_gemm (6) and whole blocks of f32_spmm (4). */
#define WN_F32_PACK_ROWS ((size_t)12)

/** One packed matrix per group. */
struct wn_f32_pack {
    struct wn_arena arena;
    struct wn_codec_blocks blocks; /* what the arrays lie in: the arena's, or those of an image */
    enum wn_family family;  /* f32_gemm (f32_gemv reads it too), f32_conv, f32_spmm, f32_spmm_2x1 or f32_spmm_4x1 */
    size_t groups, rows, k; /* of one group */
    struct wn_f32_gemm *gemm;
    struct wn_f32_conv *conv;
    struct wn_f32_spmm *spmm;
};

struct wn_f32_pack_arg {
    enum wn_family family;
    size_t groups, rows, k, taps; /* rows, k: of one group; taps: ks in a row that read one input plane */
};

extern const struct wn_pack_class wn_f32_pack_class;

/** The pack of w (groups * rows, k), shared by content (packs.h); it lives as long as the model. */
enum winnow_status wn_f32_pack_get(struct wn_lower *lo, const struct wn_tensor *w, const struct wn_f32_pack_arg *arg,
                                   const struct wn_f32_pack **ret_pack, size_t *ret_bytes);
/** What the kernel of group g reads its input by, for offsets koff [k] that outlive the plan's arena or are in it:
 *  koff itself, or linked offsets in the plan's arena. */
enum winnow_status wn_f32_pack_link(struct wn_lower *lo, const struct wn_f32_pack *pack, size_t g, const int32_t *koff,
                                    const int32_t **ret_off);
/** The matrix (groups * rows, k) that `pack` was made of, which must have been finite (unpack.c). */
enum winnow_status wn_f32_unpack(const void *pack, void *ret_w, struct winnow_err *err);
/** How the kernels of a family on planes or columns may be cut: where they would cut themselves, for the order in which
 *  a sum is made may follow from the width of its tile, and must not follow from the number of threads. */
struct wn_tiling wn_f32_tiling(enum wn_family family, size_t cols, size_t rows);
/** "f32_gemm__avx2" and the like, in the plan's arena; never NULL. */
const char *wn_f32_kernel_name(struct wn_lower *lo, enum wn_family family);

/** Not f32_conv: rows row0 .. row1 - 1 of group g, both multiples of WN_F32_PACK_ROWS or the last row's
 * end. */
static inline void wn_f32_pack_run(const struct wn_f32_pack *pack, size_t g, const int32_t *off,
                                   const struct wn_f32_args *args, size_t row0, size_t row1)
{
    if (pack->family != WN_FAMILY_f32_gemm)
        wn_f32_spmm_run(&pack->spmm[g], off, args, row0, row1);
    else
        wn_f32_gemm_run(&pack->gemm[g], off, args, row0, row1);
}

#endif
