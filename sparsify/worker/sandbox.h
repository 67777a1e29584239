/* sandbox.h: what a child of the worker may still do, decided before it reads a byte of a user's.
 *
 * Landlock (which files), seccomp (which system calls), resource limits, no new privileges, SCHED_IDLE. What the kernel
 * lacks is left out and said in the log. Entered once, by a single-threaded process; there is no way back. */
#ifndef WN_SANDBOX_H
#define WN_SANDBOX_H

#include "base/base.h"

struct wn_sandbox {
    const char *const *ro; /* files and folders that may be read; NULL-terminated; missing ones are skipped */
    const char *const *rw; /* folders below which files may be made, written, renamed, removed */
    bool jit;              /* executable memory may be made (oneDNN) */
    bool threads;          /* threads may be started */
    bool idle;             /* SCHED_IDLE */
    uint64_t memory_bytes; /* address space; 0: no limit */
    uint64_t cpu_s, file_bytes;
    unsigned files; /* open at once */
};

/** @return WINNOW_OK, also where a mechanism is missing (logged, and told in `ret_missing`: names, "" for none);
 *          E_INTERNAL when one that is there refuses */
WINNOW_MUST_USE enum winnow_status wn_sandbox_enter(const struct wn_sandbox *sb, char ret_missing[64],
                                                    struct winnow_err *err);

#endif
