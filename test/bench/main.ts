/**
 * Benchmarks, each as a ratio against a peer measured in the same run: `npm run bench [-- --seconds 10 --clients 8 --scale 10 --rounds 3]`.
 *
 *   tps         pgbench simple-update and select-only on a compute, against a plain primary with one synchronous standby
 *   cold start  from spec to first query, split into steps, against an ordinary start of a plain server
 *   ingest      WAL that piled up while the page server was stopped, against that standby's replay of the same amount
 */
import { parseArgs } from 'node:util';
import { startPlain } from '../harness/plain.js';
import { TestStack } from '../harness/stack.js';
import { benchColdStart } from './cold-start.js';
import { benchIngest } from './ingest.js';
import { startSyncPair } from './sync-pair.js';
import { benchTps } from './tps.js';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '8' },
    clients: { type: 'string', default: '8' },
    scale: { type: 'string', default: '10' },
    rounds: { type: 'string', default: '3' },
  },
});
const numbers = {
  seconds: Number(values.seconds),
  clients: Number(values.clients),
  scale: Number(values.scale),
  rounds: Number(values.rounds),
};

const say = (line: string) => process.stdout.write(`${line}\n`);

await using stack = await TestStack.start();
await using pair = await startSyncPair();
await using plain = await startPlain();
const url = await stack.startCompute('main');
for (const line of await benchTps(url, pair.url, numbers)) say(line);
for (const line of await benchIngest(stack, url, pair)) say(line);
for (const line of await benchColdStart(stack, plain.cluster, numbers.rounds + 2)) say(line);
