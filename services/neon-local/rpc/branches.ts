/** Branches: create, list, show, delete, rename. A name enters the catalog only after its timeline exists on the storage services. */
import type {
  Branch,
  CreateBranchRequest,
  CreateBranchResponse,
  ListBranchesRequest,
  ListBranchesResponse,
} from '#gen/neon/control/v1/control.js';
import type {
  DeleteBranchRequest,
  DeleteBranchResponse,
  GetBranchRequest,
  GetBranchResponse,
  RenameBranchRequest,
  RenameBranchResponse,
} from '#gen/neon/control/v1/branch.js';
import { StorageError } from '#shared/core/errors.js';
import { lsnFromWire, lsnToWire } from '#shared/core/lsn.js';
import {
  addBranch,
  beginTimeline,
  branchTree,
  checkBranchIsNew,
  computesOf,
  findBranch,
  findSnapshot,
  MAIN_BRANCH,
  removeBranch,
  renameBranch,
  resolveTenant,
  snapshotsOf,
  storageOf,
} from '../core/catalog.js';
import type { BranchEntry } from '../core/catalog-schema.js';
import type { Daemon } from '../io/daemon.js';
import { resolvePoint } from './points.js';
import type { Point } from './points.js';
import { randomTimelineId } from './tenants.js';

export async function branchMessage(daemon: Daemon, branch: BranchEntry): Promise<Branch> {
  const info = await daemon.timelines.info(branch);
  return {
    name: branch.name,
    tenantId: branch.tenantId,
    timelineId: branch.timelineId,
    parentName: branch.parentName ?? '',
    parentLsn: lsnToWire(branch.parentLsn),
    lastRecordLsn: info?.lastRecordLsn ?? 0n,
    logicalSizeBytes: info?.logicalSizeBytes ?? 0n,
    createdAtMs: BigInt(branch.createdAtMs),
    storageName: storageOf(daemon.catalog, branch.tenantId),
    snapshotNames: snapshotsOf(daemon.catalog, branch),
  };
}

/** The branch that a request means. */
export function requestedBranch(daemon: Daemon, name: string, tenantId: string): BranchEntry {
  const tenant = resolveTenant(daemon.catalog, tenantId);
  return findBranch(daemon.catalog, tenant, name === '' ? MAIN_BRANCH : name);
}

/** Makes a timeline at a point and a branch of it, which `enter` puts into the catalog. Returns the branch as it was entered. */
export async function makeBranchAt(
  daemon: Daemon,
  name: string,
  point: Point,
  enter: (branch: BranchEntry) => Promise<unknown>,
): Promise<BranchEntry> {
  const ttid = { tenantId: point.branch.tenantId, timelineId: randomTimelineId() };
  return daemon.makingTimeline(ttid, async () => {
    await daemon.changeCatalog((catalog) => beginTimeline(catalog, ttid));
    const info = await daemon.timelines.create(ttid, { timelineId: point.branch.timelineId, lsn: point.lsn });
    const branch: BranchEntry = {
      ...ttid,
      name,
      parentName: point.branch.name,
      parentLsn: lsnFromWire(info.ancestorLsn),
      createdAtMs: Date.now(),
      retention: null,
    };
    await enter(branch);
    return branch;
  });
}

async function createBranch(daemon: Daemon, request: CreateBranchRequest): Promise<CreateBranchResponse> {
  const tenant = resolveTenant(daemon.catalog, request.tenantId, request.storageName);
  checkBranchIsNew(daemon.catalog, tenant, request.name);
  const parentName =
    request.snapshot === '' ? request.from : findSnapshot(daemon.catalog, tenant, request.snapshot).branchName;
  const parent = findBranch(daemon.catalog, tenant, parentName === '' ? MAIN_BRANCH : parentName);
  const point = await resolvePoint(daemon, parent, request);
  const branch = await makeBranchAt(daemon, request.name, point, (made) =>
    daemon.changeCatalog((catalog) => addBranch(catalog, made)),
  );
  return { branch: await branchMessage(daemon, branch) };
}

async function deleteBranch(daemon: Daemon, request: DeleteBranchRequest): Promise<DeleteBranchResponse> {
  const branch = requestedBranch(daemon, request.name, request.tenantId);
  removeBranch(daemon.catalog, branch);
  const computes = computesOf(daemon.catalog, branch);
  const used = computes.filter((entry) => !entry.isAutomatic && !request.force);
  if (used.length > 0) {
    const hint = `${used.map((entry) => `"neon pg destroy ${entry.name}"`).join(', ')} first, or delete with --force`;
    throw new StorageError('precondition', `branch "${branch.name}" has computes: ${hint}`);
  }
  for (const compute of computes) await daemon.computes.stop(compute.name, false);
  await daemon.changeCatalog((catalog) => removeBranch(catalog, findBranch(catalog, branch.tenantId, branch.name)));
  await daemon.settle();
  return {};
}

export function branchHandlers(daemon: Daemon) {
  return {
    createBranch: (request: CreateBranchRequest): Promise<CreateBranchResponse> => createBranch(daemon, request),
    listBranches: async (request: ListBranchesRequest): Promise<ListBranchesResponse> => {
      const { catalog } = daemon;
      const tenants = request.allTenants
        ? catalog.tenants.map((entry) => entry.tenantId)
        : [resolveTenant(catalog, request.tenantId)];
      const tree = tenants.flatMap((tenant) => branchTree(catalog, tenant));
      return { branches: await Promise.all(tree.map(({ branch }) => branchMessage(daemon, branch))) };
    },
    getBranch: async (request: GetBranchRequest): Promise<GetBranchResponse> => ({
      branch: await branchMessage(daemon, requestedBranch(daemon, request.name, request.tenantId)),
    }),
    deleteBranch: (request: DeleteBranchRequest): Promise<DeleteBranchResponse> => deleteBranch(daemon, request),
    renameBranch: async (request: RenameBranchRequest): Promise<RenameBranchResponse> => {
      const branch = requestedBranch(daemon, request.name, request.tenantId);
      await daemon.changeCatalog((catalog) => renameBranch(catalog, branch, request.newName));
      return { branch: await branchMessage(daemon, requestedBranch(daemon, request.newName, branch.tenantId)) };
    },
  };
}
