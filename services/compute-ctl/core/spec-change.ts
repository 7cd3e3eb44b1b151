/** What differs between two specs of one compute, and what that asks for. */
import { StorageError } from '#shared/core/errors.js';
import { formatTtid } from '#shared/core/ids.js';
import type { ComputeMode } from './compute-mode.js';
import type { ComputeSpec } from './spec.js';

/**
 * Whether the change cannot be made under a running Postgres: other safekeepers want another election, another mode another beginning. The page server may change at any
 * time; settings that want a restart of Postgres do not bring one about, they wait for it.
 */
export function needsNewStart(before: ComputeSpec, after: ComputeSpec): boolean {
  const same = [...before.safekeepers].sort().join() === [...after.safekeepers].sort().join();
  return !same || !sameMode(before.mode, after.mode) || before.safekeepersGeneration !== after.safekeepersGeneration;
}

function sameMode(a: ComputeMode, b: ComputeMode): boolean {
  return a.kind === b.kind && (a.kind !== 'static' || b.kind !== 'static' || a.lsn === b.lsn);
}

/** Throws StorageError `invalid` when `after` is the spec of another compute. */
export function checkSameCompute(before: ComputeSpec | null, after: ComputeSpec): void {
  if (before === null) return;
  const [was, is] = [before.ttid, after.ttid];
  if (was.tenantId !== is.tenantId || was.timelineId !== is.timelineId) {
    const [from, to] = [formatTtid(was), formatTtid(is)];
    throw new StorageError('invalid', `this compute is on ${from} and cannot move to ${to}; start another one`);
  }
}
