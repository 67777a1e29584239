/* fuzz_tokenizer.c: any bytes as tokenizer.json; an accepted one must take texts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "pipeline/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static char dir[64], path[96];

static void clean_up(void)
{
    unlink(path);
    rmdir(dir);
}

/* Tokens lie within their text, and ids within the vocabulary. */
static void check(const struct wn_tokenizer *t, const struct wn_tokens *tokens, size_t n)
{
    for (size_t i = 0; i < tokens->n; i++)
        if (tokens->id[i] < 0 || (size_t)tokens->id[i] >= wn_tokenizer_vocab(t) || tokens->offset[i][1] > n ||
            tokens->offset[i][0] > tokens->offset[i][1])
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static const char *const texts[] = {
        "", " a", "Hello, world! it's 42 [MASK]<s>",
        "\xC3\xA9\x65\xCC\x81 \xE4\xB8\xAD\xE6\x96\x87 \xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA7",
        "\xFF\xE2\x82 ab\r\n\n  ab\t\xC4\xB0"
    };
    if (!dir[0]) {
        snprintf(dir, sizeof dir, "/tmp/wn-fuzz-tokenizer-%ld", (long)getpid());
        snprintf(path, sizeof path, "%s/tokenizer.json", dir);
        mkdir(dir, 0700);
        atexit(clean_up);
    }
    FILE *f = fopen(path, "w");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f) != 0)
        abort();
    struct wn_tokenizer *t;
    struct winnow_err err;
    if (wn_tokenizer_open(dir, &t, &err) != WINNOW_OK)
        return 0;
    struct wn_tokens tokens = { 0 };
    for (size_t i = 0; i < WN_COUNT(texts); i++) {
        struct wn_text text = { texts[i], strlen(texts[i]) }, pair = { texts[WN_COUNT(texts) - 1 - i], 0 };
        pair.n = strlen(pair.at);
        if (wn_tokenizer_encode(t, text, NULL, 0, &tokens, &err) == WINNOW_OK)
            check(t, &tokens, text.n);
        if (wn_tokenizer_encode(t, text, &pair, 8, &tokens, &err) == WINNOW_OK && tokens.n > 8)
            check(t, &tokens, WN_MAX(text.n, pair.n)); /* a template may repeat a text */
    }
    wn_tokens_done(&tokens);
    wn_tokenizer_free(t);
    return 0;
}
