"""test_loops.py: models whose loops never end (ONNX's Loop asks for any number of iterations): they neither keep other
models from loading nor from answering, and a request to one ends. A real winnowd on loopback, free port."""
import os
import pathlib
import struct
import sys
import tempfile
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import onnx_bytes as ox  # noqa: E402
from common import Daemon, check, end, put, wait_for  # noqa: E402

CONFIG = """
server:
  listen: ["127.0.0.1:0"]
models:
  repositories: [repo]
  state: state
  poll: 100ms
  settle: 0
  loop_time: 1s
engine:
  threads: 1
  loop_time: 300ms
jobs:
  enabled: false
"""
F = ox.F32


def body(node, dims):
    return ox.graph([ox.node("Identity", ["c"], ["go"]), node],
                    [ox.value("k", ox.I64, []), ox.value("c", ox.BOOL, []), ox.value("v", F, dims)],
                    [ox.value("go", ox.BOOL, []), ox.value("w", F, dims)], [ox.tensor("one", F, [], ox.floats(1))], "body")


def loop(trips, dims=(1, 4), op=("Add", ["v", "one"])):
    """y = x, and `op` on it `trips` times; None: without end."""
    inner = ox.node("Loop", ["n" if trips else "", "", "x"], ["y"], "the_loop", body=body(ox.node(*op, ["w"]), list(dims)))
    return ox.model(ox.graph([inner], [ox.value("x", F, list(dims))], [ox.value("y", F, list(dims))],
                             [ox.tensor("n", ox.I64, [], struct.pack("<q", trips))] if trips else []))


def in_a_loop():
    """A Loop without end in a Loop without end in an If."""
    inner = ox.node("Loop", ["", "", "v"], ["w"], "inner", body=ox.graph(
        [ox.node("Identity", ["c2"], ["go2"]), ox.node("Relu", ["v2"], ["w2"])],
        [ox.value("k2", ox.I64, []), ox.value("c2", ox.BOOL, []), ox.value("v2", F, [1, 4])],
        [ox.value("go2", ox.BOOL, []), ox.value("w2", F, [1, 4])], [], "innermost"))
    outer = ox.node("Loop", ["", "", "x"], ["z"], "outer", body=body(inner, [1, 4]))
    branch = ox.graph([outer], [], [ox.value("z", F, [1, 4])], [], "then")
    other = ox.graph([ox.node("Neg", ["x"], ["n"])], [], [ox.value("n", F, [1, 4])], [], "else")
    return ox.model(ox.graph([ox.node("If", ["yes"], ["y"], "choice", then_branch=branch, else_branch=other)],
                             [ox.value("x", F, [1, 4])], [ox.value("y", F, [1, 4])], [ox.tensor("yes", ox.BOOL, [], b"\1")]))


def add(repo, name, data):
    put(repo / name / "1" / "model.onnx", data)


def infer(d, name, rows=1, timeout_us=None):
    more = f',"parameters":{{"timeout":{timeout_us}}}' if timeout_us else ""
    return d.curl(f"/v2/models/{name}/infer", "-d", '{"inputs":[{"name":"x","datatype":"FP32","shape":[%d,4],"data":%s}]%s}' % (
        rows, [1.0, 2.0, 3.0, 4.0] * rows, more))


def answers(d, name, want):
    code, body_ = infer(d, name)
    return code == 200 and body_["outputs"][0]["data"] == want


def test_start(d):
    """At the start, one loader: the endless ones come first by name."""
    for name in ("good", "long"):
        check(f"{name} loads, whatever stands before it", wait_for(lambda: d.curl(f"/v2/models/{name}/ready")[0] == 200, 60),
              d.log()[-2000:])
    check("a loop of 20000 iterations runs", answers(d, "long", [20001.0, 20002.0, 20003.0, 20004.0]), infer(d, "long"))
    log = d.log()
    for name, node in (("a_endless", "the_loop"), ("b_endless", "inner")):
        line = next((x for x in log.splitlines() if "model_load_failed" in x and f"model={name} " in x), "")
        check(f"{name} is refused: node, iteration and limit are named", node in line and "iteration" in line and
              "limit of 1 s of CPU time in loops" in line, line or log[-2000:])
    check("the whole server is ready", d.curl("/v2/health/ready")[0] == 200)


def test_requests(d):
    """Where shapes are not declared, nothing is known before the first request."""
    check("an endless loop over unknown shapes is found out by a request only",
          wait_for(lambda: d.curl("/v2/models/c_open/ready")[0] == 200, 60), d.log()[-2000:])
    code, said = infer(d, "c_open", 3)
    check("which ends at engine.loop_time, with node and limit", code == 413 and "the_loop" in str(said) and
          "0.3 s of CPU time" in str(said), (code, said))
    check("and others are answered", answers(d, "good", [3.5, 4.5, 5.5]))


def test_deadline(root):
    d = Daemon(root, CONFIG.replace("loop_time: 300ms", "loop_time: 1h"))
    try:
        check("both are there", wait_for(lambda: all(d.curl(f"/v2/models/{m}/ready")[0] == 200 for m in ("c_open", "good")),
                                         60), d.log()[-2000:])
        code, said = infer(d, "c_open", 3, 300000)
        check("a request ends at its own deadline", code == 504, (code, said))
        check("and has left the executor", answers(d, "good", [3.5, 4.5, 5.5]))
    finally:
        check("winnowd ends in order", d.stop() == 0)


def test_meanwhile(d, repo):
    """Another endless one is put there while good answers."""
    stop, failed, done = threading.Event(), [], [0]

    def ask():
        while not stop.is_set():
            if not answers(d, "good", [3.5, 4.5, 5.5]):
                failed.append(infer(d, "good"))
            done[0] += 1
    t = threading.Thread(target=ask)
    t.start()
    add(repo, "d_late", loop(None))
    add(repo, "e_late", ox.linear())
    check("the next model is loaded after it", wait_for(lambda: d.curl("/v2/models/e_late/ready")[0] == 200, 60))
    check("and it is refused", "model=d_late" in d.log() and d.curl("/v2/models/d_late/ready")[0] != 200, d.log()[-1000:])
    stop.set()
    t.join()
    check("good has answered all the while", done[0] > 0 and not failed, (done, failed[:2]))


def main():
    with tempfile.TemporaryDirectory(prefix="winnow-loops-") as folder:
        root = pathlib.Path(folder)
        repo = root / "repo"
        (root / "state").mkdir()
        add(repo, "a_endless", loop(None))
        add(repo, "b_endless", in_a_loop())
        add(repo, "c_open", loop(None, ("a", 4), ("Relu", ["v"])))
        add(repo, "good", ox.linear())
        add(repo, "long", loop(20000))
        d = Daemon(root, CONFIG)
        try:
            test_start(d)
            test_requests(d)
            test_meanwhile(d, repo)
        finally:
            check("winnowd ends in order", d.stop() == 0)
        test_deadline(root)
    return end()


sys.exit(main())
