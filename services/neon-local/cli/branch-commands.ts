/** neon branch, neon pitr. */
import type { Command } from 'commander';
import type { Branch } from '#gen/neon/control/v1/control.js';
import type { DiffBranchesResponse } from '#gen/neon/control/v1/branch.js';
import { StorageError } from '#shared/core/errors.js';
import { callUnary } from '#shared/rpc/client.js';
import { parseBytes, parseDurationS } from '../core/time-text.js';
import { lsnText } from '../io/daemon.js';
import { addPointOptions, addTenantOption, pointOf, wantName } from './arguments.js';
import type { PointOptions } from './arguments.js';
import { LONG_DEADLINE_MS, openRepo, withBranches, withDaemon } from './client.js';
import type { GlobalOptions } from './client.js';
import { askOrRead, offlineBranches } from './offline.js';
import {
  formatBytes,
  formatDuration,
  formatTime,
  printFields,
  printJson,
  printLine,
  printList,
  printTable,
  say,
} from './output.js';

interface TenantOption {
  readonly tenantId?: string;
}

function branchRow(branch: Branch, depthByName: Map<string, number>): string[] {
  const depth = branch.parentName === '' ? 0 : (depthByName.get(branch.parentName) ?? 0) + 1;
  depthByName.set(branch.name, depth);
  const indent = depth === 0 ? '' : `${'  '.repeat(depth - 1)}└ `;
  const parent = branch.parentName === '' ? '-' : `${branch.parentName} @ ${lsnText(branch.parentLsn)}`;
  return [
    indent + branch.name,
    branch.timelineId,
    parent,
    lsnText(branch.lastRecordLsn),
    branch.logicalSizeBytes === 0n ? '-' : formatBytes(branch.logicalSizeBytes),
    formatTime(branch.createdAtMs),
  ];
}

function branchTable(branches: readonly Branch[]): void {
  const depths = new Map<string, number>();
  const rows = branches.map((entry) => branchRow(entry, depths));
  printTable(['BRANCH', 'TIMELINE', 'PARENT', 'LAST LSN', 'SIZE', 'CREATED (UTC)'], rows);
}

function addCreate(branch: Command, options: () => GlobalOptions): void {
  const create = branch.command('create [name]').description('make a branch of another one, now or in its past');
  addTenantOption(addPointOptions(create, '; default: the parent as it is now'))
    .option('-n, --name <name>', 'its name')
    .option('--from <branch>', 'parent; default: main, or the branch of the snapshot')
    .option('-s, --storage <name>', 'storage on which the parent lies; default: that of the tenant')
    .action(
      async (
        positional: string | undefined,
        given: PointOptions & TenantOption & { name?: string; from?: string; storage?: string },
      ) => {
        const name = wantName('branch', positional, given.name);
        const where = { tenantId: given.tenantId ?? '', from: given.from ?? '', storageName: given.storage ?? '' };
        const response = await withDaemon(openRepo(options()), (client) =>
          callUnary(
            client,
            client.createBranch,
            { name, ...where, ...pointOf(given) },
            { deadlineMs: LONG_DEADLINE_MS },
          ),
        );
        if (options().json) printJson(response.branch);
        else printLine(`${name} @ ${lsnText(response.branch?.parentLsn ?? 0n)}`);
      },
    );
}

function addListAndShow(branch: Command, options: () => GlobalOptions): void {
  addTenantOption(branch.command('list').alias('tree'))
    .description('all branches of a tenant, as a tree')
    .option('--all', 'branches of all tenants')
    .action(async (given: TenantOption & { all?: boolean }) => {
      const repo = openRepo(options());
      const request = { tenantId: given.tenantId ?? '', allTenants: given.all ?? false };
      const ask = () =>
        withDaemon(repo, async (client) => (await callUnary(client, client.listBranches, request)).branches);
      const read = (catalog: Parameters<typeof offlineBranches>[0]) => offlineBranches(catalog, request.tenantId);
      printList(options(), await askOrRead(repo, ask, read), branchTable);
    });
  addTenantOption(branch.command('show [name]'))
    .description('one branch')
    .option('-n, --name <name>', 'its name')
    .action(async (positional: string | undefined, given: TenantOption & { name?: string }) => {
      const request = { name: wantName('branch', positional, given.name), tenantId: given.tenantId ?? '' };
      const { branch: found } = await withBranches(openRepo(options()), (client) =>
        callUnary(client, client.getBranch, request),
      );
      if (options().json || !found) return printJson(found);
      printFields([
        ['branch', found.name],
        ['tenant', found.tenantId],
        ['timeline', found.timelineId],
        ['storage', found.storageName],
        ['parent', found.parentName === '' ? '-' : `${found.parentName} @ ${lsnText(found.parentLsn)}`],
        ['last LSN', lsnText(found.lastRecordLsn)],
        ['size', formatBytes(found.logicalSizeBytes)],
        ['snapshots', found.snapshotNames.join(', ') || '-'],
        ['created', formatTime(found.createdAtMs)],
      ]);
    });
}

function addDeleteAndRename(branch: Command, options: () => GlobalOptions): void {
  addTenantOption(branch.command('delete [name]'))
    .description('delete a branch with its data')
    .option('-n, --name <name>', 'its name')
    .option('--force', 'stop and forget computes on it, too')
    .action(async (positional: string | undefined, given: TenantOption & { name?: string; force?: boolean }) => {
      const name = wantName('branch', positional, given.name);
      const request = { name, tenantId: given.tenantId ?? '', force: given.force ?? false };
      await withBranches(openRepo(options()), (client) =>
        callUnary(client, client.deleteBranch, request, { deadlineMs: LONG_DEADLINE_MS }),
      );
      if (options().json) printJson({ name });
      else say(`deleted branch "${name}"`);
    });
  addTenantOption(branch.command('rename <name> <new-name>'))
    .description('give a branch another name')
    .action(async (name: string, newName: string, given: TenantOption) => {
      const { branch: renamed } = await withBranches(openRepo(options()), (client) =>
        callUnary(client, client.renameBranch, { name, newName, tenantId: given.tenantId ?? '' }),
      );
      if (options().json) printJson(renamed);
      else say(`branch "${name}" is called "${newName}" now`);
    });
}

function printDiff(diff: DiffBranchesResponse): void {
  const common = diff.commonBranchName === '' ? 'nothing' : `${diff.commonBranchName} up to ${lsnText(diff.commonLsn)}`;
  printLine(`in common: ${common}`);
  const sides = [diff.left, diff.right].flatMap((side) => (side ? [side] : []));
  printTable(
    ['BRANCH', 'HEAD', 'WAL SINCE', 'SIZE'],
    sides.map((side) => [
      side.name,
      lsnText(side.headLsn),
      formatBytes(side.walBytes),
      formatBytes(side.logicalSizeBytes),
    ]),
  );
  if (diff.schemaDiff !== '') process.stdout.write(`\n${diff.schemaDiff}`);
}

function addResetAndDiff(branch: Command, options: () => GlobalOptions): void {
  const reset = branch
    .command('reset [name]')
    .description(
      'make a branch what its parent is now, or what it was at a point of history; its compute is started anew',
    );
  addTenantOption(addPointOptions(reset, '; default: the head of the parent'))
    .option('-n, --name <name>', 'its name')
    .option('--preserve-as <name>', 'keep what it is now as a branch')
    .action(
      async (
        positional: string | undefined,
        given: PointOptions & TenantOption & { name?: string; preserveAs?: string },
      ) => {
        const name = wantName('branch', positional, given.name);
        const which = { name, tenantId: given.tenantId ?? '', preserveAs: given.preserveAs ?? '' };
        const answer = await withBranches(openRepo(options()), (client) =>
          callUnary(client, client.resetBranch, { ...which, to: pointOf(given) }, { deadlineMs: LONG_DEADLINE_MS }),
        );
        if (options().json) return printJson(answer);
        const kept = answer.preservedAs === '' ? '' : `; what it was is branch "${answer.preservedAs}"`;
        const { branch: now } = answer;
        say(`branch "${name}" begins at ${now?.parentName} @ ${lsnText(now?.parentLsn ?? 0n)} now${kept}`);
      },
    );
  addTenantOption(branch.command('diff <name> [other]'))
    .description('what two branches have in common, and how much each wrote since; without another: its parent')
    .option('--schema', 'show how their schemas differ, too (starts computes where none runs)')
    .action(async (name: string, other: string | undefined, given: TenantOption & { schema?: boolean }) => {
      const request = {
        ...{ name, otherName: other ?? '', tenantId: given.tenantId ?? '' },
        withSchema: given.schema ?? false,
      };
      const diff = await withBranches(openRepo(options()), (client) =>
        callUnary(client, client.diffBranches, request, { deadlineMs: LONG_DEADLINE_MS }),
      );
      if (options().json) printJson(diff);
      else printDiff(diff);
    });
}

export function addBranchCommands(program: Command, options: () => GlobalOptions): void {
  const branch = program.command('branch').description('branches: each is a history of its own, made in no time');
  addCreate(branch, options);
  addListAndShow(branch, options);
  addDeleteAndRename(branch, options);
  addResetAndDiff(branch, options);
}

interface PitrOptions extends TenantOption {
  readonly keep?: string;
  readonly size?: string;
  readonly reset?: boolean;
}

export function addPitrCommands(program: Command, options: () => GlobalOptions): void {
  const pitr = program
    .command('pitr')
    .description('point in time recovery: how much history a branch keeps (what either rule keeps is kept)');
  addTenantOption(pitr.command('show [branch]', { isDefault: true }))
    .description('the policy of a branch')
    .action(async (branchName: string | undefined, given: TenantOption) => {
      const request = { branchName: branchName ?? '', tenantId: given.tenantId ?? '' };
      const answer = await withBranches(openRepo(options()), (client) =>
        callUnary(client, client.getRetention, request),
      );
      if (options().json) return printJson(answer);
      printFields([
        ['branch', answer.branchName],
        ['time', formatDuration(answer.retention?.timeS ?? 0)],
        ['size', formatBytes(answer.retention?.sizeBytes ?? 0n)],
        ['set', answer.isSet ? 'for this branch' : 'no, the default'],
        ['oldest', lsnText(answer.oldestLsn)],
      ]);
    });
  addTenantOption(pitr.command('set [branch]'))
    .description('set the policy of a branch; history that is not kept any more is given up at once')
    .option('--keep <time>', 'such as 12h or 7d')
    .option('--size <bytes>', 'WAL, such as 500MB')
    .option('--reset', 'back to the default')
    .action(async (branchName: string | undefined, given: PitrOptions) => {
      if (given.keep === undefined && given.size === undefined && !given.reset) {
        throw new StorageError('invalid', 'set what? give --keep, --size or --reset');
      }
      const request = {
        ...{ branchName: branchName ?? '', tenantId: given.tenantId ?? '', reset: given.reset ?? false },
        timeS: given.keep === undefined ? undefined : parseDurationS(given.keep),
        sizeBytes: given.size === undefined ? undefined : BigInt(parseBytes(given.size)),
      };
      const answer = await withBranches(openRepo(options()), (client) =>
        callUnary(client, client.setRetention, request, { deadlineMs: LONG_DEADLINE_MS }),
      );
      if (options().json) return printJson(answer);
      const { timeS = 0, sizeBytes = 0n } = answer.retention ?? {};
      say(
        `kept are ${formatDuration(timeS)} and ${formatBytes(sizeBytes)} of WAL; the oldest position is ${lsnText(answer.oldestLsn)}`,
      );
    });
}
