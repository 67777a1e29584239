"""test_bad_input.py: the table of bad input: what every program answers to what it should never have been given.

Real programs (winnow, winnow-worker, winnowd on a free loopback port), inputs made here. A case passes when the status is
the one written beside it, the answer names what is at fault, the process that answered is alive afterwards (or ended by
itself, not by a signal) and its memory stayed below a bound. Prints the table; ends with one line of counts.

    BUILD=build build/venv/bin/python tests/daemon/test_bad_input.py [words]     only cases with these words in their name
"""
import http.client
import io
import json
import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
import zlib

import numpy as np
try:
    import grpc
except ImportError:                                       # not in the test environment: those cases are left out
    grpc = None

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import onnx_bytes as ox

BUILD = os.path.abspath(os.environ.get("BUILD", "build"))
WINNOW, WORKER, WINNOWD = (os.path.join(BUILD, p) for p in ("winnow", "winnow-worker", "winnowd"))
SANITIZED = any(s in os.path.basename(BUILD) for s in ("address", "undefined", "thread"))
RUN_MIB, DAEMON_MIB = 256, 320            # peak memory of one run, of the daemon over a case
TMP = tempfile.mkdtemp(prefix="winnow-bad-")
passed = failed = 0
left_out = []
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
    if not all(os.path.exists(p) for p in [argv[0], *(env or {}).values()]):
        left_out.append(case)
        return
    started = time.monotonic()
    with tempfile.TemporaryFile() as out:
        p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd=TMP,
                             env={**os.environ, **(env or {})})
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


# ---- model files ----
def nested(depth):
    """A graph in an attribute of a node in a graph in …"""
    g = ox.graph([], [], [])
    for _ in range(depth):
        g = ox.graph([ox.node("If", ["c"], ["y"], then_branch=g)], [], [])
    return ox.model(g)


def one(op, inputs, weights=(), x=(1, 1, 4, 4), dtype=ox.F32, **attrs):
    """A model of one node named 'the_node'."""
    return ox.model(ox.graph([ox.node(op, inputs, ["y"], "the_node", **attrs)], [ox.value("x", dtype, list(x))],
                             [ox.value("y", dtype, ["a", "b", "c", "d"][:len(x)])], weights))


def conv(w_dims, **attrs):
    n = int(np.prod(w_dims))
    return one("Conv", ["x", "W"], [ox.tensor("W", ox.F32, w_dims, bytes(4 * n))], **attrs)


def model_files():
    good = ox.linear()
    flipped = bytearray(good)
    flipped[good.index(b"MatMul")] ^= 1
    dims = bytearray(good)
    dims[good.index(ox.num(1, 4) + ox.num(1, 3)) + 1] = 5
    g, v, n, t = ox.graph, ox.value, ox.node, ox.tensor
    x, y = [v("x", ox.F32, ["N", 4])], [v("y", ox.F32, ["N", 4])]
    wide = [v("x", ox.F32, [1, 3, 20000, 20000])]

    def relu(inp, out, name):
        return n("Relu", [inp], [out], name)

    def weights(w):
        return ox.model(g([n("Add", ["x", "W"], ["y"], "add")], x, y, [w]))
    return [
        ("model: empty file", b"", 1, r"bad\.onnx"),
        ("model: not ONNX (text)", b"hello, world, this is no model\n", 1, r"bad\.onnx"),
        ("model: not ONNX (64 KiB of 0xff)", b"\xff" * 65536, 1, r"bad\.onnx"),
        ("model: cut in the middle", good[:len(good) // 2], 1, r"bad\.onnx"),
        ("model: cut by one byte", good[:-1], 1, r"bad\.onnx"),
        ("model: one bit of an operator's name flipped", bytes(flipped), 1, r"LatMul", r"fc"),
        ("model: one extent of a weight changed", bytes(dims), 1, r"'W'"),
        ("model: no graph", ox.num(1, 8), 1, r"graph"),
        ("model: operator set from the future is read as the newest", ox.model(g([relu("x", "y", "r")], x, y), opset=999), 0,
         r"y f32"),
        ("model: a cycle", ox.model(g([relu("b", "a", "first"), relu("a", "b", "second"),
                                       n("Add", ["x", "b"], ["y"], "add")], x, y)), 1, r"cycle|'first'|'second'"),
        ("model: a node that reads itself", ox.model(g([relu("y", "y", "selfish")], x, y)), 1, r"selfish|'y'"),
        ("model: a name that nobody makes", ox.model(g([n("Add", ["x", "ghost"], ["y"], "add")], x, y)), 1, r"ghost"),
        ("model: an output that nobody makes", ox.model(g([relu("x", "z", "r")], x, y)), 1, r"'y'"),
        ("model: a value made twice", ox.model(g([relu("x", "y", "one"), relu("x", "y", "two")], x, y)), 1, r"'y'"),
        ("model: unknown operator", ox.model(g([n("Frobnicate", ["x"], ["y"], "odd")], x, y)), 1, r"Frobnicate", r"odd"),
        ("model: too few inputs of an operator", one("Conv", ["x"]), 1, r"the_node"),
        ("model: weight extents past 2^63", weights(t("W", ox.F32, [1 << 40, 1 << 40], b"")), 1, r"'W'"),
        ("model: a weight with a negative extent", weights(t("W", ox.F32, [-4], b"")), 1, r"'W'"),
        ("model: 1 TiB of weights that are not there", weights(t("W", ox.F32, [1 << 38], b"")), 1, r"'W'"),
        ("model: weight bytes shorter than the extents", weights(t("W", ox.F32, [4], bytes(12))), 1, r"'W'"),
        ("model: weight of unknown type 77", weights(t("W", 77, [4], bytes(16))), 1, r"'W'"),
        ("model: depth bomb, 3000 graphs in graphs", nested(3000), 1, r"deep|depth|level|nest"),
        ("model: message bomb, 2 million empty nodes", ox.num(1, 8) + ox.sub(7, ox.sub(1, b"") * 2000000), 1,
         r"node|message|more than"),
        ("model: activations of 1x3x20000x20000",
         ox.model(g([n("Conv", ["x", "W"], ["y"], "conv", kernel_shape=[1, 1])], wide,
                    [v("y", ox.F32, [1, 64, 20000, 20000])], [t("W", ox.F32, [64, 3, 1, 1], bytes(64 * 3 * 4))])), 1,
         r"memory|more than|MiB|GiB|bytes"),
        ("model: kernel larger than the padded input", conv([1, 1, 9, 9], kernel_shape=[9, 9]), 1, r"the_node"),
        ("model: kernel of 2^31", conv([1, 1, 3, 3], kernel_shape=[1 << 31, 1 << 31]), 1, r"the_node"),
        ("model: kernel_shape that is not the weight's", conv([1, 1, 3, 3], kernel_shape=[2, 2]), 1, r"the_node"),
        ("model: group 0", conv([1, 1, 3, 3], group=0), 1, r"the_node", r"group"),
        ("model: group that does not divide", conv([2, 1, 3, 3], group=3), 1, r"the_node", r"group|channel"),
        ("model: stride 0", conv([1, 1, 3, 3], strides=[0, 0]), 1, r"the_node", r"stride"),
        ("model: negative pads", conv([1, 1, 3, 3], pads=[-1, -1, -1, -1]), 1, r"the_node", r"pad"),
        ("model: pads of 2^62", conv([1, 1, 3, 3], pads=[1 << 62] * 4), 1, r"the_node"),
        ("model: axis -9", one("Softmax", ["x"], axis=-9), 1, r"the_node", r"axis"),
        ("model: Reshape to another number of elements",
         one("Reshape", ["x", "s"], [t("s", ox.I64, [4], struct.pack("<4q", 1, 1, 5, 5))]), 1, r"the_node"),
        ("model: Conv on booleans", one("Conv", ["x", "W"], [t("W", ox.BOOL, [1, 1, 3, 3], bytes(9))], dtype=ox.BOOL), 1,
         r"the_node"),
        ("model: external data with ..", weights(ox.external("W", ox.F32, [4], "../../../../etc/passwd")), 1, r"'W'"),
        ("model: external data, absolute path", weights(ox.external("W", ox.F32, [4], "/etc/passwd")), 1, r"'W'"),
        ("model: external data through a symlink", weights(ox.external("W", ox.F32, [4], "link.bin")), 1, r"'W'"),
        ("model: external data in a FIFO", weights(ox.external("W", ox.F32, [4], "fifo.bin")), 1, r"'W'"),
        ("model: external data past the file's end", weights(ox.external("W", ox.F32, [4], "short.bin", 1 << 40)), 1,
         r"'W'"),
        ("model: external data, offset not a number", weights(ox.external("W", ox.F32, [4], "short.bin", "-1x")), 1,
         r"'W'"),
    ]


def external_files(folder):
    os.makedirs(folder, exist_ok=True)
    for name in ("link.bin", "fifo.bin", "short.bin"):
        if os.path.lexists(os.path.join(folder, name)):
            os.unlink(os.path.join(folder, name))
    os.symlink("/etc/passwd", os.path.join(folder, "link.bin"))
    os.mkfifo(os.path.join(folder, "fifo.bin"))
    with open(os.path.join(folder, "short.bin"), "wb") as f:
        f.write(bytes(16))


def models_by_hand():
    """`winnow run` on every bad model file. An input is given that fits most of them: loading comes first."""
    x = npz("x.npz", x=np.zeros((1, 4), np.float32))
    picture = npz("picture.npz", x=np.zeros((1, 1, 4, 4), np.float32))
    external_files(TMP)
    for case, data, want, *names in model_files():
        program(case, [WINNOW, "run", path("bad.onnx", data), "-i", picture if b"the_node" in data else x], want, *names)
    program("model: no such file", [WINNOW, "run", "absent.onnx", "-i", x], 1, r"absent\.onnx")
    program("model: a folder without model.onnx", [WINNOW, "run", "/etc", "-i", x], 1, r"/etc")


# ---- arrays ----
def arrays():
    good = path("good.onnx", ox.linear())

    def case(name, file, want=1, *names, **more):
        program("npz: " + name, [WINNOW, "run", good, "-i", file], want, *names, **more)

    def member(data, name="x.npy"):
        return path("bad.npz", zipped([(name, data)]))
    case("another shape than the model's", npz("a.npz", x=np.zeros((1, 5), np.float32)), 1, r"'x'|'fc'")
    case("another rank", npz("a.npz", x=np.zeros((1, 2, 2), np.float32)), 1, r"'x'")
    case("another type", npz("a.npz", x=np.zeros((1, 4), np.int64)), 1, r"'x'", r"i64|int64|f32")
    case("no such input", npz("a.npz", z=np.zeros((1, 4), np.float32), q=np.zeros(1)), 1, r"'x'")
    case("not a zip", path("a.npz", b"PK\x03\x04 no, it is not"), 1, r"a\.npz")
    case("cut in the middle", path("a.npz", zipped([("x.npy", npy("'<f4'", False, "(1, 4)", bytes(16)))])[:90]), 1, r"npz")
    case("object array (pickle)", member(npy("'|O'", False, "(1, 4)", b"cos\nsystem\n(S'id'\ntR.")), 1, r"x", r"\|O|object")
    case("extents past 2^63", member(npy("'<f4'", False, "(9223372036854775807, 9223372036854775807)", b"")), 1, r"x")
    case("16 TiB that are not there", member(npy("'<f4'", False, "(1099511627776, 4)", b"")), 1, r"x")
    case("negative extent", member(npy("'<f4'", False, "(-1, 4)", bytes(16))), 1, r"x")
    case("Fortran order", member(npy("'<f4'", True, "(2, 4)", bytes(32))), 1, r"x", r"[Ff]ortran")
    case("header length past the end", member(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}"), 1, r"x")
    case("header that is code", member(npy("__import__('os').system('id')", False, "(1, 4)", bytes(16))), 1, r"x")
    case("fewer bytes than the shape", member(npy("'<f4'", False, "(1, 4)", bytes(8))), 1, r"x")
    file = os.path.join(TMP, "a.npz")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as z, z.open("x.npy", "w", force_zip64=True) as f:
        f.write(npy("'<f4'", False, "(50331648, 4)", b""))
        for _ in range(192):                              # by pieces: a child's peak starts at what its parent has
            f.write(bytes(1 << 20))
    case("192 MiB of zeros in 190 KiB", file, 1, r"'x'")


# ---- what people write ----
def settings():
    def case(name, text, want, *names):
        program("winnowd.yaml: " + name, [WINNOWD, "--check", "--config", path("winnowd.yaml", text)], want, *names)
    at = r"winnowd\.yaml:%d: "
    case("unknown key, near a real one", "batch:\n  max_wiat: 1ms\n", 2, at % 2, "max_wiat", "max_wait")
    case("unknown section", "bacth:\n  max_wait: 1ms\n", 2, at % 1, "bacth", "batch")
    case("a key twice", "batch:\n  max_batch: 8\n  max_batch: 9\n", 2, at % 3, "max_batch", "twice")
    case("a number with something behind it", "batch:\n  max_batch: 2x\n", 2, at % 2, "2x", "integer")
    case("a list where a number belongs", "batch:\n  max_batch: [2]\n", 2, at % 2, "max_batch", "list")
    case("past 64 bits", "batch:\n  max_batch: 99999999999999999999\n", 2, at % 2, "99999999999999999999")
    case("out of range", "batch:\n  max_batch: 5000\n", 2, at % 2, "5000", "4096")
    case("a duration without a unit", "batch:\n  max_wait: 2\n", 2, at % 2, "max_wait", "unit")
    case("a tab for indentation", "batch:\n\tmax_batch: 2\n", 2, at % 2, r"tab|token|character")
    case("quotes that do not close", "log:\n  format: 'json\n", 2, r"winnowd\.yaml:\d+: ", r"quoted|scalar|end")
    case("1000 levels deep", "a: " + "[" * 1000 + "]" * 1000, 2, at % 1, r"deep|level|nest")
    case("2 MiB of text", "# " + "x" * (2 << 20) + "\n", 2, r"winnowd\.yaml", r"1048576|1 MiB|large|longer")
    case("an alias bomb", "a: &a [x,x,x,x]\n" + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n"
                                                        for i in range(8)), 2, r"winnowd\.yaml:\d+: ", r"alias|anchor")
    case("a tag that asks for code", "log: !!python/object/apply:os.system ['id']\n", 2, at % 1, r"tag")
    case("two documents", "log: {}\n---\nlog: {}\n", 2, r"winnowd\.yaml:\d+: ", r"document")
    case("bytes that are not UTF-8", b"log:\n  format: \xff\xfe\n", 2, r"winnowd\.yaml:\d+: ")
    case("another address than loopback, no auth said", "server:\n  listen: ['0.0.0.0:8000']\n", 2, at % 2, r"0\.0\.0\.0:8000", "auth")
    program("winnowd.yaml: no such file", [WINNOWD, "--check", "--config", "absent.yaml"], 2, r"absent\.yaml")
    program("winnowd: unknown option", [WINNOWD, "--frobnicate"], 2, "frobnicate")


def recipes():
    good_epochs = "  - !EpochRangeModifier {start_epoch: 0, end_epoch: 10}\n"

    def case(name, text, *names, model=None, want=2):
        argv = [WORKER, "recipe", path("recipe.yaml", text)]
        program("recipe: " + name, argv + (["--model", model] if model else []), want, *names)

    def prune(params="'__ALL_PRUNABLE__'", **change):
        keys = {"start_epoch": 0, "end_epoch": 8, "update_frequency": 0.5, "init_sparsity": 0.05, "final_sparsity": 0.8, **change}
        body = ", ".join(f"{k}: {v}" for k, v in keys.items() if v is not None)
        return "modifiers:\n" + good_epochs + f"  - !GMPruningModifier {{{body}, params: {params}}}\n"
    at = r"recipe\.yaml:%d: "
    case("unknown modifier", "modifiers:\n  - !FrobnicateModifier {start_epoch: 0}\n", at % 2, "Frobnicate")
    case("a slip of the pen in a modifier", "modifiers:\n  - !GMPrunningModifier {start_epoch: 0}\n", at % 2, "GMPruningModifier")
    case("unknown key of a modifier", prune(finel_sparsity=0.9), at % 3, "finel_sparsity")
    case("eval that imports", prune(end_epoch="eval(__import__('os').system('id'))"), at % 3, r"import|name|token")
    case("eval of a variable that is not there", prune(end_epoch="eval(epochs * 2)"), at % 3, "epochs")
    case("eval that divides by zero", prune(end_epoch="eval(1 / 0)"), at % 3, r"finite|inf")
    case("eval of 5000 brackets", prune(end_epoch="eval(" + "(" * 5000 + "1" + ")" * 5000 + ")"), at % 3, r"long|characters|1024")
    case("end_epoch missing", prune(end_epoch=None), at % 3, "end_epoch")
    case("ends before it starts", prune(start_epoch=6, end_epoch=5), at % 3, "GMPruningModifier ends", "before")
    case("sparsity of 1.5", prune(final_sparsity=1.5), at % 3, "sparsity", r"1\.5")
    case("NaN sparsity", prune(final_sparsity=".nan"), at % 3, "finite number")
    case("a regular expression that is none", prune("['re:conv(']"), r"conv\(", model=path("base.onnx", ox.convolution(classes=8)))
    case("a selector that matches nothing", prune("['fc.weight']"), r"fc\.weight", model=path("base.onnx", ox.convolution(classes=8)))
    case("no modifiers", "learning_rate: 0.1\n", r"recipe\.yaml", r"modifier")
    case("not YAML", "modifiers: [}\n", at % 1)
    case("empty file", "", r"recipe\.yaml")
    program("recipe: no such file", [WORKER, "recipe", "absent.yaml"], 2, r"absent\.yaml")
    program("winnow recipe: the same through the command line",
            [WINNOW, "recipe", "check", path("recipe.yaml", "modifiers:\n  - !FrobnicateModifier {}\n")], 2, at % 2, "Frobnicate",
            env={"WINNOW_WORKER": WORKER})


# ---- the daemon ----
class Daemon:
    """A winnowd with two models, on a port of its own choosing."""

    def __init__(self):
        self.repository, self.state, port_file = (os.path.join(TMP, n) for n in ("repository", "state", "port"))
        for d in (self.repository, self.state):
            os.makedirs(d)
        self.put("linear", 1, ox.linear())
        self.put("pictures", 1, ox.convolution())
        path("repository/pictures/1/pipeline.yaml", "task: image_classification\nscale: 1/255\nlabels: labels.txt\n")
        path("repository/pictures/1/labels.txt", "round\nsquare\nother\n")
        config = path("daemon.yaml", f"server:\n    listen: ['127.0.0.1:0']\n    max_body: 4MiB\n    header_timeout: 5s\n"
                      f"models:\n    repositories: [{self.repository}]\n    state: {self.state}\n    poll: 100ms\n    settle: 0\n"
                      f"files:\n    max_file: 1MiB\njobs:\n    worker: {WORKER}\n    evaluator: {WINNOW}\n")
        self.log = open(os.path.join(TMP, "winnowd.log"), "wb")
        self.process = subprocess.Popen([WINNOWD, "--config", config], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        env={**os.environ, "WINNOW_PORT_FILE": port_file})
        self.port = None
        end = time.monotonic() + 30
        while time.monotonic() < end and self.process.poll() is None:
            if self.port is None and os.path.exists(port_file):
                self.port = int(open(port_file).read().rpartition(":")[2])
            if self.port and self.request("GET", "/v2/health/ready")[0] == 200:
                return
            time.sleep(0.05)
        raise SystemExit("winnowd did not become ready:\n" + open(self.log.name, errors="replace").read()[-2000:] +
                         f"\n{passed} passed, {failed + 1} failed")

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
        return int(m[1]) if m else 0, got.partition(b"\r\n\r\n")[2].decode(errors="replace") or got.decode(errors="replace")

    def rpc(self, method, frame, *options):
        """A gRPC call by curl: (grpc-status, grpc-message), whatever the frame holds."""
        body, heads = path("frame", frame), os.path.join(TMP, "heads")
        p = subprocess.run(["curl", "-sS", "-m", "20", "--http2-prior-knowledge", "-D", heads, "-o", os.devnull, "-X", "POST",
                            "-H", "content-type: application/grpc", "-H", "te: trailers", *options, "--data-binary", "@" + body,
                            f"http://127.0.0.1:{self.port}/{method}"], capture_output=True, text=True)
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


daemon = None


def ask(case, want, names, answer):
    """One case against the daemon: `answer` is called and gives (status, text)."""
    if not wanted(case):
        return
    if daemon is None:
        left_out.append(case)
        return
    status, text = answer()
    if not daemon.alive():
        row(case, f"{status}: {text}", False, f"winnowd died: {daemon.process.poll()}")
        raise SystemExit(f"{passed} passed, {failed} failed")
    judge(case, status, text, want, names, daemon.memory(), DAEMON_MIB)


def tensor_json(data="[[1,2,3,4]]", name='"x"', dtype='"FP32"', shape="[1,4]", more=""):
    return f'{{"inputs":[{{"name":{name},"datatype":{dtype},"shape":{shape},"data":{data}{more}}}]}}'


def json_bodies():
    infer = "/v2/models/linear/infer"

    def case(name, body, want, *names, target=infer, headers=None):
        ask("infer JSON: " + name, want, names, lambda: daemon.request("POST", target, body, headers))
    case("a good one, so that the others mean something", tensor_json(), 200, r'"data":\[')
    case("no body", "", 400, r"JSON|body|object")
    case("not JSON", "x=1&y=2", 400, r"byte \d+|object|offset")
    case("a comma too many", tensor_json() + ",", 400, r"byte|offset|trailing|behind|after|end")
    case("cut in the middle", tensor_json()[:50], 400, r"byte|offset|end|cut")
    case("an array", "[]", 400, r"object")
    case("100 000 levels deep", '{"parameters":{"a":' + "[" * 100000 + "]" * 100000 + "}}", 400, r"deep|depth|level|nest")
    case("100 000 levels deep in data", tensor_json("[" * 100000 + "1" + "]" * 100000), 400, r"'x'|deep|nest|level")
    case("no inputs", '{"id":"7"}', 400, r"inputs")
    case("inputs twice", tensor_json()[:-1] + "," + tensor_json()[1:], 400, r"inputs", r"twice")
    case("an input twice", tensor_json().replace("]}]}", ']},{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]}'), 400, r"x")
    case("an input the model has not", tensor_json(name='"z"'), 400, r"'z'|'x'")
    case("another shape", tensor_json("[[1,2,3]]", shape="[1,3]"), 400, r"'x'|x")
    case("another rank", tensor_json("[1,2,3,4]", shape="[4]"), 400, r"'x'|x")
    case("another datatype", tensor_json(dtype='"INT64"'), 400, r"x", r"INT64|i64")
    case("unknown datatype", tensor_json(dtype='"FP33"'), 400, r"FP33")
    case("more values than the shape says", tensor_json("[[1,2,3,4,5]]"), 400, r"x")
    case("fewer values than the shape says", tensor_json("[[1,2,3]]"), 400, r"x")
    case("a shape of 2^62 rows", tensor_json(shape=f"[{1 << 62},4]"), 400, r"x|shape|elements")
    case("a negative extent", tensor_json(shape="[-1,4]"), 400, r"byte 52|'x'")
    case("a shape of 9 dimensions", tensor_json(shape="[1,1,1,1,1,1,1,1,4]"), 400, r"dimension|shape")
    case("text where a number belongs", tensor_json('[["one",2,3,4]]'), 400, r"x")
    case("NaN and Infinity are values", tensor_json("[[NaN,Infinity,-Infinity,0]]"), 200, r"NaN")
    case("number past every float", tensor_json("[[1e999,2,3,4]]"), (200, 400), r"x|y")
    case("a lone surrogate in a name", tensor_json(name=r'"\ud800"'), 400, r"surrogate|byte|character|name|escape|UTF")
    case("5 MiB where 4 are allowed", tensor_json("[" + "1," * (5 << 19) + "1]"), 413, r"4194304|large|limit|max_body|4 MiB|exceed")
    case("257 inputs", '{"inputs":[' + ",".join(['{"name":"x","datatype":"FP32","shape":[0,4],"data":[]}'] * 257) + "]}", (400, 413), r"256|inputs")
    case("an output the model has not", tensor_json()[:-1] + ',"outputs":[{"name":"q"}]}', 400, r"'q'|q")
    case("an output of 10^6", tensor_json()[:-1] + ',"outputs":[' + ",".join(['{"name":"y"}'] * 100000) + "]}", (400, 413), r"256|outputs")
    case("shared memory", tensor_json(more=',"parameters":{"shared_memory_region":"a"}'), 400, r"shared memory")
    case("unknown model", tensor_json(), 404, r"nobody", target="/v2/models/nobody/infer")
    case("a path for a name", tensor_json(), (400, 404), r".", target="/v2/models/..%2f..%2fetc/infer")
    case("unknown version", tensor_json(), 404, r"7", target="/v2/models/linear/versions/7/infer")
    case("pinned to a generation that is not", tensor_json(), 412, r"generation|99", headers={"winnow-pin": "generation=99999"})
    case("pinned to another digest", tensor_json(), 412, r"digest", headers={"winnow-pin": "digest=sha256:" + "0" * 64})
    case("a pin that is none", tensor_json(), 400, r"pin", headers={"winnow-pin": "weather=fine"})
    case("a deadline that is no number", tensor_json()[:-1] + ',"parameters":{"timeout":"soon"}}', 400, r"byte|number|timeout|integer")

    def binary(name, head, blob, want, *names, length=None):
        text = json.dumps(head)
        headers = {"Inference-Header-Content-Length": str(len(text) if length is None else length)}
        case("binary tensors, " + name, text.encode() + blob, want, *names, headers=headers)
    x = {"name": "x", "datatype": "FP32", "shape": [1, 4]}

    def sized(n, **more):
        return {"inputs": [{**x, **more, "parameters": {"binary_data_size": n}}]}
    binary("a good one", sized(16), bytes(16), 200, r"y")
    binary("size more than follows", sized(16), bytes(8), 400, r"x", r"16")
    binary("size less than follows", sized(16), bytes(20), 400, r"4 bytes|additional|behind")
    binary("size is not the shape's", sized(12), bytes(12), 400, r"x", r"12|16")
    binary("size of 2^63", sized((1 << 63) - 1), bytes(16), 400, r"x")
    binary("negative size", sized(-1), bytes(16), 400, r"byte|number|range|integer|-1")
    binary("head longer than the body", sized(16), bytes(16), 400, r"[Hh]eader|JSON|length|body", length=10 ** 6)
    binary("head length is no number", sized(16), bytes(16), 400, r"[Hh]eader|length", length="many")
    binary("strings that end early", sized(8, name="image", datatype="BYTES", shape=[1]), struct.pack("<II", 1000, 0), 400, r"image|x")


def rpcs():
    infer = "inference.GRPCInferenceService/ModelInfer"

    def framed(message, flag=0, n=None):
        return struct.pack(">BI", flag, len(message) if n is None else n) + message

    def case(name, frame, want, *names, method=infer, options=()):
        ask("gRPC: " + name, want, names, lambda: daemon.rpc(method, frame, *options))

    def call(name, message, want, *names, method=infer):
        if grpc is None:
            left_out.append("gRPC: " + name)
        else:
            ask("gRPC: " + name, want, names, lambda: daemon.call(method, message))

    def tensor(name="x", dtype="FP32", shape=(1, 4)):
        return ox.sub(5, ox.sub(1, name) + ox.sub(2, dtype) + ox.sub(3, b"".join(ox.varint(d) for d in shape)))

    def request(*parts, model="linear"):
        return framed(ox.sub(1, model) + b"".join(parts))
    raw = ox.sub(7, bytes(16))
    case("a good one", request(tensor(), raw), 0)
    case("garbage for a message", framed(b"\xff" * 100), 3, r"message|decode|proto|byte|field")
    case("a message cut short", framed((ox.sub(1, "linear") + tensor())[:-3]), 3, r"message|decode|proto|byte|field|cut")
    case("frame longer than the body", framed(ox.sub(1, "linear"), n=500), (3, 13), r"frame|message|length|body|bytes|cut")
    case("frame shorter than the body", framed(ox.sub(1, "linear") + raw, n=3), (3, 12, 13), r"frame|message|length|body|bytes|more")
    case("three bytes of a frame", b"\0\0\0", (3, 13), r"frame|message|length|body|bytes")
    case("frame that says 4 GiB", framed(b"", n=0xFFFFFFFF), (3, 8, 13), r"frame|message|length|body|bytes|large")
    call("5 MiB where 4 are allowed", bytes(5 << 20), 8, r"4194304|large|limit|max_body|body")
    case("compressed by nothing that was named", framed(ox.sub(1, "linear"), flag=1), (12, 13), r"compress|encoding")
    case("compressed by something unknown", framed(b"x", flag=1), 12, r"snappy|compress|encoding", options=("-H", "grpc-encoding: snappy"))
    case("frame flag 7", framed(ox.sub(1, "linear"), flag=7), (3, 12, 13), r"flag|compress|frame")
    call("unknown method", b"", 12, r"Frobnicate", method="inference.GRPCInferenceService/Frobnicate")
    call("unknown service", b"", 12, r"nobody\.Service", method="nobody.Service/Call")
    case("a timeout that is none counts as none", request(tensor(), raw), 0, options=("-H", "grpc-timeout: soon"))
    case("unknown model", request(tensor(), raw, model="nobody"), 5, r"nobody")
    case("model version that is no number", request(ox.sub(2, "seven"), tensor(), raw), (3, 5), r"seven|version")
    case("raw bytes are not the shape's", request(tensor(), ox.sub(7, bytes(12))), 3, r"x", r"12|16")
    case("an input without its raw bytes", request(tensor()), 3, r"x|raw|content")
    case("more raw contents than inputs", request(tensor(), raw, raw), 3, r"raw|input|content")
    case("shape whose product overflows", request(tensor(shape=(1 << 62, 1 << 62)), raw), 3, r"x|shape|elements|overflow")
    case("a negative extent", request(tensor(shape=((1 << 64) - 1, 4)), raw), 3, r"x|shape|negative|-1")
    case("message bomb: a million empty inputs", framed(ox.sub(1, "linear") + ox.sub(5, b"") * 1000000), (3, 8), r"256|input|tensor")
    case("nested garbage 100 000 deep", framed(b"\x2b" * 100000), 3, r"message|decode|proto|byte|group|wire|field")
    case("small RPC with a field bomb", framed(ox.sub(99, b"") * 400000), (3, 8), r"fields|MiB|levels",
         method="inference.GRPCInferenceService/RepositoryIndex")


def png(width, height, rows=None, cut=None, kind=2):
    def chunk(tag, data):
        return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))
    n = {0: 1, 2: 3, 6: 4}[kind]
    pixels = rows if rows is not None else zlib.compress(b"".join(b"\0" + b"\x40" * width * n for _ in range(height)))
    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))
    out += chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return out[:cut] if cut else out


def pictures():
    infer = "/v2/models/pictures/infer"

    def case(name, body, want, *names, kind="image/png", target=infer):
        ask("picture: " + name, want, names, lambda: daemon.request("POST", target, body, {"Content-Type": kind}))
    jpeg = open(os.path.join(os.path.dirname(__file__), "..", "fuzz/corpus/image/base.jpg"), "rb").read()
    case("a good one", png(16, 12), 200, r"label", r"round|square|other")
    case("a good JPEG", jpeg, 200, r"label", kind="image/jpeg")
    case("text", b"this is no picture", 400, r"PNG|JPEG|picture|image")
    case("nothing", b"", 400, r"picture|image|empty|bytes|body")
    case("a GIF", b"GIF89a" + bytes(64), (400, 415, 501), r"GIF")
    case("PNG cut in the middle", png(64, 64, cut=70), 400, r"PNG|picture|image|end|cut")
    case("JPEG cut in the middle", jpeg[:len(jpeg) // 2], 400, r"JPEG|picture|image|end", kind="image/jpeg")
    case("PNG of 60000 x 60000 in 2 kB", png(60000, 60000, rows=zlib.compress(bytes(1 << 20))), (400, 413), r"60000|8192|pixels|large")
    case("PNG whose width is a lie", png(8000, 8000, rows=zlib.compress(bytes(1000))), 400, r"PNG|picture|image|end|data")
    case("for a model without pictures", png(8, 8), (400, 415), r"linear|picture|image|pipeline", target="/v2/models/linear/infer")


def http_requests():
    ok = "Host: a\r\nConnection: close\r\n"
    body = tensor_json()

    def case(name, data, want, *names):
        ask("HTTP: " + name, want, names, lambda: daemon.raw(data.encode("latin-1") if isinstance(data, str) else data))

    def post(headers, text=body):
        return f"POST /v2/models/linear/infer HTTP/1.1\r\n{ok}{headers}\r\n{text}"
    n = len(body)
    case("a good one", post(f"Content-Length: {n}\r\n"), 200, r"y")
    case("unknown path", f"GET /v3/nothing HTTP/1.1\r\n{ok}\r\n", 404, r".")
    case("wrong method", f"DELETE /v2/models/linear/infer HTTP/1.1\r\n{ok}\r\n", 405, r".")
    case("headers of 20 kB", f"GET /v2 HTTP/1.1\r\n{ok}X: {'y' * 20000}\r\n\r\n", 431)
    case("200 headers", f"GET /v2 HTTP/1.1\r\n{ok}" + "".join(f"X{i}: 1\r\n" for i in range(200)) + "\r\n", 431)
    case("two Content-Lengths", post(f"Content-Length: {n}\r\nContent-Length: {n + 1}\r\n"), 400)
    case("Content-Length: +5", post("Content-Length: +5\r\n"), 400)
    case("Content-Length past 64 bits", post("Content-Length: 99999999999999999999\r\n"), (400, 413))
    case("both length and chunks", post(f"Content-Length: {n}\r\nTransfer-Encoding: chunked\r\n", f"{n:x}\r\n{body}\r\n0\r\n\r\n"), 400)
    case("Transfer-Encoding: chunked, identity", post("Transfer-Encoding: chunked, identity\r\n"), (400, 501))
    case("Transfer-Encoding: xchunked", post("Transfer-Encoding: xchunked\r\n"), (400, 501))
    case("space before the colon", post(f"Content-Length : {n}\r\n"), 400)
    case("a folded header", f"GET /v2 HTTP/1.1\r\n{ok}X: a\r\n b\r\n\r\n", 400)
    case("bare line feeds", "GET /v2 HTTP/1.1\nHost: a\n\n", 400)
    case("NUL in a header", f"GET /v2 HTTP/1.1\r\n{ok}X: a\0b\r\n\r\n", 400)
    case("no Host", "GET /v2 HTTP/1.1\r\n\r\n", 400)
    case("two Hosts", f"GET /v2 HTTP/1.1\r\n{ok}Host: b\r\n\r\n", 400)
    case("HTTP/3.0", f"GET /v2 HTTP/3.0\r\n{ok}\r\n", (400, 505))
    case("HTTP/0.9", "GET /v2\r\n\r\n", (0, 400))
    case("chunk size that overflows", post("Transfer-Encoding: chunked\r\n", "ffffffffffffffffff\r\nx\r\n0\r\n\r\n"), (400, 413))
    case("chunk size with something behind it", post("Transfer-Encoding: chunked\r\n", "5 zz\r\nhello\r\n0\r\n\r\n"), 400)
    case("TLS to a port that speaks none", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), (0, 400))
    case("64 KiB of noise", bytes(range(256)) * 256, (0, 400))
    case("bad percent-encoding", f"GET /v2/models/%zz/ready HTTP/1.1\r\n{ok}\r\n", (400, 404))
    case("a NUL in a model's name", f"GET /v2/models/a%00b/ready HTTP/1.1\r\n{ok}\r\n", (400, 404))


def repository_loads():
    """A bad version beside a good one: loading says why, and the good one keeps serving."""
    cases = [("cut in the middle", ox.linear()[:90], 400, r"model\.onnx|ONNX|linear"),
             ("an unknown operator", ox.linear().replace(b"MatMul", b"MatMil"), (400, 501), r"MatMil"),
             ("a depth bomb", nested(3000), (400, 413), r"64|deep|nest"),
             ("a message bomb", ox.num(1, 8) + ox.sub(7, ox.sub(1, b"") * 2000000), (400, 413), r"1000000|messages"),
             ("external data with ..", ox.model(ox.graph([ox.node("Add", ["x", "W"], ["y"], "add")], [ox.value("x", ox.F32, ["N", 4])],
                                                         [ox.value("y", ox.F32, ["N", 4])],
                                                         [ox.external("W", ox.F32, [4], "../../../../../etc/passwd")])), (400, 501), r"'W'")]
    for version, (name, data, want, *names) in enumerate(cases, 2):
        def load():
            daemon.put("linear", version, data)
            said = daemon.request("POST", "/v2/repository/models/linear/load", "{}")
            status, text = daemon.request("POST", "/v2/models/linear/infer", tensor_json())
            return said if status == 200 and '"model_version":"1"' in text else (-1, f"linear serves no longer: {status} {text}")
        ask(f"repository: version {version} is {name}", want, names, load)
        if daemon is not None:
            shutil.rmtree(os.path.join(daemon.repository, "linear", str(version)), ignore_errors=True)
    ask("repository: load of a model that is not there", (400, 404), [r"nobody"],
        lambda: daemon.request("POST", "/v2/repository/models/nobody/load", "{}"))
    ask("repository: promote a version that is not there", (404, 409, 412), [r"77"],
        lambda: daemon.request("POST", "/v2/repository/models/linear/versions/77/promote", "{}"))
    ask("repository: roll back where nothing was before", (404, 409, 412), [r"linear|version"],
        lambda: daemon.request("POST", "/v2/repository/models/linear/rollback", "{}"))


def start_daemon():
    global daemon
    if os.path.exists(WINNOWD):
        daemon = Daemon()
        daemon.memory()


def stop_daemon():
    if daemon is not None:
        code = daemon.stop()
        log = open(daemon.log.name, errors="replace").read()
        row("winnowd after all of it", f"{code}: drained and ended", code == 0 and "ERROR: " not in log and "runtime error" not in log,
            log[-1500:])


def main():
    os.environ["LC_ALL"] = "C.UTF-8"
    start = time.monotonic()
    print(f"{'verdict':6} {'case':58} | what it returned")
    for part in (models_by_hand, arrays, settings, recipes, start_daemon, json_bodies, rpcs, pictures, http_requests,
                 repository_loads, stop_daemon):
        part()
    for name in left_out:
        print(f"left out: {name} (a program it needs is not there)")
    print(f"{time.monotonic() - start:.0f} s")
    print(f"{passed} passed, {failed} failed, {len(left_out)} left out")
    shutil.rmtree(TMP, ignore_errors=True)
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
