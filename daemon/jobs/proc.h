/* proc.h: other programs: found, started, watched, ended. */
#ifndef WN_PROC_H
#define WN_PROC_H

#include <stdatomic.h>
#include <sys/types.h>
#include "base/base.h"

/** Where a program is: `name` with a slash is a path; else beside this program, then in PATH.
 *  @return malloc'ed path; NULL: not found, or out of memory */
char *wn_proc_find(const char *name);
/** Start argv[0] (a path) in a process group of its own: default signals, standard input and output /dev/null,
 *  standard error `err_fd` (-1: this process's). It gets SIGTERM when the calling thread dies, so the thread must live
 *  as long. `nice`: added to its niceness.
 *  @return its pid, or -1 with errno */
pid_t wn_proc_start(char *const argv[], int err_fd, int nice);
/** Whether the child ended; its wait status. It is then gone. */
bool wn_proc_ended(pid_t pid, int *ret_status);
/** Signal the child's process group. */
void wn_proc_signal(pid_t pid, int sig);

/** What became of wn_proc_run(). */
struct wn_run {
    int code;       /* exit code; 128 + signal; -1: timed out, -2: cancelled */
    char said[480]; /* end of what it wrote to standard error, one line, printable */
};
/** Run a program to its end. Blocks.
 *  @param cancel, stop  may be NULL; one of them set to true: it is ended
 *  @return WINNOW_OK also when it failed; E_IO, E_NOT_FOUND: it could not be started */
WINNOW_MUST_USE enum winnow_status wn_proc_run(char *const argv[], int nice, uint64_t timeout_us,
                                               const atomic_bool *cancel, const atomic_bool *stop, struct wn_run *ret,
                                               struct winnow_err *err);

#endif
