/* pack_class.h: what a kind of packed weights can do, for those who keep packs without knowing their kinds. */
#ifndef WN_PACK_CLASS_H
#define WN_PACK_CLASS_H

#include <stddef.h>
#include "winnow/winnow.h"

struct wn_codec; /* codec.h */

/** Makes the weights that `pack` was made of again, all their bytes. */
typedef enum winnow_status wn_unpack_fn(const void *pack, void *ret_w, struct winnow_err *err);

/** A kind of pack. */
struct wn_pack_class {
    size_t size; /* of an object */
    void (*free)(void *obj);
    wn_unpack_fn *unpack;
    void (*image)(struct wn_codec *im,
                  void *obj); /* a reader gets an object of zeros, which `free` takes at any point */
};

#endif
