/* fuzz_embeddings.c: any bytes as the body of /v1/embeddings. */
#include <stdlib.h>
#include "daemon/api/embeddings.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct wn_arena arena;
    struct wn_embed e;
    const char *param;
    struct winnow_err err = { 0 };
    wn_arena_init(&arena, (size_t)64 << 20);
    if (wn_embed_read(bytes, n, &arena, &e, &param, &err) == WINNOW_OK) {
        static const float zeros[3 * WN_EMBED_MAX_INPUTS];
        struct wn_buf to = { 0 };
        if (!e.n || e.n > WN_EMBED_MAX_INPUTS || !e.text == !e.ids)
            abort();
        for (size_t i = 0; i < e.n; i++)
            if (e.ids ? !e.ids[i].n : !e.text[i].n)
                abort();
        wn_embed_write(&e, zeros, 3, 1, &to);
        wn_buf_done(&to);
    } else if (err.status == WINNOW_OK || !err.msg[0]) {
        abort();
    }
    wn_arena_done(&arena);
    return 0;
}
