#!/usr/bin/env python3
"""Runs every convolutional model of ../shared/data through `winnow run` and compares with the stored references.

Tolerances: f32 1e-4 relative to the largest reference value, f16 1e-2, quantized the same best class and at most 0.2 of
absolute difference (the gap the manifest gives between float-between-Q-and-DQ and integer arithmetic). Each model runs
on one and on two threads, and by its reference operators."""
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

DATA = pathlib.Path("../shared/data")
WINNOW = pathlib.Path(os.environ.get("BUILD", "build")) / "winnow"
CASES = [  # model, input array, input name, kind
    ("mnist_cntk", "mnist_digit7", "Input3", "f32"),
    ("resnet20_cifar10_bn_fp32", "cifar8", "input", "f32"),
    ("resnet20_cifar10_fp32", "cifar8", "input", "f32"),
    ("resnet20_cifar10_sparse80_fp32", "cifar8", "input", "f32"),
    ("resnet20_cifar10_sparse80_qdq", "cifar8", "input", "int8"),
    ("squeezenet1.1_fp32", "golden_retriever_caffe224", "data_0", "f32"),
    ("squeezenet1.1_fp16", "golden_retriever_caffe224_f16", "data_0", "f16"),
    ("mobilenetv2_1.0_224_fp32", "zebra_tf224", "input", "f32"),
    ("mobilenetv2_1.0_224_qdq", "zebra_tf224", "input", "int8"),
    ("mobilenetv2_1.0_224_qlinear", "zebra_tf224", "input", "int8"),
]


def check(got, want, kind):
    want, got = want.astype(np.float64), got.astype(np.float64).reshape(want.shape)
    diff, largest = np.abs(got - want).max(), np.abs(want).max()
    if (got.argmax(-1) != want.argmax(-1)).any():
        return f"another best class (difference {diff:.3g})"
    limit = {"f32": 1e-4 * largest, "f16": 1e-2 * largest, "int8": 0.2}[kind]
    return None if diff <= limit else f"difference {diff:.3g}, at most {limit:.3g} is allowed"


def main():
    if not DATA.is_dir():
        print("left out: ../shared/data is not there")
        print("0 passed, 0 failed, 1 skipped")
        return 0
    passed = failed = 0
    with tempfile.TemporaryDirectory() as tmp:
        for model, array, name, kind in CASES:
            np.savez(f"{tmp}/x.npz", **{name: np.load(DATA / f"reference/{array}.npy")})
            for options in (["-t", "1"], ["-t", "2"], ["-r"]):
                if options == ["-r"] and model.startswith(("mobilenet", "squeezenet")):
                    continue  # slow; the node tests cover the same references
                p = subprocess.run([WINNOW, "run", DATA / f"models/{model}.onnx", "-i", f"{tmp}/x.npz", "-o",
                                    f"{tmp}/y.npz", *options], capture_output=True, text=True)
                if p.returncode:
                    print(f"{model} {options}: {p.stderr.strip()}")
                    failed += 1
                    continue
                y = np.load(f"{tmp}/y.npz")
                for out in y.files:
                    why = check(y[out], np.load(DATA / f"reference/{model}.out.{out}.npy"), kind)
                    if why:
                        print(f"{model} {options} {out}: {why}")
                    passed, failed = passed + (why is None), failed + (why is not None)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
