/* net.c: addresses, inherited sockets, counters, new limits while running, drain of an empty net. */
#include "daemon/net/net.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void on_head(struct wn_exchange *x, void *arg)
{
    char text[256];
    const struct wn_header *h = wn_exchange_header(x, "x-name");
    int n = snprintf(text, sizeof text, "%s|%s|%s|%s|%s", wn_exchange_method(x), wn_exchange_path(x),
                     wn_exchange_query(x), h ? h->value : "-", wn_exchange_protocol(x));
    struct wn_header reply[] = { { "x-split", 7, " a\r\nb: c ", 9 }, { "content-length", 14, "999", 3 } };
    wn_exchange_reply(x, 200, reply, 2, (struct wn_bytes){ .p = text, .n = (size_t)n });
    wn_exchange_reply(x, 500, NULL, 0, (struct wn_bytes){ 0 }); /* the second one is ignored */
}
static const struct wn_handler handler = { .on_head = on_head };

static struct wn_net *net_new(void)
{
    struct wn_net *net = NULL;
    struct winnow_err err = { 0 };
    cr_assert_eq(wn_net_new(&(struct wn_net_opts){ .loops = 1 }, &handler, &net, &err), WINNOW_OK, "%s", err.msg);
    return net;
}

/* What a client gets that sends `request` and waits for the end. */
static void talk(uint16_t port, const char *request, char *answer, size_t size)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in to = { .sin_family = AF_INET,
                              .sin_port = htons(port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    size_t n = 0;
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0 && write(fd, request, strlen(request)) > 0)
        for (ssize_t got; n < size - 1 && (got = read(fd, answer + n, size - 1 - n)) > 0;)
            n += (size_t)got;
    answer[n] = '\0';
    close(fd);
}

Test(net, addresses, .timeout = 20)
{
    static const char *const bad[] = {
        "",      "127.0.0.1", "127.0.0.1:", ":80",          "127.0.0.1:x",      "127.0.0.1:65536", "::1:80",
        "[::1]", "[::1:80",   "a.b:80",     "127.0.0.1:-1", "127.0.0.1:000080", "[]:80",           "127.0.0.1: 8"
    };
    struct wn_net *net = net_new();
    struct winnow_err err;
    uint16_t port = 0;
    for (size_t i = 0; i < WN_COUNT(bad); i++) {
        cr_expect_eq(wn_net_listen(net, bad[i], &port, &err), WINNOW_E_MALFORMED, "'%s'", bad[i]);
        cr_expect(strstr(err.msg, bad[i]), "'%s': %s", bad[i], err.msg);
    }
    cr_expect_eq(wn_net_listen(net, "localhost:0", &port, &err), WINNOW_OK);
    cr_expect_neq(port, 0);
    char taken[32];
    snprintf(taken, sizeof taken, "127.0.0.1:%u", port);
    cr_expect_neq(wn_net_listen(net, taken, NULL, &err), WINNOW_OK, "a port can be had once");
    cr_expect(strstr(err.msg, taken), "%s", err.msg);
    cr_expect_neq(wn_net_listen_fd(net, 0, &err), WINNOW_OK, "standard input is no listening socket");
    wn_net_free(net);
    wn_net_free(NULL);
}

Test(net, inherited_socket_serves_and_headers_are_clean, .timeout = 20)
{
    struct wn_net *net = net_new();
    struct winnow_err err;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof at;
    cr_assert_eq(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    cr_assert_eq(listen(fd, 5), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    cr_assert_eq(wn_net_listen_fd(net, fd, &err), WINNOW_OK, "%s", err.msg);
    char answer[1024];
    talk(ntohs(at.sin_port), "GET /a%20b?c=d?e HTTP/1.1\r\nHost: x\r\nX-Name: \t v w \r\nConnection: close\r\n\r\n",
         answer, sizeof answer);
    cr_expect(strstr(answer, "\r\n\r\nGET|/a%20b|c=d?e|v w|HTTP/1.1"), "%s", answer);
    cr_expect(strstr(answer, "x-split: a??b: c\r\n"), "no header of a handler's may hold a line end: %s", answer);
    cr_expect_not(strstr(answer, "999"), "the length is net's: %s", answer);
    struct wn_net_stats stats;
    wn_net_stats(net, &stats);
    cr_expect_eq(stats.connections_total, 1);
    cr_expect_eq(stats.exchanges_total, 1);
    cr_expect_eq(stats.bytes_out, strlen(answer));
    wn_net_free(net);
}

Test(net, limits_change_while_running, .timeout = 20)
{
    struct wn_net *net = net_new();
    uint16_t port = 0;
    cr_assert_eq(wn_net_listen(net, "127.0.0.1:0", &port, NULL), WINNOW_OK);
    const char *request = "GET / HTTP/1.1\r\nHost: x\r\nA: 1\r\nConnection: close\r\n\r\n";
    char answer[1024];
    talk(port, request, answer, sizeof answer);
    cr_expect(strncmp(answer, "HTTP/1.1 200 ", 13) == 0, "%s", answer);
    wn_net_configure(net, &(struct wn_net_opts){ .max_headers = 2 });
    usleep(50000);
    talk(port, request, answer, sizeof answer);
    cr_expect(strncmp(answer, "HTTP/1.1 431 ", 13) == 0, "%s", answer);
    wn_net_free(net);
}

static void post(void *arg)
{
    sem_post(arg);
}

Test(net, drain_of_an_empty_net_is_done_at_once, .timeout = 20)
{
    struct wn_net *net = NULL;
    cr_assert_eq(wn_net_new(&(struct wn_net_opts){ .loops = 3 }, &handler, &net, NULL), WINNOW_OK);
    cr_assert_eq(wn_net_listen(net, "127.0.0.1:0", NULL, NULL), WINNOW_OK);
    sem_t done;
    sem_init(&done, 0, 0);
    uint64_t start = wn_now_ns();
    wn_net_drain(net, 10000000, post, &done);
    wn_net_drain(net, 10000000, post, &done); /* only the first one counts */
    sem_wait(&done);
    cr_expect_lt(wn_now_ns() - start, 5000000000u);
    wn_net_free(net);
    cr_expect_neq(sem_trywait(&done), 0);
}
