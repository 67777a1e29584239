/* loop.c: mailbox order and completeness, timers, ids that do not dangle, the watchdog's view. */
#include "daemon/net/net.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

enum { POSTERS = 4, EACH = 5000 };

static void on_head(struct wn_exchange *x, void *arg)
{
}
static const struct wn_handler handler = { .on_head = on_head };

static struct wn_net *net_new(unsigned loops)
{
    struct wn_net_opts opts = { .loops = loops };
    struct wn_net *net = NULL;
    struct winnow_err err = { 0 };
    cr_assert_eq(wn_net_new(&opts, &handler, &net, &err), WINNOW_OK, "%s", err.msg);
    return net;
}

struct note {
    struct wn_msg msg;
    unsigned poster, number;
};
static unsigned next_of[POSTERS], out_of_order;
static atomic_uint n_run;
static struct wn_net *shared;

static void take_note(struct wn_loop *loop, struct wn_msg *msg)
{
    struct note *note = WN_CONTAINER_OF(msg, struct note, msg);
    out_of_order += next_of[note->poster]++ != note->number;
    atomic_fetch_add(&n_run, 1);
    free(note);
}

static void *post_notes(void *arg)
{
    for (unsigned i = 0; i < EACH; i++) {
        struct note *note = calloc(1, sizeof *note);
        *note = (struct note){ .msg.run = take_note, .poster = (unsigned)(uintptr_t)arg, .number = i };
        wn_loop_post(wn_net_loop(shared, 0), &note->msg);
    }
    return NULL;
}

Test(net_loop, every_message_runs_once_in_its_posters_order, .timeout = 20)
{
    shared = net_new(1);
    pthread_t t[POSTERS];
    for (uintptr_t i = 0; i < POSTERS; i++)
        pthread_create(&t[i], NULL, post_notes, (void *)i);
    for (int i = 0; i < POSTERS; i++)
        pthread_join(t[i], NULL);
    wn_net_free(shared); /* what is still in the mailbox runs */
    cr_expect_eq(atomic_load(&n_run), POSTERS * EACH);
    cr_expect_eq(out_of_order, 0);
}

struct timing {
    struct wn_msg msg;
    sem_t done;
    uint64_t start_ns, fired_ns[3];
    int n;
    struct wn_timer *cancelled;
};

static void fired(struct wn_timer *t, void *arg)
{
    struct timing *timing = arg;
    timing->fired_ns[timing->n++] = wn_now_ns();
    wn_timer_free(t);
    if (timing->n == 2)
        sem_post(&timing->done);
}

static void start_timers(struct wn_loop *loop, struct wn_msg *msg)
{
    struct timing *timing = WN_CONTAINER_OF(msg, struct timing, msg);
    timing->start_ns = wn_now_ns();
    cr_assert(wn_timer_new(loop, 30000, fired, timing));
    cr_assert(wn_timer_new(loop, 10000, fired, timing));
    timing->cancelled = wn_timer_new(loop, 5000, fired, timing);
    wn_timer_free(timing->cancelled);
    wn_timer_free(NULL);
}

Test(net_loop, timers_fire_once_not_early_and_can_be_cancelled, .timeout = 20)
{
    struct wn_net *net = net_new(1);
    struct timing timing = { .msg.run = start_timers };
    sem_init(&timing.done, 0, 0);
    wn_loop_post(wn_net_loop(net, 0), &timing.msg);
    sem_wait(&timing.done);
    wn_net_free(net);
    cr_expect_eq(timing.n, 2);
    cr_expect_geq(timing.fired_ns[0] - timing.start_ns, 9999000u);
    cr_expect_geq(timing.fired_ns[1] - timing.start_ns, 29999000u);
}

struct lookup {
    struct wn_msg msg;
    struct wn_xid id;
    sem_t done;
    struct wn_exchange *found;
};

static void look_up(struct wn_loop *loop, struct wn_msg *msg)
{
    struct lookup *l = WN_CONTAINER_OF(msg, struct lookup, msg);
    l->found = wn_loop_find(loop, l->id);
    sem_post(&l->done);
}

Test(net_loop, stale_and_foreign_ids_find_nothing, .timeout = 20)
{
    struct wn_net *net = net_new(2);
    cr_assert_eq(wn_net_n_loops(net), 2);
    cr_assert_null(wn_net_loop(net, 2));
    struct wn_xid ids[] = { { wn_net_loop(net, 0), 0, 1 },
                            { wn_net_loop(net, 0), UINT64_MAX, UINT64_MAX },
                            { wn_net_loop(net, 1), 1, 1 },
                            { NULL, 0, 0 } };
    for (size_t i = 0; i < WN_COUNT(ids); i++) {
        struct lookup l = { .msg.run = look_up, .id = ids[i], .found = (void *)&l };
        sem_init(&l.done, 0, 0);
        wn_loop_post(wn_net_loop(net, 0), &l.msg);
        sem_wait(&l.done);
        cr_expect_null(l.found);
    }
    wn_net_free(net);
}

static sem_t go_on;

static void block(struct wn_loop *loop, struct wn_msg *msg)
{
    sem_wait(&go_on);
}

Test(net_loop, a_blocked_loop_is_not_alive, .timeout = 20)
{
    struct wn_net *net = net_new(2);
    sem_init(&go_on, 0, 0);
    cr_expect(wn_net_alive(net, 2000000));
    struct wn_msg msg = { .run = block };
    wn_loop_post(wn_net_loop(net, 1), &msg);
    usleep(700000);
    cr_expect_not(wn_net_alive(net, 400000));
    sem_post(&go_on);
    usleep(600000);
    cr_expect(wn_net_alive(net, 1000000));
    wn_net_free(net);
}
