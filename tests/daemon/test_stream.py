"""test_stream.py: RPCs of many messages: ModelStreamInfer, health Watch and List, reflection v1 and v1alpha.

Needs the test environment (numpy, tritonclient). Prints TAP-like lines."""
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

import grpc
import numpy as np
import tritonclient.grpc as tgrpc
from google.protobuf import descriptor_pb2, descriptor_pool
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc
from tritonclient.grpc import service_pb2 as pb

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import onnx_bytes as ob  # noqa: E402
from api_rig import Daemon, put_version, slow_model, until  # noqa: E402
from common import check, end  # noqa: E402


def lin(i=0, model="lin", n=1, **more):
    t = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[n, 4])
    x = np.full((n, 4), i, np.float32)
    return pb.ModelInferRequest(model_name=model, inputs=[t], raw_input_contents=[x.tobytes()], id=str(i), **more)


def slow(i=0, **more):
    t = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 200, 400])
    return pb.ModelInferRequest(model_name="slow", inputs=[t], raw_input_contents=[bytes(200 * 400 * 4)], id=str(i),
                                outputs=[], **more)


def value(r):
    return np.frombuffer(r.infer_response.raw_output_contents[0], np.float32)[0]


def stub_of(channel):
    return service_pb2_grpc.GRPCInferenceServiceStub(channel)


def code_of(call):
    try:
        list(call)
        return "OK", ""
    except grpc.RpcError as e:
        return e.code().name, e.details()


def test_stream(d, channel):
    stub = stub_of(channel)
    n = 500
    got = list(stub.ModelStreamInfer(lin(i) for i in range(n)))
    check(f"{n} requests over one stream: every answer, in order", [r.infer_response.id for r in got] ==
          [str(i) for i in range(n)] and all(value(r) == i + 1 for i, r in enumerate(got)), len(got))
    p = got[0].infer_response.parameters
    check("answers say that they are the last, and what made them", p["triton_final_response"].bool_param and
          p["winnow-version"].string_param == "1" and p["winnow-generation"].string_param.isdigit() and
          re.fullmatch("sha256:[0-9a-f]{64}", p["winnow-digest"].string_param), p)
    check("a stream without requests", list(stub.ModelStreamInfer(iter(()))) == [])

    bad = [lin(0), lin(1, model="none"), lin(2), lin(3), lin(4)]
    bad[3].raw_input_contents[0] = b"\0" * 12
    got = list(stub.ModelStreamInfer(iter(bad)))
    check("errors come in their place and the stream goes on",
          [(r.infer_response.id, bool(r.error_message)) for r in got] ==
          [("0", False), ("1", True), ("2", False), ("3", True), ("4", False)] and "none" in got[1].error_message and
          "12 bytes" in got[3].error_message, got)
    code, text = code_of(stub.ModelStreamInfer(iter(bad), metadata=[("triton_grpc_error", "true")]))
    check("triton_grpc_error: the first error ends the stream", code == "NOT_FOUND" and "none" in text, (code, text))
    name = "x" + "\u00fc" * 200
    got = list(stub.ModelStreamInfer(iter([lin(0, model=name)])))
    check("an error that cites cut UTF-8 is a message all the same", got[0].error_message, got)

    # A quick request behind a slow one waits for it; both are under way at once.
    got = list(stub.ModelStreamInfer(iter([slow(0), lin(1)])))
    check("order holds where the second is quicker", [r.infer_response.id for r in got] == ["0", "1"] and
          not any(r.error_message for r in got), [r.error_message for r in got])


def test_ping_pong(d, channel):
    """One at a time, answered while the stream is open."""
    out = queue.Queue()
    call = stub_of(channel).ModelStreamInfer(iter(out.get, None))
    good = []
    for i in range(50):
        out.put(lin(i))
        good.append(value(next(call)) == i + 1)
    out.put(None)
    check("50 turns on an open stream", all(good) and list(call) == [] and call.code().name == "OK", call)


def test_flow(d, channel):
    """A client that sends and does not read: the server stops reading, and memory stays where it was."""
    taken, stop = [0], threading.Event()

    def requests():
        x = lin(7, n=32)
        x.parameters["pad"].string_param = "p" * 200_000                # 200 kB each
        for _ in range(1500):
            if stop.is_set():
                return
            taken[0] += 1
            x.id = "i" * 150_000                                        # answers are large too
            yield x
    rss = lambda: int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{d.process.pid}/status").read())[1]) >> 10
    before = rss()
    call = stub_of(channel).ModelStreamInfer(requests())
    first = next(call)
    last = -1
    while taken[0] != last:                                             # until nothing moves any more
        last = taken[0]
        time.sleep(1)
    after = rss()
    check(f"300 MB are held back by flow control ({taken[0]} of 1500 sent, {after - before} MiB more)",
          taken[0] < 1000 and after - before < 120 and value(first) == 8, (taken, before, after))
    got = 1
    for _ in call:
        got += 1
        if got == 1500:
            break
    check("and all of it is answered when the client reads", got == 1500, got)
    stop.set()


def test_cancel_and_deadline(d, channel):
    stub = stub_of(channel)
    inflight = lambda: next(float(l.split()[-1]) for l in d.http("GET", "/metrics")[2].decode().splitlines()
                            if l.startswith("winnow_requests_inflight "))
    base = until(lambda: inflight() == 1 and 1)
    hold = threading.Event()

    def endless():
        for i in range(20):
            yield slow(i)
        hold.wait(20)
    call = stub.ModelStreamInfer(endless())
    next(call)
    check("a stream under way is counted", inflight() > 2, inflight())
    call.cancel()
    check("cancel drops what is queued", base == 1 and until(lambda: inflight() == 1, 60), inflight())
    hold.set()
    hold = threading.Event()
    begin = time.monotonic()
    code, text = code_of(stub.ModelStreamInfer((hold.wait(20) and None or lin(i) for i in range(1)), timeout=0.5))
    check("the stream's deadline", code == "DEADLINE_EXCEEDED" and time.monotonic() - begin < 15, (code, text))
    hold.set()
    r = slow(0)
    r.parameters["timeout"].int64_param = 1
    got = list(stub.ModelStreamInfer(iter([r, lin(1)])))
    check("one request's deadline is an error in the stream", got[0].error_message and not got[1].error_message, got)
    check("nothing is left over", until(lambda: inflight() == 1, 60), inflight())


def test_limits(d, channel):
    stub = stub_of(channel)
    x = lin(0)
    x.parameters["pad"].string_param = "p" * (9 << 20)
    check("a message over server.max_body ends the stream", code_of(stub.ModelStreamInfer(iter([x])))[0] ==
          "RESOURCE_EXHAUSTED")
    raw = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer", lambda b: b, lambda b: b)
    got = [pb.ModelStreamInferResponse.FromString(b) for b in raw(iter([b"\xff\xff\xff", lin(1).SerializeToString()]))]
    check("a message that is garbage is an error in the stream", "protobuf" in got[0].error_message and
          value(got[1]) == 2, got)
    for c in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        rs = [lin(i, n=32) for i in range(20)]
        for r in rs:
            r.parameters["pad"].string_param = "p" * 100_000
        got = list(stub.ModelStreamInfer(iter(rs), compression=c))
        check(f"a stream in {c.name}", len(got) == 20 and all(value(r) == i + 1 for i, r in enumerate(got)), got[:1])
    watch = channel.stream_stream("/grpc.health.v1.Health/Watch", lambda b: b, lambda b: b)
    check("two messages for a method that takes one", code_of(watch(iter([b"", b""])))[0] == "INTERNAL")
    check("none for a method that takes one", code_of(watch(iter([])))[0] == "INTERNAL")


def test_triton_stream(d):
    got = queue.Queue()
    with tgrpc.InferenceServerClient(d.address) as c:
        c.start_stream(callback=lambda result, error: got.put((result, error)))
        for i in range(10):
            t = tgrpc.InferInput("x", [1, 4], "FP32")
            t.set_data_from_numpy(np.full((1, 4), i, np.float32))
            c.async_stream_infer("lin", [t], request_id=str(i), enable_empty_final_response=True)
        c.async_stream_infer("none", [t], request_id="bad")
        rs = [got.get(timeout=20) for _ in range(11)]
        check("triton grpc: async_stream_infer", all(e is None and r.get_response().id == str(i) and
                                                     r.as_numpy("y")[0][0] == i + 1 for i, (r, e) in
                                                     enumerate(rs[:10])), rs)
        check("triton grpc: a stream's error", rs[10][0] is None and "none" in rs[10][1].message(), rs[10])
        c.stop_stream()


# ---- health ----
def test_health(d, channel, repo):
    unary = lambda m, b=b"": channel.unary_unary("/grpc.health.v1.Health/" + m, lambda b: b, lambda b: b)(b, timeout=10)
    watch = lambda b: channel.unary_stream("/grpc.health.v1.Health/Watch", lambda b: b, lambda b: b)(b)
    check("Check", unary("Check") == b"\x08\x01" and unary("Check", b"\x0a\x03lin") == b"\x08\x01")
    text = unary("List")
    check("List names the server and the models", b"\x0a\x03lin\x12\x02\x08\x01" in text and b"slow" in text and
          b"\x0a\x00\x12\x02\x08\x01" in text, text)
    server, one, none = watch(b""), watch(b"\x0a\x03lin"), watch(b"\x0a\x05ghost")
    check("Watch tells at once", next(server) == b"\x08\x01" and next(one) == b"\x08\x01" and next(none) == b"\x08\x03")
    with tgrpc.InferenceServerClient(d.address) as c:
        c.unload_model("lin")
        check("Watch tells of an unload", next(one) == b"\x08\x02")
        c.load_model("lin")
        check("and of a load", next(one) == b"\x08\x01")
    put_version(repo, "ghost", 1, ob.linear())
    seen = []
    while seen[-1:] != [b"\x08\x01"]:
        seen.append(next(none))
    check("a service that appears", seen[-1] == b"\x08\x01", seen)
    for w in (server, one, none):
        w.cancel()


# ---- reflection ----
def varint(n):
    return ob.varint(n)


def ask(channel, version, *requests):
    call = channel.stream_stream(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo", lambda b: b,
                                 lambda b: b)
    return list(call(iter(requests)))


def fields(b):
    """[(number, bytes or int)] of a message."""
    out, i = [], 0

    def number():
        nonlocal i
        v = s = 0
        while True:
            v |= (b[i] & 127) << s
            s += 7
            i += 1
            if b[i - 1] < 128:
                return v
    while i < len(b):
        tag = number()
        if tag & 7 == 0:
            out.append((tag >> 3, number()))
        else:
            n = number()
            out.append((tag >> 3, b[i:i + n]))
            i += n
    return out


def files_of(answer):
    return [descriptor_pb2.FileDescriptorProto.FromString(f) for n, v in fields(answer) if n == 4 for _, f in fields(v)]


def test_reflection(d, channel):
    for version in ("v1", "v1alpha"):
        list_services, = ask(channel, version, ob.sub(1, "host") + ob.sub(7, ""))
        said = dict(fields(list_services))
        names = {dict(fields(v))[1].decode() for _, v in fields(said[6])}
        check(f"reflection {version}: services", names == {
            "inference.GRPCInferenceService", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection"}, names)
        check(f"reflection {version}: host and request come back", said[1] == b"host" and
              said[2] == ob.sub(1, "host") + ob.sub(7, ""), said)
        answers = ask(channel, version, *[ob.sub(4, s) for s in (
            "inference.GRPCInferenceService", "inference.GRPCInferenceService.ModelInfer",
            "inference.ModelInferRequest.InferInputTensor", "inference.DataType", "inference.ModelConfig.name",
            ".grpc.health.v1.Health.Watch", "inference.TYPE_FP32", "inference.ModelInput.FORMAT_NHWC")])
        check(f"reflection {version}: services, methods, nested types, enums, values, fields", len(answers) == 8 and
              all(files_of(a) for a in answers) and
              {f.package for f in files_of(answers[0])} == {"inference"} and len(files_of(answers[0])) == 2 and
              files_of(answers[5])[0].package == "grpc.health.v1", answers)
        name = files_of(answers[0])[0].name
        check(f"reflection {version}: a file by its name",
              files_of(ask(channel, version, ob.sub(3, name))[0])[0].name == name)
        errors = ask(channel, version, ob.sub(4, "inference.Nothing"), ob.sub(3, "nothing.proto"), ob.sub(4, ""),
                     ob.sub(5, ob.sub(1, "inference.ModelConfig") + ob.num(2, 1)), ob.sub(6, "inference.Nothing"), b"",
                     ob.sub(4, "inference.GRPCInferenceService.ModelInferX"), ob.sub(4, "inference"))
        codes = [dict(fields(dict(fields(a))[7]))[1] for a in errors]
        check(f"reflection {version}: what is not there", codes == [5, 5, 5, 5, 5, 3, 5, 5], errors)
        answer, = ask(channel, version, ob.sub(6, "inference.ModelConfig"))
        check(f"reflection {version}: no extensions of a message", dict(fields(dict(fields(answer))[5])) ==
              {1: b"inference.ModelConfig"}, answer)
    raw = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", lambda b: b, lambda b: b)
    check("reflection: garbage is INTERNAL", code_of(raw(iter([b"\xff"])))[0] == "INTERNAL")
    check("reflection: a name that is not UTF-8 is INTERNAL", code_of(raw(iter([ob.sub(4, b"\xff")])))[0] == "INTERNAL")


def test_descriptors_are_tritons(d, channel):
    """Every message, field, enum and method of Triton's client, with the same numbers and types."""
    pool = descriptor_pool.DescriptorPool()
    answer, = ask(channel, "v1", ob.sub(4, "inference.GRPCInferenceService"))
    for f in sorted(files_of(answer), key=lambda f: len(f.dependency)):
        pool.Add(f)
    ours = pool.FindServiceByName("inference.GRPCInferenceService")
    theirs = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    method = lambda m: (m.name, m.input_type.full_name, m.output_type.full_name, m.client_streaming, m.server_streaming)
    check("methods", [method(m) for m in ours.methods] == [method(m) for m in theirs.methods])
    wrong, n = [], 0

    def shape(m):
        p = descriptor_pb2.DescriptorProto()
        m.CopyToProto(p)
        return sorted((f.name, f.number, f.type, f.label, f.type_name, f.HasField("oneof_index") and
                       p.oneof_decl[f.oneof_index].name) for f in p.field)

    def compare(a, b):
        nonlocal n
        n += 1
        if shape(a) != shape(b):
            wrong.append(a.full_name)
        for m in b.nested_types:
            compare(a.nested_types_by_name[m.name], m)
    for module in (service_pb2, model_config_pb2):
        for name, m in module.DESCRIPTOR.message_types_by_name.items():
            compare(pool.FindMessageTypeByName("inference." + name), m)
        for name, e in module.DESCRIPTOR.enum_types_by_name.items():
            n += 1
            if [(v.name, v.number) for v in pool.FindEnumTypeByName("inference." + name).values] != \
                    [(v.name, v.number) for v in e.values]:
                wrong.append(name)
    check(f"{n} messages and enums", not wrong and n > 80, wrong)


# ---- the end ----
def test_drain(d, channel):
    """On the way down: an idle stream and a watch end by themselves, one under way is finished first."""
    out, results = queue.Queue(), []
    idle = stub_of(channel).ModelStreamInfer(iter(out.get, None))
    out.put(lin(1))
    next(idle)
    busy = stub_of(channel).ModelStreamInfer(iter([slow(i) for i in range(3)]))
    watch = channel.unary_stream("/grpc.health.v1.Health/Watch", lambda b: b, lambda b: b)(b"")
    next(watch)
    t = threading.Thread(target=lambda: results.extend(busy))
    t.start()
    begin = time.monotonic()
    d.process.send_signal(signal.SIGTERM)
    check("the watch says NOT_SERVING", next(watch) == b"\x08\x02")
    check("and ends", code_of(watch)[0] == "UNAVAILABLE")
    check("the idle stream ends", code_of(idle)[0] == "UNAVAILABLE")
    t.join(30)
    check("the busy one is finished", len(results) == 3 and not any(r.error_message for r in results), results)
    try:
        rc = d.process.wait(30)
    except subprocess.TimeoutExpired:
        rc = "hung"
    check(f"the server is gone in time ({time.monotonic() - begin:.1f} s)", rc == 0 and
          "stopped unfinished=0" in d.text(), (rc, d.text()[-400:]))
    out.put(None)


def main():
    with tempfile.TemporaryDirectory() as tmp:
        repo = f"{tmp}/repo"
        put_version(repo, "lin", 1, ob.linear())
        put_version(repo, "slow", 1, slow_model())
        d = Daemon(tmp)
        channel = grpc.insecure_channel(d.address)
        try:
            check("ready", d.wait_ready(), d.text()[-2000:])
            for test, args in ((test_stream, (channel,)), (test_ping_pong, (channel,)), (test_flow, (channel,)),
                               (test_cancel_and_deadline, (channel,)), (test_limits, (channel,)),
                               (test_triton_stream, ()), (test_health, (channel, repo)), (test_reflection, (channel,)),
                               (test_descriptors_are_tritons, (channel,)), (test_drain, (channel,))):
                begin = time.monotonic()
                try:
                    test(d, *args)
                except Exception as e:                      # one test's surprise must not hide the others
                    check(f"{test.__name__} ran to its end", False,
                          f"{type(e).__name__}: {e} line {e.__traceback__.tb_next.tb_lineno}")
                if os.environ.get("TIMES"):
                    print(f"# {test.__name__} {time.monotonic() - begin:.1f} s", flush=True)
        finally:
            channel.close()
            if d.process.poll() is None:
                d.stop(signal.SIGKILL)
        if os.environ.get("LOG"):
            print(d.text()[-3000:])
    return end()


if __name__ == "__main__":
    sys.exit(main())
