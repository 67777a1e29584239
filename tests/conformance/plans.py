#!/usr/bin/env python3
"""ONNX's node tests through the public API, so through passes, plans, kernels and what is run late: what the references
pass (tests/conformance/newest.py) must come out of winnow_run() as well.

    plans.py [FOLDER]     default: BUILD/onnx-node-VERSION, which newest.py writes

Left out: cases with strings, and those of element types that numpy has not."""
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
BUILD = pathlib.Path(os.environ.get("BUILD", "build"))
try:
    import libwinnow
    import numpy as np
    import onnx
    from onnx import numpy_helper
    libwinnow.library()
except (ImportError, OSError) as e:
    print(f"left out: {e}")
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)


def tensors(folder, kind, infos):
    out = {}
    for i, info in enumerate(infos):
        t = onnx.TensorProto()
        t.ParseFromString((folder / f"test_data_set_0/{kind}_{i}.pb").read_bytes())
        if t.data_type not in libwinnow.DTYPES:
            return None
        out[info.name] = numpy_helper.to_array(t)
    return out


def different(got, want):
    if got.shape != want.shape or got.dtype != want.dtype:
        return f"{got.dtype}{list(got.shape)}, must be {want.dtype}{list(want.shape)}"
    if got.dtype.kind not in "f":
        return None if (got == want).all() else "integers differ"
    rtol = 2.0 ** -8 if got.dtype == np.float16 else 1e-3
    ok = np.isclose(got.astype(np.float64), want.astype(np.float64), rtol=rtol, atol=1e-5, equal_nan=True)
    return None if ok.all() else f"{(~ok).sum()} of {ok.size} elements differ"


def main():
    words = [a for a in sys.argv[1:] if a != "-v"]
    folder = pathlib.Path(words[0]) if words else BUILD / f"onnx-node-{onnx.__version__}"
    count, refused = {"passed": 0, "failed": 0, "skipped": 0}, 0
    for case in sorted(p for p in folder.iterdir() if p.is_dir()):
        graph = onnx.load(case / "model.onnx", load_external_data=False).graph
        feed, want = tensors(case, "input", graph.input), tensors(case, "output", graph.output)
        if feed is None or want is None:
            count["skipped"] += 1
            continue
        try:
            model = libwinnow.Model(case / "model.onnx")
        except libwinnow.Failed as e:
            refused += 1
            if "-v" in sys.argv:
                print(f"refused {case.name}: {e}")
            continue
        why = None
        try:
            got = model.run(feed)
            why = next((f"{n}: {d}" for n, w in want.items() if (d := different(got[n], w))), None)
        except libwinnow.Failed as e:
            why = str(e)
        model.close()
        count["failed" if why else "passed"] += 1
        if why:
            print(f"FAILED {case.name}: {why}")
    print(f"{refused} refused when loading")
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**count))
    return count["failed"] != 0


sys.exit(main())
