/** A disk that is full, or fails: nothing is acknowledged, it is said, and work goes on without a restart when the disk works again. */
import { strict as assert } from 'node:assert';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmdirSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { lsnFromWire } from '#shared/core/lsn.js';
import { TestCluster, SEG_SIZE, TTID } from './testing/cluster.js';
import { FailingDisk } from './testing/full-disk.js';
import { ClusterLeader, START } from './testing/leader.js';
import { realDisk } from './io/disk.js';
import { readWal, until } from './testing/wal-reading.js';

describe('a safekeeper whose disk fails', () => {
  let cluster: TestCluster;
  let leader: ClusterLeader;
  beforeEach(() => {
    leader = new ClusterLeader();
  });
  afterEach(async () => {
    leader.close();
    await cluster.stop();
  });

  const get = async (what: string): Promise<string> =>
    (await fetch(`http://${cluster.node(0).safekeeper.httpAddr}${what}`)).text();
  const status = async (): Promise<{ problem: string | null }> =>
    JSON.parse(await get(`/v1/tenant/${TTID.tenantId}/timeline/${TTID.timelineId}`)) as { problem: string | null };

  /** Writes until the disk refuses, checks that it says so, frees it, and goes on. */
  async function refusesAndRecovers(given: {
    kind: string;
    problem: RegExp;
    breakDisk: () => Promise<void> | void;
    repair: () => Promise<void> | void;
  }): Promise<void> {
    await cluster.create(START);
    await leader.lead(cluster, 1);
    const end = await leader.write(300_000);
    await given.breakDisk();
    await assert.rejects(leader.write(3 * SEG_SIZE), { kind: given.kind });
    await until(async () => given.problem.test((await status()).problem ?? ''));
    assert.match(await get('/metrics'), /safekeeper_failed\{[^}]*\} 1/);
    assert.match((await cluster.status(0)).problem, given.problem);
    // What was acknowledged is there; while not even a sync works nobody can tell.
    const timeline = cluster.node(0).safekeeper.timelines.get(TTID);
    if (given.kind === 'exhausted') await until(() => timeline.problem === null);
    assert.ok(lsnFromWire((await cluster.status(0)).flushLsn) >= end);

    await given.repair();
    await until(async () => {
      try {
        leader = new ClusterLeader();
        await leader.lead(cluster, Number((await cluster.status(0)).term) + 1);
        return true;
      } catch {
        leader.close();
        return false;
      }
    });
    const from = lsnFromWire((await cluster.status(0)).flushLsn);
    assert.ok(from >= end, 'what was acknowledged is there');
    leader.maker.endLsn = from;
    const now = await leader.write(2 * SEG_SIZE);
    assert.equal((await status()).problem, null);
    assert.match(await get('/metrics'), /safekeeper_failed\{[^}]*\} 0/);
    const read = await readWal(cluster.node(0).safekeeper.grpcAddr, from, now);
    assert.ok(read.equals(leader.written));
  }

  for (const [code, kind] of [
    ['ENOSPC', 'exhausted'],
    ['EIO', 'unavailable'],
  ] as const) {
    it(`refuses with ${code}, says so, and recovers`, async () => {
      const disk = new FailingDisk();
      cluster = await TestCluster.start(1, '127.0.0.1:1', { disk });
      await refusesAndRecovers({
        kind,
        problem: new RegExp(code),
        breakDisk: () => {
          disk.code = code;
        },
        repair: () => {
          disk.code = null;
        },
      });
    });
  }

  it('refuses on a file system that is really full, and recovers when there is room', async function () {
    const mountPoint = mkdtempSync(path.join(tmpdir(), 'safekeeper-full-'));
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', mountPoint], { stdio: 'ignore' });
    } catch {
      // Needs root; the test above does the same with errors made up.
      rmdirSync(mountPoint);
      cluster = await TestCluster.start(1);
      return this.skip();
    }
    const ballast = path.join(mountPoint, 'ballast');
    try {
      cluster = await TestCluster.at(mountPoint, { disk: realDisk({ sync: true }) });
      await refusesAndRecovers({
        kind: 'exhausted',
        problem: /ENOSPC|no space/,
        breakDisk: () => writeFile(ballast, Buffer.alloc(5 << 20)),
        repair: () => rm(ballast),
      });
    } finally {
      leader.close();
      await cluster.stop();
      execFileSync('umount', [mountPoint]);
      rmdirSync(mountPoint);
      cluster = await TestCluster.start(1);
    }
  });
});
