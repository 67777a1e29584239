/* sandbox.c: Landlock by its system calls (older headers lack the later rights), seccomp by libseccomp.
 *
 * DESIGN  The seccomp list says what is allowed; everything else fails with EPERM, so that a library that merely tries
 *         something goes on. clone3 alone fails with ENOSYS: its arguments cannot be looked at, and glibc then uses
 * clone. Source: Linux Documentation/userspace-api/landlock.rst; systemd's @basic-io, @file-system groups. */
#include "sparsify/worker/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/log.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

/* ---- Landlock ---- */

/* Rights and scopes by ABI version; headers may be older than the kernel. */
#define FS_EXECUTE     (UINT64_C(1) << 0)
#define FS_WRITE_FILE  (UINT64_C(1) << 1)
#define FS_READ_FILE   (UINT64_C(1) << 2)
#define FS_READ_DIR    (UINT64_C(1) << 3)
#define FS_REMOVE_DIR  (UINT64_C(1) << 4)
#define FS_REMOVE_FILE (UINT64_C(1) << 5)
#define FS_MAKE_DIR    (UINT64_C(1) << 7)
#define FS_MAKE_REG    (UINT64_C(1) << 8)
#define FS_REFER       (UINT64_C(1) << 13) /* 2 */
#define FS_TRUNCATE    (UINT64_C(1) << 14) /* 3 */
#define FS_ALL_V1      ((UINT64_C(1) << 13) - 1)
#define FS_IOCTL_DEV   (UINT64_C(1) << 15) /* 5 */
#define NET_ALL        UINT64_C(3)         /* 4: bind and connect TCP */
#define SCOPE_ALL      UINT64_C(3)         /* 6: abstract sockets, signals */

struct ruleset_attr {
    uint64_t fs, net, scoped;
};

static uint64_t fs_rights(int abi)
{
    return FS_ALL_V1 | (abi >= 2 ? FS_REFER : 0) | (abi >= 3 ? FS_TRUNCATE : 0) | (abi >= 5 ? FS_IOCTL_DEV : 0);
}

static enum winnow_status grant(int ruleset, const char *path, bool write, uint64_t handled, struct winnow_err *err)
{
    struct stat st;
    WN_CLEANUP(wn_closep) int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT && !write ? WINNOW_OK : wn_fail_errno(err, errno, "sandbox: '%s'", path);
    if (fstat(fd, &st) != 0)
        return wn_fail_errno(err, errno, "sandbox: '%s'", path);
    uint64_t rights = FS_READ_FILE;
    if (S_ISDIR(st.st_mode))
        rights |= FS_READ_DIR;
    if (write)
        rights |= FS_WRITE_FILE | FS_REMOVE_FILE | FS_REMOVE_DIR | FS_MAKE_DIR | FS_MAKE_REG | FS_REFER | FS_TRUNCATE;
    struct landlock_path_beneath_attr attr = { .allowed_access = rights & handled, .parent_fd = fd };
    if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &attr, 0) != 0)
        return wn_fail_errno(err, errno, "sandbox: rule for '%s'", path);
    return WINNOW_OK;
}

static enum winnow_status landlock(const struct wn_sandbox *sb, bool *ret_missing, struct winnow_err *err)
{
    int abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    *ret_missing = abi < 1;
    if (abi < 1)
        return WINNOW_OK;
    struct ruleset_attr attr = { fs_rights(abi), abi >= 4 ? NET_ALL : 0, abi >= 6 ? SCOPE_ALL : 0 };
    size_t size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;
    WN_CLEANUP(wn_closep) int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
    if (ruleset < 0)
        return wn_fail_errno(err, errno, "sandbox: landlock_create_ruleset");
    for (unsigned i = 0; sb->ro && sb->ro[i]; i++)
        WN_TRY(grant(ruleset, sb->ro[i], false, attr.fs, err));
    for (unsigned i = 0; sb->rw && sb->rw[i]; i++)
        WN_TRY(grant(ruleset, sb->rw[i], true, attr.fs, err));
    if (syscall(SYS_landlock_restrict_self, ruleset, 0) != 0)
        return wn_fail_errno(err, errno, "sandbox: landlock_restrict_self");
    return WINNOW_OK;
}

/* ---- seccomp ---- */

static const char *const allowed[] = {
    "read",
    "write",
    "readv",
    "writev",
    "pread64",
    "pwrite64",
    "lseek",
    "close",
    "close_range",
    "open",
    "openat",
    "fstat",
    "stat",
    "lstat",
    "newfstatat",
    "statx",
    "access",
    "faccessat",
    "faccessat2",
    "getdents64",
    "readlink",
    "readlinkat",
    "fcntl",
    "flock",
    "dup",
    "dup2",
    "fsync",
    "fdatasync",
    "ftruncate",
    "fallocate",
    "fadvise64",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "rmdir",
    "umask",
    "pipe2",
    "statfs",
    "fstatfs",
    "munmap",
    "mremap",
    "madvise",
    "brk",
    "mincore",
    "membarrier",
    "futex",
    "set_robust_list",
    "get_robust_list",
    "rseq",
    "set_tid_address",
    "gettid",
    "getpid",
    "getppid",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "sched_yield",
    "sched_getaffinity",
    "sched_getparam",
    "sched_getscheduler",
    "clock_gettime",
    "clock_getres",
    "clock_nanosleep",
    "nanosleep",
    "gettimeofday",
    "time",
    "getrandom",
    "getrusage",
    "times",
    "uname",
    "sysinfo",
    "getcpu",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "rt_sigpending",
    "sigaltstack",
    "restart_syscall",
    "exit",
    "exit_group",
    "poll",
    "ppoll",
    "getrlimit",
    "arch_prctl",
};

static int allow_always(scmp_filter_ctx f)
{
    int rc = 0;
    for (size_t i = 0; i < WN_COUNT(allowed) && rc == 0; i++) {
        int nr = seccomp_syscall_resolve_name(allowed[i]);
        if (nr != __NR_SCMP_ERROR && nr >= 0) /* negative: another architecture's */
            rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, nr, 0);
    }
    return rc;
}

/* Calls whose arguments decide. */
static int allow_some(scmp_filter_ctx f, const struct wn_sandbox *sb)
{
    const uint32_t ok = SCMP_ACT_ALLOW;
    int rc = 0;
    if (sb->jit) {
        rc |= seccomp_rule_add(f, ok, SCMP_SYS(mmap), 0);
        rc |= seccomp_rule_add(f, ok, SCMP_SYS(mprotect), 0);
    } else {
        rc |= seccomp_rule_add(f, ok, SCMP_SYS(mmap), 1, SCMP_A2_64(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
        rc |= seccomp_rule_add(f, ok, SCMP_SYS(mprotect), 1, SCMP_A2_64(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    }
    rc |= seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    if (sb->threads)
        rc |= seccomp_rule_add(f, ok, SCMP_SYS(clone), 1,
                               SCMP_A0_64(SCMP_CMP_MASKED_EQ, CLONE_THREAD | CLONE_VM, CLONE_THREAD | CLONE_VM));
    rc |= seccomp_rule_add(f, ok, SCMP_SYS(tgkill), 1, SCMP_A0_64(SCMP_CMP_EQ, (uint64_t)getpid(), 0));
    rc |= seccomp_rule_add(f, ok, SCMP_SYS(prctl), 1, SCMP_A0_64(SCMP_CMP_EQ, PR_SET_NAME, 0));
    rc |= seccomp_rule_add(f, ok, SCMP_SYS(prlimit64), 1, SCMP_A2_64(SCMP_CMP_EQ, 0, 0)); /* reading them */
#ifdef SANITIZED
    rc |= seccomp_rule_add(f, ok, SCMP_SYS(prctl), 0);
#endif
    return rc;
}

static enum winnow_status filter(const struct wn_sandbox *sb, bool *ret_missing, struct winnow_err *err)
{
    *ret_missing = prctl(PR_GET_SECCOMP) < 0;
    if (*ret_missing)
        return WINNOW_OK;
    scmp_filter_ctx f = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (!f)
        return wn_fail(err, WINNOW_E_NOMEM, "sandbox");
    int rc = allow_always(f);
    if (rc == 0)
        rc = allow_some(f, sb);
    if (rc == 0)
        rc = seccomp_load(f);
    seccomp_release(f);
    return rc == 0 ? WINNOW_OK
                   : wn_fail(err, WINNOW_E_INTERNAL, "sandbox: seccomp: %s", strerror(rc < 0 ? -rc : EINVAL));
}

/* ---- limits ---- */

/* Never above the present hard limit. CPU time gets a few seconds between soft and hard: at the hard limit the signal
 * is SIGKILL, which does not say why. */
static enum winnow_status limit(int what, const char *name, uint64_t n, struct winnow_err *err)
{
    struct rlimit now;
    if (!n || getrlimit((__rlimit_resource_t)what, &now) != 0)
        return WINNOW_OK;
    rlim_t value = now.rlim_max == RLIM_INFINITY ? (rlim_t)n : WN_MIN((rlim_t)n, now.rlim_max);
    rlim_t above = value + (what == RLIMIT_CPU ? 5 : 0);
    struct rlimit want = { value, now.rlim_max == RLIM_INFINITY ? above : WN_MIN(above, now.rlim_max) };
    if (setrlimit((__rlimit_resource_t)what, &want) != 0)
        return wn_fail_errno(err, errno, "sandbox: limit of %s", name);
    return WINNOW_OK;
}

static enum winnow_status limits(const struct wn_sandbox *sb, struct winnow_err *err)
{
#ifndef SANITIZED /* sanitizers reserve terabytes of address space */
    WN_TRY(limit(RLIMIT_AS, "memory", sb->memory_bytes, err));
#endif
    WN_TRY(limit(RLIMIT_CPU, "CPU time", sb->cpu_s, err));
    WN_TRY(limit(RLIMIT_FSIZE, "file size", sb->file_bytes, err));
    WN_TRY(limit(RLIMIT_NOFILE, "open files", sb->files, err));
    struct rlimit none = { 0, 0 };
    return setrlimit(RLIMIT_CORE, &none) == 0 ? WINNOW_OK : wn_fail_errno(err, errno, "sandbox: core files");
}

enum winnow_status wn_sandbox_enter(const struct wn_sandbox *sb, char ret_missing[64], struct winnow_err *err)
{
    bool no_landlock = false, no_seccomp = false, no_idle = false;
    const struct sched_param zero = { 0 };
    if (sb->idle && sched_setscheduler(0, SCHED_IDLE, &zero) != 0)
        no_idle = true;
    WN_TRY(limits(sb, err));
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return wn_fail_errno(err, errno, "sandbox: no_new_privs");
    WN_TRY(landlock(sb, &no_landlock, err));
    WN_TRY(filter(sb, &no_seccomp, err));
    snprintf(ret_missing, 64, "%s%s%s", no_landlock ? "landlock " : "", no_seccomp ? "seccomp " : "",
             no_idle ? "sched_idle " : "");
    size_t n = strlen(ret_missing);
    if (n) {
        ret_missing[n - 1] = '\0';
        wn_warning("sandbox_incomplete", "missing=%s", ret_missing);
    }
    return WINNOW_OK;
}
