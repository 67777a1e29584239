"""test_text.py: models of text in a real winnowd: classification and embeddings over REST, gRPC and OpenAI's API, with
curl, tritonclient and the unmodified openai client. Answers are compared with numpy's. Prints TAP-like lines."""
import base64
import concurrent.futures
import csv
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import tritonclient.grpc as tgrpc
import tritonclient.http as thttp

try:
    import openai
except ImportError:
    openai = None

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.append(str(pathlib.Path(__file__).parents[1]))
import minilm  # noqa: E402
import onnx_bytes as ob  # noqa: E402
import text_rig as rig  # noqa: E402
from api_rig import BUILD, Daemon, put, put_version, until  # noqa: E402
from common import check, end, left_out  # noqa: E402

SHARED = pathlib.Path(__file__).parents[3] / "shared/data"
LABELS = "bad\ngood\n"
CLASSES = "task: text_classification\nlabels: labels.txt\n"
TEXTS = [t for _, t in rig.sentences(60)]


def soft(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def near(a, b, tol=1e-5):
    return np.allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=tol, atol=tol)


def put_models(repo):
    more = {"vocab_txt": rig.vocab_txt()}
    put_version(repo, "mood", 1, rig.model("logits"), labels_txt=LABELS, pipeline_yaml=CLASSES + "softmax: true\n", **more)
    put_version(repo, "bucket", 1, rig.model("logits"), labels_txt=LABELS,
                pipeline_yaml=CLASSES + "pad_to_multiple_of: 16\nmax_length: 64\n", **more)
    put_version(repo, "odd", 1, rig.model("logits", ids="tokens_in", mask=False, types=False, dtype=ob.I32),
                labels_txt=LABELS, pipeline_yaml=CLASSES + "padding: 12\ninput_ids: tokens_in\ninput: sentence\n"
                "max_bytes: 200\n", **more)
    put_version(repo, "vectors", 1, rig.model("tokens"), pipeline_yaml="task: embeddings\nmax_length: 48\n", **more)
    put_version(repo, "cls", 1, rig.model("tokens", types=False),
                pipeline_yaml="task: embeddings\npooling: cls\nnormalize: false\noutput: vector\n", **more)


def bytes_input(name, texts, binary=False):
    x = thttp.InferInput(name, [len(texts)], "BYTES")
    x.set_data_from_numpy(np.array([t.encode() for t in texts], dtype=object), binary_data=binary)
    return x


# ---- classification ----
def test_rest(d):
    st, _, body = d.json("POST", "/v2/models/mood/infer", {"inputs": [
        {"name": "text", "datatype": "BYTES", "shape": [3], "data": TEXTS[:3]}]})
    out = {o["name"]: o for o in body.get("outputs", [])} if st == 200 else {}
    want = [rig.logits(t) for t in TEXTS[:3]]
    check("REST: JSON strings in, scores and labels out", st == 200 and
          near(np.reshape(out["logits"]["data"], (3, 2)), want) and
          out["label"]["data"] == [["bad", "good"][int(w.argmax())] for w in want] and
          near(out["score"]["data"], [soft(w).max() for w in want]), (st, body))
    c = thttp.InferenceServerClient(d.address)
    r = c.infer("mood", [bytes_input("text", TEXTS[:5], True)], outputs=[thttp.InferRequestedOutput("label"),
                                                                        thttp.InferRequestedOutput("logits")])
    check("REST: binary tensors by tritonclient", near(r.as_numpy("logits"), [rig.logits(t) for t in TEXTS[:5]]) and
          r.as_numpy("label").shape == (5, 1))
    r = c.infer("mood", [bytes_input("text", ["good", "a"]), bytes_input("text_pair", ["bad it is", "of"])])
    check("REST: pairs", near(r.as_numpy("logits"), [rig.logits("good", "bad it is"), rig.logits("a", "of")]))
    md = c.get_model_metadata("mood")
    check("metadata tells the pipeline", md["properties"]["pipeline_input"] == "text,text_pair" and
          md["properties"]["pipeline_task"] == "text_classification", md)
    st, _, body = d.http("POST", "/v2/models/mood/infer", b"good and nice", {"Content-Type": "application/x-www-form-urlencoded"})
    check("a text that nobody called one: the answer says how", st == 400 and b"Content-Type: text/plain" in body, body)
    st, _, body = d.http("POST", "/v2/models/mood/infer?top_k=2", "good and nice".encode(), {"Content-Type": "text/plain"})
    body, p = json.loads(body), soft(rig.logits("good and nice"))
    best = ["bad", "good"][int(p.argmax())]
    check("a text as the body", st == 200 and body["label"] == best and near(body["probability"], p.max()) and
          len(body["others"]) == 1, body)
    ids, types = rig.ids_of("good and nice")
    st, _, body = d.json("POST", "/v2/models/mood/infer", {"inputs": [
        {"name": n, "datatype": "INT64", "shape": [1, len(ids)], "data": v} for n, v in
        (("input_ids", ids), ("attention_mask", [1] * len(ids)), ("token_type_ids", types))]})
    check("the model's own tensors", st == 200 and near(body["outputs"][0]["data"], rig.logits("good and nice")), body)


def test_grpc(d):
    with tgrpc.InferenceServerClient(d.address) as c:
        x = tgrpc.InferInput("text", [40, 1], "BYTES")
        with_more = TEXTS[:32]
        x = tgrpc.InferInput("text", [32, 1], "BYTES")
        x.set_data_from_numpy(np.array([[t.encode()] for t in with_more], dtype=object))
        r = c.infer("mood", [x])
        check("gRPC: 32 texts of mixed length", near(r.as_numpy("logits"), [rig.logits(t) for t in with_more]) and
              r.as_numpy("label").shape == (32, 1))
        r = c.infer("mood", [x], outputs=[tgrpc.InferRequestedOutput("logits", class_count=1)])
        check("gRPC: the classification extension knows the labels",
              all(v[0].decode().split(":")[2] in ("bad", "good") for v in r.as_numpy("logits")))


def test_spellings(d):
    def one(text):
        return d.json("POST", "/v2/models/odd/infer", {"inputs": [
            {"name": "sentence", "datatype": "BYTES", "shape": [1], "data": [text]}]})
    st, _, body = one("good and nice")
    ids = (rig.ids_of("good and nice")[0] + [rig.PAD] * 12)[:12]
    w = rig.weights()
    want = np.tanh(w["word.weight"][ids] @ w["dense.weight"] + w["dense.bias"]).mean(0) @ w["head.weight"] + w["head.bias"]
    check("int32, one input of another name, every text of 12 tokens", st == 200 and
          near(body["outputs"][0]["data"], want), body)
    st, _, body = one("it " * 90)
    check("a text over max_bytes is refused", st in (400, 413) and "270 bytes; 200 are allowed" in str(body), body)
    st, _, body = d.json("POST", "/v2/models/odd/infer", {"inputs": [
        {"name": "sentence", "datatype": "BYTES", "shape": [2], "data": ["a b", "it is good " * 15]}]})
    check("long texts are cut", st == 200, body)


def test_company(d):
    """An answer does not depend on what it shares a batch with, padded to a common length or not."""
    rng = random.Random(5)
    texts = [t for _, t in rig.sentences(300, seed=9, longest=50)]
    want = {t: rig.logits(t, max_length=64) for t in texts}
    worst = 0.0

    def ask(model, some):
        nonlocal worst
        c = thttp.InferenceServerClient(d.address)
        got = c.infer(model, [bytes_input("text", some, True)]).as_numpy("logits")
        return max(float(np.abs(g - want[t]).max()) for g, t in zip(got, some))
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        asks = [pool.submit(ask, rng.choice(["mood", "bucket"]), rng.sample(texts, rng.choice([1, 1, 1, 2, 7])))
                for _ in range(300)]
        worst = max(a.result() for a in asks)
    check("300 concurrent requests of mixed length: each as alone to 1e-5", worst < 1e-5, worst)
    _, _, s = d.json("GET", "/v2/models/bucket/stats")
    check("lengths of one bucket are one shape", s["model_stats"][0]["inference_count"] > 0)


def test_bad_requests(d):
    def bad(name, body, *words, model="mood"):
        st, _, text = d.json("POST", f"/v2/models/{model}/infer", body)
        check(f"refused: {name}", 400 <= st < 500 and all(w in str(text) for w in words), (st, text))

    def texts(data, shape=None, name="text", **more):
        return {"name": name, "datatype": "BYTES", "shape": shape or [len(data)], "data": data, **more}
    bad("no rows", {"inputs": [texts([], [0])]}, "'text'", "rows")
    bad("33 rows", {"inputs": [texts(["a"] * 33)]}, "33 rows", "32")
    bad("a pair of another length", {"inputs": [texts(["a", "b"]), texts(["a"], name="text_pair")]}, "text_pair", "1 rows")
    bad("a pair without its text", {"inputs": [texts(["a"], name="text_pair")]}, "text_pair")
    bad("three axes", {"inputs": [texts(["a"], [1, 1, 1])]}, "[rows]")
    bad("text and tensor", {"inputs": [texts(["a"]), {"name": "input_ids", "datatype": "INT64", "shape": [1, 1],
                                                       "data": [2]}]}, "both there")
    bad("not base64", {"inputs": [texts(["*"], parameters={"content_type": "base64"})]}, "base64")
    bad("an embedding of a classifier", {"inputs": [texts(["a"])], "outputs": [{"name": "embedding"}]}, "embedding")
    bad("a label of an embedder", {"inputs": [texts(["a"])], "outputs": [{"name": "label"}]}, "label", model="vectors")
    st, _, text = d.http("POST", "/v2/models/mood/infer", b"\x89PNG", {"Content-Type": "image/png"})
    check("refused: a picture", st == 400 and b"takes a text" in text, text)
    r = d.json("POST", "/v2/models/mood/infer", {"inputs": [texts([base64.b64encode("good".encode()).decode()],
                                                                   parameters={"content_type": "base64"})]})
    check("base64 texts", r[0] == 200 and near(r[2]["outputs"][0]["data"], rig.logits("good")), r)
    st, _, body = d.json("POST", "/v2/models/mood/infer", {"inputs": [texts(["good " * 20000])]})
    want = rig.logits("good " * 20000, max_length=512)
    check("a text of 100 kB is cut to 512 tokens", st == 200 and near(body["outputs"][0]["data"], want), body)


def test_bad_pipelines(d, repo):
    good = {"vocab_txt": rig.vocab_txt(), "labels_txt": LABELS}
    cases = [("no vocabulary", rig.model("logits"), {"pipeline_yaml": CLASSES, "labels_txt": LABELS}, "tokenizer"),
             ("no mask", rig.model("logits", mask=False), {"pipeline_yaml": CLASSES, **good}, "attention mask"),
             ("wrong name", rig.model("logits"), {"pipeline_yaml": CLASSES + "input_ids: ids\n", **good}, "no input 'ids'"),
             ("unknown key", rig.model("logits"), {"pipeline_yaml": CLASSES + "max_len: 3\n", **good}, "max_length"),
             ("fourth input", ob.model(ob.graph([ob.node("Identity", ["x"], ["y"])], [ob.value("x", ob.F32, ["N", 2])],
                                                [ob.value("y", ob.F32, ["N", 2])])),
              {"pipeline_yaml": CLASSES, **good}, "'x'")]
    for i, (name, data, files, word) in enumerate(cases):
        put_version(repo, f"broken{i}", 1, data, **files)
        d.json("POST", f"/v2/repository/models/broken{i}/load", {})
        _, _, index = d.json("POST", "/v2/repository/index", {})
        reason = [e.get("reason", "") for e in index if e["name"] == f"broken{i}"]
        check(f"pipeline.yaml: {name}", reason and word in reason[0] and "pipeline.yaml:" in reason[0], reason)


# ---- embeddings ----
def test_openai(d):
    if openai is None:
        return left_out("the openai client", "it is not installed")
    c = openai.OpenAI(base_url=f"{d.url}/v1", api_key="none", max_retries=0)
    r = c.embeddings.create(model="vectors", input=TEXTS[0])
    ids = rig.ids_of(TEXTS[0])[0]
    check("openai: one text", r.object == "list" and r.model == "vectors" and len(r.data) == 1 and
          near(r.data[0].embedding, rig.embedding(ids)) and r.usage.prompt_tokens == len(ids) == r.usage.total_tokens, r)
    r = c.embeddings.create(model="vectors@1", input=TEXTS, encoding_format="float")
    check("openai: 60 texts in batches of 32", [e.index for e in r.data] == list(range(60)) and
          all(near(e.embedding, rig.embedding(rig.ids_of(t, max_length=48)[0])) for e, t in zip(r.data, TEXTS)))
    b = c.embeddings.create(model="vectors", input=TEXTS, encoding_format="base64")
    check("openai: base64 says the same bits", all(
        np.array_equal(np.frombuffer(base64.b64decode(x.embedding), np.float32), np.asarray(y.embedding, np.float32))
        for x, y in zip(b.data, r.data)))
    rows = [rig.ids_of(t)[0] for t in TEXTS[:3]]
    r = c.embeddings.create(model="vectors", input=rows)
    one = c.embeddings.create(model="vectors", input=rows[0])
    check("openai: tokens", all(near(e.embedding, rig.embedding(i)) for e, i in zip(r.data, rows)) and
          near(one.data[0].embedding, r.data[0].embedding) and r.usage.prompt_tokens == sum(map(len, rows)))
    r = c.embeddings.create(model="cls", input="good and nice")
    w = rig.weights()
    want = np.tanh(w["word.weight"][rig.CLS] @ w["dense.weight"] + w["dense.bias"])
    check("pooling cls, not normalised", near(r.data[0].embedding, want))
    for name, kind, words, call in [
        ("dimensions", openai.BadRequestError, "dimensions", dict(model="vectors", input="a", dimensions=3)),
        ("an unknown model", openai.NotFoundError, "nobody", dict(model="nobody", input="a")),
        ("a classifier", openai.BadRequestError, "makes no embeddings", dict(model="mood", input="a")),
        ("an empty text", openai.BadRequestError, "empty", dict(model="vectors", input="")),
        ("an empty list", openai.BadRequestError, "empty", dict(model="vectors", input=[])),
        ("a token outside the vocabulary", openai.BadRequestError, "vocabulary", dict(model="vectors", input=[2, 99999])),
        ("49 tokens", openai.BadRequestError, "from 1 to 48", dict(model="vectors", input=[2] * 49)),
        ("a mixture", openai.BadRequestError, "JSON", dict(model="vectors", input=["a", [2]])),
        ("an unknown key", openai.BadRequestError, "pooling", dict(model="vectors", input="a", extra_body={"pooling": 1})),
        ("2049 texts", (openai.BadRequestError, openai.APIStatusError), "2048", dict(model="vectors", input=["a"] * 2049)),
    ]:
        try:
            c.embeddings.create(**call)
            check(f"openai: {name} is refused", False)
        except kind as e:
            check(f"openai: {name} is refused", words in str(e), e)
    check("openai: models", {m.id for m in c.models.list()} >= {"mood", "vectors"})


def test_embeddings(d):
    c = thttp.InferenceServerClient(d.address)
    r = c.infer("vectors", [bytes_input("text", TEXTS[:4])], outputs=[thttp.InferRequestedOutput("embedding")])
    want = [rig.embedding(rig.ids_of(t, max_length=48)[0]) for t in TEXTS[:4]]
    check("embeddings over OIP", near(r.as_numpy("embedding"), want))
    st, _, body = d.http("POST", "/v2/models/vectors/infer", TEXTS[0].encode(), {"Content-Type": "text/plain"})
    check("a text as the body becomes a vector", st == 200 and near(json.loads(body)["embedding"], want[0]), body)
    st, h, body = d.json("POST", "/v1/embeddings", {"input": TEXTS[0], "model": "vectors", "user": "u"})
    check("/v1/embeddings says which generation answered", st == 200 and h.get("winnow-version") == "1", h)
    st, _, _ = d.json("POST", "/v1/embeddings", {"input": "a", "model": "vectors"}, {"winnow-pin": "generation=999"})
    check("a pin that does not hold is 412", st == 412, st)
    long = " ".join(TEXTS) * 20
    st, _, body = d.json("POST", "/v1/embeddings", {"input": [long] * 40, "model": "vectors"})
    check("long texts in a large body", st == 200 and len(body["data"]) == 40 and
          body["usage"]["prompt_tokens"] == 40 * 48, st)
    if shutil.which("curl"):
        out = subprocess.run(["curl", "-s", f"{d.url}/v1/embeddings", "-d", '{"model":"vectors","input":"good"}'],
                             capture_output=True, text=True).stdout
        check("curl", near(json.loads(out)["data"][0]["embedding"], rig.embedding(rig.ids_of("good")[0])), out)
    for name, body in [("nothing", b""), ("an array", b"[]"), ("no model", b'{"input":"a"}'), ("no input", b'{"model":"vectors"}'),
                       ("a number", b'{"model":"vectors","input":3}'), ("cut short", b'{"model":"vectors","input":["a"'),
                       ("twice", b'{"model":"vectors","input":"a","input":"b"}'),
                       ("floats", b'{"model":"vectors","input":[1.5]}'), ("deep", b'{"model":"vectors","input":' + b"[" * 99),
                       ("not UTF-8", b'{"model":"vectors","input":"\xff"}')]:
        st, _, text = d.http("POST", "/v1/embeddings", body)
        check(f"/v1/embeddings: {name}", st == 400 and "message" in json.loads(text)["error"], (st, text))


# ---- a real model ----
def test_agnews(d, repo):
    source = SHARED / "models/bert_tiny_agnews_fp32.onnx"
    if not source.exists():
        return left_out("bert_tiny_agnews", "../shared/data is not there")
    put_version(repo, "agnews", 1, source.read_bytes(), labels_txt="world\nsports\nbusiness\nsci/tech\n",
                vocab_txt=(SHARED / "models/bert_uncased_vocab.txt").read_text(),
                pipeline_yaml=CLASSES + "max_length: 64\npad_to_multiple_of: 16\nsoftmax: true\n")
    until(lambda: d.http("GET", "/v2/models/agnews/ready")[0] == 200)
    case = json.loads((SHARED / "reference/agnews4.json").read_text())
    texts = case["texts"] if isinstance(case, dict) and "texts" in case else [r["text"] for r in case]
    want = np.load(SHARED / "reference/bert_tiny_agnews_fp32.out.logits.npy")
    c = thttp.InferenceServerClient(d.address)
    r = c.infer("agnews", [bytes_input("text", texts)])
    check("bert_tiny_agnews: text in, the reference's logits out", near(r.as_numpy("logits"), want, 1e-4),
          (r.as_numpy("logits"), want))
    alone = np.concatenate([c.infer("agnews", [bytes_input("text", [t])]).as_numpy("logits") for t in texts])
    check("bert_tiny_agnews: alone as together", near(alone, r.as_numpy("logits"), 1e-5), alone - r.as_numpy("logits"))


def real_sentences(n):
    """Of AG News, in mixed lengths; made of the rig's words where the data set is not there."""
    news = SHARED / "datasets/ag_news/val.csv"
    if not news.exists():
        return [t for _, t in rig.sentences(n, seed=5)]
    with open(news, newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    cut = random.Random(3)
    return [" ".join(f"{r['title']}. {r['description']}".split()[:cut.randint(3, 60)]) for r in rows[:n]]


def test_minilm(d, repo):
    """all-MiniLM-L6-v2 at /v1/embeddings beside `tokenizers`, ONNX Runtime and numpy: 200 sentences, alone and together."""
    try:
        import onnxruntime
        import tokenizers
        paths = minilm.fetch()
    except (ImportError, minilm.Missing) as e:
        return left_out("MiniLM at /v1/embeddings", str(e))
    if openai is None:
        return left_out("MiniLM at /v1/embeddings", "no openai client")
    tokenizer = tokenizers.Tokenizer.from_file(str(paths["tokenizer"]))
    tokenizer.enable_truncation(128)
    tokenizer.no_padding()
    put_version(repo, "minilm", 1, paths["f32"].read_bytes(), pipeline_yaml="task: embeddings\nmax_length: 128\n",
                tokenizer_json=paths["tokenizer"].read_text(encoding="utf-8"))
    if not check("MiniLM loads", until(lambda: d.http("GET", "/v2/models/minilm/ready")[0] == 200, 60), d.text()[-1500:]):
        return None
    session, texts, want = onnxruntime.InferenceSession(str(paths["f32"])), real_sentences(200), []
    for t in texts:
        ids = np.array([tokenizer.encode(t).ids])
        v = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids),
                               "token_type_ids": np.zeros_like(ids)})[0][0].mean(0)
        want.append(v / np.linalg.norm(v))
    c = openai.OpenAI(base_url=d.url + "/v1", api_key="none", max_retries=0)
    together = [e.embedding for e in c.embeddings.create(model="minilm", input=texts).data]
    alone = [c.embeddings.create(model="minilm", input=t).data[0].embedding for t in texts]
    for how, got in (("together", together), ("alone", alone)):
        cosine = np.sum(np.array(want) * np.array(got), axis=1)
        check(f"MiniLM: 200 sentences {how}, cosine to ONNX Runtime at least 0.9999", cosine.min() >= 0.9999, cosine.min())
    apart = np.abs(np.array(together) - np.array(alone)).max()
    return check("MiniLM: a sentence has one vector, alone or in company", apart < 1e-6, apart)


def main():
    with tempfile.TemporaryDirectory(prefix="wn-text-") as tmp:
        repo = f"{tmp}/repo"
        os.makedirs(repo)
        put_models(repo)
        d = Daemon(tmp)
        try:
            check("the models serve", d.wait_ready() and all(
                d.http("GET", f"/v2/models/{m}/ready")[0] == 200 for m in ("mood", "bucket", "odd", "vectors", "cls")),
                d.text()[-1500:])
            for test in (test_rest, test_grpc, test_spellings, test_company, test_bad_requests, test_openai,
                         test_embeddings):
                test(d)
            test_bad_pipelines(d, repo)
            test_agnews(d, repo)
            test_minilm(d, repo)
            check("the daemon ends well", d.stop() == 0)
        finally:
            if d.process.poll() is None:
                d.process.kill()
    return end()


if __name__ == "__main__":
    sys.exit(main())
