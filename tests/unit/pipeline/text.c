/* task_text.c, pipeline.c: what pipeline.yaml may say of texts, ids to tensors, padding, pooling. */
#include "pipeline/pipeline.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"

static char dir[64];
static struct wn_arena arena;
static const char *const files[] = { "pipeline.yaml", "labels.txt", "vocab.txt" };
static const struct wn_pipe_io bert[3] = { { "attention_mask", WINNOW_I64, 1, { -1 }, 0 },
                                           { "input_ids", WINNOW_I64, 1, { -1 }, 0 },
                                           { "token_type_ids", WINNOW_I64, 1, { -1 }, 0 } };
static const struct wn_pipe_io logits = { "logits", WINNOW_F32, 1, { 2 }, 0 };
static const struct wn_pipe_io tokens = { "tokens", WINNOW_F32, 2, { -1, 3 }, 0 };
static const struct wn_pipe_io vector = { "vector", WINNOW_F32, 1, { 3 }, 0 };

static void put_file(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    cr_assert_eq(wn_file_write_durable(path, text, strlen(text), NULL), WINNOW_OK);
}

static void setup(void)
{
    strcpy(dir, "/tmp/wn-text-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    put_file("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\nc\nd\n");
    put_file("labels.txt", "no\nyes\n");
    wn_arena_init(&arena, 0);
}

static void teardown(void)
{
    char path[128];
    for (size_t i = 0; i < WN_COUNT(files); i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
    rmdir(dir);
    wn_arena_done(&arena);
}

TestSuite(pipeline_text, .init = setup, .fini = teardown);

#define CLASSES "task: text_classification\n"
#define VECTORS "task: embeddings\n"

static struct wn_pipeline *open_with(const char *yaml, const struct wn_pipe_io *in, unsigned n_in,
                                     const struct wn_pipe_io *out)
{
    struct wn_pipeline *p = NULL;
    struct winnow_err err = { 0 };
    put_file("pipeline.yaml", yaml);
    cr_assert_eq(wn_pipeline_open(dir, in, n_in, out, 1, &p, &err), WINNOW_OK, "%s: %s", yaml, err.msg);
    return p;
}

static struct wn_pipe_batch encode(const struct wn_pipeline *p, const char *const *text, const char *const *pair,
                                   size_t n)
{
    struct wn_pipe_item item[2][8];
    struct wn_pipe_items items = { .n = n };
    struct wn_pipe_batch batch;
    struct winnow_err err = { 0 };
    for (unsigned k = 0; k < 2; k++) {
        const char *const *from = k ? pair : text;
        items.at[k] = from ? item[k] : NULL;
        for (size_t i = 0; from && i < n; i++)
            item[k][i] = (struct wn_pipe_item){ from[i], strlen(from[i]) };
    }
    cr_assert_eq(wn_pipeline_encode_rows(p, &items, NULL, &arena, &batch, &err), WINNOW_OK, "%s", err.msg);
    return batch;
}

/* "2 5 3 0 | …": a tensor of int64, rows apart. */
static const char *text_of(const struct wn_pipe_tensor *t)
{
    static char s[400];
    size_t n = 0;
    s[0] = 0;
    for (int64_t i = 0; i < t->shape[0] * t->shape[1]; i++)
        n += (size_t)snprintf(s + n, sizeof s - n, "%s%lld", i ? i % t->shape[1] ? " " : " | " : "",
                              t->dtype == WINNOW_I64 ? (long long)((int64_t *)t->data)[i]
                                                     : (long long)((int32_t *)t->data)[i]);
    return s;
}

Test(pipeline_text, messages)
{
    static const struct wn_pipe_io f32_ids = { "input_ids", WINNOW_F32, 1, { -1 }, 0 };
    static const struct wn_pipe_io two_lengths[2] = { { "input_ids", WINNOW_I64, 1, { 8 }, 0 },
                                                      { "attention_mask", WINNOW_I64, 1, { 9 }, 0 } };
    static const struct wn_pipe_io positions[2] = { { "input_ids", WINNOW_I64, 1, { -1 }, 0 },
                                                    { "position_ids", WINNOW_I64, 1, { -1 }, 0 } };
    static const struct wn_pipe_io eight[2] = { { "input_ids", WINNOW_I64, 1, { 8 }, 0 },
                                                { "attention_mask", WINNOW_I64, 1, { -1 }, 0 } };
    static const struct wn_pipe_io few_rows[2] = { { "input_ids", WINNOW_I64, 1, { -1 }, 8 },
                                                   { "attention_mask", WINNOW_I64, 1, { -1 }, 2 } };
    const struct {
        const char *yaml;
        const struct wn_pipe_io *in;
        unsigned n_in;
        const struct wn_pipe_io *out;
        const char *msg;
    } cases[] = {
        { CLASSES "max_len: 3\n", bert, 3, &logits, "2: unknown key 'max_len'; did you mean 'max_length'?" },
        { CLASSES "size: 224\n", bert, 3, &logits, "2: unknown key 'size'" },
        { CLASSES "pooling: mean\n", bert, 3, &logits, "2: unknown key 'pooling'" },
        { VECTORS "labels: labels.txt\n", bert, 3, &tokens, "2: unknown key 'labels'" },
        { CLASSES "max_length: 0\n", bert, 3, &logits, "2: max_length: 0 is not between 1 and 65536" },
        { CLASSES "padding: short\n", bert, 3, &logits, "2: padding: must be longest, or a number of tokens" },
        { CLASSES "padding: 0\n", bert, 3, &logits, "2: padding: 0 is not between 1 and 65536" },
        { CLASSES "padding: 8\npad_to_multiple_of: 4\n", bert, 3, &logits,
          "3: pad_to_multiple_of: every text has 8 tokens anyway" },
        { CLASSES "padding: 8\nmax_length: 9\n", bert, 3, &logits, "3: max_length: 9, but every text has 8 tokens" },
        { CLASSES "padding: 9\n", eight, 2, &logits, "2: padding: 9 tokens, but the model takes 8" },
        { CLASSES, bert + 1, 1, &logits,
          "1: padding: a model without an input for the attention mask sees padding: say to how many tokens every text "
          "is "
          "padded" },
        { CLASSES, bert, 1, &logits, "1: the model has no input for token ids; name it with input_ids" },
        { CLASSES "input_ids: ids\n", bert, 3, &logits, "2: input_ids: the model has no input 'ids'" },
        { CLASSES "input_ids: attention_mask\n", bert, 3, &logits,
          "1: nothing of a text becomes the model's input 'input_ids'; name its inputs with input_ids, attention_mask, "
          "token_type_ids" },
        { CLASSES "padding: 4\n", positions, 2, &logits,
          "1: nothing of a text becomes the model's input 'position_ids'; name its inputs with input_ids, "
          "attention_mask, "
          "token_type_ids" },
        { CLASSES "padding: 4\n", &f32_ids, 1, &logits,
          "1: the model's input 'input_ids' is not int64 or int32 (rows, tokens)" },
        { CLASSES, two_lengths, 2, &logits, "1: inputs of the model have 8 and 9 tokens" },
        { CLASSES "tokenizer: ../x\n", bert, 3, &logits, "2: tokenizer: '../x' must be a folder beside pipeline.yaml" },
        { CLASSES "tokenizer: words\n", bert, 3, &logits,
          "2: tokenizer: no tokenizer.json, vocab.txt, or vocab.json with merges.txt in words" },
        { CLASSES, few_rows, 2, &logits,
          "1: tokenizer: vocab.txt has token ids up to 8, but the table behind the model's input 'input_ids' has 8 "
          "rows" },
        { CLASSES "input: t\ninput_pair: t\n", bert, 3, &logits, "2: input and input_pair are both 't'" },
        { CLASSES, bert, 3, &tokens,
          "1: no tensor has the shape of scores: there is 'tokens' [batch,?,3]; 'model_output' chooses" },
        { VECTORS, bert, 3, &vector,
          "1: no tensor has the shape of vectors [batch,tokens,width] or, with 'pooling: none', [batch,width]: there "
          "is "
          "'vector' [batch,3]; 'model_output' chooses" },
        { VECTORS "pooling: none\n", bert, 3, &tokens,
          "1: no tensor has the shape of an embedding [batch,width]: there is 'tokens' [batch,?,3]; 'model_output' "
          "chooses" },
        { VECTORS "pooling: max\n", bert, 3, &tokens, "2: pooling: must be one of mean, cls, none" },
    };
    for (size_t i = 0; i < WN_COUNT(cases); i++) {
        struct wn_pipeline *p = NULL;
        struct winnow_err err = { 0 };
        char want[400];
        put_file("pipeline.yaml", cases[i].yaml);
        snprintf(want, sizeof want, "%s/pipeline.yaml:%s", dir, cases[i].msg);
        cr_expect_eq(wn_pipeline_open(dir, cases[i].in, cases[i].n_in, cases[i].out, 1, &p, &err), WINNOW_E_MALFORMED,
                     "case %zu", i);
        cr_expect(strncmp(err.msg, want, WN_MIN(strlen(want), sizeof err.msg - 4)) == 0, "case %zu: %s", i, err.msg);
        wn_pipeline_free(p);
    }
}

Test(pipeline_text, rows_of_mixed_length)
{
    static const char *const texts[] = { "a b c", "d", "a x" };
    struct wn_pipeline *p = open_with(CLASSES, bert, 3, &logits);
    cr_expect(wn_pipeline_task(p) == WN_PIPE_TEXTS && wn_pipeline_scores(p));
    cr_expect_str_eq(wn_pipeline_raw(p, 0), "text");
    cr_expect_str_eq(wn_pipeline_raw(p, 1), "text_pair");
    cr_expect_null(wn_pipeline_raw(p, 2));
    struct wn_pipe_batch b = encode(p, texts, NULL, 3);
    cr_assert_eq(b.n_t, 3);
    static const char *const want[] = { "1 1 1 1 1 | 1 1 1 0 0 | 1 1 1 1 0", "2 5 6 7 3 | 2 8 3 0 0 | 2 5 1 3 0",
                                        "0 0 0 0 0 | 0 0 0 0 0 | 0 0 0 0 0" };
    for (unsigned i = 0; i < 3; i++) {
        cr_expect(b.t[i].model_input == i && b.t[i].rank == 2 && wn_pipeline_fills(p, i));
        cr_expect_str_eq(text_of(&b.t[i]), want[i]);
    }
    cr_expect(b.used[0] == 5 && b.used[1] == 3 && b.used[2] == 4);
    b = encode(p, texts, texts, 1);
    cr_expect_str_eq(text_of(&b.t[1]), "2 5 6 7 3 5 6 7 3");
    cr_expect_str_eq(text_of(&b.t[2]), "0 0 0 0 0 1 1 1 1");
    wn_pipeline_free(p);
}

Test(pipeline_text, lengths)
{
    static const char *const texts[] = { "a b c d", "d" };
    static const struct wn_pipe_io ids32 = { "x", WINNOW_I32, 1, { -1 }, 0 },
                                   six[2] = { { "input_ids", WINNOW_I32, 1, { 6 }, 0 },
                                              { "attention_mask", WINNOW_I64, 1, { 6 }, 0 } };
    struct wn_pipeline *p = open_with(CLASSES "max_length: 4\n", bert, 3, &logits);
    struct wn_pipe_batch b = encode(p, texts, NULL, 2);
    cr_expect_str_eq(text_of(&b.t[1]), "2 5 6 3 | 2 8 3 0");
    wn_pipeline_free(p);
    p = open_with(CLASSES "pad_to_multiple_of: 4\nmax_length: 7\n", bert, 3, &logits);
    b = encode(p, texts + 1, NULL, 1);
    cr_expect_str_eq(text_of(&b.t[1]), "2 8 3 0");
    b = encode(p, texts, NULL, 1); /* rounded up, but not beyond max_length */
    cr_expect_str_eq(text_of(&b.t[1]), "2 5 6 7 8 3 0");
    cr_expect_eq(wn_pipeline_pad_to(p), 4);
    wn_pipeline_free(p);
    p = open_with(CLASSES "padding: 5\n", &ids32, 1, &logits); /* the only input, whatever its name */
    b = encode(p, texts, NULL, 2);
    cr_expect(b.n_t == 1 && b.t[0].dtype == WINNOW_I32 && b.t[0].bytes == 2 * 5 * 4);
    cr_expect_str_eq(text_of(&b.t[0]), "2 5 6 7 3 | 2 8 3 0 0");
    cr_expect_eq(wn_pipeline_pad_to(p), 5);
    wn_pipeline_free(p);
    p = open_with(CLASSES, six, 2, &logits);
    b = encode(p, texts + 1, NULL, 1);
    cr_expect_str_eq(text_of(&b.t[0]), "2 8 3 0 0 0");
    wn_pipeline_free(p);
    p = open_with(CLASSES "max_length: 40\n", bert, 3, &logits);
    cr_expect_eq(wn_pipeline_pad_to(p), 10); /* the largest up to 16 that 40 tokens end on */
    wn_pipeline_free(p);
}

Test(pipeline_text, ids_from_outside)
{
    static const int32_t good[] = { 2, 5, 3 }, bad[] = { 2, 9 }, below[] = { -1 };
    struct wn_pipeline *p = open_with(CLASSES "max_length: 3\n", bert, 3, &logits);
    const struct wn_pipe_ids rows[] = { { good, NULL, 3 }, { good, NULL, 2 } },
                             wrong[] = { { good, NULL, 3 }, { bad, NULL, 2 } };
    const struct wn_pipe_ids none = { good, NULL, 0 }, minus = { below, NULL, 1 };
    static const int32_t four[] = { 2, 5, 5, 3 };
    const struct wn_pipe_ids longer = { four, NULL, 4 };
    struct wn_pipe_batch b;
    struct winnow_err err = { 0 };
    cr_assert_eq(wn_pipeline_pack(p, rows, 2, &arena, &b, &err), WINNOW_OK);
    cr_expect_str_eq(text_of(&b.t[1]), "2 5 3 | 2 5 0");
    cr_expect_eq(wn_pipeline_pack(p, wrong, 2, &arena, &b, &err), WINNOW_E_MALFORMED);
    cr_expect_eq(b.bad_row, 1);
    cr_expect_str_eq(err.msg, "token 9 is not of the vocabulary, which has 9");
    cr_expect_eq(wn_pipeline_pack(p, &minus, 1, &arena, &b, &err), WINNOW_E_MALFORMED);
    cr_expect_eq(wn_pipeline_pack(p, &none, 1, &arena, &b, &err), WINNOW_E_MALFORMED);
    cr_expect_eq(wn_pipeline_pack(p, &longer, 1, &arena, &b, &err), WINNOW_E_TOO_LARGE);
    cr_expect_str_eq(err.msg, "4 tokens; from 1 to 3 are allowed");
    wn_pipeline_free(p);
}

Test(pipeline_text, pooling)
{
    static const float out[2 * 3 * 3] = { 3, 0, 0, 1, 4, 0, 9, 9, 9, 0, 2, 0, 7, 7, 7, 8, 8, 8 };
    static const int64_t shape[3] = { 2, 3, 3 };
    static const uint32_t used[2] = { 2, 1 };
    float got[6];
    struct wn_pipeline *p = open_with(VECTORS "normalize: false\n", bert, 3, &tokens);
    cr_expect_str_eq(wn_pipeline_embed_name(p), "embedding");
    cr_expect(wn_pipeline_embed_dim(p, 3, shape) == 3 && wn_pipeline_embed_dim(p, 2, shape) == 0);
    wn_pipeline_embed(p, out, shape, used, got);
    cr_expect(got[0] == 2 && got[1] == 2 && got[2] == 0 && got[4] == 2, "%g %g %g", got[0], got[1], got[2]);
    wn_pipeline_free(p);
    p = open_with(VECTORS "pooling: cls\nnormalize: false\noutput: v\n", bert, 3, &tokens);
    cr_expect_str_eq(wn_pipeline_embed_name(p), "v");
    wn_pipeline_embed(p, out, shape, used, got);
    cr_expect(got[0] == 3 && got[1] == 0 && got[4] == 2);
    wn_pipeline_free(p);
    p = open_with(VECTORS, bert, 3, &tokens);
    wn_pipeline_embed(p, out, shape, used, got);
    cr_expect(fabsf(got[0] - sqrtf(0.5f)) < 1e-6f && fabsf(got[1] - sqrtf(0.5f)) < 1e-6f && got[4] == 1);
    wn_pipeline_free(p);
    static const float rows[] = { 0, 3, 4, 0, 0, 0 };
    static const int64_t flat[2] = { 2, 3 };
    p = open_with(VECTORS "pooling: none\n", bert, 3, &vector);
    cr_expect_eq(wn_pipeline_embed_dim(p, 2, flat), 3);
    wn_pipeline_embed(p, rows, flat, NULL, got);
    cr_expect(fabsf(got[1] - 0.6f) < 1e-6f && got[3] == 0 && got[4] == 0, "a vector of zeros stays one");
    wn_pipeline_free(p);
}
