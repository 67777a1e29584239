/* facts.c: a sorted table of the graph's constants, filled as questions come.
 *
 * DESIGN  A layer's weights in the graph and their packed form are the same numbers twice. When a layer alone reads
 * them (no other node, no output, no sub-graph) and no step of a plan points at them, the pages that they lie in are
 *         given back to the system; the tensor stays where it is, its data is no longer to be read but through
 *         wn_facts_data(). Small tensors stay: they share pages. What passes left behind goes at once: matrices as they
 * were before they were transposed. LOCKS   making (planning threads read, giving up writes), then lock, a leaf;
 * counting, hashing and unpacking happen outside lock, so two threads may find the same fact twice. */
#include "engine/plan/facts.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#define XXH_INLINE_ALL
#include <xxhash.h>
#include "engine/passes/fused.h"
#include "engine/plan/f32_pack.h"

#define PAGE     ((size_t)4096)
#define WORTH_IT (16 * PAGE) /* smaller weights stay */

struct fact {
    const struct wn_tensor *w;
    size_t O, I, taps; /* that `sparsity` is of; O 0: not known */
    struct wn_sparsity sparsity;
    bool hashed;
    struct wn_hash hash;
    int64_t *row_sums;
    bool alone;    /* one layer reads it, nothing else */
    bool dead;     /* nothing reads it: a pass put another in its place */
    bool pinned;   /* a step points at it */
    bool released; /* w->data is gone */
    bool checked, finite;
    void *copy;       /* pinned after it was released */
    const void *pack; /* that holds all of it, or NULL */
    wn_unpack_fn *unpack;
};

struct wn_facts {
    pthread_rwlock_t making;
    pthread_mutex_t lock;
    size_t n;
    struct fact *at; /* [n] by address of w */
};

static int by_address(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t)((const struct fact *)a)->w, y = (uintptr_t)((const struct fact *)b)->w;
    return (x > y) - (x < y);
}

static struct fact *find(const struct wn_facts *facts, const struct wn_tensor *w)
{
    const struct fact key = { .w = w };
    return bsearch(&key, facts->at, facts->n, sizeof key, by_address);
}

static bool is_layer(const struct wn_node *node)
{
    static const char *const layers[] = { "Conv", "Linear", "QConv", "QLinear", "DLinear" };
    for (size_t i = 0; i < WN_COUNT(layers); i++)
        if (wn_fused_is(node, layers[i]))
            return true;
    return false;
}

static int by_data(const void *a, const void *b)
{
    const struct fact *x = *(struct fact *const *)a, *y = *(struct fact *const *)b;
    uintptr_t p = (uintptr_t)x->w->data, q = (uintptr_t)y->w->data;
    return (p > q) - (p < q);
}

/* Tensors whose bytes another one has too (views): they stay. */
static bool find_shared(struct wn_facts *facts)
{
    struct fact **sorted = calloc(facts->n + 1, sizeof *sorted), *last = NULL;
    for (size_t i = 0; sorted && i < facts->n; i++)
        sorted[i] = &facts->at[i];
    if (sorted)
        qsort(sorted, facts->n, sizeof *sorted, by_data);
    for (size_t i = 0; sorted && i < facts->n; i++) {
        struct fact *f = sorted[i];
        if (last && (char *)f->w->data < (char *)last->w->data + last->w->bytes)
            f->alone = f->dead = last->alone = last->dead = false;
        if (!last || (char *)f->w->data + f->w->bytes > (char *)last->w->data + last->w->bytes)
            last = f;
    }
    free(sorted);
    return sorted != NULL;
}

/* What sub-graphs read is needed as it is, whoever else reads it: their values share the tensors of the graph around.
 */
static void keep_inner(struct wn_facts *facts, const struct wn_graph *g)
{
    for (size_t i = 0; i < g->nodes.n; i++)
        for (unsigned a = 0; a < g->nodes.at[i].n_attr; a++) {
            const struct wn_graph *sub = g->nodes.at[i].attr[a].kind == WN_ATTR_GRAPH ? g->nodes.at[i].attr[a].g : NULL;
            for (size_t v = 0; sub && v < sub->values.n; v++) {
                const struct wn_tensor *w = sub->values.at[v].constant;
                struct fact *f = w && w->dtype != WINNOW_STRING ? find(facts, w) : NULL;
                if (f)
                    f->alone = f->dead = false;
            }
            if (sub)
                keep_inner(facts, sub);
        }
}

/* Which tensors are the weights of one layer and nothing else, and which are nothing's any more. */
static bool find_alone(struct wn_facts *facts, const struct wn_graph *g)
{
    for (size_t i = 0; i < g->values.n; i++) {
        const struct wn_tensor *w = g->values.at[i].constant;
        if (w && w->dtype != WINNOW_STRING)
            find(facts, w)->dead = wn_graph_n_uses(g, (wn_vid)i) == 0;
    }
    for (size_t i = 0; i < g->nodes.n; i++) {
        const struct wn_node *node = &g->nodes.at[i];
        if (node->dead || !is_layer(node) || node->n_in < 2 || !g->values.at[node->in[1]].constant)
            continue;
        struct fact *f = find(facts, g->values.at[node->in[1]].constant);
        f->alone = wn_graph_n_uses(g, node->in[1]) == 1;
    }
    keep_inner(facts, g);
    return find_shared(facts);
}

static void give_up(struct fact *f)
{
    const uintptr_t from = wn_round_up((uintptr_t)f->w->data, PAGE);
    const uintptr_t to = ((uintptr_t)f->w->data + f->w->bytes) / PAGE * PAGE;
    f->released = from < to && madvise((void *)from, to - from, MADV_DONTNEED) == 0;
}

struct wn_facts *wn_facts_new(const struct wn_graph *g)
{
    struct wn_facts *facts = calloc(1, sizeof *facts);
    struct fact *at = calloc(g->values.n + 1, sizeof *at);
    if (!facts || !at) {
        free(facts);
        free(at);
        return NULL;
    }
    pthread_rwlock_init(&facts->making, NULL);
    pthread_mutex_init(&facts->lock, NULL);
    facts->at = at;
    for (size_t i = 0; i < g->values.n; i++)
        if (g->values.at[i].constant)
            at[facts->n++].w = g->values.at[i].constant;
    qsort(at, facts->n, sizeof *at, by_address);
    if (!find_alone(facts, g)) {
        wn_facts_free(facts);
        return NULL;
    }
    for (size_t i = 0; i < facts->n; i++)
        if (at[i].dead && at[i].w->bytes >= WORTH_IT)
            give_up(&at[i]);
    return facts;
}

void wn_facts_free(struct wn_facts *facts)
{
    if (!facts)
        return;
    for (size_t i = 0; i < facts->n; i++) {
        free(facts->at[i].row_sums);
        free(facts->at[i].copy);
    }
    pthread_mutex_destroy(&facts->lock);
    pthread_rwlock_destroy(&facts->making);
    free(facts->at);
    free(facts);
}

/* ---- counting, hashing, summing ---- */

struct wn_sparsity wn_facts_sparsity(struct wn_facts *facts, const struct wn_tensor *w, size_t O, size_t I, size_t taps)
{
    struct fact *f = find(facts, w);
    struct wn_sparsity s = { 0 };
    bool known = false;
    if (f) {
        pthread_mutex_lock(&facts->lock);
        known = O && f->O == O && f->I == I && f->taps == taps;
        s = f->sparsity;
        pthread_mutex_unlock(&facts->lock);
    }
    if (known)
        return s;
    const void *data = w->data;
    void *made = NULL;
    if (wn_facts_data(facts, w, &data, &made, NULL) != WINNOW_OK)
        return (struct wn_sparsity){ .count = O * I * taps, .pattern = "dense" };
    s = wn_sparsity_of(data, winnow_dtype_size(w->dtype), O, I, taps);
    free(made);
    if (f) {
        pthread_mutex_lock(&facts->lock);
        f->O = O;
        f->I = I;
        f->taps = taps;
        f->sparsity = s;
        pthread_mutex_unlock(&facts->lock);
    }
    return s;
}

static struct wn_hash content(const struct wn_tensor *w)
{
    XXH3_state_t state;
    XXH3_128bits_reset(&state);
    XXH3_128bits_update(&state, &w->dtype, sizeof w->dtype);
    XXH3_128bits_update(&state, w->dim, w->rank * sizeof w->dim[0]);
    XXH3_128bits_update(&state, w->data, w->bytes);
    XXH128_hash_t hash = XXH3_128bits_digest(&state);
    return (struct wn_hash){ hash.low64, hash.high64 };
}

struct wn_hash wn_facts_hash(struct wn_facts *facts, const struct wn_tensor *w)
{
    struct fact *f = find(facts, w);
    struct wn_hash hash = { 0, 0 };
    bool known = false;
    if (f) {
        pthread_mutex_lock(&facts->lock);
        known = f->hashed; /* before it can be given up: packs are found by it */
        hash = f->hash;
        pthread_mutex_unlock(&facts->lock);
    }
    if (known)
        return hash;
    hash = content(w);
    if (f) {
        pthread_mutex_lock(&facts->lock);
        f->hash = hash;
        f->hashed = true;
        pthread_mutex_unlock(&facts->lock);
    }
    return hash;
}

static void sum_rows(const int8_t *w, size_t O, size_t K, int64_t *ret)
{
    for (size_t o = 0; o < O; o++) {
        int64_t sum = 0;
        for (size_t k = 0; k < K; k++)
            sum += w[o * K + k];
        ret[o] = sum;
    }
}

const int64_t *wn_facts_row_sums(struct wn_facts *facts, const struct wn_tensor *w, size_t O, struct wn_arena *arena)
{
    struct fact *f = find(facts, w);
    const size_t K = O ? w->bytes / O : 0;
    int64_t *sums = f ? NULL : wn_arena_calloc(arena, O + 1, sizeof *sums);
    if (!f) {
        if (sums)
            sum_rows(w->data, O, K, sums);
        return sums;
    }
    pthread_mutex_lock(&facts->lock);
    const int64_t *known = f->row_sums;
    pthread_mutex_unlock(&facts->lock);
    if (known)
        return known;
    const void *data;
    void *made;
    sums = calloc(O + 1, sizeof *sums);
    if (!sums || wn_facts_data(facts, w, &data, &made, NULL) != WINNOW_OK) {
        free(sums);
        return NULL;
    }
    sum_rows(data, O, K, sums);
    free(made);
    pthread_mutex_lock(&facts->lock);
    if (f->row_sums)
        free(sums);
    else
        f->row_sums = sums;
    known = f->row_sums;
    pthread_mutex_unlock(&facts->lock);
    return known;
}

/* ---- where weights are ---- */

void wn_facts_begin(struct wn_facts *facts)
{
    pthread_rwlock_rdlock(&facts->making);
}

void wn_facts_end(struct wn_facts *facts)
{
    pthread_rwlock_unlock(&facts->making);
}

void wn_facts_origin(struct wn_facts *facts, const struct wn_tensor *w, const void *pack, wn_unpack_fn *unpack)
{
    struct fact *f = find(facts, w);
    if (!f || !f->alone || w->bytes < WORTH_IT)
        return;
    pthread_mutex_lock(&facts->lock);
    const bool check = !f->checked && !f->released;
    pthread_mutex_unlock(&facts->lock);
    const bool finite = check && (w->dtype != WINNOW_F32 || wn_f32_finite(w->data, w->bytes / sizeof(float)));
    pthread_mutex_lock(&facts->lock);
    if (check) {
        f->checked = true;
        f->finite = finite;
    }
    if (f->finite && !f->pack) {
        f->pack = pack;
        f->unpack = unpack;
    }
    pthread_mutex_unlock(&facts->lock);
}

static enum winnow_status make_again(const struct fact *f, void **ret_made, struct winnow_err *err)
{
    void *made = aligned_alloc(64, wn_round_up(f->w->bytes + 1, 64));
    if (!made)
        return wn_fail(err, WINNOW_E_NOMEM, "unpacking weights");
    enum winnow_status status = f->unpack(f->pack, made, err);
    if (status != WINNOW_OK) {
        free(made);
        return status;
    }
    *ret_made = made;
    return WINNOW_OK;
}

enum winnow_status wn_facts_data(struct wn_facts *facts, const struct wn_tensor *w, const void **ret_data,
                                 void **ret_made, struct winnow_err *err)
{
    struct fact *f = find(facts, w);
    *ret_data = w->data;
    *ret_made = NULL;
    if (!f)
        return WINNOW_OK;
    pthread_mutex_lock(&facts->lock);
    const bool released = f->released;
    const void *copy = f->copy;
    pthread_mutex_unlock(&facts->lock);
    if (copy)
        *ret_data = copy;
    if (!released || copy)
        return WINNOW_OK;
    WN_TRY(make_again(f, ret_made, err));
    *ret_data = *ret_made;
    return WINNOW_OK;
}

enum winnow_status wn_facts_pin(struct wn_facts *facts, const struct wn_tensor *w, const void **ret_data,
                                struct winnow_err *err)
{
    struct fact *f = find(facts, w);
    void *made;
    if (!f) {
        *ret_data = w->data;
        return WINNOW_OK;
    }
    pthread_mutex_lock(&facts->lock);
    f->pinned = true;
    pthread_mutex_unlock(&facts->lock);
    WN_TRY(wn_facts_data(facts, w, ret_data, &made, err));
    if (!made)
        return WINNOW_OK;
    pthread_mutex_lock(&facts->lock);
    if (f->copy)
        free(made); /* another thread was quicker */
    else
        f->copy = made;
    *ret_data = f->copy;
    pthread_mutex_unlock(&facts->lock);
    return WINNOW_OK;
}

void wn_facts_release(struct wn_facts *facts)
{
    if (pthread_rwlock_trywrlock(&facts->making) != 0)
        return; /* after the next plan */
    for (size_t i = 0; i < facts->n; i++) {
        struct fact *f = &facts->at[i];
        if (f->pack && f->hashed && !f->pinned && !f->released)
            give_up(f);
    }
    pthread_rwlock_unlock(&facts->making);
}

size_t wn_facts_bytes(struct wn_facts *facts)
{
    size_t total = 0;
    pthread_mutex_lock(&facts->lock);
    for (size_t i = 0; i < facts->n; i++)
        total += facts->at[i].released && !facts->at[i].copy ? 0 : facts->at[i].w->bytes;
    pthread_mutex_unlock(&facts->lock);
    return total;
}
