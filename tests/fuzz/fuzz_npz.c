/* fuzz_npz.c: any bytes as .npy, .npz and ROWS.npz. */
#include "base/npz.h"
#include "pipeline/rows.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static volatile uint8_t sink;

static void touch(const void *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sink ^= ((const uint8_t *)p)[i];
}

static void read_rows(const struct wn_rows *rows)
{
    for (unsigned i = 0; i < wn_rows_n_inputs(rows); i++)
        for (size_t row = 0; row < wn_rows_count(rows); row++) {
            size_t len;
            const void *p = wn_rows_item(rows, i, row, &len);
            touch(p, len);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static const struct wn_npz_limits limits = { .max_arrays = 16, .max_bytes = 1 << 20 };
    struct winnow_err err;
    struct wn_npy npy;
    struct wn_npz npz;
    struct wn_rows *rows;
    if (wn_npy_parse(bytes, n, "fuzz", &npy, &err) == WINNOW_OK) {
        touch(npy.data, npy.bytes);
        wn_npy_done(&npy);
    }
    if (wn_npz_parse(bytes, n, "fuzz", &limits, &npz, &err) == WINNOW_OK)
        wn_npz_done(&npz);
    if (wn_rows_parse(bytes, n, "fuzz", 1 << 20, &rows, &err) == WINNOW_OK) {
        read_rows(rows);
        wn_rows_free(rows);
    }
    return 0;
}
