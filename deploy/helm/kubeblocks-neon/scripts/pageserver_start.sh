#!/bin/sh
# Starts the page server. Without an object store its data is on this pod's volume alone.
set -eu
exec pageserver -D /data -c "id=1" -c "broker_endpoint='http://$NEON_STORAGEBROKER_POD_FQDN_LIST:$NEON_STORAGEBROKER_PORT'" \
  -c "listen_pg_addr='0.0.0.0:$PAGEKEEPER_PG_PORT'" -c "listen_http_addr='0.0.0.0:$PAGEKEEPER_HTTP_PORT'"
