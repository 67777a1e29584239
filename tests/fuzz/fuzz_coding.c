/* fuzz_coding.c: any bytes as a gzip or deflate body, and as Accept-Encoding. The first byte chooses the coding. */
#include <stdlib.h>
#include <string.h>
#include "daemon/api/coding.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    enum { MAX = 1 << 16 };
    struct wn_coding_budget budget = { .max = MAX * 2 };
    struct wn_inflated out;
    struct winnow_err err;
    if (!n)
        return 0;
    if (wn_coding_inflate(bytes[0] & 1 ? WN_CODING_GZIP : WN_CODING_DEFLATE, bytes + 1, n - 1, MAX, &budget, &out,
                          &err) == WINNOW_OK) {
        if (out.n > MAX || out.cap != atomic_load(&budget.used))
            abort();
        wn_inflated_done(&out, &budget);
    }
    if (atomic_load(&budget.used))
        abort();
    enum wn_coding c = wn_coding_wanted((const char *)bytes, n);
    if (c != WN_CODING_IDENTITY && c != WN_CODING_GZIP && c != WN_CODING_DEFLATE)
        abort();
    wn_coding_listed((const char *)bytes, n, WN_CODING_GZIP);
    return 0;
}
