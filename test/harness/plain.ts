/** A plain PostgreSQL beside a compute: what both answer to the same statements must be equal. */
import { strict as assert } from 'node:assert';
import { TempCluster } from '#shared/postgres/testing/temp-cluster.js';
import { pgTool, query, withClient } from './stack.js';

export interface Plain extends AsyncDisposable {
  readonly cluster: TempCluster;
  readonly url: string;
}

export async function startPlain(config: readonly string[] = []): Promise<Plain> {
  const cluster = await TempCluster.create({ user: 'cloud_admin', tcp: true, config });
  await cluster.start();
  const url = `postgresql://cloud_admin@127.0.0.1:${cluster.port}/postgres`;
  return { cluster, url, [Symbol.asyncDispose]: () => cluster.destroy() };
}

/** Runs statements one by one. */
export async function runAll(url: string, statements: readonly string[]): Promise<void> {
  await withClient(url, async (client) => {
    for (const statement of statements) await client.query(statement);
  });
}

/** Whole database as SQL, without what differs by nature between two clusters. */
export async function dump(url: string): Promise<string> {
  const text = await pgTool('pg_dump', '--no-owner', '-d', url);
  // pg_dump writes random tokens around its output since the 2025 minor releases.
  return text.replace(/^\\(un)?restrict .*$/gm, '');
}

export async function assertSameDump(compute: string, plain: string): Promise<void> {
  const [a, b] = await Promise.all([dump(compute), dump(plain)]);
  if (a === b) return;
  const left = a.split('\n');
  const right = b.split('\n');
  const at = left.findIndex((line, index) => line !== right[index]);
  assert.fail(`the dumps differ at line ${at + 1}:\ncompute: ${left[at]}\nplain:   ${right[at]}`);
}

export async function assertSameAnswers(compute: string, plain: string, queries: readonly string[]): Promise<void> {
  for (const sql of queries) assert.deepEqual(await query(compute, sql), await query(plain, sql), sql);
}

/** Checks every heap and btree of the database with amcheck. */
export async function amcheck(url: string): Promise<void> {
  const { hostname, port, username, pathname } = new URL(url);
  // pg_amcheck takes patterns, not connection strings, as databases.
  const where = ['-h', hostname, '-p', port, '-U', username, '-d', pathname.slice(1)];
  await pgTool('pg_amcheck', '--install-missing', '--heapallindexed', '--parent-check', '--rootdescend', ...where);
}
