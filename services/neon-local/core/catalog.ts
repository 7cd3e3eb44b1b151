/**
 * The catalog of a local stack: which names mean which tenants, timelines and computes. Pure: each operation returns a new catalog or
 * throws a StorageError that says what to do. The storage services know nothing of these names.
 */
import { StorageError } from '#shared/core/errors.js';
import { lsn } from '#shared/core/lsn.js';

import { parseTenantId, parseTimelineId } from '#shared/core/ids.js';
import type { TenantId } from '#shared/core/ids.js';
import { z } from 'zod';

const tenantId = z.string().transform((text) => parseTenantId(text));
const timelineId = z.string().transform((text) => parseTimelineId(text));

const branchSchema = z.object({
  name: z.string(),
  tenantId,
  timelineId,
  /** Name of the parent branch; null = made from the initdb image. */
  parentName: z.string().nullable(),
  parentLsn: z.number().transform(lsn),
  createdAtMs: z.number(),
});
const computeSchema = z.object({
  name: z.string(),
  tenantId,
  branchName: z.string(),
  /** Port of Postgres that was used last and is tried first; 0 = none yet. */
  pgPort: z.number(),
  /** Whether the user fixed the port. */
  pgPortFixed: z.boolean(),
  settings: z.record(z.string(), z.string()),
});
export const catalogSchema = z.object({
  version: z.literal(1),
  defaultTenantId: tenantId.nullable(),
  tenantIds: z.array(tenantId),
  branches: z.array(branchSchema),
  computes: z.array(computeSchema),
});
export type Catalog = z.infer<typeof catalogSchema>;
export type BranchEntry = z.infer<typeof branchSchema>;
export type ComputeEntry = z.infer<typeof computeSchema>;

export const EMPTY_CATALOG: Catalog = { version: 1, defaultTenantId: null, tenantIds: [], branches: [], computes: [] };
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

/** Names of computes are also directory names. */
export function checkComputeName(name: string): string {
  checkName('compute', name);
  if (name.includes('/')) throw new StorageError('invalid', `"${name}" is no compute name: "/" is not allowed`);
  return name;
}

/** What a compute on a branch is called when nobody says. */
export function defaultComputeName(branchName: string): string {
  return branchName.replaceAll('/', '-');
}

export function resolveTenant(catalog: Catalog, text: string): TenantId {
  if (text !== '') {
    const id = parseTenantId(text);
    if (!catalog.tenantIds.includes(id)) {
      throw new StorageError('not-found', `tenant ${id} does not exist; "neon tenant list" shows what does`);
    }
    return id;
  }
  if (catalog.defaultTenantId === null) {
    throw new StorageError('precondition', 'there is no tenant yet; make one with "neon tenant create"');
  }
  return catalog.defaultTenantId;
}

export function addTenant(catalog: Catalog, id: TenantId, setDefault: boolean): Catalog {
  const tenantIds = catalog.tenantIds.includes(id) ? catalog.tenantIds : [...catalog.tenantIds, id];
  const defaultTenantId = setDefault || catalog.defaultTenantId === null ? id : catalog.defaultTenantId;
  return { ...catalog, tenantIds, defaultTenantId };
}

export function findBranch(catalog: Catalog, tenant: TenantId, name: string): BranchEntry {
  const branch = catalog.branches.find((entry) => entry.tenantId === tenant && entry.name === name);
  if (branch === undefined) {
    const known = catalog.branches.filter((entry) => entry.tenantId === tenant).map((entry) => entry.name);
    const hint = known.length === 0 ? 'it has no branches' : `its branches: ${known.join(', ')}`;
    throw new StorageError('not-found', `tenant ${tenant} has no branch "${name}" (${hint})`);
  }
  return branch;
}

export function addBranch(catalog: Catalog, branch: BranchEntry): Catalog {
  checkName('branch', branch.name);
  if (catalog.branches.some((entry) => entry.tenantId === branch.tenantId && entry.name === branch.name)) {
    throw new StorageError('already-exists', `branch "${branch.name}" exists already; choose another name`);
  }
  return { ...catalog, branches: [...catalog.branches, branch] };
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

export function findCompute(catalog: Catalog, name: string): ComputeEntry {
  const compute = catalog.computes.find((entry) => entry.name === name);
  if (compute === undefined) {
    const known = catalog.computes.map((entry) => entry.name);
    const hint = known.length === 0 ? 'make one with "neon pg create"' : `there are: ${known.join(', ')}`;
    throw new StorageError('not-found', `compute "${name}" does not exist (${hint})`);
  }
  return compute;
}

export function addCompute(catalog: Catalog, compute: ComputeEntry): Catalog {
  checkComputeName(compute.name);
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
