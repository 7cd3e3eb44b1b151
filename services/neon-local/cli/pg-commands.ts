/** neon pg. */
import type { Command } from 'commander';
import type { Compute } from '#gen/neon/control/v1/control.js';
import { StorageError } from '#shared/core/errors.js';
import { callUnary } from '#shared/rpc/client.js';
import { findCompute } from '../core/catalog.js';
import { parseCuRange } from '../core/autoscaling.js';
import type { CuRange } from '../core/autoscaling.js';
import { parseDurationS } from '../core/time-text.js';
import { lsnText } from '../io/daemon.js';
import {
  addPointOptions,
  addTenantOption,
  pointOf,
  portNumber,
  SIZE_HELP,
  sizeMessage,
  wantName,
} from './arguments.js';
import type { PointOptions } from './arguments.js';
import { LONG_DEADLINE_MS, openRepo, withBranches, withDaemon } from './client.js';
import type { GlobalOptions } from './client.js';
import { askOrRead, offlineComputes } from './offline.js';
import { formatDuration, printFields, printJson, printLine, printList, printTable, say, stateText } from './output.js';

interface Named {
  readonly name?: string;
}

function sizeText(compute: Compute): string {
  const { autoscalingLimitMinCu: min, autoscalingLimitMaxCu: max, currentCu } = compute;
  if (max === 0) return 'not limited';
  const bounds = min === max ? `${max} CU` : `${min} to ${max} CU`;
  return currentCu === 0 ? bounds : `${bounds}, now ${currentCu}`;
}

function collectSetting(text: string, before: Record<string, string>): Record<string, string> {
  const at = text.indexOf('=');
  if (at < 1) throw new StorageError('invalid', `"${text}" is no setting; write name=value`);
  return { ...before, [text.slice(0, at)]: text.slice(at + 1) };
}

export function computeTable(computes: readonly Compute[]): void {
  printTable(
    ['COMPUTE', 'BRANCH', 'STORAGE', 'STATE', 'URL'],
    computes.map((compute) => [
      compute.name,
      compute.branchName,
      compute.storageName,
      stateText(compute.state) + (compute.isReplica ? ' (replica)' : ''),
      compute.url || compute.error || '-',
    ]),
  );
}

interface PgCreateOptions extends Named {
  readonly branch?: string;
  readonly storage?: string;
  readonly port?: number;
  readonly tenantId?: string;
  readonly suspendAfter?: string;
  readonly cu?: CuRange;
  readonly set: Record<string, string>;
}

function addCreate(pg: Command, options: () => GlobalOptions): void {
  addTenantOption(pg.command('create [name]'))
    .description(
      'register a compute; start it with "neon pg start". With a storage and no branch it gets a database of its own there',
    )
    .option('-n, --name <name>', 'its name; default: that of the branch')
    .option('-b, --branch <branch>', 'branch; default: the one called as the compute, else main')
    .option('-s, --storage <name>', 'storage in which its data lies; default: that of the tenant')
    .option('--port <port>', 'port of Postgres; default: a free one', portNumber)
    .option('--suspend-after <time>', 'suspend it after this time without activity, such as 5m; default: never')
    .option('--cu <size>', SIZE_HELP, parseCuRange)
    .option('--set <name=value>', 'a setting of Postgres; may be repeated', collectSetting, {})
    .action(async (positional: string | undefined, given: PgCreateOptions) => {
      const name = positional ?? given.name ?? '';
      const compute = await withDaemon(openRepo(options()), async (client) => {
        const tenantId = given.tenantId ?? '';
        const request = {
          ...{ name, tenantId, storageName: given.storage ?? '', pgPort: given.port ?? 0, settings: given.set },
          branchName: given.branch ?? '',
          suspendAfterS: given.suspendAfter === undefined ? 0 : Math.ceil(parseDurationS(given.suspendAfter)),
          ...sizeMessage(given.cu),
        };
        return (await callUnary(client, client.createCompute, request, { deadlineMs: LONG_DEADLINE_MS })).compute;
      });
      if (options().json) return printJson(compute);
      const next = `start it with "neon pg start ${compute?.name}"`;
      say(
        `made compute "${compute?.name}" on branch "${compute?.branchName}" of storage "${compute?.storageName}"; ${next}`,
      );
    });
}

function named(pg: Command, command: string, description: string): Command {
  return pg.command(`${command} [name]`).description(description).option('-n, --name <name>', 'name of the compute');
}

interface PgStartOptions {
  readonly timeout: number;
  readonly replica?: boolean;
  readonly cu?: CuRange;
}

function addStartAndStop(pg: Command, options: () => GlobalOptions): void {
  named(pg, 'start', 'start a compute and print its connection URL')
    .option('-t, --timeout <seconds>', 'longest wait', (text) => Number.parseFloat(text), 90)
    .option('--replica', 'as a hot standby, which reads what the primary of the branch writes')
    .option('--cu <size>', `${SIZE_HELP}; default: as before`, parseCuRange)
    .action(async (positional: string | undefined, given: Named & PgStartOptions) => {
      const timeoutMs = Math.round(given.timeout * 1000);
      const isReplica = given.replica ?? false;
      const name = wantName('compute', positional, given.name);
      const request = { name, timeoutMs, isReplica, ...sizeMessage(given.cu) };
      const { compute } = await withDaemon(openRepo(options()), (client) =>
        callUnary(client, client.startCompute, request, { deadlineMs: timeoutMs + 10_000 }),
      );
      if (options().json) printJson(compute);
      else printLine(compute?.url ?? '');
    });
  named(pg, 'promote', 'make a running replica the primary of its branch; the one before is stopped').action(
    async (positional: string | undefined, given: Named) => {
      const request = { name: wantName('compute', positional, given.name) };
      const { compute } = await withDaemon(openRepo(options()), (client) =>
        callUnary(client, client.promoteCompute, request, { deadlineMs: LONG_DEADLINE_MS }),
      );
      if (options().json) printJson(compute);
      else printLine(compute?.url ?? '');
    },
  );
  named(pg, 'stop', 'stop a compute and throw its data directory away; the data stays on the branch')
    .option('-m, --mode <mode>', 'fast or immediate', 'fast')
    .action(async (positional: string | undefined, given: Named & { mode: string }) => {
      if (given.mode !== 'fast' && given.mode !== 'immediate') {
        throw new StorageError('invalid', `"${given.mode}" is no mode; it is fast or immediate`);
      }
      const request = { name: wantName('compute', positional, given.name), immediate: given.mode === 'immediate' };
      const response = await withDaemon(openRepo(options()), (client) =>
        callUnary(client, client.stopCompute, request, { deadlineMs: LONG_DEADLINE_MS }),
      );
      if (options().json) printJson({ flushLsn: lsnText(response.flushLsn) });
      else say(`stopped compute "${request.name}" at ${lsnText(response.flushLsn)}`);
    });
  named(pg, 'destroy', 'stop and forget a compute; the branch stays').action(
    async (positional: string | undefined, given: Named) => {
      const request = { name: wantName('compute', positional, given.name) };
      const { existed } = await withDaemon(openRepo(options()), (client) =>
        callUnary(client, client.destroyCompute, request, { deadlineMs: LONG_DEADLINE_MS }),
      );
      if (options().json) printJson({ existed });
      else say(existed ? `destroyed compute "${request.name}"` : `there was no compute "${request.name}"`);
    },
  );
}

function addCheckout(pg: Command, options: () => GlobalOptions): void {
  const checkout = named(
    pg,
    'checkout',
    'roll the branch of a compute to a point of history; the present is kept as a branch, and a running compute is started anew',
  );
  addPointOptions(checkout, '')
    .option('--preserve-as <name>', 'name of the branch that keeps the present; default: made from name and time')
    .action(async (positional: string | undefined, given: Named & PointOptions & { preserveAs?: string }) => {
      const name = wantName('compute', positional, given.name);
      const request = { name, to: pointOf(given), preserveAs: given.preserveAs ?? '' };
      const answer = await withBranches(openRepo(options()), (client) =>
        callUnary(client, client.checkoutCompute, request, { deadlineMs: LONG_DEADLINE_MS }),
      );
      if (options().json) return printJson(answer);
      say(`compute "${name}" is at ${lsnText(answer.lsn)} now; what was is branch "${answer.preservedAs}"`);
      if (answer.compute?.url) printLine(answer.compute.url);
    });
}

function addListAndShow(pg: Command, options: () => GlobalOptions): void {
  pg.command('list')
    .description('all computes')
    .action(async () => {
      const repo = openRepo(options());
      const ask = () => withDaemon(repo, async (client) => (await callUnary(client, client.listComputes, {})).computes);
      printList(options(), await askOrRead(repo, ask, offlineComputes), computeTable);
    });
  named(pg, 'show', 'one compute').action(async (positional: string | undefined, given: Named) => {
    const name = wantName('compute', positional, given.name);
    const repo = openRepo(options());
    const ask = () =>
      withDaemon(repo, async (client) => (await callUnary(client, client.getCompute, { name })).compute);
    const found = await askOrRead(repo, ask, (catalog) => {
      findCompute(catalog, name);
      return offlineComputes(catalog).find((entry) => entry.name === name);
    });
    if (options().json || !found) return printJson(found);
    printFields([
      ['compute', found.name],
      ['branch', found.branchName],
      ['tenant', found.tenantId],
      ['storage', found.storageName],
      ['role', found.isReplica ? 'replica' : 'primary'],
      ['state', stateText(found.state) + (found.error === '' ? '' : `: ${found.error}`)],
      ['url', found.url || '-'],
      ['connect', found.connectUrl || '-'],
      [
        'suspends',
        found.suspendAfterS === 0 ? 'never' : `after ${formatDuration(found.suspendAfterS)} without activity`,
      ],
      ['size', sizeText(found)],
      ['log', found.logPath || '-'],
    ]);
  });
}

export function addPgCommands(program: Command, options: () => GlobalOptions): void {
  const pg = program.command('pg').description('computes: Postgres servers on a branch');
  addCreate(pg, options);
  addStartAndStop(pg, options);
  addCheckout(pg, options);
  addListAndShow(pg, options);
}
