/* train_rows.c: rows decoded and fitted, or tokenized, once; training augments, normalises and pads them at every step.
 */
#include "sparsify/worker/train_rows.h"

#include <stdlib.h>
#include <string.h>
#include "base/vec.h"
#include "pipeline/rows.h"
#include "pipeline/tokenizer.h"
#include "sparsify/data/split.h"

#define MAX_VALIDATION 2000
#define MAX_PIXELS     ((size_t)4 << 30)
#define MAX_TOKENS     ((size_t)64 << 20) /* three numbers of 8 bytes each */

static void rows_freep(struct wn_rows **rows)
{
    wn_rows_free(*rows);
}

static bool is_text(const struct wn_origin *o)
{
    return wn_pipeline_task(o->pipeline) == WN_PIPE_TEXTS;
}

/* Without new labels the rows' names must be the model's: ingest saw to it, this makes sure that base and data belong
 * together. */
static enum winnow_status check_names(const struct wn_rows *rows, const struct wn_job *job, const struct wn_origin *o,
                                      struct winnow_err *err)
{
    unsigned n = wn_pipeline_n_labels(o->pipeline);
    if (job->new_labels || !n)
        return WINNOW_OK;
    if (n != wn_rows_n_labels(rows))
        return wn_fail(err, WINNOW_E_MALFORMED, "the rows have %u label names, the base has %u", wn_rows_n_labels(rows),
                       n);
    for (unsigned i = 0; i < n; i++)
        if (strcmp(wn_pipeline_label(o->pipeline, i), wn_rows_label_name(rows, i)) != 0)
            return wn_fail(err, WINNOW_E_MALFORMED, "label %u is '%.40s' in the rows, '%.40s' in the base", i,
                           wn_rows_label_name(rows, i), wn_pipeline_label(o->pipeline, i));
    return WINNOW_OK;
}

static enum winnow_status take_names(const struct wn_rows *rows, struct wn_train_rows *r, struct winnow_err *err)
{
    r->n_labels = wn_rows_n_labels(rows);
    r->name = calloc((size_t)r->n_labels + 1, sizeof *r->name);
    for (unsigned i = 0; r->name && i < r->n_labels; i++)
        if (!(r->name[i] = wn_strdup(wn_rows_label_name(rows, i))))
            return wn_fail(err, WINNOW_E_NOMEM, "labels");
    return r->name ? WINNOW_OK : wn_fail(err, WINNOW_E_NOMEM, "labels");
}

/* Which rows validate: about a tenth of each class. */
static enum winnow_status choose(const struct wn_rows *rows, uint64_t seed, uint8_t *val, struct wn_train_rows *r,
                                 struct winnow_err *err)
{
    size_t n = wn_rows_count(rows);
    WN_CLEANUP(wn_freep) uint64_t *key = calloc(n + 1, sizeof *key);
    WN_CLEANUP(wn_freep) uint32_t *label = calloc(n + 1, sizeof *label);
    if (!key || !label)
        return wn_fail(err, WINNOW_E_NOMEM, "rows");
    uint32_t top = 0;
    for (size_t i = 0; i < n; i++) {
        int64_t y = wn_rows_label(rows, i);
        if (y < 0 || y > 1000000)
            return wn_fail(err, WINNOW_E_MALFORMED, "row %zu has label %lld", i, (long long)y);
        key[i] = (uint64_t)wn_rows_id(rows, i);
        label[i] = (uint32_t)y;
        top = WN_MAX(top, label[i]);
    }
    size_t want = WN_MIN(wn_split_size(n, 0.1, 20), (size_t)MAX_VALIDATION);
    WN_TRY(wn_split(key, label, n, top + 1, want, ~seed, val, err)); /* another draw than ingest's */
    for (size_t i = 0; i < n; i++)
        r->n_val += val[i];
    r->n_train = n - r->n_val;
    return WINNOW_OK;
}

static enum winnow_status fit_row(const struct wn_rows *rows, size_t i, const struct wn_origin *o, uint8_t *px,
                                  struct winnow_err *err)
{
    size_t n;
    const void *bytes = wn_rows_item(rows, 0, i, &n);
    struct wn_image image = { 0 };
    enum winnow_status status = wn_image_decode(bytes, n, NULL, &image, err);
    if (status == WINNOW_OK)
        status = wn_pipeline_fit(o->pipeline, &image, px, err);
    wn_image_done(&image);
    return status == WINNOW_OK ? status : wn_fail_at(err, status, "row %zu", i);
}

/* ---- pictures ---- */

static enum winnow_status fill_pictures(const struct wn_rows *rows, const size_t *from, const struct wn_origin *o,
                                        struct wn_train_rows *r, struct winnow_err *err)
{
    size_t n = wn_rows_count(rows), per = (size_t)o->h * o->w * o->c, total;
    if (!wn_mul_size(n, per, &total) || total > MAX_PIXELS)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "%zu rows of %zu bytes do not fit in memory", n, per);
    r->px = malloc(total + 1);
    if (!r->px)
        return wn_fail(err, WINNOW_E_NOMEM, "rows");
    for (size_t at = 0; at < n; at++)
        WN_TRY(fit_row(rows, from[at], o, r->px + at * per, err));
    return WINNOW_OK;
}

/* ---- texts ---- */

static enum winnow_status describe_inputs(const struct wn_origin *o, struct wn_train_rows *r, struct winnow_err *err)
{
    r->n_fill = wn_pipeline_n_fill(o->pipeline);
    r->multiple = wn_pipeline_pad_to(o->pipeline);
    for (unsigned k = 0; k < r->n_fill; k++) {
        const char *name = o->graph.values.at[o->graph.inputs.at[wn_pipeline_fill(o->pipeline, k)]].name;
        r->pad[k] = wn_pipeline_pad(o->pipeline, k);
        if (!(r->fill_name[k] = wn_strdup(name)))
            return wn_fail(err, WINNOW_E_NOMEM, "rows");
    }
    return WINNOW_OK;
}

/* The ids of row `i` behind those that are there. */
static enum winnow_status add_text(const struct wn_rows *rows, size_t i, const struct wn_origin *o,
                                   struct wn_tokens *tokens, size_t caps[WN_PIPE_MAX_FILL], size_t used,
                                   struct wn_train_rows *r, struct winnow_err *err)
{
    struct wn_pipe_item text, pair;
    bool two = wn_rows_n_inputs(rows) > 1;
    text.at = wn_rows_item(rows, 0, i, &text.n);
    if (two)
        pair.at = wn_rows_item(rows, 1, i, &pair.n);
    enum winnow_status status = wn_pipeline_tokenize(o->pipeline, text, two ? &pair : NULL, tokens, err);
    if (status != WINNOW_OK)
        return wn_fail_at(err, status, "row %zu", i);
    if (tokens->n > MAX_TOKENS - used)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "the texts have more than %zu tokens", MAX_TOKENS);
    const struct wn_pipe_ids row = { tokens->id, tokens->type, tokens->n };
    for (unsigned k = 0; k < r->n_fill; k++) {
        if (used + row.n > caps[k] && !wn_vec_grow((void *)&r->id[k], &caps[k], used + row.n, sizeof(int64_t)))
            return wn_fail(err, WINNOW_E_NOMEM, "rows");
        wn_pipeline_values(o->pipeline, k, &row, r->id[k] + used);
    }
    return WINNOW_OK;
}

static enum winnow_status fill_texts(const struct wn_rows *rows, const size_t *from, const struct wn_origin *o,
                                     struct wn_train_rows *r, struct winnow_err *err)
{
    WN_CLEANUP(wn_tokens_done) struct wn_tokens tokens = { 0 };
    size_t n = wn_rows_count(rows), caps[WN_PIPE_MAX_FILL] = { 0 };
    WN_TRY(describe_inputs(o, r, err));
    r->start = calloc(n + 1, sizeof *r->start);
    if (!r->start)
        return wn_fail(err, WINNOW_E_NOMEM, "rows");
    for (size_t at = 0; at < n; at++) {
        WN_TRY(add_text(rows, from[at], o, &tokens, caps, r->start[at], r, err));
        r->start[at + 1] = r->start[at] + tokens.n;
    }
    return WINNOW_OK;
}

static enum winnow_status fill(const struct wn_rows *rows, const struct wn_job *job, const struct wn_origin *o,
                               struct wn_train_rows *r, struct winnow_err *err)
{
    size_t n = wn_rows_count(rows);
    WN_CLEANUP(wn_freep) uint8_t *val = calloc(n + 1, 1);
    WN_CLEANUP(wn_freep) size_t *from = calloc(n + 1, sizeof *from); /* the row of the file at each place */
    r->label = calloc(n + 1, sizeof *r->label);
    if (!val || !from || !r->label)
        return wn_fail(err, WINNOW_E_NOMEM, "rows");
    WN_TRY(choose(rows, job->seed, val, r, err));
    for (size_t i = 0, train = 0, valid = r->n_train; i < n; i++)
        from[val[i] ? valid++ : train++] = i;
    for (size_t at = 0; at < n; at++)
        r->label[at] = (uint32_t)wn_rows_label(rows, from[at]);
    return is_text(o) ? fill_texts(rows, from, o, r, err) : fill_pictures(rows, from, o, r, err);
}

enum winnow_status wn_train_rows_open(const char *path, const struct wn_job *job, const struct wn_origin *o,
                                      struct wn_train_rows *ret, struct winnow_err *err)
{
    WN_CLEANUP(rows_freep) struct wn_rows *rows = NULL;
    struct wn_train_rows r = { 0 };
    WN_TRY(wn_rows_open(path, 0, &rows, err));
    unsigned n_in = wn_rows_n_inputs(rows);
    bool raw = wn_rows_input(rows, 0)->bytes && (n_in == 1 || (n_in == 2 && wn_rows_input(rows, 1)->bytes));
    if (!raw || (n_in == 2 && !is_text(o)))
        return wn_fail(err, WINNOW_E_MALFORMED, "'%s' does not hold %s", path,
                       is_text(o) ? "texts" : "encoded pictures");
    enum winnow_status status = check_names(rows, job, o, err);
    if (status == WINNOW_OK)
        status = take_names(rows, &r, err);
    if (status == WINNOW_OK)
        status = fill(rows, job, o, &r, err);
    if (status == WINNOW_OK)
        *ret = r;
    else
        wn_train_rows_done(&r);
    return status;
}

void wn_train_rows_done(struct wn_train_rows *rows)
{
    for (unsigned i = 0; rows->name && i < rows->n_labels; i++)
        free(rows->name[i]);
    free(rows->name);
    free(rows->px);
    free(rows->start);
    for (unsigned k = 0; k < WN_PIPE_MAX_FILL; k++) {
        free(rows->fill_name[k]);
        free(rows->id[k]);
    }
    free(rows->label);
    *rows = (struct wn_train_rows){ 0 };
}

static void normalise(const void *arg, const uint8_t *px, void *row)
{
    wn_pipeline_normalise(arg, px, row);
}

static struct wn_train_data pictures_part(const struct wn_train_rows *rows, const struct wn_origin *o, size_t from,
                                          size_t n)
{
    return (struct wn_train_data){ .n = n,
                                   .label = rows->label + from,
                                   .px = rows->px + from * o->h * o->w * o->c,
                                   .h = o->h,
                                   .w = o->w,
                                   .c = o->c,
                                   .normalise = normalise,
                                   .normalise_arg = o->pipeline };
}

struct wn_train_data wn_train_rows_part(const struct wn_train_rows *rows, const struct wn_origin *o, size_t from,
                                        size_t n, struct wn_train_tokens *tokens)
{
    if (rows->px)
        return pictures_part(rows, o, from, n);
    *tokens = (struct wn_train_tokens){ .n_inputs = rows->n_fill,
                                        .name = (const char *const *)rows->fill_name,
                                        .id = (const int64_t *const *)rows->id,
                                        .pad = rows->pad,
                                        .start = rows->start + from,
                                        .multiple = rows->multiple };
    return (struct wn_train_data){ .n = n, .label = rows->label + from, .tokens = tokens };
}

size_t wn_train_rows_length(const struct wn_train_rows *rows, size_t from, size_t n)
{
    size_t longest = 1;
    for (size_t i = from; i < from + n; i++)
        longest = WN_MAX(longest, rows->start[i + 1] - rows->start[i]);
    return wn_round_up(longest, rows->multiple);
}
