#!/usr/bin/env python3
"""Fashion-MNIST from nothing to sparse INT8 and on to other data, by `winnow sparsify`, beside the same jobs in PyTorch.

    build/venv/bin/pip install scikit-learn          (for its digits)
    build/venv/bin/python tests/bench/fashion.py [--data DIR] [--seeds N] [--torch] [--keep DIR] [--out FILE.json]
                                                 [--masks 1x4 4x1 ...]

DIR holds the four IDX files (default ../shared/data/datasets/fashion-mnist). For every seed a dense network of 0.3 M
parameters is trained (BASE epochs), then three jobs start from it, each EXTRA further epochs: dense, 90 % and 95 % pruned,
both with INT8 in the last epoch. Printed of each: accuracy on the 10 000 test pictures of the float master and of the
exported model by winnow, of the latter by ONNX Runtime (optimiser off), the share of rows on which the two choose the same
class; the trainer's own (fake-quantized) accuracy and its agreement with the exported model on the rows it set aside; CPU
seconds by epoch. --torch (Debian's python3-torch under /usr/bin/python3): the same jobs there from the same dense network,
dense tensors times masks as every PyTorch trainer does it, one thread like ours.

Then sparse transfer: the first seed's dense, 90 % and 95 % networks are trained on with masks held (ConstantPruning, INT8 in
the last epoch) on scikit-learn's digits enlarged to 28x28 and, where it is there, on cifar10_sample in grey: accuracy on
rows set aside, and whether every mask stayed as it was.

--masks: instead of transfer and PyTorch, the sparse jobs once more for each of these mask types, in the same epochs: what
patterns that run faster cost in accuracy."""
import argparse
import gzip
import json
import os
import pathlib
import resource
import shutil
import struct
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime as ort

BUILD = pathlib.Path(os.environ.get("BUILD", "build"))
BASE, EXTRA = 8, 6
TRAINING = ["--training", "batch=128", "--training", "flip=true"]
WHAT = (("dense", 0), ("90 % INT8", 0.9), ("95 % INT8", 0.95))


def jobs(masks):
    """(what, sparsity, mask type)"""
    more = [(f"{what} {mask}", sparsity, mask) for what, sparsity in WHAT if sparsity for mask in masks]
    return [(what, sparsity, "unstructured") for what, sparsity in WHAT] + more


def name_of(what):
    return what.replace(" % INT8", "").replace(" ", "-")


def schedule(epochs, lr, quant=False, sparsity=0, hold=False, mask="unstructured"):
    """The recipe: cosine over the float epochs; a steep ramp in the first 40 % of them, or masks held; INT8 in the last."""
    until = epochs - 1 if quant else epochs
    lines = ["modifiers:", f"  - !EpochRangeModifier {{start_epoch: 0, end_epoch: {epochs}}}",
             f"  - !LearningRateFunctionModifier {{start_epoch: 0, end_epoch: {until}, lr_func: cosine, "
             f"init_lr: {lr}, final_lr: {lr / 200}}}",
             "  - !SetWeightDecayModifier {start_epoch: 0, weight_decay: 0.0005}"]
    if hold:
        lines.append("  - !ConstantPruningModifier {start_epoch: 0, params: [__ALL_PRUNABLE__]}")
    if sparsity:
        lines.append(f"  - !GMPruningModifier {{start_epoch: 0, end_epoch: {until * 0.4:g}, update_frequency: 0.1, "
                     f"init_sparsity: 0.5, final_sparsity: {sparsity}, params: [__ALL_PRUNABLE__], "
                     f"global_sparsity: true, mask_type: {mask}}}")
    if quant:
        lines += [f"  - !LearningRateFunctionModifier {{start_epoch: {until}, end_epoch: {epochs}, lr_func: cosine, "
                  f"init_lr: {lr / 20}, final_lr: {lr / 1000}}}",
                  f"  - !SetWeightDecayModifier {{start_epoch: {until}, weight_decay: 0.00001}}",
                  f"  - !QuantizationModifier {{start_epoch: {until}}}"]
    return "\n".join(lines) + "\n"


def sparsify(base, data, recipe, out, seed, *options):
    """One job. Returns result.json's metrics, with "by_epoch": CPU seconds of each epoch (set-up is in the first)."""
    path = out.with_suffix(".yaml")
    path.write_text(recipe)
    p = subprocess.run([BUILD / "winnow", "sparsify", "--model", base, "--data", data, "--recipe", path, "-o", out, "--seed",
                        str(seed), "--keep", "--json", out.with_suffix(".json"), *TRAINING, *options],
                       capture_output=True, text=True)
    if p.returncode:
        sys.exit(f"{out.name}: {p.stdout}{p.stderr}")
    report = json.loads((out / "job/work/report.json").read_text())
    at = [0] + [e["cpu_s"] for e in report["evals"]]
    score = json.loads(out.with_suffix(".json").read_text())["scores"]["models"][-1]
    shutil.rmtree(out / "job")
    return report["metrics"] | {"by_epoch": [round(b - a, 1) for a, b in zip(at, at[1:])],
                                "eval_accuracy": score["accuracy"]}


# ---- scores ----

def load(data, which):
    images = gzip.open(data / f"{which}-images-idx3-ubyte.gz").read()
    labels = gzip.open(data / f"{which}-labels-idx1-ubyte.gz").read()
    return (np.frombuffer(images, np.uint8)[16:].reshape(-1, 1, 28, 28), np.frombuffer(labels, np.uint8)[8:])


def winnow_scores(model, x, tmp):
    np.savez(f"{tmp}/x.npz", pixels=x)
    subprocess.run([BUILD / "winnow", "run", model, "-i", f"{tmp}/x.npz", "-o", f"{tmp}/y.npz"], check=True)
    y = np.load(f"{tmp}/y.npz")
    return y[y.files[0]]


def ort_scores(model, x):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    s = ort.InferenceSession(str(model), options)
    return np.concatenate([s.run(None, {"pixels": x[i:i + 500]})[0] for i in range(0, len(x), 500)])


def masks(model):
    """{name: where it is zero} of the convolutions' weights that are pruned."""
    g = onnx.load(model).graph
    weights = {n.input[1] for n in g.node if n.op_type == "Conv"}
    zeros = {t.name: onnx.numpy_helper.to_array(t) == 0 for t in g.initializer if t.name in weights}
    return {name: z for name, z in zeros.items() if z.mean() > 0.01}


# ---- Fashion-MNIST ----

def one_seed(seed, a, x, y, dir, rows):
    fresh, base = dir / f"fresh{seed}", dir / f"base{seed}"
    fresh.mkdir()
    subprocess.run([BUILD / "demo/net", fresh / "model.onnx", str(seed)], check=True)
    for f in ("labels.txt", "pipeline.yaml"):
        shutil.copy(f"demo/base/{f}", fresh / f)
    first = sparsify(fresh, a.data, schedule(BASE, 0.1), base, seed, "--new-labels")
    print(f"seed {seed}  dense, {BASE} epochs from nothing: CPU s by epoch {first['by_epoch']}", flush=True)
    rows.append({"seed": seed, "what": "base", **first})
    for what, sparsity, mask in jobs(a.masks):
        out = dir / f"{name_of(what)}-{seed}"
        m = sparsify(base, a.data, schedule(EXTRA, 0.1, bool(sparsity), sparsity, mask=mask), out, seed)
        ours, theirs = winnow_scores(out / "model.onnx", x, dir), ort_scores(out / "model.onnx", x)
        master = winnow_scores(out / "master.onnx", x, dir)
        m |= {"seed": seed, "what": what, "winnow": float((ours.argmax(1) == y).mean()),
              "master": float((master.argmax(1) == y).mean()), "onnxruntime": float((theirs.argmax(1) == y).mean()),
              "same": float((ours.argmax(1) == theirs.argmax(1)).mean())}
        rows.append(m)
        print(f"seed {seed}  {what:14} sparsity {m['sparsity']:.4f}  test: float master {m['master']:.4f}, exported "
              f"{m['winnow']:.4f}, in ONNX Runtime {m['onnxruntime']:.4f} (same class {m['same']:.4f})  set aside: trainer "
              f"{m['train_accuracy']:.4f}, agreement {m['agreement']:.4f}  CPU s by epoch {m['by_epoch']}", flush=True)


def torch_jobs(a, dir, rows):
    """The same jobs in PyTorch from the first seed's dense network; our CPU time over its, epoch by epoch."""
    g = onnx.load(dir / "base1/master.onnx").graph
    held = {t.name: onnx.numpy_helper.to_array(t) for t in g.initializer}
    wanted = [i for n in g.node if n.op_type in ("Conv", "BatchNormalization", "Gemm") for i in n.input[1:]]
    np.savez(dir / "base.npz", **{f"{k:03}": held[name] for k, name in enumerate(wanted)})
    for what, sparsity in WHAT:
        p = subprocess.run(["/usr/bin/python3", "tests/bench/fashion_torch.py", a.data, dir / "base.npz", str(sparsity),
                            str(EXTRA)], capture_output=True, text=True)
        if p.returncode:
            sys.exit(p.stderr)
        theirs = json.loads(p.stdout)
        ours = np.mean([r["by_epoch"] for r in rows if r.get("what") == what], axis=0)
        ratio = [round(float(o / t), 2) for o, t in zip(ours, theirs["by_epoch"])]
        rows.append({"what": f"torch {what}", **theirs, "ratio": ratio})
        print(f"PyTorch {theirs['version']} {what:10} accuracy {theirs['accuracy']:.4f}  CPU s by epoch "
              f"{theirs['by_epoch']}; ours over its {ratio}, in all {sum(ours) / sum(theirs['by_epoch']):.2f}", flush=True)


# ---- transfer ----

def digits_as_idx(dir):
    """scikit-learn's 1 797 digits, 8x8 in 17 greys, enlarged by repetition and a border to 28x28, as an IDX pair."""
    from sklearn.datasets import load_digits
    d = load_digits()
    big = np.pad(np.repeat(np.repeat((d.images * 255 / 16).astype(np.uint8), 3, 1), 3, 2), ((0, 0), (2, 2), (2, 2)))
    dir.mkdir()
    (dir / "digits-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, len(big), 28, 28) + big.tobytes())
    (dir / "digits-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, len(big)) +
                                                   d.target.astype(np.uint8).tobytes())
    return dir


def transfer(a, dir, rows):
    data = {"digits": (digits_as_idx(dir / "digits"), 20, "flip=false")}
    cifar = a.data.parent / "cifar10_sample"
    if cifar.exists():
        data["cifar10_sample"] = (cifar, 60, "flip=true")
    else:
        print(f"left out: {cifar} is not there")
    for name, (path, epochs, flip) in data.items():
        for what, sparsity in WHAT:
            base, out = dir / f"{name_of(what)}-1", dir / f"{name}-{name_of(what)}"
            lr = 0.15 if sparsity else 0.05  # the few weights that are left have to move further
            m = sparsify(base, path, schedule(epochs, lr, bool(sparsity), hold=bool(sparsity)), out, 1, "--new-labels",
                         "--eval-share", "0.2", "--training", "batch=32", "--training", flip)
            before, after = masks(base / "master.onnx"), masks(out / "master.onnx")
            held = sparsity and len(before) == len(after) and all(
                (b == c).all() for b, c in zip(before.values(), after.values()))
            share = [float(np.mean(np.concatenate([z.ravel() for z in ms.values()]))) if ms else 0
                     for ms in (before, after)]
            rows.append({"what": f"{what} -> {name}", **m, "before": share[0], "after": share[1], "held": bool(held)})
            print(f"{name:14} from {what:10} accuracy {m['eval_accuracy']:.4f} on rows set aside  " +
                  (f"sparsity of pruned layers {share[0]:.4f} before, {share[1]:.4f} after, masks "
                   f"{'as they were' if held else 'CHANGED'}  " if sparsity else "") +
                  f"{m['cpu_s']:.0f} CPU s", flush=True)


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--data", type=pathlib.Path, default=pathlib.Path("../shared/data/datasets/fashion-mnist"))
    a.add_argument("--seeds", type=int, default=3)
    a.add_argument("--torch", action="store_true")
    a.add_argument("--masks", nargs="+", default=[], help="mask types besides unstructured")
    a.add_argument("--keep", type=pathlib.Path, help="where the models stay (default: nowhere)")
    a.add_argument("--out", type=pathlib.Path)
    a = a.parse_args()
    x, y = load(a.data, "t10k")
    x = ((x / np.float32(255) - np.float32(0.2)) / np.float32(0.35)).astype(np.float32)  # demo/base/pipeline.yaml
    cpu = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith(("model name", "flags"))][:2]
    rows = [{"cpu": cpu[0], "flags": [f for f in cpu[1].split() if f.startswith(("avx", "fma"))]}]
    print(cpu[0], *rows[0]["flags"])
    with tempfile.TemporaryDirectory() as tmp:
        dir = a.keep or pathlib.Path(tmp)
        dir.mkdir(exist_ok=True)
        for seed in range(1, a.seeds + 1):
            one_seed(seed, a, x, y, dir, rows)
        done = [what for what, _, _ in jobs(a.masks)]
        mean = {what: np.mean([r["winnow"] for r in rows if r.get("what") == what]) for what in done}
        for what in done[1:]:
            print(f"{what}: {mean[what]:.4f}, that is {100 * mean[what] / mean['dense']:.2f} % of the dense "
                  f"{mean['dense']:.4f} (mean of {a.seeds})")
        if a.torch and not a.masks:
            torch_jobs(a, dir, rows)
        if not a.masks:
            transfer(a, dir, rows)
    print(f"{resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime:.0f} CPU s")
    if a.out:
        a.out.write_text(json.dumps(rows, indent=1))


main()
