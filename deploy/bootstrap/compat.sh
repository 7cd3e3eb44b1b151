#!/bin/sh
# What `npm run compat` needs beyond the usual set-up: stock extensions and sqlsmith from Debian. Skipped when they are there.
set -eu
. "$(dirname "$0")/lib.sh"

install_missing "postgresql-$PG_MAJOR-rum" "postgresql-$PG_MAJOR-postgis-3" "postgresql-$PG_MAJOR-postgis-3-scripts" \
  "postgresql-$PG_MAJOR-partman" "postgresql-$PG_MAJOR-hypopg" sqlsmith

# Debian installs into the tree of its own server; one under test elsewhere gets copies.
share=$("$PG_BIN/pg_config" --sharedir)
library=$("$PG_BIN/pg_config" --pkglibdir)
system_share=/usr/share/postgresql/$PG_MAJOR
if [ "$share" != "$system_share" ] && [ ! -e "$share/extension/rum.control" ]; then
  say "copying extensions to $share"
  as_root cp -RLn "$system_share/." "$share/"
  as_root cp -Ln /usr/lib/postgresql/$PG_MAJOR/lib/*.so "$library/"
fi
