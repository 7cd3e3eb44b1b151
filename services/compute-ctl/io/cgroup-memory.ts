/** Memory of a control group that the kernel cannot reclaim by dropping caches: version 2 and version 1. */
import { readFile } from 'node:fs/promises';
import { totalmem } from 'node:os';
import { join } from 'node:path';
import { StorageError } from '#shared/core/errors.js';
import { reclaimableNot } from '../core/memory-stat.js';

const ROOT = '/sys/fs/cgroup';

/** `group`: its path below the hierarchy's root, such as "neon-postgres". */
export class CgroupMemory {
  private readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /** Throws StorageError `not-found` when there is no such group in either version. */
  static async find(group: string, root = ROOT): Promise<CgroupMemory> {
    const relative = group.replace(/^\/+/, '');
    for (const path of [join(root, relative, 'memory.stat'), join(root, 'memory', relative, 'memory.stat')]) {
      const memory = new CgroupMemory(path);
      const found = await memory.usedBytes().then(
        () => true,
        () => false,
      );
      if (found) return memory;
    }
    throw new StorageError('not-found', `there is no memory control group "${group}" below ${root}`);
  }

  async usedBytes(): Promise<number> {
    return reclaimableNot(await readFile(this.path, 'utf8'));
  }
}

/** Of this machine, or less when this process is limited by its group. */
export function systemMemoryBytes(): number {
  const limit = process.constrainedMemory();
  return limit > 0 && limit < totalmem() ? limit : totalmem();
}
