/* config.h: winnowd.yaml as a checked struct. Fields, defaults, ranges and texts all come from settings.def. */
#ifndef WN_CONFIG_H
#define WN_CONFIG_H

#include <stdio.h>
#include "base/arena.h"

enum wn_setting_type {
    WN_SETTING_BOOL,
    WN_SETTING_INT,
    WN_SETTING_REAL,
    WN_SETTING_SIZE,
    WN_SETTING_DURATION,
    WN_SETTING_STRING,
    WN_SETTING_PATH,
    WN_SETTING_ENUM,
    WN_SETTING_PATHS,
    WN_SETTING_ADDRESSES,
};

/** Strings of a list; owned by the config. */
struct wn_config_list {
    const char **at;
    size_t n;
};

/* What a setting of each type becomes. */
typedef bool wn_setting_BOOL;
typedef int64_t wn_setting_INT;
typedef double wn_setting_REAL;
typedef uint64_t wn_setting_SIZE;     /* bytes */
typedef uint64_t wn_setting_DURATION; /* microseconds */
typedef const char *wn_setting_STRING;
typedef const char *wn_setting_PATH;
typedef int wn_setting_ENUM; /* index of the choice; the enums below */
typedef struct wn_config_list wn_setting_PATHS;
typedef struct wn_config_list wn_setting_ADDRESSES;

/* Choices, in the order of settings.def. */
enum { WN_AUTH_LOOPBACK, WN_AUTH_TOKENS, WN_AUTH_NONE };
enum { WN_SERVER_TLS_OPTIONAL, WN_SERVER_TLS_REQUIRED, WN_SERVER_TLS_OFF }; /* = enum wn_tls_mode of net.h */
enum { WN_ANCHOR_REFUSE, WN_ANCHOR_EVAL_ROWS };
enum {
    WN_CONFIG_LEVEL_ERROR,
    WN_CONFIG_LEVEL_WARNING,
    WN_CONFIG_LEVEL_NOTICE,
    WN_CONFIG_LEVEL_INFO,
    WN_CONFIG_LEVEL_DEBUG
}; /* + WN_LOG_ERROR = the level of log.h */
enum {
    WN_CONFIG_FORMAT_AUTO,
    WN_CONFIG_FORMAT_TEXT,
    WN_CONFIG_FORMAT_JOURNAL,
    WN_CONFIG_FORMAT_JSON
}; /* = enum wn_log_format */

/** All settings: cfg.batch.max_wait, … Read-only after loading; any thread. */
struct wn_config {
#define SECTION(name, text)                                      struct {
#define SETTING(section, key, type, def, min, max, reload, text) wn_setting_##type key;
#define END(name)                                                                                                      \
    }                                                                                                                  \
    name;
#include "config/settings.def"
#undef SECTION
#undef SETTING
#undef END
    struct wn_arena arena; /* strings and lists */
};

/** A path that begins with this names a credential, not a file: the rest is its name in $CREDENTIALS_DIRECTORY. */
#define WN_CONFIG_CREDENTIAL "credential:"

/** One line of settings.def. */
struct wn_setting {
    const char *section, *key;
    enum wn_setting_type type;
    const char *def, *min, *max;
    bool reload;
    const char *text;
    size_t offset; /* of the field in struct wn_config */
};
/** All settings in the order of the file; `ret_n` of them. */
const struct wn_setting *wn_config_settings(size_t *ret_n);
/** Text of a section, or NULL when there is none of that name. */
const char *wn_config_section_text(const char *section);

/** Every setting at its default. Give it back with wn_config_done(). */
WINNOW_MUST_USE enum winnow_status wn_config_defaults(struct wn_config *ret, struct winnow_err *err);
/** Read the file `path` over the defaults. Relative paths in it start at the folder it lies in.
 *  @return E_MALFORMED: err reads "FILE:LINE: section.key: what is wrong"; also as wn_yaml_read() */
WINNOW_MUST_USE enum winnow_status wn_config_load(const char *path, struct wn_config *ret, struct winnow_err *err);
/** The same from memory; `file` appears in messages and its folder is where relative paths start. */
WINNOW_MUST_USE enum winnow_status wn_config_parse(const void *bytes, size_t n, const char *file, struct wn_config *ret,
                                                   struct winnow_err *err);
void wn_config_done(struct wn_config *cfg);

/** Settings whose values differ: the first `cap` into `ret` (may be NULL when cap is 0); returns how many there are.
 * For a reload: those with `reload` false keep their old value until a restart. */
size_t wn_config_diff(const struct wn_config *a, const struct wn_config *b, const struct wn_setting **ret, size_t cap);
/** A setting's value as it would be written in the file. Returns the length as snprintf does. */
int wn_config_format(const struct wn_config *cfg, const struct wn_setting *s, char *buf, size_t room);

/** The documented sample file: every section, and every key with its text and default, commented out. */
void wn_config_write_sample(FILE *to);
/** The part of winnowd.yaml(5) that lists sections and keys, in Markdown. */
void wn_config_write_man(FILE *to);

#endif
