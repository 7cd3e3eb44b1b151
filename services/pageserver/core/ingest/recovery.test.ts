/**
 * Ingest against the server's own crash recovery of the same WAL: which relations exist and how long they are, every page of every
 * kind that can be rebuilt, SLRU files, relation maps, two-phase files, checkpoint fields. All bytes, nothing masked.
 */
import { strict as assert } from 'node:assert';
import { readFileSync } from 'node:fs';
import { StorageError } from '#shared/core/errors.js';
import { decodeControlFile } from '#shared/postgres/control-file.js';
import { crc32c } from '#shared/postgres/crc32c.js';
import type { TempCluster } from '#shared/postgres/testing/temp-cluster.js';
import { readDataDir } from '../../io/datadir-reader.js';
import { type DataDirPath, parseDataDirPath } from '../import/datadir-paths.js';
import { FORK_FSM, FORK_INIT, formatRel, type RelTag, SLRU_KINDS } from '../keyspace.js';
import { runIngestLoad } from '../testing/ingest-load.js';
import { controlPath, type IngestedHistory, RecordedHistory } from '../testing/recorded-history.js';

const PAGE = 8192;

interface Files {
  /** Without FSM, which WAL says little about; without the contents of unlogged relations. */
  readonly relations: Map<string, { rel: RelTag; bytes: Buffer }>;
  readonly others: Map<string, Buffer>;
}

async function filesOf(cluster: TempCluster): Promise<Files> {
  const files: Files = { relations: new Map(), others: new Map() };
  for await (const entry of readDataDir(cluster.dataDir)) {
    const found = parseDataDirPath(entry.path);
    if (entry.type === 'directory' || found.kind === 'ignored') continue;
    const pieces: Uint8Array[] = [];
    for await (const piece of entry.pieces) pieces.push(piece);
    place(files, found, entry.path, Buffer.concat(pieces));
  }
  for (const [name, { rel }] of files.relations) {
    const isUnlogged = files.relations.has(formatRel({ ...rel, fork: FORK_INIT }));
    if (rel.fork === FORK_FSM || (rel.fork !== FORK_INIT && isUnlogged)) files.relations.delete(name);
  }
  return files;
}

function place(files: Files, found: DataDirPath, path: string, bytes: Buffer): void {
  assert.notEqual(found.kind, 'refused', path);
  if (found.kind === 'relation') files.relations.set(formatRel(found.rel), { rel: found.rel, bytes });
  else files.others.set(path, bytes);
}

/** What storage would write out, under the same names. */
async function filesFromView({ view, store }: IngestedHistory): Promise<Map<string, Buffer>> {
  const at = store.lastRecordLsn;
  const files = new Map<string, Buffer>();
  const directories = ['pg_xact', 'pg_multixact/members', 'pg_multixact/offsets'];
  for (const kind of SLRU_KINDS) {
    for (const { segno } of await view.slruSegments(kind, at)) {
      const name = segno.toString(16).toUpperCase().padStart(4, '0');
      files.set(`${directories[kind]}/${name}`, Buffer.from((await view.slruSegment(kind, segno, at)) ?? []));
    }
  }
  files.set('PG_VERSION', Buffer.from('15\n'));
  for (const { spc, db, relationMap } of await view.databases(at)) {
    const directory = spc === 1664 ? 'global' : `base/${db}`;
    if (spc !== 1664) files.set(`${directory}/PG_VERSION`, Buffer.from('15\n'));
    if (relationMap !== null) files.set(`${directory}/pg_filenode.map`, Buffer.from(relationMap));
  }
  for (const { xid, state } of await view.preparedTransactions(at)) {
    const crc = Buffer.alloc(4);
    crc.writeUInt32LE(crc32c(state));
    files.set(`pg_twophase/${xid.toString(16).toUpperCase().padStart(8, '0')}`, Buffer.concat([state, crc]));
  }
  return files;
}

function differences(page: Uint8Array, truth: Uint8Array): string {
  const at: number[] = [];
  for (let i = 0; i < PAGE; i++) if (page[i] !== truth[i]) at.push(i);
  return `${at.length} bytes differ, the first at ${at.slice(0, 8).join(', ')}`;
}

describe('ingest against stock crash recovery', function () {
  this.timeout(180_000);
  let history: RecordedHistory;
  let ingested: IngestedHistory;
  let truth: TempCluster;
  let files: Files;

  before(async () => {
    history = await RecordedHistory.record({ load: runIngestLoad, stop: 'immediate' });
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
    assert.ok(wanted.length > 1000);
    assert.deepEqual(sizes.sort(), wanted.sort());
  });

  it('rebuilds the same pages', async () => {
    const wrong: string[] = [];
    const notDone = new Map<string, number>();
    let compared = 0;
    for (const { rel, bytes } of files.relations.values()) {
      for (let block = 0; block * PAGE < bytes.length; block++) {
        try {
          const page = await ingested.view.page(rel, block, ingested.store.lastRecordLsn);
          const real = bytes.subarray(block * PAGE, (block + 1) * PAGE);
          if (Buffer.compare(page, real) !== 0) wrong.push(`${formatRel(rel)}.${block}: ${differences(page, real)}`);
          compared++;
        } catch (error) {
          if (!(error instanceof StorageError) || error.kind !== 'unimplemented') throw error;
          const name = /resource manager (\S+)/.exec(error.message)?.[1] ?? error.message;
          notDone.set(name, (notDone.get(name) ?? 0) + 1);
        }
      }
    }
    assert.deepEqual(wrong.slice(0, 20), []);
    assert.ok(compared > 5000, `only ${compared} pages were compared`);
    assert.ok([...notDone.keys()].every((name) => ['Gin', 'Hash', 'BRIN', 'Gist', 'SPGist'].includes(name)));
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
});
