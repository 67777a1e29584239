/* check.c: `check JOBDIR`: is this job worth a start? In a sandboxed child, a second of CPU time at most: whoever posts
 * a job may have written any recipe, and the daemon waits for the answer. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/file.h"
#include "sparsify/recipe/recipe.h"
#include "sparsify/worker/fault.h"
#include "sparsify/worker/origin.h"
#include "sparsify/worker/sandbox.h"
#include "sparsify/worker/worker.h"

#define CPU_S  1
#define WALL_S 10
#define MEMORY ((uint64_t)4 << 30)

static void recipe_freep(struct wn_recipe **r)
{
    wn_recipe_free(*r);
}

static void trainer_freep(struct wn_trainer **tr)
{
    wn_trainer_free(*tr);
}

/* recipe.yaml, or the text that the level stands for. */
static enum winnow_status recipe_text(struct wn_job *job, void **ret, size_t *ret_n, struct winnow_err *err)
{
    const char *path = wn_job_path(job, "recipe.yaml");
    if (job->recipe)
        return path ? wn_file_read(path, (size_t)1 << 20, ret, ret_n, err) : wn_fail(err, WINNOW_E_NOMEM, "recipe");
    const struct wn_recipe_fit fit = { .rows = 1000, .batch = 64, .epochs = isnan(job->epochs) ? 0 : job->epochs };
    *ret = wn_recipe_for_level(job->optim_level, &fit);
    *ret_n = *ret ? strlen(*ret) : 0;
    return *ret ? WINNOW_OK : wn_fail(err, WINNOW_E_NOMEM, "recipe");
}

static enum winnow_status check_model(struct wn_job *job, const struct wn_recipe *recipe, const char *text,
                                      struct winnow_err *err)
{
    struct wn_origin o;
    const char *base = wn_job_path(job, "base");
    if (!base)
        return wn_fail(err, WINNOW_E_NOMEM, "base");
    enum winnow_status status = wn_origin_open(base, &o, err);
    if (status != WINNOW_OK)
        return wn_fail_at(err, status, "base");
    WN_CLEANUP(trainer_freep) struct wn_trainer *tr = NULL;
    const struct wn_train_opts opts = { .batch = 16, .threads = 1, .seed = job->seed };
    status = wn_trainer_new(&o.graph, &opts, &tr, err);
    if (status != WINNOW_OK) {
        wn_fail_at(err, status, "base/%s", o.file);
    } else {
        status = wn_recipe_apply(recipe, tr, err);
        if (status != WINNOW_OK)
            wn_recipe_fault("recipe.yaml", text, err);
    }
    wn_origin_done(&o);
    return status;
}

/* In the child. `told`: a byte goes here once job and recipe are known to be good. */
static enum winnow_status check_all(const char *dir, int told, struct winnow_err *err)
{
    struct wn_job job;
    size_t n = 0;
    WN_CLEANUP(wn_freep) void *text = NULL;
    WN_CLEANUP(recipe_freep) struct wn_recipe *recipe = NULL;
    WN_TRY(wn_job_read(dir, &job, err));
    enum winnow_status status = recipe_text(&job, &text, &n, err);
    if (status == WINNOW_OK)
        status = wn_recipe_parse(text, n, "recipe.yaml", &recipe, err);
    if (status == WINNOW_OK && !(wn_recipe_epochs(recipe) > 0))
        status = wn_fail(err, WINNOW_E_MALFORMED, "recipe.yaml:1: no modifier says when training ends");
    if (status == WINNOW_OK && write(told, "", 1) != 1)
        status = wn_fail_errno(err, errno, "pipe");
    if (status == WINNOW_OK)
        status = check_model(&job, recipe, text, err);
    if (status == WINNOW_E_NOMEM && recipe) { /* a large model: the job has more, and says what it lacks */
        fprintf(stderr, "winnow-worker: job and recipe are good; the base takes more memory to check than there is\n");
        status = WINNOW_OK;
    }
    wn_job_done(&job);
    return status;
}

static _Noreturn void child(const char *dir, int told)
{
    struct winnow_err err = { 0 };
    char missing[64];
    WN_CLEANUP(wn_freep) char *job = wn_asprintf("%s/job.json", dir);
    WN_CLEANUP(wn_freep) char *recipe = wn_asprintf("%s/recipe.yaml", dir);
    WN_CLEANUP(wn_freep) char *base = wn_asprintf("%s/base", dir);
    const char *ro[] = { job, recipe, base, NULL };
    const struct wn_sandbox sb = {
        .ro = ro, .jit = true, .threads = true, .memory_bytes = MEMORY, .cpu_s = CPU_S, .files = 64
    };
    alarm(WALL_S);
    enum winnow_status status =
        job && recipe && base ? wn_sandbox_enter(&sb, missing, &err) : wn_fail(&err, WINNOW_E_NOMEM, "check");
    if (status == WINNOW_OK)
        status = check_all(dir, told, &err);
    if (status != WINNOW_OK)
        fprintf(stderr, "%s\n", err.msg);
    fflush(stderr);
    _exit(status == WINNOW_OK ? WN_EXIT_OK : WN_EXIT_INVALID);
}

int wn_check(const char *dir)
{
    int ends[2], how = 0;
    char byte;
    if (pipe2(ends, O_CLOEXEC) != 0) {
        fprintf(stderr, "winnow-worker: %s\n", strerror(errno));
        return WN_EXIT_FAILED;
    }
    pid_t pid = fork();
    if (pid == 0)
        child(dir, ends[1]);
    close(ends[1]);
    if (pid < 0 || waitpid(pid, &how, 0) != pid) {
        fprintf(stderr, "winnow-worker: %s\n", strerror(errno));
        close(ends[0]);
        return WN_EXIT_FAILED;
    }
    bool recipe_good = read(ends[0], &byte, 1) == 1;
    close(ends[0]);
    if (WIFEXITED(how))
        return WEXITSTATUS(how);
    if (recipe_good) { /* a large model: the job itself will look at it in its own time */
        fprintf(stderr, "winnow-worker: job and recipe are good; the base takes over a second to check\n");
        return WN_EXIT_OK;
    }
    fprintf(stderr, "%s:1: takes over a second to read\n", "recipe.yaml");
    return WN_EXIT_INVALID;
}
