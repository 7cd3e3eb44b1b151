/** Needs root and iptables; part of `npm run test:long`. */
import { strict as assert } from 'node:assert';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { LONG } from '#shared/testing/long.js';

const run = promisify(execFile);
const SCRIPT = join(import.meta.dirname, 'packet-loss.ts');
/** As compute-ctl/core/connstr.ts says, and some more for a machine that is busy. */
const NOTICED_MS_MAX = 25_000;

async function canDrop(): Promise<boolean> {
  const tried = run('unshare', ['-n', 'iptables', '-A', 'INPUT', '-p', 'tcp', '--dport', '1', '-j', 'DROP']);
  return tried.then(
    () => true,
    () => false,
  );
}

describe('a page server that is gone without a word', function () {
  this.timeout(300_000);

  it('is noticed by a backend that waits for a page', async function () {
    if (!LONG || !(await canDrop())) return this.skip();
    const args = ['-n', process.execPath, '--conditions=source', '--import', 'tsx', SCRIPT];
    const { stdout } = await run('unshare', args, { cwd: join(import.meta.dirname, '../..') });
    const { count, ms } = JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as { count: number; ms: number };
    assert.equal(count, 20_000);
    assert.ok(ms > 1_000 && ms < NOTICED_MS_MAX, `answered after ${Math.round(ms)} ms`);
  });
});
