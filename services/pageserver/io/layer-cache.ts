/**
 * Loads indexes and blocks of layer files and keeps them within a byte budget, over all timelines of the process. Downloads a layer
 * whose local file is absent; every load and download is done once however many readers wait for it. Evicts local files above their own
 * limit (local-files.ts).
 */
import { createReadStream } from 'node:fs';
import { rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { crc32 } from 'node:zlib';
import { StorageError, wrapError } from '#shared/core/errors.js';
import { ensureDir, fsyncDir } from '#shared/io/files.js';
import type { ObjectStore } from '#shared/io/object-store.js';
import { ByteLru } from '../core/storage/byte-lru.js';
import type { LoadedBlocks } from '../core/storage/key-lookup.js';
import { decodeBlock } from '../core/storage/layer-block.js';
import type { DecodedBlock } from '../core/storage/layer-block.js';
import {
  decodeEnds,
  LayerIndex,
  LAYER_FOOTER_BYTES,
  LAYER_HEADER_BYTES,
  unpackPart,
} from '../core/storage/layer-format.js';
import { FilePool } from './file-pool.js';
import type { CachedBlock, CachedIndex, LayerFile } from './layer-file.js';
import { temporaryName } from './layer-writer.js';
import { LocalFiles } from './local-files.js';

/** 32 KiB each before compression: bounds the memory of one read. */
const BLOCKS_A_READ_MAX = 32;

/** Stored bytes of neighbouring blocks, from `offset` of the file on. */
interface StoredRun {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

function blockName(layer: LayerFile, blockNumber: number): string {
  return `${layer.path} ${blockNumber}`;
}

/** A block that is stored as it is gets memory of its own: it would keep the whole read alive. */
function cut(bytes: Uint8Array, at: number, place: { storedLength: number; rawLength: number }): Uint8Array {
  const stored = bytes.subarray(at, at + place.storedLength);
  return place.rawLength === place.storedLength ? Uint8Array.from(stored) : stored;
}

export class LayerCache implements LoadedBlocks<LayerFile> {
  downloadCount = 0;
  blockReadCount = 0;
  evictionCount = 0;
  readonly local: LocalFiles;
  private readonly objectStore: ObjectStore;
  private readonly files: FilePool;
  private readonly lru: ByteLru<CachedIndex | CachedBlock>;
  /** Loads under way, by what is loaded. */
  private readonly loading = new Map<string, Promise<unknown>>();
  private readonly removing = new Set<Promise<void>>();

  constructor(
    objectStore: ObjectStore,
    limits: { blockCacheBytes: number; openFilesMax: number; localLayerBytesMax: number },
  ) {
    this.objectStore = objectStore;
    this.local = new LocalFiles(limits.localLayerBytesMax);
    this.files = new FilePool(limits.openFilesMax);
    this.lru = new ByteLru(limits.blockCacheBytes, (entry) => this.forget(entry));
  }

  get usedBytes(): number {
    return this.lru.usedBytes;
  }

  index(layer: LayerFile): LayerIndex | undefined {
    const entry = layer.cachedIndex;
    if (entry === null) return undefined;
    this.lru.touch(entry);
    return entry.index;
  }

  block(layer: LayerFile, _index: LayerIndex, blockNumber: number): DecodedBlock | undefined {
    const entry = layer.cachedBlocks.get(blockNumber);
    if (entry === undefined) return undefined;
    this.lru.touch(entry);
    return entry.block;
  }

  /** Throws StorageError `corrupt` naming file and offset, `unavailable` when a download fails. */
  loadIndex(layer: LayerFile): Promise<LayerIndex> {
    return this.once(`${layer.path} index`, async () => {
      const index = await this.healing(layer, () => this.readIndex(layer));
      const entry: CachedIndex = { kind: 'index', layer, index, sizeBytes: index.sizeBytes, newer: null, older: null };
      if (!layer.retired && layer.cachedIndex === null) {
        layer.cachedIndex = entry;
        this.lru.add(entry);
      }
      return index;
    });
  }

  /** `run`: a read under way that has the block; a second attempt reads it alone. */
  loadBlock(
    layer: LayerFile,
    index: LayerIndex,
    blockNumber: number,
    run: Promise<StoredRun> | null = null,
  ): Promise<DecodedBlock> {
    let rest = run;
    return this.once(blockName(layer, blockNumber), async () => {
      const block = await this.healing(layer, () => {
        const from = rest;
        rest = null;
        return this.readBlock(layer, index, blockNumber, from);
      });
      const { sizeBytes } = block;
      const entry: CachedBlock = { kind: 'block', layer, blockNumber, block, sizeBytes, newer: null, older: null };
      if (!layer.retired && !layer.cachedBlocks.has(blockNumber)) {
        layer.cachedBlocks.set(blockNumber, entry);
        this.lru.add(entry);
      }
      return block;
    });
  }

  /** Several blocks, ascending; neighbours that nobody is loading yet come with one read. */
  async loadBlocks(
    layer: LayerFile,
    index: LayerIndex,
    blockNumbers: readonly number[],
  ): Promise<Map<number, DecodedBlock>> {
    const found = new Map<number, DecodedBlock>();
    const loads: Promise<void>[] = [];
    const start = (n: number, run: Promise<StoredRun> | null) => {
      loads.push(this.loadBlock(layer, index, n, run).then((block) => void found.set(n, block)));
    };
    let run: number[] = [];
    const readRun = () => {
      const read = run.length > 1 ? this.readRun(layer, index, run) : null;
      for (const n of run) start(n, read);
      run = [];
    };
    for (const n of blockNumbers) {
      const cached = this.block(layer, index, n);
      if (run.length > 0 && (run.at(-1) !== n - 1 || run.length === BLOCKS_A_READ_MAX)) readRun();
      if (cached !== undefined) found.set(n, cached);
      else if (this.loading.has(blockName(layer, n))) start(n, null);
      else run.push(n);
    }
    readRun();
    await Promise.all(loads);
    return found;
  }

  /** The stored bytes of neighbouring blocks. */
  private readRun(layer: LayerFile, index: LayerIndex, run: readonly number[]): Promise<StoredRun> {
    const first = index.place(run[0]!);
    const last = index.place(run.at(-1)!);
    const length = last.offset + last.storedLength - first.offset;
    const read = this.withFile(layer, () => this.files.read(layer.path, first.offset, length));
    const stored = read.then((bytes) => ({ offset: first.offset, bytes }));
    // Whoever awaits a block of it hears of the failure.
    stored.catch(() => undefined);
    return stored;
  }

  /** Reads a block past the cache: for long walks that would push everything else out. */
  async readBlock(
    layer: LayerFile,
    index: LayerIndex,
    blockNumber: number,
    run: Promise<StoredRun> | null = null,
  ): Promise<DecodedBlock> {
    const place = index.place(blockNumber);
    const stored = await (run === null
      ? this.withFile(layer, () => this.files.read(layer.path, place.offset, place.storedLength))
      : run.then(({ offset, bytes }) => cut(bytes, place.offset - offset, place)));
    this.blockReadCount++;
    try {
      return decodeBlock(unpackPart(stored, place.rawLength, place.crc, 'block'), layer);
    } catch (error) {
      throw wrapError(`layer ${layer.path} at byte ${place.offset}`, error);
    }
  }

  private readIndex(layer: LayerFile): Promise<LayerIndex> {
    return this.withFile(layer, () => this.readIndexOf(layer));
  }

  private async readIndexOf(layer: LayerFile): Promise<LayerIndex> {
    const fileBytes = layer.metadata.sizeBytes;
    const footerAt = fileBytes - LAYER_FOOTER_BYTES;
    const header = await this.files.read(layer.path, 0, LAYER_HEADER_BYTES);
    const footer = await this.files.read(layer.path, footerAt, LAYER_FOOTER_BYTES);
    try {
      const summary = decodeEnds(header, footer, { owner: layer.owner, span: layer, fileBytes });
      const tail = await this.files.read(layer.path, summary.indexOffset, footerAt - summary.indexOffset);
      return new LayerIndex(tail, summary, layer);
    } catch (error) {
      throw wrapError(`layer ${layer.path} at byte ${footerAt}`, error);
    }
  }

  /** A local file that turns out damaged is thrown away and fetched again, once, when the object store has it. */
  private async healing<T>(layer: LayerFile, read: () => Promise<T>): Promise<T> {
    try {
      return await read();
    } catch (error) {
      const damaged = error instanceof StorageError && error.kind === 'corrupt';
      if (!damaged || !layer.uploaded || layer.retired) throw error;
      layer.refetching ??= this.discardLocal(layer);
      await layer.refetching;
      return read();
    }
  }

  private async discardLocal(layer: LayerFile): Promise<void> {
    this.files.drop(layer.path);
    layer.resident = false;
    this.local.remove(layer);
    await rm(layer.path, { force: true });
  }

  /** `act` with the local file there, and staying there. */
  async withFile<T>(layer: LayerFile, act: () => Promise<T>): Promise<T> {
    layer.pins++;
    try {
      await this.fetch(layer);
      this.local.touch(layer);
      return await act();
    } finally {
      layer.pins--;
    }
  }

  /** `act` with the local files of all layers there, and staying there. */
  async withFiles<T>(layers: readonly LayerFile[], act: () => Promise<T>): Promise<T> {
    for (const layer of layers) layer.pins++;
    try {
      for (const layer of layers) await this.fetch(layer);
      return await act();
    } finally {
      for (const layer of layers) layer.pins--;
      this.evict();
    }
  }

  /** Makes the local file be there. */
  private async fetch(layer: LayerFile): Promise<void> {
    while (!layer.resident) {
      if (layer.retired) throw new StorageError('unavailable', `layer ${layer.path} was replaced`);
      await this.once(`${layer.path} download`, () => this.download(layer));
    }
  }

  /** A layer whose local file was written or found here. */
  noteLocal(layer: LayerFile): void {
    if (layer.resident) this.local.add(layer);
    this.evict();
  }

  /** Removes local files until the limit is kept. Call when files came, were uploaded, or ceased to be used. */
  evict(): void {
    for (let layer = this.local.victim(); layer !== null; layer = this.local.victim()) {
      const gone = layer;
      this.local.remove(gone);
      gone.resident = false;
      this.files.drop(gone.path);
      this.evictionCount++;
      // In place of a download: a reader that comes now waits until the old file is away, and then downloads.
      const removed = this.once(`${gone.path} download`, () => rm(gone.path, { force: true }))
        .catch(() => undefined)
        .finally(() => this.removing.delete(removed));
      this.removing.add(removed);
    }
  }

  /** Until evicted files are away: their directory may be read then to find out which are there. */
  async whenEvicted(): Promise<void> {
    await Promise.all(this.removing);
  }

  private async download(layer: LayerFile): Promise<void> {
    if (layer.resident) return;
    const temporary = join(dirname(layer.path), temporaryName());
    try {
      await ensureDir(dirname(layer.path));
      await this.objectStore.getToFile(layer.objectKey, temporary);
      await checkFile(temporary, layer);
      await rename(temporary, layer.path);
      await fsyncDir(dirname(layer.path));
    } catch (error) {
      await rm(temporary, { force: true });
      throw wrapError(`could not download layer ${layer.objectKey}`, error);
    }
    if (layer.retired) {
      await rm(layer.path, { force: true });
      return;
    }
    layer.resident = true;
    this.downloadCount++;
    this.local.add(layer);
    this.evict();
  }

  private once<T>(what: string, act: () => Promise<T>): Promise<T> {
    const running = this.loading.get(what) as Promise<T> | undefined;
    if (running !== undefined) return running;
    const started = act().finally(() => this.loading.delete(what));
    this.loading.set(what, started);
    return started;
  }

  private forget(entry: CachedIndex | CachedBlock): void {
    if (entry.kind === 'index') entry.layer.cachedIndex = null;
    else entry.layer.cachedBlocks.delete(entry.blockNumber);
  }

  /** Gives back all memory and the open file of a layer. The local file stays. */
  release(layer: LayerFile): void {
    if (layer.cachedIndex !== null) this.lru.remove(layer.cachedIndex);
    layer.cachedIndex = null;
    for (const entry of layer.cachedBlocks.values()) this.lru.remove(entry);
    layer.cachedBlocks.clear();
    this.local.remove(layer);
    this.files.drop(layer.path);
  }

  /** For a layer that no map has any more: readers that still have it plan anew. Removes the local file. */
  async retire(layer: LayerFile): Promise<void> {
    layer.retired = true;
    layer.resident = false;
    this.release(layer);
    await rm(layer.path, { force: true });
  }

  async close(): Promise<void> {
    await this.files.close();
  }
}

/** Compares a downloaded file with what the index says of it. */
async function checkFile(path: string, layer: LayerFile): Promise<void> {
  const { size } = await stat(path);
  if (size !== layer.metadata.sizeBytes) {
    throw new StorageError('corrupt', `it has ${size} bytes, the index says ${layer.metadata.sizeBytes}`);
  }
  let crc = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 18 })) crc = crc32(chunk as Buffer, crc);
  if (crc !== layer.metadata.crc) throw new StorageError('corrupt', 'its CRC is not that of the index');
}
