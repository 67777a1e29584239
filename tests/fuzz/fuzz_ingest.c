/* fuzz_ingest.c: any bytes as an upload: an archive is walked and every file in it decoded, under tiny limits. The
 * first bytes choose the label names. */
#include <ftw.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "pipeline/rows.h"
#include "sparsify/data/ingest.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static char dir[64], path[96], train[96], eval[96];

static int remove_one(const char *name, const struct stat *st, int kind, struct FTW *at)
{
    return remove(name);
}

static void clean_up(void)
{
    nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void set_up(void)
{
    setlocale(LC_CTYPE, "C.UTF-8");
    snprintf(dir, sizeof dir, "/tmp/wn-fuzz-ingest-%ld", (long)getpid());
    snprintf(path, sizeof path, "%s/upload", dir);
    snprintf(train, sizeof train, "%s/train", dir);
    snprintf(eval, sizeof eval, "%s/eval", dir);
    if (mkdir(dir, 0700) != 0 || mkdir(train, 0700) != 0 || mkdir(eval, 0700) != 0)
        abort();
    atexit(clean_up);
}

/* What was accepted must be readable rows. */
static void check_rows(const struct wn_ingest_result *r)
{
    char file[112];
    struct wn_rows *rows;
    snprintf(file, sizeof file, "%s/rows.npz", train);
    if (wn_rows_open(file, 0, &rows, NULL) != WINNOW_OK || wn_rows_count(rows) != r->train)
        abort();
    wn_rows_free(rows);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static const char *const labels[] = { "a", "b", "3" };
    if (!dir[0])
        set_up();
    if (n < 1)
        return 0;
    FILE *f = fopen(path, "w");
    if (!f || fwrite(bytes + 1, 1, n - 1, f) != n - 1 || fclose(f) != 0)
        abort();
    const struct wn_ingest_opts o = { .data = path,
                                      .out_dir = dir,
                                      .input_name = "image",
                                      .task = "image_classification",
                                      .labels = labels,
                                      .n_labels = bytes[0] & 2 ? 3 : 0,
                                      .n_classes = 4,
                                      .new_labels = bytes[0] & 1,
                                      .side = bytes[0] & 4 ? 2 : 64,
                                      .eval_share = 0.25,
                                      .seed = bytes[0],
                                      .image = { .max_side = 256, .max_pixels = 4096, .max_bytes = 16384 },
                                      .source = { .max_entries = 200,
                                                  .max_file_bytes = 65536,
                                                  .max_bytes = 262144,
                                                  .ratio_floor = 32768,
                                                  .max_depth = 4 },
                                      .max_rows = 300 };
    struct wn_ingest_result r;
    struct winnow_err err;
    if (wn_ingest(&o, &r, &err) == WINNOW_OK)
        check_rows(&r);
    return 0;
}
