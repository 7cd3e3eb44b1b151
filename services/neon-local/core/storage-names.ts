/** What a detached storage knows of its own names. Pure. */
import { StorageError } from '#shared/core/errors.js';
import { z } from 'zod';
import { tenantsOf } from './catalog.js';
import { catalogSchema } from './catalog-schema.js';
import type { Catalog } from './catalog-schema.js';

export const NAMES_VERSION = 1;
export const namesSchema = z.object({
  version: z.literal(NAMES_VERSION),
  tenantIds: z.array(z.string()),
  branches: catalogSchema.shape.branches,
  snapshots: catalogSchema.shape.snapshots,
  computes: catalogSchema.shape.computes,
});
export type StorageNames = z.infer<typeof namesSchema>;

/** The part of the catalog that lies on a storage. */
export function takenNames(catalog: Catalog, storageName: string): StorageNames {
  const tenants = new Set<string>(tenantsOf(catalog, storageName));
  const own = <T extends { readonly tenantId: string }>(entries: readonly T[]) =>
    entries.filter((entry) => tenants.has(entry.tenantId));
  return {
    version: NAMES_VERSION,
    tenantIds: [...tenants],
    branches: own(catalog.branches),
    snapshots: own(catalog.snapshots),
    computes: own(catalog.computes).map((compute) => ({
      ...compute,
      pgPort: compute.pgPortFixed ? compute.pgPort : 0,
    })),
  };
}

/** Enters what was found on a storage. Computes whose names are taken here are left out: a branch needs none to be used. */
export function adoptNames(catalog: Catalog, storageName: string, names: StorageNames): Catalog {
  const clash = names.tenantIds.find((id) => catalog.tenants.some((entry) => entry.tenantId === id));
  if (clash !== undefined) {
    const advice = 'a copy of a storage cannot be attached beside its original';
    throw new StorageError('already-exists', `tenant ${clash} is on another storage of this stack; ${advice}`);
  }
  const free = names.computes.filter((entry) => !catalog.computes.some((other) => other.name === entry.name));
  const tenants = namesTenants(names, storageName);
  return {
    ...catalog,
    tenants: [...catalog.tenants, ...tenants],
    defaultTenantId: catalog.defaultTenantId ?? tenants[0]?.tenantId ?? null,
    branches: [...catalog.branches, ...names.branches],
    snapshots: [...catalog.snapshots, ...names.snapshots],
    computes: [...catalog.computes, ...free],
  };
}

function namesTenants(names: StorageNames, storageName: string): Catalog['tenants'] {
  return catalogSchema.shape.tenants.parse(names.tenantIds.map((tenantId) => ({ tenantId, storageName })));
}
