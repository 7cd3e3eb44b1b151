/**
 * Merges layer files into new ones, synchronously: it runs in a worker thread, where nobody else waits. Memory: one block an input, the
 * output's index. Reads every input front to back once. A key's history is never split over two outputs.
 */
import type { Key } from '../core/key.js';
import { compareKeys, readKey } from '../core/key.js';
import type { LayerOwner } from '../core/storage/layer-format.js';
import { mergeVersions } from '../core/storage/merge.js';
import { isPageKey } from '../core/keyspace.js';
import { lsn } from '#shared/core/lsn.js';
import type { ShardIdentity } from '#shared/core/shard.js';
import { shardFilter } from '../core/shard-keys.js';
import { LayerCursor } from './layer-cursor.js';
import { LayerOutput } from './layer-output.js';
import type { LayerSizes, OutputLayer } from './layer-output.js';

/** Only texts and numbers, and no `Key`: keys are numbered per thread. */
export interface MergeJob {
  readonly kind: 'merge';
  readonly dir: string;
  /** Names in `dir`, oldest first. */
  readonly inputs: readonly { readonly name: string; readonly sizeBytes: number }[];
  readonly owner: LayerOwner;
  readonly generation: number;
  readonly lsnStart: number;
  readonly lsnEnd: number;
  /** An output is closed at the first new key beyond these. */
  readonly sizes: LayerSizes;
  /** Image layers by key, as hex digits, sorted by start. */
  readonly images: readonly { readonly start: string; readonly end: string }[];
  /**
   * An output is closed at a gap between keys in which as many image layers lie: it would span them for nothing, and make new images of
   * all that due.
   */
  readonly holeImages: number;
  /** Versions of keys that this shard does not keep are dropped. */
  readonly shard: ShardIdentity;
}

/** Counts the image layers in the gaps between keys that come in order. */
class Holes {
  private readonly spans: readonly { readonly start: Key; readonly end: Key }[];
  private next = 0;

  constructor(job: MergeJob) {
    const parse = (hex: string): Key => readKey(Buffer.from(hex, 'hex'), 0);
    this.spans = job.images.map(({ start, end }) => ({ start: parse(start), end: parse(end) }));
  }

  /** Between two keys that follow each other. */
  imagesBetween(before: Key, after: Key): number {
    while (this.next < this.spans.length && compareKeys(this.spans[this.next]!.start, before) <= 0) this.next++;
    let count = 0;
    for (let i = this.next; i < this.spans.length && compareKeys(this.spans[i]!.start, after) < 0; i++) {
      if (compareKeys(this.spans[i]!.end, after) <= 0) count++;
    }
    return count;
  }
}

/** The merged layers, durable in `job.dir`. Throws StorageError `corrupt` naming file and offset when an input is damaged. */
export function mergeLayers(job: MergeJob): OutputLayer[] {
  const { dir, owner, generation } = job;
  const cursors: LayerCursor[] = [];
  const range = { lsnStart: lsn(job.lsnStart), lsnEnd: lsn(job.lsnEnd) };
  const output = new LayerOutput({ dir, owner, generation, kind: 'delta', ...range });
  const holes = new Holes(job);
  const keeps = shardFilter(job.shard);
  let lastKey = -1 as Key;
  let isInPages = true;
  try {
    for (const { name, sizeBytes } of job.inputs) cursors.push(new LayerCursor({ dir, name, sizeBytes, owner }));
    mergeVersions(cursors, (version) => {
      if (keeps !== null && !keeps(version.key)) return;
      if (version.key !== lastKey) {
        const isHole = lastKey !== -1 && holes.imagesBetween(lastKey, version.key) >= job.holeImages;
        // Metadata, which is read by scans, in files of its own.
        const isFirstMetadata = isInPages && !isPageKey(version.key);
        if (isHole || isFirstMetadata || output.isFull(job.sizes)) output.finish();
        isInPages &&= !isFirstMetadata;
        lastKey = version.key;
      }
      output.add(version.key, version.lsn, version.kind, version.value);
    });
    output.finish();
  } catch (error) {
    output.abort();
    throw error;
  } finally {
    for (const cursor of cursors) cursor.close();
  }
  output.syncDir();
  return output.written;
}
