#!/bin/sh
# Runs the tests: units beside the code, and test/ (simulation, oracle, differential, integration). Files run side by side, three at a
# time ($NEON_TEST_JOBS), since each waits much for disks and processes; what takes longest comes first. Arguments go to mocha and
# replace the default set.
set -eu
if [ $# -gt 0 ]; then exec mocha "$@"; fi
# Minutes each: npm run test:long.
long='test/integration/{replica,autoscaling,s3,shards,state,pages,storage-manager,local-cache,compute-crash,reference-compute,packet-loss}.test.ts'
exec mocha --parallel --jobs "${NEON_TEST_JOBS:-3}" --ignore "$long" \
  'test/differential/*.test.ts' 'test/integration/*.test.ts' 'test/oracle/*.test.ts' 'services/**/*.test.ts' \
  'test/simulation/*.test.ts' 'test/*.test.ts' 'test/harness/*.test.ts' 'test/compat/*.test.ts'
