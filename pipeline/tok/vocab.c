/* vocab.c: the token table and the merge table. */
#include "pipeline/tok/vocab.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

uint64_t wn_vocab_seed, wn_vocab_multiplier;

static void draw(void)
{
    uint64_t r[2] = { 0x9E3779B97F4A7C15u, 0xD6E8FEB86659FD93u };
    if (getrandom(r, sizeof r, GRND_NONBLOCK) != (ssize_t)sizeof r)
        r[0] ^= wn_now_ns(); /* early at boot, or forbidden by a sandbox */
    wn_vocab_seed = r[0];
    /* Odd, and with bits set all over, so that every byte reaches the top bits. */
    wn_vocab_multiplier = (r[1] & ~0x8080808080808080u) | 0x0101010101010101u | 1;
}

void wn_vocab_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, draw);
}

static size_t place(const struct wn_vocab *v, uint64_t hash)
{
    return (size_t)(hash >> 20) & (v->cap - 1);
}

static uint32_t tag_of(uint64_t hash)
{
    return (uint32_t)(hash >> 32);
}

static uint64_t hash_of(const void *token, size_t n)
{
    uint64_t h = wn_vocab_seed;
    for (size_t i = 0; i < n; i++)
        h = wn_vocab_hash(h, ((const unsigned char *)token)[i]);
    return h;
}

bool wn_vocab_reserve(struct wn_vocab *v, size_t n, size_t bytes)
{
    size_t cap = 16;
    while (cap < 2 * n)
        cap *= 2;
    v->slot = calloc(cap, sizeof *v->slot);
    v->bytes = malloc(bytes ? bytes : 1);
    v->cap = cap;
    v->bytes_room = bytes;
    return v->slot && v->bytes;
}

void wn_vocab_add(struct wn_vocab *v, const char *token, size_t n, int32_t id)
{
    uint64_t hash = hash_of(token, n);
    size_t i = place(v, hash);
    if (!n)
        return;
    for (; v->slot[i].n; i = (i + 1) & (v->cap - 1)) {
        struct wn_vocab_slot *s = &v->slot[i];
        if (s->tag == tag_of(hash) && s->n == n && memcmp(v->bytes + s->at, token, n) == 0) {
            s->id = id;
            return;
        }
    }
    memcpy(v->bytes + v->n_bytes, token, n);
    v->slot[i] = (struct wn_vocab_slot){ tag_of(hash), (uint32_t)v->n_bytes, (uint32_t)n, id };
    v->n_bytes += n;
    v->n++;
}

const struct wn_vocab_slot *wn_vocab_find(const struct wn_vocab *v, const void *token, size_t n, uint64_t hash)
{
    if (!v->cap)
        return NULL;
    for (size_t i = place(v, hash); v->slot[i].n; i = (i + 1) & (v->cap - 1)) {
        const struct wn_vocab_slot *s = &v->slot[i];
        if (s->tag == tag_of(hash) && (s->n & ~WN_VOCAB_MARK) == n && memcmp(v->bytes + s->at, token, n) == 0)
            return s;
    }
    return NULL;
}

int32_t wn_vocab_id(const struct wn_vocab *v, const void *token, size_t n)
{
    const struct wn_vocab_slot *s = wn_vocab_find(v, token, n, hash_of(token, n));
    return s ? s->id : -1;
}

void wn_vocab_done(struct wn_vocab *v)
{
    free(v->slot);
    free(v->bytes);
    *v = (struct wn_vocab){ 0 };
}

/* ---- merges ---- */
bool wn_merges_reserve(struct wn_merges *m, size_t n)
{
    size_t cap = 16;
    unsigned bits = 4;
    for (; cap < 2 * n; cap *= 2)
        bits++;
    m->slot = malloc(cap * sizeof *m->slot);
    if (!m->slot)
        return false;
    for (size_t i = 0; i < cap; i++)
        m->slot[i] = (struct wn_merge_slot){ .a = -1, .b = -1 };
    m->cap = cap;
    m->shift = 64 - bits;
    return true;
}

void wn_merges_add(struct wn_merges *m, int32_t a, int32_t b, uint32_t rank, int32_t id)
{
    size_t i = wn_merges_hash(m, a, b);
    while (m->slot[i].a >= 0 && (m->slot[i].a != a || m->slot[i].b != b))
        i = (i + 1) & (m->cap - 1);
    m->slot[i] = (struct wn_merge_slot){ a, b, rank, id };
}

void wn_merges_done(struct wn_merges *m)
{
    free(m->slot);
    *m = (struct wn_merges){ 0 };
}
