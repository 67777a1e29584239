"""test_bad_input.py: the table of bad input: what every program answers to what it should never have been given.

Real programs (winnow, winnow-worker, winnowd on a free loopback port), inputs made here. A case passes when the status
is the one written beside it, the answer names what is at fault, the process that answered is alive afterwards (or ended
by itself, not by a signal) and its memory stayed below a bound. Prints the table; ends with one line of counts.

    BUILD=build build/venv/bin/python tests/daemon/test_bad_input.py [WORDS]     only cases with one of the words
"""

import os
import shutil
import sys
import time

sys.dont_write_bytecode = True  # no __pycache__ beside the sources
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bad_input
import bad_input_local
import bad_input_secure
import bad_input_text
import bad_input_wire
from bad_input import TMP, WINNOWD, daemon


def start_daemon():
    if os.path.exists(WINNOWD):
        daemon.start()
        daemon.memory()


def stop_daemon():
    if daemon.process is not None:
        code = daemon.stop()
        with open(daemon.log.name, errors="replace") as f:
            log = f.read()
        good = code == 0 and "ERROR: " not in log and "runtime error" not in log
        bad_input.row("winnowd after all of it", f"{code}: drained and ended", good, log[-1500:])


def main():
    os.environ["LC_ALL"] = "C.UTF-8"
    start = time.monotonic()
    print(f"{'verdict':6} {'case':58} | what it returned")
    for part in (*bad_input_local.PARTS, *bad_input_text.PARTS, start_daemon, *bad_input_wire.PARTS,
                 *bad_input_text.WIRE_PARTS, stop_daemon, *bad_input_secure.PARTS):
        part()
    for why, n in bad_input.left_out.items():
        print(f"left out: {n} cases: {why}")
    print(f"{time.monotonic() - start:.0f} s")
    print(f"{bad_input.passed} passed, {bad_input.failed} failed, {sum(bad_input.left_out.values())} left out")
    shutil.rmtree(TMP, ignore_errors=True)
    return 1 if bad_input.failed or not bad_input.passed else 0


if __name__ == "__main__":
    sys.exit(main())
