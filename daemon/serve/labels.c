/* labels.c: see labels.h. */
#include "daemon/serve/labels.h"

#include <stdlib.h>
#include <string.h>
#include "base/file.h"

enum { MAX_LINES = 65536 };
#define FILE_MAX ((size_t)1 << 20)

void wn_labels_done(struct wn_labels *labels)
{
    free(labels->text);
    free(labels->line);
    *labels = (struct wn_labels){ 0 };
}

static bool blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static enum winnow_status split(const char *path, struct wn_labels *l, struct winnow_err *err)
{
    for (char *p = l->text; *p;) {
        char *end = strchrnul(p, '\n'), *next = *end ? end + 1 : end;
        while (end > p && blank(end[-1]))
            end--;
        *end = '\0';
        if (l->n == MAX_LINES)
            return wn_fail(err, WINNOW_E_MALFORMED, "%s: more than %d labels", path, MAX_LINES);
        l->line[l->n++] = p;
        p = next;
    }
    return WINNOW_OK;
}

enum winnow_status wn_labels_read(const char *path, struct wn_labels *ret, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) void *bytes = NULL;
    struct wn_labels l = { 0 };
    size_t n, lines = 1;
    WN_TRY(wn_file_read(path, FILE_MAX, &bytes, &n, err));
    while (n && blank(((char *)bytes)[n - 1]))
        n--;
    if (memchr(bytes, '\0', n))
        return wn_fail(err, WINNOW_E_MALFORMED, "%s: a NUL in a label", path);
    l.text = strndup(bytes, n);
    for (const char *p = l.text; p && *p; p++)
        lines += *p == '\n';
    l.line = calloc(WN_MIN(lines, (size_t)MAX_LINES), sizeof *l.line);
    enum winnow_status status =
        l.text && l.line ? split(path, &l, err) : wn_fail(err, WINNOW_E_NOMEM, "labels of '%s'", path);
    if (status != WINNOW_OK)
        wn_labels_done(&l);
    else
        *ret = l;
    return status;
}
