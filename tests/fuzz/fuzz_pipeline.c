/* fuzz_pipeline.c: any bytes as pipeline.yaml, of a model of pictures and of one of texts; an accepted one must encode.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "pipeline/pipeline.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static char dir[64], path[96], vocab[96];

static void clean_up(void)
{
    unlink(path);
    unlink(vocab);
    rmdir(dir);
}

static void put(const char *name, const void *bytes, size_t n)
{
    FILE *f = fopen(name, "w");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f) != 0)
        abort();
}

static void set_up(void)
{
    static const char words[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\n";
    snprintf(dir, sizeof dir, "/tmp/wn-fuzz-pipeline-%ld", (long)getpid());
    snprintf(path, sizeof path, "%s/pipeline.yaml", dir);
    snprintf(vocab, sizeof vocab, "%s/vocab.txt", dir);
    mkdir(dir, 0700);
    put(vocab, words, sizeof words - 1);
    atexit(clean_up);
}

static void pictures(void)
{
    static const struct wn_pipe_io in = { "x", WINNOW_F32, 3, { -1, -1, 3 }, 0 },
                                   out = { "y", WINNOW_F32, 1, { -1 }, 0 };
    struct wn_pipeline *p;
    struct winnow_err err;
    size_t row_bytes;
    if (wn_pipeline_open(dir, &in, 1, &out, 1, &p, &err) != WINNOW_OK)
        return;
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
}

static void texts(void)
{
    static const struct wn_pipe_io in[] = { { "input_ids", WINNOW_I64, 1, { -1 }, 0 },
                                            { "attention_mask", WINNOW_I32, 1, { -1 }, 0 } };
    static const struct wn_pipe_io out[] = { { "y", WINNOW_F32, 1, { -1 }, 0 },
                                             { "tokens", WINNOW_F32, 2, { -1, 4 }, 0 } };
    static const struct wn_pipe_item item[] = { { "a b c", 5 }, { "", 0 } };
    const struct wn_pipe_items items = { .at = { item }, .n = 2 };
    struct wn_pipeline *p;
    struct wn_pipe_batch batch;
    struct winnow_err err;
    struct wn_arena arena;
    if (wn_pipeline_open(dir, in, 2, out, 2, &p, &err) != WINNOW_OK)
        return;
    wn_arena_init(&arena, (size_t)64 << 20);
    /* refused are only a max_length below the special tokens, and max_bytes below the text */
    if (wn_pipeline_encode_rows(p, &items, NULL, &arena, &batch, &err) == WINNOW_OK &&
        (batch.n_t != 2 || batch.t[0].shape[0] != 2 || batch.t[0].shape[1] != batch.t[1].shape[1] ||
         batch.t[0].shape[1] < batch.used[0]))
        abort();
    wn_arena_done(&arena);
    wn_pipeline_free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    if (!dir[0])
        set_up();
    put(path, bytes, n);
    pictures();
    texts();
    return 0;
}
