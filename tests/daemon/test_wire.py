"""test_wire.py: what lies between a client and the api: compression both ways, over REST and gRPC.

Needs the test environment (numpy, tritonclient); curl where installed. Prints TAP-like lines."""
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import zlib

import grpc
import numpy as np
import tritonclient.grpc as tgrpc
import tritonclient.http as thttp
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import onnx_bytes as ob  # noqa: E402
from api_rig import Daemon, put_version, types_model  # noqa: E402
from common import check, end, left_out  # noqa: E402

CODERS = {"gzip": lambda b: gzip.compress(b), "deflate": lambda b: zlib.compress(b)}
DECODERS = {"gzip": gzip.decompress, "deflate": zlib.decompress}
INFER = "/v2/models/lin/infer"


def rows(n, **more):
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [n, 4], "data": [1.0, 2.0, 3.0, 4.0] * n}], **more}


def test_http_bodies(d):
    plain = json.dumps(rows(16)).encode()
    want = json.loads(d.http("POST", INFER, plain)[2])
    for name, code in CODERS.items():
        s, _, v = d.http("POST", INFER, code(plain), {"Content-Encoding": name})
        check(f"a {name} body", s == 200 and json.loads(v) == want, (s, v))
        s, h, v = d.http("POST", INFER, plain, {"Accept-Encoding": name})
        check(f"a {name} answer", s == 200 and h.get("content-encoding") == name and
              json.loads(DECODERS[name](v)) == want, (s, h))
        big = json.dumps(rows(32, id="x" * 3_000_000)).encode()             # decoded and encoded on a worker
        s, h, v = d.http("POST", INFER, code(big), {"Content-Encoding": name, "Accept-Encoding": name})
        check(f"3 MB both ways in {name}", s == 200 and h.get("content-encoding") == name and len(v) < 100_000 and
              len(json.loads(DECODERS[name](v))["id"]) == 3_000_000, (s, h, len(v)))
        x = np.arange(32 * 4, dtype=np.float32).reshape(32, 4)
        head = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [32, 4],
                                       "parameters": {"binary_data_size": x.nbytes}}],
                           "parameters": {"binary_data_output": True}}).encode()
        s, h, v = d.http("POST", INFER, code(head + x.tobytes()),
                         {"Content-Encoding": name, "Accept-Encoding": name,
                          "Inference-Header-Content-Length": str(len(head))})
        v = DECODERS[name](v) if h.get("content-encoding") == name else v
        n = int(h.get("inference-header-content-length", 0))
        got = np.frombuffer(v[n:], np.float32).reshape(32, 3) if s == 200 else None
        check(f"binary tensors in {name}: the header's length is the uncompressed one", s == 200 and
              np.allclose(got, x @ np.full((4, 3), 0.25, np.float32) + [1, 2, 3]), (s, h))
        s, _, v = d.http("POST", "/v2/repository/index", code(b"{}"), {"Content-Encoding": name})
        check(f"a small {name} body of another route", s == 200 and b"lin" in v, (s, v))
    s, h, v = d.http("POST", INFER, plain, {"Accept-Encoding": "br, gzip;q=0.2, deflate;q=0.7"})
    check("the best of what is accepted", h.get("content-encoding") == "deflate", h)
    s, h, v = d.http("POST", INFER, plain, {"Accept-Encoding": "identity"})
    check("identity asked for", s == 200 and "content-encoding" not in h, h)
    s, h, v = d.http("GET", "/v2/models/lin/config", headers={"Accept-Encoding": "gzip"})
    check("Triton's other routes are never encoded", s == 200 and len(v) > 256 and "content-encoding" not in h, h)
    s, h, v = d.http("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
    check("metrics are", s == 200 and b"winnow_" in gzip.decompress(v), h)
    s, h, v = d.http("GET", "/v2/health/live", headers={"Accept-Encoding": "gzip"})
    check("a short answer stays as it is", "content-encoding" not in h and v == b'{"live":true}', (h, v))
    s, h, v = d.http("POST", INFER, plain, {"Content-Encoding": "identity"})
    check("Content-Encoding: identity", s == 200, s)
    s, h, v = d.http("POST", INFER, plain, {"Content-Encoding": "br"})
    check("an unknown coding is 415 and says which are known", s == 415 and b"'br'" in v and
          h.get("accept-encoding") == "gzip, deflate", (s, h, v))


def test_http_hostile(d):
    plain = json.dumps(rows(16)).encode()

    def bad(name, body, want, coding="gzip", says=b"", target=INFER):
        s, _, v = d.http("POST", target, body, {"Content-Encoding": coding})
        check(f"{name}: {want}", s == want and says in v, (s, v[:300]))
    whole = gzip.compress(plain)
    bad("gzip cut short", whole[:-9], 400, says=b"cut short")
    bad("gzip with a wrong checksum", whole[:-8] + b"zzzz" + whole[-4:], 400, says=b"gzip")
    bad("plain text that says gzip", plain, 400, says=b"gzip")
    bad("an empty gzip body", b"", 400)
    bad("gzip that says deflate", whole, 400, "deflate", b"deflate")
    bad("a bomb of 64 MiB", gzip.compress(bytes(64 << 20)), 413, says=b"8388608")
    bad("a bomb for a small route", gzip.compress(b" " * (2 << 20)), 413, target="/v2/repository/index", says=b"1048576")
    check("and it still serves", d.http("POST", INFER, plain)[0] == 200)


def test_triton_compression(d):
    x = np.arange(128, dtype=np.float32).reshape(32, 4)
    want = x @ np.full((4, 3), 0.25, np.float32) + np.array([1, 2, 3], np.float32)
    with thttp.InferenceServerClient(d.address) as c:
        for name in CODERS:
            for binary in (True, False):
                i = thttp.InferInput("x", [32, 4], "FP32")
                i.set_data_from_numpy(x, binary_data=binary)
                o = thttp.InferRequestedOutput("y", binary_data=binary)
                r = c.infer("lin", [i], outputs=[o], request_compression_algorithm=name,
                            response_compression_algorithm=name)
                check(f"triton http: {name} both ways, binary {binary}", np.allclose(r.as_numpy("y"), want), r)
    with tgrpc.InferenceServerClient(d.address) as c:
        for name in CODERS:
            i = tgrpc.InferInput("x", [32, 4], "FP32")
            i.set_data_from_numpy(x)
            r = c.infer("lin", [i], compression_algorithm=name)
            check(f"triton grpc: {name}", np.allclose(r.as_numpy("y"), want), r)
            check(f"triton grpc: {name} of a control call",
                  c._client_stub.ModelReady(pb.ModelReadyRequest(name="lin"), compression=grpc.Compression.Gzip).ready)


def test_grpc_compression(d):
    """The answer comes back in the request's coding where the client takes it; curl sees the frames."""
    channel = grpc.insecure_channel(d.address)
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    t = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[32, 4])
    t.contents.fp32_contents.extend([1, 2, 3, 4] * 32)
    for c in (grpc.Compression.Gzip, grpc.Compression.Deflate, grpc.Compression.NoCompression):
        r, call = stub.ModelInfer.with_call(pb.ModelInferRequest(model_name="lin", inputs=[t], id="i" * 2000),
                                            compression=c)
        check(f"grpc: request in {c.name}", r.id == "i" * 2000 and len(r.raw_output_contents[0]) == 32 * 12, r.id[:10])
    channel.close()
    if not shutil.which("curl"):
        return left_out("compressed frames by curl", "curl is not installed")
    msg = pb.ModelInferRequest(model_name="lin", inputs=[t], id="i" * 2000).SerializeToString()

    def post(name, coding, body, want, flag=1, accept="gzip,deflate", says="", answer=None):
        frame = bytes([flag]) + len(body).to_bytes(4, "big") + body
        heads = f"{d.folder}/heads"
        p = subprocess.run(["curl", "-sS", "-m", "10", "--http2-prior-knowledge", "-D", heads, "-H",
                            "content-type: application/grpc", "-H", "te: trailers", "-H", f"grpc-encoding: {coding}",
                            "-H", f"grpc-accept-encoding: {accept}", "--data-binary", "@-",
                            d.url + "/inference.GRPCInferenceService/ModelInfer"], input=frame, capture_output=True)
        h = open(heads).read()
        good = f"grpc-status: {want}" in h and says in h and "grpc-accept-encoding: identity,deflate,gzip" in h
        if good and want == 0:
            got = p.stdout
            plain = DECODERS[answer](got[5:]) if answer else got[5:]
            good = got[0] == bool(answer) and pb.ModelInferResponse.FromString(plain).id == "i" * 2000 and \
                ((f"grpc-encoding: {answer}" in h) if answer else "grpc-encoding:" not in h.replace("accept-", "x"))
        check(name, good, (h, p.stdout[:60]))
    for name, code in CODERS.items():
        post(f"grpc: {name} frame, {name} answer", name, code(msg), 0, answer=name)
        post(f"grpc: {name} frame, the client takes no {name}: plain answer", name, code(msg), 0, accept="identity")
        post(f"grpc: {name} frame cut short is INTERNAL", name, code(msg)[:-6], 13)
        post(f"grpc: {name} bomb is RESOURCE_EXHAUSTED", name, code(bytes(64 << 20)), 8)
    post("grpc: plain frame beside grpc-encoding", "gzip", msg, 0, flag=0)
    post("grpc: snappy is UNIMPLEMENTED and says what is known", "snappy", msg, 12, says="gzip")
    post("grpc: flag without a coding is INTERNAL", "identity", msg, 13, says="names nothing")


def test_curl(d):
    if not shutil.which("curl"):
        return left_out("curl --compressed", "it is not installed")
    for protocol in ("--http1.1", "--http2-prior-knowledge"):
        p = subprocess.run(["curl", "-sS", "-m", "10", protocol, "--compressed", "-w", "%{http_version} %{http_code}",
                            "-d", json.dumps(rows(16)), d.url + INFER], capture_output=True, text=True)
        check(f"curl {protocol} --compressed", p.stdout.endswith("200") and '"model_name":"lin"' in p.stdout,
              p.stdout[-200:])


def main():
    with tempfile.TemporaryDirectory() as tmp:
        repo = f"{tmp}/repo"
        put_version(repo, "lin", 1, ob.linear())
        put_version(repo, "types", 1, types_model())
        d = Daemon(tmp)
        try:
            check("ready", d.wait_ready(), d.text()[-2000:])
            for test in (test_http_bodies, test_http_hostile, test_triton_compression, test_grpc_compression,
                         test_curl):
                try:
                    test(d)
                except Exception as e:                      # one test's surprise must not hide the others
                    check(f"{test.__name__} ran to its end", False,
                          f"{type(e).__name__}: {e} line {e.__traceback__.tb_next.tb_lineno}")
            code = d.stop()
            check("it drains and ends", code == 0, (code, d.text()[-1000:]))
        finally:
            if d.process.poll() is None:
                d.stop(signal.SIGKILL)
    return end()


if __name__ == "__main__":
    sys.exit(main())
