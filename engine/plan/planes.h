/* planes.h: values as planes: getting an input in the form a kernel reads, making room for an output, keeping padding.
 * Part of lowering. */
#ifndef WN_PLANES_H
#define WN_PLANES_H

#include "engine/plan/geometry.h"
#include "engine/plan/share.h"

/** A value in a plane form, as kernels address it. */
struct wn_planes {
    struct wn_loc loc;  /* of the buffer */
    size_t base;        /* bytes from there to column 0 of channel 0 */
    size_t plane_bytes; /* from one plane (f32, plane) or quad of planes to the next */
    size_t n_planes;    /* planes, or quads of planes */
    struct wn_layout layout;
    size_t elem; /* bytes per column */
};

/** Planes that a window reads: the input itself, or its stride phases. */
struct wn_source {
    struct wn_planes planes;
    int32_t *tap_off;     /* [n_taps] bytes from column 0 of a channel */
    size_t channel_bytes; /* from one channel (or quad) to the next */
};

static inline size_t wn_form_elem(enum wn_form form)
{
    return form == WN_FORM_PLANE8 ? 1 : 4;
}

/** Does v lie in planes already, in any form? */
static inline bool wn_planes_any(const struct wn_lower *lo, wn_vid v)
{
    const struct wn_loc *form = lo->plan->place[v].form;
    return form[WN_FORM_F32].kind != WN_LOC_NONE || form[WN_FORM_QUAD].kind != WN_LOC_NONE ||
           form[WN_FORM_PLANE8].kind != WN_LOC_NONE;
}

/** Is v, of bytes, in planes but not in quads? */
static inline bool wn_planes_only(const struct wn_lower *lo, wn_vid v)
{
    const struct wn_loc *form = lo->plan->place[v].form;
    return form[WN_FORM_QUAD].kind == WN_LOC_NONE && form[WN_FORM_PLANE8].kind != WN_LOC_NONE;
}

/** Value v in `form`, which it has or which is made from another form by added steps. */
enum winnow_status wn_planes_get(struct wn_lower *lo, wn_vid v, enum wn_form form, struct wn_planes *ret);
/** A new buffer for v in `form`; v has it from now on. */
enum winnow_status wn_planes_new(struct wn_lower *lo, wn_vid v, enum wn_form form, struct wn_planes *ret);
/** What the window of `node` (input x, output y) reads, in `form`; pad is the input's zero point (u8 forms). */
enum winnow_status wn_planes_source(struct wn_lower *lo, const struct wn_node *node, const struct wn_window *win,
                                    enum wn_form form, uint8_t pad, struct wn_source *ret);

/** Offsets into these planes, which `node` reads, fit 32 bits? */
enum winnow_status wn_planes_check(struct wn_lower *lo, const struct wn_node *node, const struct wn_planes *p);
/** Value v, which has some plane form, as a plain tensor. */
enum winnow_status wn_planes_to_plain(struct wn_lower *lo, wn_vid v);
/** The u8 parts of the two above (planes_q8.c). */
enum winnow_status wn_planes_q8_make(struct wn_lower *lo, wn_vid v, enum wn_form form);
enum winnow_status wn_planes_q8_to_plain(struct wn_lower *lo, wn_vid v);

/** Write the pad value around planes [p0, p1): what a run does after its columns. pad is a float's bits for f32, the
 *  zero point in every byte otherwise. */
void wn_planes_fill_pad(const struct wn_planes *planes, char *base, uint32_t pad, size_t p0, size_t p1);
/** The part of it that lies beside the columns [c0, c1): before the first column, behind the last, or neither. */
void wn_planes_fill_beside(const struct wn_planes *planes, char *base, uint32_t pad, size_t p0, size_t p1, size_t c0,
                           size_t c1);
/** All of it, and the columns of planes [p0, p1) that are no pixels: for steps that copy planes as they lie. */
void wn_planes_fill_gaps(const struct wn_planes *planes, char *base, uint32_t pad, size_t p0, size_t p1);

#endif
