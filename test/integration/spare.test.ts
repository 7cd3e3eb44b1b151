/** A compute_ctl that is loaded in advance: it becomes the next compute, and ends with whoever keeps it. */
import { strict as assert } from 'node:assert';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { TestStack, until, value } from '../harness/stack.js';

const MAIN = resolve(import.meta.dirname, '../../build/services/compute-ctl/main.js');

describe('a spare compute_ctl', function () {
  this.timeout(120_000);

  async function spareLeftWith(input: string | null): Promise<{ code: number | null; stderr: string }> {
    const child = spawn(process.execPath, [MAIN, 'spare'], { stdio: ['pipe', 'ignore', 'pipe'] });
    let stderr = '';
    child.stderr.on('data', (piece: Buffer) => (stderr += piece.toString()));
    // It may have gone before it has read all of a line that is too long.
    child.stdin.on('error', () => undefined);
    if (input === null) child.stdin.end();
    else child.stdin.write(input);
    const [code] = (await once(child, 'exit')) as [number | null];
    return { code, stderr };
  }

  it('ends with its supervisor, and refuses what are no arguments', async () => {
    assert.deepEqual(await spareLeftWith(null), { code: 0, stderr: '' });
    for (const line of ['something\n', '{"argv": [1]}\n', 'x'.repeat(2 << 20)]) {
      const { code, stderr } = await spareLeftWith(line);
      assert.equal(code, 2, stderr);
      assert.match(stderr, /a spare compute_ctl/);
    }
    const { code, stderr } = await spareLeftWith('{"argv": ["--pgdata", "/tmp/x", "--no-such"]}\n');
    assert.equal(code, 2);
    assert.match(stderr, /--no-such/);
  });

  it('is stopped with all others by Ctrl-C, in order', async () => {
    await using stack = await TestStack.start();
    const url = await stack.startCompute('main');
    await value(url, 'CREATE TABLE t AS SELECT 1 AS a');
    await stack.interrupt();
    const log = await stack.logs();
    assert.match(log, /Postgres has ended/);
    assert.doesNotMatch(log, /process died|before a quorum had all its WAL/);
  });

  it('becomes the compute that is started next, and is followed by another', async () => {
    await using stack = await TestStack.start({ safekeepers: 1 });
    const sparePid = async (): Promise<number> => {
      const text = await readFile(join(stack.repoDir, 'run/compute-spare.pid'), 'utf8').catch(() => '');
      return Number(text.split(' ')[0]);
    };
    const nextSpare = (last: number) =>
      until('a spare', 30_000, async () => {
        const pid = await sparePid();
        return pid > 0 && pid !== last ? pid : null;
      });
    const url = await stack.startCompute('main');
    await value(url, 'CREATE TABLE t AS SELECT 42 AS a');
    const first = await nextSpare((await stack.compute('main')).pid);
    await stack.stopCompute('main');
    const again = await stack.startAgain('main');
    assert.equal((await stack.compute('main')).pid, first);
    assert.equal(await value(again, 'SELECT a FROM t'), '42');
    assert.match(await readFile(join(stack.repoDir, 'logs/compute-main.log'), 'utf8'), new RegExp(`"pid":${first},`));
    // One that dies is missed by nobody.
    const second = await nextSpare(first);
    stack.expectFaults();
    process.kill(second, 'SIGKILL');
    await until('the spare to be gone', 10_000, async () => (await sparePid()) !== second);
    await stack.stopCompute('main');
    assert.equal(await value(await stack.startAgain('main'), 'SELECT a FROM t'), '42');
    assert.notEqual((await stack.compute('main')).pid, second);
  });
});
