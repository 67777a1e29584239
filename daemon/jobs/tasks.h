/* tasks.h: a thread with a queue of things to do, for what may not be done on an event loop. */
#ifndef WN_TASKS_H
#define WN_TASKS_H

#include <pthread.h>
#include "base/base.h"

/** One thing to do; embed it and use WN_CONTAINER_OF. `run` may free it. */
struct wn_task {
    struct wn_task *next;
    void (*run)(struct wn_task *task);
};

struct wn_tasks {
    pthread_mutex_t lock; /* leaf; list, end, stop */
    struct wn_task *list, **end;
    bool stop, ended; /* ended: nothing is taken any more */
    bool started;
    int wake; /* eventfd */
    pthread_t thread;
    int (*tick)(void *arg);
    void *arg;
};

/** Start the thread. `tick` (may be NULL) is called between tasks and returns after how many milliseconds it wants to
 * be called again at the latest. */
WINNOW_MUST_USE enum winnow_status wn_tasks_start(struct wn_tasks *t, const char *name, int (*tick)(void *arg),
                                                  void *arg, struct winnow_err *err);
/** Queue; in order. Any thread. False: the thread has ended or was never started, the task is still the caller's. */
WINNOW_MUST_USE bool wn_tasks_add(struct wn_tasks *t, struct wn_task *task);
/** Do what is queued and what that queues here, then end and join the thread. A zeroed struct is fine. */
void wn_tasks_stop(struct wn_tasks *t);
/** After wn_tasks_stop(), when nobody adds any more. */
void wn_tasks_free(struct wn_tasks *t);

#endif
