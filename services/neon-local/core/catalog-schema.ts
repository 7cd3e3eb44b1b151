/**
 * The file catalog.json of a stack: which names mean which storages, tenants, timelines and computes. It carries a version; older ones
 * are upgraded when they are read. Pure.
 *
 *   1  tenantIds, branches, computes; one storage, named by config.json only
 *   2  storages, tenants with their storage, snapshots, retention, unfinished work
 */
import { StorageError } from '#shared/core/errors.js';
import { parseTenantId, parseTimelineId } from '#shared/core/ids.js';
import { lsn } from '#shared/core/lsn.js';
import { z } from 'zod';

const tenantId = z.string().transform((text) => parseTenantId(text));
const timelineId = z.string().transform((text) => parseTimelineId(text));

export const CATALOG_VERSION = 2;
/** The storage that every stack has. */
export const DEFAULT_STORAGE = 'default';

const storageSchema = z.object({
  name: z.string(),
  type: z.enum(['native', 's3']),
  /** As page servers take it, without credentials. */
  url: z.string(),
  /** Node id of its page server; never used again after a detach. */
  nodeId: z.number().int().positive(),
  createdAtMs: z.number(),
});
const retentionSchema = z.object({
  timeS: z.number().nonnegative(),
  sizeBytes: z.number().nonnegative(),
});
const branchSchema = z.object({
  name: z.string(),
  tenantId,
  timelineId,
  /** Name of the parent branch; null = made from the initdb image. */
  parentName: z.string().nullable(),
  parentLsn: z.number().transform(lsn),
  createdAtMs: z.number(),
  /** Null = the default of the page server. */
  retention: retentionSchema.nullable().default(null),
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
  /** Seconds without activity until it is suspended; 0 = never. */
  suspendAfterS: z.number().nonnegative().default(0),
  /** Bounds of its size in compute units; both 0 = not limited. */
  minCu: z.number().nonnegative().default(0),
  maxCu: z.number().nonnegative().default(0),
  /** Made by the connect port; goes with its branch. */
  isAutomatic: z.boolean().default(false),
});
const snapshotSchema = z.object({
  name: z.string(),
  tenantId,
  branchName: z.string(),
  timelineId,
  lsn: z.number().transform(lsn),
  /** A timeline on the page server that begins at the position and is never written to: it keeps history from being collected. */
  holdTimelineId: timelineId,
  createdAtMs: z.number(),
});
/** A timeline that is being made, or deleted: at the next start it is deleted, wherever the work stopped. */
const unfinishedSchema = z.object({ tenantId, timelineId });

export const catalogSchema = z.object({
  version: z.literal(CATALOG_VERSION),
  nextNodeId: z.number().int().positive(),
  storages: z.array(storageSchema).min(1),
  defaultTenantId: tenantId.nullable(),
  tenants: z.array(z.object({ tenantId, storageName: z.string() })),
  branches: z.array(branchSchema),
  computes: z.array(computeSchema),
  snapshots: z.array(snapshotSchema),
  unfinished: z.array(unfinishedSchema),
});

export type Catalog = z.infer<typeof catalogSchema>;
export type StorageEntry = z.infer<typeof storageSchema>;
export type BranchEntry = z.infer<typeof branchSchema>;
export type ComputeEntry = z.infer<typeof computeSchema>;
export type SnapshotEntry = z.infer<typeof snapshotSchema>;
export type Retention = z.infer<typeof retentionSchema>;

/** Node id of the default storage's page server. */
const DEFAULT_NODE_ID = 1;

export function emptyCatalog(defaultUrl: string): Catalog {
  const type = defaultUrl.startsWith('s3://') ? 's3' : 'native';
  return {
    version: CATALOG_VERSION,
    nextNodeId: DEFAULT_NODE_ID + 1,
    storages: [{ name: DEFAULT_STORAGE, type, url: defaultUrl, nodeId: DEFAULT_NODE_ID, createdAtMs: 0 }],
    defaultTenantId: null,
    tenants: [],
    branches: [],
    computes: [],
    snapshots: [],
    unfinished: [],
  };
}

const anyVersion = z.looseObject({ version: z.number().int() });
const version1 = z.looseObject({ tenantIds: z.array(z.string()) });

/** Reads any version. Throws on damage, and StorageError `precondition` for a version of the future. */
export function readCatalog(value: unknown, defaultUrl: string): Catalog {
  const { version } = anyVersion.parse(value);
  if (version > CATALOG_VERSION) {
    throw new StorageError(
      'precondition',
      `catalog.json has version ${version}, and this program knows up to ${CATALOG_VERSION}; use the newer program`,
    );
  }
  if (version === CATALOG_VERSION) return catalogSchema.parse(value);
  const old = version1.parse(value);
  const { tenantIds, ...rest } = old;
  return catalogSchema.parse({
    ...emptyCatalog(defaultUrl),
    ...rest,
    version: CATALOG_VERSION,
    tenants: tenantIds.map((id) => ({ tenantId: id, storageName: DEFAULT_STORAGE })),
  });
}
