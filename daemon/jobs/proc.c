/* proc.c: other programs: found, started, watched, ended.
 *
 * DESIGN  vfork, not fork: copying the page tables of a process that serves gigabytes of weights would stop its
 *         threads for milliseconds. The child only makes system calls before it becomes the other program. posix_spawn
 *         would do, but cannot ask for a signal when we die. */
#include "daemon/jobs/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static char *in_folder(const char *folder, size_t n, const char *name)
{
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%.*s/%s", (int)n, folder, name);
    return path && access(path, X_OK) == 0 ? WN_TAKE(path) : NULL;
}

char *wn_proc_find(const char *name)
{
    char self[PATH_MAX];
    if (!*name)
        return NULL;
    if (strchr(name, '/'))
        return access(name, X_OK) == 0 ? wn_strdup(name) : NULL;
    ssize_t n = readlink("/proc/self/exe", self, sizeof self);
    while (n > 0 && self[n - 1] != '/')
        n--;
    char *found = n > 1 ? in_folder(self, (size_t)n - 1, name) : NULL;
    for (const char *p = getenv("PATH"); !found && p; p = *p ? p + 1 : NULL) {
        size_t len = strcspn(p, ":");
        if (len && len < INT_MAX)
            found = in_folder(p, len, name);
        p += len;
    }
    return found;
}

/* In the child, memory shared with the parent, whose thread waits. */
static _Noreturn void become(char *const argv[], int err_fd, int null_fd, int nice_by, pid_t parent)
{
    struct sigaction dfl = { .sa_handler = SIG_DFL };
    sigset_t none;
    for (int sig = 1; sig < NSIG; sig++)
        sigaction(sig, &dfl, NULL);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(126);
    setpriority(PRIO_PROCESS, 0, nice_by);
    if (dup2(null_fd, 0) < 0 || dup2(null_fd, 1) < 0 || (err_fd >= 0 && dup2(err_fd, 2) < 0))
        _exit(126);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(argv[0], argv, environ);
    _exit(127);
}

pid_t wn_proc_start(char *const argv[], int err_fd, int nice_by)
{
    WN_CLEANUP(wn_closep) int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null_fd < 0)
        return -1;
    if (access(argv[0], X_OK) < 0)
        return -1;
    sigset_t all, old;
    sigfillset(&all); /* a handler of ours must not run in the child */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pid_t parent = getpid(), pid = vfork();
    if (pid == 0)
        become(argv, err_fd, null_fd, nice_by, parent);
    int e = errno;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    errno = e;
    return pid;
}

bool wn_proc_ended(pid_t pid, int *ret_status)
{
    pid_t got;
    do
        got = waitpid(pid, ret_status, WNOHANG);
    while (got < 0 && errno == EINTR);
    return got != 0;
}

void wn_proc_signal(pid_t pid, int sig)
{
    if (pid > 1 && kill(-pid, sig) < 0) /* its group is made by the child itself: perhaps not yet */
        kill(pid, sig);
}

/* The last line or so, without what a terminal would obey. */
static void clean(char *said, size_t n)
{
    while (n && (said[n - 1] == '\n' || said[n - 1] == ' '))
        n--;
    said[n] = '\0';
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)said[i] < ' ' || said[i] == 0x7f)
            said[i] = ' ';
}

/* Keep the end of what it says. */
static bool listen_to(int fd, struct wn_run *ret, size_t *n)
{
    char buf[1024];
    ssize_t got = read(fd, buf, sizeof buf);
    if (got < 0)
        return errno == EINTR || errno == EAGAIN;
    for (ssize_t i = 0; i < got; i++) {
        if (*n == sizeof ret->said - 1) {
            memmove(ret->said, ret->said + *n / 2, *n - *n / 2);
            *n -= *n / 2;
        }
        ret->said[(*n)++] = buf[i];
    }
    return got > 0;
}

static bool is_set(const atomic_bool *flag)
{
    return flag && atomic_load(flag);
}

enum winnow_status wn_proc_run(char *const argv[], int nice_by, uint64_t timeout_us, const atomic_bool *cancel,
                               const atomic_bool *stop, struct wn_run *ret, struct winnow_err *err)
{
    int fds[2];
    *ret = (struct wn_run){ 0 };
    if (pipe2(fds, O_CLOEXEC) < 0)
        return wn_fail_errno(err, errno, "starting '%s'", argv[0]);
    pid_t pid = wn_proc_start(argv, fds[1], nice_by);
    int e = errno;
    close(fds[1]);
    WN_CLEANUP(wn_closep) int in = fds[0];
    if (pid < 0)
        return wn_fail_errno(err, e, "starting '%s'", argv[0]);
    size_t n = 0;
    int status = 0, ended_by = 0;
    bool open = true;
    uint64_t until = wn_now_ns() + timeout_us * 1000;
    while (!wn_proc_ended(pid, &status)) {
        if (!ended_by && (is_set(cancel) || is_set(stop) || wn_now_ns() > until)) {
            ended_by = wn_now_ns() > until ? -1 : -2;
            wn_proc_signal(pid, SIGKILL);
        }
        struct pollfd p = { .fd = open ? in : -1, .events = POLLIN };
        if (poll(&p, 1, 20) > 0 && p.revents)
            open = listen_to(in, ret, &n);
    }
    fcntl(in, F_SETFL, O_NONBLOCK); /* a grandchild may hold the other end */
    for (int i = 0; open && i < 64; i++) {
        struct pollfd p = { .fd = in, .events = POLLIN };
        open = poll(&p, 1, 0) > 0 && listen_to(in, ret, &n);
    }
    clean(ret->said, n);
    ret->code = ended_by            ? ended_by
                : WIFEXITED(status) ? WEXITSTATUS(status)
                                    : 128 + (WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    return WINNOW_OK;
}
