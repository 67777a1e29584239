/* pb.c: see pb.h. */
#include "daemon/api/pb.h"

#include <stdio.h>
#include <string.h>

bool wn_pb_varint(struct wn_pb *pb, uint64_t *ret)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64 && pb->p < pb->end; shift += 7) {
        uint64_t b = *pb->p++;
        if (shift == 63 && b > 1)
            break;
        v |= (b & 0x7f) << shift;
        if (!(b & 0x80)) {
            *ret = v;
            return true;
        }
    }
    pb->broken = true;
    return false;
}

static bool fixed(struct wn_pb *pb, size_t n, uint64_t *ret)
{
    if ((size_t)(pb->end - pb->p) < n)
        return false;
    *ret = 0;
    for (size_t i = 0; i < n; i++)
        *ret |= (uint64_t)pb->p[i] << (8 * i);
    pb->p += n;
    return true;
}

bool wn_pb_next(struct wn_pb *pb, struct wn_pb_field *ret)
{
    uint64_t key;
    if (pb->broken || pb->p == pb->end || !wn_pb_varint(pb, &key))
        return false;
    *ret = (struct wn_pb_field){ .number = (uint32_t)(key >> 3), .wire = (unsigned)(key & 7) };
    bool ok = key >> 3 >= 1 && key >> 3 < (uint64_t)1 << 29;
    switch (ret->wire) {
    case WN_PB_VARINT:
        ok = wn_pb_varint(pb, &ret->u) && ok;
        break;
    case WN_PB_FIXED64:
        ok = fixed(pb, 8, &ret->u) && ok;
        break;
    case WN_PB_FIXED32:
        ok = fixed(pb, 4, &ret->u) && ok;
        break;
    case WN_PB_BYTES:
        ok = wn_pb_varint(pb, &ret->u) && ret->u <= (uint64_t)(pb->end - pb->p) && ok;
        if (ok) {
            ret->p = pb->p;
            ret->n = (size_t)ret->u;
            pb->p += ret->n;
        }
        break;
    default: /* groups */
        ok = false;
    }
    pb->broken = !ok;
    return ok;
}

size_t wn_pb_varint_size(uint64_t v)
{
    size_t n = 1;
    for (; v >= 0x80; v >>= 7)
        n++;
    return n;
}

size_t wn_pb_bytes_size(uint32_t number, size_t n)
{
    return wn_pb_varint_size((uint64_t)number << 3) + wn_pb_varint_size(n) + n;
}

void wn_pb_put_varint(struct wn_buf *to, uint64_t v)
{
    char *at = wn_buf_room(to, 10);
    if (!at)
        return;
    for (; v >= 0x80; v >>= 7, to->n++)
        *at++ = (char)(v | 0x80);
    *at = (char)v;
    to->n++;
}

void wn_pb_put_head(struct wn_buf *to, uint32_t number, size_t n)
{
    wn_pb_put_varint(to, (uint64_t)number << 3 | WN_PB_BYTES);
    wn_pb_put_varint(to, n);
}

void wn_pb_put_bytes(struct wn_buf *to, uint32_t number, const void *p, size_t n)
{
    wn_pb_put_head(to, number, n);
    wn_buf_add(to, p, n);
}

size_t wn_pb_print_i64(char *to, int64_t v)
{
    return (size_t)snprintf(to, 21, "%lld", (long long)v);
}

static bool small(struct wn_pb pb, unsigned depth, unsigned *fields)
{
    struct wn_pb_field f;
    while (wn_pb_next(&pb, &f)) {
        if (!*fields)
            return false;
        --*fields;
        if (f.wire != WN_PB_BYTES || !f.n)
            continue;
        struct wn_pb probe = wn_pb_sub(&f);
        struct wn_pb_field g;
        while (wn_pb_next(&probe, &g))
            continue;
        if (!probe.broken && (!depth || !small(wn_pb_sub(&f), depth - 1, fields)))
            return false;
    }
    return true;
}

bool wn_pb_is_small(const void *p, size_t n, unsigned max_depth, unsigned max_fields)
{
    return small(wn_pb_init(p, n), max_depth, &max_fields);
}
