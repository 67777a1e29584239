/* onnx_scan.h: what stands between a hostile file and protobuf-c, and tensor data out of the file's bytes.
 * Private to engine/graph/. */
#ifndef WN_ONNX_SCAN_H
#define WN_ONNX_SCAN_H

#include "engine/graph/onnx.h"
#include "engine/graph/onnx.pb-c.h"

/** The messages of a file without tensor data, unpacked. In every TensorProto of it, raw_data does not hold the
 *  tensor's data but a struct wn_onnx_span: where in the file the TensorProto's own bytes lie. */
struct wn_onnx_skeleton {
    Onnx__ModelProto *model;
    struct wn_onnx_heap *heap;
};

/** Bytes [off, off + len) of the file. */
struct wn_onnx_span {
    uint64_t off, len;
};

/** Limits with the zero fields replaced by their defaults. */
struct wn_onnx_limits wn_onnx_limits_or_default(const struct wn_onnx_limits *limits);
/** Check wire format, nesting, counts and strings of a serialized ModelProto, and unpack it without its tensor data.
 *  Iterative; time linear in n, memory below limits->max_skeleton. Strings are UTF-8 without NUL afterwards.
 *  @return E_MALFORMED, E_TOO_LARGE (a limit), E_NOMEM */
enum winnow_status wn_onnx_unpack(const uint8_t *bytes, size_t n, const struct wn_onnx_limits *limits,
                                  struct wn_onnx_skeleton *ret_skeleton, struct winnow_err *err);
void wn_onnx_skeleton_done(struct wn_onnx_skeleton *skeleton);

/** Where a tensor's data is: the model file's bytes, and files beside it. */
struct wn_onnx_source {
    const uint8_t *bytes;
    struct wn_external *external; /* external.h */
    bool consume;                 /* give `bytes` back as they are copied */
};
/** The tensor that `proto` (of a skeleton) describes, its data copied from the file's bytes, or from another file, into
 *  the arena, whose limit grows by what another file gives.
 *  @param what   how messages call it, e.g. "initializer"
 *  @return E_MALFORMED, E_UNSUPPORTED (element type, rank), E_NOMEM, what wn_external_find() returns; err names the
 *          tensor */
enum winnow_status wn_onnx_tensor(const struct wn_onnx_source *from, const Onnx__TensorProto *proto, const char *what,
                                  struct wn_arena *arena, const struct wn_tensor **ret_tensor, struct winnow_err *err);
/** The dense form of a sparse tensor; `*budget` bytes may be spent on dense forms and is lowered. */
enum winnow_status wn_onnx_sparse_tensor(const struct wn_onnx_source *from, const Onnx__SparseTensorProto *proto,
                                         const char *what, size_t *budget, struct wn_arena *arena,
                                         const struct wn_tensor **ret_tensor, struct winnow_err *err);

/** Length of `s` as it should stand in a message: at most 80 bytes, cut at a character. For "%.*s". */
int wn_onnx_clip(const char *s);
#define WN_CLIP(s) wn_onnx_clip(s), (s)

/* ---- the wire ---- */

/** One field read from the wire. */
struct wn_wire {
    uint32_t field;
    unsigned type;       /* 0 varint, 1 eight bytes, 2 length-delimited, 5 four bytes */
    uint64_t v;          /* varint or fixed value */
    const uint8_t *data; /* length-delimited: its bytes */
    size_t len;
};
/** Read the varint at *p (end: one past the last byte) and step over it; false when truncated or over-long. */
bool wn_wire_varint(const uint8_t **p, const uint8_t *end, uint64_t *ret);
/** Read the field at *p and step over it; false when it is no protobuf or truncated. */
bool wn_wire_next(const uint8_t **p, const uint8_t *end, struct wn_wire *ret);

#endif
