/**
 * Control groups of the kernel: memory and processor time of a set of processes, measured and limited. Of both versions:
 *
 *   version 2   ROOT/GROUP/{memory.stat, memory.max, cpu.max, cgroup.procs}
 *   version 1   ROOT/memory/GROUP/{memory.stat, memory.limit_in_bytes, cgroup.procs}
 *               ROOT/cpu/GROUP/{cpu.cfs_period_us, cpu.cfs_quota_us, cgroup.procs}
 */
import { mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { totalmem } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { StorageError } from '../core/errors.js';
import { reclaimable, reclaimableNot } from '../core/memory-stat.js';

const ROOT = '/sys/fs/cgroup';
const PERIOD_US = 100_000;
const CONTROLLERS = ['cpu', 'memory'] as const;
/** The kernel keeps a group for a moment after its last process has ended. */
const REMOVE_ATTEMPTS = 50;
const REMOVE_PAUSE_MS = 20;

export interface GroupLimits {
  readonly memoryBytes: number;
  readonly cpus: number;
}

export class ControlGroup {
  readonly version: 1 | 2;
  private readonly memoryDir: string;
  private readonly cpuDir: string;

  private constructor(version: 1 | 2, root: string, group: string) {
    this.version = version;
    this.memoryDir = version === 2 ? join(root, group) : join(root, 'memory', group);
    this.cpuDir = version === 2 ? this.memoryDir : join(root, 'cpu', group);
  }

  /** `group`: its path below the hierarchy's root, such as "neon-postgres". Throws StorageError `not-found`. */
  static async find(group: string, root = ROOT): Promise<ControlGroup> {
    const relative = group.replace(/^\/+/, '');
    for (const version of [2, 1] as const) {
      const found = new ControlGroup(version, root, relative);
      const isThere = await found.usedBytes().then(
        () => true,
        () => false,
      );
      if (isThere) return found;
    }
    throw new StorageError('not-found', `there is no memory control group "${group}" below ${root}`);
  }

  /** Makes the group, or takes it when it is there. Throws StorageError `unavailable` where that is not allowed or not possible. */
  static async make(group: string, root = ROOT): Promise<ControlGroup> {
    const made = new ControlGroup(await versionOf(root), root, group);
    try {
      const hierarchies = made.version === 2 ? [root] : [join(root, 'memory'), join(root, 'cpu')];
      for (const hierarchy of hierarchies) await makeDirs(hierarchy, group, made.version === 2);
      // So that a group that cannot be used is noticed here.
      await made.pids();
      return made;
    } catch (cause) {
      throw new StorageError('unavailable', `control groups below ${root} cannot be written`, { cause });
    }
  }

  /** Memory that the kernel cannot reclaim by dropping caches. */
  async usedBytes(): Promise<number> {
    return reclaimableNot(await readFile(join(this.memoryDir, 'memory.stat'), 'utf8'));
  }

  /** File caches, which it can. */
  async cachedBytes(): Promise<number> {
    return reclaimable(await readFile(join(this.memoryDir, 'memory.stat'), 'utf8'));
  }

  /** Its limit, or the machine's memory when it has none below that. */
  async totalBytes(): Promise<number> {
    const file = this.version === 2 ? 'memory.max' : 'memory.limit_in_bytes';
    const limit = Number((await readFile(join(this.memoryDir, file), 'utf8')).trim());
    return limit > 0 && limit < totalmem() ? limit : totalmem();
  }

  /** Throws, and changes nothing, when the kernel cannot reclaim enough (version 1). */
  async setLimits({ memoryBytes, cpus }: GroupLimits): Promise<void> {
    const quota = Math.round(cpus * PERIOD_US);
    const files: [string, string, string][] =
      this.version === 2
        ? [
            [this.memoryDir, 'memory.max', String(memoryBytes)],
            [this.cpuDir, 'cpu.max', `${quota} ${PERIOD_US}`],
          ]
        : [
            [this.memoryDir, 'memory.limit_in_bytes', String(memoryBytes)],
            [this.cpuDir, 'cpu.cfs_period_us', String(PERIOD_US)],
            [this.cpuDir, 'cpu.cfs_quota_us', String(quota)],
          ];
    for (const [dir, file, text] of files) await writeFile(join(dir, file), text);
  }

  async pids(): Promise<number[]> {
    const text = await readFile(join(this.memoryDir, 'cgroup.procs'), 'utf8');
    return text.split('\n').filter(Boolean).map(Number);
  }

  /** What it forks from now on is in the group, too. One that has ended meanwhile is nothing to care about. */
  async add(pid: number): Promise<void> {
    for (const dir of this.dirs()) {
      await writeFile(join(dir, 'cgroup.procs'), String(pid)).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'ESRCH') throw error;
      });
    }
  }

  /** When its processes have ended. */
  async remove(): Promise<void> {
    for (const dir of this.dirs()) await removeDir(dir);
  }

  private dirs(): string[] {
    return [...new Set([this.memoryDir, this.cpuDir])];
  }
}

/** Removes the groups right below one that have no processes, and the group itself when it is empty then. */
export async function removeGroupsBelow(group: string, root = ROOT): Promise<void> {
  for (const dir of [join(root, group), join(root, 'memory', group), join(root, 'cpu', group)]) {
    const entries = await readdir(dir, { withFileTypes: true }).catch(() => []);
    for (const entry of entries) if (entry.isDirectory()) await rmdir(join(dir, entry.name)).catch(() => undefined);
    await rmdir(dir).catch(() => undefined);
  }
}

async function versionOf(root: string): Promise<1 | 2> {
  const controllers = await readFile(join(root, 'cgroup.controllers'), 'utf8').catch(() => '');
  const has = new Set(controllers.trim().split(' '));
  return CONTROLLERS.every((name) => has.has(name)) ? 2 : 1;
}

/** Makes a group and those above it; the hierarchy itself is the kernel's. In version 2 a group has what the one above hands down. */
async function makeDirs(hierarchy: string, group: string, handDown: boolean): Promise<void> {
  let dir = hierarchy;
  for (const part of group.split('/')) {
    if (handDown) await writeFile(join(dir, 'cgroup.subtree_control'), CONTROLLERS.map((name) => `+${name}`).join(' '));
    dir = join(dir, part);
    await mkdir(dir).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
  }
}

async function removeDir(dir: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await rmdir(dir);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT') return;
      if (code !== 'EBUSY' || attempt === REMOVE_ATTEMPTS) throw error;
      await sleep(REMOVE_PAUSE_MS);
    }
  }
}
