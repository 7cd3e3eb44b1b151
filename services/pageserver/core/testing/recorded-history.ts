/**
 * For tests: the WAL that a real server wrote between a cleanly stopped image and a crash or stop. The image can be imported, the
 * WAL ingested up to any record, and stock crash recovery of the same two is the truth to compare with.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { lsn, type Lsn } from '#shared/core/lsn.js';
import { type ControlFile, DB_IN_PRODUCTION, decodeControlFile } from '#shared/postgres/control-file.js';
import { crc32c } from '#shared/postgres/crc32c.js';
import { readWal, type RealWal } from '#shared/postgres/testing/real-wal.js';
import { TempCluster, type TempClusterOptions } from '#shared/postgres/testing/temp-cluster.js';
import { findEndOfWal } from '#shared/postgres/wal-end.js';
import { segmentName } from '#shared/postgres/wal-layout.js';
import type { WalRecord } from '#shared/postgres/wal-record.js';
import { WalStreamDecoder } from '#shared/postgres/wal-stream-decoder.js';
import { readDataDir } from '../../io/datadir-reader.js';
import { importDataDir } from '../import/import-datadir.js';
import { planImport } from '../import/plan.js';
import { WalIngest } from '../ingest/wal-ingest.js';
import { TimelineView } from '../view/timeline-view.js';
import { MemoryStore } from './memory-store.js';

/** Settings that keep all WAL and let nothing run by itself. */
export const QUIET_CONFIG: readonly string[] = [
  'autovacuum = off',
  'max_prepared_transactions = 10',
  'wal_keep_size = 8GB',
  'max_wal_size = 8GB',
  'checkpoint_timeout = 1h',
  'statement_timeout = 60s',
];

const FEED_BYTES = 100_000;

export interface Boundary {
  readonly endLsn: Lsn;
  readonly startLsn: Lsn;
}

export interface IngestedHistory {
  readonly store: MemoryStore;
  readonly ingest: WalIngest;
  readonly view: TimelineView;
  readonly warnings: string[];
}

export class RecordedHistory {
  /** The image: cleanly stopped. */
  readonly base: TempCluster;
  readonly origin: TempCluster;
  readonly control: ControlFile;
  readonly wal: RealWal;
  readonly boundaries: readonly Boundary[];
  private readonly controlFile: Buffer;

  private constructor(parts: {
    base: TempCluster;
    origin: TempCluster;
    controlFile: Buffer;
    wal: RealWal;
    boundaries: readonly Boundary[];
  }) {
    this.base = parts.base;
    this.origin = parts.origin;
    this.controlFile = parts.controlFile;
    this.control = decodeControlFile(parts.controlFile);
    this.wal = parts.wal;
    this.boundaries = parts.boundaries;
  }

  /** `prepare` works on the stopped cluster before the image is taken; `load` on the running one after it. */
  static async record(options: {
    readonly cluster?: TempClusterOptions;
    readonly prepare?: (cluster: TempCluster) => Promise<void>;
    readonly load: (cluster: TempCluster) => Promise<void>;
    readonly stop: 'fast' | 'immediate';
  }): Promise<RecordedHistory> {
    const config = [...QUIET_CONFIG, ...(options.cluster?.config ?? [])];
    const origin = await TempCluster.create({ ...options.cluster, config });
    await options.prepare?.(origin);
    const base = await origin.clone();
    await origin.start();
    await options.load(origin);
    await origin.stop(options.stop);
    const controlFile = readFileSync(controlPath(base));
    const { segSize, systemId } = decodeControlFile(controlFile);
    const start = planImport(controlFile).lsn;
    const all = await readWal(origin, segSize, lsn(Number.MAX_SAFE_INTEGER));
    const read = (at: Lsn): Uint8Array => all.bytes.subarray(at - all.startLsn, at - all.startLsn + FEED_BYTES);
    const end = await findEndOfWal({ startLsn: start, segSize, systemId, read });
    const wal = { ...all, endLsn: end.endLsn, bytes: all.bytes.subarray(0, end.endLsn - all.startLsn) };
    const boundaries: Boundary[] = [];
    for (const { endLsn, startLsn } of decodeWal(wal, start, end.endLsn)) boundaries.push({ endLsn, startLsn });
    return new RecordedHistory({ base, origin, controlFile, wal, boundaries });
  }

  get endLsn(): Lsn {
    return this.wal.endLsn;
  }

  /** Imports the image and ingests the WAL up to `end`, a record boundary. */
  async ingestTo(end: Lsn = this.endLsn): Promise<IngestedHistory> {
    const { systemId, segSize, lsn: initdbLsn } = planImport(this.controlFile);
    const store = new MemoryStore({ systemId, segSize, initdbLsn });
    await importDataDir(readDataDir(this.base.dataDir), store);
    const warnings: string[] = [];
    const ingest = await WalIngest.open(store, {
      warn: (fields, text) => warnings.push(`${text} ${JSON.stringify(fields)}`),
    });
    for (const record of decodeWal(this.wal, store.lastRecordLsn, end)) {
      await ingest.ingest(record);
      store.advance(record.endLsn, record.startLsn);
    }
    return { store, ingest, view: new TimelineView(store, ingest), warnings };
  }

  /** The image after stock crash recovery of the WAL up to `end`; stopped, before anybody connected. */
  async recoverTo(end: Lsn = this.endLsn): Promise<TempCluster> {
    const truth = await this.base.clone();
    const file = readFileSync(controlPath(truth));
    file.writeUInt32LE(DB_IN_PRODUCTION, 16);
    file.writeUInt32LE(crc32c(file, 0, 288), 288);
    writeFileSync(controlPath(truth), file);
    const { segSize } = this.control;
    const dir = path.join(truth.dataDir, 'pg_wal');
    for (const name of readdirSync(dir)) rmSync(path.join(dir, name), { recursive: true });
    mkdirSync(path.join(dir, 'archive_status'));
    for (let start = this.wal.startLsn; start < end; start = lsn(start + segSize)) {
      const segment = Buffer.alloc(segSize);
      this.wal.bytes.copy(segment, 0, start - this.wal.startLsn, Math.min(end, start + segSize) - this.wal.startLsn);
      writeFileSync(path.join(dir, segmentName(start / segSize, segSize)), segment);
    }
    await truth.own();
    await truth.start();
    await truth.stop('immediate');
    return truth;
  }

  async destroy(): Promise<void> {
    await this.origin.destroy();
    await this.base.destroy();
  }
}

/** The records in [from, to), in one cursor. */
export function* decodeWal(wal: RealWal, from: Lsn, to: Lsn): Generator<WalRecord> {
  const decoder = new WalStreamDecoder({ startLsn: from, segSize: wal.segSize });
  for (let at = from; at < to; at = decoder.inputLsn) {
    decoder.feed(wal.bytes.subarray(at - wal.startLsn, Math.min(at + FEED_BYTES, to) - wal.startLsn));
    while (decoder.next()) yield decoder.record;
  }
  if (decoder.recordEndLsn !== to) throw new Error(`WAL ends in the middle of a record before ${to}`);
}

export function controlPath(cluster: TempCluster): string {
  return path.join(cluster.dataDir, 'global/pg_control');
}
