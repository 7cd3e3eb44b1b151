/**
 * A client that commits without pause, reconnects when it must, and writes down what it was told. Each transaction adds a numbered row to
 * the journal; most also move an amount between two accounts, which keeps their sum.
 */
import pg from 'pg';
import type { Attempt, Outcome } from './check.js';
import type { Random } from './random.js';

export const ACCOUNTS = 40;
export const OPENING_BALANCE = 1_000;
export const SCHEMA = `
  create table journal (session int, n int, debit int, credit int, amount int, filler text, primary key (session, n));
  create index journal_accounts on journal (debit, credit);
  create table account (id int primary key, balance bigint not null);
  insert into account select i, ${OPENING_BALANCE} from generate_series(1, ${ACCOUNTS}) i;
`;

const CONNECT_TIMEOUT_MS = 2_000;
const RECONNECT_PAUSE_MS = 100;
/** A commit that does not return in this time counts as unknown; the client goes away. */
const PATIENCE_MS = 12_000;
const LIFE = `select current_setting('port') || ' since ' || pg_postmaster_start_time()`;

export interface SessionOptions {
  readonly id: number;
  readonly random: Random;
  /** Where to connect now; null = nowhere. */
  readonly url: () => string | null;
  /** Where to write down what happened. */
  readonly attempts: Attempt[];
}

interface Connection {
  readonly client: pg.Client;
  readonly life: string;
}

/** The server refused the transaction: it did not happen. Without an answer nobody knows. */
function isRefusal(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.severity === 'ERROR';
}

export class Session {
  private readonly options: SessionOptions;
  private readonly running: Promise<void>;
  private connection: Connection | null = null;
  private stopped = false;
  private n = 0;

  constructor(options: SessionOptions) {
    this.options = options;
    this.running = this.loop();
  }

  /** Resolves when what is under way has ended. */
  async stop(): Promise<void> {
    this.stopped = true;
    await this.running;
  }

  private async loop(): Promise<void> {
    while (!this.stopped) {
      try {
        this.connection ??= await this.connect();
        if (this.connection === null) await pause(RECONNECT_PAUSE_MS);
        else await this.transaction(this.connection);
      } catch {
        // What it was, the attempt says; here only the connection is of no use any more.
        await this.disconnect();
        await pause(RECONNECT_PAUSE_MS);
      }
    }
    await this.disconnect();
  }

  private async connect(): Promise<Connection | null> {
    const connectionString = this.options.url();
    if (connectionString === null) return null;
    const client = new pg.Client({ connectionString, connectionTimeoutMillis: CONNECT_TIMEOUT_MS });
    client.on('error', () => undefined);
    try {
      await client.connect();
      const { rows } = await withinPatience<pg.QueryArrayResult<[string]>>(
        client.query<[string]>({ text: LIFE, rowMode: 'array' }),
      );
      return { client, life: rows[0]?.[0] ?? '' };
    } catch (error) {
      void client.end().catch(() => undefined);
      throw error;
    }
  }

  private async disconnect(): Promise<void> {
    const { connection } = this;
    this.connection = null;
    // A server that is held answers no farewell.
    if (connection !== null) await Promise.race([connection.client.end().catch(() => undefined), pause(500)]);
  }

  private async transaction({ client, life }: Connection): Promise<void> {
    const { random, id } = this.options;
    this.n += 1;
    const { n } = this;
    const [debit = 1, credit = 2] = random.sample(2, ACCOUNTS);
    const amount = random.int(1, 100);
    const filler = 'x'.repeat(random.next() < 0.1 ? random.int(1_000, 6_000) : random.int(0, 100));
    if (random.next() < 0.3) {
      await this.attempt(n, life, () =>
        client.query('insert into journal values ($1, $2, null, null, null, $3)', [id, n, filler]),
      );
      return;
    }
    try {
      await withinPatience(client.query('begin'));
      const row = [id, n, debit, credit, amount, filler];
      await withinPatience(client.query('insert into journal values ($1, $2, $3, $4, $5, $6)', row));
      // In the order of the accounts, so that no two sessions wait for each other.
      for (const account of [debit, credit].sort((a, b) => a - b)) {
        const change = account === debit ? -amount : amount;
        await withinPatience(
          client.query('update account set balance = balance + $2 where id = $1', [account, change]),
        );
      }
    } catch (error) {
      const at = performance.now();
      this.options.attempts.push({ session: id, n, life, sentMs: at, endedMs: at, outcome: 'failed' });
      throw error;
    }
    await this.attempt(n, life, () => client.query('commit'));
  }

  private async attempt(n: number, life: string, commit: () => Promise<pg.QueryResult>): Promise<void> {
    const sentMs = performance.now();
    const done = (outcome: Outcome): void => {
      const { id: session, attempts } = this.options;
      attempts.push({ session, n, life, sentMs, endedMs: performance.now(), outcome });
    };
    try {
      const { command } = await withinPatience(commit());
      done(command === 'ROLLBACK' ? 'failed' : 'acknowledged');
    } catch (error) {
      done(isRefusal(error) ? 'failed' : 'unknown');
      throw error;
    }
  }
}

async function withinPatience<T>(work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer after ${PATIENCE_MS} ms`)), PATIENCE_MS);
  });
  work.catch(() => undefined);
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
