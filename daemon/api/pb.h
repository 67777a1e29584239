/* pb.h: protobuf fields, one at a time, in and out. Bounded: nothing is allocated, groups are refused.
 *
 * Source: the Protocol Buffers encoding (varints of at most 10 bytes, field numbers 1 to 2^29-1). */
#ifndef WN_API_PB_H
#define WN_API_PB_H

#include "daemon/api/buf.h"

enum { WN_PB_VARINT = 0, WN_PB_FIXED64 = 1, WN_PB_BYTES = 2, WN_PB_FIXED32 = 5 };

/** A message, or what is left of it. */
struct wn_pb {
    const unsigned char *p, *end;
    bool broken;
};
struct wn_pb_field {
    uint32_t number;
    unsigned wire;
    uint64_t u;             /* VARINT, FIXED32, FIXED64 */
    const unsigned char *p; /* BYTES */
    size_t n;
};

static inline struct wn_pb wn_pb_init(const void *p, size_t n)
{
    const unsigned char *at = p ? p : (const void *)"";
    return (struct wn_pb){ at, at + n, false };
}
static inline struct wn_pb wn_pb_sub(const struct wn_pb_field *f)
{
    return wn_pb_init(f->p, f->n);
}
/** False: cut short, or longer than 64 bits (`broken` is set). */
bool wn_pb_varint(struct wn_pb *pb, uint64_t *ret);
/** Next field. False at the end, and on a broken message (`broken` is set). */
bool wn_pb_next(struct wn_pb *pb, struct wn_pb_field *ret);

size_t wn_pb_varint_size(uint64_t v);
/** Bytes of a field that holds `n` bytes, its head included. */
size_t wn_pb_bytes_size(uint32_t number, size_t n);
void wn_pb_put_varint(struct wn_buf *to, uint64_t v);
/** Head of a BYTES field. */
void wn_pb_put_head(struct wn_buf *to, uint32_t number, size_t n);
void wn_pb_put_bytes(struct wn_buf *to, uint32_t number, const void *p, size_t n);
/** Decimal text, NUL-terminated, at most 21 bytes with the NUL; returns the length. */
size_t wn_pb_print_i64(char *to, int64_t v);

/** Whether protobuf-c may unpack this small message: at most `max_fields` fields and `max_depth` levels (any BYTES
 * field that parses as a message counts as one, which only makes the guard stricter). */
bool wn_pb_is_small(const void *p, size_t n, unsigned max_depth, unsigned max_fields);

#endif
