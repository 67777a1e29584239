"""libwinnow's C API from Python, for tests that run one model many times."""
import ctypes
import os
import pathlib

import numpy as np

BUILD = pathlib.Path(os.environ.get("BUILD", "build"))
MAX_RANK = 8
DTYPES = {1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_,
          10: np.float16, 11: np.float64, 12: np.uint32, 13: np.uint64}
NUMBERS = {np.dtype(v): k for k, v in DTYPES.items()}


class Err(ctypes.Structure):
    _fields_ = [("status", ctypes.c_int), ("msg", ctypes.c_char * 240)]


class Tensor(ctypes.Structure):
    _fields_ = [("dtype", ctypes.c_int), ("rank", ctypes.c_uint), ("shape", ctypes.c_int64 * MAX_RANK),
                ("data", ctypes.c_void_p), ("bytes", ctypes.c_size_t)]


class Io(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("dtype", ctypes.c_int), ("rank", ctypes.c_uint),
                ("shape", ctypes.c_int64 * MAX_RANK), ("dim_name", ctypes.c_char_p * MAX_RANK)]


class Opts(ctypes.Structure):
    _fields_ = [("max_file_bytes", ctypes.c_size_t), ("max_memory_bytes", ctypes.c_size_t),
                ("reference", ctypes.c_bool)]


class Failed(Exception):
    pass


def library():
    """Raises OSError where the library cannot be loaded, as when it was built with a sanitizer."""
    lib = ctypes.CDLL(str(BUILD / "libwinnow.so"))
    lib.winnow_model_rows_independent.restype = ctypes.c_bool
    for f in (lib.winnow_model_input, lib.winnow_model_output):
        f.restype = ctypes.POINTER(Io)
    return lib


class Model:
    def __init__(self, path, threads=1, reference=False):
        self.lib, self.err = library(), Err()
        self.model, self.pool, self.scratch = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
        self.check(self.lib.winnow_model_load(str(path).encode(), ctypes.byref(Opts(reference=reference)),
                                              ctypes.byref(self.model), ctypes.byref(self.err)))
        if threads > 1:
            self.check(self.lib.winnow_pool_new(threads, ctypes.byref(self.pool), ctypes.byref(self.err)))
        self.check(self.lib.winnow_scratch_new(self.model, self.pool, ctypes.byref(self.scratch),
                                               ctypes.byref(self.err)))
        ios = [[f(self.model, i).contents for i in range(n(self.model))]
               for f, n in ((self.lib.winnow_model_input, self.lib.winnow_model_n_inputs),
                            (self.lib.winnow_model_output, self.lib.winnow_model_n_outputs))]
        self.inputs, self.outputs = ios

    def check(self, status):
        if status:
            raise Failed(self.err.msg.decode(errors="replace"))

    def limit(self, loops_ns, until_ns=0):
        """What further runs may take: winnow_scratch_limit()."""
        self.lib.winnow_scratch_limit(self.scratch, ctypes.c_uint64(loops_ns), ctypes.c_uint64(until_ns))

    def close(self):
        self.lib.winnow_scratch_free(self.scratch)
        self.lib.winnow_pool_free(self.pool)
        self.lib.winnow_model_unref(self.model)

    def rows_independent(self):
        """(True, None), or (False, why)."""
        why = ctypes.c_char_p()
        ok = self.lib.winnow_model_rows_independent(self.model, ctypes.byref(why))
        return bool(ok), None if ok else why.value.decode()

    def run(self, feed):
        """Outputs by name for inputs by name."""
        arrays = [np.array(feed[i.name.decode()], DTYPES[i.dtype], order="C") for i in self.inputs]
        x, y = (Tensor * len(arrays))(), (Tensor * len(self.outputs))()
        for t, a in zip(x, arrays):
            t.dtype, t.rank, t.data, t.bytes = NUMBERS[a.dtype], a.ndim, a.ctypes.data, a.nbytes
            t.shape[:a.ndim] = a.shape
        self.check(self.lib.winnow_run(self.model, self.scratch, x, len(x), y, len(y), ctypes.byref(self.err)))
        out = {}
        for io, t in zip(self.outputs, y):
            raw = ctypes.string_at(t.data, t.bytes) if t.bytes else b""
            out[io.name.decode()] = np.frombuffer(raw, DTYPES[t.dtype]).reshape(list(t.shape[:t.rank])).copy()
        return out
