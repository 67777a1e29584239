"""test_cli.py: `winnow` as a client: what models, files and jobs send and how they end, against a server that records;
and sparsify and recipe with the real worker. Standard library only; loopback, free port."""
import http.server
import json
import os
import pty
import shutil
import subprocess
import sys
import tempfile
import threading

BUILD = os.environ.get("BUILD", "build")
WINNOW = os.path.join(BUILD, "winnow")
MAKER = os.path.join(BUILD, "demo", "maker")
passed = failed = 0


def check(name, good, detail=""):
    global passed, failed
    passed, failed = passed + bool(good), failed + (not good)
    print(f"{'ok' if good else 'not ok'} {passed + failed} - {name}{'' if good else f'   # {detail!r:.600}'}", flush=True)


class Fake(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen = []
    answers = {}  # (method, path without query) -> (code, object) or a list of them, one after the other

    def answer(self):
        n = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(n)
        Fake.seen.append((self.command, self.path, body))
        known = Fake.answers.get((self.command, self.path.split("?")[0]), (404, {"error": {"message": "no such thing"}}))
        code, reply = known.pop(0) if isinstance(known, list) else known
        out = b"" if reply is None else reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(out)))
        self.end_headers()
        self.wfile.write(out)

    do_GET = do_POST = do_PUT = do_DELETE = answer

    def log_message(self, *args):
        pass


def winnow(server, *args):
    Fake.seen.clear()
    return subprocess.run([WINNOW, *args, "--server", server], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
                          check=False)


def on_terminal(server, *args):
    """What is printed where standard output is a terminal."""
    ours, theirs = pty.openpty()
    subprocess.run([WINNOW, *args, "--server", server], stdout=theirs, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(theirs)
    text = b""
    try:
        while piece := os.read(ours, 65536):  # line by line, perhaps
            text += piece
    except OSError:  # EIO: the other side is closed
        pass
    os.close(ours)
    return text.decode()


def local(*args, **how):
    return subprocess.run([WINNOW, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300, check=False, **how)


def test_models(server):
    base = "/v2/repository/models/a%20b"
    Fake.answers = {
        ("POST", "/v2/repository/index"): (200, [{"name": "a b", "version": "1"}, {"name": "a b", "version": "2"}]),
        ("GET", base + "/versions"): (200, {"name": "a b", "versions": [
            {"name": "a b", "version": "1", "state": "READY", "live": True, "digest": "sha256:11", "generation": 4, "standing": "live",
             "made_by": "repository", "live_by": "api 127.0.0.1"},
            {"name": "a b", "version": "2", "state": "UNAVAILABLE", "live": False, "digest": "sha256:22", "standing": "waiting",
             "made_by": "job ftjob-1", "reason": "waits to be promoted: version 1 is live"}]}),
        ("POST", base + "/load"): (200, None),
        ("POST", base + "/versions/2/promote"): (200, {"version": "2", "generation": 5, "digest": "sha256:22",
                                                    "anchor": "its rows join the anchor"}),
        ("POST", base + "/rollback"): (409, {"error": "nothing to roll back to"}),
        ("PUT", base + "/anchor"): (200, {"rows": 9}),
    }
    p = winnow(server, "models")
    lines = p.stdout.decode().splitlines()
    check("models lists: who made each live", p.returncode == 0 and len(lines) == 3 and
          "live" in lines[1].split() and lines[1].endswith("repository       made live by api 127.0.0.1"), p)
    check("and what waits, with the way on", "waiting" in lines[2] and "job ftjob-1" in lines[2] and
          lines[2].endswith("winnow models promote a b 2 does it"), p)
    check("a name is percent-encoded, versions are asked for once", [s[1] for s in Fake.seen] ==
          ["/v2/repository/index", base + "/versions"], Fake.seen)
    p = winnow(server, "models", "list", "--json", "-")
    check("--json - prints JSON only", len(json.loads(p.stdout)) == 2, p)
    check("an empty answer is fine", winnow(server, "models", "load", "a b").returncode == 0)
    p = winnow(server, "models", "promote", "a b", "2")
    check("promote", p.returncode == 0 and b"version 2 is live, generation 5" in p.stdout, p)
    check("and what it does to the anchor", b"its rows join the anchor" in p.stdout, p)
    p = winnow(server, "models", "rollback", "a b")
    check("the server's reason and exit 1", p.returncode == 1 and b"nothing to roll back to" in p.stderr, p)
    p = winnow(server, "models", "diff", "a b", "1", "2")
    check("diff", p.returncode == 0 and b"sha256:11 -> sha256:22" in p.stdout, p)
    check("diff with a version that is not there", winnow(server, "models", "diff", "a b", "1", "9").returncode == 1)
    p = winnow(server, "models", "anchor", "a b", "demo/base/labels.txt")
    with open("demo/base/labels.txt", "rb") as f:
        check("anchor sends the file", p.returncode == 0 and Fake.seen[0][2] == f.read(), Fake.seen)
    check("unknown action: 2", winnow(server, "models", "frob").returncode == 2)
    check("too few words: 2", winnow(server, "models", "promote", "m").returncode == 2)


def test_files(server, dir_):
    data = os.path.join(dir_, "my data.zip")
    content = os.urandom(300000)
    with open(data, "wb") as f:
        f.write(content)
    Fake.answers = {
        ("PUT", "/v1/files/my%20data.zip"): (200, {"id": "file-1"}),
        ("GET", "/v1/files"): (200, {"data": [{"id": "file-1", "bytes": 3, "filename": "x"}]}),
        ("DELETE", "/v1/files/file-1"): (200, {"id": "file-1", "deleted": True}),
        ("GET", "/v1/files/bad"): (200, b"<html>"),
    }
    p = winnow(server, "files", "upload", data)
    check("upload prints the id alone", p.returncode == 0 and p.stdout == b"file-1\n", p)
    check("upload sends the bytes, and the purpose", Fake.seen[0][1].endswith("?purpose=fine-tune") and
          Fake.seen[0][2] == content, Fake.seen[0][1])
    p = winnow(server, "files")
    check("files lists, one line each for a script", p.stdout.startswith(b"file-1 ") and p.stdout.count(b"\n") == 1, p)
    text = on_terminal(server, "files")
    check("a terminal gets a heading", text.split()[:5] == ["ID", "BYTES", "CREATED", "PURPOSE", "NAME"] and "file-1" in text,
          text)
    check("delete", b"deleted" in winnow(server, "files", "delete", "file-1").stdout)
    check("what is no JSON is said", b"no JSON" in winnow(server, "files", "show", "bad").stderr)
    p = winnow(server, "files", "upload", os.path.join(dir_, "nothing"))
    check("a missing file is named, nothing is sent", p.returncode == 1 and b"nothing" in p.stderr and not Fake.seen, p)
    check("a folder is refused", winnow(server, "files", "upload", dir_).returncode == 1)


def test_jobs(server, dir_):
    recipe = os.path.join(dir_, "recipe.yaml")
    with open(recipe, "w", encoding="utf-8") as f:
        f.write("modifiers: []\n")
    job = "/v1/fine_tuning/jobs/ftjob-1"
    running = {"id": "ftjob-1", "status": "running", "phase": "train", "epoch": 1.5, "epochs": 3, "loss": 0.5,
               "sparsity": 0.4, "eta": 7}
    event = [{"id": f"e{i}", "type": "message", "level": "info", "message": f"thing {i}"} for i in range(3)]
    Fake.answers = {
        ("POST", "/v1/fine_tuning/jobs"): (200, {"id": "ftjob-1", "status": "queued"}),
        ("GET", job): [(200, running), (200, running), (200, {"id": "ftjob-1", "status": "succeeded",
                                                              "fine_tuned_model": "m@2", "promotion": "promoted"})],
        ("GET", job + "/events"): [(200, {"data": event[:1]}), (200, {"data": event[1::-1]}), (200, {"data": event[::-1]})],
        ("POST", job + "/cancel"): (200, {"id": "ftjob-1", "status": "cancelled"}),
    }
    p = winnow(server, "jobs", "create", "-m", "m", "-f", "file-1", "--recipe", recipe, "--seed", "7", "--target", "n",
               "--new-labels")
    check("create sends what was said", json.loads(Fake.seen[0][2]) == {
        "model": "m", "training_file": "file-1", "recipe": "modifiers: []\n", "seed": 7, "target": "n",
        "new_labels": True}, Fake.seen)
    check("and prints the id", p.stdout == b"ftjob-1\n", p)
    p = winnow(server, "jobs", "watch", "ftjob-1")
    lines = p.stdout.decode().split("\n")
    check("watch: each event once, in order", [x for x in lines if x.startswith("thing")] == ["thing 0", "thing 1", "thing 2"],
          lines)
    check("watch: how far it is", any("epoch 1.50/3" in x and "sparsity 40 %" in x and "eta 0:07" in x for x in lines), lines)
    check("watch: the end, exit 0", p.returncode == 0 and "ftjob-1 succeeded: m@2, promotion promoted" in lines, p)
    Fake.answers[("GET", job)] = (200, {"id": "ftjob-1", "status": "failed", "error": {"message": "refused"}})
    Fake.answers[("GET", job + "/events")] = (200, {"data": []})
    p = winnow(server, "jobs", "watch", "ftjob-1")
    check("watch: a failed job is exit 1, with the reason", p.returncode == 1 and b"refused" in p.stdout, p)
    Fake.answers[("GET", "/v1/fine_tuning/jobs")] = (200, {"data": [{"id": "ftjob-1", "status": "failed", "model": "m"}]})
    check("jobs lists, one line each for a script", winnow(server, "jobs").stdout.count(b"\n") == 1)
    text = on_terminal(server, "jobs")
    check("a terminal gets a heading", text.split()[:5] == ["CREATED", "ID", "STATUS", "MODEL", "RESULT"] and
          "ftjob-1" in text, text)
    check("cancel", b"cancelled" in winnow(server, "jobs", "cancel", "ftjob-1").stdout)
    check("create without a file: 2", winnow(server, "jobs", "create", "-m", "m").returncode == 2)
    check("a level that is no number", winnow(server, "jobs", "create", "-m", "m", "-f", "f", "--level", "x").returncode == 2)
    p = winnow("http://127.0.0.1:9", "jobs")
    check("nobody listens: exit 1, with the address", p.returncode == 1 and b"127.0.0.1:9" in p.stderr, p)
    check("no URL", winnow("localhost", "jobs").returncode == 1)


def test_numbers():
    model = "demo/base"
    for args, says in [
            (("run", model, "-i", "x.npz", "-t", "abc"), "--threads wants a whole number from 0 to 1024, not 'abc'"),
            (("run", model, "-i", "x.npz", "-t", "-1"), "not '-1'"), (("run", model, "-i", "x.npz", "-t", ""), "not ''"),
            (("run", model, "-i", "x.npz", "-t", "4x"), "not '4x'"), (("run", model, "-i", "x.npz", "-t", " 4"), "not ' 4'"),
            (("benchmark", model, "-b", "0"), "--batch wants"), (("benchmark", model, "-b", "1e3"), "not '1e3'"),
            (("benchmark", model, "-b", "99999999999"), "--batch: 99999999999 is too large"),
            (("benchmark", model, "-b", "9" * 40), "is too large"), (("benchmark", model, "-n", "x"), "--threads wants"),
            (("benchmark", model, "-b", "-" + "9" * 40), "--batch wants"),
            (("benchmark", model, "-m", "-2"), "--streams wants"), (("benchmark", model, "-t", "nan"), "--time wants"),
            (("benchmark", model, "-t", "soon"), "--time wants"), (("analyze", model, "-n", "1.5"), "--threads wants"),
            (("compare", model, "-r", "-b", "99999999999"), "--batch: 99999999999 is too large"),
            (("compare", model, "-r", "-e", "x"), "--seed wants"), (("recipe", "check", "f", "-r", "x"), "--rows wants"),
            (("jobs", "create", "-m", "m", "-f", "f", "--epochs", "0"), "--epochs wants"),
            (("sparsify", "-m", "m", "-d", "d", "-o", "o", "--level", "2"), "--level wants")]:
        p = local(*args)
        check(" ".join(args)[:60] + ": 2, and the option is named", p.returncode == 2 and says in p.stderr.decode(), p)


def test_help():
    p = local("--help")
    commands = [line.split()[0] for line in p.stdout.decode().splitlines() if line.startswith("  ")]
    check("--help lists the commands", p.returncode == 0 and {"run", "sparsify", "models", "token"} <= set(commands), p)
    for name in commands:
        p = local(name, "--help")
        text = p.stdout.decode()
        check(f"{name} --help: options, examples, exit status", p.returncode == 0 and "Examples:\n  winnow " + name in text and
              "Exit status: 0 done" in text, p)
        with open(f"docs/man/winnow-{name}.1.md", encoding="utf-8") as f:
            check(f"{name}: the man page has its exit status", "## Exit status" in f.read())


def field(number, value):
    """A protobuf field: a small whole number, text, or a message."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    value = value.encode() if isinstance(value, str) else value
    return bytes([number << 3 | 2, len(value)]) + value


def write_pool(path):
    """An ONNX model: x [n,5,4,4] -> GlobalAveragePool -> y [n,5,1,1]."""
    def tensor(name, *dims):
        shape = b"".join(field(1, field(2, d) if isinstance(d, str) else field(1, d)) for d in dims)
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, shape)))

    node = field(1, "x") + field(2, "y") + field(4, "GlobalAveragePool")
    graph = (field(1, node) + field(2, "g") + field(11, tensor("x", "n", 5, 4, 4)) +
             field(12, tensor("y", "n", 5, 1, 1)))
    with open(path, "wb") as f:
        f.write(field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13)))


def test_compare(dir_):
    p = local("compare", "demo/base", "-r", "-S", "nothing=1,1,28,28")
    check("a shape for no input: the inputs are named", p.returncode == 1 and b"no input 'nothing', but '" in p.stderr, p)
    name = p.stderr.decode().split("but '")[-1].split("'")[0]
    for shape in ("1,x", "", "1,-3", "99999999999999999999,1", ",".join(["1"] * 40)):
        p = local("benchmark", "demo/base", "-t", "0.01", "-S", f"{name}={shape}")
        check(f"shape '{shape[:12]}' is refused", p.returncode == 1 and b"INPUT=1,3,224,224 is wanted" in p.stderr, p)
    p = local("benchmark", "demo/base", "-t", "0.01", "-b", "3", "-S", f"{name}=1,1,28,28")
    check("a batch that no input has is refused", p.returncode == 1 and b"a batch of 3: no input" in p.stderr, p)
    p = local("compare", "demo/base", "-r", "-b", "3")
    check("compare takes the arg-max of each row", p.returncode == 0 and b"of 3\n" in p.stdout, p)
    model = os.path.join(dir_, "pool.onnx")
    write_pool(model)
    p = local("compare", model, "-r", "-b", "6", "--json", "-")
    check("compare: N x C x 1 x 1 is N rows of C", p.returncode == 0 and json.loads(p.stdout)["outputs"][0]["rows"] == 6, p)


def test_benchmark(dir_):
    def figures(*args):
        p = local("benchmark", *args, "-t", "0.05", "-w", "0", "-j", "-")
        return p, json.loads(p.stdout) if p.returncode == 0 else {}

    def sane(f):
        times = [f.get(key, -1) for key in ("best_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms")]
        return f.get("runs", 0) > 0 and 0 < times[0] and times == sorted(times) and f["rows_per_s"] > 0

    p, f = figures("demo/base", "-n", "3")
    check("benchmark: sync is one stream of all threads", (f.get("streams"), f.get("threads"), f.get("async")) == (1, 3, False)
          and sane(f), p)
    p, f = figures("demo/base", "-n", "3", "-s", "async", "-m", "2", "-b", "4")
    check("benchmark: async, streams and threads as asked for", (f.get("streams"), f.get("threads"), f.get("async"),
          f.get("batch")) == (2, 3, True, 4) and sane(f) and not p.stderr, p)
    p, f = figures("demo/base", "-n", "2", "-s", "async", "-m", "8")
    check("benchmark: no more streams than threads, and that is said", f.get("streams") == 2 and
          b"8 streams asked for, 2 taken" in p.stderr, p)
    pool = os.path.join(dir_, "pool2.onnx")
    write_pool(pool)
    p, f = figures("demo/base", pool, "-n", "2", "-s", "async", "-S", "x=7,5,4,4")
    models = f.get("models", [])
    check("benchmark: two models at once, each with its figures; a shape is for the model that has the input",
          [m["model"] for m in models] == ["demo/base", pool] and all(sane(m) for m in models) and
          abs(models[0]["runs"] - models[1]["runs"]) <= 2, p)
    p, f = figures("demo/base", pool, "-S", "nobody=7")
    check("benchmark: a shape for an input of neither is refused", p.returncode == 1 and b"no input 'nobody'" in p.stderr, p)
    p = local("benchmark", "demo/base", "demo/base", "demo/base")
    check("benchmark: three models are too many", p.returncode == 2, p)


def test_folders(dir_):
    """A MODEL of a repository stands for its highest version; versions share what lies beside them."""
    model = os.path.join(dir_, "repo", "letters")
    for version in ("2", "10", "11"):
        os.makedirs(os.path.join(model, version))
    for version in ("2", "10"):
        shutil.copy("demo/base/model.onnx", os.path.join(model, version))
    for name in ("pipeline.yaml", "labels.txt"):
        shutil.copy("demo/base/" + name, model)
    said = f"{model}: taking version 10, the highest there\n"
    for args in (("benchmark", model, "-t", "0.01"), ("analyze", model + "/"), ("compare", model, model)):
        p = local(*args)
        check(f"{args[0]} takes the highest version, and says so", p.returncode == 0 and said in p.stderr.decode(), p)
    data, out = os.path.join(dir_, "few.zip"), os.path.join(dir_, "from-model")
    subprocess.run([MAKER, "set", "--style", "new", "--number", "300", "--seed", "5", data], check=True)
    p = local("sparsify", "-m", model, "-d", data, "--level", "0", "--epochs", "1", "-o", out, "--keep")
    check("sparsify, too, with the files that the versions share", p.returncode == 0 and said in p.stderr.decode() and
          sorted(os.listdir(out)) == ["job", "labels.txt", "master.onnx", "model.onnx", "pipeline.yaml"], p)
    rows = os.path.join(out, "job", "data", "eval", "rows.npz")
    p = local("evaluate", model, os.path.join(model, "2"), rows, "-j", "-")
    check("evaluate, too: pictures go through the shared pipeline.yaml", p.returncode == 0 and said in p.stderr.decode() and
          len(json.loads(p.stdout)["models"]) == 2, p)


def test_overwriting(dir_):
    """An earlier result is not replaced by mistake."""
    out = os.path.join(dir_, "from-model")  # of test_folders
    args = ("sparsify", "-m", "demo/base", "-d", os.path.join(dir_, "few.zip"), "--level", "0", "--epochs", "1", "-o", out)
    with open(os.path.join(out, "model.onnx"), "rb") as f:
        before = f.read()
    with open(os.path.join(out, "vocab.txt"), "w", encoding="utf-8") as f:
        f.write("[UNK]\n")
    p = local(*args)
    with open(os.path.join(out, "model.onnx"), "rb") as f:
        check("a folder with something in it is refused at once, named, with the way out", p.returncode == 1 and
              out in p.stderr.decode() and b"--force" in p.stderr and not p.stdout and f.read() == before, p)
    p = local(*args, "--seed", "9", "--force")
    with open(os.path.join(out, "model.onnx"), "rb") as f:
        check("--force replaces the earlier result, its job and its files", p.returncode == 0 and f.read() != before and
              sorted(os.listdir(out)) == ["labels.txt", "master.onnx", "model.onnx", "pipeline.yaml"], (p, os.listdir(out)))
    check("the end says where it is", f"the result is in {out}\n" in p.stdout.decode(), p)


def test_sparsify(dir_):
    data, out = os.path.join(dir_, "letters.zip"), os.path.join(dir_, "out")
    subprocess.run([MAKER, "set", "--style", "new", "--number", "520", "--seed", "4", data], check=True)
    recipe = os.path.join(dir_, "short.yaml")
    with open(recipe, "w", encoding="utf-8") as f:
        f.write("modifiers:\n  - !EpochRangeModifier {start_epoch: 0, end_epoch: 2}\n"
                "  - !SetLearningRateModifier {start_epoch: 0, learning_rate: 0.02}\n"
                "  - !GMPruningModifier {start_epoch: 0, end_epoch: 1, update_frequency: 0.25, init_sparsity: 0.3,\n"
                "      final_sparsity: 0.6, params: [__ALL_PRUNABLE__], global_sparsity: true}\n")
    p = local("recipe", "check", recipe, "--model", "demo/base/model.onnx", "--rows", "500")
    check("recipe check", p.returncode == 0 and b"0.6" in p.stdout, p)
    p = local("recipe", "check", recipe, "--model", "demo/base")
    check("recipe check with the model's folder", p.returncode == 0 and b"CPU time" in p.stdout, p)
    scores = os.path.join(dir_, "scores.json")
    p = local("sparsify", "-m", "demo/base", "-d", data, "-r", recipe, "-o", out, "--json", scores)
    check("sparsify ends well, and prints before and after", p.returncode == 0 and b"before" in p.stdout, p)
    if p.returncode == 0:
        with open(scores, encoding="utf-8") as f:
            s = json.load(f)
        a, b = (m["accuracy"] for m in s["scores"]["models"])
        check("better on rows set aside", b > a, s)
        check("no warning where nothing was lost", b"less accurate" not in p.stderr, p)
        check("as sparse as the recipe says", abs(s["result"]["metrics"]["sparsity"] - 0.6) < 0.01, s)
        check("the result is a model's folder, the job's folder is gone",
              sorted(os.listdir(out)) == ["labels.txt", "master.onnx", "model.onnx", "pipeline.yaml"], os.listdir(out))
    bad = local("sparsify", "-m", "demo/base", "-d", recipe, "-r", recipe, "-o", os.path.join(dir_, "bad"))
    check("data that is none: exit 1, a reason, no job left", bad.returncode == 1 and bad.stderr and
          not os.path.exists(os.path.join(dir_, "bad", "job")), bad)
    check("one line says why, and no empty folder is left", bad.stderr.count(b"\n") == 1 and
          not os.path.exists(os.path.join(dir_, "bad")), bad)
    there = os.path.join(dir_, "there")
    os.mkdir(there)
    local("sparsify", "-m", "demo/base", "-d", recipe, "-r", recipe, "-o", there)
    check("a folder that was there stays", os.listdir(there) == [])
    ruin = os.path.join(dir_, "ruin.yaml")
    with open(ruin, "w", encoding="utf-8") as f:
        f.write("modifiers:\n  - !EpochRangeModifier {start_epoch: 0, end_epoch: 1}\n"
                "  - !SetLearningRateModifier {start_epoch: 0, learning_rate: 0.0001}\n"
                "  - !GMPruningModifier {start_epoch: 0, end_epoch: 0.5, update_frequency: 0.1, init_sparsity: 0.9,\n"
                "      final_sparsity: 0.99, params: [__ALL_PRUNABLE__]}\n")
    p = local("sparsify", "-m", "demo/base", "-d", data, "-r", ruin, "-o", os.path.join(dir_, "ruined"))
    check("a result that is worse is there, with a warning", p.returncode == 0 and
          b"warning: the result is less accurate than the base" in p.stderr, p)
    check("the loss is told once", b"difference" not in p.stdout and p.stderr.count(b"points") == 1, p)
    check("a recipe and a level: 2",
          local("sparsify", "-m", "m", "-d", "d", "-o", "o", "-r", "r", "--level", "1").returncode == 2)


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Fake)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    with tempfile.TemporaryDirectory() as dir_:
        test_models(url)
        test_files(url, dir_)
        test_jobs(url, dir_)
        test_numbers()
        test_help()
        test_benchmark(dir_)
        test_compare(dir_)
        test_folders(dir_)
        test_overwriting(dir_)
        test_sparsify(dir_)
    server.shutdown()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
