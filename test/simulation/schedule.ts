/**
 * One schedule: a world made from a seed, a stretch of weather, then healing. Everything that happens follows from the seed (and the
 * planted fault): size of the world, odds of each event, the events.
 */
import { errorText } from '#shared/core/errors.js';
import { MAX_LSN } from '#shared/core/lsn.js';
import type { Fault } from './fault.js';
import { heal } from './heal.js';
import { pick, seededRandom } from './random.js';
import type { Random } from './random.js';
import { SEG_SIZE } from './toy-wal.js';
import { COMPUTES_MAX, World } from './world.js';

const STEPS_MIN = 150;
const STEPS_SPREAD = 700;
const ACTIVE_COMPUTES_MAX = 4;

/** How often what happens: between the two, each world has its own weather. */
interface Event {
  readonly weightMin: number;
  readonly weightMax: number;
  readonly act: (world: World, random: Random) => void;
}

const onCompute =
  (act: (world: World, compute: World['computes'][number], random: Random) => void) =>
  (world: World, random: Random): void => {
    const compute = pick(random, world.activeComputes);
    if (compute !== undefined) act(world, compute, random);
  };

const onSafekeeper =
  (act: (world: World, safekeeper: World['safekeepers'][number]) => void) =>
  (world: World, random: Random): void => {
    const safekeeper = pick(random, world.safekeepers);
    if (safekeeper?.isUp === true) act(world, safekeeper);
  };

const WEATHER: readonly Event[] = [
  {
    weightMin: 200,
    weightMax: 600,
    act: (world, random) => {
      for (let count = 1 + random(4); count > 0; count--) world.network.deliver();
    },
  },
  { weightMin: 20, weightMax: 150, act: onCompute((_, compute) => compute.answerRead()) },
  { weightMin: 10, weightMax: 100, act: onCompute((_, compute) => compute.write()) },
  {
    weightMin: 10,
    weightMax: 100,
    act: onCompute((world, compute) => {
      for (const { index } of world.safekeepers) if (world.random(2) === 0) world.network.connect(compute, index);
    }),
  },
  { weightMin: 5, weightMax: 100, act: onSafekeeper((_, safekeeper) => safekeeper.take({ kind: 'flush' }, null)) },
  { weightMin: 0, weightMax: 10, act: onSafekeeper((_, safekeeper) => safekeeper.take({ kind: 'checkpoint' }, null)) },
  { weightMin: 0, weightMax: 10, act: onSafekeeper((_, safekeeper) => safekeeper.take({ kind: 'announce' }, null)) },
  { weightMin: 0, weightMax: 30, act: onSafekeeper((world, safekeeper) => world.publish(safekeeper)) },
  { weightMin: 0, weightMax: 30, act: onSafekeeper((world, safekeeper) => world.hear(safekeeper)) },
  {
    weightMin: 20,
    weightMax: 100,
    act: (world, random) => {
      world.nowMs += random(world.tickMs);
      for (const compute of world.activeComputes) compute.take({ kind: 'tick' });
    },
  },
  { weightMin: 0, weightMax: 25, act: (world) => world.network.breakOne() },
  { weightMin: 0, weightMax: 5, act: onSafekeeper((_, safekeeper) => safekeeper.crash()) },
  { weightMin: 5, weightMax: 60, act: (world) => world.safekeepers.find((one) => one.isDown)?.restart() },
  { weightMin: 5, weightMax: 60, act: onSafekeeper((world, safekeeper) => world.store.upload(safekeeper)) },
  { weightMin: 5, weightMax: 60, act: onSafekeeper((world, safekeeper) => world.digestWal(safekeeper)) },
  {
    weightMin: 0,
    weightMax: 60,
    act: onSafekeeper((world, safekeeper) => {
      const lagBytesMax = world.random(2) * SEG_SIZE;
      safekeeper.take({ kind: 'remove-wal', keepFrom: MAX_LSN, lagBytesMax }, null);
    }),
  },
  { weightMin: 0, weightMax: 60, act: (world) => world.controller?.step(true) },
  { weightMin: 0, weightMax: 5, act: onCompute((world, compute) => world.controller?.notify(compute)) },
  { weightMin: 0, weightMax: 12, act: onCompute((world, compute) => world.partition(compute)) },
  { weightMin: 0, weightMax: 4, act: onCompute((world, compute) => world.kill(compute)) },
  {
    weightMin: 0,
    weightMax: 10,
    act: (world) => {
      const isRoom = world.activeComputes.length < ACTIVE_COMPUTES_MAX && world.computes.length < COMPUTES_MAX;
      if (isRoom) world.startCompute();
    },
  },
];

export interface ScheduleReport {
  readonly seed: number;
  readonly safekeepers: number;
  /** Null: everything held. */
  readonly failure: string | null;
  readonly digest: number;
  readonly terms: number;
  readonly committedBytes: number;
  readonly counts: World['counts'];
}

export interface ScheduleOptions {
  readonly fault?: Fault | null;
  readonly trace?: (line: string) => void;
}

/** Never throws for what happens inside: the failure is in the report. */
export function runSchedule(seed: number, options: ScheduleOptions = {}): ScheduleReport {
  const random = seededRandom(seed);
  const safekeepers = [1, 2, 3, 3, 3, 4, 5, 5][random(8)] as number;
  const spares = random(2) === 0 ? null : 1 + random(3);
  const world = new World({
    random,
    safekeepers,
    spares,
    // With generations, whoever creates a timeline creates it on its members.
    created: spares !== null || random(2) === 0,
    tickMs: [10, 30, 100, 200][random(4)] as number,
    crashOdds: [0, 8, 30, 120][random(4)] as number,
    fault: options.fault ?? null,
    trace: options.trace ?? null,
  });
  let failure: string | null = null;
  try {
    live(world, random);
    heal(world);
  } catch (error) {
    failure = errorText(error);
    world.note('failed');
  }
  const { digest, counts, checker } = world;
  const committedBytes = checker.committedEnd;
  return { seed, safekeepers, failure, digest, terms: checker.termsWon, committedBytes, counts };
}

function live(world: World, random: Random): void {
  const weights = WEATHER.map(({ weightMin, weightMax }) => weightMin + random(weightMax - weightMin + 1));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  for (let count = 1 + random(3); count > 0; count--) world.startCompute();
  for (let count = STEPS_MIN + random(STEPS_SPREAD); count > 0; count--) {
    if (world.activeComputes.length === 0 && world.computes.length < COMPUTES_MAX) world.startCompute();
    let dice = random(total);
    const index = weights.findIndex((weight) => (dice -= weight) < 0);
    WEATHER[index]?.act(world, random);
  }
}
