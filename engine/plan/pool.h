/* pool.h: the threads that work on one run together. */
#ifndef WN_POOL_H
#define WN_POOL_H

#include "base/base.h"
#include "winnow/winnow.h"

/** Call fn(arg, part, n_parts) once on every thread of the pool, the caller being part 0; returns when all are done.
 *  One at a time per pool. pool NULL: fn(arg, 0, 1). */
void wn_pool_run(winnow_pool *pool, void (*fn)(void *arg, unsigned part, unsigned n_parts), void *arg);
/** Inside wn_pool_run(): wait until every part has come here. Threads spin briefly, then sleep. */
void wn_pool_barrier(winnow_pool *pool);

#endif
