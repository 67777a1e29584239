/* geometry.h: how the pictures of a plan lie in memory.
 *
 * Values that are read with the same offsets (input and output of a stride-1 convolution, both sides of an addition)
 * must have rows of one pitch. They form a class; a class's pitch, and the padding around its planes, is what its most
 * demanding reader needs. A strided convolution or pool reads phases of its input: stride_h * stride_w planes per
 * channel, each holding every stride-th element, which belong to the class of the output. */
#ifndef WN_GEOMETRY_H
#define WN_GEOMETRY_H

#include "engine/passes/fused.h"
#include "engine/plan/lower.h"

/** One tap of a window: which phase of the input it reads, and how far from the output's position there. */
struct wn_tap {
    uint32_t phase; /* slot of phase (y mod stride_h) * stride_w + (x mod stride_w) */
    int32_t dy, dx;
};

/** A window over a concrete picture. */
struct wn_window {
    struct wn_conv_geom geom;  /* pads resolved */
    int64_t h, w, oh, ow;      /* input, output */
    int64_t ph, pw;            /* a phase; = h, w at stride 1 */
    uint32_t n_taps, n_phases; /* phases that some tap reads; others are not made */
    bool strided;
    int8_t slot[64];                  /* [stride_h * stride_w] number of a phase among those, or -1 */
    struct wn_tap *tap;               /* [n_taps], row-major over (kh, kw) */
    int64_t top, bottom, left, right; /* padding the phases need */
};

/** Where the planes of one picture lie, for elements of 4 bytes (f32, quad) or 1 byte. */
struct wn_layout {
    struct wn_plane plane;
    size_t before; /* elements before column 0 of the first plane that hold the pad value */
    size_t after;  /* elements after the last column that hold it: all there are before the next plane */
};

/** Window of a convolution or pool `node` (its geometry in `geom`) on its concrete input; arrays in the plan's arena.
 *  false: too many taps or phases for the plane kernels, or stride above 255; the reference operator runs it. */
bool wn_window_make(struct wn_lower *lo, const struct wn_conv_geom *geom, wn_vid x, struct wn_window *ret);

/** Classes of all values of the plan. */
enum winnow_status wn_geometry_make(struct wn_lower *lo);
/** Layout of value v (rank 3 or 4) for elements of `elem` bytes. */
struct wn_layout wn_geometry_of(const struct wn_lower *lo, wn_vid v, size_t elem);
/** Layout of a h x w picture in v's class: the phases of v's input. */
struct wn_layout wn_geometry_in_class(const struct wn_lower *lo, wn_vid v, int64_t h, int64_t w, size_t elem);
/** Mask of v's columns: ~0 for pixels, 0 for padding; NULL in *ret when every column is a pixel or nobody reads the
 *  padding. Shared by all values of one shape and class. */
enum winnow_status wn_geometry_mask(struct wn_lower *lo, wn_vid v, const uint32_t **ret);
/** True when some reader needs the padding around v. */
bool wn_geometry_padded(const struct wn_lower *lo, wn_vid v);
/** True when both are pictures of one shape and class, so that their planes lie alike. */
bool wn_geometry_joined(const struct wn_lower *lo, wn_vid a, wn_vid b);
/** The zero point that stands in the padding of a u8 value. A QConv with another x_zp reads a copy. */
uint8_t wn_geometry_pad(const struct wn_lower *lo, wn_vid v);

/** A depthwise f32 convolution of stride 2 along the width: its kernel (f32_dw2) reads the input as it lies, with the
 * padding around it, not phases. */
bool wn_geometry_strided_dw(const struct wn_lower *lo, const struct wn_node *node, const struct wn_conv_geom *geom);

/** (N, C, H, W) of a rank-3 (H = 1) or rank-4 type. */
void wn_nchw(const struct wn_type *t, int64_t ret[4]);

/** What a node is to the plane kernels. */
enum wn_spatial {
    WN_SPATIAL_NONE,   /* works on plain tensors */
    WN_SPATIAL_WINDOW, /* convolution or pool: *ret_geom is set */
    WN_SPATIAL_SAME,   /* elementwise over pictures of one shape; also concatenation of channels */
    WN_SPATIAL_FREE,   /* planes in and out, but any layouts (pools): *ret_geom is set */
    WN_SPATIAL_GLOBAL, /* global pool: planes in, a vector out */
};
/** Add, Sub, Mul or Div of an f32 picture and a number for each of its channels: which input is the picture; -1: the
 * node is something else. */
int wn_geometry_by_channel(const struct wn_lower *lo, const struct wn_node *node);
enum wn_spatial wn_spatial_of(const struct wn_lower *lo, const struct wn_node *node, struct wn_conv_geom *ret_geom);

#endif
