/* csv.h: CSV, piece by piece: records with their lines.
 *
 * Source: RFC 4180, with LF, CRLF or CR at the end of a record, and any separator. Quotes within a field that does not
 * start with one, and text behind a closing quote, make the record faulty; the next one is read as usual. */
#ifndef WN_CSV_H
#define WN_CSV_H

#include "base/base.h"

struct wn_csv_field {
    const char *at; /* not terminated; may hold anything, also NUL and what is not UTF-8 */
    size_t n;
};
struct wn_csv_record {
    uint64_t line; /* where it starts, from 1 */
    const struct wn_csv_field *field;
    unsigned n;
    const char *fault; /* why it cannot be used; NULL: it can. Its fields are then not complete */
};
/** A record; valid during the call. A failure ends the reading. Lines without anything are not handed out. */
typedef enum winnow_status wn_csv_fn(void *arg, const struct wn_csv_record *record);

/** Bounds. Zero fields take the defaults. */
struct wn_csv_limits {
    size_t max_record;   /* bytes of a record's fields together; 1 MiB */
    unsigned max_fields; /* 1024 */
};

/** A reader. One thread. */
struct wn_csv;
WINNOW_MUST_USE enum winnow_status wn_csv_new(char separator, const struct wn_csv_limits *limits, wn_csv_fn *fn,
                                              void *arg, struct wn_csv **ret, struct winnow_err *err);
/** The next bytes, in pieces of any size. @return E_NOMEM, or what `fn` returned */
WINNOW_MUST_USE enum winnow_status wn_csv_feed(struct wn_csv *csv, const void *bytes, size_t n, struct winnow_err *err);
/** The end: hands out a last record without a line end.
 *  @return E_MALFORMED when a quote is open (err says since which line): everything behind it was lost */
WINNOW_MUST_USE enum winnow_status wn_csv_finish(struct wn_csv *csv, struct winnow_err *err);
/** NULL is fine. */
void wn_csv_free(struct wn_csv *csv);

/** The separator that a first line speaks for: the commonest of ',', ';' and tab outside of quotes; ',' for none. */
char wn_csv_guess_separator(const char *bytes, size_t n);

#endif
