/** For tests: a cluster into the page server and out of it, over gRPC. */
import { createReadStream, createWriteStream } from 'node:fs';
import { once } from 'node:events';
import type {
  ExportBackupResponse,
  ImportBasebackupRequest,
  ImportBasebackupResponse,
  ImportResult,
} from '#gen/neon/pageserver/v1/transfer.js';
import { TransferServiceClient } from '#gen/neon/pageserver/v1/transfer.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import { crc32c } from '#shared/postgres/crc32c.js';
import { createClient } from '#shared/rpc/client.js';
import { fromGrpcError } from '#shared/rpc/error-map.js';

const CHUNK_BYTES = 256 * 1024;

export interface ImportFilesResult {
  readonly result: ImportResult;
  readonly progressCount: number;
}

/** Sends the archives as a client should. Rejects with what the server says. */
export async function importFiles(
  grpc: string,
  ttid: TenantTimelineId,
  files: { readonly base: string; readonly wal?: string },
): Promise<ImportFilesResult> {
  const client = createClient(TransferServiceClient, grpc);
  try {
    const call = client.importBasebackup();
    let result: ImportResult | null = null;
    let progressCount = 0;
    const done = (async () => {
      for await (const message of call) {
        const { part } = message as ImportBasebackupResponse;
        if (part?.$case === 'progress') progressCount++;
        else if (part?.$case === 'result') result = part.value;
      }
    })();
    done.catch(() => undefined);
    const send = async (request: ImportBasebackupRequest): Promise<void> => {
      if (!call.write(request)) await Promise.race([once(call, 'drain'), done]);
    };
    const sending = (async () => {
      await send({ part: { $case: 'header', value: { ttid } } });
      for await (const value of chunksOf(files.base)) await send({ part: { $case: 'baseChunk', value } });
      if (files.wal !== undefined) {
        for await (const value of chunksOf(files.wal)) await send({ part: { $case: 'walChunk', value } });
      }
      call.end();
    })();
    await Promise.all([sending, done]).catch((error: unknown) => {
      throw fromGrpcError(error);
    });
    if (result === null) throw new Error('the import ended without a result');
    return { result, progressCount };
  } finally {
    client.close();
  }
}

async function* chunksOf(file: string): AsyncGenerator<Buffer> {
  for await (const chunk of createReadStream(file, { highWaterMark: CHUNK_BYTES })) yield chunk as Buffer;
}

/** Writes the archive to a file. Rejects when its sum is not what the trailer says. */
export async function exportFile(
  grpc: string,
  ttid: TenantTimelineId,
  file: string,
): Promise<{ progressBytes: bigint; relationBytes: bigint }> {
  const client = createClient(TransferServiceClient, grpc);
  const out = createWriteStream(file);
  const pieces: Buffer[] = [];
  let progressBytes = 0n;
  let relationBytes = 0n;
  let last: ExportBackupResponse['part'];
  try {
    for await (const message of client.exportBackup({ ttid, lsn: 0n })) {
      const { part } = message as ExportBackupResponse;
      last = part;
      if (part?.$case === 'header') relationBytes = part.value.relationBytes;
      else if (part?.$case === 'progress') progressBytes = part.value.relationBytes;
      else if (part?.$case === 'chunk') pieces.push(part.value);
    }
  } finally {
    client.close();
  }
  const tar = Buffer.concat(pieces);
  if (last?.$case !== 'trailer' || last.value.crc32c !== crc32c(tar) || last.value.totalBytes !== BigInt(tar.length)) {
    throw new Error('the archive is not what its trailer says');
  }
  out.end(tar);
  await once(out, 'finish');
  return { progressBytes, relationBytes };
}
