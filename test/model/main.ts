/**
 * Long form of the storage engine's model test: `npm run model -- --steps 20000 --seed 7`. Random histories against a slow twin; a
 * difference is printed with the command that shows it again.
 */
import { parseArgs } from 'node:util';
import type { WorldCounts } from '../../services/pageserver/io/testing/store-world.js';
import { runWorld } from '../../services/pageserver/io/testing/store-world.js';

const { values } = parseArgs({
  options: {
    steps: { type: 'string', default: '20000' },
    seed: { type: 'string' },
    /** Histories one after the other, of rising seeds. */
    runs: { type: 'string', default: '1' },
  },
});
const steps = Number(values.steps);
const firstSeed = values.seed === undefined ? Math.floor(Math.random() * 1e9) : Number(values.seed);
const print = (text: string): void => void process.stdout.write(`${text}\n`);

for (let seed = firstSeed; seed < firstSeed + Number(values.runs); seed++) {
  const startedMs = performance.now();
  print(`seed ${seed}, ${steps} steps`);
  const counts: WorldCounts = await runWorld(seed, steps, (step) => {
    if (step > 0 && step % 2000 === 0) print(`  step ${step}, ${Math.round((performance.now() - startedMs) / 1000)} s`);
  });
  print(`  no difference: ${JSON.stringify(counts)}`);
}
