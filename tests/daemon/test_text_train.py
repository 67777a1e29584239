"""test_text_train.py: a small model of text pruned, quantized and distilled by `winnow sparsify`, its result beside ONNX
Runtime; new labels on its body; recipes that are refused. Prints TAP-like lines."""
import csv
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnxruntime as ort

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import text_rig as rig  # noqa: E402
from common import check, end  # noqa: E402

BUILD = pathlib.Path(os.environ.get("BUILD", "build"))
ENV = dict(os.environ, OMP_WAIT_POLICY="passive")


def winnow(*args):
    return subprocess.run([BUILD / "winnow", *map(str, args)], capture_output=True, text=True, timeout=300, env=ENV)


def put_base(folder):
    folder.mkdir()
    (folder / "model.onnx").write_bytes(rig.model("logits"))
    (folder / "vocab.txt").write_text(rig.vocab_txt())
    (folder / "labels.txt").write_text("bad\ngood\n")
    (folder / "pipeline.yaml").write_text("task: text_classification\nmax_length: 48\nlabels: labels.txt\nsoftmax: true\n")
    return folder


def put_rows(path, rows):
    with open(path, "w", newline="") as f:
        w = csv.writer(f)
        w.writerow(["label", "text"])
        w.writerows(rows)
    return path


def recipe(path, lines):
    path.write_text("modifiers:\n" + "".join(f"  - {line}\n" for line in lines))
    return path


TRAIN = ["!EpochRangeModifier {start_epoch: 0, end_epoch: 8}",
         "!LearningRateFunctionModifier {start_epoch: 0, end_epoch: 8, lr_func: linear, init_lr: 0.02, final_lr: 0.0005}"]
QUANT = ["!QuantizationModifier {start_epoch: 6, disable_quantization_observer_epoch: 7,"
         " exclude_module_types: [LayerNorm, Tanh]}"]


def both_engines(out, texts):
    """Logits of every text by ONNX Runtime (optimiser off) and by winnow."""
    opts = ort.SessionOptions()
    opts.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    s = ort.InferenceSession(str(out / "model.onnx"), opts, providers=["CPUExecutionProvider"])
    theirs, ours = [], []
    for t in texts:
        ids, types = rig.ids_of(t, max_length=48)
        feed = {"input_ids": np.array([ids], np.int64), "token_type_ids": np.array([types], np.int64),
                "attention_mask": np.ones((1, len(ids)), np.int64)}
        np.savez(out / "x.npz", **feed)
        theirs.append(s.run(None, feed)[0][0])
        p = winnow("run", out / "model.onnx", "-i", out / "x.npz", "-o", out / "y.npz")
        if p.returncode:
            sys.exit(p.stderr)
        y = np.load(out / "y.npz")
        ours.append(y[y.files[0]][0])
    return np.array(theirs), np.array(ours)


def zeros(model):
    import onnx
    import onnx.numpy_helper as nh
    value = {t.name: nh.to_array(t) for t in onnx.load(model).graph.initializer}
    w = [v for k, v in value.items() if k.startswith("dense.weight") and v.ndim == 2]
    return float((w[0] == 0).mean()), w[0].dtype, {k: v.dtype for k, v in value.items() if k.startswith("word.weight") and v.ndim == 2}


def test_quantized(dir_, base, data):
    r = recipe(dir_ / "q.yaml", TRAIN + QUANT + [
        "!GMPruningModifier {start_epoch: 0, end_epoch: 4, update_frequency: 0.25, init_sparsity: 0.2, final_sparsity: 0.75,"
        " params: __ALL_PRUNABLE__}", "!DistillationModifier {hardness: 0.3, temperature: 2.0}"])
    out = dir_ / "q"
    p = winnow("sparsify", "-m", base, "-d", data, "-r", r, "-o", out, "--keep", "--json", dir_ / "q.json")
    check("a text model is pruned, distilled and quantized", p.returncode == 0, p)
    if p.returncode:
        return
    j = json.loads((dir_ / "q.json").read_text())
    share, dtype, tables = zeros(out / "model.onnx")
    check("the matrix has 75 % zeros and is int8", abs(share - 0.75) < 0.02 and dtype == np.int8, (share, dtype))
    check("the table of words is int8 too", list(tables.values()) == [np.dtype(np.int8)], tables)
    check("the master is f32 with the same zeros", abs(zeros(out / "master.onnx")[0] - 0.75) < 0.02)
    e = winnow("evaluate", base, out, out / "job/data/eval/rows.npz", "-j", "-")
    scores = json.loads(e.stdout)["models"]
    check("it has learned what the base could not say", scores[1]["accuracy"] > 0.9 > scores[0]["accuracy"], (scores, j))
    theirs, ours = both_engines(out, [t for _, t in rig.sentences(40, seed=9)])
    check("ONNX Runtime and winnow give the same scores", np.abs(theirs - ours).max() < 0.02 * np.abs(theirs).max(),
          np.abs(theirs - ours).max())
    check("and choose the same classes", (theirs.argmax(1) == ours.argmax(1)).mean() >= 0.97)


def test_twice(dir_, base, data):
    """Same seed, data and recipe: the same file, byte for byte."""
    r = recipe(dir_ / "two.yaml", ["!EpochRangeModifier {start_epoch: 0, end_epoch: 1}",
                                   "!SetLearningRateModifier {start_epoch: 0, learning_rate: 0.01}"])
    files = []
    for i in range(2):
        out = dir_ / f"two{i}"
        p = winnow("sparsify", "-m", base, "-d", data, "-r", r, "-o", out)
        files.append((out / "model.onnx").read_bytes() if p.returncode == 0 else p.stderr)
    check("twice the same job gives the same bytes", isinstance(files[0], bytes) and files[0] == files[1], files[0][:200])
    p = winnow("sparsify", "-m", base, "-d", data, "-r", r, "-o", dir_ / "sgd", "--training", "optimizer=sgd")
    check("optimizer=sgd is another training", p.returncode == 0 and (dir_ / "sgd/model.onnx").read_bytes() != files[0], p)
    p = winnow("sparsify", "-m", base, "-d", data, "-r", r, "-o", dir_ / "adam", "--training", "optimizer=adam")
    check("an unknown optimizer is refused by name", p.returncode != 0 and "optimizer" in p.stderr and "adam" in p.stderr, p)


def test_new_labels(dir_, base):
    rows = [(f"{label}-{len(t.split()) % 3}", t) for label, t in rig.sentences(900, seed=4)]
    data = put_rows(dir_ / "six.csv", rows)
    r = recipe(dir_ / "six.yaml", TRAIN)
    p = winnow("sparsify", "-m", base, "-d", data, "-r", r, "-o", dir_ / "six", "--new-labels")
    labels = (dir_ / "six/labels.txt").read_text().split() if p.returncode == 0 else []
    check("six new labels on the same body", len(labels) == 6 and labels[0].startswith("bad"), p)
    r = recipe(dir_ / "kd.yaml", TRAIN + ["!DistillationModifier {hardness: 0.5}"])
    p = winnow("sparsify", "-m", base, "-d", data, "-r", r, "-o", dir_ / "kd", "--new-labels")
    check("the base cannot teach other labels: both numbers are said",
          p.returncode != 0 and "2 classes" in p.stderr and "6" in p.stderr, p)
    if labels:
        p = winnow("sparsify", "-m", base, "-d", data, "-r", r, "-o", dir_ / "kd2", "--new-labels", "--teacher",
                   dir_ / "six/model.onnx")
        check("a teacher with the same labels can", p.returncode == 0, p)


def test_level(dir_, base, data):
    """The one dial: a schedule of AdamW, the base as teacher."""
    p = winnow("sparsify", "-m", base, "-d", data, "--level", "0.5", "--epochs", "6", "-o", dir_ / "level", "--keep")
    check("a level works on texts", p.returncode == 0, p)
    check("the teacher's part of the loss is named", "by the labels alone, without the teacher)" in p.stdout, p.stdout[-600:])
    if p.returncode == 0:
        e = winnow("evaluate", base, dir_ / "level", dir_ / "level/job/data/eval/rows.npz", "-j", "-")
        before, after = (m["accuracy"] for m in json.loads(e.stdout)["models"])
        check("and the result is no worse than the base", after >= before - 0.02, (before, after))
        check("pruned to 80 %", abs(zeros(dir_ / "level/model.onnx")[0] - 0.8) < 0.03)


def test_refused(dir_, base, data):
    for name, line, words in (
            ("obs", "!OBSPruningModifier {start_epoch: 0, end_epoch: 2, params: [dense.weight]}", "OBSPruning"),
            ("name", "!ConstantPruningModifier {start_epoch: 0, params: [dense.wieght]}", "dense.weight")):
        r = recipe(dir_ / f"{name}.yaml", TRAIN + [line])
        p = winnow("sparsify", "-m", base, "-d", data, "-r", r, "-o", dir_ / name)
        check(f"a recipe is refused at its line: {name}", p.returncode != 0 and ".yaml:4" in p.stderr and words in p.stderr, p)


def main():
    with tempfile.TemporaryDirectory() as tmp:
        dir_ = pathlib.Path(tmp)
        base = put_base(dir_ / "base")
        data = put_rows(dir_ / "rows.csv", list(rig.sentences(1200)))
        test_quantized(dir_, base, data)
        test_twice(dir_, base, data)
        test_new_labels(dir_, base)
        test_level(dir_, base, data)
        test_refused(dir_, base, data)
    end()


if __name__ == "__main__":
    main()
