/* progress.h: how far a job is: one line that moves on a terminal, one line per event elsewhere. */
#ifndef WN_CLI_PROGRESS_H
#define WN_CLI_PROGRESS_H

#include <jansson.h>
#include "base/base.h"

/** What is known so far. Zero-initialise, then wn_progress_init(). */
struct wn_progress {
    bool terminal, quiet;
    char phase[24];
    double epoch, epochs, loss, sparsity, accuracy, eta_s; /* below zero: not known */
    double label_loss;                                     /* the labels' part where a teacher adds to loss; else -1 */
    double said_epoch;                                     /* of the last step printed where there is no terminal */
    uint64_t said_ns;
    bool drawn; /* the moving line is on the screen */
};

/** Standard output decides whether it is a terminal; `quiet` prints nothing. */
void wn_progress_init(struct wn_progress *p, bool quiet);
/** One event as docs/job-directory.md has it in progress.jsonl. */
void wn_progress_event(struct wn_progress *p, const json_t *event);
/** A line of text between events. */
__attribute__((format(printf, 2, 3))) void wn_progress_say(struct wn_progress *p, const char *fmt, ...);
/** Draw the moving line again; nothing elsewhere. */
void wn_progress_draw(struct wn_progress *p);
/** Wipe the moving line. */
void wn_progress_done(struct wn_progress *p);

#endif
