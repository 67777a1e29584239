/* batcher.c: which jobs share a batch, bounds, deadlines, cancelling, swapping under load. */
#include <criterion/criterion.h>

#include <dirent.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/unit/daemon/serve/rig.h"

static struct rig rig;

static void setup(void)
{
    rig_init(&rig);
}

static void teardown(void)
{
    rig_done(&rig);
}

TestSuite(serve_batcher, .init = setup, .fini = teardown, .timeout = 120);

static struct wn_gen *acquire(const char *name)
{
    struct wn_gen *gen;
    struct winnow_err err;
    cr_assert_eq(wn_serve_acquire(rig.serve, name, NULL, &gen, &err), WINNOW_OK, "%s", err.msg);
    return gen;
}

static struct wn_serve_stats stats_of(const char *name)
{
    struct wn_serve_stats *at, got = { 0 };
    size_t n;
    cr_assert_eq(wn_serve_stats(rig.serve, &at, &n, NULL), WINNOW_OK);
    for (size_t i = 0; i < n; i++)
        if (strcmp(at[i].model, name) == 0)
            got = at[i];
    wn_serve_stats_free(at, n);
    got.model = NULL;
    return got;
}

/* Occupy the only executor for a while: a job of "heavy", which is running when this returns. */
static void block_by(struct rig_job *j, int64_t rows, int64_t width)
{
    rig_job_init(j, acquire("heavy"), rows, width, 1);
    cr_assert_eq(wn_serve_submit(rig.serve, &j->job, NULL), WINNOW_OK);
    while (stats_of("heavy").queued_now)
        usleep(100);
}

static void block(struct rig_job *j, int64_t rows)
{
    block_by(j, rows, 256);
}

static void submit(struct rig_job *j, const char *name, int64_t rows, int64_t width, float base)
{
    struct winnow_err err;
    rig_job_init(j, acquire(name), rows, width, base);
    cr_assert_eq(wn_serve_submit(rig.serve, &j->job, &err), WINNOW_OK, "%s", err.msg);
}

static void finish(struct rig_job *j, float add)
{
    cr_assert_eq(rig_job_wait(j), WINNOW_OK, "%s", j->job.err.msg);
    cr_assert(rig_job_check(j, add));
    rig_job_done(j);
}

Test(serve_batcher, waiting_jobs_share_a_batch)
{
    struct rig_job b, j[20];
    rig_put(&rig, "m", 1, RIG_ROWS, 4, 10);
    rig_put(&rig, "heavy", 1, RIG_HEAVY, 256, 0);
    rig.cfg.batch.max_batch = 64;
    rig_start(&rig);
    block(&b, 64);
    for (int i = 0; i < 20; i++)
        submit(&j[i], "m", 1 + i % 3, 4, (float)(100 * i));
    for (int i = 0; i < 20; i++)
        finish(&j[i], 10);
    finish(&b, 0);
    struct wn_serve_stats s = stats_of("m");
    cr_assert_eq(s.batches, 1);
    cr_assert_eq(s.rows, 39);
    cr_assert_eq(s.success, 20);
}

Test(serve_batcher, a_batch_is_not_larger_than_allowed)
{
    struct rig_job b, j[10];
    rig_put(&rig, "m", 1, RIG_ROWS, 4, 10);
    rig_put(&rig, "heavy", 1, RIG_HEAVY, 1024, 0);
    rig.cfg.batch.max_batch = 8;
    rig_start(&rig);
    block_by(&b, 8, 1024);
    for (int i = 0; i < 10; i++)
        submit(&j[i], "m", 3, 4, (float)i);
    for (int i = 0; i < 10; i++)
        finish(&j[i], 10);
    finish(&b, 0);
    cr_assert_eq(stats_of("m").batches, 5); /* two of three rows fit into eight */
    struct rig_job big;
    struct winnow_err err;
    rig_job_init(&big, acquire("m"), 9, 4, 0);
    cr_assert_eq(wn_gen_max_rows(big.job.gen), 8);
    cr_assert_eq(wn_serve_submit(rig.serve, &big.job, &err), WINNOW_E_MALFORMED);
    rig_job_done(&big);
}

Test(serve_batcher, other_shapes_and_dependent_rows_are_not_merged)
{
    struct rig_job b, j[6], k[4];
    rig_put(&rig, "dyn", 1, RIG_DYNAMIC, 4, 10);
    rig_put(&rig, "whole", 1, RIG_WHOLE, 4, 20);
    rig_put(&rig, "heavy", 1, RIG_HEAVY, 256, 0);
    rig_start(&rig);
    block(&b, 64);
    for (int i = 0; i < 6; i++)
        submit(&j[i], "dyn", 2, i % 2 ? 5 : 7, (float)i);
    for (int i = 0; i < 4; i++)
        submit(&k[i], "whole", 2, 4, (float)i);
    for (int i = 0; i < 6; i++)
        finish(&j[i], 10);
    for (int i = 0; i < 4; i++)
        finish(&k[i], 20);
    finish(&b, 0);
    cr_assert_eq(stats_of("dyn").batches, 2);
    cr_assert_eq(stats_of("whole").batches, 4);
    for (int64_t width = 1; width < 40; width++) { /* more shapes than are kept planned */
        submit(&b, "dyn", 1, width, 3);
        finish(&b, 10);
    }
    struct wn_gen *gen = acquire("whole");
    cr_assert_eq(wn_gen_max_rows(gen), 1);
    wn_gen_unref(gen);
}

Test(serve_batcher, shapes_that_do_not_fit_are_refused)
{
    struct rig_job j;
    struct winnow_err err;
    rig_put(&rig, "m", 1, RIG_ROWS, 4, 10);
    rig_start(&rig);
    rig_job_init(&j, acquire("m"), 2, 5, 0);
    cr_assert_eq(wn_serve_submit(rig.serve, &j.job, &err), WINNOW_E_MALFORMED);
    cr_assert(strstr(err.msg, "'x'"), "%s", err.msg);
    j.in.shape[1] = 4;
    cr_assert_eq(wn_serve_submit(rig.serve, &j.job, &err), WINNOW_E_MALFORMED, "bytes do not fit");
    j.in.bytes = 32;
    j.in.dtype = WINNOW_I32;
    cr_assert_eq(wn_serve_submit(rig.serve, &j.job, &err), WINNOW_E_MALFORMED);
    j.in.dtype = WINNOW_F32;
    j.in.shape[0] = -2;
    cr_assert_eq(wn_serve_submit(rig.serve, &j.job, &err), WINNOW_E_MALFORMED);
    j.in.shape[0] = 2;
    j.in.rank = 1;
    cr_assert_eq(wn_serve_submit(rig.serve, &j.job, &err), WINNOW_E_MALFORMED);
    j.in.rank = 2;
    cr_assert_eq(wn_serve_submit(rig.serve, &j.job, &err), WINNOW_OK);
    cr_assert_eq(rig_job_wait(&j), WINNOW_OK);
    rig_job_done(&j);
    rig_job_init(&j, acquire("m"), 0, 4, 0);
    cr_assert_eq(wn_serve_submit(rig.serve, &j.job, &err), WINNOW_OK, "no rows: %s", err.msg);
    cr_assert_eq(rig_job_wait(&j), WINNOW_OK, "%s", j.job.err.msg);
    cr_assert_eq(j.job.outputs->shape[0], 0);
    rig_job_done(&j);
    cr_assert_eq(stats_of("m").failure, 5);
}

Test(serve_batcher, queues_are_bounded_by_requests_rows_and_bytes)
{
    struct rig_job b, j[5], over;
    struct winnow_err err;
    rig_put(&rig, "m", 1, RIG_ROWS, 4, 10);
    rig_put(&rig, "heavy", 1, RIG_HEAVY, 256, 0);
    rig.cfg.batch.queue_requests = 4;
    rig_start(&rig);
    block(&b, 64);
    for (int i = 0; i < 4; i++)
        submit(&j[i], "m", 2, 4, 0);
    rig_job_init(&over, acquire("m"), 1, 4, 0);
    cr_assert_eq(wn_serve_submit(rig.serve, &over.job, &err), WINNOW_E_OVERLOAD);
    cr_assert(strstr(err.msg, "requests"), "%s", err.msg);
    rig.cfg.batch.queue_requests = 100;
    rig.cfg.batch.queue_rows = 8;
    wn_serve_reconfigure(rig.serve, &rig.cfg);
    cr_assert_eq(wn_serve_submit(rig.serve, &over.job, &err), WINNOW_E_OVERLOAD);
    cr_assert(strstr(err.msg, "rows"), "%s", err.msg);
    rig.cfg.batch.queue_rows = 100;
    rig.cfg.batch.queue_bytes = 8 * 16 + 15;
    wn_serve_reconfigure(rig.serve, &rig.cfg);
    cr_assert_eq(wn_serve_submit(rig.serve, &over.job, &err), WINNOW_E_OVERLOAD);
    cr_assert(strstr(err.msg, "bytes"), "%s", err.msg);
    cr_assert_eq(stats_of("m").rejected, 3);
    for (int i = 0; i < 4; i++)
        finish(&j[i], 10);
    cr_assert_eq(wn_serve_submit(rig.serve, &over.job, &err), WINNOW_OK);
    finish(&over, 10);
    finish(&b, 0);
}

Test(serve_batcher, deadlines_are_kept_to_while_the_executor_is_busy)
{
    struct rig_job b, late, j;
    rig_put(&rig, "m", 1, RIG_ROWS, 4, 10);
    rig_put(&rig, "heavy", 1, RIG_HEAVY, 256, 0);
    rig.cfg.batch.max_batch = 4096;
    rig_start(&rig);
    block(&b, 512);
    submit(&j, "m", 1, 4, 0);
    rig_job_init(&late, acquire("m"), 1, 4, 0);
    uint64_t at = wn_now_ns() + 3000000;
    late.job.deadline_ns = at;
    cr_assert_eq(wn_serve_submit(rig.serve, &late.job, NULL), WINNOW_OK);
    cr_assert_eq(rig_job_wait(&late), WINNOW_E_DEADLINE);
    cr_assert(!b.wait.called, "the executor was not busy any more: the test shows nothing");
    cr_assert_geq(late.job.finished_ns, at);
    cr_assert_leq(late.job.finished_ns, at + 500000000u);
    late.job.deadline_ns = wn_now_ns() - 1;
    cr_assert_eq(wn_serve_submit(rig.serve, &late.job, NULL), WINNOW_E_DEADLINE);
    rig_job_done(&late);
    finish(&b, 0);
    finish(&j, 10);
    cr_assert_eq(stats_of("m").expired, 2);
}

Test(serve_batcher, cancelled_jobs_do_not_run)
{
    struct rig_job b, j[3];
    rig_put(&rig, "m", 1, RIG_ROWS, 4, 10);
    rig_put(&rig, "heavy", 1, RIG_HEAVY, 256, 0);
    rig.cfg.batch.max_batch = 4096;
    rig_start(&rig);
    block(&b, 512);
    for (int i = 0; i < 3; i++)
        submit(&j[i], "m", 1, 4, 0);
    wn_serve_cancel(rig.serve, &j[1].job);
    cr_assert(j[1].wait.called, "done() comes before the call returns");
    cr_assert_eq(j[1].job.status, WINNOW_E_CANCELLED);
    wn_serve_cancel(rig.serve, &j[1].job); /* again: nothing */
    wn_serve_cancel(rig.serve, &b.job);    /* running: dropped when it is done */
    cr_assert_eq(rig_job_wait(&b), WINNOW_E_CANCELLED);
    cr_assert_null(b.job.outputs);
    rig_job_done(&b);
    rig_job_done(&j[1]);
    finish(&j[0], 10);
    finish(&j[2], 10);
    struct wn_serve_stats s = stats_of("m");
    cr_assert(s.cancelled == 1 && s.success == 2 && s.rows == 2 && s.queued_now == 0);
}

Test(serve_batcher, stopping_ends_every_job)
{
    struct rig_job b, j[50];
    rig_put(&rig, "m", 1, RIG_ROWS, 4, 10);
    rig_put(&rig, "heavy", 1, RIG_HEAVY, 256, 0);
    rig.cfg.batch.max_batch = 4096;
    rig_start(&rig);
    block(&b, 512);
    for (int i = 0; i < 50; i++)
        submit(&j[i], "m", 1, 4, 0);
    rig_stop(&rig);
    for (int i = 0; i < 50; i++) {
        cr_assert(j[i].wait.called);
        cr_assert_eq(j[i].job.status, WINNOW_E_UNAVAILABLE);
        rig_job_done(&j[i]); /* references may outlive the registry */
    }
    cr_assert_eq(b.job.status, WINNOW_OK);
    rig_job_done(&b);
}

Test(serve_batcher, a_lone_request_is_not_kept_waiting)
{
    rig_put(&rig, "m", 1, RIG_ROWS, 4, 10);
    rig.cfg.batch.max_wait = 1000000;
    rig_start(&rig);
    uint64_t start = wn_now_ns();
    for (int i = 0; i < 20; i++)
        cr_assert_float_eq(rig_ask(&rig, "m", 4), 10, 0);
    cr_assert_leq(wn_now_ns() - start, UINT64_C(1000000000));
}

Test(serve_batcher, config_pbtxt_speaks_for_its_model)
{
    struct rig_job b, j[6];
    struct winnow_err err;
    rig_put(&rig, "m", 1, RIG_ROWS, 4, 10);
    rig_put(&rig, "n", 1, RIG_ROWS, 4, 20);
    rig_put(&rig, "bad", 1, RIG_ROWS, 4, 30);
    rig_put(&rig, "heavy", 1, RIG_HEAVY, 256, 0);
    rig_text(&rig, "repo/m/config.pbtxt",
             "name: \"m\" # a comment\nmax_batch_size: 3\ninput [ { name: 'x' dims: [ 4 ] } ]\n"
             "dynamic_batching { max_queue_delay_microseconds: 50\n"
             "  default_queue_policy < max_queue_size: 5; > preferred_batch_size: [ 2, 3 ] }\n");
    rig_text(&rig, "repo/n/config.pbtxt", "max_batch_size: 0");
    rig_text(&rig, "repo/bad/config.pbtxt", "max_batch_size: 4\n\ninput {");
    rig_start(&rig);
    block(&b, 64);
    for (int i = 0; i < 5; i++)
        submit(&j[i], "m", 1, 4, 0);
    rig_job_init(&j[5], acquire("m"), 1, 4, 0);
    cr_assert_eq(wn_gen_max_rows(j[5].job.gen), 3);
    cr_assert_eq(wn_serve_submit(rig.serve, &j[5].job, &err), WINNOW_E_OVERLOAD);
    rig_job_done(&j[5]);
    for (int i = 0; i < 5; i++)
        finish(&j[i], 10);
    finish(&b, 0);
    cr_assert_eq(stats_of("m").batches, 2);
    block(&b, 64);
    for (int i = 0; i < 3; i++)
        submit(&j[i], "n", 1 + i, 4, 0);
    for (int i = 0; i < 3; i++)
        finish(&j[i], 20);
    finish(&b, 0);
    cr_assert_eq(stats_of("n").batches, 3);
    struct wn_gen *gen;
    cr_assert_eq(wn_serve_acquire(rig.serve, "bad", NULL, &gen, &err), WINNOW_E_UNAVAILABLE);
    cr_assert(strstr(err.msg, "config.pbtxt:3"), "%s", err.msg);
}

/* ---- swapping under load ---- */

struct load {
    pthread_t thread;
    atomic_bool *stop;
    unsigned answered, wrong;
    uint64_t seen[3];
};

static void *ask_always(void *arg)
{
    struct load *l = arg;
    while (!atomic_load(l->stop)) {
        struct rig_job j[4];
        for (int i = 0; i < 4; i++) {
            struct wn_gen *gen;
            if (wn_serve_acquire(rig.serve, "m", NULL, &gen, NULL) != WINNOW_OK)
                abort(); /* a swap is never seen as an absence */
            rig_job_init(&j[i], gen, 1 + i, 4, (float)i);
            if (wn_serve_submit(rig.serve, &j[i].job, NULL) != WINNOW_OK)
                abort();
        }
        for (int i = 0; i < 4; i++) {
            int64_t version = wn_gen_version(j[i].job.gen);
            l->wrong += rig_job_wait(&j[i]) != WINNOW_OK || !rig_job_check(&j[i], version == 1 ? 10 : 20);
            l->seen[version]++;
            l->answered++;
            rig_job_done(&j[i]);
        }
    }
    return NULL;
}

Test(serve_batcher, swaps_under_load_lose_and_mix_nothing)
{
    struct load load[3];
    atomic_bool stop = false;
    rig_put(&rig, "m", 1, RIG_ROWS, 4, 10);
    rig_put(&rig, "m", 2, RIG_ROWS, 4, 20);
    rig.cfg.engine.threads = 2;
    rig.cfg.engine.streams = 2;
    rig_start(&rig);
    for (int i = 0; i < 3; i++) {
        load[i] = (struct load){ .stop = &stop };
        cr_assert_eq(pthread_create(&load[i].thread, NULL, ask_always, &load[i]), 0);
    }
    unsigned swaps = 0;
    for (uint64_t until = wn_now_ns() + UINT64_C(2000000000); wn_now_ns() < until; swaps++) {
        cr_assert_eq(swaps % 2 ? rig_rollback(&rig, "m") : rig_promote(&rig, "m", 1, true, NULL), WINNOW_OK);
        cr_assert(wn_serve_ready(rig.serve));
    }
    atomic_store(&stop, true);
    uint64_t seen[3] = { 0 };
    for (int i = 0; i < 3; i++) {
        pthread_join(load[i].thread, NULL);
        cr_assert_eq(load[i].wrong, 0);
        cr_assert_gt(load[i].answered, 0);
        seen[1] += load[i].seen[1];
        seen[2] += load[i].seen[2];
    }
    cr_assert_gt(swaps, 4);
    cr_assert(seen[1] && seen[2]);
}

/* Threads of inference in this process: there are no others that run models. */
static unsigned engine_threads(void)
{
    unsigned n = 0;
    DIR *tasks = opendir("/proc/self/task");
    cr_assert(tasks);
    for (struct dirent *e; (e = readdir(tasks)) != NULL;) {
        char path[300], name[32] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", e->d_name);
        FILE *f = fopen(path, "re");
        if (!f)
            continue; /* "..", or it has ended */
        if (fgets(name, sizeof name, f))
            n += strncmp(name, "executor", 8) == 0 || strncmp(name, "engine", 6) == 0;
        fclose(f);
    }
    closedir(tasks);
    return n;
}

Test(serve_batcher, two_models_at_once_share_the_threads)
{
    struct rig_job a, b;
    rig_put(&rig, "heavy", 1, RIG_HEAVY, 1024, 0);
    rig.cfg.engine.threads = 3;
    rig.cfg.engine.streams = 2;
    rig_start(&rig);
    cr_expect_eq(engine_threads(), 3, "two streams, of two threads and of one");
    rig_put(&rig, "other", 1, RIG_HEAVY, 1024, 0);
    cr_assert_eq(rig_load(&rig, "other", NULL), WINNOW_OK);
    block_by(&a, 40, 1024);
    submit(&b, "other", 40, 1024, 1);
    while (stats_of("other").queued_now) /* then both run */
        usleep(100);
    cr_expect_eq(engine_threads(), 3);
    cr_expect_eq(rig_job_wait(&a), WINNOW_OK);
    cr_expect_eq(rig_job_wait(&b), WINNOW_OK);
    cr_expect_eq(engine_threads(), 3);
    rig_job_done(&a);
    rig_job_done(&b);
}

Test(serve_batcher, two_admins_at_once_are_serialised)
{
    struct rig_wait w[30];
    rig_put(&rig, "m", 1, RIG_ROWS, 4, 10);
    rig_put(&rig, "m", 2, RIG_ROWS, 4, 20);
    rig.cfg.models.load_threads = 4;
    rig_start(&rig);
    for (int i = 0; i < 30; i++) {
        rig_wait_init(&w[i]);
        if (i % 10 == 9)
            wn_serve_unload(rig.serve, "m", rig_wait_cb, &w[i]);
        else if (i % 10 == 8)
            wn_serve_load(rig.serve, "m", rig_wait_cb, &w[i]);
        else
            wn_serve_promote(rig.serve, "m", 1 + i % 2, "rig", true, rig_wait_cb, &w[i]);
    }
    for (int i = 0; i < 30; i++)
        cr_assert_eq(rig_wait_for(&w[i]), WINNOW_OK, "%d: %s", i, w[i].err.msg);
    cr_assert_eq(rig_live(&rig, "m"), 0);
    cr_assert_eq(rig_load(&rig, "m", NULL), WINNOW_OK);
    cr_assert_eq(rig_live(&rig, "m"), 2, "the last promotion before was of version 2");
}
