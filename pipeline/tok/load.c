/* load.c: tokenizer.json, the file of Hugging Face's `tokenizers`. "decoder" is not needed and not looked at; "padding"
 * gives the id that fills short rows, and is done by whoever makes the batch. */
#include "pipeline/tok/load.h"

#include <stdlib.h>
#include <string.h>
#include "pipeline/tok/unicode.h"

enum { MAX_PARTS = 64, MAX_NESTED = 8, MAX_STEPS = 64, MAX_SPECIAL_IDS = 1024 };

/* The keys of every type; what is not here is refused by name. */
#define KEYS(...) ((const char *const[]){ "type", __VA_ARGS__, NULL })
#define NO_KEYS   ((const char *const[]){ "type", NULL })

/* ---- parts, also for the other files ---- */
enum winnow_status wn_tk_push_norm(struct wn_tk_reader *r, struct wn_tk_norm norm)
{
    if (r->t->norms.n < MAX_PARTS && wn_vec_push(&r->t->norms, norm))
        return WINNOW_OK;
    wn_tk_pattern_free(norm.pattern);
    return r->t->norms.n < MAX_PARTS ? WN_TK_FAIL(r, WINNOW_E_NOMEM, "normalizer")
                                     : WN_TK_FAIL(r, WINNOW_E_TOO_LARGE, "more than %d normalizers", MAX_PARTS);
}

enum winnow_status wn_tk_push_split(struct wn_tk_reader *r, struct wn_tk_split split)
{
    if (r->t->splits.n < MAX_PARTS && wn_vec_push(&r->t->splits, split))
        return WINNOW_OK;
    wn_tk_pattern_free(split.pattern);
    return r->t->splits.n < MAX_PARTS ? WN_TK_FAIL(r, WINNOW_E_NOMEM, "pre-tokenizer")
                                      : WN_TK_FAIL(r, WINNOW_E_TOO_LARGE, "more than %d pre-tokenizers", MAX_PARTS);
}

enum winnow_status wn_tk_push_byte_level(struct wn_tk_reader *r, bool prefix_space, bool use_regex)
{
    struct wn_tk_split split = { .kind = WN_TK_BYTE_LEVEL, .behavior = WN_TK_ISOLATED, .prefix_space = prefix_space };
    if (use_regex)
        WN_TRY(wn_tk_pattern_gpt2(&split.pattern, r->err));
    return wn_tk_push_split(r, split);
}

enum winnow_status wn_tk_push_added(struct wn_tk_reader *r, struct wn_tk_added added)
{
    added.content = wn_arena_strndup(&r->t->arena, added.content, added.n);
    if (!added.content || !wn_vec_push(&r->t->added, added))
        return WN_TK_FAIL(r, WINNOW_E_NOMEM, "added tokens");
    return WINNOW_OK;
}

/* Templates in short: 'A' and 'B' are the texts (types by `type`), 'c' and 's' the two ids. */
static enum winnow_status make_form(struct wn_tk_reader *r, struct wn_tk_template *form, const char *steps,
                                    const char *types, int32_t cls, int32_t sep)
{
    size_t n = strlen(steps);
    int32_t *ids = wn_arena_calloc(&r->t->arena, 2, sizeof *ids);
    form->step = wn_arena_calloc(&r->t->arena, n, sizeof *form->step);
    if (!ids || !form->step)
        return WN_TK_FAIL(r, WINNOW_E_NOMEM, "template");
    ids[0] = cls;
    ids[1] = sep;
    for (size_t i = 0; i < n; i++) {
        bool special = steps[i] == 'c' || steps[i] == 's';
        form->step[i] = (struct wn_tk_step){ .sequence = (int16_t)(special ? -1 : steps[i] - 'A'),
                                             .type = (uint8_t)(types[i] - '0'),
                                             .id = &ids[steps[i] == 's'],
                                             .n_ids = special };
        form->added += special;
    }
    form->n = n;
    return WINNOW_OK;
}

enum winnow_status wn_tk_post_bert(struct wn_tk_reader *r, int32_t cls, int32_t sep, bool roberta)
{
    struct wn_tk_template *form = r->t->post.form;
    r->t->max_id = WN_MAX(r->t->max_id, (size_t)WN_MAX(cls, sep) + 1);
    WN_TRY(make_form(r, &form[0], "cAs", "000", cls, sep));
    return roberta ? make_form(r, &form[1], "cAssBs", "000000", cls, sep)
                   : make_form(r, &form[1], "cAsBs", "00011", cls, sep);
}

enum winnow_status wn_tk_post_none(struct wn_tk_reader *r)
{
    WN_TRY(make_form(r, &r->t->post.form[0], "A", "0", 0, 0));
    return make_form(r, &r->t->post.form[1], "AB", "01", 0, 0);
}

enum winnow_status wn_tk_post_trim(struct wn_tk_reader *r, bool trim, bool prefix_space)
{
    struct wn_tk_post *post = &r->t->post;
    if (post->n_trims == WN_COUNT(post->trim))
        return WN_TK_FAIL(r, WINNOW_E_TOO_LARGE, "more than %zu processors", WN_COUNT(post->trim));
    post->trim[post->n_trims] = trim;
    post->trim_prefix_space[post->n_trims++] = prefix_space;
    return WINNOW_OK;
}

/* ---- normalizer, pre_tokenizer ---- */
static enum winnow_status type_of(struct wn_tk_reader *r, const json_t *o, const char **ret)
{
    size_t n;
    if (!json_is_object(o))
        return WN_TK_BAD(r, "expected an object");
    return wn_tk_json_string(r, o, "type", true, ret, &n);
}

/* {"String": …} or {"Regex": …} of Replace and Split. */
static enum winnow_status pattern(struct wn_tk_reader *r, const json_t *o, struct wn_tk_pattern **ret)
{
    const json_t *p = json_object_get(o, "pattern");
    const char *text;
    size_t n;
    WN_TRY(wn_tk_json_string(r, p, "String", false, &text, &n));
    bool literal = text != NULL;
    if (!literal)
        WN_TRY(wn_tk_json_string(r, p, "Regex", true, &text, &n));
    struct winnow_err why = { 0 };
    enum winnow_status status = wn_tk_pattern_new(text, n, literal, ret, &why);
    if (status != WINNOW_OK)
        return WN_TK_FAIL(r, status, "pattern: %.150s", why.msg);
    if (literal && !n) {
        wn_tk_pattern_free(*ret);
        return WN_TK_BAD(r, "pattern: is empty");
    }
    return WINNOW_OK;
}

static enum winnow_status content(struct wn_tk_reader *r, const json_t *o, const char *key, struct wn_tk_norm *norm)
{
    const char *text;
    size_t n;
    WN_TRY(wn_tk_json_string(r, o, key, true, &text, &n));
    norm->content = wn_arena_calloc(&r->t->arena, n + 1, sizeof *norm->content);
    if (!norm->content)
        return WN_TK_FAIL(r, WINNOW_E_NOMEM, "%s", key);
    for (size_t i = 0; i < n;)
        i += wn_utf8_get((const unsigned char *)text + i, n - i, &norm->content[norm->n_content++]);
    return WINNOW_OK;
}

static enum winnow_status bert_normalizer(struct wn_tk_reader *r, const json_t *o)
{
    struct wn_tk_norm norm = { .kind = WN_TK_BERT };
    WN_TRY(wn_tk_json_keys(r, o, KEYS("clean_text", "handle_chinese_chars", "strip_accents", "lowercase")));
    WN_TRY(wn_tk_json_bool(r, o, "clean_text", -1, &norm.clean));
    WN_TRY(wn_tk_json_bool(r, o, "handle_chinese_chars", -1, &norm.ideographs));
    WN_TRY(wn_tk_json_bool(r, o, "lowercase", -1, &norm.lower));
    WN_TRY(wn_tk_json_bool(r, o, "strip_accents", norm.lower, &norm.accents));
    return wn_tk_push_norm(r, norm);
}

static enum winnow_status strip_normalizer(struct wn_tk_reader *r, const json_t *o)
{
    struct wn_tk_norm norm = { .kind = WN_TK_STRIP };
    WN_TRY(wn_tk_json_keys(r, o, KEYS("strip_left", "strip_right")));
    WN_TRY(wn_tk_json_bool(r, o, "strip_left", -1, &norm.clean));
    WN_TRY(wn_tk_json_bool(r, o, "strip_right", -1, &norm.lower));
    return wn_tk_push_norm(r, norm);
}

static enum winnow_status replace_normalizer(struct wn_tk_reader *r, const json_t *o)
{
    struct wn_tk_norm norm = { .kind = WN_TK_REPLACE };
    WN_TRY(wn_tk_json_keys(r, o, KEYS("pattern", "content")));
    WN_TRY(content(r, o, "content", &norm));
    WN_TRY(pattern(r, o, &norm.pattern));
    if (wn_tk_pattern_empty(norm.pattern)) {
        wn_tk_pattern_free(norm.pattern);
        return WN_TK_FAIL(r, WINNOW_E_UNSUPPORTED, "pattern: may match nothing");
    }
    return wn_tk_push_norm(r, norm);
}

static enum winnow_status prepend_normalizer(struct wn_tk_reader *r, const json_t *o)
{
    struct wn_tk_norm norm = { .kind = WN_TK_PREPEND };
    WN_TRY(wn_tk_json_keys(r, o, KEYS("prepend")));
    WN_TRY(content(r, o, "prepend", &norm));
    return norm.n_content ? wn_tk_push_norm(r, norm) : WN_TK_BAD(r, "prepend: is empty");
}

static enum winnow_status plain_normalizer(struct wn_tk_reader *r, const json_t *o, enum wn_tk_norm_kind kind)
{
    WN_TRY(wn_tk_json_keys(r, o, NO_KEYS));
    return wn_tk_push_norm(r, (struct wn_tk_norm){ .kind = kind });
}

/* Every element of a Sequence's list, one level deeper. */
static enum winnow_status sequence(struct wn_tk_reader *r, const json_t *o, const char *key, unsigned depth,
                                   enum winnow_status (*each)(struct wn_tk_reader *, const json_t *, unsigned))
{
    const json_t *list = json_object_get(o, key);
    WN_TRY(wn_tk_json_keys(r, o, KEYS(key)));
    if (!json_is_array(list))
        return WN_TK_BAD(r, "%s: expected a list", key);
    if (depth == MAX_NESTED)
        return WN_TK_FAIL(r, WINNOW_E_TOO_LARGE, "%s: sequences in sequences, more than %d deep", key, MAX_NESTED);
    for (size_t i = 0; i < json_array_size(list); i++) {
        size_t mark = wn_tk_enter(r, ".%s[%zu]", key, i);
        WN_TRY(each(r, json_array_get(list, i), depth + 1));
        wn_tk_leave(r, mark);
    }
    return WINNOW_OK;
}

static enum winnow_status normalizer(struct wn_tk_reader *r, const json_t *o, unsigned depth)
{
    static const struct {
        const char *type;
        enum winnow_status (*read)(struct wn_tk_reader *, const json_t *);
        enum wn_tk_norm_kind kind;
    } types[] = {
        { "BertNormalizer", bert_normalizer, 0 },
        { "Strip", strip_normalizer, 0 },
        { "Replace", replace_normalizer, 0 },
        { "Prepend", prepend_normalizer, 0 },
        { "Lowercase", NULL, WN_TK_LOWERCASE },
        { "StripAccents", NULL, WN_TK_STRIP_ACCENTS },
        { "NFC", NULL, WN_TK_NFC },
        { "NFD", NULL, WN_TK_NFD },
        { "NFKC", NULL, WN_TK_NFKC },
        { "NFKD", NULL, WN_TK_NFKD },
    };
    const char *type;
    WN_TRY(type_of(r, o, &type));
    if (strcmp(type, "Sequence") == 0)
        return sequence(r, o, "normalizers", depth, normalizer);
    for (size_t i = 0; i < WN_COUNT(types); i++)
        if (strcmp(types[i].type, type) == 0)
            return types[i].read ? types[i].read(r, o) : plain_normalizer(r, o, types[i].kind);
    return WN_TK_FAIL(r, WINNOW_E_UNSUPPORTED, "type: '%.60s' is not supported", type);
}

static enum winnow_status behavior(struct wn_tk_reader *r, const json_t *o, const char *def, enum wn_tk_behavior *ret)
{
    static const struct {
        const char *name;
        enum wn_tk_behavior behavior;
    } names[] = { { "Removed", WN_TK_REMOVED },
                  { "Isolated", WN_TK_ISOLATED },
                  { "MergedWithPrevious", WN_TK_WITH_PREVIOUS },
                  { "MergedWithNext", WN_TK_WITH_NEXT },
                  { "Contiguous", WN_TK_CONTIGUOUS } };
    const char *name;
    size_t n;
    WN_TRY(wn_tk_json_string(r, o, "behavior", !def, &name, &n));
    for (size_t i = 0; i < WN_COUNT(names); i++)
        if (strcmp(name ? name : def, names[i].name) == 0) {
            *ret = names[i].behavior;
            return WINNOW_OK;
        }
    return WN_TK_BAD(r, "behavior: '%.40s' is none", name);
}

static enum winnow_status byte_level_split(struct wn_tk_reader *r, const json_t *o)
{
    bool prefix_space, use_regex, trim;
    WN_TRY(wn_tk_json_keys(r, o, KEYS("add_prefix_space", "trim_offsets", "use_regex")));
    WN_TRY(wn_tk_json_bool(r, o, "add_prefix_space", -1, &prefix_space));
    WN_TRY(wn_tk_json_bool(r, o, "trim_offsets", -1, &trim)); /* counts in the post-processor only */
    WN_TRY(wn_tk_json_bool(r, o, "use_regex", true, &use_regex));
    return wn_tk_push_byte_level(r, prefix_space, use_regex);
}

static enum winnow_status punctuation_split(struct wn_tk_reader *r, const json_t *o)
{
    struct wn_tk_split split = { .kind = WN_TK_BY_CLASS, .cls = WN_UC_PUNCT };
    WN_TRY(wn_tk_json_keys(r, o, KEYS("behavior")));
    WN_TRY(behavior(r, o, "Isolated", &split.behavior));
    return wn_tk_push_split(r, split);
}

static enum winnow_status digits_split(struct wn_tk_reader *r, const json_t *o)
{
    bool each;
    WN_TRY(wn_tk_json_keys(r, o, KEYS("individual_digits")));
    WN_TRY(wn_tk_json_bool(r, o, "individual_digits", -1, &each));
    return wn_tk_push_split(r, (struct wn_tk_split){ .kind = WN_TK_BY_CLASS,
                                                     .cls = WN_UC_NUMERIC,
                                                     .behavior = each ? WN_TK_ISOLATED : WN_TK_CONTIGUOUS });
}

static enum winnow_status pattern_split(struct wn_tk_reader *r, const json_t *o)
{
    struct wn_tk_split split = { .kind = WN_TK_BY_PATTERN };
    WN_TRY(wn_tk_json_keys(r, o, KEYS("pattern", "behavior", "invert")));
    WN_TRY(behavior(r, o, NULL, &split.behavior));
    WN_TRY(wn_tk_json_bool(r, o, "invert", -1, &split.invert));
    WN_TRY(pattern(r, o, &split.pattern));
    return wn_tk_push_split(r, split);
}

static enum winnow_status pre_tokenizer(struct wn_tk_reader *r, const json_t *o, unsigned depth)
{
    static const struct {
        const char *type;
        enum winnow_status (*read)(struct wn_tk_reader *, const json_t *);
        struct wn_tk_split split;
    } types[] = {
        { "ByteLevel", byte_level_split, { 0 } },
        { "Punctuation", punctuation_split, { 0 } },
        { "Digits", digits_split, { 0 } },
        { "Split", pattern_split, { 0 } },
        { "BertPreTokenizer", NULL, { .kind = WN_TK_BY_BERT } },
        { "Whitespace", NULL, { .kind = WN_TK_BY_WORD } },
        { "WhitespaceSplit", NULL, { .kind = WN_TK_BY_CLASS, .cls = WN_UC_SPACE, .behavior = WN_TK_REMOVED } },
    };
    const char *type;
    WN_TRY(type_of(r, o, &type));
    if (strcmp(type, "Sequence") == 0)
        return sequence(r, o, "pretokenizers", depth, pre_tokenizer);
    for (size_t i = 0; i < WN_COUNT(types); i++) {
        if (strcmp(types[i].type, type) != 0)
            continue;
        if (types[i].read)
            return types[i].read(r, o);
        WN_TRY(wn_tk_json_keys(r, o, NO_KEYS));
        return wn_tk_push_split(r, types[i].split);
    }
    return WN_TK_FAIL(r, WINNOW_E_UNSUPPORTED, "type: '%.60s' is not supported", type);
}

/* ---- post_processor ---- */
static enum winnow_status id_of(struct wn_tk_reader *r, const json_t *v, int32_t *ret)
{
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) >= WN_TK_MAX_ID)
        return WN_TK_BAD(r, "expected an id between 0 and %d", WN_TK_MAX_ID - 1);
    *ret = (int32_t)json_integer_value(v);
    return WINNOW_OK;
}

/* ["[SEP]", 102] */
static enum winnow_status named_id(struct wn_tk_reader *r, const json_t *o, const char *key, int32_t *ret)
{
    const json_t *v = json_object_get(o, key);
    if (json_array_size(v) != 2 || !json_is_string(json_array_get(v, 0)))
        return WN_TK_BAD(r, "%s: expected a token and its id", key);
    size_t mark = wn_tk_enter(r, ".%s", key);
    WN_TRY(id_of(r, json_array_get(v, 1), ret));
    wn_tk_leave(r, mark);
    return WINNOW_OK;
}

static enum winnow_status bert_post(struct wn_tk_reader *r, const json_t *o)
{
    int32_t cls, sep;
    WN_TRY(wn_tk_json_keys(r, o, KEYS("sep", "cls")));
    WN_TRY(named_id(r, o, "sep", &sep));
    WN_TRY(named_id(r, o, "cls", &cls));
    return wn_tk_post_bert(r, cls, sep, false);
}

static enum winnow_status roberta_post(struct wn_tk_reader *r, const json_t *o)
{
    int32_t cls, sep;
    bool trim, prefix_space;
    WN_TRY(wn_tk_json_keys(r, o, KEYS("sep", "cls", "trim_offsets", "add_prefix_space")));
    WN_TRY(named_id(r, o, "sep", &sep));
    WN_TRY(named_id(r, o, "cls", &cls));
    WN_TRY(wn_tk_json_bool(r, o, "trim_offsets", -1, &trim));
    WN_TRY(wn_tk_json_bool(r, o, "add_prefix_space", -1, &prefix_space));
    if (trim)
        WN_TRY(wn_tk_post_trim(r, true, prefix_space));
    return wn_tk_post_bert(r, cls, sep, true);
}

static enum winnow_status byte_level_post(struct wn_tk_reader *r, const json_t *o)
{
    bool trim, prefix_space, use_regex;
    WN_TRY(wn_tk_json_keys(r, o, KEYS("add_prefix_space", "trim_offsets", "use_regex")));
    WN_TRY(wn_tk_json_bool(r, o, "add_prefix_space", -1, &prefix_space));
    WN_TRY(wn_tk_json_bool(r, o, "trim_offsets", -1, &trim));
    WN_TRY(wn_tk_json_bool(r, o, "use_regex", true, &use_regex)); /* counts in the pre-tokenizer only */
    return trim ? wn_tk_post_trim(r, true, prefix_space) : WINNOW_OK;
}

/* A special token of a template: one id or several. */
static enum winnow_status special(struct wn_tk_reader *r, const json_t *tokens, const char *name,
                                  struct wn_tk_step *step)
{
    const json_t *ids = json_object_get(json_object_get(tokens, name), "ids");
    size_t n = json_array_size(ids);
    if (!json_is_array(ids) || n > MAX_SPECIAL_IDS)
        return WN_TK_BAD(r, "'%.60s' is not in special_tokens, or has no list of at most %d ids there", name,
                         MAX_SPECIAL_IDS);
    int32_t *id = wn_arena_calloc(&r->t->arena, n, sizeof *id);
    if (!id)
        return WN_TK_FAIL(r, WINNOW_E_NOMEM, "template");
    for (size_t i = 0; i < n; i++) {
        WN_TRY(id_of(r, json_array_get(ids, i), &id[i]));
        r->t->max_id = WN_MAX(r->t->max_id, (size_t)id[i] + 1);
    }
    step->sequence = -1;
    step->id = id;
    step->n_ids = n;
    return WINNOW_OK;
}

/* {"Sequence": {"id": "A", "type_id": 0}} or {"SpecialToken": {"id": "[CLS]", "type_id": 0}} */
static enum winnow_status template_piece(struct wn_tk_reader *r, const json_t *piece, const json_t *tokens, bool pair,
                                         struct wn_tk_step *step)
{
    const json_t *text = json_object_get(piece, "Sequence"), *token = json_object_get(piece, "SpecialToken"),
                 *body = text ? text : token;
    const char *id;
    size_t n, type;
    if (!json_is_object(body) || json_object_size(piece) != 1)
        return WN_TK_BAD(r, "expected a Sequence or a SpecialToken");
    WN_TRY(wn_tk_json_string(r, body, "id", true, &id, &n));
    WN_TRY(wn_tk_json_size(r, body, "type_id", 255, &type));
    step->type = (uint8_t)type;
    if (token)
        return special(r, tokens, id, step);
    if (strcmp(id, "A") != 0 && (strcmp(id, "B") != 0 || !pair))
        return WN_TK_BAD(r, "id: '%.20s' is not a text of this template", id);
    step->sequence = id[0] == 'B';
    return WINNOW_OK;
}

static enum winnow_status template_form(struct wn_tk_reader *r, const json_t *o, const char *key, bool pair)
{
    const json_t *list = json_object_get(o, key), *tokens = json_object_get(o, "special_tokens");
    struct wn_tk_template *form = &r->t->post.form[pair];
    size_t n = json_array_size(list);
    if (!json_is_array(list) || n > MAX_STEPS)
        return WN_TK_BAD(r, "%s: expected a list of at most %d", key, MAX_STEPS);
    form->step = wn_arena_calloc(&r->t->arena, n, sizeof *form->step);
    if (!form->step)
        return WN_TK_FAIL(r, WINNOW_E_NOMEM, "template");
    for (form->n = 0; form->n < n; form->n++) {
        size_t mark = wn_tk_enter(r, ".%s[%zu]", key, form->n);
        WN_TRY(template_piece(r, json_array_get(list, form->n), tokens, pair, &form->step[form->n]));
        form->added += form->step[form->n].n_ids;
        wn_tk_leave(r, mark);
    }
    return WINNOW_OK;
}

static enum winnow_status template_post(struct wn_tk_reader *r, const json_t *o)
{
    WN_TRY(wn_tk_json_keys(r, o, KEYS("single", "pair", "special_tokens")));
    WN_TRY(template_form(r, o, "single", false));
    return template_form(r, o, "pair", true);
}

static enum winnow_status post_processor(struct wn_tk_reader *r, const json_t *o, unsigned depth)
{
    static const struct {
        const char *type;
        enum winnow_status (*read)(struct wn_tk_reader *, const json_t *);
    } types[] = { { "ByteLevel", byte_level_post },
                  { "BertProcessing", bert_post },
                  { "RobertaProcessing", roberta_post },
                  { "TemplateProcessing", template_post } };
    const char *type;
    WN_TRY(type_of(r, o, &type));
    if (r->t->post.form[0].step)
        return WN_TK_FAIL(r, WINNOW_E_UNSUPPORTED, "'%.60s' after a processor that adds special tokens", type);
    if (strcmp(type, "Sequence") == 0)
        return sequence(r, o, "processors", depth, post_processor);
    for (size_t i = 0; i < WN_COUNT(types); i++)
        if (strcmp(types[i].type, type) == 0)
            return types[i].read(r, o);
    return WN_TK_FAIL(r, WINNOW_E_UNSUPPORTED, "type: '%.60s' is not supported", type);
}

/* ---- added_tokens, truncation, padding ---- */
static enum winnow_status added_token(struct wn_tk_reader *r, const json_t *o)
{
    struct wn_tk_added a = { 0 };
    int32_t id; /* as `tokenizers` does, the vocabulary's id counts, not this one */
    WN_TRY(wn_tk_json_keys(
        r, o,
        ((const char *const[]){ "id", "content", "single_word", "lstrip", "rstrip", "normalized", "special", NULL })));
    WN_TRY(id_of(r, json_object_get(o, "id"), &id));
    WN_TRY(wn_tk_json_string(r, o, "content", true, &a.content, &a.n));
    WN_TRY(wn_tk_json_bool(r, o, "single_word", -1, &a.single_word));
    WN_TRY(wn_tk_json_bool(r, o, "lstrip", -1, &a.lstrip));
    WN_TRY(wn_tk_json_bool(r, o, "rstrip", -1, &a.rstrip));
    WN_TRY(wn_tk_json_bool(r, o, "normalized", -1, &a.normalized));
    WN_TRY(wn_tk_json_bool(r, o, "special", -1, &a.special));
    return wn_tk_push_added(r, a);
}

static enum winnow_status added_tokens(struct wn_tk_reader *r, const json_t *list)
{
    if (!json_is_array(list))
        return WN_TK_BAD(r, "expected a list");
    for (size_t i = 0; i < json_array_size(list); i++) {
        size_t mark = wn_tk_enter(r, "[%zu]", i);
        WN_TRY(added_token(r, json_array_get(list, i)));
        wn_tk_leave(r, mark);
    }
    return WINNOW_OK;
}

static enum winnow_status truncation(struct wn_tk_reader *r, const json_t *o)
{
    static const char *const strategies[] = { "LongestFirst", "OnlyFirst", "OnlySecond" };
    struct wn_tk_truncation *t = &r->t->truncation;
    const char *direction, *strategy;
    size_t n, stride;
    WN_TRY(wn_tk_json_keys(r, o, ((const char *const[]){ "direction", "max_length", "strategy", "stride", NULL })));
    WN_TRY(wn_tk_json_size(r, o, "max_length", SIZE_MAX >> 1, &t->max_length));
    WN_TRY(wn_tk_json_size(r, o, "stride", SIZE_MAX >> 1, &stride)); /* of the parts that are cut off */
    WN_TRY(wn_tk_json_string(r, o, "strategy", true, &strategy, &n));
    WN_TRY(wn_tk_json_string(r, o, "direction", false, &direction, &n));
    unsigned s = 0;
    while (s < WN_COUNT(strategies) && strcmp(strategies[s], strategy) != 0)
        s++;
    if (s == WN_COUNT(strategies))
        return WN_TK_BAD(r, "strategy: '%.40s' is none", strategy);
    if (direction && strcmp(direction, "Left") != 0 && strcmp(direction, "Right") != 0)
        return WN_TK_BAD(r, "direction: must be Left or Right");
    t->strategy = (enum wn_tk_strategy)s;
    t->left = direction && direction[0] == 'L';
    t->set = true;
    return WINNOW_OK;
}

static enum winnow_status padding(struct wn_tk_reader *r, const json_t *o)
{
    size_t mark = wn_tk_enter(r, ".pad_id");
    WN_TRY(id_of(r, json_object_get(o, "pad_id"), &r->t->pad));
    wn_tk_leave(r, mark);
    return WINNOW_OK;
}

/* ---- the file ---- */
static enum winnow_status normalizers(struct wn_tk_reader *r, const json_t *o)
{
    return normalizer(r, o, 0);
}

static enum winnow_status pre_tokenizers(struct wn_tk_reader *r, const json_t *o)
{
    return pre_tokenizer(r, o, 0);
}

static enum winnow_status post_processors(struct wn_tk_reader *r, const json_t *o)
{
    return post_processor(r, o, 0);
}

static enum winnow_status version(struct wn_tk_reader *r, const json_t *o)
{
    return json_is_string(o) && strcmp(json_string_value(o), "1.0") == 0
               ? WINNOW_OK
               : WN_TK_FAIL(r, WINNOW_E_UNSUPPORTED, "only \"1.0\" is supported");
}

static enum winnow_status read_all(struct wn_tk_reader *r, const json_t *root)
{
    static const struct {
        const char *key;
        enum winnow_status (*read)(struct wn_tk_reader *, const json_t *);
        bool required;
    } parts[] = { { "version", version, false },
                  { "model", wn_tk_load_model, true },
                  { "normalizer", normalizers, false },
                  { "pre_tokenizer", pre_tokenizers, false },
                  { "post_processor", post_processors, false },
                  { "truncation", truncation, false },
                  { "padding", padding, false },
                  { "added_tokens", added_tokens, false } };
    for (size_t i = 0; i < WN_COUNT(parts); i++) {
        const json_t *v = json_object_get(root, parts[i].key);
        if (!parts[i].required && (!v || json_is_null(v)))
            continue;
        if (!v)
            return WN_TK_BAD(r, "key '%s' is missing", parts[i].key);
        size_t mark = wn_tk_enter(r, "%s", parts[i].key);
        WN_TRY(parts[i].read(r, v));
        wn_tk_leave(r, mark);
    }
    if (!r->t->post.form[0].step)
        WN_TRY(wn_tk_post_none(r));
    return wn_tk_added_settle(r->t, r->file, r->err);
}

static enum winnow_status load_json(struct wn_tokenizer *t, const char *dir, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/tokenizer.json", dir);
    struct wn_tk_reader r = { .t = t, .file = path, .err = err };
    json_t *root;
    if (!path)
        return wn_fail(err, WINNOW_E_NOMEM, "tokenizer");
    WN_TRY(wn_tk_json_read(&r, &root));
    enum winnow_status status = read_all(&r, root);
    json_decref(root);
    return status;
}

enum winnow_status wn_tk_load(struct wn_tokenizer *t, const char *dir, struct winnow_err *err)
{
    static const struct {
        const char *file;
        enum winnow_status (*load)(struct wn_tokenizer *t, const char *dir, struct winnow_err *err);
    } forms[] = { { "tokenizer.json", load_json },
                  { "vocab.txt", wn_tk_load_vocab_txt },
                  { "vocab.json", wn_tk_load_vocab_json } };
    enum winnow_status status = WINNOW_E_NOT_FOUND;
    for (size_t i = 0; i < WN_COUNT(forms) && status == WINNOW_E_NOT_FOUND; i++) {
        t->file = forms[i].file;
        status = forms[i].load(t, dir, err);
    }
    return status == WINNOW_E_NOT_FOUND
               ? wn_fail(err, status, "%s: no tokenizer.json, vocab.txt or vocab.json and merges.txt", dir)
               : status;
}
