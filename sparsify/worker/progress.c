/* progress.c: events as JSON lines. A line that cannot be written is lost: progress is for people, results are files.
 */
#include "sparsify/worker/progress.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "base/log.h"

#define EVERY_NS ((uint64_t)200000000)

enum winnow_status wn_progress_open(const char *path, struct wn_progress *ret, struct winnow_err *err)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0)
        return wn_fail_errno(err, errno, "%s", path);
    *ret = (struct wn_progress){ .fd = fd };
    return WINNOW_OK;
}

void wn_progress_close(struct wn_progress *p)
{
    wn_closep(&p->fd);
    p->fd = -1;
}

/* Takes the reference. Returns the bytes written. */
static size_t emit(struct wn_progress *p, json_t *o)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    char *text = NULL;
    if (o && json_object_set_new(o, "t", json_integer((json_int_t)now.tv_sec * 1000 + now.tv_nsec / 1000000)) == 0)
        text = json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(6));
    size_t n = text ? strlen(text) : 0;
    if (text)
        text[n++] = '\n'; /* in place of the NUL */
    ssize_t put = text && p->fd >= 0 ? write(p->fd, text, n) : 0;
    if (put != (ssize_t)n)
        wn_debug("progress", "progress_lost", "bytes=%zu", n);
    free(text);
    json_decref(o);
    return put > 0 ? (size_t)put : 0;
}

static bool due(struct wn_progress *p)
{
    uint64_t now = wn_now_ns();
    if (p->last_ns && now - p->last_ns < EVERY_NS)
        return false;
    p->last_ns = now;
    return true;
}

void wn_progress_phase(struct wn_progress *p, const char *phase)
{
    emit(p, json_pack("{s:s, s:s}", "event", "phase", "phase", phase));
}

void wn_progress_ingest(struct wn_progress *p, size_t rows, size_t rejected)
{
    if (due(p))
        emit(p, json_pack("{s:s, s:s, s:I, s:I}", "event", "rows", "phase", "ingest", "rows", (json_int_t)rows,
                          "rejected", (json_int_t)rejected));
}

static json_t *real(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

void wn_progress_step(struct wn_progress *p, const struct wn_train_progress *s)
{
    uint64_t now = wn_now_ns(), done = s->time.step + 1;
    uint64_t end = (uint64_t)llround(s->time.epochs * (double)s->time.steps_per_epoch);
    if (!p->started_ns) { /* the first step of this process also pays for set-up: measure from its end */
        p->started_ns = now;
        p->first_step = done;
    }
    if (!due(p) && done < end)
        return;
    double per_ns =
        done > p->first_step ? (double)(now - p->started_ns) / (double)(done - p->first_step) : s->step_ms * 1e6;
    double left_s = end > done ? per_ns * (double)(end - done) * 1e-9 : 0;
    json_t *o = json_pack("{s:s, s:s, s:o, s:o, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o}", "event", "step", "phase",
                          "train", "epoch", real(s->time.t_next), "epochs", real(s->time.epochs), "step",
                          (json_int_t)done, "steps", (json_int_t)end, "loss", real((double)s->loss), "accuracy",
                          real((double)s->accuracy), "lr", real((double)s->lr), "sparsity", real(s->param_sparsity),
                          "step_ms", real(s->step_ms), "eta_s", real(round(left_s * 10) / 10));
    if (o && isfinite(s->label_loss))
        json_object_set_new(o, "label_loss", real((double)s->label_loss));
    emit(p, o);
}

double wn_progress_cpu_s(void)
{
    struct timespec cpu;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    return (double)cpu.tv_sec + (double)cpu.tv_nsec * 1e-9;
}

void wn_progress_eval(struct wn_progress *p, double epoch, const struct wn_train_score *score)
{
    emit(p, json_pack("{s:s, s:o, s:o, s:o, s:I, s:o}", "event", "eval", "epoch", real(epoch), "accuracy",
                      real(score->accuracy), "loss", real(score->loss), "rows", (json_int_t)score->n, "cpu_s",
                      real(wn_progress_cpu_s())));
}

size_t wn_progress_waits(struct wn_progress *p, const char *what)
{
    return emit(p, json_pack("{s:s, s:s?}", "event", "waits", "for", what));
}

void wn_progress_message(struct wn_progress *p, const char *level, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    json_t *s = json_string(text);
    emit(p,
         json_pack("{s:s, s:s, s:o}", "event", "message", "level", level, "text", s ? s : json_string("(not UTF-8)")));
}
