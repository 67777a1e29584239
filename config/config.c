/* config.c: YAML nodes -> struct wn_config by the table in settings.def.
 *
 * DESIGN  Defaults and bounds are written in settings.def as a person would write them in the file, and go through the
 * same value parser; so the sample file, the man page and the program cannot disagree. */
#include "config/config.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/yaml.h"
#include "config/value.h"

static const struct wn_setting settings[] = {
#define SECTION(name, text)
#define SETTING(section, key, type, def, min, max, reload, text)                                                       \
    { #section, #key, WN_SETTING_##type, def, min, max, reload, text, offsetof(struct wn_config, section.key) },
#define END(name)
#include "config/settings.def"
#undef SECTION
#undef SETTING
#undef END
};

static const struct {
    const char *name, *text;
} sections[] = {
#define SECTION(name, text) { #name, text },
#define SETTING(section, key, type, def, min, max, reload, text)
#define END(name)
#include "config/settings.def"
#undef SECTION
#undef SETTING
#undef END
};

#define MAX_LIST   64
#define MAX_STRING 4096

const struct wn_setting *wn_config_settings(size_t *ret_n)
{
    *ret_n = WN_COUNT(settings);
    return settings;
}

const char *wn_config_section_text(const char *section)
{
    for (size_t i = 0; i < WN_COUNT(sections); i++)
        if (strcmp(sections[i].name, section) == 0)
            return sections[i].text;
    return NULL;
}

/* ---- values ---- */
struct target {
    struct wn_config *cfg;
    const struct wn_setting *s;
    const char *dir; /* where relative paths start; "" = leave them */
    char *msg;       /* [200] what is wrong, on failure */
    bool no_memory;  /* that is all that is wrong */
};
#define MSG_ROOM 200

__attribute__((format(printf, 2, 3))) static bool wrong(struct target *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(t->msg, MSG_ROOM, fmt, ap);
    va_end(ap);
    return false;
}

static bool no_memory(struct target *t)
{
    t->no_memory = true;
    return wrong(t, "out of memory");
}

static void *field(struct wn_config *cfg, const struct wn_setting *s)
{
    return (char *)cfg + s->offset;
}

/* A path from where the file lies; absolute ones, credentials and "" as they are. NULL when out of memory. */
static const char *place_path(struct target *t, const char *path)
{
    if (path[0] == '/' || !path[0] || !t->dir[0] ||
        strncmp(path, WN_CONFIG_CREDENTIAL, sizeof WN_CONFIG_CREDENTIAL - 1) == 0)
        return wn_arena_strndup(&t->cfg->arena, path, strlen(path));
    return wn_arena_printf(&t->cfg->arena, "%s/%s", t->dir, path);
}

/* One string of a STRING, PATH, PATHS or ADDRESSES setting, copied into the arena. */
static bool set_string(struct target *t, const char *text, const char **ret)
{
    const char *why = NULL;
    enum wn_setting_type type = t->s->type;
    if (strlen(text) > MAX_STRING)
        return wrong(t, "longer than %d bytes", MAX_STRING);
    for (const char *p = text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return wrong(t, "a control character");
    if ((type == WN_SETTING_PATH || type == WN_SETTING_PATHS) && !*text && *t->s->def)
        return wrong(t, "an empty path");
    if (type == WN_SETTING_ADDRESSES && !wn_value_address(text, &why))
        return wrong(t, "'%.60s' is not an address: %s", text, why);
    *ret = type == WN_SETTING_PATH || type == WN_SETTING_PATHS ? place_path(t, text)
                                                               : wn_arena_strndup(&t->cfg->arena, text, strlen(text));
    return *ret ? true : no_memory(t);
}

static bool set_list(struct target *t, const char *const *texts, size_t n)
{
    struct wn_config_list *list = field(t->cfg, t->s);
    int64_t min = atoll(t->s->min), max = WN_MIN(atoll(t->s->max), (long long)MAX_LIST);
    if ((int64_t)n < min || (int64_t)n > max)
        return wrong(t, "%zu entries where %" PRId64 " to %" PRId64 " are allowed", n, min, max);
    list->at = wn_arena_calloc(&t->cfg->arena, n, sizeof *list->at);
    if (!list->at)
        return no_memory(t);
    for (size_t i = 0; i < n; i++)
        if (!set_string(t, texts[i], &list->at[i]))
            return false;
    list->n = n;
    return true;
}

static bool set_enum(struct target *t, const char *text)
{
    int index = 0;
    size_t n = strlen(text);
    for (const char *p = t->s->min; *p; index++) {
        size_t len = strcspn(p, "|");
        if (len == n && memcmp(p, text, n) == 0) {
            *(int *)field(t->cfg, t->s) = index;
            return true;
        }
        p += len + (p[len] == '|');
    }
    return wrong(t, "'%.40s' is not one of %s", text, t->s->min);
}

static bool set_int(struct target *t, const char *text)
{
    int64_t v = strtoll(text, NULL, 0);
    if (*t->s->min && v < atoll(t->s->min))
        return wrong(t, "%" PRId64 " is below the least value, %s", v, t->s->min);
    if (*t->s->max && v > atoll(t->s->max))
        return wrong(t, "%" PRId64 " is above the largest value, %s", v, t->s->max);
    *(int64_t *)field(t->cfg, t->s) = v;
    return true;
}

static bool set_real(struct target *t, double v, const char *text)
{
    if (!isfinite(v))
        return wrong(t, "'%.40s' is not a finite number", text);
    if (*t->s->min && v < atof(t->s->min))
        return wrong(t, "%.40s is below the least value, %s", text, t->s->min);
    if (*t->s->max && v > atof(t->s->max))
        return wrong(t, "%.40s is above the largest value, %s", text, t->s->max);
    *(double *)field(t->cfg, t->s) = v;
    return true;
}

/* SIZE and DURATION: a number with a unit. */
static bool set_quantity(struct target *t, const char *text)
{
    bool (*parse)(const char *, uint64_t *, const char **) =
        t->s->type == WN_SETTING_SIZE ? wn_value_size : wn_value_duration;
    uint64_t v, bound;
    const char *why = NULL;
    if (!parse(text, &v, &why))
        return wrong(t, "'%.40s' is not a %s: %s", text, t->s->type == WN_SETTING_SIZE ? "size" : "duration", why);
    if (*t->s->min && parse(t->s->min, &bound, &why) && v < bound)
        return wrong(t, "%.40s is below the least value, %s", text, t->s->min);
    if (*t->s->max && parse(t->s->max, &bound, &why) && v > bound)
        return wrong(t, "%.40s is above the largest value, %s", text, t->s->max);
    *(uint64_t *)field(t->cfg, t->s) = v;
    return true;
}

/* ---- defaults ---- */
static bool set_default_list(struct target *t)
{
    char copy[256], *save = NULL;
    const char *texts[MAX_LIST];
    size_t n = 0;
    snprintf(copy, sizeof copy, "%s", t->s->def);
    for (char *p = strtok_r(copy, ", ", &save); p && n < MAX_LIST; p = strtok_r(NULL, ", ", &save))
        texts[n++] = p;
    return set_list(t, texts, n);
}

static bool set_default(struct target *t)
{
    const char *def = t->s->def;
    switch (t->s->type) {
    case WN_SETTING_BOOL:
        *(bool *)field(t->cfg, t->s) = strcmp(def, "true") == 0;
        return true;
    case WN_SETTING_INT:
        return set_int(t, def);
    case WN_SETTING_REAL:
        return set_real(t, atof(def), def);
    case WN_SETTING_SIZE:
    case WN_SETTING_DURATION:
        return set_quantity(t, def);
    case WN_SETTING_STRING:
    case WN_SETTING_PATH:
        return set_string(t, def, field(t->cfg, t->s));
    case WN_SETTING_ENUM:
        return set_enum(t, def);
    case WN_SETTING_PATHS:
    case WN_SETTING_ADDRESSES:
        return set_default_list(t);
    }
    return false;
}

enum winnow_status wn_config_defaults(struct wn_config *ret, struct winnow_err *err)
{
    char msg[MSG_ROOM];
    *ret = (struct wn_config){ 0 };
    wn_arena_init(&ret->arena, 0);
    for (size_t i = 0; i < WN_COUNT(settings); i++) {
        struct target t = { .cfg = ret, .s = &settings[i], .dir = "", .msg = msg };
        if (!set_default(&t)) {
            wn_config_done(ret);
            return wn_fail(err, t.no_memory ? WINNOW_E_NOMEM : WINNOW_E_INTERNAL, "default of %s.%s: %s",
                           settings[i].section, settings[i].key, msg);
        }
    }
    return WINNOW_OK;
}

/* ---- the file ---- */
static bool set_node_list(struct target *t, const struct wn_yaml_node *node)
{
    const char *texts[MAX_LIST];
    if (node->kind == WN_YAML_STRING)
        return set_list(t, &node->text, 1);
    if (node->kind != WN_YAML_SEQ)
        return wrong(t, "expected a list, not %s", wn_yaml_kind_name(node->kind));
    if (node->n > MAX_LIST)
        return wrong(t, "more than %d entries", MAX_LIST);
    for (size_t i = 0; i < node->n; i++) {
        if (node->item[i]->kind != WN_YAML_STRING)
            return wrong(t, "entry %zu: expected a string, not %s", i + 1, wn_yaml_kind_name(node->item[i]->kind));
        texts[i] = node->item[i]->text;
    }
    return set_list(t, texts, node->n);
}

static bool expected(struct target *t, const char *what, const struct wn_yaml_node *node)
{
    if (node->kind >= WN_YAML_SEQ || node->kind == WN_YAML_NULL)
        return wrong(t, "expected %s, not %s", what, wn_yaml_kind_name(node->kind));
    return wrong(t, "expected %s, not '%.40s'", what, node->text);
}

static bool set_node(struct target *t, const struct wn_yaml_node *node)
{
    double number = 0;
    bool scalar = node->kind == WN_YAML_STRING || node->kind == WN_YAML_INT || node->kind == WN_YAML_FLOAT;
    switch (t->s->type) {
    case WN_SETTING_BOOL:
        if (node->kind != WN_YAML_BOOL)
            return expected(t, "true or false", node);
        *(bool *)field(t->cfg, t->s) = node->as.b;
        return true;
    case WN_SETTING_INT:
        if (node->kind != WN_YAML_INT)
            return expected(t, "an integer", node);
        char digits[24];
        snprintf(digits, sizeof digits, "%" PRId64, node->as.i);
        return set_int(t, digits);
    case WN_SETTING_REAL:
        return wn_yaml_number(node, &number) ? set_real(t, number, node->text) : expected(t, "a number", node);
    case WN_SETTING_SIZE:
        return scalar ? set_quantity(t, node->text) : expected(t, "a size such as 64MiB", node);
    case WN_SETTING_DURATION:
        return scalar ? set_quantity(t, node->text) : expected(t, "a duration such as 2ms", node);
    case WN_SETTING_STRING:
    case WN_SETTING_PATH:
        return node->kind == WN_YAML_STRING ? set_string(t, node->text, field(t->cfg, t->s))
                                            : expected(t, "a string", node);
    case WN_SETTING_ENUM:
        return node->kind < WN_YAML_SEQ && node->kind != WN_YAML_NULL ? set_enum(t, node->text)
                                                                      : expected(t, t->s->min, node);
    case WN_SETTING_PATHS:
    case WN_SETTING_ADDRESSES:
        return set_node_list(t, node);
    }
    return false;
}

struct loader {
    const struct wn_yaml *doc;
    struct wn_config *cfg;
    const char *dir;
    struct winnow_err *err;
};

static enum winnow_status unknown_key(const struct loader *l, const char *section, const struct wn_yaml_node *key)
{
    const char *names[WN_COUNT(settings)];
    size_t n = 0;
    for (size_t i = 0; i < WN_COUNT(settings); i++) {
        if (strcmp(settings[i].section, section) == 0)
            names[n++] = settings[i].key;
        else if (strcmp(settings[i].key, key->text) == 0)
            return wn_yaml_fail(l->doc, key, l->err, WINNOW_E_MALFORMED,
                                "unknown key '%s' in section '%s'; it belongs to '%s'", key->text, section,
                                settings[i].section);
    }
    const char *near = wn_near_name(key->text, names, n);
    return wn_yaml_fail(l->doc, key, l->err, WINNOW_E_MALFORMED, "unknown key '%.60s' in section '%s'%s%s%s", key->text,
                        section, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

static enum winnow_status load_key(const struct loader *l, const char *section, const struct wn_yaml_node *key,
                                   const struct wn_yaml_node *value)
{
    char msg[MSG_ROOM];
    for (size_t i = 0; i < WN_COUNT(settings); i++) {
        if (strcmp(settings[i].section, section) != 0 || strcmp(settings[i].key, key->text) != 0)
            continue;
        struct target t = { .cfg = l->cfg, .s = &settings[i], .dir = l->dir, .msg = msg };
        if (!set_node(&t, value))
            return wn_yaml_fail(l->doc, key, l->err, t.no_memory ? WINNOW_E_NOMEM : WINNOW_E_MALFORMED, "%s.%s: %s",
                                section, key->text, msg);
        return WINNOW_OK;
    }
    return unknown_key(l, section, key);
}

static enum winnow_status load_section(const struct loader *l, const struct wn_yaml_node *key,
                                       const struct wn_yaml_node *value)
{
    if (!wn_config_section_text(key->text)) {
        const char *names[WN_COUNT(sections)];
        for (size_t i = 0; i < WN_COUNT(sections); i++)
            names[i] = sections[i].name;
        const char *near = wn_near_name(key->text, names, WN_COUNT(sections));
        return wn_yaml_fail(l->doc, key, l->err, WINNOW_E_MALFORMED, "unknown section '%.60s'%s%s%s", key->text,
                            near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    }
    if (value->kind == WN_YAML_NULL)
        return WINNOW_OK;
    if (value->kind != WN_YAML_MAP)
        return wn_yaml_fail(l->doc, key, l->err, WINNOW_E_MALFORMED, "section '%s' must hold keys, not %s", key->text,
                            wn_yaml_kind_name(value->kind));
    for (size_t i = 0; i < value->n; i++)
        WN_TRY(load_key(l, key->text, value->key[i], value->item[i]));
    return WINNOW_OK;
}

/* What no single setting can tell: without credentials only loopback may be listened on, and tokens come from a file.
 */
static enum winnow_status check_auth(const struct loader *l)
{
    const struct wn_config *cfg = l->cfg;
    const struct wn_config_list *listen = &cfg->server.listen;
    const struct wn_yaml_node *server = wn_yaml_get(l->doc->root, "server"), *at = wn_yaml_get(server, "listen");
    for (size_t i = 0; cfg->server.auth == WN_AUTH_LOOPBACK && i < listen->n; i++)
        if (!wn_value_is_loopback(listen->at[i]))
            return wn_yaml_fail(
                l->doc, at && at->kind == WN_YAML_SEQ ? at->item[i] : at, l->err, WINNOW_E_MALFORMED,
                "server.listen: '%s' is not a loopback address; 'auth: tokens' (or 'auth: none') allows it",
                listen->at[i]);
    if (cfg->server.auth == WN_AUTH_TOKENS && !*cfg->auth.tokens_file)
        return wn_yaml_fail(l->doc, wn_yaml_get(server, "auth"), l->err, WINNOW_E_MALFORMED,
                            "server.auth: tokens, but there is no auth.tokens_file");
    if (cfg->server.auth != WN_AUTH_TOKENS && *cfg->auth.tokens_file)
        return wn_yaml_fail(l->doc, wn_yaml_get(wn_yaml_get(l->doc->root, "auth"), "tokens_file"), l->err,
                            WINNOW_E_MALFORMED,
                            "auth.tokens_file: nobody is asked for a token without 'server.auth: tokens'");
    return WINNOW_OK;
}

static enum winnow_status check_tls(const struct loader *l)
{
    const struct wn_config *cfg = l->cfg;
    const struct wn_yaml_node *server = wn_yaml_get(l->doc->root, "server"), *tls = wn_yaml_get(l->doc->root, "tls");
    if (*cfg->tls.certificate)
        return WINNOW_OK;
    if (cfg->server.tls == WN_SERVER_TLS_REQUIRED)
        return wn_yaml_fail(l->doc, wn_yaml_get(server, "tls"), l->err, WINNOW_E_MALFORMED,
                            "server.tls: required, but there is no tls.certificate");
    if (*cfg->tls.key)
        return wn_yaml_fail(l->doc, wn_yaml_get(tls, "key"), l->err, WINNOW_E_MALFORMED,
                            "tls.key: there is no tls.certificate");
    return WINNOW_OK;
}

static enum winnow_status load_doc(const struct loader *l)
{
    const struct wn_yaml_node *root = l->doc->root;
    if (root->kind != WN_YAML_MAP && root->kind != WN_YAML_NULL)
        return wn_yaml_fail(l->doc, root, l->err, WINNOW_E_MALFORMED, "expected sections, not %s",
                            wn_yaml_kind_name(root->kind));
    for (size_t i = 0; i < root->n; i++)
        WN_TRY(load_section(l, root->key[i], root->item[i]));
    WN_TRY(check_auth(l));
    return check_tls(l);
}

static enum winnow_status load(struct wn_yaml *doc, struct wn_config *ret, struct winnow_err *err)
{
    struct wn_config cfg;
    const char *slash = strrchr(doc->file, '/');
    const char *dir = !slash               ? ""
                      : slash == doc->file ? "/"
                                           : wn_arena_strndup(&doc->arena, doc->file, (size_t)(slash - doc->file));
    if (!dir)
        return wn_fail(err, WINNOW_E_NOMEM, "reading '%s'", doc->file);
    WN_TRY(wn_config_defaults(&cfg, err));
    struct loader l = { .doc = doc, .cfg = &cfg, .dir = dir, .err = err };
    enum winnow_status status = load_doc(&l);
    if (status == WINNOW_OK)
        *ret = cfg;
    else
        wn_config_done(&cfg);
    return status;
}

enum winnow_status wn_config_parse(const void *bytes, size_t n, const char *file, struct wn_config *ret,
                                   struct winnow_err *err)
{
    struct wn_yaml doc = { 0 };
    WN_TRY(wn_yaml_parse(bytes, n, file, 1, 0, &doc, err));
    enum winnow_status status = load(&doc, ret, err);
    wn_yaml_done(&doc);
    return status;
}

enum winnow_status wn_config_load(const char *path, struct wn_config *ret, struct winnow_err *err)
{
    struct wn_yaml doc = { 0 };
    WN_TRY(wn_yaml_read(path, 0, &doc, err));
    enum winnow_status status = load(&doc, ret, err);
    wn_yaml_done(&doc);
    return status;
}

void wn_config_done(struct wn_config *cfg)
{
    wn_arena_done(&cfg->arena);
}

/* ---- comparing and printing ---- */
static int format_list(const struct wn_config_list *list, char *buf, size_t room)
{
    size_t n = (size_t)snprintf(buf, room, "[");
    for (size_t i = 0; i < list->n; i++)
        n += (size_t)snprintf(n < room ? buf + n : NULL, n < room ? room - n : 0, "%s\"%s\"", i ? ", " : "",
                              list->at[i]);
    n += (size_t)snprintf(n < room ? buf + n : NULL, n < room ? room - n : 0, "]");
    return (int)n;
}

static const char *choice(const struct wn_setting *s, int index, size_t *ret_n)
{
    const char *p = s->min;
    for (; index > 0; index--)
        p += strcspn(p, "|") + 1;
    *ret_n = strcspn(p, "|");
    return p;
}

int wn_config_format(const struct wn_config *cfg, const struct wn_setting *s, char *buf, size_t room)
{
    const void *at = (const char *)cfg + s->offset;
    size_t n;
    switch (s->type) {
    case WN_SETTING_BOOL:
        return snprintf(buf, room, "%s", *(const bool *)at ? "true" : "false");
    case WN_SETTING_INT:
        return snprintf(buf, room, "%" PRId64, *(const int64_t *)at);
    case WN_SETTING_REAL:
        return snprintf(buf, room, "%.17g", *(const double *)at);
    case WN_SETTING_SIZE:
        return wn_value_format_size(*(const uint64_t *)at, buf, room);
    case WN_SETTING_DURATION:
        return wn_value_format_duration(*(const uint64_t *)at, buf, room);
    case WN_SETTING_STRING:
    case WN_SETTING_PATH:
        return snprintf(buf, room, "\"%s\"", *(const char *const *)at);
    case WN_SETTING_ENUM: {
        const char *name = choice(s, *(const int *)at, &n);
        return snprintf(buf, room, "%.*s", (int)n, name);
    }
    case WN_SETTING_PATHS:
    case WN_SETTING_ADDRESSES:
        return format_list(at, buf, room);
    }
    return 0;
}

static bool lists_equal(const struct wn_config_list *a, const struct wn_config_list *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (strcmp(a->at[i], b->at[i]) != 0)
            return false;
    return true;
}

static bool values_equal(const struct wn_setting *s, const void *a, const void *b)
{
    switch (s->type) {
    case WN_SETTING_BOOL:
        return *(const bool *)a == *(const bool *)b;
    case WN_SETTING_INT:
        return *(const int64_t *)a == *(const int64_t *)b;
    case WN_SETTING_REAL:
        return *(const double *)a == *(const double *)b;
    case WN_SETTING_SIZE:
    case WN_SETTING_DURATION:
        return *(const uint64_t *)a == *(const uint64_t *)b;
    case WN_SETTING_STRING:
    case WN_SETTING_PATH:
        return strcmp(*(const char *const *)a, *(const char *const *)b) == 0;
    case WN_SETTING_ENUM:
        return *(const int *)a == *(const int *)b;
    case WN_SETTING_PATHS:
    case WN_SETTING_ADDRESSES:
        return lists_equal(a, b);
    }
    return true;
}

size_t wn_config_diff(const struct wn_config *a, const struct wn_config *b, const struct wn_setting **ret, size_t cap)
{
    size_t n = 0;
    for (size_t i = 0; i < WN_COUNT(settings); i++) {
        size_t off = settings[i].offset;
        if (values_equal(&settings[i], (const char *)a + off, (const char *)b + off))
            continue;
        if (n < cap)
            ret[n] = &settings[i];
        n++;
    }
    return n;
}
