/**
 * Timelines on a disk that fails in the middle: after every possible operation, with the machine going down or only the process.
 * Whatever was acknowledged must be there, as it was.
 */
import { strict as assert } from 'node:assert';
import fc from 'fast-check';
import { parseTenantId, parseTimelineId } from '#shared/core/ids.js';
import { lsn, type Lsn } from '#shared/core/lsn.js';
import { streamingStart } from '#shared/consensus/term-history.js';
import { silentLogger } from '#shared/runtime/log.js';
import type { AcceptorReply } from '../core/acceptor-types.js';
import { newControlState } from '../core/control-state.js';
import { NO_MEMBERSHIP } from '../core/membership.js';
import { CrashDisk } from '../testing/crash-disk.js';
import { WalMaker } from '../testing/wal-maker.js';
import type { ProposerConnection } from './proposer-connection.js';
import type { Timeline } from './timeline.js';
import { Timelines } from './timelines.js';
import { newWalStorageCounters } from './wal-storage.js';

const SEG_SIZE = 1 << 20;
const SYSTEM_ID = 9n;
const START = lsn(0x14f_f128);
const TTID = { tenantId: parseTenantId('1'.repeat(32)), timelineId: parseTimelineId('2'.repeat(32)) };
const CONTROL = newControlState({
  ttid: TTID,
  startLsn: START,
  pgVersion: 150018,
  systemId: SYSTEM_ID,
  segSize: SEG_SIZE,
  membership: NO_MEMBERSHIP,
  nowMs: 1,
});

function load(disk: CrashDisk): Promise<Timelines> {
  return Timelines.load({ dataDir: '/d', disk, nodeId: 1, counters: newWalStorageCounters(), log: silentLogger });
}

/** A proposer at the timeline itself, without a network. */
class LocalProposer {
  readonly replies: AcceptorReply[] = [];
  error: Error | null = null;
  private readonly connection: ProposerConnection;
  private wake: () => void = () => undefined;

  constructor(timeline: Timeline) {
    this.connection = timeline.connect({
      reply: (reply) => {
        this.replies.push(reply);
        this.wake();
      },
      fail: (error) => {
        this.error = error;
        this.wake();
      },
    });
  }

  async until<T>(find: (reply: AcceptorReply) => T | null): Promise<T> {
    for (;;) {
      for (let reply = this.replies.shift(); reply !== undefined; reply = this.replies.shift()) {
        const found = find(reply);
        if (found !== null) return found;
      }
      if (this.error !== null) throw this.error;
      await new Promise<void>((resolve) => (this.wake = resolve));
    }
  }

  /** Votes and leads; returns where to stream from. */
  async lead(term: number): Promise<Lsn> {
    void this.connection.submit({ kind: 'vote', connection: this.connection.id, generation: 0, term });
    const vote = await this.until((reply) => (reply.kind === 'vote' ? reply : null));
    const history = [...vote.history, { term, lsn: vote.flushLsn }];
    const startStreamingAt = streamingStart(history, vote.history, vote.flushLsn);
    const common = { kind: 'elected', connection: this.connection.id, generation: 0, term } as const;
    void this.connection.submit({ ...common, startStreamingAt, history });
    return startStreamingAt;
  }

  append(term: number, beginLsn: Lsn, bytes: Uint8Array, commitLsn: Lsn): void {
    const common = { kind: 'append', connection: this.connection.id, generation: 0, term } as const;
    void this.connection.submit({ ...common, beginLsn, commitLsn, truncateLsn: lsn(0), bytes });
  }

  flushed(to: Lsn): Promise<true> {
    return this.until((reply) => (reply.kind === 'append' && reply.flushLsn >= to ? true : null));
  }
}

/** What is known outside about the timeline. */
interface Outside {
  /** All WAL of the history that the present leader writes. */
  maker: WalMaker;
  bytes: Buffer;
  acknowledged: Lsn;
  term: number;
}

async function readBack(timeline: Timeline, to: Lsn): Promise<Buffer> {
  const reader = timeline.openReader();
  const pieces: Buffer[] = [];
  for (let at = START; at < to;) {
    const bytes = await reader.read(at, to);
    pieces.push(Buffer.from(bytes));
    at = lsn(at + bytes.length);
  }
  await reader.close();
  return Buffer.concat(pieces);
}

/** Some appends in one term, from wherever the log ends now. */
async function session(timelines: Timelines, outside: Outside, sizes: readonly number[]): Promise<void> {
  const timeline = timelines.get(TTID);
  const { flushLsn } = timeline.view;
  assert.ok(flushLsn >= outside.acknowledged, `durable to ${flushLsn}, acknowledged was ${outside.acknowledged}`);
  assert.ok(timeline.view.control.term >= outside.term, 'a term was forgotten');
  const held = await readBack(timeline, flushLsn);
  assert.ok(held.equals(outside.bytes.subarray(0, held.length)), 'the log holds other bytes than were appended');
  const proposer = new LocalProposer(timeline);
  const term = timeline.view.control.term + 1;
  const start = await proposer.lead(term);
  outside.term = term;
  assert.equal(start, flushLsn);
  // The next leader goes on where the log ends: what was in flight beyond is given up.
  outside.bytes = outside.bytes.subarray(0, start - START);
  outside.maker = new WalMaker({ startLsn: start, segSize: SEG_SIZE, systemId: SYSTEM_ID });
  outside.acknowledged = start;
  for (const size of sizes) {
    const wal = size === 0 ? outside.maker.switchSegment() : outside.maker.record(size, term);
    outside.bytes = Buffer.concat([outside.bytes, wal.bytes]);
    for (let at = 0; at < wal.bytes.length; at += 100_000) {
      const bytes = wal.bytes.subarray(at, at + 100_000);
      proposer.append(term, lsn(wal.startLsn + at), bytes, outside.acknowledged);
    }
    await proposer.flushed(wal.endLsn);
    outside.acknowledged = wal.endLsn;
  }
}

/** Runs a session that the disk breaks at operation `failAt`. Returns whether it was broken. */
async function broken(disk: CrashDisk, outside: Outside, sizes: readonly number[], failAt: number): Promise<boolean> {
  const timelines = await load(disk);
  disk.operations = 0;
  disk.failAt = failAt;
  try {
    await session(timelines, outside, sizes);
    return false;
  } catch (error) {
    assert.match(String(error), /EIO|failed on disk/);
    return true;
  } finally {
    await timelines.close().catch(() => undefined);
  }
}

async function created(disk: CrashDisk): Promise<Outside> {
  const timelines = await load(disk);
  await timelines.create(CONTROL);
  await timelines.close();
  const maker = new WalMaker({ startLsn: START, segSize: SEG_SIZE, systemId: SYSTEM_ID });
  return { maker, bytes: Buffer.alloc(0), acknowledged: START, term: 0 };
}

function generator(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

describe('timelines on a failing disk', () => {
  it('keep what was acknowledged, whichever operation fails', async () => {
    const sizes = [5000, 100, 700_000, 0, 20];
    for (const machine of [true, false]) {
      for (let failAt = 1, wasBroken = true; wasBroken; failAt++) {
        const disk = new CrashDisk(generator(failAt));
        const outside = await created(disk);
        await session(await load(disk), outside, [300]);
        wasBroken = await broken(disk, outside, sizes, failAt);
        if (machine) disk.crash();
        else disk.revive();
        await session(await load(disk), outside, [40, 50_000]);
        assert.ok(failAt < 500);
      }
    }
  });

  it('keep it over many crashes', async () => {
    const size = fc.oneof(fc.integer({ min: 1, max: 3000 }), fc.integer({ min: 1, max: 900_000 }), fc.constant(0));
    const crash = fc.record({ sizes: fc.array(size, { maxLength: 5 }), failAt: fc.nat(80), machine: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(fc.array(crash, { maxLength: 6 }), fc.nat(), async (crashes, seed) => {
        const disk = new CrashDisk(generator(seed));
        const outside = await created(disk);
        for (const { sizes, failAt, machine } of crashes) {
          await broken(disk, outside, sizes, failAt + 1);
          if (machine) disk.crash();
          else disk.revive();
        }
        await session(await load(disk), outside, [10]);
      }),
      { numRuns: Number(process.env['CRASH_RUNS'] ?? 20), endOnFailure: true },
    );
  });

  it('are read back by the same process after a failure, trusting only what was synced', async () => {
    const disk = new CrashDisk(generator(1));
    const outside = await created(disk);
    const timelines = await load(disk);
    await session(timelines, outside, [1000]);
    const timeline = timelines.get(TTID);
    const proposer = new LocalProposer(timeline);
    const term = timeline.view.control.term + 1;
    const start = await proposer.lead(term);
    const lost = outside.maker.record(2000);
    const stop = new AbortController();
    while (timeline.view.control.history.at(-1)?.term !== term) await timeline.changes.wait(100, stop.signal);
    // The write goes through, the sync behind it does not.
    disk.operations = 0;
    disk.failAt = 2;
    proposer.append(term, lost.startLsn, lost.bytes, lsn(0));
    await assert.rejects(proposer.flushed(lost.endLsn), { kind: 'unavailable' });
    assert.throws(() => new LocalProposer(timeline), { kind: 'unavailable' });
    disk.revive();
    while (!isActive(timeline)) await timeline.changes.wait(100, stop.signal);
    assert.equal(timeline.view.flushLsn, start);
    await timelines.close();
  });

  it('appear whole or not at all', async () => {
    for (let failAt = 1, wasBroken = true; wasBroken; failAt++) {
      const disk = new CrashDisk(generator(failAt));
      const timelines = await load(disk);
      disk.operations = 0;
      disk.failAt = failAt;
      wasBroken = await timelines.create(CONTROL).then(
        () => false,
        () => true,
      );
      disk.crash();
      const again = await load(disk);
      if (!wasBroken) assert.notEqual(again.find(TTID), undefined);
      const timeline = await again.create(CONTROL);
      assert.equal(timeline.view.flushLsn, START);
      await again.close();
    }
  });
});

function isActive(timeline: Timeline): boolean {
  try {
    const probe = timeline.openReader();
    void probe.close();
    return true;
  } catch {
    return false;
  }
}
