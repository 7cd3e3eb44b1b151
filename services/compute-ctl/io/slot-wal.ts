/**
 * The WAL that logical replication slots still need lies before the position where this compute starts. It is fetched from a safekeeper
 * into pg_wal before Postgres starts; from then on the slots themselves keep it.
 */
import { chown, open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errorText, StorageError } from '#shared/core/errors.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import { formatLsn, INVALID_LSN } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import { normalizeLsn, segmentName, segmentNumber, segmentOffset, segmentStart } from '#shared/postgres/wal-layout.js';
import { segmentPrefix } from '#shared/postgres/wal-synthesis.js';
import type { Logger } from '#shared/runtime/log.js';
import type { Account } from './account.js';
import { DonorStream } from './donor-stream.js';
import { logicalSlots } from './slot-files.js';

/** More is not fetched: a slot that lags that far would fill the disk. */
const BYTES_MAX = 64 * 1024 ** 3;
const READ_BYTES_MAX = 1 << 20;

export interface SlotWalOptions {
  readonly pgdata: string;
  readonly ttid: TenantTimelineId;
  readonly startLsn: Lsn;
  readonly segSize: number;
  readonly systemId: bigint;
  readonly account: Account | null;
  readonly log: Logger;
  readonly term: number;
  /** host:port of safekeepers that have all WAL before `startLsn`, best first. */
  readonly donors: readonly string[];
}

/** Resolves at once when no slot needs older WAL. Without a donor the server starts, and the slots say what they miss. */
export async function fetchSlotWal(options: SlotWalOptions): Promise<void> {
  const { pgdata, startLsn, segSize, log } = options;
  const needed = (await logicalSlots(pgdata)).map((slot) => slot.restartLsn).filter((lsn) => lsn !== INVALID_LSN);
  const oldest = needed.length === 0 ? startLsn : (Math.min(...needed) as Lsn);
  if (oldest >= startLsn) return;
  const fromLsn = normalizeLsn(oldest, segSize);
  const fields = { fromLsn: formatLsn(fromLsn), bytes: startLsn - fromLsn, slots: needed.length };
  if (startLsn - fromLsn > BYTES_MAX) {
    log.error(fields, 'logical replication slots lag too far; their WAL is not fetched');
    return;
  }
  const startedMs = performance.now();
  let failure: unknown = new StorageError('unavailable', 'no safekeeper is connected');
  for (const addr of options.donors) {
    try {
      await copyFrom(options, addr, fromLsn);
      log.info(
        { ...fields, ms: Math.round(performance.now() - startedMs) },
        'fetched WAL for logical replication slots',
      );
      return;
    } catch (error) {
      failure = error;
      log.warn({ ...fields, safekeeper: addr, reason: errorText(error) }, 'could not fetch WAL for slots');
    }
  }
  log.error({ ...fields, reason: errorText(failure) }, 'logical replication slots lack their WAL');
}

/**
 * What lies before `fromLsn` in its segment need not exist anywhere: page headers stand in for it, so that the server can open the segment.
 * Those that the base backup made up behind it are replaced by the true bytes.
 */
async function copyFrom(options: SlotWalOptions, addr: string, fromLsn: Lsn): Promise<void> {
  const { pgdata, ttid, term, startLsn, segSize, account } = options;
  const stream = new DonorStream({ addr, ttid, term, fromLsn, endLsn: startLsn });
  try {
    for (let at = fromLsn; at < startLsn;) {
      const path = join(pgdata, 'pg_wal', segmentName(segmentNumber(at, segSize), segSize));
      const existed = await stat(path).then(
        () => true,
        () => false,
      );
      await using file = await open(path, existed ? 'r+' : 'w+', 0o600);
      if (!existed) await file.truncate(segSize);
      if (at === fromLsn) {
        const prefix = segmentPrefix({ lsn: fromLsn, systemId: options.systemId, segSize });
        for (const { offset, bytes } of prefix) await file.write(bytes, 0, bytes.length, offset);
      }
      const segmentEnd = Math.min(startLsn, segmentStart(at, segSize) + segSize);
      while (at < segmentEnd) {
        const bytes = await stream.read(Math.min(READ_BYTES_MAX, segmentEnd - at));
        await file.write(bytes, 0, bytes.length, segmentOffset(at, segSize));
        at = (at + bytes.length) as Lsn;
      }
      if (!existed && account !== null) await chown(path, account.uid, account.gid);
    }
  } finally {
    stream.close();
  }
}
