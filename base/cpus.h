/* cpus.h: how many CPUs this process may keep busy. */
#ifndef WN_CPUS_H
#define WN_CPUS_H

/** CPUs that this process may keep busy, at least 1: those it may be scheduled on (affinity, which cpusets and
 * systemd's AllowedCPUs= narrow), or fewer where a cgroup on its path has a CPU quota (systemd's CPUQuota=, docker's
 * --cpus); a fraction of a CPU counts as one. Read anew at each call: a few small files. Any thread. */
unsigned wn_cpus(void);

/** The smallest CPU quota of the cgroups that `root`/proc/self/cgroup names and of all above them, in CPUs, rounded up;
 *  0 where there is none. cgroup v2 (cpu.max) and v1 (cpu.cfs_quota_us). What is not there or makes no sense is passed
 *  over. `root` is "" but in tests.
 *  Source: cgroups(7); Linux Documentation/admin-guide/cgroup-v2.rst, scheduler/sched-bwc.rst. */
unsigned wn_cpus_quota(const char *root);

#endif
