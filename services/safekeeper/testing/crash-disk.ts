/**
 * For tests: a disk in memory that behaves as badly as a real one may. At a crash each unsynced sector is kept or lost, and of the
 * unsynced changes of a directory only the first few are kept (each change is atomic, and they keep their order). It can also fail
 * at the n-th operation.
 */
import type { Disk, DiskFile } from '../io/disk.js';

const SECTOR_BYTES = 512;

interface FileNode {
  readonly kind: 'file';
  /** What reads see. */
  live: Buffer;
  /** What survives. */
  durable: Buffer;
}
interface DirNode {
  readonly kind: 'dir';
  live: Map<string, Node>;
  durable: Map<string, Node>;
  /** Changes of `live` that are not durable. */
  pending: ((entries: Map<string, Node>) => void)[];
}
type Node = FileNode | DirNode;

function newDir(): DirNode {
  return { kind: 'dir', live: new Map(), durable: new Map(), pending: [] };
}

export class CrashDisk implements Disk {
  /** Fail operation number `failAt`, and all behind it until `revive`; counted from 1. */
  failAt = Infinity;
  operations = 0;
  private readonly root = newDir();
  private readonly random: (below: number) => number;

  constructor(random: (below: number) => number) {
    this.random = random;
  }

  /** Power off and on. */
  crash(): void {
    this.settle(this.root);
    this.revive();
  }

  /** The process died, the machine did not: everything written is still there. */
  revive(): void {
    this.failAt = Infinity;
    this.operations = 0;
  }

  async open(name: string, mode: 'read' | 'write' | 'create'): Promise<DiskFile> {
    this.operate();
    const { dir, base } = this.locate(name);
    let node = dir?.live.get(base);
    if (mode === 'create' && dir !== null) {
      const created: FileNode = { kind: 'file', live: Buffer.alloc(0), durable: Buffer.alloc(0) };
      change(dir, (entries) => entries.set(base, created));
      node = created;
    }
    if (node?.kind !== 'file') throw Object.assign(new Error(`ENOENT: ${name}`), { code: 'ENOENT' });
    return new CrashFile(node, () => this.operate());
  }

  async list(path: string): Promise<string[]> {
    this.operate();
    return [...(this.dirAt(path)?.live.keys() ?? [])];
  }

  async rename(from: string, to: string): Promise<void> {
    this.operate();
    const source = this.locate(from);
    const target = this.locate(to);
    const node = source.dir?.live.get(source.base);
    if (source.dir === null || source.dir !== target.dir || node === undefined)
      throw new Error(`cannot rename ${from}`);
    change(source.dir, (entries) => {
      entries.delete(source.base);
      entries.set(target.base, node);
    });
  }

  async remove(path: string): Promise<void> {
    this.operate();
    const { dir, base } = this.locate(path);
    if (dir?.live.has(base) === true) change(dir, (entries) => entries.delete(base));
  }

  async ensureDir(path: string): Promise<void> {
    this.operate();
    let dir = this.root;
    for (const name of path.split('/').slice(1)) {
      const next = dir.live.get(name) ?? newDir();
      if (next.kind !== 'dir') throw new Error(`${path} is a file`);
      change(dir, (entries) => entries.set(name, next));
      sync(dir);
      dir = next;
    }
  }

  async syncDir(path: string): Promise<void> {
    this.operate();
    const dir = this.dirAt(path);
    if (dir === null) throw new Error(`no directory ${path}`);
    sync(dir);
  }

  private operate(): void {
    this.operations += 1;
    if (this.operations >= this.failAt) throw Object.assign(new Error('EIO: the disk failed'), { code: 'EIO' });
  }

  private locate(path: string): { dir: DirNode | null; base: string } {
    const at = path.lastIndexOf('/');
    return { dir: this.dirAt(path.slice(0, at)), base: path.slice(at + 1) };
  }

  private dirAt(path: string): DirNode | null {
    let node: Node | undefined = this.root;
    for (const name of path.split('/').slice(1)) node = node?.kind === 'dir' ? node.live.get(name) : undefined;
    return node?.kind === 'dir' ? node : null;
  }

  private settle(node: Node): void {
    if (node.kind === 'file') {
      this.settleFile(node);
      return;
    }
    for (const apply of node.pending.slice(0, this.random(node.pending.length + 1))) apply(node.durable);
    node.pending = [];
    node.live = new Map(node.durable);
    for (const child of node.live.values()) this.settle(child);
  }

  private settleFile(file: FileNode): void {
    if (file.live.equals(file.durable)) return;
    const length = this.random(2) === 0 ? file.live.length : file.durable.length;
    const next = Buffer.alloc(length);
    file.durable.copy(next);
    for (let at = 0; at < length; at += SECTOR_BYTES) {
      if (at < file.live.length && this.random(2) === 0)
        file.live.copy(next, at, at, Math.min(at + SECTOR_BYTES, length, file.live.length));
    }
    file.live = next;
    file.durable = Buffer.from(next);
  }
}

function change(dir: DirNode, apply: (entries: Map<string, Node>) => void): void {
  apply(dir.live);
  dir.pending.push(apply);
}

function sync(dir: DirNode): void {
  dir.durable = new Map(dir.live);
  dir.pending = [];
}

class CrashFile implements DiskFile {
  private readonly file: FileNode;
  private readonly operate: () => void;

  constructor(file: FileNode, operate: () => void) {
    this.file = file;
    this.operate = operate;
  }

  async write(pieces: readonly Uint8Array[], at: number): Promise<void> {
    this.operate();
    const bytes = Buffer.concat(pieces);
    const end = Math.max(this.file.live.length, at + bytes.length);
    if (end > this.file.live.length) this.file.live = Buffer.concat([this.file.live], end);
    this.file.live.set(bytes, at);
  }

  async read(into: Uint8Array, at: number): Promise<number> {
    this.operate();
    const part = this.file.live.subarray(at, at + into.length);
    into.set(part);
    return part.length;
  }

  async truncate(sizeBytes: number): Promise<void> {
    this.operate();
    this.file.live = Buffer.concat([this.file.live], sizeBytes);
  }

  async sizeBytes(): Promise<number> {
    return this.file.live.length;
  }

  async sync(): Promise<void> {
    this.operate();
    this.file.durable = Buffer.from(this.file.live);
  }

  async close(): Promise<void> {
    // Closing cannot fail in a way that matters: nothing is durable by it.
  }
}
