/* fuzz_idx.c: any bytes as an IDX file, plain and as gzip; an accepted one is read to its end. */
#include <stdlib.h>
#include "sparsify/data/idx.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static volatile unsigned sink;

static void read_idx(const void *bytes, size_t n)
{
    struct wn_idx x;
    struct winnow_err err;
    if (wn_idx_parse(bytes, n, "x", &x, &err) != WINNOW_OK)
        return;
    size_t count = 1;
    for (unsigned i = 0; i < x.rank; i++)
        count *= x.dim[i];
    for (size_t i = 0; i < count; i++)
        sink += x.data[i];
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    void *out;
    size_t out_n;
    struct winnow_err err;
    read_idx(bytes, n);
    if (wn_gunzip(bytes, n, "x", 1 << 20, &out, &out_n, &err) == WINNOW_OK) {
        read_idx(out, out_n);
        free(out);
    }
    return 0;
}
