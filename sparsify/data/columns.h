/* columns.h: which column of a CSV file, or key of a JSON line, is the text, its pair, the label. */
#ifndef WN_COLUMNS_H
#define WN_COLUMNS_H

#include "base/base.h"

#define WN_COLUMNS_MAX_TEXT 8

/** What a job says. Names are compared exactly. Nothing said (n_text 0, label NULL): guessed from the names. */
struct wn_columns {
    const char *text[WN_COLUMNS_MAX_TEXT];
    unsigned n_text;  /* several are joined */
    const char *join; /* between them; NULL: ". " */
    const char *pair, *label;
};

/** Settled for one file: indices into its names. */
struct wn_columns_at {
    unsigned text[WN_COLUMNS_MAX_TEXT], n_text, label;
    int pair; /* -1: none */
    bool guessed;
};

/** Settle `c` for a file that has the columns `name` [n]. What is not said is guessed: text, sentence, …; title with
 *  description; label, category, ….
 *  @return E_MALFORMED naming what is missing, and the columns that are there; or a name that two columns have */
WINNOW_MUST_USE enum winnow_status wn_columns_settle(const struct wn_columns *c, const char *const *name, unsigned n,
                                                     struct wn_columns_at *ret, struct winnow_err *err);

#endif
