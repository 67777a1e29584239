/* q8.h: packed int8 weights and the choice between their kernels. Part of lowering. */
#ifndef WN_PLAN_Q8_H
#define WN_PLAN_Q8_H

#include "engine/plan/cost.h"
#include "engine/plan/planes.h"

/** GEMV: linear layers only. CONV: convolutions only. */
enum wn_q8_kind { WN_Q8_GEMM, WN_Q8_B4, WN_Q8_SPMM, WN_Q8_DW, WN_Q8_STEM, WN_Q8_GEMV, WN_Q8_CONV };

/** What will run a QConv, QLinear or DLinear. */
struct wn_q8_choice {
    bool fits; /* false: the reference operator */
    enum wn_q8_kind kind;
    unsigned block; /* SPMM: rows of a block */
    struct wn_sparsity sparsity;
    const char *why;
    const struct wn_choice *choice; /* NULL: there was none */
};

/** wn_lower_choose() of n candidates (GEMM, CONV, B4, SPMM, GEMV). */
enum winnow_status wn_q8_settle(struct wn_lower *lo, const struct wn_tensor *w, double cols,
                                const struct wn_candidate *c, size_t n, struct wn_q8_choice *choice);
/** Deterministic: weights, shapes and instruction set decide. */
enum winnow_status wn_q8_choose(struct wn_lower *lo, const struct wn_node *node, struct wn_q8_choice *ret);
/** The part of wn_q8_choose() for linear layers (lower_linear_q8.c). */
enum winnow_status wn_q8_choose_linear(struct wn_lower *lo, const struct wn_node *node, struct wn_q8_choice *ret);
/** True for QLinear and DLinear. */
bool wn_q8_is_linear(const struct wn_node *node);
/** The form in which a producer of u8 value v, tokens of k features, should leave it for the linear layers or attention
 * that read it: PLAIN where few tokens go through q8_gemv, where something else reads v first, or where nothing does.
 */
enum winnow_status wn_q8_linear_form(struct wn_lower *lo, wn_vid v, size_t k, enum wn_form *ret);
/** Ask every convolution which form it reads; elementwise steps and pools between pass the wish on. Before lowering. */
enum winnow_status wn_q8_wishes(struct wn_lower *lo);
/** The form in which a producer of u8 value v should leave it: planes when most convolutions behind it are unstructured
 *  sparse ones or stems, else quads. */
enum wn_form wn_q8_out_form(const struct wn_lower *lo, wn_vid v);
/** [O] bias of a QConv or QLinear with the zero points' share in it; NULL: out of memory. */
const int32_t *wn_q8_bias(struct wn_lower *lo, const struct wn_node *node);

#endif
