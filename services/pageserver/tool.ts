/** Tools of the page server that need no running one: `layer map|dump|verify`, `scrub`. The `neon` command runs this program. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { Command } from 'commander';
import { StorageError } from '#shared/core/errors.js';
import { parseTenantId, parseTtid } from '#shared/core/ids.js';
import { openObjectStore } from '#shared/io/object-store.js';
import { runMain } from '#shared/runtime/main.js';
import { VERSION } from '#shared/runtime/version.js';
import { findLayerFiles, layerEntries, layerMap, verifyLayer } from './tools/layer-files.js';
import { scrub } from './tools/scrub.js';

const HOUR_MS = 3_600_000;

function print(lines: Iterable<string>): void {
  for (const line of lines) process.stdout.write(`${line}\n`);
}

function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}

/** `act` with a local file: of the object store, fetched for the time being, or the path itself. */
async function withLayers(where: { path: string; remote: string | undefined }, act: (path: string) => Promise<void>) {
  if (where.remote === undefined) {
    for (const path of await findLayerFiles(where.path)) await act(path);
    return;
  }
  const store = await openObjectStore(where.remote);
  const dir = await mkdtemp(join(tmpdir(), 'neon-layer-'));
  try {
    const keys = (await store.list(where.path)).filter((key) => key.includes('__'));
    if (keys.length === 0) throw new StorageError('not-found', `no layer of that name in ${store.url}`);
    for (const key of keys) {
      const path = join(dir, basename(key));
      await store.getToFile(key, path);
      await act(path);
      await rm(path);
    }
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

function addLayerCommands(program: Command): void {
  const layer = program.command('layer').description('layer files, of a directory or of an object store');
  const remote = [
    '--remote-storage <url>',
    'object store: file:///dir or s3://bucket/prefix; then the path is a key',
  ] as const;
  layer
    .command('map <tenant> <timeline>')
    .description('the layers that a timeline consists of, as its newest index says')
    .requiredOption('--remote-storage <url>', 'object store: file:///dir or s3://bucket/prefix')
    .option('--json', 'as JSON')
    .action(async (tenantId: string, timelineId: string, given: { remoteStorage: string; json?: boolean }) => {
      const report = await layerMap(await openObjectStore(given.remoteStorage), parseTtid({ tenantId, timelineId }));
      if (given.json) return printJson(report);
      const { layers, indexGeneration, diskConsistentLsn, minReadableLsn, ancestor } = report;
      const bytes = layers.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
      print([
        `index of generation ${indexGeneration}, readable from ${minReadableLsn} to ${diskConsistentLsn}`,
        ...(ancestor === null ? [] : [`branch of ${ancestor}`]),
        ...layers.map(
          (one) =>
            `${one.level.padEnd(5)} ${one.lsnStart}-${one.lsnEnd} ${one.keyStart}-${one.keyEnd} ${one.sizeBytes}`,
        ),
        `${layers.length} layers, ${bytes} bytes`,
      ]);
    });
  layer
    .command('dump <path>')
    .description('every version in a layer file: key, what it is, LSN, kind, length')
    .option(...remote)
    .option('--json', 'one JSON object a line')
    .action(async (path: string, given: { remoteStorage?: string; json?: boolean }) => {
      await withLayers({ path, remote: given.remoteStorage }, async (file) => {
        for await (const entry of layerEntries(file)) {
          const { key, what, lsn, kind, valueBytes } = entry;
          print([given.json ? JSON.stringify(entry) : `${key} ${lsn} ${kind.padEnd(9)} ${valueBytes} ${what}`]);
        }
      });
    });
  layer
    .command('verify <path>')
    .description('reads layer files whole (a directory: all below it): format, checksums, order')
    .option(...remote)
    .option('--json', 'one JSON object a line')
    .action(async (path: string, given: { remoteStorage?: string; json?: boolean }) => {
      await withLayers({ path, remote: given.remoteStorage }, async (file) => {
        const verdict = await verifyLayer(file);
        if (verdict.problem !== '') process.exitCode = 1;
        const text = verdict.problem === '' ? `ok, ${verdict.entries} versions` : `DAMAGED: ${verdict.problem}`;
        print([given.json ? JSON.stringify(verdict) : `${basename(file)}: ${text}`]);
      });
    });
}

interface ScrubFlags {
  readonly remoteStorage: string;
  readonly tenant?: string;
  readonly deep?: boolean;
  readonly deleteOrphans?: boolean;
  readonly minAgeHours: string;
  readonly json?: boolean;
}

async function runScrub(given: ScrubFlags): Promise<void> {
  const minAgeMs = Number(given.minAgeHours) * HOUR_MS;
  if (!(minAgeMs >= 0)) throw new StorageError('invalid', `"${given.minAgeHours}" is no number of hours`);
  const report = await scrub(await openObjectStore(given.remoteStorage), {
    tenantId: given.tenant === undefined ? null : parseTenantId(given.tenant),
    isDeep: given.deep ?? false,
    deleteOrphans: given.deleteOrphans ?? false,
    minAgeMs,
    nowMs: Date.now(),
  });
  const { findings } = report;
  if (findings.some(({ kind }) => kind === 'missing' || kind === 'damaged')) process.exitCode = 1;
  if (given.json) return printJson(report);
  print(
    findings.map(
      ({ kind, key, sizeBytes, detail, deleted }) =>
        `${kind}${deleted ? ' (deleted)' : ''} ${key} ${sizeBytes}: ${detail}`,
    ),
  );
  const { tenantCount, timelineCount, layerCount, layerBytes } = report;
  const seen = `${tenantCount} tenants, ${timelineCount} timelines, ${layerCount} layers, ${layerBytes} bytes`;
  print([`${seen}: ${findings.length === 0 ? 'all is well' : `${findings.length} findings`}`]);
}

await runMain(async (argv) => {
  const program = new Command('pageserver-tool').description('tools of the page server').version(VERSION);
  addLayerCommands(program);
  program
    .command('scrub')
    .description('compares the indexes of an object store with its objects: missing, damaged, orphan, unknown')
    .requiredOption('--remote-storage <url>', 'object store: file:///dir or s3://bucket/prefix')
    .option('--tenant <id>', 'this tenant only')
    .option('--deep', 'reads every layer and compares its checksum')
    .option('--delete-orphans', 'deletes orphans that are old enough, and of a generation that has passed')
    .option('--min-age-hours <hours>', 'age from which an orphan may be deleted', '24')
    .option('--json', 'as JSON')
    .action(runScrub);
  await program.parseAsync([...argv], { from: 'user' });
});
