/* tokenize.c: `winnow tokenize DIR`: what a model's tokenizer makes of lines of text. */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/vec.h"
#include "cli/cli.h"
#include "pipeline/tokenizer.h"

struct args {
    const char *dir, *input;
    bool pair, offsets, null, time;
    size_t max_length;
};

static const struct argp_option options[] = {
    { "input", 'i', "FILE", 0, "lines of text (default: standard input)", 0 },
    { "pair", 'p', NULL, 0, "every line is two texts with a TAB between them", 0 },
    { "max-length", 'm', "N", 0, "at most N tokens a line, special ones counted", 0 },
    { "offsets", 'o', NULL, 0, "ID/SEGMENT/FROM-TO for every token; FROM and TO count bytes of its text", 0 },
    { "null", 'z', NULL, 0, "texts end with NUL, not with the end of a line", 0 },
    { "time", 't', NULL, 0, "print no tokens; print how many there are and the time they took", 0 },
    { 0 }
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct args *a = state->input;
    switch (key) {
    case 'i':
        a->input = arg;
        return 0;
    case 'p':
        a->pair = true;
        return 0;
    case 'm':
        a->max_length = (size_t)wn_cli_whole("--max-length", arg, 1, 1000000000, state);
        return 0;
    case 'o':
        a->offsets = true;
        return 0;
    case 'z':
        a->null = true;
        return 0;
    case 't':
        a->time = true;
        return 0;
    case ARGP_KEY_ARG:
        if (a->dir)
            argp_usage(state);
        a->dir = arg;
        return 0;
    case ARGP_KEY_END:
        if (!a->dir)
            argp_error(state, "say which folder");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* What --time reports. */
struct sums {
    size_t texts, bytes, tokens;
    uint64_t cpu_ns;
};

static enum winnow_status one(const struct wn_tokenizer *t, const struct args *a, struct wn_text text,
                              struct wn_tokens *tokens, struct sums *sums, struct winnow_err *err)
{
    struct wn_text second = { NULL, 0 };
    if (a->pair) {
        const char *tab = memchr(text.at, '\t', text.n);
        if (!tab)
            return wn_fail(err, WINNOW_E_MALFORMED, "text %zu: no TAB between two texts", sums->texts + 1);
        second = (struct wn_text){ tab + 1, (size_t)(text.at + text.n - tab - 1) };
        text.n = (size_t)(tab - text.at);
    }
    uint64_t start = a->time ? wn_thread_cpu_ns() : 0;
    enum winnow_status status = wn_tokenizer_encode(t, text, a->pair ? &second : NULL, a->max_length, tokens, err);
    if (status != WINNOW_OK)
        return wn_fail_at(err, status, "text %zu", sums->texts + 1);
    if (a->time)
        sums->cpu_ns += wn_thread_cpu_ns() - start;
    sums->texts++;
    sums->bytes += text.n + second.n;
    sums->tokens += tokens->n;
    for (size_t i = 0; !a->time && i < tokens->n; i++) {
        printf("%s%d", i ? " " : "", tokens->id[i]);
        if (a->offsets)
            printf("/%u/%u-%u", tokens->type[i], tokens->offset[i][0], tokens->offset[i][1]);
    }
    if (!a->time)
        putchar('\n');
    return WINNOW_OK;
}

static enum winnow_status all(const struct wn_tokenizer *t, const struct args *a, FILE *in, struct winnow_err *err)
{
    WN_CLEANUP(wn_tokens_done) struct wn_tokens tokens = { 0 };
    WN_CLEANUP(wn_freep) char *line = NULL;
    size_t room = 0;
    struct sums sums = { 0 };
    char end = a->null ? '\0' : '\n';
    errno = 0;
    for (ssize_t n; (n = getdelim(&line, &room, end, in)) >= 0;) {
        n -= n && line[n - 1] == end;
        WN_TRY(one(t, a, (struct wn_text){ line, (size_t)n }, &tokens, &sums, err));
    }
    if (ferror(in))
        return wn_fail_errno(err, errno, "%s", a->input ? a->input : "standard input");
    if (a->time)
        printf("%zu texts, %zu bytes, %zu tokens, %.3f ms, %.1f MB/s\n", sums.texts, sums.bytes, sums.tokens,
               (double)sums.cpu_ns / 1e6, (double)sums.bytes * 1e3 / (double)WN_MAX(sums.cpu_ns, 1u));
    return fflush(stdout) == 0 ? WINNOW_OK : wn_fail_errno(err, errno, "standard output");
}

static void tokenizer_freep(struct wn_tokenizer **t)
{
    wn_tokenizer_free(*t);
}

static const char doc[] =
    "Print the token ids of lines of text, with the tokenizer whose files are in DIR.\v" WN_CLI_EXAMPLES(
        "  winnow tokenize models/agnews -i lines.txt\n"
        "  winnow tokenize . --offsets < lines.txt\n");

int wn_cli_tokenize(int argc, char **argv)
{
    static const struct argp argp = { options, parse, "DIR", doc, NULL, NULL, NULL };
    struct args a = { 0 };
    struct winnow_err err;
    WN_CLEANUP(tokenizer_freep) struct wn_tokenizer *t = NULL;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    FILE *in = a.input ? fopen(a.input, "re") : stdin;
    if (!in) {
        wn_fail_errno(&err, errno, "%s", a.input);
        return wn_cli_fail(argv[0], &err);
    }
    WN_CLEANUP(wn_freep) char *folder = wn_cli_model_folder(a.dir);
    enum winnow_status status =
        folder ? wn_tokenizer_open(folder, &t, &err) : wn_fail(&err, WINNOW_E_NOMEM, "%s", a.dir);
    if (status == WINNOW_OK)
        status = all(t, &a, in, &err);
    if (in != stdin)
        fclose(in);
    return status == WINNOW_OK ? WN_EXIT_OK : wn_cli_fail(argv[0], &err);
}
