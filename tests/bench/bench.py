#!/usr/bin/env python3
"""winnow beside ONNX Runtime: the same nets, one process per measurement, taken in turns, so that a slow moment of the
machine hits everyone. Prints medians and bests over all rounds, and the ratios; `--json FILE` keeps the numbers.

The ResNet-50 has made-up weights (nets.py): times depend on shapes and zeros, not on what a net knows. ONNX Runtime's
int8 runs the same quantized file; it does not profit from zeros. MobileNetV2 comes from ../shared/data, when there."""
import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
DATA = pathlib.Path("../shared/data/models")
WINNOW = pathlib.Path(os.environ.get("BUILD", "build")) / "winnow"


def peer(path, threads, seconds):
    """In a process of its own: time ONNX Runtime."""
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    x = session.get_inputs()[0]
    shape = [d if isinstance(d, int) else 1 for d in x.shape]
    feed = {x.name: np.random.default_rng(1).standard_normal(shape).astype(np.float32)}
    session.run(None, feed)
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        session.run(None, feed)
        times.append((time.perf_counter() - start) * 1e3)
    print(json.dumps({"best_ms": min(times), "p50_ms": statistics.median(times), "version": ort.__version__}))


def measure(engine, path, threads, seconds):
    if engine == "winnow":
        command = [WINNOW, "benchmark", path, "-n", str(threads), "-t", str(seconds), "-j", "-"]
    else:
        command = [sys.executable, __file__, "--peer", path, str(threads), str(seconds)]
    p = subprocess.run(command, capture_output=True, text=True)
    if p.returncode:
        sys.exit(f"{engine} {path}: {p.stderr.strip()}")
    return json.loads(p.stdout)


def make_nets(folder):
    """Name, engine, file, and what it is compared with."""
    sys.path.insert(0, str(HERE))
    import nets

    cases = []

    def net(name, path, peers, **kind):
        if kind:
            nets.resnet50(path, **{k: v for k, v in kind.items() if k != "made"})
        for engine in peers:
            cases.append((name, engine, str(path)))

    net("ResNet-50 f32 dense", folder / "f32.onnx", ["winnow", "ort"], int8=False)
    net("ResNet-50 f32 95 %", folder / "f32s.onnx", ["winnow"], sparsity=0.95)
    net("ResNet-50 f32 95 % 4x1", folder / "f32_4x1.onnx", ["winnow"], sparsity=0.95, block="4x1")
    net("ResNet-50 int8 dense", folder / "q8.onnx", ["winnow", "ort"], int8=True)
    net("ResNet-50 int8 95 %", folder / "q8s.onnx", ["winnow"], int8=True, sparsity=0.95)
    for block in nets.BLOCKS:
        net(f"ResNet-50 int8 95 % {block}", folder / f"q8_{block}.onnx", ["winnow"], int8=True, sparsity=0.95, block=block)
    mobile = [DATA / "mobilenetv2_1.0_224_fp32.onnx", DATA / "mobilenetv2_1.0_224_qdq.onnx"]
    if all(path.is_file() for path in mobile):
        net("MobileNetV2 f32", mobile[0], ["winnow", "ort"])
        net("MobileNetV2 int8", mobile[1], ["winnow", "ort"])
    else:
        print("left out: MobileNetV2 (../shared/data is not there)")
    return cases


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


def table(rows, threads):
    """Lines for one number of threads. Ratios: ONNX Runtime's time over winnow's, medians and bests."""
    def of(name, engine, what):
        return rows.get((name, engine, threads), {}).get(what)

    print(f"\n{threads} thread{'s' if threads > 1 else ''}, one image         median ms   best ms   "
          "x ORT f32 (best)   x ORT int8 (best)")
    for name, engine, t in rows:
        if t != threads:
            continue
        net = name.split()[0]
        text = f"{name + (' (ORT)' if engine == 'ort' else ''):<30}{of(name, engine, 'median'):10.2f}{of(name, engine, 'best'):10.2f}"
        for kind in ("f32", "int8"):
            base = f"{net} {kind}" + (" dense" if net == "ResNet-50" else "")
            if engine == "winnow" and of(base, "ort", "median"):
                median = of(base, "ort", "median") / of(name, engine, "median")
                best = of(base, "ort", "best") / of(name, engine, "best")
                text += f"     {median:6.2f} ({best:5.2f})"
        print(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=0.8, help="of one measurement")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", default="", help="part of the names to measure")
    parser.add_argument("--json", help="write all numbers to this file")
    parser.add_argument("--peer", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        peer(args.peer[0], int(args.peer[1]), float(args.peer[2]))
        return
    with tempfile.TemporaryDirectory() as tmp:
        cases = [c for c in make_nets(pathlib.Path(tmp)) if args.only in c[0]]
        found, versions = {}, {}
        for _ in range(args.rounds):
            for threads in args.threads:
                for name, engine, path in cases:
                    got = measure(engine, path, threads, args.seconds)
                    found.setdefault((name, engine, threads), []).append(got)
                    versions[engine] = got.get("version", versions.get(engine, ""))
                    versions["isa"] = got.get("isa", versions.get("isa"))
    rows = {key: {"median": statistics.median(g["p50_ms"] for g in all_), "best": min(g["best_ms"] for g in all_)}
            for key, all_ in found.items()}
    winnow = subprocess.run([WINNOW, "--version"], capture_output=True, text=True).stdout.strip() or "winnow"
    print(f"{cpu()}\n{winnow} ({versions['isa']} kernels), ONNX Runtime {versions.get('ort', '')}; {args.rounds} rounds of "
          f"{args.seconds} s in turns, one process each; load {os.getloadavg()[0]:.1f}")
    for threads in args.threads:
        table(rows, threads)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            json.dump({"cpu": cpu(), "winnow": winnow, "isa": versions["isa"], "onnxruntime": versions.get("ort"),
                       "results": [{"net": k[0], "engine": k[1], "threads": k[2], **v,
                                    "rounds": [{"p50_ms": g["p50_ms"], "best_ms": g["best_ms"]} for g in found[k]]}
                                   for k, v in rows.items()]}, f, indent=1)


if __name__ == "__main__":
    main()
