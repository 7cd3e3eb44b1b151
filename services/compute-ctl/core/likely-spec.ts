/** The spec of a compute that nobody has asked for yet, in all that most specs agree on. */
import { renderPostgresConf } from './postgres-conf.js';
import { parseSpec } from './spec.js';
import type { ComputeSpec } from './spec.js';

const ID = '0'.repeat(31);

const OPTION = { name: 'CONNECTION LIMIT', value: '1', vartype: 'integer' };

/** Has one of each, so that whoever reads it has read each kind once. */
const SPEC = JSON.stringify({
  format_version: 1.0,
  operation_uuid: '00000000-0000-0000-0000-000000000000',
  mode: 'Primary',
  tenant_id: `${ID}1`,
  timeline_id: `${ID}2`,
  endpoint_id: 'none',
  pageserver_connstring: 'host=127.0.0.1 port=6400',
  pageserver_connection_info: {
    shard_count: 0,
    shards: {
      '0000': {
        pageservers: [{ id: 1, libpq_url: 'postgresql://no_user@127.0.0.1:6400', grpc_url: 'grpc://127.0.0.1:51051' }],
      },
    },
    prefer_protocol: 'libpq',
  },
  safekeeper_connstrings: ['127.0.0.1:5454'],
  cluster: {
    cluster_id: 'none',
    name: 'none',
    roles: [{ name: 'nobody', encrypted_password: null, options: [OPTION] }],
    databases: [{ name: 'nothing', owner: 'nobody', options: [OPTION] }],
    settings: [{ name: 'port', value: '1', vartype: 'integer' }],
  },
  delta_operations: [{ action: 'delete_db', name: 'nowhere' }],
});

export function likelySpec(): ComputeSpec {
  return parseSpec(SPEC, null);
}

/** Its postgresql.conf. */
export function likelyConf(): string {
  return renderPostgresConf(likelySpec(), { socketDir: '/nowhere', port: 1 }).text;
}
