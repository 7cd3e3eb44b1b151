/** neon snapshot. */
import type { Command } from 'commander';
import type { Snapshot } from '#gen/neon/control/v1/snapshot.js';
import { callUnary } from '#shared/rpc/client.js';
import { lsnText } from '../io/daemon.js';
import { addTenantOption, pointOf, wantName } from './arguments.js';
import type { PointOptions } from './arguments.js';
import { LONG_DEADLINE_MS, openRepo, withSnapshots } from './client.js';
import type { GlobalOptions } from './client.js';
import { askOrRead, offlineSnapshots } from './offline.js';
import { formatBytes, formatTime, printFields, printJson, printList, printTable, say } from './output.js';
import { addTransferCommands } from './transfer-commands.js';

interface Named {
  readonly name?: string;
  readonly tenantId?: string;
}

function snapshotTable(snapshots: readonly Snapshot[]): void {
  printTable(
    ['SNAPSHOT', 'BRANCH', 'LSN', 'LAST COMMIT (UTC)', 'SIZE', 'CREATED (UTC)'],
    snapshots.map((entry) => [
      entry.name,
      entry.branchName,
      lsnText(entry.lsn),
      formatTime(entry.timeMs),
      entry.logicalSizeBytes === 0n ? '-' : formatBytes(entry.logicalSizeBytes),
      formatTime(entry.createdAtMs),
    ]),
  );
}

function addCreateAndDestroy(snapshot: Command, options: () => GlobalOptions): void {
  addTenantOption(snapshot.command('create [name]'))
    .description('name a point of history and keep it; nothing is copied')
    .option('-n, --name <name>', 'its name')
    .option('-b, --branch <branch>', 'branch; default: main')
    .option('--lsn <lsn>', 'position in WAL; default: the head of the branch')
    .option('--time <time>', 'last commit at or before: "2026-11-29 03:15:00" (UTC), or "5m ago"')
    .action(async (positional: string | undefined, given: Named & PointOptions & { branch?: string }) => {
      const name = wantName('snapshot', positional, given.name);
      const request = { name, tenantId: given.tenantId ?? '', branchName: given.branch ?? '', at: pointOf(given) };
      const { snapshot: made } = await withSnapshots(openRepo(options()), (client) =>
        callUnary(client, client.createSnapshot, request, { deadlineMs: LONG_DEADLINE_MS }),
      );
      if (options().json) printJson(made);
      else say(`made snapshot "${name}" of branch "${made?.branchName}" at ${lsnText(made?.lsn ?? 0n)}`);
    });
  addTenantOption(snapshot.command('destroy [name]'))
    .description('destroy a snapshot: its history may go; branches made from it stay')
    .option('-n, --name <name>', 'its name')
    .action(async (positional: string | undefined, given: Named) => {
      const name = wantName('snapshot', positional, given.name);
      await withSnapshots(openRepo(options()), (client) =>
        callUnary(
          client,
          client.destroySnapshot,
          { name, tenantId: given.tenantId ?? '' },
          { deadlineMs: LONG_DEADLINE_MS },
        ),
      );
      if (options().json) printJson({ name });
      else say(`destroyed snapshot "${name}"`);
    });
}

function addListAndShow(snapshot: Command, options: () => GlobalOptions): void {
  addTenantOption(snapshot.command('list'))
    .description('snapshots of a tenant')
    .action(async (given: Named) => {
      const repo = openRepo(options());
      const tenantId = given.tenantId ?? '';
      const ask = () =>
        withSnapshots(repo, async (client) => (await callUnary(client, client.listSnapshots, { tenantId })).snapshots);
      const found = await askOrRead(repo, ask, (catalog) => offlineSnapshots(catalog, tenantId));
      printList(options(), found, snapshotTable);
    });
  addTenantOption(snapshot.command('show [name]'))
    .description('one snapshot')
    .option('-n, --name <name>', 'its name')
    .action(async (positional: string | undefined, given: Named) => {
      const request = { name: wantName('snapshot', positional, given.name), tenantId: given.tenantId ?? '' };
      const { snapshot: found } = await withSnapshots(openRepo(options()), (client) =>
        callUnary(client, client.getSnapshot, request),
      );
      if (options().json || !found) return printJson(found);
      printFields([
        ['snapshot', found.name],
        ['branch', found.branchName],
        ['tenant', found.tenantId],
        ['storage', found.storageName],
        ['LSN', lsnText(found.lsn)],
        ['last commit', formatTime(found.timeMs)],
        ['size', formatBytes(found.logicalSizeBytes)],
        ['created', formatTime(found.createdAtMs)],
      ]);
    });
}

export function addSnapshotCommands(program: Command, options: () => GlobalOptions): void {
  const snapshot = program.command('snapshot').description('snapshots: points of history with a name, which are kept');
  addCreateAndDestroy(snapshot, options);
  addListAndShow(snapshot, options);
  addTransferCommands(snapshot, options);
}
