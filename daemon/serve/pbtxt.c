/* pbtxt.c: the part of a model's config.pbtxt that says how its requests wait.
 *
 * DESIGN  Protocol buffers' text format has a small grammar: `name: scalar`, `name { … }`, `name: [ … ]`, separators
 *         and comments. All of it is walked, so that any valid file passes; four fields are picked out by their path:
 *             max_batch_size
 *             dynamic_batching.max_queue_delay_microseconds
 *             dynamic_batching.default_queue_policy.max_queue_size
 *             dynamic_batching.default_queue_policy.default_timeout_microseconds
 *         Source: triton-inference-server/common protobuf/model_config.proto; the format itself: protobuf.dev,
 *         "Text Format Language Specification". Considered: a reflection library. protobuf-c has none for this format.
 */
#include "daemon/serve/pbtxt.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"

#define FILE_MAX  ((size_t)1 << 20)
#define DEPTH_MAX 32
#define PATH_MAX_ 160

struct reader {
    const char *p, *end, *file;
    unsigned line, depth;
    char path[PATH_MAX_]; /* of the message being read, "a.b." */
    char text[128];       /* the last string, "" where it was longer */
    struct wn_config_label output;
    struct wn_model_config *ret;
    struct winnow_err *err;
};

static enum winnow_status bad(const struct reader *r, const char *what)
{
    return wn_fail(r->err, WINNOW_E_MALFORMED, "%s:%u: %s", r->file, r->line, what);
}

static void skip_space(struct reader *r)
{
    for (; r->p < r->end; r->p++) {
        if (*r->p == '\n')
            r->line++;
        else if (*r->p == '#')
            while (r->p + 1 < r->end && r->p[1] != '\n')
                r->p++;
        else if (!isspace((unsigned char)*r->p))
            break;
    }
}

static bool take(struct reader *r, char c)
{
    skip_space(r);
    if (r->p == r->end || *r->p != c)
        return false;
    r->p++;
    return true;
}

static enum winnow_status skip_string(struct reader *r)
{
    char quote = *r->p++;
    const char *from = r->p;
    for (; r->p < r->end && *r->p != quote; r->p++) {
        if (*r->p == '\n')
            return bad(r, "a string does not end on its line");
        if (*r->p == '\\' && r->p + 1 < r->end)
            r->p++;
    }
    if (r->p == r->end)
        return bad(r, "a string does not end");
    size_t n = (size_t)(r->p - from) < sizeof r->text ? (size_t)(r->p - from) : 0;
    memcpy(r->text, from, n);
    r->text[n] = '\0';
    r->p++;
    return WINNOW_OK;
}

static bool in_word(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '.' || c == '-' || c == '+';
}

/* One word (number, enum, true) into `word`, or strings, which are skipped and leave "". */
static enum winnow_status scalar(struct reader *r, char word[64])
{
    word[0] = '\0';
    skip_space(r);
    if (r->p < r->end && (*r->p == '"' || *r->p == '\'')) {
        for (; r->p < r->end && (*r->p == '"' || *r->p == '\''); skip_space(r)) /* adjacent strings are one */
            WN_TRY(skip_string(r));
        return WINNOW_OK;
    }
    size_t n = 0;
    for (; r->p < r->end && in_word(*r->p); r->p++)
        if (n < 63)
            word[n++] = *r->p;
    word[n] = '\0';
    return n ? WINNOW_OK : bad(r, "a value is missing");
}

static const struct {
    const char *path;
    size_t to; /* offset in struct wn_model_config */
    int64_t max;
} known[] = {
    { "max_batch_size", offsetof(struct wn_model_config, max_batch), INT32_MAX },
    { "dynamic_batching.max_queue_delay_microseconds", offsetof(struct wn_model_config, max_wait_us),
      INT64_C(1000000) },
    { "dynamic_batching.default_queue_policy.max_queue_size", offsetof(struct wn_model_config, max_queue), UINT32_MAX },
    { "dynamic_batching.default_queue_policy.default_timeout_microseconds",
      offsetof(struct wn_model_config, timeout_us), INT64_C(86400000000) },
};

static int64_t *field(struct wn_model_config *c, size_t i)
{
    return (int64_t *)(void *)((char *)c + known[i].to);
}

static enum winnow_status set(struct reader *r, const char *name, const char *word)
{
    char full[PATH_MAX_ * 2];
    snprintf(full, sizeof full, "%s%s", r->path, name);
    if (strcmp(full, "output.name") == 0 && !word[0])
        memcpy(r->output.output, r->text, sizeof r->text);
    else if (strcmp(full, "output.label_filename") == 0 && !word[0])
        memcpy(r->output.file, r->text, sizeof r->text);
    for (size_t i = 0; i < WN_COUNT(known); i++) {
        if (strcmp(full, known[i].path) != 0)
            continue;
        char *end;
        long long v = strtoll(word, &end, 0);
        if (!word[0] || *end || v < 0 || v > known[i].max)
            return wn_fail(r->err, WINNOW_E_MALFORMED, "%s:%u: %s: '%s' is no number from 0 to %" PRId64, r->file,
                           r->line, full, word, known[i].max);
        *field(r->ret, i) = v;
    }
    return WINNOW_OK;
}

static enum winnow_status fields(struct reader *r, char close);

static enum winnow_status message(struct reader *r, const char *name, char close)
{
    size_t n = strlen(r->path);
    if (++r->depth > DEPTH_MAX)
        return bad(r, "messages are nested too deeply");
    if (n + strlen(name) + 2 > sizeof r->path)
        return bad(r, "names are too long");
    snprintf(r->path + n, sizeof r->path - n, "%s.", name);
    bool output = strcmp(r->path, "output.") == 0;
    if (output)
        r->output = (struct wn_config_label){ 0 };
    WN_TRY(fields(r, close));
    if (output && r->output.output[0] && r->output.file[0] && r->ret->n_labels < WN_CONFIG_LABELS)
        r->ret->label[r->ret->n_labels++] = r->output;
    r->path[n] = '\0';
    r->depth--;
    return WINNOW_OK;
}

static enum winnow_status value(struct reader *r, const char *name)
{
    char word[64];
    if (take(r, '{'))
        return message(r, name, '}');
    if (take(r, '<'))
        return message(r, name, '>');
    WN_TRY(scalar(r, word));
    return set(r, name, word);
}

static enum winnow_status list(struct reader *r, const char *name)
{
    if (take(r, ']'))
        return WINNOW_OK;
    do
        WN_TRY(value(r, name));
    while (take(r, ','));
    return take(r, ']') ? WINNOW_OK : bad(r, "a list does not end");
}

static enum winnow_status fields(struct reader *r, char close)
{
    for (;;) {
        char name[64];
        skip_space(r);
        if (r->p == r->end)
            return close ? bad(r, "a message does not end") : WINNOW_OK;
        if (close && take(r, close))
            return WINNOW_OK;
        if (*r->p == '"' || *r->p == '\'')
            return bad(r, "a name is missing");
        WN_TRY(scalar(r, name));
        bool colon = take(r, ':');
        skip_space(r);
        bool opens = r->p < r->end && (*r->p == '{' || *r->p == '<');
        if (!colon && !opens && !(r->p < r->end && *r->p == '['))
            return bad(r, "a name is not followed by a value");
        if (take(r, '['))
            WN_TRY(list(r, name));
        else
            WN_TRY(value(r, name));
        if (!take(r, ','))
            take(r, ';');
    }
}

enum winnow_status wn_model_config_parse(const char *text, size_t n, const char *file, struct wn_model_config *ret,
                                         struct winnow_err *err)
{
    struct reader r = { .p = text, .end = text + n, .file = file, .line = 1, .ret = ret, .err = err };
    *ret = (struct wn_model_config){ .max_batch = -1, .max_wait_us = -1, .max_queue = -1, .timeout_us = -1 };
    return fields(&r, 0);
}

/* The value at "a.b.c"; NULL: it is not there. */
static json_t *at_path(json_t *o, const char *path)
{
    char key[64];
    for (const char *dot; o && (dot = strchr(path, '.')) != NULL; path = dot + 1) {
        snprintf(key, sizeof key, "%.*s", (int)(dot - path), path);
        o = json_object_get(o, key);
    }
    return json_object_get(o, path);
}

static bool whole(const json_t *v, int64_t max, int64_t *ret)
{
    char *end = NULL;
    const char *text = json_string_value(v);
    errno = 0;
    long long n = text ? strtoll(text, &end, 10) : json_integer_value(v);
    if (text ? !*text || *end || errno : !json_is_integer(v))
        return false;
    *ret = n;
    return n >= 0 && n <= max;
}

enum winnow_status wn_model_config_parse_json(const char *text, size_t n, struct wn_model_config *ret,
                                              struct winnow_err *err)
{
    json_error_t e;
    json_t *o = json_loadb(text, n, JSON_REJECT_DUPLICATES, &e);
    enum winnow_status status = WINNOW_OK;
    *ret = (struct wn_model_config){ .max_batch = -1, .max_wait_us = -1, .max_queue = -1, .timeout_us = -1 };
    if (!json_is_object(o))
        status = wn_fail(err, WINNOW_E_MALFORMED, "config: %s", o ? "no JSON object" : e.text);
    for (size_t i = 0; i < WN_COUNT(known) && status == WINNOW_OK; i++) {
        const json_t *v = at_path(o, known[i].path);
        if (v && !whole(v, known[i].max, field(ret, i)))
            status = wn_fail(err, WINNOW_E_MALFORMED, "config: %s is no number from 0 to %" PRId64, known[i].path,
                             known[i].max);
    }
    json_decref(o);
    return status;
}

enum winnow_status wn_model_config_read(const char *path, struct wn_model_config *ret, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) void *bytes = NULL;
    size_t n;
    *ret = (struct wn_model_config){ .max_batch = -1, .max_wait_us = -1, .max_queue = -1, .timeout_us = -1 };
    enum winnow_status status = wn_file_read(path, FILE_MAX, &bytes, &n, err);
    if (status == WINNOW_E_NOT_FOUND)
        return WINNOW_OK;
    WN_TRY(status);
    return wn_model_config_parse(bytes, n, path, ret, err);
}
