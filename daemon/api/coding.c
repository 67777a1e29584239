/* coding.c: see coding.h. zlib does the work; what is ours are the limits. */
#include "daemon/api/coding.h"

#include <limits.h>
#include <strings.h>
#include <zlib.h>

/** The fastest level: an answer is waited for. */
#define LEVEL Z_BEST_SPEED
/** A first guess at how much comes out; doubles from there. */
#define GROWTH 4u
#define FIRST  ((size_t)4096)

static const struct {
    const char *name;
    enum wn_coding coding;
} names[] = {
    { "gzip", WN_CODING_GZIP },
    { "x-gzip", WN_CODING_GZIP },
    { "deflate", WN_CODING_DEFLATE },
    { "identity", WN_CODING_IDENTITY },
};

enum wn_coding wn_coding_named(const char *name, size_t n)
{
    if (!n)
        return WN_CODING_IDENTITY;
    for (size_t i = 0; i < WN_COUNT(names); i++)
        if (strlen(names[i].name) == n && strncasecmp(names[i].name, name, n) == 0)
            return names[i].coding;
    return WN_CODING_UNKNOWN;
}

const char *wn_coding_name(enum wn_coding coding)
{
    return coding == WN_CODING_GZIP ? "gzip" : coding == WN_CODING_DEFLATE ? "deflate" : "identity";
}

/* ---- lists ---- */
static bool blank(char c)
{
    return c == ' ' || c == '\t';
}

/** Next element of a comma-separated list, without the blanks at its edges. False at the end. */
static bool element(const char **p, const char *end, const char **ret, size_t *ret_n)
{
    while (*p < end && (blank(**p) || **p == ','))
        (*p)++;
    if (*p == end)
        return false;
    const char *from = *p;
    while (*p < end && **p != ',')
        (*p)++;
    const char *to = *p;
    while (to > from && blank(to[-1]))
        to--;
    *ret = from;
    *ret_n = (size_t)(to - from);
    return true;
}

/** "gzip;q=0.5": the name's length, and q in thousandths (1000 where it is not given; 0 where it is none). */
static size_t weight(const char *p, size_t n, unsigned *ret_q)
{
    const char *semi = memchr(p, ';', n), *end = p + n;
    size_t name = semi ? (size_t)(semi - p) : n;
    while (name && blank(p[name - 1]))
        name--;
    *ret_q = 1000;
    if (!semi)
        return name;
    for (semi++; semi < end && blank(*semi); semi++)
        ;
    if (end - semi < 3 || (*semi != 'q' && *semi != 'Q') || semi[1] != '=' || (semi[2] != '0' && semi[2] != '1')) {
        *ret_q = 0;
        return name;
    }
    unsigned q = (unsigned)(semi[2] - '0') * 1000, unit = 100;
    for (semi += 3; semi < end && (*semi == '.' || (*semi >= '0' && *semi <= '9')); semi++)
        if (*semi != '.') {
            q += (unsigned)(*semi - '0') * unit;
            unit /= 10;
        }
    *ret_q = WN_MIN(q, 1000u);
    return name;
}

enum wn_coding wn_coding_wanted(const char *accept, size_t n)
{
    const char *p = accept, *end = accept + n, *at;
    int q[WN_CODING_UNKNOWN] = { -1, -1, -1 }, any = -1;
    size_t len;
    while (element(&p, end, &at, &len)) {
        unsigned v;
        len = weight(at, len, &v);
        enum wn_coding c = wn_coding_named(at, len);
        if (len == 1 && *at == '*')
            any = (int)v;
        else if (len && c != WN_CODING_UNKNOWN)
            q[c] = (int)v;
    }
    for (unsigned i = WN_CODING_GZIP; i < WN_CODING_UNKNOWN; i++)
        if (q[i] < 0)
            q[i] = any;
    enum wn_coding best = q[WN_CODING_DEFLATE] > q[WN_CODING_GZIP] ? WN_CODING_DEFLATE : WN_CODING_GZIP;
    return q[best] > 0 && q[best] >= q[WN_CODING_IDENTITY] ? best : WN_CODING_IDENTITY;
}

bool wn_coding_listed(const char *list, size_t n, enum wn_coding coding)
{
    const char *p = list, *end = list + n, *at;
    size_t len;
    while (element(&p, end, &at, &len))
        if (wn_coding_named(at, len) == coding)
            return true;
    return false;
}

/* ---- decoding ---- */
static bool spend(struct wn_coding_budget *budget, size_t n)
{
    if (atomic_fetch_add(&budget->used, n) + n <= atomic_load(&budget->max))
        return true;
    atomic_fetch_sub(&budget->used, n);
    return false;
}

void wn_inflated_done(struct wn_inflated *b, struct wn_coding_budget *budget)
{
    if (b->cap)
        atomic_fetch_sub(&budget->used, b->cap);
    free(b->at);
    *b = (struct wn_inflated){ 0 };
}

/** More room, one byte past `max` at most: that byte tells that there is too much. */
static enum winnow_status grow(struct wn_inflated *b, size_t n, size_t max, struct wn_coding_budget *budget,
                               struct winnow_err *err)
{
    size_t want = b->cap ? b->cap * 2 : WN_MAX(n < max / GROWTH ? n * GROWTH : max, FIRST);
    want = WN_MIN(want, max + 1);
    if (!spend(budget, want - b->cap))
        return wn_fail(err, WINNOW_E_OVERLOAD, "request buffers are full, retry later");
    char *at = realloc(b->at, want);
    if (!at) {
        atomic_fetch_sub(&budget->used, want - b->cap);
        return wn_fail(err, WINNOW_E_NOMEM, "compressed body");
    }
    b->at = at;
    b->cap = want;
    return WINNOW_OK;
}

enum winnow_status wn_inflated_add(struct wn_inflated *b, const void *p, size_t n, size_t max,
                                   struct wn_coding_budget *budget, struct winnow_err *err)
{
    while (b->cap - b->n < n) {
        size_t had = b->cap;
        WN_TRY(grow(b, n / GROWTH, max, budget, err));
        if (b->cap == had)
            return wn_fail(err, WINNOW_E_TOO_LARGE, "more than %zu bytes", max);
    }
    memcpy(b->at + b->n, p, n);
    b->n += n;
    return WINNOW_OK;
}

static enum winnow_status run(z_stream *z, enum wn_coding coding, size_t in_n, size_t max,
                              struct wn_coding_budget *budget, struct wn_inflated *b, struct winnow_err *err)
{
    for (;;) {
        if (b->n == b->cap)
            WN_TRY(grow(b, in_n, max, budget, err));
        size_t room = WN_MIN(b->cap - b->n, (size_t)INT_MAX);
        z->next_out = (unsigned char *)b->at + b->n;
        z->avail_out = (uInt)room;
        int rc = inflate(z, Z_NO_FLUSH);
        b->n += room - z->avail_out;
        if (b->n > max)
            return wn_fail(err, WINNOW_E_TOO_LARGE, "the %s body holds more than %zu bytes", wn_coding_name(coding),
                           max);
        if (rc == Z_STREAM_END && z->avail_in && coding == WN_CODING_GZIP && inflateReset(z) == Z_OK)
            continue;
        if (rc == Z_STREAM_END)
            return z->avail_in
                       ? wn_fail(err, WINNOW_E_MALFORMED, "%u bytes behind the end of the deflate body", z->avail_in)
                       : WINNOW_OK;
        if (rc == Z_MEM_ERROR)
            return wn_fail(err, WINNOW_E_NOMEM, "compressed body");
        if ((rc == Z_OK || rc == Z_BUF_ERROR) && (z->avail_in || !z->avail_out))
            continue;
        return wn_fail(err, WINNOW_E_MALFORMED, "the body is not %s: %s", wn_coding_name(coding),
                       rc == Z_OK || rc == Z_BUF_ERROR ? "it is cut short"
                       : z->msg                        ? z->msg
                                                       : "broken data");
    }
}

enum winnow_status wn_coding_inflate(enum wn_coding coding, const void *in, size_t n, size_t max,
                                     struct wn_coding_budget *budget, struct wn_inflated *ret, struct winnow_err *err)
{
    struct wn_inflated b = { 0 };
    z_stream z = { .next_in = (unsigned char *)(uintptr_t)in, .avail_in = (uInt)n };
    if (n > UINT_MAX)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "a compressed body of more than 4 GiB");
    if (inflateInit2(&z, MAX_WBITS + (coding == WN_CODING_GZIP ? 16 : 0)) != Z_OK)
        return wn_fail(err, WINNOW_E_NOMEM, "compressed body");
    enum winnow_status s = run(&z, coding, n, max, budget, &b, err);
    inflateEnd(&z);
    if (s != WINNOW_OK) {
        wn_inflated_done(&b, budget);
        return s;
    }
    *ret = b;
    return WINNOW_OK;
}

/* ---- encoding ---- */
bool wn_coding_deflate(enum wn_coding coding, struct wn_buf *b, size_t skip)
{
    size_t n = b->n - skip;
    z_stream z = { .next_in = (unsigned char *)b->at + skip, .avail_in = (uInt)n };
    if (b->failed || n > UINT_MAX / 2 ||
        deflateInit2(&z, LEVEL, Z_DEFLATED, MAX_WBITS + (coding == WN_CODING_GZIP ? 16 : 0), 8, Z_DEFAULT_STRATEGY) !=
            Z_OK)
        return false;
    size_t room = n - WN_MIN(n, (size_t)1); /* it must become smaller */
    char *at = malloc(skip + room + 1);
    bool ok = at != NULL;
    if (ok) {
        z.next_out = (unsigned char *)at + skip;
        z.avail_out = (uInt)room;
        ok = deflate(&z, Z_FINISH) == Z_STREAM_END;
    }
    deflateEnd(&z);
    if (!ok) {
        free(at);
        return false;
    }
    if (skip)
        memcpy(at, b->at, skip);
    size_t made = skip + (room - z.avail_out);
    free(b->at);
    *b = (struct wn_buf){ .at = at, .n = made, .cap = skip + room + 1 };
    return true;
}
