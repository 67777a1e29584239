/* tasks.c: a thread with a queue of things to do, for what may not be done on an event loop. */
#include "daemon/jobs/tasks.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

static struct wn_task *take_all(struct wn_tasks *t, bool *ret_stop)
{
    pthread_mutex_lock(&t->lock);
    struct wn_task *list = t->list;
    t->list = NULL;
    t->end = &t->list;
    *ret_stop = t->stop;
    t->ended = t->stop && !list;
    pthread_mutex_unlock(&t->lock);
    return list;
}

static void *work(void *arg)
{
    struct wn_tasks *t = arg;
    for (bool stop = false;;) {
        struct wn_task *task = take_all(t, &stop);
        if (!task && stop)
            return NULL;
        bool some = task != NULL;
        while (task) {
            struct wn_task *next = task->next;
            task->run(task);
            task = next;
        }
        if (some)
            continue;
        struct pollfd p = { .fd = t->wake, .events = POLLIN };
        uint64_t count;
        if (poll(&p, 1, t->tick ? t->tick(t->arg) : -1) > 0 && read(t->wake, &count, sizeof count) < 0 &&
            errno != EAGAIN && errno != EINTR)
            wn_die(__FILE__, __LINE__, "eventfd");
    }
}

enum winnow_status wn_tasks_start(struct wn_tasks *t, const char *name, int (*tick)(void *arg), void *arg,
                                  struct winnow_err *err)
{
    *t = (struct wn_tasks){ .tick = tick, .arg = arg };
    t->end = &t->list;
    t->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (t->wake < 0)
        return wn_fail_errno(err, errno, "thread '%s'", name);
    pthread_mutex_init(&t->lock, NULL);
    sigset_t all, old;
    sigfillset(&all); /* signals are the main thread's */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int e = pthread_create(&t->thread, NULL, work, t);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (e) {
        pthread_mutex_destroy(&t->lock);
        close(t->wake);
        return wn_fail_errno(err, e, "thread '%s'", name);
    }
    pthread_setname_np(t->thread, name);
    t->started = true;
    return WINNOW_OK;
}

bool wn_tasks_add(struct wn_tasks *t, struct wn_task *task)
{
    if (!t->started)
        return false;
    task->next = NULL;
    pthread_mutex_lock(&t->lock);
    bool was_empty = !t->list, taken = !t->ended;
    if (taken) {
        *t->end = task;
        t->end = &task->next;
    }
    pthread_mutex_unlock(&t->lock);
    if (taken && was_empty)
        (void)!write(t->wake, &(uint64_t){ 1 }, sizeof(uint64_t)); /* cannot fail below 2^64 - 1 */
    return taken;
}

void wn_tasks_stop(struct wn_tasks *t)
{
    if (!t->started || t->stop)
        return;
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_mutex_unlock(&t->lock);
    (void)!write(t->wake, &(uint64_t){ 1 }, sizeof(uint64_t));
    pthread_join(t->thread, NULL);
}

void wn_tasks_free(struct wn_tasks *t)
{
    if (!t->started)
        return;
    pthread_mutex_destroy(&t->lock);
    close(t->wake);
    t->started = false;
}
