"""test_worker.py: winnow-worker end to end: an upload becomes a candidate that the engine and ONNX Runtime agree on;
kills, stops and hangs change nothing; bad uploads, recipes and jobs are refused with a reason.

Draws its own pictures (four shapes) and makes its own base model (make_cnn). Prints TAP-like lines."""
import contextlib
import gzip
import io
import json
import os
import pathlib
import random
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
import zipfile
import zlib

try:
    import numpy as np
    import onnxruntime as ort
except ImportError:
    np = ort = None

BUILD = pathlib.Path(os.environ.get("BUILD", "build")).absolute()
WORKER, CLI, MAKE_CNN = BUILD / "winnow-worker", BUILD / "winnow", BUILD / "tests/make_cnn"
KINDS = ["bars", "cross", "disc", "ring"]
SIDE = 16
passed = failed = skipped = 0


def check(name, good, detail=""):
    global passed, failed
    passed, failed = passed + bool(good), failed + (not good)
    why = "" if good else f"   # {detail!r:.400}"
    print(f"{'ok' if good else 'not ok'} {passed + failed} - {name}{why}", flush=True)
    return bool(good)


def left_out(name, why):
    global skipped
    skipped += 1
    print(f"ok - {name} # left out: {why}", flush=True)


# ---- pictures ----

def png(w, h, px):
    """8-bit grey."""
    raw = b"".join(b"\0" + bytes(px[y * w:(y + 1) * w]) for y in range(h))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 0, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))


def unpng(data):
    """8-bit grey PNG -> (w, h, pixels)."""
    at, idat, size = 8, b"", None
    while at < len(data):
        n, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + n]
        if kind == b"IHDR":
            size = struct.unpack(">IIBB", body[:10])
            assert size[2:] == (8, 0), size
        elif kind == b"IDAT":
            idat += body
        at += 12 + n
    w, h = size[:2]
    raw, out, above = zlib.decompress(idat), bytearray(), bytearray(w)
    for y in range(h):
        kind, line = raw[y * (w + 1)], bytearray(raw[y * (w + 1) + 1:(y + 1) * (w + 1)])
        for x in range(w):
            a, b, c = (line[x - 1] if x else 0), above[x], (above[x - 1] if x else 0)
            p = a + b - c
            paeth = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            line[x] = (line[x] + [0, a, b, (a + b) // 2, paeth][kind]) & 255
        out += line
        above = line
    return w, h, bytes(out)


def shape(kind, rng):
    cx, cy, r, fg = rng.randint(5, SIDE - 6), rng.randint(5, SIDE - 6), rng.randint(3, 5), rng.randint(140, 255)
    px = []
    for y in range(SIDE):
        for x in range(SIDE):
            dx, dy = x - cx, y - cy
            d = (dx * dx + dy * dy) ** 0.5
            on = {"disc": d <= r, "ring": r - 1 <= d <= r + .5,
                  "cross": (abs(dx) <= 1 or abs(dy) <= 1) and max(abs(dx), abs(dy)) <= r,
                  "bars": abs(dx) <= r and abs(dy) <= r and y % 3 == 0}[kind]
            px.append(max(0, min(255, (fg if on else 30) + rng.randint(-30, 30))))
    return px


RNG = random.Random(7)
PICTURES = {f"{k}/{i}.png": png(SIDE, SIDE, shape(k, RNG)) for k in KINDS for i in range(150)}


def make_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for name, data in files.items():
            z.writestr(name, data)
    return path


def make_tar(path, files, extra=(), mode="w:gz"):
    with tarfile.open(path, mode) as t:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
        for info in extra:
            t.addfile(info)
    return path


def idx(images):
    return struct.pack(">IIII", 0x803, len(images), SIDE, SIDE) + b"".join(bytes(i) for i in images)


def idx_labels(labels):
    return struct.pack(">II", 0x801, len(labels)) + bytes(labels)


# ---- jobs ----

ROOT = pathlib.Path(tempfile.mkdtemp(prefix="winnow-worker-test-"))
PIPELINE = "task: image_classification\nscale: 1/255\nmean: 0.2\nstd: 0.3\nlabels: labels.txt\nsoftmax: true\n"


def make_base(name, kind="bn", labels=KINDS):
    d = ROOT / name
    d.mkdir()
    subprocess.run([MAKE_CNN, d / "model.onnx", "1", str(SIDE), str(len(labels)), "3", kind], check=True)
    (d / "labels.txt").write_text("".join(f"{x}\n" for x in labels))
    (d / "pipeline.yaml").write_text(PIPELINE)
    return d


def make_job(name, upload, base, recipe=None, parent=ROOT, **more):
    d = parent / name
    d.mkdir(parents=True)
    shutil.copytree(base, d / "base")
    job = {"format": 1, "id": f"ftjob-{name}", "model": "shapes", "target": "shapes",
           "base": {"version": 1, "digest": ""},
           "data": {"path": str(upload), "name": pathlib.Path(upload).name, "digest": ""},
           "recipe": recipe is not None, "new_labels": False, "eval_share": 0.1, "seed": 1, "threads": 1, **more}
    if recipe is not None:
        (d / "recipe.yaml").write_text(recipe)
    elif "optim_level" not in job:
        job.update(optim_level=0.7, epochs=16)
    (d / "job.json").write_text(json.dumps(job, indent=2))
    return d


SHORT = """modifiers:
  - !EpochRangeModifier {start_epoch: 0, end_epoch: 1}
  - !SetLearningRateModifier {start_epoch: 0, learning_rate: 0.05}
"""
HALF = SHORT.replace("end_epoch: 1", "end_epoch: 2.5")


def run(*args, timeout=120, env=None):
    p = subprocess.run([str(WORKER), *map(str, args)], capture_output=True, text=True, timeout=timeout, env=env)
    return p.returncode, p.stdout, p.stderr


def result(job):
    path = job / "work/result.json"
    return json.loads(path.read_text()) if path.exists() else {}


def error(job):
    return result(job).get("error", {})


def events(job):
    path = job / "work/progress.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def candidate(job):
    return {n: (job / "work/candidate" / n).read_bytes()
            for n in ("model.onnx", "master.onnx", "labels.txt", "pipeline.yaml")}


def start(job, *options):
    return subprocess.Popen([WORKER, "run", job, *options], stderr=subprocess.DEVNULL)


def child_of(pid):
    """Pid of the only child, or None."""
    try:
        found = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return None
    return int(found[0]) if found else None


def wait_for(what, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = what()
        if value:
            return value
        time.sleep(0.005)
    return None


def reached(job, step):
    return any(e["event"] == "step" and e["step"] >= step for e in events(job))


# ---- a job that goes well ----

def rows_of(path):
    z = np.load(path)
    data, at = z["image"].tobytes(), z["image.offsets"]
    pictures = [unpng(data[at[i]:at[i + 1]]) for i in range(len(at) - 1)]
    x = np.stack([np.frombuffer(p, np.uint8).reshape(1, h, w) for w, h, p in pictures]).astype(np.float32)
    return (x / 255 - np.float32(0.2)) / np.float32(0.3), z["label"], z["row_id"], json.loads(z["meta"].tobytes())


def test_good(good, zip_path):
    r = result(good)
    m = r.get("metrics", {})
    check("a job succeeds", r.get("status") == "succeeded", r)
    check("sparsity as the level asks", 0.85 < m.get("sparsity", 0) < 0.95, m)
    check("the engine agrees with the trained model", m.get("agreement", 0) >= 0.99 and m["compared_rows"] >= 400, m)
    check("the master agrees too", m.get("master_agreement", 0) >= 0.99, m)
    summary = json.loads((good / "data/ingest.json").read_text())
    check("ingest counts", (summary["rows"], summary["train"], summary["eval"], summary["rejected"],
                            summary["labels"]) == (600, 500, 100, 0, KINDS), summary)
    master = (good / "work/candidate/master.onnx").read_bytes()
    check("the master keeps batch norm", master.count(b"BatchNormalization") >= 5)
    check("nothing is left behind", sorted(p.name for p in (good / "data").iterdir()) ==
          ["eval", "ingest.json", "train"], list((good / "data").iterdir()))
    report = json.loads((good / "work/report.json").read_text())
    steps = [s["step"] for s in report["steps"]]
    check("the report has curves and layers", steps == sorted(steps) and len(report["evals"]) >= 5 and
          len(report["layers"]) == 7, report["evals"])
    phases = [e["phase"] for e in events(good) if e["event"] == "phase"]
    check("phases in order", phases == ["ingest", "train", "export"], phases)
    p = subprocess.run([CLI, "evaluate", good / "work/candidate", good / "data/eval/rows.npz", "--json", "-"],
                       capture_output=True, text=True)
    score = json.loads(p.stdout)["models"][0]["accuracy"] if p.returncode == 0 else 0
    check("accuracy on rows set aside is far above the majority's 0.25", score > 0.7, p.stderr or score)
    if np is None:
        left_out("ONNX Runtime chooses the same classes", "numpy and onnxruntime are not installed")
        return
    x, y, ids, meta = rows_of(good / "data/eval/rows.npz")
    xt, yt, idt, _ = rows_of(good / "data/train/rows.npz")
    check("rows: stratified, no row twice", sorted(np.bincount(y)) == [25] * 4 and len({*ids, *idt}) == 600 and
          meta["labels"] == KINDS, np.bincount(y))
    o = ort.SessionOptions()
    o.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    o.log_severity_level = 3
    x = np.concatenate([x, xt])
    np.savez(ROOT / "x.npz", input=x)
    for name in ("model.onnx", "master.onnx"):
        file = good / "work/candidate" / name
        theirs = ort.InferenceSession(file.read_bytes(), o, providers=["CPUExecutionProvider"]).run(None, {"input": x})[0]
        p = subprocess.run([CLI, "run", file, "-i", ROOT / "x.npz", "-o", ROOT / "y.npz"], capture_output=True, text=True)
        if not check(f"{name} runs in the engine", p.returncode == 0, p.stderr):
            continue
        ours = next(iter(np.load(ROOT / "y.npz").values()))
        same = (ours.argmax(1) == theirs.argmax(1)).mean()
        check(f"{name}: ONNX Runtime chooses the same class on 99.5 % of rows", same >= 0.995, same)


def test_again(good, data):
    """What came out of a job is the base of the next."""
    base = ROOT / "again-base"
    shutil.copytree(good / "work/candidate", base)
    job = make_job("again", data, base, optim_level=0.7, epochs=5)
    run("run", job)
    m = result(job).get("metrics", {})
    check("a second job on the result of the first", m.get("sparsity", 0) > 0.85 and m.get("train_accuracy", 0) > 0.7,
          result(job))
    (base / "master.onnx").unlink()
    job = make_job("no-master", data, base, SHORT)
    run("run", job)
    check("a quantized base without a master is refused", error(job).get("code") == "bad_model" and
          "master.onnx" in error(job)["message"], result(job))


# ---- kills and stops ----

def held_again(job, step, *options):
    """Runs the job and stops its training child after that step: (process, pid of the child), or None when the training
    ended first (progress is told a few times a second, and a whole training takes one)."""
    p = start(job, *options)
    child = wait_for(lambda: reached(job, step) and child_of(p.pid))
    if child:
        try:
            os.kill(child, signal.SIGSTOP)
            wait_for(lambda: pathlib.Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T")
            if not any(e.get("phase") == "export" for e in events(job)):
                return p, child
            os.kill(child, signal.SIGCONT)
        except (ProcessLookupError, FileNotFoundError):
            pass
    p.kill()
    p.wait(60)
    return None


def held(name, data, base, step, *options):
    """A new job held in its training: (folder, process, pid of the stopped child)."""
    for _ in range(20):
        job = make_job(name, data, base)
        got = held_again(job, step, *options)
        if got:
            return job, *got
        shutil.rmtree(job)
    raise RuntimeError(f"job {name} ended each time before it could be stopped")


def checkpoint_fails(data, base):
    """A folder stands where the next epoch's checkpoint has to go."""
    job, p, child = held("unwritten", data, base, 30, "--tries", "1")
    last = [e for e in events(job) if e["event"] == "step"][-1]
    per = round(last["steps"] / last["epochs"])
    for step in range(per, last["steps"] + 1, per):
        with contextlib.suppress(OSError):  # those that are there already
            (job / f"work/checkpoint/{step:012}.wnck/x").mkdir(parents=True)
    os.kill(child, signal.SIGCONT)
    p.wait(60)
    check("a checkpoint that cannot be written: said, and tried again", error(job).get("code") == "io_error" and
          ".wnck" in error(job)["message"] and "1 try" in error(job)["message"], result(job))


def stop_in_export(data, base):
    """Training ends within an epoch: its last step has a checkpoint all the same, and export is left at once."""
    job = make_job("half", data, base, HALF)
    run("run", job)
    want, steps = candidate(job), max(e["step"] for e in events(job) if e["event"] == "step")
    left = False
    for i in range(20):
        job = make_job(f"exports{i}", data, base, HALF)
        p = start(job)
        child = wait_for(lambda: any(e.get("phase") == "export" for e in events(job)) and child_of(p.pid))
        try:
            os.kill(child, signal.SIGSTOP)
            p.terminate()
            time.sleep(0.3)  # until it was passed on: the worker looks a few times a second
            os.kill(child, signal.SIGCONT)
        except (ProcessLookupError, TypeError):  # it had ended
            pass
        code = p.wait(30)
        left = code == 0 and not result(job)
        if left:
            break
    kept = max(int(f.stem) for f in (job / "work/checkpoint").glob("*.wnck"))
    check("SIGTERM during export: left at the last step", left and kept == steps, (i, code, kept, steps, result(job)))
    run("run", job)
    check("and exported by the next run: the same bytes", candidate(job) == want and
          any(e.get("text") == f"resumed after step {steps}" for e in events(job)), result(job))


def test_kills(good, data, base):
    want, rng = candidate(good), random.Random()
    job = make_job("killed", data, base)
    for step in (rng.randint(1, 60), rng.randint(80, 200)):
        p = start(job)
        wait_for(lambda: reached(job, step) or p.poll() is not None)
        p.kill()
        p.wait()
    while run("run", job)[0] == 3:  # the killed worker's child is still in its last fsync
        pass
    check("kill -9 twice, then the same bytes", candidate(job) == want, result(job))

    for _ in range(20):
        job, p, child = held("stopped", data, base, 20)
        p.terminate()
        os.kill(child, signal.SIGCONT)
        code = p.wait(20)
        kept = list((job / "work/checkpoint").glob("*.wnck"))
        (job / "pause").touch()
        paused = run("run", job)[0]
        unfinished = not result(job)
        (job / "pause").unlink()
        again = held_again(job, 60)
        if again or not unfinished:
            break
        shutil.rmtree(job)  # resumed, it ended before it could be stopped: once more
    check("SIGTERM: a checkpoint, exit 0, no result", code == 0 and kept and unfinished, (code, kept))
    check("a paused job is left alone", paused == 0 and unfinished, paused)
    if again:
        os.kill(again[1], signal.SIGKILL)
        again[0].wait(60)
    check("the training child dies: another try", any("try 1" in e.get("text", "") for e in events(job)))
    check("stopped, killed and resumed: the same bytes", candidate(job) == want, result(job))

    stop_in_export(data, base)
    checkpoint_fails(data, base)

    job, p, child = held("torn", data, base, 90)
    p.terminate()
    os.kill(child, signal.SIGCONT)
    p.wait(20)
    for kept in (job / "work/checkpoint").glob("*.wnck"):
        kept.write_bytes(kept.read_bytes()[:-100])
    run("run", job)
    check("checkpoints that are cut short are passed over", candidate(job) == want and
          any("not used" in e.get("text", "") for e in events(job)), result(job))

    job, p, child = held("hung", data, base, 30, "--hang", "6")
    p.wait(60)
    check("a hang is found, and the job goes on", candidate(job) == want and
          any("no progress" in e.get("text", "") for e in events(job)), result(job))

    job, p, child = held("hangs", data, base, 5, "--hang", "1", "--tries", "1")
    p.wait(60)
    check("as many tries as were said, and no more", error(job).get("code") == "hang" and
          error(job)["message"] == "training made no progress for 1 s (1 try)", result(job))

    job, p, child = held("cancelled", data, base, 5)
    busy = run("run", job)[0]
    (job / "cancel").touch()
    os.kill(child, signal.SIGCONT)
    p.wait(30)
    check("a job that runs is not taken twice", busy == 3, busy)
    check("cancel", result(job).get("status") == "cancelled", result(job))


def test_limits(data, base):
    job = make_job("cpu", data, base, optim_level=0.7, epochs=40)
    run("run", job, "--cpu", "1")
    check("CPU time is limited", error(job).get("code") == "time_limit", result(job))
    empty = ROOT / "not-a-job"
    empty.mkdir()
    code, _, err = run("run", empty)
    check("a folder without job.json stays as it is", code == 1 and "job.json" in err and not list(empty.iterdir()), err)
    job = make_job("digest", data, base, SHORT, data={"path": str(data), "name": "x.zip", "digest": "sha256:" + "0" * 64})
    run("run", job)
    check("an upload that changed is refused", error(job).get("code") == "bad_data" and
          "SHA-256" in error(job)["message"], result(job))


def test_ingest_killed(base):
    rng = random.Random(3)
    noise = {f"{k}/{i}.png": png(160, 160, rng.randbytes(160 * 160)) for k in KINDS for i in range(60)}
    data = make_zip(ROOT / "large.zip", noise)
    job = make_job("ingest-killed", data, base, SHORT)
    p = start(job)
    worker = wait_for(lambda: any(e["event"] == "rows" for e in events(job)) and child_of(p.pid))
    early = not (job / "data/ingest.json").exists()
    if worker and early:
        os.kill(worker, signal.SIGKILL)
    p.wait(60)
    check("ingest dies: it starts anew", result(job).get("status") == "succeeded" and
          any("try 1" in e.get("text", "") for e in events(job)), (early, result(job)))
    sizes = json.loads((job / "data/ingest.json").read_text())
    check("no row is lost by it", sizes["rows"] == 240, sizes)


# ---- forms of data ----

def test_forms(base):
    rng = random.Random(5)
    some = dict(rng.sample(sorted(PICTURES.items()), 240))
    parts = {("all/val/" if i % 5 == 0 else "all/train/") + n: d for i, (n, d) in enumerate(some.items())}
    parts |= {"all/README.md": b"hello", "all/train/.DS_Store": b"x", "__MACOSX/all/x.png": b"y",
              "all/train/ring/broken.png": b"\x89PNG\r\n\x1a\nrubbish"}
    job = make_job("parts", make_tar(ROOT / "parts.tar.gz", parts), base, SHORT)
    run("run", job)
    s = json.loads((job / "data/ingest.json").read_text()) if (job / "data/ingest.json").exists() else {}
    check("tar.gz with train/ and val/ below a common folder", result(job).get("status") == "succeeded" and
          (s.get("eval"), s.get("train"), s.get("rejected")) == (48, 192, 1), (s, error(job)))
    check("what was rejected is listed", s.get("rejects", [{}])[0].get("item") == "all/train/ring/broken.png", s)

    names = ["3", "5", "8"]
    images = [(shape(KINDS[i % 3], rng), int(names[i % 3])) for i in range(150)]
    files = {}
    for part, rows in (("train", images[:120]), ("t10k", images[120:])):
        files[f"{part}-images-idx3-ubyte.gz"] = gzip.compress(idx([p for p, _ in rows]))
        files[f"{part}-labels-idx1-ubyte.gz"] = gzip.compress(idx_labels([y for _, y in rows]))
    job = make_job("idx", make_zip(ROOT / "idx.zip", files), base, SHORT, new_labels=True, target="digits")
    run("run", job)
    s = json.loads((job / "data/ingest.json").read_text()) if (job / "data/ingest.json").exists() else {}
    check("IDX pairs in a zip, t10k for evaluation, new labels", result(job).get("status") == "succeeded" and
          (s.get("train"), s.get("eval"), s.get("labels")) == (120, 30, names), (s, error(job)))
    c = job / "work/candidate"
    p = subprocess.run([CLI, "evaluate", c, job / "data/eval/rows.npz"], capture_output=True, text=True)
    check("the new head has the new labels", (c / "labels.txt").read_text().split() == names and p.returncode == 0,
          p.stderr)

    folder = ROOT / "folder"
    for name, data in some.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    first = next(iter(some))
    (folder / "ring" / "twice.png").write_bytes(some[first])
    (folder / "ring" / "link.png").symlink_to("/etc/passwd")
    nobn = make_base("nobn", "nobn")
    job = make_job("folder-job", folder, nobn, SHORT, validation={"path": str(ROOT / "val.zip"), "name": "val.zip"})
    make_zip(ROOT / "val.zip", {n: d for n, d in PICTURES.items() if n not in some and rng.random() < 0.3})
    run("run", job)
    s = json.loads((job / "data/ingest.json").read_text()) if (job / "data/ingest.json").exists() else {}
    check("a plain folder, a validation file, a base without batch norm",
          result(job).get("status") == "succeeded" and s.get("train") == 240 and s.get("duplicates") == 1 and
          s["rejects"] == [{"item": "ring/link.png", "reason": "a symbolic link"}], (s, error(job)))
    check("its master has batch norm", b"BatchNormalization" in (job / "work/candidate/master.onnx").read_bytes())
    softmax = make_base("softmax", "softmax")
    job = make_job("softmax-job", folder, softmax, optim_level=0.5, epochs=5)
    run("run", job)
    check("a base that ends in Softmax", result(job).get("status") == "succeeded", result(job))


# ---- bad data ----

def test_bad_data(base, good_zip):
    def info(name, **fields):
        t = tarfile.TarInfo(name)
        for k, v in fields.items():
            setattr(t, k, v)
        return t
    few = {n: d for n, d in PICTURES.items() if n.endswith(("1.png", "2.png"))}
    raw = good_zip.read_bytes()
    lopsided = {n: d for n, d in PICTURES.items() if n.startswith("disc/") or n == "ring/1.png"}
    links = [info(f"ring/l{i}.png", type=t, linkname="/etc/passwd") for i, t in
             enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE))]
    cases = {
        "corrupt zip": (raw[:len(raw) // 2], ""),
        "not an archive": (os.urandom(4096), ""),
        "empty": (b"", ""),
        "no pictures": ({"a/readme.txt": b"hi", "b/x.csv": b"1,2"}, "no pictures"),
        "unreadable pictures": ({f"ring/{i}.png": b"no" for i in range(50)}, "cannot be read"),
        "unknown label": ({**few, **{f"rings/{i}.png": few[f"ring/{i}1.png"] for i in range(1, 9)}}, "did you mean 'ring'"),
        "one class": ({n: d for n, d in PICTURES.items() if n.startswith("ring/")}, "at least two labels"),
        "too few rows": (dict(list(few.items())[:2] + [("ring/9.png", PICTURES["ring/9.png"])]), "at least 20"),
        "imbalance": (lopsided, "no label may have more than 95"),
        "a class of two": ({n: d for n, d in few.items() if not n.startswith("ring") or n in
                            ("ring/1.png", "ring/2.png")}, "'ring' has 2 rows"),
        "zip slip": ({**few, "../../escape/x.png": few["ring/1.png"]}, "outside"),
        "absolute name": ({**few, "/tmp/x.png": few["ring/1.png"]}, "absolute"),
        "backslash": ({**few, "ring\\..\\x.png": few["ring/1.png"]}, "backslash"),
        "bomb": ({**few, "ring/0.png": bytes(64 << 20)}, "times its size"),
        "links and devices": (make_tar(ROOT / "links.tar", dict(list(few.items())[:8]), links, "w"), "cannot be read"),
    }
    for name, (data, why) in cases.items():
        path = ROOT / f"bad-{name.replace(' ', '-')}.zip"
        if isinstance(data, pathlib.Path):
            path = data
        elif isinstance(data, bytes):
            path.write_bytes(data)
        else:
            make_zip(path, data)
        job = make_job(path.stem + "-job", path, base, SHORT)
        run("run", job)
        e = error(job)
        check(f"bad data: {name}", e.get("code") == "bad_data" and why in e["message"], e)
    check("nothing escaped", not (ROOT.parent / "escape").exists() and not (ROOT / "escape").exists())
    job = make_job("no-file", ROOT / "nowhere.zip", base, SHORT)
    run("run", job)
    check("bad data: no such file", error(job).get("code") == "bad_data", error(job))


# ---- check, recipe ----

def test_check(data, base):
    ok = make_job("check-ok", data, base, SHORT)
    t = time.monotonic()
    code, _, err = run("check", ok)
    check("check: a good job", code == 0, err)
    check("check takes no time", time.monotonic() - t < 8)
    check("check leaves nothing behind", sorted(p.name for p in ok.iterdir()) == ["base", "job.json", "recipe.yaml"])
    recipes = {
        "an unknown modifier": ("modifiers:\n  - !EpochRangeModifier {start_epoch: 0, end_epoch: 1}\n"
                                "  - !GMPruneModifier {start_epoch: 0}\n", "recipe.yaml:3: "),
        "YAML": ("modifiers:\n  - !EpochRangeModifier {start_epoch: 0\n", "recipe.yaml:"),
        "a parameter that is not there": (
            SHORT + "  - !ConstantPruningModifier {start_epoch: 0, params: [layer1.0.conv7.weight]}\n",
            "recipe.yaml:4: "),
    }
    for i, (name, (text, want)) in enumerate(recipes.items()):
        job = make_job(f"check-recipe-{i}", data, base, text)
        code, _, err = run("check", job)
        check(f"check: {name}", code == 2 and err.startswith(want), (code, err))
        if i == 2:
            run("run", job)
            e = error(job)
            check("the job says the same", e.get("code") == "bad_recipe" and e["message"].startswith(want), e)
    jobs = {
        '"seed": -1': "job.json:", '"epoch": 3': "did you mean 'epochs'", '"optim_level": 2': "not between",
        '"eval_share": "x"': "expected a number", '"format": 1,,': "job.json:", '"training": {"batch": 1}': "training.batch",
        '"training": {"lr": 1}': "unknown key",
    }
    for i, (line, want) in enumerate(jobs.items()):
        job = make_job(f"check-job-{i}", data, base)
        text = {"format": 1, "id": "x", "model": "m", "data": {"path": str(data)}}
        body = json.dumps(text, indent=1)
        job.joinpath("job.json").write_text(body[:-2] + ",\n " + line + "\n}")
        code, _, err = run("check", job)
        check(f"check: job.json with {line}", code == 2 and err.startswith("job.json:") and want in err, (code, err))
    job = make_job("check-base", data, base, SHORT)
    (job / "base/model.onnx").write_bytes(b"\x08\x07junk" * 9)
    code, _, err = run("check", job)
    check("check: a broken base", code == 2 and err.startswith("base"), (code, err))
    (ok / "recipe.yaml").write_text(SHORT + "  - !GMPruningModifier {start_epoch: 0, end_epoch: 1, update_frequency: "
                                    "0.1, init_sparsity: 0.1, final_sparsity: 0.8, params: [__ALL_PRUNABLE__]}\n")
    code, out, err = run("recipe", ok / "recipe.yaml", "--model", base / "model.onnx", "--rows", "1000", "--json", "-")
    points = json.loads(out)["points"] if code == 0 else [{}]
    check("recipe: curves and estimate", code == 0 and abs(points[-1]["sparsity"] - 0.8) < 0.01 and
          json.loads(out)["estimate"]["cpu_s"] > 0, err or points[-1])
    code, out, err = run("recipe", ok / "recipe.yaml")
    check("recipe: as text", code == 0 and "sparsity" in out and "█" in out and "warning" not in out, out + err)
    (ok / "recipe.yaml").write_text(SHORT[:SHORT.index("  - !SetLearningRate")])
    code, out, err = run("recipe", ok / "recipe.yaml")
    check("recipe: no learning rate is told", code == 0 and "sets no learning rate" in out, out + err)
    for bad in (["frob"], ["run", ok, "--tries", "0"], ["run", ok, "--hang", "x"], ["run", ok, "--frob"], [],
                ["run", ok, "more"], ["watch", ok, "--priority", "high"]):
        code, _, err = run(*bad)
        check(f"usage {bad[:1] + bad[2:]}: 2", code == 2 and err, (code, err))
    check("an option's number is checked by name", "--tries wants a whole number from 1 to 100, not '0'" in
          run("run", ok, "--tries", "0")[2])


# ---- watch ----

def test_watch(data, base):
    jobs = ROOT / "jobs"
    jobs.mkdir()
    one = make_job("ftjob-1", data, base, SHORT, parent=jobs)
    two = make_job("ftjob-2", data, base, SHORT, parent=jobs)
    three = make_job("ftjob-3", data, base, SHORT, parent=jobs)
    (three / "pause").touch()
    (jobs / "ftjob-4").mkdir()
    code, _, err = run("watch", jobs, "--once", "--priority", "normal")
    check("watch --once does what waits", code == 0 and result(one).get("status") == "succeeded" and
          result(two).get("status") == "succeeded" and not result(three), err)
    p = subprocess.Popen([WORKER, "watch", jobs, "--priority", "normal"], stderr=subprocess.PIPE, text=True)
    line = wait_for(lambda: p.stderr.readline())
    check("a folder is watched once", run("watch", jobs, "--once")[0] == 3, line)
    (three / "pause").unlink()
    four = make_job("ftjob-5", data, base, SHORT, parent=ROOT / "new")
    os.rename(four, jobs / "ftjob-5")
    done = wait_for(lambda: result(three) and result(jobs / "ftjob-5"), 40)
    check("watch sees a job that comes, and one that goes on", done)
    p.terminate()
    check("SIGTERM ends it", p.wait(20) == 0)
    p.stderr.close()


def main():
    for program in (WORKER, CLI, MAKE_CNN):
        if not program.exists():
            print(f"not ok - {program} is not built\n0 passed, 1 failed")
            return 1
    t = time.monotonic()
    base = make_base("base")
    data = make_zip(ROOT / "shapes.zip", PICTURES)
    good = make_job("good", data, base)
    code, _, err = run("run", good)
    check("run exits 0", code == 0, err)
    try:
        test_good(good, data)
        test_again(good, data)
        test_kills(good, data, base)
        test_limits(data, base)
        test_ingest_killed(base)
        test_forms(base)
        test_bad_data(base, data)
        test_check(data, base)
        test_watch(data, base)
    except Exception as e:  # a test that cannot go on is a failure of its own
        traceback.print_exc(file=sys.stdout)
        check("no test breaks off", False, e)
    if failed:
        print(f"# what was made stays in {ROOT}")
    else:
        shutil.rmtree(ROOT, ignore_errors=True)
    print(f"# {time.monotonic() - t:.0f} s")
    print(f"{passed} passed, {failed} failed" + (f", {skipped} left out" if skipped else ""))
    return 1 if failed else 0


sys.exit(main())
