/* conn.c: one connection: socket, sniffing, deadlines, closing.
 *
 * DESIGN  The first bytes decide: as soon as one differs from the HTTP/2 client preface it is HTTP/1.1, all 24 equal is
 *         HTTP/2. Nothing is copied or peeked: the bytes stay in the input buffer for the parser.
 *         One timer per connection, armed lazily: it is moved only when something must be looked at earlier. Progress
 * is sampled when it fires, so bytes cost nothing; a stall is cut between 1 and 1.25 timeouts.
 * TLS     Where there is a certificate, the first byte is peeked at before the connection gets its transport: 0x16
 * begins a handshake. Then ALPN decides the protocol. Of too many handshakes under way the oldest is cut: peers that
 *         complete theirs are done in milliseconds, whoever floods cuts its own. */
#include "daemon/net/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>
#include "base/log.h"

#define PREFACE       "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define LINGER_US     2000000u
#define TLS_HANDSHAKE 0x16 /* the record type that every TLS connection begins with */

static void on_readable(struct bufferevent *bev, void *arg);
static void on_writable(struct bufferevent *bev, void *arg);
static void on_event(struct bufferevent *bev, short what, void *arg);
static void on_check(evutil_socket_t fd, short what, void *arg);
static void on_first_byte(evutil_socket_t fd, short what, void *arg);
static void on_tls_end(evutil_socket_t fd, short what, void *arg);

/* ---- lifecycle ---- */

static void name_peer(struct wn_conn *conn, const struct sockaddr *peer)
{
    char host[INET6_ADDRSTRLEN] = "";
    if (peer && peer->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)peer;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
        snprintf(conn->peer, sizeof conn->peer, "%s:%u", host, ntohs(in->sin_port));
    } else if (peer && peer->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)peer;
        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
        snprintf(conn->peer, sizeof conn->peer, "[%s]:%u", host, ntohs(in6->sin6_port));
    } else {
        snprintf(conn->peer, sizeof conn->peer, "unix");
    }
}

static void uncount(struct wn_net *net, unsigned bucket)
{
    atomic_fetch_sub(&net->n_conns, 1);
    atomic_fetch_sub(&net->peers[bucket], 1);
}

static void tune(int fd)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    /* a peer that vanished without a word, while we compute, is noticed in two minutes */
    int idle_s = 60, every_s = 15, tries = 4;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every_s, sizeof every_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &tries, sizeof tries);
}

/* The transport is known: clear text or TLS. */
static void set_transport(struct wn_conn *conn, struct bufferevent *bev)
{
    if (!bev) {
        wn_conn_kill(conn);
        return;
    }
    conn->bev = bev;
    bufferevent_setcb(bev, on_readable, on_writable, on_event, conn);
    bufferevent_setwatermark(bev, EV_WRITE, WN_OUT_LOW, 0);
    wn_conn_reading(conn, true);
}

static struct bufferevent *clear_transport(struct wn_conn *conn)
{
    return bufferevent_socket_new(conn->loop->base, conn->fd, BEV_OPT_CLOSE_ON_FREE);
}

void wn_conn_adopt(struct wn_loop *loop, int fd, const struct sockaddr *peer, unsigned bucket)
{
    struct wn_conn *conn = loop->draining ? NULL : calloc(1, sizeof *conn);
    if (conn)
        *conn = (struct wn_conn){ .magic = WN_CONN_MAGIC, .loop = loop, .fd = fd, .peer_bucket = bucket };
    if (!conn || evtimer_assign(&conn->check_ev, loop->base, on_check, conn) < 0 ||
        event_assign(&conn->aux_ev, loop->base, fd, EV_READ, on_first_byte, conn) < 0 ||
        !wn_loop_add_conn(loop, conn)) {
        close(fd);
        free(conn);
        uncount(loop->net, bucket);
        wn_count(&loop->counters.refused, 1);
        return;
    }
    tune(fd);
    conn->since_ns = wn_now_ns();
    conn->check_at = WN_NEVER;
    name_peer(conn, peer);
    wn_count(&loop->counters.open, 1);
    wn_count(&loop->counters.total, 1);
    wn_conn_wake_by(conn, conn->since_ns + loop->opts.header_timeout_us * 1000);
    if (loop->tls_mode == WN_TLS_OFF || !loop->tls)
        set_transport(conn, clear_transport(conn));
    else if (event_add(&conn->aux_ev, NULL) < 0)
        wn_conn_kill(conn);
}

/* ---- handshakes ---- */
static void stop_shaking(struct wn_conn *conn)
{
    struct wn_loop *loop = conn->loop;
    if (!conn->shaking)
        return;
    *(conn->shaking_prev ? &conn->shaking_prev->shaking_next : &loop->shaking) = conn->shaking_next;
    *(conn->shaking_next ? &conn->shaking_next->shaking_prev : &loop->shaking_last) = conn->shaking_prev;
    conn->shaking = false;
    loop->n_shaking--;
    atomic_fetch_sub_explicit(&loop->counters.tls_open, 1, memory_order_relaxed);
}

static void handshake_failed(struct wn_conn *conn, const char *why)
{
    wn_count(&conn->loop->counters.tls_failed, 1);
    wn_conn_blame(conn, why);
    stop_shaking(conn);
    wn_conn_kill(conn);
}

static void start_shaking(struct wn_conn *conn)
{
    struct wn_loop *loop = conn->loop;
    unsigned most = WN_MAX(loop->opts.max_handshakes / loop->net->n_loops, 1u);
    while (loop->n_shaking >= most) {
        wn_count(&loop->counters.limits, 1);
        handshake_failed(loop->shaking, "too many TLS handshakes");
    }
    conn->shaking = true;
    conn->shaking_prev = loop->shaking_last;
    *(loop->shaking_last ? &loop->shaking_last->shaking_next : &loop->shaking) = conn;
    loop->shaking_last = conn;
    loop->n_shaking++;
    wn_count(&loop->counters.tls_open, 1);
    conn->since_ns = wn_now_ns();
    wn_conn_wake_by(conn, conn->since_ns + loop->opts.handshake_timeout_us * 1000);
}

/* Clear text where TLS is required: said in clear text, to whom it may concern. The few bytes fit a new socket. */
static void refuse_clear(struct wn_conn *conn)
{
    static const char text[] = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: 46\r\n"
                               "connection: close\r\n\r\n{\"error\":\"this port speaks TLS: use https://\"}";
    ssize_t n = send(conn->fd, text, sizeof text - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)n;
    wn_count(&conn->loop->counters.refused, 1);
    set_transport(conn, clear_transport(conn));
    if (!conn->dead)
        wn_conn_linger(conn);
}

/* Something came on a new connection; its first byte is looked at and left there. */
static void on_first_byte(evutil_socket_t fd, short what, void *arg)
{
    struct wn_conn *conn = arg;
    WN_CHECK_MAGIC(conn, WN_CONN_MAGIC);
    struct wn_loop *loop = conn->loop;
    unsigned char first;
    ssize_t n = recv(fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR) && event_add(&conn->aux_ev, NULL) == 0)
        return;
    if (n <= 0 || !loop->tls) {
        wn_conn_kill(conn);
    } else if (first == TLS_HANDSHAKE) {
        conn->tls = true;
        start_shaking(conn);
        set_transport(conn, wn_tls_transport(loop->tls, conn));
    } else if (loop->tls_mode == WN_TLS_REQUIRED) {
        refuse_clear(conn);
    } else {
        set_transport(conn, clear_transport(conn));
    }
    wn_loop_settle(loop);
}

static void on_handshake(struct wn_conn *conn)
{
    stop_shaking(conn);
    conn->proto = wn_tls_chosen(conn);
    evtimer_assign(&conn->aux_ev, conn->loop->base, on_tls_end, conn); /* it is not pending */
    conn->since_ns = wn_now_ns();
    wn_conn_wake_by(conn, conn->since_ns + conn->loop->opts.header_timeout_us * 1000);
    wn_conn_dirty(conn);
}

void wn_conn_free(struct wn_conn *conn)
{
    struct wn_loop *loop = conn->loop;
    while (conn->xs)
        wn_exchange_end(conn->xs, false);
    if (conn->proto)
        conn->proto->done(conn);
    stop_shaking(conn);
    evtimer_del(&conn->check_ev);
    event_del(&conn->aux_ev);
    if (conn->bev)
        bufferevent_free(conn->bev);
    else
        close(conn->fd);
    wn_loop_remove_conn(loop, conn);
    uncount(loop->net, conn->peer_bucket);
    atomic_fetch_sub_explicit(&loop->counters.open, 1, memory_order_relaxed);
    conn->magic = 0;
    free(conn);
}

void wn_conn_dirty(struct wn_conn *conn)
{
    if (conn->dirty)
        return;
    conn->dirty = true;
    *conn->loop->dirty_end = conn;
    conn->loop->dirty_end = &conn->dirty_next;
}

void wn_conn_kill(struct wn_conn *conn)
{
    conn->dead = true;
    wn_conn_dirty(conn);
}

void wn_conn_finish(struct wn_conn *conn)
{
    if (conn->tls && !conn->dead)
        wn_tls_say_end(conn);
    wn_conn_kill(conn);
}

void wn_conn_blame(struct wn_conn *conn, const char *why)
{
    struct wn_loop *loop = conn->loop;
    const char *port = strrchr(conn->peer, ':');
    size_t at = XXH3_64bits(conn->peer, port ? (size_t)(port - conn->peer) : strlen(conn->peer)) % WN_BLAMED;
    uint64_t now = wn_now_ns();
    if (now < loop->blamed_until_ns[at]) { /* this peer, or one that shares its place */
        loop->unblamed++;
        return;
    }
    loop->blamed_until_ns[at] = now + (uint64_t)60 * 1000000000;
    wn_notice("peer_blamed", "peer=%s protocol=%s why=%s left_out=%llu", conn->peer,
              conn->proto ? conn->proto->name : "none", why, (unsigned long long)loop->unblamed);
    loop->unblamed = 0;
}

/* ---- bytes ---- */
struct evbuffer *wn_conn_in(const struct wn_conn *conn)
{
    return bufferevent_get_input(conn->bev);
}

size_t wn_conn_out(const struct wn_conn *conn)
{
    return evbuffer_get_length(bufferevent_get_output(conn->bev));
}

static void appended(struct wn_conn *conn, size_t n)
{
    conn->out_total += n;
    wn_count(&conn->loop->counters.out, n);
    if (!conn->out_pace.since_ns)
        wn_conn_wake_by(conn, wn_now_ns() + conn->loop->opts.write_timeout_us * 250);
}

void wn_conn_send(struct wn_conn *conn, const void *p, size_t n)
{
    struct evbuffer *out = bufferevent_get_output(conn->bev);
    for (size_t at = 0, part; at < n; at += part) {
        part = conn->tls ? WN_MIN(n - at, (size_t)WN_TLS_PIECE) : n;
        if (evbuffer_add(out, (const char *)p + at, part) < 0) {
            wn_conn_kill(conn);
            return;
        }
    }
    appended(conn, n);
}

/* Bytes that the output buffer refers to, in one or more pieces. */
struct shared_bytes {
    struct wn_bytes bytes;
    size_t refs;
};

static void release_ref(const void *data, size_t n, void *extra)
{
    struct shared_bytes *s = extra;
    if (--s->refs)
        return;
    s->bytes.release(s->bytes.arg);
    free(s);
}

void wn_conn_send_bytes(struct wn_conn *conn, struct wn_bytes bytes)
{
    struct shared_bytes *s = bytes.release && bytes.n > WN_COPY_MAX ? malloc(sizeof *s) : NULL;
    if (!s) {
        wn_conn_send(conn, bytes.p, bytes.n);
        wn_bytes_release(bytes);
        return;
    }
    *s = (struct shared_bytes){ bytes, 1 };
    struct evbuffer *out = bufferevent_get_output(conn->bev);
    bool ok = true;
    for (size_t at = 0, part; ok && at < bytes.n; at += part) {
        part = conn->tls ? WN_MIN(bytes.n - at, (size_t)WN_TLS_PIECE) : bytes.n;
        ok = evbuffer_add_reference(out, (const char *)bytes.p + at, part, release_ref, s) == 0;
        s->refs += ok;
    }
    release_ref(NULL, 0, s);
    if (ok)
        appended(conn, bytes.n);
    else
        wn_conn_kill(conn);
}

void wn_conn_reading(struct wn_conn *conn, bool on)
{
    if (conn->reading == on || conn->eof)
        return;
    conn->reading = on;
    if (on)
        bufferevent_enable(conn->bev, EV_READ);
    else
        bufferevent_disable(conn->bev, EV_READ);
}

/* ---- events ---- */
static void choose_protocol(struct wn_conn *conn)
{
    struct evbuffer *in = wn_conn_in(conn);
    size_t n = WN_MIN(evbuffer_get_length(in), sizeof PREFACE - 1);
    const unsigned char *p = n ? evbuffer_pullup(in, (ev_ssize_t)n) : NULL;
    if (!p)
        return;
    bool h2 = memcmp(p, PREFACE, n) == 0;
    if (h2 && n < sizeof PREFACE - 1)
        return; /* a true prefix: wait, the header timeout runs */
    conn->proto = h2 ? &wn_h2_proto : &wn_h1_proto;
}

static void on_readable(struct bufferevent *bev, void *arg)
{
    struct wn_conn *conn = arg;
    WN_CHECK_MAGIC(conn, WN_CONN_MAGIC);
    struct wn_loop *loop = conn->loop;
    if (conn->linger_until) {
        struct evbuffer *in = wn_conn_in(conn);
        evbuffer_drain(in, evbuffer_get_length(in));
        return;
    }
    if (!conn->proto)
        choose_protocol(conn);
    wn_conn_dirty(conn);
    wn_loop_settle(loop);
}

static void on_writable(struct bufferevent *bev, void *arg)
{
    struct wn_conn *conn = arg;
    WN_CHECK_MAGIC(conn, WN_CONN_MAGIC);
    struct wn_loop *loop = conn->loop;
    wn_conn_dirty(conn);
    wn_loop_settle(loop);
}

/* The peer's side is closed, and all it sent before is in the input. */
static void take_eof(struct wn_conn *conn)
{
    conn->eof = true;
    conn->reading = false;
    conn->proto->eof(conn);
    wn_conn_dirty(conn);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
    struct wn_conn *conn = arg;
    WN_CHECK_MAGIC(conn, WN_CONN_MAGIC);
    struct wn_loop *loop = conn->loop;
    if (what & BEV_EVENT_CONNECTED)
        on_handshake(conn);
    else if (conn->shaking && (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)))
        handshake_failed(conn, wn_tls_error(conn));
    else if ((what & BEV_EVENT_EOF) && conn->proto && !conn->linger_until && conn->tls)
        event_active(&conn->aux_ev, EV_TIMEOUT, 0); /* libevent has not yet put what it read into the input */
    else if ((what & BEV_EVENT_EOF) && conn->proto && !conn->linger_until)
        take_eof(conn);
    else if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
        wn_conn_kill(conn);
    wn_loop_settle(loop);
}

static void on_tls_end(evutil_socket_t fd, short what, void *arg)
{
    struct wn_conn *conn = arg;
    WN_CHECK_MAGIC(conn, WN_CONN_MAGIC);
    struct wn_loop *loop = conn->loop;
    bufferevent_enable(conn->bev, EV_WRITE); /* libevent stops both directions at an end of one */
    if (!conn->dead && !conn->linger_until)
        take_eof(conn);
    wn_loop_settle(loop);
}

void wn_conn_linger(struct wn_conn *conn)
{
    if (conn->linger_until)
        return;
    if (conn->eof) {
        wn_conn_kill(conn);
        return;
    }
    if (conn->tls)
        wn_tls_say_end(conn);
    shutdown(conn->fd, SHUT_WR);
    conn->linger_until = wn_now_ns() + (uint64_t)LINGER_US * 1000;
    struct evbuffer *in = wn_conn_in(conn);
    evbuffer_drain(in, evbuffer_get_length(in));
    wn_conn_reading(conn, true);
    wn_conn_wake_by(conn, conn->linger_until);
}

/* ---- deadlines ---- */
void wn_conn_wake_by(struct wn_conn *conn, uint64_t at)
{
    if (at >= conn->check_at)
        return;
    uint64_t now = wn_now_ns(), us = at > now ? (at - now) / 1000 + 1 : 1;
    struct timeval tv = { .tv_sec = (time_t)(us / 1000000), .tv_usec = (suseconds_t)(us % 1000000) };
    if (evtimer_add(&conn->check_ev, &tv) == 0)
        conn->check_at = at;
}

bool wn_pace_ok(struct wn_pace *pace, uint64_t total, uint64_t now, uint64_t timeout_us, uint64_t *next)
{
    uint64_t timeout = timeout_us * 1000, need = WN_MAX(timeout_us / 1000000 * WN_PACE_FLOOR, (uint64_t)1);
    if (!pace->since_ns || total - pace->mark >= need)
        *pace = (struct wn_pace){ .mark = total, .since_ns = now };
    if (now - pace->since_ns >= timeout)
        return false;
    *next = WN_MIN(*next, WN_MIN(now + timeout / 4, pace->since_ns + timeout));
    return true;
}

/* Upload and download of one exchange. */
static void check_exchange(struct wn_exchange *x, uint64_t now, uint64_t *next)
{
    const struct wn_net_opts *o = &x->conn->loop->opts;
    if (x->head_told && !x->req_ended && !x->unconsumed && !x->allow_idle && !x->eof_sent) {
        if (!wn_pace_ok(&x->recv_pace, x->body_seen, now, o->body_timeout_us, next)) {
            wn_count(&x->conn->loop->counters.limits, 1);
            wn_conn_blame(x->conn, "request body stalled");
            x->recv_pace.since_ns = 0;
            if (x->response == WN_RESPONSE_NONE && !x->grpc)
                wn_exchange_refuse(x, 408, "request body stalled");
            else
                x->conn->proto->abort(x);
            return;
        }
    } else {
        x->recv_pace.since_ns = 0;
    }
    if (!x->queued) {
        x->send_pace.since_ns = 0;
    } else if (!wn_pace_ok(&x->send_pace, x->sent, now, o->write_timeout_us, next)) {
        wn_count(&x->conn->loop->counters.limits, 1);
        wn_conn_blame(x->conn, "does not take its response");
        x->send_pace.since_ns = 0;
        x->conn->proto->abort(x);
    }
}

/* Everything of this connection that can be late. */
static void check(struct wn_conn *conn, uint64_t now, uint64_t *next)
{
    const struct wn_net_opts *o = &conn->loop->opts;
    if (conn->linger_until) {
        if (now >= conn->linger_until)
            wn_conn_kill(conn);
        else
            *next = WN_MIN(*next, conn->linger_until);
        return;
    }
    if (!conn->proto) {
        uint64_t end = conn->since_ns + (conn->shaking ? o->handshake_timeout_us : o->header_timeout_us) * 1000;
        if (now >= end) {
            wn_count(&conn->loop->counters.limits, 1);
            if (conn->shaking)
                wn_count(&conn->loop->counters.tls_failed, 1);
            wn_conn_blame(conn, conn->shaking ? "TLS handshake not complete in time" : "no request in time");
            wn_conn_kill(conn);
        } else {
            *next = WN_MIN(*next, end);
        }
        return;
    }
    size_t out = wn_conn_out(conn);
    if (!out) {
        conn->out_pace.since_ns = 0;
    } else if (!wn_pace_ok(&conn->out_pace, conn->out_total - out, now, o->write_timeout_us, next)) {
        wn_count(&conn->loop->counters.limits, 1);
        wn_conn_blame(conn, "does not read");
        wn_conn_kill(conn);
        return;
    }
    for (struct wn_exchange *x = conn->xs, *after; x; x = after) {
        after = x->next; /* nothing here ends an exchange at once */
        check_exchange(x, now, next);
    }
    uint64_t at = conn->proto->check(conn, now);
    *next = WN_MIN(*next, at);
}

static void on_check(evutil_socket_t fd, short what, void *arg)
{
    struct wn_conn *conn = arg;
    WN_CHECK_MAGIC(conn, WN_CONN_MAGIC);
    struct wn_loop *loop = conn->loop;
    uint64_t next = WN_NEVER;
    conn->check_at = WN_NEVER;
    check(conn, wn_now_ns(), &next);
    if (next != WN_NEVER)
        wn_conn_wake_by(conn, next);
    wn_conn_dirty(conn);
    wn_loop_settle(loop);
}
