/* anchor.c: merging by id, the cap, rows that were trained on. */
#include "daemon/jobs/internal.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/tree.h"
#include "pipeline/rows.h"

static char dir[] = "/tmp/winnow-anchor-XXXXXX";
static struct wn_jobs jobs;

static void set_up(void)
{
    cr_assert(mkdtemp(dir));
    jobs = (struct wn_jobs){ .anchors = dir };
    pthread_mutex_init(&jobs.anchor_lock, NULL);
}

static void tear_down(void)
{
    struct winnow_err err;
    cr_assert_eq(wn_tree_remove(dir, &err), WINNOW_OK);
}

/* A file of rows with ids from..to-1, labels by `classes` in turn; label names a, b, … */
static const char *rows_file(const char *name, int from, int to, int classes, unsigned n_labels)
{
    static const char *const label[] = { "a", "b", "c", "d" };
    static char path[4][100];
    static unsigned turn;
    struct winnow_err err;
    struct wn_rows_writer *w;
    struct wn_rows_input in = { .name = "x", .type = WN_NPY_F4, .rank = 1, .shape = { 1 } };
    char *ret = path[turn++ % 4];
    snprintf(ret, sizeof path[0], "%s/%s", dir, name);
    cr_assert_eq(wn_rows_writer_new(ret, &in, 1, "image_classification", label, n_labels, &w, &err), WINNOW_OK);
    for (int i = from; i < to; i++) {
        float x = (float)i;
        struct wn_rows_item item = { &x, sizeof x };
        cr_assert_eq(wn_rows_writer_add(w, &item, i % classes, i, &err), WINNOW_OK);
    }
    cr_assert_eq(wn_rows_writer_finish(w, &err), WINNOW_OK);
    wn_rows_writer_free(w);
    return ret;
}

/* Ids of a file, in order: "0 1 2 ". */
static const char *ids(const char *path)
{
    static char text[1000];
    struct winnow_err err;
    struct wn_rows *r;
    size_t n = 0;
    cr_assert_eq(wn_rows_open(path, 0, &r, &err), WINNOW_OK);
    text[0] = '\0';
    for (size_t i = 0; i < wn_rows_count(r); i++) {
        size_t got;
        float x;
        memcpy(&x, wn_rows_item(r, 0, i, &got), sizeof x);
        cr_assert(got == sizeof x && (int64_t)x == wn_rows_id(r, i));
        n += (size_t)snprintf(text + n, sizeof text - n, "%d ", (int)wn_rows_id(r, i));
    }
    wn_rows_free(r);
    return text;
}

static void merge(const char *rows, size_t max, const char *want)
{
    struct winnow_err err;
    size_t n;
    char path[100];
    cr_assert_eq(wn_anchor_merge(&jobs, "m", rows, max, &n, &err), WINNOW_OK, "%s", err.msg);
    snprintf(path, sizeof path, "%s/m/anchor.npz", dir);
    cr_expect_str_eq(ids(path), want);
}

TestSuite(anchor, .init = set_up, .fini = tear_down);

Test(anchor, merges_by_id)
{
    struct winnow_err err;
    char *path = NULL;
    cr_assert(wn_anchor_find(&jobs, "m", &path, &err) == WINNOW_OK && !path);
    merge(rows_file("a", 0, 4, 2, 2), 100, "0 1 2 3 ");
    merge(rows_file("b", 2, 6, 2, 2), 100, "0 1 2 3 4 5 ");
    merge(rows_file("b", 2, 6, 2, 2), 100, "0 1 2 3 4 5 ");
    cr_assert(wn_anchor_find(&jobs, "m", &path, &err) == WINNOW_OK && path);
    free(path);
}

Test(anchor, a_full_one_gives_up_its_newest_rows)
{
    merge(rows_file("a", 0, 6, 2, 2), 6, "0 1 2 3 4 5 ");
    merge(rows_file("b", 10, 12, 2, 2), 6, "0 1 2 3 10 11 ");
    merge(rows_file("c", 20, 22, 2, 2), 6, "0 1 2 3 20 21 "); /* a person's rows, 0 to 3, stay */
    merge(rows_file("d", 30, 31, 2, 2), 6, "0 1 2 3 21 30 "); /* the largest class pays: 20 was its newest */
    merge(rows_file("e", 40, 60, 2, 2), 4, "40 41 42 43 ");
}

Test(anchor, other_labels_are_refused)
{
    struct winnow_err err;
    size_t n;
    merge(rows_file("a", 0, 4, 2, 2), 100, "0 1 2 3 ");
    cr_assert_eq(wn_anchor_merge(&jobs, "m", rows_file("b", 5, 9, 2, 3), 100, &n, &err), WINNOW_E_CONFLICT);
    merge(rows_file("c", 4, 5, 2, 2), 100, "0 1 2 3 4 ");
}

Test(anchor, rows_trained_on_are_left_out)
{
    struct winnow_err err;
    size_t out;
    char to[100];
    snprintf(to, sizeof to, "%s/filtered", dir);
    cr_assert_eq(wn_anchor_filter(rows_file("a", 0, 6, 2, 2), rows_file("t", 3, 9, 2, 2), to, &out, &err), WINNOW_OK);
    cr_expect_eq(out, 3);
    cr_expect_str_eq(ids(to), "0 1 2 ");
    cr_assert_eq(wn_anchor_filter(rows_file("a", 0, 6, 2, 2), rows_file("t", 0, 9, 2, 2), to, &out, &err), WINNOW_OK);
    cr_expect_str_eq(ids(to), "");
}

Test(anchor, names)
{
    struct winnow_err err;
    char *path;
    cr_assert_eq(wn_anchor_find(&jobs, "../x", &path, &err), WINNOW_E_MALFORMED);
    cr_assert_eq(wn_anchor_find(&jobs, ".x", &path, &err), WINNOW_E_MALFORMED);
}
