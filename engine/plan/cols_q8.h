/* cols_q8.h: u8 values as columns: what int8 linear layers over several tokens read and write (cols.h says what columns
 * are). Two forms: COLS_QUAD, four features side by side (q8_gemm, q8_spmm_b4), and COLS_U8, each feature a row of
 * bytes (q8_spmm). Lanes past the last feature and columns past the last token hold anything. Part of lowering. */
#ifndef WN_PLAN_COLS_Q8_H
#define WN_PLAN_COLS_Q8_H

#include "engine/plan/cols.h"
#include "engine/plan/share.h"

struct wn_cols8 {
    struct wn_loc loc;
    enum wn_form form; /* COLS_QUAD or COLS_U8 */
    size_t k, n, cols; /* features, tokens, tokens rounded up to WN_COLS */
    size_t stride;     /* bytes from one feature, or quad of features, to the next; an odd multiple of 64 */
};

/** True when v is in one of the forms. */
bool wn_cols8_is(const struct wn_lower *lo, wn_vid v);
/** The form that v is in, the one of quads where it has both; COUNT: none. */
enum wn_form wn_cols8_form(const struct wn_lower *lo, wn_vid v);
/** Value v as columns of k features, which it has or which steps make from another form. */
enum winnow_status wn_cols8_get(struct wn_lower *lo, wn_vid v, size_t k, enum wn_form form, struct wn_cols8 *ret);
/** A new buffer of columns for v; v has it from now on. */
enum winnow_status wn_cols8_new(struct wn_lower *lo, wn_vid v, size_t k, enum wn_form form, struct wn_cols8 *ret);
/** `out`, another shape of `in`'s elements, shares in's columns where in is in these forms only; false: it does not. */
bool wn_cols8_view(struct wn_lower *lo, wn_vid in, wn_vid out);
/** v, which is in one of the forms, as a plain tensor. */
enum winnow_status wn_cols8_to_plain(struct wn_lower *lo, wn_vid v);

/** Bytes of a column: 4 or 1. */
static inline size_t wn_cols8_elem(const struct wn_cols8 *c)
{
    return c->form == WN_FORM_COLS_QUAD ? 4 : 1;
}

/** How threads share the columns where a step has no tiles of its own: by tokens where the kernels that read them do
 * so, whose tiles are 128 quads or, in blocks of four rows, 64 bytes wide. Then each thread reads what it wrote. */
static inline struct wn_tiling wn_cols8_tiling(const struct wn_cols8 *c)
{
    const size_t tile = c->form == WN_FORM_COLS_QUAD ? 128 : 64;
    return (struct wn_tiling){ .cols = c->cols, .tile = tile, .step = WN_COLS, .rows = c->k, .unit = 4 };
}

#endif
