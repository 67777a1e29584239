/* codec.h: a compiled model as one file, and back. Internal to engine/plan.
 *
 * One description serves both directions: every function below writes what it is given where im->reading is false, and
 * fills it in where it is true. What is large (packed weights, tensors) lies in blobs that a reader points into; the
 * rest is a stream that is copied out. A writer changes nothing of what it is given, for others may be using it. A
 * failure sticks: what follows does nothing, and im->bad is looked at in the end.
 *
 *     file:  header (cache.c) | stream | blobs, each aligned to 64 | a page of zeros, which kernels may over-read */
#ifndef WN_CODEC_H
#define WN_CODEC_H

#include "base/arena.h"
#include "base/vec.h"

struct wn_graph;
struct wn_pack_class;
struct wn_tensor;

/** A file mapped read-only; packs and models that point into it hold references. */
struct wn_mapping;
/** Takes over base [n bytes] of mmap; one reference. NULL: no memory, nothing taken. */
struct wn_mapping *wn_mapping_new(void *base, size_t n);
struct wn_mapping *wn_mapping_ref(struct wn_mapping *map);
void wn_mapping_unref(struct wn_mapping *map); /* NULL is fine */

/** Bytes to be written as they are. */
struct wn_codec_blob {
    const void *p;
    size_t n, at; /* at: among the blobs */
};

/** Something that later parts of the image refer to by its number. */
struct wn_codec_obj {
    const void *p;
    const struct wn_pack_class *class;
};

struct wn_codec {
    bool reading, bad;
    WN_VEC(struct wn_codec_obj) objects; /* in the order in which they were written */
    /* writing */
    WN_VEC(unsigned char) stream;
    WN_VEC(struct wn_codec_blob) blobs;
    size_t blob_bytes;
    struct wn_codec_ids *ids; /* of tensors that were written */
    /* reading */
    struct wn_mapping *map;
    const unsigned char *p, *end, *blob; /* the rest of the stream; the blobs */
    struct wn_arena *arena;              /* where what is copied out goes */
    WN_VEC(struct wn_tensor *) tensors;  /* in order of their first mention */
};

void wn_codec_done(struct wn_codec *im);

/** n bytes at p: numbers, enums and structs without pointers. */
void wn_codec_bytes(struct wn_codec *im, void *p, size_t n);
#define WN_CODEC(im, lvalue) wn_codec_bytes((im), &(lvalue), sizeof(lvalue))
void wn_codec_bool(struct wn_codec *im, bool *b);
/** A count of what follows in the stream, a byte or more each, by which a reader allocates: at most `max`. */
void wn_codec_count(struct wn_codec *im, size_t *n, size_t max);
/** A text, or NULL. */
void wn_codec_text(struct wn_codec *im, const char **s);
/** n bytes that are copied into the reader's arena; NULL where n is 0 or it is NULL. */
void wn_codec_copied(struct wn_codec *im, const void **p, size_t n);
/** n bytes that the reader points at, or NULL; they must stay as they are until the file is written. */
void wn_codec_blob(struct wn_codec *im, const void **p, size_t n);

/** Memory that arrays lie in: blocks of an arena, or of an image. */
struct wn_codec_blocks {
    WN_VEC(struct wn_codec_blob) block;
};
/** Of all that `arena` holds now. False: no memory. */
bool wn_codec_blocks_of(const struct wn_arena *arena, struct wn_codec_blocks *ret);
/** The blocks as blobs; and a pointer into them, or NULL. The caller releases them with wn_vec_done(). */
void wn_codec_blocks(struct wn_codec *im, struct wn_codec_blocks *blocks);
void wn_codec_into(struct wn_codec *im, const struct wn_codec_blocks *blocks, const void **p);

/** `p` is the next object. False: no memory. */
bool wn_codec_object(struct wn_codec *im, const void *p, const struct wn_pack_class *class);
/** The number of the object `p`, from 0; SIZE_MAX: it is none. And back; NULL: there are not so many. */
size_t wn_codec_object_number(const struct wn_codec *im, const void *p);
const struct wn_codec_obj *wn_codec_object_at(const struct wn_codec *im, size_t number);

/** A tensor, or NULL; one that was met before is the same again. `data`: what is written as its data; NULL: the reader
 *  gets none. */
void wn_codec_tensor(struct wn_codec *im, const struct wn_tensor **t, const void *data);
/** The data to be written of a constant of the graph; NULL: none. */
typedef const void *wn_codec_data_fn(void *arg, const struct wn_tensor *t);
/** A graph after passes, its sub-graphs too. A reader gets an initialised one, also where the image is bad. A node
 * whose parameters codec_graph.c does not know makes the image bad. */
void wn_codec_graph(struct wn_codec *im, struct wn_graph *g, wn_codec_data_fn *data_of, void *arg);

#endif
