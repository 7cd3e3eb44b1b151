/** PageService.GetBaseBackup: header, tar bytes in chunks, the files of pg_wal, trailer with the sum and CRC-32C of it all. */
import type {
  GetBaseBackupRequest,
  GetBaseBackupResponse,
  WalSegmentFile,
} from '#gen/neon/pageserver/v1/page_service.js';
import { StorageError } from '#shared/core/errors.js';
import { parseShardTtid } from '#shared/core/shard.js';
import type { Lsn } from '#shared/core/lsn.js';
import { INVALID_LSN, lsnFromWire, lsnToWire } from '#shared/core/lsn.js';
import { normalizeLsn } from '#shared/postgres/wal-layout.js';
import type { SegmentFile } from '#shared/postgres/wal-synthesis.js';
import type { ResponseWriter } from '#shared/rpc/handlers.js';
import { serverStream } from '#shared/rpc/handlers.js';
import { baseBackup } from '../core/basebackup/basebackup.js';
import type { BaseBackupOptions, BaseBackupPlan } from '../core/basebackup/plan.js';
import { planBaseBackup } from '../core/basebackup/plan.js';
import { packTar } from '../core/basebackup/ustar.js';
import { belowCutoff } from '../core/storage/gc-plan.js';
import type { ActiveTimeline } from '../tenant/active-timeline.js';
import { ChunkWriter } from './chunk-writer.js';
import type { PageServiceDeps } from './page-service.js';

export function getBaseBackup(deps: PageServiceDeps) {
  return serverStream<GetBaseBackupRequest, GetBaseBackupResponse>(async (request, writer, { signal }) => {
    const timeline = deps.timelines.find(parseShardTtid(request.ttid));
    const asked = lsnFromWire(request.lsn);
    const followed = request.replica && asked === INVALID_LSN ? followLsn(timeline) : null;
    const lsn = followed ?? (await waitBackupLsn(timeline, asked, deps.waitLsnTimeoutMs, signal));
    // It takes long: garbage collection must leave it its history until the end.
    const { number, count } = timeline.store.shard;
    if (number > 0) {
      throw new StorageError('precondition', `this is shard ${number} of ${count}; shard 0 gives base backups`);
    }
    const release = timeline.store.history.hold(lsn);
    try {
      await writeBackup(
        timeline,
        { ...backupOptions(timeline, lsn, request.replica), follow: followed !== null },
        writer,
      );
    } finally {
      release();
    }
  });
}

async function writeBackup(
  { view }: ActiveTimeline,
  options: BaseBackupOptions,
  writer: ResponseWriter<GetBaseBackupResponse>,
): Promise<void> {
  const plan = await planBaseBackup(view, options);
  await writer.write({ part: { $case: 'header', value: headerOf(plan) } });
  const chunks = new ChunkWriter((value) => writer.write({ part: { $case: 'chunk', value } }));
  for await (const piece of packTar(baseBackup(view, options, plan), options.timeS)) await chunks.add(piece);
  await chunks.flush();
  for (const segment of plan.segments) {
    for (const { bytes } of segment.pieces) chunks.count(bytes);
    await writer.write({ part: { $case: 'walSegment', value: segmentOf(segment) } });
  }
  await writer.write({ part: { $case: 'trailer', value: chunks.sum() } });
}

/** 0 = the head. */
export async function waitBackupLsn(
  { reader, store }: ActiveTimeline,
  asked: Lsn,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<Lsn> {
  if (asked === INVALID_LSN) return store.lastRecordLsn;
  const lsn = normalizeLsn(asked, store.segSize);
  if (lsn < reader.minReadableLsn) throw belowCutoff(lsn, reader.minReadableLsn);
  await reader.waitLsn(lsn, timeoutMs, signal);
  return lsn;
}

/**
 * Where a replica that follows a primary starts: before the last record, so that there is one to replay at once. Null: the timeline has no
 * WAL of its own yet, so nothing runs, and its head is the start of all that will come.
 */
function followLsn({ store }: ActiveTimeline): Lsn | null {
  const lsn = normalizeLsn(store.prevRecordLsn, store.segSize);
  return lsn >= (store.ancestor?.lsn ?? store.initdbLsn) && lsn < store.lastRecordLsn ? lsn : null;
}

/** Only the head's last record is known by its start; in the middle of history it would have to be searched. */
export function backupOptions({ store }: ActiveTimeline, lsn: Lsn, replica: boolean): BaseBackupOptions {
  const prevRecordLsn = lsn === store.lastRecordLsn ? store.prevRecordLsn : INVALID_LSN;
  return { lsn, prevRecordLsn, replica, timeS: Math.floor(Date.now() / 1000) };
}

function segmentOf({ name, sizeBytes, pieces }: SegmentFile): WalSegmentFile {
  return { name, sizeBytes, pieces: pieces.map(({ offset, bytes }) => ({ offset, data: Buffer.from(bytes) })) };
}

function headerOf(plan: BaseBackupPlan) {
  return {
    lsn: lsnToWire(plan.lsn),
    prevRecordLsn: lsnToWire(plan.prevRecordLsn),
    checkpointLsn: lsnToWire(plan.checkpointLsn),
    systemId: plan.systemId,
    pgMajorVersion: plan.pgMajor,
    walSegSize: plan.segSize,
  };
}
