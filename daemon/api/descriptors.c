/* descriptors.c: see descriptors.h.
 *
 * DESIGN  Twenty kilobytes are walked for each question, which takes some microseconds. Considered: tables made at the
 *         start. Reflection is asked a few times per client, and tables would be one more thing that can be wrong. */
#include "daemon/api/descriptors.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "daemon/api/pb.h"

/** Field numbers of descriptor.proto. */
enum {
    SET_FILE = 1,
    FILE_NAME = 1,
    FILE_PACKAGE = 2,
    FILE_IMPORT = 3,
    FILE_MESSAGE = 4,
    FILE_ENUM = 5,
    FILE_SERVICE = 6,
    NAME = 1, /* of everything else */
    MESSAGE_FIELD = 2,
    MESSAGE_NESTED = 3,
    MESSAGE_ENUM = 4,
    ENUM_VALUE = 2,
    SERVICE_METHOD = 2,
};
/** More files than there are: a bound for the walk over imports. */
enum { MAX_FILES = 32 };

bool wn_proto_file_at(size_t i, struct wn_proto_file *ret)
{
    struct wn_pb pb = wn_pb_init(wn_descriptors, wn_descriptors_n);
    struct wn_pb_field f;
    while (wn_pb_next(&pb, &f))
        if (f.number == SET_FILE && f.wire == WN_PB_BYTES && i-- == 0) {
            *ret = (struct wn_proto_file){ f.p, f.n };
            return true;
        }
    return false;
}

/** First field of that number; an empty one where there is none. */
static struct wn_pb_field first(struct wn_pb pb, uint32_t number)
{
    struct wn_pb_field f;
    while (wn_pb_next(&pb, &f))
        if (f.number == number && f.wire == WN_PB_BYTES)
            return f;
    return (struct wn_pb_field){ .p = (const unsigned char *)"" };
}

static struct wn_pb file_pb(size_t i)
{
    struct wn_proto_file f;
    return wn_proto_file_at(i, &f) ? wn_pb_init(f.p, f.n) : wn_pb_init(NULL, 0);
}

static bool same(const struct wn_pb_field *f, const char *s, size_t n)
{
    return f->n == n && memcmp(f->p, s, n) == 0;
}

bool wn_proto_file_named(const char *name, size_t n, size_t *ret_i)
{
    struct wn_proto_file file;
    for (size_t i = 0; wn_proto_file_at(i, &file); i++) {
        struct wn_pb_field f = first(wn_pb_init(file.p, file.n), FILE_NAME);
        if (same(&f, name, n)) {
            *ret_i = i;
            return true;
        }
    }
    return false;
}

/* ---- symbols ---- */
/** A name and what is left of the symbol behind it: "A.b" in A leaves "b", "A" leaves nothing. False: another name. */
static bool step(struct wn_pb pb, const char **s, size_t *n)
{
    struct wn_pb_field name = first(pb, NAME);
    if (!name.n || *n < name.n || memcmp(*s, name.p, name.n) != 0)
        return false;
    if (*n == name.n) {
        *n = 0;
        return true;
    }
    if ((*s)[name.n] != '.')
        return false;
    *s += name.n + 1;
    *n -= name.n + 1;
    return *n > 0;
}

/** A leaf among the fields `number` of a message. */
static bool has_leaf(struct wn_pb pb, uint32_t number, const char *s, size_t n)
{
    struct wn_pb_field f;
    while (wn_pb_next(&pb, &f)) {
        const char *at = s;
        size_t left = n;
        if (f.number == number && f.wire == WN_PB_BYTES && step(wn_pb_sub(&f), &at, &left) && !left)
            return true;
    }
    return false;
}

/** Enums' values are siblings of their enum. */
static bool in_enum(struct wn_pb pb, const char *s, size_t n)
{
    const char *at = s;
    size_t left = n;
    return (step(pb, &at, &left) && !left) || has_leaf(pb, ENUM_VALUE, s, n);
}

/** `messages`: only these count. The schemas are our own, and as deep as we wrote them. */
static bool in_message(struct wn_pb pb, const char *s, size_t n, bool messages)
{
    struct wn_pb_field f;
    if (!step(pb, &s, &n))
        return false;
    if (!n || (!messages && has_leaf(pb, MESSAGE_FIELD, s, n)))
        return true;
    while (wn_pb_next(&pb, &f)) {
        if (f.wire != WN_PB_BYTES)
            continue;
        if (f.number == MESSAGE_NESTED && in_message(wn_pb_sub(&f), s, n, messages))
            return true;
        if (!messages && f.number == MESSAGE_ENUM && in_enum(wn_pb_sub(&f), s, n))
            return true;
    }
    return false;
}

static bool in_service(struct wn_pb pb, const char *s, size_t n)
{
    return step(pb, &s, &n) && (!n || has_leaf(pb, SERVICE_METHOD, s, n));
}

static bool in_file(struct wn_pb pb, const char *s, size_t n, bool messages)
{
    struct wn_pb_field f, package = first(pb, FILE_PACKAGE);
    if (package.n) {
        if (n <= package.n || memcmp(s, package.p, package.n) != 0 || s[package.n] != '.')
            return false;
        s += package.n + 1;
        n -= package.n + 1;
    }
    while (wn_pb_next(&pb, &f)) {
        if (f.wire != WN_PB_BYTES)
            continue;
        if (f.number == FILE_MESSAGE && in_message(wn_pb_sub(&f), s, n, messages))
            return true;
        if (!messages && f.number == FILE_ENUM && in_enum(wn_pb_sub(&f), s, n))
            return true;
        if (!messages && f.number == FILE_SERVICE && in_service(wn_pb_sub(&f), s, n))
            return true;
    }
    return false;
}

static bool find_symbol(const char *s, size_t n, bool messages, size_t *ret_i)
{
    struct wn_proto_file file;
    if (n && *s == '.') { /* fully qualified, as descriptors write it */
        s++;
        n--;
    }
    for (size_t i = 0; wn_proto_file_at(i, &file); i++)
        if (in_file(wn_pb_init(file.p, file.n), s, n, messages)) {
            *ret_i = i;
            return true;
        }
    return false;
}

bool wn_proto_file_of_symbol(const char *symbol, size_t n, size_t *ret_i)
{
    return find_symbol(symbol, n, false, ret_i);
}

bool wn_proto_is_message(const char *symbol, size_t n)
{
    size_t i;
    return find_symbol(symbol, n, true, &i);
}

/* ---- walks ---- */
void wn_proto_with_imports(size_t i, void (*each)(size_t i, void *arg), void *arg)
{
    size_t todo[MAX_FILES] = { i }, n = 1;
    for (size_t at = 0; at < n; at++) {
        struct wn_pb pb = file_pb(todo[at]);
        struct wn_pb_field f;
        each(todo[at], arg);
        while (wn_pb_next(&pb, &f)) {
            size_t k, seen = 0;
            if (f.number != FILE_IMPORT || f.wire != WN_PB_BYTES || !wn_proto_file_named((const char *)f.p, f.n, &k))
                continue;
            while (seen < n && todo[seen] != k)
                seen++;
            if (seen == n && n < MAX_FILES)
                todo[n++] = k;
        }
    }
}

void wn_proto_services(void (*each)(const char *name, void *arg), void *arg)
{
    struct wn_proto_file file;
    for (size_t i = 0; wn_proto_file_at(i, &file); i++) {
        struct wn_pb pb = wn_pb_init(file.p, file.n);
        struct wn_pb_field f, package = first(pb, FILE_PACKAGE);
        while (wn_pb_next(&pb, &f)) {
            if (f.number != FILE_SERVICE || f.wire != WN_PB_BYTES)
                continue;
            struct wn_pb_field name = first(wn_pb_sub(&f), NAME);
            char full[200];
            snprintf(full, sizeof full, "%.*s.%.*s", (int)package.n, (const char *)package.p, (int)name.n,
                     (const char *)name.p);
            each(full, arg);
        }
    }
}
