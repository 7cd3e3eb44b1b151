import { strict as assert } from 'node:assert';
import fc from 'fast-check';
import { Simulation } from '../testing/simulation.js';

/** Shrinking takes minutes: only when asked for, with the printed seed and path at hand. */
const SHRINK = process.env['SIMULATION_SHRINK'] === '1';
const RUNS = Number(process.env['SIMULATION_RUNS'] ?? 300);
const numbers = fc.noBias(fc.array(fc.nat(1 << 20), { minLength: 300, maxLength: 3000, size: 'max' }));

describe('acceptors and proposers, simulated', () => {
  for (const acceptors of [1, 3, 5]) {
    for (const created of [true, false]) {
      it(`${acceptors} acceptors, ${created ? 'created' : 'started by the first leader'}: nothing committed is lost`, () => {
        let elections = 0;
        let crashes = 0;
        let committed = 0;
        let cuts = 0;
        fc.assert(
          fc.property(numbers, (choices) => {
            const simulation = new Simulation(choices, { acceptors, created });
            simulation.run();
            elections += simulation.elections;
            crashes += simulation.crashes;
            committed += simulation.committed.length;
            for (const acceptor of simulation.acceptors) cuts += acceptor.cuts;
          }),
          { numRuns: RUNS, endOnFailure: !SHRINK },
        );
        if (process.env['SIMULATION_RUNS'] !== undefined) console.log({ elections, crashes, committed, cuts });
        // The runs must have been worth it.
        assert.ok(elections > RUNS, `${elections} elections`);
        assert.ok(crashes > RUNS, `${crashes} crashes`);
        assert.ok(committed > RUNS * 20, `${committed} bytes committed`);
        assert.ok(acceptors === 1 || cuts > RUNS / 10, `${cuts} diverged logs were cut`);
      });
    }
  }
});
