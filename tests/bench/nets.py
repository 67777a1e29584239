"""Nets with made-up weights for benchmarks: ONNX written by hand (field numbers of onnx.proto3), no onnx package needed.

resnet50() is version 1.5 (the stride is in the 3x3 convolution) with batch normalization folded. Weights follow a Laplace
distribution, as trained ones roughly do, scaled so that activations stay near 1; zeros are the smallest weights, one by
one or in blocks: 1x4 (four input channels), 4x1 or 2x1 (output channels). int8: u8 activations, s8 weights per output channel in -127 ... 127,
Q and DQ around every layer, as quantizing tools export it."""
import numpy as np

FLOAT, UINT8, INT8, INT32, INT64 = 1, 2, 3, 6, 7
TYPES = {np.dtype(np.float32): FLOAT, np.dtype(np.uint8): UINT8, np.dtype(np.int8): INT8, np.dtype(np.int32): INT32,
         np.dtype(np.int64): INT64}


def varint(n):
    out = bytearray()
    n &= (1 << 64) - 1
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def num(field, n):
    return varint(field << 3) + varint(n)


def blob(field, data):
    data = data.encode() if isinstance(data, str) else data
    return varint(field << 3 | 2) + varint(len(data)) + data


class Net:
    """A graph under construction. Values are names."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.consts, self.n = [], [], 0

    def name(self, base):
        self.n += 1
        return f"{base}_{self.n}"

    def const(self, array, base="c"):
        array, name = np.asarray(array, order="C"), self.name(base)
        body = b"".join(num(1, d) for d in array.shape) + num(2, TYPES[array.dtype]) + blob(8, name)
        self.consts.append(blob(5, body + blob(9, array.tobytes())))
        return name

    def op(self, kind, inputs, **attrs):
        out = self.name(kind)
        body = b"".join(blob(1, i) for i in inputs) + blob(2, out) + blob(3, out) + blob(4, kind)
        for key, value in attrs.items():
            if isinstance(value, int):
                attr = num(3, value) + num(20, 2)
            else:
                attr = b"".join(num(8, v) for v in value) + num(20, 7)
            body += blob(5, blob(1, key) + attr)
        self.nodes.append(blob(1, body))
        return out

    def info(self, field, name, shape, kind=FLOAT):
        dims = b"".join(blob(1, num(1, d) if isinstance(d, int) else blob(2, d)) for d in shape)
        return blob(field, blob(1, name) + blob(2, blob(1, num(1, kind) + blob(2, dims))))

    def save(self, path, x, x_shape, y, y_shape, x_kind=FLOAT):
        """x: the input's name, or a list of them."""
        self.nodes.append(blob(1, blob(1, y) + blob(2, "output") + blob(3, "output") + blob(4, "Identity")))
        graph = b"".join(self.nodes) + blob(2, "net") + b"".join(self.consts)
        graph += b"".join(self.info(11, name, x_shape, x_kind) for name in ([x] if isinstance(x, str) else x))
        graph += self.info(12, "output", y_shape)
        with open(path, "wb") as f:
            f.write(num(1, 8) + blob(2, "winnow bench") + blob(7, graph) + blob(8, num(2, 17)))


class Bert:
    """The encoder of a BERT with its embeddings, in the words of PyTorch's exporter (opset 17, decomposed GELU).
    int8: what stands before every layer, and with `products` before both products of attention, is quantized per tensor
    (u8) in a Q/DQ pair; weights are s8 per output channel; biases, residuals and normalizations stay f32."""

    def __init__(self, width, heads, hidden, seed, sparsity, block, int8=False, products=False):
        self.net, self.width, self.heads, self.hidden = Net(seed), width, heads, hidden
        self.sparsity, self.block, self.int8, self.products = sparsity, block, int8, products
        self.pairs = {}

    def f32(self, x):
        return self.net.const(np.float32(x))

    def quantize(self, x, lo, hi, wanted=True):
        """x through a Q/DQ pair for lo ... hi; one pair per value, whoever reads it."""
        if not (self.int8 and wanted):
            return x
        if x not in self.pairs:
            scale = (hi - lo) / 255
            s, z = self.f32(scale), self.net.const(np.uint8(round(-lo / scale)))
            self.pairs[x] = self.net.op("DequantizeLinear", [self.net.op("QuantizeLinear", [x, s, z]), s, z])
        return self.pairs[x]

    def weights(self, inner, outer):
        """(inner, outer), as MatMul reads it; pruned in rows of the transposed matrix."""
        w = self.net.rng.laplace(size=(outer, inner)).astype(np.float32)
        w = thin(w, self.sparsity, self.block)
        w = (w / np.sqrt((w * w).sum(1, keepdims=True) + 1e-6)).astype(np.float32)
        if not self.int8:
            return self.net.const(w.T, "w")
        scale = (np.abs(w).max(1) / 127).astype(np.float32)
        scale[scale == 0] = 1 / 127  # a channel of zeros
        q = np.clip(np.rint(w / scale[:, None]), -127, 127).astype(np.int8)
        zero = self.net.const(np.zeros(outer, np.int8))
        return self.net.op("DequantizeLinear", [self.net.const(q.T, "w"), self.net.const(scale), zero], axis=1)

    def linear(self, x, inner, outer, lo=-6, hi=6):
        """lo ... hi: of the input."""
        bias = (self.net.rng.normal(size=outer) * 0.1).astype(np.float32)
        y = self.net.op("MatMul", [self.quantize(x, lo, hi), self.weights(inner, outer)])
        return self.net.op("Add", [self.net.const(bias, "b"), y])

    def norm(self, x):
        g = (1 + self.net.rng.normal(size=self.width) * 0.1).astype(np.float32)
        b = (self.net.rng.normal(size=self.width) * 0.1).astype(np.float32)
        return self.net.op("LayerNormalization", [x, self.net.const(g), self.net.const(b)], axis=-1)

    def cut(self, x, perm):
        shape = np.array([0, 0, self.heads, self.width // self.heads], np.int64)
        x = self.net.op("Transpose", [self.net.op("Reshape", [x, self.net.const(shape)])], perm=perm)
        return self.quantize(x, -5, 5, self.products)

    def attention(self, x, mask):
        q, k, v = (self.cut(self.linear(x, self.width, self.width), perm)
                   for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]))
        s = self.net.op("Div", [self.net.op("MatMul", [q, k]), self.f32((self.width // self.heads) ** 0.5)])
        p = self.net.op("Softmax", [self.net.op("Add", [s, mask])], axis=-1)
        p = self.quantize(p, 0, 1, self.products)
        y = self.net.op("Transpose", [self.net.op("MatMul", [p, v])], perm=[0, 2, 1, 3])
        y = self.net.op("Reshape", [y, self.net.const(np.array([0, 0, self.width], np.int64))])
        return self.linear(y, self.width, self.width, -3, 3)

    def gelu(self, x):
        e = self.net.op("Add", [self.net.op("Erf", [self.net.op("Div", [x, self.f32(2 ** 0.5)])]), self.f32(1)])
        return self.net.op("Mul", [self.net.op("Mul", [x, e]), self.f32(0.5)])

    def layer(self, x, mask):
        x = self.norm(self.net.op("Add", [self.attention(x, mask), x]))
        y = self.linear(self.gelu(self.linear(x, self.width, self.hidden)), self.hidden, self.width, -0.2, 5)
        return self.norm(self.net.op("Add", [y, x]))


def bert(path, layers=12, width=768, heads=12, hidden=3072, vocabulary=1000, labels=2, sparsity=0.0, block=None, seed=1,
         int8=False, products=False):
    """Inputs input_ids and attention_mask (N, S); output (N, labels). Embeddings and classifier stay dense and f32."""
    b = Bert(width, heads, hidden, seed, sparsity, block, int8, products)
    net, one = b.net, b.f32(1)
    mask = net.op("Unsqueeze", ["attention_mask", net.const(np.array([1, 2], np.int64))])
    mask = net.op("Mul", [net.op("Sub", [one, net.op("Cast", [mask], to=FLOAT)]), b.f32(-10000)])
    table = net.const(net.rng.normal(size=(vocabulary, width)).astype(np.float32), "embeddings")
    x = b.norm(net.op("Gather", [table, "input_ids"]))
    for _ in range(layers):
        x = b.layer(x, mask)
    x = net.op("Gather", [x, net.const(np.int64(0))], axis=1)
    b.sparsity, b.int8 = 0, False
    net.save(path, ["input_ids", "attention_mask"], ["N", "S"], b.linear(x, width, labels), ["N", labels], INT64)


BLOCKS = {"1x4": (1, 4), "4x1": (4, 1), "2x1": (2, 1)}  # output x input channels


def thin(w, sparsity, block):
    """Zeros where the weights (or blocks of them: a key of BLOCKS) are smallest, the same share in every layer."""
    if not sparsity:
        return w
    size = np.abs(w)
    rows, inputs = BLOCKS.get(block, (1, 1))
    if w.shape[0] % rows == 0 and w.shape[1] % inputs == 0:
        parts = size.reshape(w.shape[0] // rows, rows, w.shape[1] // inputs, inputs, *w.shape[2:])
        size = np.broadcast_to(parts.sum((1, 3), keepdims=True), parts.shape).reshape(w.shape)
    return np.where(size > np.quantile(size, sparsity), w, 0).astype(np.float32)


class Layers:
    """Convolutions and the like, f32 or Q/DQ. A quantized value is passed on dequantized."""

    def __init__(self, seed, int8, sparsity, block):
        self.net, self.int8, self.sparsity, self.block = Net(seed), int8, sparsity, block
        self.scale = {}  # of dequantized values

    def quantize(self, x, scale, zero):
        if not self.int8:
            return x
        s, z = self.net.const(np.float32(scale)), self.net.const(np.uint8(zero))
        y = self.net.op("DequantizeLinear", [self.net.op("QuantizeLinear", [x, s, z]), s, z])
        self.scale[y] = scale
        return y

    def weights(self, x, w, bias):
        """Inputs of a layer for weights (O, ...)."""
        if not self.int8:
            return [x, self.net.const(w, "w"), self.net.const(bias, "b")]
        scale = (np.abs(w).reshape(w.shape[0], -1).max(1) / 127).astype(np.float32)
        scale[scale == 0] = 1 / 127  # a channel of zeros
        q = np.clip(np.rint(w / scale.reshape(-1, *[1] * (w.ndim - 1))), -127, 127).astype(np.int8)
        unit = (scale * np.float32(self.scale[x])).astype(np.float32)
        zero = np.zeros(w.shape[0], np.int8)
        dw = self.net.op("DequantizeLinear", [self.net.const(q, "w"), self.net.const(scale), self.net.const(zero)], axis=0)
        db = self.net.op("DequantizeLinear", [self.net.const(np.rint(bias / unit).astype(np.int32), "b"),
                                              self.net.const(unit), self.net.const(np.zeros(w.shape[0], np.int32))], axis=0)
        return [x, dw, db]

    def random(self, shape, gain, dense=False):
        w = self.net.rng.laplace(size=shape).astype(np.float32)
        w = w if dense else thin(w, self.sparsity, self.block)
        norm = np.sqrt((w * w).reshape(shape[0], -1).sum(1) + 1e-6).reshape(-1, *[1] * (len(shape) - 1))
        return (w * (gain / norm)).astype(np.float32), (self.net.rng.normal(size=shape[0]) * 0.1).astype(np.float32)

    def conv(self, x, c, o, k, stride=1, relu=True, gain=1.0, dense=False):
        w, b = self.random((o, c, k, k), gain * 1.4, dense)
        y = self.net.op("Conv", self.weights(x, w, b), kernel_shape=[k, k], strides=[stride, stride], pads=[k // 2] * 4)
        y = self.net.op("Relu", [y]) if relu else y
        return self.quantize(y, 6 / 255 if relu else 10 / 255, 0 if relu else 128)

    def add_relu(self, a, b):
        return self.quantize(self.net.op("Relu", [self.net.op("Add", [a, b])]), 8 / 255, 0)


def resnet50(path, int8=False, sparsity=0.0, block=None, seed=1):
    """The stem (3 input channels) and the classifier stay dense, as pruning recipes leave them."""
    l = Layers(seed, int8, sparsity, block)
    x = l.quantize("input", 0.02, 128)
    x = l.conv(x, 3, 64, 7, 2, dense=True)
    x = l.net.op("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    x = l.quantize(x, 6 / 255, 0)
    c = 64
    for stage, (width, blocks) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)]):
        for i in range(blocks):
            stride = 2 if stage and i == 0 else 1
            y = l.conv(x, c, width, 1)
            y = l.conv(y, width, width, 3, stride)
            y = l.conv(y, width, 4 * width, 1, relu=False, gain=0.5)
            x = l.add_relu(y, l.conv(x, c, 4 * width, 1, stride, relu=False, gain=0.8) if i == 0 else x)
            c = 4 * width
    x = l.quantize(l.net.op("GlobalAveragePool", [x]), 4 / 255, 0)
    x = l.net.op("Flatten", [x])
    if int8:
        l.scale[x] = 4 / 255
    w, b = l.random((1000, c), 1.0, dense=True)
    x = l.net.op("Gemm", l.weights(x, w, b), transB=1)
    l.net.save(path, "input", ["N", 3, 224, 224], x, ["N", 1000])
