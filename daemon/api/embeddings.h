/* embeddings.h: the bodies of POST /v1/embeddings, in OpenAI's shape.
 *
 * Source: OpenAI's API reference, "Create embeddings". */
#ifndef WN_API_EMBEDDINGS_H
#define WN_API_EMBEDDINGS_H

#include "base/arena.h"
#include "daemon/api/buf.h"
#include "pipeline/pipeline.h"
#include "winnow/winnow.h"

/** Inputs of one request; OpenAI's own limit. */
#define WN_EMBED_MAX_INPUTS 2048u

/** A request. Either texts or token ids. */
struct wn_embed {
    struct winnow_str model;
    struct wn_pipe_item *text; /* [n] or NULL */
    struct wn_pipe_ids *ids;   /* [n] or NULL: ids as they are, special ones included */
    size_t n;
    bool base64;
};

/** Read a body. Strings point into it or lie in `arena`.
 *  @param ret_param  on failure: the key at fault, or NULL
 *  @return E_MALFORMED (also dimensions), E_TOO_LARGE (inputs), E_NOMEM */
WINNOW_MUST_USE enum winnow_status wn_embed_read(const void *body, size_t n, struct wn_arena *arena,
                                                 struct wn_embed *ret, const char **ret_param, struct winnow_err *err);
/** Write the answer: `vector` (n, dim). */
void wn_embed_write(const struct wn_embed *e, const float *vector, size_t dim, uint64_t tokens, struct wn_buf *to);

#endif
