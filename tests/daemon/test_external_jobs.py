"""test_external_jobs.py: a winnowd whose model keeps its weights in files beside it, from upload to swap and again from what
came of that. Beside it the same model in one file gets the same jobs: every weight must come out the same. Restart, lost
files, changed files, full disks, what old versions and jobs leave behind. Prints TAP-like lines."""
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import traceback

from common import CLI, WORKER, Daemon, check, end, make_base, make_zip, pictures, wait_for
from onnx_bytes import initializers

ROOT = pathlib.Path(tempfile.mkdtemp(prefix="winnow-external-jobs-"))
CONFIG = """
server: {{listen: ["127.0.0.1:0"]}}
models: {{repositories: [repo], state: state, poll: 200ms, settle: 0, keep_versions: {keep}}}
jobs: {{worker: "{worker}", tries: 1, keep: {jobs}}}
gate: {{max_cpu_ratio: 100, margin: -20, without_anchor: eval_rows}}
"""
RECIPE = """modifiers:
  - !EpochRangeModifier {start_epoch: 0, end_epoch: 8}
  - !SetLearningRateModifier {start_epoch: 0, learning_rate: %g}
  - !SetLearningRateModifier {start_epoch: 6, learning_rate: 0.003}
  - %s
  - !QuantizationModifier {start_epoch: 6, disable_quantization_observer_epoch: 7, freeze_bn_stats_epoch: 7}
"""
FIRST = RECIPE % (0.05, "!GMPruningModifier {start_epoch: 0, end_epoch: 4, update_frequency: 0.5, init_sparsity: 0.2, "
                  "final_sparsity: 0.5, params: [__ALL_PRUNABLE__]}")
SECOND = RECIPE % (0.01, "!ConstantPruningModifier {start_epoch: 0, params: [__ALL_PRUNABLE__]}")
NAMES = ("whole", "split")
DATA = {"model.onnx.data", "master.onnx.data"}


def daemon(name, keep=5, jobs=0, worker=WORKER, preexec=None):
    folder = ROOT / name
    folder.mkdir(exist_ok=True)
    return Daemon(folder, CONFIG.format(keep=keep, jobs=jobs, worker=worker), preexec)


def post(d, path, body):
    return d.curl(path, "-d", json.dumps(body))


def upload(d, path):
    return d.curl(f"/v1/files/{path.name}", "-T", path)[1]["id"]


def finish(d, jid):
    def done():
        j = d.curl(f"/v1/fine_tuning/jobs/{jid}")[1]
        return j if j["status"] in ("succeeded", "failed", "cancelled") else None
    return wait_for(done, 300, 0.1) or d.curl(f"/v1/fine_tuning/jobs/{jid}")[1]


def live(d, name):
    for v in d.curl(f"/v2/repository/models/{name}/versions")[1]["versions"]:
        if v.get("live"):
            return v
    return {}


def score(d, name, png):
    out = subprocess.run(["curl", "-sS", "-H", "content-type: image/png", "--data-binary", "@-", f"{d.url}/v2/models/{name}/infer"],
                         input=png, capture_output=True).stdout
    return out.decode()


def names_in(folder):
    return {p.name for p in folder.iterdir()}


def same(what, a, b):
    """Every tensor of both models in two folders."""
    for file in ("model.onnx", "master.onnx"):
        x, y = initializers(a / file), initializers(b / file)
        differ = [n for n in x.keys() | y.keys() if x.get(n) != y.get(n)]
        check(f"{what}: {file} from files and from one file, {len(x)} tensors bit by bit", len(x) > 5 and not differ, differ)


def test_rounds(d):
    """Two jobs one after the other."""
    for n, recipe in ((1, FIRST), (2, SECOND)):
        file = upload(d, make_zip(ROOT / f"set{n}.zip", pictures(n, 150)))
        jobs = {name: post(d, "/v1/fine_tuning/jobs", {"model": name, "training_file": file, "recipe": recipe, "seed": 7})[1]
                for name in NAMES}
        check(f"job {n}: taken", all("id" in j for j in jobs.values()), jobs)
        jobs = {name: finish(d, j["id"]) for name, j in jobs.items()}
        check(f"job {n}: succeeds, promoted", all(j["status"] == "succeeded" and j["promotion"] == "promoted"
                                                  for j in jobs.values()), jobs)
        folder = {name: d.folder / "state/jobs" / j["id"] for name, j in jobs.items()}
        base = names_in(folder["split"] / "base")
        check(f"job {n}: base/ holds what the weights lie in", {"model.onnx.data"} < base and
              ("master.onnx.data" in base) == (n == 2) and not DATA & names_in(folder["whole"] / "base"), base)
        new = {name: d.folder / f"state/models/{name}/{n + 1}" for name in NAMES}
        check(f"job {n}: the version has the base's form", DATA <= names_in(new["split"]) and
              not DATA & names_in(new["whole"]), names_in(new["split"]))
        same(f"job {n}", new["whole"], new["split"])
        right = [[m["correct"] for m in j["gate"]["eval"]["models"]] for j in jobs.values()]
        check(f"job {n}: the gate finds both as good, and better than chance", right[0] == right[1] and right[0][1] > 60, right)
        served = live(d, "split")
        check(f"job {n}: version {n + 1} serves", served.get("version") == str(n + 1) and
              jobs["split"]["digest"] == served["digest"] != live(d, "whole")["digest"], (served, jobs["split"]))
        png = next(iter(pictures(9, 1).values()))
        check(f"job {n}: and answers as the one in one file", score(d, "split", png).replace("split", "whole") ==
              score(d, "whole", png) and "error" not in score(d, "split", png), score(d, "split", png))
    return file


def test_restart(d):
    before = live(d, "split")
    check("stops", d.stop() == 0)
    d.start()
    after = wait_for(lambda: live(d, "split"), 30, 0.1) or {}
    check("after a restart the same version serves, by its digest", before["digest"] == after.get("digest"), (before, after))


def test_changed(d):
    """Another file under the same model.onnx."""
    before = live(d, "loose")
    data = d.folder / "repo/loose/1/model.onnx.data"
    raw = bytearray(data.read_bytes())
    raw[4096] ^= 1
    data.with_name("new").write_bytes(raw)
    os.rename(data.with_name("new"), data)
    after = wait_for(lambda: (lambda v: v if v.get("digest") != before["digest"] else None)(live(d, "loose")), 15, 0.1)
    check("one bit of the weights' file is another digest", after is not None and after["generation"] > before["generation"],
          (before, after))


def refuse(d, name, file, says):
    status, out = post(d, "/v1/fine_tuning/jobs", {"model": name, "training_file": file, "recipe": SECOND})
    left = [p.name for p in (d.folder / "state/jobs").iterdir() if p.name.startswith(".new")]
    check(f"{name}: no job, and why", status >= 400 and says in json.dumps(out) and str(ROOT) not in json.dumps(out) and
          not left, (status, out, left))


def test_refused(d, file):
    """The loaded model serves on; a job needs its files."""
    repo = d.folder / "repo"
    master = repo / "master/1"
    shutil.copy(d.folder / "state/models/split/2/master.onnx", master / "master.onnx")
    refuse(d, "master", file, "'master.onnx.data'")
    os.symlink("/etc/passwd", master / "master.onnx.data")
    refuse(d, "master", file, "is a link")
    (master / "master.onnx.data").unlink()
    (master / "master.onnx").write_bytes((d.folder / "state/models/split/2/master.onnx").read_bytes().replace(
        b"master.onnx.data", b"../../split/1/ab"))
    refuse(d, "master", file, "does not lie below")
    check("and the model serves", "error" not in score(d, "master", next(iter(pictures(9, 1).values()))))


def test_left(d):
    """Old versions go with their files, and so do jobs' folders."""
    models, jobs = d.folder / "state/models/split", d.folder / "state/jobs"
    check("stops", d.stop() == 0)
    d = daemon("main", keep=1, jobs="1s")
    try:
        file = upload(d, make_zip(ROOT / "set3.zip", pictures(3, 150)))
        j = finish(d, post(d, "/v1/fine_tuning/jobs", {"model": "split", "training_file": file, "recipe": SECOND})[1]["id"])
        check("a third job", j["status"] in ("succeeded", "failed"), j)
        if j.get("promotion") != "promoted":
            check("a person promotes it", post(d, f"/v1/fine_tuning/jobs/{j['id']}/promote", {})[0] == 200)
        wait_for(lambda: live(d, "split").get("version") == "4", 30, 0.1)
        gone = wait_for(lambda: not (models / "2").exists(), 30, 0.2)
        check("old versions go whole", gone, sorted(p.name for p in models.iterdir()))
        check("no half of any is left", not [p for p in models.iterdir() if p.name.startswith(".")], list(models.iterdir()))
        gone = wait_for(lambda: not [p for p in jobs.iterdir() if p.name.startswith("ftjob-")], 150, 0.5)  # looked at once a minute
        check("jobs' folders go whole", gone, sorted(p.name for p in jobs.iterdir()))
    finally:
        d.stop()


def test_full_disk():
    """A file that the base's copy does not fit in."""
    folder = ROOT / "full"
    folder.mkdir()
    make_base(folder / "repo/split/1", beside=True)
    size = (folder / "repo/split/1/model.onnx.data").stat().st_size
    d = daemon("full", worker="", preexec=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)))
    try:
        file = upload(d, ROOT / "set1.zip")
        resource.prlimit(d.process.pid, resource.RLIMIT_FSIZE, (size - 1, 1 << 20))
        status, out = post(d, "/v1/fine_tuning/jobs", {"model": "split", "training_file": file, "recipe": FIRST})
        left = [p.name for p in (d.folder / "state/jobs").iterdir() if not p.name == ".watch"]
        check("disk full while the weights are copied: said, and nothing is left", status in (500, 507) and left == [],
              (status, out, left))
    finally:
        d.stop()


def main():
    folder = ROOT / "main"
    make_base(folder / "repo/whole/1")
    for name in ("split", "loose", "master"):
        make_base(folder / f"repo/{name}/1", beside=True)
    d = daemon("main")
    try:
        file = test_rounds(d)
        test_restart(d)
        test_changed(d)
        test_refused(d, file)
        test_left(d)
        test_full_disk()
    except Exception:
        check("no exception", False, traceback.format_exc() + d.log()[-2000:])
    finally:
        d.stop()
        if not os.environ.get("KEEP"):
            shutil.rmtree(ROOT, ignore_errors=True)
    return end()


sys.exit(main())
