/** Walks one layer file front to back, or a range of its keys, synchronously: for worker threads, in which nobody else waits. */
import { closeSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { StorageError, wrapError } from '#shared/core/errors.js';
import type { Lsn } from '#shared/core/lsn.js';
import { noteShortLived } from '#shared/runtime/buffer-pressure.js';
import type { Key } from '../core/key.js';
import { compareKeys } from '../core/key.js';
import type { KeySpan } from '../core/storage/coverage.js';
import { decodeBlock } from '../core/storage/layer-block.js';
import type { DecodedBlock } from '../core/storage/layer-block.js';
import { decodeEnds, LayerIndex, LAYER_FOOTER_BYTES, LAYER_HEADER_BYTES } from '../core/storage/layer-format.js';
import { unpackPart } from '../core/storage/layer-format.js';
import type { LayerOwner } from '../core/storage/layer-format.js';
import { parseLayerFileName } from '../core/storage/layer-name.js';
import type { LayerSpan } from '../core/storage/layer-name.js';
import type { VersionCursor } from '../core/storage/merge.js';
import type { ValueKind } from '../core/storage/store.js';

/** A layer file as a worker thread is told of it. */
export interface LayerInput {
  readonly dir: string;
  readonly name: string;
  readonly sizeBytes: number;
  readonly owner: LayerOwner;
}

function readExactly(fd: number, offset: number, length: number): Uint8Array {
  const bytes = Buffer.allocUnsafeSlow(length);
  let done = 0;
  while (done < length) {
    const count = readSync(fd, bytes, done, length - done, offset + done);
    if (count === 0) throw new StorageError('corrupt', `it ends at byte ${offset + done}, wanted ${offset + length}`);
    done += count;
  }
  return bytes;
}

export class LayerCursor implements VersionCursor {
  key = 0 as Key;
  lsn = 0 as Lsn;
  kind = 1 as ValueKind;
  value: Uint8Array = new Uint8Array(0);
  readonly span: LayerSpan;
  private readonly path: string;
  private readonly fd: number;
  private readonly index: LayerIndex;
  private readonly range: KeySpan | null;
  private nextBlock = 0;
  private block: DecodedBlock | null = null;
  private at = 0;

  /** `range`: only versions of these keys. Throws StorageError `corrupt` naming the file. */
  constructor(input: LayerInput, range: KeySpan | null = null) {
    this.path = join(input.dir, input.name);
    this.span = parseLayerFileName(input.name).span;
    this.range = range;
    this.fd = openSync(this.path, 'r');
    try {
      this.index = this.readIndex(input.sizeBytes, input.owner);
    } catch (error) {
      closeSync(this.fd);
      throw wrapError(`layer ${this.path}`, error);
    }
    if (range !== null) this.nextBlock = this.index.firstBlockFrom(range.start);
  }

  private readIndex(sizeBytes: number, owner: LayerOwner): LayerIndex {
    const header = readExactly(this.fd, 0, LAYER_HEADER_BYTES);
    const footerAt = sizeBytes - LAYER_FOOTER_BYTES;
    const footer = readExactly(this.fd, footerAt, LAYER_FOOTER_BYTES);
    const summary = decodeEnds(header, footer, { owner, span: this.span, fileBytes: sizeBytes });
    const tail = readExactly(this.fd, summary.indexOffset, footerAt - summary.indexOffset);
    return new LayerIndex(tail, summary, this.span);
  }

  next(): boolean {
    while (this.block === null || this.at >= this.block.count) {
      if (this.nextBlock >= this.index.blockCount) return false;
      this.loadBlock();
    }
    const { block } = this;
    this.key = block.key(this.at);
    if (this.range !== null && compareKeys(this.key, this.range.end) >= 0) return false;
    this.lsn = block.lsn(this.at);
    this.kind = block.kind(this.at);
    this.value = block.value(this.at);
    this.at++;
    return true;
  }

  private loadBlock(): void {
    const place = this.index.place(this.nextBlock++);
    // Read, unpacked, decoded, and about as much on the other side of whoever walks.
    noteShortLived(4 * place.rawLength);
    try {
      const stored = readExactly(this.fd, place.offset, place.storedLength);
      this.block = decodeBlock(unpackPart(stored, place.rawLength, place.crc, 'block'), this.span);
    } catch (error) {
      throw wrapError(`layer ${this.path} at byte ${place.offset}`, error);
    }
    this.at = this.range === null ? 0 : this.block.lowerBound(this.range.start);
  }

  close(): void {
    closeSync(this.fd);
  }
}
