/**
 * `npm run storm`: many branches, and clients that come and go through the connect port while computes are started and suspended. Every
 * client checks that it is on the branch it asked for. In the end the stack is stopped, and nothing may be left of it.
 *
 *   npm run storm -- [--branches 50] [--computes 20] [--clients 40] [--seconds 120] [--suspend 5] [--seed N]
 */
import { parseArgs } from 'node:util';
import pg from 'pg';
import { listeningPorts, processesOf, runtimeFiles } from '../harness/processes.js';
import { query, sleep, TestStack, until } from '../harness/stack.js';

const say = (text: string) => process.stdout.write(`${text}\n`);

function optionsOf(argv: readonly string[]) {
  const text = (fallback: string) => ({ type: 'string', default: fallback }) as const;
  const { values } = parseArgs({
    args: [...argv],
    options: {
      ...{ branches: text('50'), computes: text('20'), clients: text('40'), seconds: text('120') },
      ...{ suspend: text('5'), seed: text(String(Date.now() % 1_000_000)) },
    },
  });
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, Number(value)])) as Record<
    keyof typeof values,
    number
  >;
}

/** mulberry32: the schedule of clients is that of the seed. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

interface Tally {
  readonly connectMs: number[];
  readonly failures: string[];
}

/** A client that waits as long as the start of a compute may take on a machine that does much else. */
function clientOf(port: number, branch: string): pg.Client {
  const client = new pg.Client({
    ...{ host: '127.0.0.1', port, user: 'cloud_admin', database: 'postgres', options: `branch=${branch}` },
    connectionTimeoutMillis: 120_000,
  });
  client.on('error', () => undefined);
  return client;
}

async function visit(port: number, branch: string, tally: Tally): Promise<void> {
  const startedAt = performance.now();
  const client = clientOf(port, branch);
  try {
    await client.connect();
    const { rows } = await client.query<{ name: string }>('select name from whoami');
    tally.connectMs.push(performance.now() - startedAt);
    if (rows[0]?.name !== branch) tally.failures.push(`asked for ${branch}, got ${rows[0]?.name}`);
  } catch (error) {
    tally.failures.push(`${branch}: ${String(error)}`);
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function prepare(stack: TestStack, names: readonly string[], used: number): Promise<number> {
  const main = await stack.startCompute('main');
  await query(main, "create table whoami as select 'main' as name");
  for (const name of names) await stack.neon('branch', 'create', name);
  const port = Number((await stack.status()).connectAddr.split(':')[1]);
  for (const name of names.slice(0, used)) {
    const client = clientOf(port, name);
    await client.connect();
    await client.query(`update whoami set name = '${name}'`);
    await client.end();
  }
  return port;
}

async function run(): Promise<void> {
  const options = optionsOf(process.argv.slice(2));
  say(`seed ${options.seed}`);
  const next = random(options.seed);
  const stack = await TestStack.start({ safekeepers: 1, init: ['--suspend-after', `${options.suspend}s`] });
  try {
    const names = Array.from({ length: options.branches }, (_, at) => `b${at + 1}`);
    const port = await prepare(stack, names, options.computes);
    say(
      `${names.length} branches, ${options.computes} of them used by ${options.clients} clients for ${options.seconds} s`,
    );
    const tally: Tally = { connectMs: [], failures: [] };
    const untilMs = Date.now() + options.seconds * 1000;
    const worker = async () => {
      while (Date.now() < untilMs) {
        await visit(port, names[Math.floor(next() * options.computes)] ?? '', tally);
        // Now and then long enough for computes to be suspended.
        await sleep(next() < 0.1 ? options.suspend * 2000 * next() : 200 * next());
      }
    };
    await Promise.all(Array.from({ length: options.clients }, worker));
    const sorted = tally.connectMs.sort((a, b) => a - b);
    const at = (share: number) => Math.round(sorted[Math.floor(sorted.length * share)] ?? 0);
    say(`${sorted.length} connections: ${at(0.5)} ms median, ${at(0.99)} ms p99 until the first answer`);
    await until('all computes but main to be suspended', 600_000, async () => {
      const { computes } = await stack.status();
      return computes.every((compute) => compute.name === 'main' || compute.state === 'stopped');
    });
    say('all computes were suspended');
    const ports = (await stack.status()).services.map(({ grpcAddr }) => Number(grpcAddr.split(':')[1]));
    await stack.stopDaemon();
    const left = [
      ...(await processesOf(stack.repoDir)),
      ...(await listeningPorts([...ports, port])),
      ...(await runtimeFiles(stack.repoDir)),
    ];
    for (const text of [...tally.failures.slice(0, 20), ...left]) say(`FAILED ${text}`);
    if (tally.failures.length + left.length > 0) process.exitCode = 1;
    else say('nothing is left of the stack, and every client was where it wanted to be');
  } finally {
    await stack[Symbol.asyncDispose]();
  }
}

await run();
