/**
 * Merges layer files into new ones, synchronously: it runs in a worker thread, where nobody else waits. Memory: one block an input, the
 * output's index. Reads every input front to back once. A key's history is never split over two outputs.
 */
import { closeSync, fsyncSync, openSync, readSync, renameSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import { StorageError, wrapError } from '#shared/core/errors.js';
import type { Lsn } from '#shared/core/lsn.js';
import { lsn as brandLsn } from '#shared/core/lsn.js';
import type { Key } from '../core/key.js';
import { decodeBlock } from '../core/storage/layer-block.js';
import type { DecodedBlock } from '../core/storage/layer-block.js';
import { LayerEncoder } from '../core/storage/layer-encoder.js';
import { decodeEnds, LayerIndex, LAYER_FOOTER_BYTES, LAYER_HEADER_BYTES } from '../core/storage/layer-format.js';
import { unpackPart, ZSTD_OPTIONS } from '../core/storage/layer-format.js';
import type { LayerOwner } from '../core/storage/layer-format.js';
import { layerFileName, parseLayerFileName } from '../core/storage/layer-name.js';
import type { LayerSpan } from '../core/storage/layer-name.js';
import { mergeVersions } from '../core/storage/merge.js';
import type { VersionCursor } from '../core/storage/merge.js';
import type { ValueKind } from '../core/storage/store.js';
import { temporaryName } from './layer-writer.js';

/** Only texts and numbers, and no `Key`: keys are numbered per thread. */
export interface MergeJob {
  readonly dir: string;
  /** Names in `dir`, oldest first. */
  readonly inputs: readonly { readonly name: string; readonly sizeBytes: number }[];
  readonly owner: LayerOwner;
  readonly generation: number;
  readonly lsnStart: number;
  readonly lsnEnd: number;
  /** An output is closed at the first new key beyond this size. */
  readonly targetBytes: number;
}

export interface MergedLayer {
  readonly name: string;
  readonly sizeBytes: number;
  readonly crc: number;
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

/** Walks one layer file. */
class FileCursor implements VersionCursor {
  key = 0 as Key;
  lsn = 0 as Lsn;
  kind = 1 as ValueKind;
  value: Uint8Array = new Uint8Array(0);
  private readonly path: string;
  private readonly span: LayerSpan;
  private readonly fd: number;
  private readonly index: LayerIndex;
  private nextBlock = 0;
  private block: DecodedBlock | null = null;
  private at = 0;

  constructor(path: string, name: string, sizeBytes: number, owner: LayerOwner) {
    this.path = path;
    this.span = parseLayerFileName(name).span;
    this.fd = openSync(path, 'r');
    try {
      this.index = this.readIndex(sizeBytes, owner);
    } catch (error) {
      closeSync(this.fd);
      throw wrapError(`layer ${path}`, error);
    }
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
    if (this.block === null || this.at >= this.block.count) {
      if (this.nextBlock >= this.index.blockCount) return false;
      this.loadBlock();
    }
    const block = this.block!;
    this.key = block.key(this.at);
    this.lsn = block.lsn(this.at);
    this.kind = block.kind(this.at);
    this.value = block.value(this.at);
    this.at++;
    return true;
  }

  private loadBlock(): void {
    const place = this.index.place(this.nextBlock++);
    try {
      const stored = readExactly(this.fd, place.offset, place.storedLength);
      this.block = decodeBlock(unpackPart(stored, place.rawLength, place.crc, 'block'), this.span);
    } catch (error) {
      throw wrapError(`layer ${this.path} at byte ${place.offset}`, error);
    }
    this.at = 0;
  }

  close(): void {
    closeSync(this.fd);
  }
}

/** One output file after the other. */
class MergeOutput {
  readonly written: MergedLayer[] = [];
  private readonly job: MergeJob;
  private readonly range: { lsnStart: Lsn; lsnEnd: Lsn };
  private encoder: LayerEncoder | null = null;
  private fd = -1;
  private temporary = '';
  private lastKey = -1 as Key;

  constructor(job: MergeJob) {
    this.job = job;
    this.range = { lsnStart: brandLsn(job.lsnStart), lsnEnd: brandLsn(job.lsnEnd) };
  }

  add(version: VersionCursor): void {
    if (version.key !== this.lastKey && this.encoder !== null && this.encoder.sizeBytes >= this.job.targetBytes) {
      this.finish();
    }
    const encoder = this.encoder ?? this.begin();
    this.lastKey = version.key;
    if (encoder.add(version.key, version.lsn, version.kind, version.value)) this.writeBlock(encoder);
  }

  private begin(): LayerEncoder {
    this.temporary = join(this.job.dir, temporaryName());
    this.fd = openSync(this.temporary, 'wx', 0o600);
    this.encoder = new LayerEncoder(this.range);
    this.write(this.encoder.begin(this.job.owner, 'delta'));
    return this.encoder;
  }

  private writeBlock(encoder: LayerEncoder): void {
    const block = encoder.takeBlock();
    this.write(encoder.appendBlock(block, zstdCompressSync(block.bytes, ZSTD_OPTIONS)));
  }

  private write(bytes: Uint8Array): void {
    let done = 0;
    while (done < bytes.length) done += writeSync(this.fd, bytes, done, bytes.length - done);
  }

  finish(): void {
    const encoder = this.encoder;
    if (encoder === null) return;
    if (encoder.hasOpenBlock) this.writeBlock(encoder);
    const keys = encoder.keyRange();
    for (const part of encoder.finish(keys, (bytes) => zstdCompressSync(bytes, ZSTD_OPTIONS))) this.write(part);
    fsyncSync(this.fd);
    closeSync(this.fd);
    this.encoder = null;
    const name = layerFileName({ kind: 'delta', ...keys, ...this.range }, this.job.generation);
    renameSync(this.temporary, join(this.job.dir, name));
    this.written.push({ name, sizeBytes: encoder.sizeBytes, crc: encoder.crc });
  }

  abort(): void {
    if (this.encoder === null) return;
    closeSync(this.fd);
    rmSync(this.temporary, { force: true });
  }
}

function fsyncDirSync(dir: string): void {
  const fd = openSync(dir, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** The merged layers, durable in `job.dir`. Throws StorageError `corrupt` naming file and offset when an input is damaged. */
export function mergeLayers(job: MergeJob): MergedLayer[] {
  const cursors: FileCursor[] = [];
  const output = new MergeOutput(job);
  try {
    for (const { name, sizeBytes } of job.inputs) {
      cursors.push(new FileCursor(join(job.dir, name), name, sizeBytes, job.owner));
    }
    mergeVersions(cursors, (version) => output.add(version));
    output.finish();
  } catch (error) {
    output.abort();
    throw error;
  } finally {
    for (const cursor of cursors) cursor.close();
  }
  fsyncDirSync(job.dir);
  return output.written;
}
