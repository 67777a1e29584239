/* strings.c: StringConcat, StringSplit, StringNormalizer (onnx/defs/text/defs.cc) and TfIdfVectorizer
 * (onnx/defs/nn/defs.cc). The first three leave their outputs' extents open: strings they make live in the memory of
 * what runs when shapes are known (eager.h), which a planned step does not have. */
#include <string.h>
#include "base/strmap.h"
#include "engine/ops/impl.h"

static const struct winnow_str *strs(const struct wn_tensor *t)
{
    return t->data;
}

static bool same_str(struct winnow_str a, struct winnow_str b)
{
    return a.n == b.n && (!a.n || memcmp(a.p, b.p, a.n) == 0);
}

/* ---- StringConcat ---- */

enum winnow_status wn_infer_string_concat(struct wn_infer *in, struct winnow_err *err)
{
    WN_TRY(wn_want(in, 0, WN_D(STRING), err));
    WN_TRY(wn_want(in, 1, WN_D(STRING), err));
    struct wn_type y = in->in[0];
    WN_TRY(wn_type_broadcast(&y, &in->in[1], err));
    in->out[0].dtype = WINNOW_STRING;
    if (y.rank > 0)
        wn_type_set_rank(&in->out[0], y.rank);
    return WINNOW_OK;
}

enum winnow_status wn_run_string_concat(struct wn_run *run, struct winnow_err *err)
{
    struct wn_type t = wn_type_of(run->in[0]), u = wn_type_of(run->in[1]);
    int64_t sa[WINNOW_MAX_RANK], sb[WINNOW_MAX_RANK], idx[WINNOW_MAX_RANK] = { 0 };
    WN_TRY(wn_type_broadcast(&t, &u, err));
    WN_TRY(wn_run_alloc(run, 0, WINNOW_STRING, (unsigned)t.rank, t.dim, err));
    struct wn_tensor *y = &run->out[0];
    struct winnow_str *to = y->data;
    wn_bcast_strides(run->in[0], y->rank, y->dim, sa);
    wn_bcast_strides(run->in[1], y->rank, y->dim, sb);
    for (int64_t i = 0, n = wn_tensor_count(y); i < n; i++, wn_next_index(y->rank, y->dim, idx)) {
        int64_t a = 0, b = 0;
        for (unsigned k = 0; k < y->rank; k++) {
            a += idx[k] * sa[k];
            b += idx[k] * sb[k];
        }
        struct winnow_str p = strs(run->in[0])[a], q = strs(run->in[1])[b];
        char *s = wn_arena_alloc(run->tmp, p.n + q.n + 1);
        if (!s)
            return wn_nomem(err);
        if (p.n)
            memcpy(s, p.p, p.n);
        if (q.n)
            memcpy(s + p.n, q.p, q.n);
        to[i] = (struct winnow_str){ s, p.n + q.n };
    }
    return WINNOW_OK;
}

/* ---- StringSplit ---- */

enum winnow_status wn_infer_string_split(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_type *x = &in->in[0];
    WN_TRY(wn_want(in, 0, WN_D(STRING), err));
    in->out[0].dtype = WINNOW_STRING;
    if (x->rank >= WINNOW_MAX_RANK)
        return wn_lack(err, "an input of rank %d", x->rank);
    if (x->rank >= 0) {
        wn_type_set_rank(&in->out[0], x->rank + 1);
        memcpy(in->out[0].dim, x->dim, (size_t)x->rank * sizeof x->dim[0]);
    }
    if (in->n_out > 1) {
        in->out[1] = *x;
        in->out[1].dtype = WINNOW_I64;
    }
    return WINNOW_OK;
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* The next piece of what is left in *s; false when there is none. `more` splits may follow. */
static bool next_piece(struct winnow_str *s, struct winnow_str by, bool more, bool *ended, struct winnow_str *piece)
{
    if (*ended)
        return false;
    if (!by.n) {
        while (s->n && is_space(*s->p))
            s->p++, s->n--;
        if (!s->n)
            return false;
    }
    size_t n = 0;
    if (!by.n)
        while (n < s->n && (!more || !is_space(s->p[n])))
            n++;
    else
        while (n < s->n && !(more && s->n - n >= by.n && memcmp(s->p + n, by.p, by.n) == 0))
            n++;
    *piece = (struct winnow_str){ s->p, n };
    *ended = n == s->n;
    size_t skip = *ended ? n : n + WN_MAX(by.n, 1u);
    s->p += skip;
    s->n -= skip;
    return true;
}

static int64_t split(struct winnow_str s, struct winnow_str by, int64_t most, struct winnow_str *to)
{
    int64_t n = 0;
    bool ended = false;
    struct winnow_str piece;
    while (next_piece(&s, by, most < 0 || n < most, &ended, &piece)) {
        if (to)
            to[n] = piece;
        n++;
    }
    return n;
}

enum winnow_status wn_run_string_split(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0];
    const struct wn_attr *by_attr = wn_node_attr(run->node, "delimiter");
    struct winnow_str by = by_attr && by_attr->kind == WN_ATTR_STRING ? by_attr->s : (struct winnow_str){ "", 0 };
    int64_t most = wn_node_int(run->node, "maxsplit", -1), n = wn_tensor_count(x), widest = 0, dim[WINNOW_MAX_RANK];
    for (int64_t i = 0; i < n; i++)
        widest = WN_MAX(widest, split(strs(x)[i], by, most, NULL));
    memcpy(dim, x->dim, sizeof dim);
    dim[x->rank] = widest;
    WN_TRY(wn_run_alloc(run, 0, WINNOW_STRING, x->rank + 1, dim, err));
    struct winnow_str *to = run->out[0].data;
    for (int64_t i = 0; i < n; i++) {
        int64_t k = split(strs(x)[i], by, most, to + i * widest);
        if (run->n_out > 1)
            ((int64_t *)run->out[1].data)[i] = k;
        for (; k < widest; k++)
            to[i * widest + k] = (struct winnow_str){ "", 0 };
    }
    return WINNOW_OK;
}

/* ---- StringNormalizer ---- */

enum change { KEEP, LOWER, UPPER };

static enum winnow_status change_of(const struct wn_node *node, enum change *ret, struct winnow_err *err)
{
    static const char *const names[] = { "NONE", "LOWER", "UPPER" };
    for (unsigned i = 0; i < 3; i++)
        if (wn_node_str_is(node, "case_change_action", "NONE", names[i])) {
            *ret = (enum change)i;
            return WINNOW_OK;
        }
    return wn_bad(err, "attribute case_change_action");
}

enum winnow_status wn_infer_string_normalizer(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_type *x = &in->in[0];
    enum change change = KEEP;
    int64_t same;
    WN_TRY(wn_want(in, 0, WN_D(STRING), err));
    WN_TRY(wn_want_rank(in, 0, 1, 2, err));
    WN_TRY(change_of(in->node, &change, err));
    in->out[0].dtype = WINNOW_STRING;
    if (x->rank == 2)
        WN_TRY(wn_dim_same(x->dim[0], 1, "rows", &same, err));
    if (x->rank > 0)
        wn_type_set_rank(&in->out[0], x->rank);
    return WINNOW_OK;
}

/* ASCII only: other letters need the tables of Unicode, which the engine does not have. */
static enum winnow_status changed(struct winnow_str s, enum change change, struct wn_arena *arena,
                                  struct winnow_str *ret, struct winnow_err *err)
{
    char *p = wn_arena_strndup(arena, s.p ? s.p : "", s.n);
    if (!p)
        return wn_nomem(err);
    for (size_t i = 0; i < s.n && change != KEEP; i++) {
        if (p[i] & 0x80)
            return wn_lack(err, "the case of letters beyond ASCII");
        if (change == LOWER && p[i] >= 'A' && p[i] <= 'Z')
            p[i] = (char)(p[i] + 'a' - 'A');
        else if (change == UPPER && p[i] >= 'a' && p[i] <= 'z')
            p[i] = (char)(p[i] - 'a' + 'A');
    }
    *ret = (struct winnow_str){ p, s.n };
    return WINNOW_OK;
}

static enum winnow_status is_stopword(const struct wn_run *run, struct winnow_str s, bool *ret, struct winnow_err *err)
{
    const struct wn_attr *words = wn_node_attr(run->node, "stopwords");
    enum change fold = wn_node_int(run->node, "is_case_sensitive", 0) ? KEEP : LOWER;
    struct winnow_str folded, word;
    *ret = false;
    if (!words || words->kind != WN_ATTR_STRINGS || !words->n)
        return WINNOW_OK;
    WN_TRY(changed(s, fold, run->tmp, &folded, err));
    for (size_t i = 0; i < words->n && !*ret; i++) {
        WN_TRY(changed(words->strs[i], fold, run->tmp, &word, err));
        *ret = same_str(folded, word);
    }
    return WINNOW_OK;
}

enum winnow_status wn_run_string_normalizer(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0];
    enum change change = KEEP;
    int64_t n = wn_tensor_count(x), kept = 0;
    WN_TRY(change_of(run->node, &change, err));
    struct winnow_str *to = wn_arena_calloc(run->tmp, (size_t)n + 1, sizeof *to);
    if (!to)
        return wn_nomem(err);
    for (int64_t i = 0; i < n; i++) {
        bool stop;
        WN_TRY(is_stopword(run, strs(x)[i], &stop, err));
        if (!stop)
            WN_TRY(changed(strs(x)[i], change, run->tmp, &to[kept++], err));
    }
    if (!kept)
        to[kept++] = (struct winnow_str){ "", 0 };
    int64_t dim[2] = { 1, kept };
    WN_TRY(wn_run_alloc(run, 0, WINNOW_STRING, x->rank, x->rank == 2 ? dim : dim + 1, err));
    memcpy(run->out[0].data, to, (size_t)kept * sizeof *to);
    return WINNOW_OK;
}

/* ---- TfIdfVectorizer ---- */

#define MAX_GRAM 64

struct pool {
    const struct wn_attr *ints, *strs;
    const int64_t *starts, *places; /* where the n-grams of each length begin; column of each n-gram */
    size_t n_starts, n_places, n_items;
    const float *weights;
    int64_t lo, hi, skips, columns;
};

static enum winnow_status read_pool(const struct wn_node *node, struct pool *p, struct winnow_err *err)
{
    const struct wn_attr *weights = wn_node_attr(node, "weights");
    *p = (struct pool){ .ints = wn_node_attr(node, "pool_int64s"), .strs = wn_node_attr(node, "pool_strings") };
    if (p->ints && (p->ints->kind != WN_ATTR_INTS || !p->ints->n))
        p->ints = NULL;
    if (p->strs && (p->strs->kind != WN_ATTR_STRINGS || !p->strs->n))
        p->strs = NULL;
    p->starts = wn_node_ints(node, "ngram_counts", &p->n_starts);
    p->places = wn_node_ints(node, "ngram_indexes", &p->n_places);
    p->lo = wn_node_int(node, "min_gram_length", 0), p->hi = wn_node_int(node, "max_gram_length", 0);
    p->skips = wn_node_int(node, "max_skip_count", 0);
    if (!p->ints == !p->strs)
        return wn_bad(err, "one of pool_int64s and pool_strings must be given");
    p->n_items = p->ints ? p->ints->n : p->strs->n;
    if (p->lo < 1 || p->hi < p->lo || p->hi > MAX_GRAM || p->skips < 0 || p->skips > INT32_MAX)
        return wn_bad(err, "n-grams of %lld to %lld, %lld skips", (long long)p->lo, (long long)p->hi,
                      (long long)p->skips);
    size_t grams = 0;
    for (size_t i = 0; i < p->n_starts; i++) {
        int64_t end = i + 1 < p->n_starts ? p->starts[i + 1] : (int64_t)p->n_items;
        if (p->starts[i] < 0 || end < p->starts[i] || end > (int64_t)p->n_items ||
            (end - p->starts[i]) % (int64_t)(i + 1))
            return wn_bad(err, "attribute ngram_counts: element %zu", i);
        grams += (size_t)(end - p->starts[i]) / (i + 1);
    }
    if (!grams || grams != p->n_places)
        return wn_bad(err, "%zu n-grams and %zu ngram_indexes", grams, p->n_places);
    for (size_t i = 0; i < grams; i++) {
        if (p->places[i] < 0 || p->places[i] > INT32_MAX)
            return wn_bad(err, "attribute ngram_indexes: %lld", (long long)p->places[i]);
        p->columns = WN_MAX(p->columns, p->places[i] + 1);
    }
    if (weights && weights->n) {
        if (weights->kind != WN_ATTR_FLOATS || weights->n != grams)
            return wn_bad(err, "%zu weights of %zu n-grams", weights->n, grams);
        p->weights = weights->floats;
    }
    return WINNOW_OK;
}

enum winnow_status wn_infer_tf_idf(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_type *x = &in->in[0];
    struct pool p;
    WN_TRY(read_pool(in->node, &p, err));
    WN_TRY(wn_want(in, 0, p.ints ? WN_INDEX : WN_D(STRING), err));
    WN_TRY(wn_want_rank(in, 0, 1, 2, err));
    if (!wn_node_str_is(in->node, "mode", "", "TF") && !wn_node_str_is(in->node, "mode", "", "IDF") &&
        !wn_node_str_is(in->node, "mode", "", "TFIDF"))
        return wn_bad(err, "attribute mode");
    in->out[0].dtype = WINNOW_F32;
    if (x->rank < 0)
        return WINNOW_OK;
    wn_type_set_rank(&in->out[0], x->rank);
    if (x->rank == 2)
        in->out[0].dim[0] = x->dim[0];
    in->out[0].dim[x->rank - 1] = p.columns;
    return WINNOW_OK;
}

/* Bytes that stand for one item in a key: a number, or a length and its text. */
static bool add_item(char **key, size_t *n, size_t *room, struct wn_arena *arena, const int64_t *number,
                     const struct winnow_str *text)
{
    size_t need = number ? sizeof *number : sizeof text->n + text->n;
    if (*n + need > *room) {
        char *grown = wn_arena_alloc(arena, 2 * (*n + need) + 64);
        if (!grown)
            return false;
        if (*n)
            memcpy(grown, *key, *n);
        *key = grown;
        *room = 2 * (*n + need) + 64;
    }
    if (number) {
        memcpy(*key + *n, number, sizeof *number);
    } else {
        memcpy(*key + *n, &text->n, sizeof text->n);
        if (text->n)
            memcpy(*key + *n + sizeof text->n, text->p, text->n);
    }
    *n += need;
    return true;
}

/* Content of every n-gram of a wanted length -> its number + 1. */
static bool fill_map(const struct pool *p, struct wn_arena *arena, struct wn_strmap *map)
{
    uintptr_t gram = 1;
    for (size_t len = 1; len <= p->n_starts; len++) {
        int64_t end = len < p->n_starts ? p->starts[len] : (int64_t)p->n_items;
        for (int64_t at = p->starts[len - 1]; at < end; at += (int64_t)len, gram++) {
            char *key = NULL;
            size_t n = 0, room = 0;
            for (size_t k = 0; k < len && (int64_t)len >= p->lo && (int64_t)len <= p->hi; k++)
                if (!add_item(&key, &n, &room, arena, p->ints ? &p->ints->ints[at + (int64_t)k] : NULL,
                              p->strs ? &p->strs->strs[at + (int64_t)k] : NULL))
                    return false;
            if (n && !wn_strmap_set(map, key, n, (void *)gram))
                return false;
        }
    }
    return true;
}

/* Count the n-grams of one row whose items stand `step` apart. */
static bool count_row(const struct pool *p, const struct wn_strmap *map, const struct wn_tensor *x, int64_t from,
                      int64_t n, int64_t step, float *counts, char **key, size_t *room, struct wn_arena *arena)
{
    for (int64_t start = 0; start < n; start++) {
        size_t used = 0;
        for (int64_t len = 1; len <= p->hi && start + (len - 1) * step < n; len++) {
            int64_t at = from + start + (len - 1) * step, number = p->ints ? wn_scalar_int(x, at) : 0;
            if (!add_item(key, &used, room, arena, p->ints ? &number : NULL, p->ints ? NULL : &strs(x)[at]))
                return false;
            if (len < p->lo || (len == 1 && step > 1))
                continue;
            uintptr_t gram = (uintptr_t)wn_strmap_get(map, *key, used);
            if (gram)
                counts[gram - 1]++;
        }
    }
    return true;
}

static void weigh(const struct pool *p, const struct wn_node *node, const float *counts, float *y)
{
    bool once = wn_node_str_is(node, "mode", "", "IDF"), weighted = !wn_node_str_is(node, "mode", "", "TF");
    for (size_t i = 0; i < p->n_places; i++)
        if (counts[i] > 0)
            y[p->places[i]] += (once ? 1 : counts[i]) * (weighted && p->weights ? p->weights[i] : 1);
}

enum winnow_status wn_run_tf_idf(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0];
    struct wn_strmap map __attribute__((cleanup(wn_strmap_done))) = { 0 };
    struct pool p;
    WN_TRY(read_pool(run->node, &p, err));
    int64_t rows = x->rank == 2 ? x->dim[0] : 1, n = x->dim[x->rank - 1];
    float *counts = wn_arena_calloc(run->tmp, p.n_places, sizeof *counts), *y = run->out[0].data;
    char *key = NULL;
    size_t room = 0;
    bool ok = counts && fill_map(&p, run->tmp, &map);
    memset(y, 0, run->out[0].bytes);
    for (int64_t r = 0; ok && r < rows; r++) {
        memset(counts, 0, p.n_places * sizeof *counts);
        for (int64_t step = 1; ok && step <= WN_MIN(p.skips + 1, WN_MAX(n, 1)); step++)
            ok = count_row(&p, &map, x, r * n, n, step, counts, &key, &room, run->tmp);
        weigh(&p, run->node, counts, y + r * p.columns);
    }
    return ok ? WINNOW_OK : wn_nomem(err);
}
