/* idx.h: IDX files, the form of MNIST and its kin: big-endian header, then bytes.
 *
 * Source: yann.lecun.com/exdb/mnist: magic 0x00 0x00 TYPE RANK, RANK extents of 32 bits; TYPE 0x08 is unsigned byte. */
#ifndef WN_IDX_H
#define WN_IDX_H

#include "base/base.h"

/** A view of the file's bytes. */
struct wn_idx {
    unsigned rank;   /* 1: labels; 3: (n, h, w) grey pictures; 4: (n, h, w, c), c 1 or 3 */
    uint32_t dim[4]; /* outermost first */
    const uint8_t *data;
};

/** Whether the first bytes are those of an IDX file of unsigned bytes. */
bool wn_idx_looks_like(const void *bytes, size_t n);
/** @param name  appears in messages
 *  @return E_MALFORMED (extents that do not fit the length), E_UNSUPPORTED (another type or rank) */
WINNOW_MUST_USE enum winnow_status wn_idx_parse(const void *bytes, size_t n, const char *name, struct wn_idx *ret,
                                                struct winnow_err *err);

/** Unpack gzip; several members one behind the other are one stream, as gunzip has it.
 *  @param max        a longer result is E_TOO_LARGE
 *  @param ret_bytes  malloc'ed
 *  @return E_MALFORMED (not gzip, broken, cut short), E_TOO_LARGE, E_NOMEM */
WINNOW_MUST_USE enum winnow_status wn_gunzip(const void *bytes, size_t n, const char *name, size_t max,
                                             void **ret_bytes, size_t *ret_n, struct winnow_err *err);
/** Unpack the first bytes, at most `room`; how many there are (0: not gzip). The rest may be missing or broken. */
size_t wn_gunzip_head(const void *bytes, size_t n, void *to, size_t room);

#endif
