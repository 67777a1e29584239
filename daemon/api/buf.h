/* buf.h: bytes being written: a response body. Growing fails quietly and is asked for once, at the end. */
#ifndef WN_API_BUF_H
#define WN_API_BUF_H

#include <stdlib.h>
#include <string.h>
#include "base/base.h"
#include "base/vec.h"

/** Zero-initialise. `failed`: out of memory; what was written since is lost. */
struct wn_buf {
    char *at;
    size_t n, cap;
    bool failed;
};

/** Room for `n` more bytes at the end, or NULL when out of memory (`failed` is set). Add to `n` what was used. */
static inline char *wn_buf_room(struct wn_buf *b, size_t n)
{
    size_t want;
    if (b->failed || !wn_add_size(b->n, n, &want) ||
        (want > b->cap && !wn_vec_grow((void *)&b->at, &b->cap, want, 1))) {
        b->failed = true;
        return NULL;
    }
    return b->at + b->n;
}

static inline void wn_buf_add(struct wn_buf *b, const void *p, size_t n)
{
    char *to = n ? wn_buf_room(b, n) : NULL;
    if (to) {
        memcpy(to, p, n);
        b->n += n;
    }
}

static inline void wn_buf_text(struct wn_buf *b, const char *text)
{
    wn_buf_add(b, text, strlen(text));
}

static inline void wn_buf_char(struct wn_buf *b, char c)
{
    wn_buf_add(b, &c, 1);
}

/** Formatted text of any length. */
__attribute__((format(printf, 2, 3))) void wn_buf_printf(struct wn_buf *b, const char *fmt, ...);
/** `n` bytes as a JSON string with its quotes; bytes that are not UTF-8 become U+FFFD. */
void wn_buf_json_string(struct wn_buf *b, const char *s, size_t n);

static inline void wn_buf_done(struct wn_buf *b)
{
    free(b->at);
    *b = (struct wn_buf){ 0 };
}

#endif
