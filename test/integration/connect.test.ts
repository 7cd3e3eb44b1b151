/** The connect port: one Postgres port for all branches, in front of computes that come when they are wanted and go when they are not. */
import { strict as assert } from 'node:assert';
import { connect } from 'node:net';
import { long } from '#shared/testing/long.js';
import pg from 'pg';
import { pgTool, sleep, TestStack, until } from '../harness/stack.js';

const STORM = 40;

describe('connect port', function () {
  this.timeout(600_000);
  let stack: TestStack;
  let host: string;
  let port: string;

  const conninfo = (...extra: string[]) =>
    [`host=${host}`, `port=${port}`, 'user=cloud_admin', 'dbname=postgres', 'connect_timeout=120', ...extra].join(' ');
  const psql = async (info: string, sql: string) => (await pgTool('psql', '-qAtX', info, '-c', sql)).trim();
  const running = async () =>
    (await stack.status()).computes.filter((compute) => compute.state === 'running').map((compute) => compute.name);

  before(async () => {
    stack = await TestStack.start({ safekeepers: 1, init: ['--suspend-after', '3s'] });
    [host = '', port = ''] = (await stack.status()).connectAddr.split(':');
  });
  after(() => stack?.[Symbol.asyncDispose]());
  afterEach(async function () {
    if (this.currentTest?.state === 'failed') process.stderr.write(await stack.logs());
  });

  it('starts a compute for the branch that the options name', async () => {
    assert.equal(
      await psql(conninfo('options=branch=main'), 'create table t as select 1 as i; select count(*) from t'),
      '1',
    );
    await stack.neon('branch', 'create', 'feature/a');
    assert.equal(
      await psql(conninfo('options=branch=feature/a'), 'insert into t values (2); select count(*) from t'),
      '2',
    );
    assert.equal(await psql(conninfo(), 'select count(*) from t'), '1');
    const user = ['user=cloud_admin@feature/a'];
    assert.equal(await psql(conninfo(...user), 'select count(*), current_user from t'), '2|cloud_admin');
    assert.equal(await psql(conninfo('options=endpoint%3Dfeature-a'), 'select count(*) from t'), '2');
    assert.equal(await psql(conninfo("options='-c work_mem=5MB -c branch=main'"), 'show work_mem'), '5MB');
  });

  it('says clearly why it refuses', async () => {
    await assert.rejects(
      psql(conninfo('options=branch=nope'), 'select 1'),
      /branch "nope" does not exist \(there are: main, feature\/a\)/,
    );
    await assert.rejects(psql(conninfo('user=x@nope'), 'select 1'), /neon branch create/);
    const answer = await new Promise<string>((resolve) => {
      const socket = connect({ host, port: Number(port) });
      let text = '';
      socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')));
      socket.on('close', () => resolve(text));
      socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
    });
    assert.match(answer, /FATAL.*Postgres protocol/s);
  });

  it('ends TLS, and takes the branch from the server name', async () => {
    const named = conninfo('sslmode=require', `hostaddr=${host}`).replace(`host=${host} `, 'host=feature-a.localhost ');
    assert.equal(await psql(named, 'select count(*) from t'), '2');
    const unknown = named.replace('feature-a', 'nobody');
    await assert.rejects(psql(unknown, 'select 1'), /"nobody" does not exist/);
  });

  it('passes prepared statements, COPY and cancel requests through', async () => {
    const client = new pg.Client({
      host,
      port: Number(port),
      user: 'cloud_admin',
      database: 'postgres',
      ssl: { rejectUnauthorized: false },
    });
    await client.connect();
    try {
      for (const value of [1, 2, 3]) {
        const { rows } = await client.query<{ twice: number }>({
          name: 'twice',
          text: 'select $1::int * 2 as twice',
          values: [value],
        });
        assert.equal(rows[0]?.twice, value * 2);
      }
      const copied = await psql(conninfo(), "copy (select repeat('x', 1000) from generate_series(1, 5000)) to stdout");
      assert.equal(copied.length, 5000 * 1001 - 1);
      const { processID, secretKey } = client as unknown as { processID: number; secretKey: number };
      const sleeping = client.query('select pg_sleep(600)');
      const refused = assert.rejects(sleeping, /canceling statement due to user request/);
      await until('the query to be cancelled', 200_000, async () => {
        const packet = Buffer.alloc(16);
        packet.writeUInt32BE(16, 0);
        packet.writeUInt32BE(80877102, 4);
        packet.writeInt32BE(processID, 8);
        packet.writeInt32BE(secretKey, 12);
        await new Promise<void>((resolve) =>
          connect({ host, port: Number(port) })
            .on('close', () => resolve())
            .end(packet),
        );
        return Promise.race([refused.then(() => true), sleep(200).then(() => false)]);
      });
    } finally {
      await client.end();
    }
  });

  it('starts one compute for a storm of connections', async () => {
    await stack.neon('branch', 'create', 'storm', '--from', 'feature/a');
    const results = await Promise.all(
      Array.from({ length: STORM }, async () => {
        const client = new pg.Client({
          host,
          port: Number(port),
          user: 'cloud_admin',
          database: 'postgres',
          options: 'branch=storm',
        });
        client.on('error', () => undefined);
        await client.connect();
        const { rows } = await client.query<{ started: string }>('select pg_postmaster_start_time()::text as started');
        await client.end();
        return rows[0]?.started;
      }),
    );
    assert.equal(new Set(results).size, 1);
    assert.equal(results.length, STORM);
    assert.equal((await stack.status()).computes.filter((compute) => compute.branchName === 'storm').length, 1);
  });

  // Suspending takes minutes.
  long('suspends computes that nobody uses, not those that work, and resumes them', async () => {
    const busy = psql(conninfo('options=branch=feature/a'), 'select pg_sleep(20)');
    await until('the others to be suspended', 200_000, async () => {
      const names = await running();
      return names.length === 1 && names[0] === 'feature-a';
    });
    await busy;
    await until('the last to be suspended', 200_000, async () => (await running()).length === 0);
    const startedAt = performance.now();
    assert.equal(await psql(conninfo('options=branch=storm'), 'select count(*) from t'), '2');
    process.stderr.write(`      resumed in ${Math.round(performance.now() - startedAt)} ms, as psql sees it\n`);
  });
});
