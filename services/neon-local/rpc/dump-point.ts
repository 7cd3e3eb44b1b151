/** Runs something against a compute at a point of history, on a branch that is made for it and deleted after. */
import { addBranch, findBranch, removeBranch } from '../core/catalog.js';
import type { Daemon } from '../io/daemon.js';
import { makeBranchAt } from './branches.js';
import { ensureCompute, ensureUrl } from './computes.js';
import type { Point } from './points.js';

export async function dumpAt(daemon: Daemon, point: Point, act: (url: string) => Promise<void>): Promise<void> {
  const name = `dump-${Date.now().toString(36)}`;
  const branch = await makeBranchAt(daemon, name, point, (made) =>
    daemon.changeCatalog((catalog) => addBranch(catalog, made)),
  );
  try {
    await act(await ensureUrl(daemon, branch));
  } finally {
    const compute = await ensureCompute(daemon, branch);
    await daemon.computes.stop(compute.name, false);
    await daemon.changeCatalog((catalog) => removeBranch(catalog, findBranch(catalog, branch.tenantId, name)));
    await daemon.settle();
  }
}
