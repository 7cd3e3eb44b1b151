/** A share of what main.ts runs: some thousand schedules, that seeds replay, and that planted faults are noticed. */
import { strict as assert } from 'node:assert';
import { PLANTED_FAULTS } from './planted-faults.js';
import { runPlanted } from './run-planted.js';
import { runSchedule } from './schedule.js';

const SCHEDULES = 500;
const PLANTED_SCHEDULES_MAX = 6_000;
const HARMLESS_SCHEDULES = 200;
/** Faults that few schedules show: where to look first. `main.ts --planted` looks from the first seed on. */
const FIRST_SEEDS: Readonly<Record<string, number>> = { 'broker-commit-without-term-check': 9_001 };

describe('simulation of walproposers and safekeepers', () => {
  for (const firstSeed of [1, 501, 1001, 1501]) {
    it(`holds with the seeds from ${firstSeed} on`, () => {
      const sums = { terms: 0, commits: 0, crashes: 0, cuts: 0, fenced: 0 };
      for (let seed = firstSeed; seed < firstSeed + SCHEDULES; seed++) {
        const { failure, terms, counts } = runSchedule(seed);
        assert.equal(failure, null, `run main.ts --seed ${seed}`);
        sums.terms += terms;
        for (const name of ['commits', 'crashes', 'cuts', 'fenced'] as const) sums[name] += counts[name];
      }
      // A world in which nothing happens proves nothing.
      const { terms, commits, crashes, cuts, fenced } = sums;
      const text = JSON.stringify(sums);
      assert.ok(terms > 2 * SCHEDULES && commits > 4 * SCHEDULES && crashes > SCHEDULES, text);
      assert.ok(cuts > SCHEDULES / 20 && fenced > SCHEDULES / 2, text);
    });
  }

  it('goes the same way with the same seed, and another way with another', () => {
    const traceOf = (seed: number): string => {
      const lines: string[] = [];
      const { digest } = runSchedule(seed, { trace: (line) => lines.push(line) });
      return [...lines, digest].join('\n');
    };
    for (let seed = 1; seed <= 20; seed++) {
      assert.equal(traceOf(seed), traceOf(seed));
      assert.notEqual(traceOf(seed), traceOf(seed + 1));
    }
  });

  it('replays a failure', () => {
    const fault = PLANTED_FAULTS.find(({ name }) => name === 'vote-twice');
    assert.ok(fault !== undefined);
    const { seed, failure } = runPlanted(fault, 1, PLANTED_SCHEDULES_MAX);
    assert.ok(seed !== null && failure !== null);
    assert.equal(runSchedule(seed, { fault }).failure, failure);
  });

  for (const fault of PLANTED_FAULTS) {
    const { name, harmless } = fault;
    it(harmless === undefined ? `notices ${name}` : `rightly lets ${name} pass`, () => {
      const report = runPlanted(
        fault,
        FIRST_SEEDS[name] ?? 1,
        harmless === undefined ? PLANTED_SCHEDULES_MAX : HARMLESS_SCHEDULES,
      );
      assert.ok(report.isAsExpected, report.failure ?? `unnoticed in ${report.schedules} schedules`);
    });
  }
});
