/* packs.c: one table of packed weights for the process, counted references, keyed by a 128-bit hash of the weights'
 * bytes, shape and packing (XXH3). Packing happens outside the lock.
 * LOCKS  packs->lock, then the facts' or table_lock, a leaf. */
#include "engine/plan/packs.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

struct pack {
    struct pack *next;
    XXH128_hash_t key;
    unsigned refs;
    void *obj;
    size_t bytes;
    const struct wn_pack_class *class;
    struct wn_mapping *map; /* that obj points into, or NULL */
};

static const struct wn_pack_class *const classes[] = { &wn_f32_pack_class, &wn_q8_pack_class };

struct wn_packs {
    struct wn_facts *facts; /* the model's */
    pthread_mutex_t lock;
    size_t now; /* counts marks */
    WN_VEC(struct held {
        struct pack *pack;
        size_t asked; /* `now` when it was asked for last */
    })
    held;
};

#define BUCKETS 1024u
static struct pack *table[BUCKETS];
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;

static XXH128_hash_t key_of(struct wn_facts *facts, const struct wn_tensor *w, const char *kind)
{
    const struct wn_hash content = wn_facts_hash(facts, w);
    XXH3_state_t state;
    XXH3_128bits_reset(&state);
    XXH3_128bits_update(&state, &content, sizeof content);
    XXH3_128bits_update(&state, kind, strlen(kind));
    return XXH3_128bits_digest(&state);
}

/* Under table_lock. */
static struct pack *find(XXH128_hash_t key)
{
    for (struct pack *p = table[key.low64 % BUCKETS]; p; p = p->next)
        if (XXH128_isEqual(p->key, key)) {
            p->refs++;
            return p;
        }
    return NULL;
}

static void pack_free(struct pack *pack)
{
    if (pack->obj)
        pack->class->free(pack->obj);
    wn_mapping_unref(pack->map);
    free(pack);
}

static void unref(struct pack *pack)
{
    pthread_mutex_lock(&table_lock);
    bool last = --pack->refs == 0;
    if (last) {
        struct pack **pp = &table[pack->key.low64 % BUCKETS];
        while (*pp != pack)
            pp = &(*pp)->next;
        *pp = pack->next;
    }
    pthread_mutex_unlock(&table_lock);
    if (last)
        pack_free(pack);
}

/* Put `pack` into the table, or drop it where somebody else was quicker. Returns what is there, a reference to it. */
static struct pack *enter(struct pack *pack)
{
    const XXH128_hash_t key = pack->key;
    pthread_mutex_lock(&table_lock);
    struct pack *other = find(key);
    if (!other) {
        pack->next = table[key.low64 % BUCKETS];
        table[key.low64 % BUCKETS] = pack;
    }
    pthread_mutex_unlock(&table_lock);
    if (other)
        pack_free(pack);
    return other ? other : pack;
}

static enum winnow_status make(XXH128_hash_t key, const struct wn_tensor *w, const struct wn_pack_maker *maker,
                               struct pack **ret, struct winnow_err *err)
{
    struct pack *pack = calloc(1, sizeof *pack);
    if (!pack)
        return wn_fail(err, WINNOW_E_NOMEM, "packing weights");
    enum winnow_status status = maker->make(w, maker->arg, &pack->obj, &pack->bytes, err);
    if (status != WINNOW_OK) {
        free(pack);
        return status;
    }
    pack->key = key;
    pack->refs = 1;
    pack->class = maker->class;
    *ret = enter(pack);
    return WINNOW_OK;
}

struct wn_packs *wn_packs_new(struct wn_facts *facts)
{
    struct wn_packs *packs = calloc(1, sizeof *packs);
    if (!packs)
        return NULL;
    packs->facts = facts;
    pthread_mutex_init(&packs->lock, NULL);
    return packs;
}

void wn_packs_set_facts(struct wn_packs *packs, struct wn_facts *facts)
{
    packs->facts = facts;
}

/* True when `packs` holds it already; the extra reference is dropped. Else it is held from now on. */
static enum winnow_status hold(struct wn_packs *packs, struct pack *pack, struct winnow_err *err)
{
    bool held = false, ok = true;
    pthread_mutex_lock(&packs->lock);
    for (size_t i = 0; i < packs->held.n && !held; i++) {
        held = packs->held.at[i].pack == pack;
        if (held)
            packs->held.at[i].asked = packs->now;
    }
    if (!held)
        ok = wn_vec_push(&packs->held, (struct held){ pack, packs->now });
    pthread_mutex_unlock(&packs->lock);
    if (held || !ok)
        unref(pack);
    return ok ? WINNOW_OK : wn_fail(err, WINNOW_E_NOMEM, "packing weights");
}

enum winnow_status wn_packs_get(struct wn_packs *packs, const struct wn_tensor *w, const struct wn_pack_maker *maker,
                                const void **ret_obj, size_t *ret_bytes, struct winnow_err *err)
{
    XXH128_hash_t key = key_of(packs->facts, w, maker->kind);
    pthread_mutex_lock(&table_lock);
    struct pack *pack = find(key);
    pthread_mutex_unlock(&table_lock);
    if (!pack) {
        struct wn_tensor source = *w;
        struct wn_borrow b;
        WN_TRY(wn_facts_borrow(packs->facts, w, &b, err));
        source.data = (void *)(uintptr_t)b.data;
        enum winnow_status status = make(key, &source, maker, &pack, err);
        wn_facts_return(packs->facts, &b);
        WN_TRY(status);
    }
    *ret_obj = pack->obj;
    if (ret_bytes)
        *ret_bytes = pack->bytes;
    return hold(packs, pack, err);
}

/* ---- images ---- */

static void pack_image(struct wn_codec *im, struct pack *pack)
{
    uint32_t class = 0;
    while (!im->reading && class < WN_COUNT(classes) && classes[class] != pack->class)
        class ++;
    WN_CODEC(im, class);
    WN_CODEC(im, pack->key);
    WN_CODEC(im, pack->bytes);
    if (im->bad || class >= WN_COUNT(classes)) {
        im->bad = true;
        return;
    }
    void *obj = im->reading ? NULL : pack->obj;
    classes[class]->image(im, &obj);
    if (im->reading) {
        pack->class = classes[class];
        pack->obj = obj;
    }
}

static void read_pack(struct wn_codec *im, struct wn_packs *packs)
{
    struct pack *pack = calloc(1, sizeof *pack);
    if (!pack) {
        im->bad = true;
        return;
    }
    pack->refs = 1;
    pack->map = wn_mapping_ref(im->map);
    pack_image(im, pack);
    if (im->bad)
        pack_free(pack);
    else
        im->bad = hold(packs, enter(pack), NULL) != WINNOW_OK;
}

void wn_packs_codec(struct wn_codec *im, struct wn_packs *packs)
{
    pthread_mutex_lock(&packs->lock);
    size_t n = packs->held.n;
    pthread_mutex_unlock(&packs->lock);
    wn_codec_count(im, &n, (size_t)1 << 24);
    for (size_t i = 0; i < n && !im->bad; i++) {
        if (im->reading) {
            read_pack(im, packs);
            continue;
        }
        pthread_mutex_lock(&packs->lock);
        struct pack *pack = packs->held.at[i].pack;
        pthread_mutex_unlock(&packs->lock);
        pack_image(im, pack);
    }
}

size_t wn_packs_number(struct wn_packs *packs, const void *obj)
{
    size_t ret = SIZE_MAX;
    pthread_mutex_lock(&packs->lock);
    for (size_t i = 0; i < packs->held.n && ret == SIZE_MAX; i++)
        if (packs->held.at[i].pack->obj == obj)
            ret = i;
    pthread_mutex_unlock(&packs->lock);
    return ret;
}

const void *wn_packs_at(struct wn_packs *packs, size_t i, const struct wn_pack_class **ret_class)
{
    pthread_mutex_lock(&packs->lock);
    struct pack *pack = i < packs->held.n ? packs->held.at[i].pack : NULL;
    pthread_mutex_unlock(&packs->lock);
    if (pack)
        *ret_class = pack->class;
    return pack ? pack->obj : NULL;
}

size_t wn_packs_mark(struct wn_packs *packs)
{
    pthread_mutex_lock(&packs->lock);
    const size_t mark = ++packs->now;
    pthread_mutex_unlock(&packs->lock);
    return mark;
}

void wn_packs_trim(struct wn_packs *packs, struct wn_facts *facts, size_t mark)
{
    size_t kept = 0;
    pthread_mutex_lock(&packs->lock);
    for (size_t i = 0; i < packs->held.n; i++) {
        const struct held h = packs->held.at[i];
        if (h.asked >= mark || wn_facts_rely_on(facts, h.pack->obj))
            packs->held.at[kept++] = h;
        else
            unref(h.pack);
    }
    packs->held.n = kept;
    pthread_mutex_unlock(&packs->lock);
}

size_t wn_packs_bytes(struct wn_packs *packs)
{
    size_t total = 0;
    pthread_mutex_lock(&packs->lock);
    for (size_t i = 0; i < packs->held.n; i++)
        total += packs->held.at[i].pack->bytes;
    pthread_mutex_unlock(&packs->lock);
    return total;
}

void wn_packs_free(struct wn_packs *packs)
{
    if (!packs)
        return;
    for (size_t i = 0; i < packs->held.n; i++)
        unref(packs->held.at[i].pack);
    wn_vec_done(&packs->held);
    pthread_mutex_destroy(&packs->lock);
    free(packs);
}
