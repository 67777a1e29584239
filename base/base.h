/* base.h: the few idioms every room uses: failing with a message, cleanup on scope exit, magic numbers, sizes. */
#ifndef WN_BASE_H
#define WN_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "winnow/status.h"

/** Fill `err` (may be NULL) with `status` and a formatted message; returns `status`, so that a caller can
 *  `return wn_fail(err, WINNOW_E_NOT_FOUND, "model '%s'", name)`. Over-long messages are cut at a UTF-8 boundary. */
__attribute__((format(printf, 3, 4))) enum winnow_status wn_fail(struct winnow_err *err, enum winnow_status status,
                                                                 const char *fmt, ...);
/** Like wn_fail, for a failed system call: chooses the status from `errnum` (ENOENT, ENOSPC, EACCES, ENOMEM, else
 *  E_IO) and appends ": " and its text. */
__attribute__((format(printf, 3, 4))) enum winnow_status wn_fail_errno(struct winnow_err *err, int errnum,
                                                                       const char *fmt, ...);
/** Put "prefix: " before the message already in `err` (may be NULL); returns err's status or `status`. For callers
 *  that know where it happened: the node, the file, the row. */
__attribute__((format(printf, 3, 4))) enum winnow_status wn_fail_at(struct winnow_err *err, enum winnow_status status,
                                                                    const char *fmt, ...);

/** Return from the enclosing function when `call` fails. */
#define WN_TRY(call)                                                                                                   \
    do {                                                                                                               \
        enum winnow_status wn_try_status_ = (call);                                                                    \
        if (wn_try_status_ != WINNOW_OK)                                                                               \
            return wn_try_status_;                                                                                     \
    } while (0)

/** Run `fn(&variable)` when the variable leaves scope. */
#define WN_CLEANUP(fn) __attribute__((cleanup(fn)))
/** Move ownership out of a WN_CLEANUP variable: yields its value and leaves NULL behind. */
#define WN_TAKE(p)                                                                                                     \
    __extension__({                                                                                                    \
        __typeof__(p) wn_take_ = (p);                                                                                  \
        (p) = NULL;                                                                                                    \
        wn_take_;                                                                                                      \
    })
#define WN_CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define WN_COUNT(array)                    (sizeof(array) / sizeof((array)[0]))
#define WN_MIN(a, b)                       ((a) < (b) ? (a) : (b))
#define WN_MAX(a, b)                       ((a) > (b) ? (a) : (b))
/** Significant digits of reals in JSON that others read: what a person wrote comes back as written (0.3, where 17 would
 * make 0.29999999999999999). For json_dumps(): JSON_REAL_PRECISION(WN_JSON_DIGITS). */
#define WN_JSON_DIGITS 15
#define WN_LIKELY(x)   __builtin_expect(!!(x), 1)
#define WN_UNLIKELY(x) __builtin_expect(!!(x), 0)

/** Abort with file and line when an object is NULL, freed or of another kind. */
#define WN_CHECK_MAGIC(obj, want)                                                                                      \
    do {                                                                                                               \
        if (WN_UNLIKELY(!(obj) || (obj)->magic != (want)))                                                             \
            wn_die(__FILE__, __LINE__, "stale or foreign object (" #obj ")");                                          \
    } while (0)
_Noreturn void wn_die(const char *file, int line, const char *what);

/** Cleanup helpers for WN_CLEANUP: free(), fclose(), close(). NULL and -1 are fine. */
void wn_freep(void *pp);
void wn_fclosep(void *pp);
void wn_closep(int *fd);

/* ---- sizes read from a file go through these; false means overflow, `ret` untouched ---- */
static inline bool wn_add_size(size_t a, size_t b, size_t *ret)
{
    return !__builtin_add_overflow(a, b, ret);
}
static inline bool wn_mul_size(size_t a, size_t b, size_t *ret)
{
    return !__builtin_mul_overflow(a, b, ret);
}
/** Product of `n` extents (each >= 0) times `elem` bytes; false on overflow past SIZE_MAX / 2 or a negative extent. */
bool wn_shape_bytes(const int64_t *dim, unsigned n, size_t elem, size_t *ret_bytes);

static inline size_t wn_round_up(size_t x, size_t to)
{
    return (x + to - 1) / to * to;
}

/** Ask for huge pages under p, n bytes: for what is large, read often and never given back in parts. Weights of a
 *  megabyte or more take up to a quarter less time to stream with them (fewer TLB misses). Only advice. */
void wn_advise_huge(void *p, size_t n);
/** n bytes, aligned to 64; from 1 MiB on in whole huge pages of 2 MiB, as far as the system gives them. For memory that is
 *  walked plane by plane. free() frees it. NULL: none left. */
void *wn_alloc_huge(size_t n);

/** Give the whole pages within p, n bytes, back to the system: what stood there is lost. Memory from malloc or an arena
 *  that nobody reads any more and that is not freed yet. False when there was no page to give. */
bool wn_give_back(void *p, size_t n);

/** Monotonic clock in nanoseconds. */
uint64_t wn_now_ns(void);
/** Wall clock in nanoseconds since 1970. time() and the times of files read a clock of the kernel's that ticks, and lag
 *  behind this one by a tick (10 ms), or longer where the CPU that moves it on is held up. */
int64_t wn_wall_ns(void);
/** That clock of the kernel's: what a file that changes from now on may have as its time at least. */
int64_t wn_wall_file_ns(void);
/** CPU time of the calling thread in nanoseconds. */
uint64_t wn_thread_cpu_ns(void);

/** strdup/strndup/printf into malloc; NULL when out of memory. The caller frees. */
char *wn_strdup(const char *s);
__attribute__((format(printf, 1, 2))) char *wn_asprintf(const char *fmt, ...);

#endif
