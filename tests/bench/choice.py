#!/usr/bin/env python3
"""Is the kernel that the cost table chooses the fastest? choice.py [--fit] [--only REGEX] [--quick]

Nets of one layer, shapes times share of zeros times pattern, f32 and int8: `winnow analyze --tune` measures every
candidate in its place, one thread. Printed per cell: what the table chooses, by how much it is slower than the fastest
candidate and than the dense one; at the end, how many cells lose to dense by more than 5 % (a sparse layer is to be never
slower than a dense one). --fit: lines for engine/plan/cost.def, fitted to what was measured here (least squares of
relative errors, cycles by the clock that checkkern measures), for the instruction set of this machine (WINNOW_CPU=avx2
lowers it)."""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import bench  # noqa: E402
import nets  # noqa: E402

BUILD = pathlib.Path(os.environ.get("BUILD", "build"))
# name: (outputs, inputs, kernel, side), or (outputs, inputs, tokens)
CONVS = {"1x1 64>256 at 56": (256, 64, 1, 56), "3x3 64>64 at 56": (64, 64, 3, 56), "3x3 128>128 at 28": (128, 128, 3, 28),
         "1x1 1024>256 at 14": (256, 1024, 1, 14), "3x3 256>256 at 14": (256, 256, 3, 14),
         "1x1 512>2048 at 7": (2048, 512, 1, 7), "3x3 512>512 at 7": (512, 512, 3, 7)}
LINEARS = {f"{i}>{o}, {m} tokens": (o, i, m) for o, i in ((768, 768), (3072, 768), (768, 3072), (384, 384))
           for m in (1, 8, 16, 128)}
ZEROS = [(0, None)] + [(z, b) for z in (50, 70, 80, 90, 95) for b in (None, "1x4", "4x1")]
GEMV = ("f32_gemv", "q8_gemv")


class Layer(nets.Layers):
    """A net that keeps the weights of its layer, for counting."""

    def random(self, shape, gain, dense=False):
        w, b = super().random(shape, gain, dense)
        self.kept = w
        return w, b


def make(path, kind, shape, zeros, block):
    l = Layer(1, kind == "int8", zeros / 100, block)
    if len(shape) == 4:
        o, i, k, side = shape
        x = l.quantize("input", 0.02, 128)
        l.net.save(path, "input", ["N", i, side, side], l.conv(x, i, o, k), ["N", o, side, side])
    else:
        o, i, m = shape
        w, b = l.random((o, i), 1.0)
        x = l.quantize("input", 0.02, 128)
        if kind == "int8":
            scale = (np.abs(w).max(1) / 127).astype(np.float32)
            scale[scale == 0] = 1 / 127
            q = np.clip(np.rint(w / scale[:, None]), -127, 127).astype(np.int8)
            wt = l.net.op("DequantizeLinear", [l.net.const(q.T.copy(), "w"), l.net.const(scale),
                                               l.net.const(np.zeros(o, np.int8))], axis=1)
        else:
            wt = l.net.const(w.T.copy(), "w")
        y = l.net.op("Add", [l.net.op("MatMul", [x, wt]), l.net.const(b)])
        l.net.save(path, "input", [1, m, i], l.quantize(y, 10 / 255, 128), [1, m, o])
    return l.kept


def counts(w, shape):
    """Steps of every family: weights, those not zero, blocks that are not all zero."""
    o, i = w.shape[:2]
    flat = w.reshape(o, i, -1)
    some = lambda size, axis: np.pad(flat != 0, [(0, -flat.shape[a] % size if a == axis else 0) for a in range(3)])
    quads = some(4, 1).reshape(o, -1, 4, flat.shape[2]).any(2).sum()
    rows = lambda n: some(n, 0).reshape(-1, n, *flat.shape[1:]).any(1).sum()
    full = -(-i // 4) * 4 * o * flat.shape[2]
    side = shape[3] if len(shape) == 4 else 1  # taps of a 3x3 that lie in the picture
    inside = ((3 * side - 2) / (3 * side)) ** 2 if flat.shape[2] == 9 else 1
    return {"f32_conv": w.size * inside, "q8_conv": full * inside, "f32_gemm": w.size, "f32_gemv": w.size, "q8_gemv": w.size, "q8_gemm": full, "f32_spmm": (w != 0).sum(),
            "q8_spmm": (w != 0).sum(), "q8_spmm_b4": quads, "f32_spmm_2x1": rows(2), "q8_spmm_2x1": rows(2),
            "f32_spmm_4x1": rows(4), "q8_spmm_4x1": rows(4)}


def measure(path):
    """What was chosen, and microseconds by family."""
    p = subprocess.run([BUILD / "winnow", "analyze", path, "--tune", "--json", "-"], capture_output=True, text=True)
    if p.returncode:
        sys.exit(p.stderr)
    told = json.loads(p.stdout)
    for step in told["steps"]:
        if "measured us:" in step["why"]:
            parts = {}
            for what in ("predicted kcycles", "measured us"):
                text = re.search(what + r": ([^;]*)", step["why"]).group(1)
                parts[what] = {f.rsplit(" ", 1)[0]: float(f.rsplit(" ", 1)[1]) for f in text.split(", ")}
            predicted, us = parts["predicted kcycles"], parts["measured us"]
            return min(predicted, key=predicted.get), us, told
    sys.exit(f"{path}: no layer with a choice")


def columns(shape, family):
    if len(shape) == 4:
        return shape[3] * shape[3]
    return shape[2] if family in GEMV else -(-shape[2] // 16) * 16


def fit(rows, clock):
    """COST lines: cycles = (steps a + outputs b) * (columns + c per 64 of them) / 64."""
    isa, found = rows[0]["isa"], {}
    for r in rows:
        for family, us in r["us"].items():
            cols = columns(r["shape"], family)
            if family.startswith("q8_spmm") and not family.endswith("b4"):
                step = {"avx512vnni": 64, "avx2vnni": 32, "avx2": 32}.get(isa, 1)
                cols = -(-cols // step) * step
            found.setdefault(family, []).append((r["steps"][family], r["shape"][0], cols, us * 1e3 * clock))
    for family, points in sorted(found.items()):
        steps, outputs, cols, cycles = np.array(points, float).T
        best, error = None, np.inf
        for over in range(0, 33, 2) if "spmm" in family else [0]:
            width = (cols + over * np.ceil(cols / 64)) / 64
            base = steps * width / cycles
            for per_row in np.linspace(0, 800, 161):  # none may be negative
                rest = outputs * width * per_row / cycles
                per_step = max((base @ (1 - rest)) / (base @ base), 0)
                e = np.abs(base * per_step + rest - 1).mean()
                if e < error:
                    best, error = (per_step, per_row, over), e
        print(f"COST({family + ',':<14} {isa + ',':<12} {best[0]:6.1f}, {best[1]:6.1f}, {best[2]:4.0f})   "
              f"/* mean error {100 * error:.0f} % of {len(points)} */")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--only", default="", metavar="REGEX", help="of cells as they are printed")
    parser.add_argument("--quick", action="store_true", help="dense, 80 %% and 95 %% only")
    args = parser.parse_args()
    clock = float(re.search(r"clock ([\d.]+)", subprocess.run([BUILD / "tests/checkkern", "--bench", "--filter", "-"],
                                                              capture_output=True, text=True).stdout).group(1))
    rows, lost, behind = [], [], []
    print(f"{bench.cpu()}\n{'':<40}{'chosen':<16}{'us':>9}  x fastest  x dense")
    with tempfile.TemporaryDirectory() as tmp:
        path = pathlib.Path(tmp) / "layer.onnx"
        for kind in ("f32", "int8"):
            for name, shape in {**CONVS, **LINEARS}.items():
                for zeros, block in ZEROS:
                    cell = f"{kind} {name} {zeros} % {block or ''}".strip()
                    if not re.search(args.only, cell) or args.quick and zeros not in (0, 80, 95):
                        continue
                    steps = counts(make(path, kind, shape, zeros, block), shape)
                    chosen, us, told = measure(path)
                    dense = min((t for f, t in us.items() if f.endswith(("gemm", "conv")) or f in GEMV), default=us[chosen])
                    best = min(us.values())
                    rows.append({"shape": shape, "steps": steps, "us": us, "isa": told["isa"]})
                    behind.append(us[chosen] / best)
                    mark = ""
                    if us[chosen] > 1.05 * dense:
                        lost.append(cell)
                        mark = "   slower than dense"
                    print(f"{cell:<40}{chosen:<16}{us[chosen]:9.1f}  {us[chosen] / best:9.2f}  {us[chosen] / dense:7.2f}{mark}",
                          flush=True)
    print(f"\n{len(rows)} cells; chosen against the fastest: median {np.median(behind):.2f}, worst {max(behind):.2f}; "
          f"slower than dense by more than 5 %: {len(lost)}")
    for cell in lost:
        print("  " + cell)
    if args.fit:
        print(f"\nfitted at {clock} GHz:")
        fit(rows, clock)


if __name__ == "__main__":
    main()
