/** Changes of what a branch means: reset and checkout; and the comparison of two branches. */
import type {
  BranchSide,
  CheckoutComputeRequest,
  CheckoutComputeResponse,
  DiffBranchesRequest,
  DiffBranchesResponse,
  ResetBranchRequest,
  ResetBranchResponse,
} from '#gen/neon/control/v1/branch.js';
import { StorageError } from '#shared/core/errors.js';
import { lsnToWire } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import {
  checkBranchIsNew,
  childrenOf,
  computesOf,
  findBranch,
  findCompute,
  replaceBranch,
  snapshotsOf,
} from '../core/catalog.js';
import type { BranchEntry } from '../core/catalog-schema.js';
import { commonPoint } from '../core/history.js';
import type { Daemon } from '../io/daemon.js';
import { schemaDiff } from '../io/schema-diff.js';
import { branchMessage, makeBranchAt, requestedBranch } from './branches.js';
import { computeMessage, ensureUrl, startCompute } from './computes.js';
import { headOf, isPointGiven, resolvePoint } from './points.js';
import type { Point } from './points.js';

/** 20261129t031500z: sorts by time, and is a good name. */
function timeTag(nowMs: number): string {
  return new Date(nowMs)
    .toISOString()
    .replace(/[-:]|\.\d+/g, '')
    .toLowerCase();
}

/** A free name for the branch that keeps what `branch` was. */
function keeperName(daemon: Daemon, branch: BranchEntry, wanted: string): string {
  if (wanted !== '') {
    checkBranchIsNew(daemon.catalog, branch.tenantId, wanted);
    return wanted;
  }
  const base = `${branch.name.slice(0, 40)}-before-${timeTag(Date.now())}`;
  const taken = new Set(
    daemon.catalog.branches.filter((entry) => entry.tenantId === branch.tenantId).map((entry) => entry.name),
  );
  for (let number = 1; ; number++) {
    const name = number === 1 ? base : `${base}-${number}`;
    if (!taken.has(name)) return name;
  }
}

/** Lets the branch begin anew at a point. Computes that run on it are stopped before, and started after. */
async function rebase(daemon: Daemon, branch: BranchEntry, point: Point, keepAs: string | null): Promise<BranchEntry> {
  const running = computesOf(daemon.catalog, branch)
    .map(({ name }) => ({ name, ...daemon.computes.runtime(name) }))
    .filter(({ state }) => state !== 'stopped')
    // Replicas follow what the primary writes.
    .sort((a, b) => Number(a.isReplica) - Number(b.isReplica));
  for (const { name } of running) await daemon.computes.stop(name, false);
  try {
    await makeBranchAt(daemon, branch.name, point, (made) =>
      daemon.changeCatalog((catalog) =>
        replaceBranch(
          catalog,
          findBranch(catalog, branch.tenantId, branch.name),
          { ...made, retention: branch.retention },
          keepAs,
        ),
      ),
    );
  } finally {
    for (const { name, isReplica } of running) await startCompute(daemon, name, 0, isReplica);
  }
  return findBranch(daemon.catalog, branch.tenantId, branch.name);
}

async function resetBranch(daemon: Daemon, request: ResetBranchRequest): Promise<ResetBranchResponse> {
  const branch = requestedBranch(daemon, request.name, request.tenantId);
  if (branch.parentName === null && !isPointGiven(request.to)) {
    throw new StorageError(
      'precondition',
      `branch "${branch.name}" has no parent to be reset to; name a point of its history with --lsn, --time or --snapshot`,
    );
  }
  const point = isPointGiven(request.to)
    ? await resolvePoint(daemon, branch, request.to)
    : await resolvePoint(daemon, findBranch(daemon.catalog, branch.tenantId, branch.parentName ?? ''), undefined);
  // What others begin on, the new state itself included, cannot go.
  const isNeeded =
    point.branch.timelineId === branch.timelineId ||
    childrenOf(daemon.catalog, branch).length > 0 ||
    snapshotsOf(daemon.catalog, branch).length > 0;
  const keepAs = request.preserveAs !== '' || isNeeded ? keeperName(daemon, branch, request.preserveAs) : null;
  const next = await rebase(daemon, branch, point, keepAs);
  await daemon.settle();
  return { branch: await branchMessage(daemon, next), preservedAs: keepAs ?? '' };
}

async function checkout(daemon: Daemon, request: CheckoutComputeRequest): Promise<CheckoutComputeResponse> {
  const compute = findCompute(daemon.catalog, request.name);
  if (!isPointGiven(request.to)) {
    throw new StorageError('invalid', 'to which point? name it with --snapshot, --lsn or --time');
  }
  const branch = findBranch(daemon.catalog, compute.tenantId, compute.branchName);
  const point = await resolvePoint(daemon, branch, request.to);
  const keepAs = keeperName(daemon, branch, request.preserveAs);
  const next = await rebase(daemon, branch, point, keepAs);
  return {
    compute: computeMessage(daemon, findCompute(daemon.catalog, compute.name)),
    preservedAs: keepAs,
    lsn: lsnToWire(next.parentLsn),
  };
}

async function side(daemon: Daemon, branch: BranchEntry, head: Lsn, since: Lsn): Promise<BranchSide> {
  const info = await daemon.timelines.info(branch);
  return {
    name: branch.name,
    headLsn: lsnToWire(head),
    walBytes: BigInt(Math.max(0, head - since)),
    logicalSizeBytes: info?.logicalSizeBytes ?? 0n,
  };
}

async function diff(daemon: Daemon, request: DiffBranchesRequest): Promise<DiffBranchesResponse> {
  const left = requestedBranch(daemon, request.name, request.tenantId);
  const otherName = request.otherName === '' ? left.parentName : request.otherName;
  if (otherName === null) {
    throw new StorageError('invalid', `branch "${left.name}" has no parent; name the branch to compare it with`);
  }
  const right = findBranch(daemon.catalog, left.tenantId, otherName);
  const [leftHead, rightHead] = await Promise.all([headOf(daemon, left), headOf(daemon, right)]);
  const common = commonPoint(daemon.catalog, { branch: left, head: leftHead }, { branch: right, head: rightHead });
  const since = common?.lsn ?? (0 as Lsn);
  const schema = request.withSchema
    ? await schemaDiff(daemon.pgBin, {
        left: { name: left.name, url: await ensureUrl(daemon, left) },
        right: { name: right.name, url: await ensureUrl(daemon, right) },
      })
    : '';
  return {
    commonBranchName: common?.branch.name ?? '',
    commonLsn: lsnToWire(since),
    left: await side(daemon, left, leftHead, since),
    right: await side(daemon, right, rightHead, since),
    schemaDiff: schema,
  };
}

export function branchChangeHandlers(daemon: Daemon) {
  return {
    resetBranch: (request: ResetBranchRequest): Promise<ResetBranchResponse> => resetBranch(daemon, request),
    checkoutCompute: (request: CheckoutComputeRequest): Promise<CheckoutComputeResponse> => checkout(daemon, request),
    diffBranches: (request: DiffBranchesRequest): Promise<DiffBranchesResponse> => diff(daemon, request),
  };
}
