#!/usr/bin/env python3
"""Builds and ONNX Runtime run by run in turns: turns.py [--seconds S] [--length N] FIRST OTHER...

    build/venv/bin/python tests/bench/turns.py ort:dense.onnx old/libwinnow.so:dense.onnx build/libwinnow.so:dense.onnx

Each is a libwinnow.so, or `ort`, and a model. All are loaded into this process and run one after the other, one thread, one
row, so that a slow moment of the machine meets all of them: between two processes a difference of 5 % drowns on a busy
machine, here one of 1 % shows. Printed for each: best and median ms, and the median over the turns of FIRST's time
divided by its own (above 1: faster than FIRST)."""
import argparse
import pathlib
import statistics
import time

from engines import OnnxRuntime, Winnow


def load(which, length):
    library, path = which.split(":", 1)
    if library == "ort":
        return OnnxRuntime(path)
    return Winnow(path, length=length, library=pathlib.Path(library).resolve())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--length", type=int, default=128, help="tokens of a text")
    parser.add_argument("engines", nargs="+", metavar="LIB:MODEL")
    args = parser.parse_args()
    engines = [load(which, args.length) for which in args.engines]
    feeds = [e.feed(1, args.length) for e in engines]
    times = [[] for _ in engines]
    for e, feed in zip(engines, feeds):
        e.run(feed)
    end = time.monotonic() + args.seconds
    while time.monotonic() < end or len(times[0]) < 5:
        for e, feed, own in zip(engines, feeds, times):
            begin = time.perf_counter()
            e.run(feed)
            own.append(1e3 * (time.perf_counter() - begin))
    for which, own in zip(args.engines, times):
        ratio = statistics.median(a / b for a, b in zip(times[0], own))
        print(f"{which:<70} best {min(own):8.3f}  median {statistics.median(own):8.3f} ms  {ratio:6.3f}  ({len(own)} turns)")


if __name__ == "__main__":
    main()
