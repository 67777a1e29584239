/* pipeline.c: what every pipeline answers, whatever its task: names, rows, what scores mean. pipeline.yaml is read in
 * spec.c; how items become tensors stands in the task's file. */
#include "pipeline/pipeline.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "pipeline/spec.h"

const char *const wn_pipeline_files[] = { "pipeline.yaml", "labels.txt", "tokenizer.json", "tokenizer_config.json",
                                          "vocab.txt",     "vocab.json", "merges.txt",     NULL };

void wn_pipeline_free(struct wn_pipeline *p)
{
    if (!p)
        return;
    if (p->kind && p->kind->done)
        p->kind->done(p);
    wn_arena_done(&p->arena);
    free(p);
}

const char *wn_pipeline_task_name(const struct wn_pipeline *p)
{
    return p->kind->name;
}

enum wn_pipe_task wn_pipeline_task(const struct wn_pipeline *p)
{
    return p->kind->task;
}

const char *wn_pipeline_raw(const struct wn_pipeline *p, unsigned i)
{
    return i < p->n_raw ? p->raw[i] : NULL;
}

bool wn_pipeline_fills(const struct wn_pipeline *p, unsigned model_input)
{
    for (unsigned i = 0; i < p->n_fill; i++)
        if (p->fill[i] == model_input)
            return true;
    return false;
}

bool wn_pipeline_scores(const struct wn_pipeline *p)
{
    return p->kind->task != WN_PIPE_EMBEDDINGS;
}

unsigned wn_pipeline_model_output(const struct wn_pipeline *p)
{
    return p->model_output;
}

const struct wn_pipe_io *wn_pipeline_row(const struct wn_pipeline *p, size_t *ret_bytes)
{
    if (ret_bytes)
        *ret_bytes = p->image.row_bytes;
    return p->kind->task == WN_PIPE_IMAGES ? &p->image.row : NULL;
}

enum winnow_status wn_pipeline_encode_rows(const struct wn_pipeline *p, const struct wn_pipe_items *items,
                                           const struct wn_pipe_opts *opts, struct wn_arena *arena,
                                           struct wn_pipe_batch *ret, struct winnow_err *err)
{
    static const struct wn_pipe_opts none;
    *ret = (struct wn_pipe_batch){ .bad_row = SIZE_MAX };
    return p->kind->encode(p, items, opts ? opts : &none, arena, ret, err);
}

/* ---- scores ---- */
unsigned wn_pipeline_n_labels(const struct wn_pipeline *p)
{
    return p->n_labels;
}

const char *wn_pipeline_label(const struct wn_pipeline *p, unsigned i)
{
    return i < p->n_labels ? p->label[i] : NULL;
}

/* a before b: the higher score, then the lower index; NaN behind everything. */
static bool before(const float *scores, unsigned a, unsigned b)
{
    float x = scores[a], y = scores[b];
    if (isnan(x) || isnan(y))
        return isnan(x) == isnan(y) ? a < b : !isnan(x);
    return x > y || (x == y && a < b);
}

/* exp(x - max) / sum, in double; what is not a number stays none. */
static void to_probabilities(const float *scores, unsigned n, unsigned k, struct wn_class *ret)
{
    double top = -HUGE_VAL, sum = 0;
    for (unsigned i = 0; i < n; i++)
        if (scores[i] > top)
            top = scores[i];
    for (unsigned i = 0; i < n; i++)
        sum += scores[i] == top ? 1 : exp((double)scores[i] - top); /* inf - inf is no number */
    for (unsigned i = 0; i < k; i++)
        ret[i].score = (float)((ret[i].score == top ? 1 : exp((double)ret[i].score - top)) / sum);
}

unsigned wn_pipeline_top_k(const struct wn_pipeline *p, const float *scores, unsigned n, unsigned k,
                           struct wn_class *ret)
{
    unsigned found = 0;
    k = WN_MIN(k, n);
    for (unsigned i = 0; i < n && k; i++) { /* insertion into a sorted list of at most k */
        if (found == k && !before(scores, i, ret[k - 1].index))
            continue;
        unsigned at = found < k ? found++ : k - 1;
        for (; at > 0 && before(scores, i, ret[at - 1].index); at--)
            ret[at] = ret[at - 1];
        ret[at] = (struct wn_class){ .index = i, .score = scores[i] };
    }
    if (p->softmax)
        to_probabilities(scores, n, found, ret);
    for (unsigned i = 0; i < found; i++)
        ret[i].label = ret[i].index < p->n_labels ? p->label[ret[i].index] : "";
    return found;
}

/* ---- embeddings ---- */
const char *wn_pipeline_embed_name(const struct wn_pipeline *p)
{
    return p->text.output;
}

size_t wn_pipeline_embed_dim(const struct wn_pipeline *p, unsigned rank, const int64_t *shape)
{
    unsigned want = p->text.pooling == WN_POOL_NONE ? 2 : 3;
    if (rank != want || shape[want - 1] < 1 || shape[want - 2] < 1)
        return 0;
    return (size_t)shape[want - 1];
}

static void to_unit(float *v, size_t dim)
{
    double sum = 0;
    for (size_t k = 0; k < dim; k++)
        sum += (double)v[k] * (double)v[k];
    double norm = fmax(sqrt(sum), 1e-12); /* a vector of zeros stays one */
    for (size_t k = 0; k < dim; k++)
        v[k] = (float)((double)v[k] / norm);
}

void wn_pipeline_embed(const struct wn_pipeline *p, const float *output, const int64_t *shape, const uint32_t *used,
                       float *ret)
{
    bool pooled = p->text.pooling != WN_POOL_NONE;
    size_t rows = (size_t)shape[0], len = pooled ? (size_t)shape[1] : 1, dim = (size_t)shape[pooled ? 2 : 1];
    for (size_t r = 0; r < rows; r++) {
        const float *from = output + r * len * dim;
        float *to = ret + r * dim;
        size_t n = p->text.pooling != WN_POOL_MEAN ? 1 : used ? WN_MIN((size_t)used[r], len) : len;
        for (size_t k = 0; k < dim; k++) {
            double sum = 0;
            for (size_t i = 0; i < n; i++)
                sum += (double)from[i * dim + k];
            to[k] = (float)(sum / (double)WN_MAX(n, (size_t)1));
        }
        if (p->text.normalize)
            to_unit(to, dim);
    }
}
