/* supervise.c: one job: take its lock, run ingest and train in children, try again after a crash, say how it ended.
 *
 * DESIGN  Children are forked, not executed: what they need is loaded before the sandbox closes. The supervisor is
 *         single-threaded and uses no library that starts threads, so that forking is safe. Tries are counted in
 *         work/tries, so that a restart of the supervisor does not forget them; a stop on request is not a try. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/file.h"
#include "base/log.h"
#include "base/utf8.h"
#include "sparsify/worker/worker.h"

#define POLL_MS        200
#define MAX_BACK_OFF_S 64
#define NS             UINT64_C(1000000000)
#define CANCEL_NS      (10 * NS) /* a child that does not heed `cancel` is killed after this */
#define STOP_NS        (8 * NS)  /* and a stop; whoever stops us waits longer (winnowd 10 s, systemd 30 s) */
#define WAITS_S        5u        /* how often it is looked at whether the child gets to run */
#define LOCK_POLL_NS   20000000
#define LOCK_NS        (3 * NS) /* the child of a killed worker keeps the lock until it has died, fsync and all */

volatile sig_atomic_t wn_worker_stop;

/* ---- reports ---- */

struct wn_report wn_report_fail(enum wn_end end, const char *code, const char *msg)
{
    struct wn_report r = { .end = end };
    snprintf(r.code, sizeof r.code, "%s", code);
    snprintf(r.msg, sizeof r.msg, "%s", msg);
    return r;
}

struct wn_report wn_report_of(enum winnow_status status, const char *code, const struct winnow_err *err)
{
    const char *msg = err->msg[0] ? err->msg : winnow_status_text(status);
    switch (status) {
    case WINNOW_E_NOMEM:
        return wn_report_fail(WN_END_BROKE, "out_of_memory", msg);
    case WINNOW_E_NO_SPACE:
        return wn_report_fail(WN_END_BROKE, "no_space", msg);
    case WINNOW_E_IO:
        return wn_report_fail(WN_END_BROKE, "io_error", msg);
    default:
        return wn_report_fail(WN_END_FAILED, code, msg);
    }
}

enum winnow_status wn_result_write(const char *dir, const struct wn_report *r, struct winnow_err *err)
{
    bool cancelled = r->end == WN_END_CANCELLED;
    char msg[sizeof r->msg];
    snprintf(msg, sizeof msg, "%s", r->msg);
    for (size_t at; (at = wn_utf8_fault(msg, strlen(msg))) != SIZE_MAX;)
        msg[at] = '?'; /* a name from the data, cut within a character */
    json_t *o = json_pack("{s:i, s:s, s:{s:s, s:s}, s:{}}", "format", 1, "status", cancelled ? "cancelled" : "failed",
                          "error", "code", cancelled ? "cancelled" : r->code, "message", msg, "metrics");
    WN_CLEANUP(wn_freep) char *text = o ? json_dumps(o, JSON_INDENT(1) | JSON_REAL_PRECISION(WN_JSON_DIGITS)) : NULL;
    json_decref(o);
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/work/result.json", dir);
    if (!text || !path)
        return wn_fail(err, WINNOW_E_NOMEM, "result.json");
    return wn_file_write_durable(path, text, strlen(text), err);
}

/* ---- one child ---- */

typedef struct wn_report phase_fn(struct wn_job *job, struct wn_progress *pg, const struct wn_worker_opts *opts);

static void on_stop(int sig)
{
    wn_worker_stop = 1;
}

/* In the child: default signals but the stop flag, die with the parent, work, tell. Does not return. */
static _Noreturn void child(phase_fn *phase, struct wn_job *job, struct wn_progress *pg,
                            const struct wn_worker_opts *opts, int pipe_w, pid_t parent)
{
    sigset_t none;
    struct sigaction act = { .sa_handler = on_stop, .sa_flags = SA_RESTART };
    sigemptyset(&none);
    sigaction(SIGTERM, &act, NULL);
    act.sa_handler = SIG_IGN; /* a terminal's ^C reaches the supervisor, which sends SIGTERM */
    sigaction(SIGINT, &act, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    struct wn_report r = phase(job, pg, opts);
    ssize_t n = write(pipe_w, &r, sizeof r);
    _exit(n == (ssize_t)sizeof r ? 0 : 1);
}

static off_t progress_size(const struct wn_progress *pg)
{
    struct stat st;
    return fstat(pg->fd, &st) == 0 ? st.st_size : 0;
}

/* Clock ticks of CPU time of a process so far and its state ('R', 'S', 'T', …).  Source: proc(5), /proc/PID/stat. */
static unsigned long cpu_of(pid_t pid, char *ret_state)
{
    char path[48], text[512] = "";
    unsigned long user = 0, sys = 0;
    *ret_state = '?';
    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;
    wn_closep(&fd);
    const char *after = n > 0 ? strrchr(text, ')') : NULL; /* the name before it may hold anything */
    if (after)
        sscanf(after + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", ret_state, &user, &sys);
    return user + sys;
}

/* What a child waits for: "cpu" when it wants to run and hardly gets to, which is not a hang (idle priority beside a
 * busy server); "continue" when somebody stopped it; NULL: nothing. */
static const char *waits_for(pid_t pid, unsigned long cpu_before, unsigned wall_s)
{
    char state;
    unsigned long used = cpu_of(pid, &state) - cpu_before;
    bool starved = state == 'R' && used < (unsigned long)sysconf(_SC_CLK_TCK) * wall_s / 10;
    return state == 'T' ? "continue" : starved ? "cpu" : NULL;
}

/* Out of SCHED_IDLE, every thread: beside a busy server the last step of a child that is told to stop could otherwise
 * take minutes. Wants RLIMIT_NICE or privilege; without, STOP_NS decides. */
static void hurry(pid_t pid)
{
    const struct sched_param zero = { 0 };
    char path[48];
    snprintf(path, sizeof path, "/proc/%ld/task", (long)pid);
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        pid_t thread = (pid_t)strtol(e->d_name, NULL, 10);
        if (thread > 0 && sched_getscheduler(thread) == SCHED_IDLE && sched_setscheduler(thread, SCHED_OTHER, &zero))
            wn_debug("worker", "no_hurry", "pid=%ld reason=%s", (long)pid, strerror(errno));
    }
    if (d)
        closedir(d);
}

/* A child under the eye of tend(). */
struct watched {
    pid_t pid;
    off_t size; /* of progress.jsonl, our own lines counted */
    uint64_t grown_ns, looked_ns, told_ns;
    unsigned long cpu, looked_cpu; /* at those times */
    const char *waits;
};

/* Tell what it waits for, when that changes and for as long as it lasts. */
static void look_whether_it_runs(struct watched *w, struct wn_progress *pg, uint64_t now)
{
    char state;
    if (now - w->looked_ns < WAITS_S * NS)
        return;
    const char *waits = waits_for(w->pid, w->looked_cpu, WAITS_S);
    if (waits || w->waits)
        w->size += (off_t)wn_progress_waits(pg, waits);
    w->waits = waits;
    w->looked_ns = now;
    w->looked_cpu = cpu_of(w->pid, &state);
}

/* Progress, or none for too long: returns true when the child hangs. */
static bool look_whether_it_hangs(struct watched *w, const struct wn_job *job, const struct wn_progress *pg,
                                  unsigned hang_s, uint64_t now)
{
    char state;
    off_t size = progress_size(pg);
    bool grown = size != w->size;
    if (!grown && now - w->grown_ns <= hang_s * NS)
        return false;
    const char *waits = grown ? NULL : waits_for(w->pid, w->cpu, hang_s);
    if (!grown && !(waits && strcmp(waits, "cpu") == 0))
        return true;
    if (!grown)
        wn_warning("child_starved", "job=%s pid=%ld", job->id, (long)w->pid);
    w->size = size;
    w->grown_ns = now;
    w->cpu = cpu_of(w->pid, &state);
    return false;
}

/* A stop is passed on once; who does not heed it is killed, and goes on from the last checkpoint another time. */
static void pass_stop_on(struct watched *w, const struct wn_job *job, uint64_t now)
{
    if (!w->told_ns) {
        w->told_ns = now;
        kill(w->pid, SIGTERM);
        hurry(getpid()); /* under systemd the supervisor is idle too */
        hurry(w->pid);
    } else if (now - w->told_ns > STOP_NS) {
        wn_warning("child_killed", "job=%s pid=%ld reason=%s", job->id, (long)w->pid, "it did not stop when told");
        w->told_ns = now;
        kill(w->pid, SIGKILL);
    }
}

/* Look after a child until it ends. Returns its wait status; `ret_hung`: we killed it for standing still. */
static int tend(pid_t pid, const struct wn_job *job, struct wn_progress *pg, const struct wn_worker_opts *opts,
                bool stops_by_itself, bool *ret_hung, bool *ret_cancelled)
{
    const struct timespec poll = { .tv_nsec = POLL_MS * 1000000L };
    uint64_t start = wn_now_ns(), cancel_ns = 0;
    struct watched w = { .pid = pid, .size = progress_size(pg), .grown_ns = start, .looked_ns = start };
    sigset_t set;
    int how;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    for (;;) {
        pid_t got = waitpid(pid, &how, WNOHANG);
        if (got == pid || (got < 0 && errno != EINTR))
            return got == pid ? how : 1 << 8;
        int sig = sigtimedwait(&set, NULL, &poll);
        if (sig == SIGTERM || sig == SIGINT)
            wn_worker_stop = 1;
        uint64_t now = wn_now_ns();
        bool cancel = wn_job_has(job, "cancel"), want = wn_worker_stop || cancel || wn_job_has(job, "pause");
        *ret_cancelled = cancel;
        cancel_ns = cancel ? (cancel_ns ? cancel_ns : now) : 0;
        if ((want && !stops_by_itself) || (cancel && now - cancel_ns > CANCEL_NS))
            kill(pid, SIGKILL);
        else if (wn_worker_stop)
            pass_stop_on(&w, job, now);
        look_whether_it_runs(&w, pg, now);
        if (!*ret_hung && look_whether_it_hangs(&w, job, pg, opts->hang_s, now)) {
            *ret_hung = true;
            kill(pid, SIGKILL);
        }
    }
}

static struct wn_report died(const char *phase, int how, bool hung, const struct wn_worker_opts *opts)
{
    char msg[200];
    int sig = WIFSIGNALED(how) ? WTERMSIG(how) : 0;
    if (hung)
        snprintf(msg, sizeof msg, "%s made no progress for %u s", phase, opts->hang_s);
    else if (sig == SIGKILL)
        snprintf(msg, sizeof msg, "%s was killed, most likely for want of memory", phase);
    else if (sig == SIGXCPU)
        snprintf(msg, sizeof msg, "%s used up its CPU time", phase);
    else if (sig)
        snprintf(msg, sizeof msg, "%s crashed (signal %d, %s)", phase, sig, strsignal(sig));
    else
        snprintf(msg, sizeof msg, "%s ended with exit status %d", phase, WEXITSTATUS(how));
    return wn_report_fail(sig == SIGXCPU ? WN_END_FAILED : WN_END_BROKE,
                          hung             ? "hang"
                          : sig == SIGKILL ? "out_of_memory"
                          : sig == SIGXCPU ? "time_limit"
                                           : "crash",
                          msg);
}

static struct wn_report run_phase(const char *name, phase_fn *phase, struct wn_job *job, struct wn_progress *pg,
                                  const struct wn_worker_opts *opts)
{
    int ends[2];
    struct wn_report r;
    bool hung = false, cancelled = false;
    pid_t parent = getpid();
    if (pipe2(ends, O_CLOEXEC) != 0)
        return wn_report_fail(WN_END_BROKE, "internal", "pipe2 failed");
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        child(phase, job, pg, opts, ends[1], parent);
    }
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return wn_report_fail(WN_END_BROKE, "internal", strerror(errno));
    }
    int how = tend(pid, job, pg, opts, phase == wn_train_phase, &hung, &cancelled);
    ssize_t n = read(ends[0], &r, sizeof r);
    close(ends[0]);
    if (n == (ssize_t)sizeof r && WIFEXITED(how) && WEXITSTATUS(how) == 0) {
        r.code[sizeof r.code - 1] = r.msg[sizeof r.msg - 1] = '\0';
        return r;
    }
    if (cancelled)
        return wn_report_fail(WN_END_CANCELLED, "cancelled", "cancelled");
    if (!hung && (wn_worker_stop || wn_job_has(job, "pause")))
        return wn_report_fail(WN_END_LEFT, "", "");
    return died(name, how, hung, opts);
}

/* ---- tries ---- */

/* Sleep, cut short by a stop. */
static void rest(time_t s, long ns)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    if (sigtimedwait(&set, NULL, &(struct timespec){ .tv_sec = s, .tv_nsec = ns }) > 0)
        wn_worker_stop = 1;
}

static unsigned tries_read(struct wn_job *job)
{
    void *bytes = NULL;
    size_t n;
    const char *path = wn_job_path(job, "work/tries");
    unsigned tries = 0;
    if (path && wn_file_read(path, 16, &bytes, &n, NULL) == WINNOW_OK)
        tries = (unsigned)strtoul(bytes, NULL, 10);
    free(bytes);
    return tries;
}

static void tries_write(struct wn_job *job, unsigned tries)
{
    char text[16];
    const char *path = wn_job_path(job, "work/tries");
    struct winnow_err err = { 0 };
    int n = snprintf(text, sizeof text, "%u\n", tries);
    if (path && wn_file_write_durable(path, text, (size_t)n, &err) != WINNOW_OK)
        wn_warning("tries_not_written", "job=%s reason=%s", job->id, err.msg);
}

static struct wn_report try_phase(const char *name, phase_fn *phase, struct wn_job *job, struct wn_progress *pg,
                                  const struct wn_worker_opts *opts)
{
    unsigned tries = tries_read(job);
    for (;;) {
        if (wn_worker_stop)
            return wn_report_fail(WN_END_LEFT, "", "");
        struct wn_report r = run_phase(name, phase, job, pg, opts);
        if (r.end != WN_END_BROKE)
            return r;
        tries_write(job, ++tries);
        wn_warning("phase_broke", "job=%s phase=%s try=%u code=%s reason=%s", job->id, name, tries, r.code, r.msg);
        if (tries >= opts->tries) {
            char msg[240];
            snprintf(msg, sizeof msg, "%.200s (%u %s)", r.msg, tries, tries == 1 ? "try" : "tries");
            return wn_report_fail(WN_END_FAILED, r.code, msg);
        }
        wn_progress_message(pg, "warning", "try %u: %s; going on from the last checkpoint", tries, r.msg);
        rest(tries > 3 ? MAX_BACK_OFF_S : 1 << (2 * (tries - 1)), 0);
    }
}

/* ---- the job ---- */

static struct wn_report run_job(struct wn_job *job, struct wn_progress *pg, const struct wn_worker_opts *opts)
{
    if (wn_job_has(job, "cancel"))
        return wn_report_fail(WN_END_CANCELLED, "cancelled", "cancelled before it began");
    if (wn_job_has(job, "pause"))
        return wn_report_fail(WN_END_LEFT, "", "");
    if (!wn_job_has(job, "data/ingest.json")) {
        struct wn_report r = try_phase("ingest", wn_ingest_phase, job, pg, opts);
        if (r.end != WN_END_DONE)
            return r;
        tries_write(job, 0);
    }
    return try_phase("training", wn_train_phase, job, pg, opts);
}

static enum winnow_status make_folder(const char *dir, const char *name, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/%s", dir, name);
    if (!path)
        return wn_fail(err, WINNOW_E_NOMEM, "%s", dir);
    return mkdir(path, 0777) == 0 || errno == EEXIST ? WINNOW_OK : wn_fail_errno(err, errno, "%s", path);
}

static enum winnow_status make_folders(const char *dir, struct winnow_err *err)
{
    static const char *const names[] = {
        "work", "work/checkpoint", "work/candidate", "data", "data/train", "data/eval"
    };
    for (size_t i = 0; i < WN_COUNT(names); i++)
        WN_TRY(make_folder(dir, names[i], err));
    return WINNOW_OK;
}

/* Folders for a job; a folder without job.json is something else and stays as it is. */
static enum winnow_status prepare(const char *dir, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *job = wn_asprintf("%s/job.json", dir);
    if (!job)
        return wn_fail(err, WINNOW_E_NOMEM, "%s", dir);
    if (access(job, F_OK) != 0)
        return wn_fail_errno(err, errno, "%s", job);
    return make_folders(dir, err);
}

static int take_lock(const char *dir, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/work/lock", dir);
    int fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666) : -1;
    for (uint64_t start = wn_now_ns(); fd >= 0;) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return fd;
        if (errno != EWOULDBLOCK || wn_worker_stop || wn_now_ns() - start > LOCK_NS)
            break;
        rest(0, LOCK_POLL_NS);
        errno = EWOULDBLOCK;
    }
    if (fd >= 0 && errno == EWOULDBLOCK)
        wn_fail(err, WINNOW_E_CONFLICT, "another worker holds the job '%s'", dir);
    else
        wn_fail_errno(err, errno, "%s/work/lock", dir);
    wn_closep(&fd);
    return -1;
}

/* The lock is held. */
static struct wn_report locked(const char *dir, const struct wn_worker_opts *opts)
{
    struct winnow_err err = { 0 };
    struct wn_job job;
    struct wn_progress pg;
    enum winnow_status status = wn_job_read(dir, &job, &err);
    if (status != WINNOW_OK)
        return wn_report_of(status, "bad_job", &err);
    const char *path = wn_job_path(&job, "work/progress.jsonl");
    status = path ? wn_progress_open(path, &pg, &err) : wn_fail(&err, WINNOW_E_NOMEM, "job");
    struct wn_report r;
    if (status == WINNOW_OK) {
        r = run_job(&job, &pg, opts);
        wn_progress_close(&pg);
    } else {
        r = wn_report_of(status, "internal", &err);
    }
    wn_job_done(&job);
    return r;
}

enum wn_ran wn_supervise(const char *dir, const struct wn_worker_opts *opts, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *result = wn_asprintf("%s/work/result.json", dir);
    if (!result || prepare(dir, err) != WINNOW_OK)
        return WN_RAN_ERROR;
    WN_CLEANUP(wn_closep) int lock = take_lock(dir, err);
    if (lock < 0)
        return err->status == WINNOW_E_CONFLICT ? WN_RAN_BUSY : WN_RAN_ERROR;
    if (access(result, F_OK) == 0)
        return WN_RAN_ENDED;
    struct wn_report r = locked(dir, opts);
    if (r.end == WN_END_LEFT)
        return WN_RAN_LEFT;
    if (r.end == WN_END_DONE)
        return WN_RAN_ENDED;
    wn_notice("job_ended", "dir=%s code=%s reason=%s", dir, r.code, r.msg);
    return wn_result_write(dir, &r, err) == WINNOW_OK ? WN_RAN_ENDED : WN_RAN_ERROR;
}
