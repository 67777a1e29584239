/* worker.c: finding and starting winnow-worker. */
#include "cli/worker.h"

#include <errno.h>
#include <limits.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

char *wn_worker_program(void)
{
    char self[PATH_MAX];
    const char *env = getenv("WINNOW_WORKER");
    if (env && *env)
        return wn_strdup(env);
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n > 0) {
        self[n] = 0;
        char *slash = strrchr(self, '/');
        WN_CLEANUP(wn_freep) char *beside = slash ? wn_asprintf("%.*s/winnow-worker", (int)(slash - self), self) : NULL;
        if (beside && access(beside, X_OK) == 0)
            return WN_TAKE(beside);
    }
    return wn_strdup("winnow-worker");
}

enum winnow_status wn_worker_start(char **argv, pid_t *ret_pid, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *program = wn_worker_program();
    if (!program)
        return wn_fail(err, WINNOW_E_NOMEM, "winnow-worker");
    argv[0] = program;
    int failed = posix_spawnp(ret_pid, program, NULL, NULL, argv, environ);
    argv[0] = NULL;
    return failed ? wn_fail_errno(err, failed, "starting %s", program) : WINNOW_OK;
}

enum winnow_status wn_worker_exec(char **argv, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *program = wn_worker_program();
    if (!program)
        return wn_fail(err, WINNOW_E_NOMEM, "winnow-worker");
    argv[0] = program;
    execvp(program, argv);
    return wn_fail_errno(err, errno, "starting %s", program);
}
