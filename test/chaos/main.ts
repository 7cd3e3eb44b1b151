/**
 * Commits under a schedule of crashes, then a check that nothing acknowledged was lost and nothing else appeared:
 *
 *   npm run chaos -- [--seconds 600] [--seed N]
 *   npm run chaos -- --duel 100 [--seed N]      two computes on one timeline at once, so often: never may both commit
 *   npm run chaos -- --cuts 50 [--seed N]       faults of the network one by one, so often: how soon commits return after each
 *
 * Prints what it does. Exit code 1 and the seed when something is wrong; the same seed gives the same schedule, though never the same
 * timing to the microsecond.
 */
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { runChaos } from './run.js';

const SECONDS_DEFAULT = 600;
const SEED_MAX = 1_000_000;

const { values } = parseArgs({
  options: {
    seconds: { type: 'string' },
    seed: { type: 'string' },
    duel: { type: 'string' },
    cuts: { type: 'string' },
  },
});
const seconds = wholeNumber('seconds', values.seconds, SECONDS_DEFAULT);
const seed = wholeNumber('seed', values.seed, randomInt(SEED_MAX));
const say = (text: string): void => void process.stdout.write(`${text}\n`);

const duels = values.duel === undefined ? undefined : wholeNumber('duel', values.duel, 0);
const cuts = values.cuts === undefined ? undefined : wholeNumber('cuts', values.cuts, 0);
const what = duels !== undefined ? ['--duel', duels] : cuts !== undefined ? ['--cuts', cuts] : ['--seconds', seconds];

say(`seed ${seed}, ${what.join(' ')}`);
const { problems, history, logs, ...counts } = await runChaos({
  seed,
  seconds,
  say,
  ...(duels === undefined ? {} : { duels }),
  ...(cuts === undefined ? {} : { cuts }),
});
say(JSON.stringify(counts, null, 2));
if (problems.length === 0) {
  say(`nothing wrong (${history.length} faults)`);
} else {
  say(`\n${logs}\n`);
  say(`WRONG, seed ${seed}:\n  ${problems.join('\n  ')}`);
  say(`again: npm run chaos -- ${what.join(' ')} --seed ${seed}`);
  process.exitCode = 1;
}

function wholeNumber(name: string, text: string | undefined, fallback: number): number {
  const number = Number(text ?? fallback);
  if (!Number.isSafeInteger(number) || number < 0) throw new Error(`--${name} takes a whole number, not ${text}`);
  return number;
}
