#!/bin/sh
# with-env.sh ACTION [ARGUMENT …]: sets everything up, then runs `npm start`, `npm test` and their like on the right Node.
set -eu
. "$(dirname "$0")/lib.sh"
cd "$ROOT"
action=$1
shift
case $action in
  setup)
    exec sh deploy/bootstrap/setup.sh
    ;;
  start)
    sh deploy/bootstrap/setup.sh
    use_node
    exec node build/services/neon-local/cli.js up "$@"
    ;;
  neon)
    use_node
    [ -e build/.built ] || sh deploy/bootstrap/setup.sh
    exec node build/services/neon-local/cli.js "$@"
    ;;
  test)
    sh deploy/bootstrap/setup.sh
    use_node
    exec sh test/run.sh "$@"
    ;;
  ci)
    sh deploy/bootstrap/setup.sh
    use_node
    sh test/checks.sh
    exec sh test/run.sh "$@"
    ;;
  compat)
    sh deploy/bootstrap/setup.sh
    sh deploy/bootstrap/compat.sh
    use_node
    exec node --conditions=source --import tsx test/compat/run.ts "$@"
    ;;
  run)
    sh deploy/bootstrap/setup.sh
    use_node
    exec "$@"
    ;;
  *)
    die "unknown action $action"
    ;;
esac
