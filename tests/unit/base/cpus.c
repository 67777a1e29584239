/* cpus.h: quotas in a made-up /proc and /sys; affinity of this process. */
#include "base/cpus.h"
#include <criterion/criterion.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/base.h"

static char root[] = "/tmp/winnow-cpus-XXXXXX";

static void make_root(void)
{
    cr_assert(mkdtemp(root));
}

static void remove_root(void)
{
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", root);
    cr_assert_eq(system(command), 0);
}

static void put_bytes(const char *name, const char *text, size_t n)
{
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/%s", root, name);
    for (char *slash = path + sizeof root; (slash = strchr(slash, '/')) != NULL; *slash++ = '/') {
        *slash = 0;
        mkdir(path, 0700);
    }
    WN_CLEANUP(wn_fclosep) FILE *f = fopen(path, "we");
    cr_assert(f, "%s", path);
    cr_assert_eq(fwrite(text, 1, n, f), n);
}

static void put(const char *name, const char *text)
{
    put_bytes(name, text, strlen(text));
}

TestSuite(cpus, .init = make_root, .fini = remove_root);

Test(cpus, no_files_no_quota)
{
    cr_expect_eq(wn_cpus_quota(root), 0);
    put("proc/self/cgroup", "0::/\n");
    cr_expect_eq(wn_cpus_quota(root), 0);
}

Test(cpus, the_smallest_quota_up_the_path_binds)
{
    put("proc/self/cgroup", "0::/system.slice/winnowd.service\n");
    put("sys/fs/cgroup/system.slice/winnowd.service/cpu.max", "max 100000\n");
    cr_expect_eq(wn_cpus_quota(root), 0);
    put("sys/fs/cgroup/system.slice/cpu.max", "400000 100000\n");
    cr_expect_eq(wn_cpus_quota(root), 4, "of the slice above");
    put("sys/fs/cgroup/system.slice/winnowd.service/cpu.max", "250000 100000\n");
    cr_expect_eq(wn_cpus_quota(root), 3, "2.5 CPUs are three");
    put("sys/fs/cgroup/cpu.max", "50000 100000\n");
    cr_expect_eq(wn_cpus_quota(root), 1, "half a CPU is one; the mount's own group counts");
    put("sys/fs/cgroup/other.slice/cpu.max", "10000 100000\n");
    cr_expect_eq(wn_cpus_quota(root), 1, "a group beside the path does not count");
}

Test(cpus, version_1_and_hybrid)
{
    put("proc/self/cgroup", "9:name=systemd:/\n4:cpuset:/a\n2:cpuacct,cpu:/a/b\n0::/u\n");
    put("sys/fs/cgroup/cpu/a/b/cpu.cfs_quota_us", "-1\n");
    put("sys/fs/cgroup/cpu/a/b/cpu.cfs_period_us", "100000\n");
    cr_expect_eq(wn_cpus_quota(root), 0, "-1 is no quota");
    put("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "600000\n");
    cr_expect_eq(wn_cpus_quota(root), 0, "a quota without its period");
    put("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
    cr_expect_eq(wn_cpus_quota(root), 6);
    put("sys/fs/cgroup/unified/u/cpu.max", "500000 100000\n");
    cr_expect_eq(wn_cpus_quota(root), 5, "hybrid: both count");
    put("proc/self/cgroup", "4:cpuset:/a\n");
    cr_expect_eq(wn_cpus_quota(root), 0, "cpuset is not cpu");
}

Test(cpus, a_container_may_show_its_group_as_the_mount)
{
    put("proc/self/cgroup", "3:cpu,cpuacct:/docker/0123\n");
    put("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n");
    put("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    cr_expect_eq(wn_cpus_quota(root), 2);
    put("proc/self/cgroup", "0::/../../outside\n");
    put("sys/fs/cgroup/cpu.max", "100000 100000\n");
    cr_expect_eq(wn_cpus_quota(root), 0, "outside of this namespace");
}

Test(cpus, what_makes_no_sense_is_no_quota)
{
    static const char *const quotas[] = { "",
                                          "\n",
                                          "max",
                                          "100000",
                                          "100000 ",
                                          "100000 0",
                                          "0 100000",
                                          "-5 100000",
                                          "1e5 100000",
                                          "100000 1e5",
                                          "99999999999999999999999 100000",
                                          "100000x 100000" };
    put("proc/self/cgroup", "0::/\n");
    for (size_t i = 0; i < WN_COUNT(quotas); i++) {
        put("sys/fs/cgroup/cpu.max", quotas[i]);
        cr_expect_eq(wn_cpus_quota(root), 0, "'%s'", quotas[i]);
    }
    put_bytes("sys/fs/cgroup/cpu.max",
              "2\0"
              "00000 100000",
              14);
    cr_expect_eq(wn_cpus_quota(root), 0, "a NUL byte");
    put("sys/fs/cgroup/cpu.max", "18446744073709551615 1");
    cr_expect_eq(wn_cpus_quota(root), 65536, "as good as none");
    static const char *const lines[] = { "", "\n\n", "::\n", "0:\n", "0::\n", "0::relative\n", "0::/" /* no end */ };
    put("sys/fs/cgroup/cpu.max", "100000 100000");
    for (size_t i = 0; i < WN_COUNT(lines); i++) {
        put("proc/self/cgroup", lines[i]);
        cr_expect_eq(wn_cpus_quota(root), 0, "'%s'", lines[i]);
    }
}

Test(cpus, a_path_that_does_not_fit_names_no_group)
{
    char *line = malloc(20000);
    cr_assert(line);
    memcpy(line, "0::/", 4);
    memset(line + 4, 'a', 20000 - 5);
    line[19999] = '\n';
    put_bytes("proc/self/cgroup", line, 20000);
    put("sys/fs/cgroup/cpu.max", "100000 100000\n");
    cr_expect_eq(wn_cpus_quota(root), 0);
    memcpy(line, "0::/\n", 5);
    put_bytes("proc/self/cgroup", line, 20000);
    cr_expect_eq(wn_cpus_quota(root), 1, "what stands before it counts");
    free(line);
}

Test(cpus, affinity)
{
    cpu_set_t all, one;
    cr_assert_eq(sched_getaffinity(0, sizeof all, &all), 0);
    cr_expect_leq(wn_cpus(), (unsigned)CPU_COUNT(&all));
    cr_expect_geq(wn_cpus(), 1);
    CPU_ZERO(&one);
    for (int i = 0; i < CPU_SETSIZE && !CPU_COUNT(&one); i++)
        if (CPU_ISSET(i, &all))
            CPU_SET(i, &one);
    cr_assert_eq(sched_setaffinity(0, sizeof one, &one), 0);
    cr_expect_eq(wn_cpus(), 1);
}
