/* vocab.h: the two tables a model looks into for every word: token -> id, and pair of ids -> merged id.
 *
 * Open addressing over a flat array, 16 bytes a slot: one cache line answers most lookups. The multiplier of the hash
 * is drawn per process, so no file and no text can be made to collide on purpose. */
#ifndef WN_TOK_VOCAB_H
#define WN_TOK_VOCAB_H

#include "base/base.h"

struct wn_vocab_slot {
    uint32_t tag; /* of the hash */
    uint32_t at;  /* where the token's bytes begin in `bytes` */
    uint32_t n;   /* how many; the top bit is the token's mark; 0: free slot (the empty token is not kept) */
    int32_t id;
};
/** Zero-initialise. */
struct wn_vocab {
    struct wn_vocab_slot *slot;
    size_t cap, n; /* cap: a power of two */
    char *bytes;
    size_t n_bytes, bytes_room;
};
#define WN_VOCAB_MARK 0x80000000u

/** Hashing goes byte by byte, so that all prefixes of a word are hashed at the cost of one. */
extern uint64_t wn_vocab_seed, wn_vocab_multiplier;
static inline uint64_t wn_vocab_hash(uint64_t h, unsigned char byte)
{
    return (h ^ byte) * wn_vocab_multiplier;
}

void wn_vocab_init(void); /* draws the multiplier; before everything else. Any thread */
/** Room for `n` tokens of `bytes` bytes together; false: out of memory. Before the first add. */
bool wn_vocab_reserve(struct wn_vocab *v, size_t n, size_t bytes);
/** Add a token (1 … 2^24 bytes), or give it another id. Room must have been reserved. */
void wn_vocab_add(struct wn_vocab *v, const char *token, size_t n, int32_t id);
void wn_vocab_done(struct wn_vocab *v);

/** The slot of the token with these bytes and this hash, or NULL. */
const struct wn_vocab_slot *wn_vocab_find(const struct wn_vocab *v, const void *token, size_t n, uint64_t hash);
/** Its id, or -1. */
int32_t wn_vocab_id(const struct wn_vocab *v, const void *token, size_t n);

struct wn_merge_slot {
    int32_t a, b; /* a < 0: free */
    uint32_t rank;
    int32_t id;
};
struct wn_merges {
    struct wn_merge_slot *slot;
    size_t cap;
    unsigned shift;
};
bool wn_merges_reserve(struct wn_merges *m, size_t n);
/** The pair a, b (both >= 0) merges to `id`; a later rank for the same pair replaces the earlier. */
void wn_merges_add(struct wn_merges *m, int32_t a, int32_t b, uint32_t rank, int32_t id);
void wn_merges_done(struct wn_merges *m);

static inline size_t wn_merges_hash(const struct wn_merges *m, int32_t a, int32_t b)
{
    uint64_t key = (uint64_t)(uint32_t)a << 32 | (uint32_t)b;
    key ^= key >> 29;
    return (size_t)((key * wn_vocab_multiplier) >> m->shift);
}
/** NULL: no merge. */
static inline const struct wn_merge_slot *wn_merges_find(const struct wn_merges *m, int32_t a, int32_t b)
{
    if (!m->cap)
        return NULL;
    for (size_t i = wn_merges_hash(m, a, b);; i = (i + 1) & (m->cap - 1)) {
        const struct wn_merge_slot *s = &m->slot[i];
        if (s->a == a && s->b == b)
            return s;
        if (s->a < 0)
            return NULL;
    }
}

#endif
