/**
 * Timelines as objects: create, branch, load, list, delete. Everything a tenant consists of is found again from the object store alone.
 *
 * A timeline exists from the upload of its first index on. Deleting marks the index first, then removes the layers, and the index last,
 * so that an interrupted deletion is seen and finished later.
 */
import { rm } from 'node:fs/promises';
import { StorageError } from '#shared/core/errors.js';
import { formatTtid } from '#shared/core/ids.js';
import type { TenantId, TenantTimelineId, TimelineId } from '#shared/core/ids.js';
import { formatLsn, lsn } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { ObjectStore } from '#shared/io/object-store.js';
import { decodeIndexPart, encodeIndexPart } from '../core/storage/index-part.js';
import type { IndexPart } from '../core/storage/index-part.js';
import type { SettingsRef } from '../core/storage/tenant-settings.js';
import { timelineDir } from './local-dirs.js';
import { generationOfIndexKey, idsOf, indexKey, indexKeyPrefix, TENANTS_PREFIX } from './object-keys.js';
import { timelinePrefix, timelinesPrefix } from './object-keys.js';
import type { StorageEnv } from './storage-env.js';
import { Timeline } from './timeline.js';

/** Objects removed at a time while a timeline is deleted. */
const DELETE_BATCH = 500;

export async function listTenantIds(objectStore: ObjectStore): Promise<TenantId[]> {
  return idsOf<TenantId>(await objectStore.listPrefixes(TENANTS_PREFIX));
}

/** Timelines with any object, also those half created or half deleted. */
export async function listTimelineIds(objectStore: ObjectStore, tenantId: TenantId): Promise<TimelineId[]> {
  return idsOf<TimelineId>(await objectStore.listPrefixes(timelinesPrefix(tenantId)));
}

/** The index with the highest generation up to `generation`; null when there is none. */
export async function loadIndex(
  objectStore: ObjectStore,
  ttid: TenantTimelineId,
  generation: number,
): Promise<{ index: IndexPart; generation: number } | null> {
  const found = (await objectStore.list(indexKeyPrefix(ttid)))
    .map(generationOfIndexKey)
    .filter((candidate) => candidate <= generation)
    .sort((a, b) => b - a)[0];
  if (found === undefined) return null;
  const key = indexKey(ttid, found);
  const index = decodeIndexPart(await objectStore.get(key), key);
  if (formatTtid(index.ttid) !== formatTtid(ttid)) {
    throw new StorageError('corrupt', `index ${key} is that of ${formatTtid(index.ttid)}`);
  }
  return { index, generation: found };
}

export interface IndexedTimeline {
  readonly timelineId: TimelineId;
  readonly index: IndexPart;
}

/**
 * The timelines of a tenant, ancestors before their branches: the order in which to load them. Half-created ones (without an index) are
 * left out, half-deleted ones (`index.deletedAtMs` set) included. StorageError `corrupt` when an ancestor is missing.
 */
export async function listTimelines(
  objectStore: ObjectStore,
  tenantId: TenantId,
  generation: number,
): Promise<IndexedTimeline[]> {
  const byId = new Map<string, IndexPart>();
  for (const timelineId of await listTimelineIds(objectStore, tenantId)) {
    const found = await loadIndex(objectStore, { tenantId, timelineId }, generation);
    if (found !== null) byId.set(timelineId, found.index);
  }
  const ordered = new Map<string, IndexedTimeline>();
  const place = (index: IndexPart, depth: number): void => {
    const { timelineId } = index.ttid;
    if (ordered.has(timelineId)) return;
    if (index.ancestor !== null) {
      const ancestor = byId.get(index.ancestor.timelineId);
      if (ancestor === undefined || depth > byId.size) {
        throw new StorageError('corrupt', `${formatTtid(index.ttid)}: no ancestor ${index.ancestor.timelineId}`);
      }
      place(ancestor, depth + 1);
    }
    ordered.set(timelineId, { timelineId, index });
  };
  for (const index of byId.values()) place(index, 0);
  return [...ordered.values()];
}

/**
 * A new root timeline, empty: put all values of the initdb image at one LSN, then call `finishImport`. Nothing is in the object store
 * before that; an unfinished one is forgotten by `close`. Identity fields (system id, …) are set by `finishImport`.
 */
export async function createRootTimeline(
  env: StorageEnv,
  ttid: TenantTimelineId,
  options: { generation: number; pgMajor: number; settings?: SettingsRef | undefined },
): Promise<Timeline> {
  const { generation, settings } = options;
  await refuseExisting(env, ttid, generation);
  const zero = lsn(0);
  const index: IndexPart = {
    ttid,
    pgMajor: options.pgMajor,
    systemId: 0n,
    segSize: 0,
    initdbLsn: zero,
    ancestor: null,
    diskConsistentLsn: zero,
    prevRecordLsn: zero,
    minReadableLsn: zero,
    deletedAtMs: null,
    timePoints: [],
    layers: new Map(),
  };
  return adopted(new Timeline({ env, generation, settings, parent: null, index, isPublished: false }));
}

/**
 * A new root timeline that is filled like one that ingests: `begin` is where its history begins for whoever fills it. Its index says that
 * it is being imported until `finishStreamedImport`; when that fails, close it and call `removeTimeline`.
 */
export async function createImportTimeline(
  env: StorageEnv,
  ttid: TenantTimelineId,
  options: { generation: number; pgMajor: number; begin: Lsn; settings?: SettingsRef | undefined },
): Promise<Timeline> {
  const { generation, settings, pgMajor, begin } = options;
  await refuseExisting(env, ttid, generation);
  const identity = { ttid, pgMajor, systemId: 0n, segSize: 0, initdbLsn: begin, ancestor: null };
  const positions = { diskConsistentLsn: begin, prevRecordLsn: lsn(0), minReadableLsn: begin };
  const state = { deletedAtMs: null, isImporting: true, timePoints: [], layers: new Map() };
  const index: IndexPart = { ...identity, ...positions, ...state };
  // Before any layer: leftovers of a crash are found by it.
  await env.objectStore.put(indexKey(ttid, generation), encodeIndexPart(index));
  return adopted(new Timeline({ env, generation, settings, parent: null, index, isPublished: true }));
}

async function adopted(timeline: Timeline): Promise<Timeline> {
  try {
    await timeline.adoptLocalFiles();
    return timeline;
  } catch (error) {
    await timeline.close();
    throw error;
  }
}

async function refuseExisting(env: StorageEnv, ttid: TenantTimelineId, generation: number): Promise<void> {
  const existing = await loadIndex(env.objectStore, ttid, generation);
  if (existing !== null) throw new StorageError('already-exists', `timeline ${formatTtid(ttid)} exists`);
}

/**
 * A branch of `parent` at `at`, which the parent must have reached. It exists when this returns. The start of the record that ends at
 * `at` is known only when that is the parent's last one.
 */
export async function createBranch(
  env: StorageEnv,
  parent: Timeline,
  options: { timelineId: TimelineId; at: Lsn; generation: number; settings?: SettingsRef | undefined },
): Promise<Timeline> {
  const { timelineId, at, generation, settings } = options;
  const ttid = { tenantId: parent.ttid.tenantId, timelineId };
  if (at > parent.lastRecordLsn) {
    throw new StorageError(
      'precondition',
      `the ancestor is at ${formatLsn(parent.lastRecordLsn)}, not at ${formatLsn(at)}`,
    );
  }
  const begins = parent.ancestor === null ? parent.initdbLsn : parent.ancestor.lsn;
  if (at < begins) {
    throw new StorageError('invalid', `${formatLsn(at)} is before the ancestor's history begins, ${formatLsn(begins)}`);
  }
  const release = parent.history.hold(at);
  try {
    await refuseExisting(env, ttid, generation);
    // Stays even if the upload fails: it may have taken effect, and a restart would find a branch.
    parent.history.addBranch(timelineId, at);
  } finally {
    release();
  }
  const index: IndexPart = {
    ttid,
    pgMajor: parent.pgMajor,
    systemId: parent.systemId,
    segSize: parent.segSize,
    initdbLsn: parent.initdbLsn,
    ancestor: { timelineId: parent.ttid.timelineId, lsn: at },
    diskConsistentLsn: at,
    prevRecordLsn: at === parent.lastRecordLsn ? parent.prevRecordLsn : lsn(0),
    minReadableLsn: parent.minReadableLsn,
    deletedAtMs: null,
    timePoints: [],
    layers: new Map(),
  };
  await env.objectStore.put(indexKey(ttid, generation), encodeIndexPart(index));
  return new Timeline({ env, generation, settings, parent, index, isPublished: true });
}

/**
 * Opens a timeline from its index. Local layer files are used when they fit the index, else fetched when they are read. Last record =
 * the index' disk-consistent LSN: stream WAL from there.
 */
export async function loadTimeline(
  env: StorageEnv,
  index: IndexPart,
  options: { generation: number; parent: Timeline | null; settings?: SettingsRef | undefined },
): Promise<Timeline> {
  if (index.deletedAtMs !== null) {
    throw new StorageError('precondition', `timeline ${formatTtid(index.ttid)} is being deleted`);
  }
  return adopted(new Timeline({ env, ...options, index, isPublished: true }));
}

/** First step of a deletion: from here on the timeline is not loaded any more. The timeline must be closed, and have no branches. */
export async function markTimelineDeleted(
  env: StorageEnv,
  ttid: TenantTimelineId,
  options: { generation: number; nowMs: number },
): Promise<void> {
  const found = await loadIndex(env.objectStore, ttid, options.generation);
  if (found === null) throw new StorageError('not-found', `timeline ${formatTtid(ttid)} does not exist`);
  if (found.index.deletedAtMs !== null) return;
  const siblings = await listTimelines(env.objectStore, ttid.tenantId, options.generation);
  const child = siblings.find(({ index }) => index.ancestor?.timelineId === ttid.timelineId);
  if (child !== undefined) {
    throw new StorageError('precondition', `timeline ${ttid.timelineId} has a branch, ${child.timelineId}`);
  }
  const index = { ...found.index, deletedAtMs: options.nowMs };
  await env.objectStore.put(indexKey(ttid, options.generation), encodeIndexPart(index));
}

/** The rest of a deletion; can be repeated until it succeeds. */
export async function removeTimeline(env: StorageEnv, ttid: TenantTimelineId): Promise<void> {
  await rm(timelineDir(env, ttid), { recursive: true, force: true });
  const keys = await env.objectStore.list(timelinePrefix(ttid));
  const indexes = keys.filter((key) => key.startsWith(indexKeyPrefix(ttid)));
  const others = keys.filter((key) => !key.startsWith(indexKeyPrefix(ttid)));
  for (let at = 0; at < others.length; at += DELETE_BATCH) {
    await env.objectStore.delete(others.slice(at, at + DELETE_BATCH));
  }
  // Older indexes first: the newest, with the mark, must be the last to go.
  indexes.sort((a, b) => generationOfIndexKey(a) - generationOfIndexKey(b));
  for (const key of indexes) await env.objectStore.delete([key]);
}
