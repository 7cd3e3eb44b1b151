#!/bin/sh
# Installs the S3 server that the tests use where it is there (Ceph's RADOS gateway, about 100 Debian packages). Optional. Root or sudo.
set -eu
. "$(dirname "$0")/lib.sh"

command -v apt-get >/dev/null 2>&1 || die "not a Debian system; install Ceph's ceph-mon, ceph-osd and radosgw by hand"
missing=
for package in ceph-base ceph-common ceph-mon ceph-osd radosgw; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
if [ -z "$missing" ]; then
  say "the S3 server is installed"
  exit 0
fi
say "installing Debian packages:$missing"
as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2
# shellcheck disable=SC2086 # a list of words
as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >&2
