/**
 * Operations on the catalog of a local stack. Pure: each returns a new catalog or throws a StorageError that says what to do. The storage
 * services know nothing of these names.
 */
import { StorageError } from '#shared/core/errors.js';
import { parseTenantId } from '#shared/core/ids.js';
import type { TenantId, TenantTimelineId } from '#shared/core/ids.js';
import { DEFAULT_STORAGE } from './catalog-schema.js';
import type { BranchEntry, Catalog, ComputeEntry, SnapshotEntry, StorageEntry } from './catalog-schema.js';

export const MAIN_BRANCH = 'main';

const NAME = /^[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$/;

/** Names of branches; StorageError `invalid` otherwise. */
export function checkName(kind: string, name: string): string {
  if (!NAME.test(name) || name.includes('//') || name.includes('..')) {
    throw new StorageError(
      'invalid',
      `"${name}" is no ${kind} name: use 1 to 63 letters, digits, "-", "_", "." or "/", with a letter or digit at both ends`,
    );
  }
  return name;
}

/** Names of computes, storages and snapshots are also file or directory names. */
export function checkFlatName(kind: string, name: string): string {
  checkName(kind, name);
  if (name.includes('/')) throw new StorageError('invalid', `"${name}" is no ${kind} name: "/" is not allowed`);
  return name;
}

/** What a compute on a branch is called when nobody says. */
export function defaultComputeName(branchName: string): string {
  return branchName.replaceAll('/', '-');
}

function knownNames(names: readonly string[], none: string): string {
  return names.length === 0 ? none : `there are: ${names.slice(0, 20).join(', ')}${names.length > 20 ? ', …' : ''}`;
}

// Storages and tenants

export function findStorage(catalog: Catalog, name: string): StorageEntry {
  const storage = catalog.storages.find((entry) => entry.name === name);
  if (storage) return storage;
  const known = knownNames(
    catalog.storages.map((entry) => entry.name),
    '',
  );
  throw new StorageError(
    'not-found',
    `storage "${name}" does not exist (${known}); attach it with "neon storage attach"`,
  );
}

export function addStorage(catalog: Catalog, storage: Omit<StorageEntry, 'nodeId'>): Catalog {
  checkFlatName('storage', storage.name);
  if (catalog.storages.some((entry) => entry.name === storage.name)) {
    throw new StorageError('already-exists', `storage "${storage.name}" is attached already; choose another name`);
  }
  const same = catalog.storages.find((entry) => entry.url === storage.url);
  if (same) throw new StorageError('already-exists', `${storage.url} is attached already, as "${same.name}"`);
  return {
    ...catalog,
    storages: [...catalog.storages, { ...storage, nodeId: catalog.nextNodeId }],
    nextNodeId: catalog.nextNodeId + 1,
  };
}

/** Forgets a storage with all names on it. */
export function removeStorage(catalog: Catalog, name: string): Catalog {
  const gone = new Set(tenantsOf(catalog, name));
  const stays = <T extends { readonly tenantId: TenantId }>(entries: readonly T[]) =>
    entries.filter((entry) => !gone.has(entry.tenantId));
  const tenants = stays(catalog.tenants);
  const defaultGone = catalog.defaultTenantId !== null && gone.has(catalog.defaultTenantId);
  return {
    ...catalog,
    storages: catalog.storages.filter((entry) => entry.name !== name),
    tenants,
    defaultTenantId: defaultGone ? (tenants[0]?.tenantId ?? null) : catalog.defaultTenantId,
    branches: stays(catalog.branches),
    computes: stays(catalog.computes),
    snapshots: stays(catalog.snapshots),
    unfinished: stays(catalog.unfinished),
  };
}

export function tenantsOf(catalog: Catalog, storageName: string): TenantId[] {
  return catalog.tenants.filter((entry) => entry.storageName === storageName).map((entry) => entry.tenantId);
}

/** Storage of a tenant. */
export function storageOf(catalog: Catalog, tenant: TenantId): string {
  return catalog.tenants.find((entry) => entry.tenantId === tenant)?.storageName ?? DEFAULT_STORAGE;
}

/** The tenant that is meant: by id, as the first one of a storage, or the default. */
export function resolveTenant(catalog: Catalog, text: string, storageName = ''): TenantId {
  if (text !== '') {
    const id = parseTenantId(text);
    if (!catalog.tenants.some((entry) => entry.tenantId === id)) {
      throw new StorageError('not-found', `tenant ${id} does not exist; "neon tenant list" shows what does`);
    }
    return id;
  }
  if (storageName !== '') {
    findStorage(catalog, storageName);
    const own = tenantsOf(catalog, storageName);
    const found = own.find((id) => id === catalog.defaultTenantId) ?? own[0];
    if (found) return found;
    const hint = `make a database with "neon pg create NAME --storage ${storageName}"`;
    throw new StorageError('precondition', `storage "${storageName}" is empty; ${hint}`);
  }
  if (catalog.defaultTenantId === null) {
    throw new StorageError('precondition', 'there is no tenant yet; make one with "neon tenant create"');
  }
  return catalog.defaultTenantId;
}

export function addTenant(catalog: Catalog, id: TenantId, storageName: string, setDefault: boolean): Catalog {
  findStorage(catalog, storageName);
  const known = catalog.tenants.find((entry) => entry.tenantId === id);
  if (known && known.storageName !== storageName) {
    throw new StorageError('already-exists', `tenant ${id} exists already, on storage "${known.storageName}"`);
  }
  const tenants = known ? catalog.tenants : [...catalog.tenants, { tenantId: id, storageName }];
  const defaultTenantId = setDefault || catalog.defaultTenantId === null ? id : catalog.defaultTenantId;
  return { ...catalog, tenants, defaultTenantId };
}

// Branches

const isBranch = (tenant: TenantId, name: string) => (entry: BranchEntry) =>
  entry.tenantId === tenant && entry.name === name;

export function findBranch(catalog: Catalog, tenant: TenantId, name: string): BranchEntry {
  const branch = catalog.branches.find(isBranch(tenant, name));
  if (branch) return branch;
  const known = catalog.branches.filter((entry) => entry.tenantId === tenant).map((entry) => entry.name);
  const hint = known.length === 0 ? 'it has no branches' : `its branches: ${known.slice(0, 20).join(', ')}`;
  throw new StorageError('not-found', `tenant ${tenant} has no branch "${name}" (${hint})`);
}

export function checkBranchIsNew(catalog: Catalog, tenant: TenantId, name: string): void {
  checkName('branch', name);
  if (catalog.branches.some(isBranch(tenant, name))) {
    throw new StorageError('already-exists', `branch "${name}" exists already; choose another name`);
  }
}

/** The timeline of the branch is no unfinished work any more. */
export function addBranch(catalog: Catalog, branch: BranchEntry): Catalog {
  checkBranchIsNew(catalog, branch.tenantId, branch.name);
  return finishTimeline({ ...catalog, branches: [...catalog.branches, branch] }, branch);
}

export function childrenOf(catalog: Catalog, branch: BranchEntry): string[] {
  return catalog.branches
    .filter((entry) => entry.tenantId === branch.tenantId && entry.parentName === branch.name)
    .map((entry) => entry.name);
}

export function snapshotsOf(catalog: Catalog, branch: BranchEntry): string[] {
  return catalog.snapshots
    .filter((entry) => entry.tenantId === branch.tenantId && entry.timelineId === branch.timelineId)
    .map((entry) => entry.name);
}

export function computesOf(catalog: Catalog, branch: BranchEntry): ComputeEntry[] {
  return catalog.computes.filter((entry) => entry.tenantId === branch.tenantId && entry.branchName === branch.name);
}

/** Everything that names the branch follows. */
export function renameBranch(catalog: Catalog, branch: BranchEntry, newName: string): Catalog {
  checkBranchIsNew(catalog, branch.tenantId, newName);
  const own = (entry: { readonly tenantId: TenantId }, name: string | null) =>
    entry.tenantId === branch.tenantId && name === branch.name;
  return {
    ...catalog,
    branches: catalog.branches.map((entry) => {
      if (own(entry, entry.name)) return { ...entry, name: newName };
      return own(entry, entry.parentName) ? { ...entry, parentName: newName } : entry;
    }),
    computes: catalog.computes.map((entry) =>
      own(entry, entry.branchName) ? { ...entry, branchName: newName } : entry,
    ),
    snapshots: catalog.snapshots.map((entry) =>
      own(entry, entry.branchName) ? { ...entry, branchName: newName } : entry,
    ),
  };
}

/** Forgets a branch with its computes; its timeline becomes unfinished work: it is to be deleted. */
export function removeBranch(catalog: Catalog, branch: BranchEntry): Catalog {
  const children = childrenOf(catalog, branch);
  if (children.length > 0) {
    const hint = `delete ${children.map((name) => `"${name}"`).join(', ')} first`;
    throw new StorageError('precondition', `other branches begin on branch "${branch.name}"; ${hint}`);
  }
  const snapshots = snapshotsOf(catalog, branch);
  if (snapshots.length > 0) {
    const hint = snapshots.map((name) => `"neon snapshot destroy ${name}"`).join(', ');
    throw new StorageError('precondition', `branch "${branch.name}" has snapshots; destroy them first: ${hint}`);
  }
  return beginTimeline(
    {
      ...catalog,
      branches: catalog.branches.filter((entry) => entry !== branch && !isBranch(branch.tenantId, branch.name)(entry)),
      computes: catalog.computes.filter(
        (entry) => entry.tenantId !== branch.tenantId || entry.branchName !== branch.name,
      ),
    },
    branch,
  );
}

export function updateBranch(catalog: Catalog, branch: BranchEntry, change: Partial<BranchEntry>): Catalog {
  findBranch(catalog, branch.tenantId, branch.name);
  return {
    ...catalog,
    branches: catalog.branches.map((entry) =>
      isBranch(branch.tenantId, branch.name)(entry) ? { ...entry, ...change } : entry,
    ),
  };
}

/**
 * Lets the name of a branch mean another timeline. What it meant before stays as branch `keepAs`, or becomes unfinished work (null).
 * `parentName` of `next` is as before the change.
 */
export function replaceBranch(
  catalog: Catalog,
  branch: BranchEntry,
  next: BranchEntry,
  keepAs: string | null,
): Catalog {
  const computes = catalog.computes;
  if (keepAs === null) {
    const without = removeBranch(catalog, branch);
    return addBranch({ ...without, computes }, next);
  }
  const parentName = next.parentName === branch.name ? keepAs : next.parentName;
  return addBranch({ ...renameBranch(catalog, branch, keepAs), computes }, { ...next, parentName });
}

/** Branches of a tenant, each after its parent, siblings in order of creation. */
export function branchTree(catalog: Catalog, tenant: TenantId): Array<{ branch: BranchEntry; depth: number }> {
  const own = catalog.branches.filter((entry) => entry.tenantId === tenant);
  const out: Array<{ branch: BranchEntry; depth: number }> = [];
  const visit = (parentName: string | null, depth: number): void => {
    for (const branch of own.filter((entry) => entry.parentName === parentName)) {
      out.push({ branch, depth });
      visit(branch.name, depth + 1);
    }
  };
  visit(null, 0);
  return out;
}

// Unfinished work

export function beginTimeline(catalog: Catalog, { tenantId, timelineId }: TenantTimelineId): Catalog {
  return { ...catalog, unfinished: [...catalog.unfinished, { tenantId, timelineId }] };
}

export function finishTimeline(catalog: Catalog, { timelineId }: { readonly timelineId: string }): Catalog {
  return { ...catalog, unfinished: catalog.unfinished.filter((entry) => entry.timelineId !== timelineId) };
}

// Computes

export function findCompute(catalog: Catalog, name: string): ComputeEntry {
  const compute = catalog.computes.find((entry) => entry.name === name);
  if (compute) return compute;
  const known = knownNames(
    catalog.computes.map((entry) => entry.name),
    'make one with "neon pg create"',
  );
  throw new StorageError('not-found', `compute "${name}" does not exist (${known})`);
}

export function addCompute(catalog: Catalog, compute: ComputeEntry): Catalog {
  checkFlatName('compute', compute.name);
  findBranch(catalog, compute.tenantId, compute.branchName);
  if (catalog.computes.some((entry) => entry.name === compute.name)) {
    throw new StorageError(
      'already-exists',
      `compute "${compute.name}" exists already; choose another name with --name`,
    );
  }
  const clash = catalog.computes.find(
    (entry) => compute.pgPortFixed && entry.pgPortFixed && entry.pgPort === compute.pgPort,
  );
  if (clash) throw new StorageError('already-exists', `port ${compute.pgPort} belongs to compute "${clash.name}"`);
  return { ...catalog, computes: [...catalog.computes, compute] };
}

export function updateCompute(catalog: Catalog, name: string, change: Partial<ComputeEntry>): Catalog {
  findCompute(catalog, name);
  return {
    ...catalog,
    computes: catalog.computes.map((entry) => (entry.name === name ? { ...entry, ...change } : entry)),
  };
}

export function removeCompute(catalog: Catalog, name: string): Catalog {
  return { ...catalog, computes: catalog.computes.filter((entry) => entry.name !== name) };
}

// Snapshots

export function findSnapshot(catalog: Catalog, tenant: TenantId, name: string): SnapshotEntry {
  const own = catalog.snapshots.filter((entry) => entry.tenantId === tenant);
  const snapshot = own.find((entry) => entry.name === name);
  if (snapshot) return snapshot;
  const known = knownNames(
    own.map((entry) => entry.name),
    'make one with "neon snapshot create"',
  );
  throw new StorageError('not-found', `snapshot "${name}" does not exist (${known})`);
}

export function addSnapshot(catalog: Catalog, snapshot: SnapshotEntry): Catalog {
  checkFlatName('snapshot', snapshot.name);
  if (catalog.snapshots.some((entry) => entry.tenantId === snapshot.tenantId && entry.name === snapshot.name)) {
    throw new StorageError('already-exists', `snapshot "${snapshot.name}" exists already; choose another name`);
  }
  const added = { ...catalog, snapshots: [...catalog.snapshots, snapshot] };
  return finishTimeline(added, { timelineId: snapshot.holdTimelineId });
}

/** The timeline that held its history becomes unfinished work. */
export function removeSnapshot(catalog: Catalog, snapshot: SnapshotEntry): Catalog {
  const snapshots = catalog.snapshots.filter(
    (entry) => entry.tenantId !== snapshot.tenantId || entry.name !== snapshot.name,
  );
  return beginTimeline({ ...catalog, snapshots }, { tenantId: snapshot.tenantId, timelineId: snapshot.holdTimelineId });
}
