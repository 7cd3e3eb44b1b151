import { strict as assert } from 'node:assert';
import { reclaimableNot } from '#shared/core/memory-stat.js';
import { fileCacheMib, VmMonitor } from './vm-monitor.js';
import { MessageIds, negotiate, parseAgentMessage } from './vm-monitor-protocol.js';

const MIB = 1 << 20;
const GIB = 1 << 30;

describe('vm-monitor', () => {
  it('sizes the file cache as the reference does', () => {
    assert.equal(fileCacheMib(924 * MIB), 607);
    assert.equal(fileCacheMib(3996 * MIB), 2997);
    assert.equal(fileCacheMib(256 * MIB), 0);
    assert.equal(fileCacheMib(0), 0);
  });

  const monitor = (bytes: number) => new VmMonitor({ totalBytes: bytes, hasCgroup: true, hasFileCache: true });
  const fill = (of: VmMonitor, bytes: number, atMs = 0) => {
    for (let n = 0; n < 5; n++) of.sample(bytes, atMs + n * 100);
  };

  it('asks for memory when the average passes the threshold, once a second at most', () => {
    const of = monitor(GIB);
    assert.equal(of.thresholdBytes, Math.floor(GIB * 0.85));
    const asked = Array.from({ length: 25 }, (_, n) => of.sample(0.9 * GIB, n * 100));
    assert.deepEqual(
      asked.flatMap((yes, n) => (yes ? [n] : [])),
      [4, 14, 24],
    );
    const calm = monitor(GIB);
    for (let n = 0; n < 25; n++) assert.equal(calm.sample(0.8 * GIB, n * 100), false);
  });

  it('gives memory back only with room to spare, and only when it has measured', () => {
    const of = monitor(4 * GIB);
    assert.deepEqual(of.canDownscale(GIB, 0), { ok: false, why: "haven't received enough cgroup memory stats yet" });
    fill(of, 700 * MIB);
    assert.deepEqual(of.canDownscale(GIB, 500), {
      ok: false,
      why: 'calculated memory threshold too low: 785 MiB (new threshold) < 700 MiB (current usage) + 100 MiB (downscale buffer)',
    });
    fill(of, 600 * MIB);
    assert.deepEqual(of.canDownscale(GIB, 500), { ok: true, cacheMib: 607 });
    assert.equal(
      of.resized(GIB, 607),
      'set file cache size to 607 MiB; set cgroup memory threshold from 3481 MiB to 785 MiB, of new total 924 MiB',
    );
    assert.throws(() => of.canDownscale(GIB, 10_000), /too old/);
  });

  it('agrees to everything when it watches nothing', () => {
    const of = new VmMonitor({ totalBytes: GIB, hasCgroup: false, hasFileCache: false });
    assert.deepEqual(of.canDownscale(1, 0), { ok: true, cacheMib: null });
    assert.equal(of.resized(1, null), 'monitor is not managing cgroup or file cache');
  });

  it('reads memory.stat of both versions', () => {
    assert.equal(reclaimableNot('anon 5\nactive_anon 100\ninactive_anon 20\nfile 7\n'), 120);
    assert.equal(
      reclaimableNot('active_anon 1\ninactive_anon 2\ntotal_active_anon 100\ntotal_inactive_anon 20\n'),
      120,
    );
    assert.throws(() => reclaimableNot('anon 5\n'), /no active_anon/);
  });
});

describe('vm-monitor protocol', () => {
  it('negotiates', () => {
    assert.deepEqual(negotiate('{"min":1,"max":1}'), { version: 1 });
    assert.deepEqual(negotiate('{"min":0,"max":9}'), { version: 1 });
    assert.match(
      JSON.stringify(negotiate('{"min":2,"max":3}')),
      /"error":"Received protocol version range .* does not overlap/,
    );
    assert.match(JSON.stringify(negotiate('{"min":2,"max":1}')), /"error":"Invalid/);
    assert.throws(() => negotiate('nonsense'));
    assert.throws(() => negotiate('{"max":1}'));
  });

  it('takes nested messages, and nothing else', () => {
    const granted = { cpu: 0.5, mem: 2 ** 31 };
    const text = JSON.stringify({ content: { granted }, type: 'UpscaleNotification', id: 2 });
    assert.deepEqual(parseAgentMessage(text), { type: 'UpscaleNotification', id: 2, content: { granted } });
    assert.deepEqual(parseAgentMessage('{"content":{},"type":"HealthCheck","id":4}'), { type: 'HealthCheck', id: 4 });
    for (const bad of [
      '{',
      '{}',
      '{"type":"Other","id":1}',
      '{"type":"DownscaleRequest","id":1,"target":{"cpu":1,"mem":1}}',
    ]) {
      assert.throws(() => parseAgentMessage(bad), bad);
    }
    const ids = new MessageIds();
    assert.deepEqual([ids.take(), ids.take()], [3, 5]);
  });
});
