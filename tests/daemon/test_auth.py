"""test_auth.py: tokens: every route and RPC x every scope x every protocol, models, lists, reload, clients, listening.

The table that is walked is the daemon's own: the lines of the routes.def files. A route or RPC that this file does not
know how to give a model's name to fails it, so a new one gets its decision here too."""
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True  # no __pycache__ beside the sources
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common  # noqa: E402
from common import CLI, WINNOWD, Daemon, check, make_base, make_zip, pictures, wait_for  # noqa: E402
from net_rig import certificate  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCOPES = ("infer", "upload", "admin", "metrics")
CONFIG = """
server:
  listen: ["127.0.0.1:0"]
  auth: tokens
auth:
  tokens_file: tokens
tls:
  certificate: cert.pem
  key: key.pem
models:
  repositories: [repo]
  state: state
  poll: 200ms
  settle: 0
jobs:
  worker: ""
log:
  access: true
"""

# ---- the table ----
LINE = re.compile(r'^(ROUTE|RPC|RPC_STREAM)\(\s*"?([\w.]+)"?,\s*"([^"]+)",\s*(\w+),\s*(?:(NONE|SMALL|INFER|STREAM),\s*)?(\w+),',
                  re.M)
# Where a model's name stands, when it is not the path's {m}; None: nowhere.
IN_BODY = {
    ("POST", "/v1/fine_tuning/jobs"): lambda m: {"model": m, "training_file": "file-x"},
    ("POST", "/v1/embeddings"): lambda m: {"model": m, "input": "a"},
}
NAMELESS = re.compile(r"^/$|^/v2$|^/v2/health/|^/v2/models/stats$|^/v2/repository/index$|^/metrics$|^/openapi.json$"
                      r"|^/v2/repository/\{r\}/index$|^/v1/files|^/v1/fine_tuning/jobs(/\{j\}.*)?$|^/v1/models$|^/v2/(logging|trace/setting)$"
                      r"|^/v2/(system|cuda)sharedmemory/")
RPC_MODEL = {"ModelReady": "name", "ModelMetadata": "name", "ModelInfer": "model_name", "ModelConfig": "name",
             "ModelStatistics": "name", "RepositoryModelLoad": "model_name", "RepositoryModelUnload": "model_name",
             "ModelStreamInfer": "model_name", "TraceSetting": "model_name"}
RPC_NAMELESS = {"ServerLive", "ServerReady", "ServerMetadata", "RepositoryIndex", "Check", "List", "Watch",
                "ServerReflectionInfo", "LogSettings", "SystemSharedMemoryStatus",
                "CudaSharedMemoryStatus", "SystemSharedMemoryRegister", "SystemSharedMemoryUnregister",
                "CudaSharedMemoryRegister", "CudaSharedMemoryUnregister"}


def table():
    routes, rpcs = [], []
    for f in ("daemon/api/routes.def", "daemon/jobs/routes.def"):
        text = (ROOT / f).read_text()
        lines = LINE.findall(text)
        check(f"table: every line of {f} is read",
              len(lines) == len(re.findall(r"^(?:ROUTE|RPC|RPC_STREAM)\(", text, re.M)), lines)
        for kind, a, b, _, body, scope in lines:
            if kind == "ROUTE":
                routes.append((a, b, scope))
            else:
                rpcs.append((a, b, scope, kind == "RPC_STREAM"))
    return routes, rpcs


def fill(pattern, model):
    return (pattern.replace("{m}", model).replace("{r}", "r").replace("{v}", "1").replace("{f}", "file-none").replace("{j}", "ftjob-none"))


# ---- asking ----
class Rig:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        certificate(folder)
        for m in ("mine-a", "mine-b", "other"):
            make_base(f"{folder}/repo/{m}/1")
        self.tokens = {}
        for scope in SCOPES:
            self.make(scope, "--scopes", scope)
        self.make("all", "--scopes", ",".join(SCOPES))
        self.make("mine", "--scopes", ",".join(SCOPES), "--models", "mine-*")
        self.make("late", "--scopes", ",".join(SCOPES))
        with open(f"{folder}/tokens", "r+") as f:   # its line is the last
            text = f.read().rstrip("\n") + " expires=2001-01-01\n"
            f.seek(0)
            f.write(text)
        self.daemon = Daemon(folder, CONFIG)
        self.tls = f"https://127.0.0.1:{self.daemon.port}"
        self.context = ssl.create_default_context(cafile=f"{folder}/cert.pem")
        wait_for(lambda: self.daemon.curl("/v2/health/ready")[0] == 200)

    def make(self, name, *options):
        p = subprocess.run([CLI, "token", "create", name, *options, "-f", f"{self.folder}/tokens"], capture_output=True)
        self.tokens[name] = p.stdout.decode().splitlines()[-1]

    def reload(self):
        n = self.daemon.log().count("reloaded ") + self.daemon.log().count("reload_failed")
        self.daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: self.daemon.log().count("reloaded ") + self.daemon.log().count("reload_failed") > n)

    def change(self, name, old, new):
        """Edits a token's line, and reloads."""
        lines = (self.folder / "tokens").read_text().splitlines()
        lines = [line.replace(old, new) if line.split()[0] == name else line for line in lines]
        (self.folder / "tokens").write_text("\n".join(lines) + "\n")
        self.reload()

    def header(self, token):
        return {} if token is None else {"Authorization": f"Bearer {self.tokens.get(token, token)}"}

    def ask(self, method, path, body=None, token=None, headers=None, connection=None):
        c = connection or http.client.HTTPConnection("127.0.0.1", self.daemon.port, timeout=30)
        c.request(method, path, json.dumps(body) if isinstance(body, (dict, list)) else body,
                  {**self.header(token), **(headers or {})})
        r = c.getresponse()
        text = r.read()
        try:
            text = json.loads(text)
        except ValueError:
            pass
        if connection is None:
            c.close()
        return r.status, {k.lower(): v for k, v in r.getheaders()}, text

    def curl_many(self, requests, token, *flags):
        """[(status, www-authenticate)] of (method, path, body), one process and one connection."""
        config = self.folder / "curl.cfg"
        lines = []
        for i, (method, path, body) in enumerate(requests):
            lines += ["next"] if i else []
            lines += [f'url = "{self.tls}{path}"', f'request = "{method}"', 'output = "/dev/null"', "silent",
                      "max-time = 20", f'cacert = "{self.folder}/cert.pem"', *flags, 'header = "Expect:"',
                      'write-out = "%{http_code} %{http_version} %header{www-authenticate}\\n"']
            if token is not None:
                lines.append(f'header = "Authorization: Bearer {self.tokens.get(token, token)}"')
            if method in ("POST", "PUT"):
                lines.append('data = "' + json.dumps(body if body is not None else {}).replace('"', '\\"') + '"')
        config.write_text("\n".join(lines) + "\n")
        out = subprocess.run(["curl", "-K", config], capture_output=True, timeout=120).stdout.decode()
        return [(int(line.split()[0]), line.split(" ", 2)[1], line.split(" ", 2)[2]) for line in out.splitlines()]


# ---- every route x scope x protocol ----
def expected(scope, token):
    """401, 403, or 0: let through."""
    if scope == "none" or token in ("all", "mine"):
        return 0
    if token is None or token in ("late", "bad"):
        return 401
    return 0 if token == scope else 403


def walk_routes(rig, routes):
    rig.tokens["bad"] = "wnt_" + "A" * 43
    requests = [(m, fill(p, "mine-a"), IN_BODY.get((m, p), lambda _: {})("mine-a")) for m, p, _ in routes]
    for protocol, flags in (("HTTP/1.1 under TLS", ["http1.1"]), ("HTTP/2 under TLS", ["http2"])):
        for token in (None, "bad", "late", *SCOPES, "all"):
            got = rig.curl_many(requests, token, *flags)
            wrong = [] if len(got) == len(routes) else [f"{len(got)} answers for {len(routes)}"]
            for (method, pattern, scope), (status, version, challenge) in zip(routes, got):
                want = expected(scope, token)
                good = status == want if want else status not in (0, 401, 403)
                good = good and version == ("2" if "2" in protocol.split()[0][5:] else "1.1")
                if want == 401:
                    good = good and challenge.startswith('Bearer realm="winnow"') \
                        and ("error=" in challenge) == (token is not None)
                if want == 403:
                    good = good and f'scope="{scope}"' in challenge
                if not good:
                    wrong.append((method, pattern, scope, status, version, challenge))
            check(f"{protocol}, token {token}: {len(routes)} routes answer as the table says", not wrong, wrong)
    wrong = []
    for (method, pattern, scope), (_, path, body) in zip(routes, requests):
        status, _, text = rig.ask(method, path, body, None)
        if (status == 401) != (scope != "none"):
            wrong.append((method, pattern, status))
        if status == 401 and "token" not in json.dumps(text):
            wrong.append((method, pattern, text))
    check("HTTP/1.1 in clear text, no token: as the table says", not wrong, wrong)


def call_rpc(channel, path, stream, message=b"", token=None, seconds=5):
    import grpc
    metadata = [] if token is None else [("authorization", f"Bearer {token}")]
    try:
        if stream:
            call = channel.stream_stream(path)(iter([message] if message is not None else []), metadata=metadata,
                                               timeout=seconds)
            for _ in call:
                return grpc.StatusCode.OK, ""
            return call.code(), call.details()
        channel.unary_unary(path)(message, metadata=metadata, timeout=seconds)
        return grpc.StatusCode.OK, ""
    except grpc.RpcError as e:
        return e.code(), e.details()


def channels(rig):
    import grpc
    cert = (rig.folder / "cert.pem").read_bytes()
    return (("gRPC in clear text", grpc.insecure_channel(f"127.0.0.1:{rig.daemon.port}")),
            ("gRPC under TLS", grpc.secure_channel(f"127.0.0.1:{rig.daemon.port}", grpc.ssl_channel_credentials(cert))))


def walk_rpcs(rig, rpcs):
    import grpc
    names = {401: grpc.StatusCode.UNAUTHENTICATED, 403: grpc.StatusCode.PERMISSION_DENIED}
    for protocol, channel in channels(rig):
        for token in (None, "bad", "late", *SCOPES, "all"):
            wrong = []
            for service, method, scope, stream in rpcs:
                code, text = call_rpc(channel, f"/{service}/{method}", stream, None if stream else b"",
                                      rig.tokens.get(token))
                want = expected(scope, token)
                if (code != names[want]) if want else code in names.values():
                    wrong.append((method, scope, code, text))
                if want == 403 and scope not in text:
                    wrong.append((method, scope, text))
            check(f"{protocol}, token {token}: {len(rpcs)} RPCs answer as the table says", not wrong, wrong)
        channel.close()


# ---- models ----
def restricted_routes(rig, routes):
    wrong, undecided = [], []
    for method, pattern, scope in routes:
        if "{m}" in pattern:
            path, body = fill(pattern, "other"), {}
        elif (method, pattern) in IN_BODY:
            path, body = pattern, IN_BODY[method, pattern]("other")
        else:
            if not NAMELESS.match(pattern):
                undecided.append((method, pattern))
            continue
        if scope == "none":
            wrong.append((method, pattern, "names a model, and asks for no token"))
        status, _, text = rig.ask(method, path, body, "mine")
        if status != 403 or "other" not in json.dumps(text):
            wrong.append((method, pattern, status, text))
        status, _, _ = rig.ask(method, path.replace("other", "nobody"), body, "mine")
        if status != 403:
            wrong.append((method, pattern, status, "a model that is not there must not look different"))
    check("a token for mine-* gets 403 on every route that names another model", not wrong, wrong)
    check("every route says where it names a model, or that it does not", not undecided, undecided)
    for model, want in (("mine-a", 200), ("mine-b", 200)):
        status, _, text = rig.ask("GET", f"/v2/models/{model}", token="mine")
        check(f"... and may look at {model}", status == want, text)
    status, _, text = rig.ask("POST", "/v1/fine_tuning/jobs", {"model": "mine-a", "target": "other",
                                                              "training_file": "file-x"}, "mine")
    check("a job may not make a model of another name", status == 403 and "other" in json.dumps(text), text)
    check("... and says so in OpenAI's shape", isinstance(text.get("error"), dict), text)
    status, _, text = rig.ask("GET", "/v1/models/other@1", token="mine")
    check("NAME@VERSION is the model NAME", status == 403, text)
    status, _, text = rig.ask("GET", "/v2/models/%6fther", token="mine")
    check("a name in percent-encoding is the same name", status == 403, text)


def restricted_rpcs(rig, rpcs):
    import grpc
    from tritonclient.grpc import service_pb2 as pb
    name, channel = channels(rig)[0]
    wrong, undecided = [], []
    for service, method, scope, stream in rpcs:
        if method not in RPC_MODEL:
            if method not in RPC_NAMELESS:
                undecided.append(method)
            continue
        kind = getattr(pb, ("ModelInfer" if method == "ModelStreamInfer" else method) + "Request")
        message = kind(**{RPC_MODEL[method]: "other"}).SerializeToString()
        code, text = call_rpc(channel, f"/{service}/{method}", stream, message, rig.tokens["mine"])
        if stream:   # an error of one message: in the answer
            answer = next(iter(channel.stream_stream(f"/{service}/{method}")(
                iter([message]), metadata=[("authorization", f"Bearer {rig.tokens['mine']}")], timeout=5)))
            code, text = grpc.StatusCode.PERMISSION_DENIED, pb.ModelStreamInferResponse.FromString(answer).error_message
        if code != grpc.StatusCode.PERMISSION_DENIED or "other" not in text:
            wrong.append((method, code, text))
        if scope == "none":
            wrong.append((method, "names a model, and asks for no token"))
    check("gRPC: a token for mine-* is denied every RPC that names another model", not wrong, wrong)
    check("gRPC: every RPC says where it names a model, or that it does not", not undecided, undecided)
    health = "/grpc.health.v1.Health/"

    def service(n):
        return b"\x0a" + bytes([len(n)]) + n.encode()
    for token, model, want in (("mine", "mine-a", "OK"), ("mine", "other", "NOT_FOUND"), (None, "mine-a", "NOT_FOUND"),
                               (None, "", "OK"), ("metrics", "mine-a", "NOT_FOUND")):
        code, _ = call_rpc(channel, health + "Check", False, service(model), rig.tokens.get(token))
        check(f"health of {model!r} for {token}: {want}", code.name == want, code)
    if any(m == "List" for _, m, _, _ in rpcs):
        for token, want in ((None, set()), ("mine", {"mine-a", "mine-b"}), ("infer", {"mine-a", "mine-b", "other"})):
            metadata = [("authorization", f"Bearer {rig.tokens[token]}")] if token else []
            got = channel.unary_unary(health + "List")(b"", metadata=metadata, timeout=5)
            named = {m for m in ("mine-a", "mine-b", "other") if m.encode() in got}
            check(f"health List for {token} names {sorted(want)}", named == want, named)
    channel.close()


def test_lists(rig):
    def names(v, key):
        return {e[key] for e in v}
    for token, want in (("mine", {"mine-a", "mine-b"}), ("infer", {"mine-a", "mine-b", "other"})):
        _, _, v = rig.ask("POST", "/v2/repository/index", {}, token)
        check(f"lists: repository index for {token}", names(v, "name") == want, v)
        _, _, v = rig.ask("GET", "/v1/models", token=token)
        check(f"lists: /v1/models for {token}", names(v["data"], "id") == want, v)
        _, _, v = rig.ask("GET", "/v2/models/stats", token=token)
        check(f"lists: statistics for {token}", names(v["model_stats"], "name") == want, v)
    from tritonclient import grpc as tg
    c = tg.InferenceServerClient(f"127.0.0.1:{rig.daemon.port}")
    h = {"authorization": f"Bearer {rig.tokens['mine']}"}
    v = c.get_model_repository_index(headers=h)
    check("lists: RepositoryIndex", {m.name for m in v.models} == {"mine-a", "mine-b"}, v)
    v = c.get_inference_statistics(headers=h)
    check("lists: ModelStatistics", {m.name for m in v.model_stats} == {"mine-a", "mine-b"}, v)
    c.close()


def test_files(rig, theirs):
    """A token for some models sees what it brought, and nobody else's."""
    status, _, own = rig.ask("PUT", "/v1/files/own.zip", b"PK", "mine")
    check("files: a token for some models may upload", status == 200, own)
    _, _, v = rig.ask("GET", "/v1/files", token="mine")
    check("files: ... and lists its own only", [x["id"] for x in v["data"]] == [own["id"]], v)
    _, _, v = rig.ask("GET", "/v1/files", token="upload")
    check("files: a token for every model lists all", {own["id"], theirs["id"]} <= {x["id"] for x in v["data"]}, v)
    absent = rig.ask("GET", "/v1/files/file-none", token="mine")
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        status, _, v = rig.ask(method, f"/v1/files/{theirs['id']}{path}", token="mine")
        check(f"files: another's is absent: {method} {path}", status == 404 and
              json.dumps(v).replace(theirs["id"], "file-none") == json.dumps(absent[2]), (status, v))
    for key in ("training_file", "validation_file"):
        body = {"model": "mine-a", "training_file": own["id"], key: theirs["id"]}
        status, _, v = rig.ask("POST", "/v1/fine_tuning/jobs", body, "mine")
        check(f"files: another's is none for a job: {key}", status == 400 and v["error"]["param"] == key, (status, v))
    check("files: its own it may read", rig.ask("GET", f"/v1/files/{own['id']}/content", token="mine")[2] == b"PK")
    check("files: ... and delete", rig.ask("DELETE", f"/v1/files/{own['id']}", token="mine")[0] == 200)


def test_jobs(rig):
    z = make_zip(rig.folder / "d.zip", pictures(1, 30))
    status, _, f = rig.ask("PUT", "/v1/files/d.zip?purpose=fine-tune", z.read_bytes(), "upload")
    check("jobs: an upload", status in (200, 201), f)
    jobs = {}
    for m in ("mine-a", "other"):
        status, _, v = rig.ask("POST", "/v1/fine_tuning/jobs", {"model": m, "training_file": f["id"]}, "upload")
        check(f"jobs: one for {m}", status == 200, v)
        jobs[m] = v.get("id", "none")
    _, _, v = rig.ask("GET", "/v1/fine_tuning/jobs", token="mine")
    check("jobs: a token sees those of its models", [j["id"] for j in v["data"]] == [jobs["mine-a"]], v)
    _, _, v = rig.ask("GET", "/v1/fine_tuning/jobs?limit=1", token="mine")
    check("jobs: ... in pages too", [j["id"] for j in v["data"]] == [jobs["mine-a"]] and v["has_more"] is False, v)
    absent = rig.ask("GET", "/v1/fine_tuning/jobs/ftjob-none", token="mine")
    for what, method, path in (("look", "GET", ""), ("events", "GET", "/events"), ("stream", "GET", "/events?stream=true"),
                               ("checkpoints", "GET", "/checkpoints"), ("cancel", "POST", "/cancel"),
                               ("promote", "POST", "/promote")):
        status, _, v = rig.ask(method, f"/v1/fine_tuning/jobs/{jobs['other']}{path}", {} if method == "POST" else None,
                               "mine")
        check(f"jobs: another's is absent: {what}", status == 404 and json.dumps(v).replace(jobs["other"], "ftjob-none")
              == json.dumps(absent[2]), (status, v))
    status, _, v = rig.ask("POST", f"/v1/fine_tuning/jobs/{jobs['mine-a']}/cancel", {}, "mine")
    check("jobs: its own can be cancelled", status == 200, v)
    test_files(rig, f)
    for what, change in (
            ("is revoked", lambda: (subprocess.run([CLI, "token", "revoke", "reader", "-f", rig.folder / "tokens"],
                                                   check=True, capture_output=True), rig.reload())),
            ("is for other models now", lambda: rig.change("reader", "models=other", "models=mine-a")),
            ("loses its scope", lambda: rig.change("reader", " upload", " infer"))):
        subprocess.run([CLI, "token", "revoke", "reader", "-f", rig.folder / "tokens"], capture_output=True)
        rig.make("reader", "--scopes", "upload", "--models", "other")
        rig.reload()
        c = http.client.HTTPConnection("127.0.0.1", rig.daemon.port, timeout=20)
        c.request("GET", f"/v1/fine_tuning/jobs/{jobs['other']}/events?stream=true", headers=rig.header("reader"))
        r = c.getresponse()
        first = r.readline()
        change()
        try:
            rest = r.read()
        except http.client.IncompleteRead:
            rest = None
        check(f"jobs: a stream of events is cut when its token {what}", first.startswith(b"data: ") and rest is None,
              (first, rest))
        c.close()
    subprocess.run([CLI, "token", "revoke", "reader", "-f", rig.folder / "tokens"], check=True, capture_output=True)
    rig.reload()
    rig.ask("POST", f"/v1/fine_tuning/jobs/{jobs['other']}/cancel", {}, "upload")


# ---- the header ----
def test_header(rig):
    t = rig.tokens["infer"]
    get = ("GET", "/v2/models/mine-a")

    def raw(*lines):
        s = socket.create_connection(("127.0.0.1", rig.daemon.port))
        s.sendall(("GET /v2/models/mine-a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" +
                   "".join(line + "\r\n" for line in lines) + "\r\n").encode("latin-1"))
        got = b""
        while True:
            part = s.recv(65536)
            if not part:
                return int(got.split()[1]), got
            got += part
    for name, lines, want in (
            ("a good one", [f"Authorization: Bearer {t}"], 200),
            ("the scheme in small letters", [f"authorization: bearer {t}"], 200),
            ("spaces after the scheme", [f"Authorization: Bearer   {t}"], 200),
            ("twice the same", [f"Authorization: Bearer {t}"] * 2, 401),
            ("a wrong one before a good one", ["Authorization: Bearer x", f"Authorization: Bearer {t}"], 401),
            ("two tokens in one header", [f"Authorization: Bearer {t}, Bearer {t}"], 401),
            ("Basic", ["Authorization: Basic dXNlcjpwYXNz"], 401),
            ("no scheme", [f"Authorization: {t}"], 401),
            ("the scheme alone", ["Authorization: Bearer"], 401),
            ("an empty header", ["Authorization:"], 401),
            ("one character less", [f"Authorization: Bearer {t[:-1]}"], 401),
            ("one character more", [f"Authorization: Bearer {t}A"], 401),
            ("another last character", [f"Authorization: Bearer {t[:-1]}{'B' if t[-1] != 'B' else 'C'}"], 401),
            ("in upper case", [f"Authorization: Bearer {t.upper()}"], 401),
            ("its hash", ["Authorization: Bearer " + [w for w in (rig.folder / "tokens").read_text().split()
                                                      if w.startswith("sha256:")][0]], 401),
            ("12 KiB", ["Authorization: Bearer wnt_" + "A" * 12000], 401),
            ("over the limit of headers", ["Authorization: Bearer wnt_" + "A" * 20000], 431),
            ("bytes over 127", [f"Authorization: Bearer {t[:-1]}\xff"], 401),
            ("a NUL", [f"Authorization: Bearer {t}\0"], 400),
            ("a space before the colon", [f"Authorization : Bearer {t}"], 400),
            ("on a folded line", ["X: y", f" Authorization: Bearer {t}"], 400),
            ("in another header", [f"X-Authorization: Bearer {t}", f"Proxy-Authorization: Bearer {t}"], 401)):
        status, got = raw(*lines)
        check(f"header: {name}: {want}", status == want, got[:400])
    status, h, v = rig.ask(*get)
    check("header: 401 says how", h.get("www-authenticate") == 'Bearer realm="winnow"', h)
    status, _, v = rig.ask("GET", f"/v2/models/mine-a?access_token={t}&token={t}")
    check("header: a token in the query is none (it would end up in logs)", status == 401, v)
    check("header: no token appears in the log", not any(x in rig.daemon.log() for x in rig.tokens.values()))
    check("header: its id does", "token=infer" in rig.daemon.log())
    status, _, v = rig.ask("GET", "/v1/files", token="infer")
    check("403 names the token and the scope it lacks, in OpenAI's shape under /v1",
          status == 403 and v["error"]["message"] == "token 'infer' lacks the scope upload", v)
    status, _, v = rig.ask("PUT", "/v1/files/big.zip", b"x" * 5000000, "infer")
    check("an upload is refused before its body is read", status == 403, v)
    status, _, v = rig.ask("GET", "/metrics", token="metrics")
    check("refusals are counted", re.search(rb'auth_refused_total\{why="scope"\} [1-9]', v)
          and re.search(rb'auth_refused_total\{why="expired"\} [1-9]', v) and b"winnow_auth_tokens 7" in v, v[-600:])


# ---- streams ----
def test_streams(rig):
    """What is open when its token is revoked or narrowed ends within a second, and says why."""
    import grpc
    import queue
    from tritonclient.grpc import service_pb2 as pb
    infer, watch = "/inference.GRPCInferenceService/ModelStreamInfer", "/grpc.health.v1.Health/Watch"
    ask = pb.ModelInferRequest(model_name="mine-a").SerializeToString()

    def of(model):
        return b"\x0a" + bytes([len(model)]) + model.encode()

    def follow(path, message, change, send_again=False):
        """(first answer, what came after the change, its code, its details, seconds)"""
        rig.make("open", "--scopes", "infer,upload", "--models", "mine-*")
        rig.reload()
        messages = queue.Queue()
        messages.put(message)
        channel = grpc.insecure_channel(f"127.0.0.1:{rig.daemon.port}")
        call = channel.stream_stream(path)(iter(messages.get, None), timeout=20,
                                           metadata=[("authorization", f"Bearer {rig.tokens['open']}")])
        first, rest, code, details = next(call), [], None, ""
        change()
        began = time.monotonic()
        if send_again:
            messages.put(message)
            rest.append(next(call))
            code = grpc.StatusCode.OK
        else:
            try:
                rest += list(call)
            except grpc.RpcError as e:
                code, details = e.code(), e.details()
        took = time.monotonic() - began
        messages.put(None)
        channel.close()
        revoke()
        return first, rest, code, details, took

    def revoke():
        subprocess.run([CLI, "token", "revoke", "open", "-f", rig.folder / "tokens"], capture_output=True)
        rig.reload()

    serving, code = b"\x08\x01", grpc.StatusCode
    for what, path, message, change, want, says in (
            ("Watch, revoked", watch, of("mine-a"), revoke, code.UNAUTHENTICATED, "'open' is revoked"),
            ("Watch, for other models now", watch, of("mine-a"), lambda: rig.change("open", "mine-*", "other"),
             code.PERMISSION_DENIED, "'mine-a'"),
            ("Watch of the server, revoked", watch, of(""), revoke, code.UNAUTHENTICATED, "'open' is revoked"),
            ("ModelStreamInfer, revoked", infer, ask, revoke, code.UNAUTHENTICATED, "'open' is revoked"),
            ("ModelStreamInfer, its scope taken away", infer, ask,
             lambda: rig.change("open", "infer,upload", "upload"), code.PERMISSION_DENIED, "lacks the scope infer")):
        first, rest, got, details, took = follow(path, message, change)
        check(f"streams: {what}: ends with {want.name} at once",
              (path != watch or first == serving) and not rest and got == want and says in details and took < 5,
              (first, rest, got, details, took))
    first, rest, got, details, _ = follow(infer, ask, lambda: rig.change("open", "mine-*", "mine-b"), True)
    said = pb.ModelStreamInferResponse.FromString(rest[0]).error_message
    check("streams: ModelStreamInfer, for another model now: the next message is refused",
          got == code.OK and "may not use model 'mine-a'" in said, (rest, details))


# ---- reload ----
def test_reload(rig):
    keep = http.client.HTTPConnection("127.0.0.1", rig.daemon.port, timeout=30)
    rig.make("temporary", "--scopes", "infer")
    check("reload: a token is unknown before it", rig.ask("GET", "/v2/models/mine-a", token="temporary",
                                                          connection=keep)[0] == 401)
    rig.reload()
    check("reload: ... and known after it, on the same connection",
          rig.ask("GET", "/v2/models/mine-a", token="temporary", connection=keep)[0] == 200)
    from tritonclient.grpc import service_pb2 as pb
    import grpc
    import queue
    messages = queue.Queue()
    channel = channels(rig)[0][1]
    stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")(
        iter(messages.get, None), metadata=[("authorization", f"Bearer {rig.tokens['temporary']}")], timeout=20)
    ask = pb.ModelInferRequest(model_name="mine-a").SerializeToString()
    messages.put(ask)
    first = pb.ModelStreamInferResponse.FromString(next(stream)).error_message
    p = subprocess.run([CLI, "token", "revoke", "temporary", "-f", rig.folder / "tokens"], capture_output=True)
    rig.reload()
    check("reload: a revoked one is unknown at the next request",
          p.returncode == 0 and rig.ask("GET", "/v2/models/mine-a", token="temporary", connection=keep)[0] == 401, p)
    messages.put(ask)
    try:
        second = pb.ModelStreamInferResponse.FromString(next(stream)).error_message
    except grpc.RpcError as e:
        second = e.details()
    check("reload: ... and at the next message of a stream that was open",
          "revoked" not in first and "revoked" in second, (first, second))
    messages.put(None)
    channel.close()
    good = (rig.folder / "tokens").read_text()
    for what, text, says in (("a line that is none", good + "hello\n", r"tokens:\d+: .*'hello'"),
                             ("a token in place of its hash", f"x {rig.tokens['all']} infer\n", "tokens:1: .*not the token"),
                             ("an id twice", good + good, r"tokens:\d+: there is a token '.*' already"),
                             ("a byte that is no text", good + "x\0y\n", r"tokens:\d+: "),
                             ("an empty file", "", "tokens: no token in it; winnow token create"),
                             ("blank lines", "\n \t\r\n", "tokens: no token in it; winnow token create")):
        (rig.folder / "tokens").write_text(text)
        rig.reload()
        last = [x for x in rig.daemon.log().splitlines() if "reload" in x][-1]
        check(f"reload: {what}: the old tokens stay, and the log has file and line",
              "reload_failed" in last and re.search(says, last)
              and rig.ask("GET", "/v2/models/mine-a", token="infer")[0] == 200, last)
        check("... and the error shows no token", rig.tokens["all"] not in rig.daemon.log())
    (rig.folder / "tokens").unlink()
    rig.reload()
    last = [x for x in rig.daemon.log().splitlines() if "reload" in x][-1]
    check("reload: a file that is gone: the old tokens stay, and the log says so", "reload_failed" in last and "tokens" in last
          and rig.ask("GET", "/v2/models/mine-a", token="infer")[0] == 200, last)
    p = [subprocess.run([CLI, "token", *words, "-f", rig.folder / "tokens"], capture_output=True, text=True)
         for words in (("create", "only"), ("revoke", "only"))]
    rig.reload()
    check("reload: when the last token was revoked nobody gets in, and the log warns", all(x.returncode == 0 for x in p)
          and rig.ask("GET", "/v2/models/mine-a", token="infer")[0] == 401 and "warning tokens n=0" in rig.daemon.log(), p)
    (rig.folder / "tokens").write_text(good)
    rig.make("never", "--scopes", "infer")
    (rig.folder / "cert.pem").write_bytes(b"nothing")
    rig.reload()
    check("reload: a broken certificate changes nothing, tokens neither",
          re.search(r"reload_failed .*cert\.pem", rig.daemon.log())
          and rig.ask("GET", "/v2/models/mine-a", token="never")[0] == 401)
    certificate(rig.folder, "renewed", days=9)
    rig.context = ssl.create_default_context(cafile=f"{rig.folder}/cert.pem")
    rig.reload()
    with rig.context.wrap_socket(socket.create_connection(("127.0.0.1", rig.daemon.port)), server_hostname="localhost") as c:
        name = dict(x[0] for x in c.getpeercert()["subject"])["commonName"]
    check("reload: a new certificate is shown to new connections", name == "renewed", name)
    check("reload: ... and the open one goes on", rig.ask("GET", "/v2/models/mine-a", token="infer", connection=keep)[0] == 200)
    _, _, text = rig.ask("GET", "/metrics", token="metrics")
    end = re.search(rb"winnow_tls_certificate_end_seconds (\d+)", text)
    check("reload: ... and its end is in /metrics", end and abs(int(end[1]) - time.time() - 9 * 86400) < 3600, end)
    check("handshakes are counted in /metrics",
          re.search(rb'winnow_tls_handshakes_total\{kind="TLSv1.3"\} [1-9]', text), text[-1500:])
    lines = (rig.folder / "tokens").read_text()
    for left in (3, 15, 60):  # a busy machine may not get it to the daemon in time
        end = int(time.time() + left)
        (rig.folder / "tokens").write_text(lines)
        rig.make("soon", "--scopes", "infer", "--expires", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(end)))
        rig.reload()
        early = rig.ask("GET", "/v2/models/mine-a", token="soon", connection=keep)
        if early[0] == 200:
            break
    last = []
    wait_for(lambda: last.clear() or last.extend((time.time(), *rig.ask("GET", "/v2/models/mine-a", token="soon",
                                                                        connection=keep))) or last[1] != 200, left + 10)
    check("a token ends by itself at its time", early[0] == 200 and last[1] == 401 and time.time() >= end, (early, end, last))
    text = rig.ask("GET", "/v2/models/mine-a", token="soon")[2]
    check("... and its holder is told so", text.get("error") == "token 'soon' has expired", text)
    check("... the log names it once", rig.daemon.log().count(f"token_expired token=soon end_s={end} ") == 1)
    p = subprocess.run([CLI, "token", "list", "-f", rig.folder / "tokens"], capture_output=True, text=True)
    marked = {line.split()[0] for line in p.stdout.splitlines() if line.endswith("(expired)")}
    check("winnow token list marks what has expired", marked == {"late", "soon"}, p.stdout)
    p = subprocess.run([CLI, "token", "create", "past", "--expires", "2001-01-01", "-f", rig.folder / "tokens"],
                       capture_output=True, text=True)
    check("winnow token create: an end in the past is refused", p.returncode == 1 and "2001-01-01 is in the past" in p.stderr
          and "past" not in (rig.folder / "tokens").read_text(), p)
    keep.close()


# ---- clients ----
def test_clients(rig):
    import numpy as np
    from tritonclient import grpc as tg, http as th
    h = {"Authorization": f"Bearer {rig.tokens['infer']}"}
    address = f"127.0.0.1:{rig.daemon.port}"
    c = th.InferenceServerClient(address, ssl=True, ssl_context_factory=lambda: rig.context)
    meta = c.get_model_metadata("mine-a", headers=h)
    shape = [1, *meta["inputs"][0]["shape"][1:]] if meta["inputs"][0]["datatype"] != "BYTES" else [1]
    data = (np.zeros(shape, np.float32) if meta["inputs"][0]["datatype"] != "BYTES" else
            np.array([next(iter(pictures(1, 1).values()))], object))
    i = th.InferInput(meta["inputs"][0]["name"], list(data.shape), meta["inputs"][0]["datatype"])
    i.set_data_from_numpy(data)
    r = c.infer("mine-a", [i], headers=h)
    check("tritonclient HTTP over TLS with a token", r.get_response()["model_name"] == "mine-a", r.get_response())
    try:
        c.infer("mine-a", [i])
        e = "let through"
    except Exception as x:  # noqa: BLE001
        e = str(x)
    check("... and without: told so", "token" in e and "401" in e, e)
    c.close()
    g = tg.InferenceServerClient(address, ssl=True, root_certificates=str(rig.folder / "cert.pem"))
    gi = tg.InferInput(meta["inputs"][0]["name"], list(data.shape), meta["inputs"][0]["datatype"])
    gi.set_data_from_numpy(data)
    low = {"authorization": h["Authorization"]}
    r = g.infer("mine-a", [gi], headers=low)
    check("tritonclient gRPC over TLS with a token", r.get_response().model_name == "mine-a")
    check("... is live without one", g.is_server_live())
    try:
        g.load_model("mine-a", headers=low)
        e = "let through"
    except Exception as x:  # noqa: BLE001
        e = str(x)
    check("... and told the scope it lacks", "lacks the scope admin" in e and "PERMISSION_DENIED" in e, e)
    g.close()

    import httpx
    import openai
    o = openai.OpenAI(api_key=rig.tokens["all"], base_url=rig.tls + "/v1", max_retries=0,
                      http_client=httpx.Client(verify=rig.context))
    check("openai over TLS, api_key a token: models", {m.id for m in o.models.list()} == {"mine-a", "mine-b", "other"})
    f = o.files.create(file=("a.zip", make_zip(rig.folder / "a.zip", pictures(2, 2)).read_bytes()), purpose="fine-tune")
    check("openai: files", any(x.id == f.id for x in o.files.list()), f)
    o.files.delete(f.id)
    for key, kind in (("wnt_" + "B" * 43, openai.AuthenticationError), (rig.tokens["metrics"], openai.PermissionDeniedError)):
        try:
            o.with_options(api_key=key).models.list()
            e = None
        except openai.APIStatusError as x:
            e = x
        check(f"openai: {kind.__name__}", isinstance(e, kind) and e.body and "message" in e.body, e)

    env = {k: v for k, v in os.environ.items() if not k.startswith("WINNOW_")}

    def winnow(*args, **more):
        p = subprocess.run([CLI, *args], capture_output=True, env={**env, **more}, timeout=60)
        return p.returncode, p.stdout.decode(), p.stderr.decode()
    (rig.folder / "t").write_text(rig.tokens["infer"] + "\n")
    trust = ("--server", rig.tls, "--cacert", str(rig.folder / "cert.pem"))
    got = winnow("models", *trust, "--token-file", str(rig.folder / "t"))
    check("winnow models --token-file --cacert", got[0] == 0 and "other" in got[1], got)
    got = winnow("models", WINNOW_SERVER=rig.tls, WINNOW_CACERT=str(rig.folder / "cert.pem"),
                 WINNOW_TOKEN=rig.tokens["mine"])
    check("winnow models by the environment", got[0] == 0 and "mine-a" in got[1] and "other" not in got[1], got)
    with socket.socket() as clear:  # answers a ClientHello in clear text
        clear.bind(("127.0.0.1", 0))
        clear.listen()
        answer = threading.Thread(target=lambda: clear.accept()[0].sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
        answer.start()
        got = winnow("models", WINNOW_SERVER=f"https://127.0.0.1:{clear.getsockname()[1]}", WINNOW_TOKEN=rig.tokens["mine"])
        answer.join()
    check("winnow models with https:// where no TLS is spoken: 1, and a hint", got[0] == 1 and "http://" in got[2], got)
    got = winnow("files", *trust, WINNOW_TOKEN=rig.tokens["upload"])
    check("winnow files", got[0] == 0, got)
    got = winnow("files", "upload", str(rig.folder / "a.zip"), *trust, WINNOW_TOKEN=rig.tokens["upload"])
    check("winnow files upload", got[0] == 0 and "file-" in got[1], got)
    got = winnow("jobs", *trust, WINNOW_TOKEN=rig.tokens["upload"])
    check("winnow jobs", got[0] == 0, got)
    got = winnow("jobs", *trust, WINNOW_TOKEN=rig.tokens["infer"])
    check("winnow jobs with another scope: 1, and which", got[0] == 1 and "lacks the scope upload" in got[2], got)
    got = winnow("models", *trust)
    check("winnow models without a token: 1, and what is missing", got[0] == 1 and "token" in got[2], got)
    got = winnow("models", "--server", rig.tls, WINNOW_TOKEN=rig.tokens["infer"])
    check("winnow models trusts no unknown certificate", got[0] == 1 and "certificate" in got[2].lower(), got)
    got = winnow("models", "--token-file", str(rig.folder / "absent"))
    check("winnow models --token-file of nothing names it", got[0] == 1 and "absent" in got[2], got)
    got = winnow("models", "promote", "mine-a", "1", *trust, WINNOW_TOKEN=rig.tokens["admin"])
    check("winnow models promote", got[0] == 0, got)
    got = winnow("models", "list", "mine-a", "--json", "-", *trust, WINNOW_TOKEN=rig.tokens["infer"])
    check("who made it live: the token's id", "api admin 127.0.0.1" in got[1], got)


# ---- listening ----
def start(folder, text, *options, sockets=(), **env):
    pathlib.Path(folder, "w.yaml").write_text(text)
    env = {**os.environ, "WINNOW_PORT_FILE": f"{folder}/p", **env}
    pass_fds = ()
    command = [WINNOWD, "--config", f"{folder}/w.yaml", *options]
    if sockets:   # as systemd does it: descriptor 3, LISTEN_PID
        s = socket.socket()
        s.bind(sockets)
        s.listen()
        command = ["bash", "-c", f'exec 3<&{s.fileno()}; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$@"', "-", *command]
        pass_fds = (s.fileno(),)
    p = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, pass_fds=pass_fds)
    if not options and wait_for(lambda: os.path.exists(f"{folder}/p") or p.poll() is not None, 20) and p.poll() is None:
        p.send_signal(signal.SIGTERM)
    out = p.communicate(timeout=30)[0].decode()
    if os.path.exists(f"{folder}/p"):
        os.unlink(f"{folder}/p")
    if sockets:
        s.close()
    return p.returncode, out


def test_listening():
    with tempfile.TemporaryDirectory() as f:
        certificate(f)
        hash_ = "sha256:" + "0123456789abcdef" * 4
        pathlib.Path(f, "tokens").write_text(f"a {hash_} infer\n")
        rest = f"\nmodels:\n  repositories: []\n  state: {f}/state\njobs:\n  enabled: false\n"
        on = "server:\n  listen: [\"%s\"]\n"
        for address in ("0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.org:0"):
            code, out = start(f, on % address + rest)
            check(f"listening on {address} without credentials: exit 2 with file:line",
                  code == 2 and f"{f}/w.yaml:2: " in out and "auth: none" in out, (code, out))
        code, out = start(f, on % "0.0.0.0:0" + "  auth: none\n" + rest)
        check("... 'auth: none' allows it", code == 0, (code, out))
        code, out = start(f, on % "0.0.0.0:0" + "  auth: tokens\n" + rest)
        check("... 'auth: tokens' without a file: exit 2 with file:line", code == 2 and f"{f}/w.yaml:3: " in out, (code, out))
        code, out = start(f, on % "0.0.0.0:0" + "  auth: tokens\nauth:\n  tokens_file: tokens\n" + rest)
        check("... with tokens: starts, and warns that they travel in clear text", code == 0 and "tokens reach" in out,
              (code, out))
        tls = "tls:\n  certificate: cert.pem\n  key: key.pem\n"
        code, out = start(f, on % "0.0.0.0:0" + "  auth: tokens\nauth:\n  tokens_file: tokens\n" + tls + rest)
        check("... under TLS: no warning", code == 0 and "tokens reach" not in out, (code, out))
        code, out = start(f, on % "127.0.0.1:0" + "auth:\n  tokens_file: tokens\n" + rest)
        check("tokens that nobody is asked for: exit 2 with file:line", code == 2 and f"{f}/w.yaml:4: " in out, (code, out))
        code, out = start(f, on % "127.0.0.1:0" + "  tls: required\n" + rest)
        check("TLS required without a certificate: exit 2 with file:line", code == 2 and f"{f}/w.yaml:3: " in out, (code, out))
        for what, text, names in (("a certificate that is absent", tls.replace("cert.pem", "none.pem"), "none.pem"),
                                  ("a key that is absent", tls.replace("key.pem", "none.pem"), "none.pem"),
                                  ("a key for a certificate", tls.replace("cert.pem", "key.pem"), "key.pem")):
            for options in ((), ("--check",)):
                code, out = start(f, on % "127.0.0.1:0" + text + rest, *options)
                check(f"{what}{' (--check)' if options else ''}: exit 2, and the file", code == 2 and names in out, (code, out))
        secret = on % "127.0.0.1:0" + "tls:\n  certificate: credential:cert.pem\n  key: credential:key.pem\n" + rest
        code, out = start(f, secret, CREDENTIALS_DIRECTORY=f)
        check("certificate and key from systemd's credentials", code == 0 and "certificate " in out, (code, out))
        code, out = start(f, secret)
        check("... without systemd: exit 2, and which setting", code == 2 and "tls.certificate" in out, (code, out))
        code, out = start(f, secret.replace("credential:key", "credential:../key"), CREDENTIALS_DIRECTORY=f)
        check("... a path in a credential's name is refused", code == 2 and "tls.key" in out, (code, out))
        for what, text in (("empty", ""), ("of comments only", "# none\n")):
            pathlib.Path(f, "tokens").write_text(text)
            for options in ((), ("--check",)):
                code, out = start(f, on % "127.0.0.1:0" + "  auth: tokens\nauth:\n  tokens_file: tokens\n" + rest, *options)
                check(f"a file of tokens that is {what}{' (--check)' if options else ''}: exit 2, and what to do",
                      code == 2 and f"{f}/tokens: no token in it; winnow token create" in out, (code, out))
        pathlib.Path(f, "tokens").write_text("a\nb\n")
        code, out = start(f, on % "127.0.0.1:0" + "  auth: tokens\nauth:\n  tokens_file: tokens\n" + rest)
        check("a broken file of tokens: exit 2 with its line", code == 2 and "tokens:1: " in out, (code, out))
        code, out = start(f, rest, sockets=("0.0.0.0", 0))
        check("a socket of systemd's beyond loopback without credentials: exit 2", code == 2 and "0.0.0.0" in out
              and "auth" in out, (code, out))
        code, out = start(f, rest, sockets=("127.0.0.1", 0))
        check("... on loopback: starts", code == 0, (code, out))


def test_token_file(folder):
    """Many hands on one file: nothing is lost. Links are followed; what is no file is refused."""
    real, link = folder / "real-tokens", folder / "linked-tokens"
    real.write_text("")
    link.symlink_to("real-tokens")

    def token(*words):
        return subprocess.Popen([CLI, "token", *words, "-f", link], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    ok = all(token("create", f"old{i}").wait() == 0 for i in range(8))
    running = [token("revoke", f"old{i}") for i in range(8)] + [token("create", f"new{i}") for i in range(8)]
    ok = ok and all(p.wait() == 0 for p in running)
    names = sorted(line.split()[0] for line in real.read_text().splitlines() if not line.startswith("#"))
    check("16 hands on one tokens file: every revoke and every token counts", ok and link.is_symlink() and
          names == [f"new{i}" for i in range(8)], names)
    p = subprocess.run([CLI, "token", "create", "x", "-f", "/dev/null"], capture_output=True, text=True)
    check("a device is no tokens file", p.returncode == 1 and "no regular file" in p.stderr, p.stderr)


def main():
    if not WINNOWD.exists() or not common.MAKE_CNN.exists():
        print("winnowd or make_cnn is not built; nothing tested")
        print("0 passed, 0 failed")
        return 0
    routes, rpcs = table()
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(folder)
        test_lists(rig)
        restricted_routes(rig, routes)
        restricted_rpcs(rig, rpcs)
        test_jobs(rig)
        test_clients(rig)
        walk_rpcs(rig, rpcs)
        walk_routes(rig, routes)
        rig.ask("POST", "/v2/repository/models/mine-a/load", {}, "admin")
        test_header(rig)
        test_streams(rig)
        test_reload(rig)
        code = rig.daemon.stop()
        check("winnowd drains and ends", code == 0, rig.daemon.log()[-1500:])
        test_token_file(pathlib.Path(folder))
    test_listening()
    return common.end()


if __name__ == "__main__":
    sys.exit(main())
