#!/usr/bin/env python3
"""ONNX's own node tests as the installed `onnx` package makes them: operator sets newer than Debian's libonnx-testdata
has. Written into BUILD/onnx-node once per version of the package, then run by BUILD/tests/conformance."""
import os
import pathlib
import shutil
import subprocess
import sys
import warnings

BUILD = pathlib.Path(os.environ.get("BUILD", "build"))
try:
    import numpy as np
    import onnx
    from onnx import numpy_helper
    from onnx.backend.test.case.node import collect_testcases
except ImportError as e:
    print(f"left out: {e}")
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)


def write(case, folder):
    """False where a value is no tensor (sequences, optionals)."""
    data = folder / "test_data_set_0"
    graph = case.model.graph
    files = []
    for kind, values, infos in zip(("input", "output"), case.data_sets[0], (graph.input, graph.output)):
        for i, v in enumerate(values):
            if isinstance(v, (np.ndarray, np.generic)):
                v = numpy_helper.from_array(np.asarray(v), infos[i].name)
            if not isinstance(v, onnx.TensorProto):
                return False
            files.append((f"{kind}_{i}.pb", v.SerializeToString()))
    data.mkdir(parents=True)
    for name, content in files:
        (data / name).write_bytes(content)
    (folder / "model.onnx").write_bytes(case.model.SerializeToString())
    return True


def main():
    folder = BUILD / "onnx-node"
    stamp = folder / ".version"
    if not stamp.exists() or stamp.read_text() != onnx.__version__:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        warnings.simplefilter("ignore")
        for case in collect_testcases(None):
            if case.data_sets:
                write(case, folder / case.name)
        stamp.write_text(onnx.__version__)
    return subprocess.run([BUILD / "tests/conformance", folder]).returncode


sys.exit(main())
