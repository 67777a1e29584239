"""Nets with made-up weights for benchmarks: ONNX written by hand (field numbers of onnx.proto3), no onnx package needed.

resnet50() is version 1.5 (the stride is in the 3x3 convolution) with batch normalization folded. Weights follow a Laplace
distribution, as trained ones roughly do, scaled so that activations stay near 1; zeros are the smallest weights, one by
one or in blocks: 1x4 (four input channels), 4x1 or 2x1 (output channels). int8: u8 activations, s8 weights per output channel in -127 ... 127,
Q and DQ around every layer, as quantizing tools export it; integer: the same net in products of integers (ConvInteger,
MatMulInteger), which DeepSparse wants."""
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
        self.nodes.append((blob(1, body), inputs, out))
        return out

    def wanted(self, y):
        """Nodes that y depends on, in order."""
        need, kept = {y}, []
        for body, inputs, out in reversed(self.nodes):
            if out in need:
                need.update(inputs)
                kept.append(body)
        return kept[::-1]

    def info(self, field, name, shape, kind=FLOAT):
        dims = b"".join(blob(1, num(1, d) if isinstance(d, int) else blob(2, d)) for d in shape)
        return blob(field, blob(1, name) + blob(2, blob(1, num(1, kind) + blob(2, dims))))

    def save(self, path, x, x_shape, y, y_shape, x_kind=FLOAT):
        """x: the input's name, or a list of them."""
        last = blob(1, blob(1, y) + blob(2, "output") + blob(3, "output") + blob(4, "Identity"))
        graph = b"".join(self.wanted(y)) + last + blob(2, "net") + b"".join(self.consts)
        graph += b"".join(self.info(11, name, x_shape, x_kind) for name in ([x] if isinstance(x, str) else x))
        graph += self.info(12, "output", y_shape)
        with open(path, "wb") as f:
            f.write(num(1, 8) + blob(2, "winnow bench") + blob(7, graph) + blob(8, num(2, 17)))


class Bert:
    """The encoder of a BERT with its embeddings, in the words of PyTorch's exporter (opset 17, decomposed GELU).
    int8: what stands before every layer, and with `products` before both products of attention, is quantized per tensor
    (u8) in a Q/DQ pair; weights are s8 per output channel; biases, residuals and normalizations stay f32.
    whole: pairs stand around GELU, residual sums and normalizations too, as quantizers write them that take all kinds of
    operators: between two layers every tensor is bytes."""

    def __init__(self, width, heads, hidden, seed, sparsity, block, int8=False, products=False, integer=False, whole=False):
        self.net, self.width, self.heads, self.hidden = Net(seed), width, heads, hidden
        self.sparsity, self.block, self.int8, self.products, self.integer = sparsity, block, int8, products, integer
        self.whole = whole
        self.pairs, self.quantized = {}, {}

    def f32(self, x):
        return self.net.const(np.float32(x))

    def quantize(self, x, lo, hi, wanted=True):
        """x through a Q/DQ pair for lo ... hi; one pair per value, whoever reads it."""
        if not (self.int8 and wanted):
            return x
        if x not in self.pairs:
            scale = (hi - lo) / 255
            s, z = self.f32(scale), self.net.const(np.uint8(round(-lo / scale)))
            q = self.net.op("QuantizeLinear", [x, s, z])
            self.pairs[x] = self.net.op("DequantizeLinear", [q, s, z])
            self.quantized[self.pairs[x]] = q, s, z, scale
        return self.pairs[x]

    def product(self, x, inner, outer):
        """x W in integers: MatMulInteger, then the scales."""
        q, _, z, scale = self.quantized[x]
        w, ws = self.weights(inner, outer)
        zero = self.net.const(np.zeros((), np.int8))
        y = self.net.op("Cast", [self.net.op("MatMulInteger", [q, w, z, zero])], to=FLOAT)
        return self.net.op("Mul", [y, self.net.const(np.float32(ws * scale))])

    def quantized_product(self, a, b, lo, hi):
        """a b of activations: QLinearMatMul for lo ... hi."""
        scale = (hi - lo) / 255
        s, z = self.f32(scale), self.net.const(np.uint8(round(-lo / scale)))
        (qa, sa, za, _), (qb, sb, zb, _) = self.quantized[a], self.quantized[b]
        return self.net.op("DequantizeLinear", [self.net.op("QLinearMatMul", [qa, sa, za, qb, sb, zb, s, z]), s, z])

    def weights(self, inner, outer):
        """(inner, outer), as MatMul reads it; pruned in rows of the transposed matrix."""
        w = self.net.rng.laplace(size=(outer, inner)).astype(np.float32)
        w = thin(w, self.sparsity, self.block)
        w = (w / np.sqrt((w * w).sum(1, keepdims=True) + 1e-6)).astype(np.float32)
        if not self.int8:
            return self.net.const(w.T, "w")
        if self.integer:
            scale = np.abs(w).max() / 127
            return self.net.const(np.clip(np.rint(w / scale), -127, 127).astype(np.int8).T, "w"), scale
        scale = (np.abs(w).max(1) / 127).astype(np.float32)
        scale[scale == 0] = 1 / 127  # a channel of zeros
        q = np.clip(np.rint(w / scale[:, None]), -127, 127).astype(np.int8)
        zero = self.net.const(np.zeros(outer, np.int8))
        return self.net.op("DequantizeLinear", [self.net.const(q.T, "w"), self.net.const(scale), zero], axis=1)

    def linear(self, x, inner, outer, lo=-6, hi=6):
        """lo ... hi: of the input."""
        bias = (self.net.rng.normal(size=outer) * 0.1).astype(np.float32)
        x = self.quantize(x, lo, hi)
        if self.int8 and self.integer:
            y = self.product(x, inner, outer)
        else:
            y = self.net.op("MatMul", [x, self.weights(inner, outer)])
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
        whole = self.integer and self.products
        s = self.quantized_product(q, k, -60, 60) if whole else self.net.op("MatMul", [q, k])
        s = self.net.op("Div", [s, self.f32((self.width // self.heads) ** 0.5)])
        p = self.net.op("Softmax", [self.net.op("Add", [s, mask])], axis=-1)
        p = self.quantize(p, 0, 1, self.products)
        y = self.quantized_product(p, v, -3, 3) if whole else self.net.op("MatMul", [p, v])
        y = self.net.op("Transpose", [y], perm=[0, 2, 1, 3])
        y = self.net.op("Reshape", [y, self.net.const(np.array([0, 0, self.width], np.int64))])
        return self.linear(y, self.width, self.width, -3, 3)

    def gelu(self, x):
        e = self.net.op("Add", [self.net.op("Erf", [self.net.op("Div", [x, self.f32(2 ** 0.5)])]), self.f32(1)])
        return self.net.op("Mul", [self.net.op("Mul", [x, e]), self.f32(0.5)])

    def add_norm(self, y, x):
        y, x = (self.quantize(v, -6, 6, self.whole) for v in (y, x))
        return self.norm(self.quantize(self.net.op("Add", [y, x]), -9, 9, self.whole))

    def layer(self, x, mask):
        x = self.add_norm(self.attention(x, mask), x)
        y = self.gelu(self.quantize(self.linear(x, self.width, self.hidden), -5, 5, self.whole))
        return self.add_norm(self.linear(y, self.hidden, self.width, -0.2, 5), x)


def bert(path, layers=12, width=768, heads=12, hidden=3072, vocabulary=1000, labels=64, sparsity=0.0, block=None, seed=1,
         int8=False, products=False, integer=False, whole=False):
    """Inputs input_ids and attention_mask (N, S); output (N, labels). Embeddings and classifier stay dense and f32."""
    b = Bert(width, heads, hidden, seed, sparsity, block, int8, products, integer, whole)
    net, one = b.net, b.f32(1)
    mask = net.op("Unsqueeze", ["attention_mask", net.const(np.array([1, 2], np.int64))])
    mask = net.op("Mul", [net.op("Sub", [one, net.op("Cast", [mask], to=FLOAT)]), b.f32(-10000)])
    table = net.const(net.rng.normal(size=(vocabulary, width)).astype(np.float32), "embeddings")
    x = b.norm(net.op("Gather", [table, "input_ids"]))
    for _ in range(layers):
        x = b.layer(x, mask)
    x = net.op("Gather", [b.quantize(x, -6, 6, whole), net.const(np.int64(0))], axis=1)
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

    def __init__(self, seed, int8, sparsity, block, integer=False):
        self.net, self.int8, self.sparsity, self.block, self.integer = Net(seed), int8, sparsity, block, integer
        self.scale = {}  # of dequantized values
        self.quantized = {}  # u8 values and their zero points, by dequantized ones

    def quantize(self, x, scale, zero):
        if not self.int8:
            return x
        s, z = self.net.const(np.float32(scale)), self.net.const(np.uint8(zero))
        q = self.net.op("QuantizeLinear", [x, s, z])
        y = self.net.op("DequantizeLinear", [q, s, z])
        self.scale[y], self.quantized[y] = scale, (q, z)
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

    def product(self, kind, x, w, bias, **attrs):
        """A layer in integers: ConvInteger or MatMulInteger (w is (O, I)), the bias, the scale: one for all channels, for
        DeepSparse takes more than twice as long with one each."""
        scale = np.float32(np.abs(w).max() / 127)
        q = np.clip(np.rint(w / scale), -127, 127).astype(np.int8)
        unit = np.float32(scale * np.float32(self.scale[x]))
        shape = [1, -1] + [1] * (w.ndim - 2)
        value, zero = self.quantized[x]
        y = self.net.op(kind, [value, self.net.const(q if w.ndim > 2 else q.T.copy(), "w"), zero,
                               self.net.const(np.zeros((), np.int8))], **attrs)
        y = self.net.op("Add", [y, self.net.const(np.rint(bias / unit).astype(np.int32).reshape(shape), "b")])
        return self.net.op("Mul", [self.net.op("Cast", [y], to=FLOAT), self.net.const(unit)])

    def layer(self, kind, x, w, bias, **attrs):
        if self.int8 and self.integer:
            attrs.pop("transB", None)
            return self.product({"Conv": "ConvInteger", "Gemm": "MatMulInteger"}[kind], x, w, bias, **attrs)
        return self.net.op(kind, self.weights(x, w, bias), **attrs)

    def random(self, shape, gain, dense=False):
        w = self.net.rng.laplace(size=shape).astype(np.float32)
        w = w if dense else thin(w, self.sparsity, self.block)
        norm = np.sqrt((w * w).reshape(shape[0], -1).sum(1) + 1e-6).reshape(-1, *[1] * (len(shape) - 1))
        return (w * (gain / norm)).astype(np.float32), (self.net.rng.normal(size=shape[0]) * 0.1).astype(np.float32)

    def conv(self, x, c, o, k, stride=1, act="Relu", gain=1.0, dense=False, group=1):
        """act: Relu, Relu6, Silu or None."""
        w, b = self.random((o, c // group, k, k), gain * 1.4, dense or group > 1)
        more = {"group": group} if group > 1 else {}
        y = self.layer("Conv", x, w, b, kernel_shape=[k, k], strides=[stride, stride], pads=[k // 2] * 4, **more)
        if act == "Silu":
            y = self.net.op("Mul", [y, self.net.op("Sigmoid", [y])])
            return self.quantize(y, 7 / 255, round(0.28 * 255 / 7))
        if act == "Relu6":
            y = self.net.op("Clip", [y, self.net.const(np.float32(0)), self.net.const(np.float32(6))])
        elif act:
            y = self.net.op("Relu", [y])
        return self.quantize(y, 6 / 255 if act else 10 / 255, 0 if act else 128)

    def add_relu(self, a, b):
        return self.quantize(self.net.op("Relu", [self.net.op("Add", [a, b])]), 8 / 255, 0)


def resnet50(path, int8=False, sparsity=0.0, block=None, seed=1, integer=False):
    """The stem (3 input channels) and the classifier stay dense, as pruning recipes leave them."""
    l = Layers(seed, int8, sparsity, block, integer)
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
            y = l.conv(y, width, 4 * width, 1, act=None, gain=0.5)
            x = l.add_relu(y, l.conv(x, c, 4 * width, 1, stride, act=None, gain=0.8) if i == 0 else x)
            c = 4 * width
    x = l.quantize(l.net.op("GlobalAveragePool", [x]), 4 / 255, 0)
    x = l.net.op("Flatten", [x])
    head(path, l, x, c, 4 / 255)


def head(path, l, x, c, scale):
    """Flatten and a classifier of 1000 classes; saves the net."""
    x = l.net.op("Flatten", [x])
    if l.int8 and l.integer:
        x = l.quantize(x, scale, 0)
    elif l.int8:
        l.scale[x] = scale
    w, b = l.random((1000, c), 1.0, dense=True)
    l.net.save(path, "input", ["N", 3, 224, 224], l.layer("Gemm", x, w, b, transB=1), ["N", 1000])


def mobilenet(path, int8=False, sparsity=0.0, block=None, seed=1, integer=False):
    """MobileNetV2 1.0. Depthwise layers, the stem and the classifier stay dense."""
    l = Layers(seed, int8, sparsity, block, integer)
    x = l.conv(l.quantize("input", 0.02, 128), 3, 32, 3, 2, act="Relu6", dense=True)
    c = 32
    for t, o, n, s in [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]:
        for i in range(n):
            y = l.conv(x, c, c * t, 1, act="Relu6") if t > 1 else x
            y = l.conv(y, c * t, c * t, 3, s if i == 0 else 1, act="Relu6", group=c * t)
            y = l.conv(y, c * t, o, 1, act=None, gain=0.7)
            x = l.quantize(l.net.op("Add", [x, y]), 12 / 255, 128) if i else y
            c = o
    x = l.conv(x, c, 1280, 1, act="Relu6")
    head(path, l, l.quantize(l.net.op("GlobalAveragePool", [x]), 6 / 255, 0), 1280, 6 / 255)


def mlp(path, int8=False, sparsity=0.0, block=None, seed=1, integer=False, widths=(784, 1024, 1024, 10)):
    """Linear layers over vectors, as for tables. The last one stays dense."""
    l = Layers(seed, int8, sparsity, block, integer)
    x = l.quantize("input", 6 / 255, 128)
    for inner, outer in zip(widths, widths[1:]):
        last = outer == widths[-1]
        x = l.layer("Gemm", x, *l.random((outer, inner), 1.0, dense=last), transB=1)
        if not last:
            x = l.quantize(l.net.op("Relu", [x]), 4 / 255, 0)
    l.net.save(path, "input", ["N", widths[0]], x, ["N", widths[-1]])


class Yolo(Layers):
    """The blocks of YOLOv5, width 0.5 and depth 0.33."""

    def cat(self, values):
        return self.quantize(self.net.op("Concat", values, axis=1), 7 / 255, round(0.28 * 255 / 7))

    def c3(self, x, c, o, n, shortcut=True):
        h = o // 2
        y = self.conv(x, c, h, 1, act="Silu")
        for _ in range(n):
            z = self.conv(self.conv(y, h, h, 1, act="Silu"), h, h, 3, act="Silu", gain=0.5)
            y = self.quantize(self.net.op("Add", [y, z]), 9 / 255, round(0.56 * 255 / 9)) if shortcut else z
        return self.conv(self.cat([y, self.conv(x, c, h, 1, act="Silu")]), o, o, 1, act="Silu")

    def sppf(self, x, c):
        x, h = self.conv(x, c, c // 2, 1, act="Silu"), c // 2
        pools = [x]
        for _ in range(3):
            pools.append(self.net.op("MaxPool", [pools[-1]], kernel_shape=[5, 5], strides=[1, 1], pads=[2, 2, 2, 2]))
        return self.conv(self.cat(pools), 4 * h, c, 1, act="Silu")

    def up(self, x):
        scales = self.net.const(np.float32([1, 1, 2, 2]))
        return self.net.op("Resize", [x, "", scales])

    def decoded(self, x, c, side):
        """(N, 3 * side * side, 85): boxes and scores of a head, as exported with its decoding."""
        w, b = self.random((255, c, 1, 1), 1.0, dense=True)
        y = self.layer("Conv", x, w, b, kernel_shape=[1, 1], strides=[1, 1], pads=[0] * 4)
        y = self.net.op("Reshape", [y, self.net.const(np.array([-1, 3, 85, side, side], np.int64))])
        y = self.net.op("Sigmoid", [self.net.op("Transpose", [y], perm=[0, 1, 3, 4, 2])])
        at = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).astype(np.float32)[None, None] - 0.5
        cut = lambda lo, hi: self.net.op("Slice", [y] + [self.net.const(np.array([v], np.int64)) for v in (lo, hi, 4)])
        two, stride = self.net.const(np.float32(2)), self.net.const(np.float32(640 / side))
        xy = self.net.op("Add", [self.net.op("Mul", [cut(0, 2), two]), self.net.const(at)])
        wh = self.net.op("Mul", [cut(2, 4), two])
        wh = self.net.op("Mul", [self.net.op("Mul", [wh, wh]), self.net.const(np.float32([[[[[30, 40]]], [[[60, 30]]], [[[90, 90]]]]]))])
        y = self.net.op("Concat", [self.net.op("Mul", [xy, stride]), wh, cut(4, 85)], axis=4)
        return self.net.op("Reshape", [y, self.net.const(np.array([-1, 3 * side * side, 85], np.int64))])


def yolov5s(path, int8=False, sparsity=0.0, block=None, seed=1, integer=False):
    """640 x 640, three heads with their decoding, without the suppression of boxes. The first layer and heads stay dense."""
    l = Yolo(seed, int8, sparsity, block, integer)
    x = l.conv(l.quantize("input", 0.02, 128), 3, 32, 6 - 1, 2, act="Silu", dense=True)  # 5x5 where YOLOv5 has 6x6
    x = l.c3(l.conv(x, 32, 64, 3, 2, act="Silu"), 64, 64, 1)
    p3 = l.c3(l.conv(x, 64, 128, 3, 2, act="Silu"), 128, 128, 2)
    p4 = l.c3(l.conv(p3, 128, 256, 3, 2, act="Silu"), 256, 256, 3)
    p5 = l.sppf(l.c3(l.conv(p4, 256, 512, 3, 2, act="Silu"), 512, 512, 1), 512)
    h5 = l.conv(p5, 512, 256, 1, act="Silu")
    h4 = l.conv(l.c3(l.cat([l.up(h5), p4]), 512, 256, 1, False), 256, 128, 1, act="Silu")
    h3 = l.c3(l.cat([l.up(h4), p3]), 256, 128, 1, False)
    n4 = l.c3(l.cat([l.conv(h3, 128, 128, 3, 2, act="Silu"), h4]), 256, 256, 1, False)
    n5 = l.c3(l.cat([l.conv(n4, 256, 256, 3, 2, act="Silu"), h5]), 512, 512, 1, False)
    out = l.net.op("Concat", [l.decoded(h3, 128, 80), l.decoded(n4, 256, 40), l.decoded(n5, 512, 20)], axis=1)
    l.net.save(path, "input", ["N", 3, 640, 640], out, ["N", 25200, 85])
