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
  remoteStorage: option(
    '--remote-storage <url>',
    'object store for WAL: file:///abs/dir or s3://bucket/prefix?endpoint=…; without it all WAL stays on disk',
    z.string().min(1).optional(),
  ),
  // What a laptop's disk has room for many times, and a peer that was away for a short while catches up with at disk speed.
  peerLagBytesMax: option(
    '--peer-lag-bytes-max <bytes>',
    'WAL kept on disk for peers and readers that lag; beyond they read the object store (default 256 MiB)',
    z.coerce
      .number()
      .int()
      .nonnegative()
      .default(256 << 20),
  ),
  // One that lags would leave the others without a backup for as long as it lags.
  maxOffloaderLag: option(
    '--max-offloader-lag <bytes>',
    'a safekeeper that lags by more is not elected to upload WAL (default 128 MiB)',
    z.coerce
      .number()
      .int()
      .nonnegative()
      .default(128 << 20),
  ),
  // Each upload costs a request; losing all safekeepers at once loses at most what came since.
  partialBackupTimeoutMs: option(
    '--partial-backup-timeout-ms <ms>',
    'time between uploads of a segment that still grows (default 15 min)',
    z.coerce.number().int().positive().default(900_000),
  ),
  evictionMinResidentMs: option(
    '--eviction-min-resident-ms <ms>',
    'a timeline that was not used for so long leaves the disk for the object store (default 15 min)',
    z.coerce.number().int().nonnegative().default(900_000),
  ),
  peerRecovery: option(
    '--no-peer-recovery',
    'do not fetch committed WAL from peers when no compute brings it',
    z.union([z.boolean(), z.stringbool()]).default(true),
  ),
  upkeepIntervalMs: option(
    '--upkeep-interval-ms <ms>',
    'time between looks at what is to be uploaded, removed, evicted (default 1 s)',
    z.coerce.number().int().positive().default(1_000),
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
