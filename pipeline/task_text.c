/* task_text.c: texts into token ids, masks and segments, for classification and for embeddings.
 *
 * DESIGN  Two steps: a text becomes ids (tokenizer.h), rows of ids become tensors of one length. Training keeps the ids
 *         and does the second step per batch; serving and the gate do both at once. Rows are padded on the right, to
 * the longest of the call, rounded up where pipeline.yaml says so (then requests of about the same length are one shape
 * class and share batches). Padding is only ever visible where a model has no mask; such a model gets rows of one fixed
 * length, so that a row's numbers never depend on the rows beside it. */
#include <stdlib.h>
#include <string.h>
#include "base/utf8.h"
#include "base/vec.h"
#include "pipeline/spec.h"
#include "pipeline/tokenizer.h"

#define MAX_LENGTH     65536
#define DEFAULT_LENGTH 512
#define LENGTH_STEP    16
#define DEFAULT_BYTES  ((size_t)1 << 20)

static const char *const role_key[] = { "input_ids", "attention_mask", "token_type_ids" };

/* ---- settling ---- */

static bool is_tokens(const struct wn_pipe_io *io)
{
    return (io->dtype == WINNOW_I64 || io->dtype == WINNOW_I32) && io->rank == 1;
}

/* The role of model input `i`: the one whose key names it, else the one it is called after. WN_TEXT_ROLES: none. */
static enum winnow_status role_of(const struct wn_spec *s, unsigned i, enum wn_text_role *ret)
{
    *ret = WN_TEXT_ROLES;
    for (unsigned k = 0; k < WN_TEXT_ROLES; k++) {
        const char *name = role_key[k];
        WN_TRY(wn_spec_string(s, role_key[k], &name));
        if (strcmp(name, s->in[i].name) == 0)
            *ret = k;
    }
    return WINNOW_OK;
}

/* Every key that names an input names one that is there. */
static enum winnow_status check_names(const struct wn_spec *s)
{
    for (unsigned k = 0; k < WN_TEXT_ROLES; k++) {
        const struct wn_yaml_node *v = wn_spec_key(s, role_key[k]);
        const char *name = NULL;
        bool found = false;
        WN_TRY(wn_spec_string(s, role_key[k], &name));
        for (unsigned i = 0; v && i < s->n_in; i++)
            found |= strcmp(name, s->in[i].name) == 0;
        if (v && !found)
            return WN_SPEC_BAD(s, v, "%s: the model has no input '%.80s'", role_key[k], name);
    }
    return WINNOW_OK;
}

static enum winnow_status settle_inputs(struct wn_spec *s)
{
    struct wn_pipeline *p = s->p;
    bool have[WN_TEXT_ROLES + 1] = { false };
    WN_TRY(check_names(s));
    for (unsigned i = 0; i < s->n_in; i++) {
        const struct wn_pipe_io *in = &s->in[i];
        enum wn_text_role role;
        WN_TRY(role_of(s, i, &role));
        if (role == WN_TEXT_ROLES && s->n_in == 1 && is_tokens(in))
            role = WN_TEXT_IDS; /* the only input, whatever its name */
        if (role == WN_TEXT_ROLES)
            return WN_SPEC_BAD(s, s->doc->root,
                               "nothing of a text becomes the model's input '%.80s'; name its inputs with input_ids, "
                               "attention_mask, token_type_ids",
                               in->name);
        if (!is_tokens(in))
            return WN_SPEC_BAD(s, s->doc->root, "the model's input '%.80s' is not int64 or int32 (rows, tokens)",
                               in->name);
        if (have[role])
            return WN_SPEC_BAD(s, s->doc->root, "%s: two inputs of the model are it", role_key[role]);
        have[role] = true;
        p->fill[p->n_fill] = i;
        p->text.role[p->n_fill] = role;
        p->text.dtype[p->n_fill++] = in->dtype;
    }
    return have[WN_TEXT_IDS]
               ? WINNOW_OK
               : WN_SPEC_BAD(s, s->doc->root, "the model has no input for token ids; name it with input_ids");
}

/* Tokens that the model's shapes demand; 0: any number. */
static enum winnow_status model_length(const struct wn_spec *s, size_t *ret)
{
    int64_t fixed = -1;
    for (unsigned i = 0; i < s->p->n_fill; i++) {
        const struct wn_pipe_io *in = &s->in[s->p->fill[i]];
        int64_t n = in->shape[0];
        if (n >= 0 && fixed >= 0 && n != fixed)
            return WN_SPEC_BAD(s, s->doc->root, "inputs of the model have %lld and %lld tokens", (long long)fixed,
                               (long long)n);
        fixed = n >= 0 ? n : fixed;
    }
    if (fixed == 0 || fixed > MAX_LENGTH)
        return WN_SPEC_BAD(s, s->doc->root, "the model takes texts of %lld tokens", (long long)fixed);
    *ret = fixed > 0 ? (size_t)fixed : 0;
    return WINNOW_OK;
}

/* padding: longest, or a number of tokens. */
static enum winnow_status read_padding(const struct wn_spec *s, int64_t *ret_fixed)
{
    const struct wn_yaml_node *v = wn_spec_key(s, "padding");
    if (!v || (v->kind == WN_YAML_STRING && strcmp(v->text, "longest") == 0))
        return WINNOW_OK;
    if (v->kind != WN_YAML_INT)
        return WN_SPEC_BAD(s, v, "padding: must be longest, or a number of tokens");
    return wn_spec_want_int(s, "padding", v, 1, MAX_LENGTH, ret_fixed);
}

static enum winnow_status settle_length(struct wn_spec *s)
{
    struct wn_text_task *t = &s->p->text;
    const struct wn_yaml_node *padding = wn_spec_key(s, "padding"), *multiple = wn_spec_key(s, "pad_to_multiple_of");
    int64_t fixed = 0, max = 0, round = 0;
    size_t model = 0;
    bool mask = false;
    for (unsigned i = 0; i < s->p->n_fill; i++)
        mask |= t->role[i] == WN_TEXT_MASK;
    WN_TRY(model_length(s, &model));
    WN_TRY(read_padding(s, &fixed));
    WN_TRY(wn_spec_int(s, "max_length", 1, MAX_LENGTH, &max));
    WN_TRY(wn_spec_int(s, "pad_to_multiple_of", 1, 4096, &round));
    if (model && fixed && (size_t)fixed != model)
        return WN_SPEC_BAD(s, padding, "padding: %lld tokens, but the model takes %zu", (long long)fixed, model);
    t->fixed = model ? model : (size_t)fixed;
    if (multiple && t->fixed)
        return WN_SPEC_BAD(s, multiple, "pad_to_multiple_of: every text has %zu tokens anyway", t->fixed);
    if (!t->fixed && !mask)
        return WN_SPEC_BAD(s, padding ? padding : s->doc->root,
                           "padding: a model without an input for the attention mask sees padding: say to how many "
                           "tokens every text is padded");
    if (max && t->fixed && (size_t)max > t->fixed)
        return WN_SPEC_BAD(s, wn_spec_key(s, "max_length"), "max_length: %lld, but every text has %zu tokens",
                           (long long)max, t->fixed);
    t->max_length = max ? (size_t)max : t->fixed ? t->fixed : DEFAULT_LENGTH;
    t->multiple = (size_t)round;
    return WINNOW_OK;
}

static enum winnow_status open_tokenizer(struct wn_spec *s)
{
    const struct wn_yaml_node *v = wn_spec_key(s, "tokenizer");
    const char *name = NULL;
    WN_TRY(wn_spec_string(s, "tokenizer", &name));
    if (name && (strchr(name, '/') || name[0] == '.'))
        return WN_SPEC_BAD(s, v, "tokenizer: '%.80s' must be a folder beside pipeline.yaml", name);
    WN_CLEANUP(wn_freep) char *dir = name ? wn_asprintf("%s/%s", s->dir, name) : wn_strdup(s->dir);
    if (!dir)
        return wn_fail(s->err, WINNOW_E_NOMEM, "pipeline.yaml");
    enum winnow_status status = wn_tokenizer_open(dir, &s->p->text.tokenizer, s->err);
    if (status == WINNOW_E_NOT_FOUND) /* of the pipeline E_NOT_FOUND means that there is none */
        return WN_SPEC_BAD(s, v ? v : s->doc->root,
                           "tokenizer: no tokenizer.json, vocab.txt, or vocab.json with merges.txt %s%.80s",
                           name ? "in " : "beside pipeline.yaml", name ? name : "");
    return status;
}

/* Every id must be a row of the model's table: refused here, not at the first text that has such a token. */
static enum winnow_status check_ids(const struct wn_spec *s)
{
    const struct wn_tokenizer *t = s->p->text.tokenizer;
    size_t n = wn_tokenizer_vocab(t);
    for (unsigned i = 0; i < s->p->n_fill; i++) {
        const struct wn_pipe_io *in = &s->in[s->p->fill[i]];
        if (s->p->text.role[i] == WN_TEXT_IDS && in->table_rows && n > (uint64_t)in->table_rows)
            return WN_SPEC_BAD(
                s, wn_spec_key(s, "tokenizer") ? wn_spec_key(s, "tokenizer") : s->doc->root,
                "tokenizer: %s has token ids up to %zu, but the table behind the model's input '%.80s' has "
                "%lld rows",
                wn_tokenizer_file(t), n - 1, in->name, (long long)in->table_rows);
    }
    return WINNOW_OK;
}

static enum winnow_status settle_text(struct wn_spec *s)
{
    int64_t bytes = (int64_t)DEFAULT_BYTES;
    WN_TRY(wn_spec_int(s, "max_bytes", 1, (int64_t)WN_TEXT_MAX, &bytes));
    s->p->text.max_bytes = (size_t)bytes;
    s->p->raw[0] = s->p->raw[0] ? s->p->raw[0] : "text";
    s->p->n_raw = 1;
    WN_TRY(settle_inputs(s));
    WN_TRY(settle_length(s));
    WN_TRY(open_tokenizer(s));
    return check_ids(s);
}

static enum winnow_status settle_classification(struct wn_spec *s)
{
    s->p->raw[1] = "text_pair";
    WN_TRY(wn_spec_string(s, "input_pair", &s->p->raw[1]));
    WN_TRY(settle_text(s));
    s->p->n_raw = 2;
    if (strcmp(s->p->raw[0], s->p->raw[1]) == 0)
        return WN_SPEC_BAD(s, wn_spec_key(s, "input"), "input and input_pair are both '%.80s'", s->p->raw[0]);
    return wn_spec_scores(s);
}

static bool is_vector(const struct wn_pipe_io *io)
{
    return io->dtype == WINNOW_F32 && io->rank == 1;
}

static bool is_vectors(const struct wn_pipe_io *io)
{
    return io->dtype == WINNOW_F32 && io->rank == 2;
}

static enum winnow_status settle_embeddings(struct wn_spec *s)
{
    static const char *const ways[] = { "mean", "cls", "none", NULL };
    struct wn_text_task *t = &s->p->text;
    unsigned way = 0;
    WN_TRY(settle_text(s));
    WN_TRY(wn_spec_choice(s, "pooling", ways, &way));
    t->pooling = (enum wn_pooling)way;
    t->normalize = true;
    t->output = "embedding";
    WN_TRY(wn_spec_bool(s, "normalize", &t->normalize));
    WN_TRY(wn_spec_string(s, "output", &t->output));
    bool none = t->pooling == WN_POOL_NONE;
    return wn_spec_choose_io(s, "model_output", s->out, s->n_out, none ? is_vector : is_vectors,
                             none ? "an embedding [batch,width]"
                                  : "vectors [batch,tokens,width] or, with 'pooling: none', [batch,width]",
                             &s->p->model_output);
}

static void done(struct wn_pipeline *p)
{
    wn_tokenizer_free(p->text.tokenizer);
}

/* ---- a text to ids ---- */

size_t wn_pipeline_max_tokens(const struct wn_pipeline *p)
{
    return p->text.max_length;
}

static enum winnow_status check_text(const struct wn_text_task *t, const struct wn_pipe_item *text, const char *what,
                                     struct winnow_err *err)
{
    if (text->n > t->max_bytes)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "a text of %zu bytes; %zu are allowed", text->n, t->max_bytes);
    size_t at = wn_utf8_fault(text->at, text->n);
    return at == SIZE_MAX ? WINNOW_OK
                          : wn_fail(err, WINNOW_E_MALFORMED, "the %s is not UTF-8 at its byte %zu", what, at + 1);
}

enum winnow_status wn_pipeline_tokenize(const struct wn_pipeline *p, struct wn_pipe_item text,
                                        const struct wn_pipe_item *pair, struct wn_tokens *ret, struct winnow_err *err)
{
    const struct wn_text_task *t = &p->text;
    WN_TRY(check_text(t, &text, "text", err));
    if (pair)
        WN_TRY(check_text(t, pair, "pair's other text", err));
    struct wn_text a = { text.at, text.n }, b = pair ? (struct wn_text){ pair->at, pair->n } : (struct wn_text){ 0 };
    WN_TRY(wn_tokenizer_encode(t->tokenizer, a, pair ? &b : NULL, t->max_length, ret, err));
    return ret->n ? WINNOW_OK : wn_fail(err, WINNOW_E_MALFORMED, "a text without tokens");
}

/* ---- ids to tensors ---- */

static enum winnow_status check_row(const struct wn_text_task *t, const struct wn_pipe_ids *row, size_t vocab,
                                    struct winnow_err *err)
{
    if (!row->n || row->n > t->max_length)
        return wn_fail(err, row->n ? WINNOW_E_TOO_LARGE : WINNOW_E_MALFORMED, "%zu tokens; from 1 to %zu are allowed",
                       row->n, t->max_length);
    for (size_t i = 0; i < row->n; i++)
        if (row->id[i] < 0 || (size_t)row->id[i] >= vocab)
            return wn_fail(err, WINNOW_E_MALFORMED, "token %d is not of the vocabulary, which has %zu", row->id[i],
                           vocab);
    return WINNOW_OK;
}

static int64_t value_of(const struct wn_pipe_ids *row, enum wn_text_role role, size_t i, int32_t pad)
{
    if (i >= row->n)
        return role == WN_TEXT_IDS ? pad : 0;
    return role == WN_TEXT_IDS ? row->id[i] : role == WN_TEXT_MASK ? 1 : row->type ? row->type[i] : 0;
}

unsigned wn_pipeline_n_fill(const struct wn_pipeline *p)
{
    return p->n_fill;
}

unsigned wn_pipeline_fill(const struct wn_pipeline *p, unsigned k)
{
    return p->fill[k];
}

int64_t wn_pipeline_pad(const struct wn_pipeline *p, unsigned k)
{
    return p->text.role[k] == WN_TEXT_IDS ? wn_tokenizer_pad_id(p->text.tokenizer) : 0;
}

void wn_pipeline_values(const struct wn_pipeline *p, unsigned k, const struct wn_pipe_ids *row, int64_t *ret)
{
    for (size_t i = 0; i < row->n; i++)
        ret[i] = value_of(row, p->text.role[k], i, 0);
}

unsigned wn_pipeline_pad_to(const struct wn_pipeline *p)
{
    const struct wn_text_task *t = &p->text;
    if (t->fixed)
        return (unsigned)t->fixed;
    unsigned n = (unsigned)t->multiple;
    if (!n) /* few different lengths, but none over the model's positions */
        for (n = 16; t->max_length % n; n--)
            ;
    return n;
}

static void fill(const struct wn_pipe_ids *row, size_t n, size_t len, enum wn_text_role role, int32_t pad,
                 struct wn_pipe_tensor *t)
{
    for (size_t r = 0; r < n; r++)
        for (size_t i = 0; i < len; i++) {
            int64_t v = value_of(&row[r], role, i, pad);
            if (t->dtype == WINNOW_I64)
                ((int64_t *)t->data)[r * len + i] = v;
            else
                ((int32_t *)t->data)[r * len + i] = (int32_t)v;
        }
}

/* Tokens that a text of `n` gets when it is alone. Beyond 16, lengths go in steps, so that few different ones have to
 * be planned for and what the linear layers round up to is not lost. */
static size_t padded(const struct wn_text_task *t, size_t n)
{
    const size_t step = t->multiple ? t->multiple : n <= LENGTH_STEP ? 1 : LENGTH_STEP;
    return t->fixed ? t->fixed : WN_MIN(wn_round_up(n, step), t->max_length);
}

enum winnow_status wn_pipeline_pack(const struct wn_pipeline *p, const struct wn_pipe_ids *row, size_t n,
                                    struct wn_arena *arena, struct wn_pipe_batch *ret, struct winnow_err *err)
{
    const struct wn_text_task *t = &p->text;
    size_t longest = 1, vocab = wn_tokenizer_vocab(t->tokenizer), count, bytes;
    *ret = (struct wn_pipe_batch){ .bad_row = SIZE_MAX };
    ret->used = wn_arena_calloc(arena, n, sizeof *ret->used);
    ret->length = wn_arena_calloc(arena, n, sizeof *ret->length);
    for (size_t i = 0; i < n && ret->used && ret->length; i++) {
        ret->bad_row = i;
        WN_TRY(check_row(t, &row[i], vocab, err));
        ret->used[i] = (uint32_t)row[i].n;
        ret->length[i] = (uint32_t)padded(t, row[i].n);
        longest = WN_MAX(longest, row[i].n);
    }
    ret->bad_row = SIZE_MAX;
    size_t len = padded(t, longest);
    if (!ret->used || !ret->length || !wn_mul_size(n, len, &count) || !wn_mul_size(count, sizeof(int64_t), &bytes))
        return wn_fail(err, WINNOW_E_NOMEM, "%zu texts", n);
    for (unsigned i = 0; i < p->n_fill; i++) {
        struct wn_pipe_tensor *to = &ret->t[ret->n_t++];
        *to = (struct wn_pipe_tensor){
            .model_input = p->fill[i], .dtype = t->dtype[i], .rank = 2, .shape = { (int64_t)n, (int64_t)len }
        };
        to->bytes = count * (to->dtype == WINNOW_I64 ? sizeof(int64_t) : sizeof(int32_t));
        to->data = wn_arena_alloc(arena, to->bytes);
        if (!to->data)
            return wn_fail(err, WINNOW_E_NOMEM, "%zu texts", n);
        fill(row, n, len, t->role[i], wn_tokenizer_pad_id(t->tokenizer), to);
    }
    return WINNOW_OK;
}

static enum winnow_status keep(struct wn_arena *arena, const struct wn_tokens *t, struct wn_pipe_ids *ret,
                               struct winnow_err *err)
{
    *ret = (struct wn_pipe_ids){ wn_arena_memdup(arena, t->id, t->n * sizeof *t->id),
                                 wn_arena_memdup(arena, t->type, t->n), t->n };
    return ret->id && ret->type ? WINNOW_OK : wn_fail(err, WINNOW_E_NOMEM, "a text of %zu tokens", t->n);
}

static enum winnow_status encode(const struct wn_pipeline *p, const struct wn_pipe_items *items,
                                 const struct wn_pipe_opts *opts, struct wn_arena *arena, struct wn_pipe_batch *ret,
                                 struct winnow_err *err)
{
    WN_CLEANUP(wn_tokens_done) struct wn_tokens tokens = { 0 };
    struct wn_pipe_ids *row = wn_arena_calloc(arena, items->n, sizeof *row);
    if (!row)
        return wn_fail(err, WINNOW_E_NOMEM, "%zu texts", items->n);
    for (size_t i = 0; i < items->n; i++) {
        ret->bad_row = i;
        WN_TRY(wn_pipeline_tokenize(p, items->at[0][i], items->at[1] ? &items->at[1][i] : NULL, &tokens, err));
        WN_TRY(keep(arena, &tokens, &row[i], err));
    }
    return wn_pipeline_pack(p, row, items->n, arena, ret, err);
}

/* ---- the tasks ---- */

#define KEYS "tokenizer", "max_length", "padding", "pad_to_multiple_of", "input_ids", "attention_mask", "token_type_ids"
static const char *const classification_keys[] = { KEYS, "input_pair", "labels", "softmax", NULL };
static const char *const embeddings_keys[] = { KEYS, "pooling", "normalize", "output", NULL };

const struct wn_task_kind wn_task_text = { .name = "text_classification",
                                           .task = WN_PIPE_TEXTS,
                                           .keys = classification_keys,
                                           .settle = settle_classification,
                                           .encode = encode,
                                           .done = done };
const struct wn_task_kind wn_task_embeddings = { .name = "embeddings",
                                                 .task = WN_PIPE_EMBEDDINGS,
                                                 .keys = embeddings_keys,
                                                 .settle = settle_embeddings,
                                                 .encode = encode,
                                                 .done = done };
