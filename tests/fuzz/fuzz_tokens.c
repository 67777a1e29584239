/* fuzz_tokens.c: bytes as a file of tokens. What is read must be found again by its own line, and by no other secret.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "base/tokens.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wn_tokens *t = NULL;
    struct winnow_err err = { 0 };
    uint8_t *copy = malloc(size ? size : 1); /* without a NUL behind it */
    if (!copy)
        return 0;
    memcpy(copy, data, size);
    if (wn_tokens_parse(copy, size, "fuzz", &t, &err) == WINNOW_OK)
        for (size_t i = 0; i < wn_tokens_count(t); i++) {
            const struct wn_token *x = wn_tokens_at(t, i);
            if (wn_tokens_again(t, x) != x || !x->scopes || (x->scopes & 1) || !*x->id)
                abort();
            wn_token_may_use(x, "a-model");
        }
    if (t && wn_tokens_find(t, (const char *)copy, WN_MIN(size, (size_t)WN_TOKEN_LEN)))
        abort(); /* its hash would have to stand in a text that begins with it */
    wn_tokens_unref(t);
    free(copy);
    return 0;
}
