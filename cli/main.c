/* main.c: `winnow COMMAND …`. */
#include "cli/cli.h"

#include <argp.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    wn_cli_fn *run;
    const char *text;
} commands[] = {
    { "run", wn_cli_run, "run a model on arrays from an .npz file" },
    { "benchmark", wn_cli_benchmark, "measure latency and throughput" },
    { "analyze", wn_cli_analyze, "show what runs for every layer, and why" },
    { "compare", wn_cli_compare, "compare the outputs of two models" },
    { "evaluate", wn_cli_evaluate, "score one or two models on labelled rows" },
    { "tokenize", wn_cli_tokenize, "print the token ids of lines of text" },
    { "models", wn_cli_models, "models of a running winnowd: list, load, promote, rollback, …" },
    { "files", wn_cli_files, "uploaded data of a running winnowd" },
    { "jobs", wn_cli_jobs, "training jobs of a running winnowd: create, watch, cancel, …" },
    { "token", wn_cli_token, "make, list and revoke the tokens a winnowd asks for" },
    { "sparsify", wn_cli_sparsify, "prune, quantize and fine-tune a model here, without a server" },
    { "recipe", wn_cli_recipe, "check a recipe: its curves, and what it will cost" },
};

static void usage(FILE *to)
{
    fprintf(to, "Usage: winnow COMMAND [OPTION…]\n\n");
    for (size_t i = 0; i < WN_COUNT(commands); i++)
        fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].text);
    fprintf(
        to,
        "\n`winnow COMMAND --help` tells more, with examples. `winnow --version` prints version and instruction set.\n"
        "Exit status: 0 done, 1 failed (standard error says why), 2 wrong usage.\n");
}

int main(int argc, char **argv)
{
    argp_err_exit_status = WN_EXIT_USAGE;
    if (argc < 2) {
        usage(stderr);
        return WN_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        usage(stdout);
        return WN_EXIT_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("winnow %s on %s, kernels: %s\n", winnow_version(), winnow_cpu_name(), winnow_cpu_isa());
        return WN_EXIT_OK;
    }
    for (size_t i = 0; i < WN_COUNT(commands); i++)
        if (strcmp(argv[1], commands[i].name) == 0) {
            WN_CLEANUP(wn_freep) char *name = wn_asprintf("winnow %s", argv[1]);
            argv[1] = name ? name : argv[1];
            return commands[i].run(argc - 1, argv + 1);
        }
    fprintf(stderr, "winnow: '%s' is no command\n\n", argv[1]);
    usage(stderr);
    return WN_EXIT_USAGE;
}
