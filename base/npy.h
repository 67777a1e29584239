/* npy.h: one array in NumPy's .npy format, versions 1 to 3.
 *
 * Source: numpy/numpy numpy/lib/format.py. Numbers and booleans in C order and little endian only; no object arrays
 * (they are pickles), no structured types, no Fortran order, nothing behind the data. */
#ifndef WN_NPY_H
#define WN_NPY_H

#include "base/base.h"

#define WN_NPY_MAX_RANK   8
#define WN_NPY_MAX_HEADER (64u << 10)

/** Element types, named as NumPy's type codes: kind and bytes. */
enum wn_npy_type {
    WN_NPY_NONE,
    WN_NPY_B1,
    WN_NPY_F2,
    WN_NPY_F4,
    WN_NPY_F8,
    WN_NPY_I1,
    WN_NPY_I2,
    WN_NPY_I4,
    WN_NPY_I8,
    WN_NPY_U1,
    WN_NPY_U2,
    WN_NPY_U4,
    WN_NPY_U8,
};

/** A C-ordered array. Who owns `data` is said where the struct comes from. */
struct wn_npy {
    enum wn_npy_type type;
    unsigned rank;                  /* 0 = scalar */
    int64_t shape[WN_NPY_MAX_RANK]; /* outermost first, each >= 0 */
    void *data;
    size_t bytes; /* of data: product of shape times the element size */
};

/** Bytes of one element; 0 for WN_NPY_NONE. */
size_t wn_npy_type_size(enum wn_npy_type type);
/** "f4", "u1", …; never NULL. */
const char *wn_npy_type_name(enum wn_npy_type type);
/** Number of elements. */
size_t wn_npy_count(const struct wn_npy *a);

/** Read the header at the start of `bytes`. `ret->data` stays NULL, `ret->bytes` is what must follow.
 *  @param name        appears in messages
 *  @param ret_header  bytes of magic and header; the data starts there
 *  @return E_MALFORMED, E_UNSUPPORTED (a type or order we refuse), E_TOO_LARGE (header or array) */
WINNOW_MUST_USE enum winnow_status wn_npy_parse_header(const void *bytes, size_t n, const char *name,
                                                       struct wn_npy *ret, size_t *ret_header, struct winnow_err *err);
/** Read a whole .npy held in memory. `ret->data` is malloc'ed (aligned for any type). Booleans must be 0 or 1. */
WINNOW_MUST_USE enum winnow_status wn_npy_parse(const void *bytes, size_t n, const char *name, struct wn_npy *ret,
                                                struct winnow_err *err);
/** Read a .npy file of at most `max` bytes. `ret->data` is malloc'ed. */
WINNOW_MUST_USE enum winnow_status wn_npy_read(const char *path, size_t max, struct wn_npy *ret,
                                               struct winnow_err *err);
/** Check that booleans are 0 or 1 (anything else is undefined behaviour for who reads them as bool). */
bool wn_npy_bools_valid(const struct wn_npy *a);

#define WN_NPY_HEADER_ROOM 320
/** Write magic and a version 1 header for type, rank and shape of `a`; returns its bytes, a multiple of 64. */
size_t wn_npy_format_header(const struct wn_npy *a, char ret[WN_NPY_HEADER_ROOM]);
/** Write `a` to `path`, durably (see wn_file_write_durable). */
WINNOW_MUST_USE enum winnow_status wn_npy_write(const char *path, const struct wn_npy *a, struct winnow_err *err);
/** Free malloc'ed data. */
void wn_npy_done(struct wn_npy *a);

#endif
