/* bpe.c: byte-pair encoding: of all neighbouring symbols of a word those with the best rank are merged, the leftmost of
 * equals, until no pair is in the table.
 *
 * Most words of a text are tokens themselves; those that merging is known to leave whole (wn_tk_bpe_mark(), once per
 * vocabulary) are looked up and done. This takes the place of a cache of words, and needs no memory that grows, no lock
 * and no luck. Short words are merged in place by looking for the best pair again and again; long ones by a heap, in
 * O(n log n). */
#include <stdlib.h>
#include <string.h>
#include "pipeline/tok/tok.h"

enum { SHORT = 32 }; /* symbols of a word that is merged without the heap */

static bool add(struct wn_tk_scratch *sc, int32_t id, uint32_t bytes)
{
    return wn_vec_push(&sc->symbols, (struct wn_tk_symbol){ .id = id, .bytes = bytes });
}

/* The token of one character at `from`, with what the model puts round it. */
static int32_t id_of_char(const struct wn_tk_bpe *m, const unsigned char *s, size_t n, bool is_first, bool is_last)
{
    bool prefix = m->prefix_n && !is_first, suffix = m->suffix_n && is_last;
    if (!prefix && !suffix) {
        uint32_t cp = n == 1 ? s[0] : n == 2 ? (s[0] & 0x1Fu) << 6 | (s[1] & 0x3Fu) : WN_TK_FIRST;
        return cp < WN_TK_FIRST ? m->first[cp] : wn_vocab_id(&m->vocab, s, n);
    }
    char with[300]; /* prefix and suffix have at most 128 bytes each */
    size_t len = 0;
    if (prefix)
        memcpy(with, m->prefix, len = m->prefix_n);
    memcpy(with + len, s, n);
    len += n;
    if (suffix)
        memcpy(with + len, m->suffix, m->suffix_n);
    return wn_vocab_id(&m->vocab, with, len + (suffix ? m->suffix_n : 0));
}

/* One symbol for each byte of a character that has no token; false if one of the bytes has none. */
static bool by_bytes(const struct wn_tk_bpe *m, struct wn_tk_scratch *sc, const unsigned char *s, size_t n,
                     bool *ret_done)
{
    *ret_done = true;
    for (size_t i = 0; i < n; i++)
        *ret_done &= m->byte[s[i]] >= 0;
    for (size_t i = 0; *ret_done && i < n; i++)
        if (!add(sc, m->byte[s[i]], 1))
            return false;
    return true;
}

/* sc->symbols from sc->word. An unknown symbol is held back one step, so that a following one may fuse with it. */
static enum winnow_status symbols(const struct wn_tk_bpe *m, struct wn_tk_scratch *sc)
{
    const unsigned char *s = sc->word.at;
    uint32_t unknown = 0; /* bytes of the unknown symbol that is held back */
    bool ok = true, held = false;
    sc->symbols.n = 0;
    for (size_t i = 0, n; ok && i < sc->word.n; i += n) {
        for (n = 1; i + n < sc->word.n && (s[i + n] & 0xC0) == 0x80;)
            n++;
        int32_t id = id_of_char(m, s + i, n, i == 0, i + n == sc->word.n);
        bool done = false;
        if (id >= 0) {
            ok = (!held || add(sc, m->unk, unknown)) && add(sc, id, (uint32_t)n);
            held = false;
            continue;
        }
        if (m->byte_fallback)
            ok = by_bytes(m, sc, s + i, n, &done);
        if (done || m->unk == -1)
            continue;
        if (m->unk == -2)
            return wn_fail(sc->err, WINNOW_E_MALFORMED, "the vocabulary lacks '%.*s', and its unknown token '%.60s'",
                           (int)n, s + i, m->unk_name);
        if (held && !m->fuse_unk)
            ok = add(sc, m->unk, unknown);
        unknown = (held && m->fuse_unk ? unknown : 0) + (uint32_t)n;
        held = true;
    }
    ok = ok && (!held || add(sc, m->unk, unknown));
    return ok ? WINNOW_OK : wn_fail(sc->err, WINNOW_E_NOMEM, "symbols of a word");
}

/* ---- merging ---- */
/* What a pair merges to, in arrays of their own: looking for the best one goes over ranks and nothing else. */
struct pairs {
    uint32_t rank[SHORT]; /* UINT32_MAX: no merge */
    int32_t id[SHORT];
};

static void look_up(const struct wn_merges *m, const struct wn_tk_symbol *s, size_t i, struct pairs *p)
{
    const struct wn_merge_slot *pair = wn_merges_find(m, s[i].id, s[i + 1].id);
    p->rank[i] = pair ? pair->rank : UINT32_MAX;
    p->id[i] = pair ? pair->id : -1;
}

static void merge_short(const struct wn_merges *m, struct wn_tk_scratch *sc)
{
    struct wn_tk_symbol *s = sc->symbols.at;
    struct pairs p;
    size_t n = sc->symbols.n;
    for (size_t i = 0; i + 1 < n; i++)
        look_up(m, s, i, &p);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            best = p.rank[i] < p.rank[best] ? i : best;
        if (p.rank[best] == UINT32_MAX)
            break;
        size_t after = n - best - 2; /* symbols right of the pair */
        s[best].id = p.id[best];
        s[best].bytes += s[best + 1].bytes;
        memmove(s + best + 1, s + best + 2, after * sizeof *s);
        if (after) {
            memmove(p.rank + best, p.rank + best + 1, after * sizeof *p.rank);
            memmove(p.id + best, p.id + best + 1, after * sizeof *p.id);
            look_up(m, s, best, &p);
        }
        n--;
        if (best)
            look_up(m, s, best - 1, &p);
    }
    sc->symbols.n = n;
}

static bool heap_push(struct wn_tk_scratch *sc, struct wn_tk_merge x)
{
    if (!wn_vec_push(&sc->heap, x))
        return false;
    struct wn_tk_merge *h = sc->heap.at;
    size_t i = sc->heap.n - 1;
    for (; i && x.key < h[(i - 1) / 2].key; i = (i - 1) / 2)
        h[i] = h[(i - 1) / 2];
    h[i] = x;
    return true;
}

static struct wn_tk_merge heap_pop(struct wn_tk_scratch *sc)
{
    struct wn_tk_merge *h = sc->heap.at, top = h[0], x = h[--sc->heap.n];
    size_t n = sc->heap.n, i = 0;
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        child += child + 1 < n && h[child + 1].key < h[child].key;
        if (h[child].key >= x.key)
            break;
        h[i] = h[child];
    }
    if (n)
        h[i] = x;
    return top;
}

static bool offer(const struct wn_merges *m, struct wn_tk_scratch *sc, int32_t pos)
{
    const struct wn_tk_symbol *s = sc->symbols.at;
    if (pos < 0 || s[pos].next < 0)
        return true;
    const struct wn_merge_slot *pair = wn_merges_find(m, s[pos].id, s[s[pos].next].id);
    return !pair || heap_push(sc, (struct wn_tk_merge){ (uint64_t)pair->rank << 32 | (uint32_t)pos, pair->id });
}

static enum winnow_status merge_long(const struct wn_merges *m, struct wn_tk_scratch *sc)
{
    struct wn_tk_symbol *s = sc->symbols.at;
    int32_t n = (int32_t)sc->symbols.n;
    bool ok = true;
    sc->heap.n = 0;
    for (int32_t i = 0; i < n; i++) {
        s[i].prev = i - 1;
        s[i].next = i + 1 < n ? i + 1 : -1;
    }
    for (int32_t i = 0; ok && i < n; i++)
        ok = offer(m, sc, i);
    while (ok && sc->heap.n) {
        struct wn_tk_merge top = heap_pop(sc);
        int32_t pos = (int32_t)(uint32_t)top.key;
        struct wn_tk_symbol *left = &s[pos];
        if (!left->bytes || left->next < 0)
            continue;
        struct wn_tk_symbol *right = &s[left->next];
        const struct wn_merge_slot *pair = wn_merges_find(m, left->id, right->id);
        if (!pair || pair->id != top.id) /* one of the two has been merged since */
            continue;
        left->id = top.id;
        left->bytes += right->bytes;
        left->next = right->next;
        right->bytes = 0;
        if (left->next >= 0)
            s[left->next].prev = pos;
        ok = offer(m, sc, left->prev) && offer(m, sc, pos);
    }
    size_t kept = 0;
    for (int32_t i = 0; i < n; i++) {
        s[kept] = s[i];
        kept += s[i].bytes != 0;
    }
    sc->symbols.n = kept;
    return ok ? WINNOW_OK : wn_fail(sc->err, WINNOW_E_NOMEM, "merges of a word");
}

static enum winnow_status merge(const struct wn_tk_bpe *m, struct wn_tk_scratch *sc)
{
    WN_TRY(symbols(m, sc));
    if (sc->symbols.n > SHORT || !m->unique)
        return merge_long(&m->merges, sc);
    merge_short(&m->merges, sc);
    return WINNOW_OK;
}

enum winnow_status wn_tk_bpe_word(const struct wn_tokenizer *t, struct wn_tk_scratch *sc, uint32_t lo, uint32_t hi)
{
    const struct wn_tk_bpe *m = &t->bpe;
    WN_TRY(wn_tk_word(sc, lo, hi));
    uint64_t h = wn_vocab_seed;
    for (size_t i = 0; i < sc->word.n; i++)
        h = wn_vocab_hash(h, sc->word.at[i]);
    const struct wn_vocab_slot *slot = wn_vocab_find(&m->vocab, sc->word.at, sc->word.n, h);
    if (slot && (m->ignore_merges || slot->n & WN_VOCAB_MARK))
        return wn_tk_emit(t, sc, slot->id, lo, 0, sc->word.n);
    WN_TRY(merge(m, sc));
    size_t at = 0;
    for (size_t i = 0; i < sc->symbols.n; i++) {
        size_t bytes = sc->symbols.at[i].bytes;
        WN_TRY(wn_tk_emit(t, sc, sc->symbols.at[i].id, lo, at, at + bytes));
        at += bytes;
    }
    return WINNOW_OK;
}

enum winnow_status wn_tk_bpe_mark(struct wn_tokenizer *t, struct winnow_err *err)
{
    struct wn_tk_bpe *m = &t->bpe;
    struct wn_tk_scratch sc = { .err = err };
    enum winnow_status status = WINNOW_OK;
    for (size_t i = 0; i < m->vocab.cap && status == WINNOW_OK; i++) {
        struct wn_vocab_slot *slot = &m->vocab.slot[i];
        sc.word.n = 0;
        if (!slot->n || slot->n > 256)
            continue;
        if (!wn_vec_reserve(&sc.word, slot->n)) {
            status = wn_fail(err, WINNOW_E_NOMEM, "vocabulary");
            break;
        }
        memcpy(sc.word.at, m->vocab.bytes + slot->at, slot->n);
        sc.word.n = slot->n;
        struct winnow_err ignored; /* a token that cannot be merged is simply not marked */
        sc.err = &ignored;
        status = merge(m, &sc);
        if (status == WINNOW_OK && sc.symbols.n == 1 && sc.symbols.at[0].id == slot->id &&
            sc.symbols.at[0].bytes == slot->n)
            slot->n |= WN_VOCAB_MARK;
        status = status == WINNOW_E_NOMEM ? wn_fail(err, status, "vocabulary") : WINNOW_OK;
    }
    wn_tk_scratch_done(&sc);
    return status;
}
