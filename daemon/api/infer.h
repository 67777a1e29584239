/* infer.h: an inference request and its response, whichever wire they use.
 *
 *   bytes -> (infer_json.c | infer_pb.c | raw) -> struct wn_infer -> bind.c: the model's inputs -> wn_serve_submit()
 *         -> bind.c: struct wn_infer_out -> (infer_json.c | infer_pb.c) -> bytes */
#ifndef WN_API_INFER_H
#define WN_API_INFER_H

#include "base/arena.h"
#include "daemon/api/buf.h"
#include "daemon/serve/serve.h"

/** Bounds on one request. */
enum {
    WN_INFER_MAX_TENSORS = 256, /* inputs, and requested outputs */
    WN_INFER_MAX_PARAMS = 256,  /* parameters of a request or a tensor */
    WN_INFER_MAX_DEPTH = 100,   /* nesting of JSON */
};

/** A tensor as the client sent it. `data` may lie in the body, unaligned; BYTES: struct winnow_str[count]. */
struct wn_infer_in {
    struct winnow_str name;
    enum winnow_dtype dtype;
    unsigned rank;
    int64_t shape[WINNOW_MAX_RANK];
    const void *data;
    size_t bytes;
    bool base64; /* BYTES elements are base64 text ("parameters": {"content_type": "base64"}) */
};

/** An output the client asked for. */
struct wn_infer_want {
    struct winnow_str name;
    int binary;      /* 0, 1, or -1: not said */
    int64_t classes; /* classification extension; 0 = not asked for */
};

struct wn_infer {
    struct wn_arena *arena; /* the request's */
    struct winnow_str model, version, id;
    struct wn_infer_in *in;
    unsigned n_in;
    struct wn_infer_want *want; /* none: all outputs */
    unsigned n_want;
    int binary_output; /* request-wide; as wn_infer_want.binary */
    uint64_t timeout_us;
    int64_t top_k;    /* classes in "label" and "score"; 0 = not said */
    uint32_t *used;   /* [rows] tokens of each text, once bound; NULL without texts */
    uint32_t *length; /* [rows] of each text with its own padding, likewise (struct wn_pipe_batch) */
};

/** Read the JSON form, with the blobs of the binary extension behind it.
 *  @param json_n  bytes of JSON at the start of the body; the rest are blobs
 *  @return E_MALFORMED naming what is wrong, E_TOO_LARGE, E_UNSUPPORTED, E_NOMEM */
WINNOW_MUST_USE enum winnow_status wn_infer_read_json(const void *body, size_t n, size_t json_n, struct wn_infer *ret,
                                                      struct winnow_err *err);
/** Read a ModelInferRequest. Slices point into `message`. As above. */
WINNOW_MUST_USE enum winnow_status wn_infer_read_pb(const void *message, size_t n, struct wn_infer *ret,
                                                    struct winnow_err *err);
/** Check a tensor's shape (from outside) against its data: element count and bytes without overflow, BYTES split into
 *  elements (each 4 bytes of length, little endian, and its bytes). Used for raw data. */
WINNOW_MUST_USE enum winnow_status wn_infer_take_raw(struct wn_infer *req, struct wn_infer_in *in, const void *data,
                                                     size_t n, struct winnow_err *err);

/** Room for one more tensor or wanted output at the end of the array; NULL when there are too many. */
struct wn_infer_in *wn_infer_add_in(struct wn_infer *req, struct winnow_err *err);
struct wn_infer_want *wn_infer_add_want(struct wn_infer *req, struct winnow_err *err);

/** Turn a request into tensors in the model's order; raw items go through the pipeline (slow: see
 *  wn_infer_is_slow()).
 *  @param ret  [n_inputs of the model] data in `req->arena` or in the body
 *  @param ret_rows  rows of a model with independent rows, else 1 */
WINNOW_MUST_USE enum winnow_status wn_infer_bind(struct wn_infer *req, const struct wn_gen *gen,
                                                 struct winnow_tensor *ret, int64_t *ret_rows, struct winnow_err *err);
/** Whether the request brings raw items (pictures, texts) for the pipeline. */
bool wn_infer_has_raw(const struct wn_infer *req, const struct wn_gen *gen);
/** Whether binding takes milliseconds, so that a worker must do it: pictures, long texts. */
bool wn_infer_is_slow(const struct wn_infer *req, const struct wn_gen *gen);
/** What a pipeline made, as the model's inputs: ret[model input]. */
void wn_infer_take_batch(const struct wn_pipe_batch *batch, struct winnow_tensor *ret);

/** One output of a response. */
struct wn_infer_out {
    const char *name;
    struct winnow_tensor t; /* STRING: struct winnow_str[count] */
    bool binary;
};
/** The outputs a request asked for, from a finished job's tensors: the model's own, "label" and "score" or the
 *  embedding of a pipeline,
 *  classifications. E_NOT_FOUND becomes E_MALFORMED: an output that does not exist is the client's mistake.
 *  @param ret  in `req->arena` */
WINNOW_MUST_USE enum winnow_status wn_infer_outputs(struct wn_infer *req, const struct wn_gen *gen,
                                                    const struct winnow_tensor *outputs, struct wn_infer_out **ret,
                                                    unsigned *ret_n, struct winnow_err *err);
/** Check before running that every wanted output exists. */
WINNOW_MUST_USE enum winnow_status wn_infer_check_wants(const struct wn_infer *req, const struct wn_gen *gen,
                                                        struct winnow_err *err);

/** Write the JSON form; blobs of binary outputs follow. `ret_json_n`: length of the JSON part. */
void wn_infer_write_json(const struct wn_infer *req, const struct wn_gen *gen, const struct wn_infer_out *out,
                         unsigned n_out, struct wn_buf *to, size_t *ret_json_n);
/** Append a ModelInferResponse with raw_output_contents. */
void wn_infer_write_pb(const struct wn_infer *req, const struct wn_gen *gen, const struct wn_infer_out *out,
                       unsigned n_out, struct wn_buf *to);
/** Make of a ModelInferResponse behind 5 bytes of room a ModelStreamInferResponse, with what made it in parameters. */
struct wn_req;
void wn_stream_wrap(const struct wn_req *msg, struct wn_buf *frame);
/** Bytes of an output in raw form (BYTES with their lengths). */
size_t wn_infer_raw_size(const struct winnow_tensor *t);
void wn_infer_write_raw(const struct winnow_tensor *t, struct wn_buf *to);

#endif
