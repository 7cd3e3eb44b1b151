/** Tenants and timelines by HTTP and gRPC, over restarts. No WAL is received here: the broker's address leads nowhere. */
import { strict as assert } from 'node:assert';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { LocationMode, LocationServiceClient } from '#gen/neon/pageserver/v1/location.js';
import { ManagementServiceClient, TimelineState } from '#gen/neon/pageserver/v1/management.js';
import { StorageError } from '#shared/core/errors.js';
import { parseTenantId, parseTtid } from '#shared/core/ids.js';
import type { ObjectStore } from '#shared/io/object-store.js';
import { openObjectStore } from '#shared/io/object-store.js';
import { TempCluster } from '#shared/postgres/testing/temp-cluster.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import type { PageServer } from './context.js';
import { readManifest, writeManifest } from './tenant/manifest.js';
import { makeSystemId } from './tenant/system-id.js';
import { packImage, startIn } from './testing/recorded-server.js';

const NOWHERE = ['--broker-endpoint', 'http://127.0.0.1:9'];
const TENANT = parseTenantId('aa'.repeat(16));
const TIMELINE = parseTtid({ tenantId: TENANT, timelineId: '01'.repeat(16) });
const BRANCH = parseTtid({ tenantId: TENANT, timelineId: '02'.repeat(16) });

type Json = Record<string, unknown>;

describe('page server management', function () {
  this.timeout(120_000);
  const root = mkdtempSync(path.join(tmpdir(), 'neon-ps-'));
  let objectStore: ObjectStore;
  let server: PageServer;

  const restart = async () => {
    await server.stop({ isCrash: true });
    server = await startIn(root, NOWHERE);
  };

  /** As the deployment scripts call: curl, with a trailing slash, JSON sent as a form. */
  const curl = async (method: string, url: string, body?: unknown): Promise<{ status: number; json: unknown }> => {
    const args = ['-s', '-X', method, '-w', '\n%{http_code}', `http://${server.http}${url}`];
    if (body !== undefined) args.push('-d', JSON.stringify(body));
    const lines = (await promisify(execFile)('curl', args)).stdout.split('\n');
    const status = Number(lines.pop());
    const text = lines.join('\n');
    return { status, json: text === '' ? null : JSON.parse(text) };
  };
  const request = async (method: string, url: string, body?: unknown): Promise<{ status: number; json: unknown }> => {
    const response = await fetch(`http://${server.http}${url}`, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    });
    const text = await response.text();
    return { status: response.status, json: text === '' ? null : JSON.parse(text) };
  };

  before(async () => {
    const cluster = await TempCluster.create({ user: 'cloud_admin' });
    packImage(cluster, root);
    await cluster.destroy();
    objectStore = await openObjectStore(`file://${root}/store`);
    server = await startIn(root, NOWHERE);
  });
  after(async () => {
    await server.stop({ isCrash: true });
    rmSync(root, { recursive: true });
  });

  it('makes tenants in every form that is asked for', async () => {
    const fresh = await request('POST', '/v1/tenant/', {});
    assert.equal(fresh.status, 201);
    assert.match(fresh.json as string, /^[0-9a-f]{32}$/);
    assert.deepEqual(await request('POST', '/v1/tenant', { new_tenant_id: TENANT }), { status: 201, json: TENANT });
    assert.deepEqual(await request('POST', '/v1/tenant', { new_tenant_id: TENANT }), { status: 201, json: TENANT });
    const config = { mode: 'AttachedSingle', generation: 1, tenant_conf: {} };
    const attached = await request('PUT', `/v1/tenant/${'bb'.repeat(16)}/location_config`, config);
    assert.equal(attached.status, 200);
    const tenants = (await request('GET', '/v1/tenant/')).json as Json[];
    assert.deepEqual(
      tenants.map(({ id }) => id),
      [fresh.json, TENANT, 'bb'.repeat(16)].sort(),
    );
    assert.equal((await request('POST', '/v1/tenant', { new_tenant_id: 'xyz' })).status, 400);
    assert.equal((await request('GET', `/v1/tenant/${'cc'.repeat(16)}`)).status, 404);
    assert.deepEqual((await request('GET', '/v1/status')).json, { id: 1, version: '0.1.0' });
  });

  it('takes what curl sends', async () => {
    const { status, json } = await curl('POST', '/v1/tenant/', {});
    assert.equal(status, 201);
    assert.equal((await curl('DELETE', `/v1/tenant/${json as string}`)).status, 202);
  });

  it('makes a timeline once, whoever asks how often', async () => {
    const { tenants } = server;
    const results = await Promise.all(
      [1, 2, 3].map(() => tenants.createTimeline(TIMELINE, { kind: 'bootstrap', pgMajor: 15 })),
    );
    assert.deepEqual(
      results.map(({ created }) => created),
      [true, false, false],
    );
    const url = `/v1/tenant/${TENANT}/timeline`;
    const again = await request('POST', `${url}/`, { new_timeline_id: TIMELINE.timelineId, pg_version: 15 });
    const info = again.json as Json;
    assert.equal(again.status, 201);
    assert.equal(info['timeline_id'], TIMELINE.timelineId);
    assert.equal(info['state'], 'Active');
    assert.equal(info['remote_consistent_lsn'], info['initdb_lsn']);
    assert.ok((info['current_logical_size'] as number) > 10_000_000);
    assert.deepEqual((await request('GET', `${url}/${TIMELINE.timelineId}`)).json, info);
  });

  it('branches, and refuses what cannot be', async () => {
    const url = `/v1/tenant/${TENANT}/timeline`;
    const ancestor_timeline_id = TIMELINE.timelineId;
    const made = await request('POST', url, { new_timeline_id: BRANCH.timelineId, ancestor_timeline_id });
    const head = ((await request('GET', `${url}/${ancestor_timeline_id}`)).json as Json)['last_record_lsn'];
    assert.equal(made.status, 201);
    assert.equal((made.json as Json)['ancestor_lsn'], head);
    const cases: Array<[number, RegExp, Json]> = [
      [409, /as a branch/, { new_timeline_id: BRANCH.timelineId }],
      [409, /no branch/, { new_timeline_id: TIMELINE.timelineId, ancestor_timeline_id }],
      [404, /does not exist/, { ancestor_timeline_id: '77'.repeat(16) }],
      [400, /begins/, { ancestor_timeline_id, ancestor_start_lsn: '0/1000000' }],
      [400, /is not an LSN/, { ancestor_timeline_id, ancestor_start_lsn: 'here' }],
      [501, /PostgreSQL 14/, { pg_version: 14 }],
      [400, /pg_version/, { pg_version: 'new' }],
    ];
    for (const [status, text, body] of cases) {
      const { status: got, json } = await request('POST', url, body);
      assert.equal(got, status, JSON.stringify(json));
      assert.match((json as Json)['msg'] as string, text);
    }
    const denied = await request('DELETE', `${url}/${TIMELINE.timelineId}`);
    assert.deepEqual([denied.status, /has a branch/.test((denied.json as Json)['msg'] as string)], [412, true]);
    assert.equal((await request('PUT', `${url}/${BRANCH.timelineId}/checkpoint`)).status, 200);
  });

  it('finds everything again, one generation later, and says so by gRPC', async () => {
    await restart();
    const client = createClient(ManagementServiceClient, server.grpc);
    const { tenants } = await callUnary(client, client.listTenants, {});
    assert.deepEqual(
      tenants.find(({ tenantId }) => tenantId === TENANT),
      { tenantId: TENANT, generation: 2, timelineCount: 2, shardNumber: 0, shardCount: 0, stripeSize: 2048 },
    );
    const { timelines } = await callUnary(client, client.listTimelines, { tenantId: TENANT });
    const manifest = await readManifest(objectStore, TENANT);
    for (const timeline of timelines) {
      assert.equal(timeline.state, TimelineState.ACTIVE);
      assert.equal(timeline.systemId, manifest?.systemId);
      assert.equal(timeline.walSegSize, 16 << 20);
    }
    const status = await callUnary(client, client.getStatus, {});
    assert.deepEqual([status.tenantCount, status.timelineCount], [tenants.length, 2]);
    client.close();
  });

  it('tells what it asks of the object store', async () => {
    const text = await (await fetch(`http://${server.http}/metrics`)).text();
    const value = (name: string) =>
      Number(new RegExp(`^${name.replaceAll(/[{}"]/g, '\\$&')}[^\\n]* (\\S+)$`, 'm').exec(text)?.[1]);
    assert.ok(value('pageserver_remote_requests_total{operation="list"') > 0);
    assert.ok(value('pageserver_remote_requests_total{operation="create"') > 0);
    assert.equal(value('pageserver_remote_waiting{operation="put_file"'), 0);
    assert.equal(value('pageserver_upload_queue_layers'), 0);
    assert.equal(value('pageserver_locations{mode="attached-single"'), server.tenants.list().length);
  });

  it('takes every location mode by HTTP and gRPC', async () => {
    const url = `/v1/tenant/${TENANT}/location_config`;
    for (const mode of ['AttachedMulti', 'AttachedStale', 'Secondary', 'Secondary']) {
      const { status, json } = await request('PUT', url, { mode });
      assert.deepEqual([status, (json as Json)['mode']], [200, mode], JSON.stringify(json));
    }
    assert.equal((await request('POST', `/v1/tenant/${TENANT}/secondary/download`)).status, 200);
    const { json: progress } = await request('GET', `/v1/tenant/${TENANT}/secondary/status`);
    assert.ok(((progress as Json)['layers_downloaded'] as number) > 0);
    assert.equal((await request('GET', `/v1/tenant/${TENANT}`)).status, 404);
    assert.equal((await request('PUT', url, { mode: 'Elsewhere' })).status, 400);
    const client = createClient(LocationServiceClient, server.grpc);
    const location = { mode: LocationMode.ATTACHED_SINGLE, generation: 0 };
    const set = await callUnary(client, client.setLocation, { tenantId: TENANT, location, create: false });
    assert.equal(set.location?.mode, LocationMode.ATTACHED_SINGLE);
    const { locations } = await callUnary(client, client.listLocations, {});
    assert.ok(locations.some(({ tenantId }) => tenantId === TENANT));
    client.close();
  });

  it('refuses to attach at a generation that has passed', async () => {
    await server.tenants.detach(TENANT);
    await assert.rejects(server.tenants.attach(TENANT, 1), isKind('fenced'));
    assert.equal((await server.tenants.attach(TENANT, 9)).generation, 9);
    assert.equal((await server.tenants.attach(TENANT, 0)).generation, 9);
  });

  it('deletes a timeline and a tenant with every object', async () => {
    assert.equal(await server.tenants.deleteTimeline(BRANCH), true);
    assert.deepEqual(await objectStore.list(`tenants/${TENANT}/timelines/${BRANCH.timelineId}/`), []);
    assert.equal(await server.tenants.delete(TENANT), true);
    assert.equal(await server.tenants.delete(TENANT), false);
    assert.deepEqual(await objectStore.list(`tenants/${TENANT}/`), []);
    await assert.rejects(
      server.tenants.createTimeline(TIMELINE, { kind: 'bootstrap', pgMajor: 15 }),
      isKind('not-found'),
    );
  });

  it('finishes the deletion of a tenant that a crash interrupted, and leaves out one that is damaged', async () => {
    await server.tenants.create(TENANT);
    await server.tenants.createTimeline(TIMELINE, { kind: 'bootstrap', pgMajor: 0 });
    const manifest = await readManifest(objectStore, TENANT);
    assert.ok(manifest !== null);
    await writeManifest(objectStore, { ...manifest, deletedAtMs: Date.now() });
    const damaged = parseTenantId('dd'.repeat(16));
    await objectStore.put(`tenants/${damaged}/manifest.json`, Buffer.from('{"version": 1'));
    await restart();
    assert.deepEqual(await objectStore.list(`tenants/${TENANT}/`), []);
    const ids: string[] = server.tenants.list().map(({ tenantId }) => tenantId);
    assert.ok(ids.length > 0 && !ids.includes(TENANT) && !ids.includes(damaged));
  });
});

describe('system identifier', () => {
  it('is made of the time and something that differs', () => {
    assert.equal(
      makeSystemId(1_700_000_000_123, () => 0x1abc),
      (1_700_000_000n << 32n) | (123_000n << 12n) | 0xabcn,
    );
  });
});

function isKind(kind: string) {
  return (error: unknown) => error instanceof StorageError && error.kind === kind;
}
