/** Version 2 in a directory laid out as the kernel lays it out; version 1, too, and the kernel's own where it may be written. */
import { strict as assert } from 'node:assert';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { StorageError } from '../core/errors.js';
import { ControlGroup, removeGroupsBelow } from './control-group.js';

const MIB = 1 << 20;
const STAT = 'anon 9\nfile 7\nactive_anon 100\ninactive_anon 20\n';

describe('control groups', () => {
  let root: string;
  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'neon-cgroup-'));
  });
  afterEach(() => rm(root, { recursive: true, force: true }));
  const put = async (path: string, text: string) => {
    await mkdir(join(root, path, '..'), { recursive: true });
    await writeFile(join(root, path), text);
  };
  const text = (path: string) => readFile(join(root, path), 'utf8');

  it('makes, measures and limits one of version 2', async () => {
    await put('cgroup.controllers', 'cpuset cpu io memory pids\n');
    await put('stack/main/cgroup.procs', '17\n23\n');
    await put('stack/main/memory.stat', STAT);
    await put('stack/main/memory.max', 'max\n');
    const group = await ControlGroup.make('stack/main', root);
    assert.equal(group.version, 2);
    assert.equal(await text('cgroup.subtree_control'), '+cpu +memory');
    assert.equal(await text('stack/cgroup.subtree_control'), '+cpu +memory');
    assert.deepEqual(await group.pids(), [17, 23]);
    assert.equal(await group.usedBytes(), 120);
    assert.equal(await group.totalBytes(), totalmem());
    await group.setLimits({ memoryBytes: 256 * MIB, cpus: 0.25 });
    assert.equal(await text('stack/main/memory.max'), String(256 * MIB));
    assert.equal(await text('stack/main/cpu.max'), '25000 100000');
    assert.equal(await group.totalBytes(), 256 * MIB);
    assert.equal((await ControlGroup.find('/stack/main', root)).version, 2);
  });

  it('makes, measures and limits one of version 1', async () => {
    await put('memory/stack/main/cgroup.procs', '17\n');
    await put('memory/stack/main/memory.stat', `${STAT}total_active_anon 300\ntotal_inactive_anon 4\n`);
    await put('memory/stack/main/memory.limit_in_bytes', '9223372036854771712\n');
    await mkdir(join(root, 'cpu'));
    const group = await ControlGroup.make('stack/main', root);
    assert.equal(group.version, 1);
    assert.equal(await group.usedBytes(), 304);
    assert.equal(await group.totalBytes(), totalmem());
    await group.setLimits({ memoryBytes: 512 * MIB, cpus: 1.5 });
    assert.equal(await text('cpu/stack/main/cpu.cfs_quota_us'), '150000');
    assert.equal(await text('cpu/stack/main/cpu.cfs_period_us'), '100000');
    assert.equal(await group.totalBytes(), 512 * MIB);
    await group.add(42);
    assert.equal(await text('memory/stack/main/cgroup.procs'), '42');
    assert.equal(await text('cpu/stack/main/cgroup.procs'), '42');
  });

  it('says when there is no such group, and when none can be made', async () => {
    const kind = (wanted: string) => (error: unknown) => error instanceof StorageError && error.kind === wanted;
    await assert.rejects(ControlGroup.find('nobody', root), kind('not-found'));
    await assert.rejects(ControlGroup.make('stack/main', join(root, 'nothing')), kind('unavailable'));
    await assert.rejects(ControlGroup.make('stack/main', root), kind('unavailable'));
  });

  it('holds a process in a group of the kernel, and leaves none', async function () {
    const parent = `neon-test-${process.pid}`;
    const group = await ControlGroup.make(`${parent}/one`).catch(() => null);
    if (group === null) return this.skip();
    const child = spawn('sleep', ['60']);
    try {
      await group.add(child.pid ?? 0);
      assert.deepEqual(await group.pids(), [child.pid]);
      await group.setLimits({ memoryBytes: 64 * MIB, cpus: 0.5 });
      assert.equal(await group.totalBytes(), 64 * MIB);
      assert.ok((await group.usedBytes()) < 64 * MIB);
    } finally {
      child.kill('SIGKILL');
      await once(child, 'exit');
      await group.remove();
      await removeGroupsBelow(parent);
    }
    for (const dir of ['', 'memory', 'cpu']) assert.ok(!existsSync(join('/sys/fs/cgroup', dir, parent)), dir);
  });
});
