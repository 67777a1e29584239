/* fuzz_multipart.c: a content type (first line), then a body fed in pieces whose sizes the input says. What comes out
 * must not depend on the pieces, and no more bytes may come out than went in. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/jobs/multipart.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct sum {
    uint64_t hash;
    size_t bytes, parts;
    bool open;
};

static void mix(struct sum *s, const void *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        s->hash = (s->hash ^ ((const uint8_t *)p)[i]) * 0x100000001b3u;
}

static enum winnow_status begin(void *arg, const struct wn_part *part, struct winnow_err *err)
{
    struct sum *s = arg;
    if (s->open || (part->filename && strpbrk(part->filename, "/\\")))
        abort();
    s->open = true;
    s->parts++;
    mix(s, part->name, strlen(part->name) + 1);
    if (part->filename)
        mix(s, part->filename, strlen(part->filename) + 1);
    return WINNOW_OK;
}

static enum winnow_status data(void *arg, const void *bytes, size_t n, struct winnow_err *err)
{
    struct sum *s = arg;
    if (!s->open || !n)
        abort();
    s->bytes += n;
    mix(s, bytes, n);
    return WINNOW_OK;
}

static enum winnow_status end(void *arg, struct winnow_err *err)
{
    struct sum *s = arg;
    if (!s->open)
        abort();
    s->open = false;
    mix(s, "|", 1);
    return WINNOW_OK;
}

static enum winnow_status parse(const uint8_t *d, size_t type_n, size_t n, size_t piece, struct sum *ret)
{
    static struct wn_multipart m;
    struct winnow_err err;
    *ret = (struct sum){ .hash = 1 };
    struct wn_part_sink sink = { begin, data, end, ret };
    enum winnow_status status = wn_multipart_init(&m, (const char *)d, type_n, &sink, &err);
    for (size_t at = type_n + 1; at < n && status == WINNOW_OK;) {
        size_t take = WN_MIN(piece, n - at);
        uint8_t *exact = malloc(take); /* so that reading past a piece is seen */
        if (!exact)
            abort();
        memcpy(exact, d + at, take);
        status = wn_multipart_feed(&m, exact, take, &err);
        free(exact);
        at += take;
    }
    return status == WINNOW_OK ? wn_multipart_finish(&m, &err) : status;
}

int LLVMFuzzerTestOneInput(const uint8_t *d, size_t n)
{
    const uint8_t *nl = n ? memchr(d, '\n', n) : NULL;
    if (!nl)
        return 0;
    size_t type_n = (size_t)(nl - d);
    struct sum whole, pieces, bytes;
    enum winnow_status a = parse(d, type_n, n, n + 1, &whole);
    enum winnow_status b = parse(d, type_n, n, 1 + d[n - 1] % 17, &pieces);
    enum winnow_status c = parse(d, type_n, n, 1, &bytes);
    if (a != b || a != c || whole.bytes > n ||
        (a == WINNOW_OK && (whole.hash != pieces.hash || whole.hash != bytes.hash)))
        abort();
    return 0;
}
