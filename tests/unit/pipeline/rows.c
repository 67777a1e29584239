/* rows.c: rows survive the round trip; every rule of the format is checked. */
#include "pipeline/rows.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/npz.h"

static char path[64];

static void setup(void)
{
    snprintf(path, sizeof path, "/tmp/wn-rows-%ld.npz", (long)getpid());
}

static void teardown(void)
{
    unlink(path);
}

TestSuite(rows, .init = setup, .fini = teardown);

Test(rows, round_trip)
{
    static const struct wn_rows_input inputs[] = {
        { .name = "image", .bytes = true },
        { .name = "x", .type = WN_NPY_F4, .rank = 2, .shape = { 2, 3 } },
    };
    static const char *const labels[] = { "cat", "d\xc3\xb6g" };
    struct wn_rows_writer *w = NULL;
    struct winnow_err err = { 0 };
    cr_assert_eq(wn_rows_writer_new(path, inputs, 2, "image_classification", labels, 2, &w, &err), WINNOW_OK, "%s",
                 err.msg);
    for (int i = 0; i < 100; i++) {
        char text[32];
        float x[6] = { (float)i, 1, 2, 3, 4, 5 };
        int n = snprintf(text, sizeof text, "%.*s%d", i % 7, "......", i);
        struct wn_rows_item items[] = { { text, i == 50 ? 0 : (size_t)n }, { x, sizeof x } };
        cr_assert_eq(wn_rows_writer_add(w, items, i % 2, 1000 - i, &err), WINNOW_OK, "%s", err.msg);
        cr_expect_eq(wn_rows_writer_add(w, items, 2, 0, &err), WINNOW_E_MALFORMED);
        items[1].n--;
        cr_expect_eq(wn_rows_writer_add(w, items, 0, 0, &err), WINNOW_E_MALFORMED);
    }
    cr_expect_str_eq(err.msg, "'x' has 24 bytes per row, not 23");
    cr_expect_eq(wn_rows_writer_count(w), 100);
    cr_assert_eq(wn_rows_writer_finish(w, &err), WINNOW_OK, "%s", err.msg);
    wn_rows_writer_free(w);

    struct wn_rows *rows = NULL;
    cr_assert_eq(wn_rows_open(path, 0, &rows, &err), WINNOW_OK, "%s", err.msg);
    cr_assert(wn_rows_count(rows) == 100 && wn_rows_n_inputs(rows) == 2 && wn_rows_n_labels(rows) == 2);
    cr_expect_str_eq(wn_rows_label_name(rows, 1), labels[1]);
    cr_expect_null(wn_rows_label_name(rows, 2));
    cr_expect_str_eq(wn_rows_task(rows), "image_classification");
    int image = wn_rows_find_input(rows, "image"), x = wn_rows_find_input(rows, "x");
    cr_assert(image >= 0 && x >= 0 && wn_rows_find_input(rows, "y") < 0);
    cr_expect(wn_rows_input(rows, (unsigned)x)->rank == 2 && wn_rows_input(rows, (unsigned)x)->shape[1] == 3);
    cr_expect(wn_rows_input(rows, (unsigned)image)->bytes);
    for (int i = 0; i < 100; i++) {
        char text[32];
        size_t n, xn;
        int want = snprintf(text, sizeof text, "%.*s%d", i % 7, "......", i);
        const void *item = wn_rows_item(rows, (unsigned)image, (size_t)i, &n);
        const float *v = wn_rows_item(rows, (unsigned)x, (size_t)i, &xn);
        cr_expect_eq(n, i == 50 ? 0 : (size_t)want);
        cr_expect(memcmp(item, text, n) == 0);
        cr_expect(xn == 24 && v[0] == (float)i && v[5] == 5);
        cr_expect(wn_rows_label(rows, (size_t)i) == i % 2 && wn_rows_id(rows, (size_t)i) == 1000 - i);
    }
    wn_rows_free(rows);
}

Test(rows, no_rows_and_no_labels)
{
    static const struct wn_rows_input input = { .name = "text", .bytes = true };
    struct wn_rows_writer *w = NULL;
    struct winnow_err err = { 0 };
    struct wn_rows *rows = NULL;
    cr_assert_eq(wn_rows_writer_new(path, &input, 1, NULL, NULL, 0, &w, &err), WINNOW_OK, "%s", err.msg);
    cr_assert_eq(wn_rows_writer_finish(w, &err), WINNOW_OK, "%s", err.msg);
    wn_rows_writer_free(w);
    cr_assert_eq(wn_rows_open(path, 0, &rows, &err), WINNOW_OK, "%s", err.msg);
    cr_expect(wn_rows_count(rows) == 0 && wn_rows_n_labels(rows) == 0);
    wn_rows_free(rows);
}

/* ---- files by hand ---- */
struct by_hand {
    const char *meta;
    int64_t label[2], row_id[2], offsets[3];
    unsigned n_label, n_id, n_offsets, n_bytes;
};

static enum winnow_status try_file(const struct by_hand *f, struct winnow_err *err)
{
    static unsigned char bytes[16];
    struct by_hand c = *f;
    struct wn_npz_array arrays[] = {
        { (char *)(uintptr_t) "image", { WN_NPY_U1, 1, { c.n_bytes }, bytes, c.n_bytes } },
        { (char *)(uintptr_t) "image.offsets", { WN_NPY_I8, 1, { c.n_offsets }, c.offsets, 8 * c.n_offsets } },
        { (char *)(uintptr_t) "label", { WN_NPY_I8, 1, { c.n_label }, c.label, 8 * c.n_label } },
        { (char *)(uintptr_t) "row_id", { WN_NPY_I8, 1, { c.n_id }, c.row_id, 8 * c.n_id } },
        { (char *)(uintptr_t) "meta",
          { WN_NPY_U1, 1, { (int64_t)strlen(c.meta) }, (void *)(uintptr_t)c.meta, strlen(c.meta) } },
    };
    struct wn_npz npz = { arrays, WN_COUNT(arrays), 0 };
    cr_assert_eq(wn_npz_write(path, &npz, err), WINNOW_OK, "%s", err->msg);
    struct wn_rows *rows = NULL;
    enum winnow_status status = wn_rows_open(path, 0, &rows, err);
    if (status == WINNOW_OK)
        wn_rows_free(rows);
    return status;
}

Test(rows, broken_files)
{
    static const char good[] = "{\"version\":1,\"labels\":[\"a\",\"b\"]}";
    static const struct {
        struct by_hand f;
        enum winnow_status status;
        const char *msg;
    } cases[] = {
        { { good, { 0, 1 }, { 1, 2 }, { 0, 4, 9 }, 2, 2, 3, 9 }, WINNOW_OK, "" },
        { { "{\"labels\":[]}", { 0, 1 }, { 1, 2 }, { 0, 4, 9 }, 2, 2, 3, 9 },
          WINNOW_E_MALFORMED,
          ": meta: 'version' is missing" },
        { { "{\"version\":2}", { 0, 1 }, { 1, 2 }, { 0, 4, 9 }, 2, 2, 3, 9 },
          WINNOW_E_UNSUPPORTED,
          ": format version 2; this program reads 1" },
        { { "{\"version\":1,\"labels\":[1]}", { 0, 1 }, { 1, 2 }, { 0, 4, 9 }, 2, 2, 3, 9 },
          WINNOW_E_MALFORMED,
          ": meta: label 0 is not a string" },
        { { "[]", { 0, 1 }, { 1, 2 }, { 0, 4, 9 }, 2, 2, 3, 9 }, WINNOW_E_MALFORMED, ": meta: not an object" },
        { { good, { 0, 2 }, { 1, 2 }, { 0, 4, 9 }, 2, 2, 3, 9 },
          WINNOW_E_MALFORMED,
          ": row 1 has label 2; there are 2 names" },
        { { good, { -1, 0 }, { 1, 2 }, { 0, 4, 9 }, 2, 2, 3, 9 },
          WINNOW_E_MALFORMED,
          ": row 0 has label -1; there are 2 names" },
        { { good, { 0, 1 }, { 1, 2 }, { 0, 4, 9 }, 2, 1, 3, 9 }, WINNOW_E_MALFORMED, ": 2 labels, but 1 row ids" },
        { { good, { 0, 1 }, { 1, 2 }, { 0, 4, 9 }, 2, 2, 2, 9 },
          WINNOW_E_MALFORMED,
          ": array 'image.offsets' must be int64 with one number more than rows" },
        { { good, { 0, 1 }, { 1, 2 }, { 0, 9, 4 }, 2, 2, 3, 9 },
          WINNOW_E_MALFORMED,
          ": offsets of 'image' do not ascend at row 1" },
        { { good, { 0, 1 }, { 1, 2 }, { 0, 4, 9 }, 2, 2, 3, 8 },
          WINNOW_E_MALFORMED,
          ": offsets of 'image' do not cover its 8 bytes" },
        { { good, { 0, 1 }, { 1, 2 }, { -1, 4, 9 }, 2, 2, 3, 9 },
          WINNOW_E_MALFORMED,
          ": offsets of 'image' do not cover its 9 bytes" },
    };
    for (size_t i = 0; i < WN_COUNT(cases); i++) {
        struct winnow_err err = { 0 };
        char want[256];
        cr_expect_eq(try_file(&cases[i].f, &err), cases[i].status, "case %zu: %s", i, err.msg);
        snprintf(want, sizeof want, "%s%s", cases[i].status ? path : "", cases[i].msg);
        cr_expect_str_eq(err.msg, want);
    }
}

Test(rows, unfinished_leaves_nothing)
{
    static const struct wn_rows_input input = { .name = "text", .bytes = true };
    struct wn_rows_writer *w = NULL;
    struct winnow_err err = { 0 };
    cr_assert_eq(wn_rows_writer_new(path, &input, 1, "t", NULL, 0, &w, &err), WINNOW_OK);
    wn_rows_writer_free(w);
    cr_expect_neq(access(path, F_OK), 0);
    cr_expect_eq(wn_rows_writer_new("/nonexistent/x.npz", &input, 1, "t", NULL, 0, &w, &err), WINNOW_E_NOT_FOUND);
}
