/* db.c: STATE/winnow.db: the index of uploads, jobs and what happened to them.
 *
 * DESIGN  WAL with synchronous=FULL: a committed row survives a power cut. Columns that are searched stand alone; what
 *         only travels to the API is one JSON document per job, so a new key needs no new schema. */
#include "daemon/jobs/db.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A column that came later has a default, so that an older winnowd can still write; add_columns() adds it. */
#define VERSION 2 /* user_version; 1: tables made, disk not taken in yet */

struct wn_db {
    sqlite3 *sql;
};

static const char *const schema =
    "CREATE TABLE IF NOT EXISTS files(seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,"
    " sha256 TEXT NOT NULL, purpose TEXT NOT NULL, filename TEXT NOT NULL, bytes INTEGER NOT NULL,"
    " created INTEGER NOT NULL, owner TEXT NOT NULL DEFAULT '') STRICT;"
    "CREATE INDEX IF NOT EXISTS files_sha256 ON files(sha256);"
    "CREATE TABLE IF NOT EXISTS jobs(seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,"
    " model TEXT NOT NULL, target TEXT NOT NULL, training_file TEXT NOT NULL, validation_file TEXT NOT NULL,"
    " stage INTEGER NOT NULL, status INTEGER NOT NULL, promotion INTEGER NOT NULL, created INTEGER NOT NULL,"
    " finished INTEGER NOT NULL, version INTEGER NOT NULL, progress_at INTEGER NOT NULL, doc TEXT NOT NULL) STRICT;"
    "CREATE INDEX IF NOT EXISTS jobs_stage ON jobs(stage);"
    "CREATE TABLE IF NOT EXISTS events(seq INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT NOT NULL, at INTEGER NOT NULL,"
    " level TEXT NOT NULL, type TEXT NOT NULL, message TEXT NOT NULL, data TEXT) STRICT;"
    "CREATE INDEX IF NOT EXISTS events_job ON events(job, seq);";

const char *wn_job_status_name(enum wn_job_status s)
{
    static const char *const name[] = { "queued", "validating_files", "running", "succeeded", "failed", "cancelled" };
    return (unsigned)s < WN_COUNT(name) ? name[s] : "failed";
}

const char *wn_promotion_name(enum wn_promotion p)
{
    static const char *const name[] = { "none", "waiting", "promoted", "refused", "rolled_back" };
    return (unsigned)p < WN_COUNT(name) ? name[p] : "none";
}

void wn_job_row_done(struct wn_job_row *row)
{
    json_decref(row->doc);
    row->doc = NULL;
}

/* ---- statements ---- */
static enum winnow_status fail(struct wn_db *db, int code, struct winnow_err *err)
{
    enum winnow_status status = WINNOW_E_IO;
    switch (code & 0xff) {
    case SQLITE_NOMEM:
        status = WINNOW_E_NOMEM;
        break;
    case SQLITE_FULL:
        status = WINNOW_E_NO_SPACE;
        break;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        status = WINNOW_E_MALFORMED;
        break;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        status = WINNOW_E_CONFLICT;
        break;
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
        status = WINNOW_E_DENIED;
        break;
    }
    const char *why = db && db->sql ? sqlite3_errmsg(db->sql) : sqlite3_errstr(code);
    return wn_fail(err, status, "database: %s", why);
}

static enum winnow_status exec(struct wn_db *db, const char *sql, struct winnow_err *err)
{
    int code = sqlite3_exec(db->sql, sql, NULL, NULL, NULL);
    return code == SQLITE_OK ? WINNOW_OK : fail(db, code, err);
}

static void finalizep(sqlite3_stmt **st)
{
    sqlite3_finalize(*st);
}

static enum winnow_status prepare(struct wn_db *db, const char *sql, sqlite3_stmt **ret, struct winnow_err *err)
{
    int code = sqlite3_prepare_v2(db->sql, sql, -1, ret, NULL);
    return code == SQLITE_OK ? WINNOW_OK : fail(db, code, err);
}

/* One step of a statement that gives no rows. */
static enum winnow_status run(struct wn_db *db, sqlite3_stmt *st, struct winnow_err *err)
{
    int code = sqlite3_step(st);
    return code == SQLITE_DONE || code == SQLITE_ROW ? WINNOW_OK : fail(db, code, err);
}

static void text(sqlite3_stmt *st, int i, const char *s)
{
    sqlite3_bind_text(st, i, s, -1, SQLITE_TRANSIENT);
}

static void column_text(sqlite3_stmt *st, int i, char *ret, size_t room)
{
    const unsigned char *s = sqlite3_column_text(st, i);
    snprintf(ret, room, "%s", s ? (const char *)s : "");
}

/* ---- opening ---- */
static enum winnow_status pragma_int(struct wn_db *db, const char *sql, int64_t *ret, struct winnow_err *err)
{
    WN_CLEANUP(finalizep) sqlite3_stmt *st = NULL;
    WN_TRY(prepare(db, sql, &st, err));
    int code = sqlite3_step(st);
    if (code != SQLITE_ROW)
        return fail(db, code, err);
    *ret = sqlite3_column_int64(st, 0);
    return WINNOW_OK;
}

static enum winnow_status check(struct wn_db *db, struct winnow_err *err)
{
    WN_CLEANUP(finalizep) sqlite3_stmt *st = NULL;
    WN_TRY(prepare(db, "PRAGMA quick_check(1)", &st, err));
    int code = sqlite3_step(st);
    if (code != SQLITE_ROW)
        return fail(db, code, err);
    const char *said = (const char *)sqlite3_column_text(st, 0);
    if (!said || strcmp(said, "ok") != 0)
        return wn_fail(err, WINNOW_E_MALFORMED, "database: %s", said ? said : "out of memory");
    return WINNOW_OK;
}

/* What a database of an earlier winnowd lacks. */
static enum winnow_status add_columns(struct wn_db *db, struct winnow_err *err)
{
    int64_t there;
    WN_TRY(pragma_int(db, "SELECT count(*) FROM pragma_table_info('files') WHERE name='owner'", &there, err));
    return there ? WINNOW_OK : exec(db, "ALTER TABLE files ADD COLUMN owner TEXT NOT NULL DEFAULT ''", err);
}

static enum winnow_status set_up(struct wn_db *db, bool *ret_fresh, struct winnow_err *err)
{
    int64_t version = 0;
    sqlite3_busy_timeout(db->sql, 2000);
    sqlite3_db_config(db->sql, SQLITE_DBCONFIG_DEFENSIVE, 1, (int *)NULL);
    WN_TRY(exec(db,
                "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                "PRAGMA foreign_keys=ON; PRAGMA trusted_schema=OFF; PRAGMA journal_size_limit=16777216;",
                err));
    WN_TRY(pragma_int(db, "PRAGMA user_version", &version, err));
    if (version > VERSION)
        return wn_fail(err, WINNOW_E_UNSUPPORTED, "database: format %lld was written by a newer winnowd (this one: %d)",
                       (long long)version, VERSION);
    WN_TRY(check(db, err));
    WN_TRY(wn_db_begin(db, err));
    WN_TRY(exec(db, schema, err));
    WN_TRY(add_columns(db, err));
    if (version < 1)
        WN_TRY(exec(db, "PRAGMA user_version=1", err));
    WN_TRY(wn_db_commit(db, err));
    *ret_fresh = version < 2;
    return WINNOW_OK;
}

enum winnow_status wn_db_open(const char *path, struct wn_db **ret, bool *ret_fresh, struct winnow_err *err)
{
    struct wn_db *db = calloc(1, sizeof *db);
    if (!db)
        return wn_fail(err, WINNOW_E_NOMEM, "database '%s'", path);
    int code = sqlite3_open_v2(path, &db->sql, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    enum winnow_status status = code == SQLITE_OK ? set_up(db, ret_fresh, err) : fail(db, code, err);
    if (status == WINNOW_OK) {
        *ret = db;
        return WINNOW_OK;
    }
    wn_db_close(db);
    struct winnow_err why = { .status = status, .msg = "" };
    if (err)
        why = *err;
    if (status == WINNOW_E_MALFORMED)
        return wn_fail(err, status,
                       "'%s' is damaged (%.80s): restore it, or move it away and it is rebuilt from the folders "
                       "beside it",
                       path, why.msg);
    if (status == WINNOW_E_CONFLICT)
        return wn_fail(err, status, "'%s' is in use by another process", path);
    return wn_fail_at(err, status, "'%s'", path);
}

void wn_db_close(struct wn_db *db)
{
    if (!db)
        return;
    sqlite3_close_v2(db->sql);
    free(db);
}

enum winnow_status wn_db_begin(struct wn_db *db, struct winnow_err *err)
{
    return exec(db, "BEGIN IMMEDIATE", err);
}

enum winnow_status wn_db_commit(struct wn_db *db, struct winnow_err *err)
{
    enum winnow_status status = exec(db, "COMMIT", err);
    if (status != WINNOW_OK)
        wn_db_rollback(db);
    return status;
}

void wn_db_rollback(struct wn_db *db)
{
    if (!sqlite3_get_autocommit(db->sql))
        sqlite3_exec(db->sql, "ROLLBACK", NULL, NULL, NULL);
}

enum winnow_status wn_db_settle(struct wn_db *db, struct winnow_err *err)
{
    return exec(db, "PRAGMA user_version=2", err);
}

/* ---- files ---- */
#define FILE_COLUMNS "id, sha256, purpose, filename, bytes, created, owner"

static void read_file_row(sqlite3_stmt *st, struct wn_file_row *r)
{
    column_text(st, 0, r->id, sizeof r->id);
    column_text(st, 1, r->sha256, sizeof r->sha256);
    column_text(st, 2, r->purpose, sizeof r->purpose);
    column_text(st, 3, r->filename, sizeof r->filename);
    r->bytes = sqlite3_column_int64(st, 4);
    r->created_s = sqlite3_column_int64(st, 5);
    column_text(st, 6, r->owner, sizeof r->owner);
}

enum winnow_status wn_db_file_add(struct wn_db *db, const struct wn_file_row *r, struct winnow_err *err)
{
    WN_CLEANUP(finalizep) sqlite3_stmt *st = NULL;
    WN_TRY(prepare(db, "INSERT INTO files(" FILE_COLUMNS ") VALUES(?,?,?,?,?,?,?)", &st, err));
    text(st, 1, r->id);
    text(st, 2, r->sha256);
    text(st, 3, r->purpose);
    text(st, 4, r->filename);
    sqlite3_bind_int64(st, 5, r->bytes);
    sqlite3_bind_int64(st, 6, r->created_s);
    text(st, 7, r->owner);
    return run(db, st, err);
}

enum winnow_status wn_db_file_get(struct wn_db *db, const char *id, struct wn_file_row *ret, struct winnow_err *err)
{
    WN_CLEANUP(finalizep) sqlite3_stmt *st = NULL;
    WN_TRY(prepare(db, "SELECT " FILE_COLUMNS " FROM files WHERE id=?", &st, err));
    text(st, 1, id);
    int code = sqlite3_step(st);
    if (code == SQLITE_DONE)
        return wn_fail(err, WINNOW_E_NOT_FOUND, "No such File object: %.80s", id);
    if (code != SQLITE_ROW)
        return fail(db, code, err);
    read_file_row(st, ret);
    return WINNOW_OK;
}

enum winnow_status wn_db_file_delete(struct wn_db *db, const char *id, struct winnow_err *err)
{
    WN_CLEANUP(finalizep) sqlite3_stmt *st = NULL;
    WN_TRY(prepare(db, "DELETE FROM files WHERE id=?", &st, err));
    text(st, 1, id);
    return run(db, st, err);
}

#define LIST_FILES                                                                                                     \
    "SELECT " FILE_COLUMNS " FROM files WHERE (?1 IS NULL OR purpose=?1) AND (?4 IS NULL OR owner=?4) AND "            \
    "(?2 IS NULL OR seq"
enum winnow_status wn_db_file_list(struct wn_db *db, const struct wn_file_filter *filter, const char *after,
                                   bool ascending, size_t limit, struct wn_file_row *ret, size_t *ret_n,
                                   struct winnow_err *err)
{
    WN_CLEANUP(finalizep) sqlite3_stmt *st = NULL;
    WN_TRY(prepare(db,
                   ascending ? LIST_FILES ">(SELECT seq FROM files WHERE id=?2)) ORDER BY seq LIMIT ?3"
                             : LIST_FILES "<(SELECT seq FROM files WHERE id=?2)) ORDER BY seq DESC LIMIT ?3",
                   &st, err));
    const char *purpose = filter ? filter->purpose : NULL, *owner = filter ? filter->owner : NULL;
    if (owner)
        text(st, 4, owner);
    if (purpose)
        text(st, 1, purpose);
    if (after)
        text(st, 2, after);
    sqlite3_bind_int64(st, 3, (sqlite3_int64)limit);
    size_t n = 0;
    int code;
    while ((code = sqlite3_step(st)) == SQLITE_ROW && n < limit)
        read_file_row(st, &ret[n++]);
    if (code != SQLITE_DONE && code != SQLITE_ROW)
        return fail(db, code, err);
    *ret_n = n;
    return WINNOW_OK;
}

enum winnow_status wn_db_file_uses(struct wn_db *db, const char *sha256, int64_t *ret, struct winnow_err *err)
{
    WN_CLEANUP(finalizep) sqlite3_stmt *st = NULL;
    WN_TRY(prepare(db, "SELECT count(*) FROM files WHERE sha256=?", &st, err));
    text(st, 1, sha256);
    WN_TRY(run(db, st, err));
    *ret = sqlite3_column_int64(st, 0);
    return WINNOW_OK;
}

enum winnow_status wn_db_file_totals(struct wn_db *db, int64_t *ret_n, int64_t *ret_bytes, struct winnow_err *err)
{
    WN_CLEANUP(finalizep) sqlite3_stmt *st = NULL;
    WN_TRY(prepare(db, "SELECT count(*), coalesce(sum(bytes), 0) FROM files", &st, err));
    WN_TRY(run(db, st, err));
    *ret_n = sqlite3_column_int64(st, 0);
    *ret_bytes = sqlite3_column_int64(st, 1);
    return WINNOW_OK;
}

/* ---- jobs ---- */
#define JOB_COLUMNS                                                                                                    \
    "id, model, target, training_file, validation_file, stage, status, promotion, created, finished, version, "        \
    "progress_at, doc"

static enum winnow_status read_job_row(sqlite3_stmt *st, struct wn_job_row *r, struct winnow_err *err)
{
    *r = (struct wn_job_row){ 0 };
    column_text(st, 0, r->id, sizeof r->id);
    column_text(st, 1, r->model, sizeof r->model);
    column_text(st, 2, r->target, sizeof r->target);
    column_text(st, 3, r->training_file, sizeof r->training_file);
    column_text(st, 4, r->validation_file, sizeof r->validation_file);
    r->stage = (enum wn_stage)sqlite3_column_int(st, 5);
    r->status = (enum wn_job_status)sqlite3_column_int(st, 6);
    r->promotion = (enum wn_promotion)sqlite3_column_int(st, 7);
    r->created_s = sqlite3_column_int64(st, 8);
    r->finished_s = sqlite3_column_int64(st, 9);
    r->version = sqlite3_column_int64(st, 10);
    r->progress_at = sqlite3_column_int64(st, 11);
    const char *doc = (const char *)sqlite3_column_text(st, 12);
    r->seq = sqlite3_column_int64(st, 13);
    r->doc = doc ? json_loads(doc, JSON_ALLOW_NUL, NULL) : NULL;
    return json_is_object(r->doc) ? WINNOW_OK : wn_fail(err, WINNOW_E_NOMEM, "job '%s'", r->id);
}

enum winnow_status wn_db_job_save(struct wn_db *db, struct wn_job_row *r, struct winnow_err *err)
{
    WN_CLEANUP(finalizep) sqlite3_stmt *st = NULL;
    WN_CLEANUP(wn_freep) char *doc = json_dumps(r->doc, JSON_COMPACT | JSON_REAL_PRECISION(WN_JSON_DIGITS));
    if (!doc)
        return wn_fail(err, WINNOW_E_NOMEM, "job '%s'", r->id);
    WN_TRY(prepare(db,
                   "INSERT INTO jobs(" JOB_COLUMNS ") VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT(id) DO UPDATE SET "
                   "stage=excluded.stage, status=excluded.status, promotion=excluded.promotion, "
                   "finished=excluded.finished, version=excluded.version, progress_at=excluded.progress_at, "
                   "doc=excluded.doc RETURNING seq",
                   &st, err));
    text(st, 1, r->id);
    text(st, 2, r->model);
    text(st, 3, r->target);
    text(st, 4, r->training_file);
    text(st, 5, r->validation_file);
    sqlite3_bind_int(st, 6, (int)r->stage);
    sqlite3_bind_int(st, 7, (int)r->status);
    sqlite3_bind_int(st, 8, (int)r->promotion);
    sqlite3_bind_int64(st, 9, r->created_s);
    sqlite3_bind_int64(st, 10, r->finished_s);
    sqlite3_bind_int64(st, 11, r->version);
    sqlite3_bind_int64(st, 12, r->progress_at);
    text(st, 13, doc);
    int code = sqlite3_step(st);
    if (code != SQLITE_ROW)
        return fail(db, code, err);
    r->seq = sqlite3_column_int64(st, 0);
    return run(db, st, err); /* to its end: only then it is written */
}

enum winnow_status wn_db_job_get(struct wn_db *db, const char *id, struct wn_job_row *ret, struct winnow_err *err)
{
    WN_CLEANUP(finalizep) sqlite3_stmt *st = NULL;
    WN_TRY(prepare(db, "SELECT " JOB_COLUMNS ", seq FROM jobs WHERE id=?", &st, err));
    text(st, 1, id);
    int code = sqlite3_step(st);
    if (code == SQLITE_DONE)
        return wn_fail(err, WINNOW_E_NOT_FOUND, "Could not find fine tune: %.80s", id);
    if (code != SQLITE_ROW)
        return fail(db, code, err);
    return read_job_row(st, ret, err);
}

enum winnow_status wn_db_job_delete(struct wn_db *db, const char *id, struct winnow_err *err)
{
    static const char *const sql[] = { "DELETE FROM events WHERE job=?", "DELETE FROM jobs WHERE id=?" };
    for (size_t i = 0; i < WN_COUNT(sql); i++) {
        WN_CLEANUP(finalizep) sqlite3_stmt *st = NULL;
        WN_TRY(prepare(db, sql[i], &st, err));
        text(st, 1, id);
        WN_TRY(run(db, st, err));
    }
    return WINNOW_OK;
}

enum winnow_status wn_db_job_each(struct wn_db *db, enum wn_job_which which, const char *after, size_t limit,
                                  bool (*fn)(void *arg, struct wn_job_row *row), void *arg, struct winnow_err *err)
{
    WN_CLEANUP(finalizep) sqlite3_stmt *st = NULL;
    WN_TRY(prepare(db,
                   "SELECT " JOB_COLUMNS
                   ", seq FROM jobs WHERE (?1=0 OR (?1=1 AND stage<?4) OR (?1=2 AND promotion=?5)) "
                   "AND (?2 IS NULL OR seq<(SELECT seq FROM jobs WHERE id=?2)) ORDER BY seq DESC LIMIT ?3",
                   &st, err));
    sqlite3_bind_int(st, 1, (int)which);
    if (after)
        text(st, 2, after);
    sqlite3_bind_int64(st, 3, (sqlite3_int64)WN_MIN(limit, (size_t)INT64_MAX));
    sqlite3_bind_int(st, 4, WN_STAGE_DONE);
    sqlite3_bind_int(st, 5, WN_PROMOTION_WAITING);
    int code;
    while ((code = sqlite3_step(st)) == SQLITE_ROW) {
        struct wn_job_row row;
        enum winnow_status status = read_job_row(st, &row, err);
        bool more = status == WINNOW_OK && fn(arg, &row);
        wn_job_row_done(&row);
        WN_TRY(status);
        if (!more)
            return WINNOW_OK;
    }
    return code == SQLITE_DONE ? WINNOW_OK : fail(db, code, err);
}

enum winnow_status wn_db_file_user(struct wn_db *db, const char *file_id, char ret[WN_ID_ROOM], struct winnow_err *err)
{
    WN_CLEANUP(finalizep) sqlite3_stmt *st = NULL;
    WN_TRY(prepare(db, "SELECT id FROM jobs WHERE (training_file=?1 OR validation_file=?1) AND stage<?2 LIMIT 1", &st,
                   err));
    text(st, 1, file_id);
    sqlite3_bind_int(st, 2, WN_STAGE_DONE);
    int code = sqlite3_step(st);
    ret[0] = '\0';
    if (code == SQLITE_ROW)
        column_text(st, 0, ret, WN_ID_ROOM);
    return code == SQLITE_ROW || code == SQLITE_DONE ? WINNOW_OK : fail(db, code, err);
}

/* ---- events ---- */
enum winnow_status wn_db_event_add(struct wn_db *db, const char *job, int64_t at_ms, const char *level,
                                   const char *type, const char *message, const json_t *data, struct winnow_err *err)
{
    WN_CLEANUP(finalizep) sqlite3_stmt *st = NULL;
    WN_CLEANUP(wn_freep)
    char *dump = data ? json_dumps(data, JSON_COMPACT | JSON_REAL_PRECISION(WN_JSON_DIGITS)) : NULL;
    WN_TRY(prepare(db, "INSERT INTO events(job, at, level, type, message, data) VALUES(?,?,?,?,?,?)", &st, err));
    text(st, 1, job);
    sqlite3_bind_int64(st, 2, at_ms);
    text(st, 3, level);
    text(st, 4, type);
    text(st, 5, message);
    if (dump)
        text(st, 6, dump);
    return run(db, st, err);
}

static json_t *event_json(sqlite3_stmt *st)
{
    char id[32];
    snprintf(id, sizeof id, "ftevent-%lld", (long long)sqlite3_column_int64(st, 0));
    const char *data = (const char *)sqlite3_column_text(st, 5);
    return json_pack("{s:s,s:s,s:I,s:I,s:s,s:s,s:s,s:o?}", "id", id, "object", "fine_tuning.job.event", "created_at",
                     (json_int_t)(sqlite3_column_int64(st, 1) / 1000), "created_at_ms",
                     (json_int_t)sqlite3_column_int64(st, 1), "level", sqlite3_column_text(st, 2), "type",
                     sqlite3_column_text(st, 3), "message", sqlite3_column_text(st, 4), "data",
                     data ? json_loads(data, 0, NULL) : NULL);
}

enum winnow_status wn_db_event_list(struct wn_db *db, const char *job, int64_t after, bool ascending, size_t limit,
                                    json_t **ret, struct winnow_err *err)
{
    WN_CLEANUP(finalizep) sqlite3_stmt *st = NULL;
    WN_TRY(prepare(db,
                   ascending
                       ? "SELECT seq, at, level, type, message, data FROM events WHERE job=?1 AND seq>?2 "
                         "ORDER BY seq LIMIT ?3"
                       : "SELECT seq, at, level, type, message, data FROM events WHERE job=?1 AND (?2=0 OR seq<?2) "
                         "ORDER BY seq DESC LIMIT ?3",
                   &st, err));
    text(st, 1, job);
    sqlite3_bind_int64(st, 2, after);
    sqlite3_bind_int64(st, 3, (sqlite3_int64)limit);
    json_t *list = json_array();
    int code;
    while (list && (code = sqlite3_step(st)) == SQLITE_ROW)
        if (json_array_append_new(list, event_json(st)) < 0) {
            code = SQLITE_NOMEM;
            break;
        }
    if (list && code == SQLITE_DONE) {
        *ret = list;
        return WINNOW_OK;
    }
    json_decref(list);
    return list ? fail(db, code, err) : wn_fail(err, WINNOW_E_NOMEM, "events");
}
