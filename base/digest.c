/* digest.c: SHA-256 through OpenSSL EVP. */
#include "base/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/evp.h>
#include "base/file.h"

#define FILE_PIECE (256u << 10)

struct wn_hasher {
    EVP_MD_CTX *ctx;
    bool started;
};

bool wn_sha256(const void *bytes, size_t n, struct wn_sha256 *ret)
{
    return EVP_Digest(bytes, n, ret->b, NULL, EVP_sha256(), NULL) == 1;
}

struct wn_hasher *wn_hasher_new(void)
{
    struct wn_hasher *h = calloc(1, sizeof *h);
    if (h)
        h->ctx = EVP_MD_CTX_new();
    if (h && !h->ctx) {
        free(h);
        return NULL;
    }
    return h;
}

static bool start(struct wn_hasher *h)
{
    if (!h->started)
        h->started = EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL) == 1;
    return h->started;
}

bool wn_hasher_add(struct wn_hasher *h, const void *bytes, size_t n)
{
    return start(h) && EVP_DigestUpdate(h->ctx, bytes, n) == 1;
}

bool wn_hasher_finish(struct wn_hasher *h, struct wn_sha256 *ret)
{
    if (!start(h))
        return false;
    h->started = false;
    return EVP_DigestFinal_ex(h->ctx, ret->b, NULL) == 1;
}

void wn_hasher_free(struct wn_hasher *h)
{
    if (h)
        EVP_MD_CTX_free(h->ctx);
    free(h);
}

static void hasher_freep(struct wn_hasher **h)
{
    wn_hasher_free(*h);
}

enum winnow_status wn_sha256_file(const char *path, struct wn_sha256 *ret, uint64_t *ret_n, struct winnow_err *err)
{
    WN_CLEANUP(wn_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return wn_fail_errno(err, errno, "opening '%s'", path);
    struct stat st;
    if (fstat(fd, &st) < 0)
        return wn_fail_errno(err, errno, "looking at '%s'", path);
    if (!S_ISREG(st.st_mode))
        return wn_fail(err, WINNOW_E_MALFORMED, "'%s' is not a regular file", path);
    WN_CLEANUP(hasher_freep) struct wn_hasher *h = wn_hasher_new();
    WN_CLEANUP(wn_freep) void *buf = malloc(FILE_PIECE);
    if (!h || !buf)
        return wn_fail(err, WINNOW_E_NOMEM, "hashing '%s'", path);
    uint64_t total = 0;
    for (;;) {
        ssize_t got = read(fd, buf, FILE_PIECE);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return wn_fail_errno(err, errno, "reading '%s'", path);
        if (got == 0)
            break;
        if (!wn_hasher_add(h, buf, (size_t)got))
            return wn_fail(err, WINNOW_E_INTERNAL, "hashing '%s'", path);
        total += (uint64_t)got;
    }
    if (!wn_hasher_finish(h, ret))
        return wn_fail(err, WINNOW_E_INTERNAL, "hashing '%s'", path);
    if (ret_n)
        *ret_n = total;
    return WINNOW_OK;
}

enum winnow_status wn_sha256_with(const char *path, const char *const *beside, struct wn_sha256 *ret,
                                  struct winnow_err *err)
{
    struct wn_sha256 d;
    WN_TRY(wn_sha256_file(path, &d, NULL, err));
    WN_CLEANUP(hasher_freep) struct wn_hasher *h = *beside ? wn_hasher_new() : NULL;
    WN_CLEANUP(wn_freep) char *folder = wn_file_folder(path);
    bool ok = folder && (!*beside || (h && wn_hasher_add(h, &d, sizeof d)));
    for (const char *const *name = beside; *name && ok; name++) {
        WN_CLEANUP(wn_freep) char *file = wn_asprintf("%s/%s", folder, *name);
        if (!file)
            return wn_fail(err, WINNOW_E_NOMEM, "hashing '%s'", path);
        WN_TRY(wn_sha256_file(file, &d, NULL, err));
        ok = wn_hasher_add(h, *name, strlen(*name) + 1) && wn_hasher_add(h, &d, sizeof d);
    }
    if (!ok || (h && !wn_hasher_finish(h, &d)))
        return wn_fail(err, WINNOW_E_INTERNAL, "hashing '%s'", path);
    *ret = d;
    return WINNOW_OK;
}

char *wn_digest_hex(const struct wn_sha256 *d, char ret[65])
{
    static const char digit[] = "0123456789abcdef";
    for (unsigned i = 0; i < WN_SHA256_BYTES; i++) {
        ret[2 * i] = digit[d->b[i] >> 4];
        ret[2 * i + 1] = digit[d->b[i] & 15];
    }
    ret[64] = '\0';
    return ret;
}

char *wn_digest_text(const struct wn_sha256 *d, char ret[WN_DIGEST_TEXT])
{
    memcpy(ret, "sha256:", 7);
    wn_digest_hex(d, ret + 7);
    return ret;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool wn_digest_parse(const char *text, struct wn_sha256 *ret)
{
    if (strncmp(text, "sha256:", 7) == 0)
        text += 7;
    if (strlen(text) != 64)
        return false;
    struct wn_sha256 d;
    for (unsigned i = 0; i < WN_SHA256_BYTES; i++) {
        int hi = hex_value(text[2 * i]), lo = hex_value(text[2 * i + 1]);
        if (hi < 0 || lo < 0)
            return false;
        d.b[i] = (uint8_t)(hi << 4 | lo);
    }
    *ret = d;
    return true;
}

bool wn_digest_equal(const struct wn_sha256 *a, const struct wn_sha256 *b)
{
    return memcmp(a->b, b->b, sizeof a->b) == 0;
}
