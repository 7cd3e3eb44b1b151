import { strict as assert } from 'node:assert';
import { lsn } from '#shared/core/lsn.js';
import type { SafekeeperState } from './receiver-policy.js';
import { POLICY_DEFAULTS, ReceiverPolicy } from './receiver-policy.js';

const GIB = 1 << 30;

function sk(safekeeperId: string, commit: number, availabilityZone = ''): SafekeeperState {
  return { safekeeperId, commitLsn: lsn(commit), grpcAddr: `host${safekeeperId}:1`, availabilityZone };
}

/** Connects to the given safekeeper, which says that it has WAL up to its commit position. */
function connected(to: SafekeeperState, options: Partial<typeof POLICY_DEFAULTS> = {}): ReceiverPolicy {
  const policy = new ReceiverPolicy({ ...POLICY_DEFAULTS, ...options });
  policy.noteInfo(to, 0);
  assert.deepEqual(policy.decide(lsn(1), 0), { kind: 'connect', to, reason: 'first' });
  policy.noteConnecting(to, 0);
  policy.noteMessage({ availableLsn: to.commitLsn, hasWal: true }, 0);
  return policy;
}

describe('receiver policy', () => {
  it('connects to the highest commit position', () => {
    const policy = new ReceiverPolicy(POLICY_DEFAULTS);
    assert.deepEqual(policy.decide(lsn(1), 0), { kind: 'keep' });
    for (const state of [sk('1', 100), sk('2', 300), sk('3', 200)]) policy.noteInfo(state, 0);
    assert.deepEqual(policy.decide(lsn(1), 0), { kind: 'connect', to: sk('2', 300), reason: 'first' });
  });

  it('leaves out who knows no commit position or has no address', () => {
    const policy = new ReceiverPolicy(POLICY_DEFAULTS);
    policy.noteInfo(sk('1', 0), 0);
    policy.noteInfo({ ...sk('2', 100), grpcAddr: '' }, 0);
    assert.deepEqual(policy.decide(lsn(1), 0), { kind: 'keep' });
  });

  it('forgets who was silent for 10 s', () => {
    const policy = new ReceiverPolicy(POLICY_DEFAULTS);
    policy.noteInfo(sk('1', 100), 0);
    assert.equal(policy.decide(lsn(1), 9_999).kind, 'connect');
    assert.equal(policy.decide(lsn(1), 10_000).kind, 'keep');
    assert.equal(policy.candidateCount, 0);
  });

  it('keeps a connection while another is only a little ahead', () => {
    const policy = connected(sk('1', 100));
    policy.noteInfo(sk('2', 99 + GIB), 1);
    assert.deepEqual(policy.decide(lsn(100), 1), { kind: 'keep' });
    policy.noteInfo(sk('2', 100 + GIB), 1);
    assert.deepEqual(policy.decide(lsn(100), 1), { kind: 'connect', to: sk('2', 100 + GIB), reason: 'far-ahead' });
  });

  it('counts what the connection has shown, not what the broker last said about it', () => {
    const policy = connected(sk('1', 100));
    policy.noteMessage({ availableLsn: lsn(50 + GIB), hasWal: true }, 1);
    policy.noteInfo(sk('2', 100 + GIB), 1);
    assert.equal(policy.decide(lsn(100 + GIB), 1).kind, 'keep');
  });

  it('moves to its own zone, but not for less WAL and not back', () => {
    const policy = connected(sk('1', 100, 'b'), { availabilityZone: 'a' });
    policy.noteInfo(sk('2', 99, 'a'), 1);
    assert.equal(policy.decide(lsn(100), 1).kind, 'keep');
    policy.noteInfo(sk('2', 100, 'a'), 1);
    assert.deepEqual(policy.decide(lsn(100), 1), { kind: 'connect', to: sk('2', 100, 'a'), reason: 'zone' });
    policy.noteConnecting(sk('2', 100, 'a'), 1);
    policy.noteMessage({ availableLsn: lsn(100), hasWal: false }, 1);
    policy.noteInfo(sk('1', 200, 'b'), 2);
    assert.equal(policy.decide(lsn(200), 2).kind, 'keep');
  });

  it('leaves a connection that is silent', () => {
    const policy = connected(sk('1', 100));
    policy.noteMessage({ availableLsn: lsn(100), hasWal: false }, 5_000);
    policy.noteInfo(sk('2', 100), 14_999);
    assert.equal(policy.decide(lsn(100), 14_999).kind, 'keep');
    assert.deepEqual(policy.decide(lsn(100), 15_000), { kind: 'connect', to: sk('2', 100), reason: 'silent' });
  });

  it('drops a silent connection even when there is nobody else', () => {
    const policy = connected(sk('1', 100));
    assert.deepEqual(policy.decide(lsn(100), 10_000), { kind: 'disconnect', reason: 'silent' });
  });

  it('leaves a connection that brings no WAL while others have more, counted from when that was seen', () => {
    const policy = connected(sk('1', 100));
    const tick = (nowMs: number) => {
      policy.noteMessage({ availableLsn: lsn(100), hasWal: false }, nowMs);
      policy.noteInfo(sk('2', 200), nowMs);
      return policy.decide(lsn(100), nowMs);
    };
    assert.equal(tick(50_000).kind, 'keep');
    assert.equal(tick(59_999).kind, 'keep');
    assert.deepEqual(tick(60_000), { kind: 'connect', to: sk('2', 200), reason: 'stalled' });
  });

  it('starts that count anew when WAL comes or when it has caught up', () => {
    const policy = connected(sk('1', 100));
    policy.noteInfo(sk('2', 200), 0);
    policy.decide(lsn(100), 0);
    policy.noteMessage({ availableLsn: lsn(150), hasWal: true }, 9_000);
    policy.noteInfo(sk('2', 300), 9_000);
    assert.equal(policy.decide(lsn(150), 10_000).kind, 'keep');
    policy.noteMessage({ availableLsn: lsn(150), hasWal: false }, 19_000);
    policy.noteInfo(sk('2', 300), 19_000);
    assert.equal(policy.decide(lsn(300), 19_000).kind, 'keep');
    assert.equal(policy.decide(lsn(300), 20_000).kind, 'keep');
  });

  it('reconnects a stalled connection when nobody else has the WAL', () => {
    const policy = connected(sk('1', 100));
    policy.noteMessage({ availableLsn: lsn(200), hasWal: false }, 1_000);
    policy.decide(lsn(100), 1_000);
    policy.noteMessage({ availableLsn: lsn(200), hasWal: false }, 10_000);
    assert.deepEqual(policy.decide(lsn(100), 11_000), { kind: 'disconnect', reason: 'stalled' });
  });

  it('waits longer after each failed attempt, at most 15 s, and forgets failures after a success', () => {
    const policy = new ReceiverPolicy({ ...POLICY_DEFAULTS, laggingWalTimeoutMs: 1e9 });
    let nowMs = 0;
    const delays: number[] = [];
    policy.noteInfo(sk('1', 100), 0);
    for (let i = 0; i < 20; i++) {
      policy.noteConnecting(sk('1', 100), nowMs);
      policy.noteDisconnected();
      const startMs = nowMs;
      while (policy.decide(lsn(1), nowMs).kind !== 'connect') nowMs += 1;
      delays.push(nowMs - startMs);
    }
    assert.deepEqual(delays.slice(0, 4), [100, 150, 225, 338]);
    assert.equal(Math.max(...delays), 15_000);
    policy.noteConnecting(sk('1', 100), nowMs);
    policy.noteMessage({ availableLsn: lsn(100), hasWal: false }, nowMs);
    policy.noteDisconnected();
    assert.equal(policy.decide(lsn(1), nowMs).kind, 'connect');
  });

  it('asks for discovery only while wanted and not connected: each second while a reader waits, else ever more rarely', () => {
    const policy = new ReceiverPolicy(POLICY_DEFAULTS);
    assert.equal(policy.discoveryDue('none', 0), false);
    const asked = (need: 'idle' | 'urgent', fromMs: number, toMs: number): number[] => {
      const times: number[] = [];
      for (let nowMs = fromMs; nowMs <= toMs; nowMs += 500) if (policy.discoveryDue(need, nowMs)) times.push(nowMs);
      return times;
    };
    assert.deepEqual(asked('idle', 0, 15_000), [0, 1_000, 3_000, 7_000, 15_000]);
    assert.deepEqual(asked('urgent', 15_500, 18_000), [16_000, 17_000, 18_000]);
    assert.deepEqual(asked('idle', 18_500, 110_000), [48_000, 78_000, 108_000]);
    policy.noteInfo(sk('1', 100), 110_000);
    policy.noteConnecting(sk('1', 100), 110_000);
    assert.equal(policy.discoveryDue('urgent', 200_000), false);
  });
});
