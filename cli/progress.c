/* progress.c: drawing a job's progress. */
#include "cli/progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "cli/remote.h"

#define BAR     24                         /* characters */
#define SAY_GAP (5 * (uint64_t)1000000000) /* between steps where there is no terminal */

void wn_progress_init(struct wn_progress *p, bool quiet)
{
    *p = (struct wn_progress){ .terminal = isatty(STDOUT_FILENO) == 1,
                               .quiet = quiet,
                               .epoch = -1,
                               .epochs = -1,
                               .loss = -1,
                               .label_loss = -1,
                               .sparsity = -1,
                               .accuracy = -1,
                               .eta_s = -1,
                               .said_epoch = -1 };
}

static void wipe(struct wn_progress *p)
{
    if (p->drawn)
        fputs("\r\033[K", stdout);
    p->drawn = false;
}

/* "train  epoch 1.25/5  loss 0.310  sparsity 74 %  eta 0:41" */
static size_t describe(const struct wn_progress *p, char *to, size_t room)
{
    size_t n = 0;
#define ADD(...) (n += n < room ? (size_t)snprintf(to + n, room - n, __VA_ARGS__) : 0)
    ADD("%s", *p->phase ? p->phase : "waiting");
    if (p->epoch >= 0 && p->epochs > 0)
        ADD("  epoch %.2f/%.0f", p->epoch, p->epochs);
    if (p->loss >= 0 && p->label_loss >= 0)
        ADD("  loss %.3f (%.3f by the labels alone, without the teacher)", p->loss, p->label_loss);
    else if (p->loss >= 0)
        ADD("  loss %.3f", p->loss);
    if (p->sparsity >= 0)
        ADD("  sparsity %.0f %%", 100 * p->sparsity);
    if (p->accuracy >= 0)
        ADD("  accuracy %.1f %%", 100 * p->accuracy);
    if (p->eta_s >= 0)
        ADD("  eta %d:%02d", (int)p->eta_s / 60, (int)p->eta_s % 60);
#undef ADD
    return n;
}

void wn_progress_draw(struct wn_progress *p)
{
    char text[256], bar[BAR + 1];
    if (p->quiet || !p->terminal)
        return;
    describe(p, text, sizeof text);
    double share = p->epochs > 0 && p->epoch >= 0 ? p->epoch / p->epochs : 0;
    int full = (int)(WN_MIN(share, 1.0) * BAR);
    memset(bar, '-', BAR);
    memset(bar, '#', (size_t)full);
    bar[BAR] = 0;
    printf("\r\033[K[%s] %s", bar, text);
    fflush(stdout);
    p->drawn = true;
}

void wn_progress_say(struct wn_progress *p, const char *fmt, ...)
{
    va_list args;
    if (p->quiet)
        return;
    wipe(p);
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
}

void wn_progress_done(struct wn_progress *p)
{
    wipe(p);
    fflush(stdout);
}

static void take(double *to, const json_t *event, const char *key)
{
    *to = wn_json_num(event, key, *to);
}

static void on_step(struct wn_progress *p, const json_t *event)
{
    char text[256];
    take(&p->epoch, event, "epoch");
    take(&p->epochs, event, "epochs");
    take(&p->loss, event, "loss");
    p->label_loss = wn_json_num(event, "label_loss", -1);
    take(&p->sparsity, event, "sparsity");
    take(&p->eta_s, event, "eta_s");
    if (p->terminal) {
        wn_progress_draw(p);
        return;
    }
    uint64_t now = wn_now_ns();
    if (p->epoch == p->said_epoch || (p->said_ns && now - p->said_ns < SAY_GAP))
        return;
    p->said_ns = now;
    p->said_epoch = p->epoch;
    describe(p, text, sizeof text);
    wn_progress_say(p, "%s", text);
}

void wn_progress_event(struct wn_progress *p, const json_t *event)
{
    const char *kind = wn_json_str(event, "event");
    if (strcmp(kind, "phase") == 0) {
        snprintf(p->phase, sizeof p->phase, "%s", wn_json_str(event, "phase"));
        p->eta_s = -1;
        wn_progress_say(p, "phase %s", p->phase);
    } else if (strcmp(kind, "step") == 0) {
        on_step(p, event);
    } else if (strcmp(kind, "eval") == 0) {
        take(&p->accuracy, event, "accuracy");
        wn_progress_say(p, "after epoch %g: accuracy %.2f %%, loss %.4f on rows held back from training",
                        wn_json_num(event, "epoch", 0), 100 * wn_json_num(event, "accuracy", 0),
                        wn_json_num(event, "loss", 0));
    } else if (strcmp(kind, "message") == 0) {
        wn_progress_say(p, "%s%s",
                        strcmp(wn_json_str(event, "level"), "warning") ? "" : "warning: ", wn_json_str(event, "text"));
    }
    wn_progress_draw(p);
}
