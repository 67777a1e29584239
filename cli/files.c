/* files.c: `winnow files`: uploaded data of a running winnowd. */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "cli/cli.h"
#include "cli/remote.h"

struct args {
    struct wn_remote_opts remote;
    const char *json, *purpose, *name, *word[2];
    unsigned n;
};

static const struct argp_option options[] = {
    { "purpose", 'p', "PURPOSE", 0, "upload: fine-tune (the default) for data and recipes", 0 },
    { "name", 'n', "NAME", 0, "upload: the file's name on the server (default: its own)", 0 },
    { "json", 'j', "FILE", 0, "write the server's answer as JSON (-: standard output)", 0 },
    { 0 }
};

static const char doc[] = "Upload, list and delete training data on a running winnowd.\v"
                          "  list           all files (the default)\n"
                          "  upload FILE    send a zip, a tar, an IDX file or a recipe; prints its id\n"
                          "  show ID        one file\n"
                          "  delete ID      delete it\n\n" WN_CLI_EXAMPLES("  winnow files upload letters.zip\n"
                                                                           "  winnow files list --json -\n");

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->remote;
        return 0;
    case 'p':
        a->purpose = arg;
        return 0;
    case 'n':
        a->name = arg;
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
        bool list = strcmp(a->word[0], "list") == 0;
        if (!list && strcmp(a->word[0], "upload") && strcmp(a->word[0], "show") && strcmp(a->word[0], "delete"))
            argp_error(state, "'%s' is no action", a->word[0]);
        if (a->n != (list ? 1 : 2))
            argp_error(state, "%s wants %s", a->word[0],
                       list                                ? "no argument"
                       : strcmp(a->word[0], "upload") == 0 ? "a FILE"
                                                           : "an ID");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void print_file(const json_t *f)
{
    char when[32] = "";
    time_t t = (time_t)wn_json_num(f, "created_at", 0);
    struct tm tm;
    if (localtime_r(&t, &tm))
        strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &tm);
    printf("%-40s %12.0f  %-19s  %-10s %s\n", wn_json_str(f, "id"), wn_json_num(f, "bytes", 0), when,
           wn_json_str(f, "purpose"), wn_json_str(f, "filename"));
}

struct sent {
    uint64_t last;
};

static void on_sent(void *arg, uint64_t sent, uint64_t total)
{
    struct sent *s = arg;
    if (sent == s->last)
        return;
    s->last = sent;
    fprintf(stderr, "\r\033[K%.1f of %.1f MB", (double)sent / 1e6, (double)total / 1e6);
    if (sent == total)
        fprintf(stderr, "\r\033[K");
}

static enum winnow_status upload(struct wn_remote *r, const struct args *a, json_t **ret, struct winnow_err *err)
{
    const char *slash = strrchr(a->word[1], '/');
    const char *const names[] = { a->name ? a->name : slash ? slash + 1 : a->word[1], a->purpose, NULL };
    WN_CLEANUP(wn_freep) char *path = wn_remote_path("/v1/files/%s?purpose=%s", names);
    struct sent sent = { 0 };
    if (!path)
        return wn_fail(err, WINNOW_E_NOMEM, "%s", a->word[1]);
    return wn_remote_send_file(r, "PUT", path, a->word[1], isatty(STDERR_FILENO) ? on_sent : NULL, &sent, ret, err);
}

static enum winnow_status act(struct wn_remote *r, const void *args, json_t **ret, struct winnow_err *err)
{
    const struct args *a = args;
    if (strcmp(a->word[0], "list") == 0)
        return wn_remote_call(r, "GET", "/v1/files", NULL, ret, err);
    if (strcmp(a->word[0], "upload") == 0)
        return upload(r, a, ret, err);
    const char *const names[] = { a->word[1], NULL };
    WN_CLEANUP(wn_freep) char *path = wn_remote_path("/v1/files/%s", names);
    if (!path)
        return wn_fail(err, WINNOW_E_NOMEM, "%s", a->word[1]);
    return wn_remote_call(r, strcmp(a->word[0], "show") == 0 ? "GET" : "DELETE", path, NULL, ret, err);
}

static void print(const void *args, const json_t *reply)
{
    const struct args *a = args;
    size_t i;
    json_t *f;
    if (strcmp(a->word[0], "delete") == 0) {
        printf("%s deleted\n", a->word[1]);
    } else if (strcmp(a->word[0], "upload") == 0 && !isatty(STDOUT_FILENO)) {
        printf("%s\n", wn_json_str(reply, "id")); /* for $(winnow files upload …) */
    } else if (strcmp(a->word[0], "list") == 0) {
        if (isatty(STDOUT_FILENO)) /* what scripts read stays as it is */
            printf("%-40s %12s  %-19s  %-10s %s\n", "ID", "BYTES", "CREATED", "PURPOSE", "NAME");
        json_array_foreach(json_object_get(reply, "data"), i, f)
        {
            print_file(f);
        }
    } else {
        print_file(reply);
    }
}

int wn_cli_files(int argc, char **argv)
{
    static const struct argp_child remote[] = { { &wn_remote_argp, 0, NULL, 0 }, { 0 } };
    static const struct argp argp = { options, parse, "[ACTION [FILE|ID]]", doc, remote, NULL, NULL };
    struct args a = { .purpose = "fine-tune" };
    static const struct wn_remote_command command = { act, print };
    struct winnow_err err;
    json_t *reply;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    enum winnow_status status = wn_remote_do(&command, &a.remote, a.json, &a, &reply, &err);
    json_decref(reply);
    return status == WINNOW_OK ? WN_EXIT_OK : wn_cli_fail(argv[0], &err);
}
