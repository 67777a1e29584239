/* db.h: STATE/winnow.db: the index of uploads, jobs and what happened to them. Only the jobs thread uses it.
 *
 * The disk is the truth: a job's folder and an upload's bytes are there or not; reconcile.c brings the two together. */
#ifndef WN_JOBS_DB_H
#define WN_JOBS_DB_H

#include <jansson.h>
#include "base/base.h"

#define WN_ID_ROOM 40

struct wn_db;

/** One upload. */
struct wn_file_row {
    char id[WN_ID_ROOM]; /* "file-…" */
    char sha256[65];     /* hex; the name of its bytes under STATE/files */
    char purpose[32];
    char filename[256];
    int64_t bytes, created_s;
    char owner[72]; /* id of the token that brought it; "": nobody's, or not known any more */
};

/** Which uploads; NULL: whichever. */
struct wn_file_filter {
    const char *purpose, *owner;
};

/* Where a job stands; kept in the database by number. Each is entered durably before its work begins, so a restart
 * goes on with that work. */
enum wn_stage {
    WN_STAGE_NEW,     /* row written, folder perhaps still under its staging name */
    WN_STAGE_WORK,    /* the worker's turn, until result.json */
    WN_STAGE_GATE,    /* evaluation and verdict */
    WN_STAGE_PUBLISH, /* becomes a version */
    WN_STAGE_PROMOTE, /* becomes live */
    WN_STAGE_ANCHOR,  /* its rows join the anchor */
    WN_STAGE_DONE,
};
enum wn_job_status {
    WN_JOB_QUEUED,
    WN_JOB_VALIDATING,
    WN_JOB_RUNNING,
    WN_JOB_SUCCEEDED,
    WN_JOB_FAILED,
    WN_JOB_CANCELLED
};
enum wn_promotion {
    WN_PROMOTION_NONE,
    WN_PROMOTION_WAITING,
    WN_PROMOTION_PROMOTED,
    WN_PROMOTION_REFUSED,
    WN_PROMOTION_ROLLED_BACK
};
/** "validating_files", …; "none", …. */
const char *wn_job_status_name(enum wn_job_status s);
const char *wn_promotion_name(enum wn_promotion p);

/** One job. */
struct wn_job_row {
    int64_t seq;
    char id[WN_ID_ROOM]; /* "ftjob-…" */
    char model[160], target[160];
    char training_file[WN_ID_ROOM], validation_file[WN_ID_ROOM]; /* "" : none */
    enum wn_stage stage;
    enum wn_job_status status;
    enum wn_promotion promotion;
    int64_t created_s, finished_s, version,
        progress_at; /* version 0: none; progress_at: bytes of progress.jsonl read */
    json_t *doc;     /* the rest: request, base, error, metrics, gate, … Owned */
};
void wn_job_row_done(struct wn_job_row *row);

/** Open or make the database and check it. `ret_fresh`: it was not there, or never got as far as wn_db_settle().
 *  @return E_MALFORMED (damaged), E_UNSUPPORTED (of a newer winnowd), E_CONFLICT (another process has it), E_NO_SPACE,
 *          E_DENIED, E_IO; err says what to do */
WINNOW_MUST_USE enum winnow_status wn_db_open(const char *path, struct wn_db **ret, bool *ret_fresh,
                                              struct winnow_err *err);
void wn_db_close(struct wn_db *db); /* NULL is fine */
/** What begin … commit enclose happens or does not. Commit is durable. After a failure: rolled back. */
WINNOW_MUST_USE enum winnow_status wn_db_begin(struct wn_db *db, struct winnow_err *err);
WINNOW_MUST_USE enum winnow_status wn_db_commit(struct wn_db *db, struct winnow_err *err);
void wn_db_rollback(struct wn_db *db);
/** The disk was taken in: from now on what is not in the database is an orphan. */
WINNOW_MUST_USE enum winnow_status wn_db_settle(struct wn_db *db, struct winnow_err *err);

WINNOW_MUST_USE enum winnow_status wn_db_file_add(struct wn_db *db, const struct wn_file_row *row,
                                                  struct winnow_err *err);
/** E_NOT_FOUND when there is none. */
WINNOW_MUST_USE enum winnow_status wn_db_file_get(struct wn_db *db, const char *id, struct wn_file_row *ret,
                                                  struct winnow_err *err);
WINNOW_MUST_USE enum winnow_status wn_db_file_delete(struct wn_db *db, const char *id, struct winnow_err *err);
/** Newest first, behind `after` (NULL: from the newest); filter NULL: all. At most `limit`, into ret [limit]. */
WINNOW_MUST_USE enum winnow_status wn_db_file_list(struct wn_db *db, const struct wn_file_filter *filter,
                                                   const char *after, bool ascending, size_t limit,
                                                   struct wn_file_row *ret, size_t *ret_n, struct winnow_err *err);
/** How many rows name these bytes. */
WINNOW_MUST_USE enum winnow_status wn_db_file_uses(struct wn_db *db, const char *sha256, int64_t *ret,
                                                   struct winnow_err *err);
WINNOW_MUST_USE enum winnow_status wn_db_file_totals(struct wn_db *db, int64_t *ret_n, int64_t *ret_bytes,
                                                     struct winnow_err *err);

/** Insert (seq is set) or replace by id. */
WINNOW_MUST_USE enum winnow_status wn_db_job_save(struct wn_db *db, struct wn_job_row *row, struct winnow_err *err);
WINNOW_MUST_USE enum winnow_status wn_db_job_get(struct wn_db *db, const char *id, struct wn_job_row *ret,
                                                 struct winnow_err *err);
WINNOW_MUST_USE enum winnow_status wn_db_job_delete(struct wn_db *db, const char *id, struct winnow_err *err);
/** Which jobs wn_db_job_each() gives. */
enum wn_job_which { WN_JOBS_ALL, WN_JOBS_ACTIVE, WN_JOBS_WAITING };
/** Newest first, behind `after` (NULL: from the newest), at most `limit`; `fn` returns false to stop. The row is freed
 *  afterwards; it may be taken by clearing it. */
WINNOW_MUST_USE enum winnow_status wn_db_job_each(struct wn_db *db, enum wn_job_which which, const char *after,
                                                  size_t limit, bool (*fn)(void *arg, struct wn_job_row *row),
                                                  void *arg, struct winnow_err *err);
/** An unfinished job that uses the file: its id into ret; "" when there is none. */
WINNOW_MUST_USE enum winnow_status wn_db_file_user(struct wn_db *db, const char *file_id, char ret[WN_ID_ROOM],
                                                   struct winnow_err *err);

/** One thing that happened to a job. `data` may be NULL; not taken. */
WINNOW_MUST_USE enum winnow_status wn_db_event_add(struct wn_db *db, const char *job, int64_t at_ms, const char *level,
                                                   const char *type, const char *message, const json_t *data,
                                                   struct winnow_err *err);
/** Events of a job as OpenAI objects, newest first, behind event `after` (0: from the newest); with `ascending` oldest
 *  first. `ret`: a new array. */
WINNOW_MUST_USE enum winnow_status wn_db_event_list(struct wn_db *db, const char *job, int64_t after, bool ascending,
                                                    size_t limit, json_t **ret, struct winnow_err *err);

#endif
