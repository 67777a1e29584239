/* csv.c: a state machine over bytes; a record's fields lie one behind the other in one buffer. */
#include "sparsify/data/csv.h"

#include <stdlib.h>
#include <string.h>
#include "base/vec.h"

struct wn_csv {
    char separator;
    size_t max_record;
    unsigned max_fields;
    wn_csv_fn *fn;
    void *arg;
    enum {
        AT_START, /* of a field */
        PLAIN,    /* in a field without quotes */
        QUOTED,   /* in quotes */
        CLOSED,   /* behind a quote in a quoted field: the field's end, or half of two quotes */
    } state;
    bool after_cr;       /* an LF that comes next belongs to the CR */
    bool any;            /* the record has something: a separator, a quote or text */
    uint64_t line;       /* of the next byte */
    uint64_t start;      /* line of the record */
    uint64_t quote_line; /* where the open quote is */
    const char *fault;
    WN_VEC(char) text;
    WN_VEC(size_t) end; /* of each field in text */
    WN_VEC(struct wn_csv_field) field;
};

enum winnow_status wn_csv_new(char separator, const struct wn_csv_limits *limits, wn_csv_fn *fn, void *arg,
                              struct wn_csv **ret, struct winnow_err *err)
{
    struct wn_csv *csv = calloc(1, sizeof *csv);
    if (!csv)
        return wn_fail(err, WINNOW_E_NOMEM, "CSV");
    csv->separator = separator;
    csv->max_record = limits && limits->max_record ? limits->max_record : (size_t)1 << 20;
    csv->max_fields = limits && limits->max_fields ? limits->max_fields : 1024;
    csv->fn = fn;
    csv->arg = arg;
    csv->line = csv->start = 1;
    *ret = csv;
    return WINNOW_OK;
}

void wn_csv_free(struct wn_csv *csv)
{
    if (!csv)
        return;
    wn_vec_done(&csv->text);
    wn_vec_done(&csv->end);
    wn_vec_done(&csv->field);
    free(csv);
}

static enum winnow_status nomem(struct winnow_err *err)
{
    return wn_fail(err, WINNOW_E_NOMEM, "a record of CSV");
}

static enum winnow_status add_byte(struct wn_csv *csv, char c, struct winnow_err *err)
{
    csv->any = true;
    if (csv->fault)
        return WINNOW_OK;
    if (csv->text.n == csv->max_record) {
        csv->fault = "a row of too many bytes";
        return WINNOW_OK;
    }
    return wn_vec_push(&csv->text, c) ? WINNOW_OK : nomem(err);
}

static enum winnow_status end_field(struct wn_csv *csv, struct winnow_err *err)
{
    csv->state = AT_START;
    if (csv->end.n == csv->max_fields)
        csv->fault = csv->fault ? csv->fault : "a row of too many fields";
    if (csv->fault)
        return WINNOW_OK;
    return wn_vec_push(&csv->end, csv->text.n) ? WINNOW_OK : nomem(err);
}

static enum winnow_status end_record(struct wn_csv *csv, struct winnow_err *err)
{
    enum winnow_status status = WINNOW_OK;
    if (csv->any) {
        WN_TRY(end_field(csv, err));
        csv->field.n = 0;
        size_t from = 0;
        for (size_t i = 0; i < csv->end.n; i++) {
            if (!wn_vec_push(&csv->field,
                             (struct wn_csv_field){ csv->text.at ? csv->text.at + from : "", csv->end.at[i] - from }))
                return nomem(err);
            from = csv->end.at[i];
        }
        const struct wn_csv_record r = { csv->start, csv->field.at, (unsigned)csv->field.n, csv->fault };
        status = csv->fn(csv->arg, &r);
    }
    csv->state = AT_START;
    csv->any = false;
    csv->fault = NULL;
    csv->text.n = csv->end.n = 0;
    return status;
}

static enum winnow_status outside_quotes(struct wn_csv *csv, char c, struct winnow_err *err)
{
    if (c == csv->separator) {
        csv->any = true;
        return end_field(csv, err);
    }
    if (c == '\n' || c == '\r') {
        csv->after_cr = c == '\r';
        enum winnow_status status = end_record(csv, err);
        csv->start = csv->line + 1;
        return status;
    }
    if (csv->state == CLOSED && c != '"') {
        csv->fault = csv->fault ? csv->fault : "text behind a closing quote";
        csv->state = PLAIN;
        return WINNOW_OK;
    }
    if (c == '"' && csv->state == AT_START) {
        csv->any = true;
        csv->state = QUOTED;
        csv->quote_line = csv->line;
        return WINNOW_OK;
    }
    if (c == '"' && csv->state == CLOSED) { /* two quotes are one */
        csv->state = QUOTED;
        return add_byte(csv, c, err);
    }
    if (c == '"')
        csv->fault = csv->fault ? csv->fault : "a quote within a field that is not in quotes";
    csv->state = PLAIN;
    return add_byte(csv, c, err);
}

enum winnow_status wn_csv_feed(struct wn_csv *csv, const void *bytes, size_t n, struct winnow_err *err)
{
    const char *s = bytes;
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        bool joined = csv->after_cr && c == '\n';
        csv->after_cr = false;
        if (joined) {
            /* the second half of a line end: the line was counted at its first */
        } else if (csv->state != QUOTED) {
            WN_TRY(outside_quotes(csv, c, err));
        } else if (c == '"') {
            csv->state = CLOSED;
        } else {
            WN_TRY(add_byte(csv, c, err));
        }
        /* within quotes a CR is text; only its LF, or an LF alone, counts */
        csv->line += !joined && (c == '\n' || (c == '\r' && csv->state != QUOTED));
    }
    return WINNOW_OK;
}

enum winnow_status wn_csv_finish(struct wn_csv *csv, struct winnow_err *err)
{
    if (csv->state == QUOTED)
        return wn_fail(err, WINNOW_E_MALFORMED, "line %llu: a quote is opened here and never closed",
                       (unsigned long long)csv->quote_line);
    return end_record(csv, err);
}

char wn_csv_guess_separator(const char *bytes, size_t n)
{
    static const char candidates[] = { ',', ';', '\t' };
    size_t count[3] = { 0 }, best = 0;
    bool quoted = false;
    for (size_t i = 0; i < n && (quoted || (bytes[i] != '\n' && bytes[i] != '\r')); i++) {
        quoted ^= bytes[i] == '"';
        for (size_t k = 0; k < WN_COUNT(candidates) && !quoted; k++)
            count[k] += bytes[i] == candidates[k];
    }
    for (size_t k = 1; k < WN_COUNT(candidates); k++)
        best = count[k] > count[best] ? k : best;
    return candidates[best];
}
