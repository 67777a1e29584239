#!/usr/bin/env python3
"""Encoders on one thread beside ONNX Runtime: tests/bench/bert.py [MODEL.onnx ...] [--lengths 16,128] [--seconds 3]

Without models: BERT-base shapes with random weights, dense, 95 % unstructured and 95 % in 4x1 blocks (nets.py), made under
build/bench.
Both engines run in this process, block by block in turn; what is compared is CPU time per run (the least of all blocks),
which other work on the machine disturbs less than the clock. Inputs are token ids, a mask of ones, types of zeros."""
import argparse
import ctypes
import os
import pathlib
import sys
import time

import numpy as np
import onnxruntime as ort

sys.path.insert(0, str(pathlib.Path(__file__).parent))
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


def compare(path, length, seconds, batch=1):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    winnow, rng, feed = Winnow(path), np.random.default_rng(0), {}
    for i in session.get_inputs():
        kind = np.ones if "mask" in i.name else np.zeros if "type" in i.name else None
        feed[i.name] = kind((batch, length), np.int64) if kind else rng.integers(0, 999, (batch, length))
    want, got = session.run(None, feed)[0], winnow.run(feed)
    difference = np.abs(got - want).max() / np.abs(want).max()
    ours, theirs = [], []
    for _ in range(4):
        ours.append(block(lambda: winnow.run(feed), seconds / 8))
        theirs.append(block(lambda: session.run(None, feed), seconds / 8))
    print(f"{path.name:32} {length:4} tokens  winnow {min(ours):8.3f} ms  ONNX Runtime {min(theirs):8.3f} ms  "
          f"{min(theirs) / min(ours):6.2f}x  difference {difference:.1e}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=pathlib.Path)
    parser.add_argument("--lengths", default="16,64,128")
    parser.add_argument("--seconds", type=float, default=8)
    args = parser.parse_args()
    if not args.models:
        (BUILD / "bench").mkdir(exist_ok=True)
        for sparsity, block in ((0, None), (0.95, None), (0.95, "4x1")):
            path = BUILD / f"bench/bert-base-{round(100 * sparsity)}{'-' + block if block else ''}.onnx"
            if not path.exists():
                nets.bert(path, sparsity=sparsity, block=block)
            args.models.append(path)
    for path in args.models:
        for length in args.lengths.split(","):
            compare(path, int(length), args.seconds)


if __name__ == "__main__":
    main()
