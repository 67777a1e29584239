#!/bin/sh
# Installs into a scratch folder, compiles the example against what was installed (shared and static), and runs both.
set -eu
cd "$(dirname "$0")/.."
BUILD=${BUILD:-build}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
make --no-print-directory -s install BUILD="$BUILD" DESTDIR="$dir" PREFIX=/usr >/dev/null
export PKG_CONFIG_PATH="$dir/usr/lib/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$dir"
passed=0
check() { if "$@"; then passed=$((passed + 1)); else echo "failed: $*"; echo "$passed passed, 1 failed"; exit 1; fi; }

for h in "$dir"/usr/include/winnow/*.h; do # each public header stands alone
    echo "#include \"$h\"" > "$dir/h.c"
    check cc -std=c11 -Wall -Wextra -Werror -I"$dir/usr/include" -fsyntax-only "$dir/h.c"
done
# shellcheck disable=SC2046
check cc -std=c11 -Wall -Werror examples/classify.c $(pkg-config --cflags --libs winnow) -o "$dir/shared"
# shellcheck disable=SC2046
check cc -std=c11 -Wall -Werror examples/classify.c $(pkg-config --cflags winnow) "$dir/usr/lib/libwinnow.a" \
    $(pkg-config --static --libs-only-l winnow | sed 's/-lwinnow//') -pthread -o "$dir/static"
check "$BUILD/tests/make-example" "$dir/model.onnx"
LD_LIBRARY_PATH="$dir/usr/lib" check "$dir/shared" "$dir/model.onnx"
check "$dir/static" "$dir/model.onnx"
foreign=$(nm -D --defined-only "$dir/usr/lib/libwinnow.so" | awk '$2 != "A" {print $3}' | grep -v '^winnow_' || true)
check test -z "$foreign"
echo "$passed passed, 0 failed"
