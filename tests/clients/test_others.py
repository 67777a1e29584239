"""test_others.py: clients that people have beside Triton's Python one, unmodified: grpcurl, ghz, perf_analyzer, KServe's SDK.

tools/clients.sh installs them (`make check-clients`); what is not there is left out, and said. Prints TAP-like lines."""
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "daemon"))
import onnx_bytes as ob  # noqa: E402
from api_rig import Daemon, put_version, types_model  # noqa: E402
from common import check, end, left_out  # noqa: E402

ROOT = HERE.parents[1] / "build"
GO, PERF, KSERVE = ROOT / "go/bin", ROOT / "clients/perf", ROOT / "clients/venv/bin/python"
SERVICE = "inference.GRPCInferenceService"
REQUEST = json.dumps({"model_name": "lin", "id": "7", "inputs": [
    {"name": "x", "datatype": "FP32", "shape": [1, 4], "contents": {"fp32_contents": [1, 2, 3, 4]}}]})


def run(*args, stdin=None, seconds=120, **env):
    p = subprocess.run([str(a) for a in args], input=stdin, capture_output=True, text=True, timeout=seconds,
                       env={**os.environ, **env})
    return p.returncode, p.stdout, p.stderr


def test_grpcurl(d):
    tool = GO / "grpcurl"
    if not tool.exists():
        return left_out("grpcurl", "it is not in build/go/bin")
    call = lambda *a, stdin=None: run(tool, "-plaintext", *a, stdin=stdin)
    code, out, err = call(d.address, "list")
    check("grpcurl list", code == 0 and SERVICE in out and "grpc.health.v1.Health" in out, (out, err))
    code, out, err = call(d.address, "list", SERVICE)
    check("grpcurl list SERVICE", code == 0 and len(out.split()) == 20, (out, err))
    for what in (SERVICE, f"{SERVICE}.ModelStreamInfer", "inference.ModelConfig", "inference.DataType",
                 "inference.ModelInferRequest.InferInputTensor"):
        code, out, err = call(d.address, "describe", what)
        check(f"grpcurl describe {what}", code == 0 and what.rpartition(".")[2] in out, (out, err))
    code, out, err = call("-d", REQUEST, d.address, f"{SERVICE}/ModelInfer")
    check("grpcurl ModelInfer", code == 0 and json.loads(out)["rawOutputContents"] == ["AABgQAAAkEAAALBA"], (out, err))
    code, out, err = call("-d", "@", d.address, f"{SERVICE}/ModelStreamInfer", stdin=REQUEST * 3)
    check("grpcurl ModelStreamInfer", code == 0 and out.count('"inferResponse"') == 3, (out, err))
    for method, request, says in (("ServerMetadata", "{}", '"winnow"'), ("ModelMetadata", '{"name":"lin"}', "FP32"),
                                  ("ModelConfig", '{"name":"lin"}', "TYPE_FP32"),
                                  ("ModelStatistics", '{"name":"lin"}', "inferenceStats"),
                                  ("RepositoryIndex", "{}", "READY"), ("TraceSetting", "{}", "trace_level"),
                                  ("LogSettings", "{}", "log_info")):
        code, out, err = call("-d", request, d.address, f"{SERVICE}/{method}")
        check(f"grpcurl {method}", code == 0 and says in out, (out, err))
    code, out, err = call(d.address, "grpc.health.v1.Health/List")
    check("grpcurl health List", code == 0 and json.loads(out)["statuses"]["lin"]["status"] == "SERVING", (out, err))
    code, out, err = call("-max-time", "1", d.address, "grpc.health.v1.Health/Watch")
    check("grpcurl health Watch, until its time is over", "SERVING" in out and "DeadlineExceeded" in err, (out, err))
    code, out, err = call("-d", '{"model_name":"none"}', d.address, f"{SERVICE}/ModelInfer")
    check("grpcurl: an error is one", code != 0 and "NotFound" in err and "'none'" in err, (out, err))
    code, out, err = call(d.address, "describe", "inference.Nothing")
    check("grpcurl: an unknown symbol", code != 0 and "Nothing" in err, (out, err))


def test_ghz(d):
    tool = GO / "ghz"
    if not tool.exists():
        return left_out("ghz", "it is not in build/go/bin")
    for more in ([], ["--enable-compression"], ["--connections", "4"]):
        code, out, err = run(tool, "--insecure", "--call", f"{SERVICE}.ModelInfer", "-d", REQUEST, "-n", "1000", "-c", "8",
                             "-O", "json", *more, d.address)
        v = json.loads(out) if code == 0 else {}
        check(f"ghz {' '.join(more)}: 1000 calls", v.get("statusCodeDistribution") == {"OK": 1000}, (out[-300:], err))


def test_perf_analyzer(d):
    tool = next(PERF.rglob("bin/perf_analyzer"), None) if PERF.is_dir() else None
    cuda = next(PERF.rglob("libcudart.so.12"), None) if PERF.is_dir() else None
    if not tool or not cuda or run(tool, "--help", LD_LIBRARY_PATH=str(cuda.parent))[0] == 127:
        return left_out("perf_analyzer", "it, libcudart or libb64 is not there")
    for name, more in (("http", ["-i", "http"]), ("grpc", ["-i", "grpc"]), ("http, async", ["-i", "http", "--async"]),
                       ("grpc, streaming", ["-i", "grpc", "--async", "--streaming"]),
                       ("http, batches of 4", ["-i", "http", "-b", "4"]),
                       ("http, JSON", ["-i", "http", "--input-tensor-format", "json", "--output-tensor-format", "json"]),
                       ("grpc, gzip", ["-i", "grpc", "--grpc-compression-algorithm", "gzip"])):
        code, out, err = run(tool, "-m", "lin", "-u", d.address, *more, "--measurement-mode", "count_windows",
                             "--measurement-request-count", "200", "-s", "999", "-r", "3", "--concurrency-range", "2",
                             LD_LIBRARY_PATH=str(cuda.parent))
        rate = re.search(r"Concurrency: 2, throughput: ([\d.]+)", out)
        stats = re.search(r"Successful request count: (\d+)", out)
        check(f"perf_analyzer {name}", code == 0 and rate and float(rate[1]) > 0 and stats and int(stats[1]) > 0,
              (out[-600:], err[-300:]))


def test_kserve(d):
    if not KSERVE.exists() or run(KSERVE, "-c", "import kserve")[0]:
        return left_out("KServe's SDK", "it is not in build/clients/venv")
    code, out, err = run(KSERVE, HERE / "kserve_client.py", d.port)
    for line in out.splitlines():
        verdict, _, name = line.partition(" - ")
        check("kserve " + name, verdict == "ok", line)
    check("kserve: the walk came to its end", code == 0, err[-600:])


def main():
    with tempfile.TemporaryDirectory() as tmp:
        put_version(f"{tmp}/repo", "lin", 1, ob.linear())
        put_version(f"{tmp}/repo", "types", 1, types_model())
        d = Daemon(tmp)
        try:
            check("ready", d.wait_ready(), d.text()[-2000:])
            for test in (test_grpcurl, test_ghz, test_perf_analyzer, test_kserve):
                try:
                    test(d)
                except Exception as e:                      # one test's surprise must not hide the others
                    check(f"{test.__name__} ran to its end", False, repr(e))
            code = d.stop()
            check("it drains and ends", code == 0, (code, d.text()[-1000:]))
        finally:
            if d.process.poll() is None:
                d.stop(signal.SIGKILL)
    return end()


if __name__ == "__main__":
    sys.exit(main())
