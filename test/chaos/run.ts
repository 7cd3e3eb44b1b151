/** Load, faults, healing, judgement: one run. */
import { amcheck } from '../harness/plain.js';
import { query, sleep, value, withClient } from '../harness/stack.js';
import { checkJournal, checkLives, type Attempt, type JournalRow } from './check.js';
import { compareCommittedWal } from './committed-wal.js';
import { Random } from './random.js';
import { describeFault, networkFault, schedule } from './schedule.js';
import type { Fault } from './schedule.js';
import { ACCOUNTS, OPENING_BALANCE, SCHEMA, Session } from './session.js';
import { Stage } from './stage.js';

const MAIN_SESSIONS = 4;
/** All processes and connections are there again within seconds; the rest is for a busy machine. */
const HEALED_COMMIT_MS_MAX = 60_000;
const RECOVERY_POLL_MS = 20;
/** Before the first fault. */
const FIRST_COMMITS = 150;
const FIRST_COMMITS_MS_MAX = 20_000;

export interface ChaosOptions {
  readonly seed: number;
  readonly seconds: number;
  /** Instead of faults for a time: so often two computes are started on the timeline at once. */
  readonly duels?: number;
  /** Instead: so many faults of the network one by one, each healed before the next. */
  readonly cuts?: number;
  /** A line for whoever watches. */
  readonly say: (text: string) => void;
}

export interface ChaosReport {
  readonly problems: readonly string[];
  /** What was done and when, one line each. */
  readonly history: readonly string[];
  readonly faults: Readonly<Record<string, number>>;
  readonly acknowledged: number;
  readonly failed: number;
  readonly unknown: number;
  /** Runs of Postgres that acknowledged commits. */
  readonly lives: number;
  /** Commits through computes that took the timeline over. */
  readonly rivalCommits: number;
  readonly fencedComputes: number;
  readonly rowCount: number;
  readonly committedWalBytes: number;
  /** From the end of all faults to the first commit that returned. */
  readonly healedCommitMs: number;
  /** The longest that no commit returned for after one fault of the network had ended; only with `cuts`. */
  readonly slowestRecoveryMs?: number;
  /** Of all processes; empty when all is well. */
  readonly logs: string;
}

export async function runChaos(options: ChaosOptions): Promise<ChaosReport> {
  await using stage = await Stage.open();
  const attempts: Attempt[] = [];
  const problems: string[] = [];
  const history: string[] = [];
  await query(stage.url ?? '', SCHEMA);
  const sessions = startSessions(stage, options.seed, attempts);
  let slowestRecoveryMs: number | undefined;
  try {
    await untilCommits(attempts);
    if (options.cuts === undefined) await doFaults(stage, options, history);
    else slowestRecoveryMs = await doCuts({ stage, options, count: options.cuts, attempts, history });
    options.say('healing');
  } catch (error) {
    problems.push(`a fault could not be done: ${String(error)}`);
  } finally {
    await Promise.all(sessions.map((session) => session.stop()));
  }
  const verdict = await judge(stage, attempts, options.say).catch((error: unknown) => ({
    problems: [`could not be judged: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`],
    rowCount: 0,
    committedWalBytes: 0,
    healedCommitMs: 0,
  }));
  problems.push(...stage.problems, ...checkLives(attempts), ...verdict.problems);
  const count = (wanted: string): number => attempts.filter(({ outcome }) => outcome === wanted).length;
  const acknowledged = attempts.filter(({ outcome }) => outcome === 'acknowledged');
  return {
    ...verdict,
    problems,
    history,
    faults: Object.fromEntries(stage.counts),
    acknowledged: acknowledged.length,
    failed: count('failed'),
    unknown: count('unknown'),
    lives: new Set(acknowledged.map(({ life }) => life)).size,
    rivalCommits: acknowledged.filter(({ session }) => session >= MAIN_SESSIONS).length,
    fencedComputes: stage.fencedCount,
    ...(slowestRecoveryMs === undefined ? {} : { slowestRecoveryMs }),
    logs: problems.length === 0 ? '' : await stage.stack.logs(),
  };
}

/** So that there is something to lose. */
async function untilCommits(attempts: readonly Attempt[]): Promise<void> {
  const endMs = performance.now() + FIRST_COMMITS_MS_MAX;
  while (attempts.length < FIRST_COMMITS && performance.now() < endMs) await sleep(RECOVERY_POLL_MS);
}

/** Some commit through the compute that is managed, one through each rival. */
function startSessions(stage: Stage, seed: number, attempts: Attempt[]): Session[] {
  const places = [
    ...Array.from({ length: MAIN_SESSIONS }, () => () => stage.url),
    ...stage.rivals.map((_, slot) => () => stage.rivals[slot]?.url ?? null),
  ];
  return places.map((url, id) => new Session({ id, url, attempts, random: new Random(seed * 1_000 + id) }));
}

async function doFaults(stage: Stage, options: ChaosOptions, history: string[]): Promise<void> {
  if (options.duels !== undefined) return doDuels(stage, options, options.duels, history);
  const startMs = performance.now();
  const endMs = startMs + options.seconds * 1_000;
  for (const { afterMs, fault } of schedule(options.seed)) {
    await sleep(Math.min(afterMs, Math.max(0, endMs - performance.now())));
    if (performance.now() >= endMs) return;
    await stage.keepUp();
    const line = `${((performance.now() - startMs) / 1_000).toFixed(1)} s  ${describeFault(fault)}`;
    history.push(line);
    options.say(line);
    await stage.apply(fault);
  }
}

/** With the gaps of the seed: none, or less than a start takes. */
async function doDuels(stage: Stage, options: ChaosOptions, count: number, history: string[]): Promise<void> {
  const random = new Random(options.seed);
  for (let done = 1; done <= count; done++) {
    const fault: Fault = { kind: 'duel', gapMs: random.pick([0, 0, 50, 200, 600]) };
    history.push(`${done}/${count}  ${describeFault(fault)}`);
    options.say(history.at(-1) ?? '');
    await stage.apply(fault);
  }
}

interface Cuts {
  readonly stage: Stage;
  readonly options: ChaosOptions;
  readonly count: number;
  readonly attempts: readonly Attempt[];
  readonly history: string[];
}

/** Returns the longest recovery. */
async function doCuts({ stage, options, count, attempts, history }: Cuts): Promise<number> {
  const random = new Random(options.seed);
  let slowestMs = 0;
  for (let done = 1; done <= count; done++) {
    const fault = networkFault(random);
    await stage.apply(fault);
    await sleep(fault.forMs);
    stage.healNetwork();
    const healedMs = performance.now();
    const seen = attempts.length;
    const isBack = (): boolean =>
      attempts.slice(seen).some(({ outcome, sentMs }) => outcome === 'acknowledged' && sentMs >= healedMs);
    while (!isBack() && performance.now() - healedMs < 2 * HEALED_COMMIT_MS_MAX) await sleep(RECOVERY_POLL_MS);
    const tookMs = Math.round(performance.now() - healedMs);
    const line = `${done}/${count}  ${describeFault(fault)}: a commit after ${tookMs} ms`;
    history.push(line);
    options.say(line);
    if (tookMs > HEALED_COMMIT_MS_MAX) stage.problems.push(`no commit for ${tookMs} ms after ${describeFault(fault)}`);
    slowestMs = Math.max(slowestMs, tookMs);
    await stage.keepUp();
  }
  return slowestMs;
}

interface Verdict {
  readonly problems: string[];
  readonly rowCount: number;
  readonly committedWalBytes: number;
  readonly healedCommitMs: number;
}

async function judge(stage: Stage, attempts: readonly Attempt[], say: (text: string) => void): Promise<Verdict> {
  const problems: string[] = [];
  const healingMs = performance.now();
  await stage.heal();
  await query(stage.url ?? '', `create table healed as select 1 as one`);
  const healedCommitMs = Math.round(performance.now() - healingMs);
  if (healedCommitMs > HEALED_COMMIT_MS_MAX) problems.push(`the first commit after healing took ${healedCommitMs} ms`);
  // Read by a compute that has nothing but what storage gives it.
  const url = await stage.restart('fast');
  const rows = await journal(url);
  problems.push(...checkJournal(attempts, rows), ...(await checkBalances(url)));
  say('amcheck');
  await amcheck(url).catch((error: Error) => problems.push(`amcheck: ${error.message}`));
  await stage.stop();
  const wal = await compareCommittedWal(stage.stack);
  problems.push(...stage.deadConnections.map((which) => `a dead connection was not noticed: ${which}`));
  problems.push(...wal.problems);
  return { problems, rowCount: rows.length, committedWalBytes: wal.bytes, healedCommitMs };
}

async function journal(url: string): Promise<JournalRow[]> {
  return withClient(url, async (client) => (await client.query<JournalRow>('select session, n from journal')).rows);
}

/** The sum is as in the beginning, and each account has what the journal says. */
async function checkBalances(url: string): Promise<string[]> {
  const problems: string[] = [];
  const sum = await value(url, 'select sum(balance) from account');
  if (sum !== String(ACCOUNTS * OPENING_BALANCE))
    problems.push(`the accounts hold ${sum}, not ${ACCOUNTS * OPENING_BALANCE}`);
  const wrong = await query(
    url,
    `with moved as (select debit as id, -amount as change from journal where debit is not null
                    union all select credit, amount from journal where credit is not null)
     select a.id, a.balance, ${OPENING_BALANCE} + coalesce((select sum(change) from moved where moved.id = a.id), 0)
     from account a where a.balance <> ${OPENING_BALANCE} + coalesce((select sum(change) from moved where moved.id = a.id), 0)`,
  );
  for (const [id, has, should] of wrong) problems.push(`account ${id} holds ${has}, by the journal ${should}`);
  // Through the indexes as well as through the table.
  for (const [sql, table] of [
    ['select count(*) from journal where session >= 0', 'journal'],
    ['select count(*) from journal where debit > 0 or debit is null', 'journal'],
  ] as const) {
    const [byIndex, all] = [
      await value(url, `set enable_seqscan = off; ${sql}`),
      await value(
        url,
        `set enable_indexscan = off; set enable_indexonlyscan = off; set enable_bitmapscan = off; select count(*) from ${table}`,
      ),
    ];
    if (byIndex !== all) problems.push(`${byIndex} rows by an index, ${all} in table ${table}`);
  }
  return problems;
}
