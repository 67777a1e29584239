/* yaml.c: libyaml's events -> nodes.
 *
 * DESIGN  The open collections form a stack of WN_YAML_MAX_DEPTH levels, so nothing here recurses on input. Children
 *         gather in growing vectors and are copied into the arena when their collection closes. An alias shares the
 * node it names; since an anchor can be used only after its node has closed, the result has no cycles, and `total`
 * (nodes with aliases expanded) bounds what a walker meets, so "billion laughs" stops at 100 000. */
#include "base/yaml.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>
#include "base/file.h"
#include "base/strmap.h"
#include "base/vec.h"

#define MAX_ANCHORS 1000
#define MANY_KEYS   16 /* from here on a map's keys are told apart by hashing */

struct level {
    struct wn_yaml_node *node;
    struct wn_yaml_node *key; /* MAP: the key whose value comes next, or NULL */
    const char *anchor;
    WN_VEC(struct wn_yaml_node *) keys, items;
    struct wn_strmap seen; /* MAP with many keys */
};

struct anchor {
    const char *name;
    struct wn_yaml_node *node;
};

struct builder {
    struct wn_yaml *doc;
    struct winnow_err *err;
    unsigned flags, first_line;
    size_t depth;
    struct level level[WN_YAML_MAX_DEPTH];
    WN_VEC(struct anchor) anchors;
    size_t nodes;
};

static const char *const kind_names[] = {
    [WN_YAML_NULL] = "nothing",   [WN_YAML_BOOL] = "true or false", [WN_YAML_INT] = "an integer",
    [WN_YAML_FLOAT] = "a number", [WN_YAML_STRING] = "a string",    [WN_YAML_SEQ] = "a list",
    [WN_YAML_MAP] = "a mapping",
};

const char *wn_yaml_kind_name(enum wn_yaml_kind kind)
{
    return kind_names[kind];
}

enum winnow_status wn_yaml_fail(const struct wn_yaml *doc, const struct wn_yaml_node *node, struct winnow_err *err,
                                enum winnow_status status, const char *fmt, ...)
{
    char msg[sizeof err->msg];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    return wn_fail(err, status, "%s:%u: %s", doc->file, node ? node->line : 1, msg);
}

__attribute__((format(printf, 4, 5))) static enum winnow_status fail_at(const struct builder *b, yaml_mark_t at,
                                                                        enum winnow_status status, const char *fmt, ...)
{
    char msg[sizeof b->err->msg];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    return wn_fail(b->err, status, "%s:%zu: %s", b->doc->file, at.line + b->first_line, msg);
}

static enum winnow_status no_memory(const struct builder *b)
{
    return wn_fail(b->err, WINNOW_E_NOMEM, "reading '%s'", b->doc->file);
}

/* ---- scalars ---- */
static bool is_one_of(const char *s, const char *const *names)
{
    for (; *names; names++)
        if (strcmp(s, *names) == 0)
            return true;
    return false;
}

/* Digits of `base` only, at least one. */
static bool all_digits(const char *s, int base)
{
    if (!*s)
        return false;
    for (; *s; s++) {
        int v = isdigit((unsigned char)*s) ? *s - '0' : isxdigit((unsigned char)*s) ? (*s | 0x20) - 'a' + 10 : 99;
        if (v >= base)
            return false;
    }
    return true;
}

/* [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )? */
static bool looks_float(const char *s)
{
    s += *s == '-' || *s == '+';
    size_t whole = strspn(s, "0123456789"), part = 0;
    s += whole;
    if (*s == '.') {
        part = strspn(s + 1, "0123456789");
        s += 1 + part;
    }
    if (whole + part == 0)
        return false;
    if (*s == 'e' || *s == 'E') {
        s++;
        s += *s == '-' || *s == '+';
        if (!isdigit((unsigned char)*s))
            return false;
        s += strspn(s, "0123456789");
    }
    return *s == '\0';
}

static bool parse_int(const char *s, int64_t *ret, bool *ret_overflow)
{
    const char *digits = s + (*s == '-' || *s == '+');
    int base = 10;
    if (digits == s && s[0] == '0' && (s[1] == 'x' || s[1] == 'o')) {
        base = s[1] == 'x' ? 16 : 8;
        digits = s + 2;
    }
    if (!all_digits(digits, base))
        return false;
    errno = 0;
    long long v = strtoll(base == 10 ? s : digits, NULL, base);
    *ret_overflow = errno == ERANGE;
    *ret = v;
    return true;
}

static bool parse_float(const char *s, double *ret)
{
    static const char *const inf[] = { ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", NULL };
    static const char *const ninf[] = { "-.inf", "-.Inf", "-.INF", NULL };
    static const char *const nan_[] = { ".nan", ".NaN", ".NAN", NULL };
    if (is_one_of(s, inf) || is_one_of(s, ninf))
        *ret = *s == '-' ? -HUGE_VAL : HUGE_VAL;
    else if (is_one_of(s, nan_))
        *ret = NAN;
    else if (looks_float(s))
        *ret = strtod(s, NULL);
    else
        return false;
    return true;
}

/* Kind and value of a plain scalar by the core schema. */
static enum winnow_status resolve_plain(const struct builder *b, struct wn_yaml_node *node, yaml_mark_t at)
{
    static const char *const null[] = { "", "~", "null", "Null", "NULL", NULL };
    static const char *const yes[] = { "true", "True", "TRUE", NULL }, *const no[] = { "false", "False", "FALSE",
                                                                                       NULL };
    const char *s = node->text;
    bool overflow = false;
    if (is_one_of(s, null)) {
        node->kind = WN_YAML_NULL;
    } else if (is_one_of(s, yes) || is_one_of(s, no)) {
        node->kind = WN_YAML_BOOL;
        node->as.b = is_one_of(s, yes);
    } else if (parse_int(s, &node->as.i, &overflow)) {
        node->kind = WN_YAML_INT;
        if (overflow)
            return fail_at(b, at, WINNOW_E_MALFORMED, "integer '%.40s' does not fit 64 bits", s);
    } else if (parse_float(s, &node->as.f)) {
        node->kind = WN_YAML_FLOAT;
    } else {
        node->kind = WN_YAML_STRING;
    }
    return WINNOW_OK;
}

/* ---- nodes ---- */
static enum winnow_status set_tag(struct builder *b, struct wn_yaml_node *node, const yaml_char_t *tag, yaml_mark_t at)
{
    const char *s = (const char *)tag;
    if (!s || strcmp(s, "!") == 0)
        return WINNOW_OK;
    if (s[0] == '!' && (b->flags & WN_YAML_TAGS)) {
        if (strlen(s) > 128)
            return fail_at(b, at, WINNOW_E_TOO_LARGE, "tag of %zu bytes", strlen(s));
        node->tag = wn_arena_strndup(&b->doc->arena, s, strlen(s));
        return node->tag ? WINNOW_OK : no_memory(b);
    }
    if (strcmp(s, YAML_STR_TAG) == 0 && node->kind < WN_YAML_SEQ) {
        node->kind = WN_YAML_STRING;
        return WINNOW_OK;
    }
    if ((node->kind == WN_YAML_SEQ && strcmp(s, YAML_SEQ_TAG) == 0) ||
        (node->kind == WN_YAML_MAP && strcmp(s, YAML_MAP_TAG) == 0))
        return WINNOW_OK;
    return fail_at(b, at, WINNOW_E_UNSUPPORTED, "tag '%.60s' is not allowed here", s);
}

static enum winnow_status new_node(struct builder *b, yaml_mark_t at, enum wn_yaml_kind kind, struct wn_yaml_node **ret)
{
    if (b->nodes++ >= WN_YAML_MAX_NODES)
        return fail_at(b, at, WINNOW_E_TOO_LARGE, "more than %u values", WN_YAML_MAX_NODES);
    struct wn_yaml_node *node = wn_arena_alloc(&b->doc->arena, sizeof *node);
    if (!node)
        return no_memory(b);
    node->kind = kind;
    node->line = (unsigned)at.line + b->first_line;
    node->col = (unsigned)at.column + 1;
    node->text = "";
    node->total = node->height = 1;
    *ret = node;
    return WINNOW_OK;
}

static enum winnow_status add_anchor(struct builder *b, const char *name, struct wn_yaml_node *node, yaml_mark_t at)
{
    if (!name)
        return WINNOW_OK;
    if (b->anchors.n == MAX_ANCHORS)
        return fail_at(b, at, WINNOW_E_TOO_LARGE, "more than %d anchors", MAX_ANCHORS);
    return wn_vec_push(&b->anchors, (struct anchor){ name, node }) ? WINNOW_OK : no_memory(b);
}

/* Copy of an anchor's name, or NULL when there is none; refused without WN_YAML_ALIASES. */
static enum winnow_status anchor_name(struct builder *b, const yaml_char_t *anchor, yaml_mark_t at, const char **ret)
{
    *ret = NULL;
    if (!anchor)
        return WINNOW_OK;
    if (!(b->flags & WN_YAML_ALIASES))
        return fail_at(b, at, WINNOW_E_UNSUPPORTED, "anchors and aliases are not allowed here");
    *ret = wn_arena_strndup(&b->doc->arena, (const char *)anchor, strlen((const char *)anchor));
    return *ret ? WINNOW_OK : no_memory(b);
}

static enum winnow_status add_key(struct builder *b, struct level *l, struct wn_yaml_node *key, yaml_mark_t at)
{
    if (key->kind >= WN_YAML_SEQ)
        return fail_at(b, at, WINNOW_E_UNSUPPORTED, "a key must be a word, not a list or mapping");
    if (strcmp(key->text, "<<") == 0 && !key->quoted)
        return fail_at(b, at, WINNOW_E_UNSUPPORTED, "merge keys (<<) are not supported");
    const struct wn_yaml_node *old = NULL;
    if (l->keys.n < MANY_KEYS) {
        for (size_t i = 0; i < l->keys.n && !old; i++)
            old = strcmp(l->keys.at[i]->text, key->text) == 0 ? l->keys.at[i] : NULL;
    } else {
        for (size_t i = 0; l->keys.n == MANY_KEYS && i < l->keys.n; i++)
            if (!wn_strmap_set(&l->seen, l->keys.at[i]->text, strlen(l->keys.at[i]->text), l->keys.at[i]))
                return no_memory(b);
        old = wn_strmap_get(&l->seen, key->text, strlen(key->text));
        if (!old && !wn_strmap_set(&l->seen, key->text, strlen(key->text), key))
            return no_memory(b);
    }
    if (old)
        return fail_at(b, at, WINNOW_E_MALFORMED, "key '%.60s' is given twice (first on line %u)", key->text,
                       old->line);
    l->key = key;
    return WINNOW_OK;
}

/* Put a finished node where it belongs: the document's root, a list, a map's key or a map's value. */
static enum winnow_status place(struct builder *b, struct wn_yaml_node *node, yaml_mark_t at)
{
    if (b->depth == 0) {
        b->doc->root = node;
        return WINNOW_OK;
    }
    struct level *l = &b->level[b->depth - 1];
    l->node->total += node->total;
    if (l->node->total > WN_YAML_MAX_NODES)
        return fail_at(b, at, WINNOW_E_TOO_LARGE, "more than %u values", WN_YAML_MAX_NODES);
    l->node->height = WN_MAX(l->node->height, node->height + 1);
    if (l->node->height > WN_YAML_MAX_DEPTH + 1)
        return fail_at(b, at, WINNOW_E_TOO_LARGE, "nested deeper than %d levels", WN_YAML_MAX_DEPTH);
    if (l->node->kind == WN_YAML_MAP) {
        if (!l->key)
            return add_key(b, l, node, at);
        if (!wn_vec_push(&l->keys, l->key))
            return no_memory(b);
        l->key = NULL;
    }
    return wn_vec_push(&l->items, node) ? WINNOW_OK : no_memory(b);
}

static enum winnow_status on_scalar(struct builder *b, const yaml_event_t *ev)
{
    struct wn_yaml_node *node = NULL;
    const char *anchor = NULL;
    WN_TRY(new_node(b, ev->start_mark, WN_YAML_STRING, &node));
    const char *s = (const char *)ev->data.scalar.value;
    size_t n = ev->data.scalar.length;
    if (memchr(s, '\0', n))
        return fail_at(b, ev->start_mark, WINNOW_E_MALFORMED, "a string with a NUL character");
    node->text = wn_arena_strndup(&b->doc->arena, s, n);
    if (!node->text)
        return no_memory(b);
    node->quoted = ev->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    if (!node->quoted)
        WN_TRY(resolve_plain(b, node, ev->start_mark));
    WN_TRY(set_tag(b, node, ev->data.scalar.tag, ev->start_mark));
    WN_TRY(anchor_name(b, ev->data.scalar.anchor, ev->start_mark, &anchor));
    WN_TRY(add_anchor(b, anchor, node, ev->start_mark));
    return place(b, node, ev->start_mark);
}

static enum winnow_status on_open(struct builder *b, const yaml_event_t *ev, enum wn_yaml_kind kind)
{
    if (b->depth == WN_YAML_MAX_DEPTH)
        return fail_at(b, ev->start_mark, WINNOW_E_TOO_LARGE, "nested deeper than %d levels", WN_YAML_MAX_DEPTH);
    bool map = kind == WN_YAML_MAP;
    const yaml_char_t *tag = map ? ev->data.mapping_start.tag : ev->data.sequence_start.tag;
    const yaml_char_t *anchor = map ? ev->data.mapping_start.anchor : ev->data.sequence_start.anchor;
    struct level *l = &b->level[b->depth];
    *l = (struct level){ 0 };
    WN_TRY(new_node(b, ev->start_mark, kind, &l->node));
    WN_TRY(set_tag(b, l->node, tag, ev->start_mark));
    WN_TRY(anchor_name(b, anchor, ev->start_mark, &l->anchor));
    b->depth++;
    return WINNOW_OK;
}

static void level_done(struct level *l)
{
    wn_vec_done(&l->keys);
    wn_vec_done(&l->items);
    wn_strmap_done(&l->seen);
}

static enum winnow_status on_close(struct builder *b, const yaml_event_t *ev)
{
    struct level *l = &b->level[b->depth - 1];
    struct wn_yaml_node *node = l->node;
    const char *anchor = l->anchor;
    node->n = l->items.n;
    node->item = wn_arena_memdup(&b->doc->arena, l->items.at, node->n * sizeof *node->item);
    node->key =
        node->kind == WN_YAML_MAP ? wn_arena_memdup(&b->doc->arena, l->keys.at, node->n * sizeof *node->key) : NULL;
    if (!node->item || (node->kind == WN_YAML_MAP && !node->key))
        return no_memory(b);
    level_done(l);
    b->depth--;
    WN_TRY(add_anchor(b, anchor, node, ev->start_mark));
    return place(b, node, ev->start_mark);
}

static enum winnow_status on_alias(struct builder *b, const yaml_event_t *ev)
{
    const char *name = NULL;
    WN_TRY(anchor_name(b, ev->data.alias.anchor, ev->start_mark, &name));
    for (size_t i = b->anchors.n; i-- > 0;) /* the newest of a name counts */
        if (strcmp(b->anchors.at[i].name, name) == 0)
            return place(b, b->anchors.at[i].node, ev->start_mark);
    return fail_at(b, ev->start_mark, WINNOW_E_MALFORMED, "alias '*%.60s' names nothing above it", name);
}

static enum winnow_status on_event(struct builder *b, const yaml_event_t *ev, bool *ret_end)
{
    switch (ev->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (b->doc->root)
            return fail_at(b, ev->start_mark, WINNOW_E_UNSUPPORTED, "a second document");
        return WINNOW_OK;
    case YAML_SCALAR_EVENT:
        return on_scalar(b, ev);
    case YAML_SEQUENCE_START_EVENT:
        return on_open(b, ev, WN_YAML_SEQ);
    case YAML_MAPPING_START_EVENT:
        return on_open(b, ev, WN_YAML_MAP);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        return on_close(b, ev);
    case YAML_ALIAS_EVENT:
        return on_alias(b, ev);
    case YAML_STREAM_END_EVENT:
        *ret_end = true;
        return WINNOW_OK;
    default:
        return WINNOW_OK;
    }
}

static enum winnow_status scan_error(const struct builder *b, const yaml_parser_t *p)
{
    if (p->error == YAML_MEMORY_ERROR)
        return no_memory(b);
    if (p->error == YAML_READER_ERROR)
        return wn_fail(b->err, WINNOW_E_MALFORMED, "%s:%zu: %s", b->doc->file, p->mark.line + b->first_line,
                       p->problem ? p->problem : "not UTF-8");
    return fail_at(b, p->problem_mark, WINNOW_E_MALFORMED, "%s%s%s", p->problem ? p->problem : "not YAML",
                   p->context ? " " : "", p->context ? p->context : "");
}

static enum winnow_status run_parser(struct builder *b, yaml_parser_t *p)
{
    bool end = false;
    while (!end) {
        yaml_event_t ev;
        if (!yaml_parser_parse(p, &ev))
            return scan_error(b, p);
        enum winnow_status status = on_event(b, &ev, &end);
        yaml_event_delete(&ev);
        WN_TRY(status);
    }
    if (!b->doc->root)
        WN_TRY(new_node(b, (yaml_mark_t){ 0 }, WN_YAML_NULL, &b->doc->root));
    return WINNOW_OK;
}

enum winnow_status wn_yaml_parse(const void *bytes, size_t n, const char *file, unsigned first_line, unsigned flags,
                                 struct wn_yaml *ret, struct winnow_err *err)
{
    struct wn_yaml doc = { 0 };
    wn_arena_init(&doc.arena, 0);
    if (n > WN_YAML_MAX_BYTES)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "%s: larger than %u bytes", file, WN_YAML_MAX_BYTES);
    WN_CLEANUP(wn_freep) struct builder *b = calloc(1, sizeof *b);
    yaml_parser_t parser;
    doc.file = wn_arena_strndup(&doc.arena, file, strlen(file));
    if (!b || !doc.file || !yaml_parser_initialize(&parser)) {
        wn_yaml_done(&doc);
        return wn_fail(err, WINNOW_E_NOMEM, "reading '%s'", file);
    }
    *b = (struct builder){ .doc = &doc, .err = err, .flags = flags, .first_line = first_line };
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, bytes, n);
    enum winnow_status status = run_parser(b, &parser);
    yaml_parser_delete(&parser);
    while (b->depth)
        level_done(&b->level[--b->depth]);
    wn_vec_done(&b->anchors);
    if (status == WINNOW_OK)
        *ret = doc;
    else
        wn_yaml_done(&doc);
    return status;
}

enum winnow_status wn_yaml_read(const char *path, unsigned flags, struct wn_yaml *ret, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) void *bytes = NULL;
    size_t n = 0;
    WN_TRY(wn_file_read(path, WN_YAML_MAX_BYTES, &bytes, &n, err));
    return wn_yaml_parse(bytes, n, path, 1, flags, ret, err);
}

void wn_yaml_done(struct wn_yaml *doc)
{
    wn_arena_done(&doc->arena);
    doc->root = NULL;
    doc->file = NULL;
}

/* ---- reading the tree ---- */
const struct wn_yaml_node *wn_yaml_get(const struct wn_yaml_node *map, const char *key)
{
    if (!map || map->kind != WN_YAML_MAP)
        return NULL;
    for (size_t i = 0; i < map->n; i++)
        if (strcmp(map->key[i]->text, key) == 0)
            return map->item[i];
    return NULL;
}

bool wn_yaml_number(const struct wn_yaml_node *node, double *ret)
{
    if (node->kind != WN_YAML_INT && node->kind != WN_YAML_FLOAT)
        return false;
    if (ret)
        *ret = node->kind == WN_YAML_INT ? (double)node->as.i : node->as.f;
    return true;
}

static enum winnow_status fill_json(const struct wn_yaml *doc, const struct wn_yaml_node *node, json_t *to,
                                    struct winnow_err *err)
{
    for (size_t i = 0; i < node->n; i++) {
        json_t *item = NULL;
        WN_TRY(wn_yaml_to_json(doc, node->item[i], &item, err));
        int rc = node->kind == WN_YAML_MAP ? json_object_set_new(to, node->key[i]->text, item)
                                           : json_array_append_new(to, item);
        if (rc < 0)
            return wn_fail(err, WINNOW_E_NOMEM, "reading '%s'", doc->file);
    }
    return WINNOW_OK;
}

/* Recurses `height` deep and visits `total` nodes: both are bounded. */
enum winnow_status wn_yaml_to_json(const struct wn_yaml *doc, const struct wn_yaml_node *node, json_t **ret,
                                   struct winnow_err *err)
{
    json_t *json = NULL;
    switch (node->kind) {
    case WN_YAML_NULL:
        json = json_null();
        break;
    case WN_YAML_BOOL:
        json = json_boolean(node->as.b);
        break;
    case WN_YAML_INT:
        json = json_integer(node->as.i);
        break;
    case WN_YAML_FLOAT:
        if (!isfinite(node->as.f))
            return wn_yaml_fail(doc, node, err, WINNOW_E_MALFORMED, "%s is not a finite number", node->text);
        json = json_real(node->as.f);
        break;
    case WN_YAML_STRING:
        json = json_string(node->text);
        break;
    case WN_YAML_SEQ:
        json = json_array();
        break;
    case WN_YAML_MAP:
        json = json_object();
        break;
    }
    if (!json)
        return wn_fail(err, WINNOW_E_NOMEM, "reading '%s'", doc->file);
    enum winnow_status status = fill_json(doc, node, json, err);
    if (status != WINNOW_OK) {
        json_decref(json);
        return status;
    }
    *ret = json;
    return WINNOW_OK;
}

/* Edits (insert, delete, replace, swap of neighbours) between two short words; 99 for long ones. */
static unsigned edits(const char *a, const char *b)
{
    enum { MAX = 40 };
    unsigned d[MAX + 1][MAX + 1];
    size_t n = strlen(a), m = strlen(b);
    if (n > MAX || m > MAX)
        return 99;
    for (size_t i = 0; i <= n; i++)
        for (size_t j = 0; j <= m; j++) {
            if (i == 0 || j == 0) {
                d[i][j] = (unsigned)(i + j);
                continue;
            }
            unsigned best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            best = WN_MIN(best, WN_MIN(d[i - 1][j], d[i][j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                best = WN_MIN(best, d[i - 2][j - 2] + 1);
            d[i][j] = best;
        }
    return d[n][m];
}

const char *wn_near_name(const char *word, const char *const *candidates, size_t n)
{
    const char *best = NULL;
    unsigned best_edits = (unsigned)WN_MIN(strlen(word) / 3 + 1, (size_t)4) + 1;
    for (size_t i = 0; i < n; i++) {
        unsigned e = edits(word, candidates[i]);
        if (e < best_edits) {
            best = candidates[i];
            best_edits = e;
        }
    }
    return best;
}
