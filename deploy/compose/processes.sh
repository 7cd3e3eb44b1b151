# Sourced by test.sh: the same stack as plain processes, where containers cannot run: the same programs with the same options, the wrapper
# script of the compute, and the ports that the compose file publishes. Sets up what `npm run setup` does, and what the wrapper script calls.
# shellcheck shell=bash

declare -A pids=()
safekeepers=127.0.0.1:5454,127.0.0.1:5455,127.0.0.1:5456
PORTS='9000 50051 50052 5454 5455 5456 7676 7677 7678 6400 51051 9898 55433 3080 3081'

stack_prepare() {
  sh deploy/bootstrap/setup.sh
  install_missing curl jq netcat-openbsd
  use_node
  for port in $PORTS; do
    ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || fail "port $port is in use: is another stack running?"
  done
  export NEON_HOME=$PWD PATH=$PWD/deploy/images/bin:$PATH
  export NEON_PAGESERVER_INITDB_IMAGE=$PWD/build/initdb-$PG_MAJOR.tar
  export AWS_ACCESS_KEY_ID=neon AWS_SECRET_ACCESS_KEY=neon-secret AWS_REGION=eu-north-1
  chmod 711 "$work" # Postgres has an account of its own when we are root.
  mkdir -p "$work/data" "$work/logs"
  if command -v radosgw >/dev/null && command -v ceph-osd >/dev/null && [ "$(id -u)" = 0 ]; then
    store=s3://neon store_options='?endpoint=http://127.0.0.1:9000&path_style=true'
  else
    say 'no S3 server here ("npm run setup:s3" brings one, for root): a directory is the object store'
    store=file://$work/objects store_options=
  fi
}

run() { # name, command: in a session of its own, as the leader
  local name=$1
  shift
  setsid "$@" >>"$work/logs/$name.log" 2>&1 &
  pids[$name]=$!
}

# A process and everything below it.
tree() {
  local child
  for child in $(cat "/proc/$1/task/$1/children" 2>/dev/null); do tree "$child"; done
  echo "$1"
}

ready() { # name, URL
  for ((i = 0; i < 600; i++)); do
    if neon-health "$2" 2>/dev/null; then return 0; fi
    kill -0 "${pids[$1]}" 2>/dev/null || fail "$1 ended"
    sleep 0.1
  done
  fail "$1 is not ready"
}

object_store() {
  [ "${store%%:*}" = s3 ] || return 0
  run object_store env CEPH_DIR="$work/data/object_store" MINIO_ROOT_USER=neon MINIO_ROOT_PASSWORD=neon-secret \
    bash deploy/images/object-store/start.sh
  NEON_BUCKET=neon NEON_S3_ENDPOINT=http://127.0.0.1:9000 neon-make-bucket >>"$work/logs/make_bucket.log" 2>&1 || fail 'no bucket'
}

launch() {
  local data=$work/data/$1 remote="--remote-storage $store/${1%[0-9]}$store_options" broker='--broker-endpoint http://127.0.0.1:50051'
  mkdir -p "$data"
  case $1 in
    storage_broker) run "$1" storage_broker --listen-addr 127.0.0.1:50051 --listen-http 127.0.0.1:50052 ;;
    safekeeper[1-3])
      local n=${1#safekeeper}
      # shellcheck disable=SC2086 # lists of words
      run "$1" safekeeper --id "$n" -D "$data" --listen-pg 127.0.0.1:$((5453 + n)) --listen-http 127.0.0.1:$((7675 + n)) $broker $remote
      ;;
    pageserver)
      # shellcheck disable=SC2086
      run "$1" pageserver --id 1 -D "$data" --listen-pg 127.0.0.1:6400 --listen-grpc 127.0.0.1:51051 --listen-http 127.0.0.1:9898 \
        $broker $remote
      ;;
    compute1)
      run "$1" env PAGESERVER=127.0.0.1 SAFEKEEPERS=$safekeepers PGDATA="$data/pgdata" SPEC="$data/spec.json" \
        SPEC_TEMPLATE="$PWD/deploy/compose/spec.json" bash deploy/compose/compute.sh
      ;;
  esac
}

await() {
  case $1 in
    storage_broker) ready "$1" http://127.0.0.1:50052/readyz ;;
    safekeeper*) ready "$1" http://127.0.0.1:$((7675 + ${1#safekeeper}))/readyz ;;
    pageserver) ready "$1" http://127.0.0.1:9898/readyz ;;
  esac
}

is_up() { [ -n "${pids[$1]:-}" ] && kill -0 "${pids[$1]}" 2>/dev/null; }

stack_start() {
  for name in "$@"; do is_up "$name" || launch "$name"; done
  for name in "$@"; do await "$name"; done
}

stack_up() {
  is_up object_store || object_store
  stack_start storage_broker
  stack_start safekeeper1 safekeeper2 safekeeper3 pageserver
  stack_start compute1
}

stack_kill() {
  for name in "$@"; do
    # shellcheck disable=SC2046 # a list of process ids
    kill -9 $(tree "${pids[$name]}") 2>/dev/null || true
    wait "${pids[$name]}" 2>/dev/null || true
  done
}

stack_wipe() {
  stack_kill "$1"
  rm -rf "$work/data/$1"
  stack_start "$1"
}

# A process has nothing that its data directory has not.
stack_recreate() { stack_wipe "$1"; }

stack_stop() {
  for name in "$@"; do
    local status=0
    kill -TERM "${pids[$name]}"
    wait "${pids[$name]}" || status=$?
    stopped+=" $name $status"
  done
}

stack_psql() { "$PG_BIN/psql" "$@"; }

stack_logs() {
  for log in "$work"/logs/*.log; do
    echo "--- $(basename "$log")"
    tail -8 "$log" | cut -c1-220
  done
}

stack_down() {
  for name in "${!pids[@]}"; do stack_kill "$name"; done
  # Two daemons of the object store went their own way.
  for file in "$work"/data/object_store/run/*.pid; do
    if [ -s "$file" ]; then kill -9 "$(cat "$file")" 2>/dev/null || true; fi
  done
}
