/** Asks a compute how many different pages it needed lately. Only a database with the extension knows. */
import pg from 'pg';
import { computeUrl } from './compute-manager.js';

const LIMIT_MS = 5_000;
/** Not counted as use of the compute, as all that its monitors do. */
const APPLICATION = 'vm-monitor';
const SQL = `
  select neon.approximate_working_set_size_seconds(60 * minutes) as pages
  from generate_series(1, 60) minutes order by minutes`;

/** Within the last 1, 2, … 60 minutes; null: not known. */
export async function workingSetPages(pgPort: number): Promise<number[] | null> {
  const client = new pg.Client({
    connectionString: computeUrl(pgPort),
    application_name: APPLICATION,
    connectionTimeoutMillis: LIMIT_MS,
    query_timeout: LIMIT_MS,
  });
  client.on('error', () => undefined);
  try {
    await client.connect();
    const known = await client.query<{ known: boolean }>(
      `select to_regprocedure('neon.approximate_working_set_size_seconds(integer)') is not null as known`,
    );
    if (known.rows[0]?.known !== true) return null;
    const { rows } = await client.query<{ pages: number }>(SQL);
    return rows.map((row) => Number(row.pages));
  } finally {
    await client.end().catch(() => undefined);
  }
}
