"""bad_input.py: what the parts of test_bad_input.py share: running programs, a winnowd, judging what came back, makers of
files."""

import http.client
import io
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib

import numpy as np

try:
    import grpc
except ImportError:  # not in the test environment: those cases are left out
    grpc = None

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import onnx_bytes as ox

BUILD = os.path.abspath(os.environ.get("BUILD", "build"))
WINNOW, WORKER, WINNOWD = (os.path.join(BUILD, p) for p in ("winnow", "winnow-worker", "winnowd"))
SANITIZED = any(s in os.path.basename(BUILD) for s in ("address", "undefined", "thread"))
RUN_MIB, DAEMON_MIB = 256, 320  # peak memory of one run, of the daemon over a case
TMP = tempfile.mkdtemp(prefix="winnow-bad-")
passed = failed = 0
left_out = {}  # what is missing -> number of cases
only = sys.argv[1:]


def path(name, data):
    """A file in the scratch folder."""
    p = os.path.join(TMP, name)
    os.makedirs(os.path.dirname(p), exist_ok=True)
    with open(p, "wb") as f:
        f.write(data.encode() if isinstance(data, str) else data)
    return p


def wanted(name):
    return not only or any(w in name for w in only)


def have(*programs):
    """Whether these are built; if not, one more case is left out."""
    missing = [os.path.basename(p) for p in programs if not os.path.exists(p)]
    if missing:
        leave_out(f"{missing[0]} is not built")
    return not missing


def leave_out(why):
    left_out[why] = left_out.get(why, 0) + 1


def row(case, said, good, why=""):
    global passed, failed
    passed, failed = passed + good, failed + (not good)
    said = re.sub(r"\s+", " ", said.replace(TMP, "…")).strip()
    said = said if len(said) <= 150 else said[:149] + "…"
    print(f"{'ok    ' if good else 'FAILED'} {case:58} | {said}{'' if good else '   # ' + why}", flush=True)


def judge(case, status, text, want, names, memory, bound):
    """Status and words; `names`: regular expressions that all must be found in the answer."""
    want = want if isinstance(want, tuple) else (want,)
    why = [] if status in want else [f"wanted {' or '.join(map(str, want))}"]
    why += [f"does not say {n!r}" for n in names if not re.search(n, text)]
    if memory > bound and not SANITIZED:
        why.append(f"{memory} MiB")
    row(case, f"{status}: {text}", not why, "; ".join(why))


# ---- programs that run once ----
def program(case, argv, want, *names, env=None, stdin=None, seconds=20, bound=RUN_MIB):
    """Runs argv to its end; `want` is its exit code."""
    if not wanted(case):
        return
    if not have(argv[0], *(env or {}).values()):
        return
    started = time.monotonic()
    with tempfile.TemporaryFile() as out:
        p = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=TMP,
            env={**os.environ, **(env or {})},
        )
        status = usage = None
        while time.monotonic() - started < seconds and status is None:
            pid, st, usage = os.wait4(p.pid, os.WNOHANG)
            status = os.waitstatus_to_exitcode(st) if pid else None
            time.sleep(0 if pid else 0.005)
        if status is None:
            p.kill()
            _, _, usage = os.wait4(p.pid, 0)
        p.returncode = status
        out.seek(0)
        text = out.read().decode(errors="replace")
    if status is None:
        row(case, f"still running after {seconds} s: {text}", False, "hung")
    else:
        judge(case, status, text, want, names, usage.ru_maxrss >> 10, bound)


def npz(name, **arrays):
    buf = io.BytesIO()
    np.savez(buf, **arrays)
    return path(name, buf.getvalue())


def npy(descr, order, shape, payload, version=b"\x01\x00"):
    head = ("{'descr': %s, 'fortran_order': %s, 'shape': %s, }" % (descr, order, shape)).encode()
    head += b" " * (64 - (len(head) + 11) % 64) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(head)) + head + payload


def zipped(entries, method=zipfile.ZIP_STORED):
    buf = io.BytesIO()
    with zipfile.ZipFile(buf, "w", method) as z:
        for name, data in entries:
            z.writestr(name, data)
    return buf.getvalue()


def png(width, height, rows=None, cut=None, kind=2):
    def chunk(tag, data):
        return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))

    n = {0: 1, 2: 3, 6: 4}[kind]
    pixels = rows if rows is not None else zlib.compress(b"".join(b"\0" + b"\x40" * width * n for _ in range(height)))
    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))
    out += chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return out[:cut] if cut else out


# ---- the daemon ----
class Daemon:
    """A winnowd with two models, on a port of its own choosing."""

    process = None

    def names(self):
        """Folders of models and of state, the file of the port."""
        return (os.path.join(TMP, "repository"), os.path.join(TMP, "state"), os.path.join(TMP, "port"))

    def settings(self):
        """More of them, from inside `server`."""
        return ""

    def start(self):
        self.repository, self.state, port_file = self.names()
        os.makedirs(self.state)
        if not os.path.exists(self.repository):
            self.put("linear", 1, ox.linear())
            self.put("pictures", 1, ox.convolution())
        path("repository/pictures/1/pipeline.yaml", "task: image_classification\nscale: 1/255\nlabels: labels.txt\n")
        path("repository/pictures/1/labels.txt", "round\nsquare\nother\n")
        config = path(
            f"{type(self).__name__}.yaml",
            f"server:\n    listen: ['127.0.0.1:0']\n    max_body: 4MiB\n    header_timeout: 5s\n{self.settings()}"
            f"models:\n    repositories: [{self.repository}]\n    state: {self.state}\n    poll: 100ms\n    settle: 0\n"
            f"files:\n    max_file: 1MiB\njobs:\n    worker: {WORKER}\n    evaluator: {WINNOW}\n",
        )
        self.log = open(os.path.join(TMP, f"{type(self).__name__}.log"), "wb")
        self.process = subprocess.Popen(
            [WINNOWD, "--config", config],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            env={**os.environ, "WINNOW_PORT_FILE": port_file},
        )
        self.port = None
        end = time.monotonic() + 30
        while time.monotonic() < end and self.process.poll() is None:
            if self.port is None and os.path.exists(port_file):
                self.port = int(open(port_file).read().rpartition(":")[2])
            if self.port and self.request("GET", "/v2/health/ready")[0] == 200:
                return
            time.sleep(0.05)
        raise SystemExit(
            "winnowd did not become ready:\n"
            + open(self.log.name, errors="replace").read()[-2000:]
            + f"\n{passed} passed, {failed + 1} failed"
        )

    def put(self, name, version, data, file="model.onnx"):
        path(f"repository/{name}/{version}.new/{file}", data)
        folder = os.path.join(self.repository, name)
        os.rename(os.path.join(folder, f"{version}.new"), os.path.join(folder, str(version)))

    def request(self, method, target, body=None, headers=None, timeout=30):
        """(status, text); status 0: no answer."""
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            c.request(method, target, body, headers or {})
            r = c.getresponse()
            return r.status, r.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as e:
            return 0, repr(e)
        finally:
            c.close()

    def raw(self, data, timeout=10):
        """Bytes as they are; (status of the first answer, its text)."""
        with socket.create_connection(("127.0.0.1", self.port), timeout) as s:
            got = b""
            try:
                s.sendall(data)
                while part := s.recv(65536):
                    got += part
            except OSError as e:
                got += repr(e).encode()
        m = re.match(rb"HTTP/1\.1 (\d+)", got)
        return int(m[1]) if m else 0, got.partition(b"\r\n\r\n")[2].decode(errors="replace") or got.decode(
            errors="replace"
        )

    def rpc(self, method, frame, *options):
        """A gRPC call by curl: (grpc-status, grpc-message), whatever the frame holds."""
        body, heads = path("frame", frame), os.path.join(TMP, "heads")
        p = subprocess.run(
            [
                "curl",
                "-sS",
                "-m",
                "20",
                "--http2-prior-knowledge",
                "-D",
                heads,
                "-o",
                os.devnull,
                "-X",
                "POST",
                "-H",
                "content-type: application/grpc",
                "-H",
                "te: trailers",
                *options,
                "--data-binary",
                "@" + body,
                f"http://127.0.0.1:{self.port}/{method}",
            ],
            capture_output=True,
            text=True,
        )
        text = open(heads, errors="replace").read() if os.path.exists(heads) else ""
        code = re.search(r"^grpc-status: (\d+)", text, re.M)
        said = re.search(r"^grpc-message: (.*)$", text, re.M)
        return int(code[1]) if code else -1, (said[1].strip() if said else p.stderr + text)

    def call(self, method, message):
        """The same by grpc's own client, for answers that come before the request is sent (curl 7.88 loses those)."""
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            try:
                channel.unary_unary("/" + method, lambda b: b, lambda b: b)(message, timeout=20)
                return 0, ""
            except grpc.RpcError as e:
                return e.code().value[0], e.details()

    def alive(self):
        return self.process.poll() is None and self.request("GET", "/v2/health/live", timeout=10)[0] == 200

    def memory(self):
        """Peak of resident memory since the last call, MiB."""
        with open(f"/proc/{self.process.pid}/status") as f:
            peak = int(re.search(r"VmHWM:\s+(\d+)", f.read())[1]) >> 10
        try:
            with open(f"/proc/{self.process.pid}/clear_refs", "w") as f:
                f.write("5")
        except OSError:
            pass
        return peak

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return "hung"


daemon = Daemon()


def ask(case, want, names, answer, who=None):
    """One case against the daemon (or `who`): `answer` is called and gives (status, text)."""
    who = who or daemon
    if not wanted(case):
        return
    if not have(WINNOWD):
        return
    status, text = answer()
    if not who.alive():
        row(case, f"{status}: {text}", False, f"winnowd died: {who.process.poll()}")
        raise SystemExit(f"{passed} passed, {failed} failed")
    judge(case, status, text, want, names, who.memory(), DAEMON_MIB)
