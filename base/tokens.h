/* tokens.h: bearer tokens, and the file that winnowd knows them by.
 *
 * A token is "wnt_" and 43 characters of base64url: 256 random bits, made by `winnow token create` and shown once. The
 * file holds SHA-256 of that text. A salt or a slow function would protect guessable secrets against whoever reads the
 * file; 256 random bits cannot be guessed at any speed, so neither would add anything, and a request costs one hash.
 * Secrets of another form are never accepted, so nobody can put a guessable one there.
 *
 * One token a line, `#` begins a comment:
 *
 *     ID  sha256:HEX  SCOPE[,SCOPE…]  [models=PATTERN[,PATTERN…]]  [expires=2027-01-31[T12:00:00Z]]
 *
 * ID names who it belongs to, in logs and errors: [A-Za-z0-9._-], at most 64. A pattern is a model's name in which `*`
 * stands for any text; without models= every model. A date ends at its beginning, UTC. */
#ifndef WN_TOKENS_H
#define WN_TOKENS_H

#include "base/digest.h"

/** What a caller may be allowed to do; a token's scopes imply nothing beyond themselves. */
enum wn_scope { WN_SCOPE_none, WN_SCOPE_infer, WN_SCOPE_upload, WN_SCOPE_admin, WN_SCOPE_metrics };
#define WN_N_SCOPES 5
const char *wn_scope_name(enum wn_scope scope);

enum {
    WN_TOKEN_LEN = 47,         /* "wnt_" and 43 characters */
    WN_TOKEN_ID_MAX = 64,      /* bytes */
    WN_TOKENS_MAX = 4096,      /* in a file */
    WN_TOKEN_MODELS_MAX = 64,  /* patterns of one token */
    WN_TOKEN_LINE_MAX = 16384, /* bytes */
};
#define WN_TOKENS_FILE_MAX ((size_t)4 << 20)

struct wn_token {
    const char *id;
    struct wn_sha256 hash;
    unsigned scopes;            /* bits: 1 << enum wn_scope */
    const char *const *pattern; /* [n_patterns] */
    size_t n_patterns;          /* 0: every model */
    int64_t expires_s;          /* seconds since 1970; 0: never */
};

/** All tokens of a file; immutable, counted. Any thread. */
struct wn_tokens;

/** Read the file `path`, or its bytes (`file` appears in messages).
 *  @return E_MALFORMED: err reads "FILE:LINE: what is wrong"; E_TOO_LARGE; also as wn_file_read() */
WINNOW_MUST_USE enum winnow_status wn_tokens_read(const char *path, struct wn_tokens **ret, struct winnow_err *err);
WINNOW_MUST_USE enum winnow_status wn_tokens_parse(const void *bytes, size_t n, const char *file,
                                                   struct wn_tokens **ret, struct winnow_err *err);
struct wn_tokens *wn_tokens_ref(struct wn_tokens *t); /* NULL is fine */
void wn_tokens_unref(struct wn_tokens *t);            /* NULL is fine */
size_t wn_tokens_count(const struct wn_tokens *t);
/** The file has nothing at all in it, no comment either: more likely cut short or not written yet than meant so. */
bool wn_tokens_blank(const struct wn_tokens *t);
const struct wn_token *wn_tokens_at(const struct wn_tokens *t, size_t i);

/** The token whose secret this is, expired or not; NULL: none. Takes the same time whichever it is, and when it is
 *  none: only the secret's form shows in the time. */
const struct wn_token *wn_tokens_find(const struct wn_tokens *t, const char *secret, size_t n);
/** The token with the id and hash of `old`, which may be of an earlier reading of the file; NULL: it is there no more.
 */
const struct wn_token *wn_tokens_again(const struct wn_tokens *t, const struct wn_token *old);
static inline bool wn_token_expired(const struct wn_token *t, int64_t now_s)
{
    return t->expires_s && now_s >= t->expires_s;
}
/** For the log: true once for each token of `t`. */
bool wn_tokens_first_time(const struct wn_tokens *t, const struct wn_token *token);
bool wn_token_may_use(const struct wn_token *t, const char *model);

/** A new secret, NUL-terminated, from the kernel's random numbers. E_IO when there are none. */
WINNOW_MUST_USE enum winnow_status wn_token_new(char ret[WN_TOKEN_LEN + 1], struct winnow_err *err);
/** The line for the file, with a line feed: malloc'ed, the caller frees. The values are checked as a file's are.
 *  @param scopes, models, expires  as they are written in the file; models and expires may be NULL
 *  @return E_MALFORMED: err says which value is wrong */
WINNOW_MUST_USE enum winnow_status wn_token_line(const char *id, const char *secret, const char *scopes,
                                                 const char *models, const char *expires, char **ret,
                                                 struct winnow_err *err);

#endif
