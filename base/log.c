/* log.c: formats events as key=value text or JSON lines.
 *
 * DESIGN  The value of each pair is formatted alone into a bounded buffer, then escaped into the line; that is why the
 *         format is walked by hand. Considered: vsnprintf of the whole line. Rejected: a value could then forge pairs.
 * LOCKS   none: a line is one write(2) of at most 8 KiB; settings are atomics. Debug output is decided by area alone.
 */
#include "base/log.h"

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES  8192
#define VALUE_MAX_BYTES 4096
#define KEY_MAX_BYTES   64

static _Atomic int log_fd = STDERR_FILENO;
static _Atomic int log_level = WN_LOG_INFO;
static _Atomic int log_format = WN_LOG_AUTO;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static char areas[256];    /* ",h2,batch," after start-up; read-only then */
static bool under_journal; /* standard error is the journal's socket; read-only after start-up */

static void start(void)
{
    const char *debug = getenv("WINNOW_DEBUG");
    if (debug)
        snprintf(areas, sizeof areas, ",%s,", debug);
    const char *stream = getenv("JOURNAL_STREAM"); /* systemd.exec(5): "device:inode" */
    struct stat st;
    unsigned long long dev, ino;
    if (stream && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 && fstat(STDERR_FILENO, &st) == 0)
        under_journal = st.st_dev == dev && st.st_ino == ino;
}

void wn_log_configure(enum wn_log_format format, enum wn_log_level level)
{
    log_format = (int)format;
    log_level = (int)level;
}

void wn_log_to(int fd)
{
    log_fd = fd;
}

bool wn_log_area(const char *area)
{
    pthread_once(&once, start);
    if (WN_LIKELY(!areas[0]))
        return false;
    if (strcmp(areas, ",all,") == 0)
        return true;
    size_t n = strlen(area);
    for (const char *p = strstr(areas, area); p; p = strstr(p + 1, area))
        if (p[-1] == ',' && p[n] == ',')
            return true;
    return false;
}

/* ---- a line under construction ---- */
struct line {
    char at[LINE_MAX_BYTES];
    size_t n;
    bool full;
};

static void put(struct line *l, const char *s, size_t n)
{
    if (n > sizeof l->at - 8 - l->n) { /* 8: closing quote, brace, newline */
        l->full = true;
        return;
    }
    memcpy(l->at + l->n, s, n);
    l->n += n;
}

static void put_str(struct line *l, const char *s)
{
    put(l, s, strlen(s));
}

/* Length of the UTF-8 character at s (n bytes left), or 0 when it is not one. */
static size_t utf8_len(const unsigned char *s, size_t n)
{
    size_t want = s[0] < 0x80                   ? 1
                  : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
                  : s[0] >= 0xe0 && s[0] < 0xf0 ? 3
                  : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
                                                : 0;
    if (want > n)
        return 0;
    for (size_t i = 1; i < want; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
        (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return want;
}

/* A quoted JSON string; the text form uses the same escapes. Bytes that are not UTF-8 become \ufffd. */
static void put_quoted(struct line *l, const char *s, size_t n)
{
    put(l, "\"", 1);
    for (size_t i = 0, len; i < n && !l->full; i += len) {
        unsigned char c = (unsigned char)s[i];
        char esc[8];
        len = utf8_len((const unsigned char *)s + i, n - i);
        bool c1 = len == 2 && c == 0xc2 && (unsigned char)s[i + 1] < 0xa0; /* control characters above ASCII */
        if (len == 0) {
            len = 1;
            put_str(l, "\\ufffd");
        } else if (c == '"' || c == '\\') {
            put(l, (char[]){ '\\', (char)c }, 2);
        } else if (c == '\n') {
            put_str(l, "\\n");
        } else if (c < 0x20 || c == 0x7f || c1) {
            snprintf(esc, sizeof esc, "\\u%04x", c1 ? (unsigned char)s[i + 1] : c);
            put_str(l, esc);
        } else {
            put(l, s + i, len);
        }
    }
    put(l, "\"", 1);
}

static bool is_plain(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] <= ' ' || (unsigned char)s[i] >= 0x7f || s[i] == '"' || s[i] == '\\' || s[i] == '=')
            return false;
    return n > 0;
}

/* ---- walking the format ---- */
struct pair {
    char key[KEY_MAX_BYTES], value[VALUE_MAX_BYTES];
    size_t key_n, value_n;
    bool in_value;
    bool number; /* the value is one integer conversion and nothing else */
};

static void pair_add(struct pair *p, const char *s, size_t n)
{
    char *to = p->in_value ? p->value : p->key;
    size_t *at = p->in_value ? &p->value_n : &p->key_n, room = p->in_value ? sizeof p->value : sizeof p->key;
    n = WN_MIN(n, room - *at);
    memcpy(to + *at, s, n);
    *at += n;
}

static void pair_flush(struct pair *p, struct line *l, bool json)
{
    size_t before = l->n;
    if (p->key_n && json) {
        put(l, ",", 1);
        put_quoted(l, p->key, p->key_n);
        put(l, ":", 1);
    } else if (p->key_n) {
        put(l, " ", 1);
        put(l, p->key, p->key_n);
        put(l, "=", 1);
    }
    if (p->key_n && (json ? p->number : is_plain(p->value, p->value_n)))
        put(l, p->value, p->value_n);
    else if (p->key_n)
        put_quoted(l, p->value, p->value_n);
    if (l->full && json)
        l->n = before; /* half a pair would break the JSON */
    p->key_n = p->value_n = 0;
    p->in_value = p->number = false;
}

/* A conversion of printf's: "%-8.3lld". */
struct spec {
    char text[24]; /* the conversion itself, with `*` replaced by numbers */
    char length;   /* 0, 'H' (hh), 'h', 'l', 'L' (ll), 'z', 'j', 't' */
    char conv;
    int precision; /* -1 = none */
};

/* Reads the conversion at `f` (behind the %); returns what follows it. Star arguments are taken by the caller's macro.
 */
static const char *read_spec(const char *f, struct spec *s, const int *star)
{
    size_t n = 0;
    *s = (struct spec){ .precision = -1 };
    s->text[n++] = '%';
    for (bool after_dot = false; strchr("-+ #0123456789.*", *f) && *f && n < 14; f++) {
        if (*f == '*') {
            n += (size_t)snprintf(s->text + n, sizeof s->text - n - 4, "%d", WN_MAX(-999, WN_MIN(*star, 9999)));
            if (after_dot)
                s->precision = *star;
            star++;
            continue;
        }
        if (*f == '.') {
            after_dot = true;
            s->precision = isdigit((unsigned char)f[1]) ? atoi(f + 1) : 0;
        }
        s->text[n++] = *f;
    }
    for (; *f && strchr("hlzjt", *f); f++) {
        s->length = s->length == 'h' ? 'H' : s->length == 'l' ? 'L' : *f;
        if (n < sizeof s->text - 2)
            s->text[n++] = *f;
    }
    s->conv = *f;
    s->text[n] = *f;
    return *f ? f + 1 : f;
}

static unsigned count_stars(const char *f)
{
    unsigned n = 0;
    for (; *f && strchr("-+ #0123456789.*", *f); f++)
        n += *f == '*';
    return n;
}

static const char *convert(const char *f, struct pair *p, va_list *ap)
{
    int star[2] = { 0 };
    for (unsigned i = 0, n = count_stars(f); i < n && i < 2; i++)
        star[i] = va_arg(*ap, int);
    struct spec s;
    f = read_spec(f, &s, star);
    char buf[64];
    int n = 0;
    bool first = p->in_value && p->value_n == 0;
    switch (s.conv) {
    case 'd':
    case 'i':
    case 'u':
    case 'x':
        n = s.length == 'l'                      ? snprintf(buf, sizeof buf, s.text, va_arg(*ap, long))
            : s.length == 'L'                    ? snprintf(buf, sizeof buf, s.text, va_arg(*ap, long long))
            : s.length == 'z' || s.length == 't' ? snprintf(buf, sizeof buf, s.text, va_arg(*ap, size_t))
            : s.length == 'j'                    ? snprintf(buf, sizeof buf, s.text, va_arg(*ap, intmax_t))
                                                 : snprintf(buf, sizeof buf, s.text, va_arg(*ap, int));
        p->number = first && s.conv != 'x' && strspn(buf, "-0123456789") == strlen(buf) && (buf[0] != '0' || !buf[1]);
        break;
    case 'f':
    case 'g':
    case 'e':
        n = snprintf(buf, sizeof buf, s.text, va_arg(*ap, double));
        break;
    case 'c':
        buf[0] = (char)va_arg(*ap, int);
        n = 1;
        break;
    case 's': {
        const char *str = va_arg(*ap, const char *);
        str = str ? str : "(null)";
        pair_add(p, str, s.precision >= 0 ? strnlen(str, (size_t)s.precision) : strlen(str));
        return f;
    }
    case '%':
        pair_add(p, "%", 1);
        return f;
    default:
        pair_add(p, "?", 1);
        return f;
    }
    pair_add(p, buf, n < 0 ? 0 : WN_MIN((size_t)n, sizeof buf - 1));
    return f;
}

static void put_pairs(struct line *l, bool json, const char *fmt, va_list *ap)
{
    struct pair p;
    p.key_n = p.value_n = 0;
    p.in_value = p.number = false;
    for (const char *f = fmt; *f;) {
        if (*f == '%') {
            f = convert(f + 1, &p, ap);
            continue;
        }
        if (*f == ' ')
            pair_flush(&p, l, json);
        else if (*f == '=' && !p.in_value)
            p.in_value = true;
        else {
            p.number = false;
            pair_add(&p, f, 1);
        }
        f++;
    }
    pair_flush(&p, l, json);
}

static const char *level_name(enum wn_log_level level)
{
    static const char *const names[] = { "error", "warning", "notice", "info", "debug" };
    return names[level >= WN_LOG_ERROR && level <= WN_LOG_DEBUG ? level - WN_LOG_ERROR : 0];
}

static void put_head(struct line *l, enum wn_log_format format, enum wn_log_level level, const char *event)
{
    struct timespec now;
    struct tm tm;
    char when[64], head[128];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    size_t n = strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(when + n, sizeof when - n, ".%06ldZ", now.tv_nsec / 1000);
    if (format == WN_LOG_JOURNAL) {
        snprintf(head, sizeof head, "<%d>", (int)level);
        put_str(l, head);
        put_str(l, event);
    } else if (format == WN_LOG_JSON) {
        snprintf(head, sizeof head, "{\"time\":\"%s\",\"level\":\"%s\",\"event\":", when, level_name(level));
        put_str(l, head);
        put_quoted(l, event, strlen(event));
    } else {
        snprintf(head, sizeof head, "%s %s ", when, level_name(level));
        put_str(l, head);
        put_str(l, event);
    }
}

void wn_log(enum wn_log_level level, const char *event, const char *fmt, ...)
{
    int saved = errno;
    pthread_once(&once, start);
    if ((int)level > log_level && !(level == WN_LOG_DEBUG && areas[0])) /* wn_debug() has looked at the area */
        return;
    enum wn_log_format format = (enum wn_log_format)log_format;
    if (format == WN_LOG_AUTO)
        format = under_journal ? WN_LOG_JOURNAL : WN_LOG_TEXT;
    struct line l;
    l.n = 0;
    l.full = false;
    put_head(&l, format, level, event);
    va_list ap;
    va_start(ap, fmt);
    put_pairs(&l, format == WN_LOG_JSON, fmt, &ap);
    va_end(ap);
    if (format == WN_LOG_JSON)
        l.at[l.n++] = '}';
    l.at[l.n++] = '\n';
    ssize_t put_n = write(log_fd, l.at, l.n); /* nowhere to complain to */
    (void)put_n;
    errno = saved;
}
