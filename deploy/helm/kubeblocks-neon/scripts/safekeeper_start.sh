#!/bin/sh
# Starts a safekeeper. Each needs an id of its own: the pod's ordinal + 1.
set -eu
exec safekeeper --id $((${POD_NAME##*-} + 1)) -D /data --broker-endpoint "http://$NEON_STORAGEBROKER_POD_FQDN_LIST:$NEON_STORAGEBROKER_PORT" \
  -l "0.0.0.0:$SAFEKEEPER_PG_PORT" --advertise-pg "$POD_IP:$SAFEKEEPER_PG_PORT" --listen-http "0.0.0.0:$SAFEKEEPER_HTTP_PORT"
