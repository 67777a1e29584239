"""test_jobs.py: uploads, fine-tuning jobs, gate and promotion on a real winnowd with a real winnow-worker: the unmodified
`openai` client, curl, kills between all stages, full disks, lost databases. Prints TAP-like lines."""
import hashlib
import json
import os
import pathlib
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback

from common import (CLI, KINDS, MAKE_CNN, WINNOWD, WORKER, Daemon, check, end, left_out, make_base, make_zip, pictures,
                    wait_for)

try:
    import openai
except ImportError:
    openai = None

ROOT = pathlib.Path(tempfile.mkdtemp(prefix="winnow-jobs-test-"))
CONFIG = """
server: {listen: ["127.0.0.1:0"]}
models: {repositories: [repo], state: state, poll: 200ms, settle: 0}
files: {max_file: 4MiB, max_files: %(max_files)d, max_bytes: 8MiB}
jobs: {worker: %(worker)s, hang_timeout: %(hang)s, tries: 2}
gate: {max_cpu_ratio: 20}
"""
WEAK = """modifiers:
  - !EpochRangeModifier {start_epoch: 0, end_epoch: 1}
  - !SetLearningRateModifier {start_epoch: 0, learning_rate: 0.01}
"""
STRONG = """modifiers:
  - !EpochRangeModifier {start_epoch: 0, end_epoch: 6}
  - !SetLearningRateModifier {start_epoch: 0, learning_rate: 0.05}
"""
DONE = ("succeeded", "failed", "cancelled")


def daemon(name, worker="winnow-worker", max_files=20, hang="10m", preexec=None):
    folder = ROOT / name
    folder.mkdir()
    make_base(folder / "repo/shapes/1")
    return Daemon(folder, CONFIG % {"worker": f'"{worker}"', "max_files": max_files, "hang": hang}, preexec)


def upload(d, path):
    return d.curl(f"/v1/files/{pathlib.Path(path).name}", "-T", path)[1]["id"]


def post(d, path, body):
    return d.curl(path, "-d", json.dumps(body))


def create(d, **body):
    status, job = post(d, "/v1/fine_tuning/jobs", body)
    if status != 200:
        raise RuntimeError(f"job refused: {status} {job}")
    return job["id"]


def job(d, jid):
    return d.curl(f"/v1/fine_tuning/jobs/{jid}")[1]


def finish(d, jid, seconds=240):
    return wait_for(lambda: (lambda j: j if j["status"] in DONE else None)(job(d, jid)), seconds, 0.1) or job(d, jid)


def messages(d, jid):
    return [e["message"] for e in d.curl(f"/v1/fine_tuning/jobs/{jid}/events?limit=1000&order=asc")[1]["data"]]


def live(d, name="shapes"):
    return d.curl(f"/v1/models/{name}")[1].get("version")


def stored(d):
    return sorted(p.name for p in (d.folder / "state/files").iterdir())


# ---- uploads ----

def test_files(d, zip_path):
    data = zip_path.read_bytes()
    status, f = d.curl("/v1/files", "-F", "purpose=fine-tune", "-F", f"file=@{zip_path};filename=a/b/shapes.zip")
    check("curl -F stores a form's file", status == 200 and f["bytes"] == len(data) and f["filename"] == "shapes.zip" and
          f["sha256"] == hashlib.sha256(data).hexdigest() and stored(d) == [f["sha256"]], (status, f))
    status, g = d.curl("/v1/files/name%20with%20%C3%BC.zip?purpose=evals", "-T", zip_path)
    check("curl -T stores a raw body; equal bytes are kept once", status == 200 and g["filename"] == "name with ü.zip" and
          g["purpose"] == "evals" and g["id"] != f["id"] and len(stored(d)) == 1, (status, g))
    out = d.folder / "back"
    subprocess.run(["curl", "-sS", "-o", out, f"{d.url}/v1/files/{f['id']}/content"], check=True)
    check("content comes back byte for byte", out.read_bytes() == data)
    subprocess.run(["curl", "-sS", "--http2-prior-knowledge", "-o", out, f"{d.url}/v1/files/{f['id']}/content"], check=True)
    check("content over HTTP/2", out.read_bytes() == data)
    page = d.curl("/v1/files?limit=1")[1]
    rest = d.curl(f"/v1/files?limit=5&after={page['last_id']}")[1]
    check("lists in pages, newest first", [x["id"] for x in page["data"] + rest["data"]] == [g["id"], f["id"]] and
          page["has_more"] and not rest["has_more"], (page, rest))
    check("lists by purpose", [x["id"] for x in d.curl("/v1/files?purpose=evals")[1]["data"]] == [g["id"]])
    check("one file", d.curl(f"/v1/files/{f['id']}")[1] == f)
    check("delete keeps bytes that another upload names", d.curl(f"/v1/files/{g['id']}", "-X", "DELETE")[1]["deleted"] and
          len(stored(d)) == 1)
    check("delete", d.curl(f"/v1/files/{f['id']}", "-X", "DELETE")[0] == 200 and stored(d) == [])
    check("deleted is gone", d.curl(f"/v1/files/{f['id']}")[0] == 404 and d.curl(f"/v1/files/{f['id']}/content")[0] == 404)


def test_bad_uploads(d):
    big = d.folder / "big"
    big.write_bytes(os.urandom(5 << 20))
    for name, options, path, want in [
            ("a form without a purpose", ["-F", f"file=@{__file__}"], "/v1/files", 400),
            ("a form without a file", ["-F", "purpose=fine-tune"], "/v1/files", 400),
            ("a form with two files", ["-F", "purpose=x", "-F", f"file=@{__file__}", "-F", f"file=@{__file__}"], "/v1/files", 400),
            ("no form", ["-d", "{}"], "/v1/files", 400),
            ("a form that ends early", ["-H", "content-type: multipart/form-data; boundary=x", "-d", "--x\r\n"], "/v1/files", 400),
            ("a bad purpose", ["-T", __file__], "/v1/files/a?purpose=a%20b", 400),
            ("a name that is a path", ["-T", __file__], "/v1/files/a%2fb", 400),
            ("a file over files.max_file", ["-T", big], "/v1/files/big", 413),
            ("a form's file over files.max_file", ["-F", "purpose=x", "-F", f"file=@{big}"], "/v1/files", 413),
            ("a chunked file over files.max_file", ["-T", big, "-H", "transfer-encoding: chunked"], "/v1/files/big", 413)]:
        status, body = d.curl(path, *options)
        check(f"{name} is refused", status == want and "error" in body, (status, body))
    s = socket.create_connection(("127.0.0.1", d.port))
    s.sendall(b"PUT /v1/files/x HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 300000)
    check("bytes of an upload are on disk while it comes", wait_for(lambda: stored(d), 5))
    s.close()
    check("a client that leaves, leaves nothing", wait_for(lambda: not stored(d), 5) is not None, stored(d))
    ok = d.folder / "ok"
    ok.write_bytes(os.urandom(3 << 20))
    ids = [upload(d, ok), d.curl("/v1/files/ok2", "-T", big.with_name("ok"))[1]["id"]]
    status, body = d.curl("/v1/files/third", "-T", ok)
    check("over files.max_bytes: 429 says what to do", status == 429 and "files.max_bytes" in body["error"]["message"], body)
    for i in ids:
        d.curl(f"/v1/files/{i}", "-X", "DELETE")
    metrics = d.curl("/metrics")[1]
    check("nothing is left, and the counters know", stored(d) == [] and "winnow_file_bytes 0\n" in metrics and
          "winnow_uploads_in_flight 0\n" in metrics, (stored(d), metrics[-2500:]))


def test_openai(d, zip_path):
    if openai is None:
        left_out("the openai client", "it is not installed")
        return upload(d, zip_path)
    c = openai.OpenAI(base_url=f"{d.url}/v1", api_key="none", max_retries=0)
    with open(zip_path, "rb") as f:
        made = c.files.create(file=f, purpose="fine-tune")
    check("openai: files.create, retrieve, list, content", c.files.retrieve(made.id).bytes == zip_path.stat().st_size and
          [x.id for x in c.files.list()] == [made.id] and c.files.content(made.id).content == zip_path.read_bytes())
    check("openai: models", [m.id for m in c.models.list()] == ["shapes"] and c.models.retrieve("shapes").owned_by == "winnow")
    try:
        c.fine_tuning.jobs.create(model="nobody", training_file=made.id)
        check("openai: an unknown model raises NotFoundError", False)
    except openai.NotFoundError as e:
        check("openai: an unknown model raises NotFoundError", e.code == "model_not_found" and e.param == "model", e.body)
    j = c.fine_tuning.jobs.create(model="shapes", training_file=made.id, seed=5, metadata={"who": "test"},
                                  extra_body={"recipe": WEAK})
    check("openai: fine_tuning.jobs.create", j.id.startswith("ftjob-") and j.object == "fine_tuning.job" and j.seed == 5 and
          j.error is None and j.metadata == {"who": "test"}, j)
    check("a file in use is not deleted", d.curl(f"/v1/files/{made.id}", "-X", "DELETE")[0] == 409)
    stream = subprocess.run(["curl", "-sSN", "-m", "240", f"{d.url}/v1/fine_tuning/jobs/{j.id}/events?stream=true"],
                            capture_output=True, text=True)
    check("events as a stream, to the end", stream.stdout.count("data: {") >= 5 and
          stream.stdout.endswith("data: [DONE]\n\n"), stream.stdout[-500:])
    done = c.fine_tuning.jobs.retrieve(j.id)
    check("openai: the job succeeds", done.status == "succeeded" and done.fine_tuned_model == "shapes@2" and done.finished_at,
          done)
    got = [e.id for e in c.fine_tuning.jobs.list_events(j.id, limit=3)]
    check("openai: list_events pages through all", len(got) == len(set(got)) == len(messages(d, j.id)), got)
    check("openai: jobs.list", [x.id for x in c.fine_tuning.jobs.list()] == [j.id])
    return made.id


# ---- jobs ----

def test_refusals(d, file_id):
    for name, body, says in [
            ("a bad recipe, with file and line", {"recipe": "modifiers:\n  - !NoSuchModifier {start_epoch: 0}\n"}, "recipe.yaml:2"),
            ("a recipe and a level", {"recipe": WEAK, "optim_level": 0.5}, "optim_level"),
            ("a recipe and epochs", {"recipe": WEAK, "hyperparameters": {"n_epochs": 2}}, "n_epochs"),
            ("an unknown key", {"optim_levle": 0.5}, "did you mean 'optim_level'?"),
            ("a key that has another name", {"level": 0.5}, "did you mean 'optim_level'?"),
            ("an unknown file", {"training_file": "file-none"}, "file-none"),
            ("a level past 1", {"optim_level": 1.5}, "optim_level"),
            ("a bad name", {"suffix": "../x"}, "suffix"),
            ("new labels under the old name", {"new_labels": True}, "new_labels"),
            ("a method that is not supervised", {"method": {"type": "dpo"}}, "method"),
            ("epochs that are no number", {"hyperparameters": {"n_epochs": "many"}}, "n_epochs")]:
        status, got = post(d, "/v1/fine_tuning/jobs", {"model": "shapes", "training_file": file_id, **body})
        text = json.dumps(got)
        check(f"{name} is refused", status == 400 and says in text and str(ROOT) not in text, (status, got))
    (ROOT / "gone.txt").write_text("gone")
    gone = upload(d, ROOT / "gone.txt")
    (d.folder / "state/files" / hashlib.sha256(b"gone").hexdigest()).unlink()
    status, got = post(d, "/v1/fine_tuning/jobs", {"model": "shapes", "training_file": gone})
    text = json.dumps(got)
    check("a file whose contents are gone is refused", status == 404 and "gone" in text and gone in text and
          str(ROOT) not in text and d.curl(f"/v1/files/{gone}", "-X", "DELETE")[0] == 200, (status, got))
    left = [p.name for p in (d.folder / "state/jobs").iterdir() if p.name.startswith(".new")]
    check("refused jobs leave nothing", left == [] and len(d.curl("/v1/fine_tuning/jobs")[1]["data"]) == 1, left)


def test_waiting(d):
    j = d.curl("/v1/fine_tuning/jobs")[1]["data"][0]
    check("without an anchor a person decides", j["promotion"] == "waiting" and j["version"] == 2 and live(d) == 1 and
          j["gate"]["verdict"] == "wait", j)
    check("no anchor yet", d.curl("/v2/repository/models/shapes/anchor")[0] == 404)
    index = {v.get("version"): v for v in post(d, "/v2/repository/index", {})[1]}
    check("the index says that it waits, and who made it", index["2"]["standing"] == "waiting" and
          index["2"]["made_by"] == f"job {j['id']}" and "waits to be promoted: version 1 is live" in index["2"]["reason"] and
          index["1"]["standing"] == "live" and index["1"]["made_by"] == "repository", index)
    p = subprocess.run([CLI, "models", "-s", d.url], capture_output=True, text=True)
    check("winnow models says so, and what to do", any("waiting" in line and j["id"] in line and
          "winnow models promote shapes 2" in line for line in p.stdout.splitlines()), p)
    status, body = post(d, "/v2/repository/models/shapes/versions/2/promote", {})
    check("promoted by a person", status == 200 and live(d) == 2, (status, body))
    check("the answer says what becomes the anchor", j["id"] in body.get("anchor", "") and
          "join the anchor of shapes" in body["anchor"], body)
    after = wait_for(lambda: (lambda x: x if x["promotion"] == "promoted" and x["phase"] == "done" else None)(job(d, j["id"])), 10)
    status, anchor = d.curl("/v2/repository/models/shapes/anchor")
    check("its rows are the anchor now", after and status == 200 and anchor["rows"] == 100 and
          anchor["labels"] == {k: 25 for k in KINDS}, (after, anchor))
    check("the job's events and the log say so", any("The anchor of shapes holds 100 rows now" in m for m in
          messages(d, j["id"])) and f"anchor_set model=shapes rows=100 by={j['id']}" in d.log(), messages(d, j["id"])[-3:])
    status, body = post(d, "/v2/repository/models/shapes/versions/2/promote", {})
    check("promoting it once more takes no rows", status == 200 and "anchor" not in body, body)


def test_gate(d):
    """A better candidate is promoted, one trained on shuffled labels is refused; a person may overrule and roll back."""
    better = upload(d, make_zip(ROOT / "more.zip", pictures(2, 150)))
    j = finish(d, create(d, model="shapes", training_file=better, recipe=STRONG))
    g = j.get("gate", {})
    check("a better candidate is promoted", j["status"] == "succeeded" and j["promotion"] == "promoted" and live(d) == 3 and
          j["generation"] > 0, j)
    check("with numbers on anchor and new rows", g.get("anchor", {}).get("rows") == 100 and g["eval"]["rows"] >= 100 and
          g["eval"]["paired"]["only_second"] > 0 and g["compared_with"]["version"] == 2, g)
    check("its trail says so", any(m.startswith("Promoted as version 3, generation ") for m in messages(d, j["id"])),
          messages(d, j["id"]))
    check("its rows joined the anchor", d.curl("/v2/repository/models/shapes/anchor")[1]["rows"] == 100 + g["eval"]["rows"])
    lineage = json.loads((d.folder / "state/models/shapes/3/lineage.json").read_text())
    check("lineage", lineage["job"] == j["id"] and lineage["parent"]["version"] == 2 and "STRONG" not in lineage and
          lineage["recipe"] == STRONG and lineage["data"]["name"] == "more.zip", lineage)
    poison = upload(d, make_zip(ROOT / "poison.zip", pictures(3, 150, shuffled=True)))
    j = finish(d, create(d, model="shapes", training_file=poison, recipe=STRONG))
    check("shuffled labels are refused, with numbers", j["status"] == "failed" and j["error"]["code"] == "gate_refused" and
          "anchor rows" in j["error"]["message"] and "points" in j["error"]["message"] and j["promotion"] == "refused" and
          j["gate"]["anchor"]["paired"]["lower95"] < -0.01 and live(d) == 3, j)
    p = subprocess.run([CLI, "jobs", "watch", "-s", d.url, j["id"]], capture_output=True, text=True)
    check("the CLI says how to overrule it", p.returncode != 0 and f"winnow jobs promote {j['id']}" in p.stdout,
          (p.returncode, p.stdout, p.stderr))
    status, _ = post(d, f"/v1/fine_tuning/jobs/{j['id']}/promote", {})
    j = finish(d, j["id"])
    check("a person may overrule", status == 200 and j["status"] == "succeeded" and j["promotion"] == "promoted" and
          j["error"] is None and live(d) == 4, j)
    status, _ = post(d, "/v2/repository/models/shapes/rollback", {})
    check("and roll back", status == 200 and live(d) == 3, live(d))
    got = {v["version"]: v["standing"] for v in d.curl("/v2/repository/models/shapes/versions")[1]["versions"]}
    check("how each version stands", got == {"1": "previous", "2": "previous", "3": "live", "4": "kept"}, got)


def test_anchor(d):
    own = next((d.folder / "state/jobs").glob("ftjob-*/data/eval/rows.npz"))
    status, body = d.curl("/v2/repository/models/shapes/anchor", "-T", own)
    check("a person sets the anchor", status == 200 and body["rows"] >= 100, (status, body))
    status, body = d.curl("/v2/repository/models/shapes/anchor", "-T", __file__)
    check("what is no ROWS.npz is refused", status == 400 and str(ROOT) not in json.dumps(body), (status, body))
    status, body = d.curl("/v2/repository/models/nobody/anchor", "-T", own)
    check("an unknown model has no anchor", status == 404, (status, body))


def test_numbers(d, file_id):
    """Numbers come back as they were written."""
    text = subprocess.run(["curl", "-sS", f"{d.url}/v1/fine_tuning/jobs", "-d", json.dumps(
        {"model": "shapes", "training_file": file_id, "optim_level": 0.3, "suffix": "third"})], capture_output=True,
        text=True).stdout
    jid = json.loads(text)["id"]
    check("0.3 is 0.3", '"optim_level":0.3,' in text, text)
    check("in the job's folder, too", '"optim_level": 0.3' in (d.folder / "state/jobs" / jid / "job.json").read_text())
    check("it is cancelled", post(d, f"/v1/fine_tuning/jobs/{jid}/cancel", {})[0] == 200)


CRASHES = ["after:gate", "before:publish", "after:publish", "before:promote", "after:promote", "before:anchor", "after:anchor",
           "before:done"]


def test_kills(d):
    """A new label set under a new name; kill -9 in training, then at every step from the gate to the end."""
    names = ["stripes", "plus", "dot", "circle"]
    data = upload(d, make_zip(ROOT / "new.zip", pictures(4, 150, names=names)))
    jid = create(d, model="shapes", training_file=data, suffix="renamed", recipe=STRONG, min_accuracy=0.3)
    wait_for(lambda: job(d, jid).get("step", 0) >= 5, 120, 0.05)
    d.kill()
    fell = []
    for point in CRASHES:
        os.environ["WINNOW_JOBS_CRASH"] = point
        d.start(wait=False)  # it may fall before it listens
        try:
            d.process.wait(240)
            fell.append(point if d.process.returncode == -9 else (point, d.process.returncode))
        except subprocess.TimeoutExpired:
            fell.append((point, "runs", d.log()[-500:]))
            d.kill()
    del os.environ["WINNOW_JOBS_CRASH"]
    d.start()
    j = finish(d, jid)
    check("killed at every step", fell == CRASHES, fell)
    check("a new label set becomes a new name, published once", j["status"] == "succeeded" and j["promotion"] == "promoted" and
          j["fine_tuned_model"] == "shapes-renamed@1" and live(d, "shapes-renamed") == 1 and
          [p.name for p in (d.folder / "state/models/shapes-renamed").iterdir() if p.name.isdigit()] == ["1"], j)
    check("its rows are its anchor, once", d.curl("/v2/repository/models/shapes-renamed/anchor")[1] ==
          {"model": "shapes-renamed", "rows": 100, "labels": {n: 25 for n in names}},
          d.curl("/v2/repository/models/shapes-renamed/anchor"))
    check("the other model is as it was", live(d) == 3)


def test_lost_database(d):
    before = {f["filename"]: f["id"] for f in d.curl("/v1/files")[1]["data"]}
    jobs = {j["id"]: (j["target"], j["version"]) for j in d.curl("/v1/fine_tuning/jobs?limit=100")[1]["data"]}
    check("stops", d.stop() == 0)
    state = d.folder / "state"
    db = state / "winnow.db"
    (state / "files/upload-file-00.part").write_bytes(b"half")
    (state / "files" / ("a" * 64)).write_bytes(b"orphan")
    (state / "jobs/.new-ftjob-00").mkdir()
    d.start()
    check("orphans are removed at the start", not (state / "files/upload-file-00.part").exists() and
          not (state / "files" / ("a" * 64)).exists() and not (state / "jobs/.new-ftjob-00").exists())
    d.stop()
    good = db.read_bytes()
    db.write_bytes(good[:8192] + os.urandom(len(good) - 8192))
    try:
        d.start()
        check("a damaged database stops the start", False)
    except RuntimeError as e:
        check("a damaged database stops the start, and says what to do", "damaged" in str(e) and "move it away" in str(e), e)
    db.write_bytes(good)
    con = sqlite3.connect(db)
    con.execute("PRAGMA user_version=99")
    con.commit()
    con.close()
    try:
        d.start()
        check("a newer database stops the start", False)
    except RuntimeError as e:
        check("a newer database stops the start", "newer winnowd" in str(e), e)
    for p in state.glob("winnow.db*"):
        p.unlink()
    d.start()
    wait_for(lambda: all(j["status"] in DONE for j in d.curl("/v1/fine_tuning/jobs?limit=100")[1]["data"]), 10)
    after = {f["filename"]: f["id"] for f in d.curl("/v1/files")[1]["data"]}
    again = {j["id"]: (j["target"], j["version"]) for j in d.curl("/v1/fine_tuning/jobs?limit=100")[1]["data"]}
    check("without a database it is made of the folders", after == before and again == jobs, (before, after, jobs, again))


# ---- without a worker ----

def test_queue_and_full_disk():
    d = daemon("full", worker="", preexec=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)))
    try:
        big = ROOT / "two"
        big.write_bytes(os.urandom(2 << 20))
        for name, path, options in [("raw", "/v1/files/two", ["-T", big]),
                                    ("form", "/v1/files", ["-F", "purpose=fine-tune", "-F", f"file=@{big}"])]:
            status, body = d.curl(path, *options)
            check(f"disk full ({name}): 507, and nothing is left", status == 507 and stored(d) == [], (status, body, stored(d)))
        fid = upload(d, make_zip(ROOT / "small.zip", pictures(9, 10)))
        jid = create(d, model="shapes", training_file=fid)
        check("without a worker a job waits", job(d, jid)["status"] == "queued", job(d, jid))
        check("its file is in use", d.curl(f"/v1/files/{fid}", "-X", "DELETE")[0] == 409)
        d.kill()
        d.start()
        check("it waits across a kill", job(d, jid)["status"] == "queued")
        resource.prlimit(d.process.pid, resource.RLIMIT_FSIZE, (0, 1 << 20))
        status, j = post(d, f"/v1/fine_tuning/jobs/{jid}/cancel", {})
        check("cancel on a full disk", status == 200 and j["status"] == "cancelled" and
              (d.folder / f"state/jobs/{jid}/cancel").exists(), j)
        time.sleep(0.5)
        kept = job(d, jid)["status"], post(d, f"/v1/fine_tuning/jobs/{jid}/cancel", {})[0]
        resource.prlimit(d.process.pid, resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        written = wait_for(lambda: "job_saved" in d.log(), 10)
        d.kill()
        d.start()
        check("its end is not forgotten, and written when there is room", kept == ("cancelled", 200) and written and
              job(d, jid)["status"] == "cancelled", (kept, written, job(d, jid)))
        check("cancel again is the same; its file may go", post(d, f"/v1/fine_tuning/jobs/{jid}/cancel", {})[0] == 200 and
              d.curl(f"/v1/files/{fid}", "-X", "DELETE")[0] == 200)
        jid = create(d, model="shapes", training_file=upload(d, ROOT / "small.zip"))
        shutil.rmtree(d.folder / "state/jobs" / jid)
        j = finish(d, jid, 10)
        check("a job whose folder was removed fails", j["status"] == "failed" and j["error"]["code"] == "lost", j)
        check("an unknown job is 404", d.curl("/v1/fine_tuning/jobs/ftjob-0")[0] == 404 and
              post(d, "/v1/fine_tuning/jobs/ftjob-0/cancel", {})[0] == 404)
    finally:
        check("the daemon without a worker ends", d.stop() == 0)


# ---- a worker that lies ----

FAKE = """#!%(python)s
import fcntl, json, os, pathlib, signal, sys, time
if sys.argv[1] == "check":
    sys.exit(0)
signal.signal(signal.SIGTERM, lambda *a: os._exit(0))
top = pathlib.Path(sys.argv[2])
watch = open(top / ".watch", "w")
fcntl.flock(watch, fcntl.LOCK_EX)
while True:
    time.sleep(0.05)
    for d in top.glob("ftjob-*"):
        if (d / "work/result.json").is_symlink() or (d / "work/result.json").exists() or (d / "cancel").exists():
            continue
        how = json.loads((d / "job.json").read_text())["target"].split("-")[1]
        work = d / "work"
        (work / "candidate").mkdir(parents=True, exist_ok=True)
        lock = open(work / "lock", "w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        if how == "hang":
            time.sleep(1000)
        with open(work / "progress.jsonl", "a") as f:
            f.write("not json\\n[]\\n{}\\n" + "x" * 200000 + "\\n" + json.dumps({"event": "message", "text": "y" * 5000}) +
                    "\\n" + json.dumps({"event": "step", "step": -1, "steps": "many", "loss": None}) + "\\n" +
                    json.dumps({"event": "phase", "phase": "train"}) + "\\n")
        if how == "link":
            os.symlink("/etc/passwd", work / "candidate/model.onnx")
        elif how == "empty":
            pass
        elif how == "rubbish":
            (work / "candidate/model.onnx").write_bytes(b"rubbish" * 1000)
        if how == "result":
            os.symlink("/etc/passwd", work / "result.json")
        else:
            (d / "data/eval").mkdir(parents=True, exist_ok=True)
            (d / "data/eval/rows.npz").write_bytes(b"PK")
            (work / "result.tmp").write_text(json.dumps({"format": 1, "status": "succeeded", "metrics": {"sparsity": "all"}}))
            os.rename(work / "result.tmp", work / "result.json")
"""


def test_lying_worker():
    fake = ROOT / "fake-worker"
    fake.write_text(FAKE % {"python": sys.executable})
    fake.chmod(0o755)
    d = daemon("lies", worker=fake, hang="1s")
    try:
        fid = upload(d, make_zip(ROOT / "few.zip", pictures(9, 5)))
        for how, code, says in [("link", "gate_error", "model.onnx"), ("empty", "gate_error", "no candidate"),
                                ("rubbish", "gate_error", ""), ("result", "internal", "result.json"),
                                ("hang", "hang", "no progress")]:
            j = finish(d, create(d, model="shapes", training_file=fid, suffix=how), 60)
            check(f"a worker that lies ({how}) fails its job only", j["status"] == "failed" and j["error"]["code"] == code and
                  says in j["error"]["message"] and j["version"] is None, j)
        fake.rename(ROOT / "away")
        status, j = post(d, "/v1/fine_tuning/jobs", {"model": "shapes", "training_file": fid})
        check("a worker program that is gone: 503", status == 503 and str(ROOT) not in json.dumps(j), (status, j))
        check("nothing was published, and the model serves", live(d) == 1 and
              [m["id"] for m in d.curl("/v1/models")[1]["data"]] == ["shapes"])
        check("a worker that dies is started again", d.curl("/metrics")[1].count("winnow_worker_starts_total 1\n") == 0)
    finally:
        check("the daemon with the lying worker ends", d.stop() == 0)


def main():
    zip_path = make_zip(ROOT / "shapes.zip", pictures(1, 150))
    test_queue_and_full_disk()
    test_lying_worker()
    d = daemon("jobs")
    try:
        test_files(d, zip_path)
        test_bad_uploads(d)
        file_id = test_openai(d, zip_path)
        if openai is None:
            finish(d, create(d, model="shapes", training_file=file_id, recipe=WEAK))
        test_refusals(d, file_id)
        test_waiting(d)
        test_gate(d)
        test_anchor(d)
        test_numbers(d, file_id)
        test_kills(d)
        test_lost_database(d)
    finally:
        check("the daemon ends", d.stop() == 0, d.log()[-1500:])
        if os.environ.get("KEEP"):
            print(f"# {ROOT}")


start = time.monotonic()
missing = [p.name for p in (WINNOWD, WORKER, CLI, MAKE_CNN) if not p.exists()]
if missing:
    left_out("all of it", f"{', '.join(missing)} not built")
    sys.exit(end())
try:
    main()
except Exception as e:
    traceback.print_exc()
    check("no test breaks off", False, e)
if not os.environ.get("KEEP"):
    shutil.rmtree(ROOT, ignore_errors=True)
print(f"# {time.monotonic() - start:.0f} s")
sys.exit(end())
