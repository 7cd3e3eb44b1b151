/** neon safekeeper: what safekeepers have, whether they agree, and who votes. */
import type { Command } from 'commander';
import { errorText, StorageError } from '#shared/core/errors.js';
import { parseTtid, type TenantTimelineId } from '#shared/core/ids.js';
import { formatLsn, lsnFromWire, lsnMax, lsnMin, lsnToWire, MAX_LSN, parseLsn, type Lsn } from '#shared/core/lsn.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import { SafekeeperServiceClient, type TimelineStatus } from '#gen/neon/safekeeper/v1/safekeeper.js';
import { TimelineAdminServiceClient } from '#gen/neon/safekeeper/v1/timeline_admin.js';
import type { Member } from '../core/membership-change.js';
import { changeMembers } from '../io/membership-driver.js';
import { openRepo, withDaemon } from './client.js';
import type { GlobalOptions } from './client.js';
import { coloured, printJson, printLine, printTable, say } from './output.js';

const DEADLINE_MS = 5_000;
const DIGEST_DEADLINE_MS = 120_000;

interface TimelineOption {
  readonly tenantId?: string;
  readonly timelineId?: string;
}

/** One safekeeper of the stack, with its timelines or why it does not answer. */
interface Keeper {
  readonly name: string;
  readonly member: Member;
  readonly timelines: readonly TimelineStatus[];
  readonly error: string;
}

async function keepers(options: GlobalOptions): Promise<Keeper[]> {
  const { services } = await withDaemon(openRepo(options), (client) => callUnary(client, client.getStatus, {}));
  const found = services.filter(({ name }) => name.startsWith('safekeeper-'));
  return Promise.all(
    found.map(async ({ name, grpcAddr }) => {
      const member = { nodeId: Number(name.slice(name.lastIndexOf('-') + 1)), grpcAddr };
      const client = createClient(SafekeeperServiceClient, grpcAddr);
      try {
        const { timelines } = await callUnary(
          client,
          client.listTimelines,
          { tenantId: '' },
          { deadlineMs: DEADLINE_MS },
        );
        return { name, member, timelines, error: '' };
      } catch (error) {
        return { name, member, timelines: [], error: errorText(error) };
      } finally {
        client.close();
      }
    }),
  );
}

function nameOf(status: TimelineStatus): string {
  return `${status.ttid?.tenantId}/${status.ttid?.timelineId}`;
}

/** The timelines wanted: those named by an option, else all that any safekeeper has. */
function wanted(all: readonly Keeper[], given: TimelineOption): TenantTimelineId[] {
  const found = new Map<string, TenantTimelineId>();
  for (const status of all.flatMap(({ timelines }) => timelines)) {
    const ttid = parseTtid(status.ttid);
    const isWanted =
      (given.tenantId ?? ttid.tenantId) === ttid.tenantId && (given.timelineId ?? ttid.timelineId) === ttid.timelineId;
    if (isWanted) found.set(nameOf(status), ttid);
  }
  if (found.size === 0) throw new StorageError('not-found', 'no safekeeper that answers has such a timeline');
  return [...found.keys()].sort().map((name) => found.get(name) as TenantTimelineId);
}

const lsnText = (value: bigint): string => formatLsn(lsnFromWire(value));

function statusRows(keeper: Keeper): string[][] {
  if (keeper.error !== '') return [[keeper.name, coloured('does not answer', 'red'), keeper.error]];
  return keeper.timelines.map((status) => [
    keeper.name,
    status.ttid?.timelineId ?? '',
    `${status.term}/${status.lastLogTerm}`,
    lsnText(status.flushLsn),
    lsnText(status.commitLsn),
    lsnText(status.backupLsn),
    lsnText(status.remoteConsistentLsn),
    String(status.mconf?.generation ?? 0),
    `${status.proposerCount}/${status.readerCount}`,
    status.problem === '' ? (status.evicted ? 'evicted' : 'ok') : coloured(status.problem, 'red'),
  ]);
}

interface Digest {
  readonly timeline: string;
  readonly from: string;
  readonly until: string;
  readonly digests: Readonly<Record<string, string>>;
  readonly isEqual: boolean;
}

/** Of the range that all have committed, unless one is given. */
async function digest(
  all: readonly Keeper[],
  ttid: TenantTimelineId,
  range: { from?: Lsn; until?: Lsn },
): Promise<Digest> {
  const holders = all.flatMap((keeper) => {
    const status = keeper.timelines.find((one) => nameOf(one) === `${ttid.tenantId}/${ttid.timelineId}`);
    return status === undefined ? [] : [{ keeper, status }];
  });
  const from =
    range.from ?? holders.reduce<Lsn>((lsn, { status }) => lsnMax(lsn, lsnFromWire(status.timelineStartLsn)), 0 as Lsn);
  const until =
    range.until ?? holders.reduce<Lsn>((lsn, { status }) => lsnMin(lsn, lsnFromWire(status.commitLsn)), MAX_LSN);
  const digests = await Promise.all(
    holders.map(async ({ keeper }) => {
      const client = createClient(TimelineAdminServiceClient, keeper.member.grpcAddr);
      const request = { ttid: { ...ttid }, fromLsn: lsnToWire(from), untilLsn: lsnToWire(until) };
      try {
        const { sha256 } = await callUnary(client, client.getDigest, request, { deadlineMs: DIGEST_DEADLINE_MS });
        return [keeper.name, sha256] as const;
      } finally {
        client.close();
      }
    }),
  );
  const isEqual = new Set(digests.map(([, sha256]) => sha256)).size <= 1;
  const timeline = `${ttid.tenantId}/${ttid.timelineId}`;
  return { timeline, from: formatLsn(from), until: formatLsn(until), digests: Object.fromEntries(digests), isEqual };
}

async function runDigest(
  options: GlobalOptions,
  given: TimelineOption & { from?: string; until?: string },
): Promise<void> {
  const all = await keepers(options);
  for (const { name, error } of all) if (error !== '') say(`${name} does not answer: ${error}`);
  const range = {
    ...(given.from === undefined ? {} : { from: parseLsn(given.from) }),
    ...(given.until === undefined ? {} : { until: parseLsn(given.until) }),
  };
  const results: Digest[] = [];
  for (const ttid of wanted(all, given)) results.push(await digest(all, ttid, range));
  if (options.json) printJson(results);
  else {
    const rows = results.flatMap(({ timeline, from, until, digests, isEqual }) =>
      Object.entries(digests).map(([name, sha256]) => [
        timeline.split('/')[1] ?? '',
        `${from} to ${until}`,
        name,
        sha256.slice(0, 16),
        isEqual ? coloured('equal', 'green') : coloured('DIFFERENT', 'red'),
      ]),
    );
    printTable(['TIMELINE', 'WAL', 'SAFEKEEPER', 'SHA-256', ''], rows);
  }
  if (results.some(({ isEqual }) => !isEqual)) throw new StorageError('corrupt', 'safekeepers have different WAL');
}

async function dumpControl(options: GlobalOptions, name: string | undefined, given: TimelineOption): Promise<void> {
  const all = (await keepers(options)).filter((keeper) => name === undefined || keeper.name === name);
  const dumps: object[] = [];
  for (const ttid of wanted(all, given)) {
    for (const { name: keeper, member, timelines } of all) {
      if (!timelines.some((one) => nameOf(one) === `${ttid.tenantId}/${ttid.timelineId}`)) continue;
      const client = createClient(TimelineAdminServiceClient, member.grpcAddr);
      try {
        const { json } = await callUnary(
          client,
          client.getControlFile,
          { ttid: { ...ttid } },
          { deadlineMs: DEADLINE_MS },
        );
        dumps.push({ safekeeper: keeper, control: JSON.parse(json) as object });
      } finally {
        client.close();
      }
    }
  }
  printJson(dumps);
}

/** "2" is a safekeeper of the stack, "7=host:port" any. */
function parseMember(text: string, all: readonly Keeper[]): Member {
  const [id = '', grpcAddr] = text.split('=');
  const nodeId = Number(id);
  if (!Number.isSafeInteger(nodeId) || nodeId < 1) throw new StorageError('invalid', `"${id}" is no node id`);
  if (grpcAddr !== undefined) return { nodeId, grpcAddr };
  const known = all.find(({ member }) => member.nodeId === nodeId);
  if (known === undefined)
    throw new StorageError('invalid', `the stack has no safekeeper ${nodeId}; write ${nodeId}=host:port`);
  return known.member;
}

async function setMembers(options: GlobalOptions, ids: readonly string[], given: TimelineOption): Promise<void> {
  const all = await keepers(options);
  const newMembers = ids.map((text) => parseMember(text, all));
  const results: object[] = [];
  for (const ttid of wanted(all, given)) {
    const members = all.map(({ member }) => member);
    const stop = new AbortController();
    const configuration = await changeMembers({ ttid, members, newMembers, say, signal: stop.signal });
    results.push({ ...ttid, ...configuration });
  }
  if (options.json) printJson(results);
  else for (const { generation } of results as { generation: number }[]) printLine(`generation ${generation}`);
}

function addTimelineOptions(command: Command): Command {
  return command
    .option('--tenant-id <id>', 'only timelines of this tenant')
    .option('--timeline-id <id>', 'only this timeline');
}

export function addSafekeeperCommands(program: Command, options: () => GlobalOptions): void {
  const safekeeper = program
    .command('safekeeper')
    .description('safekeepers: what they have, whether they agree, who votes');
  safekeeper
    .command('status')
    .description('every timeline on every safekeeper; exit code 1 when one does not answer')
    .action(async () => {
      const all = await keepers(options());
      if (options().json) printJson(all);
      else {
        const head = ['SAFEKEEPER', 'TIMELINE', 'TERM/LOG', 'FLUSH', 'COMMIT', 'BACKUP', 'IN LAYERS', 'GENERATION'];
        printTable([...head, 'PROPOSERS/READERS', 'STATE'], all.flatMap(statusRows));
      }
      const silent = all.filter(({ error }) => error !== '').map(({ name }) => name);
      if (silent.length > 0) throw new StorageError('unavailable', `no answer from ${silent.join(', ')}`);
    });
  addTimelineOptions(safekeeper.command('digest'))
    .description('hash the WAL of each safekeeper and compare; exit code 1 when they differ')
    .option('--from <lsn>', 'first byte; default: where the timeline begins')
    .option('--until <lsn>', 'byte behind the last; default: what all know as committed')
    .action((given: TimelineOption & { from?: string; until?: string }) => runDigest(options(), given));
  addTimelineOptions(safekeeper.command('dump-control [name]'))
    .description('control files as JSON, of one safekeeper such as safekeeper-1 or of all')
    .action((name: string | undefined, given: TimelineOption) => dumpControl(options(), name, given));
  addTimelineOptions(safekeeper.command('set-members <ids...>'))
    .description('move timelines to other safekeepers, while computes run: ids of the stack, or id=host:port')
    .action((ids: string[], given: TimelineOption) => setMembers(options(), ids, given));
}
