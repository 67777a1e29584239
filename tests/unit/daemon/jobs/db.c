/* db.c: rows and pages, what a broken or foreign database says. */
#include "daemon/jobs/db.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/tree.h"

static char dir[] = "/tmp/winnow-db-XXXXXX", path[64];
static struct wn_db *db;
static struct winnow_err err;

static void must(enum winnow_status status)
{
    cr_assert_eq(status, WINNOW_OK, "%s", err.msg);
}

static void set_up(void)
{
    bool fresh;
    cr_assert(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/winnow.db", dir);
    must(wn_db_open(path, &db, &fresh, &err));
    cr_assert(fresh);
}

static void tear_down(void)
{
    wn_db_close(db);
    must(wn_tree_remove(dir, &err));
}

TestSuite(db, .init = set_up, .fini = tear_down);

static void reopen(bool want_fresh)
{
    bool fresh;
    wn_db_close(db);
    db = NULL;
    must(wn_db_open(path, &db, &fresh, &err));
    cr_assert_eq(fresh, want_fresh);
}

Test(db, fresh_until_settled)
{
    reopen(true);
    must(wn_db_settle(db, &err));
    reopen(false);
}

Test(db, files)
{
    struct wn_file_row row = { .sha256 = "ab", .purpose = "fine-tune", .bytes = 5, .created_s = 7 }, got[10];
    size_t n;
    int64_t count, bytes, uses;
    for (int i = 0; i < 5; i++) {
        snprintf(row.id, sizeof row.id, "file-%d", i);
        snprintf(row.filename, sizeof row.filename, "f%d'; DROP TABLE files; --", i);
        snprintf(row.owner, sizeof row.owner, "%s", i < 2 ? "one" : "");
        must(wn_db_file_add(db, &row, &err));
    }
    cr_assert_neq(wn_db_file_add(db, &row, &err), WINNOW_OK, "an id twice");
    reopen(true);
    must(wn_db_file_get(db, "file-3", &row, &err));
    cr_assert(row.bytes == 5 && row.created_s == 7 && strcmp(row.filename, "f3'; DROP TABLE files; --") == 0);
    must(wn_db_file_list(db, NULL, "file-3", false, 2, got, &n, &err));
    cr_assert(n == 2 && !strcmp(got[0].id, "file-2") && !strcmp(got[1].id, "file-1"));
    must(wn_db_file_list(db, &(struct wn_file_filter){ "fine-tune", NULL }, NULL, true, 10, got, &n, &err));
    cr_assert(n == 5 && !strcmp(got[0].id, "file-0") && !strcmp(got[0].owner, "one") && !strcmp(got[4].owner, ""));
    must(wn_db_file_list(db, &(struct wn_file_filter){ "other", NULL }, NULL, true, 10, got, &n, &err));
    cr_assert_eq(n, 0);
    must(wn_db_file_list(db, &(struct wn_file_filter){ NULL, "one" }, "file-3", false, 10, got, &n, &err));
    cr_assert(n == 2 && !strcmp(got[0].id, "file-1") && !strcmp(got[1].id, "file-0"));
    must(wn_db_file_totals(db, &count, &bytes, &err));
    must(wn_db_file_uses(db, "ab", &uses, &err));
    cr_assert(count == 5 && bytes == 25 && uses == 5);
    must(wn_db_file_delete(db, "file-3", &err));
    cr_assert_eq(wn_db_file_get(db, "file-3", &row, &err), WINNOW_E_NOT_FOUND);
}

Test(db, a_table_of_before_owners)
{
    struct wn_file_row row;
    sqlite3 *sql;
    wn_db_close(db);
    db = NULL;
    cr_assert_eq(sqlite3_open(path, &sql), SQLITE_OK);
    cr_assert_eq(
        sqlite3_exec(sql,
                     "ALTER TABLE files DROP COLUMN owner; INSERT INTO files(id, sha256, purpose, filename, bytes, "
                     "created) VALUES('file-old', 'ab', 'fine-tune', 'f', 5, 7)",
                     NULL, NULL, NULL),
        SQLITE_OK, "%s", sqlite3_errmsg(sql));
    sqlite3_close(sql);
    for (int i = 0; i < 2; i++) { /* added once */
        reopen(true);
        must(wn_db_file_get(db, "file-old", &row, &err));
        cr_assert(row.bytes == 5 && !*row.owner);
    }
    row = (struct wn_file_row){ .id = "file-new", .sha256 = "cd", .owner = "one" };
    must(wn_db_file_add(db, &row, &err));
    must(wn_db_file_get(db, "file-new", &row, &err));
    cr_assert_str_eq(row.owner, "one");
}

static bool count(void *arg, struct wn_job_row *row)
{
    ++*(int *)arg;
    return true;
}

static struct wn_job_row job(const char *id, enum wn_stage stage)
{
    struct wn_job_row r = {
        .model = "m", .target = "t", .training_file = "file-1", .stage = stage, .doc = json_object()
    };
    snprintf(r.id, sizeof r.id, "%s", id);
    return r;
}

Test(db, jobs)
{
    char user[WN_ID_ROOM];
    int n = 0;
    struct wn_job_row a = job("ftjob-a", WN_STAGE_WORK), b = job("ftjob-b", WN_STAGE_DONE), got;
    must(wn_db_job_save(db, &a, &err));
    must(wn_db_job_save(db, &b, &err));
    cr_assert_lt(a.seq, b.seq);
    json_object_set_new(a.doc, "seed", json_integer(4));
    a.version = 3;
    int64_t seq = a.seq;
    must(wn_db_job_save(db, &a, &err));
    cr_assert_eq(a.seq, seq);
    reopen(true);
    must(wn_db_job_get(db, "ftjob-a", &got, &err));
    cr_assert(got.version == 3 && json_integer_value(json_object_get(got.doc, "seed")) == 4 && !strcmp(got.model, "m"));
    wn_job_row_done(&got);
    must(wn_db_job_each(db, WN_JOBS_ALL, NULL, 10, count, &n, &err));
    cr_assert_eq(n, 2);
    must(wn_db_job_each(db, WN_JOBS_ACTIVE, NULL, 10, count, &n, &err));
    cr_assert_eq(n, 3);
    must(wn_db_file_user(db, "file-1", user, &err));
    cr_assert_str_eq(user, "ftjob-a");
    a.stage = WN_STAGE_DONE;
    must(wn_db_job_save(db, &a, &err));
    must(wn_db_file_user(db, "file-1", user, &err));
    cr_assert_str_eq(user, "");
    wn_job_row_done(&a);
    wn_job_row_done(&b);
}

Test(db, a_transaction_happens_or_does_not)
{
    struct wn_job_row a = job("ftjob-a", WN_STAGE_WORK), got;
    must(wn_db_begin(db, &err));
    must(wn_db_job_save(db, &a, &err));
    must(wn_db_event_add(db, a.id, 1000, "info", "message", "one", NULL, &err));
    wn_db_rollback(db);
    cr_assert_eq(wn_db_job_get(db, "ftjob-a", &got, &err), WINNOW_E_NOT_FOUND);
    wn_job_row_done(&a);
}

Test(db, events)
{
    json_t *list, *data = json_pack("{s:i}", "step", 1);
    for (int i = 0; i < 5; i++)
        must(wn_db_event_add(db, "ftjob-a", 1000 * i, "info", "message", i % 2 ? "odd" : "even", i == 4 ? data : NULL,
                             &err));
    must(wn_db_event_add(db, "ftjob-b", 0, "info", "message", "other", NULL, &err));
    must(wn_db_event_list(db, "ftjob-a", 0, false, 2, &list, &err));
    cr_assert_eq(json_array_size(list), 2);
    const json_t *first = json_array_get(list, 0);
    cr_assert_str_eq(json_string_value(json_object_get(first, "id")), "ftevent-5");
    cr_assert(json_equal(json_object_get(first, "data"), data));
    cr_assert(json_is_null(json_object_get(json_array_get(list, 1), "data")));
    json_decref(list);
    must(wn_db_event_list(db, "ftjob-a", 2, true, 10, &list, &err));
    cr_assert_eq(json_array_size(list), 3);
    json_decref(list);
    json_decref(data);
}

Test(db, one_process_at_a_time)
{
    struct wn_db *other;
    bool fresh;
    cr_assert_eq(wn_db_open(path, &other, &fresh, &err), WINNOW_E_CONFLICT);
    cr_assert(strstr(err.msg, "in use"), "%s", err.msg);
}

static void overwrite(off_t at, const void *p, size_t n)
{
    int fd = open(path, O_WRONLY);
    cr_assert(fd >= 0 && pwrite(fd, p, n, at) == (ssize_t)n);
    close(fd);
}

Test(db, damage_is_told)
{
    struct wn_db *other;
    bool fresh;
    char junk[4096];
    wn_db_close(db);
    db = NULL;
    memset(junk, 0x5a, sizeof junk);
    overwrite(4096, junk, sizeof junk); /* a table's root page */
    cr_assert_eq(wn_db_open(path, &other, &fresh, &err), WINNOW_E_MALFORMED);
    cr_assert(strstr(err.msg, "damaged") && strstr(err.msg, "move it away"), "%s", err.msg);
    overwrite(0, "not a database at all", 21);
    cr_assert_eq(wn_db_open(path, &other, &fresh, &err), WINNOW_E_MALFORMED);
}

Test(db, of_a_newer_winnowd)
{
    sqlite3 *sql;
    struct wn_db *other;
    bool fresh;
    wn_db_close(db);
    db = NULL;
    cr_assert(sqlite3_open(path, &sql) == SQLITE_OK);
    cr_assert(sqlite3_exec(sql, "PRAGMA user_version=99", NULL, NULL, NULL) == SQLITE_OK);
    sqlite3_close(sql);
    cr_assert_eq(wn_db_open(path, &other, &fresh, &err), WINNOW_E_UNSUPPORTED);
    cr_assert(strstr(err.msg, "newer"), "%s", err.msg);
}
