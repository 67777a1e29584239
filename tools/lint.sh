#!/bin/sh
# lint.sh CFLAGS…: clang-tidy (.clang-tidy says which checks) over every source of ours, shellcheck over the scripts; each
# where it is installed. Files of an instruction set are left to the compilers: their flags differ. FILES='a.c b.c' limits it.
set -eu
cd "$(dirname "$0")/.."
rc=0
if command -v clang-tidy >/dev/null; then
    for f in ${FILES:-$(git ls-files '*.c' | grep -v -e 'avx2\.c$' -e 'avx512vnni\.c$')}; do
        [ -f "$f" ] || continue
        clang-tidy --quiet "$f" -- "$@" 2>/dev/null || { echo "lint: $f" >&2; rc=1; }
    done
else
    echo "lint: clang-tidy is not installed; left out" >&2
fi
if command -v shellcheck >/dev/null; then
    git ls-files '*.sh' .ci/run | xargs shellcheck || rc=1
else
    echo "lint: shellcheck is not installed; left out" >&2
fi
exit $rc
