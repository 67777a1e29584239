"""bad_input_local.py: the part of test_bad_input.py that needs no server: files given to winnow, winnow-worker and
winnowd --check."""

import hashlib
import io
import json
import os
import shutil
import struct
import subprocess
import tarfile
import time
import zipfile
import zlib

import numpy as np

import onnx_bytes as ox
from bad_input import TMP, WINNOW, WINNOWD, WORKER, have, judge, npy, npz, path, png, program, row, wanted, zipped


# ---- model files ----
def nested(depth):
    """A graph in an attribute of a node in a graph in …"""
    g = ox.graph([], [], [])
    for _ in range(depth):
        g = ox.graph([ox.node("If", ["c"], ["y"], then_branch=g)], [], [])
    return ox.model(g)


def one(op, inputs, weights=(), x=(1, 1, 4, 4), dtype=ox.F32, **attrs):
    """A model of one node named 'the_node'."""
    return ox.model(
        ox.graph(
            [ox.node(op, inputs, ["y"], "the_node", **attrs)],
            [ox.value("x", dtype, list(x))],
            [ox.value("y", dtype, ["a", "b", "c", "d"][: len(x)])],
            weights,
        )
    )


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
        ("model: cut in the middle", good[: len(good) // 2], 1, r"bad\.onnx"),
        ("model: cut by one byte", good[:-1], 1, r"bad\.onnx"),
        ("model: one bit of an operator's name flipped", bytes(flipped), 1, r"LatMul", r"fc"),
        ("model: one extent of a weight changed", bytes(dims), 1, r"'W'"),
        ("model: no graph", ox.num(1, 8), 1, r"graph"),
        (
            "model: operator set from the future is read as the newest",
            ox.model(g([relu("x", "y", "r")], x, y), opset=999),
            0,
            r"y f32",
        ),
        (
            "model: a cycle",
            ox.model(g([relu("b", "a", "first"), relu("a", "b", "second"), n("Add", ["x", "b"], ["y"], "add")], x, y)),
            1,
            r"cycle|'first'|'second'",
        ),
        ("model: a node that reads itself", ox.model(g([relu("y", "y", "selfish")], x, y)), 1, r"selfish|'y'"),
        ("model: a name that nobody makes", ox.model(g([n("Add", ["x", "ghost"], ["y"], "add")], x, y)), 1, r"ghost"),
        ("model: an output that nobody makes", ox.model(g([relu("x", "z", "r")], x, y)), 1, r"'y'"),
        ("model: a value made twice", ox.model(g([relu("x", "y", "one"), relu("x", "y", "two")], x, y)), 1, r"'y'"),
        (
            "model: unknown operator",
            ox.model(g([n("Frobnicate", ["x"], ["y"], "odd")], x, y)),
            1,
            r"Frobnicate",
            r"odd",
        ),
        ("model: too few inputs of an operator", one("Conv", ["x"]), 1, r"the_node"),
        ("model: weight extents past 2^63", weights(t("W", ox.F32, [1 << 40, 1 << 40], b"")), 1, r"'W'"),
        ("model: a weight with a negative extent", weights(t("W", ox.F32, [-4], b"")), 1, r"'W'"),
        ("model: 1 TiB of weights that are not there", weights(t("W", ox.F32, [1 << 38], b"")), 1, r"'W'"),
        ("model: weight bytes shorter than the extents", weights(t("W", ox.F32, [4], bytes(12))), 1, r"'W'"),
        ("model: weight of unknown type 77", weights(t("W", 77, [4], bytes(16))), 1, r"'W'"),
        ("model: depth bomb, 3000 graphs in graphs", nested(3000), 1, r"deep|depth|level|nest"),
        (
            "model: message bomb, 2 million empty nodes",
            ox.num(1, 8) + ox.sub(7, ox.sub(1, b"") * 2000000),
            1,
            r"node|message|more than",
        ),
        (
            "model: activations of 1x3x20000x20000",
            ox.model(
                g(
                    [n("Conv", ["x", "W"], ["y"], "conv", kernel_shape=[1, 1])],
                    wide,
                    [v("y", ox.F32, [1, 64, 20000, 20000])],
                    [t("W", ox.F32, [64, 3, 1, 1], bytes(64 * 3 * 4))],
                )
            ),
            1,
            r"too large|memory|more than",
        ),
        ("model: kernel larger than the padded input", conv([1, 1, 9, 9], kernel_shape=[9, 9]), 1, r"the_node"),
        ("model: kernel of 2^31", conv([1, 1, 3, 3], kernel_shape=[1 << 31, 1 << 31]), 1, r"the_node"),
        ("model: kernel_shape that is not the weight's", conv([1, 1, 3, 3], kernel_shape=[2, 2]), 1, r"the_node"),
        ("model: group 0", conv([1, 1, 3, 3], group=0), 1, r"the_node", r"group"),
        ("model: group that does not divide", conv([2, 1, 3, 3], group=3), 1, r"the_node", r"group|channel"),
        ("model: stride 0", conv([1, 1, 3, 3], strides=[0, 0]), 1, r"the_node", r"stride"),
        ("model: negative pads", conv([1, 1, 3, 3], pads=[-1, -1, -1, -1]), 1, r"the_node", r"pad"),
        ("model: pads of 2^62", conv([1, 1, 3, 3], pads=[1 << 62] * 4), 1, r"the_node"),
        ("model: axis -9", one("Softmax", ["x"], axis=-9), 1, r"the_node", r"axis"),
        (
            "model: Reshape to another number of elements",
            one("Reshape", ["x", "s"], [t("s", ox.I64, [4], struct.pack("<4q", 1, 1, 5, 5))]),
            1,
            r"the_node",
        ),
        (
            "model: Conv on booleans",
            one("Conv", ["x", "W"], [t("W", ox.BOOL, [1, 1, 3, 3], bytes(9))], dtype=ox.BOOL),
            1,
            r"the_node",
        ),
        ("model: external data with ..", weights(ox.external("W", ox.F32, [4], "../../../../etc/passwd")), 1, r"'W'"),
        ("model: external data, absolute path", weights(ox.external("W", ox.F32, [4], "/etc/passwd")), 1, r"'W'"),
        ("model: external data through a symlink", weights(ox.external("W", ox.F32, [4], "link.bin")), 1, r"'W'"),
        ("model: external data in a FIFO", weights(ox.external("W", ox.F32, [4], "fifo.bin")), 1, r"'W'"),
        (
            "model: external data past the file's end",
            weights(ox.external("W", ox.F32, [4], "short.bin", 1 << 40)),
            1,
            r"'W'",
        ),
        (
            "model: external data, offset not a number",
            weights(ox.external("W", ox.F32, [4], "short.bin", "-1x")),
            1,
            r"'W'",
        ),
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
        program(
            case, [WINNOW, "run", path("bad.onnx", data), "-i", picture if b"the_node" in data else x], want, *names
        )
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
    case(
        "cut in the middle",
        path("a.npz", zipped([("x.npy", npy("'<f4'", False, "(1, 4)", bytes(16)))])[:90]),
        1,
        r"npz",
    )
    case(
        "object array (pickle)",
        member(npy("'|O'", False, "(1, 4)", b"cos\nsystem\n(S'id'\ntR.")),
        1,
        r"x",
        r"\|O|object",
    )
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
        for _ in range(192):  # by pieces: a child's peak starts at what its parent has
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
    case(
        "an alias bomb",
        "a: &a [x,x,x,x]\n"
        + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(8)),
        2,
        r"winnowd\.yaml:\d+: ",
        r"alias|anchor",
    )
    case("a tag that asks for code", "log: !!python/object/apply:os.system ['id']\n", 2, at % 1, r"tag")
    case("two documents", "log: {}\n---\nlog: {}\n", 2, r"winnowd\.yaml:\d+: ", r"document")
    case("bytes that are not UTF-8", b"log:\n  format: \xff\xfe\n", 2, r"winnowd\.yaml:\d+: ")
    case(
        "another address than loopback, no auth said",
        "server:\n  listen: ['0.0.0.0:8000']\n",
        2,
        at % 2,
        r"0\.0\.0\.0:8000",
        "auth",
    )
    program("winnowd.yaml: no such file", [WINNOWD, "--check", "--config", "absent.yaml"], 2, r"absent\.yaml")
    program("winnowd: unknown option", [WINNOWD, "--frobnicate"], 2, "frobnicate")


def recipes():
    good_epochs = "  - !EpochRangeModifier {start_epoch: 0, end_epoch: 10}\n"

    def case(name, text, *names, model=None, want=2):
        argv = [WORKER, "recipe", path("recipe.yaml", text)]
        program("recipe: " + name, argv + (["--model", model] if model else []), want, *names)

    def prune(params="'__ALL_PRUNABLE__'", **change):
        keys = {
            "start_epoch": 0,
            "end_epoch": 8,
            "update_frequency": 0.5,
            "init_sparsity": 0.05,
            "final_sparsity": 0.8,
            **change,
        }
        body = ", ".join(f"{k}: {v}" for k, v in keys.items() if v is not None)
        return "modifiers:\n" + good_epochs + f"  - !GMPruningModifier {{{body}, params: {params}}}\n"

    at = r"recipe\.yaml:%d: "
    case("unknown modifier", "modifiers:\n  - !FrobnicateModifier {start_epoch: 0}\n", at % 2, "Frobnicate")
    case(
        "a slip of the pen in a modifier",
        "modifiers:\n  - !GMPrunningModifier {start_epoch: 0}\n",
        at % 2,
        "GMPruningModifier",
    )
    case("unknown key of a modifier", prune(finel_sparsity=0.9), at % 3, "finel_sparsity")
    case("eval that imports", prune(end_epoch="eval(__import__('os').system('id'))"), at % 3, r"import|name|token")
    case("eval of a variable that is not there", prune(end_epoch="eval(epochs * 2)"), at % 3, "epochs")
    case("eval that divides by zero", prune(end_epoch="eval(1 / 0)"), at % 3, r"finite|inf")
    case(
        "eval of 5000 brackets",
        prune(end_epoch="eval(" + "(" * 5000 + "1" + ")" * 5000 + ")"),
        at % 3,
        r"long|characters|1024",
    )
    case("end_epoch missing", prune(end_epoch=None), at % 3, "end_epoch")
    case("ends before it starts", prune(start_epoch=6, end_epoch=5), at % 3, "GMPruningModifier ends", "before")
    case("sparsity of 1.5", prune(final_sparsity=1.5), at % 3, "sparsity", r"1\.5")
    case("NaN sparsity", prune(final_sparsity=".nan"), at % 3, "finite number")
    case(
        "a regular expression that is none",
        prune("['re:conv(']"),
        r"conv\(",
        model=path("base.onnx", ox.convolution(classes=8)),
    )
    case(
        "a selector that matches nothing",
        prune("['fc.weight']"),
        r"fc\.weight",
        model=path("base.onnx", ox.convolution(classes=8)),
    )
    case("no modifiers", "learning_rate: 0.1\n", r"recipe\.yaml", r"modifier")
    case("not YAML", "modifiers: [}\n", at % 1)
    case("empty file", "", r"recipe\.yaml")
    program("recipe: no such file", [WORKER, "recipe", "absent.yaml"], 2, r"absent\.yaml")
    program(
        "winnow recipe: the same through the command line",
        [WINNOW, "recipe", "check", path("recipe.yaml", "modifiers:\n  - !FrobnicateModifier {}\n")],
        2,
        at % 2,
        "Frobnicate",
        env={"WINNOW_WORKER": WORKER},
    )


# ---- uploads: read by the worker's ingest ----
def job_directory(name, upload_name, content, data_digest=None, **change):
    """A job as winnowd would write it, on a small network for three kinds of pictures."""
    job = os.path.join(TMP, "jobs", name)
    shutil.rmtree(job, ignore_errors=True)
    base = ox.network()
    path(f"jobs/{name}/base/model.onnx", base)
    path(
        f"jobs/{name}/base/pipeline.yaml",
        "task: image_classification\nscale: 1/255\nlabels: labels.txt\nsoftmax: true\n",
    )
    path(f"jobs/{name}/base/labels.txt", "dark\nlight\nstripes\n")
    upload = path("uploads/" + upload_name, content)

    def digest(b):
        return "sha256:" + hashlib.sha256(b).hexdigest()

    text = {
        "format": 1,
        "id": "ftjob-1",
        "model": "patterns",
        "target": "patterns",
        "base": {"version": 1, "digest": digest(base)},
        "data": {"path": upload, "name": upload_name, "digest": data_digest or digest(content)},
        "recipe": False,
        "optim_level": 0.5,
        "new_labels": False,
        "eval_share": 0.1,
        "seed": 1,
        "threads": 1,
        "epochs": 1,
        **change,
    }
    path(f"jobs/{name}/job.json", json.dumps(text, indent=1))
    return job


def good_pictures(n=450, prefix=""):
    return [(f"{prefix}{label}/{i}.png", data) for i, (label, data) in enumerate(ox.patterns(n))]


def tarred(members):
    """members: (name, data or None, {attributes of TarInfo})."""
    buf = io.BytesIO()
    with tarfile.open(fileobj=buf, mode="w") as t:
        for name, data, more in members:
            info = tarfile.TarInfo(name)
            info.size = len(data or b"")
            for k, v in more.items():
                setattr(info, k, v)
            t.addfile(info, io.BytesIO(data or b""))
    return buf.getvalue()


def lie_about_size(data):
    """A zip whose central directory and headers say that each member has 4 bytes."""
    out = bytearray(data)
    for magic, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        i = -1
        while (i := out.find(magic, i + 1)) >= 0:
            out[i + at : i + at + 4] = struct.pack("<I", 4)
    return bytes(out)


def uploads():
    def case(name, upload_name, data, *names, wanted_end="failed", data_digest=None):
        case_name = "upload: " + name
        if not wanted(case_name):
            return
        if not have(WORKER):
            return
        before = set(os.listdir(TMP))
        job = job_directory("upload", upload_name, data, data_digest)
        started = time.monotonic()
        p = subprocess.Popen(
            [WORKER, "run", "--priority", "normal", job],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            said = p.communicate(timeout=60)[1]
        except subprocess.TimeoutExpired:
            p.kill()
            p.communicate()
            row(case_name, "still running after 60 s", False, "hung")
            return
        result = os.path.join(job, "work/result.json")
        text = (
            json.load(open(result)) if os.path.exists(result) else {"status": f"no result, exit {p.returncode}: {said}"}
        )
        error = text.get("error") or {}
        answer = f"{error.get('code', '')} {error.get('message', '')}"
        facts = os.path.join(job, "data/ingest.json")
        if not error and os.path.exists(facts):
            rows = json.load(open(facts))
            answer = f"{rows.get('rows')} rows, {rows.get('rejected')} rejected: " + "; ".join(
                r["reason"] for r in rows.get("rejects", [])[:2]
            )
        stray = set(os.listdir(TMP)) - before - {"jobs", "uploads"}
        judge(
            case_name,
            text["status"],
            answer + (f"   STRAY {stray}" if stray else ""),
            wanted_end if not stray else "no stray file",
            names,
            0,
            time.monotonic() - started,
        )

    good = good_pictures()
    case("a good one", "good.zip", zipped(good), r"450 rows, 0 rejected", wanted_end="succeeded")
    case("empty file", "empty.zip", b"", r"bad_data", r"empty|zip|archive")
    case("empty archive", "none.zip", zipped([]), r"bad_data")
    case("text called zip", "text.zip", b"this is no archive\n" * 100, r"bad_data", r"neither a zip nor a tar")
    case("zip cut in the middle", "cut.zip", zipped(good)[:9000], r"bad_data", r"rows|cut|end|Truncated|zip")
    case(
        "zip with a flipped byte in a picture",
        "flip.zip",
        zipped(good).replace(b"IDAT", b"IDBT", 1),
        r"rejected",
        wanted_end="succeeded",
    )
    case("zip bomb: 256 MiB of zeros as one picture", "bomb.zip", bomb(), r"bad_data|rejected")
    case(
        "zip bomb: sizes that are lies",
        "lies.zip",
        lie_about_size(zipped(good)),
        r"bad_data|rejected",
        wanted_end=("failed", "succeeded"),
    )
    case("zip in a zip", "nested.zip", zipped([("dark/inner.zip", zipped(good))]), r"bad_data")
    case(
        "names with ..",
        "slip.zip",
        zipped(good_pictures(prefix="../../") + [("../../../stray.png", good[0][1])]),
        r"bad_data|rejected",
        wanted_end=("failed", "succeeded"),
    )
    case(
        "absolute names",
        "abs.zip",
        zipped(good_pictures(prefix=TMP + "/stray/")),
        r"bad_data|rejected",
        wanted_end=("failed", "succeeded"),
    )
    case(
        "tar with a symlink and a device",
        "links.tar",
        tarred(
            [
                ("dark/passwd.png", None, {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}),
                ("dark/disk.png", None, {"type": tarfile.BLKTYPE, "devmajor": 8}),
                ("dark/pipe.png", None, {"type": tarfile.FIFOTYPE}),
                *((n, d, {}) for n, d in good),
            ]
        ),
        r"rejected",
        wanted_end="succeeded",
    )
    huge = tarfile.TarInfo("dark/a.png")
    huge.size = 7 << 30
    case("tar whose member says 7 GiB", "huge.tar", huge.tobuf() + bytes(4096), r"bad_data", r"huge\.tar")
    case(
        "a label that the model has not",
        "label.zip",
        zipped(good + [(f"round/{i}.png", d) for i, (_, d) in enumerate(good_pictures(60, ""))]),
        r"bad_data",
        r"round",
    )
    case("one label only", "one.zip", zipped([(n, d) for n, d in good if n.startswith("dark")]), r"bad_data", r"label")
    case("three pictures", "few.zip", zipped(good[:3]), r"bad_data", r"rows|at least|few")
    case(
        "pictures without folders",
        "flat.zip",
        zipped([(n.replace("/", "-"), d) for n, d in good]),
        r"bad_data",
        r"label|folder",
    )
    case("text files for pictures", "words.zip", zipped([(n, b"no picture") for n, _ in good]), r"bad_data")
    case(
        "a picture of 60000 x 60000 among good ones",
        "wide.zip",
        zipped(good + [("dark/wide.png", png(60000, 60000, rows=zlib.compress(bytes(1 << 20))))]),
        r"1 rejected",
        r"60000|8192",
        wanted_end="succeeded",
    )

    def idx(pictures, labels, part="train"):
        return zipped([(f"{part}-images-idx3-ubyte", pictures), (f"{part}-labels-idx1-ubyte", labels)])

    case(
        "IDX files to judge by, none to train on",
        "idx.zip",
        idx(
            struct.pack(">IIII", 0x803, 40, 8, 8) + os.urandom(64 * 40),
            struct.pack(">II", 0x801, 40) + bytes([0, 1]) * 20,
            "t10k",
        ),
        r"bad_data",
        r"none is left to train on: IDX files called t10k",
    )

    case(
        "IDX header that says 2^31 pictures",
        "idx.zip",
        idx(struct.pack(">IIII", 0x803, 1 << 31, 28, 28) + bytes(1000), struct.pack(">II", 0x801, 3) + bytes(3)),
        r"bad_data",
        r"idx3",
    )
    case(
        "IDX with fewer labels than pictures",
        "idx.zip",
        idx(struct.pack(">IIII", 0x803, 40, 8, 8) + bytes(range(64)) * 40, struct.pack(">II", 0x801, 3) + bytes(3)),
        r"bad_data",
        r"40|3",
    )
    case(
        "IDX of 10^5 x 10^5 pixels",
        "idx.zip",
        idx(struct.pack(">IIII", 0x803, 1, 100000, 100000) + bytes(1000), struct.pack(">II", 0x801, 1) + bytes(1)),
        r"bad_data",
        r"idx3",
    )
    case("a spreadsheet", "data.csv", "text,label\nhello,dark\n".encode() * 200, r"bad_data|unsupported")
    case(
        "another file than the job says",
        "other.zip",
        zipped(good),
        r"bad_data|digest|changed",
        data_digest="sha256:" + "0" * 64,
    )

    def job(name, want, *names, text=None, **change):
        d = job_directory("check", "good.zip", b"x", **change)
        if text is not None:
            path("jobs/check/job.json", text)
        program("job.json: " + name, [WORKER, "check", d], want, *names)

    job("unknown key", 2, r"job\.json:\d+", "colour", colour="red")
    job("a level of 7", 2, r"job\.json:\d+", "optim_level", optim_level=7)
    job(
        "a data path that is no string",
        2,
        r"job\.json:\d+",
        "path",
        data={"path": 7, "name": "a.zip", "digest": "sha256:" + "0" * 64},
    )
    job("not JSON", 2, r"job\.json", text="{")
    job("nested 100 000 deep", 2, r"job\.json", text="[" * 100000)


def bomb():
    """256 MiB of zeros, deflated by pieces."""
    file = os.path.join(TMP, "bomb.zip")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as z, z.open(
        "dark/bomb.png", "w", force_zip64=True
    ) as f:
        f.write(b"\x89PNG\r\n\x1a\n")
        for _ in range(16):
            f.write(bytes(16 << 20))
    data = open(file, "rb").read()
    os.unlink(file)
    return data


PARTS = (models_by_hand, arrays, settings, recipes, uploads)
