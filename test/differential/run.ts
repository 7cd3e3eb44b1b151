/**
 * npm run differential -- [--only PATTERN] [--safekeepers N] [--set NAME=VALUE …] [--outputs DIR] [--show]
 *
 * Runs every script on a plain PostgreSQL and on a compute and prints a table script → same, explained or different, with the
 * differences that are not explained. Exit code 1 when there is one.
 */
import { parseArgs } from 'node:util';
import { ServerPair } from './servers.js';
import { runSuite } from './suite.js';

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    safekeepers: { type: 'string', default: '1' },
    set: { type: 'string', multiple: true, default: [] },
    outputs: { type: 'string' },
    show: { type: 'boolean', default: false },
  },
});
const settings = Object.fromEntries(
  values.set.map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]),
);
const startedAt = Date.now();
await using pair = await ServerPair.start({ safekeepers: Number(values.safekeepers), settings });
const outcomes = await runSuite(pair, {
  directory: import.meta.dirname,
  ...(values.only === undefined ? {} : { only: new RegExp(values.only) }),
  ...(values.outputs === undefined ? {} : { outputDir: values.outputs }),
  onOutcome: ({ name, result, tookMs, text }) => {
    process.stdout.write(`${result.padEnd(10)} ${String(tookMs).padStart(7)} ms  ${name}\n`);
    if (result === 'different' || (values.show && text !== '')) process.stdout.write(`${text}\n`);
  },
});
const count = (result: string) => outcomes.filter((outcome) => outcome.result === result).length;
process.stdout.write(
  `${outcomes.length} comparisons: ${count('same')} same, ${count('explained')} explained, ${count('different')} different; ` +
    `${Math.round((Date.now() - startedAt) / 1000)} s\n`,
);
if (count('different') > 0) {
  process.exitCode = 1;
  process.stdout.write((await pair.stack.logs()).slice(-8000));
}
