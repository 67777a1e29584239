/* data.c: batches from a data set: an order per epoch, augmentation per sample, both by counter. */
#include <stdlib.h>
#include <string.h>
#include "sparsify/kernels/rng.h"
#include "sparsify/kernels/team.h"
#include "sparsify/train/train_impl.h"

enum { KEY_ORDER = 0x6f726465, KEY_AUGMENT = 0x61756700 };

enum winnow_status wn_trainer_check_data(const struct wn_trainer *tr, const struct wn_train_data *data, bool labels,
                                         struct winnow_err *err)
{
    if (data->tokens)
        WN_TRY(wn_trainer_check_tokens(tr, data->tokens, data->n, err));
    else if (tr->net.feed.n)
        return wn_fail(err, WINNOW_E_MALFORMED, "the model takes tokens");
    if (!data->px && !data->row && !data->tokens)
        return wn_fail(err, WINNOW_E_MALFORMED, "data set without rows");
    if (data->px && !data->normalise && (size_t)data->h * data->w * data->c != wn_trainer_row_elements(tr))
        return wn_fail(err, WINNOW_E_MALFORMED, "pictures of %u x %u x %u, the model takes rows of %zu numbers",
                       data->h, data->w, data->c, wn_trainer_row_elements(tr));
    if (data->n > UINT32_MAX)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "data set of more than 2^32 rows");
    unsigned classes = wn_trainer_n_classes(tr);
    for (size_t i = 0; labels && i < data->n; i++)
        if (data->label[i] >= classes)
            return wn_fail(err, WINNOW_E_MALFORMED, "row %zu has label %u, the model knows %u classes", i,
                           data->label[i], classes);
    return WINNOW_OK;
}

enum winnow_status wn_trainer_bind_data(struct wn_trainer *tr, const struct wn_train_data *data, struct winnow_err *err)
{
    WN_CHECK_MAGIC(tr, WN_TRAINER_MAGIC);
    WN_TRY(wn_trainer_check_data(tr, data, data->label != NULL, err));
    if (data->n < tr->opts.batch)
        return wn_fail(err, WINNOW_E_MALFORMED, "%zu rows do not fill a batch of %u", data->n, tr->opts.batch);
    size_t px = (size_t)data->h * data->w * data->c;
    free(tr->augment);
    tr->augment = malloc(px * tr->opts.threads + 1);
    free(tr->order);
    tr->order = malloc(data->n * sizeof *tr->order);
    tr->order_n = 0;
    if (!tr->augment || !tr->order)
        return wn_fail(err, WINNOW_E_NOMEM, "data");
    tr->data = data;
    return WINNOW_OK;
}

/** Fisher and Yates, with a number by counter for every place. */
static enum winnow_status shuffle(struct wn_trainer *tr, uint64_t epoch, struct winnow_err *err)
{
    size_t n = tr->data->n;
    if (tr->order_n == n && tr->order_epoch == epoch)
        return WINNOW_OK;
    for (size_t i = 0; i < n; i++)
        tr->order[i] = (uint32_t)i;
    for (size_t i = n; i > 1; i--) {
        size_t k = (size_t)wn_rng_below(wn_rng(tr->opts.seed, KEY_ORDER, epoch, i), i);
        uint32_t t = tr->order[i - 1];
        tr->order[i - 1] = tr->order[k];
        tr->order[k] = t;
    }
    if (tr->data->tokens)
        WN_TRY(wn_trainer_group(tr, epoch, err));
    tr->order_n = n;
    tr->order_epoch = epoch;
    return WINNOW_OK;
}

static void to_row(const struct wn_train_data *d, const uint8_t *px, float *row)
{
    if (d->normalise) {
        d->normalise(d->normalise_arg, px, row);
        return;
    }
    size_t hw = (size_t)d->h * d->w;
    for (size_t c = 0; c < d->c; c++)
        for (size_t i = 0; i < hw; i++)
            row[c * hw + i] = (float)px[i * d->c + c] / 255.0f;
}

/** Left-right flip and shift of one picture, as the counter says; `to` has room for one picture. */
static const uint8_t *augment(const struct wn_train_data *d, const uint8_t *px, uint64_t bits, uint8_t *to)
{
    bool flip = d->flip && (bits & 1);
    int span = 2 * (int)d->crop_pad + 1, w = (int)d->w, h = (int)d->h;
    int dy = (int)wn_rng_below(wn_rng_mix(bits ^ 1), (uint64_t)span) - (int)d->crop_pad;
    int dx = (int)wn_rng_below(wn_rng_mix(bits ^ 2), (uint64_t)span) - (int)d->crop_pad;
    if (!flip && !dx && !dy)
        return px;
    size_t c = d->c;
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            int sy = y + dy, sx = (flip ? w - 1 - x : x) + dx;
            uint8_t *q = to + ((size_t)y * d->w + (size_t)x) * c;
            if (sy < 0 || sy >= h || sx < 0 || sx >= w)
                memset(q, 0, c);
            else
                memcpy(q, px + ((size_t)sy * d->w + (size_t)sx) * c, c);
        }
    return to;
}

struct load {
    struct wn_trainer *tr;
    uint64_t epoch;
    float *to;
};

static void load_part(void *arg, unsigned i, unsigned n)
{
    const struct load *l = arg;
    const struct wn_train_data *d = l->tr->data;
    size_t row = wn_trainer_row_elements(l->tr), px = (size_t)d->h * d->w * d->c, from, to;
    wn_team_share(l->tr->opts.batch, i, n, &from, &to);
    for (size_t r = from; r < to; r++) {
        uint32_t s = l->tr->sample[r];
        if (!d->px) {
            memcpy(l->to + r * row, d->row + (size_t)s * row, row * sizeof(float));
            continue;
        }
        const uint8_t *p = d->px + (size_t)s * px;
        if (d->flip || d->crop_pad)
            p = augment(d, p, wn_rng(l->tr->opts.seed, KEY_AUGMENT, l->epoch, s), l->tr->augment + i * px);
        to_row(d, p, l->to + r * row);
    }
}

enum winnow_status wn_trainer_load(struct wn_trainer *tr, uint64_t epoch, uint64_t index, struct winnow_err *err)
{
    size_t batches = tr->data->n / tr->opts.batch;
    if (!batches)
        return wn_fail(err, WINNOW_E_MALFORMED, "data smaller than a batch");
    WN_TRY(shuffle(tr, epoch, err));
    const uint32_t *at = tr->order + index % batches * tr->opts.batch;
    for (unsigned i = 0; i < tr->opts.batch; i++) {
        tr->sample[i] = at[i];
        tr->label[i] = tr->data->label ? tr->data->label[at[i]] : 0;
    }
    tr->n_samples = tr->opts.batch;
    if (tr->data->tokens)
        return wn_trainer_load_tokens(tr, tr->data->tokens, tr->sample, tr->opts.batch, err);
    struct load l = { tr, epoch, wn_net_input(&tr->net) };
    wn_team_run(tr->opts.threads, tr->opts.batch, load_part, &l);
    return WINNOW_OK;
}

enum winnow_status wn_trainer_load_plain(struct wn_trainer *tr, const struct wn_train_data *data, size_t from,
                                         size_t *ret_n, struct winnow_err *err)
{
    size_t row = wn_trainer_row_elements(tr), n = WN_MIN((size_t)tr->opts.batch, data->n - from);
    size_t px = (size_t)data->h * data->w * data->c;
    *ret_n = tr->n_samples = n;
    for (size_t r = 0; r < n; r++)
        tr->sample[r] = (uint32_t)(from + r);
    if (data->tokens)
        return wn_trainer_load_tokens(tr, data->tokens, tr->sample, n, err);
    float *to = wn_net_input(&tr->net);
    for (size_t r = 0; r < n; r++) {
        if (data->px)
            to_row(data, data->px + (from + r) * px, to + r * row);
        else
            memcpy(to + r * row, data->row + (from + r) * row, row * sizeof(float));
    }
    memset(to + n * row, 0, (tr->opts.batch - n) * row * sizeof(float));
    return WINNOW_OK;
}
