#!/bin/sh
# Installs the larger clients that `make check-clients` drives, below build/clients: KServe's SDK (450 MB) in an environment
# of its own, grpcurl and ghz by Go, perf_analyzer from Triton's wheel. Does nothing, quickly, when they are there; what
# cannot be had is left out, and the test says so.
set -eu
cd "$(dirname "$0")/.."

KSERVE="kserve==0.21.0"
GO_TOOLS="github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4 github.com/bojand/ghz/cmd/ghz@v0.93.0"
PERF="tritonclient==2.49.0 nvidia-cuda-runtime-cu12==12.9.79"
PERF_PACKAGES="libb64-0d"

dir=build/clients
want=$(printf '%s\n' "$KSERVE" "$GO_TOOLS" "$PERF" | sha256sum | cut -c1-16)
[ "$(cat $dir/.deps 2>/dev/null || true)" != "$want" ] || exit 0
mkdir -p $dir

echo "setting up $KSERVE in $dir/venv"
python3 -m venv --clear $dir/venv
$dir/venv/bin/pip install -q --disable-pip-version-check "$KSERVE" || echo "left out: $KSERVE could not be installed"

# Debian 12's Go is too old for them.
if command -v go >/dev/null; then
    for tool in $GO_TOOLS; do
        echo "building $tool"
        GOBIN="$PWD/build/go/bin" GOFLAGS=-mod=mod go install "$tool" || echo "left out: $tool could not be built"
    done
else
    echo "left out: grpcurl and ghz need go"
fi

echo "unpacking perf_analyzer"
rm -rf $dir/perf && mkdir -p $dir/perf/wheels
for p in $PERF; do
    build/venv/bin/pip download -q --disable-pip-version-check --no-deps -d $dir/perf/wheels "$p" ||
        echo "left out: $p could not be had"
done
for w in "$dir"/perf/wheels/*.whl; do
    [ ! -e "$w" ] || python3 -m zipfile -e "$w" $dir/perf
done
rm -rf $dir/perf/wheels
find $dir/perf -name perf_analyzer -type f -exec chmod +x {} +
if ! dpkg-query -W -f '${Status}' $PERF_PACKAGES 2>/dev/null | grep -q 'install ok installed'; then
    sudo=""
    [ "$(id -u)" = 0 ] || sudo="sudo"
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $PERF_PACKAGES >/dev/null ||
        echo "left out: $PERF_PACKAGES could not be installed"
fi
echo "$want" >"$dir/.deps"
