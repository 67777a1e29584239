"""story.py: tells the demo: starts winnowd on a model that is wrong about some pictures, keeps a load on it, trains it
better on an upload, and shows that nothing was lost on the way. Python's standard library only; every step that matters
is done by `winnow`, curl and the tools in demo/, and printed as it is typed."""

import gzip
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
import zipfile
import zlib

BUILD = os.environ.get("BUILD", "build")
ONCE = os.environ.get("ONCE", "") not in ("", "0")
DATA = os.environ.get("DATA", "")
RATE = int(os.environ.get("RATE", "100"))
STATE = os.path.join(BUILD, "demo", "state")
WINNOW = os.path.join(BUILD, "winnow")
MAKER = os.path.join(BUILD, "demo", "maker")
LOAD = os.path.join(BUILD, "demo", "load")
MODEL = "letters"
RECIPE = ["--recipe", "demo/base/recipe.yaml"]
MANY = 6000  # pictures that the recipe can pass over in a minute or two
TTY = sys.stdout.isatty()
BOLD, DIM, GREEN, RED, PLAIN = ("\033[1m", "\033[2m", "\033[32m", "\033[31m", "\033[0m") if TTY else ("",) * 5
PROMOTION = {"promoted": "its version is live now", "waiting": "its version waits for a person to promote it",
             "refused": "the gate refused the result", "none": "nothing was published"}
NOT_AS_TOLD = []  # what ONCE=1 fails for


class Stop(Exception):
    """Something without which the story cannot go on."""


# ---- the terminal: text above, one status line below ----

class Screen:
    """Lines of text and, on a terminal, one line at the bottom that changes."""

    def __init__(self):
        self.lock = threading.RLock()
        self.line = ""
        self.said = 0.0

    def say(self, text=""):
        with self.lock:
            if TTY and self.line:
                sys.stdout.write("\r\033[K")
            sys.stdout.write(text + "\n")
            if TTY and self.line:
                sys.stdout.write(self.line)
            sys.stdout.flush()

    def status(self, text):
        with self.lock:
            if TTY:
                width = shutil.get_terminal_size().columns - 1
                self.line = DIM + text[:width] + PLAIN
                sys.stdout.write("\r\033[K" + self.line)
            elif time.monotonic() - self.said > 10:
                self.said = time.monotonic()
                sys.stdout.write("    | " + text + "\n")
            sys.stdout.flush()

    def no_status(self):
        with self.lock:
            if TTY and self.line:
                sys.stdout.write("\r\033[K")
                sys.stdout.flush()
            self.line = ""


SCREEN = Screen()
say = SCREEN.say


def title(number, text):
    say()
    say(f"{BOLD}{number}. {text}{PLAIN}")


def told(ok, text):
    """Part of the story: printed when it did not come true, and ONCE=1 then fails."""
    if not ok:
        NOT_AS_TOLD.append(text)
        say(f"   {RED}not as told: {text}{PLAIN}")


# ---- commands ----

def run(args, shown=None, quiet=False, may_fail=False):
    """Run a command, show it as typed, return its standard output."""
    if not quiet:
        say(f"   {DIM}${PLAIN} " + (shown or " ".join(args)))
    done = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode and not may_fail:
        raise Stop(f"{' '.join(args)}: {done.stderr.strip() or done.stdout.strip() or done.returncode}")
    return done.stdout.strip()


def winnow(server, *args, **how):
    # The address is left out of what is shown where it is the default anyway.
    shown = "winnow " + " ".join(args) + ("" if server.endswith(":8000") else f" --server {server}")
    return run([WINNOW, args[0], "--server", server, *args[1:]], shown=shown, **how)


def get(server, path):
    with urllib.request.urlopen(server + path, timeout=10) as reply:
        return json.load(reply)


# ---- the daemon ----

def free_port(wanted):
    for port in (wanted, 0):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
                return s.getsockname()[1]
            except OSError:
                continue
    raise Stop("no free port on loopback")


def stop_daemon(pid):
    """Stop the winnowd `pid`, if that is what it is."""
    try:
        if os.path.basename(os.readlink(f"/proc/{pid}/exe")).split(" ")[0] != "winnowd":
            return
        os.kill(pid, signal.SIGTERM)
        for _ in range(150):
            time.sleep(0.1)
            try:
                if os.waitpid(pid, os.WNOHANG)[0]:
                    return
            except ChildProcessError:
                os.kill(pid, 0)
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, FileNotFoundError, PermissionError):
        return


def fresh_state():
    """An empty state folder; a daemon that an earlier demo left running on it is stopped first."""
    marker = os.path.join(STATE, ".winnow-demo")
    if os.path.exists(STATE):
        if not os.path.exists(marker):
            raise Stop(f"{STATE} is there, and no demo made it")
        try:
            with open(os.path.join(STATE, "winnowd.pid"), encoding="ascii") as f:
                stop_daemon(int(f.read()))
        except (OSError, ValueError):
            pass
        shutil.rmtree(STATE)
    os.makedirs(STATE)
    with open(marker, "w", encoding="ascii"):
        pass


def start_daemon():
    ports = [free_port(8000), free_port(8001)]
    version = os.path.join(STATE, "models", MODEL, "1")
    os.makedirs(version)
    for name in ("model.onnx", "labels.txt", "pipeline.yaml"):
        shutil.copy(os.path.join("demo/base", name), version)
    shutil.copy("demo/base/anchor.npz", os.path.dirname(version))
    config = os.path.join(STATE, "winnowd.yaml")
    with open(config, "w", encoding="utf-8") as f:
        f.write(f"server:\n  listen: [127.0.0.1:{ports[0]}, 127.0.0.1:{ports[1]}]\n"
                f"models:\n  repositories: [{os.path.abspath(os.path.join(STATE, 'models'))}]\n"
                f"  state: {os.path.abspath(os.path.join(STATE, 'winnowd'))}\n")
    os.makedirs(os.path.join(STATE, "winnowd"))
    with open(os.path.join(STATE, "winnowd.log"), "w", encoding="utf-8") as log:
        daemon = subprocess.Popen([os.path.join(BUILD, "winnowd"), "--config", config], stdout=log, stderr=log,
                                  stdin=subprocess.DEVNULL, start_new_session=True)
    with open(os.path.join(STATE, "winnowd.pid"), "w", encoding="ascii") as f:
        f.write(str(daemon.pid))
    server = f"http://127.0.0.1:{ports[0]}"
    for _ in range(300):
        time.sleep(0.1)
        if daemon.poll() is not None:
            raise Stop(f"winnowd ended at once, see {STATE}/winnowd.log")
        try:
            get(server, f"/v2/models/{MODEL}")
            return daemon, server, ports
        except OSError:
            continue
    raise Stop("winnowd does not answer")


# ---- the load ----

class Load(threading.Thread):
    """The load tool, its latest report, and the status line made from it and from the job being watched."""

    def __init__(self, ports, pictures):
        super().__init__(daemon=True)
        folders = [os.path.join(STATE, "models", MODEL), os.path.join(STATE, "winnowd", "models", MODEL)]
        self.tool = subprocess.Popen([LOAD, "--model", MODEL, "--rate", str(RATE), "--rest", f"127.0.0.1:{ports[0]}",
                                      "--grpc", f"127.0.0.1:{ports[1]}",
                                      *[x for f in folders for x in ("--models", f)], *pictures],
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.now = {"generations": [], "served": 0, "failed": 0, "mixed": 0}
        self.job = None
        self.start()

    def run(self):
        for line in self.tool.stdout:
            self.now = json.loads(line)
            if not self.now.get("final"):
                SCREEN.status(self.text())

    def text(self):
        n, j = self.now, self.job
        text = (f"{n['rate']:.0f}/s  failed {n['failed']}  mixed {n['mixed']}  p99 {n['p99_ms']:.0f} ms  "
                f"gen {max((g['generation'] for g in n['generations']), default=0)}")
        if j:
            text += f" | {j.get('phase') or j['status']}"
            if j.get("epoch") is not None and j["status"] == "running":
                text += f" {j['epoch']:.1f}/{j.get('epochs') or 0:.0f}"
            if j.get("loss") is not None:
                text += f"  loss {j['loss']:.3f}"
            if j.get("sparsity") is not None:
                text += f"  {100 * j['sparsity']:.0f} % sparse"
        return text

    def tell(self, line):
        try:
            self.tool.stdin.write(line + "\n")
            self.tool.stdin.flush()
        except OSError:
            raise Stop("the load tool ended") from None

    def generation(self, version):
        return next((g for g in reversed(self.now["generations"]) if g["version"] == version), None)

    def stop(self):
        self.tell("stop")
        self.join(30)
        self.tool.wait()
        SCREEN.no_status()
        return self.now


# ---- asking ----

def ask_rest(server, model, picture, shown=True):
    url = f"{server}/v2/models/{model}/infer"
    args = ["curl", "-sS", "-D", "-", "-H", "Content-Type: image/png", "--data-binary", "@" + picture, url]
    out = run(args, shown=f"curl -H 'Content-Type: image/png' --data-binary @{picture} {url}", quiet=not shown)
    head, _, body = out.replace("\r\n", "\n").partition("\n\n")
    made = dict(line.split(": ", 1) for line in head.split("\n")[1:] if ": " in line)
    answer = json.loads(body)
    if "label" not in answer:
        raise Stop(f"{url}: {body}")
    return {"label": answer["label"], "probability": answer["probability"], "digest": made["winnow-digest"],
            "version": int(made["winnow-version"]), "generation": int(made["winnow-generation"])}


def ask_grpc(ports, model, picture):
    shown = f"load --ask --grpc 127.0.0.1:{ports[1]} --model {model} {picture}"
    return json.loads(run([LOAD, "--ask", "--grpc", f"127.0.0.1:{ports[1]}", "--model", model, picture], shown=shown))


def show_answer(how, a, right=None):
    colour = PLAIN if right is None else GREEN if a["label"] == right else RED
    say(f"     {how:<5} {colour}{BOLD}{a['label']}{PLAIN}  {100 * a['probability']:5.1f} %   version {a['version']}, "
        f"generation {a['generation']}, {a['digest'][:23]}…")


# ---- a user's own data ----

def is_idx(path):
    with open(path, "rb") as f:
        head = f.read(4)
    return head[:2] == b"\x1f\x8b" and "idx" in os.path.basename(path) or head in (b"\0\0\x08\x03", b"\0\0\x08\x04")


def labels_file(path):
    """The label file that belongs to an IDX file of pictures."""
    name = os.path.basename(path)
    for a, b in (("images", "labels"), ("idx3", "idx1"), ("idx4", "idx1")):
        name = name.replace(a, b)
    other = os.path.join(os.path.dirname(path), name)
    if other == path or not os.path.exists(other):
        raise Stop(f"{path}: no label file {other} beside it")
    return other


def png(width, height, pixels):
    """8-bit grey."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    raw = b"".join(b"\0" + pixels[y * width:(y + 1) * width] for y in range(height))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))


def idx_picture(path):
    """The first picture of an IDX file as PNG (None where it is not grey), and how many there are."""
    with (gzip.open if path.endswith(".gz") else open)(path, "rb") as f:
        kind, n, height, width = struct.unpack(">IIII", f.read(16))
        return png(width, height, f.read(width * height)) if kind == 0x803 else None, n


class Own:
    """The user's DATA: one file to upload, its label names (None: not known), how many pictures (0: not known), and a
    picture of it with its label (None: there is none to show)."""

    def __init__(self):
        if not os.path.exists(DATA):
            raise Stop(f"DATA={DATA}: no such file or folder")
        self.file, self.labels, self.n, self.picture, self.label = DATA, None, 0, None, None
        packed = os.path.join(STATE, "data.zip")
        if os.path.isfile(DATA) and is_idx(DATA):
            run([MAKER, "pack", packed, DATA, labels_file(DATA)], quiet=True)
            self.file = packed
            picture, self.n = idx_picture(DATA)
            self.show(picture, None)
            return
        if os.path.isdir(DATA):
            run([MAKER, "pack", packed, DATA], quiet=True)
            self.file = packed
        if zipfile.is_zipfile(self.file):
            with zipfile.ZipFile(self.file) as z:
                names = [n for n in z.namelist() if re.search(r"\.(png|jpe?g)$", n, re.I) and "/" in n]
                self.names, self.n = names, len(names)
                self.labels = {n.split("/")[-2] for n in names} or None
                if names:
                    self.show(z.read(names[0]), names[0].split("/")[-2])

    def show(self, picture, label):
        if picture:
            self.picture, self.label = os.path.join(STATE, "yours.png"), label
            with open(self.picture, "wb") as f:
                f.write(picture)

    def same_labels(self):
        with open("demo/base/labels.txt", encoding="utf-8") as f:
            return self.labels is not None and self.labels <= set(f.read().split("\n")[:-1])

    def find_wrong(self, server):
        """Show the first picture that the model is wrong about, where there is one among the first hundred or so."""
        step = max(len(self.names) // 100, 1)
        with zipfile.ZipFile(self.file) as z:
            for name in self.names[::step]:
                self.show(z.read(name), name.split("/")[-2])
                if ask_rest(server, MODEL, self.picture, shown=False)["label"] != self.label:
                    return


# ---- jobs ----

def follow(server, load, job_id, words):
    """Wait for a job's end; the status line shows how far it is."""
    phase = None
    while True:
        job = get(server, f"/v1/fine_tuning/jobs/{job_id}")
        load.job = job
        if job.get("phase") != phase:
            phase = job.get("phase")
            if phase == "train":
                load.tell("phase " + words)
        if job["status"] in ("succeeded", "failed", "cancelled"):
            return job
        if load.tool.poll() is not None:
            raise Stop("the load tool ended")
        time.sleep(0.3)


def upload_and_train(server, load, data, *options, words="training"):
    file_id = winnow(server, "files", "upload", data)
    job_id = winnow(server, "jobs", "create", "--model", MODEL, "--file", file_id, *options)
    say(f"     {job_id}")
    started = time.monotonic()
    job = follow(server, load, job_id, words)
    took = time.monotonic() - started
    sparsity = (job.get("metrics") or {}).get("sparsity")
    text = f", {100 * sparsity:.0f} % of the weights pruned, INT8" if sparsity is not None else ""
    outcome = PROMOTION.get(job.get("promotion"), "nothing was published")
    say(f"     ended after {took:.0f} s{text}: the job {job['status']}, {outcome}")
    load.job = None
    return job


def share_in_words(ratio):
    """0.26 -> "a quarter of the base's CPU time"."""
    named = {1 / 10: "a tenth of", 1 / 5: "a fifth of", 1 / 4: "a quarter of", 1 / 3: "a third of", 1 / 2: "half of",
             2 / 3: "two thirds of", 3 / 4: "three quarters of", 1: "as much as", 2: "twice"}
    near = min(named, key=lambda n: abs(ratio / n - 1))
    about = "" if abs(ratio / near - 1) < 0.03 else "about "
    words = about + named[near] if abs(ratio / near - 1) < 0.1 else f"{100 * ratio:.0f} % of"
    return f"{words} the base's CPU time"


def plain_reason(gate):
    """The gate's reason, its ratio of CPU times in words."""
    return re.sub(r"CPU time (\d+\.\d+)", lambda m: share_in_words(float(m[1])), gate.get("reason") or "")


def say_anchor(server, job):
    """The rows that were set aside guard the next job, too: the daemon tells how many there are now."""
    events = get(server, f"/v1/fine_tuning/jobs/{job['id']}/events")["data"]
    found = next((m for m in (re.search(r"The anchor of .* holds (\d+) rows", e["message"]) for e in events) if m), None)
    if found:
        say(f"   admitted: the new rows that were set aside joined the anchor ({found[1]} rows now); "
            "the next candidate is held to them, too")


def gate_table(job):
    gate = job.get("gate") or {}
    say(f"     {'':<26}{'base':>12}{'candidate':>12}{'difference':>14}")
    for key, name in (("anchor", "anchor rows"), ("eval", "new rows, set aside")):
        part = gate.get(key)
        if not part:
            continue
        models = part["models"]
        a, b = models[0], models[-1]
        rows = f"{name} ({part['rows']})"
        if len(models) == 1:
            say(f"     {rows:<26}{'':>12}{100 * b['accuracy']:>10.2f} %")
            continue
        p = part["paired"]
        say(f"     {rows:<26}{100 * a['accuracy']:>10.2f} %{100 * b['accuracy']:>10.2f} %{100 * p['diff']:>+10.2f} pts"
            f"   (at least {100 * p['lower95']:+.2f} with 95 % confidence)")
    models = (gate.get("eval") or {}).get("models") or []
    if len(models) == 2:
        a, b = models
        say(f"     {'bytes':<26}{a['bytes']:>12,}{b['bytes']:>12,}{a['bytes'] / b['bytes']:>11.1f} x smaller")
        say(f"     {'us of CPU per picture':<26}{a['cpu_us_per_row']:>12.1f}{b['cpu_us_per_row']:>12.1f}"
            f"{a['cpu_us_per_row'] / b['cpu_us_per_row']:>11.1f} x faster")
    say(f"     verdict: {BOLD}{gate.get('verdict')}{PLAIN}: {plain_reason(gate)}")
    return gate


def models_of(gate, key):
    return (gate.get(key) or {}).get("models") or []


# ---- the acts ----

def act_wrong(server, ports, picture, right, strict):
    title(1, f"A picture of the letter {right}. "
          "The model that is live is wrong about it, over REST and over gRPC alike.")
    drawn = subprocess.run([MAKER, "show", picture], stdout=subprocess.PIPE, text=True, check=True,
                           env=dict(os.environ, **({"MAKER_COLOURS": "1"} if TTY else {}))).stdout
    say("\n".join(line.rstrip() for line in drawn.split("\n")).strip("\n"))
    rest = ask_rest(server, MODEL, picture)
    show_answer("REST", rest, right)
    grpc = ask_grpc(ports, MODEL, picture)
    show_answer("gRPC", grpc, right)
    told(rest["label"] == grpc["label"] and rest["digest"] == grpc["digest"], "REST and gRPC answer alike")
    told(rest["label"] != right or not strict, "the base model is wrong about the picture")


def act_load(ports, picture):
    title(2, f"A steady load starts: {RATE} requests/s, half of them gRPC. Every answer is held against its model file.")
    folder = os.path.join(STATE, "asked")
    run([MAKER, "set", "--style", "base", "--number", "25", "--seed", "31", folder], quiet=True)
    pictures = sorted(os.path.join(d, f) for d, _, fs in os.walk(folder) for f in fs)
    load = Load(ports, [picture, *pictures])
    time.sleep(1)
    load.tell("phase before")
    time.sleep(5)
    return load


def act_train(server, load, data, words, *options):
    title(3, words)
    return upload_and_train(server, load, data, *options)


def act_gate(server, ports, load, job, picture, right, strict):
    title(4, "The gate: base and candidate on rows that neither was trained on, in a process of their own.")
    gate = gate_table(job)
    told(job["status"] == "succeeded" and job.get("promotion") == "promoted", "the candidate is promoted")
    answer = ask_rest(server, MODEL, picture, shown=False)
    for _ in range(50):
        flipped = load.generation(answer["version"])
        if flipped and flipped["reference"] and flipped["label"]:
            break
        time.sleep(0.1)
    first = load.generation(1)
    if flipped and flipped["version"] != 1:
        load.tell(f"phase swap {max(flipped['first_s'] - 1, 0):.3f}")
        load.tell(f"phase after {flipped['first_s'] + 1:.3f}")
    if first and flipped:
        say(f"   the picture, asked all along: {RED}{first['label']}{PLAIN} from generation {first['generation']}, "
            f"{GREEN if flipped['label'] == right else RED}{flipped['label']}{PLAIN} from generation "
            f"{flipped['generation']} on")
    show_answer("REST", answer, right)
    show_answer("gRPC", ask_grpc(ports, MODEL, picture), right)
    if job.get("promotion") == "promoted":
        say_anchor(server, job)
    if strict:
        told(answer["label"] == right and answer["version"] == 2, "version 2 is right about the picture")
        base, new = models_of(gate, "eval")[:2] if len(models_of(gate, "eval")) == 2 else ({}, {})
        told(base.get("accuracy", 1) < 0.7 and new.get("accuracy", 0) > 0.9,
             "on new rows the base has under 70 %, the candidate over 90 %")
        old = [m["accuracy"] for m in models_of(gate, "anchor")]
        told(len(old) == 2 and old[1] > old[0] - 0.01, "on anchor rows the candidate loses less than a point")
    return gate


def act_shuffled(server, load):
    title(5, "A second upload, every letter under the name of another. The gate has the last word.")
    data = os.path.join(STATE, "shuffled.zip")
    run([MAKER, "set", "--style", "new", "--number", "3000", "--seed", "5", "--shuffle", data],
        shown="maker set --style new --number 3000 --shuffle shuffled.zip")
    job = upload_and_train(server, load, data, *RECIPE, words="second_job")
    gate = gate_table(job)
    code = (job.get("error") or {}).get("code")
    told(job["status"] == "failed" and code == "gate_refused" and gate.get("verdict") == "refuse",
         "the shuffled labels are refused")
    load.tell("phase refused")
    time.sleep(1)


def act_back(server, load, picture):
    title(6, "Back to version 1, and forward again.")
    load.tell("phase back")
    for args, version in (((("models", "rollback", MODEL)), 1), (("models", "promote", MODEL, "2"), 2)):
        out = winnow(server, *args)
        answer = ask_rest(server, MODEL, picture, shown=False)
        say(f"     {out}: the picture is {answer['label']}")
        told(answer["version"] == version, f"version {version} is live")
        time.sleep(2)


def act_numbers(load, gate):
    final = load.stop()
    say()
    say(f"{BOLD}   What the clients saw{PLAIN}")
    say(f"     requests served {final['served']:,}, failed {final['failed']}, mixed {final['mixed']}")
    for g in final["generations"]:
        checked = "NO" if g["mixed"] else "all as its model file says" if g["reference"] else "NOT CHECKED"
        say(f"     generation {g['generation']:<3} version {g['version']:<3} {g['served']:>8,} answers, {checked}")
        told(g["reference"], f"the answers of generation {g['generation']} were held against its model file")
    say(f"     {'':<12}{'requests':>10}{'p50 ms':>10}{'p99 ms':>10}{'max ms':>10}")
    for name, words in (("before", "before"), ("training", "training"), ("swap", "swap, +-1 s"), ("after", "after"),
                        ("second_job", "second job"), ("back", "and back")):
        parts = [p for p in final["phases"] if p["name"] == name]
        if parts:
            p = parts[0]
            say(f"     {words:<12}{p['requests']:>10,}{p['p50_ms']:>10.1f}{p['p99_ms']:>10.1f}{p['max_ms']:>10.1f}")
    told(final["failed"] == 0, f"no request failed ({final['failed']}: {final['first_failure']})")
    told(final["mixed"] == 0, f"no answer is of another generation than it says ({final['mixed']}: "
                              f"{final['first_mixed']})")
    models = models_of(gate, "eval")
    if len(models) == 2:
        a, b = models
        say(f"{BOLD}   The model{PLAIN}           {'before':>12}{'after':>12}")
        say(f"     {'accuracy, new rows':<19}{100 * a['accuracy']:>10.1f} %{100 * b['accuracy']:>10.1f} %")
        say(f"     {'bytes':<19}{a['bytes']:>12,}{b['bytes']:>12,}")
        say(f"     {'us per picture':<19}{a['cpu_us_per_row']:>12.1f}{b['cpu_us_per_row']:>12.1f}")


def act_transfer(server, load, job, target, yours):
    title(4, "The gate: a new label set has no base to compare with.")
    gate = gate_table(job)
    told(job["status"] == "succeeded" and job.get("target") == target, f"{target} is published")
    if yours and job["status"] == "succeeded":
        answer = ask_rest(server, target, yours)
        show_answer("REST", answer)
        told(answer["version"] == 1, f"{target} has version 1")
    say(f"   {MODEL} itself goes on as it was")
    return gate


# ---- the whole ----

def letters_story(server, ports, load, picture, right):
    data = os.path.join(STATE, "new-letters.zip")
    run([MAKER, "set", "--style", "new", "--number", "3000", "--seed", "2", data], quiet=True)
    words = ("3,000 pictures of the same letters, in fonts and turned as the model never saw them, are uploaded and "
             "trained on.")
    job = act_train(server, load, data, words, *RECIPE)
    gate = act_gate(server, ports, load, job, picture, right, True)
    act_shuffled(server, load)
    act_back(server, load, picture)
    return gate


def own_story(server, ports, load, picture, right, own):
    how = RECIPE if own.n <= MANY else ["--level", "0.7"]  # a level's training does not grow with the data
    if own.same_labels():
        job = act_train(server, load, own.file, f"{DATA} is uploaded and trained on.", *how)
        gate = act_gate(server, ports, load, job, picture, right, False)
        act_shuffled(server, load)
        if job.get("promotion") == "promoted":
            act_back(server, load, picture)
        return gate
    words = f"{DATA} has labels of its own: the network is given a new last layer."
    job = act_train(server, load, own.file, words, *how, "--target", "yours", "--new-labels")
    return act_transfer(server, load, job, "yours", own.picture)


def tell(server, ports):
    picture, right, own = os.path.join(STATE, "picture.png"), "T", Own() if DATA else None
    run([MAKER, "one", "--style", "new", "--letter", right, "--seed", "16", picture], quiet=True)
    if own and own.same_labels():
        own.find_wrong(server)
        shutil.copy(own.picture, picture)
        right = own.label
    act_wrong(server, ports, picture, right, not own)
    load = act_load(ports, picture)
    try:
        if own:
            gate = own_story(server, ports, load, picture, right, own)
        else:
            gate = letters_story(server, ports, load, picture, right)
        act_numbers(load, gate)
    except BaseException:
        load.tool.kill()
        SCREEN.no_status()
        raise


def three_things(server, pid):
    say()
    say("winnowd stays up. Three things to try:")
    say(f"   curl -H 'Content-Type: image/png' --data-binary @{STATE}/picture.png "
        f"'{server}/v2/models/{MODEL}/infer?top_k=3'")
    say(f"   {WINNOW} models list --server {server}")
    say(f"   {WINNOW} jobs list --server {server}")
    say(f"To stop it: kill {pid}")


def main():
    started = time.monotonic()
    daemon = None
    try:
        fresh_state()
        daemon, server, ports = start_daemon()
        say(f"winnowd serves {MODEL} on {server} and 127.0.0.1:{ports[1]}; state in {STATE}")
        tell(server, ports)
        say(f"   told in {time.monotonic() - started:.0f} s")
        if not ONCE:
            three_things(server, daemon.pid)
    except (Stop, OSError, ValueError, KeyError) as e:
        SCREEN.no_status()
        say(f"{RED}demo: {type(e).__name__ if not isinstance(e, Stop) else 'stopped'}: {e}{PLAIN}")
        NOT_AS_TOLD.append(str(e))
        say(f"   the daemon's log: {STATE}/winnowd.log")
    except KeyboardInterrupt:
        SCREEN.no_status()
        NOT_AS_TOLD.append("interrupted")
    if daemon and (ONCE or NOT_AS_TOLD and daemon.poll() is None and "interrupted" in NOT_AS_TOLD):
        stop_daemon(daemon.pid)
    for text in NOT_AS_TOLD:
        print(f"not as told: {text}", file=sys.stderr)
    return 1 if NOT_AS_TOLD else 0


if __name__ == "__main__":
    sys.exit(main())
