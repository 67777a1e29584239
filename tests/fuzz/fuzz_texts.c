/* fuzz_texts.c: any bytes as an upload of texts: CSV, JSONL, gzip or an archive of them. The first byte chooses the
 * form and the label names. What is accepted must be readable rows. */
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

static char dir[64], path[96];

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
    char part[96];
    setlocale(LC_CTYPE, "C.UTF-8");
    snprintf(dir, sizeof dir, "/tmp/wn-fuzz-texts-%ld", (long)getpid());
    snprintf(path, sizeof path, "%s/upload", dir);
    if (mkdir(dir, 0700) != 0)
        abort();
    for (int i = 0; i < 2; i++) {
        snprintf(part, sizeof part, "%s/%s", dir, i ? "eval" : "train");
        if (mkdir(part, 0700) != 0)
            abort();
    }
    atexit(clean_up);
}

static void check_rows(const struct wn_ingest_result *r)
{
    char file[112];
    struct wn_rows *rows;
    snprintf(file, sizeof file, "%s/train/rows.npz", dir);
    if (wn_rows_open(file, 0, &rows, NULL) != WINNOW_OK || wn_rows_count(rows) != r->train)
        abort();
    for (size_t i = 0; i < wn_rows_count(rows); i++) {
        size_t len;
        const char *text = wn_rows_item(rows, 0, i, &len);
        if (!len || memchr(text, 0, len))
            abort();
    }
    wn_rows_free(rows);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static const char *const labels[] = { "a", "b", "3" };
    static const char *const names[] = { "x.csv", "x.jsonl", "x", "x.tsv.gz" };
    if (!dir[0])
        set_up();
    if (n < 1)
        return 0;
    FILE *f = fopen(path, "w");
    if (!f || fwrite(bytes + 1, 1, n - 1, f) != n - 1 || fclose(f) != 0)
        abort();
    const struct wn_ingest_opts o = { .data = path,
                                      .data_name = names[bytes[0] & 3],
                                      .out_dir = dir,
                                      .input_name = "text",
                                      .pair_name = bytes[0] & 4 ? "text_pair" : NULL,
                                      .text = true,
                                      .task = "text_classification",
                                      .labels = labels,
                                      .n_labels = bytes[0] & 8 ? 3 : 0,
                                      .n_classes = 4,
                                      .new_labels = bytes[0] & 16,
                                      .eval_share = 0.25,
                                      .seed = bytes[0],
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
