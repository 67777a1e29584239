/* wordpiece.c: the longest token that a word starts with, then the longest of the rest, until nothing is left; a word
 * with a rest that no token starts is unknown as a whole. */
#include "pipeline/tok/tok.h"

enum { NEAR = 128 }; /* bytes of a word whose prefixes are hashed ahead */

/* The longest token of `v` at the start of `s`; its bytes, 0 if there is none. */
static size_t longest(const struct wn_vocab *v, const unsigned char *s, size_t n, size_t most, int32_t *ret_id)
{
    uint64_t prefix[NEAR + 1];
    size_t ahead = WN_MIN(n, WN_MIN(most, (size_t)NEAR));
    uint64_t h = prefix[0] = wn_vocab_seed;
    for (size_t i = 0; i < ahead; i++)
        prefix[i + 1] = h = wn_vocab_hash(h, s[i]);
    const struct wn_vocab_slot *best = NULL;
    size_t len = 0;
    for (size_t i = ahead; i < n && i < most;) { /* past what is hashed ahead: forwards, and the last one counts */
        h = wn_vocab_hash(h, s[i++]);
        if (i == n || (s[i] & 0xC0) != 0x80) {
            const struct wn_vocab_slot *slot = wn_vocab_find(v, s, i, h);
            best = slot ? slot : best;
            len = slot ? i : len;
        }
    }
    for (size_t i = ahead; !best && i; i--)
        if (i == n || (s[i] & 0xC0) != 0x80) {
            best = wn_vocab_find(v, s, i, prefix[i]);
            len = i;
        }
    *ret_id = best ? best->id : -1;
    return best ? len : 0;
}

static enum winnow_status unknown(const struct wn_tokenizer *t, struct wn_tk_scratch *sc, uint32_t lo, uint32_t hi)
{
    const struct wn_tk_span *at = sc->text.at;
    return wn_vec_push(&sc->tokens, (struct wn_tk_token){ t->wordpiece.unk, { at[lo].from, at[hi - 1].to }, 0, 0 })
               ? WINNOW_OK
               : wn_fail(sc->err, WINNOW_E_NOMEM, "tokens");
}

enum winnow_status wn_tk_wordpiece_word(const struct wn_tokenizer *t, struct wn_tk_scratch *sc, uint32_t lo,
                                        uint32_t hi)
{
    const struct wn_tk_wordpiece *m = &t->wordpiece;
    if (hi - lo > m->max_chars)
        return unknown(t, sc, lo, hi);
    WN_TRY(wn_tk_word(sc, lo, hi));
    size_t first = sc->tokens.n;
    for (size_t from = 0; from < sc->word.n;) {
        int32_t id = -1;
        size_t len =
            longest(from ? &m->rest : &m->whole, sc->word.at + from, sc->word.n - from, m->longest[from ? 1 : 0], &id);
        if (!len) {
            sc->tokens.n = first;
            return unknown(t, sc, lo, hi);
        }
        WN_TRY(wn_tk_emit(t, sc, id, lo, from, from + len));
        from += len;
    }
    return WINNOW_OK;
}
