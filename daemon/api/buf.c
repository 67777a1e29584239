/* buf.c: formatted text and JSON strings into a growing buffer. */
#include "daemon/api/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include "base/utf8.h"

void wn_buf_printf(struct wn_buf *b, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    char *to = n < 0 ? NULL : wn_buf_room(b, (size_t)n + 1);
    if (to) {
        vsnprintf(to, (size_t)n + 1, fmt, again);
        b->n += (size_t)n;
    }
    va_end(again);
    va_end(args);
}

void wn_buf_json_string(struct wn_buf *b, const char *s, size_t n)
{
    static const char hex[] = "0123456789abcdef";
    wn_buf_char(b, '"');
    size_t plain = 0, i = 0; /* [plain, i): not yet written */
    while (i < n) {
        unsigned char c = (unsigned char)s[i];
        size_t len = c < 0x80 ? 1 : wn_utf8_len(s + i, n - i);
        if (len && c >= 0x20 && c != '"' && c != '\\') {
            i += len;
            continue;
        }
        wn_buf_add(b, s + plain, i - plain);
        if (!len) {
            wn_buf_text(b, "\xef\xbf\xbd");
        } else if (c == '"' || c == '\\') {
            wn_buf_add(b, (char[]){ '\\', (char)c }, 2);
        } else if (c == '\n') {
            wn_buf_text(b, "\\n");
        } else {
            wn_buf_add(b, (char[]){ '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15] }, 6);
        }
        plain = ++i;
    }
    wn_buf_add(b, s + plain, n - plain);
    wn_buf_char(b, '"');
}
