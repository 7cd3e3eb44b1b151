/** The configuration of a compute that nobody has asked for yet, in all that most specs agree on. */
import { renderPostgresConf } from './postgres-conf.js';
import { parseSpec } from './spec.js';

const ID = '0'.repeat(31);

const SPEC = JSON.stringify({
  format_version: 1.0,
  tenant_id: `${ID}1`,
  timeline_id: `${ID}2`,
  pageserver_connstring: 'host=127.0.0.1 port=6400',
  safekeeper_connstrings: ['127.0.0.1:5454'],
  cluster: {
    cluster_id: 'none',
    name: 'none',
    roles: [{ name: 'nobody', encrypted_password: null, options: null }],
    databases: [{ name: 'nothing', owner: 'nobody', options: null }],
    settings: [{ name: 'port', value: '1', vartype: 'integer' }],
  },
  delta_operations: [],
});

/** postgresql.conf. */
export function likelyConf(): string {
  return renderPostgresConf(parseSpec(SPEC, null), { socketDir: '/nowhere', port: 1 }).text;
}
