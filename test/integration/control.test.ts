/** The control plane as people use it: every row of the table of commands, by the command and by REST, on real services. */
import { strict as assert } from 'node:assert';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { long } from '#shared/testing/long.js';
import { restClient } from '../harness/rest.js';
import { query, TestStack, until, value } from '../harness/stack.js';

const lsnOf = (url: string) => value(url, 'select pg_current_wal_flush_lsn()');

describe('control plane', function () {
  this.timeout(600_000);
  let stack: TestStack;
  let root: string;
  let rest: ReturnType<typeof restClient>;

  before(async () => {
    root = await mkdtemp(join(tmpdir(), 'neon-control-'));
    stack = await TestStack.start({ safekeepers: 1 });
    rest = restClient((await stack.status()).restUrl);
  });
  after(async () => {
    await stack?.[Symbol.asyncDispose]();
    await rm(root, { recursive: true, force: true });
  });
  afterEach(async function () {
    if (this.currentTest?.state === 'failed') process.stderr.write(await stack.logs());
  });

  it('describes itself', async () => {
    const document = await rest.get<{ openapi: string; paths: Record<string, object> }>('/openapi.json');
    assert.match(document.openapi, /^3\.1/);
    for (const path of ['/storages', '/pgs/{pg_name}/actions', '/branches', '/snapshots', '/pitr']) {
      assert.ok(document.paths[path], path);
    }
    await assert.rejects(rest.get('/nowhere'), /404 .*openapi/);
    const strange = await fetch(`${rest.url}/status`, { headers: { host: 'example.com' } }).catch(() => null);
    if (strange !== null && strange.url.includes('localhost')) assert.ok([200, 403].includes(strange.status));
    const form = await fetch(`${rest.url}/pgs`, {
      method: 'PUT',
      headers: { 'content-type': 'text/plain' },
      body: '{}',
    });
    assert.equal(form.status, 415);
  });

  it('attaches storages, by command and by REST, and has a database on each', async () => {
    await stack.neon('storage', 'attach', '-n', 'one', '--type', 'native', `--path=${join(root, 'one')}`);
    await rest.put('/storages', { name: 'two', type: 'native', path: join(root, 'two') });
    const names = (await rest.get<{ name: string; state: string }[]>('/storages')).map(
      (entry) => `${entry.name} ${entry.state}`,
    );
    assert.deepEqual(names, ['default running', 'one running', 'two running']);
    assert.match(await stack.neon('storage', 'list'), /one +native +running/);
    assert.match(await stack.neon('storage', 'show', 'two'), /two/);
    assert.equal((await rest.get<{ type: string }>('/storages/one')).type, 'native');

    await stack.neon('pg', 'create', '-n', 'pg1', '-s', 'one');
    await rest.put('/pgs', { name: 'pg2', storage_name: 'two' });
    const one = await stack.neon('pg', 'start', '-n', 'pg1');
    const two = (await rest.post<{ url: string }>('/pgs/pg2/actions', { action: 'start' })).url;
    await query(one, "create table place as select 'one' as name");
    await query(two, "create table place as select 'two' as name");
    assert.equal(await value(one, 'select name from place'), 'one');
    assert.equal(await value(two, 'select name from place'), 'two');
    const pgs = await rest.get<{ name: string; storage_name: string; state: string }[]>('/pgs');
    assert.deepEqual(
      pgs.map((pg) => [pg.name, pg.storage_name, pg.state]),
      [
        ['pg1', 'one', 'running'],
        ['pg2', 'two', 'running'],
      ],
    );
    assert.match(await stack.neon('pg', 'show', 'pg1'), /storage: +one/);
    assert.match(await stack.neon('pg', 'list'), /pg1 +pg1 +one +running[\s\S]*pg2 +pg2 +two +running/);
    assert.equal((await rest.get<{ storage_name: string }>('/pgs/pg2')).storage_name, 'two');
  });

  it('detaches a storage with its names, and finds them again', async () => {
    await assert.rejects(rest.delete('/storages/one'), /412 .*neon pg stop pg1/);
    await stack.neon('pg', 'stop', '-n', 'pg1');
    assert.equal((await rest.delete<{ branch_count: number }>('/storages/one')).branch_count, 1);
    assert.doesNotMatch(await stack.neon('pg', 'list'), /pg1/);
    await rest.post('/pgs/pg2/actions', { action: 'stop' });
    await stack.neon('storage', 'detach', '-n', 'two');
    await stack.neon('storage', 'attach', 'uno', '--path', join(root, 'one'));
    const url = await stack.neon('pg', 'start', 'pg1');
    assert.equal(await value(url, 'select name from place'), 'one');
    await query(url, "insert into place values ('more')");
    assert.equal(await value(url, 'select count(*) from place'), '2');
    await rest.delete('/pgs/pg1');
    await assert.rejects(rest.get('/pgs/pg1'), /404/);
    await stack.neon('pg', 'create', 'second', '-s', 'uno', '--branch', 'pg1');
    await stack.neon('pg', 'destroy', '-n', 'second');
    await assert.rejects(stack.neon('pg', 'show', 'second'), /"second" does not exist/);
  });

  it('branches, renames, compares, resets and deletes', async () => {
    const main = await stack.startCompute('main');
    await query(main, 'create table item as select i from generate_series(1, 100) i');
    await rest.put('/branches', { name: 'feature/x', from: 'main' });
    const feature = await stack.startCompute('feature', { branch: 'feature/x' });
    await query(feature, 'alter table item add column note text; delete from item where i > 50');
    await query(main, 'insert into item values (101)');
    const diff = await rest.get<{ common_branch_name: string; schema_diff: string; left: { wal_bytes: number } }>(
      `/branches/${encodeURIComponent('feature/x')}/diff?schema=true`,
    );
    assert.equal(diff.common_branch_name, 'main');
    assert.ok(diff.left.wal_bytes > 0);
    assert.match(diff.schema_diff, /-.*note text/);
    assert.match(await stack.neon('branch', 'diff', 'feature/x', 'main'), /in common: main up to 0\//);
    await stack.neon('branch', 'rename', 'feature/x', 'feature/z');
    await rest.post(`/branches/${encodeURIComponent('feature/z')}/actions`, {
      action: 'rename',
      new_name: 'feature/y',
    });
    assert.equal((await rest.get<{ parent_name: string }>('/branches/feature%2Fy')).parent_name, 'main');
    await stack.neon('branch', 'create', 'child', '--from', 'feature/y');
    await assert.rejects(stack.neon('branch', 'delete', 'feature/y'), /delete "child" first/);
    assert.match(await stack.neon('branch', 'list'), /└ feature\/y[\s\S]*└ child/);
    await rest.put('/pgs', { name: 'child' });
    await stack.neon('pg', 'create', 'other');
    for (const [name, branch] of [
      ['child', 'child'],
      ['other', 'main'],
    ] as const) {
      assert.equal((await rest.get<{ branch_name: string }>(`/pgs/${name}`)).branch_name, branch);
      await rest.delete(`/pgs/${name}`);
    }
    await stack.neon('branch', 'delete', 'child');
    const reset = await rest.post<{ preserved_as: string }>(`/branches/${encodeURIComponent('feature/y')}/actions`, {
      action: 'reset',
    });
    assert.equal(reset.preserved_as, '');
    const anew = (await stack.compute('feature')).url;
    assert.equal(await value(anew, 'select count(*) from item'), '101');
    await query(anew, 'delete from item');
    await stack.neon('branch', 'reset', 'feature/y');
    assert.equal(await value((await stack.compute('feature')).url, 'select count(*) from item'), '101');
    await assert.rejects(stack.neon('branch', 'delete', 'feature/y'), /neon pg destroy feature/);
    await rest.delete(`/branches/${encodeURIComponent('feature/y')}?force=true`);
    const left = await rest.get<{ name: string }[]>('/branches');
    assert.deepEqual(
      left.map((branch) => branch.name),
      ['main'],
    );
  });

  it('makes snapshots that outlive garbage collection, and rolls a compute to them and back', async () => {
    const main = (await stack.compute('main')).url;
    await stack.neon('snapshot', 'create', 'full', '--branch', 'main');
    const before = await lsnOf(main);
    await query(main, 'delete from item where i > 10');
    await rest.put('/snapshots', { name: 'small' });
    await query(main, 'drop table item');
    const snapshots = await rest.get<{ name: string; time_ms: number }[]>('/snapshots');
    assert.deepEqual(
      snapshots.map((entry) => entry.name),
      ['full', 'small'],
    );
    assert.match(await stack.neon('snapshot', 'list'), /full +main +0\//);
    assert.match(await stack.neon('snapshot', 'show', 'full'), /LSN: +0\//);
    assert.equal((await rest.get<{ branch_name: string }>('/snapshots/full')).branch_name, 'main');
    await rest.put('/snapshots', { name: 'gone', lsn: before });
    await rest.delete('/snapshots/gone');
    await assert.rejects(rest.get('/snapshots/gone'), /404/);

    const pitr = await rest.put<{ time_s: number; is_set: boolean }>('/pitr', {
      branch_name: 'main',
      time_s: 0,
      size_bytes: 0,
    });
    assert.deepEqual([pitr.time_s, pitr.is_set], [0, true]);
    assert.match(await stack.neon('pitr', 'show', 'main'), /time: +0 s/);
    assert.equal((await rest.get<{ time_s: number }>('/pitr?branch_name=main')).time_s, 0);
    await stack.neon('branch', 'create', 'from-full', '--snapshot', 'full');
    await stack.neon('pg', 'create', 'from-full');
    assert.equal(await value(await stack.neon('pg', 'start', 'from-full'), 'select count(*) from item'), '101');

    const rolled = await rest.post<{ url: string; preserved_as: string }>('/pgs/main/actions', {
      action: 'checkout',
      snapshot: 'small',
      preserve_as: 'present',
    });
    assert.equal(rolled.preserved_as, 'present');
    assert.equal(await value(rolled.url, 'select count(*) from item'), '10');
    await stack.neon('pg', 'create', 'present');
    const present = await stack.neon('pg', 'start', 'present');
    assert.equal(await value(present, "select count(*) from pg_class where relname = 'item'"), '0');
    await stack.neon('pitr', 'set', 'main', '--keep', '1d', '--size', '1GB');
    await stack.neon('pg', 'checkout', 'main', '--snapshot', 'full', '--preserve-as', 'second');
    const full = (await stack.compute('main')).url;
    assert.equal(await value(full, 'select count(*) from item'), '101');
    assert.ok(before.startsWith('0/'));
  });

  it('rolls to a time and to an LSN', async () => {
    const main = (await stack.compute('main')).url;
    await query(main, 'create table clock (at int)');
    await query(main, 'insert into clock values (1)');
    const lsn = await lsnOf(main);
    const time = await value(main, 'select pg_sleep(1.2)::text || clock_timestamp()::text || pg_sleep(1.2)::text');
    await query(main, 'insert into clock values (2)');
    const byLsn = await rest.post<{ url: string }>('/pgs/main/actions', { action: 'checkout', lsn });
    assert.equal(await value(byLsn.url, 'select count(*) from clock'), '1');
    const kept = (await rest.get<{ name: string }[]>('/branches')).map((branch) => branch.name);
    const before = kept.find((name) => name.startsWith('main-before-'));
    assert.ok(before);
    await stack.neon('branch', 'create', 'by-time', '--from', before, '--time', time);
    await stack.neon('pg', 'create', 'by-time');
    assert.equal(await value(await stack.neon('pg', 'start', 'by-time'), 'select count(*) from clock'), '1');
    await stack.neon('pg', 'create', 'earlier', '--branch', before);
    const rows = () => stack.compute('earlier').then(({ url }) => value(url, 'select count(*) from clock'));
    await stack.neon('pg', 'start', 'earlier');
    assert.equal(await rows(), '2');
    await stack.neon('pg', 'checkout', 'earlier', '--time', time, '--preserve-as', 'with-two');
    assert.equal(await rows(), '1');
    await rest.post('/branches/with-two/actions', { action: 'rename', new_name: 'two' });
    await stack.neon('pg', 'create', 'two');
    await stack.neon('pg', 'start', 'two');
    const back = await rest.post<{ url: string }>('/pgs/two/actions', { action: 'checkout', time });
    assert.equal(await value(back.url, 'select count(*) from clock'), '1');
    await stack.neon('pg', 'checkout', '-n', 'two', '--lsn', lsn);
    assert.equal(await value((await stack.compute('two')).url, 'select count(*) from clock'), '1');
    await assert.rejects(stack.neon('branch', 'create', 'x', '--time', '2001-01-01'), /nothing to go back to/);
    await assert.rejects(stack.neon('branch', 'create', 'x', '--lsn', '7F/0'), /in the future of branch/);
  });

  long('has replicas, which follow, and promotes them', async () => {
    await stack.neon('branch', 'create', 'pair', '--from', 'main');
    const primary = await stack.startCompute('first', { branch: 'pair' });
    await query(primary, 'create table seen as select 1 as i');
    await stack.neon('pg', 'create', 'second', '--branch', 'pair');
    await assert.rejects(stack.neon('pg', 'start', 'second'), /--replica/);
    const replica = await stack.neon('pg', 'start', 'second', '--replica');
    await rest.put('/pgs', { name: 'third', branch_name: 'pair' });
    const third = await rest.post<{ url: string; is_replica: boolean }>('/pgs/third/actions', {
      action: 'start',
      is_replica: 'replica',
    });
    assert.equal(third.is_replica, true);
    await assert.rejects(stack.neon('pg', 'start', 'first', '--replica'), /runs as a primary/);
    await query(primary, 'insert into seen values (2)');
    for (const url of [replica, third.url]) {
      await until('the replica to follow', 60_000, async () => (await value(url, 'select count(*) from seen')) === '2');
      await assert.rejects(query(url, 'insert into seen values (0)'), /read-only/);
    }
    assert.match(await stack.neon('pg', 'list'), /second +pair +default +running \(replica\)/);

    assert.equal(await stack.neon('pg', 'promote', 'second'), replica);
    await query(replica, 'insert into seen values (3)');
    assert.deepEqual(
      (await rest.get<{ name: string; state: string; is_replica: boolean }[]>('/pgs'))
        .filter(({ name }) => ['first', 'second', 'third'].includes(name))
        .map(({ name, state, is_replica }) => `${name} ${state} ${is_replica}`),
      ['first stopped false', 'second running false', 'third running true'],
    );
    await until(
      'the other to follow',
      60_000,
      async () => (await value(third.url, 'select count(*) from seen')) === '3',
    );
    await rest.post('/pgs/third/actions', { action: 'promote' });
    await query(third.url, 'insert into seen values (4)');
    await assert.rejects(
      rest.post('/pgs/second/actions', { action: 'promote' }),
      /412 .*neon pg start second --replica/,
    );
    await rest.post('/pgs/second/actions', { action: 'start', is_replica: true });
    await stack.neon('branch', 'reset', 'pair', '--preserve-as', 'pair-before');
    assert.equal((await rest.get<{ is_replica: boolean }>('/pgs/second')).is_replica, true);
    for (const name of ['third', 'second']) {
      assert.equal(await value((await stack.compute(name)).url, "select to_regclass('seen')"), 'null');
      await stack.neon('pg', 'stop', name);
    }
  });

  it('lists from the directory while the daemon is down, and goes on where it was', async () => {
    await stack.neon('snapshot', 'destroy', 'small');
    await stack.stopDaemon();
    assert.match(await stack.neon('branch', 'list'), /present/);
    assert.match(await stack.neon('snapshot', 'list', '--quiet'), /^full$/);
    assert.match(await stack.neon('storage', 'list'), /uno/);
    await assert.rejects(stack.neon('pg', 'start', 'main'), /neon start/);
    await stack.startDaemon();
    const main = await stack.neon('pg', 'start', 'main');
    assert.equal(await value(main, 'select count(*) from item'), '101');
    await stack.neon('branch', 'create', 'after', '--snapshot', 'full');
    await assert.rejects(rest.delete('/branches/main'), /412/);
  });
});
