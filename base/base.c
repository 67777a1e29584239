/* base.c: errors, cleanup helpers, clocks. */
#include "base/base.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

const char *winnow_status_text(enum winnow_status status)
{
    switch (status) {
#define STATUS(name, value, text)                                                                                      \
    case WINNOW_##name:                                                                                                \
        return text;
#include "winnow/status.def"
#undef STATUS
    }
    return "unknown status";
}

const char *winnow_status_name(enum winnow_status status)
{
    switch (status) {
#define STATUS(name, value, text)                                                                                      \
    case WINNOW_##name:                                                                                                \
        return #name;
#include "winnow/status.def"
#undef STATUS
    }
    return "E_UNKNOWN";
}

/* Cut a message that did not fit at the start of its last character, so that it stays valid UTF-8. */
static void cut_utf8(char *msg, size_t size)
{
    size_t end = size - 1, start = end;
    while (start > 0 && end - start < 4 && ((unsigned char)msg[start - 1] & 0xc0) == 0x80)
        start--;
    if (start == 0)
        return;
    unsigned char lead = (unsigned char)msg[start - 1];
    size_t want = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
    if (end - (start - 1) < want)
        msg[start - 1] = '\0';
}

__attribute__((format(printf, 3, 0))) static void write_msg(struct winnow_err *err, enum winnow_status status,
                                                            const char *fmt, va_list ap)
{
    err->status = status;
    int n = vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    if (n >= (int)sizeof err->msg)
        cut_utf8(err->msg, sizeof err->msg);
}

enum winnow_status wn_fail(struct winnow_err *err, enum winnow_status status, const char *fmt, ...)
{
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        write_msg(err, status, fmt, ap);
        va_end(ap);
    }
    return status;
}

static enum winnow_status status_of_errno(int errnum)
{
    switch (errnum) {
    case ENOENT:
    case ENOTDIR:
        return WINNOW_E_NOT_FOUND;
    case ENOSPC:
    case EDQUOT:
        return WINNOW_E_NO_SPACE;
    case EACCES:
    case EPERM:
    case EROFS:
        return WINNOW_E_DENIED;
    case ENOMEM:
        return WINNOW_E_NOMEM;
    default:
        return WINNOW_E_IO;
    }
}

enum winnow_status wn_fail_errno(struct winnow_err *err, int errnum, const char *fmt, ...)
{
    enum winnow_status status = status_of_errno(errnum);
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        write_msg(err, status, fmt, ap);
        va_end(ap);
        size_t used = strlen(err->msg);
        snprintf(err->msg + used, sizeof err->msg - used, ": %s", strerrordesc_np(errnum));
    }
    return status;
}

enum winnow_status wn_fail_at(struct winnow_err *err, enum winnow_status status, const char *fmt, ...)
{
    if (!err)
        return status;
    char old[sizeof err->msg];
    memcpy(old, err->msg, sizeof old);
    va_list ap;
    va_start(ap, fmt);
    write_msg(err, status, fmt, ap);
    va_end(ap);
    size_t used = strlen(err->msg);
    if (snprintf(err->msg + used, sizeof err->msg - used, ": %s", old) >= (int)(sizeof err->msg - used))
        cut_utf8(err->msg, sizeof err->msg);
    return status;
}

_Noreturn void wn_die(const char *file, int line, const char *what)
{
    fprintf(stderr, "fatal at %s:%d: %s\n", file, line, what);
    abort();
}

void wn_freep(void *pp)
{
    void **p = pp;
    free(*p);
    *p = NULL;
}

void wn_fclosep(void *pp)
{
    FILE **f = pp;
    if (*f)
        fclose(*f);
    *f = NULL;
}

void wn_closep(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

bool wn_shape_bytes(const int64_t *dim, unsigned n, size_t elem, size_t *ret_bytes)
{
    size_t total = elem;
    bool zero = false;
    for (unsigned i = 0; i < n; i++) {
        if (dim[i] < 0)
            return false;
        if (dim[i] == 0) {
            zero = true;
            continue;
        }
        if (!wn_mul_size(total, (size_t)dim[i], &total) || total > SIZE_MAX / 2)
            return false;
    }
    *ret_bytes = zero ? 0 : total;
    return true;
}

static uint64_t clock_ns(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void wn_advise_huge(void *p, size_t n)
{
    const uintptr_t page = 4096, from = ((uintptr_t)p + page - 1) / page * page, to = ((uintptr_t)p + n) / page * page;
    if (to > from && to - from >= ((size_t)1 << 20))
        madvise((void *)from, to - from, MADV_HUGEPAGE);
}

void *wn_alloc_huge(size_t n)
{
    const size_t page = (size_t)2 << 20, align = n >= page / 2 ? page : 64;
    if (n > SIZE_MAX - page)
        return NULL;
    const size_t bytes = wn_round_up(n, align);
    void *p = aligned_alloc(align, bytes);
    if (p)
        wn_advise_huge(p, bytes);
    return p;
}

bool wn_give_back(void *p, size_t n)
{
    const uintptr_t page = 4096, from = ((uintptr_t)p + page - 1) / page * page, to = ((uintptr_t)p + n) / page * page;
    return from < to && madvise((void *)from, to - from, MADV_DONTNEED) == 0;
}

uint64_t wn_now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

int64_t wn_wall_ns(void)
{
    return (int64_t)clock_ns(CLOCK_REALTIME);
}

int64_t wn_wall_file_ns(void)
{
    return (int64_t)clock_ns(CLOCK_REALTIME_COARSE);
}

uint64_t wn_thread_cpu_ns(void)
{
    return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

char *wn_strdup(const char *s)
{
    size_t n = strlen(s) + 1;
    char *copy = malloc(n);
    return copy ? memcpy(copy, s, n) : NULL;
}

char *wn_asprintf(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *s = NULL;
    int n = vasprintf(&s, fmt, ap);
    va_end(ap);
    return n < 0 ? NULL : s;
}
