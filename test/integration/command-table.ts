/**
 * Every command of storages, computes, branches, snapshots and retention, by command and by REST on one stack, and at the end the proof that
 * none was left out: the routes of the OpenAPI document and the commands of docs/cli.md against what was called.
 */
import { strict as assert } from 'node:assert';
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { restClient } from '../harness/rest.js';
import type { RestClient } from '../harness/rest.js';
import { query, TestStack, until, value } from '../harness/stack.js';

/** Where storages and images are. */
export interface Place {
  readonly type: 'native' | 's3';
  /** A place of this name for a storage, and for images. */
  at(name: string): string;
  /** How S3 is reached, as options and as a part of a body. */
  readonly flags: readonly string[];
  readonly body: Readonly<Record<string, string>>;
}

const CLI_DOC = resolve(import.meta.dirname, '../../docs/cli.md');
const GROUPS = ['storage', 'pg', 'branch', 'snapshot', 'pitr'];
/** Told in other tests: it is no part of the table. */
const ELSEWHERE = ['storage scrub'];

interface Pg {
  readonly name: string;
  readonly url: string;
  readonly state: string;
  readonly is_replica: boolean;
}
interface Named {
  readonly name: string;
}
interface Operation {
  readonly id: string;
  readonly state: string;
  readonly error: string;
}

/** Calls by both ways, and remembers what was called. */
class Caller {
  readonly stack: TestStack;
  readonly plain: RestClient;
  readonly commands = new Set<string>();
  readonly routes = new Set<string>();

  constructor(stack: TestStack, plain: RestClient) {
    this.stack = stack;
    this.plain = plain;
  }

  cli(group: string, command: string, ...args: string[]): Promise<string> {
    this.commands.add(`${group} ${command}`);
    return this.stack.neon(group, command, ...args);
  }

  async rest<T>(method: 'get' | 'put' | 'post' | 'delete', path: string, body: object = {}): Promise<T> {
    this.routes.add(`${method} ${path.split('?')[0]}`);
    return method === 'put' || method === 'post' ? this.plain[method]<T>(path, body) : this.plain[method]<T>(path);
  }

  async names(path: string): Promise<string[]> {
    return (await this.rest<Named[]>('get', path)).map(({ name }) => name);
  }

  /** An action on a snapshot, to its end. */
  async transfer(snapshot: string, body: object): Promise<Operation> {
    const { id } = await this.rest<Operation>('post', `/snapshots/${snapshot}/actions`, body);
    const ended = await until('the operation to end', 300_000, async () => {
      const operation = await this.rest<Operation>('get', `/operations/${id}`);
      return operation.state === 'running' ? null : operation;
    });
    assert.equal(ended.state, 'done', ended.error);
    return ended;
  }
}

async function storages(caller: Caller, place: Place): Promise<void> {
  const { type, at, flags, body } = place;
  await caller.cli('storage', 'attach', '-n', 'one', '--type', type, `--path=${at('one')}`, ...flags);
  await caller.rest('put', '/storages', { name: 'two', type, path: at('two'), ...body });
  assert.deepEqual(await caller.names('/storages'), ['default', 'one', 'two']);
  assert.match(await caller.cli('storage', 'list'), new RegExp(`two +${type} +running`));
  assert.match(await caller.cli('storage', 'show', '-n', 'two'), new RegExp(`type: +${type}`));
  assert.equal((await caller.rest<{ type: string }>('get', '/storages/one')).type, type);
  await caller.cli('storage', 'detach', '-n', 'two');
  await caller.rest('put', '/storages', { name: 'two', type, path: at('two'), ...body });
  await caller.rest('delete', '/storages/two');
  assert.deepEqual(await caller.names('/storages'), ['default', 'one']);
}

async function tenants(caller: Caller): Promise<void> {
  const made = await caller.rest<{ tenant_id: string }>('put', '/tenants', { set_default: true, storage_name: 'one' });
  const tenants = await caller.rest<{ tenant_id: string }[]>('get', '/tenants');
  assert.ok(tenants.some(({ tenant_id }) => tenant_id === made.tenant_id));
  assert.equal((await caller.rest<{ pid: number }>('get', '/status')).pid, caller.stack.pid);
}

async function computes(caller: Caller): Promise<void> {
  await caller.cli('pg', 'create', '-n', 'main', '-s', 'one');
  await caller.rest('put', '/pgs', { name: 'other', storage_name: 'one', branch_name: 'main' });
  const url = await caller.cli('pg', 'start', 'main');
  await query(url, 'create table t as select i from generate_series(1, 1000) i');
  assert.match(await caller.cli('pg', 'list'), /main +main +one +running/);
  assert.match(await caller.cli('pg', 'show', '-n', 'main'), /branch: +main/);
  assert.deepEqual(await caller.names('/pgs'), ['main', 'other']);
  await caller.rest('post', '/pgs/main/actions', { action: 'stop' });
  assert.equal((await caller.rest<Pg>('get', '/pgs/main')).state, 'stopped');
  const started = await caller.rest<Pg>('post', '/pgs/other/actions', { action: 'start' });
  assert.equal(await value(started.url, 'select count(*) from t'), '1000');
  await caller.cli('pg', 'stop', '-n', 'other');
  await caller.cli('pg', 'create', 'gone', '--branch', 'main');
  await caller.cli('pg', 'destroy', '-n', 'gone');
  await caller.rest('put', '/pgs', { name: 'gone', branch_name: 'main' });
  await caller.rest('delete', '/pgs/gone');
  assert.deepEqual(await caller.names('/pgs'), ['main', 'other']);
}

async function replicas(caller: Caller): Promise<void> {
  const primary = await caller.cli('pg', 'start', '-n', 'main');
  const replica = await caller.cli('pg', 'start', '-n', 'other', '--replica');
  await query(primary, 'insert into t values (1001)');
  await until('the replica to follow', 60_000, async () => (await value(replica, 'select max(i) from t')) === '1001');
  await caller.cli('pg', 'promote', '-n', 'other');
  await query(replica, 'insert into t values (1002)');
  const back = await caller.rest<Pg>('post', '/pgs/main/actions', { action: 'start', is_replica: 'replica' });
  assert.equal(back.is_replica, true);
  await caller.rest('post', '/pgs/main/actions', { action: 'promote' });
  assert.equal(await value(back.url, 'select max(i) from t'), '1002');
}

async function branches(caller: Caller): Promise<void> {
  await caller.cli('branch', 'create', 'feature', '--from', 'main');
  await caller.rest('put', '/branches', { name: 'second', from: 'feature' });
  assert.match(await caller.cli('branch', 'list'), /main[\s\S]*feature[\s\S]*second/);
  assert.deepEqual(await caller.names('/branches'), ['main', 'feature', 'second']);
  assert.match(await caller.cli('branch', 'show', 'second'), /feature/);
  assert.equal((await caller.rest<{ parent_name: string }>('get', '/branches/second')).parent_name, 'feature');
  assert.match(await caller.cli('branch', 'diff', 'second'), /feature/);
  assert.ok(await caller.rest<object>('get', '/branches/second/diff?other=main'));
  await caller.cli('branch', 'rename', 'second', 'renamed');
  await caller.rest('post', '/branches/renamed/actions', { action: 'rename', new_name: 'third' });
  await query((await caller.stack.compute('main')).url, 'insert into t values (1003)');
  await caller.cli('branch', 'reset', 'feature');
  const reset = await caller.rest<{ preserved_as: string }>('post', '/branches/feature/actions', {
    action: 'reset',
    preserve_as: 'kept',
  });
  assert.equal(reset.preserved_as, 'kept');
  const url = await caller.stack.startCompute('feature');
  assert.equal(await value(url, 'select max(i) from t'), '1003');
  await caller.stack.stopCompute('feature');
  await caller.cli('branch', 'delete', 'third');
  await caller.rest('put', '/branches', { name: 'fourth', from: 'main' });
  await caller.rest('delete', '/branches/fourth');
  const left = await caller.names('/branches');
  assert.ok(!left.includes('third') && !left.includes('fourth') && left.includes('kept'), left.join());
}

async function snapshots(caller: Caller): Promise<void> {
  await caller.cli('snapshot', 'create', '-n', 'before', '--branch', 'main');
  await query((await caller.stack.compute('main')).url, 'delete from t');
  await caller.rest('put', '/snapshots', { name: 'empty', branch_name: 'main' });
  assert.match(await caller.cli('snapshot', 'list'), /before +main[\s\S]*empty +main/);
  assert.deepEqual(await caller.names('/snapshots'), ['before', 'empty']);
  assert.match(await caller.cli('snapshot', 'show', 'empty'), /LSN: +0\//);
  assert.equal((await caller.rest<{ branch_name: string }>('get', '/snapshots/before')).branch_name, 'main');
  await caller.cli('pg', 'checkout', '-n', 'main', '--snapshot', 'before');
  assert.equal(await value((await caller.stack.compute('main')).url, 'select max(i) from t'), '1003');
  const rolled = await caller.rest<Pg>('post', '/pgs/main/actions', { action: 'checkout', snapshot: 'empty' });
  assert.equal(await value(rolled.url, 'select count(*) from t'), '0');
  await caller.cli('snapshot', 'create', 'gone', '--branch', 'main');
  await caller.cli('snapshot', 'destroy', 'gone');
  await caller.rest('put', '/snapshots', { name: 'gone', branch_name: 'main' });
  await caller.rest('delete', '/snapshots/gone');
  await caller.cli('pitr', 'set', 'main', '--keep', '2d', '--size', '1GB');
  assert.equal((await caller.rest<{ time_s: number }>('get', '/pitr?branch_name=main')).time_s, 2 * 86_400);
  await caller.rest('put', '/pitr', { branch_name: 'main', time_s: 3600 });
  assert.match(await caller.cli('pitr', 'show', 'main'), /time: +3600 s|time: +1 h/);
}

async function transfers(caller: Caller, place: Place, root: string): Promise<void> {
  const { at, flags, body } = place;
  await caller.cli('snapshot', 'push', 'before', '--to', at('images'), ...flags);
  await caller.transfer('empty', { action: 'push', to: at('images'), ...body });
  await caller.cli('snapshot', 'pull', 'before', '--from', at('images'), '--branch', 'pulled', '-s', 'one', ...flags);
  await caller.transfer('empty', {
    action: 'pull',
    from: at('images'),
    branch_name: 'pulled2',
    storage_name: 'one',
    ...body,
  });
  await caller.cli('snapshot', 'export', 'before', '--format', 'tar', '--to', join(root, 'before.tar'));
  await caller.transfer('before', { action: 'export', format: 'pgdata', to: join(root, 'pgdata') });
  await caller.cli('snapshot', 'import', 'in1', '--from', join(root, 'before.tar'), '-s', 'one');
  await caller.transfer('in2', { action: 'import', from: join(root, 'pgdata'), storage_name: 'one' });
  for (const [branch, rows] of Object.entries({ pulled: '1003', pulled2: '0', in1: '1003', in2: '1003' })) {
    assert.equal(
      await value(await caller.stack.startCompute(branch, { branch }), 'select count(*) from t'),
      rows,
      branch,
    );
    await caller.stack.stopCompute(branch);
  }
  const all = await caller.rest<Operation[]>('get', '/operations');
  assert.ok(all.length >= 4 && all.every(({ state }) => state === 'done'));
  assert.equal((await caller.rest<Operation>('delete', `/operations/${all[0]?.id}`)).state, 'done');
}

async function leftNoneOut(caller: Caller): Promise<void> {
  const { paths } = await caller.plain.get<{ paths: Record<string, Record<string, unknown>> }>('/openapi.json');
  const routes = Object.entries(paths).flatMap(([path, methods]) => Object.keys(methods).map((m) => `${m} ${path}`));
  const forms = [...caller.routes];
  const missed = routes.filter((route) => {
    const form = new RegExp(`^${route.replace(/\{[^}]+\}/g, '[^/]+')}$`);
    return !forms.some((one) => form.test(one));
  });
  assert.ok(routes.length >= 28, `${routes.length} routes`);
  assert.deepEqual(missed, []);
  const documented = [...(await readFile(CLI_DOC, 'utf8')).matchAll(/^### neon (\S+ \S+)$/gm)].map(
    ([, name = '']) => name,
  );
  const wanted = documented.filter((name) => GROUPS.includes(name.split(' ')[0] ?? '') && !ELSEWHERE.includes(name));
  assert.ok(wanted.length >= 26, `${wanted.length} commands`);
  assert.deepEqual(
    wanted.filter((name) => !caller.commands.has(name)),
    [],
  );
}

/** `place` is asked when the tests run. `root`: a directory for exports that the daemon may write to. */
export function describeCommandTable(title: string, place: () => Place, root: () => string): void {
  describe(`every command by CLI and by REST, ${title}`, function () {
    this.timeout(600_000);
    let caller: Caller;

    before(async () => {
      const stack = await TestStack.start({ safekeepers: 1, tenant: false });
      caller = new Caller(stack, restClient((await stack.status()).restUrl));
    });
    after(() => caller?.stack[Symbol.asyncDispose]());
    afterEach(async function () {
      if (this.currentTest?.state === 'failed') process.stderr.write(await caller.stack.logs());
    });

    it('storages: attach, list, show, detach', () => storages(caller, place()));
    it('tenants and the state of the stack', () => tenants(caller));
    it('computes: create, start, list, show, stop, destroy', () => computes(caller));
    it('replicas: start as one, promote', () => replicas(caller));
    it('branches: create, list, show, diff, rename, reset, delete', () => branches(caller));
    it('snapshots: create, list, show, destroy; checkout to one; retention', () => snapshots(caller));
    it('snapshots: push, pull, export, import', () => transfers(caller, place(), root()));
    it('left none out', () => leftNoneOut(caller));
  });
}
