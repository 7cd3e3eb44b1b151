/** The spec that compute_ctl gets for a compute of a local stack (format: docs of compute-ctl). Pure. */

export interface ComputeSpecInput {
  readonly name: string;
  readonly tenantId: string;
  readonly timelineId: string;
  readonly pgPort: number;
  readonly pageserverPgAddr: string;
  readonly pageserverGrpcAddr: string;
  readonly safekeeperAddrs: readonly string[];
  readonly settings: Readonly<Record<string, string>>;
  readonly operationUuid: string;
  readonly isReplica?: boolean;
}

/** Settings of a compute on a developer's machine; the user's own come after and win. */
const DEFAULT_SETTINGS: Readonly<Record<string, string>> = {
  listen_addresses: '127.0.0.1',
  shared_buffers: '128MB',
  max_connections: '100',
};

function setting(name: string, value: string) {
  return { name, value, vartype: 'string' };
}

export function buildComputeSpec(input: ComputeSpecInput): Record<string, unknown> {
  const settings = { ...DEFAULT_SETTINGS, ...input.settings, port: String(input.pgPort) };
  const [host, port] = input.pageserverPgAddr.split(':');
  const connstring = `host=${host} port=${port}`;
  return {
    format_version: 1.0,
    operation_uuid: input.operationUuid,
    mode: input.isReplica === true ? 'Replica' : 'Primary',
    tenant_id: input.tenantId,
    timeline_id: input.timelineId,
    endpoint_id: input.name,
    pageserver_connstring: connstring,
    pageserver_connection_info: {
      shard_count: 0,
      shards: {
        '0000': {
          pageservers: [
            {
              id: 1,
              libpq_url: `postgresql://no_user@${input.pageserverPgAddr}`,
              grpc_url: `grpc://${input.pageserverGrpcAddr}`,
            },
          ],
        },
      },
      prefer_protocol: 'libpq',
    },
    safekeeper_connstrings: input.safekeeperAddrs,
    cluster: {
      cluster_id: input.name,
      name: input.name,
      roles: [],
      databases: [],
      settings: Object.entries(settings).map(([name, value]) => setting(name, value)),
    },
    delta_operations: [],
  };
}
