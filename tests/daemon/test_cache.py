"""test_cache.py: compiled models. A model is compiled when it goes live; after a restart it comes from STATE/cache with
the same digest and the same answers; a compiled model that is damaged, or of a file that changed, is not used; switched
off, or in a folder that cannot be made, models serve all the same; `winnow --cache` does so without a daemon.
Prints TAP-like lines."""
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback

import onnx_bytes as ox
from common import CLI, Daemon, check, end, put, wait_for

ROOT = pathlib.Path(tempfile.mkdtemp(prefix="winnow-cache-test-"))
CONFIG = """
server: {listen: ["127.0.0.1:0"]}
models: {repositories: [repo], state: state, poll: 200ms, settle: 0, cache: %s}
"""
N, K = 320, 256


def weights(seed, keep=0.1):
    rnd = random.Random(seed)
    return struct.pack(f"<{K * N}f", *(rnd.uniform(-1, 1) if rnd.random() < keep else 0 for _ in range(K * N)))


def model(seed):
    return ox.model(ox.graph([ox.node("MatMul", ["x", "W"], ["y"], "fc")], [ox.value("x", ox.F32, ["N", K])],
                             [ox.value("y", ox.F32, ["N", N])], [ox.tensor("W", ox.F32, [K, N], weights(seed))]))


def beside(location):
    return ox.model(ox.graph([ox.node("MatMul", ["x", "W"], ["y"], "fc")], [ox.value("x", ox.F32, ["N", K])],
                             [ox.value("y", ox.F32, ["N", N])], [ox.external("W", ox.F32, [K, N], location)]))


X = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, K],
                            "data": [(i * 37 % 101) / 50 - 1 for i in range(2 * K)]}]})


def answer(d, name):
    status, out = d.curl(f"/v2/models/{name}/infer", "-d", X)
    return out["outputs"][0]["data"] if status == 200 else (status, out)


def digest(d, name):
    for v in d.curl(f"/v2/repository/models/{name}/versions")[1]["versions"]:
        if v.get("live"):
            return v["digest"]
    return None


def loads(d):
    """name: compiled=yes or no, of the last load of each."""
    out = {}
    for line in d.log().splitlines():
        if "model_loaded" in line:
            words = dict(w.split("=", 1) for w in line.split() if "=" in w)
            out[words["model"]] = words["compiled"]
    return out


def restart(d, how=signal.SIGTERM):
    (d.folder / "log").write_text("")
    d.process.send_signal(how)
    d.process.wait(20)
    d.start()
    wait_for(lambda: set(loads(d)) == {"one", "two"}, 20)


def forms():
    return sorted((ROOT / "state/cache").glob("*"))


def serve(d):
    wait_for(lambda: d.log().count("model_compiled") == 2, 20)
    check("both are compiled once they serve", len(forms()) == 2 and set(loads(d).values()) == {"no"}, loads(d))
    first = {m: (answer(d, m), digest(d, m)) for m in ("one", "two")}
    restart(d)
    check("after a restart they come from there", loads(d) == {"one": "yes", "two": "yes"}, loads(d))
    again = {m: (answer(d, m), digest(d, m)) for m in ("one", "two")}
    check("with the same digests and answers", first == again and isinstance(first["one"][0], list), again)
    restart(d, signal.SIGKILL)
    check("also after a kill", loads(d) == {"one": "yes", "two": "yes"}, loads(d))

    form = forms()[0]
    data = bytearray(form.read_bytes())
    data[len(data) // 2] ^= 1
    form.write_bytes(data)
    restart(d)
    check("one that is damaged is not used", sorted(loads(d).values()) == ["no", "yes"] and "checksum" in d.log(), loads(d))
    check("and made anew", bool(wait_for(lambda: "model_compiled" in d.log(), 10)), d.log()[-500:])
    check("the answers are the same", first == {m: (answer(d, m), digest(d, m)) for m in ("one", "two")})

    put(ROOT / "repo/two/1/w.bin", weights(4))
    wait_for(lambda: answer(d, "two") != first["two"][0], 20, 0.1)
    check("weights beside the model that change are swapped in", answer(d, "two") != first["two"][0] and
          digest(d, "two") != first["two"][1])
    put(ROOT / "repo/one/1/model.onnx", model(5))
    wait_for(lambda: answer(d, "one") != first["one"][0], 20, 0.1)
    changed = answer(d, "one")
    check("a model that changes too", changed != first["one"][0] and loads(d)["one"] == "no", loads(d))
    restart(d)
    check("and it stays changed after a restart", answer(d, "one") == changed)

    shutil.rmtree(ROOT / "repo/two")
    time.sleep(2.2)
    d.yaml.write_text(CONFIG % 0)
    d.process.send_signal(signal.SIGTERM)
    d.process.wait(20)
    shutil.rmtree(ROOT / "state/cache")
    (ROOT / "log").write_text("")
    d.start()
    wait_for(lambda: "one" in loads(d), 20)
    time.sleep(0.3)
    check("switched off: it serves, nothing is kept", isinstance(answer(d, "one"), list) and
          not (ROOT / "state/cache").exists() and loads(d)["one"] == "no")
    d.yaml.write_text(CONFIG % "1GiB")
    d.process.send_signal(signal.SIGTERM)
    d.process.wait(20)
    (ROOT / "state/cache").write_text("a file in its place")
    (ROOT / "log").write_text("")
    d.start()
    wait_for(lambda: "model_not_kept" in d.log(), 20)
    check("a folder that cannot be made is said, and it serves", isinstance(answer(d, "one"), list) and
          "state/cache" in d.log())


def command():
    """winnow benchmark --cache."""
    path, cache = ROOT / "cli/model.onnx", ROOT / "cli/cache"
    put(path, model(1))

    def run():
        return subprocess.run([CLI, "benchmark", path, "-t", "0.2", "-n", "1", "--cache", cache], capture_output=True,
                              text=True)
    early = run()
    check("winnow --cache says what it does not keep", early.returncode == 0 and "not kept" in early.stderr and
          "2 s" in early.stderr, early.stderr)
    time.sleep(2.2)
    late = run()
    check("winnow --cache keeps", late.returncode == 0 and not late.stderr and len(list(cache.glob("*.plan"))) == 1,
          late.stderr)
    stamp = list(cache.glob("*.plan"))[0].stat().st_ino
    check("and takes what it kept", run().returncode == 0 and list(cache.glob("*.plan"))[0].stat().st_ino == stamp)


def ready_made():
    """A form that `winnow analyze --tune --cache` made beforehand, in the daemon's folder: it is taken, tag or no tag, and
    what was measured stays in it."""
    root = ROOT / "made"
    for name, data in (("one", model(7)), ("two", beside("w.bin"))):
        put(root / "repo" / name / "1/model.onnx", data)
    put(root / "repo/two/1/w.bin", weights(8))
    (root / "state").mkdir()
    time.sleep(2.2)
    cache, paths = root / "state/cache", [root / f"repo/{m}/1/model.onnx" for m in ("one", "two")]

    def analyze(path, *options):
        p = subprocess.run([CLI, "analyze", path, "--why", "--cache", cache, *options], capture_output=True, text=True)
        return p.stdout + p.stderr
    said = [analyze(p, "--tune") for p in paths]
    check("winnow analyze --tune keeps what it measured", all("measured us" in s for s in said) and len(list(
        cache.glob("*.plan"))) == 2, said)
    d = Daemon(root, CONFIG % "1GiB")
    try:
        wait_for(lambda: set(loads(d)) == {"one", "two"} and d.log().count("model_compiled") == 2, 20)
        check("winnowd takes such forms", loads(d) == {"one": "yes", "two": "yes"}, d.log()[-1500:])
        check("with the digest of the files", digest(d, "one") == "sha256:" + hashlib.sha256(
            paths[0].read_bytes()).hexdigest(), digest(d, "one"))
        first = {m: (answer(d, m), digest(d, m)) for m in ("one", "two")}
        check("and answers", all(isinstance(a, list) for a, _ in first.values()), first)
        check("and keeps what was measured, with its own digest", len(list(cache.glob("*.plan"))) == 2 and all(
            "measured us" in analyze(p) for p in paths), [analyze(p) for p in paths])
        restart(d)
        check("which the next start takes", loads(d) == {"one": "yes", "two": "yes"} and "model_compiled" not in d.log() and
              first == {m: (answer(d, m), digest(d, m)) for m in ("one", "two")}, d.log()[-1500:])
        d.yaml.write_text(CONFIG % 0)
        restart(d)
        check("digests are those of a load from the files", loads(d) == {"one": "no", "two": "no"} and
              all(digest(d, m) == first[m][1] for m in first), d.log()[-1500:])
    finally:
        check("winnowd ends in order", d.stop() == 0)


def main():
    put(ROOT / "repo/one/1/model.onnx", model(1))
    put(ROOT / "repo/two/1/w.bin", weights(2))
    put(ROOT / "repo/two/1/model.onnx", beside("w.bin"))
    (ROOT / "state").mkdir()
    time.sleep(2.2)  # times tell states of a file apart only after a while
    d = Daemon(ROOT, CONFIG % "1GiB")
    try:
        serve(d)
        command()
        ready_made()
    except Exception:
        check("no exception", False, traceback.format_exc() + d.log()[-2000:])
    finally:
        d.stop()
        shutil.rmtree(ROOT, ignore_errors=True)
    return end()


sys.exit(main())
