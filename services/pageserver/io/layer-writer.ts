/**
 * Writes one layer file on the local disk, a few blocks at a turn, so that reads and WAL have theirs; then fsync, rename to its final
 * name, fsync of the directory.
 */
import { open, rename, rm } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as yieldToOthers } from 'node:timers/promises';
import { threadId } from 'node:worker_threads';
import { fsyncDir, writeAll } from '#shared/io/files.js';
import { noteShortLived } from '#shared/runtime/buffer-pressure.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { Key } from '../core/key.js';
import { BLOCK_TARGET_BYTES } from '../core/storage/layer-block.js';
import { LayerEncoder } from '../core/storage/layer-encoder.js';
import type { LayerOwner } from '../core/storage/layer-format.js';
import { layerFileName } from '../core/storage/layer-name.js';
import type { LayerSpan } from '../core/storage/layer-name.js';
import type { ValueKind } from '../core/storage/store.js';

/** Encoded and compressed before others have their turn: about a millisecond. */
const BLOCKS_A_TURN = 4;
const WRITE_BYTES = 1 << 20;
/** Buffers that come and go for a block: itself, what it is compressed into, the result. */
const BUFFERS_A_BLOCK_BYTES = 3 * BLOCK_TARGET_BYTES;

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
  private pending: Uint8Array[] = [];
  private pendingBytes = 0;
  private blocksThisTurn = 0;

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
    if (this.encoder.add(key, lsn, kind, value)) {
      this.queue(this.encoder.endBlock());
      this.blocksThisTurn++;
    }
    return this.blocksThisTurn >= BLOCKS_A_TURN;
  }

  private queue(bytes: Uint8Array): void {
    this.pending.push(bytes);
    this.pendingBytes += bytes.length;
  }

  /** Writes when enough has come together, and in any case lets others have their turn. */
  async drain(): Promise<void> {
    noteShortLived(this.blocksThisTurn * BUFFERS_A_BLOCK_BYTES);
    this.blocksThisTurn = 0;
    if (this.pendingBytes >= WRITE_BYTES) await this.write();
    else await yieldToOthers();
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
    const range = keys ?? this.encoder.keyRange();
    for (const part of this.encoder.finish(range)) this.queue(part);
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
