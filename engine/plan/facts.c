/* facts.c: a sorted table of the graph's constants, filled as questions come.
 * LOCKS  facts->lock is a leaf; counting and hashing happen outside it, so two threads may find the same fact twice. */
#include "engine/plan/facts.h"

#include <pthread.h>
#include <stdlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

struct fact {
    const struct wn_tensor *w;
    size_t O, I, taps; /* that `sparsity` is of; O 0: not known */
    struct wn_sparsity sparsity;
    bool hashed;
    struct wn_hash hash;
};

struct wn_facts {
    pthread_mutex_t lock;
    size_t n;
    struct fact *at; /* [n] by address of w */
};

static int by_address(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t)((const struct fact *)a)->w, y = (uintptr_t)((const struct fact *)b)->w;
    return (x > y) - (x < y);
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
    pthread_mutex_init(&facts->lock, NULL);
    facts->at = at;
    for (size_t i = 0; i < g->values.n; i++)
        if (g->values.at[i].constant)
            at[facts->n++].w = g->values.at[i].constant;
    qsort(at, facts->n, sizeof *at, by_address);
    return facts;
}

void wn_facts_free(struct wn_facts *facts)
{
    if (!facts)
        return;
    pthread_mutex_destroy(&facts->lock);
    free(facts->at);
    free(facts);
}

static struct fact *find(const struct wn_facts *facts, const struct wn_tensor *w)
{
    const struct fact key = { .w = w };
    return bsearch(&key, facts->at, facts->n, sizeof key, by_address);
}

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
    s = wn_sparsity_of(w->data, winnow_dtype_size(w->dtype), O, I, taps);
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
        known = f->hashed;
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
