/* text.h: small readings of what stands in paths, headers and queries. */
#ifndef WN_API_TEXT_H
#define WN_API_TEXT_H

#include "base/arena.h"
#include "base/base.h"
#include "winnow/winnow.h"

/** Decode %XX in place (and '+' as a space where `form`); a NUL follows. False: a '%' without two hex digits. */
bool wn_percent_decode(char *s, size_t n, bool form, size_t *ret_n);
/** A gRPC message as a header value: bytes outside 0x20..0x7e, '%', and spaces at the edges become %XX.
 *  Source: grpc/grpc doc/PROTOCOL-HTTP2.md. */
char *wn_grpc_message(struct wn_arena *arena, const char *text);
/** "100m", "5S" (hours H, minutes M, seconds S, m, u, n) in microseconds, rounded up; at most 8 digits. */
bool wn_grpc_timeout(const char *text, size_t n, uint64_t *ret_us);
/** The parameter charset of a media type ("text/plain; charset=utf-8", its value perhaps in quotes): into `ret`, empty
 *  where there is none. False: a parameter that is malformed, or charset twice.  Source: RFC 9110, 5.6.6 and 8.3. */
bool wn_type_charset(const char *type, size_t n, struct winnow_str *ret);
/** Decimal digits only, no sign, no overflow. */
bool wn_text_u64(const char *s, size_t n, uint64_t *ret);
/** A pin: parts "generation=17", "version=3", "digest=sha256:…" separated by commas or semicolons. What `digest` points
 *  to is in `arena`. E_MALFORMED names the part that is not understood. */
struct wn_pin;
WINNOW_MUST_USE enum winnow_status wn_pin_parse(const char *s, size_t n, struct wn_arena *arena, struct wn_pin *ret,
                                                struct winnow_err *err);
/** Base64 (RFC 4648, padding optional, whitespace is an error) into `arena`. */
bool wn_base64_decode(const char *s, size_t n, struct wn_arena *arena, struct winnow_str *ret);

/** "FP32", … for a dtype; and back, WINNOW_UNDEFINED for an unknown name. */
const char *wn_oip_name(enum winnow_dtype dtype);
enum winnow_dtype wn_oip_dtype(const char *name, size_t n);

#endif
