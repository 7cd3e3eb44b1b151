# Sourced by test.sh: the compose stack as containers. Docker where an engine answers; else podman through its Docker socket, with images
# made without a registry. Everything podman needs is set here and nowhere else: nothing of the machine's own settings is changed.
# shellcheck shell=bash

PODMAN_PACKAGES='podman runc netavark aardvark-dns docker-compose debootstrap'
TRACE=$work/containers.log
compose_command=()
engine='' service_pid='' ticker_pid=''

compose() { "${compose_command[@]}" -p "$project" -f deploy/docker-compose.yml "$@"; }

# Chooses an engine; returns 1 with the reason in $why where containers cannot run.
stack_choose() {
  if docker info >/dev/null 2>&1; then
    engine=docker
    export BASE=${BASE:-docker.io/library/node:24-bookworm-slim}
    if docker compose version >/dev/null 2>&1; then compose_command=(docker compose); else compose_command=(docker-compose); fi
    command -v "${compose_command[0]}" >/dev/null || { why='Docker has no compose'; return 1; }
    return 0
  fi
  engine=podman
  compose_command=(docker-compose)
  export BASE=${BASE:-localhost/neon-ts/base:latest}
  [ "$(id -u)" = 0 ] || { why='no Docker engine answers, and podman is used as root only'; return 1; }
  for program in podman runc docker-compose; do
    command -v $program >/dev/null || { why="no Docker engine answers, and $program is missing: apt-get install $PODMAN_PACKAGES"; return 1; }
  done
  if ! podman image exists "$BASE"; then
    command -v debootstrap >/dev/null || { why="no image $BASE, and no debootstrap to make one: apt-get install $PODMAN_PACKAGES"; return 1; }
    say "making the base image $BASE with debootstrap"
    ENGINE=podman sh deploy/images/local-base.sh "$BASE" >"$TRACE" 2>&1 || { why="the base image could not be made: $(tail -1 "$TRACE")"; return 1; }
  fi
  podman_settings
}

# A first container, with podman's own settings, or with a runtime and limits that a machine without CAP_SYS_RESOURCE and with both
# versions of control groups allows.
podman_settings() {
  podman run --rm "$BASE" true 2>"$TRACE" && return 0
  cat >"$work/containers.conf" <<CONF
[containers]
default_ulimits = ["nofile=$(limit -Hn 1048576)", "nproc=$(limit -Hu 32768)"]
[engine]
runtime = "runc"
CONF
  export CONTAINERS_CONF=$work/containers.conf
  podman run --rm "$BASE" true 2>"$TRACE" || { why="podman starts no container: $(tail -1 "$TRACE")"; return 1; }
  say "podman runs with runc and this process's own limits (its default settings are not permitted here)"
}

# Our own limit, as a soft and a hard one, but not above what podman leaves itself.
limit() {
  local value
  value=$(ulimit "$1")
  if [ "$value" = unlimited ] || [ "$value" -gt "$2" ]; then value=$2; fi
  echo "$value:$value"
}

build() { # file, target, tag, context
  local options=(--network host)
  [ ! -s "$HOME/.npmrc" ] || options+=(--secret "id=npmrc,src=$HOME/.npmrc")
  # Health checks exist in Docker's format only.
  [ $engine != podman ] || options+=(--format docker)
  $engine build -q "${options[@]}" --build-arg BASE="$BASE" -f "$1" ${2:+--target "$2"} -t "$3" "$4" >"$TRACE" 2>&1 ||
    { tail -20 "$TRACE"; fail "could not build $3"; }
}

stack_prepare() {
  say "building images with $engine from $BASE"
  export NEON_STORAGE_IMAGE=localhost/neon-ts/storage:test NEON_COMPUTE_IMAGE=localhost/neon-ts/compute:test
  build deploy/images/Dockerfile storage $NEON_STORAGE_IMAGE .
  build deploy/images/Dockerfile compute $NEON_COMPUTE_IMAGE .
  if [ $engine = podman ]; then
    export OBJECT_STORE_IMAGE=localhost/neon-ts/object-store:test OBJECT_STORE_COMMAND='bash /start.sh'
    build deploy/images/object-store/Dockerfile '' $OBJECT_STORE_IMAGE deploy/images/object-store
    podman_socket
  fi
  $engine images --format '{{.Repository}}:{{.Tag}} {{.Size}}' | grep 'neon-ts/.*:test' | while read -r line; do say "  $line"; done
}

podman_socket() {
  podman system service --time=0 "unix://$work/podman.sock" >/dev/null 2>&1 &
  service_pid=$!
  export DOCKER_HOST=unix://$work/podman.sock
  # Podman leaves the clock of health checks to systemd, which may not be there.
  (while sleep 1; do for id in $(podman ps -q --filter "label=com.docker.compose.project=$project"); do podman healthcheck run "$id" || true; done; done) >/dev/null 2>&1 &
  ticker_pid=$!
}

stack_up() { compose up -d >"$TRACE" 2>&1 || { tail -20 "$TRACE"; fail 'compose up'; }; }
stack_kill() { compose kill "$@" >"$TRACE" 2>&1 || { tail -5 "$TRACE"; fail "kill $*"; }; }
stack_start() { compose start "$@" >"$TRACE" 2>&1 || { tail -5 "$TRACE"; fail "start $*"; }; }

# Kills a service, removes its container and its volume, and makes both anew.
stack_wipe() {
  stack_kill "$1"
  compose rm -sf "$1" >"$TRACE" 2>&1
  $engine volume rm "${project}_$1" >/dev/null
  stack_recreate "$1"
}

stack_recreate() {
  compose rm -sf "$1" >"$TRACE" 2>&1
  compose up -d "$1" >"$TRACE" 2>&1 || { tail -20 "$TRACE"; fail "up $1"; }
}

# Stops services one after the other, as an orderly shutdown does; their exit statuses go to $stopped.
stack_stop() {
  for name in "$@"; do
    compose stop -t 30 "$name" >"$TRACE" 2>&1
    stopped+=" $name $($engine inspect -f '{{.State.ExitCode}}' "$(container "$name")")"
  done
}

container() { $engine ps -aq --filter "label=com.docker.compose.project=$project" --filter "label=com.docker.compose.service=$1"; }
stack_psql() { if command -v psql >/dev/null; then psql "$@"; else compose exec -T compute1 psql "$@"; fi; }
stack_logs() { compose logs --tail 15 2>/dev/null | cut -c1-220; }

stack_down() {
  if [ -n "$ticker_pid" ]; then kill "$ticker_pid" 2>/dev/null || true; fi
  compose down -v --timeout 20 >/dev/null 2>&1 || true
  if [ -n "$service_pid" ]; then kill "$service_pid" 2>/dev/null || true; fi
}
