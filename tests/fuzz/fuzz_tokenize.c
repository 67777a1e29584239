/* fuzz_tokenize.c: any bytes as a text for four tokenizers, which between them have every normalizer, pre-tokenizer and
 * kind of model. The tokens of one text must lie within it, in order, and be the same when it is encoded again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "pipeline/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

#define ADDED(id, content, how)                                                                                        \
    "{\"id\": " #id ", \"content\": \"" content "\", \"single_word\": false, \"lstrip\": " how ", \"rstrip\": " how    \
    ", \"normalized\": " how ", \"special\": false}"
static const char *const files[] = {
    "{\"normalizer\": {\"type\": \"BertNormalizer\", \"clean_text\": true, \"handle_chinese_chars\": true, "
    "\"strip_accents\": null, \"lowercase\": true}, \"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"}, "
    "\"post_processor\": {\"type\": \"BertProcessing\", \"sep\": [\"s\", 1], \"cls\": [\"c\", 2]}, "
    "\"added_tokens\": [" ADDED(0, "[MASK]", "true") "," ADDED(
        0, "the",
        "false") "], "
                 "\"model\": {\"type\": \"WordPiece\", \"unk_token\": \"u\", \"continuing_subword_prefix\": \"##\", "
                 "\"max_input_chars_per_word\": 40, \"vocab\": {\"u\": 0, \"a\": 1, \"##a\": 2, \"ab\": 3, \"##ab\": "
                 "4, \"e\": 5, "
                 "\"##b\": 6, \"\xE4\xB8\xAD\": 7, \"\xE4\xB8\xAD\xE6\x96\x87\": 8, \"##\xE6\x96\x87\": 9}}}",

    "{\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true}, "
    "\"post_processor\": {\"type\": \"RobertaProcessing\", \"sep\": [\"s\", 1], \"cls\": [\"c\", 2], \"trim_offsets\": "
    "true, \"add_prefix_space\": true}, \"model\": {\"type\": \"BPE\", \"unk_token\": \"a\", \"fuse_unk\": true, "
    "\"vocab\": {\"a\": 0, \"b\": 1, \"\\u0120\": 2, \"ab\": 3, \"\\u0120ab\": 4, \"aba\": 5, \"\\u00c3\": 6, "
    "\"\\u00a9\": 7, \"\\u00c3\\u00a9\": 8, \"aa\": 9, \"aaaa\": 10}, \"merges\": [\"a a\", \"a b\", \"\\u0120 ab\", "
    "\"ab a\", \"\\u00c3 \\u00a9\", \"aa aa\"]}}",

    "{\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFKC\"}, {\"type\": \"Replace\", "
    "\"pattern\": {\"Regex\": \"a+b?|\\\\s\\\\s\"}, \"content\": \"bcc\"}, {\"type\": \"Prepend\", \"prepend\": "
    "\"_\"}, "
    "{\"type\": \"NFD\"}, {\"type\": \"Lowercase\"}]}, \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": ["
    "{\"type\": \"Whitespace\"}, {\"type\": \"Digits\", \"individual_digits\": false}, {\"type\": \"Punctuation\", "
    "\"behavior\": \"MergedWithNext\"}, {\"type\": \"Split\", \"pattern\": {\"String\": \"cc\"}, \"behavior\": "
    "\"MergedWithPrevious\", \"invert\": false}]}, \"model\": {\"type\": \"BPE\", \"unk_token\": \"b\", "
    "\"byte_fallback\": true, \"vocab\": {\"b\": 0, \"c\": 1, \"<0xCC>\": 2, \"<0x81>\": 3, \"bc\": 4}, \"merges\": "
    "[\"b c\"]}}",

    "{\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFKD\"}, {\"type\": \"StripAccents\"}, "
    "{\"type\": \"NFC\"}, {\"type\": \"Strip\", \"strip_left\": true, \"strip_right\": true}]}, "
    "\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": {\"Regex\": "
    "\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| ?[^\\\\s\\\\p{L}\\\\p{N}]+"
    "[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"}, \"behavior\": \"Isolated\", \"invert\": false}, "
    "{\"type\": "
    "\"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": false}]}, \"model\": "
    "{\"type\": "
    "\"BPE\", \"end_of_word_suffix\": \"w\", \"vocab\": {\"a\": 0, \"aw\": 1, \"aaw\": 2, \"\\u0120\": 3}, \"merges\": "
    "[\"a aw\"]}, \"truncation\": {\"direction\": \"Left\", \"max_length\": 50, \"strategy\": \"LongestFirst\", "
    "\"stride\": 0}}",
};
static struct wn_tokenizer *tokenizer[WN_COUNT(files)];
static struct wn_tokens first, again;

static void clean_up(void)
{
    for (size_t i = 0; i < WN_COUNT(files); i++)
        wn_tokenizer_free(tokenizer[i]);
    wn_tokens_done(&first);
    wn_tokens_done(&again);
}

static void open_all(void)
{
    char dir[64], path[96];
    snprintf(dir, sizeof dir, "/tmp/wn-fuzz-tokenize-%ld", (long)getpid());
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    mkdir(dir, 0700);
    for (size_t i = 0; i < WN_COUNT(files); i++) {
        FILE *f = fopen(path, "w");
        struct winnow_err err;
        if (!f || fputs(files[i], f) < 0 || fclose(f) != 0)
            abort();
        if (wn_tokenizer_open(dir, &tokenizer[i], &err) != WINNOW_OK) {
            fprintf(stderr, "tokenizer %zu: %s\n", i, err.msg);
            abort();
        }
    }
    unlink(path);
    rmdir(dir);
    atexit(clean_up);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct winnow_err err;
    struct wn_text text = { (const char *)bytes, n }, pair = { (const char *)bytes + n / 2, n - n / 2 };
    if (!tokenizer[0])
        open_all();
    for (size_t i = 0; i < WN_COUNT(files); i++) {
        if (wn_tokenizer_encode(tokenizer[i], text, NULL, 0, &first, &err) != WINNOW_OK)
            continue; /* the expressions may hit their limit */
        uint32_t at = 0;
        for (size_t k = 0; k < first.n; k++) {
            const uint32_t *o = first.offset[k];
            if (first.id[k] < 0 || (size_t)first.id[k] >= wn_tokenizer_vocab(tokenizer[i]) || o[0] > o[1] || o[1] > n)
                abort();
            if ((o[0] || o[1]) && o[0] < at)
                abort();
            at = o[0] || o[1] ? o[0] : at;
        }
        if (wn_tokenizer_encode(tokenizer[i], text, &pair, 7, &again, &err) == WINNOW_OK && again.n > 7)
            abort();
        if (wn_tokenizer_encode(tokenizer[i], text, NULL, 0, &again, &err) != WINNOW_OK || again.n != first.n ||
            (first.n && memcmp(first.id, again.id, first.n * sizeof *first.id) != 0))
            abort();
    }
    return 0;
}
