/** Reads a timeline of a tenant with shards as one: each page from the shard that holds it, the rest from shard 0. */
import type { TenantTimelineId } from '#shared/core/ids.js';
import type { Lsn } from '#shared/core/lsn.js';
import { shardId, shardOfBlock } from '#shared/core/shard.js';
import type { ForkTag } from '../oracle/page-files.js';
import { StorageReader } from './storage-reader.js';
import type { PageStream } from './storage-reader.js';

const FORK_INIT = 3;

export class ShardReader extends StorageReader {
  private readonly shards: StorageReader[];
  private readonly stripeBlocks: number;

  /** `addrs`: gRPC addresses by shard number. */
  constructor(addrs: readonly string[], ttid: TenantTimelineId, stripeBlocks: number) {
    const name = (number: number) => ({ ...ttid, tenantId: shardId(ttid.tenantId, number, addrs.length) });
    super(addrs[0] ?? '', name(0));
    this.shards = addrs.map((addr, number) => new StorageReader(addr, name(number)));
    this.stripeBlocks = stripeBlocks;
  }

  override async waitIngested(at: Lsn, timeoutMs: number): Promise<void> {
    await Promise.all(this.shards.map((shard) => shard.waitIngested(at, timeoutMs)));
  }

  override async checkpoint(): Promise<void> {
    for (const shard of this.shards) await shard.checkpoint();
  }

  override openPages(at: Lsn): PageStream {
    const streams = this.shards.map((shard) => shard.openPages(at));
    const owner = (rel: ForkTag, block: number) =>
      rel.fork >= FORK_INIT
        ? 0
        : shardOfBlock({ count: streams.length, stripeBlocks: this.stripeBlocks }, rel.rel, block);
    async function* readBlocks(rel: ForkTag, blockNumbers: readonly number[]): AsyncGenerator<Uint8Array> {
      const sources = streams.map((stream, shard) =>
        stream.readBlocks(
          rel,
          blockNumbers.filter((block) => owner(rel, block) === shard),
        ),
      );
      for (const block of blockNumbers) {
        const next = await sources[owner(rel, block)]!.next();
        if (next.done === true) throw new Error(`no page for block ${block}`);
        yield next.value;
      }
    }
    return {
      readBlocks,
      read: (rel, count) =>
        readBlocks(
          rel,
          Array.from({ length: count }, (_, i) => i),
        ),
      [Symbol.dispose]: () => streams.forEach((stream) => stream[Symbol.dispose]()),
    };
  }

  override [Symbol.dispose](): void {
    for (const shard of this.shards) shard[Symbol.dispose]();
    super[Symbol.dispose]();
  }
}
