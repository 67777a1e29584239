/* train_save.c: checkpoints of a job: work/checkpoint/STEP.wnck, the last two. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/vec.h"
#include "sparsify/worker/train_impl.h"

#define KEEP 2

struct steps {
    WN_VEC(uint64_t) v;
};

static void steps_done(struct steps *s)
{
    wn_vec_done(&s->v);
}

static int newest_first(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x > y ? -1 : x < y;
}

static enum winnow_status list(const char *dir, struct steps *ret, struct winnow_err *err)
{
    DIR *d = opendir(dir);
    if (!d)
        return wn_fail_errno(err, errno, "%s", dir);
    bool ok = true;
    for (struct dirent *e; ok && (e = readdir(d));) {
        char *end;
        unsigned long long step = strtoull(e->d_name, &end, 10);
        if (end != e->d_name && strcmp(end, ".wnck") == 0)
            ok = wn_vec_push(&ret->v, step);
    }
    closedir(d);
    if (ret->v.n)
        qsort(ret->v.at, ret->v.n, sizeof *ret->v.at, newest_first);
    return ok ? WINNOW_OK : wn_fail(err, WINNOW_E_NOMEM, "%s", dir);
}

static char *path_of(const struct wn_train_run *r, uint64_t step)
{
    return wn_asprintf("%s/work/checkpoint/%012" PRIu64 ".wnck", r->job->dir, step);
}

enum winnow_status wn_train_save(struct wn_train_run *r, uint64_t step)
{
    WN_CLEANUP(wn_freep) char *dir = wn_asprintf("%s/work/checkpoint", r->job->dir);
    WN_CLEANUP(wn_freep) char *path = path_of(r, step);
    WN_CLEANUP(steps_done) struct steps steps = { 0 };
    if (!dir || !path)
        return wn_fail(r->err, WINNOW_E_NOMEM, "checkpoint");
    WN_TRY(wn_trainer_checkpoint(r->tr, path, &r->ids, r->err));
    r->checkpoint_ns = wn_now_ns();
    WN_TRY(list(dir, &steps, r->err));
    for (size_t i = KEEP; i < steps.v.n; i++) {
        WN_CLEANUP(wn_freep) char *old = path_of(r, steps.v.at[i]);
        if (old)
            unlink(old);
    }
    return WINNOW_OK;
}

/* Nothing here fits: what was left by another recipe or machine must not be mistaken for ours later. */
static void forget(const struct wn_train_run *r, const struct steps *steps)
{
    for (size_t i = 0; i < steps->v.n; i++) {
        WN_CLEANUP(wn_freep) char *path = path_of(r, steps->v.at[i]);
        if (path)
            unlink(path);
    }
}

enum winnow_status wn_train_resume(struct wn_train_run *r, bool *ret_found)
{
    WN_CLEANUP(wn_freep) char *dir = wn_asprintf("%s/work/checkpoint", r->job->dir);
    WN_CLEANUP(steps_done) struct steps steps = { 0 };
    *ret_found = false;
    if (!dir)
        return wn_fail(r->err, WINNOW_E_NOMEM, "checkpoint");
    WN_TRY(list(dir, &steps, r->err));
    if (!steps.v.n)
        return WINNOW_OK;
    WN_CLEANUP(wn_freep) char *path = path_of(r, steps.v.at[0]);
    if (!path)
        return wn_fail(r->err, WINNOW_E_NOMEM, "checkpoint");
    enum winnow_status status = wn_trainer_restore(r->tr, path, &r->ids, r->err);
    if (status == WINNOW_OK) {
        *ret_found = true;
        wn_progress_message(r->pg, "info", "resumed after step %" PRIu64, steps.v.at[0]);
        return WINNOW_OK;
    }
    if (status != WINNOW_E_CONFLICT && status != WINNOW_E_MALFORMED)
        return status;
    /* The trainer may be half restored: the caller makes a new one. */
    wn_progress_message(r->pg, "warning", "a checkpoint is not used: %s", r->err->msg);
    if (status == WINNOW_E_MALFORMED && steps.v.n > 1)
        unlink(path);
    else
        forget(r, &steps);
    return wn_fail(r->err, WINNOW_E_PRECONDITION, "checkpoint passed over");
}
