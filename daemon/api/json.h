/* json.h: a JSON reader without a tree, for tensors: numbers go straight into typed memory.
 *
 * Source: RFC 8259; also the bare words NaN, Infinity and -Infinity as numbers, as Triton's clients send them. Strict
 * otherwise: UTF-8 is checked, lone surrogates are errors, duplicate keys are the caller's to notice. */
#ifndef WN_API_JSON_H
#define WN_API_JSON_H

#include "base/arena.h"
#include "winnow/winnow.h"

/** A place in a text. The first failure is kept in `err`, with the byte it happened at. */
struct wn_json {
    const char *start, *p, *end;
    unsigned max_depth;
    struct winnow_err *err;
};

void wn_json_init(struct wn_json *j, const char *text, size_t n, unsigned max_depth, struct winnow_err *err);
/** Fail with "JSON at byte N: …". Always false. */
__attribute__((format(printf, 2, 3))) bool wn_json_fail(struct wn_json *j, const char *fmt, ...);
/** Next character that is not white space, without taking it; 0 at the end. */
char wn_json_peek(struct wn_json *j);
/** Take `c` if it comes next. */
bool wn_json_take(struct wn_json *j, char c);
/** Fail unless only white space is left. */
bool wn_json_end(struct wn_json *j);

/** Walk an object: call after '{' was taken (first = true), then after each value. True: `key` (in `arena` or the text)
 *  was read, its value comes next. False: the object ended, or `j->err` is set; `*ok` tells which. */
bool wn_json_next_key(struct wn_json *j, bool first, struct wn_arena *arena, struct winnow_str *key, bool *ok);
/** The same for arrays, without a key. */
bool wn_json_next_item(struct wn_json *j, bool first, bool *ok);

/** A string; escapes are resolved into `arena`, a string without any points into the text. */
bool wn_json_string(struct wn_json *j, struct wn_arena *arena, struct winnow_str *ret);
bool wn_json_bool(struct wn_json *j, bool *ret);
bool wn_json_null(struct wn_json *j);
/** An integer within [lo, hi]; "1.0" and "1e3" are integers too. */
bool wn_json_i64(struct wn_json *j, int64_t lo, int64_t hi, int64_t *ret);
bool wn_json_u64(struct wn_json *j, uint64_t hi, uint64_t *ret);
bool wn_json_f64(struct wn_json *j, double *ret);
/** Rounded once, from the decimal digits to f32. Finite text that is out of range is an error. */
bool wn_json_f32(struct wn_json *j, float *ret);
/** Check and pass over a number, or any value. */
bool wn_json_skip_number(struct wn_json *j);
bool wn_json_skip(struct wn_json *j);

/** Numbers, booleans or strings of a tensor: nested by `shape` or flat, row-major. Exactly as many as the shape says.
 *  @param to  room for the elements; STRING: struct winnow_str in `arena` or the text */
bool wn_json_tensor(struct wn_json *j, enum winnow_dtype dtype, unsigned rank, const int64_t *shape, size_t count,
                    void *to, struct wn_arena *arena);

/** Shortest decimal text that reads back as the same f32 / f64; "NaN", "Infinity", "-Infinity". At most 32 bytes, no
 *  NUL; returns the length. */
size_t wn_json_print_f32(char *to, float v);
size_t wn_json_print_f64(char *to, double v);

#endif
