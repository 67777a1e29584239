/* net.c: listeners, accepting, dealing connections to the loops, drain, counters.
 *
 * DESIGN  Loop 0 accepts and deals sockets round-robin: a socket unit passes one listening fd, and this libevent has no
 *         exclusive wake-ups. Out of file descriptors, the spare one is given up to accept and drop a connection (the
 *         peer learns at once), then accepting rests for a while: no spinning. */
#include "daemon/net/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>
#include "base/cpus.h"
#include "base/log.h"

enum { ACCEPT_BATCH = 64, ACCEPT_REST_MS = 100, BACKLOG = 1024, LOOPS_MAX = 256 };

static uint64_t or_default(uint64_t value, uint64_t otherwise)
{
    return value ? value : otherwise;
}

struct wn_net_opts wn_net_opts_fill(const struct wn_net_opts *opts)
{
    struct wn_net_opts o = opts ? *opts : (struct wn_net_opts){ 0 };
    const unsigned cpus = wn_cpus();
    o.loops = (unsigned)or_default(o.loops, cpus > 3 ? cpus / 2 : 1);
    o.loops = WN_MIN(o.loops, (unsigned)LOOPS_MAX);
    o.max_connections = (unsigned)or_default(o.max_connections, 10000);
    o.max_streams = (unsigned)or_default(o.max_streams, 128);
    o.max_header_bytes = or_default(o.max_header_bytes, 16 * 1024);
    o.max_headers = (unsigned)or_default(o.max_headers, 100);
    o.max_buffered = or_default(o.max_buffered, (uint64_t)1 << 30);
    o.header_timeout_us = or_default(o.header_timeout_us, 10000000);
    o.body_timeout_us = or_default(o.body_timeout_us, 30000000);
    o.write_timeout_us = or_default(o.write_timeout_us, 30000000);
    o.idle_timeout_us = or_default(o.idle_timeout_us, 300000000);
    o.handshake_timeout_us = or_default(o.handshake_timeout_us, 10000000);
    o.max_handshakes = (unsigned)or_default(o.max_handshakes, 1000);
    return o;
}

/* ---- accepting: loop 0 ---- */
struct adopt_msg {
    struct wn_msg msg;
    int fd;
    unsigned bucket;
    struct sockaddr_storage peer;
    socklen_t peer_len;
};

static void adopt(struct wn_loop *loop, struct wn_msg *msg)
{
    struct adopt_msg *m = WN_CONTAINER_OF(msg, struct adopt_msg, msg);
    wn_conn_adopt(loop, m->fd, (struct sockaddr *)&m->peer, m->bucket);
    free(m);
}

unsigned wn_net_peer_bucket(const struct wn_net *net, const struct sockaddr *peer)
{
    const void *p = NULL;
    size_t n = 0;
    if (peer->sa_family == AF_INET) {
        p = &((const struct sockaddr_in *)(const void *)peer)->sin_addr;
        n = 4;
    } else if (peer->sa_family == AF_INET6) {
        p = &((const struct sockaddr_in6 *)(const void *)peer)->sin6_addr;
        n = 8; /* whoever has one address has its /64 */
    }
    return (unsigned)(XXH3_64bits_withSeed(p, n, net->peer_secret) % WN_PEER_BUCKETS);
}

/* Too many: say so and close. The socket is new, so the few bytes fit its buffer. */
static void turn_away(struct wn_net *net, int fd)
{
    static const char text[] = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\n"
                               "connection: close\r\n\r\n";
    ssize_t n = send(fd, text, sizeof text - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)n;
    shutdown(fd, SHUT_WR);
    close(fd);
    wn_count(&net->loops[0].counters.refused, 1);
}

static void deal(struct wn_net *net, struct adopt_msg *m)
{
    struct wn_loop *loop = &net->loops[net->next_loop];
    net->next_loop = (net->next_loop + 1) % net->n_loops;
    atomic_fetch_add(&net->n_conns, 1);
    atomic_fetch_add(&net->peers[m->bucket], 1);
    if (loop == &net->loops[0])
        adopt(loop, &m->msg);
    else
        wn_loop_post(loop, &m->msg);
}

static void rest(struct wn_net *net)
{
    struct timeval tv = { .tv_usec = ACCEPT_REST_MS * 1000 };
    if (evtimer_add(&net->retry_ev, &tv) < 0)
        return; /* keep listening rather than never again */
    net->backing_off = true;
    for (struct wn_listener *l = net->listeners; l; l = l->next)
        event_del(&l->ev);
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
    struct wn_net *net = arg;
    net->backing_off = false;
    if (net->spare_fd < 0)
        net->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    for (struct wn_listener *l = net->listeners; l; l = l->next)
        event_add(&l->ev, NULL);
}

/* No descriptor left: use the spare one to drop the peers that wait now, then rest. */
static void out_of_fds(struct wn_net *net, int listen_fd)
{
    for (int i = 0; i < ACCEPT_BATCH && net->spare_fd >= 0; i++) {
        close(net->spare_fd);
        int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0)
            turn_away(net, fd);
        net->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            break;
    }
    wn_count(&net->loops[0].counters.limits, 1);
    rest(net);
}

/* Is there room for one more, in all and from this peer? Unix sockets have one peer only and are not counted by it. */
static bool has_room(struct wn_net *net, const struct adopt_msg *m)
{
    const struct wn_net_opts *o = &net->loops[0].opts;
    if (atomic_load(&net->n_conns) >= o->max_connections)
        return false;
    return !o->max_per_peer || m->peer.ss_family == AF_UNIX || atomic_load(&net->peers[m->bucket]) < o->max_per_peer;
}

/* accept4() failed: true when the next one may succeed at once. */
static bool accept_failed(struct wn_net *net, int listen_fd, int errnum)
{
    if (errnum == EINTR || errnum == ECONNABORTED || errnum == EPROTO || errnum == EPERM)
        return true;
    if (errnum != EAGAIN && errnum != EWOULDBLOCK)
        out_of_fds(net, listen_fd);
    return false;
}

/* True when another may wait. */
static bool accept_one(struct wn_net *net, int listen_fd)
{
    struct adopt_msg *m = calloc(1, sizeof *m);
    if (!m) {
        out_of_fds(net, listen_fd);
        return false;
    }
    m->msg.run = adopt;
    m->peer_len = sizeof m->peer;
    m->fd = accept4(listen_fd, (struct sockaddr *)&m->peer, &m->peer_len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (m->fd < 0) {
        int e = errno;
        free(m);
        return accept_failed(net, listen_fd, e);
    }
    m->bucket = wn_net_peer_bucket(net, (struct sockaddr *)&m->peer);
    if (!has_room(net, m)) {
        turn_away(net, m->fd);
        free(m);
        return true;
    }
    deal(net, m);
    return true;
}

static void on_accept(evutil_socket_t fd, short what, void *arg)
{
    struct wn_listener *l = arg;
    struct wn_net *net = l->net;
    for (int i = 0; i < ACCEPT_BATCH && accept_one(net, fd); i++)
        ;
    wn_loop_settle(&net->loops[0]);
}

void wn_net_stop_listening(struct wn_net *net)
{
    if (event_initialized(&net->retry_ev))
        evtimer_del(&net->retry_ev);
    while (net->listeners) {
        struct wn_listener *l = net->listeners;
        net->listeners = l->next;
        event_del(&l->ev);
        close(l->fd);
        free(l);
    }
}

/* ---- listening: any thread ---- */
struct listen_msg {
    struct wn_msg msg;
    struct wn_listener *l;
};

static void add_listener(struct wn_loop *loop, struct wn_msg *msg)
{
    struct listen_msg *m = WN_CONTAINER_OF(msg, struct listen_msg, msg);
    struct wn_net *net = loop->net;
    struct wn_listener *l = m->l;
    free(m);
    if (loop->draining || event_assign(&l->ev, loop->base, l->fd, EV_READ | EV_PERSIST, on_accept, l) < 0 ||
        (!net->backing_off && event_add(&l->ev, NULL) < 0)) {
        close(l->fd);
        free(l);
        return;
    }
    l->next = net->listeners;
    net->listeners = l;
}

enum winnow_status wn_net_listen_fd(struct wn_net *net, int fd, struct winnow_err *err)
{
    WN_CHECK_MAGIC(net, WN_NET_MAGIC);
    int on = 0;
    socklen_t len = sizeof on;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len) < 0 || !on)
        return wn_fail(err, WINNOW_E_MALFORMED, "descriptor %d is not a listening socket", fd);
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return wn_fail_errno(err, errno, "listening socket %d", fd);
    struct listen_msg *m = calloc(1, sizeof *m);
    struct wn_listener *l = calloc(1, sizeof *l);
    if (!m || !l) {
        free(m);
        free(l);
        return wn_fail(err, WINNOW_E_NOMEM, "listening socket %d", fd);
    }
    l->net = net;
    l->fd = fd;
    m->l = l;
    m->msg.run = add_listener;
    wn_loop_post(&net->loops[0], &m->msg);
    return WINNOW_OK;
}

static void freeaddrp(struct addrinfo **ai)
{
    if (*ai)
        freeaddrinfo(*ai);
}

/* "host:port", "[v6]:port" to a socket address. */
static enum winnow_status parse_address(const char *address, struct addrinfo **ret, struct winnow_err *err)
{
    char host[64];
    const char *colon = strrchr(address, ':');
    size_t n = colon ? (size_t)(colon - address) : 0;
    const char *start = address;
    if (n >= 2 && address[0] == '[' && colon[-1] == ']') {
        start++;
        n -= 2;
    } else if (memchr(address, ':', n)) {
        return wn_fail(err, WINNOW_E_MALFORMED, "address '%s': write IPv6 as [address]:port", address);
    }
    if (!colon || !n || n >= sizeof host || !colon[1] || strspn(colon + 1, "0123456789") != strlen(colon + 1) ||
        strlen(colon + 1) > 5 || atoi(colon + 1) > 65535)
        return wn_fail(err, WINNOW_E_MALFORMED, "address '%s' is not host:port", address);
    memcpy(host, start, n);
    host[n] = '\0';
    struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE, .ai_socktype = SOCK_STREAM };
    int rc = getaddrinfo(strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, colon + 1, &hints, ret);
    if (rc)
        return wn_fail(err, WINNOW_E_MALFORMED, "address '%s': %s", address, gai_strerror(rc));
    return WINNOW_OK;
}

/* A socket bound to the address. */
static enum winnow_status bind_to(const char *address, int *ret_fd, struct winnow_err *err)
{
    WN_CLEANUP(freeaddrp) struct addrinfo *ai = NULL;
    WN_TRY(parse_address(address, &ai, err));
    WN_CLEANUP(wn_closep) int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return wn_fail_errno(err, errno, "address '%s': socket", address);
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (ai->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0) {
        int why = errno;
        enum winnow_status status = wn_fail_errno(err, why, "cannot listen on '%s'", address);
        return why == EADDRINUSE ? WINNOW_E_CONFLICT : status;
    }
    *ret_fd = fd;
    fd = -1;
    return WINNOW_OK;
}

enum winnow_status wn_net_can_listen(const char *address, struct winnow_err *err)
{
    WN_CLEANUP(wn_closep) int fd = -1;
    return bind_to(address, &fd, err);
}

enum winnow_status wn_net_listen(struct wn_net *net, const char *address, uint16_t *ret_port, struct winnow_err *err)
{
    WN_CHECK_MAGIC(net, WN_NET_MAGIC);
    WN_CLEANUP(wn_closep) int fd = -1;
    WN_TRY(bind_to(address, &fd, err));
    if (listen(fd, BACKLOG) < 0)
        return wn_fail_errno(err, errno, "cannot listen on '%s'", address);
    struct sockaddr_storage bound = { 0 };
    socklen_t len = sizeof bound;
    if (getsockname(fd, (struct sockaddr *)&bound, &len) < 0)
        return wn_fail_errno(err, errno, "cannot listen on '%s'", address);
    WN_TRY(wn_net_listen_fd(net, fd, err));
    fd = -1;
    if (ret_port)
        *ret_port = ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
                                                      : ((struct sockaddr_in *)&bound)->sin_port);
    return WINNOW_OK;
}

/* ---- lifecycle ---- */
static void net_freep(struct wn_net **net)
{
    wn_net_free(*net);
}

static void log_libevent(int severity, const char *text)
{
    if (severity >= EVENT_LOG_WARN)
        wn_warning("libevent", "message=%s", text);
}

enum winnow_status wn_net_new_idle(const struct wn_net_opts *opts, const struct wn_handler *handler,
                                   struct wn_net **ret_net, struct winnow_err *err)
{
    struct wn_net_opts o = wn_net_opts_fill(opts);
    event_set_log_callback(log_libevent);
    WN_CLEANUP(net_freep) struct wn_net *net = calloc(1, sizeof *net);
    if (!net)
        return wn_fail(err, WINNOW_E_NOMEM, "network");
    net->magic = WN_NET_MAGIC;
    net->handler = *handler;
    net->spare_fd = -1;
    net->loops = calloc(o.loops, sizeof *net->loops);
    net->peers = calloc(WN_PEER_BUCKETS, sizeof *net->peers);
    if (!net->loops || !net->peers || getrandom(&net->peer_secret, sizeof net->peer_secret, 0) < 0)
        return wn_fail(err, WINNOW_E_NOMEM, "network");
    net->n_loops = o.loops;
    for (unsigned i = 0; i < o.loops; i++)
        WN_TRY(wn_loop_init(&net->loops[i], net, i, &o, err));
    net->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (evtimer_assign(&net->retry_ev, net->loops[0].base, on_retry, net) < 0)
        return wn_fail(err, WINNOW_E_NOMEM, "network");
    *ret_net = WN_TAKE(net);
    return WINNOW_OK;
}

enum winnow_status wn_net_new(const struct wn_net_opts *opts, const struct wn_handler *handler, struct wn_net **ret_net,
                              struct winnow_err *err)
{
    WN_CLEANUP(net_freep) struct wn_net *net = NULL;
    WN_TRY(wn_net_new_idle(opts, handler, &net, err));
    for (unsigned i = 0; i < net->n_loops; i++)
        WN_TRY(wn_loop_start(&net->loops[i], err));
    *ret_net = WN_TAKE(net);
    return WINNOW_OK;
}

void wn_net_free(struct wn_net *net)
{
    if (!net)
        return;
    WN_CHECK_MAGIC(net, WN_NET_MAGIC);
    for (unsigned i = 0; i < net->n_loops; i++) /* loop 0 first: it deals sockets to the others */
        wn_loop_done(&net->loops[i]);
    if (net->spare_fd >= 0)
        close(net->spare_fd);
    free(net->loops);
    free(net->peers);
    net->magic = 0;
    free(net);
}

/* ---- configure, drain ---- */
struct opts_msg {
    struct wn_msg msg;
    struct wn_net_opts opts;
};

static void set_opts(struct wn_loop *loop, struct wn_msg *msg)
{
    struct opts_msg *m = WN_CONTAINER_OF(msg, struct opts_msg, msg);
    loop->opts = m->opts;
    free(m);
}

void wn_net_configure(struct wn_net *net, const struct wn_net_opts *opts)
{
    WN_CHECK_MAGIC(net, WN_NET_MAGIC);
    for (unsigned i = 0; i < net->n_loops; i++) {
        struct opts_msg *m = calloc(1, sizeof *m);
        if (!m)
            return; /* the old limits stay; a reload can be repeated */
        m->msg.run = set_opts;
        m->opts = wn_net_opts_fill(opts);
        wn_loop_post(&net->loops[i], &m->msg);
    }
}

struct tls_msg {
    struct wn_msg msg;
    struct wn_tls *tls;
    enum wn_tls_mode mode;
};

static void set_tls(struct wn_loop *loop, struct wn_msg *msg)
{
    struct tls_msg *m = WN_CONTAINER_OF(msg, struct tls_msg, msg);
    wn_tls_unref(loop->tls);
    loop->tls = m->tls;
    loop->tls_mode = m->mode;
    free(m);
}

enum winnow_status wn_net_set_tls(struct wn_net *net, struct wn_tls *tls, enum wn_tls_mode mode, struct winnow_err *err)
{
    WN_CHECK_MAGIC(net, WN_NET_MAGIC);
    struct wn_msg *all = NULL;
    for (unsigned i = 0; i < net->n_loops; i++) {
        struct tls_msg *m = calloc(1, sizeof *m);
        if (!m) {
            while (all) {
                m = WN_CONTAINER_OF(all, struct tls_msg, msg);
                all = all->next;
                free(m);
            }
            return wn_fail(err, WINNOW_E_NOMEM, "certificates");
        }
        m->msg = (struct wn_msg){ all, set_tls };
        m->mode = tls ? mode : WN_TLS_OFF;
        all = &m->msg;
    }
    for (unsigned i = 0; i < net->n_loops; i++) {
        struct tls_msg *m = WN_CONTAINER_OF(all, struct tls_msg, msg);
        all = all->next;
        m->tls = wn_tls_ref(tls);
        wn_loop_post(&net->loops[i], &m->msg);
    }
    return WINNOW_OK;
}

static void drain_loop(struct wn_loop *loop, struct wn_msg *msg)
{
    struct wn_net *net = loop->net;
    if (loop->index == 0) {
        wn_net_stop_listening(net); /* sockets already dealt are in the mailboxes before the drain message */
        for (unsigned i = 1; i < net->n_loops; i++)
            wn_loop_post(&net->loops[i], &net->loops[i].drain_msg);
    }
    wn_loop_drain(loop);
}

void wn_net_drain(struct wn_net *net, uint64_t grace_us, void (*done)(void *arg), void *arg)
{
    WN_CHECK_MAGIC(net, WN_NET_MAGIC);
    if (atomic_exchange(&net->drain_asked, true))
        return;
    net->grace_us = grace_us;
    net->drain_done = done;
    net->drain_arg = arg;
    atomic_store(&net->drain_left, net->n_loops);
    for (unsigned i = 0; i < net->n_loops; i++)
        net->loops[i].drain_msg.run = drain_loop;
    wn_loop_post(&net->loops[0], &net->loops[0].drain_msg);
}

void wn_net_loop_drained(struct wn_net *net)
{
    if (atomic_fetch_sub(&net->drain_left, 1) == 1 && net->drain_done)
        net->drain_done(net->drain_arg);
}

/* ---- looking: any thread ---- */
void wn_net_stats(struct wn_net *net, struct wn_net_stats *ret)
{
    *ret = (struct wn_net_stats){ 0 };
    for (unsigned i = 0; i < net->n_loops; i++) {
        struct wn_counters *c = &net->loops[i].counters;
        ret->connections_open += atomic_load_explicit(&c->open, memory_order_relaxed);
        ret->connections_total += atomic_load_explicit(&c->total, memory_order_relaxed);
        ret->connections_refused += atomic_load_explicit(&c->refused, memory_order_relaxed);
        ret->exchanges_open += atomic_load_explicit(&c->xs_open, memory_order_relaxed);
        ret->exchanges_total += atomic_load_explicit(&c->xs_total, memory_order_relaxed);
        ret->exchanges_gone += atomic_load_explicit(&c->xs_gone, memory_order_relaxed);
        ret->protocol_errors += atomic_load_explicit(&c->errors, memory_order_relaxed);
        ret->limits_hit += atomic_load_explicit(&c->limits, memory_order_relaxed);
        ret->bytes_in += atomic_load_explicit(&c->in, memory_order_relaxed);
        ret->bytes_out += atomic_load_explicit(&c->out, memory_order_relaxed);
        ret->tls_handshakes_open += atomic_load_explicit(&c->tls_open, memory_order_relaxed);
        ret->tls_12 += atomic_load_explicit(&c->tls_12, memory_order_relaxed);
        ret->tls_13 += atomic_load_explicit(&c->tls_13, memory_order_relaxed);
        ret->tls_resumed += atomic_load_explicit(&c->tls_resumed, memory_order_relaxed);
        ret->tls_failed += atomic_load_explicit(&c->tls_failed, memory_order_relaxed);
    }
}

bool wn_net_alive(struct wn_net *net, uint64_t within_us)
{
    uint64_t now = wn_now_ns();
    for (unsigned i = 0; i < net->n_loops; i++) {
        uint64_t turned = atomic_load_explicit(&net->loops[i].turned_ns, memory_order_relaxed);
        if (now > turned && (now - turned) / 1000 > within_us)
            return false;
    }
    return true;
}

unsigned wn_net_n_loops(const struct wn_net *net)
{
    return net->n_loops;
}

struct wn_loop *wn_net_loop(struct wn_net *net, unsigned i)
{
    return i < net->n_loops ? &net->loops[i] : NULL;
}
