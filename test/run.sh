#!/bin/sh
# Runs the tests: units beside the code, then test/ (oracle, simulation, integration). Arguments go to mocha and replace the default set.
set -eu
if [ $# -gt 0 ]; then exec mocha "$@"; fi
mocha 'services/**/*.test.ts' 'test/*.test.ts' 'test/harness/*.test.ts' 'test/compat/*.test.ts'
for part in simulation oracle differential integration; do
  if ls test/$part/*.test.ts >/dev/null 2>&1; then mocha "test/$part/*.test.ts"; fi
done
