/* value.h: how sizes, durations and addresses are written. */
#ifndef WN_CONFIG_VALUE_H
#define WN_CONFIG_VALUE_H

#include "base/base.h"

/** "64MiB", "1.5GiB", "10kB", "4096" (bytes). B KiB MiB GiB TiB PiB are powers of 1024, kB MB GB TB PB of 1000; a space
 *  before the unit is fine. False: `ret_why` says why. */
bool wn_value_size(const char *text, uint64_t *ret_bytes, const char **ret_why);
/** "2ms", "1.5s", "10m", "1h", "7d", "0"; units us ms s m h d. In microseconds. */
bool wn_value_duration(const char *text, uint64_t *ret_us, const char **ret_why);
/** "127.0.0.1:8000", "[::1]:0", "localhost:8000": a host, a colon, a port from 0 to 65535. */
bool wn_value_address(const char *text, const char **ret_why);
/** Whether an address's host is localhost, 127.0.0.0/8 or ::1. */
bool wn_value_is_loopback(const char *address);

/** The shortest exact form in the largest unit that divides the value. Return the length as snprintf does. */
int wn_value_format_size(uint64_t bytes, char *buf, size_t room);
int wn_value_format_duration(uint64_t us, char *buf, size_t room);

#endif
