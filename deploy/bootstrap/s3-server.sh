#!/bin/sh
# Installs the S3 server that the tests use where it is there (Ceph's RADOS gateway, about 100 Debian packages). Optional. Root or sudo.
set -eu
. "$(dirname "$0")/lib.sh"

install_missing ceph-base ceph-common ceph-mon ceph-osd radosgw
say "the S3 server is installed"
