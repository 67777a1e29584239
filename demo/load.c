/* load.c: a steady or a closed load on a model that takes pictures, over REST and gRPC, every answer checked.
 *
 *     load --model letters --models STATE/models/letters [--rate 200 | --closed 8] PICTURE.png…
 *
 * Every second request goes over each protocol, the pictures take turns. Latency counts from the moment when a request
 * was due, so a server that stalls is not excused. Standard output: a line of JSON every 250 ms, the last one with
 * "final": true and the percentiles of every phase. Standard input, a line each:
 *
 *     phase NAME [T]     what is sent from now on (or was, from second T on) belongs to this phase
 *     stop               send no more, wait for what is under way, report */
#include <argp.h>
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "demo/load.h"

#define MAX_PHASES 16
#define SNAPSHOT   250 /* ms */
#define WINDOW_NS  ((uint64_t)2 * 1000000000)
#define DRAIN_NS   ((uint64_t)10 * 1000000000)

/** One answered request. */
struct sample {
    uint64_t due_ns;
    uint32_t us;
};

struct phase {
    char name[32];
    uint64_t from_ns;
};

struct load {
    const char *model, *dir[8];
    unsigned n_dirs, n_pictures, closed, connections, phases;
    double rate, seconds;
    bool ask; /* one gRPC request, its answer printed */
    struct sockaddr_in rest, grpc;
    struct load_picture picture[LOAD_MAX_PICTURES];
    struct event_base *base;
    struct load_h1 *h1;
    struct load_h2 *h2;
    struct load_check *check;
    uint64_t start_ns, stop_ns; /* stop_ns 0: going on */
    uint64_t sent, served, failed;
    WN_VEC(struct sample) samples;
    struct phase phase[MAX_PHASES];
    char first_failure[200], first_mixed[160];
    char line[256]; /* of standard input, so far */
    size_t line_n;
};

const struct load_picture *load_picture(const struct load *load, unsigned i)
{
    return &load->picture[i];
}

const char *load_model(const struct load *load)
{
    return load->model;
}

struct event_base *load_base(struct load *load)
{
    return load->base;
}

/* ---- sending ---- */

static void send_one(struct load *l, uint64_t due_ns)
{
    struct load_request req = { .picture = (unsigned)(l->sent / 2 % l->n_pictures), .due_ns = due_ns };
    if (l->sent++ % 2)
        load_h2_send(l->h2, &req);
    else
        load_h1_send(l->h1, &req);
}

/* One request over gRPC; load_done() prints the answer. */
static int ask(struct load *l)
{
    load_h2_send(l->h2, &(struct load_request){ .due_ns = wn_now_ns() });
    event_base_dispatch(l->base);
    load_h1_free(l->h1);
    load_h2_free(l->h2);
    load_check_free(l->check);
    event_base_free(l->base);
    free(l->picture[0].bytes);
    return l->failed != 0;
}

static void finish_if_done(struct load *l)
{
    if (l->stop_ns && l->served + l->failed == l->sent)
        event_base_loopbreak(l->base);
}

void load_done(struct load *l, const struct load_request *req, const struct load_answer *answer, const char *why)
{
    uint64_t now = wn_now_ns();
    char text[160];
    if (l->ask) {
        l->failed += !answer;
        if (answer)
            printf("{\"label\":\"%s\",\"probability\":%.9g,\"version\":%lld,\"generation\":%llu,\"digest\":\"%s\"}\n",
                   answer->label, (double)answer->p, (long long)answer->version, (unsigned long long)answer->generation,
                   answer->digest);
        else
            fprintf(stderr, "load: %s\n", why);
        event_base_loopbreak(l->base);
        return;
    }
    if (answer) {
        l->served++;
        wn_vec_push(&l->samples,
                    (struct sample){ req->due_ns, (uint32_t)WN_MIN((now - req->due_ns) / 1000, (uint64_t)UINT32_MAX) });
        if (!load_check_answer(l->check, req->picture, answer, text) && !*l->first_mixed)
            snprintf(l->first_mixed, sizeof l->first_mixed, "%s", text);
    } else {
        if (!l->failed++)
            snprintf(l->first_failure, sizeof l->first_failure, "after %.1f s: %s", (double)(now - l->start_ns) / 1e9,
                     why);
    }
    finish_if_done(l);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct load *l = arg;
    uint64_t now = wn_now_ns();
    if (l->stop_ns) {
        if (now - l->stop_ns > DRAIN_NS)
            event_base_loopbreak(l->base);
        return;
    }
    if (l->seconds > 0 && (double)(now - l->start_ns) > l->seconds * 1e9) {
        l->stop_ns = now;
        finish_if_done(l);
        return;
    }
    if (l->closed) {
        while (l->sent - l->served - l->failed < l->closed)
            send_one(l, now);
        return;
    }
    for (;;) {
        uint64_t due = l->start_ns + (uint64_t)((double)l->sent * 1e9 / l->rate);
        if (due > now)
            return;
        send_one(l, due);
    }
}

/* ---- telling ---- */

static int by_us(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Percentiles of the samples due in [from, to); returns how many. */
static size_t percentiles(const struct load *l, uint64_t from, uint64_t to, double *p50_ms, double *p99_ms,
                          double *max_ms)
{
    WN_VEC(uint32_t) us = { 0 };
    for (size_t i = l->samples.n; i-- > 0;) {
        const struct sample *s = &l->samples.at[i];
        if (s->due_ns + WINDOW_NS * 10 < from)
            break; /* samples are nearly in order */
        if (s->due_ns >= from && s->due_ns < to)
            wn_vec_push(&us, s->us);
    }
    size_t n = us.n;
    *p50_ms = *p99_ms = *max_ms = 0;
    if (n) {
        qsort(us.at, n, sizeof *us.at, by_us);
        *p50_ms = us.at[n / 2] / 1e3;
        *p99_ms = us.at[n * 99 / 100] / 1e3;
        *max_ms = us.at[n - 1] / 1e3;
    }
    wn_vec_done(&us);
    return n;
}

static json_t *phases_json(const struct load *l, uint64_t now)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < l->phases; i++) {
        uint64_t from = l->phase[i].from_ns, to = i + 1 < l->phases ? l->phase[i + 1].from_ns : now;
        double p50, p99, max;
        size_t n = percentiles(l, from, to, &p50, &p99, &max);
        json_array_append_new(list, json_pack("{s:s,s:f,s:I,s:f,s:f,s:f}", "name", l->phase[i].name, "seconds",
                                              (double)(to - from) / 1e9, "requests", (json_int_t)n, "p50_ms", p50,
                                              "p99_ms", p99, "max_ms", max));
    }
    return list;
}

static void tell(struct load *l, bool final)
{
    uint64_t now = wn_now_ns();
    double p50, p99, max, since = (double)WN_MIN(now - l->start_ns, WINDOW_NS) / 1e9;
    size_t n = percentiles(l, now > WINDOW_NS ? now - WINDOW_NS : 0, now, &p50, &p99, &max);
    json_t *json = json_pack("{s:f,s:s,s:I,s:I,s:I,s:I,s:f,s:f,s:f,s:o,s:s,s:s}", "t",
                             (double)(now - l->start_ns) / 1e9, "phase", l->phase[l->phases - 1].name, "sent",
                             (json_int_t)l->sent, "served", (json_int_t)l->served, "failed", (json_int_t)l->failed,
                             "mixed", (json_int_t)load_check_mixed(l->check), "rate", since > 0 ? (double)n / since : 0,
                             "p50_ms", p50, "p99_ms", p99, "generations", load_check_json(l->check, l->start_ns),
                             "first_failure", l->first_failure, "first_mixed", l->first_mixed);
    if (json && final) {
        json_object_set_new(json, "final", json_true());
        json_object_set_new(json, "phases", phases_json(l, now));
    }
    if (json && json_dumpf(json, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9)) == 0)
        putchar('\n');
    fflush(stdout);
    json_decref(json);
}

static void on_snapshot(evutil_socket_t fd, short what, void *arg)
{
    tell(arg, false);
}

/* ---- being told ---- */

/* From `from_ns` on; phases are kept in the order of time. */
static void begin_phase(struct load *l, const char *name, uint64_t from_ns)
{
    if (l->phases == MAX_PHASES)
        return;
    unsigned at = l->phases++;
    for (; at > 0 && l->phase[at - 1].from_ns > from_ns; at--)
        l->phase[at] = l->phase[at - 1];
    l->phase[at].from_ns = from_ns;
    snprintf(l->phase[at].name, sizeof l->phase[at].name, "%s", name);
}

static void obey(struct load *l, const char *line)
{
    char name[32];
    double t = 0;
    int n = sscanf(line, "phase %31s %lf", name, &t);
    if (n >= 1)
        begin_phase(l, name, n == 2 && t >= 0 ? l->start_ns + (uint64_t)(t * 1e9) : wn_now_ns());
    else if (strcmp(line, "stop") == 0 && !l->stop_ns)
        l->stop_ns = wn_now_ns();
    finish_if_done(l);
}

static void on_input(evutil_socket_t fd, short what, void *arg)
{
    struct load *l = arg;
    ssize_t n = read(fd, l->line + l->line_n, sizeof l->line - 1 - l->line_n);
    if (n <= 0) {
        if (n == 0 || errno != EINTR)
            obey(l, "stop"); /* whoever told us is gone */
        return;
    }
    l->line_n += (size_t)n;
    l->line[l->line_n] = 0;
    for (char *end; (end = strchr(l->line, '\n')) != NULL;) {
        *end = 0;
        obey(l, l->line);
        l->line_n -= (size_t)(end + 1 - l->line);
        memmove(l->line, end + 1, l->line_n + 1);
    }
    if (l->line_n == sizeof l->line - 1)
        l->line_n = 0;
}

static void on_signal(evutil_socket_t fd, short what, void *arg)
{
    obey(arg, "stop");
}

/* ---- the command ---- */

static const struct argp_option options[] = {
    { "model", 'm', "NAME", 0, "the model (needed)", 0 },
    { "models", 'M', "FOLDER", 0, "VERSION/model.onnx files to hold the answers against; may be repeated", 0 },
    { "rest", 'r', "IP:PORT", 0, "where REST requests go (default 127.0.0.1:8000)", 0 },
    { "grpc", 'g', "IP:PORT", 0, "where gRPC requests go (default 127.0.0.1:8001)", 0 },
    { "rate", 'R', "N", 0, "requests per second, sent whatever the answers do (default 200)", 0 },
    { "closed", 'c', "N", 0, "instead: N requests under way at any time", 0 },
    { "connections", 'k', "N", 0, "REST connections at most (default 32)", 0 },
    { "time", 't', "SECONDS", 0, "stop by itself", 0 },
    { "ask", 'a', NULL, 0, "only ask once, over gRPC, and print the answer", 0 },
    { 0 }
};

static void address(struct argp_state *state, const char *arg, struct sockaddr_in *to)
{
    char ip[64];
    unsigned port;
    *to = (struct sockaddr_in){ .sin_family = AF_INET };
    if (sscanf(arg, "%63[0-9.]:%u", ip, &port) != 2 || port > 65535 || inet_pton(AF_INET, ip, &to->sin_addr) != 1)
        argp_error(state, "'%s' is no IP:PORT", arg);
    to->sin_port = htons((uint16_t)port);
}

static void add_picture(struct load *l, struct argp_state *state, char *path)
{
    struct winnow_err err;
    struct load_picture *p = &l->picture[l->n_pictures];
    if (l->n_pictures == LOAD_MAX_PICTURES)
        argp_error(state, "at most %d pictures", LOAD_MAX_PICTURES);
    p->path = path;
    if (wn_file_read(path, (size_t)8 << 20, &p->bytes, &p->n, &err) != WINNOW_OK)
        argp_error(state, "%s", err.msg);
    l->n_pictures++;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct load *l = state->input;
    switch (key) {
    case 'm':
        l->model = arg;
        return 0;
    case 'M':
        if (l->n_dirs == WN_COUNT(l->dir))
            argp_error(state, "at most %zu folders", WN_COUNT(l->dir));
        l->dir[l->n_dirs++] = arg;
        return 0;
    case 'r':
        address(state, arg, &l->rest);
        return 0;
    case 'g':
        address(state, arg, &l->grpc);
        return 0;
    case 'R':
        l->rate = strtod(arg, NULL);
        if (!(l->rate > 0 && l->rate <= 1e6))
            argp_error(state, "--rate wants requests per second");
        return 0;
    case 'c':
        l->closed = (unsigned)strtoul(arg, NULL, 10);
        return 0;
    case 'k':
        l->connections = (unsigned)strtoul(arg, NULL, 10);
        if (!l->connections || l->connections > 10000)
            argp_error(state, "--connections wants 1 … 10000");
        return 0;
    case 'a':
        l->ask = true;
        return 0;
    case 't':
        l->seconds = strtod(arg, NULL);
        return 0;
    case ARGP_KEY_ARG:
        add_picture(l, state, arg);
        return 0;
    case ARGP_KEY_END:
        if (!l->model || !l->n_pictures)
            argp_error(state, "--model and at least one picture are needed");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static struct event *timer(struct load *l, event_callback_fn fn, unsigned ms)
{
    struct event *e = event_new(l->base, -1, EV_PERSIST, fn, l);
    if (e)
        event_add(e, &(struct timeval){ .tv_usec = ms * 1000L });
    return e;
}

static bool set_up(struct load *l)
{
    l->base = event_base_new();
    l->check = load_check_new(l->dir, l->n_dirs, l->picture, l->n_pictures);
    l->h1 = load_h1_new(l, &l->rest, l->connections);
    l->h2 = load_h2_new(l, &l->grpc);
    return l->base && l->check && l->h1 && l->h2;
}

int main(int argc, char **argv)
{
    static const struct argp argp = { options, parse, "PICTURE…", "Load a model and check every answer.",
                                      NULL,    NULL,  NULL };
    struct load l = { .rate = 200, .connections = 32 };
    l.rest = l.grpc = (struct sockaddr_in){ .sin_family = AF_INET,
                                            .sin_port = htons(8000),
                                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    l.grpc.sin_port = htons(8001);
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, &l);
    signal(SIGPIPE, SIG_IGN);
    if (!set_up(&l)) {
        fprintf(stderr, "load: out of memory\n");
        return 1;
    }
    if (l.ask)
        return ask(&l);
    l.start_ns = wn_now_ns();
    begin_phase(&l, "start", l.start_ns);
    struct event *tick = timer(&l, on_tick, 1), *snapshot = timer(&l, on_snapshot, SNAPSHOT);
    struct event *input = event_new(l.base, STDIN_FILENO, EV_READ | EV_PERSIST, on_input, &l);
    struct event *term = evsignal_new(l.base, SIGTERM, on_signal, &l),
                 *intr = evsignal_new(l.base, SIGINT, on_signal, &l);
    if (l.seconds <= 0)
        event_add(input, NULL);
    event_add(term, NULL);
    event_add(intr, NULL);
    event_base_dispatch(l.base);
    l.stop_ns = l.stop_ns ? l.stop_ns : wn_now_ns();
    load_h1_free(l.h1);
    load_h2_free(l.h2);
    tell(&l, true);
    load_check_free(l.check);
    event_free(tick);
    event_free(snapshot);
    event_free(input);
    event_free(term);
    event_free(intr);
    event_base_free(l.base);
    for (unsigned i = 0; i < l.n_pictures; i++)
        free(l.picture[i].bytes);
    wn_vec_done(&l.samples);
    return l.failed || *l.first_mixed;
}
