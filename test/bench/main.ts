/**
 * Benchmarks, each as a ratio against a peer measured in the same run:
 * `npm run bench [-- --only getpage,tps --profile --seconds 10 --clients 1,8,16 --scale 10 --rounds 3 --starts 20]`.
 *
 *   tps         pgbench simple-update and select-only on a compute, against plain primaries with one and two synchronous standbys
 *   ingest      WAL that piled up while the page server was stopped, into memory and with flushes, against that standby's replay
 *   cold-start  from spec to first query, from a process, and through the connect port, against a plain server
 *   getpage     page reads of each kind from the page server, against a server that sends as many bytes
 *   compaction  merging and image making in the page server against a raw write, and page reads beside them
 *   append      WAL into one safekeeper, against synced writes to a file
 *   scale-out   page reads of a tenant with two shards, from two page servers against one
 *
 * With --profile also where the time goes, of all but tps and cold-start.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { startPlain } from '../harness/plain.js';
import { TestStack } from '../harness/stack.js';
import { benchAppend } from './append.js';
import { benchColdStart } from './cold-start.js';
import { benchCompaction } from './compaction.js';
import { leaveProfiles } from './cpu-profile.js';
import { benchGetPage } from './getpage.js';
import { benchIngest } from './ingest.js';
import { benchScaleOut } from './scale-out.js';
import { startSyncPair } from './sync-pair.js';
import { benchTps } from './tps.js';

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: 'tps,ingest,cold-start,getpage,compaction,append,scale-out' },
    profile: { type: 'boolean', default: false },
    seconds: { type: 'string', default: '8' },
    clients: { type: 'string', default: '1,8,16' },
    scale: { type: 'string', default: '10' },
    rounds: { type: 'string', default: '3' },
    starts: { type: 'string', default: '20' },
  },
});
const numbers = {
  seconds: Number(values.seconds),
  clients: values.clients.split(',').map(Number),
  scale: Number(values.scale),
  rounds: Number(values.rounds),
  starts: Number(values.starts),
  profile: values.profile,
};
const wanted = new Set(values.only.split(','));

const say = (lines: string[]) => lines.forEach((line) => process.stdout.write(`${line}\n`));

async function againstPlain(): Promise<void> {
  await using stack = await TestStack.start();
  const url = await stack.startCompute('main');
  if (wanted.has('tps') || wanted.has('ingest')) {
    await using pair = await startSyncPair();
    if (wanted.has('tps')) {
      await using trio = await startSyncPair(2);
      const peers = [
        { name: 'one sync standby', url: pair.url },
        { name: 'two sync standbys', url: trio.url },
      ];
      say(await benchTps(url, peers, numbers));
    }
    if (wanted.has('ingest')) say(await benchIngest(stack, url, pair, numbers));
  }
  if (wanted.has('cold-start')) {
    await using plain = await startPlain();
    say(await benchColdStart(stack, plain.cluster, numbers.starts));
  }
}

async function pageReads(): Promise<void> {
  await using stack = await TestStack.start({ safekeepers: 1 });
  say(await benchGetPage(stack, await stack.startCompute('main'), numbers));
}

async function compaction(): Promise<void> {
  const profileDir = values.profile ? await mkdtemp(join(tmpdir(), 'bench-profiles-')) : null;
  const env = profileDir === null ? {} : { NODE_OPTIONS: leaveProfiles(profileDir) };
  try {
    await using stack = await TestStack.start({ safekeepers: 1, env });
    say(await benchCompaction(stack, await stack.startCompute('main'), { ...numbers, profileDir }));
  } finally {
    if (profileDir !== null) await rm(profileDir, { recursive: true, force: true });
  }
}

// An inspector in every process that is started here is opened by a signal, and then only.
if (values.profile) process.env['NODE_OPTIONS'] = '--inspect-port=0';

if (['tps', 'ingest', 'cold-start'].some((name) => wanted.has(name))) await againstPlain();
if (wanted.has('getpage')) await pageReads();
if (wanted.has('compaction')) await compaction();
if (wanted.has('append')) say(await benchAppend(numbers.rounds, values.profile));
if (wanted.has('scale-out')) say(await benchScaleOut(numbers));
