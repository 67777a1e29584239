#!/usr/bin/env python3
"""100 swaps under load: two versions of one model, which answer differently by construction, take turns being live while
requests arrive at a fixed rate, about a third of what the server can do. Every answer is held against the model file
whose digest it names.

    build/venv/bin/python tests/bench/swap.py [--swaps 100] [--gap 0.3]

Prints capacity, requests, failed, mixed, answers per version, and p50/p99 without swaps and during them."""
import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

BUILD = pathlib.Path(os.environ.get("BUILD", "build"))


def post(port, path):
    with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=b"{}"), timeout=60) as r:
        return r.read()


def load(port, models, pictures, *options):
    return subprocess.Popen([BUILD / "demo/load", "--model", "letters", "--models", models, "--rest", f"127.0.0.1:{port}",
                             "--grpc", f"127.0.0.1:{port}", *map(str, options), *pictures], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, text=True)


def last(out):
    return json.loads([line for line in out.splitlines() if line.startswith("{")][-1])


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--swaps", type=int, default=100)
    a.add_argument("--gap", type=float, default=0.3, help="seconds between swaps")
    a = a.parse_args()
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        repo = tmp / "models/letters"
        for version in ("1", "2"):
            (repo / version).mkdir(parents=True)
            for f in ("labels.txt", "pipeline.yaml"):
                shutil.copy(f"demo/base/{f}", repo / version / f)
        shutil.copy("demo/base/model.onnx", repo / "1/model.onnx")
        subprocess.run([BUILD / "demo/net", repo / "2/model.onnx", "7"], check=True)
        subprocess.run([BUILD / "demo/maker", "set", tmp / "pictures", "-n", "52", "-s", "3"], check=True,
                       stdout=subprocess.DEVNULL)
        pictures = [str(p) for p in sorted((tmp / "pictures").rglob("*.png"))[:26]]
        (tmp / "winnowd.yaml").write_text(f"server:\n  listen: [127.0.0.1:0]\nmodels:\n  repositories: [{tmp}/models]\n"
                                          f"  state: {tmp}/state\njobs:\n  enabled: false\n")
        (tmp / "state").mkdir()
        daemon = subprocess.Popen([BUILD / "winnowd", "--config", tmp / "winnowd.yaml"], stderr=subprocess.PIPE, text=True,
                                  env={**os.environ, "WINNOW_PORT_FILE": str(tmp / "port")})
        try:
            for _ in range(200):
                time.sleep(0.05)
                if (tmp / "port").exists():
                    port = int(re.search(r":(\d+)", (tmp / "port").read_text())[1])
                    try:
                        urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/models/letters/ready", timeout=2)
                        break
                    except OSError:
                        pass
            probe = load(port, repo, pictures, "--closed", 8, "--time", 5)
            capacity = last(probe.communicate()[0])["served"] / 5
            rate = max(20, int(capacity / 3))
            print(f"capacity {capacity:.0f} requests/s (8 under way, load tool on the same cores); rate {rate}/s", flush=True)
            tool, lines = load(port, repo, pictures, "--rate", rate), []
            reader = threading.Thread(target=lambda: lines.extend(tool.stdout))
            reader.start()
            tool.stdin.write("phase calm\n")
            tool.stdin.flush()
            time.sleep(10)
            tool.stdin.write("phase swaps\n")
            tool.stdin.flush()
            took = []
            for i in range(a.swaps):
                start = time.monotonic()
                post(port, f"/v2/repository/models/letters/versions/{1 + i % 2}/promote")
                took.append(time.monotonic() - start)
                time.sleep(a.gap)
            tool.stdin.write("stop\n")
            tool.stdin.flush()
            reader.join(60)
            end = json.loads(lines[-1])
        finally:
            daemon.terminate()
            daemon.wait(30)
    for p in end["phases"]:
        print(f"{p['name']:6} {p['seconds']:6.1f} s  {p['requests']:6} requests  p50 {p['p50_ms']:.2f}  p99 {p['p99_ms']:.2f}  "
              f"max {p['max_ms']:.1f} ms")
    print(f"{a.swaps} swaps, {sorted(took)[len(took) // 2] * 1e3:.0f} ms each (median), {max(took) * 1e3:.0f} ms at most")
    bad = end["failed"] + end["mixed"]
    print(f"{end['served']} answered, {end['failed']} failed, {end['mixed']} mixed")
    return 1 if bad else 0


sys.exit(main())
