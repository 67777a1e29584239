"""test_net.py: daemon/net through net_server, in clear text and under TLS: both protocols, limits, timeouts, floods, drain.

Standard library, curl, h2load and nghttp; raw sockets where a client must misbehave. Loopback, free ports. Prints
TAP-like lines."""
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True  # no __pycache__ beside the sources
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import net_rig  # noqa: E402
from net_rig import (ACK, CONT, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, H2, HEADERS, PING,  # noqa: E402
                     PREFACE, PRIORITY, RST, SERVER, SETTINGS, WINDOW, Server, certificate, check, ended, frame,
                     goaway_codes, head, literal, raw, read_all, read_now, request)


# ---- what works ----
def test_exchanges(server, big):
    for name, flag in (("h1", "--http1.1"), ("h2", "--http2" if server.tls else "--http2-prior-knowledge")):
        c = lambda path, *o: server.curl(path, flag, *o)
        check(f"{name}: GET", c("/hello") == "hello\n")
        out = c("/hello", "-o", "/dev/null", "-w", "%{http_version}")
        check(f"{name}: version", out == {"h1": "1.1", "h2": "2"}[name], out)
        out = c("/hello", "-I")
        good = "content-length: 6" in out and not out.rstrip().endswith("hello")
        check(f"{name}: HEAD has the length and no body", good, out)
        check(f"{name}: 404", c("/nothing", "-w", "%{http_code}") == "no\n404")
        check(f"{name}: POST collected", c("/echo", "-d", "abc" * 1000) == "abc" * 1000)
        check(f"{name}: POST empty", c("/echo", "-d", "", "-w", "%{http_code}") == "200")
        check(f"{name}: POST chunked, streamed", c("/sink", "-T", "-", "-X", "POST", "-H", "Expect:") == "0 0\n")
        check(f"{name}: answer from another thread", c("/slow?30") == "slow\n")
        out = c("/trailers", "-i", "-H", "te: trailers")
        check(f"{name}: trailers", "x-status: 0" in out and "x-message: all well\r" in out and "one two" in out, out)
        check(f"{name}: 20 MB in pieces", c("/big?20000000", "-o", "/dev/null", "-w", "%{size_download}") == "20000000")
        out = c("/echo", "--data-binary", f"@{big}", "-o", "/dev/null", "-w", "%{http_code}")
        check(f"{name}: body over the limit: 413", out.endswith("413") or "curl 5" in out, out)
        if name == "h1":
            out = c("/echo", "-H", "content-type: application/grpc", "-H", "Expect:", "--data-binary", "@" + big, "-i")
            check("h1: gRPC body over the limit: status 8 in a 200", "200" in out and "grpc-status: 8" in out, out)
        t = time.monotonic()
        out = c("/sink", "--data-binary", f"@{big}", "-H", "Expect:")
        check(f"{name}: 64 MiB upload ({time.monotonic() - t:.2f} s)", out.startswith("67108864 "), out)
        out = c("/hello", "-H", "x-big: " + "a" * 20000, "-o", "/dev/null", "-w", "%{http_code}")
        check(f"{name}: headers over 16 KiB: 431", out == "431", out)
        many = [o for i in range(120) for o in ("-H", f"x-{i}: 1")]
        out = c("/hello", *many, "-o", "/dev/null", "-w", "%{http_code}")
        check(f"{name}: more than 100 headers: 431", out == "431", out)
    out = server.curl("/hello", "--http1.1", "-H", "connection: Upgrade, HTTP2-Settings", "-H", "upgrade: h2c",
                      "-H", "HTTP2-Settings: AAAA")
    check("h1: Upgrade is ignored", out == "hello\n", out)
    out = subprocess.run(["nghttp", "-n", "-m", "5", server.url + "/hello", server.url + "/trailers"],
                         capture_output=True)
    check("nghttp: several requests on one connection", out.returncode == 0 and (server.tls or not out.stderr), out.stderr)


def test_h1_wire(server):
    s = server.connect()
    for i in range(3):
        s.sendall(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
        check(f"h1: keep-alive, request {i + 1}", b"hello" in s.recv(4096))
    s.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    check("h1: 100 Continue", s.recv(4096).startswith(b"HTTP/1.1 100 "))
    s.sendall(b"abc")
    check("h1: body after 100 Continue", s.recv(4096).endswith(b"abc"))
    s.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    for piece in (b"3", b"\r", b"\n", b"a", b"bc\r\n", b"2;x=y\r\nde", b"\r\n0\r\n", b"Trailer: 1\r\n", b"\r\n"):
        s.sendall(piece)
        time.sleep(0.01)
    check("h1: chunked body cut anywhere, with a trailer", s.recv(4096).endswith(b"\r\n\r\nabcde"))
    s.sendall(b"".join(b"GET /slow?%d HTTP/1.1\r\nHost: x\r\n\r\n" % (30 if i == 0 else 0) for i in range(5))
              + b"GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    got, closed = read_all(s)
    check("h1: pipelined requests are answered in order, then close",
          got.count(b"slow\n") == 5 and got.endswith(b"hello\n") and closed, got)
    got, closed = raw(server, b"GET /hello HTTP/1.0\r\n\r\n")
    check("h1: HTTP/1.0 closes", got.endswith(b"hello\n") and closed and b"chunked" not in got, got)
    got, closed = raw(server, b"GET /trailers HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    check("h1: HTTP/1.0 gets no chunks", got.endswith(b"\r\n\r\none two\n") and closed, got)
    got, closed = raw(server, b"GET http://x/hello?a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    check("h1: absolute form", got.endswith(b"hello\n"), got)
    got, closed = raw(server, b"GET http://x/hello HTTP/1.1\r\nHost: y\r\nConnection: close\r\n\r\n")
    check("h1: absolute form and another Host: the form counts (RFC 9112, 3.2.2)", b"200 OK" in got and closed, got)
    got, closed = raw(server, b"\r\nGET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    check("h1: an empty line before the request", got.endswith(b"hello\n"), got)
    got, closed = raw(server, b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\nxx", 4)
    check("h1: answered early: Connection: close, then closed", b"connection: close" in got and closed, got)
    chunks = b"1\r\na\r\n" * 20000
    got, _ = raw(server, b"POST /sink HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                 + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
    check("h1: 20 000 chunks of one byte", b"\r\n20000 " in got, got)
    got, _ = raw(server, b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    check("h1: OPTIONS *", got.startswith(b"HTTP/1.1 404"), got)
    s = server.connect()
    for b in b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n":
        s.sendall(bytes([b]))
    check("h1: head byte by byte", b"hello" in s.recv(4096))
    s.close()


# Each must be refused with 4xx or 5xx and close; what follows it on the connection is never answered.
H = b"Host: x\r\n"
E = b"POST /echo HTTP/1.1\r\n" + H
SMUGGLING = [
    ("bare LF line ends", b"GET /hello HTTP/1.1\nHost: x\n\n"),
    ("bare LF after a header", b"GET /hello HTTP/1.1\r\nHost: x\nA: b\r\n\r\n"),
    ("bare LF as the empty line", b"GET /hello HTTP/1.1\r\nHost: x\r\n\n"),
    ("bare CR in a header", b"GET /hello HTTP/1.1\r\nHost: x\r\nA: b\rC: d\r\n\r\n"),
    ("CR CR LF", b"GET /hello HTTP/1.1\r\nHost: x\r\r\n\r\n"),
    ("CR before a header (CVE-2023-30589)",
     b"GET /hello HTTP/1.1\r\nHost: x\r\nX:\rTransfer-Encoding: chunked\r\n\r\n"),
    ("obs-fold", b"GET /hello HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n"),
    ("obs-fold, tab", b"GET /hello HTTP/1.1\r\nHost: x\r\nA: b\r\n\tc\r\n\r\n"),
    ("folded Content-Length (CVE-2024-27982)", E + b" Content-Length: 5\r\n\r\nhello"),
    ("space before the first header", b"GET /hello HTTP/1.1\r\n Host: x\r\n\r\n"),
    ("space before colon", E + b"Content-Length : 5\r\n\r\nhello"),
    ("tab before colon", E + b"Content-Length\t: 5\r\n\r\nhello"),
    ("empty header name", b"GET /hello HTTP/1.1\r\n" + H + b": x\r\n\r\n"),
    ("header without colon", b"GET /hello HTTP/1.1\r\n" + H + b"abc\r\n\r\n"),
    ("NUL in a value", b"GET /hello HTTP/1.1\r\n" + H + b"A: b\0c\r\n\r\n"),
    ("NUL in a name", b"GET /hello HTTP/1.1\r\n" + H + b"A\0b: c\r\n\r\n"),
    ("control byte in a value", b"GET /hello HTTP/1.1\r\n" + H + b"A: \x01\r\n\r\n"),
    ("control byte in a name", b"GET /hello HTTP/1.1\r\n" + H + b"A\x7f: b\r\n\r\n"),
    ("space in a name", b"GET /hello HTTP/1.1\r\n" + H + b"A b: c\r\n\r\n"),
    ("brackets in a name", b"GET /hello HTTP/1.1\r\n" + H + b"A(b): c\r\n\r\n"),
    ("two Content-Length, same", E + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
    ("two Content-Length, different", E + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
    ("Content-Length list", E + b"Content-Length: 5, 5\r\n\r\nhello"),
    ("Content-Length +5", E + b"Content-Length: +5\r\n\r\nhello"),
    ("Content-Length -5", E + b"Content-Length: -5\r\n\r\nhello"),
    ("Content-Length 0x5", E + b"Content-Length: 0x5\r\n\r\nhello"),
    ("Content-Length 5 5", E + b"Content-Length: 5 5\r\n\r\nhello"),
    ("Content-Length empty", E + b"Content-Length:\r\n\r\nhello"),
    ("Content-Length over 2^64", E + b"Content-Length: 18446744073709551621\r\n\r\nhello"),
    ("Content-Length over 2^63", b"POST /sink HTTP/1.1\r\n" + H + b"Content-Length: 9223372036854775813\r\n\r\nhello"),
    ("CL.TE", E + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG"),
    ("TE.CL", E + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"),
    ("TE: identity, chunked", E + b"Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n"),
    ("TE: chunked, identity", E + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    ("TE: chunked, chunked", E + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    ("TE: xchunked", E + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("TE: gzip", E + b"Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n"),
    ("TE: identity", E + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
    ("TE with vertical tab", E + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    ("TE empty", E + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n"),
    ("two TE", E + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("TE in HTTP/1.0", b"POST /echo HTTP/1.0\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("no Host", b"GET /hello HTTP/1.1\r\n\r\n"),
    ("two Hosts", b"GET /hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    ("two Hosts that are the same", b"GET /hello HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    ("absolute form, two Hosts", b"GET http://a/hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    ("absolute form, no Host", b"GET http://a/hello HTTP/1.1\r\n\r\n"),
    ("absolute form with a user", b"GET http://b@a/hello HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("absolute form with a backslash", b"GET http://b\\a/hello HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("absolute form of nobody", b"GET http:///hello HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a header called :authority", b"GET /hello HTTP/1.1\r\nHost: a\r\n:authority: b\r\n\r\n"),
    ("Host with a list", b"GET /hello HTTP/1.1\r\nHost: a, b\r\n\r\n"),
    ("Host with a path", b"GET /hello HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    ("HTTP/0.9", b"GET /hello\r\n\r\n"),
    ("no version", b"GET /hello \r\n" + H + b"\r\n"),
    ("HTTP/1.7", b"GET /hello HTTP/1.7\r\n" + H + b"\r\n"),
    ("HTTP/2.0", b"GET /hello HTTP/2.0\r\n" + H + b"\r\n"),
    ("http/1.1", b"GET /hello http/1.1\r\n" + H + b"\r\n"),
    ("HTTP/01.1", b"GET /hello HTTP/01.1\r\n" + H + b"\r\n"),
    ("two spaces", b"GET  /hello HTTP/1.1\r\n" + H + b"\r\n"),
    ("two spaces before the version", b"GET /hello  HTTP/1.1\r\n" + H + b"\r\n"),
    ("tab as separator", b"GET\t/hello\tHTTP/1.1\r\n" + H + b"\r\n"),
    ("space in the target", b"GET /hel lo HTTP/1.1\r\n" + H + b"\r\n"),
    ("space after the version", b"GET /hello HTTP/1.1 \r\n" + H + b"\r\n"),
    ("space before the method", b" GET /hello HTTP/1.1\r\n" + H + b"\r\n"),
    ("fragment in the target", b"GET /hello#x HTTP/1.1\r\n" + H + b"\r\n"),
    ("8-bit byte in the target", b"GET /hello\xff HTTP/1.1\r\n" + H + b"\r\n"),
    ("target without slash", b"GET hello HTTP/1.1\r\n" + H + b"\r\n"),
    ("CONNECT", b"CONNECT x:80 HTTP/1.1\r\n" + H + b"\r\n"),
    ("unknown method", b"FOO /hello HTTP/1.1\r\n" + H + b"\r\n"),
    ("the preface with another ending", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX"),
    ("unknown expectation", E + b"Expect: 200-ok\r\nContent-Length: 5\r\n\r\nhello"),
    ("request line of 32 KiB", b"GET /" + b"a" * 32768 + b" HTTP/1.1\r\n" + H + b"\r\n"),
    ("only empty lines", b"\r\n" * 50),
]
CHUNKS = [
    ("chunk size with sign", b"+3\r\nabc\r\n0\r\n\r\n"),
    ("chunk size 0x3", b"0x3\r\nabc\r\n0\r\n\r\n"),
    ("chunk size with a space in front", b" 3\r\nabc\r\n0\r\n\r\n"),
    ("chunk size empty", b"\r\nabc\r\n0\r\n\r\n"),
    ("chunk size over 2^64", b"10000000000000003\r\nabc\r\n0\r\n\r\n"),
    ("chunk size line ends in LF", b"3\nabc\r\n0\r\n\r\n"),
    ("chunk data ends in LF", b"3\r\nabc\n0\r\n\r\n"),
    ("chunk data without an end", b"3\r\nabcd\r\n0\r\n\r\n"),
    ("last chunk ends in LF", b"3\r\nabc\r\n0\n\r\n"),
    ("trailer section ends in LF", b"3\r\nabc\r\n0\r\n\n"),
    ("folded trailer", b"3\r\nabc\r\n0\r\nA: b\r\n c\r\n\r\n"),
    ("trailer without colon", b"3\r\nabc\r\n0\r\nabc\r\n\r\n"),
    ("trailers of 64 KiB", b"3\r\nabc\r\n0\r\n" + b"A: bbbbbbbbbbbbb\r\n" * 4096 + b"\r\n"),
    ("chunk extensions of 64 KiB", b"3;" + b"a" * 65536 + b"\r\nabc\r\n0\r\n\r\n"),
    ("negative chunk size", b"-1\r\nabc\r\n0\r\n\r\n"),
]
NEXT = b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"


def test_smuggling(server):
    cases = SMUGGLING + [(n, E + b"Transfer-Encoding: chunked\r\n\r\n" + c) for n, c in CHUNKS]
    for name, data in cases:
        got, closed = raw(server, data + NEXT, 4)
        answers = re.findall(rb"HTTP/1\.1 (\d+)", got)
        good = closed and len(answers) <= 1 and all(a[0] in b"45" for a in answers)
        check(f"refused: {name}", good, (got[:200], closed))


def test_h2_wire(server):
    s = server.connect(alpn=["h2"])
    for i in range(len(PREFACE)):
        s.sendall(PREFACE[i:i + 1])
        if i in (3, 14, 22):
            time.sleep(0.02)
    s.sendall(frame(SETTINGS, 0, 0) + request(1))
    h2 = H2.__new__(H2)
    h2.s, h2.buffer = s, b""
    frames, _ = h2.frames(until=ended(1))
    check("h2: preface byte by byte", any(f[0] == DATA and f[3] == b"hello\n" for f in frames), frames)

    h2 = H2(server)
    h2.send(request(1, b"POST", b"/early", False, (b"content-type", b"application/grpc"))
            + frame(DATA, 0, 1, b"x" * 100))
    frames, _ = h2.frames(until=lambda f: f[0] == RST)
    kinds = [(f[0], f[1] & END_STREAM) for f in frames if f[2] == 1]
    check("h2: answered early: trailers, then RST_STREAM(NO_ERROR)",
          kinds[-2:] == [(HEADERS, 1), (RST, 0)] and frames[-1][3] == b"\0\0\0\0", frames)
    h2.send(request(3))
    frames, _ = h2.frames(until=ended(3))
    check("h2: the connection goes on after that", frames and ended(3)(frames[-1]), frames)
    h2.send(request(5, b"POST", b"/echo", False, (b"content-type", b"application/grpc+proto"))
            + frame(DATA, 0, 5, b"x" * 16384) * 3)
    h2.frames(0.2)
    for _ in range(8):   # no length was declared: refused when the limit is passed
        h2.send(frame(DATA, 0, 5, b"x" * 16384) * 8)
        frames, _ = h2.frames(0.1)
        h2.send(frame(WINDOW, 0, 0, struct.pack(">I", 1)))
    frames += h2.frames(1, lambda f: f[0] == RST)[0]
    kinds = [(f[0], f[1] & END_STREAM, f[3][:1]) for f in frames if f[2] == 5 and f[0] in (HEADERS, DATA, RST)]
    check("h2: gRPC message over the limit: trailers only, 200", kinds[:1] == [(HEADERS, 1, b"\x88")], kinds)

    h2 = H2(server)
    for i, (authority, host, good) in enumerate((
            (b"x", b"x", True), (b"x", b"X", True), (b"x:80", b"x", True), (b"[::1]", b"[::1]:443", True),
            (b"x:8000", b"x:8000", True), (None, b"x", True), (b"x", None, True), (b"x", b"y", False),
            (b"x", b"x.y", False), (b"x:8000", b"x:8001", False), (b"x", b"x:8000", False), (b"[::1]", b"[::2]", False),
            (b"x", b"", False), (b"a@x", None, False), (b"a@x", b"a@x", False), (None, b"x,y", False), (b"x", b"x/y", False))):
        pairs = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/hello")]
        pairs += [(b":authority", authority)] if authority is not None else []
        pairs += [(b"host", host)] if host is not None else []
        h2.send(frame(HEADERS, END_HEADERS | END_STREAM, 1 + 2 * i, b"".join(literal(n, v) for n, v in pairs)))
        frames, _ = h2.frames(until=ended(1 + 2 * i))
        ok = [f[3][:1] == b"\x88" for f in frames if f[0] == HEADERS]
        refused = ok == [False] or (not ok and any(f[0] == RST for f in frames))   # nghttp2 itself refuses some
        check(f"h2: :authority {authority}, host {host}: {'taken' if good else 'refused'}", ok == [True] if good else refused,
              frames)
    h2.send(frame(HEADERS, END_HEADERS | END_STREAM, 101, head(b"GET", b"/hello", (b"host", b"x"), (b"host", b"x"))))
    frames, _ = h2.frames(until=ended(101))
    check("h2: two Hosts: refused", not any(f[0] == HEADERS and f[3][:1] == b"\x88" for f in frames), frames)
    h2.s.close()

    h2 = H2(server)
    h2.send(request(1, b"POST", b"/talk", False))
    for word in (b"one", b"two"):
        h2.send(frame(DATA, 0, 1, word))
        frames, _ = h2.frames(until=lambda f: f[0] == DATA and f[2] == 1)
        check(f"h2: both directions at once: {word.decode()}", frames[-1][3] == word, frames)
    h2.send(frame(DATA, END_STREAM, 1))
    frames, _ = h2.frames(until=ended(1))
    check("h2: ... and its end, with trailers", frames[-1][0] == HEADERS, frames)

    h2 = H2(server)
    h2.send(request(1, b"POST", b"/echo", False, (b"expect", b"100-continue")))
    frames, _ = h2.frames(until=lambda f: f[0] == HEADERS)
    check("h2: 100 Continue", frames[-1][0] == HEADERS and not frames[-1][1] & END_STREAM, frames)

    h2 = H2(server)
    for i in range(64):
        h2.send(request(1 + 2 * i, b"GET", b"/slow?%d" % (20 if i == 0 else 0)))
    frames, _ = h2.frames(until=ended(127))
    check("h2: 64 streams at once", sum(1 for f in frames if f[0] == DATA and f[3] == b"slow\n") == 64, len(frames))

    h2 = H2(server, settings=struct.pack(">HI", 4, 0))   # window 0: the response waits for us
    h2.send(request(1))
    frames, _ = h2.frames(0.3)
    none = not any(f[0] == DATA for f in frames)
    h2.send(frame(WINDOW, 0, 1, struct.pack(">I", 100)))
    frames, _ = h2.frames(until=ended(1))
    check("h2: data waits for the window", none and any(f[0] == DATA for f in frames), frames)

    before = server.rss()
    h2 = H2(server)
    sent = 0
    h2.send(request(3, b"POST", b"/sink?slow", False))
    h2.s.settimeout(0.5)
    for _ in range(64):
        sent += h2.send(frame(DATA, 0, 3, b"x" * 16384))
    frames, _ = h2.frames(0.5)
    opened = sum(int.from_bytes(f[3], "big") for f in frames if f[0] == WINDOW and f[2] == 3)
    check("h2: a slow sink's window opens only as it consumes", 0 < opened <= 64 * 16384, opened)
    check("h2: its memory is bounded", server.rss() - before < 20000, (before, server.rss()))
    h2.s.close()


def test_gone(server):
    server.wait_stat("exchanges_open", 1)
    before = server.stats()
    s = server.connect()
    s.sendall(b"GET /slow?300 HTTP/1.1\r\nHost: x\r\n\r\n")
    time.sleep(0.05)
    s.close()
    h2 = H2(server)
    h2.send(request(1, b"GET", b"/slow?300") + request(3, b"GET", b"/slow?300") + request(5))
    h2.send(frame(RST, 0, 1, struct.pack(">I", 8)))
    h2.frames(until=ended(5))
    h2.s.close()
    s = server.connect()
    s.sendall(b"POST /sink HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc")
    time.sleep(0.05)
    s.close()
    want = before["gone"] + 4
    got = server.wait_stat("gone", want)
    check("gone: on_gone for a client that left, reset a stream, left mid-upload", got == want, (got, want))
    got = server.wait_stat("orphaned", before["orphaned"] + 3)
    check("gone: late results find nobody", got == before["orphaned"] + 3, got)
    check("gone: nothing stays open", server.wait_stat("exchanges_open", 1) == 1)


def timed(name, low, high, fn):
    t = time.monotonic()
    good, detail = fn()
    t = time.monotonic() - t
    check(f"{name} ({t:.2f} s)", good and low <= t <= high, (detail, t))


def test_timeouts(tls):
    server = Server("--header-ms", "800", "--body-ms", "1000", "--write-ms", "1000", "--idle-ms", "1500", tls=tls)

    def silent():
        got, closed = raw(server, b"", 8)
        return closed and not got, got

    def half_head():
        got, closed = raw(server, b"GET /hello HTTP/1.1\r\nHos", 8)
        return closed and b" 408 " in got, got

    def half_preface():
        got, closed = raw(server, PREFACE[:10], 8, alpn=["h2"])
        return closed and (tls or not got), got   # with ALPN the server's SETTINGS need not wait

    def bare_preface():
        got, closed = raw(server, PREFACE, 8, alpn=["h2"])
        return closed and bool(got), got

    def dripping_head():
        s = server.connect()
        for i in range(40):
            try:
                s.sendall(b"G" if i == 0 else b"E")
            except OSError:
                break
            time.sleep(0.05)
            if i > 20:
                break
        got, closed = read_all(s, 4)
        return bool(closed), got

    def stalled_body():
        got, closed = raw(server, b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc", 8)
        return closed and b" 408 " in got, got

    def dripping_body():
        s = server.connect()
        s.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(60):
            try:
                s.sendall(b"x")
            except OSError:
                break
            time.sleep(0.05)
            if read_now(s) is not None:
                return True, ""
        return False, "never cut"

    def idle():
        s = server.connect()
        s.sendall(NEXT)
        got, closed = read_all(s, 8)
        return closed and got.endswith(b"hello\n"), got

    def h2_idle():
        h2 = H2(server)
        h2.send(request(1))
        frames, closed = h2.frames(8)
        return closed and goaway_codes(frames) == [0], frames

    def h2_open_head():
        h2 = H2(server)
        h2.send(frame(HEADERS, 0, 1, head()))
        frames, closed = h2.frames(8)
        return closed and goaway_codes(frames) == [ENHANCE_YOUR_CALM], frames

    def h2_stalled_body():
        h2 = H2(server)
        h2.send(request(1, b"POST", b"/echo", False))
        frames, _ = h2.frames(8, ended(1))
        return frames and ended(1)(frames[-1]), frames

    def h2_no_window():
        h2 = H2(server, settings=struct.pack(">HI", 4, 0))
        h2.send(request(1, b"GET", b"/big?10000000"))
        frames, _ = h2.frames(8, ended(1))
        return frames and frames[-1][0] == RST, frames

    def no_reader(start):
        s = start()
        came = server.wait_stat("exchanges_open", 2, 2)
        end = time.monotonic() + 6
        while time.monotonic() < end:
            if server.stats()["exchanges_open"] == 1:
                break
            time.sleep(0.1)
        left = server.stats()["exchanges_open"]
        (s.s if isinstance(s, H2) else s).close()
        return (came, left) == (2, 1), (came, left)

    def h2_talk_idles():
        h2 = H2(server)
        h2.send(request(1, b"POST", b"/talk", False))
        frames, closed = h2.frames(3.2)
        h2.send(frame(DATA, END_STREAM, 1, b"still here"))
        frames, _ = h2.frames(3, ended(1))
        return any(f[3] == b"still here" for f in frames), frames

    tests = [("timeout: no byte at all", 0.7, 2.5, silent), ("timeout: half a head: 408", 0.7, 4.5, half_head),
             ("timeout: half a preface", 0.7, 2.5, half_preface),
             ("timeout: a preface and nothing else", 0.7, 2.5, bare_preface),
             ("timeout: head drips", 0.7, 4.5, dripping_head),
             ("timeout: body stalls: 408", 0.9, 5, stalled_body), ("timeout: body drips", 0.9, 4, dripping_body),
             ("timeout: idle after a request", 1.4, 3.5, idle), ("timeout: h2 idle: GOAWAY(NO_ERROR)", 1.4, 6, h2_idle),
             ("timeout: h2 header block stays open", 0.7, 5, h2_open_head),
             ("timeout: h2 body stalls", 0.9, 3, h2_stalled_body),
             ("timeout: h2 peer gives no window", 0.9, 3, h2_no_window),
             ("timeout: a stream that may idle is left alone", 3, 5, h2_talk_idles)]
    threads = [threading.Thread(target=timed, args=t) for t in tests]
    for t in threads:
        t.start()
    for t in threads:
        t.join()

    def h1_big():
        s = server.connect(rcvbuf=4096)
        s.sendall(b"GET /big?100000000 HTTP/1.1\r\nHost: x\r\n\r\n")
        return s

    def h2_big():
        h2 = H2(server, settings=struct.pack(">HI", 4, 0x7fffffff), rcvbuf=4096)
        h2.send(frame(WINDOW, 0, 0, struct.pack(">I", 0x7ffeffff)) + request(1, b"GET", b"/big?100000000"))
        return h2
    before = server.rss()
    timed("timeout: h1 peer does not read", 0.9, 5, lambda: no_reader(h1_big))
    timed("timeout: h2 peer does not read", 0.9, 5, lambda: no_reader(h2_big))
    check("timeout: what was queued for them was bounded", server.rss() - before < 40000, (before, server.rss()))
    server.stop("timeouts")


# ---- floods ----
def flood(server, name, prelude, one, most, batch=50, total=20000, codes=(ENHANCE_YOUR_CALM,), reads=True):
    """Send up to `total` of one(i); the connection must be cut after at most `most`."""
    h2 = H2(server)
    h2.send(prelude)
    h2.frames(0.2)
    h2.s.settimeout(0.2)
    i, cut, frames = 0, False, []
    while i < total and not cut:
        cut = not h2.send(b"".join(one(i + k) for k in range(batch)))
        i += batch
        more, closed = h2.frames(0.003)
        frames += more
        cut = cut or closed or any(f[0] == GOAWAY for f in more)
    got = goaway_codes(frames)
    check(f"flood: {name}: cut after {i}", cut and i <= most and (not got or got[-1] in codes), (i, cut, got))
    h2.s.close()


def test_floods(server):
    odd = lambda i: 1 + 2 * i
    flood(server, "PING", b"", lambda i: frame(PING, 0, 0, b"12345678"), 2000)
    flood(server, "PING acks", b"", lambda i: frame(PING, ACK, 0, b"12345678"), 2000)
    flood(server, "SETTINGS", b"", lambda i: frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 100)), 2000)
    flood(server, "empty SETTINGS", b"", lambda i: frame(SETTINGS, 0, 0), 2000)
    flood(server, "PRIORITY", b"", lambda i: frame(PRIORITY, 0, 1, struct.pack(">IB", 0, i % 256)), 2000)
    flood(server, "WINDOW_UPDATE", b"", lambda i: frame(WINDOW, 0, 0, struct.pack(">I", 1)), 2000)
    post = request(1, b"POST", b"/talk", False)
    flood(server, "empty DATA", post, lambda i: frame(DATA, 0, 1), 2000)
    flood(server, "DATA of padding", post, lambda i: frame(DATA, 8, 1, b"\x03\0\0\0"), 2000)
    flood(server, "rapid reset", b"", lambda i: request(odd(i), b"GET", b"/slow?100") +
          frame(RST, 0, odd(i), struct.pack(">I", 8)), 1100, codes=(ENHANCE_YOUR_CALM, 2))
    flood(server, "made you reset: zero increment", b"", lambda i: request(odd(i), b"POST", b"/echo", False) +
          frame(WINDOW, 0, odd(i), struct.pack(">I", 0)), 1100, codes=(ENHANCE_YOUR_CALM, 1))
    flood(server, "made you reset: bad heads", b"", lambda i: frame(HEADERS, 5, odd(i), literal(b":method", b"GET")),
          1100, codes=(ENHANCE_YOUR_CALM, 1))
    flood(server, "made you reset: length lies", b"", lambda i: request(odd(i), b"POST", b"/echo", False,
          (b"content-length", b"1")) + frame(DATA, END_STREAM, odd(i), b"xx"), 1100, codes=(ENHANCE_YOUR_CALM, 1))
    flood(server, "CONTINUATION", frame(HEADERS, 0, 1, head()), lambda i: frame(CONT, 0, 1, literal(b"a", b"b")), 50,
          batch=1, codes=(ENHANCE_YOUR_CALM, 1, 2))
    thousand = frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 100) * 1000)
    flood(server, "SETTINGS of 1000 entries", b"", lambda i: thousand, 50, batch=1, codes=(ENHANCE_YOUR_CALM, 1, 2))
    before = server.rss()
    bomb = head(b"GET", b"/hello") + b"\x40\x01a\x7f\x81\x1e" + b"x" * 4000 + b"\xbe" * 11000
    h2 = H2(server)
    h2.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, bomb))
    frames, closed = h2.frames(2)
    check("flood: HPACK bomb is cut", closed and goaway_codes(frames) == [ENHANCE_YOUR_CALM], (frames, closed))
    check("flood: HPACK bomb costs no memory", server.rss() - before < 2048, (before, server.rss()))
    h2 = H2(server)
    for _ in range(20):   # what gRPC clients do: a ping and two window updates around each burst of data
        h2.send(request(1 + 2 * _, b"POST", b"/echo", False) + frame(DATA, END_STREAM, 1 + 2 * _, b"x" * 5000))
        h2.send((frame(PING, 0, 0, b"bdp-ping") + frame(WINDOW, 0, 0, struct.pack(">I", 5000))) * 2)
        frames, closed = h2.frames(3, ended(1 + 2 * _))
    check("flood: a gRPC client's pings are not one", not closed and not goaway_codes(frames), frames)
    h2.s.close()
    check("flood: others are served, nothing leaks", server.curl("/hello") == "hello\n"
          and server.wait_stat("exchanges_open", 1) == 1)


def test_connections():
    server = Server("--max-connections", "20", "--loops", "1")
    socks = [server.connect() for _ in range(20)]
    time.sleep(0.1)
    s = server.connect()
    got, closed = read_all(s, 2)
    check("connections: over the limit: 503 and closed", closed and b" 503 " in got, got)
    for s in socks:
        s.close()
    time.sleep(0.1)
    check("connections: served again after that", server.curl("/hello") == "hello\n")
    server.stop("connections")

    server = Server("--max-per-peer", "3")
    socks = [server.connect() for _ in range(3)]
    time.sleep(0.1)
    got, closed = read_all(server.connect(), 2)
    check("connections: over the limit of one address: 503", closed and b" 503 " in got, got)
    socks.pop().close()
    time.sleep(0.1)
    check("connections: one leaves, one may come", server.curl("/hello") == "hello\n")
    for s in socks:
        s.close()
    server.stop("per peer")

    server = Server("--loops", "1", nofile=40)
    socks = [server.connect() for _ in range(60)]
    time.sleep(0.3)
    with open(f"/proc/{server.process.pid}/stat") as f:
        ticks = sum(map(int, f.read().split()[13:15]))
    time.sleep(1)
    with open(f"/proc/{server.process.pid}/stat") as f:
        ticks = sum(map(int, f.read().split()[13:15])) - ticks
    check("connections: out of descriptors: no spinning", ticks <= 5, ticks)
    for s in socks:
        s.close()
    time.sleep(0.3)
    check("connections: recovers", server.curl("/hello") == "hello\n")
    server.stop("descriptors")



def test_buffers(tls):
    server = Server("--max-buffered", "200000", tls=tls)
    socks = [server.connect() for _ in range(4)]
    for s in socks:
        s.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100001\r\n\r\n" + b"x" * 100000)
    time.sleep(0.2)
    got = [g for g in map(read_now, socks) if g]
    check("connections: buffered bytes over all are bounded: 503", any(b" 503 " in g for g in got), got)
    for s in socks:
        s.close()
    time.sleep(0.1)
    got = server.curl("/echo", "-d", "x" * 120000, "-H", "Expect:")
    check("connections: the budget comes back", got == "x" * 120000, got)
    server.stop("buffers")


def test_drain(tls):
    server = Server(tls=tls)
    idle, busy = server.connect(), server.connect()
    idle.sendall(NEXT)
    idle.recv(4096)
    busy.sendall(b"GET /slow?500 HTTP/1.1\r\nHost: x\r\n\r\n")
    h2 = H2(server)
    h2.send(request(1, b"GET", b"/slow?500"))
    stuck = server.connect()
    stuck.sendall(b"GET /slow?1000 HTTP/1.1\r\nHost: x\r\n\r\n")
    time.sleep(0.1)
    server.process.send_signal(signal.SIGTERM)
    got, closed = read_all(idle, 1)
    check("drain: an idle connection closes", closed and not got, got)
    frames, _ = h2.frames(1, lambda f: f[0] == PING)
    check("drain: the shutdown notice comes before its PING", [f[0] for f in frames][-2:] == [GOAWAY, PING], frames)
    notice = [int.from_bytes(f[3][:4], "big") for f in frames if f[0] == GOAWAY]
    check("drain: GOAWAY with the highest id first", notice == [0x7fffffff], notice)
    h2.send(request(3, b"GET", b"/hello"))          # was under way: still served
    ping = [f[3] for f in frames if f[0] == PING][-1]
    h2.send(frame(PING, ACK, 0, ping))
    frames, closed = h2.frames(3)
    last = [int.from_bytes(f[3][:4], "big") for f in frames if f[0] == GOAWAY]
    check("drain: then GOAWAY with the last stream", last == [3], last)
    data = [f[3] for f in frames if f[0] == DATA]
    check("drain: h2 requests in flight finish, then it closes",
          b"slow\n" in data and b"hello\n" in data and closed, frames)
    got, closed = read_all(busy, 2)
    check("drain: h1 request in flight finishes with Connection: close",
          closed and got.endswith(b"slow\n") and b"connection: close" in got, got)
    refused = False
    try:
        server.connect()
    except OSError:
        refused = True
    check("drain: nobody is accepted", refused)
    server.stop("drain")

    server = Server(tls=tls)
    s = server.connect()
    s.sendall(b"POST /sink HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
    time.sleep(0.1)
    t = time.monotonic()
    server.stop("drain, somebody never finishes")
    check("drain: the rest is cut after the grace", 1.8 < time.monotonic() - t < 4, time.monotonic() - t)
    s.close()


def test_load(server):
    for name, flag in (("h2", []), ("h1", ["--h1"])):
        for path in ("/hello", "/slow?1"):
            n = "20000" if path == "/hello" else "4000"
            out = subprocess.run(["h2load", *flag, "-n", n, "-c", "20", "-m", "10", server.url + path],
                                 capture_output=True, timeout=60).stdout.decode()
            rate = re.search(r"([\d.]+) req/s", out)
            rate = rate.group(1) if rate else "?"
            check(f"load: {name} {path} {n} requests ({rate} req/s)", f" {n} succeeded" in out, out)


def everything(tls, big):
    """All of it in clear text, or under TLS."""
    net_rig.prefix = "TLS, " if tls else ""
    threads = [threading.Thread(target=f, args=(tls,)) for f in (test_timeouts, test_buffers, test_drain)]
    if not tls:   # limits on accepting come before a handshake
        threads.append(threading.Thread(target=test_connections))
    server = Server(tls=tls)
    test_load(server)
    for t in threads:
        t.start()
    test_exchanges(server, big)
    test_h1_wire(server)
    test_smuggling(server)
    test_h2_wire(server)
    test_gone(server)
    for t in threads:
        t.join()
    test_floods(server)
    check("alive for the watchdog", server.stats()["alive"] == 1)
    server.stop("all")


def main():
    if not os.path.exists(SERVER):
        print(f"{SERVER} is not built; nothing tested")
        print("0 passed, 0 failed")
        return 0
    tools = [t for t in ("curl", "h2load", "nghttp", "openssl") if not shutil.which(t)]
    if tools:
        print("Bail out! missing: " + ", ".join(tools))
        return 1
    with tempfile.NamedTemporaryFile() as big, tempfile.TemporaryDirectory() as folder:
        big.truncate(64 << 20)
        everything(None, big.name)
        everything(certificate(folder), big.name)
    return net_rig.end()


if __name__ == "__main__":
    sys.exit(main())
