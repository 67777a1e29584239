/* models.c: `winnow models`: the models of a running winnowd. */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "cli/remote.h"

struct args {
    struct wn_remote_opts remote;
    const char *json, *word[4];
    unsigned n;
};

static const struct argp_option options[] = {
    { "json", 'j', "FILE", 0, "write the server's answer as JSON (-: standard output)", 0 }, { 0 }
};

static const char doc[] = "Look after the models of a running winnowd.\v"
                          "  list [MODEL]           how every version stands, and why (the default)\n"
                          "  load MODEL             load or reload its live version\n"
                          "  unload MODEL           stop serving it; its last requests finish\n"
                          "  promote MODEL VERSION  make a version live, without losing a request\n"
                          "  rollback MODEL         back to the version that was live before\n"
                          "  anchor MODEL ROWS.npz  the rows that every later candidate must do well on\n"
                          "  diff MODEL A B         what tells two versions apart\n\n" WN_CLI_EXAMPLES(
                              "  winnow models list mine\n"
                              "  winnow models promote mine 3\n"
                              "  winnow models -s https://host:8443 --cacert ca.pem --token-file token\n");

/* An action: what it wants besides its name. */
static const struct action {
    const char *name;
    unsigned least, most;
    const char *want;
} actions[] = {
    { "list", 0, 1, "[MODEL]" },
    { "load", 1, 1, "MODEL" },
    { "unload", 1, 1, "MODEL" },
    { "promote", 2, 2, "MODEL VERSION" },
    { "rollback", 1, 1, "MODEL" },
    { "anchor", 2, 2, "MODEL ROWS.npz" },
    { "diff", 3, 3, "MODEL VERSION VERSION" },
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->remote;
        return 0;
    case 'j':
        a->json = arg;
        return 0;
    case ARGP_KEY_ARG:
        if (a->n == WN_COUNT(a->word))
            argp_usage(state);
        a->word[a->n++] = arg;
        return 0;
    case ARGP_KEY_END:
        if (!a->n)
            a->word[a->n++] = "list";
        for (size_t i = 0; i < WN_COUNT(actions); i++)
            if (strcmp(actions[i].name, a->word[0]) == 0) {
                if (a->n - 1 < actions[i].least || a->n - 1 > actions[i].most)
                    argp_error(state, "%s wants %s", actions[i].name, actions[i].want);
                return 0;
            }
        argp_error(state, "'%s' is no action", a->word[0]);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* A call on a path made of names. */
static enum winnow_status call(struct wn_remote *r, const char *method, const char *fmt, const char *a, const char *b,
                               json_t **ret, struct winnow_err *err)
{
    const char *const names[] = { a, b, NULL };
    WN_CLEANUP(wn_freep) char *path = wn_remote_path(fmt, names);
    return path ? wn_remote_call(r, method, path, NULL, ret, err) : wn_fail(err, WINNOW_E_NOMEM, "%s", fmt);
}

/* ---- list ---- */

/* All versions of all models (or of one) with what /versions knows: which is live, digest, generation; and what the
 * index alone knows: folders that are misplaced. */
static enum winnow_status list(struct wn_remote *r, const char *model, json_t **ret, struct winnow_err *err)
{
    json_t *index = NULL, *all = json_array(), *entry, *version;
    size_t i, k;
    const char *last = "";
    enum winnow_status status = wn_remote_call(r, "POST", "/v2/repository/index", NULL, &index, err);
    json_array_foreach(index, i, entry)
    {
        const char *name = wn_json_str(entry, "name");
        json_t *versions = NULL;
        if ((model && strcmp(name, model)) || status != WINNOW_OK)
            continue;
        if (strcmp(wn_json_str(entry, "standing"), "misplaced") == 0) {
            json_array_append(all, entry);
            continue;
        }
        if (strcmp(name, last) == 0)
            continue;
        last = name;
        status = call(r, "GET", "/v2/repository/models/%s/versions", name, NULL, &versions, err);
        json_array_foreach(json_object_get(versions, "versions"), k, version)
        {
            json_array_append(all, version);
        }
        json_decref(versions);
    }
    json_decref(index);
    if (status == WINNOW_OK && model && !json_array_size(all))
        status = wn_fail(err, WINNOW_E_NOT_FOUND, "no model '%s'", model);
    if (status == WINNOW_OK)
        *ret = json_incref(all);
    json_decref(all);
    return status;
}

static void print_list(const json_t *versions)
{
    size_t i;
    json_t *e;
    printf("%-24s %7s  %-9s %10s  %-20s %-16s %s\n", "MODEL", "VERSION", "STANDING", "GENERATION", "DIGEST", "MADE BY",
           "");
    json_array_foreach(versions, i, e)
    {
        char generation[32] = "";
        const char *name = wn_json_str(e, "name"), *version = wn_json_str(e, "version");
        const char *standing = wn_json_str(e, "standing"), *by = wn_json_str(e, "live_by");
        const char *path = wn_json_str(e, "path"), *reason = wn_json_str(e, "reason");
        if (wn_json_num(e, "generation", 0) > 0)
            snprintf(generation, sizeof generation, "%.0f", wn_json_num(e, "generation", 0));
        printf("%-24s %7s  %-9s %10s  %-20.20s %-16s %s%s%s", name, version, standing, generation,
               wn_json_str(e, "digest"), wn_json_str(e, "made_by"), path, *path ? ": " : "", reason);
        if (*by && strcmp(by, wn_json_str(e, "made_by"))) /* who put it there made it live, too */
            printf("%smade live by %s", *reason ? "; " : "", by);
        if (strcmp(standing, "waiting") == 0)
            printf("; winnow models promote %s %s does it", name, version);
        printf("\n");
    }
}

/* ---- diff ---- */

static bool is_version(const json_t *entry, const char *want)
{
    const json_t *v = json_object_get(entry, "version");
    return json_is_integer(v) ? json_integer_value(v) == strtoll(want, NULL, 10)
                              : strcmp(wn_json_str(entry, "version"), want) == 0;
}

static json_t *find_version(const json_t *reply, const char *want)
{
    const json_t *list = json_is_array(reply) ? reply : json_object_get(reply, "versions");
    size_t i;
    json_t *e;
    json_array_foreach(list, i, e)
    {
        if (is_version(e, want))
            return e;
    }
    return NULL;
}

static void print_value(const json_t *v)
{
    WN_CLEANUP(wn_freep) char *text = v ? json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
    printf("%s", json_is_string(v) ? json_string_value(v) : text ? text : "-");
}

/* Every key of either that differs, objects member by member. */
static unsigned print_diff(const char *prefix, const json_t *a, const json_t *b)
{
    unsigned n = 0;
    json_t *keys = json_object();
    const char *key;
    json_t *v;
    json_object_update(keys, (json_t *)a);
    json_object_update_missing(keys, (json_t *)b);
    json_object_foreach(keys, key, v)
    {
        const json_t *x = json_object_get(a, key), *y = json_object_get(b, key);
        WN_CLEANUP(wn_freep) char *name = wn_asprintf("%s%s%s", prefix, *prefix ? "." : "", key);
        if (!name || json_equal(x, y))
            continue;
        if (json_is_object(x) && json_is_object(y)) {
            n += print_diff(name, x, y);
            continue;
        }
        printf("%-28s ", name);
        print_value(x);
        printf(" -> ");
        print_value(y);
        printf("\n");
        n++;
    }
    json_decref(keys);
    return n;
}

static enum winnow_status diff(struct wn_remote *r, const struct args *a, json_t **ret, struct winnow_err *err)
{
    json_t *all = NULL, *pair[2];
    WN_TRY(call(r, "GET", "/v2/repository/models/%s/versions", a->word[1], NULL, &all, err));
    for (int i = 0; i < 2; i++) {
        pair[i] = find_version(all, a->word[2 + i]);
        if (!pair[i]) {
            json_decref(all);
            return wn_fail(err, WINNOW_E_NOT_FOUND, "model '%s' has no version %s", a->word[1], a->word[2 + i]);
        }
    }
    *ret = json_pack("[O,O]", pair[0], pair[1]);
    json_decref(all);
    return *ret ? WINNOW_OK : wn_fail(err, WINNOW_E_NOMEM, "versions");
}

/* ---- the actions ---- */

static enum winnow_status act(struct wn_remote *r, const void *args, json_t **ret, struct winnow_err *err)
{
    const struct args *a = args;
    const char *action = a->word[0], *model = a->word[1];
    if (strcmp(action, "list") == 0)
        return list(r, model, ret, err);
    if (strcmp(action, "load") == 0)
        return call(r, "POST", "/v2/repository/models/%s/load", model, NULL, ret, err);
    if (strcmp(action, "unload") == 0)
        return call(r, "POST", "/v2/repository/models/%s/unload", model, NULL, ret, err);
    if (strcmp(action, "promote") == 0)
        return call(r, "POST", "/v2/repository/models/%s/versions/%s/promote", model, a->word[2], ret, err);
    if (strcmp(action, "rollback") == 0)
        return call(r, "POST", "/v2/repository/models/%s/rollback", model, NULL, ret, err);
    if (strcmp(action, "diff") == 0)
        return diff(r, a, ret, err);
    const char *const names[] = { model, NULL };
    WN_CLEANUP(wn_freep) char *path = wn_remote_path("/v2/repository/models/%s/anchor", names);
    return path ? wn_remote_send_file(r, "PUT", path, a->word[2], NULL, NULL, ret, err)
                : wn_fail(err, WINNOW_E_NOMEM, "anchor");
}

static void print(const void *args, const json_t *reply)
{
    const struct args *a = args;
    const char *action = a->word[0];
    if (strcmp(action, "list") == 0) {
        print_list(reply);
    } else if (strcmp(action, "diff") == 0) {
        if (!print_diff("", json_array_get(reply, 0), json_array_get(reply, 1)))
            printf("no difference\n");
    } else {
        printf("%s: %s done", a->word[1], action);
        if (json_object_get(reply, "version")) {
            printf(", version ");
            print_value(json_object_get(reply, "version"));
            printf(" is live, generation %.0f, %.19s…", wn_json_num(reply, "generation", 0),
                   wn_json_str(reply, "digest"));
        }
        if (json_object_get(reply, "rows"))
            printf(", %.0f rows", wn_json_num(reply, "rows", 0));
        if (*wn_json_str(reply, "anchor"))
            printf("; %s", wn_json_str(reply, "anchor"));
        printf("\n");
    }
}

int wn_cli_models(int argc, char **argv)
{
    static const struct argp_child remote[] = { { &wn_remote_argp, 0, NULL, 0 }, { 0 } };
    static const struct argp argp = { options, parse, "[ACTION ARGUMENT…]", doc, remote, NULL, NULL };
    struct args a = { 0 };
    static const struct wn_remote_command command = { act, print };
    struct winnow_err err;
    json_t *reply;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    enum winnow_status status = wn_remote_do(&command, &a.remote, a.json, &a, &reply, &err);
    json_decref(reply);
    return status == WINNOW_OK ? WN_EXIT_OK : wn_cli_fail(argv[0], &err);
}
