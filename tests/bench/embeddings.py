#!/usr/bin/env python3
"""all-MiniLM-L6-v2 at /v1/embeddings of a real winnowd beside ONNX Runtime in Python.

    build/venv/bin/python tests/bench/embeddings.py [--sentences 200] [--rounds 5] [--seconds 3] [--threads 1 2]

The model comes from the packages that tests/minilm.py names, the sentences from ../shared/data (AG News, of mixed length).
winnow's time is of whole requests over one HTTP/1.1 connection: JSON in, tokenizer, engine, pooling, normalization, base64
out. ONNX Runtime's is of `tokenizers`, its session, mean pooling and normalization in numpy, in this process, without any
server. Both take turns, block by block; requests with 1 and with 32 texts."""
import argparse
import base64
import http.client
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time

import numpy as np
import onnxruntime as ort
import tokenizers

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "daemon")]
import bench  # noqa: E402
import common  # noqa: E402
import engine_text  # noqa: E402
import minilm  # noqa: E402

MAX_LENGTH = 128


class OnnxRuntime:
    """Texts to normalized mean-pooled vectors, the way Python programs do it."""

    def __init__(self, paths, model, threads):
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = ort.InferenceSession(str(paths[model]), options, providers=["CPUExecutionProvider"])
        self.tokenizer = tokenizers.Tokenizer.from_file(str(paths["tokenizer"]))
        self.tokenizer.enable_truncation(MAX_LENGTH)
        self.tokenizer.enable_padding()
        self.names = [i.name for i in self.session.get_inputs()]

    def __call__(self, texts):
        encoded = self.tokenizer.encode_batch(texts)
        feed = {"input_ids": np.array([e.ids for e in encoded], np.int64),
                "attention_mask": np.array([e.attention_mask for e in encoded], np.int64),
                "token_type_ids": np.array([e.type_ids for e in encoded], np.int64)}
        tokens = self.session.run(None, {n: feed[n] for n in self.names})[0]
        mask = feed["attention_mask"][..., None].astype(np.float32)
        v = (tokens * mask).sum(1) / mask.sum(1)
        return v / np.linalg.norm(v, axis=1, keepdims=True)


class Winnow:
    """A daemon with the model, and a connection to it."""

    def __init__(self, paths, model, threads, folder):
        version = folder / f"models-{threads}/minilm/1"
        version.mkdir(parents=True)
        os.symlink(paths[model].absolute(), version / "model.onnx")
        os.symlink(paths["tokenizer"].absolute(), version / "tokenizer.json")
        (version / "pipeline.yaml").write_text(f"task: embeddings\nmax_length: {MAX_LENGTH}\n")
        home = folder / f"daemon-{threads}"
        home.mkdir()
        self.daemon = common.Daemon(home, f"server:\n  listen: [127.0.0.1:0]\nmodels:\n  repositories: "
                                    f"[{version.parents[1]}]\n  state: {home}/state\nengine:\n  threads: {threads}\n  "
                                    "streams: 1\njobs:\n  enabled: false\n")
        if not common.wait_for(lambda: self.daemon.curl("/v2/models/minilm/ready")[0] == 200, 60):
            sys.exit("winnowd does not serve the model: " + self.daemon.log()[-2000:])
        self.connection = http.client.HTTPConnection("127.0.0.1", self.daemon.port)

    def __call__(self, texts):
        body = json.dumps({"model": "minilm", "input": texts, "encoding_format": "base64"})
        self.connection.request("POST", "/v1/embeddings", body, {"Content-Type": "application/json"})
        r = self.connection.getresponse()
        answer = json.loads(r.read())
        if r.status != 200:
            sys.exit(f"winnow: {answer}")
        return np.array([np.frombuffer(base64.b64decode(d["embedding"]), np.float32) for d in answer["data"]])


def block(run, chunks, seconds):
    """Requests per second; each block goes through the same texts in the same order."""
    n, start = 0, time.perf_counter()
    while time.perf_counter() < start + seconds or n % len(chunks):
        run(chunks[n % len(chunks)])
        n += 1
    return n / (time.perf_counter() - start)


def measure(winnow, peer, texts, size, rounds, seconds):
    chunks = [texts[i:i + size] for i in range(0, len(texts) - size + 1, size)]
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(block(winnow, chunks, seconds))
        theirs.append(block(peer, chunks, seconds))
    return ours, theirs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="of one block")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--models", nargs="+", default=["f32", "int8"], choices=["f32", "int8"])
    a = parser.parse_args()
    paths, texts = minilm.fetch(), engine_text.sentences(a.sentences)
    print(f"{bench.cpu()}\nONNX Runtime {ort.__version__}; {len(texts)} sentences; texts/s: median (best) of {a.rounds} blocks")
    for model in a.models:
        for threads in a.threads:
            with tempfile.TemporaryDirectory() as tmp:
                winnow, peer = Winnow(paths, model, threads, pathlib.Path(tmp)), OnnxRuntime(paths, model, threads)
                try:
                    cosine = np.array([float(np.sum(winnow([t])[0] * peer([t])[0])) for t in texts])
                    together = np.sum(winnow(texts) * peer(texts), axis=1)
                    print(f"MiniLM-L6 {model}, {threads} thread{'s'[:threads > 1]}: least cosine {cosine.min():.7f} alone, "
                          f"{together.min():.7f} in one request")
                    for size in (1, 32):
                        ours, theirs = measure(winnow, peer, texts, size, a.rounds, a.seconds)
                        m, p = (statistics.median(v) * size for v in (ours, theirs))
                        print(f"  {size:2} texts a request: winnow {m:8.1f} ({max(ours) * size:.1f})   ONNX Runtime "
                              f"{p:8.1f} ({max(theirs) * size:.1f})   {m / p:.2f}x ({max(ours) / max(theirs):.2f}x)",
                              flush=True)
                finally:
                    winnow.daemon.stop()


if __name__ == "__main__":
    main()
