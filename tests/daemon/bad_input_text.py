"""bad_input_text.py: the part of test_bad_input.py about texts: uploads of CSV and JSONL given to winnow-worker, pipelines
given to winnow, requests of text given to winnowd."""

import gzip
import json
import os
import shutil
import struct
import subprocess
import time

import numpy as np

import bad_input
import text_rig as rig
from bad_input import TMP, WINNOW, WORKER, ask, daemon, have, judge, npz, path, program, row, wanted, zipped
from bad_input_local import job_directory

PIPELINE = "task: text_classification\nlabels: labels.txt\nmax_length: 64\n"
LABELS = "bad\ngood\n"


def put_model(folder, model=None, **files):
    """A version's folder; files None are left out."""
    files = {"pipeline.yaml": PIPELINE, "labels.txt": LABELS, "vocab.txt": rig.vocab_txt(), **files}
    for name, data in files.items():
        if data is not None:
            path(f"{folder}/{name}", data)
    return os.path.dirname(path(f"{folder}/model.onnx", model or rig.model("logits")))


# ---- uploads ----
def uploads():
    good = "text,label\n" + "".join(f"{t},{label}\n" for label, t in rig.sentences(60))
    lines = "".join(json.dumps({"text": t, "label": label}) + "\n" for label, t in rig.sentences(60))

    def case(name, upload_name, data, *names, **change):
        """The job ends with bad_data, in seconds, and says why."""
        case_name = "text upload: " + name
        if not wanted(case_name) or not have(WORKER):
            return
        data = data.encode() if isinstance(data, str) else data
        job = job_directory("text", upload_name, data, base={"version": 1, "digest": ""}, **change)
        put_model("jobs/text/base")
        started = time.monotonic()
        p = subprocess.run([WORKER, "run", "--priority", "normal", job], stdin=subprocess.DEVNULL, capture_output=True,
                           text=True, timeout=120)
        result = os.path.join(job, "work/result.json")
        if not os.path.exists(result):
            return row(case_name, f"exit {p.returncode}: {p.stderr}", False, "no result")
        text = json.load(open(result))
        error = text.get("error") or {}
        judge(case_name, text["status"], f"{error.get('code', '')} {error.get('message', '')}", "failed", names, 0,
              time.monotonic() - started)

    case("empty file", "x.csv", "", r"bad_data", r"x\.csv: an empty file")
    case("only a header", "x.csv", "text,label\n", r"bad_data", r"no rows")
    case("no header", "x.csv", good.partition("\n")[2], r"bad_data", r"x\.csv:1", r"columns\.text")
    case("a quote that is never closed", "x.csv", good + '"open,bad\n' * 3, r"x\.csv: line \d+: a quote")
    case("quotes in the middle of fields", "x.csv", "text,label\n" + 'a "b" c,good\n' * 60, r"x\.csv:2: a quote within")
    case("every row with a field too many", "x.csv", "text,label\n" + "a,b,good\n" * 60, r"x\.csv:2: 3 fields")
    case("Latin-1", "x.csv", b"text,label\n" + b"caf\xe9,good\n" * 60, r"x\.csv:2", r"UTF-8 at its byte 4")
    case("UTF-16", "x.csv", good.encode("utf-16"), r"UTF-16")
    case("NUL characters", "x.csv", "text,label\n" + "a\0b,good\n" * 60, r"NUL")
    case("a field of 2 MiB", "x.csv", "text,label\n" + '"' + "a" * (2 << 20) + '",good\n', r"x\.csv:2: a row of too many bytes")
    case("100 000 columns", "x.csv", ",".join("c%d" % i for i in range(100000)) + "\n", r"header", r"too many fields")
    case("20 001 labels", "x.csv", "text,label\n" + "".join(f"t{i},l{i}\n" for i in range(20001)), r"labels")
    case("labels of other names", "x.csv", good.replace(",good", ",gut"), r"'gut'", r"bad, good")
    case("one label only", "x.csv", "text,label\n" + "".join(f"t{i},good\n" for i in range(60)), r"at least two labels")
    case("19 rows", "x.csv", "".join(f"{line}\n" for line in good.split("\n")[:20]), r"at least")
    case("cut gzip", "x.csv.gz", gzip.compress(good.encode())[:-20], r"bad_data", r"x\.csv\.gz")
    case("gzip bomb", "x.csv.gz", gzip.compress(bytes(300 << 20), 1), r"bad_data", r"more than|too many bytes|NUL|column")
    case("a JSON array", "x.json", "[" + lines.replace("\n", ",") + "{}]", r"JSON array", r"JSONL")
    case("lines that are not JSON", "x.jsonl", "{'text': 'x'}\n" * 60, r"x\.jsonl:1: not JSON")
    case("lines of numbers", "x.jsonl", "3\n" * 60, r"x\.jsonl:1: not JSON")
    case("lines nested 100 000 deep", "x.jsonl", ('{"a":' * 100000 + "\n") * 3, r"x\.jsonl:1: not JSON")
    case("a line of 4 MiB", "x.jsonl", '{"text":"' + "a" * (4 << 20) + '","label":"good"}\n', r"more than 1 MiB")
    case("texts that are numbers", "x.jsonl", '{"text":1,"label":"good"}\n' * 60, r"x\.jsonl:1: no text")
    case("chats of many turns", "x.jsonl", json.dumps({"messages": [
        {"role": r, "content": "x"} for r in ("user", "assistant", "user", "assistant")]}) + "\n", r"more than one turn")
    case("an archive without texts", "x.zip", zipped([("a.png", b"\x89PNG"), ("b.bin", b"x")]), r"bad_data", r"CSV nor JSONL")
    case("a column that is not there", "x.csv", good, r"columns\.text", r"'words'", columns={"text": "words"})
    case("another file than the job says", "x.csv", good, r"another SHA-256", data_digest="sha256:" + "0" * 64)

    def job(name, *names, **columns):
        case_name = "job.json: columns: " + name
        if wanted(case_name) and have(WORKER):
            folder = job_directory("text", "x.csv", good.encode(), columns=columns)
            put_model("jobs/text/base")
            program(case_name, [WORKER, "check", folder], 2, r"job\.json:\d+: columns\.", *names)

    job("an unknown key", r"txt", r"text", txt="a")
    job("a number", r"label", label=3)
    job("an empty list", r"text", text=[])
    job("nine texts", r"1 to 8", text=["a"] * 9)


# ---- pipelines ----
def pipelines():
    def rows_of(text):
        return npz(f"{text}.npz", text=np.frombuffer(text.encode(), np.uint8), label=np.zeros(1, np.int64),
                   row_id=np.zeros(1, np.int64), **{"text.offsets": np.array([0, len(text)])},
                   meta=np.frombuffer(b'{"version":1,"labels":["bad","good"]}', np.uint8))

    def case(name, *names, model=None, want=1, text="good", **files):
        folder = put_model("texts/" + name.replace(" ", "_"), model, **files)
        program("text pipeline: " + name, [WINNOW, "evaluate", folder, rows_of(text)], want, *names)

    case("a good one", r"1\)", want=0)
    case("no vocabulary", r"pipeline\.yaml:1: tokenizer", **{"vocab.txt": None})
    case("a tokenizer outside", r"pipeline\.yaml:4: tokenizer", **{"pipeline.yaml": PIPELINE + "tokenizer: ../x\n"})
    case("a model without a mask", r"pipeline\.yaml:1: padding", model=rig.model("logits", mask=False))
    case("inputs of other names", r"'tokens_in'", model=rig.model("logits", ids="tokens_in"))
    case("a length of a million", r"pipeline\.yaml:3: padding", **{"pipeline.yaml": PIPELINE.replace("max_length: 64\n", "") + "padding: 1000000\n"})
    case("a vocabulary larger than the model's", r"pipeline\.yaml:1: tokenizer: vocab\.txt has token ids up to "
         rf"{len(rig.vocab_txt().split()) + 98}", rf"'input_ids' has {len(rig.vocab_txt().split())} rows",
         **{"vocab.txt": rig.vocab_txt() + "".join(f"more{i}\n" for i in range(99))})
    case("embeddings have no accuracy", r"embeddings", model=rig.model("tokens"),
         **{"pipeline.yaml": "task: embeddings\n", "labels.txt": None})
    case("labels of another number", r"labels\.txt", **{"labels.txt": "one\n"})


# ---- requests ----
def requests():
    if daemon.process is None:
        return
    for name, model, text in (("mood", "logits", PIPELINE), ("vectors", "tokens", "task: embeddings\nmax_length: 48\n")):
        for file, data in (("pipeline.yaml", text), ("labels.txt", LABELS), ("vocab.txt", rig.vocab_txt())):
            path(f"repository/{name}/1.new/{file}", data)
        daemon.put(name, 1, rig.model(model))
        end = time.monotonic() + 20
        while daemon.request("GET", f"/v2/models/{name}/ready")[0] != 200 and time.monotonic() < end:
            time.sleep(0.05)

    infer = "/v2/models/mood/infer"

    def case(name, body, want, *names, target="/v1/embeddings", headers=None):
        body = json.dumps(body) if isinstance(body, (dict, list)) else body
        ask("text: " + name, want, names, lambda: daemon.request("POST", target, body, headers))

    def too_many():
        """A version whose tokens the model's table has no rows for, beside one that serves."""
        for file, data in (("pipeline.yaml", PIPELINE), ("labels.txt", LABELS), ("vocab.txt", rig.vocab_txt() + "zebra\n")):
            path(f"repository/mood/2.new/{file}", data)
        daemon.put("mood", 2, rig.model("logits"))
        said = daemon.request("POST", "/v2/repository/models/mood/load", "{}")
        served = daemon.request("GET", "/v2/models/mood/versions/1/ready")
        shutil.rmtree(os.path.join(daemon.repository, "mood", "2"))
        return said if served[0] == 200 else served
    n = len(rig.vocab_txt().split())
    ask("text: load of a version with a token more than the model has", 400,
        [rf"vocab\.txt has token ids up to {n}, .* {n} rows"], too_many)

    def binary(name, texts, want, *names):
        blob = b"".join(struct.pack("<I", len(t)) + t for t in texts)
        head = json.dumps({"inputs": [{"name": "text", "datatype": "BYTES", "shape": [len(texts)],
                                       "parameters": {"binary_data_size": len(blob)}}]}).encode()
        case("binary BYTES: " + name, head + blob, want, *names, target=infer,
             headers={"Inference-Header-Content-Length": str(len(head))})

    def one(value, **more):
        return {"model": "vectors", "input": value, **more}
    case("an embedding, so that the others mean something", one("good"), 200, r'"embedding":\[')
    case("no body", "", 400, r"object")
    case("cut in the middle", '{"model":"vectors","input":["a"', 400, r"byte")
    case("nested 100 000 deep", '{"model":"vectors","input":' + "[" * 100000, 400, r"expected|deep|nest")
    case("100 000 texts", one(["a"] * 100000), 413, r"2048")
    case("a million tokens", one([2] * 1000000), 400, r"1000000 tokens")
    case("tokens below 0", one([-1]), 400, r"byte|range|from")
    case("tokens past 2^31", one([1 << 40]), 400, r"byte|range|from")
    case("half a surrogate", '{"model":"vectors","input":"\\ud800"}', 400, r"surrogate|byte")
    case("a model's name with a NUL", one("a", model="vectors\0x"), 400, r"model: .*NUL")
    case("a model's name that ends in a NUL", one("a", model="vectors\0"), 400, r"model: .*NUL")
    case("a model whose name is a path", one("a", model="../../etc"), (400, 404), r"etc|model")
    case("a classifier", one("a", model="mood"), 400, r"no embeddings")
    case("dimensions", one("a", dimensions=8), 400, r"dimensions")
    case("3 MiB of one letter", one("a" * (3 << 20)), 400, r"1048576 are allowed")
    case("1 MiB of one letter", one("a" * (1 << 20)), 200, r"embedding")
    case("1 MiB of accents on one letter", one("a" + "\u0301" * (1 << 19)), (200, 400), r"embedding|bytes")
    case("a text as the body", "good", 200, r'"label":"', target=infer, headers={"Content-Type": "text/plain"})
    plain = {"Content-Type": "text/plain"}
    case("a body that is no text", b"\xff\xfe\x00\x80" * 100, 400, r"row 0: the text is not UTF-8 at its byte 1",
         target=infer, headers=plain)
    case("Latin-1 that says nothing", "caf\u00e9".encode("latin-1"), 400, r"row 0: .* byte 4", target=infer, headers=plain)
    for charset, want, says in (("utf-8", 200, r'"label":"'), ('"UTF-8"', 200, r'"label":"'), ("us-ascii", 200, r'"label":"'),
                                ("iso-8859-1", 415, r"iso-8859-1.*UTF-8"), ("utf-16", 415, r"utf-16"),
                                ("utf-8; charset=utf-7", 400, r"charset twice"), ('"utf-8', 400, r"malformed")):
        case(f"charset={charset}", "good", want, says, target=infer,
             headers={"Content-Type": f"text/plain; charset={charset}"})
    for coding in (b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"):
        binary(f"{coding.hex()} in the second of two rows", [b"good", b"ab" + coding], 400,
               r"'text', row 1: the text is not UTF-8 at its byte 3")
    case("base64 that is no UTF-8", {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["/w=="],
                                                 "parameters": {"content_type": "base64"}}]}, 400,
         r"row 0: .* byte 1", target=infer)
    case("a pair whose other text is no UTF-8", {"inputs": [
        {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]},
        {"name": "text_pair", "datatype": "BYTES", "shape": [1], "data": ["eP8="],
         "parameters": {"content_type": "base64"}}]}, 400, r"row 0: the pair's other text .* byte 2", target=infer)
    case("an empty text", "", (200, 400), r"label|text", target=infer, headers={"Content-Type": "text/plain"})
    case("a picture", b"\x89PNG\r\n", 400, r"takes a text", target=infer, headers={"Content-Type": "image/png"})
    case("pairs of other length", {"inputs": [
        {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]},
        {"name": "text_pair", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]}]}, 400, r"text_pair", target=infer)


PARTS = (uploads, pipelines)
WIRE_PARTS = (requests,)
