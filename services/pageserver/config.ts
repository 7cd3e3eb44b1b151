/** Options of the page server. */
import { z } from 'zod';
import type { ConfigOf } from '#shared/runtime/config.js';
import { addrSchema, commonOptions, option } from '#shared/runtime/config.js';
import { MEMORY_MIN_BYTES } from './memory-plan.js';

const MIB = 1 << 20;

export const options = {
  ...commonOptions,
  workdir: option(
    '-D, --workdir <path>',
    'directory for cached layers; may be lost at any time',
    z.string().min(1).default('./pageserver-data'),
  ),
  id: option('--id <number>', 'node id, told to safekeepers', z.coerce.number().int().positive().default(1)),
  listenPg: option('--listen-pg <addr>', 'libpq port for computes', addrSchema().default('127.0.0.1:6400')),
  listenGrpc: option('--listen-grpc <addr>', 'gRPC port', addrSchema().default('127.0.0.1:51051')),
  listenHttp: option(
    '--listen-http <addr>',
    'HTTP port for management and metrics',
    addrSchema().default('127.0.0.1:9898'),
  ),
  brokerEndpoint: option(
    '--broker-endpoint <addr>',
    'host:port of the storage broker; http:// in front is allowed',
    z
      .string()
      .default('127.0.0.1:50051')
      .transform((text) => text.replace(/^https?:\/\//, '').replace(/\/$/, ''))
      .refine((text) => addrSchema().safeParse(text).success, 'must be host:port'),
  ),
  remoteStorage: option(
    '--remote-storage <url>',
    'object store: file:///abs/dir or s3://bucket/prefix?endpoint=…',
    z.string().min(1, 'is required: file:///abs/dir or s3://bucket/prefix'),
  ),
  initdbImage: option(
    '--initdb-image <file>',
    'tar of a cleanly stopped data directory; new tenants begin with it',
    z.string().optional(),
  ),
  availabilityZone: option(
    '--availability-zone <name>',
    'WAL is preferably received from safekeepers of this zone',
    z.string().default(''),
  ),
  // Bounds what a crash makes us stream again, and the memory of open layers.
  checkpointDistance: option(
    '--checkpoint-distance <bytes>',
    'WAL of a timeline kept in memory before it is flushed',
    z.coerce
      .number()
      .int()
      .min(MIB)
      .default(256 * MIB),
  ),
  checkpointTimeoutMs: option(
    '--checkpoint-timeout-ms <ms>',
    'age at which unflushed WAL is flushed',
    z.coerce.number().int().min(100).default(600_000),
  ),
  // The process' own needs are in it: memory-plan.ts says how it is shared out.
  memoryMax: option(
    '--memory-max <bytes>',
    'memory of the process (RSS): in-memory layers, caches and heaps are sized by it (default: no bound)',
    z.coerce.number().int().min(MEMORY_MIN_BYTES).optional(),
  ),
  // Unused history costs space only: an hour more or less does not matter.
  gcPeriodMs: option(
    '--gc-period-ms <ms>',
    'between garbage collections; 0 = only on request',
    z.coerce.number().int().min(0).max(0x7fff_ffff).default(3_600_000),
  ),
  compactionPeriodMs: option(
    '--compaction-period-ms <ms>',
    'between looks for layers to compact',
    z.coerce.number().int().min(100).max(0x7fff_ffff).default(20_000),
  ),
  attachAtStart: option(
    '--attach-at-start <which>',
    'ours: tenants that no other node has claimed; all: those of others too (this is the only page server of the store)',
    z.enum(['ours', 'all']).default('ours'),
  ),
  secondaryPeriodMs: option(
    '--secondary-period-ms <ms>',
    'between looks of secondary tenants for new layers',
    z.coerce.number().int().min(100).max(0x7fff_ffff).default(60_000),
  ),
  localLayerBytesMax: option(
    '--local-layer-bytes-max <bytes>',
    'layer files kept in the working directory; those read longest ago go first (default: no limit)',
    z.coerce.number().int().min(1).optional(),
  ),
  // A compute that asks for WAL that never comes should learn it before its users give up.
  waitLsnTimeoutMs: option(
    '--wait-lsn-timeout-ms <ms>',
    'how long a read waits for WAL',
    z.coerce.number().int().min(1).default(300_000),
  ),
};

export type Config = ConfigOf<typeof options>;
