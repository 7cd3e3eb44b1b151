/** Options of compute_ctl. */
import { resolve } from 'node:path';
import { z } from 'zod';
import { addrSchema, commonOptions, option, parseConfig, type ConfigOf } from '#shared/runtime/config.js';
import { StorageError } from '#shared/core/errors.js';
import { createLogger } from '#shared/runtime/log.js';
import type { Logger } from '#shared/runtime/log.js';

const count = (fallback: number) => z.coerce.number().int().min(0).default(fallback);

const options = {
  ...commonOptions,
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
    'not supported yet: give the spec as a file',
    z.string().optional(),
  ),
  computeId: option('-i, --compute-id <id>', 'name of this compute, for logs', z.string().default('compute')),
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
    'how long the status stays readable after a failure or a fast Terminate (default 2000)',
    count(2_000),
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
  const { logLevel: level, logPretty: pretty } = config;
  return createLogger({ service: 'compute_ctl', level, ...(pretty === undefined ? {} : { pretty }) });
}

/** The spec's file. Throws StorageError when none, or two different ones, are named. */
export function specFile(config: ComputeConfig): string {
  if (config.controlPlaneUri !== undefined) {
    throw new StorageError('unimplemented', '--control-plane-uri is not supported yet; give the spec by --spec-path');
  }
  const path = config.specPath ?? config.config;
  if (path === undefined) throw new StorageError('invalid', 'name the compute spec by --spec-path');
  if (config.config !== undefined && config.specPath !== undefined && config.config !== config.specPath) {
    throw new StorageError('invalid', 'both --spec-path and --config are given; use one');
  }
  return path;
}
