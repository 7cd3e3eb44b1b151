/**
 * WAL of timelines in the object store:
 *
 *   wal/<tenant>/<timeline>/00000001XXXXXXXXYYYYYYYY                                  a whole segment, as Postgres has it
 *   wal/<tenant>/<timeline>/00000001XXXXXXXXYYYYYYYY_<term>_<flush>_<commit>_sk<id>.partial   its beginning, up to <flush>
 *   wal/<tenant>/<timeline>/sk<id>.control                                            control file as of the last partial object
 *
 * <term> is that of the log's end; positions are 16 hex digits. A whole segment is only ever written with one content, by whoever is
 * elected to; partial objects and control files belong to the safekeeper in their name.
 */
import { StorageError } from '#shared/core/errors.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import { formatLsn, lsn, lsnMin, lsnToHex, type Lsn } from '#shared/core/lsn.js';
import type { ObjectStore } from '#shared/io/object-store.js';
import { segmentName, segmentNumber, segmentOffset } from '#shared/postgres/wal-layout.js';
import type { ControlState, PartialObject } from '../core/acceptor-types.js';
import { decodeControlFile, encodeControlFile } from '../core/control-file.js';

export interface WalObjectCounters {
  segmentsUploaded: number;
  partialsUploaded: number;
  uploadedBytes: number;
  downloadedBytes: number;
  failures: number;
}

export function newWalObjectCounters(): WalObjectCounters {
  return { segmentsUploaded: 0, partialsUploaded: 0, uploadedBytes: 0, downloadedBytes: 0, failures: 0 };
}

/** Names one timeline's WAL. */
export interface WalName {
  readonly ttid: TenantTimelineId;
  readonly segSize: number;
}

export class WalObjects {
  readonly counters: WalObjectCounters;
  private readonly store: ObjectStore;

  constructor(store: ObjectStore, counters: WalObjectCounters) {
    this.store = store;
    this.counters = counters;
  }

  get url(): string {
    return this.store.url;
  }

  async putSegment(name: WalName, segno: number, bytes: Uint8Array): Promise<void> {
    await this.counted(() => this.store.put(segmentKey(name, segno), bytes));
    this.counters.segmentsUploaded += 1;
    this.counters.uploadedBytes += bytes.length;
  }

  /** The segment's bytes up to the flush position. */
  async putPartial(name: WalName, nodeId: number, partial: PartialObject, bytes: Uint8Array): Promise<void> {
    await this.counted(() => this.store.put(partialKey(name, nodeId, partial), bytes));
    this.counters.partialsUploaded += 1;
    this.counters.uploadedBytes += bytes.length;
  }

  /** Bytes of a whole segment from `at` on, at most to its end. Throws `not-found` when it is not there. */
  async read(name: WalName, at: Lsn, to: Lsn): Promise<Buffer> {
    const offset = segmentOffset(at, name.segSize);
    const end = lsnMin(to, lsn(at - offset + name.segSize));
    const key = segmentKey(name, segmentNumber(at, name.segSize));
    const bytes = await this.counted(() => this.store.getRange(key, offset, offset + (end - at)));
    this.counters.downloadedBytes += bytes.length;
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  async hasSegment(name: WalName, segno: number): Promise<boolean> {
    const found = await this.counted(() => this.store.head(segmentKey(name, segno)));
    return found?.sizeBytes === name.segSize;
  }

  async getPartial(name: WalName, nodeId: number, partial: PartialObject): Promise<Uint8Array> {
    const bytes = await this.counted(() => this.store.get(partialKey(name, nodeId, partial)));
    this.counters.downloadedBytes += bytes.length;
    const wanted = segmentOffset(partial.flushLsn, name.segSize);
    if (bytes.length !== wanted) {
      const where = formatLsn(partial.flushLsn);
      throw new StorageError('corrupt', `partial object up to ${where} has ${bytes.length} bytes instead of ${wanted}`);
    }
    return bytes;
  }

  async deletePartials(name: WalName, nodeId: number, partials: readonly PartialObject[]): Promise<void> {
    await this.counted(() => this.store.delete(partials.map((one) => partialKey(name, nodeId, one))));
  }

  async putControl(nodeId: number, control: ControlState): Promise<void> {
    await this.counted(() => this.store.put(`${prefix(control.ttid)}sk${nodeId}.control`, encodeControlFile(control)));
  }

  /** Control files of all safekeepers that stored one. */
  async controls(ttid: TenantTimelineId): Promise<{ nodeId: number; control: ControlState }[]> {
    const found: { nodeId: number; control: ControlState }[] = [];
    for (const key of await this.counted(() => this.store.list(`${prefix(ttid)}sk`))) {
      const match = /\/sk(\d+)\.control$/.exec(key);
      if (match === null) continue;
      found.push({ nodeId: Number(match[1]), control: decodeControlFile(await this.store.get(key)) });
    }
    return found;
  }

  /** Everything of a timeline. */
  async deleteAll(ttid: TenantTimelineId): Promise<void> {
    await this.counted(async () => this.store.delete(await this.store.list(prefix(ttid))));
  }

  private async counted<T>(act: () => Promise<T>): Promise<T> {
    try {
      return await act();
    } catch (error) {
      this.counters.failures += 1;
      throw error;
    }
  }
}

function prefix(ttid: TenantTimelineId): string {
  return `wal/${ttid.tenantId}/${ttid.timelineId}/`;
}

function segmentKey({ ttid, segSize }: WalName, segno: number): string {
  return prefix(ttid) + segmentName(segno, segSize);
}

function partialKey(name: WalName, nodeId: number, { term, flushLsn, commitLsn }: PartialObject): string {
  const segment = segmentKey(name, segmentNumber(flushLsn, name.segSize));
  return `${segment}_${term}_${lsnToHex(flushLsn)}_${lsnToHex(commitLsn)}_sk${nodeId}.partial`;
}
