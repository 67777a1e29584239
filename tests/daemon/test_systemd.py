"""test_systemd.py: the units say what they should, and the programs live with it.

Units: systemd-analyze verify is silent (programs at the build's paths), the exposure is below its bound, sysusers and
tmpfiles are accepted. Programs: winnowd serves every model there is under the unit's system-call filter, without memory
that is written and executed, on sockets that were handed over, without a network of its own; the worker runs a job
under its unit's filter. Ends with one line of counts."""

import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile

sys.dont_write_bytecode = True  # no __pycache__ beside the sources
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import onnx_bytes as ox

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = pathlib.Path(os.environ.get("BUILD", "build")).resolve()
DATA = ROOT / "../shared/data/models"
UNITS = sorted(p for p in (ROOT / "systemd").iterdir() if p.suffix in (".service", ".socket", ".slice"))
EXPOSURE = {"winnowd.service": 10, "winnow-worker.service": 10}  # tenths; the scale ends at 100
SANITIZED = any(s in BUILD.name for s in ("address", "undefined", "thread"))
SIZES = {"float32": 4, "FP32": 4, "FP16": 2, "FP64": 8, "INT64": 8, "INT32": 4, "INT8": 1, "UINT8": 1, "BOOL": 1}
passed = failed = 0
left_out = []


def check(name, good, detail=""):
    global passed, failed
    passed, failed = passed + bool(good), failed + (not good)
    why = "" if good else "   # " + str(detail)[-700:]
    print(f"{'ok' if good else 'FAILED'} {name}{why}", flush=True)


def leave_out(name, why):
    left_out.append(name)
    print(f"left out: {name}: {why}", flush=True)


def run(*argv, **more):
    return subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=120, **more)


# ---- the files ----
def verify(tmp):
    """The units with the programs of this build: unknown keys only warn, so any word is a failure."""
    folder = tmp / "units"
    folder.mkdir()
    for unit in UNITS:
        text = unit.read_text()
        for program in re.findall(r"^Exec\w+=(/usr/bin/(\S+))", text, re.M):
            built = BUILD / program[1]
            text = text.replace(program[0], str(built if built.exists() else "/bin/true"))
        (folder / unit.name).write_text(text)
    said_nothing("systemd-analyze verify has nothing to say", folder)
    for conf in sorted((ROOT / "systemd/network").iterdir()):
        drop_in = folder / (conf.stem + ".d") / "network.conf"
        drop_in.parent.mkdir()
        drop_in.write_text(conf.read_text())
    said_nothing("... nor with the drop-ins for a network", folder)


def said_nothing(name, folder):
    p = run("systemd-analyze", "verify", "--man=no", *sorted(f for f in folder.iterdir() if f.is_file()))
    said = [
        line
        for line in p.stderr.splitlines()
        if not re.search(r"Failed to (connect|prepare|create)|control group", line)
    ]
    check(name, p.returncode == 0 and not said and not p.stdout, said)


def exposure():
    for name, bound in EXPOSURE.items():
        p = run(
            "systemd-analyze",
            "security",
            "--offline=yes",
            "--no-pager",
            f"--threshold={bound}",
            ROOT / "systemd" / name,
        )
        said = re.search(r"Overall exposure level for \S+: ([\d.]+)", p.stdout)
        check(f"{name}: exposure {said[1] if said else '?'}, at most {bound / 10}", p.returncode == 0, p.stdout[-300:])


def reasons():
    """Whatever a unit opens has a comment above it."""
    opening = re.compile(
        r"^(SystemCallFilter=(?![~@])|IPAddressAllow=|MemoryDenyWriteExecute=no|RestrictAddressFamilies=AF)"
    )
    for unit in UNITS:
        lines = unit.read_text().splitlines()
        bare = [
            line
            for i, line in enumerate(lines)
            if opening.match(line) and not unit.name.endswith(".socket") and not lines[i - 1].startswith("#")
        ]
        if unit.suffix == ".service":
            check(f"{unit.name}: a reason beside each opening", not bare, bare)


def accounts_and_folders(tmp):
    root = tmp / "root"
    (root / "etc").mkdir(parents=True)
    p = run("systemd-sysusers", f"--root={root}", ROOT / "systemd/winnow.sysusers")
    users = (root / "etc/passwd").read_text() if (root / "etc/passwd").exists() else ""
    if os.geteuid() and p.returncode:
        leave_out("systemd-sysusers and systemd-tmpfiles in a root of their own", "needs root")
        return
    check(
        "systemd-sysusers makes the account",
        p.returncode == 0 and re.search(r"^winnow:x:\d+:\d+:.*:/var/lib/winnow:", users, re.M),
        p.stderr + users,
    )
    p = run("systemd-tmpfiles", f"--root={root}", "--create", ROOT / "systemd/winnow.tmpfiles")
    jobs = root / "var/lib/winnow/jobs"
    check(
        "systemd-tmpfiles makes the folders",
        p.returncode == 0 and jobs.is_dir() and jobs.stat().st_mode & 0o777 == 0o700 and (root / "etc/winnow").is_dir(),
        p.stderr,
    )
    winnowd, settings = BUILD / "winnowd", root / "etc/winnow/winnowd.yaml"
    if winnowd.exists():
        p = run(winnowd, "--config", settings, "--print-config")
        check(
            "the first settings are valid and leave the worker to its unit",
            re.search(r"^ *worker: \"?\"?$", p.stdout, re.M),
            p.stdout + p.stderr,
        )


# ---- winnowd under its unit ----
PROBE = """
import mmap, os, socket, subprocess
def refused(f):
    try:
        f()
    except OSError as e:
        return e.errno
    return 0
def cpuinfo():
    open("/proc/cpuinfo").close()
print(refused(lambda: mmap.mmap(-1, 4096, prot=7)), refused(lambda: socket.socket(socket.AF_INET)),
      refused(lambda: os.chroot("/")), refused(cpuinfo), refused(lambda: socket.socket(socket.AF_UNIX)))
"""


def rules_bite():
    """What with_unit.py applies refuses what it should, so that the tests below mean something."""
    p = run(
        sys.executable, HERE / "with_unit.py", ROOT / "systemd/winnowd.service", "--", "/usr/bin/python3", "-c", PROBE
    )
    if "without ProcSubset" in p.stderr:
        check("the rules refuse what they should", re.match(r"1 97 1 \d+ 0", p.stdout), p.stdout + p.stderr)
    else:
        check("the rules refuse what they should", p.stdout.strip() == "1 97 1 2 0", p.stdout + p.stderr)


def http(port, path, body=None, headers=None, method=None):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=body, headers=headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as r:
            return r.status, r.read()
    except urllib.error.HTTPError as e:
        return e.code, e.read()
    except OSError as e:
        return 0, str(e).encode()


def patterns_model(folder):
    """A small untrained network for three kinds of pictures, with its pipeline."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(ox.network())
    (folder / "pipeline.yaml").write_text(
        "task: image_classification\nscale: 1/255\nlabels: labels.txt\nsoftmax: true\n"
    )
    (folder / "labels.txt").write_text("dark\nlight\nstripes\n")
    return ox.network()


def pictures():
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as z:
        for i, (label, picture) in enumerate(ox.patterns(450)):
            z.writestr(f"{label}/{i}.png", picture)
    return archive.getvalue()


def repository(folder):
    patterns_model(folder / "patterns/1")
    models = {"linear": ox.linear(), "convolution": ox.convolution()}
    for name, data in models.items():
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "1/model.onnx").write_bytes(data)
    if DATA.is_dir():
        for file in sorted(DATA.glob("*.onnx")):
            (folder / file.stem / "1").mkdir(parents=True)
            (folder / file.stem / "1/model.onnx").symlink_to(file.resolve())
    else:
        leave_out("real models under the unit", "../shared/data is not there")


def infer(port, name):
    """One request of zeros, as binary tensors; the words of what went wrong, else None."""
    status, text = http(port, f"/v2/models/{name}")
    if status != 200:
        return f"{status} {text[:200]}"
    inputs, blob = [], b""
    for i in json.loads(text)["inputs"]:
        shape = [1 if d < 0 else d for d in i["shape"]]
        if "bert" in name:
            shape = [1, 16]
        n = SIZES[i["datatype"]]
        for d in shape:
            n *= d
        inputs.append(
            {"name": i["name"], "datatype": i["datatype"], "shape": shape, "parameters": {"binary_data_size": n}}
        )
        blob += b"\1" * n if i["datatype"] == "UINT8" else bytes(n)
    head = json.dumps({"inputs": inputs}).encode()
    status, text = http(
        port, f"/v2/models/{name}/infer", head + blob, {"Inference-Header-Content-Length": str(len(head))}
    )
    return None if status == 200 and b'"outputs"' in text else f"{status} {text[:200]}"


def wait_for(port, job, seconds):
    """Status of a job once it has ended, with what the server says of it."""
    end = time.monotonic() + seconds
    while True:
        text = http(port, f"/v1/fine_tuning/jobs/{job}")[1]
        try:
            seen = json.loads(text)
        except ValueError:
            seen = {}
        if seen.get("status") in ("succeeded", "failed", "cancelled") or time.monotonic() > end:
            return seen.get("status"), seen
        time.sleep(0.1)


def both_units(tmp, port, state):
    """Upload, training, gate and swap, daemon and worker each under its own unit."""
    program = BUILD / "winnow-worker"
    if not program.exists() or not (BUILD / "winnow").exists():
        leave_out("a job under both units", "winnow-worker or winnow is not built")
        return
    command = [sys.executable, HERE / "with_unit.py", ROOT / "systemd/winnow-worker.service", "--", program, "watch"]
    with open(tmp / "worker.log", "w") as said:
        worker_process = subprocess.Popen([*command, state / "jobs", "--priority", "normal"], stdout=said, stderr=said)
    try:
        text = http(port, "/v1/files/patterns.zip?purpose=fine-tune", pictures(), method="PUT")[1]
        file = json.loads(text).get("id", "")
        ask = {"model": "patterns", "training_file": file, "hyperparameters": {"n_epochs": 3}}
        text = http(port, "/v1/fine_tuning/jobs", json.dumps(ask).encode())[1]
        job = json.loads(text).get("id", "")
        status, seen = wait_for(port, job, 90) if job else (None, text)
        check(
            "a job under both units: trained, judged, swapped in",
            status == "succeeded" and seen.get("promotion") == "promoted",
            f"{seen}\n{(tmp / 'worker.log').read_text()}",
        )
        check(
            "the new version answers",
            b'"model_version":"2"'
            in http(port, "/v2/models/patterns/infer", next(ox.patterns(1))[1], {"Content-Type": "image/png"})[1],
        )
    finally:
        worker_process.terminate()
        try:
            code = worker_process.wait(20)
        except subprocess.TimeoutExpired:
            worker_process.kill()
            code = "hung"
    check("the worker stops when it is told to", code == 0, code)


def daemon(tmp):
    winnowd = BUILD / "winnowd"
    if not winnowd.exists():
        leave_out("winnowd under its unit", f"{winnowd} is not built")
        return
    if SANITIZED:
        leave_out("winnowd under its unit", "a sanitizer needs calls that the unit refuses")
        return
    repo, state = tmp / "repository", tmp / "state"
    repo.mkdir()
    state.mkdir()
    repository(repo)
    config = tmp / "winnowd.yaml"
    config.write_text(
        f"models:\n    repositories: [{repo}]\n    state: {state}\njobs:\n    worker: \"\"\n"
        "gate:\n    without_anchor: eval_rows\n"
    )
    errors = open(tmp / "winnowd.log", "w+")
    p = subprocess.Popen(
        [
            sys.executable,
            HERE / "with_unit.py",
            ROOT / "systemd/winnowd.service",
            "--listen",
            "2",
            "--",
            winnowd,
            "--config",
            config,
        ],
        stdout=errors,
        stderr=errors,
    )

    def log():
        return (tmp / "winnowd.log").read_text(errors="replace")

    ports, end = None, time.monotonic() + 60
    while not ports and time.monotonic() < end and p.poll() is None:
        ports = re.search(r"^ports (\d+) (\d+)$", log(), re.M)
        time.sleep(0.05)
    port = int(ports[1]) if ports else 0
    while time.monotonic() < end and p.poll() is None and http(port, "/v2/health/ready")[0] != 200:
        time.sleep(0.1)
    check(
        "winnowd is ready under its unit's rules", p.poll() is None and http(port, "/v2/health/ready")[0] == 200, log()
    )
    for line in re.findall(r"^with_unit: (without .*)$", log(), re.M):
        leave_out("a part of the unit's rules", line)
    if p.poll() is None:
        maps = pathlib.Path(f"/proc/{p.pid}/maps").read_text()
        check("no mapping of it can be written and executed", not re.search(r"^\S+ .wx", maps, re.M), maps)
        seccomp = re.search(r"^Seccomp:\s+(\d)", pathlib.Path(f"/proc/{p.pid}/status").read_text(), re.M)
        check("a system-call filter is in force", seccomp and seccomp[1] == "2")
        for model in sorted(x.name for x in repo.iterdir()):
            wrong = infer(port, model)
            check(f"winnowd under its unit answers for {model}", wrong is None, wrong)
        check("the other listener answers too", http(int(ports[2]), "/v2/health/live")[0] == 200)
        both_units(tmp, port, state)
    p.send_signal(signal.SIGTERM)
    try:
        code = p.wait(20)
    except subprocess.TimeoutExpired:
        p.kill()
        code = "hung"
    check("winnowd drains and ends with 0", code == 0, f"{code}\n{log()}")


# ---- the worker under its unit ----
def job_directory(job):
    """A job as winnowd would write it: three kinds of pictures, a small network, a recipe made from a level."""

    def digest(data):
        return "sha256:" + hashlib.sha256(data).hexdigest()

    model, archive = patterns_model(job / "base"), pictures()
    data = job.parent / "data.zip"
    data.write_bytes(archive)
    (job / "job.json").write_text(
        json.dumps(
            {
                "format": 1,
                "id": "ftjob-1",
                "model": "patterns",
                "target": "patterns",
                "base": {"version": 1, "digest": digest(model)},
                "data": {"path": str(data), "name": "data.zip", "digest": digest(archive)},
                "recipe": False,
                "optim_level": 0.5,
                "new_labels": False,
                "eval_share": 0.1,
                "seed": 1,
                "threads": 1,
                "epochs": 3,
            }
        )
    )


def worker(tmp):
    program = BUILD / "winnow-worker"
    if not program.exists() or SANITIZED:
        leave_out(
            "the worker under its unit",
            "a sanitizer needs calls that the unit refuses" if SANITIZED else f"{program} is not built",
        )
        return
    job = tmp / "jobs/ftjob-1"
    job_directory(job)
    p = run(sys.executable, HERE / "with_unit.py", ROOT / "systemd/winnow-worker.service", "--", program, "run", job)
    for line in re.findall(r"^with_unit: (without .*)$", p.stderr, re.M):
        leave_out("a part of the unit's rules", line)
    result = job / "work/result.json"
    ended = json.loads(result.read_text()) if result.exists() else {}
    progress = (job / "work/progress.jsonl").read_text() if result.exists() else ""
    check(
        "the worker does a job under its unit's rules, with its JIT and its own sandbox",
        p.returncode == 0 and ended.get("status") == "succeeded" and (job / "work/candidate/model.onnx").exists(),
        f"{p.returncode} {ended} {p.stderr}",
    )
    check(
        "its children found every part of their sandbox",
        progress and not re.search(r"sandbox|[Ll]andlock|seccomp", progress),
        progress[-1500:],
    )


def main():
    start = time.monotonic()
    tmp = pathlib.Path(tempfile.mkdtemp(prefix="winnow-systemd-"))
    try:
        if shutil.which("systemd-analyze"):
            verify(tmp)
            exposure()
            reasons()
            accounts_and_folders(tmp)
            rules_bite()
            daemon(tmp)
            worker(tmp)
        else:
            leave_out("everything", "systemd-analyze is not installed")
    finally:
        shutil.rmtree(tmp, ignore_errors=True)
    print(f"{time.monotonic() - start:.0f} s")
    print(f"{passed} passed, {failed} failed, {len(left_out)} left out")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
