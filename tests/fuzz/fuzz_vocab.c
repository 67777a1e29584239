/* fuzz_vocab.c: any bytes as the files of a tokenizer from before tokenizer.json. The first byte chooses the form, NULs
 * part the files: vocab.txt and tokenizer_config.json, or vocab.json, merges.txt and tokenizer_config.json. An accepted
 * one must take texts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "pipeline/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static char dir[64];
static const char *const names[] = { "vocab.txt", "vocab.json", "merges.txt", "tokenizer_config.json" };

static const char *path_of(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void clean_up(void)
{
    for (size_t i = 0; i < WN_COUNT(names); i++)
        unlink(path_of(names[i]));
    rmdir(dir);
}

/* The bytes up to a NUL, or to the end of `last`, become the file; what is left is in *bytes, *n. */
static void put(const char *name, const uint8_t **bytes, size_t *n, bool last)
{
    const uint8_t *nul = last ? NULL : memchr(*bytes, 0, *n);
    size_t len = nul ? (size_t)(nul - *bytes) : *n;
    FILE *f = fopen(path_of(name), "w");
    if (!f || fwrite(*bytes, 1, len, f) != len || fclose(f) != 0)
        abort();
    *bytes += len + (nul != NULL);
    *n -= len + (nul != NULL);
}

static void put_files(const uint8_t *bytes, size_t n)
{
    bool words = n && bytes[0] & 1;
    if (n) {
        bytes++;
        n--;
    }
    if (words) {
        put("vocab.txt", &bytes, &n, false);
    } else {
        put("vocab.json", &bytes, &n, false);
        put("merges.txt", &bytes, &n, false);
    }
    if (n)
        put("tokenizer_config.json", &bytes, &n, true);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static const char *const texts[] = { "", " a", "Hello, world! it's 42 [MASK]<s>", "\xC3\xA9 e\xCC\x81 \xE4\xB8\xAD",
                                         "\xFF\xE2\x82 ab\r\n\n  ab\t\xC4\xB0" };
    if (!dir[0]) {
        snprintf(dir, sizeof dir, "/tmp/wn-fuzz-vocab-%ld", (long)getpid());
        mkdir(dir, 0700);
        atexit(clean_up);
    }
    for (size_t i = 0; i < WN_COUNT(names); i++)
        unlink(path_of(names[i]));
    put_files(bytes, n);
    struct wn_tokenizer *t;
    struct winnow_err err;
    if (wn_tokenizer_open(dir, &t, &err) != WINNOW_OK)
        return 0;
    struct wn_tokens tokens = { 0 };
    for (size_t i = 0; i < WN_COUNT(texts); i++) {
        struct wn_text text = { texts[i], strlen(texts[i]) };
        if (wn_tokenizer_encode(t, text, NULL, 0, &tokens, &err) != WINNOW_OK)
            continue;
        for (size_t k = 0; k < tokens.n; k++)
            if (tokens.id[k] < 0 || (size_t)tokens.id[k] >= wn_tokenizer_vocab(t) || tokens.offset[k][1] > text.n ||
                tokens.offset[k][0] > tokens.offset[k][1])
                abort();
    }
    wn_tokens_done(&tokens);
    wn_tokenizer_free(t);
    return 0;
}
