"""test_api.py: a real winnowd on a free port with real clients: REST, gRPC, repository, pins, errors, overload, drain.

Needs the test environment (numpy, tritonclient); curl and h2load where installed. Prints TAP-like lines."""
import base64
import concurrent.futures
import http.client
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import grpc
import numpy as np
import tritonclient.grpc as tgrpc
import tritonclient.http as thttp
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import InferenceServerException

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import onnx_bytes as ob  # noqa: E402
from api_rig import OIP, TYPES, WINNOWD, Daemon, png, put, put_version, slow_model, types_model, until  # noqa: E402

lock = threading.Lock()
passed = failed = 0


def check(name, good, detail=""):
    global passed, failed
    with lock:
        passed, failed = passed + bool(good), failed + (not good)
        print(f"{'ok' if good else 'not ok'} {passed + failed} - {name}" + ("" if good else f"   # {detail!r:.500}"),
              flush=True)


def lin_request(rows=((1, 2, 3, 4),), **more):
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [len(rows), 4],
                        "data": [v for r in rows for v in r]}], **more}


# ---- the program ----
def test_program(tmp):
    run = lambda *a: subprocess.run([WINNOWD, *a], capture_output=True, text=True, timeout=20)
    good, bad = f"{tmp}/good.yaml", f"{tmp}/bad.yaml"
    put(good, "batch:\n  max_wait: 3ms\n")
    put(bad, "batch:\n  max_wait: 3ms\n  max_weight: 1\n")
    r = run("--check", "--config", good)
    check("--check: good settings", r.returncode == 0, (r.returncode, r.stderr))
    r = run("--check", "--config", bad)
    check("--check: a bad file is 2 with file and line", r.returncode == 2 and "bad.yaml:3" in r.stderr,
          (r.returncode, r.stderr))
    r = run("--print-config", "--config", good)
    check("--print-config", r.returncode == 0 and "max_wait: 3ms" in r.stdout and "max_batch: 64" in r.stdout, r.stdout)
    put(f"{tmp}/again.yaml", r.stdout)
    r2 = run("--print-config", "--config", f"{tmp}/again.yaml")
    check("--print-config can be read back", r2.stdout == r.stdout, r2.stderr)
    r = run("--version")
    check("--version", r.returncode == 0 and re.match(r"winnowd \d+\.\d+\.\d+\n", r.stdout), r.stdout)
    check("unknown option is 2", run("--frobnicate").returncode == 2)
    check("unknown file is 2", run("--config", f"{tmp}/no.yaml").returncode == 2)


# ---- REST ----
def test_metadata(d):
    for path in ("/v2", "/v2/"):
        s, _, v = d.json("GET", path)
        check(f"GET {path}", s == 200 and v["name"] == "winnow" and "binary_tensor_data" in v["extensions"], (s, v))
    s, h, v = d.json("GET", "/v2/health/live")
    check("live has a JSON body", s == 200 and v == {"live": True} and h["content-type"] == "application/json",
          (s, h, v))
    s, h, v = d.json("GET", "/v2/health/ready")
    check("ready has a JSON body", s == 200 and v == {"ready": True}, (s, h, v))
    s, h, v = d.json("GET", "/v2/models/lin")
    check("model metadata", s == 200 and v["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}] and
          v["outputs"][0]["name"] == "y" and "1" in v["versions"], v)
    check("metadata says which generation", h.get("winnow-version") == "1" and
          h.get("winnow-digest", "").startswith("sha256:"), h)
    s, _, v = d.json("GET", "/v2/models/lin/versions/1/ready")
    check("model ready", s == 200 and v["ready"] is True, (s, v))
    for method, path, want in (("GET", "/v2/nothing", 404), ("GET", "/v2/models/none", 404),
                               ("GET", "/v2/models/lin/versions/9", 404),
                               ("GET", "/v2/models/lin/versions/x", 404), ("GET", "/v2/models/lin/infer", 405),
                               ("DELETE", "/v2", 405),
                               ("GET", "/v2/models/%zz", 400), ("GET", "/v2/models/a%2fb", 400),
                               ("GET", "/v2/models/a%00b", 400),
                               ("GET", "/v2/models/none/ready", 404)):
        s, h, v = d.json(method, path)
        check(f"{method} {path} is {want} with an error body", s == want and "error" in v and
              h["content-type"] == "application/json", (s, h, v))
    s, h, _ = d.json("GET", "/v2/models/lin/infer")
    check("405 says what is allowed", h.get("allow") == "POST", h)
    s, h, _ = d.http("HEAD", "/v2")
    check("HEAD", s == 200 and int(h["content-length"]) > 10, (s, h))
    s, _, text = d.http("GET", "/")
    check("GET / points somewhere", s == 200 and b"/v2" in text)
    check("both listeners speak", d.http("GET", "/v2", port=d.ports[1])[0] == 200)
    check("a page of another site is refused",
          d.json("POST", "/v2/models/lin/infer", lin_request(), {"Origin": "http://evil.example"})[0] == 403)
    evil, body = "evil.example", json.dumps(lin_request()).encode()
    with socket.create_connection(("127.0.0.1", d.port)) as s:   # a form that names us, a Host that does not
        s.sendall(f"POST {d.url}/v2/models/lin/infer HTTP/1.1\r\nHost: {evil}\r\nOrigin: http://{evil}\r\n"
                  f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        check("... whatever Host says beside an absolute form", b" 403 " in s.recv(1000).split(b"\r\n")[0])
    check("our own page is not", d.json("POST", "/v2/models/lin/infer", lin_request(), {"Origin": d.url})[0] == 200)


def test_infer_json(d):
    s, h, v = d.json("POST", "/v2/models/lin/infer", lin_request(id="a \"quoted\" id"))
    check("infer, flat", s == 200 and v["outputs"][0]["data"] == [3.5, 4.5, 5.5] and v["id"] == "a \"quoted\" id" and
          v["model_version"] == "1" and v["outputs"][0]["shape"] == [1, 3], v)
    check("the response says what made it", h.get("winnow-version") == "1" and
          h.get("winnow-generation", "").isdigit() and
          re.fullmatch(r"sha256:[0-9a-f]{64}", h.get("winnow-digest", "")), h)
    r = lin_request()
    r["inputs"][0]["data"] = [[1, 2, 3, 4]]
    s, _, v = d.json("POST", "/v2/models/lin/versions/1/infer", r)
    check("infer, nested, by version", s == 200 and v["outputs"][0]["data"] == [3.5, 4.5, 5.5], v)
    r["inputs"][0]["datatype"] = "FP64"
    s, _, v = d.json("POST", "/v2/models/lin/infer", r)
    check("FP64 for FP32: what to do in numpy is said", s == 400 and "FP64, but the model wants FP32: in numpy, "
          "x.astype('float32')" in v["error"], v)
    r["inputs"][0]["name"] = "input"
    s, _, v = d.json("POST", "/v2/models/lin/infer", r)
    check("an input that is none: those there are", s == 400 and "no input 'input', but 'x' (FP32 [-1,4])" in v["error"], v)
    r = {"inputs": [{"data": [0.1, 2.5e0, -3, 4], "shape": [1, 4], "datatype": "FP32", "unknown": {"a": [1]},
                     "name": "x"}]}
    s, _, v = d.json("POST", "/v2/models/lin/infer", r)
    check("keys in any order, unknown keys", s == 200, v)
    s, _, v = d.http("POST", "/v2/models/lin/infer",
                     '{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[NaN,1,1,1]}]}')
    check("NaN goes in and comes out as Triton has it", s == 200 and b"NaN" in v, v)
    rows = 20
    s, _, v = d.json("POST", "/v2/models/lin/infer", lin_request([(i, i, i, i) for i in range(rows)]))
    check("many rows", s == 200 and v["outputs"][0]["data"] == [float(i + b) for i in range(rows) for b in (1, 2, 3)],
          v)
    inputs = [{"name": f"in{k}", "datatype": OIP[k], "shape": [1, 2],
               "data": [True, False] if k == "B" else [1, 0] if k == "U8" else [1, -7]}
              for k in TYPES]
    s, _, v = d.json("POST", "/v2/models/types/infer", {"inputs": inputs})
    check("every datatype in JSON", s == 200 and [o["data"] for o in v["outputs"]] == [i["data"] for i in inputs], v)
    s, _, v = d.json("POST", "/v2/models/types/infer", {"inputs": inputs,
                                                        "outputs": [{"name": "outI64"}, {"name": "outB"}]})
    check("only the outputs asked for, in that order", s == 200 and
          [o["name"] for o in v["outputs"]] == ["outI64", "outB"], v)
    s, _, v = d.json("POST", "/v2/models/lin/infer", lin_request(outputs=[{"name": "y",
                                                                           "parameters": {"classification": 2}}]))
    check("classification", s == 200 and v["outputs"][0]["data"] == ["5.500000:2", "4.500000:1"] and
          v["outputs"][0]["shape"] == [1, 2], v)


def test_infer_errors(d):
    def bad(name, body, want=400, path="/v2/models/lin/infer", says="", headers=None):
        text = body if isinstance(body, (str, bytes)) else json.dumps(body)
        s, h, v = d.http("POST", path, text, headers)
        check(f"{name}: {want}", s == want and says in json.loads(v)["error"], (s, v))
    x = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}
    bad("not JSON", "{", says="JSON at byte")
    bad("empty body", "")
    bad("no inputs", {}, says="inputs")
    bad("inputs empty", {"inputs": []}, says="'x'")
    bad("unknown input", {"inputs": [x, {**x, "name": "z"}]}, says="no input 'z'")
    bad("input twice", {"inputs": [x, x]}, says="already exists")
    bad("wrong datatype", {"inputs": [{**x, "datatype": "INT64"}]}, says="FP32")
    bad("unknown datatype", {"inputs": [{**x, "datatype": "FP31"}]}, says="FP31")
    bad("wrong shape", {"inputs": [{**x, "shape": [4, 1]}]}, says="[-1,4]")
    bad("wrong rank", {"inputs": [{**x, "shape": [4]}]}, says="[-1,4]")
    bad("too few elements", {"inputs": [{**x, "data": [1, 2, 3]}]}, says="shape says 4")
    bad("too many elements", {"inputs": [{**x, "data": [1, 2, 3, 4, 5]}]}, says="more than")
    bad("negative dimension", {"inputs": [{**x, "shape": [-1, 4]}]})
    bad("overflowing shape", {"inputs": [{**x, "shape": [1152921504606846976, 4]}]})
    bad("overflowing shape, 8 dimensions", {"inputs": [{**x, "shape": [4294967296] * 8}]}, says="maximum size")
    bad("9 dimensions", {"inputs": [{**x, "shape": [1] * 9}]})
    bad("string for a number", {"inputs": [{**x, "data": [1, 2, 3, "4"]}]}, says="input 'x'")
    bad("number out of range", {"inputs": [{**x, "data": [1, 2, 3, 1e39]}]}, says="range")
    bad("no data", {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4]}]}, says="neither")
    bad("too many rows", {"inputs": [{**x, "shape": [33, 4], "data": [0] * 132}]}, says="32")
    bad("no rows", {"inputs": [{**x, "shape": [0, 4], "data": []}]})
    bad("unknown output", {"inputs": [x], "outputs": [{"name": "q"}]}, says="no output 'q'")
    bad("deep nesting", '{"inputs":' + "[" * 101 + "]" * 101 + "}")
    bad("shared memory", {"inputs": [{**x, "parameters": {"shared_memory_region": "r"}}]}, says="shared memory")
    bad("binary_data_size without bytes", {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4],
                                                       "parameters": {"binary_data_size": 16}}]})
    bad("header length beyond the body", "{}", headers={"Inference-Header-Content-Length": "100"},
        says="Inference-Header")
    bad("unknown model", {"inputs": [x]}, 404, "/v2/models/none/infer", "none")
    bad("unknown version", {"inputs": [x]}, 404, "/v2/models/lin/versions/77/infer")
    bad("compressed body", b"x", 415, headers={"Content-Encoding": "br"})
    bad("too large", b" " * (9 << 20), 413)
    bad("int8 out of range", {"inputs": [{"name": "inI8", "datatype": "INT8", "shape": [1, 2], "data": [128, 0]}]},
        path="/v2/models/types/infer",
        says="-128")
    bad("1 is no BOOL", {"inputs": [{"name": "inB", "datatype": "BOOL", "shape": [1, 2], "data": [1, 0]}]},
        path="/v2/models/types/infer")
    bad("deadline already past", lin_request(parameters={"timeout": 1}), 504)
    bad("deadline by header", lin_request(), 504, headers={"winnow-timeout-ms": "0"})


def test_binary(d):
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    want = x @ np.full((4, 3), 0.25, np.float32) + np.array([1, 2, 3], np.float32)
    head = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 4],
                                   "parameters": {"binary_data_size": 32}}],
                       "parameters": {"binary_data_output": True}}).encode()
    for pad in range(4):                                    # blobs at every alignment
        h = head + b" " * pad
        s, rh, v = d.http("POST", "/v2/models/lin/infer", h + x.tobytes(),
                          {"Inference-Header-Content-Length": str(len(h))})
        n = int(rh.get("inference-header-content-length", 0))
        good = s == 200 and np.array_equal(np.frombuffer(v[n:], np.float32).reshape(2, 3), want)
        check(f"binary in and out, {pad} spaces", good and rh["content-type"] == "application/octet-stream", (s, rh, v))
    s, _, v = d.http("POST", "/v2/models/lin/infer", head + x.tobytes() + b"z",
                     {"Inference-Header-Content-Length": str(len(head))})
    check("bytes left over are an error", s == 400 and b"additional" in v, v)
    s, rh, v = d.http("POST", "/v2/models/lin/infer", x.tobytes()[:16], {"Inference-Header-Content-Length": "0"})
    n = int(rh.get("inference-header-content-length", 0))
    check("raw request", s == 200 and np.array_equal(np.frombuffer(v[n:], np.float32), want[0]), (s, v))
    s, _, v = d.http("POST", "/v2/models/lin/infer", x.tobytes()[:15], {"Inference-Header-Content-Length": "0"})
    check("raw request of the wrong size", s == 400, v)


def test_triton_http(d):
    with thttp.InferenceServerClient(d.address) as c:
        check("triton http: live, ready", c.is_server_live() and c.is_server_ready() and c.is_model_ready("lin") and
              not c.is_model_ready("none"))
        check("triton http: metadata", c.get_server_metadata()["name"] == "winnow" and
              c.get_model_metadata("lin")["name"] == "lin")
        names = {m["name"]: m["state"] for m in c.get_model_repository_index()}
        check("triton http: index", names.get("lin") == "READY" and names.get("pic") == "READY", names)
        x = np.random.default_rng(1).random((3, 4), dtype=np.float32)
        want = x @ np.full((4, 3), 0.25, np.float32) + np.array([1, 2, 3], np.float32)
        for binary_in in (True, False):
            for outs in (None, [thttp.InferRequestedOutput("y", binary_data=True)],
                         [thttp.InferRequestedOutput("y", binary_data=False)]):
                i = thttp.InferInput("x", [3, 4], "FP32")
                i.set_data_from_numpy(x, binary_data=binary_in)
                y = c.infer("lin", [i], outputs=outs, request_id="7").as_numpy("y")
                check(f"triton http: infer, binary in {binary_in}, outputs {outs and outs[0]._get_tensor()}",
                      np.allclose(y, want, rtol=1e-6), y)
        try:
            c.infer("none", [i])
            check("triton http: unknown model", False)
        except InferenceServerException as e:
            check("triton http: unknown model", "none" in e.message(), e)
        c.unload_model("types")
        check("triton http: unload", until(lambda: not c.is_model_ready("types")))
        check("readiness does not flicker on unload", c.is_server_ready())
        c.load_model("types")
        check("triton http: load", c.is_model_ready("types"))
        try:
            c.load_model("none")
            check("triton http: load of an unknown model", False)
        except InferenceServerException as e:
            check("triton http: load of an unknown model", "none" in e.message(), e)


def test_pictures(d):
    p = png(np.arange(64).reshape(8, 8) * 4)
    s, h, v = d.json("POST", "/v2/models/pic/infer")
    s, h, v = d.http("POST", "/v2/models/pic/infer?top_k=3", p, {"Content-Type": "image/png"})
    v = json.loads(v)
    check("a picture as the body", s == 200 and v["label"] in ("ant", "bee", "cat") and 0 < v["probability"] < 1 and
          len(v["others"]) == 2 and abs(v["probability"] + sum(o["probability"] for o in v["others"]) - 1) < 1e-5, v)
    best = v["label"]
    s, _, v2 = d.http("POST", "/v2/models/pic/infer", p, {"Content-Type": "image/png"})
    check("a picture's best label alone", s == 200 and json.loads(v2)["label"] == best and
          "others" not in json.loads(v2), v2)
    s, _, v2 = d.http("POST", "/v2/models/pic/infer", p, {"Content-Type": "application/x-www-form-urlencoded"})
    check("a picture that nobody called one: the answer says how", s == 400 and b"Content-Type: image/png" in v2, v2)
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + p + b"\r\n--b--\r\n"
    s, _, v2 = d.http("POST", "/v2/models/pic/infer", form, {"Content-Type": "multipart/form-data; boundary=b"})
    check("a picture in a form: the answer says how", s == 400 and b"--data-binary" in v2, v2)
    item = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(p).decode()],
            "parameters": {"content_type": "base64"}}
    s, _, v = d.json("POST", "/v2/models/pic/infer", {"inputs": [item | {"name": "picture"}]})
    check("an input of another name: the picture's is named among those that there are",
          s == 400 and "no input 'picture', but 'image' (BYTES), or 'x' (" in v["error"], v)
    s, _, v = d.json("POST", "/v2/models/pic/infer", {"inputs": [item], "parameters": {"top_k": 2}})
    outs = {o["name"]: o for o in v["outputs"]} if s == 200 else {}
    check("a picture as base64 in JSON", s == 200 and outs["label"]["data"][0] == best and
          outs["label"]["shape"] == [1, 2] and
          outs["score"]["datatype"] == "FP32" and "y" in outs, v)
    blob = struct.pack("<I", len(p)) + p
    head = json.dumps({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [2, 1],
                                   "parameters": {"binary_data_size": 2 * len(blob)}}],
                       "outputs": [{"name": "label"}]}).encode()
    s, _, v = d.http("POST", "/v2/models/pic/infer", head + blob * 2,
                     {"Inference-Header-Content-Length": str(len(head))})
    check("two pictures by the binary extension", s == 200 and json.loads(v)["outputs"][0]["data"] == [best, best], v)
    with tgrpc.InferenceServerClient(d.address) as c:
        i = tgrpc.InferInput("image", [1], "BYTES")
        i.set_data_from_numpy(np.array([p], dtype=np.object_))
        r = c.infer("pic", [i], outputs=[tgrpc.InferRequestedOutput("label"),
                                         tgrpc.InferRequestedOutput("y", class_count=1)])
        check("a picture over gRPC, labels", r.as_numpy("label")[0][0] == best.encode(), r.as_numpy("label"))
        check("classification with labels", r.as_numpy("y")[0][0].decode().endswith(":" + best), r.as_numpy("y"))
    for name, body, want in (("not a picture we take", b"GIF89a.............", 400), ("a broken picture", p[:60], 400),
                             ("nothing", b"", 400)):
        s, _, v = d.json("POST", "/v2/models/pic/infer") if not body else d.http("POST", "/v2/models/pic/infer", body,
            {"Content-Type": "image/png"})
        check(f"{name} is {want}", s == want, (s, v))
    s, _, v = d.http("POST", "/v2/models/lin/infer", p, {"Content-Type": "image/png"})
    check("a picture for a model of tensors", s == 400 and b"pipeline" in v, v)


# ---- gRPC ----
def code_of(call):
    try:
        call()
        return None, ""
    except grpc.RpcError as e:
        return e.code().name, e.details()
    except InferenceServerException as e:
        return e.status().replace("StatusCode.", ""), e.message()


def test_triton_grpc(d):
    with tgrpc.InferenceServerClient(d.address) as c:
        check("triton grpc: live, ready", c.is_server_live() and c.is_server_ready() and c.is_model_ready("lin"))
        check("triton grpc: server metadata", c.get_server_metadata().name == "winnow")
        m = c.get_model_metadata("lin")
        check("triton grpc: model metadata", m.inputs[0].name == "x" and list(m.inputs[0].shape) == [-1, 4] and
              "1" in m.versions, m)
        check("triton grpc: index",
              any(x.name == "lin" and x.state == "READY" for x in c.get_model_repository_index().models))
        x = np.random.default_rng(2).random((5, 4), dtype=np.float32)
        want = x @ np.full((4, 3), 0.25, np.float32) + np.array([1, 2, 3], np.float32)
        i = tgrpc.InferInput("x", [5, 4], "FP32")
        i.set_data_from_numpy(x)
        r = c.infer("lin", [i], request_id="id 1", priority=1, timeout=10000000)
        check("triton grpc: infer", np.allclose(r.as_numpy("y"), want, rtol=1e-6) and r.get_response().id == "id 1" and
              r.get_response().model_version == "1", r.get_response())
        ins, vals = [], {}
        for k, (_, t) in TYPES.items():
            vals[k] = np.array([[1, 0], [0, 1]]).astype(t)
            v = tgrpc.InferInput(f"in{k}", [2, 2], OIP[k])
            v.set_data_from_numpy(vals[k])
            ins.append(v)
        r = c.infer("types", ins)
        check("triton grpc: every datatype, raw", all(np.array_equal(r.as_numpy(f"out{k}"), vals[k]) and
                                                      r.as_numpy(f"out{k}").dtype == vals[k].dtype
                                                      for k in TYPES))
        code, text = code_of(lambda: c.infer("none", [i]))
        check("triton grpc: unknown model", code == "NOT_FOUND" and "none" in text, (code, text))
        c.unload_model("types")
        check("triton grpc: unload", until(lambda: not c.is_model_ready("types")))
        c.load_model("types")
        check("triton grpc: load", c.is_model_ready("types"))


def typed_request(**more):
    t = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 4])
    t.contents.fp32_contents.extend([1, 2, 3, 4])
    return pb.ModelInferRequest(model_name="lin", inputs=[t], **more)


def test_grpc(d):
    from tritonclient.grpc import service_pb2_grpc
    ch = grpc.insecure_channel(d.address)
    stub = service_pb2_grpc.GRPCInferenceServiceStub(ch)
    raw = lambda method, data, **kw: ch.unary_unary(method, lambda b: b, lambda b: b)(data, timeout=10, **kw)
    r, call = stub.ModelInfer.with_call(typed_request())
    md = dict(call.initial_metadata())
    check("typed contents", np.frombuffer(r.raw_output_contents[0], np.float32).tolist() == [3.5, 4.5, 5.5], r)
    check("initial metadata says what made it", md.get("winnow-version") == "1" and
          md.get("winnow-generation", "").isdigit() and
          md.get("winnow-digest", "").startswith("sha256:"), md)
    ins = []
    fields = {"F32": "fp32_contents", "F64": "fp64_contents", "I8": "int_contents", "I32": "int_contents",
              "I64": "int64_contents",
              "U8": "uint_contents", "B": "bool_contents"}
    for k in TYPES:
        t = pb.ModelInferRequest.InferInputTensor(name=f"in{k}", datatype=OIP[k], shape=[1, 2])
        getattr(t.contents, fields[k]).extend([True, False] if k == "B" else [3, 200] if k == "U8" else [-3, 100])
        ins.append(t)
    r = stub.ModelInfer(pb.ModelInferRequest(model_name="types", inputs=ins))
    got = {o.name: np.frombuffer(b, TYPES[o.name[3:]][1]).tolist() for o, b in zip(r.outputs, r.raw_output_contents)}
    check("typed contents of every datatype", got == {f"out{k}": [True, False] if k == "B" else [3,
        200] if k == "U8" else [-3, 100] for k in TYPES}, got)
    health = "/grpc.health.v1.Health/Check"
    check("health of the server", raw(health, b"") == b"\x08\x01")
    check("health of a model", raw(health, b"\x0a\x03lin") == b"\x08\x01")
    check("health of an unknown service", code_of(lambda: raw(health, b"\x0a\x04none"))[0] == "NOT_FOUND")

    def bad(name, want, change, says=""):
        q = typed_request()
        change(q)
        code, text = code_of(lambda: stub.ModelInfer(q, timeout=10))
        check(f"grpc {name}: {want}", code == want and says in text, (code, text))
    bad("unknown version", "NOT_FOUND", lambda q: setattr(q, "model_version", "9"))
    bad("version that is no number", "INVALID_ARGUMENT", lambda q: setattr(q, "model_version", "one"))
    bad("wrong shape", "INVALID_ARGUMENT", lambda q: q.inputs[0].shape.__setitem__(0, 4), "16")
    bad("negative shape", "INVALID_ARGUMENT", lambda q: q.inputs[0].shape.__setitem__(0, -1))
    bad("overflowing shape", "INVALID_ARGUMENT", lambda q: q.inputs[0].shape.__setitem__(0, 1 << 62))
    bad("wrong datatype", "INVALID_ARGUMENT", lambda q: setattr(q.inputs[0], "datatype", "INT64"), "contents")
    bad("unknown datatype", "INVALID_ARGUMENT", lambda q: setattr(q.inputs[0], "datatype", "FP99"), "FP99")
    bad("raw and contents", "INVALID_ARGUMENT", lambda q: q.raw_input_contents.append(b"\0" * 16), "raw_input_contents")
    bad("unknown output", "INVALID_ARGUMENT", lambda q: q.outputs.add(name="q"), "'q'")
    bad("input twice", "INVALID_ARGUMENT", lambda q: q.inputs.append(q.inputs[0]), "already exists")
    bad("300 inputs", "INVALID_ARGUMENT", lambda q: [q.inputs.add(name="x", datatype="FP32",
                                                                  shape=[0]) for _ in range(300)], "256")
    bad("timeout parameter", "DEADLINE_EXCEEDED", lambda q: q.parameters["timeout"].__setattr__("int64_param", 1))
    infer = "/inference.GRPCInferenceService/ModelInfer"
    for name, data, want in (("garbage", b"\xff\xff\xff", "INVALID_ARGUMENT"),
                             ("a cut message", typed_request().SerializeToString()[:-3], "INVALID_ARGUMENT"),
                             ("empty message", b"", "NOT_FOUND"),
                             ("name that is not UTF-8", b"\x0a\x02\xff\xfe", "INVALID_ARGUMENT"),
                             ("name with a NUL", b"\x0a\x05lin\0x", "INVALID_ARGUMENT"),
                             ("too large", b"\x3a" + ob.varint(9 << 20) + b"\0" * (9 << 20), "RESOURCE_EXHAUSTED")):
        code, text = code_of(lambda: raw(infer, data))
        check(f"grpc {name}: {want}", code == want, (code, text))
    check("control message that is garbage: INTERNAL",
          code_of(lambda: raw("/inference.GRPCInferenceService/ModelReady", b"\x0a\xff"))[0] == "INTERNAL")
    check("unknown method: UNIMPLEMENTED", code_of(lambda: raw("/inference.GRPCInferenceService/Nothing",
                                                               b""))[0] == "UNIMPLEMENTED")
    check("unknown service: UNIMPLEMENTED", code_of(lambda: raw("/a.B/C", b""))[0] == "UNIMPLEMENTED")
    q = typed_request()
    q.model_name = "ünknown % model "
    code, text = code_of(lambda: stub.ModelInfer(q))
    check("grpc-message is percent-encoded", code == "NOT_FOUND" and "ünknown % model " in text, (code, text))
    ch.close()


def test_grpc_frames(d):
    if not shutil.which("curl"):
        return check("curl for broken frames (left out: not installed)", True)
    msg = typed_request().SerializeToString()
    frame = lambda flag, n, data: bytes([flag]) + struct.pack(">I", n) + data

    def post(name, body, want, path="/inference.GRPCInferenceService/ModelInfer", headers=(), status="200",
             protocol="--http2-prior-knowledge", kind="application/grpc"):
        p = subprocess.run(["curl", "-sS", "-m", "10", protocol, "-D", "-", "-o", "/dev/null", "-H",
                            f"content-type: {kind}", "-H", "te: trailers",
                            *[a for h in headers for a in ("-H", h)], "--data-binary", "@-", d.url + path], input=body,
                            capture_output=True)
        text = p.stdout.decode()
        code = re.search(r"grpc-status: *(\d+)", text)
        check(f"frame: {name}", text.split()[1:2] == [status] and
              (want is None or (code and int(code.group(1)) == want)), (text, p.stderr))
    post("good", frame(0, len(msg), msg), 0)
    post("no message", b"", 13)
    post("cut head", b"\0\0", 13)
    post("longer than it says", frame(0, len(msg) - 1, msg), 13)
    post("shorter than it says", frame(0, len(msg) + 1, msg), 13)
    post("two messages", frame(0, len(msg), msg) * 2, 13)
    post("compressed without an encoding", frame(1, len(msg), msg), 13)
    post("compressed with an encoding", frame(1, len(msg), msg), 13, headers=["grpc-encoding: gzip"])
    post("flag 7", frame(7, len(msg), msg), 13)
    post("over the limit by its head", frame(0, 1 << 30, msg), 8)
    post("grpc-timeout of nothing left", frame(0, len(msg), msg), 4, headers=["grpc-timeout: 1n"])
    post("grpc-timeout that is none", frame(0, len(msg), msg), 3, headers=["grpc-timeout: soon"])
    post("another content type", frame(0, len(msg), msg), None, kind="application/json", status="404")
    post("over HTTP/1.1", frame(0, len(msg), msg), None, status="415", protocol="--http1.1")


# ---- versions, pins, swaps ----
def test_versions(d, repo):
    _, h1, _ = d.json("POST", "/v2/models/lin/infer", lin_request())
    put_version(repo, "lin", 2, ob.linear(weight=0.5))
    check("a new version goes live", until(lambda: d.json("POST", "/v2/models/lin/infer",
                                                          lin_request())[1].get("winnow-version") == "2"))
    s, h2, v = d.json("POST", "/v2/models/lin/infer", lin_request())
    check("and answers", v["outputs"][0]["data"] == [6.0, 7.0, 8.0] and h2["winnow-digest"] != h1["winnow-digest"],
          (h1, h2, v))
    s, _, v = d.json("GET", "/v2/repository/models/lin/versions")
    check("versions", s == 200 and [(x["version"], x["live"]) for x in v["versions"]] == [("1", False), ("2", True)] and
          v["versions"][1]["digest"] == h2["winnow-digest"], v)
    pin = lambda p: d.json("POST", "/v2/models/lin/infer", lin_request(), {"winnow-pin": p})
    check("pin that holds",
          pin(f"generation={h2['winnow-generation']}, version=2; digest={h2['winnow-digest']}")[0] == 200)
    check("pinned generation of before: 412", pin(f"generation={h1['winnow-generation']}")[0] == 412,
          pin(f"generation={h1['winnow-generation']}"))
    check("pinned digest of before: 412", pin(f"digest={h1['winnow-digest']}")[0] == 412)
    s, _, v = pin("version=9")
    check("pinned version that is unknown: 404", s == 404 and v["error"] == "model 'lin' has no version 9", (s, v))
    s, _, v = pin("version=1")
    check("pinned version that is not live: 412", s == 412 and "version 2 is" in v["error"], (s, v))
    for text in ("-5", "1e3", "", "5 s"):
        s, _, v = d.json("POST", "/v2/models/lin/infer", lin_request(), {"winnow-timeout-ms": text})
        check(f"winnow-timeout-ms '{text}': 400", s == 400 and "winnow-timeout-ms" in v["error"], (s, v))
    check("winnow-timeout-ms that is one", d.json("POST", "/v2/models/lin/infer", lin_request(),
                                                  {"winnow-timeout-ms": "5000"})[0] == 200)
    check("pin that is not understood: 400", pin("colour=red")[0] == 400 and pin("generation=x")[0] == 400)
    check("pin against the path: 412",
          d.json("POST", "/v2/models/lin/versions/2/infer", lin_request(), {"winnow-pin": "version=1"})[0] == 412)
    with tgrpc.InferenceServerClient(d.address) as c:
        i = tgrpc.InferInput("x", [1, 4], "FP32")
        i.set_data_from_numpy(np.ones((1, 4), np.float32))
        code, _ = code_of(lambda: c.infer("lin", [i], headers={"winnow-pin": f"digest={h1['winnow-digest']}"}))
        check("grpc: pin that does not hold: FAILED_PRECONDITION", code == "FAILED_PRECONDITION", code)
        code, _ = code_of(lambda: c.infer("lin", [i], headers={"winnow-pin": "version=1"}))
        check("grpc: pinned version that is not live: FAILED_PRECONDITION", code == "FAILED_PRECONDITION", code)
        check("grpc: pin that holds", code_of(lambda: c.infer("lin", [i],
                                                              headers={"winnow-pin": "version=2"}))[0] is None)
    s, _, v = d.json("POST", "/v2/repository/models/lin/versions/1/promote")
    check("promote", s == 200 and v["version"] == "1" and v["digest"] == h1["winnow-digest"], (s, v))
    check("promoted version answers", d.json("POST", "/v2/models/lin/infer",
                                             lin_request())[2]["outputs"][0]["data"] == [3.5, 4.5, 5.5])
    s, _, v = d.json("GET", "/v2/repository/models/lin/versions")
    check("who made it live", v["versions"][0]["live"] and v["versions"][0].get("live_by") == "api 127.0.0.1", v)
    s, _, v = d.json("POST", "/v2/repository/models/lin/rollback")
    check("rollback", s == 200 and v["version"] == "2", (s, v))
    s, _, v = d.json("POST", "/v2/repository/models/lin/rollback")
    check("a second rollback does not go forward: 409", s == 409 and "nothing to go back to" in v["error"], (s, v))
    os.makedirs(os.path.join(repo, "lin", "7"))
    with open(os.path.join(repo, "lin", "7", "model.onnx"), "wb") as f:
        f.write(b"junk")
    s, _, v = d.json("POST", "/v2/repository/models/lin/versions/7/promote")
    check("promote of a broken version says which, but no folder of the server's",
          s >= 400 and "lin/7/model.onnx" in v["error"] and str(repo) not in v["error"], (s, v))
    shutil.rmtree(os.path.join(repo, "lin", "7"))
    check("promote of an unknown version: 404", d.json("POST",
                                                       "/v2/repository/models/lin/versions/8/promote")[0] == 404)
    check("rollback of an unknown model: 404", d.json("POST", "/v2/repository/models/none/rollback")[0] == 404)
    check("versions of an unknown model: 404", d.json("GET", "/v2/repository/models/none/versions")[0] == 404)
    check("files in a load: 501", d.json("POST", "/v2/repository/models/lin/load",
                                         {"parameters": {"file:1/model.onnx": "AAAA"}})[0] == 501)


def test_swap_under_load(d):
    """Promotions back and forth under load: every answer is whole, and is what its headers say made it."""
    want = {"1": [3.5, 4.5, 5.5], "2": [6.0, 7.0, 8.0]}
    stop, wrong, counts = threading.Event(), [], {"1": 0, "2": 0}

    def client():
        c = http.client.HTTPConnection("127.0.0.1", d.port, timeout=30)
        body = json.dumps(lin_request())
        while not stop.is_set():
            c.request("POST", "/v2/models/lin/infer", body)
            r = c.getresponse()
            v = json.loads(r.read())
            if r.status != 200 or v["outputs"][0]["data"] != want[r.getheader("winnow-version")]:
                wrong.append((r.status, v))
            else:
                with lock:
                    counts[r.getheader("winnow-version")] += 1
    threads = [threading.Thread(target=client) for _ in range(4)]
    [t.start() for t in threads]
    swaps = [d.json("POST", f"/v2/repository/models/lin/versions/{1 + i % 2}/promote")[0] for i in range(10)]
    stop.set()
    [t.join() for t in threads]
    check("10 swaps under load: no failure, no mix", not wrong and swaps == [200] * 10, (swaps, wrong[:2]))
    check("both versions answered", min(counts.values()) > 0, counts)


# ---- overload, metrics, load ----
def test_overload(d):
    x = np.zeros((1, 200, 400), np.float32)
    head = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 200, 400],
                                   "parameters": {"binary_data_size": x.nbytes}}],
                       "parameters": {"binary_data_output": True}}).encode()
    body, h = head + x.tobytes(), {"Inference-Header-Content-Length": str(len(head))}
    s, _, _ = d.http("POST", "/v2/models/slow/infer", body, h)
    check("the slow model answers", s == 200, s)
    with concurrent.futures.ThreadPoolExecutor(60) as pool:
        got = list(pool.map(lambda _: d.http("POST", "/v2/models/slow/infer", body, h)[:2], range(60)))
    codes = sorted({s for s, _ in got})
    check("over the queue's length: 429, the rest is served", codes == [200, 429], codes)
    check("429 says when to come back", all("retry-after" in hh for s, hh in got if s == 429))
    got = []
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        got = list(pool.map(lambda _: d.http("POST", "/v2/models/slow/infer", body,
                                             {**h, "winnow-timeout-ms": "25"})[0], range(10)))
    check("deadlines that pass in the queue: 504", 504 in got and set(got) <= {200, 504}, got)
    before = metric(d, 'winnow_requests_total{model="slow",version="1",outcome="cancelled"}')
    for wait in (0.1, 0.03, 0.01, 0.003, 0.001):  # a quick machine answers all of them unless they leave early
        socks = []
        for _ in range(12):
            s = socket.create_connection(("127.0.0.1", d.port))
            s.sendall(b"POST /v2/models/slow/infer HTTP/1.1\r\nHost: x\r\nInference-Header-Content-Length: %d\r\n"
                      b"Content-Length: %d\r\n\r\n" % (len(head), len(body)) + body)
            socks.append(s)
        time.sleep(wait)
        [s.close() for s in socks]
        time.sleep(0.3)
        if metric(d, 'winnow_requests_total{model="slow",version="1",outcome="cancelled"}') > before:
            break
    check("clients that leave are dropped from the queue",
          until(lambda: metric(d, 'winnow_requests_total{model="slow",version="1",outcome="cancelled"}') > before),
          before)
    check("nothing is left over", until(lambda: metric(d, "winnow_requests_inflight") == 1),
          metric(d, "winnow_requests_inflight"))


def metric(d, name):
    for line in d.http("GET", "/metrics")[2].decode().splitlines():
        if line.startswith(name + " "):
            return float(line.rsplit(" ", 1)[1])
    return -1.0


def test_metrics(d):
    s, h, text = d.http("GET", "/metrics")
    text = text.decode()
    check("metrics", s == 200 and h["content-type"].startswith("text/plain; version=0.0.4"), h)
    families = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M)
    names = [n for n, _ in families]
    check("every family once, with help", len(names) == len(set(names)) and all(f"# HELP {n} " in text for n in names),
          names)
    lines = [l for l in text.splitlines() if l and not l.startswith("#")]
    good = re.compile(r'^winnow_[a-z_]+(\{([a-z_]+="([^"\\]|\\.)*",?)*\})? [0-9.e+-]+$')
    check("every line is well formed", all(good.match(l) for l in lines), [l for l in lines if not good.match(l)][:3])
    n = metric(d, 'winnow_requests_total{model="lin",version="1",outcome="success"}')
    check("requests are counted", n > 0, n)
    count = metric(d, 'winnow_request_seconds_count{model="lin",version="1"}')
    inf = metric(d, 'winnow_request_seconds_bucket{model="lin",version="1",le="+Inf"}')
    check("the histogram adds up", count == inf > 0, (count, inf))


def test_config_and_statistics(d):
    s, _, v = d.json("GET", "/v2/models/lin/config")
    check("config", s == 200 and v["max_batch_size"] == 32 and
          [(t["name"], t["data_type"], t["dims"]) for t in v["input"]] == [("x", "TYPE_FP32", [4])] and
          v["output"][0]["dims"] == [3], v)
    s, _, v = d.json("GET", "/v2/models/lin/stats")
    st = v["model_stats"][0] if s == 200 else {}
    check("stats of a model", st and st["version"] == "1" and st["inference_count"] > 0 and
          st["inference_stats"]["success"]["count"] > 0 and
          set(st["inference_stats"]) >= {"success", "fail", "queue", "compute_input", "compute_infer",
                                         "compute_output", "cache_hit", "cache_miss"}, v)
    s, _, v = d.json("GET", "/v2/models/stats")
    check("stats of all", s == 200 and {m["name"] for m in v["model_stats"]} >= {"lin", "pic"}, v)
    check("stats of none", d.json("GET", "/v2/models/none/stats")[0] == 404 and
          d.json("GET", "/v2/models/lin/versions/9/stats")[0] == 404)
    with tgrpc.InferenceServerClient(d.address) as c:
        m = c.get_model_config("lin").config
        check("triton grpc: config", m.max_batch_size == 32 and m.input[0].name == "x" and
              list(m.input[0].dims) == [4] and
              m.input[0].data_type == 11 and list(m.output[0].dims) == [3] and m.HasField("dynamic_batching"), m)
        m = c.get_inference_statistics("lin").model_stats[0]
        check("triton grpc: statistics", m.name == "lin" and m.inference_count > 0 and
              m.inference_stats.success.count > 0, m)
        check("triton grpc: statistics of all", len(c.get_inference_statistics().model_stats) >= 4)
    with thttp.InferenceServerClient(d.address) as c:
        check("triton http: config, statistics", c.get_model_config("lin")["name"] == "lin" and
              c.get_inference_statistics("lin")["model_stats"][0]["name"] == "lin")


def test_load(d, tmp):
    if not shutil.which("h2load"):
        return check("h2load (left out: not installed)", True)
    put(f"{tmp}/body.json", json.dumps(lin_request()))
    for extra in ([], ["--h1"]):
        p = subprocess.run(["h2load", *extra, "-n", "4000", "-c", "8", *([] if extra else ["-m", "2"]), "-d",
                            f"{tmp}/body.json",
                            f"{d.url}/v2/models/lin/infer"], capture_output=True, text=True, timeout=60)
        m = re.search(r"status codes: (\d+) 2xx", p.stdout)
        rate = re.search(r"finished in .*", p.stdout)
        check(f"h2load {' '.join(extra)}: 4000 requests ({rate.group(0) if rate else ''})", m and
              int(m.group(1)) == 4000, p.stdout[-900:])


# ---- reload and the end ----
def test_reload(d):
    with open(d.config) as f:
        text = f.read()
    put(d.config, text.replace("max_body: 8MiB", "max_body: 16MiB").replace('"127.0.0.1:0"]', '"127.0.0.1:1"]'))
    d.process.send_signal(signal.SIGHUP)
    check("reload", until(lambda: "reloaded" in d.text()) and "setting_needs_restart name=server.listen" in d.text())
    s, _, v = d.http("POST", "/v2/models/lin/infer", b" " * (9 << 20))
    check("a new limit holds", s == 400, (s, v))
    put(d.config, "nonsense: 1\n")
    d.process.send_signal(signal.SIGHUP)
    check("a bad file changes nothing and is named", until(lambda: "reload_failed" in d.text()) and
          "winnowd.yaml:1" in d.text())
    check("it still serves", d.json("POST", "/v2/models/lin/infer", lin_request())[0] == 200)
    put(d.config, text)


def test_drain(d):
    """SIGTERM under load: nothing that was accepted fails."""
    stop, failures, done = threading.Event(), [], [0]

    def rest():
        body = json.dumps(lin_request())
        while not stop.is_set():
            c = http.client.HTTPConnection("127.0.0.1", d.port, timeout=20)
            try:
                c.connect()
            except OSError:
                return                                      # listeners are closed: a balancer would go elsewhere
            try:
                c.request("POST", "/v2/models/lin/infer", body)
                r = c.getresponse()
                r.read()
                if r.status != 200:
                    failures.append(r.status)
                done[0] += 1
            except OSError as e:
                # The kernel took the connection, the process did not: it was refused, not dropped half way.
                if time.monotonic() < closing[0]:
                    failures.append(repr(e))
                return
            finally:
                c.close()

    def rpc():
        from tritonclient.grpc import service_pb2_grpc
        ch = grpc.insecure_channel(d.address)
        stub = service_pb2_grpc.GRPCInferenceServiceStub(ch)
        while not stop.is_set():
            try:
                stub.ModelInfer(typed_request(), timeout=20)
                done[0] += 1
            except grpc.RpcError as e:
                if "refused" not in e.details().lower() and "connect" not in e.details().lower():
                    failures.append((e.code().name, e.details()))
                return
    closing = [float("inf")]
    slow = []
    x = np.zeros((1, 200, 400), np.float32)
    head = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 200, 400],
                                   "parameters": {"binary_data_size": x.nbytes}}]}).encode()
    threads = [threading.Thread(target=f) for f in (rest, rest, rpc, rpc)]
    [t.start() for t in threads]
    time.sleep(0.5)
    begin = time.monotonic()
    closing[0] = begin + 0.3                                # drain_lag: until then everything is served
    size = {"Inference-Header-Content-Length": str(len(head))}
    inflight = threading.Thread(
        target=lambda: slow.append(d.http("POST", "/v2/models/slow/infer", head + x.tobytes(), size)[0]))
    d.process.send_signal(signal.SIGTERM)
    s = until(lambda: d.http("GET", "/v2/health/ready")[0] != 200, 0.2)
    check("not ready first, while requests are still served", s and
          d.json("POST", "/v2/models/lin/infer", lin_request())[0] == 200)
    inflight.start()
    try:
        rc = d.process.wait(20)
    except subprocess.TimeoutExpired:
        rc = "hung"
    stop.set()
    [t.join(20) for t in threads]
    inflight.join(20)
    check(f"drain under load: {done[0]} answers, 0 failed", not failures and done[0] > 20, failures[:5])
    check("what was in flight is finished", slow == [200], slow)
    check("exit 0", rc == 0, rc)
    check("nothing unfinished", "stopped unfinished=0" in d.text(), d.text()[-300:])


def test_signals(tmp):
    d = Daemon(tmp, lag="5s")
    d.wait_ready()
    maps = open(f"/proc/{d.process.pid}/status").read()
    check("SIGPIPE is ignored", int(re.search(r"SigIgn:\s+(\w+)", maps).group(1), 16) >> (signal.SIGPIPE - 1) & 1)
    begin = time.monotonic()
    d.process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    rc = d.stop(signal.SIGINT, 5)
    check("a second signal ends it at once", rc == 1 and time.monotonic() - begin < 3, (rc, time.monotonic() - begin))


def main():
    with tempfile.TemporaryDirectory() as tmp:
        test_program(tmp)
        repo = f"{tmp}/repo"
        put_version(repo, "lin", 1, ob.linear())
        put_version(repo, "types", 1, types_model())
        put_version(repo, "slow", 1, slow_model())
        put_version(repo, "pic", 1, ob.convolution(),
                    pipeline_yaml="task: image_classification\nsoftmax: true\nlabels: labels.txt\n",
                    labels_txt="ant\nbee\ncat\n")
        d = Daemon(tmp)
        try:
            check("ready", d.wait_ready(), d.text()[-2000:])
            check("the listening address is logged", f"listening address=127.0.0.1:{d.port}" in d.text())
            for test, args in ((test_metadata, ()), (test_infer_json, ()), (test_infer_errors, ()), (test_binary, ()),
                               (test_triton_http, ()),
                               (test_pictures, ()), (test_triton_grpc, ()), (test_grpc, ()), (test_grpc_frames, ()),
                               (test_metrics, ()), (test_config_and_statistics, ()),
                               (test_versions, (repo,)), (test_swap_under_load, ()), (test_overload, ()),
                               (test_load, (tmp,)), (test_reload, ()),
                               (test_drain, ())):
                begin = time.monotonic()
                try:
                    test(d, *args)
                except Exception as e:                      # one test's surprise must not hide the others
                    check(f"{test.__name__} ran to its end", False,
                          f"{type(e).__name__}: {e} line {e.__traceback__.tb_next.tb_lineno}")
                if os.environ.get("TIMES"):
                    print(f"# {test.__name__} {time.monotonic() - begin:.1f} s", flush=True)
        finally:
            if d.process.poll() is None:
                d.stop(signal.SIGKILL)
        test_signals(tmp)
        if failed:
            print("# the daemon's log ends:\n" + "\n".join("# " + l for l in d.text().splitlines()[-15:]))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
