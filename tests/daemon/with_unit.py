"""with_unit.py: run a program under what a unit file demands, on a machine where systemd does not run.

    with_unit.py UNIT [--listen N] -- PROGRAM [ARG…]

Applies, as systemd 252 would before exec: SystemCallFilter= with SystemCallErrorNumber=, MemoryDenyWriteExecute=,
RestrictAddressFamilies=, RestrictNamespaces=, NoNewPrivileges=; where this user may, PrivateNetwork= (a network
namespace without interfaces) and ProcSubset=pid. --listen hands over N loopback sockets as winnowd.socket does and writes their
ports to standard error. Other users, mounts and device rules are not applied.
Source: systemd src/shared/seccomp-util.c. Needs libseccomp.so.2."""

import ctypes
import errno
import os
import resource
import socket
import subprocess
import sys

ALLOW, EQ, MASKED_EQ = 0x7FFF0000, 4, 7
ALWAYS = ["execve", "exit", "exit_group", "getrlimit", "rt_sigreturn"]


class Cmp(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


def settings(path):
    """Key -> list of values, in order."""
    out = {}
    with open(path) as f:
        for line in f:
            key, eq, text = line.strip().partition("=")
            if eq and not line.startswith("#"):
                out.setdefault(key, []).append(text)
    return out


def group(name):
    """System calls of a group (@name) or of a call's own name."""
    if not name.startswith("@"):
        return {name}
    text = subprocess.run(
        ["systemd-analyze", "syscall-filter", name], check=True, capture_output=True, text=True
    ).stdout
    calls = set()
    for word in text.split("\n")[1:]:
        word = word.strip()
        if word and not word.startswith("#"):
            calls |= group(word)
    return calls


def allowed_calls(unit):
    calls = set()
    for text in unit.get("SystemCallFilter", []):
        names = set().union(*(group(n) for n in text.lstrip("~").split()))
        calls = calls - names if text.startswith("~") else calls | names | group("@default")
    return sorted(calls | set(ALWAYS))


class Filter:
    def __init__(self, lib, default):
        self.lib = lib
        self.ctx = ctypes.c_void_p(lib.seccomp_init(default))

    def rule(self, action, call, *cmps):
        nr = self.lib.seccomp_syscall_resolve_name(call.encode())
        if nr < 0:  # not of this architecture or kernel
            return
        rc = self.lib.seccomp_rule_add_array(self.ctx, action, nr, len(cmps), (Cmp * len(cmps))(*cmps))
        if rc not in (0, -errno.EACCES, -errno.EDOM):
            raise OSError(-rc, f"seccomp rule for {call}")

    def load(self):
        rc = self.lib.seccomp_load(self.ctx)
        if rc:
            raise OSError(-rc, "seccomp_load")


def close_down(unit):
    lib = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    lib.seccomp_init.restype = ctypes.c_void_p
    refuse = 0x00050000 | errno.EPERM
    calls = allowed_calls(unit)  # before anything is closed: it starts programs
    yes = lambda key: unit.get(key, ["no"])[-1] in ("yes", "true")
    filters = []
    if yes("MemoryDenyWriteExecute"):
        f = Filter(lib, ALLOW)
        f.rule(refuse, "mmap", Cmp(2, MASKED_EQ, 6, 6))  # PROT_WRITE | PROT_EXEC
        f.rule(refuse, "mprotect", Cmp(2, MASKED_EQ, 4, 4))
        f.rule(refuse, "pkey_mprotect", Cmp(2, MASKED_EQ, 4, 4))
        f.rule(refuse, "shmat", Cmp(2, MASKED_EQ, 0o100000, 0o100000))
        filters.append(f)
    if "RestrictAddressFamilies" in unit:
        f = Filter(lib, ALLOW)
        kept = {getattr(socket, n) for n in unit["RestrictAddressFamilies"][-1].split() if n != "none"}
        for family in range(64):
            if family not in kept:
                f.rule(0x00050000 | errno.EAFNOSUPPORT, "socket", Cmp(0, EQ, family, 0))
        filters.append(f)
    if yes("RestrictNamespaces"):
        f = Filter(lib, ALLOW)
        f.rule(refuse, "setns")
        for flag in (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
            f.rule(refuse, "unshare", Cmp(0, MASKED_EQ, flag, flag))
            f.rule(refuse, "clone", Cmp(0, MASKED_EQ, flag, flag))
        f.rule(0x00050000 | errno.ENOSYS, "clone3")
        filters.append(f)
    f = Filter(lib, refuse)
    for call in calls:
        f.rule(ALLOW, call)
    for f in [*filters, f]:
        f.load()


def private(unit):
    """Namespaces; says on standard error what this user or kernel does not let us do."""
    libc = ctypes.CDLL(None, use_errno=True)

    def attempt(what, call, *args):
        if call(*args) != 0:
            print(f"with_unit: without {what}: {os.strerror(ctypes.get_errno())}", file=sys.stderr, flush=True)
            return False
        return True

    if unit.get("PrivateNetwork") == ["yes"]:
        attempt("PrivateNetwork", libc.unshare, 0x40000000)
    if unit.get("ProcSubset") == ["pid"] and attempt("ProcSubset", libc.unshare, 0x00020000):
        rec_private = 1 << 14 | 1 << 18
        attempt("ProcSubset", libc.mount, b"none", b"/", None, rec_private, None) and attempt(
            "ProcSubset", libc.mount, b"proc", b"/proc", b"proc", 0, b"subset=pid"
        )


def main():
    unit = settings(sys.argv[1])
    words = sys.argv[2 : sys.argv.index("--")]
    program = sys.argv[sys.argv.index("--") + 1 :]
    if words[:1] == ["--listen"]:
        sockets = [socket.create_server(("127.0.0.1", 0), backlog=128) for _ in range(int(words[1]))]
        print("ports", *(s.getsockname()[1] for s in sockets), file=sys.stderr, flush=True)
        high = [os.dup2(s.fileno(), 50 + i, inheritable=False) for i, s in enumerate(sockets)]
        os.closerange(3, 50)
        for i, fd in enumerate(high):
            os.dup2(fd, 3 + i, inheritable=True)
        os.environ.update(LISTEN_FDS=str(len(high)), LISTEN_PID=str(os.getpid()))
    private(unit)
    if "LimitNOFILE" in unit:
        soft = min(int(unit["LimitNOFILE"][-1]), resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, soft))
    os.umask(int(unit.get("UMask", ["0022"])[-1], 8))
    close_down(unit)
    os.execv(program[0], program)


main()
