#!/bin/sh
# Brings a fresh Debian 12 with Node and npm to the point where the stack runs. Every step is skipped when it is done already.
# Root, or a user with sudo for the Debian packages and for installing the extension.
set -eu
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

debian_packages() {
  install_missing "postgresql-$PG_MAJOR" "postgresql-server-dev-$PG_MAJOR" libpq-dev gcc make
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
  if [ ! -e $stamp ] || [ -n "$(find services gen deploy/bootstrap package.json tsconfig*.json -newer $stamp \( -name '*.ts' -o -name '*.json' -o -name '*.binpb' \) -print -quit)" ]; then
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
