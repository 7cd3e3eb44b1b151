/** Port 5454's other language: Postgres' own replication client, and a hand-made standby, next to gRPC. */
import { strict as assert } from 'node:assert';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import pg from 'pg';
import { formatLsn, lsn, type Lsn } from '#shared/core/lsn.js';
import { parseAddr } from '#shared/core/addr.js';
import { PG_BIN } from '#shared/postgres/testing/temp-cluster.js';
import { segmentOffset } from '#shared/postgres/wal-layout.js';
import { SEG_SIZE, SYSTEM_ID, TestCluster, TTID } from './testing/cluster.js';
import { electLeader, ScriptedLink } from './testing/scripted-proposer.js';
import { WalMaker, type MadeWal } from './testing/wal-maker.js';

const START = lsn(0x14f_f128);
const OPTIONS = `-c tenant_id=${TTID.tenantId} -c timeline_id=${TTID.timelineId}`;

async function until(what: string, check: () => boolean | Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + 90_000; !(await check());) {
    if (Date.now() > deadline) throw new Error(`timed out waiting for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** The parts of pg's connection that its type declarations leave out. */
interface CopyBoth {
  on(event: 'copyData', listener: (message: { chunk: Buffer }) => void): void;
  once(event: 'replicationStart', listener: () => void): void;
  sendCopyFromChunk(chunk: Buffer): void;
  readonly stream: { destroy(): void };
}

describe('safekeeper over the replication protocol', function () {
  this.timeout(240_000);
  let cluster: TestCluster;
  let link: ScriptedLink;
  let wal: MadeWal;
  /** The end of a record in the middle. */
  let half: Lsn;
  let host: string;
  let port: number;
  const clients: pg.Client[] = [];

  beforeEach(async () => {
    cluster = await TestCluster.start(1);
    await cluster.create(START);
    link = new ScriptedLink(cluster.node(0).safekeeper.grpcAddr);
    await link.greet({ ttid: TTID, systemId: SYSTEM_ID, segSize: SEG_SIZE });
    const leader = await electLeader([link], 1, START);
    link.elect(1, leader.history);
    const maker = new WalMaker({ startLsn: START, segSize: SEG_SIZE, systemId: SYSTEM_ID });
    half = maker.stretch(SEG_SIZE + 300_000).endLsn;
    const rest = maker.stretch(SEG_SIZE);
    const again = new WalMaker({ startLsn: START, segSize: SEG_SIZE, systemId: SYSTEM_ID });
    wal = again.stretch(rest.endLsn - START);
    assert.equal(wal.endLsn, rest.endLsn);
    link.appendAll(1, wal.startLsn, wal.bytes);
    await link.flushedTo(wal.endLsn);
    ({ host, port } = parseAddr(cluster.node(0).safekeeper.grpcAddr));
  });
  afterEach(async () => {
    for (const client of clients.splice(0)) {
      (client as unknown as { connection: CopyBoth }).connection.stream.destroy();
    }
    link.close();
    await cluster.stop();
  });

  function commit(at: Lsn): Promise<void> {
    link.append(1, wal.endLsn, new Uint8Array(0), at);
    return link.until(() => link.commitLsn >= at);
  }

  async function connect(options = OPTIONS): Promise<{ client: pg.Client; connection: CopyBoth }> {
    const config = { host, port, user: 'replica', database: 'replication', options, replication: 'true' };
    const client = new pg.Client(config);
    client.on('error', () => undefined);
    await client.connect();
    clients.push(client);
    return { client, connection: (client as unknown as { connection: CopyBoth }).connection };
  }

  it('gives pg_receivewal the bytes that were committed, and not one more', async () => {
    const dir = await mkdtemp(path.join(tmpdir(), 'receivewal-'));
    const connstr = `host=${host} port=${port} user=replica options='${OPTIONS}'`;
    // Before the client is there, for it starts where the WAL ends when it asks.
    await commit(half);
    const receiver = spawn(path.join(PG_BIN, 'pg_receivewal'), ['-D', dir, '-d', connstr, '--no-sync']);
    try {
      const received = async (): Promise<Buffer> => {
        const names = (await readdir(dir)).sort();
        return Buffer.concat(await Promise.all(names.map((name) => readFile(path.join(dir, name)))));
      };
      // It starts with the segment in which the committed WAL ends.
      const segment = half - segmentOffset(half, SEG_SIZE);
      const expected = (to: Lsn): Buffer => {
        const from = Math.max(segment, wal.startLsn);
        return Buffer.from(wal.bytes.subarray(from - wal.startLsn, to - wal.startLsn));
      };
      await until('the first half', async () => (await received()).subarray(0, half - segment).equals(expected(half)));
      assert.ok(
        (await received()).subarray(half - segment).every((byte) => byte === 0),
        'nothing uncommitted',
      );
      await commit(wal.endLsn);
      const whole = wal.endLsn - segment;
      await until('the rest', async () => (await received()).subarray(0, whole).equals(expected(wal.endLsn)));
    } finally {
      receiver.kill('SIGTERM');
      await once(receiver, 'exit');
      await rm(dir, { recursive: true, force: true });
    }
  });

  it('takes a standby’s positions and the transactions it needs, tells the proposer, and forgets both when it leaves', async () => {
    await commit(wal.endLsn);
    const { client, connection } = await connect(`-c ztenantid=${TTID.tenantId} ztimelineid=${TTID.timelineId}`);
    const identity = await client.query('IDENTIFY_SYSTEM');
    assert.deepEqual(identity.rows, [
      { systemid: String(SYSTEM_ID), timeline: '1', xlogpos: formatLsn(wal.endLsn), dbname: null },
    ]);
    await assert.rejects(client.query('TIMELINE_HISTORY 1'), /no history file/);
    await assert.rejects(client.query('START_REPLICATION 0/1000000 TIMELINE 1'), /is not here/);
    const pieces: Buffer[] = [];
    connection.on('copyData', ({ chunk }) => {
      if (chunk[0] === 0x77) pieces.push(Buffer.from(chunk.subarray(25)));
    });
    const started = new Promise<void>((resolve) => connection.once('replicationStart', resolve));
    client.query(`START_REPLICATION SLOT a PHYSICAL ${formatLsn(START)} TIMELINE 1`).catch(() => undefined);
    await started;
    await until('all WAL', () => Buffer.concat(pieces).equals(wal.bytes));

    const status = Buffer.alloc(34);
    status[0] = 0x72;
    [wal.endLsn, wal.endLsn, START].forEach((at, index) => status.writeBigUInt64BE(BigInt(at), 1 + 8 * index));
    connection.sendCopyFromChunk(status);
    const feedback = Buffer.alloc(25);
    feedback[0] = 0x68;
    feedback.writeUInt32BE(777, 9);
    feedback.writeUInt32BE(3, 13);
    connection.sendCopyFromChunk(feedback);
    const asked = (3n << 32n) + 777n;
    await until('the proposer to hear', () => link.lastAppend?.hotStandbyFeedback?.xmin === asked);
    const timeline = cluster.node(0).safekeeper.timelines.get(TTID);
    assert.equal(timeline.standbys.horizon, START);

    connection.stream.destroy();
    await until('the proposer to hear that it left', () => link.lastAppend?.hotStandbyFeedback?.xmin === 0n);
    assert.equal(timeline.standbys.count, 0);
    assert.equal(timeline.standbys.horizon, null);
  });

  it('refuses what names no timeline here, and bytes of neither protocol', async () => {
    const { client } = await connect(`-c tenant_id=${TTID.tenantId} -c timeline_id=${'0'.repeat(32)}`);
    await assert.rejects(client.query('IDENTIFY_SYSTEM'), /is not on this safekeeper/);
    const { client: nameless } = await connect('-c tenant_id=1');
    await assert.rejects(nameless.query('IDENTIFY_SYSTEM'), /name the timeline/);
    for (const bytes of ['GET / HTTP/1.1\r\n\r\n', '\0\0\0\0\0\0\0\0', '\0\xff\xff\xff']) {
      const socket = net.connect(port, host);
      socket.on('error', () => undefined);
      socket.write(Buffer.from(bytes, 'latin1'));
      socket.resume();
      await once(socket, 'close');
    }
    assert.equal((await cluster.status(0)).flushLsn, BigInt(wal.endLsn), 'gRPC goes on');
  });
});
