/** The scrubber finds what is planted, deletes only what nobody needs; the layer tool reads what the server wrote. */
import { strict as assert } from 'node:assert';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { openObjectStore } from '#shared/io/object-store.js';
import type { ObjectStore } from '#shared/io/object-store.js';
import { indexKey, layerKey } from '../io/object-keys.js';
import { Acknowledged, live, ROOT, TENANT, toyEnv } from '../io/testing/toy-life.js';
import { claimGeneration } from '../tenant/generations.js';
import { writeManifest } from '../tenant/manifest.js';
import { findLayerFiles, layerEntries, layerMap, verifyLayer } from './layer-files.js';
import type { ScrubOptions } from './scrub.js';
import { scrub } from './scrub.js';

const TTID = { tenantId: TENANT, timelineId: ROOT };
const OPTIONS: Omit<ScrubOptions, 'nowMs'> = { tenantId: null, isDeep: true, deleteOrphans: false, minAgeMs: 0 };
/** Everything written so far is older. */
const soon = () => ({ nowMs: Date.now() + 60_000 });

describe('page server tools', () => {
  let dir: string;
  let store: ObjectStore;
  const claim = () => claimGeneration(store, { tenantId: TENANT, nodeId: 1, wanted: 0, above: 0, nowMs: 0 });
  const layerNames = async () => (await layerMap(store, TTID)).layers.map(({ name }) => name);
  const kinds = async (options: Partial<ScrubOptions> = {}) =>
    (await scrub(store, { ...OPTIONS, ...soon(), ...options })).findings.map(({ kind, key, deleted }) => [
      kind,
      basename(key),
      deleted,
    ]);

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'tools-'));
    store = await openObjectStore(`file://${dir}/remote`);
    await writeManifest(store, { tenantId: TENANT, systemId: 1n, generation: 0, deletedAtMs: null });
    const env = toyEnv(store, join(dir, 'local'));
    const told = new Acknowledged();
    await live(env, told, await claim());
    for (const timeline of told.timelines) await timeline.close();
    await env.layers.close();
  });
  after(() => rm(dir, { recursive: true, force: true }));

  it('maps a timeline', async () => {
    const { layers, indexGeneration, ancestor } = await layerMap(store, TTID);
    assert.deepEqual([indexGeneration, ancestor], [1, null]);
    assert.ok(layers.some(({ level }) => level === 'image') && layers.some(({ level }) => level === 'L0'));
    for (const { name, sizeBytes } of layers) assert.deepEqual(await store.head(layerKey(TTID, name)), { sizeBytes });
    await assert.rejects(layerMap(store, { ...TTID, timelineId: '00'.repeat(16) as typeof ROOT }), /is not in/);
  });

  it('dumps and verifies layer files, and tells a damaged one', async () => {
    const files = await findLayerFiles(join(dir, 'local'));
    assert.ok(files.length >= 2);
    for (const file of files) {
      const verdict = await verifyLayer(file);
      assert.deepEqual([verdict.problem, verdict.entries > 0], ['', true]);
      let last = '';
      for await (const { key, what, kind } of layerEntries(file)) {
        assert.ok(key >= last && /block \d+$/.test(what) && /image|record|init|tombstone/.test(kind));
        last = key;
      }
    }
    const bytes = await readFile(files[0]!);
    bytes[bytes.length >> 1]! ^= 1;
    const copy = join(dir, basename(files[0]!));
    await writeFile(copy, bytes);
    assert.match((await verifyLayer(copy)).problem, /CRC|corrupt|layer/);
    await writeFile(copy, bytes.subarray(0, 50));
    assert.match((await verifyLayer(copy)).problem, /shorter/);
  });

  it('finds nothing in a whole store', async () => {
    const report = await scrub(store, { ...OPTIONS, ...soon() });
    assert.deepEqual(report.findings, []);
    assert.deepEqual([report.tenantCount, report.timelineCount, report.layerCount > 3], [1, 2, true]);
  });

  it('finds what is missing, damaged in size or content, unknown', async () => {
    const [first, second, third] = await layerNames();
    const whole = await Promise.all([first!, second!, third!].map((name) => store.get(layerKey(TTID, name))));
    await store.delete([layerKey(TTID, first!)]);
    await store.put(layerKey(TTID, second!), whole[1]!.subarray(0, 100));
    const flipped = Buffer.from(whole[2]!);
    flipped[60]! ^= 1;
    await store.put(layerKey(TTID, third!), flipped);
    await store.put(`tenants/${TENANT}/timelines/${ROOT}/strange`, Buffer.from('x'));
    const found = await kinds({ deleteOrphans: true });
    const expected = [
      ['unknown', 'strange'],
      ['missing', first],
      ['damaged', second],
      ['damaged', third],
    ];
    assert.deepEqual(found.sort(), expected.map((one) => [...one, false]).sort());
    assert.deepEqual(
      (await kinds({ isDeep: false })).some(([, name]) => name === third),
      false,
    );
    await store.delete([`tenants/${TENANT}/timelines/${ROOT}/strange`]);
    for (const [at, name] of [first!, second!, third!].entries()) await store.put(layerKey(TTID, name), whole[at]!);
    assert.deepEqual(await kinds(), []);
  });

  it('deletes an orphan only when it is old, of a past generation, and the newest holder has an index', async () => {
    const [name] = await layerNames();
    const orphan = `${name!.slice(0, name!.lastIndexOf('__'))}__0000000000000011-0000000000000022-00000001`;
    await store.put(layerKey(TTID, orphan), Buffer.from('left behind'));
    const deleting = { deleteOrphans: true };
    // Of the generation in use: somebody may be about to name it.
    assert.deepEqual(await kinds(deleting), [['orphan', orphan, false]]);
    const generation = await claim();
    // The new holder may still read by the old index.
    assert.deepEqual(await kinds(deleting), [['orphan', orphan, false]]);
    for (const timelineId of (await store.listPrefixes(`tenants/${TENANT}/timelines/`)) as Array<typeof ROOT>) {
      const ttid = { tenantId: TENANT, timelineId };
      await store.put(indexKey(ttid, generation), await store.get(indexKey(ttid, 1)));
    }
    assert.deepEqual(await kinds({ ...deleting, minAgeMs: 3_600_000 }), [['orphan', orphan, false]]);
    assert.deepEqual(await kinds(), [['orphan', orphan, false]]);
    assert.deepEqual(await kinds(deleting), [['orphan', orphan, true]]);
    assert.deepEqual(await kinds(deleting), []);
  });

  it('says that an index or a manifest is damaged, and then deletes nothing there', async () => {
    const key = indexKey(TTID, 1);
    const whole = await store.get(key);
    await store.put(key, whole.subarray(0, 200));
    assert.deepEqual(await kinds({ deleteOrphans: true }), [['damaged', basename(key), false]]);
    await store.put(key, whole);
    const manifest = `tenants/${TENANT}/manifest.json`;
    const bytes = await store.get(manifest);
    await store.put(manifest, Buffer.from('{'));
    assert.deepEqual(await kinds({ deleteOrphans: true }), [['damaged', 'manifest.json', false]]);
    await store.put(manifest, bytes);
  });

  it('removes what a tenant without a manifest has left, when asked', async () => {
    const gone = `tenants/${'99'.repeat(16)}/timelines/${ROOT}`;
    const [name] = await layerNames();
    await store.put(`${gone}/${name!}`, Buffer.from('x'));
    await store.put(`tenants/${'99'.repeat(16)}/foreign`, Buffer.from('x'));
    assert.deepEqual(
      (await kinds({ deleteOrphans: true })).sort(),
      [
        ['orphan', name, true],
        ['unknown', 'foreign', false],
      ].sort(),
    );
    assert.deepEqual(await store.list(`tenants/${'99'.repeat(16)}/`), [`tenants/${'99'.repeat(16)}/foreign`]);
  });
});
