/* npz.h: named arrays in one file: a zip of .npy members, as numpy.savez writes it.
 *
 * Reading takes stored and deflated members and is bounded by the limits below; a member that is not an array, a name
 * given twice or an encrypted member is an error. Writing stores members without compression; the same arrays give the
 * same bytes. libarchive does the zip. */
#ifndef WN_NPZ_H
#define WN_NPZ_H

#include "base/npy.h"

/** Bounds on a hostile file. Zero fields take the defaults. */
struct wn_npz_limits {
    size_t max_arrays; /* 4096 */
    size_t max_bytes;  /* of all arrays together once unpacked, headers included; 2 GiB */
};
#define WN_NPZ_MAX_NAME 255

struct wn_npz_array {
    char *name;        /* without ".npy"; malloc'ed */
    struct wn_npy npy; /* data malloc'ed */
};

/** All arrays of a file, in its order. Zero-initialise. */
struct wn_npz {
    struct wn_npz_array *array;
    size_t n, cap;
};

/** Read all arrays of the file `path`.
 *  @param limits  may be NULL
 *  @return E_NOT_FOUND, E_MALFORMED, E_UNSUPPORTED, E_TOO_LARGE, E_NOMEM, E_IO; err names file and member */
WINNOW_MUST_USE enum winnow_status wn_npz_read(const char *path, const struct wn_npz_limits *limits, struct wn_npz *ret,
                                               struct winnow_err *err);
/** The same from memory; `name` appears in messages. */
WINNOW_MUST_USE enum winnow_status wn_npz_parse(const void *bytes, size_t n, const char *name,
                                                const struct wn_npz_limits *limits, struct wn_npz *ret,
                                                struct winnow_err *err);
/** The array called `name`, or NULL. */
struct wn_npy *wn_npz_find(const struct wn_npz *npz, const char *name);
/** Free all arrays. */
void wn_npz_done(struct wn_npz *npz);

/** Writes one array after the other to a temporary file beside `path`; nothing appears there before finish.
 *  What is no regular file (a pipe, /dev/null) is written as it is. */
struct wn_npz_writer;
WINNOW_MUST_USE enum winnow_status wn_npz_writer_new(const char *path, struct wn_npz_writer **ret,
                                                     struct winnow_err *err);
/** Add an array; `a->data` is used during the call only. */
WINNOW_MUST_USE enum winnow_status wn_npz_writer_add(struct wn_npz_writer *w, const char *name, const struct wn_npy *a,
                                                     struct winnow_err *err);
/** Add an array in pieces: begin says type, rank, shape and bytes (`a->data` is not looked at), then exactly
 *  `a->bytes` bytes must follow before the next array or the end. */
WINNOW_MUST_USE enum winnow_status wn_npz_writer_begin(struct wn_npz_writer *w, const char *name,
                                                       const struct wn_npy *a, struct winnow_err *err);
WINNOW_MUST_USE enum winnow_status wn_npz_writer_data(struct wn_npz_writer *w, const void *bytes, size_t n,
                                                      struct winnow_err *err);
/** Close the zip, make it durable and rename it to `path`. */
WINNOW_MUST_USE enum winnow_status wn_npz_writer_finish(struct wn_npz_writer *w, struct winnow_err *err);
/** Free; removes the temporary file of an unfinished writer. NULL is fine. */
void wn_npz_writer_free(struct wn_npz_writer *w);

/** All arrays at once, durably. */
WINNOW_MUST_USE enum winnow_status wn_npz_write(const char *path, const struct wn_npz *npz, struct winnow_err *err);

#endif
