/** neon init, start, stop, status, up. */
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { Command } from 'commander';
import type { GetStatusResponse } from '#gen/neon/control/v1/control.js';
import { StorageError } from '#shared/core/errors.js';
import { ensureDir, pathExists } from '#shared/io/files.js';
import { callUnary } from '#shared/rpc/client.js';
import { DEFAULT_STORAGE } from '../core/catalog-schema.js';
import { s3Keys } from '../core/s3-place.js';
import { CONFIG_VERSION, parseAdvertised, SAFEKEEPER_COUNT_MAX, SUSPEND_AFTER_S } from '../core/stack-config.js';
import type { StackConfig } from '../core/stack-config.js';
import { parseDurationS } from '../core/time-text.js';
import type { RepoDir } from '../io/repo-dir.js';
import { integerIn, portNumber } from './arguments.js';
import { openRepo, pingDaemon, withDaemon } from './client.js';
import type { GlobalOptions } from './client.js';
import { printJson, printTable, say, stateText } from './output.js';
import { addS3Keys, s3Options } from './s3-options.js';
import type { S3Flags } from './s3-options.js';
import { computeTable } from './pg-commands.js';
import { runUp } from './up.js';

const START_TIMEOUT_MS = 120_000;
const STOP_TIMEOUT_MS = 120_000;
const POLL_MS = 50;

/** The image that deploy/bootstrap makes; next to the compiled services. */
const DEFAULT_IMAGE = fileURLToPath(new URL('../../../initdb-15.tar', import.meta.url));

export interface InitOptions extends S3Flags {
  readonly safekeepers?: number;
  readonly remoteStorage?: string;
  readonly initdbImage?: string;
  readonly freePorts?: boolean;
  readonly restPort?: number;
  readonly grpcPort?: number;
  readonly connectPort?: number;
  readonly suspendAfter?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly advertise?: readonly string[];
}

function tlsFiles({ tlsCert, tlsKey }: InitOptions): StackConfig['tls'] {
  if (tlsCert === undefined && tlsKey === undefined) return null;
  if (tlsCert === undefined || tlsKey === undefined) {
    throw new StorageError('invalid', 'give both, --tls-cert and --tls-key, or none of them');
  }
  return { certPath: resolve(tlsCert), keyPath: resolve(tlsKey) };
}

/** Makes the stack's directory; does nothing when it exists. Returns whether it was made. */
export async function initRepo(repo: RepoDir, options: InitOptions): Promise<boolean> {
  if (await repo.isInitialised()) return false;
  const initdbImage = options.initdbImage ?? DEFAULT_IMAGE;
  if (!(await pathExists(initdbImage))) {
    throw new StorageError('precondition', `the initdb image ${initdbImage} is missing; make it with "npm run setup"`);
  }
  const keys = s3Keys(await s3Options(options));
  await ensureDir(repo.path);
  if (keys !== undefined) await repo.saveCredentials(DEFAULT_STORAGE, keys);
  await repo.init({
    version: CONFIG_VERSION,
    safekeeperCount: options.safekeepers ?? 3,
    remoteStorage: options.remoteStorage ?? pathToFileURL(join(repo.path, 'storage')).href,
    initdbImage,
    freePorts: options.freePorts ?? false,
    ports: { rest: options.restPort ?? 0, grpc: options.grpcPort ?? 0, connect: options.connectPort ?? 0 },
    suspendAfterS: options.suspendAfter === undefined ? SUSPEND_AFTER_S : parseDurationS(options.suspendAfter),
    tls: tlsFiles(options),
    advertise: parseAdvertised(options.advertise ?? []),
  });
  return true;
}

async function startDaemon(repo: RepoDir): Promise<void> {
  await repo.config();
  if (await pingDaemon(repo)) {
    say(`the stack in ${repo.path} is running already`);
    return;
  }
  const script = fileURLToPath(new URL('../main.js', import.meta.url));
  const logPath = repo.logPath('daemon');
  const logFile = openSync(logPath, 'a', 0o600);
  const child = spawn(process.execPath, [script, '--repo-dir', repo.path], {
    detached: true,
    stdio: ['ignore', logFile, logFile],
  });
  closeSync(logFile);
  let exitCode: number | null = null;
  child.on('exit', (code) => (exitCode = code ?? 1));
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (!(await pingDaemon(repo))) {
    if (exitCode !== null) throw new StorageError('unavailable', `the stack did not start; see ${logPath}`);
    if (Date.now() > deadline)
      throw new StorageError('unavailable', `the stack did not answer in time; see ${logPath}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  child.unref();
  say(`started the stack in ${repo.path}`);
}

async function stopDaemon(repo: RepoDir): Promise<void> {
  const info = await repo.daemon();
  if (info === null || !(await pingDaemon(repo))) {
    say(`the stack in ${repo.path} is not running`);
    return;
  }
  await withDaemon(repo, (client) => callUnary(client, client.shutdown, {}));
  const deadline = Date.now() + STOP_TIMEOUT_MS;
  while (await pathExists(join(repo.path, 'LOCK'))) {
    if (Date.now() > deadline) throw new StorageError('unavailable', `process ${info.pid} did not stop in time`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  say(`stopped the stack in ${repo.path}`);
}

/** How to reach any branch. */
export function connectHint(connectAddr: string): string {
  const [host, port] = connectAddr.split(':');
  return `psql "host=${host} port=${port} user=cloud_admin dbname=postgres options=branch=main"`;
}

export function printStatus(status: GetStatusResponse): void {
  const rows = status.services.map((service) => [
    service.name,
    stateText(service.state),
    service.pid === 0 ? '-' : String(service.pid),
    service.grpcAddr,
    service.httpAddr || '-',
    service.pgAddr || '-',
    String(service.restartCount),
  ]);
  printTable(['SERVICE', 'STATE', 'PID', 'GRPC', 'HTTP', 'POSTGRES', 'RESTARTS'], rows);
  if (status.restUrl !== '')
    process.stdout.write(`\nREST: ${status.restUrl}  (OpenAPI: ${status.restUrl}/openapi.json)\n`);
  if (status.connectAddr !== '') process.stdout.write(`connect: ${connectHint(status.connectAddr)}\n`);
  if (status.computes.length > 0) {
    process.stdout.write('\n');
    computeTable(status.computes);
  }
}

async function showStatus(repo: RepoDir, json: boolean): Promise<void> {
  const status = await withDaemon(repo, (client) => callUnary(client, client.getStatus, {}));
  if (json) printJson(status);
  else printStatus(status);
}

function addInit(program: Command, options: () => GlobalOptions): void {
  addS3Keys(program.command('init'))
    .description('make the directory of a new stack')
    .option(
      '--safekeepers <count>',
      `number of safekeepers, 1 to ${SAFEKEEPER_COUNT_MAX}; default: 3`,
      integerIn(1, SAFEKEEPER_COUNT_MAX),
    )
    .option(
      '--remote-storage <url>',
      'object store of storage "default": file:///dir or s3://bucket/prefix?endpoint=URL; default: a local directory',
    )
    .option('--initdb-image <path>', 'tar that new tenants begin from; default: the one made by the set-up')
    .option('--free-ports', 'any free ports instead of the well-known ones')
    .option('--rest-port <port>', 'port of REST; default: 3000, or a free one', portNumber)
    .option('--grpc-port <port>', 'port of gRPC; default: 3001, or a free one', portNumber)
    .option('--connect-port <port>', 'port of Postgres for all branches; default: 5432, or a free one', portNumber)
    .option(
      '--suspend-after <time>',
      'suspend computes that the connect port started after this time without activity; default: 5m',
    )
    .option('--tls-cert <path>', 'certificate of the connect port, PEM; default: a self-signed one is made')
    .option('--tls-key <path>', 'its key, PEM')
    .option(
      '--advertise <endpoint=host:port...>',
      'where computes and other services reach an endpoint, when that is not where it listens (a forwarder, a published port): safekeeper-1.grpc=HOST:PORT, pageserver.pg=…, pageserver.grpc=…, storage-broker.grpc=…',
    )
    .action(async (given: InitOptions) => {
      const repo = openRepo(options());
      const made = await initRepo(repo, given);
      say(
        made ? `made a stack in ${repo.path}; start it with "neon start"` : `there is a stack in ${repo.path} already`,
      );
    });
}

export function addStackCommands(program: Command, options: () => GlobalOptions): void {
  addInit(program, options);
  program
    .command('start')
    .description('start the storage services in the background')
    .action(() => startDaemon(openRepo(options())));
  program
    .command('stop')
    .description('stop all computes and services')
    .action(() => stopDaemon(openRepo(options())));
  program
    .command('status')
    .description('services, ports, computes')
    .action(() => showStatus(openRepo(options()), options().json ?? false));
  program
    .command('up')
    .description(
      'in the foreground: make what is missing, start everything with a compute on branch main, print its URL',
    )
    .option('--port <port>', 'port of Postgres', portNumber)
    .action(async (given: { port?: number }) => {
      const repo = openRepo(options());
      await initRepo(repo, {});
      await runUp(repo, given.port ?? 0);
    });
}
