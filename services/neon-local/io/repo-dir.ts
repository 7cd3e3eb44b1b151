/**
 * The directory of a stack, `.neon` by default:
 *
 *   config.json    what `neon init` fixed (StackConfig)
 *   catalog.json   names of tenants, branches, computes (Catalog)
 *   ports.json     ports used last, tried first at the next start
 *   daemon.json    address and pid of the running daemon
 *   LOCK           taken by the running daemon
 *   logs/          one file a process
 *   data/<name>/   one directory a service
 *   storage/       the object store, when it is local
 *   computes/<name>/  spec and data directory of a compute; thrown away when it stops
 *
 * Every file is replaced whole and durably.
 */
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { StorageError } from '#shared/core/errors.js';
import { ensureDir, pathExists, removeDurable, writeFileDurable } from '#shared/io/files.js';
import { z } from 'zod';
import { catalogSchema, EMPTY_CATALOG } from '../core/catalog.js';
import type { Catalog } from '../core/catalog.js';
import { stackConfigSchema } from '../core/stack.js';
import type { StackConfig } from '../core/stack.js';

const portsSchema = z.record(z.string(), z.number());
export type PortMap = z.infer<typeof portsSchema>;

const daemonSchema = z.object({ pid: z.number(), grpcAddr: z.string() });
export type DaemonInfo = z.infer<typeof daemonSchema>;

/** `--repo-dir`, else NEON_REPO_DIR, else ./.neon. */
export function repoDirPath(given: string | undefined, env: Readonly<Record<string, string | undefined>>): string {
  return resolve(given ?? env['NEON_REPO_DIR'] ?? '.neon');
}

export class RepoDir {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  logPath(name: string): string {
    return join(this.path, 'logs', `${name}.log`);
  }

  dataDir(name: string): string {
    return join(this.path, 'data', name);
  }

  private async read<T>(file: string, schema: z.ZodType<T>): Promise<T | null> {
    const path = join(this.path, file);
    const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return null;
      throw new StorageError('unavailable', `could not read ${path}`, { cause: error });
    });
    if (text === null) return null;
    try {
      return schema.parse(JSON.parse(text));
    } catch (cause) {
      throw new StorageError('corrupt', `${path} is damaged`, { cause });
    }
  }

  private async write(file: string, value: unknown): Promise<void> {
    await writeFileDurable(join(this.path, file), Buffer.from(`${JSON.stringify(value, null, 2)}\n`));
  }

  isInitialised(): Promise<boolean> {
    return pathExists(join(this.path, 'config.json'));
  }

  async init(config: StackConfig): Promise<void> {
    for (const dir of ['logs', 'data', 'computes']) await ensureDir(join(this.path, dir));
    await this.write('config.json', config);
  }

  async config(): Promise<StackConfig> {
    const config = await this.read('config.json', stackConfigSchema);
    if (config === null)
      throw new StorageError('precondition', `there is no stack in ${this.path}; make one with "neon init"`);
    return config;
  }

  async catalog(): Promise<Catalog> {
    return (await this.read('catalog.json', catalogSchema)) ?? EMPTY_CATALOG;
  }

  async saveCatalog(catalog: Catalog): Promise<void> {
    await this.write('catalog.json', catalog);
  }

  async ports(): Promise<PortMap> {
    return (await this.read('ports.json', portsSchema)) ?? {};
  }

  async savePorts(ports: PortMap): Promise<void> {
    await this.write('ports.json', ports);
  }

  daemon(): Promise<DaemonInfo | null> {
    return this.read('daemon.json', daemonSchema);
  }

  async saveDaemon(info: DaemonInfo): Promise<void> {
    await this.write('daemon.json', info);
  }

  async clearDaemon(): Promise<void> {
    await removeDurable(join(this.path, 'daemon.json'));
  }
}
