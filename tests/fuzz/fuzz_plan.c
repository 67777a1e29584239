/* fuzz_plan.c: any bytes as a model that is loaded and run once, with little memory: passes, plans, kernels. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "winnow/winnow.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_INPUT 65536 /* bytes of one input */
#define MAX_IOS   8

static volatile uint8_t sink;

/* A small shape that fits the declaration, two rows of it. False when that is large. */
static bool make_input(const struct winnow_io *io, struct winnow_tensor *t, const uint8_t *seed, size_t n)
{
    *t = (struct winnow_tensor){ .dtype = io->dtype, .rank = io->rank, .bytes = winnow_dtype_size(io->dtype) };
    for (unsigned d = 0; d < io->rank; d++) {
        t->shape[d] = io->shape[d] < 0 ? d == 0 ? 2 : 5 : io->shape[d];
        if (t->shape[d] && t->bytes > MAX_INPUT / (size_t)t->shape[d])
            return false;
        t->bytes *= (size_t)t->shape[d];
    }
    t->data = calloc(1, t->bytes + 1);
    for (size_t i = 0; t->data && io->dtype != WINNOW_STRING && n && i < t->bytes; i++)
        ((uint8_t *)t->data)[i] = io->dtype == WINNOW_BOOL ? seed[i % n] & 1 : seed[i % n];
    return t->data != NULL;
}

static void run(winnow_model *model, const uint8_t *data, size_t size)
{
    struct winnow_tensor x[MAX_IOS] = { 0 }, y[MAX_IOS] = { 0 };
    struct winnow_err err;
    unsigned n_in = winnow_model_n_inputs(model), n_out = winnow_model_n_outputs(model);
    winnow_scratch *scratch = NULL;
    bool ok = n_in <= MAX_IOS && n_out <= MAX_IOS && winnow_scratch_new(model, NULL, &scratch, &err) == WINNOW_OK;
    for (unsigned i = 0; i < n_in && ok; i++)
        ok = make_input(winnow_model_input(model, i), &x[i], data, size);
    if (ok && winnow_run(model, scratch, x, n_in, y, n_out, &err) == WINNOW_OK)
        for (unsigned i = 0; i < n_out; i++)
            for (size_t k = 0; k < y[i].bytes; k++) /* all of it is there */
                sink ^= ((const uint8_t *)y[i].data)[k];
    for (unsigned i = 0; i < n_in && i < MAX_IOS; i++)
        free(x[i].data);
    winnow_scratch_free(scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct winnow_load_opts opts = { .max_memory_bytes = (size_t)64 << 20 };
    struct winnow_err err;
    winnow_model *model;
    if (winnow_model_load_memory(data, size, "fuzz", &opts, &model, &err) != WINNOW_OK)
        return 0;
    run(model, data, size);
    winnow_model_unref(model);
    return 0;
}
