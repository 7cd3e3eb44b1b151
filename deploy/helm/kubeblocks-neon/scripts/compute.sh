#!/bin/bash
# Starts the compute, with the environment of the existing add-on's compute component. TENANT and TIMELINE choose what it runs on; with
# CREATE_BRANCH as well it runs on a new branch of TIMELINE. Without them: the tenant that exists and its oldest timeline, or new ones, so
# that a restarted pod finds its data.
set -euo pipefail

for name in NEON_PAGESERVER_POD_FQDN_LIST NEON_PAGESERVER_PGPORT NEON_PAGESERVER_HTTPPORT NEON_SAFEKEEPERS_POD_FQDN_LIST NEON_SAFEKEEPERS_PORT; do
  [ -n "${!name:-}" ] || { echo "compute.sh: $name is not set" >&2; exit 1; }
done
pageserver=${NEON_PAGESERVER_POD_FQDN_LIST%%,*}
api="http://$pageserver:$NEON_PAGESERVER_HTTPPORT/v1"
safekeepers=${NEON_SAFEKEEPERS_POD_FQDN_LIST//,/:$NEON_SAFEKEEPERS_PORT,}:$NEON_SAFEKEEPERS_PORT
port=${NEON_COMPUTE_PGPORT:-55432}
user=${NEON_COMPUTE_PGUSER:-cloud_admin}
spec=/data/spec.json

call() { curl -sS --fail-with-body --max-time 120 -H 'Content-Type: application/json' "$@"; }

until nc -z "$pageserver" "$NEON_PAGESERVER_PGPORT"; do
  echo "compute.sh: waiting for the page server" >&2
  sleep 1
done

tenant=${TENANT:-$(call "$api/tenant" | jq -r '.[0].id // empty')}
[ -n "$tenant" ] || tenant=$(call -d '{}' "$api/tenant/" | jq -r .)

timeline=${TIMELINE:-}
if [ -n "${CREATE_BRANCH:-}" ]; then
  body=$(jq -n --arg from "${TIMELINE:?CREATE_BRANCH needs TIMELINE}" '{pg_version: 15, ancestor_timeline_id: $from}')
  timeline=$(call -d "$body" "$api/tenant/$tenant/timeline/" | jq -r .timeline_id)
fi
[ -n "$timeline" ] || timeline=$(call "$api/tenant/$tenant/timeline" | jq -r 'sort_by(.ancestor_timeline_id != null) | .[0].timeline_id // empty')
[ -n "$timeline" ] || timeline=$(call -d '{"pg_version": 15}' "$api/tenant/$tenant/timeline/" | jq -r .timeline_id)

admin_md5=$(printf '%s%s' "${NEON_COMPUTE_PGPASSWORD:-cloud_admin}" "$user" | md5sum | cut -d ' ' -f 1)
sed -e "s|TENANT_ID|$tenant|g" -e "s|TIMELINE_ID|$timeline|g" -e "s|PAGESERVER_SPEC|$pageserver|g" \
  -e "s|SAFEKEEPERS_SPEC|$safekeepers|g" -e "s|ADMIN_NAME|$user|g" -e "s|ADMIN_MD5|$admin_md5|g" /config/spec.json >"$spec"
echo "compute.sh: starting on tenant $tenant, timeline $timeline" >&2
exec compute_ctl --pgdata /data/pgdata -C "postgresql://$user@localhost:$port/postgres" -b /usr/lib/postgresql/15/bin/postgres -S "$spec"
