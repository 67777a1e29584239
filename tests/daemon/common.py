"""common.py: what tests of a whole winnowd share: counting, pictures of four shapes, a base model, a daemon on a free port."""
import json
import os
import pathlib
import random
import signal
import struct
import subprocess
import threading
import time
import zipfile
import zlib

BUILD = pathlib.Path(os.environ.get("BUILD", "build")).absolute()
WINNOWD, CLI, WORKER, MAKE_CNN = (BUILD / p for p in ("winnowd", "winnow", "winnow-worker", "tests/make_cnn"))
KINDS = ["bars", "cross", "disc", "ring"]
SIDE = 16
PIPELINE = "task: image_classification\nscale: 1/255\nmean: 0.2\nstd: 0.3\nlabels: labels.txt\nsoftmax: true\n"
lock = threading.Lock()
counts = {"passed": 0, "failed": 0, "left out": 0}


def check(name, good, detail=""):
    with lock:
        counts["passed" if good else "failed"] += 1
        why = "" if good else f"   # {detail!r:.600}"
        print(f"{'ok' if good else 'not ok'} {counts['passed'] + counts['failed']} - {name}{why}", flush=True)
    return bool(good)


def left_out(name, why):
    with lock:
        counts["left out"] += 1
        print(f"ok - {name} # left out: {why}", flush=True)


def end():
    """The last line; the exit code."""
    more = f", {counts['left out']} left out" if counts["left out"] else ""
    print(f"{counts['passed']} passed, {counts['failed']} failed{more}", flush=True)
    return 1 if counts["failed"] else 0


def wait_for(what, seconds=30, pause=0.02):
    """The first value that is true; None where there was none for so long. Looks once more when the time is over: the
    machine may have stood still since the last look."""
    until = time.monotonic() + seconds
    while True:
        over = time.monotonic() >= until
        value = what()
        if value:
            return value
        if over:
            return None
        time.sleep(pause)


def put(path, data):
    """A file that appears by rename, and the folders it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(path.name + ".new").write_bytes(data)
    os.rename(path.with_name(path.name + ".new"), path)


# ---- pictures ----

def png(w, h, px):
    """8-bit grey."""
    raw = b"".join(b"\0" + bytes(px[y * w:(y + 1) * w]) for y in range(h))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 0, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))


def shape(kind, rng):
    cx, cy, r, fg = rng.randint(5, SIDE - 6), rng.randint(5, SIDE - 6), rng.randint(3, 5), rng.randint(140, 255)
    px = []
    for y in range(SIDE):
        for x in range(SIDE):
            dx, dy = x - cx, y - cy
            d = (dx * dx + dy * dy) ** 0.5
            on = {"disc": d <= r, "ring": r - 1 <= d <= r + .5,
                  "cross": (abs(dx) <= 1 or abs(dy) <= 1) and max(abs(dx), abs(dy)) <= r,
                  "bars": abs(dx) <= r and abs(dy) <= r and y % 3 == 0}[kind]
            px.append(max(0, min(255, (fg if on else 30) + rng.randint(-30, 30))))
    return px


def pictures(seed, per_kind, kinds=KINDS, names=None, shuffled=False):
    """{"LABEL/NUMBER.png": bytes}; `names`: label names instead of the kinds; shuffled: labels that say nothing."""
    rng = random.Random(seed)
    names = names or kinds
    return {f"{rng.choice(names) if shuffled else name}/{seed}-{kind}-{i}.png": png(SIDE, SIDE, shape(kind, rng))
            for kind, name in zip(kinds, names) for i in range(per_kind)}


def make_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for name, data in files.items():
            z.writestr(name, data)
    return path


def make_base(folder, labels=KINDS, kind="bn", beside=False):
    """A version's folder with an untrained network; `beside`: its weights in model.onnx.data."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    subprocess.run([MAKE_CNN, folder / "model.onnx", "1", str(SIDE), str(len(labels)), "3", kind,
                    *(["beside"] if beside else [])], check=True)
    (folder / "labels.txt").write_text("".join(f"{x}\n" for x in labels))
    (folder / "pipeline.yaml").write_text(PIPELINE)
    return folder


# ---- a daemon ----

class Daemon:
    """winnowd in `folder`, with its log there. `config`: the settings, as text."""

    def __init__(self, folder, config, preexec=None, wait=True):
        self.folder, self.preexec = pathlib.Path(folder), preexec
        self.yaml, self.ports = self.folder / "winnowd.yaml", self.folder / "ports"
        self.yaml.write_text(config)
        self.process = None
        self.start(wait)

    def start(self, wait=True):
        self.ports.unlink(missing_ok=True)
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen([WINNOWD, "--config", self.yaml], stderr=log, preexec_fn=self.preexec,
                                            env={**os.environ, "WINNOW_PORT_FILE": str(self.ports)})
        if not wait:
            return
        wait_for(lambda: self.ports.exists() or self.process.poll() is not None, 20)
        if self.process.poll() is not None:
            raise RuntimeError("winnowd did not start: " + self.log()[-4000:])
        self.port = int(self.ports.read_text().split()[0].rsplit(":", 1)[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def log(self):
        return (self.folder / "log").read_text(errors="replace")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, seconds=20):
        """Exit code; None when it had to be killed."""
        if self.process.poll() is not None:
            return self.process.returncode
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None

    def curl(self, path, *options):
        """(status, body): the body as JSON where it is, else as text."""
        p = subprocess.run(["curl", "-sS", "-m", "60", "-w", "\n%{http_code}", *map(str, options), self.url + path],
                           capture_output=True)
        text, _, code = p.stdout.decode("utf-8", "replace").rpartition("\n")
        try:
            return int(code or 0), json.loads(text)
        except ValueError:
            return int(code or 0), text or p.stderr.decode()
