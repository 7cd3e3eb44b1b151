/** The whole page server in this process, fed with WAL that a real cluster wrote, judged by that cluster's files after stock recovery. */
import { strict as assert } from 'node:assert';
import { execFileSync } from 'node:child_process';
import type { GetBaseBackupResponse } from '#gen/neon/pageserver/v1/page_service.js';
import { PageServiceClient } from '#gen/neon/pageserver/v1/page_service.js';
import { ManagementServiceClient } from '#gen/neon/pageserver/v1/management.js';
import { StorageError } from '#shared/core/errors.js';
import { parseTtid } from '#shared/core/ids.js';
import type { Lsn } from '#shared/core/lsn.js';
import { formatLsn, lsn, MAX_LSN } from '#shared/core/lsn.js';
import { crc32c } from '#shared/postgres/crc32c.js';
import type { TempCluster } from '#shared/postgres/testing/temp-cluster.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import { RecordedHistory } from './core/testing/recorded-history.js';
import { comparePages } from './testing/compare-pages.js';
import { errorOf, PagestreamClient } from './testing/pagestream-client.js';
import { fileBlocks, RecordedServer, TTID, until } from './testing/recorded-server.js';

const BRANCH = parseTtid({ tenantId: TTID.tenantId, timelineId: '33'.repeat(16) });

async function load(cluster: TempCluster): Promise<void> {
  await cluster.psql(`
    create table items(id int primary key, body text, n int) with (fillfactor = 70);
    insert into items select i, repeat(md5(i::text), 1 + i % 5), 0 from generate_series(1, 8000) i;
    create index on items(n, body);
    create table gone as select * from items;
    create sequence numbers;
  `);
  await cluster.psql(`
    update items set n = n + 1 where id % 3 = 0; delete from items where id % 7 = 0; vacuum items;
    drop table gone; select nextval('numbers') from generate_series(1, 40);
    create table cut as select * from items; delete from cut where id > 500; vacuum cut;
    create database other strategy wal_log; create unlogged table scratch(id int primary key);
  `);
  await cluster.psql(`begin; update items set body = 'x' where id < 900; savepoint a; insert into items values (-1, '', 1);
    rollback to a; insert into items values (-2, '', 2); commit; create table late as select * from items;`);
}

describe('page server on a recorded history', function () {
  this.timeout(180_000);
  let history: RecordedHistory;
  let recorded: RecordedServer;
  let truth: TempCluster;
  let pastTruth: TempCluster;
  /** A record boundary in the middle. */
  let past: Lsn;

  before(async () => {
    history = await RecordedHistory.record({ load, stop: 'immediate' });
    past = history.boundaries[Math.floor(history.boundaries.length * 0.6)]?.endLsn ?? lsn(0);
    [truth, pastTruth] = await Promise.all([history.recoverTo(), history.recoverTo(past)]);
    recorded = await RecordedServer.create(history);
  });

  after(async () => {
    await recorded.destroy();
    await truth.destroy();
    await pastTruth.destroy();
    await history.destroy();
  });

  it('serves every page as stock recovery left it, now and in the past', async () => {
    await recorded.waitIngested();
    const { server, timeline } = recorded;
    assert.equal(timeline.store.lastRecordLsn, history.endLsn);
    const count = await comparePages(server.pg, timeline, history.endLsn, MAX_LSN, truth);
    assert.ok(count > 3000, `only ${count} pages were compared`);
    await comparePages(server.pg, timeline, past, past, pastTruth);
  });

  it('tells the safekeeper how far it is', async () => {
    const { source, timeline } = recorded;
    await timeline.checkpoint();
    const isDone = () => source.feedback.at(-1)?.remoteConsistentLsn === BigInt(history.endLsn);
    await until('the feedback names the flushed position', isDone);
    const feedback = source.feedback.at(-1);
    assert.equal(feedback?.lastReceivedLsn, BigInt(history.endLsn));
    const sizeBytes = await timeline.view.logicalSize(history.endLsn);
    assert.equal(feedback?.currentTimelineSizeBytes, BigInt(sizeBytes));
  });

  it('answers the other requests, errors too, and keeps the stream', async () => {
    const client = await PagestreamClient.open(recorded.server.pg, `pagestream_v3 ${TTID.tenantId} ${TTID.timelineId}`);
    const pgClass = { spc: 1663, db: 5, rel: 1259, fork: 0 };
    const missing = { spc: 1663, db: 5, rel: 99999, fork: 0 };
    const size = fileBlocks(truth, pgClass)?.length ?? 0;
    const [exists, no, nblocks, unknown, vm, beyond, dbSize, slru, zero, backwards, old] = await Promise.all([
      client.exists(pgClass),
      client.exists(missing),
      client.nblocks(pgClass),
      client.nblocks(missing),
      client.nblocks({ ...missing, fork: 2 }),
      client.getPage(pgClass, size + 1000),
      client.dbSize(5),
      client.slruSegment(0, 0),
      client.nblocks(pgClass, { requestLsn: lsn(0) }),
      client.nblocks(pgClass, { requestLsn: past, notModifiedSince: lsn(past + 8) }),
      client.nblocks(pgClass, { requestLsn: lsn(8) }),
    ]);
    assert.deepEqual([exists.body[0], no.body[0]], [1, 0]);
    assert.equal(nblocks.body.readUInt32BE(0), size);
    assert.match(errorOf(unknown), /^relation not found: 1663\/5\/99999/);
    assert.equal(vm.body.readUInt32BE(0), 0);
    assert.ok(beyond.body.equals(Buffer.alloc(8192)));
    assert.equal(dbSize.body.readBigInt64BE(0), BigInt(await recorded.timeline.view.dbSize(5, history.endLsn)));
    assert.equal(slru.body.length, 4 + 8192 * slru.body.readUInt32BE(0));
    assert.match(errorOf(zero), /request LSN 0\/0 is not valid/);
    assert.match(errorOf(backwards), /not_modified_since .* is above the request LSN/);
    assert.match(errorOf(old), /is below the GC cutoff/);
    client.close();
  });

  it('closes a stream that cannot be paired any more', async () => {
    const client = await PagestreamClient.open(recorded.server.pg, `pagestream_v3 ${TTID.tenantId} ${TTID.timelineId}`);
    await assert.rejects(client.sendRaw(Buffer.from([77, 1, 2, 3])), /unknown pagestream request 77/);
    await assert.rejects(PagestreamClient.open(recorded.server.pg, 'pagestream_v3 x y'), /is not a tenant id/);
    const other = `pagestream_v3 ${TTID.tenantId} ${'44'.repeat(16)}`;
    await assert.rejects(PagestreamClient.open(recorded.server.pg, other), /does not exist/);
  });

  it('gives a base backup with its sum', async () => {
    const client = createClient(PageServiceClient, recorded.server.grpc);
    const parts: GetBaseBackupResponse[] = [];
    for await (const part of client.getBaseBackup({ ttid: TTID, lsn: BigInt(past), replica: false })) {
      parts.push(part as GetBaseBackupResponse);
    }
    client.close();
    const [header, trailer] = [parts.shift()?.part, parts.pop()?.part];
    const wal = parts.pop()?.part;
    const segment = wal?.$case === 'walSegment' ? wal.value : assert.fail('no WAL');
    const pieces = segment.pieces.map(({ data }) => data);
    const chunks = parts.map(({ part }) => (part?.$case === 'chunk' ? part.value : assert.fail('not a chunk')));
    const tar = Buffer.concat(chunks);
    assert.ok(chunks.every((chunk) => chunk.length <= 1 << 20));
    assert.equal(header?.$case === 'header' && header.value.lsn, BigInt(past));
    assert.equal(header?.$case === 'header' && header.value.systemId, history.control.systemId);
    const all = Buffer.concat([tar, ...pieces]);
    assert.deepEqual(trailer, { $case: 'trailer', value: { totalBytes: BigInt(all.length), crc32c: crc32c(all) } });
    assert.match(segment.name, /^[0-9A-F]{24}$/);
    const names = execFileSync('tar', ['-tf', '-'], { input: tar }).toString().trim().split('\n');
    assert.equal(names.at(-1), 'global/pg_control');
  });

  it('branches at an LSN, idempotently, within limits', async () => {
    const { server } = recorded;
    const client = createClient(ManagementServiceClient, server.grpc);
    const create = (ttid: typeof TTID, startLsn: number) =>
      callUnary(client, client.createTimeline, {
        ttid,
        mode: {
          $case: 'branch',
          value: { ancestorTimelineId: TTID.timelineId, ancestorStartLsn: BigInt(startLsn) },
        },
      });
    // Anything above the last multiple of 8 rounds up to the boundary.
    const made = await create(BRANCH, past - 7);
    assert.equal(made.created, true);
    assert.equal(made.timeline?.ancestorLsn, BigInt(past));
    assert.equal((await create(BRANCH, past)).created, false);
    await assert.rejects(create(BRANCH, past + 8), isKind('already-exists'));
    const other = { ...TTID, timelineId: parseTtid({ ...TTID, timelineId: '55'.repeat(16) }).timelineId };
    await assert.rejects(create(other, 8), isKind('invalid'));
    await assert.rejects(
      callUnary(client, client.deleteTimeline, { ttid: TTID }),
      (error: unknown) => isKind('precondition')(error) && /has a branch/.test((error as Error).message),
    );
    await comparePages(server.pg, server.tenants.find(BRANCH), past, MAX_LSN, pastTruth);
    client.close();
  });

  it('finds everything again after a crash, from the object store and the safekeeper', async () => {
    await recorded.stop({ isCrash: true, loseDisk: true });
    await recorded.start();
    await recorded.waitIngested();
    const { server, timeline } = recorded;
    assert.equal(timeline.store.generation, 3);
    await comparePages(server.pg, timeline, history.endLsn, MAX_LSN, truth);
    await comparePages(server.pg, server.tenants.find(BRANCH), past, MAX_LSN, pastTruth);
  });

  it('deletes a branch for good', async () => {
    assert.equal(await recorded.server.tenants.deleteTimeline(BRANCH), true);
    assert.equal(await recorded.server.tenants.deleteTimeline(BRANCH), false);
    await recorded.stop({ isCrash: true });
    await recorded.start();
    assert.deepEqual(
      recorded.server.tenants.listTimelines(TTID.tenantId).map(({ ttid }) => ttid.timelineId),
      [TTID.timelineId],
    );
  });
});

describe('page server and its WAL', function () {
  this.timeout(180_000);
  let history: RecordedHistory;
  let recorded: RecordedServer;
  let truth: TempCluster;

  before(async () => {
    history = await RecordedHistory.record({ load, stop: 'immediate' });
    truth = await history.recoverTo();
  });
  beforeEach(async () => {
    recorded = await RecordedServer.create(history);
  });
  afterEach(() => recorded.destroy());
  after(async () => {
    await truth.destroy();
    await history.destroy();
  });

  it('lets a reader wait for WAL, and answers an error when it does not come', async () => {
    const { source } = recorded;
    const half = history.boundaries[Math.floor(history.boundaries.length / 2)]?.endLsn ?? lsn(0);
    source.availableLsn = half;
    await recorded.waitIngested(half);
    await recorded.stop({ isCrash: false });
    await recorded.start(['--wait-lsn-timeout-ms', '300']);
    const client = await PagestreamClient.open(recorded.server.pg, `pagestream_v3 ${TTID.tenantId} ${TTID.timelineId}`);
    const pgClass = { spc: 1663, db: 5, rel: 1259, fork: 0 };
    const wanted = { notModifiedSince: lsn(half + 8) };
    const [late, now] = await Promise.all([client.nblocks(pgClass, wanted), client.nblocks(pgClass)]);
    assert.match(errorOf(late), /did not arrive within 300 ms/);
    assert.equal(now.tag, 101);
    client.close();
    await recorded.stop({ isCrash: false });
    await recorded.start();
    const patient = await PagestreamClient.open(
      recorded.server.pg,
      `pagestream_v3 ${TTID.tenantId} ${TTID.timelineId}`,
    );
    const waiting = patient.getPage(pgClass, 0, { notModifiedSince: history.endLsn });
    source.availableLsn = history.endLsn;
    const page = await waiting;
    assert.equal(page.tag, 102, page.tag === 103 ? errorOf(page) : '');
    assert.ok(page.body.equals(fileBlocks(truth, pgClass)?.[0] ?? Buffer.alloc(0)));
    patient.close();
  });

  it('stops at damaged WAL, says so, serves what it has, and goes on when the WAL is good', async () => {
    const { source } = recorded;
    await recorded.stop({ isCrash: true, loseDisk: true });
    const damagedAt = history.boundaries[Math.floor(history.boundaries.length / 2)]?.endLsn ?? lsn(0);
    source.tamper = (response) => {
      const offset = damagedAt + 30 - Number(response.startLsn);
      if (offset < 0 || offset >= response.walData.length) return response;
      const walData = Buffer.from(response.walData);
      walData[offset] = (walData[offset] ?? 0) ^ 0x10;
      return { ...response, walData };
    };
    await recorded.start();
    await until('the damage is noticed', () => recorded.timeline.status().state === 'broken');
    const { brokenReason, lastRecordLsn } = recorded.timeline.status();
    assert.match(brokenReason, /CRC|checksum/i);
    assert.equal(formatLsn(lastRecordLsn), formatLsn(damagedAt));
    source.tamper = null;
    await recorded.waitIngested();
    await until('it is well again', () => recorded.timeline.status().state === 'active');
    await comparePages(recorded.server.pg, recorded.timeline, history.endLsn, MAX_LSN, truth);
  });

  it('survives the loss of safekeeper and broker in the middle, and a restart from a flushed position', async () => {
    const { source } = recorded;
    const third = history.boundaries[Math.floor(history.boundaries.length / 3)]?.endLsn ?? lsn(0);
    source.availableLsn = third;
    await recorded.waitIngested(third);
    const { addr } = source;
    await source.stop();
    source.availableLsn = history.endLsn;
    await source.start(addr);
    await recorded.waitIngested();
    await recorded.timeline.checkpoint();
    const before = source.starts.length;
    await recorded.stop({ isCrash: true, loseDisk: true });
    await recorded.start();
    await until('it streams again', () => source.starts.length > before);
    assert.equal(source.starts.at(-1), history.endLsn);
    await comparePages(recorded.server.pg, recorded.timeline, history.endLsn, MAX_LSN, truth);
  });
});

function isKind(kind: string) {
  return (error: unknown) => error instanceof StorageError && error.kind === kind;
}
