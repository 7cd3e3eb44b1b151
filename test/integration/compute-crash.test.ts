/**
 * A compute that is killed the hard way at a step of its start leaves nothing that the next start does not cope with. In the test: two
 * kills at named steps. `npm run crash-starts -- --rounds N --seed S` kills at each named step and N times at random moments.
 */
import { crashStarts } from './crash-starts.js';

describe('compute_ctl: killed while it starts', function () {
  this.timeout(240_000);

  it('starts all the same the next time', async () => {
    await crashStarts({ steps: ['base-backup-header', 'postgres-ready'], rounds: 0, seed: 1, say: () => undefined });
  });
});
