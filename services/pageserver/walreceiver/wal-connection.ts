/** One StreamWal call to one safekeeper: WAL in, feedback out. Ends by itself only with an error or when the safekeeper ends it. */
import type { ClientDuplexStream } from '@grpc/grpc-js';
import type { PageserverFeedback } from '#gen/neon/common/v1/common.js';
import type { StreamWalRequest, StreamWalResponse } from '#gen/neon/safekeeper/v1/safekeeper.js';
import { WalServiceClient } from '#gen/neon/safekeeper/v1/safekeeper.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import type { Lsn } from '#shared/core/lsn.js';
import { lsnFromWire, lsnToWire } from '#shared/core/lsn.js';
import { createClient, traceMetadata } from '#shared/rpc/client.js';
import { fromGrpcError } from '#shared/rpc/error-map.js';

export interface WalConnectionOptions {
  readonly addr: string;
  readonly ttid: TenantTimelineId;
  readonly startLsn: Lsn;
  readonly clientName: string;
  /** Called for each message, one at a time; the next is read when it has resolved. Empty `bytes` = keepalive. */
  readonly onMessage: (message: { startLsn: Lsn; availableLsn: Lsn; bytes: Uint8Array }) => Promise<void>;
}

export class WalConnection {
  readonly #client: WalServiceClient;
  readonly #stream: ClientDuplexStream<StreamWalRequest, StreamWalResponse>;
  readonly #options: WalConnectionOptions;
  #isClosed = false;

  constructor(options: WalConnectionOptions) {
    this.#options = options;
    this.#client = createClient(WalServiceClient, options.addr);
    this.#stream = this.#client.streamWal(traceMetadata());
    // run() hears of errors by itself; one that comes behind its end must not end the process.
    this.#stream.on('error', () => undefined);
    const start = {
      ttid: options.ttid,
      startLsn: lsnToWire(options.startLsn),
      clientName: options.clientName,
    };
    this.#stream.write({ message: { $case: 'start', value: start } });
  }

  /** Receives until the stream ends (resolves) or fails (rejects with StorageError). The caller closes in every case. */
  async run(): Promise<void> {
    try {
      for await (const response of this.#stream as AsyncIterable<StreamWalResponse>) {
        if (this.#isClosed) return;
        await this.#options.onMessage({
          startLsn: lsnFromWire(response.startLsn),
          availableLsn: lsnFromWire(response.availableLsn),
          bytes: response.walData,
        });
      }
    } catch (error) {
      if (!this.#isClosed) throw fromGrpcError(error);
    }
  }

  /** Not sent when an earlier one still waits in the stream's buffer: a newer one will come. */
  sendFeedback(feedback: PageserverFeedback): void {
    if (this.#isClosed || this.#stream.writableNeedDrain || this.#stream.destroyed) return;
    this.#stream.write({ message: { $case: 'feedback', value: feedback } });
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#stream.cancel();
    this.#client.close();
  }
}
