/* loop.c: one event base and its thread, its mailbox, its timers, its table of connections.
 *
 * DESIGN  Threads talk to a loop only through its mailbox: a lock-free stack, taken whole and turned round, and an
 *         eventfd that is written only when the stack was empty. libevent's own locks are therefore off.
 *         Timers use the precise clock (the coarse one is up to 4 ms early); it costs one more system call per wait,
 * which does not show under load. Connection ids carry a serial number beside the slot, so that a stale id finds
 * nothing. */
#include "daemon/net/internal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define SLOT_BITS 20
#define TICK_US   250000

/* The loop whose thread this is. */
static __thread struct wn_loop *current;

/* ---- mailbox ---- */
void wn_loop_post(struct wn_loop *loop, struct wn_msg *msg)
{
    struct wn_msg *head = atomic_load_explicit(&loop->inbox, memory_order_relaxed);
    do
        msg->next = head;
    while (
        !atomic_compare_exchange_weak_explicit(&loop->inbox, &head, msg, memory_order_release, memory_order_relaxed));
    if (head)
        return;
    uint64_t one = 1;
    while (write(loop->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

static void run_inbox(struct wn_loop *loop)
{
    struct wn_msg *msg = atomic_exchange_explicit(&loop->inbox, NULL, memory_order_acquire), *first = NULL;
    while (msg) { /* newest first: turn round */
        struct wn_msg *next = msg->next;
        msg->next = first;
        first = msg;
        msg = next;
    }
    while (first) {
        msg = first;
        first = msg->next; /* run() may free it */
        msg->run(loop, msg);
    }
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    struct wn_loop *loop = arg;
    uint64_t n;
    ssize_t got = read(fd, &n, sizeof n); /* before the mailbox is taken: a later post wakes us again */
    (void)got;
    run_inbox(loop);
    wn_loop_settle(loop);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct wn_loop *loop = arg;
    atomic_store_explicit(&loop->turned_ns, wn_now_ns(), memory_order_relaxed);
}

/* ---- timers ---- */
struct wn_timer {
    struct wn_loop *loop;
    struct event ev;
    void (*run)(struct wn_timer *t, void *arg);
    void *arg;
};

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct wn_timer *t = arg;
    struct wn_loop *loop = t->loop;
    t->run(t, t->arg);
    wn_loop_settle(loop);
}

struct wn_timer *wn_timer_new(struct wn_loop *loop, uint64_t after_us, void (*run)(struct wn_timer *t, void *arg),
                              void *arg)
{
    struct wn_timer *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    *t = (struct wn_timer){ .loop = loop, .run = run, .arg = arg };
    struct timeval tv = { .tv_sec = (time_t)(after_us / 1000000), .tv_usec = (suseconds_t)(after_us % 1000000) };
    if (evtimer_assign(&t->ev, loop->base, on_timer, t) < 0 || evtimer_add(&t->ev, &tv) < 0) {
        free(t);
        return NULL;
    }
    return t;
}

void wn_timer_free(struct wn_timer *t)
{
    if (!t)
        return;
    evtimer_del(&t->ev);
    free(t);
}

/* ---- connections ---- */
bool wn_loop_add_conn(struct wn_loop *loop, struct wn_conn *conn)
{
    if (!loop->n_free) {
        size_t n = loop->n_slots ? loop->n_slots * 2 : 64;
        if (n > (size_t)1 << SLOT_BITS)
            return false;
        struct wn_conn **slot = realloc(loop->slot, n * sizeof *slot);
        if (!slot)
            return false;
        loop->slot = slot;
        uint32_t *spare = realloc(loop->free_slot, n * sizeof *spare);
        if (!spare)
            return false;
        loop->free_slot = spare;
        for (size_t i = n; i-- > loop->n_slots;) {
            slot[i] = NULL;
            spare[loop->n_free++] = (uint32_t)i;
        }
        loop->n_slots = n;
    }
    uint32_t at = loop->free_slot[--loop->n_free];
    loop->slot[at] = conn;
    conn->id = ++loop->serial << SLOT_BITS | at;
    loop->n_conns++;
    return true;
}

/* The last one of a draining loop reports. */
static void note_drained(struct wn_loop *loop)
{
    if (!loop->draining || loop->drained || loop->n_conns)
        return;
    loop->drained = true;
    evtimer_del(&loop->cut_ev);
    wn_net_loop_drained(loop->net);
}

void wn_loop_remove_conn(struct wn_loop *loop, struct wn_conn *conn)
{
    uint32_t at = (uint32_t)(conn->id & (((uint64_t)1 << SLOT_BITS) - 1));
    loop->slot[at] = NULL;
    loop->free_slot[loop->n_free++] = at;
    loop->n_conns--;
    note_drained(loop);
}

struct wn_conn *wn_loop_conn(struct wn_loop *loop, uint64_t id)
{
    size_t at = id & (((uint64_t)1 << SLOT_BITS) - 1);
    struct wn_conn *conn = at < loop->n_slots ? loop->slot[at] : NULL;
    return conn && conn->id == id && !conn->dead ? conn : NULL;
}

struct wn_exchange *wn_loop_find(struct wn_loop *loop, struct wn_xid id)
{
    WN_CHECK_MAGIC(loop, WN_LOOP_MAGIC);
    if (WN_UNLIKELY(current != loop))
        wn_die(__FILE__, __LINE__, "exchange looked up outside its loop's thread");
    if (id.loop != loop)
        return NULL;
    struct wn_conn *conn = wn_loop_conn(loop, id.conn);
    if (!conn)
        return NULL;
    for (struct wn_exchange *x = conn->xs; x; x = x->next)
        if (x->stream == id.stream)
            return x->detached || x->response == WN_RESPONSE_FINISHED ? NULL : x;
    return NULL;
}

void wn_loop_settle(struct wn_loop *loop)
{
    struct wn_conn *conn;
    while ((conn = loop->dirty)) {
        loop->dirty = conn->dirty_next;
        if (!loop->dirty)
            loop->dirty_end = &loop->dirty;
        conn->dirty_next = NULL;
        conn->dirty = false;
        if (!conn->dead && conn->proto)
            conn->proto->turn(conn);
        if (conn->dead && !conn->dirty) /* dirty again: it comes round once more */
            wn_conn_free(conn);
    }
}

/* ---- drain ---- */
static void each_conn(struct wn_loop *loop, void (*fn)(struct wn_conn *conn))
{
    for (size_t i = 0; i < loop->n_slots; i++)
        if (loop->slot[i])
            fn(loop->slot[i]);
    wn_loop_settle(loop);
}

static void drain_conn(struct wn_conn *conn)
{
    if (!conn->proto || conn->linger_until)
        wn_conn_kill(conn);
    else if (!conn->dead)
        conn->proto->drain(conn);
}

static void on_cut(evutil_socket_t fd, short what, void *arg)
{
    each_conn(arg, wn_conn_kill);
}

void wn_loop_drain(struct wn_loop *loop)
{
    if (loop->draining)
        return;
    loop->draining = true;
    uint64_t grace = loop->net->grace_us;
    struct timeval tv = { .tv_sec = (time_t)(grace / 1000000), .tv_usec = (suseconds_t)(grace % 1000000) };
    evtimer_add(&loop->cut_ev, &tv);
    each_conn(loop, drain_conn);
    note_drained(loop);
}

/* ---- lifecycle ---- */
enum winnow_status wn_loop_init(struct wn_loop *loop, struct wn_net *net, unsigned index,
                                const struct wn_net_opts *opts, struct winnow_err *err)
{
    *loop = (struct wn_loop){ .magic = WN_LOOP_MAGIC, .net = net, .index = index, .opts = *opts, .wake_fd = -1 };
    loop->dirty_end = &loop->dirty;
    struct event_config *cfg = event_config_new();
    if (cfg) {
        event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK);
        event_config_set_flag(cfg, EVENT_BASE_FLAG_NO_CACHE_TIME);
        event_config_set_flag(cfg, EVENT_BASE_FLAG_PRECISE_TIMER);
        loop->base = event_base_new_with_config(cfg);
        event_config_free(cfg);
    }
    if (!loop->base)
        return wn_fail(err, WINNOW_E_NOMEM, "event loop %u", index);
    loop->reserve = malloc(WN_RESERVE_BYTES);
    if (!loop->reserve)
        return wn_fail(err, WINNOW_E_NOMEM, "event loop %u", index);
    loop->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (loop->wake_fd < 0)
        return wn_fail_errno(err, errno, "event loop %u: eventfd", index);
    struct timeval tick = { .tv_usec = TICK_US };
    if (event_assign(&loop->wake_ev, loop->base, loop->wake_fd, EV_READ | EV_PERSIST, on_wake, loop) < 0 ||
        event_assign(&loop->tick_ev, loop->base, -1, EV_PERSIST, on_tick, loop) < 0 ||
        evtimer_assign(&loop->cut_ev, loop->base, on_cut, loop) < 0 || event_add(&loop->wake_ev, NULL) < 0 ||
        event_add(&loop->tick_ev, &tick) < 0)
        return wn_fail(err, WINNOW_E_NOMEM, "event loop %u", index);
    atomic_store(&loop->turned_ns, wn_now_ns());
    return WINNOW_OK;
}

/* The daemon's main thread takes the signals; a write to a closed socket is an error code here, not SIGPIPE. */
static void *loop_main(void *arg)
{
    struct wn_loop *loop = arg;
    current = loop;
    while (!loop->stop)
        if (event_base_loop(loop->base, 0) < 0)
            wn_die(__FILE__, __LINE__, "event loop failed");
    each_conn(loop, wn_conn_kill);
    return NULL;
}

enum winnow_status wn_loop_start(struct wn_loop *loop, struct winnow_err *err)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    int rc = pthread_create(&loop->thread, NULL, loop_main, loop);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc)
        return wn_fail_errno(err, rc, "event loop %u: thread", loop->index);
    loop->threaded = true;
    char name[16];
    snprintf(name, sizeof name, "net-%u", loop->index % 1000u);
    pthread_setname_np(loop->thread, name);
    return WINNOW_OK;
}

static void stop(struct wn_loop *loop, struct wn_msg *msg)
{
    loop->stop = true;
    event_base_loopbreak(loop->base);
}

void wn_loop_done(struct wn_loop *loop)
{
    if (!loop->magic)
        return;
    if (loop->threaded) {
        struct wn_msg msg = { .run = stop };
        wn_loop_post(loop, &msg);
        pthread_join(loop->thread, NULL);
    } else if (loop->base) {
        each_conn(loop, wn_conn_kill);
    }
    struct wn_loop *outer = current;
    current = loop; /* its thread is gone: we are it */
    run_inbox(loop);
    current = outer;
    if (loop->index == 0)
        wn_net_stop_listening(loop->net);
    if (loop->base) {
        each_conn(loop, wn_conn_kill); /* a message may have brought one */
        event_base_free(loop->base);
    }
    if (loop->wake_fd >= 0)
        close(loop->wake_fd);
    free(loop->slot);
    free(loop->free_slot);
    free(loop->reserve);
    wn_tls_unref(loop->tls);
    wn_vec_done(&loop->text);
    loop->magic = 0;
}

void wn_loop_turn(struct wn_loop *loop)
{
    current = loop;
    event_base_loop(loop->base, EVLOOP_NONBLOCK);
    wn_loop_settle(loop);
}

const char *wn_loop_date(struct wn_loop *loop)
{
    static const char *const day[] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
    static const char *const month[] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
    time_t now = time(NULL);
    if (loop->date[0] && now == loop->date_s)
        return loop->date;
    loop->date_s = now;
    struct tm tm;
    gmtime_r(&now, &tm);
    snprintf(loop->date, sizeof loop->date, "%s, %02u %s %04u %02u:%02u:%02u GMT", day[tm.tm_wday % 7],
             (unsigned)tm.tm_mday % 100, month[tm.tm_mon % 12], (unsigned)(tm.tm_year + 1900) % 10000,
             (unsigned)tm.tm_hour % 100, (unsigned)tm.tm_min % 100, (unsigned)tm.tm_sec % 100);
    return loop->date;
}
