/* q8_columns_avx512.h: bytes of f32 columns, one or four channels by 64 of them, whatever makes the integers: what
 * move_q8 and act_q8 share. */
#ifndef WN_Q8_COLUMNS_AVX512_H
#define WN_Q8_COLUMNS_AVX512_H

#include "engine/kernels/move_q8/move_q8.h"
#include "engine/kernels/q8_bytes.h"
#include "engine/kernels/q8_epilogue_avx512.h"

#define WN_Q8_COLUMNS 64u /* of a step */

struct wn_q8_columns {
    struct wn_q8_args out; /* e points to it */
    struct wn_q8_v512 e;
    const struct wn_move_q8 *a;
    const char *x; /* column 0 of channel 0 */
    v512i order;   /* of the dwords of wn_q8_v512_pack(): columns */
};

/** The integers, without the zero point, of nv vectors of x, and 0 for the other i up to 4. Inlined. */
typedef void wn_q8_integers_fn(const struct wn_q8_columns *cols, const void *job, const float *x, unsigned nv,
                               v512i *i);

/** ret stays where it is as long as it is used. */
WN_Q8_INLINE void wn_q8_columns_init(struct wn_q8_columns *ret, const struct wn_move_q8 *a, const void *x)
{
    static const int32_t order[16] = { 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15 };
    ret->out = (struct wn_q8_args){ .y = a->y,
                                    .y_stride = a->y_stride,
                                    .out = a->form,
                                    .mask = a->mask,
                                    .y_zp = a->zp,
                                    .q_lo = a->q_lo,
                                    .q_hi = a->q_hi };
    ret->e = wn_q8_v512_begin(&ret->out);
    ret->a = a;
    ret->x = x;
    ret->order = v512i_load(order);
}

/* Columns c.. of channels o.. (one, or up to four as quads); nv vectors, a constant after inlining. */
WN_Q8_INLINE void wn_q8_columns_step(const struct wn_q8_columns *cols, wn_q8_integers_fn *integers, const void *job,
                                     size_t o, size_t c, unsigned nv)
{
    const struct wn_move_q8 *a = cols->a;
    const struct wn_q8_v512 e = cols->e; /* a copy: storing bytes cannot change it */
    const char *x = cols->x + o * a->x_stride + c * sizeof(float);
    v512i i[4], b[4];
    if (a->form == WN_OUT_QUAD) {
        const size_t rows = WN_MIN(a->channels - o, (size_t)4);
        WN_UNROLL
        for (size_t k = 0; k < 4; k++, x += a->x_stride) {
            b[k] = v512i_zero();
            if (k < rows) {
                integers(cols, job, (const float *)(const void *)x, nv, i);
                b[k] = wn_q8_v512_pack(&e, i);
            }
        }
        wn_q8_v512_put_rows(&e, o, rows, c, b, nv);
        return;
    }
    integers(cols, job, (const float *)(const void *)x, nv, i);
    if (nv == 4 && !e.mask) {
        v512i_store(e.y + o * e.y_stride + c, v512i_permute_i32(wn_q8_v512_pack(&e, i), cols->order));
        return;
    }
    WN_UNROLL
    for (unsigned v = 0; v < nv; v++)
        wn_q8_v512_put_plane(&e, o, c + 16 * v, i[v]);
}

/** Channels c0 .. c1 - 1, all columns: a multiple of 16. */
WN_Q8_INLINE void wn_q8_columns_run(const struct wn_q8_columns *cols, wn_q8_integers_fn *integers, const void *job,
                                    size_t c0, size_t c1)
{
    const size_t n = cols->a->n;
    for (size_t o = c0; o < c1; o += wn_q8_lanes(cols->a->form)) {
        size_t c = 0;
        for (; c + WN_Q8_COLUMNS <= n; c += WN_Q8_COLUMNS)
            wn_q8_columns_step(cols, integers, job, o, c, WN_Q8_COLUMNS / 16);
        for (; c < n; c += 16)
            wn_q8_columns_step(cols, integers, job, o, c, 1);
    }
}

#endif
