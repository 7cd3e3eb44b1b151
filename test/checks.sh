#!/bin/sh
# Everything that can be checked without running the system: contracts, generated code, formatting, lint, types.
set -eu
step() { printf '== %s\n' "$*"; }
step 'buf lint'
buf lint
buf format -d --exit-code --path proto/neon >/dev/null || { echo 'proto/ is not formatted: run "npx buf format -w"'; exit 1; }
step 'gen/ is what proto/ generates'
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
buf generate -o "$fresh"
buf build --as-file-descriptor-set -o "$fresh/gen/descriptor.binpb"
diff -r gen "$fresh/gen" >/dev/null || { echo 'gen/ is out of date: run "npm run generate" and commit'; exit 1; }
step 'formatting'
npm run -s check:format
step 'lint'
npm run -s check:lint
step 'types'
npm run -s check:types
