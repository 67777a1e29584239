/* bind.c: a request's tensors to a model's inputs, and a model's outputs to what the request asked for.
 *
 * Nothing here depends on the wire. Errors name the input or output, what was sent and what the model wants. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/api/infer.h"
#include "daemon/api/text.h"

/** Pixels of a picture that a request may bring where pipeline.yaml says nothing (max_pixels): decoding takes up to ten
 *  bytes for each, on every worker. */
#define SERVE_MAX_PIXELS ((uint64_t)25 << 20)

/** Text of more bytes than this is tokenized on a worker: half a millisecond. */
#define INLINE_TEXT ((size_t)4 << 10)

#define NAME(in) (int)WN_MIN((in)->name.n, (size_t)60), (in)->name.p

static bool is(struct winnow_str s, const char *text)
{
    return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

/** "[1,3,224,224]" for a message. */
struct shape_text {
    char s[120];
};
static struct shape_text shape_text(unsigned rank, const int64_t *shape)
{
    struct shape_text t;
    size_t n = (size_t)snprintf(t.s, sizeof t.s, "[");
    for (unsigned i = 0; i < rank && n < sizeof t.s; i++)
        n += (size_t)snprintf(t.s + n, sizeof t.s - n, "%s%" PRId64, i ? "," : "", shape[i]);
    if (n < sizeof t.s)
        snprintf(t.s + n, sizeof t.s - n, "]");
    return t;
}

/* ---- inputs ---- */
static struct wn_infer_in *find_in(const struct wn_infer *req, const char *name, bool strings)
{
    for (unsigned i = 0; i < req->n_in; i++)
        if ((req->in[i].dtype == WINNOW_STRING) == strings && is(req->in[i].name, name))
            return &req->in[i];
    return NULL;
}

/** The raw items for the pipeline, by wn_pipeline_raw(); in[0] NULL when the request brings the model's own tensors. */
struct raw {
    const struct wn_infer_in *in[WN_PIPE_MAX_RAW];
};
static struct raw raw_of(const struct wn_infer *req, const struct wn_gen *gen)
{
    const struct wn_pipeline *p = wn_gen_pipeline(gen);
    struct raw r = { { NULL } };
    const char *name;
    for (unsigned i = 0; p && (name = wn_pipeline_raw(p, i)) != NULL; i++)
        r.in[i] = find_in(req, name, true);
    return r;
}

bool wn_infer_has_raw(const struct wn_infer *req, const struct wn_gen *gen)
{
    return raw_of(req, gen).in[0] != NULL;
}

bool wn_infer_is_slow(const struct wn_infer *req, const struct wn_gen *gen)
{
    struct raw r = raw_of(req, gen);
    size_t bytes = 0;
    if (!r.in[0])
        return false;
    if (wn_pipeline_task(wn_gen_pipeline(gen)) == WN_PIPE_IMAGES)
        return true;
    for (unsigned k = 0; k < WN_PIPE_MAX_RAW && r.in[k]; k++) {
        const struct winnow_str *s = r.in[k]->data;
        for (size_t i = 0; i < r.in[k]->bytes / sizeof *s; i++)
            bytes += s[i].n + 16;
    }
    return bytes > INLINE_TEXT;
}

/** BYTES (n) or (n, 1) -> items. */
static enum winnow_status items_of(struct wn_infer *req, const struct wn_gen *gen, const struct wn_infer_in *in,
                                   size_t *ret_n, const struct wn_pipe_item **ret, struct winnow_err *err)
{
    const struct winnow_str *item = in->data;
    size_t n = in->bytes / sizeof *item;
    if (in->rank < 1 || in->rank > 2 || (size_t)in->shape[0] != n)
        return wn_fail(err, WINNOW_E_MALFORMED, "input '%.*s' has shape %s, but [rows] or [rows,1] was expected",
                       NAME(in), shape_text(in->rank, in->shape).s);
    if (!n || n > (size_t)wn_gen_max_rows(gen))
        return wn_fail(err, WINNOW_E_MALFORMED, "input '%.*s' has %zu rows, but from 1 to %" PRId64 " are allowed",
                       NAME(in), n, wn_gen_max_rows(gen));
    struct wn_pipe_item *to = wn_arena_calloc(req->arena, n, sizeof *to);
    if (!to)
        return wn_fail(err, WINNOW_E_NOMEM, "input '%.*s'", NAME(in));
    for (size_t i = 0; i < n; i++) {
        struct winnow_str s = item[i];
        if (in->base64 && !wn_base64_decode(s.p, s.n, req->arena, &s))
            return wn_fail(err, WINNOW_E_MALFORMED, "input '%.*s', row %zu: not base64", NAME(in), i);
        to[i] = (struct wn_pipe_item){ s.p, s.n };
    }
    *ret_n = n;
    *ret = to;
    return WINNOW_OK;
}

/** What the engine calls a pipeline's tensor. */
static struct winnow_tensor engine_tensor(const struct wn_pipe_tensor *t)
{
    struct winnow_tensor r = { .dtype = t->dtype, .rank = t->rank, .data = t->data, .bytes = t->bytes };
    memcpy(r.shape, t->shape, t->rank * sizeof r.shape[0]);
    return r;
}

void wn_infer_take_batch(const struct wn_pipe_batch *batch, struct winnow_tensor *ret)
{
    for (unsigned i = 0; i < batch->n_t; i++)
        ret[batch->t[i].model_input] = engine_tensor(&batch->t[i]);
}

static enum winnow_status encode(struct wn_infer *req, const struct wn_gen *gen, const struct raw *raw,
                                 struct winnow_tensor *ret, struct winnow_err *err)
{
    static const struct wn_pipe_opts opts = { .max_pixels = SERVE_MAX_PIXELS };
    struct wn_pipe_items items = { .n = 0 };
    struct wn_pipe_batch batch;
    for (unsigned k = 0; k < WN_PIPE_MAX_RAW && raw->in[k]; k++) {
        size_t n = 0;
        WN_TRY(items_of(req, gen, raw->in[k], &n, &items.at[k], err));
        if (k && n != items.n)
            return wn_fail(err, WINNOW_E_MALFORMED, "input '%.*s' has %zu rows, input '%.*s' has %zu", NAME(raw->in[k]),
                           n, NAME(raw->in[0]), items.n);
        items.n = n;
    }
    enum winnow_status s = wn_pipeline_encode_rows(wn_gen_pipeline(gen), &items, &opts, req->arena, &batch, err);
    if (s != WINNOW_OK && batch.bad_row != SIZE_MAX)
        return wn_fail_at(err, WINNOW_E_MALFORMED, "input '%.*s', row %zu", NAME(raw->in[0]), batch.bad_row);
    if (s != WINNOW_OK)
        return wn_fail_at(err, s, "input '%.*s'", NAME(raw->in[0]));
    wn_infer_take_batch(&batch, ret);
    req->used = batch.used;
    req->length = batch.length;
    return WINNOW_OK;
}

static enum winnow_status copy_aligned(struct wn_infer *req, struct winnow_tensor *t, const struct wn_infer_in *in,
                                       struct winnow_err *err)
{
    size_t size = WN_MIN(winnow_dtype_size(t->dtype), (size_t)8);
    if (!size || (uintptr_t)t->data % size == 0)
        return WINNOW_OK;
    void *to = wn_arena_alloc(req->arena, t->bytes);
    if (!to)
        return wn_fail(err, WINNOW_E_NOMEM, "input '%.*s'", NAME(in));
    memcpy(to, t->data, t->bytes);
    t->data = to;
    return WINNOW_OK;
}

static enum winnow_status check_bools(const struct wn_infer_in *in, struct winnow_err *err)
{
    const uint8_t *p = in->data;
    for (size_t i = 0; i < in->bytes; i++)
        if (p[i] > 1)
            return wn_fail(err, WINNOW_E_MALFORMED, "input '%.*s': element %zu is not a BOOL (0 or 1)", NAME(in), i);
    return WINNOW_OK;
}

static enum winnow_status take(struct wn_infer *req, const struct winnow_io *io, const struct wn_infer_in *in,
                               struct winnow_tensor *ret, struct winnow_err *err)
{
    if (in->dtype != io->dtype) /* numpy makes FP64 where nothing is said */
        return wn_fail(err, WINNOW_E_MALFORMED, "input '%s' has datatype %s, but the model wants %s%s", io->name,
                       wn_oip_name(in->dtype), wn_oip_name(io->dtype),
                       in->dtype == WINNOW_F64 && io->dtype == WINNOW_F32 ? ": in numpy, x.astype('float32')" : "");
    bool fits = in->rank == io->rank;
    for (unsigned i = 0; fits && i < io->rank; i++)
        fits = io->shape[i] < 0 || io->shape[i] == in->shape[i];
    if (!fits)
        return wn_fail(err, WINNOW_E_MALFORMED, "input '%s' has shape %s, but the model wants %s", io->name,
                       shape_text(in->rank, in->shape).s, shape_text(io->rank, io->shape).s);
    if (in->dtype == WINNOW_BOOL)
        WN_TRY(check_bools(in, err));
    *ret = (struct winnow_tensor){ .dtype = in->dtype, .rank = in->rank, .bytes = in->bytes };
    memcpy(ret->shape, in->shape, sizeof ret->shape);
    ret->data = (void *)(uintptr_t)in->data; /* inputs are only read */
    return copy_aligned(req, ret, in, err);
}

/** An input that the model does not have; those that it has are named. */
static enum winnow_status no_such_input(const struct wn_gen *gen, const struct wn_infer_in *in, struct winnow_err *err)
{
    const winnow_model *model = wn_gen_model(gen);
    const struct wn_pipeline *p = wn_gen_pipeline(gen);
    char all[160] = "";
    size_t used = p ? (size_t)snprintf(all, sizeof all, "'%.40s' (BYTES), or ", wn_pipeline_raw(p, 0)) : 0;
    for (unsigned k = 0; k < winnow_model_n_inputs(model) && used < sizeof all; k++) {
        const struct winnow_io *io = winnow_model_input(model, k);
        used += (size_t)snprintf(all + used, sizeof all - used, "%s'%.40s' (%s %s)", k ? ", " : "", io->name,
                                 wn_oip_name(io->dtype), shape_text(io->rank, io->shape).s);
    }
    return wn_fail(err, WINNOW_E_MALFORMED, "model '%s' has no input '%.*s', but %s", wn_gen_model_name(gen), NAME(in),
                   all);
}

/** Every input that was sent must have been used, once. */
static enum winnow_status check_used(const struct wn_infer *req, const struct wn_gen *gen, struct winnow_err *err)
{
    const winnow_model *model = wn_gen_model(gen);
    unsigned n = winnow_model_n_inputs(model);
    struct raw raw = raw_of(req, gen);
    for (unsigned i = 0; i < req->n_in; i++) {
        const struct wn_infer_in *in = &req->in[i];
        bool known = in == raw.in[0] || (raw.in[0] && in == raw.in[1]);
        for (unsigned k = 0; k < n && !known; k++)
            known = is(in->name, winnow_model_input(model, k)->name);
        if (!known)
            return no_such_input(gen, in, err);
        for (unsigned k = 0; k < i; k++)
            if (in->name.n == req->in[k].name.n && memcmp(in->name.p, req->in[k].name.p, in->name.n) == 0)
                return wn_fail(err, WINNOW_E_MALFORMED, "input '%.*s' already exists in request", NAME(in));
    }
    return WINNOW_OK;
}

static enum winnow_status count_rows(const struct wn_gen *gen, const struct winnow_tensor *t, int64_t *ret,
                                     struct winnow_err *err)
{
    const winnow_model *model = wn_gen_model(gen);
    *ret = 1;
    if (!winnow_model_rows_independent(model, NULL))
        return WINNOW_OK;
    for (unsigned i = 0; i < winnow_model_n_inputs(model); i++)
        if (t[i].rank && t[i].shape[0] != t[0].shape[0])
            return wn_fail(err, WINNOW_E_MALFORMED, "input '%s' has %" PRId64 " rows, input '%s' has %" PRId64,
                           winnow_model_input(model, i)->name, t[i].shape[0], winnow_model_input(model, 0)->name,
                           t[0].shape[0]);
    int64_t rows = t[0].rank ? t[0].shape[0] : 1;
    if (rows < 1 || rows > wn_gen_max_rows(gen))
        return wn_fail(err, WINNOW_E_MALFORMED,
                       "the request has %" PRId64 " rows, but from 1 to %" PRId64 " are allowed", rows,
                       wn_gen_max_rows(gen));
    *ret = rows;
    return WINNOW_OK;
}

enum winnow_status wn_infer_bind(struct wn_infer *req, const struct wn_gen *gen, struct winnow_tensor *ret,
                                 int64_t *ret_rows, struct winnow_err *err)
{
    const winnow_model *model = wn_gen_model(gen);
    const struct wn_pipeline *p = wn_gen_pipeline(gen);
    struct raw raw = raw_of(req, gen);
    WN_TRY(check_used(req, gen, err));
    if (raw.in[0])
        WN_TRY(encode(req, gen, &raw, ret, err));
    for (unsigned i = 0; i < winnow_model_n_inputs(model); i++) {
        const struct winnow_io *io = winnow_model_input(model, i);
        struct wn_infer_in *in = find_in(req, io->name, false);
        bool filled = raw.in[0] && wn_pipeline_fills(p, i);
        if (!in)
            in = find_in(req, io->name, true);
        if (filled && in && in != raw.in[0] && in != raw.in[1])
            return wn_fail(err, WINNOW_E_MALFORMED, "input '%s' and '%.*s', which becomes it, are both there", io->name,
                           NAME(raw.in[0]));
        if (filled)
            continue;
        if (!in)
            return wn_fail(err, WINNOW_E_MALFORMED, "input '%s' (%s %s) is missing", io->name, wn_oip_name(io->dtype),
                           shape_text(io->rank, io->shape).s);
        WN_TRY(take(req, io, in, &ret[i], err));
    }
    return count_rows(gen, ret, ret_rows, err);
}

/* ---- outputs ---- */
static int find_out(const winnow_model *model, struct winnow_str name)
{
    for (unsigned i = 0; i < winnow_model_n_outputs(model); i++)
        if (is(name, winnow_model_output(model, i)->name))
            return (int)i;
    return -1;
}

/** Whether the pipeline makes this output: "label" and "score", or the embedding, which needs a text. */
static bool is_made(const struct wn_infer *req, const struct wn_gen *gen, struct winnow_str name)
{
    const struct wn_pipeline *p = wn_gen_pipeline(gen);
    if (!p)
        return false;
    return wn_pipeline_scores(p) ? is(name, "label") || is(name, "score")
                                 : wn_infer_has_raw(req, gen) && is(name, wn_pipeline_embed_name(p));
}

enum winnow_status wn_infer_check_wants(const struct wn_infer *req, const struct wn_gen *gen, struct winnow_err *err)
{
    const winnow_model *model = wn_gen_model(gen);
    for (unsigned i = 0; i < req->n_want; i++) {
        const struct wn_infer_want *w = &req->want[i];
        int o = find_out(model, w->name);
        if (o < 0 && !is_made(req, gen, w->name))
            return wn_fail(err, WINNOW_E_MALFORMED, "model '%s' has no output '%.*s'", wn_gen_model_name(gen), NAME(w));
        if (w->classes && (o < 0 || winnow_model_output(model, (unsigned)o)->dtype == WINNOW_STRING))
            return wn_fail(err, WINNOW_E_MALFORMED, "output '%.*s' has no classes", NAME(w));
    }
    return WINNOW_OK;
}

static double element(const struct winnow_tensor *t, size_t i)
{
    const char *p = (const char *)t->data + i * winnow_dtype_size(t->dtype);
#define AS(T)                                                                                                          \
    {                                                                                                                  \
        T v_;                                                                                                          \
        memcpy(&v_, p, sizeof v_);                                                                                     \
        return (double)v_;                                                                                             \
    }
    switch (t->dtype) {
    case WINNOW_F32:
        AS(float)
    case WINNOW_F64:
        AS(double)
    case WINNOW_I8:
        AS(int8_t)
    case WINNOW_I16:
        AS(int16_t)
    case WINNOW_U16:
        AS(uint16_t)
    case WINNOW_I32:
        AS(int32_t)
    case WINNOW_U32:
        AS(uint32_t)
    case WINNOW_I64:
        AS(int64_t)
    case WINNOW_U64:
        AS(uint64_t)
    default: /* U8, BOOL */
        return *(const uint8_t *)p;
    }
#undef AS
}

struct ranked {
    double v;
    unsigned i;
};

static int by_value(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    return x->v != y->v ? (x->v < y->v ? 1 : -1) : (x->i > y->i) - (x->i < y->i);
}

/** Rows and columns of a tensor: the first dimension, and the rest. False where there is none. */
static bool rows_of(const struct winnow_tensor *t, size_t *rows, size_t *columns)
{
    size_t count = t->bytes / winnow_dtype_size(t->dtype);
    *rows = t->rank > 1 ? (size_t)t->shape[0] : 1;
    *columns = *rows ? count / *rows : 0;
    return *columns > 0 && *columns <= UINT32_MAX;
}

/** Classification extension: the best N as "value:index[:label]". */
static enum winnow_status classify(struct wn_infer *req, const struct wn_gen *gen, unsigned output, int64_t n,
                                   const struct winnow_tensor *t, struct winnow_tensor *ret, struct winnow_err *err)
{
    size_t rows, columns, size = winnow_dtype_size(t->dtype);
    const struct wn_pipeline *p = wn_gen_pipeline(gen);
    bool labels = p && wn_pipeline_scores(p) && output == wn_pipeline_model_output(p);
    if (!size || t->dtype == WINNOW_F16 || t->dtype == WINNOW_BF16 || !rows_of(t, &rows, &columns))
        return wn_fail(err, WINNOW_E_MALFORMED, "this output has no classes");
    size_t k = WN_MIN((size_t)n, columns);
    struct ranked *r = wn_arena_calloc(req->arena, columns, sizeof *r);
    struct winnow_str *s = wn_arena_calloc(req->arena, rows * k, sizeof *s);
    if (!r || !s)
        return wn_fail(err, WINNOW_E_NOMEM, "response");
    for (size_t row = 0; row < rows; row++) {
        for (size_t i = 0; i < columns; i++)
            r[i] = (struct ranked){ element(t, row * columns + i), (unsigned)i };
        qsort(r, columns, sizeof *r, by_value);
        for (size_t i = 0; i < k; i++) {
            const char *label = labels ? wn_pipeline_label(p, r[i].i) : wn_gen_label(gen, output, r[i].i);
            char *text = wn_arena_printf(req->arena, label ? "%f:%u:%s" : "%f:%u", r[i].v, r[i].i, label);
            if (!text)
                return wn_fail(err, WINNOW_E_NOMEM, "response");
            s[row * k + i] = (struct winnow_str){ text, strlen(text) };
        }
    }
    *ret = (struct winnow_tensor){
        .dtype = WINNOW_STRING, .rank = t->rank > 1 ? 2 : 1, .data = s, .bytes = rows * k * sizeof *s
    };
    ret->shape[0] = (int64_t)(t->rank > 1 ? rows : k);
    ret->shape[1] = (int64_t)k;
    return WINNOW_OK;
}

/** "label" and "score" of a pipeline: (rows, k). */
static enum winnow_status top_k(struct wn_infer *req, const struct wn_gen *gen, const struct winnow_tensor *outputs,
                                struct winnow_tensor *label, struct winnow_tensor *score, struct winnow_err *err)
{
    const struct wn_pipeline *p = wn_gen_pipeline(gen);
    const struct winnow_tensor *t = &outputs[wn_pipeline_model_output(p)];
    size_t rows, columns;
    if (t->dtype != WINNOW_F32 || !rows_of(t, &rows, &columns))
        return wn_fail(err, WINNOW_E_INTERNAL, "the pipeline's scores are not FP32");
    size_t k = WN_MIN((size_t)WN_MAX(req->top_k, (int64_t)1), columns);
    struct winnow_str *s = wn_arena_calloc(req->arena, rows * k, sizeof *s);
    float *f = wn_arena_calloc(req->arena, rows * k, sizeof *f);
    struct wn_class *c = wn_arena_calloc(req->arena, k, sizeof *c);
    if (!s || !f || !c)
        return wn_fail(err, WINNOW_E_NOMEM, "response");
    for (size_t row = 0; row < rows; row++) {
        unsigned n = wn_pipeline_top_k(p, (const float *)t->data + row * columns, (unsigned)columns, (unsigned)k, c);
        for (unsigned i = 0; i < n; i++) {
            s[row * k + i] = (struct winnow_str){ c[i].label, strlen(c[i].label) };
            f[row * k + i] = c[i].score;
        }
    }
    *label = (struct winnow_tensor){ .dtype = WINNOW_STRING,
                                     .rank = 2,
                                     .shape = { (int64_t)rows, (int64_t)k },
                                     .data = s,
                                     .bytes = rows * k * sizeof *s };
    *score = (struct winnow_tensor){
        .dtype = WINNOW_F32, .rank = 2, .shape = { (int64_t)rows, (int64_t)k }, .data = f, .bytes = rows * k * sizeof *f
    };
    return WINNOW_OK;
}

/** Whether an output goes as binary: what it says itself, else what the request says, else JSON. f16 and bf16 have no
 *  other form. */
static bool as_binary(const struct wn_infer *req, const struct wn_infer_want *want, enum winnow_dtype dtype)
{
    int said = want && want->binary >= 0 ? want->binary : req->binary_output;
    return said == 1 || dtype == WINNOW_F16 || dtype == WINNOW_BF16;
}

/** The embedding of a pipeline: (rows, dimensions). */
static enum winnow_status embed(struct wn_infer *req, const struct wn_gen *gen, const struct winnow_tensor *outputs,
                                struct winnow_tensor *ret, struct winnow_err *err)
{
    const struct wn_pipeline *p = wn_gen_pipeline(gen);
    const struct winnow_tensor *t = &outputs[wn_pipeline_model_output(p)];
    size_t dim = wn_pipeline_embed_dim(p, t->rank, t->shape), n;
    if (t->dtype != WINNOW_F32 || !dim)
        return wn_fail(err, WINNOW_E_INTERNAL, "the pipeline's embeddings are not FP32 vectors");
    size_t rows = (size_t)t->shape[0];
    float *to = wn_mul_size(rows, dim, &n) ? wn_arena_calloc(req->arena, n, sizeof *to) : NULL;
    if (!to)
        return wn_fail(err, WINNOW_E_NOMEM, "response");
    wn_pipeline_embed(p, t->data, t->shape, req->used, to);
    *ret = (struct winnow_tensor){
        .dtype = WINNOW_F32, .rank = 2, .shape = { (int64_t)rows, (int64_t)dim }, .data = to, .bytes = n * sizeof *to
    };
    return WINNOW_OK;
}

/** What the pipeline makes of the model's outputs. */
struct made {
    struct winnow_tensor label, score, embedding;
    const char *embed_name; /* NULL: label and score */
};

static enum winnow_status make(struct wn_infer *req, const struct wn_gen *gen, const struct winnow_tensor *outputs,
                               struct made *ret, struct winnow_err *err)
{
    const struct wn_pipeline *p = wn_gen_pipeline(gen);
    if (wn_pipeline_scores(p))
        return top_k(req, gen, outputs, &ret->label, &ret->score, err);
    ret->embed_name = wn_pipeline_embed_name(p);
    return embed(req, gen, outputs, &ret->embedding, err);
}

static struct wn_infer_out made_output(const struct made *made, const struct wn_infer_want *w)
{
    if (made->embed_name)
        return (struct wn_infer_out){ made->embed_name, made->embedding, false };
    return is(w->name, "label") ? (struct wn_infer_out){ "label", made->label, false }
                                : (struct wn_infer_out){ "score", made->score, false };
}

/** Whether one of the wanted outputs is the pipeline's. */
static bool wants_made(const struct wn_infer *req, const struct wn_gen *gen)
{
    for (unsigned i = 0; i < req->n_want; i++)
        if (find_out(wn_gen_model(gen), req->want[i].name) < 0)
            return true;
    return false;
}

enum winnow_status wn_infer_outputs(struct wn_infer *req, const struct wn_gen *gen, const struct winnow_tensor *outputs,
                                    struct wn_infer_out **ret, unsigned *ret_n, struct winnow_err *err)
{
    const winnow_model *model = wn_gen_model(gen);
    const struct wn_pipeline *p = wn_gen_pipeline(gen);
    unsigned n_model = winnow_model_n_outputs(model);
    bool all = req->n_want == 0, more = p && (all ? wn_infer_has_raw(req, gen) : wants_made(req, gen));
    unsigned room = all ? n_model + 2 : req->n_want, n = 0;
    struct made made = { .embed_name = NULL };
    struct wn_infer_out *out = wn_arena_calloc(req->arena, room, sizeof *out);
    if (!out)
        return wn_fail(err, WINNOW_E_NOMEM, "response");
    if (more)
        WN_TRY(make(req, gen, outputs, &made, err));
    for (unsigned i = 0; all && i < n_model; i++)
        out[n++] = (struct wn_infer_out){ winnow_model_output(model, i)->name, outputs[i], false };
    if (all && more && made.embed_name) {
        out[n++] = (struct wn_infer_out){ made.embed_name, made.embedding, false };
    } else if (all && more) {
        out[n++] = (struct wn_infer_out){ "label", made.label, false };
        out[n++] = (struct wn_infer_out){ "score", made.score, false };
    }
    for (unsigned i = 0; i < req->n_want; i++) {
        const struct wn_infer_want *w = &req->want[i];
        int o = find_out(model, w->name);
        out[n] = o >= 0 ? (struct wn_infer_out){ winnow_model_output(model, (unsigned)o)->name, outputs[o], false }
                        : made_output(&made, w);
        if (w->classes && o >= 0)
            WN_TRY(classify(req, gen, (unsigned)o, w->classes, &outputs[o], &out[n].t, err));
        n++;
    }
    for (unsigned i = 0; i < n; i++)
        out[i].binary = as_binary(req, all ? NULL : &req->want[i], out[i].t.dtype);
    *ret = out;
    *ret_n = n;
    return WINNOW_OK;
}
