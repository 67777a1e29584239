/* embeddings.c: reads and writes the bodies of /v1/embeddings.
 *
 * DESIGN  `input` may come before or after the other keys and has four forms, told by its first characters: a string,
 * an array of strings, an array of integers (one text as tokens), an array of such arrays. */
#include "daemon/api/embeddings.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <string.h>
#include "base/vec.h"
#include "daemon/api/json.h"

#define MAX_DEPTH 8

enum { KEY_MODEL, KEY_INPUT, KEY_FORMAT, KEY_DIMENSIONS, KEY_USER, N_KEYS };
static const char *const known[N_KEYS] = { "model", "input", "encoding_format", "dimensions", "user" };

struct reader {
    struct wn_json j;
    struct wn_arena *arena;
    struct wn_embed *e;
    struct winnow_err *err;
    const char **param;
    WN_VEC(struct wn_pipe_item) text;
    WN_VEC(struct wn_pipe_ids) ids;
    WN_VEC(int32_t) id; /* of the array being read */
    unsigned seen;      /* bit k: known[k] */
};

static bool is(struct winnow_str s, const char *text)
{
    return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

static bool nomem(struct reader *r)
{
    wn_fail(r->err, WINNOW_E_NOMEM, "request");
    return false;
}

static bool full(struct reader *r, size_t n)
{
    if (n < WN_EMBED_MAX_INPUTS)
        return false;
    wn_fail(r->err, WINNOW_E_TOO_LARGE, "input: more than %u texts in one request", WN_EMBED_MAX_INPUTS);
    return true;
}

static bool read_text(struct reader *r)
{
    struct winnow_str s;
    if (full(r, r->text.n) || !wn_json_string(&r->j, r->arena, &s))
        return false;
    if (!s.n)
        return wn_json_fail(&r->j, "input: a text is empty");
    return wn_vec_push(&r->text, (struct wn_pipe_item){ s.p, s.n }) || nomem(r);
}

static bool read_id(struct reader *r)
{
    int64_t v;
    if (!wn_json_i64(&r->j, 0, INT32_MAX, &v))
        return false;
    return wn_vec_push(&r->id, (int32_t)v) || nomem(r);
}

/** What was read of one array of ids becomes a row. */
static bool end_ids(struct reader *r)
{
    if (full(r, r->ids.n))
        return false;
    if (!r->id.n)
        return wn_json_fail(&r->j, "input: an array without tokens");
    struct wn_pipe_ids row = { wn_arena_memdup(r->arena, r->id.at, r->id.n * sizeof *r->id.at), NULL, r->id.n };
    r->id.n = 0;
    return (row.id && wn_vec_push(&r->ids, row)) || nomem(r);
}

static bool read_ids(struct reader *r)
{
    bool ok, first = true;
    if (!wn_json_take(&r->j, '['))
        return wn_json_fail(&r->j, "input: an array of tokens was expected");
    for (; wn_json_next_item(&r->j, first, &ok); first = false)
        if (!read_id(r))
            return false;
    return ok && end_ids(r);
}

static bool read_input(struct reader *r)
{
    bool ok, first = true;
    if (wn_json_peek(&r->j) == '"')
        return read_text(r);
    if (!wn_json_take(&r->j, '['))
        return wn_json_fail(&r->j, "input: a string, or an array of strings or of tokens was expected");
    char kind = wn_json_peek(&r->j);
    for (; wn_json_next_item(&r->j, first, &ok); first = false)
        if (!(kind == '"' ? read_text(r) : kind == '[' ? read_ids(r) : read_id(r)))
            return false;
    if (!ok)
        return false;
    if (first)
        return wn_json_fail(&r->j, "input: an empty array");
    return kind == '"' || kind == '[' || end_ids(r);
}

static bool read_format(struct reader *r)
{
    struct winnow_str s;
    if (!wn_json_string(&r->j, r->arena, &s))
        return false;
    r->e->base64 = is(s, "base64");
    return r->e->base64 || is(s, "float") || wn_json_fail(&r->j, "encoding_format: must be float or base64");
}

static bool read_model(struct reader *r)
{
    struct winnow_str *s = &r->e->model;
    return wn_json_string(&r->j, r->arena, s) &&
           (!memchr(s->p, '\0', s->n) || wn_json_fail(&r->j, "model: a NUL within a name"));
}

static bool read_key(struct reader *r, struct winnow_str key)
{
    unsigned k = 0;
    while (k < N_KEYS && !is(key, known[k]))
        k++;
    *r->param = k < N_KEYS ? known[k] : NULL;
    if (k == N_KEYS)
        return wn_json_fail(&r->j, "unknown key '%.*s'", (int)WN_MIN(key.n, (size_t)60), key.p);
    if (r->seen & 1u << k)
        return wn_json_fail(&r->j, "%s is there twice", known[k]);
    r->seen |= 1u << k;
    if (k > KEY_INPUT && wn_json_null(&r->j))
        return true;
    switch (k) {
    case KEY_MODEL:
        return read_model(r);
    case KEY_INPUT:
        return read_input(r);
    case KEY_FORMAT:
        return read_format(r);
    case KEY_DIMENSIONS:
        wn_fail(r->err, WINNOW_E_MALFORMED, "dimensions: vectors have the length that the model gives them");
        return false;
    default:
        return wn_json_skip(&r->j);
    }
}

static bool read_body(struct reader *r)
{
    struct winnow_str key;
    bool ok, first = true;
    if (!wn_json_take(&r->j, '{'))
        return wn_json_fail(&r->j, "an object was expected");
    for (; wn_json_next_key(&r->j, first, r->arena, &key, &ok); first = false)
        if (!read_key(r, key))
            return false;
    if (!ok)
        return false;
    *r->param = !r->e->model.n ? "model" : !(r->seen & 1u << KEY_INPUT) ? "input" : NULL;
    if (*r->param)
        return wn_json_fail(&r->j, "'%s' is missing", *r->param);
    return wn_json_end(&r->j);
}

enum winnow_status wn_embed_read(const void *body, size_t n, struct wn_arena *arena, struct wn_embed *ret,
                                 const char **ret_param, struct winnow_err *err)
{
    struct winnow_err local = { 0 };
    struct reader r = { .arena = arena, .e = ret, .err = err ? err : &local, .param = ret_param };
    *ret = (struct wn_embed){ 0 };
    *ret_param = NULL;
    wn_json_init(&r.j, body, n, MAX_DEPTH, r.err);
    bool good = read_body(&r);
    if (good) {
        ret->n = r.text.n ? r.text.n : r.ids.n;
        ret->text = r.text.n ? wn_arena_memdup(arena, r.text.at, r.text.n * sizeof *r.text.at) : NULL;
        ret->ids = r.ids.n ? wn_arena_memdup(arena, r.ids.at, r.ids.n * sizeof *r.ids.at) : NULL;
        good = ret->text || ret->ids || nomem(&r);
    }
    wn_vec_done(&r.text);
    wn_vec_done(&r.ids);
    wn_vec_done(&r.id);
    return good ? WINNOW_OK : r.err->status;
}

/* ---- the answer ---- */

static void write_floats(const float *v, size_t dim, struct wn_buf *to)
{
    char number[32];
    wn_buf_char(to, '[');
    for (size_t i = 0; i < dim; i++) {
        if (i)
            wn_buf_char(to, ',');
        wn_buf_add(to, number, wn_json_print_f32(number, v[i]));
    }
    wn_buf_char(to, ']');
}

/** f32, little endian, as numpy.frombuffer() reads it in OpenAI's client. */
static void write_base64(const float *v, size_t dim, struct wn_buf *to)
{
    size_t bytes = dim * sizeof *v;
    wn_buf_char(to, '"');
    char *at = wn_buf_room(to, (bytes + 2) / 3 * 4 + 1);
    if (at)
        to->n += (size_t)EVP_EncodeBlock((unsigned char *)at, (const unsigned char *)v, (int)bytes);
    wn_buf_char(to, '"');
}

void wn_embed_write(const struct wn_embed *e, const float *vector, size_t dim, uint64_t tokens, struct wn_buf *to)
{
    wn_buf_text(to, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < e->n; i++) {
        wn_buf_printf(to, "%s{\"object\":\"embedding\",\"index\":%zu,\"embedding\":", i ? "," : "", i);
        if (e->base64)
            write_base64(vector + i * dim, dim, to);
        else
            write_floats(vector + i * dim, dim, to);
        wn_buf_char(to, '}');
    }
    wn_buf_text(to, "],\"model\":");
    wn_buf_json_string(to, e->model.p, e->model.n);
    wn_buf_printf(to, ",\"usage\":{\"prompt_tokens\":%" PRIu64 ",\"total_tokens\":%" PRIu64 "}}", tokens, tokens);
}
