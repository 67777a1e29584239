"""big_model.py: a model of more than 2 GiB, which one ONNX file cannot hold, made here of random weights: winnowd serves it,
`winnow sparsify` prunes and trains it for an epoch, what comes of it serves too. Not part of `make test`: it takes minutes,
20 GiB of memory and 30 GiB of disk below $TMPDIR. Prints TAP-like lines."""
import array
import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import traceback

sys.path.insert(0, "tests/daemon")
import onnx_bytes as ox
from common import CLI, KINDS, SIDE, Daemon, check, end, make_zip, pictures, wait_for

ROOT = pathlib.Path(tempfile.mkdtemp(prefix="winnow-big-"))
WIDE = [(SIDE * SIDE, 16384), (16384, 32768), (32768, len(KINDS))]
PAGE = 4096
RECIPE = """modifiers:
  - !EpochRangeModifier {start_epoch: 0, end_epoch: 1}
  - !SetLearningRateModifier {start_epoch: 0, learning_rate: 0.001}
  - !GMPruningModifier {start_epoch: 0, end_epoch: 0.5, update_frequency: 0.5, init_sparsity: 0.5, final_sparsity: 0.8,
      params: [__ALL_PRUNABLE__]}
"""
CONFIG = """
server: {listen: ["127.0.0.1:0"]}
models: {repositories: [repo], state: state, max_file: 4GiB, cache: 0}
jobs: {worker: ""}
"""


def write_weights(file, rows, cols, rng):
    """Normal weights of variance 2/rows: a block of a million, cut from another place for every piece."""
    scale = (2 / rows) ** 0.5
    block = array.array("f", (rng.gauss(0, scale) for _ in range(1 << 20)))
    left = rows * cols
    while left:
        at = rng.randrange(1 << 19)
        piece = block[at:at + min(left, 1 << 19)]
        piece.tofile(file)
        left -= len(piece)


def make_model(folder):
    folder.mkdir(parents=True)
    rng, weights, nodes, last = random.Random(1), [], [ox.node("Flatten", ["x"], ["y0"], "flat", axis=1)], "y0"
    with open(folder / "model.onnx.data", "wb") as file:
        for i, (rows, cols) in enumerate(WIDE):
            file.seek(-file.tell() % PAGE, 1)
            weights.append(ox.external(f"w{i}", ox.F32, [rows, cols], "model.onnx.data", file.tell(), rows * cols * 4))
            write_weights(file, rows, cols, rng)
            nodes.append(ox.node("MatMul", [last, f"w{i}"], [f"m{i}"], f"layer{i}"))
            last = f"m{i}"
            if i + 1 < len(WIDE):
                nodes.append(ox.node("Relu", [last], [f"r{i}"], f"relu{i}"))
                last = f"r{i}"
    (folder / "model.onnx").write_bytes(ox.model(ox.graph(
        nodes, [ox.value("x", ox.F32, ["N", 1, SIDE, SIDE])], [ox.value(last, ox.F32, ["N", len(KINDS)])], weights)))
    (folder / "labels.txt").write_text("".join(f"{x}\n" for x in KINDS))
    (folder / "pipeline.yaml").write_text(
        "task: image_classification\nscale: 1/255\nmean: 0.2\nstd: 0.3\nlabels: labels.txt\nsoftmax: true\n")
    return folder


def serve(repo, what):
    """winnowd answers the same picture twice, alike."""
    folder = ROOT / "serve"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "repo/big").mkdir(parents=True)
    repo.rename(folder / "repo/big/1")
    try:
        d = Daemon(folder, CONFIG)
        try:
            ready = wait_for(lambda: d.curl("/v2/models/big/ready")[0] == 200, 600, 0.5)
            check(f"{what} loads", ready, d.log()[-1500:])
            picture = ROOT / "picture.png"
            picture.write_bytes(next(iter(pictures(9, 1).values())))
            out = [d.curl("/v2/models/big/infer", "-H", "content-type: image/png", "--data-binary", f"@{picture}")
                   for _ in range(2)]
            check(f"{what} serves", out[0][0] == 200 and out[0] == out[1], (out, d.log()[-1500:]))
        finally:
            check(f"{what}: winnowd stops", d.stop(60) == 0)
    finally:
        (folder / "repo/big/1").rename(repo)


def bytes_of(folder, file):
    return sum((folder / name).stat().st_size for name in (file, file + ".data"))


def main():
    try:
        base, out = make_model(ROOT / "base"), ROOT / "out"
        check("the model passes 2 GiB", bytes_of(base, "model.onnx") > 1 << 31)
        serve(base, "the base")
        (ROOT / "recipe.yaml").write_text(RECIPE)
        make_zip(ROOT / "set.zip", pictures(1, 20))
        p = subprocess.run([CLI, "sparsify", "-m", base, "-d", ROOT / "set.zip", "-r", ROOT / "recipe.yaml", "-o", out,
                            "--eval-share", "0.25", "--memory", "24000", "--json", ROOT / "scores.json"], capture_output=True, text=True)
        check("winnow sparsify ends well", p.returncode == 0, p)
        m = json.loads((ROOT / "scores.json").read_text())["result"]["metrics"]
        check("as sparse as the recipe says", abs(m["sparsity"] - 0.8) < 0.01, m)
        check("model and master pass 2 GiB, too", all(bytes_of(out, f) > 1 << 31 for f in ("model.onnx", "master.onnx")) and
              m["model_bytes"] == bytes_of(out, "model.onnx") and m["base_bytes"] == bytes_of(base, "model.onnx"), m)
        print("# " + json.dumps({k: m[k] for k in ("agreement", "master_agreement", "wall_s", "cpu_s")}))
        serve(out, "the result")
    except Exception:
        check("no exception", False, traceback.format_exc())
    finally:
        shutil.rmtree(ROOT, ignore_errors=True)
    return end()


sys.exit(main())
