/**
 * Scenarios of several sessions, as text. A file holds scenarios, one line a step; a line that begins with a blank continues the one before:
 *
 *   # comment
 *   == title                    new scenario; all sessions of the one before are closed
 *   NAME: SQL                   one statement on session NAME, which is opened at its first step
 *   NAME!: SQL                  the same, and waits for its end: for what ends by itself, by a deadlock or a time limit
 *   NAME cancel                 pg_cancel_backend
 *   NAME terminate              pg_terminate_backend
 *
 * A statement that waits for a lock is reported as waiting, and its outcome after the step that released it. So the output does not
 * depend on timing as long as no step leaves two sessions running at the same time.
 */
import pg from 'pg';
import { DATABASE } from './psql.js';
import { urlOf } from './servers.js';
import type { Side } from './servers.js';

const POLL_MS = 10;
const STEP_TIMEOUT_MS = 60_000;

export type Step =
  | { readonly kind: 'scenario'; readonly title: string }
  | { readonly kind: 'run'; readonly session: string; readonly sql: string; readonly toTheEnd: boolean }
  | { readonly kind: 'signal'; readonly session: string; readonly how: 'cancel' | 'terminate' };

export function parseSteps(text: string): Step[] {
  const lines = text
    .replace(/\n[ \t]+(?=\S)/g, ' ')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
  return lines.map((line): Step => {
    const title = /^== (.+)$/.exec(line)?.[1];
    if (title !== undefined) return { kind: 'scenario', title };
    const [, session, mark, sql] = /^([a-z]\w*)(!?): (.+)$/.exec(line) ?? [];
    if (session !== undefined && sql !== undefined) return { kind: 'run', session, sql, toTheEnd: mark === '!' };
    const [, target, how] = /^([a-z]\w*) (cancel|terminate)$/.exec(line) ?? [];
    if (target !== undefined)
      return { kind: 'signal', session: target, how: how === 'cancel' ? 'cancel' : 'terminate' };
    throw new Error(`not a step: ${line}`);
  });
}

/** One connection and the statement that it runs now, if any. */
class Session {
  readonly name: string;
  readonly client: pg.Client;
  pid = 0;
  running = false;
  isKnownToWait = false;
  /** What happened since it was last asked: results, errors, notices, notifications. */
  private news: string[] = [];
  private notifications: string[] = [];

  constructor(name: string, url: string, schema: string) {
    this.name = name;
    this.client = new pg.Client({
      connectionString: url,
      options: `-c search_path=${schema},public -c statement_timeout=60s`,
      types: { getTypeParser: () => (text: unknown) => text },
    });
    this.client.on('error', () => undefined);
    this.client.on(
      'notice',
      (notice) => void this.news.push(`${notice.severity ?? 'NOTICE'}: ${notice.message ?? ''}`),
    );
    this.client.on('notification', (n) => void this.notifications.push(`notification ${n.channel} ${n.payload ?? ''}`));
  }

  async open(): Promise<void> {
    await this.client.connect();
    const { rows } = await this.client.query<{ pid: string }>('select pg_backend_pid() as pid');
    this.pid = Number(rows[0]?.pid);
  }

  begin(sql: string): void {
    this.running = true;
    const done = (line: string): void => {
      this.news.push(line, ...this.notifications.splice(0));
      this.running = false;
    };
    this.client.query<(string | null)[]>({ text: sql, rowMode: 'array' }).then(
      (result) => done(formatResult(result)),
      (error: unknown) => done(formatError(error)),
    );
  }

  takeNews(): string[] {
    return this.news.splice(0);
  }

  async close(): Promise<void> {
    await this.client.end().catch(() => undefined);
  }
}

function formatResult(result: pg.QueryArrayResult<(string | null)[]>): string {
  const rows = result.rows.map((row) => `  ${row.map((field) => field ?? '∅').join(' | ')}`);
  return [`${result.command} ${result.rowCount ?? ''}`.trim(), ...rows].join('\n');
}

/** Details name processes and transactions by numbers that differ from run to run. */
function formatError(error: unknown): string {
  if (error instanceof pg.DatabaseError) return `${error.severity ?? 'ERROR'} ${error.code ?? ''}: ${error.message}`;
  return `connection lost`;
}

class Scenario {
  readonly output: string[] = [];
  private readonly sessions = new Map<string, Session>();
  private readonly side: Side;
  private readonly schema: string;
  private readonly control: pg.Client;

  constructor(side: Side, schema: string, control: pg.Client) {
    this.side = side;
    this.schema = schema;
    this.control = control;
  }

  async step(step: Step): Promise<void> {
    switch (step.kind) {
      case 'scenario':
        await this.closeAll();
        this.output.push('', `== ${step.title}`);
        return;
      case 'run': {
        const session = await this.session(step.session);
        if (session.running) throw new Error(`session ${step.session} still waits and cannot run: ${step.sql}`);
        this.output.push(`${step.session}: ${step.sql}`);
        session.begin(step.sql);
        if (step.toTheEnd) await this.end(session);
        await this.settle(session);
        break;
      }
      case 'signal': {
        const session = await this.session(step.session);
        this.output.push(`${step.session} ${step.how}`);
        await this.control.query(`select pg_${step.how}_backend($1)`, [session.pid]);
        await this.end(session);
        break;
      }
      default:
        step satisfies never;
    }
    for (const session of this.sessions.values()) await this.settle(session);
  }

  async closeAll(): Promise<void> {
    for (const session of this.sessions.values()) await session.close();
    this.sessions.clear();
  }

  private async session(name: string): Promise<Session> {
    let session = this.sessions.get(name);
    if (session === undefined) {
      session = new Session(name, urlOf(this.side, DATABASE), this.schema);
      await session.open();
      this.sessions.set(name, session);
    }
    return session;
  }

  private async end(session: Session): Promise<void> {
    const deadline = Date.now() + STEP_TIMEOUT_MS;
    while (session.running && Date.now() < deadline) await sleep(POLL_MS);
  }

  /** Waits until the session's statement has ended or waits for a lock of another session. */
  private async settle(session: Session): Promise<void> {
    const deadline = Date.now() + STEP_TIMEOUT_MS;
    let isBlocked = false;
    while (session.running && !isBlocked) {
      if (Date.now() > deadline) throw new Error(`session ${session.name} neither ended nor waited for a lock`);
      await sleep(POLL_MS);
      isBlocked = await this.isBlocked(session);
    }
    const news = session.takeNews();
    for (const line of news) this.output.push(`${session.name} → ${line}`);
    if (isBlocked && session.running && !session.isKnownToWait) this.output.push(`${session.name} waits`);
    session.isKnownToWait = isBlocked && session.running;
  }

  private async isBlocked(session: Session): Promise<boolean> {
    const pids = [...this.sessions.values()].map(({ pid }) => pid);
    const { rows } = await this.control.query<{ blocked: boolean }>(
      'select pg_isolation_test_session_is_blocked($1, $2) as blocked',
      [session.pid, pids],
    );
    return rows[0]?.blocked === true;
  }
}

/** Runs the file on one server; everything that happened, as text. */
export async function runSteps(side: Side, text: string, schema: string): Promise<string> {
  const control = new pg.Client({ connectionString: urlOf(side, DATABASE) });
  control.on('error', () => undefined);
  await control.connect();
  const scenario = new Scenario(side, schema, control);
  try {
    for (const step of parseSteps(text)) await scenario.step(step);
  } catch (error) {
    scenario.output.push(`the scenario broke: ${error instanceof Error ? error.message : String(error)}`);
  } finally {
    await scenario.closeAll();
    await control.end().catch(() => undefined);
  }
  return `${scenario.output.join('\n')}\n`;
}

const sleep = (ms: number) => new Promise<void>((done) => setTimeout(done, ms));
