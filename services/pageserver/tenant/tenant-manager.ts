/**
 * All tenants attached to this page server. Everything is found again from the object store; the local directory is a cache.
 */
import { errorKind, errorText, StorageError } from '#shared/core/errors.js';
import type { TenantId, TenantTimelineId } from '#shared/core/ids.js';
import { listTenantIds, listTimelineIds, removeTimeline } from '../io/tenant-storage.js';
import type { TenantOverrides, TenantSettings } from '../core/storage/tenant-settings.js';
import type { ActiveTimeline } from './active-timeline.js';
import type { ImportProgress, ImportSource } from './import-timeline.js';
import type { Manifest } from './manifest.js';
import { readManifest, removeManifest, writeManifest } from './manifest.js';
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

  /** Attaches every tenant of the object store. One that cannot be loaded is left out, with an error in the log. */
  async start(): Promise<void> {
    const { objectStore } = this.#env.storage;
    await forEachLimited(await listTenantIds(objectStore), PARALLEL, async (tenantId) => {
      try {
        await this.#serial(tenantId, () => this.#attach(tenantId, 0));
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

  /** False when it existed. */
  create(tenantId: TenantId): Promise<boolean> {
    return this.#serial(tenantId, async () => {
      if (this.#tenants.has(tenantId)) return false;
      const { storage, log } = this.#env;
      if ((await readManifest(storage.objectStore, tenantId)) !== null) {
        await this.#attach(tenantId, 0);
        return false;
      }
      const systemId = makeSystemId(Date.now(), this.#random);
      const manifest: Manifest = { tenantId, systemId, generation: 1, deletedAtMs: null };
      await writeManifest(storage.objectStore, manifest);
      this.#tenants.set(tenantId, await Tenant.load(manifest, this.#env));
      log.info({ tenant: tenantId }, 'created tenant');
      return true;
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

  /** Flushes (for at most flushTimeoutMs a timeline) and closes everything. */
  async stop(flushTimeoutMs: number): Promise<void> {
    this.#isStopping = true;
    await Promise.all([...this.#changes.values()].map((queue) => queue.run(() => Promise.resolve())));
    await forEachLimited([...this.#tenants.values()], PARALLEL, (tenant) => tenant.stop(flushTimeoutMs));
  }

  #tenant(tenantId: TenantId): Tenant {
    const tenant = this.#tenants.get(tenantId);
    if (tenant !== undefined) return tenant;
    throw new StorageError('not-found', `tenant ${tenantId} does not exist here`);
  }

  #serial<T>(tenantId: TenantId, act: () => Promise<T>): Promise<T> {
    if (this.#isStopping) return Promise.reject(new StorageError('unavailable', 'the page server is stopping'));
    const queue = this.#changes.get(tenantId) ?? new SerialQueue();
    this.#changes.set(tenantId, queue);
    return queue.run(act).finally(() => {
      if (queue.isIdle && this.#changes.get(tenantId) === queue) this.#changes.delete(tenantId);
    });
  }

  async #attach(tenantId: TenantId, generation: number): Promise<Tenant> {
    const { storage, log } = this.#env;
    const last = await readManifest(storage.objectStore, tenantId);
    if (last === null) throw new StorageError('not-found', `tenant ${tenantId} is not in the object store`);
    if (last.deletedAtMs !== null) {
      await this.#removeObjects(tenantId);
      throw new StorageError('not-found', `tenant ${tenantId} was deleted`);
    }
    if (generation !== 0 && generation < last.generation) {
      throw new StorageError(
        'fenced',
        `tenant ${tenantId} is at generation ${last.generation} already, not ${generation}`,
      );
    }
    const manifest = { ...last, generation: generation === 0 ? last.generation + 1 : generation };
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
