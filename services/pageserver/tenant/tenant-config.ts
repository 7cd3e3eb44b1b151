/**
 * Settings of a tenant that differ from the server's: `tenants/<tenant>/config.json`
 *   { "version": 1, "tenant_id": …, "settings": { "gc_horizon_bytes": …, … } }
 * The object is absent when nothing was ever set. A change counts once it is there.
 */
import { z } from 'zod';
import { errorKind, StorageError } from '#shared/core/errors.js';
import type { TenantId } from '#shared/core/ids.js';
import type { ObjectStore } from '#shared/io/object-store.js';
import type { TenantOverrides } from '../core/storage/tenant-settings.js';
import { tenantPrefix } from '../io/object-keys.js';

const VERSION = 1;
const MIB = 1 << 20;

const bytes = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const seconds = z
  .number()
  .min(0)
  .max(100 * 366 * 86_400);

const settings = z.strictObject({
  gc_horizon_bytes: bytes.optional(),
  pitr_interval_s: seconds.optional(),
  image_creation_threshold: z.number().int().min(1).max(10_000).optional(),
  compaction_threshold: z.number().int().min(1).max(10_000).optional(),
  checkpoint_distance_bytes: bytes.min(MIB).optional(),
  checkpoint_timeout_ms: z.number().int().min(100).max(0x7fff_ffff).optional(),
  lsn_lease_length_s: seconds.optional(),
});

const schema = z.object({ version: z.literal(VERSION), tenant_id: z.string(), settings });

type Fields = z.infer<typeof settings>;

function toFields(overrides: TenantOverrides): Fields {
  return {
    gc_horizon_bytes: overrides.gcHorizonBytes,
    pitr_interval_s: overrides.pitrIntervalS,
    image_creation_threshold: overrides.imageCreationThreshold,
    compaction_threshold: overrides.compactionThreshold,
    checkpoint_distance_bytes: overrides.checkpointDistanceBytes,
    checkpoint_timeout_ms: overrides.checkpointTimeoutMs,
    lsn_lease_length_s: overrides.lsnLeaseLengthS,
  };
}

function fromFields(fields: Fields): TenantOverrides {
  return {
    gcHorizonBytes: fields.gc_horizon_bytes,
    pitrIntervalS: fields.pitr_interval_s,
    imageCreationThreshold: fields.image_creation_threshold,
    compactionThreshold: fields.compaction_threshold,
    checkpointDistanceBytes: fields.checkpoint_distance_bytes,
    checkpointTimeoutMs: fields.checkpoint_timeout_ms,
    lsnLeaseLengthS: fields.lsn_lease_length_s,
  };
}

function configKey(tenantId: TenantId): string {
  return `${tenantPrefix(tenantId)}config.json`;
}

/** Throws StorageError `invalid` naming every setting that cannot be. */
export function checkOverrides(overrides: TenantOverrides): void {
  const parsed = settings.safeParse(toFields(overrides));
  if (parsed.success) return;
  const problems = parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
  throw new StorageError('invalid', `wrong tenant settings: ${problems.join('; ')}`);
}

/** Nothing set when there is no object. Throws StorageError `corrupt` for one that is not of that tenant or not understood. */
export async function readTenantConfig(objectStore: ObjectStore, tenantId: TenantId): Promise<TenantOverrides> {
  const key = configKey(tenantId);
  const found = await objectStore.get(key).catch((error: unknown) => {
    if (errorKind(error) === 'not-found') return null;
    throw error;
  });
  if (found === null) return {};
  let document: z.infer<typeof schema>;
  try {
    document = schema.parse(JSON.parse(Buffer.from(found).toString('utf8')));
  } catch (cause) {
    throw new StorageError('corrupt', `tenant settings ${key} cannot be used`, { cause });
  }
  if (document.tenant_id !== tenantId) {
    throw new StorageError('corrupt', `tenant settings ${key} are those of ${document.tenant_id}`);
  }
  return fromFields(document.settings);
}

export async function writeTenantConfig(
  objectStore: ObjectStore,
  tenantId: TenantId,
  overrides: TenantOverrides,
): Promise<void> {
  const document = { version: VERSION, tenant_id: tenantId, settings: toFields(overrides) };
  await objectStore.put(configKey(tenantId), Buffer.from(`${JSON.stringify(document, null, 1)}\n`));
}

export async function removeTenantConfig(objectStore: ObjectStore, tenantId: TenantId): Promise<void> {
  await objectStore.delete([configKey(tenantId)]);
}
