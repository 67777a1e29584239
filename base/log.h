/* log.h: one line per event: `event key=value key="two words"`.
 *
 *     wn_info("model_live", "model=%s version=%" PRIu64 " took_us=%" PRIu64, name, version, us);
 *     wn_debug("h2", "frame", "type=%u stream=%d", type, id);           only with WINNOW_DEBUG=h2 (or all)
 *
 * The format is read here, not by printf: each space between words of the format ends a key=value pair, and a value is
 * quoted and escaped as a whole, so bytes of a client's can neither end their value nor start a line. Understood: %s
 * %.*s
 * %.Ns %c %d %i %u %x %f %g %e with hh h l ll z j t, width and precision, and %%. Lines go to standard error by one
 * write. */
#ifndef WN_LOG_H
#define WN_LOG_H

#include "base/base.h"

/** syslog's numbers. */
enum wn_log_level { WN_LOG_ERROR = 3, WN_LOG_WARNING = 4, WN_LOG_NOTICE = 5, WN_LOG_INFO = 6, WN_LOG_DEBUG = 7 };

/** AUTO: journal prefixes `<6>` when standard error is the journal, else a time stamp and the level's name. */
enum wn_log_format { WN_LOG_AUTO, WN_LOG_TEXT, WN_LOG_JOURNAL, WN_LOG_JSON };

/** Choose format and the least important level to write. Any thread; at the start, and on reload. Without it: AUTO,
 *  INFO. Reads WINNOW_DEBUG (areas, comma separated, or "all") the first time. */
void wn_log_configure(enum wn_log_format format, enum wn_log_level level);
/** Write to this descriptor instead of standard error (tests, worker's log file). Not closed here. */
void wn_log_to(int fd);

/** Log one event. `event` is a word; `fmt` holds key=value pairs separated by single spaces, or is "". Keeps errno. Any
 *  thread; not from signal handlers. Lines over 8 KiB are cut. */
__attribute__((format(printf, 3, 4))) void wn_log(enum wn_log_level level, const char *event, const char *fmt, ...);
/** Whether WINNOW_DEBUG names `area`. */
bool wn_log_area(const char *area);

#define wn_error(...)   wn_log(WN_LOG_ERROR, __VA_ARGS__)
#define wn_warning(...) wn_log(WN_LOG_WARNING, __VA_ARGS__)
#define wn_notice(...)  wn_log(WN_LOG_NOTICE, __VA_ARGS__)
#define wn_info(...)    wn_log(WN_LOG_INFO, __VA_ARGS__)
/** Trace of one area; its arguments are evaluated only when the area is on. */
#define wn_debug(area, ...)                                                                                            \
    do {                                                                                                               \
        if (WN_UNLIKELY(wn_log_area(area)))                                                                            \
            wn_log(WN_LOG_DEBUG, __VA_ARGS__);                                                                         \
    } while (0)

#endif
