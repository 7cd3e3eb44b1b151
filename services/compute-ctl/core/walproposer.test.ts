import { strict as assert } from 'node:assert';
import { StorageError } from '#shared/core/errors.js';
import { parseTtid } from '#shared/core/ids.js';
import { formatLsn, lsn } from '#shared/core/lsn.js';
import type { TermLsn } from '#shared/consensus/term-history.js';
import type { AcceptorMessage, Membership } from './messages.js';
import { WalProposer } from './walproposer.js';
import type { Effect, ProposerConfig } from './walproposer.js';

const NOBODY: Membership = { generation: 0, members: [], newMembers: [] };
const CONFIG: ProposerConfig = {
  ttid: parseTtid({ tenantId: 'a'.repeat(32), timelineId: 'b'.repeat(32) }),
  peerCount: 3,
  membership: NOBODY,
  pgVersion: 150000,
  systemId: 1n,
  segSize: 1 << 24,
  allowTimelineCreation: true,
  greetingGraceMs: 30,
  peerTimeoutMs: 1_000,
  heartbeatMs: 200,
  donorTimeoutMs: 500,
  campaignRetryMs: 50,
};

/** One line per effect, short enough to compare. */
function show(effect: Effect): string {
  switch (effect.kind) {
    case 'send': {
      const { message } = effect;
      if (message.kind === 'greeting') return `${effect.peer} greeting`;
      if (message.kind === 'vote') return `${effect.peer} vote t${message.term}`;
      if (message.kind === 'elected') return `${effect.peer} elected t${message.term} from ${message.startStreamingAt}`;
      return `${effect.peer} append ${message.beginLsn}+${message.walData.length} commit ${message.commitLsn} truncate ${message.truncateLsn}`;
    }
    case 'read-wal':
      return `${effect.peer} read ${effect.fromLsn}..${effect.endLsn}`;
    case 'reset':
      return `${effect.peer} reset: ${effect.reason}`;
    case 'connect':
      return `${effect.peer} connect ${effect.addr}`;
    case 'drop':
      return `${effect.peer} drop`;
    case 'elected':
      return `elected t${effect.term} at ${effect.startLsn}, donor ${effect.donor}`;
    case 'recovered':
    case 'committed':
      return `${effect.kind} ${effect.lsn}`;
    case 'feedback':
      return `feedback ${formatLsn(effect.feedback.diskConsistentLsn)}`;
    case 'fenced':
      return effect.message;
    default:
      return effect.kind;
  }
}

class Script {
  readonly proposer: WalProposer;
  nowMs = 0;

  constructor(config: Partial<ProposerConfig> = {}) {
    this.proposer = new WalProposer({ ...CONFIG, ...config });
  }

  take(input: Parameters<WalProposer['step']>[0]): string[] {
    return this.proposer
      .step(input, this.nowMs)
      .filter((effect) => effect.kind !== 'note')
      .map(show);
  }

  hear(peer: number, message: AcceptorMessage): string[] {
    return this.take({ kind: 'message', peer, message });
  }

  greet(peer: number, term: number, membership = NOBODY): string[] {
    this.take({ kind: 'connected', peer });
    return this.hear(peer, { kind: 'greeting', nodeId: BigInt(peer + 1), membership, term });
  }

  vote(peer: number, term: number, flush: number, history: [number, number][], given = true): string[] {
    const termHistory: TermLsn[] = history.map(([entry, at]) => ({ term: entry, lsn: lsn(at) }));
    const fixed = { kind: 'vote', generation: 0, truncateLsn: lsn(0) } as const;
    return this.hear(peer, { ...fixed, term, voteGiven: given, flushLsn: lsn(flush), termHistory });
  }

  ack(peer: number, term: number, flush: number, commit = 0): string[] {
    const fixed = { kind: 'append', generation: 0, pageserverFeedback: null, standbyFeedback: null } as const;
    return this.hear(peer, { ...fixed, term, flushLsn: lsn(flush), commitLsn: lsn(commit) });
  }

  give(peer: number, from: number, length: number): string[] {
    const { epoch } = this.proposer.peers[peer] as { epoch: number };
    return this.take({ kind: 'wal-read', peer, epoch, beginLsn: lsn(from), bytes: new Uint8Array(length) });
  }

  /** Three safekeepers, all at 1000 in term 1; term 2 is won and recovered. */
  static leading(config: Partial<ProposerConfig> = {}): Script {
    const script = new Script(config);
    for (const peer of [0, 1, 2]) script.greet(peer, 1);
    for (const peer of [0, 1, 2]) script.vote(peer, 2, 1000, [[1, 500]]);
    for (const peer of [0, 1, 2]) script.ack(peer, 2, 1000);
    assert.equal(script.proposer.phase, 'leading');
    return script;
  }
}

describe('walproposer', () => {
  it('elects, brings the laggard up from the donor, and starts where the newest log ends', () => {
    const script = new Script();
    assert.deepEqual(script.greet(0, 3), []);
    assert.deepEqual(script.greet(1, 5), []);
    assert.deepEqual(script.greet(2, 4), ['0 vote t6', '1 vote t6', '2 vote t6']);
    assert.deepEqual(
      script.vote(0, 6, 900, [
        [1, 500],
        [3, 800],
      ]),
      [],
    );
    assert.deepEqual(
      script.vote(1, 6, 850, [
        [1, 500],
        [4, 820],
      ]),
      [
        'elected t6 at 850, donor 1',
        // 0 has term 3 from 800 on, the history to follow has term 4 from 820 on: they part at 820, where term 1 ends for the donor, or at 800.
        '0 elected t6 from 800',
        '0 read 800..850',
        '1 elected t6 from 850',
        '1 append 850+0 commit 0 truncate 0',
      ],
    );
    assert.deepEqual(script.proposer.donorsAt(lsn(800)), [{ index: 1, flushLsn: lsn(850) }]);
    assert.deepEqual(script.ack(1, 6, 850), []);
    assert.deepEqual(script.give(0, 800, 50), ['0 append 800+50 commit 0 truncate 0']);
    assert.deepEqual(script.ack(0, 6, 850), [
      'recovered 850',
      'committed 850',
      '0 append 850+0 commit 850 truncate 0',
      '1 append 850+0 commit 850 truncate 0',
    ]);
    assert.deepEqual(script.vote(2, 6, 500, [[1, 500]]), ['2 elected t6 from 500', '2 read 500..850']);
  });

  it('does not wait for a safekeeper that refuses connections, and waits a little for a silent one', () => {
    const script = new Script();
    script.greet(0, 0);
    script.greet(1, 0);
    script.take({ kind: 'connected', peer: 2 });
    assert.deepEqual(script.take({ kind: 'tick' }), []);
    assert.deepEqual(script.take({ kind: 'disconnected', peer: 2 }), ['0 vote t1', '1 vote t1']);

    const silent = new Script();
    silent.greet(0, 0);
    silent.greet(1, 0);
    silent.nowMs = 30;
    assert.deepEqual(silent.take({ kind: 'tick' }), ['0 vote t1', '1 vote t1']);
  });

  it('asks where a timeline begins whose safekeepers are all empty', () => {
    const script = new Script();
    for (const peer of [0, 1, 2]) script.greet(peer, 0);
    script.vote(0, 1, 0, []);
    assert.deepEqual(script.vote(1, 1, 0, []), ['need-start-lsn']);
    assert.deepEqual(script.take({ kind: 'start-lsn', lsn: lsn(4096) }), [
      'elected t1 at 4096, donor 0',
      '0 elected t1 from 4096',
      '0 append 4096+0 commit 0 truncate 0',
      '1 elected t1 from 4096',
      '1 append 4096+0 commit 0 truncate 0',
    ]);
  });

  it('commits what a quorum has, in pieces of at most 128 KiB and one outstanding read a safekeeper', () => {
    const script = Script.leading();
    const end = 1000 + 200_000;
    assert.deepEqual(script.take({ kind: 'wal-available', endLsn: lsn(end) }), [
      '0 read 1000..132072',
      '1 read 1000..132072',
      '2 read 1000..132072',
    ]);
    assert.deepEqual(script.take({ kind: 'wal-available', endLsn: lsn(end + 8) }), []);
    assert.deepEqual(script.give(0, 1000, 131_072), [
      '0 append 1000+131072 commit 1000 truncate 1000',
      `0 read 132072..${end + 8}`,
    ]);
    script.give(1, 1000, 131_072);
    assert.deepEqual(script.ack(0, 2, 131_000), []);
    // Both have a read outstanding: the commit position travels with the piece.
    assert.deepEqual(script.ack(1, 2, 132_000), ['committed 131000']);
  });

  it('tells a new commit position with the next WAL', () => {
    const script = Script.leading();
    script.take({ kind: 'wal-available', endLsn: lsn(1080) });
    for (const peer of [0, 1, 2]) script.give(peer, 1000, 80);
    script.ack(0, 2, 1080);
    assert.deepEqual(script.ack(1, 2, 1080), ['committed 1080']);
    assert.equal(script.proposer.owesCommit, true);
    script.take({ kind: 'wal-available', endLsn: lsn(1090) });
    for (const peer of [0, 1, 2]) {
      assert.deepEqual(script.give(peer, 1080, 10), [`${peer} append 1080+10 commit 1080 truncate 1000`]);
    }
    assert.equal(script.proposer.owesCommit, false);
    assert.deepEqual(script.take({ kind: 'tick' }), []);
  });

  it('tells an idle safekeeper a new commit position with the next tick, once', () => {
    const script = Script.leading();
    script.take({ kind: 'wal-available', endLsn: lsn(1080) });
    for (const peer of [0, 1, 2]) script.give(peer, 1000, 80);
    script.ack(0, 2, 1080);
    assert.deepEqual(script.ack(1, 2, 1080), ['committed 1080']);
    const told = [0, 1, 2].map((peer) => `${peer} append 1080+0 commit 1080 truncate 1000`);
    assert.deepEqual(script.take({ kind: 'tick' }), told);
    assert.deepEqual([script.take({ kind: 'tick' }), script.proposer.owesCommit], [[], false]);
    script.ack(2, 2, 1080, 1080);
    assert.equal(script.proposer.truncateLsn, 1080);
    assert.equal(script.proposer.isSettled(lsn(1080)), false);
    script.ack(0, 2, 1080, 1080);
    script.ack(1, 2, 1080, 1080);
    assert.equal(script.proposer.isSettled(lsn(1080)), true);
  });

  it('never commits beyond what exists, whatever a safekeeper says', () => {
    const script = Script.leading();
    assert.deepEqual(script.ack(0, 2, 5000), []);
    assert.deepEqual(script.ack(1, 2, 5000), []);
    assert.equal(script.proposer.commitLsn, 1000);
    assert.ok(script.take({ kind: 'wal-available', endLsn: lsn(1100) }).includes('committed 1100'));
  });

  it('does not count acknowledgements of WAL below the start of its term', () => {
    const script = new Script();
    for (const peer of [0, 1, 2]) script.greet(peer, 1);
    script.vote(0, 2, 1000, [[1, 100]]);
    script.vote(1, 2, 200, [[1, 100]]);
    script.give(1, 200, 300);
    assert.deepEqual(script.ack(1, 2, 500), []);
    assert.deepEqual(script.ack(0, 2, 1000), []);
    assert.equal(script.proposer.commitLsn, 0);
  });

  it('repeats a refused election with a higher term, and is not confused by late answers', () => {
    const script = new Script();
    for (const peer of [0, 1, 2]) script.greet(peer, 1);
    assert.deepEqual(script.vote(0, 7, 0, [], false), []);
    script.nowMs = 50;
    assert.deepEqual(script.take({ kind: 'tick' }), ['0 vote t8', '1 vote t8', '2 vote t8']);
    assert.deepEqual(script.vote(1, 2, 1000, [[1, 500]]), []);
    assert.equal(script.proposer.peers[1]?.vote, null);
  });

  it('tries again when its vote may be somebody else’s', () => {
    const script = new Script();
    for (const peer of [0, 1, 2]) script.greet(peer, 1);
    script.vote(0, 2, 1000, [[1, 500]], false);
    assert.equal(script.proposer.phase, 'collecting');
  });

  it('ends when a leader meets a higher term, and does nothing any more', () => {
    const script = Script.leading();
    assert.deepEqual(script.ack(2, 3, 0), [
      'fenced: a newer compute (term 3) took over the timeline from this one (term 2)',
    ]);
    assert.deepEqual(script.take({ kind: 'wal-available', endLsn: lsn(2000) }), []);
    assert.deepEqual(script.greet(0, 9), []);
  });

  it('takes a returning safekeeper in, from where both logs part', () => {
    const script = Script.leading();
    script.take({ kind: 'disconnected', peer: 2 });
    script.take({ kind: 'wal-available', endLsn: lsn(1080) });
    script.give(0, 1000, 80);
    script.give(1, 1000, 80);
    script.ack(0, 2, 1080);
    script.ack(1, 2, 1080);
    assert.equal(script.proposer.commitLsn, 1080);
    assert.deepEqual(script.greet(2, 2), ['2 vote t2']);
    assert.deepEqual(
      script.vote(
        2,
        2,
        1000,
        [
          [1, 500],
          [2, 1000],
        ],
        false,
      ),
      ['2 elected t2 from 1000', '2 read 1000..1080'],
    );
  });

  it('drops a piece that was read for a connection that is gone', () => {
    const script = Script.leading();
    script.take({ kind: 'wal-available', endLsn: lsn(1080) });
    const { epoch } = script.proposer.peers[2] as { epoch: number };
    script.take({ kind: 'disconnected', peer: 2 });
    script.greet(2, 2);
    script.vote(
      2,
      2,
      1000,
      [
        [1, 500],
        [2, 1000],
      ],
      false,
    );
    const late = { kind: 'wal-read', peer: 2, epoch, beginLsn: lsn(1000), bytes: new Uint8Array(80) } as const;
    assert.deepEqual(script.take(late), []);
    assert.deepEqual(script.give(2, 1000, 80), ['2 append 1000+80 commit 1000 truncate 1000']);
  });

  it('elects anew when the only one with the newest WAL is lost before a quorum has it', () => {
    const script = new Script();
    for (const peer of [0, 1, 2]) script.greet(peer, 1);
    script.vote(0, 2, 1000, [[1, 100]]);
    script.vote(1, 2, 200, [[1, 100]]);
    script.take({ kind: 'disconnected', peer: 0 });
    script.vote(2, 2, 200, [[1, 100]]);
    for (script.nowMs = 0; script.nowMs < 700; script.nowMs += 100) {
      for (const peer of [1, 2]) script.ack(peer, 2, 200);
      script.take({ kind: 'tick' });
    }
    assert.equal(script.proposer.term, 3);
    script.vote(1, 3, 200, [[1, 100]]);
    assert.deepEqual(script.vote(2, 3, 200, [[1, 100]])[0], 'elected t3 at 200, donor 1');
  });

  it('gives up connections that are silent, and keeps silent ones awake', () => {
    const script = Script.leading();
    script.nowMs = 200;
    assert.deepEqual(script.take({ kind: 'tick' }).length, 3);
    script.ack(0, 2, 1000);
    script.nowMs = 1_100;
    assert.deepEqual(
      script.take({ kind: 'tick' }).filter((line) => line.includes('reset')),
      ['1 reset: silent for 1100 ms', '2 reset: silent for 1100 ms'],
    );
  });

  describe('membership', () => {
    const named = (...ids: bigint[]) => ids.map((nodeId) => ({ nodeId, grpcAddr: `sk${nodeId}` }));
    const addrs = ['sk1', 'sk2', 'sk3'];
    const joint: Membership = { generation: 4, members: named(1n, 2n, 3n), newMembers: named(2n, 3n, 4n) };
    const final: Membership = { generation: 5, members: named(2n, 3n, 4n), newMembers: [] };

    it('adopts a newer one before the election', () => {
      const script = new Script({ addrs });
      script.greet(0, 1);
      assert.deepEqual(script.greet(1, 1, { ...joint, newMembers: [] }), ['0 reset: membership changed']);
      assert.equal(script.proposer.membership.generation, 4);
    });

    it('gives up votes of the old one, and learns the members of the one it was configured with by number', () => {
      const script = new Script({ addrs, membership: { generation: 4, members: [], newMembers: [] } });
      assert.deepEqual(script.greet(0, 1, joint), ['3 connect sk4']);
      script.greet(1, 1, joint);
      script.greet(2, 1, joint);
      assert.deepEqual(script.greet(3, 1, joint), ['0 vote t2', '1 vote t2', '2 vote t2', '3 vote t2']);
      script.take({ kind: 'disconnected', peer: 1 });
      assert.deepEqual(script.greet(1, 1, final), [
        '0 drop',
        '2 reset: membership changed',
        '3 reset: membership changed',
      ]);
      assert.equal(script.proposer.phase, 'collecting');
    });

    it('as a leader goes on in a newer one, and commits only what both sets have', () => {
      const script = Script.leading({ addrs });
      const ack = (peer: number, flush: number, generation: number): string[] =>
        script.hear(peer, {
          kind: 'append',
          generation,
          pageserverFeedback: null,
          standbyFeedback: null,
          term: 2,
          flushLsn: lsn(flush),
          commitLsn: lsn(0),
        });
      const rejoin = (peer: number, membership: Membership): void => {
        script.take({ kind: 'disconnected', peer });
        script.greet(peer, 2, membership);
        const { generation } = membership;
        const history: [number, number][] = [
          [1, 500],
          [2, 1000],
        ];
        const termHistory: TermLsn[] = history.map(([term, at]) => ({ term, lsn: lsn(at) }));
        const vote = { kind: 'vote', truncateLsn: lsn(0), term: 2, voteGiven: false } as const;
        script.hear(peer, { ...vote, generation, flushLsn: lsn(1000), termHistory });
      };
      script.take({ kind: 'disconnected', peer: 2 });
      assert.deepEqual(script.greet(2, 2, joint), [
        '3 connect sk4',
        '0 reset: membership changed',
        '1 reset: membership changed',
        '2 vote t2',
      ]);
      for (const peer of [0, 1, 2, 3]) rejoin(peer, joint);
      script.take({ kind: 'wal-available', endLsn: lsn(1080) });
      for (const peer of [0, 1, 2, 3]) script.give(peer, 1000, 80);
      assert.deepEqual(ack(0, 1080, 4), []);
      // A majority of the old members, but one of the three new ones alone.
      assert.deepEqual(ack(1, 1080, 4), []);
      assert.deepEqual(ack(3, 1080, 4)[0], 'committed 1080');
      // The last acknowledgement of the one that leaves was of the configuration before.
      script.take({ kind: 'disconnected', peer: 3 });
      assert.deepEqual(script.greet(3, 2, final).slice(0, 2), ['0 drop', '1 reset: membership changed']);
      assert.deepEqual(ack(0, 2000, 4), []);
      assert.equal(script.proposer.phase, 'leading');
      assert.equal(script.proposer.term, 2);
    });
  });

  it('refuses two safekeepers that are the same node', () => {
    const script = new Script();
    script.greet(0, 1);
    script.take({ kind: 'connected', peer: 1 });
    const same = script.hear(1, { kind: 'greeting', nodeId: 1n, membership: NOBODY, term: 1 });
    assert.deepEqual(same, ['1 reset: safekeepers 0 and 1 are the same node 1']);
  });

  it('resets, and does not crash on, histories that contradict each other', () => {
    const script = Script.leading();
    script.take({ kind: 'disconnected', peer: 2 });
    script.greet(2, 2);
    const [line] = script.vote(2, 2, 1000, [[1, 700]], false);
    assert.match(line ?? '', /^2 reset: term 1 begins at/);
  });

  it('asserts that WAL it is given is the WAL it asked for', () => {
    const script = Script.leading();
    script.take({ kind: 'wal-available', endLsn: lsn(1080) });
    assert.throws(
      () => script.give(0, 1008, 8),
      (error: Error) => !(error instanceof StorageError),
    );
  });
});
