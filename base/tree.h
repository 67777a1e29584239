/* tree.h: folders: make, copy one file into, take away. */
#ifndef WN_TREE_H
#define WN_TREE_H

#include "base/base.h"

/** Make the folder `path` and those above it, mode 0777 less the umask. One that is there already is fine. */
WINNOW_MUST_USE enum winnow_status wn_tree_make(const char *path, struct winnow_err *err);
/** Copy the regular file `from` (not a link) to the new file `to` and fsync it; `to` must not exist and is removed on
 *  failure. The name is not made durable: wn_dir_sync() the folder after the last copy.
 *  @param max_bytes  a longer file is E_TOO_LARGE; 0 = no limit
 *  @return E_NOT_FOUND, E_DENIED, E_TOO_LARGE, E_NO_SPACE, E_IO */
WINNOW_MUST_USE enum winnow_status wn_tree_copy_file(const char *from, const char *to, uint64_t max_bytes,
                                                     struct winnow_err *err);
/** wn_tree_copy_file() of what is open as `in`, from where it stands; `from` is how messages call it. */
WINNOW_MUST_USE enum winnow_status wn_tree_copy_fd(int in, const char *from, const char *to, uint64_t max_bytes,
                                                   struct winnow_err *err);
/** Remove `path` and all below it; links are removed, never followed. Not there: fine. At most 64 levels deep. */
WINNOW_MUST_USE enum winnow_status wn_tree_remove(const char *path, struct winnow_err *err);

#endif
