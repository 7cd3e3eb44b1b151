/**
 * Writes one layer file on the local disk: blocks are compressed in the thread pool, several at a time, while the caller's thread goes
 * on encoding; then fsync, rename to its final name, fsync of the directory.
 */
import { open, rename, rm } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { threadId } from 'node:worker_threads';
import { zstdCompress, zstdCompressSync } from 'node:zlib';
import { fsyncDir, writeAll } from '#shared/io/files.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { Key } from '../core/key.js';
import { LayerEncoder } from '../core/storage/layer-encoder.js';
import { ZSTD_OPTIONS } from '../core/storage/layer-format.js';
import type { LayerOwner } from '../core/storage/layer-format.js';
import type { RawBlock } from '../core/storage/layer-block.js';
import { layerFileName } from '../core/storage/layer-name.js';
import type { LayerSpan } from '../core/storage/layer-name.js';
import type { ValueKind } from '../core/storage/store.js';

const compress = promisify(zstdCompress);
/** Blocks being compressed at a time: the runtime's pool has four threads. */
const COMPRESSING_MAX = 4;
const WRITE_BYTES = 1 << 20;

/** A finished file: what the index needs to know of it. */
export interface WrittenLayer {
  readonly span: LayerSpan;
  readonly name: string;
  readonly sizeBytes: number;
  readonly crc: number;
}

export interface LayerTarget {
  readonly dir: string;
  readonly owner: LayerOwner;
  readonly generation: number;
  readonly kind: LayerSpan['kind'];
  readonly lsnStart: Lsn;
  readonly lsnEnd: Lsn;
}

interface Compressing {
  readonly block: RawBlock;
  readonly result: Promise<Uint8Array>;
}

let temporaryCount = 0;

/** Name of an unfinished file; swept when a timeline is loaded. */
export function temporaryName(): string {
  return `.tmp-${process.pid}-${threadId}-${temporaryCount++}`;
}

export class LayerWriter {
  private readonly target: LayerTarget;
  private readonly encoder: LayerEncoder;
  private readonly temporary: string;
  private handle: FileHandle | null = null;
  private readonly compressing: Compressing[] = [];
  private pending: Uint8Array[] = [];
  private pendingBytes = 0;

  constructor(target: LayerTarget) {
    this.target = target;
    this.encoder = new LayerEncoder(target);
    this.temporary = join(target.dir, temporaryName());
  }

  async open(): Promise<void> {
    this.handle = await open(this.temporary, 'wx', 0o600);
    this.queue(this.encoder.begin(this.target.owner, this.target.kind));
  }

  /** Returns true when `drain` must be called before more is added. */
  add(key: Key, lsn: Lsn, kind: ValueKind, value: Uint8Array): boolean {
    if (this.encoder.add(key, lsn, kind, value)) this.startBlock();
    return this.compressing.length >= COMPRESSING_MAX;
  }

  private startBlock(): void {
    const block = this.encoder.takeBlock();
    const result = compress(block.bytes, ZSTD_OPTIONS);
    // Awaited later, in order; a failure before that must not count as unhandled.
    result.catch(() => undefined);
    this.compressing.push({ block, result });
  }

  private queue(bytes: Uint8Array): void {
    this.pending.push(bytes);
    this.pendingBytes += bytes.length;
  }

  /** Takes compressed blocks until fewer than `leave` are on their way; writes when enough has come together. */
  async drain(leave = COMPRESSING_MAX): Promise<void> {
    while (this.compressing.length >= Math.max(1, leave)) {
      const { block, result } = this.compressing[0]!;
      this.queue(this.encoder.appendBlock(block, await result));
      this.compressing.shift();
    }
    if (this.pendingBytes >= WRITE_BYTES) await this.write();
  }

  private async write(): Promise<void> {
    const bytes = Buffer.concat(this.pending);
    this.pending = [];
    this.pendingBytes = 0;
    if (this.handle !== null) await writeAll(this.handle, bytes);
  }

  /** Finishes the file under its name. `keys` = the range it claims; default the smallest. Null when nothing was added: no file. */
  async finish(keys?: { keyStart: Key; keyEnd: Key }): Promise<WrittenLayer | null> {
    if (this.encoder.entryCount === 0) {
      await this.abort();
      return null;
    }
    if (this.encoder.hasOpenBlock) this.startBlock();
    await this.drain(1);
    const range = keys ?? this.encoder.keyRange();
    for (const part of this.encoder.finish(range, (bytes) => zstdCompressSync(bytes, ZSTD_OPTIONS))) this.queue(part);
    await this.write();
    await this.handle?.sync();
    await this.handle?.close();
    this.handle = null;
    const { kind, lsnStart, lsnEnd } = this.target;
    const span: LayerSpan = { kind, ...range, lsnStart, lsnEnd };
    const name = layerFileName(span, this.target.generation);
    await rename(this.temporary, join(this.target.dir, name));
    await fsyncDir(this.target.dir);
    return { span, name, sizeBytes: this.encoder.sizeBytes, crc: this.encoder.crc };
  }

  /** Removes what was written so far. */
  async abort(): Promise<void> {
    await this.handle?.close();
    this.handle = null;
    await rm(this.temporary, { force: true });
  }
}
