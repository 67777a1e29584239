/* team.h: the threads a training step runs on: libgomp's team, the one oneDNN uses, so that the two never compete.
 *
 * libgomp's entry point is called directly, not through compiler pragmas: clang's own would start a second runtime. */
#ifndef WN_TEAM_H
#define WN_TEAM_H

#include "base/base.h"

/** Size the team, once per process thread that computes (oneDNN reads it when it makes primitives). */
void wn_team_size(unsigned threads);
/** Run fn(arg, i, n) for every i < n = min(threads, parts), one thread each; returns when all have. One part or one
 *  thread: called directly. Which i runs where never changes a result: parts write disjoint memory. */
void wn_team_run(unsigned threads, size_t parts, void (*fn)(void *arg, unsigned i, unsigned n), void *arg);

/** Share i of n of [0, total). */
static inline void wn_team_share(size_t total, unsigned i, unsigned n, size_t *from, size_t *to)
{
    *from = total * i / n;
    *to = total * (i + 1) / n;
}

#endif
