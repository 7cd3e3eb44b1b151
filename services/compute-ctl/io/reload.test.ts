import { strict as assert } from 'node:assert';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { StorageError } from '#shared/core/errors.js';
import { silentLogger } from '#shared/runtime/log.js';
import { TempCluster } from '#shared/postgres/testing/temp-cluster.js';
import { quoteConfValue } from '../core/postgres-conf.js';
import { connectTo } from './catalog.js';
import type { ServerAddress } from './catalog.js';
import { postgresAccount } from './account.js';
import { applySettings } from './reload.js';

/** What the file's scanner treats in a special way, among other text. */
const awkward = fc.oneof(
  fc.constantFrom(
    "'",
    "''",
    '\\',
    '\\n',
    '\n',
    '\r',
    '\t',
    '\\101',
    '#',
    '=',
    '"',
    ' ',
    'é',
    '漢',
    '\u{1f418}',
    '\u0001',
    '$',
  ),
  fc.string({ unit: 'binary', maxLength: 3 }),
);
const confValue = fc
  .array(awkward, { maxLength: 12 })
  .map((parts) => parts.join(''))
  .filter((text) => !text.includes('\0') && text.isWellFormed());

describe('settings of a running Postgres', function () {
  this.timeout(120_000);
  let cluster: TempCluster;
  let server: ServerAddress;
  let conf = '';

  before(async () => {
    cluster = await TempCluster.create();
    await cluster.start();
    server = { socketDir: cluster.socketDir, port: cluster.port, user: cluster.user };
    conf = readFileSync(join(cluster.dataDir, 'postgresql.conf'), 'utf8');
  });
  after(async () => {
    await cluster?.destroy();
  });

  async function apply(lines: string): Promise<string[] | null> {
    const account = await postgresAccount('postgres');
    return applySettings({ server, pgdata: cluster.dataDir, account, text: `${conf}\n${lines}\n`, log: silentLogger });
  }
  const show = (name: string): Promise<string> => cluster.psql(`show ${name}`);

  it('come out of the file as they went in', async () => {
    const values = fc.sample(confValue, { numRuns: 300, seed: 1 });
    const lines = values.map((value, at) => `fuzz.v${at} = ${quoteConfValue(value)}`);
    assert.deepEqual(await apply(lines.join('\n')), []);
    const client = await connectTo(server, 'postgres');
    const { rows } = await client.query<{ name: string; setting: string }>(
      `SELECT name, setting FROM pg_file_settings WHERE name LIKE 'fuzz.%' ORDER BY sourceline`,
    );
    await client.end();
    assert.deepEqual(
      rows.map((row) => row.setting),
      values,
    );
  });

  it('say which wait for a restart, and take the others at once', async () => {
    assert.deepEqual(await apply("work_mem = '5MB'\nmax_connections = 77"), ['max_connections']);
    assert.equal(await show('work_mem'), '5MB');
    assert.equal(await apply("work_mem = '5MB'\nmax_connections = 77"), null);
  });

  it('stay as they were when one is refused', async () => {
    const refused = (error: Error): boolean =>
      error instanceof StorageError && error.kind === 'invalid' && /log_statement.*shared_buffers/.test(error.message);
    await assert.rejects(apply("work_mem = '6MB'\nlog_statement = 'sometimes'\nshared_buffers = 'much'"), refused);
    await assert.rejects(apply('work_mem = 6MB and more'), /line|syntax/);
    await cluster.psql('select pg_reload_conf()');
    assert.equal(await show('work_mem'), '5MB');
  });

  it('refuse what no file can hold', () => {
    for (const text of ['a\0b', '\ud800']) assert.throws(() => quoteConfValue(text), /cannot hold/);
  });
});
