#!/usr/bin/env python3
"""Language models through the engine.

  - bert_tiny_agnews of ../shared/data, f32 and dynamic int8, beside the stored references; the integer operators of the
    latter beside exact arithmetic in numpy's int64, bit for bit; the same of what ONNX Runtime's own quantizers and
    optimizer make of the f32 file
  - all-MiniLM-L6-v2, f32 and with int8 weights (tests/minilm.py), beside ONNX Runtime without graph optimisation on real
    sentences of mixed length, alone and in padded batches: within 1e-4 of the largest element
  - every model at hand whose rows are proved independent: a row alone equals the row in a batch, bit for bit; of the
    others the reason must be known

Each on one thread and on two."""
import csv
import pathlib
import re
import sys
import unicodedata

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import minilm  # noqa: E402
from libwinnow import Failed, Model, library  # noqa: E402

DATA = pathlib.Path("../shared/data")
REFERENCE = DATA / "reference"
passed = failed = skipped = 0


def expect(ok, what):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    if not ok:
        print(f"failed: {what}")


def left_out(why):
    global skipped
    skipped += 1
    print(f"left out: {why}")


# ---- sentences ----

class WordPiece:
    """BERT's uncased tokenizer, as far as these sentences need it; both engines get the same ids anyway."""

    def __init__(self, vocab):
        self.ids = {w: i for i, w in enumerate(vocab.read_text(encoding="utf-8").splitlines())}

    def word(self, w):
        out, at = [], 0
        while at < len(w):
            end = len(w)
            while end > at and ("##" if at else "") + w[at:end] not in self.ids:
                end -= 1
            if end == at:
                return [self.ids["[UNK]"]]
            out.append(self.ids[("##" if at else "") + w[at:end]])
            at = end
        return out

    def encode(self, text, limit=128):
        plain = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(c) != "Mn")
        words = re.findall(r"\w+|[^\w\s]", plain.replace("_", " _ "))
        pieces = [i for w in words for i in self.word(w)][:limit - 2]
        return [self.ids["[CLS]"], *pieces, self.ids["[SEP]"]]


def sentences(n):
    with open(DATA / "datasets/ag_news/val.csv", newline="", encoding="utf-8") as f:
        rows = list(csv.reader(f))
    texts = [" ".join(r[1:]).replace("\\", " ") for r in rows[1:]]
    cut = np.random.default_rng(3)  # lengths from a few words to whole items
    return [" ".join(t.split()[:cut.integers(3, 60)]) for t in texts[:n]]


def padded(ids):
    length = max(map(len, ids))
    feed = {k: np.zeros((len(ids), length), np.int64) for k in ("input_ids", "attention_mask", "token_type_ids")}
    for row, tokens in enumerate(ids):
        feed["input_ids"][row, :len(tokens)] = tokens
        feed["attention_mask"][row, :len(tokens)] = 1
    return feed


# ---- bert_tiny ----

def agnews4():
    return {k: np.load(REFERENCE / f"agnews4.{k}.npy") for k in ("input_ids", "attention_mask", "token_type_ids")}


def bert_tiny():
    for name in ("fp32", "dynint8"):
        want = np.load(REFERENCE / f"bert_tiny_agnews_{name}.out.logits.npy")
        for options in ({"threads": 1}, {"threads": 2}, {"reference": True}):
            model = Model(DATA / f"models/bert_tiny_agnews_{name}.onnx", **options)
            got = model.run(agnews4())["logits"]
            model.close()
            what = f"bert_tiny_agnews_{name} {options}"
            expect((got.argmax(-1) == want.argmax(-1)).all(), f"{what}: another class")
            if name == "fp32":
                d, limit = np.abs(got - want).max(), 1e-4 * np.abs(want).max()
            else:
                d, limit = np.linalg.norm(got - want) / np.linalg.norm(want), 0.02
            expect(d <= limit, f"{what}: differs by {d:.3g}, at most {limit:.3g}")


def integer_layers(graph):
    """(quantized, scale, zero point, weight, weight zero point, weight scale, bias, output) of every MatMulInteger."""
    from onnx import numpy_helper
    const = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    const.update({n.output[0]: numpy_helper.to_array(n.attribute[0].t) for n in graph.node if n.op_type == "Constant"})
    users = {}
    for n in graph.node:
        for i in n.input:
            users.setdefault(i, []).append(n)
    for n in graph.node:
        if n.op_type != "MatMulInteger":
            continue
        cast = users[n.output[0]][0]
        mul = users[cast.output[0]][0]
        product = next(m for m in graph.node if m.output[0] == mul.input[1])
        add = users[mul.output[0]][0]
        scale, w_scale = product.input
        bias = next(const[i] for i in add.input if i in const)
        yield n.input[0], scale, n.input[2], const[n.input[1]], const[n.input[3]], const[w_scale], bias, add.output[0]


def exact_integers(folder, source_path):
    """DynamicQuantizeLinear and MatMulInteger of every layer, from the values that the engine itself computed."""
    import onnx
    model = onnx.load(source_path)
    layers = list(integer_layers(model.graph))
    shown = {v: t for q, s, z, *_, y in layers for v, t in ((q, 2), (s, 1), (z, 2), (y, 1))}
    source = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "DynamicQuantizeLinear"}
    shown.update({x: 1 for x in source.values()})
    for known in model.graph.output:
        shown.pop(known.name, None)
    model.graph.output.extend(onnx.helper.make_tensor_value_info(v, t, None) for v, t in shown.items())
    for v in model.graph.output:
        v.type.tensor_type.ClearField("shape") if v.name in shown else None
    path = folder / "bert_tiny_integers.onnx"
    model = onnx.shape_inference.infer_shapes(model)
    onnx.save(model, path)
    expect(len(layers) >= 12, f"{source_path.name}: {len(layers)} integer layers")
    for options in ({"threads": 1}, {"threads": 2}, {"reference": True}):
        m = Model(path, **options)
        out = m.run(agnews4())
        m.close()
        for q, s, z, w, wz, ws, bias, y in layers:
            x, one = out[source[q]], np.float32(1)
            lo, hi = np.minimum(x.min(), np.float32(0)), np.maximum(x.max(), np.float32(0))
            scale = (hi - lo) / np.float32(255)
            zp = np.clip(np.rint(-lo / scale), 0, 255)
            want_q = np.clip(np.rint(x / scale) + zp, 0, 255).astype(np.uint8)
            expect(out[s] == scale and out[z] == zp and (out[q] == want_q).all(), f"{options} {q}: quantization")
            acc = (out[q].astype(np.int64) - np.int64(out[z])) @ (w.astype(np.int64) - wz.astype(np.int64))
            want = acc.astype(np.float32) * (out[s] * ws * one) + bias
            expect((want == out[y]).all(), f"{source_path.name} {options} {y}: not what exact integers give")


def runtime_forms(folder):
    """The files that ONNX Runtime's own tools make of bert_tiny: dynamic quantization, and fused attention."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    source = DATA / "models/bert_tiny_agnews_fp32.onnx"
    for name, kw in (("i8", {"weight_type": QuantType.QInt8}),
                     ("u8", {"weight_type": QuantType.QUInt8, "per_channel": True})):
        path = folder / f"bert_tiny_ort_{name}.onnx"
        quantize_dynamic(source, path, op_types_to_quantize=["MatMul"], **kw)
        exact_integers(folder, path)
    try:
        from onnxruntime.transformers import optimizer
    except ImportError as e:
        left_out(f"onnxruntime.transformers: {e}")
        return
    path = folder / "bert_tiny_ort_fused.onnx"
    fused = optimizer.optimize_model(str(source), model_type="bert", num_heads=2, hidden_size=128, opt_level=0)
    fused.save_model_to_file(str(path))
    kinds = {n.op_type for n in fused.model.graph.node if n.domain == "com.microsoft"}
    expect({"Attention", "SkipLayerNormalization"} <= kinds, f"ONNX Runtime's optimizer made {kinds}")
    model, want = Model(path), np.load(REFERENCE / "bert_tiny_agnews_fp32.out.logits.npy")
    got = model.run(agnews4())["logits"]
    model.close()
    d, limit = np.abs(got - want).max(), 1e-4 * np.abs(want).max()
    expect(d <= limit, f"bert_tiny with {sorted(kinds)}: differs by {d:.3g}, at most {limit:.3g}")


class Calibration:
    """Two batches of random ids, as quantize_static() asks for them."""

    def __init__(self):
        rng = np.random.default_rng(4)
        self.feeds = iter([{"input_ids": rng.integers(1000, 20000, (2, n)), "attention_mask": np.ones((2, n), np.int64),
                            "token_type_ids": np.zeros((2, n), np.int64)} for n in (9, 31)])

    def get_next(self):
        return next(self.feeds, None)


def static_forms(folder):
    """What ONNX Runtime's static quantizer makes of bert_tiny's products, beside ONNX Runtime itself without graph
    optimisation: attention in integers, in Q/DQ pairs and in integer operators."""
    import onnxruntime as ort
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    source = DATA / "models/bert_tiny_agnews_fp32.onnx"
    opts = ort.SessionOptions()
    opts.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    for name, kw in (("qdq_u8", {}), ("operators_u8", {"quant_format": QuantFormat.QOperator}),
                     ("qdq_i8", {"activation_type": QuantType.QInt8, "extra_options": {"ActivationSymmetric": True}})):
        path = folder / f"bert_tiny_static_{name}.onnx"
        quantize_static(source, path, Calibration(), op_types_to_quantize=["MatMul"], weight_type=QuantType.QInt8,
                        per_channel=True, **kw)
        want = ort.InferenceSession(str(path), opts, providers=["CPUExecutionProvider"]).run(["logits"], agnews4())[0]
        for options in ({"threads": 1}, {"threads": 2}, {"reference": True}):
            model = Model(path, **options)
            got = model.run(agnews4())["logits"]
            model.close()
            d, limit = np.abs(got - want).max(), 1e-3 * np.abs(want).max()  # of a few weights that round otherwise
            expect(d <= limit, f"{path.name} {options}: differs by {d:.3g}, at most {limit:.3g}")


# ---- MiniLM ----

def mini_lm(paths):
    import onnxruntime as ort
    tokens = WordPiece(paths["vocab"])
    ids = [tokens.encode(s) for s in sentences(200)]
    batches = [[i] for i in range(200)] + [list(range(a, a + n)) for a, n in ((0, 2), (2, 8), (10, 32), (100, 5))]
    for name in ("f32", "int8"):
        opts = ort.SessionOptions()
        opts.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        opts.intra_op_num_threads = 1
        session = ort.InferenceSession(str(paths[name]), opts, providers=["CPUExecutionProvider"])
        models = [Model(paths[name], threads=t) for t in (1, 2)]
        worst = 0
        for number, batch in enumerate(batches):
            feed = padded([ids[i] for i in batch])
            want = session.run(None, feed)[0]
            for t, model in enumerate(models):
                if t == 1 and len(batch) == 1 and number % 8:
                    continue  # two threads: every eighth sentence
                got = model.run(feed)["last_hidden_state"]
                d = np.abs(got - want).max() / np.abs(want).max() if got.shape == want.shape else np.inf
                worst = max(worst, d)
                expect(d <= 1e-4, f"MiniLM {name}, sentences {batch[:3]}, {t + 1} threads: differs by {d:.3g}")
        print(f"MiniLM {name}: at most {worst:.2g} of the largest element")
        for model in models:
            model.close()


# ---- alone and in a batch ----

def some_input(io, rng, rows):
    shape = [n if n >= 0 else (rows if d == 0 else 11) for d, n in enumerate(io.shape[:io.rank])]
    name = io.name.decode()
    if io.dtype == 1 or io.dtype == 10:
        return rng.standard_normal(shape).astype(np.float32 if io.dtype == 1 else np.float16)
    if "mask" in name:
        return (np.arange(shape[1])[None] < rng.integers(1, shape[1] + 1, shape[0])[:, None]).astype(np.int64)
    return rng.integers(0, 2 if "type" in name else 1000, shape)


def alone_and_together(path, expected):
    rng = np.random.default_rng(11)
    model = Model(path)
    independent, why = model.rows_independent()
    name = path.name
    expect(independent == (expected is None) and (independent or expected in why), f"{name}: rows: {why}")
    if independent:
        feed = {io.name.decode(): some_input(io, rng, 4) for io in model.inputs}
        together = model.run(feed)
        for row in range(4):
            alone = model.run({k: v[row:row + 1] for k, v in feed.items()})
            for out, y in together.items():
                expect((alone[out] == y[row:row + 1]).all() and np.isfinite(y).all(), f"{name}: row {row} of {out}")
    model.close()


def every_model(paths):
    known = {"bert_tiny_agnews_dynint8.onnx": "mix rows", "mnist_cntk.onnx": "no dynamic first dimension",
             "squeezenet1.1_fp16.onnx": "no dynamic first dimension"}
    for path in sorted((DATA / "models").glob("*.onnx")) + [paths[k] for k in ("f32", "int8") if paths]:
        alone_and_together(path, known.get(path.name))


def main():
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        library()
    except (ImportError, OSError) as e:
        left_out(str(e).splitlines()[0])
        print("0 passed, 0 failed, 1 skipped")
        return 0
    paths = None
    if not DATA.is_dir():
        left_out("../shared/data is not there")
    else:
        bert_tiny()
        folder = minilm.default_folder()
        folder.mkdir(parents=True, exist_ok=True)
        exact_integers(folder, DATA / "models/bert_tiny_agnews_dynint8.onnx")
        runtime_forms(folder)
        static_forms(folder)
        try:
            paths = minilm.fetch()
        except minilm.Missing as e:
            left_out(str(e))
        if paths:
            mini_lm(paths)
        every_model(paths)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as e:
        print(f"failed: {e}")
        print(f"{passed} passed, {failed + 1} failed, {skipped} skipped")
        sys.exit(1)
