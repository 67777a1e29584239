/* names.c: labels and parts from folder names. */
#include "sparsify/data/names.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static void expect(const char *const *dir, size_t n, const char *const *label, const enum wn_part *part)
{
    size_t at[8];
    enum wn_part got[8];
    wn_data_settle_dirs(dir, n, at, got);
    for (size_t i = 0; i < n; i++) {
        if (label[i])
            cr_assert_str_eq(dir[i] + at[i], label[i], "%s", dir[i]);
        else
            cr_assert_eq(at[i], SIZE_MAX);
        cr_assert_eq(got[i], part[i], "%s", dir[i]);
    }
}

Test(names, plain_folders)
{
    expect((const char *const[]){ "A", "B", "x/C", "" }, 4, (const char *const[]){ "A", "B", "C", NULL },
           (const enum wn_part[]){ WN_PART_ANY, WN_PART_ANY, WN_PART_ANY, WN_PART_ANY });
}

Test(names, parts)
{
    const enum wn_part want[] = { WN_PART_TRAIN, WN_PART_TRAIN, WN_PART_EVAL, WN_PART_EVAL };
    const char *const label[] = { "A", "B", "A", "B" };
    expect((const char *const[]){ "train/A", "train/B", "val/A", "val/B" }, 4, label, want);
    expect((const char *const[]){ "set/Train/A", "set/Train/B", "set/Test/A", "set/validation/B" }, 4, label, want);
}

Test(names, parts_only_where_they_are_all)
{
    const enum wn_part any[] = { WN_PART_ANY, WN_PART_ANY, WN_PART_ANY };
    expect((const char *const[]){ "train", "test", "bus" }, 3, (const char *const[]){ "train", "test", "bus" }, any);
    expect((const char *const[]){ "train/A", "test/A", "more/A" }, 3, (const char *const[]){ "A", "A", "A" }, any);
    expect((const char *const[]){ "train/A", "train/B" }, 2, (const char *const[]){ "A", "B" }, any);
}

Test(names, ignorable)
{
    static const char *const yes[] = { ".DS_Store",   "a/.git/x.png", "__MACOSX/a/x.png",
                                       "a/Thumbs.db", "README",       "labels.TXT" };
    static const char *const no[] = { "a/x.png", "a/x", "a.b/x.jpeg", "readme/x.png", "__MACOSX2/x.png" };
    for (size_t i = 0; i < WN_COUNT(yes); i++)
        cr_assert(wn_data_ignorable(yes[i]), "%s", yes[i]);
    for (size_t i = 0; i < WN_COUNT(no); i++)
        cr_assert_not(wn_data_ignorable(no[i]), "%s", no[i]);
}

Test(names, idx)
{
    char *a = wn_data_idx_key("m/train-images-idx3-ubyte.gz"), *b = wn_data_idx_key("m/train-labels-idx1-ubyte");
    cr_assert_str_eq(a, b);
    free(a);
    free(b);
    cr_assert_eq(wn_data_idx_part("m/t10k-images-idx3-ubyte.gz"), WN_PART_EVAL);
    cr_assert_eq(wn_data_idx_part("emnist-letters-test-images-idx3-ubyte"), WN_PART_EVAL);
    cr_assert_eq(wn_data_idx_part("train-images"), WN_PART_TRAIN);
    cr_assert_eq(wn_data_idx_part("images.idx"), WN_PART_ANY);
}
