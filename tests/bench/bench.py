#!/usr/bin/env python3
"""winnow beside ONNX Runtime, OpenVINO and DeepSparse: bench.py [--all] [--only REGEX] [--list] ...

Every measurement is a process of its own (engines.py); engines take turns round by round, so that a slow moment of the
machine hits everyone. What is found is appended to build/bench/results.jsonl; --resume goes on after an interruption.
At the end: one table, build/bench/results.json and build/bench/results.svg.

Nets have made-up weights (nets.py): times depend on shapes and zeros, not on what a net knows. Peers run the dense file
of the same precision, which is as fast as the pruned one for those that do not profit from zeros; int8 at their fastest
form of it. DeepSparse runs the net of the same zeros; its int8 in products of integers, with one scale per layer, which
it is fastest with. Its licence is for evaluation in test environments: it is installed for this alone and sends nothing.
winnow's answer is compared with ONNX Runtime's on the same file before its time counts (agrees()). A peer that cannot be installed
is left out, and said."""
import argparse
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import nets  # noqa: E402
import plot  # noqa: E402

BUILD = pathlib.Path(os.environ.get("BUILD", "build"))
FOLDER = BUILD / "bench"
DATA = pathlib.Path("../shared/data/models")
PEERS = {"ort": (None, "ONNX Runtime"), "openvino": ("openvino==2026.4.1 numpy", "OpenVINO"),
         "deepsparse": ("deepsparse==1.8.0", "DeepSparse")}
MINILM = {"layers": 6, "width": 384, "heads": 12, "hidden": 1536}
# name: maker, its arguments, tokens, in the short list
NETS = {"ResNet-50": (nets.resnet50, {}, 0, True), "MobileNetV2": (nets.mobilenet, {}, 0, True),
        "BERT-base s128": (nets.bert, {}, 128, True), "MiniLM-L6 s128": (nets.bert, MINILM, 128, True),
        "BERT-base s384": (nets.bert, {}, 384, False), "YOLOv5s": (nets.yolov5s, {}, 0, False),
        "MLP": (nets.mlp, {}, 0, False)}
SPARSE = {"dense": {}, "80 %": {"sparsity": 0.8}, "90 %": {"sparsity": 0.9}, "95 %": {"sparsity": 0.95},
          "95 % 1x4": {"sparsity": 0.95, "block": "1x4"}, "95 % 4x1": {"sparsity": 0.95, "block": "4x1"},
          "95 % 2x1": {"sparsity": 0.95, "block": "2x1"}}
SHORT = {"dense", "90 %", "95 %", "95 % 1x4", "95 % 4x1"}
REAL = {"MobileNetV2 (zoo)": ("mobilenetv2_1.0_224_fp32.onnx", "mobilenetv2_1.0_224_qdq.onnx"),
        "ResNet-20 (CIFAR)": ("resnet20_cifar10_fp32.onnx", None),
        "ResNet-20 80 % (CIFAR)": ("resnet20_cifar10_sparse80_fp32.onnx", "resnet20_cifar10_sparse80_qdq.onnx"),
        "SqueezeNet 1.1": ("squeezenet1.1_fp32.onnx", None), "BERT-tiny AG News": ("bert_tiny_agnews_fp32.onnx", None)}


def cpu():
    name, flags = platform.processor(), set()
    for line in open("/proc/cpuinfo", encoding="utf-8"):
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            name = value.strip()
        if key.strip() == "flags":
            flags = set(value.split())
    wanted = ["avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni", "amx_int8"]
    return f"{name} ({' '.join(f for f in wanted if f in flags)})"


def python_of(engine):
    """The interpreter that has this engine; None where it cannot be had."""
    packages = PEERS.get(engine, (None, None))[0]
    if not packages:
        return sys.executable
    venv = pathlib.Path(f"build/venv-{engine}")
    if not (venv / ".done").exists():
        print(f"setting up {PEERS[engine][1]} in {venv}", flush=True)
        done = subprocess.run([sys.executable, "-m", "venv", "--clear", venv]).returncode == 0 and subprocess.run(
            [venv / "bin/pip", "install", "-q", "--disable-pip-version-check", *packages.split()]).returncode == 0
        if not done:
            print(f"left out: {PEERS[engine][1]} cannot be installed here")
            return None
        (venv / ".done").touch()
    return str(venv / "bin/python")


def measure(python, engine, path, batch, threads, seconds, length, out=None):
    """What engines.py prints, or {"error": ...}."""
    command = [python, HERE / "engines.py", engine, path, str(batch), str(threads), str(seconds), str(length)]
    try:
        p = subprocess.run(command + ([out] if out else []), capture_output=True, text=True, timeout=600,
                           env={**os.environ, "BUILD": str(BUILD), "OMP_NUM_THREADS": str(threads)})
    except subprocess.TimeoutExpired:
        return {"error": "more than 600 s"}
    lines = [line for line in p.stdout.splitlines() if line.startswith("{")]
    if p.returncode or not lines:
        return {"error": (p.stderr.strip().splitlines() or ["nothing was printed"])[-1][:200]}
    return json.loads(lines[-1])


# ---- what is measured ----

class Case:
    """One file on one engine. `form`: what winnow's row is called."""

    def __init__(self, net, kind, form, engine, path, length):
        self.net, self.kind, self.form, self.engine, self.path, self.length = net, kind, form, engine, path, length

    def __str__(self):
        return f"{self.net} {self.kind} {self.form} [{self.engine}]"


def made(name, variant, **kind):
    maker, arguments, _, _ = NETS[name]
    shape = name.split(" s")[0]  # one file for all lengths
    path = FOLDER / f"{shape}-{variant}.onnx".replace(" %", "").replace(" ", "-").lower()
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        maker(path.with_suffix(".new"), **arguments, **kind)
        path.with_suffix(".new").rename(path)
    return path


def cases(everything):
    """All cases, files not made yet: (case, how to make the file)."""
    for name, (maker, _, length, short) in NETS.items():
        if not (short or everything):
            continue
        text = maker is nets.bert
        for form, sparse in SPARSE.items():
            if not everything and (form not in SHORT or form == "90 %" and not text):
                continue
            if maker is nets.mobilenet and not everything and form != "dense":
                continue
            for kind in ("f32", "int8"):
                if form in ("95 % 1x4", "95 % 2x1") and kind == "f32":
                    continue
                q = {"int8": True} if kind == "int8" else {}
                forms = [("", q)]
                if text and q:
                    forms += [(" attention", {**q, "products": True}), (" whole", {**q, "products": True, "whole": True})]
                for extra, how in forms:
                    variant = f"{kind}{extra} {form}"
                    yield Case(name, kind, form + extra, "winnow", None, length), (variant, {**how, **sparse})
                    if form == "dense":
                        for engine in ("ort", "openvino"):
                            yield Case(name, kind, form + extra, engine, None, length), (variant, {**how, **sparse})
                integer = {**q, "integer": True, **({"products": True} if text else {})} if q else {}
                if everything and q:  # the file that DeepSparse gets
                    yield Case(name, kind, form + " integer", "winnow", None, length), (f"int8 integer {form}", {**integer, **sparse})
                if form != "95 % 2x1":
                    yield (Case(name, kind, form, "deepsparse", None, length),
                           (f"{kind}{' integer' if q else ''} {form}", {**integer, **sparse}))
    for name, (f32, int8) in REAL.items() if DATA.is_dir() else ():
        for kind, file in (("f32", f32), ("int8", int8)):
            if file and (everything or "zoo" in name):
                for engine in ("winnow", "ort", "openvino"):
                    yield Case(name, kind, "dense" if "80" not in name else "80 %", engine, DATA / file, 128), None


# ---- agreement ----

def agrees(case):
    """Does winnow answer as ONNX Runtime does on this file? None: yes, else what is wrong.

    A value that a rounding puts on another step of a quantization changes all that follows, so int8 nets agree with nobody to
    the last digit: winnow may be three times as far from the literal reading of the file as ONNX Runtime itself
    (and 5 % of the spread, on the mean)."""
    y = {}
    for engine in ("winnow", "ort") if case.kind == "f32" else ("winnow", "ort", "reference"):
        out = FOLDER / f"{engine}.npy"
        got = measure(sys.executable, engine, case.path, 1, 1, 0, case.length, out)
        if "error" in got:
            return f"{engine}: {got['error']}"
        y[engine] = np.load(out)
    if y["winnow"].shape != y["ort"].shape or not np.isfinite(y["winnow"]).all():
        return f"shapes {y['winnow'].shape} and {y['ort'].shape}, or not finite"
    want = y.get("reference", y["ort"])
    spread = want.std() or 1
    off = {e: np.abs(v - want).mean() / spread for e, v in y.items()}
    if off["winnow"] > (1e-4 if case.kind == "f32" else 3 * off["ort"] + 0.05):
        return f"differs by {off['winnow']:.2g} of the spread" + (f", ONNX Runtime by {off['ort']:.2g}" if off["ort"] else "")
    return None


# ---- the table ----

def collect(lines):
    """Medians and bests by (net, kind, form, engine, batch, threads)."""
    found = {}
    for r in lines:
        found.setdefault((r["net"], r["kind"], r["form"], r["engine"], r["batch"], r["threads"]), []).append(r)
    rows = {}
    for key, all_ in found.items():
        good = [r for r in all_ if "error" not in r]
        rows[key] = {"error": all_[0]["error"]} if not good else {
            "median_ms": statistics.median(r["p50_ms"] for r in good), "best_ms": min(r["best_ms"] for r in good),
            "load_ms": min(r["load_ms"] + r["first_ms"] for r in good), "peak_mib": min(r["peak_mib"] for r in good),
            "rounds": len(good)}
    return rows


def base(rows, net, engine, kind, batch, threads):
    """The fastest dense form of a precision."""
    all_ = [v for (n, k, f, e, b, t), v in rows.items()
            if (n, k, e, b, t) == (net, kind, engine, batch, threads) and "error" not in v and
            (f.startswith("dense") or net in REAL)]
    return min(all_, key=lambda v: v["median_ms"], default=None)


def ratios(rows, key):
    """winnow's row against each peer: {peer: (median, best)}."""
    net, kind, form, _, batch, threads = key
    mine, out = rows[key], {}
    peers = {"ort f32": base(rows, net, "ort", "f32", batch, threads), "ort int8": base(rows, net, "ort", "int8", batch, threads),
             "openvino": base(rows, net, "openvino", kind, batch, threads),
             "deepsparse": rows.get((net, kind, re.sub(" (attention|whole|integer)", "", form), "deepsparse", batch, threads))}
    for peer, theirs in peers.items():
        if theirs and "error" not in theirs and "error" not in mine:
            out[peer] = theirs["median_ms"] / mine["median_ms"], theirs["best_ms"] / mine["best_ms"]
    return out


def table(rows):
    columns = ["ort f32", "ort int8", "openvino", "deepsparse"]
    groups = sorted({(k[5], k[4]) for k in rows})
    for threads, batch in groups:
        print(f"\n{threads} thread{'s' * (threads > 1)}, batch {batch}: ms of a run, medians (bests); times winnow is faster\n"
              f"{'':<34}{'ms':>8} {'best':>8}" + "".join(f"{'x ' + c:>18}" for c in columns))
        for key in rows:
            if key[3] != "winnow" or (key[5], key[4]) != (threads, batch):
                continue
            name = f"{key[0]} {key[1]} {key[2]}"
            if "error" in rows[key]:
                print(f"{name:<34}  FAILED: {rows[key]['error']}")
                continue
            r = ratios(rows, key)
            cells = "".join(f"{r[c][0]:9.2f} ({r[c][1]:5.2f}) " if c in r else f"{'':18}" for c in columns)
            print(f"{name:<34}{rows[key]['median_ms']:8.2f} {rows[key]['best_ms']:8.2f}{cells}".rstrip())
        for key, v in rows.items():
            if key[3] != "winnow" and "error" in v and (key[5], key[4]) == (threads, batch):
                print(f"{key[0]} {key[1]} {key[2]}: {PEERS[key[3]][1]} failed: {v['error']}")


def report(lines):
    rows = collect(lines)
    versions = {r["engine"]: r["version"] for r in lines if "version" in r}
    head = f"{cpu()}; " + ", ".join(f"{PEERS.get(e, ('', e))[1]} {v}" for e, v in versions.items())
    print(f"\n{head}\nload {os.getloadavg()[0]:.1f}")
    table(rows)
    named = [{"net": k[0], "kind": k[1], "form": k[2], "engine": k[3], "batch": k[4], "threads": k[5], **v,
              **({"ratios": ratios(rows, k)} if k[3] == "winnow" else {})} for k, v in rows.items()]
    (FOLDER / "results.json").write_text(json.dumps({"cpu": cpu(), "versions": versions, "results": named}, indent=1))
    plot.bars(FOLDER / "results.svg", head, [(f"{r['net']} {r['kind']} {r['form']}", {p: v[0] for p, v in r["ratios"].items()})
                                             for r in named if r["engine"] == "winnow" and r["ratios"] and
                                             r["batch"] == 1 and r["threads"] == min(x["threads"] for x in named)])
    print(f"\nwritten: {FOLDER}/results.json, results.svg, results.jsonl")


# ---- running ----

def plan(args):
    wanted = []
    for case, how in cases(args.all):
        if args.only and not re.search(args.only, str(case)):
            continue
        if case.engine not in args.engines:
            continue
        wanted.append((case, how))
    return wanted


def go(args):
    log, lines = FOLDER / "results.jsonl", []
    FOLDER.mkdir(parents=True, exist_ok=True)
    if args.resume and log.exists():
        lines = [json.loads(line) for line in log.read_text().splitlines()]
    elif log.exists():
        log.rename(log.with_suffix(".old"))
    have = {(r["net"], r["kind"], r["form"], r["engine"], r["batch"], r["threads"], r["round"]) for r in lines}
    pythons = {e: python_of(e) for e in args.engines}
    wrong = {}
    for round_ in range(args.rounds):
        for threads in args.threads:
            for batch in args.batches:
                for case, how in plan(args):
                    key = case.net, case.kind, case.form, case.engine, batch, threads, round_
                    if key in have or not pythons[case.engine]:
                        continue
                    case.path = case.path or made(case.net, how[0], **how[1])
                    if case.engine == "winnow" and "ort" in args.engines and case.path not in wrong:
                        wrong[case.path] = agrees(case)
                    bad = wrong.get(case.path) if case.engine == "winnow" else None
                    got = {"error": bad} if bad else measure(pythons[case.engine], case.engine, case.path, batch, threads,
                                                             args.seconds, case.length)
                    r = {**dict(zip(("net", "kind", "form", "engine", "batch", "threads", "round"), key)), **got}
                    lines.append(r)
                    with open(log, "a", encoding="utf-8") as f:
                        f.write(json.dumps(r) + "\n")
                    what = f"{got['p50_ms']:9.2f} ms" if "p50_ms" in got else got["error"]
                    print(f"round {round_ + 1}, {threads} thr, batch {batch}: {str(case):<52} {what}", flush=True)
    report(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="every net, form, batch of 1, 16 and 64, 1 and 2 threads: hours")
    parser.add_argument("--only", default="", metavar="REGEX", help="cases as --list prints them")
    parser.add_argument("--list", action="store_true", help="print the cases")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.8, help="of one measurement")
    parser.add_argument("--threads", type=int, nargs="+")
    parser.add_argument("--batches", type=int, nargs="+")
    parser.add_argument("--engines", nargs="+", choices=["winnow", *PEERS], default=["winnow", *PEERS])
    parser.add_argument("--resume", action="store_true", help="go on where results.jsonl ends")
    parser.add_argument("--report", action="store_true", help="only print what results.jsonl holds")
    args = parser.parse_args()
    args.threads = args.threads or ([1, 2] if args.all else [1])
    args.batches = args.batches or ([1, 16, 64] if args.all else [1])
    if args.list:
        print("\n".join(str(case) for case, _ in plan(args)))
    elif args.report:
        report([json.loads(line) for line in (FOLDER / "results.jsonl").read_text().splitlines()])
    else:
        go(args)


if __name__ == "__main__":
    main()
