/**
 * Reads WAL from a safekeeper for another one that lacks it. Bound to a term: the donor ends the stream when somebody else was
 * elected there, so that WAL of a rival never gets into this term's history.
 */
import type { ClientDuplexStream } from '@grpc/grpc-js';
import { WalServiceClient } from '#gen/neon/safekeeper/v1/safekeeper.js';
import type { StreamWalRequest, StreamWalResponse } from '#gen/neon/safekeeper/v1/safekeeper.js';
import { StorageError } from '#shared/core/errors.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import { formatLsn, lsnFromWire, lsnToWire } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import { createClient, traceMetadata } from '#shared/rpc/client.js';
import { fromGrpcError } from '#shared/rpc/error-map.js';

export interface DonorRequest {
  readonly addr: string;
  readonly ttid: TenantTimelineId;
  readonly term: number;
  readonly fromLsn: Lsn;
  readonly endLsn: Lsn;
}

export class DonorStream {
  readonly endLsn: Lsn;
  /** Position of the next byte that `read` gives. */
  position: Lsn;
  private readonly client: WalServiceClient;
  private readonly stream: ClientDuplexStream<StreamWalRequest, StreamWalResponse>;
  private readonly responses: AsyncIterator<StreamWalResponse, undefined>;
  private rest: Uint8Array = new Uint8Array(0);

  constructor(request: DonorRequest) {
    const { addr, ttid, term, fromLsn, endLsn } = request;
    this.position = fromLsn;
    this.endLsn = endLsn;
    this.client = createClient(WalServiceClient, addr);
    this.stream = this.client.streamWal(traceMetadata());
    this.stream.on('error', () => undefined); // the iterator throws it, too
    this.responses = this.stream[Symbol.asyncIterator]() as AsyncIterator<StreamWalResponse, undefined>;
    const start = {
      ttid: { ...ttid },
      startLsn: lsnToWire(fromLsn),
      term: BigInt(term),
      endLsn: lsnToWire(endLsn),
      clientName: 'walproposer',
    };
    this.stream.write({ message: { $case: 'start', value: start } });
  }

  /** At least one byte and at most `bytesMax`, from `position` on. Throws StorageError; the stream is of no use then. */
  async read(bytesMax: number): Promise<Uint8Array> {
    try {
      while (this.rest.length === 0) this.rest = await this.receive();
    } catch (error) {
      throw fromGrpcError(error);
    }
    const bytes = this.rest.subarray(0, Math.min(bytesMax, this.endLsn - this.position));
    this.rest = this.rest.subarray(bytes.length);
    this.position = (this.position + bytes.length) as Lsn;
    return bytes;
  }

  close(): void {
    this.stream.cancel();
    this.client.close();
  }

  private async receive(): Promise<Uint8Array> {
    const { done, value } = await this.responses.next();
    if (done === true)
      throw new StorageError('unavailable', `the donor ended the stream at ${formatLsn(this.position)}`);
    if (value.walData.length > 0 && lsnFromWire(value.startLsn) !== this.position) {
      throw new StorageError(
        'corrupt',
        `the donor sent WAL of ${formatLsn(lsnFromWire(value.startLsn))}, not of ${formatLsn(this.position)}`,
      );
    }
    return value.walData;
  }
}
