/* text.c: code points and the bytes they came from. */
#include <stdlib.h>
#include <string.h>
#include "pipeline/tok/tok.h"
#include "pipeline/tok/unicode.h"

bool wn_tk_text_reserve(struct wn_tk_text *text, size_t want)
{
    if (want < text->room) /* at least one, so that there always is an array */
        return true;
    if (text->most && want > text->most)
        return false;
    size_t room = WN_MAX(want + 64, text->room + text->room / 2);
    uint32_t *cp = realloc(text->cp, room * sizeof *cp);
    text->cp = cp ? cp : text->cp;
    struct wn_tk_span *at = cp ? realloc(text->at, room * sizeof *at) : NULL;
    text->at = at ? at : text->at;
    if (!at)
        return false;
    text->room = room;
    return true;
}

enum winnow_status wn_tk_text_full(const struct wn_tk_text *text, struct winnow_err *err, size_t want)
{
    if (text->most && want > text->most)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "the tokenizer makes more than %zu characters of the text", text->most);
    return wn_fail(err, WINNOW_E_NOMEM, "text of %zu characters", want);
}

void wn_tk_text_done(struct wn_tk_text *text)
{
    free(text->cp);
    free(text->at);
    *text = (struct wn_tk_text){ 0 };
}

enum winnow_status wn_tk_text_decode(struct wn_tk_text *text, struct wn_text bytes, struct winnow_err *err)
{
    text->n = 0;
    if (!wn_tk_text_reserve(text, bytes.n))
        return wn_tk_text_full(text, err, bytes.n);
    const unsigned char *s = (const unsigned char *)bytes.at;
    uint32_t *to = text->cp;
    struct wn_tk_span *at = text->at;
    for (size_t i = 0; i < bytes.n;) {
        unsigned len = s[i] < 0x80 ? (*to = s[i], 1) : wn_utf8_get(s + i, bytes.n - i, to);
        to++;
        *at++ = (struct wn_tk_span){ (uint32_t)i, (uint32_t)(i + len) };
        i += len;
    }
    text->n = (size_t)(to - text->cp);
    return WINNOW_OK;
}
