/** Image layers in the middle of history: final for their keys, whatever lies below. The layers are written by hand here. */
import { strict as assert } from 'node:assert';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseTenantId, parseTimelineId } from '#shared/core/ids.js';
import { lsn } from '#shared/core/lsn.js';
import { ensureDir } from '#shared/io/files.js';
import { openObjectStore } from '#shared/io/object-store.js';
import { silentLogger } from '#shared/runtime/log.js';
import { compareKeys, internPrefix, makeKey } from '../core/key.js';
import type { Key } from '../core/key.js';
import type { IndexPart, LayerMetadata } from '../core/storage/index-part.js';
import { MAX_KEY, MIN_KEY } from '../core/storage/layer-name.js';
import { VALUE_IMAGE, VALUE_RECORD, VALUE_TOMBSTONE } from '../core/storage/store.js';
import type { ValueKind } from '../core/storage/store.js';
import { LayerWriter } from './layer-writer.js';
import { createStorageEnv } from './storage-env.js';
import { loadTimeline } from './tenant-storage.js';
import { foldPage, foldRedo } from './testing/fold-redo.js';
import { timelineDir } from './local-dirs.js';

const TTID = { tenantId: parseTenantId('77'.repeat(16)), timelineId: parseTimelineId('88'.repeat(16)) };
const META = internPrefix(0x60, 1, 2, 3, 0);
const PAGES = internPrefix(0, 1, 2, 3, 0);
const meta = (n: number) => makeKey(META, n);
const page = (n: number) => makeKey(PAGES, n);

type Entry = readonly [Key, number, ValueKind, Uint8Array];

interface HandMade {
  readonly kind: 'delta' | 'image';
  readonly lsns: readonly [number, number];
  readonly keys?: readonly [Key, Key];
  readonly entries: readonly Entry[];
}

const text = (value: string) => Buffer.from(value);
const full = (value: string) => Buffer.alloc(8192, value);
const NOTHING = new Uint8Array(0);

/**
 * Pages 1-3 and metadata 1-3. The image layer at 300 covers keys up to number 2 only, and says that 2 does not exist; what the deltas
 * below it have of 2 is not to be seen from 300 on.
 */
const LAYERS: readonly HandMade[] = [
  {
    kind: 'image',
    lsns: [100, 101],
    entries: [1, 3].flatMap((n): Entry[] => [
      [page(n), 100, VALUE_IMAGE, full(`p${n}`)],
      [meta(n), 100, VALUE_IMAGE, text(`m${n}`)],
    ]),
  },
  {
    kind: 'delta',
    lsns: [101, 401],
    entries: [
      [page(1), 200, VALUE_RECORD, text('below')],
      [page(1), 350, VALUE_RECORD, text('above')],
      [page(2), 200, VALUE_IMAGE, full('lost')],
      [page(3), 200, VALUE_RECORD, text('three')],
      [meta(1), 350, VALUE_IMAGE, text('m1 new')],
      [meta(2), 200, VALUE_IMAGE, text('lost')],
      [meta(3), 380, VALUE_TOMBSTONE, NOTHING],
    ],
  },
  { kind: 'image', lsns: [300, 301], keys: [MIN_KEY, page(3)], entries: [[page(1), 300, VALUE_IMAGE, full('at 300')]] },
  { kind: 'image', lsns: [300, 301], keys: [meta(0), meta(3)], entries: [[meta(1), 300, VALUE_IMAGE, text('m1')]] },
];

async function writeLayers(dir: string): Promise<Map<string, LayerMetadata>> {
  await ensureDir(dir);
  const layers = new Map<string, LayerMetadata>();
  for (const { kind, lsns, keys, entries } of LAYERS) {
    const owner = { ttid: TTID, pgMajor: 15 };
    const writer = new LayerWriter({ dir, owner, generation: 1, kind, lsnStart: lsn(lsns[0]), lsnEnd: lsn(lsns[1]) });
    await writer.open();
    const sorted = [...entries].sort((a, b) => compareKeys(a[0], b[0]) || a[1] - b[1]);
    for (const [key, at, valueKind, value] of sorted) writer.add(key, lsn(at), valueKind, value);
    const [keyStart, keyEnd] = keys ?? [MIN_KEY, MAX_KEY];
    const written = await writer.finish({ keyStart, keyEnd });
    layers.set(written!.name, { sizeBytes: written!.sizeBytes, crc: written!.crc });
  }
  return layers;
}

describe('image layers', () => {
  it('are final for pages, metadata and scans of their range', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'store-image-'));
    const objectStore = await openObjectStore(`file://${dir}/remote`);
    const workDir = join(dir, 'local');
    const env = createStorageEnv({ objectStore, workDir, log: silentLogger, reconstructPage: foldRedo });
    try {
      const layers = await writeLayers(timelineDir(env, TTID));
      const index: IndexPart = {
        ttid: TTID,
        ...{ pgMajor: 15, systemId: 1n, segSize: 1 << 24, ancestor: null, deletedAtMs: null },
        initdbLsn: lsn(100),
        diskConsistentLsn: lsn(400),
        prevRecordLsn: lsn(380),
        minReadableLsn: lsn(100),
        timePoints: [],
        layers,
      };
      const timeline = await loadTimeline(env, index, { generation: 1, parent: null });
      const get = async (n: number, at: number) => (await timeline.get(meta(n), lsn(at)))?.toString();
      const scan = async (at: number) =>
        (await timeline.scan(meta(0), meta(9), lsn(at))).map(({ key, value }) => [key - meta(0), asText(value)]);

      assert.deepEqual(await timeline.getPage(page(2), lsn(299)), new Uint8Array(full('lost')));
      assert.equal(await timeline.getPage(page(2), lsn(300)), null);
      assert.equal(await timeline.getPage(page(2), lsn(400)), null);
      assert.deepEqual(await timeline.getPage(page(1), lsn(300)), new Uint8Array(full('at 300')));
      assert.deepEqual(await timeline.getPage(page(1), lsn(400)), foldPage(full('at 300'), 350, text('above')));
      assert.deepEqual(await timeline.getPage(page(1), lsn(250)), foldPage(full('p1'), 200, text('below')));
      assert.deepEqual(await timeline.getPage(page(3), lsn(400)), foldPage(full('p3'), 200, text('three')));

      assert.equal(await get(2, 300), undefined);
      assert.notEqual(await get(2, 299), undefined);
      assert.equal(await get(3, 380), undefined);
      assert.deepEqual(await scan(299), [
        [1, 'm1'],
        [2, 'lost'],
        [3, 'm3'],
      ]);
      assert.deepEqual(await scan(300), [
        [1, 'm1'],
        [3, 'm3'],
      ]);
      assert.deepEqual(await scan(400), [[1, 'm1 new']]);
      await timeline.close();
      await env.layers.close();
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  });
});

function asText(value: Uint8Array): string {
  return Buffer.from(value).toString();
}
