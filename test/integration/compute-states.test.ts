/** The states of a compute, its HTTP and gRPC servers, and changes of its spec, on real storage and Postgres. */
import { strict as assert } from 'node:assert';
import { once } from 'node:events';
import { rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import pg from 'pg';
import { CatalogServiceClient, SchemaPrivilege } from '#gen/neon/compute/v1/catalog.js';
import { ComputeServiceClient, ComputeState } from '#gen/neon/compute/v1/compute.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import { Cluster, connstr, freePort } from '../../services/compute-ctl/testing/cluster.js';
import type { Service } from '../../services/compute-ctl/testing/cluster.js';
import { ROUTES } from '../../services/compute-ctl/rpc/routes.js';
import { query, until, value } from '../harness/stack.js';

const WAIT_MS = 60_000;
const MD5 = 'ab'.repeat(16);

interface Reply {
  readonly status: number;
  readonly body: Record<string, unknown>;
  readonly text: string;
}

describe('compute_ctl: states and servers', function () {
  this.timeout(240_000);
  let cluster: Cluster;
  let compute: Service;
  let port = 0;
  let plane: Server | null = null;

  before(async () => {
    cluster = await Cluster.start({ safekeepers: 1 });
  });
  after(async () => {
    plane?.close();
    await cluster?.stop();
  });
  afterEach(function () {
    if (this.currentTest?.state === 'failed') process.stderr.write((compute?.log() ?? '').slice(-8_000));
  });

  async function call(method: 'GET' | 'POST', path: string, body?: unknown): Promise<Reply> {
    const init =
      body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } };
    const response = await fetch(`http://${compute.ready?.http}${path}`, { method, ...init });
    const text = await response.text();
    const isJson = response.headers.get('content-type')?.includes('json') === true;
    return { status: response.status, text, body: isJson ? (JSON.parse(text) as Record<string, unknown>) : {} };
  }
  const phase = async (): Promise<unknown> => (await call('GET', '/status')).body['status'];
  const inState = (wanted: string): Promise<unknown> =>
    until(`state ${wanted}`, WAIT_MS, async () => (await phase().catch(() => '')) === wanted);
  const statements = (): number => compute.log().split('applying the spec').length - 1;

  it('waits for a spec, and can be told to end before one comes', async () => {
    port = await freePort();
    compute = cluster.compute({ name: 'empty', port, source: [] });
    await compute.started();
    assert.equal(await phase(), 'empty');
    assert.equal((await call('POST', '/terminate?mode=immediate')).body['lsn'], null);
    assert.equal(await compute.exited(), 0);
  });

  it('refuses what its state does not allow, and a wrong spec, without a change', async () => {
    compute = cluster.compute({ name: 'configured', port, source: [] });
    await compute.started();
    for (const { method, path, body, query: asks } of ROUTES) {
      if (['/status', '/metrics.json', '/last_activity', '/configure', '/terminate'].includes(path)) continue;
      const given = { extension: 'e', database: 'postgres', schema: 's', role: 'r', privileges: ['ALL'] };
      const url = asks === undefined ? path : `${path}?database=postgres`;
      assert.equal((await call(method, url, body === undefined ? undefined : given)).status, 412, path);
    }
    const wrong = await call('POST', '/configure', { spec: { ...cluster.spec({ name: 'x', port }), tenant_id: 'x' } });
    assert.equal(wrong.status, 400);
    assert.match(String(wrong.body['error']), /tenant_id/);
    assert.equal((await call('POST', '/configure', {})).status, 400);
    assert.equal((await call('POST', '/terminate?mode=soon')).status, 400);
    assert.equal(await phase(), 'empty');
  });

  it('becomes what the spec says that is brought', async () => {
    const { status, body } = await call('POST', '/configure', { spec: cluster.spec({ name: 'x', port }) });
    assert.deepEqual([status, body['status']], [200, 'running']);
    assert.deepEqual([body['tenant'], body['timeline']], [cluster.tenantId, cluster.timelineId]);
    assert.equal(await value(connstr(port), 'select 1'), '1');
    const timings = (await call('GET', '/metrics.json')).body;
    for (const step of ['wait_for_spec_ms', 'sync_safekeepers_ms', 'start_postgres_ms', 'total_startup_ms']) {
      assert.ok(Number(timings[step]) > 0, `${step}: ${String(timings[step])}`);
    }
    assert.ok(Number(timings['basebackup_bytes']) > 10_000);
  });

  interface RoleJson {
    name: string;
    encrypted_password?: string;
    options: object[];
  }
  const roles: RoleJson[] = [
    {
      name: 'app "user"',
      encrypted_password: MD5,
      options: [{ name: 'CONNECTION LIMIT', value: '7', vartype: 'integer' }],
    },
    { name: 'reader', options: [{ name: 'NOLOGIN' }] },
  ];
  const databases: { name: string; owner: string; options: object[] }[] = [
    { name: "app's %db", owner: 'app "user"', options: [{ name: 'CONNECTION LIMIT', value: '20' }] },
  ];
  const changed = (more: Record<string, unknown> = {}, settings: Record<string, string> = {}) => {
    const all = { shared_buffers: '16MB', port: String(port), work_mem: '7MB', ...settings };
    const list = Object.entries(all).map(([name, text]) => ({ name, value: text }));
    return {
      spec: cluster.spec({ name: 'x', port, spec: { cluster: { settings: list, roles, databases }, ...more } }),
    };
  };

  it('changes while it runs, and does nothing when nothing changed', async () => {
    const held = new pg.Client(connstr(port));
    await held.connect();
    const more = { extensions: [{ name: 'hstore', database: "app's %db" }] };
    const reply = await call('POST', '/configure', changed(more, { max_connections: '60' }));
    assert.deepEqual([reply.status, reply.body['pending_restart']], [200, ['max_connections']], reply.text);
    const rows = (
      await held.query<{ w: string; m: string }>(
        "select current_setting('work_mem') w, current_setting('max_connections') m",
      )
    ).rows;
    assert.deepEqual(rows, [{ w: '7MB', m: '100' }], 'the session lives, with what needs no restart');
    await held.end();
    assert.equal(await value(connstr(port), `select rolconnlimit from pg_roles where rolname = 'app "user"'`), '7');
    assert.equal(
      await value(connstr(port), `select datconnlimit from pg_database where datname = $$app's %db$$`),
      '20',
    );
    const count = statements();
    assert.ok(count >= 4);
    assert.equal((await call('POST', '/configure', changed(more, { max_connections: '60' }))).status, 200);
    assert.equal(statements(), count);
    roles[1] = {
      name: 'reader',
      encrypted_password: 'SCRAM-SHA-256$4096:c2FsdA==$YQ==:Yg==',
      options: [{ name: 'LOGIN' }],
    };
    assert.equal((await call('POST', '/configure', changed(more, { max_connections: '60' }))).status, 200);
    assert.equal(statements(), count + 1);
  });

  it('renames and drops what the spec says', async () => {
    const delta_operations = [
      { action: 'rename_db', name: "app's %db", new_name: 'app' },
      { action: 'delete_role', name: 'reader' },
    ];
    roles.pop();
    databases[0] = { name: 'app', owner: 'cloud_admin', options: [] };
    await query(connstr(port), 'create table owned (id int); alter table owned owner to reader');
    const reply = await call('POST', '/configure', changed({ delta_operations }));
    assert.equal(reply.status, 200, reply.text);
    const names = await query(
      connstr(port),
      'select datname, pg_get_userbyid(datdba) from pg_database where not datistemplate order by 1',
    );
    assert.deepEqual(names, [
      ['app', 'cloud_admin'],
      ['postgres', 'cloud_admin'],
    ]);
    assert.equal(
      await value(connstr(port), "select tableowner from pg_tables where tablename = 'owned'"),
      'cloud_admin',
    );
    const count = statements();
    assert.equal((await call('POST', '/configure', changed({ delta_operations }))).status, 200);
    assert.equal(statements(), count);
  });

  it('answers every question about its databases by HTTP', async () => {
    const listing = (await call('GET', '/dbs_and_roles')).body as { roles: { name: string }[]; databases: object[] };
    assert.deepEqual(listing.databases[0], { name: 'app', owner: 'cloud_admin', restrict_conn: false, invalid: false });
    assert.ok(listing.roles.some(({ name }) => name === 'app "user"') && !JSON.stringify(listing).includes('md5'));
    const dump = await call('GET', '/database_schema?database=postgres');
    assert.match(dump.text, /CREATE TABLE public\.owned/);
    assert.equal((await call('GET', '/database_schema?database=nobody')).status, 404);
    assert.equal((await call('GET', '/database_schema')).status, 400);
    const install = { extension: 'hstore', database: 'app', version: '1.8' };
    assert.deepEqual((await call('POST', '/extensions', install)).body, { extension: 'hstore', version: '1.8' });
    assert.equal((await call('POST', '/extensions', { ...install, extension: 'no_such' })).status, 404);
    const { extensions } = (await call('GET', '/installed_extensions')).body as { extensions: { extname: string }[] };
    assert.deepEqual(
      extensions.map(({ extname }) => extname),
      ['hstore', 'plpgsql'],
    );
    const grant = { database: 'app', schema: 'public', role: 'app "user"', privileges: ['USAGE', 'CREATE'] };
    assert.deepEqual((await call('POST', '/grants', grant)).body, grant);
    const may = `select has_schema_privilege('app "user"', 'public', 'CREATE')`;
    assert.equal(await value(connstr(port).replace(/postgres$/, 'app'), may), 'true');
    assert.equal((await call('POST', '/grants', { ...grant, role: 'nobody' })).status, 404);
    assert.equal((await call('POST', '/grants', { ...grant, privileges: ['SELECT'] })).status, 400);
    assert.deepEqual((await call('POST', '/check_writability')).body, { writable: true });
    assert.equal((await call('GET', '/insights')).status, 412);
    assert.match((await call('GET', '/metrics')).text, /compute_status\{status="running"[^}]*\} 1/);
    const { paths } = (await call('GET', '/openapi.json')).body as { paths: Record<string, object> };
    for (const { path } of ROUTES) assert.ok(paths[path] !== undefined, path);
  });

  it('answers the same by gRPC', async () => {
    const client = createClient(ComputeServiceClient, compute.ready?.grpc ?? '');
    const catalog = createClient(CatalogServiceClient, compute.ready?.grpc ?? '');
    try {
      assert.equal((await callUnary(client, client.getStatus, {})).state, ComputeState.RUNNING);
      const { databases: found, roles: people } = await callUnary(catalog, catalog.listDatabasesAndRoles, {});
      assert.deepEqual(
        found.map(({ name }) => name),
        ['app', 'postgres'],
      );
      assert.ok(people.some(({ name }) => name === 'app "user"'));
      const request = { extension: 'citext', database: 'app', version: '' };
      assert.match((await callUnary(catalog, catalog.installExtension, request)).version, /^1\./);
      const { extensions } = await callUnary(catalog, catalog.listInstalledExtensions, {});
      assert.deepEqual(
        extensions.map(({ name, databaseCount }) => [name, databaseCount]),
        [
          ['citext', 1],
          ['hstore', 1],
          ['plpgsql', 2],
        ],
      );
      const privileges = [SchemaPrivilege.ALL];
      await callUnary(catalog, catalog.grantOnSchema, {
        database: 'app',
        schema: 'public',
        role: 'app "user"',
        privileges,
      });
      await callUnary(catalog, catalog.checkWritability, {});
      await assert.rejects(callUnary(catalog, catalog.getInsights, {}), /pg_stat_statements/);
      const pieces: Buffer[] = [];
      for await (const { sql } of catalog.getDatabaseSchema({ database: 'app' }) as AsyncIterable<{ sql: Buffer }>)
        pieces.push(sql);
      assert.match(Buffer.concat(pieces).toString(), /CREATE EXTENSION IF NOT EXISTS hstore/);
      await assert.rejects(callUnary(client, client.refreshConfiguration, {}), /nowhere to pull/);
      const { specJson } = { specJson: JSON.stringify(changed().spec) };
      await callUnary(client, client.configure, { specJson }, { deadlineMs: WAIT_MS });
      await assert.rejects(callUnary(client, client.configure, { specJson: '{}' }), /tenant_id: is missing/);
    } finally {
      client.close();
      catalog.close();
    }
  });

  it('knows when it was last used', async () => {
    const client = createClient(ComputeServiceClient, compute.ready?.grpc ?? '');
    const last = async (): Promise<bigint> => (await callUnary(client, client.getLastActivity, {})).lastActiveMs;
    const before = BigInt(Date.now());
    await query(connstr(port), 'select 1');
    await until('the short session to be noticed', WAIT_MS, async () => (await last()) >= before - 1_000n);
    const quiet = await last();
    await call('GET', '/dbs_and_roles');
    await query(connstr(port), 'select pg_sleep(2)');
    assert.ok((await last()) > quiet + 500n);
    const { body } = await call('GET', '/last_activity');
    assert.equal(body['last_active'], (await call('GET', '/status')).body['last_active']);
    assert.ok(Number(body['idle_ms']) >= 0);
    client.close();
  });

  it('fails with a setting that the server refuses, keeps all as it was, and serves on', async () => {
    const reply = await call('POST', '/configure', changed({}, { work_mem: '8MB', log_statement: 'sometimes' }));
    assert.equal(reply.status, 500);
    assert.match(String(reply.body['error']), /log_statement/);
    assert.equal(await phase(), 'failed');
    assert.equal(await value(connstr(port), 'show work_mem'), '7MB');
    assert.equal((await call('POST', '/configure', changed())).status, 412);
    compute.kill('SIGTERM');
    assert.equal(await compute.exited(), 0);
  });

  it('tells its last position at once, and stays for inspection', async () => {
    port = await freePort();
    compute = cluster.compute({ name: 'inspected', port, args: ['--terminate-delay-ms', '60000'] });
    await compute.started();
    const { body } = await call('POST', '/terminate');
    assert.match(String(body['lsn']), /^0\/[0-9A-F]+$/);
    assert.equal(await phase(), 'termination_pending_fast');
    assert.deepEqual((await call('POST', '/terminate?mode=immediate')).body, body);
    assert.equal((await call('POST', '/configure', changed())).status, 412);
    compute.kill('SIGTERM');
    assert.equal(await compute.exited(), 0);
  });

  it('refreshes its spec from the file, again and again until it can', async () => {
    const name = 'refreshed';
    const write = (settings: Record<string, string>, more = {}) =>
      writeFileSync(cluster.specPath(name), JSON.stringify(cluster.spec({ name, port, settings, spec: more })));
    compute = cluster.compute({ name, port });
    await compute.started();
    write({ work_mem: '9MB' });
    assert.equal((await call('POST', '/refresh_configuration')).status, 200);
    await inState('running');
    assert.equal(await value(connstr(port), 'show work_mem'), '9MB');
    writeFileSync(cluster.specPath(name), '{');
    await call('POST', '/refresh_configuration');
    await until('the mistake to be told', WAIT_MS, async () =>
      /not JSON/.test(String((await call('GET', '/status')).body['error'])),
    );
    assert.equal(await value(connstr(port), 'show work_mem'), '9MB');
    assert.equal((await call('POST', '/terminate')).status, 412);
    write({ work_mem: '10MB' });
    await inState('running');
    assert.equal(await value(connstr(port), 'show work_mem'), '10MB');
    assert.equal((await call('GET', '/status')).body['error'], null);
    rmSync(cluster.specPath(name));
    await call('POST', '/refresh_configuration');
    compute.kill('SIGTERM');
    assert.equal(await compute.exited(), 0);
  });

  it('comes to life by a refresh after its start failed', async () => {
    const name = 'revived';
    const http = `127.0.0.1:${await freePort()}`;
    const args = ['--linger-ms', '60000', '--listen-http', http];
    compute = cluster.compute({ name, port, spec: { timeline_id: '0'.repeat(32) }, args });
    compute.ready = { ready: true, service: 'compute_ctl', pid: 0, http };
    await inState('failed');
    assert.match(String((await call('GET', '/status')).body['error']), /timeline/);
    writeFileSync(cluster.specPath(name), JSON.stringify(cluster.spec({ name, port })));
    await call('POST', '/refresh_configuration');
    await inState('running');
    assert.equal(await value(connstr(port), 'select 1'), '1');
    compute.kill('SIGTERM');
    assert.equal(await compute.exited(), 0);
  });

  it('gets its spec from a control plane, and ends when that has none any more', async () => {
    let answer: object = { status: 'empty' };
    const asked: string[] = [];
    plane = createServer((request, response) => {
      asked.push(`${request.url} ${request.headers.authorization}`);
      response.setHeader('content-type', 'application/json').end(JSON.stringify(answer));
    }).listen(0, '127.0.0.1');
    await once(plane, 'listening');
    const uri = `http://127.0.0.1:${(plane.address() as AddressInfo).port}/`;
    answer = { status: 'attached', spec: cluster.spec({ name: 'planned', port }) };
    const env = { NEON_CONTROL_PLANE_TOKEN: 'secret' };
    compute = cluster.compute({ name: 'planned', port, source: ['-p', uri, '-i', 'c 1'], env });
    await compute.started();
    assert.equal(asked[0], '/compute/api/v2/computes/c%201/spec Bearer secret');
    answer = { status: 'attached', spec: cluster.spec({ name: 'planned', port, settings: { work_mem: '11MB' } }) };
    await call('POST', '/refresh_configuration');
    await inState('running');
    assert.equal(await value(connstr(port), 'show work_mem'), '11MB');
    answer = { status: 'empty' };
    await call('POST', '/refresh_configuration');
    assert.equal(await compute.exited(), 1);
  });
});
