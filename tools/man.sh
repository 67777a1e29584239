#!/bin/sh
# tools/man.sh OUT VERSION: docs/man/*.md as roff pages, OUT/manN/NAME.N, by go-md2man.
# A page's first paragraph, behind its title, is what whatis(1) shows.
set -eu
out=$1 version=$2
command -v go-md2man >/dev/null || { echo "tools/man.sh: go-md2man is not there (make deps)" >&2; exit 1; }
for page in docs/man/*.md; do
    file=$(basename "$page" .md)
    name=${file%.*} section=${file##*.}
    mkdir -p "$out/man$section"
    awk -v name="$name" -v section="$section" -v version="$version" '
        NR == 1 { printf "%% %s %s \"\" \"winnow %s\" \"winnow\"\n\n# NAME\n%s - ", name, section, version, name; next }
        /^## / { sub(/^## /, ""); print "# " toupper($0); next }
        NR == 2 && /^$/ { next }
        /^<!--.*-->$/ { next }
        { print }' "$page" > "$out/$file.md"
    go-md2man -in "$out/$file.md" -out "$out/man$section/$file"
    rm "$out/$file.md"
done
