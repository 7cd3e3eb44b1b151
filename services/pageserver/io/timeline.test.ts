/** The store against its slow twin under random histories (testing/store-world.ts). `npm run model` runs longer ones. SEED=n: only that. */
import { strict as assert } from 'node:assert';
import { runWorld } from './testing/store-world.js';

const SEEDS_MIN = 6;
const SEEDS_MAX = 12;
/** What must have happened several times, or the test proves nothing. */
const WANTED = [
  'restarts',
  'compactions',
  'branches',
  'flushes',
  'imageLayers',
  'removedLayers',
  'evictions',
  'trimmedLayers',
];

describe('timeline', function () {
  this.timeout(300_000);
  it('equals its slow twin under random histories', async () => {
    const only = process.env['SEED'];
    const total: Record<string, number> = {};
    const isEnough = (name: string): boolean => (total[name] ?? 0) > 3;
    const seeds =
      only === undefined ? Array.from({ length: SEEDS_MAX }, (_, at) => at + 1) : only.split(',').map(Number);
    for (const seed of seeds) {
      for (const [name, count] of Object.entries(await runWorld(seed, 700))) total[name] = (total[name] ?? 0) + count;
      // How often something happens depends on timing too: further worlds until everything has happened.
      if (only === undefined && seed >= SEEDS_MIN && WANTED.every(isEnough)) break;
    }
    for (const name of WANTED) assert.ok(only ?? isEnough(name), `${name}: ${JSON.stringify(total)}`);
  });
});
