#!/usr/bin/env python3
"""ONNX Runtime's own operators (domain com.microsoft): random small graphs through `winnow run`, compared with ONNX
Runtime without graph optimisation. Each runs with the shapes in the file and with batch and length dynamic, optimised
and by the reference operators. Floats within 2e-5 of the largest element, integers equal."""
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

try:
    import onnx
    import onnxruntime as ort
    from onnx import TensorProto as T
    from onnx import helper
except ImportError as e:
    print(f"left out: {e}")
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)

WINNOW = pathlib.Path(os.environ.get("BUILD", "build")) / "winnow"
MS = "com.microsoft"
rng = np.random.default_rng(5)
DTYPE = {np.dtype(np.float32): T.FLOAT, np.dtype(np.int32): T.INT32, np.dtype(np.int64): T.INT64,
         np.dtype(np.uint8): T.UINT8, np.dtype(np.int8): T.INT8, np.dtype(np.bool_): T.BOOL}


def f(*shape, scale=1.0):
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def u8(*shape):
    return rng.integers(0, 256, shape).astype(np.uint8)


def i8(*shape):
    return rng.integers(-64, 65, shape).astype(np.int8)  # beyond, ONNX Runtime's sums of two products saturate without VNNI


def lengths_mask(b, s):
    n = rng.integers(1, s + 1, b)
    return n.astype(np.int32), (np.arange(s)[None] < n[:, None]).astype(np.int32)


class Case:
    """One node: `inputs` in order, None for an omitted one; those named in `const` are initializers. `oracle`: a case
    with the same answer, where ONNX Runtime cannot run this one."""

    def __init__(self, name, op, inputs, outputs=1, const=(), domain=MS, dynamic=(0, 1), rtol=2e-5, oracle=None,
                 **attrs):
        self.__dict__.update(locals())

    def model(self, dynamic):
        names = [f"in{i}" if x is not None else "" for i, x in enumerate(self.inputs)]
        outs = [f"out{i}" for i in range(self.outputs)] if isinstance(self.outputs, int) else self.outputs
        inits, infos = [], []
        for i, x in enumerate(self.inputs):
            if x is None:
                continue
            if i in self.const:
                inits.append(onnx.numpy_helper.from_array(x, names[i]))
                continue
            shape = [f"{'BS'[d]}{i}" if dynamic and d in self.dynamic else n for d, n in enumerate(x.shape)]
            infos.append(helper.make_tensor_value_info(names[i], DTYPE[x.dtype], shape))
        node = helper.make_node(self.op, names, outs, name="it", domain=self.domain, **self.attrs)
        shown = [helper.make_empty_tensor_value_info(o) for o in outs if o]
        graph = helper.make_graph([node], "g", infos, shown, inits)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MS, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def feed(self):
        return {f"in{i}": x for i, x in enumerate(self.inputs) if x is not None and i not in self.const}


def attention_cases():
    b, s, n, h = 3, 7, 4, 8
    d = n * h
    x, w, bias = f(b, s, d), f(d, 3 * d, scale=0.3), f(3 * d)
    lens, mask = lengths_mask(b, s)
    causal = np.tril(np.ones((s, s), np.int32))[None].repeat(b, 0) * mask[:, None]
    masks = {"none": None, "lengths": lens, "2d": mask, "3d": causal}
    for name, m in masks.items():
        for uni in (0, 1):
            yield Case(f"Attention {name} unidirectional={uni}", "Attention", [x, w, bias, m], const=(1, 2), num_heads=n,
                       unidirectional=uni)
        yield Case(f"QAttention {name}", "QAttention",
                   [u8(b, s, d), i8(d, 3 * d), bias, np.float32(0.02) * np.ones((), np.float32),
                    np.full((), 0.01, np.float32), m, np.array(120, np.uint8), np.array(0, np.int8)],
                   const=(1, 2, 3, 4, 6, 7), num_heads=n)
    unbiased = Case("", "Attention", [x, w, np.zeros(3 * d, np.float32), mask], const=(1, 2), num_heads=n, scale=0.2)
    yield Case("Attention without bias, scale", "Attention", [x, w, None, mask], const=(1,), num_heads=n, scale=0.2,
               oracle=unbiased)
    yield Case("Attention, wide values", "Attention", [x, f(d, 2 * d + 16, scale=0.3), f(2 * d + 16), mask],
               const=(1, 2), num_heads=n, qkv_hidden_sizes=[d, d, 16])
    yield Case("Attention with attention_bias", "Attention", [x, w, bias, None, None, f(b, n, s, s)], const=(1, 2),
               num_heads=n)
    yield Case("Attention, weights from outside", "Attention", [x, w, bias, mask], num_heads=n, dynamic=())
    t = 5
    lens_t, mask_t = lengths_mask(b, t)
    q, k, v = f(b, s, d), f(b, t, d), f(b, t, d)
    yield Case("MultiHeadAttention", "MultiHeadAttention", [q, k, v], num_heads=n)
    yield Case("MultiHeadAttention bias", "MultiHeadAttention", [q, k, v, bias], const=(3,), num_heads=n)
    yield Case("MultiHeadAttention 2d mask", "MultiHeadAttention", [q, k, v, bias, mask_t], const=(3,), num_heads=n)
    yield Case("MultiHeadAttention attention_bias", "MultiHeadAttention", [q, k, v, None, None, f(1, n, s, t)],
               num_heads=n, scale=0.1, dynamic=())
    yield Case("MultiHeadAttention split keys", "MultiHeadAttention", [q, f(b, n, t, h), f(b, n, t, h)], num_heads=n)


def cases():
    b, s, d = 2, 5, 16
    x = f(b, s, d, scale=2)
    yield Case("BiasGelu", "BiasGelu", [x, f(d)], const=(1,))
    yield Case("FastGelu", "FastGelu", [x])
    yield Case("FastGelu bias", "FastGelu", [x, f(d)], const=(1,))
    yield Case("Gelu", "Gelu", [x])
    yield Case("QuickGelu", "QuickGelu", [x])
    yield Case("QuickGelu alpha", "QuickGelu", [x], alpha=1.1)
    for bias in (None, f(d)):
        yield Case(f"SkipLayerNormalization bias={bias is not None}", "SkipLayerNormalization",
                   [x, f(b, s, d), f(d), f(d), bias], const=(2, 3, 4), outputs=["y", "", "", "sum"], epsilon=1e-12)
        yield Case(f"SkipSimplifiedLayerNormalization bias={bias is not None}", "SkipSimplifiedLayerNormalization",
                   [x, f(b, s, d), f(d), bias], const=(2, 3), outputs=["y", "", "", "sum"], epsilon=1e-6)
    yield Case("SkipLayerNormalization of broadcast skip", "SkipLayerNormalization", [x, f(1, s, d), f(d), None], dynamic=(),
               const=(2,))
    yield Case("SimplifiedLayerNormalization", "SimplifiedLayerNormalization", [x, f(d)], const=(1,), domain="",
               epsilon=1e-5, axis=-1, stash_type=1)
    ids, seg = rng.integers(0, 30, (b, s)).astype(np.int32), rng.integers(0, 2, (b, s)).astype(np.int32)
    _, mask = lengths_mask(b, s)
    tables = [f(30, d), f(12, d), f(2, d), f(d), f(d)]
    yield Case("EmbedLayerNormalization", "EmbedLayerNormalization", [ids, seg, *tables, mask], outputs=2,
               const=range(2, 7), epsilon=1e-12)
    yield Case("EmbedLayerNormalization without segments", "EmbedLayerNormalization",
               [ids, None, *tables[:2], None, *tables[3:]], outputs=["y", "m"], const=range(2, 7))
    yield Case("EmbedLayerNormalization position_ids, sum", "EmbedLayerNormalization",
               [ids, seg, *tables, None, rng.integers(0, 12, (b, s)).astype(np.int32)], outputs=["y", "m", "sum"],
               const=range(2, 7))
    a, m = f(b, 3, 4, d), f(b, 3, d, 6)
    at, mt = np.ascontiguousarray(a.swapaxes(-1, -2)), np.ascontiguousarray(m.swapaxes(-1, -2))
    yield Case("FusedMatMul alpha", "FusedMatMul", [a, m], alpha=0.25)
    yield Case("FusedMatMul transA transB", "FusedMatMul", [at, mt], transA=1, transB=1, alpha=2.0)
    yield Case("TransposeMatMul", "TransposeMatMul", [a, mt], transB=1)
    for act in ("Relu", "Tanh", "LeakyRelu"):
        extra = {"activation_alpha": 0.2} if act == "LeakyRelu" else {}
        yield Case(f"FusedGemm {act}", "FusedGemm", [f(4, d), f(6, d), f(6)], const=(1, 2), transB=1, activation=act,
                   dynamic=(0,), **extra)
    yield Case("FusedConv", "FusedConv", [f(b, 3, 6, 6), f(4, 3, 3, 3), f(4)], const=(1, 2), activation="Relu",
               pads=[1, 1, 1, 1], dynamic=(0,))
    yield Case("FusedConv with Z", "FusedConv", [f(b, 3, 6, 6), f(4, 3, 3, 3), f(4), f(b, 4, 4, 4)], const=(1, 2),
               activation="Relu", dynamic=(0,))
    for wt in (u8, i8):
        w = wt(d, 9)
        zp = np.array(7, w.dtype)
        one = np.full((), 0.02, np.float32)
        per = rng.uniform(0.005, 0.03, 9).astype(np.float32)
        yield Case(f"MatMulIntegerToFloat {w.dtype}", "MatMulIntegerToFloat",
                   [u8(b, s, d), w, one, one, np.array(99, np.uint8), zp, f(9)], const=(1, 2, 3, 4, 5, 6))
        yield Case(f"MatMulIntegerToFloat {w.dtype} per column", "MatMulIntegerToFloat",
                   [u8(b, s, d), w, one, per, np.array(99, np.uint8), wt(9)], const=(1, 2, 3, 4, 5))
        yield Case(f"DynamicQuantizeMatMul {w.dtype}", "DynamicQuantizeMatMul", [x, w, one, zp, f(9)],
                   const=(1, 2, 3, 4))
        yield Case(f"DynamicQuantizeMatMul {w.dtype} per column", "DynamicQuantizeMatMul", [x, w, per, wt(9)],
                   const=(1, 2, 3))
    yield Case("QLinearSoftmax", "QLinearSoftmax",
               [u8(b, d), np.full((), 0.05, np.float32), np.array(128, np.uint8), np.full((), 1 / 256, np.float32),
                np.array(0, np.uint8)], const=(1, 2, 3, 4), axis=-1, opset=13)
    yield Case("QLinearAveragePool", "QLinearAveragePool",
               [u8(b, 3, 6, 6), np.full((), 0.05, np.float32), np.array(128, np.uint8), np.full((), 0.04, np.float32),
                np.array(120, np.uint8)], const=(1, 2, 3, 4), kernel_shape=[2, 2], strides=[2, 2], dynamic=(0,))
    yield from attention_cases()


def difference(got, want, rtol):
    if got.shape != want.shape or got.dtype != want.dtype:
        return f"{got.dtype}{got.shape}, must be {want.dtype}{want.shape}"
    if want.dtype == np.uint8:  # table operators of ONNX Runtime round in float: one step
        d = np.abs(got.astype(int) - want.astype(int)).max()
        return None if d <= 1 else f"differs by {d} steps"
    d = np.abs(got.astype(np.float64) - want.astype(np.float64)).max()
    limit = rtol * max(np.abs(want).max(), 1e-3) if want.dtype == np.float32 else 0
    return None if d <= limit else f"differs by {d:.3g}, at most {limit:.3g}"


def main():
    ort.set_default_logger_severity(4)
    passed = failed = 0
    with tempfile.TemporaryDirectory() as tmp:
        for c in cases():
            for dynamic in (False, True):
                model = c.model(dynamic)
                onnx.save(model, f"{tmp}/m.onnx")
                opts = ort.SessionOptions()
                opts.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
                oracle = c.oracle.model(dynamic) if c.oracle else model
                session = ort.InferenceSession(oracle.SerializeToString(), opts, providers=["CPUExecutionProvider"])
                want = dict(zip([o.name for o in session.get_outputs()], session.run(None, c.feed())))
                np.savez(f"{tmp}/x.npz", **c.feed())
                for options in ([], ["-r"]):
                    p = subprocess.run([WINNOW, "run", f"{tmp}/m.onnx", "-i", f"{tmp}/x.npz", "-o", f"{tmp}/y.npz",
                                        *options], capture_output=True, text=True)
                    why = p.stderr.strip() if p.returncode else None
                    if not why:
                        y = np.load(f"{tmp}/y.npz")
                        why = "; ".join(f"{o}: {d}" for o in want if (d := difference(y[o], want[o], c.rtol)))
                    if why:
                        print(f"{c.name}{' dynamic' if dynamic else ''} {' '.join(options)}: {why}")
                    passed, failed = passed + (not why), failed + bool(why)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
