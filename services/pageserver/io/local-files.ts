/**
 * Local layer files of all timelines, least recently used first, within a limit of bytes. Only files whose object is uploaded and that
 * nobody reads just now may go; so the limit can be exceeded for a while.
 */
import type { LayerFile } from './layer-file.js';

export class LocalFiles {
  readonly limitBytes: number;
  usedBytes = 0;
  /** In order of use. */
  private readonly files = new Set<LayerFile>();

  constructor(limitBytes: number) {
    this.limitBytes = limitBytes;
  }

  get count(): number {
    return this.files.size;
  }

  add(layer: LayerFile): void {
    if (this.files.has(layer)) return;
    this.files.add(layer);
    this.usedBytes += layer.metadata.sizeBytes;
  }

  /** A read of the file. Reads that the block cache answers do not count. */
  touch(layer: LayerFile): void {
    if (this.limitBytes === Infinity || !this.files.delete(layer)) return;
    this.files.add(layer);
  }

  remove(layer: LayerFile): void {
    if (this.files.delete(layer)) this.usedBytes -= layer.metadata.sizeBytes;
  }

  /** The next to go; null when the limit is kept or nothing may go. */
  victim(): LayerFile | null {
    if (this.usedBytes <= this.limitBytes) return null;
    for (const layer of this.files) if (layer.uploaded && layer.pins === 0) return layer;
    return null;
  }
}
