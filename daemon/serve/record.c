/* record.c: what a version's answers look like and cost, for telling two versions apart: a histogram of CPU time per
 * row and one of the classes answered.
 *
 * DESIGN  CPU time of the executor's own thread, not time on the clock: other load on the machine does not change it. A
 *         histogram in steps of a quarter octave costs one relaxed add per batch and gives the median to within a few
 *         per cent by interpolation. A class is the place of the largest score, modulo the table's size.
 * THREADS executors add; any thread reads. */
#include <math.h>
#include <string.h>
#include "daemon/serve/internal.h"

#define MAX_CLASSES 65536

/* 1 us, times 2^(1/4) per step. */
static unsigned bucket_of(double us)
{
    double step = us > 1 ? 4 * log2(us) : 0;
    return (unsigned)WN_MIN(step, (double)(WN_RECORD_TIMES - 1));
}

void wn_record_batch(struct wn_counters *c, uint64_t cpu_ns, int64_t rows)
{
    if (rows > 0)
        WN_COUNT_ADD(c->cpu_us[bucket_of((double)cpu_ns / 1e3 / (double)rows)], (uint64_t)rows);
}

static const struct winnow_tensor *scores_of(const struct wn_gen *gen, const struct winnow_tensor *out)
{
    unsigned which = 0;
    if (gen->pipeline) {
        if (wn_pipeline_task(gen->pipeline) == WN_PIPE_EMBEDDINGS)
            return NULL;
        which = wn_pipeline_model_output(gen->pipeline);
    } else if (gen->n_out != 1) {
        return NULL;
    }
    const struct winnow_tensor *t = which < gen->n_out ? &out[which] : NULL;
    bool fits = t && t->dtype == WINNOW_F32 && t->rank == 2 && t->shape[1] > 1 && t->shape[1] <= MAX_CLASSES;
    return fits ? t : NULL;
}

void wn_record_classes(const struct wn_gen *gen, const struct winnow_tensor *out)
{
    const struct winnow_tensor *t = scores_of(gen, out);
    for (int64_t r = 0; t && r < t->shape[0]; r++) {
        const float *score = (const float *)t->data + r * t->shape[1];
        int64_t best = 0;
        for (int64_t k = 1; k < t->shape[1]; k++)
            if (score[k] > score[best])
                best = k;
        WN_COUNT_ADD(gen->counters->answered[best % WN_RECORD_CLASSES], 1);
    }
}

bool wn_serve_record(struct wn_serve *serve, const char *model, int64_t version, struct wn_serve_record *ret)
{
    WN_CHECK_MAGIC(serve, WN_SERVE_MAGIC);
    const struct wn_counters *c = NULL;
    memset(ret, 0, sizeof *ret);
    pthread_mutex_lock(&serve->cat);
    for (size_t i = 0; !c && serve->table && i < serve->table->n; i++) {
        const struct wn_served *m = serve->table->at[i];
        for (size_t k = 0; strcmp(m->name, model) == 0 && k < m->counters.n; k++)
            if (m->counters.at[k]->version == version)
                c = m->counters.at[k];
    }
    pthread_mutex_unlock(&serve->cat);
    if (!c) /* counters live as long as the registry */
        return false;
    ret->success = WN_COUNT_GET(c->success);
    ret->failure = WN_COUNT_GET(c->failure);
    for (unsigned i = 0; i < WN_RECORD_TIMES; i++)
        ret->cpu_us[i] = WN_COUNT_GET(c->cpu_us[i]);
    for (unsigned i = 0; i < WN_RECORD_CLASSES; i++)
        ret->answered[i] = WN_COUNT_GET(c->answered[i]);
    return true;
}

void wn_serve_record_less(struct wn_serve_record *r, const struct wn_serve_record *earlier)
{
    r->success -= earlier->success;
    r->failure -= earlier->failure;
    for (unsigned i = 0; i < WN_RECORD_TIMES; i++)
        r->cpu_us[i] -= earlier->cpu_us[i];
    for (unsigned i = 0; i < WN_RECORD_CLASSES; i++)
        r->answered[i] -= earlier->answered[i];
}

double wn_serve_record_median_us(const struct wn_serve_record *r)
{
    uint64_t all = 0, below = 0;
    for (unsigned i = 0; i < WN_RECORD_TIMES; i++)
        all += r->cpu_us[i];
    for (unsigned i = 0; i < WN_RECORD_TIMES && all; i++) {
        if (2 * (below + r->cpu_us[i]) >= all) {
            double part = ((double)all / 2 - (double)below) / (double)r->cpu_us[i];
            return exp2((i + part) / 4);
        }
        below += r->cpu_us[i];
    }
    return 0;
}
