/**
 * Oracle 2: the server recovers a copy of the snapshot from the WAL of a crashed cluster; we redo the same WAL on the snapshot. Every
 * page of every relation and of pg_xact and pg_multixact must have the same bytes, unmasked, free space included.
 *
 * Not compared: free space maps (never logged), unlogged relations (recovery resets them), relations that redo has no resource
 * manager for, and pd_checksum when the cluster has checksums (it is made when a page is served).
 */
import { StorageError } from '#shared/core/errors.js';
import { formatLsn } from '#shared/core/lsn.js';
import { PD_CHECKSUM } from '#shared/postgres/page-layout.js';
import { RMGR_NAMES } from '#shared/postgres/rmgr.js';
import { SLRU_PAGES_PER_SEGMENT } from '#shared/postgres/slru.js';
import type { TempCluster } from '#shared/postgres/testing/temp-cluster.js';
import { cp, rm } from 'node:fs/promises';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { markCrashed, type LoadedCluster } from './clusters.js';
import { FORK_FSM, FORK_INIT, FORK_MAIN, forkName, listForks, PAGE_BYTES, readFork, readPages } from './page-files.js';
import { blockTag, Replay, type SlruKind } from './replay.js';
import { readControlFile, WalSource } from './wal-source.js';

export interface ExactResult {
  records: number;
  comparedPages: number;
  skippedRelations: number;
  differences: string[];
  redoMs: number;
}

const SLRUS: readonly SlruKind[] = ['pg_xact', 'pg_multixact/offsets', 'pg_multixact/members'];
const DIFFERENCES_MAX = 20;
/** Before its checkpoint, recovery may write the record that gives up a torn one, behind a page header. */
const RECOVERY_WRITES_MAX = 128;

/** Has the server recover a copy of the snapshot; the copy is stopped again, and no session has touched it. */
export async function recover(loaded: LoadedCluster): Promise<TempCluster> {
  const recovered = await loaded.snapshot.clone();
  try {
    const walDir = path.join(recovered.dataDir, 'pg_wal');
    await rm(walDir, { recursive: true });
    await cp(path.join(loaded.cluster.dataDir, 'pg_wal'), walDir, { recursive: true });
    await recovered.own();
    markCrashed(recovered.dataDir);
    await recovered.start();
    await recovered.stop('immediate');
    return recovered;
  } catch (error) {
    await recovered.destroy();
    throw error;
  }
}

export interface ExactDirs {
  readonly snapshot: string;
  /** After the load. */
  readonly data: string;
  readonly recovered: string;
}

export function compareExact(dirs: ExactDirs): ExactResult {
  const before = readControlFile(dirs.snapshot);
  const after = readControlFile(dirs.data);
  const checksums = before.checksumVersion !== 0;
  const replay = new Replay(dirs.snapshot, { logHints: checksums || after.params.walLogHints });
  const result: ExactResult = { records: 0, comparedPages: 0, skippedRelations: 0, differences: [], redoMs: 0 };
  const unsupported = new Set<string>();
  const source = new WalSource(dirs.snapshot, dirs.data);
  const started = performance.now();
  redoAll(source, replay, unsupported, result);
  result.redoMs = Math.round(performance.now() - started);
  result.records = source.recordCount;

  const recoveredTo = readControlFile(dirs.recovered).checkPoint.redo;
  if (source.endLsn > recoveredTo || recoveredTo - source.endLsn > RECOVERY_WRITES_MAX) {
    note(result, `our WAL ends at ${formatLsn(source.endLsn)}, the server's recovery at ${formatLsn(recoveredTo)}`);
  }
  compareRelations(dirs.recovered, replay, unsupported, checksums, result);
  for (const kind of SLRUS) compareSlru(dirs.recovered, kind, replay, result);
  return result;
}

function redoAll(source: WalSource, replay: Replay, unsupported: Set<string>, result: ExactResult): void {
  for (const record of source.records()) {
    replay.applyEffects(record);
    for (let id = 0; id <= record.maxBlockId; id++) {
      if (record.blockPresent[id] !== 1) continue;
      const name = forkName(blockTag(record, id));
      if (unsupported.has(name)) continue;
      try {
        replay.applyBlock(record, id);
      } catch (error) {
        if (error instanceof StorageError && error.kind === 'unimplemented') unsupported.add(name);
        else note(result, `${formatLsn(record.startLsn)} ${RMGR_NAMES[record.rmid]} ${name}: ${String(error)}`);
      }
    }
  }
}

function note(result: ExactResult, difference: string): void {
  if (result.differences.length < DIFFERENCES_MAX) result.differences.push(difference);
}

function compareRelations(
  dataDir: string,
  replay: Replay,
  unsupported: ReadonlySet<string>,
  checksums: boolean,
  result: ExactResult,
): void {
  const forks = listForks(dataDir);
  const unlogged = new Set(
    forks.filter((tag) => tag.fork === FORK_INIT).map((tag) => forkName({ ...tag, fork: FORK_MAIN })),
  );
  const seen = new Set<string>();
  for (const tag of forks) {
    const name = forkName(tag);
    seen.add(name);
    if (tag.fork === FORK_FSM || unlogged.has(name)) continue;
    if (unsupported.has(name)) {
      result.skippedRelations++;
      continue;
    }
    const theirs = readFork(dataDir, tag);
    const ours = replay.fork(tag).pages;
    for (let block = 0; block < Math.max(theirs.length, ours.length); block++) {
      comparePage(`${name}/${block}`, ours[block], theirs[block], checksums, result);
    }
  }
  for (const [name, fork] of replay.forks) {
    if (!seen.has(name) && fork.tag.fork !== FORK_FSM && fork.pages.length > 0)
      note(result, `${name} exists only in ours`);
  }
}

/** A page that one side lacks counts as zeros: recovery extends maps that it only looks at. */
function comparePage(
  name: string,
  ours: Uint8Array | undefined,
  theirs: Uint8Array | undefined,
  checksums: boolean,
  result: ExactResult,
): void {
  result.comparedPages++;
  const a = Uint8Array.from(ours ?? new Uint8Array(PAGE_BYTES));
  const b = Uint8Array.from(theirs ?? new Uint8Array(PAGE_BYTES));
  if (checksums) {
    a.fill(0, PD_CHECKSUM, PD_CHECKSUM + 2);
    b.fill(0, PD_CHECKSUM, PD_CHECKSUM + 2);
  }
  if (Buffer.compare(a, b) === 0) return;
  const at = a.findIndex((byte, i) => byte !== b[i]);
  note(
    result,
    `${name}: byte ${at} is ${a[at]}, the server has ${b[at]}${ours === undefined ? ' (we have no page)' : ''}`,
  );
}

function compareSlru(dataDir: string, kind: SlruKind, replay: Replay, result: ExactResult): void {
  for (const segment of readdirSync(path.join(dataDir, kind))) {
    readPages(path.join(dataDir, kind, segment)).forEach((page, i) => {
      const pageNumber = parseInt(segment, 16) * SLRU_PAGES_PER_SEGMENT + i;
      comparePage(`${kind} ${pageNumber}`, replay.slruPage(kind, pageNumber), page, false, result);
    });
  }
}
