/**
 * The object that makes a tenant exist: `tenants/<tenant>/manifest.json`
 *   { "version": 1, "tenant_id": …, "system_id": decimal text, "generation": number, "deleted_at_ms": number | null,
 *     "stripe_blocks": number, "node_id": number, "split_into": number }
 *
 * It is written when the tenant is created, split, and when its deletion begins. The generation is one below the first that may be claimed
 * (generations.ts). The system identifier is that of every database cluster of the tenant. Each shard of a tenant is an own tenant here,
 * `<tenant>-<number><count>`. `node_id` 0 = a shard of a split that is under way; it is taken at a start only once somebody has attached
 * it. A tenant that was split is never attached again: its layers are what its shards began with.
 */
import { z } from 'zod';
import { errorKind, StorageError } from '#shared/core/errors.js';
import type { TenantId } from '#shared/core/ids.js';
import type { ShardIdentity } from '#shared/core/shard.js';
import { DEFAULT_STRIPE_BLOCKS, SHARD_COUNT_MAX, shardOfId } from '#shared/core/shard.js';
import type { ObjectStore } from '#shared/io/object-store.js';
import { tenantPrefix } from '../io/object-keys.js';

const VERSION = 1;

export interface Manifest {
  readonly tenantId: TenantId;
  readonly systemId: bigint;
  readonly generation: number;
  /** Unix time at which deletion began; null while alive. */
  readonly deletedAtMs: number | null;
  readonly stripeBlocks?: number | undefined;
  readonly nodeId?: number | undefined;
  /** Count of the shards that go on in its place. */
  readonly splitInto?: number | undefined;
}

const schema = z.object({
  version: z.literal(VERSION),
  tenant_id: z.string(),
  system_id: z.string().regex(/^\d{1,20}$/),
  generation: z.number().int().min(0).max(0xffff_ffff),
  deleted_at_ms: z.number().int().nullable(),
  stripe_blocks: z.number().int().min(1).max(0xffff_ffff).optional(),
  node_id: z.number().int().min(0).optional(),
  split_into: z.number().int().min(2).max(SHARD_COUNT_MAX).optional(),
});

/** Which part of its tenant this is. */
export function shardOf(manifest: Manifest): ShardIdentity {
  return { ...shardOfId(manifest.tenantId), stripeBlocks: manifest.stripeBlocks ?? DEFAULT_STRIPE_BLOCKS };
}

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
    stripeBlocks: fields.stripe_blocks,
    nodeId: fields.node_id,
    splitInto: fields.split_into,
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
    stripe_blocks: manifest.stripeBlocks,
    node_id: manifest.nodeId,
    split_into: manifest.splitInto,
  };
  return Buffer.from(`${JSON.stringify(fields, null, 1)}\n`);
}

export async function removeManifest(objectStore: ObjectStore, tenantId: TenantId): Promise<void> {
  await objectStore.delete([manifestKey(tenantId)]);
}
