/* sandbox.c: what is not granted fails, what is granted works. Each test runs in a process of its own. */
#include "sparsify/worker/sandbox.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[64], secret[96], mine[96];

static void *nothing(void *arg)
{
    return arg;
}

/* Number of the first expectation that fails, 0 when all hold. Runs inside the sandbox, so it only counts. */
#define EXPECT(cond)                                                                                                   \
    do {                                                                                                               \
        if (!(cond))                                                                                                   \
            return __LINE__;                                                                                           \
    } while (0)

static int inside(bool jit, bool landlock)
{
    int fd = open(mine, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    EXPECT(fd >= 0 && write(fd, "x", 1) == 1 && fsync(fd) == 0 && close(fd) == 0);
    EXPECT(unlink(mine) == 0);
    if (landlock) {
        EXPECT(open(secret, O_RDONLY) < 0 && errno == EACCES);
        EXPECT(open("/etc/passwd", O_RDONLY) < 0 && errno == EACCES);
        EXPECT(open("/tmp/wn-sandbox-other", O_WRONLY | O_CREAT, 0600) < 0);
    }
    EXPECT(socket(AF_INET, SOCK_STREAM, 0) < 0 && errno == EPERM);
    EXPECT(ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0 && errno == EPERM);
    EXPECT(execl("/bin/true", "true", (char *)NULL) < 0);
    EXPECT(kill(getppid(), 0) < 0);
    EXPECT(fork() < 0);
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT(p != MAP_FAILED);
    EXPECT((mprotect(p, 4096, PROT_READ | PROT_EXEC) == 0) == jit);
    pthread_t t;
    EXPECT((pthread_create(&t, NULL, nothing, NULL) == 0) == jit);
    if (jit)
        EXPECT(pthread_join(t, NULL) == 0);
    return 0;
}

static int run(bool jit, char missing[64])
{
    int ends[2], how;
    struct {
        int line;
        char missing[64], msg[240];
    } told = { 0 };
    snprintf(dir, sizeof dir, "/tmp/wn-sandbox-%ld", (long)getpid());
    snprintf(secret, sizeof secret, "/tmp/wn-sandbox-%ld.secret", (long)getpid());
    snprintf(mine, sizeof mine, "%s/mine", dir);
    cr_assert_eq(mkdir(dir, 0700), 0);
    cr_assert_eq(close(open(secret, O_WRONLY | O_CREAT, 0600)), 0);
    cr_assert_eq(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct winnow_err err = { 0 };
        const char *rw[] = { dir, NULL };
        const struct wn_sandbox sb = { .rw = rw, .jit = jit, .threads = jit, .cpu_s = 60, .files = 64 };
        told.line = wn_sandbox_enter(&sb, told.missing, &err) == WINNOW_OK
                        ? inside(jit, !strstr(told.missing, "landlock"))
                        : -1;
        memcpy(told.msg, err.msg, sizeof told.msg);
        ssize_t n = write(ends[1], &told, sizeof told);
        _exit(n == (ssize_t)sizeof told ? 0 : 1);
    }
    close(ends[1]);
    cr_assert_eq(waitpid(pid, &how, 0), pid);
    cr_assert(WIFEXITED(how) && WEXITSTATUS(how) == 0, "%x", (unsigned)how);
    cr_assert_eq(read(ends[0], &told, sizeof told), (ssize_t)sizeof told);
    close(ends[0]);
    unlink(secret);
    rmdir(dir);
    cr_assert_neq(told.line, -1, "%s", told.msg);
    memcpy(missing, told.missing, 64);
    return told.line;
}

Test(sandbox, reading_an_upload)
{
    char missing[64];
    int line = run(false, missing);
    cr_assert(line == 0 || strstr(missing, "seccomp"), "line %d", line);
}

Test(sandbox, training)
{
    char missing[64];
    int line = run(true, missing);
    cr_assert(line == 0 || strstr(missing, "seccomp"), "line %d", line);
}
