/* deadline.c: queued jobs end when their deadline comes, not when somebody looks.
 *
 * DESIGN  A binary heap of all queued jobs by deadline, and one thread that sleeps until the first. Considered: timers
 *         of the event loops. A job's loop would have to be told of every queue, and a job may come from no loop.
 *         The thread is woken only by a job that is due before it would wake by itself.
 * LOCKS   batch. done() is called without it. */
#include "daemon/serve/internal.h"

#include <stdlib.h>
#include <sys/prctl.h>

static void place(struct wn_serve *serve, size_t i, struct wn_job *job)
{
    serve->heap.at[i] = job;
    job->heap = i;
}

static void sift_up(struct wn_serve *serve, size_t i)
{
    struct wn_job *job = serve->heap.at[i];
    while (i > 0 && serve->heap.at[(i - 1) / 2]->deadline_ns > job->deadline_ns) {
        place(serve, i, serve->heap.at[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    place(serve, i, job);
}

static void sift_down(struct wn_serve *serve, size_t i)
{
    struct wn_job *job = serve->heap.at[i];
    for (;;) {
        size_t k = 2 * i + 1;
        if (k >= serve->heap.n)
            break;
        if (k + 1 < serve->heap.n && serve->heap.at[k + 1]->deadline_ns < serve->heap.at[k]->deadline_ns)
            k++;
        if (serve->heap.at[k]->deadline_ns >= job->deadline_ns)
            break;
        place(serve, i, serve->heap.at[k]);
        i = k;
    }
    place(serve, i, job);
}

bool wn_deadline_add(struct wn_serve *serve, struct wn_job *job)
{
    if (!wn_vec_push(&serve->heap, job))
        return false;
    sift_up(serve, serve->heap.n - 1);
    if (!serve->timer_at || job->deadline_ns < serve->timer_at)
        pthread_cond_signal(&serve->timer_cond);
    return true;
}

void wn_deadline_remove(struct wn_serve *serve, struct wn_job *job)
{
    size_t i = job->heap;
    struct wn_job *last = serve->heap.at[--serve->heap.n];
    if (last == job)
        return;
    place(serve, i, last);
    sift_up(serve, i);
    sift_down(serve, last->heap);
}

static void *watch_deadlines(void *arg)
{
    struct wn_serve *serve = arg;
    prctl(PR_SET_TIMERSLACK, 1UL);
    pthread_mutex_lock(&serve->batch);
    while (!serve->stop_timer) {
        struct wn_job *first = serve->heap.n ? serve->heap.at[0] : NULL;
        if (!first) {
            serve->timer_at = 0;
            pthread_cond_wait(&serve->timer_cond, &serve->batch);
        } else if (first->deadline_ns > wn_now_ns()) {
            serve->timer_at = first->deadline_ns;
            wn_cond_wait_until(&serve->timer_cond, &serve->batch, first->deadline_ns);
        } else {
            wn_batch_unlink(serve, first);
            first->state = WN_JOB_ENDED;
            pthread_cond_broadcast(&serve->idle_cond);
            pthread_mutex_unlock(&serve->batch);
            wn_job_end(first, WINNOW_E_DEADLINE, "Request timeout expired: the deadline passed while it waited");
            pthread_mutex_lock(&serve->batch);
        }
    }
    pthread_mutex_unlock(&serve->batch);
    return NULL;
}

enum winnow_status wn_deadline_start(struct wn_serve *serve, struct winnow_err *err)
{
    int rc = wn_thread_start(&serve->timer, "deadlines", watch_deadlines, serve);
    if (rc)
        return wn_fail_errno(err, rc, "starting the deadline thread");
    serve->timer_started = true;
    return WINNOW_OK;
}

void wn_deadline_stop(struct wn_serve *serve)
{
    if (!serve->timer_started)
        return;
    pthread_mutex_lock(&serve->batch);
    serve->stop_timer = true;
    pthread_cond_signal(&serve->timer_cond);
    pthread_mutex_unlock(&serve->batch);
    pthread_join(serve->timer, NULL);
    serve->timer_started = false;
    wn_vec_done(&serve->heap);
}
