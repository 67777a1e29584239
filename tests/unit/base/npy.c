/* npy.c: .npy headers: what NumPy writes is read, what it would refuse or we refuse is named. */
#include "base/npy.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A version `v` file around `dict`, with `data_n` zero bytes of data. */
static unsigned char *file_of(unsigned v, const char *dict, size_t data_n, size_t *ret_n)
{
    size_t len = strlen(dict), start = v == 1 ? 10 : 12;
    unsigned char *p = calloc(1, start + len + data_n);
    memcpy(p, "\x93NUMPY", 6);
    p[6] = (unsigned char)v;
    p[8] = (unsigned char)len;
    p[9] = (unsigned char)(len >> 8);
    memcpy(p + start, dict, len);
    *ret_n = start + len + data_n;
    return p;
}

static enum winnow_status try_dict(const char *dict, size_t data_n, struct winnow_err *err)
{
    size_t n;
    unsigned char *p = file_of(1, dict, data_n, &n);
    struct wn_npy a = { 0 };
    enum winnow_status status = wn_npy_parse(p, n, "x", &a, err);
    if (status == WINNOW_OK)
        wn_npy_done(&a);
    free(p);
    return status;
}

Test(npy, reads_every_version)
{
    for (unsigned v = 1; v <= 3; v++) {
        size_t n;
        unsigned char *p = file_of(v, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }    \n", 24, &n);
        struct wn_npy a = { 0 };
        struct winnow_err err = { 0 };
        cr_assert_eq(wn_npy_parse(p, n, "x", &a, &err), WINNOW_OK, "%s", err.msg);
        cr_assert_eq(a.type, WN_NPY_F4);
        cr_assert_eq(a.rank, 2);
        cr_assert_eq(a.shape[0], 2);
        cr_assert_eq(a.shape[1], 3);
        cr_assert_eq(a.bytes, 24);
        cr_assert_eq(wn_npy_count(&a), 6);
        wn_npy_done(&a);
        free(p);
    }
}

Test(npy, refuses)
{
    static const struct {
        const char *dict;
        size_t data_n;
        enum winnow_status status;
        const char *msg;
    } cases[] = {
        { "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", 8, WINNOW_E_UNSUPPORTED,
          "npy 'x': object arrays (pickles) are refused" },
        { "{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }", 4, WINNOW_E_UNSUPPORTED,
          "npy 'x': element type '>f4' is not supported" },
        { "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", 4, WINNOW_E_UNSUPPORTED,
          "npy 'x': structured types are not supported" },
        { "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }", 16, WINNOW_E_UNSUPPORTED,
          "npy 'x': Fortran order is not supported" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }", 15, WINNOW_E_MALFORMED,
          "npy 'x': 15 bytes of data where the shape needs 16" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }", 17, WINNOW_E_MALFORMED,
          "npy 'x': 17 bytes of data where the shape needs 16" },
        { "{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296), }", 0, WINNOW_E_TOO_LARGE,
          "npy 'x': shape overflows" },
        { "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999,), }", 0, WINNOW_E_TOO_LARGE,
          "npy 'x': shape overflows" },
        { "{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }", 0, WINNOW_E_MALFORMED,
          "npy 'x': shape holds something that is not a size" },
        { "{'descr': '<f8', 'fortran_order': False, 'shape': (1), }", 8, WINNOW_E_MALFORMED,
          "npy 'x': shape is not a tuple" },
        { "{'descr': '<f8', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1), }", 8, WINNOW_E_UNSUPPORTED,
          "npy 'x': more than 8 dimensions" },
        { "{'descr': '<f8', 'fortran_order': False, }", 8, WINNOW_E_MALFORMED,
          "npy 'x': header lacks descr, fortran_order or shape" },
        { "{'descr': '<f8', 'descr': '<f8', 'fortran_order': False, 'shape': (), }", 8, WINNOW_E_MALFORMED,
          "npy 'x': header has an unknown or repeated key" },
        { "{'descr': '<f8', 'fortran_order': False, 'shape': (), } x", 8, WINNOW_E_MALFORMED,
          "npy 'x': header goes on behind its dict" },
        { "__import__('os')", 8, WINNOW_E_MALFORMED, "npy 'x': header is not a dict" },
    };
    for (size_t i = 0; i < WN_COUNT(cases); i++) {
        struct winnow_err err = { 0 };
        cr_expect_eq(try_dict(cases[i].dict, cases[i].data_n, &err), cases[i].status, "%s: %s", cases[i].dict, err.msg);
        cr_expect_str_eq(err.msg, cases[i].msg);
    }
}

Test(npy, every_truncation_is_refused)
{
    size_t n;
    unsigned char *p = file_of(2, "{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }\n", 24, &n);
    for (size_t cut = 0; cut < n; cut++) {
        unsigned char *copy = malloc(cut + 1);
        memcpy(copy, p, cut);
        struct wn_npy a;
        cr_expect_neq(wn_npy_parse(copy, cut, "x", &a, NULL), WINNOW_OK, "cut at %zu", cut);
        free(copy);
    }
    p[10] = p[11] = 0xff; /* a header of 4 GiB */
    struct winnow_err err;
    struct wn_npy a;
    cr_expect_eq(wn_npy_parse(p, n, "x", &a, &err), WINNOW_E_TOO_LARGE);
    free(p);
}

Test(npy, written_is_read)
{
    char path[] = "/tmp/wn-npy-XXXXXX";
    close(mkstemp(path));
    for (unsigned t = WN_NPY_B1; t <= WN_NPY_U8; t++)
        for (unsigned rank = 0; rank <= WN_NPY_MAX_RANK; rank++) {
            struct wn_npy a = { .type = (enum wn_npy_type)t, .rank = rank }, b = { 0 };
            for (unsigned i = 0; i < rank; i++)
                a.shape[i] = 1 + (i + t) % 3;
            struct winnow_err err = { 0 };
            cr_assert(wn_shape_bytes(a.shape, rank, wn_npy_type_size(a.type), &a.bytes));
            a.data = calloc(1, a.bytes);
            ((unsigned char *)a.data)[a.bytes - 1] = 1;
            cr_assert_eq(wn_npy_write(path, &a, &err), WINNOW_OK, "%s", err.msg);
            cr_assert_eq(wn_npy_read(path, 1 << 20, &b, &err), WINNOW_OK, "%s", err.msg);
            cr_assert_eq(b.type, a.type);
            cr_assert_eq(b.rank, a.rank);
            cr_assert_arr_eq(b.shape, a.shape, sizeof a.shape);
            cr_assert_eq(b.bytes, a.bytes);
            cr_assert_arr_eq(b.data, a.data, a.bytes);
            wn_npy_done(&a);
            wn_npy_done(&b);
        }
    unlink(path);
}

Test(npy, header_fits_the_widest_shape)
{
    struct wn_npy a = { .type = WN_NPY_F8, .rank = WN_NPY_MAX_RANK };
    for (unsigned i = 0; i < a.rank; i++)
        a.shape[i] = INT64_MAX;
    char header[WN_NPY_HEADER_ROOM];
    size_t n = wn_npy_format_header(&a, header);
    cr_assert(n <= sizeof header && n % 64 == 0);
    cr_assert_eq(header[n - 1], '\n');
}

Test(npy, booleans_are_zero_or_one)
{
    size_t n;
    unsigned char *p = file_of(1, "{'descr': '|b1', 'fortran_order': False, 'shape': (2,), }", 2, &n);
    p[n - 1] = 2;
    struct wn_npy a;
    struct winnow_err err;
    cr_expect_eq(wn_npy_parse(p, n, "x", &a, &err), WINNOW_E_MALFORMED);
    free(p);
}
