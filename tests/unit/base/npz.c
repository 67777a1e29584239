/* npz.c: arrays survive a round trip; limits and malformed zips are refused. */
#include "base/npz.h"

#include <archive.h>
#include <archive_entry.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"

static char path[64];

static void setup(void)
{
    snprintf(path, sizeof path, "/tmp/wn-npz-%ld.npz", (long)getpid());
}

static void teardown(void)
{
    unlink(path);
}

TestSuite(npz, .init = setup, .fini = teardown);

static struct wn_npz sample(void)
{
    static float f[6] = { 1, 2, 3, 4, 5, 6 };
    static int64_t labels[2] = { 7, -1 };
    static struct wn_npz_array arrays[2];
    arrays[0] = (struct wn_npz_array){ (char *)(uintptr_t) "x", { WN_NPY_F4, 2, { 2, 3 }, f, sizeof f } };
    arrays[1] = (struct wn_npz_array){ (char *)(uintptr_t) "label", { WN_NPY_I8, 1, { 2 }, labels, sizeof labels } };
    return (struct wn_npz){ arrays, 2, 2 };
}

Test(npz, round_trip_and_same_bytes)
{
    struct wn_npz in = sample(), out = { 0 };
    struct winnow_err err = { 0 };
    void *first, *second;
    size_t n1, n2;
    cr_assert_eq(wn_npz_write(path, &in, &err), WINNOW_OK, "%s", err.msg);
    cr_assert_eq(wn_file_read(path, 1 << 20, &first, &n1, &err), WINNOW_OK);
    cr_assert_eq(wn_npz_write(path, &in, &err), WINNOW_OK, "%s", err.msg);
    cr_assert_eq(wn_file_read(path, 1 << 20, &second, &n2, &err), WINNOW_OK);
    cr_assert(n1 == n2 && memcmp(first, second, n1) == 0);
    cr_assert_eq(wn_npz_read(path, NULL, &out, &err), WINNOW_OK, "%s", err.msg);
    cr_assert_eq(out.n, 2);
    struct wn_npy *x = wn_npz_find(&out, "x");
    cr_assert(x && x->type == WN_NPY_F4 && x->rank == 2 && x->shape[1] == 3);
    cr_assert_arr_eq(x->data, in.array[0].npy.data, x->bytes);
    cr_assert_null(wn_npz_find(&out, "y"));
    wn_npz_done(&out);
    for (size_t cut = 0; cut < n1; cut++) { /* never a crash; a cut in the directory behind the data may be tolerated */
        void *copy = malloc(cut + 1);
        memcpy(copy, first, cut);
        if (wn_npz_parse(copy, cut, "cut", NULL, &out, NULL) == WINNOW_OK)
            wn_npz_done(&out);
        free(copy);
    }
    free(first);
    free(second);
}

Test(npz, limits)
{
    struct wn_npz in = sample(), out = { 0 };
    struct winnow_err err = { 0 };
    cr_assert_eq(wn_npz_write(path, &in, &err), WINNOW_OK, "%s", err.msg);
    cr_expect_eq(wn_npz_read(path, &(struct wn_npz_limits){ .max_arrays = 1 }, &out, &err), WINNOW_E_TOO_LARGE);
    cr_expect_eq(wn_npz_read(path, &(struct wn_npz_limits){ .max_bytes = 200 }, &out, &err), WINNOW_E_TOO_LARGE);
    cr_expect_eq(wn_npz_read("/nonexistent.npz", NULL, &out, &err), WINNOW_E_NOT_FOUND);
    cr_expect_eq(wn_npz_parse("not a zip", 9, "x", NULL, &out, &err), WINNOW_E_MALFORMED);
}

/* A zip with these members, deflated. */
static void write_zip(const char *const *names, const void *const *bytes, const size_t *n, size_t count, unsigned type)
{
    struct archive *a = archive_write_new();
    archive_write_set_format_zip(a);
    archive_write_zip_set_compression_deflate(a);
    cr_assert_eq(archive_write_open_filename(a, path), ARCHIVE_OK);
    for (size_t i = 0; i < count; i++) {
        struct archive_entry *e = archive_entry_new();
        archive_entry_set_pathname(e, names[i]);
        archive_entry_set_filetype(e, type);
        archive_entry_set_perm(e, 0644);
        if (type == AE_IFLNK)
            archive_entry_set_symlink(e, "/etc/passwd");
        archive_entry_set_size(e, type == AE_IFREG ? (int64_t)n[i] : 0);
        cr_assert_eq(archive_write_header(a, e), ARCHIVE_OK);
        if (type == AE_IFREG)
            archive_write_data(a, bytes[i], n[i]);
        archive_entry_free(e);
    }
    archive_write_free(a);
}

static void *zeros_npy(size_t count, size_t *ret_n)
{
    struct wn_npy a = { .type = WN_NPY_U1, .rank = 1, .shape = { (int64_t)count }, .bytes = count };
    char header[WN_NPY_HEADER_ROOM];
    size_t n = wn_npy_format_header(&a, header);
    char *p = calloc(1, n + count);
    memcpy(p, header, n);
    *ret_n = n + count;
    return p;
}

Test(npz, deflated_members_and_bombs)
{
    size_t n;
    void *p = zeros_npy(4 << 20, &n);
    write_zip((const char *const[]){ "a.npy" }, (const void *const[]){ p }, &n, 1, AE_IFREG);
    struct wn_npz out = { 0 };
    struct winnow_err err = { 0 };
    cr_assert_eq(wn_npz_read(path, NULL, &out, &err), WINNOW_OK, "%s", err.msg);
    cr_expect_eq(wn_npz_find(&out, "a")->bytes, 4 << 20);
    wn_npz_done(&out);
    cr_expect_eq(wn_npz_read(path, &(struct wn_npz_limits){ .max_bytes = 1 << 20 }, &out, &err), WINNOW_E_TOO_LARGE);
    free(p);
}

Test(npz, refuses_members_that_are_not_arrays)
{
    size_t n[2];
    void *p = zeros_npy(4, &n[0]);
    n[1] = n[0];
    struct wn_npz out = { 0 };
    struct winnow_err err = { 0 };
    const void *const both[] = { p, p };
    write_zip((const char *const[]){ "a.txt" }, both, n, 1, AE_IFREG);
    cr_expect_eq(wn_npz_read(path, NULL, &out, &err), WINNOW_E_MALFORMED, "%s", err.msg);
    write_zip((const char *const[]){ "a.npy", "a.npy" }, both, n, 2, AE_IFREG);
    cr_expect_eq(wn_npz_read(path, NULL, &out, &err), WINNOW_E_MALFORMED, "%s", err.msg);
    cr_expect(strstr(err.msg, "two arrays are called 'a'"), "%s", err.msg);
    write_zip((const char *const[]){ "a.npy" }, both, n, 1, AE_IFLNK);
    cr_expect_eq(wn_npz_read(path, NULL, &out, &err), WINNOW_E_MALFORMED, "%s", err.msg);
    free(p);
}

Test(npz, an_unfinished_writer_leaves_nothing)
{
    struct wn_npz_writer *w;
    struct winnow_err err = { 0 };
    struct wn_npy a = { .type = WN_NPY_U1, .rank = 1, .shape = { 8 }, .bytes = 8 };
    cr_assert_eq(wn_npz_writer_new(path, &w, &err), WINNOW_OK, "%s", err.msg);
    cr_assert_eq(wn_npz_writer_begin(w, "a", &a, &err), WINNOW_OK, "%s", err.msg);
    cr_assert_eq(wn_npz_writer_data(w, "1234", 4, &err), WINNOW_OK, "%s", err.msg);
    cr_expect_eq(wn_npz_writer_finish(w, &err), WINNOW_E_INTERNAL);
    cr_expect_eq(wn_npz_writer_data(w, "12345", 5, &err), WINNOW_E_INTERNAL);
    char temp[128];
    snprintf(temp, sizeof temp, "%s.tmp-%ld", path, (long)getpid());
    cr_expect_eq(access(temp, F_OK), 0);
    wn_npz_writer_free(w);
    cr_expect_neq(access(temp, F_OK), 0);
    cr_expect_neq(access(path, F_OK), 0);
}

Test(npz, a_device_is_written_not_replaced)
{
    struct wn_npz in = sample();
    struct winnow_err err = { 0 };
    struct stat st;
    cr_assert_eq(symlink("/dev/null", path), 0);
    cr_expect_eq(wn_npz_write(path, &in, &err), WINNOW_OK, "%s", err.msg);
    cr_expect(lstat(path, &st) == 0 && S_ISLNK(st.st_mode));
    struct wn_npz_writer *w;
    cr_assert_eq(wn_npz_writer_new(path, &w, &err), WINNOW_OK, "%s", err.msg);
    wn_npz_writer_free(w);
    cr_expect(lstat(path, &st) == 0 && S_ISLNK(st.st_mode));
    unlink(path);
}

Test(npz, names_beyond_ascii)
{
    struct wn_npz in = sample(), out = { 0 };
    struct winnow_err err = { 0 };
    in.array[0].name = (char *)(uintptr_t) "gr\xc3\xb6\xc3\x9f"
                                           "e";
    cr_assert_eq(wn_npz_write(path, &in, &err), WINNOW_OK, "%s", err.msg);
    cr_assert_eq(wn_npz_read(path, NULL, &out, &err), WINNOW_OK, "%s", err.msg);
    cr_expect(wn_npz_find(&out, in.array[0].name) != NULL);
    wn_npz_done(&out);
}
