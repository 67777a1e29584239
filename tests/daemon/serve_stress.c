/* serve_stress.c: swaps under load, for the thread sanitizer (which does not start under criterion).
 *
 *     serve_stress [SECONDS [THREADS]]          prints one line of counts; exits 1 when an answer was lost or mixed
 *
 * Submitting threads send jobs with and without deadlines, and cancel some, while two admins promote, roll back, load
 * and look at statistics, versions are added, and a folder appears. Version v of the model adds 10 v to its input, so
 * every answer shows which weights made it. */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/unit/daemon/serve/rig.h"

struct sender {
    struct rig *rig;
    pthread_t thread;
    atomic_bool *stop;
    uint64_t answered, cancelled, expired, refused, wrong, swapped;
};

static void one_round(struct sender *s, unsigned *seed)
{
    struct rig_job job[6];
    bool sent[6] = { false };
    for (int i = 0; i < 6; i++) {
        struct wn_gen *gen;
        if (wn_serve_acquire(s->rig->serve, "m", NULL, &gen, NULL) != WINNOW_OK) {
            s->wrong++; /* a swap must never look like an absence */
            continue;
        }
        rig_job_init(&job[i], gen, 1 + rand_r(seed) % 5, 4, (float)i);
        if (rand_r(seed) % 8 == 0)
            job[i].job.deadline_ns = wn_now_ns() + 1 + (uint64_t)(rand_r(seed) % 2000000);
        sent[i] = wn_serve_submit(s->rig->serve, &job[i].job, NULL) == WINNOW_OK;
        if (!sent[i]) {
            s->refused++;
            rig_job_done(&job[i]);
        } else if (rand_r(seed) % 8 == 0) {
            wn_serve_cancel(s->rig->serve, &job[i].job);
        }
    }
    int64_t first = 0;
    for (int i = 0; i < 6; i++) {
        if (!sent[i])
            continue;
        int64_t version = wn_gen_version(job[i].job.gen);
        s->swapped += first && first != version;
        first = version;
        switch (rig_job_wait(&job[i])) {
        case WINNOW_OK:
            s->answered++;
            s->wrong += !rig_job_check(&job[i], 10.0f * (float)version);
            break;
        case WINNOW_E_CANCELLED:
            s->cancelled++;
            break;
        case WINNOW_E_DEADLINE:
            s->expired++;
            break;
        default:
            s->wrong++;
        }
        rig_job_done(&job[i]);
    }
}

static void *send_jobs(void *arg)
{
    struct sender *s = arg;
    unsigned seed = (unsigned)(uintptr_t)s;
    while (!atomic_load(s->stop))
        one_round(s, &seed);
    return NULL;
}

struct admin {
    struct rig *rig;
    pthread_t thread;
    atomic_bool *stop;
    unsigned number, swaps, failed;
};

static void look(struct rig *rig)
{
    struct wn_serve_stats *stats;
    struct wn_index_entry *at;
    size_t n;
    if (wn_serve_stats(rig->serve, &stats, &n, NULL) == WINNOW_OK)
        wn_serve_stats_free(stats, n);
    if (wn_serve_index(rig->serve, NULL, &at, &n, NULL) == WINNOW_OK)
        wn_index_free(at, n);
}

static void *administer(void *arg)
{
    struct admin *a = arg;
    while (!atomic_load(a->stop)) {
        enum winnow_status status;
        switch (a->swaps++ % 4) {
        case 0:
            status = rig_promote(a->rig, "m", 1 + a->number, true, NULL);
            break;
        case 1: /* the other admin may have promoted what this would roll back to */
            status = rig_rollback(a->rig, "m");
            status = status == WINNOW_E_CONFLICT ? WINNOW_OK : status;
            break;
        case 2:
            status = rig_load(a->rig, "m", NULL);
            break;
        default:
            status = rig_promote(a->rig, "m", 2 - a->number, true, NULL);
        }
        a->failed += status != WINNOW_OK || !wn_serve_ready(a->rig->serve);
        look(a->rig);
    }
    return NULL;
}

static unsigned add_one(struct rig *rig)
{
    char path[160];
    int64_t version;
    struct winnow_err err;
    rig_sh("rm -rf %s/cand && mkdir %s/cand", rig->root, rig->root);
    snprintf(path, sizeof path, "%s/cand/model.onnx", rig->root);
    rig_model(path, RIG_ROWS, 4, 1000); /* never live */
    snprintf(path, sizeof path, "%s/cand", rig->root);
    if (wn_serve_add_version(rig->serve, "m", path, NULL, &version, &err) == WINNOW_OK)
        return 0;
    fprintf(stderr, "add_version: %s\n", err.msg);
    return 1;
}

int main(int argc, char **argv)
{
    unsigned seconds = argc > 1 ? (unsigned)atoi(argv[1]) : 3, n = argc > 2 ? (unsigned)atoi(argv[2]) : 3;
    struct rig rig;
    atomic_bool stop = false;
    n = n < 1 ? 1 : n > 64 ? 64 : n;
    rig_init(&rig);
    rig.cfg.engine.threads = 3;
    rig.cfg.engine.streams = 2;
    rig.cfg.models.load_threads = 2;
    rig_put(&rig, "m", 1, RIG_ROWS, 4, 10);
    rig_put(&rig, "m", 2, RIG_ROWS, 4, 20);
    rig_start(&rig);
    struct sender *s = calloc(n, sizeof *s);
    struct admin a[2];
    if (!s)
        return 2;
    for (unsigned i = 0; i < n; i++) {
        s[i] = (struct sender){ .rig = &rig, .stop = &stop };
        if (pthread_create(&s[i].thread, NULL, send_jobs, &s[i]) != 0)
            return 2;
    }
    for (unsigned i = 0; i < 2; i++) {
        a[i] = (struct admin){ .rig = &rig, .stop = &stop, .number = i };
        if (pthread_create(&a[i].thread, NULL, administer, &a[i]) != 0)
            return 2;
    }
    unsigned bad = 0;
    for (uint64_t until = wn_now_ns() + seconds * UINT64_C(1000000000); wn_now_ns() < until;) {
        bad += add_one(&rig);
        wn_serve_reconfigure(rig.serve, &rig.cfg);
        rig_put(&rig, "other", (int)(1 + bad), RIG_DYNAMIC, 4, 1);
        usleep(200000);
        rig_sh("rm -rf %s/other", rig.repo);
    }
    atomic_store(&stop, true);
    struct sender sum = { 0 };
    for (unsigned i = 0; i < n; i++) {
        pthread_join(s[i].thread, NULL);
        sum.answered += s[i].answered;
        sum.cancelled += s[i].cancelled;
        sum.expired += s[i].expired;
        sum.refused += s[i].refused;
        sum.swapped += s[i].swapped;
        bad += (unsigned)s[i].wrong;
    }
    unsigned swaps = 0;
    for (unsigned i = 0; i < 2; i++) {
        pthread_join(a[i].thread, NULL);
        swaps += a[i].swaps;
        bad += a[i].failed;
    }
    free(s);
    rig_done(&rig);
    printf("answered=%" PRIu64 " cancelled=%" PRIu64 " expired=%" PRIu64 " refused=%" PRIu64 " admin_calls=%u "
           "seen_swaps=%" PRIu64 " bad=%u\n",
           sum.answered, sum.cancelled, sum.expired, sum.refused, swaps, sum.swapped, bad);
    return bad || !sum.answered;
}
