/* yaml.h: YAML text -> a tree of nodes that know their line. What people write (settings, recipes, pipelines) is read
 * through this, so that every complaint can say FILE:LINE.
 *
 * YAML 1.2 core schema: null, true/false, decimal, 0o and 0x integers, floats; anything quoted is a string. One
 * document. Duplicate keys, keys that are not scalars, merge keys and control characters are errors. Bounded: 1 MiB of
 * text, 32 levels, 100 000 nodes (aliases count what they stand for). libyaml does the scanning. */
#ifndef WN_YAML_H
#define WN_YAML_H

#include <stdarg.h>
#include <jansson.h>
#include "base/arena.h"

#define WN_YAML_MAX_BYTES (1u << 20)
#define WN_YAML_MAX_DEPTH 32
#define WN_YAML_MAX_NODES 100000u

enum wn_yaml_kind { WN_YAML_NULL, WN_YAML_BOOL, WN_YAML_INT, WN_YAML_FLOAT, WN_YAML_STRING, WN_YAML_SEQ, WN_YAML_MAP };

/** One value; owned by its document, immutable. */
struct wn_yaml_node {
    enum wn_yaml_kind kind;
    bool quoted;        /* a scalar written in quotes or as a block */
    unsigned line, col; /* where it starts, from 1 */
    const char *tag;    /* "!EpochRangeModifier", or NULL; only with WN_YAML_TAGS */
    const char *text;   /* scalars: as written, without quotes; "" otherwise. NUL-terminated, no NUL inside */
    union {             /* by kind */
        bool b;
        int64_t i;
        double f;
    } as;
    size_t n;                   /* SEQ, MAP: number of entries */
    struct wn_yaml_node **item; /* [n] values */
    struct wn_yaml_node **key;  /* [n] MAP only: keys, scalars of any kind; `text` is the name */
    size_t total;               /* nodes of this subtree, aliases expanded */
    unsigned height;            /* levels of this subtree, aliases expanded; a scalar has 1 */
};

/** A document. Zero-initialise, or let wn_yaml_parse() set it. */
struct wn_yaml {
    struct wn_arena arena;
    const char *file;          /* as given; in the arena */
    struct wn_yaml_node *root; /* an empty document is a NULL node */
};

/** Flags: allow local tags (`!Name`); allow anchors and aliases (an aliased node is shared, never copied). */
enum { WN_YAML_TAGS = 1, WN_YAML_ALIASES = 2 };

/** Parse `n` bytes. `file` is used in messages, which read "FILE:LINE: what is wrong".
 *  @param first_line  line number of the first byte in `file` (1; more for a part of a larger file)
 *  @return E_MALFORMED, E_UNSUPPORTED (tag or alias that the flags do not allow), E_TOO_LARGE, E_NOMEM */
WINNOW_MUST_USE enum winnow_status wn_yaml_parse(const void *bytes, size_t n, const char *file, unsigned first_line,
                                                 unsigned flags, struct wn_yaml *ret, struct winnow_err *err);
/** Read and parse the file `path`. Additionally E_NOT_FOUND, E_DENIED, E_IO. */
WINNOW_MUST_USE enum winnow_status wn_yaml_read(const char *path, unsigned flags, struct wn_yaml *ret,
                                                struct winnow_err *err);
/** Release all nodes. */
void wn_yaml_done(struct wn_yaml *doc);

/** Value of `key` in a MAP, or NULL (also when `map` is no MAP). */
const struct wn_yaml_node *wn_yaml_get(const struct wn_yaml_node *map, const char *key);
/** True for WN_YAML_INT and WN_YAML_FLOAT; `ret` (may be NULL) is the value. */
bool wn_yaml_number(const struct wn_yaml_node *node, double *ret);
/** "a number", "a list", …: for messages. */
const char *wn_yaml_kind_name(enum wn_yaml_kind kind);
/** wn_fail with "FILE:LINE: " of `node` in front. */
__attribute__((format(printf, 5, 6))) enum winnow_status wn_yaml_fail(const struct wn_yaml *doc,
                                                                      const struct wn_yaml_node *node,
                                                                      struct winnow_err *err, enum winnow_status status,
                                                                      const char *fmt, ...);
/** The same value as JSON (a new reference); tags are dropped, aliases copied. E_MALFORMED for .inf and .nan. */
WINNOW_MUST_USE enum winnow_status wn_yaml_to_json(const struct wn_yaml *doc, const struct wn_yaml_node *node,
                                                   json_t **ret, struct winnow_err *err);
/** The name of `candidates` ([n]) nearest to `word`, if near enough to be a slip of the pen; else NULL. */
const char *wn_near_name(const char *word, const char *const *candidates, size_t n);

#endif
