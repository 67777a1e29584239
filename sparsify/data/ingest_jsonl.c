/* ingest_jsonl.c: rows of text from JSON lines.
 *
 * Keys are chosen as columns of CSV are, by the first object of a file. Two forms of OpenAI's are told by their keys:
 * {"messages": [{"role": "user", …}, {"role": "assistant", …}]}, where the user's content is the text and the
 * assistant's the label, and {"prompt", "completion"}. A system message is passed over; more turns are rejected. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include "sparsify/data/ingest_impl.h"

#define MAX_LINE ((size_t)1 << 20)
#define MAX_KEYS 256u

struct jsonl_file {
    struct wn_ingest *in;
    const char *name;
    enum wn_part part;
    bool settled, messages;
    const char *text[WN_COLUMNS_MAX_TEXT], *pair, *label; /* keys; in the arena */
    unsigned n_text;
    WN_VEC(char) joined;
};

static struct wn_text_view string_of(const json_t *v)
{
    return (struct wn_text_view){ json_string_value(v), json_string_length(v) };
}

/* ---- keys ---- */

static enum winnow_status settle_messages(struct jsonl_file *f)
{
    static const char *const names[] = { "messages[user]", "messages[assistant]" };
    const struct wn_columns_at at = { .text = { 0 }, .n_text = 1, .label = 1, .pair = -1, .guessed = true };
    f->settled = f->messages = true;
    return wn_ingest_columns(f->in, f->name, names, &at);
}

static enum winnow_status settle(struct jsonl_file *f, json_t *o, uint64_t line)
{
    struct wn_ingest *in = f->in;
    const char *name[MAX_KEYS], *key;
    unsigned n = 0;
    json_t *v;
    struct wn_columns_at at;
    if (!in->o->columns.n_text && !in->o->columns.label && json_is_array(json_object_get(o, "messages")))
        return settle_messages(f);
    json_object_foreach(o, key, v)
    {
        if (n == MAX_KEYS)
            return wn_fail(in->err, WINNOW_E_TOO_LARGE, "%.80s:%llu: more than %u keys", f->name,
                           (unsigned long long)line, MAX_KEYS);
        if (!(name[n++] = wn_arena_strndup(&in->arena, key, strlen(key))))
            return wn_fail(in->err, WINNOW_E_NOMEM, "keys");
    }
    enum winnow_status status = wn_columns_settle(&in->o->columns, name, n, &at, in->err);
    if (status != WINNOW_OK)
        return wn_fail_at(in->err, status, "%.80s:%llu", f->name, (unsigned long long)line);
    for (unsigned i = 0; i < at.n_text; i++)
        f->text[f->n_text++] = name[at.text[i]];
    f->pair = at.pair >= 0 ? name[at.pair] : NULL;
    f->label = name[at.label];
    f->settled = true;
    return wn_ingest_columns(in, f->name, name, &at);
}

/* ---- one line ---- */

/* A label: a string, or an integer as it is written (in `room`). */
static struct wn_text_view label_of(const json_t *v, char room[32])
{
    if (!json_is_integer(v))
        return string_of(v);
    int n = snprintf(room, 32, "%lld", (long long)json_integer_value(v));
    return (struct wn_text_view){ room, (size_t)n };
}

/* user and assistant, once each. NULL, or why not. */
static const char *from_messages(json_t *o, struct wn_ingest_text *t)
{
    size_t i;
    json_t *m;
    json_array_foreach(json_object_get(o, "messages"), i, m)
    {
        const char *role = json_string_value(json_object_get(m, "role"));
        struct wn_text_view content = string_of(json_object_get(m, "content"));
        if (!role || !content.at)
            return "messages: one has no role or no content of text";
        if (strcmp(role, "system") == 0 || strcmp(role, "developer") == 0)
            continue;
        struct wn_text_view *to = strcmp(role, "user") == 0        ? &t->text
                                  : strcmp(role, "assistant") == 0 ? &t->label
                                                                   : NULL;
        if (!to)
            return "messages: a role other than system, user and assistant";
        if (to->at || (to == &t->text && t->label.at))
            return "messages: more than one turn cannot be a labelled text";
        *to = content;
    }
    return NULL;
}

static const char *join_texts(struct jsonl_file *f, json_t *o, struct wn_ingest_text *t)
{
    const char *join = f->in->o->columns.join ? f->in->o->columns.join : ". ";
    if (f->n_text == 1) {
        t->text = string_of(json_object_get(o, f->text[0]));
        return NULL;
    }
    f->joined.n = 0;
    for (unsigned i = 0; i < f->n_text; i++) {
        struct wn_text_view v = string_of(json_object_get(o, f->text[i]));
        size_t gap = i ? strlen(join) : 0;
        if (!v.at)
            return NULL; /* no text */
        if (!wn_vec_reserve(&f->joined, f->joined.n + gap + v.n + 1))
            return "out of memory";
        memcpy(f->joined.at + f->joined.n, join, gap);
        memcpy(f->joined.at + f->joined.n + gap, v.at, v.n);
        f->joined.n += gap + v.n;
    }
    t->text = (struct wn_text_view){ f->joined.at, f->joined.n };
    return NULL;
}

static enum winnow_status on_object(struct jsonl_file *f, json_t *o, uint64_t line)
{
    struct wn_ingest_text t = { .file = f->name, .line = line, .part = f->part };
    char number[32];
    const char *fault;
    if (!f->settled)
        WN_TRY(settle(f, o, line));
    if (f->messages) {
        fault = json_is_array(json_object_get(o, "messages")) ? from_messages(o, &t) : "no messages";
    } else {
        fault = join_texts(f, o, &t);
        t.pair = f->pair ? string_of(json_object_get(o, f->pair)) : t.pair;
        t.label = label_of(json_object_get(o, f->label), number);
    }
    return fault ? wn_ingest_reject_line(f->in, f->name, line, fault) : wn_ingest_text_row(f->in, &t);
}

static enum winnow_status on_line(struct jsonl_file *f, const char *at, size_t n, uint64_t line)
{
    json_error_t why;
    char text[120];
    while (n && isspace((unsigned char)at[n - 1]))
        n--;
    if (!n)
        return WINNOW_OK;
    if (n > MAX_LINE)
        return wn_ingest_reject_line(f->in, f->name, line, "a line of more than 1 MiB");
    json_t *o = json_loadb(at, n, JSON_REJECT_DUPLICATES, &why);
    if (!o) {
        snprintf(text, sizeof text, "not JSON: %.90s", why.text);
        return wn_ingest_reject_line(f->in, f->name, line, text);
    }
    enum winnow_status status =
        json_is_object(o) ? on_object(f, o, line) : wn_ingest_reject_line(f->in, f->name, line, "not a JSON object");
    json_decref(o);
    return status;
}

enum winnow_status wn_ingest_jsonl(struct wn_ingest *in, const char *name, enum wn_part part, const char *bytes,
                                   size_t n)
{
    struct jsonl_file f = { .in = in, .name = name, .part = part };
    enum winnow_status status = WINNOW_OK;
    uint64_t line = 1;
    for (size_t at = 0; at < n && status == WINNOW_OK; line++) {
        const char *end = memchr(bytes + at, '\n', n - at);
        size_t len = end ? (size_t)(end - bytes) - at : n - at;
        status = on_line(&f, bytes + at, len, line);
        at += len + 1;
    }
    wn_vec_done(&f.joined);
    return status;
}
