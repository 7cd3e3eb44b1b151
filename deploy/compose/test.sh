#!/bin/bash
# Brings the compose stack up from this checkout, runs SQL, kills and wipes pieces, and takes it down. Uses docker compose where a Docker
# engine answers; else podman through its Docker socket, with images made without a registry. Root for podman.
#
#   bash deploy/compose/test.sh [--keep]        --keep leaves the stack up
set -euo pipefail
cd "$(dirname "$0")/../.."
keep=${1:-}
project=neon-test-$$
say() { printf '[%4ds] %s\n' $SECONDS "$*"; }
fail() { say "FAILED: $*"; exit 1; }

work=$(mktemp -d)
service_pid= ticker_pid=
finish() {
  status=$?
  [ -z "$ticker_pid" ] || kill "$ticker_pid" 2>/dev/null || true
  if [ $status != 0 ]; then compose logs --tail 15 2>/dev/null | cut -c1-220 || true; fi
  if [ "$keep" != --keep ]; then compose down -v --timeout 20 >/dev/null 2>&1 || true; fi
  [ -z "$service_pid" ] || kill "$service_pid" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

if docker info >/dev/null 2>&1; then
  engine=docker
  export BASE=${BASE:-docker.io/library/node:24-bookworm-slim}
elif command -v podman >/dev/null 2>&1 && command -v docker-compose >/dev/null 2>&1; then
  engine=podman
  export BASE=${BASE:-localhost/neon-ts/base:latest}
  podman image exists "$BASE" || { say "making the base image $BASE"; sh deploy/images/local-base.sh "$BASE" >/dev/null; }
  podman system service --time=0 "unix://$work/podman.sock" &
  service_pid=$!
  export DOCKER_HOST=unix://$work/podman.sock
else
  say 'SKIPPED: no Docker engine, and no podman with docker-compose'
  exit 0
fi
compose() {
  if [ $engine = docker ]; then docker compose -p "$project" -f deploy/docker-compose.yml "$@"
  else docker-compose -p "$project" -f deploy/docker-compose.yml "$@"; fi
}

say "building images with $engine from $BASE"
build() { # file, target, tag, context
  local secret=()
  [ ! -s "$HOME/.npmrc" ] || secret=(--secret "id=npmrc,src=$HOME/.npmrc")
  $engine build -q --network host "${secret[@]}" $([ $engine = podman ] && echo --format=docker) --build-arg BASE="$BASE" \
    -f "$1" ${2:+--target "$2"} -t "$3" "$4" >/dev/null
}
export NEON_STORAGE_IMAGE=localhost/neon-ts/storage:test NEON_COMPUTE_IMAGE=localhost/neon-ts/compute:test
build deploy/images/Dockerfile storage $NEON_STORAGE_IMAGE .
build deploy/images/Dockerfile compute $NEON_COMPUTE_IMAGE .
if [ $engine = podman ]; then
  export OBJECT_STORE_IMAGE=localhost/neon-ts/object-store:test OBJECT_STORE_COMMAND='bash /start.sh'
  build deploy/images/object-store/Dockerfile '' $OBJECT_STORE_IMAGE deploy/images/object-store
  # Without systemd nobody runs podman's health checks.
  (while sleep 1; do for id in $(podman ps -q); do podman healthcheck run "$id" >/dev/null 2>&1 || true; done; done) &
  ticker_pid=$!
fi
$engine images --format '{{.Repository}}:{{.Tag}} {{.Size}}' | grep neon-ts || true

url=postgresql://cloud_admin:cloud_admin@127.0.0.1:55433/postgres
sql() { PGCONNECT_TIMEOUT=5 psql -qAtX "$url" -c "$1"; }
wait_sql() { # seconds
  for ((i = 0; i < $1; i++)); do if sql 'select 1' >/dev/null 2>&1; then return 0; fi; sleep 1; done
  fail "Postgres does not answer after $1 s"
}
expect() { # text, sql
  local got
  got=$(sql "$2")
  [ "$got" = "$1" ] || fail "$2: got '$got', expected '$1'"
}

say 'bringing the stack up'
compose up -d >/dev/null 2>"$work/up.log" || { cat "$work/up.log"; fail 'compose up'; }
wait_sql 180
say 'Postgres answers'
sql "create table t (id int primary key, body text); insert into t select i, repeat('x', 200) || i from generate_series(1, 50000) i"
expect 50000 'select count(*) from t'
digest=$(sql "select md5(string_agg(body, ',' order by id)) from t")

say 'killing safekeeper 2: commits go on'
compose kill safekeeper2 >/dev/null 2>&1
sql 'insert into t select i, i::text from generate_series(50001, 51000) i'
expect 51000 'select count(*) from t'
compose start safekeeper2 >/dev/null 2>&1

say "wiping the page server's volume: it comes back from the object store and the safekeepers"
sql checkpoint
compose rm -sf pageserver >/dev/null 2>&1
$engine volume rm "${project}_pageserver" >/dev/null
compose up -d pageserver >/dev/null 2>&1

say 'recreating the compute'
compose rm -sf compute1 >/dev/null 2>&1
compose up -d compute1 >/dev/null 2>&1
wait_sql 180
expect 51000 'select count(*) from t'
expect "$digest" "select md5(string_agg(body, ',' order by id)) from t where id <= 50000"
sql 'create extension amcheck'
expect '' "select bt_index_check('t_pkey', true)"

say 'killing everything but the object store at once, and starting again'
compose kill storage_broker safekeeper1 safekeeper2 safekeeper3 pageserver compute1 >/dev/null 2>&1
compose up -d >/dev/null 2>&1
wait_sql 240
expect 51000 'select count(*) from t'
expect "$digest" "select md5(string_agg(body, ',' order by id)) from t where id <= 50000"
say 'PASSED'
