#!/usr/bin/env python3
"""Encoders on one thread beside ONNX Runtime: tests/bench/bert.py [MODEL.onnx ...] [--lengths 16,128] [--seconds 3]

Without models: random weights (nets.py, made under build/bench) in the shapes of --shape, f32 and int8, dense and pruned,
with attention's products quantized and without, beside ONNX Runtime's times for the dense f32 and int8 files; its int8
is the faster of the two forms. It does not profit from zeros.
All engines run in this process, block by block in turn; what is compared is CPU time per run, which other work on the
machine disturbs less than the clock: medians and bests of the blocks. Inputs are token ids, a mask of ones, types of
zeros."""
import argparse
import ctypes
import os
import pathlib
import statistics
import sys
import time

import numpy as np
import onnxruntime as ort

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import bench  # noqa: E402
import nets  # noqa: E402

BUILD = pathlib.Path(os.environ.get("BUILD", "build"))


class Tensor(ctypes.Structure):  # struct winnow_tensor
    _fields_ = [("dtype", ctypes.c_int), ("rank", ctypes.c_uint), ("shape", ctypes.c_int64 * 8),
                ("data", ctypes.c_void_p), ("bytes", ctypes.c_size_t)]


class Winnow:
    def __init__(self, path):
        self.lib = ctypes.CDLL(str(BUILD / "libwinnow.so"))
        self.err, self.model, self.scratch = ctypes.create_string_buffer(1024), ctypes.c_void_p(), ctypes.c_void_p()
        self.check(self.lib.winnow_model_load(str(path).encode(), None, ctypes.byref(self.model), self.err))
        self.check(self.lib.winnow_scratch_new(self.model, None, ctypes.byref(self.scratch), self.err))
        self.outputs = self.lib.winnow_model_n_outputs(self.model)

    def close(self):
        self.lib.winnow_scratch_free(self.scratch)
        self.lib.winnow_model_unref(self.model)

    def check(self, status):
        if status:
            sys.exit(f"winnow: {self.err.raw[4:].split(bytes(1))[0].decode()}")

    def run(self, feed):
        x, y = (Tensor * len(feed))(), (Tensor * self.outputs)()
        for t, a in zip(x, feed.values()):
            t.dtype, t.rank, t.data, t.bytes = 7, a.ndim, a.ctypes.data, a.nbytes
            t.shape[:a.ndim] = a.shape
        self.check(self.lib.winnow_run(self.model, self.scratch, x, len(x), y, self.outputs, self.err))
        shape = list(y[0].shape)[:y[0].rank]
        return np.ctypeslib.as_array(ctypes.cast(y[0].data, ctypes.POINTER(ctypes.c_float)), shape).copy()


def block(run, seconds):
    start, cpu, n = time.monotonic(), time.process_time(), 0
    while n == 0 or time.monotonic() < start + seconds:
        run()
        n += 1
    return (time.process_time() - cpu) / n * 1e3


class Runtime:
    def __init__(self, path):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(self, feed):
        return self.session.run(None, feed)[0]

    def feed(self, length, batch=1):
        rng, feed = np.random.default_rng(0), {}
        for i in self.session.get_inputs():
            kind = np.ones if "mask" in i.name else np.zeros if "type" in i.name else None
            feed[i.name] = kind((batch, length), np.int64) if kind else rng.integers(0, 999, (batch, length))
        return feed


def compare(path, length, seconds):
    runtime, winnow = Runtime(path), Winnow(path)
    feed = runtime.feed(length)
    want, got = runtime.run(feed), winnow.run(feed)
    difference = np.abs(got - want).max() / np.abs(want).max()
    ours, theirs = [], []
    for _ in range(4):
        ours.append(block(lambda: winnow.run(feed), seconds / 8))
        theirs.append(block(lambda: runtime.run(feed), seconds / 8))
    print(f"{path.name:32} {length:4} tokens  winnow {min(ours):8.3f} ms  ONNX Runtime {min(theirs):8.3f} ms  "
          f"{min(theirs) / min(ours):6.2f}x  difference {difference:.1e}", flush=True)


SHAPES = {"bert-base": {}, "minilm-l6": {"layers": 6, "width": 384, "heads": 12, "hidden": 1536}}
PRUNED = {"dense": {}, "90 %": {"sparsity": 0.9}, "95 %": {"sparsity": 0.95}, "95 % 1x4": {"sparsity": 0.95, "block": "1x4"},
          "95 % 4x1": {"sparsity": 0.95, "block": "4x1"}}


def made(shape, kind, pruned):
    path = BUILD / f"bench/{shape}-{kind}-{pruned}.onnx".replace(" %", "").replace(" ", "-")
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        nets.bert(path, int8=kind != "f32", products=kind == "int8-attention", **SHAPES[shape], **PRUNED[pruned])
    return path


def grid(shape, length, seconds):
    """Times of one shape: each line's blocks alternate with those of the peers."""
    kinds = ("f32", "int8", "int8-attention")
    peers = {kind: Runtime(made(shape, kind, "dense")) for kind in kinds}
    feed = peers["f32"].feed(length)
    print(f"{shape}, {length} tokens{'':21}median ms   best ms   x ORT f32 (best)   x ORT int8 (best)", flush=True)
    for kind in kinds:
        for pruned in PRUNED:
            winnow, ours, theirs = Winnow(made(shape, kind, pruned)), [], {k: [] for k in kinds}
            for _ in range(4):
                ours.append(block(lambda: winnow.run(feed), seconds / 16))
                for k in kinds:
                    theirs[k].append(block(lambda: peers[k].run(feed), seconds / 16))
            bases = theirs["f32"], min(theirs["int8"], theirs["int8-attention"], key=statistics.median)
            text = f"{kind + ' ' + pruned:<36}{statistics.median(ours):10.2f}{min(ours):10.2f}"
            for base in bases:
                text += f"     {statistics.median(base) / statistics.median(ours):6.2f} ({min(base) / min(ours):5.2f})"
            print(text, flush=True)
            winnow.close()
    print(f"  ONNX Runtime f32 {min(bases[0]):.2f} ms, int8 {min(bases[1]):.2f} ms (best)")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=pathlib.Path)
    parser.add_argument("--lengths", default="128")
    parser.add_argument("--seconds", type=float, default=8, help="of one line")
    parser.add_argument("--shape", choices=[*SHAPES, "all"], default="all")
    args = parser.parse_args()
    if not args.models:
        print(f"{bench.cpu()}, ONNX Runtime {ort.__version__}, one thread")
    for length in map(int, args.lengths.split(",")):
        for shape in [] if args.models else SHAPES if args.shape == "all" else [args.shape]:
            grid(shape, length, args.seconds)
    for path in args.models:
        for length in args.lengths.split(","):
            compare(path, int(length), args.seconds)


if __name__ == "__main__":
    main()
