/* facts.c: a sorted table of the graph's constants, filled as questions come.
 *
 * DESIGN  A layer's weights in the graph and their packed form are the same numbers twice. When a layer alone reads
 *         them (no other node, no output, no sub-graph) and no step of a plan points at them, the pages that they lie
 * in are given back to the system as soon as they are packed and nobody is reading them: a model that is loaded is then
 * never in memory twice, but for one layer. The tensor stays where it is, its data is no longer to be read but through
 * wn_facts_borrow(). Small tensors stay: they share pages. LOCKS   lock, a leaf; counting, hashing and unpacking happen
 * outside it, so two threads may find the same fact twice.
 */
#include "engine/plan/facts.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>
#include "engine/passes/fused.h"
#include "engine/plan/codec.h"

#define WORTH_IT ((size_t)64 << 10) /* smaller weights stay */

struct fact {
    const struct wn_tensor *w;
    size_t O, I, taps; /* that `sparsity` is of; O 0: not known */
    struct wn_sparsity sparsity;
    bool hashed;
    struct wn_hash hash;
    int64_t *row_sums;
    bool alone;       /* one layer reads it, nothing else */
    bool pinned;      /* a step points at it */
    bool released;    /* w->data is gone */
    unsigned readers; /* who borrowed w->data */
    bool checked, finite;
    bool stored;      /* the image being written has its data */
    void *copy;       /* pinned after it was released */
    const void *pack; /* that holds all of it, or NULL */
    wn_unpack_fn *unpack;
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

static struct fact *find(const struct wn_facts *facts, const struct wn_tensor *w)
{
    const struct fact key = { .w = w };
    return bsearch(&key, facts->at, facts->n, sizeof key, by_address);
}

static bool is_layer(const struct wn_node *node)
{
    static const char *const layers[] = { "Conv", "Linear", "Recurrent", "QConv", "QLinear", "DLinear" };
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
            f->alone = last->alone = false;
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
                    f->alone = false;
            }
            if (sub)
                keep_inner(facts, sub);
        }
}

/* Which tensors are the weights of one layer and nothing else. */
static bool find_alone(struct wn_facts *facts, const struct wn_graph *g)
{
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

/* Under the lock. */
static void try_give_up(struct fact *f)
{
    if (f->pack && f->hashed && !f->pinned && !f->released && !f->readers)
        f->released = wn_give_back(f->w->data, f->w->bytes);
}

/* Of at most n constants. */
static struct wn_facts *new_facts(size_t n)
{
    struct wn_facts *facts = calloc(1, sizeof *facts);
    struct fact *at = calloc(n + 1, sizeof *at);
    if (!facts || !at) {
        free(facts);
        free(at);
        return NULL;
    }
    pthread_mutex_init(&facts->lock, NULL);
    facts->at = at;
    return facts;
}

struct wn_facts *wn_facts_new(const struct wn_graph *g)
{
    struct wn_facts *facts = new_facts(g->values.n);
    if (!facts)
        return NULL;
    struct fact *at = facts->at;
    for (size_t i = 0; i < g->values.n; i++)
        if (g->values.at[i].constant)
            at[facts->n++].w = g->values.at[i].constant;
    qsort(at, facts->n, sizeof *at, by_address);
    if (!find_alone(facts, g)) {
        wn_facts_free(facts);
        return NULL;
    }
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
    struct wn_borrow b;
    if (wn_facts_borrow(facts, w, &b, NULL) != WINNOW_OK)
        return (struct wn_sparsity){ .count = O * I * taps, .pattern = "dense" };
    s = wn_sparsity_of(b.data, winnow_dtype_size(w->dtype), O, I, taps);
    wn_facts_return(facts, &b);
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

static struct wn_hash content(const struct wn_tensor *w, const void *data)
{
    XXH3_state_t state;
    XXH3_128bits_reset(&state);
    XXH3_128bits_update(&state, &w->dtype, sizeof w->dtype);
    XXH3_128bits_update(&state, w->dim, w->rank * sizeof w->dim[0]);
    XXH3_128bits_update(&state, data, w->bytes);
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
        known = f->hashed; /* before it is given up: packs are found by it */
        hash = f->hash;
        pthread_mutex_unlock(&facts->lock);
    }
    if (known)
        return hash;
    struct wn_borrow b;
    if (wn_facts_borrow(facts, w, &b, NULL) != WINNOW_OK) /* unpacks nothing: what is not hashed is there */
        return hash;
    hash = content(w, b.data);
    if (f) {
        pthread_mutex_lock(&facts->lock);
        f->hash = hash;
        f->hashed = true;
        pthread_mutex_unlock(&facts->lock);
    }
    wn_facts_return(facts, &b);
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
    struct wn_borrow b;
    sums = calloc(O + 1, sizeof *sums);
    if (!sums || wn_facts_borrow(facts, w, &b, NULL) != WINNOW_OK) {
        free(sums);
        return NULL;
    }
    sum_rows(b.data, O, K, sums);
    wn_facts_return(facts, &b);
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

static bool all_finite(const float *w, size_t n)
{
    size_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &w[i], sizeof bits);
        bad += (bits & 0x7f800000u) == 0x7f800000u;
    }
    return bad == 0;
}

void wn_facts_origin(struct wn_facts *facts, const struct wn_tensor *w, const void *pack, wn_unpack_fn *unpack)
{
    struct fact *f = find(facts, w);
    struct wn_borrow b;
    if (!f || !f->alone || w->bytes < WORTH_IT)
        return;
    pthread_mutex_lock(&facts->lock);
    const bool known = f->pack != NULL, checked = f->checked;
    pthread_mutex_unlock(&facts->lock);
    if (known || (!checked && wn_facts_borrow(facts, w, &b, NULL) != WINNOW_OK))
        return;
    if (!checked) {
        const bool finite = w->dtype != WINNOW_F32 || all_finite(b.data, w->bytes / sizeof(float));
        pthread_mutex_lock(&facts->lock);
        f->checked = true;
        f->finite = finite;
        pthread_mutex_unlock(&facts->lock);
        wn_facts_return(facts, &b);
    }
    pthread_mutex_lock(&facts->lock);
    if (f->finite && !f->pack) {
        f->pack = pack;
        f->unpack = unpack;
        try_give_up(f);
    }
    pthread_mutex_unlock(&facts->lock);
}

bool wn_facts_rely_on(struct wn_facts *facts, const void *pack)
{
    bool found = false;
    pthread_mutex_lock(&facts->lock);
    for (size_t i = 0; i < facts->n && !found; i++)
        found = facts->at[i].pack == pack;
    pthread_mutex_unlock(&facts->lock);
    return found;
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

enum winnow_status wn_facts_borrow(struct wn_facts *facts, const struct wn_tensor *w, struct wn_borrow *ret,
                                   struct winnow_err *err)
{
    struct fact *f = find(facts, w);
    *ret = (struct wn_borrow){ .w = w, .data = w->data };
    if (!f)
        return WINNOW_OK;
    pthread_mutex_lock(&facts->lock);
    const bool released = f->released;
    const void *copy = f->copy;
    ret->counted = !released;
    f->readers += ret->counted;
    pthread_mutex_unlock(&facts->lock);
    if (!released || (ret->data = copy) != NULL)
        return WINNOW_OK;
    WN_TRY(make_again(f, &ret->made, err));
    ret->data = ret->made;
    return WINNOW_OK;
}

void wn_facts_return(struct wn_facts *facts, struct wn_borrow *b)
{
    if (b->counted) {
        struct fact *f = find(facts, b->w);
        pthread_mutex_lock(&facts->lock);
        f->readers--;
        try_give_up(f);
        pthread_mutex_unlock(&facts->lock);
    }
    free(b->made);
    *b = (struct wn_borrow){ 0 };
}

enum winnow_status wn_facts_pin(struct wn_facts *facts, const struct wn_tensor *w, const void **ret_data,
                                struct winnow_err *err)
{
    struct fact *f = find(facts, w);
    struct wn_borrow b;
    if (!f) {
        *ret_data = w->data;
        return WINNOW_OK;
    }
    pthread_mutex_lock(&facts->lock);
    f->pinned = true;
    pthread_mutex_unlock(&facts->lock);
    WN_TRY(wn_facts_borrow(facts, w, &b, err));
    *ret_data = b.data;
    pthread_mutex_lock(&facts->lock);
    if (b.made && !f->copy) {
        f->copy = b.made;
        b.made = NULL;
    } else if (b.made) { /* another thread was quicker */
        *ret_data = f->copy;
    }
    pthread_mutex_unlock(&facts->lock);
    wn_facts_return(facts, &b);
    return WINNOW_OK;
}

/* ---- in an image ---- */

void wn_facts_hold(struct wn_facts *facts)
{
    pthread_mutex_lock(&facts->lock);
    for (size_t i = 0; i < facts->n; i++) {
        struct fact *f = &facts->at[i];
        f->stored = f->copy || (!f->released && !(f->pack && f->hashed && !f->pinned));
        f->readers++;
    }
    pthread_mutex_unlock(&facts->lock);
}

void wn_facts_drop(struct wn_facts *facts)
{
    pthread_mutex_lock(&facts->lock);
    for (size_t i = 0; i < facts->n; i++) {
        facts->at[i].readers--;
        try_give_up(&facts->at[i]);
    }
    pthread_mutex_unlock(&facts->lock);
}

const void *wn_facts_stored(void *facts, const struct wn_tensor *t)
{
    const struct fact *f = find(facts, t);
    if (!f)
        return t->data;
    return !f->stored ? NULL : f->copy ? f->copy : t->data;
}

static void sums_image(struct wn_codec *im, struct fact *f)
{
    const size_t O = f->w->rank ? (size_t)f->w->dim[0] : 0;
    const void *sums = f->row_sums;
    wn_codec_copied(im, &sums, O * sizeof *f->row_sums);
    if (!im->reading || !sums || im->bad)
        return;
    f->row_sums = malloc(O * sizeof *f->row_sums);
    if (f->row_sums)
        memcpy(f->row_sums, sums, O * sizeof *f->row_sums);
    else
        im->bad = true;
}

static void fact_image(struct wn_codec *im, struct fact *f)
{
    wn_codec_tensor(im, &f->w, NULL);
    if (im->bad || !f->w) {
        im->bad = true;
        return;
    }
    WN_CODEC(im, f->O);
    WN_CODEC(im, f->I);
    WN_CODEC(im, f->taps);
    WN_CODEC(im, f->sparsity);
    wn_codec_text(im, &f->sparsity.pattern);
    wn_codec_bool(im, &f->hashed);
    WN_CODEC(im, f->hash);
    wn_codec_bool(im, &f->alone);
    wn_codec_bool(im, &f->checked);
    wn_codec_bool(im, &f->finite);
    wn_codec_bool(im, &f->stored);
    sums_image(im, f);
    size_t number = !im->reading && f->pack ? wn_codec_object_number(im, f->pack) : SIZE_MAX;
    WN_CODEC(im, number);
    if (!im->reading) {
        im->bad |= !f->stored && number == SIZE_MAX;
        return;
    }
    const struct wn_codec_obj *pack = wn_codec_object_at(im, number);
    f->pack = pack ? pack->p : NULL;
    f->unpack = pack ? pack->class->unpack : NULL;
    f->released = !f->stored;
    im->bad |= f->released ? !f->pack || !f->hashed : !f->w->data;
}

void wn_facts_codec(struct wn_codec *im, struct wn_facts **facts)
{
    size_t n = im->reading ? 0 : (*facts)->n;
    wn_codec_count(im, &n, (size_t)1 << 24);
    if (im->reading && (im->bad || !(*facts = new_facts(n)))) {
        im->bad = true;
        return;
    }
    for (size_t i = 0; i < n && !im->bad; i++) {
        struct fact copy = (*facts)->at[i], *f = im->reading ? &(*facts)->at[i] : &copy;
        fact_image(im, f);
        if (im->reading)
            (*facts)->n = i + 1;
    }
    if (im->reading && !im->bad)
        qsort((*facts)->at, (*facts)->n, sizeof *(*facts)->at, by_address);
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
