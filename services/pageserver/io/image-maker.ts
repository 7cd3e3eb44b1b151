/**
 * Makes image layers out of delta and older image layers, synchronously: it runs in a worker thread. For every key of the wanted ranges
 * the value at one LSN is rebuilt from all layers that a read there could come to, those of ancestors included.
 *
 * The images tile their range: what is between two keys of an image layer does not exist at its LSN. A page that cannot be rebuilt gets
 * no image and lies between two tiles, so that reads and garbage collection still go by its deltas.
 */
import { StorageError, errorText } from '#shared/core/errors.js';
import { lsn } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { Key } from '../core/key.js';
import { compareKeys, formatKey, readKey } from '../core/key.js';
import { isPageKey, METADATA_START } from '../core/keyspace.js';
import type { KeySpan } from '../core/storage/coverage.js';
import type { LayerOwner } from '../core/storage/layer-format.js';
import { keyAfter, parseLayerFileName } from '../core/storage/layer-name.js';
import { liveKeys } from '../core/storage/live-sizes.js';
import type { LiveSizes } from '../core/storage/live-sizes.js';
import { mergeVersions } from '../core/storage/merge.js';
import { VALUE_IMAGE, VALUE_RECORD, VALUE_TOMBSTONE } from '../core/storage/store.js';
import type { ValueKind } from '../core/storage/store.js';
import { LayerCursor } from './layer-cursor.js';
import type { LayerInput } from './layer-cursor.js';
import { LayerOutput } from './layer-output.js';
import type { LayerSizes, OutputLayer } from './layer-output.js';
import type { ReconstructPage } from './storage-env.js';

const PAGE_BYTES = 8192;
const ZERO_PAGE = new Uint8Array(PAGE_BYTES);
/** Pages left out in one job: many mean that something is wrong with all of them. */
const REFUSED_MAX = 100;

export interface ImageInput extends LayerInput {
  /** Versions above do not count: the LSN of the images, or the branch point for layers of an ancestor. */
  readonly upToLsn: number;
}

/** Only texts and numbers: keys are numbered per thread. */
export interface ImageJob {
  readonly kind: 'images';
  readonly dir: string;
  readonly owner: LayerOwner;
  readonly generation: number;
  readonly lsn: number;
  /** Key ranges as hex digits, sorted. */
  readonly ranges: readonly { readonly start: string; readonly end: string }[];
  /** Ancestors' layers before their branches', older before newer. */
  readonly inputs: readonly ImageInput[];
  /** Null: all keys count. */
  readonly live: LiveSizes | null;
  /** An image layer is closed at the first key beyond these. */
  readonly sizes: LayerSizes;
  /** Ends early, at the end of an image layer, once this much is written. */
  readonly jobBytesMax: number;
}

export interface ImageResult {
  readonly layers: OutputLayer[];
  /** Keys (hex) that no image could be made of, and why. */
  readonly refused: { readonly key: string; readonly text: string }[];
}

interface Version {
  readonly lsn: Lsn;
  readonly kind: ValueKind;
  readonly value: Uint8Array;
}

/** A cursor that knows what of its layer counts. */
class InputCursor extends LayerCursor {
  readonly upToLsn: Lsn;

  constructor(input: ImageInput, range: KeySpan) {
    super(input, range);
    this.upToLsn = lsn(input.upToLsn);
  }
}

/** Versions of one key, taken in merged order. */
class KeyHistory {
  private readonly images: readonly InputCursor[];
  private versions: Version[] = [];
  /** LSN of the newest image layer over the key: nothing below it counts. */
  private floor: Lsn = lsn(-1);

  constructor(cursors: readonly InputCursor[]) {
    this.images = cursors.filter((cursor) => cursor.span.kind === 'image');
  }

  begin(key: Key): void {
    this.versions = [];
    this.floor = lsn(-1);
    for (const { span, upToLsn } of this.images) {
      const covers = compareKeys(span.keyStart, key) <= 0 && compareKeys(key, span.keyEnd) < 0;
      if (covers && span.lsnStart <= upToLsn && span.lsnStart > this.floor) this.floor = span.lsnStart;
    }
  }

  add(cursor: InputCursor): void {
    const isImageLayer = cursor.span.kind === 'image';
    if (cursor.lsn > cursor.upToLsn) return;
    if (isImageLayer ? cursor.span.lsnStart !== this.floor : cursor.lsn <= this.floor) return;
    if (cursor.kind !== VALUE_RECORD) this.versions = [];
    this.versions.push({ lsn: cursor.lsn, kind: cursor.kind, value: cursor.value });
  }

  /** The value; null when there is none. Throws what redo throws. */
  value(key: Key, reconstructPage: ReconstructPage): Uint8Array | null {
    const [first] = this.versions;
    if (first === undefined || (first.kind === VALUE_TOMBSTONE && this.versions.length === 1)) return null;
    const hasBase = first.kind === VALUE_IMAGE || first.kind === VALUE_TOMBSTONE;
    const records = hasBase ? this.versions.slice(1) : this.versions;
    const image = first.kind === VALUE_IMAGE ? first.value : null;
    if (!isPageKey(key)) {
      if (records.length > 0) throw new StorageError('corrupt', `${formatKey(key)} is not a plain value`);
      return image;
    }
    if (image !== null && image.length !== 0 && image.length !== PAGE_BYTES) {
      throw new StorageError('corrupt', `the image has ${image.length} bytes`);
    }
    if (records.length === 0) return image;
    const base = image?.length === 0 ? ZERO_PAGE : image;
    const applied = records.map((record) => ({ endLsn: record.lsn, value: record.value }));
    return reconstructPage(base, applied);
  }
}

/** Image layers over one range. */
class Tiles {
  readonly refused: ImageResult['refused'] = [];
  private readonly output: LayerOutput;
  private readonly job: ImageJob;
  private readonly isLive: (key: Key) => boolean;
  private readonly reconstructPage: ReconstructPage;
  private tileStart = 0 as Key;

  constructor(job: ImageJob, output: LayerOutput, reconstructPage: ReconstructPage) {
    this.job = job;
    this.output = output;
    this.isLive = liveKeys(job.live);
    this.reconstructPage = reconstructPage;
  }

  run(range: KeySpan, cursors: readonly InputCursor[]): 'done' | 'full' {
    const history = new KeyHistory(cursors);
    let key = -1 as Key;
    let isFull = false;
    this.tileStart = range.start;
    mergeVersions(cursors, (version) => {
      if (version.key !== key) {
        if (key !== -1) this.put(key, history);
        key = version.key;
        history.begin(key);
        isFull = this.closeTile(key);
      }
      if (!isFull) history.add(version);
      return !isFull;
    });
    if (isFull) return 'full';
    if (key !== -1) this.put(key, history);
    this.endTile(range.end);
    return 'done';
  }

  /** At a new key: true when the job has written enough. */
  private closeTile(key: Key): boolean {
    // Metadata, which is read by scans, in layers of its own.
    if (compareKeys(this.tileStart, METADATA_START) < 0 && !isPageKey(key)) this.endTile(METADATA_START);
    else if (this.output.isFull(this.job.sizes)) this.endTile(key);
    else return false;
    return this.output.writtenBytes >= this.job.jobBytesMax;
  }

  private endTile(end: Key): void {
    if (compareKeys(this.tileStart, end) < 0) this.output.finish({ keyStart: this.tileStart, keyEnd: end });
    this.tileStart = end;
  }

  private put(key: Key, history: KeyHistory): void {
    if (!this.isLive(key)) return;
    try {
      const value = history.value(key, this.reconstructPage);
      if (value !== null) this.output.add(key, lsn(this.job.lsn), VALUE_IMAGE, value);
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      if (this.refused.length >= REFUSED_MAX) throw error;
      this.refused.push({ key: formatKey(key), text: errorText(error) });
      this.endTile(key);
      this.tileStart = keyAfter(key);
    }
  }
}

function parseKey(hex: string): Key {
  return readKey(Buffer.from(hex, 'hex'), 0);
}

function overlaps(input: ImageInput, range: KeySpan): boolean {
  const { span } = parseLayerFileName(input.name);
  return compareKeys(span.keyStart, range.end) < 0 && compareKeys(range.start, span.keyEnd) < 0;
}

/** Image layers, durable in `job.dir`. Throws StorageError `corrupt` naming file and offset when an input is damaged. */
export function makeImages(job: ImageJob, reconstructPage: ReconstructPage): ImageResult {
  const { dir, owner, generation } = job;
  const range = { lsnStart: lsn(job.lsn), lsnEnd: lsn(job.lsn + 1) };
  const output = new LayerOutput({ dir, owner, generation, kind: 'image', ...range });
  const tiles = new Tiles(job, output, reconstructPage);
  try {
    for (const { start, end } of job.ranges) {
      const span = { start: parseKey(start), end: parseKey(end) };
      if (runRange(span, job, tiles) === 'full') break;
    }
  } catch (error) {
    output.abort();
    throw error;
  }
  output.syncDir();
  return { layers: output.written, refused: tiles.refused };
}

function runRange(range: KeySpan, job: ImageJob, tiles: Tiles): 'done' | 'full' {
  const cursors: InputCursor[] = [];
  try {
    for (const input of job.inputs) if (overlaps(input, range)) cursors.push(new InputCursor(input, range));
    return tiles.run(range, cursors);
  } finally {
    for (const cursor of cursors) cursor.close();
  }
}
