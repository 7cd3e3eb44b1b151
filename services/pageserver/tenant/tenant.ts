/**
 * One attached tenant: its timelines, loaded ancestors first. Owns which timelines exist; changes to that run one after the other,
 * reads never wait for them.
 */
import { errorKind, errorText, StorageError } from '#shared/core/errors.js';
import type { TenantId, TimelineId, TenantTimelineId } from '#shared/core/ids.js';
import { formatTtid, parseTimelineId } from '#shared/core/ids.js';
import type { Lsn } from '#shared/core/lsn.js';
import { alignLsn, formatLsn, INVALID_LSN } from '#shared/core/lsn.js';
import { normalizeLsn } from '#shared/postgres/wal-layout.js';
import type { SettingsRef, TenantOverrides, TenantSettings } from '../core/storage/tenant-settings.js';
import { resolveSettings } from '../core/storage/tenant-settings.js';
import { removeUnknownDirs } from '../io/local-dirs.js';
import type { StorageEnv } from '../io/storage-env.js';
import {
  createBranch,
  listTimelines,
  loadIndex,
  loadTimeline,
  markTimelineDeleted,
  removeTimeline,
} from '../io/tenant-storage.js';
import type { TimelineEnv } from './active-timeline.js';
import { ActiveTimeline } from './active-timeline.js';
import { bootstrapTimeline } from './bootstrap.js';
import type { DetachHost, DetachResult } from './detach.js';
import { detachAncestor } from './detach.js';
import { ImportSlots } from './import-slots.js';
import type { ImportProgress, ImportSource } from './import-timeline.js';
import type { Manifest } from './manifest.js';
import { shardOf } from './manifest.js';
import { SerialQueue } from './serial-queue.js';
import { checkOverrides, readTenantConfig, writeTenantConfig } from './tenant-config.js';
import type { TenantStatus, TimelineOrigin } from './timeline-status.js';

export interface TenantEnv extends TimelineEnv {
  readonly storage: StorageEnv;
  /** Of this page server. */
  readonly nodeId: number;
  /** Tar of the data directory that new root timelines begin with; null = they cannot be made here. */
  readonly initdbImage: string | null;
  /** How long a branch at an LSN of the future waits for it. */
  readonly waitLsnTimeoutMs: number;
}

const PG_MAJOR = 15;
/** WAL that is not flushed by then comes again from the safekeepers. */
const RELOAD_FLUSH_MS = 30_000;
const FINISHED_DELETION = 'finished the deletion of a timeline';

export class Tenant {
  readonly id: TenantId;
  readonly manifest: Manifest;
  readonly timelines = new Map<TimelineId, ActiveTimeline>();
  readonly #env: TenantEnv;
  readonly #changes = new SerialQueue();
  readonly #imports = new ImportSlots();
  readonly #settings: SettingsRef;
  #overrides: TenantOverrides;
  #isStopping = false;

  private constructor(manifest: Manifest, env: TenantEnv, overrides: TenantOverrides) {
    this.id = manifest.tenantId;
    this.manifest = manifest;
    this.#env = env;
    this.#overrides = overrides;
    this.#settings = { current: resolveSettings(env.storage.limits, overrides), shard: shardOf(manifest) };
  }

  /**
   * Loads all timelines from the object store and finishes deletions that were interrupted. `readUpTo`: the highest generation whose
   * indexes count.
   */
  static async load(manifest: Manifest, env: TenantEnv, readUpTo = manifest.generation): Promise<Tenant> {
    const { generation, tenantId } = manifest;
    const tenant = new Tenant(manifest, env, await readTenantConfig(env.storage.objectStore, tenantId));
    const settings = tenant.#settings;
    try {
      for (const { timelineId, index } of await listTimelines(env.storage.objectStore, tenantId, readUpTo)) {
        if (index.deletedAtMs !== null || index.isImporting === true) {
          // Left to the newer attachment by a stale one.
          if (!(await removedOrFenced(env.storage, index.ttid))) continue;
          const what = index.deletedAtMs === null ? 'removed an import that was broken off' : FINISHED_DELETION;
          env.log.info({ tenant: tenantId, timeline: timelineId }, what);
          continue;
        }
        const parent = index.ancestor === null ? null : tenant.#parentOf(index.ttid, index.ancestor.timelineId);
        const store = await loadTimeline(env.storage, index, { generation, parent, settings });
        tenant.timelines.set(timelineId, new ActiveTimeline(store, env));
      }
      await removeUnknownDirs(env.storage, tenantId, (timelineId) => tenant.timelines.has(timelineId));
    } catch (error) {
      await tenant.stop(0);
      throw error;
    }
    return tenant;
  }

  status(): Omit<TenantStatus, 'mode'> {
    const { generation } = this.manifest;
    return { tenantId: this.id, shard: shardOf(this.manifest), generation, timelineCount: this.timelines.size };
  }

  get overrides(): TenantOverrides {
    return this.#overrides;
  }

  get settings(): TenantSettings {
    return this.#settings.current;
  }

  /** Replaces all that was set. In force for all timelines when it resolves. Throws StorageError `invalid`. */
  setOverrides(overrides: TenantOverrides): Promise<TenantSettings> {
    checkOverrides(overrides);
    return this.#changes.run(async () => {
      this.#refuseWhenStopping();
      const { objectStore, limits } = this.#env.storage;
      await writeTenantConfig(objectStore, this.id, overrides);
      this.#overrides = overrides;
      this.#settings.current = resolveSettings(limits, overrides);
      this.#env.log.info({ tenant: this.id, settings: overrides }, 'changed tenant settings');
      return this.settings;
    });
  }

  find(timelineId: TimelineId): ActiveTimeline {
    const timeline = this.timelines.get(timelineId);
    if (timeline !== undefined) return timeline;
    throw new StorageError('not-found', `timeline ${this.id}/${timelineId} does not exist here`);
  }

  /** Durable in the object store when it resolves. Asking again for the same gives what is there. */
  async createTimeline(
    timelineId: TimelineId,
    origin: TimelineOrigin,
    signal?: AbortSignal,
  ): Promise<{ timeline: ActiveTimeline; created: boolean }> {
    if (origin.kind === 'branch') await this.#waitForBranchPoint(timelineId, origin, signal);
    return this.#changes.run(async () => {
      this.#refuseWhenStopping();
      this.#imports.refuse(timelineId);
      const existing = this.timelines.get(timelineId);
      if (existing !== undefined) {
        checkSameOrigin(existing, origin);
        return { timeline: existing, created: false };
      }
      const store =
        origin.kind === 'bootstrap'
          ? await this.#bootstrap(timelineId, origin)
          : await this.#branch(timelineId, origin);
      const timeline = new ActiveTimeline(store, this.#env);
      this.timelines.set(timelineId, timeline);
      await timeline.whenOpen();
      this.#env.log.info(
        { tenant: this.id, timeline: timelineId, from: origin.kind, lsn: formatLsn(store.lastRecordLsn) },
        'created timeline',
      );
      return { timeline, created: true };
    });
  }

  /** Durable when it resolves. Other changes of the tenant go on meanwhile. */
  async importTimeline(
    timelineId: TimelineId,
    source: ImportSource,
    options: { readonly progress: ImportProgress; readonly signal: AbortSignal },
  ): Promise<ActiveTimeline> {
    const refuseExisting = (): void => {
      this.#refuseWhenStopping();
      if (!this.timelines.has(timelineId)) return;
      throw new StorageError('already-exists', `timeline ${this.id}/${timelineId} exists already`);
    };
    refuseExisting();
    const { number, count } = shardOf(this.manifest);
    if (count > 1) {
      const which = `tenant ${this.id} is shard ${number} of ${count}`;
      throw new StorageError('precondition', `${which}; import into a tenant without shards, and split that`);
    }
    const { generation, systemId } = this.manifest;
    const { storage } = this.#env;
    const target = { storage, ttid: { tenantId: this.id, timelineId }, generation, systemId, settings: this.#settings };
    return this.#imports.run(target, source, options, (store) => {
      refuseExisting();
      const timeline = new ActiveTimeline(store, this.#env);
      this.timelines.set(timelineId, timeline);
      return timeline;
    });
  }

  /** False when there is no such timeline. `precondition` while it has branches. */
  deleteTimeline(timelineId: TimelineId): Promise<boolean> {
    return this.#changes.run(async () => {
      this.#refuseWhenStopping();
      const timeline = this.timelines.get(timelineId);
      if (timeline === undefined) return false;
      const branch = [...this.timelines.values()].find(({ store }) => store.ancestor?.timelineId === timelineId);
      if (branch !== undefined) {
        throw new StorageError('precondition', `timeline ${timelineId} has a branch, ${branch.ttid.timelineId}`);
      }
      await this.#delete(timeline);
      return true;
    });
  }

  /** Makes a branch independent of its ancestor. Again: finishes what was broken off. Throws StorageError `precondition` for none. */
  async detachAncestor(timelineId: TimelineId, signal: AbortSignal): Promise<DetachResult> {
    this.#refuseWhenStopping();
    const host: DetachHost = {
      storage: this.#env.storage,
      generation: this.manifest.generation,
      timelines: this.timelines,
      find: (id) => this.find(id),
      exclusively: (act) =>
        this.#changes.run(() => {
          this.#refuseWhenStopping();
          return act();
        }),
      reloadAround: (timelines, change) => this.#reloadAround(timelines, change),
    };
    const result = await detachAncestor(host, timelineId, signal);
    const { detachedFrom, reparented } = result;
    this.#env.log.info({ tenant: this.id, timeline: timelineId, detachedFrom, reparented }, 'detached from ancestor');
    return result;
  }

  async #reloadAround(timelines: readonly ActiveTimeline[], change: () => Promise<void>): Promise<void> {
    await Promise.all(timelines.map((timeline) => timeline.stop(RELOAD_FLUSH_MS)));
    try {
      await change();
    } finally {
      const closed = new Map(timelines.map((timeline) => [timeline.ttid.timelineId, timeline]));
      const { storage } = this.#env;
      for (const { timelineId, index } of await listTimelines(storage.objectStore, this.id, this.manifest.generation)) {
        if (closed.has(timelineId)) await this.#reload(index.ttid);
      }
    }
  }

  /** Closes all timelines, branches first. */
  async stop(flushTimeoutMs: number): Promise<void> {
    this.#isStopping = true;
    await this.#imports.stop();
    await this.#changes.run(async () => {
      await Promise.all([...this.timelines.values()].map((timeline) => timeline.stop(flushTimeoutMs)));
      this.timelines.clear();
    });
  }

  #refuseWhenStopping(): void {
    if (this.#isStopping) throw new StorageError('unavailable', `tenant ${this.id} is stopping`);
  }

  #parentOf(ttid: TenantTimelineId, ancestorId: string): ActiveTimeline['store'] {
    const parent = this.timelines.get(parseTimelineId(ancestorId));
    if (parent !== undefined) return parent.store;
    throw new StorageError(
      'corrupt',
      `timeline ${formatTtid(ttid)} needs its ancestor ${ancestorId}, which was deleted`,
    );
  }

  #bootstrap(timelineId: TimelineId, origin: Extract<TimelineOrigin, { kind: 'bootstrap' }>) {
    checkPgMajor(origin.pgMajor);
    const { storage, initdbImage } = this.#env;
    if (initdbImage === null) {
      throw new StorageError('precondition', 'this page server was started without --initdb-image');
    }
    const { generation, systemId } = this.manifest;
    return bootstrapTimeline(storage, {
      ttid: { tenantId: this.id, timelineId },
      generation,
      systemId,
      initdbImage,
      settings: this.#settings,
    });
  }

  async #waitForBranchPoint(
    timelineId: TimelineId,
    origin: Extract<TimelineOrigin, { kind: 'branch' }>,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    if (this.timelines.has(timelineId) || origin.lsn === INVALID_LSN) return;
    const ancestor = this.find(parseTimelineId(origin.ancestorId));
    await ancestor.reader.waitLsn(branchPoint(ancestor, origin.lsn), this.#env.waitLsnTimeoutMs, signal);
  }

  #branch(timelineId: TimelineId, origin: Extract<TimelineOrigin, { kind: 'branch' }>) {
    const ancestor = this.find(parseTimelineId(origin.ancestorId));
    const { generation } = this.manifest;
    return createBranch(this.#env.storage, ancestor.store, {
      timelineId,
      at: branchPoint(ancestor, origin.lsn),
      generation,
      settings: this.#settings,
    });
  }

  async #delete(timeline: ActiveTimeline): Promise<void> {
    const { storage, log } = this.#env;
    const { ttid } = timeline;
    const { generation } = this.manifest;
    this.timelines.delete(ttid.timelineId);
    await timeline.stop(0);
    try {
      await markTimelineDeleted(storage, ttid, { generation, nowMs: Date.now() });
    } catch (error) {
      await this.#reload(ttid);
      throw error;
    }
    timeline.store.parent?.source.history.removeBranch(ttid.timelineId);
    log.info({ tenant: this.id, timeline: ttid.timelineId }, 'deleted timeline');
    // From here on it is gone for everybody; what is left over is removed by the next load.
    await removeTimeline(storage, ttid).catch((error: unknown) =>
      log.warn({ timeline: ttid.timelineId, reason: errorText(error) }, 'could not remove all objects of a timeline'),
    );
  }

  /** A timeline that was stopped for a change of its index, or for a deletion that could not begin. */
  async #reload(ttid: TenantTimelineId): Promise<void> {
    const { generation } = this.manifest;
    const found = await loadIndex(this.#env.storage.objectStore, ttid, generation);
    if (found === null || found.index.deletedAtMs !== null) return;
    const { index } = found;
    const parent = index.ancestor === null ? null : this.#parentOf(ttid, index.ancestor.timelineId);
    const store = await loadTimeline(this.#env.storage, index, { generation, parent, settings: this.#settings });
    this.timelines.set(ttid.timelineId, new ActiveTimeline(store, this.#env));
  }
}

async function removedOrFenced(storage: StorageEnv, ttid: TenantTimelineId): Promise<boolean> {
  try {
    await removeTimeline(storage, ttid);
    return true;
  } catch (error) {
    if (errorKind(error) !== 'fenced') throw error;
    return false;
  }
}

/** Where a compute's WAL may begin: a record starts at multiples of 8, and never inside a page header. 0 = the head. */
function branchPoint(ancestor: ActiveTimeline, lsn: Lsn): Lsn {
  const { store } = ancestor;
  return lsn === INVALID_LSN ? store.lastRecordLsn : normalizeLsn(alignLsn(lsn), store.segSize);
}

function checkPgMajor(pgMajor: number): void {
  if (pgMajor === 0 || pgMajor === PG_MAJOR) return;
  throw new StorageError(
    'unimplemented',
    `PostgreSQL ${pgMajor} is not supported; this page server makes timelines of ${PG_MAJOR}`,
  );
}

/** Throws StorageError `already-exists` unless the timeline began as `origin` says. */
function checkSameOrigin(timeline: ActiveTimeline, origin: TimelineOrigin): void {
  const { ancestor } = timeline.store;
  const text = `timeline ${formatTtid(timeline.ttid)} exists already`;
  if (origin.kind === 'bootstrap') {
    if (ancestor !== null) throw new StorageError('already-exists', `${text}, as a branch of ${ancestor.timelineId}`);
    checkPgMajor(origin.pgMajor);
    return;
  }
  if (ancestor === null) throw new StorageError('already-exists', `${text}, and is no branch`);
  const isSame =
    ancestor.timelineId === parseTimelineId(origin.ancestorId) &&
    (origin.lsn === INVALID_LSN || branchPoint(timeline, origin.lsn) === ancestor.lsn);
  if (isSame) return;
  throw new StorageError(
    'already-exists',
    `${text}, as a branch of ${ancestor.timelineId} at ${formatLsn(ancestor.lsn)}`,
  );
}
