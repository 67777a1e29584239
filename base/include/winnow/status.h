/* status.h: how every winnow function reports failure. Installed with libwinnow; used by every room. */
#ifndef WINNOW_STATUS_H
#define WINNOW_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

#define WINNOW_API      __attribute__((visibility("default")))
#define WINNOW_MUST_USE __attribute__((warn_unused_result))

/** Outcome of a call. Zero is success, every failure is negative; the values never change. */
enum winnow_status {
#define STATUS(name, value, text) WINNOW_##name = value,
#include "winnow/status.def"
#undef STATUS
};

/** Detail of a failure: owned by the caller, fixed size, so that reporting "out of memory" needs no memory.
 *  Filled on failure only. `msg` names the thing at fault ("node 'conv1': kernel 5x5 exceeds padded input 4x4"). */
struct winnow_err {
    enum winnow_status status;
    char msg[240];
};

/** Default text of a status, e.g. "queue is full, retry later". Never NULL. Any thread. */
WINNOW_API const char *winnow_status_text(enum winnow_status status);
/** Name of a status without its prefix, e.g. "E_OVERLOAD". Never NULL. Any thread. */
WINNOW_API const char *winnow_status_name(enum winnow_status status);

#ifdef __cplusplus
}
#endif
#endif
