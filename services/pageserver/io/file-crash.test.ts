/**
 * Any operation on local files fails, once or for good (a power cut, with the loss of what was not synced): after a restart on what is
 * left, everything acknowledged as remote-consistent is there, every page is right, and nothing unfinished lies about.
 * NEON_LONG=1 tries every operation in every way, else each fifth is tried in one. Every sync is a real one: with TMPDIR in memory the
 * long form takes minutes instead of an hour.
 */
import { strict as assert } from 'node:assert';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { errorText, StorageError } from '#shared/core/errors.js';
import { openObjectStore } from '#shared/io/object-store.js';
import { LONG } from '#shared/testing/long.js';
import { FailingFiles } from './testing/failing-files.js';
import type { FailureEffect } from './testing/failing-files.js';
import { Acknowledged, checkAcknowledged, live, loadAll, toyEnv } from './testing/toy-life.js';

/** Has no divisor in common with the number of ways, so that all come up. */
const STEP = 5;

interface Case {
  readonly effect: FailureEffect;
  readonly failOnce: boolean;
}

const CASES: readonly Case[] = [
  { effect: 'none', failOnce: false },
  { effect: 'half', failOnce: false },
  { effect: 'whole', failOnce: false },
  { effect: 'none', failOnce: true },
  { effect: 'half', failOnce: true },
  { effect: 'whole', failOnce: true },
];

function isInjected(error: unknown): boolean {
  if (error instanceof StorageError) return true;
  return error instanceof Error && error.message.includes('injected');
}

/** Returns how many operations the life had; its end when none failed. */
async function crashAt(call: number, { effect, failOnce }: Case): Promise<number> {
  const dir = await mkdtemp(join(tmpdir(), 'file-crash-'));
  const local = join(dir, 'local');
  const remote = await openObjectStore(`file://${dir}/remote`);
  const told = new Acknowledged();
  const name = `operation ${call}, effect ${effect}, ${failOnce ? 'once' : 'for good'}`;
  try {
    const callCount = await (async () => {
      using files = new FailingFiles(local);
      Object.assign(files, { failFrom: call, effect, failOnce });
      const env = toyEnv(remote, local);
      await live(env, told).catch((error: unknown) => {
        if (!isInjected(error)) throw error;
      });
      for (const timeline of told.timelines) await timeline.close().catch(() => undefined);
      await env.layers.close();
      const { callCount } = files;
      files.losePower();
      return callCount;
    })();
    const again = toyEnv(remote, local);
    const loaded = await loadAll(again, 1);
    await checkAcknowledged(loaded, told, told.positions());
    for (const timeline of loaded.values()) await timeline.close();
    await again.layers.close();
    const left = await readdir(local, { recursive: true }).catch(() => []);
    assert.deepEqual(
      left.filter((path) => path.includes('.tmp-')),
      [],
    );
    return callCount;
  } catch (error) {
    throw new Error(`${name}: ${errorText(error)}`, { cause: error });
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

describe('timeline on failing local files', function () {
  this.timeout(LONG ? 7_200_000 : 1_800_000);

  it('keeps what it acknowledged, whichever operation fails, and however', async () => {
    for (let call = 0; ; call += LONG ? 1 : STEP) {
      const cases = LONG ? CASES : [CASES[call % CASES.length]!];
      let callCount = 0;
      for (const one of cases) callCount = Math.max(callCount, await crashAt(call, one));
      if (LONG && call % 50 === 0) process.stdout.write(`    tried operation ${call}\n`);
      if (call < callCount) continue;
      assert.ok(callCount > 200, `only ${callCount} operations were tried`);
      break;
    }
  });
});
