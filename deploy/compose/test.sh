#!/bin/bash
# Brings the stack of docker-compose.yml up from this checkout, runs SQL, kills, wipes and recreates pieces, and takes it down.
#
#   bash deploy/compose/test.sh [--processes] [--keep]
#
# In containers with Docker, or with podman (as root; what it needs is set up here). Where containers cannot run, or with --processes, the
# same programs run as plain processes. --keep leaves the stack up.
set -euo pipefail
cd "$(dirname "$0")/../.."
. deploy/bootstrap/lib.sh
keep='' mode=containers
for option in "$@"; do
  case $option in
    --keep) keep=yes ;;
    --processes) mode=processes ;;
    *) echo "unknown option $option" >&2; exit 2 ;;
  esac
done
project=neon-test-$$
work=$(mktemp -d "${TMPDIR:-/tmp}/neon-compose.XXXXXX")
say() { printf '[%4ds] %s\n' $SECONDS "$*"; }
fail() { say "FAILED: $*" >&2; exit 1; }

finish() {
  local status=$?
  trap - EXIT
  if [ $status != 0 ]; then stack_logs || true; fi
  if [ -n "$keep" ]; then say "kept: $project, $work"; exit $status; fi
  stack_down
  rm -rf "$work"
  exit $status
}

. deploy/compose/containers.sh
if [ $mode = containers ] && ! stack_choose; then
  say "no containers here: $why"
  mode=processes
fi
if [ $mode = processes ]; then
  say 'running the stack as plain processes'
  . deploy/compose/processes.sh
fi
trap finish EXIT
trap 'exit 130' INT TERM
stack_prepare

url=postgresql://cloud_admin:cloud_admin@127.0.0.1:55433/postgres
sql() { PGCONNECT_TIMEOUT=5 stack_psql -qAtX "$url" -c "$1"; }

until_true() { # seconds, what, command
  local seconds=$1 what=$2 end=$((SECONDS + $1))
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || fail "$what: not within $seconds s"
    sleep 0.5
  done
}

expect() { # text, sql
  local got
  got=$(sql "$2")
  [ "$got" = "$1" ] || fail "$2: got '$got', expected '$1'"
}

# A field of the status of our timeline, at a page server or a safekeeper.
status() { # HTTP address, field
  curl -sf "http://$1/v1/tenant/$tenant/timeline/$timeline" | sed -n "s/.*\"$2\":\"\{0,1\}\([^\",}]*\).*/\1/p"
}

has_reached() { # HTTP address, field, LSN
  [ "$(sql "select '$(status "$1" "$2")'::pg_lsn >= '$3'")" = t ]
}

check_data() { # rows
  expect "$1" 'select count(*) from t'
  expect "$digest" "select md5(string_agg(body, ',' order by id)) from t where id <= 50000"
  say "  $1 rows, the first 50000 with digest $digest"
}

say 'bringing the stack up'
stack_up
until_true 240 'Postgres answers' sql 'select 1'
tenant=$(sql 'show neon.tenant_id')
timeline=$(sql 'show neon.timeline_id')
say "  $(sql 'select version()' | cut -d '(' -f 1)"
sql "create table t (id int primary key, body text); insert into t select i, repeat('x', 200) || i from generate_series(1, 50000) i"
digest=$(sql "select md5(string_agg(body, ',' order by id)) from t")
check_data 50000

say 'killing safekeeper 2: commits go on'
stack_kill safekeeper2
sql 'insert into t select i, i::text from generate_series(50001, 51000) i'
check_data 51000
stack_start safekeeper2
lsn=$(sql 'select pg_current_wal_flush_lsn()')
until_true 120 'safekeeper 2 catches up' has_reached 127.0.0.1:7677 flush_lsn "$lsn"
say "  safekeeper 2 is back, and has WAL up to $lsn"

say "wiping the page server's volume: it comes back from the object store and the safekeepers"
curl -sf -X PUT "http://127.0.0.1:9898/v1/tenant/$tenant/timeline/$timeline/checkpoint" >/dev/null
say "  before: $(status 127.0.0.1:9898 layer_count) layers, $(status 127.0.0.1:9898 remote_consistent_lsn) in the object store"
sql 'insert into t select i, i::text from generate_series(51001, 52000) i'
lsn=$(sql 'select pg_current_wal_flush_lsn()')
stack_wipe pageserver
until_true 120 'the page server has its timeline' has_reached 127.0.0.1:9898 last_record_lsn "$lsn"
say "  after: $(status 127.0.0.1:9898 layer_count) layers, WAL up to $lsn"

say 'recreating the compute'
stack_recreate compute1
until_true 240 'Postgres answers' sql 'select 1'
check_data 52000
sql 'create extension amcheck'
expect '' "select bt_index_check('t_pkey', true)"

say 'killing everything but the object store at once, and starting again'
services='storage_broker safekeeper1 safekeeper2 safekeeper3 pageserver compute1'
# shellcheck disable=SC2086 # a list of names
stack_kill $services
stack_up
until_true 240 'Postgres answers' sql 'select 1'
check_data 52000

say 'an orderly stop'
stopped=
# shellcheck disable=SC2086
stack_stop compute1 pageserver safekeeper1 safekeeper2 safekeeper3 storage_broker
say "  exit statuses:$stopped"
[[ ! $stopped =~ [a-z_0-9]+\ [1-9] ]] || fail 'a service did not end well'
say PASSED
