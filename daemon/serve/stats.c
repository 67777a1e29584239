/* stats.c: counters per model and version, kept over generations.
 *
 * DESIGN  Counters are relaxed atomics that any thread adds to, counted before the answer is written. A generation
 *         points at its version's counters; they live as long as the registry, so that nothing is lost by a swap.
 * LOCKS   the lists of counters are under cat. */
#include "daemon/serve/internal.h"

#include <stdlib.h>
#include <string.h>

struct wn_counters *wn_counters_of(struct wn_serve *serve, struct wn_served *m, int64_t version)
{
    struct wn_counters *c = NULL;
    pthread_mutex_lock(&serve->cat);
    for (size_t i = 0; i < m->counters.n && !c; i++)
        if (m->counters.at[i]->version == version)
            c = m->counters.at[i];
    if (!c && (c = calloc(1, sizeof *c)) != NULL) {
        c->version = version;
        if (!wn_vec_push(&m->counters, c)) {
            free(c);
            c = NULL;
        }
    }
    pthread_mutex_unlock(&serve->cat);
    return c;
}

void wn_counters_latency(struct wn_counters *c, uint64_t ns)
{
    unsigned b = 0;
    for (uint64_t top = 100000; b < 15 && ns > top; b++)
        top *= 2;
    WN_COUNT_ADD(c->bucket[b], 1);
}

void wn_counters_batch(struct wn_counters *c, uint64_t rows, uint64_t ns)
{
    for (unsigned i = 0; i < WN_BATCH_SIZES; i++) {
        unsigned at = (unsigned)((rows + i) % WN_BATCH_SIZES);
        uint64_t is = WN_COUNT_GET(c->size[at].rows), none = 0;
        if (is == 0 && atomic_compare_exchange_strong(&c->size[at].rows, &none, rows))
            is = rows;
        else if (is == 0)
            is = none; /* somebody was quicker */
        if (is != rows)
            continue;
        WN_COUNT_ADD(c->size[at].n, 1);
        WN_COUNT_ADD(c->size[at].ns, ns);
        return;
    }
}

/** The sizes that occurred, in order. */
static void read_sizes(const struct wn_counters *c, struct wn_serve_stats *s)
{
    for (unsigned i = 0; i < WN_BATCH_SIZES; i++) {
        uint64_t rows = WN_COUNT_GET(c->size[i].rows);
        if (!rows)
            continue;
        unsigned at = s->n_sizes++;
        for (; at && s->size[at - 1].rows > rows; at--)
            s->size[at] = s->size[at - 1];
        s->size[at].rows = rows;
        s->size[at].n = WN_COUNT_GET(c->size[i].n);
        s->size[at].ns = WN_COUNT_GET(c->size[i].ns);
    }
}

static void read_counters(const struct wn_counters *c, struct wn_serve_stats *s)
{
    s->version = c->version;
    s->success = WN_COUNT_GET(c->success);
    s->failure = WN_COUNT_GET(c->failure);
    s->rejected = WN_COUNT_GET(c->rejected);
    s->cancelled = WN_COUNT_GET(c->cancelled);
    s->expired = WN_COUNT_GET(c->expired);
    s->rows = WN_COUNT_GET(c->rows);
    s->batches = WN_COUNT_GET(c->batches);
    s->queue_ns = WN_COUNT_GET(c->queue_ns);
    s->compute_ns = WN_COUNT_GET(c->compute_ns);
    s->last_ms = WN_COUNT_GET(c->last_ms);
    s->queued_now = WN_COUNT_GET(c->queued);
    read_sizes(c, s);
    for (unsigned i = 0; i < 16; i++)
        s->latency_bucket[i] = WN_COUNT_GET(c->bucket[i]);
}

enum winnow_status wn_serve_stats(struct wn_serve *serve, struct wn_serve_stats **ret, size_t *ret_n,
                                  struct winnow_err *err)
{
    WN_CHECK_MAGIC(serve, WN_SERVE_MAGIC);
    WN_VEC(struct wn_serve_stats) all = { 0 };
    bool ok = true;
    pthread_mutex_lock(&serve->cat);
    for (size_t i = 0; ok && serve->table && i < serve->table->n; i++) {
        const struct wn_served *m = serve->table->at[i];
        for (size_t k = 0; ok && k < m->counters.n; k++) {
            struct wn_serve_stats s = { .model = wn_strdup(m->name) };
            read_counters(m->counters.at[k], &s);
            ok = s.model && wn_vec_push(&all, s);
            if (!ok)
                free(s.model);
        }
    }
    pthread_mutex_unlock(&serve->cat);
    if (!ok) {
        wn_serve_stats_free(all.at, all.n);
        return wn_fail(err, WINNOW_E_NOMEM, "statistics");
    }
    *ret = all.at;
    *ret_n = all.n;
    return WINNOW_OK;
}

void wn_serve_stats_free(struct wn_serve_stats *stats, size_t n)
{
    for (size_t i = 0; stats && i < n; i++)
        free(stats[i].model);
    free(stats);
}
