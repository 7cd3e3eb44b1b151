/**
 * For tests: a gRPC server that is safekeeper and storage broker to a page server. It streams recorded WAL of a real cluster up to a
 * position that the test moves, and announces itself.
 */
import type { SubscribeByFilterResponse } from '#gen/neon/broker/v1/broker.js';
import { BrokerServiceService } from '#gen/neon/broker/v1/broker.js';
import type { PageserverFeedback } from '#gen/neon/common/v1/common.js';
import type { StreamWalRequest, StreamWalResponse } from '#gen/neon/safekeeper/v1/safekeeper.js';
import { WalServiceService } from '#gen/neon/safekeeper/v1/safekeeper.js';
import { StorageError } from '#shared/core/errors.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import type { Lsn } from '#shared/core/lsn.js';
import { lsn, lsnFromWire } from '#shared/core/lsn.js';
import type { ResponseWriter } from '#shared/rpc/handlers.js';
import { bidi, clientStream, serverStream, unary } from '#shared/rpc/handlers.js';
import type { GrpcServer } from '#shared/rpc/server.js';
import { startGrpcServer } from '#shared/rpc/server.js';
import { silentLogger } from '#shared/runtime/log.js';

const ANNOUNCE_MS = 50;
const POLL_MS = 10;

/** Where recorded WAL lies: in memory (RealWal), or in files. */
export interface RecordedWal {
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
  readonly bytes: { subarray(start: number, end: number): Buffer };
}

export class WalSource {
  /** WAL below may be read. */
  availableLsn: Lsn;
  /** Bytes of a message: small ones cut records everywhere. */
  chunkBytes = 50_000;
  readonly feedback: PageserverFeedback[] = [];
  /** First positions asked for, one a connection. */
  readonly starts: Lsn[] = [];
  discoveryRequests = 0;
  isAnnouncing = true;
  /** Changes a message on its way, for damage. */
  tamper: ((response: StreamWalResponse) => StreamWalResponse) | null = null;
  readonly #wal: RecordedWal;
  readonly #ttid: TenantTimelineId;
  #server: GrpcServer | null = null;

  constructor(ttid: TenantTimelineId, wal: RecordedWal) {
    this.#ttid = ttid;
    this.#wal = wal;
    this.availableLsn = wal.endLsn;
  }

  get addr(): string {
    return this.#server?.addr ?? '';
  }

  async start(addr = '127.0.0.1:0'): Promise<void> {
    const broker = {
      subscribeByFilter: serverStream<unknown, SubscribeByFilterResponse>((_request, writer, { signal }) =>
        this.#announce(writer, signal),
      ),
      publishOne: unary(async () => {
        this.discoveryRequests++;
        return { subscriberCount: 1 };
      }),
      publishSafekeeperInfo: clientStream(unused),
      subscribeSafekeeperInfo: serverStream(unused),
      getStatus: unary(unused),
    };
    const wal = {
      streamWal: bidi<StreamWalRequest, StreamWalResponse>((requests, writer, { signal }) =>
        this.#stream(requests, writer, signal),
      ),
    };
    this.#server = await startGrpcServer({
      addr,
      log: silentLogger,
      services: [
        [BrokerServiceService, broker],
        [WalServiceService, wal],
      ],
    });
  }

  async stop(): Promise<void> {
    await this.#server?.shutdown(0);
    this.#server = null;
  }

  async #announce(writer: ResponseWriter<SubscribeByFilterResponse>, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const value = {
        safekeeperId: 7n,
        ttid: this.#ttid,
        term: 1n,
        lastLogTerm: 1n,
        flushLsn: BigInt(this.availableLsn),
        commitLsn: BigInt(this.availableLsn),
        backupLsn: 0n,
        remoteConsistentLsn: 0n,
        peerHorizonLsn: 0n,
        localStartLsn: 0n,
        grpcAddr: this.addr,
        httpAddr: '',
        availabilityZone: '',
        standbyHorizon: 0n,
      };
      if (this.isAnnouncing) {
        await writer.write({ message: { message: { $case: 'safekeeperTimelineInfo', value } } });
      }
      await pause(ANNOUNCE_MS);
    }
  }

  async #stream(
    requests: AsyncIterable<StreamWalRequest>,
    writer: ResponseWriter<StreamWalResponse>,
    signal: AbortSignal,
  ): Promise<void> {
    const iterator = requests[Symbol.asyncIterator]();
    const first = (await iterator.next()).value as StreamWalRequest;
    if (first.message?.$case !== 'start') throw new StorageError('invalid', 'the first message must be start');
    void this.#collectFeedback(iterator).catch(() => undefined);
    let at = lsnFromWire(first.message.value.startLsn);
    this.starts.push(at);
    for (let idle = 0; !signal.aborted;) {
      const end = Math.min(at + this.chunkBytes, this.availableLsn);
      if (end <= at && ++idle % 20 !== 0) {
        await pause(POLL_MS);
        continue;
      }
      const walData = this.#wal.bytes.subarray(at - this.#wal.startLsn, Math.max(at, end) - this.#wal.startLsn);
      const response = { startLsn: BigInt(at), availableLsn: BigInt(this.availableLsn), walData };
      at = lsn(at + walData.length);
      await writer.write(this.tamper === null ? response : this.tamper(response));
    }
  }

  async #collectFeedback(iterator: AsyncIterator<StreamWalRequest>): Promise<void> {
    for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) {
      if (next.value.message?.$case === 'feedback') this.feedback.push(next.value.message.value);
    }
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function unused(): Promise<never> {
  throw new StorageError('unimplemented', 'not used by page servers');
}
