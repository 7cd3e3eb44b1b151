/** Kills computes while they start, and has the next start prove that nothing is lost: see compute-crash.test.ts. */
import { strict as assert } from 'node:assert';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { START_STEPS } from '../../services/compute-ctl/io/start-steps.js';
import type { StartStep } from '../../services/compute-ctl/io/start-steps.js';
import { Cluster, connstr, freePort } from '../../services/compute-ctl/testing/cluster.js';
import { query, value } from '../harness/stack.js';
import { Random } from '../chaos/random.js';

export interface CrashOptions {
  /** Steps at which a start is killed. */
  readonly steps: readonly StartStep[];
  /** Starts that are killed at a random moment besides. */
  readonly rounds: number;
  readonly seed: number;
  say(line: string): void;
}

/** Of a start, as long as it takes on a slow machine. */
const START_MS = 4_000;

/** The same data directory for all: what one left behind is what the next one finds. */
export async function crashStarts(options: CrashOptions): Promise<void> {
  const { steps, rounds, seed, say } = options;
  const cluster = await Cluster.start({ safekeepers: 3 });
  const port = await freePort();
  let written = 0;
  const prove = async (): Promise<void> => {
    const compute = cluster.compute({ name: 'crash', port });
    await compute.started().catch((error: unknown) => assert.fail(`the next start failed: ${String(error)}`));
    await query(connstr(port), 'create table if not exists kept (n int)');
    assert.equal(await value(connstr(port), 'select count(*) from kept'), String(written));
    await query(connstr(port), `insert into kept values (${written})`);
    written += 1;
    // Killed as well: the next start finds a whole life's leftovers.
    compute.kill('SIGKILL');
    await compute.exited();
  };
  try {
    await prove();
    for (const step of steps) {
      const compute = cluster.compute({ name: 'crash', port, env: { NEON_COMPUTE_CTL_DIE_AT: step } });
      await compute.exited();
      assert.equal(
        compute.child.signalCode,
        'SIGKILL',
        `it was not killed at ${step}:\n${compute.log().slice(-3_000)}`,
      );
      await prove();
      say(`killed at ${step}: the next start works`);
    }
    const random = new Random(seed);
    for (let round = 1; round <= rounds; round++) {
      const afterMs = random.int(0, START_MS);
      const compute = cluster.compute({ name: 'crash', port });
      await sleep(afterMs);
      compute.kill('SIGKILL');
      await compute.exited();
      await prove();
      say(`killed after ${afterMs} ms (round ${round} of ${rounds}, seed ${seed}): the next start works`);
    }
  } finally {
    await cluster.stop();
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const { values } = parseArgs({
    options: { rounds: { type: 'string', default: '20' }, seed: { type: 'string', default: String(Date.now() % 1e6) } },
  });
  const say = (line: string) => void process.stdout.write(`${line}\n`);
  await crashStarts({ steps: START_STEPS, rounds: Number(values.rounds), seed: Number(values.seed), say });
}
