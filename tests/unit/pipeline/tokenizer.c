/* tokenizer.c, tok/: files and what is refused of them, known answers, offsets, truncation, reuse, threads. That ids
 * equal those of `tokenizers` on texts of every kind is tests/daemon/test_tokenizer.py's. */
#include "pipeline/tokenizer.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"

static char dir[64];
static const char *const names[] = { "tokenizer.json", "vocab.txt", "tokenizer_config.json", "vocab.json",
                                     "merges.txt" };

static void setup(void)
{
    strcpy(dir, "/tmp/wn-tok-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
}

static void clear(void)
{
    char path[128];
    for (size_t i = 0; i < WN_COUNT(names); i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
}

static void teardown(void)
{
    clear();
    rmdir(dir);
}

TestSuite(tokenizer, .init = setup, .fini = teardown);

static void put_file(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    cr_assert_eq(wn_file_write_durable(path, text, strlen(text), NULL), WINNOW_OK);
}

static struct wn_tokenizer *open_it(void)
{
    struct wn_tokenizer *t = NULL;
    struct winnow_err err = { 0 };
    cr_assert_eq(wn_tokenizer_open(dir, &t, &err), WINNOW_OK, "%s", err.msg);
    return t;
}

/* "id/type/from-to …" of what comes out. */
static const char *encode(const struct wn_tokenizer *t, const char *text, const char *pair, size_t max_length)
{
    static char out[4096];
    struct wn_tokens tokens = { 0 };
    struct winnow_err err = { 0 };
    struct wn_text second = { pair, pair ? strlen(pair) : 0 };
    enum winnow_status status = wn_tokenizer_encode(t, (struct wn_text){ text, strlen(text) }, pair ? &second : NULL,
                                                    max_length, &tokens, &err);
    out[0] = '\0';
    if (status != WINNOW_OK)
        snprintf(out, sizeof out, "%s: %s", winnow_status_name(status), err.msg);
    for (size_t i = 0; i < tokens.n; i++)
        sprintf(out + strlen(out), "%s%d/%u/%u-%u", i ? " " : "", tokens.id[i], tokens.type[i], tokens.offset[i][0],
                tokens.offset[i][1]);
    wn_tokens_done(&tokens);
    return out;
}

#define VOCAB_TXT "[PAD]\n[UNK]\n[CLS]\n[SEP]\nhello\nwor\n##ld\n,\ncafe\n中\n##文\n!\n[MASK]\n"

Test(tokenizer, vocab_txt_lower_case)
{
    put_file("vocab.txt", VOCAB_TXT);
    struct wn_tokenizer *t = open_it();
    cr_assert_eq(wn_tokenizer_vocab(t), 13);
    cr_assert_eq(wn_tokenizer_pad_id(t), 0);
    cr_assert_str_eq(encode(t, "Hello, world!", NULL, 0),
                     "2/0/0-0 4/0/0-5 7/0/5-6 5/0/7-10 6/0/10-12 11/0/12-13 3/0/0-0");
    /* accents go, ideographs stand alone, an unknown word is one token, controls and white space are nothing */
    cr_assert_str_eq(encode(t, " Caf\xC3\xA9\x01 \xE4\xB8\xAD\xE6\x96\x87\txyz", NULL, 0),
                     "2/0/0-0 8/0/1-6 9/0/8-11 1/0/11-14 1/0/15-18 3/0/0-0");
    cr_assert_str_eq(encode(t, "", NULL, 0), "2/0/0-0 3/0/0-0");
    cr_assert_str_eq(encode(t, "hello[MASK]HELLO", NULL, 0), "2/0/0-0 4/0/0-5 12/0/5-11 4/0/11-16 3/0/0-0");
    wn_tokenizer_free(t);
}

Test(tokenizer, vocab_txt_with_case)
{
    put_file("vocab.txt", VOCAB_TXT);
    put_file("tokenizer_config.json", "{\"do_lower_case\": false, \"tokenize_chinese_chars\": false}");
    struct wn_tokenizer *t = open_it();
    cr_assert_str_eq(encode(t, "Hello hello", NULL, 0), "2/0/0-0 1/0/0-5 4/0/6-11 3/0/0-0");
    cr_assert_str_eq(encode(t, "\xE4\xB8\xAD\xE6\x96\x87", NULL, 0), "2/0/0-0 9/0/0-3 10/0/3-6 3/0/0-0");
    wn_tokenizer_free(t);
}

Test(tokenizer, pairs_and_truncation)
{
    put_file("vocab.txt", VOCAB_TXT);
    struct wn_tokenizer *t = open_it();
    cr_assert_str_eq(encode(t, "hello", "world", 0), "2/0/0-0 4/0/0-5 3/0/0-0 5/1/0-3 6/1/3-5 3/1/0-0");
    cr_assert_str_eq(encode(t, "hello hello hello", "world", 6), "2/0/0-0 4/0/0-5 4/0/6-11 3/0/0-0 5/1/0-3 3/1/0-0");
    cr_assert_str_eq(encode(t, "hello hello hello", NULL, 3), "2/0/0-0 4/0/0-5 3/0/0-0");
    cr_assert_str_eq(encode(t, "hello", NULL, 2), "2/0/0-0 3/0/0-0");
    cr_assert_str_eq(encode(t, "hello", NULL, 1), "E_MALFORMED: max_length 1 has no room for the 2 special tokens");
    wn_tokenizer_free(t);
}

Test(tokenizer, bytes_that_are_not_utf8)
{
    put_file("tokenizer.json", "{\"model\": {\"type\": \"BPE\", \"unk_token\": \"?\", \"vocab\": {\"?\": 0, \"a\": 1, "
                               "\"\\ufffd\": 2}, \"merges\": []}}");
    struct wn_tokenizer *t = open_it();
    /* one U+FFFD for each maximal invalid part: a cut E2 82, a surrogate's three bytes, F4 90 */
    cr_assert_str_eq(encode(t,
                            "a\xE2\x82"
                            "a",
                            NULL, 0),
                     "1/0/0-1 2/0/1-3 1/0/3-4");
    cr_assert_str_eq(encode(t, "\xED\xA0\x80", NULL, 0), "2/0/0-1 2/0/1-2 2/0/2-3");
    cr_assert_str_eq(encode(t, "\xF4\x90\xFF", NULL, 0), "2/0/0-1 2/0/1-2 2/0/2-3");
    cr_assert_str_eq(encode(t, "\xF0\x9F\x98", NULL, 0), "2/0/0-3");
    cr_assert_str_eq(encode(t, "b\xC3", NULL, 0), "0/0/0-1 2/0/1-2");
    wn_tokenizer_free(t);
}

#define BYTE_LEVEL                                                                                                     \
    "{\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true}, "             \
    "\"post_processor\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true}, "             \
    "\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"\\u0120\": 2, \"ab\": 3, \"\\u0120ab\": 4, "     \
    "\"aba\": 5, \"\\u00e9\": 6, \"\\u00c3\": 7, \"\\u00a9\": 8}, \"merges\": [\"a b\", \"\\u0120 ab\", "              \
    "[\"ab\", \"a\"]]}}"

Test(tokenizer, byte_level)
{
    put_file("tokenizer.json", BYTE_LEVEL);
    struct wn_tokenizer *t = open_it();
    /* ranks decide, then the leftmost: abab -> ab ab, ababa -> ab aba; the space is not in the offset */
    cr_assert_str_eq(encode(t, "abab ab aba", NULL, 0), "3/0/0-2 3/0/2-4 4/0/5-7 4/0/8-10 0/0/10-11");
    cr_assert_str_eq(encode(t, "ababa", NULL, 0), "3/0/0-2 5/0/2-5");
    /* both bytes of é come from all of it; a byte without a token is dropped */
    cr_assert_str_eq(encode(t, "\xC3\xA9z", NULL, 0), "7/0/0-2 8/0/0-2");
    wn_tokenizer_free(t);
}

Test(tokenizer, long_words_merge_as_short_ones)
{
    put_file("tokenizer.json", BYTE_LEVEL);
    struct wn_tokenizer *t = open_it();
    enum { N = 200001 };
    char *text = malloc(N);
    struct wn_tokens tokens = { 0 };
    for (size_t n = 3; n <= N; n = n < 99 ? n + 2 : n * 2 < N ? n * 2 + 1 : N + 1) {
        for (size_t i = 0; i < n; i++)
            text[i] = "ab"[i % 2];
        cr_assert_eq(wn_tokenizer_encode(t, (struct wn_text){ text, n }, NULL, 0, &tokens, NULL), WINNOW_OK);
        /* n is odd: ab … ab aba */
        cr_assert_eq(tokens.n, n / 2);
        for (size_t i = 0; i + 1 < tokens.n; i++)
            cr_assert_eq(tokens.id[i], 3);
        cr_assert_eq(tokens.id[tokens.n - 1], 5);
        cr_assert_eq(tokens.offset[tokens.n - 1][1], n);
    }
    wn_tokens_done(&tokens);
    free(text);
    wn_tokenizer_free(t);
}

Test(tokenizer, vocab_json_and_merges)
{
    put_file("vocab.json",
             "{\"a\": 0, \"b\": 1, \"ab\": 2, \"<s>\": 3, \"</s>\": 4, \"<pad>\": 5, \"<mask>\": 6, \"\\u0120\": 7}");
    put_file("merges.txt", "#version: 0.2\na b\n");
    struct wn_tokenizer *t = open_it();
    cr_assert_str_eq(encode(t, "ab<s>", NULL, 0), "2/0/0-2");
    wn_tokenizer_free(t);
    put_file("tokenizer_config.json", "{\"tokenizer_class\": \"RobertaTokenizer\"}");
    t = open_it();
    cr_assert_eq(wn_tokenizer_pad_id(t), 5);
    cr_assert_str_eq(encode(t, "ab <mask>", "b", 0), "3/0/0-0 2/0/0-2 6/0/3-9 4/0/0-0 4/0/0-0 1/0/0-1 4/0/0-0");
    wn_tokenizer_free(t);
}

Test(tokenizer, too_long_a_text)
{
    put_file("vocab.txt", VOCAB_TXT);
    struct wn_tokenizer *t = open_it();
    char *text = calloc(WN_TEXT_MAX + 1, 1);
    struct wn_tokens tokens = { 0 };
    struct winnow_err err;
    memset(text, 'a', WN_TEXT_MAX + 1);
    cr_assert_eq(wn_tokenizer_encode(t, (struct wn_text){ text, WN_TEXT_MAX + 1 }, NULL, 0, &tokens, &err),
                 WINNOW_E_TOO_LARGE);
    cr_assert_eq(wn_tokenizer_encode(t, (struct wn_text){ text, WN_TEXT_MAX }, NULL, 0, &tokens, &err), WINNOW_OK);
    cr_assert_eq(tokens.n, 3);
    cr_assert_eq(tokens.id[1], 1); /* more than 100 characters are unknown */
    wn_tokens_done(&tokens);
    free(text);
    wn_tokenizer_free(t);
}

/* ---- many threads, one tokenizer ---- */
static void *use(void *t)
{
    struct wn_tokens tokens = { 0 };
    for (int i = 0; i < 2000; i++) {
        static const char text[] = "hello, world! hello";
        if (wn_tokenizer_encode(t, (struct wn_text){ text, sizeof text - 1 }, NULL, 0, &tokens, NULL) != WINNOW_OK ||
            tokens.n != 8 || tokens.id[6] != 4)
            return (void *)"wrong";
    }
    wn_tokens_done(&tokens);
    return NULL;
}

Test(tokenizer, threads)
{
    put_file("vocab.txt", VOCAB_TXT);
    struct wn_tokenizer *t = open_it();
    pthread_t thread[4];
    for (size_t i = 0; i < 4; i++)
        cr_assert_eq(pthread_create(&thread[i], NULL, use, t), 0);
    for (size_t i = 0; i < 4; i++) {
        void *wrong;
        pthread_join(thread[i], &wrong);
        cr_assert_null(wrong);
    }
    wn_tokenizer_free(t);
}

/* ---- what is refused ---- */
#define MODEL                                                                                                          \
    "\"model\": {\"type\": \"WordPiece\", \"unk_token\": \"u\", \"continuing_subword_prefix\": \"##\", "               \
    "\"max_input_chars_per_word\": 100, \"vocab\": {\"u\": 0, \"a\": 1}}"
#define BPE(more) "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2}, " more "}}"

static const struct {
    const char *file, *text;
    enum winnow_status status;
    const char *says; /* after the folder's name */
} bad[] = {
    { "vocab.json", "{\"a\": 0}", WINNOW_E_MALFORMED, ": vocab.json is there, merges.txt is not" },
    { "vocab.txt", "a\nb\n", WINNOW_E_MALFORMED, "/vocab.txt: the unknown token '[UNK]' is not in the vocabulary" },
    { "vocab.txt", "[UNK]\n[CLS]\n", WINNOW_E_MALFORMED,
      "/vocab.txt: the sep_token ([SEP], unless tokenizer_config.json names another) is not in the vocabulary" },
    { "tokenizer.json", "", WINNOW_E_MALFORMED, "/tokenizer.json:1: '[' or '{' expected near end of file" },
    { "tokenizer.json", "[]", WINNOW_E_MALFORMED, "/tokenizer.json: expected an object" },
    { "tokenizer.json", "{}", WINNOW_E_MALFORMED, "/tokenizer.json: key 'model' is missing" },
    { "tokenizer.json", "{\"version\": \"2.0\", " MODEL "}", WINNOW_E_UNSUPPORTED,
      "/tokenizer.json: version: only \"1.0\" is supported" },
    { "tokenizer.json", "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", WINNOW_E_TOO_LARGE,
      "/tokenizer.json: nested deeper than 32" },
    { "tokenizer.json", "{\"model\": {\"type\": \"Unigram\"}}", WINNOW_E_UNSUPPORTED,
      "/tokenizer.json: model: type: 'Unigram' is not supported; WordPiece and BPE are" },
    { "tokenizer.json", "{\"model\": {\"type\": \"WordPiece\"}}", WINNOW_E_MALFORMED,
      "/tokenizer.json: model: unk_token: expected a string" },
    { "tokenizer.json", "{" MODEL ", \"normalizer\": {\"type\": \"Nmt\"}}", WINNOW_E_UNSUPPORTED,
      "/tokenizer.json: normalizer: type: 'Nmt' is not supported" },
    { "tokenizer.json",
      "{" MODEL ", \"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFC\"}, 3]}}",
      WINNOW_E_MALFORMED, "/tokenizer.json: normalizer.normalizers[1]: expected an object" },
    { "tokenizer.json", "{" MODEL ", \"normalizer\": {\"type\": \"BertNormalizer\", \"clean_text\": 1}}",
      WINNOW_E_MALFORMED, "/tokenizer.json: normalizer: clean_text: expected true or false" },
    { "tokenizer.json", "{" MODEL ", \"normalizer\": {\"type\": \"NFC\", \"fast\": true}}", WINNOW_E_UNSUPPORTED,
      "/tokenizer.json: normalizer: key 'fast' is not supported" },
    { "tokenizer.json", "{" MODEL ", \"normalizer\": {\"type\": \"Prepend\", \"prepend\": \"\"}}", WINNOW_E_MALFORMED,
      "/tokenizer.json: normalizer: prepend: is empty" },
    { "tokenizer.json",
      "{" MODEL ", \"normalizer\": {\"type\": \"Replace\", \"pattern\": {\"Regex\": \"a*\"}, \"content\": \"b\"}}",
      WINNOW_E_UNSUPPORTED, "/tokenizer.json: normalizer: pattern: may match nothing" },
    { "tokenizer.json",
      "{" MODEL ", \"normalizer\": {\"type\": \"Replace\", \"pattern\": {\"Regex\": \"a(\"}, \"content\": \"b\"}}",
      WINNOW_E_UNSUPPORTED,
      "/tokenizer.json: normalizer: pattern: the expression, at character 2: missing closing parenthesis" },
    { "tokenizer.json",
      "{" MODEL ", \"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\h+\"}, \"behavior\": "
      "\"Isolated\", \"invert\": false}}",
      WINNOW_E_UNSUPPORTED,
      "/tokenizer.json: pre_tokenizer: pattern: the expression has an escape that is not supported (\\h \\H \\X \\R "
      "\\N \\O "
      "\\k \\g \\G)" },
    { "tokenizer.json",
      "{" MODEL ", \"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"String\": \"a\"}, \"behavior\": \"Lost\", "
      "\"invert\": false}}",
      WINNOW_E_MALFORMED, "/tokenizer.json: pre_tokenizer: behavior: 'Lost' is none" },
    { "tokenizer.json", "{" MODEL ", \"pre_tokenizer\": {\"type\": \"Metaspace\"}}", WINNOW_E_UNSUPPORTED,
      "/tokenizer.json: pre_tokenizer: type: 'Metaspace' is not supported" },
    { "tokenizer.json",
      "{" MODEL
      ", \"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"[X]\", "
      "\"type_id\": 0}}], \"pair\": [], \"special_tokens\": {}}}",
      WINNOW_E_MALFORMED,
      "/tokenizer.json: post_processor.single[0]: '[X]' is not in special_tokens, or has no list of at most 1024 ids "
      "there" },
    { "tokenizer.json",
      "{" MODEL ", \"post_processor\": {\"type\": \"BertProcessing\", \"sep\": [\"s\", 1], \"cls\": [\"c\", -1]}}",
      WINNOW_E_MALFORMED, "/tokenizer.json: post_processor.cls: expected an id between 0 and 15999999" },
    { "tokenizer.json", "{" MODEL ", \"added_tokens\": [{\"id\": 5, \"content\": \"x\"}]}", WINNOW_E_MALFORMED,
      "/tokenizer.json: added_tokens[0]: single_word: expected true or false" },
    { "tokenizer.json",
      "{" MODEL ", \"truncation\": {\"max_length\": -1, \"strategy\": \"LongestFirst\", \"stride\": 0}}",
      WINNOW_E_MALFORMED,
      "/tokenizer.json: truncation: max_length: expected an integer between 0 and 9223372036854775807" },
    { "tokenizer.json", BPE("\"merges\": [\"a c\"]"), WINNOW_E_MALFORMED,
      "/tokenizer.json: model.merges[0]: 'c' is not in the vocabulary" },
    { "tokenizer.json", BPE("\"merges\": [\"b a\"]"), WINNOW_E_MALFORMED,
      "/tokenizer.json: model.merges[0]: its result 'ba' is not in the vocabulary" },
    { "tokenizer.json", BPE("\"merges\": [\"a b c\"]"), WINNOW_E_MALFORMED,
      "/tokenizer.json: model.merges[0]: expected two tokens with a space between them" },
    { "tokenizer.json", BPE("\"merges\": [[\"a\"]]"), WINNOW_E_MALFORMED,
      "/tokenizer.json: model.merges[0]: expected two tokens" },
    { "tokenizer.json", BPE("\"dropout\": 0.1, \"merges\": []"), WINNOW_E_UNSUPPORTED,
      "/tokenizer.json: model: dropout: only null or 0; it would make answers random" },
    { "tokenizer.json", BPE("\"byte_fallback\": true, \"end_of_word_suffix\": \"x\", \"merges\": []"),
      WINNOW_E_UNSUPPORTED,
      "/tokenizer.json: model: byte_fallback: not together with continuing_subword_prefix or end_of_word_suffix" },
    { "tokenizer.json", "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 99999999}, \"merges\": []}}",
      WINNOW_E_MALFORMED, "/tokenizer.json: model.vocab: token 'a': expected an id between 0 and 15999999" },
};

Test(tokenizer, refused_by_file_and_key)
{
    for (size_t i = 0; i < WN_COUNT(bad); i++) {
        struct wn_tokenizer *t = NULL;
        struct winnow_err err = { 0 };
        clear();
        put_file(bad[i].file, bad[i].text);
        cr_expect_eq(wn_tokenizer_open(dir, &t, &err), bad[i].status, "%s: %s", bad[i].text, err.msg);
        cr_expect(strncmp(err.msg, dir, strlen(dir)) == 0 && strcmp(err.msg + strlen(dir), bad[i].says) == 0,
                  "%s\n says:   %s\n wanted: %s", bad[i].text, err.msg, bad[i].says);
        cr_expect_null(t);
    }
}

Test(tokenizer, no_files)
{
    struct wn_tokenizer *t;
    struct winnow_err err;
    cr_assert_eq(wn_tokenizer_open(dir, &t, &err), WINNOW_E_NOT_FOUND);
    cr_assert_not_null(strstr(err.msg, ": no tokenizer.json, vocab.txt or vocab.json and merges.txt"));
}

/* An expression that goes back and forth is stopped, and says so. */
Test(tokenizer, costly_expression)
{
    put_file("tokenizer.json", "{" MODEL ", \"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": "
                               "\"(a|aa)+$\"}, \"behavior\": \"Isolated\", \"invert\": false}}");
    struct wn_tokenizer *t = open_it();
    cr_assert_str_eq(encode(t, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", NULL, 0),
                     "E_TOO_LARGE: a regular expression took more than its limit of steps or memory for one match");
    cr_assert_str_eq(encode(t, "a", NULL, 0), "1/0/0-1");
    wn_tokenizer_free(t);
}
