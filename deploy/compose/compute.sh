#!/bin/bash
# Starts a compute of the compose stack: waits for the page server, finds or makes the tenant and the timeline, writes the spec, and
# becomes compute_ctl. Safe to run again: what exists is used.
#
# PAGESERVER       host of the page server (default pageserver)
# SAFEKEEPERS      host:port,… of the safekeepers
# TENANT_ID        32 hex digits; default: the tenant of the page server when there is just one, else a fixed one that is made
# TIMELINE_ID      32 hex digits; default: the oldest timeline of the tenant, made when there is none
# ANCESTOR_ID      make TIMELINE_ID as a branch of this timeline
# PG_PORT          port of Postgres (default 55433)
# SPEC             file that the spec is written to (default /tmp/spec.json)
# ADMIN_PASSWORD   password of the role cloud_admin for connections from outside (default cloud_admin)
set -euo pipefail

pageserver=${PAGESERVER:-pageserver}
safekeepers=${SAFEKEEPERS:-safekeeper1:5454,safekeeper2:5454,safekeeper3:5454}
api="http://$pageserver:9898/v1"
default_tenant=b0000000000000000000000000000001
spec=${SPEC:-/tmp/spec.json}

say() { echo "compute.sh: $*" >&2; }
get() { curl -sS --fail-with-body --max-time 30 "$@"; }
send() { get -H 'Content-Type: application/json' "$@"; }

until nc -z "$pageserver" 6400; do
  say "waiting for the page server at $pageserver:6400"
  sleep 1
done

tenant=${TENANT_ID:-}
if [ -z "$tenant" ]; then
  known=$(get "$api/tenant")
  if [ "$(jq length <<<"$known")" = 1 ]; then tenant=$(jq -r '.[0].id' <<<"$known"); else tenant=$default_tenant; fi
fi
if ! get "$api/tenant/$tenant" >/dev/null 2>&1; then
  say "attaching tenant $tenant"
  send -X PUT -d '{"mode":"AttachedSingle","generation":1,"tenant_conf":{}}' "$api/tenant/$tenant/location_config" >/dev/null
fi

timelines=$(get "$api/tenant/$tenant/timeline")
timeline=${TIMELINE_ID:-$(jq -r 'sort_by(.ancestor_timeline_id != null) | .[0].timeline_id // empty' <<<"$timelines")}
: "${timeline:=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')}"
if ! jq -e --arg id "$timeline" 'any(.timeline_id == $id)' <<<"$timelines" >/dev/null; then
  say "making timeline $timeline"
  body=$(jq -n --arg id "$timeline" --arg from "${ANCESTOR_ID:-}" \
    '{new_timeline_id: $id, pg_version: 15} + (if $from == "" then {} else {ancestor_timeline_id: $from} end)')
  send -X POST -d "$body" "$api/tenant/$tenant/timeline/" >/dev/null
fi

# As pg_authid keeps it: md5 of password and role name.
admin_md5=$(printf %s "${ADMIN_PASSWORD:-cloud_admin}cloud_admin" | md5sum | cut -d ' ' -f 1)
sed -e "s|ADMIN_MD5|$admin_md5|" -e "s|TENANT_ID|$tenant|" -e "s|TIMELINE_ID|$timeline|" -e "s|PAGESERVER_HOST|$pageserver|" \
  -e "s|SAFEKEEPERS|${safekeepers//,/\",\"}|" -e "s|55433|${PG_PORT:-55433}|" "${SPEC_TEMPLATE:-/opt/neon/compose/spec.json}" >"$spec"
say "starting a compute on tenant $tenant, timeline $timeline"
exec compute_ctl --pgdata "${PGDATA:-/var/db/postgres/compute}" -C "postgresql://cloud_admin@127.0.0.1:${PG_PORT:-55433}/postgres" \
  -b /usr/lib/postgresql/15/bin/postgres --compute-id "${COMPUTE_ID:-compute}" -S "$spec"
