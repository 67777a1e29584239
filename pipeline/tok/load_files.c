/* load_files.c: the files of before tokenizer.json: vocab.txt (WordPiece, BERT) and vocab.json + merges.txt (byte-level
 * BPE, GPT-2 and RoBERTa), with tokenizer_config.json beside them; what they leave open is as `transformers` has it. */
#include <string.h>
#include "base/file.h"
#include "pipeline/tok/load.h"
#include "pipeline/tok/unicode.h"

/* ---- tokenizer_config.json ---- */

/* NULL where there is none. */
static enum winnow_status read_config(struct wn_tk_reader *r, const char *dir, json_t **ret)
{
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/tokenizer_config.json", dir);
    const char *file = r->file;
    if (!path)
        return wn_fail(r->err, WINNOW_E_NOMEM, "tokenizer");
    *ret = NULL;
    r->file = path;
    enum winnow_status status = wn_tk_json_read(r, ret);
    r->file = file;
    return status == WINNOW_E_NOT_FOUND ? WINNOW_OK : status;
}

/* A special token by its key in the configuration: a string, or an object with "content" and how to look for it. */
static enum winnow_status special_token(struct wn_tk_reader *r, const json_t *config, const char *key, const char *def,
                                        bool lstrip, struct wn_tk_added *ret)
{
    const json_t *v = json_object_get(config, key);
    size_t mark = wn_tk_enter(r, "tokenizer_config.json: %s", key);
    *ret = (struct wn_tk_added){ .content = def, .n = def ? strlen(def) : 0, .lstrip = lstrip, .special = true };
    if (json_is_object(v)) {
        WN_TRY(wn_tk_json_string(r, v, "content", true, &ret->content, &ret->n));
        WN_TRY(wn_tk_json_bool(r, v, "lstrip", false, &ret->lstrip));
        WN_TRY(wn_tk_json_bool(r, v, "rstrip", false, &ret->rstrip));
        WN_TRY(wn_tk_json_bool(r, v, "single_word", false, &ret->single_word));
        WN_TRY(wn_tk_json_bool(r, v, "normalized", false, &ret->normalized));
    } else {
        const char *text;
        size_t n;
        WN_TRY(wn_tk_json_string(r, config, key, false, &text, &n));
        ret->content = text ? text : ret->content;
        ret->n = text ? n : ret->n;
    }
    wn_tk_leave(r, mark);
    return WINNOW_OK;
}

/* The token becomes an added one if the vocabulary has it. `ret_id`: its id, -1 without. */
static enum winnow_status add_special(struct wn_tk_reader *r, const json_t *config, const char *key, const char *def,
                                      bool lstrip, int32_t *ret_id)
{
    struct wn_tk_added a;
    WN_TRY(special_token(r, config, key, def, lstrip, &a));
    *ret_id = a.content ? wn_tk_model_id(r->t, a.content, a.n) : -1;
    return *ret_id >= 0 ? wn_tk_push_added(r, a) : WINNOW_OK;
}

static enum winnow_status need(struct wn_tk_reader *r, int32_t id, const char *key, const char *def)
{
    return id >= 0 ? WINNOW_OK
                   : WN_TK_BAD(r, "the %s (%s, unless tokenizer_config.json names another) is not in the vocabulary",
                               key, def);
}

/* ---- vocab.txt ---- */
static size_t without_space_at_end(const char *s, size_t n)
{
    while (n) {
        size_t k = 1;
        uint32_t cp;
        while (k < 3 && k < n && ((unsigned char)s[n - k] & 0xC0) == 0x80)
            k++;
        if (wn_utf8_get((const unsigned char *)s + n - k, k, &cp) != k || !(wn_uc(cp) & WN_UC_SPACE))
            break;
        n -= k;
    }
    return n;
}

struct entries {
    struct wn_tk_entry *at;
    size_t n, cap;
};

/* Lines to entries; a token has no white space at its end. Of equal lines the last counts. */
static enum winnow_status lines(struct wn_tk_reader *r, const char *text, size_t n, struct entries *entries)
{
    for (size_t at = 0; at < n;) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t len = end ? (size_t)(end - text) - at : n - at;
        if (entries->n == WN_TK_MAX_ENTRIES)
            return WN_TK_FAIL(r, WINNOW_E_TOO_LARGE, "more than %u lines", WN_TK_MAX_ENTRIES);
        struct wn_tk_entry e = { text + at, without_space_at_end(text + at, len), (int32_t)entries->n };
        if (!wn_vec_push(entries, e))
            return WN_TK_FAIL(r, WINNOW_E_NOMEM, "vocabulary");
        at += len + 1;
    }
    return WINNOW_OK;
}

static enum winnow_status bert(struct wn_tk_reader *r, const json_t *config, const struct wn_tk_entry *entries,
                               size_t n)
{
    static const struct {
        const char *key, *def;
    } specials[] = { { "pad_token", "[PAD]" },
                     { "unk_token", "[UNK]" },
                     { "cls_token", "[CLS]" },
                     { "sep_token", "[SEP]" },
                     { "mask_token", "[MASK]" } };
    struct wn_tk_norm norm = { .kind = WN_TK_BERT, .clean = true };
    struct wn_tk_added unk;
    int32_t id[WN_COUNT(specials)];
    size_t mark = wn_tk_enter(r, "tokenizer_config.json");
    WN_TRY(wn_tk_json_bool(r, config, "do_lower_case", true, &norm.lower));
    WN_TRY(wn_tk_json_bool(r, config, "strip_accents", norm.lower, &norm.accents));
    WN_TRY(wn_tk_json_bool(r, config, "tokenize_chinese_chars", true, &norm.ideographs));
    wn_tk_leave(r, mark);
    WN_TRY(special_token(r, config, "unk_token", "[UNK]", false, &unk));
    WN_TRY(wn_tk_make_wordpiece(r, entries, n, unk.content, "##", 100));
    for (size_t i = 0; i < WN_COUNT(specials); i++)
        WN_TRY(add_special(r, config, specials[i].key, specials[i].def, false, &id[i]));
    WN_TRY(need(r, id[2], "cls_token", "[CLS]"));
    WN_TRY(need(r, id[3], "sep_token", "[SEP]"));
    r->t->pad = id[0];
    WN_TRY(wn_tk_push_norm(r, norm));
    WN_TRY(wn_tk_push_split(r, (struct wn_tk_split){ .kind = WN_TK_BY_BERT }));
    WN_TRY(wn_tk_post_bert(r, id[2], id[3], false));
    return wn_tk_added_settle(r->t, r->file, r->err);
}

enum winnow_status wn_tk_load_vocab_txt(struct wn_tokenizer *t, const char *dir, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/vocab.txt", dir);
    WN_CLEANUP(wn_freep) void *text = NULL;
    struct wn_tk_reader r = { .t = t, .file = path, .err = err };
    struct entries entries = { 0 };
    json_t *config = NULL;
    size_t n;
    if (!path)
        return wn_fail(err, WINNOW_E_NOMEM, "tokenizer");
    WN_TRY(wn_file_read(path, WN_TK_MAX_FILE, &text, &n, err));
    enum winnow_status status = read_config(&r, dir, &config);
    if (status == WINNOW_OK)
        status = lines(&r, text, n, &entries);
    if (status == WINNOW_OK)
        status = bert(&r, config, entries.at, entries.n);
    wn_vec_done(&entries);
    json_decref(config);
    return status;
}

/* ---- vocab.json, merges.txt ---- */
static enum winnow_status merges(struct wn_tk_reader *r, const char *dir)
{
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/merges.txt", dir);
    WN_CLEANUP(wn_freep) void *bytes = NULL;
    const char *file = r->file;
    size_t n, n_lines = 1, line = 0;
    uint32_t rank = 0;
    if (!path)
        return wn_fail(r->err, WINNOW_E_NOMEM, "tokenizer");
    enum winnow_status status = wn_file_read(path, WN_TK_MAX_FILE, &bytes, &n, r->err);
    if (status == WINNOW_E_NOT_FOUND) /* E_NOT_FOUND would mean that there is no vocab.json either */
        return wn_fail(r->err, WINNOW_E_MALFORMED, "%s: vocab.json is there, merges.txt is not", dir);
    WN_TRY(status);
    r->file = path;
    const char *text = bytes;
    for (size_t i = 0; i < n; i++)
        n_lines += text[i] == '\n';
    if (n_lines > WN_TK_MAX_ENTRIES)
        return WN_TK_FAIL(r, WINNOW_E_TOO_LARGE, "more than %u lines", WN_TK_MAX_ENTRIES);
    if (!wn_merges_reserve(&r->t->bpe.merges, n_lines))
        return WN_TK_FAIL(r, WINNOW_E_NOMEM, "%zu merges", n_lines);
    for (size_t at = 0; at < n; line++) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t len = end ? (size_t)(end - text) - at : n - at, keep = len - (len && text[at + len - 1] == '\r');
        if (keep < 8 || strncmp(text + at, "#version", 8) != 0) {
            size_t mark = wn_tk_enter(r, "line %zu", line + 1);
            WN_TRY(wn_tk_add_merge_line(r, rank++, text + at, keep));
            wn_tk_leave(r, mark);
        }
        at += len + 1;
    }
    r->file = file;
    return WINNOW_OK;
}

static enum winnow_status byte_level(struct wn_tk_reader *r, const json_t *config)
{
    const char *class;
    size_t n;
    bool prefix_space;
    int32_t id, cls = -1, sep = -1;
    size_t mark = wn_tk_enter(r, "tokenizer_config.json");
    WN_TRY(wn_tk_json_string(r, config, "tokenizer_class", false, &class, &n));
    WN_TRY(wn_tk_json_bool(r, config, "add_prefix_space", false, &prefix_space));
    bool roberta = class && (strncmp(class, "Roberta", 7) == 0 || strncmp(class, "Bart", 4) == 0);
    if (class && !roberta && strncmp(class, "GPT2", 4) != 0)
        return WN_TK_FAIL(r, WINNOW_E_UNSUPPORTED,
                          "tokenizer_class: '%.60s' from vocab.json and merges.txt is not supported; GPT2, Roberta and "
                          "Bart are, and any class by its tokenizer.json",
                          class);
    wn_tk_leave(r, mark);
    r->t->bpe.prefix = r->t->bpe.suffix = "";
    const char *end = "<|endoftext|>";
    WN_TRY(add_special(r, config, "bos_token", roberta ? "<s>" : end, false, &id));
    WN_TRY(add_special(r, config, "eos_token", roberta ? "</s>" : end, false, &id));
    WN_TRY(add_special(r, config, "unk_token", roberta ? "<unk>" : end, false, &id));
    WN_TRY(add_special(r, config, "pad_token", roberta ? "<pad>" : NULL, false, &r->t->pad));
    if (roberta) {
        WN_TRY(add_special(r, config, "sep_token", "</s>", false, &sep));
        WN_TRY(add_special(r, config, "cls_token", "<s>", false, &cls));
        WN_TRY(add_special(r, config, "mask_token", "<mask>", true, &id));
        WN_TRY(need(r, sep, "sep_token", "</s>"));
        WN_TRY(need(r, cls, "cls_token", "<s>"));
    }
    WN_TRY(wn_tk_push_byte_level(r, prefix_space, true));
    if (roberta)
        WN_TRY(wn_tk_post_trim(r, true, prefix_space));
    WN_TRY(roberta ? wn_tk_post_bert(r, cls, sep, true) : wn_tk_post_none(r));
    return wn_tk_added_settle(r->t, r->file, r->err);
}

static enum winnow_status make(struct wn_tk_reader *r, const json_t *vocab, const json_t *config, const char *dir)
{
    WN_CLEANUP(wn_freep) struct wn_tk_entry *entries = NULL;
    size_t n;
    WN_TRY(wn_tk_json_vocab(r, vocab, &entries, &n));
    WN_TRY(wn_tk_make_bpe(r, entries, n));
    WN_TRY(merges(r, dir));
    return byte_level(r, config);
}

enum winnow_status wn_tk_load_vocab_json(struct wn_tokenizer *t, const char *dir, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/vocab.json", dir);
    struct wn_tk_reader r = { .t = t, .file = path, .err = err };
    json_t *vocab, *config = NULL;
    if (!path)
        return wn_fail(err, WINNOW_E_NOMEM, "tokenizer");
    WN_TRY(wn_tk_json_read(&r, &vocab));
    enum winnow_status status = read_config(&r, dir, &config);
    if (status == WINNOW_OK)
        status = make(&r, vocab, config, dir);
    json_decref(vocab);
    json_decref(config);
    return status;
}
