#!/usr/bin/env python3
"""Checks that #includes follow the table of rooms (ARCHITECTURE.md): who may use whom. Exit 1 names every breach."""
import pathlib, re, subprocess, sys

# room -> rooms it may include from. A room is the longest matching path prefix. "api" is engine's public API.
MAY = {
    "base": set(),
    "api": {"base"},
    "engine/graph": {"base", "api"},
    "engine/ops": {"base", "api", "engine/graph"},
    "engine/passes": {"base", "api", "engine/graph", "engine/ops"},
    "engine/kernels": {"base", "api"},
    "engine/plan": {"base", "api", "engine/graph", "engine/ops", "engine/passes", "engine/kernels"},
    "pipeline": {"base"},
    "config": {"base"},
    "sparsify": {"base", "api", "engine/graph", "engine/ops", "engine/passes", "engine/kernels", "pipeline"},
    "daemon/net": {"base", "api"},
    "daemon/serve": {"base", "api", "config", "pipeline", "daemon/net"},
    "daemon/jobs": {"base", "api", "config", "pipeline", "daemon/net", "daemon/serve", "daemon/api"},
    "daemon/api": {"base", "api", "config", "pipeline", "daemon/net", "daemon/serve", "daemon/jobs"},
    "daemon/console": {"base", "api", "daemon/net"},
    "daemon": {"base", "api", "config", "pipeline", "daemon/net", "daemon/serve", "daemon/api", "daemon/jobs",
               "daemon/console"},
    "cli": {"base", "api", "pipeline"},
    "demo": {"base", "api", "engine/graph", "pipeline", "cli"},  # net.c writes a model, load_check.c runs one as cli does
}
PREFIX = sorted(MAY, key=len, reverse=True)


def room(path):
    if path.startswith("winnow/") or path.startswith("engine/include/") or path.startswith("base/include/"):
        return "base" if path.endswith(("status.h", "status.def")) else "api"
    return next((p for p in PREFIX if path == p or path.startswith(p + "/")), None)


def main():
    files = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.c", "*.h"],
                           capture_output=True, text=True, check=True).stdout.split()
    bad = []
    for f in files:
        src = room(f)
        if src is None or f.startswith("tests/") or not pathlib.Path(f).is_file():
            continue
        for n, line in enumerate(pathlib.Path(f).read_text(errors="replace").splitlines(), 1):
            m = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            dst = room(m.group(1)) if m else None
            if dst and dst != src and dst not in MAY[src]:
                bad.append(f"{f}:{n}: {src} may not use {dst} ({m.group(1)})")
    print("\n".join(bad) if bad else f"rooms: {len(files)} files follow the table")
    return 1 if bad else 0


sys.exit(main())
