"""test_text_jobs.py: upload -> job -> gate -> swap for a model of text, through the `openai` client alone and through curl
alone; what is wrong with an upload of text is said by file and line. Prints TAP-like lines."""
import csv
import gzip
import json
import os
import pathlib
import sys
import tempfile

try:
    import openai
except ImportError:
    openai = None

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import text_rig as rig  # noqa: E402
from common import CLI, WORKER, Daemon, check, end, left_out, wait_for  # noqa: E402

CONFIG = f"""
server: {{listen: ["127.0.0.1:0"]}}
models: {{repositories: [repo], state: state, poll: 200ms, settle: 0}}
jobs: {{worker: {WORKER}, evaluator: {CLI}, threads: 1}}
gate: {{max_cpu_ratio: 20, without_anchor: eval_rows}}
"""
DONE = ("succeeded", "failed", "cancelled")
FILES = {"vocab.txt": rig.vocab_txt(), "labels.txt": "bad\ngood\n",
         "pipeline.yaml": "task: text_classification\nmax_length: 64\npad_to_multiple_of: 16\nlabels: labels.txt\n"
                          "softmax: true\n"}
RECIPE = """modifiers:
  - !EpochRangeModifier {start_epoch: 0, end_epoch: 8}
  - !SetLearningRateModifier {start_epoch: 0, learning_rate: 0.02}
"""


def put_base(repo, name):
    folder = repo / name / "1"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(rig.model("logits"))
    for file, text in FILES.items():
        (folder / file).write_text(text)


def reviews(path, n, seed, head=("review", "sentiment")):
    with open(path, "w", newline="") as f:
        out = csv.writer(f)
        out.writerow(head)
        for label, text in rig.sentences(n, seed=seed):
            out.writerow([text, label])
    return path


def accuracy(ask, n=60):
    """Share of fresh sentences that `ask` (text -> label) names rightly."""
    rows = list(rig.sentences(n, seed=77))
    return sum(ask(text) == label for label, text in rows) / n


# ---- the openai client ----
def by_openai(d, tmp):
    if openai is None:
        return left_out("the openai client", "it is not installed")
    c = openai.OpenAI(base_url=f"{d.url}/v1", api_key="none", max_retries=0)
    with open(reviews(tmp / "reviews.csv", 2200, 11), "rb") as f:
        made = c.files.create(file=f, purpose="fine-tune")
    job = c.fine_tuning.jobs.create(model="mood", training_file=made.id, extra_body={"recipe": RECIPE})
    job = wait_for(lambda: (lambda j: j if j.status in DONE else None)(c.fine_tuning.jobs.retrieve(job.id)), 400, 0.3)
    check("openai: CSV -> job -> version 2", job and job.status == "succeeded" and job.fine_tuned_model == "mood@2", job)
    events = [e.message for e in c.fine_tuning.jobs.list_events(job.id, limit=100)]
    check("the events say which columns were taken", any(
        "text from 'review', label from 'sentiment' (guessed)" in m for m in events), events)

    def ask(text):
        status, got = d.curl("/v2/models/mood/infer", "-H", "Content-Type: text/plain", "--data-binary", text)
        return got["label"] if status == 200 and got["model_version"] == "2" else got
    right = accuracy(ask)
    check("version 2 is live and knows good from bad", right > 0.9, right)
    folder = next((d.folder / "state/models/mood").glob("2"))
    kept = {f.name for f in folder.iterdir()}
    check("the version carries its tokenizer", {"model.onnx", "master.onnx", "pipeline.yaml", "labels.txt", "vocab.txt"} <= kept
          and (folder / "vocab.txt").read_text() == FILES["vocab.txt"], kept)
    return job.id


# ---- curl ----
def by_curl(d, tmp):
    """The next job on the same name starts from what the first one made; JSONL, gzipped, with columns named."""
    plain = "".join(json.dumps({"subject": "it is", "words": text, "kind": label}) + "\n"
                    for label, text in rig.sentences(500, seed=12))
    (tmp / "more.jsonl.gz").write_bytes(gzip.compress(plain.encode()))
    _, made = d.curl("/v1/files/more.jsonl.gz", "-T", tmp / "more.jsonl.gz")
    status, job = d.curl("/v1/fine_tuning/jobs", "-d", json.dumps({
        "model": "mood", "training_file": made["id"], "recipe": RECIPE,
        "columns": {"text": ["subject", "words"], "join": " ", "label": "kind"}}))
    check("curl: a job with columns", status == 200, job)
    job = wait_for(lambda: (lambda j: j if j["status"] in DONE else None)(
        d.curl(f"/v1/fine_tuning/jobs/{job['id']}")[1]), 400, 0.3) or job
    check("curl: JSONL -> job -> gate -> version 3", job["status"] == "succeeded" and job["fine_tuned_model"] == "mood@3" and
          job["gate"]["anchor"]["rows"] >= 200, {k: job.get(k) for k in ("status", "error", "gate", "promotion")})
    check("the commonest label has about half of the rows", 0.4 < job["gate"]["anchor"]["majority"] < 0.7, job["gate"])
    check("curl: the answer comes from version 3", d.curl("/v2/models/mood/infer", "-H", "Content-Type: text/plain",
                                                           "--data-binary", "it is good")[1]["model_version"] == "3")
    facts = job["ingest"] or {}
    check("the job tells of its columns", facts.get("columns", [{}])[0].get("text") == ["subject", "words"] and
          facts["rows"] == 500, facts)


# ---- what is wrong ----
def refusals(d, tmp):
    def job_of(name, data, **more):
        (tmp / name).write_bytes(data if isinstance(data, bytes) else data.encode())
        _, made = d.curl(f"/v1/files/{name}", "-T", tmp / name)
        status, job = d.curl("/v1/fine_tuning/jobs", "-d", json.dumps({
            "model": "mood", "training_file": made["id"], "recipe": RECIPE, **more}))
        if status != 200:
            return status, job
        return status, wait_for(lambda: (lambda j: j if j["status"] in DONE else None)(
            d.curl(f"/v1/fine_tuning/jobs/{job['id']}")[1]), 60, 0.2)
    good = (tmp / "reviews.csv").read_text()
    for name, file, data, words in [
            ("a quote that is never closed", "open.csv", good + '"never closed,bad\n', "open.csv: line 2202: a quote"),
            ("columns of other names", "names.csv", good.replace("review", "x1").replace("sentiment", "x2", 1), "columns.text"),
            ("a label that the model does not know", "labels.csv", good.replace(",good", ",goood"), "did you mean 'good'"),
            ("rows that are not UTF-8", "latin.csv", b"text,label\n" + b"caf\xe9,good\n" * 50, "latin.csv:2: the text is not UTF-8"),
            ("a picture", "one.png", b"\x89PNG\r\n\x1a\n" + bytes(100), "one.png")]:
        status, job = job_of(file, data)
        text = json.dumps(job)
        check(f"refused: {name}", status == 200 and job["status"] == "failed" and job["error"]["code"] == "bad_data" and
              words in job["error"]["message"] and str(tmp) not in text, (status, job and job.get("error")))
    status, job = job_of("x.csv", good, columns={"txt": "review"})
    check("refused: an unknown key of columns", status == 400 and "columns.txt" in str(job) and "job.json" not in str(job), (status, job))
    status, job = job_of("x.csv", good, columns="review")
    check("refused: columns that are no object", status == 400 and job["error"]["param"] == "columns", (status, job))


def main():
    with tempfile.TemporaryDirectory(prefix="wn-text-jobs-") as name:
        tmp = pathlib.Path(name)
        put_base(tmp / "repo", "mood")
        d = Daemon(tmp, CONFIG)
        try:
            check("the base serves", wait_for(lambda: d.curl("/v2/models/mood/ready")[0] == 200, 20), d.log()[-1000:])
            by_openai(d, tmp)
            by_curl(d, tmp)
            refusals(d, tmp)
            check("the daemon ends well", d.stop() == 0)
        finally:
            if d.process.poll() is None:
                d.process.kill()
    return end()


if __name__ == "__main__":
    sys.exit(main())
