/* multipart.c: multipart/form-data read as it comes, in constant memory.
 *
 * DESIGN  The delimiter is CR LF "--" boundary. Only its first byte is a CR (a boundary may not hold one), so after a
 *         mismatch nothing before the present byte can start it again: bytes that looked like a delimiter are given out
 *         as data, and matching starts afresh at the present byte. The body may start with the delimiter without its
 *         CR LF: the state at the start counts them as seen. */
#include "daemon/jobs/multipart.h"

#include <string.h>
#include <strings.h>

enum {
    PREAMBLE,   /* before the first boundary: ignored */
    AFTER_MARK, /* behind a boundary: white space, then CR LF or -- */
    AFTER_CR,
    AFTER_DASH,
    HEAD, /* lines up to an empty one */
    DATA,
    EPILOGUE, /* behind the closing boundary: ignored */
};

/* ---- heads ---- */

/* Value of parameter `key` in "form-data; name=\"x\"; filename=\"y\"" (from `s` to `end`) into ret[room].
 * 1: found, 0: not there, -1: malformed or too long. */
static int parameter(const char *s, const char *end, const char *key, char *ret, size_t room)
{
    size_t key_n = strlen(key);
    int found = 0;
    while (s < end) {
        while (s < end && (*s == ' ' || *s == '\t' || *s == ';'))
            s++;
        const char *name = s;
        while (s < end && *s != '=' && *s != ';')
            s++;
        size_t name_n = (size_t)(s - name), n = 0;
        bool mine = name_n == key_n && strncasecmp(name, key, key_n) == 0;
        if (s == end || *s == ';')
            continue; /* a word without a value: the type itself */
        bool quoted = ++s < end && *s == '"';
        s += quoted;
        for (; s < end && (quoted ? *s != '"' : *s != ';' && *s != ' ' && *s != '\t'); s++) {
            if (quoted && *s == '\\' && s + 1 < end && (s[1] == '"' || s[1] == '\\'))
                s++;
            if (!mine)
                continue;
            if (n + 1 >= room || *s == '\0')
                return -1;
            ret[n++] = *s;
        }
        if (quoted && s++ == end)
            return -1;
        if (mine && found)
            return -1;
        if (mine) {
            ret[n] = '\0';
            found = 1;
        }
    }
    return found;
}

static bool starts(const char *s, const char *end, const char *with)
{
    size_t n = strlen(with);
    return (size_t)(end - s) >= n && strncasecmp(s, with, n) == 0;
}

/* "%22" stands for a quote and "%0A", "%0D" for line ends in names that browsers send. */
static void unescape(char *s)
{
    char *to = s;
    for (; *s; s++) {
        if (strncasecmp(s, "%22", 3) == 0) {
            *to++ = '"';
            s += 2;
        } else {
            *to++ = *s;
        }
    }
    *to = '\0';
}

static const char *last_component(const char *path)
{
    const char *last = path;
    for (; *path; path++)
        if (*path == '/' || *path == '\\')
            last = path + 1;
    return last;
}

struct head {
    bool disposition, has_file;
    char name[WN_MULTIPART_MAX_NAME], filename[WN_MULTIPART_MAX_NAME];
};

static enum winnow_status read_line(const char *line, const char *end, struct head *h, struct winnow_err *err)
{
    const char *colon = memchr(line, ':', (size_t)(end - line));
    if (!colon || colon == line || *line == ' ' || *line == '\t' || memchr(line, '\0', (size_t)(end - line)))
        return wn_fail(err, WINNOW_E_MALFORMED, "multipart: a part's header line is malformed");
    const char *v = colon + 1;
    while (v < end && (*v == ' ' || *v == '\t'))
        v++;
    if (starts(line, colon, "content-transfer-encoding") && !starts(v, end, "binary") && !starts(v, end, "8bit") &&
        !starts(v, end, "7bit"))
        return wn_fail(err, WINNOW_E_UNSUPPORTED, "multipart: content-transfer-encoding '%.*s'",
                       (int)WN_MIN(end - v, 40), v);
    if (!starts(line, colon, "content-disposition") || colon - line != 19)
        return WINNOW_OK;
    if (h->disposition || !starts(v, end, "form-data"))
        return wn_fail(err, WINNOW_E_MALFORMED, "multipart: a part is not form-data");
    h->disposition = true;
    int name = parameter(v, end, "name", h->name, sizeof h->name);
    int file = parameter(v, end, "filename", h->filename, sizeof h->filename);
    if (name <= 0 || file < 0)
        return wn_fail(err, WINNOW_E_MALFORMED,
                       "multipart: a part has no name, or one that is malformed or longer "
                       "than %d bytes",
                       WN_MULTIPART_MAX_NAME - 1);
    h->has_file = file > 0;
    unescape(h->name);
    unescape(h->filename);
    return WINNOW_OK;
}

/* m->head holds the lines with their CR LF, without the empty one. */
static enum winnow_status begin_part(struct wn_multipart *m, struct winnow_err *err)
{
    struct head h = { 0 };
    const char *s = m->head, *end = m->head + m->head_n;
    while (s < end) {
        const char *cr = memmem(s, (size_t)(end - s), "\r\n", 2);
        if (!cr)
            return wn_fail(err, WINNOW_E_MALFORMED, "multipart: a part's header line is malformed");
        WN_TRY(read_line(s, cr, &h, err));
        s = cr + 2;
    }
    if (!h.disposition)
        return wn_fail(err, WINNOW_E_MALFORMED, "multipart: a part has no content-disposition");
    if (++m->parts > WN_MULTIPART_MAX_PARTS)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "multipart: more than %d parts", WN_MULTIPART_MAX_PARTS);
    struct wn_part part = { h.name, h.has_file ? last_component(h.filename) : NULL };
    return m->sink.begin(m->sink.arg, &part, err);
}

/* ---- bytes ---- */

/* Boundary characters of RFC 2046, less the space. */
static bool boundary_char(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c && strchr("'()+_,-./:=?", c));
}

enum winnow_status wn_multipart_init(struct wn_multipart *m, const char *content_type, size_t n,
                                     const struct wn_part_sink *sink, struct winnow_err *err)
{
    static const char type[] = "multipart/form-data";
    char boundary[WN_MULTIPART_MAX_BOUNDARY + 1];
    const char *end = content_type + n;
    if (!starts(content_type, end, type) || (n > sizeof type - 1 && !strchr("; \t", content_type[sizeof type - 1])))
        return wn_fail(err, WINNOW_E_MALFORMED, "content-type must be multipart/form-data");
    if (parameter(content_type + sizeof type - 1, end, "boundary", boundary, sizeof boundary) <= 0 || !boundary[0])
        return wn_fail(err, WINNOW_E_MALFORMED, "content-type: multipart/form-data needs a boundary of 1 to %d bytes",
                       WN_MULTIPART_MAX_BOUNDARY);
    for (const char *c = boundary; *c; c++)
        if (!boundary_char(*c))
            return wn_fail(err, WINNOW_E_MALFORMED, "content-type: the boundary holds a byte that is not allowed");
    *m = (struct wn_multipart){ .sink = *sink, .state = PREAMBLE, .level = 2 };
    m->mark_n = strlen(boundary) + 4;
    memcpy(m->mark, "\r\n--", 4);
    memcpy(m->mark + 4, boundary, m->mark_n - 4);
    return WINNOW_OK;
}

static enum winnow_status give(struct wn_multipart *m, const void *bytes, size_t n, struct winnow_err *err)
{
    return n && m->state == DATA ? m->sink.data(m->sink.arg, bytes, n, err) : WINNOW_OK;
}

/* PREAMBLE and DATA: look for the delimiter. `*at` moves to what is not read yet. */
static enum winnow_status scan(struct wn_multipart *m, const char **at, const char *end, struct winnow_err *err)
{
    const char *s = *at, *from = s;
    while (s < end) {
        if (m->level == 0) {
            const char *cr = memchr(s, '\r', (size_t)(end - s));
            s = cr ? cr : end;
            if (!cr)
                break;
        }
        if (*s != m->mark[m->level]) {
            /* What was held back is data: the part of it from an earlier call comes from the mark itself. */
            size_t here = (size_t)(s - from), held = m->level;
            m->level = 0;
            if (held > here) {
                WN_TRY(give(m, m->mark, held - here, err));
                from = s - here;
            }
            continue; /* the same byte again, as a first one */
        }
        s++;
        if (++m->level < m->mark_n)
            continue;
        size_t here = (size_t)(s - from);
        if (here > m->mark_n)
            WN_TRY(give(m, from, here - m->mark_n, err));
        if (m->state == DATA)
            WN_TRY(m->sink.end(m->sink.arg, err));
        m->state = AFTER_MARK;
        m->level = 0;
        *at = s;
        return WINNOW_OK;
    }
    size_t here = (size_t)(end - from);
    if (here > m->level)
        WN_TRY(give(m, from, here - m->level, err));
    *at = end;
    return WINNOW_OK;
}

static enum winnow_status head_byte(struct wn_multipart *m, char c, struct winnow_err *err)
{
    if (m->head_n == WN_MULTIPART_MAX_HEADERS)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "multipart: a part's headers are longer than %d bytes",
                       WN_MULTIPART_MAX_HEADERS);
    m->head[m->head_n++] = c;
    if (c != '\n')
        return WINNOW_OK;
    if (m->head_n < 2 || m->head[m->head_n - 2] != '\r')
        return wn_fail(err, WINNOW_E_MALFORMED, "multipart: a header line ends without CR");
    if (m->head_n != 2 && (m->head_n < 4 || memcmp(m->head + m->head_n - 4, "\r\n", 2) != 0))
        return WINNOW_OK;
    m->head_n -= 2;
    WN_TRY(begin_part(m, err));
    m->state = DATA;
    m->level = 0;
    return WINNOW_OK;
}

static enum winnow_status mark_byte(struct wn_multipart *m, char c, struct winnow_err *err)
{
    if (m->state == AFTER_MARK && (c == ' ' || c == '\t'))
        return WINNOW_OK;
    if (m->state == AFTER_MARK && (c == '\r' || c == '-')) {
        m->state = c == '-' ? AFTER_DASH : AFTER_CR;
    } else if (m->state == AFTER_CR && c == '\n') {
        m->state = HEAD;
        m->head_n = 0;
    } else if (m->state == AFTER_DASH && c == '-') {
        m->state = EPILOGUE;
    } else {
        return wn_fail(err, WINNOW_E_MALFORMED, "multipart: a boundary is followed by neither a line end nor --");
    }
    return WINNOW_OK;
}

enum winnow_status wn_multipart_feed(struct wn_multipart *m, const void *bytes, size_t n, struct winnow_err *err)
{
    const char *s = bytes, *end = s + n;
    while (s < end && m->state != EPILOGUE) {
        if (m->state == PREAMBLE || m->state == DATA)
            WN_TRY(scan(m, &s, end, err));
        else if (m->state == HEAD)
            WN_TRY(head_byte(m, *s++, err));
        else
            WN_TRY(mark_byte(m, *s++, err));
    }
    return WINNOW_OK;
}

enum winnow_status wn_multipart_finish(const struct wn_multipart *m, struct winnow_err *err)
{
    if (m->state == EPILOGUE)
        return WINNOW_OK;
    return wn_fail(err, WINNOW_E_MALFORMED, "multipart: the body ends before its closing boundary");
}
