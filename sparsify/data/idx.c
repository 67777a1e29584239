/* idx.c: IDX headers checked against the length, and gzip around them. */
#include "sparsify/data/idx.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define MAX_SIDE 4096u

bool wn_idx_looks_like(const void *bytes, size_t n)
{
    const uint8_t *b = bytes;
    return n >= 8 && b[0] == 0 && b[1] == 0 && b[2] >= 0x08 && b[2] <= 0x0e && b[3] >= 1 && b[3] <= 4;
}

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

enum winnow_status wn_idx_parse(const void *bytes, size_t n, const char *name, struct wn_idx *ret,
                                struct winnow_err *err)
{
    const uint8_t *b = bytes;
    if (!wn_idx_looks_like(bytes, n))
        return wn_fail(err, WINNOW_E_MALFORMED, "'%s' is not an IDX file", name);
    struct wn_idx x = { .rank = b[3] };
    if (b[2] != 0x08)
        return wn_fail(err, WINNOW_E_UNSUPPORTED, "'%s': IDX type 0x%02x, only unsigned bytes (0x08) are read", name,
                       b[2]);
    if (x.rank == 2)
        return wn_fail(err, WINNOW_E_UNSUPPORTED, "'%s': an IDX file with two axes is neither pictures nor labels",
                       name);
    size_t header = 4 + 4 * (size_t)x.rank, want = 1;
    if (n < header)
        return wn_fail(err, WINNOW_E_MALFORMED, "'%s' ends within its header", name);
    for (unsigned i = 0; i < x.rank; i++) {
        x.dim[i] = be32(b + 4 + 4 * (size_t)i);
        if (!wn_mul_size(want, x.dim[i], &want))
            return wn_fail(err, WINNOW_E_MALFORMED, "'%s': extents overflow", name);
    }
    if (x.rank >= 3 && (!x.dim[1] || !x.dim[2] || x.dim[1] > MAX_SIDE || x.dim[2] > MAX_SIDE))
        return wn_fail(err, WINNOW_E_MALFORMED, "'%s': pictures of %u x %u pixels", name, x.dim[2], x.dim[1]);
    if (x.rank == 4 && x.dim[3] != 1 && x.dim[3] != 3)
        return wn_fail(err, WINNOW_E_UNSUPPORTED, "'%s': %u channels, the last axis must be 1 or 3", name, x.dim[3]);
    if (n - header != want)
        return wn_fail(err, WINNOW_E_MALFORMED, "'%s': its header asks for %zu bytes, there are %zu", name, want,
                       n - header);
    x.data = b + header;
    *ret = x;
    return WINNOW_OK;
}

static void inflate_end(z_stream *z)
{
    inflateEnd(z);
}

enum winnow_status wn_gunzip(const void *bytes, size_t n, const char *name, size_t max, void **ret_bytes, size_t *ret_n,
                             struct winnow_err *err)
{
    if (n > UINT32_MAX)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "'%s': over 4 GiB", name);
    WN_CLEANUP(inflate_end) z_stream z = { .next_in = (Bytef *)(uintptr_t)bytes, .avail_in = (uInt)n };
    WN_CLEANUP(wn_freep) uint8_t *out = NULL;
    size_t used = 0, cap = 0;
    if (inflateInit2(&z, 15 + 16) != Z_OK)
        return wn_fail(err, WINNOW_E_NOMEM, "'%s'", name);
    for (;;) {
        if (used == cap) {
            cap = WN_MIN(cap ? 2 * cap : (size_t)64 << 10, max + 1);
            uint8_t *more = used < cap ? realloc(out, cap) : NULL;
            if (!more)
                return used < cap ? wn_fail(err, WINNOW_E_NOMEM, "'%s'", name)
                                  : wn_fail(err, WINNOW_E_TOO_LARGE, "'%s' unpacks to more than %zu bytes", name, max);
            out = more;
        }
        uInt room = (uInt)WN_MIN(cap - used, (size_t)1 << 30);
        z.next_out = out + used;
        z.avail_out = room;
        int rc = inflate(&z, Z_NO_FLUSH);
        used += room - z.avail_out;
        if (rc == Z_STREAM_END && z.avail_in) {
            if (inflateReset(&z) != Z_OK)
                return wn_fail(err, WINNOW_E_MALFORMED, "'%s': broken gzip", name);
        } else if (rc == Z_STREAM_END) {
            break;
        } else if (rc != Z_OK) {
            return wn_fail(err, rc == Z_MEM_ERROR ? WINNOW_E_NOMEM : WINNOW_E_MALFORMED, "'%s': broken gzip", name);
        }
    }
    if (used > max)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "'%s' unpacks to more than %zu bytes", name, max);
    *ret_bytes = WN_TAKE(out);
    *ret_n = used;
    return WINNOW_OK;
}

size_t wn_gunzip_head(const void *bytes, size_t n, void *to, size_t room)
{
    WN_CLEANUP(inflate_end)
    z_stream z = { .next_in = (Bytef *)(uintptr_t)bytes,
                   .avail_in = (uInt)WN_MIN(n, (size_t)1 << 20),
                   .next_out = to,
                   .avail_out = (uInt)WN_MIN(room, (size_t)1 << 20) };
    size_t want = z.avail_out;
    if (inflateInit2(&z, 15 + 16) != Z_OK)
        return 0;
    inflate(&z, Z_SYNC_FLUSH);
    return want - z.avail_out;
}
