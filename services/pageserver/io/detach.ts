/**
 * Copies the history that a branch reads in its ancestors into layers of its own, so that it can do without them: one layer after the
 * other, from one snapshot of the layer maps. Nothing of it counts until an index names it; what a failure leaves is swept.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { errorText, StorageError } from '#shared/core/errors.js';
import type { TimelineId } from '#shared/core/ids.js';
import { formatTtid } from '#shared/core/ids.js';
import type { Lsn } from '#shared/core/lsn.js';
import { lsnMax, lsnMin } from '#shared/core/lsn.js';
import { ensureDir } from '#shared/io/files.js';
import type { IndexPart, LayerMetadata } from '../core/storage/index-part.js';
import type { AncestorPoint } from '../core/storage/store.js';
import type { TimePoint } from '../core/storage/time-points.js';
import { mergePoints } from '../core/storage/time-points.js';
import type { LayerFile } from './layer-file.js';
import { layerKey } from './object-keys.js';
import type { StorageEnv } from './storage-env.js';
import type { Timeline } from './timeline.js';
import { timelineDir } from './local-dirs.js';

/** Compaction of an ancestor may replace a layer before it was copied: then the next snapshot is tried. */
const ATTEMPTS_MAX = 10;
const RETRY_MS = 500;

interface Source {
  readonly layer: LayerFile;
  readonly upToLsn: Lsn;
}

/** Names and metadata of the copies, all in the object store. */
export async function copyAncestorLayers(
  env: StorageEnv,
  branch: Timeline,
  signal: AbortSignal,
): Promise<Map<string, LayerMetadata>> {
  const releases = holdCutoffs(branch);
  try {
    for (let attempt = 1; ; attempt++) {
      const sources = await snapshot(branch);
      try {
        return await copyAll(env, branch, sources, signal);
      } catch (error) {
        if (signal.aborted || attempt >= ATTEMPTS_MAX || !sources.some(({ layer }) => layer.retired)) throw error;
        env.log.info(
          { reason: errorText(error) },
          'layers were replaced while they were copied, will copy the new ones',
        );
        await delay(RETRY_MS);
      }
    }
  } finally {
    for (const release of releases) release();
  }
}

/** So that ancestors do not give up meanwhile what the branch could still read at the start. */
function holdCutoffs(branch: Timeline): (() => void)[] {
  const releases: (() => void)[] = [];
  for (let { parent } = branch; parent !== null; { parent } = parent.source) {
    const { history } = parent.source;
    releases.push(history.leases.hold(history.cutoff));
  }
  return releases;
}

/** Layers of all ancestors that reads of the branch may come to; all history up to there is in layers then. */
async function snapshot(branch: Timeline): Promise<Source[]> {
  const sources: Source[] = [];
  let upToLsn = branch.lastRecordLsn;
  for (let { parent } = branch; parent !== null; { parent } = parent.source) {
    upToLsn = lsnMin(upToLsn, parent.lsn);
    if (parent.source.remoteConsistentLsn < upToLsn) await parent.source.checkpoint();
    for (const layer of parent.source.layers.layers) {
      if (layer.lsnStart <= upToLsn && layer.uploaded) sources.push({ layer, upToLsn });
    }
  }
  return sources;
}

async function copyAll(
  env: StorageEnv,
  branch: Timeline,
  sources: readonly Source[],
  signal: AbortSignal,
): Promise<Map<string, LayerMetadata>> {
  const dir = timelineDir(env, branch.ttid);
  const { ttid, pgMajor, generation } = branch;
  await ensureDir(dir);
  const copies = new Map<string, LayerMetadata>();
  for (const { layer, upToLsn } of sources) {
    signal.throwIfAborted();
    const input = { dir: layer.dir, name: layer.name, owner: layer.owner, sizeBytes: layer.metadata.sizeBytes };
    const job = { kind: 'rewrite' as const, input, dir, owner: { ttid, pgMajor }, generation, upToLsn };
    const copy = await env.layers.withFiles([layer], () => env.layerJobs.rewrite(job, signal));
    if (copy === null) continue;
    await env.objectStore.putFile(layerKey(ttid, copy.name), `${dir}/${copy.name}`, signal);
    copies.set(copy.name, { sizeBytes: copy.sizeBytes, crc: copy.crc });
  }
  return copies;
}

/** What a branch takes along when it leaves its ancestor. */
export interface Inheritance {
  readonly from: AncestorPoint;
  readonly copies: ReadonlyMap<string, LayerMetadata>;
  readonly cutoff: Lsn;
  readonly timePoints: readonly TimePoint[];
}

export function inheritanceOf(branch: Timeline, copies: ReadonlyMap<string, LayerMetadata>): Inheritance {
  const { ancestor } = branch;
  if (ancestor === null) throw new StorageError('internal', `timeline ${formatTtid(branch.ttid)} has no ancestor`);
  return { from: ancestor, copies, cutoff: branch.history.cutoff, timePoints: branch.inheritedTimePoints() };
}

/** The index of the branch without its ancestor. */
export function detachedIndex(index: IndexPart, { from, copies, cutoff, timePoints }: Inheritance): IndexPart {
  return {
    ...index,
    ancestor: null,
    detachedFrom: from,
    minReadableLsn: lsnMax(index.minReadableLsn, cutoff),
    timePoints: mergePoints(timePoints, index.timePoints),
    layers: new Map([...copies, ...index.layers]),
  };
}

/** The index of another branch of the same ancestor, of history that `parentId` has now too. `cutoff`: of the branch so far. */
export function reparentedIndex(index: IndexPart, parentId: TimelineId, cutoff: Lsn): IndexPart {
  if (index.ancestor === null) throw new StorageError('internal', `${formatTtid(index.ttid)} has no ancestor any more`);
  const ancestor = { ...index.ancestor, timelineId: parentId };
  return { ...index, ancestor, minReadableLsn: lsnMax(index.minReadableLsn, cutoff) };
}
