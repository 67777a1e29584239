/* metrics.c: GET /metrics, the text format of Prometheus.  Source: prometheus/docs exposition_formats.md. */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include "daemon/api/internal.h"

static void family(struct wn_buf *to, const char *name, const char *type, const char *help)
{
    wn_buf_printf(to, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void plain(struct wn_buf *to, const char *name, const char *type, const char *help, uint64_t v)
{
    family(to, name, type, help);
    wn_buf_printf(to, "%s %" PRIu64 "\n", name, v);
}

/** A label's value: backslash, quote and line feed are escaped. */
static void label(struct wn_buf *to, const char *v)
{
    for (; *v; v++)
        if (*v == '\n')
            wn_buf_text(to, "\\n");
        else if (*v == '"' || *v == '\\')
            wn_buf_add(to, (char[]){ '\\', *v }, 2);
        else
            wn_buf_char(to, *v);
}

/** name{model="…",version="…" and `more`} */
static void series(struct wn_buf *to, const char *name, const char *model, int64_t version, const char *more)
{
    wn_buf_printf(to, "%s{model=\"", name);
    label(to, model);
    wn_buf_printf(to, "\",version=\"%" PRId64 "\"%s} ", version, more);
}

/* ---- what the executors did ---- */
static const struct {
    const char *outcome;
    size_t offset;
} outcomes[] = {
    { ",outcome=\"success\"", offsetof(struct wn_serve_stats, success) },
    { ",outcome=\"failure\"", offsetof(struct wn_serve_stats, failure) },
    { ",outcome=\"rejected\"", offsetof(struct wn_serve_stats, rejected) },
    { ",outcome=\"cancelled\"", offsetof(struct wn_serve_stats, cancelled) },
    { ",outcome=\"expired\"", offsetof(struct wn_serve_stats, expired) },
};

static uint64_t field(const struct wn_serve_stats *s, size_t offset)
{
    return *(const uint64_t *)(const void *)((const char *)s + offset);
}

static void per_model(struct wn_buf *to, const struct wn_serve_stats *s, size_t n, const char *name, const char *type,
                      const char *help, size_t offset)
{
    family(to, name, type, help);
    for (size_t i = 0; i < n; i++) {
        series(to, name, s[i].model, s[i].version, "");
        wn_buf_printf(to, "%" PRIu64 "\n", field(&s[i], offset));
    }
}

static void seconds(struct wn_buf *to, const struct wn_serve_stats *s, size_t n, const char *name, const char *help,
                    size_t offset)
{
    family(to, name, "counter", help);
    for (size_t i = 0; i < n; i++) {
        series(to, name, s[i].model, s[i].version, "");
        wn_buf_printf(to, "%.9f\n", (double)field(&s[i], offset) / 1e9);
    }
}

static void histogram(struct wn_buf *to, const struct wn_serve_stats *s, size_t n)
{
    char more[40];
    family(to, "winnow_request_seconds", "histogram", "Time from submission to the end of a request on a model.");
    for (size_t i = 0; i < n; i++) {
        uint64_t sum = 0;
        for (unsigned b = 0; b < WN_COUNT(s[i].latency_bucket); b++) {
            sum += s[i].latency_bucket[b];
            if (b + 1 < WN_COUNT(s[i].latency_bucket))
                snprintf(more, sizeof more, ",le=\"%.4f\"", 1e-4 * (double)(1u << b));
            else
                snprintf(more, sizeof more, ",le=\"+Inf\"");
            series(to, "winnow_request_seconds_bucket", s[i].model, s[i].version, more);
            wn_buf_printf(to, "%" PRIu64 "\n", sum);
        }
        series(to, "winnow_request_seconds_sum", s[i].model, s[i].version, "");
        wn_buf_printf(to, "%.9f\n", (double)(s[i].queue_ns + s[i].compute_ns) / 1e9);
        series(to, "winnow_request_seconds_count", s[i].model, s[i].version, "");
        wn_buf_printf(to, "%" PRIu64 "\n", sum);
    }
}

static void serve_metrics(struct wn_buf *to, struct wn_serve *serve)
{
    struct wn_serve_stats *s;
    size_t n;
    if (wn_serve_stats(serve, &s, &n, NULL) != WINNOW_OK)
        return;
    family(to, "winnow_requests_total", "counter", "Inference requests by model, version and outcome.");
    for (size_t i = 0; i < n; i++)
        for (size_t o = 0; o < WN_COUNT(outcomes); o++) {
            series(to, "winnow_requests_total", s[i].model, s[i].version, outcomes[o].outcome);
            wn_buf_printf(to, "%" PRIu64 "\n", field(&s[i], outcomes[o].offset));
        }
    per_model(to, s, n, "winnow_rows_total", "counter", "Rows computed.", offsetof(struct wn_serve_stats, rows));
    per_model(to, s, n, "winnow_batches_total", "counter", "Batches run; rows divided by batches is the mean batch.",
              offsetof(struct wn_serve_stats, batches));
    per_model(to, s, n, "winnow_queue_depth", "gauge", "Requests waiting.",
              offsetof(struct wn_serve_stats, queued_now));
    seconds(to, s, n, "winnow_queue_seconds_total", "Time requests waited.", offsetof(struct wn_serve_stats, queue_ns));
    seconds(to, s, n, "winnow_compute_seconds_total", "Time requests were computed.",
            offsetof(struct wn_serve_stats, compute_ns));
    histogram(to, s, n);
    wn_serve_stats_free(s, n);
}

static void index_metrics(struct wn_buf *to, struct wn_serve *serve)
{
    struct wn_index_entry *e;
    size_t n;
    if (wn_serve_index(serve, NULL, &e, &n, NULL) != WINNOW_OK)
        return;
    family(to, "winnow_model_generation", "gauge", "Generation of the version that unpinned requests get.");
    for (size_t i = 0; i < n; i++)
        if (e[i].live && e[i].generation) {
            series(to, "winnow_model_generation", e[i].name, e[i].version, "");
            wn_buf_printf(to, "%" PRIu64 "\n", e[i].generation);
        }
    family(to, "winnow_model_weight_bytes", "gauge", "Weights of a loaded version in memory.");
    for (size_t i = 0; i < n; i++)
        if (e[i].generation) {
            series(to, "winnow_model_weight_bytes", e[i].name, e[i].version, "");
            wn_buf_printf(to, "%zu\n", e[i].weight_bytes);
        }
    wn_index_free(e, n);
}

/* ---- the network ---- */
static void net_metrics(struct wn_buf *to, struct wn_net *net)
{
    struct wn_net_stats s;
    wn_net_stats(net, &s);
    plain(to, "winnow_connections_open", "gauge", "Open connections.", s.connections_open);
    plain(to, "winnow_connections_total", "counter", "Connections accepted.", s.connections_total);
    plain(to, "winnow_connections_refused_total", "counter", "Connections refused at a limit.", s.connections_refused);
    plain(to, "winnow_exchanges_open", "gauge", "Requests on the wire, of every kind.", s.exchanges_open);
    plain(to, "winnow_exchanges_total", "counter", "Requests on the wire, of every kind.", s.exchanges_total);
    plain(to, "winnow_exchanges_gone_total", "counter", "Requests whose client left before the response was complete.",
          s.exchanges_gone);
    plain(to, "winnow_protocol_errors_total", "counter", "Connections ended for breaking their protocol.",
          s.protocol_errors);
    plain(to, "winnow_limits_hit_total", "counter", "Requests or connections ended at a limit.", s.limits_hit);
    plain(to, "winnow_bytes_received_total", "counter", "Bytes received.", s.bytes_in);
    plain(to, "winnow_bytes_sent_total", "counter", "Bytes sent.", s.bytes_out);
    family(to, "winnow_tls_handshakes_total", "counter", "TLS handshakes completed: in full by version, or resumed.");
    wn_buf_printf(to, "winnow_tls_handshakes_total{kind=\"TLSv1.2\"} %" PRIu64 "\n", s.tls_12);
    wn_buf_printf(to, "winnow_tls_handshakes_total{kind=\"TLSv1.3\"} %" PRIu64 "\n", s.tls_13);
    wn_buf_printf(to, "winnow_tls_handshakes_total{kind=\"resumed\"} %" PRIu64 "\n", s.tls_resumed);
    plain(to, "winnow_tls_handshakes_failed_total", "counter", "TLS handshakes that were not completed.", s.tls_failed);
    plain(to, "winnow_tls_handshakes_open", "gauge", "TLS handshakes under way.", s.tls_handshakes_open);
}

static void certificate_metrics(struct wn_buf *to, struct wn_api *api)
{
    int64_t end = atomic_load(&api->certificate_end_s);
    if (!end)
        return;
    family(to, "winnow_tls_certificate_end_seconds", "gauge", "When the certificate ends, seconds since 1970.");
    wn_buf_printf(to, "winnow_tls_certificate_end_seconds %" PRId64 "\n", end);
}

static void answer_metrics(struct wn_buf *to, struct wn_api *api)
{
    static const char *const kind[] = { "gone", "1xx", "2xx", "3xx", "4xx", "5xx" };
    family(to, "winnow_http_answers_total", "counter", "Answers by class of HTTP status; gone: the client had left.");
    for (unsigned i = 0; i < WN_COUNT(kind); i++)
        wn_buf_printf(to, "winnow_http_answers_total{class=\"%s\"} %llu\n", kind[i], atomic_load(&api->answered[i]));
    plain(to, "winnow_requests_inflight", "gauge", "Requests being handled.", wn_api_inflight(api));
    pthread_mutex_lock(&api->lock);
    unsigned waiting = api->n_work;
    pthread_mutex_unlock(&api->lock);
    plain(to, "winnow_decode_queue_depth", "gauge",
          "Requests waiting for a worker that decodes pictures or large JSON.", waiting);
    plain(to, "winnow_ready", "gauge", "1 when ready.", wn_api_is_ready(api));
    plain(to, "winnow_start_time_seconds", "gauge", "When the daemon started, seconds since 1970.", api->start_s);
    family(to, "winnow_build_info", "gauge", "Version and instruction set.");
    wn_buf_printf(to, "winnow_build_info{version=\"%s\",isa=\"%s\"} 1\n", WN_VERSION, winnow_cpu_isa());
}

void wn_get_metrics(struct wn_req *req)
{
    struct wn_buf to = { 0 };
    struct wn_net *net = atomic_load(&req->api->net);
    answer_metrics(&to, req->api);
    serve_metrics(&to, req->api->serve);
    index_metrics(&to, req->api->serve);
    if (net)
        net_metrics(&to, net);
    certificate_metrics(&to, req->api);
    wn_auth_metrics(&to, &req->api->auth);
    for (unsigned i = 0; i < req->api->n_metrics; i++)
        req->api->metrics[i].write(&to, req->api->metrics[i].arg);
    wn_reply_buf(req, 200, "text/plain; version=0.0.4; charset=utf-8", &to);
}
