/** Whole clusters out of a page server and into it, as tar bytes. */
import { once } from 'node:events';
import type {
  ExportBackupHeader,
  ExportBackupResponse,
  ImportBasebackupRequest,
  ImportBasebackupResponse,
} from '#gen/neon/pageserver/v1/transfer.js';
import { TransferServiceClient } from '#gen/neon/pageserver/v1/transfer.js';
import type { TimelineInfo } from '#gen/neon/pageserver/v1/management.js';
import { StorageError } from '#shared/core/errors.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import { lsnToWire } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import { crc32cUpdate } from '#shared/postgres/crc32c.js';
import { createClient } from '#shared/rpc/client.js';
import { fromGrpcError } from '#shared/rpc/error-map.js';

const MESSAGE_BYTES_MAX = 512 << 10;

export interface ExportOptions {
  readonly addr: string;
  readonly ttid: TenantTimelineId;
  readonly lsn: Lsn;
  readonly signal: AbortSignal;
  readonly onHeader: (header: ExportBackupHeader) => void;
}

/** The archive in pieces. Complete only when it ends without an error: the trailer was right then. */
export async function* exportCluster(options: ExportOptions): AsyncGenerator<Buffer> {
  const client = createClient(TransferServiceClient, options.addr);
  const call = client.exportBackup({ ttid: options.ttid, lsn: lsnToWire(options.lsn) });
  const abort = () => call.cancel();
  options.signal.addEventListener('abort', abort, { once: true });
  let totalBytes = 0;
  let sum = 0xffff_ffff;
  let isComplete = false;
  try {
    options.signal.throwIfAborted();
    for await (const message of call) {
      const { part } = message as ExportBackupResponse;
      if (part?.$case === 'header') options.onHeader(part.value);
      else if (part?.$case === 'chunk') {
        sum = crc32cUpdate(sum, part.value, 0, part.value.length);
        totalBytes += part.value.length;
        yield part.value;
      } else if (part?.$case === 'trailer') {
        isComplete = part.value.totalBytes === BigInt(totalBytes) && part.value.crc32c === ~sum >>> 0;
      }
    }
    if (!isComplete) throw new StorageError('corrupt', 'the archive is not what its trailer says');
  } catch (error) {
    options.signal.throwIfAborted();
    throw fromGrpcError(error);
  } finally {
    options.signal.removeEventListener('abort', abort);
    client.close();
  }
}

export interface ImportOptions {
  readonly addr: string;
  readonly ttid: TenantTimelineId;
  readonly signal: AbortSignal;
  /** The archive. Its generator ends only when everything in it was right. */
  readonly archive: AsyncIterable<Buffer>;
  readonly onPhase?: (phase: 'files' | 'wal' | 'upload') => void;
}

/** Makes a timeline of the archive; there is none when this fails. */
export async function importCluster(options: ImportOptions): Promise<TimelineInfo> {
  const client = createClient(TransferServiceClient, options.addr);
  const call = client.importBasebackup();
  const abort = () => call.cancel();
  options.signal.addEventListener('abort', abort, { once: true });
  let timeline: TimelineInfo | undefined;
  const receiving = (async () => {
    for await (const message of call) {
      const { part } = message as ImportBasebackupResponse;
      if (part?.$case === 'progress')
        options.onPhase?.((['files', 'files', 'wal', 'upload'] as const)[part.value.phase] ?? 'files');
      else if (part?.$case === 'result') timeline = part.value.timeline;
    }
  })();
  receiving.catch(() => undefined);
  const send = async (request: ImportBasebackupRequest): Promise<void> => {
    if (!call.write(request)) await Promise.race([once(call, 'drain'), receiving]);
  };
  try {
    options.signal.throwIfAborted();
    await send({ part: { $case: 'header', value: { ttid: options.ttid } } });
    for await (const piece of options.archive) {
      for (let at = 0; at < piece.length; at += MESSAGE_BYTES_MAX) {
        await send({ part: { $case: 'baseChunk', value: piece.subarray(at, at + MESSAGE_BYTES_MAX) } });
      }
    }
    call.end();
    await receiving;
  } catch (error) {
    call.cancel();
    options.signal.throwIfAborted();
    throw error instanceof StorageError ? error : fromGrpcError(error);
  } finally {
    options.signal.removeEventListener('abort', abort);
    client.close();
  }
  if (timeline === undefined) throw new StorageError('internal', 'the import ended without a result');
  return timeline;
}
