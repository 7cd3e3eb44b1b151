/**
 * Writes one delta layer again without the versions that no allowed read comes to (core/storage/retained.ts), synchronously: it runs in a
 * worker thread. Two passes: the first finds out what stays and whether that is worth a new file.
 */
import { lsn, MAX_LSN } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { Key } from '../core/key.js';
import { compareKeys, readKey } from '../core/key.js';
import { layerFileName, parseLayerFileName } from '../core/storage/layer-name.js';
import { markRetained } from '../core/storage/retained.js';
import type { ValueKind } from '../core/storage/store.js';
import { LayerCursor } from './layer-cursor.js';
import type { LayerInput } from './layer-cursor.js';
import { LayerOutput } from './layer-output.js';
import type { OutputLayer } from './layer-output.js';

/** A file that would stay as large as this share of it is left as it is. */
const WORTH_SHARE = 0.8;
/** What a version costs beside its value. */
const VERSION_BYTES = 16;

/** Only texts and numbers: keys are numbered per thread. */
export interface TrimJob {
  readonly kind: 'trim';
  readonly dir: string;
  readonly input: LayerInput;
  readonly generation: number;
  /** Rising; the last is the cutoff. */
  readonly points: readonly number[];
  /** Image layers at or below the cutoff: keys as hex digits, sorted by start. */
  readonly images: readonly { readonly start: string; readonly end: string; readonly lsn: number }[];
}

export type TrimResult =
  /** All, or nearly all, must stay. */
  | { readonly kind: 'same' }
  /** What the layer is replaced by; null = nothing of it is needed. */
  | { readonly kind: 'smaller'; readonly layer: OutputLayer | null };

interface Version {
  readonly key: Key;
  readonly lsn: Lsn;
  readonly kind: ValueKind;
  readonly value: Uint8Array;
}

/** Newest image layer over a key at or below each point; keys are asked in order. */
class Floors {
  private readonly images: readonly { readonly start: Key; readonly end: Key; readonly lsn: number }[];
  private readonly points: readonly Lsn[];
  private next = 0;
  private open: { readonly end: Key; readonly lsn: number }[] = [];

  constructor(job: TrimJob, points: readonly Lsn[]) {
    const parse = (hex: string): Key => readKey(Buffer.from(hex, 'hex'), 0);
    this.images = job.images.map(({ start, end, lsn: at }) => ({ start: parse(start), end: parse(end), lsn: at }));
    this.points = points;
  }

  at(key: Key): number[] {
    while (this.next < this.images.length && compareKeys(this.images[this.next]!.start, key) <= 0) {
      this.open.push(this.images[this.next++]!);
    }
    this.open = this.open.filter((image) => compareKeys(key, image.end) < 0);
    return this.points.map((point) =>
      this.open.reduce((floor, image) => (image.lsn <= point ? Math.max(floor, image.lsn) : floor), -1),
    );
  }
}

/** Visits the versions that stay, in order; returns the bytes of all. */
function eachRetained(job: TrimJob, visit: (version: Version) => void): number {
  const cursor = new LayerCursor(job.input);
  const points = job.points.map(lsn);
  const floors = new Floors(job, points);
  const keep: boolean[] = [];
  let history: Version[] = [];
  let totalBytes = 0;
  const end = (): void => {
    if (history.length === 0) return;
    markRetained(history, { points, floors: floors.at(history[0]!.key) }, keep);
    history.forEach((version, i) => keep[i] === true && visit(version));
    history = [];
  };
  try {
    while (cursor.next()) {
      if (history.length > 0 && history[0]!.key !== cursor.key) end();
      totalBytes += cursor.value.length + VERSION_BYTES;
      history.push({ key: cursor.key, lsn: cursor.lsn, kind: cursor.kind, value: cursor.value });
    }
    end();
    return totalBytes;
  } finally {
    cursor.close();
  }
}

/** The smaller layer, durable in `job.dir`. Throws StorageError `corrupt` naming file and offset when the input is damaged. */
export function trimLayer(job: TrimJob): TrimResult {
  let keptBytes = 0;
  let first: Version | null = null;
  let last: Version | null = null;
  let low = MAX_LSN;
  let high = lsn(0);
  const totalBytes = eachRetained(job, (version) => {
    first ??= version;
    last = version;
    keptBytes += version.value.length + VERSION_BYTES;
    if (version.lsn < low) low = version.lsn;
    if (version.lsn > high) high = version.lsn;
  });
  if (keptBytes > totalBytes * WORTH_SHARE) return { kind: 'same' };
  if (first === null || last === null) return { kind: 'smaller', layer: null };
  const { dir, generation, input } = job;
  const lsns = { lsnStart: low, lsnEnd: lsn(high + 1) };
  const output = new LayerOutput({ dir, owner: input.owner, generation, kind: 'delta', ...lsns });
  const { keyStart, keyEnd } = parseLayerFileName(input.name).span;
  // Its LSNs tell the new file from the old: under one name there must not be two contents.
  if (layerFileName({ kind: 'delta', keyStart, keyEnd, ...lsns }, generation) === input.name) return { kind: 'same' };
  try {
    eachRetained(job, (version) => output.add(version.key, version.lsn, version.kind, version.value));
    output.finish({ keyStart, keyEnd });
  } catch (error) {
    output.abort();
    throw error;
  }
  output.syncDir();
  return { kind: 'smaller', layer: output.written[0]! };
}
