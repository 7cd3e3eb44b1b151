/** neon layer, neon storage scrub: run the page server's own tools on a storage of the stack; the daemon need not run. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { StorageError } from '#shared/core/errors.js';
import { findStorage, storageOf } from '../core/catalog.js';
import { DEFAULT_STORAGE } from '../core/catalog-schema.js';
import { s3Environment } from '../core/s3-place.js';
import { openRepo } from './client.js';
import type { GlobalOptions } from './client.js';

const TOOL = fileURLToPath(new URL('../../pageserver/tool.js', import.meta.url));

interface Target {
  readonly url: string;
  readonly env: Readonly<Record<string, string | undefined>>;
}

async function findTarget(options: GlobalOptions, name: string | undefined, tenantId?: string): Promise<Target> {
  const repo = openRepo(options);
  await repo.config();
  const catalog = await repo.catalog();
  const tenant = catalog.tenants.find((entry) => entry.tenantId === tenantId);
  const ofTenant = tenant === undefined ? DEFAULT_STORAGE : storageOf(catalog, tenant.tenantId);
  const found = findStorage(catalog, name ?? ofTenant);
  return { url: found.url, env: s3Environment(await repo.keysOf(found.name)) };
}

/** Its output and its exit code are ours. */
async function runTool(args: readonly string[], options: GlobalOptions, env: Target['env'] = {}): Promise<void> {
  const all = [TOOL, ...args, ...(options.json === true ? ['--json'] : [])];
  const child = spawn(process.execPath, all, { stdio: 'inherit', env: { ...process.env, ...env } });
  const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
  if (code === null) throw new StorageError('internal', `the tool was ended by ${signal}`);
  process.exitCode = code;
}

interface LayerFlags {
  readonly storage?: string;
  readonly remote?: boolean;
}

function addLayerPathCommand(layer: Command, options: () => GlobalOptions, name: string, description: string): void {
  layer
    .command(`${name} <path>`)
    .description(description)
    .option('--remote', 'the path is a key, or the beginning of keys, in a storage')
    .option('--storage <name>', 'this storage (with --remote); default: the first')
    .action(async (path: string, given: LayerFlags) => {
      const isRemote = given.remote === true || given.storage !== undefined;
      if (!isRemote) return runTool(['layer', name, path], options());
      const { url, env } = await findTarget(options(), given.storage);
      await runTool(['layer', name, path, '--remote-storage', url], options(), env);
    });
}

export function addLayerCommands(program: Command, options: () => GlobalOptions): void {
  const layer = program
    .command('layer')
    .description('layer files of the page server: what they are, and what is in them');
  layer
    .command('map <tenant> <timeline>')
    .description('the layers that a timeline consists of, as its newest index says')
    .option('--storage <name>', "the storage; default: the tenant's")
    .action(async (tenantId: string, timelineId: string, given: { storage?: string }) => {
      const { url, env } = await findTarget(options(), given.storage, tenantId);
      await runTool(['layer', 'map', tenantId, timelineId, '--remote-storage', url], options(), env);
    });
  addLayerPathCommand(layer, options, 'dump', 'every version in a layer file: key, LSN, kind, length, what it is');
  addLayerPathCommand(
    layer,
    options,
    'verify',
    'reads layer files whole (a directory: all below it) and says what is damaged',
  );
}

interface ScrubFlags {
  readonly tenant?: string;
  readonly deep?: boolean;
  readonly deleteOrphans?: boolean;
  readonly minAgeHours: string;
}

/** To be called after `neon storage` is there. */
export function addScrubCommand(program: Command, options: () => GlobalOptions): void {
  const storage = program.commands.find((command) => command.name() === 'storage') ?? program.command('storage');
  storage
    .command('scrub [name]')
    .description(
      'compares what indexes name with what objects there are: missing, damaged, orphan; ends with 1 for the first two',
    )
    .option('--tenant <id>', 'this tenant only')
    .option('--deep', 'reads every layer and compares its checksum')
    .option('--delete-orphans', 'deletes orphans that are old enough, and of a generation that has passed')
    .option('--min-age-hours <hours>', 'age from which an orphan may be deleted', '24')
    .action(async (name: string | undefined, given: ScrubFlags) => {
      const { url, env } = await findTarget(options(), name);
      const args = ['scrub', '--remote-storage', url, '--min-age-hours', given.minAgeHours];
      if (given.tenant !== undefined) args.push('--tenant', given.tenant);
      if (given.deep === true) args.push('--deep');
      if (given.deleteOrphans === true) args.push('--delete-orphans');
      await runTool(args, options(), env);
    });
}
