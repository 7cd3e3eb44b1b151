/**
 * All tenants that this page server has to do with: attached ones, and secondary ones. Everything is found again from the object store;
 * the local directory is a cache.
 *
 * At a start a tenant is what it was here before (location.ts), unless another node has claimed it since: then it comes up as stale. One
 * that nothing is known of is attached unless another node holds it.
 */
import { AssertionFailure } from '#shared/core/assert.js';
import { errorKind, errorText, StorageError } from '#shared/core/errors.js';
import type { TenantId, TenantTimelineId } from '#shared/core/ids.js';
import type { AttachMode } from '../io/tenant-gate.js';
import { formatTtid } from '#shared/core/ids.js';
import type { Lsn } from '#shared/core/lsn.js';
import { bareTenantId, checkShards, DEFAULT_STRIPE_BLOCKS, shardId, shardOfId } from '#shared/core/shard.js';
import { listTenantIds, listTimelineIds, removeTimeline } from '../io/tenant-storage.js';
import type { TenantOverrides, TenantSettings } from '../core/storage/tenant-settings.js';
import type { ActiveTimeline } from './active-timeline.js';
import type { DetachResult } from './detach.js';
import type { ImportProgress, ImportSource } from './import-timeline.js';
import type { Attached } from './attach.js';
import { attachTenant } from './attach.js';
import { claimGeneration, newestClaim, removeAllClaims } from './generations.js';
import type { Location, LocationMode } from './location.js';
import { readLocation, removeTenantDir, writeLocation } from './location.js';
import type { Manifest } from './manifest.js';
import { createManifest, readManifest, removeManifest, writeManifest } from './manifest.js';
import type { SecondaryProgress } from './secondary.js';
import { SecondaryTenant } from './secondary.js';
import type { SplitPlan } from './shard-split.js';
import { prepareSplit, refuseWhileShardsExist, shardIds } from './shard-split.js';
import { forEachLimited, SerialQueue } from './serial-queue.js';
import { makeSystemId } from './system-id.js';
import type { Tenant, TenantEnv } from './tenant.js';
import { removeTenantConfig } from './tenant-config.js';
import type { TenantStatus, TimelineOrigin } from './timeline-status.js';

/** Tenants loaded, stopped at once. */
const PARALLEL = 8;
/** WAL that is not flushed by then is received again by whoever attaches the tenant next. */
const DETACH_FLUSH_MS = 30_000;

const MODES: Readonly<Partial<Record<LocationMode, AttachMode>>> = {
  'attached-single': 'single',
  'attached-multi': 'multi',
  'attached-stale': 'stale',
};

export interface TenantManagerOptions {
  readonly nodeId: number;
  /** A number in [0, 2^12). */
  readonly random: () => number;
  /** Between looks of a secondary tenant for new layers. */
  readonly secondaryPeriodMs: number;
  /** all: also what other nodes have claimed. */
  readonly attachAtStart: 'ours' | 'all';
}

export class TenantManager {
  readonly #env: TenantEnv;
  readonly #options: TenantManagerOptions;
  readonly #tenants = new Map<TenantId, Attached>();
  readonly #secondaries = new Map<TenantId, SecondaryTenant>();
  /** Attach, create and delete of one tenant must not overlap. */
  readonly #changes = new Map<TenantId, SerialQueue>();
  #isStopping = false;

  constructor(env: TenantEnv, options: TenantManagerOptions) {
    this.#env = env;
    this.#options = options;
  }

  /** Takes up every tenant of the object store that is ours. One that cannot be loaded is left out, with an error in the log. */
  async start(): Promise<void> {
    const { objectStore } = this.#env.storage;
    await forEachLimited(await listTenantIds(objectStore), PARALLEL, async (tenantId) => {
      try {
        await this.#serial(tenantId, () => this.#restore(tenantId));
      } catch (error) {
        if (errorKind(error) === 'not-found') return;
        this.#env.log.error({ tenant: tenantId, err: error }, 'could not attach a tenant');
      }
    });
  }

  list(): TenantStatus[] {
    return [...this.#tenants.keys()]
      .map((tenantId) => this.status(tenantId))
      .sort((a, b) => (a.tenantId < b.tenantId ? -1 : 1));
  }

  get timelineCount(): number {
    let count = 0;
    for (const { tenant } of this.#tenants.values()) count += tenant.timelines.size;
    return count;
  }

  *timelines(): Generator<ActiveTimeline> {
    for (const { tenant } of this.#tenants.values()) yield* tenant.timelines.values();
  }

  status(tenantId: TenantId): TenantStatus {
    return { ...this.#tenant(tenantId).status(), mode: this.location(tenantId).mode };
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
  create(tenantId: TenantId, stripeBlocks = DEFAULT_STRIPE_BLOCKS, generation = 0): Promise<boolean> {
    return this.#serial(tenantId, async () => {
      if (this.#tenants.has(tenantId)) return false;
      checkShards(shardOfId(tenantId).count, stripeBlocks);
      const { storage, log } = this.#env;
      const former = await readManifest(storage.objectStore, tenantId);
      if (former !== null && former.deletedAtMs !== null) await this.#removeObjects(tenantId);
      const systemId = (await this.#systemIdOfShards(tenantId)) ?? makeSystemId(Date.now(), this.#options.random);
      const manifest: Manifest = { tenantId, systemId, generation: 0, deletedAtMs: null, stripeBlocks };
      const isNew = await createManifest(storage.objectStore, manifest);
      if (isNew) log.info({ tenant: tenantId }, 'created tenant');
      await this.#attach(tenantId, { mode: 'attached-single', generation });
      return isNew;
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
        await parent.tenant.stop(DETACH_FLUSH_MS);
        return parent.tenant.manifest;
      }).catch(async (error: unknown) => {
        const last = await readManifest(storage.objectStore, tenantId).catch(() => null);
        const again = { mode: 'attached-single', generation: 0 } as const;
        if (parent !== undefined && last?.splitInto === undefined) await this.#attach(tenantId, again);
        throw error;
      });
      log.info({ tenant: tenantId, shards: plan.count }, 'split tenant');
      const children: TenantStatus[] = [];
      for (const id of shardIds(tenantId, plan.count)) children.push(await this.attach(id, 0));
      return children;
    });
  }

  /** Attaches a tenant of the object store. `generation` 0 = one more than the last. Attached already: as it is. */
  async attach(tenantId: TenantId, generation: number): Promise<TenantStatus> {
    await this.setLocation(tenantId, { mode: 'attached-single', generation });
    return this.status(tenantId);
  }

  /** Attaches a tenant, or creates it when the object store does not know it. */
  async attachOrCreate(tenantId: TenantId, location: Location): Promise<void> {
    try {
      await this.setLocation(tenantId, location);
    } catch (error) {
      if (errorKind(error) !== 'not-found' || location.mode !== 'attached-single') throw error;
      await this.create(tenantId, DEFAULT_STRIPE_BLOCKS, location.generation);
    }
  }

  /** Flushes and forgets a tenant; its data stays in the object store. */
  async detach(tenantId: TenantId): Promise<void> {
    await this.setLocation(tenantId, { mode: 'detached', generation: 0 });
  }

  /** What this page server is to a tenant now. */
  location(tenantId: TenantId): Location {
    const attached = this.#tenants.get(tenantId);
    if (attached === undefined)
      return { mode: this.#secondaries.has(tenantId) ? 'secondary' : 'detached', generation: 0 };
    const { tenant, gate } = attached;
    return { mode: `attached-${gate.isFenced ? 'stale' : gate.mode}`, generation: tenant.manifest.generation };
  }

  /** Attached and secondary tenants, sorted by id. */
  locations(): Array<{ readonly tenantId: TenantId; readonly location: Location }> {
    const ids = [...this.#tenants.keys(), ...this.#secondaries.keys()].sort();
    return ids.map((tenantId) => ({ tenantId, location: this.location(tenantId) }));
  }

  /** In force, and remembered over a restart, when it resolves. Asking again for the same changes nothing. */
  setLocation(tenantId: TenantId, wanted: Location): Promise<Location> {
    return this.#serial(tenantId, async () => {
      if (wanted.mode === 'detached') await this.#leave(tenantId);
      else if (wanted.mode === 'secondary') await this.#becomeSecondary(tenantId);
      else await this.#become(tenantId, wanted);
      const location = this.location(tenantId);
      await writeLocation(this.#env.storage.workDir, tenantId, location);
      return location;
    });
  }

  /** Brings a secondary tenant up to date now. */
  async downloadSecondary(tenantId: TenantId): Promise<SecondaryProgress> {
    return this.#secondary(tenantId).download();
  }

  secondaryProgress(tenantId: TenantId): SecondaryProgress {
    return this.#secondary(tenantId).progress;
  }

  /** False when it did not exist. */
  delete(tenantId: TenantId): Promise<boolean> {
    return this.#serial(tenantId, async () => {
      const { storage, log } = this.#env;
      const { objectStore } = storage;
      const manifest = await readManifest(objectStore, tenantId);
      const attached = this.#tenants.get(tenantId);
      if (manifest === null && attached === undefined) return false;
      if (manifest?.splitInto !== undefined) await refuseWhileShardsExist(objectStore, manifest);
      if (manifest !== null && manifest.deletedAtMs === null) {
        // Whoever has it attached elsewhere writes nothing from here on.
        const { nodeId } = this.#options;
        const claim = { tenantId, nodeId, wanted: 0, above: manifest.generation, nowMs: Date.now() };
        await claimGeneration(objectStore, claim);
        await writeManifest(objectStore, { ...manifest, deletedAtMs: Date.now() });
      }
      this.#tenants.delete(tenantId);
      await attached?.tenant.stop(0);
      await this.#stopSecondary(tenantId);
      await this.#removeObjects(tenantId);
      log.info({ tenant: tenantId }, 'deleted tenant');
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
    await forEachLimited([...this.#secondaries.values()], PARALLEL, (secondary) => secondary.stop());
    await forEachLimited([...this.#tenants.values()], PARALLEL, ({ tenant }) => tenant.stop(flushTimeoutMs));
  }

  #tenant(tenantId: TenantId): Tenant {
    const attached = this.#tenants.get(tenantId) ?? this.#shardOfBareId(tenantId);
    if (attached !== undefined) return attached.tenant;
    const what = this.#secondaries.has(tenantId) ? 'is only kept as a secondary here' : 'does not exist here';
    throw new StorageError('not-found', `tenant ${tenantId} ${what}`);
  }

  #secondary(tenantId: TenantId): SecondaryTenant {
    const secondary = this.#secondaries.get(tenantId);
    if (secondary !== undefined) return secondary;
    throw new StorageError('not-found', `tenant ${tenantId} is no secondary here`);
  }

  /** A bare tenant id means shard 0, which knows most, or the one shard that is here. */
  #shardOfBareId(tenantId: TenantId): Attached | undefined {
    const shards = [...this.#tenants.values()].filter(({ tenant }) => bareTenantId(tenant.id) === tenantId);
    const first = shards.find(({ tenant }) => shardOfId(tenant.id).number === 0);
    if (first !== undefined || shards.length < 2) return first ?? shards[0];
    const example = shards[0]?.tenant.id;
    throw new StorageError('invalid', `tenant ${tenantId} has several shards here; name one, as in ${example}`);
  }

  #serial<T>(tenantId: TenantId, act: () => Promise<T>): Promise<T> {
    if (this.#isStopping) return Promise.reject(new StorageError('unavailable', 'the page server is stopping'));
    const queue = this.#changes.get(tenantId) ?? new SerialQueue();
    this.#changes.set(tenantId, queue);
    return queue.run(act).finally(() => {
      if (queue.isIdle && this.#changes.get(tenantId) === queue) this.#changes.delete(tenantId);
    });
  }

  /** At a start. */
  async #restore(tenantId: TenantId): Promise<void> {
    const { storage, log } = this.#env;
    const { objectStore, workDir } = storage;
    const manifest = await readManifest(objectStore, tenantId);
    if (manifest !== null && manifest.deletedAtMs !== null) return this.#removeObjects(tenantId);
    if (manifest?.splitInto !== undefined) return;
    const known = await readLocation(workDir, tenantId).catch((error: unknown) => {
      log.warn({ tenant: tenantId, reason: errorText(error) }, 'what this tenant was here is not known any more');
      return null;
    });
    if (known?.mode === 'detached') return;
    if (known?.mode === 'secondary') return this.#becomeSecondary(tenantId);
    const mode = known?.mode ?? 'attached-single';
    const claim = await newestClaim(objectStore, tenantId);
    const { nodeId, attachAtStart } = this.#options;
    // Shards of a split that is not finished: nobody's yet.
    if (claim === null && known === null && manifest?.nodeId === 0) return;
    if (claim === null || claim.nodeId === nodeId || attachAtStart === 'all') {
      // A stale attachment that nobody has superseded was made stale by order, and stays so.
      await this.#attach(tenantId, { mode, generation: mode === 'attached-stale' ? (known?.generation ?? 0) : 0 });
    } else if (known !== null) {
      log.warn(
        { tenant: tenantId, node: claim.nodeId, generation: claim.generation },
        'another node has this tenant now',
      );
      await this.#attach(tenantId, { mode: 'attached-stale', generation: known.generation });
    } else {
      log.info({ tenant: tenantId, node: claim.nodeId }, 'left a tenant to another node');
    }
  }

  async #become(tenantId: TenantId, wanted: Location): Promise<void> {
    const attached = this.#tenants.get(tenantId);
    const { generation: own, mode } = this.location(tenantId);
    if (attached === undefined) {
      await this.#stopSecondary(tenantId);
      await this.#attach(tenantId, wanted);
      return;
    }
    if (wanted.generation !== 0 && wanted.generation < own) {
      throw new StorageError('fenced', `tenant ${tenantId} is at generation ${own} already, not ${wanted.generation}`);
    }
    const isSame = wanted.generation === 0 || wanted.generation === own;
    if (isSame && wanted.mode === mode) return;
    const isReturn = mode === 'attached-stale';
    if (isSame && !isReturn) {
      attached.gate.mode = MODES[wanted.mode] ?? 'stale';
      return;
    }
    await this.#stopAttached(tenantId);
    try {
      await this.#attach(tenantId, wanted);
    } catch (error) {
      // Reads at least go on as they did.
      if (isReturn) await this.#attach(tenantId, { mode: 'attached-stale', generation: own });
      throw error;
    }
  }

  async #attach(tenantId: TenantId, location: Location): Promise<void> {
    const { storage } = this.#env;
    const mode = MODES[location.mode] ?? 'stale';
    const request = { tenantId, nodeId: this.#options.nodeId, mode, generation: location.generation };
    const attached = await attachTenant(this.#env, {
      ...request,
      onFenced: (error) => this.#onFenced(tenantId, error),
    });
    this.#tenants.set(tenantId, attached);
    await writeLocation(storage.workDir, tenantId, this.location(tenantId));
  }

  /** Reads go on; the safekeepers are told nothing more. */
  #onFenced(tenantId: TenantId, error: StorageError): void {
    const { log, storage } = this.#env;
    log.warn({ tenant: tenantId, reason: errorText(error) }, 'another page server has this tenant: it is stale here');
    void this.#serial(tenantId, async () => {
      const location = this.location(tenantId);
      if (location.mode === 'attached-stale') await writeLocation(storage.workDir, tenantId, location);
    }).catch((failure: unknown) => {
      if (failure instanceof AssertionFailure) throw failure;
      // The claim of the other one says the same at the next start.
    });
  }

  async #stopAttached(tenantId: TenantId): Promise<void> {
    const attached = this.#tenants.get(tenantId);
    if (attached === undefined) return;
    this.#tenants.delete(tenantId);
    const { gate, tenant } = attached;
    await tenant.stop(gate.isFenced || gate.mode === 'stale' ? 0 : DETACH_FLUSH_MS);
  }

  async #stopSecondary(tenantId: TenantId): Promise<void> {
    const secondary = this.#secondaries.get(tenantId);
    this.#secondaries.delete(tenantId);
    await secondary?.stop();
  }

  async #becomeSecondary(tenantId: TenantId): Promise<void> {
    if (this.#secondaries.has(tenantId)) return;
    const { storage, log } = this.#env;
    if ((await readManifest(storage.objectStore, tenantId)) === null) {
      throw new StorageError('not-found', `tenant ${tenantId} is not in the object store`);
    }
    await this.#stopAttached(tenantId);
    this.#secondaries.set(tenantId, new SecondaryTenant(tenantId, storage, this.#options.secondaryPeriodMs));
    log.info({ tenant: tenantId }, 'keeps a secondary tenant');
  }

  async #leave(tenantId: TenantId): Promise<void> {
    const isHere = this.#tenants.has(tenantId) || this.#secondaries.has(tenantId);
    await this.#stopAttached(tenantId);
    await this.#stopSecondary(tenantId);
    await removeTenantDir(this.#env.storage.workDir, tenantId);
    if (isHere) this.#env.log.info({ tenant: tenantId }, 'detached tenant');
  }

  /** The manifest, with its mark, goes last: an interrupted deletion is finished at the next start. */
  async #removeObjects(tenantId: TenantId): Promise<void> {
    const { storage, log } = this.#env;
    try {
      for (const timelineId of await listTimelineIds(storage.objectStore, tenantId)) {
        await removeTimeline(storage, { tenantId, timelineId });
      }
      await removeTenantConfig(storage.objectStore, tenantId);
      await removeAllClaims(storage.objectStore, tenantId);
      await removeManifest(storage.objectStore, tenantId);
      await removeTenantDir(storage.workDir, tenantId);
    } catch (error) {
      log.warn({ tenant: tenantId, reason: errorText(error) }, 'could not remove all objects of a tenant');
    }
  }
}
