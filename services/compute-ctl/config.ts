/** Options of compute_ctl. */
import { resolve } from 'node:path';
import { z } from 'zod';
import { addrSchema, commonOptions, option, parseConfig, type ConfigOf } from '#shared/runtime/config.js';
import { StorageError } from '#shared/core/errors.js';
import { createLogger } from '#shared/runtime/log.js';
import type { Logger } from '#shared/runtime/log.js';
import { controlPlaneSource, fileSource } from './io/spec-source.js';
import type { SpecSource } from './io/spec-source.js';

const count = (fallback: number) => z.coerce.number().int().min(0).default(fallback);

const options = {
  ...commonOptions,
  logFile: option('--log-file <path>', 'append the log to this file instead of stderr', z.string().min(1).optional()),
  pgdata: option(
    '-D, --pgdata <dir>',
    'data directory; removed and made anew at each start',
    z
      .string()
      .min(1)
      .transform((path) => resolve(path)),
  ),
  connstr: option(
    '-C, --connstr <url>',
    'connection string of this Postgres: the user that owns it, and the port when the spec names none',
    z.string().default('postgresql://cloud_admin@127.0.0.1:55432/postgres'),
  ),
  specPath: option('-S, --spec-path <file>', 'the compute spec, JSON', z.string().optional()),
  config: option('-c, --config <file>', 'the same as --spec-path', z.string().optional()),
  controlPlaneUri: option(
    '-p, --control-plane-uri <url>',
    'asked for the spec at <url>/compute/api/v2/computes/<compute id>/spec, with the bearer token NEON_CONTROL_PLANE_TOKEN',
    z.url({ protocol: /^https?$/ }).optional(),
  ),
  computeId: option(
    '-i, --compute-id <id>',
    'name of this compute, for logs and the control plane',
    z.string().default('compute'),
  ),
  pgbin: option('-b, --pgbin <path>', 'the server binary, a path or a name', z.string().default('postgres')),
  pgUser: option(
    '--pg-user <name>',
    'system account for Postgres when running as root',
    z.string().default('postgres'),
  ),
  pageserverGrpc: option(
    '--pageserver-grpc <host:port>',
    'gRPC address of the page server (default: from the spec, else the host of its connection string with port 51051)',
    addrSchema().optional(),
  ),
  listenGrpc: option(
    '--listen-grpc <host:port>',
    'address of the gRPC server; port 0 = a free one (default 127.0.0.1:3081)',
    addrSchema().default('127.0.0.1:3081'),
  ),
  listenHttp: option(
    '--listen-http <host:port>',
    'address of the HTTP server; port 0 = a free one (default 127.0.0.1:3080)',
    addrSchema().default('127.0.0.1:3080'),
  ),
  externalHttpPort: option(
    '--external-http-port <port>',
    'port for --listen-http on all addresses',
    z.coerce.number().int().min(0).max(65535).optional(),
  ),
  walWindowBytes: option(
    '--wal-window-bytes <bytes>',
    'newest WAL kept in memory for safekeepers (default 33554432)',
    count(32 << 20),
  ),
  startTimeoutMs: option(
    '--start-timeout-ms <ms>',
    'limit for Postgres to take connections (default 60000)',
    count(60_000),
  ),
  stopTimeoutMs: option(
    '--stop-timeout-ms <ms>',
    'limit for an orderly stop, before Postgres is stopped the hard way (default 20000)',
    count(20_000),
  ),
  lingerMs: option(
    '--linger-ms <ms>',
    'how long a failed compute waits for a refresh, its status readable, before it exits (default 30000)',
    count(30_000),
  ),
  terminateDelayMs: option(
    '--terminate-delay-ms <ms>',
    'how long the status stays readable after a fast /terminate (default 30000)',
    count(30_000),
  ),
  refreshRetryMs: option(
    '--refresh-retry-ms <ms>',
    'pause before a refresh that failed is tried again (default 5000)',
    count(5_000),
  ),
  autoscaling: option(
    '--autoscaling',
    'serve the vm-monitor; AUTOSCALING in the environment, with any value, says the same',
    z.boolean().optional(),
  ),
  cgroup: option(
    '--cgroup <name>',
    'control group whose memory the vm-monitor watches (default neon-postgres)',
    z.string().min(1).default('neon-postgres'),
  ),
  vmMonitorAddr: option(
    '--vm-monitor-addr <host:port>',
    'address of the vm-monitor, see --autoscaling (default 0.0.0.0:10301)',
    addrSchema().default('0.0.0.0:10301'),
  ),
};

export type ComputeConfig = ConfigOf<typeof options>;

export function readConfig(
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>> = process.env,
): ComputeConfig {
  const app = {
    name: 'compute_ctl',
    description: 'Starts a stateless Postgres on remote storage and replicates its WAL to safekeepers',
  };
  return parseConfig(app, options, argv, env);
}

export function makeLogger(config: ComputeConfig): Logger {
  const { logLevel: level, logPretty: pretty, logFile: file } = config;
  const optional = { ...(pretty === undefined ? {} : { pretty }), ...(file === undefined ? {} : { file }) };
  return createLogger({ service: 'compute_ctl', level, ...optional });
}

/** Where the spec comes from; null: nowhere, somebody will bring it. Throws StorageError `invalid` when two places are named. */
export function specSource(
  config: ComputeConfig,
  env: Readonly<Record<string, string | undefined>> = process.env,
): SpecSource | null {
  const { specPath, config: sameFile, controlPlaneUri, computeId } = config;
  if (sameFile !== undefined && specPath !== undefined && sameFile !== specPath) {
    throw new StorageError('invalid', 'both --spec-path and --config are given; use one');
  }
  const path = specPath ?? sameFile;
  if (path !== undefined && controlPlaneUri !== undefined) {
    throw new StorageError('invalid', 'the spec comes from a file or from --control-plane-uri, not from both');
  }
  if (path !== undefined) return fileSource(path);
  return controlPlaneUri === undefined
    ? null
    : controlPlaneSource(controlPlaneUri, computeId, env['NEON_CONTROL_PLANE_TOKEN']);
}
