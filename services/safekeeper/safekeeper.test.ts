/** Safekeepers over real gRPC, real files and real fsync, driven by scripted proposers and readers. */
import { strict as assert } from 'node:assert';
import { execFile } from 'node:child_process';
import { cp, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { formatLsn, lsn, lsnFromWire, type Lsn } from '#shared/core/lsn.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import { fromGrpcError } from '#shared/rpc/error-map.js';
import { WalServiceClient, type StreamWalResponse } from '#gen/neon/safekeeper/v1/safekeeper.js';
import { SEG_SIZE, SYSTEM_ID, TestCluster, TTID } from './testing/cluster.js';
import { electLeader, ScriptedLink, type Leader } from './testing/scripted-proposer.js';
import { WalMaker, type MadeWal } from './testing/wal-maker.js';

const run = promisify(execFile);
const START = lsn(0x14f_f128);
const GREETING = { ttid: TTID, systemId: SYSTEM_ID, segSize: SEG_SIZE };

function newMaker(): WalMaker {
  return new WalMaker({ startLsn: START, segSize: SEG_SIZE, systemId: SYSTEM_ID });
}

/** Reads [from, to) by StreamWal. */
async function readWal(
  addr: string,
  options: { from: Lsn; to: Lsn; term?: number },
): Promise<{ bytes: Buffer; messages: number }> {
  const client = createClient(WalServiceClient, addr);
  const stream = client.streamWal();
  const pieces: Buffer[] = [];
  let messages = 0;
  const value = {
    ttid: TTID,
    startLsn: BigInt(options.from),
    endLsn: BigInt(options.to),
    term: options.term === undefined ? undefined : BigInt(options.term),
    clientName: 'test',
  };
  stream.write({ message: { $case: 'start', value } });
  try {
    for await (const response of stream as AsyncIterable<StreamWalResponse>) {
      assert.equal(Number(response.startLsn), options.from + Buffer.concat(pieces).length);
      pieces.push(response.walData);
      messages += 1;
    }
  } catch (error) {
    throw fromGrpcError(error);
  } finally {
    client.close();
  }
  return { bytes: Buffer.concat(pieces), messages };
}

describe('safekeeper over gRPC', () => {
  let cluster: TestCluster;
  const links: ScriptedLink[] = [];

  const link = (index: number): ScriptedLink => {
    const made = new ScriptedLink(cluster.node(index).safekeeper.grpcAddr);
    links.push(made);
    return made;
  };
  const greeted = async (index: number): Promise<ScriptedLink> => {
    const made = link(index);
    await made.greet(GREETING);
    return made;
  };
  /** Elects on all given nodes and sends Elected. */
  const lead = async (to: readonly ScriptedLink[], term: number): Promise<Leader> => {
    const leader = await electLeader(to, term, START);
    for (const one of to) one.elect(term, leader.history);
    return leader;
  };
  const appendEverywhere = async (to: readonly ScriptedLink[], term: number, wal: MadeWal): Promise<void> => {
    for (const one of to) one.appendAll(term, wal.startLsn, wal.bytes, 50_000);
    await Promise.all(to.map((one) => one.flushedTo(wal.endLsn)));
  };

  afterEach(async () => {
    for (const one of links.splice(0)) one.close();
    await cluster.stop();
  });

  it('takes WAL, commits, streams it, survives restarts, and pg_waldump reads the files', async () => {
    cluster = await TestCluster.start(3);
    await cluster.create(START);
    const maker = newMaker();
    let all = await Promise.all([0, 1, 2].map(greeted));
    await lead(all, 1);
    const wal: MadeWal[] = [maker.stretch(300_000), maker.record(3 * SEG_SIZE), maker.switchSegment(), maker.record(5)];
    for (const piece of wal) await appendEverywhere(all, 1, piece);
    const end = maker.endLsn;
    const whole = Buffer.concat(wal.map((piece) => piece.bytes));

    for (const one of all) one.append(1, end, new Uint8Array(0), end, START);
    await Promise.all(all.map((one) => one.until(() => one.commitLsn === end)));
    const read = await readWal(cluster.node(1).safekeeper.grpcAddr, { from: START, to: end });
    assert.ok(read.bytes.equals(whole));

    for (const index of [0, 1, 2]) await cluster.restart(index);
    const status = await cluster.status(0);
    assert.equal(Number(status.flushLsn), end);
    assert.equal(Number(status.commitLsn), end);
    assert.equal(Number(status.lastLogTerm), 1);

    all = await Promise.all([0, 1, 2].map(greeted));
    const leader = await lead(all, 2);
    assert.equal(leader.startLsn, end);
    const more = maker.stretch(100_000);
    await appendEverywhere(all, 2, more);
    await waldump(cluster.timelineDir(2), START, more.endLsn);
  });

  it('grants a term once, and refuses the old leader', async () => {
    cluster = await TestCluster.start(1);
    await cluster.create(START);
    const old = await greeted(0);
    await lead([old], 3);
    const maker = newMaker();
    await appendEverywhere([old], 3, maker.record(100));
    const rival = await greeted(0);
    assert.equal((await rival.requestVote(3)).voteGiven, false);
    const vote = await rival.requestVote(4);
    assert.equal(vote.voteGiven, true);
    assert.equal(Number(vote.flushLsn), maker.endLsn);
    const next = maker.record(10);
    old.append(3, next.startLsn, next.bytes);
    await old.until(() => old.lastAppend?.term === 4n);
    assert.equal(old.flushLsn, 0);
    await cluster.restart(0);
    assert.equal((await cluster.status(0)).term, 4n);
  });

  it('cuts a diverged tail, and never below the commit position', async () => {
    cluster = await TestCluster.start(3);
    await cluster.create(START);
    const first = await greeted(0);
    const others = await Promise.all([1, 2].map(greeted));
    const maker = newMaker();
    await lead([first, ...others], 1);
    const shared = maker.stretch(20_000);
    await appendEverywhere([first, ...others], 1, shared);
    const committed = shared.endLsn;
    const rewritten = maker.fork();
    first.append(1, committed, new Uint8Array(0), committed);
    await first.until(() => first.commitLsn === committed);
    // Only the first gets more; then a leader arises without it.
    await appendEverywhere([first], 1, maker.stretch(SEG_SIZE * 2, 300, 1));
    await lead(others, 2);
    const fork = rewritten.stretch(5_000, 200, 2);
    await appendEverywhere(others, 2, fork);
    const returning = await greeted(0);
    const vote = await returning.requestVote(2);
    assert.equal(vote.voteGiven, true);
    const history = [
      { term: 0, lsn: START },
      { term: 1, lsn: START },
      { term: 2, lsn: committed },
    ];
    // A start that the histories do not give is refused, also one below the commit position.
    const wrong = await greeted(0);
    await wrong.requestVote(2);
    wrong.elect(2, history, START);
    assert.match((await wrong.failure()).message, /the logs part at/);
    assert.equal(returning.elect(2, history), committed);
    await appendEverywhere([returning], 2, fork);
    const names = (await readdir(cluster.timelineDir(0))).filter((name) => name.startsWith('0000'));
    // Of the two megabytes behind the fork nothing is left.
    assert.equal(names.length, 2);
    const both = await Promise.all(
      [0, 1].map((index) =>
        readWal(cluster.node(index).safekeeper.grpcAddr, { from: START, to: fork.endLsn, term: 2 }),
      ),
    );
    assert.ok(both[0]?.bytes.equals(both[1]?.bytes ?? Buffer.alloc(0)));
    await waldump(cluster.timelineDir(0), START, fork.endLsn);
  });

  it('refuses gaps, overlaps, damaged WAL, and appends before the announcement', async () => {
    cluster = await TestCluster.start(1);
    await cluster.create(START);
    const maker = newMaker();
    const piece = maker.stretch(10_000);
    const refused = async (act: (one: ScriptedLink) => void, pattern: RegExp): Promise<void> => {
      const one = await greeted(0);
      const { flushLsn } = await cluster.status(0);
      const term = Number((await cluster.status(0)).term) + 1;
      await lead([one], term);
      act(one);
      assert.match((await one.failure()).message, pattern);
      assert.equal((await cluster.status(0)).flushLsn, flushLsn);
    };
    const term = async (): Promise<number> => Number((await cluster.status(0)).term) + 1;
    let next = await term();
    await refused((one) => one.append(next, lsn(piece.startLsn + 8), piece.bytes.subarray(8)), /the log ends at/);
    next = await term();
    await refused((one) => one.append(next, lsn(piece.startLsn - 8), piece.bytes), /the log ends at/);
    next = await term();
    await refused((one) => one.append(next, piece.startLsn, new Uint8Array(200_000)), /at most/);
    next = await term();
    const damaged = Buffer.from(piece.bytes);
    damaged[1000] = (damaged[1000] ?? 0) ^ 1;
    await refused((one) => one.append(next, piece.startLsn, damaged), /CRC/);
    const early = await greeted(0);
    early.append(next + 5, piece.startLsn, piece.bytes);
    assert.match((await early.failure()).message, /before its leader was announced/);
    const silent = link(0);
    silent.append(1, piece.startLsn, piece.bytes);
    assert.match((await silent.failure()).message, /greeting/);
  });

  it('creates on greeting when asked to, at the start that the leader tells', async () => {
    cluster = await TestCluster.start(1);
    const refused = link(0);
    await assert.rejects(refused.greet(GREETING), { kind: 'not-found' });
    const one = link(0);
    const greeting = await one.greet({ ...GREETING, create: true });
    assert.equal(greeting.term, 0n);
    const leader = await lead([one], 1);
    assert.equal(leader.startLsn, START);
    const maker = newMaker();
    await appendEverywhere([one], 1, maker.stretch(30_000));
    await cluster.restart(0);
    assert.equal(Number((await cluster.status(0)).flushLsn), maker.endLsn);
    assert.equal(Number((await cluster.status(0)).timelineStartLsn), START);
    await waldump(cluster.timelineDir(0), START, maker.endLsn);
    // Equal parameters: the same timeline. Others: refused.
    await cluster.create(START);
    await assert.rejects(cluster.create(lsn(START + 8)), { kind: 'already-exists' });
    await assert.rejects(link(0).greet({ ...GREETING, pgVersion: 160001 }), { kind: 'precondition' });
    await assert.rejects(link(0).greet({ ...GREETING, segSize: 16 << 20 }), { kind: 'precondition' });
  });

  it('streams only committed WAL, follows commits, sends keepalives, and passes feedback on', async () => {
    cluster = await TestCluster.start(1);
    await cluster.create(START);
    const one = await greeted(0);
    await lead([one], 1);
    const maker = newMaker();
    const a = maker.stretch(40_000);
    await appendEverywhere([one], 1, a);
    const client = createClient(WalServiceClient, cluster.node(0).safekeeper.grpcAddr);
    const stream = client.streamWal();
    stream.on('error', () => undefined);
    const got: StreamWalResponse[] = [];
    let wake: () => void = () => undefined;
    stream.on('data', (response: StreamWalResponse) => {
      got.push(response);
      wake();
    });
    const until = async (condition: () => boolean): Promise<void> => {
      while (!condition()) await new Promise<void>((resolve) => (wake = resolve));
    };
    const value = { ttid: TTID, startLsn: BigInt(START), clientName: 'reader', endLsn: undefined, term: undefined };
    stream.write({ message: { $case: 'start', value } });
    await until(() => got.length > 0);
    assert.equal(got[0]?.walData.length, 0);
    assert.equal(Number(got[0]?.availableLsn), START);
    const half = lsn(START + 20_000);
    one.append(1, a.endLsn, new Uint8Array(0), half);
    const received = (): Buffer => Buffer.concat(got.map((response) => response.walData));
    await until(() => received().length === 20_000);
    const b = maker.stretch(40_000);
    one.append(1, b.startLsn, b.bytes, b.endLsn);
    await until(() => received().length === maker.endLsn - START);
    assert.ok(received().equals(Buffer.concat([a.bytes, b.bytes])));
    const feedback = {
      currentTimelineSizeBytes: 123n,
      lastReceivedLsn: BigInt(b.endLsn),
      diskConsistentLsn: BigInt(a.endLsn),
      remoteConsistentLsn: BigInt(a.endLsn),
      replyTimeUs: 5n,
    };
    stream.write({ message: { $case: 'feedback', value: feedback } });
    await one.until(() => one.lastAppend?.pageserverFeedback?.lastReceivedLsn === BigInt(b.endLsn));
    assert.equal(Number((await cluster.status(0)).remoteConsistentLsn), a.endLsn);
    stream.cancel();
    client.close();
    await assert.rejects(readWal(cluster.node(0).safekeeper.grpcAddr, { from: lsn(START - 8), to: b.endLsn }), {
      kind: 'not-found',
    });
    await assert.rejects(readWal(cluster.node(0).safekeeper.grpcAddr, { from: START, to: b.endLsn, term: 9 }), {
      kind: 'precondition',
    });
  });

  it('lists and deletes', async () => {
    cluster = await TestCluster.start(1);
    await cluster.create(START);
    const { client } = cluster.node(0);
    const one = await greeted(0);
    await lead([one], 1);
    const list = await callUnary(client, client.listTimelines, { tenantId: '' });
    assert.deepEqual(
      list.timelines.map((timeline) => [timeline.ttid, timeline.proposerCount]),
      [[TTID, 1]],
    );
    assert.deepEqual(await callUnary(client, client.deleteTimeline, { ttid: TTID }), { existed: true });
    await one.failure();
    assert.deepEqual(await callUnary(client, client.deleteTimeline, { ttid: TTID }), { existed: false });
    await assert.rejects(cluster.status(0), { kind: 'not-found' });
    assert.deepEqual(await readdir(path.dirname(cluster.timelineDir(0))), []);
    await cluster.create(lsn(START + 8));
    assert.equal(lsnFromWire((await cluster.status(0)).timelineStartLsn), START + 8);
  });
});

/** Every record from `from` on must be readable, up to `to` exactly. */
async function waldump(dir: string, from: Lsn, to: Lsn): Promise<void> {
  const copy = await mkdtemp(path.join(tmpdir(), 'safekeeper-waldump-'));
  try {
    for (const name of await readdir(dir)) {
      if (!name.startsWith('0000')) continue;
      await cp(path.join(dir, name), path.join(copy, name.replace('.partial', '')));
    }
    const pgWaldump = path.join(process.env['PG_BIN'] ?? '/usr/lib/postgresql/15/bin', 'pg_waldump');
    const { stdout } = await run(pgWaldump, ['-p', copy, '-s', formatLsn(from), '-e', formatLsn(to)], {
      maxBuffer: 1 << 28,
    });
    const last = /lsn: ([0-9A-F/]+)[^\n]*\n$/.exec(stdout);
    assert.ok(last !== null, 'pg_waldump shows no record');
  } finally {
    await rm(copy, { recursive: true, force: true });
  }
}
