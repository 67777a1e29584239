/* worker.h: running winnow-worker from the command line. */
#ifndef WN_CLI_WORKER_H
#define WN_CLI_WORKER_H

#include <sys/types.h>
#include "base/base.h"

/** The worker's program: $WINNOW_WORKER, else beside this program, else the name alone for PATH. malloc'ed; NULL when
 *  out of memory. */
char *wn_worker_program(void);

/** Start `argv` (argv[0] replaced by the worker's program). */
WINNOW_MUST_USE enum winnow_status wn_worker_start(char **argv, pid_t *ret_pid, struct winnow_err *err);

/** Become the worker; returns only when that fails. */
enum winnow_status wn_worker_exec(char **argv, struct winnow_err *err);

#endif
