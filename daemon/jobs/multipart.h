/* multipart.h: multipart/form-data read as it comes, in constant memory.
 *
 * Source: RFC 7578 (form data), RFC 2046 5.1.1 (boundaries). Nested multiparts, Content-Transfer-Encoding other than
 * binary, 8bit and 7bit, and folded header lines are refused: no client of forms sends them. */
#ifndef WN_MULTIPART_H
#define WN_MULTIPART_H

#include "base/base.h"

#define WN_MULTIPART_MAX_BOUNDARY 70   /* RFC 2046 */
#define WN_MULTIPART_MAX_HEADERS  4096 /* bytes of one part's head */
#define WN_MULTIPART_MAX_PARTS    64
#define WN_MULTIPART_MAX_NAME     256

/** One part's head: strings live during the call. */
struct wn_part {
    const char *name;     /* of the form's field */
    const char *filename; /* last path component; NULL: a plain field */
};

/** What the parser finds; a call that does not return WINNOW_OK ends the parsing with its status. */
struct wn_part_sink {
    enum winnow_status (*begin)(void *arg, const struct wn_part *part, struct winnow_err *err);
    enum winnow_status (*data)(void *arg, const void *bytes, size_t n, struct winnow_err *err);
    enum winnow_status (*end)(void *arg, struct winnow_err *err);
    void *arg;
};

struct wn_multipart {
    struct wn_part_sink sink;
    int state;
    unsigned parts, level; /* level: bytes of `mark` seen so far */
    size_t mark_n, head_n;
    char mark[WN_MULTIPART_MAX_BOUNDARY + 5]; /* CR LF - - boundary */
    char head[WN_MULTIPART_MAX_HEADERS + 1];
};

/** Start: `content_type` is the header's value (`n` bytes).
 *  @return E_MALFORMED: no multipart/form-data with a boundary of 1 … 70 allowed characters */
WINNOW_MUST_USE enum winnow_status wn_multipart_init(struct wn_multipart *m, const char *content_type, size_t n,
                                                     const struct wn_part_sink *sink, struct winnow_err *err);
/** The next bytes. After a failure nothing more may be fed. E_MALFORMED, E_TOO_LARGE (head, parts), or the sink's. */
WINNOW_MUST_USE enum winnow_status wn_multipart_feed(struct wn_multipart *m, const void *bytes, size_t n,
                                                     struct winnow_err *err);
/** The body is over: E_MALFORMED when the closing boundary has not come. */
WINNOW_MUST_USE enum winnow_status wn_multipart_finish(const struct wn_multipart *m, struct winnow_err *err);

#endif
