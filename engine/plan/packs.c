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

/* The pack's class by its number; what it is follows. */
static void pack_image(struct wn_codec *im, struct pack *pack, const struct wn_pack_class *const *classes, size_t n)
{
    uint32_t class = 0;
    while (!im->reading && class < n && classes[class] != pack->class)
        class ++;
    WN_CODEC(im, class);
    WN_CODEC(im, pack->key);
    WN_CODEC(im, pack->bytes);
    if (im->bad || class >= n) {
        im->bad = true;
        return;
    }
    pack->class = classes[class];
    if (im->reading && !(pack->obj = calloc(1, pack->class->size)))
        im->bad = true;
    else
        pack->class->image(im, pack->obj);
}

/* A pack of the image, or the same one where others hold it already; NULL: it is bad. */
static struct pack *read_pack(struct wn_codec *im, struct wn_packs *packs, const struct wn_pack_class *const *classes,
                              size_t n)
{
    struct pack *pack = calloc(1, sizeof *pack);
    if (!pack)
        return NULL;
    pack->refs = 1;
    pack->map = wn_mapping_ref(im->map);
    pack_image(im, pack, classes, n);
    if (im->bad) {
        pack_free(pack);
        return NULL;
    }
    pack = enter(pack);
    return hold(packs, pack, NULL) == WINNOW_OK ? pack : NULL;
}

void wn_packs_codec(struct wn_codec *im, struct wn_packs *packs, const struct wn_pack_class *const *classes, size_t n)
{
    pthread_mutex_lock(&packs->lock);
    size_t count = packs->held.n;
    pthread_mutex_unlock(&packs->lock);
    wn_codec_count(im, &count, (size_t)1 << 24);
    for (size_t i = 0; i < count && !im->bad; i++) {
        struct pack *pack = NULL;
        if (im->reading) {
            pack = read_pack(im, packs, classes, n);
        } else {
            pthread_mutex_lock(&packs->lock);
            pack = packs->held.at[i].pack;
            pthread_mutex_unlock(&packs->lock);
            struct pack copy = *pack;
            pack_image(im, &copy, classes, n);
        }
        im->bad |= !pack || !wn_codec_object(im, pack->obj, pack->class);
    }
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
