/** Fetches a base backup from the page server and unpacks it. Complete only with its trailer, whose size and checksum must match. */
import { PageServiceClient } from '#gen/neon/pageserver/v1/page_service.js';
import type {
  BaseBackupHeader as WireHeader,
  GetBaseBackupResponse,
  WalSegmentFile,
} from '#gen/neon/pageserver/v1/page_service.js';
import { StorageError } from '#shared/core/errors.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import { lsnFromWire, lsnToWire } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import { crc32cUpdate } from '#shared/postgres/crc32c.js';
import { checkSegmentSize } from '#shared/postgres/wal-layout.js';
import { createClient, traceMetadata } from '#shared/rpc/client.js';
import { fromGrpcError } from '#shared/rpc/error-map.js';
import type { Account } from './account.js';
import { clearForBackup, TarUnpacker, writeWalSegment } from './pgdata.js';

export interface BaseBackupHeader {
  readonly lsn: Lsn;
  readonly checkpointLsn: Lsn;
  readonly systemId: bigint;
  readonly pgMajor: number;
  readonly segSize: number;
}

export interface BaseBackupRequest {
  readonly addr: string;
  readonly ttid: TenantTimelineId;
  /** 0 = the newest position that the page server has. */
  readonly lsn: Lsn;
  /** For a server that does not write. With lsn = 0: for one that follows. */
  readonly replica: boolean;
  /** It is there, and a server may wait in it already. */
  readonly dir: string;
  /** Nothing was unpacked there before. */
  readonly isFresh: boolean;
  readonly account: Account | null;
  readonly signal: AbortSignal;
  /** Comes before the data. */
  onHeader(header: BaseBackupHeader): void;
}

/** Resolves with header and size in bytes. Throws StorageError; the directory is of no use then. */
export async function fetchBaseBackup(
  request: BaseBackupRequest,
): Promise<{ header: BaseBackupHeader; bytes: number }> {
  const client = createClient(PageServiceClient, request.addr);
  const stream = client.getBaseBackup(
    { ttid: { ...request.ttid }, lsn: lsnToWire(request.lsn), replica: request.replica },
    traceMetadata(),
  );
  const abort = (): void => stream.cancel();
  request.signal.addEventListener('abort', abort, { once: true });
  const receiver = new BackupReceiver(request);
  try {
    if (request.signal.aborted) throw new StorageError('cancelled', 'cancelled before the base backup');
    for await (const response of stream as AsyncIterable<GetBaseBackupResponse>) await receiver.take(response);
    return receiver.result();
  } catch (error) {
    receiver.abort();
    throw fromGrpcError(error);
  } finally {
    request.signal.removeEventListener('abort', abort);
    stream.on('error', () => undefined);
    stream.cancel();
    client.close();
  }
}

class BackupReceiver {
  private readonly request: BaseBackupRequest;
  private header: BaseBackupHeader | null = null;
  private unpacker: TarUnpacker | null = null;
  private readonly segments: WalSegmentFile[] = [];
  private bytes = 0;
  private crcState = 0xffff_ffff;
  private complete = false;

  constructor(request: BaseBackupRequest) {
    this.request = request;
  }

  async take(response: GetBaseBackupResponse): Promise<void> {
    const part = response.part;
    if (part === undefined || this.complete)
      throw new StorageError('corrupt', 'the base backup has a part that does not belong there');
    if (part.$case === 'header') return this.takeHeader(part.value);
    if (this.unpacker === null || this.header === null) {
      throw new StorageError('corrupt', 'the base backup does not begin with its header');
    }
    if (part.$case === 'chunk') {
      this.count(part.value);
      return this.unpacker.write(part.value);
    }
    if (part.$case === 'walSegment') {
      for (const { data } of part.value.pieces) this.count(data);
      this.segments.push(part.value);
      return;
    }
    const crc = (this.crcState ^ 0xffff_ffff) >>> 0;
    if (part.value.totalBytes !== BigInt(this.bytes) || part.value.crc32c !== crc) {
      throw new StorageError(
        'corrupt',
        `the base backup was damaged on its way: ${this.bytes} of ${part.value.totalBytes} bytes`,
      );
    }
    await this.unpacker.finish();
    const { dir, account } = this.request;
    for (const segment of this.segments) writeWalSegment({ dir, account, segSize: this.header.segSize }, segment);
    this.complete = true;
  }

  private count(bytes: Uint8Array): void {
    this.bytes += bytes.length;
    this.crcState = crc32cUpdate(this.crcState, bytes, 0, bytes.length);
  }

  result(): { header: BaseBackupHeader; bytes: number } {
    if (!this.complete || this.header === null)
      throw new StorageError('unavailable', 'the base backup ended before its trailer');
    return { header: this.header, bytes: this.bytes };
  }

  abort(): void {
    this.unpacker?.abort();
  }

  private async takeHeader(wire: WireHeader): Promise<void> {
    if (this.header !== null) throw new StorageError('corrupt', 'the base backup has two headers');
    checkSegmentSize(wire.walSegSize);
    this.header = {
      lsn: lsnFromWire(wire.lsn),
      checkpointLsn: lsnFromWire(wire.checkpointLsn),
      systemId: wire.systemId,
      pgMajor: wire.pgMajorVersion,
      segSize: wire.walSegSize,
    };
    this.request.onHeader(this.header);
    const { dir, isFresh, account } = this.request;
    if (!isFresh) await clearForBackup(dir);
    this.unpacker = new TarUnpacker({ dir, account });
  }
}
