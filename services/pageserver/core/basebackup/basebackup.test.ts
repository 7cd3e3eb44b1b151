import { strict as assert } from 'node:assert';
import { readFileSync } from 'node:fs';
import { lsn } from '#shared/core/lsn.js';
import { decodeControlFile } from '#shared/postgres/control-file.js';
import { crc32c } from '#shared/postgres/crc32c.js';
import { TempCluster } from '#shared/postgres/testing/temp-cluster.js';
import { WalStreamDecoder } from '#shared/postgres/wal-stream-decoder.js';
import { readDataDir } from '../../io/datadir-reader.js';
import { auxPathHash, encodeAuxFiles, encodeOrigin } from '../aux-files.js';
import { importDataDir } from '../import/import-datadir.js';
import { planImport } from '../import/plan.js';
import { putTrackerState } from '../ingest/checkpoint-state.js';
import { auxFileKey, originKey } from '../keyspace.js';
import { VALUE_IMAGE } from '../storage/store.js';
import { MemoryStore } from '../testing/memory-store.js';
import { controlPath } from '../testing/recorded-history.js';
import { TimelineView } from '../view/timeline-view.js';
import { baseBackup } from './basebackup.js';
import { type BaseBackupOptions, planBaseBackup } from './plan.js';

const NOW_S = 1_800_000_000;

describe('base backup', function () {
  this.timeout(60_000);
  let cluster: TempCluster;
  let store: MemoryStore;
  let view: TimelineView;
  let options: BaseBackupOptions;

  before(async () => {
    cluster = await TempCluster.create();
  });
  after(() => cluster.destroy());
  beforeEach(async () => {
    const { systemId, segSize, lsn: startLsn } = planImport(readFileSync(controlPath(cluster)));
    store = new MemoryStore({ systemId, segSize, initdbLsn: startLsn });
    const { prevRecordLsn } = await importDataDir(readDataDir(cluster.dataDir), store);
    view = new TimelineView(store);
    options = { lsn: startLsn, prevRecordLsn, replica: false, timeS: NOW_S };
  });

  async function files(changed: Partial<BaseBackupOptions> = {}): Promise<Map<string, Buffer | null>> {
    const found = new Map<string, Buffer | null>();
    for await (const entry of baseBackup(view, { ...options, ...changed })) {
      assert.ok(!found.has(entry.path), `${entry.path} comes twice`);
      const parent = entry.path.includes('/') ? entry.path.slice(0, entry.path.lastIndexOf('/')) : null;
      assert.ok(parent === null || found.get(parent) === null, `${entry.path} comes before its directory`);
      const pieces: Uint8Array[] = [];
      for await (const piece of entry.pieces) pieces.push(piece);
      found.set(entry.path, entry.type === 'directory' ? null : Buffer.concat(pieces));
    }
    return found;
  }

  it('ends with pg_control, and has neither relation files nor WAL', async () => {
    const paths = [...(await files()).keys()];
    assert.equal(paths.at(-1), 'global/pg_control');
    assert.deepEqual(
      paths.filter((path) => /^((base\/\d+|global)\/\d|pg_wal\/[0-9A-F])/.test(path)),
      [],
    );
    for (const path of [
      'base/1',
      'base/4',
      'base/5',
      'base/5/pg_filenode.map',
      'global/pg_filenode.map',
      'pg_subtrans',
    ]) {
      assert.ok(paths.includes(path), path);
    }
  });

  it('begins with a shutdown checkpoint', async () => {
    const plan = await planBaseBackup(view, options);
    const found = await files();
    const [segment] = plan.segments;
    const last = segment?.pieces.at(-1);
    assert.ok(last && last.offset === plan.lsn % plan.segSize && segment?.sizeBytes === plan.segSize);
    const decoder = new WalStreamDecoder({ startLsn: plan.lsn, segSize: plan.segSize, systemId: plan.systemId });
    decoder.feed(last.bytes);
    assert.ok(decoder.next());
    assert.equal(decoder.record.startLsn, plan.checkpointLsn);
    assert.equal(decoder.record.prevLsn, options.prevRecordLsn);
    const control = decodeControlFile(found.get('global/pg_control') ?? Buffer.alloc(0));
    assert.equal(control.checkPointLsn, plan.checkpointLsn);
    assert.deepEqual(control.checkPoint, plan.checkPoint);
    assert.equal(control.checkPoint.timeS, NOW_S);
  });

  it('has a slot for the proposer, but not for a replica', async () => {
    assert.equal((await files()).get('pg_replslot/walproposer/state')?.length, 200);
    assert.ok(!(await files({ replica: true })).has('pg_replslot/walproposer'));
  });

  it('has auxiliary files and origins: statistics at their own position, slots not for a replica', async () => {
    const at = (options.lsn + 8) as typeof options.lsn;
    const put = (path: string): void => {
      const file = { path, content: Buffer.from(path) };
      store.put(auxFileKey(auxPathHash(path)), at, VALUE_IMAGE, encodeAuxFiles(at, [file]));
    };
    const paths = ['pg_stat/pgstat.stat', 'pg_replslot/a/state', 'pg_logical/snapshots/0-1.snap'];
    paths.forEach(put);
    store.put(originKey(3), at, VALUE_IMAGE, encodeOrigin({ remoteLsn: lsn(0x1_0000_0002), putLsn: at }));
    store.advance(at, options.lsn);
    const later = (at + 8) as typeof at;
    store.advance(later, at);
    const present = (found: Map<string, Buffer | null>) => paths.map((path) => found.get(path)?.toString() ?? null);
    const [statistics, slot, snapshot] = paths;
    const found = await files({ lsn: at });
    assert.deepEqual(present(found), [statistics, slot, snapshot]);
    assert.deepEqual(present(await files({ lsn: later })), [null, slot, snapshot]);
    assert.deepEqual(present(await files({ lsn: at, replica: true })), [statistics, null, snapshot]);
    assert.deepEqual(present(await files()), [null, null, null]);
    const origins = found.get('pg_logical/replorigin_checkpoint');
    assert.equal(origins?.subarray(0, 20).toString('hex'), 'deda5712' + '0300000000000000' + '0200000001000000');
    assert.equal(origins?.readUInt32LE(20), crc32c(origins?.subarray(0, 20) ?? Buffer.alloc(0)));
    assert.ok(!(await files()).has('pg_logical/replorigin_checkpoint'));
  });

  it('makes the pages that the next transaction and multixact are on', async () => {
    const before = await files();
    assert.equal(before.get('pg_xact/0000')?.length, 8192);
    const { checkPoint, params } = await view.tracker(options.lsn);
    const later = (options.lsn + 8) as typeof options.lsn;
    const nextXid = BigInt(33 * 32768 + 100);
    putTrackerState(store, later, { checkPoint: { ...checkPoint, nextXid, nextMulti: 2048 * 3 + 5 }, params });
    store.advance(later, options.lsn);
    const after = await files({ lsn: later });
    assert.equal(after.get('pg_xact/0000')?.length, 8192);
    assert.equal(after.get('pg_xact/0001')?.length, 2 * 8192);
    assert.equal(after.get('pg_multixact/offsets/0000')?.length, 4 * 8192);
  });

  it('refuses a position that is not the end of a record', async () => {
    await assert.rejects(planBaseBackup(view, { ...options, lsn: (options.lsn + 4) as typeof options.lsn }));
  });
});
