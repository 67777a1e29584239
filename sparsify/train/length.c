/* length.c: rows of tokens. A batch is as long as its longest row, rounded up; every such length has a net of its own,
 * read anew from the graph (shapes are folded for it) and planned once, over the same parameters. A few are kept; they
 * share one arena, since only one runs at a time. */
#include <stdlib.h>
#include <string.h>
#include "sparsify/kernels/rng.h"
#include "sparsify/train/train_impl.h"

enum { KEY_BATCHES = 0x62617463 };
#define RUN_BATCHES 16 /* batches within which rows are sorted by length */
#define MAX_LENGTH  65536

/* ---- nets ---- */

void wn_trainer_drop_parked(struct wn_trainer *tr, bool plans_only)
{
    for (unsigned i = 0; i < tr->n_parked; i++)
        if (plans_only)
            wn_net_unplan(&tr->parked[i]);
        else
            wn_net_done(&tr->parked[i]);
    if (!plans_only)
        tr->n_parked = tr->next_parked = 0;
}

static void keep_mode(struct wn_net *to, const struct wn_net *from)
{
    to->training = from->training;
    to->bn_batch = from->bn_batch;
    to->bn_share = from->bn_share;
    to->simulate = from->simulate;
    to->observe = from->observe;
    to->observe_share = from->observe_share;
    to->step_key = from->step_key;
    to->weight_max = from->weight_max;
}

enum winnow_status wn_trainer_use_length(struct wn_trainer *tr, int64_t length, struct winnow_err *err)
{
    struct wn_net *net = &tr->net;
    if (!net->length || net->length == length)
        return WINNOW_OK;
    for (unsigned i = 0; i < tr->n_parked; i++)
        if (tr->parked[i].length == length) {
            struct wn_net t = *net;
            *net = tr->parked[i];
            tr->parked[i] = t;
            keep_mode(net, &t);
            return WINNOW_OK;
        }
    struct wn_net fresh = { 0 };
    enum winnow_status s = wn_trainer_import_again(tr, &fresh, length, err);
    if (s != WINNOW_OK) {
        wn_net_done(&fresh);
        return s;
    }
    keep_mode(&fresh, net);
    unsigned at = tr->n_parked < WN_TRAIN_NETS ? tr->n_parked++ : tr->next_parked++ % WN_TRAIN_NETS;
    wn_net_done(&tr->parked[at]); /* empty, or the one that was parked longest ago */
    tr->parked[at] = *net;
    *net = fresh;
    return WINNOW_OK;
}

/* ---- rows ---- */

static int source_of(const struct wn_train_tokens *t, const char *name)
{
    for (unsigned i = 0; i < t->n_inputs; i++)
        if (strcmp(t->name[i], name) == 0)
            return (int)i;
    return -1;
}

enum winnow_status wn_trainer_check_tokens(const struct wn_trainer *tr, const struct wn_train_tokens *t, size_t n,
                                           struct winnow_err *err)
{
    const struct wn_net *net = &tr->net;
    if (!net->feed.n)
        return wn_fail(err, WINNOW_E_MALFORMED, "rows of tokens for a model of pictures");
    for (size_t k = 0; k < net->feed.n; k++)
        if (source_of(t, net->feed.at[k].name) < 0)
            return wn_fail(err, WINNOW_E_MALFORMED, "no tokens for the model's input '%s'", net->feed.at[k].name);
    if (t->n_inputs != net->feed.n)
        return wn_fail(err, WINNOW_E_MALFORMED, "tokens for %u inputs, the model has %zu", t->n_inputs, net->feed.n);
    int64_t most = net->length ? MAX_LENGTH : net->feed.at[0].t.dim[1];
    for (size_t i = 0; i < n; i++)
        if (t->start[i + 1] <= t->start[i] || t->start[i + 1] - t->start[i] > (size_t)most)
            return wn_fail(err, WINNOW_E_MALFORMED, "row %zu is not 1 to %lld tokens long", i, (long long)most);
    return WINNOW_OK;
}

static void put(const struct wn_tensor *to, size_t at, int64_t v)
{
    if (to->dtype == WINNOW_I64)
        ((int64_t *)to->data)[at] = v;
    else if (to->dtype == WINNOW_I32)
        ((int32_t *)to->data)[at] = (int32_t)v;
    else
        ((float *)to->data)[at] = (float)v;
}

enum winnow_status wn_trainer_load_tokens(struct wn_trainer *tr, const struct wn_train_tokens *t,
                                          const uint32_t *sample, size_t n, struct winnow_err *err)
{
    size_t longest = 1, multiple = t->multiple ? t->multiple : 16, batch = tr->opts.batch;
    for (size_t r = 0; r < n; r++)
        longest = WN_MAX(longest, t->start[sample[r] + 1] - t->start[sample[r]]);
    WN_TRY(wn_trainer_use_length(tr, (int64_t)wn_round_up(longest, multiple), err));
    WN_TRY(wn_trainer_ready(tr, err));
    for (size_t k = 0; k < tr->net.feed.n; k++) {
        struct wn_net_feed *f = &tr->net.feed.at[k];
        unsigned src = (unsigned)source_of(t, f->name);
        size_t L = (size_t)f->t.dim[1];
        if (tr->ids_bytes[k] < f->t.bytes) {
            free(tr->ids[k]);
            tr->ids[k] = malloc(f->t.bytes);
            tr->ids_bytes[k] = tr->ids[k] ? f->t.bytes : 0;
        }
        if (!tr->ids[k])
            return wn_fail(err, WINNOW_E_NOMEM, "tokens");
        f->t.data = tr->ids[k];
        for (size_t r = 0; r < batch; r++) {
            uint32_t s = sample[WN_MIN(r, n - 1)];
            size_t from = t->start[s], len = t->start[s + 1] - from;
            for (size_t i = 0; i < L; i++)
                put(&f->t, r * L + i, i < len ? t->id[src][from + i] : t->pad[src]);
        }
    }
    return WINNOW_OK;
}

/* ---- order ---- */

struct placed {
    size_t length;
    uint32_t at, row;
};

static int by_length(const void *pa, const void *pb)
{
    const struct placed *a = pa, *b = pb;
    if (a->length != b->length)
        return a->length < b->length ? -1 : 1;
    return a->at < b->at ? -1 : a->at > b->at;
}

enum winnow_status wn_trainer_group(struct wn_trainer *tr, uint64_t epoch, struct winnow_err *err)
{
    const struct wn_train_tokens *t = tr->data->tokens;
    size_t n = tr->data->n, batch = tr->opts.batch, batches = n / batch, run = RUN_BATCHES * batch;
    WN_CLEANUP(wn_freep) struct placed *p = malloc((n + 1) * sizeof *p);
    WN_CLEANUP(wn_freep) uint32_t *turn = malloc((batches + 1) * sizeof *turn);
    if (!p || !turn)
        return wn_fail(err, WINNOW_E_NOMEM, "data");
    for (size_t i = 0; i < n; i++) {
        uint32_t row = tr->order[i];
        p[i] = (struct placed){ t->start[row + 1] - t->start[row], (uint32_t)i, row };
    }
    for (size_t i = 0; i < n; i += run)
        qsort(p + i, WN_MIN(run, n - i), sizeof *p, by_length);
    for (size_t i = 0; i < batches; i++)
        turn[i] = (uint32_t)i;
    for (size_t i = batches; i > 1; i--) {
        size_t k = (size_t)wn_rng_below(wn_rng(tr->opts.seed, KEY_BATCHES, epoch, i), i);
        uint32_t swap = turn[i - 1];
        turn[i - 1] = turn[k];
        turn[k] = swap;
    }
    for (size_t i = 0; i < n; i++) /* what fills no batch stays at the end */
        tr->order[i] = p[i < batches * batch ? turn[i / batch] * batch + i % batch : i].row;
    return WINNOW_OK;
}
