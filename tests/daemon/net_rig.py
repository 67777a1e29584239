"""net_rig.py: net_server and raw HTTP/2 for test_net.py and test_tls.py, in clear text or under TLS.

Standard library; certificates by the openssl program."""
import os
import re
import resource
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time

BUILD = os.environ.get("BUILD", "build")
SERVER = os.path.join(BUILD, "tests", "net_server")
SANITIZED = any(s in os.path.basename(BUILD) for s in ("address", "undefined", "thread"))
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONT = range(10)
END_STREAM, END_HEADERS, ACK = 1, 4, 1
ENHANCE_YOUR_CALM = 11
lock = threading.Lock()
passed = failed = 0
prefix = ""   # before the name of every check


def check(name, good, detail=""):
    global passed, failed
    with lock:
        passed, failed = passed + bool(good), failed + (not good)
        why = "" if good else f"   # {detail!r:.300}"
        print(f"{'ok' if good else 'not ok'} {passed + failed} - {prefix}{name}{why}", flush=True)


def end():
    """The last line; the exit code."""
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def certificate(folder, name="localhost", days=2, curve="prime256v1"):
    """cert.pem and key.pem in `folder`, self-signed."""
    p = subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", f"ec_paramgen_curve:{curve}", "-nodes",
                        "-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem", "-days", str(days),
                        "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
                       capture_output=True)
    if p.returncode:
        raise RuntimeError(p.stderr.decode())
    return folder


def client_context(folder, alpn=(), low=ssl.TLSVersion.TLSv1_2, high=ssl.TLSVersion.TLSv1_3):
    c = ssl.create_default_context(cafile=f"{folder}/cert.pem")
    c.minimum_version, c.maximum_version = low, high
    if alpn:
        c.set_alpn_protocols(list(alpn))
    return c


class Server:
    """net_server; `tls`: a folder with a certificate, and every connection is under TLS."""

    def __init__(self, *options, nofile=None, tls=None):
        self.tls = tls
        options = [*options, *(("--tls", tls) if tls else ())]
        limit = (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (nofile, nofile))) if nofile else None
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen([SERVER, *options], stdout=subprocess.PIPE, stderr=self.errors,
                                        preexec_fn=limit)
        line = self.line()
        while not line.startswith("port "):
            if not line:
                raise RuntimeError("net_server did not start")
            line = self.line()
        self.port = int(line.split()[1])
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    def line(self):
        return self.process.stdout.readline().decode()

    def tcp(self, timeout=10, rcvbuf=None):
        s = socket.socket()
        if rcvbuf:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        s.settimeout(timeout)
        s.connect(("127.0.0.1", self.port))
        return s

    def connect(self, timeout=10, rcvbuf=None, alpn=()):
        s = self.tcp(timeout, rcvbuf)
        if not self.tls:
            return s
        try:
            return client_context(self.tls, alpn).wrap_socket(s, server_hostname="localhost")
        except OSError:
            s.close()
            raise

    def stats(self):
        text = self.curl("/stats")
        return {k: int(v) for k, v in (line.split() for line in text.splitlines())}

    def curl(self, path, *options):
        trust = ("--cacert", f"{self.tls}/cert.pem") if self.tls else ()
        p = subprocess.run(["curl", "-sS", "-m", "30", *trust, *options, self.url + path], capture_output=True)
        return p.stdout.decode("latin-1") if p.returncode == 0 else f"curl {p.returncode}: {p.stderr.decode()}"

    def wait_stat(self, name, want, seconds=5):
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.stats()[name] != want:
            time.sleep(0.05)
        return self.stats()[name]

    def stop(self, name):
        self.process.send_signal(signal.SIGTERM)
        try:
            out = self.process.communicate(timeout=10)[0]
        except subprocess.TimeoutExpired:
            self.process.kill()
            out = b"hung"
        self.errors.seek(0)
        errors = self.errors.read()
        check(f"{name}: server drains and ends, nothing on stderr",
              b"drained" in out and self.process.returncode == 0 and not errors,
              (out, self.process.returncode, errors[:2000]))

    def rss(self):
        with open(f"/proc/{self.process.pid}/status") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))


def read_all(s, seconds=5):
    """Everything until the peer closes; None in second place when it did not."""
    got, end = b"", time.monotonic() + seconds
    while True:
        s.settimeout(max(0.01, end - time.monotonic()))
        try:
            part = s.recv(65536)
        except (socket.timeout, TimeoutError):
            return got, None
        except OSError:
            return got, True
        if not part:
            return got, True
        got += part


def read_now(s):
    """What is there already; None: nothing."""
    s.settimeout(0)
    try:
        return s.recv(1000)
    except (BlockingIOError, ssl.SSLWantReadError):
        return None
    finally:
        s.settimeout(10)


def raw(server, data, seconds=5, alpn=()):
    s = server.connect(alpn=alpn)
    try:
        s.sendall(data)
    except OSError:
        pass
    got = read_all(s, seconds)
    s.close()
    return got


# ---- HTTP/2 frames ----
def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name, value):
    def string(b):
        assert len(b) < 16000
        if len(b) < 127:
            return bytes([len(b)]) + b
        rest, out = len(b) - 127, b"\x7f"
        while rest >= 128:
            out, rest = out + bytes([rest % 128 + 128]), rest // 128
        return out + bytes([rest]) + b
    return b"\x00" + string(name) + string(value)


def head(method=b"GET", path=b"/hello", *extra):
    pairs = [(b":method", method), (b":scheme", b"http"), (b":path", path), (b":authority", b"x"), *extra]
    return b"".join(literal(n, v) for n, v in pairs)


def request(stream, method=b"GET", path=b"/hello", end=True, *extra):
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, head(method, path, *extra))


class H2:
    def __init__(self, server, settings=b"", **options):
        self.s = server.connect(alpn=["h2"], **options)
        self.buffer = b""
        self.s.sendall(PREFACE + frame(SETTINGS, 0, 0, settings))
        self.frames(2, lambda f: f[0] == SETTINGS and f[1] & ACK)

    def send(self, data):
        try:
            self.s.sendall(data)
            return True
        except OSError:
            return False

    def frames(self, seconds=3, until=None):
        """Frames until the peer closes, time is up, or until(frame)."""
        got, end = [], time.monotonic() + seconds
        while True:
            while len(self.buffer) >= 9:
                n = int.from_bytes(self.buffer[:3], "big")
                if len(self.buffer) < 9 + n:
                    break
                f = (self.buffer[3], self.buffer[4], int.from_bytes(self.buffer[5:9], "big"), self.buffer[9:9 + n])
                self.buffer = self.buffer[9 + n:]
                got.append(f)
                if f[0] == SETTINGS and not f[1] & ACK:
                    self.send(frame(SETTINGS, ACK, 0))
                if until and until(f):
                    return got, False
            self.s.settimeout(max(0.01, end - time.monotonic()))
            try:
                part = self.s.recv(65536)
            except (socket.timeout, TimeoutError):
                return got, False
            except OSError:
                return got, True
            if not part:
                return got, True
            self.buffer += part


def ended(stream):
    return lambda f: f[2] == stream and ((f[0] in (DATA, HEADERS) and f[1] & END_STREAM) or f[0] == RST)


def goaway_codes(frames):
    return [int.from_bytes(f[3][4:8], "big") for f in frames if f[0] == GOAWAY]


