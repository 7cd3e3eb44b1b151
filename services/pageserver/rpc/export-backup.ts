/** TransferService.ExportBackup: header, tar bytes in chunks with progress between, trailer with their sum and CRC-32C. */
import type { ExportBackupRequest, ExportBackupResponse } from '#gen/neon/pageserver/v1/transfer.js';
import { parseShardTtid } from '#shared/core/shard.js';
import type { Lsn } from '#shared/core/lsn.js';
import { lsnFromWire, lsnToWire } from '#shared/core/lsn.js';
import type { ResponseWriter } from '#shared/rpc/handlers.js';
import { serverStream } from '#shared/rpc/handlers.js';
import { exportedRelations, fullBackup } from '../core/basebackup/full-backup.js';
import { planBaseBackup } from '../core/basebackup/plan.js';
import { packTar } from '../core/basebackup/ustar.js';
import { BLOCK_BYTES } from '../core/keyspace.js';
import type { ActiveTimeline } from '../tenant/active-timeline.js';
import { backupOptions, waitBackupLsn } from './base-backup.js';
import { ChunkWriter } from './chunk-writer.js';
import type { TransferDeps } from './transfer-service.js';

const PROGRESS_MS = 1000;

export function exportBackup({ tenants, waitLsnTimeoutMs }: TransferDeps) {
  return serverStream<ExportBackupRequest, ExportBackupResponse>(async (request, writer, { signal }) => {
    const timeline = tenants.find(parseShardTtid(request.ttid));
    const lsn = await waitBackupLsn(timeline, lsnFromWire(request.lsn), waitLsnTimeoutMs, signal);
    // It takes long: garbage collection must leave it its history until the end.
    const release = timeline.store.history.hold(lsn);
    try {
      await writeExport(timeline, lsn, writer);
    } finally {
      release();
    }
  });
}

async function writeExport(
  timeline: ActiveTimeline,
  lsn: Lsn,
  writer: ResponseWriter<ExportBackupResponse>,
): Promise<void> {
  const { view } = timeline;
  const plan = await planBaseBackup(view, backupOptions(timeline, lsn, true));
  const relations = await exportedRelations(view, plan);
  const relationBytes = relations.reduce((sum, { sizeBlocks }) => sum + sizeBlocks * BLOCK_BYTES, 0);
  const value = {
    lsn: lsnToWire(plan.lsn),
    systemId: plan.systemId,
    pgMajorVersion: plan.pgMajor,
    walSegSize: plan.segSize,
    relationBytes: BigInt(relationBytes),
  };
  await writer.write({ part: { $case: 'header', value } });
  const counter = { relationBytes: 0 };
  const chunks = new ChunkWriter((chunk) => writer.write({ part: { $case: 'chunk', value: chunk } }));
  let toldMs = performance.now();
  const entries = fullBackup(view, plan, relations, (sizeBytes) => (counter.relationBytes += sizeBytes));
  for await (const piece of packTar(entries, plan.timeS)) {
    await chunks.add(piece);
    if (performance.now() - toldMs < PROGRESS_MS) continue;
    toldMs = performance.now();
    const progress = { relationBytes: BigInt(counter.relationBytes) };
    await writer.write({ part: { $case: 'progress', value: progress } });
  }
  await chunks.flush();
  await writer.write({ part: { $case: 'progress', value: { relationBytes: BigInt(counter.relationBytes) } } });
  await writer.write({ part: { $case: 'trailer', value: chunks.sum() } });
}
