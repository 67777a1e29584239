/* post.c: what is left after truncation, with special tokens round it. */
#include <stdlib.h>
#include <string.h>
#include "pipeline/tok/tok.h"
#include "pipeline/tok/unicode.h"

/* ---- how many tokens of each text stay ---- */
static enum winnow_status lengths(const struct wn_tk_truncation *how, size_t added, bool pair, size_t n[2],
                                  struct winnow_err *err)
{
    if (how->max_length < added)
        return wn_fail(err, WINNOW_E_MALFORMED, "max_length %zu has no room for the %zu special tokens",
                       how->max_length, added);
    size_t room = how->max_length - added, total = n[0] + n[1];
    if (total <= room)
        return WINNOW_OK;
    if (!room) {
        n[0] = n[1] = 0;
    } else if (how->strategy != WN_TK_LONGEST_FIRST) {
        unsigned which = how->strategy == WN_TK_ONLY_SECOND;
        if (which && !pair)
            return wn_fail(err, WINNOW_E_MALFORMED, "truncation is only_second, and there is no second text");
        if (n[which] <= total - room)
            return wn_fail(err, WINNOW_E_MALFORMED, "the %s text is too short to be cut to %zu tokens together",
                           which ? "second" : "first", how->max_length);
        n[which] -= total - room;
    } else if (!pair) {
        n[0] = room;
    } else {
        size_t less = WN_MIN(n[0], n[1]), more = less > room ? less : WN_MAX(less, room - less);
        if (less + more > room) {
            less = room / 2;
            more = less + room % 2;
        }
        unsigned shorter = n[0] > n[1];
        n[shorter] = WN_MIN(n[shorter], less);
        n[!shorter] = WN_MIN(n[!shorter], more);
    }
    return WINNOW_OK;
}

/* ---- offsets without the spaces at a token's ends ---- */

/* Start of the character that ends before `at` (> 0). A first byte of UTF-8 always begins a character or an invalid
 * part, so it is enough to look for one that reaches as far as `at`. */
static uint32_t back(struct wn_text text, uint32_t at)
{
    const unsigned char *s = (const unsigned char *)text.at;
    uint32_t cp;
    for (uint32_t k = 2; k <= 4 && k <= at; k++)
        if (s[at - k] >= 0xC2 && wn_utf8_get(s + at - k, text.n - (at - k), &cp) == k)
            return at - k;
    return at - 1;
}

static void trim(struct wn_tk_token *token, bool first, bool prefix_space, struct wn_text text)
{
    uint32_t lead = token->lead, cp;
    struct wn_tk_span *at = &token->at;
    if ((first || at->from == 0) && prefix_space && lead == 1)
        lead = 0; /* the space that was put there */
    for (; lead && at->from < at->to; lead--)
        at->from += wn_utf8_get((const unsigned char *)text.at + at->from, text.n - at->from, &cp);
    at->from = WN_MIN(at->from, at->to);
    uint32_t to = at->to, left = token->trail;
    for (; left && to; left--)
        to = back(text, to);
    if (!left)
        at->to = WN_MAX(to, at->from);
}

/* ---- the result ---- */
static bool reserve(struct wn_tokens *ret, size_t want)
{
    if (want <= ret->room)
        return true;
    size_t room = want + want / 2 + 16;
    int32_t *id = realloc(ret->id, room * sizeof *id);
    ret->id = id ? id : ret->id;
    uint8_t *type = id ? realloc(ret->type, room) : NULL;
    ret->type = type ? type : ret->type;
    uint32_t(*offset)[2] = type ? realloc(ret->offset, room * sizeof *offset) : NULL;
    ret->offset = offset ? offset : ret->offset;
    if (offset)
        ret->room = room;
    return offset;
}

static void put(struct wn_tokens *ret, int32_t id, uint8_t type, struct wn_tk_span at)
{
    ret->id[ret->n] = id;
    ret->type[ret->n] = type;
    ret->offset[ret->n][0] = at.from;
    ret->offset[ret->n++][1] = at.to;
}

enum winnow_status wn_tk_post(const struct wn_tokenizer *t, struct wn_tk_scratch *sc, const struct wn_text *texts,
                              size_t max_length, struct wn_tokens *ret)
{
    bool pair = sc->second != SIZE_MAX;
    const struct wn_tk_template *form = &t->post.form[pair];
    size_t all[2] = { pair ? sc->second : sc->tokens.n, pair ? sc->tokens.n - sc->second : 0 };
    size_t n[2] = { all[0], all[1] };
    struct wn_tk_truncation how = { .set = max_length > 0, .max_length = max_length };
    if (!max_length)
        how = t->truncation;
    if (how.set)
        WN_TRY(lengths(&how, form->added, pair, n, sc->err));
    struct wn_tk_token *first[2] = { sc->tokens.at, pair ? sc->tokens.at + sc->second : NULL };
    size_t want = form->added;
    for (unsigned k = 0; k < 2; k++) {
        if (how.left && first[k])
            first[k] += all[k] - n[k];
        for (unsigned s = 0; s < t->post.n_trims; s++)
            for (size_t i = 0; t->post.trim[s] && i < n[k]; i++)
                if (first[k][i].lead | first[k][i].trail)
                    trim(&first[k][i], i == 0, t->post.trim_prefix_space[s], texts[k]);
    }
    for (size_t i = 0; i < form->n; i++)
        want += form->step[i].sequence >= 0 ? n[form->step[i].sequence] : 0;
    if (!reserve(ret, want))
        return wn_fail(sc->err, WINNOW_E_NOMEM, "%zu tokens", want);
    ret->n = 0;
    for (size_t i = 0; i < form->n; i++) {
        const struct wn_tk_step *step = &form->step[i];
        if (step->sequence < 0)
            for (size_t k = 0; k < step->n_ids; k++)
                put(ret, step->id[k], step->type, (struct wn_tk_span){ 0, 0 });
        else
            for (size_t k = 0; k < n[step->sequence]; k++)
                put(ret, first[step->sequence][k].id, step->keep_type ? (uint8_t)step->sequence : step->type,
                    first[step->sequence][k].at);
    }
    return WINNOW_OK;
}
