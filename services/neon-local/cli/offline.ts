/** What can be told from the stack's directory alone, while its daemon is down. */
import type { Branch, Compute, Tenant } from '#gen/neon/control/v1/control.js';
import type { Snapshot } from '#gen/neon/control/v1/snapshot.js';
import type { Storage } from '#gen/neon/control/v1/storage.js';
import { lsnToWire } from '#shared/core/lsn.js';
import { branchTree, findBranch, snapshotsOf, storageOf, tenantsOf } from '../core/catalog.js';
import { DEFAULT_STORAGE } from '../core/catalog-schema.js';
import type { Catalog } from '../core/catalog-schema.js';
import type { RepoDir } from '../io/repo-dir.js';
import { pingDaemon } from './client.js';
import { say } from './output.js';

/** Asks the daemon or, when there is none, reads the catalog and says so. */
export async function askOrRead<T>(repo: RepoDir, ask: () => Promise<T>, read: (catalog: Catalog) => T): Promise<T> {
  if (await pingDaemon(repo)) return ask();
  await repo.config();
  const catalog = await repo.catalog();
  say(
    'the stack is not running ("neon start" starts it); this is what its directory tells, without positions and sizes',
  );
  return read(catalog);
}

export function offlineStorages(catalog: Catalog): Storage[] {
  return catalog.storages.map((entry) => {
    const tenants = new Set<string>(tenantsOf(catalog, entry.name));
    const count = (entries: readonly { readonly tenantId: string }[]) =>
      entries.filter(({ tenantId }) => tenants.has(tenantId)).length;
    return {
      ...{ name: entry.name, type: entry.type, path: entry.url, state: 'stopped', error: '' },
      ...{ tenantCount: tenants.size, branchCount: count(catalog.branches), computeCount: count(catalog.computes) },
      ...{ isDefault: entry.name === DEFAULT_STORAGE, createdAtMs: BigInt(entry.createdAtMs) },
    };
  });
}

export function offlineTenants(catalog: Catalog): Tenant[] {
  return catalog.tenants.map((entry) => ({ ...entry, isDefault: entry.tenantId === catalog.defaultTenantId }));
}

export function offlineBranches(catalog: Catalog, tenantId: string): Branch[] {
  const tenants = catalog.tenants
    .map((entry) => entry.tenantId)
    .filter((id) => (tenantId === '' ? id === catalog.defaultTenantId : id === tenantId));
  return tenants.flatMap((tenant) =>
    branchTree(catalog, tenant).map(({ branch }) => ({
      ...{ name: branch.name, tenantId: branch.tenantId, timelineId: branch.timelineId },
      ...{ parentName: branch.parentName ?? '', parentLsn: lsnToWire(branch.parentLsn) },
      ...{ lastRecordLsn: 0n, logicalSizeBytes: 0n, createdAtMs: BigInt(branch.createdAtMs) },
      ...{ storageName: storageOf(catalog, tenant), snapshotNames: snapshotsOf(catalog, branch) },
    })),
  );
}

export function offlineComputes(catalog: Catalog): Compute[] {
  return catalog.computes.map((entry) => ({
    ...{ name: entry.name, tenantId: entry.tenantId, branchName: entry.branchName, state: 'stopped', url: '' },
    timelineId: findBranch(catalog, entry.tenantId, entry.branchName).timelineId,
    ...{ pgPort: entry.pgPort, pid: 0, error: '', logPath: '', grpcAddr: '', connectUrl: '', isReplica: false },
    ...{ autoscalingLimitMinCu: entry.minCu, autoscalingLimitMaxCu: entry.maxCu, currentCu: 0 },
    ...{ storageName: storageOf(catalog, entry.tenantId), suspendAfterS: Math.round(entry.suspendAfterS) },
  }));
}

export function offlineSnapshots(catalog: Catalog, tenantId: string): Snapshot[] {
  const tenant = tenantId === '' ? catalog.defaultTenantId : tenantId;
  return catalog.snapshots
    .filter((entry) => entry.tenantId === tenant)
    .map((entry) => ({
      ...{ name: entry.name, tenantId: entry.tenantId, branchName: entry.branchName, timelineId: entry.timelineId },
      ...{ lsn: lsnToWire(entry.lsn), timeMs: 0n, createdAtMs: BigInt(entry.createdAtMs), logicalSizeBytes: 0n },
      storageName: storageOf(catalog, entry.tenantId),
    }));
}
