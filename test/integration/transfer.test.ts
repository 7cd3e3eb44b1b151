/** Databases in and out: a plain Postgres becomes a branch, a snapshot goes to another storage and comes back in a fresh stack. */
import { strict as assert } from 'node:assert';
import { chmod, mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TempCluster } from '#shared/postgres/testing/temp-cluster.js';
import { restClient } from '../harness/rest.js';
import { pgTool, query, TestStack, until, value } from '../harness/stack.js';

const TABLES = `
  create table account as select i as id, md5(i::text) as note from generate_series(1, 20000) i;
  create index on account (note);
  create table small (a int primary key, b text default 'x');
  insert into small select i from generate_series(1, 50) i;
  create role reader;`;

interface Operation {
  readonly id: string;
  readonly state: string;
  readonly error: string;
  readonly reused_bytes: number;
  readonly done_bytes: number;
}

/** Every file below a directory with its size. */
async function filesOf(dir: string): Promise<string[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

describe('transfers', function () {
  this.timeout(900_000);
  let stack: TestStack;
  let fresh: TestStack | undefined;
  let plain: TempCluster;
  let root: string;
  let wanted: string;

  before(async () => {
    root = await mkdtemp(join(tmpdir(), 'neon-transfer-'));
    await chmod(root, 0o755);
    plain = await TempCluster.create({ tcp: true, user: 'cloud_admin' });
    await plain.start();
    await plain.psql(TABLES);
    wanted = await plain.psql("select md5(string_agg(id || note, ',' order by id)) from account");
    stack = await TestStack.start({ safekeepers: 1 });
  });
  after(async () => {
    await fresh?.[Symbol.asyncDispose]();
    await stack?.[Symbol.asyncDispose]();
    await plain?.[Symbol.asyncDispose]();
    await rm(root, { recursive: true, force: true });
  });
  afterEach(async function () {
    if (this.currentTest?.state === 'failed') process.stderr.write(await stack.logs());
  });

  const sumOf = (url: string) => value(url, "select md5(string_agg(id || note, ',' order by id)) from account");

  /** An action on a snapshot by REST, to its end. */
  async function rest(action: string, snapshot: string, more: object, on = stack): Promise<Operation> {
    const client = restClient((await on.status()).restUrl);
    const started = await client.post<Operation>(`/snapshots/${snapshot}/actions`, { action, ...more });
    const ended = await until(`the ${action} to end`, 300_000, async () => {
      const operation = await client.get<Operation>(`/operations/${started.id}`);
      return operation.state === 'running' ? null : operation;
    });
    assert.equal(ended.state, 'done', ended.error);
    return ended;
  }

  it('imports a running server by basebackup', async () => {
    await stack.neon('snapshot', 'import', 'imported', '--from', `basebackup://${plain.user}@127.0.0.1:${plain.port}/`);
    const url = await stack.startCompute('imported', { branch: 'imported' });
    assert.equal(await sumOf(url), wanted);
    await query(url, "update account set note = 'changed' where id <= 10");
  });

  it('pushes a snapshot, incrementally the second time', async () => {
    const target = join(root, 'images');
    await stack.neon('snapshot', 'create', 'first', '--branch', 'imported');
    await stack.neon('snapshot', 'push', 'first', '--to', target);
    const before = new Set(await filesOf(target));
    await query((await stack.compute('imported')).url, "insert into small values (1000, 'new')");
    await stack.neon('snapshot', 'create', 'second', '--branch', 'imported');
    const ended = await rest('push', 'second', { to: target });
    assert.ok(ended.reused_bytes > ended.done_bytes / 2, JSON.stringify(ended));
    const added = (await filesOf(target)).filter((path) => !before.has(path) && path.includes('/chunks/'));
    const sizes = await Promise.all(added.map(async (path) => (await stat(path)).size));
    assert.ok(added.length > 0 && added.length < before.size);
    assert.ok(sizes.reduce((sum, size) => sum + size, 0) > 0);
  });

  it('pulls it into a fresh stack that knows nothing else', async () => {
    const dumped = await pgTool('pg_dumpall', '-d', (await stack.compute('imported')).url);
    fresh = await TestStack.start({ safekeepers: 1, tenant: false });
    await fresh.neon('snapshot', 'pull', 'second', '--from', join(root, 'images'));
    const url = await fresh.startCompute('copy', { branch: 'imported' });
    assert.equal(await value(url, 'select count(*) from small'), '51');
    const clean = (text: string) => text.replace(/^--.*$|^\\(un)?restrict.*$/gm, '');
    assert.equal(clean(await pgTool('pg_dumpall', '-d', url)), clean(dumped));
    await query(url, 'insert into small values (2000)');
    assert.match(await fresh.neon('snapshot', 'list', '--quiet'), /second/);
    await rest('pull', 'first', { from: join(root, 'images'), branch_name: 'older' }, fresh);
    const older = await fresh.startCompute('older', { branch: 'older' });
    assert.equal(await value(older, 'select count(*) from small'), '50');
    await assert.rejects(
      fresh.neon('snapshot', 'pull', 'third', '--from', join(root, 'images')),
      /there are: first, second/,
    );
  });

  it('exports what a plain Postgres starts from, and what psql reads', async () => {
    const dump = join(root, 'all.sql');
    await stack.neon('snapshot', 'export', 'first', '--format', 'dump', '--to', dump);
    assert.ok((await stat(dump)).size > 100_000);
    await stack.neon('snapshot', 'export', '--branch', 'imported', '--to', join(root, 'base.tar'));
    await assert.rejects(stack.neon('snapshot', 'export', 'first', '--to', dump), /exists already/);
    await assert.rejects(rest('export', 'first', { to: 'relative' }), /absolute path/);
    await rest('export', 'first', { to: join(root, 'first.tar'), format: 'tar' });
    const dir = join(root, 'pgdata');
    await stack.neon('snapshot', 'export', 'first', '--format', 'pgdata', '--to', dir);
    assert.match(await pgTool('pg_controldata', dir), /Database cluster state: +shut down/);
    assert.deepEqual(
      (await stack.status()).computes.map((compute) => compute.name),
      ['imported'],
    );
  });

  it('imports what it exported: a data directory, a tar', async () => {
    await stack.neon('snapshot', 'import', 'from-dir', '--from', join(root, 'pgdata'));
    await rest('import', 'from-tar', { from: join(root, 'first.tar') });
    const sum = await sumOf((await stack.compute('imported')).url);
    for (const name of ['from-dir', 'from-tar']) {
      assert.equal(await sumOf(await stack.startCompute(name, { branch: name })), sum, name);
      await stack.neon('pg', 'destroy', name);
    }
  });
});
