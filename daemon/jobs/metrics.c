/* metrics.c: uploads and jobs for Prometheus. */
#include "daemon/jobs/internal.h"

static void family(struct wn_buf *to, const char *name, const char *type, const char *help)
{
    wn_buf_printf(to, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void counter(struct wn_buf *to, const char *name, const char *help, const atomic_ullong *value)
{
    family(to, name, "counter", help);
    wn_buf_printf(to, "%s %llu\n", name, atomic_load(value));
}

static void gauge(struct wn_buf *to, const char *name, const char *help, long long value)
{
    family(to, name, "gauge", help);
    wn_buf_printf(to, "%s %lld\n", name, value);
}

void wn_jobs_metrics(struct wn_buf *to, void *arg)
{
    static const char *const stage[] = { "new", "work", "gate", "publish", "promote", "anchor" };
    struct wn_jobs *jobs = arg;
    struct wn_jobs_counters *c = &jobs->count;
    gauge(to, "winnow_files", "Uploads kept.", atomic_load(&c->files));
    gauge(to, "winnow_file_bytes", "Bytes of uploads kept, those on their way included.", atomic_load(&c->file_bytes));
    gauge(to, "winnow_uploads_in_flight", "Uploads on their way.", atomic_load(&c->uploads_now));
    counter(to, "winnow_uploads_total", "Uploads stored.", &c->uploads);
    counter(to, "winnow_upload_bytes_total", "Bytes of uploads stored.", &c->upload_bytes);
    counter(to, "winnow_uploads_failed_total", "Uploads that failed or whose client left.", &c->uploads_failed);
    family(to, "winnow_jobs", "gauge", "Unfinished jobs by what they wait for.");
    for (size_t i = 0; i < WN_COUNT(stage); i++)
        wn_buf_printf(to, "winnow_jobs{stage=\"%s\"} %d\n", stage[i], atomic_load(&c->active[i]));
    counter(to, "winnow_jobs_created_total", "Jobs accepted.", &c->created);
    counter(to, "winnow_jobs_invalid_total", "Jobs that the worker's check refused.", &c->refused_at_check);
    family(to, "winnow_jobs_finished_total", "counter", "Jobs finished, by how.");
    wn_buf_printf(to, "winnow_jobs_finished_total{status=\"succeeded\"} %llu\n", atomic_load(&c->succeeded));
    wn_buf_printf(to, "winnow_jobs_finished_total{status=\"failed\"} %llu\n", atomic_load(&c->failed));
    wn_buf_printf(to, "winnow_jobs_finished_total{status=\"cancelled\"} %llu\n", atomic_load(&c->cancelled));
    family(to, "winnow_gate_total", "counter", "Verdicts on candidates.");
    wn_buf_printf(to, "winnow_gate_total{verdict=\"promoted\"} %llu\n", atomic_load(&c->promoted));
    wn_buf_printf(to, "winnow_gate_total{verdict=\"refused\"} %llu\n", atomic_load(&c->gate_refused));
    wn_buf_printf(to, "winnow_gate_total{verdict=\"waiting\"} %llu\n", atomic_load(&c->waiting));
    gauge(to, "winnow_watched", "Models whose promoted version is watched now.", atomic_load(&c->watched_now));
    family(to, "winnow_watch_rollbacks_total", "counter",
           "Promoted versions that were rolled back, by what was worse.");
    for (int r = WN_REGRESSION_ERRORS; r <= WN_REGRESSION_DRIFT; r++)
        wn_buf_printf(to, "winnow_watch_rollbacks_total{reason=\"%s\"} %llu\n",
                      wn_regression_name((enum wn_regression)r), atomic_load(&c->watch_back[r]));
    counter(to, "winnow_evaluations_total", "Evaluator processes started.", &c->evaluations);
    counter(to, "winnow_worker_starts_total", "Times the worker was started.", &c->worker_starts);
    counter(to, "winnow_job_hangs_total", "Times a job reported no progress for jobs.hang_timeout.", &c->hangs);
    counter(to, "winnow_orphans_removed_total", "Leftovers of uploads and jobs removed at the start.", &c->orphans);
}
