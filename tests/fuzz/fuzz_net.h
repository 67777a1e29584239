/* fuzz_net.h: an idle net, one connection at a time over a socketpair, for fuzz_h1.c and fuzz_h2.c.
 *
 * The handler takes requests in every way there is, chosen by the path's second byte, so that a fuzzer reaches them
 * all. After each input the books must balance: every head was answered or reported gone, and no byte stays buffered.
 */
#ifndef WN_FUZZ_NET_H
#define WN_FUZZ_NET_H

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/log.h"
#include "daemon/net/internal.h"

static struct wn_net *fuzz_net;
static uint64_t fuzz_heads, fuzz_done, fuzz_gone;
static struct wn_xid fuzz_late_id; /* answered after the input, if it can still be found */

static inline size_t fuzz_data(struct wn_exchange *x, const void *bytes, size_t n, void *arg)
{
    if (n && *(const char *)bytes == '!')
        wn_exchange_reply(x, 507, NULL, 0, (struct wn_bytes){ .p = "full", .n = 4 });
    return n - n / 2;
}

static inline void fuzz_data_end(struct wn_exchange *x, void *arg)
{
    wn_exchange_consumed(x, SIZE_MAX);
    wn_exchange_reply(x, 200, NULL, 0, (struct wn_bytes){ .p = "ok", .n = 2 });
}

static inline size_t fuzz_talk(struct wn_exchange *x, const void *bytes, size_t n, void *arg)
{
    wn_exchange_write(x, (struct wn_bytes){ .p = bytes, .n = n });
    return n;
}

static inline void fuzz_talk_end(struct wn_exchange *x, void *arg)
{
    struct wn_header h = { "x-end", 5, "1\n2", 3 };
    wn_exchange_finish(x, &h, 1);
}

static inline void fuzz_on_head(struct wn_exchange *x, void *arg)
{
    static const struct wn_body_sink sink = { .data = fuzz_data, .end = fuzz_data_end };
    static const struct wn_body_sink talk = { .data = fuzz_talk, .end = fuzz_talk_end };
    fuzz_heads++;
    const char *path = wn_exchange_path(x);
    switch (path[0] ? path[1] : 0) {
    case 'e':
        wn_exchange_collect(x, 1000);
        break;
    case 's':
        wn_exchange_stream(x, &sink, 5000);
        break;
    case 't':
        wn_exchange_stream(x, &talk, 0);
        wn_exchange_allow_idle(x);
        wn_exchange_start(x, 200, NULL, 0);
        break;
    case 'l':
        fuzz_late_id = wn_exchange_id(x);
        break;
    case 'a':
        wn_exchange_start(x, 200, NULL, 0);
        wn_exchange_abort(x);
        break;
    default:
        wn_exchange_reply(x, path[0] ? 200 : 204, NULL, 0, (struct wn_bytes){ .p = "hello", .n = 5 });
    }
}

static inline void fuzz_on_end(struct wn_exchange *x, void *arg)
{
    size_t n;
    void *body = wn_exchange_take_body(x, &n);
    wn_exchange_reply(x, 200, NULL, 0, (struct wn_bytes){ body, n, free, body });
}

static inline void fuzz_on_done(struct wn_exchange *x, void *arg)
{
    fuzz_done++;
}

static inline void fuzz_on_gone(struct wn_exchange *x, void *arg)
{
    fuzz_gone++;
}

static inline void fuzz_start(void)
{
    if (fuzz_net)
        return;
    signal(SIGPIPE, SIG_IGN);
    wn_log_configure(WN_LOG_AUTO, WN_LOG_ERROR);
    struct wn_net_opts opts = { .loops = 1, .max_streams = 16, .max_header_bytes = 2048, .max_headers = 20 };
    struct wn_handler handler = {
        .on_head = fuzz_on_head, .on_end = fuzz_on_end, .on_done = fuzz_on_done, .on_gone = fuzz_on_gone
    };
    struct winnow_err err;
    if (wn_net_new_idle(&opts, &handler, &fuzz_net, &err) != WINNOW_OK) {
        fprintf(stderr, "%s\n", err.msg);
        abort();
    }
}

static inline void fuzz_must(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "broken: %s\n", what);
    abort();
}

/* A client that sends `n` bytes in pieces of `step` bytes and takes what comes. */
static inline void fuzz_connection(const uint8_t *p, size_t n, size_t step)
{
    fuzz_start();
    struct wn_loop *loop = wn_net_loop(fuzz_net, 0);
    int fd[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) < 0)
        abort();
    fuzz_late_id = (struct wn_xid){ 0 };
    atomic_fetch_add(&fuzz_net->n_conns, 1);
    atomic_fetch_add(&fuzz_net->peers[0], 1);
    wn_conn_adopt(loop, fd[1], NULL, 0);
    char answer[4096];
    while (n) {
        ssize_t sent = write(fd[0], p, WN_MIN(n, step));
        if (sent < 0 && errno != EAGAIN)
            break; /* closed on us */
        if (sent > 0) {
            p += sent;
            n -= (size_t)sent;
        }
        wn_loop_turn(loop);
        while (read(fd[0], answer, sizeof answer) > 0)
            ;
        if (!loop->n_conns)
            break;
    }
    for (int i = 0; i < 3; i++)
        wn_loop_turn(loop);
    struct wn_exchange *late = fuzz_late_id.loop ? wn_loop_find(loop, fuzz_late_id) : NULL;
    if (late)
        wn_exchange_reply(late, 200, NULL, 0, (struct wn_bytes){ .p = "late", .n = 4 });
    wn_loop_turn(loop);
    close(fd[0]);
    for (int i = 0; i < 100 && loop->n_conns; i++)
        wn_loop_turn(loop);
    fuzz_must(!loop->n_conns, "a connection stayed open");
    fuzz_must(fuzz_heads == fuzz_done + fuzz_gone, "an exchange ended twice or never");
    fuzz_must(atomic_load(&fuzz_net->buffered) == 0, "buffered bytes were not given back");
    fuzz_must(atomic_load(&loop->counters.xs_open) == 0, "an exchange leaked");
}

#endif
