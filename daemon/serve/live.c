/* live.c: STATE/models/NAME/live says which version is live, so that a rollback survives a crash.
 *
 *     {"version": 3, "digest": "sha256:…", "by": "job 7", "at": "2025-01-31T12:00:00Z", "highest": 2, "newest": 3,
 *      "previous": {"version": 2, "digest": "sha256:…"}, "older": [{"version": 1, "digest": "sha256:…"}]}
 *
 * DESIGN  `highest` is the highest version that a person had put there when the file was written; a higher one was
 *         added later, and takes over. Considered: comparing the folder's time with `at`. Copying a repository, or
 *         unpacking it into a fresh container, gives every folder a new time, and would undo each rollback. Times
 *         decide only where the file does not say `highest` (somebody else wrote it).
 *         `previous` and `older` are the way back, at most 8 steps; each version stands there once. A rollback takes
 *         its step off and does not add the version it leaves, so that rolling back twice never brings that one back.
 *         Versions made by a job are never live but by this file: a candidate that waits for its gate or was refused
 *         must not win by its number.
 *
 * LOCKS   none for the file: the loader runs one task per model at a time. */
#include "daemon/serve/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include "base/file.h"

#define LIVE_MAX 65536

static bool get_version(const json_t *o, const char *key, int64_t *ret)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_integer(v) || json_integer_value(v) <= 0)
        return false;
    *ret = json_integer_value(v);
    return true;
}

static bool get_digest(const json_t *o, char ret[WN_DIGEST_TEXT])
{
    const char *text = json_string_value(json_object_get(o, "digest"));
    struct wn_sha256 d;
    if (!text || !wn_digest_parse(text, &d))
        return false;
    wn_digest_text(&d, ret);
    return true;
}

static bool get_prev(const json_t *o, struct wn_prev *ret)
{
    return json_is_object(o) && get_version(o, "version", &ret->version) && get_digest(o, ret->digest);
}

static bool parse_live(const json_t *o, struct wn_live *ret)
{
    if (!get_version(o, "version", &ret->version) || !get_digest(o, ret->digest))
        return false;
    const char *by = json_string_value(json_object_get(o, "by"));
    snprintf(ret->by, sizeof ret->by, "%s", by ? by : "");
    const json_t *highest = json_object_get(o, "highest"), *prev = json_object_get(o, "previous");
    ret->highest = json_is_integer(highest) && json_integer_value(highest) >= 0 ? json_integer_value(highest) : -1;
    if (json_is_object(prev) && !get_prev(prev, &ret->prev[0]))
        return false;
    const json_t *older = json_object_get(o, "older");
    for (size_t i = 0; ret->prev[0].version && i < json_array_size(older) && i + 1 < WN_MAX_PREV; i++)
        if (!get_prev(json_array_get(older, i), &ret->prev[i + 1]))
            return false;
    if (!get_version(o, "newest", &ret->newest))
        ret->newest = WN_MAX(ret->version, ret->prev[0].version);
    ret->exists = true;
    return true;
}

static int64_t mtime_ns(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec : 0;
}

enum winnow_status wn_live_read(const char *state_models, const char *name, struct wn_live *ret, struct winnow_err *err)
{
    *ret = (struct wn_live){ .highest = -1 };
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/%s/live", state_models, name);
    WN_CLEANUP(wn_freep) void *bytes = NULL;
    size_t n;
    if (!path)
        return wn_fail(err, WINNOW_E_NOMEM, "live file of model '%s'", name);
    enum winnow_status status = wn_file_read(path, LIVE_MAX, &bytes, &n, err);
    if (status == WINNOW_E_NOT_FOUND)
        return WINNOW_OK;
    WN_TRY(status);
    json_error_t jerr;
    json_t *o = json_loadb(bytes, n, JSON_REJECT_DUPLICATES, &jerr);
    if (!o)
        return wn_fail(err, WINNOW_E_MALFORMED, "%s:%d: %s", path, jerr.line, jerr.text);
    bool ok = parse_live(o, ret);
    json_decref(o);
    if (!ok) {
        *ret = (struct wn_live){ .highest = -1 };
        return wn_fail(err, WINNOW_E_MALFORMED, "%s: version or digest is missing or wrong", path);
    }
    ret->mtime_ns = mtime_ns(path);
    return WINNOW_OK;
}

static void now_text(char ret[32])
{
    time_t t = time(NULL);
    struct tm tm;
    gmtime_r(&t, &tm);
    strftime(ret, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static json_t *prev_json(const struct wn_prev *p)
{
    return json_pack("{s:I, s:s}", "version", (json_int_t)p->version, "digest", p->digest);
}

enum winnow_status wn_live_write(const char *state_models, const char *name, struct wn_live *live,
                                 struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *folder = wn_asprintf("%s/%s", state_models, name);
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/%s/live", state_models, name);
    if (!folder || !path)
        return wn_fail(err, WINNOW_E_NOMEM, "live file of model '%s'", name);
    if (mkdir(folder, 0777) != 0 && errno != EEXIST)
        return wn_fail_errno(err, errno, "making folder '%s'", folder);
    char at[32];
    now_text(at);
    json_t *o = json_pack("{s:I, s:s, s:s, s:s}", "version", (json_int_t)live->version, "digest", live->digest, "by",
                          live->by, "at", at);
    if (o && live->highest >= 0)
        json_object_set_new(o, "highest", json_integer(live->highest));
    if (o && live->newest)
        json_object_set_new(o, "newest", json_integer(live->newest));
    if (o && live->prev[0].version)
        json_object_set_new(o, "previous", prev_json(&live->prev[0]));
    json_t *older = o && live->prev[0].version && live->prev[1].version ? json_array() : NULL;
    for (size_t i = 1; older && i < WN_MAX_PREV && live->prev[i].version; i++)
        json_array_append_new(older, prev_json(&live->prev[i]));
    if (older)
        json_object_set_new(o, "older", older);
    WN_CLEANUP(wn_freep) char *text = o ? json_dumps(o, JSON_INDENT(1)) : NULL;
    json_decref(o);
    if (!text)
        return wn_fail(err, WINNOW_E_MALFORMED, "live file of model '%s': '%.64s' is not UTF-8", name, live->by);
    WN_TRY(wn_dir_sync(state_models, err));
    WN_TRY(wn_file_write_durable(path, text, strlen(text), err));
    live->exists = true;
    live->mtime_ns = mtime_ns(path);
    return WINNOW_OK;
}

/* ---- which version is live; under cat ---- */

void wn_live_remember(struct wn_live *live, const struct wn_live *was, const struct wn_gen *old, bool back)
{
    size_t n = 0, from = 0;
    if (!back && old && old->version != live->version) {
        live->prev[0].version = old->version;
        memcpy(live->prev[n++].digest, old->digest, sizeof old->digest);
    }
    for (size_t i = 0; back && i < WN_MAX_PREV; i++)
        if (was->prev[i].version == live->version)
            from = i + 1;
    for (size_t i = from; i < WN_MAX_PREV && n < WN_MAX_PREV && was->prev[i].version; i++)
        if (was->prev[i].version != live->version && !(n && was->prev[i].version == live->prev[0].version))
            live->prev[n++] = was->prev[i];
    live->newest = WN_MAX(live->version, WN_MAX(was->newest, old ? old->version : 0));
}

int64_t wn_live_highest(const struct wn_served *m)
{
    int64_t highest = 0;
    for (size_t i = 0; i < m->versions.n; i++) {
        const struct wn_version *v = m->versions.at[i];
        if (!v->made_here && v->settled)
            highest = WN_MAX(highest, v->number);
    }
    return highest;
}

/* The highest version that counts as older than the live file. */
static int64_t seen_by_live(const struct wn_served *m)
{
    if (m->live.highest >= 0)
        return m->live.highest;
    int64_t highest = 0;
    for (size_t i = 0; i < m->versions.n; i++)
        if (m->versions.at[i]->ctime_ns <= m->live.mtime_ns)
            highest = WN_MAX(highest, m->versions.at[i]->number);
    return highest;
}

static void add_once(int64_t number, int64_t *ret, unsigned *n, unsigned cap)
{
    for (unsigned i = 0; i < *n; i++)
        if (ret[i] == number)
            return;
    if (number > 0 && *n < cap)
        ret[(*n)++] = number;
}

unsigned wn_live_order(const struct wn_served *m, int64_t *ret, unsigned cap)
{
    unsigned n = 0;
    if (m->live.exists) {
        int64_t seen = seen_by_live(m);
        for (size_t i = m->versions.n; i-- > 0;)
            if (!m->versions.at[i]->made_here && m->versions.at[i]->number > seen)
                add_once(m->versions.at[i]->number, ret, &n, cap);
        add_once(m->live.version, ret, &n, cap);
        for (size_t i = 0; i < WN_MAX_PREV; i++)
            add_once(m->live.prev[i].version, ret, &n, cap);
    }
    for (size_t i = m->versions.n; i-- > 0;)
        if (!m->versions.at[i]->made_here)
            add_once(m->versions.at[i]->number, ret, &n, cap);
    return n;
}
