"""api_rig.py: models, pictures and a running winnowd for test_api.py."""
import http.client
import json
import os
import signal
import struct
import subprocess
import sys
import time
import zlib

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import onnx_bytes as ob  # noqa: E402

BUILD = os.environ.get("BUILD", "build")
WINNOWD = os.path.join(BUILD, "winnowd")
# ---- models ----
TYPES = {"F32": (1, np.float32), "F64": (11, np.float64), "I8": (3, np.int8), "I32": (6, np.int32),
         "I64": (7, np.int64),
         "U8": (2, np.uint8), "B": (9, np.bool_)}
OIP = {"F32": "FP32", "F64": "FP64", "I8": "INT8", "I32": "INT32", "I64": "INT64", "U8": "UINT8", "B": "BOOL"}


def types_model():
    nodes = [ob.node("Identity", [f"in{k}"], [f"out{k}"]) for k in TYPES]
    return ob.model(ob.graph(nodes, [ob.value(f"in{k}", t, ["N", 2]) for k, (t, _) in TYPES.items()],
                             [ob.value(f"out{k}", t, ["N", 2]) for k, (t, _) in TYPES.items()]))


def slow_model(side=400, layers=40):
    """A row costs some tens of milliseconds, also where 16 floats are multiplied at once."""
    w = np.full((side, side), 1e-4, np.float32).tobytes()
    nodes, last = [], "x"
    for i in range(layers):
        nodes.append(ob.node("MatMul", [last, "W"], [f"h{i}"], f"m{i}"))
        last = f"h{i}"
    return ob.model(ob.graph(nodes, [ob.value("x", ob.F32, ["N", 200, side])],
                             [ob.value(last, ob.F32, ["N", 200, side])],
                             [ob.tensor("W", ob.F32, [side, side], w)]))


def png(pixels):
    h, w = pixels.shape
    raw = b"".join(b"\0" + bytes(row) for row in pixels.astype(np.uint8))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 0, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))


def put(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data.encode() if isinstance(data, str) else data)


def put_version(root, model, version, data, **files):
    """As a careful person would: a folder that appears by rename."""
    tmp = f"{root}/.new-{model}-{version}"
    put(f"{tmp}/model.onnx", data)
    for name, text in files.items():
        put(f"{tmp}/{name.replace('_', '.')}", text)
    os.makedirs(f"{root}/{model}", exist_ok=True)
    os.rename(tmp, f"{root}/{model}/{version}")


CONFIG = """
server:
  listen: ["127.0.0.1:0", "127.0.0.1:0"]
  max_body: 8MiB
  drain_lag: %(lag)s
  drain_timeout: 10s
models:
  repositories: [repo]
  state: state
  poll: 200ms
  settle: 0
batch:
  queue_requests: 24
  max_batch: 32
jobs:
  enabled: false
log:
  access: true
"""


class Daemon:
    def __init__(self, folder, lag="300ms"):
        self.folder, self.log = folder, open(f"{folder}/log", "ab")
        self.config = f"{folder}/winnowd.yaml"
        put(self.config, CONFIG % {"lag": lag})
        ports = f"{folder}/ports"
        if os.path.exists(ports):
            os.unlink(ports)
        self.process = subprocess.Popen([WINNOWD, "--config", self.config], stdout=self.log, stderr=self.log,
                                        env={**os.environ, "WINNOW_PORT_FILE": ports})
        end = time.monotonic() + 20
        while not os.path.exists(ports) and time.monotonic() < end and self.process.poll() is None:
            time.sleep(0.01)
        with open(ports) as f:
            self.ports = [int(line.rsplit(":", 1)[1]) for line in f]
        self.port = self.ports[0]
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.address}"

    def wait_ready(self, seconds=20):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.http("GET", "/v2/health/ready")[0] == 200:
                return True
            time.sleep(0.02)
        return False

    def http(self, method, path, body=None, headers=None, port=None):
        """(status, headers in lower case, body)"""
        c = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=30)
        try:
            c.request(method, path, body, headers or {})
            r = c.getresponse()
            return r.status, {k.lower(): v for k, v in r.getheaders()}, r.read()
        finally:
            c.close()

    def json(self, method, path, body=None, headers=None):
        status, h, text = self.http(method, path, json.dumps(body) if body is not None else None, headers)
        try:
            return status, h, json.loads(text) if text else None
        except ValueError:
            return status, h, text

    def text(self):
        with open(f"{self.folder}/log", "rb") as f:
            return f.read().decode(errors="replace")

    def stop(self, sig=signal.SIGTERM, seconds=20):
        self.process.send_signal(sig)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return "hung"


def until(what, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        v = what()
        if v:
            return v
        time.sleep(0.05)
    return what()
