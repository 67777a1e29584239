#!/usr/bin/env python3
"""Fashion-MNIST from nothing to sparse INT8, by `winnow sparsify`, beside the same job in PyTorch.

    build/venv/bin/python tests/bench/fashion.py [--data DIR] [--seeds N] [--epochs E] [--torch] [--out FILE.json]

DIR holds the four IDX files (default ../shared/data/datasets/fashion-mnist). For every seed: a dense network is trained
(E epochs), then three jobs start from it with the same five further epochs: dense, 90 % and 95 % pruned + INT8. Printed:
accuracy on the 10 000 test pictures of each by winnow and by ONNX Runtime (optimiser off), agreement of the two, CPU
seconds of each job. With --torch (Debian's python3-torch under /usr/bin/python3) the 90 % and 95 % jobs are done there
too, dense tensors times masks as every PyTorch trainer does it, one thread like ours."""
import argparse
import gzip
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import onnxruntime as ort

BUILD = pathlib.Path(os.environ.get("BUILD", "build"))
EXTRA = 5  # epochs after the dense ones


def schedule(epochs, lr, quant, sparsity):
    """The recipe: cosine over the float epochs; for sparse ones a steep ramp in the first 40 %, INT8 in the last epoch."""
    until = epochs - 1 if quant else epochs
    lines = ["modifiers:", f"  - !EpochRangeModifier {{start_epoch: 0, end_epoch: {epochs}}}",
             f"  - !LearningRateFunctionModifier {{start_epoch: 0, end_epoch: {until}, lr_func: cosine, "
             f"init_lr: {lr}, final_lr: 0.0005}}",
             "  - !SetWeightDecayModifier {start_epoch: 0, weight_decay: 0.0005}"]
    if sparsity:
        lines.append(f"  - !GMPruningModifier {{start_epoch: 0, end_epoch: {until * 0.4:g}, update_frequency: 0.1, "
                     f"init_sparsity: 0.5, final_sparsity: {sparsity}, params: [__ALL_PRUNABLE__], "
                     "global_sparsity: true}")
    if quant:
        lines += [f"  - !LearningRateFunctionModifier {{start_epoch: {until}, end_epoch: {epochs}, lr_func: cosine, "
                  "init_lr: 0.005, final_lr: 0.0001}",
                  f"  - !SetWeightDecayModifier {{start_epoch: {until}, weight_decay: 0.00001}}",
                  f"  - !QuantizationModifier {{start_epoch: {until}}}"]
    return "\n".join(lines) + "\n"


def cpu_of(command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    p = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if p.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{p.stdout}{p.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, p.stdout


def sparsify(base, data, recipe, out, seed, options=()):
    path = out.with_suffix(".yaml")
    path.write_text(recipe)
    cpu, _ = cpu_of([BUILD / "winnow", "sparsify", "--model", base, "--data", data, "--recipe", path, "-o", out, "--seed",
                     seed, "--threads", 1, *options])
    return cpu


def load(data, which):
    images = gzip.open(data / f"{which}-images-idx3-ubyte.gz").read()
    labels = gzip.open(data / f"{which}-labels-idx1-ubyte.gz").read()
    return (np.frombuffer(images, np.uint8)[16:].reshape(-1, 1, 28, 28), np.frombuffer(labels, np.uint8)[8:])


def winnow_scores(model, x, tmp):
    name = ort.InferenceSession(str(model)).get_inputs()[0].name
    np.savez(f"{tmp}/x.npz", **{name: x})
    subprocess.run([BUILD / "winnow", "run", model, "-i", f"{tmp}/x.npz", "-o", f"{tmp}/y.npz"], check=True)
    y = np.load(f"{tmp}/y.npz")
    return y[y.files[0]]


def ort_scores(model, x):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    s = ort.InferenceSession(str(model), options)
    name = s.get_inputs()[0].name
    return np.concatenate([s.run(None, {name: x[i:i + 500]})[0] for i in range(0, len(x), 500)])


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--data", type=pathlib.Path, default=pathlib.Path("../shared/data/datasets/fashion-mnist"))
    a.add_argument("--seeds", type=int, default=3)
    a.add_argument("--epochs", type=int, default=8)
    a.add_argument("--torch", action="store_true")
    a.add_argument("--out")
    a = a.parse_args()
    x, y = load(a.data, "t10k")
    xf = ((x / np.float32(255) - np.float32(0.2)) / np.float32(0.35)).astype(np.float32)  # demo/base/pipeline.yaml
    rows = []
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        for seed in range(1, a.seeds + 1):
            base = tmp / f"base{seed}"
            base.mkdir()
            subprocess.run([BUILD / "demo/net", base / "model.onnx", str(seed)], check=True)
            for f in ("labels.txt", "pipeline.yaml"):
                shutil.copy(f"demo/base/{f}", base / f)
            dense = tmp / f"dense{seed}"
            cpu = {"base": sparsify(base, a.data, schedule(a.epochs, 0.1, False, 0), dense, seed,
                                    ["--new-labels"])}
            for name, sparsity in (("dense+5", 0), ("90 % INT8", 0.9), ("95 % INT8", 0.95)):
                out = tmp / f"{name.split()[0]}-{seed}"
                cpu[name] = sparsify(dense, a.data, schedule(EXTRA, 0.1, bool(sparsity), sparsity), out, seed)
                ours, theirs = winnow_scores(out / "model.onnx", xf, tmp), ort_scores(out / "model.onnx", xf)
                report = json.loads((out / "report.json").read_text()) if (out / "report.json").exists() else {}
                rows.append({"seed": seed, "what": name, "winnow": float((ours.argmax(1) == y).mean()),
                             "onnxruntime": float((theirs.argmax(1) == y).mean()),
                             "agreement": float((ours.argmax(1) == theirs.argmax(1)).mean()), "cpu_s": cpu[name],
                             "report": report})
                print(f"seed {seed}  {name:10} winnow {rows[-1]['winnow']:.4f}  ONNX Runtime "
                      f"{rows[-1]['onnxruntime']:.4f}  agree {rows[-1]['agreement']:.4f}  {cpu[name]:.0f} CPU s",
                      flush=True)
    mean = {n: np.mean([r["winnow"] for r in rows if r["what"] == n]) for n in ("dense+5", "90 % INT8", "95 % INT8")}
    for n in ("90 % INT8", "95 % INT8"):
        print(f"{n}: {mean[n]:.4f}, that is {100 * mean[n] / mean['dense+5']:.2f} % of the dense {mean['dense+5']:.4f} "
              f"(mean of {a.seeds})")
    if a.torch:
        for sparsity in (0.9, 0.95):
            cpu, text = cpu_of(["/usr/bin/python3", "tests/bench/fashion_torch.py", a.data, sparsity, EXTRA])
            ours = np.mean([r["cpu_s"] for r in rows if r["what"].startswith(f"{sparsity * 100:g} ")])
            print(f"PyTorch, {sparsity:g}: {text.strip()}; {cpu:.0f} CPU s, ours {ours:.0f}: {ours / cpu:.2f} of it")
            rows.append({"what": f"torch {sparsity}", "cpu_s": cpu, "text": text.strip()})
    if a.out:
        pathlib.Path(a.out).write_text(json.dumps(rows, indent=1))


main()
