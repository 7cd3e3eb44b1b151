/** Tenants. A tenant lies on one storage; its first branch is made with it. */
import { randomBytes } from 'node:crypto';
import type {
  CreateTenantRequest,
  CreateTenantResponse,
  ListTenantsRequest,
  ListTenantsResponse,
} from '#gen/neon/control/v1/control.js';
import { idFromBytes, parseTenantId, parseTimelineId } from '#shared/core/ids.js';
import type { TenantId, TimelineId } from '#shared/core/ids.js';
import { INVALID_LSN } from '#shared/core/lsn.js';
import { addBranch, addTenant, beginTimeline, checkName, MAIN_BRANCH, storageOf } from '../core/catalog.js';
import { DEFAULT_STORAGE } from '../core/catalog-schema.js';
import type { BranchEntry } from '../core/catalog-schema.js';
import type { Daemon } from '../io/daemon.js';
import { branchMessage } from './branches.js';

export function randomTimelineId(): TimelineId {
  return parseTimelineId(idFromBytes(randomBytes(16)));
}

/** A branch from the initdb image. */
export async function makeRootBranch(daemon: Daemon, tenantId: TenantId, name: string): Promise<BranchEntry> {
  const ttid = { tenantId, timelineId: randomTimelineId() };
  const branch: BranchEntry = {
    ...{ ...ttid, name, parentName: null, parentLsn: INVALID_LSN, createdAtMs: Date.now(), retention: null },
  };
  await daemon.makingTimeline(ttid, async () => {
    await daemon.changeCatalog((catalog) => beginTimeline(catalog, ttid));
    await daemon.timelines.create(ttid, null);
    await daemon.changeCatalog((catalog) => addBranch(catalog, branch));
  });
  return branch;
}

/** Makes the tenant, and the branch when it is missing. May be repeated after a failure. */
export async function ensureTenant(
  daemon: Daemon,
  wanted: { tenantId: TenantId; storageName: string; branchName: string; setDefault: boolean },
): Promise<BranchEntry> {
  const { tenantId, storageName, branchName, setDefault } = wanted;
  await daemon.changeCatalog((catalog) => addTenant(catalog, tenantId, storageName, setDefault));
  await daemon.timelines.createTenant(tenantId);
  const branch = daemon.catalog.branches.find((entry) => entry.tenantId === tenantId && entry.name === branchName);
  return branch ?? makeRootBranch(daemon, tenantId, branchName);
}

async function createTenant(daemon: Daemon, request: CreateTenantRequest): Promise<CreateTenantResponse> {
  const tenantId = parseTenantId(request.tenantId === '' ? idFromBytes(randomBytes(16)) : request.tenantId);
  const branchName = checkName('branch', request.branchName === '' ? MAIN_BRANCH : request.branchName);
  const created = !daemon.catalog.tenants.some((entry) => entry.tenantId === tenantId);
  const storageName = request.storageName === '' ? DEFAULT_STORAGE : request.storageName;
  const branch = await ensureTenant(daemon, { tenantId, storageName, branchName, setDefault: request.setDefault });
  const isDefault = daemon.catalog.defaultTenantId === tenantId;
  return {
    tenant: { tenantId, isDefault, storageName: storageOf(daemon.catalog, tenantId) },
    branch: await branchMessage(daemon, branch),
    created,
  };
}

export function tenantHandlers(daemon: Daemon) {
  return {
    createTenant: (request: CreateTenantRequest): Promise<CreateTenantResponse> => createTenant(daemon, request),
    listTenants: (_request: ListTenantsRequest): Promise<ListTenantsResponse> => {
      const { tenants, defaultTenantId } = daemon.catalog;
      return Promise.resolve({
        tenants: tenants.map((entry) => ({ ...entry, isDefault: entry.tenantId === defaultTenantId })),
      });
    },
  };
}
