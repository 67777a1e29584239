/* labels.h: names of an output's classes, from the file that config.pbtxt names (output { label_filename }). */
#ifndef WN_LABELS_H
#define WN_LABELS_H

#include "base/base.h"

/** One output's labels; zero-initialise. */
struct wn_labels {
    char *text;        /* the file; lines end in NUL */
    const char **line; /* [n] into it */
    size_t n;
};

/** Read `path`: one label a line, at most 1 MiB and 65536 lines; blanks at the end of a line and empty lines at the end
 * of the file are left out. E_NOT_FOUND, E_IO, E_TOO_LARGE, E_MALFORMED (a NUL, too many), E_NOMEM. */
WINNOW_MUST_USE enum winnow_status wn_labels_read(const char *path, struct wn_labels *ret, struct winnow_err *err);
void wn_labels_done(struct wn_labels *labels);

#endif
