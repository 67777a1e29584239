#!/bin/sh
# Puts what was built under DESTDIR and PREFIX: programs, library, headers, pkg-config file, documentation, units.
set -eu
root="$DESTDIR$PREFIX"
put() { install -D -m "$1" "$2" "$3"; }
for p in winnow winnowd winnow-worker; do
    [ -x "$BUILD/$p" ] && put 755 "$BUILD/$p" "$root/bin/$p"
done
put 644 "$BUILD/libwinnow.a" "$root/lib/libwinnow.a"
put 755 "$BUILD/libwinnow.so" "$root/lib/libwinnow.so.$VERSION"
ln -sf "libwinnow.so.$VERSION" "$root/lib/libwinnow.so.0"
ln -sf libwinnow.so.0 "$root/lib/libwinnow.so"
put 644 engine/include/winnow/winnow.h "$root/include/winnow/winnow.h"
put 644 base/include/winnow/dtype.h "$root/include/winnow/dtype.h"
put 644 base/include/winnow/status.h "$root/include/winnow/status.h"
put 644 base/include/winnow/status.def "$root/include/winnow/status.def"
mkdir -p "$root/lib/pkgconfig"
cat > "$root/lib/pkgconfig/winnow.pc" <<PC
prefix=$PREFIX
Name: winnow
Description: Sparse and dense ONNX inference on CPUs
Version: $VERSION
Libs: -L\${prefix}/lib -lwinnow
Libs.private: -lprotobuf-c -lcrypto -larchive -ljansson -lyaml -lm -lpthread
Cflags: -I\${prefix}/include
PC
# As in the source tree, so that links between the pages work.
for page in README.md ARCHITECTURE.md CONTRIBUTING.md CHANGELOG.md LICENSE docs/*.md docs/man/*.md demo/README.md; do
    [ -f "$page" ] && put 644 "$page" "$root/share/doc/winnow/$page"
done
if command -v go-md2man > /dev/null; then
    tools/man.sh "$BUILD/man" "$VERSION"
    for page in "$BUILD"/man/man*/*; do
        put 644 "$page" "$root/share/${page#"$BUILD"/}"
    done
else
    echo "go-md2man is not there: no man pages" >&2
fi
for unit in systemd/*.service systemd/*.socket systemd/*.slice; do
    [ -f "$unit" ] || continue
    to="$root/lib/systemd/system/$(basename "$unit")"
    put 644 "$unit" "$to"
    sed -i "s|/usr/bin/winnow|$PREFIX/bin/winnow|g" "$to" # units say where a package puts the programs
done
for f in systemd/network/*.conf; do
    put 644 "$f" "$root/share/doc/winnow/$f"
done
for f in systemd/*.sysusers; do
    [ -f "$f" ] && put 644 "$f" "$root/lib/sysusers.d/$(basename "$f" .sysusers).conf"
done
for f in systemd/*.tmpfiles; do
    [ -f "$f" ] && put 644 "$f" "$root/lib/tmpfiles.d/$(basename "$f" .tmpfiles).conf"
done
exit 0
