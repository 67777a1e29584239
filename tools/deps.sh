#!/bin/sh
# Installs what winnow builds and tests with, on Debian 12. Does nothing, quickly, when everything is there.
set -eu
cd "$(dirname "$0")/.."

PACKAGES="build-essential pkg-config clang clang-format go-md2man llvm libclang-rt-14-dev libevent-dev libnghttp2-dev libprotobuf-c-dev
 protobuf-c-compiler protobuf-compiler libjansson-dev libyaml-dev libcriterion-dev libsqlite3-dev libssl-dev
 libturbojpeg0-dev libspng-dev libstb-dev node-llhttp libarchive-dev libseccomp-dev libsystemd-dev
 libcurl4-openssl-dev libdnnl-dev libsimde-dev libmuparser-dev libonnx-dev libonnx-testdata libxxhash-dev uuid-dev
 zlib1g-dev libutf8proc-dev libpcre2-dev libfreetype-dev nghttp2-client openssl curl jq python3 python3-venv strace systemd xxd git
 fonts-dejavu-core fonts-dejavu-extra fonts-liberation fonts-freefont-ttf fonts-lato fonts-roboto-unhinted"
# For the NEON kernels; make test leaves them out where there are no such packages (a host that is not x86-64).
CROSS_PACKAGES="gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"
PYTHON_PACKAGES="tritonclient[http,grpc]==2.57.0 numpy<2.3 onnxruntime==1.22.1 openai==1.99.9 onnx==1.22.0
 openapi-spec-validator==0.9.0 tokenizers==0.23.3"

# missing PACKAGE...: those that are not installed
missing() {
    for p; do
        dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || printf ' %s' "$p"
    done
}
# install PACKAGE...
install() {
    sudo=""
    [ "$(id -u)" = 0 ] || sudo="sudo"
    echo "installing: $*"
    $sudo apt-get update -qq && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}
# shellcheck disable=SC2086
need=$(missing $PACKAGES)
# shellcheck disable=SC2086
[ -z "$need" ] || install $need
# shellcheck disable=SC2086
need=$(missing $CROSS_PACKAGES)
# shellcheck disable=SC2086
[ -z "$need" ] || install $need || echo "not installed:$need; make test leaves the NEON kernels out"

want=$(printf '%s\n' "$PYTHON_PACKAGES" | sha256sum | cut -c1-16)
if [ "$(cat build/venv/.deps 2>/dev/null || true)" != "$want" ]; then
    echo "setting up the test clients in build/venv"
    mkdir -p build
    /usr/bin/python3 -m venv --clear build/venv
    # shellcheck disable=SC2086
    build/venv/bin/pip install -q --disable-pip-version-check $PYTHON_PACKAGES
    echo "$want" > build/venv/.deps
fi
