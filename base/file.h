/* file.h: whole files in, whole files out durably. */
#ifndef WN_FILE_H
#define WN_FILE_H

#include "base/base.h"

/** Read a regular file whole. It is opened without blocking, so a FIFO or device is refused, never waited for.
 *  @param max_bytes  a longer file is E_TOO_LARGE; 0 = no limit
 *  @param ret_bytes  malloc'ed, one NUL follows the contents (not counted); the caller frees. Set on success only
 *  @return WINNOW_OK, E_NOT_FOUND, E_DENIED, E_TOO_LARGE, E_NOMEM, E_IO (also: not a regular file); err names the path
 */
WINNOW_MUST_USE enum winnow_status wn_file_read(const char *path, size_t max_bytes, void **ret_bytes, size_t *ret_n,
                                                struct winnow_err *err);
/** Replace `path` by a file holding these bytes so that a crash leaves the old or the new one, never a part: written
 *  under a temporary name in the same folder, fsync, rename, fsync of the folder. Mode 0666 less the umask.
 *  @return WINNOW_OK, E_NOT_FOUND (no such folder), E_DENIED, E_NO_SPACE, E_NOMEM, E_IO; the temporary file is removed
 */
WINNOW_MUST_USE enum winnow_status wn_file_write_durable(const char *path, const void *bytes, size_t n,
                                                         struct winnow_err *err);
/** Bytes that stand somewhere. */
struct wn_piece {
    const void *p;
    size_t n;
};
/** wn_file_write_durable() of n pieces, one after the other. */
WINNOW_MUST_USE enum winnow_status wn_file_write_pieces(const char *path, const struct wn_piece *piece, size_t n,
                                                        struct winnow_err *err);
/** Make the names in a folder durable (fsync of the folder). "" means the current one. */
WINNOW_MUST_USE enum winnow_status wn_dir_sync(const char *path, struct winnow_err *err);
/** wn_dir_sync() of the folder that `path` lies in: to be called after a rename or unlink of `path`. */
WINNOW_MUST_USE enum winnow_status wn_dir_sync_parent(const char *path, struct winnow_err *err);
/** What tells one state of a file from another without reading it. */
struct wn_file_id {
    uint64_t dev, ino, size;
    int64_t mtime_ns, ctime_ns;
};
struct stat;
struct wn_file_id wn_file_id_of_stat(const struct stat *st);
/** Of the regular file `path`; *ret_ok is false, and the id zero, where there is none. */
struct wn_file_id wn_file_id_of(const char *path, bool *ret_ok);
bool wn_file_id_equal(const struct wn_file_id *a, const struct wn_file_id *b);
/** The folder that `path` lies in ("." where it names none); malloc'ed, NULL when out of memory. */
char *wn_file_folder(const char *path);

#endif
