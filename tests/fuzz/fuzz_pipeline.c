/* fuzz_pipeline.c: any bytes as pipeline.yaml of a model; an accepted one must encode a picture. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "pipeline/pipeline.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static char dir[64], path[96];

static void clean_up(void)
{
    unlink(path);
    rmdir(dir);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static const struct wn_pipe_io in = { "x", WN_PIPE_F32, 3, { -1, -1, 3 } }, out = { "y", WN_PIPE_F32, 1, { -1 } };
    if (!dir[0]) {
        snprintf(dir, sizeof dir, "/tmp/wn-fuzz-pipeline-%ld", (long)getpid());
        snprintf(path, sizeof path, "%s/pipeline.yaml", dir);
        mkdir(dir, 0700);
        atexit(clean_up);
    }
    FILE *f = fopen(path, "w");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f) != 0)
        abort();
    struct wn_pipeline *p;
    struct winnow_err err;
    if (wn_pipeline_open(dir, &in, 1, &out, 1, &p, &err) != WINNOW_OK)
        return 0;
    size_t row_bytes;
    wn_pipeline_row(p, &row_bytes);
    if (row_bytes < (1 << 20)) {
        uint8_t px[5 * 4 * 3] = { 1, 2, 3 };
        struct wn_image image = { 5, 4, 3, px };
        void *row = malloc(row_bytes);
        if (!row || wn_pipeline_encode_image(p, &image, row, &err) != WINNOW_OK)
            abort();
        free(row);
    }
    wn_pipeline_free(p);
    return 0;
}
