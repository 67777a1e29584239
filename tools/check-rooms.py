#!/usr/bin/env python3
"""Checks that #includes follow the table of rooms in ARCHITECTURE.md: who may use whom. Exit 1 names every breach.

The table is read, not copied. In its third column a name is a room beside the row's own, a room at the top, or one of
the engine's; "public API" is engine/include. Everyone may use base, and the engine's rooms the API they implement."""
import pathlib, re, subprocess, sys

HEAD = "| room | holds | may use |"
API = "engine/include"


def read_table(text):
    """room -> what its third column says"""
    if HEAD not in text:
        sys.exit(f"ARCHITECTURE.md: no table '{HEAD}'")
    rows = {}
    for line in text.split(HEAD, 1)[1].splitlines()[2:]:
        if not line.startswith("|"):
            break
        cells = [c.strip() for c in line.strip("|").split("|")]
        rows[cells[0].strip("`").rstrip("/")] = cells[2]
    return rows


def resolve(room, name, rows):
    name = name.removeprefix("engine's ")
    if name == "public API":
        return API
    for there in (f"{room.rpartition('/')[0]}/{name}".lstrip("/"), name, f"engine/{name}"):
        if there in rows:
            return there
    sys.exit(f"ARCHITECTURE.md: row '{room}' names '{name}', which is no room")


def may_use(rows):
    may = {}
    for room, cell in rows.items():
        names = [] if cell in ("–", "-") else re.split(r", and |, | and ", cell)
        may[room] = {resolve(room, n, rows) for n in names} | {"base"}
        if room.startswith("engine/"):
            may[room].add(API)
    return may


def room_of(path, rows):
    """the longest prefix that is a row; None for what is no room"""
    if path.startswith(("winnow/status.", "winnow/dtype.", "base/include/")):
        return "base"
    if path.startswith("winnow/"):
        return API
    fits = [p for p in rows if path == p or path.startswith(p + "/")]
    return max(fits, key=len, default=None)


def main():
    rows = read_table(pathlib.Path("ARCHITECTURE.md").read_text())
    may = may_use(rows)
    tops = {p.split("/")[0] for p in rows}
    files = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.c", "*.h"],
                           capture_output=True, text=True, check=True).stdout.split()
    bad = [f"ARCHITECTURE.md: room '{p}' does not exist" for p in rows if not pathlib.Path(p).exists()]
    for f in files:
        if f.startswith(("tests/", "examples/")) or not pathlib.Path(f).is_file():
            continue
        src = room_of(f, rows)
        if src is None:
            bad.append(f"{f}: no row in the table covers it")
            continue
        for n, line in enumerate(pathlib.Path(f).read_text(errors="replace").splitlines(), 1):
            m = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if not m:
                continue
            dst = room_of(m.group(1), rows)
            if dst is None and m.group(1).split("/")[0] in tops and "/" in m.group(1):
                bad.append(f"{f}:{n}: no row in the table covers {m.group(1)}")
            elif dst and dst != src and dst not in may[src]:
                bad.append(f"{f}:{n}: {src} may not use {dst} ({m.group(1)})")
    print("\n".join(bad) if bad else f"rooms: {len(files)} files follow the table")
    return 1 if bad else 0


sys.exit(main())
