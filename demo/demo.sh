#!/bin/sh
# demo.sh: the whole story of winnow on loopback. ONCE=1 stops the daemon at the end, and fails if anything was not as told;
# DATA=path tells it with a folder, zip or IDX file of your own. See demo/README.md.
set -eu
cd "$(dirname "$0")/.."
BUILD=${BUILD:-build}
export BUILD
for p in winnow winnowd winnow-worker demo/maker demo/load; do
    [ -x "$BUILD/$p" ] || { echo "demo.sh: $BUILD/$p is missing; say: make demo" >&2; exit 2; }
done
exec /usr/bin/python3 demo/story.py
