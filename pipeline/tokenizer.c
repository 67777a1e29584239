/* tokenizer.c: text to ids, from one part of pipeline/tok to the next. */
#include "pipeline/tokenizer.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "pipeline/tok/load.h"
#include "pipeline/tok/tok.h"
#include "pipeline/tok/unicode.h"

#define KEEP_CHARS 65536u /* working memory of a longer text is not kept for the next */

/* ---- what the models share ---- */
int32_t wn_tk_model_id(const struct wn_tokenizer *t, const char *token, size_t n)
{
    return wn_vocab_id(t->is_bpe ? &t->bpe.vocab : &t->wordpiece.whole, token, n);
}

int32_t wn_tk_token_id(const struct wn_tokenizer *t, const char *token, size_t n)
{
    for (size_t i = 0; i < t->added.n; i++)
        if (t->added.at[i].n == n && memcmp(t->added.at[i].content, token, n) == 0)
            return t->added.at[i].id;
    return wn_tk_model_id(t, token, n);
}

enum winnow_status wn_tk_word(struct wn_tk_scratch *sc, uint32_t lo, uint32_t hi)
{
    size_t most = 4 * (size_t)(hi - lo);
    if (!wn_vec_reserve(&sc->word, most) || !wn_vec_reserve(&sc->char_of, most))
        return wn_fail(sc->err, WINNOW_E_NOMEM, "word of %u characters", hi - lo);
    unsigned char *to = sc->word.at;
    uint32_t *of = sc->char_of.at;
    size_t n = 0;
    for (uint32_t i = lo; i < hi; i++) {
        unsigned len = wn_utf8_put(sc->text.cp[i], to + n);
        for (unsigned k = 0; k < len; k++)
            of[n++] = i - lo;
    }
    sc->word.n = sc->char_of.n = n;
    return WINNOW_OK;
}

enum winnow_status wn_tk_emit(const struct wn_tokenizer *t, struct wn_tk_scratch *sc, int32_t id, uint32_t lo,
                              size_t from, size_t to)
{
    const struct wn_tk_span *at = sc->text.at + lo;
    struct wn_tk_token token = { id, { at[sc->char_of.at[from]].from, at[sc->char_of.at[to - 1]].to }, 0, 0 };
    if (t->spaces) {
        token.lead = t->spaces[id][0];
        token.trail = t->spaces[id][1];
    }
    return wn_vec_push(&sc->tokens, token) ? WINNOW_OK : wn_fail(sc->err, WINNOW_E_NOMEM, "tokens");
}

static bool is_trimmed(uint32_t cp)
{
    return cp == 0x120 || wn_uc(cp) & WN_UC_SPACE;
}

static enum winnow_status take_added(const struct wn_tokenizer *t, struct wn_tk_scratch *sc,
                                     const struct wn_tk_text *text, const struct wn_tk_piece *p)
{
    struct wn_tk_token token = { p->id, { text->at[p->lo].from, text->at[p->hi - 1].to }, 0, 0 };
    if (t->spaces) {
        while (p->lo + token.lead < p->hi && is_trimmed(text->cp[p->lo + token.lead]))
            token.lead++;
        while (p->lo + token.trail < p->hi && is_trimmed(text->cp[p->hi - 1 - token.trail]))
            token.trail++;
    }
    return wn_vec_push(&sc->tokens, token) ? WINNOW_OK : wn_fail(sc->err, WINNOW_E_NOMEM, "tokens");
}

/* ---- one text ---- */

/* sc->text, which holds no added token that is looked for before normalization. */
static enum winnow_status encode_part(const struct wn_tokenizer *t, struct wn_tk_scratch *sc)
{
    WN_TRY(wn_tk_normalize(t->norms.at, t->norms.n, sc));
    sc->pieces.n = 0;
    if (!wn_tk_cut_added(t, &t->normalized, &sc->text, 0, (uint32_t)sc->text.n, &sc->pieces))
        return wn_fail(sc->err, WINNOW_E_NOMEM, "pieces of a text");
    WN_TRY(wn_tk_pre_tokenize(t->splits.at, t->splits.n, sc));
    for (size_t i = 0; i < sc->pieces.n; i++) {
        const struct wn_tk_piece *p = &sc->pieces.at[i];
        WN_TRY(p->id >= 0  ? take_added(t, sc, &sc->text, p)
               : t->is_bpe ? wn_tk_bpe_word(t, sc, p->lo, p->hi)
                           : wn_tk_wordpiece_word(t, sc, p->lo, p->hi));
    }
    return WINNOW_OK;
}

static enum winnow_status encode_one(const struct wn_tokenizer *t, struct wn_tk_scratch *sc, struct wn_text text)
{
    if (text.n > WN_TEXT_MAX)
        return wn_fail(sc->err, WINNOW_E_TOO_LARGE, "text of %zu bytes; at most %zu are taken", text.n, WN_TEXT_MAX);
    struct wn_tk_text *to = t->raw.n ? &sc->raw : &sc->text;
    sc->text.most = sc->other.most = sc->raw.most = WN_TK_MAX_CHARS(text.n);
    WN_TRY(wn_tk_text_decode(to, text, sc->err));
    if (!t->raw.n)
        return encode_part(t, sc);
    sc->cuts.n = 0;
    if (!wn_tk_cut_added(t, &t->raw, &sc->raw, 0, (uint32_t)sc->raw.n, &sc->cuts))
        return wn_fail(sc->err, WINNOW_E_NOMEM, "pieces of a text");
    for (size_t i = 0; i < sc->cuts.n; i++) {
        const struct wn_tk_piece p = sc->cuts.at[i];
        if (p.id >= 0) {
            WN_TRY(take_added(t, sc, &sc->raw, &p));
            continue;
        }
        size_t n = p.hi - p.lo;
        if (!wn_tk_text_reserve(&sc->text, n))
            return wn_tk_text_full(&sc->text, sc->err, n);
        memcpy(sc->text.cp, sc->raw.cp + p.lo, n * sizeof *sc->text.cp);
        memcpy(sc->text.at, sc->raw.at + p.lo, n * sizeof *sc->text.at);
        sc->text.n = n;
        WN_TRY(encode_part(t, sc));
    }
    return WINNOW_OK;
}

void wn_tk_scratch_done(struct wn_tk_scratch *sc)
{
    wn_tk_text_done(&sc->text);
    wn_tk_text_done(&sc->other);
    wn_tk_text_done(&sc->raw);
    wn_vec_done(&sc->pieces);
    wn_vec_done(&sc->next);
    wn_vec_done(&sc->cuts);
    wn_vec_done(&sc->word);
    wn_vec_done(&sc->char_of);
    wn_vec_done(&sc->symbols);
    wn_vec_done(&sc->heap);
    wn_vec_done(&sc->classes);
    wn_vec_done(&sc->tokens);
}

static void scratch_free(struct wn_tk_scratch *sc)
{
    if (sc)
        wn_tk_scratch_done(sc);
    free(sc);
}

/* Working memory goes from call to call by one atomic pointer: a second thread at the same moment makes its own. */
static struct wn_tk_scratch *scratch_take(const struct wn_tokenizer *t)
{
    struct wn_tk_scratch *sc = atomic_exchange(&((struct wn_tokenizer *)t)->spare, NULL);
    return sc ? sc : calloc(1, sizeof *sc);
}

static void scratch_give(const struct wn_tokenizer *t, struct wn_tk_scratch *sc)
{
    if (sc->text.room > KEEP_CHARS || sc->other.room > KEEP_CHARS || sc->raw.room > KEEP_CHARS)
        scratch_free(sc);
    else
        scratch_free(atomic_exchange(&((struct wn_tokenizer *)t)->spare, sc));
}

enum winnow_status wn_tokenizer_encode(const struct wn_tokenizer *t, struct wn_text text, const struct wn_text *pair,
                                       size_t max_length, struct wn_tokens *ret, struct winnow_err *err)
{
    struct wn_text texts[2] = { text, pair ? *pair : (struct wn_text){ "", 0 } };
    struct wn_tk_scratch *sc = scratch_take(t);
    ret->n = 0;
    if (!sc || !wn_vec_reserve(&sc->tokens, 16)) {
        scratch_free(sc);
        return wn_fail(err, WINNOW_E_NOMEM, "tokenizer");
    }
    sc->err = err;
    sc->tokens.n = 0;
    sc->second = SIZE_MAX;
    enum winnow_status status = encode_one(t, sc, text);
    if (status == WINNOW_OK && pair) {
        sc->second = sc->tokens.n;
        status = encode_one(t, sc, *pair);
    }
    if (status == WINNOW_OK)
        status = wn_tk_post(t, sc, texts, max_length, ret);
    scratch_give(t, sc);
    return status;
}

/* ---- life ---- */

/* Spaces at the ends of every token's text, for trimming. */
static enum winnow_status count_spaces(struct wn_tokenizer *t, struct winnow_err *err)
{
    const struct wn_vocab *v = t->is_bpe ? &t->bpe.vocab : &t->wordpiece.whole;
    t->spaces = calloc(t->max_id, sizeof *t->spaces);
    struct wn_tk_text text = { 0 };
    enum winnow_status status = t->spaces ? WINNOW_OK : wn_fail(err, WINNOW_E_NOMEM, "vocabulary");
    for (size_t i = 0; i < v->cap && status == WINNOW_OK; i++) {
        const struct wn_vocab_slot *s = &v->slot[i];
        if (!s->n)
            continue;
        status = wn_tk_text_decode(&text, (struct wn_text){ v->bytes + s->at, s->n & ~WN_VOCAB_MARK }, err);
        size_t lead = 0, trail = 0;
        while (lead < text.n && is_trimmed(text.cp[lead]))
            lead++;
        while (trail < text.n && is_trimmed(text.cp[text.n - 1 - trail]))
            trail++;
        t->spaces[s->id][0] = (uint8_t)WN_MIN(lead, 255u);
        t->spaces[s->id][1] = (uint8_t)WN_MIN(trail, 255u);
    }
    wn_tk_text_done(&text);
    return status;
}

static int32_t choose_pad(const struct wn_tokenizer *t)
{
    static const char *const names[] = { "[PAD]", "<pad>", "<|pad|>" };
    int32_t id = t->pad;
    for (size_t i = 0; id < 0 && i < WN_COUNT(names); i++)
        id = wn_tk_token_id(t, names[i], strlen(names[i]));
    return WN_MAX(id, 0);
}

static void freep(struct wn_tokenizer **t)
{
    wn_tokenizer_free(*t);
}

enum winnow_status wn_tokenizer_open(const char *dir, struct wn_tokenizer **ret, struct winnow_err *err)
{
    WN_CLEANUP(freep) struct wn_tokenizer *t = calloc(1, sizeof *t);
    if (!t)
        return wn_fail(err, WINNOW_E_NOMEM, "tokenizer");
    wn_uc_init();
    wn_vocab_init();
    t->pad = -1;
    WN_TRY(wn_tk_load(t, dir, err));
    if (t->post.n_trims)
        WN_TRY(count_spaces(t, err));
    if (t->is_bpe)
        WN_TRY(wn_tk_bpe_mark(t, err));
    t->pad = choose_pad(t);
    *ret = WN_TAKE(t);
    return WINNOW_OK;
}

int32_t wn_tokenizer_pad_id(const struct wn_tokenizer *t)
{
    return t->pad;
}

size_t wn_tokenizer_vocab(const struct wn_tokenizer *t)
{
    return t->max_id;
}

const char *wn_tokenizer_file(const struct wn_tokenizer *t)
{
    return t->file;
}

void wn_tokenizer_free(struct wn_tokenizer *t)
{
    if (!t)
        return;
    scratch_free(atomic_exchange(&t->spare, NULL));
    for (size_t i = 0; i < t->norms.n; i++)
        wn_tk_pattern_free(t->norms.at[i].pattern);
    for (size_t i = 0; i < t->splits.n; i++)
        wn_tk_pattern_free(t->splits.at[i].pattern);
    wn_vec_done(&t->norms);
    wn_vec_done(&t->splits);
    wn_vec_done(&t->added);
    wn_tk_trie_done(&t->raw);
    wn_tk_trie_done(&t->normalized);
    wn_vocab_done(&t->wordpiece.whole);
    wn_vocab_done(&t->wordpiece.rest);
    wn_vocab_done(&t->bpe.vocab);
    wn_merges_done(&t->bpe.merges);
    free(t->spaces);
    wn_arena_done(&t->arena);
    free(t);
}

void wn_tokens_done(struct wn_tokens *t)
{
    free(t->id);
    free(t->type);
    free(t->offset);
    *t = (struct wn_tokens){ 0 };
}
