"""h2spec.py: daemon/net judged by h2spec, in clear text and under TLS: `make check-h2spec`. Needs Go, which make test does not.

h2spec is built into BUILD/tools, at a version whose frame reader is of its own time. Prints its failures and one line of
counts."""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True  # no __pycache__ beside the sources
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from net_rig import BUILD, SERVER, Server, certificate  # noqa: E402

MODULES = ["github.com/summerwind/h2spec@v2.2.1+incompatible", "github.com/spf13/cobra@v1.10.2", "golang.org/x/net@v0.17.0"]
TOOL = pathlib.Path(BUILD).absolute() / "tools" / "h2spec"


def build():
    if TOOL.exists():
        return
    if not shutil.which("go"):
        sys.exit("h2spec is a Go program, and there is no go here")
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "go.mod").write_text("module judge\n\ngo 1.19\n")
        pathlib.Path(folder, "need.go").write_text(
            '//go:build need\n\npackage judge\n\nimport _ "github.com/summerwind/h2spec/cmd/h2spec"\n')
        subprocess.run(["go", "get", *MODULES], cwd=folder, check=True, stderr=subprocess.DEVNULL)
        subprocess.run(["go", "build", "-o", TOOL, "github.com/summerwind/h2spec/cmd/h2spec"], cwd=folder, check=True)


def judge(name, tls):
    server = Server(tls=tls)
    out = subprocess.run([TOOL, "-S", "-h", "127.0.0.1", "-p", str(server.port), "-P", "/hello", "--timeout", "2",
                          *(("-t", "-k") if tls else ())], capture_output=True, timeout=600).stdout.decode()
    server.process.terminate()
    server.process.wait()
    counts = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", out)
    print(out[out.find("\nFailures"):] if "\nFailures" in out else "", end="")
    print(f"{name}: {counts.group(0) if counts else 'h2spec did not finish: ' + out[-500:]}", flush=True)
    return (int(counts[2]), int(counts[4]) + int(counts[3])) if counts else (0, 1)


def main():
    if not os.path.exists(SERVER):
        sys.exit(f"{SERVER} is not built")
    build()
    with tempfile.TemporaryDirectory() as folder:
        results = [judge("clear text", None), judge("TLS", certificate(folder))]
    passed, failed = (sum(r[i] for r in results) for i in (0, 1))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
