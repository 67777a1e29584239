/* digest.h: SHA-256, the name of everything that is named by its content. OpenSSL EVP does the work. */
#ifndef WN_DIGEST_H
#define WN_DIGEST_H

#include "base/base.h"

#define WN_SHA256_BYTES 32
#define WN_DIGEST_TEXT  72 /* "sha256:" + 64 hex digits + NUL */

struct wn_sha256 {
    uint8_t b[WN_SHA256_BYTES];
};

/** Digest of `n` bytes. False only when OpenSSL cannot (out of memory, SHA-256 disabled). */
WINNOW_MUST_USE bool wn_sha256(const void *bytes, size_t n, struct wn_sha256 *ret);

/** A digest being computed. One thread at a time. */
struct wn_hasher;
/** NULL when out of memory. */
struct wn_hasher *wn_hasher_new(void);
WINNOW_MUST_USE bool wn_hasher_add(struct wn_hasher *h, const void *bytes, size_t n);
/** Digest of all that was added; the hasher starts afresh. */
WINNOW_MUST_USE bool wn_hasher_finish(struct wn_hasher *h, struct wn_sha256 *ret);
/** NULL is fine. */
void wn_hasher_free(struct wn_hasher *h);

/** Digest of the regular file `path`, read in pieces; `ret_n` (may be NULL) is its size.
 *  @return E_NOT_FOUND, E_DENIED, E_MALFORMED (not a regular file), E_IO, E_NOMEM */
WINNOW_MUST_USE enum winnow_status wn_sha256_file(const char *path, struct wn_sha256 *ret, uint64_t *ret_n,
                                                  struct winnow_err *err);

/** Digest of a model: of the file `path` where `beside` names nothing; else of that digest and each file's name, with
 *  its NUL, and digest. `beside` are names in path's folder, NULL behind the last. */
WINNOW_MUST_USE enum winnow_status wn_sha256_with(const char *path, const char *const *beside, struct wn_sha256 *ret,
                                                  struct winnow_err *err);

/** "sha256:0123…" into `ret`; returns `ret`. */
char *wn_digest_text(const struct wn_sha256 *d, char ret[WN_DIGEST_TEXT]);
/** The 64 hex digits alone (65 bytes with the NUL); returns `ret`. */
char *wn_digest_hex(const struct wn_sha256 *d, char ret[65]);
/** Read "sha256:" + 64 hex digits, or the digits alone, either case; the whole string. */
bool wn_digest_parse(const char *text, struct wn_sha256 *ret);
bool wn_digest_equal(const struct wn_sha256 *a, const struct wn_sha256 *b);

#endif
