"""One measurement of one engine, in a process of its own: engines.py ENGINE MODEL.onnx BATCH THREADS SECONDS LENGTH [OUT.npy]

Prints JSON: best and median milliseconds of a run, the time to load, the engine's version, peak memory. Inputs are the
same for every engine: pictures of noise, token ids, masks of ones. OUT.npy: the first output, for comparing."""
import ctypes
import json
import os
import pathlib
import resource
import statistics
import sys
import time

import numpy as np

BUILD = pathlib.Path(os.environ.get("BUILD", "build"))
KINDS = {1: np.float32, 2: np.uint8, 3: np.int8, 6: np.int32, 7: np.int64}  # of ONNX and of struct winnow_tensor


def made_up(name, shape, kind, batch, length):
    """An input: the first extent is the batch where it is free, others are `length`."""
    shape = [d if isinstance(d, int) and d > 0 else batch if i == 0 else length for i, d in enumerate(shape)]
    if np.dtype(kind).kind == "f":
        return np.random.default_rng(1).standard_normal(shape).astype(kind)
    if "mask" in name or "type" in name:
        return np.full(shape, "mask" in name, kind)
    return np.random.default_rng(1).integers(0, 999, shape).astype(kind)


class Tensor(ctypes.Structure):  # struct winnow_tensor
    _fields_ = [("dtype", ctypes.c_int), ("rank", ctypes.c_uint), ("shape", ctypes.c_int64 * 8),
                ("data", ctypes.c_void_p), ("bytes", ctypes.c_size_t)]


class Io(ctypes.Structure):  # the beginning of struct winnow_io
    _fields_ = [("name", ctypes.c_char_p), ("dtype", ctypes.c_int), ("rank", ctypes.c_uint), ("shape", ctypes.c_int64 * 8)]


class Winnow:
    def __init__(self, path, threads=1, batch=1, length=128, library=BUILD / "libwinnow.so"):
        self.lib = ctypes.CDLL(str(library))
        self.lib.winnow_model_input.restype = ctypes.POINTER(Io)
        for name in ("version", "cpu_isa"):
            getattr(self.lib, f"winnow_{name}").restype = ctypes.c_char_p
        self.err, self.pool = ctypes.create_string_buffer(1024), ctypes.c_void_p()
        self.model, self.scratch = ctypes.c_void_p(), ctypes.c_void_p()
        self.check(self.lib.winnow_model_load(str(path).encode(), None, ctypes.byref(self.model), self.err))
        self.check(self.lib.winnow_pool_new(threads, ctypes.byref(self.pool), self.err))
        self.check(self.lib.winnow_scratch_new(self.model, self.pool, ctypes.byref(self.scratch), self.err))
        self.outputs = self.lib.winnow_model_n_outputs(self.model)
        self.version = f"{self.lib.winnow_version().decode()} ({self.lib.winnow_cpu_isa().decode()})"

    def close(self):
        self.lib.winnow_scratch_free(self.scratch)
        self.lib.winnow_pool_free(self.pool)
        self.lib.winnow_model_unref(self.model)

    def check(self, status):
        if status:
            sys.exit(f"winnow: {self.err.raw[4:].split(bytes(1))[0].decode()}")

    def feed(self, batch, length):
        ios = [self.lib.winnow_model_input(self.model, i).contents for i in range(self.lib.winnow_model_n_inputs(self.model))]
        return {io.name.decode(): made_up(io.name.decode(), list(io.shape)[:io.rank], KINDS[io.dtype], batch, length)
                for io in ios}

    def run(self, feed):
        x, y = (Tensor * len(feed))(), (Tensor * self.outputs)()
        for t, a in zip(x, feed.values()):
            t.dtype, t.rank, t.data, t.bytes = next(k for k, v in KINDS.items() if v == a.dtype), a.ndim, a.ctypes.data, a.nbytes
            t.shape[:a.ndim] = a.shape
        self.check(self.lib.winnow_run(self.model, self.scratch, x, len(x), y, self.outputs, self.err))
        return y[0]

    @staticmethod
    def array(y):
        shape = list(y.shape)[:y.rank]
        return np.ctypeslib.as_array(ctypes.cast(y.data, ctypes.POINTER(ctypes.c_float)), shape).copy()


class OnnxRuntime:
    def __init__(self, path, threads=1, batch=1, length=128, plain=False):
        import onnxruntime as ort
        options = ort.SessionOptions()
        if plain:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.version = ort.__version__

    def feed(self, batch, length):
        kinds = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(uint8)": np.uint8}
        return {i.name: made_up(i.name, i.shape, kinds[i.type], batch, length) for i in self.session.get_inputs()}

    def run(self, feed):
        return self.session.run(None, feed)[0]

    array = staticmethod(np.asarray)


class OpenVino:
    def __init__(self, path, threads=1, batch=1, length=128):
        import openvino as ov
        model = ov.Core().read_model(str(path))
        self.shapes = {}
        for i in model.inputs:
            free = [d.get_length() if d.is_static else None for d in i.get_partial_shape()]
            self.shapes[i.get_any_name()] = ([d if d else batch if k == 0 else length for k, d in enumerate(free)],
                                             i.get_element_type().to_dtype())
        model.reshape({n: s for n, (s, _) in self.shapes.items()})
        self.model = ov.Core().compile_model(model, "CPU", {
            "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads})
        self.request, self.version = self.model.create_infer_request(), ov.__version__.split("-")[0]

    def feed(self, batch, length):
        return {n: made_up(n, s, kind, batch, length) for n, (s, kind) in self.shapes.items()}

    def run(self, feed):
        return self.request.infer(feed, share_inputs=True, share_outputs=True)[0]

    array = staticmethod(np.array)


class DeepSparse:
    def __init__(self, path, threads=1, batch=1, length=128):
        os.environ["NM_DISABLE_ANALYTICS"] = "True"
        import deepsparse
        import onnx
        import shutil
        import tempfile
        own = tempfile.NamedTemporaryFile(suffix=".onnx")  # it writes shapes into the file that it is given
        shutil.copyfile(path, own.name)
        path = own.name
        shapes = []
        for i in onnx.load(str(path), load_external_data=False).graph.input:
            dims = [d.dim_value or None for d in i.type.tensor_type.shape.dim]
            shapes.append([d or (batch if k == 0 else length) for k, d in enumerate(dims)])
        self.engine = deepsparse.Engine(str(path), batch_size=batch, num_cores=threads, input_shapes=shapes)
        self.shapes, self.version = shapes, deepsparse.__version__

    def feed(self, batch, length):
        return {n: made_up(n, s, np.float32 if len(s) == 4 else np.int64, batch, length)
                for n, s in zip(self.engine.input_names, self.shapes)}

    def run(self, feed):
        return self.engine.run(list(feed.values()))[0]

    array = staticmethod(np.asarray)


class Reference(OnnxRuntime):
    """ONNX Runtime taking the file literally: what is quantized is computed in f32 between its Q and DQ."""

    def __init__(self, path, threads=1, batch=1, length=128):
        super().__init__(path, threads, batch, length, plain=True)


ENGINES = {"winnow": Winnow, "ort": OnnxRuntime, "reference": Reference, "openvino": OpenVino, "deepsparse": DeepSparse}


def main():
    engine, path, batch, threads, seconds, length = sys.argv[1:7]
    batch, threads, seconds, length = int(batch), int(threads), float(seconds), int(length)
    start = time.perf_counter()
    e = ENGINES[engine](path, threads, batch, length)
    loaded = time.perf_counter()
    feed = e.feed(batch, length)
    y = e.run(feed)
    first = time.perf_counter()
    if len(sys.argv) > 7:
        np.save(sys.argv[7], e.array(y))
    times, end = [], time.perf_counter() + seconds
    while seconds and (time.perf_counter() < end or len(times) < 3):
        begin = time.perf_counter()
        e.run(feed)
        times.append((time.perf_counter() - begin) * 1e3)
    print(json.dumps({"best_ms": min(times, default=0), "p50_ms": statistics.median(times or [0]), "runs": len(times),
                      "load_ms": (loaded - start) * 1e3, "first_ms": (first - loaded) * 1e3, "version": e.version,
                      "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}))


if __name__ == "__main__":
    main()
