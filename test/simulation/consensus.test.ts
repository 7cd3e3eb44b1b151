/**
 * The consensus of walproposer and safekeepers under crashes, broken connections and rival computes. A failure prints its seed:
 * `SEED=n npx mocha test/simulation/consensus.test.ts` runs that world alone; `SEEDS=n` runs more of them than usual.
 */
import { strict as assert } from 'node:assert';
import { seededRandom, World } from './consensus-world.js';
import type { Compute } from './consensus-world.js';

const STEPS = 6_000;
const COMPUTES_MAX = 40;

/** How often what happens; each world has its own weather. */
interface Weather {
  readonly act: (world: World, random: (below: number) => number, alive: readonly Compute[]) => void;
  readonly weightMax: number;
}

const pick = <T>(random: (below: number) => number, from: readonly T[]): T | undefined => from[random(from.length)];

const WEATHER: readonly Weather[] = [
  { weightMax: 600, act: (world) => void world.deliver() },
  { weightMax: 200, act: (_, random, alive) => pick(random, alive)?.answerRead() },
  { weightMax: 150, act: (_, random, alive) => pick(random, alive)?.write() },
  {
    weightMax: 200,
    act: (world, random, alive) => {
      const compute = pick(random, alive);
      if (compute !== undefined) world.connect(compute, random(world.safekeepers.length));
    },
  },
  {
    weightMax: 100,
    act: (world, random, alive) => {
      world.nowMs += random(30);
      for (const one of alive) one.take({ kind: 'tick' });
    },
  },
  { weightMax: 12, act: (world) => world.breakOne() },
  { weightMax: 5, act: (world, random) => pick(random, world.safekeepers)?.crash() },
  { weightMax: 60, act: (world) => world.safekeepers.find((safekeeper) => safekeeper.state === null)?.restart() },
  {
    weightMax: 5,
    act: (world, random, alive) => {
      const compute = pick(random, alive);
      if (compute !== undefined) world.kill(compute);
    },
  },
  {
    weightMax: 5,
    act: (world, _, alive) => {
      if (alive.length < 3 && world.computes.length < COMPUTES_MAX) world.startCompute();
    },
  },
];

function live(seed: number, safekeepers: number): World {
  const world = new World(seed, safekeepers);
  const random = seededRandom(seed ^ 0x5eed);
  const weights = WEATHER.map(({ weightMax }) => 1 + Math.floor(weightMax / 8) + random(weightMax));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  world.startCompute();
  for (let count = 0; count < STEPS; count++) {
    const alive = world.computes.filter((compute) => !compute.dead && !compute.fenced);
    if (alive.length === 0 && world.computes.length < COMPUTES_MAX) world.startCompute();
    let dice = random(total);
    const index = weights.findIndex((weight) => (dice -= weight) < 0);
    WEATHER[index]?.act(world, random, alive);
  }
  return world;
}

function check(seed: number, safekeepers: number): World {
  try {
    const world = live(seed, safekeepers);
    const last = world.heal();
    assert.ok(last.recovered, 'with everything healthy a new compute does not start');
    assert.ok(last.committedLsn >= last.endLsn - 64, `wrote up to ${last.endLsn}, committed ${last.committedLsn}`);
    return world;
  } catch (error) {
    (error as Error).message += ` [SEED=${seed}, ${safekeepers} safekeepers]`;
    throw error;
  }
}

describe('consensus of walproposer and safekeepers', () => {
  const only = Number(process.env['SEED'] ?? 0);
  const count = Number(process.env['SEEDS'] ?? 60);
  for (const safekeepers of [1, 3, 5]) {
    it(`holds with ${safekeepers} safekeepers`, () => {
      const seeds = only > 0 ? [only] : Array.from({ length: count }, (_, index) => index + 1);
      const worlds = seeds.map((seed) => check(seed, safekeepers));
      const commits = worlds.reduce((sum, world) => sum + world.commitCount, 0);
      const terms = worlds.reduce((sum, world) => sum + world.wonTerms.size, 0);
      // A world in which nothing happens proves nothing.
      assert.ok(
        only > 0 || (commits > 10 * seeds.length && terms > 2 * seeds.length),
        `${commits} commits, ${terms} terms`,
      );
    });
  }
});
