/** Tenants and branches. A name enters the catalog only after its timeline exists on the storage services. */
import { randomBytes } from 'node:crypto';
import type {
  Branch,
  CreateBranchRequest,
  CreateBranchResponse,
  CreateTenantRequest,
  CreateTenantResponse,
  ListBranchesRequest,
  ListBranchesResponse,
  ListTenantsRequest,
  ListTenantsResponse,
} from '#gen/neon/control/v1/control.js';
import { StorageError } from '#shared/core/errors.js';
import { idFromBytes, parseTenantId, parseTimelineId } from '#shared/core/ids.js';
import type { TenantId } from '#shared/core/ids.js';
import { INVALID_LSN, lsnFromWire, lsnToWire } from '#shared/core/lsn.js';
import { unary } from '#shared/rpc/handlers.js';
import {
  addBranch,
  addTenant,
  branchTree,
  checkName,
  findBranch,
  MAIN_BRANCH,
  resolveTenant,
} from '../core/catalog.js';
import type { BranchEntry } from '../core/catalog.js';
import type { Daemon } from '../io/daemon.js';

async function branchMessage(daemon: Daemon, branch: BranchEntry): Promise<Branch> {
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
  };
}

async function makeRootBranch(daemon: Daemon, tenantId: TenantId, name: string): Promise<BranchEntry> {
  const timelineId = parseTimelineId(idFromBytes(randomBytes(16)));
  await daemon.timelines.create({ tenantId, timelineId }, null);
  return { name, tenantId, timelineId, parentName: null, parentLsn: INVALID_LSN, createdAtMs: Date.now() };
}

async function createTenant(daemon: Daemon, request: CreateTenantRequest): Promise<CreateTenantResponse> {
  const id = parseTenantId(request.tenantId === '' ? idFromBytes(randomBytes(16)) : request.tenantId);
  const name = checkName('branch', request.branchName === '' ? MAIN_BRANCH : request.branchName);
  const created = !daemon.catalog.tenantIds.includes(id);
  await daemon.timelines.createTenant(id);
  let branch = daemon.catalog.branches.find((entry) => entry.tenantId === id && entry.name === name);
  if (branch === undefined) {
    const made = await makeRootBranch(daemon, id, name);
    await daemon.changeCatalog((catalog) => addBranch(addTenant(catalog, id, request.setDefault), made));
    branch = made;
  } else if (request.setDefault) {
    await daemon.changeCatalog((catalog) => addTenant(catalog, id, true));
  }
  const isDefault = daemon.catalog.defaultTenantId === id;
  return { tenant: { tenantId: id, isDefault }, branch: await branchMessage(daemon, branch), created };
}

async function createBranch(daemon: Daemon, request: CreateBranchRequest): Promise<CreateBranchResponse> {
  const tenantId = resolveTenant(daemon.catalog, request.tenantId);
  const name = checkName('branch', request.name);
  const parent = findBranch(daemon.catalog, tenantId, request.from === '' ? MAIN_BRANCH : request.from);
  if (daemon.catalog.branches.some((entry) => entry.tenantId === tenantId && entry.name === name)) {
    throw new StorageError('already-exists', `branch "${name}" exists already; choose another name`);
  }
  const timelineId = parseTimelineId(idFromBytes(randomBytes(16)));
  const at = lsnFromWire(request.lsn);
  const info = await daemon.timelines.create({ tenantId, timelineId }, { timelineId: parent.timelineId, lsn: at });
  const parentLsn = lsnFromWire(info.ancestorLsn);
  const branch: BranchEntry = {
    name,
    tenantId,
    timelineId,
    parentName: parent.name,
    parentLsn,
    createdAtMs: Date.now(),
  };
  await daemon.changeCatalog((catalog) => addBranch(catalog, branch));
  return { branch: await branchMessage(daemon, branch) };
}

export function branchHandlers(daemon: Daemon) {
  return {
    createTenant: unary<CreateTenantRequest, CreateTenantResponse>((request) => createTenant(daemon, request)),
    listTenants: unary<ListTenantsRequest, ListTenantsResponse>(() => {
      const { tenantIds, defaultTenantId } = daemon.catalog;
      return Promise.resolve({
        tenants: tenantIds.map((tenantId) => ({ tenantId, isDefault: tenantId === defaultTenantId })),
      });
    }),
    createBranch: unary<CreateBranchRequest, CreateBranchResponse>((request) => createBranch(daemon, request)),
    listBranches: unary<ListBranchesRequest, ListBranchesResponse>(async (request) => {
      const tree = branchTree(daemon.catalog, resolveTenant(daemon.catalog, request.tenantId));
      return { branches: await Promise.all(tree.map(({ branch }) => branchMessage(daemon, branch))) };
    }),
  };
}
