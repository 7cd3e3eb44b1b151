/**
 * Who may change a tenant's objects. Each attachment has a generation, a number above those of all attachments before. It is claimed by
 * creating an object, which of several page servers only one can do:
 *   tenants/<tenant>/generations/<generation, 8 hex>   { "version": 1, "generation": …, "node_id": …, "claimed_at_ms": …, "nonce": … }
 * The newest claim counts. A page server asks for it after each change of an index, before it acts on the change (tells safekeepers that
 * WAL is safe, deletes objects): from a claim on, its holder works from the newest index that was there then, and nothing that this index
 * names is deleted by a predecessor, nor any WAL behind it.
 */
import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import { StorageError } from '#shared/core/errors.js';
import type { TenantId } from '#shared/core/ids.js';
import type { ObjectStore } from '#shared/io/object-store.js';
import { formatGeneration } from '../core/storage/layer-name.js';
import { tenantPrefix } from '../io/object-keys.js';

const VERSION = 1;
/** Others who claim at the same time make us try the next number. */
const CLAIM_ATTEMPTS_MAX = 20;

const schema = z.object({
  version: z.literal(VERSION),
  generation: z.number().int().min(1).max(0xffff_ffff),
  node_id: z.number().int(),
  claimed_at_ms: z.number().int(),
  nonce: z.string(),
});

export interface Claim {
  readonly generation: number;
  readonly nodeId: number;
}

function claimsPrefix(tenantId: TenantId): string {
  return `${tenantPrefix(tenantId)}generations/`;
}

function claimKey(tenantId: TenantId, generation: number): string {
  return claimsPrefix(tenantId) + formatGeneration(generation);
}

/** Ascending. Objects that are not named as claims are passed over. */
async function listClaims(objectStore: ObjectStore, tenantId: TenantId, signal?: AbortSignal): Promise<number[]> {
  const prefix = claimsPrefix(tenantId);
  const names = (await objectStore.list(prefix, signal)).map((key) => key.slice(prefix.length));
  return names.filter((name) => /^[0-9a-f]{8}$/.test(name)).map((name) => parseInt(name, 16));
}

/** Null when nobody has claimed the tenant. */
export async function newestClaim(objectStore: ObjectStore, tenantId: TenantId): Promise<Claim | null> {
  const generation = (await listClaims(objectStore, tenantId)).at(-1);
  if (generation === undefined) return null;
  const key = claimKey(tenantId, generation);
  try {
    const fields = schema.parse(JSON.parse(Buffer.from(await objectStore.get(key)).toString('utf8')));
    return { generation, nodeId: fields.node_id };
  } catch (cause) {
    if (cause instanceof StorageError) throw cause;
    throw new StorageError('corrupt', `claim ${key} cannot be used`, { cause });
  }
}

export interface ClaimRequest {
  readonly tenantId: TenantId;
  readonly nodeId: number;
  /** 0 = one more than the last. */
  readonly wanted: number;
  /** Highest generation known otherwise. */
  readonly above: number;
  readonly nowMs: number;
}

/** The generation claimed. Throws StorageError `fenced` when the wanted one has passed, or is another's. */
export async function claimGeneration(objectStore: ObjectStore, request: ClaimRequest): Promise<number> {
  const { tenantId, nodeId, wanted, nowMs } = request;
  for (let attempt = 0; attempt < CLAIM_ATTEMPTS_MAX; attempt++) {
    const newest = await newestClaim(objectStore, tenantId);
    const last = Math.max(newest?.generation ?? 0, request.above);
    // Told to go on with what this node has claimed itself.
    if (wanted !== 0 && newest?.generation === wanted && newest.nodeId === nodeId) return wanted;
    const generation = wanted === 0 ? last + 1 : wanted;
    if (generation < last || generation === newest?.generation) throw passed(tenantId, last, generation);
    const fields: z.infer<typeof schema> = {
      version: VERSION,
      generation,
      node_id: nodeId,
      claimed_at_ms: nowMs,
      nonce: randomUUID(),
    };
    const bytes = Buffer.from(`${JSON.stringify(fields)}\n`);
    if (await objectStore.create(claimKey(tenantId, generation), bytes)) return generation;
  }
  throw new StorageError('unavailable', `tenant ${tenantId} is claimed by many at once`);
}

function passed(tenantId: TenantId, last: number, wanted: number): StorageError {
  return new StorageError('fenced', `tenant ${tenantId} is at generation ${last} already, not ${wanted}`);
}

/** Throws StorageError `fenced` unless nobody has claimed the tenant since. */
export async function checkNewest(
  objectStore: ObjectStore,
  claim: { readonly tenantId: TenantId; readonly generation: number },
  signal?: AbortSignal,
): Promise<void> {
  const newest = (await listClaims(objectStore, claim.tenantId, signal)).at(-1);
  if (newest === claim.generation) return;
  const text = newest === undefined ? 'was deleted' : `was attached at generation ${newest}`;
  throw new StorageError('fenced', `tenant ${claim.tenantId} ${text}; this page server has ${claim.generation}`);
}

/** Claims below one that is held: they have said what they had to say. */
export async function removeClaimsBelow(
  objectStore: ObjectStore,
  tenantId: TenantId,
  generation: number,
): Promise<void> {
  const old = (await listClaims(objectStore, tenantId)).filter((claimed) => claimed < generation);
  if (old.length > 0) await objectStore.delete(old.map((claimed) => claimKey(tenantId, claimed)));
}

export async function removeAllClaims(objectStore: ObjectStore, tenantId: TenantId): Promise<void> {
  const keys = await objectStore.list(claimsPrefix(tenantId));
  if (keys.length > 0) await objectStore.delete(keys);
}
