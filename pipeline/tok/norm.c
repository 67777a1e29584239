/* norm.c: normalizers: text in, text out, every character still knowing which bytes it came from.
 *
 * Where several characters become several others, which of the new ones belongs to which bytes is a convention; this is
 * that of `tokenizers`: each new character carries a "change" (0: it replaces one, 1: it is additional, -k: it replaces
 * one and k that follow), and the old positions are dealt out in order (deal()). */
#include <stdlib.h>
#include <string.h>
#include "pipeline/tok/tok.h"
#include "pipeline/tok/unicode.h"

/* ---- transformations in place ---- */
static void keep(struct wn_tk_text *text, unsigned without)
{
    size_t n = 0;
    for (size_t i = 0; i < text->n; i++) {
        uint32_t cp = text->cp[i];
        text->cp[n] = cp;
        text->at[n] = text->at[i];
        n += !(wn_uc(cp) & without);
    }
    text->n = n;
}

/* BERT's cleaning: control characters out, all white space to spaces. */
static void clean(struct wn_tk_text *text)
{
    size_t n = 0;
    for (size_t i = 0; i < text->n; i++) {
        uint32_t cp = text->cp[i];
        unsigned is = wn_uc(cp);
        text->cp[n] = is & WN_UC_SPACE ? ' ' : cp;
        text->at[n] = text->at[i];
        n += !(is & WN_UC_CONTROL);
    }
    text->n = n;
}

static void swap(struct wn_tk_scratch *sc)
{
    struct wn_tk_text keep_it = sc->text;
    sc->text = sc->other;
    sc->other = keep_it;
}

static size_t count(const struct wn_tk_text *text, unsigned cls)
{
    size_t n = 0;
    for (size_t i = 0; i < text->n; i++)
        n += (wn_uc(text->cp[i]) & cls) != 0;
    return n;
}

static enum winnow_status room_for(struct wn_tk_scratch *sc, size_t want)
{
    sc->other.n = 0;
    return wn_tk_text_reserve(&sc->other, want) ? WINNOW_OK : wn_tk_text_full(&sc->other, sc->err, want);
}

static enum winnow_status space_ideographs(struct wn_tk_scratch *sc)
{
    size_t n = count(&sc->text, WN_UC_IDEOGRAPH);
    if (!n)
        return WINNOW_OK;
    WN_TRY(room_for(sc, sc->text.n + 2 * n));
    for (size_t i = 0; i < sc->text.n; i++) {
        uint32_t cp = sc->text.cp[i];
        bool space = wn_uc(cp) & WN_UC_IDEOGRAPH;
        if (space)
            wn_tk_text_put(&sc->other, ' ', sc->text.at[i]);
        wn_tk_text_put(&sc->other, cp, sc->text.at[i]);
        if (space)
            wn_tk_text_put(&sc->other, ' ', sc->text.at[i]);
    }
    swap(sc);
    return WINNOW_OK;
}

static enum winnow_status lowercase(struct wn_tk_scratch *sc)
{
    size_t longer = 0;
    for (size_t i = 0; i < sc->text.n; i++) {
        uint32_t cp = sc->text.cp[i];
        if (cp < 0x80)
            sc->text.cp[i] = cp - 'A' < 26 ? cp + 32 : cp;
        else if (wn_uc(cp) & WN_UC_UPPER && cp != 0x130)
            sc->text.cp[i] = wn_uc_lower(cp);
        longer += cp == 0x130;
    }
    if (!longer)
        return WINNOW_OK;
    WN_TRY(room_for(sc, sc->text.n + longer));
    for (size_t i = 0; i < sc->text.n; i++) {
        bool two = sc->text.cp[i] == 0x130;
        wn_tk_text_put(&sc->other, two ? 'i' : sc->text.cp[i], sc->text.at[i]);
        if (two)
            wn_tk_text_put(&sc->other, 0x307, sc->text.at[i]);
    }
    swap(sc);
    return WINNOW_OK;
}

static void strip(struct wn_tk_text *text, bool left, bool right)
{
    size_t lo = 0, hi = text->n;
    while (left && lo < hi && wn_uc(text->cp[lo]) & WN_UC_SPACE)
        lo++;
    while (right && lo < hi && wn_uc(text->cp[hi - 1]) & WN_UC_SPACE)
        hi--;
    memmove(text->cp, text->cp + lo, (hi - lo) * sizeof *text->cp);
    memmove(text->at, text->at + lo, (hi - lo) * sizeof *text->at);
    text->n = hi - lo;
}

/* ---- Unicode's normalization forms ---- */

/* A decomposed text: code points in `other`, with [i] of sc->classes its combining class (low byte) and whether it is
 * an additional character of a decomposition (bit 8). */
#define ADDITIONAL 0x100u

/* Characters of one combining sequence in order of their class; those of the same class stay in theirs. Insertion for
 * the usual two or three marks, a stable sort by counting for hostile heaps of them. */
static enum winnow_status order(struct wn_tk_scratch *sc, size_t lo, size_t hi)
{
    uint32_t *cp = sc->other.cp, *cls = sc->classes.at;
    if (hi - lo <= 32) {
        for (size_t i = lo + 1; i < hi; i++)
            for (size_t j = i; j > lo && (cls[j - 1] & 0xFF) > (cls[j] & 0xFF); j--) {
                uint32_t c = cp[j], k = cls[j];
                cp[j] = cp[j - 1], cls[j] = cls[j - 1];
                cp[j - 1] = c, cls[j - 1] = k;
            }
        return WINNOW_OK;
    }
    size_t start[257] = { 0 }, n = hi - lo;
    WN_CLEANUP(wn_freep) uint32_t *copy = malloc(2 * n * sizeof *copy);
    if (!copy)
        return wn_fail(sc->err, WINNOW_E_NOMEM, "%zu combining characters", n);
    memcpy(copy, cp + lo, n * sizeof *copy);
    memcpy(copy + n, cls + lo, n * sizeof *copy);
    for (size_t i = 0; i < n; i++)
        start[(copy[n + i] & 0xFF) + 1]++;
    for (size_t c = 1; c < 257; c++)
        start[c] += start[c - 1];
    for (size_t i = 0; i < n; i++) {
        size_t to = lo + start[copy[n + i] & 0xFF]++;
        cp[to] = copy[i];
        cls[to] = copy[n + i];
    }
    return WINNOW_OK;
}

static enum winnow_status decompose(struct wn_tk_scratch *sc, bool compatible)
{
    size_t sequence = 0, n_marks = 0; /* where the present run of characters with a class began */
    sc->other.n = 0;
    for (size_t i = 0; i < sc->text.n; i++) {
        uint32_t out[WN_UC_MAX_DECOMPOSED] = { sc->text.cp[i] };
        unsigned n = wn_uc(out[0]) & WN_UC_UNSTABLE ? wn_uc_decompose(out[0], compatible, out) : 1;
        size_t want = sc->other.n + n;
        if (!wn_tk_text_reserve(&sc->other, want))
            return wn_tk_text_full(&sc->other, sc->err, want);
        if (!wn_vec_reserve(&sc->classes, want))
            return wn_fail(sc->err, WINNOW_E_NOMEM, "text of %zu characters", want);
        for (unsigned k = 0; k < n; k++) {
            unsigned cls = wn_uc(out[k]) & WN_UC_UNSTABLE ? wn_uc_combining(out[k]) : 0;
            if (!cls) {
                if (n_marks > 1)
                    WN_TRY(order(sc, sequence, sc->other.n));
                n_marks = 0;
                sequence = sc->other.n + 1;
            } else {
                n_marks++;
            }
            sc->classes.at[sc->other.n] = cls | (k ? ADDITIONAL : 0);
            sc->other.cp[sc->other.n++] = out[k];
        }
    }
    return n_marks > 1 ? order(sc, sequence, sc->other.n) : WINNOW_OK;
}

/* The next character of the result, which took 1 - change of the old ones. */
static void deal(struct wn_tk_text *to, size_t *n, uint32_t cp, int change, const struct wn_tk_text *old, size_t *used)
{
    size_t from = change > 0 ? *used - (*used > 0) : *used;
    to->cp[*n] = cp;
    to->at[(*n)++] = old->at[WN_MIN(from, old->n - 1)];
    if (change <= 0)
        *used += 1 + (size_t)-change;
}

static void decomposed(struct wn_tk_scratch *sc)
{
    size_t used = 0, n = 0;
    for (size_t i = 0; i < sc->other.n; i++)
        deal(&sc->other, &n, sc->other.cp[i], sc->classes.at[i] & ADDITIONAL ? 1 : 0, &sc->text, &used);
    swap(sc);
}

/* Canonical composition over what decompose() left; marks that do not compose are held back until the character they
 * follow is known, in the part of `other` that has been read already. */
static void compose(struct wn_tk_scratch *sc)
{
    struct wn_tk_text *to = &sc->other;
    const struct wn_tk_text *old = &sc->text;
    uint32_t *cls = sc->classes.at;
    size_t used = 0, n = 0, len = to->n, held = 0; /* held marks stand in front of i, [i - held, i) */
    bool have = false;
    uint32_t base = 0;
    int base_change = 0, last = -1;
    /* Held marks are moved down as others compose away, so they are kept at [hold, hold + held) of `to`/`cls`, beyond
     * everything written: n <= hold <= i always. */
    size_t hold = 0;
    for (size_t i = 0; i < len; i++) {
        uint32_t cp = to->cp[i];
        int c = (int)(cls[i] & 0xFF), change = cls[i] & ADDITIONAL ? 1 : 0;
        if (!have && c) {
            deal(to, &n, cp, change, old, &used);
            hold = i + 1;
            continue;
        }
        if (!have) {
            have = true, base = cp, base_change = change;
            hold = i + 1;
            continue;
        }
        uint32_t both = last < 0 || last < c ? wn_uc_compose(base, cp) : 0;
        if (both) {
            base = both;
            base_change += change - 1;
        } else if (c) {
            to->cp[hold + held] = cp;
            cls[hold + held++] = cls[i];
            last = c;
        } else {
            deal(to, &n, base, base_change, old, &used);
            for (size_t k = hold; k < hold + held; k++)
                deal(to, &n, to->cp[k], cls[k] & ADDITIONAL ? 1 : 0, old, &used);
            held = 0, last = -1;
            base = cp, base_change = change;
            hold = i + 1;
        }
    }
    if (have)
        deal(to, &n, base, base_change, old, &used);
    for (size_t k = hold; k < hold + held; k++)
        deal(to, &n, to->cp[k], cls[k] & ADDITIONAL ? 1 : 0, old, &used);
    to->n = n;
    swap(sc);
}

static enum winnow_status normal_form(struct wn_tk_scratch *sc, bool compatible, bool composed)
{
    if (!count(&sc->text, WN_UC_UNSTABLE))
        return WINNOW_OK;
    WN_TRY(decompose(sc, compatible));
    if (composed)
        compose(sc);
    else
        decomposed(sc);
    return WINNOW_OK;
}

/* ---- Replace, Prepend ---- */
static enum winnow_status put_all(struct wn_tk_scratch *sc, const uint32_t *cp, const struct wn_tk_span *at, size_t n,
                                  bool same_at)
{
    size_t want = sc->other.n + n;
    if (!wn_tk_text_reserve(&sc->other, want))
        return wn_tk_text_full(&sc->other, sc->err, want);
    for (size_t i = 0; i < n; i++)
        wn_tk_text_put(&sc->other, cp[i], at[same_at ? 0 : i]);
    return WINNOW_OK;
}

static enum winnow_status replace(const struct wn_tk_norm *norm, struct wn_tk_scratch *sc)
{
    struct wn_tk_find f;
    struct wn_tk_text *text = &sc->text;
    WN_TRY(wn_tk_find_init(&f, norm->pattern, text->cp, text->n, sc->err));
    enum winnow_status status = room_for(sc, text->n);
    size_t done = 0, lo = 0, hi = 0;
    bool found = true;
    while (status == WINNOW_OK && (status = wn_tk_find_next(&f, &found, &lo, &hi, sc->err)) == WINNOW_OK && found) {
        status = put_all(sc, text->cp + done, text->at + done, lo - done, false);
        if (status == WINNOW_OK) /* hi > lo: patterns that match nothing are refused when the file is read */
            status = put_all(sc, norm->content, text->at + hi - 1, norm->n_content, true);
        done = hi;
    }
    if (status == WINNOW_OK)
        status = put_all(sc, text->cp + done, text->at + done, text->n - done, false);
    wn_tk_find_done(&f);
    if (status == WINNOW_OK)
        swap(sc);
    return status;
}

static enum winnow_status prepend(const struct wn_tk_norm *norm, struct wn_tk_scratch *sc)
{
    if (!sc->text.n)
        return WINNOW_OK;
    WN_TRY(room_for(sc, sc->text.n + norm->n_content));
    WN_TRY(put_all(sc, norm->content, sc->text.at, norm->n_content, true));
    WN_TRY(put_all(sc, sc->text.cp, sc->text.at, sc->text.n, false));
    swap(sc);
    return WINNOW_OK;
}

static enum winnow_status bert(const struct wn_tk_norm *norm, struct wn_tk_scratch *sc)
{
    if (norm->clean)
        clean(&sc->text);
    if (norm->ideographs)
        WN_TRY(space_ideographs(sc));
    if (norm->accents) {
        WN_TRY(normal_form(sc, false, false));
        keep(&sc->text, WN_UC_NONSPACING);
    }
    return norm->lower ? lowercase(sc) : WINNOW_OK;
}

enum winnow_status wn_tk_normalize(const struct wn_tk_norm *norms, size_t n, struct wn_tk_scratch *sc)
{
    for (size_t i = 0; i < n; i++) {
        const struct wn_tk_norm *norm = &norms[i];
        enum winnow_status status = WINNOW_OK;
        switch (norm->kind) {
        case WN_TK_BERT:
            status = bert(norm, sc);
            break;
        case WN_TK_LOWERCASE:
            status = lowercase(sc);
            break;
        case WN_TK_STRIP_ACCENTS:
            keep(&sc->text, WN_UC_MARK);
            break;
        case WN_TK_NFC:
        case WN_TK_NFKC:
            status = normal_form(sc, norm->kind == WN_TK_NFKC, true);
            break;
        case WN_TK_NFD:
        case WN_TK_NFKD:
            status = normal_form(sc, norm->kind == WN_TK_NFKD, false);
            break;
        case WN_TK_REPLACE:
            status = replace(norm, sc);
            break;
        case WN_TK_PREPEND:
            status = prepend(norm, sc);
            break;
        case WN_TK_STRIP:
            strip(&sc->text, norm->clean, norm->lower);
            break;
        }
        WN_TRY(status);
    }
    return WINNOW_OK;
}
