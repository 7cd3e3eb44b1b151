import { strict as assert } from 'node:assert';
import { readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { silentLogger } from '#shared/runtime/log.js';
import { rehearse } from './rehearsal.js';

const scratch = (): string[] => readdirSync(tmpdir()).filter((name) => name.startsWith('neon-rehearsal-'));

describe('rehearsal of a start', function () {
  this.timeout(30_000);

  it('comes to its end, and leaves nothing', async () => {
    const before = scratch();
    assert.equal(await rehearse(silentLogger, new AbortController().signal), true);
    assert.deepEqual(
      scratch().filter((name) => !before.includes(name)),
      [],
    );
  });

  it('makes way for a real start', async () => {
    const before = scratch();
    assert.equal(await rehearse(silentLogger, AbortSignal.abort()), false);
    const called = new AbortController();
    const rehearsing = rehearse(silentLogger, called.signal);
    setTimeout(() => called.abort(), 20);
    assert.equal(await rehearsing, false);
    assert.deepEqual(
      scratch().filter((name) => !before.includes(name)),
      [],
    );
  });
});
