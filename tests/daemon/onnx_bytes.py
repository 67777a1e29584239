"""onnx_bytes.py: ONNX files and other protobuf messages byte by byte, for tests that need broken ones.

Source of the field numbers: onnx/onnx onnx.proto; Triton's grpc_service.proto."""

import random
import struct
import zlib

F32, U8, I8, I32, I64, STRING, BOOL, F64 = 1, 2, 3, 6, 7, 8, 9, 11


def varint(n):
    n &= (1 << 64) - 1
    out = b""
    while n > 0x7F:
        out += bytes([n & 0x7F | 0x80])
        n >>= 7
    return out + bytes([n])


def num(field, value):
    return varint(field << 3) + varint(value)


def sub(field, payload):
    payload = payload.encode() if isinstance(payload, str) else payload
    return varint(field << 3 | 2) + varint(len(payload)) + payload


def fixed32(field, value):
    return varint(field << 3 | 5) + struct.pack("<f", value)


def tensor(name, dtype, dims, raw=None, extra=b""):
    out = b"".join(num(1, d) for d in dims) + num(2, dtype) + sub(8, name)
    return out + (sub(9, raw) if raw is not None else b"") + extra


def external(name, dtype, dims, location, offset=None, length=None):
    entries = [("location", location)]
    entries += [("offset", str(offset))] if offset is not None else []
    entries += [("length", str(length))] if length is not None else []
    return tensor(name, dtype, dims, extra=b"".join(sub(13, sub(1, k) + sub(2, v)) for k, v in entries) + num(14, 1))


def value(name, dtype, dims):
    shape = b"".join(sub(1, sub(2, d) if isinstance(d, str) else num(1, d)) for d in dims)
    return sub(1, name) + sub(2, sub(1, num(1, dtype) + sub(2, shape)))


def attr(name, v):
    out = sub(1, name)
    if isinstance(v, float):
        return out + fixed32(2, v) + num(20, 1)
    if isinstance(v, int):
        return out + num(3, v) + num(20, 2)
    if isinstance(v, str):
        return out + sub(4, v) + num(20, 3)
    if isinstance(v, bytes):  # a graph
        return out + sub(6, v) + num(20, 5)
    return out + b"".join(num(8, i) for i in v) + num(20, 7)


def node(op, inputs, outputs, name="", **attrs):
    out = b"".join(sub(1, i) for i in inputs) + b"".join(sub(2, o) for o in outputs) + sub(3, name or op.lower())
    return out + sub(4, op) + b"".join(sub(5, attr(k, v)) for k, v in attrs.items())


def graph(nodes, inputs, outputs, weights=(), name="g"):
    return (
        b"".join(sub(1, n) for n in nodes)
        + sub(2, name)
        + b"".join(sub(5, w) for w in weights)
        + b"".join(sub(11, i) for i in inputs)
        + b"".join(sub(12, o) for o in outputs)
    )


def model(g, opset=17):
    return num(1, 8) + sub(2, "test") + sub(7, g) + sub(8, num(2, opset))


def floats(*v):
    return struct.pack(f"<{len(v)}f", *v)


def linear(rows="N", weight=0.25):
    """y (N, 3) = x (N, 4) W + b: the smallest model that a request makes sense for."""
    return model(
        graph(
            [node("MatMul", ["x", "W"], ["m"], "fc"), node("Add", ["m", "b"], ["y"], "bias")],
            [value("x", F32, [rows, 4])],
            [value("y", F32, [rows, 3])],
            [tensor("W", F32, [4, 3], floats(*([weight] * 12))), tensor("b", F32, [3], floats(1, 2, 3))],
        )
    )


def convolution(rows="N", size=8, classes=3):
    """y (N, classes): a 3 x 3 convolution over grey pictures of size x size, pooled."""
    w = floats(*([0.1 * (i % 5 - 2) for i in range(classes * 9)]))
    return model(
        graph(
            [
                node("Conv", ["x", "W"], ["c"], "conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
                node("GlobalAveragePool", ["c"], ["p"], "pool"),
                node("Flatten", ["p"], ["y"], "flat"),
            ],
            [value("x", F32, [rows, 1, size, size])],
            [value("y", F32, [rows, classes])],
            [tensor("W", F32, [classes, 1, 3, 3], w)],
        )
    )


def network(classes=3, size=8, rows="N", seed=1):
    """y (N, classes): two convolutions and a linear layer over grey pictures: something to train."""
    rng = random.Random(seed)

    def weights(name, dims):
        n, fan = 1, 1
        for i, d in enumerate(dims):
            n, fan = n * d, fan * (d if i else 1)
        return tensor(name, F32, dims, floats(*(rng.gauss(0, (2 / fan) ** 0.5) for _ in range(n))))

    pads = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    return model(
        graph(
            [
                node("Conv", ["x", "conv1.weight"], ["a"], "conv1", **pads),
                node("Relu", ["a"], ["b"], "relu1"),
                node("Conv", ["b", "conv2.weight"], ["c"], "conv2", **pads),
                node("Relu", ["c"], ["d"], "relu2"),
                node("GlobalAveragePool", ["d"], ["p"], "pool"),
                node("Flatten", ["p"], ["f"], "flat"),
                node("Gemm", ["f", "fc.weight", "fc.bias"], ["y"], "fc", transB=1),
            ],
            [value("x", F32, [rows, 1, size, size])],
            [value("y", F32, [rows, classes])],
            [
                weights("conv1.weight", [16, 1, 3, 3]),
                weights("conv2.weight", [16, 16, 3, 3]),
                weights("fc.weight", [classes, 16]),
                tensor("fc.bias", F32, [classes], bytes(4 * classes)),
            ],
        )
    )


def png(width, height, rows, kind=0):
    """A PNG of 8 bits a sample; `rows`: bytes of each row. kind 0: grey, 2: RGB."""

    def chunk(tag, data):
        return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))

    head = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + r for r in rows)))
        + chunk(b"IEND", b"")
    )


def patterns(n, size=8, seed=1):
    """n pictures of three kinds that a small network tells apart: (label, PNG)."""
    rng = random.Random(seed)
    for i in range(n):
        kind = i % 3
        base = [lambda y: 30, lambda y: 200, lambda y: 200 if y & 1 else 30][kind]
        yield ("dark", "light", "stripes")[kind], png(
            size, size, [bytes(base(y) + rng.randrange(50) for _ in range(size)) for y in range(size)]
        )


# ---- reading ----

def fields(data):
    """(field, value) of a message: an int, or bytes."""
    at = 0

    def number():
        nonlocal at
        n = shift = 0
        while True:
            byte = data[at]
            at, n, shift = at + 1, n | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                return n

    while at < len(data):
        tag = number()
        if tag & 7 == 0:
            yield tag >> 3, number()
            continue
        size = number() if tag & 7 == 2 else {1: 8, 5: 4}[tag & 7]
        yield tag >> 3, data[at:at + size]
        at += size


def initializers(path):
    """name -> (type, shape, bytes) of a model's graph, as far as winnow writes them: raw data, here or beside it."""
    out = {}
    graph_bytes = next(v for f, v in fields(path.read_bytes()) if f == 7)
    for tensor_bytes in (v for f, v in fields(graph_bytes) if f == 5):
        each = list(fields(tensor_bytes))
        one = dict(each)
        place = {k[1].decode(): k[2].decode() for k in (dict(fields(v)) for f, v in each if f == 13)}
        raw = one.get(9, b"")
        if place:
            with open(path.parent / place["location"], "rb") as file:
                file.seek(int(place["offset"]))
                raw = file.read(int(place["length"]))
        out[one[8].decode()] = one[2], [v for f, v in each if f == 1], raw
    return out
