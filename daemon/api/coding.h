/* coding.h: gzip and deflate of bodies and messages: HTTP's Content-Encoding, gRPC's grpc-encoding. Any thread.
 *
 * Source: RFC 9110 8.4 and 12.5.3, RFC 1950, RFC 1952 (members behind each other are one body); "deflate" is zlib's
 * format in both protocols. */
#ifndef WN_API_CODING_H
#define WN_API_CODING_H

#include <stdatomic.h>
#include "daemon/api/buf.h"
#include "winnow/winnow.h"

enum wn_coding { WN_CODING_IDENTITY, WN_CODING_GZIP, WN_CODING_DEFLATE, WN_CODING_UNKNOWN };

/** What Accept-Encoding and grpc-accept-encoding of an answer say. */
#define WN_CODINGS_HTTP "gzip, deflate"
#define WN_CODINGS_GRPC "identity,deflate,gzip"

/** "gzip", "x-gzip", "deflate", "identity" in any case, or nothing; else UNKNOWN. */
enum wn_coding wn_coding_named(const char *name, size_t n);
const char *wn_coding_name(enum wn_coding coding);
/** The coding an Accept-Encoding header likes best: the highest q, gzip before deflate. IDENTITY: none of ours, or none
 *  that it likes as much as identity where it names that. */
enum wn_coding wn_coding_wanted(const char *accept, size_t n);
/** Whether a list of names (grpc-accept-encoding) has the coding. */
bool wn_coding_listed(const char *list, size_t n, enum wn_coding coding);

/** Bytes that decoded bodies may hold all together. */
struct wn_coding_budget {
    atomic_size_t used, max;
};
/** A decoded body, or one that is collected; its memory is counted in the budget. */
struct wn_inflated {
    char *at;
    size_t n, cap;
};
/** Decode all of `in`. Memory grows with what comes out, never past `max`: a bomb costs no more than an honest body.
 *  @return E_MALFORMED (not of this coding, cut short, bytes behind the end), E_TOO_LARGE (more than `max` bytes),
 *          E_OVERLOAD (the budget is spent), E_NOMEM */
WINNOW_MUST_USE enum winnow_status wn_coding_inflate(enum wn_coding coding, const void *in, size_t n, size_t max,
                                                     struct wn_coding_budget *budget, struct wn_inflated *ret,
                                                     struct winnow_err *err);
/** Append bytes that came in pieces, `max` in all at most (the caller has checked): memory grows as they come.
 * E_OVERLOAD, E_NOMEM. */
WINNOW_MUST_USE enum winnow_status wn_inflated_add(struct wn_inflated *b, const void *p, size_t n, size_t max,
                                                   struct wn_coding_budget *budget, struct winnow_err *err);
void wn_inflated_done(struct wn_inflated *b, struct wn_coding_budget *budget);
/** Encode what stands behind the first `skip` bytes of `b`. False, and nothing changed: out of memory, or it would not
 *  become smaller. */
bool wn_coding_deflate(enum wn_coding coding, struct wn_buf *b, size_t skip);

#endif
