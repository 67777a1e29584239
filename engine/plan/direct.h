/* direct.h: convolutions by kernels that know the picture (f32_conv, q8_conv), not a matrix of columns: what the window
 * is to them, what they cost, how they may be cut. Part of lowering. */
#ifndef WN_DIRECT_H
#define WN_DIRECT_H

#include "engine/kernels/conv_window.h"
#include "engine/plan/cost.h"
#include "engine/plan/planes.h"

/** Predicted cycles of f32_conv or q8_conv, whose tiles are of `pixels`; infinite where it cannot run this, or should
 * not. */
double wn_direct_cost(enum wn_family family, size_t pixels, const struct wn_window *win, const struct wn_sparsity *s,
                      double rows);
/** The window over planes x, `channels` of a group (or quads of them), into y, for the kernel; false: no memory. */
bool wn_direct_window(struct wn_lower *lo, const struct wn_window *win, size_t channels, const struct wn_planes *x,
                      const struct wn_planes *y, struct wn_conv_window *ret);
/** Blocks are of output rows (the tiling's columns) and of a group's `rows`. Rows of pixels are shared out, or channels
 *  where a thread would read more weights than inputs. */
struct wn_tiling wn_direct_tiling(const struct wn_window *win, size_t rows);
/** The input's planes as they lie, as the source of `node`. */
enum winnow_status wn_direct_source(struct wn_lower *lo, const struct wn_node *node, enum wn_form form,
                                    struct wn_source *ret);

#endif
