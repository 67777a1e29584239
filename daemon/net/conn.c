/* conn.c: one connection: socket, sniffing, deadlines, closing.
 *
 * DESIGN  The first bytes decide: as soon as one differs from the HTTP/2 client preface it is HTTP/1.1, all 24 equal is
 *         HTTP/2. Nothing is copied or peeked: the bytes stay in the input buffer for the parser.
 *         One timer per connection, armed lazily: it is moved only when something must be looked at earlier. Progress
 * is sampled when it fires, so bytes cost nothing; a stall is cut between 1 and 1.25 timeouts. */
#include "daemon/net/internal.h"

#include <arpa/inet.h>
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

#define PREFACE   "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define LINGER_US 2000000u

static void on_readable(struct bufferevent *bev, void *arg);
static void on_writable(struct bufferevent *bev, void *arg);
static void on_event(struct bufferevent *bev, short what, void *arg);
static void on_check(evutil_socket_t fd, short what, void *arg);

/* ---- lifecycle ---- */
/* The one place where a connection gets its transport. */
static struct bufferevent *transport_new(struct wn_loop *loop, int fd)
{
    return bufferevent_socket_new(loop->base, fd, BEV_OPT_CLOSE_ON_FREE);
}

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

void wn_conn_adopt(struct wn_loop *loop, int fd, const struct sockaddr *peer, unsigned bucket)
{
    struct wn_conn *conn = loop->draining ? NULL : calloc(1, sizeof *conn);
    struct bufferevent *bev = conn ? transport_new(loop, fd) : NULL;
    if (!bev || evtimer_assign(&conn->check_ev, loop->base, on_check, conn) < 0 || !wn_loop_add_conn(loop, conn)) {
        if (bev)
            bufferevent_free(bev);
        else
            close(fd);
        free(conn);
        uncount(loop->net, bucket);
        wn_count(&loop->counters.refused, 1);
        return;
    }
    tune(fd);
    conn->magic = WN_CONN_MAGIC;
    conn->loop = loop;
    conn->bev = bev;
    conn->fd = fd;
    conn->since_ns = wn_now_ns();
    conn->check_at = WN_NEVER;
    conn->peer_bucket = bucket;
    name_peer(conn, peer);
    wn_count(&loop->counters.open, 1);
    wn_count(&loop->counters.total, 1);
    bufferevent_setcb(bev, on_readable, on_writable, on_event, conn);
    bufferevent_setwatermark(bev, EV_WRITE, WN_OUT_LOW, 0);
    wn_conn_reading(conn, true);
    wn_conn_wake_by(conn, conn->since_ns + loop->opts.header_timeout_us * 1000);
}

void wn_conn_free(struct wn_conn *conn)
{
    struct wn_loop *loop = conn->loop;
    while (conn->xs)
        wn_exchange_end(conn->xs, false);
    if (conn->proto)
        conn->proto->done(conn);
    evtimer_del(&conn->check_ev);
    bufferevent_free(conn->bev);
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
    if (evbuffer_add(bufferevent_get_output(conn->bev), p, n) < 0)
        wn_conn_kill(conn);
    else
        appended(conn, n);
}

static void release_ref(const void *data, size_t n, void *extra)
{
    struct wn_bytes *bytes = extra;
    bytes->release(bytes->arg);
    free(bytes);
}

void wn_conn_send_bytes(struct wn_conn *conn, struct wn_bytes bytes)
{
    struct wn_bytes *keep = bytes.release && bytes.n > WN_COPY_MAX ? malloc(sizeof *keep) : NULL;
    if (!keep) {
        wn_conn_send(conn, bytes.p, bytes.n);
        wn_bytes_release(bytes);
        return;
    }
    *keep = bytes;
    if (evbuffer_add_reference(bufferevent_get_output(conn->bev), bytes.p, bytes.n, release_ref, keep) < 0) {
        release_ref(bytes.p, bytes.n, keep);
        wn_conn_kill(conn);
        return;
    }
    appended(conn, bytes.n);
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

static void on_event(struct bufferevent *bev, short what, void *arg)
{
    struct wn_conn *conn = arg;
    WN_CHECK_MAGIC(conn, WN_CONN_MAGIC);
    struct wn_loop *loop = conn->loop;
    if ((what & BEV_EVENT_EOF) && conn->proto && !conn->linger_until) {
        conn->eof = true;
        conn->reading = false;
        conn->proto->eof(conn);
        wn_conn_dirty(conn);
    } else if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) {
        wn_conn_kill(conn);
    }
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
        uint64_t end = conn->since_ns + o->header_timeout_us * 1000;
        if (now >= end) {
            wn_count(&conn->loop->counters.limits, 1);
            wn_conn_blame(conn, "no request in time");
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
