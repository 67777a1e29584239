/* cpus.c: how many CPUs this process may keep busy.
 *
 * DESIGN  sched_getaffinity() tells cpusets too: the kernel keeps a task's mask within its cpuset.cpus.effective. A
 * quota is nowhere but in files, and that of a group binds all below it, so the whole path is read, up to the mount. In
 * a container the path may be the host's while the mount shows the container's own group as its root: levels that are
 * not there are passed over. Mounts are looked for where systemd and container runtimes put them; mountinfo would find
 * others. Considered: cores instead of hardware threads. Not measured; not done. */
#include "base/cpus.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/base.h"

#define MAX_SET (1u << 16) /* CPUs; Linux allows 8192 */

/* The first room - 1 bytes of a file as a string. */
static bool read_text(const char *path, char *text, size_t room)
{
    WN_CLEANUP(wn_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t used = 0;
    ssize_t n = 0;
    while (fd >= 0 && used + 1 < room && (n = read(fd, text + used, room - 1 - used)) > 0)
        used += (size_t)n;
    text[used] = 0;
    return fd >= 0 && n >= 0;
}

/* A whole number of microseconds, at least 1, before a blank or the end; 0 for anything else ("max", "-1"). */
static unsigned long long number(const char **at)
{
    char *end;
    if (**at < '0' || **at > '9')
        return 0;
    errno = 0;
    unsigned long long v = strtoull(*at, &end, 10);
    *at = end + strspn(end, " \n");
    return errno || (*end && !strchr(" \n", *end)) ? 0 : v;
}

static unsigned smaller(unsigned a, unsigned b)
{
    return !a || (b && b < a) ? b : a;
}

static unsigned whole_cpus(unsigned long long quota, unsigned long long period)
{
    if (!quota || !period)
        return 0;
    unsigned long long n = quota / period + (quota % period != 0);
    return n < MAX_SET ? (unsigned)n : MAX_SET;
}

/* The quota of one group: cpu.max holds "QUOTA PERIOD" or "max PERIOD"; in v1 they are files of their own. */
static unsigned quota_of(const char *group)
{
    static const char *const files[][2] = { { "cpu.max", NULL }, { "cpu.cfs_quota_us", "cpu.cfs_period_us" } };
    unsigned least = 0;
    for (size_t i = 0; i < WN_COUNT(files); i++) {
        char text[64];
        WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/%s", group, files[i][0]);
        WN_CLEANUP(wn_freep) char *other = files[i][1] ? wn_asprintf("%s/%s", group, files[i][1]) : NULL;
        const char *at = text;
        if (!path || !read_text(path, text, sizeof text))
            continue;
        unsigned long long quota = number(&at);
        if (files[i][1]) {
            at = text;
            if (!other || !read_text(other, text, sizeof text))
                continue;
        }
        least = smaller(least, whole_cpus(quota, number(&at)));
    }
    return least;
}

/* The group `path` below `mount` and all above it, the mount included. `path` is shortened. */
static unsigned quota_up(const char *mount, char *path)
{
    unsigned least = 0;
    for (;;) {
        WN_CLEANUP(wn_freep) char *group = wn_asprintf("%s%s", mount, path);
        if (group)
            least = smaller(least, quota_of(group));
        char *slash = strrchr(path, '/');
        if (!slash)
            return least;
        *slash = 0;
    }
}

static bool has_word(const char *list, const char *word)
{
    const size_t n = strlen(word);
    for (const char *at = list; (at = strstr(at, word)) != NULL; at += n)
        if ((at == list || at[-1] == ',') && (at[n] == 0 || at[n] == ','))
            return true;
    return false;
}

/* A line of /proc/self/cgroup: "NUMBER:CONTROLLERS:PATH", v2 with no controllers. `line` is written to. */
static unsigned quota_of_line(const char *root, char *line)
{
    static const char *const v1[] = { "cpu", "cpu,cpuacct" }, *const v2[] = { "", "unified" };
    char *list = strchr(line, ':'), *path = list ? strchr(list + 1, ':') : NULL;
    if (!path || path[1] != '/' || strstr(path, "/.."))
        return 0;
    *path++ = 0;
    list++;
    if (*list && !has_word(list, "cpu"))
        return 0;
    const char *const *names = *list ? v1 : v2;
    unsigned least = 0;
    for (size_t i = 0; i < 2; i++) {
        WN_CLEANUP(wn_freep) char *mount = wn_asprintf("%s/sys/fs/cgroup%s%s", root, *names[i] ? "/" : "", names[i]);
        WN_CLEANUP(wn_freep) char *copy = wn_strdup(path);
        if (mount && copy)
            least = smaller(least, quota_up(mount, copy));
    }
    return least;
}

unsigned wn_cpus_quota(const char *root)
{
    char text[8192]; /* a dozen lines, paths of up to 4096 bytes; a last line that is cut off names no group */
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/proc/self/cgroup", root);
    unsigned least = 0;
    if (!path || !read_text(path, text, sizeof text))
        return 0;
    for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = 0;
        least = smaller(least, quota_of_line(root, line));
    }
    return least;
}

/* The kernel refuses a set that is smaller than its own. */
static unsigned allowed(void)
{
    for (size_t n = 1024; n <= MAX_SET; n *= 2) {
        cpu_set_t *set = CPU_ALLOC(n);
        const size_t bytes = CPU_ALLOC_SIZE(n);
        if (!set)
            break;
        const bool known = sched_getaffinity(0, bytes, set) == 0, small = errno == EINVAL;
        const int count = known ? CPU_COUNT_S(bytes, set) : 0;
        CPU_FREE(set);
        if (count > 0)
            return (unsigned)count;
        if (!small)
            break;
    }
    return 1;
}

unsigned wn_cpus(void)
{
    return smaller(allowed(), wn_cpus_quota(""));
}
