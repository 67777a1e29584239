"""test_external.py: models whose weights lie in files beside model.onnx. They serve; the digest covers those files; a
change of one of them alone is noticed and swapped in; a place outside the folder is refused while the rest serves.
Prints TAP-like lines."""
import os
import pathlib
import shutil
import struct
import sys
import tempfile
import traceback

import onnx_bytes as ox
from common import WORKER, Daemon, check, end, put, wait_for

ROOT = pathlib.Path(tempfile.mkdtemp(prefix="winnow-external-test-"))
CONFIG = f"""
server: {{listen: ["127.0.0.1:0"]}}
models: {{repositories: [repo], state: state, poll: 200ms, settle: 0}}
jobs: {{worker: {WORKER}}}
"""


def model(location):
    """y (N, 1) = x (N, 4) W, W in another file."""
    return ox.model(ox.graph([ox.node("MatMul", ["x", "W"], ["y"], "fc")], [ox.value("x", ox.F32, ["N", 4])],
                             [ox.value("y", ox.F32, ["N", 1])], [ox.external("W", ox.F32, [4, 1], location)]))


def answer(d, name="mine"):
    status, out = d.curl(f"/v2/models/{name}/infer", "-d",
                         '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]}')
    return out["outputs"][0]["data"][0] if status == 200 else (status, out)


def digest(d):
    for v in d.curl("/v2/repository/models/mine/versions")[1]["versions"]:
        if v.get("live"):
            return v["digest"]
    return None


def main():
    repo = ROOT / "repo"
    put(repo / "mine/1/weights/w.bin", struct.pack("<4f", 1, 1, 1, 1))
    put(repo / "mine/1/model.onnx", model("weights/w.bin"))
    put(repo / "flat/1/w.bin", struct.pack("<4f", 1, 0, 0, 0))
    put(repo / "flat/1/model.onnx", model("w.bin"))
    put(repo / "evil/1/model.onnx", model("../../mine/1/weights/w.bin"))
    put(repo / "late/1/model.onnx", model("w.bin"))
    (repo / "link/1").mkdir(parents=True)
    os.symlink("/etc/passwd", repo / "link/1/w.bin")
    put(repo / "link/1/model.onnx", model("w.bin"))
    (ROOT / "state").mkdir()
    d = Daemon(ROOT, CONFIG)
    try:
        check("weights of a file in a folder below", answer(d) == 10, answer(d))
        check("weights of a file beside", answer(d, "flat") == 1, answer(d, "flat"))
        for name, why in (("evil", "does not lie below"), ("link", "is a link")):
            check(f"{name} is refused", answer(d, name) != 10 and why in d.log(), answer(d, name))
        status, out = answer(d, "late")
        check("a file that is missing is named", status == 503 and "'w.bin'" in str(out), (status, out))
        put(repo / "late/1/w.bin", struct.pack("<4f", 0, 1, 0, 0))
        wait_for(lambda: answer(d, "late") == 2, 15, 0.1)
        check("and looked for again", answer(d, "late") == 2, answer(d, "late"))
        first = digest(d)
        put(repo / "flat/1/w.bin", struct.pack("<4f", 0, 0, 0, 1))
        wait_for(lambda: answer(d, "flat") == 4, 15, 0.1)
        check("a change of the data file alone is swapped in", answer(d, "flat") == 4, answer(d, "flat"))
        put(repo / "mine/2/weights/w.bin", struct.pack("<4f", 2, 2, 2, 2))
        put(repo / "mine/2/model.onnx", model("weights/w.bin"))
        wait_for(lambda: answer(d) == 20, 15, 0.1)
        second = digest(d)
        check("same model.onnx, other data: another digest", first and second and first != second, (first, second))
    except Exception:
        check("no exception", False, traceback.format_exc() + d.log()[-2000:])
    finally:
        d.stop()
        shutil.rmtree(ROOT, ignore_errors=True)
    return end()


sys.exit(main())
