/* source.h: the files of an upload one by one, whatever it is: a zip, a tar (gzip or not) or a folder.
 *
 * Hostile input. Only regular files are handed out; a name is never used as a path. A link, device or FIFO is refused
 * by itself; an absolute name, `..`, too many entries, too many bytes or too high a ratio end the walk. */
#ifndef WN_SOURCE_H
#define WN_SOURCE_H

#include "base/base.h"

/** Bounds. Zero fields take the defaults. */
struct wn_source_limits {
    size_t max_entries;    /* 100 000 */
    size_t max_file_bytes; /* one file unpacked; 1 GiB */
    size_t max_bytes;      /* all files together; 4 GiB */
    unsigned max_ratio;    /* unpacked to packed, once `ratio_floor` bytes are unpacked; 100 */
    size_t ratio_floor;    /* 32 MiB */
    unsigned max_depth;    /* folders in folders; 16 */
};

#define WN_SOURCE_MAX_NAME 1024

/** What is done with the files; a failure ends the walk. `name` is relative, UTF-8, without empty, `.` or `..` parts
 *  and control characters; at most WN_SOURCE_MAX_NAME bytes. */
struct wn_source_sink {
    /** Before a file is unpacked; false leaves it out unread. May be NULL. */
    bool (*wants)(void *arg, const char *name);
    enum winnow_status (*file)(void *arg, const char *name, const void *bytes, size_t n, struct winnow_err *err);
    /** An entry that is not handed out, and why ("a symbolic link", …). */
    enum winnow_status (*refused)(void *arg, const char *name, const char *reason, struct winnow_err *err);
    void *arg;
};

/** Walk `path`. Folders are read in the order of their names, archives in their own order.
 *  @return E_NOT_FOUND, E_MALFORMED (not an archive, a broken one, a name that leaves it), E_TOO_LARGE (a limit; err
 *          says which), E_NOMEM, E_IO, or what the sink returned */
WINNOW_MUST_USE enum winnow_status wn_source_walk(const char *path, const struct wn_source_limits *limits,
                                                  const struct wn_source_sink *sink, struct winnow_err *err);
/** The same from memory (an archive). */
WINNOW_MUST_USE enum winnow_status wn_source_walk_memory(const void *bytes, size_t n,
                                                         const struct wn_source_limits *limits,
                                                         const struct wn_source_sink *sink, struct winnow_err *err);

/** Check and clean an entry's name into `ret` ("./A//b" -> "A/b"; "" for a folder's own name).
 *  @return E_MALFORMED: absolute, `..`, a backslash, control characters, not UTF-8, too long */
WINNOW_MUST_USE enum winnow_status wn_source_name(const char *name, char ret[WN_SOURCE_MAX_NAME + 1],
                                                  struct winnow_err *err);

#endif
