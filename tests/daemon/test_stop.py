"""test_stop.py: what jobs wait for, and the way down with a job under way: the worker ends first, what is left is said, and
goes on from there. Prints TAP-like lines."""
import json
import os
import pathlib
import re
import resource
import select
import signal
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from common import (CLI, WORKER, Daemon, check, end, left_out, make_base, make_zip, pictures, wait_for)  # noqa: E402

CONFIG = f"""
server: {{listen: ["127.0.0.1:0"], drain_lag: 0}}
models: {{repositories: [repo], state: state, poll: 200ms, settle: 0}}
jobs: {{worker: "{WORKER}", threads: 1}}
"""
LONG = """modifiers:
  - !EpochRangeModifier {start_epoch: 0, end_epoch: 2000}
  - !SetLearningRateModifier {start_epoch: 0, learning_rate: 0.01}
"""


def create(d, file):
    return d.curl("/v1/fine_tuning/jobs", "-d", json.dumps({"model": "shapes", "training_file": file, "recipe": LONG}))[1]["id"]


def waits(d, job):
    return d.curl(f"/v1/fine_tuning/jobs/{job}")[1]["waiting_for"] or {}


def children(pid):
    try:
        return [int(p) for t in pathlib.Path(f"/proc/{pid}/task").iterdir() for p in (t / "children").read_text().split()]
    except OSError:
        return []


def trainer(d):
    """Pid of the process that trains: the child of the worker of this server."""
    for worker in children(d.process.pid):
        if b"winnow-worker" in pathlib.Path(f"/proc/{worker}/cmdline").read_bytes():
            return next(iter(children(worker)), None)
    return None


def newest(d, job):
    """Step of the newest checkpoint, or None."""
    steps = [int(f.stem) for f in (d.folder / "state/jobs" / job / "work/checkpoint").glob("*.wnck")]
    return max(steps, default=None)


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def follow(d, job):
    """curl at the job's stream of events, which has begun."""
    p = subprocess.Popen(["curl", "-sSN", f"{d.url}/v1/fine_tuning/jobs/{job}/events?stream=true"], stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL, text=True)
    select.select([p.stdout], [], [], 30)
    return p


def events(d, job):
    return [e["message"] for e in d.curl(f"/v1/fine_tuning/jobs/{job}/events?limit=1000")[1]["data"]]


def training(d, job):
    """The job's process, once there is a checkpoint and the job is at its steps."""
    # what runs at idle priority beside busy neighbours takes its time
    check("the job trains", wait_for(lambda: newest(d, job) and trainer(d), 900, 0.1), d.log()[-600:])
    return trainer(d)


# ---- what a job waits for ----

def test_queue(d, first, second):
    got = wait_for(lambda: waits(d, second).get("reason") == "worker_busy" and waits(d, second), 20)
    check("a queued job waits for the worker, which is busy with another", got and got["job"] == first and
          first in got["message"], got or waits(d, second))
    got = waits(d, first).get("reason")
    check("one that has the worker does not wait for it", got in (None, "cpu", "stopped"), got)
    text = subprocess.run([CLI, "jobs", "-s", d.url], capture_output=True, text=True).stdout
    line = next((x for x in text.splitlines() if second in x), "")
    check("winnow jobs list says so", "waits for the worker" in line and first in line, text)
    p = subprocess.Popen([CLI, "jobs", "watch", second, "-s", d.url], stdout=subprocess.PIPE, text=True)
    said = next((x for x in p.stdout if x.startswith("waiting for")), "")
    p.kill()
    p.wait()
    check("winnow jobs watch says so", first in said, said)


def test_stopped_process(d, job, child):
    os.kill(child, signal.SIGSTOP)
    got = wait_for(lambda: waits(d, job).get("reason") == "stopped" and waits(d, job), 60, 0.3)
    check("a job whose process was stopped says that", got and "continue" in got["message"], waits(d, job))


def test_starved(d, job, child):
    """One CPU, and somebody else who wants all of it; a training process runs when nobody else wants to."""
    cpu = min(os.sched_getaffinity(child))
    for thread in pathlib.Path(f"/proc/{child}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {cpu})
    os.kill(child, signal.SIGCONT)
    check("continued, it waits for that no longer", wait_for(lambda: waits(d, job).get("reason") != "stopped", 60, 0.3),
          waits(d, job))
    hog = subprocess.Popen([sys.executable, "-c", "while True: pass"], preexec_fn=lambda: os.sched_setaffinity(0, {cpu}))
    try:
        got = wait_for(lambda: waits(d, job).get("reason") == "cpu" and waits(d, job), 90, 0.3)
    finally:
        hog.kill()
        hog.wait()
    check("a job that hardly gets to run says that", got and "CPU" in got["message"], waits(d, job))


# ---- the way down ----

def stop_told(d, job):
    """What the log and the job say about the stop: (step told or None, where worker_ended and stopped stand in the log)."""
    log = d.log()
    told = re.findall(rf'job={job} message="The server stops; training goes on after step (\d+)', log)
    return int(told[-1]) if told else None, log.rfind("worker_ended"), log.rfind(" stopped unfinished=0")


def may_leave_idle():
    return os.geteuid() == 0 or resource.getrlimit(resource.RLIMIT_NICE)[0] >= 20


def test_deaf_child(d, job, child):
    """A training process that does not get to run at all: killed, and its checkpoint is what is told."""
    os.kill(child, signal.SIGSTOP)
    policy = os.sched_getscheduler(child)
    kept = newest(d, job)
    d.process.send_signal(signal.SIGTERM)
    raised = wait_for(lambda: os.sched_getscheduler(child) == os.SCHED_OTHER, 7)
    if may_leave_idle():
        check("on a stop the training process leaves SCHED_IDLE", policy == os.SCHED_IDLE and raised, (policy, raised))
    else:
        left_out("on a stop the training process leaves SCHED_IDLE", "RLIMIT_NICE does not let it")
    check("the server ends", d.process.wait(60) == 0, d.log()[-600:])
    step, ended, stopped = stop_told(d, job)
    check("its process is gone", not alive(child), child)
    check("the step that it goes on after is that of its checkpoint", step == kept == newest(d, job), (step, kept))
    check("the worker ended before the server said that it stopped", 0 < ended < stopped, (ended, stopped))
    check("and two jobs are told of as unfinished", "stopped unfinished=0 jobs=2" in d.log()[stopped:], d.log()[-300:])
    return step


def test_resumes(d, job, step):
    d.start()
    want = f"resumed after step {step}"
    check("after the start it goes on there", wait_for(lambda: want in events(d, job), 600, 0.3), events(d, job)[:6])
    check("the job's events tell of the stop", any(f"goes on after step {step}" in e for e in events(d, job)))


def test_heeding_child(d, job, step):
    wait_for(lambda: newest(d, job) > step and trainer(d), 900, 0.1)
    stream = follow(d, job)
    check("the server ends with a job at its steps", d.stop(60) == 0, d.log()[-600:])
    log = d.log()
    told, ended, stopped = stop_told(d, job)
    tail = log[log.rfind("draining"):]
    check("a process that runs leaves by itself, after one more checkpoint", "child_killed" not in tail and
          "code=0" in tail[tail.find("worker_ended"):].splitlines()[0] and told == newest(d, job) > step, tail[-800:])
    check("the worker ended before the server said that it stopped", 0 < ended < stopped, (ended, stopped))
    said = stream.communicate(timeout=30)[0]
    check("a stream of its events has what there was and is cut, without [DONE]: the job is not done",
          f"resumed after step {step}" in said and "[DONE]" not in said and stream.returncode == 18,  # curl: partial file
          (stream.returncode, said[-300:]))


def test_nothing_left(d, jobs):
    d.start()
    streams = [follow(d, job) for job in jobs]
    for job in jobs:
        d.curl(f"/v1/fine_tuning/jobs/{job}/cancel", "-X", "POST")
    wait_for(lambda: all(d.curl(f"/v1/fine_tuning/jobs/{j}")[1]["status"] == "cancelled" for j in jobs), 30)
    said = [(s.communicate(timeout=30)[0], s.returncode) for s in streams]
    check("a job's stream of events ends with [DONE] when it is done", all(text.endswith("data: [DONE]\n\n") and rc == 0
                                                                         for text, rc in said), [s[0][-200:] for s in said])
    check("without jobs nothing is unfinished", d.stop(60) == 0 and "stopped unfinished=0 jobs=0" in d.log()[-300:],
          d.log()[-300:])


def test_no_worker(folder):
    folder.mkdir()
    make_base(folder / "repo/shapes/1")
    d = Daemon(folder, CONFIG.replace(str(WORKER), ""))
    file = d.curl("/v1/files/shapes.zip", "-T", make_zip(folder / "shapes.zip", pictures(1, 30)))[1]["id"]
    job = create(d, file)
    got = wait_for(lambda: waits(d, job), 10)
    check("without a worker, a job says that it waits for one", got and got["reason"] == "no_worker", got)
    d.stop(60)
    check("a job that has not begun is told of as such", "the job begins when it starts again" in d.log(), d.log()[-500:])


def main():
    with tempfile.TemporaryDirectory(prefix="winnow-stop-test-") as tmp:
        folder = pathlib.Path(tmp) / "main"
        folder.mkdir()
        make_base(folder / "repo/shapes/1")
        d = Daemon(folder, CONFIG)
        try:
            file = d.curl("/v1/files/shapes.zip", "-T", make_zip(folder / "shapes.zip", pictures(1, 60)))[1]["id"]
            first = create(d, file)
            child = training(d, first)
            second = create(d, file)
            test_queue(d, first, second)
            test_stopped_process(d, first, child)
            test_starved(d, first, child)
            step = test_deaf_child(d, first, child)
            test_resumes(d, first, step)
            test_heeding_child(d, first, step)
            test_nothing_left(d, [first, second])
        finally:
            d.kill()
        test_no_worker(pathlib.Path(tmp) / "none")
    return end()


if __name__ == "__main__":
    sys.exit(main())
