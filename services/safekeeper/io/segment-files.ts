/**
 * WAL segment files of one timeline: names, creation, the change from growing to complete.
 *
 *   00000001XXXXXXXXYYYYYYYY           complete segment, named as Postgres names it
 *   00000001XXXXXXXXYYYYYYYY.partial   the last one, still growing; full size, zeros behind what was written
 *   spare.tmp                          a zeroed file that becomes the next segment; means nothing after a restart
 *
 * A segment becomes visible under its name only when its zeros are durable, so that what was never written always reads as zeros.
 */
import path from 'node:path';
import { parseSegmentName, segmentName } from '#shared/postgres/wal-layout.js';
import { isMissing, type Disk, type DiskFile } from './disk.js';

const PARTIAL = '.partial';
const SPARE = 'spare.tmp';
const ZEROS = new Uint8Array(1 << 20);

export interface SegmentFile {
  readonly segno: number;
  readonly name: string;
}

export class SegmentFiles {
  private readonly disk: Disk;
  readonly dir: string;
  readonly segSize: number;
  /** A spare being made or ready. */
  private spare: Promise<void> | null = null;

  constructor(disk: Disk, dir: string, segSize: number) {
    this.disk = disk;
    this.dir = dir;
    this.segSize = segSize;
  }

  /** Ascending. Both forms of one segment may appear after a crash of the file system; the complete one comes first. */
  async list(): Promise<SegmentFile[]> {
    const found: SegmentFile[] = [];
    for (const name of await this.disk.list(this.dir)) {
      const base = name.endsWith(PARTIAL) ? name.slice(0, -PARTIAL.length) : name;
      const parsed = parseSegmentName(base, this.segSize);
      if (parsed !== null && parsed.tli === 1) found.push({ segno: parsed.segno, name });
    }
    return found.sort((a, b) => a.segno - b.segno || a.name.length - b.name.length);
  }

  /** Opens what there is of a segment; null when it does not exist. */
  async openForRead(segno: number): Promise<DiskFile | null> {
    // The growing segment may be completed between two attempts, never the other way round while somebody reads below it.
    for (const name of [this.name(segno), this.partialName(segno), this.name(segno)]) {
      const file = await this.open(name, 'read');
      if (file !== null) return file;
    }
    return null;
  }

  /** Opens a segment for writing, turning a complete one back into a growing one; null when it does not exist. */
  async openForWrite(segno: number): Promise<DiskFile | null> {
    const complete = await this.open(this.name(segno), 'read');
    if (complete !== null) {
      await complete.close();
      await this.disk.rename(this.at(this.name(segno)), this.at(this.partialName(segno)));
      await this.disk.syncDir(this.dir);
    }
    return this.open(this.partialName(segno), 'write');
  }

  /** Makes a new segment of zeros; one that has the name is replaced. Its content is durable, and so is its name. */
  async create(segno: number): Promise<DiskFile> {
    const spare = this.spare ?? this.makeSpare();
    this.spare = null;
    // A spare that could not be made ahead is tried again now, so that the error is today's.
    await spare.catch(() => this.makeSpare());
    await this.disk.rename(this.at(SPARE), this.at(this.partialName(segno)));
    await this.disk.syncDir(this.dir);
    const file = await this.open(this.partialName(segno), 'write');
    if (file === null) throw new Error(`${this.partialName(segno)} vanished`);
    return file;
  }

  /** Begins to make the next segment's file, so that the writer need not wait for its zeros. */
  prepareSpare(): void {
    if (this.spare !== null) return;
    this.spare = this.makeSpare();
    this.spare.catch(() => undefined);
  }

  /** The content must be durable already. */
  async complete(segno: number): Promise<void> {
    await this.disk.rename(this.at(this.partialName(segno)), this.at(this.name(segno)));
    await this.disk.syncDir(this.dir);
  }

  /** Removes segments from `segno` on, the last first, durably. */
  async removeFrom(segno: number): Promise<void> {
    const files = (await this.list()).filter((file) => file.segno >= segno).reverse();
    for (const file of files) await this.disk.remove(this.at(file.name));
    if (files.length > 0) await this.disk.syncDir(this.dir);
  }

  /** Removes segments below `segno`, the first first, durably. Returns how many. */
  async removeBelow(segno: number): Promise<number> {
    const files = (await this.list()).filter((file) => file.segno < segno);
    for (const file of files) await this.disk.remove(this.at(file.name));
    if (files.length > 0) await this.disk.syncDir(this.dir);
    return files.length;
  }

  /** Waits for a spare that is being made. */
  async close(): Promise<void> {
    await this.spare?.catch(() => undefined);
  }

  syncDir(): Promise<void> {
    return this.disk.syncDir(this.dir);
  }

  async removeLeftovers(): Promise<void> {
    await this.disk.remove(this.at(SPARE));
  }

  private async makeSpare(): Promise<void> {
    const file = await this.disk.open(this.at(SPARE), 'create');
    try {
      for (let at = 0; at < this.segSize; at += ZEROS.length) await file.write([ZEROS], at);
      await file.sync();
    } finally {
      await file.close();
    }
  }

  private open(name: string, mode: 'read' | 'write'): Promise<DiskFile | null> {
    return this.disk.open(this.at(name), mode).catch((error: unknown) => {
      if (isMissing(error)) return null;
      throw error;
    });
  }

  private at(name: string): string {
    return path.join(this.dir, name);
  }

  private name(segno: number): string {
    return segmentName(segno, this.segSize);
  }

  private partialName(segno: number): string {
    return this.name(segno) + PARTIAL;
  }
}
