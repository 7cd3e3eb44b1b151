/** The store against its slow twin under random histories (testing/store-world.ts). `npm run model` runs longer ones. SEED=n: only that. */
import { strict as assert } from 'node:assert';
import { runWorld } from './testing/store-world.js';

describe('timeline', function () {
  this.timeout(300_000);
  it('equals its slow twin under random histories', async () => {
    const only = process.env['SEED'];
    const total: Record<string, number> = {};
    for (const seed of only === undefined ? [1, 2, 3, 4, 5, 6] : only.split(',').map(Number)) {
      for (const [name, count] of Object.entries(await runWorld(seed, 700))) total[name] = (total[name] ?? 0) + count;
    }
    for (const name of [
      'restarts',
      'compactions',
      'branches',
      'flushes',
      'imageLayers',
      'removedLayers',
      'evictions',
      'trimmedLayers',
    ])
      assert.ok(only ?? total[name]! > 3, `${name}: ${JSON.stringify(total)}`);
  });
});
