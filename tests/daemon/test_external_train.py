"""test_external_train.py: `winnow sparsify` of models whose weights lie in files beside them. The result has the base's
form and the very weights that the same model in one file gives, also in a second round; a teacher brings its own files
along; a file that is missing or leads elsewhere is named. Prints TAP-like lines."""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import traceback

from common import CLI, KINDS, MAKE_CNN, SIDE, WORKER, check, end, make_base, make_zip, pictures
from onnx_bytes import initializers

ROOT = pathlib.Path(tempfile.mkdtemp(prefix="winnow-external-train-"))
RECIPE = """modifiers:
  - !EpochRangeModifier {start_epoch: 0, end_epoch: 4}
  - !SetLearningRateModifier {start_epoch: 0, learning_rate: 0.03}
  - !GMPruningModifier {start_epoch: 0, end_epoch: 2, update_frequency: 0.5, init_sparsity: 0.2, final_sparsity: 0.6,
      params: [__ALL_PRUNABLE__]}
  - !QuantizationModifier {start_epoch: 2, disable_quantization_observer_epoch: 3, freeze_bn_stats_epoch: 3}
"""
TEACH = """modifiers:
  - !EpochRangeModifier {start_epoch: 0, end_epoch: 1}
  - !SetLearningRateModifier {start_epoch: 0, learning_rate: 0.03}
  - !DistillationModifier {start_epoch: 0, hardness: 0.5, temperature: 2}
"""
WHOLE = ["labels.txt", "master.onnx", "model.onnx", "pipeline.yaml"]
SPLIT = sorted(WHOLE + ["master.onnx.data", "model.onnx.data"])


def sparsify(model, out, recipe="recipe.yaml", *more):
    return subprocess.run([CLI, "sparsify", "-m", model, "-d", ROOT / "set.zip", "-r", ROOT / recipe, "-o", ROOT / out,
                           *more], capture_output=True, text=True)


def files(name):
    return sorted(p.name for p in (ROOT / name).iterdir())


def same(name, file, a, b):
    a, b = initializers(ROOT / a / file), initializers(ROOT / b / file)
    differ = [n for n in a.keys() | b.keys() if a.get(n) != b.get(n)]
    check(f"{name}: every tensor of {file} is the same bit by bit, of {len(a)}", len(a) > 5 and not differ, differ)


def test_rounds():
    """Two jobs one after the other, from one file and from two."""
    whole, split = make_base(ROOT / "whole"), make_base(ROOT / "split", beside=True)
    check("the base's weights lie beside it", (split / "model.onnx.data").stat().st_size > 40000 and
          (split / "model.onnx").stat().st_size < 12000, files("split"))
    for n, (a, b) in enumerate([("whole", "split"), ("whole-1", "split-1")], 1):
        for model, form in ((a, WHOLE), (b, SPLIT)):
            out = f"{model.split('-')[0]}-{n}"
            p = sparsify(ROOT / model, out)
            check(f"round {n} from {model}: ends well, in the base's form", p.returncode == 0 and files(out) == form,
                  (p, (ROOT / out).exists() and files(out)))
        for file in ("model.onnx", "master.onnx"):
            same(f"round {n}", file, f"whole-{n}", f"split-{n}")


def test_one_file():
    """A .onnx file with another name: its files keep theirs."""
    (ROOT / "other").mkdir()
    shutil.copy(ROOT / "split/labels.txt", ROOT / "other")
    shutil.copy(ROOT / "split/pipeline.yaml", ROOT / "other")
    subprocess.run([MAKE_CNN, ROOT / "other/net.onnx", "1", str(SIDE), str(len(KINDS)), "3", "bn", "beside"], check=True)
    p = sparsify(ROOT / "other/net.onnx", "kept", "recipe.yaml", "--keep")
    check("a file of another name", p.returncode == 0 and
          {"model.onnx", "net.onnx.data"} <= set(files("kept/job/base")), (p, files("kept")))
    same("a file of another name", "model.onnx", "kept", "whole-1")
    p = subprocess.run([CLI, "evaluate", ROOT / "kept", ROOT / "kept/job/data/eval/rows.npz", "-j", "-"],
                       capture_output=True, text=True)
    size = sum((ROOT / "kept" / n).stat().st_size for n in ("model.onnx", "model.onnx.data"))
    check("evaluate counts the bytes of both files", p.returncode == 0 and f'"bytes": {size}' in p.stdout, (p, size))
    p = sparsify(ROOT / "whole", "kept", "recipe.yaml", "--force")
    check("--force takes the earlier result's files away", p.returncode == 0 and files("kept") == WHOLE, (p, files("kept")))


def test_resume():
    """A checkpoint is bound to what the weights' file holds."""
    p = sparsify(ROOT / "split", "again", "recipe.yaml", "--keep")
    job = ROOT / "again/job"
    progress, data = job / "work/progress.jsonl", job / "base/model.onnx.data"

    def run():
        (job / "work/result.json").unlink()
        progress.write_text("")
        return subprocess.run([WORKER, "run", job, "--quiet"], capture_output=True, text=True)

    before = initializers(job / "work/candidate/model.onnx")
    q = run()
    check("the same job goes on from its last checkpoint, to the same weights", p.returncode == 0 and q.returncode == 0 and
          "resumed after step" in progress.read_text() and initializers(job / "work/candidate/model.onnx") == before, (p, q))
    raw = bytearray(data.read_bytes())
    raw[4096 + 2] ^= 1
    data.write_bytes(raw)
    q = run()
    check("one bit of the weights' file: it starts anew", q.returncode == 0 and "made from another model" in
          progress.read_text() and "resumed after step" not in progress.read_text() and
          initializers(job / "work/candidate/model.onnx") != before, (q, progress.read_text()[-600:]))


def test_teacher():
    """Base and teacher both have a model.onnx.data."""
    p = sparsify(ROOT / "split", "taught", "teach.yaml", "--teacher", ROOT / "split-1/master.onnx")
    check("a teacher in two files", p.returncode == 0, p)
    p = sparsify(ROOT / "whole", "taught-whole", "teach.yaml", "--teacher", ROOT / "whole-1/master.onnx")
    check("the same in one", p.returncode == 0, p)
    same("with a teacher", "model.onnx", "taught", "taught-whole")


def test_refused():
    def base(name, change):
        folder = ROOT / "bad" / name
        shutil.copytree(ROOT / "split", folder)
        change(folder, folder / "model.onnx.data")
        return folder

    def linked(folder, data):
        os.rename(data, folder / "elsewhere")
        os.symlink("elsewhere", data)

    def renamed(folder, location):
        model = folder / "model.onnx"
        model.write_bytes(model.read_bytes().replace(b"model.onnx.data", location))

    for name, change, why in [("missing", lambda f, d: d.unlink(), "'model.onnx.data'"),
                              ("link", linked, "'model.onnx.data' is a link"),
                              ("hard link", lambda f, d: os.link(d, f / "twice"), "one name"),
                              ("above", lambda f, d: renamed(f, b"../../split/abc"), "does not lie below"),
                              ("absolute", lambda f, d: renamed(f, b"/etc/passwd0123"), "does not lie below"),
                              ("short", lambda f, d: os.truncate(d, 5000), "'model.onnx.data', which has 5000")]:
        p = sparsify(base(name, change), f"bad/{name}-out")
        check(f"its file is {name}: refused, named, nothing left", p.returncode == 1 and why in p.stderr and
              not (ROOT / f"bad/{name}-out").exists(), p)


def main():
    (ROOT / "recipe.yaml").write_text(RECIPE)
    (ROOT / "teach.yaml").write_text(TEACH)
    make_zip(ROOT / "set.zip", pictures(1, 60))
    try:
        test_rounds()
        test_one_file()
        test_resume()
        test_teacher()
        test_refused()
    except Exception:
        check("no exception", False, traceback.format_exc())
    finally:
        if not os.environ.get("KEEP"):
            shutil.rmtree(ROOT, ignore_errors=True)
    return end()


sys.exit(main())
