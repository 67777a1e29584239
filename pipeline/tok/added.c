/* added.c: tokens that are cut out of a text before the model sees it: [MASK], <|endoftext|> and the like.
 *
 * The longest of them at the leftmost place, found by walking a trie from every character that one begins with. An
 * Aho-Corasick automaton would save the second walk where one nearly matches; such tokens start with characters that
 * are rare in text. */
#include <stdlib.h>
#include <string.h>
#include "base/strmap.h"
#include "pipeline/tok/tok.h"
#include "pipeline/tok/unicode.h"

#define MAX_ADDED_CHARS 1000u

struct wn_tk_trie_edge {
    uint32_t from, cp, to; /* to 0: free; nothing leads back to the root */
};

static size_t place(const struct wn_tk_trie *t, uint32_t from, uint32_t cp)
{
    uint64_t key = (uint64_t)from << 32 | cp;
    return (size_t)((key ^ key >> 29) * wn_vocab_multiplier >> 32) & (t->cap - 1);
}

static uint32_t follow(const struct wn_tk_trie *t, uint32_t from, uint32_t cp)
{
    for (size_t i = place(t, from, cp); t->edge[i].to; i = (i + 1) & (t->cap - 1))
        if (t->edge[i].from == from && t->edge[i].cp == cp)
            return t->edge[i].to;
    return 0;
}

static void set_edge(struct wn_tk_trie *t, struct wn_tk_trie_edge e)
{
    size_t i = place(t, e.from, e.cp);
    while (t->edge[i].to)
        i = (i + 1) & (t->cap - 1);
    t->edge[i] = e;
}

static bool grow(struct wn_tk_trie *t)
{
    struct wn_tk_trie bigger = *t;
    bigger.cap = t->cap ? t->cap * 2 : 64;
    bigger.edge = calloc(bigger.cap, sizeof *bigger.edge);
    if (!bigger.edge)
        return false;
    for (size_t i = 0; i < t->cap; i++)
        if (t->edge[i].to)
            set_edge(&bigger, t->edge[i]);
    free(t->edge);
    *t = bigger;
    return true;
}

enum winnow_status wn_tk_trie_add(struct wn_tk_trie *trie, const uint32_t *cp, size_t n, int32_t token,
                                  struct winnow_err *err)
{
    uint32_t node = 0;
    if (!trie->token.n && !wn_vec_push(&trie->token, -1))
        return wn_fail(err, WINNOW_E_NOMEM, "added tokens");
    for (size_t i = 0; i < n; i++) {
        if (2 * trie->n >= trie->cap && !grow(trie))
            return wn_fail(err, WINNOW_E_NOMEM, "added tokens");
        uint32_t next = follow(trie, node, cp[i]);
        if (!next) {
            next = (uint32_t)trie->token.n;
            if (!wn_vec_push(&trie->token, -1))
                return wn_fail(err, WINNOW_E_NOMEM, "added tokens");
            set_edge(trie, (struct wn_tk_trie_edge){ node, cp[i], next });
            trie->n++;
        }
        node = next;
    }
    if (!node || trie->token.at[node] >= 0)
        return wn_fail(err, WINNOW_E_MALFORMED, node ? "is looked for in the same form as another" : "is empty");
    trie->token.at[node] = token;
    trie->starts |= UINT64_C(1) << cp[0] % 64;
    return WINNOW_OK;
}

void wn_tk_trie_done(struct wn_tk_trie *trie)
{
    free(trie->edge);
    wn_vec_done(&trie->token);
    *trie = (struct wn_tk_trie){ 0 };
}

/* The longest token that starts at `i`; its end, or 0. */
static uint32_t longest(const struct wn_tk_trie *trie, const uint32_t *cp, uint32_t i, uint32_t hi, int32_t *ret)
{
    uint32_t node = 0, end = 0;
    for (; i < hi && (node = follow(trie, node, cp[i])); i++)
        if (trie->token.at[node] >= 0) {
            *ret = trie->token.at[node];
            end = i + 1;
        }
    return end;
}

bool wn_tk_cut_added(const struct wn_tokenizer *t, const struct wn_tk_trie *trie, const struct wn_tk_text *text,
                     uint32_t lo, uint32_t hi, struct wn_tk_pieces *out)
{
    const uint32_t *cp = text->cp;
    uint32_t done = lo;
    for (uint32_t i = lo, end; trie->n && i < hi; i = end) {
        int32_t which = -1;
        end = trie->starts >> cp[i] % 64 & 1 ? longest(trie, cp, i, hi, &which) : 0;
        if (!end) {
            end = i + 1;
            continue;
        }
        const struct wn_tk_added *added = &t->added.at[which];
        uint32_t from = i, to = end;
        if (added->single_word &&
            ((from > lo && wn_uc(cp[from - 1]) & WN_UC_WORD) || (to < hi && wn_uc(cp[to]) & WN_UC_WORD)))
            continue;
        while (added->lstrip && from > lo && from > done && wn_uc(cp[from - 1]) & WN_UC_SPACE)
            from--;
        while (added->rstrip && to < hi && wn_uc(cp[to]) & WN_UC_SPACE)
            to++;
        if (done < from && !wn_vec_push(out, (struct wn_tk_piece){ done, from, -1 }))
            return false;
        if (!wn_vec_push(out, (struct wn_tk_piece){ from, to, added->id }))
            return false;
        done = to;
    }
    return done >= hi || wn_vec_push(out, (struct wn_tk_piece){ done, hi, -1 });
}

/* ---- reading ---- */

/* The form in which the added token is looked for: normalized, if it says so. */
static enum winnow_status add_form(struct wn_tokenizer *t, size_t i, struct wn_tk_scratch *sc, struct winnow_err *err)
{
    const struct wn_tk_added *a = &t->added.at[i];
    sc->err = err;
    sc->text.most = sc->other.most = WN_TK_MAX_CHARS(a->n);
    WN_TRY(wn_tk_text_decode(&sc->text, (struct wn_text){ a->content, a->n }, err));
    if (sc->text.n > MAX_ADDED_CHARS)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "is longer than %u characters", MAX_ADDED_CHARS);
    if (a->normalized)
        WN_TRY(wn_tk_normalize(t->norms.at, t->norms.n, sc));
    return wn_tk_trie_add(a->normalized ? &t->normalized : &t->raw, sc->text.cp, sc->text.n, (int32_t)i, err);
}

/* Ids as `tokenizers` gives them: those of the model's vocabulary, else the next free ones, in the file's order. Of
 * tokens with the same text the last counts. */
static enum winnow_status give_ids(struct wn_tokenizer *t, struct winnow_err *err)
{
    struct wn_strmap seen = { 0 };
    size_t n = 0, next = t->n_vocab;
    bool ok = true;
    for (size_t i = 0; ok && i < t->added.n; i++) {
        struct wn_tk_added a = t->added.at[i], *same = wn_strmap_get(&seen, a.content, a.n);
        if (!a.n)
            continue;
        a.id = same ? same->id : wn_tk_model_id(t, a.content, a.n);
        if (a.id < 0)
            a.id = (int32_t)next++;
        if (!same)
            ok = wn_strmap_set(&seen, a.content, a.n, same = &t->added.at[n++]);
        *same = a;
    }
    t->added.n = n;
    wn_strmap_done(&seen);
    return ok ? WINNOW_OK : wn_fail(err, WINNOW_E_NOMEM, "added tokens");
}

enum winnow_status wn_tk_added_settle(struct wn_tokenizer *t, const char *file, struct winnow_err *err)
{
    WN_CLEANUP(wn_tk_scratch_done) struct wn_tk_scratch sc = { 0 };
    WN_TRY(give_ids(t, err));
    for (size_t i = 0; i < t->added.n; i++) {
        enum winnow_status status = add_form(t, i, &sc, err);
        if (status != WINNOW_OK)
            return wn_fail_at(err, status, "%s: added_tokens: '%.60s'", file, t->added.at[i].content);
        t->max_id = WN_MAX(t->max_id, (size_t)t->added.at[i].id + 1);
    }
    return WINNOW_OK;
}
