/* progress.h: progress.jsonl: one line per event, each by one write, so that readers see whole lines only. */
#ifndef WN_PROGRESS_H
#define WN_PROGRESS_H

#include "sparsify/train/train.h"

struct wn_progress {
    int fd;
    uint64_t last_ns;    /* when the last rate-limited line was written */
    uint64_t started_ns; /* of training in this process, for the estimate of what is left */
    uint64_t first_step; /* where this process began */
};

/** Open (or make) `path` for appending. */
WINNOW_MUST_USE enum winnow_status wn_progress_open(const char *path, struct wn_progress *ret, struct winnow_err *err);
void wn_progress_close(struct wn_progress *p);

void wn_progress_phase(struct wn_progress *p, const char *phase);
/** At most every 200 ms. */
void wn_progress_ingest(struct wn_progress *p, size_t rows, size_t rejected);
/** At most every 200 ms, the last step always. */
void wn_progress_step(struct wn_progress *p, const struct wn_train_progress *step);
/** CPU seconds of this process so far, all threads. */
double wn_progress_cpu_s(void);
void wn_progress_eval(struct wn_progress *p, double epoch, const struct wn_train_score *score);
/** What the phase's process waits for ("cpu", "continue"; NULL: it runs). Returns how many bytes were written. */
size_t wn_progress_waits(struct wn_progress *p, const char *what);
/** `level`: "info" or "warning". */
__attribute__((format(printf, 3, 4))) void wn_progress_message(struct wn_progress *p, const char *level,
                                                               const char *fmt, ...);

#endif
