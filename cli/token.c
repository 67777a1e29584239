/* token.c: `winnow token`: the file of tokens that a winnowd asks for (base/tokens.h). Works on the file alone. */
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "base/file.h"
#include "base/tokens.h"
#include "cli/cli.h"

struct args {
    const char *file, *json, *scopes, *models, *expires, *action, *id;
};

enum { KEY_SCOPES = 256, KEY_MODELS, KEY_EXPIRES };

static const struct argp_option options[] = {
    { "file", 'f', "FILE", 0, "the file of tokens, auth.tokens_file of winnowd.yaml", 0 },
    { "json", 'j', "FILE", 0, "list: write it as JSON (-: standard output)", 0 },
    { NULL, 0, NULL, 0, "create:", 1 },
    { "scopes", KEY_SCOPES, "LIST", 0, "infer (the default), upload, admin, metrics; with commas between", 1 },
    { "models", KEY_MODELS, "LIST", 0, "only these models; * stands for any text (default: every model)", 1 },
    { "expires", KEY_EXPIRES, "TIME", 0, "2027-01-31 or 2027-01-31T12:00:00Z (default: never)", 1 },
    { 0 }
};

static const char doc[] =
    "The tokens a winnowd asks for. The file holds their SHA-256: a token is shown once, when it is made.\v"
    "  create ID      make one and add it to --file; without --file print the line for it. The token itself is the\n"
    "                 last line of standard output\n"
    "  list           ids, scopes, models, ends (the default)\n"
    "  revoke ID      take it out\n"
    "\n"
    "winnowd reads the file again when it is told to reload (systemctl reload winnowd).\n\n" WN_CLI_EXAMPLES(
        "  winnow token create ci --scopes infer --models 'mine*' --file tokens\n"
        "  winnow token list --file tokens\n");

static void at_end(struct args *a, struct argp_state *state)
{
    bool list = !a->action || strcmp(a->action, "list") == 0, create = !list && strcmp(a->action, "create") == 0;
    if (!list && !create && strcmp(a->action, "revoke") != 0)
        argp_error(state, "'%s' is no action", a->action);
    if (list == (a->id != NULL))
        argp_error(state, list ? "list wants no ID" : "%s wants an ID", a->action);
    if (!create && !a->file)
        argp_error(state, "%s wants --file", list ? "list" : a->action);
    if (!create && (a->scopes || a->models || a->expires))
        argp_error(state, "--scopes, --models and --expires are for create");
    a->action = list ? "list" : a->action;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct args *a = state->input;
    const char **to = key == 'f'           ? &a->file
                      : key == 'j'         ? &a->json
                      : key == KEY_SCOPES  ? &a->scopes
                      : key == KEY_MODELS  ? &a->models
                      : key == KEY_EXPIRES ? &a->expires
                                           : NULL;
    if (key == ARGP_KEY_ARG)
        to = !a->action ? &a->action : !a->id ? &a->id : NULL;
    if (key == ARGP_KEY_ARG && !to)
        argp_usage(state);
    if (to)
        *to = arg;
    else if (key == ARGP_KEY_END)
        at_end(a, state);
    else
        return ARGP_ERR_UNKNOWN;
    return 0;
}

/* ---- the file ---- */
/** Of a file that is new or was left without a token; winnowd takes one that is quite empty for an accident. */
#define FILE_HEAD "# id  hash  scopes  [models=…]  [expires=…]: winnow-token(1)\n"

static void unrefp(struct wn_tokens **t)
{
    wn_tokens_unref(*t);
}

/** Replace the file's bytes; its owner and mode stay. A new one is the owner's and the group's to read. */
static enum winnow_status write_file(const char *path, const char *bytes, size_t n, struct winnow_err *err)
{
    struct stat st;
    bool there = stat(path, &st) == 0;
    mode_t old = umask(there ? 0777 & ~st.st_mode : 0137);
    enum winnow_status s = wn_file_write_durable(path, bytes, n, err);
    umask(old);
    if (s == WINNOW_OK && there && chown(path, st.st_uid, st.st_gid) < 0 && errno != EPERM)
        return wn_fail_errno(err, errno, "%s: owner", path);
    return s;
}

static enum winnow_status check_end(const char *line, const char *expires, struct winnow_err *err)
{
    WN_CLEANUP(unrefp) struct wn_tokens *one = NULL;
    WN_TRY(wn_tokens_parse(line, strlen(line), "token", &one, err));
    return wn_token_expired(wn_tokens_at(one, 0), time(NULL))
               ? wn_fail(err, WINNOW_E_MALFORMED, "expires: %s is in the past", expires)
               : WINNOW_OK;
}

static enum winnow_status make_token(const struct args *a, struct winnow_err *err)
{
    char secret[WN_TOKEN_LEN + 1];
    WN_CLEANUP(wn_freep) char *line = NULL;
    WN_CLEANUP(wn_freep) void *old = NULL;
    size_t n = 0;
    WN_TRY(wn_token_new(secret, err));
    WN_TRY(wn_token_line(a->id, secret, a->scopes ? a->scopes : "infer", a->models, a->expires, &line, err));
    WN_TRY(check_end(line, a->expires, err));
    if (!a->file) {
        printf("%s%s\n", line, secret);
        return WINNOW_OK;
    }
    enum winnow_status s = wn_file_read(a->file, WN_TOKENS_FILE_MAX, &old, &n, err);
    if (s != WINNOW_OK && s != WINNOW_E_NOT_FOUND)
        return s;
    const char *before = n ? old : FILE_HEAD;
    n = strlen(before);
    WN_CLEANUP(wn_freep)
    char *text = wn_asprintf("%s%s%s", before, n && before[n - 1] != '\n' ? "\n" : "", line);
    struct wn_tokens *check = NULL;
    if (!text)
        return wn_fail(err, WINNOW_E_NOMEM, "%s", a->file);
    WN_TRY(wn_tokens_parse(text, strlen(text), a->file, &check, err)); /* another of that id, too many */
    wn_tokens_unref(check);
    WN_TRY(write_file(a->file, text, strlen(text), err));
    printf("%s\n", secret);
    return WINNOW_OK;
}

/** Does the line [p, p + n) hold the token `id`? */
static bool line_of(const char *p, size_t n, const char *id)
{
    size_t skip = 0, len = strlen(id);
    while (skip < n && (p[skip] == ' ' || p[skip] == '\t'))
        skip++;
    return n - skip > len && memcmp(p + skip, id, len) == 0 && (p[skip + len] == ' ' || p[skip + len] == '\t');
}

static enum winnow_status take_out(const struct args *a, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *text = NULL;
    size_t n;
    WN_TRY(wn_file_read(a->file, WN_TOKENS_FILE_MAX, (void **)&text, &n, err));
    struct wn_tokens *check = NULL;
    WN_TRY(wn_tokens_parse(text, n, a->file, &check, err));
    wn_tokens_unref(check);
    for (char *p = text, *end = text + n; p < end;) {
        char *stop = memchr(p, '\n', (size_t)(end - p));
        size_t len = stop ? (size_t)(stop - p) + 1 : (size_t)(end - p);
        if (line_of(p, len, a->id)) {
            memmove(p, p + len, (size_t)(end - p) - len);
            n -= len;
            bool blank = strspn(text, " \t\r\n") >= n;
            WN_TRY(write_file(a->file, blank ? FILE_HEAD : text, blank ? strlen(FILE_HEAD) : n, err));
            printf("%s: revoked; winnowd takes note when it reloads\n", a->id);
            return WINNOW_OK;
        }
        p += len;
    }
    return wn_fail(err, WINNOW_E_NOT_FOUND, "%s has no token '%s'", a->file, a->id);
}

/* ---- list ---- */
static void scopes_text(const struct wn_token *t, char *buf, size_t room)
{
    size_t n = 0;
    buf[0] = '\0';
    for (unsigned i = 1; i < WN_N_SCOPES; i++)
        if (t->scopes & 1u << i && n < room)
            n += (size_t)snprintf(buf + n, room - n, "%s%s", n ? "," : "", wn_scope_name((enum wn_scope)i));
}

static void time_text(int64_t s, char buf[32])
{
    time_t t = (time_t)s;
    struct tm tm;
    buf[0] = '\0';
    if (s && gmtime_r(&t, &tm))
        strftime(buf, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static json_t *token_json(const struct wn_token *t)
{
    char when[32];
    json_t *scopes = json_array(), *models = json_array();
    for (unsigned i = 1; i < WN_N_SCOPES; i++)
        if (t->scopes & 1u << i)
            json_array_append_new(scopes, json_string(wn_scope_name((enum wn_scope)i)));
    for (size_t i = 0; i < t->n_patterns; i++)
        json_array_append_new(models, json_string(t->pattern[i]));
    time_text(t->expires_s, when);
    return json_pack("{s:s,s:o,s:o,s:s?,s:b}", "id", t->id, "scopes", scopes, "models", models, "expires",
                     *when ? when : NULL, "expired", (int)wn_token_expired(t, time(NULL)));
}

static void print_token(const struct wn_token *t)
{
    char scopes[64], when[32];
    scopes_text(t, scopes, sizeof scopes);
    time_text(t->expires_s, when);
    printf("%-24s %-28s %-22s ", t->id, scopes, *when ? when : "never");
    for (size_t i = 0; i < t->n_patterns; i++)
        printf("%s%s", i ? "," : "", t->pattern[i]);
    printf("%s%s\n", t->n_patterns ? "" : "*", wn_token_expired(t, time(NULL)) ? "  (expired)" : "");
}

static enum winnow_status list_tokens(const struct args *a, struct winnow_err *err)
{
    WN_CLEANUP(unrefp) struct wn_tokens *all = NULL;
    WN_TRY(wn_tokens_read(a->file, &all, err));
    if (!a->json || strcmp(a->json, "-") != 0)
        printf("%-24s %-28s %-22s %s\n", "ID", "SCOPES", "EXPIRES", "MODELS");
    json_t *json = json_array();
    for (size_t i = 0; i < wn_tokens_count(all); i++) {
        json_array_append_new(json, token_json(wn_tokens_at(all, i)));
        if (!a->json || strcmp(a->json, "-") != 0)
            print_token(wn_tokens_at(all, i));
    }
    if (a->json)
        return wn_cli_write_json(a->json, json, err);
    json_decref(json);
    return WINNOW_OK;
}

/* The file behind links (a new one stays as it is named), and a lock on its folder, held until the program ends: what
 * is read, changed and renamed here is one step to everybody who does the same. */
static enum winnow_status take_file(struct args *a, char **ret_path, int *ret_lock, struct winnow_err *err)
{
    struct stat st;
    if (stat(a->file, &st) == 0 && !S_ISREG(st.st_mode))
        return wn_fail(err, WINNOW_E_MALFORMED, "%s is no regular file", a->file);
    *ret_path = realpath(a->file, NULL);
    if (!*ret_path && !(*ret_path = wn_strdup(a->file)))
        return wn_fail(err, WINNOW_E_NOMEM, "%s", a->file);
    const char *slash = strrchr(*ret_path, '/');
    WN_CLEANUP(wn_freep)
    char *dir = slash ? wn_asprintf("%.*s", (int)WN_MAX(slash - *ret_path, 1), *ret_path) : wn_strdup(".");
    if (!dir)
        return wn_fail(err, WINNOW_E_NOMEM, "%s", a->file);
    *ret_lock = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*ret_lock < 0 || flock(*ret_lock, LOCK_EX) < 0)
        return wn_fail_errno(err, errno, "%s", dir);
    a->file = *ret_path;
    return WINNOW_OK;
}

int wn_cli_token(int argc, char **argv)
{
    static const struct argp argp = { options, parse, "[ACTION [ID]]", doc, NULL, NULL, NULL };
    struct args a = { 0 };
    struct winnow_err err = { 0 };
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    WN_CLEANUP(wn_freep) char *path = NULL;
    WN_CLEANUP(wn_closep) int lock = -1;
    enum winnow_status status = WINNOW_OK;
    if (a.file && strcmp(a.action, "list") != 0)
        status = take_file(&a, &path, &lock, &err);
    if (status == WINNOW_OK)
        status = strcmp(a.action, "create") == 0   ? make_token(&a, &err)
                 : strcmp(a.action, "revoke") == 0 ? take_out(&a, &err)
                                                   : list_tokens(&a, &err);
    return status == WINNOW_OK ? WN_EXIT_OK : wn_cli_fail(argv[0], &err);
}
