"""test_models.py: what a person finds out about a repository: how versions stand (winnow models list), what lies in the
wrong place, and what `winnowd --check` tells before a start. A real winnowd on loopback, free port."""
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from common import CLI, WINNOWD, Daemon, check, end, make_base, wait_for  # noqa: E402

MODEL = pathlib.Path("demo/base/model.onnx").absolute()
CONFIG = """
server:
  listen: ["127.0.0.1:0"]
models:
  repositories: [repo]
  state: state
  poll: 100ms
  settle: %s
jobs:
  enabled: false
"""
# Where a model is put by mistake, and the words that help.
STRAYS = {
    "flat/model.onnx": ("flat/model.onnx", "flat/1/model.onnx would be served"),
    "named/v1/model.onnx": ("named/v1", "no version: a whole number"),
    "zero/01/model.onnx": ("zero/01", "without leading zeros"),
    "deep/a/1/model.onnx": ("deep/a", "too deep"),
    "below/1/onnx/model.onnx": ("below/1", "'onnx/model.onnx' lies too deep"),
    "my model/1/model.onnx": ("my model", "no model's: letters, digits"),
    "other/1/my.onnx": ("other/1", "'my.onnx' is not served: a version's file must be called model.onnx"),
    "alone.onnx": ("alone.onnx", "lies in the repository itself"),
}


def put(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(MODEL, path)


def make_repo(root):
    put(root / "repo/good/1/model.onnx")
    put(root / "repo/good/2/model.onnx")
    (root / "repo/good/3").mkdir()
    (root / "repo/good/3/model.onnx").write_text("no model\n")
    (root / "repo/good/docs").mkdir()
    (root / "repo/good/docs/notes.txt").write_text("no model, nothing to tell\n")
    (root / "repo/empty/1").mkdir(parents=True)
    for name in STRAYS:
        put(root / "repo" / name)
    (root / "state").mkdir()


def run(*args):
    return subprocess.run([str(a) for a in args], capture_output=True, text=True, timeout=60)


def test_list(d):
    wait_for(lambda: "model_load_failed" in d.log() and "model_live model=good" in d.log(), 20)
    p = run(CLI, "models", "-s", d.url)
    lines = p.stdout.splitlines()
    good = {line.split()[1]: line for line in lines if line.startswith("good ")}
    check("models list: how each version stands", good["1"].split()[2] == "kept" and good["2"].split()[2] == "live" and
          good["3"].split()[2] == "failed", p)
    check("who put it there, and why it failed", "repository" in good["3"] and "not an ONNX" in good["3"], good)
    check("no path of the server's is told", str(d.folder) not in p.stdout, p.stdout)
    index = d.curl("/v2/repository/index", "-d", "{}")[1]
    found = {v["path"]: v["reason"] for v in index if v.get("standing") == "misplaced"}
    for where, says in STRAYS.values():
        check(f"misplaced and named: {where}", says in found.get(where, "") and
              any("misplaced" in line and where in line and says in line for line in lines), found)
        check(f"in the log: {where}", any(line.find("model_misplaced") > 0 and f"repo/{where}" in line
                                          for line in d.log().splitlines()))
    check("a version's folder without a file is told", "without model.onnx" in found.get("empty/1", ""), found)
    check("a folder that holds no model is nobody's concern", len(found) == len(STRAYS) + 1, found)
    p = run(CLI, "models", "list", "flat", "-s", d.url)
    check("models list NAME tells of that name's", p.returncode == 0 and "flat/1/model.onnx would be served" in p.stdout, p)
    check("only those that serve, where asked", all(v["state"] == "READY" for v in
          d.curl("/v2/repository/index", "-d", '{"ready":true}')[1]))
    (d.folder / "repo/flat/1").mkdir()
    os.rename(d.folder / "repo/flat/model.onnx", d.folder / "repo/flat/1/model.onnx")
    check("put right, it serves, and nothing is said of it any more", wait_for(lambda: not any(
        v.get("standing") == "misplaced" and v["name"] == "flat" for v in d.curl("/v2/repository/index", "-d", "{}")[1]) and
        d.curl("/v2/models/flat/ready")[0] == 200, 20), d.curl("/v2/repository/index", "-d", "{}"))


def test_filling(root):
    """A folder that is being filled is told of only when it stays so for models.settle."""
    d = Daemon(root, CONFIG % "2s")
    try:
        (root / "repo/slow/1").mkdir(parents=True)
        time.sleep(0.5)
        put(root / "repo/slow/1/model.onnx")
        (root / "repo/left/1").mkdir(parents=True)
        check("it is told when it stays", wait_for(lambda: "repo/left/1" in d.log(), 20), d.log()[-500:])
        check("not while it is being filled", "repo/slow/1 why" not in d.log(), d.log()[-800:])
    finally:
        check("winnowd ends in order", d.stop() == 0)


def test_check(root):
    """--check tells what a start would stumble over, or do without being asked."""
    here = root / "check"
    make_repo(here)
    yaml = here / "w.yaml"

    def checked(text, name=yaml):
        name.write_text(text)
        p = run(WINNOWD, "--check", "--config", name)
        return p.returncode, p.stdout, p.stderr
    base = "server:\n  listen: [\"%s\"]\nmodels:\n  repositories: [%s]\n  state: %s\n"
    code, out, said = checked(base % ("127.0.0.1:0", "repo", "state"))
    check("what is misplaced is told, and counted", code == 0 and "ok, with 9 warnings" in out and
          all(f"repo/{where}' is passed over" in said for where, _ in STRAYS.values()), (code, out, said))
    (here / "fine").mkdir()
    code, out, said = checked(base % ("127.0.0.1:0", "fine", "state"))
    check("nothing to tell: ok", code == 0 and out == f"{yaml}: ok\n" and not said, (code, out, said))
    code, out, said = checked(base % ("127.0.0.1:0", "nowhere", "state"))
    check("a repository that is not there", code == 0 and f"{here}/nowhere': No such file" in said and "1 warning" in out,
          (code, out, said))
    code, out, said = checked(base % ("127.0.0.1:0", "w.yaml", "state"))
    check("a repository that is a file", f"{here}/w.yaml': not a folder" in said, said)
    code, out, said = checked(base % ("127.0.0.1:0", "fine", "no/where"))
    check("a state folder that cannot be made", code == 0 and "models.state" in said and "no uploads" in said, said)
    (here / "state/winnow.db").write_text("this is a letter to my aunt\n")
    code, out, said = checked(base % ("127.0.0.1:0", "fine", "state"))
    check("a database that is none stops a start", code == 2 and "winnow.db" in said and not out, (code, out, said))
    (here / "state/winnow.db").unlink()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, said = checked(base % (f"127.0.0.1:{port}", "fine", "state"))
        check("an address in use is told", code == 0 and f"127.0.0.1:{port}" in said and "in use" in said, said)
    code, out, said = checked(base % ("127.0.0.1:0", "fine", "state") + "jobs:\n  worker: no-such-worker\n")
    check("a worker that is not there", code == 0 and "no-such-worker" in said, said)
    code, out, said = checked("server:\n  listen: [\"192.0.2.1:0\"]\n  auth: none\nmodels:\n  repositories: [fine]\n"
                              "  state: state\n")
    check("an address of another machine stops a start, and auth: none is told", code == 2 and "192.0.2.1:0" in said and
          "server.auth: none" in said, (code, said))
    code, out, said = checked("server:\n  listen: [\"0.0.0.0:0\"]\n  auth: tokens\n  tls: off\nauth:\n  tokens_file: t\n"
                              "tls:\n  certificate: c.pem\nmodels:\n  repositories: [fine]\n  state: state\n")
    check("tls: off beside a certificate, and tokens in clear text", "server.tls: off" in said and "c.pem' is not used" in said
          and "0.0.0.0:0 in clear text" in said, said)


def test_check_pipelines(root):
    """Every pipeline.yaml, and the files that it names, as a load would read them."""
    here = root / "pipelines"
    (here / "state/models").mkdir(parents=True)
    yaml = here / "w.yaml"
    yaml.write_text("server:\n  listen: [\"127.0.0.1:0\"]\nmodels:\n  repositories: [repo]\n  state: state\n")
    repo = here / "repo"
    good = make_base(repo / "good/1")

    def checked():
        p = run(WINNOWD, "--check", "--config", yaml)
        return p.returncode, p.stdout, p.stderr
    code, out, said = checked()
    check("a pipeline.yaml that is right", code == 0 and out == f"{yaml}: ok\n" and not said, (code, out, said))
    before = sorted(str(p) for p in here.rglob("*"))
    text = (good / "pipeline.yaml").read_text()
    wrong = {
        "key": (text + "sofmax: true\n", ":7: unknown key 'sofmax'; did you mean 'softmax'?"),
        "value": (text.replace("0.3", "much"), ":4: std"),
        "label": (text.replace("labels.txt", "names.txt"), ":5: labels: there is no file 'names.txt'"),
        "output": (text + "model_output: other\n", ":7: model_output: the model has no tensor 'other'"),
        "words": ("task: text_classification\ntokenizer: words.json\n", "pipeline.yaml:"),
    }
    for name, (body, _) in wrong.items():
        shutil.copytree(good, repo / name / "1")
        (repo / name / "1/pipeline.yaml").write_text(body)
    shutil.copytree(good, repo / "labels/1")
    (repo / "labels/1/labels.txt").write_text("a\n\nc\n")
    wrong["labels"] = (None, "labels/1/labels.txt:2: an empty label")
    for version in (1, 2, 10):  # beside the versions, for all of them
        shutil.copytree(good, repo / f"shared/{version}")
        (repo / f"shared/{version}/pipeline.yaml").unlink()
    (repo / "shared/pipeline.yaml").write_text("task: nothing\n")
    wrong["shared"] = (None, "shared/pipeline.yaml:1: task")
    shutil.copytree(good, here / "state/models/made/3")
    (here / "state/models/made/3/pipeline.yaml").write_text("- list\n")
    wrong["made"] = (None, "made/3/pipeline.yaml:1: expected keys")
    shutil.copytree(good, repo / "broken/1")
    (repo / "broken/1/model.onnx").write_text("no model\n")
    wrong["broken"] = (None, "does not load")
    put(repo / "plain/1/model.onnx")
    code, out, said = checked()
    for name, (_, says) in wrong.items():
        lines = [x for x in said.splitlines() if f"model '{name}' " in x]
        check(f"--check names what is wrong with a pipeline: {name}", len(lines) == 1 and says in lines[0], (lines, said))
    check("each once, and as warnings", code == 0 and f"ok, with {len(wrong)} warnings" in out, (code, out, said))
    check("the others are not told of", "good" not in said and "plain" not in said, said)
    for name in [*wrong, "plain"]:
        shutil.rmtree(here / "state/models/made" if name == "made" else repo / name)
    check("nothing is written", before == sorted(str(p) for p in here.rglob("*")))


def main():
    with tempfile.TemporaryDirectory() as tmp:
        root = pathlib.Path(tmp)
        make_repo(root)
        d = Daemon(root, CONFIG % "0")
        try:
            test_list(d)
        finally:
            check("winnowd ends in order", d.stop() == 0)
        test_filling(root)
        test_check(root)
        test_check_pipelines(root)
    return end()


if __name__ == "__main__":
    sys.exit(main())
