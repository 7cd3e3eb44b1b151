/** neon storage, neon tenant. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { Storage } from '#gen/neon/control/v1/storage.js';
import { StorageError } from '#shared/core/errors.js';
import { callUnary } from '#shared/rpc/client.js';
import { findStorage } from '../core/catalog.js';
import { addTenantOption, wantName } from './arguments.js';
import { LONG_DEADLINE_MS, openRepo, withDaemon, withStorages } from './client.js';
import type { GlobalOptions } from './client.js';
import { askOrRead, offlineStorages, offlineTenants } from './offline.js';
import { addS3Options, s3Options } from './s3-options.js';
import type { S3Flags } from './s3-options.js';
import { formatTime, printFields, printJson, printLine, printList, printTable, say, stateText } from './output.js';

interface AttachOptions extends S3Flags {
  readonly name?: string;
  readonly type: string;
  readonly path?: string;
}

async function attachRequest(positional: string | undefined, given: AttachOptions) {
  const name = wantName('storage', positional, given.name);
  if (given.path === undefined) {
    throw new StorageError('invalid', 'where? give a directory, or s3://bucket/prefix, by --path');
  }
  const isS3 = given.type === 's3';
  const path = isS3 || given.path.includes('://') ? given.path : resolve(given.path);
  return { name, type: given.type, path, s3: isS3 ? await s3Options(given) : undefined };
}

function addAttach(storage: Command, options: () => GlobalOptions): void {
  const attach = storage
    .command('attach [name]')
    .description(
      'attach a storage: a directory or an S3 bucket, in which databases can lie; what is in it already is found',
    )
    .option('-n, --name <name>', 'its name')
    .option('-t, --type <type>', 'native (a directory) or s3', 'native')
    .option('-p, --path <path>', 'directory, or s3://bucket/prefix');
  addS3Options(attach).action(async (positional: string | undefined, given: AttachOptions) => {
    const request = await attachRequest(positional, given);
    const answer = await withStorages(openRepo(options()), (client) =>
      callUnary(client, client.attachStorage, request, { deadlineMs: LONG_DEADLINE_MS }),
    );
    if (options().json) return printJson(answer.storage);
    const found = answer.foundBranchCount === 0 ? '' : `; found ${answer.foundBranchCount} branches in it`;
    say(`attached storage "${request.name}" at ${answer.storage?.path}${found}`);
  });
}

function storageTable(storages: readonly Storage[]): void {
  printTable(
    ['STORAGE', 'TYPE', 'STATE', 'BRANCHES', 'COMPUTES', 'PATH'],
    storages.map((entry) => [
      entry.name,
      entry.type,
      stateText(entry.state),
      String(entry.branchCount),
      String(entry.computeCount),
      entry.error === '' ? entry.path : `${entry.path} (${entry.error})`,
    ]),
  );
}

function addListAndShow(storage: Command, options: () => GlobalOptions): void {
  storage
    .command('list')
    .description('all storages')
    .action(async () => {
      const repo = openRepo(options());
      const ask = () =>
        withStorages(repo, async (client) => (await callUnary(client, client.listStorages, {})).storages);
      printList(options(), await askOrRead(repo, ask, offlineStorages), storageTable);
    });
  storage
    .command('show [name]')
    .description('one storage')
    .option('-n, --name <name>', 'its name')
    .action(async (positional: string | undefined, given: { name?: string }) => {
      const name = wantName('storage', positional, given.name);
      const repo = openRepo(options());
      const ask = () =>
        withStorages(repo, async (client) => (await callUnary(client, client.getStorage, { name })).storage);
      const found = await askOrRead(repo, ask, (catalog) => {
        findStorage(catalog, name);
        return offlineStorages(catalog).find((entry) => entry.name === name);
      });
      if (options().json) return printJson(found);
      if (!found) return;
      printFields([
        ['storage', found.name + (found.isDefault ? ' (used when none is named)' : '')],
        ['type', found.type],
        ['path', found.path],
        ['state', stateText(found.state) + (found.error === '' ? '' : `: ${found.error}`)],
        ['tenants', String(found.tenantCount)],
        ['branches', String(found.branchCount)],
        ['computes', String(found.computeCount)],
        ['attached', formatTime(found.createdAtMs)],
      ]);
    });
}

export function addStorageCommands(program: Command, options: () => GlobalOptions): void {
  const storage = program.command('storage').description('storages: where the data of databases lies');
  addAttach(storage, options);
  storage
    .command('detach [name]')
    .description('write everything to a storage, then forget it; the data and its names stay there')
    .option('-n, --name <name>', 'its name')
    .action(async (positional: string | undefined, given: { name?: string }) => {
      const name = wantName('storage', positional, given.name);
      const answer = await withStorages(openRepo(options()), (client) =>
        callUnary(client, client.detachStorage, { name }, { deadlineMs: LONG_DEADLINE_MS }),
      );
      if (options().json) printJson(answer);
      else
        say(`detached storage "${name}" with ${answer.branchCount} branches; "neon storage attach" brings them back`);
    });
  addListAndShow(storage, options);
}

export function addTenantCommands(program: Command, options: () => GlobalOptions): void {
  const tenant = program
    .command('tenant')
    .description('tenants: each is a set of branches with a history of their own');
  addTenantOption(tenant.command('create'))
    .description('make a tenant with branch "main"')
    .option('--set-default', 'use it when a command names no tenant')
    .option('-s, --storage <name>', 'storage; default: "default"')
    .action(async (given: { tenantId?: string; setDefault?: boolean; storage?: string }) => {
      const request = {
        ...{ tenantId: given.tenantId ?? '', setDefault: given.setDefault ?? false, branchName: '' },
        storageName: given.storage ?? '',
      };
      const response = await withDaemon(openRepo(options()), (client) =>
        callUnary(client, client.createTenant, request, { deadlineMs: LONG_DEADLINE_MS }),
      );
      if (options().json) printJson(response);
      else printLine(response.tenant?.tenantId ?? '');
    });
  tenant
    .command('list')
    .description('all tenants')
    .action(async () => {
      const repo = openRepo(options());
      const ask = () => withDaemon(repo, async (client) => (await callUnary(client, client.listTenants, {})).tenants);
      const tenants = await askOrRead(repo, ask, offlineTenants);
      if (options().json) return printJson(tenants);
      printTable(
        ['TENANT', 'STORAGE', 'DEFAULT'],
        tenants.map((entry) => [entry.tenantId, entry.storageName, entry.isDefault ? 'yes' : '']),
      );
    });
}
