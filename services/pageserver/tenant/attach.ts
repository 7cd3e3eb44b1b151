/** From a tenant's objects to a tenant in use: the claim, the gate through which it writes, its timelines. */
import { errorKind, errorText, StorageError } from '#shared/core/errors.js';
import type { TenantId } from '#shared/core/ids.js';
import type { AttachMode } from '../io/tenant-gate.js';
import { TenantGate } from '../io/tenant-gate.js';
import { checkNewest, claimGeneration, removeClaimsBelow } from './generations.js';
import { readManifest } from './manifest.js';
import type { TenantEnv } from './tenant.js';
import { Tenant } from './tenant.js';

const GENERATION_MAX = 0xffff_ffff;

export interface Attached {
  readonly tenant: Tenant;
  readonly gate: TenantGate;
}

export interface AttachRequest {
  readonly tenantId: TenantId;
  readonly nodeId: number;
  readonly mode: AttachMode;
  /** 0 = the next one. A stale attachment must name the one that it had. */
  readonly generation: number;
  readonly onFenced: (error: StorageError) => void;
}

async function generationFor(request: AttachRequest, env: TenantEnv, above: number): Promise<number> {
  const { tenantId, nodeId, mode, generation } = request;
  if (mode !== 'stale') {
    const { objectStore } = env.storage;
    return claimGeneration(objectStore, { tenantId, nodeId, wanted: generation, above, nowMs: Date.now() });
  }
  if (generation !== 0) return generation;
  throw new StorageError('invalid', 'a stale attachment needs the generation that it was attached at');
}

/** Throws StorageError `not-found` for a tenant that does not exist, or was deleted; `fenced` for a generation that has passed. */
export async function attachTenant(env: TenantEnv, request: AttachRequest): Promise<Attached> {
  const { tenantId, mode, onFenced } = request;
  const { objectStore } = env.storage;
  const manifest = await readManifest(objectStore, tenantId);
  if (manifest === null) throw new StorageError('not-found', `tenant ${tenantId} is not in the object store`);
  if (manifest.deletedAtMs !== null) throw new StorageError('not-found', `tenant ${tenantId} was deleted`);
  if (manifest.splitInto !== undefined) {
    throw new StorageError('precondition', `tenant ${tenantId} was split into ${manifest.splitInto} shards`);
  }
  const generation = await generationFor(request, env, manifest.generation);
  const validate = (signal?: AbortSignal) => checkNewest(objectStore, { tenantId, generation }, signal);
  const gate = new TenantGate(objectStore, { tenantId, generation, validate, onFenced }, mode);
  const storage = { ...env.storage, objectStore: gate };
  // A stale one only reads: what it had may have been swept by its successor, whose indexes say what there is.
  const readUpTo = mode === 'stale' ? GENERATION_MAX : generation;
  const tenant = await Tenant.load({ ...manifest, generation }, { ...env, storage }, readUpTo);
  env.log.info({ tenant: tenantId, generation, mode, timelines: tenant.timelines.size }, 'attached tenant');
  if (mode === 'single') {
    await removeClaimsBelow(objectStore, tenantId, generation).catch((error: unknown) => {
      env.log.warn(
        { tenant: tenantId, kind: errorKind(error), reason: errorText(error) },
        'could not remove old claims',
      );
    });
  }
  return { tenant, gate };
}
