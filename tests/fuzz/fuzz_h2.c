/* fuzz_h2.c: frames of a client into the HTTP/2 side of daemon/net.
 *
 * The input is read as records, so that mutations stay frames: type, flags, stream, length, then that many bytes of
 * payload. A length above 199 stands for one of the request heads below. Records of type 0xff hold raw bytes. */
#include "tests/fuzz/fuzz_net.h"

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
enum { OUT_MAX = 65536, CANNED = 200 };

/* :method GET/POST, :scheme http, :path (literal), :authority x; HPACK with static indices. */
static const struct {
    const char *p;
    size_t n;
} heads[] = {
#define HEAD(s)                                                                                                        \
    {                                                                                                                  \
        s, sizeof s - 1                                                                                                \
    }
    HEAD("\x82\x86\x04\x02/h\x01\x01x"),
    HEAD("\x83\x86\x04\x02/e\x01\x01x"),
    HEAD("\x83\x86\x04\x02/s\x01\x01x"),
    HEAD("\x83\x86\x04\x02/t\x01\x01x"),
    HEAD("\x83\x86\x04\x02/l\x01\x01x"),
    HEAD("\x83\x86\x04\x02/a\x01\x01x"),
    HEAD("\x83\x86\x04\x02/e\x01\x01x\x0f\x0d\x03"
         "100"), /* content-length: 100 */
    HEAD("\x83\x86\x04\x02/s\x01\x01x\x0f\x10\x10"
         "application/grpc"),
    HEAD("\x00\x05x-end\x01"
         "1"), /* trailers */
    HEAD("\x83\x86\x04\x04/e?q\x01\x01x\x0f\x14\x0c"
         "100-continue"),
#undef HEAD
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct out {
    uint8_t at[OUT_MAX];
    size_t n;
};

static void put(struct out *o, const void *p, size_t n)
{
    if (n > OUT_MAX - o->n)
        return;
    memcpy(o->at + o->n, p, n);
    o->n += n;
}

static void put_frame(struct out *o, uint8_t type, uint8_t flags, uint8_t stream, const void *p, size_t n)
{
    uint8_t h[9] = { 0, (uint8_t)(n >> 8), (uint8_t)n, type, flags, 0, 0, 0, stream };
    if (sizeof h + n > OUT_MAX - o->n)
        return;
    put(o, h, sizeof h);
    put(o, p, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t step[] = { 3, 40, 1000, 65536 };
    static struct out o;
    o.n = 0;
    if (size < 1 || size > 16384)
        return 0;
    const uint8_t *p = data + 1, *end = data + size;
    put(&o, PREFACE, sizeof PREFACE - 1);
    put_frame(&o, 4, 0, 0, "", 0);
    while (end - p >= 4) {
        uint8_t type = p[0], flags = p[1], stream = p[2], len = p[3];
        p += 4;
        if (len >= CANNED) {
            size_t i = (size_t)(len - CANNED) % WN_COUNT(heads);
            put_frame(&o, type, flags, stream, heads[i].p, heads[i].n);
            continue;
        }
        size_t n = WN_MIN((size_t)len, (size_t)(end - p));
        if (type == 0xff)
            put(&o, p, n);
        else
            put_frame(&o, type, flags, stream, p, n);
        p += n;
    }
    fuzz_connection(o.at, o.n, step[data[0] % WN_COUNT(step)]);
    return 0;
}
