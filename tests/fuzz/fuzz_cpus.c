/* fuzz_cpus.c: bytes as the files that tell of CPU quotas: /proc/self/cgroup, cpu.max of a group, of one in it and of
 * the mount, and the two files of cgroup v1, one after the other with a byte 1 between them. A quota must be one of
 * those that the files hold, by a reader that was written for this; files outside of the mount are never read. */
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/base.h"
#include "base/cpus.h"

#define READ 63   /* bytes of a quota's file that count */
#define SIZE 2048 /* more only makes paths longer, each of whose folders is looked into */
#define MOST (1u << 16)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CGROUP, MOUNT, GROUP, WITHIN, V1_QUOTA, V1_PERIOD, FILES };
static const char *const name[FILES] = { "proc/self/cgroup",
                                         "sys/fs/cgroup/cpu.max",
                                         "sys/fs/cgroup/a/cpu.max",
                                         "sys/fs/cgroup/a/b/cpu.max",
                                         "sys/fs/cgroup/cpu/cpu.cfs_quota_us",
                                         "sys/fs/cgroup/cpu/cpu.cfs_period_us" };
static char root[64];

static void put(const char *path, const void *bytes, size_t n)
{
    char full[200];
    snprintf(full, sizeof full, "%s/%s", root, path);
    WN_CLEANUP(wn_closep) int fd = open(full, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, bytes, n) != (ssize_t)n)
        abort();
}

static void remove_root(void)
{
    char command[100];
    snprintf(command, sizeof command, "rm -rf %s", root);
    if (system(command) != 0)
        fprintf(stderr, "%s is left\n", root);
}

static void make_root(void)
{
    static const char *const folders[] = { "",
                                           "/proc",
                                           "/proc/self",
                                           "/sys",
                                           "/sys/fs",
                                           "/sys/fs/cgroup",
                                           "/sys/fs/cgroup/a",
                                           "/sys/fs/cgroup/a/b",
                                           "/sys/fs/cgroup/cpu" };
    static const char *const traps[] = { "cpu.max", "sys/cpu.max", "sys/fs/cpu.max", "proc/cpu.max",
                                         "proc/self/cpu.max" };
    char full[200];
    snprintf(root, sizeof root, "%s/wn-fuzz-cpus-%ld", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp",
             (long)getpid()); /* files that are written again and again: in memory */
    for (size_t i = 0; i < WN_COUNT(folders); i++) {
        snprintf(full, sizeof full, "%s%s", root, folders[i]);
        mkdir(full, 0700);
    }
    for (size_t i = 0; i < WN_COUNT(traps); i++)
        put(traps[i], "54321 1\n", 8);
    atexit(remove_root);
}

/* ---- another reader ---- */

struct text {
    const uint8_t *at;
    size_t n;
};

/* Digits that end with the text or before a blank; those and the blanks are taken off. 0: none, none such, too many. */
static unsigned long long take(struct text *t)
{
    unsigned long long v = 0;
    size_t i = 0;
    bool fits = true;
    for (; i < t->n && t->at[i] >= '0' && t->at[i] <= '9'; i++)
        fits = fits && !__builtin_mul_overflow(v, 10ull, &v) &&
               !__builtin_add_overflow(v, (unsigned long long)(t->at[i] - '0'), &v);
    if (!i || !fits || (i < t->n && t->at[i] != ' ' && t->at[i] != '\n'))
        return 0;
    while (i < t->n && (t->at[i] == ' ' || t->at[i] == '\n'))
        i++;
    *t = (struct text){ t->at + i, t->n - i };
    return v;
}

static unsigned cpus(unsigned long long quota, unsigned long long period)
{
    if (!quota || !period)
        return 0;
    const unsigned long long n = quota / period + (quota % period ? 1 : 0);
    return (unsigned)(n > MOST ? MOST : n);
}

/* What counts of a file: its beginning, up to a NUL. */
static struct text beginning(struct text t)
{
    t.n = t.n < READ ? t.n : READ;
    const uint8_t *nul = t.n ? memchr(t.at, 0, t.n) : NULL;
    return (struct text){ t.at, nul ? (size_t)(nul - t.at) : t.n };
}

static unsigned of_v2(struct text t)
{
    struct text rest = beginning(t);
    const unsigned long long quota = take(&rest);
    return quota ? cpus(quota, take(&rest)) : 0;
}

static unsigned of_v1(struct text quota, struct text period)
{
    struct text q = beginning(quota), p = beginning(period);
    return cpus(take(&q), take(&p));
}

static unsigned least(const unsigned *quota, size_t n)
{
    unsigned found = 0;
    for (size_t i = 0; i < n; i++)
        found = quota[i] && (!found || quota[i] < found) ? quota[i] : found;
    return found;
}

static void expect(const char *cgroup, unsigned want)
{
    put(name[CGROUP], cgroup, strlen(cgroup));
    if (wn_cpus_quota(root) != want)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct text file[FILES] = { 0 };
    if (size > SIZE)
        return 0;
    if (!*root)
        make_root();
    for (unsigned i = 0; i < FILES; i++) {
        const uint8_t *end = i + 1 < FILES && size ? memchr(data, 1, size) : NULL;
        file[i] = (struct text){ data, end ? (size_t)(end - data) : size };
        data += file[i].n + (end != NULL);
        size -= file[i].n + (end != NULL);
        put(name[i], file[i].at, file[i].n);
    }
    const unsigned quota[] = { of_v2(file[MOUNT]), of_v2(file[GROUP]), of_v2(file[WITHIN]),
                               of_v1(file[V1_QUOTA], file[V1_PERIOD]) };
    const unsigned got = wn_cpus_quota(root);
    bool known = got == 0;
    for (size_t i = 0; i < WN_COUNT(quota); i++)
        known |= got == quota[i];
    if (!known || got != wn_cpus_quota(root))
        abort();
    expect("0::/a/b\n", least(quota, 3));
    expect("0::/a/b/c\n", least(quota, 3));
    expect("0::/\n", quota[0]);
    expect("12:pids:/a\n4:cpu,cpuacct:/\n1:name=systemd:/a\n", quota[3]);
    expect("4:cpuset:/\n0::/../a\n", 0);
    return 0;
}
