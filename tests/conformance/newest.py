#!/usr/bin/env python3
"""ONNX's own node tests as the installed `onnx` package makes them: operator sets newer than Debian's libonnx-testdata
has. Written into BUILD/onnx-node-VERSION once, then run by BUILD/tests/conformance. Prints what does not pass, by
operators and reason. A test is one case of onnx.backend.test's node kind whose nodes are all of the default domain; a
function's *_expanded counts as one of its own."""
import collections
import os
import pathlib
import re
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


def default_domain(model):
    return all(n.domain in ("", "ai.onnx") for n in model.graph.node)


def operators(model):
    """Without Constant, which stands in most function bodies."""
    return ",".join(sorted({n.op_type for n in model.graph.node} - {"Constant"}))


REASONS = {"OptionalHasElement": "optionals", "OptionalGetElement": "optionals", "Bernoulli": "random numbers",
           "Scan": "the Scan of operator set 8, which had a batch axis",
           "RegexFullMatch": "regular expressions of RE2", "ImageDecoder": "pictures are the pipeline's, not the engine's"}


def table(cases, said, unwritten):
    """What of the default domain does not pass, by operators and reason, and the share that does."""
    verdict = {}
    for line in said.splitlines():
        m = re.match(r"(passed|FAILED|unsupported|not claimed) (\S+?):?(?: (.*))?$", line)
        if m:
            verdict[m[2]] = (m[1], re.sub(r"^.*?\): |^'.*?': ", "", m[3] or ""))
    passed, rest = 0, collections.Counter()
    for case in cases:
        how, why = verdict.get(case.name, ("not claimed", ""))
        if case.name in unwritten:
            how, why = "not claimed", "sequences or optionals"
        if how == "passed":
            passed += 1
            continue
        ops = operators(case.model) or case.model.graph.node[0].op_type
        known = next((r for o, r in REASONS.items() if o in ops), None)
        rest[ops[:60], why or known or ("random numbers" if "Random" in ops else "operator not there")] += 1
    for (ops, why), n in sorted(rest.items(), key=lambda kv: (-kv[1], kv[0])):
        print(f"{n:4} not: {ops}: {why[:100]}")
    print(f"onnx {onnx.__version__}: {passed} of {len(cases)} node tests of ai.onnx pass ({100 * passed / len(cases):.1f} %)")


def main():
    folder = BUILD / f"onnx-node-{onnx.__version__}"
    stamp = folder / ".unwritten"
    warnings.simplefilter("ignore")
    cases = [c for c in collect_testcases(None) if c.data_sets]
    if not stamp.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        stamp.write_text("\n".join(c.name for c in cases if not write(c, folder / c.name)))
    p = subprocess.run([BUILD / "tests/conformance", "-v", folder], capture_output=True, text=True, errors="replace")
    table([c for c in cases if default_domain(c.model)], p.stdout, set(stamp.read_text().split("\n")))
    print("\n".join(line for line in p.stdout.splitlines() if line.startswith(("FAILED", "conformance:"))))
    return p.returncode


sys.exit(main())
