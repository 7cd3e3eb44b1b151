#!/bin/sh
# Brings a fresh Debian 12 with Node and npm to the point where the stack runs. Every step is skipped when it is done already.
# Root, or a user with sudo for the Debian packages and for installing the extension.
set -eu
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

debian_packages() {
  wanted="postgresql-$PG_MAJOR postgresql-server-dev-$PG_MAJOR libpq-dev gcc make"
  missing=
  for package in $wanted; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  command -v apt-get >/dev/null 2>&1 || die "not a Debian system; install these by hand:$missing"
  say "installing Debian packages:$missing"
  # We make our own clusters: keep the package from creating and starting one.
  if [ ! -e /etc/postgresql-common/createcluster.conf ] && [ ! -e /etc/postgresql-common/createcluster.d/neon-ts.conf ]; then
    as_root mkdir -p /etc/postgresql-common/createcluster.d
    echo 'create_main_cluster = false' | as_root tee /etc/postgresql-common/createcluster.d/neon-ts.conf >/dev/null
  fi
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2
  # shellcheck disable=SC2086 # a list of words
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >&2
}

npm_packages() {
  stamp=node_modules/.neon-lock
  if [ ! -e $stamp ] || ! cmp -s package-lock.json $stamp; then
    say "installing npm packages"
    npm ci --no-audit --no-fund --loglevel=error >&2
    cp package-lock.json $stamp
  fi
}

extension() {
  source=services/compute-ctl/extension
  installed=$("$PG_BIN/pg_config" --pkglibdir)/neon.so
  make -s -C $source PG_CONFIG="$PG_BIN/pg_config" >&2
  if ! cmp -s $source/neon.so "$installed"; then
    say "installing the extension into PostgreSQL $PG_MAJOR"
    as_root make -s -C $source PG_CONFIG="$PG_BIN/pg_config" install >&2
  fi
}

typescript() {
  stamp=build/.built
  if [ ! -e $stamp ] || [ -n "$(find services gen package.json tsconfig*.json -newer $stamp \( -name '*.ts' -o -name '*.json' -o -name '*.binpb' \) -print -quit)" ]; then
    say "compiling TypeScript"
    npm run -s build >&2
    touch $stamp
  fi
}

# The image that every new tenant begins from; made in a folder that the unprivileged user may write.
initdb_image() {
  image=build/initdb-$PG_MAJOR.tar
  [ ! -s $image ] || return 0
  say "making the initdb image"
  mkdir -p build
  work=$(mktemp -d "${TMPDIR:-/tmp}/neon-initdb.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  if [ "$(id -u)" = 0 ]; then chown postgres "$work"; fi
  # On standard input: the unprivileged user may not be able to read this checkout.
  as_postgres sh -s "$PG_BIN" "$work/image.tar" <deploy/bootstrap/initdb-image.sh || die "could not make the initdb image"
  cp "$work/image.tar" $image.tmp
  mv $image.tmp $image
  rm -rf "$work"
  trap - EXIT
}

debian_packages
use_node
npm_packages
extension
initdb_image
typescript
