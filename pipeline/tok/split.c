/* split.c: pre-tokenizers: pieces of text in, smaller pieces out. */
#include <string.h>
#include "pipeline/tok/tok.h"
#include "pipeline/tok/unicode.h"

const uint16_t wn_tk_byte_char[256] = {
/* GPT-2's bytes_to_unicode(): printable Latin-1 stands for itself, the others for U+0100 and up, in order. */
#define R8(x)  (x), (x) + 1, (x) + 2, (x) + 3, (x) + 4, (x) + 5, (x) + 6, (x) + 7
#define R32(x) R8(x), R8((x) + 8), R8((x) + 16), R8((x) + 24)
    R32(0x100), 0x120, '!', '"', '#', '$', '%', '&', '\'', R8('('), R8('0'), R8('8'), R32('@'),
    /* 0x60 … 0x7E stand for themselves, 0x7F … 0xA0 do not */
    R8('`'), R8('h'), R8('p'), 'x', 'y', 'z', '{', '|', '}', '~', 0x121, R32(0x122), 0x142, 0xA1, 0xA2, 0xA3, 0xA4,
    0xA5, 0xA6, 0xA7, 0xA8, 0xA9, 0xAA, 0xAB, 0xAC, 0x143, 0xAE, 0xAF, R8(0xB0), R8(0xB8), R32(0xC0), R32(0xE0)
#undef R8
#undef R32
};

/* ---- the pieces that come of a run of matches and what is between them ---- */
struct cutter {
    struct wn_tk_pieces *out;
    enum wn_tk_behavior behavior;
    size_t first; /* of this piece's cuts in `out` */
    bool before;  /* the event before was a match */
    bool waits;   /* WITH_NEXT: a match that may go to what follows */
    uint32_t waits_lo, waits_hi;
};

static bool push(struct wn_tk_pieces *out, uint32_t lo, uint32_t hi)
{
    return wn_vec_push(out, (struct wn_tk_piece){ lo, hi, -1 });
}

/* The next stretch of the text: a match or what is between two. false: out of memory. */
static bool cut(struct cutter *c, uint32_t lo, uint32_t hi, bool match)
{
    bool before = c->before, ok = true;
    c->before = match;
    bool grows = false;
    switch (c->behavior) {
    case WN_TK_REMOVED:
        return match || push(c->out, lo, hi);
    case WN_TK_ISOLATED:
        return push(c->out, lo, hi);
    case WN_TK_WITH_PREVIOUS:
        grows = match && !before;
        break;
    case WN_TK_CONTIGUOUS:
        grows = match == before;
        break;
    case WN_TK_WITH_NEXT:
        if (c->waits && match)
            ok = push(c->out, c->waits_lo, c->waits_hi);
        else if (!match)
            ok = push(c->out, c->waits ? c->waits_lo : lo, hi);
        c->waits = match;
        c->waits_lo = lo;
        c->waits_hi = hi;
        return ok;
    }
    if (grows && c->out->n > c->first) {
        c->out->at[c->out->n - 1].hi = hi;
        return true;
    }
    return push(c->out, lo, hi);
}

/* The end of the piece: what waits goes out, and pieces of nothing go away. */
static bool cut_end(struct cutter *c)
{
    if (c->waits && !push(c->out, c->waits_lo, c->waits_hi))
        return false;
    size_t n = c->first;
    for (size_t i = c->first; i < c->out->n; i++) {
        c->out->at[n] = c->out->at[i];
        n += c->out->at[i].hi > c->out->at[i].lo;
    }
    c->out->n = n;
    return true;
}

/* ---- by classes of characters ---- */
static bool by_class(struct cutter *c, const uint32_t *cp, uint32_t lo, uint32_t hi, unsigned cls)
{
    uint32_t from = lo;
    for (uint32_t i = lo; i < hi; i++) {
        if (!(wn_uc(cp[i]) & cls))
            continue;
        if ((from < i && !cut(c, from, i, false)) || !cut(c, i, i + 1, true))
            return false;
        from = i + 1;
    }
    return from == hi || cut(c, from, hi, false);
}

/* White space goes, punctuation stands alone. */
static bool by_bert(struct wn_tk_pieces *out, const uint32_t *cp, uint32_t lo, uint32_t hi)
{
    uint32_t from = lo;
    for (uint32_t i = lo; i < hi; i++) {
        unsigned is = wn_uc(cp[i]) & (WN_UC_SPACE | WN_UC_PUNCT);
        if (!is)
            continue;
        if ((from < i && !push(out, from, i)) || (!(is & WN_UC_SPACE) && !push(out, i, i + 1)))
            return false;
        from = i + 1;
    }
    return from == hi || push(out, from, hi);
}

/* \w+|[^\w\s]+ */
static bool by_word(struct wn_tk_pieces *out, const uint32_t *cp, uint32_t lo, uint32_t hi)
{
    for (uint32_t i = lo; i < hi;) {
        unsigned is = wn_uc(cp[i]) & (WN_UC_SPACE | WN_UC_WORD);
        uint32_t from = i++;
        if (is & WN_UC_WORD)
            while (i < hi && wn_uc(cp[i]) & WN_UC_WORD)
                i++;
        else if (!is)
            while (i < hi && !(wn_uc(cp[i]) & (WN_UC_SPACE | WN_UC_WORD)))
                i++;
        else
            continue;
        if (!push(out, from, i))
            return false;
    }
    return true;
}

static enum winnow_status by_pattern(struct cutter *c, const struct wn_tk_split *split, struct wn_tk_scratch *sc,
                                     uint32_t lo, uint32_t hi)
{
    struct wn_tk_find f;
    WN_TRY(wn_tk_find_init(&f, split->pattern, sc->text.cp + lo, hi - lo, sc->err));
    enum winnow_status status;
    bool found, ok = true;
    size_t from, to;
    uint32_t done = lo;
    while (ok && (status = wn_tk_find_next(&f, &found, &from, &to, sc->err)) == WINNOW_OK && found) {
        uint32_t a = lo + (uint32_t)from, b = lo + (uint32_t)to;
        ok = (done == a || cut(c, done, a, split->invert)) && cut(c, a, b, !split->invert);
        done = b;
    }
    if (ok && status == WINNOW_OK && done != hi)
        ok = cut(c, done, hi, split->invert);
    wn_tk_find_done(&f);
    return ok ? status : wn_fail(sc->err, WINNOW_E_NOMEM, "pieces of a text");
}

static enum winnow_status cut_piece(const struct wn_tk_split *split, struct wn_tk_scratch *sc,
                                    const struct wn_tk_piece *piece)
{
    struct cutter c = { .out = &sc->next, .behavior = split->behavior, .first = sc->next.n };
    bool ok = true;
    switch (split->kind) {
    case WN_TK_BY_BERT:
        ok = by_bert(&sc->next, sc->text.cp, piece->lo, piece->hi);
        break;
    case WN_TK_BY_WORD:
        ok = by_word(&sc->next, sc->text.cp, piece->lo, piece->hi);
        break;
    case WN_TK_BY_CLASS:
        ok = by_class(&c, sc->text.cp, piece->lo, piece->hi, split->cls) && cut_end(&c);
        break;
    case WN_TK_BY_PATTERN:
    case WN_TK_BYTE_LEVEL:
        WN_TRY(by_pattern(&c, split, sc, piece->lo, piece->hi));
        ok = cut_end(&c);
        break;
    }
    return ok ? WINNOW_OK : wn_fail(sc->err, WINNOW_E_NOMEM, "pieces of a text");
}

/* ---- byte level ---- */
static void swap(struct wn_tk_scratch *sc)
{
    struct wn_tk_text text = sc->text;
    sc->text = sc->other;
    sc->other = text;
}

/* Copy all pieces into `other`, each with a space in front where it has none (`space`) or byte by byte (`bytes`), and
 * go on with that. Added tokens are copied as they are. */
static enum winnow_status rewrite(struct wn_tk_scratch *sc, bool space, bool bytes)
{
    struct wn_tk_text *to = &sc->other;
    to->n = 0;
    for (size_t i = 0; i < sc->pieces.n; i++) {
        struct wn_tk_piece *p = &sc->pieces.at[i];
        const struct wn_tk_span *at = sc->text.at;
        size_t want = to->n + (bytes ? 4 : 1) * ((size_t)p->hi - p->lo) + 1;
        if (!wn_tk_text_reserve(to, want))
            return wn_tk_text_full(to, sc->err, want);
        uint32_t lo = (uint32_t)to->n;
        if (space && p->id < 0 && sc->text.cp[p->lo] != ' ')
            wn_tk_text_put(to, ' ', at[p->lo]);
        for (uint32_t k = p->lo; k < p->hi; k++) {
            uint32_t cp = sc->text.cp[k];
            unsigned char utf8[4];
            unsigned n = bytes && p->id < 0 ? wn_utf8_put(cp, utf8) : 0;
            for (unsigned b = 0; b < n; b++)
                wn_tk_text_put(to, wn_tk_byte_char[utf8[b]], at[k]);
            if (!n)
                wn_tk_text_put(to, cp, at[k]);
        }
        *p = (struct wn_tk_piece){ lo, (uint32_t)to->n, p->id };
    }
    swap(sc);
    return WINNOW_OK;
}

static bool lacks_space(const struct wn_tk_scratch *sc)
{
    for (size_t i = 0; i < sc->pieces.n; i++)
        if (sc->pieces.at[i].id < 0 && sc->text.cp[sc->pieces.at[i].lo] != ' ')
            return true;
    return false;
}

enum winnow_status wn_tk_pre_tokenize(const struct wn_tk_split *splits, size_t n, struct wn_tk_scratch *sc)
{
    for (size_t s = 0; s < n; s++) {
        const struct wn_tk_split *split = &splits[s];
        if (split->prefix_space && lacks_space(sc))
            WN_TRY(rewrite(sc, true, false));
        if (split->kind != WN_TK_BYTE_LEVEL || split->pattern) {
            sc->next.n = 0;
            for (size_t i = 0; i < sc->pieces.n; i++) {
                struct wn_tk_piece piece = sc->pieces.at[i];
                if (piece.id < 0)
                    WN_TRY(cut_piece(split, sc, &piece));
                else if (!wn_vec_push(&sc->next, piece))
                    return wn_fail(sc->err, WINNOW_E_NOMEM, "pieces of a text");
            }
            struct wn_tk_pieces pieces = sc->pieces;
            sc->pieces = sc->next;
            sc->next = pieces;
        }
        if (split->kind == WN_TK_BYTE_LEVEL)
            WN_TRY(rewrite(sc, false, true));
    }
    return WINNOW_OK;
}
