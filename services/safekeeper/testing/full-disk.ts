/** For tests: the real disk, which fails every change with one error while it is told to. */
import { realDisk, type Disk, type DiskFile } from '../io/disk.js';

export class FailingDisk implements Disk {
  /** Null: it works. */
  code: 'ENOSPC' | 'EIO' | null = null;
  private readonly disk = realDisk({ sync: true });

  async open(path: string, mode: 'read' | 'write' | 'create'): Promise<DiskFile> {
    if (mode === 'create') this.check();
    const file = await this.disk.open(path, mode);
    return {
      read: (into, at) => file.read(into, at),
      sizeBytes: () => file.sizeBytes(),
      close: () => file.close(),
      write: async (pieces, at) => {
        this.check();
        await file.write(pieces, at);
      },
      truncate: async (sizeBytes) => {
        this.check();
        await file.truncate(sizeBytes);
      },
      sync: async () => {
        if (this.code === 'EIO') this.check();
        await file.sync();
      },
    };
  }

  list(path: string): Promise<string[]> {
    return this.disk.list(path);
  }

  async rename(from: string, to: string): Promise<void> {
    this.check();
    await this.disk.rename(from, to);
  }

  remove(path: string): Promise<void> {
    return this.disk.remove(path);
  }

  ensureDir(path: string): Promise<void> {
    return this.disk.ensureDir(path);
  }

  syncDir(path: string): Promise<void> {
    return this.disk.syncDir(path);
  }

  private check(): void {
    if (this.code !== null) throw Object.assign(new Error(`${this.code}: the test wants it so`), { code: this.code });
  }
}
