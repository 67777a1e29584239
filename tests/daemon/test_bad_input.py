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
    if not os.path.exists(argv[0]):
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
        ("model: operator set from the future", ox.model(g([relu("x", "y", "r")], x, y), opset=999), 1, r"999"),
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

    def case(name, file, want=1, *names):
        program("npz: " + name, [WINNOW, "run", good, "-i", file], want, *names)

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
    bomb = zipped([("x.npy", npy("'<f4'", False, "(67108864, 4)", bytes(1 << 28)))], zipfile.ZIP_DEFLATED)
    case("256 MiB of zeros in 260 KiB, with no room for them", path("a.npz", bomb), 1, r"x", r"npz")


def main():
    os.environ["LC_ALL"] = "C.UTF-8"
    start = time.monotonic()
    print(f"{'verdict':6} {'case':58} | what it returned")
    for part in (models_by_hand, arrays):
        part()
    for name in left_out:
        print(f"left out: {name} (its program is not built)")
    print(f"{time.monotonic() - start:.0f} s")
    print(f"{passed} passed, {failed} failed, {len(left_out)} left out")
    shutil.rmtree(TMP, ignore_errors=True)
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
