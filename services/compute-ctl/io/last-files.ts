/**
 * What Postgres leaves behind in files when it has stopped, after its last WAL record: statistics, the final state of logical
 * replication slots and what they need. It goes into WAL as logical messages right behind the shutdown checkpoint, in this compute's
 * term, so that the next compute finds it in its base backup. Statistics come last: they count only for a start exactly behind them.
 */
import { open, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { StorageError } from '#shared/core/errors.js';
import { formatLsn } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import { decodeControlFile, DB_SHUTDOWNED } from '#shared/postgres/control-file.js';
import { encodeCheckPoint } from '#shared/postgres/checkpoint.js';
import { encodeLogicalMessage } from '#shared/postgres/logical-message.js';
import { RM_XLOG } from '#shared/postgres/rmgr.js';
import { normalizeLsn, recordStart, segmentName, segmentNumber, segmentOffset } from '#shared/postgres/wal-layout.js';
import { encodeRecord, layOutRecord } from '#shared/postgres/wal-synthesis.js';
import type { Logger } from '#shared/runtime/log.js';
import { logicalSlots } from './slot-files.js';

const PREFIX = 'neon-file:';
const STATISTICS = 'pg_stat/pgstat.stat';
/** All files together; what is more is left out. A bound for the time that a stop takes. */
const TOTAL_BYTES_MAX = 32 * 1024 * 1024;

export interface LastWal {
  readonly beginLsn: Lsn;
  readonly bytes: Uint8Array;
  readonly files: readonly string[];
}

/**
 * The WAL to append at `endLsn`, where that of the cleanly stopped server in `pgdata` ends; null when there is nothing to keep. Writes it
 * into pg_wal too, where lagging safekeepers are served from. Throws StorageError `precondition` when the server's WAL does not end with a
 * shutdown checkpoint there.
 */
export async function lastWal(options: { pgdata: string; endLsn: Lsn; log: Logger }): Promise<LastWal | null> {
  const { pgdata, endLsn, log } = options;
  const control = decodeControlFile(await readFile(join(pgdata, 'global/pg_control')));
  const identity = { systemId: control.systemId, segSize: control.segSize, timelineId: control.checkPoint.timelineId };
  const checkpoint = encodeRecord({
    rmid: RM_XLOG,
    info: 0,
    prevLsn: endLsn,
    mainData: encodeCheckPoint(control.checkPoint),
  });
  const expected = normalizeLsn(layOutRecord(checkpoint, control.checkPointLsn, identity).endLsn, control.segSize);
  if (control.state !== DB_SHUTDOWNED || expected !== normalizeLsn(endLsn, control.segSize)) {
    const [checkpointLsn, end] = [formatLsn(control.checkPointLsn), formatLsn(endLsn)];
    throw new StorageError('precondition', `WAL ends at ${end}, not behind a shutdown checkpoint at ${checkpointLsn}`);
  }
  const pieces: Uint8Array[] = [];
  const files: string[] = [];
  let prevLsn = control.checkPointLsn;
  let at = endLsn;
  let total = 0;
  for (const path of await pathsToKeep(pgdata)) {
    const content = await readFile(join(pgdata, path)).catch(() => null);
    if (content === null || content.length === 0) continue;
    if (total + content.length > TOTAL_BYTES_MAX) {
      log.warn({ path, bytes: content.length }, 'left out a file that is too large to keep');
      continue;
    }
    total += content.length;
    const record = encodeLogicalMessage({ prefix: PREFIX + path, content, prevLsn });
    const laid = layOutRecord(record, at, identity);
    prevLsn = recordStart(at, control.segSize);
    at = laid.endLsn;
    pieces.push(laid.bytes);
    files.push(path);
  }
  if (pieces.length === 0) return null;
  const bytes = Buffer.concat(pieces);
  await writeWal(join(pgdata, 'pg_wal'), endLsn, bytes, control.segSize);
  return { beginLsn: endLsn, bytes, files };
}

/** Relative to the data directory: what a slot needs comes before its state. */
async function pathsToKeep(pgdata: string): Promise<string[]> {
  const paths: string[] = [];
  const slots = await logicalSlots(pgdata);
  if (slots.length > 0) {
    for (const dir of ['pg_logical/snapshots', 'pg_logical/mappings']) {
      const names = await readdir(join(pgdata, dir)).catch(() => []);
      paths.push(...names.filter((name) => !name.endsWith('.tmp')).map((name) => `${dir}/${name}`));
    }
    paths.push(...slots.map(({ name }) => `pg_replslot/${name}/state`));
  }
  return [...paths, STATISTICS];
}

async function writeWal(walDir: string, beginLsn: Lsn, bytes: Uint8Array, segSize: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const at = (beginLsn + done) as Lsn;
    const offset = segmentOffset(at, segSize);
    const count = Math.min(bytes.length - done, segSize - offset);
    const path = join(walDir, segmentName(segmentNumber(at, segSize), segSize));
    await using file = await open(path, 'r+').catch(() => open(path, 'w+'));
    await file.write(bytes, done, count, offset);
    await file.truncate(segSize);
    done += count;
  }
}
