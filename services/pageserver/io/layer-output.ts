/** Writes layer files one after the other, synchronously: for worker threads. Each is fsynced and renamed to its name when it is finished. */
import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Lsn } from '#shared/core/lsn.js';
import type { Key } from '../core/key.js';
import { LayerEncoder } from '../core/storage/layer-encoder.js';
import type { LayerOwner } from '../core/storage/layer-format.js';
import { layerFileName } from '../core/storage/layer-name.js';
import type { LayerSpan } from '../core/storage/layer-name.js';
import type { ValueKind } from '../core/storage/store.js';
import { temporaryName } from './layer-writer.js';

export interface OutputLayer {
  readonly name: string;
  readonly sizeBytes: number;
  readonly crc: number;
}

/** Where a file is closed and the next begun. */
export interface LayerSizes {
  readonly targetBytes: number;
  /** So that the index of a file stays small where data compresses well: whoever wants one page of it reads it whole. */
  readonly targetBlocks: number;
}

export interface OutputTarget {
  readonly dir: string;
  readonly owner: LayerOwner;
  readonly generation: number;
  readonly kind: LayerSpan['kind'];
  readonly lsnStart: Lsn;
  readonly lsnEnd: Lsn;
}

export class LayerOutput {
  readonly written: OutputLayer[] = [];
  private readonly target: OutputTarget;
  private encoder: LayerEncoder | null = null;
  private fd = -1;
  private temporary = '';

  constructor(target: OutputTarget) {
    this.target = target;
  }

  isFull({ targetBytes, targetBlocks }: LayerSizes): boolean {
    if (this.encoder === null) return false;
    return this.encoder.sizeBytes >= targetBytes || this.encoder.blockCount >= targetBlocks;
  }

  get writtenBytes(): number {
    return this.written.reduce((sum, layer) => sum + layer.sizeBytes, 0);
  }

  /** Sorted by key, LSN. Begins a file when none is open. */
  add(key: Key, lsn: Lsn, kind: ValueKind, value: Uint8Array): void {
    const encoder = this.encoder ?? this.begin();
    if (encoder.add(key, lsn, kind, value)) this.write(encoder.endBlock());
  }

  private begin(): LayerEncoder {
    this.temporary = join(this.target.dir, temporaryName());
    this.fd = openSync(this.temporary, 'wx', 0o600);
    this.encoder = new LayerEncoder(this.target);
    this.write(this.encoder.begin(this.target.owner, this.target.kind));
    return this.encoder;
  }

  private write(bytes: Uint8Array): void {
    let done = 0;
    while (done < bytes.length) done += writeSync(this.fd, bytes, done, bytes.length - done);
  }

  /** `keys`: the range that the file claims, even when it is empty. Without: the smallest, and no file when nothing was added. */
  finish(keys?: { keyStart: Key; keyEnd: Key }): void {
    const encoder = this.encoder ?? (keys === undefined ? null : this.begin());
    if (encoder === null) return;
    const range = keys ?? encoder.keyRange();
    for (const part of encoder.finish(range)) this.write(part);
    fsyncSync(this.fd);
    closeSync(this.fd);
    this.encoder = null;
    const { dir, generation, kind, lsnStart, lsnEnd } = this.target;
    const name = layerFileName({ kind, ...range, lsnStart, lsnEnd }, generation);
    renameSync(this.temporary, join(dir, name));
    this.written.push({ name, sizeBytes: encoder.sizeBytes, crc: encoder.crc });
  }

  /** Makes the names durable. */
  syncDir(): void {
    const fd = openSync(this.target.dir, 'r');
    try {
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  }

  abort(): void {
    if (this.encoder === null) return;
    closeSync(this.fd);
    this.encoder = null;
    rmSync(this.temporary, { force: true });
  }
}
