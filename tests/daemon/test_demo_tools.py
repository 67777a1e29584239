"""test_demo_tools.py: the demo's tools: maker draws the same letters from the same seed; load counts every answer and
finds one that is not what its generation must say. Standard library only; loopback, free ports."""
import http.server
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import zipfile

BUILD = os.environ.get("BUILD", "build")
MAKER = os.path.join(BUILD, "demo", "maker")
LOAD = os.path.join(BUILD, "demo", "load")
NET = os.path.join(BUILD, "demo", "net")
WINNOWD = os.path.join(BUILD, "winnowd")
passed = failed = 0


def check(name, good, detail=""):
    global passed, failed
    passed, failed = passed + bool(good), failed + (not good)
    print(f"{'ok' if good else 'not ok'} {passed + failed} - {name}{'' if good else f'   # {detail!r:.600}'}", flush=True)


def run(*args):
    return subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, check=False)


def read(path):
    with open(path, "rb") as f:
        return f.read()


# ---- maker ----

def test_maker(dir_):
    a, b, c = (os.path.join(dir_, n) for n in ("a.zip", "b.zip", "c.zip"))
    done = [run(MAKER, "set", "--style", "new", "--number", "60", "--seed", s, f) for s, f in (("7", a), ("7", b), ("8", c))]
    check("maker makes zips", all(d.returncode == 0 for d in done), done)
    check("the same seed gives the same bytes", read(a) == read(b))
    check("another seed does not", read(a) != read(c))
    with zipfile.ZipFile(a) as z:
        names = z.namelist()
        pngs = {n: z.read(n) for n in names}
    check("as many pictures as asked for, all letters", len(names) == 60 and len({n[0] for n in names}) == 26, names)
    heads = {struct.unpack(">IIBB", p[16:26]) for p in pngs.values()}
    check("28x28, 8 bit, grey", heads == {(28, 28, 8, 0)}, heads)
    s = os.path.join(dir_, "s.zip")
    run(MAKER, "set", "--style", "new", "--number", "60", "--seed", "7", "--shuffle", s)
    with zipfile.ZipFile(s) as z:
        shuffled = {n[2:]: (n[0], z.read(n)) for n in z.namelist()}
    check("shuffled: the same pictures, no letter under its own name",
          all(shuffled[n[2:]][1] == p and shuffled[n[2:]][0] != n[0] for n, p in pngs.items()))
    folder = os.path.join(dir_, "folder")
    run(MAKER, "set", "--style", "new", "--number", "60", "--seed", "7", folder)
    check("a folder holds what the zip holds", all(read(os.path.join(folder, n)) == p for n, p in pngs.items()))
    packed = os.path.join(dir_, "packed.zip")
    done = run(MAKER, "pack", packed, folder)
    with zipfile.ZipFile(packed) as z:
        check("pack makes a zip of a folder", done.returncode == 0 and {n: z.read(n) for n in z.namelist()} == pngs)


def test_maker_words(dir_):
    one = os.path.join(dir_, "one.png")
    run(MAKER, "one", "--letter", "T", "--style", "new", "--seed", "16", one)
    lines = run(MAKER, "show", one).stdout.decode().split("\n")
    check("show draws 14 lines", len([x for x in lines if x]) == 14 and any("+" in x for x in lines), lines)
    done = run(MAKER, "one", "--font", "NoSuchFont.ttf", one)
    check("a missing font is named", done.returncode == 1 and b"NoSuchFont.ttf" in done.stderr, done.stderr)
    check("no such action: usage", run(MAKER, "draw", one).returncode == 2)
    check("a letter only", run(MAKER, "one", "--letter", "7", one).returncode == 2)
    broken = os.path.join(dir_, "broken.png")
    with open(broken, "wb") as f:
        f.write(b"no picture")
    check("a broken picture is refused", run(MAKER, "show", broken).returncode == 1)


# ---- load against winnowd ----

def free_ports(n):
    socks = [socket.socket() for _ in range(n)]
    for s in socks:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in socks]
    for s in socks:
        s.close()
    return ports


def put_version(dir_, version, model):
    """As a person would: beside, then by rename."""
    staging = os.path.join(dir_, "repo", f".staging-{version}")
    os.makedirs(staging)
    shutil.copy(model, os.path.join(staging, "model.onnx"))
    for name in ("labels.txt", "pipeline.yaml"):
        shutil.copy(os.path.join("demo/base", name), staging)
    os.makedirs(os.path.join(dir_, "repo", "letters"), exist_ok=True)
    os.rename(staging, os.path.join(dir_, "repo", "letters", str(version)))


def start_winnowd(dir_, ports):
    config = os.path.join(dir_, "winnowd.yaml")
    os.makedirs(os.path.join(dir_, "state"))
    with open(config, "w", encoding="utf-8") as f:
        f.write(f"server:\n  listen: [127.0.0.1:{ports[0]}, 127.0.0.1:{ports[1]}]\nmodels:\n"
                f"  repositories: [{dir_}/repo]\n  state: {dir_}/state\njobs:\n  enabled: false\n")
    with open(os.path.join(dir_, "log"), "wb") as log:
        daemon = subprocess.Popen([WINNOWD, "--config", config], stdout=log, stderr=log)
    for _ in range(200):
        time.sleep(0.05)
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{ports[0]}/v2/models/letters/ready", timeout=2).close()
            return daemon
        except OSError:
            if daemon.poll() is not None:
                break
    return daemon


def load_args(dir_, ports, *more):
    return [LOAD, "--model", "letters", "--models", os.path.join(dir_, "repo", "letters"), "--rest", f"127.0.0.1:{ports[0]}",
            "--grpc", f"127.0.0.1:{ports[1]}", *more]


def last(text):
    lines = [json.loads(x) for x in text.decode().split("\n") if x]
    return lines[-1] if lines else {}


def pictures(dir_):
    folder = os.path.join(dir_, "asked")
    run(MAKER, "set", "--style", "new", "--number", "8", "--seed", "3", folder)
    return sorted(os.path.join(d, f) for d, _, fs in os.walk(folder) for f in fs)


def test_load_swap(dir_, ports, pics):
    """A version appears under load: both generations answer, nothing fails, every answer is its model file's."""
    tool = subprocess.Popen(load_args(dir_, ports, "--rate", "60", *pics), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    tool.stdin.write(b"phase one\n")
    tool.stdin.flush()
    time.sleep(1)
    other = os.path.join(dir_, "other.onnx")
    run(NET, other, "5")
    put_version(dir_, 2, other)
    time.sleep(2.5)
    out, _ = tool.communicate(b"phase two\nstop\n", timeout=30)
    end = last(out)
    check("load ends well", tool.returncode == 0 and end.get("final") is True, end)
    check("nothing failed, nothing mixed", end.get("failed") == 0 and end.get("mixed") == 0, end)
    gens = end.get("generations", [])
    check("both versions answered", [g["version"] for g in gens] == [1, 2], gens)
    check("every generation was held against its file", gens and all(g["reference"] for g in gens), gens)
    check("every request is counted once", end.get("served") == end.get("sent") == sum(g["served"] for g in gens), end)
    names = [p["name"] for p in end.get("phases", [])]
    check("phases are reported", names == ["start", "one", "two"], names)


def test_load_modes(dir_, ports, pics):
    done = run(*load_args(dir_, ports, "--closed", "4", "--time", "0.5", *pics))
    end = last(done.stdout)
    check("a closed load", done.returncode == 0 and end.get("served", 0) > 4 and end.get("failed") == 0, end)
    done = run(*load_args(dir_, ports, "--ask", pics[0]))
    check("one question over gRPC", done.returncode == 0 and len(json.loads(done.stdout)["digest"]) == 71, done.stdout)
    done = run(LOAD, "--ask", "--grpc", f"127.0.0.1:{ports[1]}", "--model", "nobody", pics[0])
    check("an unknown model is a failure, with the reason", done.returncode == 1 and b"status 5" in done.stderr, done.stderr)


def test_load_down(ports, pics):
    done = run(LOAD, "--model", "letters", "--rest", f"127.0.0.1:{ports[0]}", "--grpc", f"127.0.0.1:{ports[1]}", "--rate",
               "50", "--time", "0.3", *pics)
    end = last(done.stdout)
    check("nobody listens: every request failed", done.returncode == 1 and end["failed"] == end["sent"] > 0, end)


# ---- load against a server that lies ----

class Liar(http.server.BaseHTTPRequestHandler):
    """Answers like winnowd; every tenth answer comes from other weights than its headers say."""
    protocol_version = "HTTP/1.1"
    count = 0

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        Liar.count += 1
        body = json.dumps({"label": "B" if Liar.count % 10 == 0 else "A", "probability": 0.5}).encode()
        self.send_response(200)
        for k, v in (("Content-Length", str(len(body))), ("winnow-version", "1"), ("winnow-generation", "1"),
                     ("winnow-digest", "sha256:" + "0" * 64)):
            self.send_header(k, v)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def test_load_liar(ports, pics):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    done = run(LOAD, "--model", "letters", "--rest", f"127.0.0.1:{server.server_address[1]}", "--grpc",
               f"127.0.0.1:{ports[1]}", "--rate", "80", "--time", "1", pics[0])
    server.shutdown()
    end = last(done.stdout)
    check("an answer of other weights is found", done.returncode == 1 and 1 <= end["mixed"] < end["served"], end)
    check("and shown", "generation 1 says" in end["first_mixed"], end)


def main():
    with tempfile.TemporaryDirectory() as dir_:
        test_maker(dir_)
        test_maker_words(dir_)
        pics = pictures(dir_)
        ports = free_ports(2)
        test_load_down(ports, pics)
        test_load_liar(ports, pics)
        put_version(dir_, 1, "demo/base/model.onnx")
        daemon = start_winnowd(dir_, ports)
        try:
            test_load_swap(dir_, ports, pics)
            test_load_modes(dir_, ports, pics)
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(20)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
