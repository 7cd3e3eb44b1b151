#!/bin/sh
# initdb-image.sh BINDIR IMAGE: makes the image that every new tenant begins from: what initdb makes, cleanly shut down, without WAL.
# Not as root, which initdb refuses.
set -eu
bin=$1
image=$2
work=$(mktemp -d "${TMPDIR:-/tmp}/neon-initdb.XXXXXX")
trap 'rm -rf "$work"' EXIT
"$bin/initdb" -D "$work/data" -U cloud_admin -E UTF8 --locale=C.UTF-8 -A trust --no-instructions >"$work/log" 2>&1 ||
  { cat "$work/log" >&2; echo "initdb failed" >&2; exit 1; }
tar -C "$work/data" --sort=name --owner=0 --group=0 --numeric-owner --exclude='pg_wal/0*' -cf "$image.tmp" .
mv "$image.tmp" "$image"
