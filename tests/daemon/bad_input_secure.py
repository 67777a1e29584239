"""bad_input_secure.py: the part of test_bad_input.py about TLS, tokens and the files they come from."""

import os
import socket
import ssl
import subprocess
import time

import bad_input
from bad_input import TMP, WINNOW, WINNOWD, Daemon, ask, path, program
from net_rig import certificate

HASH = "sha256:" + "0123456789abcdef" * 4
TOKEN = "wnt_" + "A" * 43


class SecureDaemon(Daemon):
    """One that speaks TLS and asks for tokens."""

    def start(self):
        self.folder = os.path.join(TMP, "secure")
        os.makedirs(self.folder)
        certificate(self.folder)
        made = [subprocess.run([WINNOW, "token", "create", name, "-f", f"{self.folder}/tokens", *options],
                               capture_output=True, text=True).stdout.strip()
                for name, options in (("infer", ()), ("old", ("--expires", "2101-01-01")),
                                      ("other", ("--scopes", "infer,admin", "--models", "other-*")))]
        self.token, self.old, self.other = made
        with open(f"{self.folder}/tokens") as f:
            text = f.read().replace("2101", "2001")
        path("secure/tokens", text)
        super().start()

    def settings(self):
        return (f"    auth: tokens\nauth:\n    tokens_file: {self.folder}/tokens\n"
                f"tls:\n    certificate: {self.folder}/cert.pem\n    key: {self.folder}/key.pem\n"
                f"    handshake_timeout: 2s\n    max_handshakes: 100\n")

    def names(self):
        return (os.path.join(TMP, "repository"), os.path.join(self.folder, "state"), os.path.join(self.folder, "port"))

    def context(self, **options):
        c = ssl.create_default_context(cafile=f"{self.folder}/cert.pem")
        for k, v in options.items():
            setattr(c, k, v)
        return c

    def tcp(self):
        return socket.create_connection(("127.0.0.1", self.port), 10)

    def https(self, token):
        with self.context().wrap_socket(self.tcp(), server_hostname="localhost") as s:
            return self.over(s, [f"Authorization: Bearer {token}"])

    def over(self, s, lines, target="/v2/models/linear"):
        s.sendall((f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + "".join(x + "\r\n" for x in lines)
                   + "\r\n").encode("latin-1"))
        got = b""
        while part := s.recv(65536):
            got += part
        head, _, body = got.partition(b"\r\n\r\n")
        return int(head.split()[1]) if head else 0, body.decode(errors="replace")


secure = SecureDaemon()


def files():
    """What settings name."""
    certificate(TMP)

    def check(name, tokens=None, want=2, names=(), cert="cert.pem", key="key.pem"):
        text = "server:\n  auth: tokens\nauth:\n  tokens_file: tokens\n" + f"tls:\n  certificate: {cert}\n  key: {key}\n"
        path("tokens", tokens if tokens is not None else f"a {HASH} infer\n")
        program(name, [WINNOWD, "--check", "--config", path("winnowd.yaml", text)], want, *names)

    check("tokens: a good file, so that the others mean something", want=0, names=["ok"])
    at = r"tokens:%d: "
    for name, text, *names in (
        ("a word", "hello\n", at % 1, "hello"),
        ("a token in place of its hash", f"\na {TOKEN} infer\n", at % 2, "not the token itself"),
        ("a hash cut short", f"a {HASH[:-1]} infer\n", at % 1, "64 hex"),
        ("no scope", f"a {HASH}\n", at % 1, "no scopes"),
        ("a scope that is none", f"a {HASH} root\n", at % 1, "root"),
        ("a pattern with a slash", f"a {HASH} infer models=../*\n", at % 1, r"\.\./"),
        ("65 patterns", f"a {HASH} infer models={','.join(['m'] * 65)}\n", at % 1, "64"),
        ("30 February", f"a {HASH} infer expires=2027-02-30\n", at % 1, "2027-02-30"),
        ("an id twice", f"a {HASH} infer\na {HASH[:-1]}0 infer\n", at % 2, "'a'"),
        ("one hash for two ids", f"a {HASH} infer\nb {HASH} infer\n", at % 2, "hash"),
        ("bytes that are no text", b"a\xff " + HASH.encode() + b" infer\n", at % 1, "byte"),
        ("a NUL", b"a\0b\n", at % 1, "byte"),
        ("an empty file", "", "tokens: no token in it", "winnow token create"),
        ("a comment and nothing else", "# a\n", "tokens: no token in it"),
        ("a line of 1 MiB", f"a {HASH} infer " + "x" * (1 << 20) + "\n", at % 1, "16384"),
        ("4097 tokens", "".join(f"t{i} sha256:{i:064x} infer\n" for i in range(4097)), at % 4097, "4096"),
        ("5 MiB", "#" * (5 << 20), "tokens"),
    ):
        check("tokens: " + name, text, names=names)
    os.mkfifo(os.path.join(TMP, "fifo"))
    for name, which, what, *names in (
        ("no such certificate", "cert", "absent.pem", r"absent\.pem"),
        ("no such key", "key", "absent.pem", r"absent\.pem"),
        ("a key that is a folder", "key", ".", "key"),
        ("a key that is a FIFO", "key", "fifo", "fifo"),
        ("a certificate that is text", "cert", path("text.pem", "hello\n" * 1000), r"text\.pem': no certificate in it"),
        ("a certificate of zeros", "cert", path("zero.pem", bytes(100000)), r"zero\.pem"),
        ("a certificate cut in half", "cert", path("half.pem", open(f"{TMP}/cert.pem").read()[:300]), r"half\.pem"),
        ("a certificate of 2 MiB", "cert", path("big.pem", "x" * (2 << 20)), r"big\.pem"),
        ("a key in place of the certificate", "cert", "key.pem", r"key\.pem"),
        ("a certificate in place of the key", "key", "cert.pem", r"cert\.pem': no private key in it"),
        ("a credential without systemd's folder", "key", "credential:../x", "ok"),
    ):
        check("TLS files: " + name, names=names, want=0 if "credential" in name else 2, **{which: what})
    program("winnow token: no id", [WINNOW, "token", "create"], 2, "ID")
    program("winnow token: an id with a line feed", [WINNOW, "token", "create", "a\nb"], 1, "id")
    program("winnow token: scopes with a blank", [WINNOW, "token", "create", "a", "--scopes", "infer admin"], 1, "admin|scope")
    program("winnow token: a comment for models", [WINNOW, "token", "create", "a", "--models", "#"], 1, "models")
    program("winnow token: an end in the past", [WINNOW, "token", "create", "a", "--expires", "2001-01-01"], 1, "in the past")
    program("winnow token: revoke one that is not there",
            [WINNOW, "token", "revoke", "zz", "-f", path("tokens", f"a {HASH} infer\n")], 1, "zz")
    program("winnow models: a token file of 1 MiB", [WINNOW, "models", "--token-file", path("t", "x" * (1 << 20))], 1, "t")
    program("winnow models: a token of two lines", [WINNOW, "models", "--token-file", path("t", "a\nb\n")], 1, "line")


def start_secure():
    if os.path.exists(WINNOWD) and os.path.exists(WINNOW):
        secure.start()
        secure.memory()


def handshakes():
    def case(name, want, names, answer):
        ask("TLS: " + name, want, names, answer, secure)

    def with_openssl(*options, send=b"", seconds=8):
        p = subprocess.Popen(["openssl", "s_client", "-connect", f"127.0.0.1:{secure.port}", *options],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            out = p.communicate(send, timeout=seconds)[0].decode(errors="replace")
        except subprocess.TimeoutExpired:
            p.kill()
            return "hung", p.communicate()[0].decode(errors="replace")
        found = [line for line in out.splitlines() if "alert" in line or "renegotiation" in line.lower()]
        return p.returncode, " ".join(x.split(":SSL routines:")[-1] for x in found[-3:])

    def wrong_alpn():
        c = secure.context()
        c.set_alpn_protocols(["spdy/3"])
        try:
            c.wrap_socket(secure.tcp(), server_hostname="localhost").close()
            return "let in", ""
        except OSError as e:
            return "refused", str(e)

    def bytes_(data, end=True):
        with secure.tcp() as s:
            s.settimeout(6)
            got = b""
            try:
                s.sendall(data)
                if end:
                    s.shutdown(socket.SHUT_WR)
                while part := s.recv(65536):
                    got += part
            except TimeoutError:
                return "open", f"{len(got)} bytes"
            except OSError as e:
                got += repr(e).encode()
        return "closed", f"{len(got)} bytes"

    def hello():
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        o = secure.context().wrap_bio(incoming, outgoing, server_hostname="localhost")
        try:
            o.do_handshake()
        except ssl.SSLWantReadError:
            pass
        return outgoing.read()

    def half():
        many = []
        for _ in range(1000):
            s = secure.tcp()
            s.sendall(hello_bytes)
            many.append(s)
        good = secure.https(secure.token)[0]
        time.sleep(3)
        still = 0
        for s in many:
            s.setblocking(False)
            try:
                while s.recv(65536):
                    pass
            except BlockingIOError:
                still += 1
            except OSError:
                pass
            s.close()
        return good, f"{still} of 1000 open after the deadline"

    def after_handshake(data):
        s = secure.context().wrap_socket(secure.tcp(), server_hostname="localhost")
        with socket.socket(fileno=s.detach()) as tcp:
            tcp.settimeout(6)
            got = b""
            try:
                tcp.sendall(data)
                tcp.shutdown(socket.SHUT_WR)
                while part := tcp.recv(65536):
                    got += part
            except TimeoutError:
                return "open", f"{len(got)} bytes"
            except OSError:
                pass
        return "closed", f"{len(got)} bytes"

    if not secure.process:
        return
    hello_bytes = hello()
    case("a good one, so that the others mean something", 200, ["linear"], lambda: secure.https(secure.token))
    case("ALPN of another protocol", "refused", ["no application protocol"], wrong_alpn)
    case("TLS 1.1", 1, ["protocol version"], lambda: with_openssl("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"))
    case("TLS 1.0", 1, ["protocol version"], lambda: with_openssl("-tls1", "-cipher", "ALL:@SECLEVEL=0"))
    case("a suite without forward secrecy", 1, ["handshake failure"],
         lambda: with_openssl("-tls1_2", "-cipher", "AES128-SHA"))
    case("renegotiation", 1, ["(?i)no renegotiation"], lambda: with_openssl("-tls1_2", send=b"R\n"))
    case("garbage after a ClientHello", "closed", [], lambda: bytes_(hello_bytes + b"\xde\xad\xbe\xef" * 100))
    case("a ClientHello cut in half, and silence", "closed", [], lambda: bytes_(hello_bytes[:100], end=False))
    case("a byte 0x16, and silence", "closed", [], lambda: bytes_(b"\x16", end=False))
    case("a ClientHello of random bytes", "closed", [], lambda: bytes_(b"\x16\x03\x01\x02\x00" + os.urandom(512)))
    case("a handshake message of 16 MiB", "closed", [],
         lambda: bytes_(b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + bytes(16380)))
    case("1,000 half handshakes", 200, ["^0 of 1000"], half)
    case("a record cut short", "closed", [], lambda: after_handshake(b"\x17\x03\x03\x40\x00" + bytes(100)))
    case("a record that does not decrypt", "closed", [], lambda: after_handshake(b"\x17\x03\x03\x00\x40" + bytes(64)))
    case("clear text inside TLS", "closed", [], lambda: after_handshake(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3))


def tokens():
    def case(name, want, *lines, names=(), target="/v2/models/linear"):
        def answer():
            with secure.tcp() as s:
                return secure.over(s, lines, target)
        ask("token: " + name, want, names, answer, secure)

    if not secure.process:
        return
    t = secure.token
    case("a good one, so that the others mean something", 200, f"Authorization: Bearer {t}")
    case("none", 401, names=["Authorization: Bearer"])
    case("of nobody", 401, f"Authorization: Bearer {TOKEN}", names=["not known"])
    case("with an end in the past", 401, f"Authorization: Bearer {secure.old}", names=["'old'", "expired"])
    case("without the scope", 403, f"Authorization: Bearer {t}", names=["'infer'", "metrics"], target="/metrics")
    case("for other models", 403, f"Authorization: Bearer {secure.other}", names=["'other'", "linear"])
    case("for other models, the name hidden in %", 403, f"Authorization: Bearer {secure.other}", names=["linear"],
         target="/v2/models/%6c%69near")
    case("twice", 401, f"Authorization: Bearer {t}", f"Authorization: Bearer {t}", names=["more than one"])
    case("behind a wrong one", 401, "Authorization: Bearer x", f"Authorization: Bearer {t}", names=["more than one"])
    case("two in one header", 401, f"Authorization: Bearer {t},{t}")
    case("as a password", 401, "Authorization: Basic " + "QTpB", names=["Bearer"])
    case("in the query", 401, target=f"/v2/models/linear?access_token={t}")
    case("in a cookie", 401, f"Cookie: token={t}; Authorization=Bearer {t}")
    case("in another header", 401, f"X-Forwarded-Authorization: Bearer {t}")
    case("on a folded line", 400, "X: y", f" Authorization: Bearer {t}")
    case("a space before the colon", 400, f"Authorization : Bearer {t}")
    case("smuggled behind a bare CR", 400, f"X: y\rAuthorization: Bearer {t}")
    case("with a NUL behind it", 400, f"Authorization: Bearer {t}\0")
    case("of 14 KiB", 401, "Authorization: Bearer wnt_" + "A" * 14000)
    case("of 64 KiB", 431, "Authorization: Bearer wnt_" + "A" * 65536)
    case("of bytes over 127", 401, "Authorization: Bearer wnt_" + "\xff" * 43)


def stop_secure():
    if secure.process is not None:
        code = secure.stop()
        with open(secure.log.name, errors="replace") as f:
            log = f.read()
        good = code == 0 and "ERROR: " not in log and "runtime error" not in log and secure.token not in log
        bad_input.row("winnowd with TLS and tokens after all of it", f"{code}: drained, ended, no token in its log", good,
                      log[-1500:])


PARTS = (files, start_secure, handshakes, tokens, stop_secure)
