/** Reads a timeline from the page server over gRPC, as of an LSN. */
import { ManagementServiceClient } from '#gen/neon/pageserver/v1/management.js';
import type { TimelineInfo } from '#gen/neon/pageserver/v1/management.js';
import { GetPageStatus, PageServiceClient, SlruKind } from '#gen/neon/pageserver/v1/page_service.js';
import type { GetPagesResponse } from '#gen/neon/pageserver/v1/page_service.js';
import { StorageError } from '#shared/core/errors.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import { formatLsn, lsnFromWire, lsnToWire } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import { callUnary, createClient, traceMetadata } from '#shared/rpc/client.js';
import type { ForkTag } from '../oracle/page-files.js';
import { until } from './stack.js';

/** What the server takes in one request. */
const BLOCKS_MAX = 256;
const DEADLINE_MS = 60_000;

export const SLRU_KINDS = {
  pg_xact: SlruKind.CLOG,
  'pg_multixact/members': SlruKind.MULTIXACT_MEMBERS,
  'pg_multixact/offsets': SlruKind.MULTIXACT_OFFSETS,
} as const;
export type SlruDirectory = keyof typeof SLRU_KINDS;

export class StorageReader implements Disposable {
  readonly addr: string;
  readonly ttid: TenantTimelineId;
  private readonly pages: PageServiceClient;
  private readonly management: ManagementServiceClient;

  /** `addr`: the page server's gRPC address. */
  constructor(addr: string, ttid: TenantTimelineId) {
    this.addr = addr;
    this.ttid = ttid;
    this.pages = createClient(PageServiceClient, addr);
    this.management = createClient(ManagementServiceClient, addr);
  }

  async timeline(): Promise<TimelineInfo> {
    const { timeline } = await callUnary(this.management, this.management.getTimeline, { ttid: { ...this.ttid } });
    if (timeline === undefined) throw new Error('the page server answered without a timeline');
    return timeline;
  }

  async waitIngested(at: Lsn, timeoutMs: number): Promise<void> {
    await until(`the page server to reach ${formatLsn(at)}`, timeoutMs, async () => {
      const { lastRecordLsn, brokenReason } = await this.timeline();
      if (brokenReason !== '') throw new Error(`the timeline is broken: ${brokenReason}`);
      return lsnFromWire(lastRecordLsn) >= at;
    });
  }

  /** Everything ingested goes to layer files and the object store. */
  async checkpoint(): Promise<void> {
    const { management } = this;
    await callUnary(management, management.checkpoint, { ttid: { ...this.ttid } }, { deadlineMs: DEADLINE_MS });
  }

  /** Blocks; null when the fork does not exist. */
  async forkBlocks(rel: ForkTag, at: Lsn): Promise<number | null> {
    const request = { ...this.where(at), rel: toWire(rel), allowMissing: true };
    const { blockCount, missing } = await callUnary(this.pages, this.pages.getRelSize, request, {
      deadlineMs: DEADLINE_MS,
    });
    return missing ? null : blockCount;
  }

  /** Bytes of all forks of all relations of a database; shared relations belong to none. */
  async databaseBytes(dbOid: number, at: Lsn): Promise<number> {
    const { sizeBytes } = await callUnary(this.pages, this.pages.getDbSize, { ...this.where(at), dbOid });
    return Number(sizeBytes);
  }

  /** The segment's pages; null when it does not exist. */
  async slruSegment(directory: SlruDirectory, segmentNumber: number, at: Lsn): Promise<Uint8Array | null> {
    try {
      const request = { ...this.where(at), kind: SLRU_KINDS[directory], segmentNumber };
      return (await callUnary(this.pages, this.pages.getSlruSegment, request)).segment;
    } catch (error) {
      if (error instanceof StorageError && error.kind === 'not-found') return null;
      throw error;
    }
  }

  /** Opens a stream of page reads; close it when done. */
  openPages(at: Lsn): PageStream {
    return new GrpcPageStream(this.pages, this.where(at));
  }

  private where(at: Lsn) {
    return { ttid: { ...this.ttid }, readLsn: { requestLsn: lsnToWire(at), notModifiedSinceLsn: 0n } };
  }

  [Symbol.dispose](): void {
    this.pages.close();
    this.management.close();
  }
}

type Where = ReturnType<StorageReader['where']>;

/** Reads of pages at one LSN. */
export interface PageStream extends Disposable {
  /** The first `count` pages of a fork. */
  read(rel: ForkTag, count: number): AsyncGenerator<Uint8Array>;
  /** These pages of a fork, in this order. */
  readBlocks(rel: ForkTag, blockNumbers: readonly number[]): AsyncGenerator<Uint8Array>;
}

class GrpcPageStream implements PageStream {
  private readonly where: Where;
  private readonly stream: ReturnType<PageServiceClient['getPages']>;
  private readonly responses: AsyncIterator<GetPagesResponse>;
  private requestId = 0n;

  constructor(client: PageServiceClient, where: Where) {
    this.where = where;
    this.stream = client.getPages(traceMetadata());
    this.responses = (this.stream as AsyncIterable<GetPagesResponse>)[Symbol.asyncIterator]();
  }

  async *read(rel: ForkTag, count: number): AsyncGenerator<Uint8Array> {
    yield* this.readBlocks(
      rel,
      Array.from({ length: count }, (_, i) => i),
    );
  }

  async *readBlocks(rel: ForkTag, blockNumbers: readonly number[]): AsyncGenerator<Uint8Array> {
    for (let from = 0; from < blockNumbers.length; from += BLOCKS_MAX) {
      yield* await this.batch(rel, blockNumbers.slice(from, from + BLOCKS_MAX));
    }
  }

  private async batch(rel: ForkTag, blockNumbers: number[]): Promise<Uint8Array[]> {
    this.requestId += 1n;
    this.stream.write({ ...this.where, requestId: this.requestId, rel: toWire(rel), blockNumbers });
    const next = await this.responses.next();
    if (next.done === true) throw new Error('the page server ended the stream');
    const { requestId, status, reason, pages } = next.value;
    if (status !== GetPageStatus.OK) throw new Error(`pages of ${rel.db}/${rel.rel}/${rel.fork}: ${reason}`);
    const isWhole = requestId === this.requestId && pages.length === blockNumbers.length;
    if (!isWhole || pages.some((page, i) => page.blockNumber !== blockNumbers[i])) {
      throw new Error(`the page server answered something else than blocks ${blockNumbers[0]} and following`);
    }
    return pages.map((page) => page.image);
  }

  [Symbol.dispose](): void {
    this.stream.on('error', () => undefined);
    this.stream.cancel();
  }
}

function toWire(rel: ForkTag) {
  return { spcOid: rel.spc, dbOid: rel.db, relNumber: rel.rel, forkNumber: rel.fork };
}
