/**
 * The end of every schedule: crashes and partitions stop, and what is there must come to work. Either the computes that are left go on,
 * or all were killed and a new one comes. Then one compute, and no other, gets everything it writes committed; every safekeeper
 * gets all of it and learns that it is committed; and all other computes know that their time is over.
 */
import { strict as assert } from 'node:assert';
import type { SimCompute } from './sim-compute.js';
import type { World } from './world.js';

const ROUND_MS = 20;
/** Of simulated time: 20 s, many times all time-outs together. */
const ROUNDS_MAX = 1_000;
const WRITES = 3;
const DELIVERIES_MAX = 20_000;

export function heal(world: World): void {
  world.note('healing');
  world.crashOdds = 0;
  const everywhere = new Set(world.safekeepers.map(({ index }) => index));
  for (const safekeeper of world.safekeepers) if (safekeeper.isDown) safekeeper.restart();
  const isNew = world.activeComputes.length === 0 || world.random(2) === 0;
  if (isNew) {
    for (const compute of world.activeComputes) world.kill(compute);
    world.startCompute(everywhere);
  }
  for (const compute of world.activeComputes) compute.reach = everywhere;
  let writes = 0;
  for (let round = 0; round < ROUNDS_MAX; round++) {
    // A message of a dead compute, late on its way, can still end a living one.
    if (world.activeComputes.length === 0) world.startCompute(everywhere);
    runRound(world);
    // A change may wait for a member to get what only a compute can bring, whose members all left in the change before.
    for (const compute of world.activeComputes) world.controller?.notify(compute);
    for (let steps = 0; steps < 10 && world.controller?.isIdle === false; steps++) world.controller.step(false);
    if (world.controller?.isIdle === false) continue;
    for (const compute of world.activeComputes) world.controller?.notify(compute);
    const leader = soleLeader(world);
    if (leader === null || !isSettled(world, leader)) continue;
    if (writes === WRITES) return;
    writes += 1;
    leader.write();
  }
  assert.fail(`no progress in ${(ROUNDS_MAX * ROUND_MS) / 1000} s after healing: ${describe(world)}`);
}

function runRound(world: World): void {
  world.nowMs += ROUND_MS;
  for (const compute of world.activeComputes) {
    for (const { index } of world.safekeepers) world.network.connect(compute, index);
    compute.take({ kind: 'tick' });
  }
  let deliveries = 0;
  for (let isQuiet = false; !isQuiet;) {
    assert.ok(deliveries < DELIVERIES_MAX, 'messages without end');
    for (const compute of world.activeComputes) while (compute.reads.length > 0) compute.answerRead();
    while (world.network.deliver()) deliveries += 1;
    for (const safekeeper of world.safekeepers) safekeeper.take({ kind: 'flush' }, null);
    isQuiet = !world.network.deliver() && world.activeComputes.every(({ reads }) => reads.length === 0);
  }
}

/** Null: none leads yet, or some other one does not know yet that it is over. */
function soleLeader(world: World): SimCompute | null {
  const active = world.activeComputes;
  const only = active.length === 1 ? active[0] : undefined;
  return only?.recovered === true ? only : null;
}

/** Whether whole records of the leader are committed, and every safekeeper has them and knows it. */
function isSettled(world: World, leader: SimCompute): boolean {
  const { commitLsn } = leader.proposer;
  return (
    leader.endLsn - commitLsn < 64 &&
    world
      .members(world.controller?.decided.members)
      .every(({ state }) => state !== null && state.control.commitLsn === commitLsn)
  );
}

function describe(world: World): string {
  const computes = world.activeComputes.map(
    ({ id, endLsn, proposer: { phase, term, commitLsn } }) =>
      `compute ${id} is ${phase} in term ${term}, wrote ${endLsn}, committed ${commitLsn}`,
  );
  const safekeepers = world.safekeepers.map(
    ({ index, state }) =>
      `safekeeper ${index} has term ${state?.control.term}, flush ${state?.flushLsn}, commit ${state?.control.commitLsn}`,
  );
  return [...computes, ...safekeepers].join('; ');
}
