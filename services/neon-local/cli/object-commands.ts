/** neon tenant, branch, pg. */
import type { Command } from 'commander';
import type { Branch } from '#gen/neon/control/v1/control.js';
import { StorageError } from '#shared/core/errors.js';
import { lsnToWire, parseLsn } from '#shared/core/lsn.js';
import { callUnary } from '#shared/rpc/client.js';
import { lsnText } from '../io/daemon.js';
import { openRepo, withDaemon } from './client.js';
import type { GlobalOptions } from './client.js';
import { formatBytes, printJson, printTable, say } from './output.js';
import { computeRows } from './stack-commands.js';

const CREATE_DEADLINE_MS = 150_000;

function collectSetting(text: string, before: Record<string, string>): Record<string, string> {
  const at = text.indexOf('=');
  if (at < 1) throw new StorageError('invalid', `"${text}" is no setting; write name=value`);
  return { ...before, [text.slice(0, at)]: text.slice(at + 1) };
}

function wantName(kind: string, positional: string | undefined, option: string | undefined): string {
  const name = positional ?? option;
  if (name === undefined) throw new StorageError('invalid', `which ${kind}? name it, such as: main`);
  return name;
}

function addTenantCommands(program: Command, options: () => GlobalOptions): void {
  const tenant = program.command('tenant').description('tenants: each is a set of branches with its own history');
  tenant
    .command('create')
    .description('make a tenant with branch "main"')
    .option('--tenant-id <id>', '32 hex digits; default: random')
    .option('--set-default', 'use it when a command names no tenant')
    .action(async (given: { tenantId?: string; setDefault?: boolean }) => {
      const request = { tenantId: given.tenantId ?? '', setDefault: given.setDefault ?? false, branchName: '' };
      const response = await withDaemon(openRepo(options()), (client) =>
        callUnary(client, client.createTenant, request, { deadlineMs: CREATE_DEADLINE_MS }),
      );
      if (options().json) printJson(response);
      else process.stdout.write(`${response.tenant?.tenantId}\n`);
    });
  tenant
    .command('list')
    .description('all tenants')
    .action(async () => {
      const { tenants } = await withDaemon(openRepo(options()), (client) => callUnary(client, client.listTenants, {}));
      if (options().json) printJson(tenants);
      else
        printTable(
          ['TENANT', 'DEFAULT'],
          tenants.map((entry) => [entry.tenantId, entry.isDefault ? 'yes' : '']),
        );
    });
}

function branchRow(branch: Branch, depthByName: Map<string, number>): string[] {
  const depth = branch.parentName === '' ? 0 : (depthByName.get(branch.parentName) ?? 0) + 1;
  depthByName.set(branch.name, depth);
  const indent = depth === 0 ? '' : `${'  '.repeat(depth - 1)}└ `;
  const parent = branch.parentName === '' ? '-' : `${branch.parentName} @ ${lsnText(branch.parentLsn)}`;
  const created = new Date(Number(branch.createdAtMs)).toISOString().slice(0, 19).replace('T', ' ');
  return [
    indent + branch.name,
    branch.timelineId,
    parent,
    lsnText(branch.lastRecordLsn),
    formatBytes(branch.logicalSizeBytes),
    created,
  ];
}

function addBranchCommands(program: Command, options: () => GlobalOptions): void {
  const branch = program.command('branch').description('branches: each is a history of its own, made in no time');
  branch
    .command('create <name>')
    .description('make a branch of another one, now or in its past')
    .option('--from <branch>', 'parent', 'main')
    .option('--lsn <lsn>', 'branch point, such as 0/1A2B3C8; default: the parent as it is now')
    .option('--tenant-id <id>', 'tenant; default: the default tenant')
    .action(async (name: string, given: { from: string; lsn?: string; tenantId?: string }) => {
      const lsn = given.lsn === undefined ? 0n : lsnToWire(parseLsn(given.lsn));
      const request = { name, tenantId: given.tenantId ?? '', from: given.from, lsn };
      const response = await withDaemon(openRepo(options()), (client) =>
        callUnary(client, client.createBranch, request, { deadlineMs: CREATE_DEADLINE_MS }),
      );
      if (options().json) printJson(response.branch);
      else process.stdout.write(`${name} @ ${lsnText(response.branch?.parentLsn ?? 0n)}\n`);
    });
  branch
    .command('list')
    .description('all branches of a tenant')
    .option('--tenant-id <id>', 'tenant; default: the default tenant')
    .action(async (given: { tenantId?: string }) => {
      const request = { tenantId: given.tenantId ?? '' };
      const { branches } = await withDaemon(openRepo(options()), (client) =>
        callUnary(client, client.listBranches, request),
      );
      if (options().json) return printJson(branches);
      const depths = new Map<string, number>();
      const rows = branches.map((entry) => branchRow(entry, depths));
      printTable(['BRANCH', 'TIMELINE', 'PARENT', 'LAST LSN', 'SIZE', 'CREATED (UTC)'], rows);
    });
}

interface PgCreateOptions {
  readonly name?: string;
  readonly branch?: string;
  readonly port?: number;
  readonly tenantId?: string;
  readonly set: Record<string, string>;
}

function addPgCreate(pg: Command, options: () => GlobalOptions): void {
  pg.command('create [name]')
    .description('register a compute; start it with "neon pg start"')
    .option('-n, --name <name>', 'its name; default: that of the branch')
    .option('-b, --branch <branch>', 'branch; default: the one called as the compute, else main')
    .option('--port <port>', 'port of Postgres; default: a free one', (text) => Number.parseInt(text, 10))
    .option('--tenant-id <id>', 'tenant; default: the default tenant')
    .option('--set <name=value>', 'a setting of Postgres; may be repeated', collectSetting, {})
    .action(async (positional: string | undefined, given: PgCreateOptions) => {
      const name = positional ?? given.name ?? '';
      const compute = await withDaemon(openRepo(options()), async (client) => {
        const tenantId = given.tenantId ?? '';
        const { branches } = await callUnary(client, client.listBranches, { tenantId });
        const branchName = given.branch ?? (branches.some((entry) => entry.name === name) ? name : '');
        const request = { name, tenantId, branchName, pgPort: given.port ?? 0, settings: given.set };
        return (await callUnary(client, client.createCompute, request)).compute;
      });
      if (options().json) printJson(compute);
      else
        say(
          `made compute "${compute?.name}" on branch "${compute?.branchName}"; start it with "neon pg start ${compute?.name}"`,
        );
    });
}

function addPgLifeCycle(pg: Command, options: () => GlobalOptions): void {
  const named = (command: string, description: string) =>
    pg.command(`${command} [name]`).description(description).option('-n, --name <name>', 'name of the compute');
  named('start', 'start a compute and print its connection URL')
    .option('-t, --timeout <seconds>', 'longest wait', (text) => Number.parseFloat(text), 90)
    .action(async (positional: string | undefined, given: { name?: string; timeout: number }) => {
      const timeoutMs = Math.round(given.timeout * 1000);
      const request = { name: wantName('compute', positional, given.name), timeoutMs };
      const { compute } = await withDaemon(openRepo(options()), (client) =>
        callUnary(client, client.startCompute, request, { deadlineMs: timeoutMs + 10_000 }),
      );
      if (options().json) printJson(compute);
      else process.stdout.write(`${compute?.url}\n`);
    });
  named('stop', 'stop a compute and throw its data directory away; the data stays on the branch')
    .option('-m, --mode <mode>', 'fast or immediate', 'fast')
    .action(async (positional: string | undefined, given: { name?: string; mode: string }) => {
      if (given.mode !== 'fast' && given.mode !== 'immediate')
        throw new StorageError('invalid', `mode is fast or immediate`);
      const request = { name: wantName('compute', positional, given.name), immediate: given.mode === 'immediate' };
      const response = await withDaemon(openRepo(options()), (client) =>
        callUnary(client, client.stopCompute, request, { deadlineMs: 90_000 }),
      );
      if (options().json) printJson({ flushLsn: lsnText(response.flushLsn) });
      else say(`stopped compute "${request.name}" at ${lsnText(response.flushLsn)}`);
    });
  named('destroy', 'stop and forget a compute; the branch stays').action(
    async (positional: string | undefined, given: { name?: string }) => {
      const request = { name: wantName('compute', positional, given.name) };
      const { existed } = await withDaemon(openRepo(options()), (client) =>
        callUnary(client, client.destroyCompute, request, { deadlineMs: 90_000 }),
      );
      if (options().json) printJson({ existed });
      else say(existed ? `destroyed compute "${request.name}"` : `there was no compute "${request.name}"`);
    },
  );
  pg.command('list')
    .description('all computes')
    .action(async () => {
      const { computes } = await withDaemon(openRepo(options()), (client) =>
        callUnary(client, client.listComputes, {}),
      );
      if (options().json) printJson(computes);
      else printTable(['COMPUTE', 'BRANCH', 'STATE', 'URL'], computeRows(computes));
    });
}

export function addObjectCommands(program: Command): void {
  const options = () => program.opts<GlobalOptions>();
  addTenantCommands(program, options);
  addBranchCommands(program, options);
  const pg = program.command('pg').description('computes: Postgres servers on a branch');
  addPgCreate(pg, options);
  addPgLifeCycle(pg, options);
}
