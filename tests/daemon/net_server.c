/* net_server.c: a small server on daemon/net for tests/daemon/test_net.py: every way to take a request and to answer.
 *
 *   GET  /hello            "hello\n"
 *   POST /echo             the collected body back (at most 1 MiB)
 *   POST /sink[?slow]      streamed; answers with its length and a checksum; slow: consumed 64 KiB per 2 ms
 *   GET  /slow?MS          answered by another thread, through the mailbox, after MS milliseconds
 *   GET  /trailers         response in pieces, with trailers
 *   GET  /big?BYTES        response in pieces that waits for on_drain
 *   POST /early            answered with trailers before the request has ended
 *   POST /talk             each piece of the body comes back at once; the client may be silent
 *   GET  /stats            counters, one "name value" a line
 * Options: --loops N, --max-connections N, --max-per-peer N, --header-ms N, --body-ms N, --write-ms N, --idle-ms N,
 * --max-buffered N, --max-handshakes N, --handshake-ms N; --tls FOLDER (cert.pem, key.pem) with --tls-mode
 * optional|required; SIGHUP reads the two again. Prints "port N". SIGTERM drains (2 s), prints "drained", and ends. */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/log.h"
#include "daemon/net/net.h"

enum { ECHO_MAX = 1 << 20, PIECE = 16384, SLOW_STEP = 65536 };

static struct wn_net *net;
static atomic_ullong n_gone, n_done, n_orphaned, n_heads;

/** What this program keeps per exchange; freed in on_done or on_gone. */
struct request {
    struct wn_exchange *x;
    uint64_t seen, left;
    uint32_t sum;
    size_t held; /* given to us, not yet consumed */
    struct wn_timer *timer;
    bool ended;
};

static void text_reply(struct wn_exchange *x, int status, const char *text)
{
    struct wn_header type = { "content-type", 12, "text/plain", 10 };
    wn_exchange_reply(x, status, &type, 1, (struct wn_bytes){ .p = text, .n = strlen(text) });
}

static struct request *request_of(struct wn_exchange *x)
{
    struct request *r = wn_exchange_data(x);
    if (r)
        return r;
    r = calloc(1, sizeof *r);
    if (!r)
        abort();
    r->x = x;
    wn_exchange_set_data(x, r);
    return r;
}

/* ---- /sink ---- */
static void sink_done(struct request *r)
{
    char text[64];
    snprintf(text, sizeof text, "%llu %u\n", (unsigned long long)r->seen, r->sum);
    text_reply(r->x, 200, text);
}

static void sink_step(struct wn_timer *t, void *arg)
{
    struct request *r = arg;
    wn_timer_free(t);
    r->timer = NULL;
    size_t n = WN_MIN(r->held, (size_t)SLOW_STEP);
    r->held -= n;
    wn_exchange_consumed(r->x, n);
    if (r->held)
        r->timer = wn_timer_new(wn_exchange_loop(r->x), 2000, sink_step, r);
    else if (r->ended)
        sink_done(r);
}

static size_t sink_data(struct wn_exchange *x, const void *bytes, size_t n, void *arg)
{
    struct request *r = request_of(x);
    const unsigned char *p = bytes;
    r->seen += n;
    for (size_t i = 0; i < n; i++)
        r->sum = r->sum * 31 + p[i];
    if (strcmp(wn_exchange_query(x), "slow") != 0)
        return n;
    r->held += n;
    if (!r->timer)
        r->timer = wn_timer_new(wn_exchange_loop(x), 2000, sink_step, r);
    return 0;
}

static void sink_end(struct wn_exchange *x, void *arg)
{
    struct request *r = request_of(x);
    r->ended = true;
    if (!r->held)
        sink_done(r);
}

/* ---- /talk ---- */
static size_t talk_data(struct wn_exchange *x, const void *bytes, size_t n, void *arg)
{
    wn_exchange_write(x, (struct wn_bytes){ .p = bytes, .n = n });
    return n;
}

static void talk_end(struct wn_exchange *x, void *arg)
{
    struct wn_header trailer = { "x-end", 5, "yes", 3 };
    wn_exchange_finish(x, &trailer, 1);
}

/* ---- /slow: another thread, which knows exchanges by id only ---- */
struct job {
    struct wn_msg done;
    struct job *next;
    struct wn_xid id;
    uint64_t due_ns;
};
static pthread_mutex_t jobs_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t jobs_more = PTHREAD_COND_INITIALIZER;
static struct job *jobs, **jobs_end = &jobs;
static bool jobs_stop;

static void job_done(struct wn_loop *loop, struct wn_msg *msg)
{
    struct job *job = WN_CONTAINER_OF(msg, struct job, done);
    struct wn_exchange *x = wn_loop_find(loop, job->id);
    if (x)
        text_reply(x, 200, "slow\n");
    else
        atomic_fetch_add(&n_orphaned, 1);
    free(job);
}

static void *work(void *arg)
{
    pthread_mutex_lock(&jobs_lock);
    for (;;) {
        while (!jobs && !jobs_stop)
            pthread_cond_wait(&jobs_more, &jobs_lock);
        struct job *job = jobs;
        if (!job)
            break;
        jobs = job->next;
        if (!jobs)
            jobs_end = &jobs;
        pthread_mutex_unlock(&jobs_lock);
        uint64_t now = wn_now_ns();
        if (job->due_ns > now) {
            struct timespec ts = { .tv_sec = (time_t)((job->due_ns - now) / 1000000000),
                                   .tv_nsec = (long)((job->due_ns - now) % 1000000000) };
            nanosleep(&ts, NULL);
        }
        wn_loop_post(job->id.loop, &job->done);
        pthread_mutex_lock(&jobs_lock);
    }
    pthread_mutex_unlock(&jobs_lock);
    return NULL;
}

static void slow(struct wn_exchange *x)
{
    struct job *job = calloc(1, sizeof *job);
    if (!job)
        abort();
    job->done.run = job_done;
    job->id = wn_exchange_id(x);
    job->due_ns = wn_now_ns() + strtoull(wn_exchange_query(x), NULL, 10) * 1000000;
    pthread_mutex_lock(&jobs_lock);
    *jobs_end = job;
    jobs_end = &job->next;
    pthread_cond_signal(&jobs_more);
    pthread_mutex_unlock(&jobs_lock);
}

/* ---- responses in pieces ---- */
static void trailers(struct wn_exchange *x)
{
    struct wn_header head = { "content-type", 12, "text/plain", 10 };
    struct wn_header tail[] = { { "x-status", 8, "0", 1 }, { "x-message", 9, " all well ", 10 } };
    wn_exchange_start(x, 200, &head, 1);
    wn_exchange_write(x, (struct wn_bytes){ .p = "one ", .n = 4 });
    wn_exchange_write(x, (struct wn_bytes){ .p = "two\n", .n = 4 });
    wn_exchange_finish(x, tail, 2);
}

static void free_piece(void *arg)
{
    free(arg);
}

/* Write until the queue is full or all is written. */
static void big_more(struct request *r)
{
    while (r->left && wn_exchange_queued(r->x) <= WN_QUEUE_HIGH) {
        size_t n = WN_MIN(r->left, (uint64_t)PIECE);
        char *p = malloc(n);
        if (!p)
            abort();
        memset(p, 'b', n);
        r->left -= n;
        wn_exchange_write(r->x, (struct wn_bytes){ p, n, free_piece, p });
    }
    if (!r->left)
        wn_exchange_finish(r->x, NULL, 0);
}

static void early(struct wn_exchange *x)
{
    struct wn_header head = { "content-type", 12, "application/grpc", 16 };
    struct wn_header tail = { "grpc-status", 11, "3", 1 };
    wn_exchange_start(x, 200, &head, 1);
    wn_exchange_finish(x, &tail, 1);
}

static void stats(struct wn_exchange *x)
{
    struct wn_net_stats s;
    wn_net_stats(net, &s);
    char text[800];
    snprintf(text, sizeof text,
             "gone %llu\ndone %llu\norphaned %llu\nheads %llu\nconnections_open %llu\nconnections_total %llu\n"
             "connections_refused %llu\nexchanges_open %llu\nexchanges_gone %llu\nprotocol_errors %llu\n"
             "limits_hit %llu\nalive %d\n"
             "tls_open %llu\ntls_12 %llu\ntls_13 %llu\ntls_resumed %llu\ntls_failed %llu\n",
             atomic_load(&n_gone), atomic_load(&n_done), atomic_load(&n_orphaned), atomic_load(&n_heads),
             (unsigned long long)s.connections_open, (unsigned long long)s.connections_total,
             (unsigned long long)s.connections_refused, (unsigned long long)s.exchanges_open,
             (unsigned long long)s.exchanges_gone, (unsigned long long)s.protocol_errors,
             (unsigned long long)s.limits_hit, wn_net_alive(net, 5000000), (unsigned long long)s.tls_handshakes_open,
             (unsigned long long)s.tls_12, (unsigned long long)s.tls_13, (unsigned long long)s.tls_resumed,
             (unsigned long long)s.tls_failed);
    text_reply(x, 200, text);
}

/* ---- the handler ---- */
static void on_head(struct wn_exchange *x, void *arg)
{
    static const struct wn_body_sink sink = { .data = sink_data, .end = sink_end };
    static const struct wn_body_sink talk = { .data = talk_data, .end = talk_end };
    const char *path = wn_exchange_path(x);
    atomic_fetch_add(&n_heads, 1);
    if (strcmp(path, "/echo") == 0) {
        wn_exchange_collect(x, ECHO_MAX);
    } else if (strcmp(path, "/sink") == 0) {
        wn_exchange_stream(x, &sink, (uint64_t)256 << 20);
    } else if (strcmp(path, "/talk") == 0) {
        wn_exchange_stream(x, &talk, 0);
        wn_exchange_allow_idle(x);
        wn_exchange_start(x, 200, NULL, 0);
    } else if (strcmp(path, "/slow") == 0) {
        slow(x);
    } else if (strcmp(path, "/trailers") == 0) {
        trailers(x);
    } else if (strcmp(path, "/early") == 0) {
        early(x);
    } else if (strcmp(path, "/big") == 0) {
        struct request *r = request_of(x);
        r->left = strtoull(wn_exchange_query(x), NULL, 10);
        wn_exchange_start(x, 200, NULL, 0);
        big_more(r);
    } else if (strcmp(path, "/stats") == 0) {
        stats(x);
    } else {
        text_reply(x, strcmp(path, "/hello") == 0 ? 200 : 404, strcmp(path, "/hello") == 0 ? "hello\n" : "no\n");
    }
}

static void on_end(struct wn_exchange *x, void *arg)
{
    size_t n;
    char *body = wn_exchange_take_body(x, &n);
    wn_exchange_reply(x, 200, NULL, 0, (struct wn_bytes){ body, n, body ? free_piece : NULL, body });
}

static void on_drain(struct wn_exchange *x, void *arg)
{
    big_more(request_of(x));
}

static void forget(struct wn_exchange *x)
{
    struct request *r = wn_exchange_data(x);
    if (r)
        wn_timer_free(r->timer);
    free(r);
    wn_exchange_set_data(x, NULL);
}

static void on_gone(struct wn_exchange *x, void *arg)
{
    atomic_fetch_add(&n_gone, 1);
    forget(x);
}

static void on_done(struct wn_exchange *x, void *arg)
{
    atomic_fetch_add(&n_done, 1);
    forget(x);
}

/* ---- main ---- */
static const char *tls_folder;
static enum wn_tls_mode tls_mode = WN_TLS_OPTIONAL;

/* The old pair stays where the new one cannot be used. */
static bool load_tls(void)
{
    char cert[512], key[512];
    struct winnow_err err;
    struct wn_tls *tls = NULL;
    if (!tls_folder)
        return true;
    snprintf(cert, sizeof cert, "%s/cert.pem", tls_folder);
    snprintf(key, sizeof key, "%s/key.pem", tls_folder);
    bool ok = wn_tls_new(cert, key, &tls, &err) == WINNOW_OK && wn_net_set_tls(net, tls, tls_mode, &err) == WINNOW_OK;
    wn_tls_unref(tls);
    printf("%s\n", ok ? "certificate loaded" : err.msg);
    fflush(stdout);
    return ok;
}

static bool option(const char *name, const char *value, struct wn_net_opts *o)
{
    uint64_t n = strtoull(value, NULL, 10);
    if (strcmp(name, "--loops") == 0)
        o->loops = (unsigned)n;
    else if (strcmp(name, "--max-connections") == 0)
        o->max_connections = (unsigned)n;
    else if (strcmp(name, "--max-per-peer") == 0)
        o->max_per_peer = (unsigned)n;
    else if (strcmp(name, "--max-buffered") == 0)
        o->max_buffered = n;
    else if (strcmp(name, "--header-ms") == 0)
        o->header_timeout_us = n * 1000;
    else if (strcmp(name, "--body-ms") == 0)
        o->body_timeout_us = n * 1000;
    else if (strcmp(name, "--write-ms") == 0)
        o->write_timeout_us = n * 1000;
    else if (strcmp(name, "--idle-ms") == 0)
        o->idle_timeout_us = n * 1000;
    else if (strcmp(name, "--handshake-ms") == 0)
        o->handshake_timeout_us = n * 1000;
    else if (strcmp(name, "--max-handshakes") == 0)
        o->max_handshakes = (unsigned)n;
    else if (strcmp(name, "--tls") == 0)
        tls_folder = value;
    else if (strcmp(name, "--tls-mode") == 0)
        tls_mode = strcmp(value, "required") == 0 ? WN_TLS_REQUIRED : WN_TLS_OPTIONAL;
    else
        return false;
    return true;
}

static void on_drained(void *arg)
{
    sem_post(arg);
}

static void wait_for(sem_t *sem)
{
    while (sem_wait(sem) < 0 && errno == EINTR)
        ;
}

int main(int argc, char **argv)
{
    struct wn_net_opts opts = { .loops = 2 };
    for (int i = 1; i < argc; i += 2)
        if (i + 1 >= argc || !option(argv[i], argv[i + 1], &opts)) {
            fprintf(stderr, "net_server: bad option '%s'\n", argv[i]);
            return 2;
        }
    wn_log_configure(WN_LOG_AUTO, WN_LOG_ERROR); /* the tests provoke what it would report */
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    struct wn_handler handler = {
        .on_head = on_head, .on_end = on_end, .on_gone = on_gone, .on_done = on_done, .on_drain = on_drain
    };
    struct winnow_err err = { .msg = "certificate" };
    uint16_t port;
    if (wn_net_new(&opts, &handler, &net, &err) != WINNOW_OK || !load_tls() ||
        wn_net_listen(net, "127.0.0.1:0", &port, &err) != WINNOW_OK) {
        fprintf(stderr, "net_server: %s\n", err.msg);
        return 1;
    }
    pthread_t worker;
    if (pthread_create(&worker, NULL, work, NULL) != 0)
        return 1;
    printf("port %u\n", port);
    fflush(stdout);

    int sig;
    while (sigwait(&set, &sig) == 0 && sig == SIGHUP)
        load_tls();
    sem_t drained;
    sem_init(&drained, 0, 0);
    wn_net_drain(net, 2000000, on_drained, &drained);
    wait_for(&drained);
    printf("drained\n");
    pthread_mutex_lock(&jobs_lock);
    jobs_stop = true;
    pthread_cond_signal(&jobs_more);
    pthread_mutex_unlock(&jobs_lock);
    pthread_join(worker, NULL); /* before the loops go: it posts to them */
    wn_net_free(net);
    return 0;
}
