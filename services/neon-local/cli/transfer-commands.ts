/** neon snapshot push, pull, import, export: they start an operation and show how far it is. Ctrl-C stops it. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { Operation, StartTransferRequest, TransferServiceClient } from '#gen/neon/control/v1/transfer.js';
import { StorageError } from '#shared/core/errors.js';
import { callUnary } from '#shared/rpc/client.js';
import { bar, Rate } from '../core/rate.js';
import { addTenantOption, wantName } from './arguments.js';
import { LONG_DEADLINE_MS, openRepo, withTransfers } from './client.js';
import type { GlobalOptions } from './client.js';
import { formatBytes, printJson, say } from './output.js';
import { addS3Options, s3Options } from './s3-options.js';
import type { S3Flags } from './s3-options.js';

const POLL_MS = 200;
const BAR_WIDTH = 24;
/** A daemon that is busy on a busy machine may take its time; the transfer goes on anyway. */
const POLL_DEADLINE_MS = 60_000;

function progressLine(operation: Operation, rate: Rate): string {
  const done = Number(operation.doneBytes);
  const total = Number(operation.totalBytes);
  const left = rate.secondsLeft(total);
  const parts = [
    operation.phase || operation.kind,
    ...(total > 0 ? [bar(done / total, BAR_WIDTH), `${Math.min(100, Math.floor((100 * done) / total))} %`] : []),
    formatBytes(done) + (total > 0 ? ` of ${formatBytes(total)}` : ''),
    `${formatBytes(Math.round(rate.bytesPerS))}/s`,
    ...(left === null ? [] : [`${Math.ceil(left)} s left`]),
    ...(operation.reusedBytes > 0n ? [`${formatBytes(operation.reusedBytes)} were there`] : []),
  ];
  return parts.join('  ');
}

async function follow(client: TransferServiceClient, first: Operation, isShown: boolean): Promise<Operation> {
  const rate = new Rate();
  let operation = first;
  const stop = () => void callUnary(client, client.cancelOperation, { id: first.id }).catch(() => undefined);
  process.once('SIGINT', stop);
  try {
    while (operation.state === 'running') {
      await new Promise((done) => setTimeout(done, POLL_MS));
      const asked = callUnary(client, client.getOperation, { id: first.id }, { deadlineMs: POLL_DEADLINE_MS });
      operation = (await asked).operation ?? operation;
      rate.add(Date.now(), Number(operation.doneBytes));
      if (isShown) process.stderr.write(`\r\x1b[K${progressLine(operation, rate)}`);
    }
  } finally {
    process.off('SIGINT', stop);
    if (isShown) process.stderr.write('\r\x1b[K');
  }
  return operation;
}

async function runTransfer(options: GlobalOptions, transfer: StartTransferRequest['transfer']): Promise<void> {
  await withTransfers(openRepo(options), async (client) => {
    const started = await callUnary(client, client.startTransfer, { transfer }, { deadlineMs: LONG_DEADLINE_MS });
    if (!started.operation) throw new StorageError('internal', 'the daemon answered without an operation');
    const isShown = process.stderr.isTTY && !options.quiet && !options.json;
    const ended = await follow(client, started.operation, isShown);
    if (ended.state !== 'done') throw new StorageError('unavailable', ended.error || ended.state);
    if (options.json) printJson(ended);
    else say(ended.result);
  });
}

interface Where extends S3Flags {
  readonly name?: string;
  readonly to?: string;
  readonly from?: string;
  readonly branch?: string;
  readonly storage?: string;
  readonly tenantId?: string;
}

/** A URL as it is; a path made absolute. */
function place(text: string | undefined, what: string): string {
  if (text === undefined) throw new StorageError('invalid', `${what}? give s3://bucket/prefix or a path`);
  return text.includes('://') ? text : resolve(text);
}

function addPushAndPull(snapshot: Command, options: () => GlobalOptions): void {
  addS3Options(addTenantOption(snapshot.command('push [name]')))
    .description(
      'write a snapshot into another storage, complete in itself; what is there already is not written again',
    )
    .option('-n, --name <name>', 'the snapshot')
    .option('--to <url>', 's3://bucket/prefix?endpoint=URL, or a directory')
    .action(async (positional: string | undefined, given: Where) => {
      const names = { snapshot: wantName('snapshot', positional, given.name), tenantId: given.tenantId ?? '' };
      const toUrl = place(given.to, 'push where to');
      await runTransfer(options(), { $case: 'push', value: { ...names, toUrl, s3: await s3Options(given) } });
    });
  addS3Options(addTenantOption(snapshot.command('pull [name]')))
    .description('make a branch of a snapshot that was pushed; nothing else than that storage is needed')
    .option('-n, --name <name>', 'the snapshot')
    .option('--from <url>', 's3://bucket/prefix?endpoint=URL, or a directory')
    .option(
      '-b, --branch <name>',
      'name of the new branch; default: that of the branch it was made from, or of the snapshot',
    )
    .option('-s, --storage <name>', 'storage to pull into')
    .action(async (positional: string | undefined, given: Where) => {
      const names = { snapshot: wantName('snapshot', positional, given.name), tenantId: given.tenantId ?? '' };
      const target = { branchName: given.branch ?? '', storageName: given.storage ?? '' };
      const fromUrl = place(given.from, 'pull where from');
      const value = { ...names, ...target, fromUrl, s3: await s3Options(given) };
      await runTransfer(options(), { $case: 'pull', value });
    });
}

function addImportAndExport(snapshot: Command, options: () => GlobalOptions): void {
  addTenantOption(snapshot.command('import [branch]'))
    .description(
      'make a branch of a plain PostgreSQL 15: a running server, a data directory of a stopped one, or a tar',
    )
    .option('-n, --name <branch>', 'name of the new branch')
    .option('--from <source>', 'basebackup://user@host:port/, a directory, or a tar file')
    .option('-s, --storage <name>', 'storage to import into')
    .action(async (positional: string | undefined, given: Where) => {
      const names = { branchName: wantName('branch', positional, given.name), tenantId: given.tenantId ?? '' };
      const from = place(given.from, 'import what');
      await runTransfer(options(), { $case: 'import', value: { ...names, storageName: given.storage ?? '', from } });
    });
  addTenantOption(snapshot.command('export [name]'))
    .description('write a snapshot, or the head of a branch, as files of plain PostgreSQL')
    .option('-n, --name <name>', 'the snapshot; default: the head of the branch')
    .option('-b, --branch <branch>', 'branch; default: main')
    .option('--format <format>', 'tar, pgdata (a data directory) or dump (SQL of pg_dumpall)', 'tar')
    .option('--to <path>', 'file or directory; it must not exist')
    .action(async (positional: string | undefined, given: Where & { format: string }) => {
      const names = {
        snapshot: positional ?? given.name ?? '',
        branchName: given.branch ?? '',
        tenantId: given.tenantId ?? '',
      };
      const toPath = place(given.to, 'export where to');
      await runTransfer(options(), { $case: 'export', value: { ...names, format: given.format, toPath } });
    });
}

export function addTransferCommands(snapshot: Command, options: () => GlobalOptions): void {
  addPushAndPull(snapshot, options);
  addImportAndExport(snapshot, options);
}
