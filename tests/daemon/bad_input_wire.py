"""bad_input_wire.py: the part of test_bad_input.py that a winnowd answers."""

import functools
import gzip
import json
import os
import shutil
import struct
import zlib

import bad_input
import onnx_bytes as ox
from bad_input import ask, daemon, png, zipped
from bad_input_local import good_pictures, nested


def tensor_json(data="[[1,2,3,4]]", name='"x"', dtype='"FP32"', shape="[1,4]", more=""):
    return f'{{"inputs":[{{"name":{name},"datatype":{dtype},"shape":{shape},"data":{data}{more}}}]}}'


def json_bodies():
    infer = "/v2/models/linear/infer"

    def case(name, body, want, *names, target=infer, headers=None):
        ask("infer JSON: " + name, want, names, lambda: daemon.request("POST", target, body, headers))

    case("a good one, so that the others mean something", tensor_json(), 200, r'"data":\[')
    case("no body", "", 400, r"JSON|body|object")
    case("not JSON", "x=1&y=2", 400, r"byte \d+|object|offset")
    case("a comma too many", tensor_json() + ",", 400, r"byte|offset|trailing|behind|after|end")
    case("cut in the middle", tensor_json()[:50], 400, r"byte|offset|end|cut")
    case("an array", "[]", 400, r"object")
    case(
        "100 000 levels deep", '{"parameters":{"a":' + "[" * 100000 + "]" * 100000 + "}}", 400, r"deep|depth|level|nest"
    )
    case("100 000 levels deep in data", tensor_json("[" * 100000 + "1" + "]" * 100000), 400, r"'x'|deep|nest|level")
    case("no inputs", '{"id":"7"}', 400, r"inputs")
    case("inputs twice", tensor_json()[:-1] + "," + tensor_json()[1:], 400, r"inputs", r"twice")
    for key, again in (("name", '"x"'), ("shape", "[1,4]"), ("datatype", '"FP32"'), ("data", "[1,2,3,4]")):
        case(f"{key} of an input twice", tensor_json().replace('"name"', f'"{key}":{again},"name"'), 400, key, r"twice")
    case("outputs twice", tensor_json()[:-1] + ',"outputs":[{"name":"y"}],"outputs":[{"name":"y"}]}', 400, r"outputs.*twice")
    case("a parameter twice", tensor_json()[:-1] + ',"parameters":{"timeout":1,"timeout":9000000}}', 400, r"timeout.*twice")
    case(
        "an input twice",
        tensor_json().replace("]}]}", ']},{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]}'),
        400,
        r"x",
    )
    case("a NUL in an input's name", tensor_json(name=r'"x\u0000y"'), 400, r"'x|byte|NUL")
    case("a NUL behind a datatype", tensor_json(dtype=r'"FP32\u0000"'), 400, r"FP32|datatype|NUL")
    case("a NUL behind an output's name", tensor_json()[:-1] + r',"outputs":[{"name":"y\u0000"}]}', 400, r"output|NUL")
    case("a NUL in a model's name", "{}", 400, r"NUL|name", target="/v2/models/linear%00x/infer")
    case("a NUL in a key of settings", r'{"model":"linear\u0000","training_file":"a"}', 400, r"u0000|NUL",
         target="/v1/fine_tuning/jobs")
    case("a NUL in the name of a file", r'{"model":"linear","training_file":"file-1\u0000"}', 400, r"u0000|NUL",
         target="/v1/fine_tuning/jobs")
    case("a NUL in parameters of a load", r'{"parameters":{"config":"{\u0000}"}}', 400, r"u0000|NUL",
         target="/v2/repository/models/linear/load")
    case("an input the model has not", tensor_json(name='"z"'), 400, r"'z'|'x'")
    case("another shape", tensor_json("[[1,2,3]]", shape="[1,3]"), 400, r"'x'|x")
    case("another rank", tensor_json("[1,2,3,4]", shape="[4]"), 400, r"'x'|x")
    case("another datatype", tensor_json(dtype='"INT64"'), 400, r"x", r"INT64|i64")
    case("unknown datatype", tensor_json(dtype='"FP33"'), 400, r"FP33")
    case("more values than the shape says", tensor_json("[[1,2,3,4,5]]"), 400, r"x")
    case("fewer values than the shape says", tensor_json("[[1,2,3]]"), 400, r"x")
    case("a shape of 2^62 rows", tensor_json(shape=f"[{1 << 62},4]"), 400, r"x|shape|elements")
    case("a negative extent", tensor_json(shape="[-1,4]"), 400, r"byte 52|'x'")
    case("a shape of 9 dimensions", tensor_json(shape="[1,1,1,1,1,1,1,1,4]"), 400, r"dimension|shape")
    case("text where a number belongs", tensor_json('[["one",2,3,4]]'), 400, r"x")
    case("NaN and Infinity are values", tensor_json("[[NaN,Infinity,-Infinity,0]]"), 200, r"NaN")
    case("number past every float", tensor_json("[[1e999,2,3,4]]"), (200, 400), r"x|y")
    case("a lone surrogate in a name", tensor_json(name=r'"\ud800"'), 400, r"surrogate|byte|character|name|escape|UTF")
    case(
        "5 MiB where 4 are allowed",
        tensor_json("[" + "1," * (5 << 19) + "1]"),
        413,
        r"4194304|large|limit|max_body|4 MiB|exceed",
    )
    case(
        "257 inputs",
        '{"inputs":[' + ",".join(['{"name":"x","datatype":"FP32","shape":[0,4],"data":[]}'] * 257) + "]}",
        (400, 413),
        r"256|inputs",
    )
    case("an output the model has not", tensor_json()[:-1] + ',"outputs":[{"name":"q"}]}', 400, r"'q'|q")
    case(
        "an output of 10^6",
        tensor_json()[:-1] + ',"outputs":[' + ",".join(['{"name":"y"}'] * 100000) + "]}",
        (400, 413),
        r"256|outputs",
    )
    case("shared memory", tensor_json(more=',"parameters":{"shared_memory_region":"a"}'), 400, r"shared memory")
    case("unknown model", tensor_json(), 404, r"nobody", target="/v2/models/nobody/infer")
    case("a path for a name", tensor_json(), (400, 404), r".", target="/v2/models/..%2f..%2fetc/infer")
    case("unknown version", tensor_json(), 404, r"7", target="/v2/models/linear/versions/7/infer")
    case(
        "pinned to a generation that is not",
        tensor_json(),
        412,
        r"generation|99",
        headers={"winnow-pin": "generation=99999"},
    )
    case("pinned to another digest", tensor_json(), 412, r"digest", headers={"winnow-pin": "digest=sha256:" + "0" * 64})
    case("a pin that is none", tensor_json(), 400, r"pin", headers={"winnow-pin": "weather=fine"})
    case(
        "a deadline that is no number",
        tensor_json()[:-1] + ',"parameters":{"timeout":"soon"}}',
        400,
        r"byte|number|timeout|integer",
    )

    def binary(name, head, blob, want, *names, length=None):
        text = json.dumps(head)
        headers = {"Inference-Header-Content-Length": str(len(text) if length is None else length)}
        case("binary tensors, " + name, text.encode() + blob, want, *names, headers=headers)

    x = {"name": "x", "datatype": "FP32", "shape": [1, 4]}

    def sized(n, **more):
        return {"inputs": [{**x, **more, "parameters": {"binary_data_size": n}}]}

    binary("a good one", sized(16), bytes(16), 200, r"y")
    binary("size more than follows", sized(16), bytes(8), 400, r"x", r"16")
    binary("size less than follows", sized(16), bytes(20), 400, r"4 bytes|additional|behind")
    binary("size is not the shape's", sized(12), bytes(12), 400, r"x", r"12|16")
    binary("size of 2^63", sized((1 << 63) - 1), bytes(16), 400, r"x")
    binary("negative size", sized(-1), bytes(16), 400, r"byte|number|range|integer|-1")
    binary("head longer than the body", sized(16), bytes(16), 400, r"[Hh]eader|JSON|length|body", length=10**6)
    binary("head length is no number", sized(16), bytes(16), 400, r"[Hh]eader|length", length="many")
    binary(
        "strings that end early",
        sized(8, name="image", datatype="BYTES", shape=[1]),
        struct.pack("<II", 1000, 0),
        400,
        r"image|x",
    )


def compressed():
    def case(name, body, want, *names, coding="gzip", target="/v2/models/linear/infer"):
        headers = {"Content-Encoding": coding}
        ask("compressed body: " + name, want, names, lambda: daemon.request("POST", target, body, headers))

    body = tensor_json().encode()
    whole = gzip.compress(body)
    case("a good one", whole, 200, r"y")
    case("a good one, deflate", zlib.compress(body), 200, r"y", coding="deflate")
    case("cut short", whole[:-9], 400, r"gzip", r"cut short")
    case("cut after its head", whole[:10], 400, r"gzip", r"cut short")
    case("nothing at all", b"", 400, r"gzip", r"cut short")
    case("a checksum that is wrong", whole[:-8] + b"\0" * 8, 400, r"gzip")
    case("noise that says gzip", bytes(range(256)), 400, r"gzip")
    case("text that says deflate", body, 400, r"deflate", coding="deflate")
    case("bytes behind the end", whole + b"more", 400, r"gzip")
    case("a coding nobody knows", whole, 415, r"zstd", coding="zstd")
    case("two codings", whole, 415, r"gzip, gzip", coding="gzip, gzip")
    case("a bomb: 1 GiB in 1 MB", bomb(), 413, r"4194304", r"gzip")
    case("a bomb for a small route", bomb(), 413, r"1048576", target="/v2/repository/index")
    case("100 000 empty members", gzip.compress(b"", mtime=0) * 100000, 400, r"JSON|body|object")


@functools.lru_cache(None)
def bomb():
    """1 GiB of zeros in 1 MB."""
    z = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([z.compress(bytes(1 << 24)) for _ in range(64)] + [z.flush()])


def rpcs():
    infer = "inference.GRPCInferenceService/ModelInfer"

    def framed(message, flag=0, n=None):
        return struct.pack(">BI", flag, len(message) if n is None else n) + message

    def case(name, frame, want, *names, method=infer, options=()):
        ask("gRPC: " + name, want, names, lambda: daemon.rpc(method, frame, *options))

    def call(name, message, want, *names, method=infer):
        if bad_input.grpc is None:
            bad_input.leave_out("Python's grpc is not installed")
        else:
            ask("gRPC: " + name, want, names, lambda: daemon.call(method, message))

    def tensor(name="x", dtype="FP32", shape=(1, 4)):
        return ox.sub(5, ox.sub(1, name) + ox.sub(2, dtype) + ox.sub(3, b"".join(ox.varint(d) for d in shape)))

    def request(*parts, model="linear"):
        return framed(ox.sub(1, model) + b"".join(parts))

    raw = ox.sub(7, bytes(16))
    case("a good one", request(tensor(), raw), 0)
    case("garbage for a message", framed(b"\xff" * 100), 3, r"message|decode|proto|byte|field")
    case(
        "a message cut short", framed((ox.sub(1, "linear") + tensor())[:-3]), 3, r"message|decode|proto|byte|field|cut"
    )
    case(
        "frame longer than the body",
        framed(ox.sub(1, "linear"), n=500),
        (3, 13),
        r"frame|message|length|body|bytes|cut",
    )
    case(
        "frame shorter than the body",
        framed(ox.sub(1, "linear") + raw, n=3),
        (3, 12, 13),
        r"frame|message|length|body|bytes|more",
    )
    case("three bytes of a frame", b"\0\0\0", (3, 13), r"frame|message|length|body|bytes")
    case("frame that says 4 GiB", framed(b"", n=0xFFFFFFFF), (3, 8, 13), r"frame|message|length|body|bytes|large")
    call("5 MiB where 4 are allowed", bytes(5 << 20), 8, r"4194304|large|limit|max_body|body")
    case("compressed by nothing that was named", framed(ox.sub(1, "linear"), flag=1), (12, 13), r"compress|encoding")
    case(
        "compressed by something unknown",
        framed(b"x", flag=1),
        12,
        r"snappy|compress|encoding",
        options=("-H", "grpc-encoding: snappy"),
    )
    case("gzip frame cut short", framed(gzip.compress(request(tensor(), raw))[:-4], flag=1), 13, r"gzip|cut",
         options=("-H", "grpc-encoding: gzip"))
    case("gzip frame that is none", framed(request(tensor(), raw), flag=1), 13, r"gzip",
         options=("-H", "grpc-encoding: gzip"))
    case("gzip bomb of 1 GiB", framed(bomb(), flag=1), 8, r"4194304", options=("-H", "grpc-encoding: gzip"))
    case("frame flag 7", framed(ox.sub(1, "linear"), flag=7), (3, 12, 13), r"flag|compress|frame")
    call("unknown method", b"", 12, r"Frobnicate", method="inference.GRPCInferenceService/Frobnicate")
    call("unknown service", b"", 12, r"nobody\.Service", method="nobody.Service/Call")
    case("a timeout that is none", request(tensor(), raw), 3, r"grpc-timeout", options=("-H", "grpc-timeout: soon"))
    case("unknown model", request(tensor(), raw, model="nobody"), 5, r"nobody")
    case("a NUL in the model's name", request(tensor(), raw, model="linear\0x"), 3, r"NUL")
    for method, field in (("ModelReady", "name"), ("ModelMetadata", "name"), ("RepositoryModelUnload", "model_name")):
        number = 2 if field == "model_name" else 1
        case(f"{method}: a NUL in {field}", framed(ox.sub(number, "linear\0x")), 3, f"{field}: .*NUL",
             method=f"inference.GRPCInferenceService/{method}")
    case("health Check: a NUL in service", framed(ox.sub(1, "linear\0")), 3, r"service: .*NUL",
         method="grpc.health.v1.Health/Check")
    case("model version that is no number", request(ox.sub(2, "seven"), tensor(), raw), (3, 5), r"seven|version")
    case("raw bytes are not the shape's", request(tensor(), ox.sub(7, bytes(12))), 3, r"x", r"12|16")
    case("an input without its raw bytes", request(tensor()), 3, r"x|raw|content")
    case("more raw contents than inputs", request(tensor(), raw, raw), 3, r"raw|input|content")
    case(
        "shape whose product overflows", request(tensor(shape=(1 << 62, 1 << 62)), raw), 3, r"x|shape|elements|overflow"
    )
    case("a negative extent", request(tensor(shape=((1 << 64) - 1, 4)), raw), 3, r"x|shape|negative|-1")
    case(
        "message bomb: a million empty inputs",
        framed(ox.sub(1, "linear") + ox.sub(5, b"") * 1000000),
        (3, 8),
        r"256|input|tensor",
    )
    case("nested garbage 100 000 deep", framed(b"\x2b" * 100000), 3, r"message|decode|proto|byte|group|wire|field")
    case(
        "small RPC with a field bomb",
        framed(ox.sub(99, b"") * 400000),
        (3, 8),
        r"fields|MiB|levels",
        method="inference.GRPCInferenceService/RepositoryIndex",
    )


def streams():
    """RPCs of many messages: what a hostile client may put into one, or never end."""

    def case(name, want, *names, method, messages, metadata=(), timeout=20, hold=0):
        def call():
            import time

            def send():
                yield from messages
                time.sleep(hold)

            with bad_input.grpc.insecure_channel(f"127.0.0.1:{daemon.port}") as channel:
                stream = channel.stream_stream("/" + method, lambda b: b, lambda b: b)
                got = b""
                try:
                    for answer in stream(send(), timeout=timeout, metadata=metadata):
                        got += answer
                    return 0, got.decode(errors="replace")
                except bad_input.grpc.RpcError as e:
                    return e.code().value[0], e.details() + got.decode(errors="replace")

        if bad_input.grpc is None:
            bad_input.leave_out("Python's grpc is not installed")
        else:
            ask("stream: " + name, want, names, call)

    reflection = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
    infer = "inference.GRPCInferenceService/ModelStreamInfer"
    watch = "grpc.health.v1.Health/Watch"
    x = ox.sub(5, ox.sub(1, "x") + ox.sub(2, "FP32") + ox.sub(3, b"\x01\x04"))
    good = ox.sub(1, "linear") + x + ox.sub(7, bytes(16))
    case("reflection of a known name", 0, r"ModelInferRequest", method=reflection, messages=[ox.sub(4, "inference.ModelInferRequest")])
    case("reflection of an unknown name", 0, r"there is no symbol 'inference\.Frobnicate'", method=reflection,
         messages=[ox.sub(4, "inference.Frobnicate")])
    case("reflection of an unknown file", 0, r"there is no file '\.\./\.\./etc/passwd'", method=reflection,
         messages=[ox.sub(3, "../../etc/passwd")])
    case("reflection of a name of 900 kB", 0, r"there is no symbol", method=reflection, messages=[ox.sub(4, "a." * 450000)])
    case("reflection with garbage", 13, r"could not be decoded", method=reflection, messages=[b"\xff\xff"])
    case("reflection asked 2 000 times", 0, r"Health", method=reflection, messages=[ox.sub(7, "")] * 2000)
    case("a good one", 0, r"linear", method=infer, messages=[good] * 3)
    case("garbage between good ones", 0, r"broken protobuf", r"linear", method=infer, messages=[good, b"\xff", good])
    case("5 MiB where 4 are allowed", 8, r"max_body", method=infer, messages=[good, bytes(5 << 20)])
    case("1 000 messages that fail", 0, r"nobody", method=infer, messages=[ox.sub(1, "nobody")] * 1000)
    case("an error that is to end it", 5, r"nobody", method=infer, messages=[ox.sub(1, "nobody")],
         metadata=[("triton_grpc_error", "true")])
    case("one that never ends: until its deadline", 4, r".", method=infer, messages=[good], timeout=1, hold=3)
    case("two messages where one is allowed", 13, r"more messages", method=watch, messages=[b"", b""])
    case("watching what is garbage", 13, r"decoded", method=watch, messages=[b"\xff"])
    case("watching what nobody knows: told, until its deadline", 4, r".", method=watch, messages=[ox.sub(1, "nobody")],
         timeout=1, hold=3)

    def frames(name, body, want, *names, options=()):
        def once_more():  # an answer that overtakes the body ends in a reset, and curl 7.88 may then drop the answer
            for _ in range(5):
                got = daemon.rpc(reflection, body, *options)
                if "(92)" not in str(got):
                    break
            return got
        ask("stream: " + name, want, names, once_more)

    ask_list = ox.sub(7, "")
    framed = lambda message, flag=0, n=None: struct.pack(">BI", flag, len(message) if n is None else n) + message
    gz = ("-H", "grpc-encoding: gzip")
    frames("frames by hand", framed(ask_list) * 2, 0)
    frames("a timeout that is none", framed(ask_list), 3, r"grpc-timeout", options=("-H", "grpc-timeout: soon"))
    frames("a last frame cut short", framed(ask_list) + framed(ask_list)[:-1], 13, r"cut short")
    frames("a head cut short", framed(ask_list) + b"\0\0", 13, r"cut short")
    frames("a frame that says 4 GiB", framed(b"", n=0xFFFFFFFF), 8, r"max_body")
    frames("flag 9", framed(ask_list, flag=9), 13, r"flag")
    frames("compressed by nothing that was named", framed(ask_list, flag=1), 13, r"names nothing")
    frames("compressed by something unknown", framed(ask_list, flag=1), 12, r"not offered", options=("-H", "grpc-encoding: br"))
    frames("gzip that is none", framed(ask_list, flag=1), 13, r"gzip", options=gz)
    frames("a gzip bomb of 1 GiB", framed(bomb(), flag=1), 8, r"4194304", options=gz)


def pictures():
    infer = "/v2/models/pictures/infer"

    def case(name, body, want, *names, kind="image/png", target=infer):
        ask("picture: " + name, want, names, lambda: daemon.request("POST", target, body, {"Content-Type": kind}))

    jpeg = open(os.path.join(os.path.dirname(__file__), "..", "fuzz/corpus/image/base.jpg"), "rb").read()
    case("a good one", png(16, 12), 200, r"label", r"round|square|other")
    case("a good JPEG", jpeg, 200, r"label", kind="image/jpeg")
    case("text", b"this is no picture", 400, r"PNG|JPEG|picture|image")
    case("nothing", b"", 400, r"picture|image|empty|bytes|body")
    case("a GIF", b"GIF89a" + bytes(64), (400, 415, 501), r"GIF")
    case("PNG cut in the middle", png(64, 64, cut=70), 400, r"PNG|picture|image|end|cut")
    case("JPEG cut in the middle", jpeg[: len(jpeg) // 2], 400, r"JPEG|picture|image|end", kind="image/jpeg")
    case(
        "PNG of 60000 x 60000 in 2 kB",
        png(60000, 60000, rows=zlib.compress(bytes(1 << 20))),
        (400, 413),
        r"60000|8192|pixels|large",
    )
    case(
        "PNG whose width is a lie", png(8000, 8000, rows=zlib.compress(bytes(1000))), 400, r"PNG|picture|image|end|data"
    )
    case(
        "for a model without pictures",
        png(8, 8),
        (400, 415),
        r"linear|picture|image|pipeline",
        target="/v2/models/linear/infer",
    )


def http_requests():
    ok = "Host: a\r\nConnection: close\r\n"
    body = tensor_json()

    def case(name, data, want, *names):
        ask("HTTP: " + name, want, names, lambda: daemon.raw(data.encode("latin-1") if isinstance(data, str) else data))

    def post(headers, text=body):
        return f"POST /v2/models/linear/infer HTTP/1.1\r\n{ok}{headers}\r\n{text}"

    n = len(body)
    case("a good one", post(f"Content-Length: {n}\r\n"), 200, r"y")
    case("unknown path", f"GET /v3/nothing HTTP/1.1\r\n{ok}\r\n", 404, r".")
    case("wrong method", f"DELETE /v2/models/linear/infer HTTP/1.1\r\n{ok}\r\n", 405, r".")
    case("headers of 20 kB", f"GET /v2 HTTP/1.1\r\n{ok}X: {'y' * 20000}\r\n\r\n", 431)
    case("200 headers", f"GET /v2 HTTP/1.1\r\n{ok}" + "".join(f"X{i}: 1\r\n" for i in range(200)) + "\r\n", 431)
    case("two Content-Lengths", post(f"Content-Length: {n}\r\nContent-Length: {n + 1}\r\n"), 400)
    case("Content-Length: +5", post("Content-Length: +5\r\n"), 400)
    case("Content-Length past 64 bits", post("Content-Length: 99999999999999999999\r\n"), (400, 413))
    case(
        "both length and chunks",
        post(f"Content-Length: {n}\r\nTransfer-Encoding: chunked\r\n", f"{n:x}\r\n{body}\r\n0\r\n\r\n"),
        400,
    )
    case("Transfer-Encoding: chunked, identity", post("Transfer-Encoding: chunked, identity\r\n"), (400, 501))
    case("Transfer-Encoding: xchunked", post("Transfer-Encoding: xchunked\r\n"), (400, 501))
    case("space before the colon", post(f"Content-Length : {n}\r\n"), 400)
    case("a folded header", f"GET /v2 HTTP/1.1\r\n{ok}X: a\r\n b\r\n\r\n", 400)
    case("bare line feeds", "GET /v2 HTTP/1.1\nHost: a\n\n", 400)
    case("NUL in a header", f"GET /v2 HTTP/1.1\r\n{ok}X: a\0b\r\n\r\n", 400)
    case("no Host", "GET /v2 HTTP/1.1\r\n\r\n", 400)
    case("two Hosts", f"GET /v2 HTTP/1.1\r\n{ok}Host: b\r\n\r\n", 400)
    case("HTTP/3.0", f"GET /v2 HTTP/3.0\r\n{ok}\r\n", (400, 505))
    case("HTTP/0.9", "GET /v2\r\n\r\n", (0, 400))
    case(
        "chunk size that overflows",
        post("Transfer-Encoding: chunked\r\n", "ffffffffffffffffff\r\nx\r\n0\r\n\r\n"),
        (400, 413),
    )
    case(
        "chunk size with something behind it", post("Transfer-Encoding: chunked\r\n", "5 zz\r\nhello\r\n0\r\n\r\n"), 400
    )
    case("TLS to a port that speaks none", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), (0, 400))
    case("64 KiB of noise", bytes(range(256)) * 256, (0, 400))
    case("bad percent-encoding", f"GET /v2/models/%zz/ready HTTP/1.1\r\n{ok}\r\n", (400, 404))
    case("a NUL in a model's name", f"GET /v2/models/a%00b/ready HTTP/1.1\r\n{ok}\r\n", (400, 404))


def repository_loads():
    """A bad version beside a good one: loading says why, and the good one keeps serving."""
    cases = [
        ("cut in the middle", ox.linear()[:90], 400, r"model\.onnx|ONNX|linear"),
        ("an unknown operator", ox.linear().replace(b"MatMul", b"MatMil"), (400, 501), r"MatMil"),
        ("a depth bomb", nested(3000), (400, 413), r"64|deep|nest"),
        ("a message bomb", ox.num(1, 8) + ox.sub(7, ox.sub(1, b"") * 2000000), (400, 413), r"1000000|messages"),
        (
            "external data with ..",
            ox.model(
                ox.graph(
                    [ox.node("Add", ["x", "W"], ["y"], "add")],
                    [ox.value("x", ox.F32, ["N", 4])],
                    [ox.value("y", ox.F32, ["N", 4])],
                    [ox.external("W", ox.F32, [4], "../../../../../etc/passwd")],
                )
            ),
            (400, 501),
            r"'W'",
        ),
    ]
    for version, (name, data, want, *names) in enumerate(cases, 2):

        def load():
            daemon.put("linear", version, data)
            said = daemon.request("POST", "/v2/repository/models/linear/load", "{}")
            status, text = daemon.request("POST", "/v2/models/linear/infer", tensor_json())
            return (
                said
                if status == 200 and '"model_version":"1"' in text
                else (-1, f"linear serves no longer: {status} {text}")
            )

        ask(f"repository: version {version} is {name}", want, names, load)
        if daemon.process is not None:
            shutil.rmtree(os.path.join(daemon.repository, "linear", str(version)), ignore_errors=True)
    ask(
        "repository: load of a model that is not there",
        (400, 404),
        [r"nobody"],
        lambda: daemon.request("POST", "/v2/repository/models/nobody/load", "{}"),
    )
    ask(
        "repository: promote a version that is not there",
        (404, 409, 412),
        [r"77"],
        lambda: daemon.request("POST", "/v2/repository/models/linear/versions/77/promote", "{}"),
    )
    ask(
        "repository: roll back where nothing was before",
        (404, 409, 412),
        [r"linear|version"],
        lambda: daemon.request("POST", "/v2/repository/models/linear/rollback", "{}"),
    )


def files():
    """Uploads over the wire: what arrives is not looked into here; its form, name and size are."""

    def case(name, method, target, body, want, *names, headers=None):
        ask("files: " + name, want, names, lambda: daemon.request(method, target, body, headers))

    def form(*parts, boundary="b0undary", end="--"):
        body = b""
        for disposition, data in parts:
            head = f"--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode()
            body += head + (data if isinstance(data, bytes) else data.encode()) + b"\r\n"
        return body + f"--{boundary}{end}\r\n".encode()

    def post(name, body, want, *names, kind="multipart/form-data; boundary=b0undary"):
        case(name, "POST", "/v1/files", body, want, *names, headers={"Content-Type": kind})

    purpose, file = ('name="purpose"', "fine-tune"), ('name="file"; filename="a.zip"', b"bytes")
    post("a good one", form(purpose, file), 200, r'"id": ?"file-')
    post("multipart without a boundary", form(purpose, file), 400, r"boundary", kind="multipart/form-data")
    post("another content type", "{}", (400, 415), r"multipart", kind="application/json")
    post(
        "a boundary of 200 characters",
        form(purpose, file),
        400,
        r"boundary",
        kind="multipart/form-data; boundary=" + "x" * 200,
    )
    post("a form that ends early", form(purpose, file)[:-30], 400, r"form|multipart|boundary|end")
    post("a form without its last boundary", form(purpose, file, end=""), 400, r"form|multipart|boundary|end")
    post("no file in it", form(purpose), 400, r"'file'")
    post("two files in it", form(purpose, file, file), 400, r"one file")
    post("no purpose in it", form(file), 400, r"purpose")
    post(
        "a file name that is a path: the last part is kept",
        form(purpose, ('name="file"; filename="../../etc/cron.d/x"', b"x")),
        200,
        r'"filename": ?"x"',
    )
    post(
        "a file name with a control character",
        form(purpose, ('name="file"; filename="a\x1b[2J"', b"x")),
        400,
        r"name|header|part",
    )
    post(
        "a part whose head is 100 kB",
        form(purpose, ('name="file"; filename="' + "a" * 100000 + '"', b"x")),
        (400, 413),
        r"name|header|head|part|form",
    )
    post("10 000 parts", form(purpose, file, *[('name="x"', b"")] * 10000), (400, 413), r"parts|form|multipart")
    post("bytes that are no form", b"\0" * 1000, 400, r"form|multipart|boundary")
    case(
        "2 MiB where 1 MiB is allowed",
        "PUT",
        "/v1/files/big.zip?purpose=fine-tune",
        bytes(2 << 20),
        413,
        r"files\.max_file|large",
    )
    case(
        "a form with 2 MiB where 1 MiB is allowed",
        "POST",
        "/v1/files",
        form(purpose, ('name="file"; filename="a"', bytes(2 << 20))),
        413,
        r"files\.max_file|large",
        headers={"Content-Type": "multipart/form-data; boundary=b0undary"},
    )
    case("a name that is a path", "PUT", "/v1/files/..%2f..%2fx?purpose=fine-tune", b"x", 400, r"name")
    case("a file that is not there", "GET", "/v1/files/file-0", None, 404, r"file-0")
    case("an id that is a path", "GET", "/v1/files/..%2fwinnow.db/content", None, (400, 404), r".")
    case("delete of a file that is not there", "DELETE", "/v1/files/file-0", None, 404, r"file-0")
    case("a limit that is no number", "GET", "/v1/files?limit=many", None, 400, r"limit")
    case("a limit that is badly percent-encoded", "GET", "/v1/files?limit=%zz", None, 400, r"limit.*percent")
    case("a limit that is not UTF-8", "GET", "/v1/files?limit=%FF", None, 400, r'"message".*limit', r'"param":"limit"')
    case("an order that is cut in its percent-encoding", "GET", "/v1/files?order=asc%2", None, 400, r"order.*percent")
    case("a purpose that hides a NUL", "GET", "/v1/files?purpose=fine-tune%00x", None, 400, r"purpose.*NUL")
    case("an upload's purpose that is badly percent-encoded", "PUT", "/v1/files/x.csv?purpose=%", b"x", 400, r"purpose.*percent")
    case("a stream that is badly percent-encoded", "GET", "/v1/fine_tuning/jobs/x/events?stream=tru%6", None, 400, r"stream")
    case("an anchor that is no npz", "PUT", "/v2/repository/models/pictures/anchor", b"no rows", 400, r"anchor|npz|zip")
    case("an anchor for a model that is not there", "PUT", "/v2/repository/models/nobody/anchor", b"x", 404, r"nobody")


def jobs():
    """Training jobs over the wire: a refused one is a 400 before a job exists."""
    ids = {}

    def upload(name, data):
        status, text = daemon.request("PUT", f"/v1/files/{name}?purpose=fine-tune", data)
        ids[name] = json.loads(text)["id"] if status == 200 else f"upload failed: {status} {text}"

    if daemon.process is not None:
        upload("data.zip", zipped(good_pictures(60)))

    def case(name, want, *names, text=None, **change):
        def post():
            body = {"model": "pictures", "training_file": ids.get("data.zip"), **change}
            return daemon.request("POST", "/v1/fine_tuning/jobs", json.dumps(body) if text is None else text)

        ask("jobs: " + name, want, names, post)

    recipe = "modifiers:\n  - !EpochRangeModifier {start_epoch: 0, end_epoch: 1}\n  - "
    case("not JSON", 400, r"JSON|expected|object", text="{")
    case("nested 100 000 deep", 400, r"JSON|depth|nest|deep", text='{"a":' + "[" * 100000 + "]" * 100000 + "}")
    case("an array", 400, r"object", text="[]")
    case("a key twice", 400, r"duplicate|twice|model", text='{"model":"a","model":"b"}')
    case("unknown key", 400, r"colour", colour="red")
    case("no model", 400, r"model", model=None)
    case("a model that is not there", 404, r"nobody", model="nobody")
    case("a model whose name is a path", 400, r"model", model="../../etc")
    case("no training file", 400, r"training_file", training_file=None)
    case("a training file that is not there", 400, r"training_file|file-0", training_file="file-0")
    case("a level of 7", 400, r"optim_level", optim_level=7)
    case("a seed that is a fraction", 400, r"seed", seed=0.5)
    case("a million epochs", 400, r"n_epochs", hyperparameters={"n_epochs": 1000000})
    case("a learning rate beside the recipe's", 400, r"learning_rate", hyperparameters={"learning_rate_multiplier": 2})
    case(
        "recipe with an unknown modifier",
        400,
        r"recipe\.yaml:3",
        r"Frobnicate",
        recipe=recipe + "!FrobnicateModifier {}\n",
    )
    case(
        "recipe whose eval imports",
        400,
        r"recipe\.yaml:3",
        r"__import__",
        recipe=recipe + "!ConstantPruningModifier {start_epoch: 'eval(__import__(1))', params: __ALL_PRUNABLE__}\n",
    )
    case(
        "recipe whose selector matches nothing",
        400,
        r"ghost",
        recipe=recipe + "!ConstantPruningModifier {params: ['ghost.weight']}\n",
    )
    case("recipe and recipe_file", 400, r"recipe", recipe=recipe, recipe_file="file-0")
    ask(
        "jobs: a job that is not there",
        404,
        [r"ftjob-0"],
        lambda: daemon.request("GET", "/v1/fine_tuning/jobs/ftjob-0"),
    )
    ask(
        "jobs: cancel of a job that is not there",
        404,
        [r"ftjob-0"],
        lambda: daemon.request("POST", "/v1/fine_tuning/jobs/ftjob-0/cancel", ""),
    )

    def none_left():
        status, text = daemon.request("GET", "/v1/fine_tuning/jobs")
        return status, f"{len(json.loads(text).get('data', [0]))} jobs" if status == 200 else text

    ask("jobs: none of these exists", 200, [r"^0 jobs"], none_left)


PARTS = (json_bodies, compressed, rpcs, streams, pictures, http_requests, repository_loads, files, jobs)
