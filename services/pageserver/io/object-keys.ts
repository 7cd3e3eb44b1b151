/**
 * Names in the object store, all below `tenants/<tenant>/`:
 *   timelines/<timeline>/<layer name>                          layers (core/storage/layer-name.ts)
 *   timelines/<timeline>/index_part.json-<generation, 8 hex>   what the timeline consists of
 * An object is only ever written by the server that holds the generation in its name.
 */
import { StorageError } from '#shared/core/errors.js';
import type { TenantId, TenantTimelineId, TimelineId } from '#shared/core/ids.js';
import { formatGeneration } from '../core/storage/layer-name.js';

const ID = /^[0-9a-f]{32}(-[0-9a-f]{4})?$/;

export const TENANTS_PREFIX = 'tenants/';

export function tenantPrefix(tenantId: TenantId): string {
  return `${TENANTS_PREFIX}${tenantId}/`;
}

export function timelinesPrefix(tenantId: TenantId): string {
  return `${tenantPrefix(tenantId)}timelines/`;
}

export function timelinePrefix(ttid: TenantTimelineId): string {
  return `${timelinesPrefix(ttid.tenantId)}${ttid.timelineId}/`;
}

export function layerKey(ttid: TenantTimelineId, name: string): string {
  return timelinePrefix(ttid) + name;
}

export function indexKeyPrefix(ttid: TenantTimelineId): string {
  return `${timelinePrefix(ttid)}index_part.json-`;
}

export function indexKey(ttid: TenantTimelineId, generation: number): string {
  return indexKeyPrefix(ttid) + formatGeneration(generation);
}

/** Throws StorageError `corrupt` for an object that is not named so. */
export function generationOfIndexKey(key: string): number {
  const match = /\/index_part\.json-([0-9a-f]{8})$/.exec(key);
  if (match === null) throw new StorageError('corrupt', `object ${key} is not an index`);
  return parseInt(match[1]!, 16);
}

/** Ids among names found in a listing; others (foreign files) are skipped. */
export function idsOf<T extends TenantId | TimelineId>(names: readonly string[]): T[] {
  return names.filter((name) => ID.test(name)) as T[];
}
