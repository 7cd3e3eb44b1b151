/**
 * All tenants attached to this page server. Everything is found again from the object store; the local directory is a cache.
 */
import { errorKind, errorText, StorageError } from '#shared/core/errors.js';
import type { TenantId, TenantTimelineId } from '#shared/core/ids.js';
import { formatTtid } from '#shared/core/ids.js';
import type { Lsn } from '#shared/core/lsn.js';
import { bareTenantId, checkShards, DEFAULT_STRIPE_BLOCKS, shardId, shardOfId } from '#shared/core/shard.js';
import { listTenantIds, listTimelineIds, removeTimeline } from '../io/tenant-storage.js';
import type { TenantOverrides, TenantSettings } from '../core/storage/tenant-settings.js';
import type { ActiveTimeline } from './active-timeline.js';
import type { DetachResult } from './detach.js';
import type { ImportProgress, ImportSource } from './import-timeline.js';
import type { Manifest } from './manifest.js';
import { readManifest, removeManifest, writeManifest } from './manifest.js';
import type { SplitPlan } from './shard-split.js';
import { prepareSplit, refuseWhileShardsExist, shardIds } from './shard-split.js';
import { forEachLimited, SerialQueue } from './serial-queue.js';
import { makeSystemId } from './system-id.js';
import type { TenantEnv } from './tenant.js';
import { Tenant } from './tenant.js';
import { removeTenantConfig } from './tenant-config.js';
import type { TenantStatus, TimelineOrigin } from './timeline-status.js';

/** Tenants loaded, stopped at once. */
const PARALLEL = 8;

export class TenantManager {
  readonly #env: TenantEnv;
  readonly #random: () => number;
  readonly #tenants = new Map<TenantId, Tenant>();
  /** Attach, create and delete of one tenant must not overlap. */
  readonly #changes = new Map<TenantId, SerialQueue>();
  #isStopping = false;

  /** `random`: a number in [0, 2^12). */
  constructor(env: TenantEnv, random: () => number) {
    this.#env = env;
    this.#random = random;
  }

  /** Attaches the tenants that this page server had, and those that none has. One that cannot be loaded is left out, with an error. */
  async start(): Promise<void> {
    const { objectStore } = this.#env.storage;
    await forEachLimited(await listTenantIds(objectStore), PARALLEL, async (tenantId) => {
      try {
        await this.#serial(tenantId, () => this.#attachOwn(tenantId));
      } catch (error) {
        if (errorKind(error) === 'not-found') return;
        this.#env.log.error({ tenant: tenantId, err: error }, 'could not attach a tenant');
      }
    });
  }

  list(): TenantStatus[] {
    return [...this.#tenants.values()]
      .map((tenant) => tenant.status())
      .sort((a, b) => (a.tenantId < b.tenantId ? -1 : 1));
  }

  get timelineCount(): number {
    let count = 0;
    for (const tenant of this.#tenants.values()) count += tenant.timelines.size;
    return count;
  }

  *timelines(): Generator<ActiveTimeline> {
    for (const tenant of this.#tenants.values()) yield* tenant.timelines.values();
  }

  status(tenantId: TenantId): TenantStatus {
    return this.#tenant(tenantId).status();
  }

  /** What was set for a tenant, and what counts. */
  config(tenantId: TenantId): { overrides: TenantOverrides; effective: TenantSettings } {
    const { overrides, settings } = this.#tenant(tenantId);
    return { overrides, effective: settings };
  }

  /** Replaces all that was set; what counts from now on. */
  async setConfig(tenantId: TenantId, overrides: TenantOverrides): Promise<TenantSettings> {
    return this.#tenant(tenantId).setOverrides(overrides);
  }

  /** Throws StorageError `not-found`. */
  find(ttid: TenantTimelineId): ActiveTimeline {
    return this.#tenant(ttid.tenantId).find(ttid.timelineId);
  }

  /** Sorted by id. */
  listTimelines(tenantId: TenantId): ActiveTimeline[] {
    const timelines = [...this.#tenant(tenantId).timelines.values()];
    return timelines.sort((a, b) => (a.ttid.timelineId < b.ttid.timelineId ? -1 : 1));
  }

  /** A tenant, or one shard of it (shard 0 first: the others take its identity). False when it existed. */
  create(tenantId: TenantId, stripeBlocks = DEFAULT_STRIPE_BLOCKS): Promise<boolean> {
    return this.#serial(tenantId, async () => {
      if (this.#tenants.has(tenantId)) return false;
      checkShards(shardOfId(tenantId).count, stripeBlocks);
      const { storage, log } = this.#env;
      if ((await readManifest(storage.objectStore, tenantId)) !== null) {
        await this.#attach(tenantId, 0);
        return false;
      }
      const systemId = (await this.#systemIdOfShards(tenantId)) ?? makeSystemId(Date.now(), this.#random);
      const { nodeId } = this.#env;
      const manifest: Manifest = { tenantId, systemId, generation: 1, deletedAtMs: null, stripeBlocks, nodeId };
      await writeManifest(storage.objectStore, manifest);
      this.#tenants.set(tenantId, await Tenant.load(manifest, this.#env));
      log.info({ tenant: tenantId }, 'created tenant');
      return true;
    });
  }

  /** All shards of one tenant are one database cluster. Null: the first of them, or no shard. */
  async #systemIdOfShards(tenantId: TenantId): Promise<bigint | null> {
    const { number, count } = shardOfId(tenantId);
    if (number === 0) return null;
    const first = shardId(tenantId, 0, count);
    const manifest = await readManifest(this.#env.storage.objectStore, first);
    if (manifest === null) throw new StorageError('precondition', `create shard ${first} before ${tenantId}`);
    return manifest.systemId;
  }

  /** Splits a tenant that is not sharded; its shards are attached here then. Again after a failure: goes on. */
  split(tenantId: TenantId, plan: SplitPlan): Promise<TenantStatus[]> {
    return this.#serial(tenantId, async () => {
      const { storage, log } = this.#env;
      const parent = this.#tenants.get(tenantId);
      await prepareSplit(storage, tenantId, plan, async () => {
        if (parent === undefined) throw new StorageError('not-found', `tenant ${tenantId} does not exist here`);
        this.#tenants.delete(tenantId);
        await parent.stop(DETACH_FLUSH_MS);
        return parent.manifest;
      }).catch(async (error: unknown) => {
        const last = await readManifest(storage.objectStore, tenantId).catch(() => null);
        if (parent !== undefined && last?.splitInto === undefined) await this.#attach(tenantId, 0);
        throw error;
      });
      log.info({ tenant: tenantId, shards: plan.count }, 'split tenant');
      const children: TenantStatus[] = [];
      for (const id of shardIds(tenantId, plan.count)) children.push(await this.attach(id, 0));
      return children;
    });
  }

  /** Attaches a tenant of the object store. `generation` 0 = one more than the last. Attached already: as it is. */
  attach(tenantId: TenantId, generation: number): Promise<TenantStatus> {
    return this.#serial(tenantId, async () => {
      const attached = this.#tenants.get(tenantId);
      if (attached !== undefined && generation <= attached.manifest.generation) return attached.status();
      if (attached !== undefined) await this.#detach(attached);
      return (await this.#attach(tenantId, generation)).status();
    });
  }

  /** Attaches a tenant, or creates it when the object store does not know it. */
  async attachOrCreate(tenantId: TenantId, generation: number): Promise<void> {
    try {
      await this.attach(tenantId, generation);
    } catch (error) {
      if (errorKind(error) !== 'not-found') throw error;
      await this.create(tenantId);
    }
  }

  /** Flushes and forgets a tenant; its data stays in the object store. */
  detach(tenantId: TenantId): Promise<void> {
    return this.#serial(tenantId, async () => {
      const tenant = this.#tenants.get(tenantId);
      if (tenant !== undefined) await this.#detach(tenant);
    });
  }

  /** False when it did not exist. */
  delete(tenantId: TenantId): Promise<boolean> {
    return this.#serial(tenantId, async () => {
      const { objectStore } = this.#env.storage;
      const manifest = await readManifest(objectStore, tenantId);
      const tenant = this.#tenants.get(tenantId);
      if (manifest === null && tenant === undefined) return false;
      if (manifest?.splitInto !== undefined) await refuseWhileShardsExist(objectStore, manifest);
      if (manifest !== null) await writeManifest(objectStore, { ...manifest, deletedAtMs: Date.now() });
      this.#tenants.delete(tenantId);
      await tenant?.stop(0);
      await this.#removeObjects(tenantId);
      this.#env.log.info({ tenant: tenantId }, 'deleted tenant');
      return true;
    });
  }

  async createTimeline(
    ttid: TenantTimelineId,
    origin: TimelineOrigin,
    signal?: AbortSignal,
  ): Promise<{ timeline: ActiveTimeline; created: boolean }> {
    return this.#tenant(ttid.tenantId).createTimeline(ttid.timelineId, origin, signal);
  }

  /** A root timeline from a base backup. Durable in the object store when it resolves. */
  async importTimeline(
    ttid: TenantTimelineId,
    source: ImportSource,
    options: { readonly progress: ImportProgress; readonly signal: AbortSignal },
  ): Promise<ActiveTimeline> {
    return this.#tenant(ttid.tenantId).importTimeline(ttid.timelineId, source, options);
  }

  /** False when it did not exist. */
  async deleteTimeline(ttid: TenantTimelineId): Promise<boolean> {
    return this.#tenant(ttid.tenantId).deleteTimeline(ttid.timelineId);
  }

  /** A new branch of what a branch has as ancestor. Throws StorageError `precondition` for a timeline without one. */
  async resetBranch(
    ttid: TenantTimelineId,
    { successor, lsn, signal }: { successor: TenantTimelineId; lsn: Lsn; signal?: AbortSignal },
  ): Promise<ActiveTimeline> {
    const { ancestor } = this.find(ttid).store;
    if (ancestor === null) throw new StorageError('precondition', `timeline ${formatTtid(ttid)} is no branch`);
    const origin = { kind: 'branch', ancestorId: ancestor.timelineId, lsn } as const;
    return (await this.createTimeline(successor, origin, signal)).timeline;
  }

  async detachAncestor(ttid: TenantTimelineId, signal: AbortSignal): Promise<DetachResult> {
    return this.#tenant(ttid.tenantId).detachAncestor(ttid.timelineId, signal);
  }

  /** Flushes (for at most flushTimeoutMs a timeline) and closes everything. */
  async stop(flushTimeoutMs: number): Promise<void> {
    this.#isStopping = true;
    await Promise.all([...this.#changes.values()].map((queue) => queue.run(() => Promise.resolve())));
    await forEachLimited([...this.#tenants.values()], PARALLEL, (tenant) => tenant.stop(flushTimeoutMs));
  }

  #tenant(tenantId: TenantId): Tenant {
    const tenant = this.#tenants.get(tenantId) ?? this.#shardOfBareId(tenantId);
    if (tenant !== undefined) return tenant;
    throw new StorageError('not-found', `tenant ${tenantId} does not exist here`);
  }

  /** A bare tenant id means shard 0, which knows most, or the one shard that is here. */
  #shardOfBareId(tenantId: TenantId): Tenant | undefined {
    const shards = [...this.#tenants.values()].filter(({ id }) => bareTenantId(id) === tenantId);
    const first = shards.find(({ id }) => shardOfId(id).number === 0);
    if (first !== undefined || shards.length < 2) return first ?? shards[0];
    throw new StorageError('invalid', `tenant ${tenantId} has several shards here; name one, as in ${shards[0]?.id}`);
  }

  #serial<T>(tenantId: TenantId, act: () => Promise<T>): Promise<T> {
    if (this.#isStopping) return Promise.reject(new StorageError('unavailable', 'the page server is stopping'));
    const queue = this.#changes.get(tenantId) ?? new SerialQueue();
    this.#changes.set(tenantId, queue);
    return queue.run(act).finally(() => {
      if (queue.isIdle && this.#changes.get(tenantId) === queue) this.#changes.delete(tenantId);
    });
  }

  /** At the start: not what another page server has, was detached, or goes on as shards. */
  async #attachOwn(tenantId: TenantId): Promise<void> {
    const { storage, nodeId, log } = this.#env;
    const last = await readManifest(storage.objectStore, tenantId);
    const isOthers = last?.nodeId !== undefined && last.nodeId !== nodeId;
    if (last !== null && last.deletedAtMs === null && (isOthers || last.splitInto !== undefined)) {
      log.debug({ tenant: tenantId, node: last.nodeId, splitInto: last.splitInto }, 'left a tenant alone');
      return;
    }
    await this.#attach(tenantId, 0);
  }

  async #attach(tenantId: TenantId, generation: number): Promise<Tenant> {
    const { storage, log } = this.#env;
    const last = await readManifest(storage.objectStore, tenantId);
    if (last === null) throw new StorageError('not-found', `tenant ${tenantId} is not in the object store`);
    if (last.deletedAtMs !== null) {
      await this.#removeObjects(tenantId);
      throw new StorageError('not-found', `tenant ${tenantId} was deleted`);
    }
    if (last.splitInto !== undefined) {
      throw new StorageError('precondition', `tenant ${tenantId} was split into ${last.splitInto} shards`);
    }
    if (generation !== 0 && generation < last.generation) {
      throw new StorageError(
        'fenced',
        `tenant ${tenantId} is at generation ${last.generation} already, not ${generation}`,
      );
    }
    const { nodeId } = this.#env;
    const manifest = { ...last, nodeId, generation: generation === 0 ? last.generation + 1 : generation };
    await writeManifest(storage.objectStore, manifest);
    const tenant = await Tenant.load(manifest, this.#env);
    this.#tenants.set(tenantId, tenant);
    log.info(
      { tenant: tenantId, generation: manifest.generation, timelines: tenant.timelines.size },
      'attached tenant',
    );
    return tenant;
  }

  async #detach(tenant: Tenant): Promise<void> {
    this.#tenants.delete(tenant.id);
    await tenant.stop(DETACH_FLUSH_MS);
    const { objectStore } = this.#env.storage;
    const last = await readManifest(objectStore, tenant.id);
    // Unless somebody else has attached it meanwhile.
    const isOurs = last?.generation === tenant.manifest.generation && last.nodeId === this.#env.nodeId;
    if (isOurs) await writeManifest(objectStore, { ...last, nodeId: 0 });
    this.#env.log.info({ tenant: tenant.id }, 'detached tenant');
  }

  /** The manifest, with its mark, goes last: an interrupted deletion is finished at the next start. */
  async #removeObjects(tenantId: TenantId): Promise<void> {
    const { storage, log } = this.#env;
    try {
      for (const timelineId of await listTimelineIds(storage.objectStore, tenantId)) {
        await removeTimeline(storage, { tenantId, timelineId });
      }
      await removeTenantConfig(storage.objectStore, tenantId);
      await removeManifest(storage.objectStore, tenantId);
    } catch (error) {
      log.warn({ tenant: tenantId, reason: errorText(error) }, 'could not remove all objects of a tenant');
    }
  }
}

/** WAL that is not flushed by then is received again by whoever attaches the tenant next. */
const DETACH_FLUSH_MS = 30_000;
