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

/** `place` is asked when the tests run. `root`: a directory for exports that the daemon may write to. */
export function describeCommandTable(title: string, place: () => Place, root: () => string): void {
  describe(`every command by CLI and by REST, ${title}`, function () {
    this.timeout(600_000);
    let stack: TestStack;
    let plain: RestClient;
    const called = { commands: new Set<string>(), routes: new Set<string>() };

    before(async () => {
      stack = await TestStack.start({ safekeepers: 1, tenant: false });
      plain = restClient((await stack.status()).restUrl);
    });
    after(() => stack?.[Symbol.asyncDispose]());
    afterEach(async function () {
      if (this.currentTest?.state === 'failed') process.stderr.write(await stack.logs());
    });

    const cli = (group: string, command: string, ...args: string[]): Promise<string> => {
      called.commands.add(`${group} ${command}`);
      return stack.neon(group, command, ...args);
    };
    const rest = async <T>(method: 'get' | 'put' | 'post' | 'delete', path: string, body: object = {}): Promise<T> => {
      called.routes.add(`${method} ${path.split('?')[0]}`);
      return method === 'put' || method === 'post' ? plain[method]<T>(path, body) : plain[method]<T>(path);
    };
    const names = async (path: string): Promise<string[]> => (await rest<Named[]>('get', path)).map(({ name }) => name);
    const transfer = async (snapshot: string, body: object): Promise<Operation> => {
      const { id } = await rest<Operation>('post', `/snapshots/${snapshot}/actions`, body);
      const ended = await until('the operation to end', 300_000, async () => {
        const operation = await rest<Operation>('get', `/operations/${id}`);
        return operation.state === 'running' ? null : operation;
      });
      assert.equal(ended.state, 'done', ended.error);
      return ended;
    };

    it('storages: attach, list, show, detach', async () => {
      const { type, at, flags, body } = place();
      await cli('storage', 'attach', '-n', 'one', '--type', type, `--path=${at('one')}`, ...flags);
      await rest('put', '/storages', { name: 'two', type, path: at('two'), ...body });
      assert.deepEqual(await names('/storages'), ['default', 'one', 'two']);
      assert.match(await cli('storage', 'list'), new RegExp(`two +${type} +running`));
      assert.match(await cli('storage', 'show', '-n', 'two'), new RegExp(`type: +${type}`));
      assert.equal((await rest<{ type: string }>('get', '/storages/one')).type, type);
      await cli('storage', 'detach', '-n', 'two');
      await rest('put', '/storages', { name: 'two', type, path: at('two'), ...body });
      await rest('delete', '/storages/two');
      assert.deepEqual(await names('/storages'), ['default', 'one']);
    });

    it('tenants and the state of the stack', async () => {
      const made = await rest<{ tenant_id: string }>('put', '/tenants', { set_default: true, storage_name: 'one' });
      const tenants = await rest<{ tenant_id: string }[]>('get', '/tenants');
      assert.ok(tenants.some(({ tenant_id }) => tenant_id === made.tenant_id));
      assert.equal((await rest<{ pid: number }>('get', '/status')).pid, stack.pid);
    });

    it('computes: create, start, list, show, stop, destroy', async () => {
      await cli('pg', 'create', '-n', 'main', '-s', 'one');
      await rest('put', '/pgs', { name: 'other', storage_name: 'one', branch_name: 'main' });
      const url = await cli('pg', 'start', 'main');
      await query(url, 'create table t as select i from generate_series(1, 1000) i');
      assert.match(await cli('pg', 'list'), /main +main +one +running/);
      assert.match(await cli('pg', 'show', '-n', 'main'), /branch: +main/);
      assert.deepEqual(await names('/pgs'), ['main', 'other']);
      await rest('post', '/pgs/main/actions', { action: 'stop' });
      assert.equal((await rest<Pg>('get', '/pgs/main')).state, 'stopped');
      const started = await rest<Pg>('post', '/pgs/other/actions', { action: 'start' });
      assert.equal(await value(started.url, 'select count(*) from t'), '1000');
      await cli('pg', 'stop', '-n', 'other');
      await cli('pg', 'create', 'gone', '--branch', 'main');
      await cli('pg', 'destroy', '-n', 'gone');
      await rest('put', '/pgs', { name: 'gone', branch_name: 'main' });
      await rest('delete', '/pgs/gone');
      assert.deepEqual(await names('/pgs'), ['main', 'other']);
    });

    it('replicas: start as one, promote', async () => {
      const primary = await cli('pg', 'start', '-n', 'main');
      const replica = await cli('pg', 'start', '-n', 'other', '--replica');
      await query(primary, 'insert into t values (1001)');
      await until(
        'the replica to follow',
        60_000,
        async () => (await value(replica, 'select max(i) from t')) === '1001',
      );
      await cli('pg', 'promote', '-n', 'other');
      await query(replica, 'insert into t values (1002)');
      const back = await rest<Pg>('post', '/pgs/main/actions', { action: 'start', is_replica: 'replica' });
      assert.equal(back.is_replica, true);
      await rest('post', '/pgs/main/actions', { action: 'promote' });
      assert.equal(await value(back.url, 'select max(i) from t'), '1002');
    });

    it('branches: create, list, show, diff, rename, reset, delete', async () => {
      await cli('branch', 'create', 'feature', '--from', 'main');
      await rest('put', '/branches', { name: 'second', from: 'feature' });
      assert.match(await cli('branch', 'list'), /main[\s\S]*feature[\s\S]*second/);
      assert.deepEqual(await names('/branches'), ['main', 'feature', 'second']);
      assert.match(await cli('branch', 'show', 'second'), /feature/);
      assert.equal((await rest<{ parent_name: string }>('get', '/branches/second')).parent_name, 'feature');
      assert.match(await cli('branch', 'diff', 'second'), /feature/);
      assert.ok(await rest<object>('get', '/branches/second/diff?other=main'));
      await cli('branch', 'rename', 'second', 'renamed');
      await rest('post', '/branches/renamed/actions', { action: 'rename', new_name: 'third' });
      await query((await stack.compute('main')).url, 'insert into t values (1003)');
      await cli('branch', 'reset', 'feature');
      const reset = await rest<{ preserved_as: string }>('post', '/branches/feature/actions', {
        action: 'reset',
        preserve_as: 'kept',
      });
      assert.equal(reset.preserved_as, 'kept');
      const url = await stack.startCompute('feature');
      assert.equal(await value(url, 'select max(i) from t'), '1003');
      await stack.stopCompute('feature');
      await cli('branch', 'delete', 'third');
      await rest('put', '/branches', { name: 'fourth', from: 'main' });
      await rest('delete', '/branches/fourth');
      const left = await names('/branches');
      assert.ok(!left.includes('third') && !left.includes('fourth') && left.includes('kept'), left.join());
    });

    it('snapshots: create, list, show, destroy; checkout to one; retention', async () => {
      await cli('snapshot', 'create', '-n', 'before', '--branch', 'main');
      await query((await stack.compute('main')).url, 'delete from t');
      await rest('put', '/snapshots', { name: 'empty', branch_name: 'main' });
      assert.match(await cli('snapshot', 'list'), /before +main[\s\S]*empty +main/);
      assert.deepEqual(await names('/snapshots'), ['before', 'empty']);
      assert.match(await cli('snapshot', 'show', 'empty'), /LSN: +0\//);
      assert.equal((await rest<{ branch_name: string }>('get', '/snapshots/before')).branch_name, 'main');
      await cli('pg', 'checkout', '-n', 'main', '--snapshot', 'before');
      assert.equal(await value((await stack.compute('main')).url, 'select max(i) from t'), '1003');
      const rolled = await rest<Pg>('post', '/pgs/main/actions', { action: 'checkout', snapshot: 'empty' });
      assert.equal(await value(rolled.url, 'select count(*) from t'), '0');
      await cli('snapshot', 'create', 'gone', '--branch', 'main');
      await cli('snapshot', 'destroy', 'gone');
      await rest('put', '/snapshots', { name: 'gone', branch_name: 'main' });
      await rest('delete', '/snapshots/gone');
      await cli('pitr', 'set', 'main', '--keep', '2d', '--size', '1GB');
      assert.equal((await rest<{ time_s: number }>('get', '/pitr?branch_name=main')).time_s, 2 * 86_400);
      await rest('put', '/pitr', { branch_name: 'main', time_s: 3600 });
      assert.match(await cli('pitr', 'show', 'main'), /time: +3600 s|time: +1 h/);
    });

    it('snapshots: push, pull, export, import', async () => {
      const { at, flags, body } = place();
      await cli('snapshot', 'push', 'before', '--to', at('images'), ...flags);
      await transfer('empty', { action: 'push', to: at('images'), ...body });
      await cli('snapshot', 'pull', 'before', '--from', at('images'), '--branch', 'pulled', '-s', 'one', ...flags);
      await transfer('empty', {
        action: 'pull',
        from: at('images'),
        branch_name: 'pulled2',
        storage_name: 'one',
        ...body,
      });
      await cli('snapshot', 'export', 'before', '--format', 'tar', '--to', join(root(), 'before.tar'));
      await transfer('before', { action: 'export', format: 'pgdata', to: join(root(), 'pgdata') });
      await cli('snapshot', 'import', 'in1', '--from', join(root(), 'before.tar'), '-s', 'one');
      await transfer('in2', { action: 'import', from: join(root(), 'pgdata'), storage_name: 'one' });
      for (const [branch, rows] of Object.entries({ pulled: '1003', pulled2: '0', in1: '1003', in2: '1003' })) {
        assert.equal(await value(await stack.startCompute(branch, { branch }), 'select count(*) from t'), rows, branch);
        await stack.stopCompute(branch);
      }
      const all = await rest<Operation[]>('get', '/operations');
      assert.ok(all.length >= 4 && all.every(({ state }) => state === 'done'));
      assert.equal((await rest<Operation>('delete', `/operations/${all[0]?.id}`)).state, 'done');
    });

    it('left none out', async () => {
      const { paths } = await plain.get<{ paths: Record<string, Record<string, unknown>> }>('/openapi.json');
      const routes = Object.entries(paths).flatMap(([path, methods]) =>
        Object.keys(methods).map((m) => `${m} ${path}`),
      );
      const forms = [...called.routes];
      const missed = routes.filter((route) => {
        const form = new RegExp(`^${route.replace(/\{[^}]+\}/g, '[^/]+')}$`);
        return !forms.some((one) => form.test(one));
      });
      assert.ok(routes.length >= 28, `${routes.length} routes`);
      assert.deepEqual(missed, []);
      const documented = [...(await readFile(CLI_DOC, 'utf8')).matchAll(/^### neon (\S+ \S+)$/gm)].map(
        ([, name = '']) => name,
      );
      const wanted = documented.filter(
        (name) => GROUPS.includes(name.split(' ')[0] ?? '') && !ELSEWHERE.includes(name),
      );
      assert.ok(wanted.length >= 26, `${wanted.length} commands`);
      assert.deepEqual(
        wanted.filter((name) => !called.commands.has(name)),
        [],
      );
    });
  });
}
