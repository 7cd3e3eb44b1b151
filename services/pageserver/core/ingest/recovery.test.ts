/**
 * Ingest against the server's own crash recovery of the same WAL: which relations exist and how long they are, every page of every
 * kind, SLRU files, relation maps, two-phase files, checkpoint fields. All bytes, nothing masked.
 */
import { strict as assert } from 'node:assert';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { decodeControlFile } from '#shared/postgres/control-file.js';
import {
  CLOG_TRUNCATE,
  COMMIT_TS_TRUNCATE,
  COMMIT_TS_ZEROPAGE,
  RM_CLOG,
  RM_COMMIT_TS,
  RM_MULTIXACT,
  XLOG_MULTIXACT_TRUNCATE_ID,
} from '#shared/postgres/rmgr.js';
import type { TempCluster } from '#shared/postgres/testing/temp-cluster.js';
import { FORK_FSM, formatRel } from '../keyspace.js';
import { differences, type Files, filesFromView, filesOf, PAGE } from '../testing/datadir-files.js';
import { lockFromTwoSessions, runIngestLoad } from '../testing/ingest-load.js';
import { controlPath, decodeWal, type IngestedHistory, RecordedHistory } from '../testing/recorded-history.js';
import { moveNearWraparound } from '../testing/near-wraparound.js';

/** Commit times are kept from the first start of the image on. */
const TIMED = { config: ['track_commit_timestamp = on'] };

function agreesWithRecovery(record: () => Promise<RecordedHistory>, relationsMin: number): () => IngestedHistory {
  let history: RecordedHistory;
  let ingested: IngestedHistory;
  let truth: TempCluster;
  let files: Files;

  before(async () => {
    history = await record();
    ingested = await history.ingestTo();
    truth = await history.recoverTo();
    files = await filesOf(truth);
  });
  after(async () => {
    await truth.destroy();
    await history.destroy();
  });

  it('found nothing strange', () => assert.deepEqual(ingested.warnings, []));

  it('knows the same relations with the same sizes', async () => {
    const relations = await ingested.view.relations(ingested.store.lastRecordLsn);
    const sizes = relations
      .filter(({ fork }) => fork !== FORK_FSM)
      .map((relation) => `${formatRel(relation)} ${relation.sizeBlocks}`);
    const wanted = [...files.relations].map(([name, { bytes }]) => `${name} ${bytes.length / PAGE}`);
    assert.ok(wanted.length > relationsMin);
    assert.deepEqual(sizes.sort(), wanted.sort());
  });

  it('rebuilds the same pages', async () => {
    const wrong: string[] = [];
    let compared = 0;
    for (const { rel, bytes } of files.relations.values()) {
      for (let block = 0; block * PAGE < bytes.length; block++) {
        const page = await ingested.view.page(rel, block, ingested.store.lastRecordLsn);
        const real = bytes.subarray(block * PAGE, (block + 1) * PAGE);
        if (Buffer.compare(page, real) !== 0) wrong.push(`${formatRel(rel)}.${block}: ${differences(page, real)}`);
        compared++;
      }
    }
    assert.deepEqual(wrong.slice(0, 20), []);
    assert.ok(compared > 2 * relationsMin, `only ${compared} pages were compared`);
  });

  it('has the same SLRU, relation map, version and two-phase files', async () => {
    const ours = await filesFromView(ingested);
    const real = new Map([...files.others].filter(([name]) => name !== 'global/pg_control'));
    assert.deepEqual([...ours.keys()].sort(), [...real.keys()].sort());
    for (const [name, bytes] of real) {
      const got = ours.get(name) ?? Buffer.alloc(0);
      const at = bytes.findIndex((byte, i) => byte !== got[i]);
      assert.ok(bytes.equals(got), `${name}: ${got.length} against ${bytes.length} bytes, first difference at ${at}`);
    }
  });

  it('knows what a checkpoint must say', async () => {
    const { checkPoint } = await ingested.view.tracker(ingested.store.lastRecordLsn);
    const real = decodeControlFile(readFileSync(controlPath(truth))).checkPoint;
    const { redo, timeS } = real;
    assert.deepEqual({ ...checkPoint, redo, timeS, oldestActiveXid: 0 }, real);
  });

  it('knows sizes at the head without asking the store', async () => {
    const { ingest, store } = ingested;
    for (const { rel, bytes } of files.relations.values()) {
      assert.equal(ingest.relationSize(rel, store.lastRecordLsn), bytes.length / PAGE);
    }
    assert.equal(await ingested.view.logicalSize(store.lastRecordLsn), ingest.logicalSizeBytes);
  });
  return () => ingested;
}

/** Runs past the last transaction, multixact and member offset of 32 bits. */
async function beginAnew(cluster: TempCluster): Promise<void> {
  await cluster.psql(`create table plain(id int primary key); create table lockme(id int primary key);
    insert into lockme select generate_series(1, 3000);
    do $$ begin for i in 1..600 loop begin insert into plain values (i); exception when others then null; end; end loop; end $$;
    begin; insert into plain values (-1); prepare transaction 'left'; checkpoint`);
  await lockFromTwoSessions(cluster, 800);
  await cluster.psql('update lockme set id = -id where id % 3 = 0; delete from plain where id % 5 = 0; vacuum plain');
}

/** Moves the next xid two pg_xact segments on, so that freezing everything leaves old segments to remove. */
async function skipXids(cluster: TempCluster): Promise<void> {
  const directory = path.join(cluster.dataDir, 'pg_xact');
  await cluster.run('pg_resetwal', ['-f', '-x', String(2 * 32 * 32768 + 5), cluster.dataDir]);
  writeFileSync(path.join(directory, '0001'), Buffer.alloc(32 * PAGE));
  writeFileSync(path.join(directory, '0002'), Buffer.alloc(PAGE));
  await cluster.own();
}

async function freezeEverything(cluster: TempCluster): Promise<void> {
  await cluster.psql(`update pg_database set datallowconn = true; create table lockme(id int primary key);
    insert into lockme select generate_series(1, 3000);
    do $$ begin for i in 1..60000 loop begin insert into lockme values (-10000 - i); exception when others then null; end; end loop; end $$`);
  await lockFromTwoSessions(cluster, 40);
  for (const database of ['postgres', 'template1', 'template0']) await cluster.psql('vacuum freeze', database);
}

describe('ingest against stock crash recovery', function () {
  this.timeout(180_000);

  describe('of a load of everything', () => {
    agreesWithRecovery(() => RecordedHistory.record({ cluster: TIMED, load: runIngestLoad, stop: 'immediate' }), 1000);
  });

  describe('after old transactions were forgotten', () => {
    let history: RecordedHistory;
    const ingested = agreesWithRecovery(async () => {
      history = await RecordedHistory.record({
        cluster: TIMED,
        prepare: skipXids,
        load: freezeEverything,
        stop: 'immediate',
      });
      return history;
    }, 500);

    it('saw the records that do it', () => {
      const start = ingested().store.initdbLsn;
      const seen = new Set<string>();
      for (const { rmid, info } of decodeWal(history.wal, start, history.endLsn)) seen.add(`${rmid} ${info & 0xf0}`);
      assert.ok(seen.has(`${RM_CLOG} ${CLOG_TRUNCATE}`) && seen.has(`${RM_MULTIXACT} ${XLOG_MULTIXACT_TRUNCATE_ID}`));
      assert.ok(seen.has(`${RM_COMMIT_TS} ${COMMIT_TS_ZEROPAGE}`) && seen.has(`${RM_COMMIT_TS} ${COMMIT_TS_TRUNCATE}`));
    });
  });

  describe('when transactions and multixacts are numbered from the beginning again', () => {
    const ingested = agreesWithRecovery(
      () => RecordedHistory.record({ cluster: TIMED, prepare: moveNearWraparound, load: beginAnew, stop: 'immediate' }),
      500,
    );

    it('came to the numbers behind the last', async () => {
      const { checkPoint } = await ingested().view.tracker(ingested().store.lastRecordLsn);
      const { nextXid, nextMulti, nextMultiOffset } = checkPoint;
      assert.ok(nextXid >> 32n === 1n && nextMulti < 10_000 && nextMultiOffset < 10_000);
    });
  });
});
