/**
 * A page server that is gone without a word, as the kernel sees it: every packet of the open connections is dropped, new connections work.
 * Runs in a network namespace of its own, as root; packet-loss.test.ts starts it. Prints how long a read took that was in flight.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { TestStack, withClient } from '../harness/stack.js';

const run = promisify(execFile);
const ROWS = 20_000;
const NOTHING_CACHED = { shared_buffers: '1MB', 'neon.file_cache_size_limit': '0' };

await run('ip', ['link', 'set', 'lo', 'up']);
await using stack = await TestStack.start({ safekeepers: 1 });
stack.expectFaults();
const url = await stack.startCompute('main', { settings: NOTHING_CACHED });
const port = (await stack.service('pageserver')).pgAddr.split(':')[1] ?? '';
await withClient(url, async (client) => {
  await client.query(`create table t as select i, repeat('x', 500) from generate_series(1, ${ROWS}) i`);
  await client.query('select count(*) from t');
  const { stdout } = await run('ss', ['-Htn', 'state', 'established', 'dport', '=', `:${port}`]);
  for (const [, from = ''] of stdout.matchAll(/127\.0\.0\.1:(\d+)\s+127/g)) {
    await run('iptables', ['-A', 'INPUT', '-p', 'tcp', '--sport', from, '--dport', port, '-j', 'DROP']);
    await run('iptables', ['-A', 'INPUT', '-p', 'tcp', '--sport', port, '--dport', from, '-j', 'DROP']);
  }
  const startMs = performance.now();
  const { rows } = await client.query<{ count: string }>('select count(*) from t');
  process.stdout.write(`${JSON.stringify({ count: Number(rows[0]?.count), ms: performance.now() - startMs })}\n`);
});
