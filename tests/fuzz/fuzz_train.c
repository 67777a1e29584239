/* fuzz_train.c: any bytes as a model that is to be trained: read, planned, and one step of it on two rows. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "engine/graph/onnx.h"
#include "sparsify/train/train.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROWS = 2, LENGTH = 5 };

/** Tokens for every input of the graph: small numbers, ones for masks. */
static void tokens_step(struct wn_trainer *tr, const struct wn_graph *g)
{
    static const size_t start[ROWS + 1] = { 0, LENGTH, 2 * LENGTH - 2 };
    static const uint32_t label[ROWS] = { 0, 1 };
    int64_t id[ROWS * LENGTH], one[ROWS * LENGTH], pad[WN_TRAIN_MAX_INPUTS] = { 0 };
    const int64_t *at[WN_TRAIN_MAX_INPUTS];
    const char *name[WN_TRAIN_MAX_INPUTS];
    struct winnow_err err;
    for (int i = 0; i < ROWS * LENGTH; i++) {
        id[i] = i % 4;
        one[i] = 1;
    }
    for (size_t k = 0; k < g->inputs.n; k++) {
        name[k] = g->values.at[g->inputs.at[k]].name;
        at[k] = strstr(name[k], "mask") ? one : id;
    }
    struct wn_train_tokens t = { (unsigned)g->inputs.n, name, at, pad, start, 4 };
    struct wn_train_data d = { .n = ROWS, .label = label, .tokens = &t };
    if (wn_trainer_bind_data(tr, &d, &err) == WINNOW_OK)
        (void)!wn_trainer_step(tr, NULL, NULL, NULL, &err);
}

static void rows_step(struct wn_trainer *tr)
{
    static const uint32_t label[ROWS] = { 0, 0 };
    struct winnow_err err;
    float *x = calloc(ROWS * wn_trainer_row_elements(tr) + 1, sizeof *x);
    if (x)
        (void)!wn_trainer_step(tr, x, label, NULL, &err);
    free(x);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct wn_train_opts o = { .batch = ROWS, .max_memory_bytes = (size_t)32 << 20, .optimizer = WN_OPT_ADAMW };
    struct wn_arena arena;
    struct wn_graph g;
    struct winnow_err err;
    struct wn_trainer *tr = NULL;
    wn_arena_init(&arena, (size_t)64 << 20);
    if (size < 65536 && wn_onnx_read(data, size, NULL, &arena, &g, &err) == WINNOW_OK) {
        if (wn_trainer_new(&g, &o, &tr, &err) == WINNOW_OK) {
            wn_trainer_set_lr(tr, 0.01f);
            if (wn_trainer_row_elements(tr))
                rows_step(tr);
            else
                tokens_step(tr, &g);
            wn_trainer_free(tr);
        }
        wn_graph_done(&g);
    }
    wn_arena_done(&arena);
    return 0;
}
