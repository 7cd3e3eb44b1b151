/**
 * The directory of a stack, `.neon` by default:
 *
 *   config.json    what `neon init` fixed (StackConfig)
 *   catalog.json   names of storages, tenants, branches, computes, snapshots (Catalog)
 *   credentials.json  keys of S3 storages; for the owner only
 *   ports.json     ports used last, tried first at the next start
 *   tls/           certificate and key of the connect port
 *   run/<name>.pid process id and start time of each child
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
import type { S3Keys } from '#shared/core/s3-keys.js';
import { z } from 'zod';
import { emptyCatalog, readCatalog } from '../core/catalog-schema.js';
import type { Catalog } from '../core/catalog-schema.js';
import { readStackConfig } from '../core/stack-config.js';
import type { StackConfig } from '../core/stack-config.js';

const portsSchema = z.record(z.string(), z.number());
export type PortMap = z.infer<typeof portsSchema>;

const daemonSchema = z.object({
  pid: z.number(),
  grpcAddr: z.string(),
  restUrl: z.string().default(''),
  connectAddr: z.string().default(''),
});
export type DaemonInfo = z.infer<typeof daemonSchema>;

const s3KeysSchema = z.object({ accessKeyId: z.string(), secretAccessKey: z.string(), sessionToken: z.string() });
const credentialsSchema = z.record(z.string(), s3KeysSchema);

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

  /** Directory of the pid files. */
  get runDir(): string {
    return join(this.path, 'run');
  }

  private async read<T>(file: string, parse: (value: unknown) => T): Promise<T | null> {
    const path = join(this.path, file);
    const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return null;
      throw new StorageError('unavailable', `could not read ${path}`, { cause: error });
    });
    if (text === null) return null;
    try {
      return parse(JSON.parse(text));
    } catch (cause) {
      if (cause instanceof StorageError) throw cause;
      throw new StorageError('corrupt', `${path} is damaged`, { cause });
    }
  }

  private async write(file: string, value: unknown): Promise<void> {
    await writeFileDurable(join(this.path, file), Buffer.from(`${JSON.stringify(value, null, 2)}\n`));
  }

  isInitialised(): Promise<boolean> {
    return pathExists(join(this.path, 'config.json'));
  }

  /** Makes the directory; the config comes last, so that a stack is there only when all of it is. */
  async init(config: StackConfig): Promise<void> {
    for (const dir of ['logs', 'data', 'computes', 'run']) await ensureDir(join(this.path, dir));
    await this.write('config.json', config);
  }

  async config(): Promise<StackConfig> {
    const config = await this.read('config.json', readStackConfig);
    if (config === null)
      throw new StorageError('precondition', `there is no stack in ${this.path}; make one with "neon init"`);
    return config;
  }

  async saveConfig(config: StackConfig): Promise<void> {
    await this.write('config.json', config);
  }

  async catalog(): Promise<Catalog> {
    const { remoteStorage } = await this.config();
    return (
      (await this.read('catalog.json', (value) => readCatalog(value, remoteStorage))) ?? emptyCatalog(remoteStorage)
    );
  }

  async saveCatalog(catalog: Catalog): Promise<void> {
    await this.write('catalog.json', catalog);
  }

  /** Keys of S3 storages by name of the storage. */
  private async credentials(): Promise<Record<string, S3Keys>> {
    return (await this.read('credentials.json', (value) => credentialsSchema.parse(value))) ?? {};
  }

  /** Undefined: the storage has none of its own. */
  async keysOf(storageName: string): Promise<S3Keys | undefined> {
    return (await this.credentials())[storageName];
  }

  /** Null forgets them. */
  async saveCredentials(storageName: string, keys: S3Keys | null): Promise<void> {
    const before = await this.credentials();
    if (keys === null && before[storageName] === undefined) return;
    const all = Object.entries(before).filter(([name]) => name !== storageName);
    await this.write('credentials.json', Object.fromEntries(keys === null ? all : [...all, [storageName, keys]]));
  }

  async ports(): Promise<PortMap> {
    return (await this.read('ports.json', (value) => portsSchema.parse(value))) ?? {};
  }

  async savePorts(ports: PortMap): Promise<void> {
    await this.write('ports.json', ports);
  }

  daemon(): Promise<DaemonInfo | null> {
    return this.read('daemon.json', (value) => daemonSchema.parse(value));
  }

  async saveDaemon(info: DaemonInfo): Promise<void> {
    await this.write('daemon.json', info);
  }

  async clearDaemon(): Promise<void> {
    await removeDurable(join(this.path, 'daemon.json'));
  }
}
