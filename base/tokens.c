/* tokens.c: see tokens.h. A file is read line by line into one arena; nothing of it is trusted to be short or few. */
#include "base/tokens.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include "base/arena.h"
#include "base/file.h"

#define PREFIX    "wnt_"
#define BASE64URL "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
#define NAMED_BY  BASE64URL "."

struct wn_tokens {
    unsigned magic;
#define WN_TOKENS_MAGIC 0x70ce9517u
    atomic_uint refs;
    struct wn_arena arena;
    struct wn_token *at;
    size_t n, cap;
    atomic_bool *told; /* [n] */
    bool blank;
};

static const char *const scope_names[WN_N_SCOPES] = { "none", "infer", "upload", "admin", "metrics" };

const char *wn_scope_name(enum wn_scope scope)
{
    return scope_names[scope];
}

/* ---- values ---- */
static bool only(const char *s, size_t n, const char *allowed)
{
    for (size_t i = 0; i < n; i++)
        if (!s[i] || !strchr(allowed, s[i]))
            return false;
    return true;
}

static bool id_valid(const char *s, size_t n)
{
    return n && n <= WN_TOKEN_ID_MAX && only(s, n, NAMED_BY);
}

static enum winnow_status read_scopes(const char *s, size_t n, unsigned *ret, struct winnow_err *err)
{
    *ret = 0;
    for (size_t at = 0, len; at <= n; at += len + 1) {
        const char *comma = memchr(s + at, ',', n - at);
        len = comma ? (size_t)(comma - s) - at : n - at;
        unsigned found = 0;
        for (unsigned i = 1; i < WN_N_SCOPES && !found; i++)
            found = strlen(scope_names[i]) == len && memcmp(scope_names[i], s + at, len) == 0 ? i : 0;
        if (!found)
            return wn_fail(err, WINNOW_E_MALFORMED, "'%.*s' is no scope: infer, upload, admin or metrics",
                           (int)WN_MIN(len, (size_t)40), s + at);
        *ret |= 1u << found;
    }
    return WINNOW_OK;
}

/* `digits` digits at *p as a number; moves *p. */
static bool take_number(const char **p, unsigned digits, int *ret)
{
    *ret = 0;
    for (unsigned i = 0; i < digits; i++, (*p)++) {
        if (**p < '0' || **p > '9')
            return false;
        *ret = *ret * 10 + (**p - '0');
    }
    return true;
}

static bool take_char(const char **p, char c)
{
    return *(*p)++ == c;
}

/* 2027-01-31 or 2027-01-31T12:00:00Z; false: neither. */
static bool parse_time(const char *s, int64_t *ret_s)
{
    struct tm tm = { 0 }, back;
    const char *p = s;
    if (!take_number(&p, 4, &tm.tm_year) || !take_char(&p, '-') || !take_number(&p, 2, &tm.tm_mon) ||
        !take_char(&p, '-') || !take_number(&p, 2, &tm.tm_mday))
        return false;
    if (*p && (!take_char(&p, 'T') || !take_number(&p, 2, &tm.tm_hour) || !take_char(&p, ':') ||
               !take_number(&p, 2, &tm.tm_min) || !take_char(&p, ':') || !take_number(&p, 2, &tm.tm_sec) ||
               !take_char(&p, 'Z') || *p))
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    back = tm;
    time_t t = timegm(&back); /* moves what is out of range: 31 February */
    *ret_s = (int64_t)t;
    return t > 0 && back.tm_mon == tm.tm_mon && back.tm_mday == tm.tm_mday && back.tm_hour == tm.tm_hour &&
           back.tm_min == tm.tm_min && back.tm_sec == tm.tm_sec;
}

static enum winnow_status read_expiry(const char *s, size_t n, int64_t *ret_s, struct winnow_err *err)
{
    char text[32];
    size_t len = WN_MIN(n, sizeof text - 1);
    memcpy(text, s, len);
    text[len] = '\0';
    if (len != n || !parse_time(text, ret_s))
        return wn_fail(err, WINNOW_E_MALFORMED,
                       "expires: '%s' is not a time such as 2027-01-31 or 2027-01-31T12:00:00Z", text);
    return WINNOW_OK;
}

static enum winnow_status read_models(struct wn_arena *arena, const char *s, size_t n, struct wn_token *t,
                                      struct winnow_err *err)
{
    const char *list[WN_TOKEN_MODELS_MAX];
    for (size_t at = 0, len; at <= n; at += len + 1) {
        const char *comma = memchr(s + at, ',', n - at);
        len = comma ? (size_t)(comma - s) - at : n - at;
        if (t->n_patterns == WN_TOKEN_MODELS_MAX)
            return wn_fail(err, WINNOW_E_TOO_LARGE, "models: more than %d patterns", WN_TOKEN_MODELS_MAX);
        if (!len || len > 255 || !only(s + at, len, NAMED_BY "*"))
            return wn_fail(err, WINNOW_E_MALFORMED, "models: '%.*s' is no name of a model, with or without *",
                           (int)WN_MIN(len, (size_t)80), s + at);
        list[t->n_patterns] = wn_arena_strndup(arena, s + at, len);
        if (!list[t->n_patterns++])
            return wn_fail(err, WINNOW_E_NOMEM, "tokens");
    }
    t->pattern = wn_arena_memdup(arena, list, t->n_patterns * sizeof *list);
    return t->pattern ? WINNOW_OK : wn_fail(err, WINNOW_E_NOMEM, "tokens");
}

/* ---- a line ---- */
struct words {
    const char *p, *end;
};

/* The next word; its length 0 at the end. */
static const char *next_word(struct words *w, size_t *ret_n)
{
    while (w->p < w->end && (*w->p == ' ' || *w->p == '\t'))
        w->p++;
    const char *start = w->p;
    while (w->p < w->end && *w->p != ' ' && *w->p != '\t')
        w->p++;
    *ret_n = (size_t)(w->p - start);
    return start;
}

static enum winnow_status read_extra(struct wn_arena *arena, const char *word, size_t n, struct wn_token *t,
                                     struct winnow_err *err)
{
    if (n > 7 && memcmp(word, "models=", 7) == 0 && !t->n_patterns)
        return read_models(arena, word + 7, n - 7, t, err);
    if (n > 8 && memcmp(word, "expires=", 8) == 0 && !t->expires_s)
        return read_expiry(word + 8, n - 8, &t->expires_s, err);
    return wn_fail(err, WINNOW_E_MALFORMED, "'%.*s': expected models=… or expires=…, each once",
                   (int)WN_MIN(n, (size_t)60), word);
}

/* [p, end) holds a token: no comment, no line feed. */
static enum winnow_status read_line(struct wn_arena *arena, const char *p, const char *end, struct wn_token *t,
                                    struct winnow_err *err)
{
    struct words w = { p, end };
    char hash[WN_DIGEST_TEXT];
    size_t n;
    const char *word = next_word(&w, &n);
    if (!id_valid(word, n))
        return wn_fail(err, WINNOW_E_MALFORMED, "'%.*s' is no id: 1 to %d of A-Z a-z 0-9 . _ -",
                       (int)WN_MIN(n, (size_t)80), word, WN_TOKEN_ID_MAX);
    t->id = wn_arena_strndup(arena, word, n);
    if (!t->id)
        return wn_fail(err, WINNOW_E_NOMEM, "tokens");
    word = next_word(&w, &n);
    if (n == sizeof hash - 1)
        memcpy(hash, word, n);
    hash[sizeof hash - 1] = '\0';
    if (n != sizeof hash - 1 || strncmp(hash, "sha256:", 7) != 0 || !wn_digest_parse(hash, &t->hash))
        return wn_fail(err, WINNOW_E_MALFORMED, "token '%s': expected sha256: and 64 hex digits%s", t->id,
                       n >= 4 && memcmp(word, PREFIX, 4) == 0 ? ", not the token itself" : "");
    word = next_word(&w, &n);
    if (!n)
        return wn_fail(err, WINNOW_E_MALFORMED, "token '%s' has no scopes", t->id);
    WN_TRY(read_scopes(word, n, &t->scopes, err));
    while ((word = next_word(&w, &n)), n)
        WN_TRY(read_extra(arena, word, n, t, err));
    return WINNOW_OK;
}

/* ---- a file ---- */
static enum winnow_status add(struct wn_tokens *all, const struct wn_token *t, struct winnow_err *err)
{
    for (size_t i = 0; i < all->n; i++) {
        if (strcmp(all->at[i].id, t->id) == 0)
            return wn_fail(err, WINNOW_E_MALFORMED,
                           "there is a token '%s' already: revoke that one first, or choose another id", t->id);
        if (wn_digest_equal(&all->at[i].hash, &t->hash))
            return wn_fail(err, WINNOW_E_MALFORMED, "token '%s' has the hash of token '%s' before it", t->id,
                           all->at[i].id);
    }
    if (all->n == WN_TOKENS_MAX)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "more than %d tokens", WN_TOKENS_MAX);
    if (all->n == all->cap) {
        size_t cap = all->cap ? all->cap * 2 : 16;
        struct wn_token *more = realloc(all->at, cap * sizeof *more);
        if (!more)
            return wn_fail(err, WINNOW_E_NOMEM, "tokens");
        all->at = more;
        all->cap = cap;
    }
    all->at[all->n++] = *t;
    return WINNOW_OK;
}

static enum winnow_status take_line(struct wn_tokens *all, const char *p, const char *end, struct winnow_err *err)
{
    const char *comment = memchr(p, '#', (size_t)(end - p));
    end = comment ? comment : end;
    if (end > p && end[-1] == '\r')
        end--;
    while (p < end && (*p == ' ' || *p == '\t'))
        p++;
    if (p == end)
        return WINNOW_OK;
    for (const char *c = p; c < end; c++)
        if (*c != '\t' && (*c < ' ' || *c > '~'))
            return wn_fail(err, WINNOW_E_MALFORMED, "a byte that is no printable ASCII");
    if (end - p > WN_TOKEN_LINE_MAX)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "a line of more than %d bytes", WN_TOKEN_LINE_MAX);
    struct wn_token t = { 0 };
    WN_TRY(read_line(&all->arena, p, end, &t, err));
    return add(all, &t, err);
}

static bool is_blank(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != ' ' && p[i] != '\t' && p[i] != '\r' && p[i] != '\n')
            return false;
    return true;
}

static void unrefp(struct wn_tokens **t)
{
    wn_tokens_unref(*t);
}

enum winnow_status wn_tokens_parse(const void *bytes, size_t n, const char *file, struct wn_tokens **ret,
                                   struct winnow_err *err)
{
    if (n > WN_TOKENS_FILE_MAX)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "%s: more than %zu bytes", file, WN_TOKENS_FILE_MAX);
    WN_CLEANUP(unrefp) struct wn_tokens *all = calloc(1, sizeof *all);
    if (!all)
        return wn_fail(err, WINNOW_E_NOMEM, "%s", file);
    all->magic = WN_TOKENS_MAGIC;
    atomic_init(&all->refs, 1);
    wn_arena_init(&all->arena, 4 * WN_TOKENS_FILE_MAX);
    const char *p = bytes, *end = p + n;
    for (unsigned line = 1; p < end; line++) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        stop = stop ? stop : end;
        enum winnow_status s = take_line(all, p, stop, err);
        if (s != WINNOW_OK)
            return wn_fail_at(err, s, "%s:%u", file, line);
        p = stop + (stop < end);
    }
    all->blank = is_blank(bytes, n);
    all->told = calloc(WN_MAX(all->n, (size_t)1), sizeof *all->told);
    if (!all->told)
        return wn_fail(err, WINNOW_E_NOMEM, "%s", file);
    *ret = WN_TAKE(all);
    return WINNOW_OK;
}

enum winnow_status wn_tokens_read(const char *path, struct wn_tokens **ret, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) void *bytes = NULL;
    size_t n;
    WN_TRY(wn_file_read(path, WN_TOKENS_FILE_MAX, &bytes, &n, err));
    return wn_tokens_parse(bytes, n, path, ret, err);
}

struct wn_tokens *wn_tokens_ref(struct wn_tokens *t)
{
    if (t)
        atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
    return t;
}

void wn_tokens_unref(struct wn_tokens *t)
{
    if (!t)
        return;
    WN_CHECK_MAGIC(t, WN_TOKENS_MAGIC);
    if (atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) != 1)
        return;
    wn_arena_done(&t->arena);
    free(t->at);
    free(t->told);
    t->magic = 0;
    free(t);
}

size_t wn_tokens_count(const struct wn_tokens *t)
{
    return t->n;
}

bool wn_tokens_blank(const struct wn_tokens *t)
{
    return t->blank;
}

bool wn_tokens_first_time(const struct wn_tokens *t, const struct wn_token *token)
{
    return !atomic_exchange(&t->told[token - t->at], true);
}

const struct wn_token *wn_tokens_at(const struct wn_tokens *t, size_t i)
{
    return &t->at[i];
}

/* ---- asking ---- */
const struct wn_token *wn_tokens_find(const struct wn_tokens *t, const char *secret, size_t n)
{
    struct wn_sha256 hash;
    size_t found = t->n;
    if (n != WN_TOKEN_LEN || memcmp(secret, PREFIX, 4) != 0 || !only(secret + 4, n - 4, BASE64URL) ||
        !wn_sha256(secret, n, &hash))
        return NULL;
    for (size_t i = 0; i < t->n; i++) { /* all of them, each compared whole */
        size_t same = CRYPTO_memcmp(t->at[i].hash.b, hash.b, sizeof hash.b) == 0;
        found = (found & (same - 1)) | (i & ~(same - 1));
    }
    return found < t->n ? &t->at[found] : NULL;
}

const struct wn_token *wn_tokens_again(const struct wn_tokens *t, const struct wn_token *old)
{
    for (size_t i = 0; i < t->n; i++)
        if (strcmp(t->at[i].id, old->id) == 0 && wn_digest_equal(&t->at[i].hash, &old->hash))
            return &t->at[i];
    return NULL;
}

/* `*` is any text. Goes back to the last star only: linear in both but for a factor of the text after it. */
static bool matches(const char *pattern, const char *s)
{
    const char *star = NULL, *from = NULL;
    while (*s) {
        if (*pattern == '*') {
            star = pattern++;
            from = s;
        } else if (*pattern == *s) {
            pattern++;
            s++;
        } else if (star) {
            pattern = star + 1;
            s = ++from;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return !*pattern;
}

bool wn_token_may_use(const struct wn_token *t, const char *model)
{
    for (size_t i = 0; i < t->n_patterns; i++)
        if (matches(t->pattern[i], model))
            return true;
    return !t->n_patterns;
}

/* ---- making ---- */
enum winnow_status wn_token_new(char ret[WN_TOKEN_LEN + 1], struct winnow_err *err)
{
    unsigned char random[33] = { 0 }, text[45]; /* 32 bytes; a 33rd keeps '=' away */
    if (getrandom(random, 32, 0) != 32)
        return wn_fail(err, WINNOW_E_IO, "the kernel has no random numbers");
    EVP_EncodeBlock(text, random, sizeof random);
    memcpy(ret, PREFIX, 4);
    for (size_t i = 0; i < WN_TOKEN_LEN - 4; i++)
        ret[4 + i] = text[i] == '+' ? '-' : text[i] == '/' ? '_' : (char)text[i];
    ret[WN_TOKEN_LEN] = '\0';
    OPENSSL_cleanse(random, sizeof random);
    OPENSSL_cleanse(text, sizeof text);
    return WINNOW_OK;
}

enum winnow_status wn_token_line(const char *id, const char *secret, const char *scopes, const char *models,
                                 const char *expires, char **ret, struct winnow_err *err)
{
    struct wn_sha256 hash;
    char text[WN_DIGEST_TEXT];
    if (!id_valid(id, strlen(id)))
        return wn_fail(err, WINNOW_E_MALFORMED, "'%.80s' is no id: 1 to %d of A-Z a-z 0-9 . _ -", id, WN_TOKEN_ID_MAX);
    if (!wn_sha256(secret, strlen(secret), &hash))
        return wn_fail(err, WINNOW_E_NOMEM, "token");
    WN_CLEANUP(wn_freep)
    char *line = wn_asprintf("%s %s %s%s%s%s%s\n", id, wn_digest_text(&hash, text), scopes, models ? " models=" : "",
                             models ? models : "", expires ? " expires=" : "", expires ? expires : "");
    if (!line)
        return wn_fail(err, WINNOW_E_NOMEM, "token");
    WN_CLEANUP(unrefp) struct wn_tokens *check = NULL;
    struct winnow_err why = { 0 };
    enum winnow_status s = wn_tokens_parse(line, strlen(line), "", &check, &why);
    if (s != WINNOW_OK || wn_tokens_count(check) != 1) /* "#" or a line feed in a value */
        return wn_fail(err, WINNOW_E_MALFORMED, "%s",
                       s != WINNOW_OK ? why.msg + strlen(":1: ") : "a value that cannot stand in a line");
    *ret = WN_TAKE(line);
    return WINNOW_OK;
}
