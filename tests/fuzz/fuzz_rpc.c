/* fuzz_rpc.c: any bytes as the frames of an RPC, unary or a stream, plain or compressed, cut into DATA frames anywhere.
 *
 * A real api without models answers over a socketpair. First byte: method and coding; second: bytes per DATA frame, and
 * whether the client ends its side or just leaves; the rest is the body. Afterwards nothing may be held. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/log.h"
#include "daemon/api/internal.h"
#define WN_BODY_STREAM WN_NET_BODY_STREAM /* the api has a name like it */
#include "daemon/net/internal.h"
#undef WN_BODY_STREAM

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static struct wn_api *api;
static struct wn_net *net;

static void must(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "broken: %s\n", what);
    abort();
}

static void start(void)
{
    static struct wn_config cfg;
    struct wn_net_opts opts = { .loops = 1 };
    struct winnow_err err;
    if (net)
        return;
    signal(SIGPIPE, SIG_IGN);
    wn_log_configure(WN_LOG_AUTO, WN_LOG_ERROR);
    must(wn_config_defaults(&cfg, &err) == WINNOW_OK, err.msg);
    cfg.server.max_body = 16384;
    must(wn_api_new(&cfg, NULL, &api, &err) == WINNOW_OK, err.msg);
    must(wn_net_new_idle(&opts, wn_api_handler(api), &net, &err) == WINNOW_OK, err.msg);
}

/* ---- a client ---- */
static void frame(struct wn_buf *to, unsigned char type, unsigned char flags, unsigned char stream, const void *p,
                  size_t n)
{
    unsigned char head[9] = {
        (unsigned char)(n >> 16), (unsigned char)(n >> 8), (unsigned char)n, type, flags, 0, 0, 0, stream
    };
    wn_buf_add(to, head, sizeof head);
    wn_buf_add(to, p, n);
}

/** A header that is not indexed and not Huffman-coded. */
static void header(struct wn_buf *to, const char *name, const char *value)
{
    wn_buf_char(to, 0);
    wn_buf_char(to, (char)strlen(name));
    wn_buf_text(to, name);
    wn_buf_char(to, (char)strlen(value));
    wn_buf_text(to, value);
}

static const char *const methods[] = {
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/inference.GRPCInferenceService/ServerReady",
    "/inference.GRPCInferenceService/LogSettings",
    "/inference.GRPCInferenceService/SystemSharedMemoryStatus",
};
static const char *const codings[] = { "identity", "gzip", "deflate", "snappy" };

static void request(struct wn_buf *to, uint8_t choice, uint8_t cut, const uint8_t *p, size_t n)
{
    struct wn_buf head = { 0 };
    size_t step = 1 + (size_t)(cut & 127) * (cut & 127);
    header(&head, ":method", "POST");
    header(&head, ":scheme", "http");
    header(&head, ":path", methods[choice & 3]);
    header(&head, ":authority", "a");
    header(&head, "content-type", "application/grpc");
    header(&head, "te", "trailers");
    header(&head, "grpc-encoding", codings[choice >> 2 & 3]);
    header(&head, "grpc-accept-encoding", choice & 16 ? "gzip,deflate" : "identity");
    wn_buf_text(to, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    frame(to, 4, 0, 0, NULL, 0);
    frame(to, 1, 4, 1, head.at, head.n);
    for (size_t at = 0; at < n; at += step)
        frame(to, 0, 0, 1, p + at, WN_MIN(step, n - at));
    if (cut & 128)
        frame(to, 0, 1, 1, NULL, 0);
    wn_buf_done(&head);
}

static void talk(struct wn_loop *loop, int fd, const char *p, size_t n)
{
    char answer[16384];
    while (n) {
        ssize_t sent = write(fd, p, WN_MIN(n, (size_t)4096));
        if (sent < 0 && errno != EAGAIN)
            break; /* closed on us */
        if (sent > 0) {
            p += sent;
            n -= (size_t)sent;
        }
        wn_loop_turn(loop);
        while (read(fd, answer, sizeof answer) > 0)
            ;
        if (!loop->n_conns)
            break;
    }
    for (int i = 0; i < 3; i++)
        wn_loop_turn(loop);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct wn_buf all = { 0 };
    int fd[2];
    if (n < 2 || n > 100000)
        return 0;
    start();
    struct wn_loop *loop = wn_net_loop(net, 0);
    request(&all, bytes[0], bytes[1], bytes + 2, n - 2);
    must(!all.failed && socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) == 0, "socketpair");
    atomic_fetch_add(&net->n_conns, 1);
    atomic_fetch_add(&net->peers[0], 1);
    wn_conn_adopt(loop, fd[1], NULL, 0);
    talk(loop, fd[0], all.at, all.n);
    wn_buf_done(&all);
    close(fd[0]);
    for (int i = 0; i < 20000 && (wn_api_inflight(api) || loop->n_conns); i++) { /* what workers decode comes back */
        wn_loop_turn(loop);
        if (i > 10)
            usleep(100);
    }
    must(!loop->n_conns, "the connection is still there");
    must(wn_api_inflight(api) == 0, "a request is still held");
    must(atomic_load(&api->inflated.used) == 0, "bytes are still counted");
    must(atomic_load(&net->buffered) == 0, "bytes are still buffered");
    return 0;
}
