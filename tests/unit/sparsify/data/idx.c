/* idx.c: headers are held against lengths; gzip is bounded. */
#include "sparsify/data/idx.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static const uint8_t labels[] = { 0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9 };
static const uint8_t pictures[] = { 0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6 };

Test(idx, reads)
{
    struct wn_idx x;
    struct winnow_err err = { 0 };
    cr_assert(wn_idx_looks_like(labels, sizeof labels));
    cr_assert_eq(wn_idx_parse(labels, sizeof labels, "l", &x, &err), WINNOW_OK, "%s", err.msg);
    cr_assert(x.rank == 1 && x.dim[0] == 3 && x.data[2] == 9);
    cr_assert_eq(wn_idx_parse(pictures, sizeof pictures, "p", &x, &err), WINNOW_OK, "%s", err.msg);
    cr_assert(x.rank == 3 && x.dim[0] == 2 && x.dim[1] == 1 && x.dim[2] == 3 && x.data[5] == 6);
}

Test(idx, refuses)
{
    struct wn_idx x;
    uint8_t b[sizeof pictures];
    for (size_t n = 0; n < sizeof pictures; n++)
        cr_assert_neq(wn_idx_parse(pictures, n, "p", &x, NULL), WINNOW_OK, "%zu bytes", n);
#define WITH(at, v) (memcpy(b, pictures, sizeof b), b[at] = (v), wn_idx_parse(b, sizeof b, "p", &x, NULL))
    cr_assert_eq(WITH(2, 0x0d), WINNOW_E_UNSUPPORTED); /* floats */
    cr_assert_eq(WITH(3, 2), WINNOW_E_UNSUPPORTED);
    cr_assert_eq(WITH(7, 3), WINNOW_E_MALFORMED);
    cr_assert_eq(WITH(7, 1), WINNOW_E_MALFORMED); /* bytes behind the data */
    cr_assert_eq(WITH(4, 0xff), WINNOW_E_MALFORMED);
    cr_assert_eq(WITH(8, 0xff), WINNOW_E_MALFORMED);
    cr_assert_eq(WITH(11, 0), WINNOW_E_MALFORMED);
    cr_assert_not(wn_idx_looks_like("\x89PNG\r\n\x1a\n", 8));
}

static size_t gzip(const void *p, size_t n, uint8_t *to, size_t room)
{
    z_stream z = { .next_in = (Bytef *)(uintptr_t)p, .avail_in = (uInt)n, .next_out = to, .avail_out = (uInt)room };
    cr_assert_eq(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    cr_assert_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    size_t used = room - z.avail_out;
    deflateEnd(&z);
    return used;
}

Test(idx, gunzip)
{
    uint8_t packed[4096], *zeros = calloc(1, 1 << 20);
    void *out;
    size_t n = gzip(labels, sizeof labels, packed, sizeof packed), m;
    cr_assert_eq(wn_gunzip(packed, n, "x", 1 << 20, &out, &m, NULL), WINNOW_OK);
    cr_assert(m == sizeof labels && memcmp(out, labels, m) == 0);
    free(out);
    n += gzip(labels, sizeof labels, packed + n, sizeof packed - n);
    cr_assert_eq(wn_gunzip(packed, n, "x", 1 << 20, &out, &m, NULL), WINNOW_OK);
    cr_assert_eq(m, 2 * sizeof labels, "two members are one stream");
    free(out);
    for (size_t k = 0; k < n; k++)
        if (wn_gunzip(packed, k, "x", 1 << 20, &out, &m, NULL) == WINNOW_OK) {
            cr_assert_eq(m, sizeof labels);
            free(out);
        }
    n = gzip(zeros, 1 << 20, packed, sizeof packed);
    cr_assert_eq(wn_gunzip(packed, n, "x", (1 << 20) - 1, &out, &m, NULL), WINNOW_E_TOO_LARGE);
    cr_assert_eq(wn_gunzip(packed, n, "x", 1 << 20, &out, &m, NULL), WINNOW_OK);
    cr_assert_eq(m, 1 << 20);
    free(out);
    free(zeros);
}
