import { strict as assert } from 'node:assert';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { StorageError } from '#shared/core/errors.js';
import { lsn } from '#shared/core/lsn.js';
import { DB_IN_PRODUCTION, decodeControlFile } from '#shared/postgres/control-file.js';
import { crc32c } from '#shared/postgres/crc32c.js';
import { readWal } from '#shared/postgres/testing/real-wal.js';
import { TempCluster } from '#shared/postgres/testing/temp-cluster.js';
import { WalStreamDecoder } from '#shared/postgres/wal-stream-decoder.js';
import { readDataDir } from '../../io/datadir-reader.js';
import { fileEntry, type TarEntry } from '../basebackup/tar-entry.js';
import { readTar } from '../basebackup/tar-reader.js';
import { packTar } from '../basebackup/ustar.js';
import { QUIET_CONFIG } from '../testing/recorded-history.js';
import { MemoryStore } from '../testing/memory-store.js';
import { TimelineView } from '../view/timeline-view.js';
import { importDataDir, readControlFile } from './import-datadir.js';
import { planImport, recordEnd } from './plan.js';

const PAGE = 8192;
const NEW_SYSTEM_ID = 7_123_456_789_012_345_678n;

describe('import of a data directory', function () {
  this.timeout(60_000);
  let cluster: TempCluster;
  let entries: Map<string, TarEntry>;

  before(async () => {
    cluster = await TempCluster.create({ config: QUIET_CONFIG });
    await cluster.start();
    await cluster.psql(`create unlogged table scratch(id int primary key); insert into scratch select generate_series(1, 1000);
      create table kept(id int); insert into kept select generate_series(1, 5000); vacuum kept;
      begin; insert into kept values (-1); prepare transaction 'pending';`);
    await cluster.stop();
    entries = new Map();
    for await (const entry of readDataDir(cluster.dataDir)) {
      const pieces: Uint8Array[] = [];
      for await (const piece of entry.pieces) pieces.push(piece);
      entries.set(entry.path, entry.type === 'directory' ? entry : fileEntry(entry.path, Buffer.concat(pieces)));
    }
  });
  after(() => cluster.destroy());

  const control = (): Buffer => readFileSync(path.join(cluster.dataDir, 'global/pg_control'));
  function newStore(systemId = decodeControlFile(control()).systemId): MemoryStore {
    return new MemoryStore({ systemId, initdbLsn: planImport(control()).lsn });
  }
  function change(file: string, bytes: Uint8Array): TarEntry[] {
    return [...new Map(entries).set(file, fileEntry(file, bytes)).values()];
  }
  async function refuses(list: Iterable<TarEntry>, message: RegExp, kind = 'invalid'): Promise<void> {
    await assert.rejects(importDataDir(list, newStore()), (error) => {
      assert.ok(error instanceof StorageError && error.kind === kind, String(error));
      assert.match(`${error.message} ${String(error.cause)}`, message);
      return true;
    });
  }

  it('begins at the end of the shutdown checkpoint', async () => {
    const facts = planImport(control());
    const wal = await readWal(cluster, facts.segSize, lsn(Number.MAX_SAFE_INTEGER));
    const decoder = new WalStreamDecoder({ startLsn: facts.prevRecordLsn, segSize: facts.segSize });
    decoder.feed(wal.bytes.subarray(facts.prevRecordLsn - wal.startLsn));
    assert.ok(decoder.next());
    assert.equal(decoder.record.endLsn, facts.lsn);
    const store = newStore();
    assert.deepEqual(await importDataDir(entries.values(), store), {
      lsn: facts.lsn,
      prevRecordLsn: facts.prevRecordLsn,
      systemId: facts.systemId,
      segSize: facts.segSize,
      pgMajor: 15,
    });
    assert.deepEqual([store.lastRecordLsn, store.prevRecordLsn], [facts.lsn, facts.prevRecordLsn]);
  });

  it('knows where a record ends over page and segment headers', () => {
    const segment = 1024 * 1024;
    assert.equal(recordEnd(lsn(0x100028), 114, segment), 0x1000a0);
    assert.equal(recordEnd(lsn(0x104000 - 120), 114, segment), 0x104000);
    assert.equal(recordEnd(lsn(0x104000 - 112), 114, segment), 0x104000 + 24 + 8);
    assert.equal(recordEnd(lsn(0x200000 - 8), 114, segment), 0x200000 + 40 + 112);
  });

  it('has every page, and only init forks of unlogged relations', async () => {
    const store = newStore();
    const { lsn: at } = await importDataDir(entries.values(), store);
    const view = new TimelineView(store);
    const relations = await view.relations(at);
    const unlogged = relations.filter(({ fork }) => fork === 3);
    assert.equal(unlogged.length, 2);
    for (const { rel } of unlogged) assert.equal(relations.filter((other) => other.rel === rel).length, 1);
    let bytes = 0;
    for (const relation of relations) {
      const directory = relation.spc === 1664 ? 'global' : `base/${relation.db}`;
      const name = `${directory}/${relation.rel}${['', '_fsm', '_vm', '_init'][relation.fork]}`;
      const pages: Uint8Array[] = [];
      for await (const page of view.relationPages(relation, at)) pages.push(page);
      const file = readFileSync(path.join(cluster.dataDir, name));
      assert.ok(Buffer.concat(pages).equals(file), name);
      bytes += file.length;
    }
    assert.equal(await view.logicalSize(at), bytes);
    assert.equal((await view.preparedTransactions(at)).length, 1);
    assert.deepEqual(
      (await view.databases(at)).map(({ db }) => db),
      [1, 4, 5, 0],
    );
    assert.deepEqual(await view.tracker(at), {
      checkPoint: decodeControlFile(control()).checkPoint,
      params: decodeControlFile(control()).params,
    });
  });

  it('gives the timeline another system identifier', async () => {
    const store = newStore(NEW_SYSTEM_ID);
    const { lsn: at, systemId } = await importDataDir(entries.values(), store, { systemId: NEW_SYSTEM_ID });
    assert.equal(systemId, NEW_SYSTEM_ID);
    assert.equal(decodeControlFile(await new TimelineView(store).controlFile(at)).systemId, NEW_SYSTEM_ID);
  });

  it('reads the same from a tar, wherever pg_control is in it', async () => {
    const fromFiles = newStore();
    await importDataDir(entries.values(), fromFiles);
    const controlEntry = entries.get('global/pg_control');
    assert.ok(controlEntry !== undefined);
    const last = [...[...entries.values()].filter((entry) => entry !== controlEntry), controlEntry];
    const fromTar = newStore();
    await importDataDir(readTar(packTar(last, 0)), fromTar);
    const values = (store: MemoryStore): Map<number, string> =>
      new Map(
        store.keys().map((key) => [key, Buffer.from(store.versions.get(key)?.[0]?.value ?? []).toString('latin1')]),
      );
    assert.deepEqual(values(fromTar), values(fromFiles));
    assert.deepEqual(Buffer.from(await readControlFile(readTar(packTar(last, 0)))), control());
  });

  it('refuses a cluster that was not stopped cleanly', async () => {
    const running = control();
    running.writeUInt32LE(DB_IN_PRODUCTION, 16);
    running.writeUInt32LE(crc32c(running, 0, 288), 288);
    await refuses(change('global/pg_control', running), /not stopped cleanly/, 'precondition');
  });

  it('refuses damaged or foreign files', async () => {
    const damaged = control();
    damaged[40]! ^= 1;
    await refuses(change('global/pg_control', damaged), /CRC/, 'corrupt');
    await refuses(change('base/5/1259', Buffer.alloc(PAGE + 1)), /multiple of 8192/);
    await refuses(change('base/5/1259.2', Buffer.alloc(PAGE)), /missing or too short/);
    await refuses(change('base/5/readme.txt', Buffer.alloc(1)), /not a relation file/);
    await refuses(change('pg_tblspc/16999', Buffer.alloc(0)), /tablespaces/);
    await refuses(change('PG_VERSION', Buffer.from('14\n')), /PG_VERSION says 14/);
    await refuses(change('global/pg_filenode.map', Buffer.alloc(100)), /100 bytes/);
    await refuses(change('pg_twophase/00000009', Buffer.alloc(90)), /CRC/, 'corrupt');
    await refuses([], /no global\/pg_control/);
    await assert.rejects(importDataDir(entries.values(), newStore(1n)), /was made for system 1/);
  });

  it('refuses an archive that ends early', async () => {
    const whole: Uint8Array[] = [];
    for await (const piece of packTar(entries.values(), 0)) whole.push(piece);
    const bytes = Buffer.concat(whole);
    await assert.rejects(importDataDir(readTar([bytes.subarray(0, bytes.length >> 1)]), newStore()));
  });
});
