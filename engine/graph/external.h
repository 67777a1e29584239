/* external.h: tensor data that lies in files beside the model (external data, docs/ExternalData.md of onnx/onnx).
 * Private to engine/graph. */
#ifndef WN_EXTERNAL_H
#define WN_EXTERNAL_H

#include "base/vec.h"
#include "engine/graph/onnx_scan.h"

#define WN_EXTERNAL_FILES 4096 /* that one model may name: a file per tensor is common in old exports */

/** Where such files may lie, and the one that is open: tensors of one file mostly come one after the other. */
struct wn_external {
    const char *folder; /* NULL: external data is refused */
    int dir;            /* the folder, once it is needed; else -1 */
    int file;           /* the file that was read last, or -1 */
    const char *name;   /* of that file, in the model's arena */
    uint64_t size;      /* of that file */
    size_t left;        /* bytes that may still be read in all */
    struct wn_graph *g; /* whose list `external` names every file once */
};

void wn_external_init(struct wn_external *x, const char *folder, size_t max_bytes, struct wn_graph *g);
void wn_external_done(struct wn_external *x);
/** Open the file `location` in place of the one that is open. It is opened one name at a time without following links,
 *  so it cannot lie outside the folder, whatever changes meanwhile; it must be a regular file with one name.
 *  @return E_MALFORMED (a place outside the folder, a link, no regular file), E_NOT_FOUND, E_DENIED, E_IO */
enum winnow_status wn_external_open(struct wn_external *x, const char *location, struct winnow_err *err);
/** wn_external_open() of the file in which `proto` says that its n bytes lie, and check that they do.
 *  @return E_MALFORMED (a place outside the folder or the file, another length), E_UNSUPPORTED (no folder),
 * E_NOT_FOUND, E_TOO_LARGE, E_DENIED, E_IO */
enum winnow_status wn_external_find(struct wn_external *x, const Onnx__TensorProto *proto, size_t n,
                                    uint64_t *ret_offset, struct winnow_err *err);
/** Read what was found. @return E_IO, also where the file has become shorter */
enum winnow_status wn_external_fill(struct wn_external *x, uint64_t offset, void *data, size_t n,
                                    struct winnow_err *err);

/** Names of files, in an arena of their own. Zero-initialise, then wn_arena_init(). */
struct wn_names {
    struct wn_arena arena;
    WN_VEC(const char *) list;
};
void wn_names_done(struct wn_names *names);
/** Every place that a tensor of the ONNX file open as `fd` names, each once and unchecked; a superset of what a reader
 *  opens. Bounded in depth and in names; 64 KiB of memory and time linear in what is no tensor data.
 *  @return E_MALFORMED (no protobuf, a name that is none), E_TOO_LARGE, E_NOMEM, E_IO */
enum winnow_status wn_external_names(int fd, struct wn_names *names, struct winnow_err *err);

#endif
