/** What clients saw, and what a database may hold after that. Pure. */

/** What a client knows of one transaction: `unknown` when the connection broke while it committed. */
export type Outcome = 'acknowledged' | 'failed' | 'unknown';

/** A transaction, in the order in which its session sent them. Times are of one clock, in milliseconds. */
export interface Attempt {
  readonly session: number;
  /** Unique in the session. */
  readonly n: number;
  /** Which run of which Postgres it was sent to. */
  readonly life: string;
  /** When the commit was sent. */
  readonly sentMs: number;
  readonly endedMs: number;
  readonly outcome: Outcome;
}

export interface JournalRow {
  readonly session: number;
  readonly n: number;
}

const PROBLEMS_MAX = 50;

/** Every acknowledged row is there; every row that is there was sent, and not told to have failed. */
export function checkJournal(attempts: readonly Attempt[], rows: readonly JournalRow[]): string[] {
  const problems: string[] = [];
  const note = (text: string): void => {
    if (problems.length < PROBLEMS_MAX) problems.push(text);
  };
  const found = new Set(rows.map(({ session, n }) => `${session}/${n}`));
  if (found.size !== rows.length) note(`${rows.length - found.size} rows are there twice`);
  const known = new Map(attempts.map((attempt) => [`${attempt.session}/${attempt.n}`, attempt]));
  for (const [name, { outcome, life }] of known) {
    if (outcome === 'acknowledged' && !found.has(name)) note(`row ${name} was acknowledged by ${life} and is lost`);
    if (outcome === 'failed' && found.has(name)) note(`row ${name} is there, but ${life} said that it failed`);
  }
  for (const name of found) if (!known.has(name)) note(`row ${name} is there and was never sent`);
  return problems;
}

/**
 * At any time one life commits. A commit that was sent after another life's commit had returned came later than that one; so no life
 * may commit before and after a commit of another life.
 */
export function checkLives(attempts: readonly Attempt[]): string[] {
  const lives = new Map<string, Attempt[]>();
  for (const attempt of attempts) {
    if (attempt.outcome !== 'acknowledged') continue;
    const list = lives.get(attempt.life);
    if (list === undefined) lives.set(attempt.life, [attempt]);
    else list.push(attempt);
  }
  const problems: string[] = [];
  for (const [name, commits] of lives) {
    const firstMs = Math.min(...commits.map(({ endedMs }) => endedMs));
    for (const [otherName, others] of lives) {
      if (otherName === name) continue;
      const between = others.filter(({ sentMs }) => sentMs > firstMs).map(({ endedMs }) => endedMs);
      const betweenMs = Math.min(Infinity, ...between);
      const late = commits.find(({ sentMs }) => sentMs > betweenMs);
      if (late !== undefined && problems.length < PROBLEMS_MAX) {
        problems.push(`${name} committed ${late.session}/${late.n} after ${otherName} had committed in between`);
      }
    }
  }
  return problems;
}
