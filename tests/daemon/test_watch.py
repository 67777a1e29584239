"""test_watch.py: after a promotion. A version that a job made is watched against the one before it; when the classes that it
answers are others, it is rolled back within seconds, nothing is lost, and job, log, metrics and live file tell the story;
when they are not, it stays. Prints TAP-like lines."""
import base64
import json
import pathlib
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import urllib.request

from common import CLI, KINDS, MAKE_CNN, WINNOWD, WORKER, Daemon, check, end, make_base, make_zip, pictures, wait_for

ROOT = pathlib.Path(tempfile.mkdtemp(prefix="winnow-watch-test-"))
CONFIG = """
server: {listen: ["127.0.0.1:0"]}
models: {repositories: [repo], state: state, poll: 200ms, settle: 0}
jobs: {worker: winnow-worker}
gate: {margin: -3, max_cpu_ratio: 20, min_rows: 20, without_anchor: eval_rows}
watch: {window: %s, min_requests: 60}
"""
RECIPE = """modifiers:
  - !EpochRangeModifier {start_epoch: 0, end_epoch: 6}
  - !SetLearningRateModifier {start_epoch: 0, learning_rate: 0.05}
"""


def ask(d, picture):
    """The version that answered, or what went wrong."""
    body = json.dumps({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1],
                                   "data": [base64.b64encode(picture).decode()],
                                   "parameters": {"content_type": "base64"}}]}).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{d.url}/v2/models/shapes/infer", body), timeout=20) as r:
            return int(r.headers["winnow-version"])
    except OSError as e:
        return str(e)


def train(d, file_id):
    """A job to its end."""
    status, job = d.curl("/v1/fine_tuning/jobs", "-d",
                         json.dumps({"model": "shapes", "training_file": file_id, "recipe": RECIPE}))
    if status != 200:
        raise RuntimeError(job)
    get = lambda: d.curl(f"/v1/fine_tuning/jobs/{job['id']}")[1]
    wait_for(lambda: get()["status"] in ("succeeded", "failed"), 120, 0.1)
    return get()


def events(d, job):
    return [e["message"] for e in d.curl(f"/v1/fine_tuning/jobs/{job['id']}/events?limit=1000&order=asc")[1]["data"]]


def metric(d, name):
    for line in str(d.curl("/metrics")[1]).splitlines():
        if line.startswith(name + " "):
            return float(line.split()[-1])
    return None


def live(d):
    return d.curl("/v1/models/shapes")[1].get("version")


def story(d):
    up = d.curl("/v1/files/shapes.zip", "-T", make_zip(ROOT / "shapes.zip", pictures(1, 100)))[1]["id"]
    first = train(d, up)
    check("a first job goes live", first["promotion"] == "promoted" and live(d) == 2, first)
    mixed = list(pictures(7, 25).values())
    got = [ask(d, p) for p in mixed]
    check("version 2 answers", got == [2] * 100, got)
    second = train(d, up)
    check("a second job goes live", second["promotion"] == "promoted" and live(d) == 3, second["error"])
    check("and is watched", metric(d, "winnow_watched") == 1 and "watch_begins model=shapes version=3 before=2" in d.log())
    got = [ask(d, p) for p in mixed]
    time.sleep(2.5)  # it is looked at every second
    check("as long as it answers like version 2, it stays", got == [3] * 100 and live(d) == 3, got[-3:])

    discs, answers, stop = [p for n, p in pictures(8, 50).items() if n.startswith("disc")], [], threading.Event()

    def load():
        while not stop.is_set():
            answers.extend(ask(d, p) for p in discs)
    thread = threading.Thread(target=load)
    thread.start()
    begin = time.monotonic()
    back = wait_for(lambda: live(d) == 2, 60, 0.05)
    took = time.monotonic() - begin
    time.sleep(0.5)
    stop.set()
    thread.join()
    check("other answers: back to version 2", back, live(d))
    check("not a request is lost by it", set(answers) == {2, 3} and answers == sorted(answers, reverse=True), set(answers))
    print(f"# rolled back {took:.1f} s after the first of them, {answers.count(3)} requests later")
    job = wait_for(lambda: (lambda j: j if j["promotion"] == "rolled_back" else None)(
        d.curl(f"/v1/fine_tuning/jobs/{second['id']}")[1]), 10) or {}
    w = job.get("watch") or {}
    check("the job says so, with figures", w.get("verdict") == "drift" and w["drift"] > 0.3 and w["requests"] >= 60 and
          w["requests_before"] == 100, job)
    check("its events tell the story", any("Rolled back to version 2: the classes answered" in m for m in events(d, job)),
          events(d, job)[-3:])
    check("the log too", "watch_rolled_back model=shapes version=3 to=2" in d.log())
    check("and the metrics", metric(d, 'winnow_watch_rollbacks_total{reason="drift"}') == 1 and
          metric(d, "winnow_watched") == 0)
    by = json.loads((d.folder / "state/models/shapes/live").read_text()).get("by")
    check("the live file says by whom", by == "watch", by)

    d.yaml.write_text(CONFIG % "3s")
    d.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "reloaded" in d.log(), 10)
    time.sleep(4)  # the last window of version 2 holds no discs any more
    [ask(d, p) for p in mixed]
    status, _ = d.curl("/v2/repository/models/shapes/versions/3/promote", "-d", "{}")
    check("a person may promote it all the same", status == 200 and live(d) == 3, status)
    [ask(d, p) for p in mixed]
    stays = wait_for(lambda: any("which stays" in m for m in events(d, job)), 20, 0.1)
    check("the end of the window is told", stays and live(d) == 3, events(d, job)[-2:])


def main():
    for program in (WINNOWD, CLI, WORKER, MAKE_CNN):
        if not program.exists():
            print(f"not ok - {program} is not built\n0 passed, 1 failed")
            return 1
    make_base(ROOT / "repo/shapes/1", KINDS)
    d = Daemon(ROOT, CONFIG % "1h")
    try:
        story(d)
    except Exception as e:  # a test that cannot go on is a failure of its own
        traceback.print_exc(file=sys.stdout)
        check("no test breaks off", False, e)
    finally:
        code = d.stop()
    check("winnowd ends in order", code == 0, code)
    shutil.rmtree(ROOT, ignore_errors=True)
    return end()


sys.exit(main())
