/* jobs.h: uploads, fine-tuning jobs, the gate and promotion: from labelled data to a better live version.
 *
 *   upload -> STATE/files -> job directory -> winnow-worker -> gate (`winnow evaluate`, a fresh process) -> new version
 *          -> live, by the registry -> its rows join the anchor
 *
 * THREADS  handlers run on loops and hand over. Four threads of this room: jobs (owns the database, decides), disk
 *   (writes and reads uploads), chores (makes and checks job folders), gate (evaluates, publishes, merges anchors).
 * END      wn_jobs_drain() … wn_jobs_drained(), wn_jobs_stop(), then wn_net_free(), wn_serve_free(), wn_jobs_free(). */
#ifndef WN_JOBS_H
#define WN_JOBS_H

#include "base/base.h"
#include "config/config.h"
#include "daemon/serve/serve.h"

struct wn_jobs;
struct wn_buf;

/** Open the database, bring it and the folders under models.state together, start threads and (where nobody watches the
 *  job folder) the worker. `serve` must outlive the threads.
 *  @return E_MALFORMED (damaged database), E_CONFLICT (another winnowd has this state), E_UNSUPPORTED (of a newer
 *          winnowd), E_DENIED, E_NO_SPACE, E_IO; err says what to do */
WINNOW_MUST_USE enum winnow_status wn_jobs_new(const struct wn_config *cfg, struct wn_serve *serve,
                                               struct wn_jobs **ret, struct winnow_err *err);
/** Settings after a reload. Any thread. */
void wn_jobs_reconfigure(struct wn_jobs *jobs, const struct wn_config *cfg);
/** The server is on its way down: refuse new uploads and jobs, ask the worker to stop (it goes on from its checkpoint
 *  after a restart), end evaluations. Returns at once. Any thread. */
void wn_jobs_drain(struct wn_jobs *jobs);
/** Whether the worker has ended since wn_jobs_drain(), which it has after 10 s. Any thread. */
bool wn_jobs_drained(struct wn_jobs *jobs);
/** Drain, finish what is queued, join the threads and the worker, note in every job that is not done where it goes on.
 *  Not on a loop. Returns the number of those jobs; 0 the second time. */
unsigned wn_jobs_stop(struct wn_jobs *jobs);
/** NULL is fine. */
void wn_jobs_free(struct wn_jobs *jobs);
/** For wn_api_add_metrics(). */
void wn_jobs_metrics(struct wn_buf *to, void *jobs);

#endif
