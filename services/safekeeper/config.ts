/** Options of the safekeeper. */
import { z } from 'zod';
import { addrSchema, commonOptions, option, parseConfig, type ConfigOf } from '#shared/runtime/config.js';

const options = {
  ...commonOptions,
  datadir: option('-D, --datadir <path>', 'data directory (default .)', z.string().min(1).default('.')),
  id: option(
    '--id <number>',
    'node id; needed at the first start, later it is read from the data directory',
    z.coerce.number().int().positive().optional(),
  ),
  listenGrpc: option(
    '--listen-grpc <host:port>',
    'address of the gRPC server; port 0 = a free one (default 127.0.0.1:5454)',
    addrSchema().default('127.0.0.1:5454'),
    ['-l, --listen-pg <host:port>'],
  ),
  listenHttp: option(
    '--listen-http <host:port>',
    'address of the HTTP server (default 127.0.0.1:7676)',
    addrSchema().default('127.0.0.1:7676'),
  ),
  advertiseGrpc: option(
    '--advertise-grpc <host:port>',
    'where others reach the gRPC server (default: where it listens)',
    addrSchema().optional(),
    ['--advertise-pg <host:port>'],
  ),
  brokerEndpoint: option(
    '--broker-endpoint <host:port>',
    'storage broker (default 127.0.0.1:50051)',
    z.preprocess(
      (value) => (typeof value === 'string' ? value.replace(/^https?:\/\//, '').replace(/\/$/, '') : value),
      addrSchema().default('127.0.0.1:50051'),
    ),
  ),
  availabilityZone: option('--availability-zone <name>', 'availability zone of this node', z.string().default('')),
  sync: option(
    '--no-sync',
    'do not wait for the disk: a crash of the machine then loses acknowledged data',
    z.union([z.boolean(), z.stringbool()]).default(true),
  ),
  dumpControlFile: option(
    '--dump-control-file',
    'print all control files in the data directory as JSON and exit',
    z.union([z.boolean(), z.stringbool()]).default(false),
  ),
};

export type SafekeeperConfig = ConfigOf<typeof options>;

export function readConfig(
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>> = process.env,
): SafekeeperConfig {
  return parseConfig({ name: 'safekeeper', description: 'Keeps WAL safe by quorum' }, options, argv, env);
}
