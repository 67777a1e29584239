/* h_stats.c: statistics in Triton's form, over REST and gRPC: one message, sent as it is or as JSON.
 *
 * They come from the registry, which keeps them over generations; requests that never ran count as failed. Gathering a
 * batch's rows is part of compute_infer. */
#include <inttypes.h>
#include <string.h>
#include "daemon/api/internal.h"
#include "daemon/api/pbjson.h"
#include "daemon/api/rpc.h"
#include "daemon/api/text.h"

/** Those of `model` and `version`; NULL, 0: of all. */
static bool wanted(const struct wn_req *req, const struct wn_serve_stats *s, const char *model, int64_t version)
{
    if (!model && !wn_req_may_use(req, s->model))
        return false;
    return (!model || strcmp(s->model, model) == 0) && (!version || s->version == version);
}

/** All statistics; the caller frees them. False, and answered: none are there of the model that was named. */
static bool take_stats(struct wn_req *req, const char *model, int64_t version, struct wn_serve_stats **ret,
                       size_t *ret_n)
{
    struct winnow_err err = { 0 };
    if (model && wn_req_model_refused(req, model))
        return false;
    if (wn_serve_stats(req->api->serve, ret, ret_n, &err) != WINNOW_OK) {
        wn_reply_err(req, &err);
        return false;
    }
    bool any = !model;
    for (size_t i = 0; i < *ret_n && !any; i++)
        any = wanted(req, &(*ret)[i], model, version);
    if (!any) {
        wn_serve_stats_free(*ret, *ret_n);
        wn_reply_fail(req, WINNOW_E_NOT_FOUND, "Request for unknown model: '%.100s' is not found", model);
    }
    return any;
}

/** A model's statistics as a message with its parts. */
struct stats_pb {
    Inference__ModelStatistics m;
    Inference__InferStatistics infer;
    Inference__StatisticDuration d[8];
};
struct batch_pb {
    Inference__InferBatchStatistics m;
    Inference__StatisticDuration d[3];
};

static void fill_durations(Inference__StatisticDuration *d, const uint64_t (*v)[2], unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        inference__statistic_duration__init(&d[i]);
        d[i].count = v[i][0];
        d[i].ns = v[i][1];
    }
}

static bool fill_batches(struct wn_arena *arena, const struct wn_serve_stats *s, Inference__ModelStatistics *m)
{
    struct batch_pb *b = wn_arena_calloc(arena, s->n_sizes, sizeof *b);
    m->batch_stats = wn_arena_calloc(arena, s->n_sizes, sizeof *m->batch_stats);
    if (s->n_sizes && (!b || !m->batch_stats))
        return false;
    for (unsigned i = 0; i < s->n_sizes; i++) {
        const uint64_t n = s->size[i].n, v[3][2] = { { n, 0 }, { n, s->size[i].ns }, { n, 0 } };
        inference__infer_batch_statistics__init(&b[i].m);
        fill_durations(b[i].d, v, 3);
        b[i].m.batch_size = s->size[i].rows;
        b[i].m.compute_input = &b[i].d[0];
        b[i].m.compute_infer = &b[i].d[1];
        b[i].m.compute_output = &b[i].d[2];
        m->batch_stats[i] = &b[i].m;
    }
    m->n_batch_stats = s->n_sizes;
    return true;
}

static bool fill_stats(struct wn_arena *arena, const struct wn_serve_stats *s, struct stats_pb *p)
{
    uint64_t failed = s->failure + s->rejected + s->cancelled + s->expired;
    const uint64_t v[8][2] = { { s->success, s->queue_ns + s->compute_ns },
                               { failed, 0 },
                               { s->success, s->queue_ns },
                               { s->success, 0 },
                               { s->success, s->compute_ns },
                               { s->success, 0 },
                               { 0, 0 },
                               { 0, 0 } };
    inference__model_statistics__init(&p->m);
    inference__infer_statistics__init(&p->infer);
    fill_durations(p->d, v, WN_COUNT(v));
    p->infer.success = &p->d[0];
    p->infer.fail = &p->d[1];
    p->infer.queue = &p->d[2];
    p->infer.compute_input = &p->d[3];
    p->infer.compute_infer = &p->d[4];
    p->infer.compute_output = &p->d[5];
    p->infer.cache_hit = &p->d[6];
    p->infer.cache_miss = &p->d[7];
    p->m.name = wn_arena_strndup(arena, s->model, strlen(s->model));
    p->m.version = wn_arena_printf(arena, "%" PRId64, s->version);
    p->m.last_inference = s->last_ms;
    p->m.inference_count = s->rows;
    p->m.execution_count = s->batches;
    p->m.inference_stats = &p->infer;
    return p->m.name && p->m.version && fill_batches(arena, s, &p->m);
}

/** NULL, and answered: there are none. */
static const Inference__ModelStatisticsResponse *find_stats(struct wn_req *req, const char *model, int64_t version)
{
    struct wn_serve_stats *s;
    size_t n;
    if (!take_stats(req, model, version, &s, &n))
        return NULL;
    Inference__ModelStatisticsResponse *r = wn_arena_alloc(&req->arena, sizeof *r);
    struct stats_pb *parts = wn_arena_calloc(&req->arena, n, sizeof *parts);
    bool ok = r && parts;
    if (ok) {
        inference__model_statistics_response__init(r);
        r->model_stats = wn_arena_calloc(&req->arena, n, sizeof *r->model_stats);
        ok = r->model_stats != NULL;
    }
    for (size_t i = 0; ok && i < n; i++)
        if (wanted(req, &s[i], model, version)) {
            ok = fill_stats(&req->arena, &s[i], &parts[r->n_model_stats]);
            r->model_stats[r->n_model_stats] = &parts[r->n_model_stats].m;
            r->n_model_stats++;
        }
    wn_serve_stats_free(s, n);
    if (!ok)
        wn_reply_fail(req, WINNOW_E_NOMEM, "response");
    return ok ? r : NULL;
}

void wn_get_stats(struct wn_req *req)
{
    uint64_t version = 0;
    if (req->param[1])
        wn_text_u64(req->param[1], strlen(req->param[1]), &version);
    const Inference__ModelStatisticsResponse *r = find_stats(req, req->param[0], (int64_t)version);
    if (r)
        wn_reply_json(req, 200, wn_pb_json(&r->base));
}

void wn_rpc_model_statistics(struct wn_req *req)
{
    WN_CLEANUP(wn_rpc_freep)
    Inference__ModelStatisticsRequest *m = wn_rpc_read(req, &inference__model_statistics_request__descriptor);
    uint64_t version = 0;
    if (!m)
        return;
    if (*m->version && (!wn_text_u64(m->version, strlen(m->version), &version) || version > INT64_MAX)) {
        wn_reply_fail(req, WINNOW_E_MALFORMED, "model version '%.60s' is not a number", m->version);
        return;
    }
    const Inference__ModelStatisticsResponse *r = find_stats(req, *m->name ? m->name : NULL, (int64_t)version);
    if (r)
        wn_rpc_reply(req, &r->base);
}
