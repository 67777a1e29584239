/* load_model.c: WordPiece and BPE from vocabularies and merges. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "pipeline/tok/load.h"
#include "pipeline/tok/unicode.h"

enum { MAX_AFFIX = 128, MAX_TOKEN = 1 << 20 };

/* ---- vocabularies ---- */
static enum winnow_status check_entry(struct wn_tk_reader *r, const struct wn_tk_entry *e)
{
    if (e->n > MAX_TOKEN)
        return WN_TK_FAIL(r, WINNOW_E_TOO_LARGE, "token '%.40s' has %zu bytes", e->text, e->n);
    if (e->id < 0 || e->id >= WN_TK_MAX_ID)
        return WN_TK_BAD(r, "token '%.40s': id %d is not between 0 and %d", e->text, e->id, WN_TK_MAX_ID - 1);
    return WINNOW_OK;
}

/* All entries into `v`, skipping `skip` bytes of those that have the prefix (NULL: all as they are). */
static enum winnow_status fill(struct wn_tk_reader *r, struct wn_vocab *v, const struct wn_tk_entry *entries, size_t n,
                               const char *prefix, uint32_t *ret_longest)
{
    size_t bytes = 0, skip = strlen(prefix);
    for (size_t i = 0; i < n; i++) {
        WN_TRY(check_entry(r, &entries[i]));
        bytes += entries[i].n;
    }
    if (n > WN_TK_MAX_ENTRIES)
        return WN_TK_FAIL(r, WINNOW_E_TOO_LARGE, "more than %u tokens", WN_TK_MAX_ENTRIES);
    if (!wn_vocab_reserve(v, n, bytes))
        return WN_TK_FAIL(r, WINNOW_E_NOMEM, "vocabulary of %zu tokens", n);
    *ret_longest = 0;
    for (size_t i = 0; i < n; i++) {
        const struct wn_tk_entry *e = &entries[i];
        if (e->n < skip || memcmp(e->text, prefix, skip) != 0)
            continue;
        wn_vocab_add(v, e->text + skip, e->n - skip, e->id);
        *ret_longest = WN_MAX(*ret_longest, (uint32_t)(e->n - skip));
    }
    return WINNOW_OK;
}

static void count_ids(struct wn_tokenizer *t, const struct wn_tk_entry *entries, size_t n, const struct wn_vocab *v)
{
    bool empty = false;
    for (size_t i = 0; i < n; i++) {
        t->max_id = WN_MAX(t->max_id, (size_t)entries[i].id + 1);
        empty |= entries[i].n == 0;
    }
    t->n_vocab = v->n + empty;
}

enum winnow_status wn_tk_make_wordpiece(struct wn_tk_reader *r, const struct wn_tk_entry *entries, size_t n,
                                        const char *unk, const char *prefix, size_t max_chars)
{
    struct wn_tk_wordpiece *m = &r->t->wordpiece;
    WN_TRY(fill(r, &m->whole, entries, n, "", &m->longest[0]));
    WN_TRY(fill(r, &m->rest, entries, n, prefix, &m->longest[1]));
    count_ids(r->t, entries, n, &m->whole);
    m->max_chars = (uint32_t)WN_MIN(max_chars, (size_t)UINT32_MAX);
    m->unk = wn_vocab_id(&m->whole, unk, strlen(unk));
    return m->unk >= 0 ? WINNOW_OK : WN_TK_BAD(r, "the unknown token '%.60s' is not in the vocabulary", unk);
}

/* No two tokens with one id. */
static bool are_unique(const struct wn_tk_entry *entries, size_t n, size_t max_id)
{
    WN_CLEANUP(wn_freep) uint8_t *seen = calloc(max_id / 8 + 1, 1);
    for (size_t i = 0; seen && i < n; i++) {
        unsigned bit = 1u << entries[i].id % 8;
        if (seen[entries[i].id / 8] & bit)
            return false;
        seen[entries[i].id / 8] |= (uint8_t)bit;
    }
    return seen != NULL;
}

enum winnow_status wn_tk_make_bpe(struct wn_tk_reader *r, const struct wn_tk_entry *entries, size_t n)
{
    struct wn_tk_bpe *m = &r->t->bpe;
    uint32_t longest;
    r->t->is_bpe = true;
    WN_TRY(fill(r, &m->vocab, entries, n, "", &longest));
    count_ids(r->t, entries, n, &m->vocab);
    m->unique = are_unique(entries, n, r->t->max_id);
    for (uint32_t cp = 0; cp < WN_TK_FIRST; cp++) {
        unsigned char s[4];
        m->first[cp] = wn_vocab_id(&m->vocab, s, wn_utf8_put(cp, s));
    }
    for (unsigned b = 0; b < 256; b++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", b);
        m->byte[b] = wn_vocab_id(&m->vocab, name, 6);
    }
    m->unk = -1;
    if (m->unk_name) {
        m->unk = wn_vocab_id(&m->vocab, m->unk_name, strlen(m->unk_name));
        m->unk = m->unk < 0 ? -2 : m->unk;
    }
    return WINNOW_OK;
}

enum winnow_status wn_tk_add_merge(struct wn_tk_reader *r, uint32_t rank, const char *a, size_t a_n, const char *b,
                                   size_t b_n)
{
    struct wn_tk_bpe *m = &r->t->bpe;
    int32_t left = wn_vocab_id(&m->vocab, a, a_n), right = wn_vocab_id(&m->vocab, b, b_n);
    if (left < 0 || right < 0)
        return WN_TK_BAD(r, "'%.60s' is not in the vocabulary", left < 0 ? a : b);
    if (b_n < m->prefix_n)
        return WN_TK_BAD(r, "'%.60s' is shorter than continuing_subword_prefix", b);
    size_t n = a_n + b_n - m->prefix_n;
    WN_CLEANUP(wn_freep) char *both = malloc(n + 1);
    if (!both)
        return WN_TK_FAIL(r, WINNOW_E_NOMEM, "merge");
    memcpy(both, a, a_n);
    memcpy(both + a_n, b + m->prefix_n, b_n - m->prefix_n);
    both[n] = '\0';
    int32_t id = wn_vocab_id(&m->vocab, both, n);
    if (id < 0)
        return WN_TK_BAD(r, "its result '%.60s' is not in the vocabulary", both);
    wn_merges_add(&m->merges, left, right, rank, id);
    return WINNOW_OK;
}

enum winnow_status wn_tk_add_merge_line(struct wn_tk_reader *r, uint32_t rank, const char *line, size_t n)
{
    const char *space = memchr(line, ' ', n), *end = line + n;
    if (!space || memchr(space + 1, ' ', (size_t)(end - space - 1)))
        return WN_TK_BAD(r, "expected two tokens with a space between them");
    WN_CLEANUP(wn_freep) char *copy = malloc(n + 1); /* the two, each with its NUL, for messages */
    if (!copy)
        return WN_TK_FAIL(r, WINNOW_E_NOMEM, "merge");
    memcpy(copy, line, n);
    copy[n] = copy[space - line] = '\0';
    return wn_tk_add_merge(r, rank, copy, (size_t)(space - line), copy + (space - line) + 1, (size_t)(end - space) - 1);
}

enum winnow_status wn_tk_json_vocab(struct wn_tk_reader *r, const json_t *vocab, struct wn_tk_entry **ret,
                                    size_t *ret_n)
{
    const char *key;
    json_t *v;
    size_t n = 0;
    if (!json_is_object(vocab))
        return WN_TK_BAD(r, "expected an object: tokens and their ids");
    WN_CLEANUP(wn_freep) struct wn_tk_entry *e = calloc(json_object_size(vocab) + 1, sizeof *e);
    if (!e)
        return WN_TK_FAIL(r, WINNOW_E_NOMEM, "vocabulary");
    json_object_foreach((json_t *)vocab, key, v)
    {
        json_int_t id = json_is_integer(v) ? json_integer_value(v) : -1;
        if (id < 0 || id >= WN_TK_MAX_ID)
            return WN_TK_BAD(r, "token '%.60s': expected an id between 0 and %d", key, WN_TK_MAX_ID - 1);
        e[n++] = (struct wn_tk_entry){ key, strlen(key), (int32_t)id };
    }
    *ret = WN_TAKE(e);
    *ret_n = n;
    return WINNOW_OK;
}

/* ---- tokenizer.json's "model" ---- */
static enum winnow_status wordpiece(struct wn_tk_reader *r, const json_t *model)
{
    static const char *const keys[] = { "type",  "unk_token", "continuing_subword_prefix", "max_input_chars_per_word",
                                        "vocab", NULL };
    const char *unk, *prefix;
    size_t unk_n, prefix_n, max_chars, n;
    WN_CLEANUP(wn_freep) struct wn_tk_entry *entries = NULL;
    WN_TRY(wn_tk_json_keys(r, model, keys));
    WN_TRY(wn_tk_json_string(r, model, "unk_token", true, &unk, &unk_n));
    WN_TRY(wn_tk_json_string(r, model, "continuing_subword_prefix", true, &prefix, &prefix_n));
    WN_TRY(wn_tk_json_size(r, model, "max_input_chars_per_word", SIZE_MAX >> 1, &max_chars));
    if (strlen(prefix) != prefix_n)
        return WN_TK_BAD(r, "continuing_subword_prefix: has a NUL character");
    size_t mark = wn_tk_enter(r, ".vocab");
    WN_TRY(wn_tk_json_vocab(r, json_object_get(model, "vocab"), &entries, &n));
    WN_TRY(wn_tk_make_wordpiece(r, entries, n, unk, prefix, max_chars));
    wn_tk_leave(r, mark);
    return WINNOW_OK;
}

static enum winnow_status affix(struct wn_tk_reader *r, const json_t *model, const char *key, const char **ret,
                                size_t *ret_n)
{
    const char *text;
    WN_TRY(wn_tk_json_string(r, model, key, false, &text, ret_n));
    if (*ret_n > MAX_AFFIX)
        return WN_TK_FAIL(r, WINNOW_E_TOO_LARGE, "%s: has %zu bytes, more than %d", key, *ret_n, MAX_AFFIX);
    *ret = wn_arena_strndup(&r->t->arena, text ? text : "", *ret_n);
    return *ret ? WINNOW_OK : WN_TK_FAIL(r, WINNOW_E_NOMEM, "%s", key);
}

static enum winnow_status bpe_settings(struct wn_tk_reader *r, const json_t *model)
{
    struct wn_tk_bpe *m = &r->t->bpe;
    const char *unk;
    size_t unk_n;
    const json_t *dropout = json_object_get(model, "dropout");
    if (dropout && !json_is_null(dropout) && json_number_value(dropout) != 0)
        return WN_TK_FAIL(r, WINNOW_E_UNSUPPORTED, "dropout: only null or 0; it would make answers random");
    WN_TRY(wn_tk_json_string(r, model, "unk_token", false, &unk, &unk_n));
    if (unk && !(m->unk_name = wn_arena_strndup(&r->t->arena, unk, unk_n)))
        return WN_TK_FAIL(r, WINNOW_E_NOMEM, "unk_token");
    WN_TRY(affix(r, model, "continuing_subword_prefix", &m->prefix, &m->prefix_n));
    WN_TRY(affix(r, model, "end_of_word_suffix", &m->suffix, &m->suffix_n));
    WN_TRY(wn_tk_json_bool(r, model, "fuse_unk", false, &m->fuse_unk));
    WN_TRY(wn_tk_json_bool(r, model, "byte_fallback", false, &m->byte_fallback));
    WN_TRY(wn_tk_json_bool(r, model, "ignore_merges", false, &m->ignore_merges));
    if (m->byte_fallback && m->prefix_n + m->suffix_n)
        return WN_TK_FAIL(r, WINNOW_E_UNSUPPORTED,
                          "byte_fallback: not together with continuing_subword_prefix or end_of_word_suffix");
    return WINNOW_OK;
}

static enum winnow_status merge_of(struct wn_tk_reader *r, const json_t *merge, uint32_t rank)
{
    if (json_is_string(merge))
        return wn_tk_add_merge_line(r, rank, json_string_value(merge), json_string_length(merge));
    const json_t *a = json_array_get(merge, 0), *b = json_array_get(merge, 1);
    if (json_array_size(merge) != 2 || !json_is_string(a) || !json_is_string(b))
        return WN_TK_BAD(r, "expected two tokens");
    return wn_tk_add_merge(r, rank, json_string_value(a), json_string_length(a), json_string_value(b),
                           json_string_length(b));
}

static enum winnow_status bpe(struct wn_tk_reader *r, const json_t *model)
{
    static const char *const keys[] = { "type",
                                        "dropout",
                                        "unk_token",
                                        "continuing_subword_prefix",
                                        "end_of_word_suffix",
                                        "fuse_unk",
                                        "byte_fallback",
                                        "ignore_merges",
                                        "vocab",
                                        "merges",
                                        NULL };
    const json_t *merges = json_object_get(model, "merges");
    WN_CLEANUP(wn_freep) struct wn_tk_entry *entries = NULL;
    size_t n;
    WN_TRY(wn_tk_json_keys(r, model, keys));
    WN_TRY(bpe_settings(r, model));
    size_t mark = wn_tk_enter(r, ".vocab");
    WN_TRY(wn_tk_json_vocab(r, json_object_get(model, "vocab"), &entries, &n));
    WN_TRY(wn_tk_make_bpe(r, entries, n));
    wn_tk_leave(r, mark);
    if (!json_is_array(merges))
        return WN_TK_BAD(r, "merges: expected a list");
    n = json_array_size(merges);
    if (n > WN_TK_MAX_ENTRIES)
        return WN_TK_FAIL(r, WINNOW_E_TOO_LARGE, "merges: more than %u", WN_TK_MAX_ENTRIES);
    if (!wn_merges_reserve(&r->t->bpe.merges, n))
        return WN_TK_FAIL(r, WINNOW_E_NOMEM, "%zu merges", n);
    uint32_t rank = 0;
    for (size_t i = 0; i < n; i++) {
        const json_t *merge = json_array_get(merges, i);
        if (json_is_string(merge) && strncmp(json_string_value(merge), "#version", 8) == 0)
            continue;
        mark = wn_tk_enter(r, ".merges[%zu]", i);
        WN_TRY(merge_of(r, merge, rank++));
        wn_tk_leave(r, mark);
    }
    return WINNOW_OK;
}

enum winnow_status wn_tk_load_model(struct wn_tk_reader *r, const json_t *model)
{
    const char *type;
    size_t n;
    if (!json_is_object(model))
        return WN_TK_BAD(r, "expected an object");
    WN_TRY(wn_tk_json_string(r, model, "type", false, &type, &n));
    if (!type) /* files of old versions leave it out */
        type = json_object_get(model, "merges")                     ? "BPE"
               : json_object_get(model, "max_input_chars_per_word") ? "WordPiece"
                                                                    : "(none)";
    if (strcmp(type, "WordPiece") == 0)
        return wordpiece(r, model);
    if (strcmp(type, "BPE") == 0)
        return bpe(r, model);
    return WN_TK_FAIL(r, WINNOW_E_UNSUPPORTED, "type: '%.60s' is not supported; WordPiece and BPE are", type);
}
