/* cache_file.h: compiled forms as files: their names, headers and checksums. Internal to engine/plan. */
#ifndef WN_CACHE_FILE_H
#define WN_CACHE_FILE_H

#include "base/file.h"
#include "engine/plan/codec.h"
#include "winnow/winnow.h"

#define WN_CACHE_SUFFIX   ".plan"
#define WN_CACHE_PATH_MAX 1024

/** The first bytes of the file; the stream follows, then, from a multiple of 4096 on, the blobs and a page of zeros. */
struct wn_cache_header {
    char magic[8];
    char engine[64];              /* what it was made by: a hash of the engine's sources, and the instruction set */
    char path[WN_CACHE_PATH_MAX]; /* of the model's file, without links */
    struct wn_file_id source;
    uint64_t stream_bytes, blobs_at, blob_bytes, total;
    uint64_t n_tag;
    unsigned char tag[WINNOW_TAG_BYTES];
    uint64_t check[2]; /* XXH3 of 128 bits of all of the file, these two being zero */
};

/** What a header says where nothing is wrong: magic, engine and path. E_TOO_LARGE, E_NOT_FOUND: `path` */
enum winnow_status wn_cache_header_init(struct wn_cache_header *h, const char *path, struct winnow_err *err);
/** The file in `folder` for what h->path and h->engine say; malloc'ed, NULL: no memory. */
char *wn_cache_name(const char *folder, const struct wn_cache_header *h);
/** The checksum of a header (its own does not count) and the n pieces that follow it. */
void wn_cache_checksum(const struct wn_cache_header *h, const struct wn_piece *rest, size_t n, uint64_t ret[2]);
/** Check a whole file in memory against `want`'s magic, engine and path: sizes, checksum. The reason where it is not to
 *  be used, else NULL. */
const char *wn_cache_check(const void *bytes, size_t n, const struct wn_cache_header *want);
/** Map the file `name`, if it is a regular one of this user that nobody else may write. E_NOT_FOUND, E_NOMEM */
enum winnow_status wn_cache_map(const char *name, const unsigned char **ret_bytes, size_t *ret_n,
                                struct wn_mapping **ret_map, struct winnow_err *err);
/** Write header, stream and blobs, having filled in sizes and checksum. As wn_file_write_durable() */
enum winnow_status wn_cache_write(const char *name, struct wn_cache_header *h, const struct wn_codec *im,
                                  struct winnow_err *err);
/** Remove from `folder` the forms of files that are gone, of other builds and instruction sets, and, while all together
 *  have more than max_bytes, the one that was used the longest ago; never `keep`. */
void wn_cache_prune(const char *folder, const struct wn_cache_header *want, const char *keep, size_t max_bytes);

#endif
