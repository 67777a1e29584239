/* onnx.h: ONNX files in and out of a graph.  Source: onnx/onnx docs/IR.md, onnx/onnx.proto3. */
#ifndef WN_ONNX_H
#define WN_ONNX_H

#include "engine/graph/graph.h"

/** Bounds on a hostile file. Zero fields take the defaults. */
struct wn_onnx_limits {
    size_t max_file_bytes; /* 2 GiB */
    size_t max_skeleton;   /* memory for the unpacked messages without tensor data; 256 MiB */
    unsigned max_depth;    /* nesting of messages; 64 */
    unsigned max_messages; /* sub-messages in the whole file; 1 000 000 */
    const char *folder;    /* below which tensors may lie in other files; NULL: such tensors are refused */
    size_t max_external;   /* bytes of tensors in other files; 16 GiB */
    bool consume;          /* the bytes lie in memory from malloc that nobody reads afterwards: it is given back to the
                              system while tensors are copied out of it, so that they are not there twice */
};

/** Read a serialized ModelProto. A pre-scan bounds depth and counts and cuts raw_data and big packed fields out before
 *  protobuf-c sees the rest; tensors are then copied from `bytes` into the arena, 64-byte aligned, in host order.
 *  Names are checked to be valid UTF-8 without NUL; shapes to be non-negative and not to overflow; data to have the
 *  length its shape demands; the graph to be acyclic with every value defined once. Nodes come sorted.
 *  `bytes` is not used after the call, and lost with limits->consume. `g` is initialised by the call; release with
 * wn_graph_done() on success only.
 *  @return WINNOW_OK, E_MALFORMED, E_UNSUPPORTED (a dtype we lack, external data without
 *          a folder), E_TOO_LARGE, E_NOMEM; of a file beside it also E_NOT_FOUND, E_DENIED, E_IO */
WINNOW_MUST_USE enum winnow_status wn_onnx_read(const void *bytes, size_t n, const struct wn_onnx_limits *limits,
                                                struct wn_arena *arena, struct wn_graph *g, struct winnow_err *err);
/** wn_onnx_read() of a file, read once into memory that is released before the call returns. Unless limits->folder says
 *  otherwise, tensors may lie in files in its folder and below. */
WINNOW_MUST_USE enum winnow_status wn_onnx_read_file(const char *path, const struct wn_onnx_limits *limits,
                                                     struct wn_arena *arena, struct wn_graph *g,
                                                     struct winnow_err *err);

/** Serialize a graph (no "wn" nodes in it) as a ModelProto. Constants used by nodes become initializers with raw_data.
 *  @param ret_bytes  malloc'ed, the caller frees */
WINNOW_MUST_USE enum winnow_status wn_onnx_write(const struct wn_graph *g, void **ret_bytes, size_t *ret_n,
                                                 struct winnow_err *err);
/** wn_onnx_write() into a file, durably: temporary name, fsync, rename, fsync of the folder. With `beside`, and where
 * one file would be larger than protobuf allows (2 GiB less a byte), initializers of 1 KiB and more go to PATH.data,
 * each at a multiple of 4096 (ONNX's external data), which is there before the model is: whatever had that name is
 * replaced. */
WINNOW_MUST_USE enum winnow_status wn_onnx_write_file(const struct wn_graph *g, const char *path, bool beside,
                                                      struct winnow_err *err);

#endif
