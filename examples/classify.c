/* classify.c: the smallest program on libwinnow: load a model, run it on zeros, print the best class.
 *
 *     cc classify.c $(pkg-config --cflags --libs winnow) -o classify && ./classify model.onnx */
#include <stdio.h>
#include <stdlib.h>
#include <winnow/winnow.h>

int main(int argc, char **argv)
{
    winnow_model *model;
    winnow_scratch *scratch;
    struct winnow_err err;
    if (argc != 2) {
        fprintf(stderr, "usage: classify MODEL.onnx\n");
        return 2;
    }
    if (winnow_model_load(argv[1], NULL, &model, &err) != WINNOW_OK ||
        winnow_scratch_new(model, NULL, &scratch, &err) != WINNOW_OK) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    const struct winnow_io *io = winnow_model_input(model, 0);
    struct winnow_tensor x = { .dtype = io->dtype, .rank = io->rank };
    x.bytes = winnow_dtype_size(io->dtype);
    for (unsigned d = 0; d < io->rank; d++) {
        x.shape[d] = io->shape[d] < 0 ? 1 : io->shape[d];
        x.bytes *= (size_t)x.shape[d];
    }
    x.data = calloc(1, x.bytes);
    struct winnow_tensor y = { 0 }; /* data NULL: memory of the scratch */
    if (!x.data || winnow_run(model, scratch, &x, 1, &y, 1, &err) != WINNOW_OK) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    const float *score = y.data;
    size_t best = 0, n = y.bytes / sizeof *score;
    for (size_t i = 1; i < n; i++)
        if (score[i] > score[best])
            best = i;
    printf("%s: class %zu of %zu, score %g (libwinnow %s, %s)\n", argv[1], best, n, (double)score[best],
           winnow_version(), winnow_cpu_isa());
    free(x.data);
    winnow_scratch_free(scratch);
    winnow_model_unref(model);
    return 0;
}
