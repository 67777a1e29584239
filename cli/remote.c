/* remote.c: HTTP calls by libcurl: JSON in, JSON out, files streamed. */
#include "cli/remote.h"

#include <argp.h>
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"
#include "cli/cli.h"

#define MAX_REPLY ((size_t)256 << 20) /* bytes of one reply */
#define MAX_TOKEN ((size_t)4096)      /* bytes of a token's file */

struct wn_remote {
    CURL *curl;
    char *server; /* without a slash at the end */
    char *token;  /* NULL: none */
    char *cacert; /* NULL: the system's */
    char text[CURL_ERROR_SIZE];
};

struct reply {
    char *at;
    size_t n, cap;
    bool too_large;
};

/* ---- options ---- */
enum { KEY_TOKEN_FILE = 0x700, KEY_CACERT };

static const struct argp_option options[] = {
    { "server", 's', "URL", 0, "where winnowd listens (default $WINNOW_SERVER, else http://127.0.0.1:8000)", 0 },
    { "token-file", KEY_TOKEN_FILE, "FILE", 0,
      "a file that holds the token to send (default: the token in $WINNOW_TOKEN)", 0 },
    { "cacert", KEY_CACERT, "FILE", 0, "certificates to trust with https (default $WINNOW_CACERT, else the system's)",
      0 },
    { 0 }
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct wn_remote_opts *o = state->input;
    const char **to = key == 's'              ? &o->server
                      : key == KEY_TOKEN_FILE ? &o->token_file
                      : key == KEY_CACERT     ? &o->cacert
                                              : NULL;
    if (!to)
        return ARGP_ERR_UNKNOWN;
    *to = arg;
    return 0;
}

const struct argp wn_remote_argp = { options, parse, NULL, NULL, NULL, NULL, NULL };

static const char *from_env(const char *name)
{
    const char *v = getenv(name);
    return v && *v ? v : NULL;
}

/* One line of printable characters, without the white space around it. */
static enum winnow_status take_token(const char *where, const char *text, char **ret, struct winnow_err *err)
{
    size_t n;
    text += strspn(text, " \t\r\n");
    for (n = strlen(text); n && strchr(" \t\r\n", text[n - 1]); n--)
        ;
    for (size_t i = 0; i < n; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return wn_fail(err, WINNOW_E_MALFORMED, "%s holds no token: one line without spaces is expected", where);
    if (!n)
        return wn_fail(err, WINNOW_E_MALFORMED, "%s holds no token: it is empty", where);
    *ret = strndup(text, n);
    return *ret ? WINNOW_OK : wn_fail(err, WINNOW_E_NOMEM, "%s", where);
}

static enum winnow_status find_token(const struct wn_remote_opts *o, char **ret, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) void *bytes = NULL;
    size_t n;
    const char *env = from_env("WINNOW_TOKEN");
    if (!o->token_file)
        return env ? take_token("$WINNOW_TOKEN", env, ret, err) : WINNOW_OK;
    WN_TRY(wn_file_read(o->token_file, MAX_TOKEN, &bytes, &n, err));
    return take_token(o->token_file, bytes, ret, err);
}

/* A token over clear text, to another machine. */
static void warn_clear(const struct wn_remote *r)
{
    char *host = NULL;
    CURLU *url = curl_url();
    if (r->token && strncmp(r->server, "http://", 7) == 0 && url &&
        curl_url_set(url, CURLUPART_URL, r->server, 0) == CURLUE_OK &&
        curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK && strcmp(host, "localhost") != 0 &&
        strcmp(host, "[::1]") != 0 && strncmp(host, "127.", 4) != 0)
        fprintf(stderr, "winnow: warning: the token goes to %s in clear text; https:// would hide it\n", host);
    curl_free(host);
    curl_url_cleanup(url);
}

static void remote_freep(struct wn_remote **r)
{
    wn_remote_free(*r);
}

enum winnow_status wn_remote_new(const struct wn_remote_opts *o, struct wn_remote **ret, struct winnow_err *err)
{
    const char *env = from_env("WINNOW_SERVER"), *server = o->server ? o->server : env ? env : "http://127.0.0.1:8000";
    const char *cacert = o->cacert ? o->cacert : from_env("WINNOW_CACERT");
    size_t n = strlen(server);
    if (strncmp(server, "http://", 7) != 0 && strncmp(server, "https://", 8) != 0)
        return wn_fail(err, WINNOW_E_MALFORMED, "server '%s' does not start with http:// or https://", server);
    while (n && server[n - 1] == '/')
        n--;
    WN_CLEANUP(remote_freep) struct wn_remote *r = calloc(1, sizeof *r);
    if (!r || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(r->server = wn_asprintf("%.*s", (int)n, server)) ||
        !(r->curl = curl_easy_init()) || (cacert && !(r->cacert = wn_strdup(cacert))))
        return wn_fail(err, WINNOW_E_NOMEM, "server '%s'", server);
    WN_TRY(find_token(o, &r->token, err));
    warn_clear(r);
    *ret = WN_TAKE(r);
    return WINNOW_OK;
}

void wn_remote_free(struct wn_remote *r)
{
    if (r) {
        curl_easy_cleanup(r->curl);
        free(r->server);
        free(r->token);
        free(r->cacert);
        free(r);
    }
}

static bool unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-._~", c);
}

char *wn_remote_path(const char *fmt, const char *const *names)
{
    size_t room = strlen(fmt) + 1;
    for (const char *const *s = names; *s; s++)
        room += 3 * strlen(*s);
    char *path = malloc(room), *p = path;
    for (; path && *fmt; fmt++) {
        if (fmt[0] != '%' || fmt[1] != 's') {
            *p++ = *fmt;
            continue;
        }
        for (const char *c = *names++; *c; c++)
            p += unreserved(*c) ? (*p = *c, 1) : sprintf(p, "%%%02X", (unsigned char)*c);
        fmt++;
    }
    if (path)
        *p = 0;
    return path;
}

static size_t on_body(char *bytes, size_t size, size_t n, void *arg)
{
    struct reply *r = arg;
    n *= size;
    if (n > MAX_REPLY - r->n) {
        r->too_large = true;
        return 0;
    }
    if (r->n + n + 1 > r->cap) {
        size_t cap = WN_MAX(2 * r->cap, r->n + n + 1);
        char *more = realloc(r->at, cap);
        if (!more)
            return 0;
        r->at = more;
        r->cap = cap;
    }
    memcpy(r->at + r->n, bytes, n);
    r->n += n;
    r->at[r->n] = 0;
    return n;
}

static enum winnow_status status_of(long code)
{
    switch (code) {
    case 400:
    case 422:
        return WINNOW_E_MALFORMED;
    case 401:
    case 403:
        return WINNOW_E_DENIED;
    case 404:
    case 405:
        return WINNOW_E_NOT_FOUND;
    case 409:
        return WINNOW_E_CONFLICT;
    case 412:
        return WINNOW_E_PRECONDITION;
    case 413:
        return WINNOW_E_TOO_LARGE;
    case 429:
        return WINNOW_E_OVERLOAD;
    case 501:
        return WINNOW_E_UNSUPPORTED;
    case 503:
        return WINNOW_E_UNAVAILABLE;
    case 504:
        return WINNOW_E_DEADLINE;
    case 507:
        return WINNOW_E_NO_SPACE;
    default:
        return WINNOW_E_INTERNAL;
    }
}

/* {"error": "text"} or {"error": {"message": "text"}}. */
static const char *message_of(const json_t *json)
{
    const json_t *error = json_object_get(json, "error");
    return json_is_string(error) ? json_string_value(error) : wn_json_str(error, "message");
}

static const char *hint_for(CURLcode code)
{
    if (code == CURLE_PEER_FAILED_VERIFICATION)
        return " (--cacert FILE or WINNOW_CACERT says whom to trust)";
    return code == CURLE_SSL_CONNECT_ERROR ? " (is it a port without TLS? Then http://)" : "";
}

static enum winnow_status outcome(struct wn_remote *r, const char *path, CURLcode code, const struct reply *reply,
                                  json_t **ret, struct winnow_err *err)
{
    long http = 0;
    json_error_t bad;
    if (reply->too_large)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "%s%s answers more than %zu bytes", r->server, path, MAX_REPLY);
    curl_easy_getinfo(r->curl, CURLINFO_RESPONSE_CODE, &http);
    if (code != CURLE_OK && http < 400) /* a refusal may come before the whole body was sent: then it counts */
        return wn_fail(err, WINNOW_E_UNAVAILABLE, "%s: %s%s", r->server, *r->text ? r->text : curl_easy_strerror(code),
                       hint_for(code));
    json_t *json = reply->n ? json_loadb(reply->at, reply->n, 0, &bad) : NULL;
    if (http >= 200 && http < 300) {
        if (reply->n && !json)
            return wn_fail(err, WINNOW_E_MALFORMED, "%s%s answers what is no JSON: %s", r->server, path, bad.text);
        *ret = json;
        return WINNOW_OK;
    }
    const char *text = message_of(json);
    const char *hint = http == 401 ? " (--token-file FILE or WINNOW_TOKEN)" : "";
    enum winnow_status status = *text ? wn_fail(err, status_of(http), "%s%s", text, hint)
                                      : wn_fail(err, status_of(http), "%s%s answers %ld", r->server, path, http);
    json_decref(json);
    return status;
}

static enum winnow_status perform(struct wn_remote *r, const char *method, const char *path, struct curl_slist *headers,
                                  json_t **ret, struct winnow_err *err)
{
    struct reply reply = { 0 };
    WN_CLEANUP(wn_freep) char *url = wn_asprintf("%s%s", r->server, path);
    if (!url)
        return wn_fail(err, WINNOW_E_NOMEM, "%s", path);
    r->text[0] = 0;
    curl_easy_setopt(r->curl, CURLOPT_URL, url);
    curl_easy_setopt(r->curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(r->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(r->curl, CURLOPT_USERAGENT, "winnow/" WN_VERSION);
    curl_easy_setopt(r->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(r->curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (r->cacert)
        curl_easy_setopt(r->curl, CURLOPT_CAINFO, r->cacert);
    if (r->token) {
        curl_easy_setopt(r->curl, CURLOPT_HTTPAUTH, (long)CURLAUTH_BEARER);
        curl_easy_setopt(r->curl, CURLOPT_XOAUTH2_BEARER, r->token);
    }
    curl_easy_setopt(r->curl, CURLOPT_CONNECTTIMEOUT, 10L);
    curl_easy_setopt(r->curl, CURLOPT_ERRORBUFFER, r->text);
    curl_easy_setopt(r->curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(r->curl, CURLOPT_WRITEDATA, &reply);
    CURLcode code = curl_easy_perform(r->curl);
    enum winnow_status status = outcome(r, path, code, &reply, ret, err);
    free(reply.at);
    return status;
}

enum winnow_status wn_remote_call(struct wn_remote *r, const char *method, const char *path, json_t *body, json_t **ret,
                                  struct winnow_err *err)
{
    WN_CLEANUP(wn_freep)
    char *text = body ? json_dumps(body, JSON_COMPACT | JSON_REAL_PRECISION(WN_JSON_DIGITS)) : NULL;
    bool lost = body && !text;
    json_decref(body);
    struct curl_slist *headers = text ? curl_slist_append(NULL, "Content-Type: application/json") : NULL;
    if (lost || (text && !headers))
        return wn_fail(err, WINNOW_E_NOMEM, "%s", path);
    curl_easy_reset(r->curl);
    if (text || strcmp(method, "POST") == 0) {
        curl_easy_setopt(r->curl, CURLOPT_POST, 1L);
        curl_easy_setopt(r->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)(text ? strlen(text) : 0));
        curl_easy_setopt(r->curl, CURLOPT_POSTFIELDS, text ? text : "");
    }
    enum winnow_status status = perform(r, method, path, headers, ret, err);
    curl_slist_free_all(headers);
    return status;
}

/* ---- files ---- */

struct sending {
    int fd;
    uint64_t total;
    wn_remote_sent_fn *fn;
    void *arg;
    int failed; /* errno */
};

static size_t on_read(char *to, size_t size, size_t n, void *arg)
{
    struct sending *s = arg;
    ssize_t got;
    do
        got = read(s->fd, to, size * n);
    while (got < 0 && errno == EINTR);
    if (got < 0) {
        s->failed = errno;
        return CURL_READFUNC_ABORT;
    }
    return (size_t)got;
}

static int on_progress(void *arg, curl_off_t down_total, curl_off_t down, curl_off_t up_total, curl_off_t up)
{
    struct sending *s = arg;
    if (s->fn)
        s->fn(s->arg, (uint64_t)up, s->total);
    return 0;
}

enum winnow_status wn_remote_send_file(struct wn_remote *r, const char *method, const char *path, const char *file,
                                       wn_remote_sent_fn *sent, void *arg, json_t **ret, struct winnow_err *err)
{
    struct stat st;
    WN_CLEANUP(wn_closep) int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0)
        return wn_fail_errno(err, errno, "%s", file);
    if (!S_ISREG(st.st_mode))
        return wn_fail(err, WINNOW_E_MALFORMED, "%s is not a regular file", file);
    struct sending s = { .fd = fd, .total = (uint64_t)st.st_size, .fn = sent, .arg = arg };
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/octet-stream");
    struct curl_slist *both = headers ? curl_slist_append(headers, "Expect:") : NULL;
    if (!both) {
        curl_slist_free_all(headers);
        return wn_fail(err, WINNOW_E_NOMEM, "%s", file);
    }
    curl_easy_reset(r->curl);
    curl_easy_setopt(r->curl, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(r->curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)st.st_size);
    curl_easy_setopt(r->curl, CURLOPT_READFUNCTION, on_read);
    curl_easy_setopt(r->curl, CURLOPT_READDATA, &s);
    curl_easy_setopt(r->curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(r->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(r->curl, CURLOPT_XFERINFODATA, &s);
    enum winnow_status status = perform(r, method, path, both, ret, err);
    curl_slist_free_all(both);
    return s.failed ? wn_fail_errno(err, s.failed, "reading %s", file) : status;
}

/* ---- JSON ---- */

enum winnow_status wn_remote_do(const struct wn_remote_command *command, const struct wn_remote_opts *opts,
                                const char *json, const void *args, json_t **ret_reply, struct winnow_err *err)
{
    struct wn_remote *r = NULL;
    json_t *reply = NULL;
    enum winnow_status status = wn_remote_new(opts, &r, err);
    if (status == WINNOW_OK)
        status = command->act(r, args, &reply, err);
    if (status == WINNOW_OK && (!json || strcmp(json, "-") != 0))
        command->print(args, reply);
    if (status == WINNOW_OK && json)
        status = wn_cli_write_json(json, reply ? json_incref(reply) : json_object(), err);
    wn_remote_free(r);
    if (status != WINNOW_OK) {
        json_decref(reply);
        reply = NULL;
    }
    *ret_reply = reply;
    return status;
}

const char *wn_json_str(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "";
}

double wn_json_num(const json_t *object, const char *key, double def)
{
    const json_t *v = json_object_get(object, key);
    return json_is_number(v) ? json_number_value(v) : def;
}
