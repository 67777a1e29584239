"""bad_input_text.py: the part of test_bad_input.py about texts: uploads of CSV and JSONL given to winnow-worker, pipelines
given to winnow, requests of text given to winnowd."""

import gzip
import json
import os
import re
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
    case("two columns of one name", "x.csv", "text,label,id,label\n" + "a,good,1,bad\nb,bad,2,good\n" * 60, r"x\.csv:1",
         r"columns 2 and 4 are both called 'label'")
    case("a header of other words in long names", "x.csv", "ab" + "字" * 30 + ",b" + "标" * 30 + "\na,b\n", r"x\.csv:1", r"columns\.text")
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


# ---- tokenizers ----
def tokenizers():
    """Files of a tokenizer, as a model's folder may bring them, given to `winnow tokenize`."""

    def folder(name, files):
        for file, data in files.items():
            path(f"tokenizers/{name}/{file}", data)
        return os.path.join(TMP, "tokenizers", name)

    def case(name, want, *names, text=b"a word\n", seconds=20, **files):
        where = folder(re.sub(r"\W", "_", name), {k.replace("_", ".", 1): v for k, v in files.items()})
        program("tokenizer: " + name, [WINNOW, "tokenize", where, "-i", path("lines", text)], want, *names, seconds=seconds)

    model = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
             "vocab": {"[UNK]": 0, "a": 1, "word": 2}}
    bpe = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}

    def whole(model=model, **more):
        return json.dumps({"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": None,
                           "post_processor": None, "decoder": None, "model": model, **more})

    def vocab(**more):
        return whole({**model, "vocab": {**model["vocab"], **more}})

    case("a good one, so that the others mean something", 0, r"^1 2$", tokenizer_json=whole(
        pre_tokenizer={"type": "Whitespace"}))
    j = r"tokenizer\.json"
    case("no file at all", 1, r"no tokenizer\.json, vocab\.txt", other_txt="x")
    case("an empty tokenizer.json", 1, j, tokenizer_json="")
    case("no JSON", 1, j, tokenizer_json="hello")
    case("cut in the middle", 1, j, tokenizer_json=whole()[:-30])
    case("an array", 1, j, tokenizer_json="[]")
    case("nested 100 000 deep", 1, j, tokenizer_json="[" * 100000)
    case("a model nested 100 000 deep", 1, j, tokenizer_json='{"model":' + '{"a":' * 100000)
    case("a key twice", 1, j, tokenizer_json='{"model":{},"model":{}}')
    case("a NUL in a token", 1, j, tokenizer_json=whole().replace('"word"', r'"wo\u0000rd"'))
    case("bytes that are no UTF-8", 1, j, tokenizer_json=whole().encode().replace(b"word", b"wo\xff"))
    case("a folder in its place", 1, j, **{"tokenizer_json/x": ""})
    case("65 MiB", 1, j, r"67108864|64 MiB|more than", tokenizer_json=whole() + " " * (65 << 20))
    case("five million values", 1, j, tokenizer_json='{"model":[' + "0," * 5000000 + "0]}")
    case("no model", 1, j, "model", tokenizer_json="{}")
    case("a model of another kind", 1, j, "Unigram", tokenizer_json=whole({"type": "Unigram", "vocab": []}))
    case("a normalizer of another kind", 1, j, "Nmt", tokenizer_json=whole(normalizer={"type": "Nmt"}))
    case("a key that is not known", 1, j, "dropout|fuse", tokenizer_json=whole({**bpe, "dropout": 0.5}))
    case("an empty vocabulary", 1, j, tokenizer_json=whole({**model, "vocab": {}}))
    case("an id below 0", 1, j, r"vocab", tokenizer_json=vocab(x=-1))
    case("an id past 2^31", 1, j, r"vocab", tokenizer_json=vocab(x=1 << 31))
    case("an id past 2^64", 1, j, tokenizer_json=vocab(x=1 << 64))
    case("an id that is text", 1, j, r"vocab", tokenizer_json=vocab(x="3"))
    case("two tokens of one id", (0, 1), r"^0|vocab", tokenizer_json=vocab(x=1))
    case("a token of 1 MiB", (0, 1), r"^0|vocab", tokenizer_json=vocab(**{"x" * (1 << 20): 3}))
    case("a word that the vocabulary lacks, nor its unknown token", 1, r"\[NO\]", text=b"zebra\n",
         tokenizer_json=whole({**model, "unk_token": "[NO]"}))
    case("merges of what is no token", 1, j, "merges", tokenizer_json=whole({**bpe, "merges": [["a", "x"]]}))
    case("merges that make what is no token", 1, j, "merges", tokenizer_json=whole({**bpe, "merges": [["b", "a"]]}))
    case("merges of three", 1, j, "merges", tokenizer_json=whole({**bpe, "merges": [["a", "b", "ab"]]}))
    case("merges that are numbers", 1, j, "merges", tokenizer_json=whole({**bpe, "merges": [3]}))
    case("an added token of another id", (0, 1), r"0|1|added", tokenizer_json=whole(added_tokens=[
        {"id": 70000000, "content": "x", "special": True, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False}]))
    case("an added token without text", 1, j, "added_tokens", tokenizer_json=whole(added_tokens=[{"id": 3}]))
    case("a template that names what is no token", 1, j, "post_processor", tokenizer_json=whole(post_processor={
        "type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}], "pair": [],
        "special_tokens": {}}))

    def split(regex):
        return whole(pre_tokenizer={"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False})
    case("an expression that is none", 1, j, "pre_tokenizer", tokenizer_json=split("(((("))
    case("an expression of 1 MiB", 1, j, "pre_tokenizer", tokenizer_json=split("(a|b)" * 200000))
    case("an expression that never ends", 1, r"expression|match|steps|limit", text=b"a" * 60000 + b"!\n",
         tokenizer_json=split("(?:a|aa)+[^a!]"))
    case("an expression that calls itself", (0, 1), r"^0|pre_tokenizer|steps|limit", text=b"(" * 60000 + b"\n",
         tokenizer_json=split(r"\((?R)*\)[xy]"))
    case("a max_length past every text", 0, r"^0", tokenizer_json=whole(truncation={
        "max_length": 1 << 40, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}))

    v = r"vocab\.txt"
    case("vocab.txt, empty", 1, v, vocab_txt="")
    case("vocab.txt without [UNK]", 1, v, r"\[UNK\]", vocab_txt="a\nb\n")
    case("vocab.txt of other bytes", (0, 1), r"\d", vocab_txt=b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n\xff\xfe\n")
    case("vocab.txt, a line of 1 MiB", (0, 1), r"\d|line", vocab_txt="[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n" + "x" * (1 << 20))
    case("vocab.txt, three million lines", 1, v, vocab_txt=b"[UNK]\n" * 3000000)
    m = r"merges\.txt"
    pairs = json.dumps({"a": 0, "b": 1, "ab": 2})
    case("vocab.json without merges.txt", 1, m, vocab_json=pairs)
    case("merges.txt, three words in a line", 1, m + r": line 2", vocab_json=pairs, merges_txt="#version: 0.2\na b ab\n")
    case("merges.txt of what is no token", 1, m, vocab_json=pairs, merges_txt="#version: 0.2\na x\n")
    case("merges.txt of other bytes", 1, m, vocab_json=pairs, merges_txt=b"#version: 0.2\n\xff \xfe\n")
    case("merges.txt with NULs", 1, m, vocab_json=pairs, merges_txt=b"#version: 0.2\na\0b\n")
    case("vocab.json that is no JSON", 1, r"vocab\.json", vocab_json="a b\n", merges_txt="a b\n")
    case("vocab.json whose ids are text", 1, r"vocab\.json", vocab_json='{"a":"b"}', merges_txt="")


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
    for key, value in (("model", '"mood"'), ("input", '"b"'), ("encoding_format", '"float"'), ("user", "null")):
        case(f"{key} twice", f'{{"{key}":{value},"user":"u","encoding_format":"base64",' + json.dumps(one("a"))[1:], 400,
             key + r" is there twice")
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
    case("a top_k that is badly percent-encoded", "good", 400, r"top_k.*percent", target=infer + "?top_k=%2",
         headers={"Content-Type": "text/plain"})
    case("an empty text", "", (200, 400), r"label|text", target=infer, headers={"Content-Type": "text/plain"})
    case("a picture", b"\x89PNG\r\n", 400, r"takes a text", target=infer, headers={"Content-Type": "image/png"})
    case("pairs of other length", {"inputs": [
        {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]},
        {"name": "text_pair", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]}]}, 400, r"text_pair", target=infer)


PARTS = (uploads, pipelines, tokenizers)
WIRE_PARTS = (requests,)
