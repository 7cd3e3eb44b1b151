import { strict as assert } from 'node:assert';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLogger } from '#shared/runtime/log.js';
import { rehearse } from './rehearsal.js';

const scratch = (): string[] =>
  readdirSync(tmpdir()).filter((name) => name.startsWith(`neon-rehearsal-${process.pid}-`));

describe('rehearsal of a start', function () {
  this.timeout(30_000);

  it('comes to its end, and leaves nothing', async () => {
    const { pid } = spawnSync(process.execPath, ['-e', '']);
    const ofKilled = join(tmpdir(), `neon-rehearsal-${pid}-killed`);
    mkdirSync(join(ofKilled, 'pgdata'), { recursive: true });
    assert.equal(await rehearse(silentLogger, new AbortController().signal), true);
    assert.deepEqual(scratch(), []);
    assert.equal(existsSync(ofKilled), false, 'what a killed process left is gone, too');
  });

  it('makes way for a real start', async () => {
    assert.equal(await rehearse(silentLogger, AbortSignal.abort()), false);
    const called = new AbortController();
    const rehearsing = rehearse(silentLogger, called.signal);
    setTimeout(() => called.abort(), 20);
    assert.equal(await rehearsing, false);
    assert.deepEqual(scratch(), []);
  });
});
