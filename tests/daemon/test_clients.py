"""test_clients.py: Triton's clients, unmodified, through their whole API: http, http.aio, grpc, grpc.aio.

Every public method of each client is called with what a CPU server can answer; a method that the walk does not know
fails the test, so that a newer client cannot bring one in unseen. Needs the test environment (numpy, tritonclient)."""
import asyncio
import inspect
import json
import os
import signal
import sys
import tempfile

import numpy as np
import tritonclient.grpc as tgrpc
import tritonclient.grpc.aio as tgrpc_aio
import tritonclient.http as thttp
import tritonclient.http.aio as thttp_aio
from tritonclient.utils import InferenceServerException

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import onnx_bytes as ob  # noqa: E402
from api_rig import Daemon, put, put_version, types_model  # noqa: E402
from common import check, end  # noqa: E402

X = np.arange(12, dtype=np.float32).reshape(3, 4)
WANT = X @ np.full((4, 3), 0.25, np.float32) + np.array([1, 2, 3], np.float32)


def value(v):
    """What a method returned as plain data: a dict, or a message as one."""
    if hasattr(v, "DESCRIPTOR"):
        from google.protobuf.json_format import MessageToDict
        return MessageToDict(v, preserving_proto_field_name=True)
    return v


def kinds(io):
    x = io.InferInput("x", [3, 4], "FP32")
    x.set_data_from_numpy(X)
    return [x]


# name of a method: (arguments, what the answer must be). True: anything that is not an exception.
def calls(io):
    config = lambda v: (v := v.get("config", v)) and v["name"] == "lin" and v["input"][0]["data_type"] == "TYPE_FP32" \
        and v["max_batch_size"] == 32 and "dynamic_batching" in v
    stats = lambda v: v["model_stats"][0]["name"] == "lin" and \
        int(v["model_stats"][0]["inference_stats"]["success"]["count"]) > 0 and \
        sum(int(b["compute_infer"]["count"]) for b in v["model_stats"][0]["batch_stats"]) == \
        int(v["model_stats"][0]["execution_count"])
    settings = lambda v: set(v.get("settings", v)) == {"trace_file", "trace_level", "trace_rate", "trace_count",
                                                       "log_frequency", "trace_mode"}
    logging = lambda v: set(v.get("settings", v)) == {"log_file", "log_info", "log_warning", "log_error",
                                                      "log_verbose_level", "log_format"}
    index = lambda v: any(m["name"] == "lin" and m["state"] == "READY" for m in (v if isinstance(v, list)
                                                                                 else v["models"]))
    empty = lambda v: not v
    refused = InferenceServerException
    return [
        ("infer", ("lin", kinds(io)), lambda r: np.allclose(r.as_numpy("y"), WANT)),
        ("is_server_live", (), lambda v: v is True),
        ("is_server_ready", (), lambda v: v is True),
        ("is_model_ready", ("lin",), lambda v: v is True),
        ("is_model_ready", ("lin", "1"), lambda v: v is True),
        ("is_model_ready", ("none",), lambda v: v is False),
        ("get_server_metadata", (), lambda v: v["name"] == "winnow" and "statistics" in v["extensions"]),
        ("get_model_metadata", ("lin",), lambda v: v["inputs"][0]["name"] == "x" and v["platform"]),
        ("get_model_metadata", ("lin", "1"), lambda v: v["versions"] == ["1"]),
        ("get_model_metadata", ("none",), refused),
        ("get_model_config", ("lin",), config),
        ("get_model_config", ("lin", "1"), config),
        ("get_model_config", ("none",), refused),
        ("get_model_repository_index", (), index),
        ("get_inference_statistics", ("lin",), stats),
        ("get_inference_statistics", ("lin", "1"), stats),
        ("get_inference_statistics", (), lambda v: len(v["model_stats"]) >= 2),
        ("get_inference_statistics", ("none",), refused),
        ("unload_model", ("types",), True),
        ("unload_model", ("types", {"unload_dependents": True}), True),
        ("load_model", ("types",), True),
        ("load_model", ("none",), refused),
        ("get_trace_settings", (), settings),
        ("get_trace_settings", ("lin",), settings),
        ("get_trace_settings", ("none",), refused),
        ("update_trace_settings", (), settings),
        ("update_trace_settings", (None, {"trace_level": ["TIMESTAMPS"]}), refused),
        ("get_log_settings", (), logging),
        ("update_log_settings", ({},), logging),
        ("update_log_settings", ({"log_verbose_level": 1},), refused),
        ("get_system_shared_memory_status", (), empty),
        ("get_system_shared_memory_status", ("region",), refused),
        ("register_system_shared_memory", ("region", "/key", 64), refused),
        ("unregister_system_shared_memory", (), True),
        ("unregister_system_shared_memory", ("region",), True),
        ("get_cuda_shared_memory_status", (), empty),
        ("register_cuda_shared_memory", ("region", b"aGFuZGxl", 0, 64), refused),
        ("unregister_cuda_shared_memory", (), True),
    ]


# Methods that the walk above has no line for; each is called elsewhere in this file or in test_stream.py.
ELSEWHERE = {"close", "async_infer", "start_stream", "stop_stream", "async_stream_infer", "stream_infer",
             "register_plugin", "unregister_plugin", "plugin", "generate_request_body", "parse_response_body"}


def split(args):
    """A dict at the end with names of parameters is named arguments."""
    named = args[-1] if args and isinstance(args[-1], dict) and "unload_dependents" in args[-1] else {}
    return (args[:-1] if named else args), named


def judge(name, method, args, want, got):
    good = isinstance(got, want) if isinstance(want, type) else not isinstance(got, Exception)
    if good and callable(want) and not isinstance(want, type):
        try:
            good = want(value(got))
        except Exception as e:
            good, got = False, (repr(e), got)
    check(f"{name}: {method}{args if method != 'infer' else ''}", good, str(got))


def known(name, client, table):
    public = {n for n, f in inspect.getmembers(client) if callable(f) and not n.startswith("_")}
    unknown = public - {t[0] for t in table} - ELSEWHERE
    check(f"{name}: every public method is called", not unknown, unknown)


def walk(d, name, io):
    with io.InferenceServerClient(d.address) as c:
        table = calls(io)
        known(name, c, table)
        for method, args, want in table:
            if not hasattr(c, method):
                continue
            try:
                got = getattr(c, method)(*split(args)[0], **split(args)[1])
            except Exception as e:
                got = e
            judge(name, method, args, want, got)


async def walk_aio(d, name, io, kind):
    async with io.InferenceServerClient(d.address) as c:
        table = calls(kind)
        known(name, c, table)
        for method, args, want in table:
            if not hasattr(c, method):
                continue
            try:
                got = await getattr(c, method)(*split(args)[0], **split(args)[1])
            except Exception as e:
                got = e
            judge(name, method, args, want, got)


def test_as_json(d):
    """grpc's methods give dicts too."""
    with tgrpc.InferenceServerClient(d.address) as c:
        v = c.get_model_config("lin", as_json=True)["config"]
        check("grpc: as_json", v["backend"] == "winnow" and c.get_server_metadata(as_json=True)["name"] == "winnow", v)
        r = c.infer("lin", kinds(tgrpc), request_id="7")
        check("grpc: get_response as_json", r.get_response(as_json=True)["id"] == "7", r.get_response())


def test_async(d):
    with thttp.InferenceServerClient(d.address, concurrency=4) as c:
        rs = [c.async_infer("lin", kinds(thttp), request_id=str(i)) for i in range(20)]
        check("http: async_infer", all(np.allclose(r.get_result().as_numpy("y"), WANT) for r in rs))
        body, size = thttp.InferenceServerClient.generate_request_body(kinds(thttp))
        s, h, v = d.http("POST", "/v2/models/lin/infer", body, {"Inference-Header-Content-Length": str(size)})
        r = thttp.InferenceServerClient.parse_response_body(v, header_length=int(
            h["inference-header-content-length"]))
        check("http: a body made and read by hand", s == 200 and np.allclose(r.as_numpy("y"), WANT), (s, h))
    import threading
    with tgrpc.InferenceServerClient(d.address) as c:
        done, got = threading.Semaphore(0), []

        def callback(result, error):
            got.append(error or result)
            done.release()
        for i in range(20):
            c.async_infer("lin", kinds(tgrpc), callback)
        good = all(done.acquire(timeout=20) for _ in range(20))
        check("grpc: async_infer", good and all(np.allclose(r.as_numpy("y"), WANT) for r in got), got[:1])


def test_infer_forms(d):
    """Binary and JSON, all outputs or some, classification with and without labels, headers, parameters, ids."""
    with thttp.InferenceServerClient(d.address) as c:
        for binary in (True, False):
            x = thttp.InferInput("x", [3, 4], "FP32")
            x.set_data_from_numpy(X, binary_data=binary)
            o = thttp.InferRequestedOutput("y", binary_data=binary, class_count=2)
            r = c.infer("lin", [x], outputs=[o]).as_numpy("y")
            text = [[v.decode() if isinstance(v, bytes) else v for v in row] for row in r]
            check(f"http: classification of any FP32 output, binary {binary}",
                  [row[0] for row in text] == [f"{w[2]:f}:2" for w in WANT] and r.shape == (3, 2), text)
        p = thttp.InferInput("x", [1, 1, 4, 4], "FP32")
        r = c.infer("lin", kinds(thttp), headers={"winnow-pin": "version=1"}, query_params={"a": "b"}, timeout=10_000_000,
                    priority=1, request_id="me", parameters={"own": 1, "other": "text", "flag": True})
        check("http: headers, query, timeout, priority, parameters", r.get_response()["id"] == "me", r.get_response())
        i = thttp.InferInput("inB", [1, 2], "BOOL")
        i.set_data_from_numpy(np.array([[True, False]]))
        o = thttp.InferRequestedOutput("outB")
        try:
            c.infer("types", [i], outputs=[o])
            check("http: a missing input says which", False)
        except InferenceServerException as e:
            check("http: a missing input says which", "inF32" in e.message(), e.message())
        del p
    with tgrpc.InferenceServerClient(d.address) as c:
        r = c.infer("lin", kinds(tgrpc), outputs=[tgrpc.InferRequestedOutput("y", class_count=1)], request_id="me",
                    priority=1, timeout=10_000_000, headers={"winnow-pin": "version=1"}, client_timeout=10,
                    parameters={"own": 1, "other": "text", "flag": True})
        check("grpc: classification, headers, priority, parameters", r.as_numpy("y")[0][0] == f"{WANT[0][2]:f}:2".encode()
              and r.get_response().id == "me", r.get_response())


async def test_streams_aio(d):
    async with tgrpc_aio.InferenceServerClient(d.address) as c:
        async def requests():
            for i in range(5):
                yield {"model_name": "lin", "inputs": kinds(tgrpc), "request_id": str(i)}
        got = [pair async for pair in c.stream_infer(requests())]
        check("grpc.aio: stream_infer", len(got) == 5 and all(e is None and np.allclose(r.as_numpy("y"), WANT)
                                                              for r, e in got), got)


def test_config(d):
    """What config.pbtxt says is what the configuration says; REST and gRPC say the same."""
    s, _, v = d.json("GET", "/v2/models/set/config")
    b = v.get("dynamic_batching", {})
    check("config.pbtxt: batching", s == 200 and v["max_batch_size"] == 5 and
          b["max_queue_delay_microseconds"] == 1234 and b["default_queue_policy"]["max_queue_size"] == 7 and
          b["default_queue_policy"]["default_timeout_microseconds"] == 2500000, v)
    check("config.pbtxt: labels", v["output"][0]["label_filename"] == "names.txt", v["output"])
    with thttp.InferenceServerClient(d.address) as c:
        r = c.infer("set", kinds(thttp), outputs=[thttp.InferRequestedOutput("y", class_count=5)]).as_numpy("y")
        check("classification with the labels that config.pbtxt names", [[x.decode().split(":")[1:] for x in row] for row
              in r] == [[["2", "cat"], ["1", "bee"], ["0", "ant"]]] * 3, r)
    check("the shape of Triton's JSON", v["version_policy"] == {"latest": {"num_versions": 1}} and
          v["input"][0]["format"] == "FORMAT_NONE" and v["input"][0]["optional"] is False and
          v["instance_group"][0]["kind"] == "KIND_CPU" and v["instance_group"][0]["count"] >= 1 and
          v["parameters"] == {} and v["metric_tags"] == {} and v["model_warmup"] == [] and
          v["default_model_filename"] == "model.onnx" and v["model_transaction_policy"] == {"decoupled": False}, v)
    from google.protobuf.json_format import MessageToDict
    with tgrpc.InferenceServerClient(d.address) as c:
        for model in ("set", "types"):
            s, _, rest = d.json("GET", f"/v2/models/{model}/config")
            m = c.get_model_config(model).config
            rpc = MessageToDict(m, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
            ints = json.loads(json.dumps(rpc), parse_int=int)

            def same(a, b):
                if isinstance(a, dict):
                    return set(a) == set(b) and all(same(a[k], b[k]) for k in a)
                if isinstance(a, list):
                    return len(a) == len(b) and all(map(same, a, b))
                return str(a) == str(b)
            check(f"config of '{model}': REST is gRPC", same(rest, ints), (rest, ints))


def test_load_with_config(d):
    """A configuration given with a load holds until the model is unloaded; files are not offered."""
    most = lambda: d.json("GET", "/v2/models/set/config")[2]["max_batch_size"]
    text = json.dumps({"max_batch_size": 3, "dynamic_batching": {"max_queue_delay_microseconds": "77"}})
    for name, io in (("http", thttp), ("grpc", tgrpc)):
        with io.InferenceServerClient(d.address) as c:
            c.load_model("set", config=text)
            v = d.json("GET", "/v2/models/set/config")[2]
            check(f"{name}: load_model with a configuration", v["max_batch_size"] == 3 and
                  v["dynamic_batching"]["max_queue_delay_microseconds"] == 77, v)
            x = io.InferInput("x", [4, 4], "FP32")
            x.set_data_from_numpy(np.zeros((4, 4), np.float32))
            try:
                c.infer("set", [x])
                check(f"{name}: it holds", False)
            except InferenceServerException as e:
                check(f"{name}: it holds", "from 1 to 3" in e.message(), e)
            c.load_model("set")
            check(f"{name}: a plain load does not undo it", most() == 3, most())
            c.unload_model("set")
            c.load_model("set")
            check(f"{name}: unload and load do", most() == 5, most())
            for bad, says in (("{", "config"), ("[]", "object"), ('{"max_batch_size": -1}', "max_batch_size"),
                              ('{"dynamic_batching": {"max_queue_delay_microseconds": "soon"}}', "delay")):
                try:
                    c.load_model("set", config=bad)
                    check(f"{name}: a configuration that is none: {bad}", False)
                except InferenceServerException as e:
                    check(f"{name}: a configuration that is none: {bad}", says in e.message(), e)
            try:
                c.load_model("set", config=text, files={"file:1/model.onnx": b"junk"})
                check(f"{name}: files in a load", False)
            except InferenceServerException as e:
                check(f"{name}: files in a load", "not offered" in e.message() and most() == 5, e)
    from tritonclient.grpc import service_pb2 as pb
    with tgrpc.InferenceServerClient(d.address) as c:
        c._client_stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(repository_name="set"))
        check("grpc: KServe's messages: unload", not c.is_model_ready("set"))
        c._client_stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(repository_name="set"))
        check("grpc: KServe's messages: load", c.is_model_ready("set"))
        try:
            c._client_stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(repository_name="a", model_name="set"))
            check("grpc: a named repository", False)
        except Exception as e:
            check("grpc: a named repository", "repository_name" in str(e), e)


def test_named_repository(d):
    for path in ("/v2/repository/mine/index", "/v2/repository/mine/models/lin/load",
                 "/v2/repository/mine/models/lin/unload"):
        s, _, v = d.json("POST", path)
        check(f"POST {path} is 501", s == 501 and "repository_name" in v["error"], (s, v))


def main():
    with tempfile.TemporaryDirectory() as tmp:
        repo = f"{tmp}/repo"
        put_version(repo, "lin", 1, ob.linear())
        put_version(repo, "types", 1, types_model())
        put(f"{repo}/set/config.pbtxt", "max_batch_size: 5\ndynamic_batching {\n  max_queue_delay_microseconds: 1234\n"
            "  default_queue_policy { max_queue_size: 7 default_timeout_microseconds: 2500000 }\n}\n"
            "output [ { name: \"y\" data_type: TYPE_FP32 dims: [ 3 ] label_filename: \"names.txt\" } ]\n")
        put(f"{repo}/set/names.txt", "ant\nbee\r\ncat\n\n")
        put_version(repo, "set", 1, ob.linear())
        d = Daemon(tmp)
        try:
            check("ready", d.wait_ready(), d.text()[-2000:])
            for test in (lambda: walk(d, "http", thttp), lambda: walk(d, "grpc", tgrpc),
                         lambda: asyncio.run(walk_aio(d, "http.aio", thttp_aio, thttp)),
                         lambda: asyncio.run(walk_aio(d, "grpc.aio", tgrpc_aio, tgrpc)),
                         lambda: asyncio.run(test_streams_aio(d)),
                         lambda: test_as_json(d), lambda: test_async(d), lambda: test_infer_forms(d),
                         lambda: test_config(d), lambda: test_load_with_config(d), lambda: test_named_repository(d)):
                try:
                    test()
                except Exception as e:                      # one test's surprise must not hide the others
                    import traceback
                    check("a test ran to its end", False, traceback.format_exc()[-500:])
        finally:
            code = d.stop()
            check("it drains and ends", code == 0, (code, d.text()[-1000:]))
            if d.process.poll() is None:
                d.stop(signal.SIGKILL)
    return end()


if __name__ == "__main__":
    sys.exit(main())
