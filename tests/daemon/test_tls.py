"""test_tls.py: what is TLS's own in daemon/net: versions, ALPN, resumption, renegotiation, reload, half handshakes, ends.

What TLS shares with clear text test_net.py checks in both. net_server on a free loopback port; Python's ssl, openssl
s_client where Python cannot misbehave."""
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True  # no __pycache__ beside the sources
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import net_rig  # noqa: E402
from net_rig import (DATA, GOAWAY, H2, SERVER, SETTINGS, Server, certificate, check, client_context, ended,  # noqa: E402
                     frame, raw, read_all, request)

GET = b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"
CLOSE = b"GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def handshake(server, **options):
    """(socket, None), or (None, the alert or error in OpenSSL's words)."""
    s = server.tcp()
    try:
        return client_context(server.tls, **options).wrap_socket(s, server_hostname="localhost"), None
    except OSError as e:
        s.close()
        return None, str(e)


def s_client(server, *options, send=b"", seconds=5):
    p = subprocess.Popen(["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-CAfile",
                          f"{server.tls}/cert.pem", *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT)
    try:
        return p.communicate(send, timeout=seconds)[0].decode(errors="replace")
    except subprocess.TimeoutExpired:
        p.kill()
        return p.communicate()[0].decode(errors="replace") + "\n(still open)"


def test_choices(server):
    for name, want, high in (("1.2", "TLSv1.2", ssl.TLSVersion.TLSv1_2), ("1.3", "TLSv1.3", ssl.TLSVersion.TLSv1_3)):
        s, e = handshake(server, high=high)
        check(f"version {name}", s and s.version() == want, e)
        suite = s.cipher()[0] if s else ""
        check(f"version {name}: an AEAD suite with forward secrecy, no compression",
              ("GCM" in suite or "CHACHA20" in suite) and (name == "1.3" or suite.startswith("ECDHE"))
              and s.compression() is None, suite)
        s.close()
    for version in ("-tls1", "-tls1_1"):
        out = s_client(server, version, "-cipher", "ALL:@SECLEVEL=0")
        check(f"version {version} is refused by an alert", "alert protocol version" in out, out)
    out = s_client(server, "-tls1_2", "-cipher", "AES128-GCM-SHA256:AES128-SHA:ECDHE-ECDSA-AES128-SHA")
    check("a suite that HTTP/2 forbids is refused", "alert handshake failure" in out, out)
    for offer, want in ((["h2", "http/1.1"], "h2"), (["http/1.1", "h2"], "h2"), (["http/1.1"], "http/1.1"),
                        (["spdy/3", "http/1.1"], "http/1.1"), ([], None)):
        s, e = handshake(server, alpn=offer)
        check(f"ALPN {offer}: {want}", s and s.selected_alpn_protocol() == want, e)
        s.close()
    s, e = handshake(server, alpn=["spdy/3", "h3"])
    check("ALPN without a protocol of ours: no_application_protocol", s is None and "no application protocol" in e, e)
    got, closed = raw(server, net_rig.PREFACE)
    check("HTTP/2 without ALPN is none (RFC 9113, 3.2)", b" 505 " in got or b" 400 " in got, got)
    got, closed = raw(server, GET, alpn=["h2"])
    check("HTTP/1.1 after ALPN chose h2: closed", closed and b"hello" not in got, got)
    out = server.curl("/hello", "--http1.1", "-o", "/dev/null", "-w", "%{http_version} %{http_code}")
    check("curl over HTTP/1.1", out == "1.1 200", out)
    clear = socket.create_connection(("127.0.0.1", server.port))
    clear.sendall(CLOSE)
    got, closed = read_all(clear)
    check("clear text on the same port", closed and got.endswith(b"hello\n"), got)


def test_resumption(server):
    context = client_context(server.tls, high=ssl.TLSVersion.TLSv1_2)
    first = context.wrap_socket(server.tcp(), server_hostname="localhost")
    again = context.wrap_socket(server.tcp(), server_hostname="localhost", session=first.session)
    check("a TLS 1.2 session is resumed by its ticket", again.session_reused)
    context = client_context(server.tls)
    first = context.wrap_socket(server.tcp(), server_hostname="localhost")
    first.sendall(GET)
    first.recv(4096)
    again = context.wrap_socket(server.tcp(), server_hostname="localhost", session=first.session)
    check("a TLS 1.3 session is resumed by its ticket", again.session_reused)
    again.sendall(CLOSE)
    check("... and serves", read_all(again)[0].endswith(b"hello\n"))
    out = s_client(server, "-tls1_3", "-ign_eof", send=CLOSE)
    check("no early data is offered (it could be replayed)",
          "Max Early Data: 0" in out and "Max Early Data: 1" not in out, out)


def test_renegotiation(server):
    before = server.stats()["protocol_errors"]
    # commands of s_client are lines of one letter: R asks for a renegotiation
    out = s_client(server, "-tls1_2", send=b"R\n", seconds=8)
    check("renegotiation is refused, and ends the connection",
          "no renegotiation" in out.lower() and "(still open)" not in out, out[-600:])
    check("... which counts as a broken protocol", server.stats()["protocol_errors"] == before + 1)
    # TLS 1.3 has key updates in its place: these must work
    p = subprocess.Popen(["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-CAfile",
                          f"{server.tls}/cert.pem", "-tls1_3"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT)
    for line in (b"K\n", b"k\n", b"GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"):
        p.stdin.write(line)
        p.stdin.flush()
        time.sleep(0.2)
    out = p.communicate(timeout=10)[0]
    check("key updates are no renegotiation", out.count(b"KEYUPDATE") == 2 and b"\r\n\r\nhello\n" in out, out[-600:])


def test_ends(server):
    """How a connection ends: close_notify, half close, a bare FIN, a reset, cut records."""
    s, _ = handshake(server)
    s.sendall(CLOSE)
    got, _ = read_all(s)
    try:
        s.settimeout(3)
        s.unwrap()
        clean = True
    except OSError as e:
        clean = str(e)
    check("the server ends with close_notify", got.endswith(b"hello\n") and clean is True, (got, clean))

    # request and close_notify in one segment: the answer still comes
    for name, request_, want in (("a request", GET, b"hello\n"),
                                 ("an upload", b"POST /sink HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n"
                                  + b"x" * 300000, b"300000 ")):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tcp = server.tcp()
        o = client_context(server.tls).wrap_bio(incoming, outgoing, server_hostname="localhost")
        while True:
            try:
                o.do_handshake()
                break
            except ssl.SSLWantReadError:
                tcp.sendall(outgoing.read())
                incoming.write(tcp.recv(65536))
        o.write(request_)
        try:
            o.unwrap()
        except ssl.SSLError:
            pass
        tcp.sendall(outgoing.read())
        got = b""
        try:
            while True:
                part = tcp.recv(65536)
                if not part:
                    break
                incoming.write(part)
        except OSError:
            pass
        try:
            while True:
                part = o.read(65536)
                if not part:
                    break
                got += part
        except (ssl.SSLError, ssl.SSLWantReadError):
            pass
        check(f"{name} with close_notify behind it is answered", want in got, got)

    before = server.stats()
    s, _ = handshake(server)
    s.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
    time.sleep(0.1)
    tcp = socket.socket(fileno=s.detach())   # a bare FIN: no close_notify
    tcp.close()
    check("cut in the middle of a body, no close_notify: gone, not complete",
          server.wait_stat("gone", before["gone"] + 1) == before["gone"] + 1)
    s, _ = handshake(server)
    s.sendall(b"GET /slow?300 HTTP/1.1\r\nHost: x\r\n\r\n")
    time.sleep(0.05)
    tcp = socket.socket(fileno=s.detach())
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    tcp.close()
    check("reset while it waits: gone", server.wait_stat("gone", before["gone"] + 2) == before["gone"] + 2)

    for name, data in (("a record cut short", b"\x17\x03\x03\x40\x00" + b"x" * 100),
                       ("garbage in place of a record", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 4),
                       ("a record over the largest size", b"\x17\x03\x03\xff\xff" + b"x" * 70000),
                       ("a record that does not decrypt", b"\x17\x03\x03\x00\x40" + b"x" * 64)):
        s, _ = handshake(server)
        s.sendall(GET)
        s.recv(4096)
        tcp = socket.socket(fileno=s.detach())
        tcp.settimeout(5)
        try:
            tcp.sendall(data)
            tcp.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        got, closed = read_all(tcp)
        tcp.close()
        check(f"{name}: the connection ends", closed and b"hello" not in got, (len(got), closed))
    check("others are served after all that", server.curl("/hello") == "hello\n"
          and server.wait_stat("exchanges_open", 1) == 1 and server.stats()["alive"] == 1)


def client_hello(server):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    o = client_context(server.tls).wrap_bio(incoming, outgoing, server_hostname="localhost")
    try:
        o.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def test_bad_handshakes(server):
    hello = client_hello(server)
    before = server.stats()["tls_failed"]
    cases = [("a byte 0x16 and nothing", hello[:1]), ("half a ClientHello", hello[:len(hello) // 2]),
             ("garbage after a ClientHello", hello + b"\xde\xad\xbe\xef" * 64),
             ("a ClientHello twice", hello + hello),
             ("a ClientHello of zeros", b"\x16\x03\x01\x02\x00" + bytes(512)),
             ("a handshake message of 16 MiB", b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + b"x" * 16380),
             ("application data before the handshake", b"\x16" + b"\x03\x03\x00\x10" + b"x" * 16),
             ("an alert in place of a ClientHello", b"\x16\x03\x03\x00\x02\x02\x28"),
             ("SSL 3.0 in the record", b"\x16\x03\x00" + hello[3:5] + b"\x02" + hello[6:])]
    for name, data in cases:
        tcp = server.tcp()
        try:
            tcp.sendall(data)
            tcp.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        got, closed = read_all(tcp, 5)
        tcp.close()
        check(f"handshake: {name}: the connection ends", closed, (got[:80], closed))
    check("... and each counts as failed", server.wait_stat("tls_failed", before + len(cases)) == before + len(cases),
          (before, server.stats()["tls_failed"], len(cases)))
    check("... and none stays", server.wait_stat("tls_open", 0) == 0)
    # a ClientHello byte by byte, as a slow network brings it
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    o = client_context(server.tls).wrap_bio(incoming, outgoing, server_hostname="localhost")
    tcp = server.tcp()
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    done = False
    while not done:
        try:
            o.do_handshake()
            done = True
        except ssl.SSLWantReadError:
            pass
        for b in outgoing.read():
            tcp.sendall(bytes([b]))
        if not done:
            incoming.write(tcp.recv(65536))
    check("handshake: every byte in a segment of its own", done)
    tcp.close()


def test_half_handshakes(folder):
    server = Server("--handshake-ms", "1000", "--max-handshakes", "100", "--loops", "1", tls=folder)
    rss = server.rss()
    hello = client_hello(server)
    half, t = [], time.monotonic()
    for _ in range(1000):
        s = server.tcp()
        s.sendall(hello)
        half.append(s)
    check("1,000 half handshakes: at most 100 are kept", server.wait_stat("tls_open", 100) <= 100, server.stats())
    out = server.curl("/hello")
    check("... a client that completes its own is served", out == "hello\n", out)
    grown = server.rss() - rss
    if not net_rig.SANITIZED:   # whose allocator keeps what is freed
        check("... memory is bounded", grown < 40000, grown)
    check(f"... and all are cut in time ({time.monotonic() - t:.2f} s)",
          server.wait_stat("tls_open", 0, 8) == 0 and server.wait_stat("connections_open", 1, 8) == 1, server.stats())
    got = server.stats()["tls_failed"]
    check("... and counted", got == 1000, got)
    for s in half:
        s.close()
    server.stop("half handshakes")


def test_required(folder):
    server = Server("--tls-mode", "required", tls=folder)
    check("required: TLS is served", server.curl("/hello") == "hello\n")
    s = server.tcp()
    s.sendall(CLOSE)
    got, closed = read_all(s)
    check("required: clear text is told so, and closed",
          got.startswith(b"HTTP/1.1 400 ") and b"use https" in got and closed, got)
    length = int(got.split(b"content-length: ")[1].split(b"\r\n")[0])
    check("required: ... in a well-formed answer", len(got.split(b"\r\n\r\n", 1)[1]) == length, got)
    s = server.tcp()
    s.close()
    server.stop("required")


def test_reload():
    with tempfile.TemporaryDirectory() as folder:
        certificate(folder, "one")
        server = Server(tls=folder)
        old = client_context(folder)
        h1 = old.wrap_socket(server.tcp(), server_hostname="localhost")
        h2 = H2(server)
        h2.send(request(1, b"GET", b"/slow?600"))
        stop, failed, served = threading.Event(), [], [0]

        def keep_asking():
            while not stop.is_set():
                try:
                    h1.sendall(GET)
                    if not h1.recv(4096).endswith(b"hello\n"):
                        failed.append("answer")
                    served[0] += 1
                except OSError as e:
                    failed.append(str(e))
                    return
        t = threading.Thread(target=keep_asking)
        t.start()
        time.sleep(0.1)
        certificate(folder, "two")
        server.process.send_signal(signal.SIGHUP)
        check("reload: the new pair is taken", server.line() == "certificate loaded\n")
        s = client_context(folder).wrap_socket(server.tcp(), server_hostname="localhost")
        name = dict(x[0] for x in s.getpeercert()["subject"])["commonName"]
        check("reload: new connections get the new certificate", name == "two", name)
        try:
            old.wrap_socket(server.tcp(), server_hostname="localhost")
            refused = False
        except ssl.SSLCertVerificationError:
            refused = True
        check("reload: the old one is given to nobody", refused)

        def broken(what, path, data, says):
            with open(f"{folder}/{path}", "rb") as f:
                keep = f.read()
            with open(f"{folder}/{path}", "wb") as f:
                f.write(data if data is not None else keep[:len(keep) // 2])
            server.process.send_signal(signal.SIGHUP)
            line = server.line()
            check(f"reload: {what}: an error that names the file", f"{folder}/{path}" in line and says in line, line)
            with open(f"{folder}/{path}", "wb") as f:
                f.write(keep)
            s = client_context(folder).wrap_socket(server.tcp(), server_hostname="localhost")
            check(f"reload: {what}: the old pair goes on", s.version() == "TLSv1.3")
            s.close()
        broken("a certificate cut in half", "cert.pem", None, "certificate")
        broken("an empty key", "key.pem", b"", "key")
        broken("a key that is text", "key.pem", b"hello\n" * 100, "key")
        with tempfile.TemporaryDirectory() as other:
            certificate(other, "three")
            with open(f"{other}/key.pem", "rb") as f:
                broken("a key of another certificate", "key.pem", f.read(), "does not belong")
        p = subprocess.run(["openssl", "ec", "-aes128", "-passout", "pass:secret", "-in", f"{folder}/key.pem"],
                           capture_output=True)
        broken("an encrypted key", "key.pem", p.stdout, "encrypted")
        broken("a key of 2 MiB", "key.pem", b"x" * (2 << 20), "key")
        broken("a chain that ends in garbage", "cert.pem", None, "certificate")
        os.rename(f"{folder}/key.pem", f"{folder}/kept.pem")
        server.process.send_signal(signal.SIGHUP)
        line = server.line()
        check("reload: no key: an error that names the file", f"{folder}/key.pem" in line, line)
        os.mkfifo(f"{folder}/key.pem")
        server.process.send_signal(signal.SIGHUP)
        line = server.line()
        check("reload: a FIFO for a key is not waited for", f"{folder}/key.pem" in line, line)
        os.unlink(f"{folder}/key.pem")
        os.rename(f"{folder}/kept.pem", f"{folder}/key.pem")
        stop.set()
        t.join()
        check(f"reload: a connection lost nothing over {served[0]} requests", served[0] > 10 and not failed, failed)
        frames, _ = h2.frames(until=ended(1))
        check("reload: nor a stream that was open", any(f[0] == DATA and f[3] == b"slow\n" for f in frames), frames)
        h2.s.close()
        h1.close()
        server.stop("reload")


def test_h2_rules(server):
    h2 = H2(server)
    h2.send(request(3) + request(5))
    h2.frames(until=ended(5))
    h2.send(request(1))
    frames, closed = h2.frames(3)
    check("h2: a stream id below an earlier one: GOAWAY(PROTOCOL_ERROR)",
          closed and net_rig.goaway_codes(frames) == [1], frames)
    h2 = H2(server)
    h2.send(request(1))
    h2.frames(until=ended(1))
    h2.send(frame(DATA, 0, 1, b"x"))
    frames, closed = h2.frames(3, lambda f: f[0] in (GOAWAY, 3))
    check("h2: data on a closed stream is an error", any(f[0] in (GOAWAY, 3) for f in frames), frames)
    h2.s.close()
    tcp, _ = handshake(server, alpn=["h2"])
    tcp.settimeout(3)
    got = tcp.recv(4096)
    check("h2: ... right after the handshake", len(got) >= 9 and got[3] == SETTINGS, got)


def main():
    if not os.path.exists(SERVER):
        print(f"{SERVER} is not built; nothing tested")
        print("0 passed, 0 failed")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        certificate(folder)
        server = Server(tls=folder)
        test_choices(server)
        test_resumption(server)
        test_renegotiation(server)
        test_h2_rules(server)
        test_ends(server)
        test_bad_handshakes(server)
        server.stop("tls")
        test_half_handshakes(folder)
        test_required(folder)
    test_reload()
    return net_rig.end()


if __name__ == "__main__":
    sys.exit(main())
