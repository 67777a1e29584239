#!/usr/bin/env python3
"""Odd and hostile ONNX files, made here one by one, each with its verdict: it runs and gives these numbers, or it is
refused with a message that says what is wrong. Every case runs in a process of its own that may use 2 GiB and 60 s; a
process that dies is a failure, whatever it was fed.

    hostile_models.py [-v] [WORD]     only cases whose name holds WORD"""
import os
import pathlib
import random
import re
import resource
import struct
import sys
import tempfile
import time

sys.path.insert(0, "tests/daemon")
sys.path.insert(0, "tests")
import onnx_bytes as ox  # noqa: E402

try:
    import libwinnow
    import numpy as np
    libwinnow.library()
except (ImportError, OSError) as e:
    print(f"left out: {e}")
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)

CASES = []
F = ox.F32
X = np.arange(1, 5, dtype=np.float32).reshape(1, 4)
MAX = (1 << 63) - 1
LOOPS_NS = 500_000_000  # that loops may take in one run


def case(name, data, want, feed=None, files=None, limit=60.0):
    """want: a pattern of the message, or a function from the outputs to a bool (None where it is right)."""
    CASES.append((name, data, want, feed, files or {}, limit))


def i64(*v):
    return struct.pack(f"<{len(v)}q", *v)


def t(name, dtype, dims, raw=None, extra=b""):
    return ox.tensor(name, dtype, dims, raw, extra)


def net(nodes, weights=(), inputs=None, outputs=None, opset=17):
    return ox.model(ox.graph(nodes, [ox.value("x", F, [1, 4])] if inputs is None else inputs,
                             [ox.value("y", F, ["a", "b"])] if outputs is None else outputs, weights), opset)


def add_w(w, **kw):
    return net([ox.node("Add", ["x", "W"], ["y"], "the_node")], [w], **kw)


def gives(want):
    want = np.asarray(want)
    return lambda out: next(iter(out.values())).shape == want.shape and np.allclose(next(iter(out.values())), want,
                                                                                   equal_nan=True)


def op(name, kind, inputs, weights=(), want="the_node", dims=(1, 4), dtype=F, feed=None, opset=17, out=("y",), rank=None,
       out_dtype=None, **attrs):
    outs = [ox.value(out[0], out_dtype or dtype, ["d%d" % i for i in range(len(dims) if rank is None else rank)])]
    case(f"{kind}: {name}", ox.model(ox.graph([ox.node(kind, inputs, list(out), "the_node", **attrs)],
                                               [ox.value("x", dtype, list(dims))], outs, weights), opset), want,
         feed if feed is not None else {"x": np.ones(dims, np.float32)})


# ---- A1, A2: nesting and counts ----
def nested(depth):
    inner = ox.graph([ox.node("Identity", ["c"], ["i0"])], [], [ox.value("i0", ox.BOOL, [])])
    for k in range(depth):
        n = ox.node("If", ["c"], [f"i{k + 1}"], f"if{k}", then_branch=inner, else_branch=inner if k == 0 else
                    ox.graph([ox.node("Identity", ["c"], [f"e{k}"])], [], [ox.value(f"e{k}", ox.BOOL, [])]))
        inner = ox.graph([n], [], [ox.value(f"i{k + 1}", ox.BOOL, [])])
    return ox.model(ox.graph([ox.node("If", ["c"], ["y"], "top", then_branch=inner, else_branch=inner if depth < 30 else
                                      ox.graph([ox.node("Identity", ["c"], ["z"])], [], [ox.value("z", ox.BOOL, [])]))],
                             [ox.value("c", ox.BOOL, [])], [ox.value("y", ox.BOOL, [])]))


for depth in (1, 3, 6):
    case(f"nested sub-graphs, {depth}", nested(depth), gives(np.array(True)), {"c": np.array(True)})
for depth in (30, 100, 1000):
    case(f"nested sub-graphs, {depth}", nested(depth), r"deep|nest", limit=10)
case("messages without end: 3 million empty nodes", ox.num(1, 8) + ox.sub(7, b"\x0a\x00" * 3_000_000),
     r"messages|too many|memory", limit=20)
case("messages without end: 2 million dimensions", net([ox.node("Relu", ["x"], ["y"])], inputs=[
    ox.sub(1, "x") + ox.sub(2, ox.sub(1, ox.num(1, 1) + ox.sub(2, b"\x0a\x00" * 2_000_000)))]), r"messages|rank|memory",
    limit=20)
case("truncated varint", b"\x08" + b"\xff" * 11, r"ONNX|broken|protobuf|wire")
case("length past the end", b"\x3a\xff\xff\xff\x7f", r"ONNX|broken|protobuf|truncated|wire")
case("an empty file", b"", r"empty|no graph|ONNX")
case("not ONNX at all", b"GIF89a" * 10, r"ONNX|broken|protobuf|wire|graph")

# ---- A3: extents ----
for dims in ([-1], [-5, 4], [1 << 62, 4], [MAX], [MAX, MAX], [1 << 32, 1 << 32], [1 << 31, 1 << 31, 2], [3_000_000_000],
             [0, -1], [1 << 60, 16]):
    case(f"an initializer of {dims}", add_w(t("W", F, dims, bytes(16))), r"'W'")
case("an initializer of [0, 4], which is empty", net([ox.node("Add", ["x", "W"], ["y"])], [t("W", F, [0, 4], b"")]),
     gives(np.zeros((0, 4), np.float32)))
case("an initializer of rank 9", add_w(t("W", F, [1] * 9, bytes(4))), r"'W'.*rank 9")
case("an initializer of rank 8", net([ox.node("Add", ["x", "W"], ["y"])], [t("W", F, [1] * 8, ox.floats(1))],
                                     outputs=[ox.value("y", F, [1] * 7 + [4])]), gives(X.reshape([1] * 7 + [4]) + 1))
case("an input of a negative extent", net([ox.node("Relu", ["x"], ["y"])], inputs=[ox.value("x", F, [-7, 4])]),
     r"'x'.*negative extent")
case("an input that overflows", net([ox.node("Relu", ["x"], ["y"])], inputs=[ox.value("x", F, [1 << 62, 1 << 62])]),
     r"overflow|too large|size")
case("activations beyond the limit", net([ox.node("Relu", ["x"], ["y"])], inputs=[ox.value("x", F, [1, 3, 20000, 200000])],
    outputs=[ox.value("y", F, [1, 3, 20000, 200000])]),
     r"limit|too large|bytes")

# ---- A4: data that does not fit ----
for n in (0, 1, 15, 17, 20, 160):
    case(f"{n} bytes of data for 16", add_w(t("W", F, [4], bytes(n))), rf"'W'.*{n} bytes")
for dtype in (0, -3, 99, 1000, 15, 14, 27):
    case(f"data type {dtype}", add_w(t("W", dtype, [4], bytes(16))), r"'W'.*data type")
case("raw and typed data at once", add_w(t("W", F, [4], ox.floats(1, 2, 3, 4), ox.fixed32(4, 1.0))), r"'W'.*at once")
case("typed data", add_w(t("W", F, [4], None, b"".join(ox.fixed32(4, float(i)) for i in range(4)))),
     gives(X + np.arange(4)), {"x": X})
case("packed int4 of an odd number", net([ox.node("Cast", ["W"], ["f"], to=1), ox.node("Add", ["x", "f"], ["y"])],
                                         [t("W", 22, [1], b"\xf7")], inputs=[ox.value("x", F, [1, 1])]),
     gives([[8.0]]), {"x": np.ones((1, 1), np.float32)})
case("a bool that is 7", net([ox.node("Cast", ["W"], ["f"], to=1), ox.node("Add", ["x", "f"], ["y"])],
                             [t("W", ox.BOOL, [4], bytes([7, 0, 255, 1]))]), gives(X + [1, 0, 1, 1]), {"x": X})
case("a sparse index past the end", ox.model(ox.graph([ox.node("Add", ["x", "W"], ["y"])], [ox.value("x", F, [1, 4])], [
    ox.value("y", F, [1, 4])]) + ox.sub(15, ox.sub(1, t("W", F, [1], ox.floats(1))) + ox.sub(2, t("i", ox.I64, [1], i64(9)))
                                        + ox.num(3, 4))), r"index 0 is out of range")

# ---- A5: names and order ----
relu = ox.node("Relu", ["x"], ["y"], "the_node")
case("a node that reads itself", net([ox.node("Add", ["y", "x"], ["y"], "the_node")]), r"the_node|cycle")
case("two nodes that read each other", net([ox.node("Add", ["b", "x"], ["y"], "p"), ox.node("Relu", ["y"], ["b"], "q")]),
     r"cycle.*'[pq]'|'[pq]'")
case("a long cycle", net([ox.node("Relu", [f"v{(i + 1) % 500}"], [f"v{i}"], f"n{i}") for i in range(500)] + [relu] +
                         [ox.node("Add", ["y", "v3"], ["z"])], outputs=[ox.value("z", F, [1, 4])]), r"cycle|'n\d+'")
case("an output made twice", net([relu, ox.node("Abs", ["x"], ["y"], "again")]), r"'again'.*twice")
case("an input nobody makes", net([ox.node("Add", ["x", "ghost"], ["y"], "the_node")]), r"the_node.*'ghost'")
case("an output nobody makes", net([relu], outputs=[ox.value("ghost", F, [1, 4])]), r"'ghost'")
case("an output listed twice", net([relu], outputs=[ox.value("y", F, [1, 4])] * 2), r"'y'.*twice")
case("two inputs of one name", net([relu], inputs=[ox.value("x", F, [1, 4])] * 2), r"'x'.*twice")
case("two initializers of one name", net([ox.node("Add", ["x", "W"], ["y"])], [t("W", F, [4], bytes(16))] * 2), r"'W'.*twice")
case("no outputs", ox.model(ox.graph([relu], [ox.value("x", F, [1, 4])], [])), r"no outputs")
case("no graph", ox.num(1, 8) + ox.sub(8, ox.num(2, 17)), r"no graph")
case("no operator set", ox.num(1, 8) + ox.sub(7, ox.graph([relu], [ox.value("x", F, [1, 4])], [ox.value("y", F, [1, 4])])),
     r"version of the ONNX operators")
case("operator set 10^12", ox.model(ox.graph([relu], [ox.value("x", F, [1, 4])], [ox.value("y", F, [1, 4])]), 10 ** 12),
     r"version")
case("an operator that is not there", net([ox.node("Frobnicate", ["x"], ["y"], "the_node")]), r"the_node.*Frobnicate")
case("a domain that is not there", net([ox.node("Relu", ["x"], ["y"], "the_node") + ox.sub(7, "evil.example")]),
     r"the_node.*evil\.example\.Relu")
case("a node without an operator", net([ox.sub(1, "x") + ox.sub(2, "y") + ox.sub(3, "the_node")]), r"the_node.*operator")
case("an attribute twice", net([ox.node("Softmax", ["x"], ["y"], "the_node") + ox.sub(5, ox.attr("axis", 1)) * 2]),
     r"'axis'.*twice")
case("an attribute of another kind", net([ox.node("Softmax", ["x"], ["y"], "the_node", axis="one")], outputs=[
    ox.value("y", F, [1, 4])]), gives(np.exp(X) / np.exp(X).sum()), {"x": X})
case("names of 1 MiB", net([ox.node("Relu", ["x" * (1 << 20)], ["y" * (1 << 20)])], inputs=[
    ox.value("x" * (1 << 20), F, [1, 4])], outputs=[ox.value("y" * (1 << 20), F, [1, 4])]), lambda out: True,
    {"x" * (1 << 20): X}, limit=10)
case("a name with a NUL", net([ox.node("Relu", ["x\0z"], ["y"])], inputs=[ox.value("x\0z", F, [1, 4])]), r"NUL|UTF-8|zero")
case("a name that is not UTF-8", net([ox.sub(1, b"\xff\xfe") + ox.sub(2, "y") + ox.sub(4, "Relu")]), r"UTF-8")
case("100 000 nodes in a row", net([ox.node("Relu", ["x" if not i else f"v{i - 1}"], [f"v{i}" if i < 99_999 else "y"])
                                    for i in range(100_000)]), gives(X), {"x": X}, limit=30)
case("50 000 nodes, last first", net([ox.node("Relu", ["x" if not i else f"v{i - 1}"], [f"v{i}" if i < 49_999 else "y"])
                                      for i in reversed(range(50_000))]), gives(X), {"x": X}, limit=30)
case("a declared type that is not so", net([relu], outputs=[ox.value("y", ox.I64, [1, 4])]), r"'y'.*declared i64")
case("a declared rank that is not so", net([relu], outputs=[ox.value("y", F, [4])]), r"'y'.*rank")
case("a declared extent that is not so", net([relu], outputs=[ox.value("y", F, [1, 5])]), r"'y'.*extent 5")
case("an omitted input that is needed", net([ox.node("Add", ["", "x"], ["y"], "the_node")]), r"the_node.*omitted")
case("too many inputs", net([ox.node("Relu", ["x", "x", "x"], ["y"], "the_node")]), r"the_node.*inputs")
case("too many outputs", net([ox.node("Relu", ["x"], ["y", "z"], "the_node")]), r"the_node.*outputs")
case("a thousand inputs", net([ox.node("Sum", ["x"] * 1000, ["y"], "the_node")]), r"the_node.*inputs")
case("a first output that is omitted", net([ox.node("TopK", ["x", "k"], ["", "i"], "the_node"), ox.node(
    "Cast", ["i"], ["y"], to=1)], [t("k", ox.I64, [1], i64(2))]), gives([[3.0, 2.0]]), {"x": X})

# ---- A10: attributes ----
w133 = [t("W", F, [1, 1, 3, 3], bytes(36))]
PIC = (1, 1, 8, 8)
for name, attrs in {"kernel of 2^31": {"kernel_shape": [1 << 31, 1 << 31]}, "kernel of 0": {"kernel_shape": [0, 0]},
                    "stride 0": {"strides": [0, 1]}, "stride -1": {"strides": [-1, 1]}, "stride 2^62": {"strides": [1 << 62, 1]},
                    "dilation 0": {"dilations": [0, 1]}, "dilation 2^62": {"dilations": [1 << 62] * 2},
                    "pads -1": {"pads": [-1, 0, 0, 0]}, "pads 2^62": {"pads": [1 << 62] * 4}, "three pads": {"pads": [1, 1, 1]},
                    "group 0": {"group": 0}, "group -1": {"group": -1}, "group 7": {"group": 7},
                    "auto_pad SAME": {"auto_pad": "SAME"}}.items():
    op(name, "Conv", ["x", "W"], w133, dims=PIC, want="the_node" if name != "stride 2^62" else r"", **attrs)
for name, attrs in {"no kernel": {}, "kernel 0": {"kernel_shape": [0, 3]}, "kernel 2^40": {"kernel_shape": [1 << 40] * 2},
                    "stride 0": {"kernel_shape": [3, 3], "strides": [0, 0]},
                    "pads wider than the kernel": {"kernel_shape": [2, 2], "pads": [1 << 40] * 4},
                    "dilation -1": {"kernel_shape": [3, 3], "dilations": [-1, 1]}}.items():
    op(name, "MaxPool", ["x"], dims=PIC, **attrs)
op("kernel of 0", "AveragePool", ["x"], dims=PIC, kernel_shape=[0, 0])
op("output_shape of 2^60", "ConvTranspose", ["x", "W"], w133, dims=PIC, output_shape=[1 << 60, 1 << 60])
op("output_padding 2^62", "ConvTranspose", ["x", "W"], w133, dims=PIC, output_padding=[1 << 62, 0])
for axis in (-9, 2, 1 << 40):
    op(f"axis {axis}", "Softmax", ["x"], axis=axis)
    op(f"axis {axis}", "Concat", ["x", "x"], axis=axis)
    op(f"axis {axis}", "Gather", ["x", "i"], [t("i", ox.I64, [1], i64(0))], axis=axis)
op("an index past the end", "Gather", ["x", "i"], [t("i", ox.I64, [1], i64(4))], r"the_node.*index 4", axis=1)
op("perm with a number twice", "Transpose", ["x"], perm=[0, 0])
op("perm of 9", "Transpose", ["x"], perm=[0, 9])
for name, shape in {"two -1": (-1, -1), "-2": (1, -2), "too many elements": (5, 1), "2^62": (1 << 62, 4)}.items():
    op(name, "Reshape", ["x", "s"], [t("s", ox.I64, [2], i64(*shape))])
op("axes twice", "Unsqueeze", ["x", "a"], [t("a", ox.I64, [2], i64(0, 0))], rank=4)
op("an extent of 4", "Squeeze", ["x", "a"], [t("a", ox.I64, [1], i64(1))], rank=1)
op("to 2^40 elements", "Expand", ["x", "s"], [t("s", ox.I64, [2], i64(1 << 40, 4))], r"the_node|limit|bytes")
op("repeats 2^62", "Tile", ["x", "s"], [t("s", ox.I64, [2], i64(1 << 62, 4))])
op("pads 2^62", "Pad", ["x", "s"], [t("s", ox.I64, [4], i64(1 << 62, 0, 0, 1 << 62))])
op("pads that leave nothing", "Pad", ["x", "s"], [t("s", ox.I64, [4], i64(0, -9, 0, 0))])
op("step 0", "Slice", ["x", "a", "b", "c", "d"], [t(n, ox.I64, [1], i64(v)) for n, v in zip("abcd", (0, 4, 1, 0))])
op("ends of 2^63-1 and -2^63", "Slice", ["x", "a", "b", "c", "d"],
   [t(n, ox.I64, [1], i64(v)) for n, v in zip("abcd", (MAX, -MAX - 1, 1, -1))], gives([[4.0, 3.0, 2.0, 1.0]]), feed={"x": X})
op("sizes that do not add up", "Split", ["x", "s"], [t("s", ox.I64, [2], i64(1, 9))], out=("y", "z"), axis=1)
op("K of 9 of 4", "TopK", ["x", "k"], [t("k", ox.I64, [1], i64(9))], out=("y", "z"))
op("K of -1", "TopK", ["x", "k"], [t("k", ox.I64, [1], i64(-1))], out=("y", "z"))
op("scales of 2^40", "Resize", ["x", "", "s"], [t("s", F, [4], ox.floats(1, 1, 2.0 ** 40, 2.0 ** 40))], dims=PIC)
op("scale NaN", "Resize", ["x", "", "s"], [t("s", F, [4], ox.floats(1, 1, float("nan"), 1))], dims=PIC)
op("scale -1", "Resize", ["x", "", "s"], [t("s", F, [4], ox.floats(1, 1, -1, 1))], dims=PIC)
op("blocksize 0", "DepthToSpace", ["x"], dims=PIC, blocksize=0)
op("blocksize 2^33", "SpaceToDepth", ["x"], dims=PIC, blocksize=1 << 33)
op("equation of 200 letters", "Einsum", ["x"], equation="ab" * 100 + "->a")
op("equation without sense", "Einsum", ["x"], equation="->->")
op("depth 2^60", "OneHot", ["i", "d", "v"], [t("i", ox.I64, [1], i64(0)), t("d", ox.I64, [1], i64(1 << 60)),
                                             t("v", F, [2], ox.floats(0, 1))], r"the_node|limit")
op("2^40 numbers", "Range", ["a", "b", "c"], [t("a", ox.I64, [], i64(0)), t("b", ox.I64, [], i64(1 << 40)),
                                              t("c", ox.I64, [], i64(1))], r"the_node|limit|bytes|memory", rank=1, out_dtype=ox.I64)
op("delta 0", "Range", ["a", "b", "c"], [t("a", ox.I64, [], i64(0)), t("b", ox.I64, [], i64(9)),
                                         t("c", ox.I64, [], i64(0))], r"the_node", rank=1, out_dtype=ox.I64)
op("2^50 elements", "ConstantOfShape", ["s"], [t("s", ox.I64, [2], i64(1 << 25, 1 << 25))], r"the_node|limit|bytes|memory")
op("hidden_size 2^40", "LSTM", ["x", "W", "R"], [t("W", F, [1, 8, 2], bytes(64)), t("R", F, [1, 8, 2], bytes(64))],
   dims=(2, 1, 2), rank=4, hidden_size=1 << 40)
op("hidden_size that is not R's", "GRU", ["x", "W", "R"], [t("W", F, [1, 6, 2], bytes(48)), t("R", F, [1, 6, 2], bytes(48))],
   dims=(2, 1, 2), rank=4, hidden_size=3)
op("direction up", "RNN", ["x", "W", "R"], [t("W", F, [1, 2, 2], bytes(16)), t("R", F, [1, 2, 2], bytes(16))],
   dims=(2, 1, 2), rank=4, hidden_size=2, direction="up")
op("boxes of 3 numbers", "NonMaxSuppression", ["x", "s"], [t("s", F, [1, 1, 1], bytes(4))], dims=(1, 1, 3), rank=2,
   out_dtype=ox.I64)
op("output of 2^40", "RoiAlign", ["x", "r", "b"], [t("r", F, [1, 4], bytes(16)), t("b", ox.I64, [1], i64(0))], dims=PIC,
   output_height=1 << 40, output_width=1 << 40)
op("a picture that is not there", "RoiAlign", ["x", "r", "b"], [t("r", F, [1, 4], bytes(16)), t("b", ox.I64, [1], i64(9))],
   r"the_node.*picture 9", dims=PIC)
op("length 2^60", "DFT", ["x", "n"], [t("n", ox.I64, [], i64(1 << 60))], dims=(1, 4, 1))
op("frame_step 0", "STFT", ["x", "s", "", "n"], [t("s", ox.I64, [], i64(0)), t("n", ox.I64, [], i64(2))], dims=(1, 4, 1),
   rank=4)
op("size 2^60", "HannWindow", ["n"], [t("n", ox.I64, [], i64(1 << 60))], rank=1)
op("pool beyond its end", "TfIdfVectorizer", ["x"], dims=(4,), dtype=ox.I64, out_dtype=F, mode="TF", min_gram_length=1,
   max_gram_length=1, max_skip_count=0, ngram_counts=[0, 9], ngram_indexes=[0], pool_int64s=[1],
   feed={"x": np.ones(4, np.int64)})

# ---- loops ----
def loop(body_nodes, trips=None, body_in=None, body_out=None, weights=(), outs=("y",), out_dims=(1, 4)):
    body = ox.graph(body_nodes, body_in or [ox.value("k", ox.I64, []), ox.value("c", ox.BOOL, []), ox.value("v", F, [1, 4])],
                    body_out or [ox.value("go", ox.BOOL, []), ox.value("w", F, [1, 4])], weights, "body")
    return ox.model(ox.graph([ox.node("Loop", ["" if trips is None else "n", "", "x"], list(outs), "the_node", body=body)],
                             [ox.value("x", F, [1, 4])], [ox.value(o, F, list(out_dims)) for o in outs],
                             [] if trips is None else [t("n", ox.I64, [], i64(trips))]))


go_on = ox.node("Identity", ["c"], ["go"])
twice = ox.node("Add", ["v", "v"], ["w"], "twice")
case("Loop: three times", loop([go_on, twice], 3), gives(X * 8), {"x": X})
case("Loop: not once", loop([go_on, twice], 0), gives(X), {"x": X})
case("Loop: a negative trip count", loop([go_on, twice], -5), gives(X), {"x": X})
case("Loop: takes a value from around it", loop([go_on, ox.node("Add", ["v", "x"], ["w"])], 4), gives(X * 5), {"x": X})
IN_TIME = r"iteration \d+.*limit of 0\.5 s of CPU time in loops"
case("Loop: without end", loop([go_on, ox.node("Relu", ["v"], ["w"])]), f"the_node.*{IN_TIME}", {"x": X}, limit=10)
case("Loop: 2^62 times", loop([go_on, ox.node("Relu", ["v"], ["w"])], 1 << 62), f"the_node.*{IN_TIME}", {"x": X}, limit=10)
case("Loop: grows until memory ends", loop([go_on, ox.node("Concat", ["v", "v"], ["w"], axis=0)], out_dims=("n", 4)),
     r"memory|bytes|overflow|large|limit", {"x": X})
case("Loop: a body without a condition", loop([twice], 3, body_out=[ox.value("w", F, [1, 4])]), r"the_node.*outputs")
case("Loop: a body with one input", loop([go_on, twice], 3, body_in=[ox.value("c", ox.BOOL, [])]), r"the_node|'v'")
case("Loop: a condition of two", loop([ox.node("Concat", ["t", "t"], ["go"], axis=0), twice], 3, weights=[
    t("t", ox.BOOL, [1], b"\1")]), r"the_node.*one bool", {"x": X})
case("Loop: without a body", net([ox.node("Loop", ["", "", "x"], ["y"], "the_node")]), r"the_node.*body")
case("Loop: a body that is a number", net([ox.node("Loop", ["", "", "x"], ["y"], "the_node", body=3)]), r"the_node.*body")


def deep(depth, trips, last, dims=(1, 4)):
    """Loops in each other; `last` makes w of v in the innermost."""
    node = ox.node(last[0], [f"v{depth}"] * last[1], [f"w{depth}"], **last[2])
    for d in range(depth, 0, -1):
        body = ox.graph([ox.node("Identity", [f"c{d}"], [f"go{d}"]), node],
                        [ox.value(f"k{d}", ox.I64, []), ox.value(f"c{d}", ox.BOOL, []), ox.value(f"v{d}", F, list(dims))],
                        [ox.value(f"go{d}", ox.BOOL, []), ox.value(f"w{d}", F, list(dims))], [], f"body{d}")
        node = ox.node("Loop", ["n", "", f"v{d - 1}" if d > 1 else "x"], [f"w{d - 1}" if d > 1 else "y"], f"loop{d}",
                       body=body)
    return ox.model(ox.graph([node], [ox.value("x", F, [1, 4])], [ox.value("y", F, list(dims))], [
        t("n", ox.I64, [], i64(trips))]))


relu, grow = ("Relu", 1, {}), ("Concat", 2, {"axis": 0})
case("Loop: 4 in each other, 50 million times", deep(4, 85, relu), f"loop1.*loop4.*{IN_TIME}|loop1.*limit of 0.5 s", {"x": X},
     limit=10)
case("Loop: 19 in each other, once", deep(19, 1, relu), gives(X), {"x": X}, limit=10)
case("Loop: 19 in each other, each of another shape", deep(19, 1, grow, ("a", "b")), gives(np.vstack([X, X])), {"x": X},
     limit=10)
square = ox.node("MatMul", ["m", "m"], ["p"], "long_node")
case("Loop: without end, of long nodes", ox.model(ox.graph(
    [ox.node("ConstantOfShape", ["s"], ["m"]), ox.node("Loop", ["", "", "x"], ["y"], "the_node", body=ox.graph(
        [go_on, square, ox.node("ReduceSum", ["p"], ["r"], keepdims=0), ox.node("Add", ["v", "r"], ["w"])],
        [ox.value("k", ox.I64, []), ox.value("c", ox.BOOL, []), ox.value("v", F, [1, 4])],
        [ox.value("go", ox.BOOL, []), ox.value("w", F, [1, 4])]))],
    [ox.value("x", F, [1, 4])], [ox.value("y", F, [1, 4])], [t("s", ox.I64, [2], i64(4096, 4096))])),
    f"the_node.*long_node.*limit of 0.5 s", {"x": X}, limit=10)
case("Loop: 20000 times", loop([go_on, ox.node("Add", ["v", "one"], ["w"])], 20000, weights=[t("one", F, [], ox.floats(1))]),
     gives(X + 20000), {"x": X}, limit=10)
case("constants: a thousand products of 1024 x 1024", net(
    [ox.node("ConstantOfShape", ["s"], ["m0"])] + [ox.node("MatMul", [f"m{k}", "m0"], [f"m{k + 1}"]) for k in range(1000)] +
    [ox.node("ReduceSum", ["m1000"], ["r"], keepdims=0), ox.node("Add", ["x", "r"], ["y"])],
    [t("s", ox.I64, [2], i64(1024, 1024))]), gives(X), {"x": X}, limit=40)
scan_body = ox.graph([ox.node("Add", ["s", "e"], ["s2"]), ox.node("Identity", ["s2"], ["o"])],
                     [ox.value("s", F, []), ox.value("e", F, [])], [ox.value("s2", F, []), ox.value("o", F, [])], name="body")


def scan(m, body=scan_body, **attrs):
    return ox.model(ox.graph([ox.node("Scan", ["z", "x"], ["last", "y"], "the_node", body=body, num_scan_inputs=m, **attrs)],
                             [ox.value("x", F, [4])], [ox.value("y", F, [4])], [t("z", F, [], ox.floats(0))]))


case("Scan: sums", scan(1), gives([1.0, 3, 6, 10]), {"x": X[0]})
case("Scan: backwards", scan(1, scan_input_directions=[1]), gives([4.0, 7, 9, 10]), {"x": X[0]})
for m in (0, -1, 3, 1 << 40):
    case(f"Scan: {m} scan inputs", scan(m), r"the_node.*num_scan_inputs|the_node")
case("Scan: axis 5", scan(1, scan_input_axes=[5]), r"the_node.*axis")
case("Scan: direction 2", scan(1, scan_input_directions=[2]), r"the_node.*directions")
yes = ox.graph([ox.node("Add", ["x", "x"], ["p"])], [], [ox.value("p", F, [1, 4])])
no = ox.graph([ox.node("Neg", ["x"], ["q"])], [], [ox.value("q", F, [1, 4])])
both = ox.graph([ox.node("Neg", ["x"], ["q"]), ox.node("Abs", ["x"], ["r"])], [], [ox.value("q", F, [1, 4]),
                                                                                 ox.value("r", F, [1, 4])])


def choice(then, other, cond=1, dims=()):
    return net([ox.node("If", ["c"], ["y"], "the_node", then_branch=then, else_branch=other)],
               [t("c", ox.BOOL, list(dims), bytes([cond] * int(np.prod(dims) if dims else 1)))])


case("If: true", choice(yes, no), gives(X * 2), {"x": X})
case("If: false", choice(yes, no, 0), gives(-X), {"x": X})
case("If: a condition of two", choice(yes, no, 1, (2,)), r"the_node.*condition", {"x": X})
case("If: branches of unequal outputs", choice(yes, both), r"the_node.*outputs")
case("If: a branch with an input", choice(ox.graph([ox.node("Abs", ["i"], ["p"])], [ox.value("i", F, [1, 4])], [
    ox.value("p", F, [1, 4])]), no), r"the_node.*inputs")
case("If: weights of 64 KiB that branches alone read", net(
    [ox.node("If", ["c"], ["y"], "the_node",
             then_branch=ox.graph([ox.node("MatMul", ["x", "big"], ["p"])], [], [ox.value("p", F, [1, 4096])]),
             else_branch=ox.graph([ox.node("MatMul", ["x", "big2"], ["q"])], [], [ox.value("q", F, [1, 4096])]))],
    [t("big", F, [4, 4096], np.full((4, 4096), 2, np.float32).tobytes()),
     t("big2", F, [4, 4096], np.full((4, 4096), 3, np.float32).tobytes())],
    inputs=[ox.value("c", ox.BOOL, []), ox.value("x", F, [1, 4])], outputs=[ox.value("y", F, [1, 4096])]),
    gives(np.full((1, 4096), 20.0)), {"c": np.array(True), "x": X})
case("If: no else_branch", net([ox.node("If", ["c"], ["y"], "the_node", then_branch=yes)], [t("c", ox.BOOL, [], b"\1")]),
     r"the_node.*else_branch")
case("If: takes 70 values", ox.model(ox.graph(
    [ox.node("Relu", ["x"], [f"v{i}"]) for i in range(70)] + [ox.node("If", ["c"], ["y"], "the_node", then_branch=ox.graph(
        [ox.node("Add", [f"v{i}", "x"], [f"p{i}"]) for i in range(70)], [], [ox.value("p69", F, [1, 4])]), else_branch=no)],
    [ox.value("x", F, [1, 4])], [ox.value("y", F, [1, 4])], [t("c", ox.BOOL, [], b"\1")])), r"the_node.*more than 64")
case("If: one branch makes another type", choice(yes, ox.graph([ox.node("Cast", ["x"], ["q"], to=7)], [], [
    ox.value("q", ox.I64, [1, 4])])), lambda out: True, {"x": X})

# ---- A11: odd numbers ----
nan, inf = float("nan"), float("inf")
for name, values in {"NaN": [nan] * 4, "infinity": [inf, -inf, inf, 0], "denormals": [1e-45, -1e-45, 1e-40, 1e-39]}.items():
    case(f"weights: {name}", add_w(t("W", F, [4], ox.floats(*values))), gives(X + np.array(values, np.float32)), {"x": X})
case("weights: NaN in a matrix product", net([ox.node("MatMul", ["x", "W"], ["y"])], [t("W", F, [4, 2], ox.floats(*[nan] * 8))]),
     gives(np.full((1, 2), nan)), {"x": X})
for name, scale in {"zero": 0.0, "negative": -0.5, "NaN": nan, "infinite": inf, "a denormal": 1e-45}.items():
    case(f"quantization: a scale that is {name}", net(
        [ox.node("QuantizeLinear", ["x", "s", "z"], ["q"], "the_node"), ox.node("DequantizeLinear", ["q", "s", "z"], ["y"])],
        [t("s", F, [], ox.floats(scale)), t("z", ox.U8, [], b"\x80")]), lambda out: out["y"].shape == (1, 4), {"x": X})
case("division by zero of integers", net([ox.node("Div", ["x", "d"], ["y"])], [t("d", ox.I64, [4], i64(0, -1, 1, 2))],
                                         inputs=[ox.value("x", ox.I64, [4])], outputs=[ox.value("y", ox.I64, [4])]),
     lambda out: out["y"][2] == 3, {"x": np.array([1, -MAX - 1, 3, 4])})
case("a shift by 200", net([ox.node("BitShift", ["x", "d"], ["y"], direction="LEFT")], [t("d", 13, [1], i64(200))],
                           inputs=[ox.value("x", 13, [1])], outputs=[ox.value("y", 13, [1])]),
     gives(np.zeros(1, np.uint64)), {"x": np.ones(1, np.uint64)})
case("Cast of 1e30 and NaN to i32", net([ox.node("Cast", ["x"], ["y"], to=6)], outputs=[ox.value("y", ox.I32, [1, 4])]),
     gives([[2 ** 31 - 1, 0, -2 ** 31, 1]]), {"x": np.array([[1e30, nan, -1e30, 1]], np.float32)})

# ---- shapes that depend on data ----
case("NonZero of nothing", net([ox.node("NonZero", ["x"], ["y"])], outputs=[ox.value("y", ox.I64, [2, "n"])]),
     gives(np.zeros((2, 0), np.int64)), {"x": X * 0})
case("Reshape to a shape that is an input", net([ox.node("Reshape", ["x", "s"], ["y"], "the_node")], inputs=[
    ox.value("x", F, [1, 4]), ox.value("s", ox.I64, [2])]), gives(X.reshape(2, 2)), {"x": X, "s": np.array([2, 2])})
case("Reshape to a wrong shape that is an input", net([ox.node("Reshape", ["x", "s"], ["y"], "the_node")], inputs=[
    ox.value("x", F, [1, 4]), ox.value("s", ox.I64, [2])]), r"the_node", {"x": X, "s": np.array([3, 2])})
case("Expand to a huge shape that is an input", net([ox.node("Expand", ["x", "s"], ["y"], "the_node")], inputs=[
    ox.value("x", F, [1, 4]), ox.value("s", ox.I64, [2])]), r"the_node|memory|bytes", {"x": X, "s": np.array([1 << 40, 4])})
case("Range of 2^40, an input", net([ox.node("Range", ["a", "x", "d"], ["y"], "the_node")], [t("a", ox.I64, [], i64(0)), t(
    "d", ox.I64, [], i64(1))], inputs=[ox.value("x", ox.I64, [])], outputs=[ox.value("y", ox.I64, ["n"])]),
    r"the_node|memory|bytes", {"x": np.array(1 << 40)})

# ---- A7: external data ----
W4 = ox.floats(1, 2, 3, 4)


def ext(location, offset=None, length=None, dims=(4,), dtype=F):
    return add_w(ox.external("W", dtype, list(dims), location, offset, length))


def at(name, make):
    return {name: make}


sums = gives(X + X)
case("external: a file", ext("w.bin"), sums, {"x": X}, at("w.bin", W4))
case("external: offset and length", ext("w.bin", 4096, 16), sums, {"x": X}, at("w.bin", bytes(4096) + W4 + bytes(9)))
case("external: in a folder", ext("a/b/w.bin"), sums, {"x": X}, at("a/b/w.bin", W4))
case("external: ./", ext("./w.bin"), sums, {"x": X}, at("w.bin", W4))
case("external: a name with blanks and UTF-8", ext("wäge e.bin"), sums, {"x": X}, at("wäge e.bin", W4))
case("external: past 2 GiB in a sparse file", ext("w.bin", (5 << 30) + 64, 16), gives(X + X * 0 + 7), {"x": X},
     at("w.bin", ("sparse", (5 << 30) + 64, ox.floats(7, 7, 7, 7))))
case("external: no such file", ext("absent.bin"), r"'W'.*'absent\.bin'")
case("external: no location", add_w(t("W", F, [4], None, ox.num(14, 1))), r"'W'.*location")
for place in ("../w.bin", "a/../../w.bin", "a/../w.bin", "..", ".", "", "/etc/passwd", "//etc/passwd", "a/", "./",
              "../" * 40 + "etc/passwd", "a/" * 30 + "w.bin", "x" * 300 + "/w.bin"):
    case(f"external: at '{place[:24]}'", ext(place), r"'W'.*(below|location|folder|absent)", files={"a/w.bin": W4, "w.bin": W4})
case("external: a symbolic link", ext("w.bin"), r"'W'.*link", files=at("w.bin", ("link", "/etc/passwd")))
case("external: a symbolic link to a file beside it", ext("l.bin"), r"'W'.*link", files={"w.bin": W4, "l.bin": ("link", "w.bin")})
case("external: a folder that is a link", ext("d/passwd"), r"'W'.*folder", files=at("d", ("link", "/etc")))
case("external: a hard link", ext("w.bin"), r"'W'.*one name", files={"v.bin": W4, "w.bin": ("hard", "v.bin")})
case("external: a FIFO", ext("w.bin"), r"'W'.*regular", files=at("w.bin", ("fifo",)), limit=5)
case("external: a socket's folder", ext("w.bin"), r"'W'", files=at("w.bin", ("folder",)))
for offset, length in ((1, 16), (16, 16), (1 << 62, 16), (MAX, 16), (1 << 64, 16), ("-1", 16), ("0x0", 16), ("", 16),
                       (" 0", 16), (0, 15), (0, 17), (0, 0), (0, MAX), (0, "many"), (0, "-16")):
    case(f"external: offset {offset!r}, length {length!r}", ext("w.bin", offset, length), r"'W'", files=at("w.bin", W4))
case("external: an empty file", ext("w.bin"), r"'W'.*bytes 0 to 16", files=at("w.bin", b""))
case("external: 2^40 bytes of a small file", ext("w.bin", dims=(1 << 38,)), r"'W'", files=at("w.bin", W4))
case("external: more than is allowed", ext("w.bin", dims=(5 << 30,)), r"'W'.*allowed", files=at("w.bin", (
    "sparse", 20 << 30, b"")))
case("external: the same bytes 300 times", net(
    [ox.node("Sum", [f"w{i}" for i in range(k * 30, k * 30 + 30)], [f"s{k}"]) for k in range(10)]
    + [ox.node("Sum", [f"s{k}" for k in range(10)], ["y"])],
    [ox.external(f"w{i}", F, [1, 4], "w.bin") for i in range(300)]), gives(X * 300), {"x": X}, at("w.bin", W4))
case("external: strings", add_w(ox.external("W", ox.STRING, [1], "w.bin")), r"'W'.*strings", files=at("w.bin", W4))
case("external: raw data as well", add_w(ox.external("W", F, [4], "w.bin") + ox.sub(9, bytes(16))), sums, {"x": X},
     at("w.bin", W4))
case("external: int4", net([ox.node("Cast", ["W"], ["f"], to=1), ox.node("Add", ["x", "f"], ["y"])], [
    ox.external("W", 22, [4], "w.bin")]), gives(X + [1, 2, -1, -8]), {"x": X}, at("w.bin", b"\x21\x8f"))

# ---- A8: a good file, broken ----
good = ox.convolution(1)
GOOD_X = {"x": np.ones((1, 1, 8, 8), np.float32)}
rng = random.Random(1)
for k in range(24):
    cut = rng.randrange(len(good))
    case(f"cut after {cut} bytes", good[:cut], lambda out: True, GOOD_X)
    flip = bytearray(good)
    flip[rng.randrange(len(good))] ^= 1 << rng.randrange(8)
    case(f"a bit turned, {k}", bytes(flip), lambda out: True, GOOD_X)


# ---- running ----
def place_files(folder, files):
    for name, what in files.items():
        path = pathlib.Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(what, bytes):
            path.write_bytes(what)
        elif what[0] == "link":
            path.symlink_to(what[1])
        elif what[0] == "hard":
            os.link(path.parent / what[1], path)
        elif what[0] == "fifo":
            os.mkfifo(path)
        elif what[0] == "folder":
            path.mkdir()
        elif what[0] == "sparse":
            with open(path, "wb") as f:
                f.truncate(what[1])
                f.seek(what[1])
                f.write(what[2])


def attempt(data, want, feed, files):
    """In a child: None, or what is wrong."""
    with tempfile.TemporaryDirectory(prefix="winnow-hostile-") as folder:
        place_files(folder, files)
        path = pathlib.Path(folder) / "model.onnx"
        path.write_bytes(data)
        try:
            model = libwinnow.Model(path)
            model.limit(LOOPS_NS)
            out = model.run(feed if feed is not None else {"x": X})
        except libwinnow.Failed as e:
            if callable(want):
                return None if "turned" in want.__name__ else f"refused: {e}"
            return None if re.search(want, str(e), re.S) else f"said: {e}"
        except (KeyError, ValueError, TypeError) as e:
            return f"this test cannot feed it: {e!r}"
        if not callable(want):
            return "ran" if want else None
        return None if want(out) else f"gave {next(iter(out.values()))}"


def broken(out):
    return True


broken.__name__ = "turned"
for n, c in enumerate(CASES):
    if c[0].startswith(("cut after", "a bit turned")):
        CASES[n] = (c[0], c[1], broken, *c[3:])


def run_case(c):
    name, data, want, feed, files, limit = c
    r, w = os.pipe()
    start = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.close(r)
        resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
        resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
        try:
            why = attempt(data, want, feed, files)
        except BaseException as e:  # noqa: BLE001
            why = None if want is broken and not isinstance(e, MemoryError) else repr(e)
        os.write(w, (why or "").encode(errors="replace")[:4000])
        os._exit(0)
    os.close(w)
    said = b""
    while chunk := os.read(r, 65536):
        said += chunk
    os.close(r)
    _, status, usage = os.wait4(pid, 0)
    if os.WIFSIGNALED(status):
        return f"died of signal {os.WTERMSIG(status)}"
    took = usage.ru_utime + usage.ru_stime
    if not said and took > limit:
        return f"took {took:.1f} s of the processor, {limit:.0f} are allowed"
    del start
    return said.decode() or None


def main():
    words = [a for a in sys.argv[1:] if a != "-v"]
    count = {"passed": 0, "failed": 0}
    for c in CASES:
        if words and not any(word in c[0] for word in words):
            continue
        why = run_case(c)
        count["failed" if why else "passed"] += 1
        if why or "-v" in sys.argv:
            print(f"{'FAILED' if why else 'ok'}  {c[0]}{': ' + why[:400] if why else ''}", flush=True)
    print("{passed} passed, {failed} failed, 0 skipped".format(**count))
    return count["failed"] != 0


sys.exit(main())
