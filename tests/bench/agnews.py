#!/usr/bin/env python3
"""AG News: a small BERT pruned, quantized and distilled from itself by `winnow sparsify`, and what it is worth then.

    build/venv/bin/python tests/bench/agnews.py [--shared DIR] [--work DIR] [--out FILE.json] [--only agnews]
                                                 [--masks 1x4 4x1 ...] [--types QATMatMul GELU Add LayerNorm]

DIR (default ../shared/data) holds models/bert_tiny_agnews_fp32.onnx, models/bert_uncased_vocab.txt, datasets/ag_news and
datasets/banking77. Four jobs, one thread each, one after the other:

  80 %, 90 %   of the weights of the encoder's linear layers, then INT8 (tables of embeddings too), taught by the base
  banking77    77 labels on the same body with a new last layer: from the dense base, and with the masks of the 80 % model
               held (sparse transfer), by the same schedule
  --masks      besides these, the AG News jobs at 90 % and 95 % for unstructured masks and each of these types
  --types      besides these, the first two with these types of operators quantized too (custom_quantizable_module_types)

Printed of each AG News job: accuracy of the base and of the result on all rows of val.csv by the engine that serves, their
paired difference with its two-sided 95 % interval (Wald on the rows that only one of the two gets right), the share of
zeros in the encoder's linear layers and in the whole file (tables of embeddings are most of it, and dense), bytes, and
ONNX Runtime beside the engine: rows on which both choose the same class. What a job leaves is kept in --work: one that is
there is not run again."""
import argparse
import csv
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime as ort

BUILD = pathlib.Path(os.environ.get("BUILD", "build"))
ENV = dict(os.environ, OMP_WAIT_POLICY="passive")
ENCODER = "re:bert.encoder.*weight"


def pruned(epochs, sparsity, mask="unstructured", types=()):
    """A steep ramp in the first half, the last epoch INT8, the base as teacher."""
    until = epochs - 1
    return "\n".join((
        "modifiers:", f"  - !EpochRangeModifier {{start_epoch: 0, end_epoch: {epochs}}}",
        f"  - !LearningRateFunctionModifier {{start_epoch: 0, end_epoch: {until}, lr_func: linear, init_lr: 5e-4, "
        "final_lr: 2e-5}",
        f"  - !LearningRateFunctionModifier {{start_epoch: {until}, end_epoch: {epochs}, lr_func: linear, init_lr: 5e-5, "
        "final_lr: 5e-6}",
        f"  - !GMPruningModifier {{start_epoch: 0, end_epoch: {epochs / 2}, update_frequency: 0.1, init_sparsity: 0.3, "
        f"final_sparsity: {sparsity}, params: ['{ENCODER}'], global_sparsity: true, mask_type: {mask}}}",
        "  - !DistillationModifier {hardness: 0.8, temperature: 2.0}",
        f"  - !QuantizationModifier {{start_epoch: {until}, disable_quantization_observer_epoch: {until + 0.5}, "
        f"exclude_module_types: [Tanh], custom_quantizable_module_types: [{', '.join(types)}]}}", ""))


def transfer(hold):
    """Forty epochs with a warm-up: with ten the dense start lags 5 points behind, with twenty 1.2; `hold`: masks are kept."""
    return "\n".join((
        "modifiers:", "  - !EpochRangeModifier {start_epoch: 0, end_epoch: 40}",
        "  - !LearningRateFunctionModifier {start_epoch: 0, end_epoch: 0.5, lr_func: linear, init_lr: 1e-4, "
        "final_lr: 1.5e-3}",
        "  - !LearningRateFunctionModifier {start_epoch: 0.5, end_epoch: 40, lr_func: linear, init_lr: 1.5e-3, "
        "final_lr: 1e-5}",
        "  - !SetWeightDecayModifier {start_epoch: 0, weight_decay: 0.01}",
        *([f"  - !ConstantPruningModifier {{start_epoch: 0, params: ['{ENCODER}']}}"] if hold else []), ""))


def run(*args):
    r = subprocess.run([str(a) for a in args], capture_output=True, text=True, env=ENV)
    if r.returncode:
        sys.exit(f"{' '.join(map(str, args))}: {r.stderr or r.stdout}")
    return r.stdout


def sparsify(work, name, base, data, val, text, recipe_text, columns, new_labels=False):
    out = work / name
    if (out / "model.onnx").exists():
        return out
    shutil.rmtree(out, ignore_errors=True)
    (work / f"{name}.yaml").write_text(recipe_text)
    run(BUILD / "winnow", "sparsify", "-m", base, "-d", data, "--validation", val, "-r", work / f"{name}.yaml",
        "--training", "batch=32", "--keep", "-o", out, "-j", work / f"{name}.json",
        *(f"--columns={c}" for c in columns), *(["--new-labels"] if new_labels else []))
    print(f"{name}: done", flush=True)
    return out


def zeros(model):
    """Share of zeros in the encoder's matrices and in all weights; the matrices are what MatMuls read."""
    g = onnx.load(model).graph
    value = {t.name: onnx.numpy_helper.to_array(t) for t in g.initializer}
    dequantized = {n.output[0]: n.input[0] for n in g.node if n.op_type == "DequantizeLinear"}
    encoder = [value[dequantized.get(n.input[1], n.input[1])] for n in g.node
               if n.op_type == "MatMul" and dequantized.get(n.input[1], n.input[1]) in value]
    weights = [v for v in value.values() if v.ndim == 2]
    share = lambda vs: float(sum((v == 0).sum() for v in vs) / sum(v.size for v in vs))
    return share(encoder), share(weights), int(sum(v.size for v in encoder)), int(sum(v.size for v in weights))


def onnxruntime_agrees(out, texts):
    """Rows on which ONNX Runtime (optimiser off) and the engine choose the same class, token ids by `winnow tokenize`."""
    plain = "\n".join(" ".join(t.split()) for t in texts)
    r = subprocess.run([BUILD / "winnow", "tokenize", "-m", "64", out], input=plain, capture_output=True, text=True)
    if r.returncode:
        sys.exit(r.stderr)
    rows = [[int(i) for i in line.split()] for line in r.stdout.splitlines() if line.strip()]
    opts = ort.SessionOptions()
    opts.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    s = ort.InferenceSession(str(out / "model.onnx"), opts, providers=["CPUExecutionProvider"])
    same = 0
    for ids in rows:
        x = np.array([ids], np.int64)
        feed = {"input_ids": x, "attention_mask": np.ones_like(x), "token_type_ids": np.zeros_like(x)}
        theirs = s.run(None, {i.name: feed[i.name] for i in s.get_inputs()})[0]
        np.savez(out / "one.npz", **feed)
        run(BUILD / "winnow", "run", out / "model.onnx", "-i", out / "one.npz", "-o", out / "got.npz")
        ours = np.load(out / "got.npz")
        same += int(np.argmax(ours[ours.files[0]]) == np.argmax(theirs))
    return same, len(rows)


def paired(base, out, rows, work):
    j = json.loads(run(BUILD / "winnow", "evaluate", base, out, rows, "-j", "-"))
    p, n = j["paired"], j["rows"]
    b, c = p["only_first"], p["only_second"]
    diff = (c - b) / n
    half = 1.96 * np.sqrt(max(b + c - (c - b) ** 2 / n, 0)) / n
    return {"rows": n, "base": j["models"][0]["accuracy"], "result": j["models"][1]["accuracy"], "difference": diff,
            "interval": [diff - half, diff + half]}


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--shared", default="../shared/data", type=pathlib.Path)
    ap.add_argument("--work", default="agnews-work", type=pathlib.Path)
    ap.add_argument("--out", type=pathlib.Path)
    ap.add_argument("--only", choices=["agnews", "banking77"])
    ap.add_argument("--masks", nargs="+", default=[], help="mask types besides unstructured")
    ap.add_argument("--types", nargs="+", default=[], help="operators quantized besides linear layers")
    ap.add_argument("--ort-rows", default=100, type=int)
    a = ap.parse_args()
    data, work, report = a.shared / "datasets", a.work, {}
    base = work / "base"
    base.mkdir(parents=True, exist_ok=True)
    shutil.copy(a.shared / "models/bert_tiny_agnews_fp32.onnx", base / "model.onnx")
    shutil.copy(a.shared / "models/bert_uncased_vocab.txt", base / "vocab.txt")
    (base / "labels.txt").write_text("0\n1\n2\n3\n")
    (base / "pipeline.yaml").write_text("task: text_classification\nmax_length: 64\nlabels: labels.txt\nsoftmax: true\n")
    news, bank = data / "ag_news", data / "banking77"
    with open(news / "val.csv", newline="") as f:
        texts = [f"{r['title']}. {r['description']}" for r in csv.DictReader(f)]
    jobs = [(0.8, 4, "", ()), (0.9, 5, "", ())]
    if a.masks:
        jobs += [(0.95, 5, "", ())] + [(s, e, mask, ()) for s, e in ((0.9, 5), (0.95, 5)) for mask in a.masks]
    if a.types:
        jobs += [(0.8, 4, "", a.types), (0.9, 5, "", a.types)]
    for sparsity, epochs, mask, types in jobs:
        name = "-".join([f"agnews{sparsity * 100:.0f}{mask}", *types])
        if a.only == "banking77" and sparsity == 0.9:
            continue
        out = sparsify(work, name, base, news / "train.csv", news / "val.csv", texts,
                       pruned(epochs, sparsity, mask or "unstructured", types),
                       ["text=title,description"])
        r = paired(base, out, out / "job/data/eval/rows.npz", work)
        r["zeros_encoder"], r["zeros_all"], r["n_encoder"], r["n_all"] = zeros(out / "model.onnx")
        r["bytes"], r["base_bytes"] = ((d / "model.onnx").stat().st_size for d in (out, base))
        r["ort_same"], r["ort_rows"] = onnxruntime_agrees(out, texts[:a.ort_rows])
        report[name] = r
        print(f"{name}: {100 * r['base']:.2f} % -> {100 * r['result']:.2f} %, difference {100 * r['difference']:+.2f} points "
              f"[{100 * r['interval'][0]:+.2f}, {100 * r['interval'][1]:+.2f}] on {r['rows']} rows; zeros: "
              f"{100 * r['zeros_encoder']:.1f} % of {r['n_encoder']} encoder weights, {100 * r['zeros_all']:.1f} % of all "
              f"{r['n_all']}; {r['base_bytes'] / 1e6:.1f} -> {r['bytes'] / 1e6:.1f} MB; as ONNX Runtime on "
              f"{r['ort_same']} of {r['ort_rows']}", flush=True)
    if a.only != "agnews":
        for name, start, hold in (("bank-dense", base, False), ("bank-sparse", work / "agnews80", True)):
            out = sparsify(work, name, start, bank / "train.csv", bank / "test.csv", texts, transfer(hold),
                           ["text=text", "label=category"], new_labels=True)
            j = json.loads(run(BUILD / "winnow", "evaluate", out, out / "job/data/eval/rows.npz", "-j", "-"))
            report[name] = {"rows": j["rows"], "accuracy": j["models"][0]["accuracy"]}
            print(f"{name}: {100 * report[name]['accuracy']:.2f} % on {j['rows']} rows", flush=True)
    if a.out:
        a.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
