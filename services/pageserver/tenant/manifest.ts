/**
 * The object that makes a tenant exist: `tenants/<tenant>/manifest.json`
 *   { "version": 1, "tenant_id": …, "system_id": decimal text, "generation": number, "deleted_at_ms": number | null }
 *
 * It is written when the tenant is created, and when its deletion begins. The generation is one below the first that may be claimed
 * (generations.ts). The system identifier is that of every database cluster of the tenant.
 */
import { z } from 'zod';
import { errorKind, StorageError } from '#shared/core/errors.js';
import type { TenantId } from '#shared/core/ids.js';
import type { ObjectStore } from '#shared/io/object-store.js';
import { tenantPrefix } from '../io/object-keys.js';

const VERSION = 1;

export interface Manifest {
  readonly tenantId: TenantId;
  readonly systemId: bigint;
  readonly generation: number;
  /** Unix time at which deletion began; null while alive. */
  readonly deletedAtMs: number | null;
}

const schema = z.object({
  version: z.literal(VERSION),
  tenant_id: z.string(),
  system_id: z.string().regex(/^\d{1,20}$/),
  generation: z.number().int().min(0).max(0xffff_ffff),
  deleted_at_ms: z.number().int().nullable(),
});

function manifestKey(tenantId: TenantId): string {
  return `${tenantPrefix(tenantId)}manifest.json`;
}

/** Null when there is none. Throws StorageError `corrupt` for one that is not of that tenant or not understood. */
export async function readManifest(objectStore: ObjectStore, tenantId: TenantId): Promise<Manifest | null> {
  const key = manifestKey(tenantId);
  const bytes = await objectStore.get(key).catch((error: unknown) => {
    if (errorKind(error) === 'not-found') return null;
    throw error;
  });
  if (bytes === null) return null;
  let fields: z.infer<typeof schema>;
  try {
    fields = schema.parse(JSON.parse(Buffer.from(bytes).toString('utf8')));
  } catch (cause) {
    throw new StorageError('corrupt', `manifest ${key} cannot be used`, { cause });
  }
  if (fields.tenant_id !== tenantId)
    throw new StorageError('corrupt', `manifest ${key} is that of ${fields.tenant_id}`);
  return {
    tenantId,
    systemId: BigInt(fields.system_id),
    generation: fields.generation,
    deletedAtMs: fields.deleted_at_ms,
  };
}

/** False when the tenant exists. */
export async function createManifest(objectStore: ObjectStore, manifest: Manifest): Promise<boolean> {
  return objectStore.create(manifestKey(manifest.tenantId), encode(manifest));
}

export async function writeManifest(objectStore: ObjectStore, manifest: Manifest): Promise<void> {
  await objectStore.put(manifestKey(manifest.tenantId), encode(manifest));
}

function encode(manifest: Manifest): Uint8Array {
  const fields: z.infer<typeof schema> = {
    version: VERSION,
    tenant_id: manifest.tenantId,
    system_id: manifest.systemId.toString(),
    generation: manifest.generation,
    deleted_at_ms: manifest.deletedAtMs,
  };
  return Buffer.from(`${JSON.stringify(fields, null, 1)}\n`);
}

export async function removeManifest(objectStore: ObjectStore, tenantId: TenantId): Promise<void> {
  await objectStore.delete([manifestKey(tenantId)]);
}
